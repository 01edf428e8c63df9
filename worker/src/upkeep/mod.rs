//! Looks memories over from time to time: those of which replies made use are kept, those that have
//! lost their importance are marked as faded, those that say the same are merged.
//!
//! Every process fires; one of them claims the run. Each step appends at the version of the user's
//! memory stream at which it looked, so that two runs at once do no harm either. What is not done for
//! want of time is done by the next run.

mod fading;
mod merging;
mod reuse;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::log::event_store::{AppendError, Expected};
use companion_adapters::{errors, memories, upkeep};
use companion_domain::events::{Event, Metadata};
use companion_domain::ids::{StreamId, UserId};
use tokio_util::sync::CancellationToken;

/// How often it is looked whether a run is due, at the least.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often an append is tried against a moving memory stream.
const TRIES: usize = 3;
/// How long to wait for the projection to show what others appended.
const PROJECTED_WITHIN: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(20);

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Memories of which replies made use since the last run.
    pub reused: usize,
    /// Memories that have faded.
    pub faded: usize,
    /// Memories that went into others, or were contradicted by them.
    pub merged: usize,
}

/// Looks memories over whenever that is due, until shutdown.
pub(crate) async fn run(core: Core, shutdown: CancellationToken) {
    let every = core.config.memory_upkeep;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every.min(LOOK_EVERY)) => {}
        }
        let due = match upkeep::claim(&core.derived, every).await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!("it can't be told whether memories are to be looked over: {error}");
                continue;
            }
        };
        if !due {
            continue;
        }
        match look_over(&core, Utc::now(), &shutdown).await {
            Ok(done) => tracing::info!(
                reused = done.reused,
                faded = done.faded,
                merged = done.merged,
                "memories were looked over"
            ),
            Err(error) => tracing::warn!(
                "memories could not be looked over: {}",
                errors::in_one_line(&*error)
            ),
        }
    }
}

/// Looks the memories of all users over once, as it is at `now`, whether that is due or not.
///
/// # Errors
/// When the database or the embedding model fails; what was appended until then stays.
#[tracing::instrument(name = "upkeep", skip_all)]
pub async fn look_over(
    core: &Core,
    now: DateTime<Utc>,
    shutdown: &CancellationToken,
) -> anyhow::Result<Done> {
    // What was of use is not to fade, and what says the same twice is better kept once.
    Ok(Done {
        reused: reuse::pass(core, now, shutdown).await?,
        merged: merging::pass(core, now, shutdown).await?,
        faded: fading::pass(core, now, shutdown).await?,
    })
}

/// A look at the memories of one user.
trait Look: Sync {
    /// What follows from the memories as they are projected; nothing when all is well.
    fn decide(
        &self,
        core: &Core,
        user: UserId,
    ) -> impl Future<Output = anyhow::Result<Vec<Event>>> + Send;
}

/// What a look came to.
enum Outcome {
    /// All is well, or the user is gone.
    Nothing,
    /// These events, and the version of the memory stream that they led to.
    Appended(Vec<Event>, i64),
    /// The memories kept changing: the next run looks again.
    Unsettled,
}

/// Appends what a look at a user's memories leads to. While the stream moves it looks again, a few times.
async fn append(core: &Core, user: UserId, look: &impl Look) -> anyhow::Result<Outcome> {
    let life = match core.store.life(user).await {
        Err(AppendError::NoUser) => return Ok(Outcome::Nothing),
        life => life?,
    };
    let stream = StreamId::memory(user);
    for _ in 0..TRIES {
        // The version before the memories: should they be newer, the append finds a conflict.
        let version = memories::stream_version(&core.derived, user).await?;
        let events = look.decide(core, user).await?;
        if events.is_empty() {
            return Ok(Outcome::Nothing);
        }
        let metadata = Metadata {
            embedding_model: Some(core.config.embedding_model.clone()),
            ..Metadata::default()
        };
        let with_metadata = |event: &Event| (event.clone(), metadata.clone());
        let batch = events.iter().map(with_metadata).collect();
        let expected = Expected::Version(version);
        match core
            .store
            .append_in(life.clone(), &stream, user, expected, batch, None)
            .await
        {
            Ok(appended) => return Ok(Outcome::Appended(events, appended.version)),
            Err(AppendError::Conflict { actual }) => {
                if !projected(core, user, actual).await? {
                    return Ok(Outcome::Unsettled);
                }
            }
            Err(AppendError::NoUser) => return Ok(Outcome::Nothing),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Outcome::Unsettled)
}

/// Waits until a user's memory stream is projected up to a version; whether it came to that.
async fn projected(core: &Core, user: UserId, version: i64) -> anyhow::Result<bool> {
    let begun = Instant::now();
    while memories::stream_version(&core.derived, user).await? < version {
        if begun.elapsed() > PROJECTED_WITHIN {
            return Ok(false);
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(true)
}
