//! One conversation: who owns it, which reply is running, and the last messages for the next
//! prompt. This state is also what the short-term buffer caches.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    ConversationStarted, Event, FailureReason, Recorded, ReplyCompleted, ReplyFailed,
    UserMessageReceived,
};
use crate::ids::{ConversationId, MessageId, ReplyId, UserId};

/// Who said a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person.
    User,
    /// The LLM.
    Assistant,
}

impl Role {
    /// The role's name in the API and before the LLM.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A message as the next prompt needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The message.
    pub id: MessageId,
    /// Who said it.
    pub role: Role,
    /// What was said; empty for a reply that ended without text.
    pub content: String,
    /// When it was stored.
    pub at: DateTime<Utc>,
}

/// A reply that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenReply {
    /// The reply.
    pub reply_id: ReplyId,
    /// The message it answers.
    pub message_id: MessageId,
    /// The process that makes it.
    pub lease: Uuid,
}

/// The state of a conversation, evolved from its stream.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// The owner; `None` before the first event.
    pub user: Option<UserId>,
    /// The version of the stream that this state has seen.
    pub version: i64,
    /// The reply that runs now.
    pub open_reply: Option<OpenReply>,
    /// The last messages, oldest first, as many as were asked to be kept.
    pub messages: VecDeque<Message>,
}

/// Why a command is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such conversation, or it is another user's.
    #[error("no conversation with this id")]
    NotFound,
    /// A reply is still running.
    #[error("a reply is still running")]
    Busy(OpenReply),
    /// The reply has ended already, or never began.
    #[error("the reply has ended already")]
    ReplyEnded,
}

/// The user says something.
#[derive(Debug, Clone)]
pub struct SendMessage {
    /// Who.
    pub user: UserId,
    /// Where; the caller makes a new id to begin a conversation.
    pub conversation_id: ConversationId,
    /// Whether the conversation is to be begun.
    pub begin: bool,
    /// The id for the message.
    pub message_id: MessageId,
    /// The id for the reply.
    pub reply_id: ReplyId,
    /// The process that will make the reply.
    pub lease: Uuid,
    /// What is said.
    pub content: String,
    /// The user's time zone, if sent.
    pub timezone: Option<String>,
}

impl Conversation {
    /// Takes in one event of the stream, in order, keeping at most `keep` messages.
    pub fn evolve(&mut self, recorded: &Recorded, keep: usize) {
        self.version = recorded.version;
        match &recorded.event {
            Event::ConversationStarted(_) => self.user = Some(recorded.user),
            Event::UserMessageReceived(event) => {
                self.open_reply = Some(OpenReply {
                    reply_id: event.reply_id,
                    message_id: event.message_id,
                    lease: event.lease,
                });
                self.push(
                    event.message_id,
                    Role::User,
                    &event.content,
                    recorded.recorded_at,
                    keep,
                );
            }
            Event::ReplyStarted(_) => {}
            Event::ReplyCompleted(event) => {
                self.end_reply(event.reply_id, &event.content, recorded.recorded_at, keep);
            }
            Event::ReplyFailed(event) => {
                self.end_reply(event.reply_id, &event.partial, recorded.recorded_at, keep);
            }
            // Facts about memories and users live in streams of their own.
            Event::MemoryRecorded(_)
            | Event::MemoryReinforced(_)
            | Event::MemorySuperseded(_)
            | Event::ExtractionCompleted(_)
            | Event::UserRegistered(_) => {}
        }
    }

    fn end_reply(&mut self, reply: ReplyId, text: &str, at: DateTime<Utc>, keep: usize) {
        if self
            .open_reply
            .as_ref()
            .is_some_and(|open| open.reply_id == reply)
        {
            self.open_reply = None;
        }
        self.push(reply.message(), Role::Assistant, text, at, keep);
    }

    fn push(&mut self, id: MessageId, role: Role, content: &str, at: DateTime<Utc>, keep: usize) {
        self.messages.push_back(Message {
            id,
            role,
            content: content.to_owned(),
            at,
        });
        while self.messages.len() > keep {
            self.messages.pop_front();
        }
    }

    /// Decides what follows from a message of the user.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a conversation that is not this user's, [`Refusal::Busy`] while a
    /// reply runs.
    pub fn send_message(&self, command: SendMessage) -> Result<Vec<Event>, Refusal> {
        match self.user {
            None if command.begin => {}
            Some(owner) if owner == command.user => {}
            _ => return Err(Refusal::NotFound),
        }
        if let Some(open) = &self.open_reply {
            return Err(Refusal::Busy(open.clone()));
        }
        let mut events = Vec::with_capacity(2);
        if self.user.is_none() {
            events.push(
                ConversationStarted {
                    conversation_id: command.conversation_id,
                    title: None,
                }
                .into(),
            );
        }
        events.push(
            UserMessageReceived {
                message_id: command.message_id,
                content: command.content,
                timezone: command.timezone,
                reply_id: command.reply_id,
                lease: command.lease,
            }
            .into(),
        );
        Ok(events)
    }

    /// Decides the end of a reply that became whole.
    ///
    /// # Errors
    /// [`Refusal::ReplyEnded`] when something else ended it before.
    pub fn complete_reply(&self, reply: ReplyId, content: String) -> Result<Event, Refusal> {
        self.running(reply)?;
        Ok(ReplyCompleted {
            reply_id: reply,
            content,
        }
        .into())
    }

    /// Decides the end of a reply that did not become whole.
    ///
    /// # Errors
    /// [`Refusal::ReplyEnded`] when something else ended it before.
    pub fn fail_reply(
        &self,
        reply: ReplyId,
        partial: String,
        reason: FailureReason,
    ) -> Result<Event, Refusal> {
        self.running(reply)?;
        Ok(ReplyFailed {
            reply_id: reply,
            partial,
            reason,
        }
        .into())
    }

    fn running(&self, reply: ReplyId) -> Result<(), Refusal> {
        match &self.open_reply {
            Some(open) if open.reply_id == reply => Ok(()),
            _ => Err(Refusal::ReplyEnded),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Metadata;
    use crate::ids::{EventId, StreamId, derived};

    /// Given events, when a command, then events.
    struct Given(Conversation);

    fn user(name: &str) -> UserId {
        UserId(derived(&[name]))
    }

    fn given(events: impl IntoIterator<Item = Event>) -> Given {
        let mut state = Conversation::default();
        for (n, event) in (1..).zip(events) {
            state.evolve(
                &Recorded {
                    id: EventId(derived(&["event"])),
                    stream: StreamId::conversation(ConversationId(derived(&["c"]))),
                    version: n,
                    position: n,
                    user: user("alice"),
                    recorded_at: DateTime::from_timestamp(n, 0).expect("in range"),
                    metadata: Metadata::default(),
                    event,
                },
                3,
            );
        }
        Given(state)
    }

    fn say(who: &str, begin: bool) -> SendMessage {
        SendMessage {
            user: user(who),
            conversation_id: ConversationId(derived(&["c"])),
            begin,
            message_id: MessageId(derived(&["m"])),
            reply_id: ReplyId(derived(&["r"])),
            lease: derived(&["process"]),
            content: "hello".to_owned(),
            timezone: None,
        }
    }

    fn begun() -> Vec<Event> {
        given([])
            .0
            .send_message(say("alice", true))
            .expect("begins")
    }

    fn reply() -> ReplyId {
        ReplyId(derived(&["r"]))
    }

    #[test]
    fn a_first_message_begins_the_conversation() {
        let names: Vec<_> = begun().iter().map(Event::type_name).collect();
        assert_eq!(names, ["ConversationStarted", "UserMessageReceived"]);
    }

    #[test]
    fn a_second_message_waits_for_the_reply() {
        let busy = given(begun()).0.send_message(say("alice", false));
        assert!(matches!(busy, Err(Refusal::Busy(open)) if open.reply_id == reply()));
    }

    #[test]
    fn another_users_conversation_looks_like_none() {
        let state = given(begun()).0;
        assert_eq!(
            state.send_message(say("mallory", false)),
            Err(Refusal::NotFound)
        );
        assert_eq!(
            state.send_message(say("mallory", true)),
            Err(Refusal::NotFound)
        );
        assert_eq!(
            given([]).0.send_message(say("alice", false)),
            Err(Refusal::NotFound)
        );
    }

    #[test]
    fn a_reply_ends_once() {
        let state = given(begun()).0;
        let completed = state
            .complete_reply(reply(), "hi".to_owned())
            .expect("completes");
        let ended = given(begun().into_iter().chain([completed])).0;
        assert_eq!(ended.open_reply, None);
        let again = ended.fail_reply(reply(), String::new(), FailureReason::ServiceStopping);
        assert_eq!(again, Err(Refusal::ReplyEnded));
        assert!(ended.send_message(say("alice", false)).is_ok());
    }

    #[test]
    fn only_the_last_messages_are_kept() {
        let mut events = begun();
        for n in 0..5 {
            events.push(
                ReplyCompleted {
                    reply_id: reply(),
                    content: n.to_string(),
                }
                .into(),
            );
        }
        let kept: Vec<_> = given(events)
            .0
            .messages
            .into_iter()
            .map(|m| m.content)
            .collect();
        assert_eq!(kept, ["2", "3", "4"]);
    }
}
