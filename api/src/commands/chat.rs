//! `POST /chat`: take in a message, make it durable, start the reply, stream it.

use std::sync::Arc;

use companion_adapters::core::Core;
use companion_adapters::embedder::{content_hash, message_text};
use companion_adapters::event_store::{AppendError, Expected};
use companion_adapters::recall::{self, Found, Query};
use companion_adapters::{lost_replies, progress, vectors};
use companion_domain::conversation::{Conversation, OpenReply, Refusal, Role, SendMessage};
use companion_domain::events::Metadata;
use companion_domain::ids::{ConversationId, ExternalUserId, MessageId, ReplyId, StreamId, UserId};
use companion_domain::prompt::{self, Ingredients};
use poem::http::{HeaderName, StatusCode, header};
use poem::web::Data;
use poem::{IntoResponse, Request, Response};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object, OpenApi};
use tracing::Instrument;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::commands::reply::{self, Assignment};
use crate::commands::sse::ReplyStream;
use crate::error::Problem;
use crate::replies::{Outcome, Running};

/// How often a message is tried to be appended against a conversation that moves.
const TRIES: usize = 5;

/// What the user says.
#[derive(Debug, Object)]
pub(crate) struct ChatRequest {
    /// The message, 1 to 4,000 characters, not blank.
    #[oai(validator(min_length = 1, max_length = 4000))]
    message: String,
    /// The conversation to go on with; none or null begins a new one.
    conversation_id: Option<Uuid>,
    /// Takes the place of the configured persona for this message.
    #[oai(validator(max_length = 4000))]
    system_prompt: Option<String>,
    /// Your time zone as an IANA name, for example `Europe/Lisbon`. It is remembered.
    timezone: Option<String>,
}

/// The whole reply, for callers who ask for `application/json`.
#[derive(Debug, Object)]
pub(crate) struct ChatAnswer {
    /// The reply's text.
    response: String,
    /// The conversation, for the next message.
    conversation_id: Uuid,
}

pub(crate) struct ChatApi;

#[OpenApi]
impl ChatApi {
    /// Say something
    ///
    /// Streams the reply as server-sent events, or answers it whole when the request accepts
    /// `application/json`. The headers come as soon as the message is stored; the reply goes on when
    /// you leave.
    #[oai(path = "/chat", method = "post")]
    async fn chat(
        &self,
        app: Data<&App>,
        caller: Caller,
        request: &Request,
        body: JsonBody<ChatRequest>,
    ) -> Result<ChatResponse, Problem> {
        let accept = request.header("accept").unwrap_or_default();
        let whole = accept.contains("application/json") && !accept.contains("text/event-stream");
        let said = Said::check(&app.core, body.0)?;
        // A task of its own: a client who hangs up now must not leave half of it done.
        let task = take_in(app.0.clone(), caller.0, said).in_current_span();
        let running = tokio::spawn(task).await.map_err(|error| {
            tracing::error!("taking in a message failed: {error}");
            Problem::database()
        })??;
        if !whole {
            return Ok(ChatResponse {
                running,
                whole: None,
            });
        }
        match running.whole().await {
            (text, Outcome::Completed) => Ok(ChatResponse {
                running,
                whole: Some(text),
            }),
            (_, Outcome::Failed { code, message }) => {
                let (conversation, reply) = (running.conversation_id.0, running.reply_id.0);
                let problem = Problem::reply_failed(code, message, conversation, reply);
                Err(headers(&running)
                    .into_iter()
                    .fold(problem, |p, (name, value)| p.header(name, value)))
            }
        }
    }
}

/// A message that passed the checks.
struct Said {
    message: String,
    conversation: Option<ConversationId>,
    system: String,
    timezone: Option<String>,
}

impl Said {
    fn check(core: &Core, request: ChatRequest) -> Result<Self, Problem> {
        if request.message.trim().is_empty() {
            return Err(Problem::invalid_field("message", "must not be blank"));
        }
        for (field, text) in [
            ("message", Some(&request.message)),
            ("system_prompt", request.system_prompt.as_ref()),
        ] {
            if text.is_some_and(|text| text.contains('\0')) {
                return Err(Problem::invalid_field(
                    field,
                    "must not contain the character NUL",
                ));
            }
        }
        if request
            .timezone
            .as_ref()
            .is_some_and(|zone| zone.parse::<chrono_tz::Tz>().is_err())
        {
            return Err(Problem::invalid_field(
                "timezone",
                "must be an IANA name, for example Europe/Lisbon",
            ));
        }
        let system = match request
            .system_prompt
            .filter(|system| !system.trim().is_empty())
        {
            Some(system) => system,
            None => prompt::persona(&core.config.system_persona),
        };
        let bare = Ingredients {
            system: &system,
            summary: None,
            memories: &[],
            history: Vec::new(),
            message: &request.message,
            budget: core.config.prompt_budget(),
        };
        prompt::assemble(bare)?;
        Ok(Self {
            message: request.message,
            conversation: request.conversation_id.map(ConversationId),
            system,
            timezone: request.timezone,
        })
    }
}

/// Stores the message and starts the reply.
async fn take_in(app: App, external: ExternalUserId, said: Said) -> Result<Arc<Running>, Problem> {
    if app.replies.are_closed() {
        let detail = "The service is stopping. Send the message again in a moment.";
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "service_stopping",
            detail,
        ));
    }
    let user = app.core.store.ensure_user(&external).await?;
    let recalled =
        tokio::spawn(recall(app.core.clone(), user, said.message.clone()).in_current_span());
    let begin = said.conversation.is_none();
    let conversation_id = said
        .conversation
        .unwrap_or_else(|| ConversationId(Uuid::now_v7()));
    let command = SendMessage {
        user,
        conversation_id,
        begin,
        message_id: MessageId(Uuid::now_v7()),
        reply_id: ReplyId(Uuid::now_v7()),
        lease: app.process,
        content: said.message.clone(),
        timezone: said.timezone,
    };
    let claim = app.replies.claim(command.reply_id, conversation_id);
    let running = claim.running().clone();
    let before = store_message(&app, &command).await?;
    let assignment = Assignment {
        user,
        conversation_id,
        message_id: command.message_id,
        reply_id: command.reply_id,
        system: said.system,
        summary: before.summary.as_ref().map(|summary| summary.text.clone()),
        message: said.message,
        history: before.messages.iter().cloned().collect(),
    };
    // A panic in recall is no reason to leave the user without a reply.
    let recalled = async { recalled.await.unwrap_or_default() };
    reply::start(&app, claim, assignment, recalled);
    Ok(running)
}

/// Appends the message to its conversation; returns the conversation as it was before.
async fn store_message(app: &App, command: &SendMessage) -> Result<Arc<Conversation>, Problem> {
    let stream = StreamId::conversation(command.conversation_id);
    let metadata = Metadata {
        correlation_id: Some(command.message_id.0),
        ..Metadata::default()
    };
    let mut actual = 0;
    for _ in 0..TRIES {
        let state = if command.begin {
            Arc::default()
        } else {
            app.core
                .buffer
                .current(&app.core.store, command.conversation_id)
                .await?
        };
        let events = match state.send_message(command.clone()) {
            Ok(events) => events,
            Err(Refusal::Busy(open)) => {
                end_if_orphaned(app, command, &open).await?;
                continue;
            }
            Err(Refusal::NotFound | Refusal::ReplyEnded | Refusal::MovedOn) => {
                return Err(Problem::not_found("conversation"));
            }
        };
        let events = events
            .into_iter()
            .map(|event| (event, metadata.clone()))
            .collect();
        let expected = Expected::Version(state.version);
        match app
            .core
            .store
            .append(&stream, command.user, expected, events, None)
            .await
        {
            Ok(_) => return Ok(state),
            Err(AppendError::Conflict { actual: at }) => {
                actual = at;
                if at < state.version {
                    // The database was set back; the buffer was not.
                    app.core.buffer.forget(command.conversation_id).await;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Conflict { actual }.into())
}

/// Ends a running reply that nobody is at work on; any other keeps the conversation busy.
async fn end_if_orphaned(
    app: &App,
    command: &SendMessage,
    open: &OpenReply,
) -> Result<(), Problem> {
    let alive = if open.lease == app.process {
        app.replies.is_running(open.reply_id)
    } else {
        progress::is_alive(&app.core.pool, open.lease).await?
    };
    if alive {
        return Err(Problem::busy(open.reply_id.0));
    }
    lost_replies::end(
        &app.core,
        command.user,
        command.conversation_id,
        open.reply_id,
    )
    .await?;
    Ok(())
}

/// Finds the memories for a message. When that fails the user still gets a reply.
async fn recall(core: Core, user: UserId, message: String) -> Vec<Found> {
    let text = message_text(Role::User, None, &message);
    let vector = match core.embedder.embed_query(&text).await {
        Ok(vector) => vector,
        Err(error) => {
            tracing::error!("nothing is recalled: {error}");
            return Vec::new();
        }
    };
    let query = Query {
        user,
        text: &message,
        vector: &vector,
        top_k: core.config.long_term_memory_top_k,
        threshold: core.config.memory_similarity_threshold,
        kinds: None,
        include_messages: false,
        conversation: None,
        as_of: None,
    };
    let found = recall::for_prompt(&core.pool, &core.config.decay, &query).await;
    // The message's own vector is made now; the background need not make it again.
    let derived = core.derived.clone();
    let kept = [(content_hash(&text), vector.clone())];
    tokio::spawn(async move {
        if let Err(error) = vectors::keep(&derived, user, &kept).await {
            tracing::debug!("a vector was not kept and is made again: {error}");
        }
    });
    found.unwrap_or_else(|error| {
        tracing::error!("nothing is recalled: {error}");
        Vec::new()
    })
}

/// The headers of every answer, whole or streamed.
fn headers(running: &Running) -> [(HeaderName, String); 4] {
    [
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (
            HeaderName::from_static("x-accel-buffering"),
            "no".to_owned(),
        ),
        (
            HeaderName::from_static("x-conversation-id"),
            running.conversation_id.to_string(),
        ),
        (
            HeaderName::from_static("x-reply-id"),
            running.reply_id.to_string(),
        ),
    ]
}

/// The answer to a message: a stream, or the whole reply.
pub(crate) struct ChatResponse {
    running: Arc<Running>,
    whole: Option<String>,
}

impl IntoResponse for ChatResponse {
    fn into_response(self) -> Response {
        let headers = headers(&self.running);
        let mut response = match self.whole {
            None => ReplyStream(self.running).into_response(),
            Some(response) => {
                let answer = ChatAnswer {
                    response,
                    conversation_id: self.running.conversation_id.0,
                };
                Json(answer).into_response()
            }
        };
        for (name, value) in headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

impl ApiResponse for ChatResponse {
    fn meta() -> MetaResponses {
        let documented = |name: &str, description: &str| MetaHeader {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            required: true,
            deprecated: false,
            schema: Uuid::schema_ref(),
        };
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The reply, as a stream of events or whole.",
                status: Some(200),
                status_range: None,
                content: vec![
                    MetaMediaType {
                        content_type: ReplyStream::CONTENT_TYPE,
                        schema: ReplyStream::schema_ref(),
                    },
                    MetaMediaType {
                        content_type: "application/json",
                        schema: Json::<ChatAnswer>::schema_ref(),
                    },
                ],
                headers: vec![
                    documented("X-Conversation-Id", "The conversation."),
                    documented("X-Reply-Id", "The reply."),
                ],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        <ReplyStream as Payload>::register(registry);
        <Json<ChatAnswer> as Payload>::register(registry);
    }
}
