//! The vectors of what users said: a cache, keyed by what was embedded. `vectors` is the table of this
//! process's embedding model, see [`models`].

pub mod filling;
pub mod models;

use std::collections::HashMap;

use companion_domain::ids::UserId;
use pgvector::Vector as Pgvector;
use sqlx::{AssertSqlSafe, PgExecutor, PgPool};
use uuid::Uuid;

use crate::embedder::{EmbedError, Embedder, Vector, content_hash};
use crate::log::event_store::Life;
use crate::log::subscription::{READ_MODELS, RELAY};
use crate::transaction;

/// Which of these hashes have a vector already.
///
/// # Errors
/// When the database fails.
pub async fn known(
    executor: impl PgExecutor<'_>,
    user: UserId,
    hashes: &[Vec<u8>],
) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT content_hash FROM vectors WHERE user_id = $1 AND content_hash = ANY($2)",
    )
    .bind(user.0)
    .bind(hashes)
    .fetch_all(executor)
    .await
}

/// The vectors of these hashes that there are.
pub(crate) async fn load(
    executor: impl PgExecutor<'_>,
    user: UserId,
    hashes: &[Vec<u8>],
) -> Result<HashMap<Vec<u8>, Vector>, sqlx::Error> {
    let rows: Vec<(Vec<u8>, Pgvector)> = sqlx::query_as(
        "SELECT content_hash, embedding FROM vectors WHERE user_id = $1 AND content_hash = ANY($2)",
    )
    .bind(user.0)
    .bind(hashes)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(hash, vector)| (hash, Vector::from(vector.to_vec())))
        .collect())
}

/// The vectors of texts, in their order: those that are there, and the others made now.
///
/// # Errors
/// When the database or the model fails.
pub async fn of(
    executor: impl PgExecutor<'_>,
    embedder: &Embedder,
    user: UserId,
    texts: Vec<String>,
) -> Result<Vec<Vector>, VectorError> {
    if texts.is_empty() {
        return Ok(Vec::new());
    }
    let hashes: Vec<Vec<u8>> = texts.iter().map(|text| content_hash(text)).collect();
    let mut known = load(executor, user, &hashes).await?;
    let missing = hashes
        .iter()
        .zip(texts)
        .filter(|(hash, _)| !known.contains_key(*hash));
    let (missing, texts): (Vec<_>, Vec<_>) =
        missing.map(|(hash, text)| (hash.clone(), text)).unzip();
    known.extend(missing.into_iter().zip(embedder.embed(texts).await?));
    Ok(hashes
        .iter()
        .filter_map(|hash| known.get(hash).cloned())
        .collect())
}

/// Why vectors could not be had.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The model failed.
    #[error(transparent)]
    Embed(#[from] EmbedError),
}

/// Keeps vectors of what was read in one life of a user; those that are there already stay as they are.
/// When that life has ended (the user was erased, and may have begun anew) none are kept.
///
/// # Errors
/// When the database fails.
pub async fn keep(
    executor: impl PgExecutor<'_>,
    user: UserId,
    life: &Life,
    vectors: &[(Vec<u8>, Vector)],
) -> Result<(), sqlx::Error> {
    let hashes: Vec<&[u8]> = vectors.iter().map(|(hash, _)| hash.as_slice()).collect();
    let embeddings: Vec<Pgvector> = vectors
        .iter()
        .map(|(_, vector)| Pgvector::from(vector.to_vec()))
        .collect();
    sqlx::query(
        "INSERT INTO vectors (user_id, content_hash, embedding)
         SELECT k.user_id, v.content_hash, v.embedding
         FROM unnest($2::bytea[], $3::vector[]) AS v (content_hash, embedding),
              (SELECT user_id FROM user_keys WHERE user_id = $1 AND key_id = $4 FOR KEY SHARE) AS k
         ON CONFLICT DO NOTHING",
    )
    .bind(user.0)
    .bind(hashes)
    .bind(embeddings)
    .bind(life.key().id)
    .execute(executor)
    .await?;
    Ok(())
}

/// Notes that vectors may not be needed any more, see [`sweep`].
///
/// # Errors
/// When the database fails.
pub async fn mark_unused(
    executor: impl PgExecutor<'_>,
    user: UserId,
    hashes: &[Vec<u8>],
) -> Result<(), sqlx::Error> {
    if hashes.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO vectors_to_sweep (user_id, content_hash) SELECT $1, h FROM unnest($2::bytea[]) AS h
         ON CONFLICT DO NOTHING",
    )
    .bind(user.0)
    .bind(hashes)
    .execute(executor)
    .await?;
    Ok(())
}

/// Throws away noted vectors that no message that can be found and no memory, past ones too, has any
/// more, of all embedding models. Only of users of whom nothing is under way: no event that a subscription has yet to read, and
/// no embedding job. What is told again meanwhile is embedded again.
///
/// # Errors
/// When the database fails; then nothing was thrown away.
pub async fn sweep(pool: &PgPool) -> Result<(), sqlx::Error> {
    let waiting: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM vectors_to_sweep)")
        .fetch_one(pool)
        .await?;
    if !waiting {
        return Ok(());
    }
    let mut transaction = transaction::begin(pool).await?;
    // Neither subscription moves while this looks and deletes.
    let behind: Vec<(String, i64)> = sqlx::query_as(
        "SELECT xid::text, position FROM checkpoints WHERE subscription IN ($1, $2) ORDER BY subscription FOR UPDATE",
    )
    .bind(READ_MODELS)
    .bind(RELAY)
    .fetch_all(&mut *transaction)
    .await?;
    let (xids, positions): (Vec<String>, Vec<i64>) = behind.into_iter().unzip();
    let quiet: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
        "SELECT s.user_id, s.content_hash FROM vectors_to_sweep s
         WHERE NOT EXISTS (
             SELECT FROM unnest($1::text[], $2::bigint[]) AS c (xid, position)
             WHERE EXISTS (SELECT FROM events e
                           WHERE e.user_id = s.user_id AND (e.xid, e.position) > (c.xid::xid8, c.position)))
           AND NOT EXISTS (SELECT FROM apalis.jobs j
                           WHERE j.job_type = 'embed' AND j.status IN ('Pending', 'Queued', 'Running', 'Failed')
                             AND convert_from(j.job, 'UTF8')::jsonb ->> 'user' = s.user_id::text)
         LIMIT 10000",
    )
    .bind(xids)
    .bind(positions)
    .fetch_all(&mut *transaction)
    .await?;
    let (users, hashes): (Vec<Uuid>, Vec<Vec<u8>>) = quiet.into_iter().unzip();
    for table in models::tables(&mut *transaction).await? {
        let sql = format!(
            "DELETE FROM {table} v USING unnest($1::uuid[], $2::bytea[]) AS q (user_id, content_hash)
             WHERE v.user_id = q.user_id AND v.content_hash = q.content_hash
               AND NOT EXISTS (SELECT FROM messages m WHERE m.user_id = v.user_id
                               AND m.content_hash = v.content_hash AND m.searchable)
               AND NOT EXISTS (SELECT FROM memories m WHERE m.user_id = v.user_id AND m.content_hash = v.content_hash)
               AND NOT EXISTS (SELECT FROM past_memories m WHERE m.user_id = v.user_id
                               AND m.content_hash = v.content_hash)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(&users)
            .bind(&hashes)
            .execute(&mut *transaction)
            .await?;
    }
    sqlx::query(
        "DELETE FROM vectors_to_sweep s USING unnest($1::uuid[], $2::bytea[]) AS q (user_id, content_hash)
         WHERE s.user_id = q.user_id AND s.content_hash = q.content_hash",
    )
    .bind(&users)
    .bind(&hashes)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}
