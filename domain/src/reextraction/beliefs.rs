//! What the events of a user's memory stream amount to: what is believed, what the user decided by hand,
//! and what they gave up.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::run_of;
use crate::by_hand::{WRITTEN_DOWN, WRITTEN_DOWN_AGAIN};
use crate::events::{CORRECTED_BY_HAND, Event, MemoryRecorded, MemorySuperseded, Recorded};
use crate::ids::{ConversationId, MemoryId};
use crate::memory::{Source, add_sources};

/// A memory as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct Belief {
    /// Its present shape; `told_at` is when it was last told.
    pub memory: MemoryRecorded,
    /// Whether it holds.
    pub state: State,
    /// Whether the user wrote it, corrected it, or asked to remember it.
    pub by_hand: bool,
    /// How many events touched it.
    pub events: u32,
}

/// Whether a memory holds.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// It does, faded or not.
    Live,
    /// Not any more.
    Closed(MemorySuperseded),
}

impl Belief {
    /// A new memory.
    pub fn new(mut memory: MemoryRecorded) -> Self {
        let named = std::mem::take(&mut memory.sources);
        add_sources(&mut memory.sources, &named);
        Self {
            by_hand: memory.explicit || memory.reason == WRITTEN_DOWN,
            memory,
            state: State::Live,
            events: 1,
        }
    }

    /// Whether it holds.
    pub fn is_live(&self) -> bool {
        self.state == State::Live
    }
}

/// A statement that the user forgot, or corrected to another.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenUp {
    /// The statement.
    pub content: String,
    /// The messages that it rested on.
    pub sources: Vec<Source>,
    /// When the user gave it up.
    pub at: DateTime<Utc>,
}

/// All that is believed of a user, and all that was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Beliefs {
    /// The version of the memory stream.
    pub version: i64,
    /// The memories, without forgotten ones.
    pub memories: BTreeMap<MemoryId, Belief>,
    /// What the user gave up.
    pub given_up: Vec<GivenUp>,
    /// Up to which version conversations were cleared.
    pub cleared: BTreeMap<ConversationId, i64>,
    /// Up to which version conversations were read for facts.
    pub cursors: BTreeMap<ConversationId, i64>,
    /// The runs that appended events here, and whether each was rolled back.
    pub runs: BTreeMap<String, bool>,
}

impl Beliefs {
    /// What events of a memory stream, from its first, amount to.
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> Self {
        let mut beliefs = Self::default();
        for recorded in events {
            beliefs.evolve(&recorded.event, recorded.recorded_at);
            beliefs.version = recorded.version;
        }
        beliefs
    }

    /// Takes in an event.
    pub fn evolve(&mut self, event: &Event, at: DateTime<Utc>) {
        match event {
            Event::MemoryRecorded(event) => {
                self.note_run(&event.reason);
                let new = || Belief::new(event.clone());
                self.memories.entry(event.memory_id).or_insert_with(new);
            }
            Event::MemoryReinforced(event) => {
                if let Some(belief) = self.memories.get_mut(&event.memory_id) {
                    belief.events += 1;
                    belief.by_hand |= event.reason == WRITTEN_DOWN_AGAIN;
                    let memory = &mut belief.memory;
                    add_sources(&mut memory.sources, &event.sources);
                    memory.told_at = memory.told_at.max(event.reinforced_at);
                }
            }
            Event::MemoryRevised(event) => {
                let Some(belief) = self.memories.get_mut(&event.memory_id) else {
                    return;
                };
                belief.events += 1;
                let by_hand = event.reason == CORRECTED_BY_HAND;
                belief.by_hand |= by_hand || event.explicit == Some(true);
                let memory = &mut belief.memory;
                if let Some(content) = &event.content {
                    let former = std::mem::replace(&mut memory.content, content.clone());
                    if by_hand {
                        self.given_up.push(GivenUp {
                            content: former,
                            sources: memory.sources.clone(),
                            at,
                        });
                    }
                    memory.subject = event.subject.clone();
                }
                memory.kind = event.kind.unwrap_or(memory.kind);
                memory.importance = event.importance.unwrap_or(memory.importance);
                memory.explicit = event.explicit.unwrap_or(memory.explicit);
                memory.occurred_at = event.occurred_at.or(memory.occurred_at);
                add_sources(&mut memory.sources, &event.sources);
                memory.told_at = memory.told_at.max(event.revised_at);
            }
            Event::MemorySuperseded(event) => {
                self.note_run(&event.reason);
                if let Some(belief) = self.memories.get_mut(&event.memory_id) {
                    belief.events += 1;
                    belief.state = State::Closed(event.clone());
                }
            }
            Event::MemoryForgotten(event) => {
                if let Some(Belief { memory, .. }) = self.memories.remove(&event.memory_id) {
                    self.given_up.push(GivenUp {
                        content: memory.content,
                        sources: memory.sources,
                        at,
                    });
                }
            }
            Event::MemoriesCleared(event) => {
                for id in &event.forgotten {
                    self.memories.remove(id);
                }
                for id in &event.unsupported {
                    if let Some(belief) = self.memories.get_mut(id) {
                        let here = |s: &Source| s.conversation_id == event.conversation_id;
                        belief.memory.sources.retain(|source| !here(source));
                    }
                }
                let (conversation, through) = (event.conversation_id, event.through_version);
                raise(&mut self.cleared, conversation, through);
                raise(&mut self.cursors, conversation, through);
            }
            Event::ExtractionCompleted(event) => {
                raise(
                    &mut self.cursors,
                    event.conversation_id,
                    event.through_version,
                );
            }
            // Whether a memory is recalled, and whether that was of use, is no belief.
            Event::MemoryFaded(_) | Event::MemoriesRecalled(_) => {}
            // Of other streams.
            Event::ConversationStarted(_)
            | Event::UserMessageReceived(_)
            | Event::ReplyStarted(_)
            | Event::ReplyCompleted(_)
            | Event::ReplyFailed(_)
            | Event::ReplyCancelled(_)
            | Event::ReplyRequested(_)
            | Event::MessagesImported(_)
            | Event::ConversationRenamed(_)
            | Event::ConversationReset(_)
            | Event::ConversationSummarised(_)
            | Event::ConversationDeleted(_)
            | Event::UserRegistered(_)
            | Event::ApiKeyIssued(_)
            | Event::ApiKeyRevoked(_) => {}
        }
    }

    /// The memories that hold.
    pub fn live(&self) -> impl Iterator<Item = (&MemoryId, &Belief)> {
        self.memories.iter().filter(|(_, belief)| belief.is_live())
    }

    fn note_run(&mut self, reason: &str) {
        if let Some(run) = run_of(reason) {
            self.runs.entry(run.to_owned()).or_insert(false);
        } else if let Some((run, _)) = reason
            .strip_prefix("reextract ")
            .and_then(|rest| rest.split_once(" rolled back: "))
        {
            self.runs.insert(run.to_owned(), true);
        }
    }
}

/// The statements that a comparison needs the vectors of: what is believed, and what was given up.
pub fn statements(beliefs: &Beliefs) -> impl Iterator<Item = &str> {
    let live = beliefs
        .live()
        .map(|(_, belief)| belief.memory.content.as_str());
    live.chain(
        beliefs
            .given_up
            .iter()
            .map(|given_up| given_up.content.as_str()),
    )
}

fn raise(versions: &mut BTreeMap<ConversationId, i64>, conversation: ConversationId, to: i64) {
    let version = versions.entry(conversation).or_default();
    *version = to.max(*version);
}
