//! A lane of a replay: it takes in the events of some of the users, in order, on a connection and with a
//! checkpoint of its own.

use std::sync::Arc;

use companion_adapters::log::subscription::{Checkpoint, Page, hold_keys};
use companion_adapters::read_models::{Manner, copies};
use companion_domain::events::Recorded;
use companion_domain::ids::UserId;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::sync::mpsc;

use super::is;
use crate::projections::{self, Projection};

/// What PostgreSQL says when a key is there already.
const UNIQUE_VIOLATION: &str = "23505";

/// Which of the users a lane has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The lane, from 0.
    pub(super) number: i16,
    /// How many lanes there are.
    pub(super) of: usize,
}

/// Takes in the events of some of the users, in order.
pub(super) struct Lane {
    share: Share,
    /// Its search path leads to the copy.
    connection: PgConnection,
    schema: &'static str,
    projections: Vec<Projection>,
}

impl Share {
    /// Whether a user's events are this lane's.
    fn takes(self, user: UserId) -> bool {
        let lane = usize::from(user.0.as_bytes()[15]) % self.of.max(1);
        usize::try_from(self.number) == Ok(lane)
    }
}

impl Lane {
    /// Opens its connection.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn open(
        pool: &PgPool,
        share: Share,
        schema: &'static str,
        projections: Vec<Projection>,
    ) -> Result<Self, sqlx::Error> {
        let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
        // While a copy grows there are no statistics of it: PostgreSQL would take its tables for empty and
        // read them from end to end, where each page only looks up rows by keys that have an index.
        let settings = format!(
            "SELECT set_config('search_path', '{schema},public', false), set_config('synchronous_commit', 'off', false),
                    set_config('enable_seqscan', 'off', false), set_config('enable_hashjoin', 'off', false),
                    set_config('enable_mergejoin', 'off', false)"
        );
        sqlx::query(AssertSqlSafe(settings))
            .execute(&mut connection)
            .await?;
        Ok(Self {
            share,
            connection,
            schema,
            projections,
        })
    }

    /// Which of the lanes it is.
    pub(super) fn number(&self) -> i16 {
        self.share.number
    }

    /// Takes its parts of pages in until there are no more, or one has to be read again: then `false`.
    pub(super) async fn take_all(
        mut self,
        mut pages: mpsc::Receiver<Arc<Page>>,
    ) -> (Self, Result<bool, sqlx::Error>) {
        while let Some(page) = pages.recv().await {
            match self.take(&page).await {
                Ok(true) => {}
                ended => return (self, ended),
            }
        }
        (self, Ok(true))
    }

    /// Takes a page in; `false` when it has to be read again, as a user was erased meanwhile.
    async fn take(&mut self, page: &Page) -> Result<bool, sqlx::Error> {
        match self.try_take(page, false).await {
            Err(error) if is(&error, UNIQUE_VIOLATION) => self.try_take(page, true).await,
            taken => taken,
        }
    }

    async fn try_take(&mut self, page: &Page, doubtful: bool) -> Result<bool, sqlx::Error> {
        let share = self.share;
        let mut transaction = self.connection.begin().await?;
        let at = copies::take_checkpoint(&mut transaction, self.schema, share.number).await?;
        let takes = |user| share.takes(user);
        if at.is_some_and(|at| at != page.after) {
            // It would be read again and again.
            let told = "a page of the log does not go on where the copy has come to".to_owned();
            return Err(sqlx::Error::Protocol(told));
        }
        if at.is_none() || !hold_keys(&mut transaction, page, takes).await? {
            return Ok(false);
        }
        let events: Vec<&Recorded> = page.events.iter().filter(|e| takes(e.user)).collect();
        let (projections, manner) = (&self.projections, Manner::Replay);
        projections::project(&mut transaction, &events, projections, manner, doubtful).await?;
        copies::move_checkpoint(&mut transaction, self.schema, share.number, page.next).await?;
        transaction.commit().await?;
        Ok(true)
    }
}

/// What is to be read next of the log up to a checkpoint, and by whom: those lanes that are furthest behind
/// take it in, up to where the next one is. `None` when all are there. They differ after an interruption.
pub(super) fn stretch(lanes: &[Checkpoint], until: Checkpoint) -> Option<(Checkpoint, Checkpoint)> {
    let behind = *lanes.iter().min()?;
    let next = lanes.iter().filter(|at| **at > behind).min();
    let until = next.map_or(until, |next| until.min(*next));
    (behind < until).then_some((behind, until))
}
