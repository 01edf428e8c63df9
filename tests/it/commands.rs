//! The operator's commands, run as an operator runs them.

use std::process::{Output, Stdio};

use chrono::{TimeDelta, Utc};
use companion_adapters::config::{Config, Secret};
use companion_adapters::tokens::{Tokens, Verified};
use companion_adapters::vault::Vault;
use companion_tests::app::{App, MASTER_KEY, Variables, variables};
use companion_tests::database;
use companion_tests::eventually::{eventually, within};
use companion_tests::llm::ScriptedLlm;
use companion_tests::log::generate;
use companion_tests::process::{command, free_port};
use reqwest::Method;
use serde_json::Value;
use sqlx::PgPool;
use tokio::process::Command;

use crate::steps::expect;

async fn token(variables: &Variables, arguments: &[&str]) -> Ran {
    let arguments = [&["token"], arguments].concat();
    companion(variables, &arguments).await
}

/// What came of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output, and to standard error.
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// What it printed when it had done its work.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        self.out
    }

    /// The same, as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.done()).unwrap()
    }

    /// What kept it from doing its work; nothing was printed.
    #[track_caller]
    pub(crate) fn refused(self) -> String {
        assert_eq!(
            (self.code, self.out.as_str()),
            (Some(1), ""),
            "{}",
            self.err
        );
        self.err
    }

    /// What it said of its work when it was stopped; nothing was printed.
    #[track_caller]
    pub(crate) fn stopped(self) -> String {
        assert_eq!(
            (self.code, self.out.as_str()),
            (Some(130), ""),
            "{}",
            self.err
        );
        self.err
    }
}

/// Runs `companion` to its end.
pub(crate) async fn companion(variables: &Variables, arguments: &[&str]) -> Ran {
    let mut command = command("companion", variables);
    let ended = command.args(arguments).output();
    Ran::of(within("the command to end", ended).await.unwrap())
}

/// Runs `companion` and stops it, as Ctrl-C does, once it has `begun`.
pub(crate) async fn stopped(
    variables: &Variables,
    arguments: &[&str],
    begun: impl AsyncFn() -> bool,
) -> Ran {
    let mut command = command("companion", variables);
    let command = command.args(arguments).stdout(Stdio::piped());
    let running = command.stderr(Stdio::piped()).spawn().unwrap();
    eventually(|| async {
        begun()
            .await
            .then_some(())
            .ok_or("it has not begun".to_owned())
    })
    .await;
    let id = running.id().expect("it runs").to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status();
    assert!(sent.await.unwrap().success());
    let output = within("the command to end", running.wait_with_output());
    Ran::of(output.await.unwrap())
}

/// Variables of a database with a log of so many events, on which no service has run yet.
pub(crate) async fn with_log(events: u64) -> Variables {
    let llm = ScriptedLlm::start().await;
    let variables = variables(&llm, &[]).await;
    let pool = PgPool::connect(&variables["POSTGRES_URL"]).await.unwrap();
    let vault = Vault::new(&Secret::new(MASTER_KEY)).unwrap();
    generate(&pool, &vault, events, |_| {}).await;
    variables
}

/// Variables of a home of its own, where nothing else runs.
fn home() -> (tempfile::TempDir, Variables) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().to_str().unwrap().to_owned();
    (home, Variables::from([("COMPANION_HOME".to_owned(), path)]))
}

/// What a service of the same home makes of a line.
fn verified(variables: &Variables, line: &str) -> Verified {
    let token = line.strip_suffix('\n').expect("one whole line");
    let config = Config::from_variables(variables.clone()).unwrap();
    Tokens::new(&config).unwrap().verify(token).unwrap()
}

#[tokio::test]
async fn a_token_is_printed_alone_and_needs_no_database() {
    let (_home, variables) = home();
    let Ran {
        code,
        out: stdout,
        err: stderr,
    } = token(&variables, &["--user", "alice"]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains(&variables["COMPANION_HOME"]), "{stderr}");
    let plain = verified(&variables, &stdout);
    assert_eq!((plain.user.as_str(), plain.admin), ("alice", false));
    let arguments = ["--user", "root", "--hours", "2", "--scope", "notes admin"];
    let Ran {
        code,
        out: stdout,
        err: stderr,
    } = token(&variables, &arguments).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let admin = verified(&variables, &stdout);
    assert_eq!((admin.user.as_str(), admin.admin), ("root", true));
    for (token, hours) in [(plain, 24), (admin, 2)] {
        let left = token.expires_at - Utc::now();
        let wanted = TimeDelta::hours(hours);
        assert!(
            left <= wanted && left > wanted - TimeDelta::minutes(5),
            "{left}"
        );
    }
}

#[tokio::test]
async fn a_token_that_can_not_be_made_is_refused_in_one_line() {
    let (_home, variables) = home();
    let (_other, mut asymmetric) = home();
    let key = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../domain/adapters/src/fixtures/es256.pub.pem"
    );
    asymmetric.insert("JWT_ALGORITHM".to_owned(), "ES256".to_owned());
    asymmetric.insert("JWT_PUBLIC_KEY".to_owned(), key.to_owned());
    let mut production = variables.clone();
    production.insert("ENVIRONMENT".to_owned(), "production".to_owned());
    for (variables, arguments, says) in [
        (&variables, &["--user", "a b"][..], "--user"),
        (&variables, &["--user", ""][..], "--user"),
        (
            &variables,
            &["--user", "alice", "--scope", "a,b"][..],
            "scope",
        ),
        (
            &variables,
            &["--user", "alice", "--hours", "0"][..],
            "hours",
        ),
        (&asymmetric, &["--user", "alice"][..], "identity provider"),
        (&production, &["--user", "alice"][..], "JWT_SECRET_KEY"),
    ] {
        let Ran {
            code,
            out: stdout,
            err: stderr,
        } = token(variables, arguments).await;
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{arguments:?}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.starts_with("companion: ") && stderr.contains(says),
            "{stderr}"
        );
    }
}

#[tokio::test]
async fn a_key_is_issued_listed_and_revoked_while_the_service_runs() {
    let app = App::start().await;
    let run = async |arguments: &[&str]| {
        let arguments = [&["apikey"], arguments].concat();
        companion(&app.variables, &arguments).await
    };
    let issue = ["issue", "--user", "alice", "--name", "my \u{1b}[31mlaptop"];
    let Ran {
        code,
        out: key,
        err: told,
    } = run(&issue).await;
    assert_eq!(code, Some(0), "{told}");
    let key = key.strip_suffix('\n').unwrap().to_owned();
    assert!(!told.contains(&key), "shown once: {told}");
    let list = async |status| {
        let request = app.request(Method::GET, "/conversations");
        expect(request.header("X-API-Key", &key), status).await
    };
    list(200).await;
    let Ran {
        code, out: listed, ..
    } = run(&["list", "--user", "alice"]).await;
    assert_eq!(code, Some(0));
    let (id, _) = listed.split_once(' ').unwrap();
    assert!(key.starts_with(&format!("ck_{id}_")), "{listed}");
    assert!(
        listed.contains("laptop") && !listed.contains('\u{1b}'),
        "{listed:?}"
    );
    assert_eq!(run(&["revoke", id]).await.code, Some(0));
    list(401).await;
    let stderr = run(&["revoke", id]).await.refused();
    assert!(stderr.contains("companion apikey list"), "{stderr}");
    assert_eq!(run(&["list", "--user", "alice"]).await.out, "");
}

#[tokio::test]
async fn a_deployed_service_is_tried_from_outside_and_leaves_nothing_behind() {
    let app = App::start().await;
    eventually(|| async {
        let (_, health) = app.get("visitor", "/health").await;
        match health["workers"]["running"].as_i64() {
            Some(1..) => Ok(()),
            _ => Err(health.to_string()),
        }
    })
    .await;
    let (_home, variables) = home();
    let url = app.url("");
    let check = ["check", &url, "--user", "visitor"];
    let Ran {
        code, out: said, ..
    } = companion(&variables, &check).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.starts_with("ok ")).count(),
        6,
        "{said}"
    );
    assert_eq!(app.get("visitor", "/conversations").await.1["total"], 0);

    app.llm.stop().await;
    let Ran {
        code, out: said, ..
    } = companion(&variables, &check).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("FAIL  a reply streams") && said.contains("llm_unavailable"),
        "{said}"
    );

    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let Ran {
        code, out: said, ..
    } = companion(&variables, &["check", &nowhere, "--user", "visitor"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("FAIL  health"), "{said}");
}

#[tokio::test]
async fn the_first_ctrl_c_ends_a_question_that_takes_long() {
    let app = App::start().await;
    app.chat("alice", "Good morning", None).await;
    app.settle().await;
    let (variables, _) = app.stop().await;
    let pool = PgPool::connect(&variables["POSTGRES_URL"]).await.unwrap();
    let id: uuid::Uuid = sqlx::query_scalar("SELECT event_id FROM events LIMIT 1")
        .fetch_one(&pool)
        .await
        .unwrap();
    for (held, arguments, kept) in [
        ("streams", &["verify"][..], "Nothing is known yet."),
        (
            "events",
            &["events", "show", &id.to_string()],
            "Nothing was found yet.",
        ),
        ("events", &["events", "stats"], "Nothing is counted yet."),
    ] {
        let mut holder = pool.begin().await.unwrap();
        let hold = format!("LOCK TABLE {held} IN ACCESS EXCLUSIVE MODE");
        sqlx::query(sqlx::AssertSqlSafe(hold))
            .execute(&mut *holder)
            .await
            .unwrap();
        let begun = async || !database::waiting(&pool, held).await.is_empty();
        let told = stopped(&variables, arguments, begun).await.stopped();
        assert_eq!(told, format!("Stopped. {kept}\n"), "{arguments:?}");
        // The server goes on with what a process that is gone has asked; it would wait for the next table.
        for (process, _) in database::waiting(&pool, held).await {
            let ended: bool = sqlx::query_scalar("SELECT pg_terminate_backend($1, 10000)")
                .bind(process)
                .fetch_one(&pool)
                .await
                .unwrap();
            assert!(ended, "it goes on");
        }
        holder.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn a_user_whom_nobody_knows_is_no_user_of_whom_all_is_well() {
    let app = App::start().await;
    app.chat("alice", "Good morning", None).await;
    app.settle().await;
    for arguments in [
        &["verify", "--user", "alcie"][..],
        &["replay", "all", "--user", "alcie"],
        &["replay", "all", "--user", "alcie", "--dry-run"],
        &["export", "--user", "alcie"],
        &["reextract", "--method", "heuristic", "--user", "alcie"],
    ] {
        let told = companion(&app.variables, arguments).await.refused();
        assert!(told.contains("there is nobody called alcie"), "{told}");
    }
    // Of one who was erased there may be something yet.
    for arguments in [
        &["events", "tail"][..],
        &["events", "stats"],
        &["jobs", "dead"],
        &["jobs", "retry", "--all"],
    ] {
        for (name, known) in [("alcie", false), ("alice", true)] {
            let named = [arguments, &["--user", name]].concat();
            let Ran { code, err, .. } = companion(&app.variables, &named).await;
            assert_eq!(code, Some(0), "{err}");
            let told = err.contains(&format!("there is nobody called {name}"));
            assert_eq!(told, !known, "{named:?}: {err}");
        }
    }
}

#[tokio::test]
async fn a_command_in_a_folder_without_a_database_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join(".companion");
    let path = home.to_str().unwrap().to_owned();
    let variables = Variables::from([("COMPANION_HOME".to_owned(), path)]);
    for arguments in [
        &["verify"][..],
        &["erase", "alice", "--dry-run"],
        &["backup", "/nowhere"],
    ] {
        let told = companion(&variables, arguments).await.refused();
        assert!(told.contains("COMPANION_HOME"), "{told}");
    }
    assert!(!home.exists());
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_result_that_finds_no_room_is_no_success_and_a_key_that_nobody_saw_opens_nothing() {
    let variables = with_log(20).await;
    let into_a_full_disk = async |arguments: &[&str]| {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = command("companion", &variables);
        command.args(arguments).stdout(full).stderr(Stdio::piped());
        let ended = command.spawn().unwrap().wait_with_output();
        Ran::of(within("the command to end", ended).await.unwrap())
    };
    let ran = into_a_full_disk(&["events", "stats", "--json"]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("standard output"),
        "{ran:?}"
    );
    let ran = into_a_full_disk(&["rotate-master-key", "--print"]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("nothing was changed"),
        "{ran:?}"
    );
    companion(&variables, &["events", "stats"]).await.done();
    let ran = into_a_full_disk(&["apikey", "issue", "--user", "alice", "--name", "k"]).await;
    assert!(
        ran.code == Some(1) && ran.err.contains("companion apikey revoke"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_mistyped_type_of_events_is_told_the_right_ones() {
    let (_home, variables) = home();
    let ran = companion(&variables, &["events", "tail", "--type", "MemoryRecordd"]).await;
    assert!(
        ran.code == Some(2) && ran.err.contains("MemoryRecorded"),
        "{ran:?}"
    );
}
