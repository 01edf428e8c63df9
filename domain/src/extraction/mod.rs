//! Finds in messages what may become memories: what is asked of the LLM, what of its answer is
//! believed, and what patterns find.
//!
//! The LLM proposes; this module and [`crate::consolidation`] decide. Only what a message of the user
//! says becomes a candidate: every statement must name the messages it rests on, and they must bear
//! it out.

mod answer;
mod evidence;
mod prompt;
mod said;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

pub use self::answer::{Unusable, read_answer};
pub use self::prompt::{PROMPT_ID, instructions, request, schema, template_hash};
pub use self::said::said_messages;
use crate::heuristics;
use crate::ids::{MemoryId, MessageId};
use crate::memory::{MemoryKind, clamp_importance};
use crate::text;

/// How many messages are read for facts at once.
pub const TOGETHER: usize = 20;
/// The most characters of messages that are read at once, unless a single one has more.
pub const MAX_CHARACTERS: usize = 6_000;
/// The most statements that are believed of one answer.
const MAX_STATEMENTS: usize = 32;
/// The least importance of what the user asked to remember.
const EXPLICIT: f64 = 0.9;

/// One message of the user that is read for facts.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidMessage {
    /// The message.
    pub id: MessageId,
    /// What the user said.
    pub content: String,
    /// When.
    pub at: DateTime<Utc>,
    /// The user's time zone.
    pub zone: Tz,
}

/// A memory that is known already and may be the one that a message speaks of.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownStatement {
    /// The memory.
    pub id: MemoryId,
    /// Its statement.
    pub content: String,
}

/// A statement found in messages, before it is weighed against what is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The self-contained statement.
    pub content: String,
    /// Its kind.
    pub kind: MemoryKind,
    /// 0..=1.
    pub importance: f64,
    /// Whether the user asked to remember it.
    pub explicit: bool,
    /// The messages that say so; at least one.
    pub sources: Vec<MessageId>,
    /// When the latest of them was said.
    pub said_at: DateTime<Utc>,
    /// When it happened, if it is dated.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The slot of a single-valued fact.
    pub subject: Option<String>,
    /// The statement that this one ends, in words.
    pub negates: Option<String>,
    /// The known memories that this one replaces.
    pub replaces: Vec<MemoryId>,
    /// Whether patterns found it, and not the LLM.
    #[serde(default)]
    pub by_patterns: bool,
}

/// What an arm of extraction found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extracted {
    /// What may become memories.
    pub candidates: Vec<Candidate>,
    /// What was found and not believed: reason and count.
    pub left_out: BTreeMap<&'static str, u32>,
}

impl Extracted {
    /// Adds what was found in other messages.
    pub fn add(&mut self, other: Self) {
        self.candidates.extend(other.candidates);
        for (reason, count) in other.left_out {
            *self.left_out.entry(reason).or_default() += count;
        }
    }
}

/// What patterns find in messages.
pub fn by_patterns(messages: &[SaidMessage]) -> Extracted {
    let mut extracted = Extracted::default();
    for message in messages {
        extracted.candidates.extend(patterns_in(message));
    }
    extracted
}

fn patterns_in(message: &SaidMessage) -> Vec<Candidate> {
    let found = heuristics::extract(&message.content, message.at, message.zone);
    let candidate = |found: heuristics::Finding| Candidate {
        content: found.content,
        kind: found.kind,
        importance: clamp_importance(found.importance),
        explicit: found.explicit,
        sources: vec![message.id],
        said_at: message.at,
        occurred_at: found.occurred_at,
        subject: found.subject,
        negates: found.negates,
        replaces: Vec::new(),
        by_patterns: true,
    };
    found.into_iter().map(candidate).collect()
}

/// What the LLM found in messages, with what patterns find in those of which it found nothing: small
/// models answer an empty list to almost anything, and patterns are sure of what they find. What the
/// user asked to remember is kept in any case.
pub fn completed(answered: Extracted, messages: &[SaidMessage]) -> Extracted {
    let mut extracted = marked(answered, messages);
    for message in messages {
        let found = patterns_in(message);
        let is_silent = !of(&extracted, message.id).any(|_| true);
        for candidate in found {
            let forgotten = candidate.explicit
                && !of(&extracted, message.id)
                    .any(|other| shares_most(&other.content, &candidate.content));
            if is_silent || forgotten {
                extracted.candidates.push(candidate);
            }
        }
    }
    extracted
}

/// Marks what the user asked to remember, in the messages' own words: an LLM is not asked for that.
pub fn marked(mut extracted: Extracted, messages: &[SaidMessage]) -> Extracted {
    for message in messages {
        let asked = heuristics::asked_to_remember(&message.content);
        if asked.is_empty() {
            continue;
        }
        for candidate in &mut extracted.candidates {
            let is_meant = candidate.sources.contains(&message.id)
                && asked
                    .iter()
                    .any(|asked| shares_most(asked, &candidate.content));
            if is_meant {
                candidate.explicit = true;
                candidate.importance = candidate.importance.max(EXPLICIT);
            }
        }
    }
    extracted
}

/// Why messages gave nothing: reason and number of messages.
pub fn silent(messages: &[SaidMessage], extracted: &Extracted) -> BTreeMap<&'static str, u32> {
    let mut silent = BTreeMap::new();
    for message in messages {
        if of(extracted, message.id).next().is_none() {
            *silent
                .entry(heuristics::why_silent(&message.content))
                .or_default() += 1;
        }
    }
    silent
}

fn of(extracted: &Extracted, message: MessageId) -> impl Iterator<Item = &Candidate> {
    let mut candidates = extracted.candidates.iter();
    std::iter::from_fn(move || candidates.find(|found| found.sources.contains(&message)))
}

/// Whether one text has at least half of the other's terms.
fn shares_most(text: &str, of: &str) -> bool {
    let terms = text::terms(text);
    let wanted = text::terms(of);
    let shared = wanted
        .iter()
        .filter(|(term, _)| terms.iter().any(|(other, _)| other == term));
    !wanted.is_empty() && shared.count() * 2 >= wanted.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::derived;

    fn said(content: &str) -> SaidMessage {
        SaidMessage {
            id: MessageId(derived(&[content])),
            content: content.to_owned(),
            at: DateTime::from_timestamp(1_760_000_000, 0).expect("in range"),
            zone: Tz::UTC,
        }
    }

    fn answered(answer: &str, messages: &[SaidMessage]) -> Extracted {
        completed(
            read_answer(answer, messages, &[]).expect("usable"),
            messages,
        )
    }

    #[test]
    fn patterns_read_the_messages_that_the_llm_is_silent_about() {
        let messages = [said("I adopted a greyhound"), said("My name is Alice")];
        let answer = r#"{"memories":[{"statement":"User has a greyhound","messages":[1]}]}"#;
        let found: Vec<_> = answered(answer, &messages)
            .candidates
            .into_iter()
            .map(|c| (c.content, c.by_patterns))
            .collect();
        assert_eq!(
            found,
            [
                ("User has a greyhound".to_owned(), false),
                ("User's name is Alice".to_owned(), true)
            ]
        );
    }

    #[test]
    fn what_the_user_asks_to_remember_is_explicit_whoever_found_it() {
        let messages = [said("Please remember that I use a wheelchair")];
        for answer in [
            r#"{"memories":[{"statement":"User uses a wheelchair","importance":0.3}]}"#,
            r#"{"memories":[]}"#,
        ] {
            let found = answered(answer, &messages).candidates;
            let [only] = found.as_slice() else {
                panic!("{found:?}")
            };
            assert!(only.explicit && only.importance >= EXPLICIT, "{only:?}");
        }
    }

    #[test]
    fn what_the_user_asks_to_remember_is_kept_though_the_llm_found_something_else() {
        let messages = [said(
            "I had a great run in the park. Remember that the gate code is 4471.",
        )];
        let answer = r#"{"memories":[{"statement":"User runs in the park"}]}"#;
        let found = answered(answer, &messages).candidates;
        assert!(
            found
                .iter()
                .any(|c| c.explicit && c.content.contains("4471")),
            "{found:?}"
        );
    }

    #[test]
    fn messages_that_give_nothing_say_why() {
        let messages = [
            said("Where do I live?"),
            said("Write me a poem"),
            said("ok"),
        ];
        let why = silent(&messages, &Extracted::default());
        assert_eq!(why.values().sum::<u32>(), 3);
        assert_eq!((why["a question"], why["a request"]), (1, 1));
    }
}
