//! The jobs: effects that follow from events. One file a job; this one lists and runs them.

mod embed;
mod extract;
mod summarise;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::{Attempt, BoxDynError, Data, TaskId, WorkerBuilder};
use apalis_core::backend::ext::BackendExt;
use apalis_postgres::PostgresStorage;
use companion_adapters::core::Core;
use companion_adapters::llm::Llm;
use companion_adapters::queue::{self, EmbedJob, ExtractJob, MAX_ATTEMPTS, SummariseJob};
use companion_adapters::turns::Turns;
use companion_adapters::{errors, messages, telemetry};
use companion_domain::ids::UserId;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgPool;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use uuid::Uuid;

/// How often a queue is looked at without having been told of a job: for jobs of other processes,
/// and for those whose time comes.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The pause before the first retry of a failed job; doubled each time: 2 s, 4 s … 256 s.
const FIRST_RETRY_SECONDS: f64 = 2.0;
/// Pause before a queue whose worker failed is taken up again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How long a running job may take to finish when the process stops.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// How often it is looked whether a reply still runs.
const REPLY_POLL: Duration = Duration::from_millis(100);
/// Extractions at once, at the least: `EXTRACTION_CONCURRENCY` is for those that ask the LLM, and is
/// kept where they do.
const EXTRACT_CONCURRENCY: usize = 4;
/// Embedding jobs at once: one is prepared while the model works on another.
const EMBED_CONCURRENCY: usize = 2;

/// A job has to wait, and that is no failure of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Later {
    /// It needs what is not projected yet.
    #[error("the projection is behind")]
    Behind,
    /// Another job of the same user runs.
    #[error("another job of the user runs")]
    Busy,
    /// It has had its turn, and goes behind the jobs of other users.
    #[error("the jobs of others wait")]
    OthersWait,
}

impl Later {
    /// How long to wait, in seconds.
    fn seconds(self) -> f64 {
        match self {
            Self::Behind => FIRST_RETRY_SECONDS,
            Self::Busy => 0.3,
            // Not at once: this worker might have it again before its end is written.
            Self::OthersWait => 0.1,
        }
    }
}

/// Rings when jobs were inserted by this process.
#[derive(Clone, Default)]
pub(crate) struct Bell(watch::Sender<()>);

impl Bell {
    pub(crate) fn ring(&self) {
        self.0.send_replace(());
    }

    /// Rings, and the passing of time.
    ///
    /// apalis asks once and may let an answer pass unused, so the stream answers only when the wait
    /// for the next ring has begun and will wake it.
    fn stream(&self) -> BoxStream<'static, ()> {
        let mut ticks = stream::unfold(self.0.subscribe(), |mut bell| async move {
            // Whether it rang or the time passed, it is time to look.
            let _ = tokio::time::timeout(LOOK_EVERY, bell.changed()).await;
            Some(((), bell))
        })
        .boxed();
        stream::poll_fn(move |context| {
            let mut ticked = false;
            while ticks.poll_next_unpin(context).is_ready() {
                ticked = true;
            }
            if ticked {
                Poll::Ready(Some(()))
            } else {
                Poll::Pending
            }
        })
        .boxed()
    }
}

/// What a job has at hand.
pub(crate) struct Context {
    core: Core,
    llm: Llm,
    /// The requests to the LLM that may run at once.
    llm_slots: Semaphore,
    /// The users whose messages are being read.
    turns: Turns,
    /// What apalis works with, see [`queue::pool`].
    connections: PgPool,
    /// Names this process among the workers of a queue.
    process: Uuid,
    shutdown: CancellationToken,
}

impl Context {
    /// A local LLM serves one request at a time: while it talks to the user, what can wait does, for as
    /// long as the LLM may be silent.
    async fn let_the_reply_go_first(&self, user: UserId) -> Result<(), sqlx::Error> {
        let begun = Instant::now();
        while begun.elapsed() < self.core.config.llm_timeout
            && messages::is_replying(&self.core.derived, user).await?
        {
            tokio::time::sleep(REPLY_POLL).await;
        }
        Ok(())
    }

    /// Passes when the process stops and a running job has had its time to finish. It is handed
    /// back then: nothing of it counts before its last act, the append.
    async fn out_of_time(&self) {
        self.shutdown.cancelled().await;
        tokio::time::sleep(FINISH_WITHIN).await;
    }

    /// Passes when the process stops and its jobs should long have ended. Of more than four that end then,
    /// apalis would wait for the fifth without end: it has room for the ends of four, and takes them out when
    /// no job is left.
    async fn overdue(&self) {
        self.out_of_time().await;
        tokio::time::sleep(FINISH_WITHIN).await;
    }
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Every queue of the service, each as a task that runs until shutdown.
pub(crate) fn queues(
    core: Core,
    llm: Llm,
    connections: PgPool,
    bell: &Bell,
    shutdown: &CancellationToken,
) -> Vec<Running> {
    let llm_slots = core.config.extraction_concurrency;
    let context = Arc::new(Context {
        core,
        llm,
        llm_slots: Semaphore::new(llm_slots),
        turns: Turns::default(),
        connections,
        process: Uuid::now_v7(),
        shutdown: shutdown.clone(),
    });
    vec![
        Box::pin(work::<ExtractJob>(
            context.clone(),
            llm_slots.max(EXTRACT_CONCURRENCY),
            bell.clone(),
            shutdown.clone(),
        )),
        Box::pin(work::<SummariseJob>(
            context.clone(),
            llm_slots,
            bell.clone(),
            shutdown.clone(),
        )),
        Box::pin(work::<EmbedJob>(
            context,
            EMBED_CONCURRENCY,
            bell.clone(),
            shutdown.clone(),
        )),
    ]
}

/// A kind of job. What it does may be done again: at-least-once is what the queue promises.
trait Job: Serialize + DeserializeOwned + Send + Sync + Unpin + 'static {
    /// The queue's name. Literal, as it is stored.
    const QUEUE: &'static str;

    fn traceparent(&self) -> Option<&str>;

    /// Does the job; `attempt` counts from 1.
    fn perform(
        &self,
        context: &Context,
        attempt: usize,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Works a queue until shutdown. A worker that ends (a payload that it can't read, a database that
/// went away) is replaced by a new one under a new name.
async fn work<J: Job>(
    context: Arc<Context>,
    concurrency: usize,
    bell: Bell,
    shutdown: CancellationToken,
) {
    for start in 0u64.. {
        let storage =
            PostgresStorage::<J>::new(&context.connections).with_config(queue::config(J::QUEUE));
        let name = format!("{}/{}/{start}", J::QUEUE, context.process);
        let worker = WorkerBuilder::new(name.as_str())
            .backend(storage.poll_with_stream(bell.stream()))
            .data(context.clone())
            .concurrency(concurrency)
            .build(perform::<J>);
        let stop = shutdown.clone();
        let run = worker.run_until(async move {
            stop.cancelled().await;
            Ok::<(), std::io::Error>(())
        });
        let ended = tokio::select! {
            ended = run => ended,
            () = context.overdue() => Ok(()),
        };
        if shutdown.is_cancelled() {
            // What it had taken and not begun would wait until the worker is missed.
            let hand_back = queue::hand_all_back(&context.core.derived, &name);
            if !matches!(
                tokio::time::timeout(FINISH_WITHIN, hand_back).await,
                Ok(Ok(()))
            ) {
                tracing::warn!(
                    queue = J::QUEUE,
                    "the database does not answer; jobs that this worker had taken are taken up later"
                );
            }
            return;
        }
        if let Err(error) = ended {
            tracing::warn!(queue = J::QUEUE, %error, "a queue's worker ended and is started again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RESTART_AFTER) => {}
        }
    }
}

async fn perform<J: Job>(
    job: J,
    id: TaskId,
    attempt: Attempt,
    context: Data<Arc<Context>>,
) -> Result<(), BoxDynError> {
    let span =
        tracing::info_span!("job", queue = J::QUEUE, job.id = %id, attempt = attempt.current());
    telemetry::set_parent(&span, job.traceparent());
    async {
        let attempts = i32::try_from(attempt.current()).unwrap_or(i32::MAX);
        if attempts > MAX_ATTEMPTS {
            // A job that takes its process down is handed out again without end otherwise.
            return Err("the job was given up: it never came to an end".into());
        }
        let performing = AssertUnwindSafe(job.perform(&context, attempt.current().max(1)));
        let performed = tokio::select! {
            performed = performing.catch_unwind() => performed,
            () = context.out_of_time() => {
                queue::hand_back(&context.core.derived, &id.to_string(), 0.0).await?;
                return Err("the process stops; the job is handed back".into());
            }
        };
        let performed = performed.unwrap_or_else(|_| Err(anyhow::anyhow!("the job panicked")));
        let Err(error) = performed else { return Ok(()) };
        if let Some(later) = error.downcast_ref::<Later>() {
            queue::hand_back(&context.core.derived, &id.to_string(), later.seconds()).await?;
            return Err(format!("the job waits: {later}").into());
        }
        let error = errors::in_one_line(&*error);
        tracing::warn!(
            queue = J::QUEUE,
            attempt = attempts,
            "a job failed: {error}"
        );
        let pause = FIRST_RETRY_SECONDS * f64::from(attempts.clamp(1, MAX_ATTEMPTS) - 1).exp2();
        queue::put_off(&context.core.derived, &id.to_string(), pause).await?;
        Err(BoxDynError::from(error))
    }
    .instrument(span)
    .await
}
