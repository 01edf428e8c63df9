//! Reads a file from its first line to its last and checks that it could have come about, before
//! anything of it is taken in.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Fault, Header, Place, PortableEvent, Read, bounds, read};
use crate::events::Event;
use crate::ids::{MemoryId, ReplyId, derived};
use crate::text;

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// How many events.
    pub events: u64,
    /// How many conversations.
    pub conversations: u64,
    /// How many messages of both roles.
    pub messages: u64,
    /// How many memories.
    pub memories: u64,
    /// The statements that the file believes in at its end, by [`said`], and by which memory.
    pub believed: HashMap<MemoryId, Uuid>,
}

/// Names what a statement says: two that differ in case and signs alone have the same name.
pub fn said(statement: &str) -> Uuid {
    derived(&[&text::normal_form(statement)])
}

/// A line that was read.
#[derive(Debug, Clone, PartialEq)]
pub enum Taken {
    /// The first one.
    Header(Header),
    /// An event.
    Event(Box<PortableEvent>),
    /// The last one.
    End,
    /// Nothing stands there.
    Blank,
}

/// How many messages of both roles an event adds to its conversation.
pub fn messages(event: &Event) -> u64 {
    match event {
        // The reply is one from the moment in which it is waited for.
        Event::UserMessageReceived(_) => 2,
        Event::ReplyRequested(_) => 1,
        Event::MessagesImported(event) => event.messages.len() as u64,
        _ => 0,
    }
}

/// What is known of a stream of the file so far.
#[derive(Debug, Default)]
struct Stream {
    version: i64,
    running: Option<ReplyId>,
}

/// A file that is being read.
#[derive(Debug)]
pub struct Survey {
    now: DateTime<Utc>,
    line: u64,
    header: Option<Header>,
    ended: bool,
    streams: HashMap<Place, Stream>,
    contents: Contents,
}

impl Survey {
    /// A file of which nothing was read yet; `now` is the time by which its times are judged.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self {
            now,
            line: 0,
            header: None,
            ended: false,
            streams: HashMap::new(),
            contents: Contents::default(),
        }
    }

    /// The number of the last line that was read.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Takes the next line, without its end.
    ///
    /// # Errors
    /// [`Fault`], which names the line.
    pub fn take(&mut self, text: &str) -> Result<Taken, Fault> {
        self.line += 1;
        let line = self.line;
        if text.trim().is_empty() {
            return Ok(Taken::Blank);
        }
        let fault = |message: &str| Err(Fault::new(format!("line {line}"), message));
        if self.ended {
            return fault("comes after the last line of the export");
        }
        match (read(text, line)?, &self.header) {
            (Read::Header(header), None) => {
                self.header = Some(header.clone());
                Ok(Taken::Header(header))
            }
            (Read::Header(_), Some(_)) => fault("is a second first line"),
            (_, None) => fault("must be the first line of an export"),
            (Read::End(end), Some(_)) if end.end != self.contents.events => {
                fault("says another number of events than there are: lines are missing")
            }
            (Read::End(_), Some(_)) => {
                self.ended = true;
                Ok(Taken::End)
            }
            (Read::Event(event), Some(_)) => {
                self.check(&event)
                    .map_err(|message| Fault::new(format!("line {line}"), message))?;
                self.count(&event);
                Ok(Taken::Event(event))
            }
        }
    }

    /// What the file held, when there are no more lines; `partial` lets it be one that was cut off.
    ///
    /// # Errors
    /// [`Fault`] when it was cut off.
    pub fn finish(self, partial: bool) -> Result<Contents, Fault> {
        if self.ended || partial {
            return Ok(self.contents);
        }
        let message = "was the last one, and is not the end of an export: the file was cut off";
        Err(Fault::new(format!("line {}", self.line), message))
    }

    fn check(&mut self, event: &PortableEvent) -> Result<(), String> {
        bounds::recorded("at", event.at, self.now)?;
        bounds::version("version", event.version)?;
        bounds::notes(&event.notes)?;
        bounds::event(&event.event, self.now)?;
        let begins = matches!(event.event, Event::ConversationStarted(_));
        match (event.place, is_of_memories(&event.event)) {
            (Place::Memories, true) | (Place::Conversation(_), false) => {}
            _ => return Err("has an event that does not belong to its stream".to_owned()),
        }
        if let (Place::Conversation(id), Event::ConversationStarted(started)) =
            (event.place, &event.event)
            && started.conversation_id != id
        {
            return Err("begins another conversation than its stream says".to_owned());
        }
        let is_new = !self.streams.contains_key(&event.place);
        let is_conversation = event.place != Place::Memories;
        if is_conversation && begins != is_new {
            return Err("must be preceded by one ConversationStarted of its stream".to_owned());
        }
        let stream = self.streams.entry(event.place).or_default();
        if event.version <= stream.version {
            return Err("has a version that is not after the one before it".to_owned());
        }
        let running = match &event.event {
            Event::UserMessageReceived(event) => Some(event.reply_id),
            Event::ReplyRequested(event) => Some(event.reply_id),
            _ => None,
        };
        if let Some(running) = running {
            if stream.running.is_some() {
                return Err("asks for a reply while another one is running".to_owned());
            }
            stream.running = Some(running);
        }
        if let Some(ended) = ended(&event.event) {
            if stream.running != Some(ended) {
                return Err("ends a reply that is not running".to_owned());
            }
            stream.running = None;
        }
        stream.version = event.version;
        Ok(())
    }

    fn count(&mut self, event: &PortableEvent) {
        let contents = &mut self.contents;
        contents.events += 1;
        contents.messages += messages(&event.event);
        match &event.event {
            Event::ConversationStarted(_) => contents.conversations += 1,
            Event::MemoryRecorded(event) => {
                contents.memories += 1;
                let said = said(&event.content);
                contents.believed.insert(event.memory_id, said);
            }
            Event::MemoryRevised(event) => {
                let known = contents.believed.get_mut(&event.memory_id);
                if let (Some(known), Some(content)) = (known, &event.content) {
                    *known = said(content);
                }
            }
            Event::MemorySuperseded(event) => {
                contents.believed.remove(&event.memory_id);
            }
            _ => {}
        }
    }
}

/// The reply that an event ends.
pub fn ended(event: &Event) -> Option<ReplyId> {
    match event {
        Event::ReplyCompleted(event) => Some(event.reply_id),
        Event::ReplyFailed(event) => Some(event.reply_id),
        Event::ReplyCancelled(event) => Some(event.reply_id),
        _ => None,
    }
}

fn is_of_memories(event: &Event) -> bool {
    match event {
        Event::MemoryRecorded(_)
        | Event::MemoryReinforced(_)
        | Event::MemoryRevised(_)
        | Event::MemorySuperseded(_)
        | Event::MemoryFaded(_)
        | Event::MemoriesRecalled(_)
        | Event::MemoryForgotten(_)
        | Event::MemoriesCleared(_)
        | Event::ExtractionCompleted(_) => true,
        Event::ConversationStarted(_)
        | Event::UserMessageReceived(_)
        | Event::ReplyStarted(_)
        | Event::ReplyCompleted(_)
        | Event::ReplyFailed(_)
        | Event::ReplyCancelled(_)
        | Event::ReplyRequested(_)
        | Event::MessagesImported(_)
        | Event::ConversationRenamed(_)
        | Event::ConversationReset(_)
        | Event::ConversationSummarised(_)
        | Event::ConversationDeleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => false,
    }
}
