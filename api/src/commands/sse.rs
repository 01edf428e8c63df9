//! A reply as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use companion_domain::ids::ConversationId;
use futures_util::stream;
use poem::web::sse::Event;
use poem::{Body, IntoResponse, Response};
use poem_openapi::Object;
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde::Serialize;
use uuid::Uuid;

use crate::replies::{Outcome, Running};

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
        }
    }

    fn last(outcome: Outcome, conversation: ConversationId) -> Self {
        let (chunk, error) = match outcome {
            Outcome::Completed => (Some(String::new()), None),
            Outcome::Failed { code, message } => (
                None,
                Some(StreamError {
                    code: code.to_owned(),
                    message: message.to_owned(),
                }),
            ),
        };
        Self {
            chunk,
            error,
            done: Some(true),
            conversation_id: Some(conversation.0),
        }
    }
}

/// A stream of a reply's text from its beginning.
pub(crate) struct ReplyStream(pub(crate) Arc<Running>);

impl Payload for ReplyStream {
    const CONTENT_TYPE: &'static str = "text/event-stream";

    fn schema_ref() -> MetaSchemaRef {
        StreamEvent::schema_ref()
    }

    fn register(registry: &mut Registry) {
        StreamEvent::register(registry);
    }
}

/// Where a follower is in the text.
enum Place {
    At(usize),
    End,
}

impl IntoResponse for ReplyStream {
    fn into_response(self) -> Response {
        let running = self.0;
        let frames = stream::unfold((running, Place::At(0)), |(running, place)| async move {
            let Place::At(from) = place else { return None };
            let (frame, place) = match tokio::time::timeout(KEEP_ALIVE, running.after(from)).await {
                Err(_) => (":\n\n".to_owned(), Place::At(from)),
                Ok((_, Some(outcome))) => {
                    let event = StreamEvent::last(outcome, running.conversation_id);
                    (
                        frame(&event, &format!("{}:done", running.reply_id)),
                        Place::End,
                    )
                }
                Ok((more, None)) => {
                    let to = from + more.len();
                    (
                        frame(
                            &StreamEvent::piece(more),
                            &format!("{}:{to}", running.reply_id),
                        ),
                        Place::At(to),
                    )
                }
            };
            Some((Ok::<_, std::io::Error>(frame), (running, place)))
        });
        Response::builder()
            .content_type("text/event-stream")
            .body(Body::from_bytes_stream(frames))
    }
}

fn frame(event: &StreamEvent, id: &str) -> String {
    // Strings and numbers always have a JSON form.
    let data = serde_json::to_string(event).unwrap_or_default();
    Event::message(data).id(id).to_string()
}
