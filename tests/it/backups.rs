//! The drill: a backup while the service runs, more of everything, an erasure, the loss of the machine,
//! and a restore; users see what they saw.

use std::fs;
use std::path::Path;

use companion_adapters::backup::Restore;
use companion_adapters::log::event_store::AppendError;
use companion_adapters::vault::VaultError;
use companion_domain::ids::ExternalUserId;
use companion_tests::app::{App, Variables, variables};
use companion_tests::database;
use companion_tests::eventually::{eventually, within};
use companion_tests::llm::ScriptedLlm;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use uuid::Uuid;

use crate::commands::{companion, stopped, with_log};
use crate::memory::{answer, list, statement, tell};
use crate::portability::{done, export, import};
use crate::steps::{expect, refused};

async fn json_of(variables: &Variables, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    companion(variables, &arguments).await.json()
}

/// What keeps a command from being done.
async fn refusal(variables: &Variables, arguments: &[&str]) -> String {
    companion(variables, arguments).await.refused()
}

async fn pool(variables: &Variables) -> PgPool {
    PgPool::connect(&variables["POSTGRES_URL"]).await.unwrap()
}

/// The log in the order of the feed.
async fn feed(variables: &Variables) -> Vec<Uuid> {
    sqlx::query_scalar("SELECT event_id FROM events ORDER BY xid, position")
        .fetch_all(&pool(variables).await)
        .await
        .unwrap()
}

/// Everything that a user is shown, save what changes with the time.
async fn seen_by(app: &App, user: &str) -> Value {
    app.settle().await;
    let get = async |path: String| app.get(user, &path).await.1;
    let conversations = get("/conversations?limit=200".to_owned()).await;
    let mut messages = Vec::new();
    for conversation in conversations["conversations"].as_array().unwrap() {
        let id = conversation["id"].as_str().unwrap();
        messages.push(get(format!("/conversations/{id}/messages?limit=200")).await);
    }
    let mut memories = get("/memories?limit=200&include_inactive=true".to_owned()).await;
    let mut histories = Vec::new();
    for memory in memories["memories"].as_array_mut().unwrap() {
        memory.as_object_mut().unwrap().remove("importance_now");
        let id = memory["id"].as_str().unwrap();
        histories.push(get(format!("/memories/{id}/history")).await);
    }
    let query = json!({"query": "a dog that runs", "include_messages": true});
    let found = app.post(user, "/memories/search", &query).await.1;
    let mut found: Vec<String> = found["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["content"].to_string())
        .collect();
    found.sort();
    let keys = get("/auth/api-keys".to_owned()).await;
    json!({"conversations": conversations, "messages": messages, "memories": memories, "histories": histories,
           "found": found, "keys": keys})
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn what_was_backed_up_is_seen_again_after_a_restore_save_who_was_erased() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (dir, keys) = (path("log"), path("keys"));
    let backup = ["backup", &dir, "--keys-dir", &keys];
    let app = App::start().await;
    for user in ["alice", "bob", "carol"] {
        tell(&app, user, "I have a greyhound", "User has a greyhound").await;
    }
    // What dora takes in has gaps where bob has forgotten something.
    let memory = list(&app, "bob", "").await[0]["id"].clone();
    let path_of = format!("/memories/{}", memory.as_str().unwrap());
    expect(app.request_by("bob", Method::DELETE, &path_of), 204).await;
    let taken = export(&app, "bob").await;
    assert_eq!(import(&app, "dora", &taken).await, done(1, 2, 0, 0));
    let planned = json_of(&app.variables, &[&backup[..], &["--dry-run"]].concat()).await;
    assert!(!Path::new(&dir).exists(), "{planned}");
    let first = json_of(&app.variables, &backup).await;
    assert_eq!(first["events"], feed(&app.variables).await.len());
    assert_eq!(
        (&first["new_events"], &first["users"]),
        (&planned["new_events"], &json!(4))
    );

    // More of everything; some of it while an older transaction is open, so that it waits for the next.
    let mut open = app.core.pool.begin().await.unwrap();
    sqlx::query("SELECT pg_current_xact_id()")
        .execute(&mut *open)
        .await
        .unwrap();
    let conversation = app
        .chat("alice", "Good morning", None)
        .await
        .conversation_id;
    let held_back = json_of(&app.variables, &backup).await;
    assert_eq!(held_back["new_events"], 0);
    open.commit().await.unwrap();
    let title = json!({"title": "Dogs"});
    let renamed = format!("/conversations/{conversation}");
    let rename = app.call("alice", Method::PATCH, &renamed, &title);
    assert_eq!(rename.await.0, 200);
    app.post(
        "alice",
        "/memories",
        &json!({"content": "User likes rain", "kind": "preference"}),
    )
    .await;
    app.post("alice", "/auth/api-keys", &json!({"name": "laptop"}))
        .await;
    tell(&app, "alice", "My greyhound runs", "User's greyhound runs").await;
    let imported = json!({"messages": [{"role": "user", "content": "I was in Lisbon", "external_id": "m1"}], "extract": false});
    app.post("alice", "/conversations/import", &imported).await;
    let (_, token) = app.post("bob", "/auth/token", &json!({})).await;
    app.settle().await;
    let second = json_of(&app.variables, &backup).await;
    assert_eq!(second["events"], feed(&app.variables).await.len());
    assert_eq!(json_of(&app.variables, &backup).await["new_events"], 0);
    let key_file = Path::new(&keys).join("keys.jsonl");
    let keys_before = fs::read_to_string(&key_file).unwrap();

    // Bob is erased after the backup of the log, and the keys are backed up once more.
    expect(app.request_by("bob", Method::DELETE, "/users/me"), 204).await;
    let only_keys = json_of(&app.variables, &[&backup[..], &["--only-keys"]].concat()).await;
    assert_eq!(
        (&only_keys["users"], &only_keys["events"]),
        (&json!(3), &second["events"])
    );
    let keys_after = fs::read_to_string(&key_file).unwrap();
    assert!(keys_after.len() < keys_before.len() + 300 && keys_after != keys_before);
    for file in ["log-000001.copy", "log-000002.copy"] {
        let bytes = fs::read(Path::new(&dir).join(file)).unwrap();
        for word in [&b"greyhound"[..], b"alice"] {
            assert!(
                !bytes.windows(word.len()).any(|part| part == word),
                "{file} is sealed"
            );
        }
    }
    let seen = seen_by(&app, "alice").await;
    let of_log = feed(&app.variables).await;
    let told = refusal(&app.variables, &["restore", &dir, "--keys-dir", &keys]).await;
    assert!(told.contains("not empty"), "{told}");
    let (old, llm) = app.stop().await;

    // The machine is lost.
    let mut new = old.clone();
    new.insert(
        "POSTGRES_URL".to_owned(),
        database::fresh().await.expose().to_owned(),
    );
    let restore = ["restore", &dir, "--keys-dir", &keys];
    for (file, says) in [
        ("log-000002.copy", "log-000002.copy"),
        ("backup.json", "backup.json"),
    ] {
        let damaged = path(&format!("damaged-{file}"));
        copied(Path::new(&dir), Path::new(&damaged));
        let file = Path::new(&damaged).join(file);
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        if says == "backup.json" {
            bytes.truncate(middle);
        } else {
            bytes[middle] ^= 0x10;
        }
        fs::write(&file, bytes).unwrap();
        let told = refusal(&new, &["restore", &damaged, "--keys-dir", &keys]).await;
        assert!(told.contains(says) && told.lines().count() == 1, "{told}");
    }
    let damaged = path("damaged-keys");
    fs::create_dir(&damaged).unwrap();
    fs::write(
        Path::new(&damaged).join("keys.jsonl"),
        keys_after.replacen("\"key\"", "\"kex\"", 1),
    )
    .unwrap();
    let told = refusal(&new, &["restore", &dir, "--keys-dir", &damaged]).await;
    assert!(told.contains("keys.jsonl is damaged"), "{told}");
    let mut wrong = new.clone();
    wrong.insert(
        "COMPANION_MASTER_KEY".to_owned(),
        "CQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQk=".to_owned(),
    );
    let told = refusal(&wrong, &restore).await;
    assert!(told.contains("COMPANION_MASTER_KEY"), "{told}");
    assert_eq!(
        feed(&new).await.len(),
        0,
        "nothing is left of what was refused"
    );
    let whole = json_of(&new, &[&restore[..], &["--dry-run"]].concat()).await;
    assert_eq!(
        (&whole["events"], feed(&new).await.len()),
        (&second["events"], 0)
    );

    // Of carol it is known on paper only that she wanted out.
    let list = path("wanted-out");
    fs::write(&list, "carol\ncalor\n").unwrap();
    let with_list = [&restore[..], &["--erasures", &list]].concat();
    let told = companion(&new, &[&with_list[..], &["--dry-run"]].concat())
        .await
        .err;
    assert!(
        told.contains("know nobody of these") && told.contains("calor"),
        "{told}"
    );
    let restored = json_of(&new, &with_list).await;
    assert_eq!(restored["unknown"], json!(["calor"]));
    assert_eq!(
        (&restored["events"], &restored["users"]),
        (&second["events"], &json!(2))
    );
    assert_eq!(
        restored["closed_users"], 0,
        "bob's and carol's keys were destroyed"
    );
    assert_eq!(feed(&new).await, of_log, "in the order in which it was");

    let app = App::start_again(new.clone(), llm).await;
    assert_eq!(seen_by(&app, "alice").await, seen);
    for user in ["bob", "carol"] {
        assert_eq!(
            app.get(user, "/conversations").await.1["total"],
            0,
            "{user}"
        );
        assert_eq!(
            app.get(user, "/memories?include_inactive=true").await.1["total"],
            0,
            "{user}"
        );
    }
    let with_token = app.request(Method::GET, "/conversations");
    refused(
        with_token.bearer_auth(token["access_token"].as_str().unwrap()),
        401,
        "unauthorized",
    )
    .await;
    // Life goes on, in the old conversations and in new ones.
    app.llm
        .next_extraction(answer(&[statement("User has a parrot, too")]));
    let went_on = app
        .chat("alice", "I have a parrot, too", Some(&conversation))
        .await;
    assert_eq!(went_on.conversation_id, conversation);
    assert!(app.last_prompt().contains("Good morning"));
    assert!(
        app.memories("alice")
            .await
            .contains(&"User has a parrot, too".to_owned())
    );
    tell(&app, "bob", "I have a cat", "User has a cat").await;
    assert_eq!(app.memories("bob").await, ["User has a cat"]);
    assert_eq!(
        app.get("nobody", "/health").await.1["workers"]["dead_jobs"],
        0
    );
    let told = refusal(&app.variables, &backup).await;
    assert!(told.contains("another database"), "{told}");
}

#[tokio::test]
async fn on_a_new_machine_the_whole_log_is_visible_at_once_and_the_master_key_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("backup").to_str().unwrap().to_owned();
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    json_of(&app.variables, &["backup", &dir]).await;
    let old_keys = folder.path().join("old-keys");
    copied(&Path::new(&dir).join("keys"), &old_keys);
    app.chat("bob", "I have a parrot", None).await;
    app.settle().await;
    json_of(&app.variables, &["backup", &dir]).await;
    let events = feed(&app.variables).await.len();
    // A server of its own, whose transaction ids have only begun.
    let home = tempfile::tempdir().unwrap();
    let mut new = app.variables.clone();
    new.remove("POSTGRES_URL");
    let key = new.remove("COMPANION_MASTER_KEY").unwrap();
    new.insert(
        "COMPANION_HOME".to_owned(),
        home.path().to_str().unwrap().to_owned(),
    );
    let told = refusal(&new, &["restore", &dir]).await;
    assert!(
        told.contains("master key") && told.contains("is in no backup"),
        "{told}"
    );
    assert!(!home.path().join("master.key").exists());
    fs::write(home.path().join("master.key"), key).unwrap();
    // The log is newer than the keys: of whom they don't know yet, what was said stays closed.
    let restore = ["restore", &dir, "--keys-dir", old_keys.to_str().unwrap()];
    let restored = json_of(&new, &restore).await;
    let all = (
        &restored["events"],
        &restored["users"],
        &restored["closed_users"],
    );
    assert_eq!(all, (&json!(events), &json!(1), &json!(1)));
    let stats = json_of(&new, &["events", "stats"]).await;
    assert_eq!(
        (&stats["events"], &stats["feed"]["held_back"]),
        (&json!(events), &json!(0))
    );
    let said = companion(&new, &["events", "tail", "-n", "100"])
        .await
        .done();
    assert_eq!(said.lines().count(), events);
    assert!(
        said.contains("I have a greyhound") && !said.contains("parrot"),
        "{said}"
    );
    assert!(
        said.contains("(can't be opened: the user's key is not here"),
        "{said}"
    );
}

#[tokio::test]
async fn a_backup_that_is_stopped_keeps_its_pieces_goes_on_and_touches_nothing_else() {
    const EVENTS: u64 = 400;
    let variables = with_log(EVENTS).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let dir = folder.path().to_str().unwrap();
    fs::write(file("film.mkv.part"), "half a film").unwrap();
    let backup = ["backup", dir, "--piece"];
    let third = file("log-000003.copy");
    let begun = async || third.exists();
    let begin = [&backup[..], &["1"]].concat();
    let told = stopped(&variables, &begin, begun).await.stopped();
    assert!(told.contains("events are backed up"), "{told}");

    // As if it had been killed in the middle of a piece.
    let next = (1..)
        .map(|n| file(&format!("log-{n:06}.copy")))
        .find(|piece| !piece.exists());
    let unfinished = next.unwrap().with_extension("copy.part");
    fs::write(&unfinished, "half a piece").unwrap();
    let planned = json_of(&variables, &[&backup[..], &["60", "--dry-run"]].concat()).await;
    let new = planned["new_events"].as_u64().unwrap();
    assert!(new > 0 && new < EVENTS, "{planned}");
    assert!(unfinished.exists(), "a dry run changes nothing");
    let went_on = json_of(&variables, &[&backup[..], &["60"]].concat()).await;
    assert_eq!(
        (&went_on["events"], &went_on["new_events"]),
        (&json!(EVENTS), &json!(new))
    );
    assert!(!unfinished.exists() && file("film.mkv.part").exists());
    let whole = json_of(&variables, &["restore", dir, "--dry-run"]).await;
    assert_eq!(whole["events"], EVENTS);

    // A restore that is stopped leaves nothing; the next one is not in its way.
    let mut new = variables.clone();
    let url = database::fresh().await.expose().to_owned();
    new.insert("POSTGRES_URL".to_owned(), url);
    let pool = pool(&new).await;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE events IN ROW EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let begun = async || {
        let waits = database::waiting(&pool, "events").await;
        waits.iter().any(|(_, mode)| mode == "ExclusiveLock")
    };
    let told = stopped(&new, &["restore", dir], begun).await.stopped();
    assert!(told.contains("Nothing was restored."), "{told}");
    holder.rollback().await.unwrap();
    let restored = json_of(&new, &["restore", dir]).await;
    assert_eq!(restored["events"], EVENTS);
}

#[tokio::test]
async fn a_restore_ends_however_many_wait_to_begin() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let pool = &app.core.pool;
    let restore = Restore::begin(pool).await.unwrap().expect("it is empty");
    let store = app.core.store.clone();
    let alice = ExternalUserId::parse("alice").unwrap();
    let beginning = tokio::spawn(async move { store.ensure_user(&alice).await });
    eventually(|| async {
        let waits: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                 AND (query LIKE 'INSERT INTO master_key%' OR query LIKE 'INSERT INTO user_keys%'))")
                .fetch_one(pool)
                .await
                .unwrap();
        if waits {
            Ok(())
        } else {
            Err("nobody waits".to_owned())
        }
    })
    .await;
    restore.finish(Some(&[7; 32])).await.unwrap();
    // The master key that is in force now is none of this process: neither of the two was a deadlock's victim.
    let refused = within("the user", beginning).await.unwrap();
    assert!(
        matches!(refused, Err(AppendError::Vault(VaultError::MasterKey(_)))),
        "{refused:?}"
    );
}
