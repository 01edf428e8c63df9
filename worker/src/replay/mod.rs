//! Building the read models anew from the log, beside those in use, and putting them in their place.
//!
//! The same projections are used as by the service, on the same events in the same order; only the pages
//! are larger. While a copy is being built, nothing else is held back: events are read ahead on a
//! connection of their own, and a page is written in short transactions. Users have nothing to do with
//! each other, so a page goes down several lanes at once, each of which takes in some of the users on a
//! connection of its own: while one computes, the database writes for the others. Nothing here can call
//! an LLM.

mod alone;
mod lane;
mod moment;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use companion_adapters::cancellation::{self, Asked};
use companion_adapters::log::event_store::ReadError;
use companion_adapters::log::reader::read_log;
use companion_adapters::log::subscription::{
    self, Bounds, Checkpoint, READ_MODELS, horizon, move_checkpoint,
};
use companion_adapters::read_models::compare::Comparison;
use companion_adapters::read_models::copies::{self, Copied};
use companion_adapters::transaction;
use companion_adapters::vault::Vault;
use companion_domain::ids::UserId;
use futures_util::future::join_all;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::alone::{alone, drop_copy, drop_old_copies};
use self::lane::{Lane, Share, stretch};
use self::moment::Moment;
use crate::projections::{self, Projection, SEARCH};

/// A page: large enough that its statements are worth their while, small enough that its transaction,
/// behind which the service's projection waits, is short, and that a handful of them fit into little memory.
const PAGE: Bounds = Bounds {
    events: 8_000,
    bytes: 4 << 20,
};
/// The lanes of a copy of all users, and the pages that wait for one while it works.
const LANES: usize = 3;
const QUEUED: usize = 1;
/// A copy that is so few events behind is up to date, as more come meanwhile.
const CLOSE: u64 = 1_000;
/// Of so few users rows are compared while others wait for the switch.
const FEW: usize = 100;
/// How often the tables are asked for in order to be switched, and the pause in between.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);
const NO_PLACE: &str = "there are no read models in use that a part could go into; build all of them: companion replay all";
/// What PostgreSQL says when a lock is not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// A copy of the read models that is being built or brought up to date.
pub struct Replay {
    pool: PgPool,
    vault: Vault,
    stop: CancellationToken,
    lanes: Vec<Lane>,
    schema: &'static str,
    pages: Bounds,
    /// The user whose copy it is; `None` for all of them.
    only: Option<UserId>,
    /// The users of whom events were taken in since the copy was last compared.
    since_compared: HashSet<Uuid>,
}

/// Told of how many events were taken in.
pub type Tell<'a> = &'a mut (dyn FnMut(u64) + Send);

/// Why a replay did not come to its end, although nothing failed.
#[derive(Debug, thiserror::Error)]
#[error("stopped; what is done is kept")]
pub struct Stopped;

/// An erasure is under way.
#[derive(Debug, thiserror::Error)]
#[error("an erasure is under way")]
struct Busy;

/// The projections of that name, or all of them.
pub fn named(name: &str) -> Option<Vec<Projection>> {
    let of_name = |projection: &Projection| name == "all" || projection.name == name;
    let named: Vec<Projection> = projections::ALL.into_iter().filter(of_name).collect();
    (!named.is_empty()).then_some(named)
}

/// The tables of projections.
pub fn tables(projections: &[Projection]) -> Vec<&'static str> {
    let tables = projections.iter().flat_map(|p| p.tables.iter().copied());
    tables.collect()
}

impl Replay {
    /// Begins a copy for some projections, of all users or of one, or goes on with the one that was begun for the same.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin(
        pool: &PgPool,
        vault: &Vault,
        schema: &'static str,
        wanted: &[Projection],
        only: Option<UserId>,
        stop: CancellationToken,
    ) -> Result<Self> {
        // Those that stamp rows need the count beside them.
        let needs = |p: &Projection| {
            wanted.iter().any(|w| w.name == p.name)
                || p.name == SEARCH.name && wanted.iter().any(|w| w.stamps)
        };
        let projections: Vec<Projection> = projections::ALL.into_iter().filter(needs).collect();
        let mut connection = pool.acquire().await?;
        let names: Vec<&str> = wanted.iter().map(|p| p.name).collect();
        let known = copies::find(&mut connection, schema).await?;
        if known.is_none_or(|copy| !copy.fits || copy.projections != names) {
            let tables = tables(&projections);
            let lanes = only.map_or(LANES, |_| 1);
            copies::make(&mut connection, schema, &names, &tables, lanes).await?;
        }
        drop(connection);
        Self::resume(pool, vault, schema, projections, only, stop).await
    }

    async fn resume(
        pool: &PgPool,
        vault: &Vault,
        schema: &'static str,
        projections: Vec<Projection>,
        only: Option<UserId>,
        stop: CancellationToken,
    ) -> Result<Self> {
        let mut replay = Self {
            pool: pool.clone(),
            vault: vault.clone(),
            stop,
            lanes: Vec::new(),
            schema,
            pages: PAGE,
            only,
            since_compared: HashSet::new(),
        };
        let of = replay.copy().await?.lanes.len();
        for number in (0..).take(of) {
            let share = Share { number, of };
            let lane = Lane::open(pool, share, schema, projections.clone());
            replay.lanes.push(lane.await?);
        }
        Ok(replay)
    }

    /// Has it read pages of another size.
    #[must_use]
    pub fn in_pages_of(self, pages: Bounds) -> Self {
        Self { pages, ..self }
    }

    /// Whether it needs indexes, in the place of what is in use, that are left out while it is filled: a check is
    /// never searched, and of a user's copy all rows are taken.
    #[must_use]
    pub fn lacks_indexes(&self) -> bool {
        self.schema == copies::SHADOW
    }

    /// The copy as it is now.
    ///
    /// # Errors
    /// When the database fails, or somebody has dropped the copy.
    pub async fn copy(&self) -> Result<Copied> {
        let copy = copies::find(&mut *self.pool.acquire().await?, self.schema).await?;
        copy.context("the copy was dropped by another command; begin again")
    }

    /// Brings the copy close to the read models in use; to the end of the log when nothing is in use.
    ///
    /// # Errors
    /// [`Stopped`]; or when an event can't be read or the database fails.
    pub async fn fill(&mut self, tell: Tell<'_>) -> Result<()> {
        loop {
            let until = match live_checkpoint(&self.pool).await? {
                Some(at) => at,
                None => horizon(&mut *self.pool.acquire().await?).await?,
            };
            if self.fill_until(until, tell).await? <= CLOSE {
                return Ok(());
            }
        }
    }

    /// About how many events are to be taken in.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ahead(&self) -> Result<u64> {
        let at = self.copy().await?.at();
        if let Some(user) = self.only {
            let ahead: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM events WHERE user_id = $1 AND (xid, position) > ($2::text::xid8, $3)",
            )
            .bind(user.0)
            .bind(at.xid.to_string())
            .bind(at.position)
            .fetch_one(&self.pool)
            .await?;
            return Ok(u64::try_from(ahead).unwrap_or(0));
        }
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(position), 0) FROM events WHERE xid = (SELECT max(xid) FROM events)")
            .fetch_one(&self.pool)
            .await?;
        Ok(u64::try_from(last - at.position).unwrap_or(0))
    }

    /// Takes the events up to a checkpoint in; returns how many there were.
    async fn fill_until(&mut self, until: Checkpoint, tell: Tell<'_>) -> Result<u64> {
        let mut taken = 0;
        loop {
            let before = self.copy().await?.lanes;
            let Some((behind, until)) = stretch(&before, until) else {
                return Ok(taken);
            };
            let (read, again) = self.fill_stretch(&before, behind, until, tell).await?;
            taken += read;
            if self.stop.is_cancelled() {
                return Err(Stopped.into());
            }
            if !again && self.copy().await?.lanes == before {
                // The last event up to there is of somebody else.
                return Ok(taken);
            }
        }
    }

    /// Has those lanes that are at a checkpoint take in what comes after it, up to another. Returns how many
    /// events were read, and whether some are to be read again, as a user was erased meanwhile. When the
    /// command is to stop, what is under way is finished.
    async fn fill_stretch(
        &mut self,
        at: &[Checkpoint],
        after: Checkpoint,
        until: Checkpoint,
        tell: Tell<'_>,
    ) -> Result<(u64, bool)> {
        let (send, mut pages) = mpsc::channel(1);
        let (pool, vault, only) = (self.pool.clone(), self.vault.clone(), self.only);
        let bounds = self.pages;
        let reader =
            tokio::spawn(
                async move { read_log(&pool, &vault, only, after, until, bounds, send).await },
            );
        let (mut queues, mut working, mut ahead) = (Vec::new(), Vec::new(), Vec::new());
        for (lane, at) in std::mem::take(&mut self.lanes).into_iter().zip(at) {
            if *at == after {
                let (send, pages) = mpsc::channel(QUEUED);
                queues.push(send);
                working.push(AbortOnDropHandle::new(tokio::spawn(lane.take_all(pages))));
            } else {
                ahead.push(lane);
            }
        }
        let (stop, since_compared) = (&self.stop, &mut self.since_compared);
        let deal_out = async move {
            let mut dealt = 0;
            'pages: while let Some(page) = pages.recv().await {
                if stop.is_cancelled() {
                    break;
                }
                let events = u64::try_from(page.read).unwrap_or(u64::MAX);
                since_compared.extend(&page.users);
                let page = Arc::new(page);
                for lane in &queues {
                    if lane.send(page.clone()).await.is_err() {
                        break 'pages;
                    }
                }
                dealt += events;
                tell(events);
            }
            dealt
        };
        let (dealt, ended) = tokio::join!(deal_out, join_all(working));
        let mut outcomes = Vec::new();
        self.lanes = ahead;
        for ended in ended {
            let (lane, outcome) = ended?;
            self.lanes.push(lane);
            outcomes.push(outcome);
        }
        self.lanes.sort_unstable_by_key(|lane| lane.number());
        let whole: Vec<bool> = outcomes.into_iter().collect::<Result<_, _>>()?;
        let read: Result<(), ReadError> = reader.await?;
        read?;
        Ok((dealt, whole.contains(&false)))
    }

    /// Makes sure that the copy has read no further than the read models in use: these would be given what
    /// it has a second time. It may have been begun before they were.
    async fn not_beyond(&self, live: Checkpoint) -> Result<()> {
        if self.copy().await?.lanes.iter().any(|at| *at > live) {
            bail!(
                "what an interrupted replay has built is ahead of the read models in use, which are being built anew; wait until lag_events in /health is 0, or begin anew: add --restart"
            );
        }
        Ok(())
    }

    /// Compares the copy with the read models in use, both as they were at one place in the log. `None`
    /// when nothing is in use yet.
    ///
    /// The projection of the service waits while the copy takes its last steps, and goes on while the
    /// rows are compared.
    ///
    /// # Errors
    /// [`Stopped`]; or when an event can't be read or the database fails.
    pub async fn compare(&mut self, tell: Tell<'_>) -> Result<Option<Vec<Comparison>>> {
        let moment = self.moment(tell).await?.map(|(moment, _)| moment);
        self.compare_in(moment, &self.copy().await?).await
    }

    /// The same, and adds the indexes that were left out while the copy was filled: to compare, nothing
    /// needs them, and one keeps those cores busy that the other leaves idle. (The way in which large tables
    /// are indexed ends when the comparison does, at the soonest.)
    ///
    /// # Errors
    /// See [`Replay::compare`].
    pub async fn complete(&mut self, tell: Tell<'_>) -> Result<Option<Vec<Comparison>>> {
        let copy = self.copy().await?;
        copies::drop_unfinished_indexes(&self.pool, &copy).await?;
        let moment = self.moment(tell).await?.map(|(moment, _)| moment);
        // An index that is being made is finished, whatever becomes of the other.
        let indexed = copies::add_indexes(&self.pool, &copy, &self.stop);
        let (compared, indexed) = tokio::join!(self.compare_in(moment, &copy), indexed);
        indexed?;
        if self.stop.is_cancelled() {
            return Err(Stopped.into());
        }
        compared
    }

    async fn compare_in(
        &self,
        moment: Option<Moment>,
        copy: &Copied,
    ) -> Result<Option<Vec<Comparison>>> {
        let Some(moment) = moment else {
            return Ok(None);
        };
        let only = self.only.map(|user| [user.0]);
        let only = only.as_ref().map(|user| user.as_slice());
        Ok(Some(moment.compare(copy, only, &self.stop).await?))
    }

    /// Compares the rows of those of whom events were taken in since the copy was last compared, if they are
    /// many: nobody waits for it yet. Returns where the copy differs.
    async fn compare_late(&mut self, tell: Tell<'_>) -> Result<Vec<Comparison>> {
        self.fill(tell).await?;
        if self.since_compared.len() <= FEW {
            return Ok(Vec::new());
        }
        let Some((moment, users)) = self.moment(tell).await? else {
            return Ok(Vec::new());
        };
        let users: Vec<Uuid> = users.into_iter().collect();
        let copy = self.copy().await?;
        moment.compare_some(&copy, &users, &self.stop).await
    }

    /// Brings the copy to the place in the log where the read models in use are, and takes the moment, with
    /// the users of whom events were taken in since the one before. `None` when nothing is in use yet.
    async fn moment(&mut self, tell: Tell<'_>) -> Result<Option<(Moment, HashSet<Uuid>)>> {
        if self.stop.is_cancelled() {
            return Err(Stopped.into());
        }
        // What came in meanwhile, before anybody waits.
        self.fill(tell).await?;
        let mut holder = transaction::begin(&self.pool).await?;
        let Some(at) = hold_live_checkpoint(&mut holder).await? else {
            return Ok(None);
        };
        self.fill_until(at, tell).await?;
        self.not_beyond(at).await?;
        let moment = Moment::take(&self.pool, at).await?;
        holder.rollback().await?;
        Ok(Some((moment, std::mem::take(&mut self.since_compared))))
    }

    /// Puts the copy's tables of these projections in the place of those in use, at one stroke. What
    /// came in since the copy was compared is compared before; returns where it differs.
    ///
    /// # Errors
    /// [`Stopped`]; or when an event can't be read, the database fails, or others hold the tables all the
    /// time.
    pub async fn switch(
        mut self,
        wanted: &[Projection],
        tell: Tell<'_>,
    ) -> Result<Vec<Comparison>> {
        let pool = self.pool.clone();
        let mut differing = Vec::new();
        for _ in 0..ATTEMPTS {
            if self.stop.is_cancelled() {
                return Err(Stopped.into());
            }
            // Before anybody waits.
            differing.extend(self.compare_late(tell).await?);
            let mut transaction = transaction::begin(&pool).await?;
            match self.try_switch(&mut transaction, wanted, tell).await {
                Ok(at_last) => {
                    transaction.commit().await?;
                    differing.extend(at_last);
                    return Ok(differing);
                }
                Err(error) => {
                    let locked = |error| is(error, LOCK_NOT_AVAILABLE);
                    let busy = error.is::<Busy>() || error.downcast_ref().is_some_and(locked);
                    transaction.rollback().await?;
                    if !busy {
                        return Err(error);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        bail!(
            "long queries or an erasure held the read models all the time; nothing was switched. Run the command again"
        )
    }

    async fn try_switch(
        &mut self,
        transaction: &mut Transaction<'static, Postgres>,
        wanted: &[Projection],
        tell: Tell<'_>,
    ) -> Result<Vec<Comparison>> {
        // It is idle while the copy takes its last steps and is compared, on other connections.
        sqlx::query("SET LOCAL idle_in_transaction_session_timeout = '10min'")
            .execute(&mut **transaction)
            .await?;
        copies::hold_off_vacuum(transaction, &self.copy().await?).await?;
        if !copies::hold_erasures(transaction).await? {
            return Err(Busy.into());
        }
        let at = hold_live_checkpoint(transaction).await?;
        match at {
            Some(at) => {
                self.fill_until(at, tell).await?;
                self.not_beyond(at).await?;
            }
            None if is_part(wanted, self.only) => bail!(NO_PLACE),
            None => self.fill(tell).await?,
        }
        let copy = self.copy().await?;
        let mut differing = Vec::new();
        if let Some(at) = at {
            let moment = Moment::take(&self.pool, at).await?;
            let users: Vec<Uuid> = self.since_compared.iter().copied().collect();
            differing = moment.compare_some(&copy, &users, &self.stop).await?;
        } else {
            let beginning = Checkpoint::default();
            move_checkpoint(transaction, READ_MODELS, beginning, copy.at()).await?;
        }
        let tables = tables(wanted);
        match self.only {
            None => copies::switch(transaction, &copy, &tables).await?,
            Some(user) => copies::replace(transaction, &copy, &tables, user).await?,
        }
        if at.is_none() {
            // Of the former ones, nothing was projected.
            copies::move_to_beginning(transaction, copies::FORMER).await?;
        }
        // Heard of when this is committed. Where nothing differed it costs the loading.
        cancellation::ask(&mut **transaction, Asked::Loaded(self.only)).await?;
        Ok(differing)
    }
}

/// The read models that were in use before the last switch, to be brought up to date and put in the place of
/// those that took theirs; and the projections whose tables were switched.
///
/// # Errors
/// When there are none, they don't fit any more, or the database fails.
pub async fn former(
    pool: &PgPool,
    vault: &Vault,
    stop: CancellationToken,
) -> Result<(Replay, Vec<Projection>)> {
    let former = copies::find(&mut *pool.acquire().await?, copies::FORMER).await?;
    let former = former.context("there are no former read models to go back to")?;
    if !former.fits {
        bail!(
            "the former read models were made by another version of the software; run: companion replay all"
        );
    }
    let of = |names: &[String], by: fn(&Projection) -> &'static str| {
        projections::ALL
            .into_iter()
            .filter(|p| names.iter().any(|n| n == by(p)))
            .collect()
    };
    let wanted: Vec<Projection> = of(&former.projections, |p| p.name);
    let all: Vec<Projection> = of(&former.tables, |p| p.tables[0]);
    let replay = Replay::resume(pool, vault, copies::FORMER, all, None, stop).await?;
    Ok((replay, wanted))
}

/// Makes sure that what a replay builds can take the place of something: a part needs the others beside it.
///
/// # Errors
/// When nothing is in use yet and it is a part, or the database fails.
pub async fn has_a_place(pool: &PgPool, wanted: &[Projection], only: Option<UserId>) -> Result<()> {
    if is_part(wanted, only) && live_checkpoint(pool).await?.is_none() {
        bail!(NO_PLACE);
    }
    Ok(())
}

fn is_part(wanted: &[Projection], only: Option<UserId>) -> bool {
    only.is_some() || wanted.len() < projections::ALL.len()
}

/// How far the read models in use are; `None` when they have not been begun.
async fn live_checkpoint(pool: &PgPool) -> Result<Option<Checkpoint>, sqlx::Error> {
    Ok(begun(subscription::checkpoint(pool, READ_MODELS).await?))
}

/// The same, and keeps the service's projection from going on until the transaction ends.
async fn hold_live_checkpoint(
    connection: &mut PgConnection,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let held = subscription::hold_checkpoint(connection, READ_MODELS);
    Ok(begun(held.await?))
}

fn begun(at: Checkpoint) -> Option<Checkpoint> {
    (at.position > 0).then_some(at)
}

fn is(error: &sqlx::Error, code: &str) -> bool {
    let of_database = error.as_database_error();
    of_database
        .and_then(|error| error.code())
        .is_some_and(|c| c == code)
}
