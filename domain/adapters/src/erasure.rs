//! Forgetting a user: their key is destroyed, so that nobody can open what the log holds of them, and
//! everything that was derived from it is deleted.

use chrono::{DateTime, Utc};
use companion_domain::ids::{ConversationId, StreamId, UserId};
use sqlx::{AssertSqlSafe, PgExecutor};
use uuid::Uuid;

use crate::cancellation::{self, Asked};
use crate::core::Core;

/// The tables with rows of a user, named by `user_id`.
const TABLES: &[&str] = &[
    "conversations",
    "messages",
    "memories",
    "past_memories",
    "memory_events",
    "memory_streams",
    "extraction_cursors",
    "merged",
    "terms",
    "corpus_sizes",
    "vectors",
    "vectors_to_sweep",
    "idempotency",
    "api_keys",
    "reextraction_portions",
    "reextraction_users",
    "reextractions",
    "users",
];

/// Erases a user and stops the replies to them. Appends and projections that are under way finish first; later ones find no key.
///
/// # Errors
/// When the database fails; then nothing was erased.
pub async fn erase(core: &Core, user: UserId) -> Result<(), sqlx::Error> {
    let mut transaction = core.pool.begin().await?;
    // Whoever writes for the user holds a share of this row until their commit.
    sqlx::query("DELETE FROM user_keys WHERE user_id = $1")
        .bind(user.0)
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "INSERT INTO erasures (user_id, erased_at) VALUES ($1, clock_timestamp())
         ON CONFLICT (user_id) DO UPDATE SET erased_at = excluded.erased_at",
    )
    .bind(user.0)
    .execute(&mut *transaction)
    .await?;
    let conversations: Vec<Uuid> =
        sqlx::query_scalar("SELECT conversation_id FROM conversations WHERE user_id = $1")
            .bind(user.0)
            .fetch_all(&mut *transaction)
            .await?;
    // All processes hear of it when this is committed.
    cancellation::ask(&mut *transaction, Asked::User(user)).await?;
    sqlx::query(
        "DELETE FROM api_key_uses WHERE key_id IN (SELECT key_id FROM api_keys WHERE user_id = $1)",
    )
    .bind(user.0)
    .execute(&mut *transaction)
    .await?;
    for table in TABLES {
        sqlx::query(AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE user_id = $1"
        )))
        .bind(user.0)
        .execute(&mut *transaction)
        .await?;
    }
    // A conversation of this life is none in the next, whatever caches hold of it.
    sqlx::query(
        "DELETE FROM streams WHERE user_id = $1
           AND stream_id IN (SELECT DISTINCT stream_id FROM events WHERE user_id = $1 AND stream_id LIKE 'conversation-%')",
    )
    .bind(user.0)
    .execute(&mut *transaction)
    .await?;
    // The other streams go on where they were, should the user begin anew: what is new is numbered after
    // what can't be read.
    sqlx::query(
        "INSERT INTO memory_streams (user_id, version) SELECT user_id, version FROM streams WHERE stream_id = $1",
    )
    .bind(StreamId::memory(user).as_str())
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "DELETE FROM apalis.jobs WHERE status <> 'Running' AND convert_from(job, 'UTF8')::jsonb ->> 'user' = $1",
    )
    .bind(user.to_string())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    core.store.vault().forget(user).await;
    for conversation in conversations {
        core.buffer.forget(ConversationId(conversation)).await;
    }
    Ok(())
}

/// When a user was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure(DateTime<Utc>);

impl Erasure {
    /// Whether it took place in or after the second in which a credential was issued. One that does
    /// not say when counts as issued before.
    pub fn outdates(self, issued_at: Option<DateTime<Utc>>) -> bool {
        issued_at.is_none_or(|issued| issued.timestamp() <= self.0.timestamp())
    }
}

/// The last time that a user was erased, if they ever were.
///
/// # Errors
/// When the database fails.
pub async fn last(
    executor: impl PgExecutor<'_>,
    user: UserId,
) -> Result<Option<Erasure>, sqlx::Error> {
    let erased_at: Option<DateTime<Utc>> =
        sqlx::query_scalar("SELECT erased_at FROM erasures WHERE user_id = $1")
            .bind(user.0)
            .fetch_optional(executor)
            .await?;
    Ok(erased_at.map(Erasure))
}
