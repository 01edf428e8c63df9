//! Ends replies whose process has crashed, and sweeps what the queue no longer needs.

use std::time::Duration;

use companion_adapters::core::Core;
use companion_adapters::event_store::{AppendError, Expected};
use companion_adapters::{messages, queue};
use companion_domain::conversation::Refusal;
use companion_domain::events::{FailureReason, Metadata};
use companion_domain::ids::{ConversationId, ReplyId, StreamId, UserId};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(2);
/// Every so many rounds the queue is swept.
const SWEEP_EVERY: u32 = 10;

/// Reaps until shutdown.
pub(crate) async fn run(core: Core, shutdown: CancellationToken) {
    let mut round = 0u32;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if let Err(error) = reap(&core).await {
            tracing::warn!("crashed replies could not be ended: {error:#}");
        }
        if round.is_multiple_of(SWEEP_EVERY)
            && let Err(error) = sweep(&core).await
        {
            tracing::warn!("the job queue could not be swept: {error}");
        }
        round = round.wrapping_add(1);
    }
}

async fn sweep(core: &Core) -> Result<(), sqlx::Error> {
    queue::sweep(&mut *core.derived.acquire().await?).await
}

async fn reap(core: &Core) -> anyhow::Result<()> {
    for (conversation, user, reply) in messages::orphaned_replies(&core.derived).await? {
        let (conversation, user, reply) =
            (ConversationId(conversation), UserId(user), ReplyId(reply));
        let state = core.buffer.current(&core.store, conversation).await?;
        let ended = match state.fail_reply(reply, String::new(), FailureReason::ServiceStopping) {
            Ok(ended) => ended,
            // Another reaper was first.
            Err(Refusal::ReplyEnded | Refusal::NotFound | Refusal::Busy(_)) => continue,
        };
        let metadata = Metadata {
            correlation_id: state.open_reply.as_ref().map(|open| open.message_id.0),
            ..Metadata::default()
        };
        let stream = StreamId::conversation(conversation);
        let expected = Expected::Version(state.version);
        match core
            .store
            .append(&stream, user, expected, vec![(ended, metadata)], None)
            .await
        {
            Ok(_) => {
                tracing::info!(reply.id = %reply, "a reply whose process crashed was recorded as interrupted")
            }
            Err(AppendError::Conflict { .. } | AppendError::NoUser) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
