//! Weighs what was found against what is known, and appends what follows.

use anyhow::bail;
use companion_adapters::embedder::{Vector, content_hash};
use companion_adapters::log::event_store::{AppendError, Expected, Life};
use companion_adapters::{memories, vectors};
use companion_domain::consolidation::{Decision, consolidate, memory_id};
use companion_domain::events::{Event, ExtractionCompleted, ExtractionMethod, Metadata};
use companion_domain::ids::{MemoryId, StreamId};

use super::Extraction;
use super::finding::Found;
use super::reading::Portion;

/// How often an append is tried against a moving memory stream.
const TRIES: usize = 10;

impl Extraction<'_> {
    /// Whether what was found could be appended; otherwise somebody else has read some of the messages,
    /// and what is left is to be read from there.
    pub(super) async fn append(
        &self,
        life: Life,
        portion: &Portion,
        found: Found,
    ) -> anyhow::Result<bool> {
        let core = &self.context.core;
        let stream = StreamId::memory(self.job.user);
        for _ in 0..TRIES {
            let (version, cursor) =
                memories::extraction_state(&core.derived, self.job.user, self.job.conversation)
                    .await?;
            if cursor != portion.after_version {
                return Ok(false);
            }
            let decision = self.decide(&found).await?;
            let vectors = new_vectors(&found, &decision);
            let events = self.events(portion, &found, decision);
            let expected = Expected::Version(version);
            let appended = core
                .store
                .append_in(life.clone(), &stream, self.job.user, expected, events, None)
                .await;
            match appended {
                Ok(_) => {
                    vectors::keep(&core.derived, self.job.user, &life, &vectors).await?;
                    return Ok(true);
                }
                Err(AppendError::Conflict { actual }) => self.wait_for_projection(actual).await?,
                // Erased in the meantime: there is nobody to remember anything about.
                Err(AppendError::NoUser) => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
        bail!("other extractions of this user went first {TRIES} times");
    }

    async fn decide(&self, found: &Found) -> anyhow::Result<Decision> {
        let mut connection = self.context.core.derived.acquire().await?;
        let named: Vec<Vec<MemoryId>> = found
            .candidates
            .iter()
            .map(|(candidate, _)| {
                let own = memory_id(self.job.user, candidate);
                candidate.replaces.iter().copied().chain([own]).collect()
            })
            .collect();
        let about: Vec<memories::About<'_>> = found
            .candidates
            .iter()
            .zip(&named)
            .map(|((candidate, vector), and)| memories::About {
                statement: &candidate.content,
                subject: candidate.subject.as_deref(),
                vector,
                and,
            })
            .collect();
        let known = memories::related(&mut connection, self.job.user, &about).await?;
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
        for (reason, count) in decision.left_out {
            *left_out.entry(reason).or_default() += count;
        }
        let left_out = left_out
            .into_iter()
            .map(|(reason, count)| (reason.to_owned(), count));
        let completed = ExtractionCompleted {
            conversation_id: self.job.conversation,
            through_version: portion.through_version,
            method: found.method.unwrap_or(ExtractionMethod::None),
            fallback: found.fallback.map(str::to_owned),
            found: u32::try_from(found.candidates.len()).unwrap_or(u32::MAX),
            left_out: left_out.collect(),
            silent: found.silent.clone().into_iter().collect(),
        };
        // What patterns found names no prompt and no model.
        let by_patterns = Metadata {
            prompt_id: None,
            prompt_hash: None,
            model: None,
            ..found.metadata.clone()
        };
        let metadata = |of: usize| match found.candidates.get(of) {
            Some((candidate, _)) if candidate.by_patterns => by_patterns.clone(),
            _ => found.metadata.clone(),
        };
        let mut events: Vec<(Event, Metadata)> = decision
            .events
            .into_iter()
            .zip(decision.of)
            .map(|(event, of)| (event, metadata(of)))
            .collect();
        events.push((completed.into(), found.metadata.clone()));
        events
    }
}

/// The vectors of the statements that are new, so that nobody has to make them again.
fn new_vectors(found: &Found, decision: &Decision) -> Vec<(Vec<u8>, Vector)> {
    let is_new = |content: &str| {
        decision.events.iter().any(|event| match event {
            Event::MemoryRecorded(new) => new.content == content,
            Event::MemoryRevised(new) => new.content.as_deref() == Some(content),
            _ => false,
        })
    };
    let new = found
        .candidates
        .iter()
        .filter(|(candidate, _)| is_new(&candidate.content));
    new.map(|(candidate, vector)| (content_hash(&candidate.content), vector.as_slice().into()))
        .collect()
}
