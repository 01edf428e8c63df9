//! ChatGPT's `conversations.json`: every conversation is a tree of nodes in `mapping`, as a message can
//! be said anew; the branch that ends in `current_node` is what its user saw last.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::{Fault, Foreign, Said, bounds, seconds, title};
use crate::conversation::Role;

/// Reads a conversation.
pub(super) fn read(fields: &Map<String, Value>, place: &str) -> Result<Foreign, Fault> {
    let Some(mapping) = fields.get("mapping").and_then(Value::as_object) else {
        return Err(Fault::new(place, "has a mapping that is no object"));
    };
    let id = ["conversation_id", "id"]
        .iter()
        .find_map(|name| fields.get(*name)?.as_str());
    let begun = fields.get("create_time").and_then(seconds);
    let said: Vec<Said> = branch(fields, mapping)
        .into_iter()
        .flat_map(|(id, node)| read_node(id, node))
        .collect();
    // Old exports have no id; when it began is one of its own.
    let name = match (id, begun) {
        (Some(id), _) => id.to_owned(),
        (None, Some(begun)) => format!("begun:{}", begun.timestamp_millis()),
        (None, None) => said
            .first()
            .and_then(|said| said.external_id.clone())
            .unwrap_or_default(),
    };
    let mut said = said;
    if let Some(first) = said.first_mut() {
        first.at = first.at.or(begun);
    }
    Ok(Foreign {
        title: title(fields.get("title")),
        key: format!("chatgpt:{name}"),
        said,
    })
}

/// The nodes from the root to the current one, with their ids.
fn branch<'a>(
    fields: &'a Map<String, Value>,
    mapping: &'a Map<String, Value>,
) -> Vec<(&'a str, &'a Value)> {
    let current = fields.get("current_node").and_then(Value::as_str);
    let mut at = current
        .filter(|id| mapping.contains_key(*id))
        .or_else(|| latest_leaf(mapping));
    let (mut nodes, mut seen) = (Vec::new(), HashSet::new());
    // A tree that bites its tail is walked once.
    while let Some(id) = at.filter(|id| seen.insert(*id)) {
        let Some(node) = mapping.get(id) else { break };
        nodes.push((id, node));
        at = node.get("parent").and_then(Value::as_str);
    }
    nodes.reverse();
    nodes
}

/// The node without children that was made last.
fn latest_leaf(mapping: &Map<String, Value>) -> Option<&str> {
    let is_leaf = |node: &Value| {
        let children = node.get("children").and_then(Value::as_array);
        children.is_none_or(Vec::is_empty)
    };
    let made = |node: &Value| {
        let at = node.pointer("/message/create_time");
        at.and_then(Value::as_f64).unwrap_or(0.0)
    };
    let leaves = mapping.iter().filter(|(_, node)| is_leaf(node));
    let latest = leaves.max_by(|(_, a), (_, b)| made(a).total_cmp(&made(b)));
    latest.map(|(id, _)| id.as_str())
}

/// What was said in a node: nothing, one message, or the pieces of one that is too long.
fn read_node(id: &str, node: &Value) -> Vec<Said> {
    let Some(message) = node.get("message").filter(|message| !message.is_null()) else {
        return Vec::new();
    };
    let role = match message.pointer("/author/role").and_then(Value::as_str) {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => return Vec::new(),
    };
    let metadata = message.get("metadata");
    let is_true = |name: &str| metadata.and_then(|m| m.get(name)) == Some(&Value::Bool(true));
    // Instructions that ride along as a message of the user, and calls of tools.
    let hidden = is_true("is_visually_hidden_from_conversation")
        || is_true("is_user_system_message")
        || !matches!(
            message.get("recipient").and_then(Value::as_str),
            None | Some("all")
        );
    let kind = message.pointer("/content/content_type");
    let is_text = matches!(
        kind.and_then(Value::as_str),
        None | Some("text" | "multimodal_text")
    );
    if hidden || !is_text {
        return Vec::new();
    }
    let parts = message.pointer("/content/parts").and_then(Value::as_array);
    let texts: Vec<&str> = parts
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|text| !text.trim().is_empty())
        .collect();
    let text = texts.join("\n");
    let at = message.get("create_time").and_then(seconds);
    let id = message.get("id").and_then(Value::as_str).unwrap_or(id);
    let said = |(n, content): (usize, String)| Said {
        role,
        name: None,
        content,
        at,
        external_id: Some(if n == 0 {
            id.to_owned()
        } else {
            format!("{id}#{}", n + 1)
        }),
    };
    pieces(&text).into_iter().enumerate().map(said).collect()
}

/// A text in pieces that can be taken in, without blank ones.
fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let pieces = characters.chunks(bounds::MESSAGE);
    pieces
        .map(|piece| piece.iter().collect::<String>())
        .filter(|piece| !piece.trim().is_empty())
        .collect()
}
