//! Notes which memories replies have made use of since the last run: one event for each user, however
//! many replies there were. A memory that was recalled and passed over is left to fade.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use companion_adapters::core::Core;
use companion_adapters::log::subscription::{self, READ_MODELS};
use companion_adapters::memories::due;
use companion_adapters::{messages, upkeep};
use companion_domain::events::{Event, MemoriesRecalled, MemoryUse};
use companion_domain::ids::{MemoryId, UserId};
use companion_domain::usage;
use tokio_util::sync::CancellationToken;

use super::{Look, Outcome, append};

/// How many replies of a user are looked at in one run, the last ones.
const REPLIES: i64 = 1_000;
/// How far back the next run looks again: what was appended before may be projected after. A use that
/// was noted is not noted twice, as the memory decays from it on.
const OVERLAP: TimeDelta = TimeDelta::minutes(5);

/// The uses that replies up to `through` made.
struct Reuse {
    uses: Vec<MemoryUse>,
    through: DateTime<Utc>,
}

impl Look for Reuse {
    async fn decide(&self, core: &Core, user: UserId) -> anyhow::Result<Vec<Event>> {
        let ids: Vec<MemoryId> = self.uses.iter().map(|used| used.memory_id).collect();
        let decaying: HashMap<MemoryId, DateTime<Utc>> = due::decaying(&core.derived, user, &ids)
            .await?
            .into_iter()
            .collect();
        let matters = |used: &&MemoryUse| {
            let since = decaying.get(&used.memory_id);
            since.is_some_and(|since| used.last_at > *since)
        };
        let memories: Vec<MemoryUse> = self.uses.iter().filter(matters).cloned().collect();
        if memories.is_empty() {
            return Ok(Vec::new());
        }
        let event = MemoriesRecalled {
            memories,
            through: self.through,
        };
        Ok(vec![event.into()])
    }
}

/// One pass over all users; how many memories were of use.
pub(super) async fn pass(
    core: &Core,
    now: DateTime<Utc>,
    shutdown: &CancellationToken,
) -> anyhow::Result<usize> {
    // Replies that are projected later are looked at later, however long that takes.
    let waiting = subscription::waits_since(&core.derived, READ_MODELS).await?;
    let begun = Utc::now();
    let seen = waiting.map_or(begun, |since| since.min(begun));
    let since = upkeep::replies_through(&core.derived).await? - OVERLAP;
    let (mut reused, mut settled) = (0, true);
    for user in messages::users_active_since(&core.derived, since).await? {
        if shutdown.is_cancelled() {
            return Ok(reused);
        }
        let replies = messages::answered_since(&core.derived, user, since, REPLIES).await?;
        let look = Reuse {
            uses: usage::uses(&replies),
            through: now,
        };
        if look.uses.is_empty() {
            continue;
        }
        match append(core, user, &look).await? {
            Outcome::Nothing => {}
            Outcome::Appended(events, _) => reused += events.iter().map(count).sum::<usize>(),
            Outcome::Unsettled => settled = false,
        }
    }
    // Otherwise the next run looks at all of them again, and notes what is new.
    if settled {
        upkeep::looked_at_replies(&core.derived, seen).await?;
    }
    Ok(reused)
}

fn count(event: &Event) -> usize {
    match event {
        Event::MemoriesRecalled(event) => event.memories.len(),
        _ => 0,
    }
}
