//! The LLM: any OpenAI-compatible server.
//!
//! Whole answers come through `async-openai`. Streamed ones are read here, with the same parser that
//! it uses: it hides whether a stream ended with `[DONE]` or was cut off, and that is the difference
//! between a completed reply and a failed one.

use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use async_openai::Client;
use async_openai::error::OpenAIError;
use async_openai::middleware::ReqwestService;
use companion_domain::events::FailureReason;
use companion_domain::prompt::PromptMessage;
use eventsource_stream::{Event, EventStreamError, Eventsource};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::config::LlmEndpoint;
use crate::metrics;

/// How long a connection to the LLM may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the health check waits.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the LLM gave no whole answer. Never holds text of the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.message())]
pub struct LlmFailure(pub FailureReason);

impl LlmFailure {
    /// A sentence for the caller.
    pub fn message(self) -> &'static str {
        message(self.0)
    }
}

/// What a reason means, as a sentence that a caller can act on.
pub fn message(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::LlmUnavailable => {
            "The LLM can't be reached. Start it, or set LM_STUDIO_BASE_URL to where it runs, and send the message again."
        }
        FailureReason::LlmTimeout => {
            "The LLM was silent for too long. Send the message again, or raise LLM_TIMEOUT_SECONDS."
        }
        FailureReason::LlmError => {
            "The LLM answered with an error. Check that its model is loaded and LM_STUDIO_MODEL_NAME names it."
        }
        FailureReason::LlmInterrupted => "The LLM's answer was cut off. Send the message again.",
        FailureReason::LlmInvalid => {
            "The LLM's answer was empty or not understood. Check that LM_STUDIO_BASE_URL is an OpenAI-compatible server."
        }
        FailureReason::ServiceStopping => {
            "The service stopped while the reply ran. Send the message again."
        }
    }
}

/// A piece of a streamed answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// More text, never empty.
    Text(String),
    /// The tokens that were used, as the LLM reports them.
    Usage(Value),
}

/// How the LLM is to answer.
#[derive(Debug, Clone)]
pub struct Sampling {
    /// 0..=2.
    pub temperature: f64,
    /// The most tokens of the answer.
    pub max_tokens: u32,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Whether the LLM ended it by itself, and not at the token limit.
    pub whole: bool,
    /// The tokens that were used, as the LLM reports them.
    pub usage: Option<Value>,
}

/// A client for one endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Llm {
    client: Client<Endpoint>,
    http: reqwest::Client,
    endpoint: Endpoint,
    timeout: Duration,
    /// One for each whole answer that may be asked for at once.
    permits: Option<Arc<Semaphore>>,
}

impl Llm {
    /// A client that gives up after `timeout` of silence.
    ///
    /// # Errors
    /// When the TLS of this machine can't be set up.
    pub fn new(endpoint: &LlmEndpoint, timeout: Duration) -> Result<Self, reqwest::Error> {
        install_tls();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(timeout))
            .build()?;
        let endpoint = Endpoint::new(endpoint);
        // Without the library's own retries: whoever asks knows how often to try.
        let client = Client::build(http.clone(), endpoint.clone())
            .with_http_service(ReqwestService::new(http.clone()));
        Ok(Self {
            client,
            http,
            endpoint,
            timeout,
            permits: None,
        })
    }

    /// The same client, which asks for so many whole answers at once, at least 1; further ones wait for
    /// their turn. Clones share the turns.
    #[must_use]
    pub fn at_once(self, answers: usize) -> Self {
        Self {
            permits: Some(Arc::new(Semaphore::new(answers.max(1)))),
            ..self
        }
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        &self.endpoint.model
    }

    /// Asks for an answer and streams it. Ends after the first error; dropping it hangs up.
    pub fn stream(
        &self,
        messages: &[PromptMessage],
        sampling: &Sampling,
    ) -> impl Stream<Item = Result<Piece, LlmFailure>> + Send + use<> {
        let mut body = self.request(messages, sampling);
        body["stream"] = json!(true);
        body["stream_options"] = json!({ "include_usage": true });
        let url = format!("{}/chat/completions", self.endpoint.base_url);
        let request = self
            .http
            .post(url)
            .headers(self.endpoint.headers.clone())
            .json(&body);
        let start = Streaming::Asking(Box::new(request));
        let timeout = self.timeout;
        futures_util::stream::unfold(start, move |state| next_piece(state, timeout))
    }

    /// Asks for an answer, in a certain format if one is given, and waits for the whole of it.
    ///
    /// # Errors
    /// [`LlmFailure`] when there is no answer.
    #[tracing::instrument(name = "llm.complete", skip_all, fields(model = self.endpoint.model))]
    pub async fn complete(
        &self,
        messages: &[PromptMessage],
        sampling: &Sampling,
        format: Option<Value>,
    ) -> Result<Answer, LlmFailure> {
        let _turn = match &self.permits {
            // It is never closed.
            Some(permits) => permits.acquire().await.ok(),
            None => None,
        };
        let mut request = self.request(messages, sampling);
        request["stream"] = json!(false);
        if let Some(format) = format {
            request["response_format"] = format;
        }
        let begun = Instant::now();
        let chat = self.client.chat();
        let answer = chat.create_byot::<Value, Value>(request);
        let answer = match tokio::time::timeout(self.timeout, answer).await {
            Ok(answer) => answer.map_err(|error| failure(&error)),
            Err(_) => Err(LlmFailure(FailureReason::LlmTimeout)),
        };
        let status = answer
            .as_ref()
            .err()
            .map_or("success", |failure| failure.0.code());
        metrics::llm_request(status, begun);
        let answer = answer?;
        let choice = &answer["choices"][0];
        let text = choice["message"]["content"]
            .as_str()
            .ok_or(LlmFailure(FailureReason::LlmInvalid))?;
        Ok(Answer {
            text: text.to_owned(),
            whole: choice["finish_reason"] != "length",
            usage: answer["usage"]
                .is_object()
                .then(|| token_counts(&answer["usage"])),
        })
    }

    /// Whether the LLM answers at all.
    pub async fn ping(&self) -> bool {
        let models = format!("{}/models", self.endpoint.base_url);
        let request = self
            .http
            .get(models)
            .headers(self.endpoint.headers.clone())
            .timeout(PING_TIMEOUT);
        request
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
    }

    fn request(&self, messages: &[PromptMessage], sampling: &Sampling) -> Value {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| json!({ "role": message.role, "content": message.content }))
            .collect();
        json!({
            "model": self.endpoint.model,
            "messages": messages,
            "temperature": sampling.temperature,
            "max_tokens": sampling.max_tokens,
        })
    }
}

type Events = BoxStream<'static, Result<Event, EventStreamError<reqwest::Error>>>;

/// The state of a streamed answer between two pieces.
enum Streaming {
    Asking(Box<reqwest::RequestBuilder>),
    Reading(Reading),
    Over,
}

struct Reading {
    events: Events,
    /// Whether the LLM said anything yet.
    begun: bool,
    /// Whether it said that it is done.
    finished: bool,
}

/// The next piece, after at most `timeout` of silence.
async fn next_piece(
    mut state: Streaming,
    timeout: Duration,
) -> Option<(Result<Piece, LlmFailure>, Streaming)> {
    loop {
        let step = match state {
            Streaming::Over => return None,
            Streaming::Asking(request) => tokio::time::timeout(timeout, ask(*request)).await,
            Streaming::Reading(reading) => tokio::time::timeout(timeout, read(reading)).await,
        };
        state = match step.unwrap_or(Err(FailureReason::LlmTimeout)) {
            Ok((Some(piece), state)) => return Some((Ok(piece), state)),
            Ok((None, state)) => state,
            Err(reason) => return Some((Err(LlmFailure(reason)), Streaming::Over)),
        };
    }
}

async fn ask(
    request: reqwest::RequestBuilder,
) -> Result<(Option<Piece>, Streaming), FailureReason> {
    let response = request.send().await.map_err(|error| http_failure(&error))?;
    if !response.status().is_success() {
        tracing::warn!(
            status = response.status().as_u16(),
            "the LLM answered with an error"
        );
        return Err(FailureReason::LlmError);
    }
    let events = response.bytes_stream().eventsource().boxed();
    Ok((
        None,
        Streaming::Reading(Reading {
            events,
            begun: false,
            finished: false,
        }),
    ))
}

async fn read(mut reading: Reading) -> Result<(Option<Piece>, Streaming), FailureReason> {
    let event = match reading.events.next().await {
        Some(Ok(event)) => event,
        None | Some(Err(_)) if reading.finished => return Ok((None, Streaming::Over)),
        // Something answered, but it was not an OpenAI-compatible stream.
        None if !reading.begun => return Err(FailureReason::LlmInvalid),
        None | Some(Err(EventStreamError::Transport(_))) => {
            return Err(FailureReason::LlmInterrupted);
        }
        Some(Err(_)) => return Err(FailureReason::LlmInvalid),
    };
    if event.data.trim() == "[DONE]" {
        return Ok((None, Streaming::Over));
    }
    if event.event == "keepalive" {
        return Ok((None, Streaming::Reading(reading)));
    }
    reading.begun = true;
    let chunk: Value = serde_json::from_str(&event.data).map_err(|_| FailureReason::LlmInvalid)?;
    let piece = read_chunk(&chunk, &mut reading.finished)?;
    Ok((piece, Streaming::Reading(reading)))
}

/// Reads one chunk; tolerant of what servers add, strict about what is no chunk at all.
fn read_chunk(piece: &Value, finished: &mut bool) -> Result<Option<Piece>, FailureReason> {
    if piece.get("error").is_some_and(|error| !error.is_null()) {
        return Err(FailureReason::LlmError);
    }
    let choices = piece.get("choices").and_then(Value::as_array);
    let usage = piece.get("usage").filter(|usage| usage.is_object());
    let Some(choice) = choices.and_then(|choices| choices.first()) else {
        return match (choices, usage) {
            (_, Some(usage)) => Ok(Some(Piece::Usage(token_counts(usage)))),
            (Some(_), None) => Ok(None),
            (None, None) => Err(FailureReason::LlmInvalid),
        };
    };
    if choice
        .get("finish_reason")
        .is_some_and(|reason| !reason.is_null())
    {
        *finished = true;
    }
    match &choice["delta"]["content"] {
        Value::String(text) if !text.is_empty() => Ok(Some(Piece::Text(text.clone()))),
        Value::String(_) | Value::Null => Ok(None),
        _ => Err(FailureReason::LlmInvalid),
    }
}

/// The figures of a usage report, and nothing else that a server may put there.
fn token_counts(usage: &Value) -> Value {
    let names = ["prompt_tokens", "completion_tokens", "total_tokens"];
    let counts = names
        .iter()
        .filter_map(|name| Some((*name, usage.get(*name)?.as_u64()?)));
    counts
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn failure(error: &OpenAIError) -> LlmFailure {
    LlmFailure(match error {
        OpenAIError::Reqwest(error) => http_failure(error),
        OpenAIError::ApiError(_) => FailureReason::LlmError,
        _ => FailureReason::LlmInvalid,
    })
}

fn http_failure(error: &reqwest::Error) -> FailureReason {
    if error.is_timeout() && !error.is_connect() {
        FailureReason::LlmTimeout
    } else if error.is_decode() {
        FailureReason::LlmInvalid
    } else if error.is_body() {
        FailureReason::LlmInterrupted
    } else {
        FailureReason::LlmUnavailable
    }
}

/// Makes `ring` the TLS provider of this process. Repeating it changes nothing.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // It fails only when somebody installed one before, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// An endpoint as the client library asks for it. Its own configuration always sends an
/// `Authorization` header and reads `OPENAI_*` variables; this one does neither.
#[derive(Clone)]
struct Endpoint {
    base_url: String,
    model: String,
    headers: HeaderMap,
    api_key: SecretString,
}

impl Endpoint {
    fn new(endpoint: &LlmEndpoint) -> Self {
        let mut headers = HeaderMap::new();
        let key = endpoint.api_key.expose();
        if !key.is_empty()
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {key}"))
        {
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Self {
            base_url: endpoint.base_url.clone(),
            model: endpoint.model.clone(),
            headers,
            api_key: SecretString::from(key.to_owned()),
        }
    }
}

impl async_openai::config::Config for Endpoint {
    fn headers(&self) -> HeaderMap {
        self.headers.clone()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base_url)
    }

    fn query(&self) -> Vec<(&str, &str)> {
        Vec::new()
    }

    fn api_base(&self) -> &str {
        &self.base_url
    }

    fn api_key(&self) -> &SecretString {
        &self.api_key
    }
}
