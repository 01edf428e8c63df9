//! The short-term buffer: the last messages of each conversation, kept near.
//!
//! It is a cache of what the log says. Redis holds it when configured, the process otherwise; a
//! reader that finds it missing or behind rebuilds it from the log, so losing it loses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use companion_domain::conversation::Conversation;
use companion_domain::events::Recorded;
use companion_domain::ids::{ConversationId, StreamId};
use moka::future::Cache;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};

use crate::config::Config;
use crate::event_store::{EventStore, ReadError};

/// How long Redis may take before the process's own buffer stands in.
const REDIS_TIMEOUT: Duration = Duration::from_millis(500);

/// Stores a state unless a newer one is there: `KEYS[1]` the buffer, `ARGV` version, state, seconds.
const STORE: &str = "local version = redis.call('HGET', KEYS[1], 'version')
if version and tonumber(version) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'state', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1";

/// The buffers of all conversations.
#[derive(Clone)]
pub struct Buffer {
    redis: Option<Redis>,
    process: Cache<ConversationId, Arc<Conversation>>,
    keep: usize,
    ttl: Duration,
}

#[derive(Clone)]
struct Redis {
    connection: ConnectionManager,
    up: Arc<AtomicBool>,
}

/// Why Redis can't be used.
#[derive(Debug, thiserror::Error)]
#[error("REDIS_URL can't be used: {0}; for example REDIS_URL=redis://localhost:6379/0")]
pub struct InvalidRedis(String);

impl Buffer {
    /// The buffer that the configuration asks for. A Redis that is down is no error: the process's
    /// own buffer stands in until it is back.
    ///
    /// # Errors
    /// [`InvalidRedis`] when the URL makes no sense.
    pub async fn new(config: &Config) -> Result<Self, InvalidRedis> {
        let redis = match &config.redis_url {
            None => None,
            Some(url) => {
                let client = redis::Client::open(url.expose())
                    .map_err(|error| InvalidRedis(error.to_string()))?;
                let settings = ConnectionManagerConfig::new()
                    .set_connection_timeout(Some(REDIS_TIMEOUT))
                    .set_response_timeout(Some(REDIS_TIMEOUT))
                    .set_number_of_retries(1)
                    .set_max_delay(Duration::from_secs(2));
                let connection = ConnectionManager::new_lazy_with_config(client, settings)
                    .map_err(|error| InvalidRedis(error.to_string()))?;
                Some(Redis {
                    connection,
                    up: Arc::new(AtomicBool::new(true)),
                })
            }
        };
        let process = Cache::builder()
            .max_capacity(10_000)
            .time_to_idle(config.short_term_memory_ttl)
            .build();
        Ok(Self {
            redis,
            process,
            keep: config.short_term_memory_size,
            ttl: config.short_term_memory_ttl,
        })
    }

    /// Whether Redis answers; `None` when none is configured.
    pub async fn ping(&self) -> Option<bool> {
        let redis = self.redis.as_ref()?;
        let mut connection = redis.connection.clone();
        let answer: redis::RedisResult<String> =
            redis::cmd("PING").query_async(&mut connection).await;
        redis.note(answer.as_ref().err());
        Some(answer.is_ok())
    }

    /// The state of a conversation as the log has it now, from the buffer and the log's tail.
    ///
    /// # Errors
    /// [`ReadError`] when the log can't be read.
    pub async fn current(
        &self,
        store: &EventStore,
        conversation: ConversationId,
    ) -> Result<Arc<Conversation>, ReadError> {
        let buffered = self.load(conversation).await.unwrap_or_default();
        let tail = store
            .read_stream(&StreamId::conversation(conversation), buffered.version)
            .await?;
        if tail.is_empty() {
            return Ok(buffered);
        }
        let mut state = Arc::unwrap_or_clone(buffered);
        for recorded in &tail {
            state.evolve(recorded, self.keep);
        }
        let state = Arc::new(state);
        self.store(conversation, state.clone()).await;
        Ok(state)
    }

    /// Takes in events of one conversation as they are projected. A gap (the buffer was lost) is
    /// left to the next reader, who rebuilds from the log.
    pub async fn project(&self, conversation: ConversationId, events: &[&Recorded]) {
        let buffered = self.load(conversation).await.unwrap_or_default();
        let mut state = Conversation::clone(&buffered);
        for recorded in events {
            if recorded.version == state.version + 1 {
                state.evolve(recorded, self.keep);
            }
        }
        if state.version > buffered.version {
            self.store(conversation, Arc::new(state)).await;
        }
    }

    /// Throws a conversation's buffer away; the next reader rebuilds it from the log.
    pub async fn forget(&self, conversation: ConversationId) {
        if let Some(redis) = &self.redis {
            let mut connection = redis.connection.clone();
            let gone: redis::RedisResult<i64> = redis::cmd("DEL")
                .arg(key(conversation))
                .query_async(&mut connection)
                .await;
            redis.note(gone.as_ref().err());
        }
        self.process.invalidate(&conversation).await;
    }

    async fn load(&self, conversation: ConversationId) -> Option<Arc<Conversation>> {
        let Some(redis) = &self.redis else {
            return self.process.get(&conversation).await;
        };
        let mut connection = redis.connection.clone();
        let state: redis::RedisResult<Option<Vec<u8>>> = redis::cmd("HGET")
            .arg(key(conversation))
            .arg("state")
            .query_async(&mut connection)
            .await;
        redis.note(state.as_ref().err());
        match state {
            // What can't be read was written by another version: the log has it all.
            Ok(state) => state
                .and_then(|bytes| serde_json::from_slice(&bytes).ok())
                .map(Arc::new),
            Err(_) => self.process.get(&conversation).await,
        }
    }

    async fn store(&self, conversation: ConversationId, state: Arc<Conversation>) {
        if let Some(redis) = &self.redis
            && let Ok(json) = serde_json::to_vec(&*state)
        {
            let mut connection = redis.connection.clone();
            let stored: redis::RedisResult<i64> = redis::Script::new(STORE)
                .key(key(conversation))
                .arg(state.version)
                .arg(json)
                .arg(self.ttl.as_secs())
                .invoke_async(&mut connection)
                .await;
            redis.note(stored.as_ref().err());
            if stored.is_ok() {
                return;
            }
        }
        self.process
            .entry(conversation)
            .and_upsert_with(|old| {
                let newest = match old {
                    Some(old) if old.value().version >= state.version => old.into_value(),
                    _ => state,
                };
                std::future::ready(newest)
            })
            .await;
    }
}

impl Redis {
    /// Says once that Redis is gone, and once that it is back.
    fn note(&self, error: Option<&redis::RedisError>) {
        match error {
            Some(error) if self.up.swap(false, Ordering::Relaxed) => {
                tracing::warn!(kind = ?error.kind(), "Redis does not answer; buffers are kept in the process until it does");
            }
            None if !self.up.swap(true, Ordering::Relaxed) => tracing::info!("Redis answers again"),
            _ => {}
        }
    }
}

fn key(conversation: ConversationId) -> String {
    format!("companion:buffer:{conversation}")
}
