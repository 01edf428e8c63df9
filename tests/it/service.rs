//! The service as operators and newcomers see it: health and documentation.

use companion_tests::app::{App, variables};
use companion_tests::database;
use companion_tests::eventually::eventually;
use companion_tests::llm::ScriptedLlm;
use reqwest::Method;
use serde_json::{Value, json};

async fn page(app: &App, path: &str) -> String {
    let response = app.request(Method::GET, path).send().await.unwrap();
    assert_eq!(response.status(), 200, "{path}");
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html"),
        "{path}"
    );
    response.text().await.unwrap()
}

#[tokio::test]
async fn health_tells_what_works_and_how_far_the_work_is() {
    let app = App::start().await;
    app.chat("alice", "hello", None).await;
    app.settle().await;
    let answer = app.request(Method::GET, "/health").send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let health: Value = answer.json().await.unwrap();
    let workers = health["workers"].as_object().unwrap();
    assert_eq!(health.as_object().unwrap().len(), 6, "{health}");
    assert_eq!(
        (&health["status"], &health["database"], &health["llm"]),
        (&json!("healthy"), &json!(true), &json!(true))
    );
    assert!(health.get("redis").is_some_and(Value::is_null), "{health}");
    assert!(!health["version"].as_str().unwrap().is_empty());
    assert!(workers["running"].as_i64().unwrap() >= 1, "{health}");
    assert_eq!(
        (&workers["lag_events"], &workers["dead_jobs"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(workers["oldest_pending_seconds"].as_f64(), Some(0.0));
    assert_eq!(workers.len(), 4, "{health}");
}

#[tokio::test]
async fn health_is_degraded_without_a_worker_and_tells_what_is_waiting() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    app.chat("alice", "hello", None).await;
    let (status, health) = app.get("alice", "/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("degraded")));
    assert_eq!(health["workers"]["running"], 0);
    assert!(
        health["workers"]["lag_events"].as_i64().unwrap() > 0,
        "{health}"
    );
    let response = app
        .request_by("alice", Method::GET, "/conversations")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        response.headers().contains_key("x-projection-lag"),
        "an answer that may lack something says so"
    );
}

#[tokio::test]
async fn an_answer_that_lacks_nothing_does_not_speak_of_lag() {
    let app = App::start().await;
    app.chat("alice", "hello", None).await;
    app.settle().await;
    let response = app
        .request_by("alice", Method::GET, "/conversations")
        .send()
        .await
        .unwrap();
    assert!(!response.headers().contains_key("x-projection-lag"));
}

#[tokio::test]
async fn health_is_degraded_without_an_llm() {
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    llm.stop().await;
    let app = App::start_again(variables, llm).await;
    let (status, health) = app.get("alice", "/health").await;
    assert_eq!(
        (status, &health["status"], &health["llm"]),
        (200, &json!("degraded"), &json!(false))
    );
}

#[tokio::test]
async fn orchestrators_are_told_that_the_process_lives_and_is_ready() {
    let app = App::start().await;
    for path in ["/health/live", "/health/ready"] {
        assert_eq!(
            app.request(Method::GET, path)
                .send()
                .await
                .unwrap()
                .status(),
            200,
            "{path}"
        );
    }
}

#[tokio::test]
async fn without_its_database_the_service_says_so_and_lives() {
    let app = App::start().await;
    app.chat("alice", "hello", None).await;
    app.settle().await;
    app.core.pool.close().await;
    let (status, health) = app.get("alice", "/health").await;
    assert_eq!(
        (status, &health["status"], &health["database"]),
        (503, &json!("unhealthy"), &json!(false))
    );
    assert_eq!(app.get("alice", "/health/live").await.0, 200);
    assert_eq!(app.get("alice", "/health/ready").await.0, 503);
    let hello = json!({"message": "hello", "query": "hello"});
    for (status, problem) in [
        app.get("alice", "/conversations").await,
        app.get("alice", "/memories").await,
        app.post("alice", "/memories/search", &hello).await,
        app.post("alice", "/chat", &hello).await,
    ] {
        assert_eq!(
            (status, &problem["code"]),
            (503, &json!("database_unavailable")),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn the_openapi_document_has_every_operation() {
    let app = App::start().await;
    let response = app
        .request(Method::GET, "/openapi.json")
        .send()
        .await
        .unwrap();
    assert!(
        response.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("application/json")
    );
    let document: Value = response.json().await.unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for (path, method) in [
        ("/chat", "post"),
        ("/conversations", "get"),
        ("/conversations/{id}", "get"),
        ("/conversations/{id}", "patch"),
        ("/conversations/{id}", "delete"),
        ("/conversations/{id}/messages", "get"),
        ("/conversations/{id}/summary", "post"),
        ("/conversations/import", "post"),
        ("/conversation/reset", "post"),
        ("/memory/clear", "post"),
        ("/memories", "get"),
        ("/memories", "post"),
        ("/memories/{id}", "get"),
        ("/memories/{id}", "patch"),
        ("/memories/{id}", "delete"),
        ("/memories/{id}/history", "get"),
        ("/memories/search", "post"),
        ("/replies/{id}/explain", "get"),
        ("/export", "get"),
        ("/import", "post"),
        ("/health", "get"),
        ("/health/live", "get"),
        ("/health/ready", "get"),
    ] {
        let operation = &document["paths"][path][method];
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{method} {path}"
        );
        let success = ["200", "201", "204"];
        let mut success = success.iter().map(|status| &operation["responses"][status]);
        assert!(success.any(Value::is_object), "{method} {path}");
    }
    let refs = document.to_string();
    for (at, _) in refs.match_indices("\"$ref\":\"#/components/schemas/") {
        let name = refs[at + 29..].split('"').next().unwrap();
        assert!(
            document["components"]["schemas"][name].is_object(),
            "{name} is referred to and missing"
        );
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_told_with_those_that_it_takes() {
    let app = App::start().await;
    for (path, allowed) in [
        (
            "/memories/6f1d3c52-9f0b-4c1e-8f57-2a64d7c190ab",
            "DELETE, GET, PATCH",
        ),
        ("/memories", "GET, POST"),
        ("/conversations/import", "POST"),
        ("/memory/clear", "POST"),
    ] {
        let request = app.request_by("alice", Method::PUT, path);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(response.headers()["allow"], allowed, "{path}");
    }
}

#[tokio::test]
async fn the_documentation_works_without_the_internet() {
    let app = App::start().await;
    for path in ["/docs", "/redoc"] {
        let page = page(&app, path).await;
        assert!(page.len() > 100_000, "{path} brings its scripts along");
        // What the browser loads of itself: attributes of tags, outside of scripts, and imports of styles.
        let mut outside = String::new();
        for (n, part) in page.split("<script").enumerate() {
            let (tag, rest) = if n == 0 {
                ("", part)
            } else {
                part.split_once('>').unwrap()
            };
            outside += tag;
            outside += if n == 0 {
                rest
            } else {
                rest.rsplit("</script>").next().unwrap()
            };
        }
        for load in [
            "src=\"http",
            "src='http",
            "src=http",
            "src=\"//",
            "href=\"http",
            "href='http",
            "href=\"//",
            "@import",
            "url(http",
            "url(\"http",
            "url(//",
        ] {
            assert!(!outside.contains(load), "{path} loads {load}");
        }
        assert!(
            !page.contains("cdn.redoc.ly") && !page.contains("fonts.googleapis.com"),
            "{path} loads from elsewhere"
        );
    }
}

#[tokio::test]
async fn a_projection_that_failed_catches_up_without_another_event() {
    // No event follows the turn: reading it for facts is put off.
    let app = App::start_with(&[("MEMORY_EXTRACTION_DELAY_SECONDS", "3600")]).await;
    let mut lock = app.core.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE conversations IN SHARE MODE")
        .execute(&mut *lock)
        .await
        .unwrap();
    app.chat("alice", "hello", None).await;
    // The lock has no transaction id, so it does not hold the feed back. The projection waits for it; its connection is cut off in the middle of its transaction.
    // Three times, so that at the last the whole turn was in the page.
    for _ in 0..3 {
        eventually(|| async {
            let waits = database::waiting(&app.core.pool, "conversations").await;
            let (process, _) = waits.first().ok_or("nobody waits")?;
            let cut: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1)")
                .bind(process)
                .fetch_one(&app.core.pool)
                .await
                .unwrap();
            if cut {
                Ok(())
            } else {
                Err("it is gone".to_owned())
            }
        })
        .await;
    }
    lock.rollback().await.unwrap();
    eventually(|| async {
        let (_, list) = app.get("alice", "/conversations").await;
        if list["total"] == 1 {
            Ok(())
        } else {
            Err(list.to_string())
        }
    })
    .await;
}
