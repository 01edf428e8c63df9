//! Conversations as a whole: got, renamed, deleted, reset, imported.

use chrono::{DateTime, TimeDelta, Utc};
use companion_tests::app::{App, follow};
use companion_tests::eventually::within;
use companion_tests::llm::{Behaviour, Gate};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::memory::{answer, contents, list, search, statement, tell};

/// The prompt of the next message in a conversation, as one text.
async fn next_prompt(app: &App, user: &str, conversation: &str) -> String {
    app.chat(user, "And now?", Some(conversation)).await;
    app.last_prompt()
}

async fn reset(app: &App, user: &str, conversation: &str) -> (u16, Value) {
    let body = json!({ "conversation_id": conversation });
    app.post(user, "/conversation/reset", &body).await
}

async fn import(app: &App, user: &str, body: &Value) -> (String, Vec<String>) {
    let (status, imported) = app.post(user, "/conversations/import", body).await;
    assert_eq!(status, 201, "{imported}");
    let ids = imported["message_ids"].as_array().unwrap();
    let ids = ids.iter().map(|id| id.as_str().unwrap().to_owned());
    let conversation = imported["conversation_id"].as_str().unwrap();
    (conversation.to_owned(), ids.collect())
}

/// The fields that a 422 names.
fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_conversation_is_shown_as_the_list_shows_it() {
    let app = App::start().await;
    let chatted = app.chat("alice", "Hello there", None).await;
    let path = format!("/conversations/{}", chatted.conversation_id);
    let (status, one) = app.get("alice", &path).await;
    assert_eq!(status, 200, "{one}");
    let (_, all) = app.get("alice", "/conversations").await;
    assert_eq!(one, all["conversations"][0]);
    assert_eq!(
        (&one["title"], &one["message_count"]),
        (&json!("Hello there"), &json!(2))
    );
}

#[tokio::test]
async fn a_new_title_is_in_the_answer_and_in_the_next_one() {
    let app = App::start().await;
    let conversation = app.chat("alice", "Hello", None).await.conversation_id;
    let path = format!("/conversations/{conversation}");
    for n in 0..10 {
        let title = format!("Title {n} 🎉");
        let body = json!({ "title": title });
        let (status, renamed) = app.call("alice", Method::PATCH, &path, &body).await;
        assert_eq!(
            (status, &renamed["title"]),
            (200, &json!(title)),
            "{renamed}"
        );
        assert_eq!(app.get("alice", &path).await.1["title"], title.as_str());
    }
    for bad in [
        json!({}),
        json!({"title": null}),
        json!({"title": ""}),
        json!({"title": " \n"}),
        json!({"title": "x".repeat(201)}),
        json!({"title": "a\0b"}),
        json!({"title": 5}),
    ] {
        let (status, problem) = app.call("alice", Method::PATCH, &path, &bad).await;
        assert_eq!((status, fields(&problem)), (422, vec!["title"]), "{bad}");
    }
    let longest = json!({"title": "ü".repeat(200)});
    assert_eq!(
        app.call("alice", Method::PATCH, &path, &longest).await.0,
        200
    );
}

#[tokio::test]
async fn what_is_another_users_looks_like_what_does_not_exist() {
    let app = App::start().await;
    let said = "I adopted a greyhound called Biscuit";
    let hers = tell(&app, "alice", said, "User has a greyhound called Biscuit").await;
    let memory = list(&app, "alice", "").await[0]["id"].clone();
    let memory = memory.as_str().unwrap();
    let message = app.messages("alice", &hers).await[0]["id"].clone();
    app.chat("bob", "Hello", None).await;
    let nobodys = Uuid::now_v7().to_string();
    let mut answers = Vec::new();
    for (conversation, memory, message) in [
        (hers.as_str(), memory, message.as_str().unwrap()),
        (&nobodys, &nobodys, &nobodys),
    ] {
        let in_conversation = json!({ "conversation_id": conversation });
        let title = json!({"title": "Mine"});
        let source = json!({"content": "x", "kind": "fact",
            "sources": [{"conversation_id": conversation, "message_id": message}]});
        let query = json!({"query": "greyhound", "conversation_id": conversation});
        let change = json!({"importance": 0.1});
        let path = |rest: &str| format!("/conversations/{conversation}{rest}");
        let memory_path = |rest: &str| format!("/memories/{memory}{rest}");
        let as_of = format!("/memories?conversation_id={conversation}");
        for (method, path, body) in [
            (Method::GET, path(""), json!({})),
            (Method::GET, path("/messages"), json!({})),
            (Method::PATCH, path(""), title),
            (Method::DELETE, path(""), json!({})),
            (Method::POST, path("/summary"), json!({})),
            (
                Method::POST,
                "/conversation/reset".into(),
                in_conversation.clone(),
            ),
            (Method::POST, "/memory/clear".into(), in_conversation),
            (Method::GET, as_of, json!({})),
            (Method::POST, "/memories/search".into(), query),
            (Method::POST, "/memories".into(), source),
            (Method::GET, memory_path(""), json!({})),
            (Method::GET, memory_path("/history"), json!({})),
            (Method::PATCH, memory_path(""), change),
            (Method::DELETE, memory_path(""), json!({})),
        ] {
            let (status, mut problem) = app.call("bob", method.clone(), &path, &body).await;
            assert_eq!(status, 404, "{method} {path}: {problem}");
            problem["request_id"] = Value::Null;
            answers.push(problem);
        }
    }
    let (others, unknown) = answers.split_at(answers.len() / 2);
    assert_eq!(others, unknown);
    assert_eq!(app.memories("alice").await.len(), 1);
    assert_eq!(app.messages("alice", &hers).await.len(), 2);
    for path in ["/conversations/1", "/memories/x", "/memories/x/history"] {
        assert_eq!(app.get("alice", path).await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn a_reset_empties_the_prompt_and_keeps_the_memories() {
    let app = App::start().await;
    let said = "I adopted a greyhound called Biscuit";
    let conversation = tell(&app, "alice", said, "User has a greyhound called Biscuit").await;
    app.llm
        .next_extraction(Behaviour::Text("They spoke of a dog.".into()));
    let path = format!("/conversations/{conversation}/summary");
    assert_eq!(app.post("alice", &path, &json!({})).await.0, 200);
    let prompt = next_prompt(&app, "alice", &conversation).await;
    assert!(prompt.contains(said) && prompt.contains("They spoke of a dog."));

    let expected = json!({"success": true, "message": "Conversation reset successfully", "conversation_id": conversation});
    assert_eq!(reset(&app, "alice", &conversation).await, (200, expected));
    app.chat("alice", "Do I have a greyhound?", Some(&conversation))
        .await;
    let prompt = app.last_prompt();
    for gone in [said, "They spoke of a dog.", "And now?", "<summary>"] {
        assert!(!prompt.contains(gone), "{gone} is still in: {prompt}");
    }
    assert!(prompt.contains("User has a greyhound called Biscuit"));
    assert_eq!(
        app.memories("alice").await,
        ["User has a greyhound called Biscuit"]
    );
    assert_eq!(app.messages("alice", &conversation).await.len(), 6);
    let prompt = next_prompt(&app, "alice", &conversation).await;
    assert!(prompt.contains("Do I have a greyhound?"), "it goes on");
}

#[tokio::test]
async fn a_reply_that_runs_while_the_conversation_is_reset_stays_out_of_the_next_prompt() {
    let app = App::start().await;
    let gate = Gate::new();
    app.llm.next(Behaviour::Gated {
        chunks: vec!["An answer of old.".into()],
        gate: gate.clone(),
    });
    let response = app.send("alice", "A question of old", None).await;
    let conversation = response.headers()["x-conversation-id"].to_str().unwrap();
    let conversation = conversation.to_owned();
    gate.reached().await;
    assert_eq!(reset(&app, "alice", &conversation).await.0, 200);
    gate.open_all();
    let mut stream = follow(response);
    while within("the reply", stream.next()).await.is_some() {}
    let prompt = next_prompt(&app, "alice", &conversation).await;
    assert!(!prompt.contains("of old"), "{prompt}");
    let listed = app.messages("alice", &conversation).await;
    assert_eq!(listed[1]["content"], "An answer of old.");
}

#[tokio::test]
async fn a_deleted_conversation_is_in_no_list_and_no_search() {
    let app = App::start().await;
    let said = "I adopted a greyhound called Biscuit";
    let gone = tell(&app, "alice", said, "User has a greyhound called Biscuit").await;
    let kept = app.chat("alice", "Hello again", None).await.conversation_id;
    let path = format!("/conversations/{gone}");
    let memory = list(&app, "alice", "").await[0]["id"].clone();
    let deleted = app.call("alice", Method::DELETE, &path, &json!({})).await;
    assert_eq!(deleted, (204, json!("")));

    let (_, all) = app.get("alice", "/conversations").await;
    assert_eq!(
        (all["total"].as_i64(), &all["conversations"][0]["id"]),
        (Some(1), &json!(kept))
    );
    let everything = json!({"query": "greyhound called Biscuit", "include_messages": true});
    let found = search(&app, "alice", everything).await;
    assert!(!contents(&found).contains(&said), "{found:?}");
    assert!(found.iter().all(|result| result["source"] == "message"));
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 0);
    let memory = format!("/memories/{}", memory.as_str().unwrap());
    for path in [&path, &format!("{path}/messages"), &memory] {
        assert_eq!(app.get("alice", path).await.0, 404, "{path}");
    }
    let again = app.call("alice", Method::DELETE, &path, &json!({})).await;
    assert_eq!(again.0, 404);
    let sent = app.send("alice", "Hello?", Some(&gone)).await;
    assert_eq!(sent.status(), 404);
}

#[tokio::test]
async fn a_reply_that_runs_in_a_deleted_conversation_ends_and_is_lost() {
    let app = App::start().await;
    let gate = Gate::new();
    app.llm.next(Behaviour::Gated {
        chunks: vec!["A fine greyhound.".into()],
        gate: gate.clone(),
    });
    let response = app.send("alice", "I have a greyhound", None).await;
    let conversation = response.headers()["x-conversation-id"].to_str().unwrap();
    let path = format!("/conversations/{conversation}");
    gate.reached().await;
    let deleted = app.call("alice", Method::DELETE, &path, &json!({})).await;
    assert_eq!(deleted.0, 204);
    gate.open_all();
    let stream = within("the end of the stream", response.text())
        .await
        .unwrap();
    assert!(stream.contains("\"done\""), "{stream}");
    app.settle().await;
    assert_eq!(app.get("alice", &path).await.0, 404);
    let query = json!({"query": "greyhound", "include_messages": true});
    assert_eq!(search(&app, "alice", query).await.len(), 0);
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 0);
}

#[tokio::test]
async fn a_conversation_deleted_while_it_is_read_for_facts_leaves_nothing() {
    let app = App::start().await;
    let gate = Gate::new();
    let found = json!({ "memories": [statement("User has a greyhound")] }).to_string();
    app.llm.next_extraction(Behaviour::Gated {
        chunks: vec![found],
        gate: gate.clone(),
    });
    let chatted = app.chat("alice", "I have a greyhound", None).await;
    gate.reached().await;
    let path = format!("/conversations/{}", chatted.conversation_id);
    let deleted = app.call("alice", Method::DELETE, &path, &json!({})).await;
    assert_eq!(deleted.0, 204);
    gate.open_all();
    app.settle().await;
    assert_eq!(list(&app, "alice", "include_inactive=true").await.len(), 0);
}

fn talk_of_old() -> Value {
    json!({"title": "Old talk", "messages": [
        {"role": "user", "name": "Ann", "content": "I adopted a greyhound called Biscuit yesterday",
         "created_at": "2023-05-08T00:30:00+02:00", "external_id": "D1:1"},
        {"role": "assistant", "name": null, "content": "I adore marble sculptures myself", "created_at": "2023-05-07T22:31:00Z", "external_id": "D1:2"},
        {"role": "user", "name": "Bob", "content": "Good night then", "created_at": null},
    ]})
}

#[tokio::test]
async fn an_imported_conversation_keeps_names_ids_and_times() {
    let app = App::start().await;
    let before = Utc::now();
    let (conversation, ids) = import(&app, "alice", &talk_of_old()).await;
    let (_, one) = app
        .get("alice", &format!("/conversations/{conversation}"))
        .await;
    assert_eq!(
        (&one["title"], &one["message_count"]),
        (&json!("Old talk"), &json!(3))
    );
    assert_eq!(one["created_at"], "2023-05-07T22:30:00+00:00");
    let path = format!("/conversations/{conversation}/messages");
    let (_, listed) = app.get("alice", &path).await;
    let listed = listed["messages"].as_array().unwrap();
    let of = |n: usize, field: &str| listed[n][field].clone();
    for (n, (role, name, external, at)) in [
        (
            "user",
            json!("Ann"),
            json!("D1:1"),
            Some("2023-05-07T22:30:00+00:00"),
        ),
        (
            "assistant",
            Value::Null,
            json!("D1:2"),
            Some("2023-05-07T22:31:00+00:00"),
        ),
        ("user", json!("Bob"), Value::Null, None),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!((of(n, "id"), of(n, "role")), (json!(ids[n]), json!(role)));
        assert_eq!((of(n, "name"), of(n, "external_id")), (name, external));
        if let Some(at) = at {
            assert_eq!(of(n, "created_at"), at);
        }
    }
    let last: DateTime<Utc> = of(2, "created_at").as_str().unwrap().parse().unwrap();
    assert!(before - TimeDelta::seconds(1) <= last && last <= Utc::now());
    assert_eq!(one["updated_at"], of(2, "created_at"));

    let prompt = next_prompt(&app, "alice", &conversation).await;
    assert!(prompt.contains("greyhound called Biscuit") && prompt.contains("marble"));
}

#[tokio::test]
async fn only_what_the_user_said_elsewhere_becomes_a_memory_with_its_time() {
    let app = App::start().await;
    let hello = json!({"message": "Hello", "timezone": "America/New_York"});
    let response = app.request_by("alice", Method::POST, "/chat").json(&hello);
    response.send().await.unwrap().text().await.unwrap();
    app.settle().await;
    let mut dog = statement("User adopted a greyhound called Biscuit");
    dog["kind"] = json!("event");
    dog["happened_on"] = json!("2023-05-06");
    let marble = statement("User adores marble sculptures");
    app.llm.next_extraction(answer(&[dog, marble]));
    let (conversation, ids) = import(&app, "alice", &talk_of_old()).await;
    let memories = list(&app, "alice", "include_inactive=true").await;
    assert_eq!(
        contents(&memories),
        ["User adopted a greyhound called Biscuit"]
    );
    assert_eq!(
        memories[0]["sources"],
        json!([{"conversation_id": conversation, "message_id": ids[0], "external_id": "D1:1"}])
    );
    let valid_from = memories[0]["valid_from"].as_str().unwrap();
    assert!(
        valid_from.starts_with("2023-05-06"),
        "the day in New York before that of the message: {valid_from}"
    );
    let asked = app.llm.extraction_requests().last().unwrap().prompt();
    assert!(asked.contains("Biscuit") && !asked.contains("marble"));
    assert!(
        asked.contains("2023-05-07") && !asked.contains("2023-05-08"),
        "the date of the message is the one in the user's time zone: {asked}"
    );
    let (_, one) = app
        .get(
            "alice",
            &format!("/memories/{}", memories[0]["id"].as_str().unwrap()),
        )
        .await;
    assert_eq!(one["sources"], memories[0]["sources"]);
}

#[tokio::test]
async fn what_is_not_to_be_read_is_searched_all_the_same() {
    let app = App::start().await;
    let mut talk = talk_of_old();
    talk["extract"] = json!(false);
    let (conversation, ids) = import(&app, "alice", &talk).await;
    app.settle().await;
    assert!(app.llm.extraction_requests().is_empty());
    assert_eq!(list(&app, "alice", "").await.len(), 0);
    for (query, n, external) in [
        ("a pet dog", 0, "D1:1"),
        ("statues made of stone", 1, "D1:2"),
    ] {
        let query =
            json!({"query": query, "include_messages": true, "conversation_id": conversation});
        let found = search(&app, "alice", query).await;
        assert_eq!(found[0]["id"], ids[n], "{found:?}");
        assert_eq!(found[0]["sources"][0]["external_id"], external);
    }
    let only_memories = json!({"query": "greyhound Biscuit"});
    assert_eq!(search(&app, "alice", only_memories).await.len(), 0);
}

#[tokio::test]
async fn an_import_that_is_not_valid_names_the_fields() {
    let app = App::start().await;
    let with = |field: &str, value: Value| {
        let good = json!({"role": "user", "content": "Hello"});
        let mut bad = good.clone();
        bad[field] = value;
        json!({"messages": [good, bad]})
    };
    let tomorrow = Utc::now() + TimeDelta::hours(25);
    for (body, expected) in [
        (json!({}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": ["Hello"]}), "messages.0"),
        (
            json!({"messages": [{"role": "user"}]}),
            "messages.0.content",
        ),
        (with("role", json!("system")), "messages.1.role"),
        (with("role", Value::Null), "messages.1.role"),
        (with("content", json!("")), "messages.1.content"),
        (with("content", json!(" \n ")), "messages.1.content"),
        (with("content", json!("a\0b")), "messages.1.content"),
        (
            with("content", json!("é".repeat(32_001))),
            "messages.1.content",
        ),
        (with("name", json!("x".repeat(101))), "messages.1.name"),
        (with("name", json!("a\0b")), "messages.1.name"),
        (with("external_id", json!("")), "messages.1.external_id"),
        (
            with("external_id", json!("x".repeat(201))),
            "messages.1.external_id",
        ),
        (
            with("created_at", json!("yesterday")),
            "messages.1.created_at",
        ),
        (
            with("created_at", json!("2023-05-08")),
            "messages.1.created_at",
        ),
        (
            with("created_at", json!(1_683_500_000)),
            "messages.1.created_at",
        ),
        (
            with("created_at", json!("1969-12-31T23:59:59Z")),
            "messages.1.created_at",
        ),
        (with("created_at", json!(tomorrow)), "messages.1.created_at"),
        (
            json!({"title": "x".repeat(201), "messages": [{"role": "user", "content": "a"}]}),
            "title",
        ),
        (
            json!({"title": "a\0b", "messages": [{"role": "user", "content": "a"}]}),
            "title",
        ),
        (
            json!({"extract": "yes", "messages": [{"role": "user", "content": "a"}]}),
            "extract",
        ),
    ] {
        let (status, problem) = app.post("alice", "/conversations/import", &body).await;
        assert_eq!(status, 422, "{expected}: {problem}");
        assert_eq!(fields(&problem), [expected]);
    }
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 0);
    let longest = json!({"title": null, "messages": [
        {"role": "user", "content": "é".repeat(32_000), "created_at": "1970-01-01T00:00:00Z"},
        {"role": "user", "content": "a", "created_at": "2023-05-08T00:30:60+02:00"},
    ]});
    let (status, problem) = app.post("alice", "/conversations/import", &longest).await;
    assert!(
        matches!(status, 201 | 422),
        "a leap second at most: {problem}"
    );
}

#[tokio::test]
async fn five_thousand_messages_are_imported_at_once() {
    let app = App::start_with(&[("MEMORY_EXTRACTION_METHOD", "heuristic")]).await;
    let message = |n: usize| {
        let at = (DateTime::UNIX_EPOCH + TimeDelta::minutes(n as i64)).to_rfc3339();
        let role = ["user", "assistant"][n % 2];
        json!({"role": role, "content": format!("Message {n}"),
            "created_at": at, "external_id": format!("m{n}")})
    };
    let messages: Vec<Value> = (0..5_000).map(message).collect();
    let begun = std::time::Instant::now();
    let (conversation, ids) = import(
        &app,
        "alice",
        &json!({"messages": messages, "extract": false}),
    )
    .await;
    eprintln!("imported within {:?}", begun.elapsed());
    assert_eq!(ids.len(), 5_000);
    let path = format!("/conversations/{conversation}");
    let (_, one) = app.get("alice", &path).await;
    assert_eq!(one["message_count"], 5_000);
    assert_eq!(one["updated_at"], messages[4_999]["created_at"]);
    let mut seen: Vec<String> = Vec::new();
    let mut before = String::new();
    while seen.len() < 5_000 {
        let page = format!("{path}/messages?limit=200{before}");
        let (status, page) = app.get("alice", &page).await;
        assert_eq!(status, 200, "{page}");
        let page = page["messages"].as_array().unwrap();
        let ids = page.iter().map(|m| m["id"].as_str().unwrap().to_owned());
        seen.splice(0..0, ids);
        before = format!("&before={}", seen[0]);
    }
    assert_eq!(seen, ids, "in order");
}

#[tokio::test]
async fn too_many_messages_or_bytes_are_refused() {
    let app = App::start().await;
    let message = json!({"role": "user", "content": "Hello"});
    let body = json!({"messages": vec![message; 5_001]});
    let begun = std::time::Instant::now();
    let (status, problem) = app.post("alice", "/conversations/import", &body).await;
    assert_eq!((status, fields(&problem)), (422, vec!["messages"]));
    eprintln!("5,001 messages are refused within {:?}", begun.elapsed());
    let faulty = json!({"messages": vec![json!({"role": "user", "content": ""}); 5_000]});
    let (status, problem) = app.post("alice", "/conversations/import", &faulty).await;
    assert_eq!((status, fields(&problem).len()), (422, 100));

    let large = json!({"role": "user", "content": "x".repeat(32_000)});
    let fits = json!({"extract": false, "messages": vec![large.clone(); 60]});
    assert!(fits.to_string().len() > 1 << 20);
    let (status, imported) = app.post("alice", "/conversations/import", &fits).await;
    assert_eq!(status, 201, "{imported}");
    let too_large = json!({"messages": vec![large; 530]});
    assert!(too_large.to_string().len() > 16 << 20);
    let (status, problem) = app.post("alice", "/conversations/import", &too_large).await;
    assert_eq!((status, &problem["code"]), (413, &json!("body_too_large")));
    assert!(problem["detail"].as_str().unwrap().contains("16 MiB"));
}
