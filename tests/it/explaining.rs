//! Why a reply says what it says: what its prompt held, and what became of that since.

use companion_tests::app::App;
use companion_tests::llm::Behaviour;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::memory::{answer, list, statement, tell};
use crate::steps::{crashed_reply, expect};

const GREYHOUND: &str = "User has a greyhound called Biscuit";

async fn explain(app: &App, user: &str, reply: &str) -> Value {
    app.settle().await;
    let request = app.request_by(user, Method::GET, &format!("/replies/{reply}/explain"));
    expect(request, 200).await
}

#[tokio::test]
async fn a_reply_is_explained_by_what_its_prompt_held() {
    let app = App::start().await;
    let told = "I adopted a greyhound called Biscuit";
    let source = tell(&app, "alice", told, GREYHOUND).await;
    let message = app.messages("alice", &source).await[0]["id"].clone();
    let memory = list(&app, "alice", "").await[0].clone();
    let first = app.chat("alice", "Hello there", None).await;
    let asked = app
        .chat(
            "alice",
            "What is my dog called?",
            Some(&first.conversation_id),
        )
        .await;
    let explained = explain(&app, "alice", &asked.reply_id).await;
    let messages = app.messages("alice", &asked.conversation_id).await;
    assert_eq!(explained["conversation_id"], asked.conversation_id);
    assert_eq!(explained["message_id"], messages[2]["id"]);
    assert_eq!(explained["status"], "completed");
    assert_eq!(explained["context_messages"], 2);
    assert_eq!(explained["summary"], false);
    assert_eq!(explained["model"], "local-model");
    assert_eq!(explained["parameters"]["max_tokens"], 2000);
    assert_eq!(explained["parameters"]["temperature"], json!(0.7));
    assert!(explained["prompt"]["id"].is_string() && explained["prompt"]["hash"].is_string());
    let recalled = &messages[3]["reply"]["recalled"][0];
    let [one] = explained["memories"].as_array().unwrap().as_slice() else {
        panic!("{explained}")
    };
    assert_eq!(
        *one,
        json!({
            "id": memory["id"], "content": GREYHOUND, "rank": 1, "score": recalled["score"],
            "similarity": recalled["similarity"], "state": "live", "content_now": null, "superseded_by": null,
            "sources": [{
                "conversation_id": source, "message_id": message, "external_id": null,
                "said_at": one["sources"][0]["said_at"], "excerpt": told,
            }],
        })
    );
    assert_eq!(explained["forgotten"], 0);
}

#[tokio::test]
async fn an_explanation_tells_what_became_of_a_memory() {
    let app = App::start().await;
    let lisbon = tell(&app, "alice", "I live in Lisbon", "User lives in Lisbon").await;
    let asked = app.chat("alice", "Where do I live?", None).await;
    let before = explain(&app, "alice", &asked.reply_id).await;
    let path = format!(
        "/memories/{}",
        before["memories"][0]["id"].as_str().unwrap()
    );
    let corrected = json!({"content": "User lives in Sintra"});
    let request = app
        .request_by("alice", Method::PATCH, &path)
        .json(&corrected);
    expect(request, 200).await;
    let after = explain(&app, "alice", &asked.reply_id).await["memories"][0].clone();
    assert_eq!(
        (&after["content"], &after["content_now"]),
        (
            &json!("User lives in Lisbon"),
            &json!("User lives in Sintra")
        )
    );
    let listed = app.messages("alice", &asked.conversation_id).await;
    assert_eq!(
        listed[1]["reply"]["recalled"][0]["content"],
        "User lives in Lisbon"
    );
    let mut moved = statement("User lives in Porto");
    moved["replaces"] = json!([1]);
    app.llm.next_extraction(answer(&[moved]));
    app.chat("alice", "I moved and live in Porto now", Some(&lisbon))
        .await;
    let after = explain(&app, "alice", &asked.reply_id).await["memories"][0].clone();
    assert_eq!(after["state"], "superseded", "{after}");
    assert!(after["superseded_by"].is_string(), "{after}");
    assert_eq!(
        after["sources"].as_array().unwrap().len(),
        1,
        "those of then: {after}"
    );
}

#[tokio::test]
async fn what_is_forgotten_is_in_no_explanation_and_in_no_row() {
    let app = App::start().await;
    tell(
        &app,
        "alice",
        "I adopted a greyhound called Biscuit",
        GREYHOUND,
    )
    .await;
    let asked = app.chat("alice", "What is my dog called?", None).await;
    let explained = explain(&app, "alice", &asked.reply_id).await;
    let id = explained["memories"][0]["id"].as_str().unwrap();
    let request = app.request_by("alice", Method::DELETE, &format!("/memories/{id}"));
    expect(request, 204).await;
    let explained = explain(&app, "alice", &asked.reply_id).await;
    assert_eq!(
        (&explained["memories"], &explained["forgotten"]),
        (&json!([]), &json!(1))
    );
    assert!(!explained.to_string().contains("greyhound"));
    let listed = app.messages("alice", &asked.conversation_id).await;
    assert_eq!(listed[1]["reply"]["recalled"], json!([]));
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM messages WHERE recalled LIKE '%greyhound%'")
            .fetch_one(&app.core.pool)
            .await
            .unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn what_an_older_version_kept_of_a_reply_becomes_what_a_replay_gives() {
    let app = App::start().await;
    let told = "I adopted a greyhound called Biscuit";
    tell(&app, "alice", told, GREYHOUND).await;
    app.chat("alice", "What is my dog called?", None).await;
    app.settle().await;
    let pool = &app.core.pool;
    let kept = async || -> Vec<Option<String>> {
        let kept = "SELECT recalled::text FROM messages ORDER BY message_id";
        sqlx::query_scalar(kept).fetch_all(pool).await.unwrap()
    };
    let written = kept().await;
    let older = "ALTER TABLE read.messages ALTER COLUMN recalled TYPE jsonb USING recalled::jsonb";
    sqlx::query(older).execute(pool).await.unwrap();
    assert_ne!(kept().await, written);
    let migration = include_str!("../../migrations/0018_recalled_as_text.sql");
    sqlx::raw_sql(migration).execute(pool).await.unwrap();
    assert_eq!(kept().await, written);
    assert!(written.iter().flatten().any(|kept| kept != "[]"));
    assert!(written.contains(&None) && written.contains(&Some("[]".to_owned())));
}

#[tokio::test]
async fn a_source_that_was_cleared_is_not_quoted() {
    let app = App::start().await;
    let told = "I adopted a greyhound called Biscuit";
    let first = tell(&app, "alice", told, GREYHOUND).await;
    let second = tell(&app, "alice", "My greyhound is called Biscuit", GREYHOUND).await;
    let asked = app.chat("alice", "What is my dog called?", None).await;
    let sources = |explained: &Value| {
        let sources = explained["memories"][0]["sources"].as_array().unwrap();
        sources
            .iter()
            .map(|source| source["conversation_id"].clone())
            .collect::<Vec<_>>()
    };
    let explained = explain(&app, "alice", &asked.reply_id).await;
    assert_eq!(sources(&explained), [json!(first), json!(second)]);
    let body = json!({ "conversation_id": first });
    let request = app
        .request_by("alice", Method::POST, "/memory/clear")
        .json(&body);
    expect(request, 200).await;
    let explained = explain(&app, "alice", &asked.reply_id).await;
    assert_eq!(sources(&explained), [json!(second)]);
    assert!(!explained.to_string().contains(told));
}

#[tokio::test]
async fn a_reply_that_failed_or_never_began_is_explained_as_far_as_it_went() {
    let app = App::start().await;
    app.llm.next(Behaviour::Status(500, "no".to_owned()));
    let failed = app.chat("alice", "Hello", None).await;
    let explained = explain(&app, "alice", &failed.reply_id).await;
    assert_eq!(
        (&explained["status"], &explained["model"]),
        (&json!("failed"), &json!("local-model"))
    );
    let crashed = crashed_reply(&app, "alice", &failed.conversation_id).await;
    let explained = explain(&app, "alice", &crashed.to_string()).await;
    assert_eq!(
        (&explained["status"], &explained["started_at"]),
        (&json!("interrupted"), &Value::Null)
    );
    assert_eq!(explained["memories"], json!([]));
}

#[tokio::test]
async fn only_a_reply_of_ones_own_is_explained() {
    let app = App::start().await;
    let mine = app.chat("alice", "Hello", None).await;
    let message = app.messages("alice", &mine.conversation_id).await[0]["id"].clone();
    let nothing = Uuid::now_v7().to_string();
    for (user, id) in [
        ("bob", mine.reply_id.as_str()),
        ("alice", message.as_str().unwrap()),
        ("alice", &nothing),
        ("alice", "x"),
    ] {
        let request = app.request_by(user, Method::GET, &format!("/replies/{id}/explain"));
        expect(request, 404).await;
    }
}
