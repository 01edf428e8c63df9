//! Replies that are stopped, and those that are only left.

use companion_tests::app::{App, Chatted, follow, status_and_json};
use companion_tests::eventually::{eventually, within};
use companion_tests::llm::Gate;
use companion_tests::sse::SseReader;
use reqwest::Method;
use serde_json::{Value, json};

use crate::steps::{
    GREETING, another, asked, cancelling, expect, followed, gated, header,
    hears_of_cancelled_replies, message, refused, told,
};

/// A reply of three parts that has come so far.
struct Running {
    gate: Gate,
    stream: SseReader,
    reply: String,
    conversation: String,
}

const PARTS: [&str; 3] = ["Grüß ", "dich, ", "Alice"];

async fn run_until(app: &App, parts: usize) -> Running {
    let gate = gated(app, &PARTS);
    let response = app.send("alice", "hello", None).await;
    let reply = header(&response, "x-reply-id").to_owned();
    let conversation = header(&response, "x-conversation-id").to_owned();
    let mut stream = follow(response);
    gate.reached().await;
    for part in &PARTS[..parts] {
        gate.open_one();
        assert_eq!(
            within("a part", stream.next()).await.unwrap().chunk(),
            *part
        );
    }
    Running {
        gate,
        stream,
        reply,
        conversation,
    }
}

/// Cancels by one process what another makes, and looks at all that follows from it.
async fn assert_cancels(app: &App, by: &App, parts: usize) {
    let mut running = run_until(app, parts).await;
    let (reply, conversation) = (&running.reply, &running.conversation);
    let partial = PARTS[..parts].concat();
    let answer = within("the answer", expect(cancelling(by, "alice", reply), 200)).await;
    let expected = json!({"reply_id": reply, "status": "cancelled", "content": partial});
    assert_eq!(answer, expected);
    let last = within("the last event", running.stream.next())
        .await
        .unwrap();
    let expected =
        json!({"chunk": "", "done": true, "conversation_id": conversation, "cancelled": true});
    assert_eq!(last.data, expected);
    assert_eq!(last.id, Some(format!("{reply}:done")));
    assert_eq!(within("the end", running.stream.next()).await, None);
    within("the LLM to be left alone", running.gate.client_gone()).await;
    assert_eq!(app.llm.unfinished(), 0);
    refused(cancelling(by, "alice", reply), 409, "reply_finished").await;
    refused(cancelling(app, "alice", reply), 409, "reply_finished").await;
    let messages = app.messages("alice", conversation).await;
    assert_eq!(
        told(&messages),
        [
            ("user", "hello", ""),
            ("assistant", partial.as_str(), "cancelled")
        ]
    );
    let next = app.chat("alice", "go on", Some(conversation)).await;
    assert_eq!(next.text, GREETING);
    let said: Vec<String> = asked(app).into_iter().map(|(_, text)| text).collect();
    let mut expected = vec!["hello", partial.as_str(), "go on"];
    expected.retain(|text| !text.is_empty());
    assert_eq!(said, expected);
}

#[tokio::test]
async fn a_reply_is_cancelled_at_any_moment_and_its_partial_text_is_kept() {
    let app = App::start().await;
    for parts in 0..=2 {
        assert_cancels(&app, &app, parts).await;
    }
}

#[tokio::test]
async fn a_reply_is_cancelled_by_a_process_that_does_not_make_it() {
    let app = App::start().await;
    let another = another(&app).await;
    for parts in 0..=2 {
        assert_cancels(&app, &another, parts).await;
    }
}

#[tokio::test]
async fn a_reply_that_has_ended_can_not_be_cancelled() {
    let app = App::start().await;
    let another = another(&app).await;
    let chatted = app.chat("alice", "hello", None).await;
    for app in [&app, &another] {
        refused(
            cancelling(app, "alice", &chatted.reply_id),
            409,
            "reply_finished",
        )
        .await;
    }
    app.llm.next(companion_tests::llm::Behaviour::Empty);
    let failed = app.chat("alice", "hello", None).await;
    refused(
        cancelling(&app, "alice", &failed.reply_id),
        409,
        "reply_finished",
    )
    .await;
    let messages = app.messages("alice", &chatted.conversation_id).await;
    assert_eq!(told(&messages)[1], ("assistant", GREETING, "completed"));
}

#[tokio::test]
async fn of_a_cancel_and_the_end_of_a_reply_one_wins_and_all_are_told_the_same() {
    let app = App::start().await;
    for _ in 0..10 {
        let gate = gated(&app, &["whole"]);
        let response = app.send("alice", "hello", None).await;
        let reply = header(&response, "x-reply-id").to_owned();
        gate.reached().await;
        gate.open_all();
        let cancel = cancelling(&app, "alice", &reply).send();
        let (cancelled, chatted) = tokio::join!(cancel, Chatted::read(response));
        let (status, body) = status_and_json(cancelled.unwrap()).await;
        let messages = app.messages("alice", &chatted.conversation_id).await;
        let (_, content, stored) = told(&messages)[1];
        match status {
            200 => {
                assert_eq!(
                    (stored, chatted.last()["cancelled"].as_bool()),
                    ("cancelled", Some(true))
                );
                assert_eq!(
                    (content, content),
                    (chatted.text.as_str(), body["content"].as_str().unwrap())
                );
            }
            409 => {
                assert_eq!((stored, content), ("completed", "whole"));
                assert_eq!(chatted.last()["cancelled"], Value::Null);
            }
            other => panic!("{other}: {body}"),
        }
    }
}

#[tokio::test]
async fn of_many_cancels_at_once_all_tell_the_same() {
    let app = App::start().await;
    let another = another(&app).await;
    let running = run_until(&app, 1).await;
    let cancels = (0..8).map(|n| {
        let by = if n % 2 == 0 { &app } else { &another };
        cancelling(by, "alice", &running.reply).send()
    });
    let mut cancelled = 0;
    for answer in within("the answers", futures_util::future::join_all(cancels)).await {
        let (status, body) = status_and_json(answer.unwrap()).await;
        if status == 200 {
            cancelled += 1;
            assert_eq!(body["content"], PARTS[0]);
        } else {
            assert_eq!((status, &body["code"]), (409, &json!("reply_finished")));
        }
    }
    assert!(cancelled >= 1);
    let messages = app.messages("alice", &running.conversation).await;
    assert_eq!(told(&messages)[1], ("assistant", PARTS[0], "cancelled"));
}

#[tokio::test]
async fn who_waits_for_the_whole_reply_is_told_that_it_was_cancelled() {
    let app = App::start().await;
    hears_of_cancelled_replies(&app, 1).await;
    let gate = gated(&app, &PARTS);
    let request = app
        .request_by("alice", Method::POST, "/chat")
        .json(&message("hello"));
    let asking = tokio::spawn(request.header("Accept", "application/json").send());
    gate.reached().await;
    gate.open_one();
    let conversation = eventually(|| async {
        let (_, list) = app.get("alice", "/conversations").await;
        let id = list["conversations"][0]["id"].as_str();
        id.map(str::to_owned).ok_or_else(|| list.to_string())
    })
    .await;
    let (_, list) = app
        .get("alice", &format!("/conversations/{conversation}/messages"))
        .await;
    let reply = list["messages"][1]["id"].as_str().unwrap().to_owned();
    // The first part has come when a follower sees it.
    let stream = crate::steps::following(&app, "alice", &reply, None)
        .send()
        .await
        .unwrap();
    within("the first part", follow(stream).next())
        .await
        .unwrap();
    expect(cancelling(&app, "alice", &reply), 200).await;
    let response = within("the answer", asking).await.unwrap().unwrap();
    assert_eq!(header(&response, "x-reply-id"), reply);
    let (status, body) = status_and_json(response).await;
    let expected =
        json!({"response": PARTS[0], "conversation_id": conversation, "cancelled": true});
    assert_eq!((status, body), (200, expected));
}

#[tokio::test]
async fn a_reply_is_cancelled_though_its_client_has_left() {
    let app = App::start().await;
    let Running {
        gate,
        stream,
        reply,
        ..
    } = run_until(&app, 1).await;
    drop(stream);
    let answer = expect(cancelling(&app, "alice", &reply), 200).await;
    assert_eq!(answer["content"], PARTS[0]);
    within("the LLM to be left alone", gate.client_gone()).await;
    let events = followed(&app, "alice", &reply, None).await;
    assert_eq!(events.last().unwrap().data["cancelled"], true);
}

#[tokio::test]
async fn a_client_who_leaves_at_any_moment_cancels_nothing() {
    let app = App::start().await;
    for parts in 0..=2 {
        let Running {
            gate,
            stream,
            reply,
            conversation,
        } = run_until(&app, parts).await;
        drop(stream);
        gate.open_all();
        let messages = app.messages("alice", &conversation).await;
        assert_eq!(
            told(&messages)[1],
            ("assistant", PARTS.concat().as_str(), "completed")
        );
        let events = followed(&app, "alice", &reply, None).await;
        assert_eq!(companion_tests::sse::text(&events), PARTS.concat());
    }
}

#[tokio::test]
async fn a_reply_of_a_process_that_crashed_is_cancelled_without_it() {
    let app = App::start().await;
    let conversation = app.chat("alice", "hello", None).await.conversation_id;
    app.settle().await;
    let (variables, llm) = app.stop().await;
    // Without background work nobody ends it before.
    let app = App::start_api_only(variables, llm).await;
    let reply = crate::steps::crashed_reply(&app, "alice", &conversation)
        .await
        .to_string();
    // It is not projected, and so not yet known here.
    let (variables, llm) = app.stop().await;
    let app = App::start_again(variables, llm).await;
    eventually(|| async {
        let (status, body) =
            status_and_json(cancelling(&app, "alice", &reply).send().await.unwrap()).await;
        match (status, body["code"].as_str()) {
            (200, _) | (409, Some("reply_finished")) => Ok(()),
            _ => Err(body.to_string()),
        }
    })
    .await;
    assert_eq!(
        app.chat("alice", "again", Some(&conversation)).await.text,
        GREETING
    );
}

#[tokio::test]
async fn who_is_erased_gets_no_further_word_from_any_process() {
    let app = App::start().await;
    let another = another(&app).await;
    let mut running = run_until(&app, 1).await;
    expect(
        another.request_by("alice", Method::DELETE, "/users/me"),
        204,
    )
    .await;
    within("the LLM to be left alone", running.gate.client_gone()).await;
    let last = within("the last event", running.stream.next())
        .await
        .unwrap();
    assert!(last.is_done(), "{last:?}");
    let (status, list) = app.get("alice", "/conversations").await;
    assert_eq!((status, &list["total"]), (200, &json!(0)));
    refused(cancelling(&app, "alice", &running.reply), 404, "not_found").await;
}
