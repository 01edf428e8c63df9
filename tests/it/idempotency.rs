//! A message that is sent again with the same key.

use companion_tests::app::{App, Chatted, follow, status_and_json, variables};
use companion_tests::eventually::within;
use companion_tests::llm::{Behaviour, Gate, ScriptedLlm};
use companion_tests::process::Api;
use futures_util::future::join_all;
use reqwest::header::HeaderValue;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::steps::{
    GREETING, another, asked, cancelling, chunks, expect, gated, header, keyed, message, told,
};

const KEY: &str = "order-7/a";

async fn send(app: &App, body: &Value) -> Response {
    let response = keyed(app, "alice", KEY, body).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response
}

async fn chat(app: &App, body: &Value) -> Chatted {
    within("the reply", Chatted::read(send(app, body).await)).await
}

#[tokio::test]
async fn the_same_key_leads_to_the_same_reply_and_the_llm_is_asked_once() {
    let app = App::start().await;
    let another = another(&app).await;
    let first = chat(&app, &message("hello")).await;
    for app in [&app, &another, &app] {
        let again = chat(app, &message("hello")).await;
        assert_eq!(again.reply_id, first.reply_id);
        assert_eq!(again.conversation_id, first.conversation_id);
        assert_eq!(again.text, first.text);
        assert_eq!(again.last(), first.last());
    }
    let request = keyed(&app, "alice", KEY, &message("hello")).header("Accept", "application/json");
    let whole = expect(request, 200).await;
    assert_eq!(
        whole,
        json!({"response": GREETING, "conversation_id": first.conversation_id})
    );
    assert_eq!(app.llm.chat_requests().len(), 1);
    let messages = app.messages("alice", &first.conversation_id).await;
    assert_eq!(
        told(&messages),
        [("user", "hello", ""), ("assistant", GREETING, "completed")]
    );
    let (variables, llm) = app.stop().await;
    drop(another);
    let app = App::start_again(variables, llm).await;
    assert_eq!(chat(&app, &message("hello")).await.reply_id, first.reply_id);
    app.settle().await;
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 1);
}

#[tokio::test]
async fn the_same_key_with_another_body_is_422_and_nothing_happens() {
    let app = App::start().await;
    let conversation = app.chat("alice", "begin", None).await.conversation_id;
    let first =
        json!({"message": "hello", "conversation_id": conversation, "timezone": "Europe/Lisbon"});
    let reply = chat(&app, &first).await.reply_id;
    for body in [
        json!({"message": "hello!", "conversation_id": conversation, "timezone": "Europe/Lisbon"}),
        json!({"message": "hello", "timezone": "Europe/Lisbon"}),
        json!({"message": "hello", "conversation_id": conversation}),
        json!({"message": "hello", "conversation_id": conversation, "timezone": "Europe/Madrid"}),
        json!({"message": "hello", "conversation_id": conversation, "timezone": "Europe/Lisbon", "system_prompt": "x"}),
        json!({"message": "hello", "conversation_id": uuid::Uuid::now_v7(), "timezone": "Europe/Lisbon"}),
    ] {
        let problem = expect(keyed(&app, "alice", KEY, &body), 422).await;
        assert_eq!(problem["errors"][0]["field"], "Idempotency-Key", "{body}");
    }
    assert_eq!(app.messages("alice", &conversation).await.len(), 4);
    // Absent and null are one, and the order of keys is none.
    let same = r#"{"timezone":"Europe/Lisbon","system_prompt":null,"conversation_id":"ID","message":"hello"}"#;
    let same: Value = serde_json::from_str(&same.replace("ID", &conversation)).unwrap();
    assert_eq!(chat(&app, &same).await.reply_id, reply);
}

#[tokio::test]
async fn of_many_at_once_with_one_key_one_is_taken_and_all_follow_it() {
    let app = App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000")]).await;
    let another = another(&app).await;
    let begun = app.chat("alice", "begin", None).await.conversation_id;
    for (key, body) in [
        ("new", message("hello")),
        ("old", json!({"message": "hello", "conversation_id": begun})),
    ] {
        let asked_before = app.llm.chat_requests().len();
        let gate = gated(&app, &["All ", "of it"]);
        let sends = (0..20).map(|n| {
            let app = if n % 4 == 3 { &another } else { &app };
            keyed(app, "alice", key, &body).send()
        });
        let responses = within("the headers", join_all(sends)).await;
        gate.open_all();
        let mut conversations = Vec::new();
        for response in responses {
            let response = response.unwrap();
            assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
            let chatted = within("the reply", Chatted::read(response)).await;
            assert_eq!(chatted.text, "All of it", "{chatted:?}");
            assert_eq!(chatted.last()["cancelled"], Value::Null);
            conversations.push((chatted.conversation_id, chatted.reply_id));
        }
        conversations.dedup();
        let [(conversation, _)] = conversations.as_slice() else {
            panic!("{conversations:?}")
        };
        assert_eq!(app.llm.chat_requests().len(), asked_before + 1);
        let messages = app.messages("alice", conversation).await;
        let said = told(&messages)
            .into_iter()
            .filter(|said| said.1 == "hello")
            .count();
        assert_eq!(said, 1);
    }
    app.settle().await;
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 2);
}

#[tokio::test]
async fn who_comes_while_the_reply_runs_gets_all_of_it() {
    let app = App::start().await;
    let another = another(&app).await;
    let gate = gated(&app, &["Grüß ", "dich"]);
    let first = send(&app, &message("hello")).await;
    let reply = header(&first, "x-reply-id").to_owned();
    let mut stream = follow(first);
    gate.open_one();
    within("the first part", stream.next()).await.unwrap();
    let (here, elsewhere) = (
        send(&app, &message("hello")).await,
        send(&another, &message("hello")).await,
    );
    gate.open_all();
    for response in [here, elsewhere] {
        let chatted = within("the reply", Chatted::read(response)).await;
        assert_eq!(
            (chatted.text.as_str(), &chatted.reply_id),
            ("Grüß dich", &reply)
        );
    }
    assert_eq!(app.llm.chat_requests().len(), 1);
}

#[tokio::test]
async fn after_a_failure_the_same_message_is_answered_anew() {
    let app = App::start().await;
    let conversation = app.chat("alice", "begin", None).await.conversation_id;
    let body = json!({"message": "hello", "conversation_id": conversation});
    app.llm.next(Behaviour::CutAfter(chunks(&["Half of"])));
    let failed = chat(&app, &body).await;
    assert_eq!(
        failed.events.last().unwrap().error_code(),
        Some("llm_interrupted")
    );
    app.llm.next(Behaviour::Status(500, "boom".to_owned()));
    let failed_again = chat(&app, &body).await;
    assert_eq!(
        failed_again.events.last().unwrap().error_code(),
        Some("llm_error")
    );
    assert_ne!(failed_again.reply_id, failed.reply_id);
    let answered = chat(&app, &body).await;
    assert_eq!(answered.text, GREETING);
    assert!(![&failed.reply_id, &failed_again.reply_id].contains(&&answered.reply_id));
    let said: Vec<String> = asked(&app).into_iter().map(|(_, text)| text).collect();
    assert_eq!(
        said,
        ["begin", GREETING, "hello"],
        "what was said in vain is not shown"
    );
    assert_eq!(chat(&app, &body).await.reply_id, answered.reply_id);
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(
        told(&messages)[2..],
        [
            ("user", "hello", ""),
            ("assistant", "Half of", "failed"),
            ("assistant", "", "failed"),
            ("assistant", GREETING, "completed"),
        ]
    );
    app.chat("alice", "next", Some(&conversation)).await;
    let said: Vec<String> = asked(&app).into_iter().map(|(_, text)| text).collect();
    assert_eq!(said, ["begin", GREETING, "hello", GREETING, "next"]);
}

#[tokio::test]
async fn what_was_said_in_vain_is_not_shown_however_short_the_memory() {
    let app = App::start_with(&[("SHORT_TERM_MEMORY_SIZE", "1")]).await;
    app.llm.next(Behaviour::CutAfter(chunks(&["Half of"])));
    chat(&app, &message("hello")).await;
    assert_eq!(chat(&app, &message("hello")).await.text, GREETING);
    assert_eq!(asked(&app), [("user".to_owned(), "hello".to_owned())]);
}

#[tokio::test]
async fn of_many_tries_at_once_after_a_failure_one_is_made() {
    let app = App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000")]).await;
    app.llm.next(Behaviour::Empty);
    let failed = chat(&app, &message("hello")).await;
    let gate = gated(&app, &["better"]);
    let body = message("hello");
    let sends = (0..10).map(|_| keyed(&app, "alice", KEY, &body).send());
    let responses = within("the headers", join_all(sends)).await;
    gate.open_all();
    for response in responses {
        let response = response.unwrap();
        assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
        assert_eq!(
            within("the reply", Chatted::read(response)).await.text,
            "better"
        );
    }
    assert_eq!(app.llm.chat_requests().len(), 2);
    let messages = app.messages("alice", &failed.conversation_id).await;
    let states: Vec<&str> = told(&messages).into_iter().map(|said| said.2).collect();
    assert_eq!(states, ["", "failed", "completed"]);
}

#[tokio::test]
async fn after_a_failure_and_another_message_the_failure_is_told_again() {
    let app = App::start().await;
    app.llm.next(Behaviour::CutAfter(chunks(&["Half of"])));
    let failed = chat(&app, &message("hello")).await;
    app.chat("alice", "never mind", Some(&failed.conversation_id))
        .await;
    let again = chat(&app, &message("hello")).await;
    assert_eq!(again.reply_id, failed.reply_id);
    assert_eq!(
        (again.text.as_str(), again.last()),
        ("Half of", failed.last())
    );
    let request = keyed(&app, "alice", KEY, &message("hello")).header("Accept", "application/json");
    let (status, problem) = status_and_json(request.send().await.unwrap()).await;
    assert_eq!((status, &problem["code"]), (502, &json!("llm_interrupted")));
    assert_eq!(problem["reply_id"], failed.reply_id);
    assert_eq!(app.llm.chat_requests().len(), 2);
}

#[tokio::test]
async fn a_failure_is_told_again_while_another_message_is_being_answered() {
    let app = App::start().await;
    app.llm.next(Behaviour::CutAfter(chunks(&["Half of"])));
    let failed = chat(&app, &message("hello")).await;
    let gate = gated(&app, &["all ", "right"]);
    let running = app
        .send("alice", "never mind", Some(&failed.conversation_id))
        .await;
    let again = chat(&app, &message("hello")).await;
    assert_eq!(again.reply_id, failed.reply_id);
    assert_eq!(again.last(), failed.last());
    gate.open_all();
    let running = within("the reply", Chatted::read(running)).await;
    assert_eq!(running.text, "all right");
}

#[tokio::test]
async fn a_cancelled_reply_stays_cancelled() {
    let app = App::start().await;
    let gate = gated(&app, &["Half ", "of it"]);
    let mut stream = follow(send(&app, &message("hello")).await);
    gate.open_one();
    let id = within("a part", stream.next()).await.unwrap().id.unwrap();
    let reply = id.split_once(':').unwrap().0;
    expect(cancelling(&app, "alice", reply), 200).await;
    let again = chat(&app, &message("hello")).await;
    assert_eq!(again.reply_id, reply);
    assert_eq!(
        (again.text.as_str(), &again.last()["cancelled"]),
        ("Half ", &json!(true))
    );
    assert_eq!(app.llm.chat_requests().len(), 1);
}

#[tokio::test]
async fn after_a_crash_the_same_message_is_answered_anew() {
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    let api = Api::start(&variables).await;
    let gate = Gate::new();
    llm.next(Behaviour::Gated {
        chunks: chunks(&["never"]),
        gate: gate.clone(),
    });
    let request = api
        .request(Method::POST, "/chat")
        .header("X-User-Id", "alice");
    let request = request
        .header("Idempotency-Key", KEY)
        .json(&message("hello"));
    let response = request.send().await.unwrap();
    let reply = header(&response, "x-reply-id").to_owned();
    gate.reached().await;
    api.process.kill().await;
    let app = App::start_again(variables, llm).await;
    sqlx::query("UPDATE processes SET seen_at = seen_at - interval '1 hour'")
        .execute(&app.core.pool)
        .await
        .unwrap();
    let again = chat(&app, &message("hello")).await;
    assert_eq!(again.text, GREETING);
    assert_ne!(again.reply_id, reply);
    let messages = app.messages("alice", &again.conversation_id).await;
    assert_eq!(
        told(&messages),
        [
            ("user", "hello", ""),
            ("assistant", "", "interrupted"),
            ("assistant", GREETING, "completed")
        ]
    );
}

#[tokio::test]
async fn the_key_of_another_user_is_another_key() {
    let app = App::start().await;
    let hers = chat(&app, &message("hello")).await;
    let request = keyed(&app, "bob", KEY, &message("something else")).send();
    let his = Chatted::read(request.await.unwrap()).await;
    assert_ne!(his.reply_id, hers.reply_id);
    assert_ne!(his.conversation_id, hers.conversation_id);
    assert_eq!(app.llm.chat_requests().len(), 2);
}

#[tokio::test]
async fn a_key_has_1_to_255_visible_ascii_characters() {
    let app = App::start().await;
    let bytes = |value: &[u8]| HeaderValue::from_bytes(value).unwrap();
    for key in [
        bytes(b""),
        bytes("x".repeat(256).as_bytes()),
        bytes(b"a b"),
        bytes(b"a\tb"),
        bytes("schlüssel".as_bytes()),
        bytes(b"\xff"),
        bytes("🎉".as_bytes()),
    ] {
        let request = app
            .request_by("alice", Method::POST, "/chat")
            .json(&message("hello"));
        let problem = expect(request.header("Idempotency-Key", key.clone()), 422).await;
        assert_eq!(problem["errors"][0]["field"], "Idempotency-Key", "{key:?}");
    }
    let twice = keyed(&app, "alice", "one", &message("hello")).header("Idempotency-Key", "two");
    let problem = expect(twice, 422).await;
    assert_eq!(problem["errors"][0]["field"], "Idempotency-Key");
    assert!(app.llm.chat_requests().is_empty());
    for key in ["x", "~!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}", &"x".repeat(255)] {
        let response = keyed(&app, "alice", key, &message("hello"))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{key}");
    }
}

#[tokio::test]
async fn a_key_is_kept_for_a_day() {
    let app = App::start().await;
    let first = chat(&app, &message("hello")).await;
    for (age, kept) in [("23 hours 59 minutes", true), ("24 hours 1 minute", false)] {
        let set_back = "UPDATE idempotency SET created_at = now() - $1::interval";
        sqlx::query(set_back)
            .bind(age)
            .execute(&app.core.pool)
            .await
            .unwrap();
        let again = chat(&app, &message("hello")).await;
        assert_eq!(again.reply_id == first.reply_id, kept, "{age}");
    }
    assert_eq!(app.llm.chat_requests().len(), 2);
    let set_back = "UPDATE idempotency SET created_at = now() - interval '2 days'";
    sqlx::query(set_back).execute(&app.core.pool).await.unwrap();
    assert_eq!(chat(&app, &message("something else")).await.text, GREETING);
}

#[tokio::test]
async fn a_key_does_not_outlive_a_request_that_was_refused() {
    let app = App::start().await;
    let conversation = app.chat("alice", "begin", None).await.conversation_id;
    let gate = gated(&app, &["slow"]);
    let running = app.send("alice", "first", Some(&conversation)).await;
    let body = json!({"message": "second", "conversation_id": conversation});
    let problem = expect(keyed(&app, "alice", KEY, &body), 409).await;
    assert_eq!(problem["code"], "conversation_busy");
    assert_eq!(problem["reply_id"], header(&running, "x-reply-id"));
    gate.open_all();
    Chatted::read(running).await;
    assert_eq!(chat(&app, &body).await.text, GREETING);
}
