//! Memories: the list, one of them, and the search that also finds messages.

use chrono::{DateTime, Utc};
use companion_adapters::memories::{self, Filter};
use companion_adapters::recall::{self, Found, Item, RecallError};
use companion_domain::ids::{ConversationId, MemoryId};
use companion_domain::memory::MemoryKind;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::body::JsonBody;
use crate::code::Code;
use crate::error::Problem;
use crate::owned;
use crate::page::{self, Read};
use crate::queries::memory_history::{self, HistoryList};
use crate::queries::memory_view::{
    ExternalIds, Kind, MemoryView, OneMemory, SourceView, view, views,
};

/// How many results a search has unless asked otherwise.
const DEFAULT_TOP_K: u32 = 10;

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
    /// What was believed and had been said then, a time of RFC 3339.
    as_of: Option<DateTime<Utc>>,
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
    /// The live ones, newest first. `as_of` asks for what was believed at an earlier time; what you
    /// asked to forget is in no past either.
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
        /// As they were believed then, a time of RFC 3339, for example 2025-03-01T12:00:00Z.
        as_of: Query<Option<String>>,
        /// Superseded and faded ones too.
        include_inactive: Query<Option<bool>>,
    ) -> Result<Read<MemoryList>, Problem> {
        let (limit, offset) = (page::limit(limit.0)?, page::offset(offset.0)?);
        let user = caller.user;
        let filter = Filter {
            kind: kind.0.map(MemoryKind::from),
            conversation: conversation_id.0.map(ConversationId),
            include_inactive: include_inactive.0.unwrap_or(false),
            as_of: page::as_of(as_of.0.as_deref())?,
        };
        let lag = page::wait_for_own_writes(&app.core, user).await?;
        let mut connection = app.core.pool.acquire().await?;
        if let Some(conversation) = filter.conversation {
            owned::check_conversation(&mut connection, user, conversation, lag.as_deref()).await?;
        }
        let decay = &app.core.config.decay;
        let (rows, total) =
            memories::list(&mut connection, user, decay, &filter, limit, offset).await?;
        drop(connection);
        let now = filter.as_of.unwrap_or_else(Utc::now);
        let memories = views(&app.core, user, rows, now).await?;
        Ok(Read::new(MemoryList { memories, total }, lag))
    }

    /// Get a memory
    ///
    /// Of any state. The `ETag` is its version, for `If-Match`.
    #[oai(path = "/memories/:id", method = "get")]
    async fn get(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The memory.
        id: Path<Uuid>,
    ) -> Result<OneMemory, Problem> {
        let user = caller.user;
        let lag = page::wait_for_own_writes(&app.core, user).await?;
        let memory = owned::memory(&app.core, user, MemoryId(id.0), lag.as_deref()).await?;
        Ok(OneMemory::new(view(&app.core, user, memory).await?, lag))
    }

    /// Get the history of a memory
    ///
    /// Every event that touched it, in order: why it is believed, from which messages, and which
    /// prompt and model found it.
    #[oai(path = "/memories/:id/history", method = "get")]
    async fn history(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The memory.
        id: Path<Uuid>,
    ) -> Result<Read<HistoryList>, Problem> {
        let (user, id) = (caller.user, MemoryId(id.0));
        let lag = page::wait_for_own_writes(&app.core, user).await?;
        owned::memory(&app.core, user, id, lag.as_deref()).await?;
        Ok(Read::new(
            memory_history::of(&app.core, user, id).await?,
            lag,
        ))
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
        let conversation = request.conversation_id.map(ConversationId);
        let user = caller.user;
        let core = &app.core;
        // The index must hold the caller's own writes; the query is embedded meanwhile.
        let ready = async {
            let lag = page::wait_for_own_writes(core, user).await?;
            if let Some(conversation) = conversation {
                let mut connection = core.pool.acquire().await?;
                owned::check_conversation(&mut connection, user, conversation, lag.as_deref())
                    .await?;
            }
            Ok::<_, Problem>((lag, core.indexes.fresh(&core.pool, user).await?))
        };
        let (ready, asked) = tokio::join!(ready, recall::ask(core, user, &request.query));
        let (lag, index) = ready?;
        let asked = asked.map_err(RecallError::from)?;
        let kinds: Option<Vec<MemoryKind>> = request
            .kinds
            .map(|kinds| kinds.into_iter().map(MemoryKind::from).collect());
        let query = recall::Query {
            user,
            text: &request.query,
            top_k: request.top_k.unwrap_or(DEFAULT_TOP_K) as usize,
            threshold: core.config.memory_similarity_threshold,
            kinds: kinds.as_deref(),
            include_messages: request.include_messages.unwrap_or(false),
            conversation,
            as_of: request.as_of,
        };
        let found = recall::search(core, index, asked, &query).await?;
        let sources = found.iter().flat_map(|found| match &found.item {
            Item::Memory(memory) => memory.sources.as_slice(),
            Item::Message(_) => &[],
        });
        let external = ExternalIds::of(core, user, sources).await?;
        let results = found.into_iter().map(|found| result(found, &external));
        Ok(Read::new(
            SearchResults {
                results: results.collect(),
            },
            lag,
        ))
    }
}

impl From<RecallError> for Problem {
    fn from(error: RecallError) -> Self {
        match error {
            RecallError::Database(error) => error.into(),
            RecallError::Embed(error) => {
                tracing::error!("a query could not be embedded: {error}");
                Code::EmbeddingUnavailable.into()
            }
        }
    }
}

fn result(found: Found, external: &ExternalIds) -> SearchResult {
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
            sources: memory.sources.iter().map(|s| external.view(s)).collect(),
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
