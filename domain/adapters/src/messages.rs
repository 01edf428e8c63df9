//! The read models of conversations and messages: their tables, how events change them, and the
//! queries on them.

use chrono::{DateTime, Utc};
use companion_domain::conversation::Role;
use companion_domain::events::{
    RecalledMemory, Recorded, ReplyCompleted, ReplyFailed, ReplyStarted, UserMessageReceived,
};
use companion_domain::ids::{ConversationId, ReplyId, UserId};
use companion_domain::text;
use pgvector::Vector as Pgvector;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use crate::embedder::{content_hash, message_text};
use crate::lexicon::{self, Source};

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
        "INSERT INTO messages (message_id, conversation_id, user_id, version, role, content, content_hash, created_at,
             reply_status, lease)
         VALUES ($1, $3, $4, $5, 'user', $6, $7, $8, NULL, NULL),
                ($2, $3, $4, $5, 'assistant', '', NULL, $8, 'running', $9)
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
        "completed",
    )
    .await
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
        companion_domain::events::FailureReason::ServiceStopping => "interrupted",
        _ => "failed",
    };
    end_reply(connection, recorded, event.reply_id, &event.partial, status).await
}

async fn end_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    reply: ReplyId,
    content: &str,
    status: &str,
) -> Result<(), sqlx::Error> {
    let hash =
        (!content.is_empty()).then(|| content_hash(&message_text(Role::Assistant, None, content)));
    let conversation: Option<Uuid> = sqlx::query_scalar(
        "UPDATE messages SET content = $3, content_hash = $4, reply_status = $5, created_at = $6, lease = NULL
         WHERE user_id = $1 AND message_id = $2 AND reply_status = 'running' RETURNING conversation_id",
    )
    .bind(recorded.user.0)
    .bind(reply.0)
    .bind(content)
    .bind(hash)
    .bind(status)
    .bind(recorded.recorded_at)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(conversation) = conversation else {
        return Ok(());
    };
    sqlx::query("UPDATE conversations SET updated_at = $2, version = $3 WHERE conversation_id = $1 AND version < $3")
        .bind(conversation)
        .bind(recorded.recorded_at)
        .bind(recorded.version)
        .execute(&mut *connection)
        .await?;
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

/// The last `limit` messages of a conversation, or those before a message, oldest first. `None` when
/// `before` is no message of it.
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
    let place: Option<(i64, String)> = match before {
        None => None,
        Some(before) => {
            let place = sqlx::query_as(
                "SELECT version, role FROM messages WHERE user_id = $1 AND conversation_id = $2 AND message_id = $3",
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
    let (version, role) = place.unzip();
    // Of one turn, 'user' comes before 'assistant'.
    let mut rows: Vec<MessageRow> = sqlx::query_as(
        "SELECT message_id, conversation_id, role, name, content, created_at, external_id, reply_status, recalled
         FROM messages
         WHERE user_id = $1 AND conversation_id = $2
           AND ($4::bigint IS NULL OR version < $4 OR (version = $4 AND role > $5))
         ORDER BY version DESC, role LIMIT $3",
    )
    .bind(user.0)
    .bind(conversation.0)
    .bind(limit)
    .bind(version)
    .bind(role)
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
             WHERE m.user_id = $1 AND m.content <> '' AND ($3::uuid IS NULL OR m.conversation_id = $3)
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
