//! Turns events into jobs, in one transaction with its checkpoint: no event without its jobs, no
//! job twice.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use companion_adapters::core::Core;
use companion_adapters::embedder::content_hash;
use companion_adapters::log::subscription::{Page, RELAY};
use companion_adapters::queue::{self, EmbedJob, ExtractJob, NewJob, SummariseJob};
use companion_adapters::vectors;
use companion_domain::conversation::Conversation;
use companion_domain::events::{Event, Recorded};
use companion_domain::ids::{ConversationId, UserId};
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::jobs::Bell;
use crate::subscription::{self, Subscriber};

/// How many texts one embedding job takes, unless one event has more.
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

/// What was said, with the hashes of its texts.
type Said<'a> = (&'a Recorded, Vec<Vec<u8>>);

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
        // A job reads all that is there: of those of one conversation the last one does for all.
        let mut extract: BTreeMap<&str, NewJob> = BTreeMap::new();
        for recorded in &page.events {
            if let Some(job) = self.extract_job(recorded)? {
                extract.insert(recorded.stream.as_str(), job);
            }
        }
        jobs.extend(extract.into_values());
        jobs.extend(self.summarise_jobs(&page.events).await?);
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
        // What was found in an imported turn came along with it.
        if recorded.metadata.imported_at.is_some() {
            return Ok(None);
        }
        let delay = match &recorded.event {
            Event::ReplyCompleted(_) | Event::ReplyFailed(_) | Event::ReplyCancelled(_) => {
                self.core.config.extraction_delay
            }
            Event::MessagesImported(event) if event.extract => Duration::ZERO,
            _ => return Ok(None),
        };
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
            run_at: recorded.recorded_at + delay,
        }))
    }

    /// When a turn has ended and messages have left the buffer, they are put in short. An imported one
    /// waits for the next turn.
    async fn summarise_jobs(&self, events: &[Recorded]) -> anyhow::Result<Vec<NewJob>> {
        let mut ended: BTreeMap<ConversationId, &Recorded> = BTreeMap::new();
        for recorded in events {
            if let Event::ReplyCompleted(_) | Event::ReplyFailed(_) | Event::ReplyCancelled(_) =
                recorded.event
                && recorded.metadata.imported_at.is_none()
                && let Some(conversation) = recorded.stream.as_conversation()
            {
                ended.insert(conversation, recorded);
            }
        }
        let mut jobs = Vec::new();
        for (conversation, recorded) in ended {
            if !self.may_overflow(conversation, recorded, events).await {
                continue;
            }
            let job = SummariseJob {
                user: recorded.user,
                conversation,
                traceparent: recorded.metadata.traceparent.clone(),
            };
            jobs.push(NewJob {
                queue: queue::SUMMARISE,
                payload: serde_json::to_vec(&job)?,
                key: format!("{}:summarise:1", recorded.id),
                run_at: recorded.recorded_at + self.core.config.extraction_delay,
            });
        }
        Ok(jobs)
    }

    /// Whether messages may have left the buffer of a conversation by the end of a turn. A buffer that is
    /// not there, or too far behind, can't tell; the job will see.
    async fn may_overflow(
        &self,
        conversation: ConversationId,
        ended: &Recorded,
        events: &[Recorded],
    ) -> bool {
        let config = &self.core.config;
        // A conversation that has just begun is in these events from its first on.
        let buffered = self.core.buffer.peek(conversation).await;
        let mut state = Conversation::clone(&buffered.unwrap_or_default());
        for recorded in events {
            if recorded.stream == ended.stream && recorded.version == state.version + 1 {
                state.evolve(recorded, config.short_term_memory_size);
            }
        }
        let (keep, tokens) = (config.short_term_memory_size, config.history_budget());
        state.version < ended.version || !state.overflow(keep, tokens).is_empty()
    }

    /// What was said is embedded, as many events of a user together as the page holds, unless the
    /// vectors are there already.
    async fn embed_jobs(
        &self,
        transaction: &mut PgConnection,
        events: &[Recorded],
    ) -> anyhow::Result<Vec<NewJob>> {
        let mut by_user: BTreeMap<UserId, Vec<Said<'_>>> = BTreeMap::new();
        for recorded in events {
            let texts = embedded_texts(&recorded.event);
            if !texts.is_empty() {
                let hashes = texts.iter().map(|text| content_hash(text)).collect();
                by_user
                    .entry(recorded.user)
                    .or_default()
                    .push((recorded, hashes));
            }
        }
        let mut jobs = Vec::new();
        for (user, mut said) in by_user {
            let hashes: Vec<Vec<u8>> = said.iter().flat_map(|(_, hashes)| hashes.clone()).collect();
            let known = vectors::known(&mut *transaction, user, &hashes).await?;
            for (_, hashes) in &mut said {
                hashes.retain(|hash| !known.contains(hash));
            }
            said.retain(|(_, hashes)| !hashes.is_empty());
            let mut said = said.into_iter().peekable();
            while let Some((first, hashes)) = said.next() {
                let (mut together, mut texts) = (vec![first], hashes.len());
                while let Some((next, hashes)) =
                    said.next_if(|(_, hashes)| texts + hashes.len() <= EMBED_TOGETHER)
                {
                    together.push(next);
                    texts += hashes.len();
                }
                let job = EmbedJob {
                    user,
                    events: together
                        .iter()
                        .map(|r| (r.stream.as_str().to_owned(), r.version))
                        .collect(),
                    traceparent: first.metadata.traceparent.clone(),
                };
                jobs.push(NewJob {
                    queue: queue::EMBED,
                    payload: serde_json::to_vec(&job)?,
                    key: format!("{}:embed:1", first.id),
                    run_at: first.arrived_at(),
                });
            }
        }
        Ok(jobs)
    }
}

/// The texts of an event that are to be found by their meaning.
pub(crate) fn embedded_texts(event: &Event) -> Vec<String> {
    let text = match event {
        Event::UserMessageReceived(event) => event.content.clone(),
        Event::MessagesImported(event) => {
            return event.messages.iter().map(|m| m.content.clone()).collect();
        }
        Event::ReplyCompleted(event) => event.content.clone(),
        Event::ReplyFailed(event) => event.partial.clone(),
        Event::ReplyCancelled(event) => event.partial.clone(),
        Event::MemoryRecorded(event) => event.content.clone(),
        Event::MemoryRevised(event) => event.content.clone().unwrap_or_default(),
        Event::ConversationStarted(_)
        | Event::ReplyStarted(_)
        | Event::ReplyRequested(_)
        | Event::ConversationRenamed(_)
        | Event::ConversationReset(_)
        | Event::ConversationSummarised(_)
        | Event::ConversationDeleted(_)
        | Event::MemoryReinforced(_)
        | Event::MemorySuperseded(_)
        | Event::MemoryFaded(_)
        | Event::MemoriesRecalled(_)
        | Event::MemoryForgotten(_)
        | Event::MemoriesCleared(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => return Vec::new(),
    };
    if text.is_empty() {
        Vec::new()
    } else {
        vec![text]
    }
}
