//! Conversations of other systems, as files.

use companion_tests::app::App;
use reqwest::Method;
use serde_json::{Value, json};

use crate::memory::{answer, contents, list, search, statement};
use crate::portability::done;
use crate::steps::expect;

async fn import(app: &App, query: &str, file: &Value) -> Value {
    let path = format!("/import{query}");
    let request = app.request_by("alice", Method::POST, &path).json(file);
    let done = expect(request, 200).await;
    app.settle().await;
    done
}

fn node(parent: &str, children: &[&str], role: &str, text: &str, at: f64) -> Value {
    json!({
        "parent": parent, "children": children,
        "message": {
            "id": text.len().to_string(), "author": {"role": role}, "create_time": at, "recipient": "all",
            "content": {"content_type": "text", "parts": [text]}, "metadata": {},
        },
    })
}

fn chatgpt() -> Value {
    json!([{
        "title": "Dogs", "create_time": 1_700_000_000.5, "conversation_id": "c-1", "current_node": "b",
        "mapping": {
            "root": {"parent": null, "children": ["s"], "message": null},
            "s": node("root", &["a"], "system", "You are helpful", 1_700_000_000.0),
            "a": node("s", &["b"], "user", "I adopted a greyhound called Biscuit", 1_700_000_001.5),
            "b": node("a", &[], "assistant", "How lovely!", 1_700_000_003.0),
        },
    }])
}

#[tokio::test]
async fn conversations_of_chatgpt_come_with_their_times_and_give_memories() {
    let app = App::start().await;
    app.llm
        .next_extraction(answer(&[statement("User has a greyhound called Biscuit")]));
    assert_eq!(import(&app, "", &chatgpt()).await, done(1, 2, 0, 0));
    let (_, conversations) = app.get("alice", "/conversations").await;
    let conversation = &conversations["conversations"][0];
    assert_eq!(
        (&conversation["title"], &conversation["created_at"]),
        (&json!("Dogs"), &json!("2023-11-14T22:13:21.500+00:00"))
    );
    let messages = app
        .messages("alice", conversation["id"].as_str().unwrap())
        .await;
    let told: Vec<_> = messages
        .iter()
        .map(|m| (&m["role"], &m["content"], &m["external_id"]))
        .collect();
    assert_eq!(
        told,
        [
            (
                &json!("user"),
                &json!("I adopted a greyhound called Biscuit"),
                &json!("36")
            ),
            (&json!("assistant"), &json!("How lovely!"), &json!("11")),
        ]
    );
    let memories = list(&app, "alice", "").await;
    assert_eq!(
        memories[0]["content"],
        "User has a greyhound called Biscuit"
    );
    assert_eq!(memories[0]["sources"][0]["external_id"], "36");
    assert_eq!(memories[0]["valid_from"], "2023-11-14T22:13:21.500+00:00");
    // Known again; and when it went on since, only what is new comes.
    assert_eq!(import(&app, "", &chatgpt()).await, done(0, 0, 0, 3));
    let mut longer = chatgpt();
    longer[0]["current_node"] = json!("c");
    longer[0]["mapping"]["c"] = node("b", &[], "user", "He is two years old", 1_700_000_009.0);
    assert_eq!(
        import(&app, "?extract=false", &longer).await,
        done(0, 1, 0, 3)
    );
    let bob = app
        .request_by("bob", Method::POST, "/import")
        .json(&chatgpt());
    assert_eq!(expect(bob, 200).await, done(1, 2, 0, 0));
}

#[tokio::test]
async fn lists_of_roles_and_contents_are_conversations() {
    let app = App::start().await;
    let list = json!([
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "I love walnut cake", "created_at": "2024-05-01T10:00:00Z"},
        {"role": "assistant", "content": "Noted"},
    ]);
    let other = json!({"title": "Tea", "id": "t", "messages": [{"role": "user", "content": "I love green tea"}]});
    assert_eq!(
        import(&app, "?extract=false", &list).await,
        done(1, 2, 0, 0)
    );
    assert_eq!(
        import(&app, "?extract=false", &json!([list, other])).await,
        done(1, 1, 0, 3)
    );
    assert_eq!(
        import(&app, "?extract=false", &other).await,
        done(0, 0, 0, 2)
    );
    assert!(app.memories("alice").await.is_empty());
    let asked = app.llm.extraction_requests();
    assert!(asked.is_empty(), "nothing was read for memories");
    let found = search(
        &app,
        "alice",
        json!({"query": "walnut", "include_messages": true, "top_k": 1}),
    )
    .await;
    assert_eq!(contents(&found), ["I love walnut cake"]);
    // A deleted one stays deleted.
    let id = found[0]["sources"][0]["conversation_id"].as_str().unwrap();
    expect(
        app.request_by("alice", Method::DELETE, &format!("/conversations/{id}")),
        204,
    )
    .await;
    assert_eq!(import(&app, "", &list).await, done(0, 0, 0, 3));
}

#[tokio::test]
async fn a_fault_in_a_conversation_is_named_and_nothing_is_taken_in() {
    let app = App::start().await;
    let good = json!([{"role": "user", "content": "Hi"}]);
    for (wrong, field) in [
        (
            json!([{"role": "user", "content": "x".repeat(32_001)}]),
            "conversation 2, message 1",
        ),
        (
            json!([{"role": "user", "content": "a\u{0}"}]),
            "conversation 2, message 1",
        ),
        (
            json!([{"role": "user", "content": "x", "created_at": 1e300}]),
            "conversation 2, message 1",
        ),
        (json!({"mapping": 1}), "conversation 2"),
        (
            json!([good[0], {"role": "user", "content": ["", {}]}]),
            "conversation 2, message 2",
        ),
    ] {
        let request = app
            .request_by("alice", Method::POST, "/import")
            .json(&json!([good, wrong]));
        let problem = expect(request, 422).await;
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 0);
}
