//! What would be believed had the messages been read this way: what is found is weighed against the
//! shadow, as it is against the memories when messages come.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::beliefs::{Belief, Beliefs, State};
use crate::consolidation::{Known, consolidate, cosine, memory_id};
use crate::events::{Event, MemorySuperseded};
use crate::extraction::{Candidate, KnownStatement};
use crate::ids::{ConversationId, MemoryId, MessageId, UserId};

/// How many memories near to a statement are weighed against it, as when messages come.
const NEIGHBOURS: usize = 8;

/// The vectors of statements, by their text.
pub type Vectors = HashMap<String, Vec<f32>>;

/// What was found in a portion.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The conversation.
    pub conversation: ConversationId,
    /// What was found.
    pub candidates: Vec<Candidate>,
}

/// What is believed while messages are read again.
pub struct Shadow {
    user: UserId,
    vectors: Vectors,
    /// What is not read again, as it is, and what was found so far.
    pub(super) beliefs: Beliefs,
    /// The memories that are not read again.
    pub(super) standing: BTreeSet<MemoryId>,
    /// How those of them that what was found contradicts would be closed.
    pub(super) closed: BTreeMap<MemoryId, MemorySuperseded>,
    /// What was found against the user's own word.
    pub(super) against_the_user: BTreeSet<MemoryId>,
}

/// Whether a memory is what reading these messages gave, and nothing else.
pub(super) fn comes_from(belief: &Belief, read: &HashSet<MessageId>) -> bool {
    let sources = &belief.memory.sources;
    belief.is_live()
        && !belief.by_hand
        && !sources.is_empty()
        && sources.iter().all(|s| read.contains(&s.message_id))
}

impl Shadow {
    /// The shadow before anything is read: what is believed and does not come from these messages alone.
    pub fn new(
        user: UserId,
        believed: &Beliefs,
        read: &HashSet<MessageId>,
        vectors: Vectors,
    ) -> Self {
        let stands = |belief: &&Belief| belief.is_live() && !comes_from(belief, read);
        let standing = believed.memories.values().filter(stands);
        let beliefs = Beliefs {
            memories: standing.map(|b| (b.memory.memory_id, b.clone())).collect(),
            ..Beliefs::default()
        };
        Self {
            user,
            vectors,
            standing: beliefs.memories.keys().copied().collect(),
            beliefs,
            closed: BTreeMap::new(),
            against_the_user: BTreeSet::new(),
        }
    }

    /// Learns the vectors of statements.
    pub fn learn(&mut self, vectors: impl IntoIterator<Item = (String, Vec<f32>)>) {
        self.vectors.extend(vectors);
    }

    /// The `limit` statements nearest to a vector.
    pub fn nearest(&self, vector: &[f32], limit: usize) -> Vec<KnownStatement> {
        let statement = |belief: &Belief| KnownStatement {
            id: belief.memory.memory_id,
            content: belief.memory.content.clone(),
        };
        let near = self.nearest_beliefs(vector, limit);
        near.into_iter().map(statement).collect()
    }

    fn nearest_beliefs(&self, vector: &[f32], limit: usize) -> Vec<&Belief> {
        let mut near: Vec<(f64, &Belief)> = self
            .beliefs
            .live()
            .map(|(_, belief)| (cosine(vector, self.vector(&belief.memory.content)), belief))
            .collect();
        near.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        near.truncate(limit);
        near.into_iter().map(|(_, belief)| belief).collect()
    }

    /// Takes in what was found in a portion, whose vectors it has learned.
    pub fn take(&mut self, read: &Read) {
        let candidates = read.candidates.iter().map(|candidate| {
            let vector = self.vector(&candidate.content).to_vec();
            (candidate.clone(), vector)
        });
        let candidates: Vec<_> = candidates.collect();
        let known = self.related(&candidates);
        let decision = consolidate(self.user, read.conversation, candidates, known);
        for event in decision.events {
            self.evolve(event);
        }
    }

    /// The memories that statements may be about, as they are chosen when messages come: the nearest, and
    /// those of the same words or slot or that are meant, also when they hold no longer.
    fn related(&self, candidates: &[(Candidate, Vec<f32>)]) -> Vec<Known> {
        let mut chosen: BTreeMap<MemoryId, &Belief> = BTreeMap::new();
        for (candidate, vector) in candidates {
            for belief in self.nearest_beliefs(vector, NEIGHBOURS) {
                chosen.insert(belief.memory.memory_id, belief);
            }
            let (own, form) = (
                memory_id(self.user, candidate),
                candidate.content.to_lowercase(),
            );
            for (id, belief) in &self.beliefs.memories {
                let memory = &belief.memory;
                let slot = memory.subject.is_some() && memory.subject == candidate.subject;
                let meant = *id == own || candidate.replaces.contains(id);
                if slot || meant || memory.content.to_lowercase() == form {
                    chosen.insert(*id, belief);
                }
            }
        }
        let known = |belief: &Belief| Known {
            id: belief.memory.memory_id,
            content: belief.memory.content.clone(),
            kind: belief.memory.kind,
            importance: belief.memory.importance,
            explicit: belief.memory.explicit,
            subject: belief.memory.subject.clone(),
            sources: belief.memory.sources.clone(),
            occurred_at: belief.memory.occurred_at,
            told_at: belief.memory.told_at,
            closed: !belief.is_live(),
            vector: self.vector(&belief.memory.content).to_vec(),
        };
        chosen.into_values().map(known).collect()
    }

    /// The vector of a statement; empty when there is none.
    pub(super) fn vector(&self, content: &str) -> &[f32] {
        self.vectors.get(content).map_or(&[], Vec::as_slice)
    }

    fn evolve(&mut self, event: Event) {
        match &event {
            // What stands is not changed by being told again, and the user's own word is not ended.
            Event::MemoryReinforced(event) if self.standing.contains(&event.memory_id) => return,
            Event::MemoryRevised(event) if self.standing.contains(&event.memory_id) => return,
            Event::MemorySuperseded(event) if self.standing.contains(&event.memory_id) => {
                let standing = self.beliefs.memories.get(&event.memory_id);
                if standing.is_some_and(|belief| belief.by_hand) {
                    self.against_the_user.extend(event.superseded_by);
                    return;
                }
                self.closed.insert(event.memory_id, event.clone());
            }
            _ => {}
        }
        self.beliefs.evolve(&event, chrono::DateTime::UNIX_EPOCH);
    }

    /// What was found and holds.
    pub(super) fn found(&self) -> impl Iterator<Item = &Belief> {
        let found = self.beliefs.live();
        found
            .filter(|(id, _)| !self.standing.contains(*id))
            .map(|(_, belief)| belief)
    }

    /// What was found and no longer holds, with how it ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = (&Belief, &MemorySuperseded)> {
        let found = self.beliefs.memories.iter();
        found.filter_map(|(id, belief)| match &belief.state {
            State::Closed(closed) if !self.standing.contains(id) => Some((belief, closed)),
            _ => None,
        })
    }
}
