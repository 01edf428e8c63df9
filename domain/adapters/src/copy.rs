//! Rows in PostgreSQL's binary COPY format: the quickest way to bring many into a table.
//!
//! The format: <https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS>; the
//! values: what `*_send` and `*_recv` of each type say.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::Json;
use uuid::Uuid;

/// "PGCOPY", no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// The end of the data.
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// The length that stands for NULL.
const NULL: [u8; 4] = (-1i32).to_be_bytes();
/// PostgreSQL counts time from 2000-01-01; seconds after 1970.
pub(crate) const EPOCH: i64 = 946_684_800;
/// How much is sent at once, bytes.
const PIECE: usize = 64 << 10;

/// Rows on their way into a table.
#[derive(Debug)]
pub struct CopyRows(Vec<u8>);

impl Default for CopyRows {
    fn default() -> Self {
        Self(HEADER.to_vec())
    }
}

impl CopyRows {
    /// Begins a row of so many fields.
    pub fn begin(&mut self, fields: usize) {
        let fields = i16::try_from(fields).unwrap_or(i16::MAX);
        self.0.extend(fields.to_be_bytes());
    }

    /// Adds a field.
    pub fn field(&mut self, value: &impl Field) {
        let length_at = self.0.len();
        self.0.extend(NULL);
        if value.put(&mut self.0) {
            let length = self.0.len() - length_at - NULL.len();
            // No value is longer than a message, and none of these is longer than 16 MiB.
            let length = i32::try_from(length).unwrap_or(i32::MAX);
            self.0[length_at..length_at + NULL.len()].copy_from_slice(&length.to_be_bytes());
        }
    }

    /// Copies the rows into a table.
    ///
    /// # Errors
    /// When the database fails; one of the keys is there already, for example.
    pub async fn send(
        mut self,
        connection: &mut PgConnection,
        table: &str,
        columns: &str,
    ) -> Result<(), sqlx::Error> {
        self.0.extend(TRAILER);
        let statement = format!("COPY {table} ({columns}) FROM STDIN WITH (FORMAT binary)");
        let mut copy = connection.copy_in_raw(&statement).await?;
        for piece in self.0.chunks(PIECE) {
            copy.send(piece).await?;
        }
        copy.finish().await?;
        Ok(())
    }
}

/// A value of a column.
pub trait Field {
    /// Adds the value; `false` when it is NULL.
    fn put(&self, to: &mut Vec<u8>) -> bool;
}

impl<T: Field> Field for Option<T> {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        self.as_ref().is_some_and(|value| value.put(to))
    }
}

impl Field for Uuid {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        to.extend(self.as_bytes());
        true
    }
}

impl Field for String {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        self.as_str().put(to)
    }
}

impl Field for &str {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        to.extend(self.as_bytes());
        true
    }
}

impl Field for Vec<u8> {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        to.extend(self);
        true
    }
}

impl Field for bool {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        to.push(u8::from(*self));
        true
    }
}

impl Field for DateTime<Utc> {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        // Cut as the driver cuts it, so that it doesn't matter which way a row takes.
        let micros = DateTime::from_timestamp(EPOCH, 0)
            .and_then(|epoch| self.signed_duration_since(epoch).num_microseconds());
        to.extend(micros.unwrap_or(i64::MAX).to_be_bytes());
        true
    }
}

/// `jsonb`: the version of its format, then text.
impl<T: Serialize> Field for Json<T> {
    fn put(&self, to: &mut Vec<u8>) -> bool {
        to.push(1);
        // What was read from JSON has a JSON form.
        serde_json::to_writer(to, &self.0).is_ok()
    }
}

macro_rules! numbers {
    ($($type:ty),+) => {
        $(impl Field for $type {
            fn put(&self, to: &mut Vec<u8>) -> bool {
                to.extend(self.to_be_bytes());
                true
            }
        })+
    };
}
numbers!(i16, i32, i64, f64);
