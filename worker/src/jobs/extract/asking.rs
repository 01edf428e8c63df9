//! Asks the LLM what messages state, told what is known already.

use std::sync::atomic::Ordering;

use companion_adapters::extractor::{self, NoUse};
use companion_adapters::llm::Sampling;
use companion_adapters::{memories, vectors};
use companion_domain::consolidation::{Known, cosine};
use companion_domain::events::FailureReason;
use companion_domain::extraction::{Extracted, KnownStatement, SaidMessage, instructions};
use companion_domain::prompt::PromptMessage;
use serde_json::json;

use super::Extraction;

/// How many known memories the LLM is told.
const MAX_KNOWN: usize = 20;

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
        let asked = extractor::ask(&self.context.llm, instructions(), messages, &known).await;
        if asked.as_ref().is_err_and(|reason| reason.is_away()) {
            self.llm_is_away.store(true, Ordering::Relaxed);
        }
        Ok(asked)
    }

    /// Whether the LLM answers anything at all now. If it does, a message that it always fails at is
    /// at fault, and not the LLM.
    pub(super) async fn llm_answers(&self) -> anyhow::Result<bool> {
        let _slot = self.context.llm_slots.acquire().await?;
        let prompt = [PromptMessage {
            role: "user",
            content: "Answer with the word yes.".to_owned(),
        }];
        let sampling = Sampling {
            temperature: 0.0,
            max_tokens: 5,
        };
        let format = json!({ "type": "text" });
        let answer = self.context.llm.complete(&prompt, &sampling, Some(format));
        Ok(answer.await.is_ok())
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
