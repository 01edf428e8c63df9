-- A copy of the read models is filled in lanes, each of which takes in the events of some of the users in
-- transactions of its own. A copy that was begun before is not gone on with.
CREATE TABLE read_model_copy_lanes (
    schema   text NOT NULL REFERENCES read_model_copies ON UPDATE CASCADE ON DELETE CASCADE,
    lane     smallint NOT NULL,
    xid      xid8 NOT NULL DEFAULT '0',
    position bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (schema, lane)
);
ALTER TABLE read_model_copies DROP COLUMN xid, DROP COLUMN position;

-- Users are found by the first column of messages_by_search_version.
DROP INDEX read.messages_by_user;
