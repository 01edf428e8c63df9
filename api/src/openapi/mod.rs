//! The OpenAPI document, completed with what the framework can't say: examples, the errors of each
//! operation, names for generated clients, and which fields may be null.

use std::collections::BTreeMap;

use poem_openapi::OpenApiService;
use serde_json::{Map, Value, json};

use crate::code::Code;

/// What a caller sends and gets, by operation: `request`, `response` with `status`, `others` by their
/// status, `stream` for an answer in events, and `lines` for what is sent or answered as JSON Lines.
const EXAMPLES: &str = include_str!("examples.json");
const DESCRIPTION: &str = "An AI companion that remembers. Every resource belongs to the user of the credential; \
                           another user's looks like one that does not exist.";
const PROBLEM: &str = "application/problem+json";
const STREAM: &str = "text/event-stream";
const JSON: &str = "application/json";
const NDJSON: &str = crate::queries::export::NDJSON;

/// The errors that only some operations have, beside those that follow from what they take.
const SPECIAL: &[(&str, &[Code])] = &[
    (
        "POST /chat",
        &[
            Code::NotFound,
            Code::ConversationBusy,
            Code::Conflict,
            Code::PromptTooLong,
            Code::TooManyReplies,
            Code::TooBusy,
            Code::LlmUnavailable,
            Code::LlmError,
            Code::LlmInterrupted,
            Code::LlmInvalid,
            Code::LlmTimeout,
            Code::ServiceStopping,
        ],
    ),
    (
        "POST /replies/{id}/cancel",
        &[Code::ReplyFinished, Code::ProjectionBehind],
    ),
    (
        "GET /replies/{id}/stream",
        &[Code::UnknownEventId, Code::ProjectionBehind],
    ),
    ("GET /replies/{id}/explain", &[Code::ProjectionBehind]),
    (
        "POST /auth/token",
        &[Code::AdminOnly, Code::TokensIssuedElsewhere],
    ),
    ("POST /auth/validate", &[Code::TooManyFailedAuthentications]),
    ("PATCH /conversations/{id}", &[Code::Conflict]),
    (
        "DELETE /conversations/{id}",
        &[Code::Conflict, Code::ProjectionBehind],
    ),
    (
        "POST /conversation/reset",
        &[Code::NotFound, Code::Conflict],
    ),
    (
        "POST /memory/clear",
        &[Code::NotFound, Code::Conflict, Code::ProjectionBehind],
    ),
    (
        "POST /conversations/{id}/summary",
        &[
            Code::NothingToSummarise,
            Code::Conflict,
            Code::LlmUnavailable,
            Code::LlmError,
            Code::LlmInterrupted,
            Code::LlmInvalid,
            Code::LlmTimeout,
        ],
    ),
    ("GET /memories", &[Code::NotFound]),
    (
        "POST /memories",
        &[Code::NotFound, Code::Conflict, Code::ProjectionBehind],
    ),
    (
        "PATCH /memories/{id}",
        &[Code::StaleVersion, Code::Conflict, Code::ProjectionBehind],
    ),
    (
        "DELETE /memories/{id}",
        &[Code::StaleVersion, Code::Conflict, Code::ProjectionBehind],
    ),
    (
        "POST /import",
        &[
            Code::ConversationBusy,
            Code::Conflict,
            Code::ProjectionBehind,
            Code::TooBusy,
        ],
    ),
    (
        "POST /memories/search",
        &[Code::NotFound, Code::EmbeddingUnavailable],
    ),
];

/// The groups of the operations, by the beginning of their path.
const GROUPS: &[(&str, &str)] = &[
    ("/chat", "Chat"),
    ("/replies", "Chat"),
    ("/conversation", "Conversations"),
    ("/memor", "Memories"),
    ("/auth", "Credentials"),
    ("/users", "User"),
    ("/export", "User"),
    ("/import", "User"),
    ("/health", "Health"),
];

/// The description of the service's operations, as the framework makes it.
pub(crate) fn bare() -> OpenApiService<crate::http::Apis, ()> {
    OpenApiService::new(
        crate::http::apis(),
        "AI companion",
        env!("CARGO_PKG_VERSION"),
    )
    .description(DESCRIPTION)
}

/// Completes the document that the framework makes.
pub(crate) fn complete(bare: &str) -> String {
    let Ok(mut document) = serde_json::from_str::<Value>(bare) else {
        return bare.to_owned();
    };
    let examples: BTreeMap<String, Value> = serde_json::from_str(EXAMPLES).unwrap_or_default();
    if let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    {
        schemas.values_mut().for_each(allow_null);
    }
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, operations) in paths {
            for (method, operation) in operations.as_object_mut().into_iter().flatten() {
                let name = format!("{} {path}", method.to_uppercase());
                group(operation, path, method);
                ranges(operation);
                errors(operation, path, &name);
                if let Some(example) = examples.get(&name) {
                    show(operation, example);
                }
            }
        }
    }
    document["tags"] = tags();
    document.to_string()
}

/// What a schema does not require may be null.
fn allow_null(schema: &mut Value) {
    let required: Vec<String> = strings(&schema["required"]);
    let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
        return;
    };
    for (name, property) in properties {
        if required.contains(name) {
            continue;
        }
        if property.get("$ref").is_some() {
            // Beside a reference nothing else counts.
            *property = json!({ "allOf": [property.take()] });
        }
        if let Some(property) = property.as_object_mut() {
            property.insert("nullable".to_owned(), Value::Bool(true));
        }
    }
}

fn strings(list: &Value) -> Vec<String> {
    let items = list.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn tags() -> Value {
    let mut names: Vec<&str> = GROUPS.iter().map(|(_, name)| *name).collect();
    names.dedup();
    names
        .into_iter()
        .map(|name| json!({ "name": name }))
        .collect()
}

/// Gives an operation its group, and its name in generated clients.
fn group(operation: &mut Value, path: &str, method: &str) {
    let group = GROUPS
        .iter()
        .find(|(beginning, _)| path.starts_with(beginning));
    if let Some((_, name)) = group {
        operation["tags"] = json!([name]);
    }
    let words = path.split(['/', '-']).filter(|word| !word.is_empty());
    let words = words.map(|word| {
        match word
            .strip_prefix('{')
            .and_then(|word| word.strip_suffix('}'))
        {
            Some(parameter) => format!("by_{parameter}"),
            None => word.to_owned(),
        }
    });
    let id: Vec<String> = [method.to_owned()].into_iter().chain(words).collect();
    operation["operationId"] = json!(id.join("_"));
}

/// Says what values of parameters are taken, as they are checked by hand.
fn ranges(operation: &mut Value) {
    let parameters = operation
        .get_mut("parameters")
        .and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let range = match parameter["name"].as_str() {
            Some("limit") => json!({ "minimum": 1, "maximum": 200, "default": 50 }),
            Some("offset") => json!({ "minimum": 0, "default": 0 }),
            Some("Idempotency-Key") => {
                json!({ "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" })
            }
            Some("If-Match") => {
                let tag = r#"(W/)?"[!#-~]*""#;
                json!({ "minLength": 1, "pattern": format!(r"^(\*|{tag}( *, *{tag})*)$") })
            }
            Some("as_of") => json!({ "format": "date-time" }),
            _ => continue,
        };
        if let (Some(schema), Value::Object(range)) = (parameter["schema"].as_object_mut(), range) {
            schema.extend(range);
        }
    }
}

/// Names the errors that an operation can answer with.
fn errors(operation: &mut Value, path: &str, name: &str) {
    let mut codes = Vec::new();
    let known = operation.get("security").is_some();
    if known {
        codes.extend([
            Code::Unauthorized,
            Code::TooManyFailedAuthentications,
            Code::RateLimited,
        ]);
    }
    if operation.get("requestBody").is_some() {
        codes.extend([
            Code::MalformedRequest,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::ValidationFailed,
        ]);
    }
    if operation["parameters"]
        .as_array()
        .is_some_and(|parameters| !parameters.is_empty())
        || known
    {
        codes.push(Code::ValidationFailed);
    }
    if path.contains('{') {
        codes.push(Code::NotFound);
    }
    let special = SPECIAL.iter().find(|(special, _)| *special == name);
    codes.extend(special.into_iter().flat_map(|(_, codes)| *codes));
    let health = path.starts_with("/health");
    if !health {
        codes.extend([Code::DatabaseUnavailable, Code::InternalError]);
    }
    codes.sort_unstable();
    codes.dedup();
    let Some(responses) = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    responses.retain(|_, response| {
        response
            .pointer(&format!("/content/{}", PROBLEM.replace('/', "~1")))
            .is_none()
    });
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status
            .entry(code.status().as_u16())
            .or_default()
            .push(code);
    }
    for (status, codes) in by_status {
        let meanings: Vec<String> = codes
            .iter()
            .map(|code| format!("`{}`: {}", code.name(), code.meaning()))
            .collect();
        let examples: Map<String, Value> = codes
            .iter()
            .map(|code| (code.name().to_owned(), json!({ "value": problem(*code) })))
            .collect();
        let response = json!({
            "description": meanings.join("\n\n"),
            "content": { PROBLEM: {
                "schema": { "$ref": "#/components/schemas/Problem" },
                "examples": examples,
            } },
        });
        responses.insert(status.to_string(), response);
    }
}

/// A problem as it looks.
fn problem(code: Code) -> Value {
    let mut problem = json!({
        "type": code.uri(),
        "title": code.status().canonical_reason().unwrap_or("Error"),
        "status": code.status().as_u16(),
        "detail": code.meaning(),
        "code": code.name(),
        "request_id": "0199f7a2-6c1e-7d52-9f3b-0d2c1a5e8b47",
    });
    if code == Code::ValidationFailed {
        problem["errors"] =
            json!([{ "field": "message", "message": "must have at least 1 characters" }]);
    }
    problem
}

/// Puts the examples in their places.
fn show(operation: &mut Value, example: &Value) {
    let status = example["status"].as_u64().unwrap_or(200).to_string();
    place(
        operation.get_mut("requestBody"),
        JSON,
        example.get("request"),
    );
    let lines = example.get("lines");
    place(operation.get_mut("requestBody"), NDJSON, lines);
    for (media_type, field) in [(JSON, "response"), (STREAM, "stream"), (NDJSON, "lines")] {
        let responses = operation.get_mut("responses");
        let response = responses.and_then(|responses| responses.get_mut(&status));
        place(response, media_type, example.get(field));
    }
    for (status, other) in example["others"].as_object().into_iter().flatten() {
        let responses = operation.get_mut("responses");
        let response = responses.and_then(|responses| responses.get_mut(status));
        place(response, JSON, Some(other));
    }
}

/// Puts an example beside the schema of a media type, whatever its parameters.
fn place(body: Option<&mut Value>, media_type: &str, example: Option<&Value>) {
    let content = body.and_then(|body| body.get_mut("content"));
    let (Some(content), Some(example)) = (content.and_then(Value::as_object_mut), example) else {
        return;
    };
    for (name, media) in content {
        if name.starts_with(media_type) {
            media["example"] = example.clone();
        }
    }
}

#[cfg(test)]
mod tests;
