use std::collections::HashSet;
use std::path::PathBuf;

use super::*;

fn document() -> Value {
    serde_json::from_str(&complete(&bare().spec())).expect("a document")
}

/// Every operation with its name, `POST /chat`.
fn operations(document: &Value) -> Vec<(String, Value)> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            operations.push((
                format!("{} {path}", method.to_uppercase()),
                operation.clone(),
            ));
        }
    }
    operations
}

/// OpenAPI's `nullable` in the words of JSON Schema.
fn as_json_schema(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(as_json_schema);
            if fields.remove("nullable") == Some(Value::Bool(true)) {
                let inner = Value::Object(std::mem::take(fields));
                *schema = json!({ "anyOf": [inner, { "type": "null" }] });
            }
        }
        Value::Array(items) => items.iter_mut().for_each(as_json_schema),
        _ => {}
    }
}

fn faults(document: &Value, schema: &Value, instance: &Value) -> Vec<String> {
    let mut schema = json!({ "allOf": [schema], "components": document["components"] });
    as_json_schema(&mut schema);
    let draft = jsonschema::options().with_draft(jsonschema::Draft::Draft4);
    let validator = draft.build(&schema).expect("a schema");
    validator
        .iter_errors(instance)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

#[test]
fn every_operation_is_told_in_a_line_and_at_length() {
    let document = document();
    let mut ids = HashSet::new();
    for (name, operation) in operations(&document) {
        for field in ["summary", "operationId"] {
            assert!(
                operation[field]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{name}: {field}"
            );
        }
        assert!(
            operation["tags"].is_array(),
            "{name}: add its path to GROUPS"
        );
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{name}: its operationId is taken"
        );
    }
}

#[test]
fn every_operation_has_examples_that_keep_to_its_schemas() {
    let document = document();
    for (name, operation) in operations(&document) {
        let mut contents: Vec<(String, &Value)> = Vec::new();
        for (media_type, media) in operation["requestBody"]["content"]
            .as_object()
            .into_iter()
            .flatten()
        {
            if media_type == NDJSON {
                assert_lines(&name, media);
                continue;
            }
            contents.push(("the request".to_owned(), media));
        }
        for (status, response) in operation["responses"].as_object().expect("responses") {
            for (media_type, media) in response["content"].as_object().into_iter().flatten() {
                if media_type == PROBLEM {
                    continue;
                }
                if media_type == NDJSON {
                    assert_lines(&name, media);
                } else if media_type == STREAM {
                    assert!(
                        media["example"].is_string(),
                        "{name}: no example of its stream"
                    );
                } else {
                    contents.push((format!("the answer {status}"), media));
                }
            }
        }
        for (what, media) in contents {
            let example = media.get("example");
            let example = example.unwrap_or_else(|| panic!("{name}: {what} has no example"));
            let mut example = example.clone();
            if what == "the request" {
                // An optional field that is null counts as left out.
                if let Some(fields) = example.as_object_mut() {
                    fields.retain(|_, value| !value.is_null());
                }
            }
            let faults = faults(&document, &media["schema"], &example);
            assert!(faults.is_empty(), "{name}: {what}: {faults:?}");
        }
    }
}

/// The example of JSON Lines has one value a line.
fn assert_lines(name: &str, media: &Value) {
    let example = media["example"].as_str();
    let lines = example.unwrap_or_else(|| panic!("{name}: no example of its lines"));
    for line in lines.lines() {
        serde_json::from_str::<Value>(line).expect(name);
    }
}

#[test]
fn every_operation_names_its_errors() {
    let document = document();
    let mut named = HashSet::new();
    for (name, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            if status.starts_with('2') || name.contains("/health") {
                continue;
            }
            let examples = &response["content"][PROBLEM]["examples"];
            for (code, example) in examples.as_object().expect("examples") {
                named.insert(code.clone());
                let problem = &document["components"]["schemas"]["Problem"];
                let faults = faults(&document, problem, &example["value"]);
                assert!(faults.is_empty(), "{name}: {code}: {faults:?}");
                assert!(
                    response["description"]
                        .as_str()
                        .is_some_and(|text| text.contains(code))
                );
            }
        }
    }
    // Those that no operation of its own has: a path or a method that is not there, `/metrics`.
    let elsewhere = [Code::MethodNotAllowed, Code::Refused];
    for code in Code::ALL {
        let is_named = named.contains(code.name()) || elsewhere.contains(code);
        assert!(
            is_named,
            "no operation names {}: add it to SPECIAL",
            code.name()
        );
    }
    for (name, _) in SPECIAL {
        let known = operations(&document)
            .iter()
            .any(|(operation, _)| operation == name);
        assert!(known, "SPECIAL names {name}, which is no operation");
    }
}

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ops/docs/openapi.json");
    let now = format!("{:#}\n", document());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &now).expect("written");
    }
    let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        now == reviewed,
        "the API has changed: look at the difference after UPDATE_DOCS=1 cargo test -p companion-api the_document, and \
         commit ops/docs/openapi.json with the change"
    );
}
