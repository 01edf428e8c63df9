//! What follows when a user writes a memory down, or corrects one, instead of telling it in a
//! conversation. The slot that a statement fills is seen as in what is told, so that what is told later
//! ends it.

use chrono::{DateTime, Utc};

use crate::events::{CORRECTED_BY_HAND, Event, MemoryRecorded, MemoryReinforced, MemoryRevised};
use crate::heuristics;
use crate::ids::MemoryId;
use crate::memory::{MemoryKind, Source, clamp_importance};

/// The importance of a memory of which the user does not say how important it is.
pub const IMPORTANCE: f64 = 0.5;

/// The reason of a memory that a user wrote down.
pub const WRITTEN_DOWN: &str = "the user wrote it down";
/// The reason of a reinforcement by a user who wrote down what is known.
pub const WRITTEN_DOWN_AGAIN: &str = "the user wrote it down again";

/// A memory that the user writes down.
#[derive(Debug, Clone, PartialEq)]
pub struct WrittenDown {
    /// The id for it, should it be new.
    pub memory_id: MemoryId,
    /// The statement, 1..=2,000 characters.
    pub content: String,
    /// What kind of statement.
    pub kind: MemoryKind,
    /// 0..=1, if the user says it.
    pub importance: Option<f64>,
    /// When it happened, if the user says it.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The messages that the user says it comes from, each with when it was said.
    pub sources: Vec<(Source, DateTime<Utc>)>,
    /// When it is written down.
    pub now: DateTime<Utc>,
}

/// Decides whether it is new, or reinforces the live memory that says the same, which comes with the
/// messages that it rests on.
pub fn remember(written: WrittenDown, same: Option<(MemoryId, &[Source])>) -> Event {
    let said_at = written.sources.iter().map(|(_, at)| *at).max();
    let valid_from = written.occurred_at.or(said_at).unwrap_or(written.now);
    // What is to come was told now: what is told tomorrow is newer.
    let told_at = valid_from.min(written.now);
    let mut sources: Vec<Source> = Vec::new();
    for (source, _) in &written.sources {
        let known = same.is_some_and(|(_, known)| known.contains(source));
        if !known && !sources.contains(source) {
            sources.push(*source);
        }
    }
    match same {
        Some((memory_id, _)) => MemoryReinforced {
            memory_id,
            sources,
            reinforced_at: told_at,
            reason: WRITTEN_DOWN_AGAIN.to_owned(),
        }
        .into(),
        None => MemoryRecorded {
            memory_id: written.memory_id,
            subject: slot(&written.content),
            content: written.content,
            kind: written.kind,
            importance: clamp_importance(written.importance.unwrap_or(IMPORTANCE)),
            explicit: false,
            sources,
            occurred_at: written.occurred_at,
            valid_from,
            told_at,
            reason: WRITTEN_DOWN.to_owned(),
        }
        .into(),
    }
}

/// A correction of a memory; what is not given stays.
#[derive(Debug, Clone, PartialEq)]
pub struct Correction {
    /// The memory.
    pub memory_id: MemoryId,
    /// The new statement, 1..=2,000 characters.
    pub content: Option<String>,
    /// Its new kind.
    pub kind: Option<MemoryKind>,
    /// Its new importance, 0..=1.
    pub importance: Option<f64>,
    /// When it is corrected.
    pub now: DateTime<Utc>,
}

/// Decides what a correction makes of a memory.
pub fn correct(correction: Correction) -> Event {
    MemoryRevised {
        memory_id: correction.memory_id,
        subject: correction.content.as_deref().and_then(slot),
        content: correction.content,
        kind: correction.kind,
        importance: correction.importance.map(clamp_importance),
        explicit: None,
        occurred_at: None,
        sources: Vec::new(),
        revised_at: correction.now,
        reason: CORRECTED_BY_HAND.to_owned(),
    }
    .into()
}

/// The slot that a statement fills, if it has one.
fn slot(content: &str) -> Option<String> {
    heuristics::read_statement(content).subject
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConversationId, MessageId, derived};

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("in range")
    }

    fn source(message: &str) -> Source {
        Source {
            conversation_id: ConversationId(derived(&["c"])),
            message_id: MessageId(derived(&[message])),
        }
    }

    fn written(occurred: Option<i64>, said: &[(&str, i64)]) -> WrittenDown {
        let said = said.iter().map(|(name, when)| (source(name), at(*when)));
        WrittenDown {
            memory_id: MemoryId(derived(&["m"])),
            content: "User likes tea".to_owned(),
            kind: MemoryKind::Preference,
            importance: None,
            occurred_at: occurred.map(at),
            sources: said.collect(),
            now: at(100),
        }
    }

    #[test]
    fn its_time_is_when_it_happened_else_when_it_was_said_else_now() {
        let twice = [("a", 10), ("b", 20), ("a", 10)];
        for (occurred, said, expected) in [
            (Some(5), &twice[..], 5),
            (None, &twice, 20),
            (None, &[], 100),
        ] {
            let Event::MemoryRecorded(event) = remember(written(occurred, said), None) else {
                panic!("recorded")
            };
            assert_eq!(
                (event.told_at, event.valid_from),
                (at(expected), at(expected))
            );
            assert_eq!((event.importance, event.explicit), (0.5, false));
            assert_eq!(event.sources.len(), said.len().min(2), "each once");
        }
    }

    #[test]
    fn what_is_to_come_is_told_now() {
        let Event::MemoryRecorded(event) = remember(written(Some(900), &[]), None) else {
            panic!("recorded")
        };
        let times = (event.told_at, event.valid_from, event.occurred_at);
        assert_eq!(times, (at(100), at(900), Some(at(900))));
    }

    #[test]
    fn what_is_written_or_corrected_fills_the_slot_that_it_fills_when_told() {
        let mut lives = written(None, &[]);
        lives.content = "User lives in Berlin".to_owned();
        let Event::MemoryRecorded(recorded) = remember(lives, None) else {
            panic!("recorded")
        };
        assert_eq!(recorded.subject.as_deref(), Some("home"));
        let correction = |content: Option<&str>| Correction {
            memory_id: recorded.memory_id,
            content: content.map(str::to_owned),
            kind: None,
            importance: Some(0.7),
            now: at(101),
        };
        for (content, subject) in [
            (Some("User lives in Potsdam"), Some("home")),
            (Some("User likes Potsdam"), None),
            (None, None),
        ] {
            let Event::MemoryRevised(event) = correct(correction(content)) else {
                panic!("revised")
            };
            assert_eq!(event.subject.as_deref(), subject, "{content:?}");
            assert_eq!(event.reason, CORRECTED_BY_HAND);
        }
    }

    #[test]
    fn what_is_known_is_reinforced_with_what_is_new() {
        let known = (MemoryId(derived(&["known"])), &[source("a")][..]);
        let event = remember(written(None, &[("a", 10), ("b", 20)]), Some(known));
        let Event::MemoryReinforced(event) = event else {
            panic!("reinforced")
        };
        assert_eq!(event.memory_id, known.0);
        assert_eq!(
            (event.sources, event.reinforced_at),
            (vec![source("b")], at(20))
        );
    }
}
