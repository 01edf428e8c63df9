//! What tells the search indexes in the memory of each process that something has changed: a count of
//! the changes of each user, with which changed rows are stamped.

use companion_domain::ids::UserId;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

/// How an event changes what can be found of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Something can be found that could not, or in another way.
    Changed,
    /// Something can't be found any more: rows are gone, or were taken out of search.
    Removed,
}

/// How often what can be found of a user has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct SearchState {
    /// The user's data key: another one is another life of the user, of which nothing may be found
    /// in this one.
    pub key_id: Uuid,
    /// The number of changes.
    pub version: i64,
    /// The last change that took something away, 0 when none did.
    pub cleared: i64,
}

/// Counts a change. Rows that it changes are stamped with the new version; in SQL it is
/// `(SELECT version FROM search_state WHERE user_id = …)`.
///
/// Once for each event that changes something, in the order of the log, so that a replay counts the
/// same.
///
/// # Errors
/// When the database fails.
pub async fn advance(
    connection: &mut PgConnection,
    user: UserId,
    change: Change,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO search_state AS s (user_id, version, cleared) VALUES ($1, 1, CASE WHEN $2 THEN 1 ELSE 0 END)
         ON CONFLICT (user_id) DO UPDATE SET version = s.version + 1,
             cleared = CASE WHEN $2 THEN s.version + 1 ELSE s.cleared END",
    )
    .bind(user.0)
    .bind(change == Change::Removed)
    .execute(connection)
    .await?;
    Ok(())
}

/// The state of a user's search; `None` for one who has no key: unknown, or erased.
///
/// # Errors
/// When the database fails.
pub async fn of(
    executor: impl PgExecutor<'_>,
    user: UserId,
) -> Result<Option<SearchState>, sqlx::Error> {
    sqlx::query_as(
        "SELECT k.key_id, coalesce(s.version, 0) AS version, coalesce(s.cleared, 0) AS cleared
         FROM user_keys k LEFT JOIN search_state s USING (user_id) WHERE k.user_id = $1",
    )
    .bind(user.0)
    .fetch_optional(executor)
    .await
}
