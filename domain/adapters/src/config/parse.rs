//! From variables to [`Config`]: defaults, bounds in words and examples are those of [`settings`].

use std::path::PathBuf;
use std::time::Duration;

use companion_domain::memory::Decay;

use super::settings::{self, Setting};
use super::variables::{InvalidSetting, Variables};
use super::{
    Config, ConfigError, Environment, ExtractionMode, JwtConfig, LogFormat, Secret, origins,
};
use crate::parts;

impl Config {
    pub(super) fn parse(v: &Variables) -> Result<Self, ConfigError> {
        let environment = v.choice(
            &settings::ENVIRONMENT,
            &[
                ("development", Environment::Development),
                ("production", Environment::Production),
            ],
        )?;
        let llm = v.endpoint(
            [
                &settings::LM_STUDIO_BASE_URL,
                &settings::LM_STUDIO_MODEL_NAME,
                &settings::LM_STUDIO_API_KEY,
            ],
            None,
        )?;
        let background = [
            &settings::EXTRACTION_BASE_URL,
            &settings::EXTRACTION_MODEL_NAME,
            &settings::EXTRACTION_API_KEY,
        ];
        let share = |setting: &Setting| v.parse(setting, |x: &f64| (0.0..=1.0).contains(x));
        let seconds = |setting: &Setting, most: u64| {
            let seconds = v.parse(setting, |n: &u64| (1..=most).contains(n));
            seconds.map(Duration::from_secs)
        };
        let config = Self {
            host: v.parse(&settings::HOST, |_| true)?,
            port: v.parse(&settings::PORT, |_| true)?,
            environment,
            cors_origins: origins::parse(v)?,
            extraction: v.endpoint(background, Some(&llm))?,
            llm,
            llm_temperature: v.parse(&settings::LM_STUDIO_TEMPERATURE, |t| {
                (0.0..=2.0).contains(t)
            })?,
            llm_max_tokens: v.parse(&settings::LM_STUDIO_MAX_TOKENS, |n| *n > 0)?,
            llm_timeout: seconds(&settings::LLM_TIMEOUT_SECONDS, 3600)?,
            llm_context_tokens: v.parse(&settings::LLM_CONTEXT_TOKENS, |n| *n > 0)?,
            postgres_url: v
                .url(
                    &settings::POSTGRES_URL,
                    &["postgres://", "postgresql://", "postgresql+asyncpg://"],
                )?
                .map(|url| Secret::new(url.replacen("postgresql+asyncpg://", "postgresql://", 1))),
            redis_url: v.url(&settings::REDIS_URL, &["redis://"])?.map(Secret::new),
            embedding_model: v.words(&settings::EMBEDDING_MODEL),
            embedding_dimension: v
                .parse(&settings::EMBEDDING_DIMENSION, |n| (1..=16_000).contains(n))?,
            embedding_model_dir: v
                .text(&settings::EMBEDDING_MODEL_DIR)
                .map_or_else(parts::minilm, PathBuf::from),
            short_term_memory_size: v.parse(&settings::SHORT_TERM_MEMORY_SIZE, |n| {
                (1..=1000).contains(n)
            })?,
            short_term_memory_ttl: seconds(&settings::SHORT_TERM_MEMORY_TTL_SECONDS, 31_536_000)?,
            long_term_memory_top_k: v.parse(&settings::LONG_TERM_MEMORY_TOP_K, |n| *n <= 100)?,
            memory_similarity_threshold: share(&settings::MEMORY_SIMILARITY_THRESHOLD)?,
            memory_upkeep: seconds(&settings::MEMORY_UPKEEP_SECONDS, 86_400)?,
            recall_cache_bytes: v.parse(&settings::RECALL_CACHE_MB, |mb: &u64| {
                (1..=1_048_576).contains(mb)
            })? << 20,
            decay: decay(v, share(&settings::MEMORY_FADE_BELOW)?)?,
            extraction_mode: v.choice(
                &settings::MEMORY_EXTRACTION_METHOD,
                &[
                    ("hybrid", ExtractionMode::Hybrid),
                    ("llm", ExtractionMode::Llm),
                    ("heuristic", ExtractionMode::Heuristic),
                ],
            )?,
            extraction_delay: Duration::from_secs_f64(
                v.parse(&settings::MEMORY_EXTRACTION_DELAY_SECONDS, |n| {
                    (0.0..=3600.0).contains(n)
                })?,
            ),
            extraction_concurrency: v
                .parse(&settings::EXTRACTION_CONCURRENCY, |n| (1..=64).contains(n))?,
            system_persona: v.words(&settings::SYSTEM_PERSONA),
            rate_limit: v.parse(&settings::RATE_LIMIT_REQUESTS_PER_MINUTE, |n| {
                (1..=1_000_000).contains(n)
            })?,
            max_replies: v.parse(&settings::MAX_CONCURRENT_REPLIES, |n| {
                (1..=100_000).contains(n)
            })?,
            max_replies_per_user: v
                .parse(&settings::MAX_CONCURRENT_REPLIES_PER_USER, |n| *n > 0)?,
            require_authentication: v.flag(&settings::REQUIRE_AUTHENTICATION)?,
            allow_x_user_id: match v.get(&settings::ALLOW_X_USER_ID_AUTH) {
                Some(_) => v.flag(&settings::ALLOW_X_USER_ID_AUTH)?,
                None => environment == Environment::Development,
            },
            jwt: JwtConfig::parse(v)?,
            master_key: v.secret(&settings::COMPANION_MASTER_KEY),
            new_master_key: v.secret(&settings::COMPANION_NEW_MASTER_KEY),
            log_level: v.choice(
                &settings::LOG_LEVEL,
                &[
                    ("ERROR", tracing::Level::ERROR),
                    ("WARNING", tracing::Level::WARN),
                    ("WARN", tracing::Level::WARN),
                    ("INFO", tracing::Level::INFO),
                    ("DEBUG", tracing::Level::DEBUG),
                    ("TRACE", tracing::Level::TRACE),
                ],
            )?,
            log_format: v.choice(
                &settings::LOG_FORMAT,
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            )?,
            metrics_token: v.secret(&settings::METRICS_TOKEN),
            worker_metrics_port: match v.text(&settings::WORKER_METRICS_PORT) {
                Some(_) => Some(v.parse(&settings::WORKER_METRICS_PORT, |_| true)?),
                None => None,
            },
            companion_home: PathBuf::from(v.words(&settings::COMPANION_HOME)),
        };
        if config.prompt_budget() == 0 {
            return Err(ConfigError::Invalid(settings::LLM_CONTEXT_TOKENS.refused(
                format!(
                    "is {}, which leaves no room for a prompt beside LM_STUDIO_MAX_TOKENS={}",
                    config.llm_context_tokens, config.llm_max_tokens
                ),
            )));
        }
        if environment == Environment::Production {
            let weak = config.weaknesses();
            if !weak.is_empty() {
                return Err(ConfigError::Weak(weak));
            }
        }
        Ok(config)
    }
}

fn decay(v: &Variables, fade_below: f64) -> Result<Decay, InvalidSetting> {
    let days = |setting| v.parse(setting, |days: &f64| *days > 0.0 && days.is_finite());
    Ok(Decay {
        fact_days: days(&settings::MEMORY_HALF_LIFE_DAYS_FACT)?,
        preference_days: days(&settings::MEMORY_HALF_LIFE_DAYS_PREFERENCE)?,
        event_days: days(&settings::MEMORY_HALF_LIFE_DAYS_EVENT)?,
        context_days: days(&settings::MEMORY_HALF_LIFE_DAYS_CONTEXT)?,
        fade_below,
    })
}
