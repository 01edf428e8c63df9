//! How an event is shown: on one line, whole, or as JSON.

use anyhow::Result;
use companion_adapters::log::view::{Content, Viewed};
use serde_json::{Value, json};

use crate::printable::{excerpt, printable, printable_json};

/// How many characters of a text a line shows.
const EXCERPT: usize = 100;
/// What an event says in words, by its fields; the first that is there.
const WORDS: [&str; 6] = [
    "content",
    "summary",
    "partial",
    "title",
    "name",
    "external_id",
];

/// One line: when, where in the log, whose, which event, and an excerpt of what it says.
pub(super) fn line(event: &Viewed) -> String {
    let said = match &event.content {
        Content::Open(payload) => in_short(payload),
        other => format!("({})", closed(other)),
    };
    format!("{}  {said}", head(event))
}

/// Everything, on several lines.
pub(super) fn whole(event: &Viewed) -> Result<String> {
    let payload = match &event.content {
        Content::Open(payload) => printable_json(&serde_json::to_string_pretty(payload)?),
        other => format!("({})", closed(other)),
    };
    let meta = printable_json(&serde_json::to_string(&event.meta)?);
    let text = format!(
        "{}\nid {}, shape version {}, transaction {}\nmeta {meta}\n{payload}",
        head(event),
        event.id,
        event.schema_version,
        event.place.xid,
    );
    Ok(text.replace('\n', "\n    "))
}

/// One JSON object on one line.
pub(super) fn json(event: &Viewed) -> Result<String> {
    let (state, payload, reason) = match &event.content {
        Content::Open(payload) => ("open", payload.clone(), None),
        Content::Erased => ("erased", Value::Null, None),
        Content::Closed(reason) => ("closed", Value::Null, Some(reason)),
    };
    let object = json!({
        "position": event.place.position,
        "xid": event.place.xid,
        "id": event.id,
        "stream": event.stream.as_str(),
        "version": event.version,
        "user": event.external_id,
        "user_id": event.user.0,
        "type": event.type_name,
        "schema_version": event.schema_version,
        "recorded_at": event.recorded_at,
        "meta": event.meta,
        "state": state,
        "reason": reason,
        "payload": payload,
    });
    Ok(printable_json(&serde_json::to_string(&object)?))
}

fn head(event: &Viewed) -> String {
    let user = event
        .external_id
        .clone()
        .unwrap_or_else(|| event.user.to_string());
    format!(
        "{}  #{}  {}  {}@{}  {}",
        event.recorded_at.format("%Y-%m-%d %H:%M:%S%.3f"),
        event.place.position,
        printable(&user),
        printable(event.stream.as_str()),
        event.version,
        printable(&event.type_name),
    )
}

fn closed(content: &Content) -> String {
    match content {
        Content::Open(_) => String::new(),
        Content::Erased => "erased: nobody can open it any more".to_owned(),
        Content::Closed(reason) => format!("can't be opened: {}", printable(reason)),
    }
}

fn in_short(payload: &Value) -> String {
    if let Some(messages) = payload["messages"].as_array() {
        let first = messages
            .first()
            .map_or("", |m| m["content"].as_str().unwrap_or_default());
        return format!("{} messages: {}", messages.len(), excerpt(first, EXCERPT));
    }
    let words = WORDS
        .iter()
        .find_map(|field| payload[*field].as_str())
        .filter(|words| !words.is_empty());
    match words {
        Some(words) => excerpt(words, EXCERPT),
        None => excerpt(&payload.to_string(), EXCERPT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_what_the_event_says_and_no_more_than_that() {
        assert_eq!(
            in_short(&json!({"message_id": 1, "content": "hello"})),
            "hello"
        );
        assert_eq!(
            in_short(&json!({"reply_id": 7, "partial": ""})),
            r#"{"partial":"","reply_id":7}"#
        );
        let imported =
            json!({"messages": [{"content": "one"}, {"content": "two"}], "extract": true});
        assert_eq!(in_short(&imported), "2 messages: one");
        let long = in_short(&json!({"content": "x".repeat(5_000)}));
        assert_eq!(long.chars().count(), EXCERPT + 1);
    }
}
