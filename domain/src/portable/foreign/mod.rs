//! Conversations of other systems: ChatGPT's export, and plain lists of roles and contents.
//!
//! What becomes of a conversation has an id that follows from the user and from what it is, so that the
//! same file, taken in again, is known.

mod chatgpt;
mod plain;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Fault, bounds};
use crate::conversation::Role;
use crate::events::ImportedMessage;
use crate::ids::{ConversationId, MessageId, UserId, derived};

/// A conversation that took place elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Foreign {
    /// What it is called there, at most 200 characters.
    pub title: Option<String>,
    /// Its name there, or one that follows from what was said.
    pub key: String,
    /// What was said, oldest first; maybe nothing that can be taken in.
    pub said: Vec<Said>,
}

/// A message that was said elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Who said it.
    pub role: Role,
    /// The speaker's name.
    pub name: Option<String>,
    /// What was said, 1..=32,000 characters.
    pub content: String,
    /// When, if that is known.
    pub at: Option<DateTime<Utc>>,
    /// Its id there, unique to the conversation.
    pub external_id: Option<String>,
}

/// Whether a value is a message of a plain list, rather than a conversation.
pub fn is_message(value: &Value) -> bool {
    value.get("role").is_some()
}

/// Reads what stands for one conversation: an object of ChatGPT's export, an object with `messages`, or
/// a list of messages. `place` names it in errors, such as "conversation 3".
///
/// # Errors
/// [`Fault`] when it is none of these, or holds what can't be taken in.
pub fn conversation(value: Value, place: &str) -> Result<Foreign, Fault> {
    let foreign = match value {
        Value::Object(fields) if fields.contains_key("mapping") => chatgpt::read(&fields, place)?,
        Value::Object(fields) => plain::read(fields, place)?,
        Value::Array(messages) => plain::read_list(messages, place)?,
        _ => return Err(Fault::new(place, "must be an object or a list of messages")),
    };
    if foreign.said.len() > bounds::MESSAGES {
        let message = format!("must have at most {} messages", bounds::MESSAGES);
        return Err(Fault::new(place, message));
    }
    Ok(foreign)
}

impl Foreign {
    /// The conversation as this user has it here.
    pub fn id(&self, user: UserId) -> ConversationId {
        ConversationId(derived(&["imported", &user.to_string(), &self.key]))
    }

    /// Its messages as this user has them here. One whose time is not known was said at that of the one
    /// before it, or at `now`.
    ///
    /// # Errors
    /// [`Fault`] when one holds what can't be taken in.
    pub fn messages(
        &self,
        user: UserId,
        now: DateTime<Utc>,
        place: &str,
    ) -> Result<Vec<ImportedMessage>, Fault> {
        let conversation = self.id(user).to_string();
        let names = self.names();
        let first = self.said.iter().find_map(|said| said.at);
        let mut last = first.unwrap_or(now);
        let message = |(n, said): (usize, &Said)| {
            last = said.at.unwrap_or(last);
            let number = n + 1;
            let message = ImportedMessage {
                message_id: MessageId(derived(&["imported", &conversation, &names[n]])),
                role: said.role,
                name: said.name.clone(),
                content: said.content.clone(),
                created_at: last,
                external_id: said.external_id.clone(),
            };
            bounds::message(&message, now)
                .and_then(|()| no_nul(&message))
                .map_err(|wrong| Fault::new(format!("{place}, message {number}"), wrong))?;
            Ok(message)
        };
        self.said.iter().enumerate().map(message).collect()
    }

    /// What tells its messages apart: their ids there, else their numbers, from 1. Of messages that share
    /// one, those behind the first have their number added.
    fn names(&self) -> Vec<String> {
        let number = |n: usize| (n + 1).to_string();
        let own = |(n, said): (usize, &Said)| said.external_id.clone().unwrap_or_else(|| number(n));
        let own: Vec<String> = self.said.iter().enumerate().map(own).collect();
        let mut taken: HashSet<String> = HashSet::new();
        let all: HashSet<&String> = own.iter().collect();
        let mut names = Vec::with_capacity(own.len());
        for (n, name) in own.iter().enumerate() {
            let mut unique = name.clone();
            while taken.contains(&unique) || unique != *name && all.contains(&unique) {
                unique = format!("{unique}#{}", number(n));
            }
            taken.insert(unique.clone());
            names.push(unique);
        }
        names
    }
}

fn no_nul(message: &ImportedMessage) -> Result<(), String> {
    let texts = [
        Some(&message.content),
        message.name.as_ref(),
        message.external_id.as_ref(),
    ];
    if texts.into_iter().flatten().any(|text| text.contains('\0')) {
        return Err("must not contain the character NUL".to_owned());
    }
    Ok(())
}

/// A title as it can be kept.
fn title(value: Option<&Value>) -> Option<String> {
    let title = value?.as_str()?.replace('\0', "");
    let title: String = title.trim().chars().take(bounds::SHORT).collect();
    (!title.is_empty()).then_some(title)
}

/// A time in seconds since 1970, as others write it.
fn seconds(value: &Value) -> Option<DateTime<Utc>> {
    let seconds = value.as_f64()?;
    // What is further away has no place in the log, and is told as a time that can't be.
    let millis = (seconds * 1_000.0).clamp(-1e14, 1e14);
    DateTime::from_timestamp_millis(millis as i64)
}
