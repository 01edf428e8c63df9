//! `companion check URL`: tries a deployed service from outside, as its clients do, and says what
//! fails.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use companion_adapters::errors;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::output::{line, note, shown};

/// How long the service may take to answer, and between two pieces of a stream.
const PATIENCE: Duration = Duration::from_secs(90);
const MESSAGE: &str =
    "Hello! This is a check of the service; please answer with one short sentence.";

#[derive(Args)]
pub(crate) struct Options {
    /// Where the service is, for example `https://companion.example.org`
    url: String,
    /// A bearer token
    #[arg(long, env = "COMPANION_TOKEN", hide_env_values = true, conflicts_with_all = ["api_key", "user"])]
    token: Option<String>,
    /// An API key
    #[arg(
        long,
        env = "COMPANION_API_KEY",
        hide_env_values = true,
        conflicts_with = "user"
    )]
    api_key: Option<String>,
    /// The user, where the service takes the header X-User-Id
    #[arg(long)]
    user: Option<String>,
}

/// Tries one thing after the other. The exit code says whether all of it went well.
pub(crate) async fn run(options: Options) -> Result<bool> {
    let url = options.url.trim_end_matches('/').to_owned();
    if !url.starts_with("http://") && !url.starts_with("https://") {
        bail!("{url} is no URL; for example https://companion.example.org");
    }
    companion_adapters::llm::install_tls();
    let http = Client::builder()
        .read_timeout(PATIENCE)
        .connect_timeout(Duration::from_secs(10))
        .build()?;
    note(format_args!("Checking {}", shown(&url)));
    let mut check = Check {
        http,
        url,
        options,
        conversation: None,
        failures: 0,
    };
    let health = check.health().await;
    check.report("health", health);
    let open = check.refuses_strangers().await;
    check.report("a request without a credential is refused", open);
    let known = check.knows_me().await;
    let known = check.report("my credential is accepted", known);
    if known {
        let streamed = check.streams().await;
        check.report("a reply streams", streamed);
        let stored = check.is_stored().await;
        check.report("the conversation is stored", stored);
        let deleted = check.deletes().await;
        check.report("what the check left is deleted", deleted);
    }
    match check.failures {
        0 => line("Everything that was tried works."),
        1 => line("1 check failed."),
        n => line(format_args!("{n} checks failed.")),
    }
    Ok(check.failures == 0)
}

struct Check {
    http: Client,
    url: String,
    options: Options,
    conversation: Option<String>,
    failures: u32,
}

impl Check {
    fn report(&mut self, what: &str, result: Result<String>) -> bool {
        match &result {
            Ok(detail) => line(format_args!("ok    {what}: {detail}")),
            Err(error) => {
                self.failures += 1;
                line(format_args!(
                    "FAIL  {what}: {}",
                    errors::in_one_line(&**error)
                ));
            }
        }
        result.is_ok()
    }

    fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.bare(method, path);
        match &self.options {
            Options {
                token: Some(token), ..
            } => request.bearer_auth(token),
            Options {
                api_key: Some(key), ..
            } => request.header("X-API-Key", key),
            Options {
                user: Some(user), ..
            } => request.header("X-User-Id", user),
            _ => request,
        }
    }

    async fn health(&self) -> Result<String> {
        let response = self.bare(Method::GET, "/health").send().await?;
        let status = response.status();
        let health: Value = response.json().await?;
        let state = health["status"].as_str().unwrap_or("unknown");
        if !status.is_success() {
            bail!("{status}, {state}: the database does not answer");
        }
        if health["llm"] == false {
            bail!("{state}: the LLM does not answer; check LM_STUDIO_BASE_URL of the service");
        }
        if health["workers"]["running"] == 0 {
            bail!("{state}: no worker runs; start companion-worker");
        }
        Ok(format!(
            "{state}, version {}",
            health["version"].as_str().unwrap_or("?")
        ))
    }

    async fn refuses_strangers(&self) -> Result<String> {
        let response = self.bare(Method::GET, "/conversations").send().await?;
        match response.status().as_u16() {
            401 => Ok("401".to_owned()),
            200 => bail!(
                "anybody is let in; set REQUIRE_AUTHENTICATION=true before others can reach the service"
            ),
            _ => bail!("{}", told(response).await),
        }
    }

    async fn knows_me(&self) -> Result<String> {
        if self.options.token.is_none()
            && self.options.api_key.is_none()
            && self.options.user.is_none()
        {
            bail!("none was given; pass --token, --api-key or --user");
        }
        let response = self
            .request(Method::GET, "/conversations?limit=1")
            .send()
            .await?;
        if !response.status().is_success() {
            bail!("{}", told(response).await);
        }
        Ok("yes".to_owned())
    }

    async fn streams(&mut self) -> Result<String> {
        let begun = Instant::now();
        let request = self
            .request(Method::POST, "/chat")
            .json(&json!({ "message": MESSAGE }));
        let mut response = request.send().await?;
        if !response.status().is_success() {
            bail!("{}", told(response).await);
        }
        let headers = response.headers();
        let conversation = headers
            .get("X-Conversation-Id")
            .and_then(|id| id.to_str().ok());
        self.conversation = conversation.map(str::to_owned);
        let (mut pieces, mut first, mut text) = (0, None, String::new());
        let mut received = Vec::new();
        while let Some(bytes) = response.chunk().await? {
            first.get_or_insert_with(|| begun.elapsed());
            pieces += 1;
            received.extend_from_slice(&bytes);
        }
        let received = String::from_utf8_lossy(&received);
        let mut last = Value::Null;
        for data in received
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
        {
            last = serde_json::from_str(data.trim())?;
            text.push_str(last["chunk"].as_str().unwrap_or_default());
        }
        if let Some(code) = last["error"]["code"].as_str() {
            bail!(
                "the reply failed: {code}: {}",
                last["error"]["message"].as_str().unwrap_or_default()
            );
        }
        if last["done"] != true {
            bail!("the stream ended without its last event; does a proxy cut it off?");
        }
        let characters = text.chars().count();
        let first = first.unwrap_or_default().as_secs_f64();
        if pieces == 1 && characters > 200 {
            bail!(
                "{characters} characters came in one piece: a proxy holds the stream back; turn its buffering off"
            );
        }
        Ok(format!(
            "{characters} characters, the first after {first:.1} s, all after {:.1} s",
            begun.elapsed().as_secs_f64()
        ))
    }

    async fn is_stored(&self) -> Result<String> {
        let Some(conversation) = &self.conversation else {
            bail!("the answer had no X-Conversation-Id; does a proxy take headers away?");
        };
        let path = format!("/conversations/{conversation}/messages");
        let response = self.request(Method::GET, &path).send().await?;
        if !response.status().is_success() {
            bail!("{}", told(response).await);
        }
        let list: Value = response.json().await?;
        match list["messages"].as_array().map_or(0, Vec::len) {
            2 => Ok("2 messages".to_owned()),
            n => bail!("{n} messages, not 2; is a worker running?"),
        }
    }

    async fn deletes(&self) -> Result<String> {
        let Some(conversation) = &self.conversation else {
            return Ok("nothing".to_owned());
        };
        let path = format!("/conversations/{conversation}");
        let response = self.request(Method::DELETE, &path).send().await?;
        if !response.status().is_success() {
            bail!("{}", told(response).await);
        }
        Ok("1 conversation".to_owned())
    }
}

/// What an answer says went wrong.
async fn told(response: Response) -> String {
    let status = response.status();
    let problem: Value = response.json().await.unwrap_or_default();
    match (problem["code"].as_str(), problem["detail"].as_str()) {
        (Some(code), Some(detail)) => format!("{status}, {code}: {detail}"),
        _ => format!(
            "{status}, and not in the service's own form: does something else answer there?"
        ),
    }
}
