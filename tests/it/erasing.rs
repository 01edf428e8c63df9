//! A user is erased: nothing of them is found anywhere, whatever was under way, and whoever comes back
//! finds an empty life.

use std::time::Duration;

use companion_adapters::config::Config;
use companion_adapters::core::Core;
use companion_adapters::erasure::{self, Eraser, Step};
use companion_adapters::redis_link::RedisLink;
use companion_domain::ids::{ConversationId, ExternalUserId, UserId};
use companion_tests::app::{App, embedder, variables};
use companion_tests::database;
use companion_tests::eventually::{eventually, eventually_within, within};
use companion_tests::llm::{Behaviour, Gate, ScriptedLlm};
use companion_tests::otlp::OtlpReceiver;
use companion_tests::process::{Api, Process};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::{Ran, companion, stopped};
use crate::memory::{answer, statement, tell};
use crate::steps::{expect, hears_of_cancelled_replies};

fn user_id(user: &str) -> UserId {
    UserId::of(&ExternalUserId::parse(user).unwrap())
}

/// Every table of the database, of all schemas.
async fn tables(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

/// The tables in which a text is found in any column, also as the bytes of one that is not text.
async fn tables_with(pool: &PgPool, text: &str) -> Vec<String> {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    for table in tables(pool).await {
        // bytea is written as hexadecimal digits.
        let look = format!(
            "SELECT EXISTS (SELECT FROM {table} t WHERE t::text ILIKE '%' || $1 || '%' OR t::text LIKE '%' || $2 || '%')"
        );
        let there: bool = sqlx::query_scalar(AssertSqlSafe(look))
            .bind(text)
            .bind(&hex)
            .fetch_one(pool)
            .await
            .unwrap();
        if there {
            found.push(table);
        }
    }
    found
}

/// Everything that Redis holds, as text; of other tests, too.
async fn redis_as_text(app: &Everything) -> String {
    let config = companion_adapters::config::Config::from_variables(app.variables.clone()).unwrap();
    let redis = RedisLink::open(&config).unwrap().unwrap();
    let dump = "local all = {}
        for _, key in ipairs(redis.call('KEYS', '*')) do
            local kind = redis.call('TYPE', key).ok
            local value = ''
            if kind == 'string' then value = redis.call('GET', key) end
            if kind == 'hash' then value = table.concat(redis.call('HGETALL', key), ' ') end
            if kind == 'stream' then value = cjson.encode(redis.call('XRANGE', key, '-', '+')) end
            if kind == 'list' then value = table.concat(redis.call('LRANGE', key, 0, -1), ' ') end
            all[#all + 1] = key .. ' ' .. kind .. ' ' .. value
        end
        return table.concat(all, '\\n')";
    let script = redis::Script::new(dump);
    let bytes: Vec<u8> = redis.run_script(&script.prepare_invoke()).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A service of several processes, with everything that leaves a trace turned on.
struct Everything {
    apis: [Api; 2],
    worker: Process,
    spans: OtlpReceiver,
    llm: ScriptedLlm,
    variables: companion_tests::app::Variables,
    pool: PgPool,
}

impl Everything {
    async fn start() -> Self {
        let (llm, spans) = (ScriptedLlm::start().await, OtlpReceiver::start().await);
        let (redis, endpoint) = (database::redis(), spans.endpoint());
        let overrides = [
            ("REDIS_URL", redis.as_str()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("LOG_LEVEL", "DEBUG"),
            // A job of a reading that hangs leaves room for the others.
            ("EXTRACTION_CONCURRENCY", "4"),
        ];
        let variables = variables(&llm, &overrides).await;
        let pool = PgPool::connect(&variables["POSTGRES_URL"]).await.unwrap();
        Self {
            worker: Process::start("companion-worker", &variables),
            apis: [Api::start(&variables).await, Api::start(&variables).await],
            spans,
            llm,
            pool,
            variables,
        }
    }

    fn request(&self, user: &str, method: Method, path: &str) -> RequestBuilder {
        self.apis[0].request(method, path).header("X-User-Id", user)
    }
}

#[tokio::test]
async fn after_an_erasure_nothing_of_the_user_is_found_anywhere() {
    let app = Everything::start().await;
    let canary = format!("quokka{}", Uuid::now_v7().simple());
    let user = format!("{canary}@example.com");
    let post = |path: &str, body: Value| app.request(&user, Method::POST, path).json(&body);
    let says = |text: &str| format!("{text} {canary}");

    // What is said, answered, remembered, imported, summed up, named, keyed and deleted.
    app.llm.reply(says("I see, your"));
    app.llm
        .extraction(json!({"memories": [statement(&says("User keeps"))]}).to_string());
    let chatted = app.apis[0].chat(&user, &says("I keep"), None).await;
    let conversation = chatted.conversation_id.clone();
    app.apis[1]
        .chat(&user, &says("Did I tell you about"), Some(&conversation))
        .await;
    app.apis[0].settle().await;
    let body = json!({"message": says("again"), "system_prompt": says("Speak like")});
    let keyed = post("/chat", body).header("Idempotency-Key", says("key").replace(' ', "-"));
    keyed.send().await.unwrap().text().await.unwrap();
    let imported = json!({"title": says("title"), "messages": [
        {"role": "user", "name": canary, "content": says("imported"), "external_id": canary}]});
    expect(post("/conversations/import", imported.clone()), 201).await;
    let deleted = expect(post("/conversations/import", imported), 201).await;
    let by_hand = json!({"content": says("by hand"), "kind": "fact"});
    expect(post("/memories", by_hand), 201).await;
    let key = expect(post("/auth/api-keys", json!({"name": canary})), 201).await;
    let with_key = app.apis[1].request(Method::GET, "/conversations");
    expect(
        with_key.header("X-API-Key", key["key"].as_str().unwrap()),
        200,
    )
    .await;
    app.llm.extraction(says("They talked about"));
    let summary = format!("/conversations/{conversation}/summary");
    expect(post(&summary, json!({})), 200).await;
    let deleted = format!(
        "/conversations/{}",
        deleted["conversation_id"].as_str().unwrap()
    );
    app.apis[0].settle().await;
    expect(app.request(&user, Method::DELETE, &deleted), 204).await;
    // A reply that failed half way, one that still runs, in the other process, and a job that is late.
    app.llm.next(Behaviour::CutAfter(vec![says("cut off")]));
    app.apis[0].chat(&user, &says("fail"), None).await;
    app.apis[0].settle().await;
    let (late, running) = (Gate::new(), Gate::new());
    app.llm.next_extraction(Behaviour::Gated {
        chunks: vec![json!({"memories": [statement(&says("User is late with"))]}).to_string()],
        gate: late.clone(),
    });
    app.apis[0].chat(&user, &says("I am late with"), None).await;
    late.reached().await;
    app.llm.next(Behaviour::Gated {
        chunks: vec![says("half"), "never".to_owned()],
        gate: running.clone(),
    });
    let mut open = app.apis[1].send(&user, &says("and go on"), None).await;
    running.open_one();
    while !String::from_utf8_lossy(&open.chunk().await.unwrap().unwrap()).contains(&canary) {}
    // Read models that are being built anew lie beside the live ones.
    for statement in [
        "CREATE SCHEMA read_beside",
        "CREATE TABLE read_beside.messages AS SELECT * FROM read.messages",
    ] {
        sqlx::query(statement).execute(&app.pool).await.unwrap();
    }
    // The canary is where it is looked for: otherwise the search would prove nothing.
    let before = tables_with(&app.pool, &canary).await;
    for table in [
        "idempotency",
        "read.messages",
        "read.memories",
        "read.users",
        "read_beside.messages",
        "read.api_keys",
    ] {
        assert!(
            before
                .iter()
                .any(|t| t == table || t == &format!("public.{table}")),
            "{table}: {before:?}"
        );
    }
    eventually(|| async {
        let redis = redis_as_text(&app).await;
        let kinds = ["companion:buffer:", "companion:reply:"];
        let found = |kind| {
            redis
                .lines()
                .any(|line: &str| line.starts_with(kind) && line.contains(&canary))
        };
        if kinds.iter().all(found) {
            Ok(())
        } else {
            Err("not in Redis yet".to_owned())
        }
    })
    .await;

    expect(app.request(&user, Method::DELETE, "/users/me"), 204).await;
    late.open_all();
    running.open_all();
    open.text().await.unwrap();
    app.apis[0].settle().await;
    let (_, health) = app.apis[0].get("nobody", "/health").await;
    assert_eq!(health["workers"]["dead_jobs"], 0);
    let found = tables_with(&app.pool, &canary).await;
    assert!(found.is_empty(), "{found:?}");
    // The id under which the log knows the user is in the log, and in what is known about the erasure.
    let id = user_id(&user).to_string();
    let named = tables_with(&app.pool, &id).await;
    let named: Vec<&str> = named
        .iter()
        .map(|table| table.trim_start_matches("public."))
        .collect();
    assert_eq!(named, ["destroyed_keys", "erasures", "events", "streams"]);
    // Another process may be about to hear of it.
    eventually(|| async {
        let redis = redis_as_text(&app).await;
        match redis.lines().find(|line| line.contains(&canary)) {
            None => Ok(()),
            Some(line) => Err(line.to_owned()),
        }
    })
    .await;
    let old_key = app.apis[1].request(Method::GET, "/conversations");
    expect(
        old_key.header("X-API-Key", key["key"].as_str().unwrap()),
        401,
    )
    .await;

    // The same id begins anew, empty.
    app.llm.reply("Hello.");
    app.llm.extraction(json!({"memories": []}).to_string());
    for api in &app.apis {
        assert_eq!(api.get(&user, "/conversations").await.1["total"], 0);
        assert_eq!(
            api.get(&user, "/memories?include_inactive=true").await.1["total"],
            0
        );
    }
    app.apis[1].chat(&user, "Good morning", None).await;
    app.apis[0].settle().await;
    assert_eq!(app.apis[0].get(&user, "/conversations").await.1["total"], 1);
    for request in app.llm.chat_requests().iter().rev().take(1) {
        assert!(!request.prompt().contains(&canary));
    }

    let Everything {
        apis: [one, two],
        worker,
        spans,
        ..
    } = app;
    let (one, two, worker) = tokio::join!(
        one.process.terminate(),
        two.process.terminate(),
        worker.terminate()
    );
    for line in one.1.iter().chain(&two.1).chain(&worker.1) {
        assert!(!line.contains(&canary), "a log line holds it: {line}");
    }
    for span in spans.spans() {
        assert!(
            !format!("{span:?}").contains(&canary),
            "a span holds it: {span:?}"
        );
    }
    assert!(!spans.spans().is_empty() && !worker.1.is_empty());
}

/// Erases the user as far as the first commit, as a process does that then crashes.
async fn begin(app: &App, user: &str) -> Eraser {
    let eraser = Eraser::of(&app.core);
    eraser.begin(user_id(user)).await.unwrap();
    eraser
}

#[tokio::test]
async fn a_user_is_gone_from_the_first_moment_on_and_who_comes_back_waits_for_the_rest() {
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    let issued = expect(
        app.request_by("alice", Method::POST, "/auth/api-keys")
            .json(&json!({"name": "laptop"})),
        201,
    )
    .await;
    let (_, token) = app.post("alice", "/auth/token", &json!({})).await;
    begin(&app, "alice").await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM read.messages")
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
    assert!(rows > 0, "nothing was swept away yet");
    let with_key = app.request(Method::GET, "/conversations");
    expect(
        with_key.header("X-API-Key", issued["key"].as_str().unwrap()),
        401,
    )
    .await;
    let with_token = app.request(Method::GET, "/conversations");
    expect(
        with_token.bearer_auth(token["access_token"].as_str().unwrap()),
        401,
    )
    .await;
    // A new life can't begin beside the rest of the former one.
    let alice = ExternalUserId::parse("alice").unwrap();
    app.core.store.vault().forget(user_id("alice")).await;
    app.core.store.ensure_user(&alice).await.unwrap();
    let keys: i64 = sqlx::query_scalar("SELECT count(*) FROM user_keys")
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
    assert_eq!(keys, 0);
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 0);
    let last = erasure::last(&app.core.pool, user_id("alice"))
        .await
        .unwrap();
    assert!(!last.unwrap().under_way);
    tell(&app, "alice", "I have a parrot", "User has a parrot").await;
    assert_eq!(app.memories("alice").await, ["User has a parrot"]);
}

#[tokio::test]
async fn an_erasure_that_was_broken_off_is_finished_by_a_worker_and_sweeps_no_later_life() {
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    tell(&app, "bob", "I have a parrot", "User has a parrot").await;
    let eraser = begin(&app, "alice").await;
    assert!(matches!(
        eraser.step(user_id("alice")).await.unwrap(),
        Step::More(1..)
    ));
    eventually_within(Duration::from_secs(30), || async {
        match erasure::last(&app.core.pool, user_id("alice"))
            .await
            .unwrap()
        {
            Some(erasure) if !erasure.under_way => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    tell(&app, "alice", "I have a cat", "User has a cat").await;
    // Whoever swept along and is slower finds that it is over.
    assert_eq!(eraser.step(user_id("alice")).await.unwrap(), Step::Done);
    assert_eq!(app.memories("alice").await, ["User has a cat"]);
    assert_eq!(app.memories("bob").await, ["User has a parrot"]);
}

#[tokio::test]
async fn of_lives_that_end_and_begin_at_once_only_what_can_be_opened_is_listed() {
    let app = App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "100000")]).await;
    let mut work = JoinSet::new();
    let app = std::sync::Arc::new(app);
    for n in 0..24 {
        let app = app.clone();
        work.spawn(async move {
            if n % 4 == 3 {
                let erased = app
                    .request_by("alice", Method::DELETE, "/users/me")
                    .send()
                    .await
                    .unwrap();
                assert_eq!(erased.status(), 204);
            } else {
                let response = app.send("alice", "I have a greyhound", None).await;
                assert!(
                    !response.status().is_server_error(),
                    "{}",
                    response.status()
                );
                // A stream may be cut off by the erasure.
                let _ = response.text().await;
            }
        });
    }
    while let Some(done) = work.join_next().await {
        done.unwrap();
    }
    app.settle().await;
    let (status, list) = app.get("alice", "/conversations?limit=200").await;
    assert_eq!(status, 200);
    let mut listed: Vec<String> = list["conversations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|conversation| format!("conversation-{}", conversation["id"].as_str().unwrap()))
        .collect();
    listed.sort();
    let open: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT e.stream_id FROM events e JOIN user_keys USING (user_id, key_id)
         WHERE e.stream_id LIKE 'conversation-%' ORDER BY 1",
    )
    .fetch_all(&app.core.pool)
    .await
    .unwrap();
    assert_eq!(listed, open);
    let strays: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM streams WHERE stream_id LIKE 'conversation-%' AND stream_id <> ALL($1))
              + (SELECT count(*) FROM read.messages WHERE 'conversation-' || conversation_id <> ALL($1))",
    )
    .bind(&open)
    .fetch_one(&app.core.pool)
    .await
    .unwrap();
    assert_eq!(strays, 0);
    assert_eq!(
        app.get("nobody", "/health").await.1["workers"]["dead_jobs"],
        0
    );
}

#[tokio::test]
async fn read_models_that_are_built_anew_after_an_erasure_go_on_remembering() {
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    // The next life has no memory yet, and its memory stream goes on after what can't be read.
    app.llm.next_extraction(answer(&[]));
    app.chat("alice", "Good morning", None).await;
    app.settle().await;
    let pool = app.core.pool.clone();
    let read: Vec<String> = tables(&pool)
        .await
        .into_iter()
        .filter(|table| table.starts_with("read."))
        .collect();
    sqlx::query(AssertSqlSafe(format!("TRUNCATE {}", read.join(", "))))
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM checkpoints WHERE subscription = 'read_models'")
        .execute(&pool)
        .await
        .unwrap();
    tell(&app, "alice", "I have a parrot", "User has a parrot").await;
    assert_eq!(app.memories("alice").await, ["User has a parrot"]);
}

#[tokio::test]
async fn the_operator_erases_after_being_asked_twice() {
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    let run = async |arguments: &[&str]| {
        companion(&app.variables, &[&["erase"], arguments].concat()).await
    };
    let Ran {
        code, out: said, ..
    } = run(&["alice", "--dry-run"]).await;
    assert!(
        code == Some(0) && said.contains("alice has a key") && said.contains("Nothing was changed"),
        "{said}"
    );
    let Ran {
        code,
        out: said,
        err: told,
    } = run(&["alice"]).await;
    assert!(
        code == Some(1) && said.is_empty() && told.contains("--yes"),
        "{told}"
    );
    assert_eq!(app.memories("alice").await, ["User has a greyhound"]);
    let Ran {
        code,
        out: said,
        err: told,
    } = run(&["alice", "--yes", "--json"]).await;
    assert_eq!(code, Some(0), "{told}");
    let result: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (
            &result["was"]["registered"],
            &result["was"]["conversations"]
        ),
        (&json!(true), &json!(1))
    );
    assert!(result["was"]["rows"].as_i64().unwrap() > 3, "{result}");
    assert_eq!(app.memories("alice").await, [""; 0]);
    assert_eq!(app.get("alice", "/conversations").await.1["total"], 0);
    let Ran {
        code, out: said, ..
    } = run(&["alice", "--yes"]).await;
    assert!(
        code == Some(0) && said.contains("alice was erased at"),
        "{said}"
    );
    let told = run(&["alcie", "--yes"]).await.refused();
    assert!(told.contains("nobody called alcie"), "{told}");
}

#[tokio::test]
async fn an_erasure_that_is_stopped_before_it_has_begun_erases_nobody() {
    let app = App::start().await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    let pool = &app.core.pool;
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE erasures IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                 AND wait_event_type = 'Lock' AND query LIKE '%convert_from(job%')";
    let begun = async || -> bool { sqlx::query_scalar(waits).fetch_one(pool).await.unwrap() };
    let erase = ["erase", "alice", "--yes"];
    let told = stopped(&app.variables, &erase, begun).await.stopped();
    assert!(told.contains("Nothing was erased."), "{told}");
    holder.rollback().await.unwrap();
    assert_eq!(app.memories("alice").await, ["User has a greyhound"]);
}

#[tokio::test]
async fn what_redis_holds_of_who_is_erased_by_a_command_without_redis_is_left_to_a_worker() {
    let app = App::start_with(&[("REDIS_URL", &database::redis())]).await;
    tell(&app, "alice", "I have a greyhound", "User has a greyhound").await;
    let conversation: Uuid = sqlx::query_scalar("SELECT conversation_id FROM conversations")
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
    let mut variables = app.variables.clone();
    variables.remove("REDIS_URL");
    let erased = companion(&variables, &["erase", "alice", "--yes"]).await;
    assert_eq!(erased.code, Some(0), "{}", erased.err);
    // As a worker does from time to time.
    erasure::bury_buffers(&app.core.pool, &app.core.buffer)
        .await
        .unwrap();
    let buffered = app.core.buffer.peek(ConversationId(conversation)).await;
    assert!(buffered.is_none());
}

#[tokio::test]
async fn an_erasure_that_has_to_wait_keeps_nobody_waiting() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let alice = ExternalUserId::parse("alice").unwrap();
    let alice = app.core.store.ensure_user(&alice).await.unwrap();
    // As one who is about to switch read models, and takes a few more events in before.
    let mut switching = app.core.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE erasures IN SHARE MODE")
        .execute(&mut *switching)
        .await
        .unwrap();
    let eraser = Eraser::of(&app.core);
    let erasing = tokio::spawn(async move { eraser.begin(alice).await });
    eventually(|| async {
        let waits = database::waiting(&app.core.pool, "erasures").await;
        waits.first().map(drop).ok_or("it does not wait".to_owned())
    })
    .await;
    sqlx::query("SELECT FROM user_keys WHERE user_id = $1 FOR KEY SHARE NOWAIT")
        .bind(alice.0)
        .fetch_one(&app.core.pool)
        .await
        .unwrap();
    switching.rollback().await.unwrap();
    within("the erasure", erasing).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_worker_of_its_own_forgets_what_it_has_at_hand_of_an_erased_user() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let config = Config::from_variables(app.variables.clone()).unwrap();
    let core = Core::open_with(config.clone(), embedder(&config).await);
    let core = core.await.unwrap();
    let stop = CancellationToken::new();
    let worker = tokio::spawn(companion_worker::run_alone(core.clone(), stop.clone()));
    hears_of_cancelled_replies(&app, 2).await;
    let chatted = app.chat("alice", "Good morning", None).await;
    app.settle().await;
    let conversation = ConversationId(chatted.conversation_id.parse().unwrap());
    assert!(core.buffer.peek(conversation).await.is_some());
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    eventually(|| async {
        match core.buffer.peek(conversation).await {
            None => Ok(()),
            Some(_) => Err("it is still at hand".to_owned()),
        }
    })
    .await;
    stop.cancel();
    within("the worker to stop", worker).await.unwrap().unwrap();
}
