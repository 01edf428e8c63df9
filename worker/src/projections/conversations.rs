//! Conversations and their messages.

use companion_adapters::messages::projection;
use companion_domain::events::{Event, Recorded};
use sqlx::PgConnection;

pub(super) async fn project(
    transaction: &mut PgConnection,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
    if let Event::MemoriesCleared(event) = &recorded.event {
        return projection::clear(transaction, recorded.user, event).await;
    }
    let Some(conversation) = recorded.stream.as_conversation() else {
        return Ok(());
    };
    match &recorded.event {
        Event::ConversationStarted(event) => {
            projection::begin(transaction, recorded, conversation, event.title.as_deref()).await
        }
        Event::UserMessageReceived(event) => {
            projection::receive(transaction, recorded, conversation, event).await
        }
        Event::MessagesImported(event) => {
            projection::import(transaction, recorded, conversation, event).await
        }
        Event::ReplyRequested(event) => {
            projection::request_reply(transaction, recorded, conversation, event).await
        }
        Event::ReplyStarted(event) => projection::start_reply(transaction, recorded, event).await,
        Event::ReplyCompleted(event) => {
            projection::complete_reply(transaction, recorded, event).await
        }
        Event::ReplyFailed(event) => projection::fail_reply(transaction, recorded, event).await,
        Event::ReplyCancelled(event) => {
            projection::cancel_reply(transaction, recorded, event).await
        }
        Event::ConversationRenamed(event) => {
            projection::rename(transaction, recorded, conversation, &event.title).await
        }
        Event::ConversationDeleted(_) => {
            projection::delete(transaction, recorded.user, conversation).await
        }
        // The buffer's.
        Event::ConversationReset(_) | Event::ConversationSummarised(_) => Ok(()),
        // Those of other streams.
        Event::MemoryRecorded(_)
        | Event::MemoryReinforced(_)
        | Event::MemoryRevised(_)
        | Event::MemorySuperseded(_)
        | Event::MemoryFaded(_)
        | Event::MemoriesRecalled(_)
        | Event::MemoryForgotten(_)
        | Event::MemoriesCleared(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => Ok(()),
    }
}
