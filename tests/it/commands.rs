//! The operator's commands, run as an operator runs them.

use chrono::{TimeDelta, Utc};
use companion_adapters::config::Config;
use companion_adapters::tokens::{Tokens, Verified};
use companion_tests::app::{App, Variables};
use companion_tests::eventually::{eventually, within};
use companion_tests::process::{command, free_port};
use reqwest::Method;

use crate::steps::expect;

async fn token(variables: &Variables, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["token"], arguments].concat();
    companion(variables, &arguments).await
}

/// Runs `companion` to its end: its exit code, and what it wrote to either stream.
pub(crate) async fn companion(
    variables: &Variables,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let mut command = command("companion", variables);
    let ended = command.args(arguments).output();
    let output = within("the command to end", ended).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
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
    let (code, stdout, stderr) = token(&variables, &["--user", "alice"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let plain = verified(&variables, &stdout);
    assert_eq!((plain.user.as_str(), plain.admin), ("alice", false));
    let arguments = ["--user", "root", "--hours", "2", "--scope", "notes admin"];
    let (code, stdout, stderr) = token(&variables, &arguments).await;
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
        let (code, stdout, stderr) = token(variables, arguments).await;
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
    let (code, key, told) = run(&issue).await;
    assert_eq!(code, Some(0), "{told}");
    let key = key.strip_suffix('\n').unwrap().to_owned();
    assert!(!told.contains(&key), "shown once: {told}");
    let list = async |status| {
        let request = app.request(Method::GET, "/conversations");
        expect(request.header("X-API-Key", &key), status).await
    };
    list(200).await;
    let (code, listed, _) = run(&["list", "--user", "alice"]).await;
    assert_eq!(code, Some(0));
    let (id, _) = listed.split_once(' ').unwrap();
    assert!(key.starts_with(&format!("ck_{id}_")), "{listed}");
    assert!(
        listed.contains("laptop") && !listed.contains('\u{1b}'),
        "{listed:?}"
    );
    assert_eq!(run(&["revoke", id]).await.0, Some(0));
    list(401).await;
    let (code, stdout, stderr) = run(&["revoke", id]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    assert!(stderr.contains("companion apikey list"), "{stderr}");
    assert_eq!(run(&["list", "--user", "alice"]).await.1, "");
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
    let (code, said, _) = companion(&variables, &check).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        said.lines().filter(|line| line.starts_with("ok ")).count(),
        6,
        "{said}"
    );
    assert_eq!(app.get("visitor", "/conversations").await.1["total"], 0);

    app.llm.stop().await;
    let (code, said, _) = companion(&variables, &check).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("FAIL  a reply streams") && said.contains("llm_unavailable"),
        "{said}"
    );

    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let (code, said, _) = companion(&variables, &["check", &nowhere, "--user", "visitor"]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("FAIL  health"), "{said}");
}
