//! What came from a conversation is forgotten, and nothing brings it back.

use companion_tests::app::App;
use companion_tests::llm::{Behaviour, Gate};
use reqwest::Method;
use serde_json::{Value, json};

use crate::memory::{answer, contents, list, search, statement, tell};

async fn clear(app: &App, conversation: &str) -> Value {
    let body = json!({ "conversation_id": conversation });
    let (status, cleared) = app.post("alice", "/memory/clear", &body).await;
    assert_eq!(status, 200, "{cleared}");
    cleared
}

/// Two live memories of a conversation, one that it superseded and one that has faded.
async fn four_memories(app: &App) -> String {
    let conversation = tell(app, "alice", "I live in Lisbon", "User lives in Lisbon").await;
    for (said, replaces, found) in [
        (
            "I moved and live in Porto now",
            json!([1]),
            "User lives in Porto",
        ),
        ("I adopted a greyhound", json!([]), "User has a greyhound"),
        ("I love walnut cake", json!([]), "User loves walnut cake"),
    ] {
        let mut found = statement(found);
        found["replaces"] = replaces;
        app.llm.next_extraction(answer(&[found]));
        app.chat("alice", said, Some(&conversation)).await;
        app.settle().await;
    }
    let long_ago = "UPDATE memories SET last_reinforced_at = now() - interval '20 years' WHERE content LIKE '%walnut%'";
    sqlx::query(long_ago).execute(&app.core.pool).await.unwrap();
    conversation
}

#[tokio::test]
async fn the_count_is_that_of_the_live_memories_forgotten_now() {
    let app = App::start().await;
    let conversation = four_memories(&app).await;
    assert_eq!(list(&app, "alice", "").await.len(), 2);
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 4);
    assert_eq!(
        clear(&app, &conversation).await,
        json!({"success": true, "message": "Memories cleared successfully",
            "conversation_id": conversation, "memories_cleared": 2})
    );
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 0);
    assert_eq!(clear(&app, &conversation).await["memories_cleared"], 0);
}

#[tokio::test]
async fn what_was_cleared_is_gone_from_every_place_where_it_could_be_found() {
    let app = App::start().await;
    let conversation = four_memories(&app).await;
    let all = list(&app, "alice", "include_inactive=true").await;
    let then = all[3]["created_at"].as_str().unwrap().to_owned();
    let past = list(&app, "alice", &format!("as_of={then}")).await;
    assert_eq!(contents(&past), ["User lives in Lisbon"]);
    let prompts = app.llm.chat_requests().len();
    let listed = app.messages("alice", &conversation).await;
    assert!(json!(listed).to_string().contains("User lives in Lisbon"));
    clear(&app, &conversation).await;
    for memory in &all {
        let path = format!("/memories/{}", memory["id"].as_str().unwrap());
        for path in [&path, &format!("{path}/history")] {
            assert_eq!(app.get("alice", path).await.0, 404, "{path}");
        }
    }
    let past = list(
        &app,
        "alice",
        &format!("as_of={then}&include_inactive=true"),
    )
    .await;
    assert!(past.is_empty(), "{past:?}");
    let query = json!({"query": "greyhound Lisbon Porto walnut", "include_messages": true});
    let mut then_query = query.clone();
    then_query["as_of"] = json!(then);
    for query in [query, then_query] {
        let found = search(&app, "alice", query).await;
        assert!(found.is_empty(), "{found:?}");
    }
    let listed = app.messages("alice", &conversation).await;
    assert_eq!(listed.len(), 8, "the messages stay in the history");
    assert!(
        !json!(listed).to_string().contains("User "),
        "no reply tells any more what it recalled: {listed:?}"
    );
    app.chat("alice", "What do you know of me?", Some(&conversation))
        .await;
    for request in &app.llm.chat_requests()[prompts..] {
        for gone in ["Lisbon", "Porto", "greyhound", "walnut"] {
            assert!(!request.prompt().contains(gone), "{gone}");
        }
    }
}

#[tokio::test]
async fn a_memory_that_another_conversation_supports_stays_and_loses_the_source() {
    let app = App::start().await;
    let fact = "User has a greyhound called Biscuit";
    let first = tell(&app, "alice", "I adopted a greyhound called Biscuit", fact).await;
    let second = tell(&app, "alice", "My greyhound is called Biscuit", fact).await;
    let before = list(&app, "alice", "").await;
    let [memory] = before.as_slice() else {
        panic!("{before:?}")
    };
    assert_eq!(memory["sources"].as_array().unwrap().len(), 2);
    assert_eq!(clear(&app, &first).await["memories_cleared"], 0);

    let path = format!("/memories/{}", memory["id"].as_str().unwrap());
    let (_, after) = app.get("alice", &path).await;
    let sources = after["sources"].as_array().unwrap();
    assert_eq!(sources.len(), 1);
    assert_eq!(sources[0]["conversation_id"], second);
    assert!(after["version"].as_i64() > memory["version"].as_i64());
    let in_first = list(&app, "alice", &format!("conversation_id={first}")).await;
    assert!(in_first.is_empty());

    let (_, history) = app.get("alice", &format!("{path}/history")).await;
    let history = history["history"].as_array().unwrap();
    let events: Vec<&str> = history
        .iter()
        .map(|h| h["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        events,
        ["MemoryRecorded", "MemoryReinforced", "MemoriesCleared"]
    );
    assert_eq!(history[2]["version"], after["version"]);
    assert!(
        !json!(history).to_string().contains(&first),
        "not even the history names the conversation: {history:?}"
    );
    let then = memory["updated_at"].as_str().unwrap();
    let past = list(&app, "alice", &format!("as_of={then}")).await;
    assert_eq!(past[0]["sources"].as_array().unwrap().len(), 1);

    assert_eq!(clear(&app, &second).await["memories_cleared"], 1);
    assert_eq!(app.get("alice", &path).await.0, 404);
}

#[tokio::test]
async fn what_is_being_read_for_facts_while_it_is_cleared_does_not_come_back() {
    let app = App::start().await;
    let gate = Gate::new();
    let found = json!({ "memories": [statement("User has a greyhound")] }).to_string();
    app.llm.next_extraction(Behaviour::Gated {
        chunks: vec![found],
        gate: gate.clone(),
    });
    let chatted = app.chat("alice", "I have a greyhound", None).await;
    gate.reached().await;
    assert_eq!(
        clear(&app, &chatted.conversation_id).await["memories_cleared"],
        0
    );
    gate.open_all();
    app.settle().await;
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 0);
    assert_eq!(
        app.get("alice", "/health").await.1["workers"]["dead_jobs"],
        0
    );

    app.llm
        .next_extraction(answer(&[statement("User has a parrot")]));
    app.chat("alice", "I have a parrot", Some(&chatted.conversation_id))
        .await;
    assert_eq!(
        app.memories("alice").await,
        ["User has a parrot"],
        "it goes on"
    );
    let asked = app.llm.extraction_requests();
    assert!(!asked.last().unwrap().prompt().contains("greyhound"));
}

#[tokio::test]
async fn what_was_said_before_a_clear_is_not_read_when_its_reply_ends_later() {
    let app = App::start().await;
    let gate = Gate::new();
    app.llm.next(Behaviour::Gated {
        chunks: vec!["A fine greyhound.".into()],
        gate: gate.clone(),
    });
    let response = app.send("alice", "I have a greyhound", None).await;
    let conversation = response.headers()["x-conversation-id"].to_str().unwrap();
    let conversation = conversation.to_owned();
    gate.reached().await;
    clear(&app, &conversation).await;
    gate.open_all();
    response.text().await.unwrap();
    app.settle().await;
    assert!(app.llm.extraction_requests().is_empty());
    let query = json!({"query": "greyhound", "include_messages": true});
    assert_eq!(search(&app, "alice", query).await.len(), 0);
    assert_eq!(app.messages("alice", &conversation).await.len(), 2);
}

#[tokio::test]
async fn memories_of_other_conversations_and_those_written_down_stay() {
    let app = App::start().await;
    let cleared = tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    tell(&app, "alice", "I have a parrot", "User has a parrot").await;
    let tea = json!({"content": "User likes tea", "kind": "preference"});
    assert_eq!(app.post("alice", "/memories", &tea).await.0, 201);
    let path = format!("/conversations/{cleared}/messages");
    let (_, listed) = app.get("alice", &path).await;
    let source = json!([{"conversation_id": cleared, "message_id": listed["messages"][0]["id"]}]);
    let cited = json!({"content": "User walks a dog", "kind": "fact", "sources": source});
    assert_eq!(app.post("alice", "/memories", &cited).await.0, 201);
    assert_eq!(clear(&app, &cleared).await["memories_cleared"], 2);
    assert_eq!(
        app.memories("alice").await,
        ["User has a parrot", "User likes tea"]
    );
}

#[tokio::test]
async fn a_deleted_conversation_takes_its_memories_along() {
    let app = App::start().await;
    let fact = "User has a greyhound called Biscuit";
    let first = tell(&app, "alice", "I adopted a greyhound called Biscuit", fact).await;
    tell(&app, "alice", "My greyhound is called Biscuit", fact).await;
    app.llm
        .next_extraction(answer(&[statement("User has a parrot")]));
    app.chat("alice", "I have a parrot", Some(&first)).await;
    app.settle().await;
    let path = format!("/conversations/{first}");
    let deleted = app.call("alice", Method::DELETE, &path, &json!({})).await;
    assert_eq!(deleted.0, 204);
    let memories = list(&app, "alice", "include_inactive=true").await;
    assert_eq!(contents(&memories), [fact]);
    assert_eq!(memories[0]["sources"].as_array().unwrap().len(), 1);
}
