-- The event log: the truth. Everything else can be rebuilt from it.

CREATE EXTENSION IF NOT EXISTS vector;

-- One random data key a user, wrapped by the master key. No key row, no append: deleting the row is
-- how a user is erased, so that late writers fail and what is in the log can't be opened any more.
CREATE TABLE user_keys (
    user_id    uuid PRIMARY KEY,
    key_id     uuid NOT NULL,
    wrapped    bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE streams (
    stream_id text PRIMARY KEY,
    user_id   uuid NOT NULL,
    version   bigint NOT NULL
);

CREATE TABLE events (
    position       bigint GENERATED ALWAYS AS IDENTITY,
    xid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    event_id       uuid NOT NULL,
    stream_id      text NOT NULL,
    version        bigint NOT NULL,
    user_id        uuid NOT NULL,
    type           text NOT NULL,
    schema_version smallint NOT NULL,
    key_id         uuid NOT NULL,
    payload        bytea NOT NULL,
    meta           jsonb NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stream_id, version)
);

-- The order in which subscriptions read. Positions are handed out before the commit, so a reader
-- that went by position alone would pass events that are not committed yet.
CREATE INDEX events_feed ON events (xid, position);

-- What a user appended last, for reading one's own writes; and all that is one user's.
CREATE INDEX events_by_user ON events (user_id, xid, position);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % is refused', TG_OP
        USING HINT = 'To correct something, append an event.';
END;
$$;

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- What a caller's idempotency key led to.
CREATE TABLE idempotency (
    user_id      uuid NOT NULL,
    key          text NOT NULL,
    request_hash bytea NOT NULL,
    stream_id    text NOT NULL,
    version      bigint NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, key)
);

-- How far each subscription has read.
CREATE TABLE checkpoints (
    subscription text PRIMARY KEY,
    xid          xid8 NOT NULL DEFAULT '0',
    position     bigint NOT NULL DEFAULT 0,
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- Processes that hold leases on running replies. A process that is not seen any more has crashed.
CREATE TABLE processes (
    process_id uuid PRIMARY KEY,
    seen_at    timestamptz NOT NULL DEFAULT now()
);

-- Appends events to one stream: one round trip, one commit.
--
-- outcome: 'appended'   version is the stream's new version
--          'repeated'   the idempotency key was used for the same request; version is what it gave
--          'conflict'   the stream is not at the expected version; version is the one it is at
--          'key_reused' the idempotency key was used for another request
--          'no_user'    the user has no such key (any more)
CREATE FUNCTION append_events(
    p_stream_id       text,
    p_user_id         uuid,
    p_key_id          uuid,
    p_expected        bigint,
    p_idempotency_key text,
    p_request_hash    bytea,
    p_event_ids       uuid[],
    p_types           text[],
    p_schema_versions smallint[],
    p_payloads        bytea[],
    p_metas           jsonb[],
    OUT outcome       text,
    OUT version       bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    added bigint := cardinality(p_event_ids);
    seen  record;
BEGIN
    -- Before the transaction has an xid: the order of xids is then the order of versions, and the
    -- feed can't show a stream's events in another order than the stream has.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_stream_id, 0));

    PERFORM 1 FROM user_keys WHERE user_id = p_user_id AND key_id = p_key_id FOR KEY SHARE;
    IF NOT FOUND THEN
        outcome := 'no_user';
        RETURN;
    END IF;

    IF p_idempotency_key IS NOT NULL THEN
        INSERT INTO idempotency (user_id, key, request_hash, stream_id, version)
        VALUES (p_user_id, p_idempotency_key, p_request_hash, p_stream_id, 0)
        ON CONFLICT (user_id, key) DO NOTHING;
        IF NOT FOUND THEN
            SELECT i.request_hash, i.version INTO seen
            FROM idempotency i WHERE i.user_id = p_user_id AND i.key = p_idempotency_key;
            outcome := CASE WHEN seen.request_hash = p_request_hash THEN 'repeated' ELSE 'key_reused' END;
            version := seen.version;
            RETURN;
        END IF;
    END IF;

    IF p_expected = 0 THEN
        INSERT INTO streams (stream_id, user_id, version) VALUES (p_stream_id, p_user_id, added)
        ON CONFLICT (stream_id) DO NOTHING
        RETURNING streams.version INTO version;
    ELSIF p_expected IS NULL THEN
        INSERT INTO streams AS s (stream_id, user_id, version) VALUES (p_stream_id, p_user_id, added)
        ON CONFLICT (stream_id) DO UPDATE SET version = s.version + added
            WHERE s.user_id = p_user_id
        RETURNING s.version INTO version;
    ELSE
        UPDATE streams s SET version = s.version + added
        WHERE s.stream_id = p_stream_id AND s.user_id = p_user_id AND s.version = p_expected
        RETURNING s.version INTO version;
    END IF;

    IF version IS NULL THEN
        outcome := 'conflict';
        SELECT s.version INTO version FROM streams s WHERE s.stream_id = p_stream_id;
        version := coalesce(version, 0);
        IF p_idempotency_key IS NOT NULL THEN
            DELETE FROM idempotency i WHERE i.user_id = p_user_id AND i.key = p_idempotency_key;
        END IF;
        RETURN;
    END IF;

    INSERT INTO events (event_id, stream_id, version, user_id, type, schema_version, key_id, payload, meta)
    SELECT e.event_id, p_stream_id, version - added + e.n, p_user_id, e.type, e.schema_version, p_key_id,
           e.payload, e.meta
    FROM unnest(p_event_ids, p_types, p_schema_versions, p_payloads, p_metas)
         WITH ORDINALITY AS e (event_id, type, schema_version, payload, meta, n)
    ORDER BY e.n;

    IF p_idempotency_key IS NOT NULL THEN
        UPDATE idempotency i SET version = append_events.version
        WHERE i.user_id = p_user_id AND i.key = p_idempotency_key;
    END IF;
    outcome := 'appended';
END;
$$;
