//! Replies that have begun and that nobody is at work on any more: their process crashed, or could
//! not store how they ended. Found here, and recorded as interrupted.

use companion_domain::events::{FailureReason, Metadata};
use companion_domain::ids::{ConversationId, ReplyId, StreamId, UserId};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::core::Core;
use crate::log::event_store::{AppendError, Expected, ReadError};
use crate::progress::PROCESS_TTL;
use crate::reply_texts::ReplyTexts;

/// A reply that is listed as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct RunningReply {
    #[sqlx(rename = "conversation_id")]
    conversation: Uuid,
    #[sqlx(rename = "user_id")]
    user: Uuid,
    #[sqlx(rename = "message_id")]
    reply: Uuid,
}

impl RunningReply {
    /// The reply.
    pub fn id(&self) -> ReplyId {
        ReplyId(self.reply)
    }
}

/// Why a reply could not be ended.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log can't be appended to.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Running replies whose process is not seen any more, the newest first.
///
/// # Errors
/// When the database fails.
pub async fn of_crashed_processes(
    executor: impl PgExecutor<'_>,
) -> Result<Vec<RunningReply>, sqlx::Error> {
    sqlx::query_as(
        "SELECT m.conversation_id, m.user_id, m.message_id FROM messages m
         WHERE m.reply_status = 'running' AND NOT EXISTS (
             SELECT FROM processes p
             WHERE p.process_id = m.lease AND p.seen_at > now() - make_interval(secs => $1))
         ORDER BY m.created_at DESC LIMIT 100",
    )
    .bind(PROCESS_TTL.as_secs_f64())
    .fetch_all(executor)
    .await
}

/// The replies that a process has begun and that have not ended; it knows which ones it is at work on.
///
/// # Errors
/// When the database fails.
pub async fn running_in(
    executor: impl PgExecutor<'_>,
    process: Uuid,
) -> Result<Vec<RunningReply>, sqlx::Error> {
    sqlx::query_as(
        "SELECT conversation_id, user_id, message_id FROM messages WHERE reply_status = 'running' AND lease = $1",
    )
    .bind(process)
    .fetch_all(executor)
    .await
}

/// Ends a listed reply, see [`end`].
///
/// # Errors
/// [`EndError`] when the log can't be used.
pub async fn end_listed(core: &Core, lost: &RunningReply) -> Result<bool, EndError> {
    end(
        core,
        UserId(lost.user),
        ConversationId(lost.conversation),
        lost.id(),
    )
    .await
}

/// Records a reply as interrupted, with as much of its text as was shared, unless the log says that
/// it has ended. Returns whether it did.
///
/// # Errors
/// [`EndError`] when the log can't be used.
pub async fn end(
    core: &Core,
    user: UserId,
    conversation: ConversationId,
    reply: ReplyId,
) -> Result<bool, EndError> {
    let state = core.buffer.current(&core.store, conversation).await?;
    let reason = FailureReason::ServiceStopping;
    let partial = ReplyTexts::new(core.redis.clone()).read(reply, 0).await;
    let Ok(ended) = state.fail_reply(reply, partial, reason) else {
        return Ok(false);
    };
    let metadata = Metadata {
        correlation_id: state.open_reply.as_ref().map(|open| open.message_id.0),
        ..Metadata::default()
    };
    let stream = StreamId::conversation(conversation);
    let expected = Expected::Version(state.version);
    let events = vec![(ended, metadata)];
    match core
        .store
        .append(&stream, user, expected, events, None)
        .await
    {
        Ok(_) => Ok(true),
        // Somebody else ended it, or the user is gone; or the buffer holds what the log does not.
        Err(AppendError::Conflict { .. } | AppendError::NoUser) => {
            core.buffer.forget(conversation).await;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
