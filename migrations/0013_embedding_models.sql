-- Vectors of several embedding models lie beside each other. Each model has a table `vectors` of its own:
-- the first one in `public`, each other one in a schema of its own. A process sees the one of its model, as
-- its search path names that schema; one model's vectors can't come to be compared with another's.
ALTER TABLE embedding_model DROP COLUMN only_row;
ALTER TABLE embedding_model
    -- `filling`: being made; `live`: the one to use; `former`: was live, and can be again.
    ADD COLUMN state    text NOT NULL DEFAULT 'live',
    -- The schema of its table.
    ADD COLUMN home     text NOT NULL DEFAULT 'public',
    ADD COLUMN since    timestamptz NOT NULL DEFAULT now(),
    -- Up to where in the log its vectors are whole. Kept while there are several models in use.
    ADD COLUMN xid      xid8 NOT NULL DEFAULT '0',
    ADD COLUMN position bigint NOT NULL DEFAULT 0,
    ADD PRIMARY KEY (model, dimension);
CREATE UNIQUE INDEX one_live_embedding_model ON embedding_model (state) WHERE state = 'live';
