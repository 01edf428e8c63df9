//! Which tokens are accepted and which are not.

use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "a secret for tests, 32 bytes long";
const RSA: &str = include_str!("../fixtures/rs256.pem");
const RSA_PUBLIC: &str = include_str!("../fixtures/rs256.pub.pem");
const P256: &str = include_str!("../fixtures/es256.pem");
const P256_PUBLIC: &str = include_str!("../fixtures/es256.pub.pem");
const ED25519: &str = include_str!("../fixtures/eddsa.pem");
const ED25519_PUBLIC: &str = include_str!("../fixtures/eddsa.pub.pem");
/// When the tests take place, in seconds.
const NOW: i64 = 1_700_000_000;

fn config(pairs: &[(&str, &str)]) -> Config {
    let variables = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_variables(variables.collect()).expect("a valid configuration")
}

/// What a service with these settings does; its secret is [`SECRET`] unless they say otherwise.
fn tokens(pairs: &[(&str, &str)]) -> Tokens {
    let mut all = vec![("JWT_SECRET_KEY", SECRET)];
    all.extend(pairs);
    Tokens::new(&config(&all)).expect("tokens")
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("a time")
}

fn alice() -> ExternalUserId {
    ExternalUserId::parse("alice").expect("an id")
}

/// Claims that are accepted at [`NOW`], with some replaced (or taken away by null).
fn claims(overrides: Value) -> Value {
    let mut claims = json!({"sub": "alice", "iat": NOW, "exp": NOW + 3600, "type": "access_token"});
    for (name, value) in overrides.as_object().expect("an object") {
        let object = claims.as_object_mut().expect("an object");
        match value {
            Value::Null => drop(object.remove(name)),
            value => drop(object.insert(name.clone(), value.clone())),
        }
    }
    claims
}

/// A token with these very parts, signed with HS256.
fn signed(header: &str, payload: &[u8], secret: &[u8]) -> String {
    let message = format!(
        "{}.{}",
        BASE64_URL.encode(header),
        BASE64_URL.encode(payload)
    );
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256);
    format!("{message}.{}", signature.expect("signed"))
}

/// A token of these claims, signed with [`SECRET`].
fn token(claims: &Value) -> String {
    signed(
        r#"{"alg":"HS256","typ":"JWT"}"#,
        claims.to_string().as_bytes(),
        SECRET.as_bytes(),
    )
}

/// What becomes at [`NOW`] of a token whose claims differ so from acceptable ones.
fn judged(overrides: Value) -> Result<Verified, Refused> {
    judged_by(&[], overrides)
}

fn judged_by(pairs: &[(&str, &str)], overrides: Value) -> Result<Verified, Refused> {
    tokens(pairs).verify_at(time(NOW), &token(&claims(overrides)))
}

#[test]
fn a_token_that_was_issued_is_accepted_and_says_who_when_and_how_long() {
    let tokens = tokens(&[]);
    let hour = Duration::from_secs(3600);
    let issued = tokens
        .issue_at(time(NOW), &alice(), hour, None)
        .expect("issued");
    let expected = Verified {
        user: alice(),
        issued_at: Some(time(NOW)),
        expires_at: time(NOW + 3600),
        admin: false,
    };
    assert_eq!(issued.expires_at, expected.expires_at);
    let verified = tokens.verify_at(time(NOW), issued.token.expose());
    assert_eq!(verified, Ok(expected));
    // And by the clock on the wall.
    let issued = tokens.issue(&alice(), hour, None).expect("issued");
    assert!(tokens.verify(issued.token.expose()).is_ok());
    assert!(!format!("{issued:?}").contains(issued.token.expose()));
    assert!(!format!("{tokens:?}").contains("secret for tests"));
}

#[test]
fn an_issued_token_carries_the_claims_of_the_contract() {
    let payload = |tokens: &Tokens, scope| {
        let issued = tokens.issue_at(time(NOW), &alice(), Duration::from_secs(60), scope);
        let token = issued.expect("issued").token;
        let payload = token
            .expose()
            .split('.')
            .nth(1)
            .expect("a payload")
            .to_owned();
        let bytes = BASE64_URL.decode(payload).expect("base64");
        serde_json::from_slice::<Value>(&bytes).expect("JSON")
    };
    assert_eq!(
        payload(&tokens(&[]), None),
        json!({"sub": "alice", "iat": NOW, "exp": NOW + 60, "type": "access_token"})
    );
    let named = tokens(&[("JWT_ISSUER", "me"), ("JWT_AUDIENCE", "you")]);
    assert_eq!(
        payload(&named, Some("admin  notes:read ")),
        json!({"sub": "alice", "iat": NOW, "exp": NOW + 60, "type": "access_token",
            "scope": "admin notes:read", "iss": "me", "aud": "you"})
    );
}

#[test]
fn a_lifetime_or_a_scope_that_is_none_is_refused() {
    let tokens = tokens(&[]);
    let issue = |seconds, scope| tokens.issue(&alice(), Duration::from_secs(seconds), scope);
    for seconds in [0, 8760 * 3600 + 1, u64::MAX] {
        assert_eq!(issue(seconds, None), Err(IssueError::Lifetime));
    }
    assert!(issue(1, None).is_ok() && issue(8760 * 3600, None).is_ok());
    for scope in ["", " ", "a,b", "a\tb", "a\"b", "ü"] {
        assert_eq!(issue(60, Some(scope)), Err(IssueError::Scope), "{scope:?}");
    }
    let long = "x".repeat(MAX_TOKEN_BYTES);
    assert_eq!(issue(60, Some(&long)), Err(IssueError::TooLong));
}

#[test]
fn admin_is_a_word_of_the_scope_and_nothing_like_it() {
    for (scope, admin) in [
        ("admin", true),
        ("notes admin", true),
        ("admin notes", true),
        ("", false),
        ("administrator", false),
        ("notes:admin", false),
        ("Admin", false),
        ("a,admin", false),
        ("notes\tadmin", false),
    ] {
        let verified = judged(json!({ "scope": scope })).expect(scope);
        assert_eq!(verified.admin, admin, "{scope:?}");
    }
    assert!(!judged(json!({})).expect("accepted").admin);
}

#[test]
fn a_token_without_a_signature_is_refused() {
    let payload = BASE64_URL.encode(claims(json!({})).to_string());
    for algorithm in ["none", "None", "NONE", "nOnE", ""] {
        let header = BASE64_URL.encode(json!({ "alg": algorithm }).to_string());
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{payload}.{signature}");
            let refused = tokens(&[]).verify_at(time(NOW), &token);
            assert_eq!(refused, Err(Refused::Malformed), "{algorithm}");
        }
        // Even when the rest is as it should be.
        let header = json!({ "alg": algorithm }).to_string();
        let payload = claims(json!({})).to_string();
        let token = signed(&header, payload.as_bytes(), SECRET.as_bytes());
        assert!(tokens(&[]).verify_at(time(NOW), &token).is_err());
    }
    let stripped = token(&claims(json!({})));
    let stripped = stripped.rsplit_once('.').expect("three parts").0;
    for token in [stripped.to_owned(), format!("{stripped}.")] {
        assert!(tokens(&[]).verify_at(time(NOW), &token).is_err());
    }
}

#[test]
fn another_algorithm_of_the_same_secret_is_refused() {
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims(json!({})), &key);
        let refused = tokens(&[]).verify_at(time(NOW), &token.expect("signed"));
        assert_eq!(refused, Err(Refused::Algorithm));
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for (algorithm, pem) in [
        ("RS256", RSA_PUBLIC),
        ("ES256", P256_PUBLIC),
        ("EdDSA", ED25519_PUBLIC),
    ] {
        let tokens = tokens(&[("JWT_ALGORITHM", algorithm), ("JWT_PUBLIC_KEY", pem)]);
        let der = tokens.public.try_get_as_bytes().expect("bytes").to_vec();
        for secret in [
            pem.as_bytes(),
            pem.trim().as_bytes(),
            &der,
            SECRET.as_bytes(),
        ] {
            let payload = claims(json!({})).to_string();
            let honest = signed(r#"{"alg":"HS256"}"#, payload.as_bytes(), secret);
            let refused = tokens.verify_at(time(NOW), &honest);
            assert_eq!(refused, Err(Refused::Algorithm), "{algorithm}");
            let header = json!({ "alg": algorithm }).to_string();
            let lying = signed(&header, payload.as_bytes(), secret);
            let refused = tokens.verify_at(time(NOW), &lying);
            assert_eq!(refused, Err(Refused::Signature), "{algorithm}");
        }
    }
}

#[test]
fn tokens_of_an_identity_provider_are_accepted_and_none_are_issued() {
    let rsa = EncodingKey::from_rsa_pem(RSA.as_bytes()).expect("a key");
    let ec = EncodingKey::from_ec_pem(P256.as_bytes()).expect("a key");
    let ed = EncodingKey::from_ed_pem(ED25519.as_bytes()).expect("a key");
    let keys = [
        ("RS256", RSA_PUBLIC, Algorithm::RS256, rsa),
        ("ES256", P256_PUBLIC, Algorithm::ES256, ec),
        ("EdDSA", ED25519_PUBLIC, Algorithm::EdDSA, ed),
    ];
    for (name, public, algorithm, key) in &keys {
        let tokens = tokens(&[("JWT_ALGORITHM", name), ("JWT_PUBLIC_KEY", public)]);
        let mut header = Header::new(*algorithm);
        header.kid = Some("key-1".to_owned());
        let claims = claims(json!({"type": null, "aud": ["somebody"], "iss": "https://id"}));
        let token = jsonwebtoken::encode(&header, &claims, key).expect("signed");
        assert_eq!(
            tokens.verify_at(time(NOW), &token).expect(name).user,
            alice()
        );
        assert_eq!(
            tokens.verify_at(time(NOW), &tampered(&token)),
            Err(Refused::Signature)
        );
        for (_, _, other, key) in keys.iter().filter(|other| other.0 != *name) {
            let token = jsonwebtoken::encode(&Header::new(*other), &claims, key);
            assert_eq!(
                tokens.verify_at(time(NOW), &token.expect("signed")),
                Err(Refused::Algorithm)
            );
        }
        let error = tokens.issue(&alice(), Duration::from_secs(60), None);
        let error = error.expect_err(name);
        assert!(error.to_string().contains("identity provider"), "{error}");
    }
}

/// The token with another user in it, and the signature of before.
fn tampered(token: &str) -> String {
    let parts: Vec<&str> = token.split('.').collect();
    let payload = BASE64_URL.decode(parts[1]).expect("base64");
    let payload = String::from_utf8(payload).expect("text");
    let payload = BASE64_URL.encode(payload.replace("alice", "mabel"));
    format!("{}.{payload}.{}", parts[0], parts[2])
}

#[test]
fn what_was_altered_or_signed_with_another_secret_is_refused() {
    let good = token(&claims(json!({})));
    let tokens = tokens(&[]);
    assert!(tokens.verify_at(time(NOW), &good).is_ok());
    assert_eq!(
        tokens.verify_at(time(NOW), &tampered(&good)),
        Err(Refused::Signature)
    );
    let payload = claims(json!({})).to_string();
    for secret in [
        "",
        "another secret, also 32 bytes long",
        &SECRET.to_uppercase(),
    ] {
        let other = signed(r#"{"alg":"HS256"}"#, payload.as_bytes(), secret.as_bytes());
        assert_eq!(tokens.verify_at(time(NOW), &other), Err(Refused::Signature));
    }
    for (at, _) in good.char_indices() {
        let mut altered = good.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'Z' } else { b'A' };
        let altered = String::from_utf8(altered).expect("text");
        assert!(tokens.verify_at(time(NOW), &altered).is_err(), "byte {at}");
    }
}

#[test]
fn times_are_taken_with_thirty_seconds_of_leeway() {
    for (name, accepted, refused, why) in [
        ("exp", NOW - 29, NOW - 30, Refused::Expired),
        ("exp", NOW, NOW - 3600, Refused::Expired),
        ("exp", NOW + 1, -1, Refused::Expired),
        ("nbf", NOW + 30, NOW + 31, Refused::Early("nbf")),
        ("nbf", 0, NOW + 3600, Refused::Early("nbf")),
        ("iat", NOW + 30, NOW + 31, Refused::Early("iat")),
        ("iat", -1, NOW + 86_400, Refused::Early("iat")),
    ] {
        let judged_at = |seconds: i64| judged(json!({ name: seconds }));
        assert!(judged_at(accepted).is_ok(), "{name} {accepted}");
        assert_eq!(judged_at(refused), Err(why), "{name} {refused}");
    }
    // Before its time it is refused, at its time accepted, after it refused.
    let tokens = tokens(&[]);
    let token = token(&claims(json!({})));
    for (now, accepted) in [(-31, false), (-30, true), (3629, true), (3630, false)] {
        let verified = tokens.verify_at(time(NOW + now), &token);
        assert_eq!(verified.is_ok(), accepted, "{now}: {verified:?}");
    }
}

#[test]
fn fractions_of_seconds_are_dropped() {
    let verified = judged(json!({"iat": NOW as f64 - 0.5, "exp": NOW as f64 + 10.9}));
    let verified = verified.expect("accepted");
    assert_eq!(verified.issued_at, Some(time(NOW - 1)));
    assert_eq!(verified.expires_at, time(NOW + 10));
}

#[test]
fn only_a_user_and_an_end_are_required() {
    assert_eq!(judged(json!({"sub": null})), Err(Refused::Missing("sub")));
    assert_eq!(judged(json!({"exp": null})), Err(Refused::Missing("exp")));
    let verified = judged(json!({"iat": null, "type": null})).expect("accepted");
    assert_eq!(verified.issued_at, None);
}

#[test]
fn a_claim_of_another_json_type_is_refused() {
    let texts = [json!(1), json!(true), json!(["a"]), json!({})];
    let times = [
        json!("1700003600"),
        json!(true),
        json!([NOW]),
        json!({}),
        json!(1e300),
        json!(-1e300),
        json!(u64::MAX),
        json!(i64::MAX),
        json!(i64::MIN),
    ];
    let texts = ["sub", "type", "scope", "iss"].map(|name| (name, &texts[..]));
    let times = ["exp", "iat", "nbf"].map(|name| (name, &times[..]));
    for (name, values) in texts.into_iter().chain(times) {
        for value in values {
            match judged(json!({ name: value })) {
                Err(Refused::Claim(claim)) => assert_eq!(claim, name),
                // The library stumbles over some lists and objects before the claims are looked at.
                Err(Refused::Malformed) => assert!(value.is_array() || value.is_object()),
                other => panic!("{name}: {value}: {other:?}"),
            }
        }
    }
    for value in [json!(1), json!(true), json!({}), json!(["a", 1])] {
        let refused = judged(json!({ "aud": value }));
        assert_eq!(refused, Err(Refused::Claim("aud")), "{value}");
    }
    // Null is not the same as missing.
    for name in ["sub", "exp", "iat", "nbf", "type", "scope", "iss", "aud"] {
        let mut claims = claims(json!({}));
        claims[name] = Value::Null;
        let refused = tokens(&[]).verify_at(time(NOW), &token(&claims));
        assert_eq!(refused, Err(Refused::Claim(name)));
    }
}

#[test]
fn a_token_for_something_else_is_refused() {
    for kind in ["refresh_token", "", "Access_Token", "access_token "] {
        assert_eq!(
            judged(json!({ "type": kind })),
            Err(Refused::Type),
            "{kind:?}"
        );
    }
}

#[test]
fn a_subject_that_is_no_user_id_is_refused() {
    for subject in [
        "",
        " ",
        "a b",
        "a/b",
        "ü",
        "a\0",
        "alice\n",
        &"x".repeat(129),
    ] {
        let refused = judged(json!({ "sub": subject }));
        assert_eq!(refused, Err(Refused::User), "{subject:?}");
    }
    let longest = "x".repeat(128);
    let verified = judged(json!({ "sub": longest })).expect("accepted");
    assert_eq!(verified.user.as_str(), longest);
}

#[test]
fn issuer_and_audience_count_when_they_are_configured() {
    let issuer = [("JWT_ISSUER", "https://id/")];
    assert!(judged_by(&issuer, json!({"iss": "https://id/"})).is_ok());
    for other in [json!(null), json!("https://id"), json!("")] {
        let refused = judged_by(&issuer, json!({ "iss": other }));
        assert_eq!(refused, Err(Refused::Issuer), "{other}");
    }
    let audience = [("JWT_AUDIENCE", "companion")];
    for named in [json!("companion"), json!(["other", "companion"])] {
        assert!(judged_by(&audience, json!({ "aud": named })).is_ok());
    }
    for other in [
        json!(null),
        json!("companions"),
        json!([]),
        json!(["other"]),
    ] {
        let refused = judged_by(&audience, json!({ "aud": other }));
        assert_eq!(refused, Err(Refused::Audience), "{other}");
    }
    assert!(judged(json!({"iss": "anybody", "aud": ["anything"]})).is_ok());
    let named = tokens(&[("JWT_ISSUER", "me"), ("JWT_AUDIENCE", "you")]);
    let own = named.issue(&alice(), Duration::from_secs(60), None);
    assert!(named.verify(own.expect("issued").token.expose()).is_ok());
}

#[test]
fn a_critical_header_that_is_not_understood_is_refused() {
    let payload = claims(json!({})).to_string();
    let judged = |header: &str| {
        let token = signed(header, payload.as_bytes(), SECRET.as_bytes());
        tokens(&[]).verify_at(time(NOW), &token)
    };
    let refused = judged(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#);
    assert_eq!(refused, Err(Refused::Malformed));
    assert!(judged(r#"{"alg":"HS256","kid":"k","x":[1]}"#).is_ok());
}

#[test]
fn a_token_of_more_than_eight_kibibytes_is_not_looked_at() {
    let padded = |length: usize| token(&claims(json!({ "padding": "x".repeat(length) })));
    let fits = padded(5_900);
    assert!(fits.len() <= MAX_TOKEN_BYTES);
    assert!(tokens(&[]).verify_at(time(NOW), &fits).is_ok());
    let long = padded(6_100);
    assert!(long.len() > MAX_TOKEN_BYTES);
    let refused = tokens(&[]).verify_at(time(NOW), &long);
    assert_eq!(refused, Err(Refused::TooLong));
}

#[test]
fn garbage_is_refused() {
    let tokens = tokens(&[]);
    let good = token(&claims(json!({})));
    for garbage in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        "eyJhbGciOiJIUzI1NiJ9..",
        "null.null.null",
        "ck_0123_4567",
        &format!("{good}."),
        &format!("{good}="),
        &format!(" {good}"),
        &format!("{good}\n"),
        &format!("Bearer {good}"),
        &format!(".{good}"),
    ] {
        assert!(tokens.verify_at(time(NOW), garbage).is_err(), "{garbage:?}");
    }
    for payload in [
        "",
        "null",
        "[]",
        "1",
        "\"x\"",
        "{",
        "{}{}",
        &"[".repeat(4_000),
    ] {
        let token = signed(r#"{"alg":"HS256"}"#, payload.as_bytes(), SECRET.as_bytes());
        let refused = tokens.verify_at(time(NOW), &token);
        assert_eq!(refused, Err(Refused::Malformed), "{payload:?}");
    }
}

#[test]
fn a_development_secret_is_made_once_and_kept() {
    let home = tempfile::tempdir().expect("a folder");
    let path = home.path().to_str().expect("text");
    let service = || Tokens::new(&config(&[("COMPANION_HOME", path)]));
    let (first, second) = (service().expect("made"), service().expect("read"));
    let issued = first.issue(&alice(), Duration::from_secs(60), None);
    let issued = issued.expect("issued");
    assert!(second.verify(issued.token.expose()).is_ok());
    let kept = std::fs::read_to_string(home.path().join("jwt.key")).expect("kept");
    assert_eq!(BASE64.decode(kept).expect("base64").len(), SECRET_BYTES);
    let other = tempfile::tempdir().expect("a folder");
    let other = config(&[("COMPANION_HOME", other.path().to_str().expect("text"))]);
    let other = Tokens::new(&other).expect("made");
    assert_eq!(other.verify(issued.token.expose()), Err(Refused::Signature));
    std::fs::write(home.path().join("jwt.key"), "short").expect("written");
    let error = service().expect_err("refused").to_string();
    assert!(
        error.contains("remove it") && !error.contains("short"),
        "{error}"
    );
}

#[test]
fn a_home_that_can_not_be_used_is_told_in_a_sentence() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("text");
    let error = Tokens::new(&config(&[("COMPANION_HOME", path)])).expect_err("refused");
    let error = error.to_string();
    assert!(
        error.contains(path) && error.contains("JWT_SECRET_KEY"),
        "{error}"
    );
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!("access_token")),
        Just(json!(NOW)),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,4}", inner, 0..4)
                .prop_map(|object| object.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_passes(text in prop_oneof![".*", "[A-Za-z0-9_.-]{0,200}"]) {
        prop_assert!(tokens(&[]).verify(&text).is_err());
    }

    #[test]
    fn no_parts_make_it_panic_or_pass(header in ".*", payload in ".*", signature in ".*") {
        let [header, payload, signature] = [header, payload, signature].map(|t| BASE64_URL.encode(t));
        let token = format!("{header}.{payload}.{signature}");
        prop_assert!(tokens(&[]).verify(&token).is_err());
        let token = format!("{}.{payload}.{signature}", BASE64_URL.encode(r#"{"alg":"RS256"}"#));
        let rsa = tokens(&[("JWT_ALGORITHM", "RS256"), ("JWT_PUBLIC_KEY", RSA_PUBLIC)]);
        prop_assert!(rsa.verify(&token).is_err());
    }

    #[test]
    fn no_claims_make_it_panic(
        replaced in prop::collection::hash_map("sub|exp|iat|nbf|type|scope|iss|aud", json(), 1..5),
    ) {
        let named = [("JWT_ISSUER", "me"), ("JWT_AUDIENCE", "you")];
        let replaced: Value = replaced.into_iter().collect();
        let _ = judged_by(&named, replaced.clone());
        if let Ok(verified) = judged(replaced) {
            prop_assert!(verified.expires_at > time(NOW - 30));
        }
    }

    #[test]
    fn whoever_a_token_is_issued_to_is_whom_it_names(
        user in "[A-Za-z0-9._@:+-]{1,128}",
        seconds in 60..(8760 * 3600u64),
    ) {
        let user = ExternalUserId::parse(&user).expect("an id");
        let tokens = tokens(&[]);
        let issued = tokens.issue(&user, Duration::from_secs(seconds), Some("admin")).expect("issued");
        let verified = tokens.verify(issued.token.expose()).expect("accepted");
        prop_assert_eq!(verified.user, user);
        prop_assert_eq!(verified.expires_at, issued.expires_at);
        prop_assert!(verified.admin);
    }
}
