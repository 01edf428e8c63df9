-- What a model makes of one sentence that is always the same. The name of a model says nothing about the files
-- that lie in a folder; NULL until a process has loaded them.
ALTER TABLE embedding_model ADD COLUMN probe vector;
