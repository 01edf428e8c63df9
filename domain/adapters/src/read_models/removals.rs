//! What events take out of the read models. They name it by what it belongs to, a conversation or a
//! memory, so that it need not be taken in first; there may be much of it.

use std::collections::{HashMap, HashSet};

use companion_domain::ids::{ConversationId, UserId};
use sqlx::PgConnection;
use uuid::Uuid;

/// The removals of a page.
#[derive(Debug, Default)]
pub(super) struct Removals {
    /// Whose messages go: user and conversation.
    deleted: Vec<(Uuid, Uuid)>,
    /// Whose messages are not searched any more, up to which version, and the change that it is.
    cleared: Vec<Cleared>,
    /// Memories that go: user and memory.
    forgotten: HashSet<(Uuid, Uuid)>,
    /// Memories that lose the sources in a conversation: user, memory, conversation.
    unsupported: Vec<(Uuid, Uuid, Uuid)>,
    /// Hashes of texts whose vectors may not be needed any more.
    unused: HashMap<UserId, Vec<Vec<u8>>>,
}

#[derive(Debug, Clone, Copy)]
struct Cleared {
    user: Uuid,
    conversation: Uuid,
    through: i64,
    stamp: i64,
}

impl Removals {
    pub(super) fn note_hash(&mut self, user: UserId, hash: Option<Vec<u8>>) {
        self.unused.entry(user).or_default().extend(hash);
    }

    pub(super) fn delete_messages(&mut self, user: UserId, conversation: ConversationId) {
        self.deleted.push((user.0, conversation.0));
    }

    pub(super) fn clear_messages(
        &mut self,
        user: UserId,
        conversation: ConversationId,
        through: i64,
        stamp: i64,
    ) {
        self.cleared.push(Cleared {
            user: user.0,
            conversation: conversation.0,
            through,
            stamp,
        });
    }

    pub(super) fn forget_memories(&mut self, user: UserId, memories: &[Uuid]) {
        let gone = memories.iter().map(|memory| (user.0, *memory));
        self.forgotten.extend(gone);
    }

    pub(super) fn unsupport_past(&mut self, user: UserId, memories: &[Uuid], from: ConversationId) {
        let lost = memories.iter().map(|memory| (user.0, *memory, from.0));
        self.unsupported.extend(lost);
    }

    /// Removes from the tables. Returns the hashes of the texts that went, by user.
    pub(super) async fn run(
        mut self,
        connection: &mut PgConnection,
    ) -> Result<HashMap<UserId, Vec<Vec<u8>>>, sqlx::Error> {
        let mut gone = self.run_messages(&mut *connection).await?;
        gone.extend(self.run_memories(connection).await?);
        for (user, hash) in gone {
            self.unused.entry(UserId(user)).or_default().extend(hash);
        }
        Ok(self.unused)
    }

    async fn run_messages(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(Uuid, Option<Vec<u8>>)>, sqlx::Error> {
        let mut gone = Vec::new();
        for round in rounds(&self.cleared) {
            let rows: Vec<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(
                "UPDATE messages m SET searchable = false, search_version = c.stamp
                 FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[])
                      AS c (user_id, conversation_id, through, stamp)
                 WHERE m.conversation_id = c.conversation_id AND m.user_id = c.user_id
                   AND m.version <= c.through AND m.searchable
                 RETURNING m.user_id, m.content_hash",
            )
            .bind(round.iter().map(|c| c.user).collect::<Vec<_>>())
            .bind(round.iter().map(|c| c.conversation).collect::<Vec<_>>())
            .bind(round.iter().map(|c| c.through).collect::<Vec<_>>())
            .bind(round.iter().map(|c| c.stamp).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
            gone.extend(rows);
        }
        if !self.deleted.is_empty() {
            let (users, conversations): (Vec<Uuid>, Vec<Uuid>) =
                self.deleted.iter().copied().unzip();
            let rows: Vec<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(
                "DELETE FROM messages m USING unnest($1::uuid[], $2::uuid[]) AS d (user_id, conversation_id)
                 WHERE m.conversation_id = d.conversation_id AND m.user_id = d.user_id
                 RETURNING m.user_id, m.content_hash",
            )
            .bind(users)
            .bind(conversations)
            .fetch_all(&mut *connection)
            .await?;
            gone.extend(rows);
        }
        Ok(gone)
    }

    async fn run_memories(
        &self,
        connection: &mut PgConnection,
    ) -> Result<Vec<(Uuid, Option<Vec<u8>>)>, sqlx::Error> {
        if !self.unsupported.is_empty() {
            let column = |of: fn(&(Uuid, Uuid, Uuid)) -> Uuid| {
                self.unsupported.iter().map(of).collect::<Vec<Uuid>>()
            };
            // Of several conversations that a memory loses at once, all are named together: a row is
            // changed once by a statement.
            sqlx::query(
                "UPDATE past_memories p SET sources = (
                     SELECT coalesce(jsonb_agg(s ORDER BY n), '[]')
                     FROM jsonb_array_elements(p.sources) WITH ORDINALITY AS e (s, n)
                     WHERE s ->> 'conversation_id' <> ALL (l.conversations))
                 FROM (SELECT user_id, memory_id, array_agg(conversation_id::text) AS conversations
                       FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS l (user_id, memory_id, conversation_id)
                       GROUP BY 1, 2) AS l
                 WHERE p.memory_id = l.memory_id AND p.user_id = l.user_id",
            )
            .bind(column(|l| l.0))
            .bind(column(|l| l.1))
            .bind(column(|l| l.2))
            .execute(&mut *connection)
            .await?;
        }
        if self.forgotten.is_empty() {
            return Ok(Vec::new());
        }
        let (users, memories): (Vec<Uuid>, Vec<Uuid>) = self.forgotten.iter().copied().unzip();
        let gone: Vec<(Uuid, Option<Vec<u8>>)> = sqlx::query_as(
            "WITH forgotten AS (
                 SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS f (user_id, memory_id)
             ), past AS (
                 DELETE FROM past_memories p USING forgotten f
                 WHERE p.memory_id = f.memory_id AND p.user_id = f.user_id RETURNING p.user_id, p.content_hash
             ), present AS (
                 DELETE FROM memories m USING forgotten f
                 WHERE m.memory_id = f.memory_id AND m.user_id = f.user_id RETURNING m.user_id, m.content_hash
             ), events AS (
                 DELETE FROM memory_events e USING forgotten f
                 WHERE e.memory_id = f.memory_id AND e.user_id = f.user_id
             )
             SELECT * FROM past UNION SELECT * FROM present",
        )
        .bind(&users)
        .bind(&memories)
        .fetch_all(&mut *connection)
        .await?;
        for statement in [
            "UPDATE memories m SET superseded_by = NULL
             FROM unnest($1::uuid[], $2::uuid[]) AS f (user_id, memory_id)
             WHERE m.user_id = f.user_id AND m.superseded_by = f.memory_id",
            "UPDATE past_memories m SET superseded_by = NULL
             FROM unnest($1::uuid[], $2::uuid[]) AS f (user_id, memory_id)
             WHERE m.user_id = f.user_id AND m.superseded_by = f.memory_id",
        ] {
            sqlx::query(statement)
                .bind(&users)
                .bind(&memories)
                .execute(&mut *connection)
                .await?;
        }
        Ok(gone)
    }
}

/// Cuts a list so that no part names a conversation twice: a row is changed once by a statement, and the
/// first that takes a message out is the one that counts.
fn rounds(cleared: &[Cleared]) -> Vec<Vec<Cleared>> {
    let mut rounds: Vec<Vec<Cleared>> = Vec::new();
    let mut times: HashMap<Uuid, usize> = HashMap::new();
    for one in cleared {
        let round = times.entry(one.conversation).or_default();
        match rounds.get_mut(*round) {
            Some(others) => others.push(*one),
            None => rounds.push(vec![*one]),
        }
        *round += 1;
    }
    rounds
}
