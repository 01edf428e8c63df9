//! Marks what has lost its importance as faded, all of a user's in one append.

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::memories::due;
use companion_domain::events::{Event, MemoryFaded};
use companion_domain::ids::UserId;
use tokio_util::sync::CancellationToken;

use super::{Look, Outcome, append, projected};

/// How many memories of a user fade in one append.
const TOGETHER: i64 = 500;
/// How many users are looked after in one run.
const USERS: i64 = 10_000;

/// The memories that have faded by `now`.
struct Fading {
    now: DateTime<Utc>,
}

impl Look for Fading {
    async fn decide(&self, core: &Core, user: UserId) -> anyhow::Result<Vec<Event>> {
        let decay = &core.config.decay;
        let faded = due::faded(&core.derived, user, decay, self.now, TOGETHER).await?;
        let event = |(memory_id, importance_now)| {
            MemoryFaded {
                memory_id,
                importance_now,
                fade_below: decay.fade_below,
            }
            .into()
        };
        Ok(faded.into_iter().map(event).collect())
    }
}

/// One pass over all users; how many memories have faded.
pub(super) async fn pass(
    core: &Core,
    now: DateTime<Utc>,
    shutdown: &CancellationToken,
) -> anyhow::Result<usize> {
    let mut faded = 0;
    let decay = &core.config.decay;
    for user in due::users_with_faded(&core.derived, decay, now, USERS).await? {
        while !shutdown.is_cancelled() {
            let Outcome::Appended(events, version) = append(core, user, &Fading { now }).await?
            else {
                break;
            };
            faded += events.len();
            let full = i64::try_from(events.len()).is_ok_and(|count| count == TOGETHER);
            if !full || !projected(core, user, version).await? {
                break;
            }
        }
    }
    Ok(faded)
}
