//! Reading a long piece of the log, in order: a few binary COPYs, cut into pages as they come.
//!
//! Subscriptions ask for a page when they want one. Who goes through the whole log would ask a hundred
//! thousand times; and a page of large events would be sent in full only to be cut. One COPY of all of it
//! would keep PostgreSQL from clearing up former versions of rows, in the whole database, for as long as it
//! lasts.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use companion_domain::events::Metadata;
use companion_domain::ids::UserId;
use futures_util::StreamExt;
use sqlx::types::Json;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::log::event_store::{EventRow, ReadError};
use crate::log::subscription::{Bounds, Checkpoint, Page, open_rows};
use crate::vault::Vault;

/// The signature, then flags and the length of the extension: the header of a binary COPY.
const HEADER: usize = 19;
/// What comes after the last row: a count of fields of -1.
const END: [u8; 2] = (-1i16).to_be_bytes();
/// Events of a COPY: so many full pages.
const PAGES: i64 = 5;
/// PostgreSQL counts time from 2000-01-01; seconds after 1970.
const EPOCH: i64 = 946_684_800;

/// Reads the log of all users or of one after a checkpoint, up to `until` and including it, without the metadata of the
/// events, and sends it in pages until all is read or nobody takes them any more. The keys of the users
/// are those of the time of reading: see [`crate::log::subscription::hold_keys`].
///
/// # Errors
/// [`ReadError`] when an event can't be opened or read.
pub async fn read_log(
    pool: &PgPool,
    vault: &Vault,
    only: Option<UserId>,
    after: Checkpoint,
    until: Checkpoint,
    bounds: Bounds,
    pages: mpsc::Sender<Page>,
) -> Result<(), ReadError> {
    // A connection of its own: when nobody wants the rest, it is cut off.
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
    // In the order of the index, so that nothing waits for a sort of all of it.
    sqlx::query("SELECT set_config('enable_sort', 'off', false), set_config('enable_seqscan', 'off', false)")
        .execute(&mut connection)
        .await?;
    let whose = only.map(|user| format!("AND e.user_id = '{user}'"));
    let whose = whose.unwrap_or_default();
    let most = bounds.events.max(1).saturating_mul(PAGES);
    let mut page = Draft::new(after);
    loop {
        let at = page.reached().ok_or_else(another_shape)?;
        let statement = format!(
            "COPY (SELECT e.position, e.xid, e.event_id, e.stream_id, e.version, e.user_id, e.type,
                          e.schema_version, e.key_id, e.recorded_at, e.payload
                   FROM events e
                   WHERE (e.xid, e.position) > ('{}'::xid8, {}) AND (e.xid, e.position) <= ('{}'::xid8, {}) {whose}
                   ORDER BY e.xid, e.position LIMIT {most}) TO STDOUT WITH (FORMAT binary)",
            at.xid, at.position, until.xid, until.position,
        );
        let mut chunks = connection.copy_out_raw(&statement).await?;
        let mut events = 0;
        while let Some(chunk) = chunks.next().await {
            page.feed(&chunk?);
            while page.take_row() {
                events += 1;
                if page.is_full(bounds) {
                    let full = page.open(pool, vault).await?;
                    page.turn(full.next);
                    if pages.send(full).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
        page.end_copy().ok_or_else(another_shape)?;
        if events < most {
            break;
        }
    }
    if !page.rows.is_empty() {
        // Nobody to take it is no error.
        let _ = pages.send(page.open(pool, vault).await?).await;
    }
    Ok(())
}

fn another_shape() -> sqlx::Error {
    sqlx::Error::Protocol("a row of the log has another shape".to_owned())
}

/// A page that is being read: bytes as they come, and where in them rows end. They are decoded and opened
/// where they lie, when all of them are there.
struct Draft {
    after: Checkpoint,
    /// How much of the header is still to come.
    header: usize,
    bytes: Vec<u8>,
    rows: Vec<Extent>,
    /// Bytes of the payloads.
    payloads: usize,
}

/// Where a row ends, and with it its last field, the payload.
struct Extent {
    end: usize,
    payload: usize,
}

/// A row, in the bytes that came.
type Row<'b> = EventRow<&'b str, &'b mut [u8]>;

impl Draft {
    fn new(after: Checkpoint) -> Self {
        Self {
            after,
            header: HEADER,
            bytes: Vec::new(),
            rows: Vec::new(),
            payloads: 0,
        }
    }

    fn feed(&mut self, chunk: &[u8]) {
        let header = self.header.min(chunk.len());
        self.header -= header;
        self.bytes.extend_from_slice(&chunk[header..]);
    }

    /// Takes the next row, if all of it is there.
    fn take_row(&mut self) -> bool {
        let mut fields = Fields {
            bytes: self.bytes.get(self.end()..).unwrap_or_default(),
        };
        let Some(payload) = fields.skip_row() else {
            return false;
        };
        let end = self.bytes.len() - fields.bytes.len();
        self.payloads += payload;
        self.rows.push(Extent { end, payload });
        true
    }

    /// Takes what comes after the last row of a COPY; `None` when it is anything else than its end.
    fn end_copy(&mut self) -> Option<()> {
        let end = self.end();
        let rest = self.bytes.get(end..)?;
        if self.header != 0 || rest != END {
            return None;
        }
        self.bytes.truncate(end);
        self.header = HEADER;
        Some(())
    }

    /// The place in the log of the last row; `None` when that has another shape.
    fn reached(&self) -> Option<Checkpoint> {
        let Some((_, before)) = self.rows.split_last() else {
            return Some(self.after);
        };
        let begin = before.last().map_or(0, |row| row.end);
        let mut row = Fields {
            bytes: self.bytes.get(begin..)?,
        };
        row.count()?;
        let (position, xid) = (row.number()?, row.number()?);
        Some(Checkpoint { xid, position })
    }

    /// Where the last row ends.
    fn end(&self) -> usize {
        self.rows.last().map_or(0, |row| row.end)
    }

    fn is_full(&self, bounds: Bounds) -> bool {
        self.payloads >= bounds.bytes
            || i64::try_from(self.rows.len()).is_ok_and(|rows| rows >= bounds.events)
    }

    /// Goes on with the next page, in the room of this one.
    fn turn(&mut self, next: Checkpoint) {
        self.bytes.drain(..self.end());
        self.rows.clear();
        self.payloads = 0;
        self.after = next;
    }

    /// Opens its rows; they are of no use then.
    async fn open(&mut self, pool: &PgPool, vault: &Vault) -> Result<Page, ReadError> {
        let after = self.after;
        let rows = self.decode().ok_or_else(another_shape)?;
        let mut connection = pool.acquire().await?;
        open_rows(&mut connection, vault, after, rows).await
    }

    fn decode(&mut self) -> Option<Vec<Row<'_>>> {
        let metadata = Arc::default();
        let mut bytes = self.bytes.as_mut_slice();
        let mut begin = 0;
        let rows = self.rows.iter().map(|row| {
            let head = bytes.split_off_mut(..row.end - row.payload - begin)?;
            let payload = bytes.split_off_mut(..row.payload)?;
            begin = row.end;
            decode(head, payload, &metadata)
        });
        rows.collect()
    }
}

/// What is left of a row.
struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*taken)
    }

    /// How many fields the row has; a count of -1 is the end of all rows.
    fn count(&mut self) -> Option<u16> {
        u16::try_from(i16::from_be_bytes(self.take()?)).ok()
    }

    /// The next field; none of them is NULL.
    fn field(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(i32::from_be_bytes(self.take()?)).ok()?;
        let (field, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(field)
    }

    /// Goes past a row; returns the length of its last field. `None` when the bytes end before it does.
    fn skip_row(&mut self) -> Option<usize> {
        let mut last = 0;
        for _ in 0..self.count()? {
            last = self.field()?.len();
        }
        Some(last)
    }

    fn number(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.field()?.try_into().ok()?))
    }

    fn small(&mut self) -> Option<i16> {
        Some(i16::from_be_bytes(self.field()?.try_into().ok()?))
    }

    fn id(&mut self) -> Option<Uuid> {
        Uuid::from_slice(self.field()?).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.field()?).ok()
    }

    fn time(&mut self) -> Option<DateTime<Utc>> {
        let since = TimeDelta::microseconds(self.number()?);
        DateTime::from_timestamp(EPOCH, 0)?.checked_add_signed(since)
    }
}

/// A row; `None` when it has another shape.
fn decode<'b>(head: &'b [u8], payload: &'b mut [u8], metadata: &Arc<Metadata>) -> Option<Row<'b>> {
    let mut row = Fields { bytes: head };
    row.count()?;
    Some(EventRow {
        position: row.number()?,
        xid: row.number()?,
        event_id: row.id()?,
        stream_id: row.text()?,
        version: row.number()?,
        user_id: row.id()?,
        type_name: row.text()?,
        schema_version: row.small()?,
        key_id: row.id()?,
        recorded_at: row.time()?,
        payload,
        meta: Json(metadata.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Vec<u8> {
        let mut bytes = 11i16.to_be_bytes().to_vec();
        let id = Uuid::from_u128(7);
        let fields: [&[u8]; 11] = [
            &5i64.to_be_bytes(),
            &6i64.to_be_bytes(),
            id.as_bytes(),
            b"user-7",
            &1i64.to_be_bytes(),
            id.as_bytes(),
            b"UserRegistered",
            &1i16.to_be_bytes(),
            id.as_bytes(),
            &1_000_000i64.to_be_bytes(),
            b"sealed",
        ];
        for field in fields {
            bytes.extend(i32::try_from(field.len()).expect("short").to_be_bytes());
            bytes.extend(field);
        }
        bytes
    }

    #[test]
    fn rows_are_read_however_the_bytes_are_cut_and_from_one_copy_to_the_next() {
        let copy = [&[0; HEADER][..], &row(), &row(), &END].concat();
        for size in 1..=copy.len() {
            let mut page = Draft::new(Checkpoint::default());
            for copies in 1..=2 {
                for chunk in copy.chunks(size) {
                    page.feed(chunk);
                    while page.take_row() {}
                }
                page.end_copy().expect("its end");
                assert_eq!(page.rows.len(), 2 * copies, "in pieces of {size}");
                let reached = page.reached().map(|at| (at.xid, at.position));
                assert_eq!(reached, Some((6, 5)));
            }
            for row in page.decode().expect("reads") {
                assert_eq!((row.position, row.xid, row.version), (5, 6, 1));
                assert_eq!((row.stream_id, row.type_name), ("user-7", "UserRegistered"));
                assert_eq!(row.payload, b"sealed");
                assert_eq!(row.recorded_at.to_rfc3339(), "2000-01-01T00:00:01+00:00");
            }
            page.turn(Checkpoint::default());
            assert!(page.bytes.is_empty());
        }
    }

    #[test]
    fn a_copy_that_ends_in_another_way_is_refused() {
        let mut cut_off = row();
        cut_off.pop();
        for rows in [vec![], row(), [row(), cut_off].concat()] {
            let mut page = Draft::new(Checkpoint::default());
            page.feed(&[&[0; HEADER][..], &rows].concat());
            while page.take_row() {}
            assert!(page.end_copy().is_none());
        }
    }

    #[test]
    fn a_row_of_another_shape_is_refused() {
        let mut page = Draft::new(Checkpoint::default());
        page.feed(&[0; HEADER]);
        page.feed(&[&1i16.to_be_bytes()[..], &4i32.to_be_bytes(), b"what"].concat());
        assert!(page.take_row());
        assert!(page.reached().is_none());
        assert!(page.decode().is_none());
    }
}
