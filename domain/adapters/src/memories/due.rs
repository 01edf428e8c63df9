//! What the upkeep of memories asks of the read model: which have faded, which replies may have made
//! use of, which are so near to each other that they may be one.

use chrono::{DateTime, Utc};
use companion_domain::ids::{MemoryId, UserId};
use companion_domain::memory::{Decay, MemoryKind, Source};
use companion_domain::merging::{Held, PART_SIMILARITY};
use pgvector::Vector as Pgvector;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};
use uuid::Uuid;

use super::{FADED, half_lives};

/// How many neighbours of a memory are looked at.
const NEIGHBOURS: i64 = 5;

/// The users with live memories whose importance is below the floor.
///
/// # Errors
/// When the database fails.
pub async fn users_with_faded(
    executor: impl PgExecutor<'_>,
    decay: &Decay,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<UserId>, sqlx::Error> {
    let sql = format!(
        "SELECT DISTINCT m.user_id FROM memories m WHERE m.state = 'live' AND {FADED} ORDER BY 1 LIMIT $1"
    );
    let users: Vec<Uuid> = sqlx::query_scalar(AssertSqlSafe(sql))
        .bind(limit)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(now)
        .fetch_all(executor)
        .await?;
    Ok(users.into_iter().map(UserId).collect())
}

/// A user's live memories whose importance is below the floor, each with what is left of it.
///
/// # Errors
/// When the database fails.
pub async fn faded(
    executor: impl PgExecutor<'_>,
    user: UserId,
    decay: &Decay,
    now: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(MemoryId, f64)>, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        memory_id: Uuid,
        kind: String,
        importance: f64,
        last_reinforced_at: DateTime<Utc>,
    }
    let sql = format!(
        "SELECT m.memory_id, m.kind, m.importance, m.last_reinforced_at FROM memories m
         WHERE m.user_id = $1 AND m.state = 'live' AND {FADED} ORDER BY m.memory_id LIMIT $5"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(now)
        .bind(limit)
        .fetch_all(executor)
        .await?;
    let left = |row: &Row| {
        let kind = MemoryKind::parse(&row.kind).unwrap_or(MemoryKind::Fact);
        decay.importance_now(row.importance, kind, false, row.last_reinforced_at, now)
    };
    Ok(rows
        .iter()
        .map(|row| (MemoryId(row.memory_id), left(row)))
        .collect())
}

/// Those of a user's memories among these that decay, each with from when it does.
///
/// # Errors
/// When the database fails.
pub async fn decaying(
    executor: impl PgExecutor<'_>,
    user: UserId,
    memories: &[MemoryId],
) -> Result<Vec<(MemoryId, DateTime<Utc>)>, sqlx::Error> {
    let ids: Vec<Uuid> = memories.iter().map(|memory| memory.0).collect();
    let rows: Vec<(Uuid, DateTime<Utc>)> = sqlx::query_as(
        "SELECT memory_id, last_reinforced_at FROM memories
         WHERE user_id = $1 AND memory_id = ANY($2) AND state = 'live' AND NOT explicit",
    )
    .bind(user.0)
    .bind(ids)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, since)| (MemoryId(id), since))
        .collect())
}

/// The users whose memories changed since they were last looked at for duplicates.
///
/// # Errors
/// When the database fails.
pub async fn users_to_merge(
    executor: impl PgExecutor<'_>,
    limit: i64,
) -> Result<Vec<(UserId, i64)>, sqlx::Error> {
    let rows: Vec<(Uuid, i64)> = sqlx::query_as(
        "SELECT s.user_id, coalesce(m.through_version, 0) FROM memory_streams s LEFT JOIN merged m USING (user_id)
         WHERE s.version > coalesce(m.through_version, 0) ORDER BY s.user_id LIMIT $1",
    )
    .bind(limit)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(user, through)| (UserId(user), through))
        .collect())
}

/// A user's live memories that changed after a version of their memory stream, the first so many of
/// them, with their statements and the versions.
///
/// # Errors
/// When the database fails.
pub async fn changed(
    executor: impl PgExecutor<'_>,
    user: UserId,
    after_version: i64,
    limit: i64,
) -> Result<Vec<(MemoryId, String, i64)>, sqlx::Error> {
    let rows: Vec<(Uuid, String, i64)> = sqlx::query_as(
        "SELECT memory_id, content, version FROM memories
         WHERE user_id = $1 AND state = 'live' AND version > $2
         ORDER BY version FETCH FIRST $3 ROWS WITH TIES",
    )
    .bind(user.0)
    .bind(after_version)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, content, version)| (MemoryId(id), content, version))
        .collect())
}

/// The pairs of a user's live memories that may be one, of which these are one half: near ones, and
/// those of one slot.
///
/// # Errors
/// When the database fails.
pub async fn near(
    connection: &mut PgConnection,
    user: UserId,
    memories: &[MemoryId],
) -> Result<Vec<(Held, Held)>, sqlx::Error> {
    let ids: Vec<Uuid> = memories.iter().map(|memory| memory.0).collect();
    // Ids first: a row with its vector is 2 kB, too much to sort for all of a user's memories.
    let pairs: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "WITH changed AS (
             SELECT memory_id, content_hash, subject FROM memories
             WHERE user_id = $1 AND memory_id = ANY($2) AND state = 'live'
         )
         SELECT c.memory_id, n.memory_id FROM changed c
         JOIN vectors cv ON cv.user_id = $1 AND cv.content_hash = c.content_hash
         CROSS JOIN LATERAL (
             SELECT m.memory_id, v.embedding <=> cv.embedding AS distance FROM memories m
             JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
             WHERE m.user_id = $1 AND m.state = 'live' AND m.memory_id <> c.memory_id
             ORDER BY v.embedding <=> cv.embedding LIMIT $3
         ) AS n
         WHERE n.distance <= $4
         UNION
         SELECT c.memory_id, m.memory_id FROM changed c
         JOIN memories m ON m.user_id = $1 AND m.subject = c.subject AND m.state = 'live' AND m.memory_id <> c.memory_id",
    )
    .bind(user.0)
    .bind(ids)
    .bind(NEIGHBOURS)
    .bind(1.0 - PART_SIMILARITY)
    .fetch_all(&mut *connection)
    .await?;
    let mut wanted: Vec<Uuid> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let held = held(connection, user, &wanted).await?;
    let find = |id: Uuid| held.iter().find(|held| held.id == MemoryId(id)).cloned();
    Ok(pairs
        .into_iter()
        .filter_map(|(a, b)| Some((find(a)?, find(b)?)))
        .collect())
}

async fn held(
    connection: &mut PgConnection,
    user: UserId,
    memories: &[Uuid],
) -> Result<Vec<Held>, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        memory_id: Uuid,
        content: String,
        kind: String,
        importance: f64,
        explicit: bool,
        subject: Option<String>,
        sources: Json<Vec<Source>>,
        occurred_at: Option<DateTime<Utc>>,
        told_at: DateTime<Utc>,
        embedding: Pgvector,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT m.memory_id, m.content, m.kind, m.importance, m.explicit, m.subject, m.sources, m.occurred_at,
                m.told_at, v.embedding
         FROM memories m JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
         WHERE m.user_id = $1 AND m.memory_id = ANY($2) AND m.state = 'live'",
    )
    .bind(user.0)
    .bind(memories)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Held {
            id: MemoryId(row.memory_id),
            kind: MemoryKind::parse(&row.kind).unwrap_or(MemoryKind::Fact),
            content: row.content,
            importance: row.importance,
            explicit: row.explicit,
            subject: row.subject,
            sources: row.sources.0,
            occurred_at: row.occurred_at,
            told_at: row.told_at,
            vector: row.embedding.to_vec(),
        })
        .collect())
}
