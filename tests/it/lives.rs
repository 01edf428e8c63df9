//! A user who was erased and begins anew: nothing of the one life gets into the next.

use std::convert::Infallible;

use companion_adapters::embedder::content_hash;
use companion_adapters::log::event_store::AppendError;
use companion_adapters::{erasure, vectors};
use companion_domain::ids::ExternalUserId;
use companion_tests::app::App;
use companion_tests::eventually::{eventually, within};
use companion_tests::llm::{Behaviour, Gate};
use futures_util::stream::{self, StreamExt};
use reqwest::{Body, Method};
use serde_json::json;
use tokio::sync::mpsc;

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

#[tokio::test]
async fn a_request_whose_body_comes_after_the_erasure_begins_no_new_life() {
    let app = App::start().await;
    let name = json!({"name": "k"});
    let message = json!({"role": "user", "content": "I have a parrot"});
    let bodies = [
        ("/chat", json!({"message": "I have a parrot"})),
        (
            "/memories",
            json!({"content": "User has a parrot", "kind": "fact"}),
        ),
        ("/auth/api-keys", name.clone()),
        ("/auth/token", json!({"user_id": "alice"})),
        ("/conversations/import", json!({"messages": [message]})),
    ];
    let mut on_their_way = Vec::new();
    for (path, body) in bodies {
        let issue = app.request_by("alice", Method::POST, "/auth/api-keys");
        let issued = expect(issue.json(&name), 201).await;
        let (send, mut parts) = mpsc::channel::<String>(2);
        let parts = stream::poll_fn(move |context| parts.poll_recv(context));
        let request = app
            .request(Method::POST, path)
            .header("X-API-Key", issued["key"].as_str().unwrap())
            .header("Content-Type", "application/json")
            .body(Body::wrap_stream(parts.map(Ok::<_, Infallible>)));
        let answer = tokio::spawn(request.send());
        let body = body.to_string();
        let (first, rest) = body.split_at(5);
        send.send(first.to_owned()).await.unwrap();
        on_their_way.push((path, send, rest.to_owned(), answer));
    }
    // Until each of the keys was looked at.
    eventually(|| async {
        let (_, keys) = app.get("alice", "/auth/api-keys").await;
        let keys = keys["api_keys"].as_array().unwrap();
        match keys
            .iter()
            .filter(|key| !key["last_used_at"].is_null())
            .count()
        {
            5 => Ok(()),
            used => Err(format!("{used} were used")),
        }
    })
    .await;
    erase(&app).await;
    for (path, send, rest, answer) in on_their_way {
        // One that was judged only just now is refused already, and nobody reads the rest.
        let _ = send.send(rest).await;
        drop(send);
        if let Ok(answer) = within("the answer", answer).await.unwrap() {
            assert_eq!(answer.status(), 401, "{path}");
        }
    }
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM user_keys")
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
    assert_eq!(keys, 0);
}

#[tokio::test]
async fn who_was_erased_since_their_credential_was_judged_begins_no_new_life() {
    let app = App::start().await;
    let alice = ExternalUserId::parse("alice").unwrap();
    let store = &app.core.store;
    let user = store.ensure_user(&alice).await.unwrap();
    erase(&app).await;
    store.ensure_user_since(&alice, None).await.unwrap();
    assert!(store.life(user).await.is_err());
    let erased = erasure::last(&app.core.pool, user).await.unwrap();
    let erased = erased.map(|erased| erased.erased_at);
    store.ensure_user_since(&alice, erased).await.unwrap();
    assert!(store.life(user).await.is_ok());
    // Nor does a credential of the former life reach the one that has begun since.
    let refused = store.ensure_user_since(&alice, None).await;
    assert!(matches!(refused, Err(AppendError::NoUser)));
}

#[tokio::test]
async fn a_token_that_is_asked_for_in_the_second_of_the_erasure_is_accepted() {
    let app = App::start().await;
    app.chat("alice", "hello", None).await;
    erase(&app).await;
    let (status, token) = app.post("alice", "/auth/token", &json!({})).await;
    assert_eq!(status, 200, "{token}");
    let with_token = app.request(Method::GET, "/conversations");
    let with_token = with_token.bearer_auth(token["access_token"].as_str().unwrap());
    assert_eq!(expect(with_token, 200).await["total"], 0);
}

#[tokio::test]
async fn vectors_of_a_life_that_has_ended_are_not_kept_in_the_next() {
    let app = App::start().await;
    let alice = ExternalUserId::parse("alice").unwrap();
    let store = &app.core.store;
    let user = store.ensure_user(&alice).await.unwrap();
    let ended = store.life(user).await.unwrap();
    erase(&app).await;
    store.ensure_user(&alice).await.unwrap();
    let vector = app.core.embedder.embed_query("my secret").await.unwrap();
    let made = [(content_hash("my secret"), vector)];
    let keep = async |life| {
        vectors::keep(&app.core.pool, user, life, &made)
            .await
            .unwrap();
        let hashes = [content_hash("my secret")];
        vectors::known(&app.core.pool, user, &hashes)
            .await
            .unwrap()
            .len()
    };
    assert_eq!(keep(&ended).await, 0);
    assert_eq!(keep(&store.life(user).await.unwrap()).await, 1);
}
