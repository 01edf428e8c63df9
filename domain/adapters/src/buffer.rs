//! The short-term buffer: the last messages of each conversation, kept near.
//!
//! It is a cache of what the log says. Redis holds it when configured, the process otherwise; a
//! reader that finds it missing or behind rebuilds it from the log, so losing it loses nothing.

use std::sync::Arc;
use std::time::Duration;

use companion_domain::conversation::Conversation;
use companion_domain::events::Recorded;
use companion_domain::ids::{ConversationId, StreamId, UserId};
use moka::future::Cache;

use crate::config::Config;
use crate::log::event_store::{EventStore, ReadError};
use crate::redis_link::RedisLink;

/// Stores a state unless a newer one is there: `KEYS[1]` the buffer, `ARGV` version, state, seconds.
const STORE: &str = "local version = redis.call('HGET', KEYS[1], 'version')
if version and tonumber(version) >= tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'version', ARGV[1], 'state', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1";

/// Puts a mark in the place of a buffer that no state is newer than: `KEYS[1]` the buffer, `ARGV` the
/// mark's version and seconds.
const BURY: &str = "redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'version', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1";

/// No stream gets there. The largest number that Redis's scripts compare exactly.
const BURIED: i64 = (1 << 53) - 1;
/// How long the mark stays: longer than any request that read the log before may take.
const BURIED_FOR_SECONDS: u64 = 86_400;

/// The buffers of all conversations.
#[derive(Clone)]
pub struct Buffer {
    redis: Option<RedisLink>,
    process: Cache<ConversationId, Arc<Conversation>>,
    keep: usize,
    ttl: Duration,
}

impl Buffer {
    /// The buffers in this Redis, or else in the process; there too while Redis is down.
    pub fn new(config: &Config, redis: Option<RedisLink>) -> Self {
        let process = Cache::builder()
            .max_capacity(10_000)
            .time_to_idle(config.short_term_memory_ttl)
            .build();
        Self {
            redis,
            process,
            keep: config.short_term_memory_size,
            ttl: config.short_term_memory_ttl,
        }
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
            let mut delete = redis::cmd("DEL");
            // One that stays behind is no newer than the log, and expires.
            let _ = redis.run::<i64>(delete.arg(key(conversation))).await;
        }
        self.process.invalidate(&conversation).await;
    }

    /// Whether it is shared with other processes, by Redis.
    pub fn is_shared(&self) -> bool {
        self.redis.is_some()
    }

    /// Throws a conversation's buffer away for good: whoever read the log before and comes late with
    /// it stores nothing any more. `false` when Redis does not answer.
    pub async fn bury(&self, conversation: ConversationId) -> bool {
        self.process.invalidate(&conversation).await;
        let Some(redis) = &self.redis else {
            return true;
        };
        let script = redis::Script::new(BURY);
        let mut call = script.key(key(conversation));
        call.arg(BURIED).arg(BURIED_FOR_SECONDS);
        redis.run_script::<i64>(&call).await.is_ok()
    }

    /// Throws away what this process itself holds of a user's conversations.
    pub async fn forget_user(&self, user: UserId) {
        let of_user: Vec<ConversationId> = self
            .process
            .iter()
            .filter(|(_, state)| state.user == Some(user))
            .map(|(conversation, _)| *conversation)
            .collect();
        for conversation in of_user {
            self.process.invalidate(&conversation).await;
        }
    }

    /// Forgets what this process has of everybody; Redis keeps what it has.
    pub fn forget_all(&self) {
        self.process.invalidate_all();
    }

    /// The state of a conversation as it is buffered, which may be behind the log.
    pub async fn peek(&self, conversation: ConversationId) -> Option<Arc<Conversation>> {
        self.load(conversation).await
    }

    async fn load(&self, conversation: ConversationId) -> Option<Arc<Conversation>> {
        let Some(redis) = &self.redis else {
            return self.process.get(&conversation).await;
        };
        let mut read = redis::cmd("HGET");
        read.arg(key(conversation)).arg("state");
        match redis.run::<Option<Vec<u8>>>(&read).await {
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
            let script = redis::Script::new(STORE);
            let mut call = script.key(key(conversation));
            call.arg(state.version).arg(json).arg(self.ttl.as_secs());
            if redis.run_script::<i64>(&call).await.is_ok() {
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

fn key(conversation: ConversationId) -> String {
    format!("companion:buffer:{conversation}")
}
