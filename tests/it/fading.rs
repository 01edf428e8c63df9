//! Memories that lose their importance, fade, and come back.

use chrono::{DateTime, TimeDelta, Utc};
use companion_adapters::log::event_store::Expected;
use companion_domain::events::{Event, MemoriesRecalled, MemoryFaded, MemoryUse, Metadata};
use companion_domain::ids::{ExternalUserId, MemoryId, StreamId, UserId};
use companion_tests::app::App;
use reqwest::Method;
use serde_json::{Value, json};

use crate::memory::{contents, list, tell};

fn alice() -> UserId {
    UserId::of(&ExternalUserId::parse("alice").unwrap())
}

/// Appends to the user's memory stream what a job of the service might have appended.
async fn append(app: &App, event: Event) {
    let (stream, events) = (
        StreamId::memory(alice()),
        vec![(event, Metadata::default())],
    );
    let store = &app.core.store;
    let appended = store.append(&stream, alice(), Expected::Any, events, None);
    appended.await.unwrap();
    app.settle().await;
}

fn id(memory: &Value) -> MemoryId {
    MemoryId(memory["id"].as_str().unwrap().parse().unwrap())
}

fn path(memory: &Value) -> String {
    format!("/memories/{}", id(memory))
}

/// Writes down a circumstance of so many days ago.
async fn circumstance(app: &App, content: &str, days_ago: i64) -> Value {
    let then = Utc::now() - TimeDelta::days(days_ago);
    let body = json!({"content": content, "kind": "context", "occurred_at": then});
    let (status, memory) = app.post("alice", "/memories", &body).await;
    assert_eq!(status, 201, "{memory}");
    memory
}

async fn fade(app: &App, memory: &Value) {
    let faded = MemoryFaded {
        memory_id: id(memory),
        importance_now: 0.04,
        fade_below: 0.05,
    };
    append(app, faded.into()).await;
}

async fn get(app: &App, memory: &Value) -> Value {
    let (status, memory) = app.get("alice", &path(memory)).await;
    assert_eq!(status, 200, "{memory}");
    memory
}

async fn history(app: &App, memory: &Value) -> Vec<String> {
    let path = format!("{}/history", path(memory));
    let (status, history) = app.get("alice", &path).await;
    assert_eq!(status, 200, "{history}");
    let history = history["history"].as_array().unwrap();
    let event = |entry: &Value| entry["event"].as_str().unwrap().to_owned();
    history.iter().map(event).collect()
}

#[tokio::test]
async fn what_has_faded_stays_so_until_it_is_told_again() {
    let app = App::start().await;
    let cold = circumstance(&app, "User has a cold", 1).await;
    fade(&app, &cold).await;
    assert_eq!(get(&app, &cold).await["state"], "faded");
    assert!(list(&app, "alice", "").await.is_empty());
    app.chat("alice", "Do I have a cold?", None).await;
    assert!(!app.last_prompt().contains("User has a cold"));
    // The question is read before what the LLM is to find in the next message.
    app.settle().await;
    assert_eq!(
        history(&app, &cold).await,
        ["MemoryRecorded", "MemoryFaded"]
    );

    tell(&app, "alice", "I have a cold", "User has a cold").await;
    let all = list(&app, "alice", "include_inactive=true").await;
    assert_eq!(contents(&all), ["User has a cold"], "it is one memory");
    assert_eq!(get(&app, &cold).await["state"], "live");
    app.chat("alice", "Do I have a cold?", None).await;
    assert!(app.last_prompt().contains("User has a cold"));
}

#[tokio::test]
async fn what_has_faded_is_live_again_when_it_is_written_down_or_corrected() {
    let app = App::start().await;
    for correct in [false, true] {
        let cold = circumstance(&app, "User has a cold", 1).await;
        fade(&app, &cold).await;
        let same = json!({"content": "user has a COLD", "kind": "context"});
        let (status, again) = match correct {
            false => app.post("alice", "/memories", &same).await,
            true => {
                app.call(
                    "alice",
                    Method::PATCH,
                    &path(&cold),
                    &json!({"importance": 0.7}),
                )
                .await
            }
        };
        assert_eq!(
            (status, &again["state"], &again["id"]),
            (200, &json!("live"), &cold["id"])
        );
        assert_eq!(
            app.call("alice", Method::DELETE, &path(&cold), &json!(null))
                .await
                .0,
            204
        );
    }
}

#[tokio::test]
async fn what_was_believed_before_it_faded_is_still_told() {
    let app = App::start().await;
    let cold = circumstance(&app, "User has a cold", 30).await;
    let before = cold["updated_at"].as_str().unwrap();
    fade(&app, &cold).await;
    let then = list(&app, "alice", &format!("as_of={before}")).await;
    assert_eq!(contents(&then), ["User has a cold"]);
    // Nobody had looked yet, but so little was left of it that it was not recalled any more.
    let old = circumstance(&app, "User is in Rome", 3650).await;
    let before = old["updated_at"].as_str().unwrap();
    fade(&app, &old).await;
    let then = list(
        &app,
        "alice",
        &format!("as_of={before}&include_inactive=true"),
    )
    .await;
    let rome = then
        .iter()
        .find(|memory| memory["id"] == old["id"])
        .unwrap();
    assert_eq!(rome["state"], "faded");
}

#[tokio::test]
async fn what_a_reply_made_use_of_decays_from_then_on_and_is_no_more_important() {
    let app = App::start().await;
    let cold = circumstance(&app, "User has a cold", 14).await;
    let importance_now = |memory: &Value| memory["importance_now"].as_f64().unwrap();
    assert!((importance_now(&cold) - 0.25).abs() < 0.01);
    let used = |at: DateTime<Utc>| MemoriesRecalled {
        memories: vec![MemoryUse {
            memory_id: id(&cold),
            times: 2,
            last_at: at,
        }],
        through: at,
    };
    append(&app, used(Utc::now()).into()).await;
    let after = get(&app, &cold).await;
    assert!((importance_now(&after) - 0.5).abs() < 0.01);
    assert_eq!(after["importance"], 0.5);
    assert!(after["version"].as_i64() > cold["version"].as_i64());
    append(&app, used(Utc::now() - TimeDelta::days(20)).into()).await;
    let after = get(&app, &cold).await;
    assert!(
        (importance_now(&after) - 0.5).abs() < 0.01,
        "the latest use counts"
    );
    assert_eq!(
        history(&app, &cold).await,
        ["MemoryRecorded", "MemoriesRecalled", "MemoriesRecalled"]
    );
}

#[tokio::test]
async fn what_lies_ahead_keeps_its_importance_and_what_is_past_decays_from_when_it_was_told() {
    let app = App::start_with(&[("MEMORY_EXTRACTION_METHOD", "heuristic")]).await;
    let told = Utc::now() - TimeDelta::days(90);
    let day = |days: i64| (told + TimeDelta::days(days)).format("%-d %B %Y");
    let said = |content: String| json!({"role": "user", "content": content, "created_at": told});
    let messages = json!({"messages": [
        said(format!("My wedding is on {}", day(380))),
        said(format!("I ran a marathon on {}", day(-700))),
    ]});
    let (status, imported) = app.post("alice", "/conversations/import", &messages).await;
    assert_eq!(status, 201, "{imported}");
    let memories = list(&app, "alice", "").await;
    let left = |words: &str| {
        let is = |memory: &&Value| memory["content"].as_str().unwrap().contains(words);
        let memory = memories.iter().find(is).expect(words);
        assert!(memory["metadata"]["occurred_at"].is_string(), "{memory}");
        let of = |name: &str| memory[name].as_f64().unwrap();
        of("importance_now") / of("importance")
    };
    assert!((left("wedding") - 1.0).abs() < 0.001);
    assert!((left("marathon") - 0.5).abs() < 0.01, "one half-life ago");
}
