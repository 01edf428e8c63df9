//! A message on its way into the log, once for each key, and the reply that follows from it.

use std::sync::Arc;

use chrono_tz::Tz;
use companion_adapters::core::Core;
use companion_adapters::embedder::content_hash;
use companion_adapters::log::event_store::{AppendError, Expected, Idempotency};
use companion_adapters::recall::{self, Found, Query};
use companion_adapters::{lost_replies, messages, progress, rate_limit, vectors};
use companion_domain::conversation::{Conversation, Message, OpenReply, Refusal, SendMessage};
use companion_domain::events::{Event, Metadata, Recorded};
use companion_domain::ids::{ConversationId, MessageId, ReplyId, StreamId, UserId};
use serde_json::Value;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::code::Code;
use crate::commands::reply::{self, Assignment, Recalled};
use crate::error::Problem;
use crate::following::Followed;
use crate::limits;
use crate::replies::{Claim, Outcome};

pub(crate) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// How often a message is tried to be appended against a conversation that moves.
const TRIES: usize = 5;

/// A message that passed the checks.
pub(crate) struct Said {
    pub(crate) message: String,
    /// Where; none begins a conversation.
    pub(crate) conversation: Option<ConversationId>,
    /// The system prompt.
    pub(crate) system: String,
    pub(crate) timezone: Option<String>,
}

/// A caller's key to make a request repeatable, with what the request was.
pub(crate) struct Key {
    key: String,
    request_hash: Vec<u8>,
}

impl Key {
    pub(crate) fn new(key: &str, request: &Value) -> Result<Self, Problem> {
        let visible = |c: u8| c.is_ascii_graphic();
        if !(1..=255).contains(&key.len()) || !key.bytes().all(visible) {
            return Err(Self::invalid());
        }
        Ok(Self {
            key: key.to_owned(),
            request_hash: content_hash(&request.to_string()),
        })
    }

    pub(crate) fn invalid() -> Problem {
        let message = "must be 1 to 255 visible ASCII characters, sent once";
        Problem::invalid_field(IDEMPOTENCY_KEY, message)
    }

    fn idempotency(&self) -> Idempotency<'_> {
        Idempotency {
            key: &self.key,
            request_hash: &self.request_hash,
        }
    }
}

/// A reply to be followed, and what it was counted as when it was started just now.
pub(crate) type Taken = (Followed, Option<rate_limit::Taken>);

/// Stores the message and starts the reply, unless the key says that this was done before.
pub(crate) async fn take_in(
    app: App,
    caller: Caller,
    said: Said,
    key: Option<Key>,
) -> Result<Taken, Problem> {
    if app.replies.are_closed() {
        return Err(Code::ServiceStopping.into());
    }
    let user = caller.ensure_user(&app.core.store).await?;
    let begin = said.conversation.is_none();
    let conversation_id = said
        .conversation
        .unwrap_or_else(|| ConversationId(Uuid::now_v7()));
    let command = SendMessage {
        user,
        conversation_id,
        begin,
        message_id: MessageId(Uuid::now_v7()),
        reply_id: ReplyId(Uuid::now_v7()),
        lease: app.process,
        content: said.message.clone(),
        timezone: said.timezone.clone(),
    };
    let sending = Sending {
        app,
        said,
        command,
        key,
    };
    sending.send().await
}

/// A message on its way into the log.
struct Sending {
    app: App,
    said: Said,
    command: SendMessage,
    key: Option<Key>,
}

impl Sending {
    async fn send(self) -> Result<Taken, Problem> {
        let command = &self.command;
        let _turn = match &self.key {
            Some(key) => Some(self.app.turns.wait(command.user, &key.key).await),
            None => None,
        };
        let stream = StreamId::conversation(command.conversation_id);
        let mut ready = None;
        let mut actual = 0;
        for _ in 0..TRIES {
            // Also when others were quicker with the same key meanwhile.
            if let Some(led_to) = self.led_to().await? {
                return self.attach(led_to).await;
            }
            let state = self.state().await?;
            let events = match state.send_message(command.clone()) {
                Ok(events) => events,
                Err(Refusal::Busy(open)) => {
                    if let Some(led_to) = self.led_to().await? {
                        return self.attach(led_to).await;
                    }
                    self.end_if_orphaned(&open).await?;
                    continue;
                }
                Err(Refusal::NotFound | Refusal::ReplyEnded | Refusal::MovedOn) => {
                    return Err(Problem::not_found("conversation"));
                }
            };
            let prepared = match ready.take() {
                Some(ready) => ready,
                None => self.prepare(command.reply_id).await?,
            };
            let metadata = Metadata {
                correlation_id: Some(command.message_id.0),
                ..Metadata::default()
            };
            let events = events.into_iter().map(|event| (event, metadata.clone()));
            let expected = Expected::Version(state.version);
            let idempotency = self.key.as_ref().map(Key::idempotency);
            let store = &self.app.core.store;
            match store
                .append(
                    &stream,
                    command.user,
                    expected,
                    events.collect(),
                    idempotency,
                )
                .await
            {
                Ok(appended) if appended.repeated => {}
                Ok(_) => {
                    let history = state.messages.iter().cloned().collect();
                    let message_id = command.message_id;
                    return Ok(self.start(prepared, message_id, &state, history));
                }
                Err(AppendError::Conflict { actual: at }) => {
                    actual = at;
                    ready = Some(prepared);
                    if at < state.version {
                        // The database was set back; the buffer was not.
                        self.app.core.buffer.forget(command.conversation_id).await;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppendError::Conflict { actual }.into())
    }

    /// The conversation as it is.
    async fn state(&self) -> Result<Arc<Conversation>, Problem> {
        if self.command.begin {
            return Ok(Arc::default());
        }
        let core = &self.app.core;
        Ok(core
            .buffer
            .current(&core.store, self.command.conversation_id)
            .await?)
    }

    /// Where the key has led to before.
    async fn led_to(&self) -> Result<Option<(StreamId, i64)>, Problem> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let store = &self.app.core.store;
        Ok(store.led_to(self.command.user, key.idempotency()).await?)
    }

    /// Makes sure that one more reply may be made, counts it, and begins to recall.
    async fn prepare(&self, reply_id: ReplyId) -> Result<Ready, Problem> {
        let SendMessage {
            user,
            conversation_id,
            ..
        } = self.command;
        let claim = self.app.replies.claim(user, reply_id, conversation_id)?;
        let counted = limits::count_reply(&self.app, user).await?;
        let zone = self
            .said
            .timezone
            .as_deref()
            .and_then(|zone| zone.parse().ok());
        let recall = look_up(self.app.core.clone(), user, self.said.message.clone(), zone);
        Ok(Ready {
            claim,
            counted,
            recalled: tokio::spawn(recall.in_current_span()),
        })
    }

    /// Starts the reply to a message that is stored.
    fn start(
        self,
        ready: Ready,
        message_id: MessageId,
        state: &Conversation,
        history: Vec<Message>,
    ) -> Taken {
        let running = ready.claim.running().clone();
        let assignment = Assignment {
            user: self.command.user,
            conversation_id: running.conversation_id,
            message_id,
            reply_id: running.reply_id,
            system: self.said.system,
            summary: state.summary.as_ref().map(|summary| summary.text.clone()),
            message: self.said.message,
            history,
        };
        // A panic in recall is no reason to leave the user without a reply.
        let recalled = async { ready.recalled.await.unwrap_or_default() };
        reply::start(&self.app, ready.claim, assignment, recalled);
        (Followed::here(running), Some(ready.counted))
    }

    /// Follows the reply that the key has led to. One that failed is made again, unless something
    /// else was said since.
    async fn attach(mut self, (stream, version): (StreamId, i64)) -> Result<Taken, Problem> {
        let gone = || Problem::not_found("conversation");
        let (app, user) = (self.app.clone(), self.command.user);
        let store = &app.core.store;
        self.command.conversation_id = stream.as_conversation().ok_or_else(gone)?;
        let conversation = self.command.conversation_id;
        let first = store.read_stream(&stream, version - 1).await?;
        let Some(Event::UserMessageReceived(message)) = first.first().map(|r| &r.event) else {
            return Err(gone());
        };
        let message_id = message.message_id;
        for _ in 0..TRIES {
            let events = store.read_stream(&stream, version - 1).await?;
            let deleted =
                |recorded: &Recorded| matches!(recorded.event, Event::ConversationDeleted(_));
            if events.iter().any(deleted) {
                return Err(gone());
            }
            let (reply_id, end) = last_reply(&events, message_id).ok_or_else(gone)?;
            let failed = match end {
                None if app.replies.find(reply_id).is_some() => {
                    let running = app.replies.find(reply_id).map(Followed::here);
                    return running.map(|reply| (reply, None)).ok_or_else(gone);
                }
                None => {
                    let state = app.core.buffer.current(store, conversation).await?;
                    match state
                        .open_reply
                        .as_ref()
                        .filter(|open| open.reply_id == reply_id)
                    {
                        Some(open) if self.is_alive(open).await? => {
                            let reply = Followed::elsewhere(&app, user, reply_id, conversation);
                            return Ok((reply, None));
                        }
                        Some(_) => {
                            lost_replies::end(&app.core, user, conversation, reply_id).await?;
                        }
                        None => {}
                    }
                    continue;
                }
                Some((outcome @ Outcome::Failed { .. }, text)) => (outcome, text.to_owned()),
                Some((outcome, text)) => {
                    let reply = Followed::ended(reply_id, conversation, text.to_owned(), outcome);
                    return Ok((reply, None));
                }
            };
            let state = app.core.buffer.current(store, conversation).await?;
            let again = ReplyId(Uuid::now_v7());
            let event = match state.request_reply(user, message_id, again, app.process) {
                Ok(event) => event,
                Err(Refusal::Busy(_)) => continue,
                Err(_) => {
                    let reply = Followed::ended(reply_id, conversation, failed.1, failed.0);
                    return Ok((reply, None));
                }
            };
            let ready = self.prepare(again).await?;
            let metadata = Metadata {
                correlation_id: Some(message_id.0),
                ..Metadata::default()
            };
            let (expected, events) = (Expected::Version(state.version), vec![(event, metadata)]);
            match store.append(&stream, user, expected, events, None).await {
                Ok(_) => {
                    let history = state.before(message_id);
                    return Ok(self.start(ready, message_id, &state, history));
                }
                Err(AppendError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppendError::Conflict { actual: version }.into())
    }

    /// Ends a running reply that nobody is at work on; any other keeps the conversation busy.
    async fn end_if_orphaned(&self, open: &OpenReply) -> Result<(), Problem> {
        if self.is_alive(open).await? {
            return Err(Problem::busy(open.reply_id.0));
        }
        let SendMessage {
            user,
            conversation_id,
            ..
        } = self.command;
        lost_replies::end(&self.app.core, user, conversation_id, open.reply_id).await?;
        Ok(())
    }

    /// Whether somebody is at work on a reply.
    async fn is_alive(&self, open: &OpenReply) -> Result<bool, Problem> {
        if open.lease == self.app.process {
            return Ok(self.app.replies.find(open.reply_id).is_some());
        }
        Ok(progress::is_alive(&self.app.core.pool, open.lease).await?)
    }
}

/// What a reply needs before its message is stored.
struct Ready {
    claim: Claim,
    counted: rate_limit::Taken,
    recalled: tokio::task::JoinHandle<Recalled>,
}

/// The last reply to a message among a conversation's events, and how it ended, if it has.
fn last_reply(
    events: &[Recorded],
    message: MessageId,
) -> Option<(ReplyId, Option<(Outcome, &str)>)> {
    let reply = events
        .iter()
        .rev()
        .find_map(|recorded| match &recorded.event {
            Event::UserMessageReceived(event) if event.message_id == message => {
                Some(event.reply_id)
            }
            Event::ReplyRequested(event) if event.message_id == message => Some(event.reply_id),
            _ => None,
        })?;
    let mut ends = events.iter().rev();
    Some((
        reply,
        ends.find_map(|recorded| reply::ended(&recorded.event, reply)),
    ))
}

/// Finds what a prompt needs to know of the user besides what was said: the memories, and their time
/// zone unless they have sent it just now.
async fn look_up(core: Core, user: UserId, message: String, sent: Option<Tz>) -> Recalled {
    let zone = async {
        match sent {
            Some(zone) => zone,
            None => messages::timezone(&core.pool, user)
                .await
                .unwrap_or_else(|error| {
                    tracing::error!("the user's time zone is not known: {error}");
                    Tz::UTC
                }),
        }
    };
    let (found, zone) = tokio::join!(recall(core.clone(), user, message), zone);
    Recalled { found, zone }
}

/// Finds the memories for a message. When that fails the user still gets a reply.
async fn recall(core: Core, user: UserId, message: String) -> Vec<Found> {
    let life = match core.store.life(user).await {
        Ok(life) => life,
        Err(error) => return nothing(error),
    };
    let (index, asked) = tokio::join!(
        core.indexes.fresh(&core.pool, user),
        recall::ask(&core, user, &message),
    );
    let (index, asked) = match (index, asked) {
        (Ok(index), Ok(asked)) => (index, asked),
        (Err(error), _) => return nothing(error),
        (_, Err(error)) => return nothing(error),
    };
    if asked.reworded == message {
        // The message's own vector is made now; the background need not make it again.
        let (derived, kept) = (
            core.derived.clone(),
            [(content_hash(&message), asked.vector.clone())],
        );
        tokio::spawn(async move {
            if let Err(error) = vectors::keep(&derived, user, &life, &kept).await {
                tracing::debug!("a vector was not kept and is made again: {error}");
            }
        });
    }
    let query = Query {
        user,
        text: &message,
        top_k: core.config.long_term_memory_top_k,
        threshold: core.config.memory_similarity_threshold,
        kinds: None,
        include_messages: false,
        conversation: None,
        as_of: None,
    };
    recall::for_prompt(&core, index, asked, &query)
        .await
        .unwrap_or_else(nothing)
}

fn nothing(error: impl std::fmt::Display) -> Vec<Found> {
    tracing::error!("nothing is recalled: {error}");
    Vec::new()
}
