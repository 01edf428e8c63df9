//! Summaries that are made as messages leave the short-term buffer.

use companion_domain::events::Event;
use companion_domain::ids::{ConversationId, StreamId};
use companion_tests::app::App;
use companion_tests::eventually::eventually;
use companion_tests::llm::{Behaviour, Gate};
use serde_json::json;

/// A service that keeps four messages and asks its LLM for replies and summaries only.
async fn start() -> App {
    App::start_with(&[
        ("MEMORY_EXTRACTION_METHOD", "heuristic"),
        ("SHORT_TERM_MEMORY_SIZE", "4"),
    ])
    .await
}

/// Says things one after the other, each when all that follows from the one before is done.
async fn say(app: &App, range: std::ops::Range<usize>, conversation: Option<String>) -> String {
    let mut conversation = conversation;
    for n in range {
        let said = format!("Thought number {n}.");
        let chatted = app.chat("alice", &said, conversation.as_deref()).await;
        conversation = Some(chatted.conversation_id);
        app.settle().await;
    }
    conversation.unwrap()
}

async fn summaries(app: &App, conversation: &str) -> Vec<String> {
    let stream = StreamId::conversation(ConversationId(conversation.parse().unwrap()));
    let log = app.core.store.read_stream(&stream, 0).await.unwrap();
    log.into_iter()
        .filter_map(|recorded| match recorded.event {
            Event::ConversationSummarised(event) => Some(event.summary),
            _ => None,
        })
        .collect()
}

fn asked(app: &App) -> usize {
    app.llm.extraction_requests().len()
}

#[tokio::test]
async fn what_leaves_the_buffer_is_summarised_and_nothing_falls_between() {
    let app = start().await;
    app.llm.extraction("Alice had two thoughts.");
    let conversation = say(&app, 0..3, None).await;
    assert_eq!(asked(&app), 0, "nothing is worth a summary yet");
    for n in 0..2 {
        assert!(app.last_prompt().contains(&format!("Thought number {n}.")));
    }
    say(&app, 3..4, Some(conversation.clone())).await;
    assert_eq!(asked(&app), 1);
    let request = app.llm.extraction_requests()[0].prompt();
    assert!(request.contains("user: Thought number 0.") && request.contains("Thought number 1."));
    assert!(
        !request.contains("Thought number 2."),
        "that is still in the buffer"
    );
    let (_, health) = app.get("alice", "/health").await;
    assert_eq!(health["workers"]["dead_jobs"], 0);

    say(&app, 4..5, Some(conversation.clone())).await;
    let prompt = app.last_prompt();
    assert!(prompt.contains("Alice had two thoughts."));
    assert!(!prompt.contains("Thought number 1."));
    for n in 2..4 {
        assert!(prompt.contains(&format!("Thought number {n}.")), "{n}");
    }
    assert_eq!(asked(&app), 1, "not every turn");
    app.llm.extraction("Alice had four thoughts.");
    say(&app, 5..7, Some(conversation.clone())).await;
    assert_eq!(asked(&app), 2);
    let request = app.llm.extraction_requests()[1].prompt();
    assert!(
        request.contains("Alice had two thoughts."),
        "it goes on from the former one"
    );
    assert_eq!(
        summaries(&app, &conversation).await,
        ["Alice had two thoughts.", "Alice had four thoughts."]
    );
}

#[tokio::test]
async fn without_a_summary_the_messages_stay_and_the_next_turn_tries_again() {
    let app = start().await;
    app.llm.next_extraction(Behaviour::Status(500, "no".into()));
    app.llm.next_extraction(Behaviour::Text(" \n".into()));
    let conversation = say(&app, 0..5, None).await;
    assert_eq!(asked(&app), 2);
    assert!(summaries(&app, &conversation).await.is_empty());
    let (_, health) = app.get("alice", "/health").await;
    assert_eq!(health["workers"]["dead_jobs"], 0);
    app.llm.extraction("Alice had thoughts.");
    say(&app, 5..6, Some(conversation.clone())).await;
    for n in 0..5 {
        assert!(
            app.last_prompt().contains(&format!("Thought number {n}.")),
            "{n}"
        );
    }
    assert_eq!(
        summaries(&app, &conversation).await,
        ["Alice had thoughts."]
    );
    let request = app.llm.extraction_requests()[2].prompt();
    assert!(request.contains("Thought number 0."));
}

#[tokio::test]
async fn a_reset_wins_over_a_summary_under_way() {
    let app = start().await;
    let gate = Gate::new();
    app.llm.next_extraction(Behaviour::Gated {
        chunks: vec!["Alice had secret thoughts.".to_owned()],
        gate: gate.clone(),
    });
    let conversation = say(&app, 0..3, None).await;
    app.chat("alice", "Thought number 3.", Some(&conversation))
        .await;
    gate.reached().await;
    let body = json!({ "conversation_id": conversation });
    assert_eq!(app.post("alice", "/conversation/reset", &body).await.0, 200);
    gate.open_all();
    app.settle().await;
    assert!(summaries(&app, &conversation).await.is_empty());
    app.chat("alice", "Hello", Some(&conversation)).await;
    let prompt = app.last_prompt();
    assert!(!prompt.contains("secret thoughts") && !prompt.contains("Thought number"));
}

#[tokio::test]
async fn a_summary_that_is_cut_off_is_asked_for_again_and_ends_with_a_sentence() {
    let app = start().await;
    app.llm
        .next_extraction(Behaviour::Length("Alice has a thought. She".into()));
    app.llm
        .next_extraction(Behaviour::Length("Alice thinks. And she".into()));
    let conversation = say(&app, 0..4, None).await;
    assert_eq!(asked(&app), 2);
    assert!(
        app.llm.extraction_requests()[1]
            .prompt()
            .contains("at most 100 words")
    );
    assert_eq!(summaries(&app, &conversation).await, ["Alice thinks."]);
}

#[tokio::test]
async fn a_long_stretch_is_summarised_in_passes_that_leave_nothing_out() {
    let app = start().await;
    app.llm.extraction("Much was said.");
    let message = |n: usize| json!({"role": "user", "content": format!("Report {n}: {}", "word ".repeat(200))});
    let messages: Vec<_> = (0..40).map(message).collect();
    let import = json!({"messages": messages, "extract": false});
    let (status, imported) = app.post("alice", "/conversations/import", &import).await;
    assert_eq!(status, 201, "{imported}");
    app.settle().await;
    assert_eq!(asked(&app), 0, "nobody goes on with it");
    let conversation = imported["conversation_id"].as_str().unwrap().to_owned();
    say(&app, 0..1, Some(conversation.clone())).await;
    let requests: Vec<String> = app
        .llm
        .extraction_requests()
        .iter()
        .map(|r| r.prompt())
        .collect();
    assert!(requests.len() > 2, "{}", requests.len());
    assert_eq!(summaries(&app, &conversation).await.len(), requests.len());
    for n in 0..37 {
        let line = format!("user: Report {n}: word");
        let asked = requests.iter().filter(|request| request.contains(&line));
        assert_eq!(asked.count(), 1, "{n}");
    }
}

#[tokio::test]
async fn extractions_and_summaries_ask_for_no_more_at_once_than_is_allowed() {
    let app = App::start_with(&[("SHORT_TERM_MEMORY_SIZE", "1")]).await;
    let gate = Gate::new();
    app.llm.next_extraction(Behaviour::Gated {
        chunks: vec![r#"{"memories":[]}"#.to_owned()],
        gate: gate.clone(),
    });
    app.chat("alice", "I have a greyhound", None).await;
    gate.reached().await;
    // Both have a worker by now, and one of them is at the gate.
    let taken = "SELECT count(DISTINCT job_type) FROM apalis.jobs
                 WHERE job_type IN ('extract', 'summarise') AND lock_by IS NOT NULL";
    eventually(|| async {
        let taken: i64 = sqlx::query_scalar(taken)
            .fetch_one(&app.core.pool)
            .await
            .unwrap();
        (taken == 2)
            .then_some(())
            .ok_or(format!("{taken} are taken"))
    })
    .await;
    for _ in 0..5 {
        app.get("alice", "/health").await;
        assert_eq!(asked(&app), 1);
    }
    gate.open_all();
    app.settle().await;
    assert!(asked(&app) >= 2);
}
