//! What an event that comes from outside may hold: what the API would have let in, and no more.

use chrono::{DateTime, Datelike, TimeDelta, Utc};

use crate::events::{Event, ImportedMessage, Metadata};
use crate::memory::{MAX_SOURCES, Source};

/// The longest message of a user or of another system, characters.
pub const MESSAGE: usize = 32_000;
/// The longest reply, bytes: what the LLM may say, and the piece with which it goes over.
const REPLY: usize = 1 << 20;
/// The longest statement of a memory, characters.
const STATEMENT: usize = 2_000;
/// The longest summary, characters.
const SUMMARY: usize = 32_000;
/// The longest title, external id, and other short texts, characters.
pub const SHORT: usize = 200;
/// The longest speaker's name, characters.
pub const NAME: usize = 100;
/// The longest reason, characters.
const REASON: usize = 2_000;
/// The most messages of an event.
pub const MESSAGES: usize = 5_000;
/// The most scores or uses of an event.
const ITEMS: usize = 10_000;
/// The most memories that one event clears.
const CLEARED: usize = 100_000;
/// The highest version of a stream: no user comes near it.
const HIGHEST_VERSION: i64 = 1 << 40;
/// The longest list of parameters or figures of use, bytes as JSON.
const FIGURES: usize = 4_096;

/// What is wrong, without what stands there.
type Checked = Result<(), String>;

/// Checks when an event was recorded, or a message said: from 1970 on, and not in the future by more
/// than the clocks of two machines may differ.
///
/// # Errors
/// What is wrong with `field`.
pub fn recorded(field: &str, at: DateTime<Utc>, now: DateTime<Utc>) -> Checked {
    if (DateTime::UNIX_EPOCH..=now + TimeDelta::days(1)).contains(&at) {
        Ok(())
    } else {
        Err(format!(
            "{field} must be a time from 1970 on, and not in the future"
        ))
    }
}

/// Checks the version of a stream.
///
/// # Errors
/// What is wrong with `field`.
pub fn version(field: &str, version: i64) -> Checked {
    if (0..=HIGHEST_VERSION).contains(&version) {
        Ok(())
    } else {
        Err(format!("{field} must be from 0 to {HIGHEST_VERSION}"))
    }
}

/// Checks what an event holds.
///
/// # Errors
/// What is wrong with which field.
pub fn event(event: &Event, now: DateTime<Utc>) -> Checked {
    match event {
        Event::ConversationStarted(event) => optional("title", event.title.as_deref(), SHORT),
        Event::UserMessageReceived(event) => {
            said("content", &event.content, MESSAGE)?;
            match &event.timezone {
                Some(zone) if zone.parse::<chrono_tz::Tz>().is_err() => {
                    Err("timezone is not the name of a time zone".to_owned())
                }
                _ => Ok(()),
            }
        }
        Event::ReplyStarted(event) => {
            at_most("recalled", event.recalled.len(), ITEMS)?;
            event.recalled.iter().try_for_each(|memory| {
                said("content", &memory.content, STATEMENT)?;
                finite("score", memory.score)?;
                finite("similarity", memory.similarity)
            })
        }
        Event::ReplyCompleted(event) => reply("content", &event.content),
        Event::ReplyFailed(event) => reply("partial", &event.partial),
        Event::ReplyCancelled(event) => reply("partial", &event.partial),
        Event::MessagesImported(event) => {
            at_most("messages", event.messages.len(), MESSAGES)?;
            event.messages.iter().try_for_each(|m| message(m, now))
        }
        Event::ConversationRenamed(event) => said("title", &event.title, SHORT),
        Event::ConversationSummarised(event) => at_most("summary", chars(&event.summary), SUMMARY),
        Event::MemoryRecorded(event) => {
            said("content", &event.content, STATEMENT)?;
            share("importance", event.importance)?;
            optional("subject", event.subject.as_deref(), SHORT)?;
            at_most("reason", chars(&event.reason), REASON)?;
            sources(&event.sources)?;
            held("occurred_at", event.occurred_at)?;
            held("valid_from", Some(event.valid_from))?;
            held("told_at", Some(event.told_at))
        }
        Event::MemoryReinforced(event) => {
            at_most("reason", chars(&event.reason), REASON)?;
            sources(&event.sources)?;
            held("reinforced_at", Some(event.reinforced_at))
        }
        Event::MemoryRevised(event) => {
            if let Some(content) = &event.content {
                said("content", content, STATEMENT)?;
            }
            if let Some(importance) = event.importance {
                share("importance", importance)?;
            }
            optional("subject", event.subject.as_deref(), SHORT)?;
            at_most("reason", chars(&event.reason), REASON)?;
            sources(&event.sources)?;
            held("occurred_at", event.occurred_at)?;
            held("revised_at", Some(event.revised_at))
        }
        Event::MemorySuperseded(event) => {
            at_most("reason", chars(&event.reason), REASON)?;
            sources(&event.sources)?;
            held("valid_to", Some(event.valid_to))
        }
        Event::MemoryFaded(event) => {
            share("importance_now", event.importance_now)?;
            share("fade_below", event.fade_below)
        }
        Event::MemoriesRecalled(event) => {
            at_most("memories", event.memories.len(), ITEMS)?;
            event
                .memories
                .iter()
                .try_for_each(|used| recorded("last_at", used.last_at, now))?;
            recorded("through", event.through, now)
        }
        Event::MemoriesCleared(event) => {
            at_most("forgotten", event.forgotten.len(), CLEARED)?;
            at_most("unsupported", event.unsupported.len(), CLEARED)?;
            version("through_version", event.through_version)
        }
        Event::ExtractionCompleted(event) => {
            optional("fallback", event.fallback.as_deref(), REASON)?;
            version("through_version", event.through_version)?;
            for counts in [&event.left_out, &event.silent] {
                at_most("left_out", counts.len(), SHORT)?;
                counts
                    .iter()
                    .try_for_each(|(reason, _)| at_most("reason", chars(reason), REASON))?;
            }
            Ok(())
        }
        Event::ReplyRequested(_) | Event::ConversationReset(_) => Ok(()),
        Event::ConversationDeleted(_)
        | Event::MemoryForgotten(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => Err("is an event that no export holds".to_owned()),
    }
}

/// Checks a message that was said elsewhere.
///
/// # Errors
/// What is wrong with which field.
pub fn message(message: &ImportedMessage, now: DateTime<Utc>) -> Checked {
    said("content", &message.content, MESSAGE)?;
    optional("name", message.name.as_deref(), NAME)?;
    optional("external_id", message.external_id.as_deref(), SHORT)?;
    recorded("created_at", message.created_at, now)
}

/// Checks what is known about an event besides.
///
/// # Errors
/// What is wrong with which field.
pub fn notes(notes: &Metadata) -> Checked {
    for (field, text) in [
        ("prompt_id", &notes.prompt_id),
        ("prompt_hash", &notes.prompt_hash),
        ("model", &notes.model),
        ("embedding_model", &notes.embedding_model),
        ("code_version", &notes.code_version),
    ] {
        optional(field, text.as_deref(), SHORT)?;
    }
    for (field, figures) in [("parameters", &notes.parameters), ("usage", &notes.usage)] {
        let length = figures.as_ref().map_or(0, |value| value.to_string().len());
        at_most(field, length, FIGURES)?;
    }
    Ok(())
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

fn at_most(field: &str, length: usize, most: usize) -> Checked {
    if length <= most {
        Ok(())
    } else {
        Err(format!(
            "{field} must have at most {most} characters or items"
        ))
    }
}

fn optional(field: &str, text: Option<&str>, most: usize) -> Checked {
    at_most(field, text.map_or(0, chars), most)
}

/// A text that says something.
fn said(field: &str, text: &str, most: usize) -> Checked {
    if text.trim().is_empty() {
        return Err(format!("{field} must not be blank"));
    }
    at_most(field, chars(text), most)
}

fn reply(field: &str, text: &str) -> Checked {
    at_most(field, text.len(), REPLY)
}

fn finite(field: &str, number: f64) -> Checked {
    if number.is_finite() {
        Ok(())
    } else {
        Err(format!("{field} must be a number"))
    }
}

fn share(field: &str, number: f64) -> Checked {
    if (0.0..=1.0).contains(&number) {
        Ok(())
    } else {
        Err(format!("{field} must be from 0 to 1"))
    }
}

fn sources(sources: &[Source]) -> Checked {
    at_most("sources", sources.len(), MAX_SOURCES)
}

/// A time of which a memory speaks, maybe long ago or in the future.
fn held(field: &str, at: Option<DateTime<Utc>>) -> Checked {
    if at.is_none_or(|at| (1..=9999).contains(&at.year())) {
        Ok(())
    } else {
        Err(format!("{field} must be in the years 1 to 9999"))
    }
}
