-- What was said, by the hash of its text: which vectors are still needed is looked up for each of them while
-- both subscriptions wait, and which ones a model lacks without reading a text.
CREATE INDEX messages_by_content ON read.messages (user_id, content_hash) WHERE searchable;
CREATE INDEX memories_by_content ON read.memories (user_id, content_hash);
CREATE INDEX past_memories_by_content ON read.past_memories (user_id, content_hash);
