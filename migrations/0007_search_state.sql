-- Search goes through an index that each process keeps in its memory. What it needs to be kept up to
-- date is here; the lexical index in tables is not needed any more.

-- How often what can be found of a user has changed, and the change that last took something away.
CREATE TABLE read.search_state (
    user_id uuid PRIMARY KEY,
    version bigint NOT NULL,
    cleared bigint NOT NULL
);

-- The change with which a row came to be as it is.
ALTER TABLE read.messages ADD COLUMN search_version bigint NOT NULL DEFAULT 0;
ALTER TABLE read.memories ADD COLUMN search_version bigint NOT NULL DEFAULT 0;
CREATE INDEX messages_by_search_version ON read.messages (user_id, search_version);
CREATE INDEX memories_by_search_version ON read.memories (user_id, search_version);

-- Two memories with the same hash say the same: case, punctuation and spacing apart.
ALTER TABLE read.memories ADD COLUMN form_hash bytea NOT NULL DEFAULT '';
CREATE INDEX memories_by_form ON read.memories (user_id, form_hash);

DROP TABLE read.terms, read.corpus_sizes;

-- The columns are filled from the log: the tables are built again when a worker starts.
TRUNCATE read.conversations, read.messages, read.memories, read.past_memories, read.memory_events,
    read.memory_streams, read.extraction_cursors;
DELETE FROM checkpoints WHERE subscription = 'read_models';
