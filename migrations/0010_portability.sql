-- What users take along: events that were recorded elsewhere, and nothing of what was forgotten.

-- A memory that a user asked to forget is gone from every table: what a reply recalled is kept as ids
-- and scores, and its text is read where the memory is.
UPDATE read.messages SET recalled = (
    SELECT coalesce(jsonb_agg(r - 'content' ORDER BY n), '[]')
    FROM jsonb_array_elements(recalled) WITH ORDINALITY AS e (r, n)
) WHERE recalled IS NOT NULL;

-- Appends events of one user that were recorded elsewhere, to several of their streams, all or none:
-- with the times at which they were recorded there, and at the versions that they are given. Only an
-- import may call it: `append_events` is what records what happens here.
--
-- p_streams names each stream once, p_expected the version that it is at (0: there is none). Versions
-- of a stream grow from there, and may leave gaps.
--
-- outcome: 'appended'
--          'conflict'  a stream is not at the expected version, or not this user's: roll back
--          'no_user'   the user has no such key (any more)
CREATE FUNCTION import_events(
    p_user_id         uuid,
    p_key_id          uuid,
    p_streams         text[],
    p_expected        bigint[],
    p_event_ids       uuid[],
    p_stream_ids      text[],
    p_versions        bigint[],
    p_types           text[],
    p_schema_versions smallint[],
    p_payloads        bytea[],
    p_metas           jsonb[],
    p_recorded_at     timestamptz[]
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    stream  text;
    reached bigint;
BEGIN
    -- In the order in which others take several, and before the transaction has an xid: see
    -- `append_events`.
    FOR stream IN SELECT s FROM unnest(p_streams) AS s ORDER BY s COLLATE "C" LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended(stream, 0));
    END LOOP;

    PERFORM 1 FROM user_keys WHERE user_id = p_user_id AND key_id = p_key_id FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN 'no_user';
    END IF;

    WITH wanted AS (
        SELECT s.stream_id, s.expected, max(e.version) AS version
        FROM unnest(p_streams, p_expected) AS s (stream_id, expected)
        JOIN unnest(p_stream_ids, p_versions) AS e (stream_id, version) USING (stream_id)
        GROUP BY s.stream_id, s.expected
    ), added AS (
        INSERT INTO streams (stream_id, user_id, version)
        SELECT w.stream_id, p_user_id, w.version FROM wanted w WHERE w.expected = 0
        ON CONFLICT (stream_id) DO NOTHING
        RETURNING 1
    ), moved AS (
        UPDATE streams t SET version = w.version FROM wanted w
        WHERE w.expected > 0 AND t.stream_id = w.stream_id AND t.user_id = p_user_id AND t.version = w.expected
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM added) + (SELECT count(*) FROM moved) INTO reached;
    IF reached <> cardinality(p_streams) THEN
        RETURN 'conflict';
    END IF;

    INSERT INTO events (event_id, stream_id, version, user_id, type, schema_version, key_id, payload, meta, recorded_at)
    SELECT e.event_id, e.stream_id, e.version, p_user_id, e.type, e.schema_version, p_key_id, e.payload, e.meta, e.recorded_at
    FROM unnest(p_event_ids, p_stream_ids, p_versions, p_types, p_schema_versions, p_payloads, p_metas, p_recorded_at)
         WITH ORDINALITY AS e (event_id, stream_id, version, type, schema_version, payload, meta, recorded_at, n)
    ORDER BY e.n;
    RETURN 'appended';
END;
$$;
