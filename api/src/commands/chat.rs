//! `POST /chat`: check a message, have it sent, answer with the reply as a stream or whole.

use chrono::Utc;
use chrono_tz::Tz;
use companion_adapters::core::Core;
use companion_domain::ids::ConversationId;
use companion_domain::prompt::{self, Ingredients};
use poem::web::Data;
use poem::{IntoResponse, Request, Response};
use poem_openapi::param::Header;
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::commands::sending::{self, IDEMPOTENCY_KEY, Key, Said};
use crate::commands::sse::{self, Place, ReplyStream};
use crate::commands::to_the_end;
use crate::error::Problem;
use crate::following::Followed;
use crate::replies::Outcome;
use crate::{header, limits};

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

impl ChatRequest {
    /// All of it, to tell one request from another.
    fn as_sent(&self) -> Value {
        let Self {
            message,
            conversation_id,
            system_prompt,
            timezone,
        } = self;
        json!([message, conversation_id, system_prompt, timezone])
    }
}

/// The whole reply, for callers who ask for `application/json`.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct ChatAnswer {
    /// The reply's text.
    response: String,
    /// The conversation, for the next message.
    conversation_id: Uuid,
    /// `true` when the reply was cancelled.
    cancelled: Option<bool>,
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
        /// Makes the request repeatable for a day: the same key, 1 to 255 visible ASCII characters,
        /// attaches to the reply that the first request led to, or tries again when that failed.
        #[oai(name = "Idempotency-Key")]
        _idempotency_key: Header<Option<String>>,
        body: JsonBody<ChatRequest>,
    ) -> Result<ChatResponse, Problem> {
        let accept = request.header("accept").unwrap_or_default();
        let whole = accept.contains("application/json") && !accept.contains("text/event-stream");
        let key = header::only(request, IDEMPOTENCY_KEY).map_err(|_| Key::invalid())?;
        let key = key
            .map(|key| Key::new(key, &body.0.as_sent()))
            .transpose()?;
        let said = check(&app.core, body.0)?;
        let take_in = sending::take_in(app.0.clone(), caller, said, key);
        let (reply, counted) = to_the_end(take_in).await?;
        if let Some(counted) = counted {
            limits::counts_as_reply(counted);
        }
        if !whole {
            return Ok(ChatResponse { reply, whole: None });
        }
        match reply.whole().await {
            (_, Outcome::Failed { code, message }) => {
                let (conversation, reply_id) = (reply.conversation_id.0, reply.reply_id.0);
                let problem = Problem::reply_failed(code, message, conversation, reply_id);
                Err(problem.headers(&sse::headers(&reply)))
            }
            (text, outcome) => {
                let whole = Some((text, outcome));
                Ok(ChatResponse { reply, whole })
            }
        }
    }
}

/// Checks what the schema does not say of a message.
fn check(core: &Core, request: ChatRequest) -> Result<Said, Problem> {
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
        now: Utc::now().with_timezone(&Tz::UTC),
        budget: core.config.prompt_budget(),
    };
    prompt::assemble(bare)?;
    Ok(Said {
        message: request.message,
        conversation: request.conversation_id.map(ConversationId),
        system,
        timezone: request.timezone,
    })
}

/// The answer to a message: a stream, or the whole reply.
pub(crate) struct ChatResponse {
    reply: Followed,
    whole: Option<(String, Outcome)>,
}

impl IntoResponse for ChatResponse {
    fn into_response(self) -> Response {
        let Some((response, outcome)) = self.whole else {
            let stream = ReplyStream {
                reply: self.reply,
                from: Place::At(0),
            };
            return stream.into_response();
        };
        let answer = ChatAnswer {
            response,
            conversation_id: self.reply.conversation_id.0,
            cancelled: (outcome == Outcome::Cancelled).then_some(true),
        };
        let mut response = Json(answer).into_response();
        response.headers_mut().extend(sse::headers(&self.reply));
        response
    }
}

impl ApiResponse for ChatResponse {
    fn meta() -> MetaResponses {
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
                headers: sse::documented_headers(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        <ReplyStream as Payload>::register(registry);
        <Json<ChatAnswer> as Payload>::register(registry);
    }
}
