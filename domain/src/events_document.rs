//! Holds `ops/docs/EVENTS.md` against the events and their fixtures, so that it can't tell of another
//! log than there is.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::events::{Event, Metadata};

const DOCUMENT: &str = include_str!("../../ops/docs/EVENTS.md");

/// The sections of the third level: title and text.
fn sections() -> BTreeMap<&'static str, &'static str> {
    DOCUMENT
        .split("\n### ")
        .skip(1)
        .map(|section| {
            let section = section.split("\n## ").next().unwrap_or_default();
            section.split_once('\n').unwrap_or((section, ""))
        })
        .collect()
}

/// What the first column of a table in a text names.
fn rows(text: &str) -> BTreeSet<String> {
    let row = |line: &str| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    text.lines().filter_map(row).collect()
}

/// The paths of all fields of a payload; those of a list's items as `list[].field`.
fn fields(value: &Value, prefix: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                let path = format!("{prefix}{name}");
                fields(value, &format!("{path}."), into);
                into.insert(path);
            }
        }
        Value::Array(items) => {
            let prefix = format!("{}[].", prefix.trim_end_matches('.'));
            for item in items {
                fields(item, &prefix, into);
            }
        }
        _ => {}
    }
}

fn fixture(name: &str, version: i16) -> Value {
    let path = format!(
        "{}/fixtures/events/{name}.v{version}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_slice(&std::fs::read(&path).expect(&path)).expect(&path)
}

#[test]
fn the_document_names_every_event_with_the_version_that_is_written() {
    let written: BTreeSet<String> = Event::TYPES
        .iter()
        .map(|(name, version)| format!("{name} (version {version})"))
        .collect();
    let told: BTreeSet<String> = sections().keys().map(|title| (*title).to_owned()).collect();
    assert_eq!(told, written);
}

#[test]
fn the_document_names_every_field_and_no_other() {
    let sections = sections();
    for (name, version) in Event::TYPES {
        let mut written = BTreeSet::new();
        fields(&fixture(name, *version), "", &mut written);
        let section = sections[format!("{name} (version {version})").as_str()];
        assert_eq!(rows(section), written, "{name}");
        for says in ["Stream: ", "Appended by: "] {
            assert!(section.contains(says), "{name} does not say: {says}");
        }
        for former in 1..*version {
            let says = format!("\nVersion {former}: ");
            assert!(section.contains(&says), "{name} does not say: {says}");
        }
    }
}

#[test]
fn the_document_names_all_metadata() {
    let id = Some(uuid::Uuid::nil());
    let text = || Some(String::new());
    let metadata = Metadata {
        correlation_id: id,
        causation_id: id,
        traceparent: text(),
        prompt_id: text(),
        prompt_hash: text(),
        summary: Some(true),
        model: text(),
        parameters: Some(Value::Null),
        usage: Some(Value::Null),
        embedding_model: text(),
        code_version: text(),
        origin: id,
        left_out: Some(1),
        imported_at: Some(chrono::DateTime::UNIX_EPOCH),
    };
    let mut written = BTreeSet::new();
    let metadata = serde_json::to_value(metadata).expect("json");
    fields(&metadata, "", &mut written);
    let section = DOCUMENT.split("\n## ").find(|s| s.starts_with("Metadata"));
    assert_eq!(rows(section.expect("a section")), written);
}
