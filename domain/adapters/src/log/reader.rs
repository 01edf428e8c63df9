//! Reading a long piece of the log at once, in order: one binary COPY, cut into pages as it comes.
//!
//! Subscriptions ask for a page when they want one. Who goes through the whole log would ask a hundred
//! thousand times; and a page of large events would be sent in full only to be cut.

use chrono::{DateTime, TimeDelta, Utc};
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
    let statement = format!(
        "COPY (SELECT e.position, e.xid, e.event_id, e.stream_id, e.version, e.user_id, e.type,
                      e.schema_version, e.key_id, e.payload, e.recorded_at
               FROM events e
               WHERE (e.xid, e.position) > ('{}'::xid8, {}) AND (e.xid, e.position) <= ('{}'::xid8, {}) {}
               ORDER BY e.xid, e.position) TO STDOUT WITH (FORMAT binary)",
        after.xid,
        after.position,
        until.xid,
        until.position,
        whose.unwrap_or_default()
    );
    let mut chunks = connection.copy_out_raw(&statement).await?;
    let mut rows = Decoder::default();
    let mut page = Draft::new(after);
    while let Some(chunk) = chunks.next().await {
        rows.feed(&chunk?);
        while let Some(row) = rows.next()? {
            page.take(row);
            if page.is_full(bounds) {
                let full = page.next_after();
                let page = std::mem::replace(&mut page, full);
                if pages.send(page.open(pool, vault).await?).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
    if !page.rows.is_empty() {
        // Nobody to take it is no error.
        let _ = pages.send(page.open(pool, vault).await?).await;
    }
    Ok(())
}

/// A page that is being read.
struct Draft {
    after: Checkpoint,
    rows: Vec<EventRow>,
    bytes: usize,
}

impl Draft {
    fn new(after: Checkpoint) -> Self {
        Self {
            after,
            rows: Vec::new(),
            bytes: 0,
        }
    }

    fn take(&mut self, row: EventRow) {
        self.bytes += row.payload.len();
        self.rows.push(row);
    }

    fn is_full(&self, bounds: Bounds) -> bool {
        self.bytes >= bounds.bytes
            || i64::try_from(self.rows.len()).is_ok_and(|rows| rows >= bounds.events)
    }

    fn next_after(&self) -> Self {
        Self::new(self.rows.last().map_or(self.after, EventRow::place))
    }

    async fn open(self, pool: &PgPool, vault: &Vault) -> Result<Page, ReadError> {
        let mut connection = pool.acquire().await?;
        open_rows(&mut connection, vault, self.after, self.rows).await
    }
}

/// Takes rows out of what a COPY sends.
#[derive(Default)]
struct Decoder {
    bytes: Vec<u8>,
    /// How much of the bytes has been taken.
    taken: usize,
    begun: bool,
}

impl Decoder {
    fn feed(&mut self, chunk: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend(chunk);
    }

    /// The next row, if all of it is there.
    fn next(&mut self) -> Result<Option<EventRow>, sqlx::Error> {
        if !self.begun {
            if self.bytes.len() < HEADER {
                return Ok(None);
            }
            self.begun = true;
            self.taken = HEADER;
        }
        let mut fields = Fields {
            bytes: self.bytes.get(self.taken..).unwrap_or_default(),
        };
        let Some(row) = whole_row(&mut fields) else {
            return Ok(None);
        };
        let left = fields.bytes.len();
        let row = row.ok_or_else(|| {
            sqlx::Error::Protocol("a row of the log has another shape".to_owned())
        })?;
        self.taken = self.bytes.len() - left;
        Ok(Some(row))
    }
}

/// What is left of a row.
#[derive(Clone, Copy)]
struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*taken)
    }

    /// The next field; none of them is NULL.
    fn field(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(i32::from_be_bytes(self.take()?)).ok()?;
        let (field, rest) = self.bytes.split_at_checked(length)?;
        self.bytes = rest;
        Some(field)
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

    fn text(&mut self) -> Option<String> {
        Some(std::str::from_utf8(self.field()?).ok()?.to_owned())
    }

    fn time(&mut self) -> Option<DateTime<Utc>> {
        let since = TimeDelta::microseconds(self.number()?);
        DateTime::from_timestamp(EPOCH, 0)?.checked_add_signed(since)
    }
}

/// A row; the outer `None` when the bytes end before it does, the inner one for a row of another shape.
fn whole_row(fields: &mut Fields<'_>) -> Option<Option<EventRow>> {
    let mut ahead = *fields;
    // A count of -1 is the end.
    let count = u16::try_from(i16::from_be_bytes(ahead.take()?)).ok()?;
    let mut row = ahead;
    for _ in 0..count {
        ahead.field()?;
    }
    *fields = ahead;
    Some(decode(&mut row))
}

fn decode(row: &mut Fields<'_>) -> Option<EventRow> {
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
        payload: row.field()?.to_vec(),
        recorded_at: row.time()?,
        meta: Json(Box::default()),
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
            b"sealed",
            &1_000_000i64.to_be_bytes(),
        ];
        for field in fields {
            bytes.extend(i32::try_from(field.len()).expect("short").to_be_bytes());
            bytes.extend(field);
        }
        bytes
    }

    #[test]
    fn rows_are_read_however_the_bytes_are_cut() {
        let all = [&[0; HEADER][..], &row(), &row(), &(-1i16).to_be_bytes()].concat();
        for size in 1..all.len() {
            let (mut decoder, mut rows) = (Decoder::default(), Vec::new());
            for chunk in all.chunks(size) {
                decoder.feed(chunk);
                while let Some(row) = decoder.next().expect("reads") {
                    rows.push(row);
                }
            }
            assert_eq!(rows.len(), 2, "in pieces of {size}");
            let read = &rows[1];
            assert_eq!((read.position, read.xid, read.version), (5, 6, 1));
            assert_eq!(read.payload, b"sealed");
            assert_eq!(read.recorded_at.to_rfc3339(), "2000-01-01T00:00:01+00:00");
        }
    }
}
