//! Finds what a portion's messages state: the LLM, patterns where it is silent or absent.

use std::collections::BTreeMap;

use anyhow::bail;
use companion_adapters::config::ExtractionMode;
use companion_adapters::extractor::NoUse;
use companion_adapters::queue::MAX_ATTEMPTS;
use companion_adapters::vectors;
use companion_domain::events::{ExtractionMethod, Metadata};
use companion_domain::extraction::{self, Candidate, Extracted, SaidMessage, by_patterns};
use companion_domain::ids::MessageId;

use super::Extraction;
use super::reading::Portion;

/// What was found in a portion, and how.
#[derive(Default)]
pub(super) struct Found {
    /// What may become memories, each with the vector of its statement.
    pub(super) candidates: Vec<(Candidate, Vec<f32>)>,
    /// What was found and not believed: reason and count.
    pub(super) left_out: BTreeMap<&'static str, u32>,
    /// Messages that gave nothing: reason and count.
    pub(super) silent: BTreeMap<String, u32>,
    /// Who found it.
    pub(super) method: Option<ExtractionMethod>,
    /// Why patterns stood in for the LLM, if they did.
    pub(super) fallback: Option<&'static str>,
    /// Why messages were given up, if some were.
    pub(super) given_up: Option<&'static str>,
    /// The messages that were given up.
    unread: Vec<MessageId>,
    /// What goes with each event that comes of it.
    pub(super) metadata: Metadata,
}

impl Extraction<'_> {
    pub(super) async fn find(&self, portion: &Portion) -> anyhow::Result<Found> {
        let core = &self.context.core;
        let mut found = Found {
            metadata: Metadata {
                correlation_id: portion.messages.last().map(|message| message.id.0),
                embedding_model: Some(core.config.embedding_model.clone()),
                ..Metadata::default()
            },
            ..Found::default()
        };
        let messages = &portion.messages;
        let extracted = match core.config.extraction_mode {
            _ if messages.is_empty() => Extracted::default(),
            ExtractionMode::Heuristic => {
                found.method = Some(ExtractionMethod::Heuristic);
                by_patterns(messages)
            }
            ExtractionMode::Hybrid => self.by_llm_or_patterns(messages, &mut found).await?,
            ExtractionMode::Llm => self.by_llm_alone(messages, &mut found).await?,
        };
        if found.method == Some(ExtractionMethod::Llm) {
            found.metadata.prompt_id = Some(extraction::PROMPT_ID.to_owned());
            found.metadata.prompt_hash = Some(extraction::template_hash());
            found.metadata.model = Some(self.context.llm.model().to_owned());
        }
        let read: Vec<SaidMessage> = messages
            .iter()
            .filter(|message| !found.unread.contains(&message.id))
            .cloned()
            .collect();
        for (reason, count) in extraction::silent(&read, &extracted) {
            *found.silent.entry(reason.to_owned()).or_default() += count;
        }
        found.left_out = extracted.left_out;
        let statements = extracted
            .candidates
            .iter()
            .map(|candidate| candidate.content.clone())
            .collect();
        let vectors = vectors::of(&core.derived, &core.embedder, self.job.user, statements).await?;
        found.candidates = extracted
            .candidates
            .into_iter()
            .zip(vectors.iter().map(|v| v.to_vec()))
            .collect();
        Ok(found)
    }

    async fn by_llm_or_patterns(
        &self,
        messages: &[SaidMessage],
        found: &mut Found,
    ) -> anyhow::Result<Extracted> {
        let (answered, why) = match self.ask(messages).await? {
            Ok(answered) => (answered, "nothing_found"),
            Err(no_use) => (Extracted::default(), no_use.code()),
        };
        if answered.candidates.is_empty() {
            found.method = Some(ExtractionMethod::Heuristic);
            found.fallback = Some(why);
        } else {
            found.method = Some(ExtractionMethod::Llm);
        }
        Ok(extraction::completed(answered, messages))
    }

    /// In `llm` mode a failing job is tried again, in ever smaller pieces. When that has been in vain,
    /// the messages that are at fault are given up, so that they are not in the way of later ones.
    async fn by_llm_alone(
        &self,
        messages: &[SaidMessage],
        found: &mut Found,
    ) -> anyhow::Result<Extracted> {
        found.method = Some(ExtractionMethod::Llm);
        let last_try = i32::try_from(self.attempt).is_ok_and(|attempt| attempt >= MAX_ATTEMPTS);
        let mut extracted = Extracted::default();
        for piece in messages.chunks(self.asked_together()) {
            match self.ask(piece).await? {
                Ok(answered) => extracted.add(answered),
                Err(no_use) => {
                    let at_fault = match no_use {
                        NoUse::Unusable(_) => true,
                        NoUse::Failed(_) => last_try && self.llm_answers().await?,
                    };
                    if !(last_try && at_fault) {
                        bail!("the LLM gave no facts: {}", no_use.code());
                    }
                    let reason = no_use.code();
                    found.given_up = Some(reason);
                    found.unread.extend(piece.iter().map(|message| message.id));
                    let count = u32::try_from(piece.len()).unwrap_or(u32::MAX);
                    *found
                        .silent
                        .entry(format!("given up: {reason}"))
                        .or_default() += count;
                }
            }
        }
        Ok(extraction::marked(extracted, messages))
    }
}
