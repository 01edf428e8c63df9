//! Ends replies whose process has crashed, finishes erasures that were broken off, and sweeps away what is
//! not needed any more: ended jobs, old idempotency keys, vectors of what was forgotten, old copies of the
//! read models, processes that are long gone.

use std::time::{Duration, Instant};

use companion_adapters::core::Core;
use companion_adapters::erasure::{self, Eraser};
use companion_adapters::progress::PROCESS_TTL;
use companion_adapters::{lost_replies, progress, queue, vectors};
use tokio_util::sync::CancellationToken;

use crate::replay;

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
            tracing::warn!("crashed replies could not be looked for or ended: {error}");
            // While the database is away nobody can say that it lives.
            wait_until = Instant::now() + PROCESS_TTL;
        }
        if let Err(error) = erase(&core).await {
            tracing::warn!("erasures under way could not be looked for or finished: {error}");
        }
        if round.is_multiple_of(SWEEP_EVERY)
            && let Err(error) = sweep(&core).await
        {
            tracing::warn!("what is not needed any more could not be swept away: {error}");
        }
        round = round.wrapping_add(1);
    }
}

async fn erase(core: &Core) -> Result<(), sqlx::Error> {
    for user in erasure::unfinished(&core.pool).await? {
        Eraser::of(core).finish(user).await?;
        tracing::info!(user.id = %user, "an erasure that was broken off was finished");
    }
    Ok(())
}

async fn sweep(core: &Core) -> Result<(), sqlx::Error> {
    queue::sweep(&mut *core.derived.acquire().await?).await?;
    core.store.forget_keys().await?;
    erasure::bury_buffers(&core.derived, &core.buffer).await?;
    progress::forget_crashed(&core.derived).await?;
    vectors::sweep(&core.derived).await?;
    replay::drop_old_copies(&core.derived).await
}

async fn reap(core: &Core) -> Result<(), sqlx::Error> {
    for lost in lost_replies::of_crashed_processes(&core.derived).await? {
        // One that can't be ended must not keep the others open.
        match lost_replies::end_listed(core, &lost).await {
            Ok(true) => {
                tracing::info!(reply.id = %lost.id(), "a reply whose process crashed was recorded as interrupted");
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(reply.id = %lost.id(), "a crashed reply could not be ended: {error}")
            }
        }
    }
    Ok(())
}
