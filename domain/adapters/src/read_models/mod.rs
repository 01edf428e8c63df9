//! The read models as a projection sees them: the rows that a page of events touches, in memory.
//!
//! A page is projected in three steps: its rows are taken in ([`ReadModels::load`]), the events change
//! them in their order, without a database, and what has changed is written ([`ReadModels::write`]).
//! The service goes through small pages of what has just been appended, a replay through large pages of
//! the whole log; both take the same steps, so that what they arrive at is the same.

pub mod compare;
pub mod copies;
mod removals;
pub mod rows;
mod table;

use companion_domain::ids::{ConversationId, UserId};
use foldhash::HashSet;
use sqlx::PgConnection;
use uuid::Uuid;

use self::removals::Removals;
use self::rows::{
    ApiKey, Conversation, ExtractionCursor, Memory, MemoryEvent, MemoryStream, Message, PastMemory,
    SearchState, User,
};
pub use self::table::{Row, Rows};
use crate::vectors;

/// The tables of the read models. Each has the rows of a user named by `user_id`.
pub const TABLES: [&str; 10] = [
    User::TABLE,
    ApiKey::TABLE,
    Conversation::TABLE,
    Message::TABLE,
    Memory::TABLE,
    PastMemory::TABLE,
    MemoryEvent::TABLE,
    MemoryStream::TABLE,
    ExtractionCursor::TABLE,
    SearchState::TABLE,
];

/// Raised with every change of the rows that projections make of the same events: a copy that was begun by
/// others is not gone on with.
pub const PROJECTIONS: u32 = 1;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// A few, into the tables that are in use; what becomes of the vectors is seen to as well.
    Live,
    /// Many, into tables that nobody else writes: rows that are new are copied in. The vectors are no
    /// read model and are left alone.
    Replay,
}

/// The rows that a page of events touches, by table.
#[derive(Debug, Default)]
pub struct Touched {
    /// Users.
    pub users: HashSet<Uuid>,
    /// Keys for programs.
    pub api_keys: HashSet<Uuid>,
    /// Conversations.
    pub conversations: HashSet<Uuid>,
    /// Messages.
    pub messages: HashSet<Uuid>,
    /// Memories.
    pub memories: HashSet<Uuid>,
    /// Users whose memory streams move.
    pub memory_streams: HashSet<Uuid>,
    /// Conversations whose extraction cursors move.
    pub extraction_cursors: HashSet<Uuid>,
    /// Users of whom what can be found changes.
    pub search_state: HashSet<Uuid>,
    /// Whether rows that the page brings are looked for too: their ids should be new.
    doubtful: bool,
    new_messages: HashSet<Uuid>,
    new_memories: HashSet<Uuid>,
}

impl Touched {
    /// Nothing yet. Who is `doubtful` has the ids looked for too that should be new: what is there
    /// already then stays as it is.
    pub fn new(doubtful: bool) -> Self {
        Self {
            doubtful,
            ..Self::default()
        }
    }

    /// A message that the page brings.
    pub fn new_message(&mut self, id: Uuid) {
        self.new_messages.insert(id);
        if self.doubtful {
            self.messages.insert(id);
        }
    }

    /// A message that the page changes.
    pub fn message(&mut self, id: Uuid) {
        if !self.new_messages.contains(&id) {
            self.messages.insert(id);
        }
    }

    /// A memory that the page brings.
    pub fn new_memory(&mut self, id: Uuid) {
        self.new_memories.insert(id);
        if self.doubtful {
            self.memories.insert(id);
        }
    }

    /// A memory that the page changes.
    pub fn memory(&mut self, id: Uuid) {
        if !self.new_memories.contains(&id) {
            self.memories.insert(id);
        }
    }
}

/// The rows of the read models that a page of events touches: what they are by now.
#[derive(Debug, Default)]
#[expect(
    missing_docs,
    reason = "each field holds the rows of the table of the same name"
)]
pub struct ReadModels {
    pub users: Rows<User>,
    pub api_keys: Rows<ApiKey>,
    pub conversations: Rows<Conversation>,
    pub messages: Rows<Message>,
    pub memories: Rows<Memory>,
    pub past_memories: Rows<PastMemory>,
    pub memory_events: Rows<MemoryEvent>,
    pub memory_streams: Rows<MemoryStream>,
    pub extraction_cursors: Rows<ExtractionCursor>,
    pub search_state: Rows<SearchState>,
    removals: Removals,
}

impl ReadModels {
    /// Takes in the rows that a page touches, as far as they are there.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(
        connection: &mut PgConnection,
        touched: &Touched,
    ) -> Result<Self, sqlx::Error> {
        let mut models = Self::default();
        let to = &mut *connection;
        models.users.load(to, &touched.users).await?;
        models.api_keys.load(to, &touched.api_keys).await?;
        let conversations = &touched.conversations;
        models.conversations.load(to, conversations).await?;
        models.messages.reserve(touched.new_messages.len());
        models.messages.load(to, &touched.messages).await?;
        models.memories.load(to, &touched.memories).await?;
        let streams = &touched.memory_streams;
        models.memory_streams.load(to, streams).await?;
        let cursors = &touched.extraction_cursors;
        models.extraction_cursors.load(to, cursors).await?;
        models.search_state.load(to, &touched.search_state).await?;
        Ok(models)
    }

    /// Adds a message, unless there is one of that id.
    pub fn say(&mut self, message: Message) {
        if self.messages.get(message.message_id).is_none() {
            self.messages.put(message);
        }
    }

    /// Those of the messages here that belong to a conversation. They are gone through for it: that is asked
    /// seldom.
    fn said_in(&self, conversation: ConversationId) -> Vec<Uuid> {
        let messages = self.messages.rows();
        let said = messages.filter(|message| message.conversation_id == conversation.0);
        said.map(|message| message.message_id).collect()
    }

    /// The change of what can be found of a user that is under way, with which rows are stamped.
    pub fn search_version(&self, user: UserId) -> i64 {
        self.search_state
            .get(user.0)
            .map_or(0, |state| state.version)
    }

    /// Takes a conversation's messages out, those too that are not here.
    pub fn delete_messages(&mut self, user: UserId, conversation: ConversationId) {
        for id in self.said_in(conversation) {
            if let Some(message) = self.messages.remove(id) {
                self.removals.note_hash(user, message.content_hash);
            }
        }
        self.removals.delete_messages(user, conversation);
    }

    /// Takes a conversation's messages up to a version out of what search looks at, those too that are
    /// not here.
    pub fn clear_messages(&mut self, user: UserId, conversation: ConversationId, through: i64) {
        let stamp = self.search_version(user);
        for id in self.said_in(conversation) {
            let Some(message) = self.messages.get(id) else {
                continue;
            };
            if message.searchable && message.version <= through {
                self.removals.note_hash(user, message.content_hash.clone());
                if let Some(message) = self.messages.change(id) {
                    message.searchable = false;
                    message.search_version = stamp;
                }
            }
        }
        self.removals
            .clear_messages(user, conversation, through, stamp);
    }

    /// Takes memories, and all that they ever were, out, those too that are not here.
    pub fn forget_memories(&mut self, user: UserId, memories: &[Uuid]) {
        if memories.is_empty() {
            return;
        }
        let gone: HashSet<Uuid> = memories.iter().copied().collect();
        let hashes: Vec<Vec<u8>> = self
            .memories
            .rows()
            .filter(|memory| gone.contains(&memory.memory_id))
            .map(|memory| memory.content_hash.clone())
            .chain(
                self.past_memories
                    .rows()
                    .filter(|memory| gone.contains(&memory.memory_id))
                    .map(|memory| memory.content_hash.clone()),
            )
            .collect();
        for hash in hashes {
            self.removals.note_hash(user, Some(hash));
        }
        for id in &gone {
            self.memories.remove(*id);
        }
        self.past_memories
            .remove_where(|memory| gone.contains(&memory.memory_id));
        self.memory_events
            .remove_where(|event| gone.contains(&event.memory_id));
        // Nothing names them any more.
        let by_them = |id: Option<Uuid>| id.is_some_and(|id| gone.contains(&id));
        self.memories
            .change_where(|m| by_them(m.superseded_by), |m| m.superseded_by = None);
        self.past_memories
            .change_where(|m| by_them(m.superseded_by), |m| m.superseded_by = None);
        self.removals.forget_memories(user, memories);
    }

    /// Takes the sources in a conversation from all that memories ever were, what is not here included.
    pub fn unsupport_past(&mut self, user: UserId, memories: &[Uuid], from: ConversationId) {
        self.past_memories.change_where(
            |memory| memories.contains(&memory.memory_id),
            |memory| memory.sources.retain(|s| s.conversation_id != from),
        );
        self.removals.unsupport_past(user, memories, from);
    }

    /// Writes what has changed.
    ///
    /// # Errors
    /// When the database fails; in [`Manner::Replay`] also when one of the new rows has the key of
    /// another that was not taken in.
    pub async fn write(
        self,
        connection: &mut PgConnection,
        manner: Manner,
    ) -> Result<(), sqlx::Error> {
        // What is removed is not only what is here; what is here has the last word.
        let unused = self.removals.run(&mut *connection).await?;
        self.users.write(connection, manner).await?;
        self.api_keys.write(connection, manner).await?;
        self.conversations.write(connection, manner).await?;
        self.messages.write(connection, manner).await?;
        self.memories.write(connection, manner).await?;
        self.past_memories.append(connection, manner).await?;
        self.memory_events.append(connection, manner).await?;
        self.memory_streams.write(connection, manner).await?;
        self.extraction_cursors.write(connection, manner).await?;
        self.search_state.write(connection, manner).await?;
        if manner == Manner::Live {
            for (user, hashes) in unused {
                vectors::mark_unused(&mut *connection, user, &hashes).await?;
            }
        }
        Ok(())
    }
}
