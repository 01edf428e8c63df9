//! The read models of users, conversations and messages: what they hold, and the queries on them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use companion_domain::events::RecalledMemory;
use companion_domain::ids::{ConversationId, ExternalUserId, MemoryId, MessageId, ReplyId, UserId};
use companion_domain::usage::Answered;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

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

/// All users, as callers name them, in the order of their names.
///
/// # Errors
/// When the database fails.
pub async fn users(executor: impl PgExecutor<'_>) -> Result<Vec<ExternalUserId>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT external_id FROM users WHERE external_id IS NOT NULL ORDER BY external_id",
    )
    .fetch_all(executor)
    .await?;
    let parse = |name: &String| ExternalUserId::parse(name).ok();
    Ok(names.iter().filter_map(parse).collect())
}

/// How many users there are whose names the read models don't know yet, although they have been there for a
/// while: after a restore, until these are built.
///
/// # Errors
/// When the database fails.
pub async fn nameless_users(executor: impl PgExecutor<'_>) -> Result<u64, sqlx::Error> {
    let nameless: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM user_keys k
         WHERE k.created_at < now() - interval '1 minute'
           AND NOT EXISTS (SELECT FROM users u WHERE u.user_id = k.user_id AND u.external_id IS NOT NULL)",
    )
    .fetch_one(executor)
    .await?;
    Ok(u64::try_from(nameless).unwrap_or(0))
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

/// What is left of a message that a memory rests on.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(missing_docs, reason = "each field is the column of the same name")]
pub struct Said {
    pub message_id: Uuid,
    pub content: String,
    pub created_at: DateTime<Utc>,
    pub external_id: Option<String>,
}

/// Those of a user's messages among these that have not been cleared.
///
/// # Errors
/// When the database fails.
pub async fn said(
    executor: impl PgExecutor<'_>,
    user: UserId,
    messages: &[MessageId],
) -> Result<HashMap<MessageId, Said>, sqlx::Error> {
    let ids: Vec<Uuid> = messages.iter().map(|message| message.0).collect();
    let rows: Vec<Said> = sqlx::query_as(
        "SELECT message_id, content, created_at, external_id FROM messages
         WHERE user_id = $1 AND message_id = ANY($2) AND searchable",
    )
    .bind(user.0)
    .bind(ids)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|said| (MessageId(said.message_id), said))
        .collect())
}

/// A reply as the table has it.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[expect(missing_docs, reason = "each field is the column of the same name")]
pub struct ReplyRow {
    pub conversation_id: Uuid,
    /// Of the event in the conversation's stream that asked for it.
    pub version: i64,
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
        "SELECT conversation_id, version, content, reply_status, failure, lease FROM messages
         WHERE user_id = $1 AND message_id = $2 AND reply_status IS NOT NULL",
    )
    .bind(user.0)
    .bind(reply.0)
    .fetch_optional(executor)
    .await
}

/// The last `limit` messages of a conversation, or those before a message, oldest first. `None` when
/// `before` is no message of it. Of the memories that a reply recalled, those that the user asked to
/// forget are left out: their text is in no row.
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
    // The text of a recalled memory is that of its past state which held when the reply was asked for.
    let mut rows: Vec<MessageRow> = sqlx::query_as(
        "SELECT message_id, conversation_id, role, name, content, created_at, external_id, reply_status,
                (SELECT jsonb_agg(r || jsonb_build_object('content', held.content) ORDER BY n)
                 FROM jsonb_array_elements(m.recalled::jsonb) WITH ORDINALITY AS e (r, n)
                 CROSS JOIN LATERAL (
                     SELECT k.content FROM (
                         SELECT content, 'infinity'::timestamptz AS until FROM memories
                         WHERE user_id = $1 AND memory_id = (r ->> 'memory_id')::uuid
                         UNION ALL
                         SELECT content, until FROM past_memories
                         WHERE user_id = $1 AND memory_id = (r ->> 'memory_id')::uuid
                     ) AS k
                     WHERE k.until > coalesce(asked.asked_at, m.created_at) ORDER BY k.until LIMIT 1
                 ) AS held
                ) AS recalled
         FROM messages m
         LEFT JOIN LATERAL (
             SELECT a.created_at AS asked_at FROM messages a
             WHERE a.conversation_id = m.conversation_id AND a.version = m.version AND a.ordinal = 0
         ) AS asked ON m.recalled IS NOT NULL
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

/// The messages among these that may be found, in no order.
///
/// # Errors
/// When the database fails.
pub async fn findable(
    executor: impl PgExecutor<'_>,
    user: UserId,
    ids: &[Uuid],
) -> Result<Vec<MessageRow>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as(
        "SELECT message_id, conversation_id, role, name, content, created_at, external_id, reply_status,
                NULL::jsonb AS recalled
         FROM messages WHERE user_id = $1 AND message_id = ANY($2) AND searchable",
    )
    .bind(user.0)
    .bind(ids)
    .fetch_all(executor)
    .await
}

/// The users with a conversation that changed after a time.
///
/// # Errors
/// When the database fails.
pub async fn users_active_since(
    executor: impl PgExecutor<'_>,
    since: DateTime<Utc>,
) -> Result<Vec<UserId>, sqlx::Error> {
    let users: Vec<Uuid> = sqlx::query_scalar(
        "SELECT DISTINCT user_id FROM conversations WHERE updated_at > $1 ORDER BY user_id",
    )
    .bind(since)
    .fetch_all(executor)
    .await?;
    Ok(users.into_iter().map(UserId).collect())
}

/// The completed replies to a user that ended after a time and were given memories, the last so many,
/// each with the message that it answers and with those of the memories that are live and decay.
///
/// # Errors
/// When the database fails.
pub async fn answered_since(
    executor: impl PgExecutor<'_>,
    user: UserId,
    since: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Answered>, sqlx::Error> {
    type Row = (String, String, DateTime<Utc>, Json<Vec<(MemoryId, String)>>);
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT u.content, m.content, m.recorded_at,
                (SELECT coalesce(jsonb_agg(jsonb_build_array(k.memory_id, k.content)), '[]')
                 FROM jsonb_array_elements(m.recalled::jsonb) AS r
                 JOIN memories k ON k.user_id = m.user_id AND k.memory_id = (r ->> 'memory_id')::uuid
                 WHERE k.state = 'live' AND NOT k.explicit)
         FROM conversations c
         JOIN messages m ON m.user_id = c.user_id AND m.conversation_id = c.conversation_id
         CROSS JOIN LATERAL (
             SELECT content FROM messages u
             WHERE u.conversation_id = m.conversation_id AND u.role = 'user'
               AND (u.version, u.ordinal) < (m.version, m.ordinal)
             ORDER BY u.version DESC, u.ordinal DESC LIMIT 1
         ) AS u
         WHERE c.user_id = $1 AND c.updated_at > $2 AND m.reply_status = 'completed' AND m.searchable
           AND m.recorded_at > $2 AND m.recalled <> '[]'
         ORDER BY m.recorded_at DESC LIMIT $3",
    )
    .bind(user.0)
    .bind(since)
    .bind(limit)
    .fetch_all(executor)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(message, reply, at, recalled)| Answered {
            message,
            reply,
            at,
            recalled: recalled.0,
        })
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
