//! The read model of memories: what it holds, and the queries on it.

pub mod due;

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use companion_domain::consolidation::Known;
use companion_domain::ids::{ConversationId, MemoryId, UserId};
use companion_domain::memory::{Decay, MemoryKind, Source};
use companion_domain::text;
use pgvector::Vector as Pgvector;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgExecutor, Row};
use uuid::Uuid;

use crate::embedder::content_hash;

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
    pub told_at: DateTime<Utc>,
    pub last_reinforced_at: DateTime<Utc>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub version: i64,
}

/// The columns of [`Memory`].
const COLUMNS: &str = "memory_id, content, kind, state, importance, explicit, subject, sources, occurred_at, valid_from,
     valid_to, superseded_by, told_at, last_reinforced_at, created_at, updated_at, version";

impl Memory {
    /// The kind; what the table can't hold counts as a fact.
    pub fn kind(&self) -> MemoryKind {
        kind_of(&self.kind)
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

/// The kind of that name; what is none counts as a fact.
pub(crate) fn kind_of(name: &str) -> MemoryKind {
    MemoryKind::parse(name).unwrap_or(MemoryKind::Fact)
}

/// The versions of the user's memory stream whose events touched a memory, in order.
///
/// # Errors
/// When the database fails.
pub async fn history(
    executor: impl PgExecutor<'_>,
    user: UserId,
    memory: MemoryId,
) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT version FROM memory_events WHERE user_id = $1 AND memory_id = $2 ORDER BY version",
    )
    .bind(user.0)
    .bind(memory.0)
    .fetch_all(executor)
    .await
}

/// How far the memory stream of the user `$1` is projected. What a former life appended can't be read any
/// more, and counts as projected: what is new is numbered after it.
macro_rules! projected_version {
    () => {
        "coalesce((SELECT version FROM memory_streams WHERE user_id = $1),
                  (SELECT e.version FROM events e WHERE e.stream_id = 'memory-' || $1::text
                   AND NOT EXISTS (SELECT FROM user_keys k WHERE k.user_id = e.user_id AND k.key_id = e.key_id)
                   ORDER BY e.version DESC LIMIT 1), 0)"
    };
}

/// The version of a user's memory stream up to which their memories are projected.
///
/// # Errors
/// When the database fails.
pub async fn stream_version(
    executor: impl PgExecutor<'_>,
    user: UserId,
) -> Result<i64, sqlx::Error> {
    let version: Option<i64> = sqlx::query_scalar(concat!("SELECT ", projected_version!()))
        .bind(user.0)
        .fetch_one(executor)
        .await?;
    Ok(version.unwrap_or(0))
}

/// A memory that rests on a certain conversation, among others maybe.
#[derive(Debug, Clone, PartialEq)]
pub struct Supported {
    /// The memory.
    pub id: MemoryId,
    /// All that it rests on.
    pub sources: Vec<Source>,
    /// Whether it is live, and not faded.
    pub live: bool,
}

/// The memories, of any state, that rest on a conversation.
///
/// # Errors
/// When the database fails.
pub async fn resting_on(
    executor: impl PgExecutor<'_>,
    user: UserId,
    decay: &Decay,
    conversation: ConversationId,
) -> Result<Vec<Supported>, sqlx::Error> {
    let sql = format!(
        "SELECT m.memory_id, m.sources, m.state = 'live' AND NOT {FADED} AS live FROM memories m
         WHERE m.user_id = $1 AND m.sources @> jsonb_build_array(jsonb_build_object('conversation_id', $5::text))
         ORDER BY m.memory_id"
    );
    let rows: Vec<(Uuid, Json<Vec<Source>>, bool)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(Utc::now())
        .bind(conversation.to_string())
        .fetch_all(executor)
        .await?;
    let supported = |(id, sources, live): (Uuid, Json<Vec<Source>>, bool)| Supported {
        id: MemoryId(id),
        sources: sources.0,
        live,
    };
    Ok(rows.into_iter().map(supported).collect())
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
        concat!(
            "SELECT ", projected_version!(), ",
                coalesce((SELECT through_version FROM extraction_cursors WHERE conversation_id = $2), 0)"
        ),
    )
    .bind(user.0)
    .bind(conversation.0)
    .fetch_one(executor)
    .await
}

/// A statement, or a message, whose memories are looked for.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The text.
    pub statement: &'a str,
    /// The slot that it fills.
    pub subject: Option<&'a str>,
    /// Its vector.
    pub vector: &'a [f32],
    /// Memories that are meant in any case, also those that hold no longer.
    pub and: &'a [MemoryId],
}

/// The memories that statements may be about: the nearest ones, those of the same slot, those of the
/// same words, and those that are named. But for the nearest also those that hold no longer.
///
/// # Errors
/// When the database fails.
pub async fn related(
    connection: &mut PgConnection,
    user: UserId,
    asked: &[About<'_>],
) -> Result<Vec<Known>, sqlx::Error> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    #[derive(sqlx::FromRow)]
    struct Related {
        memory_id: Uuid,
        content: String,
        kind: String,
        state: String,
        importance: f64,
        explicit: bool,
        subject: Option<String>,
        sources: Json<Vec<Source>>,
        occurred_at: Option<DateTime<Utc>>,
        told_at: DateTime<Utc>,
        embedding: Option<Pgvector>,
    }
    // The vectors of a user are read once for all that is asked.
    let rows: Vec<Related> = sqlx::query_as(
        "WITH live AS MATERIALIZED (
             SELECT m.memory_id, v.embedding FROM memories m
             JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
             WHERE m.user_id = $1 AND m.state <> 'superseded'
         ), near AS (
             SELECT DISTINCT n.memory_id FROM unnest($2::vector[]) AS a (vector)
             CROSS JOIN LATERAL (SELECT memory_id FROM live ORDER BY embedding <=> a.vector LIMIT $3) AS n
         )
         SELECT m.memory_id, m.content, m.kind, m.state, m.importance, m.explicit, m.subject, m.sources,
                m.occurred_at, m.told_at, v.embedding
         FROM memories m LEFT JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
         WHERE m.user_id = $1
           AND (m.memory_id = ANY($4) OR m.content_hash = ANY($5) OR m.subject = ANY($6)
                OR m.state <> 'superseded' AND (m.memory_id IN (SELECT memory_id FROM near)
                                                OR lower(m.content) = ANY($7)))
         ORDER BY m.memory_id",
    )
    .bind(user.0)
    .bind(
        asked
            .iter()
            .map(|about| Pgvector::from(about.vector.to_vec()))
            .collect::<Vec<_>>(),
    )
    .bind(NEIGHBOURS)
    .bind(
        asked
            .iter()
            .flat_map(|about| about.and.iter().map(|id| id.0))
            .collect::<Vec<_>>(),
    )
    .bind(
        asked
            .iter()
            .map(|about| content_hash(about.statement))
            .collect::<Vec<_>>(),
    )
    .bind(
        asked
            .iter()
            .filter_map(|about| about.subject)
            .collect::<Vec<_>>(),
    )
    .bind(
        asked
            .iter()
            .map(|about| about.statement.to_lowercase())
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Known {
            id: MemoryId(row.memory_id),
            content: row.content,
            kind: MemoryKind::parse(&row.kind).unwrap_or(MemoryKind::Fact),
            importance: row.importance,
            explicit: row.explicit,
            subject: row.subject,
            sources: row.sources.0,
            occurred_at: row.occurred_at,
            told_at: row.told_at,
            closed: row.state == "superseded",
            vector: row
                .embedding
                .map(|vector| vector.to_vec())
                .unwrap_or_default(),
        })
        .collect())
}

/// Whether a memory `m` has faded, as [`Memory::importance_now`] computes it; `$2` holds the
/// half-lives by kind, `$3` the floor and `$4` the time. The floor grows instead of the importance
/// shrinking, and not for ever: to PostgreSQL a result that is too small or too great is an error.
const FADED: &str = "(NOT m.explicit AND m.importance < $3 * power(2.0::float8,
         least(greatest(extract(epoch FROM $4 - m.last_reinforced_at)::float8, 0) / 86400
               / ($2::jsonb ->> m.kind)::float8, 1000)))";

/// The memories of a user `$1` as they were believed at the time `$4`.
pub(crate) fn then_believed() -> String {
    format!(
        "(SELECT user_id, content_hash, {COLUMNS} FROM memories WHERE user_id = $1 AND updated_at <= $4
          UNION ALL SELECT user_id, content_hash, {COLUMNS} FROM past_memories
                    WHERE user_id = $1 AND updated_at <= $4 AND until > $4)"
    )
}

/// Where to look: at what is believed, or at what was.
fn table(as_of: Option<DateTime<Utc>>) -> String {
    match as_of {
        None => "memories".to_owned(),
        Some(_) => then_believed(),
    }
}

/// The columns, with the state `faded` where it applies.
fn columns() -> String {
    let state =
        format!(" CASE WHEN m.state = 'live' AND {FADED} THEN 'faded' ELSE m.state END AS state,");
    COLUMNS.replacen(" state,", &state, 1)
}

/// The half-lives, for [`FADED`].
fn half_lives(decay: &Decay) -> Json<BTreeMap<&'static str, f64>> {
    Json(
        MemoryKind::ALL
            .map(|kind| (kind.as_str(), decay.half_life_days(kind)))
            .into(),
    )
}

/// One of a user's memories. A faded one says so.
///
/// # Errors
/// When the database fails.
pub async fn get(
    executor: impl PgExecutor<'_>,
    user: UserId,
    decay: &Decay,
    memory: MemoryId,
) -> Result<Option<Memory>, sqlx::Error> {
    let columns = columns();
    let sql = format!("SELECT {columns} FROM memories m WHERE m.user_id = $1 AND m.memory_id = $5");
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(Utc::now())
        .bind(memory.0)
        .fetch_optional(executor)
        .await
}

/// Those of a user's memories among these, of any state; with `as_of`, as they were believed then. A faded
/// one says so.
///
/// # Errors
/// When the database fails.
pub async fn some(
    executor: impl PgExecutor<'_>,
    user: UserId,
    decay: &Decay,
    memories: &[MemoryId],
    as_of: Option<DateTime<Utc>>,
) -> Result<HashMap<MemoryId, Memory>, sqlx::Error> {
    let (table, columns) = (table(as_of), columns());
    let sql =
        format!("SELECT {columns} FROM {table} m WHERE m.user_id = $1 AND m.memory_id = ANY($5)");
    let ids: Vec<Uuid> = memories.iter().map(|id| id.0).collect();
    let rows: Vec<Memory> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(as_of.unwrap_or_else(Utc::now))
        .bind(ids)
        .fetch_all(executor)
        .await?;
    Ok(rows
        .into_iter()
        .map(|memory| (MemoryId(memory.memory_id), memory))
        .collect())
}

/// What two memories that say the same have in common: the hash of their normal form.
pub fn form_hash(content: &str) -> Vec<u8> {
    content_hash(&text::normal_form(content))
}

/// The texts of a user's live memories, faded or not.
///
/// # Errors
/// When the database fails.
pub async fn live(
    executor: impl PgExecutor<'_>,
    user: UserId,
) -> Result<Vec<(Uuid, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT memory_id, content FROM memories WHERE user_id = $1 AND state IN ('live', 'faded')",
    )
    .bind(user.0)
    .fetch_all(executor)
    .await
}

/// The live memory, faded or not, that says the same as a statement. A faded one says so.
///
/// # Errors
/// When the database fails.
pub async fn same(
    connection: &mut PgConnection,
    user: UserId,
    decay: &Decay,
    statement: &str,
) -> Result<Option<Memory>, sqlx::Error> {
    let columns = columns();
    let sql = format!(
        "SELECT {columns} FROM memories m WHERE m.user_id = $1 AND m.state IN ('live', 'faded') AND m.form_hash = $5
         ORDER BY m.created_at, m.memory_id"
    );
    let rows: Vec<Memory> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(Utc::now())
        .bind(form_hash(statement))
        .fetch_all(connection)
        .await?;
    let form = text::normal_form(statement);
    let says_it = |memory: &Memory| text::normal_form(&memory.content) == form;
    Ok(rows.into_iter().find(says_it))
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
    /// As they were believed then.
    pub as_of: Option<DateTime<Utc>>,
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
    let (table, columns) = (table(filter.as_of), columns());
    // The total is asked for beside the page, and also when the page is empty.
    let sql = format!(
        "WITH matching AS (
             SELECT {columns} FROM {table} m
             WHERE m.user_id = $1 AND ($5::text IS NULL OR m.kind = $5)
               AND ($6::text IS NULL OR m.sources @> jsonb_build_array(jsonb_build_object('conversation_id', $6)))
               AND ($7 OR (m.state = 'live' AND NOT {FADED}))
         )
         SELECT page.*, t.total FROM (SELECT count(*) AS total FROM matching) AS t
         LEFT JOIN LATERAL (
             SELECT * FROM matching ORDER BY created_at DESC, version DESC, memory_id LIMIT $8 OFFSET $9
         ) AS page ON true
         ORDER BY page.created_at DESC, page.version DESC, page.memory_id"
    );
    let rows: Vec<sqlx::postgres::PgRow> = sqlx::query(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(half_lives(decay))
        .bind(decay.fade_below)
        .bind(filter.as_of.unwrap_or_else(Utc::now))
        .bind(filter.kind.map(MemoryKind::as_str))
        .bind(filter.conversation.map(|c| c.to_string()))
        .bind(filter.include_inactive)
        .bind(limit)
        .bind(offset)
        .fetch_all(connection)
        .await?;
    let total = rows.first().map_or(Ok(0), |row| row.try_get("total"))?;
    let mut memories = Vec::with_capacity(rows.len());
    for row in rows {
        if row.try_get::<Option<Uuid>, _>("memory_id")?.is_some() {
            memories.push(Memory::from_row(&row)?);
        }
    }
    Ok((memories, total))
}

/// The live memories among these, as they are or were at a time; in no order.
///
/// # Errors
/// When the database fails.
pub async fn findable(
    executor: impl PgExecutor<'_>,
    user: UserId,
    as_of: Option<DateTime<Utc>>,
    ids: &[Uuid],
) -> Result<Vec<Memory>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let table = table(as_of).replace("$4", "$3");
    let sql = format!(
        "SELECT {COLUMNS} FROM {table} m
         WHERE m.user_id = $1 AND m.memory_id = ANY($2) AND m.state = 'live'
           AND $3::timestamptz IS NOT NULL"
    );
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(ids)
        .bind(as_of.unwrap_or_else(Utc::now))
        .fetch_all(executor)
        .await
}
