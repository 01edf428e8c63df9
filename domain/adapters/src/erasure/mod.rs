//! Forgetting a user.
//!
//! It begins with one short transaction: their key is destroyed, so that nobody can open what the log
//! holds of them and nobody can write for them, and their credentials go. From that commit on they are
//! gone for every caller. What was derived from their events is then swept away in bounded pieces
//! (`sweep`), by whoever began, by a worker, or by the user who comes back: until that is done there
//! is no next life, so that nothing of it can be swept away, and nothing of the former one is in it.

mod sweep;

use chrono::{DateTime, Utc};
use companion_domain::ids::{StreamId, UserId};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

pub use self::sweep::{Holdings, Step, bury_buffers};
use crate::buffer::Buffer;
use crate::cancellation::{self, Asked};
use crate::core::Core;
use crate::reply_texts::ReplyTexts;
use crate::transaction;
use crate::vault::Vault;

/// What an erasure works on. Cheap to clone.
#[derive(Clone)]
pub struct Eraser {
    pool: PgPool,
    vault: Vault,
    buffer: Buffer,
    texts: ReplyTexts,
}

impl Eraser {
    /// Erases in this database and in what lies beside it.
    pub fn new(pool: PgPool, vault: Vault, buffer: Buffer, texts: ReplyTexts) -> Self {
        Self {
            pool,
            vault,
            buffer,
            texts,
        }
    }

    /// Erases in what a process holds open.
    pub fn of(core: &Core) -> Self {
        Self::new(
            core.pool.clone(),
            core.store.vault().clone(),
            core.buffer.clone(),
            ReplyTexts::new(core.redis.clone()),
        )
    }

    /// Destroys a user's key and credentials and stops the replies to them. Appends and projections
    /// that are under way finish first; later ones find no key.
    ///
    /// # Errors
    /// When the database fails; then nothing was erased.
    pub async fn begin(&self, user: UserId) -> Result<(), sqlx::Error> {
        let mut transaction = transaction::begin(&self.pool).await?;
        // Whoever switches read models keeps erasures from beginning, and meanwhile needs keys: it is waited
        // for before one is taken away.
        sqlx::query("LOCK TABLE erasures IN ROW EXCLUSIVE MODE")
            .execute(&mut *transaction)
            .await?;
        // Whoever registers the user holds the same lock, and then looks whether an erasure is under
        // way.
        sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
            .bind(StreamId::user(user).as_str())
            .execute(&mut *transaction)
            .await?;
        // Whoever writes for the user holds a share of this row until their commit.
        sqlx::query(
            "WITH gone AS (DELETE FROM user_keys WHERE user_id = $1 RETURNING key_id)
             INSERT INTO destroyed_keys (key_id, user_id) SELECT key_id, $1 FROM gone ON CONFLICT DO NOTHING",
        )
        .bind(user.0)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "INSERT INTO erasures (user_id, erased_at, swept_at) VALUES ($1, clock_timestamp(), NULL)
             ON CONFLICT (user_id) DO UPDATE SET erased_at = excluded.erased_at, swept_at = NULL",
        )
        .bind(user.0)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "WITH gone AS (DELETE FROM api_keys WHERE user_id = $1 RETURNING key_id)
             DELETE FROM api_key_uses u USING gone WHERE u.key_id = gone.key_id",
        )
        .bind(user.0)
        .execute(&mut *transaction)
        .await?;
        // All processes hear of it when this is committed.
        cancellation::ask(&mut *transaction, Asked::User(user)).await?;
        transaction.commit().await?;
        self.vault.forget(user).await;
        self.buffer.forget_user(user).await;
        Ok(())
    }

    /// Sweeps until nothing of an erased user is left; at once when nobody is being erased.
    ///
    /// # Errors
    /// When the database fails; the erasure stays under way.
    pub async fn finish(&self, user: UserId) -> Result<(), sqlx::Error> {
        while let Step::More(_) = self.step(user).await? {}
        Ok(())
    }

    /// Erases a user, see [`Eraser::begin`] and [`Eraser::finish`].
    ///
    /// # Errors
    /// When the database fails; whether the erasure has begun then, [`last`] tells.
    pub async fn erase(&self, user: UserId) -> Result<(), sqlx::Error> {
        self.begin(user).await?;
        self.finish(user).await
    }
}

/// When a user was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Erasure {
    /// When it began.
    pub erased_at: DateTime<Utc>,
    /// Whether something of them is still to be swept away.
    pub under_way: bool,
}

impl Erasure {
    /// Whether it took place in or after the second in which a credential was issued. One that does
    /// not say when counts as issued before.
    pub fn outdates(self, issued_at: Option<DateTime<Utc>>) -> bool {
        issued_at.is_none_or(|issued| issued.timestamp() <= self.erased_at.timestamp())
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
    sqlx::query_as(
        "SELECT erased_at, swept_at IS NULL AS under_way FROM erasures WHERE user_id = $1",
    )
    .bind(user.0)
    .fetch_optional(executor)
    .await
}

/// Users whose erasure has been under way for a while: whoever began it may not be there any more.
///
/// # Errors
/// When the database fails.
pub async fn unfinished(executor: impl PgExecutor<'_>) -> Result<Vec<UserId>, sqlx::Error> {
    let users: Vec<Uuid> = sqlx::query_scalar(
        "SELECT user_id FROM erasures WHERE swept_at IS NULL AND erased_at < now() - interval '2 seconds'
         ORDER BY erased_at LIMIT 100",
    )
    .fetch_all(executor)
    .await?;
    Ok(users.into_iter().map(UserId).collect())
}
