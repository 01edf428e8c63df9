//! What happened to a memory, from the log.

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::memories;
use companion_domain::events::{Event, Recorded};
use companion_domain::ids::{MemoryId, StreamId, UserId};
use companion_domain::memory::Source;
use poem_openapi::Object;

use crate::error::Problem;
use crate::queries::memory_view::{ExternalIds, SourceView};

/// What happened to a memory, oldest first.
#[derive(Debug, Object)]
pub(crate) struct HistoryList {
    history: Vec<HistoryEntry>,
}

/// An event that touched a memory.
#[derive(Debug, Object)]
pub(crate) struct HistoryEntry {
    /// The name of the event, for example `MemoryRecorded`.
    event: String,
    /// When it was recorded.
    at: DateTime<Utc>,
    /// Why it happened.
    reason: String,
    /// The messages that say so, without those that were cleared.
    sources: Vec<SourceView>,
    /// The prompt that the LLM was asked with, if it was.
    prompt: Option<String>,
    /// The model that was asked, if one was.
    model: Option<String>,
    /// The version of the memory since then.
    version: i64,
}

/// The history of a memory of this user.
pub(crate) async fn of(
    core: &Core,
    user: UserId,
    memory: MemoryId,
) -> Result<HistoryList, Problem> {
    let versions = memories::history(&core.pool, user, memory).await?;
    let stream = StreamId::memory(user);
    let events = core.store.read_versions(&stream, &versions).await?;
    let sources = events.iter().flat_map(|recorded| told(&recorded.event).1);
    let external = ExternalIds::of(core, user, sources).await?;
    let entry = |recorded: &Recorded| {
        let (reason, sources) = told(&recorded.event);
        let sources = sources.iter().filter(|source| external.knows(source));
        HistoryEntry {
            event: recorded.event.type_name().to_owned(),
            at: recorded.recorded_at,
            reason: reason.to_owned(),
            sources: sources.map(|source| external.view(source)).collect(),
            prompt: recorded.metadata.prompt_id.clone(),
            model: recorded.metadata.model.clone(),
            version: recorded.version,
        }
    };
    Ok(HistoryList {
        history: events.iter().map(entry).collect(),
    })
}

/// Why an event happened, and the messages it goes back to.
fn told(event: &Event) -> (&str, &[Source]) {
    match event {
        Event::MemoryRecorded(event) => (&event.reason, &event.sources),
        Event::MemoryReinforced(event) => (&event.reason, &event.sources),
        Event::MemorySuperseded(event) => (&event.reason, &event.sources),
        Event::MemoryRevised(event) => (&event.reason, &event.sources),
        Event::MemoryFaded(_) => ("its importance has sunk below the floor", &[]),
        Event::MemoriesRecalled(_) => ("replies made use of it", &[]),
        Event::MemoryForgotten(_) => ("the user asked to forget it", &[]),
        Event::MemoriesCleared(_) => (
            "the user cleared one of the conversations that it came from",
            &[],
        ),
        // They touch no memory.
        Event::ConversationStarted(_)
        | Event::UserMessageReceived(_)
        | Event::ReplyStarted(_)
        | Event::ReplyCompleted(_)
        | Event::ReplyFailed(_)
        | Event::ReplyCancelled(_)
        | Event::ReplyRequested(_)
        | Event::MessagesImported(_)
        | Event::ConversationRenamed(_)
        | Event::ConversationReset(_)
        | Event::ConversationSummarised(_)
        | Event::ConversationDeleted(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => ("", &[]),
    }
}
