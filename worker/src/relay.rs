//! Turns events into jobs, in one transaction with its checkpoint: no event without its jobs, no
//! job twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use companion_adapters::core::Core;
use companion_adapters::embedder::{content_hash, message_text};
use companion_adapters::queue::{self, EmbedJob, ExtractJob, NewJob};
use companion_adapters::subscription::{Page, RELAY};
use companion_adapters::vectors;
use companion_domain::conversation::Role;
use companion_domain::events::{Event, Recorded};
use companion_domain::ids::UserId;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::jobs::Bell;
use crate::subscription::{self, Subscriber};

/// How many events one embedding job takes.
const EMBED_TOGETHER: usize = 32;
/// How often the waiting jobs are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Relays until shutdown.
pub(crate) async fn run(core: Core, bell: Bell, shutdown: CancellationToken) {
    let subscriber = Relay {
        core: core.clone(),
        bell,
        paused: None,
    };
    subscription::run(core, subscriber, shutdown).await;
}

struct Relay {
    core: Core,
    bell: Bell,
    /// Whether too many jobs waited when they were last counted.
    paused: Option<(Instant, bool)>,
}

impl Subscriber for Relay {
    const NAME: &'static str = RELAY;

    async fn handle(&mut self, transaction: &mut PgConnection, page: &Page) -> anyhow::Result<()> {
        let mut jobs = self.embed_jobs(transaction, &page.events).await?;
        for recorded in &page.events {
            jobs.extend(self.extract_job(recorded)?);
        }
        queue::insert(transaction, &jobs).await?;
        Ok(())
    }

    async fn committed(&mut self, _page: &Page) {
        self.bell.ring();
    }

    async fn paused(&mut self) -> anyhow::Result<bool> {
        match self.paused {
            Some((at, paused)) if at.elapsed() < COUNT_EVERY => Ok(paused),
            _ => {
                let paused = queue::pending(&self.core.derived).await? >= queue::MAX_PENDING;
                self.paused = Some((Instant::now(), paused));
                Ok(paused)
            }
        }
    }
}

impl Relay {
    /// When a reply has ended, the turn is read for facts, once the conversation has been quiet.
    fn extract_job(&self, recorded: &Recorded) -> anyhow::Result<Option<NewJob>> {
        if !matches!(
            recorded.event,
            Event::ReplyCompleted(_) | Event::ReplyFailed(_)
        ) {
            return Ok(None);
        }
        let Some(conversation) = recorded.stream.as_conversation() else {
            return Ok(None);
        };
        let job = ExtractJob {
            user: recorded.user,
            conversation,
            through_version: recorded.version,
            traceparent: recorded.metadata.traceparent.clone(),
        };
        Ok(Some(NewJob {
            queue: queue::EXTRACT,
            payload: serde_json::to_vec(&job)?,
            key: format!("{}:extract:1", recorded.id),
            run_at: recorded.recorded_at + self.core.config.extraction_delay,
        }))
    }

    /// What was said is embedded, as many events of a user together as the page holds, unless the
    /// vectors are there already.
    async fn embed_jobs(
        &self,
        transaction: &mut PgConnection,
        events: &[Recorded],
    ) -> anyhow::Result<Vec<NewJob>> {
        let mut by_user: BTreeMap<UserId, Vec<(&Recorded, Vec<u8>)>> = BTreeMap::new();
        for recorded in events {
            if let Some(text) = embedded_text(&recorded.event) {
                by_user
                    .entry(recorded.user)
                    .or_default()
                    .push((recorded, content_hash(&text)));
            }
        }
        let mut jobs = Vec::new();
        for (user, mut said) in by_user {
            let hashes: Vec<Vec<u8>> = said.iter().map(|(_, hash)| hash.clone()).collect();
            let known = vectors::known(&mut *transaction, user, &hashes).await?;
            said.retain(|(_, hash)| !known.contains(hash));
            for together in said.chunks(EMBED_TOGETHER) {
                let Some((first, _)) = together.first() else {
                    continue;
                };
                let job = EmbedJob {
                    user,
                    events: together
                        .iter()
                        .map(|(r, _)| (r.stream.as_str().to_owned(), r.version))
                        .collect(),
                    traceparent: first.metadata.traceparent.clone(),
                };
                jobs.push(NewJob {
                    queue: queue::EMBED,
                    payload: serde_json::to_vec(&job)?,
                    key: format!("{}:embed:1", first.id),
                    run_at: first.recorded_at,
                });
            }
        }
        Ok(jobs)
    }
}

/// The text of an event that is to be found by its meaning.
pub(crate) fn embedded_text(event: &Event) -> Option<String> {
    let text = match event {
        Event::UserMessageReceived(event) => message_text(Role::User, None, &event.content),
        Event::ReplyCompleted(event) => message_text(Role::Assistant, None, &event.content),
        Event::ReplyFailed(event) => message_text(Role::Assistant, None, &event.partial),
        Event::MemoryRecorded(event) => event.content.clone(),
        Event::ConversationStarted(_)
        | Event::ReplyStarted(_)
        | Event::MemoryReinforced(_)
        | Event::MemorySuperseded(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}
