//! Memories: the list, and the search that also finds messages.

use chrono::{DateTime, Utc};
use companion_adapters::memories::{self, Filter, Memory};
use companion_adapters::recall::{self, Found, Item};
use companion_domain::ids::ConversationId;
use companion_domain::memory::{Decay, MemoryKind, Source};
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::types::Any;
use poem_openapi::{Enum, Object, OpenApi};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::error::Problem;
use crate::page::{self, Read};

/// How many results a search has unless asked otherwise.
const DEFAULT_TOP_K: u32 = 10;

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
    conversation_id: Uuid,
    message_id: Uuid,
    /// The message's id in the system it was imported from.
    external_id: Option<String>,
}

impl From<&Source> for SourceView {
    fn from(source: &Source) -> Self {
        Self {
            conversation_id: source.conversation_id.0,
            message_id: source.message_id.0,
            external_id: None,
        }
    }
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

/// A page of memories, newest first.
#[derive(Debug, Object)]
pub(crate) struct MemoryList {
    memories: Vec<MemoryView>,
    /// How many there are in all.
    total: i64,
}

/// What to look for.
#[derive(Debug, Object)]
pub(crate) struct SearchRequest {
    /// The question, 1 to 4,000 characters.
    #[oai(validator(min_length = 1, max_length = 4000))]
    query: String,
    /// How many results, 1 to 100; 10 unless said.
    #[oai(validator(minimum(value = "1"), maximum(value = "100")))]
    top_k: Option<u32>,
    /// Only memories of these kinds.
    kinds: Option<Vec<Kind>>,
    /// Find messages too.
    include_messages: Option<bool>,
    /// Only what comes from this conversation.
    conversation_id: Option<Uuid>,
}

/// A memory or message that answers the query.
#[derive(Debug, Object)]
pub(crate) struct SearchResult {
    id: Uuid,
    /// `memory` or `message`.
    source: String,
    content: String,
    /// `null` for a message.
    kind: Option<Kind>,
    /// `null` for a message.
    importance: Option<f64>,
    /// `null` for a message.
    importance_now: Option<f64>,
    /// Cosine similarity to the query.
    similarity: f64,
    /// The fused score by which it is ranked.
    score: f64,
    created_at: DateTime<Utc>,
    sources: Vec<SourceView>,
}

/// What was found, best first.
#[derive(Debug, Object)]
pub(crate) struct SearchResults {
    results: Vec<SearchResult>,
}

pub(crate) struct MemoriesApi;

#[OpenApi]
impl MemoriesApi {
    /// List memories
    ///
    /// Newest first.
    #[oai(path = "/memories", method = "get")]
    #[expect(
        clippy::too_many_arguments,
        reason = "one for each parameter of the operation"
    )]
    async fn list(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// How many to list, 1 to 200; 50 unless said.
        limit: Query<Option<i64>>,
        /// How many to pass over.
        offset: Query<Option<i64>>,
        /// Only of this kind.
        kind: Query<Option<Kind>>,
        /// Only what comes from this conversation.
        conversation_id: Query<Option<Uuid>>,
        /// Superseded and faded ones too.
        include_inactive: Query<Option<bool>>,
    ) -> Result<Read<MemoryList>, Problem> {
        let (limit, offset) = (page::limit(limit.0)?, page::offset(offset.0)?);
        let user = caller.user;
        let filter = Filter {
            kind: kind.0.map(MemoryKind::from),
            conversation: conversation_id.0.map(ConversationId),
            include_inactive: include_inactive.0.unwrap_or(false),
            as_of: None,
        };
        let lag = page::wait_for_own_writes(&app.core, user).await?;
        let mut connection = app.core.pool.acquire().await?;
        let decay = &app.core.config.decay;
        let (rows, total) =
            memories::list(&mut connection, user, decay, &filter, limit, offset).await?;
        let now = Utc::now();
        let memories = rows.into_iter().map(|row| view(row, decay, now)).collect();
        Ok(Read::new(MemoryList { memories, total }, lag))
    }

    /// Search memories and messages
    ///
    /// By meaning and by words together, best first.
    #[oai(path = "/memories/search", method = "post")]
    async fn search(
        &self,
        app: Data<&App>,
        caller: Caller,
        body: JsonBody<SearchRequest>,
    ) -> Result<Read<SearchResults>, Problem> {
        let request = body.0;
        if request.query.trim().is_empty() {
            return Err(Problem::invalid_field("query", "must not be blank"));
        }
        let user = caller.user;
        let (lag, vector) = tokio::join!(
            page::wait_for_own_writes(&app.core, user),
            app.core.embedder.embed_query(&request.query),
        );
        let vector = vector.map_err(|error| {
            tracing::error!("a query could not be embedded: {error}");
            Problem::new(
                poem::http::StatusCode::SERVICE_UNAVAILABLE,
                "embedding_unavailable",
                "The embedding model has stopped. Restart the service.",
            )
        })?;
        let kinds: Option<Vec<MemoryKind>> = request
            .kinds
            .map(|kinds| kinds.into_iter().map(MemoryKind::from).collect());
        let query = recall::Query {
            user,
            text: &request.query,
            vector: &vector,
            top_k: request.top_k.unwrap_or(DEFAULT_TOP_K) as usize,
            threshold: app.core.config.memory_similarity_threshold,
            kinds: kinds.as_deref(),
            include_messages: request.include_messages.unwrap_or(false),
            conversation: request.conversation_id.map(ConversationId),
            as_of: None,
        };
        let found = recall::search(&app.core.pool, &app.core.config.decay, &query).await?;
        Ok(Read::new(
            SearchResults {
                results: found.into_iter().map(result).collect(),
            },
            lag?,
        ))
    }
}

fn view(memory: Memory, decay: &Decay, now: DateTime<Utc>) -> MemoryView {
    MemoryView {
        id: memory.memory_id,
        kind: memory.kind().into(),
        importance_now: memory.importance_now(decay, now),
        sources: memory.sources.iter().map(SourceView::from).collect(),
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
        metadata["occurred_at"] = json!(at);
    }
    metadata
}

fn result(found: Found) -> SearchResult {
    match found.item {
        Item::Memory(memory) => SearchResult {
            id: memory.memory_id,
            source: "memory".to_owned(),
            kind: Some(memory.kind().into()),
            importance: Some(memory.importance),
            importance_now: Some(found.importance_now),
            similarity: found.similarity,
            score: found.score,
            created_at: memory.created_at,
            sources: memory.sources.iter().map(SourceView::from).collect(),
            content: memory.content,
        },
        Item::Message(message) => SearchResult {
            id: message.message_id,
            source: "message".to_owned(),
            content: message.content,
            kind: None,
            importance: None,
            importance_now: None,
            similarity: found.similarity,
            score: found.score,
            created_at: message.created_at,
            sources: vec![SourceView {
                conversation_id: message.conversation_id,
                message_id: message.message_id,
                external_id: message.external_id,
            }],
        },
    }
}
