//! Redis, which the processes share: one connection, and whether it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, ScriptInvocation};

use crate::config::Config;

/// How long Redis may take before the process does without it.
const TIMEOUT: Duration = Duration::from_millis(500);

/// A connection to Redis that mends itself. Cheap to clone.
#[derive(Clone)]
pub struct RedisLink {
    connection: ConnectionManager,
    up: Arc<AtomicBool>,
}

/// Why Redis can't be used.
#[derive(Debug, thiserror::Error)]
#[error("REDIS_URL can't be used: {0}; for example REDIS_URL=redis://localhost:6379/0")]
pub struct InvalidRedis(String);

impl RedisLink {
    /// The Redis that is configured, if one is. One that is down is no error: whoever uses it does
    /// without it until it is back.
    ///
    /// # Errors
    /// [`InvalidRedis`] when the URL makes no sense.
    pub fn open(config: &Config) -> Result<Option<Self>, InvalidRedis> {
        let Some(url) = &config.redis_url else {
            return Ok(None);
        };
        let invalid = |error: RedisError| InvalidRedis(error.to_string());
        let client = redis::Client::open(url.expose()).map_err(invalid)?;
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_secs(2));
        let connection =
            ConnectionManager::new_lazy_with_config(client, settings).map_err(invalid)?;
        Ok(Some(Self {
            connection,
            up: Arc::new(AtomicBool::new(true)),
        }))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// What Redis or the way to it says.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        let answer = command.query_async(&mut self.connection.clone()).await;
        self.note(answer.as_ref().err());
        answer
    }

    /// Runs several commands, sent together.
    ///
    /// # Errors
    /// What Redis or the way to it says.
    pub async fn run_all<T: FromRedisValue>(&self, commands: &redis::Pipeline) -> RedisResult<T> {
        let answer = commands.query_async(&mut self.connection.clone()).await;
        self.note(answer.as_ref().err());
        answer
    }

    /// Runs a script, as one step.
    ///
    /// # Errors
    /// What Redis or the way to it says.
    pub async fn run_script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        let answer = script.invoke_async(&mut self.connection.clone()).await;
        self.note(answer.as_ref().err());
        answer
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> bool {
        self.run::<String>(&redis::cmd("PING")).await.is_ok()
    }

    /// Says once that Redis is gone, and once that it is back.
    fn note(&self, error: Option<&RedisError>) {
        match error {
            Some(error) if self.up.swap(false, Ordering::Relaxed) => {
                tracing::error!(
                    kind = ?error.kind(),
                    "Redis does not answer; until it does, buffers and rate limits are this process's own"
                );
            }
            None if !self.up.swap(true, Ordering::Relaxed) => tracing::info!("Redis answers again"),
            _ => {}
        }
    }
}
