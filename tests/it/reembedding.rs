//! `companion reembed`: another embedding model while the service runs, and back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use companion_adapters::config::Config;
use companion_adapters::core::Core;
use companion_adapters::log::subscription::Checkpoint;
use companion_adapters::parts;
use companion_adapters::queue::{self, NewJob};
use companion_adapters::vectors::models::{self, ModelState};
use companion_tests::app::{App, Variables, embedder, variables};
use companion_tests::eventually::{eventually, within};
use companion_tests::llm::ScriptedLlm;
use companion_tests::small_model;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::task::JoinHandle;

use crate::commands::companion;
use crate::memory::search;
use crate::steps::expect;

async fn reembed(variables: &Variables, arguments: &[&str]) -> Value {
    let arguments = [&["reembed", "--json"], arguments].concat();
    companion(variables, &arguments).await.json()
}

/// The variables of a process with the other model.
fn with_other_model(variables: &Variables, directory: &str) -> Variables {
    let mut variables = variables.clone();
    for (name, value) in [
        ("EMBEDDING_MODEL", small_model::NAME),
        ("EMBEDDING_DIMENSION", &small_model::DIMENSION.to_string()),
        ("EMBEDDING_MODEL_DIR", directory),
    ] {
        variables.insert(name.to_owned(), value.to_owned());
    }
    variables
}

/// People who talk without end, each in a conversation of their own, to whichever process is there.
struct Load {
    base: Arc<std::sync::Mutex<String>>,
    stop: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
    talking: JoinHandle<()>,
}

impl Load {
    fn on(app: &App) -> Self {
        let base = Arc::new(std::sync::Mutex::new(app.url("")));
        let (stop, said) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let client = companion_tests::http::http_client();
        let (to, until, count) = (base.clone(), stop.clone(), said.clone());
        let talking = tokio::spawn(async move {
            while !until.load(Ordering::SeqCst) {
                let number = count.load(Ordering::SeqCst);
                let body = json!({ "message": format!("I have seen film number {number}") });
                let url = format!("{}/chat", to.lock().unwrap());
                let request = client.post(url).header("X-User-Id", "bob").json(&body);
                let answer = request.send().await.unwrap();
                assert_eq!(answer.status(), 200);
                assert!(answer.text().await.unwrap().contains("\"done\":true"));
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self {
            base,
            stop,
            said,
            talking,
        }
    }

    /// From now on they talk to this process.
    fn turn_to(&self, app: &App) {
        *self.base.lock().unwrap() = app.url("");
    }

    async fn goes_on(&self) {
        let before = self.said.load(Ordering::SeqCst);
        eventually(|| async {
            match self.said.load(Ordering::SeqCst) {
                now if now > before + 5 => Ok(()),
                now => Err(format!("{now} messages")),
            }
        })
        .await;
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        within("the last chat", self.talking).await.unwrap();
        self.said.load(Ordering::SeqCst)
    }
}

/// Waits until everything that was said or is remembered has a vector of the app's own model.
async fn whole(app: &App) {
    app.settle().await;
    eventually(|| async {
        let lacking: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM (
                 SELECT user_id, content_hash FROM messages WHERE content_hash IS NOT NULL AND content <> ''
                 UNION SELECT user_id, content_hash FROM memories) AS t
             WHERE NOT EXISTS (SELECT FROM vectors v WHERE v.user_id = t.user_id AND v.content_hash = t.content_hash)",
        )
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
        if lacking == 0 { Ok(()) } else { Err(format!("{lacking} lack one")) }
    })
    .await;
}

async fn found_by_meaning(app: &App) {
    let query = json!({ "query": "a hot drink", "include_messages": true });
    let found = search(app, "alice", query).await;
    let best = &found[0];
    assert!(
        best["content"].as_str().unwrap().contains("tea"),
        "{found:?}"
    );
    assert!(best["similarity"].as_f64().unwrap() > 0.2, "{found:?}");
}

#[tokio::test]
async fn another_model_takes_over_while_people_talk_and_gives_way_again() {
    let app = App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "100000")]).await;
    for message in ["I love tea", "My name is Alice", "I live in Porto"] {
        app.chat("alice", message, None).await;
    }
    whole(&app).await;
    let folder = tempfile::tempdir().unwrap();
    let directory = small_model::write(folder.path());
    let directory = directory.to_str().unwrap();
    let other = with_other_model(&app.variables, directory);

    let config = Config::from_variables(other.clone()).unwrap();
    let refused = Core::open_with(config.clone(), embedder(&config).await).await;
    let told = refused.err().expect("it is not filled").to_string();
    assert!(told.contains("companion reembed --model"), "{told}");

    let load = Load::on(&app);
    let dimension = small_model::DIMENSION.to_string();
    let change = [
        "--model",
        small_model::NAME,
        "--dimension",
        &dimension,
        "--model-dir",
        directory,
    ];
    let foreseen = reembed(&app.variables, &[&change[..], &["--dry-run"]].concat()).await;
    assert!(foreseen["left"].as_i64().unwrap() > 3, "{foreseen}");
    let changed = reembed(&app.variables, &change).await;
    assert_eq!(changed["state"], "live", "{changed}");
    load.goes_on().await;
    found_by_meaning(&app).await;

    // The processes are restarted one after another.
    let new = App::start_again(other.clone(), app.llm.clone()).await;
    load.turn_to(&new);
    load.goes_on().await;
    found_by_meaning(&new).await;
    found_by_meaning(&app).await;
    let (variables, _) = app.stop().await;
    load.goes_on().await;
    let said = load.end().await;
    whole(&new).await;

    // And back, run where the new model is configured.
    let load = Load::on(&new);
    let former = parts::minilm();
    let back = ["--back", "--model-dir", former.to_str().unwrap()];
    let back = reembed(&new.variables, &back).await;
    assert_eq!(back["model"], "sentence-transformers/all-MiniLM-L6-v2");
    let old = App::start_again(variables, new.llm.clone()).await;
    load.turn_to(&old);
    load.goes_on().await;
    new.stop().await;
    let said = said + load.end().await;
    whole(&old).await;
    found_by_meaning(&old).await;
    let (_, conversations) = old.get("bob", "/conversations").await;
    assert_eq!(conversations["total"], said, "nothing was lost");

    // What was forgotten is forgotten in every model.
    let tables = models::tables(&old.core.pool).await.unwrap();
    assert_eq!(tables.len(), 2);
    expect(old.request_by("bob", Method::DELETE, "/users/me"), 204).await;
    for table in tables {
        let users: i64 = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT count(DISTINCT user_id) FROM {table}"
        )))
        .fetch_one(&old.core.pool)
        .await
        .unwrap();
        assert_eq!(users, 1, "{table} holds vectors of alice alone");
    }
    let forgotten = reembed(&old.variables, &["--forget", small_model::NAME]).await;
    assert_eq!(forgotten["models"], 1);
    let listed = reembed(&old.variables, &["--list"]).await;
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
}

/// The files of the real model, but for a tokenizer that knows no capitals.
fn with_another_tokenizer(folder: &Path) {
    for file in std::fs::read_dir(parts::minilm()).unwrap() {
        let file = file.unwrap();
        let copy = folder.join(file.file_name());
        if file.file_name() == "tokenizer.json" {
            let tokenizer = std::fs::read_to_string(file.path()).unwrap();
            let changed = tokenizer.replace(r#""lowercase":true"#, r#""lowercase":false"#);
            assert_ne!(changed, tokenizer);
            std::fs::write(copy, changed).unwrap();
        } else {
            std::os::unix::fs::symlink(file.path(), copy).unwrap();
        }
    }
}

#[tokio::test]
async fn files_that_make_other_vectors_are_not_taken_for_the_model_of_that_name() {
    let app = App::start().await;
    app.chat("alice", "I love tea", None).await;
    whole(&app).await;
    let folder = tempfile::tempdir().unwrap();
    with_another_tokenizer(folder.path());
    let directory = folder.path().to_str().unwrap();

    let mut variables = app.variables.clone();
    variables.insert("EMBEDDING_MODEL_DIR".to_owned(), directory.to_owned());
    let config = Config::from_variables(variables).unwrap();
    let refused = Core::open_with(config.clone(), embedder(&config).await).await;
    let told = refused.err().expect("it is another model").to_string();
    assert!(told.contains("set EMBEDDING_MODEL_DIR"), "{told}");

    let small = tempfile::tempdir().unwrap();
    let small = small_model::write(small.path());
    let dimension = small_model::DIMENSION.to_string();
    let change = ["--model", small_model::NAME, "--dimension", &dimension];
    let from = ["--model-dir", small.to_str().unwrap()];
    reembed(&app.variables, &[&change[..], &from].concat()).await;
    let back = ["reembed", "--back", "--model-dir", directory];
    let told = companion(&app.variables, &back).await.refused();
    assert!(told.contains("give --model-dir"), "{told}");
    let listed = reembed(&app.variables, &["--list"]).await;
    assert_eq!(listed[0]["model"], small_model::NAME, "{listed}");
}

#[tokio::test]
async fn a_model_is_not_called_whole_while_texts_wait_to_be_embedded() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let pool = &app.core.pool;
    sqlx::query("INSERT INTO checkpoints (subscription, xid, position) VALUES ('read_models', '5', 5), ('relay', '4', 4)")
        .execute(pool)
        .await
        .unwrap();
    let first = models::all(pool).await.unwrap().remove(0);
    let other = models::register(pool, "other", 8).await.unwrap();
    let job = NewJob {
        queue: queue::EMBED,
        payload: b"{}".to_vec(),
        key: "waits".to_owned(),
        run_at: chrono::Utc::now(),
    };
    queue::insert(&mut pool.acquire().await.unwrap(), &[job])
        .await
        .unwrap();
    let whole = async || models::whole_up_to(pool, &first).await.unwrap();
    models::switch(pool, &other).await.unwrap();
    assert_eq!(whole().await, Checkpoint::default());
    models::switch(pool, &first).await.unwrap();
    sqlx::query("UPDATE apalis.jobs SET status = 'Done'")
        .execute(pool)
        .await
        .unwrap();
    models::switch(pool, &other).await.unwrap();
    let relay = Checkpoint {
        xid: 4,
        position: 4,
    };
    assert_eq!(whole().await, relay);
}

#[tokio::test]
async fn a_model_whose_vectors_were_thrown_away_meanwhile_does_not_become_the_live_one() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let pool = &app.core.pool;
    let other = models::register(pool, "other", 2).await.unwrap();
    assert!(models::forget(pool, &other).await.unwrap());
    assert!(models::switch(pool, &other).await.is_err());
    let left = models::all(pool).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].state(), ModelState::Live);
}

#[tokio::test]
async fn who_still_has_a_model_that_was_thrown_away_sees_no_others_vectors() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let pool = &app.core.pool;
    let vectors = async |table: &str| -> i64 {
        let count = format!("SELECT count(*) FROM {table}");
        let count = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(pool);
        count.await.unwrap()
    };
    let put = async |table: &str| {
        let put = format!("INSERT INTO {table} VALUES (gen_random_uuid(), 'h', '[1,0]')");
        sqlx::query(AssertSqlSafe(put)).execute(pool).await.unwrap();
    };
    let other = models::register(pool, "other", 2).await.unwrap();
    put(&other.table()).await;
    assert!(models::forget(pool, &other).await.unwrap());
    assert_eq!(vectors(&other.table()).await, 0);
    // What such a process writes is gone when the model comes back.
    put(&other.table()).await;
    models::register(pool, "other", 2).await.unwrap();
    assert_eq!(vectors(&other.table()).await, 0);
}
