//! Keys for programs: issued, used, listed, revoked.

use companion_tests::app::{App, variables};
use companion_tests::llm::ScriptedLlm;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::steps::{another, expect, refused};

const PATH: &str = "/auth/api-keys";

async fn issue(app: &App, user: &str, name: &str) -> (String, String) {
    let (status, key) = app.post(user, PATH, &json!({ "name": name })).await;
    assert_eq!(status, 201, "{key}");
    assert_eq!(key.as_object().unwrap().len(), 4, "{key}");
    assert_eq!(key["name"], name);
    chrono::DateTime::parse_from_rfc3339(key["created_at"].as_str().unwrap()).unwrap();
    let text = |field: &str| key[field].as_str().unwrap().to_owned();
    (text("id"), text("key"))
}

fn with(app: &App, key: &str, method: Method, path: &str) -> RequestBuilder {
    app.request(method, path).header("X-API-Key", key)
}

async fn listed(app: &App, user: &str) -> Vec<Value> {
    let (status, list) = app.get(user, PATH).await;
    assert_eq!(status, 200, "{list}");
    list["api_keys"].as_array().unwrap().clone()
}

/// Issues, uses, lists and revokes keys of a service.
async fn live_through(app: &App) {
    let (id, key) = issue(app, "alice", "the first").await;
    let parts: Vec<&str> = key.split('_').collect();
    assert_eq!((parts.len(), parts[0], parts[1]), (3, "ck", id.as_str()));
    id.parse::<Uuid>().unwrap();
    let secret = parts[2];
    assert_eq!(
        (secret.len(), secret.bytes().all(|c| c.is_ascii_hexdigit())),
        (64, true)
    );
    let fresh = &listed(app, "alice").await[0];
    assert_eq!(
        (&fresh["id"], &fresh["name"]),
        (&json!(id), &json!("the first"))
    );
    assert_eq!(fresh["last_used_at"], Value::Null);
    assert_eq!(fresh.as_object().unwrap().len(), 4, "{fresh}");
    expect(with(app, &key, Method::GET, "/conversations"), 200).await;
    assert!(listed(app, "alice").await[0]["last_used_at"].is_string());
    let (second, other) = issue(app, "alice", "the second").await;
    assert_ne!(key, other);
    let names: Vec<Value> = listed(app, "alice")
        .await
        .iter()
        .map(|k| k["name"].clone())
        .collect();
    assert_eq!(names, ["the first", "the second"]);
    assert!(listed(app, "bob").await.is_empty());
    let of = |id: &str| format!("{PATH}/{id}");
    for path in [
        of(&id),
        of(&Uuid::now_v7().to_string()),
        of("nonsense"),
        of(&key),
    ] {
        refused(
            app.request_by("bob", Method::DELETE, &path),
            404,
            "not_found",
        )
        .await;
    }
    expect(with(app, &key, Method::GET, "/conversations"), 200).await;
    // A key may revoke another, and itself.
    expect(with(app, &other, Method::DELETE, &of(&id)), 204).await;
    refused(
        with(app, &key, Method::GET, "/conversations"),
        401,
        "unauthorized",
    )
    .await;
    refused(
        app.request_by("alice", Method::DELETE, &of(&id)),
        404,
        "not_found",
    )
    .await;
    assert_eq!(listed(app, "alice").await.len(), 1);
    expect(with(app, &other, Method::DELETE, &of(&second)), 204).await;
    refused(
        with(app, &other, Method::GET, "/conversations"),
        401,
        "unauthorized",
    )
    .await;
    assert!(listed(app, "alice").await.is_empty());
}

#[tokio::test]
async fn a_key_lives_from_its_issue_to_its_revocation() {
    let app = App::start().await;
    live_through(&app).await;
    // What is projected late brings nothing back.
    app.settle().await;
    assert!(listed(&app, "alice").await.is_empty());
}

#[tokio::test]
async fn a_key_works_at_once_with_no_worker_running() {
    let llm = ScriptedLlm::start().await;
    live_through(&App::start_api_only(variables(&llm, &[]).await, llm).await).await;
}

#[tokio::test]
async fn every_process_knows_at_once_what_is_issued_and_revoked() {
    let app = App::start().await;
    let another = another(&app).await;
    let (id, key) = issue(&app, "alice", "k").await;
    expect(with(&another, &key, Method::GET, "/conversations"), 200).await;
    expect(
        app.request_by("alice", Method::DELETE, &format!("{PATH}/{id}")),
        204,
    )
    .await;
    refused(
        with(&another, &key, Method::GET, "/conversations"),
        401,
        "unauthorized",
    )
    .await;
}

#[tokio::test]
async fn the_name_of_a_key_has_1_to_100_characters() {
    let app = App::start().await;
    for body in [
        json!({}),
        json!({"name": null}),
        json!({"name": ""}),
        json!({"name": "  "}),
        json!({"name": "x".repeat(101)}),
        json!({"name": "a\0b"}),
        json!({"name": 7}),
    ] {
        let request = app.request_by("alice", Method::POST, PATH).json(&body);
        let problem = expect(request, 422).await;
        assert_eq!(problem["errors"][0]["field"], "name", "{body}");
    }
    assert!(listed(&app, "alice").await.is_empty());
    issue(&app, "alice", &"🎉".repeat(100)).await;
}

/// In how many rows of the whole database a text is, as text or in bytes.
async fn rows_with(app: &App, text: &str) -> i64 {
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT schemaname::text, tablename::text FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(&app.core.pool)
    .await
    .unwrap();
    assert!(tables.len() > 10, "{tables:?}");
    let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = 0;
    for (schema, table) in tables {
        // A row as text shows bytes in hexadecimal.
        let sql = format!(
            "SELECT count(*) FROM \"{schema}\".\"{table}\" t WHERE t::text ILIKE $1 OR t::text ILIKE $2"
        );
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(format!("%{text}%"))
            .bind(format!("%{hexadecimal}%"))
            .fetch_one(&app.core.pool)
            .await
            .unwrap();
        found += rows;
    }
    found
}

#[tokio::test]
async fn the_secret_of_a_key_is_nowhere_in_the_database() {
    let app = App::start().await;
    let (id, key) = issue(&app, "alice", "k").await;
    expect(with(&app, &key, Method::GET, "/conversations"), 200).await;
    let chat = with(&app, &key, Method::POST, "/chat").header("Idempotency-Key", "a-key");
    expect(
        chat.json(&json!({"message": "hello"}))
            .header("Accept", "application/json"),
        200,
    )
    .await;
    app.settle().await;
    assert!(
        rows_with(&app, &id).await > 0,
        "the search finds what is there"
    );
    assert!(rows_with(&app, "a-key").await > 0);
    let secret = key.rsplit_once('_').unwrap().1;
    assert_eq!(rows_with(&app, secret).await, 0);
    assert_eq!(rows_with(&app, &secret.to_uppercase()).await, 0);
}
