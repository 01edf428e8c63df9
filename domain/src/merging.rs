//! Finds memories that slipped past consolidation: one fact twice, or two values of what can have
//! only one. Says which one stays and appends to it before the other is closed.
//!
//! It never merges what merely resembles, so it asks for more than extraction does: beyond
//! [`Fact::is`], two statements may differ in the words that put a fact, and in what only one of
//! them adds, but not in what each of them states.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};

use crate::consolidation::words::{ADDING, NEGATIONS, meaning};
use crate::consolidation::{Fact, cosine};
use crate::events::{Event, MemoryReinforced, MemoryRevised, MemorySuperseded};
use crate::ids::MemoryId;
use crate::memory::{MemoryKind, Source};
use crate::text;

/// The cosine similarity from which a statement may be the beginning of a longer one.
pub const PART_SIMILARITY: f64 = 0.70;

/// Words in which a fact may be put besides those that [`meaning`] knows, once what surrounds them is left
/// out: "is fond of tea", "is based in Oslo".
const WORDINGS: &[(&str, &str)] = &[
    ("fond", "like"),
    ("fan", "like"),
    ("reside", "live"),
    ("based", "live"),
    ("home", "live"),
    ("call", "called"),
    ("job", "work"),
    ("wish", "want"),
    ("wishes", "want"),
];

/// Words that a statement can do without.
const FILLERS: &[&str] = &[
    "really",
    "much",
    "lot",
    "currently",
    "now",
    "also",
    "own",
    "owns",
];

/// Words, besides [`ADDING`], after which a statement goes on with what it adds to a shorter one. Not
/// "but", "or", "if", "except", "until": what follows these takes something back.
const GOES_ON: &[&str] = &["and", "named", "that", "to"];

/// Words that say, as [`NEGATIONS`] do, that something is only so far so. A statement with one of them
/// says more the shorter it is.
#[rustfmt::skip]
const LIMITS: &[&str] = &[
    "nobody", "nothing", "only", "hardly", "barely", "except", "nichts", "nur", "kaum", "ohne", "außer", "nada", "solo",
    "sólo", "sin", "salvo", "excepto",
];

/// The reasons of a memory that went into another one.
const SAME_FACT: &str = "the same fact as another memory";
const SAYS_MORE: &str = "another memory says the same and more";

/// Whether a memory that was closed for this reason is told by the one that took its place.
pub fn went_into_another(reason: &str) -> bool {
    matches!(reason, SAME_FACT | SAYS_MORE)
}

/// A live memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The memory.
    pub id: MemoryId,
    /// Its statement.
    pub content: String,
    /// What kind of statement.
    pub kind: MemoryKind,
    /// 0..=1.
    pub importance: f64,
    /// Whether the user asked to remember it; then it is never closed here.
    pub explicit: bool,
    /// Its slot, if it has one.
    pub subject: Option<String>,
    /// The messages it rests on.
    pub sources: Vec<Source>,
    /// When it happened.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When it was last told.
    pub told_at: DateTime<Utc>,
    /// Its vector.
    pub vector: Vec<f32>,
}

/// What two memories are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// One fact in two wordings.
    Same,
    /// The second says what the first says, and more.
    Part,
    /// Two values of what can have only one at a time.
    Contradiction,
}

/// Decides what becomes of pairs of memories, nearest first: the events, in order. What stays is
/// reinforced or revised before the other is closed. A memory takes part in one merge at a time; the
/// next pass sees what is left.
pub fn merge(pairs: &[(Held, Held)], now: DateTime<Utc>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut done: BTreeSet<MemoryId> = BTreeSet::new();
    for (a, b) in pairs {
        if a.id == b.id || done.contains(&a.id) || done.contains(&b.id) {
            continue;
        }
        let Some((stays, goes, relation)) = judge(a, b) else {
            continue;
        };
        done.extend([stays.id, goes.id]);
        let mut valid_to = now;
        let reason = match relation {
            Relation::Contradiction => {
                valid_to = stays.told_at;
                "there can be only one at a time"
            }
            Relation::Same => SAME_FACT,
            Relation::Part => SAYS_MORE,
        };
        if relation != Relation::Contradiction {
            events.push(strengthened(stays, goes));
        }
        events.push(
            MemorySuperseded {
                memory_id: goes.id,
                superseded_by: Some(stays.id),
                valid_to,
                sources: stays.sources.clone(),
                reason: reason.to_owned(),
            }
            .into(),
        );
    }
    events
}

/// What the memory that stays takes over from the one that goes.
fn strengthened(stays: &Held, goes: &Held) -> Event {
    let new = |source: &&Source| !stays.sources.contains(source);
    let sources: Vec<Source> = goes.sources.iter().filter(new).copied().collect();
    let told_at = stays.told_at.max(goes.told_at);
    let reason = "merged with a memory of the same fact".to_owned();
    if goes.importance <= stays.importance {
        return MemoryReinforced {
            memory_id: stays.id,
            sources,
            reinforced_at: told_at,
            reason,
        }
        .into();
    }
    MemoryRevised {
        memory_id: stays.id,
        content: None,
        kind: None,
        importance: Some(goes.importance),
        explicit: None,
        // Only what is dated alike is the same.
        occurred_at: None,
        subject: None,
        sources,
        revised_at: told_at,
        reason,
    }
    .into()
}

/// Which of two memories stays and which goes, if one of them has to.
fn judge<'a>(a: &'a Held, b: &'a Held) -> Option<(&'a Held, &'a Held, Relation)> {
    let one_day = a.occurred_at.map(day) == b.occurred_at.map(day);
    let same_words = text::normal_form(&a.content) == text::normal_form(&b.content);
    let relation_of = |first: &'a Held, second: &'a Held| {
        let stays_and_goes = (second, first, Relation::Part);
        (part_of(first, second) && !first.explicit).then_some(stays_and_goes)
    };
    if timeless(a, b) || one_day && a.occurred_at.is_some() || same_words && one_day {
        if same_words || same_statement(a, b) {
            return ranked(a, b, Relation::Same);
        }
        if let Some(part) = relation_of(a, b).or_else(|| relation_of(b, a)) {
            return Some(part);
        }
    }
    let slot = a.subject.as_deref().filter(|_| a.subject == b.subject)?;
    if one_day {
        let (fact_a, fact_b) = (Fact::of(&a.content), Fact::of(&b.content));
        for (less, of, more, fact) in [(a, &fact_a, b, &fact_b), (b, &fact_b, a, &fact_a)] {
            if !less.explicit && fact.has_value_of(of, slot) {
                return Some((more, less, Relation::Part));
            }
        }
    }
    if a.told_at != b.told_at {
        let (older, newer) = if a.told_at < b.told_at {
            (a, b)
        } else {
            (b, a)
        };
        return (!older.explicit).then_some((newer, older, Relation::Contradiction));
    }
    None
}

fn day(at: DateTime<Utc>) -> NaiveDate {
    at.date_naive()
}

/// Whether neither of two memories is about a certain time. What happened in Rome once may have
/// happened twice.
fn timeless(a: &Held, b: &Held) -> bool {
    [a, b]
        .iter()
        .all(|held| held.occurred_at.is_none() && held.kind != MemoryKind::Event)
}

/// The one to keep first: what the user asked to remember, then what is known better. Two that the
/// user asked to remember both stay.
fn ranked<'a>(
    a: &'a Held,
    b: &'a Held,
    relation: Relation,
) -> Option<(&'a Held, &'a Held, Relation)> {
    if a.explicit && b.explicit {
        return None;
    }
    let rank = |held: &Held| {
        (
            held.explicit,
            held.subject.is_some(),
            held.sources.len(),
            held.content.chars().count(),
        )
    };
    let (stays, goes) = match rank(a).cmp(&rank(b)).then_with(|| b.id.cmp(&a.id)) {
        std::cmp::Ordering::Less => (b, a),
        _ => (a, b),
    };
    Some((stays, goes, relation))
}

/// Whether two statements state one fact: [`Fact::is`], and what they state is the same but for the
/// words that put it, in the same order.
fn same_statement(a: &Held, b: &Held) -> bool {
    let similarity = cosine(&a.vector, &b.vector);
    if !Fact::of(&a.content).is(&Fact::of(&b.content), similarity) {
        return false;
    }
    if a.subject.is_some() && b.subject.is_some() && a.subject != b.subject {
        return false;
    }
    let (a, b) = (stated(&a.content), stated(&b.content));
    !a.is_empty() && a == b
}

/// The terms that a statement states, in order, whatever words it is put in.
fn stated(content: &str) -> Vec<String> {
    let also = |word: &str| WORDINGS.iter().find(|(said, _)| *said == word);
    text::words(content)
        .into_iter()
        .filter(|word| !text::is_stop_word(word) && !FILLERS.contains(&word.as_str()))
        .map(
            |word| match meaning(&word).or_else(|| also(&word).map(|(_, meant)| *meant)) {
                Some(meant) => meant.to_owned(),
                None => text::stem(&word),
            },
        )
        .collect()
}

/// Whether a statement is the beginning of a longer one that goes on with more of the same fact:
/// "has a dog", "has a dog named Rex"; not "has a cat", "has a cat allergy".
fn part_of(short: &Held, long: &Held) -> bool {
    let (short_words, long_words) = (text::words(&short.content), text::words(&long.content));
    let Some(rest) = long_words.strip_prefix(short_words.as_slice()) else {
        return false;
    };
    let is_one_of = |lists: [&[&str]; 2], word: &str| lists.iter().any(|list| list.contains(&word));
    let mut words = long_words.iter();
    let limited = words.any(|word| is_one_of([LIMITS, NEGATIONS], word));
    let (Some(next), true) = (rest.first(), short_words.len() >= 3) else {
        return false;
    };
    short.kind == long.kind
        && is_one_of([GOES_ON, ADDING], next)
        && rest.len() >= 2
        && !limited
        && (short.subject.is_none() || short.subject == long.subject)
        && cosine(&short.vector, &long.vector) >= PART_SIMILARITY
}

/// Puts pairs that were found from both sides together, nearest first.
pub fn pairs(near: Vec<(Held, Held)>) -> Vec<(Held, Held)> {
    let mut pairs: BTreeMap<(MemoryId, MemoryId), (Held, Held)> = BTreeMap::new();
    for (a, b) in near {
        let (a, b) = if a.id <= b.id { (a, b) } else { (b, a) };
        pairs.entry((a.id, b.id)).or_insert((a, b));
    }
    let mut pairs: Vec<(Held, Held)> = pairs.into_values().collect();
    let closeness = |(a, b): &(Held, Held)| cosine(&a.vector, &b.vector);
    pairs.sort_by(|x, y| closeness(y).total_cmp(&closeness(x)));
    pairs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ConversationId, MessageId, derived};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("in range")
    }

    /// A memory whose vector is close to that of every other one here.
    fn held(content: &str, told: i64) -> Held {
        let turned = 0.02 * (content.len() % 7) as f32;
        Held {
            id: MemoryId(derived(&[content, &told.to_string()])),
            content: content.to_owned(),
            kind: MemoryKind::Fact,
            importance: 0.5,
            explicit: false,
            subject: None,
            sources: vec![Source {
                conversation_id: ConversationId(derived(&["c"])),
                message_id: MessageId(derived(&[content])),
            }],
            occurred_at: None,
            told_at: at(told),
            vector: vec![1.0, turned],
        }
    }

    fn merged(a: &Held, b: &Held) -> Vec<Event> {
        merge(&[(a.clone(), b.clone())], at(1_000))
    }

    /// The memory that stays and the one that goes.
    fn outcome(events: &[Event]) -> Option<(MemoryId, MemoryId)> {
        let Some(Event::MemorySuperseded(closed)) = events.last() else {
            return None;
        };
        Some((closed.superseded_by?, closed.memory_id))
    }

    #[test]
    fn one_fact_in_other_words_becomes_one_memory_with_all_its_sources() {
        let (mut a, b) = (
            held("User loves green tea", 1),
            held("User is fond of green tea", 9),
        );
        a.importance = 0.4;
        let events = merged(&a, &b);
        let [
            Event::MemoryReinforced(stays),
            Event::MemorySuperseded(goes),
        ] = &events[..]
        else {
            panic!("{events:?}")
        };
        assert_eq!(
            (goes.superseded_by, goes.valid_to),
            (Some(stays.memory_id), at(1_000))
        );
        assert_eq!((stays.reinforced_at, stays.sources.len()), (at(9), 1));
        assert_eq!(stays.memory_id, b.id, "it says more");
    }

    #[test]
    fn what_is_more_important_stays_so() {
        let (mut a, b) = (
            held("User loves green tea", 1),
            held("User is fond of green tea", 9),
        );
        a.importance = 0.9;
        let events = merged(&a, &b);
        let [Event::MemoryRevised(stays), Event::MemorySuperseded(_)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((stays.importance, &stays.content), (Some(0.9), &None));
    }

    #[test]
    fn a_statement_that_a_longer_one_contains_goes_into_it() {
        for (short, long) in [
            ("User has a dog", "User has a dog named Rex"),
            ("User works at Acme", "User works at Acme as a nurse"),
            ("User hat einen Hund", "User hat einen Hund namens Rex"),
            (
                "User lives with a parent",
                "User lives with a parent in Leeds",
            ),
            (
                "User wants to visit Japan",
                "User wants to visit Japan in spring with Ann",
            ),
        ] {
            let (short, long) = (held(short, 9), held(long, 1));
            assert_eq!(outcome(&merged(&short, &long)), Some((long.id, short.id)));
            assert_eq!(outcome(&merged(&long, &short)), Some((long.id, short.id)));
        }
    }

    #[test]
    fn what_merely_resembles_stays() {
        for (a, b) in [
            ("User has a dog named Rex", "User has a dog named Max"),
            ("User's brother is a doctor", "User's sister is a doctor"),
            (
                "User likes dogs more than cats",
                "User likes cats more than dogs",
            ),
            ("User likes tea", "User doesn't like tea"),
            ("User has 2 children", "User has 3 children"),
            ("User has a cat", "User has a cat allergy"),
            (
                "User wants to visit Japan",
                "User's mother wants to visit Japan",
            ),
            (
                "User does not eat meat",
                "User does not eat meat on Fridays",
            ),
            (
                "User shouldn't eat meat",
                "User shouldn't eat meat on Fridays",
            ),
            ("User likes dogs", "User likes dogs except pugs"),
            (
                "User wants to move to Porto",
                "User wants to move to Porto or Lisbon",
            ),
            (
                "User drinks tea in the morning",
                "User drinks tea in the evening",
            ),
            ("User likes tea", "User likes tea only with milk"),
            ("User wants a dog", "User has a dog"),
        ] {
            assert_eq!(merged(&held(a, 1), &held(b, 2)), [], "{a} / {b}");
        }
    }

    #[test]
    fn what_happened_twice_is_two_memories() {
        let on = |day: i64, told: i64| {
            let mut held = held("User ran a marathon", told);
            held.kind = MemoryKind::Event;
            held.occurred_at = Some(at(day * 86_400));
            held
        };
        assert_eq!(merged(&on(1, 1), &on(200, 2)), []);
        assert!(outcome(&merged(&on(1, 1), &on(1, 2))).is_some());
        let mut undated = on(1, 3);
        undated.occurred_at = None;
        assert_eq!(merged(&on(1, 1), &undated), []);
    }

    #[test]
    fn what_the_user_asked_to_remember_only_ever_stays() {
        let (mut a, mut b) = (
            held("User loves green tea", 1),
            held("User is fond of green tea", 9),
        );
        a.explicit = true;
        assert_eq!(outcome(&merged(&a, &b)), Some((a.id, b.id)));
        b.explicit = true;
        assert_eq!(merged(&a, &b), []);
        let (mut short, long) = (
            held("User has a dog", 1),
            held("User has a dog named Rex", 9),
        );
        short.explicit = true;
        assert_eq!(merged(&short, &long), []);
    }

    #[test]
    fn of_one_value_of_a_slot_told_twice_what_says_more_stays() {
        let home = |content: &str, told: i64| {
            let mut held = held(content, told);
            held.subject = Some("home".to_owned());
            held
        };
        let more = home("User has lived in Lisbon since 2018", 1);
        let less = home("User lives in Lisbon", 9);
        for (a, b) in [(&more, &less), (&less, &more)] {
            let events = merged(a, b);
            assert_eq!(outcome(&events), Some((more.id, less.id)));
            let [Event::MemoryReinforced(stays), _] = &events[..] else {
                panic!("{events:?}")
            };
            assert_eq!(stays.reinforced_at, at(9));
        }
    }

    #[test]
    fn of_two_values_of_one_slot_the_one_told_last_stays() {
        let home = |place: &str, told: i64| {
            let mut held = held(&format!("User lives in {place}"), told);
            held.subject = Some("home".to_owned());
            held
        };
        let (berlin, lisbon) = (home("Berlin", 10), home("Lisbon", 20));
        let events = merged(&lisbon, &berlin);
        assert_eq!(outcome(&events), Some((lisbon.id, berlin.id)));
        let [Event::MemorySuperseded(closed)] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(closed.valid_to, at(20), "it held until the other was told");
        let mut asked_for = home("Berlin", 10);
        asked_for.explicit = true;
        assert_eq!(merged(&lisbon, &asked_for), []);
    }

    proptest! {
        #[test]
        fn nothing_is_closed_before_what_replaces_it_and_nothing_twice(
            picks in proptest::collection::vec((0usize..6, 0i64..5, any::<bool>()), 2..9),
        ) {
            let contents = [
                "User has a dog", "User has a dog named Rex", "User loves green tea",
                "User is fond of green tea", "User lives in Berlin", "User lives in Lisbon",
            ];
            let all: Vec<Held> = picks.iter().map(|(n, told, explicit)| {
                let mut held = held(contents[*n], *told);
                held.explicit = *explicit;
                held
            }).collect();
            let near = all.iter().flat_map(|a| all.iter().map(move |b| (a.clone(), b.clone())));
            let events = merge(&pairs(near.collect()), at(1_000));
            let mut strengthened = BTreeSet::new();
            let mut closed = BTreeSet::new();
            for event in &events {
                match event {
                    Event::MemoryReinforced(event) => drop(strengthened.insert(event.memory_id)),
                    Event::MemoryRevised(event) => drop(strengthened.insert(event.memory_id)),
                    Event::MemorySuperseded(event) => {
                        prop_assert!(closed.insert(event.memory_id));
                        let stays = event.superseded_by.expect("replaced");
                        prop_assert!(strengthened.contains(&stays));
                        prop_assert!(!closed.contains(&stays));
                        let gone = all.iter().filter(|held| held.id == event.memory_id);
                        prop_assert!(gone.clone().any(|held| !held.explicit));
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
            }
        }
    }
}
