//! Weighs what was found against what is known: record, revise, reinforce, supersede, or nothing.
//!
//! *Revised* is a memory when a message says the same fact with more to it: the old wording stays true
//! and is not needed any more. *Superseded* it is when it does not hold any longer: another value for a
//! slot of which there is one, the opposite, an end that was told, or what the LLM found replaced.
//! *Reinforced* when it was told again. Two that merely resemble each other are two.

mod claim;
pub(crate) mod words;

use std::cell::OnceCell;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use self::claim::{Claim, same_day};
use crate::events::{Event, MemoryRecorded, MemoryReinforced, MemoryRevised, MemorySuperseded};
use crate::extraction::Candidate;
use crate::ids::{ConversationId, MemoryId, MessageId, UserId, derived};
use crate::memory::{MemoryKind, Source, add_sources};
use crate::{heuristics, text, usage};

/// The cosine similarity from which two statements may be the same fact in other words. MiniLM
/// puts paraphrases of one fact above it and different facts of one shape ("a dog named Rex", "a
/// dog named Max") close to it, so [`Fact::is`] looks at the words as well.
const SAME_FACT_SIMILARITY: f64 = 0.90;
/// The cosine similarity from which a statement may be the one that another ends.
const NEGATED_SIMILARITY: f64 = 0.75;
/// The cosine similarity from which the LLM is believed that one statement replaces another.
const RELATED_SIMILARITY: f64 = 0.50;
/// How much more important a fact must be told to be for that to count.
const MORE_IMPORTANT: f64 = 0.01;
/// The reason of an end.
const OVER: &str = "the user says that it is over";

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
    /// Its statement's [`text::normal_form`].
    form: String,
    claim: Claim,
    /// What its statement ends, once that is asked.
    ends: OnceCell<Option<Ended>>,
}

impl Page {
    fn of(known: Known) -> Self {
        Self {
            form: text::normal_form(&known.content),
            claim: Claim::of(&known.content),
            known,
            ends: OnceCell::new(),
        }
    }

    fn ends(&self) -> Option<&Ended> {
        let read = || heuristics::read_statement(&self.known.content).negates;
        self.ends
            .get_or_init(|| read().as_deref().map(Ended::of))
            .as_ref()
    }
}

/// A candidate with what it claims.
struct Found {
    candidate: Candidate,
    /// Its statement's [`text::normal_form`].
    form: String,
    claim: Claim,
    vector: Vec<f32>,
    sources: Vec<Source>,
    /// What its statement ends.
    ends: Option<Ended>,
}

impl Found {
    fn of(candidate: Candidate, vector: Vec<f32>, conversation: ConversationId) -> Self {
        let source = |message: &MessageId| Source {
            conversation_id: conversation,
            message_id: *message,
        };
        Self {
            form: text::normal_form(&candidate.content),
            claim: Claim::of(&candidate.content),
            sources: candidate.sources.iter().map(source).collect(),
            ends: candidate.negates.as_deref().map(Ended::of),
            vector,
            candidate,
        }
    }

    fn fills_slot_of(&self, page: &Page) -> bool {
        let subject = &self.candidate.subject;
        subject.is_some() && *subject == page.known.subject
    }

    /// Whether both may have happened on the same day.
    fn on_day_of(&self, page: &Page) -> bool {
        same_day(self.candidate.occurred_at, page.known.occurred_at)
            && self.claim.may_be_dated_as(&page.claim)
    }
}

/// A statement that another one ends.
struct Ended {
    statement: String,
    form: String,
    claim: Claim,
}

impl Ended {
    fn of(statement: &str) -> Self {
        Self {
            statement: statement.to_owned(),
            form: text::normal_form(statement),
            claim: Claim::of(statement),
        }
    }

    /// Whether a statement is meant, whose similarity to the one that ends it is given.
    fn is(&self, content: &str, form: &str, claim: &Claim, similarity: f64) -> bool {
        self.form == form
            || self.claim.is(claim)
            || similarity >= NEGATED_SIMILARITY && covers(content, &self.statement)
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
        let id = memory_id(self.user, &candidate);
        let found = Found::of(candidate, vector, self.conversation);
        if self.was_read(id, &found) {
            return self.leave_out("known from the same message");
        }
        match self.same(&found) {
            Some(Same::Told(at, reason)) => self.reinforce(at, &found, reason),
            Some(Same::Enriched(at)) => self.enrich(at, found),
            None => self.record(id, found),
        }
    }

    /// Whether the same was found in the same message before, though it may hold no longer.
    fn was_read(&self, id: MemoryId, found: &Found) -> bool {
        self.pages.iter().any(|Page { known, form, .. }| {
            known.id == id || known.closed && *form == found.form && known.rests_on(&found.sources)
        })
    }

    fn live(&self) -> impl Iterator<Item = (usize, &Page)> {
        let pages = self.pages.iter().enumerate();
        pages.filter(|(_, page)| !page.known.closed)
    }

    /// The memory that already states the fact, and how that is seen; of several the one that rests on
    /// the same messages, else the one told last.
    fn same(&self, found: &Found) -> Option<Same> {
        let claim = &found.claim;
        let last = |is: &dyn Fn(&Page) -> bool| {
            let pages = self.live().filter(|(_, page)| is(page));
            pages.max_by_key(|(_, Page { known, .. })| {
                (known.rests_on(&found.sources), known.told_at, known.id)
            })
        };
        let named = found.candidate.subject.as_deref().is_some_and(is_name);
        if let Some((at, _)) = last(&|page| page.form == found.form) {
            return Some(Same::Told(at, "the same words"));
        }
        if let Some((at, _)) = last(&|page| found.on_day_of(page) && page.claim.is(claim)) {
            return Some(Same::Told(at, "the same fact in other words"));
        }
        if let Some((at, page)) = last(&|page| {
            found.on_day_of(page)
                && (claim.adds_to(&page.claim)
                    || found.fills_slot_of(page) && claim.has_value_of(&page.claim, named))
        }) {
            // What was said before the known statement is no news of it, unless it only adds.
            let is_older = found.candidate.said_at < page.known.told_at;
            return Some(if is_older && !claim.adds_to(&page.claim) {
                Same::Told(at, "the same fact, told before what is known of it")
            } else {
                Same::Enriched(at)
            });
        }
        if let Some((at, _)) = last(&|page| {
            found.on_day_of(page)
                && (page.claim.adds_to(claim)
                    || found.fills_slot_of(page) && page.claim.has_value_of(claim, named))
        }) {
            return Some(Same::Told(at, "the same fact, of which more is known"));
        }
        let near = |page: &Page| {
            found.on_day_of(page)
                && page.claim.could_be(claim)
                && cosine(&found.vector, &page.known.vector) >= SAME_FACT_SIMILARITY
        };
        last(&near).map(|(at, _)| Same::Told(at, "the same fact in other words"))
    }

    fn reinforce(&mut self, at: usize, found: &Found, reason: &str) {
        let Some(Page { known, .. }) = self.pages.get_mut(at) else {
            return;
        };
        if known.rests_on(&found.sources) {
            return self.leave_out("known from the same message");
        }
        let told = known.absorb(found);
        let (memory_id, reinforced_at) = (known.id, found.candidate.said_at);
        let event: Event = if told.explicit.is_some() || told.importance.is_some() {
            MemoryRevised {
                memory_id,
                content: None,
                kind: None,
                importance: told.importance,
                explicit: told.explicit,
                occurred_at: None,
                subject: None,
                sources: told.sources,
                revised_at: reinforced_at,
                reason: format!("told again as more important: {reason}"),
            }
            .into()
        } else {
            MemoryReinforced {
                memory_id,
                sources: told.sources,
                reinforced_at,
                reason: reason.to_owned(),
            }
            .into()
        };
        self.append(event);
        self.end_again(memory_id, found);
    }

    fn enrich(&mut self, at: usize, found: Found) {
        let Some(page) = self.pages.get_mut(at) else {
            return;
        };
        let known = &mut page.known;
        let told = known.absorb(&found);
        known.content.clone_from(&found.candidate.content);
        known.vector.clone_from(&found.vector);
        let subject = found.candidate.subject.clone();
        known.subject = subject.or_else(|| known.subject.take());
        let memory_id = known.id;
        let revised = MemoryRevised {
            memory_id,
            content: Some(found.candidate.content.clone()),
            kind: None,
            importance: told.importance,
            explicit: told.explicit,
            // Only what is dated alike is the same.
            occurred_at: None,
            subject: known.subject.clone(),
            sources: told.sources,
            revised_at: found.candidate.said_at,
            reason: "the same fact with more to it".to_owned(),
        };
        *page = Page::of(known.clone());
        self.append(revised.into());
        self.end_again(memory_id, &found);
    }

    /// Closes what a statement ends that is known and told again: it may have come about since.
    fn end_again(&mut self, by: MemoryId, found: &Found) {
        let said_at = found.candidate.said_at;
        let over: Vec<MemoryId> = self
            .live()
            .filter(|(_, page)| page.known.told_at <= said_at && is_over(found, page))
            .map(|(_, page)| page.known.id)
            .filter(|id| *id != by)
            .collect();
        for id in over {
            self.supersede(id, Some(by), said_at, found.sources.clone(), OVER);
        }
    }

    fn record(&mut self, id: MemoryId, found: Found) {
        let candidate = &found.candidate;
        let said_at = candidate.said_at;
        let valid_from = candidate.occurred_at.unwrap_or(said_at).min(said_at);
        // What holds no longer counts too when it was told later: it is what ended the candidate.
        let contradicted: Vec<(MemoryId, DateTime<Utc>, &'static str)> = self
            .pages
            .iter()
            .filter(|page| !page.known.closed || page.known.told_at > said_at)
            .filter_map(|page| {
                let why = contradiction(&found, page)?;
                Some((page.known.id, page.known.told_at, why))
            })
            .collect();
        let reason = if contradicted.is_empty() {
            "new"
        } else {
            "a change"
        };
        let sources = found.sources;
        let candidate = found.candidate;
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
                told_at: said_at,
                reason: reason.to_owned(),
            }
            .into(),
        );
        self.pages.push(Page::of(Known {
            id,
            content: candidate.content,
            kind: candidate.kind,
            importance: candidate.importance,
            explicit: candidate.explicit,
            subject: candidate.subject,
            sources: sources.clone(),
            occurred_at: candidate.occurred_at,
            told_at: said_at,
            closed: false,
            vector: found.vector,
        }));
        let (newer, older): (Vec<_>, Vec<_>) = contradicted
            .into_iter()
            .partition(|(_, told_at, _)| *told_at > said_at);
        for (other, _, why) in older {
            self.supersede(other, Some(id), said_at, sources.clone(), why);
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

/// What a memory takes over from a candidate that states the same fact.
struct Told {
    /// The messages that it did not rest on.
    sources: Vec<Source>,
    /// Its importance, if that is more than it was.
    importance: Option<f64>,
    /// That it was asked to be remembered, if it was not so far.
    explicit: Option<bool>,
}

impl Known {
    /// Whether it rests on all of these messages already.
    fn rests_on(&self, sources: &[Source]) -> bool {
        sources.iter().all(|source| self.sources.contains(source))
    }

    /// Takes over what a candidate tells of its fact besides the words, and says what of it is new.
    fn absorb(&mut self, found: &Found) -> Told {
        let candidate = &found.candidate;
        let is_new = |source: &&Source| !self.sources.contains(source);
        let told = Told {
            sources: found.sources.iter().filter(is_new).copied().collect(),
            importance: (candidate.importance > self.importance + MORE_IMPORTANT)
                .then_some(candidate.importance),
            explicit: (candidate.explicit && !self.explicit).then_some(true),
        };
        add_sources(&mut self.sources, &told.sources);
        self.told_at = self.told_at.max(candidate.said_at);
        self.explicit |= candidate.explicit;
        self.importance = told.importance.unwrap_or(self.importance);
        told
    }
}

/// Why a candidate and a known memory can't both hold, if they can't.
fn contradiction(found: &Found, page: &Page) -> Option<&'static str> {
    let (candidate, known) = (&found.candidate, &page.known);
    if candidate.replaces.contains(&known.id) && is_related(found, page) {
        return Some("the LLM found it replaced");
    }
    if found.fills_slot_of(page) {
        return Some("there can be only one at a time");
    }
    // What happened on one day is not undone by what did not happen on another.
    let lasting = |kind| kind != MemoryKind::Event;
    if lasting(candidate.kind) && lasting(known.kind) && found.claim.denies(&page.claim) {
        return Some("the opposite was said");
    }
    // Only what was said before an end is ended by it: one may quit, and begin again.
    let over = if known.told_at > candidate.said_at {
        page.ends().is_some_and(|ended| {
            let similarity = cosine(&found.vector, &known.vector);
            ended.is(&candidate.content, &found.form, &found.claim, similarity)
        })
    } else {
        is_over(found, page)
    };
    over.then_some(OVER)
}

/// Whether a candidate ends what is known.
fn is_over(found: &Found, page: &Page) -> bool {
    let known = &page.known;
    found.ends.as_ref().is_some_and(|ended| {
        let similarity = cosine(&found.vector, &known.vector);
        ended.is(&known.content, &page.form, &page.claim, similarity)
    })
}

/// Whether a statement has anything to do with a known one that is said to be replaced by it: models
/// name whatever they were shown. Without the vectors of both that can't be told, and the LLM is believed.
fn is_related(found: &Found, page: &Page) -> bool {
    let is_unclear = found.vector.is_empty() || page.known.vector.is_empty();
    is_unclear
        || found.fills_slot_of(page)
        || cosine(&found.vector, &page.known.vector) >= RELATED_SIMILARITY
        || !usage::telling_terms(&found.candidate.content)
            .is_disjoint(&usage::telling_terms(&page.known.content))
}

/// Whether a slot holds a name, which has no words for what is added to it: "Alice", "Alice Smith".
fn is_name(slot: &str) -> bool {
    slot.ends_with("name")
}

/// What a statement says, read once to be held against others.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    claim: Claim,
}

impl Fact {
    /// Reads a statement.
    pub fn of(statement: &str) -> Self {
        Self {
            claim: Claim::of(statement),
        }
    }

    /// Whether two statements are the same fact: they claim the same, or they are close in meaning, and
    /// no name, number, date or "not" is in only one of them. `similarity` is that of their vectors.
    pub fn is(&self, other: &Self, similarity: f64) -> bool {
        let (a, b) = (&self.claim, &other.claim);
        a.is_dated_as(b) && (a.is(b) || similarity >= SAME_FACT_SIMILARITY && a.could_be(b))
    }

    /// Whether this gives a slot the same value as the other statement does, maybe with more to it.
    pub fn has_value_of(&self, other: &Self, slot: &str) -> bool {
        self.claim.has_value_of(&other.claim, is_name(slot))
    }
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
