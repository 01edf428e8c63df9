//! The job queue: effects that follow from events, run by apalis workers.
//!
//! A job's payload holds ids only. It is inserted here rather than by apalis's own sink, as that
//! fails on a duplicate key instead of passing over it.

use apalis_postgres::Config as QueueConfig;
use chrono::{DateTime, Utc};
use companion_domain::ids::{ConversationId, UserId};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

/// How often a job is tried before it is left to the operator.
pub const MAX_ATTEMPTS: i32 = 8;
/// How many jobs may wait before the relay pauses.
pub const MAX_PENDING: i64 = 100_000;

/// The queue of [`ExtractJob`]s. Literal, as it is stored.
pub const EXTRACT: &str = "extract";
/// The queue of [`EmbedJob`]s.
pub const EMBED: &str = "embed";

/// The queue of [`SummariseJob`]s.
pub const SUMMARISE: &str = "summarise";
/// All queues.
pub const ALL: [&str; 3] = [EXTRACT, EMBED, SUMMARISE];

/// Read a conversation's new messages for facts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtractJob {
    /// Whose.
    pub user: UserId,
    /// Which conversation.
    pub conversation: ConversationId,
    /// The version of its stream that the job is to reach.
    pub through_version: i64,
    /// The trace of the event that asked for it.
    pub traceparent: Option<String>,
}

/// Make the vectors of what some events say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbedJob {
    /// Whose.
    pub user: UserId,
    /// The events: stream and version.
    pub events: Vec<(String, i64)>,
    /// The trace of the first of them.
    pub traceparent: Option<String>,
}

/// Put in short what leaves the short-term buffer of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummariseJob {
    /// Whose.
    pub user: UserId,
    /// Which conversation.
    pub conversation: ConversationId,
    /// The trace of the event that asked for it.
    pub traceparent: Option<String>,
}

/// A job to be inserted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The queue.
    pub queue: &'static str,
    /// The payload as JSON.
    pub payload: Vec<u8>,
    /// `event_id:job:version`: the same key is inserted once.
    pub key: String,
    /// Not before.
    pub run_at: DateTime<Utc>,
}

/// Inserts jobs; those whose key is there already are passed over.
///
/// # Errors
/// When the database fails.
pub async fn insert(connection: &mut PgConnection, jobs: &[NewJob]) -> Result<(), sqlx::Error> {
    if jobs.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = jobs.iter().map(|_| ulid()).collect();
    let queues: Vec<&str> = jobs.iter().map(|job| job.queue).collect();
    let payloads: Vec<&[u8]> = jobs.iter().map(|job| job.payload.as_slice()).collect();
    let keys: Vec<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
    let run_at: Vec<DateTime<Utc>> = jobs.iter().map(|job| job.run_at).collect();
    sqlx::query(
        "INSERT INTO apalis.jobs (id, job_type, job, status, attempts, max_attempts, run_at, priority, metadata, idempotency_key)
         SELECT j.id, j.queue, j.payload, 'Pending', 0, $6, j.run_at, 0, ''::public.hstore, j.key
         FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[]) AS j (id, queue, payload, key, run_at)
         ON CONFLICT (job_type, idempotency_key) DO NOTHING",
    )
    .bind(ids)
    .bind(queues)
    .bind(payloads)
    .bind(keys)
    .bind(run_at)
    .bind(MAX_ATTEMPTS)
    .execute(connection)
    .await?;
    Ok(())
}

/// Puts a job that failed off; apalis takes it again when its time has come.
///
/// # Errors
/// When the database fails.
pub async fn put_off(
    executor: impl PgExecutor<'_>,
    id: &str,
    seconds: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE apalis.jobs SET run_at = now() + make_interval(secs => $2) WHERE id = $1")
        .bind(id)
        .bind(seconds)
        .execute(executor)
        .await?;
    Ok(())
}

/// Hands a running job back as if it had never been taken, to be taken again after a while: it needs what
/// is not there yet, or the process stops. apalis counts a try when it ends, finds that it no longer holds
/// the job, and leaves it alone: the tries that failed stay counted.
///
/// # Errors
/// When the database fails.
pub async fn hand_back(
    executor: impl PgExecutor<'_>,
    id: &str,
    seconds: f64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE apalis.jobs SET status = 'Pending', lock_by = NULL, lock_at = NULL,
             run_at = now() + make_interval(secs => $2)
         WHERE id = $1",
    )
    .bind(id)
    .bind(seconds)
    .execute(executor)
    .await?;
    Ok(())
}

/// Hands back all that a worker has taken, see [`hand_back`]: it works no more.
///
/// # Errors
/// When the database fails.
pub async fn hand_all_back(executor: impl PgExecutor<'_>, worker: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE apalis.jobs SET status = 'Pending', lock_by = NULL, lock_at = NULL
         WHERE status IN ('Queued', 'Running') AND lock_by = $1",
    )
    .bind(worker)
    .execute(executor)
    .await?;
    Ok(())
}

/// How many jobs wait.
///
/// # Errors
/// When the database fails.
pub async fn pending(executor: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT FROM apalis.jobs WHERE status = 'Pending' LIMIT $1) AS p",
    )
    .bind(MAX_PENDING)
    .fetch_one(executor)
    .await
}

/// Removes jobs that ended well, as the queue gets slower with each row, and workers not seen for a
/// day. Dead jobs stay for the operator.
///
/// # Errors
/// When the database fails.
pub async fn sweep(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM apalis.jobs WHERE status = 'Done' AND done_at < now() - interval '1 minute'",
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM apalis.workers w WHERE w.last_seen < now() - interval '1 day'
         AND NOT EXISTS (SELECT FROM apalis.jobs j WHERE j.lock_by = w.id)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How a queue is worked: one job at a time, as apalis sends no heartbeat while it holds more.
pub fn config(queue: &str) -> QueueConfig {
    QueueConfig::default()
        .queue(queue)
        .batch_size(1)
        .heartbeat_interval(std::time::Duration::from_secs(5))
        .missed_heartbeats(4)
        .lock_tasks(false)
        .persist_results(true)
}

/// The connections that apalis works with, apart from all others. It gives up what it fetches when a worker
/// stops, and so may leave a transaction open as told in [`crate::transaction::begin`]; nothing is in it, and
/// nobody gets in but apalis, all of whose statements are in transactions that it ends.
pub fn pool(of: &PgPool) -> PgPool {
    let (options, connect) = (of.options().clone(), of.connect_options());
    options
        // Each queue's worker does one thing after the other.
        .max_connections(ALL.len() as u32 + 1)
        .connect_lazy_with((*connect).clone())
}

/// A ULID: apalis reads job ids back as such. Of 128 bits the first 48 are the time, as in a UUIDv7.
fn ulid() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let bits = Uuid::now_v7().as_u128();
    (0..26)
        .rev()
        .map(|place| char::from(ALPHABET[(bits >> (5 * place)) as usize & 31]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_id_is_a_ulid_and_unlike_any_other() {
        let (a, b) = (ulid(), ulid());
        assert_ne!(a, b);
        assert!(a.len() == 26 && a.starts_with('0'), "{a}");
    }
}
