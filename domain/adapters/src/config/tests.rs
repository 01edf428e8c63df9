//! What is accepted, what is refused, and in which words.

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
}

#[test]
fn a_bad_value_names_the_variable_the_problem_and_an_example() {
    for (variable, value) in [
        ("PORT", "eighty"),
        ("PORT", "70000"),
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
    ] {
        let error = with(&[(variable, value)]).expect_err(variable).to_string();
        assert!(
            error.starts_with(variable) && error.contains("for example"),
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
