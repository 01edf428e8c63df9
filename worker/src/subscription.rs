//! Drives a subscription: wake, take a page, work on it, move the checkpoint, again.

use std::time::{Duration, Instant};

use companion_adapters::core::Core;
use companion_adapters::errors;
use companion_adapters::log::subscription::{
    Checkpoint, Page, has_more, move_checkpoint, read_page, take_checkpoint,
};
use companion_adapters::metrics;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

/// Events of a page.
const PAGE: i64 = 500;
/// How long to gather after an append of this process: a turn's events come close together.
const GATHER: Duration = Duration::from_millis(8);
/// How often to look for appends of other processes: soon after one was seen, and otherwise.
const BUSY: Duration = Duration::from_millis(20);
const IDLE: Duration = Duration::from_millis(100);
const BUSY_FOR: Duration = Duration::from_secs(2);
/// The longest pause after errors.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// What a subscription does with a page.
pub(crate) trait Subscriber: Send {
    /// The name of its checkpoint. Literal, as it is stored.
    const NAME: &'static str;

    /// Works on a page, in the transaction that moves the checkpoint.
    fn handle(
        &mut self,
        transaction: &mut PgConnection,
        page: &Page,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Follows up on a page whose transaction has committed.
    fn committed(&mut self, page: &Page) -> impl Future<Output = ()> + Send;

    /// Whether to leave the log alone for now.
    fn paused(&mut self) -> impl Future<Output = anyhow::Result<bool>> + Send {
        std::future::ready(Ok(false))
    }
}

/// Runs a subscription until shutdown. Errors are logged and tried again: an event is never left out.
pub(crate) async fn run<S: Subscriber>(core: Core, mut subscriber: S, shutdown: CancellationToken) {
    let mut appends = core.store.appends();
    let mut seen = Checkpoint::default();
    let mut last_event = Instant::now();
    let mut backoff = BUSY;
    loop {
        match step(&core, &mut subscriber, &mut seen).await {
            Ok(read) => {
                backoff = BUSY;
                if read > 0 {
                    last_event = Instant::now();
                }
                if read >= PAGE && !shutdown.is_cancelled() {
                    continue;
                }
            }
            Err(error) => {
                // What was seen may not have been kept: the checkpoint is asked again.
                seen = Checkpoint::default();
                backoff = (backoff * 2).min(MAX_BACKOFF);
                tracing::error!(
                    subscription = S::NAME,
                    "the subscription failed and is tried again: {}",
                    errors::in_one_line(&*error)
                );
            }
        }
        let pause = if backoff > BUSY {
            backoff
        } else if last_event.elapsed() < BUSY_FOR {
            BUSY
        } else {
            IDLE
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            Ok(()) = appends.changed(), if backoff == BUSY => tokio::time::sleep(GATHER).await,
        }
    }
}

/// Reads and handles one page; returns how many events it had.
async fn step<S: Subscriber>(
    core: &Core,
    subscriber: &mut S,
    seen: &mut Checkpoint,
) -> anyhow::Result<i64> {
    let mut connection = core.derived.acquire().await?;
    if !has_more(&mut connection, *seen).await? || subscriber.paused().await? {
        return Ok(0);
    }
    let mut transaction = sqlx::Connection::begin(&mut *connection).await?;
    let Some(checkpoint) = take_checkpoint(&mut transaction, S::NAME).await? else {
        return Ok(0);
    };
    let page = read_page(&mut transaction, core.store.vault(), checkpoint, PAGE).await?;
    if page.next == checkpoint {
        *seen = checkpoint;
        return Ok(0);
    }
    let work = async {
        subscriber.handle(&mut transaction, &page).await?;
        let moved = move_checkpoint(&mut transaction, S::NAME, page.after, page.next);
        anyhow::ensure!(moved.await?, "the checkpoint was moved by somebody else");
        transaction.commit().await?;
        anyhow::Ok(())
    };
    metrics::query(S::NAME, work).await?;
    *seen = page.next;
    subscriber.committed(&page).await;
    Ok(if page.full { PAGE } else { 1 })
}
