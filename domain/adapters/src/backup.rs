//! What a backup takes out of the database and a restore puts back: the log, the users' keys, and what
//! is known about erasures.
//!
//! A backup is a beginning of the feed: every event before the oldest transaction that still runs. What
//! an unfinished append puts into the log later lies behind it, so that the next backup goes on exactly
//! there. A restore appends the events anew, in the order of the feed, in one transaction: they get its
//! transaction id and consecutive positions. So the order of the feed is kept, every event is visible
//! to subscriptions at once whatever the counter of the new server is at, and nothing has to be made of
//! transaction ids that mean nothing there.

use chrono::{DateTime, Utc};
use companion_domain::ids::UserId;
use futures_util::stream::BoxStream;
use futures_util::{Stream, TryStreamExt};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use crate::log::subscription::{Checkpoint, READ_MODELS, RELAY};
use crate::transaction;
use crate::vault::masters::CheckValue;
use crate::vault::{KeyRow, Vault, VaultError, rotation};

/// The columns of an event that a backup holds, in this order: all but those that a restore gives anew.
const EVENT: &str = "event_id, stream_id, version, user_id, type, schema_version, key_id, payload, meta, recorded_at";

/// A wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct UserKey {
    /// Whose.
    pub user_id: Uuid,
    /// Names the key.
    pub key_id: Uuid,
    /// The key as the master key wraps it.
    pub wrapped: Vec<u8>,
    /// The check value of that master key, if it is known.
    pub wrapped_by: Option<Vec<u8>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

/// That a user was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct ErasedUser {
    /// Who.
    pub user_id: Uuid,
    /// When, the last time.
    pub erased_at: DateTime<Utc>,
}

/// A data key that must not come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct DestroyedKey {
    /// The key.
    pub key_id: Uuid,
    /// Whose it was.
    pub user_id: Uuid,
    /// When it was destroyed.
    pub destroyed_at: DateTime<Utc>,
}

/// A piece of the log, from after one place of the feed to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// The last event's place.
    pub to: Checkpoint,
    /// The last event's id.
    pub last_event: Uuid,
    /// How many events.
    pub events: i64,
}

/// The database as it is at one moment, while others go on.
pub struct Snapshot {
    transaction: Transaction<'static, Postgres>,
    /// Transactions from this one on may be unfinished.
    bound: i64,
}

impl Snapshot {
    /// Takes one. It has no transaction id, and keeps no subscription waiting.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take(pool: &PgPool) -> Result<Self, sqlx::Error> {
        let mut transaction =
            transaction::begin_with(pool, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await?;
        // A slow disk between two queries is no reason to begin again.
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *transaction)
            .await?;
        let bound =
            sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
                .fetch_one(&mut *transaction)
                .await?;
        Ok(Self { transaction, bound })
    }

    /// The master key that is in force, see [`rotation::in_force`].
    ///
    /// # Errors
    /// When the database fails.
    pub async fn in_force(&mut self) -> Result<Option<CheckValue>, sqlx::Error> {
        rotation::in_force(&mut *self.transaction).await
    }

    /// Whether the event with this id is at this place: whether it is the database of that backup.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has(&mut self, event: Uuid, at: Checkpoint) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM events WHERE xid = $1::text::xid8 AND position = $2 AND event_id = $3)",
        )
        .bind(at.xid.to_string())
        .bind(at.position)
        .bind(event)
        .fetch_one(&mut *self.transaction)
        .await
    }

    /// How many events there are after a place of the feed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count(&mut self, after: Checkpoint) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT count(*) FROM events WHERE (xid, position) > ($1::text::xid8, $2) AND xid < $3::text::xid8",
        )
        .bind(after.xid.to_string())
        .bind(after.position)
        .bind(self.bound.to_string())
        .fetch_one(&mut *self.transaction)
        .await
    }

    /// The next piece after a place of the feed, of `most` events at most; `None` when there is none.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(
        &mut self,
        after: Checkpoint,
        most: i64,
    ) -> Result<Option<Piece>, sqlx::Error> {
        let last: Option<(i64, i64, Uuid, i64)> = sqlx::query_as(
            "WITH piece AS (
                 SELECT xid, position, event_id FROM events
                 WHERE (xid, position) > ($1::text::xid8, $2) AND xid < $3::text::xid8
                 ORDER BY xid, position LIMIT $4)
             SELECT xid::text::bigint, position, event_id, (SELECT count(*) FROM piece) FROM piece
             ORDER BY piece.xid DESC, piece.position DESC LIMIT 1",
        )
        .bind(after.xid.to_string())
        .bind(after.position)
        .bind(self.bound.to_string())
        .bind(most)
        .fetch_optional(&mut *self.transaction)
        .await?;
        Ok(last.map(|(xid, position, last_event, events)| Piece {
            to: Checkpoint { xid, position },
            last_event,
            events,
        }))
    }

    /// A piece of the log as PostgreSQL's binary COPY format.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn copy(
        &mut self,
        after: Checkpoint,
        to: Checkpoint,
    ) -> Result<
        impl Stream<Item = Result<impl AsRef<[u8]> + Send, sqlx::Error>> + Send + Unpin,
        sqlx::Error,
    > {
        let statement = format!(
            "COPY (SELECT {EVENT} FROM events
                   WHERE (xid, position) > ('{}'::xid8, {}) AND (xid, position) <= ('{}'::xid8, {})
                   ORDER BY xid, position) TO STDOUT WITH (FORMAT binary)",
            after.xid, after.position, to.xid, to.position
        );
        self.transaction.copy_out_raw(&statement).await
    }

    /// The wrapped data keys of all users.
    pub fn keys(&mut self) -> BoxStream<'_, Result<UserKey, sqlx::Error>> {
        sqlx::query_as("SELECT user_id, key_id, wrapped, wrapped_by, created_at FROM user_keys ORDER BY user_id")
            .fetch(&mut *self.transaction)
    }

    /// All erasures.
    pub fn erasures(&mut self) -> BoxStream<'_, Result<ErasedUser, sqlx::Error>> {
        sqlx::query_as("SELECT user_id, erased_at FROM erasures ORDER BY user_id")
            .fetch(&mut *self.transaction)
    }

    /// All data keys that were destroyed.
    pub fn destroyed(&mut self) -> BoxStream<'_, Result<DestroyedKey, sqlx::Error>> {
        sqlx::query_as("SELECT key_id, user_id, destroyed_at FROM destroyed_keys ORDER BY key_id")
            .fetch(&mut *self.transaction)
    }
}

/// An empty database that is being filled, in one transaction: all of it is restored or nothing.
pub struct Restore {
    transaction: Transaction<'static, Postgres>,
}

impl Restore {
    /// Begins, if the database is empty; `None` when it is not. Nobody can append until the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(pool: &PgPool) -> Result<Option<Self>, sqlx::Error> {
        let mut transaction = transaction::begin(pool).await?;
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = 0")
            .execute(&mut *transaction)
            .await?;
        // In the order in which whoever registers a user writes them.
        sqlx::query(
            "LOCK TABLE master_key, user_keys, streams, events, erasures IN EXCLUSIVE MODE",
        )
        .execute(&mut *transaction)
        .await?;
        let is_empty: bool = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM events) AND NOT EXISTS (SELECT FROM streams)
                AND NOT EXISTS (SELECT FROM user_keys) AND NOT EXISTS (SELECT FROM erasures)",
        )
        .fetch_one(&mut *transaction)
        .await?;
        Ok(is_empty.then_some(Self { transaction }))
    }

    /// Puts keys back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_keys(&mut self, keys: &[UserKey]) -> Result<(), sqlx::Error> {
        let column = |of: fn(&UserKey) -> Uuid| keys.iter().map(of).collect::<Vec<_>>();
        let wrapped: Vec<&[u8]> = keys.iter().map(|key| key.wrapped.as_slice()).collect();
        let wrapped_by: Vec<Option<&[u8]>> =
            keys.iter().map(|key| key.wrapped_by.as_deref()).collect();
        let created_at: Vec<DateTime<Utc>> = keys.iter().map(|key| key.created_at).collect();
        sqlx::query(
            "INSERT INTO user_keys (user_id, key_id, wrapped, wrapped_by, created_at)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bytea[], $5::timestamptz[])",
        )
        .bind(column(|key| key.user_id))
        .bind(column(|key| key.key_id))
        .bind(wrapped)
        .bind(wrapped_by)
        .bind(created_at)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Puts back what is known about erasures, and destroys the keys that they destroyed. Of several
    /// erasures of a user the last one counts.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_erasures(
        &mut self,
        erased: &[ErasedUser],
        destroyed: &[DestroyedKey],
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO erasures AS e (user_id, erased_at, swept_at)
             SELECT user_id, max(erased_at), now() FROM unnest($1::uuid[], $2::timestamptz[]) AS n (user_id, erased_at)
             GROUP BY user_id
             ON CONFLICT (user_id) DO UPDATE SET erased_at = greatest(e.erased_at, excluded.erased_at)",
        )
        .bind(erased.iter().map(|e| e.user_id).collect::<Vec<_>>())
        .bind(erased.iter().map(|e| e.erased_at).collect::<Vec<_>>())
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query(
            "INSERT INTO destroyed_keys (key_id, user_id, destroyed_at)
             SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) ON CONFLICT DO NOTHING",
        )
        .bind(destroyed.iter().map(|d| d.key_id).collect::<Vec<_>>())
        .bind(destroyed.iter().map(|d| d.user_id).collect::<Vec<_>>())
        .bind(destroyed.iter().map(|d| d.destroyed_at).collect::<Vec<_>>())
        .execute(&mut *self.transaction)
        .await?;
        sqlx::query("DELETE FROM user_keys k USING destroyed_keys d WHERE k.key_id = d.key_id")
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    /// Erases users of whom the backup does not know yet that they were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn erase(&mut self, users: &[UserId]) -> Result<(), sqlx::Error> {
        let users: Vec<Uuid> = users.iter().map(|user| user.0).collect();
        sqlx::query(
            "WITH gone AS (DELETE FROM user_keys WHERE user_id = ANY($1) RETURNING key_id, user_id),
                  noted AS (INSERT INTO destroyed_keys (key_id, user_id) SELECT key_id, user_id FROM gone
                            ON CONFLICT DO NOTHING)
             INSERT INTO erasures AS e (user_id, erased_at, swept_at)
             SELECT DISTINCT u, now(), now() FROM unnest($1) AS u
             ON CONFLICT (user_id) DO UPDATE SET erased_at = excluded.erased_at",
        )
        .bind(users)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Checks that this vault opens the keys that were put back: one of each master key that wrapped any.
    ///
    /// # Errors
    /// [`VaultError::MasterKey`] when it does not.
    pub async fn check_keys(&mut self, vault: &Vault) -> Result<(), VaultError> {
        let rows: Vec<KeyRow> = sqlx::query_as(
            "SELECT DISTINCT ON (wrapped_by) user_id, key_id, wrapped, wrapped_by FROM user_keys ORDER BY wrapped_by",
        )
        .fetch_all(&mut *self.transaction)
        .await?;
        vault.check_rows(&rows)
    }

    /// Appends a piece of the log, in the format of [`Snapshot::copy`]; how many events it had.
    ///
    /// # Errors
    /// What `piece` says, or when the database fails or does not accept the piece: then nothing is
    /// restored.
    pub async fn append<E: From<sqlx::Error> + std::fmt::Display>(
        &mut self,
        mut piece: impl Stream<Item = Result<Vec<u8>, E>> + Unpin,
    ) -> Result<u64, E> {
        let statement = format!("COPY events ({EVENT}) FROM STDIN WITH (FORMAT binary)");
        let mut copy = self.transaction.copy_in_raw(&statement).await?;
        loop {
            match piece.try_next().await {
                Ok(Some(bytes)) => {
                    copy.send(bytes).await?;
                }
                Ok(None) => return Ok(copy.finish().await?),
                Err(error) => {
                    copy.abort("the backup can't be read").await?;
                    return Err(error);
                }
            }
        }
    }

    /// Derives what goes with the log, and commits.
    ///
    /// # Errors
    /// [`RestoreError::Gap`] when a stream lacks events; or when the database fails. Then nothing is
    /// restored.
    pub async fn finish(mut self, in_force: Option<&[u8]>) -> Result<Restored, RestoreError> {
        let gap: Option<String> = sqlx::query_scalar(
            // What an import left out is counted where the gap is.
            "SELECT stream_id FROM events GROUP BY stream_id
             HAVING count(*) + coalesce(sum((meta ->> 'left_out')::bigint), 0) <> max(version) LIMIT 1",
        )
        .fetch_optional(&mut *self.transaction)
        .await?;
        if let Some(stream) = gap {
            return Err(RestoreError::Gap(stream));
        }
        // A key without events is of a user whose registration lies behind the end of the backup.
        let execute = [
            "DELETE FROM user_keys k WHERE NOT EXISTS (SELECT FROM events e WHERE e.user_id = k.user_id AND e.key_id = k.key_id)",
            // A conversation of a life that has ended is none any more; the other streams go on.
            "INSERT INTO streams (stream_id, user_id, version)
             SELECT e.stream_id, e.user_id, max(e.version) FROM events e LEFT JOIN user_keys k USING (user_id, key_id)
             GROUP BY e.stream_id, e.user_id HAVING e.stream_id NOT LIKE 'conversation-%' OR count(k.key_id) > 0",
        ];
        for statement in execute {
            sqlx::query(statement)
                .execute(&mut *self.transaction)
                .await?;
        }
        if let Some(in_force) = in_force {
            sqlx::query(
                "INSERT INTO master_key (check_value) VALUES ($1)
                 ON CONFLICT (only_row) DO UPDATE SET check_value = excluded.check_value",
            )
            .bind(in_force)
            .execute(&mut *self.transaction)
            .await?;
        }
        // Read models and jobs are derived again from the beginning.
        sqlx::query("DELETE FROM checkpoints WHERE subscription IN ($1, $2)")
            .bind(READ_MODELS)
            .bind(RELAY)
            .execute(&mut *self.transaction)
            .await?;
        let restored = sqlx::query_as(
            "SELECT (SELECT count(*) FROM events) AS events, (SELECT count(*) FROM user_keys) AS users,
                    (SELECT count(DISTINCT e.user_id) FROM events e LEFT JOIN user_keys k USING (user_id, key_id)
                      LEFT JOIN destroyed_keys d ON d.key_id = e.key_id
                      WHERE k.key_id IS NULL AND d.key_id IS NULL) AS closed",
        )
        .fetch_one(&mut *self.transaction)
        .await?;
        self.transaction.commit().await?;
        Ok(restored)
    }
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Restored {
    /// Events.
    pub events: i64,
    /// Users who have their key.
    pub users: i64,
    /// Users some of whose events can't be opened, as their key is not there and was not destroyed by
    /// an erasure that is known of.
    pub closed: i64,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A stream lacks events.
    #[error("the stream {0} lacks events: the backup is not whole")]
    Gap(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}
