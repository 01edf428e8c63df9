//! A reply as server-sent events.

use std::time::Duration;

use companion_domain::ids::{ConversationId, ReplyId};
use futures_util::stream;
use poem::http::{HeaderMap, HeaderValue, header};
use poem::web::sse::Event;
use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{
    MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry,
};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, Object};
use serde::Serialize;
use uuid::Uuid;

use crate::commands::reply::MAX_REPLY;
use crate::following::Followed;
use crate::replies::Outcome;

/// After so long a silence a comment keeps proxies from hanging up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One event of the stream, as a JSON object on its `data:` line.
#[derive(Debug, Serialize, Object)]
#[oai(skip_serializing_if_is_none)]
#[serde(rename_all = "snake_case")]
pub(crate) struct StreamEvent {
    /// The next piece of the reply; empty in the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<String>,
    /// Why the reply failed, in the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<StreamError>,
    /// `true` in the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<bool>,
    /// The conversation, in the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation_id: Option<Uuid>,
    /// `true` in the last event of a reply that was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled: Option<bool>,
}

/// Why a reply failed.
#[derive(Debug, Serialize, Object)]
pub(crate) struct StreamError {
    /// `llm_unavailable`, `llm_timeout`, `llm_error`, `llm_interrupted`, `llm_invalid`,
    /// `service_stopping`, or `database_unavailable` when the reply could not be stored.
    code: String,
    /// A sentence that says what to do.
    message: String,
}

impl StreamEvent {
    fn piece(chunk: String) -> Self {
        Self {
            chunk: Some(chunk),
            error: None,
            done: None,
            conversation_id: None,
            cancelled: None,
        }
    }

    fn last(outcome: Outcome, conversation: ConversationId) -> Self {
        let (chunk, error) = match outcome {
            Outcome::Completed | Outcome::Cancelled => (Some(String::new()), None),
            Outcome::Failed { code, message } => (
                None,
                Some(StreamError {
                    code: code.name().to_owned(),
                    message: message.to_owned(),
                }),
            ),
        };
        Self {
            chunk,
            error,
            done: Some(true),
            conversation_id: Some(conversation.0),
            cancelled: (outcome == Outcome::Cancelled).then_some(true),
        }
    }
}

/// A stream of a reply.
pub(crate) struct ReplyStream {
    pub(crate) reply: Followed,
    pub(crate) from: Place,
}

impl Payload for ReplyStream {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn schema_ref() -> MetaSchemaRef {
        StreamEvent::schema_ref()
    }

    fn register(registry: &mut Registry) {
        StreamEvent::register(registry);
    }
}

impl ApiResponse for ReplyStream {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The reply, as a stream of events.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: Self::CONTENT_TYPE,
                    schema: Self::schema_ref(),
                }],
                headers: documented_headers(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }
}

/// The headers of every answer with a reply, streamed or whole.
pub(crate) fn headers(reply: &Followed) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    for (name, id) in [
        ("x-conversation-id", reply.conversation_id.to_string()),
        ("x-reply-id", reply.reply_id.to_string()),
    ] {
        if let Ok(id) = id.parse() {
            headers.insert(name, id);
        }
    }
    headers
}

/// Those of them that the documentation names.
pub(crate) fn documented_headers() -> Vec<MetaHeader> {
    let documented = |name: &str, description: &str| MetaHeader {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        required: true,
        deprecated: false,
        schema: Uuid::schema_ref(),
    };
    vec![
        documented("X-Conversation-Id", "The conversation."),
        documented("X-Reply-Id", "The reply."),
    ]
}

/// Where a follower is in the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// So many bytes are read.
    At(usize),
    /// All is read, and also how it ended; told again to who asks again.
    End,
    /// Nothing more is to come.
    Over,
}

impl Place {
    /// Reads the id of an event of this reply: `<reply>:<bytes>` or `<reply>:done`.
    pub(crate) fn parse(id: &str, reply: ReplyId) -> Option<Self> {
        let (of, place) = id.split_once(':')?;
        if of != reply.to_string() {
            return None;
        }
        match place {
            "done" => Some(Self::End),
            // No sign, no space: as it was sent.
            bytes if bytes.bytes().all(|c| c.is_ascii_digit()) => {
                let bytes: usize = bytes.parse().ok()?;
                // No reply is much longer than the longest that is taken from an LLM.
                (bytes <= 2 * MAX_REPLY).then_some(Self::At(bytes))
            }
            _ => None,
        }
    }
}

impl IntoResponse for ReplyStream {
    fn into_response(self) -> Response {
        let headers = headers(&self.reply);
        let start = (self.reply, self.from);
        let frames = stream::unfold(start, |(reply, place)| async move {
            let (frame, place) = match place {
                Place::Over => return None,
                Place::End => match tokio::time::timeout(KEEP_ALIVE, reply.whole()).await {
                    Err(_) => (":\n\n".to_owned(), Place::End),
                    Ok((_, outcome)) => (last_frame(&reply, outcome), Place::Over),
                },
                Place::At(from) => {
                    match tokio::time::timeout(KEEP_ALIVE, reply.after(from)).await {
                        Err(_) => (":\n\n".to_owned(), Place::At(from)),
                        Ok((_, Some(outcome))) => (last_frame(&reply, outcome), Place::Over),
                        Ok((more, None)) => {
                            let to = from + more.len();
                            let id = format!("{}:{to}", reply.reply_id);
                            (frame(&StreamEvent::piece(more), &id), Place::At(to))
                        }
                    }
                }
            };
            Some((Ok::<_, std::io::Error>(frame), (reply, place)))
        });
        let mut response = Response::builder()
            .content_type("text/event-stream")
            .body(Body::from_bytes_stream(frames));
        response.headers_mut().extend(headers);
        response
    }
}

fn last_frame(reply: &Followed, outcome: Outcome) -> String {
    let event = StreamEvent::last(outcome, reply.conversation_id);
    frame(&event, &format!("{}:done", reply.reply_id))
}

fn frame(event: &StreamEvent, id: &str) -> String {
    // Strings and numbers always have a JSON form.
    let data = serde_json::to_string(event).unwrap_or_default();
    Event::message(data).id(id).to_string()
}
