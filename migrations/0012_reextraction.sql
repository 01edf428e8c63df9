-- Messages that are read again with another prompt, model or method: what a run is, whom it is about, and
-- what it has found so far. What was found is sealed with the user's key; it goes with the user, and when
-- the run has been applied or thrown away.

CREATE TABLE reextractions (
    run          text PRIMARY KEY,
    -- The only user whom it is about; all when it is null.
    user_id      uuid,
    method       text NOT NULL,
    prompt_id    text,
    prompt_hash  text,
    -- The text that takes the place of the built-in instructions.
    instructions text,
    model        text,
    since        timestamptz,
    state        text NOT NULL DEFAULT 'reading',
    made_at      timestamptz NOT NULL DEFAULT now(),
    applied_at   timestamptz
);

CREATE TABLE reextraction_users (
    run           text NOT NULL REFERENCES reextractions ON DELETE CASCADE,
    user_id       uuid NOT NULL,
    -- The version of the user's memory stream at which the difference was last shown.
    shown_version bigint,
    applied       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (run, user_id)
);

CREATE TABLE reextraction_portions (
    run             text NOT NULL REFERENCES reextractions ON DELETE CASCADE,
    user_id         uuid NOT NULL,
    n               integer NOT NULL,
    conversation_id uuid NOT NULL,
    -- The events in the conversation's stream, and the messages in them.
    versions        bigint[] NOT NULL,
    messages        uuid[] NOT NULL,
    -- Why nothing usable was found, if so.
    failed          text,
    found           bytea,
    PRIMARY KEY (run, user_id, n)
);
