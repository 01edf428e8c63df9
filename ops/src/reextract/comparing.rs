//! What a run would change for a user: decided anew from what was found each time that it is asked, as
//! events may have come meanwhile. Nobody is asked again for it.

use std::collections::{BTreeMap, HashSet};

use anyhow::Result;
use companion_adapters::reextractions;
use companion_domain::ids::{MessageId, UserId};
use companion_domain::reextraction::{Beliefs, Difference, difference};

use super::Reextraction;
use super::reading::{beliefs, key};

/// What was read and what it would change.
pub(super) struct Compared {
    pub(super) beliefs: Beliefs,
    pub(super) difference: Difference,
    pub(super) counts: Counts,
}

/// What was read, in figures.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) messages: usize,
    pub(super) portions: usize,
    /// Portions by who read them.
    pub(super) by: BTreeMap<String, usize>,
    /// Portions in which the LLM's arm gave nothing usable, by reason.
    pub(super) unusable: BTreeMap<String, usize>,
}

impl Counts {
    pub(super) fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.portions += other.portions;
        for (by, count) in other.by {
            *self.by.entry(by).or_default() += count;
        }
        for (reason, count) in other.unusable {
            *self.unusable.entry(reason).or_default() += count;
        }
    }
}

impl Reextraction<'_> {
    /// `None` for a user who was erased.
    pub(super) async fn compare(&self, user: UserId) -> Result<Option<Compared>> {
        let (operator, run) = (self.operator, self.run.name.as_str());
        let Some(key) = key(operator, user).await? else {
            return Ok(None);
        };
        let mut portions = reextractions::portions(&operator.pool, run, user).await?;
        let beliefs = beliefs(&operator.store, user).await?;
        // What was cleared meanwhile was not read.
        portions.retain(|portion| {
            let cleared = beliefs.cleared.get(&portion.conversation()).copied();
            let last = portion.versions.last().copied();
            last > cleared
        });
        let mut counts = Counts::default();
        let (mut read, mut all) = (HashSet::<MessageId>::new(), Vec::new());
        for portion in portions {
            counts.portions += 1;
            counts.messages += portion.messages().count();
            match portion.open(run, user, &key)? {
                Some(found) => {
                    *counts.by.entry(found.method.clone()).or_default() += 1;
                    if let Some(reason) = &found.fallback {
                        *counts.unusable.entry(reason.clone()).or_default() += 1;
                    }
                    read.extend(portion.messages());
                    all.push((portion, found));
                }
                // What it says is not known: what is believed of it stays.
                None => {
                    let reason = portion.failed.clone().unwrap_or_default();
                    *counts.unusable.entry(reason).or_default() += 1;
                }
            }
        }
        let mut shadow = self.shadow(user, &beliefs, &read).await?;
        for (portion, found) in all {
            self.take(user, &mut shadow, &portion, found).await?;
        }
        let difference = difference(run, &beliefs, &read, &shadow);
        Ok(Some(Compared {
            beliefs,
            difference,
            counts,
        }))
    }
}
