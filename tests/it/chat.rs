//! A message, its reply, and what is kept of them.

use companion_adapters::log::event_store::Expected;
use companion_domain::events::{Event, Metadata, UserMessageReceived};
use companion_domain::ids::{ConversationId, ExternalUserId, MessageId, ReplyId, StreamId};
use companion_tests::app::{App, Chatted, follow, status_and_json, variables};
use companion_tests::eventually::{eventually, within};
use companion_tests::http::http_client;
use companion_tests::llm::{Behaviour, Gate, ScriptedLlm};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use uuid::Uuid;

const GREETING: &str = "Hello! How are you today?";

fn chunks(chunks: &[&str]) -> Vec<String> {
    chunks.iter().map(|chunk| (*chunk).to_owned()).collect()
}

/// The next reply waits at a gate before each of these chunks.
fn gated(app: &App, parts: &[&str]) -> Gate {
    let gate = Gate::new();
    app.llm.next(Behaviour::Gated {
        chunks: chunks(parts),
        gate: gate.clone(),
    });
    gate
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .unwrap_or_else(|| panic!("no {name}"))
        .to_str()
        .unwrap()
}

/// Sends a message and asks for the whole reply as JSON.
async fn send_for_json(app: &App, user: &str, body: &Value) -> Response {
    let request = app
        .request_by(user, Method::POST, "/chat")
        .header("Accept", "application/json")
        .json(body);
    request.send().await.unwrap()
}

/// The roles and texts of the messages that the LLM was last asked with.
fn last_messages(app: &App) -> Vec<(String, String)> {
    app.llm.chat_requests().last().unwrap().messages()
}

fn contents(messages: &[Value]) -> Vec<(&str, &str)> {
    messages
        .iter()
        .map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn a_message_is_answered_as_a_stream_that_ends_with_done() {
    let app = App::start().await;
    app.llm.reply("Hello Alice! It's great to meet you.");
    let chatted = app.chat("alice", "Hello, my name is Alice", None).await;
    assert_eq!(chatted.text, "Hello Alice! It's great to meet you.");
    assert_eq!(
        chatted.last(),
        &json!({"chunk": "", "done": true, "conversation_id": chatted.conversation_id})
    );
}

#[tokio::test]
async fn the_headers_of_a_stream_name_conversation_reply_and_request() {
    let app = App::start().await;
    let body = json!({"message": "hello"});
    let request = app
        .request_by("alice", Method::POST, "/chat")
        .header("X-Request-Id", "my-request.1")
        .json(&body);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(
        header(&response, "content-type").split(';').next(),
        Some("text/event-stream")
    );
    assert_eq!(header(&response, "cache-control"), "no-cache");
    assert_eq!(header(&response, "x-accel-buffering"), "no");
    assert_eq!(header(&response, "x-request-id"), "my-request.1");
    for id in ["x-conversation-id", "x-reply-id"] {
        header(&response, id).parse::<Uuid>().unwrap();
    }
    let again = app
        .request_by("alice", Method::POST, "/chat")
        .header("X-Request-Id", "not well formed")
        .json(&body);
    let again = again.send().await.unwrap();
    let id = header(&again, "x-request-id");
    assert!(!id.is_empty() && id != "not well formed", "{id}");
    assert_ne!(
        header(&again, "x-conversation-id"),
        header(&response, "x-conversation-id")
    );
}

#[tokio::test]
async fn each_event_tells_how_many_bytes_of_the_reply_have_come() {
    let app = App::start().await;
    let parts = ["Grüß", " \"dich\"\n", "🎉\u{2028}データ: done", " "];
    let gate = gated(&app, &parts);
    let response = app.send("alice", "hello", None).await;
    let (conversation, reply) = (
        header(&response, "x-conversation-id").to_owned(),
        header(&response, "x-reply-id").to_owned(),
    );
    let mut stream = follow(response);
    let mut bytes = 0;
    for part in parts {
        gate.open_one();
        let event = within("the next chunk", stream.next()).await.unwrap();
        bytes += part.len();
        assert_eq!(event.data, json!({ "chunk": part }));
        assert_eq!(event.id, Some(format!("{reply}:{bytes}")));
    }
    let last = within("the last event", stream.next()).await.unwrap();
    assert_eq!(last.id, Some(format!("{reply}:done")));
    let raw: String = last.raw.split_whitespace().collect();
    assert_eq!(
        raw,
        format!(r#"{{"chunk":"","done":true,"conversation_id":"{conversation}"}}"#)
    );
    assert_eq!(within("the end", stream.next()).await, None);
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(messages[1]["content"], parts.concat());
    assert_eq!(messages[1]["id"], reply);
}

#[tokio::test]
async fn the_headers_come_when_the_message_is_durable_before_the_llm_answers() {
    let app = App::start().await;
    let gate = gated(&app, &["late"]);
    let response = within("the headers", app.send("alice", "I said this", None)).await;
    assert_eq!(response.status(), 200);
    let conversation = ConversationId(header(&response, "x-conversation-id").parse().unwrap());
    let log = app
        .core
        .store
        .read_stream(&StreamId::conversation(conversation), 0)
        .await
        .unwrap();
    assert!(log.iter().any(|recorded| matches!(&recorded.event, Event::UserMessageReceived(m) if m.content == "I said this")));
    gate.open_all();
    assert_eq!(
        within("the reply", Chatted::read(response)).await.text,
        "late"
    );
}

#[tokio::test]
async fn a_message_is_durable_when_the_llm_is_asked() {
    let app = App::start().await;
    let gate = gated(&app, &["answer"]);
    let asking = app.send("alice", "I said this", None);
    let looking = async {
        gate.reached().await;
        let types: Vec<String> = sqlx::query_scalar("SELECT type FROM events ORDER BY position")
            .fetch_all(&app.core.pool)
            .await
            .unwrap();
        gate.open_all();
        types
    };
    let (response, types) = tokio::join!(asking, looking);
    assert!(
        types.iter().any(|name| name == "UserMessageReceived"),
        "{types:?}"
    );
    assert_eq!(Chatted::read(response).await.text, "answer");
}

#[tokio::test]
async fn done_is_sent_when_the_reply_is_durable() {
    let app = App::start().await;
    let chatted = app.chat("alice", "hello", None).await;
    let conversation = ConversationId(chatted.conversation_id.parse().unwrap());
    let log = app
        .core
        .store
        .read_stream(&StreamId::conversation(conversation), 0)
        .await
        .unwrap();
    assert!(log.iter().any(|recorded| matches!(&recorded.event, Event::ReplyCompleted(reply) if reply.content == chatted.text)));
}

#[tokio::test]
async fn who_accepts_json_gets_the_whole_reply_in_one_body() {
    let app = App::start().await;
    let response = send_for_json(&app, "alice", &json!({"message": "hello"})).await;
    let (conversation, reply) = (
        header(&response, "x-conversation-id").to_owned(),
        header(&response, "x-reply-id").to_owned(),
    );
    assert_eq!(
        header(&response, "content-type").split(';').next(),
        Some("application/json")
    );
    assert!(!header(&response, "x-request-id").is_empty());
    let (status, body) = status_and_json(response).await;
    assert_eq!(
        (status, body),
        (
            200,
            json!({"response": GREETING, "conversation_id": conversation})
        )
    );
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(messages[1]["id"], reply);
    assert_eq!(
        contents(&messages),
        [("user", "hello"), ("assistant", GREETING)]
    );
}

#[tokio::test]
async fn a_client_who_leaves_cancels_nothing() {
    let app = App::start().await;
    let gate = gated(&app, &["All ", "of it."]);
    let response = app.send("alice", "hello", None).await;
    let conversation = header(&response, "x-conversation-id").to_owned();
    let mut stream = follow(response);
    gate.open_one();
    assert_eq!(
        within("the first chunk", stream.next())
            .await
            .unwrap()
            .chunk(),
        "All "
    );
    drop(stream);
    gate.open_all();
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(messages[1]["content"], "All of it.");
    assert_eq!(messages[1]["reply"]["status"], "completed");
}

#[tokio::test]
async fn a_client_who_leaves_before_the_headers_still_said_it() {
    let app = App::start().await;
    let gate = gated(&app, &["answer"]);
    let body = json!({"message": "hello"});
    let request = app
        .request_by("alice", Method::POST, "/chat")
        .header("Accept", "application/json")
        .json(&body);
    let asking = tokio::spawn(request.send());
    gate.reached().await;
    asking.abort();
    gate.open_all();
    app.settle().await;
    let (_, list) = app.get("alice", "/conversations").await;
    let conversation = list["conversations"][0]["id"].as_str().unwrap();
    assert_eq!(
        contents(&app.messages("alice", conversation).await),
        [("user", "hello"), ("assistant", "answer")]
    );
}

#[tokio::test]
async fn a_conversation_takes_no_message_while_its_reply_runs() {
    let app = App::start().await;
    let gate = gated(&app, &["slow"]);
    let response = app.send("alice", "first", None).await;
    let (conversation, reply) = (
        header(&response, "x-conversation-id").to_owned(),
        header(&response, "x-reply-id").to_owned(),
    );
    gate.reached().await;
    let body = json!({"message": "second", "conversation_id": conversation});
    let (status, problem) = app.post("alice", "/chat", &body).await;
    assert_eq!(
        (status, &problem["code"], &problem["reply_id"]),
        (409, &json!("conversation_busy"), &json!(reply))
    );
    let (status, messages) = app
        .get("alice", &format!("/conversations/{conversation}/messages"))
        .await;
    assert_eq!(
        (status, &messages["messages"][1]["reply"]["status"]),
        (200, &json!("running"))
    );
    assert_eq!(
        app.chat("alice", "elsewhere", None).await.text,
        GREETING,
        "other conversations go on"
    );
    gate.open_all();
    assert_eq!(Chatted::read(response).await.text, "slow");
    app.chat("alice", "third", Some(&conversation)).await;
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(
        contents(&messages)[2],
        ("user", "third"),
        "what was refused is not kept"
    );
}

#[tokio::test]
async fn of_many_messages_at_once_to_one_conversation_one_is_taken() {
    let app = App::start().await;
    let conversation = app.chat("alice", "begin", None).await.conversation_id;
    let gate = gated(&app, &["slow"]);
    let sends = (0..8).map(|n| {
        let app = &app;
        let conversation = &conversation;
        async move {
            app.send("alice", &format!("message {n}"), Some(conversation))
                .await
        }
    });
    let mut taken = Vec::new();
    for response in within("the answers", futures_util::future::join_all(sends)).await {
        match response.status().as_u16() {
            200 => taken.push(response),
            409 => assert_eq!(
                status_and_json(response).await.1["code"],
                "conversation_busy"
            ),
            other => panic!("{other}: {}", response.text().await.unwrap()),
        }
    }
    assert_eq!(taken.len(), 1);
    gate.open_all();
    Chatted::read(taken.remove(0)).await;
    assert_eq!(app.messages("alice", &conversation).await.len(), 4);
}

/// What goes wrong with the LLM, the code it gives, the status of the JSON variant and the text until then.
fn failures() -> Vec<(Behaviour, &'static str, u16, &'static str)> {
    let half = || chunks(&["Half ", "of"]);
    vec![
        (
            Behaviour::Status(500, "boom".to_owned()),
            "llm_error",
            502,
            "",
        ),
        (
            Behaviour::Status(401, "no key".to_owned()),
            "llm_error",
            502,
            "",
        ),
        (
            Behaviour::Status(429, "slow down".to_owned()),
            "llm_error",
            502,
            "",
        ),
        (
            Behaviour::CutAfter(half()),
            "llm_interrupted",
            502,
            "Half of",
        ),
        (Behaviour::CutAfter(Vec::new()), "llm_interrupted", 502, ""),
        (Behaviour::HangAfter(half()), "llm_timeout", 504, "Half of"),
        (Behaviour::HangAfter(Vec::new()), "llm_timeout", 504, ""),
        (
            Behaviour::Garbage("<html>surprise</html>".to_owned()),
            "llm_invalid",
            502,
            "",
        ),
        (
            Behaviour::Garbage(r#"{"unheard": "of"}"#.to_owned()),
            "llm_invalid",
            502,
            "",
        ),
        (Behaviour::Empty, "llm_invalid", 502, ""),
    ]
}

/// Checks what is kept of a failed reply, and that the conversation goes on.
async fn assert_kept(app: &App, conversation: &str, partial: &str, case: &str) {
    let messages = app.messages("alice", conversation).await;
    assert_eq!(
        contents(&messages),
        [("user", "hello"), ("assistant", partial)],
        "{case}"
    );
    assert_eq!(messages[1]["reply"]["status"], "failed", "{case}");
    app.chat("alice", "again", Some(conversation)).await;
}

#[tokio::test]
async fn a_stream_tells_why_the_llm_failed_and_the_text_until_then_is_kept() {
    let app = App::start_with(&[("LLM_TIMEOUT_SECONDS", "1")]).await;
    for (behaviour, code, _, partial) in failures() {
        let case = format!("{behaviour:?}");
        app.llm.next(behaviour);
        let chatted = app.chat("alice", "hello", None).await;
        let last = chatted.events.last().unwrap();
        assert_eq!(last.error_code(), Some(code), "{case}");
        assert_eq!(chatted.text, partial, "{case}");
        assert_eq!(last.id, Some(format!("{}:done", chatted.reply_id)));
        let message = last.data["error"]["message"].as_str().unwrap();
        assert!(
            message.len() > 10 && !message.contains("surprise") && !message.contains("boom"),
            "{message}"
        );
        let expected = json!({"error": {"code": code, "message": message}, "done": true, "conversation_id": chatted.conversation_id});
        assert_eq!(last.data, expected);
        assert!(
            last.raw.starts_with(r#"{"error""#)
                && last.raw.find("done") < last.raw.find("conversation_id")
        );
        assert_kept(&app, &chatted.conversation_id, partial, &case).await;
    }
}

#[tokio::test]
async fn the_json_answer_tells_by_its_status_why_the_llm_failed() {
    let app = App::start_with(&[("LLM_TIMEOUT_SECONDS", "1")]).await;
    for (behaviour, code, status, partial) in failures() {
        let case = format!("{behaviour:?}");
        app.llm.next(behaviour);
        let response = send_for_json(&app, "alice", &json!({"message": "hello"})).await;
        assert_eq!(
            header(&response, "content-type"),
            "application/problem+json",
            "{case}"
        );
        let conversation = header(&response, "x-conversation-id").to_owned();
        let reply = header(&response, "x-reply-id").to_owned();
        let (answered, problem) = status_and_json(response).await;
        assert_eq!(
            (answered, &problem["code"]),
            (status, &json!(code)),
            "{case}"
        );
        assert_eq!(problem["conversation_id"], conversation);
        assert_eq!(problem["reply_id"], reply);
        assert_kept(&app, &conversation, partial, &case).await;
    }
}

#[tokio::test]
async fn a_message_is_kept_when_no_llm_is_there() {
    let app = App::start().await;
    let port = app.llm.port();
    app.llm.stop().await;
    let chatted = app.chat("alice", "hello", None).await;
    assert_eq!(
        chatted.events.last().unwrap().error_code(),
        Some("llm_unavailable")
    );
    let response = send_for_json(&app, "alice", &json!({"message": "hello"})).await;
    let (status, problem) = status_and_json(response).await;
    assert_eq!((status, &problem["code"]), (502, &json!("llm_unavailable")));
    let messages = app.messages("alice", &chatted.conversation_id).await;
    assert_eq!(contents(&messages), [("user", "hello"), ("assistant", "")]);
    let llm = ScriptedLlm::start_on(port).await;
    let again = app
        .chat("alice", "again", Some(&chatted.conversation_id))
        .await;
    assert_eq!(again.text, GREETING);
    let asked = llm.chat_requests().last().unwrap().messages();
    assert_eq!(
        asked[1..],
        [
            ("user".into(), "hello".into()),
            ("user".into(), "again".into())
        ],
        "an empty reply is not shown to the LLM"
    );
}

#[tokio::test]
async fn messages_are_listed_with_what_became_of_the_reply() {
    let app = App::start().await;
    let chatted = app.chat("alice", "hello", None).await;
    let messages = app.messages("alice", &chatted.conversation_id).await;
    let [said, reply] = messages.as_slice() else {
        panic!("{messages:?}")
    };
    for message in &messages {
        message["id"].as_str().unwrap().parse::<Uuid>().unwrap();
        chrono::DateTime::parse_from_rfc3339(message["created_at"].as_str().unwrap()).unwrap();
        let keys = [
            "id",
            "role",
            "content",
            "name",
            "created_at",
            "external_id",
            "reply",
        ];
        assert_eq!(message.as_object().unwrap().len(), keys.len(), "{message}");
        assert!(
            keys.iter().all(|key| message.get(key).is_some()),
            "{message}"
        );
    }
    assert_eq!(said["reply"], Value::Null);
    assert_eq!(
        reply["reply"],
        json!({"status": "completed", "recalled": []})
    );
}

#[tokio::test]
async fn messages_are_paged_backwards_and_each_is_seen_once() {
    let app = App::start().await;
    let first = app.chat("alice", "turn 0", None).await;
    for n in 1..4 {
        app.chat("alice", &format!("turn {n}"), Some(&first.conversation_id))
            .await;
    }
    let all = app.messages("alice", &first.conversation_id).await;
    assert_eq!(all.len(), 8);
    let (mut seen, mut before) = (Vec::new(), String::new());
    loop {
        let path = format!(
            "/conversations/{}/messages?limit=3{before}",
            first.conversation_id
        );
        let (status, page) = app.get("alice", &path).await;
        assert_eq!(status, 200, "{page}");
        let page = page["messages"].as_array().unwrap().clone();
        assert!(page.len() <= 3);
        let Some(oldest) = page.first() else { break };
        before = format!("&before={}", oldest["id"].as_str().unwrap());
        seen.splice(0..0, page);
    }
    assert_eq!(seen, all);
}

#[tokio::test]
async fn conversations_are_listed_with_the_last_changed_first() {
    let app = App::start().await;
    let older = app
        .chat("alice", "The first thing", None)
        .await
        .conversation_id;
    let newer = app
        .chat("alice", "Another thing", None)
        .await
        .conversation_id;
    app.chat("bob", "Not yours", None).await;
    app.settle().await;
    let (_, list) = app.get("alice", "/conversations").await;
    assert_eq!(list["total"], 2);
    let ids = |list: &Value| -> Vec<String> {
        list["conversations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(ids(&list), [newer.clone(), older.clone()]);
    assert_eq!(list["conversations"][0]["title"], "Another thing");
    assert_eq!(list["conversations"][0]["message_count"], 2);
    app.chat("alice", "More", Some(&older)).await;
    app.settle().await;
    let (_, list) = app.get("alice", "/conversations?limit=1").await;
    assert_eq!((ids(&list), &list["total"]), (vec![older], &json!(2)));
    assert_eq!(list["conversations"][0]["message_count"], 4);
    let (_, list) = app.get("alice", "/conversations?limit=1&offset=1").await;
    assert_eq!(ids(&list), [newer]);
}

#[tokio::test]
async fn the_next_prompt_holds_what_was_said_before() {
    let app = App::start().await;
    app.llm.reply("Blue, I think.");
    let first = app.chat("alice", "What colour is the sea?", None).await;
    app.chat("alice", "Are you sure?", Some(&first.conversation_id))
        .await;
    let asked = last_messages(&app);
    assert_eq!(asked[0].0, "system");
    let rest: Vec<(&str, &str)> = asked[1..]
        .iter()
        .map(|(role, text)| (role.as_str(), text.as_str()))
        .collect();
    assert_eq!(
        rest,
        [
            ("user", "What colour is the sea?"),
            ("assistant", "Blue, I think."),
            ("user", "Are you sure?")
        ]
    );
    let sent = &app.llm.chat_requests()[1].body;
    assert_eq!(
        (&sent["model"], &sent["max_tokens"]),
        (&json!("local-model"), &json!(2000))
    );
    assert_eq!(sent["temperature"], json!(0.7));
}

#[tokio::test]
async fn a_partial_reply_is_part_of_the_next_prompt() {
    let app = App::start().await;
    app.llm.next(Behaviour::CutAfter(chunks(&["Once upon"])));
    let first = app.chat("alice", "Tell a tale", None).await;
    app.chat("alice", "Go on", Some(&first.conversation_id))
        .await;
    assert_eq!(
        last_messages(&app)[2],
        ("assistant".to_owned(), "Once upon".to_owned())
    );
}

#[tokio::test]
async fn a_prompt_holds_all_that_no_summary_covers_yet() {
    let app = App::start().await;
    let conversation = app.chat("alice", "turn 0", None).await.conversation_id;
    for n in 1..=6 {
        app.chat("alice", &format!("turn {n}"), Some(&conversation))
            .await;
    }
    let asked = last_messages(&app);
    let said: Vec<&str> = asked
        .iter()
        .filter(|(role, _)| role == "user")
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(
        said,
        [
            "turn 0", "turn 1", "turn 2", "turn 3", "turn 4", "turn 5", "turn 6"
        ]
    );
    assert_eq!(
        asked.len(),
        1 + 12 + 1,
        "a system message, six turns, and what is said now"
    );
}

#[tokio::test]
async fn the_oldest_messages_leave_a_prompt_that_would_be_too_long() {
    let app = App::start_with(&[("LLM_CONTEXT_TOKENS", "2500")]).await;
    let long = |n: usize| format!("{n} {}", "word ".repeat(120));
    let conversation = app.chat("alice", &long(0), None).await.conversation_id;
    for n in 1..=4 {
        app.chat("alice", &long(n), Some(&conversation)).await;
    }
    let asked = last_messages(&app);
    let said: Vec<&str> = asked
        .iter()
        .filter(|(role, _)| role == "user")
        .map(|(_, text)| &text[..1])
        .collect();
    assert!(said.len() < 5 && said.ends_with(&["3", "4"]), "{said:?}");
    assert_eq!(
        asked.last().unwrap().1,
        long(4),
        "what is said now is never cut"
    );
}

#[tokio::test]
async fn a_system_prompt_takes_the_place_of_the_persona() {
    let app = App::start_with(&[("SYSTEM_PERSONA", "a gardener")]).await;
    let first = app.chat("alice", "hello", None).await;
    assert!(last_messages(&app)[0].1.contains("a gardener"));
    let body = json!({"message": "hello", "system_prompt": "Talk like a pirate.", "conversation_id": first.conversation_id});
    let response = app
        .request_by("alice", Method::POST, "/chat")
        .json(&body)
        .send()
        .await
        .unwrap();
    Chatted::read(response).await;
    let system = last_messages(&app)[0].1.clone();
    assert!(
        system.starts_with("Talk like a pirate.") && !system.contains("gardener"),
        "{system}"
    );
    app.chat("alice", "hello", Some(&first.conversation_id))
        .await;
    assert!(
        last_messages(&app)[0].1.contains("a gardener"),
        "it holds for one message"
    );
}

#[tokio::test]
async fn the_llm_gets_an_api_key_only_when_one_is_set() {
    let without = App::start().await;
    without.chat("alice", "hello", None).await;
    without.settle().await;
    assert!(
        without
            .llm
            .requests()
            .iter()
            .all(|request| request.authorization.is_none())
    );
    let with = App::start_with(&[("LM_STUDIO_API_KEY", "sk-secret")]).await;
    with.chat("alice", "hello", None).await;
    with.settle().await;
    assert!(with.llm.requests().len() > 1, "the chat and its extraction");
    assert!(
        with.llm
            .requests()
            .iter()
            .all(|request| request.authorization.as_deref() == Some("Bearer sk-secret"))
    );
}

#[tokio::test]
async fn a_message_too_long_for_the_model_is_refused_and_not_kept() {
    let app = App::start_with(&[("LLM_CONTEXT_TOKENS", "2100")]).await;
    for body in [
        json!({"message": "x".repeat(1000)}),
        json!({"message": "x", "system_prompt": "x".repeat(1000)}),
    ] {
        let (status, problem) = app.post("alice", "/chat", &body).await;
        assert_eq!(
            (status, &problem["code"]),
            (422, &json!("prompt_too_long")),
            "{problem}"
        );
    }
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 0);
    assert!(app.llm.chat_requests().is_empty());
    app.chat("alice", "short", None).await;
}

#[tokio::test]
async fn another_users_conversation_looks_like_one_that_does_not_exist() {
    let app = App::start().await;
    let hers = app.chat("alice", "a secret", None).await.conversation_id;
    let unknown = Uuid::now_v7().to_string();
    app.settle().await;
    let mut answers = Vec::new();
    for conversation in [&hers, &unknown] {
        let body = json!({"message": "hello", "conversation_id": conversation});
        let path = format!("/conversations/{conversation}/messages");
        for request in [
            app.request_by("mallory", Method::POST, "/chat").json(&body),
            app.request_by("mallory", Method::GET, &path),
        ] {
            let response = request.header("X-Request-Id", "same").send().await.unwrap();
            assert_eq!(response.status(), 404);
            let mut headers = response.headers().clone();
            // They tell how often mallory has called, and nothing of the conversation.
            for own in ["date", "ratelimit-remaining", "ratelimit-reset"] {
                headers.remove(own);
            }
            answers.push((format!("{headers:?}"), response.text().await.unwrap()));
        }
    }
    assert_eq!(answers[0], answers[2]);
    assert_eq!(answers[1], answers[3]);
    assert_eq!(app.messages("alice", &hers).await.len(), 2);
}

#[tokio::test]
async fn a_service_that_stops_lets_a_running_reply_finish() {
    let app = App::start().await;
    let gate = gated(&app, &["To the ", "very end."]);
    let response = app.send("alice", "hello", None).await;
    gate.reached().await;
    let reading = tokio::spawn(Chatted::read(response));
    let ready = app.url("/health/ready");
    let stopping = tokio::spawn(app.stop());
    let client = http_client();
    eventually(|| async {
        match client.get(&ready).send().await {
            Ok(answer) if answer.status() == 200 => Err("it still takes requests".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert!(!stopping.is_finished(), "it waits for the reply");
    gate.open_all();
    let chatted = within("the reply", reading).await.unwrap();
    assert_eq!(chatted.text, "To the very end.");
    assert_eq!(chatted.events.last().unwrap().error_code(), None);
    let (variables, llm) = within("the service to stop", stopping).await.unwrap();
    let app = App::start_again(variables, llm).await;
    let messages = app.messages("alice", &chatted.conversation_id).await;
    assert_eq!(contents(&messages)[1], ("assistant", "To the very end."));
    assert_eq!(messages[1]["reply"]["status"], "completed");
}

/// Appends a message whose reply was being made by a process that is not there any more.
async fn crashed_reply(app: &App, user: &str, conversation: &str) -> ReplyId {
    let user = app
        .core
        .store
        .ensure_user(&ExternalUserId::parse(user).unwrap())
        .await
        .unwrap();
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
    app.core
        .store
        .append(&stream, user, Expected::Any, events, None)
        .await
        .unwrap();
    reply_id
}

#[tokio::test]
async fn a_reply_whose_process_crashed_is_recorded_as_interrupted() {
    let app = App::start().await;
    let conversation = app.chat("alice", "hello", None).await.conversation_id;
    let reply = crashed_reply(&app, "alice", &conversation).await;
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(
        contents(&messages)[2..],
        [("user", "before the crash"), ("assistant", "")]
    );
    assert_eq!(
        (&messages[3]["reply"]["status"], &messages[3]["id"]),
        (&json!("interrupted"), &json!(reply.0))
    );
}

#[tokio::test]
async fn a_conversation_goes_on_at_once_after_a_crash_without_any_worker() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let conversation = app.chat("alice", "hello", None).await.conversation_id;
    crashed_reply(&app, "alice", &conversation).await;
    let chatted = app.chat("alice", "still there?", Some(&conversation)).await;
    assert_eq!(chatted.text, GREETING);
    let said: Vec<String> = last_messages(&app)
        .into_iter()
        .skip(1)
        .map(|(_, text)| text)
        .collect();
    assert_eq!(
        said,
        ["hello", GREETING, "before the crash", "still there?"]
    );
}

#[tokio::test]
async fn a_reply_that_says_nul_is_kept_without_it() {
    let app = App::start().await;
    app.llm.next(Behaviour::Chunks(chunks(&["a\0b"])));
    let chatted = app.chat("alice", "hello", None).await;
    assert_eq!(chatted.text, "ab");
    assert_eq!(
        app.messages("alice", &chatted.conversation_id).await[1]["content"],
        "ab"
    );
}

#[tokio::test]
async fn an_answer_cut_off_at_the_token_limit_is_a_whole_reply() {
    let app = App::start().await;
    app.llm.next(Behaviour::Length("Only so far".to_owned()));
    let chatted = app.chat("alice", "hello", None).await;
    assert_eq!(
        (
            chatted.text.as_str(),
            chatted.events.last().unwrap().error_code()
        ),
        ("Only so far", None)
    );
}

#[tokio::test]
async fn a_user_reads_their_own_writes() {
    let app = App::start().await;
    for n in 1..=5 {
        let conversation = app.chat("alice", "hello", None).await.conversation_id;
        let (_, list) = app.get("alice", "/conversations").await;
        assert_eq!(list["total"], n);
        let (_, list) = app
            .get("alice", &format!("/conversations/{conversation}/messages"))
            .await;
        assert_eq!(list["messages"][1]["content"], GREETING);
    }
}
