//! What a user takes along: their part of the log, opened and written down line by line, and what is
//! taken in from others.
//!
//! A file begins with a [`Header`], has one line for each event in the order in which they were
//! recorded, and ends with an [`End`], so that a file that was cut off is known as one. An event keeps
//! its name, schema version and shape of the log, so that old files stay readable by the same steps.

pub mod bounds;
pub mod foreign;
pub mod redaction;
pub mod remapping;
pub mod survey;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::events::{Event, Metadata, Recorded};
use crate::ids::{ConversationId, EventId, StreamId, UserId};

/// What the header says that the file is.
pub const FORMAT: &str = "companion-export";
/// The version of the lines' layout that is written and read.
pub const VERSION: u32 = 1;
/// The longest line that is read, bytes.
pub const MAX_LINE: usize = 4 << 20;
/// The stream of a user's memories, as the file names it: it holds one user only.
const MEMORIES: &str = "memories";

/// The first line of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// Whose it is, as callers name them.
    pub user: String,
    /// Whose it is, as the log names them.
    pub user_id: UserId,
    /// When it was written.
    pub exported_at: DateTime<Utc>,
    /// The version of the software that wrote it.
    pub software: String,
}

/// The last line of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// How many events the file has.
    pub end: u64,
}

/// To which of a user's streams an event belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A conversation's.
    Conversation(ConversationId),
    /// That of the memories.
    Memories,
}

impl Place {
    /// The place that a stream of this user is; `None` for one that no file holds.
    pub fn of(stream: &StreamId, user: UserId) -> Option<Self> {
        match stream.as_conversation() {
            Some(conversation) => Some(Self::Conversation(conversation)),
            None => (*stream == StreamId::memory(user)).then_some(Self::Memories),
        }
    }

    /// The stream of this user that is the place.
    pub fn stream(self, user: UserId) -> StreamId {
        match self {
            Self::Conversation(conversation) => StreamId::conversation(conversation),
            Self::Memories => StreamId::memory(user),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Conversation(id) => StreamId::conversation(id).as_str().to_owned(),
            Self::Memories => MEMORIES.to_owned(),
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            MEMORIES => Some(Self::Memories),
            _ => StreamId::stored(name.to_owned())
                .as_conversation()
                .map(Self::Conversation),
        }
    }
}

/// An event of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct PortableEvent {
    /// Where it belongs.
    pub place: Place,
    /// Its place in the stream that it comes from, from 1; there may be gaps.
    pub version: i64,
    /// Its id where it was first recorded: by this it is known again.
    pub id: EventId,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// What happened.
    pub event: Event,
    /// What is known about it besides: prompt, model and the like.
    pub notes: Metadata,
}

impl PortableEvent {
    /// An event of the log as it is written down; `None` for one of a stream that no file holds.
    pub fn of(recorded: &Recorded, event: Event) -> Option<Self> {
        let id = recorded.metadata.origin.unwrap_or(recorded.id.0);
        Some(Self {
            place: Place::of(&recorded.stream, recorded.user)?,
            version: recorded.version,
            id: EventId(id),
            at: recorded.recorded_at,
            event,
            notes: notes((*recorded.metadata).clone()),
        })
    }

    /// The line, without its end.
    ///
    /// # Errors
    /// When a number in it has no JSON form.
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Written {
            stream: self.place.name(),
            version: self.version,
            event: self.event.type_name().to_owned(),
            schema: self.event.schema_version(),
            id: self.id.0,
            at: self.at,
            data: serde_json::from_slice(&self.event.to_payload()?)?,
            meta: self.notes.clone(),
        })
    }
}

/// What goes along of the metadata: neither traces nor what only this log knows.
fn notes(metadata: Metadata) -> Metadata {
    Metadata {
        causation_id: None,
        traceparent: None,
        origin: None,
        left_out: None,
        imported_at: None,
        ..metadata
    }
}

/// A line of an event as it stands there.
#[derive(Serialize, Deserialize)]
struct Written {
    stream: String,
    version: i64,
    event: String,
    schema: i16,
    id: Uuid,
    at: DateTime<Utc>,
    data: Value,
    #[serde(default)]
    meta: Metadata,
}

/// Why a file is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Fault {
    /// Where: "line 12", "conversation 3".
    pub place: String,
    /// What is wrong there, without what stands there.
    pub message: String,
    /// Whether it is no JSON at all.
    pub malformed: bool,
}

impl Fault {
    /// Something that can't be so.
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            message: message.into(),
            malformed: false,
        }
    }

    /// Something that is no JSON.
    pub fn malformed(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            malformed: true,
            ..Self::new(place, message)
        }
    }
}

/// What a line may be.
enum Read {
    Header(Header),
    Event(Box<PortableEvent>),
    End(End),
}

/// Reads a line, which is number `line` of its file.
fn read(text: &str, line: u64) -> Result<Read, Fault> {
    let place = || format!("line {line}");
    let value: Value =
        serde_json::from_str(text).map_err(|_| Fault::malformed(place(), "is not valid JSON"))?;
    if has_nul(&value) {
        return Err(Fault::new(place(), "must not contain the character NUL"));
    }
    if value.get("format").is_some() {
        let header: Header = serde_json::from_value(value)
            .map_err(|_| Fault::new(place(), "is not the first line of an export"))?;
        return match (header.format.as_str(), header.version) {
            (FORMAT, VERSION) => Ok(Read::Header(header)),
            (FORMAT, other) => Err(Fault::new(
                place(),
                format!("has version {other} of the format; this software reads version {VERSION}"),
            )),
            _ => Err(Fault::new(place(), "is not the first line of an export")),
        };
    }
    if value.get("end").is_some() {
        return serde_json::from_value(value)
            .map(Read::End)
            .map_err(|_| Fault::new(place(), "is not the last line of an export"));
    }
    let written: Written = serde_json::from_value(value).map_err(|_| {
        let message = "is no event: it needs stream, version, event, schema, id, at and data";
        Fault::new(place(), message)
    })?;
    let stream = Place::named(&written.stream).ok_or_else(|| {
        let message = "names a stream that is neither memories nor conversation-<id>";
        Fault::new(place(), message)
    })?;
    let Some((_, known)) = Event::TYPES.iter().find(|(name, _)| *name == written.event) else {
        let message = "has an event that this version of the software does not know";
        return Err(Fault::new(place(), message));
    };
    if !(1..=*known).contains(&written.schema) {
        let message = "has a version of an event that this version of the software does not know";
        return Err(Fault::new(place(), message));
    }
    let unreadable = || Fault::new(place(), "has data that is not that of its event");
    let payload = serde_json::to_vec(&written.data).map_err(|_| unreadable())?;
    let event = Event::from_payload(&written.event, written.schema, &payload);
    Ok(Read::Event(Box::new(PortableEvent {
        place: stream,
        version: written.version,
        id: EventId(written.id),
        at: written.at,
        event: event.map_err(|_| unreadable())?,
        notes: notes(written.meta),
    })))
}

/// Whether a NUL stands anywhere: PostgreSQL can't hold it.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields
            .iter()
            .any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}
