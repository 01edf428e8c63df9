//! `companion reextract`: the same messages read again, shown, applied and taken back.

use std::io::Write;

use companion_adapters::reextractions;
use companion_tests::app::App;
use companion_tests::llm::{Behaviour, ScriptedLlm};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::commands::{Ran, companion};
use crate::memory::{answer, list, statement, tell};
use crate::steps::expect;

/// Runs the command with `--json`: its exit code, its result, and what it wrote to standard error.
async fn reextract(app: &App, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let arguments = [&["reextract", "--json"], arguments].concat();
    let Ran { code, out, err } = companion(&app.variables, &arguments).await;
    let result = serde_json::from_str(&out).unwrap_or(Value::String(out));
    (code, result, err)
}

async fn done(app: &App, arguments: &[&str]) -> Value {
    let (code, result, stderr) = reextract(app, arguments).await;
    assert_eq!(code, Some(0), "{arguments:?}: {stderr}");
    result
}

fn counts(shown: &Value) -> [u64; 4] {
    ["kept", "added", "changed", "gone"].map(|name| shown[name].as_u64().unwrap())
}

fn prompt(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

/// A service whose LLM finds one fact in each message, and alice with some messages.
async fn told() -> App {
    let app = App::start_with(&[("MEMORY_EXTRACTION_METHOD", "llm")]).await;
    tell(
        &app,
        "alice",
        "I really like tea in the morning",
        "User likes tea",
    )
    .await;
    tell(
        &app,
        "alice",
        "My sister Anna plays chess",
        "User plays chess",
    )
    .await;
    app.chat("alice", "We adopted a greyhound called Biscuit", None)
        .await;
    app.settle().await;
    app
}

/// What another prompt finds in the same messages, in their order.
fn found_by_another_prompt() -> [Behaviour; 3] {
    [
        answer(&[statement("User likes tea in the morning")]),
        answer(&[]),
        answer(&[statement("User adopted a greyhound called Biscuit")]),
    ]
}

const BEFORE: [&str; 2] = ["User likes tea", "User plays chess"];
const AFTER: [&str; 2] = [
    "User adopted a greyhound called Biscuit",
    "User likes tea in the morning",
];

#[tokio::test]
async fn another_prompt_is_shown_applied_and_taken_back() {
    let app = told().await;
    // Another server: what the service asks its own meanwhile is none of this.
    let llm = ScriptedLlm::start().await;
    for behaviour in found_by_another_prompt() {
        llm.next_extraction(behaviour);
    }
    let file = prompt("Note only what is lasting.");
    let (path, url) = (file.path().to_str().unwrap(), llm.base_url());
    let run = [
        "--prompt",
        path,
        "--endpoint",
        &url,
        "--model",
        "another",
        "--all",
    ];

    let foreseen = done(&app, &[&run[..], &["--dry-run"]].concat()).await;
    assert_eq!(foreseen, json!({"users": 1, "messages": 3, "portions": 3}));
    assert_eq!(done(&app, &["--list"]).await, json!([]));

    let shown = done(&app, &run).await;
    assert_eq!(counts(&shown), [0, 1, 1, 1], "{shown}");
    assert_eq!(
        shown["samples"]["changed"][0]["was"]["content"],
        "User likes tea"
    );
    assert_eq!(shown["samples"]["gone"][0]["user"], "alice");
    let asked = llm.extraction_requests();
    assert_eq!(asked.len(), 3);
    let (role, instructions) = asked[0].messages()[0].clone();
    assert_eq!(
        (role.as_str(), instructions.as_str()),
        ("system", "Note only what is lasting.")
    );
    assert_eq!(asked[0].body["model"], "another");
    assert_eq!(
        app.memories("alice").await,
        BEFORE,
        "nothing is changed by looking"
    );

    let then = chrono::Utc::now();
    let applied = done(&app, &[&run[..], &["--apply"]].concat()).await;
    assert_eq!(llm.extraction_requests().len(), 3, "nobody is asked again");
    assert_eq!(
        [
            &applied["added"],
            &applied["changed"],
            &applied["gone"],
            &applied["moved"]
        ],
        [1, 1, 1, 0]
    );
    assert_eq!(app.memories("alice").await, AFTER);
    let as_of = then.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let believed = list(&app, "alice", &format!("as_of={as_of}")).await;
    assert_eq!(believed.len(), 2, "what was believed then is still told");
    let live = list(&app, "alice", "").await;
    let path = format!("/memories/{}/history", live[0]["id"].as_str().unwrap());
    let (_, history) = app.get("alice", &path).await;
    let entry = &history["history"][0];
    assert_eq!(entry["model"], "another", "{history}");
    let name = applied["run"].as_str().unwrap();
    assert!(
        entry["reason"].as_str().unwrap().contains(name),
        "{history}"
    );

    // What comes in goes on as before.
    tell(&app, "alice", "I play the cello", "User plays the cello").await;
    let back = done(&app, &["--rollback", name]).await;
    assert_eq!([&back["restored"], &back["closed"]], [2, 2]);
    assert_eq!(
        app.memories("alice").await,
        [&BEFORE[..], &["User plays the cello"]].concat()
    );
    assert_eq!(
        done(&app, &["--rollback", name]).await["restored"],
        0,
        "once"
    );
    let runs = done(&app, &["--list"]).await;
    assert_eq!(runs[0]["state"], "rolled_back", "{runs}");
}

#[tokio::test]
async fn what_the_user_decided_by_hand_is_not_touched_and_does_not_come_back() {
    let app = told().await;
    let salary = tell(
        &app,
        "alice",
        "I earn 4000 euros a month",
        "User earns 4000 euros a month",
    )
    .await;
    tell(
        &app,
        "alice",
        "I am afraid of spiders",
        "User is afraid of spiders",
    )
    .await;
    tell(
        &app,
        "alice",
        "My name is spelled Alicja",
        "User's name is Alice",
    )
    .await;
    let written = json!({"content": "User is allergic to nuts", "kind": "fact"});
    app.post("alice", "/memories", &written).await;
    let memories = list(&app, "alice", "").await;
    let of = |content: &str| {
        let memory = memories.iter().find(|memory| memory["content"] == content);
        format!("/memories/{}", memory.unwrap()["id"].as_str().unwrap())
    };
    let spiders = app.request_by("alice", Method::DELETE, &of("User is afraid of spiders"));
    expect(spiders, 204).await;
    let corrected = json!({"content": "User's name is Alicja"});
    app.call(
        "alice",
        Method::PATCH,
        &of("User's name is Alice"),
        &corrected,
    )
    .await;
    app.post(
        "alice",
        "/memory/clear",
        &json!({"conversation_id": salary}),
    )
    .await;
    let before = app.memories("alice").await;

    let again = found_by_another_prompt().into_iter().chain([
        answer(&[statement("User fears spiders")]),
        answer(&[statement("User's name is Alice")]),
    ]);
    again.for_each(|behaviour| app.llm.next_extraction(behaviour));
    let asked = app.llm.extraction_requests().len();
    let shown = done(&app, &["--prompt", "builtin", "--user", "alice"]).await;
    assert_eq!(counts(&shown), [0, 1, 1, 1], "{shown}");
    assert_eq!(shown["untouched"], 2);
    let left_out = shown["left_out"].as_object().unwrap().values();
    assert_eq!(
        left_out.map(|count| count.as_u64().unwrap()).sum::<u64>(),
        1,
        "{shown}"
    );
    let requests = app.llm.extraction_requests();
    assert_eq!(requests.len() - asked, 5, "what was cleared is not read");
    assert!(
        requests[asked..]
            .iter()
            .all(|r| !r.prompt().contains("4000"))
    );

    // The user goes on deciding while the operator looks at the difference.
    let tea = app.request_by("alice", Method::DELETE, &of("User likes tea"));
    expect(tea, 204).await;
    let run = shown["run"].as_str().unwrap();
    let applied = done(&app, &["--apply", run]).await;
    assert_eq!(applied["moved"], 1, "{applied}");
    assert_eq!(
        app.memories("alice").await,
        [
            "User adopted a greyhound called Biscuit",
            "User is allergic to nuts",
            "User's name is Alicja"
        ]
    );
    done(&app, &["--rollback", run]).await;
    let mut expected = before;
    expected.retain(|content| content != "User likes tea");
    assert_eq!(app.memories("alice").await, expected);
}

#[tokio::test]
async fn a_run_that_was_stopped_goes_on_where_it_was_and_goes_with_its_user() {
    let app = told().await;
    let llm = ScriptedLlm::start().await;
    let url = llm.base_url();
    let run = ["--endpoint", &url, "--user", "alice"];
    let mut answers = found_by_another_prompt().into_iter();
    llm.next_extraction(answers.next().unwrap());
    let mut variables = app.variables.clone();
    variables.insert("LLM_TIMEOUT_SECONDS".to_owned(), "1".to_owned());
    llm.next_extraction(Behaviour::HangAfter(Vec::new()));
    let arguments = [&["reextract"], &run[..]].concat();
    let Ran {
        code, err: stderr, ..
    } = companion(&variables, &arguments).await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("what was read is kept"), "{stderr}");

    let asked = llm.extraction_requests().len();
    let foreseen = done(&app, &[&run[..], &["--dry-run"]].concat()).await;
    assert_eq!(foreseen, json!({"users": 1, "messages": 2, "portions": 2}));
    assert_eq!(llm.extraction_requests().len(), asked, "nobody is asked");

    answers.for_each(|behaviour| llm.next_extraction(behaviour));
    let shown = done(&app, &run).await;
    assert_eq!(counts(&shown), [0, 1, 1, 1], "{shown}");
    assert_eq!(
        llm.extraction_requests().len(),
        4,
        "what was read is not read again"
    );

    let kept = "SELECT count(*) FROM reextraction_portions WHERE found IS NOT NULL";
    let portions = async || -> i64 {
        sqlx::query_scalar(kept)
            .fetch_one(&app.core.pool)
            .await
            .unwrap()
    };
    assert_eq!(portions().await, 3);
    let sealed: Vec<Vec<u8>> = sqlx::query_scalar("SELECT found FROM reextraction_portions")
        .fetch_all(&app.core.pool)
        .await
        .unwrap();
    assert!(
        sealed
            .iter()
            .all(|found| !found.windows(3).any(|part| part == b"tea"))
    );
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    assert_eq!(portions().await, 0);
    assert_eq!(done(&app, &["--list"]).await, json!([]));
}

#[tokio::test]
async fn a_portion_of_which_the_llm_makes_nonsense_changes_nothing() {
    let app = told().await;
    for _ in 0..2 {
        app.llm
            .next_extraction(Behaviour::Text("I can't do that.".to_owned()));
    }
    let [_, chess, greyhound] = found_by_another_prompt();
    app.llm.next_extraction(chess);
    app.llm.next_extraction(greyhound);
    let shown = done(&app, &["--all"]).await;
    assert_eq!(shown["unusable"], json!({"not_json": 1}));
    assert_eq!(counts(&shown), [0, 1, 0, 1], "{shown}");
    let run = shown["run"].as_str().unwrap();
    let (code, _, stderr) = reextract(&app, &["--apply", run, "--user", "bob"]).await;
    assert!(
        code == Some(1) && stderr.contains("to all whom it has read"),
        "{stderr}"
    );
    done(&app, &["--discard", run]).await;
    let (code, _, stderr) = reextract(&app, &["--apply", run]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("discarded"), "{stderr}");
    assert_eq!(app.memories("alice").await, BEFORE);

    let patterns = done(&app, &["--method", "heuristic", "--all"]).await;
    assert_eq!(patterns["read_by"], json!({"heuristic": 3}), "{patterns}");
    let (code, _, stderr) = reextract(
        &app,
        &["--method", "heuristic", "--prompt", "builtin", "--all"],
    )
    .await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--method llm"), "{stderr}");
}

#[tokio::test]
async fn another_server_makes_another_run_and_one_command_at_a_time_works_on_it() {
    let app = told().await;
    let (small, large) = (ScriptedLlm::start().await, ScriptedLlm::start().await);
    for found in found_by_another_prompt() {
        small.next_extraction(found);
    }
    let shown = done(&app, &["--endpoint", &small.base_url(), "--all"]).await;
    let name = shown["run"].as_str().unwrap();
    // One that has read is shown; this one is still to be made.
    let foreseen = done(
        &app,
        &["--endpoint", &large.base_url(), "--all", "--dry-run"],
    )
    .await;
    assert_eq!(foreseen["portions"], 3, "{foreseen}");
    let listed = done(&app, &["--list"]).await;
    assert_eq!(listed[0]["endpoint"], small.base_url());

    let other = reextractions::alone(&app.core.pool, name).await.unwrap();
    for act in ["--apply", "--rollback", "--discard"] {
        let (code, _, stderr) = reextract(&app, &[act, name]).await;
        assert_eq!(code, Some(1), "{act}: {stderr}");
        assert!(stderr.contains("another command works on run"), "{stderr}");
    }
    other.unwrap().close().await.unwrap();
    done(&app, &["--apply", name]).await;
    assert_eq!(app.memories("alice").await, AFTER);
}
