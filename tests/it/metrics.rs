//! What is measured, and what of it is shown.

use std::collections::BTreeSet;

use companion_tests::app::App;
use companion_tests::eventually::eventually;
use reqwest::Method;
use serde_json::json;

use crate::steps::{expect, header, refused};

async fn page(app: &App) -> String {
    let response = app.request(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(header(&response, "content-type").starts_with("text/plain"));
    response.text().await.unwrap()
}

/// The values of a metric: its labels and its number.
fn values<'a>(page: &'a str, name: &str) -> Vec<(&'a str, f64)> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (labels, number) = rest.rsplit_once(' ')?;
            (labels.is_empty() || labels.starts_with('{'))
                .then(|| (labels, number.parse().unwrap()))
        })
        .collect()
}

/// The number of a metric without labels.
fn value(page: &str, name: &str) -> f64 {
    let values = values(page, name);
    let [("", number)] = values.as_slice() else {
        panic!("{name}: {values:?}\n{page}")
    };
    *number
}

/// What labels of a name stand in the page.
fn labelled(page: &str, label: &str) -> BTreeSet<String> {
    let start = format!("{label}=\"");
    page.match_indices(&start)
        .map(|(at, _)| {
            page[at + start.len()..]
                .split('"')
                .next()
                .unwrap()
                .to_owned()
        })
        .collect()
}

#[tokio::test]
async fn what_has_no_labels_is_there_before_anything_has_happened() {
    let app = App::start().await;
    let page = page(&app).await;
    for name in [
        "http_requests_in_progress",
        "memory_retrievals_total",
        "memory_storage_total",
        "active_conversations",
        "companion_projection_lag_events",
        "companion_dead_jobs",
        "llm_request_duration_seconds_count",
        "companion_first_token_seconds_count",
        "companion_embedding_seconds_count",
    ] {
        let number = value(&page, name);
        // This very request is in progress.
        let expected = if name == "http_requests_in_progress" {
            1.0
        } else {
            0.0
        };
        assert!(number >= expected, "{name}");
    }
    assert_eq!(value(&page, "active_conversations"), 0.0);
    assert_eq!(value(&page, "llm_request_duration_seconds_count"), 0.0);
}

#[tokio::test]
async fn a_chat_and_a_search_are_measured_under_the_promised_names() {
    let app = App::start().await;
    app.chat("alice", "I live in Lisbon and I own a canoe", None)
        .await;
    app.settle().await;
    let (status, _) = app
        .post("alice", "/memories/search", &json!({"query": "canoe"}))
        .await;
    assert_eq!(status, 200);
    app.llm.next(companion_tests::llm::Behaviour::Status(
        500,
        "boom".to_owned(),
    ));
    app.chat("alice", "hello", None).await;
    app.settle().await;
    let page = page(&app).await;
    for name in [
        "http_requests_total",
        "http_request_duration_seconds_bucket",
        "http_requests_in_progress",
        "llm_requests_total",
        "llm_request_duration_seconds_bucket",
        "memory_retrievals_total",
        "memory_storage_total",
        "active_conversations",
        "database_query_duration_seconds_bucket",
        "companion_first_token_seconds_bucket",
        "companion_projection_lag_events",
        "companion_jobs",
        "companion_dead_jobs",
        "companion_embedding_seconds_bucket",
    ] {
        assert!(
            !values(&page, name).is_empty(),
            "{name} is missing:\n{page}"
        );
        let family = name.trim_end_matches("_bucket");
        assert!(
            page.contains(&format!("# TYPE {family} ")),
            "{name} has no type"
        );
        assert!(
            page.contains(&format!("# HELP {family} ")),
            "{name} has no help"
        );
    }
    let chats = values(&page, "http_requests_total");
    let chat = chats.iter().find(|(labels, _)| {
        ["method=\"POST\"", "endpoint=\"/chat\"", "status=\"200\""]
            .iter()
            .all(|label| labels.contains(label))
    });
    assert_eq!(chat.unwrap().1, 2.0, "{chats:?}");
    let llm: f64 = values(&page, "llm_requests_total")
        .iter()
        .filter(|(labels, _)| labels.contains("status=\"success\""))
        .map(|(_, number)| number)
        .sum();
    assert!(llm >= 1.0, "the chat, and what was asked in the background");
    assert!(labelled(&page, "status").contains("llm_error"));
    assert!(value(&page, "memory_retrievals_total") >= 1.0);
    assert!(value(&page, "memory_storage_total") >= 1.0);
    assert_eq!(value(&page, "active_conversations"), 2.0);
    assert_eq!(value(&page, "companion_projection_lag_events"), 0.0);
    for word in ["alice", "canoe", "Lisbon", "hello"] {
        assert!(!page.contains(word), "{word} is shown");
    }
}

#[tokio::test]
async fn callers_can_not_make_new_labels() {
    let app = App::start().await;
    let chatted = app.chat("alice", "hello", None).await;
    app.get(
        "alice",
        &format!("/conversations/{}/messages", chatted.conversation_id),
    )
    .await;
    app.get("alice", &format!("/replies/{}/stream", chatted.reply_id))
        .await;
    app.get("alice", "/conversations?limit=3&x=secret-query")
        .await;
    page(&app).await;
    let before = page(&app).await;
    for path in [
        "/secret-path",
        "/chat/secret-path",
        "/conversations/secret-path/nothing",
        "//",
        "/%ff",
        "/%F0%9F%8E%89",
    ] {
        app.request_by("secret-user", Method::GET, path)
            .send()
            .await
            .unwrap();
    }
    for method in ["SECRET", "PROPFIND", "get"] {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        app.request_by("secret-user", method, "/chat")
            .send()
            .await
            .unwrap();
    }
    for id in ["secret-path", "1", &uuid::Uuid::now_v7().to_string()] {
        app.get("secret-user", &format!("/conversations/{id}/messages"))
            .await;
    }
    let after = page(&app).await;
    for word in [
        "secret",
        "PROPFIND",
        "SECRET",
        &chatted.conversation_id,
        &chatted.reply_id,
        "%",
        "alice",
    ] {
        assert!(!after.contains(word), "{word} is shown");
    }
    let mut new = labelled(&after, "endpoint");
    let known = labelled(&before, "endpoint");
    assert!(known.contains("/conversations/{id}/messages"), "{known:?}");
    assert!(known.contains("/replies/{id}/stream"), "{known:?}");
    assert!(known.contains("/conversations"), "{known:?}");
    new.retain(|endpoint| !known.contains(endpoint));
    assert!(new.len() <= 1, "one for all that is unknown: {new:?}");
    let mut methods = labelled(&after, "method");
    methods.retain(|method| !labelled(&before, "method").contains(method));
    assert!(
        methods.len() <= 1,
        "one for all that is unknown: {methods:?}"
    );
}

#[tokio::test]
async fn requests_in_progress_go_up_and_down() {
    let app = App::start().await;
    let gate = crate::steps::gated(&app, &["slow"]);
    let request = app
        .request_by("alice", Method::POST, "/chat")
        .json(&crate::steps::message("hello"));
    let asking = tokio::spawn(request.header("Accept", "application/json").send());
    gate.reached().await;
    assert_eq!(value(&page(&app).await, "http_requests_in_progress"), 2.0);
    // Also of one who hangs up.
    asking.abort();
    gate.open_all();
    eventually(|| async {
        match value(&page(&app).await, "http_requests_in_progress") {
            1.0 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn metrics_are_shown_to_who_has_the_token_if_one_is_set() {
    let app = App::start_with(&[
        ("METRICS_TOKEN", "let-me-see"),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "1"),
    ])
    .await;
    let ask = || app.request(Method::GET, "/metrics");
    for value in [
        "",
        "let-me-see",
        "Bearer",
        "Bearer ",
        "Bearer let-me-se",
        "Bearer let-me-see2",
        "Basic let-me-see",
    ] {
        let response = ask().header("Authorization", value).send().await.unwrap();
        assert_eq!(header(&response, "www-authenticate"), "Bearer");
        assert_eq!(response.status(), 401, "{value}");
        assert!(
            !response
                .text()
                .await
                .unwrap()
                .contains("http_requests_total")
        );
    }
    refused(ask(), 401, "unauthorized").await;
    refused(ask().header("X-User-Id", "alice"), 401, "unauthorized").await;
    let page = expect(ask().header("Authorization", "Bearer let-me-see"), 200).await;
    assert!(page.as_str().unwrap().contains("http_requests_total"));
}

#[tokio::test]
async fn metrics_are_shown_while_the_database_is_away() {
    let app = App::start().await;
    app.chat("alice", "hello", None).await;
    app.settle().await;
    app.core.pool.close().await;
    let page = page(&app).await;
    assert!(value(&page, "llm_request_duration_seconds_count") >= 1.0);
    for name in [
        "active_conversations",
        "companion_projection_lag_events",
        "companion_dead_jobs",
    ] {
        assert!(value(&page, name).is_nan(), "it is not known: {name}");
    }
}
