-- Memories that fade by an event, and are kept alive by being of use.

-- When a memory was last told, and `last_reinforced_at`, from when its importance decays: until now one
-- time, and from now on two, as a memory that a reply made use of was not told again.
ALTER TABLE read.memories ADD COLUMN told_at timestamptz;
UPDATE read.memories SET told_at = last_reinforced_at;
ALTER TABLE read.memories ALTER COLUMN told_at SET NOT NULL;
ALTER TABLE read.past_memories ADD COLUMN told_at timestamptz;
UPDATE read.past_memories SET told_at = last_reinforced_at;
ALTER TABLE read.past_memories ALTER COLUMN told_at SET NOT NULL;

-- When memories were last looked over, and up to when replies have been looked at for what they made
-- use of. Cursors of what was done, like checkpoints: lost, some work is done again in vain.
CREATE TABLE upkeep (
    task    text PRIMARY KEY,
    ran_at  timestamptz NOT NULL DEFAULT now(),
    through timestamptz NOT NULL DEFAULT now()
);
INSERT INTO upkeep (task) VALUES ('memories');

-- The version of each user's memory stream up to which their memories have been looked at for
-- duplicates.
CREATE TABLE merged (
    user_id         uuid PRIMARY KEY,
    through_version bigint NOT NULL
);
