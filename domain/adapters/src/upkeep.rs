//! How far the upkeep of memories has come: when it last ran, and what it has looked at. These are
//! cursors of what was done, like checkpoints; when they are lost, some of it is done again in vain.

use std::time::Duration;

use chrono::{DateTime, Utc};
use companion_domain::ids::UserId;
use sqlx::PgExecutor;

/// The name of its row. Literal, as it is stored.
const MEMORIES: &str = "memories";

/// Claims the next run, if the last one is so long ago: of many processes one gets it.
///
/// # Errors
/// When the database fails.
pub async fn claim(executor: impl PgExecutor<'_>, every: Duration) -> Result<bool, sqlx::Error> {
    let claimed = sqlx::query(
        "UPDATE upkeep SET ran_at = now() WHERE task = $1 AND ran_at <= now() - make_interval(secs => $2)",
    )
    .bind(MEMORIES)
    .bind(every.as_secs_f64())
    .execute(executor)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

/// Up to when replies were looked at for what they made use of.
///
/// # Errors
/// When the database fails.
pub async fn replies_through(executor: impl PgExecutor<'_>) -> Result<DateTime<Utc>, sqlx::Error> {
    sqlx::query_scalar("SELECT through FROM upkeep WHERE task = $1")
        .bind(MEMORIES)
        .fetch_one(executor)
        .await
}

/// Notes up to when replies were looked at.
///
/// # Errors
/// When the database fails.
pub async fn looked_at_replies(
    executor: impl PgExecutor<'_>,
    through: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE upkeep SET through = greatest(through, $2) WHERE task = $1")
        .bind(MEMORIES)
        .bind(through)
        .execute(executor)
        .await?;
    Ok(())
}

/// Notes up to which version of a user's memory stream their memories were looked at for duplicates.
///
/// # Errors
/// When the database fails.
pub async fn looked_for_duplicates(
    executor: impl PgExecutor<'_>,
    user: UserId,
    through_version: i64,
) -> Result<(), sqlx::Error> {
    // Only while the user is there: an erasure is to leave nothing behind.
    sqlx::query(
        "INSERT INTO merged AS m (user_id, through_version)
         SELECT user_id, $2 FROM user_keys WHERE user_id = $1 FOR KEY SHARE
         ON CONFLICT (user_id) DO UPDATE SET through_version = greatest(m.through_version, excluded.through_version)",
    )
    .bind(user.0)
    .bind(through_version)
    .execute(executor)
    .await?;
    Ok(())
}
