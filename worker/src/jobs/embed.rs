//! Makes the vectors of what was said, unless they are there.

use std::collections::BTreeMap;

use companion_adapters::embedder::content_hash;
use companion_adapters::log::event_store::AppendError;
use companion_adapters::queue::{self, EmbedJob};
use companion_adapters::vectors;
use companion_domain::ids::StreamId;

use super::{Context, Job};
use crate::relay::embedded_texts;

impl Job for EmbedJob {
    const QUEUE: &'static str = queue::EMBED;

    fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    async fn perform(&self, context: &Context, _attempt: usize) -> anyhow::Result<()> {
        let core = &context.core;
        // Before anything is read: what an erased user said leaves no vectors with who begins anew.
        let life = match core.store.life(self.user).await {
            Err(AppendError::NoUser) => return Ok(()),
            life => life?,
        };
        let mut by_stream: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
        for (stream, version) in &self.events {
            by_stream.entry(stream).or_default().push(*version);
        }
        let mut texts: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        for (stream, versions) in by_stream {
            let events = core
                .store
                .read_versions(&StreamId::stored(stream.to_owned()), &versions)
                .await?;
            texts.extend(
                events
                    .iter()
                    .flat_map(|r| embedded_texts(&r.event))
                    .map(|text| (content_hash(&text), text)),
            );
        }
        let hashes: Vec<Vec<u8>> = texts.keys().cloned().collect();
        for known in vectors::known(&core.derived, self.user, &hashes).await? {
            texts.remove(&known);
        }
        let (hashes, texts): (Vec<_>, Vec<_>) = texts.into_iter().unzip();
        let made = core.embedder.embed(texts).await?;
        let made: Vec<_> = hashes.into_iter().zip(made).collect();
        vectors::keep(&core.derived, self.user, &life, &made).await?;
        Ok(())
    }
}
