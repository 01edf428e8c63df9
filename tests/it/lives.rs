//! A user who was erased and begins anew: nothing of the one life gets into the next.

use companion_adapters::vectors;
use companion_tests::app::App;
use companion_tests::llm::{Behaviour, Gate};
use reqwest::Method;
use serde_json::json;

use crate::memory::{answer, contents, list, search, statement, tell};
use crate::steps::{another, expect, refused};

async fn erase(app: &App) {
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
}

#[tokio::test]
async fn everything_of_an_erased_user_is_gone_and_the_next_life_begins_empty() {
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    expect(
        app.request_by("alice", Method::POST, "/auth/api-keys")
            .json(&json!({"name": "laptop"})),
        201,
    )
    .await;
    app.settle().await;
    erase(&app).await;
    let tables: Vec<(String,)> = sqlx::query_as(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.columns
         WHERE column_name = 'user_id' AND table_schema IN ('public', 'read')
           AND table_name NOT IN ('events', 'streams', 'erasures', 'destroyed_keys')",
    )
    .fetch_all(&app.core.pool)
    .await
    .unwrap();
    assert!(tables.len() >= 14, "{tables:?}");
    for (table,) in tables {
        let count = format!("SELECT count(*) FROM {table}");
        let rows: i64 = sqlx::query_scalar(sqlx::AssertSqlSafe(count))
            .fetch_one(&app.core.pool)
            .await
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    tell(&app, "alice", "I have a parrot", "User has a parrot").await;
    assert_eq!(app.memories("alice").await, ["User has a parrot"]);
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 1);
}

#[tokio::test]
async fn a_conversation_of_the_former_life_is_none_for_any_process() {
    let app = App::start().await;
    let other = another(&app).await;
    let conversation = app.chat("alice", "my secret", None).await.conversation_id;
    // The other process has the conversation and the user's key at hand, too.
    other
        .chat("alice", "and more of it", Some(&conversation))
        .await;
    app.settle().await;
    app.llm.extraction("A secret was told.");
    let path = format!("/conversations/{conversation}/summary");
    for cached in [false, true] {
        // The second time it only looks, and has the last state of the conversation at hand then.
        let summary = expect(other.request_by("alice", Method::POST, &path), 200).await;
        assert_eq!(summary["cached"], cached);
    }
    erase(&app).await;
    for app in [&other, &app, &other] {
        let body = json!({"message": "go on", "conversation_id": conversation});
        let request = app.request_by("alice", Method::POST, "/chat").json(&body);
        refused(request, 404, "not_found").await;
    }
    for prompt in app.llm.chat_requests().iter().skip(2) {
        assert!(!prompt.prompt().contains("secret"));
    }
}

#[tokio::test]
async fn an_extraction_that_was_under_way_brings_nothing_into_the_next_life() {
    let app = App::start().await;
    let gate = Gate::new();
    let found = json!({ "memories": [statement("User has a greyhound")] }).to_string();
    app.llm.next_extraction(Behaviour::Gated {
        chunks: vec![found],
        gate: gate.clone(),
    });
    app.chat("alice", "I have a greyhound", None).await;
    gate.reached().await;
    erase(&app).await;
    app.llm.next_extraction(answer(&[]));
    app.chat("alice", "Good morning", None).await;
    gate.open_all();
    app.settle().await;
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 0);
    let dead = app.get("alice", "/health").await.1["workers"]["dead_jobs"].clone();
    assert_eq!(dead, 0);
}

#[tokio::test]
async fn what_was_deleted_and_told_again_is_found_and_what_was_only_deleted_leaves_no_vector() {
    let app = App::start().await;
    let import = |text: &str| {
        let body = json!({"messages": [{"role": "user", "content": text}], "extract": false});
        app.request_by("alice", Method::POST, "/conversations/import")
            .json(&body)
    };
    let again = "The greyhound sleeps on the sofa";
    let once = "Ships come into the harbour at night";
    let mut ids = Vec::new();
    for text in [again, once] {
        let imported = expect(import(text), 201).await;
        ids.push(imported["conversation_id"].as_str().unwrap().to_owned());
    }
    app.settle().await;
    for id in &ids {
        let path = format!("/conversations/{id}");
        expect(app.request_by("alice", Method::DELETE, &path), 204).await;
    }
    expect(import(again), 201).await;
    app.settle().await;
    vectors::sweep(&app.core.pool).await.unwrap();
    let query = json!({"query": "a dog is resting", "include_messages": true});
    let found = search(&app, "alice", query).await;
    assert_eq!(contents(&found), [again]);
    assert!(found[0]["similarity"].as_f64().unwrap() > 0.1, "{found:?}");
    let vectors: i64 = sqlx::query_scalar("SELECT count(*) FROM vectors")
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
    assert_eq!(vectors, 1);
}

#[tokio::test]
async fn a_date_that_no_calendar_has_stops_nothing() {
    let app = App::start().await;
    let mut found = statement("User was at a wedding");
    found["happened_on"] = json!("-9999-01-12");
    app.llm.next_extraction(answer(&[found]));
    app.chat("alice", "I was at a wedding", None).await;
    app.settle().await;
    assert_eq!(app.memories("alice").await, ["User was at a wedding"]);
}

#[tokio::test]
async fn a_long_stretch_of_the_assistant_alone_is_passed_over() {
    let app = App::start().await;
    let mut messages: Vec<_> = (0..2_400)
        .map(|n| json!({"role": "assistant", "content": format!("{n} sheep")}))
        .collect();
    messages.push(json!({"role": "user", "content": "I have a greyhound"}));
    app.llm
        .next_extraction(answer(&[statement("User has a greyhound")]));
    let body = json!({ "messages": messages });
    let import = app.request_by("alice", Method::POST, "/conversations/import");
    expect(import.json(&body), 201).await;
    assert_eq!(app.memories("alice").await, ["User has a greyhound"]);
}

#[tokio::test]
async fn a_repeated_request_for_a_deleted_conversation_finds_none() {
    let app = App::start().await;
    let send = || {
        app.request_by("alice", Method::POST, "/chat")
            .header("Idempotency-Key", "one")
            .json(&json!({"message": "hello"}))
    };
    let response = send().send().await.unwrap();
    let conversation = response.headers()["x-conversation-id"].to_str().unwrap();
    let path = format!("/conversations/{conversation}");
    response.text().await.unwrap();
    expect(app.request_by("alice", Method::DELETE, &path), 204).await;
    refused(send(), 404, "not_found").await;
}
