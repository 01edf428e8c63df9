//! Weighs what was found against what is known: record, revise, reinforce, supersede, or nothing.
//!
//! *Revised* is a memory when a message says the same fact with more to it: the old wording stays true
//! and is not needed any more. *Superseded* it is when it does not hold any longer: another value for a
//! slot of which there is one, the opposite, an end that was told, or what the LLM found replaced.
//! *Reinforced* when it was told again. Two that merely resemble each other are two.

mod claim;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use self::claim::{Claim, same_day};
use crate::events::{Event, MemoryRecorded, MemoryReinforced, MemoryRevised, MemorySuperseded};
use crate::extraction::Candidate;
use crate::ids::{ConversationId, MemoryId, UserId, derived};
use crate::memory::{MemoryKind, Source};
use crate::{heuristics, text};

/// The cosine similarity from which two statements may be the same fact in other words. MiniLM
/// puts paraphrases of one fact above it and different facts of one shape ("a dog named Rex", "a
/// dog named Max") close to it, so [`same_fact`] looks at the words as well.
const SAME_FACT_SIMILARITY: f64 = 0.90;
/// The cosine similarity from which a statement may be the one that another ends.
const NEGATED_SIMILARITY: f64 = 0.75;
/// How much more important a fact must be told to be for that to count.
const MORE_IMPORTANT: f64 = 0.01;

/// A memory that may be the one that is spoken of, as far as it matters here.
#[derive(Debug, Clone, PartialEq)]
pub struct Known {
    /// The memory.
    pub id: MemoryId,
    /// Its statement.
    pub content: String,
    /// Its kind.
    pub kind: MemoryKind,
    /// 0..=1.
    pub importance: f64,
    /// Whether the user asked to remember it.
    pub explicit: bool,
    /// Its slot, if it has one.
    pub subject: Option<String>,
    /// The messages it rests on.
    pub sources: Vec<Source>,
    /// When it happened, if it is dated.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When it was last told.
    pub told_at: DateTime<Utc>,
    /// Whether it holds no longer. Such a one is only looked at to know what was read already.
    pub closed: bool,
    /// Its vector; empty while it has none.
    pub vector: Vec<f32>,
}

/// What is to be appended, and what is not and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decision {
    /// The events, in order.
    pub events: Vec<Event>,
    /// For each event the place of the candidate that it comes of.
    pub of: Vec<usize>,
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
        pages: known.into_iter().map(Page::of).collect(),
        decision: Decision::default(),
        candidate: 0,
    };
    for (at, (candidate, vector)) in candidates.into_iter().enumerate() {
        book.candidate = at;
        book.weigh(candidate, vector);
    }
    book.decision
}

/// The id of the memory that a candidate makes, should it be new. It depends on who said what in which
/// message, so that reading a message twice makes one memory.
pub fn memory_id(user: UserId, candidate: &Candidate) -> MemoryId {
    let first = candidate
        .sources
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let form = text::normal_form(&candidate.content);
    MemoryId(derived(&["memory", &user.to_string(), &first, &form]))
}

/// A known memory with what it claims.
struct Page {
    known: Known,
    claim: Claim,
}

impl Page {
    fn of(known: Known) -> Self {
        Self {
            claim: Claim::of(&known.content),
            known,
        }
    }
}

/// How a known memory relates to a candidate that states the same fact.
enum Same {
    /// It says no more and no less, or it says more.
    Told(usize, &'static str),
    /// The candidate says more.
    Enriched(usize),
}

/// The known memories while candidates are weighed one after another.
struct Book {
    user: UserId,
    conversation: ConversationId,
    pages: Vec<Page>,
    decision: Decision,
    candidate: usize,
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
        let id = memory_id(self.user, &candidate);
        if self.was_read(id, &candidate, &sources) {
            return self.leave_out("known from the same message");
        }
        let claim = Claim::of(&candidate.content);
        match self.same(&candidate, &claim, &vector, &sources) {
            Some(Same::Told(at, reason)) => self.reinforce(at, &candidate, sources, reason),
            Some(Same::Enriched(at)) => self.enrich(at, candidate, claim, vector, sources),
            None => self.record(id, candidate, claim, vector, sources),
        }
    }

    /// Whether the same was found in the same message before, though it may hold no longer.
    fn was_read(&self, id: MemoryId, candidate: &Candidate, sources: &[Source]) -> bool {
        let form = text::normal_form(&candidate.content);
        self.pages.iter().any(|Page { known, .. }| {
            known.id == id
                || known.closed
                    && text::normal_form(&known.content) == form
                    && sources.iter().all(|source| known.sources.contains(source))
        })
    }

    fn live(&self) -> impl Iterator<Item = (usize, &Page)> {
        let pages = self.pages.iter().enumerate();
        pages.filter(|(_, page)| !page.known.closed)
    }

    /// The memory that already states the fact, and how that is seen; of several the one that rests on
    /// the same messages, else the one told last.
    fn same(
        &self,
        candidate: &Candidate,
        claim: &Claim,
        vector: &[f32],
        sources: &[Source],
    ) -> Option<Same> {
        let form = text::normal_form(&candidate.content);
        let last = |is: &dyn Fn(&Page) -> bool| {
            let pages = self.live().filter(|(_, page)| is(page));
            pages
                .max_by_key(|(_, Page { known, .. })| {
                    let was_read = sources.iter().all(|s| known.sources.contains(s));
                    (was_read, known.told_at, known.id)
                })
                .map(|(at, _)| at)
        };
        let on_that_day = |page: &Page| same_day(candidate.occurred_at, page.known.occurred_at);
        let in_that_slot =
            |page: &Page| candidate.subject.is_some() && candidate.subject == page.known.subject;
        if let Some(at) = last(&|page| text::normal_form(&page.known.content) == form) {
            return Some(Same::Told(at, "the same words"));
        }
        if let Some(at) = last(&|page| on_that_day(page) && page.claim.is(claim)) {
            return Some(Same::Told(at, "the same fact in other words"));
        }
        if let Some(at) = last(&|page| {
            on_that_day(page)
                && (claim.adds_to(&page.claim)
                    || in_that_slot(page) && claim.has_names_of(&page.claim))
        }) {
            return Some(Same::Enriched(at));
        }
        if let Some(at) = last(&|page| {
            on_that_day(page)
                && (page.claim.adds_to(claim)
                    || in_that_slot(page) && page.claim.has_names_of(claim))
        }) {
            return Some(Same::Told(at, "the same fact, of which more is known"));
        }
        let near = |page: &Page| {
            on_that_day(page)
                && cosine(vector, &page.known.vector) >= SAME_FACT_SIMILARITY
                && page.claim.could_be(claim)
        };
        last(&near).map(|at| Same::Told(at, "the same fact in other words"))
    }

    fn reinforce(&mut self, at: usize, candidate: &Candidate, sources: Vec<Source>, reason: &str) {
        let Some(Page { known, .. }) = self.pages.get_mut(at) else {
            return;
        };
        let new = unknown(known, sources);
        if new.is_empty() {
            return self.leave_out("known from the same message");
        }
        let explicit = candidate.explicit && !known.explicit;
        let importance = (candidate.importance > known.importance + MORE_IMPORTANT)
            .then_some(candidate.importance);
        known.sources.extend(&new);
        known.told_at = known.told_at.max(candidate.said_at);
        known.explicit |= explicit;
        known.importance = importance.unwrap_or(known.importance);
        let (memory_id, reinforced_at) = (known.id, candidate.said_at);
        let event: Event = if explicit || importance.is_some() {
            let reason = format!("told again as more important: {reason}");
            MemoryRevised {
                memory_id,
                content: None,
                kind: None,
                importance,
                explicit: explicit.then_some(true),
                occurred_at: None,
                subject: None,
                sources: new,
                revised_at: reinforced_at,
                reason,
            }
            .into()
        } else {
            MemoryReinforced {
                memory_id,
                sources: new,
                reinforced_at,
                reason: reason.to_owned(),
            }
            .into()
        };
        self.append(event);
    }

    fn enrich(
        &mut self,
        at: usize,
        candidate: Candidate,
        claim: Claim,
        vector: Vec<f32>,
        sources: Vec<Source>,
    ) {
        let Some(page) = self.pages.get_mut(at) else {
            return;
        };
        let known = &mut page.known;
        let new = unknown(known, sources);
        let importance = (candidate.importance > known.importance + MORE_IMPORTANT)
            .then_some(candidate.importance);
        let explicit = candidate.explicit && !known.explicit;
        let subject = candidate.subject.or_else(|| known.subject.clone());
        let revised = MemoryRevised {
            memory_id: known.id,
            content: Some(candidate.content.clone()),
            kind: None,
            importance,
            explicit: explicit.then_some(true),
            occurred_at: candidate
                .occurred_at
                .filter(|_| known.occurred_at.is_none()),
            subject: subject.clone(),
            sources: new.clone(),
            revised_at: candidate.said_at,
            reason: "the same fact with more to it".to_owned(),
        };
        known.content = candidate.content;
        known.vector = vector;
        known.subject = subject;
        known.sources.extend(new);
        known.told_at = known.told_at.max(candidate.said_at);
        known.explicit |= explicit;
        known.importance = importance.unwrap_or(known.importance);
        page.claim = claim;
        self.append(revised.into());
    }

    fn record(
        &mut self,
        id: MemoryId,
        candidate: Candidate,
        claim: Claim,
        vector: Vec<f32>,
        sources: Vec<Source>,
    ) {
        let valid_from = candidate
            .occurred_at
            .unwrap_or(candidate.said_at)
            .min(candidate.said_at);
        // What holds no longer counts too when it was told later: it is what ended the candidate.
        let contradicted: Vec<(MemoryId, DateTime<Utc>, &'static str)> = self
            .pages
            .iter()
            .filter(|page| !page.known.closed || page.known.told_at > candidate.said_at)
            .filter_map(|page| {
                let why = contradiction(&candidate, &claim, &vector, page)?;
                Some((page.known.id, page.known.told_at, why))
            })
            .collect();
        let reason = if contradicted.is_empty() {
            "new"
        } else {
            "a change"
        };
        self.append(
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
                reason: reason.to_owned(),
            }
            .into(),
        );
        let known = Known {
            id,
            content: candidate.content,
            kind: candidate.kind,
            importance: candidate.importance,
            explicit: candidate.explicit,
            subject: candidate.subject,
            sources: sources.clone(),
            occurred_at: candidate.occurred_at,
            told_at: candidate.said_at,
            closed: false,
            vector,
        };
        self.pages.push(Page { known, claim });
        let (newer, older): (Vec<_>, Vec<_>) = contradicted
            .into_iter()
            .partition(|(_, told_at, _)| *told_at > candidate.said_at);
        for (other, _, why) in older {
            self.supersede(other, Some(id), candidate.said_at, sources.clone(), why);
        }
        // A statement that was told before what it contradicts (messages read out of order) is the
        // one that no longer holds.
        let newer = newer
            .into_iter()
            .min_by_key(|(id, told_at, _)| (*told_at, *id));
        if let Some((other, since, why)) = newer {
            self.supersede(id, Some(other), since, sources, why);
        }
    }

    fn supersede(
        &mut self,
        id: MemoryId,
        by: Option<MemoryId>,
        valid_to: DateTime<Utc>,
        sources: Vec<Source>,
        reason: &str,
    ) {
        for page in &mut self.pages {
            page.known.closed |= page.known.id == id;
        }
        self.append(
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

    fn append(&mut self, event: Event) {
        self.decision.events.push(event);
        self.decision.of.push(self.candidate);
    }

    fn leave_out(&mut self, reason: &'static str) {
        *self.decision.left_out.entry(reason).or_default() += 1;
    }
}

/// The messages that a memory does not rest on yet.
fn unknown(known: &Known, sources: Vec<Source>) -> Vec<Source> {
    let mut new = sources;
    new.retain(|source| !known.sources.contains(source));
    new
}

/// Why a candidate and a known memory can't both hold, if they can't.
fn contradiction(
    candidate: &Candidate,
    claim: &Claim,
    vector: &[f32],
    page: &Page,
) -> Option<&'static str> {
    let known = &page.known;
    if candidate.replaces.contains(&known.id) {
        return Some("the LLM found it replaced");
    }
    if candidate.subject.is_some() && candidate.subject == known.subject {
        return Some("there can be only one at a time");
    }
    // What happened on one day is not undone by what did not happen on another.
    let lasting = |kind| kind != MemoryKind::Event;
    if lasting(candidate.kind) && lasting(known.kind) && claim.denies(&page.claim) {
        return Some("the opposite was said");
    }
    let negated = candidate.negates.as_deref()?;
    let ended = text::normal_form(negated) == text::normal_form(&known.content)
        || Claim::of(negated).is(&page.claim)
        || (covers(&known.content, negated) && cosine(vector, &known.vector) >= NEGATED_SIMILARITY);
    ended.then_some("the user says that it is over")
}

/// Whether two statements are the same fact: they claim the same, or they are close in meaning, and no
/// name, number, date or "not" is in only one of them.
pub fn same_fact(a: &str, a_vector: &[f32], b: &str, b_vector: &[f32]) -> bool {
    let date = |statement: &str| {
        let undated = heuristics::without_date(statement);
        statement.get(undated.len()..).map(str::to_owned)
    };
    if date(a) != date(b) {
        return false;
    }
    let (a, b) = (Claim::of(a), Claim::of(b));
    a.is(&b) || cosine(a_vector, b_vector) >= SAME_FACT_SIMILARITY && a.could_be(&b)
}

/// Whether every meaningful word of `part` is in `whole`.
fn covers(whole: &str, part: &str) -> bool {
    let whole = text::terms(whole);
    text::terms(part)
        .iter()
        .all(|(term, _)| whole.iter().any(|(other, _)| other == term))
}

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
#[rustfmt::skip] // tables of statements read better unwrapped
mod tests;
