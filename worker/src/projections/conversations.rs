//! Conversations and their messages.

use companion_adapters::embedder::content_hash;
use companion_adapters::read_models::rows::{Conversation, Message};
use companion_adapters::read_models::{ReadModels, Touched};
use companion_domain::conversation::Role;
use companion_domain::events::{
    Event, FailureReason, MessagesImported, Recorded, ReplyStarted, UserMessageReceived,
};
use companion_domain::ids::{ConversationId, MemoryId, ReplyId};
use companion_domain::text;
use serde::Serialize;
use uuid::Uuid;

use super::Projection;

pub(super) const CONVERSATIONS: Projection = Projection {
    stamps: true,
    ..Projection::new(
        "conversations",
        &["conversations", "messages"],
        touch,
        apply,
    )
};

/// The most characters of a title made of a first message.
const TITLE: usize = 60;

fn touch(recorded: &Recorded, touched: &mut Touched) {
    let stays = matches!(
        &recorded.event,
        Event::ReplyStarted(_) | Event::ConversationReset(_) | Event::ConversationSummarised(_)
    );
    if let Some(conversation) = recorded.stream.as_conversation().filter(|_| !stays) {
        touched.conversations.insert(conversation.0);
    }
    match &recorded.event {
        Event::UserMessageReceived(event) => {
            touched.new_message(event.message_id.0);
            touched.new_message(event.reply_id.0);
        }
        Event::MessagesImported(event) => {
            for message in &event.messages {
                touched.new_message(message.message_id.0);
            }
        }
        Event::ReplyRequested(event) => touched.new_message(event.reply_id.0),
        Event::ReplyStarted(event) => touched.message(event.reply_id.0),
        Event::ReplyCompleted(event) => touched.message(event.reply_id.0),
        Event::ReplyFailed(event) => touched.message(event.reply_id.0),
        Event::ReplyCancelled(event) => touched.message(event.reply_id.0),
        _ => {}
    }
}

fn apply(recorded: &Recorded, models: &mut ReadModels) {
    if let Event::MemoriesCleared(event) = &recorded.event {
        let (conversation, through) = (event.conversation_id, event.through_version);
        return models.clear_messages(recorded.user, conversation, through);
    }
    let Some(conversation) = recorded.stream.as_conversation() else {
        return;
    };
    match &recorded.event {
        Event::ConversationStarted(event) => {
            begin(recorded, models, conversation, event.title.as_deref());
        }
        Event::UserMessageReceived(event) => receive(recorded, models, conversation, event),
        Event::MessagesImported(event) => import(recorded, models, conversation, event),
        Event::ReplyRequested(event) => {
            if let Some(found) = moved(recorded, models, conversation) {
                found.updated_at = recorded.recorded_at;
                found.message_count += 1;
                let reply = running(recorded, conversation, event.reply_id, event.lease);
                models.say(reply);
            }
        }
        Event::ReplyStarted(event) => start_reply(recorded, models, event),
        Event::ReplyCompleted(event) => {
            let end = ("completed", None);
            end_reply(recorded, models, event.reply_id, &event.content, end);
        }
        Event::ReplyFailed(event) => {
            let status = match event.reason {
                FailureReason::ServiceStopping => "interrupted",
                _ => "failed",
            };
            let end = (status, Some(event.reason.code()));
            end_reply(recorded, models, event.reply_id, &event.partial, end);
        }
        Event::ReplyCancelled(event) => {
            let end = ("cancelled", None);
            end_reply(recorded, models, event.reply_id, &event.partial, end);
        }
        Event::ConversationRenamed(event) => {
            if let Some(found) = moved(recorded, models, conversation) {
                found.updated_at = recorded.recorded_at;
                found.title = Some(event.title.clone());
            }
        }
        // It and its messages are gone, and what was only needed to find them.
        Event::ConversationDeleted(_) => {
            models.delete_messages(recorded.user, conversation);
            models.conversations.remove(conversation.0);
        }
        // The buffer's.
        Event::ConversationReset(_) | Event::ConversationSummarised(_) => {}
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
        | Event::ApiKeyRevoked(_) => {}
    }
}

/// The conversation, at the version of an event that it has not seen; `None` when it has, or is gone.
fn moved<'m>(
    recorded: &Recorded,
    models: &'m mut ReadModels,
    conversation: ConversationId,
) -> Option<&'m mut Conversation> {
    let known = models.conversations.get(conversation.0)?;
    if known.version >= recorded.version {
        return None;
    }
    let found = models.conversations.change(conversation.0)?;
    found.version = recorded.version;
    Some(found)
}

fn begin(
    recorded: &Recorded,
    models: &mut ReadModels,
    conversation: ConversationId,
    title: Option<&str>,
) {
    if models.conversations.get(conversation.0).is_none() {
        models.conversations.put(Conversation {
            conversation_id: conversation.0,
            user_id: recorded.user.0,
            title: title.map(str::to_owned),
            created_at: recorded.recorded_at,
            updated_at: recorded.recorded_at,
            message_count: 0,
            version: recorded.version,
        });
    }
}

fn receive(
    recorded: &Recorded,
    models: &mut ReadModels,
    conversation: ConversationId,
    event: &UserMessageReceived,
) {
    let Some(found) = moved(recorded, models, conversation) else {
        return;
    };
    found.updated_at = recorded.recorded_at;
    found.message_count += 2;
    found
        .title
        .get_or_insert_with(|| text::excerpt(&event.content, TITLE));
    let hash = content_hash(&event.content);
    let stamp = models.search_version(recorded.user);
    models.say(Message {
        role: Role::User.as_str().to_owned(),
        content: event.content.clone(),
        content_hash: Some(hash),
        search_version: stamp,
        ..message(recorded, conversation, event.message_id.0)
    });
    models.say(running(recorded, conversation, event.reply_id, event.lease));
}

/// A message without text yet.
fn message(recorded: &Recorded, conversation: ConversationId, id: Uuid) -> Message {
    Message {
        message_id: id,
        conversation_id: conversation.0,
        user_id: recorded.user.0,
        version: recorded.version,
        role: String::new(),
        name: None,
        content: String::new(),
        content_hash: None,
        created_at: recorded.recorded_at,
        external_id: None,
        reply_status: None,
        recalled: None,
        lease: None,
        ordinal: 0,
        recorded_at: recorded.recorded_at,
        searchable: true,
        failure: None,
        search_version: 0,
    }
}

/// A reply that is waited for: it is running from now on.
fn running(
    recorded: &Recorded,
    conversation: ConversationId,
    reply: ReplyId,
    lease: Uuid,
) -> Message {
    Message {
        role: Role::Assistant.as_str().to_owned(),
        reply_status: Some("running".to_owned()),
        lease: Some(lease),
        ordinal: 1,
        ..message(recorded, conversation, reply.0)
    }
}

fn import(
    recorded: &Recorded,
    models: &mut ReadModels,
    conversation: ConversationId,
    event: &MessagesImported,
) {
    let Some(found) = moved(recorded, models, conversation) else {
        return;
    };
    let times = || event.messages.iter().map(|message| message.created_at);
    let (first, last) = (times().min(), times().max());
    let last = last.unwrap_or(recorded.recorded_at);
    found.created_at = found.created_at.min(first.unwrap_or(recorded.recorded_at));
    found.updated_at = match found.message_count {
        0 => last,
        _ => found.updated_at.max(last),
    };
    found.message_count += i64::try_from(event.messages.len()).unwrap_or(i64::MAX);
    if found.title.is_none() {
        let first_words = event.messages.iter().find(|m| m.role == Role::User);
        found.title = first_words.map(|message| text::excerpt(&message.content, TITLE));
    }
    let stamp = models.search_version(recorded.user);
    for (ordinal, said) in (0..).zip(&event.messages) {
        models.say(Message {
            role: said.role.as_str().to_owned(),
            name: said.name.clone(),
            content: said.content.clone(),
            content_hash: Some(content_hash(&said.content)),
            created_at: said.created_at,
            external_id: said.external_id.clone(),
            ordinal,
            search_version: stamp,
            ..message(recorded, conversation, said.message_id.0)
        });
    }
}

/// How well a memory answered a message, as it is kept with the reply.
#[derive(Serialize)]
struct Score {
    memory_id: MemoryId,
    score: f64,
    similarity: f64,
}

/// Takes in what the LLM was asked with.
fn start_reply(recorded: &Recorded, models: &mut ReadModels, event: &ReplyStarted) {
    if let Some(reply) = models.messages.change(event.reply_id.0)
        && reply.user_id == recorded.user.0
    {
        // The texts of the memories stay out: the table is not to keep what is forgotten later. Numbers
        // are kept as they are written: read again, the last digit of one might be another.
        let scores = event.recalled.iter().map(|memory| Score {
            memory_id: memory.memory_id,
            score: memory.score,
            similarity: memory.similarity,
        });
        let scores: Vec<Score> = scores.collect();
        reply.recalled = serde_json::to_string(&scores).ok();
    }
}

fn end_reply(
    recorded: &Recorded,
    models: &mut ReadModels,
    id: ReplyId,
    content: &str,
    (status, failure): (&str, Option<&str>),
) {
    let stamp = models.search_version(recorded.user);
    let runs = |reply: &Message| {
        reply.user_id == recorded.user.0 && reply.reply_status.as_deref() == Some("running")
    };
    if !models.messages.get(id.0).is_some_and(runs) {
        return;
    }
    let Some(reply) = models.messages.change(id.0) else {
        return;
    };
    reply.content = content.to_owned();
    reply.content_hash = (!content.is_empty()).then(|| content_hash(content));
    reply.reply_status = Some(status.to_owned());
    reply.failure = failure.map(str::to_owned);
    reply.created_at = recorded.recorded_at;
    reply.recorded_at = recorded.recorded_at;
    reply.lease = None;
    reply.search_version = stamp;
    let conversation = ConversationId(reply.conversation_id);
    if let Some(found) = moved(recorded, models, conversation) {
        found.updated_at = recorded.recorded_at;
    }
}
