//! Conversations and their messages.

use companion_adapters::messages;
use companion_domain::events::{Event, Recorded};
use sqlx::PgConnection;

pub(super) async fn project(
    transaction: &mut PgConnection,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
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
        Event::ReplyStarted(event) => messages::start_reply(transaction, recorded, event).await,
        Event::ReplyCompleted(event) => {
            messages::complete_reply(transaction, recorded, event).await
        }
        Event::ReplyFailed(event) => messages::fail_reply(transaction, recorded, event).await,
        Event::MemoryRecorded(_)
        | Event::MemoryReinforced(_)
        | Event::MemorySuperseded(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_) => Ok(()),
    }
}
