//! Jobs that were given up and wait for the operator: seen, run again, or dropped.

use chrono::{DateTime, Utc};
use companion_domain::ids::UserId;
use serde::Serialize;
use sqlx::PgExecutor;
use uuid::Uuid;

/// What makes a job `j` a dead one. The first condition is that of the index on unfinished jobs.
macro_rules! dead {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " j.status <> 'Done' AND (j.status = 'Killed' OR (j.status = 'Failed' AND j.attempts >= j.max_attempts))
               AND ($1::text[] IS NULL OR j.id = ANY($1))
               AND ($2::text IS NULL OR j.job_type = $2)
               AND ($3::uuid IS NULL OR convert_from(j.job, 'UTF8')::jsonb ->> 'user' = $3::text) ",
            $after
        )
    };
}

/// Which dead jobs are meant. All of them by default.
#[derive(Debug, Clone, Default)]
pub struct Which {
    /// Only these, by id.
    pub ids: Option<Vec<String>>,
    /// Only those of this queue.
    pub queue: Option<String>,
    /// Only those about this user.
    pub user: Option<UserId>,
}

/// A job that was given up.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct DeadJob {
    /// The job.
    pub id: String,
    /// Its queue.
    pub queue: String,
    /// Whom it is about.
    pub user_id: Option<Uuid>,
    /// The id by which callers name that user, if it is known.
    pub user: Option<String>,
    /// How often it was tried.
    pub attempts: i32,
    /// When it was tried last.
    pub failed_at: Option<DateTime<Utc>>,
    /// Why it failed the last time. Holds nothing that a user said.
    pub reason: String,
    /// What it was to do: its payload, ids only.
    pub job: serde_json::Value,
}

/// The dead jobs meant, the one that failed first first.
///
/// # Errors
/// When the database fails.
pub async fn list(
    executor: impl PgExecutor<'_>,
    which: &Which,
) -> Result<Vec<DeadJob>, sqlx::Error> {
    // A result is {"Err": "…"}.
    sqlx::query_as(dead!(
        "SELECT j.id, j.queue, j.user_id, u.external_id AS user, j.attempts, j.failed_at,
                coalesce(j.last_result ->> 'Err', j.last_result #>> '{}', 'it never came to an end') AS reason, j.payload AS job
         FROM (SELECT j.id, j.job_type AS queue, j.attempts, coalesce(j.done_at, j.lock_at) AS failed_at,
                      j.last_result::jsonb AS last_result, convert_from(j.job, 'UTF8')::jsonb AS payload,
                      (convert_from(j.job, 'UTF8')::jsonb ->> 'user')::uuid AS user_id
               FROM apalis.jobs j WHERE",
        ") AS j LEFT JOIN users u USING (user_id) ORDER BY j.failed_at, j.id"
    ))
    .bind(&which.ids)
    .bind(&which.queue)
    .bind(which.user.map(|user| user.0))
    .fetch_all(executor)
    .await
}

/// Lets the dead jobs meant run again, as if they had never been tried; how many there were.
///
/// # Errors
/// When the database fails.
pub async fn retry(executor: impl PgExecutor<'_>, which: &Which) -> Result<u64, sqlx::Error> {
    let retried = sqlx::query(dead!(
        "UPDATE apalis.jobs j SET status = 'Pending', attempts = 0, run_at = now(), lock_by = NULL, lock_at = NULL,
             done_at = NULL, last_result = NULL
         WHERE",
        ""
    ))
    .bind(&which.ids)
    .bind(&which.queue)
    .bind(which.user.map(|user| user.0))
    .execute(executor)
    .await?;
    Ok(retried.rows_affected())
}

/// Throws the dead jobs meant away; how many there were.
///
/// # Errors
/// When the database fails.
pub async fn discard(executor: impl PgExecutor<'_>, which: &Which) -> Result<u64, sqlx::Error> {
    let discarded = sqlx::query(dead!("DELETE FROM apalis.jobs j WHERE", ""))
        .bind(&which.ids)
        .bind(&which.queue)
        .bind(which.user.map(|user| user.0))
        .execute(executor)
        .await?;
    Ok(discarded.rows_affected())
}
