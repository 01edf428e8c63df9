//! Metrics in the Prometheus text format: what is measured, under which names.
//!
//! Names of what is HTTP, LLM and memory are those of the Python service that this one replaces, so
//! that its dashboards go on. Labels hold names of routes, outcomes and queues, never content or ids.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use metrics::{Unit, counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use sqlx::PgPool;

use crate::progress::{self, Lag};
use crate::queue;

/// Upper bounds of durations, seconds.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();

/// Why metrics can't be had.
#[derive(Debug, thiserror::Error)]
#[error("metrics can't be had: {0}")]
pub struct MetricsError(String);

/// Begins to measure in this process. Doing it twice does nothing more.
///
/// # Errors
/// [`MetricsError`] when the recorder can't be made.
pub fn init() -> Result<(), MetricsError> {
    if HANDLE.get().is_some() {
        return Ok(());
    }
    let recorder = builder()?.build_recorder();
    let handle = recorder.handle();
    // Of two that begin at once, one is first.
    if metrics::set_global_recorder(recorder).is_ok() && HANDLE.set(handle).is_ok() {
        describe();
    }
    Ok(())
}

/// Begins to measure, and serves what is measured at an address of its own: for a process without
/// an API.
///
/// # Errors
/// [`MetricsError`] when the address can't be had.
pub fn serve(address: SocketAddr) -> Result<(), MetricsError> {
    let failed = |error: metrics_exporter_prometheus::BuildError| MetricsError(error.to_string());
    let (recorder, exporter) = builder()?
        .with_http_listener(address)
        .build()
        .map_err(failed)?;
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
    }
    tokio::spawn(async {
        if exporter.await.is_err() {
            tracing::error!("metrics are not served any more");
        }
    });
    Ok(())
}

fn builder() -> Result<PrometheusBuilder, MetricsError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .map_err(|error| MetricsError(error.to_string()))
}

/// What each metric is. Those without labels are there from the beginning.
fn describe() {
    for (name, help) in [
        ("http_requests_total", "Requests that were answered"),
        (
            "llm_requests_total",
            "Requests to the LLM, by what came of them",
        ),
        ("memory_retrievals_total", "Searches for memories"),
        ("memory_storage_total", "Memories that were recorded"),
    ] {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in [
        (
            "http_requests_in_progress",
            "Requests that are being answered",
        ),
        (
            "active_conversations",
            "Conversations with a message within the time that buffers are kept",
        ),
        (
            "companion_projection_lag_events",
            "Events, jobs and replies that are not done",
        ),
        ("companion_jobs", "Jobs, by queue and state"),
        ("companion_dead_jobs", "Jobs that failed for good"),
    ] {
        metrics::describe_gauge!(name, help);
    }
    for (name, help) in [
        (
            "http_request_duration_seconds",
            "Until the headers of the answer",
        ),
        (
            "llm_request_duration_seconds",
            "Until the end of the LLM's answer",
        ),
        (
            "database_query_duration_seconds",
            "Queries, by what they are for",
        ),
        (
            "companion_first_token_seconds",
            "From a message to the first token of the reply",
        ),
        (
            "companion_embedding_seconds",
            "One batch through the embedding model",
        ),
    ] {
        metrics::describe_histogram!(name, Unit::Seconds, help);
    }
    for name in ["memory_retrievals_total", "memory_storage_total"] {
        counter!(name).absolute(0);
    }
    gauge!("http_requests_in_progress").set(0.0);
    for name in [
        "llm_request_duration_seconds",
        "companion_first_token_seconds",
        "companion_embedding_seconds",
    ] {
        // To be known is enough to be shown.
        drop(histogram!(name));
    }
}

/// What is measured, as text; asks the database for what only it knows. While it is away that is not
/// a number, and all else is told. `None` before [`init`].
pub async fn render(pool: &PgPool, buffers_kept: Duration) -> Option<String> {
    let handle = HANDLE.get()?;
    if let Err(error) = ask(pool, buffers_kept).await {
        tracing::warn!("the database can't be measured: {error}");
        for name in [
            "companion_projection_lag_events",
            "companion_dead_jobs",
            "active_conversations",
        ] {
            gauge!(name).set(f64::NAN);
        }
    }
    Some(handle.render())
}

/// Takes in what the database knows.
async fn ask(pool: &PgPool, buffers_kept: Duration) -> Result<(), sqlx::Error> {
    let Lag {
        lag_events,
        dead_jobs,
        ..
    } = progress::lag(pool).await?;
    gauge!("companion_projection_lag_events").set(lag_events as f64);
    gauge!("companion_dead_jobs").set(dead_jobs as f64);
    let jobs: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT q.queue, s.state, count(j.id) FROM unnest($1::text[]) AS q (queue)
         CROSS JOIN unnest(ARRAY['Pending', 'Queued', 'Running', 'Done', 'Failed', 'Killed']) AS s (state)
         LEFT JOIN apalis.jobs j ON j.job_type = q.queue AND j.status = s.state
         GROUP BY q.queue, s.state",
    )
    .bind(queue::ALL)
    .fetch_all(pool)
    .await?;
    for (queue, state, count) in jobs {
        let state = state.to_lowercase();
        gauge!("companion_jobs", "queue" => queue, "state" => state).set(count as f64);
    }
    let active: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM conversations WHERE updated_at > now() - make_interval(secs => $1)",
    )
    .bind(buffers_kept.as_secs_f64())
    .fetch_one(pool)
    .await?;
    gauge!("active_conversations").set(active as f64);
    Ok(())
}

/// Tidies what was measured; to be called every few seconds.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get() {
        handle.run_upkeep();
    }
}

/// Measures a query of the database.
pub async fn query<T>(operation: &'static str, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    histogram!("database_query_duration_seconds", "operation" => operation).record(begun.elapsed());
    done
}

/// Measures a request to the LLM; `status` is `success` or the code of a failure.
pub fn llm_request(status: &'static str, begun: Instant) {
    counter!("llm_requests_total", "status" => status).increment(1);
    histogram!("llm_request_duration_seconds").record(begun.elapsed());
}

/// Measures how long a user waited for the first token.
pub fn first_token(waited: Duration) {
    histogram!("companion_first_token_seconds").record(waited);
}

/// Measures a batch through the embedding model.
pub fn embedding(begun: Instant) {
    histogram!("companion_embedding_seconds").record(begun.elapsed());
}

/// Counts memories that were recorded.
pub fn memories_stored(count: usize) {
    counter!("memory_storage_total").increment(u64::try_from(count).unwrap_or(u64::MAX));
}

/// Counts a search for memories.
pub fn memories_retrieved() {
    counter!("memory_retrievals_total").increment(1);
}

/// A request that is being answered.
pub struct HttpRequest {
    method: &'static str,
    endpoint: String,
    begun: Instant,
}

impl HttpRequest {
    /// Begins one; `endpoint` is the template of its route.
    pub fn begin(method: &str, endpoint: String) -> Self {
        gauge!("http_requests_in_progress").increment(1.0);
        let known = ["GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS"];
        Self {
            // A caller must not be able to make new labels.
            method: known
                .into_iter()
                .find(|known| *known == method)
                .unwrap_or("other"),
            endpoint,
            begun: Instant::now(),
        }
    }

    /// Counts it with the status of its answer.
    pub fn answered(&self, status: u16) {
        let (method, endpoint) = (self.method, self.endpoint.clone());
        let status = status.to_string();
        histogram!("http_request_duration_seconds", "method" => method, "endpoint" => endpoint.clone())
            .record(self.begun.elapsed());
        counter!("http_requests_total", "method" => method, "endpoint" => endpoint, "status" => status).increment(1);
    }
}

impl Drop for HttpRequest {
    fn drop(&mut self) {
        gauge!("http_requests_in_progress").decrement(1.0);
    }
}
