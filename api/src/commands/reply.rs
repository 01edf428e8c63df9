//! A reply, from the prompt to the one event that ends it.
//!
//! It runs as a task of its own, so that a client who leaves cancels nothing. Its text grows in a
//! place from which any number of followers read, each at their own pace: a slow client holds up
//! nobody, and a place in the text is all that a follower needs to go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use companion_adapters::event_store::{AppendError, Expected};
use companion_adapters::llm::{self, LlmFailure, Piece, Sampling};
use companion_adapters::recall::{Found, Item};
use companion_domain::conversation::{Message, Refusal};
use companion_domain::events::{Event, FailureReason, Metadata, RecalledMemory, ReplyStarted};
use companion_domain::ids::{ConversationId, MemoryId, MessageId, ReplyId, StreamId, UserId};
use companion_domain::prompt::{self, Ingredients, MemoryNote, Prompt};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::app::App;
use crate::error::Problem;

/// How long the end of a reply is tried to be stored while the database is away.
const STORE_WITHIN: Duration = Duration::from_secs(30);
const STORE_RETRY: Duration = Duration::from_millis(250);

/// How a reply ended, as its followers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Whole, and durable.
    Completed,
    /// Not whole.
    Failed {
        /// The stable name of what went wrong.
        code: &'static str,
        /// A sentence for the caller.
        message: &'static str,
    },
}

/// The text of a reply as it grows.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) reply_id: ReplyId,
    pub(crate) conversation_id: ConversationId,
    text: Mutex<(String, Option<Outcome>)>,
    grown: watch::Sender<()>,
}

impl Running {
    fn new(reply_id: ReplyId, conversation_id: ConversationId) -> Self {
        Self {
            reply_id,
            conversation_id,
            text: Mutex::default(),
            grown: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (String, Option<Outcome>)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, piece: &str) {
        self.lock().0.push_str(piece);
        self.grown.send_replace(());
    }

    fn end(&self, outcome: Outcome) {
        self.lock().1 = Some(outcome);
        self.grown.send_replace(());
    }

    fn text(&self) -> String {
        self.lock().0.clone()
    }

    /// What has come after the first `from` bytes, as soon as there is something, and how the reply
    /// ended once there is nothing more to come.
    pub(crate) async fn after(&self, from: usize) -> (String, Option<Outcome>) {
        let mut grown = self.grown.subscribe();
        loop {
            grown.mark_unchanged();
            {
                let text = self.lock();
                let more = text.0.get(from..).unwrap_or_default();
                if !more.is_empty() {
                    return (more.to_owned(), None);
                }
                if text.1.is_some() {
                    return (String::new(), text.1);
                }
            }
            // The sender lives as long as this.
            let _ = grown.changed().await;
        }
    }

    /// The whole text and how the reply ended, once it has.
    pub(crate) async fn whole(&self) -> (String, Outcome) {
        let mut read = 0;
        loop {
            match self.after(read).await {
                (_, Some(outcome)) => return (self.text(), outcome),
                (more, None) => read += more.len(),
            }
        }
    }
}

/// The replies that this process makes.
#[derive(Clone, Default)]
pub(crate) struct Replies {
    running: Arc<Mutex<HashMap<ReplyId, Arc<Running>>>>,
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl Replies {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReplyId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets running replies finish, for so long; then they are recorded as interrupted.
    pub(crate) async fn stop_within(&self, limit: Duration) {
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }

    /// Whether the process is stopping and takes no new reply.
    pub(crate) fn are_closed(&self) -> bool {
        self.tasks.is_closed()
    }
}

/// What a reply is made from.
pub(crate) struct Assignment {
    pub(crate) user: UserId,
    pub(crate) conversation_id: ConversationId,
    pub(crate) message_id: MessageId,
    pub(crate) reply_id: ReplyId,
    pub(crate) system: String,
    pub(crate) message: String,
    pub(crate) history: Vec<Message>,
}

/// Starts the task that makes a reply, and returns the place where its text grows. What is recalled
/// is awaited by the task.
pub(crate) fn start(
    app: &App,
    assignment: Assignment,
    recalled: impl Future<Output = Vec<Found>> + Send + 'static,
) -> Arc<Running> {
    let running = Arc::new(Running::new(
        assignment.reply_id,
        assignment.conversation_id,
    ));
    app.replies
        .lock()
        .insert(assignment.reply_id, running.clone());
    let task = Task {
        app: app.clone(),
        running: running.clone(),
        assignment,
    };
    let span = tracing::info_span!("reply", reply.id = %task.assignment.reply_id);
    app.replies
        .tasks
        .spawn(async move { task.run(recalled).await }.instrument(span));
    running
}

struct Task {
    app: App,
    running: Arc<Running>,
    assignment: Assignment,
}

/// How the talk with the LLM went.
struct Talk {
    failure: Option<FailureReason>,
    usage: Option<Value>,
}

impl Task {
    async fn run(self, recalled: impl Future<Output = Vec<Found>>) {
        let outcome = self.make(recalled.await).await;
        self.running.end(outcome);
        self.app.replies.lock().remove(&self.assignment.reply_id);
    }

    async fn make(&self, recalled: Vec<Found>) -> Outcome {
        let prompt = match self.prompt(&recalled) {
            Ok(prompt) => prompt,
            // It was checked before the message was stored.
            Err(_) => {
                return self
                    .end(Talk {
                        failure: Some(FailureReason::LlmInvalid),
                        usage: None,
                    })
                    .await;
            }
        };
        let started = self.started(&recalled, &prompt);
        // The first token doesn't wait for the disk; the end of the reply does.
        let (started, talk) = tokio::join!(self.append(Expected::Any, started), self.talk(&prompt));
        if let Err(error) = started {
            tracing::error!("the start of a reply could not be stored: {error}");
        }
        self.end(talk).await
    }

    fn prompt(&self, recalled: &[Found]) -> Result<Prompt, prompt::TooLong> {
        let notes: Vec<MemoryNote> = recalled.iter().filter_map(memory_note).collect();
        prompt::assemble(Ingredients {
            system: &self.assignment.system,
            memories: &notes,
            history: self.assignment.history.clone(),
            message: &self.assignment.message,
            budget: self.app.core.config.prompt_budget(),
        })
    }

    fn started(&self, recalled: &[Found], prompt: &Prompt) -> (Event, Metadata) {
        let config = &self.app.core.config;
        let recalled = recalled
            .iter()
            .take(prompt.memories)
            .filter_map(recalled_memory)
            .collect();
        let context_messages = u32::try_from(prompt.history).unwrap_or(u32::MAX);
        let event = ReplyStarted {
            reply_id: self.assignment.reply_id,
            recalled,
            context_messages,
        };
        let metadata = Metadata {
            prompt_id: Some(prompt::ID.to_owned()),
            prompt_hash: Some(prompt::template_hash()),
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
            failure: None,
            usage: None,
        };
        let mut pieces = std::pin::pin!(self.app.llm.stream(&prompt.messages, &sampling));
        loop {
            let piece = tokio::select! {
                piece = pieces.next() => piece,
                () = self.app.replies.abort.cancelled() => Some(Err(LlmFailure(FailureReason::ServiceStopping))),
            };
            match piece {
                // PostgreSQL's text can't hold NUL, and no reader misses it.
                Some(Ok(Piece::Text(text))) => self.running.push(&text.replace('\0', "")),
                Some(Ok(Piece::Usage(usage))) => talk.usage = Some(usage),
                Some(Err(LlmFailure(reason))) => {
                    tracing::warn!(reason = reason.code(), "the LLM gave no whole answer");
                    talk.failure = Some(reason);
                    return talk;
                }
                None => break,
            }
        }
        if self.running.text().trim().is_empty() {
            talk.failure = Some(FailureReason::LlmInvalid);
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
                        code: "database_unavailable",
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
            let decided = match talk.failure {
                None => state.complete_reply(reply_id, text),
                Some(reason) => state.fail_reply(reply_id, text, reason),
            };
            let interrupted = FailureReason::ServiceStopping;
            let ended = match decided {
                Ok(event) => event,
                // The reaper took this process for dead.
                Err(Refusal::ReplyEnded | Refusal::NotFound | Refusal::Busy(_)) => {
                    return Ok(Outcome::Failed {
                        code: interrupted.code(),
                        message: llm::message(interrupted),
                    });
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
                Err(AppendError::Conflict { .. }) => continue,
                Err(AppendError::NoUser) => {
                    return Ok(Outcome::Failed {
                        code: interrupted.code(),
                        message: llm::message(interrupted),
                    });
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(match talk.failure {
                None => Outcome::Completed,
                Some(reason) => Outcome::Failed {
                    code: reason.code(),
                    message: llm::message(reason),
                },
            });
        }
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

fn memory_note(found: &Found) -> Option<MemoryNote> {
    let Item::Memory(memory) = &found.item else {
        return None;
    };
    Some(MemoryNote {
        content: memory.content.clone(),
        said_at: memory.last_reinforced_at,
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
