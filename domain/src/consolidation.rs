//! Weighs what was found against what is known: record, reinforce, supersede, or nothing.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::events::{Event, MemoryRecorded, MemoryReinforced, MemorySuperseded};
use crate::extraction::Candidate;
use crate::ids::{ConversationId, MemoryId, UserId, derived};
use crate::memory::Source;
use crate::text;

/// The cosine similarity from which two statements may be the same fact in other words. MiniLM
/// puts paraphrases of one fact above it and different facts of one shape ("a dog named Rex", "a
/// dog named Max") close to it, so [`same_fact`] looks at the words as well.
const SAME_FACT_SIMILARITY: f64 = 0.90;
/// The cosine similarity from which a statement may be the one that another ends.
const NEGATED_SIMILARITY: f64 = 0.75;

/// A live memory, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The memory.
    pub id: MemoryId,
    /// Its statement.
    pub content: String,
    /// Its slot, if it has one.
    pub subject: Option<String>,
    /// The messages it rests on.
    pub sources: Vec<Source>,
    /// When it was last told.
    pub told_at: DateTime<Utc>,
    /// Its vector; empty while it has none.
    pub vector: Vec<f32>,
}

/// What is to be appended, and what is not and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// The events, in order.
    pub events: Vec<Event>,
    /// What is left out: reason and count.
    pub left_out: BTreeMap<&'static str, u32>,
}

/// Decides what becomes of the candidates of one conversation, each with the vector of its
/// statement. Deterministic: the same input gives the same events with the same ids.
pub fn consolidate(
    user: UserId,
    conversation: ConversationId,
    candidates: Vec<(Candidate, Vec<f32>)>,
    known: Vec<Known>,
) -> Decision {
    let mut book = Book {
        user,
        conversation,
        live: known,
        decision: Decision::default(),
    };
    for (candidate, vector) in candidates {
        book.weigh(candidate, vector);
    }
    book.decision
}

/// The live memories while candidates are weighed one after another.
struct Book {
    user: UserId,
    conversation: ConversationId,
    live: Vec<Known>,
    decision: Decision,
}

impl Book {
    fn weigh(&mut self, candidate: Candidate, vector: Vec<f32>) {
        let sources: Vec<Source> = candidate
            .sources
            .iter()
            .map(|message| Source {
                conversation_id: self.conversation,
                message_id: *message,
            })
            .collect();
        let id = self.memory_id(&candidate);
        if self.live.iter().any(|known| known.id == id) {
            return self.leave_out("known from the same message");
        }
        if let Some((at, reason)) = self.same(&candidate, &vector) {
            return self.reinforce(at, &candidate, sources, reason);
        }
        let valid_from = candidate
            .occurred_at
            .unwrap_or(candidate.said_at)
            .min(candidate.said_at);
        let contradicted: Vec<(MemoryId, &'static str)> = self
            .live
            .iter()
            .filter_map(|known| {
                contradiction(&candidate, &vector, known).map(|why| (known.id, why))
            })
            .collect();
        self.decision.events.push(
            MemoryRecorded {
                memory_id: id,
                content: candidate.content.clone(),
                kind: candidate.kind,
                importance: candidate.importance,
                explicit: candidate.explicit,
                sources: sources.clone(),
                subject: candidate.subject.clone(),
                occurred_at: candidate.occurred_at,
                valid_from,
                told_at: candidate.said_at,
                reason: if contradicted.is_empty() {
                    "new"
                } else {
                    "a change"
                }
                .to_owned(),
            }
            .into(),
        );
        let new = Known {
            id,
            content: candidate.content,
            subject: candidate.subject,
            sources: sources.clone(),
            told_at: candidate.said_at,
            vector,
        };
        // A statement that was told before what it contradicts (messages read out of order) is the
        // one that no longer holds.
        let newer = contradicted.iter().find_map(|(other, why)| {
            let known = self.live.iter().find(|known| known.id == *other)?;
            (known.told_at > candidate.said_at).then_some((known.id, known.told_at, *why))
        });
        if let Some((other, since, why)) = newer {
            return self.supersede(id, Some(other), since, sources, why);
        }
        for (other, why) in contradicted {
            self.supersede(other, Some(id), candidate.said_at, sources.clone(), why);
        }
        self.live.push(new);
    }

    /// The memory that already says the same, and how that is seen.
    fn same(&self, candidate: &Candidate, vector: &[f32]) -> Option<(usize, &'static str)> {
        let form = text::normal_form(&candidate.content);
        let exact = |known: &Known| text::normal_form(&known.content) == form;
        if let Some(at) = self.live.iter().position(exact) {
            return Some((at, "the same words"));
        }
        let near =
            |known: &Known| same_fact(&candidate.content, vector, &known.content, &known.vector);
        self.live
            .iter()
            .position(near)
            .map(|at| (at, "the same fact in other words"))
    }

    fn reinforce(&mut self, at: usize, candidate: &Candidate, sources: Vec<Source>, reason: &str) {
        let Some(known) = self.live.get_mut(at) else {
            return;
        };
        let new: Vec<Source> = sources
            .into_iter()
            .filter(|source| !known.sources.contains(source))
            .collect();
        if new.is_empty() {
            return self.leave_out("known from the same message");
        }
        known.sources.extend(&new);
        known.told_at = known.told_at.max(candidate.said_at);
        self.decision.events.push(
            MemoryReinforced {
                memory_id: known.id,
                sources: new,
                reinforced_at: candidate.said_at,
                reason: reason.to_owned(),
            }
            .into(),
        );
    }

    fn supersede(
        &mut self,
        id: MemoryId,
        by: Option<MemoryId>,
        valid_to: DateTime<Utc>,
        sources: Vec<Source>,
        reason: &str,
    ) {
        self.live.retain(|known| known.id != id);
        self.decision.events.push(
            MemorySuperseded {
                memory_id: id,
                superseded_by: by,
                valid_to,
                sources,
                reason: reason.to_owned(),
            }
            .into(),
        );
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.decision.left_out.entry(reason).or_default() += 1;
    }

    /// The id depends on who said what in which message, so that reading a message twice makes one
    /// memory.
    fn memory_id(&self, candidate: &Candidate) -> MemoryId {
        let first = candidate
            .sources
            .first()
            .map(ToString::to_string)
            .unwrap_or_default();
        let form = text::normal_form(&candidate.content);
        MemoryId(derived(&["memory", &self.user.to_string(), &first, &form]))
    }
}

/// Why a candidate makes a known memory untrue, if it does.
fn contradiction(candidate: &Candidate, vector: &[f32], known: &Known) -> Option<&'static str> {
    if candidate.replaces.contains(&known.id) {
        return Some("the LLM found it replaced");
    }
    if candidate.subject.is_some() && candidate.subject == known.subject {
        return Some("there can be only one at a time");
    }
    let negated = candidate.negates.as_deref()?;
    let ended = text::normal_form(negated) == text::normal_form(&known.content)
        || (covers(&known.content, negated) && cosine(vector, &known.vector) >= NEGATED_SIMILARITY);
    ended.then_some("the user says that it is over")
}

/// Whether two statements are the same fact: close in meaning, and no name, number or "not" that
/// only one of them has.
pub fn same_fact(a: &str, a_vector: &[f32], b: &str, b_vector: &[f32]) -> bool {
    cosine(a_vector, b_vector) >= SAME_FACT_SIMILARITY
        && same_names(a, b)
        && negated(a) == negated(b)
}

/// Whether every meaningful word of `part` is in `whole`.
fn covers(whole: &str, part: &str) -> bool {
    let whole = text::terms(whole);
    text::terms(part)
        .iter()
        .all(|(term, _)| whole.iter().any(|(other, _)| other == term))
}

/// Whether the names and numbers of two statements are the same.
fn same_names(a: &str, b: &str) -> bool {
    names(a) == names(b)
}

/// The words of a statement that name or count something, sorted: capitalised or with a digit. The
/// first word is capitalised anyway, so it doesn't count.
fn names(statement: &str) -> Vec<String> {
    let mut names: Vec<String> = statement
        .split_whitespace()
        .skip(1)
        .filter(|word| word.chars().any(|c| c.is_uppercase() || c.is_ascii_digit()))
        .map(text::normal_form)
        .collect();
    names.sort_unstable();
    names
}

/// Whether a statement is negative.
fn negated(statement: &str) -> bool {
    text::words(statement).iter().any(|word| {
        matches!(word.as_str(), "not" | "no" | "never" | "without")
            || word.ends_with("nt") && word.len() <= 7 && NEGATED_VERBS.contains(&word.as_str())
    })
}

/// Contracted negations, as [`text::words`] gives them.
const NEGATED_VERBS: &[&str] = &[
    "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hasnt", "havent", "isnt", "shouldnt",
    "wasnt", "werent", "wont", "wouldnt",
];

/// Cosine similarity, -1..=1; 0 when either vector is empty or null.
pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let (mut dot, mut aa, mut bb) = (0.0f64, 0.0f64, 0.0f64);
    for (x, y) in a.iter().zip(b) {
        let (x, y) = (f64::from(*x), f64::from(*y));
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    let length = (aa * bb).sqrt();
    if length > 0.0 { dot / length } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MessageId;
    use crate::memory::MemoryKind;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("in range")
    }

    fn found(content: &str, message: &str, seconds: i64) -> Candidate {
        Candidate {
            content: content.to_owned(),
            kind: MemoryKind::Fact,
            importance: 0.5,
            explicit: false,
            sources: vec![MessageId(derived(&[message]))],
            said_at: at(seconds),
            occurred_at: None,
            subject: None,
            negates: None,
            replaces: Vec::new(),
        }
    }

    fn decide(candidates: Vec<(Candidate, Vec<f32>)>) -> Vec<&'static str> {
        let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
        consolidate(ids.0, ids.1, candidates, Vec::new())
            .events
            .iter()
            .map(Event::type_name)
            .collect()
    }

    #[test]
    fn the_same_fact_told_again_is_reinforced() {
        let events = decide(vec![
            (found("User loves tea", "m1", 1), vec![]),
            (found("user loves tea.", "m2", 2), vec![]),
        ]);
        assert_eq!(events, ["MemoryRecorded", "MemoryReinforced"]);
    }

    #[test]
    fn the_same_message_says_a_thing_once() {
        let twice = vec![
            (found("User loves tea", "m1", 1), vec![]),
            (found("user loves TEA", "m1", 1), vec![]),
        ];
        assert_eq!(decide(twice), ["MemoryRecorded"]);
    }

    #[test]
    fn other_words_for_one_fact_are_one_memory() {
        let events = decide(vec![
            (found("User loves tea", "m1", 1), vec![1.0, 0.1]),
            (found("User is fond of tea", "m2", 2), vec![1.0, 0.12]),
        ]);
        assert_eq!(events, ["MemoryRecorded", "MemoryReinforced"]);
    }

    #[test]
    fn facts_that_merely_resemble_each_other_both_stay() {
        for (a, b) in [
            ("User has a dog named Rex", "User has a dog named Max"),
            ("User likes tea", "User doesn't like tea"),
            ("User has 2 children", "User has 3 children"),
        ] {
            let events = decide(vec![
                (found(a, "m1", 1), vec![1.0, 0.1]),
                (found(b, "m2", 2), vec![1.0, 0.11]),
            ]);
            assert_eq!(events, ["MemoryRecorded", "MemoryRecorded"], "{b}");
        }
    }

    #[test]
    fn a_new_value_for_a_slot_supersedes_the_old_one() {
        let home = |place: &str, message, seconds| {
            let mut candidate = found(&format!("User lives in {place}"), message, seconds);
            candidate.subject = Some("home".to_owned());
            (candidate, vec![])
        };
        let events = decide(vec![home("Berlin", "m1", 1), home("Lisbon", "m2", 2)]);
        assert_eq!(
            events,
            ["MemoryRecorded", "MemoryRecorded", "MemorySuperseded"]
        );
    }

    #[test]
    fn an_older_statement_read_later_does_not_replace_a_newer_one() {
        let home = |place: &str, message, seconds| {
            let mut candidate = found(&format!("User lives in {place}"), message, seconds);
            candidate.subject = Some("home".to_owned());
            (candidate, vec![])
        };
        let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
        let (lisbon, berlin) = (home("Lisbon", "m2", 2), home("Berlin", "m1", 1));
        let decision = consolidate(ids.0, ids.1, vec![lisbon, berlin], Vec::new());
        let Some(Event::MemoryRecorded(lisbon)) = decision.events.first() else {
            panic!("recorded")
        };
        let Some(Event::MemorySuperseded(closed)) = decision.events.last() else {
            panic!("closed")
        };
        assert_eq!(closed.superseded_by, Some(lisbon.memory_id));
        assert_eq!(closed.valid_to, at(2));
    }

    #[test]
    fn a_correction_about_the_past_replaces_what_was_told_before_it() {
        let mut then = found("User works at Acme", "m1", 10);
        then.subject = Some("employer".to_owned());
        let mut now = found("User works at Globex", "m2", 20);
        now.subject = Some("employer".to_owned());
        now.occurred_at = Some(at(5));
        let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
        let decision = consolidate(
            ids.0,
            ids.1,
            vec![(then, vec![]), (now, vec![])],
            Vec::new(),
        );
        let Some(Event::MemoryRecorded(first)) = decision.events.first() else {
            panic!("recorded")
        };
        let Some(Event::MemorySuperseded(closed)) = decision.events.last() else {
            panic!("closed")
        };
        assert_eq!(closed.memory_id, first.memory_id);
    }

    #[test]
    fn what_is_over_is_closed() {
        let mut over = found("User no longer works at Acme", "m2", 2);
        over.negates = Some("User works at Acme".to_owned());
        let events = decide(vec![
            (found("User works at Acme", "m1", 1), vec![]),
            (over, vec![]),
        ]);
        assert_eq!(
            events,
            ["MemoryRecorded", "MemoryRecorded", "MemorySuperseded"]
        );
    }
}
