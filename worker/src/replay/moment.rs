//! The database as it is at one moment, in which a copy is compared with the read models in use: rows that
//! are written with their event are ahead of those that are projected.

use anyhow::Result;
use companion_adapters::log::subscription::Checkpoint;
use companion_adapters::read_models::compare::{self, Comparison, Whose};
use companion_adapters::read_models::copies::{Copied, LIVE};
use companion_adapters::transaction;
use sqlx::{PgPool, Postgres, Transaction};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Stopped;

/// One snapshot: rows that are written with their event come at any time, and one moment has both, or
/// neither.
pub(super) struct Moment {
    snapshot: Transaction<'static, Postgres>,
    /// The users who have events that no projection has read yet.
    ahead: Vec<Uuid>,
    /// The users whose rows are being swept away, from one table after the other.
    leaving: Vec<Uuid>,
}

impl Moment {
    /// Takes it, where the read models in use and the copy have both come to `at`.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn take(pool: &PgPool, at: Checkpoint) -> Result<Self, sqlx::Error> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut snapshot = transaction::begin_with(pool, begin).await?;
        // Whoever waits for the tables now, as a migration does, may wait for somebody who waits for this.
        sqlx::query("SET LOCAL lock_timeout = '1s'")
            .execute(&mut *snapshot)
            .await?;
        let ahead = sqlx::query_scalar(
            "SELECT DISTINCT e.user_id FROM events e WHERE (e.xid, e.position) > ($1::text::xid8, $2)",
        )
        .bind(at.xid.to_string())
        .bind(at.position)
        .fetch_all(&mut *snapshot)
        .await?;
        let leaving = sqlx::query_scalar("SELECT user_id FROM erasures WHERE swept_at IS NULL")
            .fetch_all(&mut *snapshot)
            .await?;
        Ok(Self {
            snapshot,
            ahead,
            leaving,
        })
    }

    /// Compares what the copy has of some users, see [`Moment::compare`]; returns the tables that differ.
    ///
    /// # Errors
    /// See [`Moment::compare`].
    pub(super) async fn compare_some(
        self,
        copy: &Copied,
        users: &[Uuid],
        stop: &CancellationToken,
    ) -> Result<Vec<Comparison>> {
        let mut compared = self.compare(copy, Some(users), stop).await?;
        compared.retain(|table| table.differences > 0);
        Ok(compared)
    }

    /// Compares the copy's tables, of all users or of some, and lets the moment go: it has read tables that
    /// may be moved. Who is being erased is left out.
    ///
    /// # Errors
    /// [`Stopped`], between two tables; or when the database fails.
    pub(super) async fn compare(
        mut self,
        copy: &Copied,
        only: Option<&[Uuid]>,
        stop: &CancellationToken,
    ) -> Result<Vec<Comparison>> {
        let mut comparisons = Vec::new();
        for table in &copy.tables {
            if stop.is_cancelled() {
                return Err(Stopped.into());
            }
            let mut but = self.leaving.clone();
            if is_ahead(table) {
                but.extend(&self.ahead);
            }
            let some: Vec<Uuid> = only.map_or_else(Vec::new, |users| {
                let can_be = |user: &&Uuid| !but.contains(user);
                users.iter().filter(can_be).copied().collect()
            });
            let whose = match only {
                None => Whose::AllBut(&but),
                Some(_) => Whose::Only(&some),
            };
            let snapshot = &mut *self.snapshot;
            comparisons.push(compare::compare(snapshot, LIVE, &copy.schema, table, &whose).await?);
        }
        self.snapshot.rollback().await?;
        Ok(comparisons)
    }
}

/// Whether a table is written with the event, or by an erasure, ahead of the projection. Then rows of
/// users with events that are yet to be projected can't be compared.
fn is_ahead(table: &str) -> bool {
    ["users", "api_keys", "memory_streams"].contains(&table)
}
