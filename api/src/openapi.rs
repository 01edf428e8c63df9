//! The OpenAPI document, completed with what the framework can't say: which fields may be null.

use serde_json::{Map, Value, json};

/// Completes the document that the framework makes.
pub(crate) fn complete(bare: &str) -> String {
    let Ok(mut document) = serde_json::from_str::<Value>(bare) else {
        return bare.to_owned();
    };
    if let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    {
        schemas.values_mut().for_each(allow_null);
    }
    document.to_string()
}

/// What a schema does not require may be null.
fn allow_null(schema: &mut Value) {
    let required: Vec<String> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
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
            let property: &mut Map<String, Value> = property;
            property.insert("nullable".to_owned(), Value::Bool(true));
        }
    }
}
