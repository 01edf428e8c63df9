//! A plain list of messages with `role` and `content`, as most tools write and take it.

use serde_json::{Map, Value};

use super::{Fault, Foreign, Said, seconds, title};
use crate::conversation::Role;
use crate::ids::derived;

/// Reads an object with `messages`, and maybe `id` and `title`.
pub(super) fn read(mut fields: Map<String, Value>, place: &str) -> Result<Foreign, Fault> {
    let Some(Value::Array(messages)) = fields.remove("messages") else {
        let message = "must have a mapping, as ChatGPT writes it, or a list of messages";
        return Err(Fault::new(place, message));
    };
    let id = ["id", "conversation_id", "external_id"]
        .iter()
        .find_map(|name| fields.get(*name)?.as_str());
    let key = id
        .filter(|id| !id.is_empty())
        .map(|id| format!("plain:{id}"));
    let list = read_list(messages, place)?;
    Ok(Foreign {
        title: title(fields.get("title")),
        key: key.unwrap_or(list.key),
        said: list.said,
    })
}

/// Reads a list of messages. Its name follows from all that was said.
pub(super) fn read_list(messages: Vec<Value>, place: &str) -> Result<Foreign, Fault> {
    let mut said = Vec::new();
    for (n, message) in (1..).zip(&messages) {
        let read = read_message(message);
        let read = read.map_err(|wrong| Fault::new(format!("{place}, message {n}"), wrong))?;
        said.extend(read);
    }
    let mut words = vec!["said"];
    for message in &said {
        words.extend([message.role.as_str(), message.content.as_str()]);
    }
    let key = format!("said:{}", derived(&words));
    Ok(Foreign {
        title: None,
        key,
        said,
    })
}

/// Reads a message; `None` for one that is neither the user's nor the assistant's.
fn read_message(message: &Value) -> Result<Option<Said>, &'static str> {
    let role = match message.get("role").and_then(Value::as_str) {
        Some("user" | "human") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system" | "developer" | "tool" | "function") => return Ok(None),
        Some(_) => return Err("has a role that is neither user nor assistant"),
        None => return Err("must have a role"),
    };
    let content = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => text_of(parts),
        // An assistant that only calls a tool says nothing.
        Some(Value::Null) | None if role == Role::Assistant => return Ok(None),
        _ => return Err("must have a content: a text, or a list of parts with a text"),
    };
    let at = match message.get("created_at") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => {
            let at = chrono::DateTime::parse_from_rfc3339(text);
            Some(
                at.map_err(|_| "created_at must be a time of RFC 3339")?
                    .to_utc(),
            )
        }
        Some(number) => Some(seconds(number).ok_or("created_at must be a time")?),
    };
    let text = |name: &str| message.get(name).and_then(Value::as_str);
    let filled = |text: &&str| !text.trim().is_empty();
    Ok(Some(Said {
        role,
        name: text("name").filter(filled).map(str::to_owned),
        content,
        at,
        external_id: text("external_id")
            .or(text("id"))
            .filter(filled)
            .map(str::to_owned),
    }))
}

/// The texts of a message in parts.
fn text_of(parts: &[Value]) -> String {
    let text = |part: &Value| {
        let text = part.as_str().or_else(|| part.get("text")?.as_str());
        text.map(str::to_owned)
    };
    let texts: Vec<String> = parts.iter().filter_map(text).collect();
    texts.join("\n")
}
