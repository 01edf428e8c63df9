//! Memories, and how far conversations have been read for them.

use companion_adapters::memories::projection;
use companion_domain::events::{Event, Recorded};
use sqlx::PgConnection;

pub(super) async fn project(
    transaction: &mut PgConnection,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
    match &recorded.event {
        Event::MemoryRecorded(event) => projection::record(transaction, recorded, event).await?,
        Event::MemoryReinforced(event) => {
            projection::reinforce(transaction, recorded, event).await?
        }
        Event::MemoryRevised(event) => projection::revise(transaction, recorded, event).await?,
        Event::MemorySuperseded(event) => {
            projection::supersede(transaction, recorded, event).await?
        }
        Event::MemoryFaded(event) => projection::fade(transaction, recorded, event).await?,
        Event::MemoriesRecalled(event) => projection::reuse(transaction, recorded, event).await?,
        Event::MemoryForgotten(event) => projection::forget(transaction, recorded, event).await?,
        Event::MemoriesCleared(event) => projection::clear(transaction, recorded, event).await?,
        Event::ExtractionCompleted(event) => {
            let through = event.through_version;
            projection::move_cursor(transaction, recorded.user, event.conversation_id, through)
                .await?;
        }
        // Those of other streams.
        Event::ConversationStarted(_)
        | Event::UserMessageReceived(_)
        | Event::MessagesImported(_)
        | Event::ReplyRequested(_)
        | Event::ReplyStarted(_)
        | Event::ReplyCompleted(_)
        | Event::ReplyFailed(_)
        | Event::ReplyCancelled(_)
        | Event::ConversationRenamed(_)
        | Event::ConversationReset(_)
        | Event::ConversationSummarised(_)
        | Event::ConversationDeleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => return Ok(()),
    }
    projection::move_stream(transaction, recorded.user, recorded.version).await
}
