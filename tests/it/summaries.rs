//! A conversation in short.

use companion_domain::events::Event;
use companion_domain::ids::{ConversationId, StreamId};
use companion_tests::app::App;
use companion_tests::eventually::eventually;
use companion_tests::llm::{Behaviour, Gate};
use reqwest::Method;
use serde_json::{Value, json};

use crate::steps::another;

/// A service whose LLM is asked for replies and summaries only.
async fn start() -> App {
    App::start_with(&[("MEMORY_EXTRACTION_METHOD", "heuristic")]).await
}

async fn summarise(app: &App, conversation: &str) -> (u16, Value) {
    let path = format!("/conversations/{conversation}/summary");
    app.post("alice", &path, &json!({})).await
}

/// The summaries in the log.
async fn summaries(app: &App, conversation: &str) -> Vec<String> {
    let id = ConversationId(conversation.parse().unwrap());
    let stream = StreamId::conversation(id);
    let log = app.core.store.read_stream(&stream, 0).await.unwrap();
    log.into_iter()
        .filter_map(|recorded| match recorded.event {
            Event::ConversationSummarised(event) => Some(event.summary),
            _ => None,
        })
        .collect()
}

/// The next summary waits at a gate.
fn gated(app: &App, summary: &str) -> Gate {
    let gate = Gate::new();
    app.llm.next_extraction(Behaviour::Gated {
        chunks: vec![summary.to_owned()],
        gate: gate.clone(),
    });
    gate
}

#[tokio::test]
async fn a_summary_covers_all_that_was_said_and_is_kept() {
    let app = start().await;
    let mut conversation = None;
    for n in 0..8 {
        let said = format!("Thought number {n}.");
        let chatted = app.chat("alice", &said, conversation.as_deref()).await;
        conversation = Some(chatted.conversation_id);
    }
    let conversation = conversation.unwrap();
    app.llm.extraction(" Alice has thoughts.\0 ");
    let (status, first) = summarise(&app, &conversation).await;
    assert_eq!(status, 200, "{first}");
    let last = app.messages("alice", &conversation).await[15]["id"].clone();
    assert_eq!(
        first,
        json!({"summary": "Alice has thoughts.", "through_message_id": last, "model": "local-model", "cached": false})
    );
    let asked = app.llm.extraction_requests();
    for n in 0..8 {
        let said = format!("user: Thought number {n}.");
        assert!(
            asked[0].prompt().contains(&said),
            "more than the buffer has"
        );
    }

    let mut again = first.clone();
    again["cached"] = json!(true);
    assert_eq!(summarise(&app, &conversation).await, (200, again));
    assert_eq!(app.llm.extraction_requests().len(), 1, "nobody is asked");

    app.chat("alice", "One more.", Some(&conversation)).await;
    assert!(app.last_prompt().contains("Alice has thoughts."));
    app.llm.extraction("Alice has one more.");
    let (_, next) = summarise(&app, &conversation).await;
    assert_eq!(
        (&next["summary"], &next["cached"]),
        (&json!("Alice has one more."), &json!(false))
    );
    let asked = app.llm.extraction_requests()[1].prompt();
    assert!(asked.contains("Alice has thoughts.") && asked.contains("user: One more."));
    assert!(
        !asked.contains("Thought number"),
        "it goes on from the former summary"
    );
}

#[tokio::test]
async fn the_log_says_what_a_summary_was_made_with() {
    let app = start().await;
    let conversation = app.chat("alice", "Hello", None).await.conversation_id;
    app.llm.extraction("A greeting.");
    summarise(&app, &conversation).await;
    let stream = StreamId::conversation(ConversationId(conversation.parse().unwrap()));
    let log = app.core.store.read_stream(&stream, 0).await.unwrap();
    let metadata = &log.last().unwrap().metadata;
    assert_eq!(metadata.prompt_id.as_deref(), Some("summary-2"));
    assert_eq!(metadata.model.as_deref(), Some("local-model"));
    assert!(metadata.prompt_hash.is_some());
    let usage = metadata.usage.as_ref().unwrap();
    assert!(usage["total_tokens"].as_u64().is_some(), "{usage}");
}

#[tokio::test]
async fn an_empty_conversation_has_no_summary() {
    let app = start().await;
    let conversation = app.chat("alice", "Hello", None).await.conversation_id;
    app.llm.extraction("A greeting.");
    assert_eq!(summarise(&app, &conversation).await.0, 200);
    let body = json!({ "conversation_id": conversation });
    assert_eq!(app.post("alice", "/conversation/reset", &body).await.0, 200);
    let (status, problem) = summarise(&app, &conversation).await;
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("nothing_to_summarise"))
    );
    assert_eq!(app.llm.extraction_requests().len(), 1);
}

#[tokio::test]
async fn a_reset_wins_over_a_summary_that_is_being_made() {
    let app = start().await;
    let conversation = app
        .chat("alice", "A secret plan", None)
        .await
        .conversation_id;
    let gate = gated(&app, "Alice has a secret plan.");
    let body = json!({ "conversation_id": conversation });
    let ((status, problem), ()) = tokio::join!(summarise(&app, &conversation), async {
        gate.reached().await;
        let (status, _) = app.post("alice", "/conversation/reset", &body).await;
        assert_eq!(status, 200);
        gate.open_all();
    });
    assert_eq!(
        (status, &problem["code"]),
        (409, &json!("nothing_to_summarise"))
    );
    assert!(summaries(&app, &conversation).await.is_empty());
    app.chat("alice", "Hello", Some(&conversation)).await;
    assert!(!app.last_prompt().contains("secret plan"));
}

#[tokio::test]
async fn what_is_said_meanwhile_is_left_to_the_next_summary() {
    let app = start().await;
    let conversation = app.chat("alice", "First", None).await.conversation_id;
    let through = app.messages("alice", &conversation).await[1]["id"].clone();
    let gate = gated(&app, "The first.");
    let ((status, first), ()) = tokio::join!(summarise(&app, &conversation), async {
        gate.reached().await;
        app.chat("alice", "Second", Some(&conversation)).await;
        gate.open_all();
    });
    assert_eq!(
        (status, &first["through_message_id"]),
        (200, &through),
        "{first}"
    );
    app.llm.extraction("Both.");
    let (_, next) = summarise(&app, &conversation).await;
    assert_eq!(next["cached"], false);
    let asked = app.llm.extraction_requests()[1].prompt();
    assert!(asked.contains("user: Second") && !asked.contains("user: First"));
    assert_eq!(
        summaries(&app, &conversation).await,
        ["The first.", "Both."]
    );
}

#[tokio::test]
async fn who_asks_twice_for_a_summary_waits_and_the_llm_is_asked_once() {
    let app = start().await;
    let conversation = app.chat("alice", "First", None).await.conversation_id;
    let gate = gated(&app, "The only one.");
    let (first, second, ()) = tokio::join!(
        summarise(&app, &conversation),
        summarise(&app, &conversation),
        async {
            gate.reached().await;
            eventually(|| async {
                let response = app.request(Method::GET, "/metrics").send().await.unwrap();
                let metrics = response.text().await.unwrap();
                // Both, and the one that asks.
                match metrics.contains("http_requests_in_progress 3") {
                    true => Ok(()),
                    false => Err(metrics),
                }
            })
            .await;
            app.settle().await;
            gate.open_all();
        }
    );
    let mut cached = [first, second].map(|(status, answer)| {
        assert_eq!((status, &answer["summary"]), (200, &json!("The only one.")));
        answer["cached"].as_bool()
    });
    cached.sort_unstable();
    assert_eq!(cached, [Some(false), Some(true)]);
    assert_eq!(app.llm.extraction_requests().len(), 1);
}

#[tokio::test]
async fn of_two_summaries_at_once_in_two_processes_one_is_kept() {
    let app = start().await;
    let other = another(&app).await;
    let conversation = app.chat("alice", "First", None).await.conversation_id;
    let gate = gated(&app, "The slow one.");
    let ((status, slow), ()) = tokio::join!(summarise(&app, &conversation), async {
        gate.reached().await;
        app.llm.extraction("The quick one.");
        let (_, quick) = summarise(&other, &conversation).await;
        assert_eq!(quick["cached"], false);
        gate.open_all();
    });
    assert_eq!(
        (status, &slow["summary"], &slow["cached"]),
        (200, &json!("The quick one."), &json!(true))
    );
    assert_eq!(summaries(&app, &conversation).await, ["The quick one."]);
}

#[tokio::test]
async fn an_llm_that_fails_is_told_and_nothing_is_kept() {
    let app = App::start_with(&[
        ("MEMORY_EXTRACTION_METHOD", "heuristic"),
        ("LLM_TIMEOUT_SECONDS", "1"),
    ])
    .await;
    let conversation = app.chat("alice", "Hello", None).await.conversation_id;
    for (behaviour, status, code) in [
        (Behaviour::Status(500, "no".into()), 502, "llm_error"),
        (Behaviour::Garbage("what?".into()), 502, "llm_invalid"),
        (Behaviour::Empty, 502, "llm_invalid"),
        (Behaviour::Text(" \n".into()), 502, "llm_invalid"),
        (Behaviour::HangAfter(vec![]), 504, "llm_timeout"),
    ] {
        app.llm.next_extraction(behaviour);
        let (answered, problem) = summarise(&app, &conversation).await;
        assert_eq!((answered, &problem["code"]), (status, &json!(code)));
        assert_eq!(problem["conversation_id"], conversation);
    }
    app.llm.stop().await;
    let (status, problem) = summarise(&app, &conversation).await;
    assert_eq!((status, &problem["code"]), (502, &json!("llm_unavailable")));
    assert!(summaries(&app, &conversation).await.is_empty());
}
