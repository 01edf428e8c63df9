//! Memories, what they were before, and how far conversations have been read for them.

use companion_adapters::embedder::content_hash;
use companion_adapters::memories::form_hash;
use companion_adapters::read_models::rows::{ExtractionCursor, Memory, MemoryEvent, MemoryStream};
use companion_adapters::read_models::{ReadModels, Touched};
use companion_domain::events::{Event, MemoriesCleared, MemoryRecorded, MemoryRevised, Recorded};
use companion_domain::ids::{ConversationId, MemoryId, UserId};
use companion_domain::memory::{Source, add_sources};
use sqlx::types::Json;
use uuid::Uuid;

use super::Projection;

pub(super) const MEMORIES: Projection = Projection {
    stamps: true,
    ..Projection::new("memories", TABLES, touch, apply)
};

const TABLES: &[&str] = &[
    "memories",
    "past_memories",
    "memory_events",
    "memory_streams",
    "extraction_cursors",
];

fn touch(recorded: &Recorded, touched: &mut Touched) {
    match &recorded.event {
        Event::MemoryRecorded(event) => touched.new_memory(event.memory_id.0),
        Event::MemoryReinforced(event) => touched.memory(event.memory_id.0),
        Event::MemoryRevised(event) => touched.memory(event.memory_id.0),
        Event::MemorySuperseded(event) => touched.memory(event.memory_id.0),
        Event::MemoryFaded(event) => touched.memory(event.memory_id.0),
        Event::MemoriesRecalled(event) => {
            for used in &event.memories {
                touched.memory(used.memory_id.0);
            }
        }
        Event::MemoryForgotten(event) => touched.memory(event.memory_id.0),
        Event::MemoriesCleared(event) => {
            for memory in &event.unsupported {
                touched.memory(memory.0);
            }
            let conversation = event.conversation_id;
            touched.extraction_cursors.insert(conversation.0);
        }
        Event::ExtractionCompleted(event) => {
            let conversation = event.conversation_id;
            touched.extraction_cursors.insert(conversation.0);
        }
        _ => return,
    }
    touched.memory_streams.insert(recorded.user.0);
}

fn apply(recorded: &Recorded, models: &mut ReadModels) {
    match &recorded.event {
        Event::MemoryRecorded(event) => record(recorded, models, event),
        Event::MemoryReinforced(event) => {
            if let Some(memory) = changed(recorded, models, event.memory_id) {
                revive(memory);
                add_sources(&mut memory.sources, &event.sources);
                memory.told_at = memory.told_at.max(event.reinforced_at);
                memory.last_reinforced_at = memory.last_reinforced_at.max(event.reinforced_at);
            }
        }
        Event::MemoryRevised(event) => revise(recorded, models, event),
        Event::MemorySuperseded(event) => {
            if let Some(memory) = changed(recorded, models, event.memory_id) {
                memory.state = "superseded".to_owned();
                memory.superseded_by = event.superseded_by.map(|id| id.0);
                memory.valid_to = Some(event.valid_to);
            }
        }
        // It stays where search looks: who tells it again is to find it.
        Event::MemoryFaded(event) => {
            let known = models.memories.get(event.memory_id.0);
            if known.is_some_and(|memory| memory.state == "live")
                && let Some(memory) = changed(recorded, models, event.memory_id)
            {
                memory.state = "faded".to_owned();
            }
        }
        // Their version moves, as it does with every event of their history: what was believed at a time
        // goes by it.
        Event::MemoriesRecalled(event) => {
            for used in &event.memories {
                if let Some(memory) = changed(recorded, models, used.memory_id) {
                    memory.last_reinforced_at = memory.last_reinforced_at.max(used.last_at);
                }
            }
        }
        Event::MemoryForgotten(event) => {
            models.forget_memories(recorded.user, &[event.memory_id.0]);
        }
        Event::MemoriesCleared(event) => clear(recorded, models, event),
        Event::ExtractionCompleted(event) => {
            let (conversation, through) = (event.conversation_id, event.through_version);
            move_cursor(recorded.user, models, conversation, through);
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
        | Event::ApiKeyRevoked(_) => return,
    }
    move_stream(recorded.user, models, recorded.version);
}

fn record(recorded: &Recorded, models: &mut ReadModels, event: &MemoryRecorded) {
    if models.memories.get(event.memory_id.0).is_some() {
        return;
    }
    let mut sources: Vec<Source> = Vec::new();
    add_sources(&mut sources, &event.sources);
    // What lies ahead matters until it is there. Of what is past and told only now, the telling counts:
    // what the user writes down with its time was told then.
    let matters_until = event
        .occurred_at
        .map_or(event.told_at, |at| at.max(event.told_at));
    models.memories.put(Memory {
        memory_id: event.memory_id.0,
        user_id: recorded.user.0,
        content: event.content.clone(),
        content_hash: content_hash(&event.content),
        kind: event.kind.as_str().to_owned(),
        state: "live".to_owned(),
        importance: event.importance,
        explicit: event.explicit,
        subject: event.subject.clone(),
        sources: Json(sources),
        occurred_at: event.occurred_at,
        valid_from: event.valid_from,
        valid_to: None,
        superseded_by: None,
        told_at: event.told_at,
        last_reinforced_at: matters_until,
        created_at: recorded.recorded_at,
        updated_at: recorded.recorded_at,
        version: recorded.version,
        search_version: models.search_version(recorded.user),
        form_hash: form_hash(&event.content),
    });
    note_event(recorded, models, event.memory_id.0);
}

/// A memory at the version of an event that is about to change it; what it was until then is kept.
/// `None` when it has seen the event, or is gone.
fn changed<'m>(
    recorded: &Recorded,
    models: &'m mut ReadModels,
    id: MemoryId,
) -> Option<&'m mut Memory> {
    let stamp = models.search_version(recorded.user);
    let known = models.memories.get(id.0);
    let known = known.filter(|memory| memory.user_id == recorded.user.0)?;
    if known.version >= recorded.version {
        return None;
    }
    models.past_memories.put(known.until(recorded.recorded_at));
    note_event(recorded, models, id.0);
    let memory = models.memories.change(id.0)?;
    memory.updated_at = recorded.recorded_at;
    memory.version = recorded.version;
    memory.search_version = stamp;
    Some(memory)
}

fn revise(recorded: &Recorded, models: &mut ReadModels, event: &MemoryRevised) {
    let Some(memory) = changed(recorded, models, event.memory_id) else {
        return;
    };
    revive(memory);
    if let Some(content) = &event.content {
        memory.content.clone_from(content);
        memory.content_hash = content_hash(content);
        memory.form_hash = form_hash(content);
        memory.subject.clone_from(&event.subject);
    }
    if let Some(kind) = event.kind {
        memory.kind = kind.as_str().to_owned();
    }
    memory.importance = event.importance.unwrap_or(memory.importance);
    memory.explicit = event.explicit.unwrap_or(memory.explicit);
    memory.occurred_at = event.occurred_at.or(memory.occurred_at);
    add_sources(&mut memory.sources, &event.sources);
    memory.told_at = memory.told_at.max(event.revised_at);
    memory.last_reinforced_at = memory.last_reinforced_at.max(event.revised_at);
}

/// What is told or corrected is live, also when it had faded.
fn revive(memory: &mut Memory) {
    if memory.state == "faded" {
        memory.state = "live".to_owned();
    }
}

/// What rested on a conversation alone is forgotten; what others support too loses these sources, in all
/// that it ever was.
fn clear(recorded: &Recorded, models: &mut ReadModels, event: &MemoriesCleared) {
    let (user, from) = (recorded.user, event.conversation_id);
    let ids = |memories: &[MemoryId]| memories.iter().map(|id| id.0).collect::<Vec<Uuid>>();
    models.forget_memories(user, &ids(&event.forgotten));
    for id in &event.unsupported {
        if let Some(memory) = changed(recorded, models, *id) {
            memory
                .sources
                .retain(|source| source.conversation_id != from);
        }
    }
    models.unsupport_past(user, &ids(&event.unsupported), from);
    move_cursor(user, models, from, event.through_version);
}

/// Notes that an event touched a memory.
fn note_event(recorded: &Recorded, models: &mut ReadModels, memory: Uuid) {
    models.memory_events.put(MemoryEvent {
        memory_id: memory,
        version: recorded.version,
        user_id: recorded.user.0,
    });
}

/// Notes how far a user's memory stream has been projected.
fn move_stream(user: UserId, models: &mut ReadModels, version: i64) {
    let known = models.memory_streams.get(user.0);
    if known.is_none_or(|stream| stream.version < version) {
        models.memory_streams.put(MemoryStream {
            user_id: user.0,
            version,
        });
    }
}

/// Notes how far a conversation has been read for facts.
fn move_cursor(
    user: UserId,
    models: &mut ReadModels,
    conversation: ConversationId,
    through_version: i64,
) {
    let known = models.extraction_cursors.get(conversation.0);
    if known.is_none_or(|cursor| cursor.through_version < through_version) {
        models.extraction_cursors.put(ExtractionCursor {
            conversation_id: conversation.0,
            user_id: user.0,
            through_version,
        });
    }
}
