//! A memory as the API shows it.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::memories::Memory;
use companion_adapters::messages;
use companion_domain::ids::{MessageId, UserId};
use companion_domain::memory::{Decay, MemoryKind, Source};
use poem_openapi::payload::Json;
use poem_openapi::types::Any;
use poem_openapi::{ApiResponse, Enum, Object};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::Problem;

/// What kind of thing a memory states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Something that is so.
    Fact,
    /// A like, a dislike, a habit.
    Preference,
    /// Something that happens at a time.
    Event,
    /// A passing circumstance.
    Context,
}

impl From<Kind> for MemoryKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Fact => Self::Fact,
            Kind::Preference => Self::Preference,
            Kind::Event => Self::Event,
            Kind::Context => Self::Context,
        }
    }
}

impl From<MemoryKind> for Kind {
    fn from(kind: MemoryKind) -> Self {
        match kind {
            MemoryKind::Fact => Self::Fact,
            MemoryKind::Preference => Self::Preference,
            MemoryKind::Event => Self::Event,
            MemoryKind::Context => Self::Context,
        }
    }
}

/// A message that a memory rests on.
#[derive(Debug, Object)]
pub(crate) struct SourceView {
    pub(super) conversation_id: Uuid,
    pub(super) message_id: Uuid,
    /// The message's id in the system it was imported from.
    pub(super) external_id: Option<String>,
}

/// One atomic fact about the user.
#[derive(Debug, Object)]
#[oai(rename = "Memory")]
pub(crate) struct MemoryView {
    id: Uuid,
    content: String,
    kind: Kind,
    /// `live`, `superseded` or `faded`.
    state: String,
    /// As recorded, 0 to 1.
    importance: f64,
    /// After decay, 0 to 1.
    importance_now: f64,
    metadata: Any<Value>,
    /// The messages it rests on.
    sources: Vec<SourceView>,
    /// Since when it holds.
    valid_from: DateTime<Utc>,
    /// Until when it held.
    valid_to: Option<DateTime<Utc>>,
    /// The memory that took its place.
    superseded_by: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    version: i64,
}

/// One memory with its version, for `If-Match`.
#[derive(ApiResponse)]
pub(crate) enum OneMemory {
    /// The memory.
    #[oai(status = 200)]
    Ok(
        Json<MemoryView>,
        /// The version of the memory.
        #[oai(header = "ETag")]
        String,
        /// `behind` when the answer may lack what was written last.
        #[oai(header = "X-Projection-Lag")]
        Option<String>,
    ),
}

impl OneMemory {
    pub(crate) fn new(view: MemoryView, lag: Option<String>) -> Self {
        let tag = view.tag();
        Self::Ok(Json(view), tag, lag)
    }
}

impl MemoryView {
    /// The version as an entity tag.
    pub(crate) fn tag(&self) -> String {
        format!("\"{}\"", self.version)
    }

    fn new(memory: Memory, external: &ExternalIds, decay: &Decay, now: DateTime<Utc>) -> Self {
        Self {
            id: memory.memory_id,
            kind: memory.kind().into(),
            importance_now: memory.importance_now(decay, now),
            sources: memory.sources.iter().map(|s| external.view(s)).collect(),
            metadata: Any(metadata(&memory)),
            content: memory.content,
            state: memory.state,
            importance: memory.importance,
            valid_from: memory.valid_from,
            valid_to: memory.valid_to,
            superseded_by: memory.superseded_by,
            created_at: memory.created_at,
            updated_at: memory.updated_at,
            version: memory.version,
        }
    }
}

/// Memories as they are shown, with their importance at a time.
pub(crate) async fn views(
    core: &Core,
    user: UserId,
    memories: Vec<Memory>,
    now: DateTime<Utc>,
) -> Result<Vec<MemoryView>, Problem> {
    let sources = memories.iter().flat_map(|memory| memory.sources.iter());
    let external = ExternalIds::of(core, user, sources).await?;
    let view = |memory| MemoryView::new(memory, &external, &core.config.decay, now);
    Ok(memories.into_iter().map(view).collect())
}

/// One memory as it is shown now.
pub(crate) async fn view(core: &Core, user: UserId, memory: Memory) -> Result<MemoryView, Problem> {
    let sources = memory.sources.0.clone();
    let external = ExternalIds::of(core, user, &sources).await?;
    let decay = &core.config.decay;
    Ok(MemoryView::new(memory, &external, decay, Utc::now()))
}

/// The ids that messages have in the systems they come from.
pub(crate) struct ExternalIds(HashMap<MessageId, Option<String>>);

impl ExternalIds {
    /// Those of the messages of these sources.
    pub(crate) async fn of(
        core: &Core,
        user: UserId,
        sources: impl IntoIterator<Item = &Source>,
    ) -> Result<Self, Problem> {
        let messages: Vec<MessageId> = sources.into_iter().map(|s| s.message_id).collect();
        if messages.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        Ok(Self(
            messages::external_ids(&core.pool, user, &messages).await?,
        ))
    }

    /// Whether the message is there and was not cleared.
    pub(crate) fn knows(&self, source: &Source) -> bool {
        self.0.contains_key(&source.message_id)
    }

    pub(crate) fn view(&self, source: &Source) -> SourceView {
        SourceView {
            conversation_id: source.conversation_id.0,
            message_id: source.message_id.0,
            external_id: self.0.get(&source.message_id).cloned().flatten(),
        }
    }
}

/// What else is known of a memory.
fn metadata(memory: &Memory) -> Value {
    let mut metadata = json!({});
    if memory.explicit {
        metadata["explicit"] = json!(true);
    }
    if let Some(subject) = &memory.subject {
        metadata["subject"] = json!(subject);
    }
    if let Some(at) = memory.occurred_at {
        metadata["occurred_at"] = json!(at.to_rfc3339());
    }
    metadata
}
