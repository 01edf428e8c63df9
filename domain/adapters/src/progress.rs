//! How far the background work has come: for health, for tests that wait, and for reading one's own
//! writes.

use std::time::Duration;

use companion_domain::ids::UserId;
use sqlx::PgPool;

use crate::log::subscription::{READ_MODELS, RELAY};

/// How often and how long a query waits for the projection to pass the user's last append.
const STEP: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_millis(500);
/// A process that was not seen for so long has crashed.
pub const PROCESS_TTL: Duration = Duration::from_secs(15);

/// What is still to be done.
#[derive(Debug, Clone, Copy, Default, PartialEq, sqlx::FromRow)]
pub struct Lag {
    /// Worker processes seen lately.
    pub running: i64,
    /// Events not projected or not relayed yet (100,000 of them at the most), replies that run, and
    /// jobs that are neither done nor dead.
    pub lag_events: i64,
    /// How long the oldest of them has waited, seconds.
    pub oldest_pending_seconds: f64,
    /// Jobs that failed for good and wait for the operator.
    pub dead_jobs: i64,
}

/// Measures what is still to be done, all in one snapshot: a job that ends has appended before, so
/// that nothing is missed in between.
///
/// # Errors
/// When the database fails.
pub async fn lag(pool: &PgPool) -> Result<Lag, sqlx::Error> {
    sqlx::query_as(
        "WITH behind AS (
             SELECT coalesce(c.xid, '0') AS xid, coalesce(c.position, 0) AS position
             FROM unnest(ARRAY[$1, $2]) AS s (subscription) LEFT JOIN checkpoints c USING (subscription)
             ORDER BY 1, 2 LIMIT 1
         ), pending AS (
             SELECT coalesce((e.meta ->> 'imported_at')::timestamptz, e.recorded_at) AS since FROM behind CROSS JOIN LATERAL (
                 SELECT meta, recorded_at FROM events e WHERE (e.xid, e.position) > (behind.xid, behind.position)
                 ORDER BY e.xid, e.position LIMIT 100000
             ) AS e
             UNION ALL
             SELECT m.created_at FROM messages m WHERE m.reply_status = 'running'
             UNION ALL
             SELECT j.run_at FROM apalis.jobs j
             WHERE j.status <> 'Done'
               AND (j.status IN ('Pending', 'Queued', 'Running') OR (j.status = 'Failed' AND j.attempts < j.max_attempts))
         )
         SELECT (SELECT count(DISTINCT split_part(w.id, '/', 2)) FROM apalis.workers w WHERE w.last_seen > now() - interval '30 seconds') AS running,
                (SELECT count(*) FROM pending) AS lag_events,
                (SELECT coalesce(greatest(extract(epoch FROM now() - min(since)), 0), 0)::float8 FROM pending) AS oldest_pending_seconds,
                (SELECT count(*) FROM apalis.jobs j
                  WHERE j.status <> 'Done'
                    AND (j.status = 'Killed' OR (j.status = 'Failed' AND j.attempts >= j.max_attempts))) AS dead_jobs",
    )
    .bind(READ_MODELS)
    .bind(RELAY)
    .fetch_one(pool)
    .await
}

/// Waits until the projection has passed a user's last append, half a second at most. Returns
/// whether it has.
///
/// # Errors
/// When the database fails.
pub async fn wait_for_own_writes(pool: &PgPool, user: UserId) -> Result<bool, sqlx::Error> {
    let begun = tokio::time::Instant::now();
    loop {
        let passed: bool = sqlx::query_scalar(
            "SELECT NOT EXISTS (
                 SELECT FROM (SELECT e.xid, e.position FROM events e WHERE e.user_id = $1
                              ORDER BY e.xid DESC, e.position DESC LIMIT 1) AS last
                 WHERE NOT EXISTS (SELECT FROM checkpoints c WHERE c.subscription = $2
                                   AND (c.xid, c.position) >= (last.xid, last.position)))",
        )
        .bind(user.0)
        .bind(READ_MODELS)
        .fetch_one(pool)
        .await?;
        if passed || begun.elapsed() >= PATIENCE {
            return Ok(passed);
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Says that this process lives: it holds its leases on running replies.
///
/// # Errors
/// When the database fails.
pub async fn heartbeat(pool: &PgPool, process: uuid::Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO processes (process_id) VALUES ($1) ON CONFLICT (process_id) DO UPDATE SET seen_at = now()",
    )
    .bind(process)
    .execute(pool)
    .await?;
    Ok(())
}

/// Says that this process is about to stop and holds no lease any more.
///
/// # Errors
/// When the database fails.
pub async fn farewell(pool: &PgPool, process: uuid::Uuid) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM processes WHERE process_id = $1")
        .bind(process)
        .execute(pool)
        .await?;
    Ok(())
}

/// Forgets processes that have not been seen for a day: they crashed, and their replies are ended.
///
/// # Errors
/// When the database fails.
pub async fn forget_crashed(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM processes WHERE seen_at < now() - interval '1 day'")
        .execute(pool)
        .await?;
    Ok(())
}

/// Whether a process was seen lately.
///
/// # Errors
/// When the database fails.
pub async fn is_alive(pool: &PgPool, process: uuid::Uuid) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM processes WHERE process_id = $1 AND seen_at > now() - make_interval(secs => $2))",
    )
    .bind(process)
    .bind(PROCESS_TTL.as_secs_f64())
    .fetch_one(pool)
    .await
}
