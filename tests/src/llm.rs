//! A scripted model server that speaks the OpenAI protocol: the only fake in the test suite.
//!
//! The service is pointed at [`ScriptedLlm::base_url`] and uses its real client. A test says what the model answers,
//! and reads what the model was asked. A request with `"stream": true` is a chat; any other one is background work
//! (an extraction or a summary), with a script of its own. Nothing here sleeps unless a bench sets a latency.

mod gate;
mod play;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use poem::http::Method;
use poem::{Request, Response, endpoint::make};
use serde_json::Value;

pub use self::gate::Gate;
use self::play::Part;
use self::wire::{Writer, refuse};
use crate::http::LocalServer;

const COMPLETIONS: &str = "/v1/chat/completions";
const MODELS: &str = "/v1/models";

/// What the model does with one request.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Answers with this text; a stream gets it in small deltas.
    Text(String),
    /// Answers with exactly these deltas.
    Chunks(Vec<String>),
    /// Answers with these deltas, each when the gate is opened. The last one is followed by the end of the answer at
    /// once; an empty last delta keeps an answer open whose text is complete.
    Gated {
        /// The deltas.
        chunks: Vec<String>,
        /// The gate that holds each of them back.
        gate: Gate,
    },
    /// Refuses with this error status and message, in OpenAI's error body.
    Status(u16, String),
    /// Answers 200 with this where JSON belongs: as a line of the stream, or as the body.
    Garbage(String),
    /// Sends these deltas and closes the connection in the middle of the answer.
    CutAfter(Vec<String>),
    /// Sends these deltas and then nothing, until the client goes away. Without a stream: nothing at all.
    HangAfter(Vec<String>),
    /// An answer that is proper and has no text.
    Empty,
    /// Answers with this text and says that the limit of tokens cut it off.
    Length(String),
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// `GET` or `POST`.
    pub method: String,
    /// The path, such as `/v1/chat/completions`.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The body; `null` when there was none or it was not JSON.
    pub body: Value,
    /// Whether a stream was asked for.
    pub streaming: bool,
}

impl Recorded {
    /// The messages of the prompt as (role, content).
    #[must_use]
    pub fn messages(&self) -> Vec<(String, String)> {
        let messages = self.body["messages"].as_array();
        messages
            .into_iter()
            .flatten()
            .map(role_and_content)
            .collect()
    }

    /// All the text the model was given, one message after the other.
    #[must_use]
    pub fn prompt(&self) -> String {
        let contents: Vec<_> = self
            .messages()
            .into_iter()
            .map(|(_, content)| content)
            .collect();
        contents.join("\n")
    }
}

/// The server; clones are the same server. It stops when the last clone is dropped.
#[derive(Clone)]
pub struct ScriptedLlm {
    server: Arc<LocalServer>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    script: Mutex<Script>,
    recorded: Mutex<Vec<Recorded>>,
    unfinished: AtomicUsize,
}

struct Script {
    reply: String,
    extraction: String,
    next: VecDeque<Behaviour>,
    next_extraction: VecDeque<Behaviour>,
    latency: Duration,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            reply: "Hello! How are you today?".into(),
            extraction: r#"{"memories":[]}"#.into(),
            next: VecDeque::new(),
            next_extraction: VecDeque::new(),
            latency: Duration::ZERO,
        }
    }
}

impl ScriptedLlm {
    /// Starts on a free port of loopback.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start() -> Self {
        Self::start_on(0).await
    }

    /// Starts on this port of loopback, such as that of a server stopped before.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    pub async fn start_on(port: u16) -> Self {
        let state = Arc::new(State::default());
        let answering = state.clone();
        let endpoint = make(move |request| answer(answering.clone(), request));
        Self {
            server: Arc::new(LocalServer::start(port, endpoint).await),
            state,
        }
    }

    /// The port, for [`ScriptedLlm::start_on`].
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// The base URL, as `LM_STUDIO_BASE_URL` wants it.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://127.0.0.1:{}/v1", self.port())
    }

    /// The answer to every chat from now on.
    pub fn reply(&self, text: impl Into<String>) {
        self.script().reply = text.into();
    }

    /// What the next chat without one gets instead; calls queue up.
    pub fn next(&self, behaviour: Behaviour) {
        self.script().next.push_back(behaviour);
    }

    /// The answer to every extraction or summary from now on; `{"memories":[]}` until then.
    pub fn extraction(&self, answer: impl Into<String>) {
        self.script().extraction = answer.into();
    }

    /// What the next extraction or summary gets instead; calls queue up.
    pub fn next_extraction(&self, behaviour: Behaviour) {
        self.script().next_extraction.push_back(behaviour);
    }

    /// Benches only: how long the model thinks before each answer.
    pub fn latency(&self, latency: Duration) {
        self.script().latency = latency;
    }

    /// Every request so far, in the order of arrival; refused ones and `GET /v1/models` too.
    #[must_use]
    pub fn requests(&self) -> Vec<Recorded> {
        lock(&self.state.recorded).clone()
    }

    /// The chats among [`ScriptedLlm::requests`].
    #[must_use]
    pub fn chat_requests(&self) -> Vec<Recorded> {
        self.completions(true)
    }

    /// The extractions and summaries among [`ScriptedLlm::requests`].
    #[must_use]
    pub fn extraction_requests(&self) -> Vec<Recorded> {
        self.completions(false)
    }

    /// How many answers are being given now; 0 when no client is waiting any more. A client that stops reading at
    /// `[DONE]` may be a moment ahead of it: ask [`eventually`](crate::eventually::eventually).
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.state.unfinished.load(Ordering::SeqCst)
    }

    /// Closes the listener and every connection: from then on the base URL refuses connections.
    pub async fn stop(&self) {
        self.server.stop().await;
    }

    fn completions(&self, streaming: bool) -> Vec<Recorded> {
        let mut requests = self.requests();
        requests.retain(|request| request.path == COMPLETIONS && request.streaming == streaming);
        requests
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.state.script)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn role_and_content(message: &Value) -> (String, String) {
    let content = match &message["content"] {
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part["text"].as_str())
            .collect(),
        content => content.as_str().unwrap_or_default().to_owned(),
    };
    (
        message["role"].as_str().unwrap_or_default().to_owned(),
        content,
    )
}

async fn answer(state: Arc<State>, mut request: Request) -> Response {
    let bytes = request.take_body().into_vec().await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let recorded = Recorded {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        authorization: request.header("authorization").map(str::to_owned),
        streaming: body["stream"] == true,
        body,
    };
    lock(&state.recorded).push(recorded.clone());
    match (request.method(), recorded.path.as_str()) {
        (&Method::GET, MODELS) => wire::models(),
        (&Method::POST, COMPLETIONS) => complete(&state, &recorded),
        _ => refuse(404, "no such path"),
    }
}

/// Takes the behaviour that is due and lets it play while the response is already on its way.
fn complete(state: &Arc<State>, request: &Recorded) -> Response {
    if request.messages().is_empty() {
        return refuse(400, "'messages' must be an array that is not empty");
    }
    let (behaviour, number, latency) = state.due(request.streaming);
    let part = match Part::of(behaviour) {
        Ok(part) => part,
        Err((status, message)) => return refuse(status, &message),
    };
    let writer = Writer::new(request, number);
    let content_type = if request.streaming {
        "text/event-stream"
    } else {
        "application/json"
    };
    let body = part.perform(writer, latency, Unfinished::new(state.clone()));
    Response::builder().content_type(content_type).body(body)
}

impl State {
    /// The behaviour for the next request of this kind, the request's number and the latency.
    fn due(&self, streaming: bool) -> (Behaviour, usize, Duration) {
        let number = lock(&self.recorded).len();
        let mut script = lock(&self.script);
        let (next, text) = if streaming {
            (script.next.pop_front(), &script.reply)
        } else {
            (script.next_extraction.pop_front(), &script.extraction)
        };
        let behaviour = next.unwrap_or_else(|| Behaviour::Text(text.clone()));
        (behaviour, number, script.latency)
    }
}

/// Counts an answer as unfinished while it lives.
struct Unfinished(Arc<State>);

impl Unfinished {
    fn new(state: Arc<State>) -> Self {
        state.unfinished.fetch_add(1, Ordering::SeqCst);
        Self(state)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.unfinished.fetch_sub(1, Ordering::SeqCst);
    }
}
