//! Takes in what comes from outside: events of an export as they were, conversations of other systems as
//! messages that were said elsewhere.
//!
//! An event is known again by the id that it had where it was first recorded, so that an import can be
//! repeated, gone on with, and merged into what is there. It is appended in the order of the file, some
//! hundred events at a time, each portion whole or not at all. All that it shows is projected from these
//! events like from any others.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use companion_domain::events::{Event, MemoryReinforced, Metadata};
use companion_domain::ids::{ConversationId, MemoryId, ReplyId, UserId};
use companion_domain::import;
use companion_domain::portable::foreign::Foreign;
use companion_domain::portable::redaction::Redaction;
use companion_domain::portable::survey::{self, Contents, said};
use companion_domain::portable::{Fault, Header, Place, PortableEvent, remapping};
use sqlx::PgPool;
use uuid::Uuid;

use super::append::{Arriving, append};
use super::local::{self, Local, asked_for};
use crate::log::event_store::{AppendError, EventStore, Life, ReadError};
use crate::{memories, progress};

/// From how many events on a portion is appended, where no reply is open; and where one is.
const PORTION: usize = 200;
const MAX_PORTION: usize = 1_000;
/// And from how many bytes of the file on.
const PORTION_BYTES: usize = 1 << 20;
/// How often a portion is planned anew against streams that move.
const TRIES: usize = 10;
/// Why a memory counts as told again.
const SAME: &str = "an import says the same";

/// What an import did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// Conversations that are new here.
    pub conversations: u64,
    /// Messages that are new here, of both roles.
    pub messages: u64,
    /// Memories that are new here.
    pub memories: u64,
    /// Conversations, messages and memories that were passed over: they are here already, or were
    /// forgotten here.
    pub skipped: u64,
}

/// Why an import stops. What was taken in before stays, and is passed over when it is repeated.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Something in the file can't be taken in.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A reply runs in a conversation that the file goes on with.
    #[error(
        "a reply is running in conversation {conversation}: repeat the import when it has ended"
    )]
    Busy {
        /// Where.
        conversation: ConversationId,
        /// The reply.
        reply: ReplyId,
    },
    /// The log can't be appended to.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// An import on its way.
pub struct Import {
    store: EventStore,
    user: UserId,
    life: Life,
    now: DateTime<Utc>,
    /// Holds the replies that are open between two portions.
    process: Uuid,
    /// Whether the file is another user's: then every id is replaced.
    of_another: bool,
    /// Memories of the file that say what a live one here says.
    same: HashMap<Uuid, Uuid>,
    redaction: Redaction,
    streams: HashMap<Place, Local>,
    /// What is known of streams that are to be looked at again.
    renumbered: HashMap<Place, Vec<(i64, i64)>>,
    /// Where a reply is open, as the file goes.
    open: HashSet<Place>,
    pending: Vec<PortableEvent>,
    /// The size of what is pending in the file.
    bytes: usize,
    /// How much of it, events and bytes, lies before the last place where no reply was open.
    quiet: (usize, usize),
    done: Done,
}

impl Import {
    /// Begins one into this user, who is known. The read models have caught up with what the user did
    /// before.
    ///
    /// # Errors
    /// [`ImportError`] when the user or the database is gone.
    pub async fn begin(
        store: &EventStore,
        user: UserId,
        now: DateTime<Utc>,
    ) -> Result<Self, ImportError> {
        let mut redaction = Redaction::default();
        local::learn(&mut redaction, store, user, 0).await?;
        Ok(Self {
            store: store.clone(),
            user,
            life: store.life(user).await?,
            now,
            process: Uuid::now_v7(),
            of_another: false,
            same: HashMap::new(),
            redaction,
            streams: HashMap::new(),
            renumbered: HashMap::new(),
            open: HashSet::new(),
            pending: Vec::new(),
            bytes: 0,
            quiet: (0, 0),
            done: Done::default(),
        })
    }

    /// What it has done so far.
    pub fn done(&self) -> Done {
        self.done
    }

    /// Takes in the header of an export that holds this.
    ///
    /// # Errors
    /// [`ImportError`] when the database fails.
    pub async fn header(
        &mut self,
        header: &Header,
        contents: &Contents,
    ) -> Result<(), ImportError> {
        self.of_another = header.user_id != self.user;
        let live = memories::live(self.store.pool(), self.user).await?;
        let ids: HashSet<Uuid> = live.iter().map(|(id, _)| *id).collect();
        let here: HashMap<Uuid, Uuid> = live.iter().map(|(id, text)| (said(text), *id)).collect();
        for (memory, said) in &contents.believed {
            let id = self.replaced(memory.0).unwrap_or(memory.0);
            if let Some(known) = here.get(said).filter(|_| !ids.contains(&id)) {
                self.same.insert(memory.0, *known);
            }
        }
        Ok(())
    }

    /// Takes in an event, which has `bytes` in the file.
    ///
    /// # Errors
    /// [`ImportError`]; what was appended before stays.
    pub async fn event(&mut self, event: PortableEvent, bytes: usize) -> Result<(), ImportError> {
        if asked_for(&event.event).is_some() {
            self.open.insert(event.place);
        }
        if survey::ended(&event.event).is_some() {
            self.open.remove(&event.place);
        }
        self.pending.push(event);
        self.bytes += bytes;
        if self.open.is_empty() {
            self.quiet = (self.pending.len(), self.bytes);
        }
        let enough = self.pending.len() >= PORTION || self.bytes >= PORTION_BYTES;
        let too_much = self.pending.len() >= MAX_PORTION || self.bytes >= 4 * PORTION_BYTES;
        if (enough && self.open.is_empty()) || (too_much && self.quiet.0 > 0) {
            self.append_quiet().await?;
        } else if too_much {
            self.append_all().await?;
        }
        Ok(())
    }

    /// Appends what is left, and says what was done. Of a file that did not come to its end it leaves out
    /// what follows the last place where no reply was open: what would be appended of a turn would be ended
    /// as interrupted, and its end could not come any more.
    ///
    /// # Errors
    /// [`ImportError`]; what was appended before stays.
    pub async fn finish(mut self, to_its_end: bool) -> Result<Done, ImportError> {
        match to_its_end {
            true => self.append_all().await?,
            false => self.append_quiet().await?,
        }
        progress::farewell(self.store.pool(), self.process).await?;
        Ok(self.done)
    }

    async fn append_all(&mut self) -> Result<(), ImportError> {
        self.quiet = (self.pending.len(), self.bytes);
        self.append_quiet().await
    }

    /// Appends what is pending up to the last place where no reply was open.
    async fn append_quiet(&mut self) -> Result<(), ImportError> {
        let (events, bytes) = std::mem::take(&mut self.quiet);
        let rest = self.pending.split_off(events);
        let pending = std::mem::replace(&mut self.pending, rest);
        self.bytes -= bytes;
        if pending.is_empty() {
            return Ok(());
        }
        let taken = self.taken_by_others(&pending).await?;
        let mut conflict = AppendError::Conflict { actual: 0 };
        for _ in 0..TRIES {
            let before = self.done;
            let arriving = self.plan(&pending, &taken).await?;
            let touched: HashMap<Place, i64> = arriving
                .iter()
                .filter_map(|(place, _)| Some((*place, self.streams.get(place)?.expected)))
                .collect();
            let streams: Vec<_> = touched
                .iter()
                .map(|(place, expected)| (place.stream(self.user), *expected))
                .collect();
            let reached: Vec<(Place, i64)> = arriving
                .iter()
                .map(|(place, event)| (*place, event.version))
                .collect();
            let events: Vec<Arriving> = arriving.into_iter().map(|(_, event)| event).collect();
            if events.is_empty() {
                return Ok(());
            }
            progress::heartbeat(self.store.pool(), self.process).await?;
            match append(&self.store, &self.life, self.user, &streams, events).await {
                Ok(()) => {
                    for (place, version) in reached {
                        if let Some(local) = self.streams.get_mut(&place) {
                            local.expected = version;
                        }
                    }
                    return Ok(());
                }
                // Something else was appended, by the user or by an extraction: it is looked at again.
                Err(error @ AppendError::Conflict { .. }) => {
                    conflict = error;
                    self.done = before;
                    for (place, local) in self.streams.drain() {
                        self.renumbered.insert(place, local.renumbered());
                    }
                    local::learn(&mut self.redaction, &self.store, self.user, 0).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(conflict.into())
    }

    /// Those of the ids that are another user's here.
    async fn taken_by_others(
        &self,
        events: &[PortableEvent],
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        if self.of_another {
            return Ok(HashSet::new());
        }
        let ids: HashSet<Uuid> = events.iter().flat_map(remapping::ids).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        taken(self.store.pool(), self.user, &ids).await
    }

    fn replaced(&self, id: Uuid) -> Option<Uuid> {
        self.of_another
            .then(|| remapping::replacement(self.user, id))
    }

    /// What is to be appended of events, with the streams that it goes to.
    async fn plan(
        &mut self,
        events: &[PortableEvent],
        taken: &HashSet<Uuid>,
    ) -> Result<Vec<(Place, Arriving)>, ImportError> {
        let mut planned = Vec::with_capacity(events.len());
        for original in events {
            let mut event = original.clone();
            remapping::remap(&mut event, |id| {
                self.same.get(&id).copied().or_else(|| {
                    let other = || remapping::replacement(self.user, id);
                    (self.of_another || taken.contains(&id)).then(other)
                })
            });
            self.load(event.place).await?;
            if let Some(conversation) = reaches_into(&event.event) {
                self.load(Place::Conversation(conversation)).await?;
            }
            if let Some(arriving) = self.decide(original, event)? {
                planned.push(arriving);
            }
        }
        Ok(planned)
    }

    async fn load(&mut self, place: Place) -> Result<(), ImportError> {
        if !self.streams.contains_key(&place) {
            let stream = place.stream(self.user);
            let mut local = Local::load(&self.store, &self.life, self.user, &stream).await?;
            local.renumber(self.renumbered.remove(&place).unwrap_or_default());
            self.streams.insert(place, local);
        }
        Ok(())
    }

    /// What becomes of one event, whose ids are those of here.
    fn decide(
        &mut self,
        original: &PortableEvent,
        mut event: PortableEvent,
    ) -> Result<Option<(Place, Arriving)>, ImportError> {
        let place = event.place;
        let adds = adds(&event.event);
        let mut recorded_at = event.at;
        // Where what an event says of another stream lies here.
        match &mut event.event {
            Event::MemoriesCleared(event) => {
                let of = Place::Conversation(event.conversation_id);
                event.through_version = self.here(of, event.through_version);
            }
            Event::ExtractionCompleted(event) => {
                let of = Place::Conversation(event.conversation_id);
                event.through_version = self.here(of, event.through_version);
            }
            Event::MemorySuperseded(event) => {
                let forgotten = |id: &MemoryId| self.redaction.is_forgotten(*id);
                event.superseded_by = event.superseded_by.filter(|id| !forgotten(id));
            }
            Event::ReplyStarted(event) => {
                let forgotten = |id: MemoryId| self.redaction.is_forgotten(id);
                event.recalled.retain(|memory| !forgotten(memory.memory_id));
            }
            Event::UserMessageReceived(event) => event.lease = self.process,
            Event::ReplyRequested(event) => event.lease = self.process,
            _ => {}
        }
        let is_same = memory(&original.event).is_some_and(|id| self.same.contains_key(&id.0));
        let is_forgotten = memory(&event.event).is_some_and(|id| self.redaction.is_forgotten(id));
        let Some(local) = self.streams.get_mut(&place) else {
            return Ok(None);
        };
        if let Some(here) = local.known.get(&event.id.0) {
            let here = *here;
            local.stands_for(event.version, here);
            self.done.skipped += adds.all();
            return Ok(None);
        }
        let begins = matches!(event.event, Event::ConversationStarted(_));
        if local.deleted || is_forgotten || (begins && local.begun) {
            self.done.skipped += adds.all();
            return Ok(None);
        }
        match (
            &local.running,
            asked_for(&event.event),
            survey::ended(&event.event),
        ) {
            (Some((reply, _)), Some(_), _) => {
                let Place::Conversation(conversation) = place else {
                    return Ok(None);
                };
                let reply = *reply;
                return Err(ImportError::Busy {
                    conversation,
                    reply,
                });
            }
            // It ended here in another way; one that runs here ends here.
            (running, _, Some(ended)) if *running != Some((ended, true)) => return Ok(None),
            _ => {}
        }
        if is_same {
            self.done.skipped += adds.all();
            let Some(told_again) = told_again(event.event) else {
                return Ok(None);
            };
            event.event = told_again;
            recorded_at = self.now;
        } else {
            self.done.conversations += adds.conversations;
            self.done.messages += adds.messages;
            self.done.memories += adds.memories;
        }
        local.run(&event.event);
        local.begun |= begins;
        let (version, left_out) = local.give(event.version);
        let metadata = Metadata {
            origin: Some(event.id.0),
            left_out: (left_out > 0).then_some(left_out),
            imported_at: Some(self.now),
            ..event.notes
        };
        let arriving = Arriving {
            stream: place.stream(self.user),
            version,
            event: event.event,
            metadata,
            recorded_at,
        };
        Ok(Some((place, arriving)))
    }

    fn here(&self, place: Place, version: i64) -> i64 {
        let local = self.streams.get(&place);
        local.map_or(version, |local| local.here(version))
    }

    /// Takes in a conversation of another system, which is called `place` in errors; `extract` says
    /// whether it is to be read for memories.
    ///
    /// # Errors
    /// [`ImportError`]; what was appended before stays.
    pub async fn conversation(
        &mut self,
        foreign: &Foreign,
        extract: bool,
        place: &str,
    ) -> Result<(), ImportError> {
        let messages = foreign.messages(self.user, self.now, place)?;
        if messages.is_empty() {
            return Ok(());
        }
        let conversation = foreign.id(self.user);
        let stream = Place::Conversation(conversation).stream(self.user);
        let mut conflict = AppendError::Conflict { actual: 0 };
        for _ in 0..TRIES {
            let mut local = Local::load(&self.store, &self.life, self.user, &stream).await?;
            let recorded = self.store.read_stream(&stream, 0).await?;
            let known: HashSet<_> = recorded
                .iter()
                .filter_map(|recorded| match &recorded.event {
                    Event::MessagesImported(event) => Some(&event.messages),
                    _ => None,
                })
                .flatten()
                .map(|message| message.message_id)
                .collect();
            let is_new = |m: &&companion_domain::events::ImportedMessage| {
                !local.deleted && !known.contains(&m.message_id)
            };
            let new: Vec<_> = messages.iter().filter(is_new).cloned().collect();
            let added = Done {
                conversations: u64::from(!local.begun),
                messages: new.len() as u64,
                memories: 0,
                skipped: (messages.len() - new.len()) as u64 + u64::from(local.begun),
            };
            let events = if new.is_empty() {
                Vec::new()
            } else {
                import::import(conversation, foreign.title.clone(), new, extract)
            };
            let begun = local.begun;
            let arriving: Vec<Arriving> = events
                .into_iter()
                .filter(|event| !(begun && matches!(event, Event::ConversationStarted(_))))
                .map(|event| Arriving {
                    stream: stream.clone(),
                    version: local.give(0).0,
                    event,
                    metadata: Metadata::default(),
                    recorded_at: Utc::now(),
                })
                .collect();
            let streams = [(stream.clone(), local.expected)];
            let appended = if arriving.is_empty() {
                Ok(())
            } else {
                append(&self.store, &self.life, self.user, &streams, arriving).await
            };
            match appended {
                Ok(()) => {
                    self.done.conversations += added.conversations;
                    self.done.messages += added.messages;
                    self.done.skipped += added.skipped;
                    return Ok(());
                }
                Err(error @ AppendError::Conflict { .. }) => conflict = error,
                Err(error) => return Err(error.into()),
            }
        }
        Err(conflict.into())
    }
}

/// What an event adds to what is listed.
fn adds(event: &Event) -> Done {
    Done {
        conversations: u64::from(matches!(event, Event::ConversationStarted(_))),
        messages: survey::messages(event),
        memories: u64::from(matches!(event, Event::MemoryRecorded(_))),
        skipped: 0,
    }
}

impl Done {
    fn all(self) -> u64 {
        self.conversations + self.messages + self.memories
    }
}

/// The conversation of whose stream an event of the memories names a version.
fn reaches_into(event: &Event) -> Option<ConversationId> {
    match event {
        Event::MemoriesCleared(event) => Some(event.conversation_id),
        Event::ExtractionCompleted(event) => Some(event.conversation_id),
        _ => None,
    }
}

/// The one memory that an event is about.
fn memory(event: &Event) -> Option<MemoryId> {
    match event {
        Event::MemoryRecorded(event) => Some(event.memory_id),
        Event::MemoryReinforced(event) => Some(event.memory_id),
        Event::MemoryRevised(event) => Some(event.memory_id),
        Event::MemorySuperseded(event) => Some(event.memory_id),
        Event::MemoryFaded(event) => Some(event.memory_id),
        _ => None,
    }
}

/// What an event of a memory means for another that says the same.
fn told_again(event: Event) -> Option<Event> {
    let reason = SAME.to_owned();
    let told = match event {
        Event::MemoryRecorded(event) => MemoryReinforced {
            memory_id: event.memory_id,
            sources: event.sources,
            reinforced_at: event.told_at,
            reason,
        },
        Event::MemoryReinforced(event) => event,
        Event::MemoryRevised(event) => MemoryReinforced {
            memory_id: event.memory_id,
            sources: event.sources,
            reinforced_at: event.revised_at,
            reason,
        },
        // What became of its importance there says nothing here.
        _ => return None,
    };
    Some(told.into())
}

/// Those of these ids that name something of another user.
async fn taken(pool: &PgPool, user: UserId, ids: &[Uuid]) -> Result<HashSet<Uuid>, sqlx::Error> {
    let streams: Vec<String> = ids.iter().map(|id| format!("conversation-{id}")).collect();
    let taken: Vec<Uuid> = sqlx::query_scalar(
        "SELECT message_id FROM messages WHERE message_id = ANY($2) AND user_id <> $1
         UNION SELECT memory_id FROM memories WHERE memory_id = ANY($2) AND user_id <> $1
         UNION SELECT substr(stream_id, length('conversation-') + 1)::uuid FROM streams
               WHERE stream_id = ANY($3) AND user_id <> $1",
    )
    .bind(user.0)
    .bind(ids)
    .bind(streams)
    .fetch_all(pool)
    .await?;
    Ok(taken.into_iter().collect())
}
