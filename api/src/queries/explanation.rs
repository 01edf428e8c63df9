//! Why a reply says what it says: what its prompt held, from the log, and what became of that since,
//! from the read models.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::memories::{self, Memory};
use companion_adapters::messages::{self, ReplyRow, Said};
use companion_domain::events::{Event, RecalledMemory, Recorded};
use companion_domain::ids::{ConversationId, MemoryId, MessageId, ReplyId, StreamId, UserId};
use companion_domain::memory::Source;
use companion_domain::text;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::types::Any;
use poem_openapi::{Object, OpenApi};
use serde_json::{Value, json};
use std::collections::HashMap;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::error::Problem;
use crate::following;
use crate::page::{self, Read};

/// Events read at once on the way to the start of a reply: it is one of the next few.
const PAGE: i64 = 32;
/// The most characters of a message that are shown of it.
const EXCERPT: usize = 200;

/// What a reply was made from.
#[derive(Debug, Object)]
pub(crate) struct Explanation {
    reply_id: Uuid,
    conversation_id: Uuid,
    /// The message that it answers.
    message_id: Option<Uuid>,
    /// `running`, `completed`, `failed`, `cancelled` or `interrupted`.
    status: String,
    /// When the LLM was asked; `null` when it never was, as the service stopped before. Then nothing
    /// below is known.
    started_at: Option<DateTime<Utc>>,
    model: Option<String>,
    /// The template of the prompt.
    prompt: Option<PromptView>,
    /// Sampling temperature and the like.
    parameters: Any<Value>,
    /// The model by whose vectors the memories were found.
    embedding_model: Option<String>,
    /// Tokens used, as the LLM reports them.
    usage: Any<Value>,
    /// How many earlier messages the prompt held.
    context_messages: Option<u32>,
    /// Whether it held a summary of what was said before them; `null` when that was not recorded.
    summary: Option<bool>,
    /// The memories that it held, best first, without those that were forgotten since.
    memories: Vec<ExplainedMemory>,
    /// How many more memories it held that the user asked to forget since.
    forgotten: usize,
}

/// A template of a prompt.
#[derive(Debug, Object)]
pub(crate) struct PromptView {
    id: String,
    /// Changes with its words.
    hash: Option<String>,
}

/// A memory in a prompt.
#[derive(Debug, Object)]
pub(crate) struct ExplainedMemory {
    id: Uuid,
    /// Its text then.
    content: String,
    /// Its place among all that the prompt held, from 1.
    rank: usize,
    /// The fused score by which it was ranked.
    score: f64,
    /// Cosine similarity to the message.
    similarity: f64,
    /// What it is now: `live`, `superseded` or `faded`.
    state: String,
    /// Its text now, if it was corrected since.
    content_now: Option<String>,
    /// The memory that took its place since.
    superseded_by: Option<Uuid>,
    /// The messages that it rested on then, without those that were cleared since.
    sources: Vec<ExplainedSource>,
}

/// A message that a memory came from.
#[derive(Debug, Object)]
pub(crate) struct ExplainedSource {
    conversation_id: Uuid,
    message_id: Uuid,
    /// The message's id in the system it was imported from.
    external_id: Option<String>,
    /// When it was said.
    said_at: DateTime<Utc>,
    /// How it begins.
    excerpt: String,
}

pub(crate) struct ExplanationApi;

#[OpenApi]
impl ExplanationApi {
    /// Explain a reply
    ///
    /// What its prompt held: which memories with which scores, from which of your messages they came
    /// and what became of them since, how many earlier messages, which model, template and
    /// parameters. Of memories that you asked to forget only the number is left.
    #[oai(path = "/replies/:id/explain", method = "get")]
    async fn explain(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The reply.
        id: Path<Uuid>,
    ) -> Result<Read<Explanation>, Problem> {
        let (user, reply) = (caller.user, ReplyId(id.0));
        let lag = page::wait_for_own_writes(&app.core, user).await?;
        let row = following::row(&app, user, reply).await?;
        let explanation = of(&app.core, user, reply, row).await?;
        Ok(Read::new(explanation, lag))
    }
}

/// What the log says of a reply.
#[derive(Default)]
struct Log {
    message: Option<MessageId>,
    started: Option<Recorded>,
    usage: Option<Value>,
}

async fn of(
    core: &Core,
    user: UserId,
    reply: ReplyId,
    row: ReplyRow,
) -> Result<Explanation, Problem> {
    let conversation = ConversationId(row.conversation_id);
    let log = read(core, conversation, reply, row.version).await?;
    let mut explanation = Explanation {
        reply_id: reply.0,
        conversation_id: row.conversation_id,
        message_id: log.message.map(|message| message.0),
        status: row.reply_status,
        started_at: None,
        model: None,
        prompt: None,
        parameters: Any(json!({})),
        embedding_model: None,
        usage: Any(log.usage.unwrap_or(json!({}))),
        context_messages: None,
        summary: None,
        memories: Vec::new(),
        forgotten: 0,
    };
    let Some(started) = log.started else {
        return Ok(explanation);
    };
    let Event::ReplyStarted(event) = started.event else {
        return Ok(explanation);
    };
    let at = started.recorded_at;
    explanation.memories = explained(core, user, &event.recalled, at).await?;
    explanation.forgotten = event.recalled.len() - explanation.memories.len();
    explanation.started_at = Some(at);
    explanation.context_messages = Some(event.context_messages);
    let metadata = Arc::unwrap_or_clone(started.metadata);
    explanation.model = metadata.model;
    explanation.summary = metadata.summary;
    explanation.embedding_model = metadata.embedding_model;
    explanation.parameters = Any(metadata.parameters.unwrap_or(json!({})));
    explanation.prompt = metadata.prompt_id.map(|id| PromptView {
        id,
        hash: metadata.prompt_hash,
    });
    Ok(explanation)
}

/// Reads on from the event that asked for a reply until it has ended.
async fn read(
    core: &Core,
    conversation: ConversationId,
    reply: ReplyId,
    version: i64,
) -> Result<Log, Problem> {
    let stream = StreamId::conversation(conversation);
    let (mut log, mut after) = (Log::default(), version - 1);
    loop {
        let events = core.store.read_some(&stream, after, PAGE).await?;
        let Some(last) = events.last() else {
            return Ok(log);
        };
        after = last.version;
        for recorded in events {
            match &recorded.event {
                Event::UserMessageReceived(event) if event.reply_id == reply => {
                    log.message = Some(event.message_id);
                }
                Event::ReplyRequested(event) if event.reply_id == reply => {
                    log.message = Some(event.message_id);
                }
                Event::ReplyStarted(event) if event.reply_id == reply => {
                    log.started = Some(recorded);
                }
                event if crate::commands::reply::ended(event, reply).is_some() => {
                    log.usage = recorded.metadata.usage.clone();
                    return Ok(log);
                }
                _ => {}
            }
        }
    }
}

/// What was recalled at a time, as far as it was not forgotten since.
async fn explained(
    core: &Core,
    user: UserId,
    recalled: &[RecalledMemory],
    at: DateTime<Utc>,
) -> Result<Vec<ExplainedMemory>, Problem> {
    let ids: Vec<MemoryId> = recalled.iter().map(|memory| memory.memory_id).collect();
    let decay = &core.config.decay;
    let now = memories::some(&core.pool, user, decay, &ids, None).await?;
    let then = memories::some(&core.pool, user, decay, &ids, Some(at)).await?;
    // The sources of now tell less than those of then did, or other ones; they only stand in.
    let sources = |memory: &Memory| {
        let then = then.get(&MemoryId(memory.memory_id)).unwrap_or(memory);
        then.sources.0.clone()
    };
    let messages: Vec<MessageId> = now
        .values()
        .flat_map(sources)
        .map(|source| source.message_id)
        .collect();
    let said = messages::said(&core.pool, user, &messages).await?;
    let explained = (1..).zip(recalled).filter_map(|(rank, recalled)| {
        let memory = now.get(&recalled.memory_id)?;
        Some(ExplainedMemory {
            id: memory.memory_id,
            content: recalled.content.clone(),
            rank,
            score: recalled.score,
            similarity: recalled.similarity,
            state: memory.state.clone(),
            content_now: (memory.content != recalled.content).then(|| memory.content.clone()),
            superseded_by: memory.superseded_by,
            sources: told(&sources(memory), &said),
        })
    });
    Ok(explained.collect())
}

/// The messages of sources, as far as they are still there.
fn told(sources: &[Source], said: &HashMap<MessageId, Said>) -> Vec<ExplainedSource> {
    let told = sources.iter().filter_map(|source| {
        let said = said.get(&source.message_id)?;
        Some(ExplainedSource {
            conversation_id: source.conversation_id.0,
            message_id: source.message_id.0,
            external_id: said.external_id.clone(),
            said_at: said.created_at,
            excerpt: text::excerpt(&said.content, EXCERPT),
        })
    });
    told.collect()
}
