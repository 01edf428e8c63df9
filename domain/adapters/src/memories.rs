//! The read model of memories: its table, how events change it, and the queries on it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use companion_domain::consolidation::Known;
use companion_domain::events::{MemoryRecorded, MemoryReinforced, MemorySuperseded, Recorded};
use companion_domain::ids::{ConversationId, MemoryId, UserId};
use companion_domain::memory::{Decay, MemoryKind, Source};
use pgvector::Vector as Pgvector;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::embedder::content_hash;
use crate::lexicon;

/// How many memories near to a statement are weighed against it.
const NEIGHBOURS: i64 = 8;

/// A memory as the table has it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(
    missing_docs,
    reason = "each field is the column and the field of the API of the same name"
)]
pub struct Memory {
    pub memory_id: Uuid,
    pub content: String,
    pub kind: String,
    pub state: String,
    pub importance: f64,
    pub explicit: bool,
    pub subject: Option<String>,
    pub sources: Json<Vec<Source>>,
    pub occurred_at: Option<DateTime<Utc>>,
    pub valid_from: DateTime<Utc>,
    pub valid_to: Option<DateTime<Utc>>,
    pub superseded_by: Option<Uuid>,
    pub last_reinforced_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

/// The columns of [`Memory`].
const COLUMNS: &str = "memory_id, content, kind, state, importance, explicit, subject, sources, occurred_at, valid_from,
     valid_to, superseded_by, last_reinforced_at, created_at, updated_at, version";

impl Memory {
    /// The kind; what the table can't hold counts as a fact.
    pub fn kind(&self) -> MemoryKind {
        MemoryKind::parse(&self.kind).unwrap_or(MemoryKind::Fact)
    }

    /// The importance after decay, 0..=1.
    pub fn importance_now(&self, decay: &Decay, now: DateTime<Utc>) -> f64 {
        decay.importance_now(
            self.importance,
            self.kind(),
            self.explicit,
            self.last_reinforced_at,
            now,
        )
    }
}

/// Takes in a new memory.
///
/// # Errors
/// When the database fails.
pub async fn record(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoryRecorded,
) -> Result<(), sqlx::Error> {
    let added = sqlx::query(
        "INSERT INTO memories (memory_id, user_id, content, content_hash, kind, state, importance, explicit, subject,
             sources, occurred_at, valid_from, last_reinforced_at, created_at, updated_at, version)
         VALUES ($1, $2, $3, $4, $5, 'live', $6, $7, $8, $9, $10, $11, $12, $13, $13, $14)
         ON CONFLICT (memory_id) DO NOTHING",
    )
    .bind(event.memory_id.0)
    .bind(recorded.user.0)
    .bind(&event.content)
    .bind(content_hash(&event.content))
    .bind(event.kind.as_str())
    .bind(event.importance)
    .bind(event.explicit)
    .bind(&event.subject)
    .bind(Json(&event.sources))
    .bind(event.occurred_at)
    .bind(event.valid_from)
    .bind(event.told_at)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() == 1 {
        let source = lexicon::Source::Memory;
        lexicon::index(
            connection,
            recorded.user,
            source,
            event.memory_id.0,
            &event.content,
        )
        .await?;
    }
    Ok(())
}

/// Takes in that a memory was told again.
///
/// # Errors
/// When the database fails.
pub async fn reinforce(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoryReinforced,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE memories SET sources = sources || $3, last_reinforced_at = greatest(last_reinforced_at, $4),
             updated_at = $5, version = $6
         WHERE user_id = $1 AND memory_id = $2 AND version < $6",
    )
    .bind(recorded.user.0)
    .bind(event.memory_id.0)
    .bind(Json(&event.sources))
    .bind(event.reinforced_at)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in that a memory no longer holds.
///
/// # Errors
/// When the database fails.
pub async fn supersede(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemorySuperseded,
) -> Result<(), sqlx::Error> {
    let content: Option<String> = sqlx::query_scalar(
        "UPDATE memories SET state = 'superseded', superseded_by = $3, valid_to = $4, updated_at = $5, version = $6
         WHERE user_id = $1 AND memory_id = $2 AND version < $6 RETURNING content",
    )
    .bind(recorded.user.0)
    .bind(event.memory_id.0)
    .bind(event.superseded_by.map(|id| id.0))
    .bind(event.valid_to)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(content) = content {
        let source = lexicon::Source::Memory;
        lexicon::remove(
            connection,
            recorded.user,
            source,
            event.memory_id.0,
            &content,
        )
        .await?;
    }
    Ok(())
}

/// Notes how far a user's memory stream has been projected.
///
/// # Errors
/// When the database fails.
pub async fn move_stream(
    connection: &mut PgConnection,
    user: UserId,
    version: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO memory_streams AS s (user_id, version) VALUES ($1, $2)
         ON CONFLICT (user_id) DO UPDATE SET version = greatest(s.version, excluded.version)",
    )
    .bind(user.0)
    .bind(version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes how far a conversation has been read for facts.
///
/// # Errors
/// When the database fails.
pub async fn move_cursor(
    connection: &mut PgConnection,
    user: UserId,
    conversation: ConversationId,
    through_version: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO extraction_cursors AS c (conversation_id, user_id, through_version) VALUES ($1, $2, $3)
         ON CONFLICT (conversation_id) DO UPDATE SET through_version = greatest(c.through_version, excluded.through_version)",
    )
    .bind(conversation.0)
    .bind(user.0)
    .bind(through_version)
    .execute(connection)
    .await?;
    Ok(())
}

/// How far a user's memory stream is projected, and how far a conversation has been read for facts.
///
/// # Errors
/// When the database fails.
pub async fn extraction_state(
    executor: impl PgExecutor<'_>,
    user: UserId,
    conversation: ConversationId,
) -> Result<(i64, i64), sqlx::Error> {
    sqlx::query_as(
        "SELECT coalesce((SELECT version FROM memory_streams WHERE user_id = $1), 0),
                coalesce((SELECT through_version FROM extraction_cursors WHERE conversation_id = $2), 0)",
    )
    .bind(user.0)
    .bind(conversation.0)
    .fetch_one(executor)
    .await
}

/// The live memories that a statement may be about: the nearest ones, those of the same slot, those
/// of the same words, and these others.
///
/// # Errors
/// When the database fails.
pub async fn related(
    connection: &mut PgConnection,
    user: UserId,
    statement: &str,
    subject: Option<&str>,
    vector: &[f32],
    and: &[MemoryId],
) -> Result<Vec<Known>, sqlx::Error> {
    // Ids first: a row with its vector is 2 kB, too much to sort for all of a user's memories.
    let mut chosen: Vec<Uuid> = sqlx::query_scalar(
        "SELECT m.memory_id FROM memories m
         JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
         WHERE m.user_id = $1 AND m.state = 'live' ORDER BY v.embedding <=> $2 LIMIT $3",
    )
    .bind(user.0)
    .bind(Pgvector::from(vector.to_vec()))
    .bind(NEIGHBOURS)
    .fetch_all(&mut *connection)
    .await?;
    chosen.extend(and.iter().map(|id| id.0));
    #[derive(sqlx::FromRow)]
    struct Row {
        memory_id: Uuid,
        content: String,
        subject: Option<String>,
        sources: Json<Vec<Source>>,
        last_reinforced_at: DateTime<Utc>,
        embedding: Option<Pgvector>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT m.memory_id, m.content, m.subject, m.sources, m.last_reinforced_at, v.embedding
         FROM memories m LEFT JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
         WHERE m.user_id = $1 AND m.state = 'live'
           AND (m.memory_id = ANY($2) OR m.subject = $3 OR m.content_hash = $4 OR lower(m.content) = lower($5))
         ORDER BY m.memory_id",
    )
    .bind(user.0)
    .bind(chosen)
    .bind(subject)
    .bind(content_hash(statement))
    .bind(statement)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Known {
            id: MemoryId(row.memory_id),
            content: row.content,
            subject: row.subject,
            sources: row.sources.0,
            told_at: row.last_reinforced_at,
            vector: row
                .embedding
                .map(|vector| vector.to_vec())
                .unwrap_or_default(),
        })
        .collect())
}

/// Whether a memory `m` has faded, as [`Memory::importance_now`] computes it; `$2` holds the
/// half-lives by kind and `$3` the floor.
const FADED: &str = "(NOT m.explicit AND m.importance * power(2.0::float8,
         -greatest(extract(epoch FROM now() - m.last_reinforced_at)::float8, 0) / 86400
         / ($2::jsonb ->> m.kind)::float8) < $3)";

/// The half-lives, for [`FADED`].
fn half_lives(decay: &Decay) -> Json<BTreeMap<&'static str, f64>> {
    Json(
        MemoryKind::ALL
            .map(|kind| (kind.as_str(), decay.half_life_days(kind)))
            .into(),
    )
}

/// Which memories to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this kind.
    pub kind: Option<MemoryKind>,
    /// Only with a source in this conversation.
    pub conversation: Option<ConversationId>,
    /// Superseded and faded ones too.
    pub include_inactive: bool,
}

/// A user's memories, newest first, and how many there are in all. A faded one says so.
///
/// # Errors
/// When the database fails.
pub async fn list(
    connection: &mut PgConnection,
    user: UserId,
    decay: &Decay,
    filter: &Filter,
    limit: i64,
    offset: i64,
) -> Result<(Vec<Memory>, i64), sqlx::Error> {
    let matches = format!(
        "m.user_id = $1 AND ($4::text IS NULL OR m.kind = $4)
         AND ($5::uuid IS NULL OR m.sources @> jsonb_build_array(jsonb_build_object('conversation_id', $5::text)))
         AND ($6 OR (m.state = 'live' AND NOT {FADED}))"
    );
    let columns = COLUMNS.replacen(
        " state,",
        &format!(" CASE WHEN m.state = 'live' AND {FADED} THEN 'faded' ELSE m.state END AS state,"),
        1,
    );
    let kind = filter.kind.map(MemoryKind::as_str);
    let conversation = filter.conversation.map(|c| c.0);
    let list = format!(
        "SELECT {columns} FROM memories m WHERE {matches}
         ORDER BY m.created_at DESC, m.version DESC, m.memory_id LIMIT $7 OFFSET $8"
    );
    let memories = sqlx::query_as(AssertSqlSafe(list))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(kind)
        .bind(conversation)
        .bind(filter.include_inactive)
        .bind(limit)
        .bind(offset)
        .fetch_all(&mut *connection)
        .await?;
    let count = format!("SELECT count(*) FROM memories m WHERE {matches}");
    let total = sqlx::query_scalar(AssertSqlSafe(count))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(kind)
        .bind(conversation)
        .bind(filter.include_inactive)
        .fetch_one(connection)
        .await?;
    Ok((memories, total))
}

/// Among which live memories to look for the nearest; faded ones are left out.
pub struct Among<'a> {
    /// Only of these kinds.
    pub kinds: Option<&'a [MemoryKind]>,
    /// Only with a source in this conversation.
    pub conversation: Option<ConversationId>,
    /// What has faded.
    pub decay: &'a Decay,
}

/// The live memories nearest to a vector, with their cosine similarity, and of these others those
/// that are allowed, whatever their distance. A memory without a vector yet comes with `None`.
///
/// # Errors
/// When the database fails.
pub async fn nearest(
    connection: &mut PgConnection,
    user: UserId,
    vector: &[f32],
    among: &Among<'_>,
    limit: i64,
    and: &[Uuid],
) -> Result<Vec<(Memory, Option<f64>)>, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        memory: Memory,
        similarity: Option<f64>,
    }
    // Ids and distances first, rows after: see `related`.
    let sql = format!(
        "WITH live AS (
             SELECT m.memory_id, 1 - (v.embedding <=> $4) AS similarity FROM memories m
             LEFT JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
             WHERE m.user_id = $1 AND m.state = 'live' AND NOT {FADED}
               AND ($5::text[] IS NULL OR m.kind = ANY($5))
               AND ($6::uuid IS NULL OR m.sources @> jsonb_build_array(jsonb_build_object('conversation_id', $6::text)))
         ), chosen AS (
             (SELECT * FROM live ORDER BY similarity DESC NULLS LAST LIMIT $7)
             UNION SELECT * FROM live WHERE memory_id = ANY($8)
         )
         SELECT {COLUMNS}, similarity FROM chosen JOIN memories m USING (memory_id)"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(half_lives(among.decay))
        .bind(among.decay.fade_below)
        .bind(Pgvector::from(vector.to_vec()))
        .bind(
            among
                .kinds
                .map(|kinds| kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>()),
        )
        .bind(among.conversation.map(|c| c.0))
        .bind(limit)
        .bind(and)
        .fetch_all(connection)
        .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.memory, row.similarity))
        .collect())
}
