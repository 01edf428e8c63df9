//! `companion export` and `companion import`, run as an operator runs them.

use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use chrono::Utc;
use companion_adapters::portable::import::Import;
use companion_adapters::portable::source::{self, Open, Options};
use companion_domain::ids::ExternalUserId;
use companion_tests::app::{App, variables};
use companion_tests::llm::ScriptedLlm;
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::commands::{Ran, companion, stopped};
use crate::memory::tell;
use crate::portability::{a_life, done, everything, export, import, lines, start};

async fn run(app: &App, arguments: &[&str]) -> Ran {
    companion(&app.variables, arguments).await
}

async fn done_by(app: &App, arguments: &[&str]) -> Value {
    let done = run(app, &[arguments, &["--json"]].concat()).await.json();
    app.settle().await;
    done
}

#[tokio::test]
async fn a_user_is_taken_along_by_commands() {
    let (here, there) = (start().await, start().await);
    a_life(&here, "alice").await;
    let before = everything(&here, "alice").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alice.jsonl");
    let file = path.to_str().unwrap();
    let Ran {
        code, out: stdout, ..
    } = run(&here, &["export", "--user", "alice"]).await;
    assert_eq!(code, Some(0));
    let counted = done_by(&here, &["export", "--user", "alice", file]).await;
    let written = fs::read_to_string(&path).unwrap();
    assert_eq!(lines(&written)[1..], lines(&stdout)[1..]);
    assert_eq!(
        lines(&written)[1..],
        lines(&export(&here, "alice").await)[1..]
    );
    assert_eq!(counted["events"], lines(&written).last().unwrap()["end"]);
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let Ran {
        code, err: stderr, ..
    } = run(&here, &["export", "--user", "alice", file]).await;
    assert!(
        code == Some(1) && stderr.contains("is there already"),
        "{stderr}"
    );

    let checked = done_by(&there, &["import", "--user", "alice", file, "--dry-run"]).await;
    assert_eq!(checked["conversations"], 5);
    assert_eq!(there.get("alice", "/conversations").await.1["total"], 0);
    // Cut off within a turn: refused, unless that is meant; then gone on with.
    let all = lines(&written);
    let kept = all.iter().rposition(|line| line["event"] == "ReplyStarted");
    let kept = kept.unwrap() + 1;
    assert!(kept > 12, "there is something before");
    let cut: String = written.split_inclusive('\n').take(kept).collect();
    let part = folder.path().join("part.jsonl");
    fs::write(&part, cut).unwrap();
    let part = part.to_str().unwrap();
    let Ran {
        code, err: stderr, ..
    } = run(&there, &["import", "--user", "alice", part]).await;
    assert!(
        code == Some(1) && stderr.contains(&format!("line {kept}")) && stderr.contains("cut off"),
        "{stderr}"
    );
    let some = done_by(&there, &["import", "--user", "alice", part, "--partial"]).await;
    assert_eq!(
        (&some["skipped"], &some["interrupted"]),
        (&json!(0), &json!(false))
    );
    let rest = done_by(&there, &["import", "--user", "alice", file]).await;
    for name in ["conversations", "messages", "memories"] {
        let sum = some[name].as_u64().unwrap() + rest[name].as_u64().unwrap();
        assert_eq!(checked[name], sum, "{name}");
    }
    let after = everything(&there, "alice").await;
    for (path, shown) in &before {
        assert_eq!(after.get(path), Some(shown), "{path}");
    }
    // What is shown is what the log gives, read anew.
    for app in [&here, &there] {
        let Ran { code, out, err } = run(app, &["verify"]).await;
        assert_eq!(code, Some(0), "{out}{err}");
    }
}

#[tokio::test]
async fn all_users_are_exported_into_a_folder() {
    let app = App::start().await;
    for user in ["alice", "bob@example.org"] {
        tell(&app, user, "I have a parrot", "User has a parrot").await;
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("all");
    let to = to.to_str().unwrap();
    let Ran {
        code, err: stderr, ..
    } = run(&app, &["export", "--all"]).await;
    assert_eq!(code, Some(2), "a folder is missing: {stderr}");
    let none = done_by(&app, &["export", "--all", to, "--dry-run"]).await;
    assert!(none["events"].as_u64().unwrap() > 0 && fs::metadata(to).is_err());
    assert_eq!(done_by(&app, &["export", "--all", to]).await["users"], 2);
    for user in ["alice", "bob@example.org"] {
        let written = fs::read_to_string(format!("{to}/{user}.jsonl")).unwrap();
        assert_eq!(lines(&written)[0]["user"], user);
    }
}

#[tokio::test]
async fn a_file_of_another_system_is_taken_in_by_the_command() {
    let app = App::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("said.json");
    // Several values one after another, with the mark that some programs put before a text.
    let said = json!({"messages": [{"role": "user", "content": "I love walnut cake"}]});
    let more = json!([{"role": "user", "content": "I love green tea"}, {"role": "assistant", "content": "Ah"}]);
    fs::write(&path, format!("\u{feff}{said}\n{more}\n")).unwrap();
    let file = path.to_str().unwrap();
    let mut expected = done(2, 3, 0, 0);
    expected["interrupted"] = json!(false);
    let import = ["import", "--user", "alice", file, "--no-extract"];
    assert_eq!(done_by(&app, &import).await, expected);
    let Ran {
        code, out: stdout, ..
    } = run(&app, &import).await;
    assert_eq!(code, Some(0));
    assert_eq!(
        stdout,
        "0 conversations, 0 messages, 0 memories; 5 passed over\n"
    );
    assert!(app.memories("alice").await.is_empty());
    fs::write(&path, "").unwrap();
    let Ran {
        code, err: stderr, ..
    } = run(&app, &import).await;
    assert!(
        code == Some(1) && stderr.contains("the file is empty"),
        "{stderr}"
    );
    let Ran {
        code, err: stderr, ..
    } = run(&app, &["import", "--user", "alice", "/nowhere.json"]).await;
    assert!(
        code == Some(1) && stderr.contains("/nowhere.json"),
        "{stderr}"
    );
}

#[tokio::test]
async fn an_import_that_is_stopped_within_a_turn_goes_on_with_the_whole_turn() {
    let (here, there) = (start().await, start().await);
    a_life(&here, "alice").await;
    let before = everything(&here, "alice").await;
    let written = export(&here, "alice").await;
    let is_within = |line: &Value| {
        ["UserMessageReceived", "ReplyStarted"]
            .contains(&line["event"].as_str().unwrap_or_default())
    };
    let all = lines(&written);
    let places = (0..all.len()).filter(|n| is_within(&all[*n]));
    let bytes: Arc<[u8]> = written.as_bytes().into();
    let open: Open = Arc::new(move || Ok(Box::new(Cursor::new(bytes.clone()))));
    let options = Options {
        extract: true,
        partial: false,
        most: u64::MAX,
        now: Utc::now(),
    };
    let contents = source::survey(&open, options).await.unwrap();
    let store = &there.core.store;
    let alice = ExternalUserId::parse("alice").unwrap();
    let user = store.ensure_user(&alice).await.unwrap();
    for place in places {
        let stop = CancellationToken::new();
        let mut events = 0;
        let passed = |more| {
            events += more;
            if events == place as u64 {
                stop.cancel();
            }
        };
        let import = Import::begin(store, user, options.now).await.unwrap();
        let taken = source::take_in(&open, options, &contents, import, &stop, passed).await;
        assert!(!taken.unwrap().1, "stopped after event {place}");
        // Whatever was left open is ended by now.
        there.settle().await;
    }
    import(&there, "alice", &written).await;
    let after = everything(&there, "alice").await;
    for (path, shown) in &before {
        assert_eq!(after.get(path), Some(shown), "{path}");
    }
}

#[tokio::test]
async fn an_export_of_all_users_goes_on_where_it_was_stopped_and_past_a_user_who_fails() {
    const USERS: usize = 150;
    let app = App::start().await;
    for n in 0..USERS {
        let user = ExternalUserId::parse(&format!("user-{n:03}")).unwrap();
        app.core.store.ensure_user(&user).await.unwrap();
    }
    app.settle().await;
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("all");
    let export = ["export", "--all", to.to_str().unwrap(), "--json"];
    let first = to.join("user-000.jsonl");
    let begun = async || first.exists();
    let Ran {
        code,
        out: said,
        err: told,
    } = stopped(&app.variables, &export, begun).await;
    assert_eq!(code, Some(130), "{told}");
    let some: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(some["interrupted"], true);
    let files = || {
        let names = fs::read_dir(&to).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let (whole, rest): (Vec<_>, Vec<_>) = names.partition(|name| name.ends_with(".jsonl"));
        assert!(rest.is_empty(), "{rest:?}");
        whole.len()
    };
    let had = files();
    assert_eq!(some["users"], had);
    assert!(had < USERS - 1, "it was stopped too late to tell anything");

    // What is in the way of one user's file.
    let in_the_way = to.join(format!("user-{:03}.jsonl.part", USERS - 1));
    fs::create_dir(&in_the_way).unwrap();
    let Ran {
        code,
        out: said,
        err: told,
    } = run(&app, &export).await;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("user-149 failed: "), "{told}");
    let rest: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        [&rest["skipped"], &rest["users"], &rest["failed"]],
        [had, USERS - had - 1, 1]
    );
    fs::remove_dir(in_the_way).unwrap();
    assert_eq!(files(), USERS - 1);
    run(&app, &export).await.done();
    assert_eq!(files(), USERS);
}

#[tokio::test]
async fn an_import_that_is_stopped_keeps_what_it_took_in_and_goes_on() {
    const CONVERSATIONS: u64 = 300;
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("said.json");
    let conversation = |n| {
        let said = |m| json!({"role": "user", "content": format!("Thought {m} of talk {n}")});
        json!({"messages": (0..10).map(said).collect::<Vec<_>>()})
    };
    let all: Vec<Value> = (0..CONVERSATIONS).map(conversation).collect();
    fs::write(&path, json!(all).to_string()).unwrap();
    let import = [
        "import",
        "--user",
        "alice",
        path.to_str().unwrap(),
        "--no-extract",
        "--json",
    ];
    let pool = &app.core.pool;
    let taken_in = async || -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM streams WHERE stream_id LIKE 'conversation-%'")
            .fetch_one(pool)
            .await
            .unwrap()
    };
    let begun = async || taken_in().await > 2;
    let Ran {
        code,
        out: said,
        err: told,
    } = stopped(&app.variables, &import, begun).await;
    assert_eq!(code, Some(130), "{told}");
    let some: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(some["interrupted"], true);
    let had = some["conversations"].as_u64().unwrap();
    assert_eq!(had, taken_in().await.unsigned_abs());
    assert!(
        had < CONVERSATIONS,
        "it was stopped too late to tell anything"
    );
    let rest = run(&app, &import).await.json();
    assert_eq!(rest["conversations"], CONVERSATIONS - had);
    assert_eq!(taken_in().await.unsigned_abs(), CONVERSATIONS);
}

#[tokio::test]
async fn an_import_that_is_stopped_while_it_reads_the_file_makes_no_user() {
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("endless.json");
    let made = Command::new("mkfifo").arg(&path).status().await.unwrap();
    assert!(made.success());
    let file = path.to_str().unwrap().to_owned();
    let (sent, read) = tokio::sync::watch::channel(0);
    let writer = tokio::task::spawn_blocking(move || {
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        let piece = r#"{"messages": [{"role": "user", "content": "on and on"}]},"#.repeat(1_000);
        let mut written = file.write_all(b"[");
        while written.is_ok() {
            written = file.write_all(piece.as_bytes());
            sent.send_modify(|pieces| *pieces += 1);
        }
    });
    let begun = async || *read.borrow() > 3;
    let import = ["import", "--user", "alice", &file];
    let told = stopped(&variables, &import, begun).await.stopped();
    writer.await.unwrap();
    assert!(told.contains("Nothing was taken in."), "{told}");
    let pool = PgPool::connect(&variables["POSTGRES_URL"]).await.unwrap();
    let users: i64 = sqlx::query_scalar("SELECT count(*) FROM user_keys")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(users, 0);
}
