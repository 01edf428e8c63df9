-- Erasing in steps, keys that must not come back, and which master key wrapped what.

-- An erasure is under way until everything that was derived from the user's events has been swept
-- away; `swept_at` is null until then. (The default is for a process of the former version, which
-- sweeps in the same transaction.)
ALTER TABLE erasures ADD COLUMN swept_at timestamptz DEFAULT clock_timestamp();
CREATE INDEX erasures_under_way ON erasures (erased_at) WHERE swept_at IS NULL;

-- Data keys that were destroyed: a backup may still hold one, and a restored database must not.
CREATE TABLE destroyed_keys (
    key_id       uuid PRIMARY KEY,
    user_id      uuid NOT NULL,
    destroyed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What is one user's is looked for when they are erased.
CREATE INDEX streams_by_user ON streams (user_id);

-- Conversations of erased users of which a buffer may still lie in Redis.
CREATE TABLE buffers_to_sweep (
    conversation_id uuid PRIMARY KEY
);

-- The check value of the master key that wrapped a data key; null for keys from before this.
ALTER TABLE user_keys ADD COLUMN wrapped_by bytea;

-- The check value of the master key that new data keys are to be wrapped with. A rotation changes it
-- first: from then on the former key wraps nothing new.
CREATE TABLE master_key (
    only_row    boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    check_value bytea NOT NULL,
    since       timestamptz NOT NULL DEFAULT now()
);
