//! What browsers are told: which pages may call, what an answer is, and the id of a request.

use companion_tests::app::{App, Chatted};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::steps::{header, message};

const PAGE: &str = "https://app.example";

async fn send(request: RequestBuilder, origin: &str) -> Response {
    request.header("Origin", origin).send().await.unwrap()
}

/// Asks as a browser does before a call.
async fn preflight(app: &App, origin: &str, path: &str, method: &str) -> Response {
    let request = app
        .request(Method::OPTIONS, path)
        .header("Access-Control-Request-Method", method)
        .header(
            "Access-Control-Request-Headers",
            "authorization,content-type,last-event-id",
        );
    send(request, origin).await
}

fn words(headers: &HeaderMap, name: &str) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values
        .flat_map(|value| value.to_str().unwrap().split(','))
        .map(|word| word.trim().to_lowercase())
        .collect()
}

fn assert_closed(response: &Response) {
    for name in response.headers().keys() {
        assert!(!name.as_str().starts_with("access-control-allow"), "{name}");
    }
    assert!(words(response.headers(), "vary").contains(&"origin".to_owned()));
}

/// Checks that a page may read an answer, all of it.
fn assert_open(response: &Response, origin: &str) {
    assert_eq!(header(response, "access-control-allow-origin"), origin);
    assert!(words(response.headers(), "vary").contains(&"origin".to_owned()));
    let exposed = words(response.headers(), "access-control-expose-headers");
    for name in [
        "x-request-id",
        "x-conversation-id",
        "x-reply-id",
        "retry-after",
        "ratelimit-remaining",
        "etag",
    ] {
        assert!(exposed.contains(&name.to_owned()), "{exposed:?}");
    }
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call_and_read_every_answer() {
    let app =
        App::start_with(&[("CORS_ORIGINS", "https://other.example, https://app.example")]).await;
    for (path, method) in [
        ("/chat", "POST"),
        ("/conversations", "GET"),
        ("/auth/api-keys", "DELETE"),
        ("/nowhere", "POST"),
    ] {
        let response = preflight(&app, PAGE, path, method).await;
        assert!([200, 204].contains(&response.status().as_u16()), "{path}");
        assert_eq!(header(&response, "access-control-allow-origin"), PAGE);
        let methods = words(response.headers(), "access-control-allow-methods");
        for method in ["get", "post", "patch", "delete"] {
            assert!(methods.contains(&method.to_owned()), "{methods:?}");
        }
        let headers = words(response.headers(), "access-control-allow-headers");
        for name in [
            "authorization",
            "content-type",
            "x-api-key",
            "x-user-id",
            "idempotency-key",
            "last-event-id",
            "if-match",
            "x-request-id",
        ] {
            assert!(headers.contains(&name.to_owned()), "{headers:?}");
        }
        assert!(!response.headers().contains_key("ratelimit-limit"));
    }
    let streamed = send(
        app.request_by("alice", Method::POST, "/chat")
            .json(&message("hello")),
        PAGE,
    )
    .await;
    assert_open(&streamed, PAGE);
    Chatted::read(streamed).await;
    for (request, status) in [
        (app.request_by("alice", Method::GET, "/conversations"), 200),
        (app.request(Method::GET, "/conversations"), 401),
        (app.request(Method::GET, "/nowhere"), 404),
        (app.request(Method::GET, "/chat"), 405),
        (
            app.request_by("alice", Method::POST, "/chat")
                .json(&json!({})),
            422,
        ),
        (
            app.request_by("alice", Method::POST, "/chat")
                .body("x".repeat(2 << 20)),
            413,
        ),
        (app.request(Method::GET, "/health"), 200),
        (app.request(Method::GET, "/openapi.json"), 200),
    ] {
        let response = send(request, PAGE).await;
        assert_eq!(response.status(), status);
        assert_open(&response, PAGE);
    }
}

#[tokio::test]
async fn a_page_of_any_other_origin_may_not() {
    let app = App::start_with(&[("CORS_ORIGINS", PAGE)]).await;
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "https://evil-app.example",
        "http://app.example",
        "https://app.example:8443",
        "https://APP.example",
        "https://app.example/",
        "null",
        "*",
        "",
    ] {
        assert_closed(&preflight(&app, origin, "/chat", "POST").await);
        let response = send(
            app.request_by("alice", Method::GET, "/conversations"),
            origin,
        )
        .await;
        assert_closed(&response);
    }
    let no_page = app
        .request_by("alice", Method::GET, "/conversations")
        .send()
        .await
        .unwrap();
    assert_eq!(no_page.status(), 200);
    assert_closed(&no_page);
    assert_open(&send(app.request(Method::GET, "/health"), PAGE).await, PAGE);
}

#[tokio::test]
async fn in_development_all_origins_can_be_allowed_but_then_without_passwords() {
    let app = App::start_with(&[("CORS_ORIGINS", "*")]).await;
    for response in [
        preflight(&app, "https://anywhere.example", "/chat", "POST").await,
        send(
            app.request_by("alice", Method::GET, "/conversations"),
            "null",
        )
        .await,
    ] {
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        assert!(
            !response
                .headers()
                .contains_key("access-control-allow-credentials")
        );
    }
}

#[tokio::test]
async fn a_call_of_options_that_asks_for_nothing_is_405() {
    let app = App::start_with(&[("CORS_ORIGINS", PAGE)]).await;
    let response = send(app.request(Method::OPTIONS, "/chat"), PAGE).await;
    assert_eq!(response.status(), 405);
    assert_eq!(header(&response, "allow"), "POST");
}

#[tokio::test]
async fn every_answer_tells_browsers_to_take_it_for_nothing_else() {
    let app = App::start().await;
    let chat = || {
        app.request_by("alice", Method::POST, "/chat")
            .json(&message("hello"))
    };
    for (request, cache) in [
        (chat(), "no-cache"),
        (chat().header("Accept", "application/json"), "no-cache"),
        (
            app.request_by("alice", Method::GET, "/conversations"),
            "no-store",
        ),
        (app.request(Method::GET, "/conversations"), "no-store"),
        (app.request(Method::GET, "/nowhere"), "no-store"),
        (app.request(Method::GET, "/health"), "no-store"),
        (app.request(Method::GET, "/openapi.json"), "no-store"),
        (app.request(Method::GET, "/metrics"), "no-store"),
        (app.request(Method::GET, "/docs"), "no-store"),
        (app.request(Method::GET, "/redoc"), "no-store"),
    ] {
        let response = request.send().await.unwrap();
        let path = response.url().path().to_owned();
        assert_eq!(
            header(&response, "x-content-type-options"),
            "nosniff",
            "{path}"
        );
        assert_eq!(header(&response, "x-frame-options"), "DENY", "{path}");
        assert_eq!(
            header(&response, "referrer-policy"),
            "no-referrer",
            "{path}"
        );
        assert_eq!(header(&response, "cache-control"), cache, "{path}");
        let policy = header(&response, "content-security-policy");
        assert!(
            policy.contains("frame-ancestors 'none'"),
            "{path}: {policy}"
        );
        if !["/docs", "/redoc"].contains(&path.as_str()) {
            assert!(policy.contains("default-src 'none'"), "{path}: {policy}");
        }
    }
}

#[tokio::test]
async fn a_well_formed_request_id_is_taken_over_and_any_other_replaced() {
    let app = App::start().await;
    let ask = |id: &[u8]| {
        let id = reqwest::header::HeaderValue::from_bytes(id).unwrap();
        app.request(Method::GET, "/nowhere")
            .header("X-Request-Id", id)
    };
    for (id, taken) in [
        ("a".to_owned(), true),
        ("Request-1.2_3".to_owned(), true),
        ("x".repeat(128), true),
        ("x".repeat(129), false),
        (String::new(), false),
        ("a b".to_owned(), false),
        ("a\"b".to_owned(), false),
        ("<script>".to_owned(), false),
        ("ä".to_owned(), false),
        ("a,b".to_owned(), false),
    ] {
        let response = ask(id.as_bytes()).send().await.unwrap();
        let told = header(&response, "x-request-id").to_owned();
        assert_eq!(told == id, taken, "{id}: {told}");
        let problem: Value = response.json().await.unwrap();
        assert_eq!(problem["request_id"], told);
        if !taken {
            told.parse::<uuid::Uuid>().unwrap();
        }
    }
    let made = async || {
        let response = app
            .request(Method::GET, "/health/live")
            .send()
            .await
            .unwrap();
        header(&response, "x-request-id").to_owned()
    };
    assert_ne!(made().await, made().await);
}
