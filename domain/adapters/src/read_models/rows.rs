//! The tables of the read models, and what their rows hold. The migrations make them; a copy of them is
//! made like them.

use chrono::{DateTime, Utc};
use companion_domain::memory::Source;
use sqlx::types::Json;
use uuid::Uuid;

use super::table::table;

table! {
    /// A user.
    User in "users" {
        user_id: Uuid as "uuid";
        external_id: Option<String> as "text",
        timezone: Option<String> as "text",
    }
}

table! {
    /// A key for programs.
    ApiKey in "api_keys" {
        key_id: Uuid as "uuid";
        user_id: Uuid as "uuid",
        name: String as "text",
        secret_hash: String as "text",
        created_at: DateTime<Utc> as "timestamptz",
        revoked_at: Option<DateTime<Utc>> as "timestamptz",
    }
}

table! {
    /// A conversation.
    Conversation in "conversations" {
        conversation_id: Uuid as "uuid";
        user_id: Uuid as "uuid",
        title: Option<String> as "text",
        created_at: DateTime<Utc> as "timestamptz",
        updated_at: DateTime<Utc> as "timestamptz",
        message_count: i64 as "bigint",
        version: i64 as "bigint",
    }
}

table! {
    /// A message. The assistant's message of a reply exists from the moment the user's message is
    /// there: running.
    Message in "messages" {
        message_id: Uuid as "uuid";
        conversation_id: Uuid as "uuid",
        user_id: Uuid as "uuid",
        version: i64 as "bigint",
        role: String as "text",
        name: Option<String> as "text",
        content: String as "text",
        content_hash: Option<Vec<u8>> as "bytea",
        created_at: DateTime<Utc> as "timestamptz",
        external_id: Option<String> as "text",
        reply_status: Option<String> as "text",
        recalled: Option<String> as "text",
        lease: Option<Uuid> as "uuid",
        ordinal: i32 as "integer",
        recorded_at: DateTime<Utc> as "timestamptz",
        searchable: bool as "boolean",
        failure: Option<String> as "text",
        search_version: i64 as "bigint",
    }
}

table! {
    /// A memory.
    Memory in "memories" {
        memory_id: Uuid as "uuid";
        user_id: Uuid as "uuid",
        content: String as "text",
        content_hash: Vec<u8> as "bytea",
        kind: String as "text",
        state: String as "text",
        importance: f64 as "double precision",
        explicit: bool as "boolean",
        subject: Option<String> as "text",
        sources: Json<Vec<Source>> as "jsonb",
        occurred_at: Option<DateTime<Utc>> as "timestamptz",
        valid_from: DateTime<Utc> as "timestamptz",
        valid_to: Option<DateTime<Utc>> as "timestamptz",
        superseded_by: Option<Uuid> as "uuid",
        last_reinforced_at: DateTime<Utc> as "timestamptz",
        created_at: DateTime<Utc> as "timestamptz",
        updated_at: DateTime<Utc> as "timestamptz",
        version: i64 as "bigint",
        told_at: DateTime<Utc> as "timestamptz",
        search_version: i64 as "bigint",
        form_hash: Vec<u8> as "bytea",
    }
}

table! {
    /// What a memory was before it changed: believed from `updated_at` until `until`.
    PastMemory in "past_memories" {
        memory_id: Uuid as "uuid", version: i64 as "bigint";
        user_id: Uuid as "uuid",
        content: String as "text",
        content_hash: Vec<u8> as "bytea",
        kind: String as "text",
        state: String as "text",
        importance: f64 as "double precision",
        explicit: bool as "boolean",
        subject: Option<String> as "text",
        sources: Json<Vec<Source>> as "jsonb",
        occurred_at: Option<DateTime<Utc>> as "timestamptz",
        valid_from: DateTime<Utc> as "timestamptz",
        valid_to: Option<DateTime<Utc>> as "timestamptz",
        superseded_by: Option<Uuid> as "uuid",
        last_reinforced_at: DateTime<Utc> as "timestamptz",
        created_at: DateTime<Utc> as "timestamptz",
        updated_at: DateTime<Utc> as "timestamptz",
        until: DateTime<Utc> as "timestamptz",
        told_at: DateTime<Utc> as "timestamptz",
    }
}

impl Memory {
    /// What this memory was until then.
    pub fn until(&self, until: DateTime<Utc>) -> PastMemory {
        let memory = self.clone();
        PastMemory {
            memory_id: memory.memory_id,
            version: memory.version,
            user_id: memory.user_id,
            content: memory.content,
            content_hash: memory.content_hash,
            kind: memory.kind,
            state: memory.state,
            importance: memory.importance,
            explicit: memory.explicit,
            subject: memory.subject,
            sources: memory.sources,
            occurred_at: memory.occurred_at,
            valid_from: memory.valid_from,
            valid_to: memory.valid_to,
            superseded_by: memory.superseded_by,
            told_at: memory.told_at,
            last_reinforced_at: memory.last_reinforced_at,
            created_at: memory.created_at,
            updated_at: memory.updated_at,
            until,
        }
    }
}

table! {
    /// That an event of the user's memory stream touched a memory.
    MemoryEvent in "memory_events" {
        memory_id: Uuid as "uuid", version: i64 as "bigint";
        user_id: Uuid as "uuid",
    }
}

table! {
    /// How far the memories of a user have been projected: the version of their memory stream.
    MemoryStream in "memory_streams" {
        user_id: Uuid as "uuid";
        version: i64 as "bigint",
    }
}

table! {
    /// How far a conversation has been read for facts.
    ExtractionCursor in "extraction_cursors" {
        conversation_id: Uuid as "uuid";
        user_id: Uuid as "uuid",
        through_version: i64 as "bigint",
    }
}

table! {
    /// How often what can be found of a user has changed, and the change that last took something away.
    SearchState in "search_state" {
        user_id: Uuid as "uuid";
        version: i64 as "bigint",
        cleared: i64 as "bigint",
    }
}
