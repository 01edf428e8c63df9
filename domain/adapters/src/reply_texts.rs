//! The texts of running replies, for the processes that don't make them. In Redis, for as long as a
//! reply may run; where there is none, another process waits for the end of the reply in the log.

use std::time::Duration;

use companion_domain::ids::ReplyId;

use crate::redis_link::RedisLink;

/// How long a text is kept after its last growth. The end of the reply is in the log.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The shared texts.
#[derive(Clone)]
pub struct ReplyTexts(Option<RedisLink>);

impl ReplyTexts {
    /// The texts in this Redis, if there is one.
    pub fn new(redis: Option<RedisLink>) -> Self {
        Self(redis)
    }

    /// Whether there is a place to share texts.
    pub fn are_shared(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a piece at its place, bytes from the beginning. `false` when that failed: the same
    /// place can be written again.
    pub async fn write(&self, reply: ReplyId, from: usize, piece: &str) -> bool {
        let Some(redis) = &self.0 else { return false };
        let mut commands = redis::pipe();
        commands
            .cmd("SETRANGE")
            .arg(key(reply))
            .arg(from)
            .arg(piece)
            .ignore();
        commands
            .cmd("EXPIRE")
            .arg(key(reply))
            .arg(KEPT_FOR.as_secs())
            .ignore();
        redis.run_all::<()>(&commands).await.is_ok()
    }

    /// Throws a text away: the log has it.
    pub async fn forget(&self, reply: ReplyId) {
        if let Some(redis) = &self.0 {
            // One that stays behind expires.
            let _ = redis.run::<i64>(redis::cmd("DEL").arg(key(reply))).await;
        }
    }

    /// What there is after the first `from` bytes; empty when there is nothing (yet).
    pub async fn read(&self, reply: ReplyId, from: usize) -> String {
        let Some(redis) = &self.0 else {
            return String::new();
        };
        let mut command = redis::cmd("GETRANGE");
        command.arg(key(reply)).arg(from).arg(-1);
        let bytes: Vec<u8> = redis.run(&command).await.unwrap_or_default();
        // A Redis that lost the beginning fills its place with NUL, which no reply holds: then all of
        // it is waited for in the log.
        if bytes.contains(&0) {
            return String::new();
        }
        String::from_utf8(bytes).unwrap_or_default()
    }
}

fn key(reply: ReplyId) -> String {
    format!("companion:reply:{reply}")
}
