//! Puts a conversation in short, portion by portion: on demand and when its buffer overflows.
//!
//! Each portion is appended by itself, so that what was done stays done. The append expects the version
//! at which the conversation was looked at, and the summary that it went on from: a reset wins over a
//! summary that is being made, and of two summaries at once one is kept.

use companion_domain::conversation::{Conversation, Message, Refusal, Summary};
use companion_domain::events::{FailureReason, Metadata};
use companion_domain::ids::{ConversationId, MessageId, StreamId, UserId};
use companion_domain::summary::{self, Portion};
use serde_json::{Value, json};

use crate::core::Core;
use crate::llm::{Llm, LlmFailure, Sampling};
use crate::log::event_store::{AppendError, Expected, Life, ReadError};
use crate::messages;

/// How cautious the LLM is to be: a summary is no place for ideas.
const TEMPERATURE: f64 = 0.2;

/// Why there is no summary.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The LLM gave none.
    #[error(transparent)]
    Llm(#[from] LlmFailure),
    /// The conversation can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The summary can't be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// There is no such conversation, or not any more.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// A conversation that is being put in short, with all its messages at hand.
pub struct Summariser<'a> {
    core: &'a Core,
    llm: &'a Llm,
    user: UserId,
    conversation: ConversationId,
    life: Life,
    state: Conversation,
    /// The user's time zone.
    zone: chrono_tz::Tz,
    /// What was made of the beginning of a message that is too long for one prompt.
    notes: Option<String>,
}

impl<'a> Summariser<'a> {
    /// Reads the conversation of a user.
    ///
    /// # Errors
    /// [`SummaryError::Refused`] when it is not there or another user's; when the log can't be read.
    pub async fn open(
        core: &'a Core,
        llm: &'a Llm,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Self, SummaryError> {
        // Before anything is read: what is read in one life is not to be written into the next.
        let life = core.store.life(user).await?;
        let mut summariser = Self {
            core,
            llm,
            user,
            conversation,
            life,
            state: Conversation::default(),
            zone: messages::timezone(&core.derived, user).await?,
            notes: None,
        };
        summariser.read_on().await?;
        summariser.state.of_user(user)?;
        Ok(summariser)
    }

    /// The conversation as it was when it was last looked at.
    pub fn state(&self) -> &Conversation {
        &self.state
    }

    /// Cuts messages into portions that the LLM's context holds.
    pub fn portions(&self, messages: &[Message]) -> Vec<Portion> {
        let context = self.core.config.llm_context_tokens;
        let budget = context.saturating_sub(self.sampling().max_tokens);
        summary::portions(messages, budget as usize, self.zone)
    }

    /// Extends the summary by the next portion and appends it; `false` when the conversation was reset,
    /// deleted or summarised by others meanwhile, so that it is not what it was.
    ///
    /// # Errors
    /// [`SummaryError::Llm`] when the LLM gives none; when the log can't be used.
    pub async fn take_in(&mut self, portion: &Portion) -> Result<bool, SummaryError> {
        let (text, usage) = self.ask(portion).await?;
        let Some(through) = portion.through else {
            self.notes = Some(text);
            return Ok(true);
        };
        self.notes = None;
        self.append(text, through, usage).await
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: TEMPERATURE,
            max_tokens: summary::MAX_TOKENS.min(self.core.config.llm_max_tokens),
        }
    }

    /// Asks the LLM; once more for a shorter one when the first was cut off.
    async fn ask(&self, portion: &Portion) -> Result<(String, Option<Value>), SummaryError> {
        let former = self
            .state
            .summary
            .as_ref()
            .map(|summary| summary.text.as_str());
        let notes = self.notes.as_deref().or(former);
        let sampling = self.sampling();
        let prompt = summary::prompt(notes, portion, summary::WORDS);
        let mut answer = self.llm.complete(&prompt, &sampling, None).await?;
        if !answer.whole {
            let prompt = summary::prompt(notes, portion, summary::WORDS / 2);
            answer = self.llm.complete(&prompt, &sampling, None).await?;
            if !answer.whole {
                tracing::info!("a summary was cut off twice; it ends with its last whole sentence");
            }
        }
        let text = summary::read_answer(&answer.text, answer.whole);
        let text = text.ok_or(LlmFailure(FailureReason::LlmInvalid))?;
        Ok((text, answer.usage))
    }

    /// Appends the summary, whatever was said meanwhile.
    async fn append(
        &mut self,
        text: String,
        through: MessageId,
        usage: Option<Value>,
    ) -> Result<bool, SummaryError> {
        let former: Option<Summary> = self.state.summary.clone();
        let sampling = self.sampling();
        let metadata = Metadata {
            prompt_id: Some(summary::PROMPT_ID.to_owned()),
            prompt_hash: Some(summary::template_hash()),
            model: Some(self.llm.model().to_owned()),
            parameters: Some(
                json!({ "temperature": sampling.temperature, "max_tokens": sampling.max_tokens }),
            ),
            usage,
            ..Metadata::default()
        };
        let stream = StreamId::conversation(self.conversation);
        loop {
            self.read_on().await?;
            let decided = self
                .state
                .summarise(self.user, former.as_ref(), text.clone(), through);
            let event = match decided {
                Ok(event) => event,
                Err(Refusal::MovedOn) => return Ok(false),
                Err(refusal) => return Err(refusal.into()),
            };
            let expected = Expected::Version(self.state.version);
            let events = vec![(event, metadata.clone())];
            let (life, store) = (self.life.clone(), &self.core.store);
            match store
                .append_in(life, &stream, self.user, expected, events, None)
                .await
            {
                Ok(_) => break,
                Err(AppendError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.read_on().await?;
        Ok(true)
    }

    /// Brings the state, which keeps every message, up to date with the log.
    async fn read_on(&mut self) -> Result<(), ReadError> {
        let stream = StreamId::conversation(self.conversation);
        let tail = self
            .core
            .store
            .read_stream(&stream, self.state.version)
            .await?;
        for recorded in tail {
            self.state.evolve(&recorded, usize::MAX);
        }
        Ok(())
    }
}
