//! How well each item answers a query: a weighted sum of features, in one pass over the index.
//!
//! The features and where their weights come from are told in `ops/docs/MEMORY.md`.

use chrono::{DateTime, Utc};

use super::index::{Index, Slot};
use super::question::Question;
use super::vectors::QueryVector;
use crate::ids::ConversationId;
use crate::memory::{Decay, MemoryKind};

/// Messages further apart than this belong to two sittings: what was said in one is no context of
/// the other. Seconds.
const SITTING_GAP: i64 = 3_600;
/// How many messages before and after one are right beside it, and how many belong to its passage.
const BESIDE: usize = 2;
const PASSAGE: usize = 6;
/// The share of words in what context is judged by; that of meaning is 1.
const BASE_COVERAGE: f32 = 0.5;
/// The terms beyond which a text counts as no longer.
const LONG: f32 = 24.0;

/// What each feature is worth: fitted on the development part of LoCoMo, but for the last two.
mod weight {
    /// Cosine similarity of the text to the query.
    pub(super) const MEANING: f32 = 3.4;
    /// The share of the query's terms that the text has, each by how rare it is.
    pub(super) const COVERAGE: f32 = 2.2;
    /// The best of what was said right beside it, itself included, and of the passage around.
    pub(super) const BESIDE: f32 = 4.3;
    pub(super) const PASSAGE: f32 = 2.9;
    /// The message before is a question about it.
    pub(super) const ANSWER: f32 = 2.0;
    /// The query names the speaker, or names somebody else who speaks here.
    pub(super) const SPEAKER: f32 = 1.1;
    pub(super) const OTHER_SPEAKER: f32 = -1.2;
    /// It was said in the month that the query names.
    pub(super) const PERIOD: f32 = 4.7;
    /// The query asks for a time, and the text has one.
    pub(super) const TIME: f32 = 1.9;
    /// Logarithm of the number of terms.
    pub(super) const LENGTH: f32 = 0.4;
    /// It ends with a question.
    pub(super) const ASKS: f32 = -0.7;
    /// The assistant said it. It says much, and about everything; people ask for what they said.
    pub(super) const ASSISTANT: f32 = -1.0;
    /// Importance after decay, from the middle: from -0.5 to 0.5 of this.
    pub(super) const IMPORTANCE: f32 = 0.6;
}

/// The sum of features at which a score is one half, and how much more makes it 0.73: so that the
/// default threshold of 0.15 lies at a sum of 4, which hardly any good answer is below, and hardly any
/// answer to a question about nothing known is above.
const CENTRE: f32 = 8.0;
const SPREAD: f32 = 2.3;

/// The cosine similarity to be expected of an item whose vector is still to come, by the share of the
/// query's terms that it has: a line through the means on the development part of LoCoMo (0.09 where no
/// term is shared, 0.22 at a fifth of them, 0.36 at a half, 0.53 at four fifths). Counted as 0, what
/// was told a moment ago and shares every second word would stay below the default threshold.
fn expected_cosine(coverage: f32) -> f32 {
    0.1 + 0.5 * coverage
}

/// What of the engine to rank by: all of it, or a part, to see what the parts are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arm {
    /// All features.
    All,
    /// The cosine similarity alone.
    Meaning,
    /// The share of the query's terms alone.
    Words,
    /// Both of them, summed.
    MeaningAndWords,
    /// All features but what was said around a message.
    WithoutContext,
}

impl Arm {
    /// The parts by which ranking can be compared.
    pub const ALL: [Self; 5] = [
        Self::Meaning,
        Self::Words,
        Self::MeaningAndWords,
        Self::WithoutContext,
        Self::All,
    ];

    /// Its name in a table.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all features",
            Self::Meaning => "meaning alone",
            Self::Words => "words alone",
            Self::MeaningAndWords => "meaning and words",
            Self::WithoutContext => "all but context",
        }
    }
}

/// What to look for in an index.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The query.
    pub text: &'a str,
    /// The vector of the query, reworded by [`Index::reworded`].
    pub vector: &'a [f32],
    /// Only memories of these kinds.
    pub kinds: Option<&'a [MemoryKind]>,
    /// Messages too.
    pub messages: bool,
    /// Only what comes from this conversation.
    pub conversation: Option<ConversationId>,
    /// Now: memories that have faded by then are left out.
    pub now: DateTime<Utc>,
    /// How they fade.
    pub decay: &'a Decay,
    /// By what to rank; [`Arm::All`] but in a comparison.
    pub arm: Arm,
}

/// An item with its scores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scored {
    pub(super) slot: u32,
    pub(super) score: f32,
    pub(super) similarity: f32,
    pub(super) importance_now: f64,
}

/// What is known of all slots before any is scored.
struct Evidence {
    /// `None` without a vector.
    measured: Vec<Option<f32>>,
    /// As measured, or as expected without a vector.
    cosine: Vec<f32>,
    coverage: Vec<f32>,
    base: Vec<f32>,
    /// Whether a memory mentions somebody whom the query names.
    mentions: Vec<bool>,
}

/// Scores everything that is wanted, in no order.
pub(super) fn score(index: &Index, wanted: &Wanted<'_>) -> Vec<Scored> {
    let question = Question::of(wanted.text, &index.speakers);
    let only = wanted.conversation.map(|id| index.conversation(id));
    let evidence = evidence(index, wanted, &question, only.flatten());
    let mut scored = Vec::new();
    for (number, slot) in index.slots.iter().enumerate() {
        if slot.is_message() {
            continue;
        }
        let Some(importance_now) = admitted(slot, wanted) else {
            continue;
        };
        let own = evidence.base[number];
        let sum = own_features(slot, number, &evidence, &question)
            + (weight::BESIDE + weight::PASSAGE) * own
            + weight::IMPORTANCE * (importance_now as f32 - 0.5);
        scored.push(Scored {
            slot: number as u32,
            score: squashed(sum),
            similarity: evidence.measured[number].unwrap_or(0.0),
            importance_now,
        });
    }
    if !wanted.messages {
        return scored;
    }
    for (number, conversation) in index.conversations.iter().enumerate() {
        if only.is_some_and(|only| only != Some(number as u32)) {
            continue;
        }
        let context = Context::of(index, &conversation.slots, &evidence.base);
        for (place, number) in conversation.slots.iter().enumerate() {
            let number = *number as usize;
            let slot = &index.slots[number];
            let own = own_features(slot, number, &evidence, &question);
            let base = evidence.base[number];
            let sum = match wanted.arm {
                Arm::All => own + context.features(index, place),
                Arm::WithoutContext => own + (weight::BESIDE + weight::PASSAGE) * base,
                Arm::MeaningAndWords => base,
                Arm::Meaning => evidence.cosine[number],
                Arm::Words => evidence.coverage[number],
            };
            scored.push(Scored {
                slot: number as u32,
                score: squashed(sum),
                similarity: evidence.measured[number].unwrap_or(0.0),
                importance_now: 0.5,
            });
        }
    }
    scored
}

/// A sum of features as a score in 0..=1.
fn squashed(sum: f32) -> f32 {
    1.0 / (1.0 + ((CENTRE - sum) / SPREAD).exp())
}

/// The importance now of a memory that may be found; `None` for one that may not.
fn admitted(slot: &Slot, wanted: &Wanted<'_>) -> Option<f64> {
    let stated = slot.memory.as_ref().filter(|_| slot.alive)?;
    if wanted
        .kinds
        .is_some_and(|kinds| !kinds.contains(&stated.kind))
    {
        return None;
    }
    if let Some(conversation) = wanted.conversation {
        let mut sources = stated.sources.iter();
        sources.find(|source| source.conversation_id == conversation)?;
    }
    let importance_now = wanted.decay.importance_now(
        stated.importance,
        stated.kind,
        stated.explicit,
        stated.last_reinforced_at,
        wanted.now,
    );
    (stated.explicit || importance_now >= wanted.decay.fade_below).then_some(importance_now)
}

fn evidence(
    index: &Index,
    wanted: &Wanted<'_>,
    question: &Question,
    only: Option<u32>,
) -> Evidence {
    let count = index.slots.len();
    let looked_at = |slot: &Slot| {
        slot.alive
            && match slot.is_message() {
                true => {
                    wanted.messages
                        && (wanted.conversation.is_none() || Some(slot.conversation) == only)
                }
                false => true,
            }
    };
    let query = QueryVector::new(wanted.vector);
    let measured: Vec<Option<f32>> = index
        .slots
        .iter()
        .enumerate()
        .map(|(number, slot)| match looked_at(slot) {
            true => index.vectors.cosine(number, &query),
            false => Some(0.0),
        })
        .collect();

    let mut coverage = vec![0.0f32; count];
    let mut whole = 0.0;
    let items = index.len() as f32;
    for term in &question.terms {
        let (slots, frequency) = index.occurrences(term);
        let frequency = frequency as f32;
        let rarity = (1.0 + ((items - frequency).max(0.0) + 0.5) / (frequency + 0.5)).ln();
        whole += rarity;
        for slot in slots {
            coverage[*slot as usize] += rarity;
        }
    }
    if whole > 0.0 {
        coverage.iter_mut().for_each(|share| *share /= whole);
    }

    let cosine: Vec<f32> = measured
        .iter()
        .zip(&coverage)
        .map(|(cosine, coverage)| cosine.unwrap_or_else(|| expected_cosine(*coverage)))
        .collect();

    let mut mentions = vec![false; count];
    for name in &question.names {
        for slot in index.occurrences(name).0 {
            mentions[*slot as usize] = true;
        }
    }
    let base = cosine
        .iter()
        .zip(&coverage)
        .map(|(cosine, coverage)| cosine + BASE_COVERAGE * coverage)
        .collect();
    Evidence {
        measured,
        cosine,
        coverage,
        base,
        mentions,
    }
}

/// The features of an item by itself.
fn own_features(slot: &Slot, number: usize, evidence: &Evidence, question: &Question) -> f32 {
    let mut sum =
        weight::MEANING * evidence.cosine[number] + weight::COVERAGE * evidence.coverage[number];
    let named = question.named.get(slot.speaker as usize);
    if named == Some(&true) || !slot.is_message() && evidence.mentions[number] {
        sum += weight::SPEAKER;
    } else if named.is_some() && question.named.contains(&true) {
        sum += weight::OTHER_SPEAKER;
    }
    if question.period.is_named() {
        sum += weight::PERIOD * question.period.fit(slot.at);
    }
    if question.when && slot.wording.temporal {
        sum += weight::TIME;
    }
    sum += weight::LENGTH * (slot.terms as f32).min(LONG).ln_1p();
    if slot.wording.asks {
        sum += weight::ASKS;
    }
    // One who has a name is a person to whom the user talks.
    if slot.assistant && named.is_none() {
        sum += weight::ASSISTANT;
    }
    sum
}

/// A conversation's messages in order, with what they are worth on their own.
struct Context<'a> {
    slots: &'a [u32],
    base: Vec<f32>,
    /// For each message the first and the last of its sitting.
    sittings: Vec<(usize, usize)>,
}

impl<'a> Context<'a> {
    fn of(index: &Index, slots: &'a [u32], base: &[f32]) -> Self {
        let at = |place: usize| index.slots[slots[place] as usize].at;
        let mut sittings = Vec::with_capacity(slots.len());
        let mut begin = 0;
        for place in 1..=slots.len() {
            if place == slots.len() || (at(place) - at(place - 1)).abs() > SITTING_GAP {
                sittings.extend(std::iter::repeat_n((begin, place - 1), place - begin));
                begin = place;
            }
        }
        Self {
            slots,
            base: slots.iter().map(|slot| base[*slot as usize]).collect(),
            sittings,
        }
    }

    /// The features that a message has from what was said around it.
    fn features(&self, index: &Index, place: usize) -> f32 {
        let (first, last) = self.sittings[place];
        let best = |around: usize| {
            let from = place.saturating_sub(around).max(first);
            let to = (place + around).min(last);
            let bases = self.base[from..=to].iter();
            bases.fold(f32::NEG_INFINITY, |best, base| best.max(*base))
        };
        let mut sum = weight::BESIDE * best(BESIDE) + weight::PASSAGE * best(PASSAGE);
        if place > first && index.slots[self.slots[place - 1] as usize].wording.question {
            sum += weight::ANSWER * self.base[place - 1];
        }
        sum
    }
}
