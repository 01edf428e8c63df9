//! Merges memories that slipped past consolidation, a bounded number a run, of users whose memories
//! changed since.

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::embedder::content_hash;
use companion_adapters::memories::{self, due};
use companion_adapters::{upkeep, vectors};
use companion_domain::events::Event;
use companion_domain::ids::{MemoryId, UserId};
use companion_domain::merging;
use tokio_util::sync::CancellationToken;

use super::{Look, append};

/// How many changed memories of a user are looked at in one run.
const CHANGED: i64 = 200;
/// How many users are looked after in one run.
const USERS: i64 = 10_000;

/// The memories that changed, and whatever is near to them.
struct Merging {
    changed: Vec<MemoryId>,
    now: DateTime<Utc>,
}

impl Look for Merging {
    async fn decide(&self, core: &Core, user: UserId) -> anyhow::Result<Vec<Event>> {
        let mut connection = core.derived.acquire().await?;
        let near = due::near(&mut connection, user, &self.changed).await?;
        Ok(merging::merge(&merging::pairs(near), self.now))
    }
}

/// One pass over all users; how many memories went into others.
pub(super) async fn pass(
    core: &Core,
    now: DateTime<Utc>,
    shutdown: &CancellationToken,
) -> anyhow::Result<usize> {
    let mut merged = 0;
    for (user, after) in due::users_to_merge(&core.derived, USERS).await? {
        if shutdown.is_cancelled() {
            break;
        }
        // Before the memories: what changes meanwhile is looked at by the next run.
        let mut through = memories::stream_version(&core.derived, user).await?;
        let changed = due::changed(&core.derived, user, after, CHANGED).await?;
        if i64::try_from(changed.len()).is_ok_and(|count| count >= CHANGED)
            && let Some((.., version)) = changed.last()
        {
            through = *version;
        }
        let look = Merging {
            changed: changed.iter().map(|(id, ..)| *id).collect(),
            now,
        };
        if !look.changed.is_empty() {
            let statements = changed.into_iter().map(|(_, content, _)| content).collect();
            embed(core, user, statements).await?;
            if let Some((events, _)) = append(core, user, &look).await? {
                let closed = |event: &&Event| matches!(event, Event::MemorySuperseded(_));
                merged += events.iter().filter(closed).count();
            }
        }
        upkeep::looked_for_duplicates(&core.derived, user, through).await?;
    }
    Ok(merged)
}

/// Makes the vectors that are not there yet: a memory without one is near to nothing.
async fn embed(core: &Core, user: UserId, statements: Vec<String>) -> anyhow::Result<()> {
    let hashes: Vec<Vec<u8>> = statements.iter().map(|s| content_hash(s)).collect();
    let known = vectors::known(&core.derived, user, &hashes).await?;
    let (hashes, statements): (Vec<Vec<u8>>, Vec<String>) = hashes
        .into_iter()
        .zip(statements)
        .filter(|(hash, _)| !known.contains(hash))
        .unzip();
    let made = core.embedder.embed(statements).await?;
    let made: Vec<_> = hashes.into_iter().zip(made).collect();
    vectors::keep(&core.derived, user, &made).await?;
    Ok(())
}
