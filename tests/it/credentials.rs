//! Which credential of a request counts, and that no other takes its place.

use companion_tests::app::{App, status_and_json};
use reqwest::header::HeaderValue;
use reqwest::{Method, RequestBuilder};
use serde_json::json;

use crate::steps::{expect, refused};
use crate::tokens::{SECRET, service, token};

async fn api_key(app: &App, user: &str) -> String {
    let (status, key) = app
        .post(user, "/auth/api-keys", &json!({"name": "k"}))
        .await;
    assert_eq!(status, 201, "{key}");
    key["key"].as_str().unwrap().to_owned()
}

/// Asks who the service takes the caller for.
fn who(app: &App) -> RequestBuilder {
    app.request(Method::POST, "/auth/token").json(&json!({}))
}

async fn assert_is(request: RequestBuilder, user: &str) {
    assert_eq!(expect(request, 200).await["user_id"], user);
}

async fn assert_401(request: RequestBuilder, case: &str) {
    let response = request.send().await.unwrap();
    let challenge = response.headers().get("www-authenticate").cloned();
    let (status, problem) = status_and_json(response).await;
    assert_eq!(
        (status, &problem["code"]),
        (401, &json!("unauthorized")),
        "{case}: {problem}"
    );
    assert_eq!(
        challenge,
        Some(HeaderValue::from_static("Bearer")),
        "{case}"
    );
}

#[tokio::test]
async fn the_first_credential_counts_and_later_ones_are_not_even_looked_at() {
    let app = service(&[]).await;
    let (bearer, key) = (
        format!("Bearer {}", token("alice")),
        api_key(&app, "bob").await,
    );
    assert_is(who(&app).header("Authorization", &bearer), "alice").await;
    assert_is(who(&app).header("X-API-Key", &key), "bob").await;
    assert_is(who(&app).header("X-User-Id", "carol"), "carol").await;
    let all = |bearer: &str, key: &str, user: &str| {
        who(&app)
            .header("X-User-Id", user)
            .header("X-API-Key", key)
            .header("Authorization", bearer)
    };
    assert_is(all(&bearer, &key, "carol"), "alice").await;
    assert_is(all(&bearer, "nonsense", "not an id!"), "alice").await;
    assert_is(
        who(&app)
            .header("X-API-Key", &key)
            .header("X-User-Id", "not an id!"),
        "bob",
    )
    .await;
    assert_is(
        who(&app).header("Authorization", bearer.replace("Bearer", "bEARER")),
        "alice",
    )
    .await;
}

#[tokio::test]
async fn an_invalid_credential_is_401_whatever_valid_one_follows() {
    let app = service(&[]).await;
    let (good, key) = (token("alice"), api_key(&app, "alice").await);
    let bytes = |value: &[u8]| HeaderValue::from_bytes(value).unwrap();
    for value in [
        bytes(b"Basic YWxpY2U6c2VjcmV0"),
        bytes(format!("Basic {good}").as_bytes()),
        bytes(format!("Token {good}").as_bytes()),
        bytes(good.as_bytes()),
        bytes(b"Bearer"),
        bytes(b"Bearer "),
        bytes(b"Bearer nonsense"),
        bytes(format!("Bearer {good} {good}").as_bytes()),
        bytes(format!("Bearer {good},").as_bytes()),
        bytes(b"Bearer \xff\xfe"),
        bytes(b"Bearer undefined"),
        bytes(b""),
    ] {
        let case = format!("{value:?}");
        let request = who(&app)
            .header("Authorization", value)
            .header("X-API-Key", &key);
        assert_401(request.header("X-User-Id", "alice"), &case).await;
    }
    let (start, secret) = key.rsplit_once('_').unwrap();
    for value in [
        bytes(b"nonsense"),
        bytes(b"user_alice_x"),
        bytes(b"ck_alice_x"),
        bytes(b""),
        bytes(b"\xff"),
        bytes(start.as_bytes()),
        bytes(format!("{start}_").as_bytes()),
        bytes(format!("{start}_{}", "0".repeat(secret.len())).as_bytes()),
        bytes(format!("{start}_{}", &secret[1..]).as_bytes()),
        bytes(format!("{key}0").as_bytes()),
        bytes(secret.as_bytes()),
        bytes(good.as_bytes()),
    ] {
        let case = format!("{value:?}");
        let request = who(&app).header("X-API-Key", value);
        assert_401(request.header("X-User-Id", "alice"), &case).await;
    }
    assert_is(who(&app).header("X-API-Key", &key), "alice").await;
}

#[tokio::test]
async fn a_credential_that_is_sent_twice_is_401() {
    let app = service(&[]).await;
    let (bearer, key) = (
        format!("Bearer {}", token("alice")),
        api_key(&app, "alice").await,
    );
    for (name, value) in [
        ("Authorization", bearer.as_str()),
        ("X-API-Key", key.as_str()),
        ("X-User-Id", "alice"),
    ] {
        let once = who(&app).header(name, value);
        assert_is(once.try_clone().unwrap(), "alice").await;
        assert_401(once.header(name, value), name).await;
    }
    // Which of the two would it be?
    let two = who(&app)
        .header("X-User-Id", "alice")
        .header("X-User-Id", "bob");
    assert_401(two, "two users").await;
}

#[tokio::test]
async fn without_any_credential_it_is_401() {
    let app = service(&[]).await;
    assert_401(who(&app), "nothing").await;
    assert_401(
        who(&app).header("X-User-Id", ""),
        "an empty name counts as none",
    )
    .await;
    for (method, path) in [
        (Method::POST, "/chat"),
        (Method::GET, "/conversations"),
        (Method::GET, "/memories"),
        (Method::DELETE, "/users/me"),
        (Method::GET, "/auth/api-keys"),
    ] {
        assert_401(app.request(method, path), path).await;
    }
}

#[tokio::test]
async fn a_name_that_is_no_user_id_is_422() {
    let app = service(&[]).await;
    for name in ["a b", "a/b", "ü", "a,b", &"x".repeat(129)] {
        let value = HeaderValue::from_bytes(name.as_bytes()).unwrap();
        let problem = expect(who(&app).header("X-User-Id", value), 422).await;
        assert_eq!(problem["errors"][0]["field"], "X-User-Id", "{name}");
    }
    assert_is(
        who(&app).header("X-User-Id", "x".repeat(128)),
        &"x".repeat(128),
    )
    .await;
}

#[tokio::test]
async fn production_takes_tokens_and_keys_and_no_mere_names() {
    let app = service(&[("ENVIRONMENT", "production")]).await;
    assert_401(who(&app).header("X-User-Id", "alice"), "a mere name").await;
    let bearer = format!("Bearer {}", token("alice"));
    let request = app
        .request(Method::POST, "/auth/api-keys")
        .json(&json!({"name": "k"}));
    let key = expect(request.header("Authorization", &bearer), 201).await;
    assert_is(
        who(&app).header("X-API-Key", key["key"].as_str().unwrap()),
        "alice",
    )
    .await;
    // A name beside a credential is nobody's.
    let both = who(&app)
        .header("Authorization", &bearer)
        .header("X-User-Id", "bob");
    assert_is(both, "alice").await;
    let chat = app
        .request(Method::POST, "/chat")
        .json(&json!({"message": "hello"}));
    let said = chat.header("Authorization", &bearer).send().await.unwrap();
    assert_eq!(said.status(), 200);
}

#[tokio::test]
async fn without_authentication_the_name_counts_or_the_default_user() {
    let app = App::start_with(&[
        ("JWT_SECRET_KEY", SECRET),
        ("REQUIRE_AUTHENTICATION", "false"),
        ("ALLOW_X_USER_ID_AUTH", "false"),
    ])
    .await;
    assert_is(who(&app), "default_user").await;
    assert_is(who(&app).header("X-User-Id", ""), "default_user").await;
    assert_is(who(&app).header("X-User-Id", "alice"), "alice").await;
    let bad = who(&app).header("Authorization", "Bearer nonsense");
    refused(bad, 401, "unauthorized").await;
}
