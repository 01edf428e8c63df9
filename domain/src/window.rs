//! Which messages of a conversation are kept at hand, and which of them are due to be put in short: no
//! message is to be in neither, as long as somebody puts in short what leaves.

use crate::conversation::{Conversation, Message, Refusal, Summary};
use crate::events::{ConversationSummarised, Event};
use crate::ids::{MessageId, UserId};
use crate::prompt::tokens_of_message;

/// How many times the size of the buffer is kept at the most while nobody puts in short what leaves.
const AT_MOST: usize = 4;
/// The last messages that are never put in short of themselves, one turn.
const TURN: usize = 2;
/// How many messages are worth a summary although the buffer has room for more: two turns.
const WORTH_IT: usize = 2 * TURN;

impl Conversation {
    /// Lets the oldest messages go: those beyond the last `keep` that the summary covers, and whatever
    /// is beyond [`AT_MOST`] times as many.
    pub(crate) fn trim(&mut self, keep: usize) {
        if self.messages.len() <= keep {
            return;
        }
        let most = keep.saturating_mul(AT_MOST);
        let mut covered = self.covered();
        while self.messages.len() > keep && (covered > 0 || self.messages.len() > most) {
            self.messages.pop_front();
            covered = covered.saturating_sub(1);
        }
    }

    /// How many of the messages kept here the summary covers, the first so many.
    fn covered(&self) -> usize {
        let through = self.summary.as_ref().map(|summary| summary.through);
        let last = self.messages.iter().position(|m| Some(m.id) == through);
        last.map_or(0, |at| at + 1)
    }

    /// What was said with words since the last summary, of the messages that are kept here.
    pub fn unsummarised(&self) -> Vec<Message> {
        let new = self.messages.iter().skip(self.covered());
        new.filter(|m| !m.content.is_empty()).cloned().collect()
    }

    /// The messages that are due to be put in short, oldest first; none while nothing is. What stays is
    /// the last `keep` messages, or as many of them as prompts hold that have `tokens` for them. It is
    /// due when as many others have gathered as are kept, or more than such a prompt holds: not every
    /// turn.
    pub fn overflow(&self, keep: usize, tokens: usize) -> Vec<Message> {
        let mut leaving = self.unsummarised();
        let (mut stay, mut room) = (0, tokens);
        for message in leaving.iter().rev().take(keep) {
            let cost = tokens_of_message(message);
            if cost > room && stay >= TURN {
                break;
            }
            room = room.saturating_sub(cost);
            stay += 1;
        }
        leaving.truncate(leaving.len() - stay);
        let cost: usize = leaving.iter().map(tokens_of_message).sum();
        let due = leaving.len() >= keep || (leaving.len() >= WORTH_IT && cost >= tokens);
        if due { leaving } else { Vec::new() }
    }

    /// Decides what follows when what was said has been put in short, beginning from the `former`
    /// summary. To be asked of a state that keeps every message.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::MovedOn`] when the conversation was reset or summarised
    /// meanwhile.
    pub fn summarise(
        &self,
        user: UserId,
        former: Option<&Summary>,
        summary: String,
        through: MessageId,
    ) -> Result<Event, Refusal> {
        self.of_user(user)?;
        if self.summary.as_ref() != former || self.messages.iter().all(|m| m.id != through) {
            return Err(Refusal::MovedOn);
        }
        Ok(ConversationSummarised {
            summary,
            through_message_id: through,
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::conversation::Role;
    use crate::ids::derived;

    const PLENTY: usize = 100_000;

    fn said(n: usize) -> Message {
        Message {
            id: MessageId(derived(&[&n.to_string()])),
            role: if n.is_multiple_of(2) {
                Role::User
            } else {
                Role::Assistant
            },
            content: format!("message {n}"),
            at: DateTime::default(),
        }
    }

    /// A conversation in which messages were said one after another.
    fn talk(messages: std::ops::Range<usize>, keep: usize) -> Conversation {
        let mut state = Conversation::default();
        go_on(&mut state, messages, keep);
        state
    }

    fn go_on(state: &mut Conversation, messages: std::ops::Range<usize>, keep: usize) {
        for n in messages {
            state.messages.push_back(said(n));
            state.trim(keep);
        }
    }

    fn summarised(state: &mut Conversation, through: &Message, keep: usize) {
        state.summary = Some(Summary {
            text: "In short.".to_owned(),
            through: through.id,
            model: None,
        });
        state.trim(keep);
    }

    fn contents(state: &Conversation) -> Vec<String> {
        state.messages.iter().map(|m| m.content.clone()).collect()
    }

    #[test]
    fn messages_stay_until_they_are_summarised() {
        let mut state = talk(0..7, 3);
        assert_eq!(state.messages.len(), 7);
        summarised(&mut state, &said(1), 3);
        assert_eq!(contents(&state)[0], "message 2");
        summarised(&mut state, &said(6), 3);
        assert_eq!(contents(&state), ["message 4", "message 5", "message 6"]);
        go_on(&mut state, 7..9, 3);
        assert_eq!(contents(&state), ["message 6", "message 7", "message 8"]);
        go_on(&mut state, 9..12, 3);
        assert_eq!(state.messages.len(), 5, "none of them is summarised");
    }

    #[test]
    fn a_summary_is_due_when_as_many_messages_have_left_as_are_kept() {
        assert_eq!(talk(0..5, 3).overflow(3, PLENTY), []);
        let due = talk(0..6, 3).overflow(3, PLENTY);
        assert_eq!(due, [said(0), said(1), said(2)]);
        let mut state = talk(0..6, 3);
        summarised(&mut state, &said(2), 3);
        assert_eq!(state.overflow(3, PLENTY), []);
    }

    #[test]
    fn a_summary_is_due_when_messages_no_longer_fit_into_a_prompt() {
        let state = talk(0..8, 100);
        assert_eq!(state.overflow(100, PLENTY), []);
        let tokens = 3 * tokens_of_message(&said(0));
        assert_eq!(state.overflow(100, tokens).len(), 5);
        // However long it is, what was said last is not put in short of itself.
        assert_eq!(state.overflow(100, 0).len(), 6);
        assert_eq!(talk(0..5, 100).overflow(100, 0), []);
    }

    #[test]
    fn what_nobody_summarises_does_not_grow_without_end() {
        let state = talk(0..100, 3);
        assert_eq!(state.messages.len(), 12);
        assert_eq!(contents(&state)[11], "message 99");
    }

    proptest! {
        #[test]
        fn every_message_is_kept_or_summarised(
            keep in 1usize..6, turns in proptest::collection::vec(1usize..4, 1..20),
        ) {
            let mut state = Conversation::default();
            let (mut n, mut covered) = (0, 0);
            for turn in turns {
                go_on(&mut state, n..n + turn, keep);
                n += turn;
                let due = state.overflow(keep, PLENTY);
                if let Some(last) = due.last() {
                    covered += due.len();
                    prop_assert_eq!(last, &said(covered - 1));
                    summarised(&mut state, &last.clone(), keep);
                }
                let kept: Vec<Message> = state.messages.iter().cloned().collect();
                prop_assert!(kept.len() >= n.min(keep));
                prop_assert_eq!(&kept, &(n - kept.len()..n).map(said).collect::<Vec<_>>());
                prop_assert!(covered + kept.len() >= n, "{covered} and {} of {n}", kept.len());
            }
        }
    }
}
