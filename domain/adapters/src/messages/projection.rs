//! How events change the read models of users, conversations and messages.

use companion_domain::conversation::Role;
use companion_domain::events::{
    FailureReason, MemoriesCleared, MessagesImported, Recorded, ReplyCancelled, ReplyCompleted,
    ReplyFailed, ReplyRequested, ReplyStarted, UserMessageReceived,
};
use companion_domain::ids::{ConversationId, ReplyId, UserId};
use companion_domain::text;
use serde_json::json;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

use crate::embedder::content_hash;
use crate::vectors;

/// The most characters of a title made of a first message.
const TITLE: usize = 60;

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
             created_at, recorded_at, reply_status, lease, search_version)
         VALUES ($1, $3, $4, $5, 0, 'user', $6, $7, $8, $8, NULL, NULL,
                    (SELECT version FROM search_state WHERE user_id = $4)),
                ($2, $3, $4, $5, 1, 'assistant', '', NULL, $8, $8, 'running', $9, 0)
         ON CONFLICT DO NOTHING",
    )
    .bind(event.message_id.0)
    .bind(event.reply_id.0)
    .bind(conversation.0)
    .bind(recorded.user.0)
    .bind(recorded.version)
    .bind(&event.content)
    .bind(content_hash(&event.content))
    .bind(recorded.recorded_at)
    .bind(event.lease)
    .execute(connection)
    .await?;
    Ok(())
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
    sqlx::query(
        "INSERT INTO messages (message_id, conversation_id, user_id, version, ordinal, role, name, content,
             content_hash, created_at, recorded_at, external_id, search_version)
         SELECT m.id, $1, $2, $3, m.n - 1, m.role, m.name, m.content, m.hash, m.created_at, $4, m.external_id,
             (SELECT version FROM search_state WHERE user_id = $2)
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
    .bind(messages.iter().map(|m| content_hash(&m.content)).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.created_at).collect::<Vec<_>>())
    .bind(messages.iter().map(|m| m.external_id.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
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
    let gone: Vec<Option<Vec<u8>>> = sqlx::query_scalar(
        "DELETE FROM messages WHERE user_id = $1 AND conversation_id = $2 RETURNING content_hash",
    )
    .bind(user.0)
    .bind(conversation.0)
    .fetch_all(&mut *connection)
    .await?;
    let gone: Vec<Vec<u8>> = gone.into_iter().flatten().collect();
    vectors::mark_unused(&mut *connection, user, &gone).await?;
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
    let cleared: Vec<Option<Vec<u8>>> = sqlx::query_scalar(
        "UPDATE messages SET searchable = false,
             search_version = (SELECT version FROM search_state WHERE user_id = $1)
         WHERE user_id = $1 AND conversation_id = $2 AND version <= $3 AND searchable
         RETURNING content_hash",
    )
    .bind(user.0)
    .bind(event.conversation_id.0)
    .bind(event.through_version)
    .fetch_all(&mut *connection)
    .await?;
    let cleared: Vec<Vec<u8>> = cleared.into_iter().flatten().collect();
    vectors::mark_unused(connection, user, &cleared).await
}

/// Takes in what the LLM was asked with. The texts of the memories stay out: the table is not to keep
/// what is forgotten later.
///
/// # Errors
/// When the database fails.
pub async fn start_reply(
    connection: &mut PgConnection,
    recorded: &Recorded,
    event: &ReplyStarted,
) -> Result<(), sqlx::Error> {
    let scores = event.recalled.iter().map(|memory| {
        json!({ "memory_id": memory.memory_id, "score": memory.score, "similarity": memory.similarity })
    });
    sqlx::query("UPDATE messages SET recalled = $3 WHERE user_id = $1 AND message_id = $2")
        .bind(recorded.user.0)
        .bind(event.reply_id.0)
        .bind(Json(scores.collect::<Vec<_>>()))
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
    let hash = (!content.is_empty()).then(|| content_hash(content));
    let conversation: Option<Uuid> = sqlx::query_scalar(
        "UPDATE messages SET content = $3, content_hash = $4, reply_status = $5, failure = $7, created_at = $6,
             recorded_at = $6, lease = NULL, search_version = (SELECT version FROM search_state WHERE user_id = $1)
         WHERE user_id = $1 AND message_id = $2 AND reply_status = 'running' RETURNING conversation_id",
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
    let Some(conversation) = conversation else {
        return Ok(());
    };
    sqlx::query("UPDATE conversations SET updated_at = $2, version = $3 WHERE conversation_id = $1 AND version < $3")
        .bind(conversation)
        .bind(recorded.recorded_at)
        .bind(recorded.version)
        .execute(connection)
        .await?;
    Ok(())
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
