//! OpenAI's side of the wire: how answers, models and errors are written.

use poem::Response;
use poem::http::StatusCode;
use serde_json::{Value, json};

use super::Recorded;

const MODEL: &str = "local-model";
/// Seconds since 1970, the same in every answer.
const CREATED: u64 = 1_700_000_000;

/// Writes OpenAI's answers to one request.
pub(super) struct Writer {
    id: String,
    model: Value,
    prompt_tokens: usize,
    pub(super) streaming: bool,
    with_usage: bool,
}

impl Writer {
    pub(super) fn new(request: &Recorded, number: usize) -> Self {
        let model = match &request.body["model"] {
            Value::Null => json!(MODEL),
            asked => asked.clone(),
        };
        Self {
            id: format!("chatcmpl-{number}"),
            model,
            prompt_tokens: tokens(&request.prompt()),
            streaming: request.streaming,
            with_usage: request.body["stream_options"]["include_usage"] == true,
        }
    }

    pub(super) fn role(&self) -> String {
        self.choice(json!({"role": "assistant", "content": ""}), None)
    }

    pub(super) fn delta(&self, text: &str) -> String {
        self.choice(json!({"content": text}), None)
    }

    /// The last events of a stream, or the whole answer without one.
    pub(super) fn end(&self, text: &str, reason: &str) -> String {
        if !self.streaming {
            let message = json!({"role": "assistant", "content": text, "refusal": null});
            let choices = json!([
                {"index": 0, "message": message, "logprobs": null, "finish_reason": reason}
            ]);
            return self
                .object("chat.completion", choices, Some(self.usage(text)))
                .to_string();
        }
        let mut events = self.choice(json!({}), Some(reason));
        if self.with_usage {
            events += &self.chunk(json!([]), Some(self.usage(text)));
        }
        events + &event("[DONE]")
    }

    fn choice(&self, delta: Value, reason: Option<&str>) -> String {
        let choices = json!([
            {"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason}
        ]);
        // Whoever asks for the usage gets it as null in every chunk but the last.
        self.chunk(choices, self.with_usage.then_some(Value::Null))
    }

    fn chunk(&self, choices: Value, usage: Option<Value>) -> String {
        event(
            &self
                .object("chat.completion.chunk", choices, usage)
                .to_string(),
        )
    }

    fn object(&self, object: &str, choices: Value, usage: Option<Value>) -> Value {
        let mut answer = json!({
            "id": self.id,
            "object": object,
            "created": CREATED,
            "model": self.model,
            "choices": choices,
        });
        if let Some(usage) = usage {
            answer["usage"] = usage;
        }
        answer
    }

    fn usage(&self, text: &str) -> Value {
        let written = tokens(text);
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": written,
            "total_tokens": self.prompt_tokens + written,
        })
    }
}

/// A guess that is the same every time: four characters to a token.
fn tokens(text: &str) -> usize {
    text.chars().count().div_ceil(4)
}

/// One event of a stream.
pub(super) fn event(data: &str) -> String {
    data.split('\n')
        .map(|line| format!("data: {line}\n"))
        .collect::<String>()
        + "\n"
}

/// The list of models, which is how a client asks whether a server is there.
pub(super) fn models() -> Response {
    let model = json!({"id": MODEL, "object": "model", "created": CREATED, "owned_by": "scripted"});
    json_response(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    Response::builder()
        .status(status)
        .content_type("application/json")
        .body(body.to_string())
}

/// OpenAI's error body.
pub(super) fn refuse(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = match status.as_u16() {
        401 | 403 => "authentication_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    json_response(
        status,
        &json!({"error": {"message": message, "type": kind, "param": null, "code": null}}),
    )
}
