//! Fills an index from the read models, and keeps it up to date.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use companion_domain::conversation::Role;
use companion_domain::ids::{ConversationId, UserId};
use companion_domain::memory::Source;
use companion_domain::recall::{Entry, Index, Stated, What};
use futures_util::TryStreamExt;
use pgvector::Vector as Pgvector;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::indexes::Loading;
use crate::core::Core;
use crate::memories;
use crate::search_state::SearchState;
use crate::vectors;

/// The columns of a message that the index takes.
macro_rules! messages {
    ($where:literal) => {
        concat!(
            "SELECT m.message_id, m.conversation_id, m.version, m.ordinal, m.role, m.name, m.content, m.created_at,
                    m.content_hash, v.embedding, m.searchable AND m.content <> '' AS findable
             FROM messages m LEFT JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
             WHERE m.user_id = $1 AND ",
            $where
        )
    };
}

/// The index of a user, and of which state it is.
#[derive(Debug)]
pub struct Loaded {
    pub(super) index: Index,
    dimension: usize,
    state: Option<SearchState>,
    /// What has no vector yet, with the hash of what is to be embedded.
    without_vector: HashMap<Uuid, Vec<u8>>,
}

impl Loaded {
    pub(super) fn empty(dimension: usize) -> Self {
        Self {
            index: Index::new(dimension),
            dimension,
            state: None,
            without_vector: HashMap::new(),
        }
    }

    /// Whether there is nothing to look for in the database.
    pub(super) fn is_up_to_date(&self, state: SearchState) -> bool {
        self.state == Some(state) && self.without_vector.is_empty()
    }

    fn put(&mut self, row: Row<'_>) {
        let id = row.id;
        let vector = row.embedding.map(|vector| vector.to_vec());
        match (&vector, row.hash) {
            (None, Some(hash)) => drop(self.without_vector.insert(id, hash)),
            _ => drop(self.without_vector.remove(&id)),
        }
        self.index.put(&Entry {
            id,
            content: row.content,
            at: row.at,
            vector: vector.as_deref(),
            what: row.what,
        });
    }

    fn remove(&mut self, id: Uuid) {
        self.without_vector.remove(&id);
        self.index.remove(id);
    }
}

struct Row<'a> {
    id: Uuid,
    content: &'a str,
    at: DateTime<Utc>,
    hash: Option<Vec<u8>>,
    embedding: Option<Pgvector>,
    what: What,
}

#[derive(sqlx::FromRow)]
struct Message {
    message_id: Uuid,
    conversation_id: Uuid,
    version: i64,
    ordinal: i32,
    role: String,
    name: Option<String>,
    content: String,
    created_at: DateTime<Utc>,
    content_hash: Option<Vec<u8>>,
    embedding: Option<Pgvector>,
    findable: bool,
}

impl Message {
    fn take(self, loaded: &mut Loaded) {
        if !self.findable {
            return loaded.remove(self.message_id);
        }
        let role = match self.role.as_str() {
            "assistant" => Role::Assistant,
            _ => Role::User,
        };
        loaded.put(Row {
            id: self.message_id,
            content: &self.content,
            at: self.created_at,
            hash: self.content_hash,
            embedding: self.embedding,
            what: What::Message {
                conversation: ConversationId(self.conversation_id),
                place: (self.version, self.ordinal),
                role,
                name: self.name,
            },
        });
    }
}

/// The columns of a memory that the index takes.
const MEMORY: &str =
    "m.memory_id, m.content, m.kind, m.importance, m.explicit, m.sources, m.valid_from,
     m.last_reinforced_at, m.content_hash, v.embedding, m.state = 'live' AS findable";

#[derive(sqlx::FromRow)]
struct Memory {
    memory_id: Uuid,
    content: String,
    kind: String,
    importance: f64,
    explicit: bool,
    sources: Json<Vec<Source>>,
    valid_from: DateTime<Utc>,
    last_reinforced_at: DateTime<Utc>,
    content_hash: Vec<u8>,
    embedding: Option<Pgvector>,
    findable: bool,
}

impl Memory {
    fn take(self, loaded: &mut Loaded) {
        if !self.findable {
            return loaded.remove(self.memory_id);
        }
        loaded.put(Row {
            id: self.memory_id,
            content: &self.content,
            at: self.valid_from,
            hash: Some(self.content_hash),
            embedding: self.embedding,
            what: What::Memory(Stated {
                kind: memories::kind_of(&self.kind),
                importance: self.importance,
                explicit: self.explicit,
                last_reinforced_at: self.last_reinforced_at,
                sources: self.sources.0,
            }),
        });
    }
}

/// Brings an index to a state of the read models, or a later one.
pub(super) async fn refresh(
    pool: &PgPool,
    user: UserId,
    state: SearchState,
    loaded: &mut Loaded,
) -> Result<(), sqlx::Error> {
    // Another life of the user, or read models that were built anew or are being so.
    let is_other = |known: SearchState| {
        (known.key_id, known.messages, known.memories)
            != (state.key_id, state.messages, state.memories)
            || known.version > state.version
    };
    if loaded.state.is_some_and(is_other) {
        *loaded = Loaded::empty(loaded.dimension);
    }
    let known = loaded.state.map_or(-1, |known| known.version);
    if state.version > known {
        // Should this fail half way, it is begun again where it was begun.
        load_changes(pool, user, known, loaded).await?;
        if state.cleared > known && !loaded.index.is_empty() {
            let left = left(pool, user).await?;
            loaded.index.retain(|id| left.contains(&id));
            loaded.without_vector.retain(|id, _| left.contains(id));
        }
        loaded.state = Some(state);
    }
    if !loaded.without_vector.is_empty() {
        load_vectors(pool, user, loaded).await?;
    }
    Ok(())
}

/// Takes in what has changed since a version.
async fn load_changes(
    pool: &PgPool,
    user: UserId,
    since: i64,
    loaded: &mut Loaded,
) -> Result<(), sqlx::Error> {
    let mut messages = sqlx::query_as::<_, Message>(messages!(
        "m.search_version > $2 ORDER BY m.search_version, m.ordinal"
    ))
    .bind(user.0)
    .bind(since)
    .fetch(pool);
    while let Some(message) = messages.try_next().await? {
        message.take(loaded);
    }
    let sql = format!(
        "SELECT {MEMORY} FROM memories m
         LEFT JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
         WHERE m.user_id = $1 AND m.search_version > $2 ORDER BY m.search_version, m.memory_id"
    );
    let mut memories = sqlx::query_as::<_, Memory>(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(since)
        .fetch(pool);
    while let Some(memory) = memories.try_next().await? {
        memory.take(loaded);
    }
    Ok(())
}

/// All that can be found.
async fn left(pool: &PgPool, user: UserId) -> Result<HashSet<Uuid>, sqlx::Error> {
    let ids: Vec<Uuid> = sqlx::query_scalar(
        "SELECT message_id FROM messages WHERE user_id = $1 AND searchable
         UNION ALL SELECT memory_id FROM memories WHERE user_id = $1 AND state = 'live'",
    )
    .bind(user.0)
    .fetch_all(pool)
    .await?;
    Ok(ids.into_iter().collect())
}

/// Takes in the vectors that were made meanwhile.
async fn load_vectors(pool: &PgPool, user: UserId, loaded: &mut Loaded) -> Result<(), sqlx::Error> {
    let hashes: HashSet<&Vec<u8>> = loaded.without_vector.values().collect();
    let hashes: Vec<Vec<u8>> = hashes.into_iter().cloned().collect();
    let made = vectors::load(pool, user, &hashes).await?;
    let Loaded {
        index,
        without_vector,
        ..
    } = loaded;
    without_vector.retain(|id, hash| match made.get(hash) {
        Some(vector) => {
            index.set_vector(*id, vector);
            false
        }
        None => true,
    });
    Ok(())
}

/// An index of what was believed and had been said at a time.
pub(super) async fn past(
    core: &Core,
    user: UserId,
    as_of: DateTime<Utc>,
) -> Result<Loading, sqlx::Error> {
    let mut loaded = Loaded::empty(core.config.embedding_dimension);
    let mut messages = sqlx::query_as::<_, Message>(messages!(
        "m.recorded_at <= $2 AND m.searchable ORDER BY m.version, m.ordinal"
    ))
    .bind(user.0)
    .bind(as_of)
    .fetch(&core.pool);
    while let Some(message) = messages.try_next().await? {
        message.take(&mut loaded);
    }
    let believed = memories::then_believed().replace("$4", "$2");
    let sql = format!(
        "SELECT {MEMORY} FROM {believed} m
         LEFT JOIN vectors v ON v.user_id = m.user_id AND v.content_hash = m.content_hash
         WHERE m.state = 'live' ORDER BY m.memory_id"
    );
    let mut memories = sqlx::query_as::<_, Memory>(AssertSqlSafe(sql))
        .bind(user.0)
        .bind(as_of)
        .fetch(&core.pool);
    while let Some(memory) = memories.try_next().await? {
        memory.take(&mut loaded);
    }
    Ok(loaded.into())
}
