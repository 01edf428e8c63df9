-- Two servers may call what they serve by the same name: what one found is not what the other finds.
ALTER TABLE reextractions ADD COLUMN endpoint text;
