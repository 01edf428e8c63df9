//! How events change the read model of memories, their past states, and how far conversations have
//! been read for them.

use chrono::{DateTime, Utc};
use companion_domain::events::{
    MemoriesCleared, MemoriesRecalled, MemoryFaded, MemoryForgotten, MemoryRecorded,
    MemoryReinforced, MemoryRevised, MemorySuperseded, Recorded,
};
use companion_domain::ids::{ConversationId, MemoryId, UserId};
use companion_domain::memory::MemoryKind;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use crate::embedder::content_hash;
use crate::memories::form_hash;
use crate::vectors;

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
             sources, occurred_at, valid_from, told_at, last_reinforced_at, created_at, updated_at, version, form_hash,
             search_version)
         VALUES ($1, $2, $3, $4, $5, 'live', $6, $7, $8, $9, $10, $11, $12, $12, $13, $13, $14, $15,
             (SELECT version FROM search_state WHERE user_id = $2))
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
    .bind(form_hash(&event.content))
    .execute(&mut *connection)
    .await?;
    if added.rows_affected() == 1 {
        note_event(connection, recorded, &[event.memory_id.0]).await?;
    }
    Ok(())
}

/// Takes in that a memory was told again: it is live, also when it had faded.
///
/// # Errors
/// When the database fails.
pub async fn reinforce(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoryReinforced,
) -> Result<(), sqlx::Error> {
    keep_past(connection, recorded, &[event.memory_id.0]).await?;
    sqlx::query(
        "UPDATE memories SET state = CASE state WHEN 'faded' THEN 'live' ELSE state END, sources = sources || $3,
             told_at = greatest(told_at, $4), last_reinforced_at = greatest(last_reinforced_at, $4),
             updated_at = $5, version = $6, search_version = (SELECT version FROM search_state WHERE user_id = $1)
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
    keep_past(connection, recorded, &[event.memory_id.0]).await?;
    sqlx::query(
        "UPDATE memories SET state = 'superseded', superseded_by = $3, valid_to = $4, updated_at = $5, version = $6,
             search_version = (SELECT version FROM search_state WHERE user_id = $1)
         WHERE user_id = $1 AND memory_id = $2 AND version < $6",
    )
    .bind(recorded.user.0)
    .bind(event.memory_id.0)
    .bind(event.superseded_by.map(|id| id.0))
    .bind(event.valid_to)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in that the importance of a memory has sunk below the floor: it is not
/// found any more.
///
/// # Errors
/// When the database fails.
pub async fn fade(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoryFaded,
) -> Result<(), sqlx::Error> {
    keep_past(connection, recorded, &[event.memory_id.0]).await?;
    sqlx::query(
        "UPDATE memories SET state = 'faded', updated_at = $3, version = $4,
             search_version = (SELECT version FROM search_state WHERE user_id = $1)
         WHERE user_id = $1 AND memory_id = $2 AND version < $4 AND state = 'live'",
    )
    .bind(recorded.user.0)
    .bind(event.memory_id.0)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in that replies made use of memories. Their version moves, as it does with every event of
/// their history: what was believed at a time goes by it.
///
/// # Errors
/// When the database fails.
pub async fn reuse(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoriesRecalled,
) -> Result<(), sqlx::Error> {
    let ids: Vec<Uuid> = event.memories.iter().map(|used| used.memory_id.0).collect();
    let times: Vec<DateTime<Utc>> = event.memories.iter().map(|used| used.last_at).collect();
    keep_past(connection, recorded, &ids).await?;
    sqlx::query(
        "UPDATE memories m SET last_reinforced_at = greatest(m.last_reinforced_at, used.last_at),
             updated_at = $4, version = $5, search_version = (SELECT version FROM search_state WHERE user_id = $1)
         FROM unnest($2::uuid[], $3::timestamptz[]) AS used (memory_id, last_at)
         WHERE m.user_id = $1 AND m.memory_id = used.memory_id AND m.version < $5",
    )
    .bind(recorded.user.0)
    .bind(ids)
    .bind(times)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in a correction by the user, or that a message says more of the same fact: the memory is live,
/// also when it had faded.
///
/// # Errors
/// When the database fails.
pub async fn revise(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoryRevised,
) -> Result<(), sqlx::Error> {
    keep_past(connection, recorded, &[event.memory_id.0]).await?;
    sqlx::query(
        "UPDATE memories SET content = coalesce($3, content), content_hash = coalesce($4, content_hash),
             form_hash = coalesce($14, form_hash), kind = coalesce($5, kind), importance = coalesce($6, importance),
             state = CASE state WHEN 'faded' THEN 'live' ELSE state END,
             subject = CASE WHEN $3 IS NULL THEN subject ELSE $10 END, explicit = coalesce($11, explicit),
             occurred_at = coalesce($12, occurred_at), sources = sources || $13,
             told_at = greatest(told_at, $7), last_reinforced_at = greatest(last_reinforced_at, $7),
             updated_at = $8, version = $9, search_version = (SELECT version FROM search_state WHERE user_id = $1)
         WHERE user_id = $1 AND memory_id = $2 AND version < $9",
    )
    .bind(recorded.user.0)
    .bind(event.memory_id.0)
    .bind(&event.content)
    .bind(event.content.as_deref().map(content_hash))
    .bind(event.kind.map(MemoryKind::as_str))
    .bind(event.importance)
    .bind(event.revised_at)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .bind(&event.subject)
    .bind(event.explicit)
    .bind(event.occurred_at)
    .bind(Json(&event.sources))
    .bind(event.content.as_deref().map(form_hash))
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in that the user asked to forget a memory.
///
/// # Errors
/// When the database fails.
pub async fn forget(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoryForgotten,
) -> Result<(), sqlx::Error> {
    forget_all(connection, recorded.user, &[event.memory_id.0]).await
}

/// Takes in that the user asked to forget what came from a conversation.
///
/// # Errors
/// When the database fails.
pub async fn clear(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &MemoriesCleared,
) -> Result<(), sqlx::Error> {
    let ids = |memories: &[MemoryId]| memories.iter().map(|id| id.0).collect::<Vec<Uuid>>();
    forget_all(connection, recorded.user, &ids(&event.forgotten)).await?;
    let unsupported = ids(&event.unsupported);
    keep_past(connection, recorded, &unsupported).await?;
    // What once supported them is not told any more, in no past state either.
    for table in ["memories", "past_memories"] {
        let sql = format!(
            "UPDATE {table} SET sources = (
                 SELECT coalesce(jsonb_agg(s ORDER BY n), '[]') FROM jsonb_array_elements(sources) WITH ORDINALITY AS e (s, n)
                 WHERE s ->> 'conversation_id' <> $3::text)
             WHERE user_id = $1 AND memory_id = ANY($2)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(recorded.user.0)
            .bind(&unsupported)
            .bind(event.conversation_id.to_string())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query(
        "UPDATE memories SET updated_at = $3, version = $4, search_version = (SELECT version FROM search_state WHERE user_id = $1)
         WHERE user_id = $1 AND memory_id = ANY($2) AND version < $4",
    )
    .bind(recorded.user.0)
    .bind(&unsupported)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(&mut *connection)
    .await?;
    move_cursor(
        connection,
        recorded.user,
        event.conversation_id,
        event.through_version,
    )
    .await
}

/// Takes memories, all that they ever were, and what was only needed to find them, out of the tables.
async fn forget_all(
    connection: &mut PgConnection,
    user: UserId,
    memories: &[Uuid],
) -> Result<(), sqlx::Error> {
    if memories.is_empty() {
        return Ok(());
    }
    let hashes: Vec<Vec<u8>> = sqlx::query_scalar(
        "WITH past AS (
             DELETE FROM past_memories WHERE user_id = $1 AND memory_id = ANY($2) RETURNING content_hash
         ), present AS (
             DELETE FROM memories WHERE user_id = $1 AND memory_id = ANY($2) RETURNING content_hash
         ), events AS (
             DELETE FROM memory_events WHERE user_id = $1 AND memory_id = ANY($2)
         )
         SELECT content_hash FROM past UNION SELECT content_hash FROM present",
    )
    .bind(user.0)
    .bind(memories)
    .fetch_all(&mut *connection)
    .await?;
    for table in ["memories", "past_memories"] {
        let sql = format!(
            "UPDATE {table} SET superseded_by = NULL WHERE user_id = $1 AND superseded_by = ANY($2)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(user.0)
            .bind(memories)
            .execute(&mut *connection)
            .await?;
    }
    vectors::mark_unused(connection, user, &hashes).await
}

/// Keeps what memories were until this event, which is about to change them.
async fn keep_past(
    connection: &mut PgConnection,
    recorded: &Recorded,
    memories: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO past_memories (memory_id, user_id, content, content_hash, kind, state, importance, explicit, subject, sources, occurred_at,
             valid_from, valid_to, superseded_by, told_at, last_reinforced_at, created_at, updated_at, version, until)
         SELECT memory_id, user_id, content, content_hash, kind, state, importance, explicit, subject, sources, occurred_at,
             valid_from, valid_to, superseded_by, told_at, last_reinforced_at, created_at, updated_at, version, $3
         FROM memories m
         WHERE m.user_id = $1 AND m.memory_id = ANY($2) AND m.version < $4
         ON CONFLICT DO NOTHING",
    )
    .bind(recorded.user.0)
    .bind(memories)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(&mut *connection)
    .await?;
    note_event(connection, recorded, memories).await
}

/// Notes that an event touched memories.
async fn note_event(
    connection: &mut PgConnection,
    recorded: &Recorded,
    memories: &[Uuid],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO memory_events (memory_id, version, user_id)
         SELECT m.memory_id, $3, m.user_id FROM memories m WHERE m.user_id = $1 AND m.memory_id = ANY($2)
         ON CONFLICT DO NOTHING",
    )
    .bind(recorded.user.0)
    .bind(memories)
    .bind(recorded.version)
    .execute(connection)
    .await?;
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
