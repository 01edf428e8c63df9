//! Recall: the memories and messages of a user that answer a query.
//!
//! The index of a user is kept in memory ([`Indexes`]) and brought up to date before each search;
//! the rows of what was found are read from the database, which has the last word on what may be
//! shown.

mod indexes;
mod loading;

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use companion_domain::ids::{ConversationId, UserId};
use companion_domain::memory::MemoryKind;
use companion_domain::recall::{Arm, Hit, Wanted};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub use self::indexes::{Indexes, Shared};
use crate::core::Core;
use crate::embedder::{EmbedError, Vector};
use crate::memories::{self, Memory};
use crate::messages::{self, MessageRow};
use crate::metrics;

/// From so many items on, an index is searched on a thread where that blocks nobody.
const MANY: usize = 5_000;

/// Searches in the past that a process makes at once: each loads all that a user had then.
static PAST: Semaphore = Semaphore::const_new(2);

/// What to look for.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// Whose.
    pub user: UserId,
    /// The words.
    pub text: &'a str,
    /// How many to find.
    pub top_k: usize,
    /// The least fused score.
    pub threshold: f64,
    /// Only memories of these kinds.
    pub kinds: Option<&'a [MemoryKind]>,
    /// Messages too.
    pub include_messages: bool,
    /// Only what comes from this conversation.
    pub conversation: Option<ConversationId>,
    /// What was believed then.
    pub as_of: Option<DateTime<Utc>>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A memory.
    Memory(Box<Memory>),
    /// A message.
    Message(Box<MessageRow>),
}

/// What was found, with its scores.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The memory or message.
    pub item: Item,
    /// Importance after decay, 0..=1; 0.5 for a message.
    pub importance_now: f64,
    /// Cosine similarity to the query; 0 while there is no vector.
    pub similarity: f64,
    /// The fused score, 0..=1.
    pub score: f64,
}

/// Why nothing could be recalled.
#[derive(Debug, thiserror::Error)]
pub enum RecallError {
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// The query could not be embedded.
    #[error(transparent)]
    Embed(#[from] EmbedError),
}

/// A query's words as they were embedded, and their vector.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The query, in the first person when it names a speaker of the user's conversations.
    pub reworded: String,
    /// Its vector.
    pub vector: Vector,
}

/// Embeds a query, to be done while the index is brought up to date: it goes by the names that the
/// index knows already.
///
/// # Errors
/// When the model fails.
pub async fn ask(core: &Core, user: UserId, query: &str) -> Result<Asked, EmbedError> {
    embed(core, core.indexes.reworded(user, query).await).await
}

async fn embed(core: &Core, reworded: String) -> Result<Asked, EmbedError> {
    let vector = core.embedder.embed_query(&reworded).await?;
    Ok(Asked { reworded, vector })
}

/// Finds what answers a query, best first. `index` is the user's, see [`Indexes::fresh`].
///
/// # Errors
/// When the database or the model fails.
#[tracing::instrument(name = "recall", skip_all)]
pub async fn search(
    core: &Core,
    index: Shared,
    asked: Asked,
    query: &Query<'_>,
) -> Result<Vec<Found>, RecallError> {
    metrics::memories_retrieved();
    let (index, _turn) = match query.as_of {
        None => (index, None),
        // The index knows what holds now.
        Some(as_of) => {
            let turn = PAST.acquire().await.ok();
            let past = loading::past(core, query.user, as_of).await?;
            (Shared::new(past), turn)
        }
    };
    let asked = asked_of(core, &index, asked, query).await?;
    let hits = hits(core, index, asked, query, Purpose::Answer).await;
    Ok(metrics::query("recall", rows(core, query, hits)).await?)
}

/// Finds the memories for a prompt: what answers the message and, where that leaves room, what is
/// most important to know about the user, so that a greeting is enough to be recognised.
///
/// # Errors
/// When the database or the model fails.
#[tracing::instrument(name = "recall", skip_all)]
pub async fn for_prompt(
    core: &Core,
    index: Shared,
    asked: Asked,
    query: &Query<'_>,
) -> Result<Vec<Found>, RecallError> {
    metrics::memories_retrieved();
    let asked = asked_of(core, &index, asked, query).await?;
    let hits = hits(core, index, asked, query, Purpose::Prompt).await;
    Ok(metrics::query("recall", rows(core, query, hits)).await?)
}

/// Ranks a user's messages by a part of the engine, to see what the parts are worth. No threshold.
pub async fn by_arm(
    core: &Core,
    index: &Shared,
    asked: &Asked,
    text: &str,
    arm: Arm,
    top_k: usize,
) -> Vec<Hit> {
    let wanted = Wanted {
        text,
        vector: &asked.vector,
        kinds: Some(&[]),
        messages: true,
        conversation: None,
        now: Utc::now(),
        decay: &core.config.decay,
        arm,
    };
    index.read().await.index.search(&wanted, 0.0, top_k)
}

/// The query as the index wants it; embedded again where it knows more names than were known before.
async fn asked_of(
    core: &Core,
    index: &Shared,
    asked: Asked,
    query: &Query<'_>,
) -> Result<Asked, EmbedError> {
    let reworded = index.read().await.index.reworded(query.text);
    match reworded == asked.reworded {
        true => Ok(asked),
        false => embed(core, reworded).await,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Answer,
    Prompt,
}

async fn hits(
    core: &Core,
    shared: Shared,
    asked: Asked,
    query: &Query<'_>,
    purpose: Purpose,
) -> Vec<Hit> {
    let loaded = shared.read_owned().await;
    let config = core.config.clone();
    let (text, kinds) = (query.text.to_owned(), query.kinds.map(<[_]>::to_vec));
    let (messages, conversation) = (query.include_messages, query.conversation);
    let (threshold, top_k) = (query.threshold, query.top_k);
    let now = query.as_of.unwrap_or_else(Utc::now);
    let many = loaded.index.len() > MANY;
    let find = move || {
        let wanted = Wanted {
            text: &text,
            vector: &asked.vector,
            kinds: kinds.as_deref(),
            messages,
            conversation,
            now,
            decay: &config.decay,
            arm: Arm::All,
        };
        match purpose {
            Purpose::Answer => loaded.index.search(&wanted, threshold, top_k),
            Purpose::Prompt => loaded.index.for_prompt(&wanted, threshold, top_k),
        }
    };
    if many {
        // It fails only when the runtime stops.
        tokio::task::spawn_blocking(find).await.unwrap_or_default()
    } else {
        find()
    }
}

/// The rows of what was found. What is not there any more, or may not be shown, is left out.
async fn rows(core: &Core, query: &Query<'_>, hits: Vec<Hit>) -> Result<Vec<Found>, sqlx::Error> {
    let ids = |messages: bool| -> Vec<Uuid> {
        let of_kind = hits.iter().filter(|hit| hit.is_message == messages);
        of_kind.map(|hit| hit.id).collect()
    };
    let (message_ids, memory_ids) = (ids(true), ids(false));
    let (messages, memories) = tokio::try_join!(
        messages::findable(&core.pool, query.user, &message_ids),
        memories::findable(&core.pool, query.user, query.as_of, &memory_ids),
    )?;
    let messages = messages
        .into_iter()
        .map(|row| (row.message_id, Item::Message(Box::new(row))));
    let memories = memories
        .into_iter()
        .map(|row| (row.memory_id, Item::Memory(Box::new(row))));
    let mut items: HashMap<Uuid, Item> = messages.chain(memories).collect();
    let decay = &core.config.decay;
    let now = query.as_of.unwrap_or_else(Utc::now);
    let found = |hit: Hit| {
        let item = items.remove(&hit.id)?;
        let importance_now = match &item {
            Item::Memory(memory) => memory.importance_now(decay, now),
            Item::Message(_) => hit.importance_now,
        };
        Some(Found {
            item,
            importance_now,
            similarity: hit.similarity,
            score: hit.score,
        })
    };
    Ok(hits.into_iter().filter_map(found).collect())
}
