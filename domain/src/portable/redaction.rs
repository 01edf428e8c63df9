//! What of the log does not leave it: what the user asked to forget, and what they threw away.

use std::collections::{HashMap, HashSet};

use crate::events::{
    Event, MemoriesCleared, MemoryRecorded, MemoryReinforced, MemoryRevised, MemorySuperseded,
    Recorded, ReplyRequested, UserMessageReceived,
};
use crate::ids::{ConversationId, MemoryId};
use crate::memory::{Source, add_sources};
use uuid::Uuid;

/// What a user has forgotten and thrown away so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Redaction {
    deleted: HashSet<ConversationId>,
    forgotten: HashSet<MemoryId>,
    /// The version of the memory stream at which what came from a conversation was last cleared.
    cleared: HashMap<ConversationId, i64>,
}

impl Redaction {
    /// The stored names of the events that [`Redaction::learn`] looks at.
    pub const TYPES: [&str; 3] = ["ConversationDeleted", "MemoryForgotten", "MemoriesCleared"];

    /// Takes in an event; one that nothing follows from changes nothing.
    pub fn learn(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::ConversationDeleted(_) => self.deleted.extend(recorded.stream.as_conversation()),
            Event::MemoryForgotten(event) => {
                self.forgotten.insert(event.memory_id);
            }
            Event::MemoriesCleared(event) => {
                self.forgotten.extend(&event.forgotten);
                let at = self.cleared.entry(event.conversation_id).or_default();
                *at = (*at).max(recorded.version);
            }
            _ => {}
        }
    }

    /// Whether the user asked to forget a memory.
    pub fn is_forgotten(&self, memory: MemoryId) -> bool {
        self.forgotten.contains(&memory)
    }

    /// What may leave of an event; `None` when nothing may.
    pub fn apply(&self, recorded: &Recorded) -> Option<Event> {
        let conversation = recorded.stream.as_conversation();
        if conversation.is_some_and(|id| self.deleted.contains(&id)) {
            return None;
        }
        let kept = |memory: &MemoryId| !self.forgotten.contains(memory);
        let sources = |sources: &[Source]| -> Vec<Source> {
            let told = |source: &&Source| {
                let cleared = self.cleared.get(&source.conversation_id);
                cleared.is_none_or(|at| recorded.version > *at)
            };
            let told: Vec<Source> = sources.iter().filter(told).copied().collect();
            // An event of an older version may name more than an import takes, or any memory shows.
            let mut left = Vec::new();
            add_sources(&mut left, &told);
            left
        };
        let event = recorded.event.clone();
        Some(match event {
            // Which process held a lease is nobody's business.
            Event::UserMessageReceived(event) => UserMessageReceived {
                lease: Uuid::nil(),
                ..event
            }
            .into(),
            Event::ReplyRequested(event) => ReplyRequested {
                lease: Uuid::nil(),
                ..event
            }
            .into(),
            Event::ReplyStarted(mut event) => {
                event.recalled.retain(|memory| kept(&memory.memory_id));
                event.into()
            }
            Event::MemoryRecorded(event) => {
                kept(&event.memory_id).then_some(())?;
                let sources = sources(&event.sources);
                MemoryRecorded { sources, ..event }.into()
            }
            Event::MemoryReinforced(event) => {
                kept(&event.memory_id).then_some(())?;
                let sources = sources(&event.sources);
                MemoryReinforced { sources, ..event }.into()
            }
            Event::MemoryRevised(event) => {
                kept(&event.memory_id).then_some(())?;
                let sources = sources(&event.sources);
                MemoryRevised { sources, ..event }.into()
            }
            Event::MemoryFaded(event) => {
                kept(&event.memory_id).then_some(())?;
                event.into()
            }
            Event::MemoriesRecalled(mut event) => {
                event.memories.retain(|used| kept(&used.memory_id));
                (!event.memories.is_empty()).then_some(())?;
                event.into()
            }
            Event::MemorySuperseded(event) => {
                kept(&event.memory_id).then_some(())?;
                MemorySuperseded {
                    superseded_by: event.superseded_by.filter(kept),
                    sources: sources(&event.sources),
                    ..event
                }
                .into()
            }
            Event::MemoriesCleared(event) => {
                let unsupported = event.unsupported.iter().copied().filter(kept).collect();
                MemoriesCleared {
                    forgotten: Vec::new(),
                    unsupported,
                    ..event
                }
                .into()
            }
            Event::ExtractionCompleted(event) => {
                let gone = self.deleted.contains(&event.conversation_id);
                (!gone).then_some(())?;
                event.into()
            }
            // Who may come in is a matter of the place, not of what is taken along.
            Event::MemoryForgotten(_)
            | Event::ConversationDeleted(_)
            | Event::UserRegistered(_)
            | Event::ApiKeyIssued(_)
            | Event::ApiKeyRevoked(_) => return None,
            event @ (Event::ConversationStarted(_)
            | Event::ReplyCompleted(_)
            | Event::ReplyFailed(_)
            | Event::ReplyCancelled(_)
            | Event::MessagesImported(_)
            | Event::ConversationRenamed(_)
            | Event::ConversationReset(_)
            | Event::ConversationSummarised(_)) => event,
        })
    }
}
