-- Copies of the read models, each in a schema of its own beside `read`: what a replay builds, and what
-- it took the place of.
CREATE TABLE read_model_copies (
    schema      text PRIMARY KEY,
    tables      text[] NOT NULL,
    projections text[] NOT NULL,
    -- Names the migrations whose tables these are like.
    made_by     text NOT NULL,
    xid         xid8 NOT NULL DEFAULT '0',
    position    bigint NOT NULL DEFAULT 0,
    made_at     timestamptz NOT NULL DEFAULT now()
);
