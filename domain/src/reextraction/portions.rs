//! Which messages are read together when they are read again.

use chrono::TimeDelta;

use crate::extraction::{MAX_CHARACTERS, SaidMessage, TOGETHER};
use crate::ids::ConversationId;

/// A pause after which what was said before had been read: what is said next is read by itself.
const PAUSE: TimeDelta = TimeDelta::minutes(10);

/// A message of the user and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// The message.
    pub message: SaidMessage,
    /// Its conversation.
    pub conversation: ConversationId,
    /// The version of the event in the conversation's stream.
    pub version: i64,
    /// The place of the event in the log: the order in which the service learned of it.
    pub position: i64,
}

/// Messages of one conversation that are read together.
#[derive(Debug, Clone, PartialEq)]
pub struct Portion {
    /// The conversation.
    pub conversation: ConversationId,
    /// The messages, in order, at least one.
    pub messages: Vec<SaidMessage>,
    /// The versions of their events, in order, each once.
    pub versions: Vec<i64>,
    /// The place in the log of the last of them.
    pub position: i64,
}

/// Lays messages out in portions as they are read when they come: of one conversation, as many as are
/// read at once, up to a pause. In the order in which each portion was complete.
pub fn portions(mut said: Vec<Said>) -> Vec<Portion> {
    said.sort_by_key(|said| (said.conversation, said.position));
    let mut portions: Vec<Portion> = Vec::new();
    let mut characters = 0;
    for said in said {
        let length = said.message.content.chars().count();
        let fits = portions.last().is_some_and(|portion| {
            let together = portion.conversation == said.conversation
                && portion.messages.len() < TOGETHER
                && characters + length <= MAX_CHARACTERS;
            let last = portion.messages.last();
            together && last.is_some_and(|last| said.message.at - last.at <= PAUSE)
        });
        if !fits {
            characters = 0;
            portions.push(Portion {
                conversation: said.conversation,
                messages: Vec::new(),
                versions: Vec::new(),
                position: said.position,
            });
        }
        characters += length;
        if let Some(portion) = portions.last_mut() {
            portion.messages.push(said.message);
            portion.position = said.position;
            if portion.versions.last() != Some(&said.version) {
                portion.versions.push(said.version);
            }
        }
    }
    portions.sort_by_key(|portion| portion.position);
    portions
}
