//! A user's part of the log, written down page by page: neither it nor a page is ever whole in memory
//! with another.

use std::collections::BTreeMap;

use chrono::Utc;
use companion_domain::events::{Event, FailureReason, Metadata, Recorded, ReplyFailed};
use companion_domain::ids::{EventId, ExternalUserId, ReplyId, UserId, derived};
use companion_domain::portable::redaction::Redaction;
use companion_domain::portable::survey;
use companion_domain::portable::{End, FORMAT, Header, Place, PortableEvent, VERSION};
use uuid::Uuid;

use super::local::{self, asked_for};
use crate::log::event_store::{self, EventRow, EventStore, ReadError, select_events};
use crate::log::subscription::Checkpoint;

/// Events read at once.
const PAGE: i64 = 200;

/// Why no more can be written down.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
    /// Something in the log has no JSON form.
    #[error("an event can't be written: {0}")]
    Unwritable(#[from] serde_json::Error),
    /// The user was erased while it was written.
    #[error("the user was erased meanwhile")]
    Erased,
}

/// A reply that has begun and not ended.
struct Running {
    version: i64,
    message: Option<Uuid>,
}

/// An export on its way.
pub struct Export {
    store: EventStore,
    user: UserId,
    /// The user's key when it began.
    key: Option<Uuid>,
    header: Option<Header>,
    after: Checkpoint,
    /// The last event that was there when it began: what comes later is not in it.
    until: Checkpoint,
    /// The oldest transaction that ran when it began.
    begun_at: i64,
    redaction: Redaction,
    /// From which transaction on there may be more to learn of what was forgotten.
    learned: i64,
    running: BTreeMap<(Place, ReplyId), Running>,
    last: BTreeMap<Place, i64>,
    written: u64,
    ended: bool,
}

/// The id of a user's key now.
async fn key_of(store: &EventStore, user: UserId) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("SELECT key_id FROM user_keys WHERE user_id = $1")
        .bind(user.0)
        .fetch_optional(store.pool())
        .await
}

impl Export {
    /// Begins one of all that there is of a user now; of one who is not known, an empty one.
    ///
    /// # Errors
    /// [`ExportError`] when the database fails.
    pub async fn begin(store: &EventStore, external: &ExternalUserId) -> Result<Self, ExportError> {
        let user = UserId::of(external);
        let key = key_of(store, user).await?;
        let begun_at = local::oldest_running(store).await?;
        let until: Option<Checkpoint> = sqlx::query_as(
            "SELECT e.xid::text::bigint AS xid, e.position FROM events e WHERE e.user_id = $1
             ORDER BY e.xid DESC, e.position DESC LIMIT 1",
        )
        .bind(user.0)
        .fetch_optional(store.pool())
        .await?;
        Ok(Self {
            store: store.clone(),
            user,
            key,
            header: Some(Header {
                format: FORMAT.to_owned(),
                version: VERSION,
                user: external.as_str().to_owned(),
                user_id: user,
                exported_at: Utc::now(),
                software: env!("CARGO_PKG_VERSION").to_owned(),
            }),
            after: Checkpoint::default(),
            until: until.unwrap_or_default(),
            begun_at,
            redaction: Redaction::default(),
            learned: 0,
            running: BTreeMap::new(),
            last: BTreeMap::new(),
            written: 0,
            ended: false,
        })
    }

    /// Whether there was such a user when it began.
    pub fn is_of_somebody(&self) -> bool {
        self.key.is_some()
    }

    /// How many events of the log it goes through at the most, for an estimate.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn length(&self) -> Result<u64, sqlx::Error> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM events WHERE user_id = $1")
            .bind(self.user.0)
            .fetch_one(self.store.pool())
            .await?;
        Ok(count.unsigned_abs())
    }

    /// How many events it has written down.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The next lines, each with its end; `None` when there are no more.
    ///
    /// # Errors
    /// [`ExportError`]; what was written so far is then no whole export, and says so by having no end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ExportError> {
        let mut lines = Vec::new();
        if let Some(header) = self.header.take() {
            serde_json::to_writer(&mut lines, &header)?;
            lines.push(b'\n');
            return Ok(Some(lines));
        }
        while !self.ended {
            if self.page(&mut lines).await? {
                self.interrupt(&mut lines)?;
                // What can't be opened any more is missing: no whole export, and nothing to be kept.
                if key_of(&self.store, self.user).await? != self.key {
                    return Err(ExportError::Erased);
                }
                serde_json::to_writer(&mut lines, &End { end: self.written })?;
                lines.push(b'\n');
                self.ended = true;
            }
            if !lines.is_empty() {
                return Ok(Some(lines));
            }
        }
        Ok(None)
    }

    /// Writes the next page down; whether it was the last one.
    async fn page(&mut self, lines: &mut Vec<u8>) -> Result<bool, ExportError> {
        let mut connection = self.store.pool().acquire().await?;
        // Nothing of a user who was erased meanwhile.
        let rows: Vec<EventRow> = sqlx::query_as(select_events!(
            "WHERE e.user_id = $1 AND (e.xid, e.position) > ($2::text::xid8, $3)
               AND (e.xid, e.position) <= ($4::text::xid8, $5)
               AND EXISTS (SELECT FROM user_keys k WHERE k.user_id = e.user_id AND k.key_id = e.key_id)
             ORDER BY e.xid, e.position LIMIT $6"
        ))
        .bind(self.user.0)
        .bind(self.after.xid.to_string())
        .bind(self.after.position)
        .bind(self.until.xid.to_string())
        .bind(self.until.position)
        .bind(PAGE)
        .fetch_all(&mut *connection)
        .await?;
        let is_last = rows.len() < PAGE.unsigned_abs() as usize;
        if let Some(last) = rows.last() {
            self.after = last.place();
        }
        let opened = event_store::open(self.store.vault(), &mut connection, rows).await?;
        drop(connection);
        // Looked at after the page was read: what is forgotten by now is in no line.
        local::learn(&mut self.redaction, &self.store, self.user, self.learned).await?;
        self.learned = self.learned.max(self.begun_at);
        for recorded in &opened {
            self.write(recorded, lines)?;
        }
        Ok(is_last)
    }

    fn write(&mut self, recorded: &Recorded, lines: &mut Vec<u8>) -> Result<(), ExportError> {
        let event = self.redaction.apply(recorded);
        let Some(event) = event.and_then(|event| PortableEvent::of(recorded, event)) else {
            return Ok(());
        };
        if let Some(reply) = asked_for(&event.event) {
            let running = Running {
                version: event.version,
                message: event.notes.correlation_id,
            };
            self.running.insert((event.place, reply), running);
        }
        if let Some(reply) = survey::ended(&event.event) {
            self.running.remove(&(event.place, reply));
        }
        self.last.insert(event.place, event.version);
        self.line(&event, lines)
    }

    /// Replies that run go along as interrupted: nobody goes on with them elsewhere.
    fn interrupt(&mut self, lines: &mut Vec<u8>) -> Result<(), ExportError> {
        for ((place, reply), running) in std::mem::take(&mut self.running) {
            let last = self.last.get(&place).copied().unwrap_or(running.version);
            let ended = ReplyFailed {
                reply_id: reply,
                partial: String::new(),
                reason: FailureReason::ServiceStopping,
            };
            let event = PortableEvent {
                place,
                version: last + 1,
                id: EventId(derived(&["interrupted", &reply.to_string()])),
                at: Utc::now(),
                event: Event::ReplyFailed(ended),
                notes: Metadata {
                    correlation_id: running.message,
                    ..Metadata::default()
                },
            };
            self.line(&event, lines)?;
        }
        Ok(())
    }

    fn line(&mut self, event: &PortableEvent, lines: &mut Vec<u8>) -> Result<(), ExportError> {
        lines.extend(event.to_line()?);
        lines.push(b'\n');
        self.written += 1;
        Ok(())
    }
}
