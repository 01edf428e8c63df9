//! Everything that can happen, in the past tense: the vocabulary of the log.
//!
//! A stored name and a schema version identify a shape for ever. A shape that changes gets the next
//! version and a step in `upcast`; every (name, version) ever written keeps a fixture in
//! `domain/fixtures/events`.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::conversation::Role;
use crate::ids::{
    ApiKeyId, ConversationId, EventId, MemoryId, MessageId, ReplyId, StreamId, UserId,
};
use crate::memory::{MemoryKind, Source};

/// Declares the events: one literal stored name and schema version for each.
macro_rules! events {
    ($($name:ident = $version:literal),+ $(,)?) => {
        /// One event, its payload only. The store adds who, where and when ([`Recorded`]).
        #[derive(Debug, Clone, PartialEq)]
        #[expect(missing_docs, reason = "each variant is documented at the struct it holds")]
        pub enum Event {
            $($name($name)),+
        }

        impl Event {
            /// Every stored name with the schema version that is written today.
            pub const TYPES: &[(&str, i16)] = &[$((stringify!($name), $version)),+];

            /// The name under which the event is stored.
            pub fn type_name(&self) -> &'static str {
                match self {
                    $(Self::$name(_) => stringify!($name)),+
                }
            }

            /// The version of the payload's shape that is written.
            pub fn schema_version(&self) -> i16 {
                match self {
                    $(Self::$name(_) => $version),+
                }
            }

            /// The payload as it is stored.
            ///
            /// # Errors
            /// When a number in it has no JSON form.
            pub fn to_payload(&self) -> Result<Vec<u8>, serde_json::Error> {
                match self {
                    $(Self::$name(event) => serde_json::to_vec(event)),+
                }
            }

            /// Reads a stored payload of any version ever written.
            ///
            /// # Errors
            /// [`UnreadableEvent`] for an unknown name or version, or a payload of another shape.
            pub fn from_payload(
                type_name: &str,
                schema_version: i16,
                payload: &[u8],
            ) -> Result<Self, UnreadableEvent> {
                let unreadable = || UnreadableEvent { type_name: type_name.to_owned(), schema_version };
                // Most are of today's version: no detour for them.
                match type_name {
                    $(stringify!($name) if schema_version == $version => {
                        return serde_json::from_slice(payload)
                            .map(Self::$name)
                            .map_err(|_| unreadable());
                    })+
                    _ => {}
                }
                let value = serde_json::from_slice(payload).map_err(|_| unreadable())?;
                let value = upcast(type_name, schema_version, value).ok_or_else(unreadable)?;
                match type_name {
                    $(stringify!($name) => serde_json::from_value(value)
                        .map(Self::$name)
                        .map_err(|_| unreadable()),)+
                    _ => Err(unreadable()),
                }
            }
        }

        $(impl From<$name> for Event {
            fn from(event: $name) -> Self {
                Self::$name(event)
            }
        })+
    };
}

events! {
    ConversationStarted = 1,
    UserMessageReceived = 1,
    ReplyStarted = 1,
    ReplyCompleted = 1,
    ReplyFailed = 1,
    ReplyCancelled = 1,
    ReplyRequested = 1,
    MessagesImported = 1,
    ConversationRenamed = 1,
    ConversationReset = 1,
    ConversationSummarised = 1,
    ConversationDeleted = 1,
    MemoryRecorded = 1,
    MemoryReinforced = 1,
    MemoryRevised = 2,
    MemorySuperseded = 1,
    MemoryFaded = 1,
    MemoriesRecalled = 1,
    MemoryForgotten = 1,
    MemoriesCleared = 1,
    ExtractionCompleted = 2,
    UserRegistered = 1,
    ApiKeyIssued = 1,
    ApiKeyRevoked = 1,
}

/// A stored event that this version of the software can't read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {type_name} version {schema_version} can't be read by this version of the software")]
pub struct UnreadableEvent {
    /// The stored name.
    pub type_name: String,
    /// The stored schema version.
    pub schema_version: i16,
}

/// Brings a stored payload to today's shape, a version at a time; `None` for a shape from the future.
fn upcast(type_name: &str, schema_version: i16, payload: Value) -> Option<Value> {
    let (_, current) = Event::TYPES.iter().find(|(name, _)| *name == type_name)?;
    if !(1..=*current).contains(&schema_version) {
        return None;
    }
    (schema_version..*current).try_fold(payload, |payload, version| {
        upcast_once(type_name, version, payload)
    })
}

/// The step from one version of a shape to the next. What the old shape did not know is given the
/// value that was meant by its absence.
fn upcast_once(type_name: &str, version: i16, mut payload: Value) -> Option<Value> {
    let fields = payload.as_object_mut()?;
    match (type_name, version) {
        // Only users revised memories then, by hand.
        ("MemoryRevised", 1) => {
            fields.insert("sources".to_owned(), Value::Array(Vec::new()));
            fields.insert("reason".to_owned(), CORRECTED_BY_HAND.into());
        }
        ("ExtractionCompleted", 1) => {
            fields.insert("silent".to_owned(), Value::Array(Vec::new()));
        }
        _ => return None,
    }
    Some(payload)
}

/// The reason of a [`MemoryRevised`] that a user wrote by hand.
pub const CORRECTED_BY_HAND: &str = "the user corrected it";

/// A conversation began. First event of its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversationStarted {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// A title, when the user gave one; otherwise the first message gives it.
    pub title: Option<String>,
}

/// The user said something and waits for a reply.
///
/// The reply's id and the process that will make it are settled here, so that the conversation is
/// busy from the moment in which the message is durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserMessageReceived {
    /// The message.
    pub message_id: MessageId,
    /// What the user said, 1..=4,000 characters.
    pub content: String,
    /// The user's time zone as an IANA name, when the client sent one.
    pub timezone: Option<String>,
    /// The reply that this message waits for.
    pub reply_id: ReplyId,
    /// The process that holds the lease on the reply: while it lives, the reply runs.
    pub lease: Uuid,
}

/// The LLM was asked. Says with what: the answer to "why did it say that?".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyStarted {
    /// The reply.
    pub reply_id: ReplyId,
    /// The memories that the prompt contained, best first.
    pub recalled: Vec<RecalledMemory>,
    /// How many earlier messages the prompt contained.
    pub context_messages: u32,
}

/// One memory in a prompt, with the scores that brought it there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecalledMemory {
    /// The memory.
    pub memory_id: MemoryId,
    /// Its text then.
    pub content: String,
    /// The fused score by which it was ranked, higher is better.
    pub score: f64,
    /// Cosine similarity of query and memory, -1..=1.
    pub similarity: f64,
}

/// The LLM finished.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyCompleted {
    /// The reply.
    pub reply_id: ReplyId,
    /// The whole text.
    pub content: String,
}

/// The reply ended without being whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyFailed {
    /// The reply.
    pub reply_id: ReplyId,
    /// The text until then, maybe empty.
    pub partial: String,
    /// What went wrong.
    pub reason: FailureReason,
}

/// Why a reply failed. The names are also the `code`s of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// No connection to the LLM.
    LlmUnavailable,
    /// Silence for too long, before the first token or between two.
    LlmTimeout,
    /// The LLM answered with an error status.
    LlmError,
    /// The answer was cut off.
    LlmInterrupted,
    /// An answer that is not understood, or an empty one.
    LlmInvalid,
    /// The service stopped, in order or not, while the reply ran.
    ServiceStopping,
}

impl FailureReason {
    /// All reasons.
    pub const ALL: [Self; 6] = [
        Self::LlmUnavailable,
        Self::LlmTimeout,
        Self::LlmError,
        Self::LlmInterrupted,
        Self::LlmInvalid,
        Self::ServiceStopping,
    ];

    /// The reason of that name.
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::LlmUnavailable => "llm_unavailable",
            Self::LlmTimeout => "llm_timeout",
            Self::LlmError => "llm_error",
            Self::LlmInterrupted => "llm_interrupted",
            Self::LlmInvalid => "llm_invalid",
            Self::ServiceStopping => "service_stopping",
        }
    }
}

/// The user stopped the reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyCancelled {
    /// The reply.
    pub reply_id: ReplyId,
    /// The text until then, maybe empty.
    pub partial: String,
}

/// The user asked again for a reply to a message whose reply failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyRequested {
    /// The new reply.
    pub reply_id: ReplyId,
    /// The message it answers.
    pub message_id: MessageId,
    /// The process that holds the lease on the reply: while it lives, the reply runs.
    pub lease: Uuid,
}

/// Messages came from another system, in the order in which they were said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessagesImported {
    /// The messages, few enough to be read for facts together.
    pub messages: Vec<ImportedMessage>,
    /// Whether those of the user are to be read for facts.
    pub extract: bool,
}

/// A message that was said elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImportedMessage {
    /// The message.
    pub message_id: MessageId,
    /// Who said it.
    pub role: Role,
    /// The speaker's name.
    pub name: Option<String>,
    /// What was said, 1..=32,000 characters.
    pub content: String,
    /// When it was said.
    pub created_at: DateTime<Utc>,
    /// Its id in the system it comes from.
    pub external_id: Option<String>,
}

/// The conversation got a title from the user.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversationRenamed {
    /// The title, 1..=200 characters.
    pub title: String,
}

/// The short-term memory of the conversation was emptied: no message and no summary from before is
/// put before the LLM any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversationReset {}

/// What was said was put in short.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversationSummarised {
    /// The summary.
    pub summary: String,
    /// The last message that it covers.
    pub through_message_id: MessageId,
}

/// The user threw the conversation away. Last event of its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConversationDeleted {}

/// A new memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryRecorded {
    /// The memory.
    pub memory_id: MemoryId,
    /// The fact as a self-contained statement, 1..=2,000 characters.
    pub content: String,
    /// What kind of fact.
    pub kind: MemoryKind,
    /// 0..=1.
    pub importance: f64,
    /// Whether the user asked to remember it; then it doesn't decay.
    pub explicit: bool,
    /// The messages that say so.
    pub sources: Vec<Source>,
    /// The slot of a single-valued fact ("name", "home"): another value supersedes this one.
    pub subject: Option<String>,
    /// When it happened, if it is something that happens at a time.
    pub occurred_at: Option<DateTime<Utc>>,
    /// Since when it holds: the time of the message, or of what happened.
    pub valid_from: DateTime<Utc>,
    /// When it was told; its importance decays from then, or from `occurred_at` when that is later.
    pub told_at: DateTime<Utc>,
    /// Why it was recorded.
    pub reason: String,
}

/// A memory was told again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryReinforced {
    /// The memory.
    pub memory_id: MemoryId,
    /// The messages that say so again.
    pub sources: Vec<Source>,
    /// The time of the latest of them.
    pub reinforced_at: DateTime<Utc>,
    /// Why it counts as the same fact.
    pub reason: String,
}

/// A memory was corrected or enriched: by the user, or by extraction when a message says the same
/// fact with more to it ("has a dog", "has a dog named Rex"). What is not given stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryRevised {
    /// The memory.
    pub memory_id: MemoryId,
    /// The new statement, 1..=2,000 characters.
    pub content: Option<String>,
    /// The new kind.
    pub kind: Option<MemoryKind>,
    /// The new importance, 0..=1.
    pub importance: Option<f64>,
    /// Whether the user asked to remember it, if that is new.
    pub explicit: Option<bool>,
    /// When it happened, if that is new.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The slot of the new statement; counts only when there is one.
    pub subject: Option<String>,
    /// The messages that say so, besides those that the memory rests on; none when the user wrote it
    /// by hand.
    pub sources: Vec<Source>,
    /// From when its importance decays now: when it was revised, or told again.
    pub revised_at: DateTime<Utc>,
    /// Why it was revised.
    pub reason: String,
}

/// A memory no longer holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemorySuperseded {
    /// The memory that is closed.
    pub memory_id: MemoryId,
    /// The memory that replaces it, if one does.
    pub superseded_by: Option<MemoryId>,
    /// Until when it held.
    pub valid_to: DateTime<Utc>,
    /// The messages that say so.
    pub sources: Vec<Source>,
    /// Why it counts as contradicted.
    pub reason: String,
}

/// The importance of a memory has sunk below the floor: it is kept, and no longer recalled until it is
/// told again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryFaded {
    /// The memory.
    pub memory_id: MemoryId,
    /// What was left of its importance, 0..=1.
    pub importance_now: f64,
    /// The floor that it has sunk below, 0..=1.
    pub fade_below: f64,
}

/// Replies made use of memories that they were given: these decay from then on. One event holds the
/// uses of many replies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoriesRecalled {
    /// The memories, each once.
    pub memories: Vec<MemoryUse>,
    /// Up to when replies were looked at.
    pub through: DateTime<Utc>,
}

/// How replies made use of a memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// The memory.
    pub memory_id: MemoryId,
    /// How many replies did, at least 1.
    pub times: u32,
    /// When the last of them ended.
    pub last_at: DateTime<Utc>,
}

/// The user asked to forget a memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoryForgotten {
    /// The memory.
    pub memory_id: MemoryId,
}

/// The user asked to forget what came from a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemoriesCleared {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The version of its stream up to which nothing is remembered or searched any more, and
    /// nothing is read for facts either.
    pub through_version: i64,
    /// The memories that rested on this conversation alone: gone.
    pub forgotten: Vec<MemoryId>,
    /// The memories that other conversations support too: they lose these sources and stay.
    pub unsupported: Vec<MemoryId>,
}

/// The messages of a conversation were read for facts, up to a place; also when none were found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtractionCompleted {
    /// The conversation.
    pub conversation_id: ConversationId,
    /// The version of its stream up to which messages were read: the cursor.
    pub through_version: i64,
    /// Which arm found what was found.
    pub method: ExtractionMethod,
    /// Why patterns stood in for the LLM, if they did.
    pub fallback: Option<String>,
    /// How many statements were found in the messages.
    pub found: u32,
    /// How many of them were left out, and why: `(reason, count)`.
    pub left_out: Vec<(String, u32)>,
    /// How many messages gave nothing, and why: `(reason, count)`.
    pub silent: Vec<(String, u32)>,
}

/// Which arm of extraction found what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExtractionMethod {
    /// The LLM, with schema-bound JSON.
    Llm,
    /// Patterns.
    Heuristic,
    /// Nobody: there was no message of the user to read.
    None,
}

/// A user appeared for the first time (or for the first time since being erased).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserRegistered {
    /// The id by which callers name the user.
    pub external_id: String,
}

/// The user got a key for programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyIssued {
    /// The key's public half.
    pub key_id: ApiKeyId,
    /// What the user calls it, 1..=100 characters.
    pub name: String,
    /// SHA-256 of the key's secret half, hexadecimal. The secret itself is nowhere.
    pub secret_hash: String,
    /// When it was issued.
    pub issued_at: DateTime<Utc>,
}

/// A key is no longer accepted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyRevoked {
    /// The key.
    pub key_id: ApiKeyId,
    /// When it was revoked.
    pub revoked_at: DateTime<Utc>,
}

/// What is known about an event besides its content. Stored in the clear: ids and figures only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    /// The whole conversation turn: the id of the user's message that began it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// The event directly before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// The W3C trace context of the request or job that appended the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The id of the prompt template, when an LLM was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<String>,
    /// The hash of the prompt template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_hash: Option<String>,
    /// The model that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether the prompt held a summary of what was said earlier, when it was one for a reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<bool>,
    /// Sampling temperature and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Tokens used, as the LLM reports them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// The embedding model in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_model: Option<String>,
    /// The version of the software.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_version: Option<String>,
    /// The id that an imported event had where it was first recorded: by it the event is known again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Uuid>,
    /// How many versions before an imported event are left out: of what was forgotten where it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<i64>,
    /// When an imported event came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported_at: Option<DateTime<Utc>>,
}

/// An event plus what the store assigned.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The event's id.
    pub id: EventId,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place in the stream, from 1.
    pub version: i64,
    /// Its place in the whole log.
    pub position: i64,
    /// Whose it is.
    pub user: UserId,
    /// When it was stored.
    pub recorded_at: DateTime<Utc>,
    /// What is known about it. It is large, and hardly ever looked at where events go by.
    pub metadata: Arc<Metadata>,
    /// What happened.
    pub event: Event,
}

impl Recorded {
    /// When the event came into this log: later than it was recorded, if it was imported.
    pub fn arrived_at(&self) -> DateTime<Utc> {
        self.metadata.imported_at.unwrap_or(self.recorded_at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;

    fn fixtures() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/events")
    }

    #[test]
    fn every_event_version_ever_written_can_still_be_read() {
        let mut seen = BTreeSet::new();
        for entry in std::fs::read_dir(fixtures()).expect("fixtures") {
            let path = entry.expect("entry").path();
            let stem = path
                .file_stem()
                .and_then(|s| s.to_str())
                .expect("name")
                .to_owned();
            let (name, version) = stem.split_once(".v").expect("NAME.vN.json");
            let version: i16 = version.parse().expect("version");
            let stored = std::fs::read(&path).expect("read");
            let event = Event::from_payload(name, version, &stored).expect(&stem);
            assert_eq!(event.type_name(), name);
            if event.schema_version() == version {
                let stored: Value = serde_json::from_slice(&stored).expect("json");
                let written: Value =
                    serde_json::from_slice(&event.to_payload().expect("payload")).expect("json");
                assert_eq!(
                    written, stored,
                    "{stem}: what is written differs from the fixture"
                );
            }
            seen.insert((name.to_owned(), version));
        }
        for (name, version) in Event::TYPES {
            for version in 1..=*version {
                assert!(
                    seen.contains(&((*name).to_owned(), version)),
                    "no fixture {name}.v{version}.json"
                );
            }
        }
    }

    #[test]
    fn what_an_old_shape_did_not_know_is_what_was_meant_then() {
        let old = std::fs::read(fixtures().join("MemoryRevised.v1.json")).expect("fixture");
        let Ok(Event::MemoryRevised(event)) = Event::from_payload("MemoryRevised", 1, &old) else {
            panic!("readable")
        };
        assert_eq!(event.content.as_deref(), Some("User's name is Alicia"));
        assert_eq!(event.reason, CORRECTED_BY_HAND);
        assert!(event.sources.is_empty() && event.explicit.is_none());
    }

    #[test]
    fn an_unknown_event_or_version_is_named() {
        let error = Event::from_payload("TeaServed", 1, b"{}").expect_err("unknown");
        assert!(error.to_string().contains("TeaServed version 1"));
        for version in [-1, 0, 99] {
            let read = Event::from_payload("UserRegistered", version, b"{\"external_id\":\"a\"}");
            assert!(read.is_err(), "{version}");
        }
        assert!(Event::from_payload("UserRegistered", 1, b"not json").is_err());
    }
}
