//! Ends replies whose process has crashed, and sweeps what the queue no longer needs.

use std::time::{Duration, Instant};

use companion_adapters::core::Core;
use companion_adapters::event_store::{AppendError, Expected};
use companion_adapters::progress::PROCESS_TTL;
use companion_adapters::{messages, queue};
use companion_domain::events::{FailureReason, Metadata};
use companion_domain::ids::{ConversationId, ReplyId, StreamId, UserId};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(2);
/// Every so many rounds the queue is swept.
const SWEEP_EVERY: u32 = 10;

/// Reaps until shutdown.
pub(crate) async fn run(core: Core, shutdown: CancellationToken) {
    let mut round = 0u32;
    let mut wait_until = Instant::now();
    loop {
        let planned = Instant::now() + EVERY;
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        if planned.elapsed() > EVERY {
            // The machine slept: so did the processes that say that they live.
            wait_until = Instant::now() + PROCESS_TTL;
        }
        if wait_until.elapsed() > Duration::ZERO
            && let Err(error) = reap(&core).await
        {
            tracing::warn!("crashed replies could not be ended: {error}");
            // While the database is away nobody can say that it lives.
            wait_until = Instant::now() + PROCESS_TTL;
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

async fn reap(core: &Core) -> Result<(), sqlx::Error> {
    for (conversation, user, reply) in messages::orphaned_replies(&core.derived).await? {
        // One that can't be ended must not keep the others open.
        if let Err(error) = end(
            core,
            ConversationId(conversation),
            UserId(user),
            ReplyId(reply),
        )
        .await
        {
            tracing::warn!(reply.id = %reply, "a crashed reply could not be ended: {error:#}");
        }
    }
    Ok(())
}

async fn end(
    core: &Core,
    conversation: ConversationId,
    user: UserId,
    reply: ReplyId,
) -> anyhow::Result<()> {
    let state = core.buffer.current(&core.store, conversation).await?;
    // Refused when another reaper was first.
    let Ok(ended) = state.fail_reply(reply, String::new(), FailureReason::ServiceStopping) else {
        return Ok(());
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
    Ok(())
}
