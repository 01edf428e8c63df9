-- What is appended together happened at one time: at no time was a memory believed beside the one that
-- took its place.

CREATE OR REPLACE FUNCTION append_events(
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
    now   timestamptz;
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

    now := clock_timestamp();
    INSERT INTO events (event_id, stream_id, version, user_id, type, schema_version, key_id, payload, meta, recorded_at)
    SELECT e.event_id, p_stream_id, version - added + e.n, p_user_id, e.type, e.schema_version, p_key_id,
           e.payload, e.meta, now
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
