-- API keys, erasures, imports, corrections, and the past states of memories.

-- The read models get columns that only the log can fill: they are emptied, and built again from its
-- beginning when a worker starts.
TRUNCATE read.users, read.conversations, read.messages, read.memories, read.memory_streams,
    read.extraction_cursors, read.terms, read.corpus_sizes;
DELETE FROM checkpoints WHERE subscription = 'read_models';

-- Users who were erased: what was issued to them before is not accepted any more. Outlives the
-- user's key and events.
CREATE TABLE erasures (
    user_id   uuid PRIMARY KEY,
    erased_at timestamptz NOT NULL DEFAULT now()
);

-- When a key was last used, to the minute. Not worth an event, and not worth rebuilding.
CREATE TABLE api_key_uses (
    key_id       uuid PRIMARY KEY,
    last_used_at timestamptz NOT NULL
);

-- Keys to forget after a day.
CREATE INDEX idempotency_by_age ON idempotency (created_at);

CREATE TABLE read.api_keys (
    key_id      uuid PRIMARY KEY,
    user_id     uuid NOT NULL,
    name        text NOT NULL,
    secret_hash text NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz
);
CREATE INDEX api_keys_by_user ON read.api_keys (user_id, created_at);

CREATE INDEX conversations_by_change ON read.conversations (updated_at);

-- One event may hold many messages: `ordinal` is a message's place in it. `recorded_at` is when the
-- service learned of a message, `created_at` when it was said. A message that is not `searchable`
-- was cleared by the user: it stays in its conversation and is found nowhere else.
ALTER TABLE read.messages
    ADD COLUMN ordinal     integer NOT NULL,
    ADD COLUMN recorded_at timestamptz NOT NULL,
    ADD COLUMN searchable  boolean NOT NULL DEFAULT true,
    ADD COLUMN failure     text;
DROP INDEX read.messages_in_order;
CREATE UNIQUE INDEX messages_in_order ON read.messages (conversation_id, version, ordinal);

-- What a memory was before it changed: believed from `updated_at` until `until`.
CREATE TABLE read.past_memories (
    LIKE read.memories,
    until timestamptz NOT NULL,
    PRIMARY KEY (memory_id, version)
);
CREATE INDEX past_memories_by_user ON read.past_memories (user_id, until);

-- Which events of the user's memory stream touched a memory.
CREATE TABLE read.memory_events (
    memory_id uuid NOT NULL,
    version   bigint NOT NULL,
    user_id   uuid NOT NULL,
    PRIMARY KEY (memory_id, version)
);
