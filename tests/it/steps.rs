//! Steps that the tests of several files take.

use companion_adapters::log::event_store::Expected;
use companion_domain::events::{Metadata, UserMessageReceived};
use companion_domain::ids::{ConversationId, ExternalUserId, MessageId, ReplyId, StreamId};
use companion_tests::app::{App, answer};
use companion_tests::database;
use companion_tests::eventually::eventually;
use companion_tests::llm::{Behaviour, Gate};
use companion_tests::sse::{SseEvent, read_events};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use uuid::Uuid;

pub(crate) const GREETING: &str = "Hello! How are you today?";

pub(crate) fn chunks(chunks: &[&str]) -> Vec<String> {
    chunks.iter().map(|chunk| (*chunk).to_owned()).collect()
}

/// The next reply waits at a gate before each of these chunks.
pub(crate) fn gated(app: &App, parts: &[&str]) -> Gate {
    let gate = Gate::new();
    app.llm.next(Behaviour::Gated {
        chunks: chunks(parts),
        gate: gate.clone(),
    });
    gate
}

pub(crate) fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("no {name}: {response:?}"))
        .to_str()
        .unwrap()
}

/// Sends a request that is to be answered with this status; the JSON of the answer.
pub(crate) async fn expect(request: RequestBuilder, status: u16) -> Value {
    let (answered, body) = answer(request).await;
    assert_eq!(answered, status, "{body}");
    body
}

/// Sends a request that is to be refused with this status and code.
pub(crate) async fn refused(request: RequestBuilder, status: u16, code: &str) {
    let problem = expect(request, status).await;
    assert_eq!(problem["code"], code, "{problem}");
}

/// Another API process on the same database, without background work.
pub(crate) async fn another(app: &App) -> App {
    let another = App::start_api_only(app.variables.clone(), app.llm.clone()).await;
    hears_of_cancelled_replies(&another, 2).await;
    another
}

/// Waits until so many processes hear what others want stopped: from then on nothing is missed.
pub(crate) async fn hears_of_cancelled_replies(app: &App, processes: i64) {
    eventually(|| async {
        let hear: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND query LIKE 'LISTEN%'",
        )
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
        if hear >= processes {
            Ok(())
        } else {
            Err(format!("{hear} listen"))
        }
    })
    .await;
}

/// A request to follow a reply, from after an event or from the beginning.
pub(crate) fn following(
    app: &App,
    user: &str,
    reply: &str,
    last_event_id: Option<&str>,
) -> RequestBuilder {
    let request = app.request_by(user, Method::GET, &format!("/replies/{reply}/stream"));
    match last_event_id {
        Some(id) => request.header("Last-Event-ID", id),
        None => request,
    }
}

/// Follows a reply to its end.
pub(crate) async fn followed(
    app: &App,
    user: &str,
    reply: &str,
    last_event_id: Option<&str>,
) -> Vec<SseEvent> {
    let response = following(app, user, reply, last_event_id).send().await;
    read_events(response.unwrap()).await
}

pub(crate) fn cancelling(app: &App, user: &str, reply: &str) -> RequestBuilder {
    app.request_by(user, Method::POST, &format!("/replies/{reply}/cancel"))
}

/// A chat with an idempotency key.
pub(crate) fn keyed(app: &App, user: &str, key: &str, body: &Value) -> RequestBuilder {
    app.request_by(user, Method::POST, "/chat")
        .header("Idempotency-Key", key)
        .json(body)
}

/// Role, content and reply status of messages.
pub(crate) fn told(messages: &[Value]) -> Vec<(&str, &str, &str)> {
    messages
        .iter()
        .map(|m| {
            (
                m["role"].as_str().unwrap(),
                m["content"].as_str().unwrap(),
                m["reply"]["status"].as_str().unwrap_or_default(),
            )
        })
        .collect()
}

/// What was said to the LLM the last time, without the system message.
pub(crate) fn asked(app: &App) -> Vec<(String, String)> {
    let requests = app.llm.chat_requests();
    requests.last().unwrap().messages().split_off(1)
}

/// A user whom no other test has: tests share one Redis.
pub(crate) fn somebody() -> String {
    format!("user-{}", Uuid::now_v7().simple())
}

/// Appends a message whose reply was being made by a process that is not there any more.
pub(crate) async fn crashed_reply(app: &App, user: &str, conversation: &str) -> ReplyId {
    let user = ExternalUserId::parse(user).unwrap();
    let user = app.core.store.ensure_user(&user).await.unwrap();
    let reply_id = ReplyId(Uuid::now_v7());
    let said = UserMessageReceived {
        message_id: MessageId(Uuid::now_v7()),
        content: "before the crash".to_owned(),
        timezone: None,
        reply_id,
        lease: Uuid::now_v7(),
    };
    let stream = StreamId::conversation(ConversationId(conversation.parse().unwrap()));
    let events = vec![(said.into(), Metadata::default())];
    let appended = app
        .core
        .store
        .append(&stream, user, Expected::Any, events, None);
    appended.await.unwrap();
    reply_id
}

/// The way to the shared Redis, which a test can close without taking it from the others.
pub(crate) struct WayToRedis {
    pub(crate) url: String,
    connections: tokio::task::JoinHandle<()>,
}

impl WayToRedis {
    pub(crate) async fn open() -> Self {
        let target = Url::parse(&database::redis()).unwrap();
        let (host, port) = (
            target.host_str().unwrap().to_owned(),
            target.port().unwrap(),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut url = target;
        url.set_port(Some(listener.local_addr().unwrap().port()))
            .unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        let connections = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let host = host.clone();
                open.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect((host, port)).await {
                        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                    }
                });
            }
        });
        Self {
            url: url.to_string(),
            connections,
        }
    }

    /// Cuts every connection and takes no new one.
    pub(crate) async fn close(self) {
        self.connections.abort();
        let _ = self.connections.await;
    }
}

/// A message with nothing but its text.
pub(crate) fn message(text: &str) -> Value {
    json!({ "message": text })
}
