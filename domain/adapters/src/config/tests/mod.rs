//! What is accepted, what is refused, and in which words.

mod jwt;
mod origins;
mod production;
mod table;

use super::*;

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_variables(
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
    )
}

#[test]
fn nothing_set_gives_the_documented_defaults() {
    let config = with(&[]).expect("defaults");
    assert_eq!(
        (
            config.port,
            config.short_term_memory_size,
            config.long_term_memory_top_k
        ),
        (8000, 10, 5)
    );
    assert_eq!(config.prompt_budget(), 2096);
    assert_eq!(config.extraction_mode, ExtractionMode::Hybrid);
    assert_eq!(
        (
            config.rate_limit,
            config.max_replies,
            config.max_replies_per_user
        ),
        (30, 1024, 256)
    );
    assert_eq!(
        config.cors_origins,
        ["http://localhost:3000", "http://localhost:8080"]
    );
    assert_eq!(
        (config.metrics_token, config.worker_metrics_port),
        (None, None)
    );
    assert!(config.require_authentication && config.allow_x_user_id);
    assert_eq!(config.jwt.algorithm, JwtAlgorithm::Hs256);
    assert_eq!(config.jwt.expiration, Duration::from_secs(86_400));
    assert_eq!((config.jwt.issuer, config.jwt.audience), (None, None));
}

#[test]
fn what_is_set_is_taken_and_secrets_are_not_shown() {
    let config = with(&[
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "7"),
        ("MAX_CONCURRENT_REPLIES", "8"),
        ("MAX_CONCURRENT_REPLIES_PER_USER", "9"),
        ("METRICS_TOKEN", "hunter2"),
        ("WORKER_METRICS_PORT", "9100"),
        ("JWT_SECRET_KEY", "hunter2"),
        ("JWT_EXPIRATION_HOURS", "1"),
        ("JWT_ISSUER", " issuer "),
        ("JWT_AUDIENCE", "audience"),
    ])
    .expect("accepted");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert_eq!(
        (
            config.rate_limit,
            config.max_replies,
            config.max_replies_per_user
        ),
        (7, 8, 9)
    );
    assert_eq!(config.metrics_token, Some(Secret::new("hunter2")));
    assert_eq!(config.worker_metrics_port, Some(9100));
    assert_eq!(config.jwt.secret, Some(Secret::new("hunter2")));
    assert_eq!(config.jwt.expiration, Duration::from_secs(3600));
    assert_eq!(config.jwt.issuer.as_deref(), Some("issuer"));
    assert_eq!(config.jwt.audience.as_deref(), Some("audience"));
}

#[test]
fn a_bad_value_names_the_variable_the_problem_and_an_example() {
    for (variable, value) in [
        ("PORT", "eighty"),
        ("PORT", "70000"),
        ("PORT", "80\n80"),
        ("HOST", "nowhere"),
        ("ENVIRONMENT", "prod"),
        ("MEMORY_SIMILARITY_THRESHOLD", "1.5"),
        ("MEMORY_SIMILARITY_THRESHOLD", "NaN"),
        ("POSTGRES_URL", "mysql://x"),
        ("REDIS_URL", "localhost"),
        ("LOG_LEVEL", "LOUD"),
        ("REQUIRE_AUTHENTICATION", "maybe"),
        ("LM_STUDIO_BASE_URL", "localhost:1234"),
        ("MEMORY_HALF_LIFE_DAYS_FACT", "0"),
        ("MEMORY_EXTRACTION_DELAY_SECONDS", "-1"),
        ("RATE_LIMIT_REQUESTS_PER_MINUTE", "0"),
        ("MAX_CONCURRENT_REPLIES", "100001"),
        ("MAX_CONCURRENT_REPLIES_PER_USER", "0"),
        ("CORS_ORIGINS", "localhost"),
        ("WORKER_METRICS_PORT", "metrics"),
        ("JWT_ALGORITHM", "none"),
        ("JWT_ALGORITHM", "HS512"),
        ("JWT_PUBLIC_KEY", "/nowhere.pem"),
        ("JWT_EXPIRATION_HOURS", "8761"),
    ] {
        let error = with(&[(variable, value)]).expect_err(variable).to_string();
        assert!(
            error.starts_with(variable) && error.contains("for example") && !error.contains('\n'),
            "{error}"
        );
    }
}

#[test]
fn a_url_that_may_hold_a_password_is_not_repeated() {
    let error = with(&[("POSTGRES_URL", "mysql://u:hunter2@h/d")]).expect_err("refused");
    assert!(!error.to_string().contains("hunter2"));
    let config = with(&[("POSTGRES_URL", "postgres://u:hunter2@h/d")]).expect("accepted");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn the_driver_suffix_of_the_seed_is_accepted() {
    let config = with(&[("POSTGRES_URL", "postgresql+asyncpg://u:p@h/d")]).expect("accepted");
    assert_eq!(
        config
            .postgres_url
            .map(|url| url.expose().to_owned())
            .as_deref(),
        Some("postgresql://u:p@h/d")
    );
}

#[test]
fn extraction_uses_the_chat_model_unless_told_otherwise() {
    let config = with(&[
        ("LM_STUDIO_BASE_URL", "http://llm/v1/"),
        ("EXTRACTION_MODEL_NAME", "small"),
    ])
    .expect("config");
    assert_eq!(config.extraction.base_url, "http://llm/v1");
    assert_eq!(
        (config.extraction.model.as_str(), config.llm.model.as_str()),
        ("small", "local-model")
    );
}

#[cfg(unix)]
#[test]
fn a_setting_that_is_no_text_is_refused_and_not_passed_over() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let no_text = || OsString::from_vec(vec![b'8', 0xff]);
    let mut variables = HashMap::new();
    let others = [
        ("OTHER".into(), no_text()),
        (no_text(), "x".into()),
        ("PORT".into(), "1".into()),
    ];
    variables::add(&mut variables, others.into_iter()).expect("passed over");
    assert_eq!(
        variables,
        HashMap::from([("PORT".to_owned(), "1".to_owned())])
    );
    let error = variables::add(&mut variables, [("PORT".into(), no_text())].into_iter());
    let error = error.expect_err("refused").to_string();
    assert!(
        error.starts_with("PORT is not text") && error.contains("for example"),
        "{error}"
    );
}
