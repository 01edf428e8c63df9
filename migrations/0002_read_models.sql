-- Read models: built from the log by projections, thrown away and rebuilt at will. They live in a
-- schema of their own, so that a rebuilt set can be put in their place in one step.

CREATE SCHEMA read;

CREATE TABLE read.users (
    user_id     uuid PRIMARY KEY,
    external_id text,
    timezone    text
);

CREATE TABLE read.conversations (
    conversation_id uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    title           text,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    message_count   bigint NOT NULL DEFAULT 0,
    version         bigint NOT NULL
);
CREATE INDEX conversations_by_user ON read.conversations (user_id, updated_at DESC, conversation_id);

-- The assistant's message of a reply exists from the moment the user's message is there: running.
CREATE TABLE read.messages (
    message_id      uuid PRIMARY KEY,
    conversation_id uuid NOT NULL,
    user_id         uuid NOT NULL,
    version         bigint NOT NULL,
    role            text NOT NULL,
    name            text,
    content         text NOT NULL,
    content_hash    bytea,
    created_at      timestamptz NOT NULL,
    external_id     text,
    reply_status    text,
    recalled        jsonb,
    lease           uuid
);
CREATE UNIQUE INDEX messages_in_order ON read.messages (conversation_id, version, role);
CREATE INDEX messages_by_user ON read.messages (user_id);
CREATE INDEX messages_running ON read.messages (lease) WHERE reply_status = 'running';

CREATE TABLE read.memories (
    memory_id          uuid PRIMARY KEY,
    user_id            uuid NOT NULL,
    content            text NOT NULL,
    content_hash       bytea NOT NULL,
    kind               text NOT NULL,
    state              text NOT NULL,
    importance         double precision NOT NULL,
    explicit           boolean NOT NULL,
    subject            text,
    sources            jsonb NOT NULL,
    occurred_at        timestamptz,
    valid_from         timestamptz NOT NULL,
    valid_to           timestamptz,
    superseded_by      uuid,
    last_reinforced_at timestamptz NOT NULL,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    version            bigint NOT NULL
);
CREATE INDEX memories_by_user ON read.memories (user_id, created_at DESC, memory_id);

-- How far the memories of a user have been projected (the version of their memory stream), and how
-- far each conversation has been read for facts.
CREATE TABLE read.memory_streams (
    user_id uuid PRIMARY KEY,
    version bigint NOT NULL
);
CREATE TABLE read.extraction_cursors (
    conversation_id uuid PRIMARY KEY,
    user_id         uuid NOT NULL,
    through_version bigint NOT NULL
);

-- The lexical index: which terms occur in which memory (source 1) or message (source 2).
CREATE TABLE read.terms (
    user_id uuid NOT NULL,
    source  smallint NOT NULL,
    term    text NOT NULL,
    item_id uuid NOT NULL,
    count   smallint NOT NULL,
    length  integer NOT NULL,
    PRIMARY KEY (user_id, source, term, item_id)
);
CREATE TABLE read.corpus_sizes (
    user_id uuid NOT NULL,
    source  smallint NOT NULL,
    items   bigint NOT NULL,
    terms   bigint NOT NULL,
    PRIMARY KEY (user_id, source)
);

-- Vectors are a cache, keyed by what was embedded: a rebuilt read model finds them again. The
-- vector stays in the row (1.5 kB), as reading it from a side table costs more than the search.
CREATE TABLE vectors (
    user_id      uuid NOT NULL,
    content_hash bytea NOT NULL,
    embedding    vector NOT NULL,
    PRIMARY KEY (user_id, content_hash)
);
ALTER TABLE vectors ALTER COLUMN embedding SET STORAGE MAIN;

-- The embedding model that made the vectors.
CREATE TABLE embedding_model (
    only_row  boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    model     text NOT NULL,
    dimension integer NOT NULL
);
