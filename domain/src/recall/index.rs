//! Everything of one user that can be found, in memory: words, vectors, who said it and when.
//!
//! Items lie in slots, one behind the other, and each of their properties in an array of its own, so
//! that a search passes over all of them once. An item that changes or goes leaves a dead slot behind;
//! when there are many, the index is packed.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::vectors::Vectors;
use super::wording::{self, Wording};
use crate::conversation::Role;
use crate::ids::ConversationId;
use crate::memory::{MemoryKind, Source};
use crate::text;

/// Dead slots are left in place until there are more than this, and more than live ones.
const FEW_DEAD: usize = 1_000;
/// No speaker, no conversation.
const NONE: u32 = u32::MAX;

/// A memory or message, as it is put into an index.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<'a> {
    /// Its id.
    pub id: Uuid,
    /// Its text.
    pub content: &'a str,
    /// When it was said; of a memory, since when it holds.
    pub at: DateTime<Utc>,
    /// Its vector, of the index's dimension and of length 1; `None` until it is made.
    pub vector: Option<&'a [f32]>,
    /// What it is.
    pub what: What,
}

/// What an item is.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// Something said in a conversation.
    Message {
        /// Where.
        conversation: ConversationId,
        /// Its place there: version of the event, and ordinal in it.
        place: (i64, i32),
        /// Whose side.
        role: Role,
        /// The speaker's name, where one is given.
        name: Option<String>,
    },
    /// A memory.
    Memory(Stated),
}

/// What is known of a memory besides its words.
#[derive(Debug, Clone, PartialEq)]
pub struct Stated {
    /// Its kind.
    pub kind: MemoryKind,
    /// As recorded, 0..=1.
    pub importance: f64,
    /// Whether it never fades.
    pub explicit: bool,
    /// When it was last told.
    pub last_reinforced_at: DateTime<Utc>,
    /// The messages it rests on.
    pub sources: Vec<Source>,
}

/// One item.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) id: Uuid,
    pub(super) alive: bool,
    /// Hash of the normal form: two items with the same say the same.
    pub(super) form: u64,
    /// When it was said, seconds.
    pub(super) at: i64,
    pub(super) wording: Wording,
    /// Its terms in `Index::sequence`, in order, repetitions included.
    first_term: u32,
    pub(super) terms: u32,
    pub(super) conversation: u32,
    pub(super) place: (i64, i32),
    pub(super) speaker: u32,
    pub(super) assistant: bool,
    pub(super) memory: Option<Box<Stated>>,
}

impl Slot {
    /// Whether it is a message rather than a memory.
    pub(super) fn is_message(&self) -> bool {
        self.memory.is_none()
    }
}

/// The slots of a conversation's messages, in the order in which they were said.
#[derive(Debug, Clone, Default)]
pub(super) struct Conversation {
    pub(super) slots: Vec<u32>,
}

/// All items of one user.
#[derive(Debug, Clone)]
pub struct Index {
    pub(super) slots: Vec<Slot>,
    pub(super) vectors: Vectors,
    pub(super) conversations: Vec<Conversation>,
    /// The words of each speaker's name, in lower case; none of one of whom no message is left.
    pub(super) speakers: Vec<Vec<String>>,
    messages_of: Vec<u32>,
    vocabulary: HashMap<Box<str>, u32>,
    /// For each term the slots that have it, dead ones too, and how many live ones do.
    postings: Vec<Vec<u32>>,
    frequencies: Vec<u32>,
    sequence: Vec<u32>,
    by_id: HashMap<Uuid, u32>,
    conversation_of: HashMap<ConversationId, u32>,
    speaker_of: HashMap<String, u32>,
}

impl Index {
    /// An empty index for vectors of a dimension.
    pub fn new(dimension: usize) -> Self {
        Self {
            slots: Vec::new(),
            vectors: Vectors::new(dimension),
            conversations: Vec::new(),
            speakers: Vec::new(),
            messages_of: Vec::new(),
            vocabulary: HashMap::new(),
            postings: Vec::new(),
            frequencies: Vec::new(),
            sequence: Vec::new(),
            by_id: HashMap::new(),
            conversation_of: HashMap::new(),
            speaker_of: HashMap::new(),
        }
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether an item is there.
    pub fn contains(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Puts an item in, in place of what it was.
    pub fn put(&mut self, entry: &Entry<'_>) {
        self.remove(entry.id);
        let number = as_u32(self.slots.len());
        let first_term = as_u32(self.sequence.len());
        let mut seen = Vec::new();
        for term in text::term_sequence(entry.content) {
            let term = self.term(&term);
            self.sequence.push(term);
            seen.push(term);
        }
        let terms = as_u32(seen.len());
        seen.sort_unstable();
        seen.dedup();
        for term in seen {
            self.postings[term as usize].push(number);
            self.frequencies[term as usize] += 1;
        }
        let mut slot = Slot {
            id: entry.id,
            alive: true,
            form: wording::form(entry.content),
            at: entry.at.timestamp(),
            wording: Wording::of(entry.content),
            first_term,
            terms,
            conversation: NONE,
            place: (0, 0),
            speaker: NONE,
            assistant: false,
            memory: None,
        };
        match &entry.what {
            What::Memory(stated) => slot.memory = Some(Box::new(stated.clone())),
            What::Message {
                conversation,
                place,
                role,
                name,
            } => {
                slot.place = *place;
                slot.assistant = *role == Role::Assistant;
                if let Some(name) = name {
                    slot.speaker = self.speaker(name);
                    let messages = &mut self.messages_of[slot.speaker as usize];
                    *messages += 1;
                    if *messages == 1 {
                        self.speakers[slot.speaker as usize] = text::words(name);
                    }
                }
                slot.conversation = self.seat(*conversation, *place, number);
            }
        }
        self.slots.push(slot);
        self.vectors.push(entry.vector);
        self.by_id.insert(entry.id, number);
    }

    /// Gives an item its vector. One that is not there is passed over.
    pub fn set_vector(&mut self, id: Uuid, vector: &[f32]) {
        if let Some(number) = self.by_id.get(&id) {
            self.vectors.set(*number as usize, vector);
        }
    }

    /// Takes an item out. One that is not there is passed over.
    pub fn remove(&mut self, id: Uuid) {
        let Some(number) = self.by_id.remove(&id) else {
            return;
        };
        let slot = &mut self.slots[number as usize];
        slot.alive = false;
        let (first, terms) = (slot.first_term as usize, slot.terms as usize);
        let mut seen: Vec<u32> = self.sequence[first..first + terms].to_vec();
        seen.sort_unstable();
        seen.dedup();
        for term in seen {
            self.frequencies[term as usize] -= 1;
        }
        if let Some(messages) = self.messages_of.get_mut(slot.speaker as usize) {
            *messages -= 1;
            if *messages == 0 {
                self.speakers[slot.speaker as usize].clear();
            }
        }
        let (conversation, place) = (slot.conversation as usize, slot.place);
        if let Some(Conversation { slots: seats }) = self.conversations.get_mut(conversation) {
            let slots = &self.slots;
            let at = seats.partition_point(|other| slots[*other as usize].place < place);
            if let Some(at) = (at..seats.len()).find(|at| seats[*at] == number) {
                seats.remove(at);
            }
        }
        let dead = self.slots.len() - self.by_id.len();
        if dead > FEW_DEAD && dead > self.by_id.len() {
            self.pack();
        }
    }

    /// Keeps only the items of which `keep` says so.
    pub fn retain(&mut self, keep: impl Fn(Uuid) -> bool) {
        let gone: Vec<Uuid> = self.by_id.keys().copied().filter(|id| !keep(*id)).collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let slots = self.slots.len() * (size_of::<Slot>() + 2 * size_of::<Uuid>() + 8);
        let memories = self.slots.iter().filter(|slot| !slot.is_message()).count() * 160;
        // Each occurrence stands in the sequence and, mostly, in the postings.
        let occurrences = self.sequence.len() * 10;
        slots + memories + occurrences + self.vocabulary.len() * 96 + self.vectors.bytes()
    }

    /// The slots that have a term, dead ones too, and how many live ones do.
    pub(super) fn occurrences(&self, term: &str) -> (&[u32], u32) {
        match self.vocabulary.get(term) {
            Some(term) => (
                &self.postings[*term as usize],
                self.frequencies[*term as usize],
            ),
            None => (&[], 0),
        }
    }

    /// The number of a conversation.
    pub(super) fn conversation(&self, id: ConversationId) -> Option<u32> {
        self.conversation_of.get(&id).copied()
    }

    fn term(&mut self, term: &str) -> u32 {
        if let Some(known) = self.vocabulary.get(term) {
            return *known;
        }
        let number = as_u32(self.postings.len());
        self.vocabulary.insert(term.into(), number);
        self.postings.push(Vec::new());
        self.frequencies.push(0);
        number
    }

    fn speaker(&mut self, name: &str) -> u32 {
        if let Some(known) = self.speaker_of.get(name) {
            return *known;
        }
        let number = as_u32(self.speakers.len());
        self.speaker_of.insert(name.to_owned(), number);
        self.speakers.push(Vec::new());
        self.messages_of.push(0);
        number
    }

    /// Gives a message its place in its conversation; returns the conversation's number.
    fn seat(&mut self, id: ConversationId, place: (i64, i32), number: u32) -> u32 {
        let conversations = &mut self.conversations;
        let conversation = *self.conversation_of.entry(id).or_insert_with(|| {
            conversations.push(Conversation::default());
            as_u32(conversations.len() - 1)
        });
        let seats = &mut conversations[conversation as usize].slots;
        let slots = &self.slots;
        let at = seats.partition_point(|other| slots[*other as usize].place < place);
        seats.insert(at, number);
        conversation
    }

    /// Leaves the dead slots out.
    pub(super) fn pack(&mut self) {
        let mut moved = vec![NONE; self.slots.len()];
        let mut sequence = Vec::with_capacity(self.sequence.len());
        let mut slots = Vec::with_capacity(self.by_id.len());
        let mut vectors = self.vectors.empty();
        for (number, mut slot) in std::mem::take(&mut self.slots).into_iter().enumerate() {
            if !slot.alive {
                continue;
            }
            moved[number] = as_u32(slots.len());
            let (first, terms) = (slot.first_term as usize, slot.terms as usize);
            slot.first_term = as_u32(sequence.len());
            sequence.extend_from_slice(&self.sequence[first..first + terms]);
            vectors.copy(&self.vectors, number);
            slots.push(slot);
        }
        let place = |number: &mut u32| {
            *number = moved[*number as usize];
            *number != NONE
        };
        self.postings
            .iter_mut()
            .for_each(|postings| postings.retain_mut(place));
        for conversation in &mut self.conversations {
            conversation.slots.retain_mut(place);
        }
        self.by_id.values_mut().for_each(|number| {
            place(number);
        });
        (self.slots, self.sequence, self.vectors) = (slots, sequence, vectors);
    }
}

/// No user has four billion items or words.
fn as_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(NONE)
}
