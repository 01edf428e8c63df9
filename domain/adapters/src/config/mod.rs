//! Configuration: environment variables (and `.env`), parsed once, refused with one clear line.

mod production;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use companion_domain::memory::Decay;

use crate::parts;

pub use self::variables::InvalidSetting;
use self::variables::{EndpointNames, Variables};

/// A string that must not be shown: it prints as `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for handing to the library that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Where the service runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// On somebody's machine: convenient.
    Development,
    /// For others: refuses weak settings.
    Production,
}

/// How facts are extracted from messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtractionMode {
    /// By the LLM only.
    Llm,
    /// By patterns only.
    Heuristic,
    /// By the LLM, and by patterns when it can't be reached or gives nothing usable.
    Hybrid,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// An OpenAI-compatible endpoint.
#[derive(Debug, Clone)]
pub struct LlmEndpoint {
    /// Up to and including `/v1`.
    pub base_url: String,
    /// The model's name.
    pub model: String,
    /// Sent as a bearer token unless empty.
    pub api_key: Secret,
}

/// Everything that can be configured. Field by field as the variables of the README.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is the variable of the same name")]
pub struct Config {
    pub host: IpAddr,
    pub port: u16,
    pub environment: Environment,
    pub llm: LlmEndpoint,
    pub llm_temperature: f32,
    pub llm_max_tokens: u32,
    pub llm_timeout: Duration,
    pub llm_context_tokens: u32,
    /// `None`: the embedded PostgreSQL of `companion up`.
    pub postgres_url: Option<Secret>,
    /// `None`: buffers are kept in the process.
    pub redis_url: Option<Secret>,
    pub embedding_model: String,
    pub embedding_dimension: usize,
    pub embedding_model_dir: PathBuf,
    pub short_term_memory_size: usize,
    pub short_term_memory_ttl: Duration,
    pub long_term_memory_top_k: usize,
    pub memory_similarity_threshold: f64,
    pub decay: Decay,
    pub extraction_mode: ExtractionMode,
    pub extraction_delay: Duration,
    pub extraction: LlmEndpoint,
    pub extraction_concurrency: usize,
    pub system_persona: String,
    pub require_authentication: bool,
    pub allow_x_user_id: bool,
    /// The key that wraps the users' data keys; `None`: generated once in development.
    pub master_key: Option<Secret>,
    pub log_level: tracing::Level,
    pub log_format: LogFormat,
    pub companion_home: PathBuf,
}

/// Settings that make the start impossible.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value that can't be parsed.
    #[error(transparent)]
    Invalid(#[from] InvalidSetting),
    /// `.env` can't be read.
    #[error(".env can't be read: {0}; correct the line or remove the file")]
    DotEnv(String),
    /// Settings too weak for production, all at once.
    #[error("ENVIRONMENT=production refuses to start: {}", .0.join("; "))]
    Weak(Vec<String>),
}

impl Config {
    /// Reads `.env` in the working directory, if there is one, and the environment, which wins.
    ///
    /// # Errors
    /// [`ConfigError`], a sentence that names the variable and what it should be.
    pub fn from_env() -> Result<Self, ConfigError> {
        let mut variables = HashMap::new();
        match dotenvy::from_filename_iter(".env") {
            Ok(lines) => {
                for line in lines {
                    let (name, value) = line.map_err(|error| match error {
                        // The line itself may hold a secret.
                        dotenvy::Error::LineParse(_, at) => ConfigError::DotEnv(format!(
                            "a line is not NAME=VALUE (at character {at})"
                        )),
                        other => ConfigError::DotEnv(other.to_string()),
                    })?;
                    variables.insert(name, value);
                }
            }
            Err(dotenvy::Error::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ConfigError::DotEnv(error.to_string())),
        }
        for (name, value) in std::env::vars_os() {
            if let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) {
                variables.insert(name, value);
            }
        }
        Self::from_variables(variables)
    }

    /// Parses variables given by hand, as tests do.
    ///
    /// # Errors
    /// [`ConfigError`], a sentence that names the variable and what it should be.
    pub fn from_variables(variables: HashMap<String, String>) -> Result<Self, ConfigError> {
        let v = Variables(variables);
        let environment = v.choice(
            "ENVIRONMENT",
            &[
                ("development", Environment::Development),
                ("production", Environment::Production),
            ],
            Environment::Development,
        )?;
        let lm_studio = EndpointNames {
            base_url: "LM_STUDIO_BASE_URL",
            model: "LM_STUDIO_MODEL_NAME",
            api_key: "LM_STUDIO_API_KEY",
        };
        let background = EndpointNames {
            base_url: "EXTRACTION_BASE_URL",
            model: "EXTRACTION_MODEL_NAME",
            api_key: "EXTRACTION_API_KEY",
        };
        let llm = v.endpoint(
            &lm_studio,
            &LlmEndpoint {
                base_url: "http://localhost:1234/v1".to_owned(),
                model: "local-model".to_owned(),
                api_key: Secret::new(""),
            },
        )?;
        let days = |variable, default| {
            v.parse(
                variable,
                default,
                |days: &f64| *days > 0.0 && days.is_finite(),
                "a number of days above 0",
                "365",
            )
        };
        let share = |variable, default| {
            v.parse(
                variable,
                default,
                |share: &f64| (0.0..=1.0).contains(share),
                "a number from 0 to 1",
                "0.15",
            )
        };
        let defaults = Decay::default();
        let config = Self {
            host: v.parse(
                "HOST",
                IpAddr::V4(Ipv4Addr::LOCALHOST),
                |_| true,
                "an IP address",
                "127.0.0.1",
            )?,
            port: v.parse("PORT", 8000, |_| true, "a port from 0 to 65535", "8000")?,
            environment,
            llm_temperature: v.parse(
                "LM_STUDIO_TEMPERATURE",
                0.7,
                |t| (0.0..=2.0).contains(t),
                "a number from 0 to 2",
                "0.7",
            )?,
            llm_max_tokens: v.parse(
                "LM_STUDIO_MAX_TOKENS",
                2000,
                |n| *n > 0,
                "a whole number above 0",
                "2000",
            )?,
            llm_timeout: Duration::from_secs(v.parse(
                "LLM_TIMEOUT_SECONDS",
                60,
                |n| (1..=3600).contains(n),
                "a number of seconds from 1 to 3600",
                "60",
            )?),
            llm_context_tokens: v.parse(
                "LLM_CONTEXT_TOKENS",
                4096,
                |n| *n > 0,
                "a whole number above 0",
                "4096",
            )?,
            postgres_url: v
                .url(
                    "POSTGRES_URL",
                    &["postgres://", "postgresql://", "postgresql+asyncpg://"],
                    "postgresql://companion:secret@localhost:5432/companion",
                )?
                .map(|url| Secret::new(url.replacen("postgresql+asyncpg://", "postgresql://", 1))),
            redis_url: v
                .url("REDIS_URL", &["redis://"], "redis://localhost:6379/0")?
                .map(Secret::new),
            embedding_model: v
                .get("EMBEDDING_MODEL")
                .unwrap_or("sentence-transformers/all-MiniLM-L6-v2")
                .to_owned(),
            embedding_dimension: v.parse(
                "EMBEDDING_DIMENSION",
                384,
                |n| (1..=16_000).contains(n),
                "a whole number from 1 to 16000",
                "384",
            )?,
            embedding_model_dir: v
                .get("EMBEDDING_MODEL_DIR")
                .map_or_else(parts::minilm, PathBuf::from),
            short_term_memory_size: v.parse(
                "SHORT_TERM_MEMORY_SIZE",
                10,
                |n| (1..=1000).contains(n),
                "a number of messages from 1 to 1000",
                "10",
            )?,
            short_term_memory_ttl: Duration::from_secs(v.parse(
                "SHORT_TERM_MEMORY_TTL_SECONDS",
                86_400,
                |n| (1..=31_536_000).contains(n),
                "a number of seconds from 1 to 31536000",
                "86400",
            )?),
            long_term_memory_top_k: v.parse(
                "LONG_TERM_MEMORY_TOP_K",
                5,
                |n| *n <= 100,
                "a whole number from 0 to 100",
                "5",
            )?,
            memory_similarity_threshold: share("MEMORY_SIMILARITY_THRESHOLD", 0.15)?,
            decay: Decay {
                fact_days: days("MEMORY_HALF_LIFE_DAYS_FACT", defaults.fact_days)?,
                preference_days: days(
                    "MEMORY_HALF_LIFE_DAYS_PREFERENCE",
                    defaults.preference_days,
                )?,
                event_days: days("MEMORY_HALF_LIFE_DAYS_EVENT", defaults.event_days)?,
                context_days: days("MEMORY_HALF_LIFE_DAYS_CONTEXT", defaults.context_days)?,
                fade_below: share("MEMORY_FADE_BELOW", defaults.fade_below)?,
            },
            extraction_mode: v.choice(
                "MEMORY_EXTRACTION_METHOD",
                &[
                    ("hybrid", ExtractionMode::Hybrid),
                    ("llm", ExtractionMode::Llm),
                    ("heuristic", ExtractionMode::Heuristic),
                ],
                ExtractionMode::Hybrid,
            )?,
            extraction_delay: Duration::from_secs_f64(v.parse(
                "MEMORY_EXTRACTION_DELAY_SECONDS",
                2.0,
                |n| (0.0..=3600.0).contains(n),
                "a number of seconds from 0 to 3600",
                "2",
            )?),
            extraction: v.endpoint(&background, &llm)?,
            extraction_concurrency: v.parse(
                "EXTRACTION_CONCURRENCY",
                1,
                |n| (1..=64).contains(n),
                "a whole number from 1 to 64",
                "1",
            )?,
            llm,
            system_persona: v
                .get("SYSTEM_PERSONA")
                .unwrap_or("a helpful AI companion")
                .to_owned(),
            require_authentication: v.flag("REQUIRE_AUTHENTICATION", true)?,
            allow_x_user_id: v.flag(
                "ALLOW_X_USER_ID_AUTH",
                environment == Environment::Development,
            )?,
            master_key: v.get("COMPANION_MASTER_KEY").map(Secret::new),
            log_level: v.choice(
                "LOG_LEVEL",
                &[
                    ("INFO", tracing::Level::INFO),
                    ("ERROR", tracing::Level::ERROR),
                    ("WARNING", tracing::Level::WARN),
                    ("WARN", tracing::Level::WARN),
                    ("DEBUG", tracing::Level::DEBUG),
                    ("TRACE", tracing::Level::TRACE),
                ],
                tracing::Level::INFO,
            )?,
            log_format: v.choice(
                "LOG_FORMAT",
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
                LogFormat::Text,
            )?,
            companion_home: v
                .get("COMPANION_HOME")
                .map_or_else(|| PathBuf::from(".companion"), PathBuf::from),
        };
        if config.prompt_budget() == 0 {
            return Err(ConfigError::Invalid(InvalidSetting {
                variable: "LLM_CONTEXT_TOKENS",
                problem: format!(
                    "is {}, which leaves no room for a prompt beside LM_STUDIO_MAX_TOKENS={}",
                    config.llm_context_tokens, config.llm_max_tokens
                ),
                example: "4096",
            }));
        }
        if environment == Environment::Production {
            let weak = config.weaknesses(&v);
            if !weak.is_empty() {
                return Err(ConfigError::Weak(weak));
            }
        }
        Ok(config)
    }

    /// The tokens that a prompt may have: the context less the room for the answer.
    pub fn prompt_budget(&self) -> usize {
        self.llm_context_tokens.saturating_sub(self.llm_max_tokens) as usize
    }
}
