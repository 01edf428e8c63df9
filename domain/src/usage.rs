//! Whether a reply made use of the memories that it was given. Being recalled alone says nothing: a
//! memory that is shown again and again and never taken up is to fade like any other.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::LazyLock;

use chrono::{DateTime, Utc};

use crate::events::MemoryUse;
use crate::ids::MemoryId;
use crate::text;

/// Words in which statements are put rather than what they state. That a reply has "like" says
/// nothing about the memory "User likes tea".
const FRAME: &[&str] = &[
    "like",
    "love",
    "enjoy",
    "prefer",
    "hate",
    "dislike",
    "favourite",
    "favorite",
    "want",
    "wish",
    "hope",
    "plan",
    "need",
    "try",
    "name",
    "call",
    "live",
    "work",
    "use",
    "go",
    "get",
    "make",
    "take",
    "feel",
    "think",
    "know",
    "say",
    "tell",
    "day",
    "time",
    "year",
    "thing",
    "good",
    "new",
    "old",
    "now",
    "today",
    "lot",
    "really",
    "please",
    "thank",
    "great",
    "nice",
    "help",
    "sure",
];

/// A reply with what it was made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What the user had said.
    pub message: String,
    /// The reply.
    pub reply: String,
    /// When it ended.
    pub at: DateTime<Utc>,
    /// The memories that its prompt contained, with their statements.
    pub recalled: Vec<(MemoryId, String)>,
}

/// Whether a reply took up a memory: a third at least of the meaningful words that the memory had to
/// add to the user's message are in the reply. What the user had said themselves shows nothing.
fn made_use(memory: &str, said: &BTreeSet<String>, replied: &BTreeSet<String>) -> bool {
    let own: BTreeSet<String> = telling_terms(memory).difference(said).cloned().collect();
    let taken_up = own.intersection(replied).count();
    taken_up > 0 && taken_up * 3 >= own.len()
}

/// The memories of which replies made use, each with how often and when last, in the order of ids.
pub fn uses<'a>(replies: impl IntoIterator<Item = &'a Answered>) -> Vec<MemoryUse> {
    let mut uses: BTreeMap<MemoryId, MemoryUse> = BTreeMap::new();
    for answered in replies {
        let said = telling_terms(&answered.message);
        let replied = telling_terms(&answered.reply);
        for (memory_id, statement) in &answered.recalled {
            if !made_use(statement, &said, &replied) {
                continue;
            }
            let used = uses.entry(*memory_id).or_insert(MemoryUse {
                memory_id: *memory_id,
                times: 0,
                last_at: answered.at,
            });
            used.times = used.times.saturating_add(1);
            used.last_at = used.last_at.max(answered.at);
        }
    }
    uses.into_values().collect()
}

/// The terms of a text that say what it is about, and can be recognised elsewhere.
pub(crate) fn telling_terms(text: &str) -> BTreeSet<String> {
    static FRAME_TERMS: LazyLock<HashSet<String>> =
        LazyLock::new(|| FRAME.iter().map(|word| text::stem(word)).collect());
    text::term_sequence(text)
        .into_iter()
        .filter(|term| !FRAME_TERMS.contains(term))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::derived;

    fn made_use(memory: &str, message: &str, reply: &str) -> bool {
        super::made_use(memory, &telling_terms(message), &telling_terms(reply))
    }

    #[test]
    fn a_reply_that_takes_a_memory_up_makes_use_of_it() {
        for (memory, message, reply) in [
            (
                "User's name is Alice",
                "Hello there!",
                "Hello Alice, how are you?",
            ),
            (
                "User loves programming in Rust",
                "What do I love?",
                "You love programming in Rust!",
            ),
            (
                "User has a dog named Rex",
                "I am home",
                "Then Rex must be happy.",
            ),
            (
                "User is allergic to peanuts",
                "What shall I cook?",
                "A curry, without peanuts.",
            ),
        ] {
            assert!(made_use(memory, message, reply), "{memory}");
        }
    }

    #[test]
    fn a_memory_that_a_reply_passes_over_is_not_used() {
        for (memory, message, reply) in [
            (
                "User is allergic to peanuts",
                "Hello",
                "Hello! How are you today?",
            ),
            (
                "User likes tea",
                "Hello",
                "I would like to help you, and hope you like it.",
            ),
            // The reply only repeats what the user has just said.
            (
                "User has a dog named Rex",
                "My dog Rex is ill",
                "I am sorry that your dog Rex is ill.",
            ),
            ("", "Hello", "Hello"),
        ] {
            assert!(!made_use(memory, message, reply), "{memory}");
        }
    }

    #[test]
    fn uses_are_counted_and_the_last_one_is_told() {
        let at = |seconds| DateTime::from_timestamp(seconds, 0).expect("in range");
        let recalled = |content: &str| (MemoryId(derived(&[content])), content.to_owned());
        let (rex, tea) = (
            recalled("User has a dog named Rex"),
            recalled("User drinks oolong"),
        );
        let answered = |seconds: i64, reply: &str| Answered {
            message: "Hello".to_owned(),
            reply: reply.to_owned(),
            at: at(seconds),
            recalled: vec![rex.clone(), tea.clone()],
        };
        let replies = [
            answered(2, "How is Rex?"),
            answered(1, "Is Rex well?"),
            answered(3, "Hi!"),
        ];
        let used = MemoryUse {
            memory_id: rex.0,
            times: 2,
            last_at: at(2),
        };
        assert_eq!(uses(&replies), [used]);
    }

    proptest! {
        #[test]
        fn what_the_user_said_is_never_counted_as_use(memory in "\\PC{0,60}", reply in "\\PC{0,60}") {
            prop_assert!(!made_use(&memory, &memory, &reply));
        }
    }
}
