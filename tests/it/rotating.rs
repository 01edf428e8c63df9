//! Another master key takes the place of the present one, while the service runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;

use companion_adapters::config::{Config, Secret};
use companion_adapters::core::Core;
use companion_adapters::vault::masters::MasterKey;
use companion_adapters::vault::rotation;
use companion_tests::app::{App, MASTER_KEY, Variables, embedder, variables};
use companion_tests::llm::ScriptedLlm;
use companion_tests::process::command;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;

use crate::commands::{Ran, companion};
use crate::memory::tell;

/// 32 times the byte 9.
const NEW_KEY: &str = "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=";

fn with(variables: &Variables, set: &[(&str, &str)]) -> Variables {
    let mut variables = variables.clone();
    for (name, value) in set {
        variables.insert((*name).to_owned(), (*value).to_owned());
    }
    variables
}

/// What keeps a service with these variables from starting.
async fn refusal(variables: &Variables) -> String {
    let config = Config::from_variables(variables.clone()).unwrap();
    let embedder = embedder(&config).await;
    match Core::open_with(config, embedder).await {
        Ok(_) => panic!("it starts"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn services_with_both_keys_run_through_a_rotation_without_an_error() {
    let app = Arc::new(App::start_with(&[("COMPANION_NEW_MASTER_KEY", NEW_KEY)]).await);
    for user in ["alice", "bob", "carol"] {
        tell(&app, user, "I have a greyhound", "User has a greyhound").await;
    }
    let stop = CancellationToken::new();
    let load = tokio::spawn({
        let (app, stop) = (app.clone(), stop.clone());
        async move {
            let mut users = 0;
            while !stop.is_cancelled() {
                for user in ["alice".to_owned(), format!("new-{users}")] {
                    // As if this process had never seen the user.
                    let external = companion_domain::ids::ExternalUserId::parse(&user).unwrap();
                    let id = companion_domain::ids::UserId::of(&external);
                    app.core.store.vault().forget(id).await;
                    let chatted = app.chat(&user, "Good morning", None).await;
                    assert_eq!(chatted.last()["done"], true, "{:?}", chatted.events);
                    assert!(
                        chatted.last().get("error").is_none(),
                        "{:?}",
                        chatted.events
                    );
                }
                users += 1;
            }
            users
        }
    });
    let Ran {
        code,
        out: said,
        err: told,
    } = companion(
        &app.variables,
        &["rotate-master-key", "--dry-run", "--json"],
    )
    .await;
    assert_eq!(code, Some(0), "{told}");
    let planned: Value = serde_json::from_str(&said).unwrap();
    assert!(planned["data_keys"].as_i64().unwrap() >= 3, "{planned}");
    // In the middle: new users are wrapped by the new key, the others are not yet.
    let new = MasterKey::parse("new", &Secret::new(NEW_KEY)).unwrap();
    rotation::put_in_force(&app.core.pool, new.check)
        .await
        .unwrap();
    app.core.store.vault().check(&app.core.pool).await.unwrap();
    app.chat("dora", "Good morning", None).await;
    assert!(rotation::left(&app.core.pool, new.check).await.unwrap() >= 3);

    let Ran {
        code,
        out: said,
        err: told,
    } = companion(&app.variables, &["rotate-master-key"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(said.contains("data keys were wrapped anew"), "{said}");
    for text in [&said, &told] {
        assert!(!text.contains(NEW_KEY) && !text.contains(MASTER_KEY));
    }
    stop.cancel();
    assert!(load.await.unwrap() > 0, "there was load");
    assert_eq!(rotation::left(&app.core.pool, new.check).await.unwrap(), 0);
    assert_eq!(app.memories("bob").await, ["User has a greyhound"]);

    let only_old = with(&app.variables, &[("COMPANION_NEW_MASTER_KEY", "")]);
    let why = refusal(&only_old).await;
    assert!(
        why.contains("COMPANION_MASTER_KEY is not the one") && why.contains("the new one"),
        "{why}"
    );
    let only_new = with(&only_old, &[("COMPANION_MASTER_KEY", NEW_KEY)]);
    let after = App::start_again(only_new.clone(), app.llm.clone()).await;
    assert_eq!(after.memories("alice").await, ["User has a greyhound"]);
    tell(&after, "erin", "I have a parrot", "User has a parrot").await;
    let Ran {
        code, out: said, ..
    } = companion(
        &with(&only_new, &[("COMPANION_NEW_MASTER_KEY", NEW_KEY)]),
        &["rotate-master-key"],
    )
    .await;
    assert!(code == Some(0) && said.contains("already"), "{said}");
}

#[tokio::test]
async fn the_key_of_a_home_is_changed_under_a_service_that_runs() {
    let llm = ScriptedLlm::start().await;
    let home = tempfile::tempdir().unwrap();
    let mut variables = variables(&llm, &[("COMPANION_HOME", home.path().to_str().unwrap())]).await;
    variables.remove("COMPANION_MASTER_KEY");
    let app = App::start_again(variables.clone(), llm).await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    let former = fs::read_to_string(home.path().join("master.key")).unwrap();
    // A run that was broken off left the key that it was to put in place.
    fs::write(home.path().join("master.key.new"), NEW_KEY).unwrap();
    let new = MasterKey::parse("new", &Secret::new(NEW_KEY)).unwrap();
    rotation::put_in_force(&app.core.pool, new.check)
        .await
        .unwrap();
    let Ran {
        code,
        out: said,
        err: told,
    } = companion(&variables, &["rotate-master-key"]).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(
        said.contains("1 data keys were wrapped anew") && !said.contains(NEW_KEY),
        "{said}"
    );
    let mut kept: Vec<_> = fs::read_dir(home.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("master.key")
        })
        .collect();
    kept.sort();
    assert_eq!(fs::read_to_string(&kept[0]).unwrap(), NEW_KEY);
    assert_eq!(fs::read_to_string(&kept[1]).unwrap(), former);
    assert_eq!(
        (
            kept.len(),
            fs::metadata(&kept[1]).unwrap().permissions().mode() & 0o777
        ),
        (2, 0o600)
    );
    // The service that runs has not been told.
    app.chat("bob", "Good morning", None).await;
    assert_eq!(app.memories("alice").await, ["User has a greyhound"]);

    let Ran {
        code,
        out: printed,
        err: told,
    } = companion(&variables, &["rotate-master-key", "--print"]).await;
    assert_eq!(code, Some(0), "{told}");
    let path = home.path().join("master.key");
    assert_eq!(printed.trim(), fs::read_to_string(&path).unwrap());
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert!(
        !told.contains(printed.trim()) && told.contains("2 data keys"),
        "{told}"
    );
    app.chat("carol", "Good morning", None).await;
    let again = App::start_again(variables, app.llm.clone()).await;
    assert_eq!(again.memories("alice").await, ["User has a greyhound"]);
}

#[tokio::test]
async fn a_rotation_asks_for_the_new_key_and_takes_it_from_standard_input() {
    let app = App::start().await;
    app.chat("alice", "Good morning", None).await;
    let Ran {
        code,
        out: said,
        err: told,
    } = companion(&app.variables, &["rotate-master-key"]).await;
    assert!(code == Some(1) && said.is_empty(), "{said}");
    assert!(
        told.contains("COMPANION_NEW_MASTER_KEY") && told.lines().count() == 1,
        "{told}"
    );
    let foresee = ["rotate-master-key", "--print", "--dry-run"];
    let Ran {
        code,
        out: said,
        err: told,
    } = companion(&app.variables, &foresee).await;
    assert_eq!(code, Some(0), "{told}");
    assert!(
        said.starts_with("1 data keys would be wrapped anew"),
        "{said}"
    );
    let given = async |key: &str| {
        let mut rotate = command("companion", &app.variables);
        let mut rotate = rotate
            .args(["rotate-master-key", "--stdin", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = rotate.stdin.take().unwrap();
        stdin
            .write_all(format!("{key}\n").as_bytes())
            .await
            .unwrap();
        drop(stdin);
        Ran::of(rotate.wait_with_output().await.unwrap())
    };
    let Ran {
        code, err: told, ..
    } = given("short").await;
    assert!(code == Some(1) && told.contains("32 bytes"), "{told}");
    let Ran {
        code,
        out: said,
        err: told,
    } = given(NEW_KEY).await;
    assert_eq!(code, Some(0), "{told}");
    let result: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&result["data_keys"], &result["done"]),
        (&json!(1), &json!(true))
    );
    // A process that knows only the former key fails clearly, and says what to do.
    app.core
        .store
        .vault()
        .check(&app.core.pool)
        .await
        .unwrap_err();
}
