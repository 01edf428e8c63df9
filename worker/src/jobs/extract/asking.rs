//! Asks the LLM what messages state: with a schema, then for any JSON, and no more.

use std::sync::atomic::Ordering;

use companion_adapters::llm::{Answer, LlmFailure, Sampling};
use companion_adapters::{memories, vectors};
use companion_domain::consolidation::{Known, cosine};
use companion_domain::events::FailureReason;
use companion_domain::extraction::{
    self, Extracted, KnownStatement, SaidMessage, Unusable, fallback_reason, read_answer,
};
use companion_domain::prompt::PromptMessage;
use serde_json::{Value, json};

use super::Extraction;

/// How many known memories the LLM is told.
const MAX_KNOWN: usize = 20;
/// The most tokens of the LLM's answer.
const MAX_ANSWER_TOKENS: u32 = 1_500;

/// Why the LLM's answers are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoUse {
    /// There was none.
    Failed(FailureReason),
    /// They make no sense.
    Unusable(Unusable),
}

impl NoUse {
    /// The stable name, as it is stored.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Failed(reason) => fallback_reason(Ok(reason)),
            Self::Unusable(unusable) => fallback_reason(Err(unusable)),
        }
    }

    /// Whether asking anything else would end in the same way.
    fn is_away(self) -> bool {
        matches!(
            self,
            Self::Failed(FailureReason::LlmUnavailable | FailureReason::LlmTimeout)
        )
    }
}

impl Extraction<'_> {
    /// Asks the LLM, twice at the most; the inner error is why it is of no use.
    pub(super) async fn ask(
        &self,
        messages: &[SaidMessage],
    ) -> anyhow::Result<Result<Extracted, NoUse>> {
        if self.llm_is_away.load(Ordering::Relaxed) {
            return Ok(Err(NoUse::Failed(FailureReason::LlmUnavailable)));
        }
        let known = self.known_statements(messages).await?;
        self.context.let_the_reply_go_first(self.job.user).await?;
        // A local LLM serves few requests at a time; reading, patterns and appending need none.
        let _slot = self.context.llm_slots.acquire().await?;
        let prompt = [
            PromptMessage {
                role: "system",
                content: extraction::instructions().to_owned(),
            },
            PromptMessage {
                role: "user",
                content: extraction::request(messages, &known),
            },
        ];
        let schema = json!({
            "type": "json_schema",
            "json_schema": { "name": "memories", "strict": true, "schema": extraction::schema() }
        });
        let mut reason = NoUse::Unusable(Unusable::NotJson);
        // Some servers know only one of the two formats.
        for format in [schema, json!({ "type": "json_object" })] {
            match self.try_once(&prompt, MAX_ANSWER_TOKENS, format).await {
                Ok(answer) if answer.whole => match read_answer(&answer.text, messages, &known) {
                    Ok(extracted) => return Ok(Ok(extracted)),
                    Err(unusable) => reason = NoUse::Unusable(unusable),
                },
                Ok(_) => reason = NoUse::Unusable(Unusable::CutOff),
                Err(LlmFailure(failure)) => reason = NoUse::Failed(failure),
            }
            if reason.is_away() {
                self.llm_is_away.store(true, Ordering::Relaxed);
                break;
            }
        }
        Ok(Err(reason))
    }

    /// Whether the LLM answers anything at all now. If it does, a message that it always fails at is
    /// at fault, and not the LLM.
    pub(super) async fn llm_answers(&self) -> anyhow::Result<bool> {
        let _slot = self.context.llm_slots.acquire().await?;
        let prompt = [PromptMessage {
            role: "user",
            content: "Answer with the word yes.".to_owned(),
        }];
        let format = json!({ "type": "text" });
        Ok(self.try_once(&prompt, 5, format).await.is_ok())
    }

    async fn try_once(
        &self,
        prompt: &[PromptMessage],
        max_tokens: u32,
        format: Value,
    ) -> Result<Answer, LlmFailure> {
        let sampling = Sampling {
            temperature: 0.0,
            max_tokens,
        };
        self.context
            .llm
            .complete(prompt, &sampling, Some(format))
            .await
    }

    /// The memories that the messages may speak of, for the LLM to say which ones they replace.
    async fn known_statements(
        &self,
        messages: &[SaidMessage],
    ) -> anyhow::Result<Vec<KnownStatement>> {
        let core = &self.context.core;
        let texts = messages
            .iter()
            .map(|message| message.content.clone())
            .collect();
        let vectors = vectors::of(&core.derived, &core.embedder, self.job.user, texts).await?;
        let mut connection = core.derived.acquire().await?;
        let about: Vec<memories::About<'_>> = messages
            .iter()
            .zip(&vectors)
            .map(|(message, vector)| memories::About {
                statement: &message.content,
                subject: None,
                vector,
                and: &[],
            })
            .collect();
        let related = memories::related(&mut connection, self.job.user, &about).await?;
        // Those that come nearest to any of the messages, should there be too many.
        let nearness = |known: &Known| {
            let near = vectors.iter().map(|vector| cosine(vector, &known.vector));
            near.fold(0.0f64, f64::max)
        };
        let mut known: Vec<(f64, Known)> = related
            .into_iter()
            .filter(|known| !known.closed)
            .map(|known| (nearness(&known), known))
            .collect();
        known.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        known.truncate(MAX_KNOWN);
        Ok(known
            .into_iter()
            .map(|(_, known)| KnownStatement {
                id: known.id,
                content: known.content,
            })
            .collect())
    }
}
