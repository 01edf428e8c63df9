//! A reply, from the prompt to the one event that ends it.
//!
//! It runs as a task of its own, so that a client who leaves cancels nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use chrono_tz::Tz;
use companion_adapters::core::Core;
use companion_adapters::llm::{LlmFailure, Piece, Sampling};
use companion_adapters::log::event_store::{AppendError, Expected, ReadError};
use companion_adapters::recall::{Found, Item};
use companion_adapters::{lost_replies, metrics};
use companion_domain::conversation::Message;
use companion_domain::events::{Event, FailureReason, Metadata, RecalledMemory, ReplyStarted};
use companion_domain::ids::{ConversationId, MemoryId, MessageId, ReplyId, StreamId, UserId};
use companion_domain::prompt::{self, Ingredients, MemoryNote, Prompt};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tracing::Instrument;

use crate::app::App;
use crate::error::Problem;
use crate::following;
use crate::replies::{Claim, NOT_STORED, Outcome, Running};

/// How long the end of a reply is tried to be stored while the database is away.
const STORE_WITHIN: Duration = Duration::from_secs(30);
const STORE_RETRY: Duration = Duration::from_millis(250);
/// Among how many last events of a conversation the end of its last reply is.
const LAST_EVENTS: i64 = 16;
/// The longest reply, bytes. An LLM that goes on is stuck, and the log is to hold what it said.
pub(crate) const MAX_REPLY: usize = 256 * 1024;

/// What a reply is made from.
pub(crate) struct Assignment {
    pub(crate) user: UserId,
    pub(crate) conversation_id: ConversationId,
    pub(crate) message_id: MessageId,
    pub(crate) reply_id: ReplyId,
    pub(crate) system: String,
    /// What was said before `history`, in short.
    pub(crate) summary: Option<String>,
    pub(crate) message: String,
    pub(crate) history: Vec<Message>,
}

/// What was looked up for a prompt.
pub(crate) struct Recalled {
    /// The memories.
    pub(crate) found: Vec<Found>,
    /// Where the user is.
    pub(crate) zone: Tz,
}

impl Default for Recalled {
    fn default() -> Self {
        Self {
            found: Vec::new(),
            zone: Tz::UTC,
        }
    }
}

/// Starts the task that makes a claimed reply. What is recalled is awaited by the task.
pub(crate) fn start(
    app: &App,
    claim: Claim,
    assignment: Assignment,
    recalled: impl Future<Output = Recalled> + Send + 'static,
) {
    following::share(&app.texts, claim.running().clone());
    let task = Task {
        app: app.clone(),
        running: claim.running().clone(),
        assignment,
    };
    let span = tracing::info_span!("reply", reply.id = %task.assignment.reply_id);
    let make = async move { task.make(recalled.await).await };
    app.replies.run(claim, make.instrument(span));
}

/// Ends the replies that this process began and is not at work on any more, as their end could not
/// be stored.
pub(crate) async fn end_own_lost(app: &App) -> anyhow::Result<()> {
    for running in lost_replies::running_in(&app.core.pool, app.process).await? {
        if !app.replies.is_running(running.id()) {
            lost_replies::end_listed(&app.core, &running).await?;
        }
    }
    Ok(())
}

struct Task {
    app: App,
    running: Arc<Running>,
    assignment: Assignment,
}

/// How the talk with the LLM went.
struct Talk {
    ending: Ending,
    usage: Option<Value>,
}

/// What ended the talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Whole,
    Cancelled,
    Failed(FailureReason),
}

impl Ending {
    fn status(self) -> &'static str {
        match self {
            Self::Whole => "success",
            Self::Cancelled => "cancelled",
            Self::Failed(reason) => reason.code(),
        }
    }
}

impl From<Ending> for Outcome {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Whole => Self::Completed,
            Ending::Cancelled => Self::Cancelled,
            Ending::Failed(reason) => Self::failed(reason),
        }
    }
}

impl Task {
    async fn make(&self, recalled: Recalled) -> Outcome {
        let prompt = match self.prompt(&recalled) {
            Ok(prompt) => prompt,
            // It was checked before the message was stored.
            Err(_) => {
                return self
                    .end(Talk {
                        ending: Ending::Failed(FailureReason::LlmInvalid),
                        usage: None,
                    })
                    .await;
            }
        };
        let started = self.started(&recalled.found, &prompt);
        let begun = Instant::now();
        // The first token doesn't wait for the disk; the end of the reply does.
        let (started, talk) = tokio::join!(self.append(Expected::Any, started), self.talk(&prompt));
        metrics::llm_request(talk.ending.status(), begun);
        if let Err(error) = started {
            tracing::error!("the start of a reply could not be stored: {error}");
        }
        self.end(talk).await
    }

    fn prompt(&self, recalled: &Recalled) -> Result<Prompt, prompt::TooLong> {
        let notes: Vec<MemoryNote> = recalled.found.iter().filter_map(memory_note).collect();
        prompt::assemble(Ingredients {
            system: &self.assignment.system,
            summary: self.assignment.summary.as_deref(),
            memories: &notes,
            history: self.assignment.history.clone(),
            message: &self.assignment.message,
            now: Utc::now().with_timezone(&recalled.zone),
            budget: self.app.core.config.prompt_budget(),
        })
    }

    fn started(&self, recalled: &[Found], prompt: &Prompt) -> (Event, Metadata) {
        let config = &self.app.core.config;
        // What was recalled for a prompt are memories, one note each.
        let in_prompt = prompt.memories.iter().filter_map(|at| recalled.get(*at));
        let recalled = in_prompt.filter_map(recalled_memory).collect();
        let context_messages = u32::try_from(prompt.history).unwrap_or(u32::MAX);
        let event = ReplyStarted {
            reply_id: self.assignment.reply_id,
            recalled,
            context_messages,
        };
        let metadata = Metadata {
            prompt_id: Some(prompt::ID.to_owned()),
            prompt_hash: Some(prompt::template_hash()),
            summary: Some(prompt.summary),
            model: Some(config.llm.model.clone()),
            parameters: Some(
                json!({ "temperature": config.llm_temperature, "max_tokens": config.llm_max_tokens }),
            ),
            embedding_model: Some(config.embedding_model.clone()),
            ..self.metadata()
        };
        (event.into(), metadata)
    }

    /// Streams the LLM's answer into the growing text.
    async fn talk(&self, prompt: &Prompt) -> Talk {
        let config = &self.app.core.config;
        let sampling = Sampling {
            temperature: config.llm_temperature,
            max_tokens: config.llm_max_tokens,
        };
        let mut talk = Talk {
            ending: Ending::Whole,
            usage: None,
        };
        let mut pieces = std::pin::pin!(self.app.llm.stream(&prompt.messages, &sampling));
        loop {
            let piece = tokio::select! {
                piece = pieces.next() => piece,
                () = self.app.replies.aborted() => Some(Err(LlmFailure(FailureReason::ServiceStopping))),
                () = self.running.cancelled() => {
                    talk.ending = Ending::Cancelled;
                    return talk;
                }
            };
            match piece {
                // PostgreSQL's text can't hold NUL, and no reader misses it.
                Some(Ok(Piece::Text(text))) => {
                    if self.running.len() == 0 {
                        metrics::first_token(self.running.age());
                    }
                    self.running.push(&text.replace('\0', ""));
                    if self.running.len() > MAX_REPLY {
                        talk.ending = Ending::Failed(FailureReason::LlmInvalid);
                        return talk;
                    }
                }
                Some(Ok(Piece::Usage(usage))) => talk.usage = Some(usage),
                Some(Err(LlmFailure(reason))) => {
                    tracing::warn!(reason = reason.code(), "the LLM gave no whole answer");
                    talk.ending = Ending::Failed(reason);
                    return talk;
                }
                None => break,
            }
        }
        if self.running.text().trim().is_empty() {
            talk.ending = Ending::Failed(FailureReason::LlmInvalid);
        }
        talk
    }

    /// Stores how the reply ended; only then are its followers told.
    async fn end(&self, talk: Talk) -> Outcome {
        let begun = tokio::time::Instant::now();
        loop {
            match self.try_to_end(&talk).await {
                Ok(outcome) => return outcome,
                Err(problem) if begun.elapsed() > STORE_WITHIN => {
                    tracing::error!("the end of a reply could not be stored: {problem}");
                    let message = "The reply could not be stored, as the database does not answer. Send the message again.";
                    return Outcome::Failed {
                        code: NOT_STORED,
                        message,
                    };
                }
                Err(_) => tokio::time::sleep(STORE_RETRY).await,
            }
        }
    }

    async fn try_to_end(&self, talk: &Talk) -> Result<Outcome, Problem> {
        let Assignment {
            conversation_id,
            reply_id,
            ..
        } = self.assignment;
        loop {
            let core = &self.app.core;
            let state = core.buffer.current(&core.store, conversation_id).await?;
            let text = self.running.text();
            let decided = match talk.ending {
                Ending::Whole => state.complete_reply(reply_id, text),
                Ending::Cancelled => state.cancel_reply(reply_id, text),
                Ending::Failed(reason) => state.fail_reply(reply_id, text, reason),
            };
            let ended = match decided {
                Ok(event) => event,
                // It was stored, and only the answer was lost; or it was taken for lost and ended.
                Err(_) => {
                    return self.how_it_ended(state.version).await;
                }
            };
            let metadata = Metadata {
                usage: talk.usage.clone(),
                ..self.metadata()
            };
            match self
                .append(Expected::Version(state.version), (ended, metadata))
                .await
            {
                Ok(()) => {}
                // Somebody was faster; or the buffer holds a conversation of a former life of the user.
                Err(AppendError::Conflict { .. }) => {
                    core.buffer.forget(conversation_id).await;
                    continue;
                }
                Err(AppendError::NoUser) => {
                    return Ok(Outcome::failed(FailureReason::ServiceStopping));
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(talk.ending.into());
        }
    }

    /// How the log says that the reply ended.
    async fn how_it_ended(&self, version: i64) -> Result<Outcome, Problem> {
        let Assignment {
            conversation_id,
            reply_id,
            ..
        } = self.assignment;
        let ended = end_in_log(&self.app.core, conversation_id, version, reply_id).await?;
        Ok(ended.map_or(
            Outcome::failed(FailureReason::ServiceStopping),
            |(_, outcome)| outcome,
        ))
    }

    async fn append(
        &self,
        expected: Expected,
        event: (Event, Metadata),
    ) -> Result<(), AppendError> {
        let stream = StreamId::conversation(self.assignment.conversation_id);
        self.app
            .core
            .store
            .append(&stream, self.assignment.user, expected, vec![event], None)
            .await?;
        Ok(())
    }

    fn metadata(&self) -> Metadata {
        let message = Some(self.assignment.message_id.0);
        Metadata {
            correlation_id: message,
            causation_id: message,
            ..Metadata::default()
        }
    }
}

/// The text and the end of a reply among the last events of a conversation that is at a version.
pub(crate) async fn end_in_log(
    core: &Core,
    conversation: ConversationId,
    version: i64,
    reply: ReplyId,
) -> Result<Option<(String, Outcome)>, ReadError> {
    let stream = StreamId::conversation(conversation);
    let after = (version - LAST_EVENTS).max(0);
    let last = core.store.read_stream(&stream, after).await?;
    let mut ends = last.iter().rev();
    let end = ends.find_map(|recorded| ended(&recorded.event, reply));
    Ok(end.map(|(outcome, text)| (text.to_owned(), outcome)))
}

/// How an event ends a reply, and with which text, if it does.
pub(crate) fn ended(event: &Event, reply: ReplyId) -> Option<(Outcome, &str)> {
    match event {
        Event::ReplyCompleted(event) if event.reply_id == reply => {
            Some((Outcome::Completed, &event.content))
        }
        Event::ReplyCancelled(event) if event.reply_id == reply => {
            Some((Outcome::Cancelled, &event.partial))
        }
        Event::ReplyFailed(event) if event.reply_id == reply => {
            Some((Outcome::failed(event.reason), &event.partial))
        }
        Event::ConversationDeleted(_) => Some((Outcome::Cancelled, "")),
        _ => None,
    }
}

fn memory_note(found: &Found) -> Option<MemoryNote> {
    let Item::Memory(memory) = &found.item else {
        return None;
    };
    Some(MemoryNote {
        content: memory.content.clone(),
        said_at: memory.told_at,
        occurred_at: memory.occurred_at,
    })
}

fn recalled_memory(found: &Found) -> Option<RecalledMemory> {
    let Item::Memory(memory) = &found.item else {
        return None;
    };
    Some(RecalledMemory {
        memory_id: MemoryId(memory.memory_id),
        content: memory.content.clone(),
        score: found.score,
        similarity: found.similarity,
    })
}
