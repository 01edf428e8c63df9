//! What is refused, and how it is said: one form for every error, and never what the caller sent.

use companion_tests::app::App;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use uuid::Uuid;

/// Stands in requests where a value is wrong; no answer may repeat it.
const SENTINEL: &str = "zq7sentinel";

/// Sends a request that is to be refused with this status and checks the form of the answer.
async fn refused(request: RequestBuilder, status: u16) -> (Value, Answer) {
    let response = request
        .header("X-Request-Id", "test-request.1")
        .send()
        .await
        .unwrap();
    let answer = Answer::of(response).await;
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(
        answer.header("content-type"),
        "application/problem+json",
        "{}",
        answer.body
    );
    assert_eq!(answer.header("x-request-id"), "test-request.1");
    assert!(
        !answer.body.contains(SENTINEL),
        "an error repeats what was sent: {}",
        answer.body
    );
    let problem: Value = serde_json::from_str(&answer.body).unwrap();
    for text in ["type", "title", "detail", "code", "request_id"] {
        assert!(
            problem[text].as_str().is_some_and(|text| !text.is_empty()),
            "{text}: {problem}"
        );
    }
    assert_eq!(problem["status"], status);
    assert_eq!(problem["request_id"], "test-request.1");
    let snake = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    assert!(
        problem["code"].as_str().unwrap().chars().all(snake),
        "{problem}"
    );
    (problem, answer)
}

/// An answer with its body read.
struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self {
            status,
            headers,
            body: response.text().await.unwrap(),
        }
    }

    fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no {name}: {}", self.body))
            .to_str()
            .unwrap()
    }
}

/// The fields that a 422 names, sorted.
fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"]
        .as_array()
        .unwrap_or_else(|| panic!("no errors: {problem}"));
    let mut fields: Vec<&str> = errors
        .iter()
        .map(|error| {
            assert!(
                error["message"]
                    .as_str()
                    .is_some_and(|message| !message.is_empty()),
                "{problem}"
            );
            error["field"].as_str().unwrap()
        })
        .collect();
    fields.sort_unstable();
    fields
}

fn chat(app: &App) -> RequestBuilder {
    app.request_by("alice", Method::POST, "/chat")
}

fn raw(app: &App, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
    app.request_by("alice", Method::POST, path)
        .header("Content-Type", "application/json")
        .body(body)
}

#[tokio::test]
async fn a_malformed_body_is_400() {
    let app = App::start().await;
    for path in ["/chat", "/memories/search"] {
        refused(app.request_by("alice", Method::POST, path), 400).await;
        for body in [
            "",
            "{",
            "{\"message\": \"zq7sentinel\"",
            "hello zq7sentinel",
            "{'message': 'zq7sentinel'}",
            "{\"message\": \"\\ud800\"}",
            "{\"message\": \"a\"} {}",
            "{\"message\": \"line\nbreak\"}",
            " ",
            "\u{feff}{\"message\": \"hello\"}",
        ] {
            refused(raw(&app, path, body), 400).await;
        }
        for body in [
            &b"{\"message\": \"\xff\xfe\"}"[..],
            b"\x00\x01",
            b"{\"message\": \"\xc3\"}",
            b"{\"message\": \"\xed\xa0\x80\"}",
        ] {
            refused(raw(&app, path, body), 400).await;
        }
        refused(raw(&app, path, "[".repeat(10_000)), 400).await;
    }
}

#[tokio::test]
async fn a_field_of_the_wrong_type_is_422_and_named() {
    let app = App::start().await;
    for (body, expected) in [
        (json!({}), vec!["message"]),
        (json!({"message": null}), vec!["message"]),
        (json!({"message": 5}), vec!["message"]),
        (json!({"message": [SENTINEL]}), vec!["message"]),
        (json!({"message": {"text": SENTINEL}}), vec!["message"]),
        (
            json!({"message": "hello", "conversation_id": SENTINEL}),
            vec!["conversation_id"],
        ),
        (
            json!({"message": "hello", "conversation_id": 7}),
            vec!["conversation_id"],
        ),
        (
            json!({"message": "hello", "conversation_id": ""}),
            vec!["conversation_id"],
        ),
        (
            json!({"message": "hello", "system_prompt": 7}),
            vec!["system_prompt"],
        ),
        (
            json!({"message": "hello", "system_prompt": "x".repeat(4001)}),
            vec!["system_prompt"],
        ),
        (
            json!({"message": "hello", "system_prompt": format!("{SENTINEL}\0")}),
            vec!["system_prompt"],
        ),
        (
            json!({"message": "hello", "timezone": SENTINEL}),
            vec!["timezone"],
        ),
        (
            json!({"message": "hello", "timezone": ""}),
            vec!["timezone"],
        ),
        (
            json!({"message": "hello", "timezone": true}),
            vec!["timezone"],
        ),
        (
            json!({"message": 5, "conversation_id": 5, "timezone": 5}),
            vec!["conversation_id", "message", "timezone"],
        ),
    ] {
        let (problem, _) = refused(chat(&app).json(&body), 422).await;
        assert_eq!(fields(&problem), expected, "{body}");
    }
    for body in ["[]", "5", "null", "\"hello\"", "true"] {
        let (problem, _) = refused(raw(&app, "/chat", body), 422).await;
        assert!(!fields(&problem).is_empty(), "{body}");
    }
    assert!(app.llm.chat_requests().is_empty());
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 0);
}

#[tokio::test]
async fn a_message_has_1_to_4000_characters_and_is_not_blank() {
    let app = App::start().await;
    let blanks = ["", " ", "\n\t", "\u{3000}\u{a0}\u{2003}"];
    let long = [
        format!("{SENTINEL}{}", "x".repeat(4001 - SENTINEL.len())),
        "🎉".repeat(4001),
    ];
    let nul = [format!("{SENTINEL}\0"), "\0".to_owned()];
    for message in blanks.map(str::to_owned).into_iter().chain(long).chain(nul) {
        let (problem, _) = refused(chat(&app).json(&json!({ "message": message })), 422).await;
        assert_eq!(
            fields(&problem),
            ["message"],
            "{} characters",
            message.chars().count()
        );
    }
    for message in [
        "🎉".repeat(4000),
        "x".to_owned(),
        "e\u{301}".repeat(2000),
        "x".repeat(4000),
    ] {
        let chatted = app.chat("alice", &message, None).await;
        let messages = app.messages("alice", &chatted.conversation_id).await;
        assert!(
            messages[0]["content"] == message,
            "it is kept as it was sent"
        );
    }
}

#[tokio::test]
async fn a_body_that_is_not_said_to_be_json_is_415() {
    let app = App::start().await;
    for path in ["/chat", "/memories/search"] {
        refused(app.request_by("alice", Method::POST, path).body("{}"), 415).await;
        for content_type in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "nonsense",
            "application/xml",
        ] {
            refused(
                app.request_by("alice", Method::POST, path)
                    .header("Content-Type", content_type)
                    .body("{}"),
                415,
            )
            .await;
        }
    }
    let request = chat(&app)
        .header("Content-Type", "application/json; charset=utf-8")
        .body(r#"{"message": "hello"}"#);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_over_one_mebibyte_is_413() {
    let app = App::start().await;
    let padded = |size: usize| {
        let frame = r#"{"message": "hello", "x": ""}"#;
        frame.replace(
            "\"\"}",
            &format!("\"{}\"}}", "y".repeat(size - frame.len())),
        )
    };
    assert_eq!(padded(1 << 20).len(), 1 << 20);
    refused(raw(&app, "/chat", padded((1 << 20) + 1)), 413).await;
    refused(raw(&app, "/memories/search", padded(3 << 20)), 413).await;
    // Without a Content-Length.
    let parts = vec![padded((1 << 20) + 1).into_bytes()]
        .into_iter()
        .map(Ok::<_, std::io::Error>);
    refused(
        raw(
            &app,
            "/chat",
            reqwest::Body::wrap_stream(futures_util::stream::iter(parts)),
        ),
        413,
    )
    .await;
    let status = raw(&app, "/chat", padded(1 << 20))
        .send()
        .await
        .unwrap()
        .status()
        .as_u16();
    assert_ne!(status, 413, "exactly 1 MiB is not over it");
}

#[tokio::test]
async fn an_unknown_path_is_404() {
    let app = App::start().await;
    for path in [
        "/zq7sentinel",
        "/chat/zq7sentinel",
        "/conversations/",
        "/chat/",
        "//",
        "/%00",
        "/conversations/zq7sentinel/nothing",
        "/docs/zq7sentinel",
    ] {
        refused(app.request_by("alice", Method::GET, path), 404).await;
    }
}

#[tokio::test]
async fn the_documentation_is_only_read() {
    let app = App::start().await;
    for path in ["/openapi.json", "/docs", "/redoc"] {
        for method in [Method::POST, Method::DELETE] {
            let (_, answer) = refused(app.request_by("alice", method.clone(), path), 405).await;
            assert!(
                answer.header("allow").split(", ").any(|one| one == "GET"),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_method_is_405_and_told_the_right_ones() {
    let app = App::start().await;
    let id = Uuid::now_v7();
    let messages = format!("/conversations/{id}/messages");
    for (method, path, allowed) in [
        (Method::GET, "/chat", "POST"),
        (Method::PUT, "/chat", "POST"),
        (Method::DELETE, "/health", "GET"),
        (Method::POST, "/health/live", "GET"),
        (Method::POST, messages.as_str(), "GET"),
        (Method::GET, "/memories/search", "POST"),
    ] {
        let response = app
            .request_by("alice", method.clone(), path)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 405, "{method} {path}");
        let (_, answer) = refused(app.request_by("alice", method.clone(), path), 405).await;
        let allow = answer.header("allow");
        assert!(
            allow.split(", ").any(|one| one == allowed),
            "{method} {path}: {allow}"
        );
        assert!(
            !allow.split(", ").any(|one| one == method.as_str()),
            "{method} {path}: {allow}"
        );
    }
}

#[tokio::test]
async fn a_path_id_that_is_no_uuid_is_404_like_one_that_is_unknown() {
    let app = App::start().await;
    let unknown = format!("/conversations/{}/messages", Uuid::now_v7());
    let (like, _) = refused(app.request_by("alice", Method::GET, &unknown), 404).await;
    for id in [
        "zq7sentinel",
        "1",
        "%00",
        "..%2f..",
        "00000000-0000-0000-0000-00000000000g",
        "%F0%9F%8E%89",
        "%ff",
    ] {
        let path = format!("/conversations/{id}/messages");
        let (problem, _) = refused(app.request_by("alice", Method::GET, &path), 404).await;
        assert_eq!(problem["code"], like["code"], "{id}");
    }
}

#[tokio::test]
async fn a_query_parameter_out_of_range_is_422_and_named() {
    let app = App::start().await;
    let conversation = app.chat("alice", "hello", None).await.conversation_id;
    let messages = format!("/conversations/{conversation}/messages");
    for path in ["/conversations", "/memories", messages.as_str()] {
        for value in [
            "0",
            "201",
            "-1",
            "abc",
            "1.5",
            "zq7sentinel",
            "99999999999999999999",
            "1e2",
            "%00",
        ] {
            let (problem, _) = refused(
                app.request_by("alice", Method::GET, &format!("{path}?limit={value}")),
                422,
            )
            .await;
            assert_eq!(fields(&problem), ["limit"], "{path} {value}");
        }
        for value in ["1", "200"] {
            assert_eq!(
                app.get("alice", &format!("{path}?limit={value}")).await.0,
                200,
                "{path} {value}"
            );
        }
    }
    for (path, query, field) in [
        ("/conversations", "offset=-1", "offset"),
        ("/memories", "offset=zq7sentinel", "offset"),
        ("/memories", "kind=zq7sentinel", "kind"),
        (
            "/memories",
            "conversation_id=zq7sentinel",
            "conversation_id",
        ),
        (
            "/memories",
            "include_inactive=zq7sentinel",
            "include_inactive",
        ),
        (messages.as_str(), "before=zq7sentinel", "before"),
        (
            messages.as_str(),
            "before=00000000-0000-0000-0000-000000000000",
            "before",
        ),
    ] {
        let (problem, _) = refused(
            app.request_by("alice", Method::GET, &format!("{path}?{query}")),
            422,
        )
        .await;
        assert_eq!(fields(&problem), [field], "{path}?{query}");
    }
    assert_eq!(
        app.get("alice", "/conversations?offset=9223372036854775807")
            .await
            .0,
        200
    );
}

#[tokio::test]
async fn a_search_is_checked_like_a_chat() {
    let app = App::start().await;
    for (body, expected) in [
        (json!({}), vec!["query"]),
        (json!({"query": ""}), vec!["query"]),
        (json!({"query": " \n"}), vec!["query"]),
        (json!({"query": 7}), vec!["query"]),
        (json!({"query": "x".repeat(4001)}), vec!["query"]),
        (json!({"query": "tea", "top_k": 0}), vec!["top_k"]),
        (json!({"query": "tea", "top_k": 101}), vec!["top_k"]),
        (json!({"query": "tea", "top_k": -1}), vec!["top_k"]),
        (json!({"query": "tea", "top_k": 1.5}), vec!["top_k"]),
        (json!({"query": "tea", "top_k": SENTINEL}), vec!["top_k"]),
        (
            json!({"query": "tea", "kinds": [SENTINEL]}),
            vec!["kinds.0"],
        ),
        (json!({"query": "tea", "kinds": "fact"}), vec!["kinds"]),
        (
            json!({"query": "tea", "include_messages": "yes"}),
            vec!["include_messages"],
        ),
        (
            json!({"query": "tea", "conversation_id": SENTINEL}),
            vec!["conversation_id"],
        ),
    ] {
        let (problem, _) = refused(
            app.request_by("alice", Method::POST, "/memories/search")
                .json(&body),
            422,
        )
        .await;
        assert_eq!(fields(&problem), expected, "{body}");
    }
    for top_k in [1, 100] {
        assert_eq!(
            app.post(
                "alice",
                "/memories/search",
                &json!({"query": "tea", "top_k": top_k})
            )
            .await
            .0,
            200
        );
    }
    for query in [
        "a\0b",
        "'; DROP TABLE events; --",
        "%_\\",
        "<->",
        "🎉",
        &"word ".repeat(800),
    ] {
        let (status, answer) = app
            .post(
                "alice",
                "/memories/search",
                &json!({"query": query, "include_messages": true}),
            )
            .await;
        assert!(
            status == 200 || status == 422,
            "{query:?}: {status} {answer}"
        );
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_credential() {
    let app = App::start().await;
    let id = Uuid::now_v7();
    let messages = format!("/conversations/{id}/messages");
    let hello = json!({"message": "hello", "query": "hello"});
    for (method, path) in [
        (Method::POST, "/chat"),
        (Method::GET, "/conversations"),
        (Method::GET, messages.as_str()),
        (Method::GET, "/memories"),
        (Method::POST, "/memories/search"),
    ] {
        let request = || app.request(method.clone(), path).json(&hello);
        for (case, request) in [
            ("nothing", request()),
            ("an empty header", request().header("X-User-Id", "")),
            (
                "Basic",
                request()
                    .header("X-User-Id", "alice")
                    .basic_auth(SENTINEL, Some(SENTINEL)),
            ),
            (
                "a token that is none",
                request().header("X-User-Id", "alice").bearer_auth(SENTINEL),
            ),
            (
                "an empty Authorization",
                request()
                    .header("X-User-Id", "alice")
                    .header("Authorization", ""),
            ),
            (
                "a key that is none",
                request()
                    .header("X-User-Id", "alice")
                    .header("X-API-Key", "user_alice_x"),
            ),
        ] {
            let (problem, answer) = refused(request, 401).await;
            assert!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{case}: {problem}"
            );
        }
    }
}

#[tokio::test]
async fn a_user_id_keeps_to_its_alphabet() {
    let app = App::start().await;
    let long = "x".repeat(129);
    for id in ["a b", "a/b", "zq7sentinel!", "ümlaut", "<b>", &long, "a,b"] {
        let request = app
            .request(Method::GET, "/conversations")
            .header("X-User-Id", id.as_bytes());
        let (problem, _) = refused(request, 422).await;
        assert_eq!(fields(&problem), ["X-User-Id"], "{id}");
    }
    for id in ["a", "user_1", "a.b-c@d:e+f", &long[1..]] {
        assert_eq!(app.get(id, "/conversations").await.0, 200, "{id}");
    }
}

#[tokio::test]
async fn without_required_authentication_the_user_is_the_one_named_or_the_default() {
    let app = App::start_with(&[("REQUIRE_AUTHENTICATION", "false")]).await;
    let response = app
        .request(Method::POST, "/chat")
        .json(&json!({"message": "hello"}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    response.text().await.unwrap();
    assert_eq!(
        app.get("default_user", "/conversations").await.1["total"],
        1
    );
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 0);
    refused(
        app.request(Method::GET, "/conversations")
            .header("Authorization", "Basic x"),
        401,
    )
    .await;
}

#[tokio::test]
async fn x_user_id_can_be_switched_off() {
    let app = App::start_with(&[("ALLOW_X_USER_ID_AUTH", "false")]).await;
    let (_, answer) = refused(app.request_by("alice", Method::GET, "/conversations"), 401).await;
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn a_request_id_is_made_when_none_is_sent_or_it_is_not_well_formed() {
    let app = App::start().await;
    let long = "x".repeat(2000);
    for sent in ["", "a b", "<script>", "a\"b", &long] {
        let request = app
            .request_by("alice", Method::GET, "/nothing")
            .header("X-Request-Id", sent);
        let answer = Answer::of(request.send().await.unwrap()).await;
        let id = answer.header("x-request-id");
        assert!(!id.is_empty() && id != sent, "{id}");
        assert_eq!(
            serde_json::from_str::<Value>(&answer.body).unwrap()["request_id"],
            id
        );
    }
    let one = app
        .request_by("alice", Method::GET, "/memories")
        .send()
        .await
        .unwrap();
    let two = app
        .request_by("alice", Method::GET, "/memories")
        .send()
        .await
        .unwrap();
    assert!(one.headers().contains_key("x-request-id"));
    assert_ne!(one.headers()["x-request-id"], two.headers()["x-request-id"]);
}
