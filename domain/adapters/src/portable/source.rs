//! A file that is taken in: which kind it is, read from its first byte to its last, twice: once to see
//! whether all of it can be taken in, once to do it. It is never whole in memory.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use companion_domain::ids::UserId;
use companion_domain::portable::foreign::{self, Foreign};
use companion_domain::portable::survey::{Contents, Survey, Taken};
use companion_domain::portable::{Fault, Header, MAX_LINE, PortableEvent};
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::import::{Done, Import, ImportError};

/// How many items are read ahead.
const AHEAD: usize = 64;
/// The most messages of a plain list, before those that nobody said are left out.
const LISTED: usize = 20_000;
/// The mark that some programs put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Opens the file at its beginning, as often as it is called.
pub type Open = Arc<dyn Fn() -> io::Result<Box<dyn BufRead + Send>> + Send + Sync>;

/// How a file is to be taken in.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether conversations of other systems are read for memories.
    pub extract: bool,
    /// Whether an export may have been cut off.
    pub partial: bool,
    /// How many events, or messages of other systems, the file may have.
    pub most: u64,
    /// The time by which its times are judged.
    pub now: DateTime<Utc>,
}

/// Why a file is not taken in, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It can't be read.
    #[error("the file can't be read: {0}")]
    Io(#[from] io::Error),
    /// Nothing is in it.
    #[error("the file is empty")]
    Empty,
    /// Something in it, or in the log.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The task that read it ended.
    #[error("reading the file was cut short")]
    Cut,
}

impl From<Fault> for SourceError {
    fn from(fault: Fault) -> Self {
        Self::Import(fault.into())
    }
}

/// A piece of a file.
enum Item {
    Header(Header),
    /// With its length in the file, bytes.
    Event(Box<PortableEvent>, usize),
    /// That of an export, which is whole.
    End,
    /// With its name in errors.
    Conversation(Box<Foreign>, String),
}

/// Reads a whole file and checks that it can be taken in.
///
/// # Errors
/// [`SourceError`] names the first thing in it that can't.
pub async fn survey(open: &Open, options: Options) -> Result<Contents, SourceError> {
    let open = open.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut contents = Contents::default();
        let mut check = |item: Item| {
            if let Item::Conversation(foreign, place) = item {
                let messages = foreign.messages(UserId(uuid::Uuid::nil()), options.now, &place)?;
                contents.events += messages.len() as u64;
                contents.messages += messages.len() as u64;
                contents.conversations += u64::from(!messages.is_empty());
                too_many(contents.events, options.most, &place)?;
            }
            Ok(true)
        };
        let export = read(open()?, options, &mut check)?;
        Ok(export.unwrap_or(contents))
    });
    read.await.map_err(|_| SourceError::Cut)?
}

/// Takes in a file that was surveyed. `passed` is told of every item, with the bytes that it had in the
/// file where that is known; `stop` ends it between two items. Returns what was done, and whether that
/// was all.
///
/// # Errors
/// [`SourceError`]; what was appended before stays, and is passed over when the import is repeated.
pub async fn take_in(
    open: &Open,
    options: Options,
    contents: &Contents,
    mut import: Import,
    stop: &CancellationToken,
    mut passed: impl FnMut(u64),
) -> Result<(Done, bool), SourceError> {
    let (give, mut items) = mpsc::channel(AHEAD);
    let open = open.clone();
    let reader = tokio::task::spawn_blocking(move || {
        // Whoever takes the items may have gone.
        read(open()?, options, &mut |item| {
            Ok(give.blocking_send(item).is_ok())
        })
    });
    let (mut whole, mut ended) = (true, false);
    while let Some(item) = items.recv().await {
        if stop.is_cancelled() {
            whole = false;
            break;
        }
        match item {
            Item::Header(header) => import.header(&header, contents).await?,
            Item::Event(event, bytes) => {
                import.event(*event, bytes).await?;
                passed(1);
            }
            Item::End => ended = true,
            Item::Conversation(foreign, place) => {
                import
                    .conversation(&foreign, options.extract, &place)
                    .await?;
                passed(foreign.said.len() as u64);
            }
        }
    }
    drop(items);
    let done = import.finish(ended).await?;
    if whole {
        reader.await.map_err(|_| SourceError::Cut)??;
    }
    Ok((done, whole))
}

/// Gives the items of a file one after another, for as long as they are taken; the contents of an
/// export.
fn read(
    mut reader: Box<dyn BufRead + Send>,
    options: Options,
    give: &mut dyn FnMut(Item) -> Result<bool, Fault>,
) -> Result<Option<Contents>, SourceError> {
    if reader.fill_buf()?.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    let start = reader.fill_buf()?;
    let first = start.iter().find(|byte| !byte.is_ascii_whitespace());
    match first {
        None if start.is_empty() => Err(SourceError::Empty),
        Some(b'{') if is_export(start) => read_export(reader, options, give).map(Some),
        first => {
            let is_list = first == Some(&b'[');
            read_foreign(reader, is_list, give).map(|()| None)
        }
    }
}

/// Whether a file begins as an export does, or as one whose first line was lost.
fn is_export(start: &[u8]) -> bool {
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or(start);
    let names = |value: Value| {
        let has = |name: &str| value.get(name).is_some();
        has("format") || has("end") || (has("stream") && has("event"))
    };
    serde_json::from_slice(line).is_ok_and(names)
}

fn read_export(
    mut reader: Box<dyn BufRead + Send>,
    options: Options,
    give: &mut dyn FnMut(Item) -> Result<bool, Fault>,
) -> Result<Contents, SourceError> {
    let mut survey = Survey::new(options.now);
    let (mut line, mut events) = (Vec::new(), 0);
    loop {
        line.clear();
        let most = MAX_LINE as u64 + 1;
        let bytes = Read::take(&mut reader, most).read_until(b'\n', &mut line)?;
        if bytes == 0 {
            return Ok(survey.finish(options.partial)?);
        }
        let place = format!("line {}", survey.line() + 1);
        if bytes > MAX_LINE {
            let message = format!("is longer than {MAX_LINE} bytes");
            return Err(Fault::new(place, message).into());
        }
        let text = std::str::from_utf8(&line)
            .map_err(|_| Fault::malformed(&place, "is not valid UTF-8"))?;
        let goes_on = match survey.take(text)? {
            Taken::Header(header) => give(Item::Header(header))?,
            Taken::Event(event) => {
                events += 1;
                too_many(events, options.most, &place)?;
                give(Item::Event(event, bytes))?
            }
            Taken::End => give(Item::End)?,
            Taken::Blank => true,
        };
        if !goes_on {
            return Ok(survey.finish(true)?);
        }
    }
}

fn too_many(count: u64, most: u64, place: &str) -> Result<(), Fault> {
    if count <= most {
        return Ok(());
    }
    let message = format!("is more than the {most} that one call takes: use `companion import`");
    Err(Fault::new(place, message))
}

/// Reads values one after another, or the items of a list, each of them a conversation; or a list of
/// messages, which is one.
fn read_foreign(
    reader: Box<dyn BufRead + Send>,
    is_list: bool,
    give: &mut dyn FnMut(Item) -> Result<bool, Fault>,
) -> Result<(), SourceError> {
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let mut taker = Taker {
        give,
        conversations: 0,
        listed: None,
        stopped: None,
    };
    let read = if is_list {
        let read = deserializer.deserialize_seq(&mut taker);
        read.and_then(|()| deserializer.end())
    } else {
        deserializer
            .into_iter::<Value>()
            .try_for_each(|value| match taker.take(value?) {
                true => Ok(()),
                false => Err(serde_json::Error::custom("stopped")),
            })
    };
    match (taker.stopped.take(), read) {
        (Some(Some(fault)), _) => Err(fault.into()),
        (Some(None), _) => Ok(()),
        (None, Ok(())) => Ok(taker.finish()?),
        (None, Err(error)) if error.is_io() => Err(SourceError::Io(error.into())),
        (None, Err(error)) => {
            let place = format!("line {}, column {}", error.line(), error.column());
            Err(Fault::malformed(place, "is not valid JSON").into())
        }
    }
}

/// Makes conversations of values.
struct Taker<'a> {
    give: &'a mut dyn FnMut(Item) -> Result<bool, Fault>,
    conversations: u64,
    /// The messages of a list that is one conversation.
    listed: Option<Vec<Value>>,
    /// Why it stopped: a fault, or nobody takes any more.
    stopped: Option<Option<Fault>>,
}

impl Taker<'_> {
    /// Takes a value; whether to go on.
    fn take(&mut self, value: Value) -> bool {
        let taken = match &mut self.listed {
            Some(listed) if listed.len() >= LISTED => {
                let message = format!("must have at most {LISTED} messages");
                Err(Fault::new("the list", message))
            }
            Some(listed) => {
                listed.push(value);
                Ok(true)
            }
            None if self.conversations == 0 && foreign::is_message(&value) => {
                self.listed = Some(vec![value]);
                Ok(true)
            }
            None => self.conversation(value),
        };
        match taken {
            Ok(true) => true,
            Ok(false) => {
                self.stopped = Some(None);
                false
            }
            Err(fault) => {
                self.stopped = Some(Some(fault));
                false
            }
        }
    }

    fn conversation(&mut self, value: Value) -> Result<bool, Fault> {
        self.conversations += 1;
        let place = format!("conversation {}", self.conversations);
        let foreign = foreign::conversation(value, &place)?;
        (self.give)(Item::Conversation(Box::new(foreign), place))
    }

    fn finish(mut self) -> Result<(), Fault> {
        match self.listed.take() {
            Some(listed) => self.conversation(Value::Array(listed)).map(|_| ()),
            None if self.conversations == 0 => Err(Fault::new("the file", "holds nothing")),
            None => Ok(()),
        }
    }
}

impl<'de> Visitor<'de> for &mut Taker<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(value) = items.next_element::<Value>()? {
            if !self.take(value) {
                return Err(A::Error::custom("stopped"));
            }
        }
        Ok(())
    }
}
