//! The memories of one user while messages are read: what the events amount to, without a database.

use companion_domain::consolidation::{Known, consolidate};
use companion_domain::events::Event;
use companion_domain::extraction::{Extracted, KnownStatement};
use companion_domain::ids::{ConversationId, UserId, derived};

use super::label::Stated;

/// A user's memories, live and superseded.
pub(super) struct World {
    user: UserId,
    conversation: ConversationId,
    memories: Vec<Known>,
}

impl World {
    pub(super) fn new(name: &str) -> Self {
        Self {
            user: UserId(derived(&[name, "user"])),
            conversation: ConversationId(derived(&[name, "conversation"])),
            memories: Vec::new(),
        }
    }

    /// What is live, as an LLM is told of it.
    pub(super) fn known(&self) -> Vec<KnownStatement> {
        let live = self.memories.iter().filter(|memory| !memory.closed);
        live.map(|memory| KnownStatement {
            id: memory.id,
            content: memory.content.clone(),
        })
        .collect()
    }

    /// Takes in what was found, without vectors: what decides on the words alone is measured.
    pub(super) fn take(&mut self, found: Extracted) {
        let candidates = found
            .candidates
            .into_iter()
            .map(|candidate| (candidate, Vec::new()))
            .collect();
        let known = self.memories.clone();
        for event in consolidate(self.user, self.conversation, candidates, known).events {
            self.evolve(event);
        }
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::MemoryRecorded(event) => self.memories.push(Known {
                id: event.memory_id,
                content: event.content,
                kind: event.kind,
                importance: event.importance,
                explicit: event.explicit,
                subject: event.subject,
                sources: event.sources,
                occurred_at: event.occurred_at,
                told_at: event.told_at,
                closed: false,
                vector: Vec::new(),
            }),
            Event::MemoryRevised(event) => {
                for memory in self.memories.iter_mut().filter(|m| m.id == event.memory_id) {
                    if let Some(content) = &event.content {
                        memory.content.clone_from(content);
                        memory.subject.clone_from(&event.subject);
                    }
                    memory.occurred_at = event.occurred_at.or(memory.occurred_at);
                    memory.sources.extend(&event.sources);
                }
            }
            Event::MemoryReinforced(event) => {
                for memory in self.memories.iter_mut().filter(|m| m.id == event.memory_id) {
                    memory.sources.extend(&event.sources);
                    memory.told_at = memory.told_at.max(event.reinforced_at);
                }
            }
            Event::MemorySuperseded(event) => {
                for memory in self.memories.iter_mut().filter(|m| m.id == event.memory_id) {
                    memory.closed = true;
                }
            }
            _ => {}
        }
    }

    /// What is remembered in the end: what is live, and what was.
    pub(super) fn remembered(&self) -> (Vec<Stated>, Vec<Stated>) {
        let stated = |closed: bool| {
            let memories = self.memories.iter().filter(move |m| m.closed == closed);
            memories
                .map(|memory| Stated {
                    content: memory.content.clone(),
                    kind: memory.kind,
                    occurred_at: memory.occurred_at,
                })
                .collect()
        };
        (stated(false), stated(true))
    }
}
