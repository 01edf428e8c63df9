//! Conversations and their messages.

use companion_adapters::messages;
use companion_domain::events::{Event, Recorded};
use sqlx::PgConnection;

pub(super) async fn project(
    transaction: &mut PgConnection,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
    if let Event::MemoriesCleared(event) = &recorded.event {
        return messages::clear(transaction, recorded.user, event).await;
    }
    let Some(conversation) = recorded.stream.as_conversation() else {
        return Ok(());
    };
    match &recorded.event {
        Event::ConversationStarted(event) => {
            messages::begin(transaction, recorded, conversation, event.title.as_deref()).await
        }
        Event::UserMessageReceived(event) => {
            messages::receive(transaction, recorded, conversation, event).await
        }
        Event::MessagesImported(event) => {
            messages::import(transaction, recorded, conversation, event).await
        }
        Event::ReplyRequested(event) => {
            messages::request_reply(transaction, recorded, conversation, event).await
        }
        Event::ReplyStarted(event) => messages::start_reply(transaction, recorded, event).await,
        Event::ReplyCompleted(event) => {
            messages::complete_reply(transaction, recorded, event).await
        }
        Event::ReplyFailed(event) => messages::fail_reply(transaction, recorded, event).await,
        Event::ReplyCancelled(event) => messages::cancel_reply(transaction, recorded, event).await,
        Event::ConversationRenamed(event) => {
            messages::rename(transaction, recorded, conversation, &event.title).await
        }
        Event::ConversationDeleted(_) => {
            messages::delete(transaction, recorded.user, conversation).await
        }
        // The buffer's.
        Event::ConversationReset(_) | Event::ConversationSummarised(_) => Ok(()),
        // Those of other streams.
        Event::MemoryRecorded(_)
        | Event::MemoryReinforced(_)
        | Event::MemoryRevised(_)
        | Event::MemorySuperseded(_)
        | Event::MemoryForgotten(_)
        | Event::MemoriesCleared(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => Ok(()),
    }
}
