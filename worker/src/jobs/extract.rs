//! Reads a conversation's new messages for facts and appends what follows from them.
//!
//! The append expects the version of the user's memory stream at which the known memories were
//! read: of two extractions of one user at a time, one has to look again.

use std::time::{Duration, Instant};

use anyhow::bail;
use chrono::Utc;
use chrono_tz::Tz;
use companion_adapters::config::ExtractionMode;
use companion_adapters::embedder::{Vector, content_hash};
use companion_adapters::event_store::{AppendError, Expected, Life};
use companion_adapters::llm::{Answer, LlmFailure, Sampling};
use companion_adapters::queue::{self, ExtractJob};
use companion_adapters::{memories, messages, vectors};
use companion_domain::consolidation::{Decision, Known, consolidate};
use companion_domain::conversation::Role;
use companion_domain::events::{
    Event, ExtractionCompleted, ExtractionMethod, FailureReason, Metadata, Recorded,
};
use companion_domain::extraction::{
    self, Candidate, Extracted, KnownStatement, MAX_CHARACTERS, SaidMessage, TOGETHER, Unusable,
    by_patterns, fallback_reason, read_answer,
};
use companion_domain::ids::StreamId;
use companion_domain::prompt::PromptMessage;
use serde_json::{Value, json};

use super::{Behind, Context, Job};

/// How many known memories the LLM is told.
const MAX_KNOWN: usize = 20;
/// How many events of a conversation are looked at for one portion.
const LOOK_AHEAD: i64 = 100;
/// The most tokens of the LLM's answer.
const MAX_ANSWER_TOKENS: u32 = 1_500;
/// How often an append is tried against a moving memory stream.
const TRIES: usize = 10;
/// How long to wait for the projection to show what another extraction appended.
const PROJECTED_WITHIN: Duration = Duration::from_secs(5);

impl Job for ExtractJob {
    const QUEUE: &'static str = queue::EXTRACT;

    fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    async fn perform(&self, context: &Context, attempt: usize) -> anyhow::Result<()> {
        let extraction = Extraction {
            job: self,
            context,
            attempt,
        };
        let life = match context.core.store.life(self.user).await {
            // Erased: there is nobody to remember anything about.
            Err(AppendError::NoUser) => return Ok(()),
            life => life?,
        };
        while let Some(portion) = extraction.next_portion().await? {
            let found = extraction.find(&portion).await?;
            extraction.append(life.clone(), &portion, found).await?;
            if portion.is_last {
                break;
            }
        }
        Ok(())
    }
}

/// One run of the job.
struct Extraction<'a> {
    job: &'a ExtractJob,
    context: &'a Context,
    /// From 1. What failed is tried again in smaller portions: one message may be at fault.
    attempt: usize,
}

/// Messages of the user that are read together.
struct Portion {
    messages: Vec<SaidMessage>,
    /// The version of the conversation after which this portion begins.
    after_version: i64,
    /// The version of the conversation up to which this portion reads.
    through_version: i64,
    /// Whether nothing was left to read behind it.
    is_last: bool,
}

/// What was found in a portion, and how.
struct Found {
    candidates: Vec<(Candidate, Vec<f32>)>,
    left_out: Vec<(String, u32)>,
    method: ExtractionMethod,
    fallback: Option<String>,
    metadata: Metadata,
}

impl Extraction<'_> {
    /// The next messages after the cursor; `None` when there are none or a later job is to read them.
    async fn next_portion(&self) -> anyhow::Result<Option<Portion>> {
        let core = &self.context.core;
        // What the user cleared a moment ago is not even shown to the LLM.
        let cleared = core.store.version(&StreamId::memory(self.job.user)).await?;
        self.wait_for_projection(cleared).await?;
        let (_, cursor) =
            memories::extraction_state(&core.derived, self.job.user, self.job.conversation).await?;
        if cursor >= self.job.through_version {
            return Ok(None);
        }
        let stream = StreamId::conversation(self.job.conversation);
        let tail = core.store.read_some(&stream, cursor, LOOK_AHEAD).await?;
        let more = i64::try_from(tail.len()).is_ok_and(|read| read == LOOK_AHEAD);
        if self.is_still_talking(&tail) {
            return Ok(None);
        }
        let zone = messages::timezone(&core.derived, self.job.user).await?;
        let mut portion = Portion {
            messages: Vec::new(),
            after_version: cursor,
            through_version: cursor,
            is_last: !more,
        };
        let together = (TOGETHER >> (self.attempt - 1).min(8)).max(1);
        let mut characters = 0;
        for recorded in &tail {
            let said = said_messages(recorded, zone);
            characters += said
                .iter()
                .map(|m| m.content.chars().count())
                .sum::<usize>();
            let full =
                portion.messages.len() + said.len() > together || characters > MAX_CHARACTERS;
            if full && !said.is_empty() && !portion.messages.is_empty() {
                portion.is_last = false;
                break;
            }
            portion.messages.extend(said);
            portion.through_version = recorded.version;
        }
        // A long stretch without a word of the user is passed over, and noted as read.
        Ok((!portion.messages.is_empty() || more).then_some(portion))
    }

    /// Whether the conversation went on since this job was made, so that the job of its latest turn
    /// is to read everything in one go. One that never pauses is read in full portions.
    fn is_still_talking(&self, tail: &[Recorded]) -> bool {
        let (mut messages, mut went_on) = (0, false);
        let quiet_since = Utc::now() - self.context.core.config.extraction_delay;
        for recorded in tail {
            match recorded.event {
                Event::UserMessageReceived(_) => messages += 1,
                Event::ReplyCompleted(_) | Event::ReplyFailed(_) | Event::ReplyCancelled(_) => {
                    went_on |= recorded.version > self.job.through_version
                        && recorded.recorded_at > quiet_since;
                }
                _ => {}
            }
        }
        went_on && messages < TOGETHER
    }

    async fn find(&self, portion: &Portion) -> anyhow::Result<Found> {
        let config = &self.context.core.config;
        let mut metadata = Metadata {
            correlation_id: portion.messages.last().map(|message| message.id.0),
            embedding_model: Some(config.embedding_model.clone()),
            ..Metadata::default()
        };
        let (extracted, method, fallback) = match config.extraction_mode {
            _ if portion.messages.is_empty() => {
                (Extracted::default(), ExtractionMethod::None, None)
            }
            ExtractionMode::Heuristic => (
                by_patterns(&portion.messages),
                ExtractionMethod::Heuristic,
                None,
            ),
            mode => match self.ask(portion).await? {
                Ok(extracted)
                    if !extracted.candidates.is_empty() || mode == ExtractionMode::Llm =>
                {
                    metadata.prompt_id = Some(extraction::PROMPT_ID.to_owned());
                    metadata.prompt_hash = Some(extraction::template_hash());
                    metadata.model = Some(self.context.llm.model().to_owned());
                    (extracted, ExtractionMethod::Llm, None)
                }
                // Small models answer an empty list to almost anything; patterns are sure of what
                // they find.
                Ok(_) => (
                    by_patterns(&portion.messages),
                    ExtractionMethod::Heuristic,
                    Some("nothing_found"),
                ),
                Err(reason) if mode == ExtractionMode::Llm => {
                    bail!("the LLM gave no facts: {reason}")
                }
                Err(reason) => (
                    by_patterns(&portion.messages),
                    ExtractionMethod::Heuristic,
                    Some(reason),
                ),
            },
        };
        let Extracted {
            candidates,
            left_out,
        } = extracted;
        let statements = candidates
            .iter()
            .map(|candidate| candidate.content.clone())
            .collect();
        let core = &self.context.core;
        let vectors = vectors::of(&core.derived, &core.embedder, self.job.user, statements).await?;
        Ok(Found {
            candidates: candidates
                .into_iter()
                .zip(vectors.iter().map(|v| v.to_vec()))
                .collect(),
            left_out: left_out
                .into_iter()
                .map(|(reason, count)| (reason.to_owned(), count))
                .collect(),
            method,
            fallback: fallback.map(str::to_owned),
            metadata,
        })
    }

    /// Asks the LLM, twice at the most; the inner error is why it can't be used.
    async fn ask(&self, portion: &Portion) -> anyhow::Result<Result<Extracted, &'static str>> {
        self.let_the_reply_go_first().await?;
        let known = self.known_statements(portion).await?;
        let prompt = [
            PromptMessage {
                role: "system",
                content: extraction::instructions().to_owned(),
            },
            PromptMessage {
                role: "user",
                content: extraction::request(&portion.messages, &known),
            },
        ];
        let sampling = Sampling {
            temperature: 0.0,
            max_tokens: MAX_ANSWER_TOKENS,
        };
        let schema = json!({
            "type": "json_schema",
            "json_schema": { "name": "memories", "strict": true, "schema": extraction::schema() }
        });
        let mut reason = "";
        // Some servers know only one of the two formats.
        for format in [schema, json!({ "type": "json_object" })] {
            match self.try_once(&prompt, &sampling, format).await {
                Ok(answer) if answer.whole => {
                    match read_answer(&answer.text, &portion.messages, &known) {
                        Ok(extracted) => return Ok(Ok(extracted)),
                        Err(unusable) => reason = fallback_reason(Err(unusable)),
                    }
                }
                Ok(_) => reason = fallback_reason(Err(Unusable::CutOff)),
                Err(LlmFailure(failure)) => {
                    reason = fallback_reason(Ok(failure));
                    if matches!(
                        failure,
                        FailureReason::LlmUnavailable | FailureReason::LlmTimeout
                    ) {
                        break;
                    }
                }
            }
        }
        Ok(Err(reason))
    }

    async fn try_once(
        &self,
        prompt: &[PromptMessage],
        sampling: &Sampling,
        format: Value,
    ) -> Result<Answer, LlmFailure> {
        self.context
            .llm
            .complete(prompt, sampling, Some(format))
            .await
    }

    /// A local LLM serves one request at a time: while it talks to the user, extraction waits.
    async fn let_the_reply_go_first(&self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < self.context.core.config.llm_timeout
            && messages::is_replying(&self.context.core.derived, self.job.user).await?
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// The memories that the messages may speak of, for the LLM to say which ones they replace.
    async fn known_statements(&self, portion: &Portion) -> anyhow::Result<Vec<KnownStatement>> {
        let core = &self.context.core;
        let texts = portion
            .messages
            .iter()
            .map(|message| message.content.clone())
            .collect();
        let vectors = vectors::of(&core.derived, &core.embedder, self.job.user, texts).await?;
        let mut connection = core.derived.acquire().await?;
        let mut known: Vec<KnownStatement> = Vec::new();
        for (message, vector) in portion.messages.iter().zip(vectors) {
            let related = memories::related(
                &mut connection,
                self.job.user,
                &message.content,
                None,
                &vector,
                &[],
            );
            for memory in related.await? {
                if known.len() < MAX_KNOWN && known.iter().all(|other| other.id != memory.id) {
                    known.push(KnownStatement {
                        id: memory.id,
                        content: memory.content,
                    });
                }
            }
        }
        Ok(known)
    }

    async fn append(&self, life: Life, portion: &Portion, found: Found) -> anyhow::Result<()> {
        let core = &self.context.core;
        let stream = StreamId::memory(self.job.user);
        for _ in 0..TRIES {
            let (version, cursor) =
                memories::extraction_state(&core.derived, self.job.user, self.job.conversation)
                    .await?;
            if cursor != portion.after_version {
                // Somebody else has read some of these messages: begin again from there.
                return Ok(());
            }
            let decision = self.decide(&found).await?;
            let vectors = new_vectors(&found, &decision);
            let events = self.events(portion, &found, decision);
            match core
                .store
                .append_in(
                    life.clone(),
                    &stream,
                    self.job.user,
                    Expected::Version(version),
                    events,
                    None,
                )
                .await
            {
                Ok(appended) => {
                    vectors::keep(&core.derived, self.job.user, &vectors).await?;
                    if !portion.is_last {
                        // The next portion begins at the projected cursor.
                        self.wait_for_projection(appended.version).await?;
                    }
                    return Ok(());
                }
                Err(AppendError::Conflict { actual }) => self.wait_for_projection(actual).await?,
                // Erased in the meantime: there is nobody to remember anything about.
                Err(AppendError::NoUser) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        bail!("other extractions of this user went first {TRIES} times");
    }

    async fn decide(&self, found: &Found) -> anyhow::Result<Decision> {
        let mut connection = self.context.core.derived.acquire().await?;
        let mut known: Vec<Known> = Vec::new();
        for (candidate, vector) in &found.candidates {
            let subject = candidate.subject.as_deref();
            let related = memories::related(
                &mut connection,
                self.job.user,
                &candidate.content,
                subject,
                vector,
                &candidate.replaces,
            )
            .await?;
            for memory in related {
                if known.iter().all(|other| other.id != memory.id) {
                    known.push(memory);
                }
            }
        }
        Ok(consolidate(
            self.job.user,
            self.job.conversation,
            found.candidates.clone(),
            known,
        ))
    }

    fn events(
        &self,
        portion: &Portion,
        found: &Found,
        decision: Decision,
    ) -> Vec<(Event, Metadata)> {
        let mut left_out = found.left_out.clone();
        left_out.extend(
            decision
                .left_out
                .into_iter()
                .map(|(reason, count)| (reason.to_owned(), count)),
        );
        let completed = ExtractionCompleted {
            conversation_id: self.job.conversation,
            through_version: portion.through_version,
            method: found.method,
            fallback: found.fallback.clone(),
            found: u32::try_from(found.candidates.len()).unwrap_or(u32::MAX),
            left_out,
            silent: Vec::new(),
        };
        let events = decision.events.into_iter().chain([completed.into()]);
        events
            .map(|event| (event, found.metadata.clone()))
            .collect()
    }

    async fn wait_for_projection(&self, version: i64) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let (projected, _) = memories::extraction_state(
                &self.context.core.derived,
                self.job.user,
                self.job.conversation,
            )
            .await?;
            if projected >= version {
                return Ok(());
            }
            if begun.elapsed() > PROJECTED_WITHIN {
                return Err(Behind.into());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What the user said in an event that is to be read for facts.
fn said_messages(recorded: &Recorded, zone: Tz) -> Vec<SaidMessage> {
    match &recorded.event {
        Event::UserMessageReceived(event) => {
            let sent = event.timezone.as_deref().and_then(|zone| zone.parse().ok());
            vec![SaidMessage {
                id: event.message_id,
                content: event.content.clone(),
                at: recorded.recorded_at,
                zone: sent.unwrap_or(zone),
            }]
        }
        Event::MessagesImported(event) if event.extract => {
            let own = event.messages.iter().filter(|m| m.role == Role::User);
            own.map(|message| SaidMessage {
                id: message.message_id,
                content: message.content.clone(),
                at: message.created_at,
                zone,
            })
            .collect()
        }
        _ => Vec::new(),
    }
}

/// The vectors of the memories that are new, so that nobody has to make them again.
fn new_vectors(found: &Found, decision: &Decision) -> Vec<(Vec<u8>, Vector)> {
    let is_new = |content: &str| {
        let mut events = decision.events.iter();
        events.any(|event| matches!(event, Event::MemoryRecorded(new) if new.content == content))
    };
    let new = found
        .candidates
        .iter()
        .filter(|(candidate, _)| is_new(&candidate.content));
    new.map(|(candidate, vector)| (content_hash(&candidate.content), vector.as_slice().into()))
        .collect()
}
