//! The HTTP API as the terminal client needs it.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use companion_adapters::llm;
use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use uuid::Uuid;

/// The most memories that are listed.
const MEMORIES: u32 = 100;

/// A client of one service, for one user.
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
}

/// A piece of a reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Done,
    Cancelled,
}

/// A memory as it is listed.
#[derive(Debug, Deserialize)]
pub(super) struct Memory {
    pub(super) content: String,
    pub(super) kind: String,
    pub(super) importance_now: f64,
}

/// A memory that a prompt contained.
#[derive(Debug, Deserialize)]
pub(super) struct Recalled {
    pub(super) content: String,
    pub(super) score: f64,
}

impl Client {
    pub(super) fn new(url: &str, user: &str, token: Option<&str>) -> Result<Self> {
        llm::install_tls();
        let mut credential = match token {
            Some(token) => {
                HeaderValue::from_str(&format!("Bearer {token}")).context("--token is no JWT")?
            }
            None => HeaderValue::from_str(user)
                .context("--user holds characters that no user name may have")?,
        };
        credential.set_sensitive(true);
        let name = if token.is_some() {
            AUTHORIZATION
        } else {
            HeaderName::from_static("x-user-id")
        };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .default_headers(HeaderMap::from_iter([(name, credential)]))
            .build()?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
        })
    }

    /// Finds out whether a companion answers at all.
    pub(super) async fn greet(&self) -> Result<()> {
        let answer = self
            .send(self.http.get(format!("{}/health/live", self.url)))
            .await?;
        if answer.status().as_u16() == 404 {
            bail!("what answers at {} is no companion; check --url", self.url);
        }
        Ok(())
    }

    /// Says something. Returns the conversation and the pieces of the reply.
    pub(super) async fn say(
        &self,
        message: &str,
        conversation: Option<Uuid>,
    ) -> Result<(Option<Uuid>, impl Stream<Item = Result<Piece>> + use<>)> {
        let body = json!({ "message": message, "conversation_id": conversation });
        let answer = self
            .send(self.http.post(format!("{}/chat", self.url)).json(&body))
            .await?;
        let answer = refused(answer).await?;
        let conversation = answer
            .headers()
            .get("x-conversation-id")
            .and_then(|id| id.to_str().ok()?.parse().ok());
        let pieces = answer
            .bytes_stream()
            .eventsource()
            .map(|event| match event {
                Ok(event) => parse(&event.data),
                Err(_) => Err(anyhow!(
                    "the connection was cut off; the reply goes on and is stored"
                )),
            });
        Ok((conversation, pieces))
    }

    /// The memories that the prompt of the last reply contained.
    pub(super) async fn recalled(&self, conversation: Uuid) -> Result<Vec<Recalled>> {
        let messages: Messages = self
            .get(&format!("/conversations/{conversation}/messages?limit=2"))
            .await?;
        let last = messages
            .messages
            .into_iter()
            .rfind(|message| message.role == "assistant");
        Ok(last
            .and_then(|message| message.reply)
            .map(|reply| reply.recalled)
            .unwrap_or_default())
    }

    /// The memories of the user, and how many there are in all.
    pub(super) async fn memories(&self) -> Result<(Vec<Memory>, u64)> {
        let memories: Memories = self.get(&format!("/memories?limit={MEMORIES}")).await?;
        Ok((memories.memories, memories.total))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self
            .send(self.http.get(format!("{}{path}", self.url)))
            .await?;
        let answer = refused(answer).await?;
        answer
            .json()
            .await
            .map_err(|_| anyhow!("the answer of {} to {path} is not understood", self.url))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| {
            if error.is_builder() {
                anyhow!(
                    "{} is no URL of a service; for example --url http://127.0.0.1:8000",
                    self.url
                )
            } else if error.is_connect() {
                anyhow!("nothing answers at {}; start it with: ops/up", self.url)
            } else {
                anyhow!("{} gave no answer: the connection was cut off", self.url)
            }
        })
    }
}

#[derive(Deserialize)]
struct Memories {
    memories: Vec<Memory>,
    total: u64,
}

#[derive(Deserialize)]
struct Messages {
    messages: Vec<Message>,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    reply: Option<Reply>,
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    recalled: Vec<Recalled>,
}

/// One event of a reply.
#[derive(Deserialize)]
struct Event {
    chunk: Option<String>,
    #[serde(default)]
    done: bool,
    #[serde(default)]
    cancelled: bool,
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Failure {
    message: String,
}

fn parse(data: &str) -> Result<Piece> {
    let event: Event = serde_json::from_str(data)
        .map_err(|_| anyhow!("a piece of the reply is not understood"))?;
    match event {
        Event {
            error: Some(failure),
            ..
        } => Err(anyhow!(failure.message)),
        Event {
            cancelled: true, ..
        } => Ok(Piece::Cancelled),
        Event { done: true, .. } => Ok(Piece::Done),
        Event { chunk, .. } => Ok(Piece::Text(chunk.unwrap_or_default())),
    }
}

/// What the service says when it refuses.
#[derive(Deserialize)]
struct Problem {
    code: String,
    detail: String,
    #[serde(default)]
    errors: Vec<FieldError>,
}

#[derive(Deserialize)]
struct FieldError {
    field: String,
    message: String,
}

async fn refused(answer: Response) -> Result<Response> {
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.bytes().await.unwrap_or_default();
    Err(match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => anyhow!(explain(&problem)),
        Err(_) => anyhow!("the service answers {status}"),
    })
}

fn explain(problem: &Problem) -> String {
    let mut text = problem.detail.trim_end_matches('.').to_owned();
    for (nth, FieldError { field, message }) in problem.errors.iter().enumerate() {
        let separator = if nth == 0 { ": " } else { ", " };
        let subject = if message.starts_with(field) {
            String::new()
        } else {
            format!("{field} ")
        };
        text.extend([separator, &subject, message]);
    }
    format!("{text} ({})", problem.code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_event_is_understood() {
        assert_eq!(
            parse(r#"{"chunk": "Hi\n"}"#).expect("text"),
            Piece::Text("Hi\n".to_owned())
        );
        assert_eq!(
            parse(r#"{"chunk":"","done":true,"conversation_id":"x"}"#).expect("done"),
            Piece::Done
        );
        let cancelled = r#"{"chunk":"","done":true,"conversation_id":"x","cancelled":true}"#;
        assert_eq!(parse(cancelled).expect("cancelled"), Piece::Cancelled);
        let failed = r#"{"error":{"code":"llm_unavailable","message":"The LLM can't be reached."},"done":true}"#;
        assert_eq!(
            parse(failed).expect_err("failed").to_string(),
            "The LLM can't be reached."
        );
        assert!(parse("nonsense").is_err());
    }

    #[test]
    fn a_refusal_is_one_line_with_its_code_and_the_fields_at_fault() {
        let problem: Problem = serde_json::from_str(
            r#"{"code":"validation","detail":"The request is not valid.","errors":[{"field":"message","message":"is blank"}]}"#,
        )
        .expect("problem");
        assert_eq!(
            explain(&problem),
            "The request is not valid: message is blank (validation)"
        );
    }

    #[tokio::test]
    async fn a_service_that_is_down_is_told_with_the_way_to_start_it() {
        let port = crate::port::free_port().expect("port");
        let client = Client::new(&format!("http://127.0.0.1:{port}/"), "me", None).expect("client");
        let error = client
            .greet()
            .await
            .expect_err("nobody is there")
            .to_string();
        assert_eq!(
            error,
            format!("nothing answers at http://127.0.0.1:{port}; start it with: ops/up")
        );
        let client = Client::new("localhost", "me", None).expect("client");
        assert!(
            client
                .greet()
                .await
                .expect_err("no URL")
                .to_string()
                .contains("--url")
        );
    }
}
