//! The read models of conversations and messages: their tables, how events change them, and the
//! queries on them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use companion_domain::conversation::Role;
use companion_domain::events::{
    FailureReason, MemoriesCleared, MessagesImported, RecalledMemory, Recorded, ReplyCancelled,
    ReplyCompleted, ReplyFailed, ReplyRequested, ReplyStarted, UserMessageReceived,
};
use companion_domain::ids::{ConversationId, MessageId, ReplyId, UserId};
use companion_domain::text;
use pgvector::Vector as Pgvector;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::embedder::{content_hash, message_text};
use crate::lexicon::{self, Source};
use crate::vectors;

/// The most characters of a title made of a first message.
const TITLE: usize = 60;

/// A conversation as the table has it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(
    missing_docs,
    reason = "each field is the field of the API of the same name"
)]
pub struct ConversationRow {
    pub conversation_id: Uuid,
    pub title: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub message_count: i64,
}

/// A message as the table has it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(
    missing_docs,
    reason = "each field is the field of the API of the same name"
)]
pub struct MessageRow {
    pub message_id: Uuid,
    pub conversation_id: Uuid,
    pub role: String,
    pub name: Option<String>,
    pub content: String,
    pub created_at: DateTime<Utc>,
    pub external_id: Option<String>,
    pub reply_status: Option<String>,
    pub recalled: Option<Json<Vec<RecalledMemory>>>,
}

/// Takes in the beginning of a conversation.
///
/// # Errors
/// When the database fails.
pub async fn begin(
    connection: &mut PgConnection,
    recorded: &Recorded,
    conversation: ConversationId,
    title: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO conversations (conversation_id, user_id, title, created_at, updated_at, version)
         VALUES ($1, $2, $3, $4, $4, $5) ON CONFLICT DO NOTHING",
    )
    .bind(conversation.0)
    .bind(recorded.user.0)
    .bind(title)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in a message of the user; the reply that it waits for is running from now on.
///
/// # Errors
/// When the database fails.
pub async fn receive(
    connection: &mut PgConnection,
    recorded: &Recorded,
    conversation: ConversationId,
    event: &UserMessageReceived,
) -> Result<(), sqlx::Error> {
    let moved = sqlx::query(
        "UPDATE conversations SET updated_at = $2, version = $3, message_count = message_count + 2,
             title = coalesce(title, $4)
         WHERE conversation_id = $1 AND version < $3",
    )
    .bind(conversation.0)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .bind(text::excerpt(&event.content, TITLE))
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO messages (message_id, conversation_id, user_id, version, ordinal, role, content, content_hash,
             created_at, recorded_at, reply_status, lease)
         VALUES ($1, $3, $4, $5, 0, 'user', $6, $7, $8, $8, NULL, NULL),
                ($2, $3, $4, $5, 1, 'assistant', '', NULL, $8, $8, 'running', $9)
         ON CONFLICT DO NOTHING",
    )
    .bind(event.message_id.0)
    .bind(event.reply_id.0)
    .bind(conversation.0)
    .bind(recorded.user.0)
    .bind(recorded.version)
    .bind(&event.content)
    .bind(content_hash(&message_text(Role::User, None, &event.content)))
    .bind(recorded.recorded_at)
    .bind(event.lease)
    .execute(&mut *connection)
    .await?;
    lexicon::index(
        connection,
        recorded.user,
        Source::Message,
        event.message_id.0,
        &event.content,
    )
    .await
}

/// Takes in that a reply was asked for again: it is running from now on.
///
/// # Errors
/// When the database fails.
pub async fn request_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    conversation: ConversationId,
    event: &ReplyRequested,
) -> Result<(), sqlx::Error> {
    let moved = sqlx::query(
        "UPDATE conversations SET updated_at = $2, version = $3, message_count = message_count + 1
         WHERE conversation_id = $1 AND version < $3",
    )
    .bind(conversation.0)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO messages (message_id, conversation_id, user_id, version, ordinal, role, content, created_at,
             recorded_at, reply_status, lease)
         VALUES ($1, $2, $3, $4, 1, 'assistant', '', $5, $5, 'running', $6)
         ON CONFLICT DO NOTHING",
    )
    .bind(event.reply_id.0)
    .bind(conversation.0)
    .bind(recorded.user.0)
    .bind(recorded.version)
    .bind(recorded.recorded_at)
    .bind(event.lease)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in messages from another system.
///
/// # Errors
/// When the database fails.
pub async fn import(
    connection: &mut PgConnection,
    recorded: &Recorded,
    conversation: ConversationId,
    event: &MessagesImported,
) -> Result<(), sqlx::Error> {
    let times = || event.messages.iter().map(|message| message.created_at);
    let first_words = event.messages.iter().find(|m| m.role == Role::User);
    let moved = sqlx::query(
        "UPDATE conversations SET version = $2, message_count = message_count + $3, title = coalesce(title, $4),
             created_at = least(created_at, $5),
             updated_at = CASE WHEN message_count = 0 THEN $6 ELSE greatest(updated_at, $6) END
         WHERE conversation_id = $1 AND version < $2",
    )
    .bind(conversation.0)
    .bind(recorded.version)
    .bind(i64::try_from(event.messages.len()).unwrap_or(i64::MAX))
    .bind(first_words.map(|message| text::excerpt(&message.content, TITLE)))
    .bind(times().min().unwrap_or(recorded.recorded_at))
    .bind(times().max().unwrap_or(recorded.recorded_at))
    .execute(&mut *connection)
    .await?;
    if moved.rows_affected() == 0 {
        return Ok(());
    }
    let messages = &event.messages;
    let hash = |message: &companion_domain::events::ImportedMessage| {
        content_hash(&message_text(
            message.role,
            message.name.as_deref(),
            &message.content,
        ))
    };
    sqlx::query(
        "INSERT INTO messages (message_id, conversation_id, user_id, version, ordinal, role, name, content,
             content_hash, created_at, recorded_at, external_id)
         SELECT m.id, $1, $2, $3, m.n - 1, m.role, m.name, m.content, m.hash, m.created_at, $4, m.external_id
         FROM unnest($5::uuid[], $6::text[], $7::text[], $8::text[], $9::bytea[], $10::timestamptz[], $11::text[])
              WITH ORDINALITY AS m (id, role, name, content, hash, created_at, external_id, n)
         ON CONFLICT DO NOTHING",
    )
    .bind(conversation.0)
    .bind(recorded.user.0)
    .bind(recorded.version)
    .bind(recorded.recorded_at)
    .bind(messages.iter().map(|m| m.message_id.0).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.role.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.name.as_deref()).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.content.as_str()).collect::<Vec<_>>())
    .bind(messages.iter().map(hash).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.created_at).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.external_id.as_deref()).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    let contents = messages
        .iter()
        .map(|message| (message.message_id.0, message.content.as_str()));
    lexicon::index_all(connection, recorded.user, Source::Message, contents).await
}

/// Takes in a title.
///
/// # Errors
/// When the database fails.
pub async fn rename(
    connection: &mut PgConnection,
    recorded: &Recorded,
    conversation: ConversationId,
    title: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE conversations SET title = $4, updated_at = $2, version = $3
         WHERE conversation_id = $1 AND version < $3",
    )
    .bind(conversation.0)
    .bind(recorded.recorded_at)
    .bind(recorded.version)
    .bind(title)
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes in that a conversation was thrown away: it and its messages are gone, and what was only
/// needed to find them.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    connection: &mut PgConnection,
    user: UserId,
    conversation: ConversationId,
) -> Result<(), sqlx::Error> {
    let gone: Vec<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(
        "DELETE FROM messages WHERE user_id = $1 AND conversation_id = $2 RETURNING message_id, content_hash",
    )
    .bind(user.0)
    .bind(conversation.0)
    .fetch_all(&mut *connection)
    .await?;
    unfind(connection, user, gone).await?;
    sqlx::query("DELETE FROM conversations WHERE user_id = $1 AND conversation_id = $2")
        .bind(user.0)
        .bind(conversation.0)
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes in that what came from a conversation is to be forgotten: its messages until then are not
/// found any more.
///
/// # Errors
/// When the database fails.
pub async fn clear(
    connection: &mut PgConnection,
    user: UserId,
    event: &MemoriesCleared,
) -> Result<(), sqlx::Error> {
    let cleared: Vec<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(
        "UPDATE messages SET searchable = false
         WHERE user_id = $1 AND conversation_id = $2 AND version <= $3 AND searchable
         RETURNING message_id, content_hash",
    )
    .bind(user.0)
    .bind(event.conversation_id.0)
    .bind(event.through_version)
    .fetch_all(&mut *connection)
    .await?;
    unfind(connection, user, cleared).await
}

/// Takes messages out of what search looks at.
async fn unfind(
    connection: &mut PgConnection,
    user: UserId,
    messages: Vec<(Uuid, Option<Vec<u8>>)>,
) -> Result<(), sqlx::Error> {
    let (ids, hashes): (Vec<Uuid>, Vec<Option<Vec<u8>>>) = messages.into_iter().unzip();
    lexicon::remove_all(connection, user, Source::Message, &ids).await?;
    let hashes: Vec<Vec<u8>> = hashes.into_iter().flatten().collect();
    vectors::mark_unused(connection, user, &hashes).await
}

/// Takes in what the LLM was asked with.
///
/// # Errors
/// When the database fails.
pub async fn start_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &ReplyStarted,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE messages SET recalled = $3 WHERE user_id = $1 AND message_id = $2")
        .bind(recorded.user.0)
        .bind(event.reply_id.0)
        .bind(Json(&event.recalled))
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes in a completed reply.
///
/// # Errors
/// When the database fails.
pub async fn complete_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &ReplyCompleted,
) -> Result<(), sqlx::Error> {
    end_reply(
        connection,
        recorded,
        event.reply_id,
        &event.content,
        ("completed", None),
    )
    .await
}

/// Takes in a reply that the user stopped.
///
/// # Errors
/// When the database fails.
pub async fn cancel_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &ReplyCancelled,
) -> Result<(), sqlx::Error> {
    let status = ("cancelled", None);
    end_reply(connection, recorded, event.reply_id, &event.partial, status).await
}

/// Takes in a reply that ended without being whole.
///
/// # Errors
/// When the database fails.
pub async fn fail_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &ReplyFailed,
) -> Result<(), sqlx::Error> {
    let status = match event.reason {
        FailureReason::ServiceStopping => "interrupted",
        _ => "failed",
    };
    let status = (status, Some(event.reason.code()));
    end_reply(connection, recorded, event.reply_id, &event.partial, status).await
}

async fn end_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    reply: ReplyId,
    content: &str,
    (status, failure): (&str, Option<&str>),
) -> Result<(), sqlx::Error> {
    let hash =
        (!content.is_empty()).then(|| content_hash(&message_text(Role::Assistant, None, content)));
    let ended: Option<(Uuid, bool)> = sqlx::query_as(
        "UPDATE messages SET content = $3, content_hash = $4, reply_status = $5, failure = $7, created_at = $6,
             recorded_at = $6, lease = NULL
         WHERE user_id = $1 AND message_id = $2 AND reply_status = 'running' RETURNING conversation_id, searchable",
    )
    .bind(recorded.user.0)
    .bind(reply.0)
    .bind(content)
    .bind(hash)
    .bind(status)
    .bind(recorded.recorded_at)
    .bind(failure)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((conversation, searchable)) = ended else {
        return Ok(());
    };
    sqlx::query("UPDATE conversations SET updated_at = $2, version = $3 WHERE conversation_id = $1 AND version < $3")
        .bind(conversation)
        .bind(recorded.recorded_at)
        .bind(recorded.version)
        .execute(&mut *connection)
        .await?;
    if !searchable {
        return Ok(());
    }
    lexicon::index(connection, recorded.user, Source::Message, reply.0, content).await
}

/// Takes in a user, or the time zone that they sent.
///
/// # Errors
/// When the database fails.
pub async fn note_user(
    connection: &mut PgConnection,
    user: UserId,
    external_id: Option<&str>,
    timezone: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO users AS u (user_id, external_id, timezone) VALUES ($1, $2, $3)
         ON CONFLICT (user_id) DO UPDATE SET external_id = coalesce(excluded.external_id, u.external_id),
             timezone = coalesce(excluded.timezone, u.timezone)",
    )
    .bind(user.0)
    .bind(external_id)
    .bind(timezone)
    .execute(connection)
    .await?;
    Ok(())
}

/// The time zone that a user last sent; UTC until then.
///
/// # Errors
/// When the database fails.
pub async fn timezone(
    executor: impl PgExecutor<'_>,
    user: UserId,
) -> Result<chrono_tz::Tz, sqlx::Error> {
    let name: Option<Option<String>> =
        sqlx::query_scalar("SELECT timezone FROM users WHERE user_id = $1")
            .bind(user.0)
            .fetch_optional(executor)
            .await?;
    Ok(name
        .flatten()
        .and_then(|name| name.parse().ok())
        .unwrap_or(chrono_tz::Tz::UTC))
}

/// A user's conversations, the last changed first, and how many there are in all.
///
/// # Errors
/// When the database fails.
pub async fn list_conversations(
    connection: &mut PgConnection,
    user: UserId,
    limit: i64,
    offset: i64,
) -> Result<(Vec<ConversationRow>, i64), sqlx::Error> {
    let rows = sqlx::query_as(
        "SELECT conversation_id, title, created_at, updated_at, message_count FROM conversations
         WHERE user_id = $1 ORDER BY updated_at DESC, conversation_id LIMIT $2 OFFSET $3",
    )
    .bind(user.0)
    .bind(limit)
    .bind(offset)
    .fetch_all(&mut *connection)
    .await?;
    let total = sqlx::query_scalar("SELECT count(*) FROM conversations WHERE user_id = $1")
        .bind(user.0)
        .fetch_one(connection)
        .await?;
    Ok((rows, total))
}

/// One of a user's conversations.
///
/// # Errors
/// When the database fails.
pub async fn conversation(
    executor: impl PgExecutor<'_>,
    user: UserId,
    conversation: ConversationId,
) -> Result<Option<ConversationRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT conversation_id, title, created_at, updated_at, message_count FROM conversations
         WHERE user_id = $1 AND conversation_id = $2",
    )
    .bind(user.0)
    .bind(conversation.0)
    .fetch_optional(executor)
    .await
}

/// Whether a conversation is this user's.
///
/// # Errors
/// When the database fails.
pub async fn owns_conversation(
    executor: impl PgExecutor<'_>,
    user: UserId,
    conversation: ConversationId,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM conversations WHERE user_id = $1 AND conversation_id = $2)",
    )
    .bind(user.0)
    .bind(conversation.0)
    .fetch_one(executor)
    .await
}

/// Those of a user's messages among these, each with when it was said.
///
/// # Errors
/// When the database fails.
pub async fn said_at(
    executor: impl PgExecutor<'_>,
    user: UserId,
    messages: &[MessageId],
) -> Result<Vec<(ConversationId, MessageId, DateTime<Utc>)>, sqlx::Error> {
    let ids: Vec<Uuid> = messages.iter().map(|message| message.0).collect();
    let rows: Vec<(Uuid, Uuid, DateTime<Utc>)> = sqlx::query_as(
        "SELECT conversation_id, message_id, created_at FROM messages WHERE user_id = $1 AND message_id = ANY($2)",
    )
    .bind(user.0)
    .bind(ids)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(conversation, message, at)| (ConversationId(conversation), MessageId(message), at))
        .collect())
}

/// Those of a user's messages among these that have not been cleared, each with the id that it has in
/// the system it was imported from.
///
/// # Errors
/// When the database fails.
pub async fn external_ids(
    executor: impl PgExecutor<'_>,
    user: UserId,
    messages: &[MessageId],
) -> Result<HashMap<MessageId, Option<String>>, sqlx::Error> {
    let ids: Vec<Uuid> = messages.iter().map(|message| message.0).collect();
    let rows: Vec<(Uuid, Option<String>)> = sqlx::query_as(
        "SELECT message_id, external_id FROM messages WHERE user_id = $1 AND message_id = ANY($2) AND searchable",
    )
    .bind(user.0)
    .bind(ids)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(id, external)| (MessageId(id), external))
        .collect())
}

/// A reply as the table has it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(missing_docs, reason = "each field is the column of the same name")]
pub struct ReplyRow {
    pub conversation_id: Uuid,
    pub content: String,
    pub reply_status: String,
    pub failure: Option<String>,
    pub lease: Option<Uuid>,
}

/// One of the replies to a user.
///
/// # Errors
/// When the database fails.
pub async fn reply(
    executor: impl PgExecutor<'_>,
    user: UserId,
    reply: ReplyId,
) -> Result<Option<ReplyRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT conversation_id, content, reply_status, failure, lease FROM messages
         WHERE user_id = $1 AND message_id = $2 AND reply_status IS NOT NULL",
    )
    .bind(user.0)
    .bind(reply.0)
    .fetch_optional(executor)
    .await
}

/// The last `limit` messages of a conversation, or those before a message, oldest first. `None` when
/// `before` is no message of it. Of the memories that a reply recalled, those that the user asked to
/// forget are left out.
///
/// # Errors
/// When the database fails.
pub async fn list_messages(
    connection: &mut PgConnection,
    user: UserId,
    conversation: ConversationId,
    limit: i64,
    before: Option<Uuid>,
) -> Result<Option<Vec<MessageRow>>, sqlx::Error> {
    let place: Option<(i64, i32)> = match before {
        None => None,
        Some(before) => {
            let place = sqlx::query_as(
                "SELECT version, ordinal FROM messages WHERE user_id = $1 AND conversation_id = $2 AND message_id = $3",
            )
            .bind(user.0)
            .bind(conversation.0)
            .bind(before)
            .fetch_optional(&mut *connection)
            .await?;
            if place.is_none() {
                return Ok(None);
            }
            place
        }
    };
    let (version, ordinal) = place.unzip();
    let mut rows: Vec<MessageRow> = sqlx::query_as(
        "SELECT message_id, conversation_id, role, name, content, created_at, external_id, reply_status,
                (SELECT jsonb_agg(r ORDER BY n) FROM jsonb_array_elements(recalled) WITH ORDINALITY AS e (r, n)
                 WHERE EXISTS (SELECT FROM memories k WHERE k.user_id = $1 AND k.memory_id = (r ->> 'memory_id')::uuid)
                ) AS recalled
         FROM messages
         WHERE user_id = $1 AND conversation_id = $2 AND ($4::bigint IS NULL OR (version, ordinal) < ($4, $5))
         ORDER BY version DESC, ordinal DESC LIMIT $3",
    )
    .bind(user.0)
    .bind(conversation.0)
    .bind(limit)
    .bind(version)
    .bind(ordinal)
    .fetch_all(connection)
    .await?;
    rows.reverse();
    Ok(Some(rows))
}

/// The messages nearest to a vector, with their cosine similarity, and these others whatever their
/// distance. A message without a vector yet comes with `None`.
///
/// # Errors
/// When the database fails.
pub async fn nearest(
    connection: &mut PgConnection,
    user: UserId,
    vector: &[f32],
    conversation: Option<ConversationId>,
    as_of: Option<DateTime<Utc>>,
    limit: i64,
    and: &[Uuid],
) -> Result<Vec<(MessageRow, Option<f64>)>, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Row {
        #[sqlx(flatten)]
        message: MessageRow,
        similarity: Option<f64>,
    }
    let rows: Vec<Row> = sqlx::query_as(
        "WITH said AS (
             SELECT m.message_id, 1 - (v.embedding <=> $2) AS similarity FROM messages m
             LEFT JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
             WHERE m.user_id = $1 AND m.content <> '' AND m.searchable
               AND ($3::uuid IS NULL OR m.conversation_id = $3) AND ($6::timestamptz IS NULL OR m.recorded_at <= $6)
         ), chosen AS (
             (SELECT * FROM said ORDER BY similarity DESC NULLS LAST LIMIT $4)
             UNION SELECT * FROM said WHERE message_id = ANY($5)
         )
         SELECT message_id, conversation_id, role, name, content, created_at, external_id, reply_status,
                NULL::jsonb AS recalled, similarity
         FROM chosen JOIN messages USING (message_id)",
    )
    .bind(user.0)
    .bind(Pgvector::from(vector.to_vec()))
    .bind(conversation.map(|c| c.0))
    .bind(limit)
    .bind(and)
    .bind(as_of)
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| (row.message, row.similarity))
        .collect())
}

/// Whether a reply to this user runs.
///
/// # Errors
/// When the database fails.
pub async fn is_replying(executor: impl PgExecutor<'_>, user: UserId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM messages WHERE user_id = $1 AND reply_status = 'running')",
    )
    .bind(user.0)
    .fetch_one(executor)
    .await
}
