//! What production refuses.

use super::*;

/// Settings that production has nothing against, with some changed.
fn production(overrides: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let mut pairs = vec![
        ("ENVIRONMENT", "production"),
        ("JWT_SECRET_KEY", "0123456789abcdef0123456789abcdef"),
        (
            "COMPANION_MASTER_KEY",
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        ),
        (
            "POSTGRES_URL",
            "postgresql://companion:hunter2@db/companion",
        ),
    ];
    pairs.extend(overrides);
    with(&pairs)
}

/// The one weakness that these settings have.
fn weakness(overrides: &[(&str, &str)]) -> String {
    match production(overrides) {
        Err(ConfigError::Weak(weak)) if weak.len() == 1 => weak[0].clone(),
        other => panic!("{overrides:?}: {:?}", other.map(|_| "accepted")),
    }
}

#[test]
fn production_lists_every_weak_setting_at_once() {
    let error = with(&[
        ("ENVIRONMENT", "production"),
        ("JWT_SECRET_KEY", "change-me"),
        ("REQUIRE_AUTHENTICATION", "false"),
        ("ALLOW_X_USER_ID_AUTH", "true"),
        ("CORS_ORIGINS", "*"),
        (
            "POSTGRES_URL",
            "postgresql://postgres:postgres@db/companion",
        ),
    ])
    .expect_err("weak")
    .to_string();
    for part in [
        "JWT_SECRET_KEY is shorter",
        "placeholder",
        "COMPANION_MASTER_KEY",
        "REQUIRE_AUTHENTICATION",
        "ALLOW_X_USER_ID_AUTH",
        "CORS_ORIGINS",
        "password 'postgres'",
    ] {
        assert!(error.contains(part), "{part} missing in: {error}");
    }
}

#[test]
fn production_accepts_strong_settings() {
    let config = production(&[]).expect("accepted");
    assert!(config.require_authentication && !config.allow_x_user_id);
}

#[test]
fn each_weakness_is_found_by_itself() {
    for (name, value, says) in [
        ("JWT_SECRET_KEY", "", "JWT_SECRET_KEY is missing"),
        (
            "JWT_SECRET_KEY",
            "0123456789abcdef0123456789abcde",
            "shorter than 32",
        ),
        (
            "JWT_SECRET_KEY",
            "please-CHANGE-this-0123456789abcdef",
            "placeholder",
        ),
        (
            "JWT_SECRET_KEY",
            "Your-Secret-key-0123456789abcdef",
            "placeholder",
        ),
        (
            "JWT_SECRET_KEY",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "one repeated",
        ),
        (
            "COMPANION_MASTER_KEY",
            "",
            "COMPANION_MASTER_KEY is missing",
        ),
        ("REQUIRE_AUTHENTICATION", "false", "REQUIRE_AUTHENTICATION"),
        ("ALLOW_X_USER_ID_AUTH", "true", "ALLOW_X_USER_ID_AUTH"),
        ("CORS_ORIGINS", "https://a.example,*", "CORS_ORIGINS"),
        ("POSTGRES_URL", "", "POSTGRES_URL is missing"),
    ] {
        let weak = weakness(&[(name, value)]);
        assert!(weak.contains(says), "{weak}");
    }
}

#[test]
fn the_default_password_of_the_database_is_recognized_however_it_is_written() {
    for url in [
        "postgres://u:postgres@db/d",
        "postgresql+asyncpg://u:postgres@db/d",
        "postgres://u:%70ostgre%73@db/d",
        "postgres://u@db/d?password=postgres",
        "postgres://u:strong@db/d?sslmode=require&password=p%6fstgres",
        "postgres:///d?host=/run&user=u&password=postgres",
    ] {
        let weak = weakness(&[("POSTGRES_URL", url)]);
        assert!(weak.contains("password 'postgres'"), "{url}: {weak}");
    }
    for url in [
        "postgres://postgres:postgres2@postgres/postgres",
        "postgres://postgres@db/d?application_name=postgres",
    ] {
        production(&[("POSTGRES_URL", url)]).expect(url);
    }
}

#[test]
fn the_secret_is_not_demanded_where_an_identity_provider_signs() {
    let key = include_str!("../../fixtures/rs256.pub.pem");
    let config = production(&[
        ("JWT_SECRET_KEY", ""),
        ("JWT_ALGORITHM", "RS256"),
        ("JWT_PUBLIC_KEY", key),
    ])
    .expect("accepted");
    assert_eq!(config.jwt.secret, None);
}
