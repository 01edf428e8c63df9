//! How much one caller may ask for.

use companion_tests::app::{App, Chatted, status_and_json};
use companion_tests::database;
use companion_tests::eventually::{eventually, within};
use futures_util::future::join_all;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;

use crate::steps::{
    GREETING, WayToRedis, expect, gated, header, keyed, message, refused, somebody,
};

const RATE: &str = "RATE_LIMIT_REQUESTS_PER_MINUTE";

fn number(response: &Response, name: &str) -> u64 {
    header(response, name).parse().unwrap()
}

/// Limit and what is left of it, as an answer tells.
fn standing(response: &Response) -> (u64, u64) {
    let (limit, left) = (
        number(response, "ratelimit-limit"),
        number(response, "ratelimit-remaining"),
    );
    let reset = number(response, "ratelimit-reset");
    assert!((1..=60).contains(&reset), "{reset}");
    (limit, left)
}

/// Says hello and reads the reply; what the answer tells of the limit.
async fn chat(app: &App, user: &str) -> (u64, u64) {
    let response = app.send(user, "hello", None).await;
    let status = response.status();
    let standing = standing(&response);
    assert_eq!(status, 200, "{standing:?}");
    assert_eq!(Chatted::read(response).await.text, GREETING);
    standing
}

/// Checks that a user gets no further reply now.
async fn assert_no_more(app: &App, user: &str) {
    let response = app.send(user, "hello", None).await;
    assert_eq!(response.status(), 429);
    assert_eq!(standing(&response), (3, 0));
    let wait = number(&response, "retry-after");
    assert!((1..=20).contains(&wait), "a third of a minute: {wait}");
    assert_eq!(
        header(&response, "content-type"),
        "application/problem+json"
    );
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "rate_limited", "{problem}");
}

#[tokio::test]
async fn a_user_gets_as_many_replies_a_minute_as_is_configured() {
    let app = App::start_with(&[(RATE, "3")]).await;
    for left in [2, 1, 0] {
        assert_eq!(chat(&app, "alice").await, (3, left));
    }
    assert_no_more(&app, "alice").await;
    let whole = app
        .request_by("alice", Method::POST, "/chat")
        .json(&message("hello"));
    refused(
        whole.header("Accept", "application/json"),
        429,
        "rate_limited",
    )
    .await;
    assert_eq!(chat(&app, "bob").await, (3, 2), "others are not concerned");
    app.settle().await;
    let (_, list) = app.get("alice", "/conversations").await;
    assert_eq!(list["total"], 3, "what was refused is not kept");
}

#[tokio::test]
async fn what_starts_no_reply_is_counted_as_any_other_call() {
    let app = App::start_with(&[(RATE, "3")]).await;
    let gate = gated(&app, &["slow"]);
    let body = message("hello");
    let first = keyed(&app, "alice", "one", &body).send().await.unwrap();
    assert_eq!(standing(&first), (3, 2));
    let conversation = header(&first, "x-conversation-id").to_owned();
    let mut left = 29;
    let chat = |body| app.request_by("alice", Method::POST, "/chat").json(&body);
    for (request, status) in [
        // Attached.
        (keyed(&app, "alice", "one", &body), 200),
        // Refused.
        (keyed(&app, "alice", "one", &message("something else")), 422),
        (
            chat(json!({"message": "hello", "conversation_id": conversation})),
            409,
        ),
        (
            chat(json!({"message": "hello", "conversation_id": uuid::Uuid::now_v7()})),
            404,
        ),
        // Invalid.
        (chat(json!({"message": ""})), 422),
        (chat(json!([])), 422),
        (
            app.request_by("alice", Method::POST, "/chat").body("{"),
            415,
        ),
        (app.request_by("alice", Method::POST, "/chat"), 400),
        // Something else.
        (app.request_by("alice", Method::GET, "/conversations"), 200),
        (
            app.request_by("alice", Method::GET, "/conversations?limit=0"),
            422,
        ),
        (
            app.request_by("alice", Method::GET, "/conversations/x/messages"),
            404,
        ),
    ] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{left}");
        let (limit, remaining) = standing(&response);
        assert_eq!(limit, 30, "{status}");
        // A tenth of a minute may have passed on a busy machine.
        assert!(
            (left..=left + 3).contains(&remaining),
            "{remaining} left instead of {left}"
        );
        left -= 1;
    }
    gate.open_all();
    Chatted::read(first).await;
    assert_eq!(self::chat(&app, "alice").await, (3, 1));
    let again = keyed(&app, "alice", "one", &body).send().await.unwrap();
    assert_eq!(standing(&again).0, 30, "attached to a reply that has ended");
    assert_eq!(self::chat(&app, "alice").await, (3, 0));
    assert_no_more(&app, "alice").await;
    let again = keyed(&app, "alice", "one", &body).send().await.unwrap();
    assert_eq!(again.status(), 200, "attaching is possible still");
}

#[tokio::test]
async fn a_message_sent_many_times_at_once_with_one_key_is_one_reply_of_the_limit() {
    let app = App::start_with(&[(RATE, "3")]).await;
    assert_eq!(chat(&app, "alice").await, (3, 2));
    // The connections are there already, so that all come at once.
    let warm = |_| app.request(Method::GET, "/health/live").send();
    join_all((0..8).map(warm)).await;
    let body = message("hello");
    let sent = join_all((0..8).map(|_| keyed(&app, "alice", "one", &body).send())).await;
    let mut replies = Vec::new();
    for response in sent {
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        replies.push(Chatted::read(response).await.reply_id);
    }
    replies.dedup();
    assert_eq!(replies.len(), 1);
    assert_eq!(chat(&app, "alice").await, (3, 0));
}

#[tokio::test]
async fn all_other_calls_together_have_ten_times_as_much() {
    let app = App::start_with(&[(RATE, "1")]).await;
    let calls = (0..30).map(|_| {
        app.request_by("alice", Method::GET, "/conversations")
            .send()
    });
    let answers: Vec<Response> = join_all(calls)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let passed = answers
        .iter()
        .filter(|answer| answer.status() == 200)
        .count();
    assert!((10..=14).contains(&passed), "{passed}");
    for answer in &answers {
        assert_eq!(standing(answer).0, 10);
        if answer.status() != 200 {
            assert_eq!(answer.status(), 429);
            assert!((1..=6).contains(&number(answer, "retry-after")));
        }
    }
    // Replies and other calls don't take from each other.
    assert_eq!(chat(&app, "alice").await, (1, 0));
    assert_eq!(app.get("bob", "/conversations").await.0, 200);
}

#[tokio::test]
async fn health_documentation_and_metrics_are_never_counted() {
    let app = App::start_with(&[(RATE, "1")]).await;
    for path in [
        "/health",
        "/health/live",
        "/health/ready",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/metrics",
    ] {
        for _ in 0..12 {
            let response = app
                .request_by("alice", Method::GET, path)
                .send()
                .await
                .unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert!(
                !response.headers().contains_key("ratelimit-limit"),
                "{path}"
            );
        }
    }
    let response = app
        .request_by("alice", Method::GET, "/conversations")
        .send()
        .await
        .unwrap();
    assert_eq!(standing(&response), (10, 9));
}

#[tokio::test]
async fn processes_that_share_redis_share_the_limit() {
    let redis = database::redis();
    let app = App::start_with(&[(RATE, "3"), ("REDIS_URL", &redis)]).await;
    let another = App::start_api_only(app.variables.clone(), app.llm.clone()).await;
    let user = somebody();
    assert_eq!(chat(&app, &user).await, (3, 2));
    assert_eq!(chat(&another, &user).await, (3, 1));
    assert_eq!(chat(&app, &user).await, (3, 0));
    assert_no_more(&another, &user).await;
    assert_no_more(&app, &user).await;
    assert_eq!(chat(&another, &somebody()).await, (3, 2));
    let calls = another
        .request_by(&user, Method::GET, "/conversations")
        .send()
        .await
        .unwrap();
    assert_eq!(standing(&calls).0, 30);
}

#[tokio::test]
async fn without_redis_each_process_limits_by_itself() {
    let way = WayToRedis::open().await;
    let app = App::start_with(&[(RATE, "3"), ("REDIS_URL", &way.url)]).await;
    let user = somebody();
    assert_eq!(chat(&app, &user).await, (3, 2));
    way.close().await;
    // What was taken in Redis is not known here.
    for left in [2, 1, 0] {
        assert_eq!(chat(&app, &user).await, (3, left));
    }
    assert_no_more(&app, &user).await;
}

#[tokio::test]
async fn who_guesses_at_credentials_is_slowed_down_and_who_has_one_is_not() {
    let app = App::start_with(&[(RATE, "3")]).await;
    // Who sends nothing guesses nothing.
    for _ in 0..700 {
        refused(app.request(Method::GET, "/memories"), 401, "unauthorized").await;
    }
    let guess = || {
        app.request(Method::GET, "/conversations")
            .header("Authorization", "Bearer x")
    };
    let mut guesses = 0;
    let response = loop {
        let response = guess().send().await.unwrap();
        if response.status() != 401 {
            break response;
        }
        guesses += 1;
        assert!(guesses < 5_000, "nobody is slowed down");
    };
    assert!(guesses >= 600, "{guesses}");
    assert_eq!(response.status(), 429);
    assert_eq!(standing(&response), (600, 0));
    assert_eq!(number(&response, "retry-after"), 1);
    // A token comes back every 100 ms.
    let validate = || {
        app.request(Method::POST, "/auth/validate")
            .json(&json!({"token": "x"}))
    };
    let chat_by_key = || app.request(Method::POST, "/chat").header("X-API-Key", "x");
    let guesses: [(&dyn Fn() -> RequestBuilder, u16); 2] = [(&validate, 200), (&chat_by_key, 401)];
    for (guess, passed) in guesses {
        for n in 0.. {
            assert!(n < 5_000, "nobody is slowed down");
            let (status, problem) = status_and_json(guess().send().await.unwrap()).await;
            if status == 429 {
                assert_eq!(problem["code"], "too_many_failed_authentications");
                break;
            }
            assert_eq!(status, passed);
        }
    }
    refused(app.request(Method::GET, "/memories"), 401, "unauthorized").await;
    assert_eq!(chat(&app, "alice").await, (3, 2));
    let token = app.post("alice", "/auth/token", &json!({})).await.1;
    let validate = app.request(Method::POST, "/auth/validate");
    let judged = expect(validate.json(&json!({"token": token["access_token"]})), 200).await;
    assert_eq!(judged["valid"], true);
}

#[tokio::test]
async fn a_user_has_only_so_many_replies_at_once() {
    let app = App::start_with(&[("MAX_CONCURRENT_REPLIES_PER_USER", "2")]).await;
    let gates = [gated(&app, &["one"]), gated(&app, &["two"])];
    let running = [
        app.send("alice", "a", None).await,
        app.send("alice", "b", None).await,
    ];
    let response = app.send("alice", "c", None).await;
    assert_eq!(response.status(), 429);
    assert!(number(&response, "retry-after") >= 1);
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "too_many_replies");
    // The LLM has both, and what it is asked next is another's.
    eventually(|| async {
        match app.llm.chat_requests().len() {
            2 => Ok(()),
            asked => Err(format!("{asked} replies were asked for")),
        }
    })
    .await;
    assert_eq!(app.chat("bob", "d", None).await.text, GREETING);
    let [first, second] = running;
    gates[0].open_all();
    gates[1].open_all();
    within("the replies", Chatted::read(first)).await;
    within("the replies", Chatted::read(second)).await;
    // From the last event on there is room.
    for _ in 0..20 {
        app.chat("alice", "e", None).await;
    }
    app.settle().await;
    let (_, list) = app.get("alice", "/conversations").await;
    assert_eq!(list["total"], 22, "what was refused is not kept");
}

#[tokio::test]
async fn from_the_last_event_of_a_reply_on_there_is_room_for_the_next() {
    let app = App::start_with(&[("MAX_CONCURRENT_REPLIES_PER_USER", "1"), (RATE, "1000")]).await;
    for _ in 0..100 {
        app.chat("alice", "hello", None).await;
    }
}

#[tokio::test]
async fn a_process_makes_only_so_many_replies_at_once() {
    let app = App::start_with(&[("MAX_CONCURRENT_REPLIES", "1")]).await;
    let gate = gated(&app, &["slow"]);
    let running = app.send("alice", "a", None).await;
    let response = app.send("bob", "b", None).await;
    assert_eq!(response.status(), 503);
    assert!(number(&response, "retry-after") >= 1);
    let problem: serde_json::Value = response.json().await.unwrap();
    assert_eq!(problem["code"], "too_busy");
    // A reply that fails makes room too, and one that nobody reads.
    gate.open_all();
    drop(running);
    eventually(|| async {
        match app.send("bob", "b", None).await.status().as_u16() {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}
