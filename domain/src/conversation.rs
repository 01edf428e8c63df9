//! One conversation: who owns it, which reply is running, and the last messages for the next
//! prompt. This state is also what the short-term buffer caches.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    ConversationDeleted, ConversationRenamed, ConversationReset, ConversationStarted, Event,
    FailureReason, Recorded, ReplyCancelled, ReplyCompleted, ReplyFailed, ReplyRequested,
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
    /// Whether the conversation was reset meanwhile, so that the reply stays out of the context.
    #[serde(default)]
    pub outdated: bool,
}

/// What was said before the last messages, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The summary.
    pub text: String,
    /// The last message that it covers.
    pub through: MessageId,
    /// The model that wrote it.
    pub model: Option<String>,
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
    /// The last messages, oldest first: as many as were asked to be kept, and those before them that no
    /// summary covers yet.
    pub messages: VecDeque<Message>,
    /// The last message of the user, unless something came between: a failed reply to it can be
    /// asked for again.
    #[serde(default)]
    pub last_user_message: Option<MessageId>,
    /// What was said since the last reset, in short, if that was ever asked for.
    #[serde(default)]
    pub summary: Option<Summary>,
    /// Whether the user has thrown it away.
    #[serde(default)]
    pub deleted: bool,
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
    /// Something else was said since.
    #[error("the conversation has moved on")]
    MovedOn,
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
    /// Takes in one event of the stream, in order, keeping the last `keep` messages and what no summary
    /// covers yet (see [`crate::window`]).
    pub fn evolve(&mut self, recorded: &Recorded, keep: usize) {
        self.version = recorded.version;
        let now = recorded.recorded_at;
        match &recorded.event {
            Event::ConversationStarted(_) => self.user = Some(recorded.user),
            Event::UserMessageReceived(event) => {
                self.open(event.reply_id, event.message_id, event.lease);
                self.last_user_message = Some(event.message_id);
                self.push(event.message_id, Role::User, &event.content, now, keep);
            }
            Event::ReplyRequested(event) => {
                self.open(event.reply_id, event.message_id, event.lease);
                // What was said in vain is no part of the talk.
                let answered = self.messages.iter().position(|m| m.id == event.message_id);
                let vain = self.messages.split_off(answered.map_or(0, |at| at + 1));
                if let Some(summary) = &mut self.summary
                    && vain.iter().any(|m| m.id == summary.through)
                {
                    summary.through = event.message_id;
                }
            }
            Event::ReplyCompleted(event) => {
                self.end_reply(event.reply_id, &event.content, now, keep);
            }
            Event::ReplyFailed(event) => self.end_reply(event.reply_id, &event.partial, now, keep),
            Event::ReplyCancelled(event) => {
                self.end_reply(event.reply_id, &event.partial, now, keep);
            }
            Event::MessagesImported(event) => {
                self.last_user_message = None;
                for message in &event.messages {
                    let (id, at) = (message.message_id, message.created_at);
                    self.push(id, message.role, &message.content, at, keep);
                }
            }
            Event::ConversationReset(_) => self.reset(),
            Event::ConversationSummarised(event) => {
                self.summary = Some(Summary {
                    text: event.summary.clone(),
                    through: event.through_message_id,
                    model: recorded.metadata.model.clone(),
                });
                self.trim(keep);
            }
            Event::ConversationDeleted(_) => {
                self.reset();
                self.open_reply = None;
                self.deleted = true;
            }
            Event::ReplyStarted(_) | Event::ConversationRenamed(_) => {}
            // Facts about memories and users live in streams of their own.
            Event::MemoryRecorded(_)
            | Event::MemoryReinforced(_)
            | Event::MemoryRevised(_)
            | Event::MemorySuperseded(_)
            | Event::MemoryFaded(_)
            | Event::MemoriesRecalled(_)
            | Event::MemoryForgotten(_)
            | Event::MemoriesCleared(_)
            | Event::ExtractionCompleted(_)
            | Event::UserRegistered(_)
            | Event::ApiKeyIssued(_)
            | Event::ApiKeyRevoked(_) => {}
        }
    }

    fn open(&mut self, reply_id: ReplyId, message_id: MessageId, lease: Uuid) {
        self.open_reply = Some(OpenReply {
            reply_id,
            message_id,
            lease,
            outdated: false,
        });
    }

    fn reset(&mut self) {
        self.messages.clear();
        self.summary = None;
        self.last_user_message = None;
        if let Some(open) = &mut self.open_reply {
            open.outdated = true;
        }
    }

    fn end_reply(&mut self, reply: ReplyId, text: &str, at: DateTime<Utc>, keep: usize) {
        if let Some(open) = self.open_reply.take_if(|open| open.reply_id == reply)
            && open.outdated
        {
            return;
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
        self.trim(keep);
    }

    /// The messages before another one, oldest first; none when that is too old to be kept.
    pub fn before(&self, message: MessageId) -> Vec<Message> {
        let at = self.messages.iter().position(|m| m.id == message);
        let earlier = self.messages.iter().take(at.unwrap_or(0));
        earlier.cloned().collect()
    }

    /// Checks that the conversation is there and this user's.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when it isn't, or not any more.
    pub fn of_user(&self, user: UserId) -> Result<(), Refusal> {
        match self.user {
            Some(owner) if owner == user && !self.deleted => Ok(()),
            _ => Err(Refusal::NotFound),
        }
    }

    /// Decides what follows from a message of the user.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a conversation that is not this user's, [`Refusal::Busy`] while a
    /// reply runs.
    pub fn send_message(&self, command: SendMessage) -> Result<Vec<Event>, Refusal> {
        if self.user.is_some() || !command.begin {
            self.of_user(command.user)?;
        }
        self.idle()?;
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

    /// Decides what follows when the user asks again for a reply that failed.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], [`Refusal::MovedOn`] when the message is not the last thing that was said,
    /// [`Refusal::Busy`] while a reply to it runs.
    pub fn request_reply(
        &self,
        user: UserId,
        message: MessageId,
        reply: ReplyId,
        lease: Uuid,
    ) -> Result<Event, Refusal> {
        self.of_user(user)?;
        if self.last_user_message != Some(message) {
            return Err(Refusal::MovedOn);
        }
        self.idle()?;
        Ok(ReplyRequested {
            reply_id: reply,
            message_id: message,
            lease,
        }
        .into())
    }

    /// Decides the end of a reply that the user stops.
    ///
    /// # Errors
    /// [`Refusal::ReplyEnded`] when something else ended it before.
    pub fn cancel_reply(&self, reply: ReplyId, partial: String) -> Result<Event, Refusal> {
        self.running(reply)?;
        Ok(ReplyCancelled {
            reply_id: reply,
            partial,
        }
        .into())
    }

    /// Decides what follows when the user wants the short-term memory emptied. A reply that runs
    /// goes on, and stays out of the context.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn reset_by(&self, user: UserId) -> Result<Event, Refusal> {
        self.of_user(user)?;
        Ok(ConversationReset {}.into())
    }

    /// Decides what follows when the user gives the conversation a title.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn rename_by(&self, user: UserId, title: String) -> Result<Event, Refusal> {
        self.of_user(user)?;
        Ok(ConversationRenamed { title }.into())
    }

    /// Decides what follows when the user throws the conversation away. A reply that runs is lost.
    ///
    /// # Errors
    /// [`Refusal::NotFound`].
    pub fn delete_by(&self, user: UserId) -> Result<Event, Refusal> {
        self.of_user(user)?;
        Ok(ConversationDeleted {}.into())
    }

    fn idle(&self) -> Result<(), Refusal> {
        match &self.open_reply {
            Some(open) => Err(Refusal::Busy(open.clone())),
            None => Ok(()),
        }
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
    use std::sync::Arc;

    use super::*;
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
                    metadata: Arc::default(),
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

    fn failed() -> Event {
        ReplyFailed {
            reply_id: reply(),
            partial: "half a".to_owned(),
            reason: FailureReason::LlmInterrupted,
        }
        .into()
    }

    #[test]
    fn a_failed_reply_can_be_asked_for_again_until_something_else_is_said() {
        let (message, again) = (MessageId(derived(&["m"])), ReplyId(derived(&["r2"])));
        let ask = |state: &Conversation| {
            state.request_reply(user("alice"), message, again, derived(&["process"]))
        };
        let state = given(begun().into_iter().chain([failed()])).0;
        let requested = ask(&state).expect("asks");
        let state = given(begun().into_iter().chain([failed(), requested])).0;
        assert!(state.messages.iter().all(|m| m.content != "half a"));
        assert!(matches!(ask(&state), Err(Refusal::Busy(open)) if open.reply_id == again));
        let reset = given(
            begun()
                .into_iter()
                .chain([failed(), ConversationReset {}.into()]),
        )
        .0;
        assert_eq!(ask(&reset), Err(Refusal::MovedOn));
    }

    #[test]
    fn a_reset_empties_the_context_and_keeps_a_running_reply_out_of_it() {
        let reset = given(begun()).0.reset_by(user("alice")).expect("resets");
        let completed = ReplyCompleted {
            reply_id: reply(),
            content: "late".to_owned(),
        };
        let state = given(begun().into_iter().chain([reset, completed.into()])).0;
        assert_eq!(state.open_reply, None);
        assert!(state.messages.is_empty());
    }

    #[test]
    fn a_deleted_conversation_looks_like_none() {
        let deleted = given(begun()).0.delete_by(user("alice")).expect("deletes");
        let state = given(begun().into_iter().chain([deleted])).0;
        let refused = Err(Refusal::NotFound);
        assert_eq!(state.send_message(say("alice", false)), refused);
        assert_eq!(state.of_user(user("alice")), Err(Refusal::NotFound));
        let late = state.complete_reply(reply(), "late".to_owned());
        assert_eq!(late, Err(Refusal::ReplyEnded));
    }

    #[test]
    fn a_cancelled_reply_keeps_what_was_said() {
        let cancelled = given(begun()).0.cancel_reply(reply(), "half".to_owned());
        let state = given(begun().into_iter().chain(cancelled)).0;
        assert_eq!(
            state.messages.back().map(|m| m.content.as_str()),
            Some("half")
        );
        assert!(state.send_message(say("alice", false)).is_ok());
    }

    #[test]
    fn only_so_many_messages_are_kept() {
        let mut events = begun();
        for n in 0..20 {
            events.push(
                ReplyCompleted {
                    reply_id: reply(),
                    content: n.to_string(),
                }
                .into(),
            );
        }
        let kept = given(events).0.messages;
        assert_eq!(kept.len(), 12);
        assert_eq!(kept.back().map(|m| m.content.as_str()), Some("19"));
    }
}
