//! What tells the search indexes in the memory of each process that something has changed: a count of
//! the changes of each user, with which changed rows are stamped.

use companion_domain::ids::UserId;
use sqlx::PgExecutor;
use uuid::Uuid;

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
    /// The tables of the messages and of the memories: others take their place when the read models are
    /// built anew.
    pub messages: i64,
    /// See `messages`.
    pub memories: i64,
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
        "SELECT k.key_id, coalesce(s.version, 0) AS version, coalesce(s.cleared, 0) AS cleared,
                to_regclass('messages')::oid::bigint AS messages, to_regclass('memories')::oid::bigint AS memories
         FROM user_keys k LEFT JOIN search_state s USING (user_id) WHERE k.user_id = $1",
    )
    .bind(user.0)
    .fetch_optional(executor)
    .await
}
