//! The binaries themselves: started, crashed, stopped, and misconfigured.

use std::net::TcpListener;

use companion_tests::app::{Variables, variables};
use companion_tests::eventually::{eventually, eventually_within, within};
use companion_tests::llm::{Behaviour, Gate, ScriptedLlm};
use companion_tests::otlp::OtlpReceiver;
use companion_tests::process::{Api, Process, free_port};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

fn worker(variables: &Variables) -> Process {
    Process::start("companion-worker", variables)
}

/// Moves the past back: whoever was seen lately was seen a while ago.
async fn let_leases_run_out(variables: &Variables) {
    let pool = sqlx::PgPool::connect(&variables["POSTGRES_URL"])
        .await
        .unwrap();
    sqlx::query("UPDATE processes SET seen_at = seen_at - interval '1 hour'")
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
}

#[tokio::test]
async fn what_was_answered_before_a_crash_is_there_once_after_it() {
    const BOATS: [&str; 5] = ["canoe", "dinghy", "kayak", "schooner", "trimaran"];
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    let (api, first) = (Api::start(&variables).await, worker(&variables));
    let statement = |boat: &&str| {
        json!({"statement": format!("User owns a {boat}"), "kind": "fact", "importance": 0.5, "messages": [1],
            "happened_on": null, "replaces": []})
    };
    // Of all these each message is the evidence for one only.
    llm.extraction(
        json!({"memories": BOATS.iter().map(statement).collect::<Vec<_>>()}).to_string(),
    );
    let mut told = Vec::new();
    for boat in BOATS {
        let chatted = api.chat("alice", &format!("I bought a {boat}"), None).await;
        assert_eq!(chatted.last()["done"], true);
        told.push(chatted.conversation_id);
    }
    tokio::join!(api.process.kill(), first.kill());

    let (api, second) = (Api::start(&variables).await, worker(&variables));
    // What a killed worker had in its hands is taken up when it has not been heard of for a while.
    eventually_within(Duration::from_secs(60), || async {
        let (_, health) = api.get("alice", "/health").await;
        if health["workers"]["lag_events"] == 0 {
            Ok(())
        } else {
            Err(health.to_string())
        }
    })
    .await;
    for (boat, conversation) in BOATS.iter().zip(&told) {
        let (_, list) = api
            .get("alice", &format!("/conversations/{conversation}/messages"))
            .await;
        let messages: Vec<(&str, &str)> = list["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| {
                (
                    m["content"].as_str().unwrap(),
                    m["reply"]["status"].as_str().unwrap_or_default(),
                )
            })
            .collect();
        assert_eq!(
            messages,
            [
                (format!("I bought a {boat}").as_str(), ""),
                ("Hello! How are you today?", "completed")
            ]
        );
    }
    assert_eq!(api.get("alice", "/conversations").await.1["total"], 5);
    let (_, list) = api.get("alice", "/memories?include_inactive=true").await;
    let mut memories: Vec<&str> = list["memories"]
        .as_array()
        .unwrap()
        .iter()
        .map(|memory| memory["content"].as_str().unwrap())
        .collect();
    memories.sort_unstable();
    let expected = BOATS.map(|boat| format!("User owns a {boat}"));
    assert_eq!(memories, expected);
    assert!(second.terminate().await.0.success());
}

#[tokio::test]
async fn a_reply_that_a_crash_cut_off_is_interrupted_and_the_conversation_goes_on() {
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    let (api, first) = (Api::start(&variables).await, worker(&variables));
    let gate = Gate::new();
    llm.next(Behaviour::Gated {
        chunks: vec!["never".to_owned(), "whole".to_owned()],
        gate: gate.clone(),
    });
    let response = api.send("alice", "hello", None).await;
    let conversation = response.headers()["x-conversation-id"]
        .to_str()
        .unwrap()
        .to_owned();
    gate.reached().await;
    tokio::join!(api.process.kill(), first.kill());
    drop(response);
    within("the LLM to see that nobody listens", gate.client_gone()).await;
    let_leases_run_out(&variables).await;

    let (api, second) = (Api::start(&variables).await, worker(&variables));
    let path = format!("/conversations/{conversation}/messages");
    let reply = eventually(|| async {
        let (_, list) = api.get("alice", &path).await;
        let reply = list["messages"][1]["reply"]["status"].clone();
        if reply == "running" || reply.is_null() {
            Err(list.to_string())
        } else {
            Ok(reply)
        }
    })
    .await;
    assert_eq!(reply, "interrupted");
    let chatted = api.chat("alice", "again", Some(&conversation)).await;
    assert_eq!(chatted.text, "Hello! How are you today?");
    drop(second);
}

#[tokio::test]
async fn sigterm_ends_both_processes_in_order() {
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    let (api, worker) = (Api::start(&variables).await, worker(&variables));
    api.chat("alice", "hello", None).await;
    api.settle().await;
    let (api, worker) = tokio::join!(api.process.terminate(), worker.terminate());
    assert_eq!(api.0.code(), Some(0), "{:?}", api.1);
    assert_eq!(worker.0.code(), Some(0), "{:?}", worker.1);
}

#[tokio::test]
async fn sigterm_lets_a_running_reply_finish() {
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    let api = Api::start(&variables).await;
    let gate = Gate::new();
    llm.next(Behaviour::Gated {
        chunks: vec!["To the ".to_owned(), "very end.".to_owned()],
        gate: gate.clone(),
    });
    let response = api.send("alice", "hello", None).await;
    gate.reached().await;
    let ready = api.request(Method::GET, "/health/ready");
    let stopping = tokio::spawn(api.process.terminate());
    eventually(|| async {
        match ready.try_clone().unwrap().send().await {
            Ok(answer) if answer.status() == 200 => Err("it still takes requests".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    gate.open_all();
    let chatted = within("the reply", companion_tests::app::Chatted::read(response)).await;
    assert_eq!(
        (chatted.text.as_str(), chatted.last()["done"].as_bool()),
        ("To the very end.", Some(true))
    );
    assert_eq!(chatted.events.last().unwrap().error_code(), None);
    let (status, lines) = within("the process to end", stopping).await.unwrap();
    assert_eq!(status.code(), Some(0), "{lines:?}");
}

#[tokio::test]
async fn one_trace_joins_a_request_to_its_jobs_and_projections_and_shows_no_text() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let llm = ScriptedLlm::start().await;
    let receiver = OtlpReceiver::start().await;
    let overrides = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint()),
        ("OTEL_BSP_SCHEDULE_DELAY", "200".to_owned()),
        ("RUST_LOG", "trace".to_owned()),
    ];
    let overrides: Vec<(&str, &str)> = overrides
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let variables = variables(&llm, &overrides).await;
    let (api, worker) = (Api::start(&variables).await, worker(&variables));
    llm.reply("A quizzical pangolin replies");
    let statement = json!({"statement": "User breeds xylophagous beetles", "kind": "fact", "importance": 0.5,
        "messages": [1], "happened_on": null, "replaces": []});
    llm.extraction(json!({"memories": [statement]}).to_string());
    let body =
        json!({"message": "I breed xylophagous beetles", "system_prompt": "Speak like a wombat"});
    let request = api
        .request(Method::POST, "/chat")
        .header("X-User-Id", "alice")
        .json(&body);
    let response = request
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .send()
        .await
        .unwrap();
    assert!(response.text().await.unwrap().contains("\"done\":true"));
    api.settle().await;
    let search = api
        .request(Method::POST, "/memories/search")
        .header("X-User-Id", "alice");
    let found: Value = search
        .json(&json!({"query": "xylophagous"}))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        found["results"][0]["content"],
        "User breeds xylophagous beetles"
    );

    let spans = receiver
        .wait_for(|spans| {
            let has = |name: &str, service: &str| {
                spans
                    .iter()
                    .any(|s| s.trace_id == TRACE && s.name == name && s.service_name == service)
            };
            has("request", "companion-api")
                && has("append", "companion-api")
                && has("project", "companion-worker")
                && has("job", "companion-worker")
                && has("append", "companion-worker")
        })
        .await;
    let request = spans
        .iter()
        .find(|s| s.trace_id == TRACE && s.name == "request")
        .unwrap();
    assert_eq!(request.parent_span_id.as_deref(), Some("00f067aa0ba902b7"));
    let (api, worker) = tokio::join!(api.process.terminate(), worker.terminate());
    for word in ["xylophagous", "pangolin", "wombat"] {
        for span in receiver.spans() {
            assert!(
                !format!("{span:?}").contains(word),
                "a span shows what was said: {span:?}"
            );
        }
        for line in api.1.iter().chain(&worker.1) {
            assert!(
                !line.contains(word),
                "a log line shows what was said: {line}"
            );
        }
    }
    assert!(!api.1.is_empty() && !worker.1.is_empty(), "they did log");
}

/// Starts a binary that is to refuse; the one line it says.
async fn refusal(binary: &str, variables: &Variables) -> String {
    let (status, lines) = Process::start(binary, variables).ended().await;
    assert_eq!(status.code(), Some(1), "{lines:?}");
    let [line] = lines.as_slice() else {
        panic!("{binary} is to say one line: {lines:#?}")
    };
    assert!(line.starts_with(binary), "{line}");
    line.clone()
}

#[tokio::test]
async fn a_wrong_setting_ends_the_process_with_one_clear_line() {
    let llm = ScriptedLlm::start().await;
    let good = variables(&llm, &[("PORT", "0")]).await;
    let with = |name: &str, value: &str| {
        let mut variables = good.clone();
        variables.insert(name.to_owned(), value.to_owned());
        variables
    };
    let nobody = format!(
        "postgres://companion:hunter2@127.0.0.1:{}/companion",
        free_port()
    );
    let mut stranger = reqwest::Url::parse(&good["POSTGRES_URL"]).unwrap();
    stranger.set_password(Some("hunter2")).unwrap();
    let stranger = stranger.to_string();
    let missing = good["POSTGRES_URL"].rsplit_once('/').unwrap().0.to_owned() + "/no_such_database";
    for binary in ["companion-api", "companion-worker"] {
        for (name, value, says) in [
            ("POSTGRES_URL", nobody.as_str(), "POSTGRES_URL"),
            ("POSTGRES_URL", stranger.as_str(), "POSTGRES_URL"),
            ("POSTGRES_URL", missing.as_str(), "POSTGRES_URL"),
            (
                "POSTGRES_URL",
                "mysql://companion:hunter2@localhost/companion",
                "POSTGRES_URL",
            ),
            ("PORT", "eighty", "PORT"),
            ("PORT", "70000", "PORT"),
            ("COMPANION_MASTER_KEY", "short", "COMPANION_MASTER_KEY"),
            ("EMBEDDING_MODEL", "another/model", "EMBEDDING_MODEL"),
            ("EMBEDDING_MODEL_DIR", "/nowhere", "/nowhere"),
            (
                "MEMORY_EXTRACTION_METHOD",
                "magic",
                "MEMORY_EXTRACTION_METHOD",
            ),
            (
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                "not a url",
                "OTEL_EXPORTER_OTLP_ENDPOINT",
            ),
        ] {
            let line = refusal(binary, &with(name, value)).await;
            assert!(line.contains(says), "{name}={value}: {line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
        let mut without = good.clone();
        without.remove("POSTGRES_URL");
        let line = refusal(binary, &without).await;
        assert!(
            line.contains("POSTGRES_URL") && line.contains("for example"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn what_libraries_read_for_themselves_is_taken_from_the_file_too() {
    let llm = ScriptedLlm::start().await;
    let good = variables(&llm, &[("PORT", "0")]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = "RUST_LOG=no=filter=at=all\n";
    std::fs::write(folder.path().join(".env"), file).unwrap();
    for binary in ["companion-api", "companion-worker"] {
        let (status, lines) = Process::start_in(folder.path(), binary, &good)
            .ended()
            .await;
        assert_eq!(status.code(), Some(1), "{lines:?}");
        assert!(lines.concat().contains("RUST_LOG"), "{lines:?}");
    }
    // The environment wins.
    let mut other = good;
    other.insert("RUST_LOG".to_owned(), "info".to_owned());
    other.remove("POSTGRES_URL");
    let (_, lines) = Process::start_in(folder.path(), "companion-api", &other)
        .ended()
        .await;
    assert!(lines.concat().contains("POSTGRES_URL"), "{lines:?}");
}

#[tokio::test]
async fn a_taken_port_ends_the_process_with_one_clear_line() {
    let llm = ScriptedLlm::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let line = refusal("companion-api", &variables(&llm, &[("PORT", &port)]).await).await;
    assert!(
        line.contains(&port) && line.contains("taken") && line.contains("PORT="),
        "{line}"
    );
}
