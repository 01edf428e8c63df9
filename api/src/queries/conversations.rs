//! Conversations and their messages.

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::messages::{self, ConversationRow, MessageRow};
use companion_domain::ids::{ConversationId, UserId};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::error::Problem;
use crate::owned;
use crate::page::{self, Read};

/// A conversation.
#[derive(Debug, Object)]
pub(crate) struct ConversationView {
    id: Uuid,
    /// As given, or the beginning of the first message.
    pub(crate) title: Option<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Messages of both roles.
    message_count: i64,
}

/// A page of conversations, the last changed first.
#[derive(Debug, Object)]
pub(crate) struct ConversationList {
    conversations: Vec<ConversationView>,
    /// How many there are in all.
    total: i64,
}

/// A message.
#[derive(Debug, Object)]
pub(crate) struct MessageView {
    id: Uuid,
    /// `user` or `assistant`.
    role: String,
    content: String,
    /// The speaker's name, if one was given.
    name: Option<String>,
    created_at: DateTime<Utc>,
    external_id: Option<String>,
    /// How the reply went, for a message of the assistant.
    reply: Option<ReplyView>,
}

/// How a reply went.
#[derive(Debug, Object)]
pub(crate) struct ReplyView {
    /// `running`, `completed`, `failed`, `cancelled` or `interrupted`.
    status: String,
    /// The memories that the prompt contained, best first.
    recalled: Vec<RecalledView>,
}

/// A memory in a prompt.
#[derive(Debug, Object)]
pub(crate) struct RecalledView {
    id: Uuid,
    /// Its text then.
    content: String,
    /// The fused score by which it was ranked.
    score: f64,
    /// Cosine similarity to the message.
    similarity: f64,
}

/// Messages, oldest first.
#[derive(Debug, Object)]
pub(crate) struct MessageList {
    messages: Vec<MessageView>,
}

pub(crate) struct ConversationsApi;

#[OpenApi]
impl ConversationsApi {
    /// List conversations
    ///
    /// The last changed first.
    #[oai(path = "/conversations", method = "get")]
    async fn list(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// How many to list, 1 to 200; 50 unless said.
        limit: Query<Option<i64>>,
        /// How many to pass over.
        offset: Query<Option<i64>>,
    ) -> Result<Read<ConversationList>, Problem> {
        let (limit, offset) = (page::limit(limit.0)?, page::offset(offset.0)?);
        let user = caller.user;
        let lag = page::wait_for_own_writes(&app.core, user).await?;
        let mut connection = app.core.pool.acquire().await?;
        let (rows, total) =
            messages::list_conversations(&mut connection, user, limit, offset).await?;
        let conversations = rows.into_iter().map(ConversationView::from).collect();
        Ok(Read::new(
            ConversationList {
                conversations,
                total,
            },
            lag,
        ))
    }

    /// Get a conversation
    ///
    /// As the list shows it.
    #[oai(path = "/conversations/:id", method = "get")]
    async fn get(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The conversation.
        id: Path<Uuid>,
    ) -> Result<Read<ConversationView>, Problem> {
        conversation(&app.core, caller.user, ConversationId(id.0)).await
    }

    /// List the messages of a conversation
    ///
    /// The last ones, or those before a given one, oldest first.
    #[oai(path = "/conversations/:id/messages", method = "get")]
    async fn messages(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The conversation.
        id: Path<Uuid>,
        /// How many to list, 1 to 200; 50 unless said.
        limit: Query<Option<i64>>,
        /// Only messages before this one.
        before: Query<Option<Uuid>>,
    ) -> Result<Read<MessageList>, Problem> {
        let limit = page::limit(limit.0)?;
        let (user, conversation) = (caller.user, ConversationId(id.0));
        let lag = page::wait_for_own_writes(&app.core, user).await?;
        let mut connection = app.core.pool.acquire().await?;
        owned::check_conversation(&mut connection, user, conversation, lag.as_deref()).await?;
        let rows =
            messages::list_messages(&mut connection, user, conversation, limit, before.0).await?;
        let rows = rows.ok_or_else(|| {
            Problem::invalid_field("before", "is no message of this conversation")
        })?;
        let messages = rows.into_iter().map(MessageView::from).collect();
        Ok(Read::new(MessageList { messages }, lag))
    }
}

/// One of a user's conversations, with what they wrote last.
pub(crate) async fn conversation(
    core: &Core,
    user: UserId,
    conversation: ConversationId,
) -> Result<Read<ConversationView>, Problem> {
    let lag = page::wait_for_own_writes(core, user).await?;
    match messages::conversation(&core.pool, user, conversation).await? {
        Some(row) => Ok(Read::new(row.into(), lag)),
        None => Err(owned::not_found("conversation", lag.as_deref())),
    }
}

impl From<ConversationRow> for ConversationView {
    fn from(row: ConversationRow) -> Self {
        Self {
            id: row.conversation_id,
            title: row.title,
            created_at: row.created_at,
            updated_at: row.updated_at,
            message_count: row.message_count,
        }
    }
}

impl From<MessageRow> for MessageView {
    fn from(row: MessageRow) -> Self {
        let recalled = row.recalled.map(|recalled| recalled.0).unwrap_or_default();
        let recalled = recalled
            .into_iter()
            .map(|memory| RecalledView {
                id: memory.memory_id.0,
                content: memory.content,
                score: memory.score,
                similarity: memory.similarity,
            })
            .collect();
        Self {
            id: row.message_id,
            role: row.role,
            content: row.content,
            name: row.name,
            created_at: row.created_at,
            external_id: row.external_id,
            reply: row
                .reply_status
                .map(|status| ReplyView { status, recalled }),
        }
    }
}
