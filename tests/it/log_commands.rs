//! `companion events`: the log as an operator reads it.

use companion_tests::app::App;
use companion_tests::eventually::eventually;
use companion_tests::process::command;
use reqwest::Method;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::commands::{Ran, companion};
use crate::memory::tell;
use crate::steps::expect;

async fn events(app: &App, arguments: &[&str]) -> String {
    let arguments = [&["events"], arguments].concat();
    companion(&app.variables, &arguments).await.done()
}

async fn lines(app: &App, arguments: &[&str]) -> Vec<Value> {
    let json = [&["tail", "--json"], arguments].concat();
    events(app, &json)
        .await
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn types(lines: &[Value]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn the_log_is_read_by_user_stream_type_and_time_and_nothing_in_it_steers_the_terminal() {
    let app = App::start().await;
    let evil = "I have a greyhound \u{1b}[2J \u{202e}";
    let conversation = tell(&app, "alice", evil, "User has a greyhound").await;
    tell(&app, "bob", "I have a parrot", "User has a parrot").await;

    let all = events(&app, &["tail", "-n", "100"]).await;
    assert!(
        all.contains("I have a greyhound \\u{1b}[2J \\u{202e}"),
        "{all}"
    );
    assert!(!all.contains('\u{1b}') && !all.contains('\u{202e}'));
    assert!(
        all.contains("  alice  conversation-") && all.contains("  bob  memory-"),
        "{all}"
    );
    assert!(all.contains("#1  "), "{all}");

    let of_alice = lines(&app, &["--user", "alice", "-n", "100"]).await;
    assert!(of_alice.iter().all(|line| line["user"] == "alice"));
    assert_eq!(types(&of_alice)[0], "UserRegistered");
    let said = of_alice
        .iter()
        .find(|line| line["type"] == "UserMessageReceived")
        .unwrap();
    assert_eq!(
        (&said["payload"]["content"], &said["state"]),
        (&json!(evil), &json!("open"))
    );

    let stream = format!("conversation-{conversation}");
    let of_stream = lines(&app, &["--stream", &stream]).await;
    let versions: Vec<i64> = of_stream
        .iter()
        .map(|line| line["version"].as_i64().unwrap())
        .collect();
    assert_eq!(versions, (1..=of_stream.len() as i64).collect::<Vec<_>>());

    let chosen = ["--type", "MemoryRecorded,UserRegistered", "-n", "3"];
    assert_eq!(
        types(&lines(&app, &chosen).await),
        ["MemoryRecorded", "UserRegistered", "MemoryRecorded"]
    );
    assert_eq!(lines(&app, &["-n", "1"]).await.len(), 1);
    assert_eq!(lines(&app, &["-n", "0"]).await.len(), 0);

    let between = said["recorded_at"].as_str().unwrap();
    let before = lines(&app, &["--until", between]).await;
    let after = lines(&app, &["--since", between]).await;
    assert!(!before.is_empty() && types(&after).contains(&"UserMessageReceived"));
    assert_eq!(
        before.len() + after.len(),
        lines(&app, &["-n", "1000"]).await.len()
    );
    assert_eq!(
        lines(&app, &["--since", "2h", "--until", "1h"]).await.len(),
        0
    );

    let by_id = said["id"].as_str().unwrap();
    let by_version = format!("{stream}@{}", said["version"]);
    for name in [by_id, by_version.as_str()] {
        let whole = events(&app, &["show", name]).await;
        assert!(
            whole.contains("\"content\": \"I have a greyhound \\u001b[2J \\u202e\""),
            "{whole}"
        );
        let json: Value =
            serde_json::from_str(&events(&app, &["show", name, "--json"]).await).unwrap();
        assert_eq!(&json, said);
    }
    let Ran {
        code, err: stderr, ..
    } = companion(&app.variables, &["events", "show", &format!("{stream}@99")]).await;
    assert!(
        code == Some(1) && stderr.contains("no such event"),
        "{stderr}"
    );

    let stats: Value = serde_json::from_str(&events(&app, &["stats", "--json"]).await).unwrap();
    let events_of = |of: &str| {
        let types = stats["by_type"].as_array().unwrap();
        types.iter().find(|count| count["of"] == of).unwrap()["events"].clone()
    };
    assert_eq!(
        (&stats["users"], &events_of("MemoryRecorded")),
        (&json!(2), &json!(2))
    );
    assert_eq!(stats["feed"]["held_back"], 0);
    let by_day: i64 = stats["by_day"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["events"].as_i64().unwrap())
        .sum();
    assert_eq!(stats["events"], by_day);
    let text = events(&app, &["stats", "--user", "bob"]).await;
    assert!(
        text.contains(" events of 1 users") && text.contains("MemoryRecorded"),
        "{text}"
    );
}

#[tokio::test]
async fn events_that_nobody_can_open_any_more_say_so() {
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    tell(&app, "alice", "I have a parrot", "User has a parrot").await;
    let text = events(&app, &["tail", "-n", "100"]).await;
    assert!(
        text.contains("(erased: nobody can open it any more)"),
        "{text}"
    );
    assert!(
        text.contains("I have a parrot") && !text.contains("greyhound"),
        "{text}"
    );
    let lines = lines(&app, &["-n", "100"]).await;
    let first = &lines[0];
    assert_eq!(
        (&first["state"], &first["payload"]),
        (&json!("erased"), &Value::Null)
    );
    assert_eq!(lines.last().unwrap()["state"], "open");
}

#[tokio::test]
async fn a_follower_sees_what_comes_and_passes_nothing_that_is_still_being_appended() {
    let app = App::start().await;
    app.chat("alice", "one", None).await;
    let mut following = command("companion", &app.variables);
    let arguments = [
        "events",
        "tail",
        "--follow",
        "--json",
        "-n",
        "1",
        "--type",
        "UserMessageReceived",
    ];
    let mut following = following
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    let mut next = async || {
        let line = lines.next_line().await.unwrap().unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        line["payload"]["content"].as_str().unwrap().to_owned()
    };
    assert_eq!(next().await, "one");
    // While an older transaction is open, what is newer is not told: it could still come before it.
    let mut open = app.core.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()")
        .execute(&mut *open)
        .await
        .unwrap();
    app.chat("alice", "two", None).await;
    eventually(|| async {
        let text = events(&app, &["tail", "-n", "100"]).await;
        let stats: Value = serde_json::from_str(&events(&app, &["stats", "--json"]).await).unwrap();
        match stats["feed"]["held_back"].as_i64() {
            Some(1..) if text.contains("  two") => Ok(()),
            _ => Err(stats.to_string()),
        }
    })
    .await;
    open.commit().await.unwrap();
    assert_eq!(next().await, "two");
    app.chat("alice", "three", None).await;
    assert_eq!(next().await, "three");
    let id = following.id().unwrap().to_string();
    std::process::Command::new("kill")
        .args(["-INT", &id])
        .status()
        .unwrap();
    assert_eq!(following.wait().await.unwrap().code(), Some(0));
}
