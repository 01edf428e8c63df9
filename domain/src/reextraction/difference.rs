//! What would change: the shadow held against what is believed, and the events that make it so.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};

use super::beliefs::{Belief, Beliefs, GivenUp, State};
use super::reason;
use super::shadow::{Shadow, comes_from};
use crate::consolidation::{Fact, cosine};
use crate::events::{Event, MemoryRecorded, MemorySuperseded};
use crate::ids::{MemoryId, MessageId, derived};
use crate::merging::went_into_another;
use crate::text;

/// The cosine similarity from which two statements of one message are one statement put in other words.
const REWORDED: f64 = 0.60;
/// The cosine similarity from which a statement is taken for one that the user gave up elsewhere.
const GIVEN_UP: f64 = 0.75;
/// The cosine similarity from which a statement is about what the user wrote of the same message.
const SETTLED: f64 = 0.50;
/// How far importances may lie apart without being a change: models differ by that much on every fact.
const IMPORTANCE_MATTERS: f64 = 0.15;

/// A memory that is new.
#[derive(Debug, Clone, PartialEq)]
pub struct Added {
    /// As it is to be recorded.
    pub memory: MemoryRecorded,
}

/// A memory that takes the place of another.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// What it replaces.
    pub old: MemoryRecorded,
    /// As it is to be recorded.
    pub memory: MemoryRecorded,
}

/// A memory that is not found any more.
#[derive(Debug, Clone, PartialEq)]
pub struct Gone {
    /// The memory.
    pub old: MemoryRecorded,
    /// The one that ends it, and when that was, if it ended rather than was not found.
    pub ended: Option<(MemoryId, DateTime<Utc>)>,
    /// Why.
    pub why: String,
}

/// What would change for one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Difference {
    /// How many memories stay as they are, of those that were found again.
    pub kept: usize,
    /// How many live memories do not come from what was read, or are the user's own word.
    pub untouched: usize,
    /// What is new.
    pub added: Vec<Added>,
    /// What takes another's place.
    pub changed: Vec<Changed>,
    /// What is not found any more.
    pub gone: Vec<Gone>,
    /// What was found and stays out, and why.
    pub left_out: BTreeMap<&'static str, u32>,
}

impl Difference {
    /// The events that make it so. `at` is when what is gone stops being believed.
    pub fn events(&self, run: &str, at: DateTime<Utc>) -> Vec<Event> {
        let new = self.added.iter().map(|added| &added.memory);
        let new = new.chain(self.changed.iter().map(|changed| &changed.memory));
        let mut events: Vec<Event> = new.map(|memory| memory.clone().into()).collect();
        for Changed { old, memory } in &self.changed {
            events.push(
                MemorySuperseded {
                    memory_id: old.memory_id,
                    superseded_by: Some(memory.memory_id),
                    valid_to: at,
                    sources: memory.sources.clone(),
                    reason: reason(run, "read again, it says this"),
                }
                .into(),
            );
        }
        for Gone { old, ended, why } in &self.gone {
            events.push(
                MemorySuperseded {
                    memory_id: old.memory_id,
                    superseded_by: ended.map(|(by, _)| by),
                    valid_to: ended.map_or(at, |(_, valid_to)| valid_to),
                    sources: Vec::new(),
                    reason: reason(run, why),
                }
                .into(),
            );
        }
        events
    }
}

/// What would change if what a run found in these messages were believed. Deterministic: new memories
/// have ids that follow from the run and what was found.
pub fn difference(
    run: &str,
    believed: &Beliefs,
    read: &HashSet<MessageId>,
    shadow: &Shadow,
) -> Difference {
    let mut comparison = Comparison {
        run,
        believed,
        shadow,
        old: believed
            .live()
            .filter(|(_, belief)| comes_from(belief, read))
            .map(|(id, belief)| (*id, belief))
            .collect(),
        new: shadow.found().collect(),
        given_up: believed
            .given_up
            .iter()
            .map(|g| (text::normal_form(&g.content), g))
            .collect(),
        by_form: by_form(believed.memories.values()),
        becomes: BTreeMap::new(),
        difference: Difference::default(),
    };
    comparison.difference.untouched = believed.live().count() - comparison.old.len();
    comparison.pair_same_words();
    comparison.pair_other_words();
    comparison.leave_out();
    comparison.add();
    comparison.end();
    comparison.difference
}

struct Comparison<'a> {
    run: &'a str,
    believed: &'a Beliefs,
    shadow: &'a Shadow,
    /// What was believed of these messages and is not paired yet.
    old: BTreeMap<MemoryId, &'a Belief>,
    /// What was found and is not paired yet.
    new: Vec<&'a Belief>,
    /// What the user gave up, each with its form.
    given_up: Vec<(String, &'a GivenUp)>,
    /// All that is or was believed, by its form.
    by_form: HashMap<String, Vec<&'a Belief>>,
    /// Under which id what was found is believed in the end.
    becomes: BTreeMap<MemoryId, MemoryId>,
    difference: Difference,
}

impl<'a> Comparison<'a> {
    fn similarity(&self, a: &str, b: &str) -> f64 {
        cosine(self.shadow.vector(a), self.shadow.vector(b))
    }

    /// What says the same in the same words stays, unless something else of it matters.
    fn pair_same_words(&mut self) {
        for new in std::mem::take(&mut self.new) {
            let form = text::normal_form(&new.memory.content);
            let mut same = self.by_form.get(&form).into_iter().flatten();
            let old = same.find_map(|belief| self.old.remove(&belief.memory.memory_id));
            match old {
                Some(old) => self.settle(old, new),
                None => self.new.push(new),
            }
        }
    }

    /// What rests on the same message and is near in meaning is the same statement in other words. The
    /// nearest first.
    fn pair_other_words(&mut self) {
        let mut pairs: Vec<(f64, MemoryId, usize)> = Vec::new();
        let fact = |belief: &Belief| Fact::of(&belief.memory.content);
        let facts: Vec<Fact> = self.new.iter().map(|new| fact(new)).collect();
        for (id, old) in &self.old {
            let old_fact = fact(old);
            for (n, (new, new_fact)) in self.new.iter().zip(&facts).enumerate() {
                let near = self.similarity(&old.memory.content, &new.memory.content);
                let slot = old.memory.subject.is_some() && old.memory.subject == new.memory.subject;
                let one = shares_message(old, new) && (near >= REWORDED || slot)
                    || old_fact.is(new_fact, near);
                if one {
                    pairs.push((near, *id, n));
                }
            }
        }
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
        let mut paired = BTreeSet::new();
        for (_, id, n) in pairs {
            if paired.contains(&n) {
                continue;
            }
            if let (Some(new), Some(old)) = (self.new.get(n).copied(), self.old.remove(&id)) {
                paired.insert(n);
                self.settle(old, new);
            }
        }
        let mut n = 0..;
        self.new
            .retain(|_| n.next().is_none_or(|n| !paired.contains(&n)));
    }

    /// Keeps a memory or changes it to what was found.
    fn settle(&mut self, old: &'a Belief, new: &'a Belief) {
        let (a, b) = (&old.memory, &new.memory);
        let unchanged = text::normal_form(&a.content) == text::normal_form(&b.content)
            && a.kind == b.kind
            && a.occurred_at == b.occurred_at
            && a.subject == b.subject
            && (a.importance - b.importance).abs() < IMPORTANCE_MATTERS;
        if unchanged {
            self.becomes.insert(b.memory_id, a.memory_id);
            self.difference.kept += 1;
        } else if let Some(why) = self.unwanted(new) {
            // Then what is believed stays, too.
            self.becomes.insert(b.memory_id, a.memory_id);
            self.difference.kept += 1;
            *self.difference.left_out.entry(why).or_default() += 1;
        } else {
            let mut memory = self.record(new, "what the messages say, read again");
            // It was told and told again: that is not lost with the words.
            memory.told_at = memory.told_at.max(a.told_at);
            let old = a.clone();
            self.difference.changed.push(Changed { old, memory });
        }
    }

    /// Why what was found is not to be believed, if it is not: the user decided otherwise.
    fn unwanted(&self, new: &Belief) -> Option<&'static str> {
        let memory = &new.memory;
        if self.shadow.against_the_user.contains(&memory.memory_id) {
            return Some("it contradicts what the user wrote");
        }
        let form = text::normal_form(&memory.content);
        for (given_up_form, given_up) in &self.given_up {
            let rests_on_it = |s| given_up.sources.contains(s);
            if memory.sources.iter().any(rests_on_it) {
                return Some("the user forgot or corrected what this message says");
            }
            let says_it = *given_up_form == form
                || self.similarity(&given_up.content, &memory.content) >= GIVEN_UP;
            if memory.told_at <= given_up.at && says_it {
                return Some("the user forgot or corrected it");
            }
        }
        let own = self.believed.live().filter(|(_, belief)| belief.by_hand);
        for (_, own) in own {
            let slot = own.memory.subject.is_some() && own.memory.subject == memory.subject;
            let near = self.similarity(&own.memory.content, &memory.content) >= SETTLED;
            if shares_message(own, new) && (slot || near) {
                return Some("the user wrote what this message says");
            }
        }
        None
    }

    /// Whether a statement was merged into a memory that stays.
    fn is_merged(&self, new: &Belief) -> bool {
        let form = text::normal_form(&new.memory.content);
        let mut says_it = self.by_form.get(&form).into_iter().flatten().copied();
        says_it.any(|belief| {
            let mut into = belief;
            // Once merged, a memory may be merged again.
            for _ in 0..self.believed.memories.len() {
                let State::Closed(closed) = &into.state else {
                    break;
                };
                let by = closed
                    .superseded_by
                    .filter(|_| went_into_another(&closed.reason));
                match by.and_then(|by| self.believed.memories.get(&by)) {
                    Some(next) => into = next,
                    None => return false,
                }
            }
            into.is_live()
                && !std::ptr::eq(into, belief)
                && !self.old.contains_key(&into.memory.memory_id)
        })
    }

    fn leave_out(&mut self) {
        for new in std::mem::take(&mut self.new) {
            let merged = || {
                self.is_merged(new)
                    .then_some("it was merged with another memory")
            };
            match self.unwanted(new).or_else(merged) {
                Some(why) => *self.difference.left_out.entry(why).or_default() += 1,
                None => self.new.push(new),
            }
        }
    }

    fn add(&mut self) {
        for new in std::mem::take(&mut self.new) {
            let memory = self.record(new, "read again, the messages say this too");
            self.difference.added.push(Added { memory });
        }
    }

    fn record(&mut self, new: &Belief, why: &str) -> MemoryRecorded {
        let found = &new.memory;
        // Not the id that reading the message gave once: that one may be there, closed.
        let id = MemoryId(derived(&[
            "reextract",
            self.run,
            &found.memory_id.to_string(),
        ]));
        self.becomes.insert(found.memory_id, id);
        MemoryRecorded {
            memory_id: id,
            reason: reason(self.run, why),
            ..found.clone()
        }
    }

    /// What is left of what was believed is gone: it ended, or it was not found.
    fn end(&mut self) {
        let read = |content: &str| (text::normal_form(content), Fact::of(content));
        let over: Vec<_> = self
            .shadow
            .ended()
            .map(|(belief, closed)| (belief, read(&belief.memory.content), closed))
            .collect();
        for (_, old) in std::mem::take(&mut self.old) {
            let (form, fact) = read(&old.memory.content);
            let ended = over.iter().find(|(belief, (its_form, its_fact), _)| {
                let similarity = self.similarity(&old.memory.content, &belief.memory.content);
                *its_form == form || fact.is(its_fact, similarity)
            });
            let ended = ended.and_then(|(.., closed)| self.ending(closed));
            let why = match &ended {
                Some((_, _, why)) => why.clone(),
                None => "read again, the messages do not say it".to_owned(),
            };
            self.difference.gone.push(Gone {
                old: old.memory.clone(),
                ended: ended.map(|(by, at, _)| (by, at)),
                why,
            });
        }
        // What does not come from these messages may be ended by what they say.
        for (id, closed) in &self.shadow.closed {
            let Some(belief) = self.believed.memories.get(id) else {
                continue;
            };
            if let Some((by, at, why)) = self.ending(closed) {
                self.difference.untouched = self.difference.untouched.saturating_sub(1);
                self.difference.gone.push(Gone {
                    old: belief.memory.clone(),
                    ended: Some((by, at)),
                    why,
                });
            }
        }
    }

    /// The memory that ends another, if it is believed in the end; when that was, and why.
    fn ending(&self, closed: &MemorySuperseded) -> Option<(MemoryId, DateTime<Utc>, String)> {
        let by = closed.superseded_by?;
        let standing = || self.shadow.standing.contains(&by).then_some(by);
        let by = self.becomes.get(&by).copied().or_else(standing)?;
        Some((by, closed.valid_to, closed.reason.clone()))
    }
}

/// Beliefs by the form of their statements, those of one form in the order of their ids.
fn by_form<'a>(beliefs: impl Iterator<Item = &'a Belief>) -> HashMap<String, Vec<&'a Belief>> {
    let mut by_form: HashMap<String, Vec<&Belief>> = HashMap::new();
    for belief in beliefs {
        let form = text::normal_form(&belief.memory.content);
        by_form.entry(form).or_default().push(belief);
    }
    by_form
}

fn shares_message(a: &Belief, b: &Belief) -> bool {
    let sources = &a.memory.sources;
    sources
        .iter()
        .any(|source| b.memory.sources.contains(source))
}
