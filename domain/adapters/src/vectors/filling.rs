//! Makes the vectors that a model lacks. What needs one is seen in the read models, so that nothing that was
//! forgotten comes back; who may need some is seen in the log.

use std::sync::{Mutex, PoisonError};

use companion_domain::ids::UserId;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use pgvector::Vector as Pgvector;
use sqlx::{AssertSqlSafe, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::VectorError;
use super::models::{self, EmbeddingModel};
use crate::embedder::{Embedder, Vector};
use crate::log::subscription::{self, Checkpoint, READ_MODELS};

/// Texts that are embedded and kept at once.
const TOGETHER: usize = 128;
/// Users of whom vectors are made at the same time.
const USERS: usize = 3;
/// Hashes that are looked up at once.
const HASHES: i64 = 4_096;

/// What a user `$1` has that is found by its meaning, with `content_hash` and `content`.
const FINDABLE: &str = "(
    SELECT content_hash, content FROM messages WHERE user_id = $1 AND searchable AND content_hash IS NOT NULL
    UNION ALL SELECT content_hash, content FROM memories WHERE user_id = $1
    UNION ALL SELECT content_hash, content FROM past_memories WHERE user_id = $1)";

/// The rows of vectors `v` of a user `$1` that something still needs.
const NEEDED: &str = "(EXISTS (SELECT FROM messages m WHERE m.user_id = $1 AND m.content_hash = v.content_hash AND m.searchable)
     OR EXISTS (SELECT FROM memories m WHERE m.user_id = $1 AND m.content_hash = v.content_hash)
     OR EXISTS (SELECT FROM past_memories m WHERE m.user_id = $1 AND m.content_hash = v.content_hash))";

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// How many vectors were made.
    pub made: u64,
    /// Whether it was told to stop before its end.
    pub stopped: bool,
}

/// How many texts of all users have no vector of a model, or how many there are: how much there is to do.
///
/// # Errors
/// When the database fails.
pub async fn left(pool: &PgPool, model: Option<&EmbeddingModel>) -> Result<i64, sqlx::Error> {
    let lacking = model.map(|model| {
        let table = model.table();
        format!(
            "WHERE NOT EXISTS (SELECT FROM {table} v WHERE v.user_id = t.user_id AND v.content_hash = t.content_hash)"
        )
    });
    let sql = format!(
        "SELECT count(*) FROM (
             SELECT user_id, content_hash FROM messages WHERE searchable AND content_hash IS NOT NULL AND content <> ''
             UNION SELECT user_id, content_hash FROM memories
             UNION SELECT user_id, content_hash FROM past_memories) AS t {}",
        lacking.unwrap_or_default()
    );
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(pool).await
}

/// Makes what a model lacks, up to what is projected now: of all users, or after the first time of those of
/// whom something was appended since. `made` is told of every portion.
///
/// # Errors
/// When the database or the model fails; what was made is kept.
pub async fn catch_up(
    pool: &PgPool,
    model: &EmbeddingModel,
    embedder: &Embedder,
    stop: &CancellationToken,
    made: impl FnMut(u64) + Send,
) -> Result<Round, VectorError> {
    let from = models::whole_up_to(pool, model).await?;
    let to = subscription::checkpoint(pool, READ_MODELS).await?;
    let filling = Filling {
        pool,
        model,
        embedder,
        stop,
        made: Mutex::new(made),
    };
    let users = users(pool, from, to).await?;
    // While the model works for one, the database does for another.
    let mut rounds = stream::iter(users)
        .map(|user| filling.fill(user))
        .buffer_unordered(USERS);
    let mut all = Round::default();
    while let Some(round) = rounds.try_next().await? {
        all.made += round.made;
        all.stopped |= round.stopped;
    }
    drop(rounds);
    if !all.stopped {
        let mut connection = pool.acquire().await?;
        models::note_whole(&mut connection, model, to).await?;
    }
    Ok(all)
}

/// What a round works with.
struct Filling<'a, M> {
    pool: &'a PgPool,
    model: &'a EmbeddingModel,
    embedder: &'a Embedder,
    stop: &'a CancellationToken,
    made: Mutex<M>,
}

impl<M: FnMut(u64) + Send> Filling<'_, M> {
    /// Makes what is lacking of a user.
    async fn fill(&self, user: UserId) -> Result<Round, VectorError> {
        let (pool, model) = (self.pool, self.model);
        let (mut round, mut after) = (Round::default(), Vec::new());
        loop {
            if self.stop.is_cancelled() {
                round.stopped = true;
                return Ok(round);
            }
            let hashes = lacking(pool, model, user, &after).await?;
            let Some(last) = hashes.last() else {
                return Ok(round);
            };
            after.clone_from(last);
            for some in hashes.chunks(TOGETHER) {
                if self.stop.is_cancelled() {
                    round.stopped = true;
                    return Ok(round);
                }
                // Another process may have made some of them meanwhile, or the user may have forgotten them.
                let mut lacking = texts(pool, model, user, some).await?;
                // Those that are embedded in one go are all as much work as the longest.
                lacking.sort_unstable_by_key(|(_, text)| text.len());
                let (hashes, texts): (Vec<_>, Vec<_>) = lacking.into_iter().unzip();
                let count = texts.len() as u64;
                let vectors = self.embedder.embed(texts).await?;
                keep(pool, model, user, &hashes, &vectors).await?;
                round.made += count;
                let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
                made(count);
            }
        }
    }
}

/// Of whom something was appended between two places of the log; from its beginning: everybody.
async fn users(
    pool: &PgPool,
    from: Checkpoint,
    to: Checkpoint,
) -> Result<Vec<UserId>, sqlx::Error> {
    let users: Vec<Uuid> = if from == Checkpoint::default() {
        let everybody = "SELECT user_id FROM user_keys ORDER BY user_id";
        sqlx::query_scalar(everybody).fetch_all(pool).await?
    } else {
        sqlx::query_scalar(
            "SELECT DISTINCT e.user_id FROM events e
             WHERE (e.xid, e.position) > ($1::text::xid8, $2) AND (e.xid, e.position) <= ($3::text::xid8, $4)",
        )
        .bind(from.xid.to_string())
        .bind(from.position)
        .bind(to.xid.to_string())
        .bind(to.position)
        .fetch_all(pool)
        .await?
    };
    Ok(users.into_iter().map(UserId).collect())
}

/// The next hashes of a user's texts that have no vector, in order, from after one on. Where an index has
/// them, no text is read for it.
async fn lacking(
    pool: &PgPool,
    model: &EmbeddingModel,
    user: UserId,
    after: &[u8],
) -> Result<Vec<Vec<u8>>, sqlx::Error> {
    let sql = format!(
        "SELECT DISTINCT t.content_hash FROM {FINDABLE} AS t
         WHERE t.content_hash > $2
           AND NOT EXISTS (SELECT FROM {} v WHERE v.user_id = $1 AND v.content_hash = t.content_hash)
         ORDER BY t.content_hash LIMIT $3",
        model.table()
    );
    sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(after)
        .bind(HASHES)
        .fetch_all(pool)
        .await
}

/// The texts of these hashes that are there and have no vector.
async fn texts(
    pool: &PgPool,
    model: &EmbeddingModel,
    user: UserId,
    hashes: &[Vec<u8>],
) -> Result<Vec<(Vec<u8>, String)>, sqlx::Error> {
    let sql = format!(
        "SELECT DISTINCT ON (t.content_hash) t.content_hash, t.content FROM {FINDABLE} AS t
         WHERE t.content_hash = ANY($2) AND t.content <> ''
           AND NOT EXISTS (SELECT FROM {} v WHERE v.user_id = $1 AND v.content_hash = t.content_hash)",
        model.table()
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(hashes)
        .fetch_all(pool)
        .await
}

/// Keeps vectors that are needed still. What is forgotten at this moment is thrown away by whoever comes
/// second, this or the sweep.
async fn keep(
    pool: &PgPool,
    model: &EmbeddingModel,
    user: UserId,
    hashes: &[Vec<u8>],
    vectors: &[Vector],
) -> Result<(), sqlx::Error> {
    let table = model.table();
    let embeddings: Vec<Pgvector> = vectors
        .iter()
        .map(|vector| Pgvector::from(vector.to_vec()))
        .collect();
    let sql = format!(
        "INSERT INTO {table} (user_id, content_hash, embedding)
         SELECT k.user_id, v.content_hash, v.embedding
         FROM unnest($2::bytea[], $3::vector[]) AS v (content_hash, embedding),
              (SELECT user_id FROM user_keys WHERE user_id = $1 FOR KEY SHARE) AS k
         ON CONFLICT DO NOTHING"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(hashes)
        .bind(embeddings)
        .execute(pool)
        .await?;
    let sql = format!(
        "DELETE FROM {table} v WHERE v.user_id = $1 AND v.content_hash = ANY($2) AND NOT {NEEDED}"
    );
    sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(hashes)
        .execute(pool)
        .await?;
    Ok(())
}
