//! Memories that a user writes down, corrects and forgets, and what was believed when.

use chrono::{DateTime, TimeDelta, Utc};
use companion_tests::app::{App, status_and_json};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::memory::{answer, contents, list, search, statement, tell};

async fn remember(app: &App, body: Value) -> Value {
    let (status, memory) = app.post("alice", "/memories", &body).await;
    assert_eq!(status, 201, "{memory}");
    memory
}

async fn likes_tea(app: &App) -> Value {
    remember(
        app,
        json!({"content": "User likes tea", "kind": "preference"}),
    )
    .await
}

fn path(memory: &Value) -> String {
    format!("/memories/{}", memory["id"].as_str().unwrap())
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

async fn patch(app: &App, memory: &Value, body: &Value) -> (u16, Value) {
    app.call("alice", Method::PATCH, &path(memory), body).await
}

/// Changes or forgets a memory if it is at one of these versions.
async fn if_match(app: &App, method: Method, memory: &Value, tags: &str) -> (u16, Value) {
    let request = app
        .request_by("alice", method, &path(memory))
        .header("If-Match", tags)
        .json(&json!({"importance": 0.7}));
    status_and_json(request.send().await.unwrap()).await
}

#[tokio::test]
async fn a_memory_that_is_written_down_is_there_at_once() {
    let app = App::start().await;
    for n in 0..10 {
        let content = format!("User knows fact {n} 🎉");
        let mut memory = remember(&app, json!({"content": content, "kind": "fact"})).await;
        let (_, mut one) = app.get("alice", &path(&memory)).await;
        let (_, mut all) = app.get("alice", "/memories").await;
        for shown in [&mut memory, &mut one, &mut all["memories"][0]] {
            assert!(shown["importance_now"].as_f64().unwrap() > 0.499);
            shown["importance_now"] = Value::Null;
        }
        assert_eq!((&one, &all["memories"][0]), (&memory, &memory));
        assert_eq!(memory["content"], content);
        assert_eq!(
            (&memory["state"], &memory["importance"], &memory["sources"]),
            (&json!("live"), &json!(0.5), &json!([]))
        );
        assert_eq!(memory["metadata"], json!({}), "not explicit: it decays");
    }
    let found = search(&app, "alice", json!({"query": "fact 7"})).await;
    assert!(contents(&found).contains(&"User knows fact 7 🎉"));
    assert_eq!(app.get("bob", "/memories").await.1["total"], 0);
}

#[tokio::test]
async fn its_version_is_the_etag() {
    let app = App::start().await;
    let body = json!({"content": "User likes tea", "kind": "preference"});
    let mut versions = Vec::new();
    for (method, to) in [
        (Method::POST, "/memories".to_owned()),
        (Method::POST, "/memories".to_owned()),
    ] {
        let request = app.request_by("alice", method, &to).json(&body);
        let response = request.send().await.unwrap();
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        let (_, memory) = status_and_json(response).await;
        assert_eq!(tag, format!("\"{}\"", memory["version"]));
        versions.push(memory);
    }
    let memory = versions.pop().unwrap();
    for method in [Method::GET, Method::PATCH] {
        let request = app
            .request_by("alice", method, &path(&memory))
            .json(&json!({"importance": 0.6}));
        let response = request.send().await.unwrap();
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        let (_, memory) = status_and_json(response).await;
        assert_eq!(tag, format!("\"{}\"", memory["version"]));
    }
}

#[tokio::test]
async fn a_memory_decays_from_when_it_happened_or_was_said() {
    let app = App::start().await;
    let half_a_life_ago = Utc::now() - TimeDelta::days(180);
    let body = json!({"content": "User likes tea", "kind": "preference", "importance": 0.8,
        "occurred_at": half_a_life_ago});
    let memory = remember(&app, body).await;
    let now = memory["importance_now"].as_f64().unwrap();
    assert!((now - 0.4).abs() < 0.001, "{now}");
    assert!((time(&memory["valid_from"]) - half_a_life_ago).abs() < TimeDelta::milliseconds(1));
    assert_eq!(memory["importance"], 0.8);
    assert_eq!(memory["metadata"]["occurred_at"], memory["valid_from"]);

    let said = |n: u32, at: &str| json!({"role": "user", "content": format!("Hm {n}"), "created_at": at, "external_id": format!("m{n}")});
    let talk = json!({"extract": false, "messages": [said(1, "2024-01-01T00:00:00Z"), said(2, "2024-02-01T00:00:00Z")]});
    let (_, talk) = app.post("alice", "/conversations/import", &talk).await;
    let source = |n: usize| json!({"conversation_id": talk["conversation_id"], "message_id": talk["message_ids"][n]});
    let sources = json!([source(0), source(1), source(0)]);
    let cited = json!({"content": "User hums", "kind": "fact", "sources": sources});
    let cited = remember(&app, cited).await;
    assert_eq!(cited["valid_from"], "2024-02-01T00:00:00+00:00");
    let ids: Vec<&Value> = cited["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| &source["external_id"])
        .collect();
    assert_eq!(ids, [&json!("m1"), &json!("m2")]);
    let bare = remember(&app, json!({"content": "User is new", "kind": "fact"})).await;
    assert!(Utc::now() - time(&bare["valid_from"]) < TimeDelta::seconds(30));

    let mut elsewhere = source(0);
    elsewhere["conversation_id"] = json!(Uuid::now_v7());
    let lie = json!({"content": "User lies", "kind": "fact", "sources": [elsewhere]});
    assert_eq!(app.post("alice", "/memories", &lie).await.0, 404);
}

#[tokio::test]
async fn a_circumstance_of_long_ago_is_faded_and_harms_no_list() {
    let app = App::start().await;
    let tea = likes_tea(&app).await;
    for (kind, at) in [
        ("context", "1970-01-01T00:00:00Z"),
        ("fact", "0001-01-01T00:00:00Z"),
    ] {
        let old = json!({"content": format!("User was a {kind}"), "kind": kind, "importance": 1e-300, "occurred_at": at});
        assert_eq!(remember(&app, old).await["state"], "faded");
    }
    assert_eq!(contents(&list(&app, "alice", "").await), ["User likes tea"]);
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 3);
    let far = list(
        &app,
        "alice",
        "as_of=9999-12-31T23:59:59Z&include_inactive=true",
    )
    .await;
    assert_eq!(far.len(), 3);
    assert!(far.iter().all(|memory| memory["state"] == "faded"));
    assert_eq!(
        list(&app, "alice", "as_of=0001-01-01T00:00:00Z")
            .await
            .len(),
        0
    );
    for as_of in ["9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z"] {
        let body = json!({"query": "tea", "as_of": as_of, "include_messages": true});
        assert_eq!(search(&app, "alice", body).await.len(), 0);
    }
    for as_of in [
        "yesterday",
        "2024",
        "",
        "%2B262142-01-01T00:00:00Z",
        "-262143-01-01T00:00:00Z",
    ] {
        let (status, problem) = app.get("alice", &format!("/memories?as_of={as_of}")).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (422, &json!("as_of")),
            "{as_of}"
        );
    }
    let body = json!({"query": "tea", "as_of": "yesterday"});
    assert_eq!(app.post("alice", "/memories/search", &body).await.0, 422);
    assert_eq!(app.get("alice", &path(&tea)).await.0, 200);
}

#[tokio::test]
async fn what_is_known_already_is_reinforced() {
    let app = App::start().await;
    tell(
        &app,
        "alice",
        "I love walnut cake",
        "User loves walnut cake",
    )
    .await;
    let long_ago = "UPDATE memories SET last_reinforced_at = now() - interval '20 years'";
    sqlx::query(long_ago).execute(&app.core.pool).await.unwrap();
    let before = list(&app, "alice", "include_inactive=true").await[0].clone();
    assert_eq!(before["state"], "faded");
    let same = json!({"content": "user LOVES walnut-cake!", "kind": "event", "importance": 1});
    let (status, again) = app.post("alice", "/memories", &same).await;
    assert_eq!(status, 200, "{again}");
    assert_eq!(
        (&again["id"], &again["state"]),
        (&before["id"], &json!("live"))
    );
    assert_eq!(
        (&again["content"], &again["kind"], &again["sources"]),
        (&before["content"], &before["kind"], &before["sources"])
    );
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 1);

    for content in ["🎸", "it is what it is"] {
        let body = json!({"content": content, "kind": "fact"});
        remember(&app, body.clone()).await;
        assert_eq!(
            app.post("alice", "/memories", &body).await.0,
            200,
            "{content}"
        );
    }
    remember(&app, json!({"content": "🥁", "kind": "fact"})).await;
    remember(
        &app,
        json!({"content": "cake loves walnut user", "kind": "fact"}),
    )
    .await;
    let bobs = json!({"content": "User loves walnut cake", "kind": "fact"});
    assert_eq!(app.post("bob", "/memories", &bobs).await.0, 201);
}

#[tokio::test]
async fn of_many_who_write_the_same_down_at_once_one_makes_a_memory() {
    let app = App::start().await;
    let body = json!({"content": "User likes tea", "kind": "preference"});
    let posts = (0..8).map(|_| app.post("alice", "/memories", &body));
    let answers = futures_util::future::join_all(posts).await;
    let new = answers.iter().filter(|(status, _)| *status == 201).count();
    assert!(
        new == 1
            && answers
                .iter()
                .all(|(status, _)| matches!(status, 200 | 201)),
        "{answers:?}"
    );
    assert_eq!(app.memories("alice").await, ["User likes tea"]);
}

#[tokio::test]
async fn a_memory_that_is_not_valid_is_refused_field_by_field() {
    let app = App::start().await;
    let source = json!({"conversation_id": Uuid::now_v7(), "message_id": Uuid::now_v7()});
    for (field, value) in [
        ("content", json!("")),
        ("content", json!("  ")),
        ("content", json!("a\0b")),
        ("content", json!("é".repeat(2_001))),
        ("content", Value::Null),
        ("kind", json!("Fact")),
        ("kind", Value::Null),
        ("importance", json!(1.1)),
        ("importance", json!(-0.1)),
        ("importance", json!("high")),
        ("occurred_at", json!("yesterday")),
        ("sources", json!(vec![source; 51])),
        ("sources", json!("m1")),
    ] {
        let mut body = json!({"content": "User likes tea", "kind": "fact"});
        body[field] = value;
        let (status, problem) = app.post("alice", "/memories", &body).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (422, &json!(field)),
            "{body}"
        );
    }
    let (_, problem) = app
        .post(
            "alice",
            "/memories",
            &json!({"content": "a", "kind": "fact", "sources": [{}]}),
        )
        .await;
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2);
    assert!(
        problem.to_string().contains("sources.0.message_id"),
        "{problem}"
    );
    assert_eq!(app.get("alice", "/memories").await.1["total"], 0);
    remember(
        &app,
        json!({"content": "é".repeat(2_000), "kind": "fact", "importance": 0}),
    )
    .await;
}

#[tokio::test]
async fn a_correction_changes_what_is_given() {
    let app = App::start().await;
    let tea = likes_tea(&app).await;
    let (status, coffee) = patch(&app, &tea, &json!({"content": "User likes coffee"})).await;
    assert_eq!(status, 200, "{coffee}");
    assert_eq!(
        (&coffee["content"], &coffee["kind"], &coffee["importance"]),
        (
            &json!("User likes coffee"),
            &json!("preference"),
            &json!(0.5)
        )
    );
    assert!(coffee["version"].as_i64() > tea["version"].as_i64());
    assert!(time(&coffee["updated_at"]) > time(&tea["updated_at"]));
    assert_eq!(coffee["created_at"], tea["created_at"]);
    let change = json!({"kind": "context", "importance": 0.9, "content": null});
    let (_, changed) = patch(&app, &tea, &change).await;
    assert_eq!(
        (
            &changed["content"],
            &changed["kind"],
            &changed["importance"]
        ),
        (&json!("User likes coffee"), &json!("context"), &json!(0.9))
    );
    assert_eq!(app.get("alice", &path(&tea)).await.1["kind"], "context");
    app.settle().await;
    let found = search(&app, "alice", json!({"query": "coffee"})).await;
    assert_eq!(contents(&found), ["User likes coffee"]);
    app.chat("alice", "Do I like coffee or tea?", None).await;
    let prompt = app.last_prompt();
    assert!(prompt.contains("User likes coffee") && !prompt.contains("User likes tea"));
    for bad in [
        json!({}),
        json!({"content": null}),
        json!({"content": " "}),
        json!({"importance": 2}),
        json!({"kind": "guess"}),
    ] {
        assert_eq!(patch(&app, &tea, &bad).await.0, 422, "{bad}");
    }
}

#[tokio::test]
async fn what_is_written_or_corrected_by_hand_is_ended_by_what_is_told_later() {
    let app = App::start_with(&[("MEMORY_EXTRACTION_METHOD", "heuristic")]).await;
    remember(
        &app,
        json!({"content": "User lives in Berlin", "kind": "fact"}),
    )
    .await;
    app.chat("alice", "I moved to Lisbon", None).await;
    assert_eq!(app.memories("alice").await, ["User lives in Lisbon"]);
    let lisbon = list(&app, "alice", "").await.remove(0);
    let (status, _) = patch(&app, &lisbon, &json!({"content": "User lives in Potsdam"})).await;
    assert_eq!(status, 200);
    app.chat("alice", "I moved to Madrid", None).await;
    assert_eq!(app.memories("alice").await, ["User lives in Madrid"]);
    let all = list(&app, "alice", "include_inactive=true").await;
    assert_eq!(all.len(), 3);
}

#[tokio::test]
async fn a_correction_brings_a_faded_memory_back_to_life() {
    let app = App::start().await;
    let old = json!({"content": "User has a cold", "kind": "context", "occurred_at": "2020-01-01T00:00:00Z"});
    let old = remember(&app, old).await;
    assert_eq!(old["state"], "faded");
    let (_, again) = patch(&app, &old, &json!({"importance": 0.8})).await;
    assert_eq!(again["state"], "live");
    assert_eq!(list(&app, "alice", "").await.len(), 1);
}

#[tokio::test]
async fn a_change_of_another_version_than_the_one_seen_is_refused() {
    let app = App::start().await;
    let tea = likes_tea(&app).await;
    let first = format!("\"{}\"", tea["version"]);
    let (status, second) = if_match(&app, Method::PATCH, &tea, &first).await;
    assert_eq!(status, 200, "{second}");
    for method in [Method::PATCH, Method::DELETE] {
        for stale in [
            first.clone(),
            format!("W/\"{}\"", second["version"]),
            "\"x\"".into(),
        ] {
            let (status, problem) = if_match(&app, method.clone(), &tea, &stale).await;
            assert_eq!(
                (status, &problem["code"]),
                (412, &json!("stale_version")),
                "{stale}"
            );
        }
        for malformed in ["", "7", "\"7", "\"1\" \"2\"", "*, \"1\""] {
            let (status, problem) = if_match(&app, method.clone(), &tea, malformed).await;
            assert_eq!(
                (status, &problem["errors"][0]["field"]),
                (422, &json!("If-Match"))
            );
        }
    }
    let no_text = reqwest::header::HeaderValue::from_bytes(b"\"\xe9\"").unwrap();
    let request = app.request_by("alice", Method::DELETE, &path(&tea));
    let response = request.header("If-Match", no_text).send().await.unwrap();
    assert_eq!(response.status(), 422);
    let unchanged = app.get("alice", &path(&tea)).await.1;
    assert_eq!(unchanged["version"], second["version"]);
    let (status, third) = if_match(&app, Method::PATCH, &tea, "*").await;
    assert_eq!(status, 200, "{third}");
    let among = format!("{first}, \"{}\"", third["version"]);
    let (status, answer) = if_match(&app, Method::DELETE, &tea, &among).await;
    assert_eq!((status, answer), (204, json!("")));
    assert_eq!(if_match(&app, Method::DELETE, &tea, "*").await.0, 404);
}

#[tokio::test]
async fn of_two_changes_of_one_version_at_once_one_is_refused() {
    let app = App::start().await;
    let tea = likes_tea(&app).await;
    let tag = format!("\"{}\"", tea["version"]);
    let (a, b) = tokio::join!(
        if_match(&app, Method::PATCH, &tea, &tag),
        if_match(&app, Method::PATCH, &tea, &tag)
    );
    let mut statuses = [a.0, b.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

#[tokio::test]
async fn a_forgotten_memory_is_gone_for_good() {
    let app = App::start().await;
    let tea = likes_tea(&app).await;
    let (_, coffee) = patch(&app, &tea, &json!({"content": "User likes coffee"})).await;
    let deleted = app
        .call("alice", Method::DELETE, &path(&tea), &json!({}))
        .await;
    assert_eq!(deleted, (204, json!("")));
    for (method, path) in [
        (Method::GET, path(&tea)),
        (Method::GET, format!("{}/history", path(&tea))),
        (Method::DELETE, path(&tea)),
        (Method::PATCH, path(&tea)),
    ] {
        let body = json!({"importance": 0.1});
        let (status, _) = app.call("alice", method.clone(), &path, &body).await;
        assert_eq!(status, 404, "{method} {path}");
    }
    for time in [&tea["updated_at"], &coffee["updated_at"]] {
        let as_of = time.as_str().unwrap();
        let query = format!("as_of={as_of}&include_inactive=true");
        assert_eq!(list(&app, "alice", &query).await.len(), 0);
        let body = json!({"query": "tea or coffee", "as_of": as_of});
        assert_eq!(search(&app, "alice", body).await.len(), 0);
    }
    app.settle().await;
    app.chat("alice", "Do I like tea or coffee?", None).await;
    assert!(!app.last_prompt().contains("User likes"));
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM past_memories) + (SELECT count(*) FROM memory_events)",
    )
    .fetch_one(&app.core.pool)
    .await
    .unwrap();
    assert_eq!(left, 0, "nothing of it is left in a table");
    assert_eq!(
        likes_tea(&app).await["state"],
        "live",
        "it can be told anew"
    );
}

#[tokio::test]
async fn what_a_forgotten_memory_replaced_does_not_name_it() {
    let app = App::start().await;
    tell(&app, "alice", "I live in Lisbon", "User lives in Lisbon").await;
    let lisbon = list(&app, "alice", "").await[0].clone();
    let mut moved = statement("User lives in Porto");
    moved["replaces"] = json!([1]);
    app.llm.next_extraction(answer(&[moved]));
    app.chat("alice", "I moved and live in Porto now", None)
        .await;
    let porto = list(&app, "alice", "").await[0].clone();
    let (_, before) = app.get("alice", &path(&lisbon)).await;
    assert_eq!(before["superseded_by"], porto["id"]);
    let forgotten = if_match(&app, Method::DELETE, &porto, "*").await;
    assert_eq!(forgotten.0, 204);
    let (_, after) = app.get("alice", &path(&lisbon)).await;
    assert_eq!(
        (&after["state"], &after["superseded_by"]),
        (&json!("superseded"), &Value::Null)
    );
}

#[tokio::test]
async fn what_was_believed_earlier_can_be_asked_for() {
    let app = App::start().await;
    let lisbon = tell(&app, "alice", "I live in Lisbon", "User lives in Lisbon").await;
    let first = list(&app, "alice", "").await[0].clone();
    let mut moved = statement("User lives in Porto");
    moved["replaces"] = json!([1]);
    app.llm.next_extraction(answer(&[moved]));
    app.chat("alice", "I moved and live in Porto now", None)
        .await;
    app.settle().await;
    let second = list(&app, "alice", "").await[0].clone();
    let (_, third) = patch(&app, &second, &json!({"content": "User lives in Braga"})).await;
    app.settle().await;

    let just_before = time(&first["updated_at"]) - TimeDelta::microseconds(1);
    let before = just_before.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    for (as_of, expected) in [
        (before.as_str(), vec![]),
        (
            first["updated_at"].as_str().unwrap(),
            vec!["User lives in Lisbon"],
        ),
        (
            second["updated_at"].as_str().unwrap(),
            vec!["User lives in Porto"],
        ),
        (
            third["updated_at"].as_str().unwrap(),
            vec!["User lives in Braga"],
        ),
    ] {
        let then = list(&app, "alice", &format!("as_of={as_of}")).await;
        assert_eq!(contents(&then), expected, "{as_of}");
        let body = json!({"query": "Where does the user live?", "as_of": as_of});
        assert_eq!(contents(&search(&app, "alice", body).await), expected);
        let words = json!({"query": "lives", "as_of": as_of});
        assert_eq!(contents(&search(&app, "alice", words).await), expected);
    }
    let as_of = first["updated_at"].as_str().unwrap();
    let here = format!("as_of={as_of}&conversation_id={lisbon}&kind=fact");
    let then = list(&app, "alice", &here).await;
    assert_eq!(
        (&then[0]["state"], &then[0]["valid_to"], &then[0]["version"]),
        (&json!("live"), &Value::Null, &first["version"])
    );
    assert_eq!(
        list(&app, "alice", &format!("as_of={as_of}&kind=event"))
            .await
            .len(),
        0
    );
    let messages = json!({"query": "Porto Lisbon", "as_of": as_of, "include_messages": true});
    let found = search(&app, "alice", messages).await;
    assert!(contents(&found).contains(&"I live in Lisbon"));
    assert!(
        !found
            .iter()
            .any(|f| f["content"].as_str().unwrap().contains("Porto"))
    );
}

#[tokio::test]
async fn a_history_tells_every_event_in_order_and_why() {
    let app = App::start().await;
    let first = tell(&app, "alice", "I live in Lisbon", "User lives in Lisbon").await;
    let second = tell(
        &app,
        "alice",
        "Lisbon is where I live",
        "User lives in Lisbon",
    )
    .await;
    let memory = list(&app, "alice", "").await[0].clone();
    patch(&app, &memory, &json!({"importance": 0.9})).await;
    let mut moved = statement("User lives in Porto");
    moved["replaces"] = json!([1]);
    app.llm.next_extraction(answer(&[moved]));
    let third = app
        .chat("alice", "I moved and live in Porto now", None)
        .await;
    app.settle().await;

    let (status, history) = app
        .get("alice", &format!("{}/history", path(&memory)))
        .await;
    assert_eq!(status, 200, "{history}");
    let history = history["history"].as_array().unwrap();
    let of = |field: &str| -> Vec<Value> { history.iter().map(|h| h[field].clone()).collect() };
    assert_eq!(
        json!(of("event")),
        json!([
            "MemoryRecorded",
            "MemoryReinforced",
            "MemoryRevised",
            "MemorySuperseded"
        ])
    );
    let conversations: Vec<Value> = history
        .iter()
        .map(|h| h["sources"][0]["conversation_id"].clone())
        .collect();
    assert_eq!(
        json!(conversations),
        json!([first, second, null, third.conversation_id])
    );
    for (n, entry) in history.iter().enumerate() {
        assert!(!entry["reason"].as_str().unwrap().is_empty());
        let by_llm = n != 2;
        assert_eq!(entry["model"] == "local-model", by_llm, "{entry}");
        assert_eq!(entry["prompt"].is_string(), by_llm, "{entry}");
    }
    assert!(of("at").is_sorted_by_key(time));
    assert!(of("version").is_sorted_by(|a, b| a.as_i64() < b.as_i64()));
    let (_, now) = app.get("alice", &path(&memory)).await;
    assert_eq!(
        (&now["state"], &now["version"]),
        (&json!("superseded"), &history[3]["version"])
    );
}
