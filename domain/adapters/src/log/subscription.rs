//! Reading the whole log in order, from a checkpoint.
//!
//! Positions are handed out before a commit, so the order of positions is not the order in which
//! events become visible. The feed goes by (transaction id, position) and stops before the oldest
//! transaction that still runs: no event can later appear behind a checkpoint.

use chrono::{DateTime, Utc};
use companion_domain::events::Recorded;
use companion_domain::ids::UserId;
use foldhash::{HashMap, HashSet};
use sqlx::{AssertSqlSafe, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::log::event_store::{self, EventRow, ReadError, select_events};
use crate::vault::Vault;

/// The subscription that builds the read models.
pub const READ_MODELS: &str = "read_models";
/// The subscription that turns events into jobs.
pub const RELAY: &str = "relay";

/// A page ends when its payloads are so large together, bytes: its transaction is to be short.
const MAX_BYTES: usize = 1 << 20;

/// How far a subscription has read. The beginning of the log by default. As a row it has the columns
/// `xid::text::bigint AS xid` and `position`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, sqlx::FromRow)]
pub struct Checkpoint {
    /// The transaction of the last event that was read.
    pub xid: i64,
    /// The position of the last event that was read.
    pub position: i64,
}

/// A piece of the log.
#[derive(Debug, Default)]
pub struct Page {
    /// The events, in order, without those whose key is gone.
    pub events: Vec<Recorded>,
    /// How many events there are, with those whose key is gone.
    pub read: usize,
    /// Where the page begins: after this.
    pub after: Checkpoint,
    /// Where the next page begins.
    pub next: Checkpoint,
    /// Whether the page was full, so that there is probably more.
    pub full: bool,
    /// The users of whom it has events.
    pub users: Vec<Uuid>,
    /// Their keys, with which it was opened; who has none is missing.
    keys: HashMap<Uuid, Uuid>,
}

/// How large a page may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Events, at most.
    pub events: i64,
    /// The page ends when its payloads are so large together, bytes.
    pub bytes: usize,
}

/// Takes the checkpoint of a subscription for the length of the transaction; `None` when another
/// process has it.
///
/// # Errors
/// When the database fails.
pub async fn take_checkpoint(
    transaction: &mut PgConnection,
    subscription: &str,
) -> Result<Option<Checkpoint>, sqlx::Error> {
    let take = "SELECT xid::text::bigint AS xid, position FROM checkpoints WHERE subscription = $1 FOR UPDATE SKIP LOCKED";
    let mut taken = sqlx::query_as(take)
        .bind(subscription)
        .fetch_optional(&mut *transaction)
        .await?;
    if taken.is_none() {
        begin(&mut *transaction, subscription).await?;
        taken = sqlx::query_as(take)
            .bind(subscription)
            .fetch_optional(&mut *transaction)
            .await?;
    }
    Ok(taken)
}

/// Waits for the checkpoint of a subscription and keeps it from moving until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn hold_checkpoint(
    transaction: &mut PgConnection,
    subscription: &str,
) -> Result<Checkpoint, sqlx::Error> {
    begin(&mut *transaction, subscription).await?;
    sqlx::query_as(
        "SELECT xid::text::bigint AS xid, position FROM checkpoints WHERE subscription = $1 FOR UPDATE",
    )
    .bind(subscription)
    .fetch_one(transaction)
    .await
}

/// How far a subscription has read by now.
///
/// # Errors
/// When the database fails.
pub async fn checkpoint(
    executor: impl PgExecutor<'_>,
    subscription: &str,
) -> Result<Checkpoint, sqlx::Error> {
    let read: Option<Checkpoint> = sqlx::query_as(
        "SELECT xid::text::bigint AS xid, position FROM checkpoints WHERE subscription = $1",
    )
    .bind(subscription)
    .fetch_optional(executor)
    .await?;
    Ok(read.unwrap_or_default())
}

/// When the first event was recorded that a subscription has yet to read; `None` when it has read all.
///
/// # Errors
/// When the database fails.
pub async fn waits_since(
    executor: impl PgExecutor<'_>,
    subscription: &str,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT e.recorded_at FROM events e
         WHERE (e.xid, e.position) > (SELECT c.xid, c.position FROM checkpoints c WHERE c.subscription = $1)
         ORDER BY e.xid, e.position LIMIT 1",
    )
    .bind(subscription)
    .fetch_optional(executor)
    .await
}

async fn begin(connection: &mut PgConnection, subscription: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO checkpoints (subscription) VALUES ($1) ON CONFLICT DO NOTHING")
        .bind(subscription)
        .execute(connection)
        .await?;
    Ok(())
}

/// Moves the checkpoint of a subscription past a page, in the transaction that did the work. `false` when
/// it is not where the page begins: then the page was worked on before, and the transaction must not
/// commit.
///
/// # Errors
/// When the database fails.
pub async fn move_checkpoint(
    transaction: &mut PgConnection,
    subscription: &str,
    from: Checkpoint,
    to: Checkpoint,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        "UPDATE checkpoints SET xid = $4::text::xid8, position = $5, updated_at = now()
         WHERE subscription = $1 AND xid = $2::text::xid8 AND position = $3",
    )
    .bind(subscription)
    .bind(from.xid.to_string())
    .bind(from.position)
    .bind(to.xid.to_string())
    .bind(to.position)
    .execute(transaction)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// Whether there is anything to read after a checkpoint.
///
/// # Errors
/// When the database fails.
pub async fn has_more(
    connection: &mut PgConnection,
    after: Checkpoint,
) -> Result<bool, sqlx::Error> {
    // The order makes the planner take the index: what is new lies at the end of the table, where
    // it would look last.
    let next: Option<i64> = sqlx::query_scalar(
        "SELECT e.position FROM events e
         WHERE (e.xid, e.position) > ($1::text::xid8, $2) AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
         ORDER BY e.xid, e.position LIMIT 1",
    )
    .bind(after.xid.to_string())
    .bind(after.position)
    .fetch_optional(connection)
    .await?;
    Ok(next.is_some())
}

/// Reads at most `limit` events after a checkpoint. None of the page's users can be erased before the
/// transaction has ended.
///
/// # Errors
/// [`ReadError`] when an event can't be opened or read: a subscription stops there rather than
/// leave it out.
pub async fn read_page(
    connection: &mut PgConnection,
    vault: &Vault,
    after: Checkpoint,
    limit: i64,
) -> Result<Page, ReadError> {
    let rows: Vec<EventRow> = sqlx::query_as(
        select_events!(
            "WHERE (e.xid, e.position) > ($1::text::xid8, $2) AND e.xid < pg_snapshot_xmin(pg_current_snapshot())
             ORDER BY e.xid, e.position LIMIT $3"
        ),
    )
    .bind(after.xid.to_string())
    .bind(after.position)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let bounds = Bounds {
        events: limit,
        bytes: MAX_BYTES,
    };
    let (rows, full) = fit(rows, bounds);
    let keys = keys_of(connection, &rows, "FOR KEY SHARE").await?;
    let page = open(connection, vault, after, rows, keys).await?;
    Ok(Page { full, ..page })
}

/// Holds the keys of some of a page's users until the transaction has ended, so that none of them can be
/// erased meanwhile. `false` when one of them has another key by now, or none: then the page has to be
/// read again.
///
/// # Errors
/// When the database fails.
pub async fn hold_keys(
    connection: &mut PgConnection,
    page: &Page,
    whose: impl Fn(UserId) -> bool,
) -> Result<bool, sqlx::Error> {
    let users = page.users.iter().copied();
    let users: Vec<Uuid> = users.filter(|user| whose(UserId(*user))).collect();
    let held = select_keys(connection, users.clone(), "FOR KEY SHARE").await?;
    Ok(users
        .iter()
        .all(|user| held.get(user) == page.keys.get(user)))
}

/// The last event that a subscription may read now, as no event can appear before it any more.
///
/// # Errors
/// When the database fails.
pub async fn horizon(connection: &mut PgConnection) -> Result<Checkpoint, sqlx::Error> {
    let last: Option<Checkpoint> = sqlx::query_as(
        "SELECT e.xid::text::bigint AS xid, e.position FROM events e
         WHERE e.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY e.xid DESC, e.position DESC LIMIT 1",
    )
    .fetch_optional(connection)
    .await?;
    Ok(last.unwrap_or_default())
}

/// Those of the rows that fit on a page, and whether it is full.
fn fit(mut rows: Vec<EventRow>, bounds: Bounds) -> (Vec<EventRow>, bool) {
    let full = i64::try_from(rows.len()).is_ok_and(|read| read == bounds.events);
    let mut bytes = 0;
    let fits = rows.iter().take_while(|row| {
        let room = bytes < bounds.bytes;
        bytes += row.payload.len();
        room
    });
    let fitting = fits.count();
    let full = full || fitting < rows.len();
    rows.truncate(fitting);
    (rows, full)
}

/// Makes a page of rows. The keys of its users are not held: see [`hold_keys`].
pub(crate) async fn open_rows<T: AsRef<str> + Into<String>, B: AsMut<[u8]>>(
    connection: &mut PgConnection,
    vault: &Vault,
    after: Checkpoint,
    rows: Vec<EventRow<T, B>>,
) -> Result<Page, ReadError> {
    let keys = keys_of(connection, &rows, "").await?;
    open(connection, vault, after, rows, keys).await
}

async fn open<T: AsRef<str> + Into<String>, B: AsMut<[u8]>>(
    connection: &mut PgConnection,
    vault: &Vault,
    after: Checkpoint,
    mut rows: Vec<EventRow<T, B>>,
    keys: HashMap<Uuid, Uuid>,
) -> Result<Page, ReadError> {
    let next = rows.last().map_or(after, EventRow::place);
    // Those of a key that is gone, and of a former life of a user, can't be opened any more.
    let readable = |row: &EventRow<T, B>| keys.get(&row.user_id) == Some(&row.key_id);
    let read = rows.len();
    let users = users_of(&rows);
    rows.retain(readable);
    Ok(Page {
        events: event_store::open(vault, connection, rows).await?,
        read,
        after,
        next,
        full: false,
        users,
        keys,
    })
}

impl<T, B> EventRow<T, B> {
    /// Its place in the log.
    pub(crate) fn place(&self) -> Checkpoint {
        Checkpoint {
            xid: self.xid,
            position: self.position,
        }
    }
}

/// The keys of the users of rows as the database has them now, not a cache.
async fn keys_of<T, B>(
    connection: &mut PgConnection,
    rows: &[EventRow<T, B>],
    lock: &str,
) -> Result<HashMap<Uuid, Uuid>, sqlx::Error> {
    select_keys(connection, users_of(rows), lock).await
}

fn users_of<T, B>(rows: &[EventRow<T, B>]) -> Vec<Uuid> {
    let users: HashSet<Uuid> = rows.iter().map(|row| row.user_id).collect();
    users.into_iter().collect()
}

async fn select_keys(
    connection: &mut PgConnection,
    users: Vec<Uuid>,
    lock: &str,
) -> Result<HashMap<Uuid, Uuid>, sqlx::Error> {
    let sql = format!(
        "SELECT user_id, key_id FROM user_keys WHERE user_id = ANY($1) ORDER BY user_id {lock}"
    );
    let keys: Vec<(Uuid, Uuid)> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(users)
        .fetch_all(connection)
        .await?;
    Ok(keys.into_iter().collect())
}
