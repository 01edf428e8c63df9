//! What users take along: an export, and what becomes of it where it is taken in.

use std::collections::BTreeMap;

use companion_adapters::erasure::Eraser;
use companion_adapters::portable::export::{Export, ExportError};
use companion_domain::ids::{ExternalUserId, UserId};
use companion_tests::app::{App, status_and_json};
use companion_tests::llm::Behaviour;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::memory::{answer, list, search, statement, tell};
use crate::steps::{cancelling, expect, gated, header, refused};

const NDJSON: &str = "application/x-ndjson";

/// A service that lets everything be looked at.
pub(crate) async fn start() -> App {
    App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "10000")]).await
}

/// What a user's export says.
pub(crate) async fn export(app: &App, user: &str) -> String {
    let response = app.request_by(user, Method::GET, "/export").send().await;
    let response = response.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), NDJSON);
    response.text().await.unwrap()
}

pub(crate) fn importing(app: &App, user: &str, file: &str) -> RequestBuilder {
    app.request_by(user, Method::POST, "/import")
        .header("Content-Type", NDJSON)
        .body(file.to_owned())
}

pub(crate) async fn import(app: &App, user: &str, file: &str) -> Value {
    let done = expect(importing(app, user, file), 200).await;
    app.settle().await;
    done
}

pub(crate) fn done(conversations: u64, messages: u64, memories: u64, skipped: u64) -> Value {
    json!({"conversations": conversations, "messages": messages, "memories": memories, "skipped": skipped})
}

pub(crate) fn lines(file: &str) -> Vec<Value> {
    let lines = file.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn file(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// All that the API shows of a user.
pub(crate) async fn everything(app: &App, user: &str) -> BTreeMap<String, Value> {
    app.settle().await;
    let mut shown = BTreeMap::new();
    let mut paths = vec![
        "/conversations?limit=200".to_owned(),
        "/memories?limit=200".to_owned(),
        "/memories?limit=200&include_inactive=true".to_owned(),
    ];
    let (_, conversations) = app.get(user, &paths[0]).await;
    for conversation in conversations["conversations"].as_array().unwrap() {
        let id = conversation["id"].as_str().unwrap();
        let messages = format!("/conversations/{id}/messages?limit=200");
        for message in app.get(user, &messages).await.1["messages"]
            .as_array()
            .unwrap()
        {
            if message["reply"].is_object() {
                paths.push(format!(
                    "/replies/{}/explain",
                    message["id"].as_str().unwrap()
                ));
            }
        }
        paths.push(messages);
    }
    let (_, memories) = app.get(user, &paths[2]).await;
    for memory in memories["memories"].as_array().unwrap() {
        let (id, at) = (
            memory["id"].as_str().unwrap(),
            memory["updated_at"].as_str().unwrap(),
        );
        paths.push(format!("/memories/{id}/history"));
        paths.push(format!(
            "/memories?limit=200&include_inactive=true&as_of={at}"
        ));
    }
    for path in paths {
        let (status, mut answer) = app.get(user, &path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        // What was forgotten is not even a number where the export is taken in.
        if path.ends_with("/explain") {
            answer.as_object_mut().unwrap().remove("forgotten");
        }
        // These go by the time of the question, and by what was forgotten.
        for memory in answer["memories"].as_array_mut().into_iter().flatten() {
            for name in ["importance_now", "rank"] {
                memory.as_object_mut().unwrap().remove(name);
            }
        }
        shown.insert(path, answer);
    }
    shown
}

/// A user with some of everything; among it what was forgotten, cleared and deleted.
pub(crate) async fn a_life(app: &App, user: &str) {
    let zone = json!({"message": "I live in Lisbon", "timezone": "Europe/Lisbon"});
    app.llm
        .next_extraction(answer(&[statement("User lives in Lisbon")]));
    let first = app
        .request_by(user, Method::POST, "/chat")
        .json(&zone)
        .send()
        .await;
    let home = header(first.as_ref().unwrap(), "x-conversation-id").to_owned();
    first.unwrap().text().await.unwrap();
    app.settle().await;
    let mut moved = statement("User lives in Porto");
    moved["replaces"] = json!([1]);
    app.llm.next_extraction(answer(&[moved]));
    app.chat(user, "I moved and live in Porto now", Some(&home))
        .await;
    app.settle().await;
    // Told twice, once in a conversation that is cleared.
    let greyhound = "User has a greyhound called Biscuit";
    tell(app, user, "I adopted a greyhound called Biscuit", greyhound).await;
    let cleared = tell(
        app,
        user,
        "My greyhound CANARY-CLEARED is called Biscuit",
        greyhound,
    )
    .await;
    app.llm
        .next_extraction(answer(&[statement("User plays CANARY-ONLY-HERE")]));
    app.chat(user, "I play canary only here", Some(&cleared))
        .await;
    app.settle().await;
    let body = json!({ "conversation_id": cleared });
    expect(
        app.request_by(user, Method::POST, "/memory/clear")
            .json(&body),
        200,
    )
    .await;
    // Forgotten, after a reply was given it.
    tell(
        app,
        user,
        "I like canary forgotten",
        "User likes CANARY-FORGOTTEN",
    )
    .await;
    app.chat(user, "What do I like? CANARY-FORGOTTEN?", Some(&home))
        .await;
    let forgotten = search(app, user, json!({"query": "CANARY-FORGOTTEN", "top_k": 1})).await;
    let id = forgotten[0]["id"].as_str().unwrap();
    let path = format!("/memories/{id}");
    expect(app.request_by(user, Method::DELETE, &path), 204).await;
    // Deleted.
    let gone = tell(
        app,
        user,
        "CANARY-DELETED is my dentist",
        "User has a dentist",
    )
    .await;
    let path = format!("/conversations/{gone}");
    expect(app.request_by(user, Method::DELETE, &path), 204).await;
    // Written down and corrected.
    let tea = json!({"content": "User likes tea", "kind": "preference", "occurred_at": "1999-05-01T00:00:00Z"});
    let tea = expect(
        app.request_by(user, Method::POST, "/memories").json(&tea),
        201,
    )
    .await;
    let path = format!("/memories/{}", tea["id"].as_str().unwrap());
    let coffee = json!({"content": "User likes coffee", "importance": 0.9});
    expect(
        app.request_by(user, Method::PATCH, &path).json(&coffee),
        200,
    )
    .await;
    // Replies that did not become whole, a summary, a reset and a name.
    app.llm.next(Behaviour::Status(500, "no".to_owned()));
    app.chat(user, "Will this fail?", Some(&home)).await;
    let gate = gated(app, &["Once upon", " a time"]);
    let running = app.send(user, "Tell me a story", Some(&home)).await;
    let reply = header(&running, "x-reply-id").to_owned();
    gate.reached().await;
    gate.open_one();
    expect(cancelling(app, user, &reply), 200).await;
    drop(running);
    app.llm
        .next_extraction(Behaviour::Text("They talked about homes.".to_owned()));
    let summary = format!("/conversations/{home}/summary");
    expect(
        app.request_by(user, Method::POST, &summary)
            .json(&json!({})),
        200,
    )
    .await;
    app.chat(user, "And now?", Some(&home)).await;
    let named = json!({"title": "Homes"});
    let path = format!("/conversations/{home}");
    expect(app.request_by(user, Method::PATCH, &path).json(&named), 200).await;
    let said = json!({"title": "Notes", "messages": [
        {"role": "user", "name": "Ann", "content": "I spent May in Porto.", "created_at": "2020-06-01T09:00:00Z",
            "external_id": "note-1"},
        {"role": "assistant", "content": "How was it?", "created_at": "2020-06-01T09:00:05Z"},
    ]});
    expect(
        app.request_by(user, Method::POST, "/conversations/import")
            .json(&said),
        201,
    )
    .await;
    app.settle().await;
    let body = json!({ "conversation_id": home });
    expect(
        app.request_by(user, Method::POST, "/conversation/reset")
            .json(&body),
        200,
    )
    .await;
}

#[tokio::test]
async fn what_is_taken_along_is_the_same_in_an_empty_instance() {
    let (here, there) = (start().await, start().await);
    a_life(&here, "alice").await;
    let before = everything(&here, "alice").await;
    let file = export(&here, "alice").await;
    let first = import(&there, "alice", &file).await;
    assert_eq!(first["conversations"], 5, "{first}");
    assert_eq!(first["skipped"], 0);
    let after = everything(&there, "alice").await;
    for (path, shown) in &before {
        assert_eq!(after.get(path), Some(shown), "{path}");
    }
    assert_eq!(after.len(), before.len());
    // Nothing is asked of the LLM for what came along.
    assert!(there.llm.extraction_requests().is_empty() && there.llm.chat_requests().is_empty());
    let again = import(&there, "alice", &file).await;
    let sum = ["conversations", "messages", "memories"].map(|name| first[name].as_u64().unwrap());
    assert_eq!(again, done(0, 0, 0, sum.iter().sum()));
    assert_eq!(everything(&there, "alice").await, after);
    // What leaves there again is what came.
    let (once, twice) = (lines(&file), lines(&export(&there, "alice").await));
    assert_eq!(once[1..], twice[1..]);
    // And life goes on: the next prompt knows, the next turn is read for facts.
    there
        .llm
        .next_extraction(answer(&[statement("User has a parrot")]));
    there
        .chat("alice", "What is my dog called? I have a parrot", None)
        .await;
    assert!(there.last_prompt().contains("Biscuit"));
    assert!(
        there
            .memories("alice")
            .await
            .contains(&"User has a parrot".to_owned())
    );
}

#[tokio::test]
async fn what_was_forgotten_or_deleted_is_in_no_export() {
    let app = start().await;
    a_life(&app, "alice").await;
    let file = export(&app, "alice").await;
    for gone in [
        "CANARY-FORGOTTEN\"",
        "CANARY-ONLY-HERE",
        "CANARY-DELETED",
        "User has a dentist",
    ] {
        assert!(!file.contains(gone), "{gone}");
    }
    assert!(
        file.contains("CANARY-CLEARED"),
        "messages stay in their conversation"
    );
    let forgotten: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT r ->> 'memory_id' FROM messages m, jsonb_array_elements(m.recalled::jsonb) r
         WHERE NOT EXISTS (SELECT FROM memories k WHERE k.memory_id = (r ->> 'memory_id')::uuid)",
    )
    .fetch_all(&app.core.pool)
    .await
    .unwrap();
    assert!(!forgotten.is_empty());
    for id in forgotten {
        assert!(!file.contains(&id));
    }
    for line in lines(&file) {
        assert!(
            !line["event"]
                .as_str()
                .is_some_and(|name| name.contains("Key") || name == "UserRegistered"),
            "{line}"
        );
    }
    let nobody = lines(&export(&app, "nobody").await);
    assert_eq!((nobody.len(), &nobody[1]), (2, &json!({"end": 0})));
}

#[tokio::test]
async fn a_reply_that_runs_is_taken_along_as_interrupted() {
    let (here, there) = (start().await, start().await);
    let gate = gated(&here, &["Well", ""]);
    let running = here.send("alice", "Hello", None).await;
    let conversation = header(&running, "x-conversation-id").to_owned();
    gate.open_one();
    let file = export(&here, "alice").await;
    assert_eq!(import(&there, "alice", &file).await, done(1, 2, 0, 0));
    let messages = there.messages("alice", &conversation).await;
    assert_eq!(messages[1]["reply"]["status"], "interrupted");
    // Where it runs, the file ends nothing.
    expect(importing(&here, "alice", &file), 200).await;
    gate.open_one();
    assert!(running.text().await.unwrap().contains("\"done\":true"));
    let messages = here.messages("alice", &conversation).await;
    assert_eq!(messages[1]["reply"]["status"], "completed");
}

#[tokio::test]
async fn another_user_gets_the_same_under_ids_of_their_own() {
    let app = start().await;
    a_life(&app, "alice").await;
    let before = everything(&app, "alice").await;
    let file = export(&app, "alice").await;
    // Also when bob says that the file is his own.
    let mut claimed = lines(&file);
    let bobs = lines(&export(&app, "bob").await)[0].clone();
    claimed[0] = bobs;
    let claimed = self::file(&claimed);
    for (user, file) in [("bob", &claimed), ("carol", &file)] {
        let first = import(&app, user, file).await;
        assert_eq!(first["skipped"], 0, "{first}");
        let again = import(&app, user, file).await;
        assert_eq!(again["conversations"], 0, "{again}");
        assert_eq!(everything(&app, "alice").await, before);
        let after = everything(&app, user).await;
        assert_eq!(after.len(), before.len());
        let contents = |memories: &Value| -> Vec<String> {
            let memories = memories["memories"].as_array().unwrap();
            memories
                .iter()
                .map(|memory| memory["content"].to_string())
                .collect()
        };
        for path in [
            "/memories?limit=200",
            "/memories?limit=200&include_inactive=true",
        ] {
            assert_eq!(contents(&after[path]), contents(&before[path]));
        }
        for (path, shown) in &before {
            if path.starts_with("/conversations/") {
                assert!(!after.contains_key(path), "{path}");
            }
            for id in shown["memories"].as_array().into_iter().flatten() {
                let path = format!("/memories/{}", id["id"].as_str().unwrap());
                assert_eq!(app.get(user, &path).await.0, 404);
            }
        }
        // Sources lead to the user's own messages.
        for memory in after["/memories?limit=200"]["memories"].as_array().unwrap() {
            for source in memory["sources"].as_array().unwrap() {
                let id = source["conversation_id"].as_str().unwrap();
                let messages = &after[&format!("/conversations/{id}/messages?limit=200")];
                let mut ids = messages["messages"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|m| &m["id"]);
                assert!(ids.any(|id| *id == source["message_id"]));
            }
        }
    }
}

#[tokio::test]
async fn an_import_merges_with_what_is_there() {
    let (here, there) = (start().await, start().await);
    let told = "I adopted a greyhound called Biscuit";
    let greyhound = "User has a greyhound called Biscuit";
    let source = tell(&here, "alice", told, greyhound).await;
    tell(&here, "alice", "I like sherry", "User likes sherry").await;
    let own = tell(&there, "alice", "My greyhound is called Biscuit", greyhound).await;
    let file = export(&here, "alice").await;
    assert_eq!(import(&there, "alice", &file).await, done(2, 4, 1, 1));
    assert_eq!(
        there.memories("alice").await,
        [greyhound, "User likes sherry"]
    );
    let memories = list(&there, "alice", "").await;
    let one = memories.iter().find(|m| m["content"] == greyhound).unwrap();
    let sources = one["sources"].as_array().unwrap().iter();
    let sources: Vec<&Value> = sources.map(|source| &source["conversation_id"]).collect();
    assert_eq!(sources, [&json!(own), &json!(source)]);
    // What is forgotten or deleted here does not come back with an old file.
    let sherry = memories
        .iter()
        .find(|m| m["content"] == "User likes sherry")
        .unwrap();
    let path = format!("/memories/{}", sherry["id"].as_str().unwrap());
    expect(there.request_by("alice", Method::DELETE, &path), 204).await;
    let path = format!("/conversations/{source}");
    expect(there.request_by("alice", Method::DELETE, &path), 204).await;
    let before = everything(&there, "alice").await;
    assert_eq!(import(&there, "alice", &file).await, done(0, 0, 0, 8));
    assert_eq!(everything(&there, "alice").await, before);
    // A conversation that went on elsewhere goes on here.
    let sherry = before["/conversations?limit=200"]["conversations"]
        .as_array()
        .unwrap()
        .iter();
    let sherry = sherry
        .map(|c| c["id"].as_str().unwrap())
        .find(|id| *id != own)
        .unwrap();
    here.chat("alice", "Still there?", Some(sherry)).await;
    here.settle().await;
    let longer = export(&here, "alice").await;
    assert_eq!(import(&there, "alice", &longer).await, done(0, 2, 0, 8));
    // What was forgotten here was recalled there.
    let said = async |app: &App| {
        let mut messages = app.messages("alice", sherry).await;
        for message in &mut messages {
            if let Some(reply) = message["reply"].as_object_mut() {
                reply.remove("recalled");
            }
        }
        messages
    };
    assert_eq!(said(&there).await, said(&here).await);
    // Also when it went on in both places.
    here.chat("alice", "Here", Some(sherry)).await;
    there.chat("alice", "There", Some(sherry)).await;
    here.settle().await;
    let longest = export(&here, "alice").await;
    assert_eq!(import(&there, "alice", &longest).await, done(0, 2, 0, 10));
    let said = there.messages("alice", sherry).await;
    let said: Vec<&str> = said
        .iter()
        .filter(|m| m["role"] == "user")
        .map(|m| m["content"].as_str().unwrap())
        .collect();
    assert_eq!(said, ["I like sherry", "Still there?", "There", "Here"]);
}

#[tokio::test]
async fn after_an_erasure_everything_can_be_brought_back() {
    let app = start().await;
    tell(
        &app,
        "alice",
        "I adopted a greyhound called Biscuit",
        "User has a greyhound called Biscuit",
    )
    .await;
    let plain = json!([{"role": "user", "content": "I love walnut cake"}]);
    expect(
        app.request_by("alice", Method::POST, "/import")
            .json(&plain),
        200,
    )
    .await;
    app.settle().await;
    let file = export(&app, "alice").await;
    let before = everything(&app, "alice").await;
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    assert_eq!(import(&app, "alice", &file).await["skipped"], 0);
    let after = everything(&app, "alice").await;
    for (path, shown) in &before {
        let (mut shown, mut after) = (shown.clone(), after[path].clone());
        // What comes anew is numbered after what can't be read any more.
        for answer in [&mut shown, &mut after] {
            for list in ["memories", "history"] {
                for one in answer[list].as_array_mut().into_iter().flatten() {
                    one.as_object_mut().unwrap().remove("version");
                }
            }
        }
        assert_eq!(after, shown, "{path}");
    }
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    let again = app
        .request_by("alice", Method::POST, "/import")
        .json(&plain);
    assert_eq!(expect(again, 200).await, done(1, 1, 0, 0));
}

#[tokio::test]
async fn a_file_with_a_fault_is_refused_whole_and_the_line_is_named() {
    let (here, there) = (start().await, start().await);
    tell(
        &here,
        "alice",
        "I adopted a greyhound called Biscuit",
        "User has a greyhound called Biscuit",
    )
    .await;
    let good = lines(&export(&here, "alice").await);
    let at = |name: &str| good.iter().position(|line| line["event"] == name).unwrap();
    let (said, known) = (at("UserMessageReceived"), at("MemoryRecorded"));
    let with = |line: usize, pointer: &str, value: Value| {
        let mut lines = good.clone();
        *lines[line].pointer_mut(pointer).unwrap() = value;
        (file(&lines), line + 1)
    };
    let without = |line: usize| {
        let mut lines = good.clone();
        lines.remove(line);
        file(&lines)
    };
    for (file, line) in [
        with(0, "/version", json!(2)),
        with(0, "/format", json!("companion-export-2")),
        with(said, "/event", json!("TeaServed")),
        with(said, "/schema", json!(99)),
        with(said, "/schema", json!(0)),
        with(
            said,
            "/stream",
            json!("user-0199f7a2-7e00-7000-8000-000000000001"),
        ),
        with(said, "/stream", json!("memories")),
        with(said, "/version", json!(-1)),
        with(said, "/version", json!(i64::MAX)),
        with(said, "/at", json!("2999-01-01T00:00:00Z")),
        with(said, "/at", json!("1969-01-01T00:00:00Z")),
        with(said, "/data", json!({})),
        with(said, "/data/content", json!("x".repeat(32_001))),
        with(said, "/data/content", json!("a\u{0}b")),
        with(said, "/data/content", json!(" ")),
        with(said, "/data/timezone", json!("Mars/Olympus")),
        with(said, "/meta", json!({"model": "x".repeat(201)})),
        with(said, "/meta", json!({"usage": {"a\u{0}": 1}})),
        with(known, "/data/content", json!("x".repeat(2_001))),
        with(known, "/data/importance", json!(1.5)),
        with(known, "/data/valid_from", json!("+12026-01-01T00:00:00Z")),
        with(known, "/data/kind", json!("secret")),
        with(known, "/data/sources", many_sources(0, 1_001)),
        (without(at("ConversationStarted")), said),
        (without(good.len() - 1), good.len() - 1),
        (without(known), good.len() - 1),
        (without(0), 1),
    ] {
        let problem = expect(importing(&there, "alice", &file), 422).await;
        assert_eq!(problem["code"], "validation_failed");
        assert_eq!(
            problem["errors"][0]["field"],
            format!("line {line}"),
            "{problem}"
        );
    }
    let forged = |event: &str, data: Value| {
        let mut lines = good.clone();
        lines[said]["event"] = json!(event);
        lines[said]["data"] = data;
        file(&lines)
    };
    for file in [
        forged("ConversationDeleted", json!({})),
        forged("UserRegistered", json!({"external_id": "bob"})),
        forged(
            "ReplyCompleted",
            json!({"reply_id": good[said]["data"]["reply_id"], "content": "x"}),
        ),
    ] {
        refused(importing(&there, "alice", &file), 422, "validation_failed").await;
    }
    let whole = self::file(&good);
    let broken = whole.replacen("\"ConversationStarted\"", "\"ConversationStarted", 1);
    refused(
        importing(&there, "alice", &broken),
        400,
        "malformed_request",
    )
    .await;
    let mut bytes = whole.clone().into_bytes();
    let at = whole.find("greyhound").unwrap();
    bytes[at] = 0xff;
    let request = there.request_by("alice", Method::POST, "/import");
    let request = request.header("Content-Type", NDJSON).body(bytes);
    refused(request, 400, "malformed_request").await;
    let (status, list) = there.get("alice", "/conversations").await;
    assert_eq!((status, &list["total"]), (200, &json!(0)));
    assert_eq!(import(&there, "alice", &whole).await["memories"], 1);
}

/// So many messages of some conversation, from the n-th on.
fn many_sources(from: u128, count: u128) -> Value {
    let id = |n: u128| Uuid::from_u128((7 << 76) | (2 << 62) | n);
    let source = |n| json!({"conversation_id": id(0), "message_id": id(n + 1)});
    (from..from + count).map(source).collect()
}

#[tokio::test]
async fn however_often_a_file_tells_a_memory_it_stays_small_and_can_be_taken_along() {
    let (here, there) = (start().await, start().await);
    tell(&here, "alice", "I like sherry", "User likes sherry").await;
    let mut lines = lines(&export(&here, "alice").await);
    let known = lines.iter().find(|line| line["event"] == "MemoryRecorded");
    let known = known.unwrap().clone();
    lines.pop();
    for n in 0..20u128 {
        let mut again = known.clone();
        again["event"] = json!("MemoryReinforced");
        again["id"] = json!(Uuid::now_v7());
        again["version"] = json!(1_000 + u64::try_from(n).unwrap());
        again["data"] = json!({
            "memory_id": known["data"]["memory_id"], "sources": many_sources(600 * n, 1_000),
            "reinforced_at": known["data"]["told_at"], "reason": "told again",
        });
        lines.push(again);
    }
    lines.push(json!({"end": lines.len() - 1}));
    assert_eq!(import(&there, "alice", &file(&lines)).await["memories"], 1);
    let memories = list(&there, "alice", "").await;
    let sources = memories[0]["sources"].as_array().unwrap();
    assert_eq!((memories.len(), sources.len()), (1, 1_000));
    assert_eq!(
        sources[0]["message_id"], known["data"]["sources"][0]["message_id"],
        "the first stay"
    );
    let again = export(&there, "alice").await;
    assert_eq!(import(&here, "bob", &again).await["memories"], 1);
    assert_eq!(
        list(&here, "bob", "").await[0]["sources"]
            .as_array()
            .unwrap()
            .len(),
        1_000
    );
}

#[tokio::test]
async fn only_files_of_the_right_kind_and_size_from_known_users_are_looked_at() {
    let app = start().await;
    let post = |media: &str, body: Vec<u8>| {
        let request = app.request_by("alice", Method::POST, "/import");
        request.header("Content-Type", media).body(body)
    };
    refused(post(NDJSON, Vec::new()), 400, "malformed_request").await;
    refused(
        post("application/json", b"[".repeat(100_000)),
        400,
        "malformed_request",
    )
    .await;
    refused(
        post("application/json", b"{\"a\":".repeat(100_000)),
        400,
        "malformed_request",
    )
    .await;
    refused(
        post("text/plain", b"[]".to_vec()),
        415,
        "unsupported_media_type",
    )
    .await;
    for body in [
        "[]",
        "[1]",
        "null",
        "{}",
        "\"x\"",
        "7",
        "[[1]]",
        "[{\"role\":\"king\"}]",
        " \n",
    ] {
        refused(
            post("application/json", body.into()),
            422,
            "validation_failed",
        )
        .await;
    }
    refused(
        post(NDJSON, vec![b' '; (64 << 20) + 1]),
        413,
        "body_too_large",
    )
    .await;
    for path in ["/export", "/import"] {
        let method = if path == "/export" {
            Method::GET
        } else {
            Method::POST
        };
        let request = app
            .request(method, path)
            .header("Content-Type", NDJSON)
            .body("x");
        let (status, _) = status_and_json(request.send().await.unwrap()).await;
        assert_eq!(status, 401);
    }
}

#[tokio::test]
async fn an_export_of_somebody_who_is_erased_meanwhile_has_no_end() {
    let app = start().await;
    a_life(&app, "alice").await;
    let alice = ExternalUserId::parse("alice").unwrap();
    let user = UserId::of(&alice);
    let store = &app.core.store;
    let key = store.vault().key(&app.core.pool, user).await.unwrap();
    let mut export = Export::begin(store, &alice).await.unwrap();
    let header = export.next().await.unwrap();
    assert!(header.is_some() && export.is_of_somebody());
    Eraser::of(&app.core).erase(user).await.unwrap();
    let rest = loop {
        match export.next().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    assert!(matches!(rest, Err(ExportError::Erased)), "{rest:?}");
    let has = store.vault().is_in_force(&app.core.pool, user, &key).await;
    assert!(!has.unwrap());
    let later = Export::begin(store, &alice).await.unwrap();
    assert!(!later.is_of_somebody());
}
