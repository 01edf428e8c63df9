-- What a reply recalled is read as a whole and never searched. As text it stays as it was written: as jsonb
-- it was taken apart to be stored, a tenth of the work of building the messages, and put together again to be
-- compared. The table is written anew, and nobody reads or writes it meanwhile.
CREATE FUNCTION pg_temp.as_written(recalled jsonb) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT '[' || coalesce(string_agg(format(
        '{"memory_id":%s,"score":%s,"similarity":%s}', r -> 'memory_id', r -> 'score', r -> 'similarity'
    ), ',' ORDER BY n), '') || ']'
    FROM jsonb_array_elements(recalled) WITH ORDINALITY AS e (r, n)
$$;
ALTER TABLE read.messages ALTER COLUMN recalled TYPE text USING pg_temp.as_written(recalled);
DROP FUNCTION pg_temp.as_written(jsonb);
