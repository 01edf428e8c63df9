//! Sweeping away what was derived from an erased user's events, a bounded piece at a time: each is a
//! short transaction, as a long one would keep every subscription waiting.

use companion_domain::ids::{ConversationId, ReplyId, UserId};
use serde::Serialize;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::Eraser;
use crate::buffer::Buffer;
use crate::transaction;

/// The tables of `public` with a `user_id` that outlive a user: the log and what is known about
/// erasures. Rows of every other table that names a user go with the user, in whatever schema it is:
/// read models that are being built beside the live ones, too.
const KEPT: [&str; 5] = [
    "events",
    "streams",
    "user_keys",
    "erasures",
    "destroyed_keys",
];

/// Rows of a piece.
const PIECE: i64 = 5_000;
/// Conversations of a piece.
const CONVERSATIONS: i64 = 500;
/// PostgreSQL's code for a table that is not there (any more).
const UNDEFINED_TABLE: &str = "42P01";

/// What a piece of work did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It swept away so many rows, and there may be more.
    More(u64),
    /// Nothing is left, or nobody is being erased.
    Done,
}

/// What there is of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Holdings {
    /// Whether the user has a key: is registered, and was not erased.
    pub registered: bool,
    /// Whether an erasure is under way.
    pub under_way: bool,
    /// Events in the log. They stay, and nobody can open them once the key is gone.
    pub events: i64,
    /// Conversations.
    pub conversations: i64,
    /// Jobs that wait or run.
    pub jobs: i64,
    /// Rows that were derived from the events, in all tables together.
    pub rows: i64,
}

impl Eraser {
    /// Sweeps away a piece of what is left of an erased user.
    ///
    /// # Errors
    /// When the database fails; what was swept away before stays away.
    pub async fn step(&self, user: UserId) -> Result<Step, sqlx::Error> {
        for reply in running_replies(&self.pool, user).await? {
            self.texts.forget(ReplyId(reply)).await;
        }
        let Some(mut transaction) = self.under_way(user).await? else {
            return Ok(Step::Done);
        };
        // A conversation of this life is none in the next, whatever caches hold of it. The other streams
        // go on where they were, should the user begin anew: what is new is numbered after what can't
        // be read.
        let conversations = sqlx::query(
            "WITH gone AS (
                 DELETE FROM streams WHERE stream_id IN (
                     SELECT stream_id FROM streams WHERE user_id = $1 AND stream_id LIKE 'conversation-%' LIMIT $2)
                 RETURNING stream_id)
             INSERT INTO buffers_to_sweep (conversation_id)
             SELECT substr(stream_id, length('conversation-') + 1)::uuid FROM gone ON CONFLICT DO NOTHING",
        )
        .bind(user.0)
        .bind(CONVERSATIONS)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if conversations > 0 {
            transaction.commit().await?;
            // A command that was given no Redis can't say that the service has none: its workers look.
            if self.buffer.is_shared() {
                bury_buffers(&self.pool, &self.buffer).await?;
            }
            return Ok(Step::More(conversations));
        }
        transaction.commit().await?;
        for table in tables(&self.pool).await? {
            let Some(mut transaction) = self.under_way(user).await? else {
                return Ok(Step::Done);
            };
            let piece = sqlx::query(AssertSqlSafe(format!(
                "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE user_id = $1 LIMIT $2))
                   AND user_id = $1"
            )))
            .bind(user.0)
            .bind(PIECE)
            .execute(&mut *transaction)
            .await;
            match piece {
                Ok(swept) if swept.rows_affected() > 0 => {
                    transaction.commit().await?;
                    return Ok(Step::More(swept.rows_affected()));
                }
                Ok(_) => transaction.commit().await?,
                // Read models were switched, and it has another name now: all are looked at again.
                Err(error) if is_undefined_table(&error) => return Ok(Step::More(0)),
                Err(error) => return Err(error),
            }
        }
        let Some(mut transaction) = self.under_way(user).await? else {
            return Ok(Step::Done);
        };
        // Running ones too: what they append is refused, and apalis passes over a job that is gone.
        let jobs = sqlx::query(
            "DELETE FROM apalis.jobs WHERE convert_from(job, 'UTF8')::jsonb ->> 'user' = $1",
        )
        .bind(user.to_string())
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if jobs == 0 {
            // All were looked at, and nothing was left.
            sqlx::query("UPDATE erasures SET swept_at = clock_timestamp() WHERE user_id = $1")
                .bind(user.0)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(if jobs > 0 {
            Step::More(jobs)
        } else {
            Step::Done
        })
    }

    /// What there is of a user.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn holdings(&self, user: UserId) -> Result<Holdings, sqlx::Error> {
        let (registered, under_way, events, conversations, jobs) = sqlx::query_as(
            "SELECT EXISTS (SELECT FROM user_keys WHERE user_id = $1),
                    EXISTS (SELECT FROM erasures WHERE user_id = $1 AND swept_at IS NULL),
                    (SELECT count(*) FROM events WHERE user_id = $1),
                    (SELECT count(*) FROM streams WHERE user_id = $1 AND stream_id LIKE 'conversation-%'),
                    (SELECT count(*) FROM apalis.jobs WHERE status <> 'Done'
                       AND convert_from(job, 'UTF8')::jsonb ->> 'user' = $1::text)",
        )
        .bind(user.0)
        .fetch_one(&self.pool)
        .await?;
        let mut rows = 0;
        for table in tables(&self.pool).await? {
            let count = format!("SELECT count(*) FROM {table} WHERE user_id = $1");
            let counted: Result<i64, sqlx::Error> = sqlx::query_scalar(AssertSqlSafe(count))
                .bind(user.0)
                .fetch_one(&self.pool)
                .await;
            match counted {
                Ok(count) => rows += count,
                Err(error) if is_undefined_table(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Holdings {
            registered,
            under_way,
            events,
            conversations,
            jobs,
            rows,
        })
    }

    /// A transaction in which the erasure stays under way: who comes later than the end must not sweep
    /// away what the next life brings.
    async fn under_way(
        &self,
        user: UserId,
    ) -> Result<Option<Transaction<'static, Postgres>>, sqlx::Error> {
        let mut transaction = transaction::begin(&self.pool).await?;
        let under_way =
            sqlx::query("SELECT FROM erasures WHERE user_id = $1 AND swept_at IS NULL FOR UPDATE")
                .bind(user.0)
                .fetch_optional(&mut *transaction)
                .await?;
        Ok(under_way.map(|_| transaction))
    }
}

/// Takes the buffers of erased users' conversations out of Redis for good. Those that Redis did not
/// answer about are tried again.
///
/// # Errors
/// When the database fails.
pub async fn bury_buffers(pool: &PgPool, buffer: &Buffer) -> Result<(), sqlx::Error> {
    loop {
        let conversations: Vec<Uuid> =
            sqlx::query_scalar("SELECT conversation_id FROM buffers_to_sweep LIMIT $1")
                .bind(CONVERSATIONS)
                .fetch_all(pool)
                .await?;
        let mut buried = Vec::with_capacity(conversations.len());
        for conversation in &conversations {
            if buffer.bury(ConversationId(*conversation)).await {
                buried.push(*conversation);
            }
        }
        sqlx::query("DELETE FROM buffers_to_sweep WHERE conversation_id = ANY($1)")
            .bind(&buried)
            .execute(pool)
            .await?;
        if buried.is_empty() || buried.len() < conversations.len() {
            return Ok(());
        }
    }
}

async fn running_replies(pool: &PgPool, user: UserId) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT message_id FROM messages WHERE user_id = $1 AND reply_status = 'running'",
    )
    .bind(user.0)
    .fetch_all(pool)
    .await
}

/// The tables with rows that go with the user whom they name.
async fn tables(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_attribute a
         JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE a.attname = 'user_id' AND a.atttypid = 'uuid'::regtype AND NOT a.attisdropped
           AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
           AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
           AND NOT (n.nspname = 'public' AND c.relname = ANY($1))
         ORDER BY 1",
    )
    .bind(KEPT)
    .fetch_all(pool)
    .await
}

fn is_undefined_table(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| code == UNDEFINED_TABLE)
}
