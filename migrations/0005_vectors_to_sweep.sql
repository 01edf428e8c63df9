-- Vectors of what was forgotten. They are thrown away when nothing that is under way can need them
-- any more: the same text may have been told again.
CREATE TABLE vectors_to_sweep (
    user_id      uuid NOT NULL,
    content_hash bytea NOT NULL,
    PRIMARY KEY (user_id, content_hash)
);
