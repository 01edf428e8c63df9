//! Tokens: which are accepted, and what they can be exchanged for.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::Utc;
use companion_tests::app::{App, status_and_json};
use companion_tests::eventually::eventually;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::steps::{expect, refused};

pub(crate) const SECRET: &str = "a secret for tests, of more than 32 bytes";
const RSA: &str = include_str!("../../domain/adapters/src/fixtures/rs256.pem");
const RSA_PUBLIC: &str = include_str!("../../domain/adapters/src/fixtures/rs256.pub.pem");
const ED25519: &str = include_str!("../../domain/adapters/src/fixtures/eddsa.pem");
const ED25519_PUBLIC: &str = include_str!("../../domain/adapters/src/fixtures/eddsa.pub.pem");

/// A service whose secret the tests know, and that may be called as often as they want.
pub(crate) async fn service(overrides: &[(&str, &str)]) -> App {
    let mut all = vec![
        ("JWT_SECRET_KEY", SECRET),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "10000"),
    ];
    all.extend(overrides);
    App::start_with(&all).await
}

/// Claims that are accepted, with some replaced, or taken away by null.
pub(crate) fn claims(user: &str, overrides: &Value) -> Value {
    let now = Utc::now().timestamp();
    let mut claims = json!({"sub": user, "iat": now, "exp": now + 3600, "type": "access_token"});
    for (name, value) in overrides.as_object().unwrap() {
        let claims = claims.as_object_mut().unwrap();
        if value.is_null() {
            claims.remove(name);
        } else {
            claims.insert(name.clone(), value.clone());
        }
    }
    claims
}

pub(crate) fn signed_by(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

/// A token of these claims as the service itself signs them.
pub(crate) fn signed(claims: &Value) -> String {
    signed_by(
        Algorithm::HS256,
        &EncodingKey::from_secret(SECRET.as_bytes()),
        claims,
    )
}

/// A token of a user.
pub(crate) fn token(user: &str) -> String {
    signed(&claims(user, &json!({})))
}

fn admin() -> String {
    signed(&claims("root", &json!({"scope": "notes admin"})))
}

pub(crate) fn bearing(app: &App, token: &str, method: Method, path: &str) -> RequestBuilder {
    app.request(method, path)
        .header("Authorization", format!("Bearer {token}"))
}

/// Checks that a token is refused, in the form of every 401.
async fn assert_refused(app: &App, token: &str, case: &str) {
    let request = bearing(app, token, Method::GET, "/conversations");
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 401, "{case}");
    assert_eq!(response.headers()["www-authenticate"], "Bearer", "{case}");
    let (_, problem) = status_and_json(response).await;
    assert_eq!(problem["code"], "unauthorized", "{case}");
    let body = json!({ "token": token });
    let validate = app.request(Method::POST, "/auth/validate").json(&body);
    let judged = expect(validate, 200).await;
    let nothing = json!({"valid": false, "user_id": null, "expires_at": null});
    assert_eq!(judged, nothing, "{case}");
}

async fn assert_accepted(app: &App, token: &str, user: &str, case: &str) {
    let request = bearing(app, token, Method::GET, "/conversations");
    let (status, body) = status_and_json(request.send().await.unwrap()).await;
    assert_eq!(status, 200, "{case}: {body}");
    let body = json!({ "token": token });
    let validate = app.request(Method::POST, "/auth/validate").json(&body);
    let judged = expect(validate, 200).await;
    assert_eq!(judged["valid"], true, "{case}: {judged}");
    assert_eq!(judged["user_id"], user, "{case}: {judged}");
    chrono::DateTime::parse_from_rfc3339(judged["expires_at"].as_str().unwrap()).unwrap();
}

#[tokio::test]
async fn a_token_with_the_right_claims_is_accepted() {
    let app = service(&[]).await;
    let now = Utc::now().timestamp();
    for overrides in [
        json!({}),
        json!({"type": null}),
        json!({"iat": null}),
        json!({"exp": now - 10}),
        json!({"iat": now + 10}),
        json!({"nbf": now + 10}),
        json!({"nbf": now - 10, "jti": "x", "extra": {"a": [1]}}),
        json!({"exp": now as f64 + 3600.5}),
        json!({"scope": "admin"}),
        json!({"aud": ["somebody else"], "iss": "anybody"}),
    ] {
        let token = signed(&claims("al.ice@example:1", &overrides));
        assert_accepted(&app, &token, "al.ice@example:1", &overrides.to_string()).await;
    }
}

#[tokio::test]
async fn a_token_with_a_wrong_claim_is_401_and_never_a_fault() {
    let app = service(&[]).await;
    let now = Utc::now().timestamp();
    for overrides in [
        json!({"sub": null}),
        json!({"exp": null}),
        json!({"exp": now - 60}),
        json!({"exp": 0}),
        json!({"exp": -1}),
        json!({"iat": now + 3600}),
        json!({"nbf": now + 3600}),
        json!({"type": "refresh_token"}),
        json!({"type": ""}),
        json!({"type": 1}),
        json!({"sub": 7}),
        json!({"sub": ["alice"]}),
        json!({"sub": {"a": 1}}),
        json!({"sub": ""}),
        json!({"sub": "al ice"}),
        json!({"sub": "alice\0"}),
        json!({"sub": "ålice"}),
        json!({"sub": "a".repeat(129)}),
        json!({"exp": "tomorrow"}),
        json!({"exp": true}),
        json!({"exp": [now + 3600]}),
        json!({"exp": 1e300}),
        json!({"exp": u64::MAX}),
        json!({"exp": i64::MAX}),
        json!({"iat": "now"}),
        json!({"iat": {}}),
        json!({"nbf": "never"}),
        json!({"scope": ["admin"]}),
    ] {
        let token = signed(&claims("alice", &overrides));
        assert_refused(&app, &token, &overrides.to_string()).await;
    }
}

#[tokio::test]
async fn a_token_that_is_not_signed_as_configured_is_401() {
    let app = service(&[]).await;
    let good = claims("alice", &json!({}));
    let none = |header: &str, signature: &str| {
        let [header, claims] =
            [header.to_owned(), good.to_string()].map(|part| BASE64.encode(part));
        format!("{header}.{claims}.{signature}")
    };
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let right = signed(&good);
    let (start, signature) = right.rsplit_once('.').unwrap();
    for (token, case) in [
        (none(r#"{"alg":"none"}"#, ""), "none"),
        (
            none(r#"{"alg":"none"}"#, signature),
            "none with a signature",
        ),
        (none(r#"{"alg":"NONE"}"#, ""), "NONE"),
        (none(r#"{"alg":"HS256"}"#, ""), "no signature"),
        (none("{}", ""), "no algorithm"),
        (none("[]", ""), "no object"),
        (signed_by(Algorithm::HS512, &secret, &good), "HS512"),
        (signed_by(Algorithm::HS384, &secret, &good), "HS384"),
        (
            signed_by(
                Algorithm::RS256,
                &EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(),
                &good,
            ),
            "RS256",
        ),
        (
            signed_by(
                Algorithm::HS256,
                &EncodingKey::from_secret(b"another"),
                &good,
            ),
            "another secret",
        ),
        (
            signed_by(Algorithm::HS256, &EncodingKey::from_secret(b""), &good),
            "an empty secret",
        ),
        (format!("{start}."), "cut off"),
        (start.to_owned(), "two parts"),
        (format!("{right}.x"), "four parts"),
        (format!("{}x{right}", ""), "altered"),
        ("..".to_owned(), "dots"),
        ("nonsense".to_owned(), "nonsense"),
        ("x".repeat(8000), "long nonsense"),
        ("x".repeat(9000), "longer than any token"),
    ] {
        assert_refused(&app, &token, case).await;
    }
    assert_accepted(&app, &right, "alice", "the control").await;
}

#[tokio::test]
async fn tokens_of_an_identity_provider_are_checked_and_none_are_made() {
    for (algorithm, name, private, public) in [
        (
            Algorithm::RS256,
            "RS256",
            EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap(),
            RSA_PUBLIC,
        ),
        (
            Algorithm::EdDSA,
            "EdDSA",
            EncodingKey::from_ed_pem(ED25519.as_bytes()).unwrap(),
            ED25519_PUBLIC,
        ),
    ] {
        let app = service(&[("JWT_ALGORITHM", name), ("JWT_PUBLIC_KEY", public)]).await;
        let good = claims("alice", &json!({"type": null}));
        let token = signed_by(algorithm, &private, &good);
        assert_accepted(&app, &token, "alice", name).await;
        let exchange = bearing(&app, &token, Method::POST, "/auth/token").json(&json!({}));
        refused(exchange, 403, "tokens_issued_elsewhere").await;
        // What everybody knows of the key must not do as a secret.
        for secret in [public, public.trim(), SECRET] {
            let key = EncodingKey::from_secret(secret.as_bytes());
            let forged = signed_by(Algorithm::HS256, &key, &good);
            assert_refused(&app, &forged, "HS256 with the public key").await;
        }
    }
}

#[tokio::test]
async fn issuer_and_audience_are_checked_when_they_are_configured() {
    let app = service(&[
        ("JWT_ISSUER", "https://id.example"),
        ("JWT_AUDIENCE", "companion"),
    ])
    .await;
    for (overrides, accepted) in [
        (
            json!({"iss": "https://id.example", "aud": "companion"}),
            true,
        ),
        (
            json!({"iss": "https://id.example", "aud": ["x", "companion"]}),
            true,
        ),
        (json!({"iss": "https://id.example"}), false),
        (json!({"aud": "companion"}), false),
        (
            json!({"iss": "https://id.example/", "aud": "companion"}),
            false,
        ),
        (
            json!({"iss": ["https://id.example"], "aud": "companion"}),
            false,
        ),
        (json!({"iss": "https://id.example", "aud": []}), false),
        (json!({"iss": "https://id.example", "aud": {"a": 1}}), false),
    ] {
        let token = signed(&claims("alice", &overrides));
        let case = overrides.to_string();
        if accepted {
            assert_accepted(&app, &token, "alice", &case).await;
        } else {
            assert_refused(&app, &token, &case).await;
        }
    }
    // Its own tokens are good enough for itself.
    let made = expect(
        app.request_by("alice", Method::POST, "/auth/token")
            .json(&json!({})),
        200,
    )
    .await;
    assert_accepted(
        &app,
        made["access_token"].as_str().unwrap(),
        "alice",
        "made here",
    )
    .await;
}

#[tokio::test]
async fn any_credential_is_exchanged_for_a_token_of_the_same_user() {
    let app = service(&[]).await;
    let key = app
        .post("alice", "/auth/api-keys", &json!({"name": "k"}))
        .await
        .1;
    let key = key["key"].as_str().unwrap();
    let path = "/auth/token";
    for request in [
        app.request_by("alice", Method::POST, path),
        app.request(Method::POST, path).header("X-API-Key", key),
        bearing(&app, &token("alice"), Method::POST, path),
    ] {
        let answer = expect(request.json(&json!({})), 200).await;
        assert_eq!(answer.as_object().unwrap().len(), 4, "{answer}");
        assert_eq!(answer["token_type"], "bearer");
        assert_eq!(answer["expires_in"], 24 * 3600);
        assert_eq!(answer["user_id"], "alice");
        let token = answer["access_token"].as_str().unwrap();
        assert_accepted(&app, token, "alice", "exchanged").await;
    }
    refused(
        app.request(Method::POST, path).json(&json!({})),
        401,
        "unauthorized",
    )
    .await;
}

#[tokio::test]
async fn only_an_admin_gets_a_token_of_another_user_and_it_is_no_admins() {
    let app = service(&[]).await;
    let path = "/auth/token";
    let named = |user: &str| json!({ "user_id": user });
    for scope in [
        json!(null),
        json!(""),
        json!("administrator"),
        json!("Admin"),
        json!("x,admin"),
    ] {
        let token = signed(&claims("mallory", &json!({ "scope": scope })));
        let request = bearing(&app, &token, Method::POST, path).json(&named("alice"));
        refused(request, 403, "admin_only").await;
        let own = bearing(&app, &token, Method::POST, path).json(&named("mallory"));
        assert_eq!(expect(own, 200).await["user_id"], "mallory");
    }
    let by_name = app
        .request_by("mallory", Method::POST, path)
        .json(&named("alice"));
    refused(by_name, 403, "admin_only").await;
    let request = bearing(&app, &admin(), Method::POST, path).json(&named("alice"));
    let answer = expect(request, 200).await;
    assert_eq!(answer["user_id"], "alice");
    let hers = answer["access_token"].as_str().unwrap();
    assert_accepted(&app, hers, "alice", "made by the admin").await;
    let request = bearing(&app, hers, Method::POST, path).json(&named("bob"));
    refused(request, 403, "admin_only").await;
    for user in ["", "a b", "ä", &"x".repeat(129)] {
        let request = bearing(&app, &admin(), Method::POST, path).json(&named(user));
        let problem = expect(request, 422).await;
        assert_eq!(problem["errors"][0]["field"], "user_id", "{user}");
    }
}

#[tokio::test]
async fn a_token_lives_as_long_as_was_asked_for_within_a_year() {
    let app = service(&[("JWT_EXPIRATION_HOURS", "2")]).await;
    let ask = |hours: Value| {
        let body = json!({ "expires_in_hours": hours });
        app.request_by("alice", Method::POST, "/auth/token")
            .json(&body)
    };
    for (hours, seconds) in [
        (json!(null), 7200),
        (json!(1), 3600),
        (json!(0.5), 1800),
        (json!(0.0001), 1),
        (json!(1e-300), 1),
        (json!(8760), 8760 * 3600),
    ] {
        let answer = expect(ask(hours.clone()), 200).await;
        assert_eq!(answer["expires_in"], seconds, "{hours}");
        let body = json!({"token": answer["access_token"]});
        let judged = app.request(Method::POST, "/auth/validate").json(&body);
        let at = expect(judged, 200).await["expires_at"].clone();
        let at = chrono::DateTime::parse_from_rfc3339(at.as_str().unwrap()).unwrap();
        let left = at.timestamp() - Utc::now().timestamp();
        assert!(left <= seconds && left > seconds - 20, "{hours}: {left}");
    }
    for hours in [
        json!(0),
        json!(-1),
        json!(8760.01),
        json!(1e308),
        json!("1"),
        json!(true),
    ] {
        let problem = expect(ask(hours.clone()), 422).await;
        assert_eq!(problem["errors"][0]["field"], "expires_in_hours", "{hours}");
    }
}

#[tokio::test]
async fn credentials_from_before_an_erasure_are_401_and_a_new_one_begins_empty() {
    let app = service(&[]).await;
    let conversation = app.chat("alice", "remember me", None).await.conversation_id;
    let key = app
        .post("alice", "/auth/api-keys", &json!({"name": "k"}))
        .await
        .1;
    let key = key["key"].as_str().unwrap();
    let before = token("alice");
    assert_accepted(&app, &before, "alice", "before").await;
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    let erased: i64 =
        sqlx::query_scalar("SELECT floor(extract(epoch FROM erased_at))::bigint FROM erasures")
            .fetch_one(&app.core.pool)
            .await
            .unwrap();
    assert_refused(&app, &before, "made before").await;
    for iat in [
        json!(null),
        json!(erased - 1),
        json!(erased),
        json!(erased as f64 + 0.9),
    ] {
        let token = signed(&claims("alice", &json!({ "iat": iat })));
        assert_refused(&app, &token, &format!("iat {iat}")).await;
    }
    let by_key = app
        .request(Method::GET, "/conversations")
        .header("X-API-Key", key);
    refused(by_key, 401, "unauthorized").await;
    let after = signed(&claims("alice", &json!({"iat": erased + 1})));
    assert_accepted(&app, &after, "alice", "made a second later").await;
    let list = expect(bearing(&app, &after, Method::GET, "/conversations"), 200).await;
    assert_eq!(list["total"], 0);
    let keys = expect(bearing(&app, &after, Method::GET, "/auth/api-keys"), 200).await;
    assert_eq!(keys["api_keys"], json!([]));
    let body = json!({"message": "hello", "conversation_id": conversation});
    let old = bearing(&app, &after, Method::POST, "/chat").json(&body);
    refused(old, 404, "not_found").await;
    let again = bearing(&app, &after, Method::POST, "/chat").json(&json!({"message": "hello"}));
    assert_eq!(again.send().await.unwrap().status(), 200);
    // Also those that the service makes itself, as soon as the second is over.
    eventually(|| async {
        let made = app.post("alice", "/auth/token", &json!({})).await.1;
        let made = made["access_token"].as_str().unwrap().to_owned();
        let request = bearing(&app, &made, Method::GET, "/conversations");
        match request.send().await.unwrap().status().as_u16() {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    // Others are not concerned.
    assert_accepted(&app, &token("bob"), "bob", "another user").await;
}

#[tokio::test]
async fn another_process_takes_an_erased_user_in_anew() {
    let app = service(&[]).await;
    let another = crate::steps::another(&app).await;
    // Both processes know the user's key.
    app.chat("alice", "hello", None).await;
    another.chat("alice", "hello", None).await;
    app.settle().await;
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    let fresh = another.chat("alice", "hello again", None).await;
    assert_eq!(fresh.text, crate::steps::GREETING);
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    let body = json!({"name": "k"});
    let issue = another.request_by("alice", Method::POST, "/auth/api-keys");
    expect(issue.json(&body), 201).await;
}
