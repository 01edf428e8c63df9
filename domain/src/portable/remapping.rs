//! Ids that are somebody else's are replaced where events are taken in: all of one id by the same other
//! one, so that what belongs together stays together.

use uuid::Uuid;

use super::{Place, PortableEvent};
use crate::events::Event;
use crate::ids::{ConversationId, MemoryId, MessageId, ReplyId, UserId, derived};
use crate::memory::Source;

/// The id that stands for another one where a user takes it in.
pub fn replacement(user: UserId, id: Uuid) -> Uuid {
    derived(&["import", &user.to_string(), &id.to_string()])
}

/// Every id of a conversation, message, reply or memory in an event.
pub fn ids(event: &PortableEvent) -> Vec<Uuid> {
    let mut found = Vec::new();
    visit(&mut event.clone(), &mut |id| found.push(*id));
    found
}

/// Puts other ids in their places, where `other` knows one.
pub fn remap(event: &mut PortableEvent, other: impl Fn(Uuid) -> Option<Uuid>) {
    visit(event, &mut |id| {
        if let Some(other) = other(*id) {
            *id = other;
        }
    });
}

fn visit(event: &mut PortableEvent, see: &mut impl FnMut(&mut Uuid)) {
    if let Place::Conversation(ConversationId(id)) = &mut event.place {
        see(id);
    }
    if let Some(id) = &mut event.notes.correlation_id {
        see(id);
    }
    match &mut event.event {
        Event::ConversationStarted(event) => see(&mut event.conversation_id.0),
        Event::UserMessageReceived(event) => {
            see(&mut event.message_id.0);
            see(&mut event.reply_id.0);
        }
        Event::ReplyRequested(event) => {
            see(&mut event.message_id.0);
            see(&mut event.reply_id.0);
        }
        Event::ReplyStarted(event) => {
            see(&mut event.reply_id.0);
            for memory in &mut event.recalled {
                see(&mut memory.memory_id.0);
            }
        }
        Event::ReplyCompleted(event) => {
            let ReplyId(id) = &mut event.reply_id;
            see(id);
        }
        Event::ReplyFailed(event) => see(&mut event.reply_id.0),
        Event::ReplyCancelled(event) => see(&mut event.reply_id.0),
        Event::MessagesImported(event) => {
            for message in &mut event.messages {
                let MessageId(id) = &mut message.message_id;
                see(id);
            }
        }
        Event::ConversationSummarised(event) => see(&mut event.through_message_id.0),
        Event::MemoryRecorded(event) => {
            let MemoryId(id) = &mut event.memory_id;
            see(id);
            sources(&mut event.sources, see);
        }
        Event::MemoryReinforced(event) => {
            see(&mut event.memory_id.0);
            sources(&mut event.sources, see);
        }
        Event::MemoryRevised(event) => {
            see(&mut event.memory_id.0);
            sources(&mut event.sources, see);
        }
        Event::MemorySuperseded(event) => {
            see(&mut event.memory_id.0);
            if let Some(by) = &mut event.superseded_by {
                see(&mut by.0);
            }
            sources(&mut event.sources, see);
        }
        Event::MemoryFaded(event) => see(&mut event.memory_id.0),
        Event::MemoriesRecalled(event) => {
            for used in &mut event.memories {
                see(&mut used.memory_id.0);
            }
        }
        Event::MemoryForgotten(event) => see(&mut event.memory_id.0),
        Event::MemoriesCleared(event) => {
            see(&mut event.conversation_id.0);
            let memories = event.forgotten.iter_mut().chain(&mut event.unsupported);
            memories.for_each(|memory| see(&mut memory.0));
        }
        Event::ExtractionCompleted(event) => see(&mut event.conversation_id.0),
        Event::ConversationRenamed(_)
        | Event::ConversationReset(_)
        | Event::ConversationDeleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => {}
    }
}

fn sources(sources: &mut [Source], see: &mut impl FnMut(&mut Uuid)) {
    for source in sources {
        see(&mut source.conversation_id.0);
        see(&mut source.message_id.0);
    }
}
