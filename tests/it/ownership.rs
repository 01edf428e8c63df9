//! What is one user's is for any other as if it weren't there: every operation of the OpenAPI
//! document that names a thing by its id is tried, also those that are written after this.

use std::collections::BTreeMap;

use companion_tests::app::{App, status_and_json};
use reqwest::{Method, Response};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::steps::{expect, message};

/// Ids of alice's things, by the path that they stand behind.
async fn things(app: &App) -> BTreeMap<&'static str, String> {
    let chatted = app.chat("alice", "I own a canoe", None).await;
    app.settle().await;
    let (_, memories) = app.get("alice", "/memories").await;
    let memory = memories["memories"][0]["id"]
        .as_str()
        .expect("a memory")
        .to_owned();
    let (_, key) = app
        .post("alice", "/auth/api-keys", &json!({"name": "k"}))
        .await;
    BTreeMap::from([
        ("/conversations/", chatted.conversation_id),
        ("/replies/", chatted.reply_id),
        ("/memories/", memory),
        ("/auth/api-keys/", key["id"].as_str().unwrap().to_owned()),
    ])
}

/// An operation of the document that has an id in its path.
struct Operation {
    method: Method,
    template: String,
    body: Option<Value>,
}

fn operations(document: &Value) -> Vec<Operation> {
    let mut found = Vec::new();
    for (template, operations) in document["paths"].as_object().unwrap() {
        if !template.contains('{') {
            continue;
        }
        for (method, operation) in operations.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            assert!(
                operation.get("requestBody").is_none() || !schema.is_null(),
                "{method} {template} takes another body than JSON: teach this test to make one"
            );
            found.push(Operation {
                method: Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(),
                template: template.clone(),
                body: (!schema.is_null()).then(|| example(document, schema)),
            });
        }
    }
    found
}

/// A value that a schema accepts: with all of an object's fields, required or not.
fn example(document: &Value, schema: &Value) -> Value {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#')).unwrap();
        return example(document, schema);
    }
    if let Some(one) = ["allOf", "oneOf", "anyOf"]
        .iter()
        .find_map(|of| schema[of].get(0))
    {
        return example(document, one);
    }
    if let Some(first) = schema["enum"].get(0) {
        return first.clone();
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("string"), Some("uuid")) => json!(Uuid::now_v7()),
        (Some("string"), Some("date-time")) => json!("2024-05-06T07:08:09Z"),
        (Some("string"), _) => json!("text"),
        (Some("integer"), _) => json!(schema["minimum"].as_f64().unwrap_or(1.0) as i64),
        (Some("number"), _) => schema.get("minimum").cloned().unwrap_or(json!(1)),
        (Some("boolean"), _) => json!(true),
        (Some("array"), _) => json!([]),
        _ => {
            let properties = schema["properties"].as_object();
            let fields: Map<String, Value> = properties
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), example(document, schema)))
                .collect();
            Value::Object(fields)
        }
    }
}

async fn call(app: &App, user: &str, operation: &Operation, id: &str) -> Response {
    let (before, rest) = operation.template.split_once('{').unwrap();
    let (_, after) = rest.split_once('}').unwrap();
    assert!(
        !after.contains('{'),
        "{} has two ids: teach this test to fill in both",
        operation.template
    );
    let mut request = app
        .request_by(
            user,
            operation.method.clone(),
            &format!("{before}{id}{after}"),
        )
        .header("X-Request-Id", "same");
    if let Some(body) = &operation.body {
        request = request.json(body);
    }
    request.send().await.unwrap()
}

/// All of an answer that may tell something, but how often the caller has called.
async fn told(response: Response) -> (u16, String, Value) {
    let mut headers = response.headers().clone();
    for own in ["date", "ratelimit-remaining", "ratelimit-reset"] {
        headers.remove(own);
    }
    let (status, body) = status_and_json(response).await;
    (status, format!("{headers:?}"), body)
}

#[tokio::test]
async fn another_users_thing_is_404_in_every_operation_like_one_that_is_not_there() {
    let app = App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "1000")]).await;
    let things = things(&app).await;
    let document = expect(app.request(Method::GET, "/openapi.json"), 200).await;
    let operations = operations(&document);
    assert!(operations.len() >= 4, "{}", operations.len());
    // mallory has things too, and is known.
    app.chat("mallory", "I own a kayak", None).await;
    for operation in &operations {
        let case = format!("{} {}", operation.method, operation.template);
        let Some((_, id)) = things
            .iter()
            .find(|(prefix, _)| operation.template.starts_with(**prefix))
        else {
            panic!("{case}: add an id of what stands there to things()")
        };
        let theirs = told(call(&app, "mallory", operation, id).await).await;
        assert_eq!(
            (theirs.0, &theirs.2["code"]),
            (404, &json!("not_found")),
            "{case}: {}",
            theirs.2
        );
        for nothing in [&Uuid::now_v7().to_string(), "nonsense"] {
            let missing = told(call(&app, "mallory", operation, nothing).await).await;
            assert_eq!(missing.0, 404, "{case} {nothing}");
            if nothing != "nonsense" {
                assert_eq!(theirs, missing, "{case}: it can be told that it is there");
            }
        }
    }
    // Nothing of it has changed anything.
    app.settle().await;
    assert_eq!(
        app.messages("alice", &things["/conversations/"])
            .await
            .len(),
        2
    );
    assert_eq!(app.memories("alice").await.len(), 1);
    let (_, keys) = app.get("alice", "/auth/api-keys").await;
    assert_eq!(keys["api_keys"].as_array().unwrap().len(), 1);
    // And the ids are those of things that are there.
    for operation in &operations {
        if operation.method == Method::GET {
            let (prefix, id) = things
                .iter()
                .find(|(prefix, _)| operation.template.starts_with(**prefix))
                .unwrap();
            assert_eq!(
                call(&app, "alice", operation, id).await.status(),
                200,
                "{prefix}"
            );
        }
    }
}

#[tokio::test]
async fn a_conversation_that_is_named_in_a_body_is_404_for_another_user() {
    let app = App::start().await;
    let things = things(&app).await;
    let document = expect(app.request(Method::GET, "/openapi.json"), 200).await;
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let body = example(&document, schema);
            if path.contains('{') || body.get("conversation_id").is_none() {
                continue;
            }
            let mut answers = Vec::new();
            for id in [&things["/conversations/"], &Uuid::now_v7().to_string()] {
                let mut body = body.clone();
                body["conversation_id"] = json!(id);
                for (field, value) in [
                    ("timezone", json!("Europe/Lisbon")),
                    ("message", message("x")["message"].clone()),
                ] {
                    if body.get(field).is_some() {
                        body[field] = value;
                    }
                }
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let request = app.request_by("mallory", method, path).json(&body);
                answers
                    .push(told(request.header("X-Request-Id", "same").send().await.unwrap()).await);
            }
            assert_eq!(answers[0], answers[1], "{method} {path}");
            let found_nothing = answers[0].0 == 200 && answers[0].2["results"] == json!([]);
            assert!(
                answers[0].0 == 404 || found_nothing,
                "{method} {path}: {:?}",
                answers[0]
            );
            tried += 1;
        }
    }
    assert!(tried >= 1);
}
