//! Recall: the memories and messages of a user that answer a query.

use chrono::{DateTime, Utc};
use companion_domain::ids::{ConversationId, UserId};
use companion_domain::memory::{Decay, MemoryKind};
use companion_domain::recall::{
    Candidate, CorpusSize, Posting, Ranked, lexical_scores, rank, score,
};
use companion_domain::text;
use sqlx::{PgConnection, PgPool};
use std::collections::HashMap;
use uuid::Uuid;

use crate::lexicon::{self, Source};
use crate::memories::{self, Memory};
use crate::messages::{self, MessageRow};
use crate::metrics;

/// How many candidates each arm brings before they are ranked together.
const CANDIDATES: usize = 50;

/// What to look for.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// Whose.
    pub user: UserId,
    /// The words.
    pub text: &'a str,
    /// Their vector.
    pub vector: &'a [f32],
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
    /// The fused score.
    pub score: f64,
}

/// Finds what answers a query, best first.
///
/// # Errors
/// When the database fails.
#[tracing::instrument(name = "recall", skip_all)]
pub async fn search(
    pool: &PgPool,
    decay: &Decay,
    query: &Query<'_>,
) -> Result<Vec<Found>, sqlx::Error> {
    metrics::memories_retrieved();
    let mut connection = pool.acquire().await?;
    let candidates = candidates(&mut connection, decay, query);
    let mut items = metrics::query("recall", candidates).await?;
    let ranked = rank(
        items.values().map(|(_, c)| c.clone()).collect(),
        query.threshold,
        query.top_k,
    );
    Ok(ranked
        .into_iter()
        .filter_map(|ranked| found(&mut items, ranked))
        .collect())
}

/// Finds the memories for a prompt: what answers the message and, where that leaves room, what is
/// most important to know about the user, so that a greeting is enough to be recognised.
///
/// # Errors
/// When the database fails.
#[tracing::instrument(name = "recall", skip_all)]
pub async fn for_prompt(
    pool: &PgPool,
    decay: &Decay,
    query: &Query<'_>,
) -> Result<Vec<Found>, sqlx::Error> {
    metrics::memories_retrieved();
    let mut connection = pool.acquire().await?;
    let candidates = candidates(&mut connection, decay, query);
    let mut items = metrics::query("recall", candidates).await?;
    let all: Vec<Candidate<Uuid>> = items.values().map(|(_, c)| c.clone()).collect();
    let mut ranked = rank(all.clone(), query.threshold, query.top_k);
    let mut rest: Vec<Ranked<Uuid>> = all
        .into_iter()
        .filter(|c| {
            ranked
                .iter()
                .all(|r| r.candidate.id != c.id && !says_the_same(&r.candidate, c))
        })
        .map(|candidate| Ranked {
            score: score(&candidate),
            candidate,
        })
        .collect();
    rest.sort_by(|a, b| {
        let importance = b
            .candidate
            .importance_now
            .total_cmp(&a.candidate.importance_now);
        importance
            .then(b.score.total_cmp(&a.score))
            .then(a.candidate.id.cmp(&b.candidate.id))
    });
    rest.truncate(query.top_k.saturating_sub(ranked.len()));
    ranked.extend(rest);
    Ok(ranked
        .into_iter()
        .filter_map(|ranked| found(&mut items, ranked))
        .collect())
}

fn says_the_same(a: &Candidate<Uuid>, b: &Candidate<Uuid>) -> bool {
    text::normal_form(&a.content) == text::normal_form(&b.content)
}

type Items = HashMap<Uuid, (Item, Candidate<Uuid>)>;

fn found(items: &mut Items, ranked: Ranked<Uuid>) -> Option<Found> {
    let (item, candidate) = items.remove(&ranked.candidate.id)?;
    Some(Found {
        item,
        importance_now: candidate.importance_now,
        similarity: candidate.similarity.unwrap_or(0.0),
        score: ranked.score,
    })
}

/// What both arms bring, with the scores of both.
async fn candidates(
    connection: &mut PgConnection,
    decay: &Decay,
    query: &Query<'_>,
) -> Result<Items, sqlx::Error> {
    let now = query.as_of.unwrap_or_else(Utc::now);
    let limit = i64::try_from(CANDIDATES.max(query.top_k)).unwrap_or(i64::MAX);
    let mut items = Items::new();

    let lexical = match query.as_of {
        None => lexical_arm(connection, query, Source::Memory).await?,
        // The index knows what is live now.
        Some(as_of) => {
            let believed = memories::believed(&mut *connection, query.user, as_of).await?;
            lexical_scores_of(query.text, &believed)
        }
    };
    let best = best(&lexical);
    let among = memories::Among {
        kinds: query.kinds,
        conversation: query.conversation,
        as_of: query.as_of,
        decay,
    };
    let memories =
        memories::nearest(connection, query.user, query.vector, &among, limit, &best).await?;
    for (memory, similarity) in memories {
        // To a null vector it is no number, and no event can hold that.
        let similarity = similarity.filter(|similarity| similarity.is_finite());
        let candidate = Candidate {
            id: memory.memory_id,
            content: memory.content.clone(),
            similarity,
            lexical: lexical.get(&memory.memory_id).copied().unwrap_or(0.0),
            importance_now: memory.importance_now(decay, now),
        };
        items.insert(
            memory.memory_id,
            (Item::Memory(Box::new(memory)), candidate),
        );
    }
    if !query.include_messages {
        return Ok(items);
    }

    let lexical = lexical_arm(connection, query, Source::Message).await?;
    let best = self::best(&lexical);
    let messages = messages::nearest(
        connection,
        query.user,
        query.vector,
        query.conversation,
        query.as_of,
        limit,
        &best,
    )
    .await?;
    for (message, similarity) in messages {
        let similarity = similarity.filter(|similarity| similarity.is_finite());
        let candidate = Candidate {
            id: message.message_id,
            content: message.content.clone(),
            similarity,
            lexical: lexical.get(&message.message_id).copied().unwrap_or(0.0),
            importance_now: 0.5,
        };
        items.insert(
            message.message_id,
            (Item::Message(Box::new(message)), candidate),
        );
    }
    Ok(items)
}

async fn lexical_arm(
    connection: &mut PgConnection,
    query: &Query<'_>,
    source: Source,
) -> Result<HashMap<Uuid, f64>, sqlx::Error> {
    let terms = text::terms(query.text);
    let (postings, corpus) = lexicon::postings(connection, query.user, source, &terms).await?;
    Ok(lexical_scores(&terms, &postings, corpus))
}

/// The lexical scores of texts that are in no index.
fn lexical_scores_of(query: &str, items: &[(Uuid, String)]) -> HashMap<Uuid, f64> {
    let wanted = text::terms(query);
    let (mut postings, mut corpus) = (Vec::new(), CorpusSize::default());
    for (item, content) in items {
        let terms = text::terms(content);
        let length = text::term_count(&terms);
        corpus.items += 1;
        corpus.terms += u64::from(length);
        let sought = |term: &String| wanted.iter().any(|(other, _)| other == term);
        let found = terms.into_iter().filter(|(term, _)| sought(term));
        postings.extend(found.map(|(term, count)| Posting {
            item: *item,
            term,
            count: u32::from(count),
            length,
        }));
    }
    lexical_scores(&wanted, &postings, corpus)
}

/// The items with the best lexical scores.
fn best(scores: &HashMap<Uuid, f64>) -> Vec<Uuid> {
    let mut scores: Vec<(Uuid, f64)> = scores.iter().map(|(id, score)| (*id, *score)).collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    // More than are ranked, as kinds and conversations are looked at later.
    scores.truncate(4 * CANDIDATES);
    scores.into_iter().map(|(id, _)| id).collect()
}
