//! How a message in German or Spanish is read: sentences that state something, their clauses, and the slots of
//! statements. What differs is in the languages' own modules.

use std::sync::LazyLock;

use regex::Regex;

use super::reading;
use super::{EXPLICIT, Finding, gates, language, wording};

/// The words by which a language's sentences are cut.
pub(super) struct Grammar {
    /// Greetings and the like before a clause.
    pub(super) opener: &'static LazyLock<Regex>,
    /// What may stand between two clauses.
    pub(super) joint: &'static LazyLock<Regex>,
    /// How a clause about the user begins.
    pub(super) head: &'static LazyLock<Regex>,
    /// The slots of statements, by their words.
    pub(super) slots: &'static [(&'static LazyLock<Regex>, &'static str)],
}

impl Grammar {
    /// What the sentences of a message state, as `stated` reads each.
    pub(super) fn find(
        &self,
        message: &str,
        stated: impl Fn(&str) -> Vec<Finding>,
    ) -> Vec<Finding> {
        let mut found = Vec::new();
        for sentence in reading::sentences_as_typed(message) {
            if sentence.text.len() > gates::LONGEST_SENTENCE {
                continue;
            }
            let text = wording::trimmed(&sentence.text);
            match gates::pasted_or_invented(&sentence, text) {
                gates::Passing::End => break,
                gates::Passing::TakeBack => found.clear(),
                gates::Passing::Skip => {}
                gates::Passing::On => {
                    let asks = sentence.asks || language::asks(text);
                    if !(asks || gates::is_foreign_supposition(text)) {
                        found.extend(remembered(text, &stated));
                    }
                }
            }
        }
        found
    }

    /// The clauses of a sentence: those that begin about the user stand by themselves.
    pub(super) fn clauses(&self, text: &str) -> Vec<String> {
        let mut clauses: Vec<String> = Vec::new();
        let mut start = 0;
        for joint in self.joint.find_iter(text) {
            let begins = self.head.is_match(self.opened(&text[joint.end()..]));
            if begins && joint.start() > start {
                clauses.push(text[start..joint.start()].to_owned());
                start = joint.end();
            }
        }
        clauses.push(text[start..].to_owned());
        clauses
    }

    /// A clause without greetings and the like before it.
    pub(super) fn opened<'a>(&self, text: &'a str) -> &'a str {
        let mut text = text.trim().trim_start_matches(['¿', '¡', ',', ' ']);
        for _ in 0..gates::MOST_OPENERS {
            let Some(opener) = self.opener.find(text) else {
                break;
            };
            text = text[opener.end()..].trim_start();
        }
        text
    }

    /// The slot that a statement fills.
    pub(super) fn slot(&self, statement: &str) -> Option<&'static str> {
        let mut slots = self.slots.iter();
        slots
            .find(|(pattern, _)| pattern.is_match(statement))
            .map(|(_, slot)| *slot)
    }
}

/// What a sentence states, marked when it asks to remember it.
fn remembered(text: &str, stated: impl Fn(&str) -> Vec<Finding>) -> Vec<Finding> {
    let Some(asked) = language::to_remember(text) else {
        return stated(text);
    };
    let mut found = stated(asked);
    for finding in &mut found {
        finding.explicit = true;
        finding.importance = finding.importance.max(EXPLICIT);
    }
    found
}
