//! Configuration: environment variables (and `.env`), parsed once, refused with one clear line.

mod dot_env;
mod jwt;
mod origins;
mod parse;
mod production;
pub mod settings;
#[cfg(test)]
mod tests;
mod variables;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use companion_domain::memory::Decay;

pub use self::dot_env::share_with_libraries;
pub(crate) use self::jwt::public_key_of;
pub use self::jwt::{JwtAlgorithm, JwtConfig, MAX_TOKEN_HOURS};
pub use self::variables::InvalidSetting;
use self::variables::Variables;

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

/// Everything that can be configured. Field by field as the variables of [`settings`].
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is the variable of the same name")]
pub struct Config {
    pub host: IpAddr,
    pub port: u16,
    pub environment: Environment,
    /// As browsers send them, or `*`.
    pub cors_origins: Vec<String>,
    pub llm: LlmEndpoint,
    pub llm_temperature: f64,
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
    pub recall_cache_bytes: u64,
    pub decay: Decay,
    pub memory_upkeep: Duration,
    pub extraction_mode: ExtractionMode,
    pub extraction_delay: Duration,
    pub extraction: LlmEndpoint,
    pub extraction_concurrency: usize,
    pub system_persona: String,
    /// Calls that start a reply, per user and minute.
    pub rate_limit: u32,
    /// In one process.
    pub max_replies: usize,
    pub max_replies_per_user: usize,
    pub require_authentication: bool,
    pub allow_x_user_id: bool,
    pub jwt: JwtConfig,
    /// The key that wraps the users' data keys; `None`: generated once in development.
    pub master_key: Option<Secret>,
    /// The key that is to take its place; known beside it while that is being done.
    pub new_master_key: Option<Secret>,
    pub log_level: tracing::Level,
    pub log_format: LogFormat,
    /// `None`: `/metrics` is open.
    pub metrics_token: Option<Secret>,
    /// Where a worker on its own serves its metrics, if it does.
    pub worker_metrics_port: Option<u16>,
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
        let mut variables = dot_env::read()?;
        variables::add(&mut variables, std::env::vars_os())?;
        Self::from_variables(variables)
    }

    /// Parses variables given by hand, as tests do.
    ///
    /// # Errors
    /// [`ConfigError`], a sentence that names the variable and what it should be.
    pub fn from_variables(variables: HashMap<String, String>) -> Result<Self, ConfigError> {
        Self::parse(&Variables::new(variables))
    }

    /// The tokens that the messages of a conversation may have of a prompt before they are put in short:
    /// half of it, as memories and the summary need room too.
    pub fn history_budget(&self) -> usize {
        self.prompt_budget() / 2
    }

    /// The tokens that a prompt may have: the context less the room for the answer.
    pub fn prompt_budget(&self) -> usize {
        self.llm_context_tokens.saturating_sub(self.llm_max_tokens) as usize
    }
}
