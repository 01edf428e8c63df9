//! The short-term buffers, ahead of the next request.

use companion_adapters::buffer::Buffer;
use companion_domain::events::Recorded;
use companion_domain::ids::ConversationId;

pub(super) async fn project(buffer: &Buffer, events: &[Recorded]) {
    let mut by_conversation: Vec<(ConversationId, Vec<&Recorded>)> = Vec::new();
    for recorded in events {
        let Some(conversation) = recorded.stream.as_conversation() else {
            continue;
        };
        match by_conversation
            .iter_mut()
            .find(|(id, _)| *id == conversation)
        {
            Some((_, events)) => events.push(recorded),
            None => by_conversation.push((conversation, vec![recorded])),
        }
    }
    for (conversation, events) in by_conversation {
        buffer.project(conversation, &events).await;
    }
}
