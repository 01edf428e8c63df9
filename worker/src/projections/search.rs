//! Which events change what can be found of a user: each counts as one change.

use companion_adapters::search_state::{self, Change};
use companion_domain::events::{Event, Recorded};
use sqlx::PgConnection;

/// Counts the change of an event, before the rows that it changes are stamped with it.
pub(super) async fn project(
    transaction: &mut PgConnection,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
    match change(&recorded.event) {
        Some(change) => search_state::advance(transaction, recorded.user, change).await,
        None => Ok(()),
    }
}

fn change(event: &Event) -> Option<Change> {
    match event {
        Event::UserMessageReceived(_)
        | Event::MessagesImported(_)
        | Event::ReplyCompleted(_)
        | Event::ReplyFailed(_)
        | Event::ReplyCancelled(_)
        | Event::MemoryRecorded(_)
        | Event::MemoryReinforced(_)
        | Event::MemoryRevised(_)
        | Event::MemorySuperseded(_)
        | Event::MemoryFaded(_)
        | Event::MemoriesRecalled(_) => Some(Change::Changed),
        Event::ConversationDeleted(_) | Event::MemoryForgotten(_) | Event::MemoriesCleared(_) => {
            Some(Change::Removed)
        }
        Event::ConversationStarted(_)
        | Event::ReplyRequested(_)
        | Event::ReplyStarted(_)
        | Event::ConversationRenamed(_)
        | Event::ConversationReset(_)
        | Event::ConversationSummarised(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => None,
    }
}
