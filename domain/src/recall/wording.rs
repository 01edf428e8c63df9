//! What can be seen of a text's wording without understanding it.
//!
//! The word lists are English; a text in another language merely lacks these small signs.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::text;

/// Words that say when something was or will be.
const TIMES: &[&str] = &[
    "afternoon",
    "ago",
    "anniversary",
    "april",
    "august",
    "birthday",
    "day",
    "days",
    "december",
    "evening",
    "february",
    "friday",
    "january",
    "july",
    "june",
    "last",
    "march",
    "may",
    "monday",
    "month",
    "months",
    "morning",
    "next",
    "night",
    "november",
    "october",
    "recently",
    "saturday",
    "september",
    "soon",
    "sunday",
    "thursday",
    "today",
    "tomorrow",
    "tonight",
    "tuesday",
    "wednesday",
    "week",
    "weekend",
    "weeks",
    "year",
    "years",
    "yesterday",
];

/// Signs of a text, found once when it is put into an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wording {
    /// It asks something.
    pub(super) question: bool,
    /// It ends with a question.
    pub(super) asks: bool,
    /// It says when something was or will be.
    pub(super) temporal: bool,
}

impl Wording {
    pub(super) fn of(content: &str) -> Self {
        let words = text::words(content);
        Self {
            question: content.contains(['?', '？']),
            asks: content.trim_end().ends_with(['?', '？']),
            temporal: words.iter().any(|word| TIMES.contains(&word.as_str())),
        }
    }
}

/// A hash of the normal form of a text: two texts with the same say the same.
pub(super) fn form(content: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text::normal_form(content).hash(&mut hasher);
    hasher.finish()
}
