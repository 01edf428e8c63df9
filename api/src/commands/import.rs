//! `POST /conversations/import`: a conversation that took place elsewhere.

use chrono::{DateTime, TimeDelta, Utc};
use companion_adapters::log::event_store::Expected;
use companion_domain::conversation::Role;
use companion_domain::events::{ImportedMessage, Metadata};
use companion_domain::ids::{ConversationId, MessageId, StreamId};
use companion_domain::import;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Faults, JsonBody};
use crate::error::Problem;
use crate::page;

/// The largest import, bytes.
const MAX_IMPORT: usize = 16 << 20;

/// A conversation from another system.
#[derive(Debug, Object)]
pub(crate) struct ConversationImport {
    /// At most 200 characters; the first message of the user gives one otherwise.
    #[oai(validator(max_length = 200))]
    title: Option<String>,
    /// 1 to 5,000 messages, in the order in which they were said.
    #[oai(validator(min_items = 1, max_items = 5000))]
    messages: Vec<MessageImport>,
    /// Whether the user's messages are to be read for memories; yes unless said.
    extract: Option<bool>,
}

/// A message from another system.
#[derive(Debug, Object)]
pub(crate) struct MessageImport {
    role: Speaker,
    /// The speaker's name, at most 100 characters.
    #[oai(validator(max_length = 100))]
    name: Option<String>,
    /// 1 to 32,000 characters, not blank.
    #[oai(validator(min_length = 1, max_length = 32000))]
    content: String,
    /// When it was said, from 1970 on; now unless said.
    created_at: Option<DateTime<Utc>>,
    /// The message's id in the other system, 1 to 200 characters.
    #[oai(validator(min_length = 1, max_length = 200))]
    external_id: Option<String>,
}

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum Speaker {
    /// The person.
    User,
    /// The companion.
    Assistant,
}

/// The conversation as it is here.
#[derive(Debug, Object)]
pub(crate) struct Imported {
    conversation_id: Uuid,
    /// The messages' ids here, in the order of the request.
    message_ids: Vec<Uuid>,
}

/// The answer to an import.
#[derive(ApiResponse)]
pub(crate) enum ImportResponse {
    /// The conversation is here.
    #[oai(status = 201)]
    Created(Json<Imported>),
}

pub(crate) struct ImportCommands;

#[OpenApi]
impl ImportCommands {
    /// Import a conversation
    ///
    /// Takes in what was said elsewhere, with the times at which it was said. Messages of both roles
    /// can be searched; only those of the user can give memories. The body has 16 MiB at most.
    #[oai(path = "/conversations/import", method = "post")]
    async fn import(
        &self,
        app: Data<&App>,
        caller: Caller,
        body: JsonBody<ConversationImport, MAX_IMPORT>,
    ) -> Result<ImportResponse, Problem> {
        let (request, now) = (body.0, Utc::now());
        check(&request, now)?;
        let user = caller.ensure_user(&app.core.store).await?;
        let conversation = ConversationId(Uuid::now_v7());
        let messages: Vec<ImportedMessage> = request
            .messages
            .into_iter()
            .map(|message| imported(message, now))
            .collect();
        let message_ids = messages
            .iter()
            .map(|message| message.message_id.0)
            .collect();
        let extract = request.extract.unwrap_or(true);
        let title = request.title.filter(|title| !title.trim().is_empty());
        let events = import::import(conversation, title, messages, extract)
            .into_iter()
            .map(|event| (event, Metadata::default()))
            .collect();
        let stream = StreamId::conversation(conversation);
        let new = Expected::Version(0);
        app.core
            .store
            .append(&stream, user, new, events, None)
            .await?;
        // So much at once takes the projection longer than a query waits.
        page::catch_up(&app.core, user).await?;
        Ok(ImportResponse::Created(Json(Imported {
            conversation_id: conversation.0,
            message_ids,
        })))
    }
}

/// Checks what the schema does not say.
fn check(request: &ConversationImport, now: DateTime<Utc>) -> Result<(), Problem> {
    let mut faults = Faults::default();
    if let Some(title) = &request.title {
        faults.no_nul("title", title);
    }
    let latest = now + TimeDelta::days(1);
    for (n, message) in request.messages.iter().enumerate() {
        let field = |name: &str| format!("messages.{n}.{name}");
        faults.text(field("content"), &message.content);
        for (name, text) in [
            ("name", &message.name),
            ("external_id", &message.external_id),
        ] {
            if let Some(text) = text {
                faults.no_nul(field(name), text);
            }
        }
        if message
            .created_at
            .is_some_and(|at| !(DateTime::UNIX_EPOCH..=latest).contains(&at))
        {
            faults.add(
                field("created_at"),
                "must be a time from 1970 on, and not in the future",
            );
        }
    }
    faults.none()
}

fn imported(message: MessageImport, now: DateTime<Utc>) -> ImportedMessage {
    ImportedMessage {
        message_id: MessageId(Uuid::now_v7()),
        role: match message.role {
            Speaker::User => Role::User,
            Speaker::Assistant => Role::Assistant,
        },
        name: message.name.filter(|name| !name.trim().is_empty()),
        content: message.content,
        created_at: message.created_at.unwrap_or(now),
        external_id: message.external_id,
    }
}
