//! Events in; read models, jobs and new events out.
//!
//! A worker process runs two subscriptions, the projection of the read models and the relay that
//! turns events into jobs, the job queues, the reaper of replies whose process crashed, and the upkeep
//! of memories. Any number of worker processes may run: one at a time holds each subscription, all
//! share the jobs.

mod jobs;
pub mod projections;
mod reaper;
mod relay;
pub mod replay;
mod subscription;
pub mod upkeep;
mod vectors;

use std::time::Duration;

use anyhow::Context;
use companion_adapters::cancellation::{self, Asked};
use companion_adapters::core::Core;
use companion_adapters::llm::Llm;
use companion_adapters::queue;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::jobs::Bell;

/// How long the background work may take to finish or to hand back its jobs when the process stops.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The pause before it is listened again for erasures.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);

/// Runs the background work in a process of its own, see [`run`]: it hears of users who are erased, and
/// forgets what it has at hand of them. Where an API runs beside it, that does.
///
/// # Errors
/// Those of [`run`].
pub async fn run_alone(core: Core, shutdown: CancellationToken) -> anyhow::Result<()> {
    let ear = tokio::spawn(hear(core.clone()));
    let ran = run(core, shutdown).await;
    ear.abort();
    ran
}

async fn hear(core: Core) {
    loop {
        let heard = |asked| match asked {
            None => core.forget_all(),
            Some(Asked::User(user)) => {
                let core = core.clone();
                tokio::spawn(async move { core.forget(user).await });
            }
            Some(Asked::Reply(_) | Asked::Loaded(_)) => {}
        };
        if let Err(error) = cancellation::listen(&core.pool, heard).await {
            tracing::warn!("erasures are not heard of: {error}");
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}

/// Runs the background work until `shutdown`, then finishes or hands back running jobs.
///
/// # Errors
/// When the client for the LLM can't be made, or a part of the work ends by itself.
pub async fn run(core: Core, shutdown: CancellationToken) -> anyhow::Result<()> {
    let llm = Llm::new(&core.config.extraction, core.config.llm_timeout)?
        .at_once(core.config.extraction_concurrency);
    let connections = queue::pool(&core.derived);
    let bell = Bell::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(projections::run(core.clone(), shutdown.clone()));
    tasks.spawn(relay::run(core.clone(), bell.clone(), shutdown.clone()));
    tasks.spawn(reaper::run(core.clone(), shutdown.clone()));
    tasks.spawn(upkeep::run(core.clone(), shutdown.clone()));
    tasks.spawn(vectors::run(core.clone(), shutdown.clone()));
    for queue in jobs::queues(core, llm, connections.clone(), &bell, &shutdown) {
        tasks.spawn(queue);
    }
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        // None of them ends by itself: a service that no longer remembers must not look healthy.
        Some(ended) = tasks.join_next() => {
            ended.context("a part of the background work panicked")?;
            anyhow::bail!("a part of the background work ended by itself");
        }
    }
    let finish = async {
        while tasks.join_next().await.is_some() {}
        connections.close().await;
    };
    if tokio::time::timeout(STOP_WITHIN, finish).await.is_err() {
        tracing::warn!("some jobs did not finish in time; they are run again later");
    }
    Ok(())
}
