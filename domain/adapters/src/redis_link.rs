//! Redis, which the processes share: one connection, and whether it answers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Cmd, FromRedisValue, RedisError, RedisResult, ScriptInvocation};

use crate::config::Config;

/// How long Redis may take before the process does without it.
const TIMEOUT: Duration = Duration::from_millis(500);

/// How long it is left alone after it failed.
const LEFT_ALONE: Duration = Duration::from_secs(1);

/// A connection to Redis that mends itself. Cheap to clone.
#[derive(Clone)]
pub struct RedisLink {
    connection: ConnectionManager,
    up: Arc<AtomicBool>,
    /// When it last failed: it is left alone for a moment then, as each try takes its time.
    failed: Arc<Mutex<Option<Instant>>>,
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
            failed: Arc::default(),
        }))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// What Redis or the way to it says.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        self.ask(command.query_async(&mut self.connection.clone()))
            .await
    }

    /// Runs several commands, sent together.
    ///
    /// # Errors
    /// What Redis or the way to it says.
    pub async fn run_all<T: FromRedisValue>(&self, commands: &redis::Pipeline) -> RedisResult<T> {
        self.ask(commands.query_async(&mut self.connection.clone()))
            .await
    }

    /// Runs a script, as one step.
    ///
    /// # Errors
    /// What Redis or the way to it says.
    pub async fn run_script<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        self.ask(script.invoke_async(&mut self.connection.clone()))
            .await
    }

    /// Whether Redis answers.
    pub async fn ping(&self) -> bool {
        let ping = redis::cmd("PING");
        let answer: RedisResult<String> = ping.query_async(&mut self.connection.clone()).await;
        self.note(answer.as_ref().err());
        answer.is_ok()
    }

    async fn ask<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_some_and(|at| at.elapsed() < LEFT_ALONE) {
            return Err((redis::ErrorKind::Io, "Redis did not answer a moment ago").into());
        }
        let answer = answer.await;
        self.note(answer.as_ref().err());
        answer
    }

    /// Says once that Redis is gone, and once that it is back.
    fn note(&self, error: Option<&RedisError>) {
        let failed = error
            .is_some_and(RedisError::is_io_error)
            .then(Instant::now);
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = failed;
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
