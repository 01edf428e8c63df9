//! Merges memories that slipped past consolidation, a bounded number a run, of users whose memories
//! changed since.

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::embedder::content_hash;
use companion_adapters::log::event_store::{AppendError, Life};
use companion_adapters::memories::{self, due};
use companion_adapters::{upkeep, vectors};
use companion_domain::events::Event;
use companion_domain::ids::{MemoryId, UserId};
use companion_domain::merging;
use tokio_util::sync::CancellationToken;

use super::{Look, Outcome, append};

/// How many changed memories of a user are looked at together.
const CHANGED: i64 = 200;
/// How often that is done for one user in one run.
const ROUNDS: usize = 10;
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
    for (user, mut after) in due::users_to_merge(&core.derived, USERS).await? {
        for _ in 0..ROUNDS {
            if shutdown.is_cancelled() {
                return Ok(merged);
            }
            let Some((through, closed)) = round(core, user, after, now).await? else {
                break;
            };
            upkeep::looked_for_duplicates(&core.derived, user, through).await?;
            (after, merged) = (through, merged + closed);
        }
    }
    Ok(merged)
}

/// Looks at the next changed memories of a user: the version up to which this was done, and how many
/// memories were closed; `None` when there were none, or they kept changing.
async fn round(
    core: &Core,
    user: UserId,
    after: i64,
    now: DateTime<Utc>,
) -> anyhow::Result<Option<(i64, usize)>> {
    let life = match core.store.life(user).await {
        Err(AppendError::NoUser) => return Ok(None),
        life => life?,
    };
    // Before the memories: what changes meanwhile is looked at later.
    let mut through = memories::stream_version(&core.derived, user).await?;
    if through <= after {
        return Ok(None);
    }
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
    if look.changed.is_empty() {
        return Ok(Some((through, 0)));
    }
    let statements = changed.into_iter().map(|(_, content, _)| content).collect();
    embed(core, user, &life, statements).await?;
    Ok(match append(core, user, &look).await? {
        Outcome::Nothing => Some((through, 0)),
        Outcome::Appended(events, _) => {
            let closed = |event: &&Event| matches!(event, Event::MemorySuperseded(_));
            Some((through, events.iter().filter(closed).count()))
        }
        Outcome::Unsettled => None,
    })
}

/// Makes the vectors that are not there yet: a memory without one is near to nothing.
async fn embed(
    core: &Core,
    user: UserId,
    life: &Life,
    statements: Vec<String>,
) -> anyhow::Result<()> {
    let hashes: Vec<Vec<u8>> = statements.iter().map(|s| content_hash(s)).collect();
    let known = vectors::known(&core.derived, user, &hashes).await?;
    let (hashes, statements): (Vec<Vec<u8>>, Vec<String>) = hashes
        .into_iter()
        .zip(statements)
        .filter(|(hash, _)| !known.contains(hash))
        .unzip();
    let made = core.embedder.embed(statements).await?;
    let made: Vec<_> = hashes.into_iter().zip(made).collect();
    vectors::keep(&core.derived, user, life, &made).await?;
    Ok(())
}
