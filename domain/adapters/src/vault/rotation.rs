//! Changing the master key: every user's data key is wrapped anew. The data keys themselves, and what
//! they sealed, stay as they are.
//!
//! The database says which master key is in force. That is changed first, so that nothing new is wrapped
//! with the former one; then the data keys follow in batches, in any number of runs.

use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::masters::{CheckValue, MasterKey};
use super::{KeyRow, Vault, VaultError};

/// Data keys of a batch.
const BATCH: i64 = 1_000;

/// The check value of the master key that is in force, once a data key was wrapped.
///
/// # Errors
/// When the database fails.
pub async fn in_force(executor: impl PgExecutor<'_>) -> Result<Option<CheckValue>, sqlx::Error> {
    let stored: Option<Vec<u8>> = sqlx::query_scalar("SELECT check_value FROM master_key")
        .fetch_optional(executor)
        .await?;
    Ok(stored.and_then(|bytes| CheckValue::stored(&bytes)))
}

/// How many data keys another master key than this one has wrapped.
///
/// # Errors
/// When the database fails.
pub async fn left(pool: &PgPool, to: CheckValue) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT count(*) FROM user_keys WHERE wrapped_by IS DISTINCT FROM $1")
        .bind(to.as_bytes())
        .fetch_one(pool)
        .await
}

/// Puts a master key in force: from this commit on it wraps what is new, in every process. Those that
/// don't know it can make no new user.
///
/// # Errors
/// When the database fails.
pub async fn put_in_force(pool: &PgPool, to: CheckValue) -> Result<(), sqlx::Error> {
    // Whoever is wrapping a new key holds a share of this row until their commit.
    sqlx::query(
        "INSERT INTO master_key AS m (check_value) VALUES ($1)
         ON CONFLICT (only_row) DO UPDATE SET check_value = excluded.check_value, since = now()
         WHERE m.check_value <> excluded.check_value",
    )
    .bind(to.as_bytes())
    .execute(pool)
    .await?;
    Ok(())
}

/// A batch that was wrapped anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// Where the next one begins.
    pub after: Uuid,
    /// How many data keys it had.
    pub keys: u64,
}

/// Wraps a batch of data keys anew, those of users after `after`; `None` when there are none.
///
/// # Errors
/// [`VaultError`] when a data key can't be unwrapped by any known master key, or the database fails.
pub async fn step(
    pool: &PgPool,
    vault: &Vault,
    to: &MasterKey,
    after: Uuid,
) -> Result<Option<Batch>, VaultError> {
    let rows: Vec<KeyRow> = sqlx::query_as(
        "SELECT user_id, key_id, wrapped, wrapped_by FROM user_keys
         WHERE user_id > $1 AND wrapped_by IS DISTINCT FROM $2 ORDER BY user_id LIMIT $3",
    )
    .bind(after)
    .bind(to.check.as_bytes())
    .bind(BATCH)
    .fetch_all(pool)
    .await?;
    let Some(last) = rows.last() else {
        return Ok(None);
    };
    let after = last.user_id;
    let (mut users, mut former, mut anew) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        anew.push(vault.wrap_anew(&row, to)?);
        users.push(row.user_id);
        former.push(row.wrapped);
    }
    // One that was destroyed meanwhile stays so. No lock that an append would wait for.
    let wrapped = sqlx::query(
        "UPDATE user_keys k SET wrapped = n.anew, wrapped_by = $4
         FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS n (user_id, former, anew)
         WHERE k.user_id = n.user_id AND k.wrapped = n.former",
    )
    .bind(&users)
    .bind(&former)
    .bind(&anew)
    .bind(to.check.as_bytes())
    .execute(pool)
    .await?;
    Ok(Some(Batch {
        after,
        keys: wrapped.rows_affected(),
    }))
}
