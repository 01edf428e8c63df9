//! The whole service in this process, on port 0, against real PostgreSQL, real embeddings and the
//! scripted LLM.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::OnceLock;

use companion_adapters::config::Config;
use companion_adapters::core::Core;
use companion_adapters::embedder::Embedder;
use companion_adapters::telemetry;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::database;
use crate::eventually::{eventually, within};
use crate::http::http_client;
use crate::llm::ScriptedLlm;
use crate::sse::{SseEvent, SseReader, read_events, text};

/// A master key for tests: 32 times the byte 7.
pub const MASTER_KEY: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// A secret to sign tokens with, for tests.
pub const JWT_SECRET_KEY: &str = "a secret for tests, and for nothing else 0123456789";

/// How often it is asked at the most whether what was written last is there; each takes half a second.
const ASKED_AGAIN: u32 = 20;

/// Variables as `Config` reads them.
pub type Variables = HashMap<String, String>;

/// A running service. Dropping it stops it.
pub struct App {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its LLM.
    pub llm: ScriptedLlm,
    /// What it holds open.
    pub core: Core,
    /// The variables it was started with.
    pub variables: Variables,
    client: Client,
    shutdown: CancellationToken,
    tasks: Vec<JoinHandle<anyhow::Result<()>>>,
}

/// What a chat gave.
#[derive(Debug)]
pub struct Chatted {
    /// The events of the stream.
    pub events: Vec<SseEvent>,
    /// The text of the reply.
    pub text: String,
    /// The conversation.
    pub conversation_id: String,
    /// The reply.
    pub reply_id: String,
}

impl App {
    /// Starts the service with extraction by patterns at once, unless told otherwise.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts the service with some variables set.
    pub async fn start_with(overrides: &[(&str, &str)]) -> Self {
        let llm = ScriptedLlm::start().await;
        let variables = variables(&llm, overrides).await;
        Self::start_again(variables, llm).await
    }

    /// Starts a service on a database that is there already.
    pub async fn start_again(variables: Variables, llm: ScriptedLlm) -> Self {
        Self::run(variables, llm, true).await
    }

    /// Starts an API without background work.
    pub async fn start_api_only(variables: Variables, llm: ScriptedLlm) -> Self {
        Self::run(variables, llm, false).await
    }

    async fn run(variables: Variables, llm: ScriptedLlm, with_worker: bool) -> Self {
        let config = Config::from_variables(variables.clone()).expect("a valid configuration");
        // For whoever looks for the cause of a failure: the runner shows it then. `RUST_LOG` has it say more.
        let quiet = Config {
            log_level: "error".parse().expect("a level"),
            ..config.clone()
        };
        let _ = telemetry::init(&quiet, "test");
        let core = Core::open_with(config.clone(), embedder(&config).await)
            .await
            .expect("opens");
        let listener = companion_api::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("binds");
        let address = listener.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let mut tasks = vec![tokio::spawn(companion_api::serve(
            core.clone(),
            listener,
            shutdown.clone(),
        ))];
        if with_worker {
            tasks.push(tokio::spawn(companion_worker::run(
                core.clone(),
                shutdown.clone(),
            )));
        }
        Self {
            address,
            llm,
            core,
            variables,
            client: http_client(),
            shutdown,
            tasks,
        }
    }

    /// Stops the service as SIGTERM does and waits until it has.
    pub async fn stop(mut self) -> (Variables, ScriptedLlm) {
        self.shutdown.cancel();
        for task in std::mem::take(&mut self.tasks) {
            within("the service to stop", task)
                .await
                .expect("no panic")
                .expect("no error");
        }
        (self.variables.clone(), self.llm.clone())
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request by nobody.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// A request by a user.
    pub fn request_by(&self, user: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).header("X-User-Id", user)
    }

    /// What a path answers to a user: status and JSON.
    pub async fn get(&self, user: &str, path: &str) -> (u16, Value) {
        answer(self.request_by(user, Method::GET, path)).await
    }

    /// What a path answers to a body of a user: status and JSON.
    pub async fn post(&self, user: &str, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request_by(user, Method::POST, path).json(body)).await
    }

    /// What a path answers to a method and body of a user: status and JSON.
    pub async fn call(&self, user: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
        answer(self.request_by(user, method, path).json(body)).await
    }

    /// Sends a message and leaves the answer unread.
    pub async fn send(&self, user: &str, message: &str, conversation: Option<&str>) -> Response {
        let body = json!({ "message": message, "conversation_id": conversation });
        self.request_by(user, Method::POST, "/chat")
            .json(&body)
            .send()
            .await
            .expect("an answer")
    }

    /// Sends a message and reads the reply to its end.
    pub async fn chat(&self, user: &str, message: &str, conversation: Option<&str>) -> Chatted {
        let response = self.send(user, message, conversation).await;
        assert_eq!(
            response.status(),
            200,
            "{}",
            response.text().await.unwrap_or_default()
        );
        Chatted::read(response).await
    }

    /// Waits until everything that was appended has been worked on.
    pub async fn settle(&self) {
        eventually(|| async {
            let (status, health) = self.get("nobody", "/health").await;
            match &health["workers"]["lag_events"] {
                lag if status == 200 && *lag == 0 => Ok(()),
                _ => Err(format!("still behind: {health}")),
            }
        })
        .await;
    }

    /// The messages of a conversation, oldest first, once everything has been worked on.
    pub async fn messages(&self, user: &str, conversation: &str) -> Vec<Value> {
        self.settle().await;
        let (status, list) = self
            .get(
                user,
                &format!("/conversations/{conversation}/messages?limit=200"),
            )
            .await;
        assert_eq!(status, 200, "{list}");
        list["messages"].as_array().expect("a list").clone()
    }

    /// The contents of a user's live memories, sorted.
    pub async fn memories(&self, user: &str) -> Vec<String> {
        self.settle().await;
        let (status, list) = self.get(user, "/memories?limit=200").await;
        assert_eq!(status, 200, "{list}");
        let mut contents: Vec<String> = list["memories"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|memory| memory["content"].as_str().expect("content").to_owned())
            .collect();
        contents.sort();
        contents
    }

    /// The prompt that the LLM was last asked with, as one text.
    pub fn last_prompt(&self) -> String {
        let requests = self.llm.chat_requests();
        requests.last().expect("the LLM was asked").prompt()
    }
}

/// The variables of a service on a fresh database, with some set.
pub async fn variables(llm: &ScriptedLlm, overrides: &[(&str, &str)]) -> Variables {
    let mut variables = Variables::from([
        (
            "POSTGRES_URL".to_owned(),
            database::fresh().await.expose().to_owned(),
        ),
        ("COMPANION_MASTER_KEY".to_owned(), MASTER_KEY.to_owned()),
        ("JWT_SECRET_KEY".to_owned(), JWT_SECRET_KEY.to_owned()),
        ("LM_STUDIO_BASE_URL".to_owned(), llm.base_url()),
        ("MEMORY_EXTRACTION_DELAY_SECONDS".to_owned(), "0".to_owned()),
    ]);
    variables.extend(
        overrides
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    );
    variables
}

impl Drop for App {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Chatted {
    /// Reads an answer of `/chat` to its end.
    pub async fn read(response: Response) -> Self {
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .unwrap_or_else(|| panic!("no {name}"))
                .to_str()
                .expect("text")
                .to_owned()
        };
        let (conversation_id, reply_id) = (header("x-conversation-id"), header("x-reply-id"));
        let events = read_events(response).await;
        Self {
            text: text(&events),
            events,
            conversation_id,
            reply_id,
        }
    }

    /// The last event's data.
    pub fn last(&self) -> &Value {
        &self.events.last().expect("an event").data
    }
}

/// A reader of an answer of `/chat`, for tests that look at it while it comes.
pub fn follow(response: Response) -> SseReader {
    SseReader::new(response)
}

/// Sends a request; status and JSON body of the answer. It is sent again while the answer says that it may
/// lack what was written last: the projection of a machine under load may take longer than it is waited for.
/// Nothing is written by a request that is answered so.
pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let mut left = ASKED_AGAIN;
    loop {
        let Some(again) = request.try_clone() else {
            // A body that is a stream can be sent once.
            return status_and_json(request.send().await.expect("an answer")).await;
        };
        let response = again.send().await.expect("an answer");
        left -= 1;
        if left == 0 || !response.headers().contains_key("x-projection-lag") {
            return status_and_json(response).await;
        }
    }
}

/// Status and JSON body of an answer.
pub async fn status_and_json(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let text = response.text().await.expect("a body");
    let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
    (status, json)
}

/// An embedding model, each loaded once a process.
pub async fn embedder(config: &Config) -> Embedder {
    static EMBEDDERS: OnceLock<Mutex<HashMap<PathBuf, Embedder>>> = OnceLock::new();
    let mut embedders = EMBEDDERS.get_or_init(Mutex::default).lock().await;
    let directory = &config.embedding_model_dir;
    if let Some(embedder) = embedders.get(directory) {
        return embedder.clone();
    }
    let embedder = Embedder::load(config).await.expect("the model loads");
    embedders.insert(directory.clone(), embedder.clone());
    embedder
}
