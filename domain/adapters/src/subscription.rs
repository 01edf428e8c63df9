//! Reading the whole log in order, from a checkpoint.
//!
//! Positions are handed out before a commit, so the order of positions is not the order in which
//! events become visible. The feed goes by (transaction id, position) and stops before the oldest
//! transaction that still runs: no event can later appear behind a checkpoint.

use std::collections::{HashMap, HashSet};

use companion_domain::events::Recorded;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::event_store::{self, EventRow, ReadError, select_events};
use crate::vault::Vault;

/// The subscription that builds the read models.
pub const READ_MODELS: &str = "read_models";
/// The subscription that turns events into jobs.
pub const RELAY: &str = "relay";

/// A page ends when its payloads are so large together, bytes: its transaction is to be short.
const MAX_BYTES: usize = 1 << 20;

/// How far a subscription has read. The beginning of the log by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
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
    /// Where the next page begins.
    pub next: Checkpoint,
    /// Whether the page was full, so that there is probably more.
    pub full: bool,
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
    let take = "SELECT xid::text::bigint, position FROM checkpoints WHERE subscription = $1 FOR UPDATE SKIP LOCKED";
    let mut row: Option<(i64, i64)> = sqlx::query_as(take)
        .bind(subscription)
        .fetch_optional(&mut *transaction)
        .await?;
    if row.is_none() {
        sqlx::query("INSERT INTO checkpoints (subscription) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(subscription)
            .execute(&mut *transaction)
            .await?;
        row = sqlx::query_as(take)
            .bind(subscription)
            .fetch_optional(&mut *transaction)
            .await?;
    }
    Ok(row.map(|(xid, position)| Checkpoint { xid, position }))
}

/// Moves the checkpoint of a subscription, in the transaction that did the work.
///
/// # Errors
/// When the database fails.
pub async fn move_checkpoint(
    transaction: &mut PgConnection,
    subscription: &str,
    to: Checkpoint,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE checkpoints SET xid = $2::text::xid8, position = $3, updated_at = now() WHERE subscription = $1",
    )
    .bind(subscription)
    .bind(to.xid.to_string())
    .bind(to.position)
    .execute(transaction)
    .await?;
    Ok(())
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

/// Reads at most `limit` events after a checkpoint.
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
    let mut rows: Vec<EventRow> = sqlx::query_as(
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
    let mut full = i64::try_from(rows.len()).is_ok_and(|read| read == limit);
    let mut bytes = 0;
    let fits = rows.iter().take_while(|row| {
        let room = bytes < MAX_BYTES;
        bytes += row.payload.len();
        room
    });
    let fitting = fits.count();
    full |= fitting < rows.len();
    rows.truncate(fitting);
    let next = rows.last().map_or(after, |row| Checkpoint {
        xid: row.xid,
        position: row.position,
    });
    let keys = hold_keys(connection, &rows).await?;
    // Those of a key that is gone, and of a former life of a user, can't be opened any more.
    let readable = |row: &EventRow| keys.get(&row.user_id) == Some(&row.key_id);
    let rows = rows.into_iter().filter(readable).collect();
    let events = event_store::open(vault, connection, rows)
        .await?
        .into_iter()
        .flatten()
        .collect();
    Ok(Page { events, next, full })
}

/// The keys of a page's users as the database has them now, not a cache; none of them can be erased
/// before the transaction has ended.
async fn hold_keys(
    connection: &mut PgConnection,
    rows: &[EventRow],
) -> Result<HashMap<Uuid, Uuid>, sqlx::Error> {
    let users: HashSet<Uuid> = rows.iter().map(|row| row.user_id).collect();
    let users: Vec<Uuid> = users.into_iter().collect();
    let keys: Vec<(Uuid, Uuid)> = sqlx::query_as(
        "SELECT user_id, key_id FROM user_keys WHERE user_id = ANY($1) ORDER BY user_id FOR KEY SHARE",
    )
    .bind(users)
    .fetch_all(connection)
    .await?;
    Ok(keys.into_iter().collect())
}
