//! `companion replay` and `companion verify`, run as an operator runs them, while the service runs.

use companion_adapters::erasure::Eraser;
use companion_adapters::log::event_store::Expected;
use companion_adapters::log::subscription::Bounds;
use companion_adapters::queue::{self, NewJob};
use companion_adapters::read_models::TABLES;
use companion_adapters::read_models::copies::{FORMER, ONE_USER, SHADOW};
use companion_domain::events::{ConversationStarted, Metadata};
use companion_domain::ids::{ConversationId, ExternalUserId, StreamId, UserId};
use companion_tests::app::{App, variables};
use companion_tests::database;
use companion_tests::eventually::eventually;
use companion_tests::llm::{Behaviour, ScriptedLlm};
use companion_tests::log::rows;
use companion_worker::projections::ALL;
use companion_worker::replay::{Replay, Stopped, alone, drop_old_copies};
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::{companion, stopped, with_log};
use crate::steps::expect;

/// Runs a command to its end: its exit code, and what it printed as JSON.
async fn run(app: &App, arguments: &[&str]) -> (i32, Value) {
    let ran = companion(&app.variables, &[arguments, &["--json"]].concat()).await;
    let json = serde_json::from_str(&ran.out).unwrap_or_else(|_| json!(ran.err));
    (ran.code.unwrap(), json)
}

async fn well(app: &App, arguments: &[&str]) -> Value {
    let (code, json) = run(app, arguments).await;
    assert_eq!(code, 0, "{json}");
    json
}

async fn all_rows(app: &App) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for table in TABLES {
        all.push(rows(&app.core.pool, &format!("read.{table}")).await);
    }
    all
}

async fn some_life(app: &App) -> String {
    let chatted = app
        .chat("alice", "My name is Alice and I live in Lisbon.", None)
        .await;
    let conversation = chatted.conversation_id;
    app.chat("alice", "I have a greyhound.", Some(&conversation))
        .await;
    app.chat("bob", "I work as a nurse.", None).await;
    app.settle().await;
    conversation
}

#[tokio::test]
async fn a_replay_gives_the_same_rows_asks_no_llm_and_embeds_nothing() {
    let app = App::start().await;
    some_life(&app).await;
    let before = all_rows(&app).await;
    let counts = "SELECT (SELECT count(*) FROM vectors), (SELECT count(*) FROM apalis.jobs)";
    let count = async || -> (i64, i64) {
        sqlx::query_as(counts)
            .fetch_one(&app.core.pool)
            .await
            .unwrap()
    };
    let (asked, counted) = (app.llm.requests().len(), count().await);
    // Whoever asks it now gets an error, and is counted.
    app.llm.next(Behaviour::Status(500, "not now".to_owned()));
    let replayed = well(&app, &["replay", "all"]).await;
    assert_eq!(replayed["differences"], 0, "{replayed}");
    assert_eq!(replayed["switched"], true);
    assert_eq!(replayed["tables"].as_array().unwrap().len(), TABLES.len());
    assert_eq!(all_rows(&app).await, before);
    assert_eq!(app.llm.requests().len(), asked);
    assert_eq!(count().await, counted);
}

#[tokio::test]
async fn what_is_switched_in_has_the_columns_indexes_and_options_of_what_it_replaces() {
    let app = App::start().await;
    some_life(&app).await;
    let before = definition(&app.core.pool).await;
    well(&app, &["replay", "all"]).await;
    assert_eq!(definition(&app.core.pool).await, before);
}

#[tokio::test]
async fn indexes_that_a_stopped_replay_has_not_made_or_not_finished_are_made_by_the_next() {
    let app = App::start().await;
    some_life(&app).await;
    let pool = &app.core.pool;
    let before = definition(pool).await;
    let stop = CancellationToken::new();
    let mut replay = begin(&app, stop.clone()).await;
    replay.fill(&mut |_| {}).await.unwrap();
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE read_shadow.messages IN ROW EXCLUSIVE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let stop_it = async {
        eventually(|| async {
            let waits = database::waiting(pool, "read_shadow.messages").await;
            (!waits.is_empty())
                .then_some(())
                .ok_or("nobody waits".to_owned())
        })
        .await;
        stop.cancel();
        holder.rollback().await.unwrap();
    };
    let mut tell = |_| {};
    let (completed, ()) = tokio::join!(replay.complete(&mut tell), stop_it);
    assert!(completed.unwrap_err().is::<Stopped>());
    let made = async || -> Vec<String> {
        let of_messages =
            "SELECT indexname FROM pg_indexes WHERE schemaname = $1 AND tablename = 'messages'
                           AND position('_by_' IN indexname) > 0 ORDER BY 1";
        let names = sqlx::query_scalar(of_messages).bind(SHADOW);
        names.fetch_all(pool).await.unwrap()
    };
    assert_eq!(made().await, ["messages_by_content"]);

    // As it is left behind where the disk was full.
    let unfinished = "CREATE UNIQUE INDEX CONCURRENTLY messages_by_search_version ON read_shadow.messages (role)";
    sqlx::query(unfinished).execute(pool).await.unwrap_err();
    assert_eq!(made().await.len(), 2);
    let replayed = well(&app, &["replay", "all"]).await;
    assert_eq!(replayed["differences"], 0, "{replayed}");
    assert_eq!(definition(pool).await, before);
}

#[tokio::test]
async fn of_many_users_who_came_after_the_comparison_what_differs_is_told_too() {
    let app = App::start().await;
    some_life(&app).await;
    let mut replay = begin(&app, CancellationToken::new()).await;
    let compared = replay.complete(&mut |_| {}).await.unwrap().unwrap();
    assert!(compared.iter().all(|table| table.differences == 0));
    for n in 0..150 {
        let external = ExternalUserId::parse(&format!("late-{n}")).unwrap();
        app.core.store.ensure_user(&external).await.unwrap();
    }
    app.settle().await;
    sqlx::query("UPDATE read.users SET timezone = 'Europe/Lisbon' WHERE external_id = 'late-7'")
        .execute(&app.core.pool)
        .await
        .unwrap();
    let differing = replay.switch(&ALL, &mut |_| {}).await.unwrap();
    let told: Vec<_> = differing
        .iter()
        .map(|table| (table.table.as_str(), table.differences))
        .collect();
    assert_eq!(told, [("users", 1)]);
    let found = well(&app, &["verify"]).await;
    assert_eq!(found["well"], true, "{found}");
}

/// Begins to build all read models, or goes on.
async fn begin(app: &App, stop: CancellationToken) -> Replay {
    let (pool, vault) = (&app.core.pool, app.core.store.vault());
    let begun = Replay::begin(pool, vault, SHADOW, &ALL, None, stop).await;
    begun.unwrap()
}

/// The columns, options, indexes and constraints of the read models in use.
async fn definition(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar(
        "SELECT concat_ws(' ', c.relname, c.reloptions, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
                          pg_get_expr(d.adbin, d.adrelid))
         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
         LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
         WHERE c.relnamespace = 'read'::regnamespace AND c.relkind = 'r'
         UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'read'
         UNION ALL SELECT concat_ws(' ', conrelid::regclass, conname, pg_get_constraintdef(oid)) FROM pg_constraint
         WHERE connamespace = 'read'::regnamespace
         ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_service_goes_on_while_its_read_models_are_switched() {
    let app = App::start().await;
    let conversation = some_life(&app).await;
    let chats = async {
        for n in 0..20 {
            app.chat("alice", &format!("message {n}"), Some(&conversation))
                .await;
            let (status, list) = app.get("alice", "/conversations").await;
            assert_eq!((status, &list["total"]), (200, &json!(1)), "{list}");
            let key = json!({"name": format!("key {n}")});
            let issue = app
                .request_by("alice", Method::POST, "/auth/api-keys")
                .json(&key);
            let key = expect(issue, 201).await["key"].as_str().unwrap().to_owned();
            let with_key = app
                .request(Method::GET, "/memories")
                .header("X-API-Key", key);
            expect(with_key, 200).await;
        }
    };
    let switches = async {
        for _ in 0..4 {
            let replayed = well(&app, &["replay", "all"]).await;
            assert_eq!(replayed["differences"], 0, "{replayed}");
        }
        for name in ["conversations", "memories", "api_keys"] {
            well(&app, &["replay", name]).await;
            well(&app, &["replay", "--rollback"]).await;
        }
    };
    tokio::join!(chats, switches);
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(messages.len(), 2 * 22);
    let found = well(&app, &["verify"]).await;
    assert_eq!(found["well"], true, "{found}");
}

#[tokio::test]
async fn what_differs_is_named_without_content_mended_and_can_be_taken_back() {
    let app = App::start().await;
    some_life(&app).await;
    let right = all_rows(&app).await;
    sqlx::query("UPDATE messages SET content = 'tampered' WHERE content LIKE '%greyhound%' AND role = 'user'")
        .execute(&app.core.pool)
        .await
        .unwrap();
    let alice = UserId::of(&ExternalUserId::parse("alice").unwrap());
    sqlx::query("DELETE FROM memory_streams WHERE user_id = $1")
        .bind(alice.0)
        .execute(&app.core.pool)
        .await
        .unwrap();
    let wrong = all_rows(&app).await;
    let (code, found) = run(&app, &["verify"]).await;
    assert_eq!((code, &found["well"]), (1, &json!(false)), "{found}");
    let of = |table: &str| {
        let tables = found["tables"].as_array().unwrap();
        tables.iter().find(|t| t["table"] == table).unwrap().clone()
    };
    assert_eq!(of("messages")["differences"], 1);
    assert_eq!(of("messages")["named"][0]["columns"], json!(["content"]));
    assert_eq!(of("memory_streams")["named"][0]["how"], "only copy");
    assert!(!found.to_string().contains("greyhound") && !found.to_string().contains("tampered"));
    // Of the other one nothing is wrong.
    let of_bob = well(&app, &["verify", "--user", "bob"]).await;
    assert_eq!(of_bob["well"], true, "{of_bob}");
    let (code, of_alice) = run(&app, &["verify", "--user", "alice"]).await;
    assert_eq!((code, &of_alice["well"]), (1, &json!(false)), "{of_alice}");
    let tried = well(&app, &["replay", "all", "--dry-run"]).await;
    assert_eq!(
        (&tried["switched"], all_rows(&app).await),
        (&json!(false), wrong.clone())
    );
    well(&app, &["replay", "all"]).await;
    assert_eq!(all_rows(&app).await, right);
    well(&app, &["verify"]).await;
    well(&app, &["replay", "--rollback"]).await;
    assert_eq!(all_rows(&app).await, wrong);
    well(&app, &["replay", "all", "--user", "bob"]).await;
    assert_eq!(all_rows(&app).await, wrong);
    well(&app, &["replay", "all", "--user", "alice"]).await;
    assert_eq!(all_rows(&app).await, right);
    well(&app, &["replay", "--discard"]).await;
    let (code, refused) = run(&app, &["replay", "--rollback"]).await;
    assert!(
        code != 0 && refused.to_string().contains("no former read models"),
        "{refused}"
    );
}

#[tokio::test]
async fn an_erasure_reaches_what_is_being_built_and_what_is_kept() {
    let app = App::start().await;
    some_life(&app).await;
    well(&app, &["replay", "all"]).await;
    let pool = &app.core.pool;
    let pages = Bounds {
        events: 3,
        bytes: 1 << 20,
    };
    let stop = CancellationToken::new();
    let mut taken = 0;
    let mut tell = |events| {
        taken += events;
        if taken > 8 {
            stop.cancel();
        }
    };
    let mut half = begin(&app, stop.clone()).await.in_pages_of(pages);
    half.fill(&mut tell).await.unwrap_err();
    drop(half);
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    let alice = UserId::of(&ExternalUserId::parse("alice").unwrap());
    for schema in ["read", SHADOW, FORMER] {
        for table in TABLES {
            let sql = format!("SELECT count(*) FROM {schema}.{table} WHERE user_id = $1");
            let left: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
                .bind(alice.0)
                .fetch_one(pool)
                .await
                .unwrap();
            assert_eq!(left, 0, "{schema}.{table}");
        }
    }
    app.chat("alice", "I am somebody else now.", None).await;
    app.settle().await;
    let replayed = well(&app, &["replay", "all"]).await;
    assert_eq!(replayed["differences"], 0, "{replayed}");
    let found = well(&app, &["verify"]).await;
    assert_eq!(found["well"], true, "{found}");
}

#[tokio::test]
async fn a_replay_that_is_cut_off_while_one_lane_is_ahead_goes_on_where_each_was() {
    let app = App::start().await;
    for user in ["alice", "bob", "carol", "dave"] {
        app.chat(user, "I have a greyhound.", None).await;
    }
    app.settle().await;
    let right = all_rows(&app).await;
    let pool = &app.core.pool;
    let page = Bounds {
        events: 1,
        bytes: 1 << 20,
    };
    let begun = begin(&app, CancellationToken::new()).await;
    let mut cut_off = begun.in_pages_of(page);
    let lanes = async || -> Vec<i64> {
        let lanes = "SELECT position FROM read_model_copy_lanes WHERE schema = $1 ORDER BY lane";
        let lanes = sqlx::query_scalar(lanes).bind(SHADOW).fetch_all(pool);
        lanes.await.unwrap()
    };
    // The second lane does not get at its checkpoint.
    let mut holder = pool.begin().await.unwrap();
    sqlx::query("SELECT FROM read_model_copy_lanes WHERE schema = $1 AND lane = 1 FOR UPDATE")
        .bind(SHADOW)
        .execute(&mut *holder)
        .await
        .unwrap();
    let filling = tokio::spawn(async move { cut_off.fill(&mut |_| {}).await });
    eventually(|| async {
        let lanes = lanes().await;
        let apart = lanes[0] > 0 && lanes[1] == 0;
        apart.then_some(()).ok_or(format!("{lanes:?}"))
    })
    .await;
    filling.abort();
    assert!(filling.await.unwrap_err().is_cancelled());
    holder.rollback().await.unwrap();

    let replayed = well(&app, &["replay", "all"]).await;
    assert_eq!(replayed["differences"], 0, "{replayed}");
    assert_eq!(all_rows(&app).await, right);
    let found = well(&app, &["verify"]).await;
    assert_eq!(found["well"], true, "{found}");
}

#[tokio::test]
async fn what_is_wrong_with_the_log_is_named() {
    let app = App::start().await;
    some_life(&app).await;
    let owner = sqlx::PgPool::connect(&database_url(&app)).await.unwrap();
    let run_sql = async |sql: &str| {
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&owner)
            .await
            .unwrap();
    };
    run_sql("UPDATE streams SET version = version + 1 WHERE stream_id LIKE 'user-%'").await;
    run_sql(
        "ALTER TABLE events DISABLE TRIGGER events_append_only;
             UPDATE events SET payload = payload || '\\x00' WHERE type = 'ReplyCompleted';
             ALTER TABLE events ENABLE TRIGGER events_append_only",
    )
    .await;
    run_sql("UPDATE checkpoints SET position = position + 1000 WHERE subscription = 'relay'").await;
    let (code, found) = run(&app, &["verify"]).await;
    assert_eq!(code, 1, "{found}");
    let problems = found["problems"].as_array().unwrap();
    let of = |check: &str| problems.iter().filter(|p| p["check"] == check).count();
    assert_eq!(
        (of("stream"), of("event"), of("checkpoint")),
        (2, 3, 1),
        "{found}"
    );
}

fn database_url(app: &App) -> String {
    app.variables["POSTGRES_URL"].clone()
}

#[tokio::test]
async fn a_row_that_was_there_before_stays_in_a_replay_too() {
    // Two imports of the same ids: the second is no news, in the service and in a replay.
    let app = App::start().await;
    let external = ExternalUserId::parse("carol").unwrap();
    let user = app.core.store.ensure_user(&external).await.unwrap();
    let message = companion_domain::ids::MessageId(Uuid::now_v7());
    for text in ["first", "second"] {
        let conversation = ConversationId(Uuid::now_v7());
        let imported = companion_domain::events::ImportedMessage {
            message_id: message,
            role: companion_domain::conversation::Role::User,
            name: None,
            content: text.to_owned(),
            created_at: chrono::Utc::now(),
            external_id: None,
        };
        let events = vec![
            (
                ConversationStarted {
                    conversation_id: conversation,
                    title: None,
                }
                .into(),
                Metadata::default(),
            ),
            (
                companion_domain::events::MessagesImported {
                    messages: vec![imported],
                    extract: false,
                }
                .into(),
                Metadata::default(),
            ),
        ];
        let stream = StreamId::conversation(conversation);
        let append = app
            .core
            .store
            .append(&stream, user, Expected::Version(0), events, None);
        append.await.unwrap();
    }
    app.settle().await;
    let replayed = well(&app, &["replay", "all"]).await;
    assert_eq!(replayed["differences"], 0, "{replayed}");
}

#[tokio::test]
async fn where_nothing_is_in_use_all_is_built_or_nothing_and_what_was_there_can_be_brought_up_to_date()
 {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    app.chat("alice", "hello", None).await;
    for part in [&["conversations"][..], &["all", "--user", "alice"]] {
        let refused = companion(&app.variables, &[&["replay"], part].concat()).await;
        let told = refused.refused();
        assert!(told.contains("companion replay all"), "{told}");
    }
    assert!(all_rows(&app).await.iter().all(Vec::is_empty));
    well(&app, &["replay", "all"]).await;
    let right = all_rows(&app).await;
    assert!(!right[0].is_empty());
    well(&app, &["replay", "--rollback"]).await;
    assert_eq!(all_rows(&app).await, right);
}

#[tokio::test]
async fn old_copies_are_dropped_unless_somebody_works_on_them() {
    let app = App::start().await;
    some_life(&app).await;
    well(&app, &["replay", "all"]).await;
    let pool = &app.core.pool;
    let is_there = async || -> bool {
        sqlx::query_scalar("SELECT to_regclass('read_former.messages') IS NOT NULL")
            .fetch_one(pool)
            .await
            .unwrap()
    };
    drop_old_copies(pool).await.unwrap();
    assert!(is_there().await, "one can go back to it");
    let working = alone(pool).await.unwrap();
    sqlx::query("UPDATE read_model_copies SET made_at = made_at - interval '8 days'")
        .execute(pool)
        .await
        .unwrap();
    drop_old_copies(pool).await.unwrap();
    assert!(is_there().await, "somebody works on it");
    working.close().await.unwrap();
    eventually(|| async {
        drop_old_copies(pool).await.unwrap();
        match is_there().await {
            false => Ok(()),
            true => Err("it is still there".to_owned()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_user_who_is_being_erased_is_nothing_wrong() {
    let app = App::start().await;
    some_life(&app).await;
    let (variables, llm) = app.stop().await;
    // Nobody sweeps.
    let app = App::start_api_only(variables, llm).await;
    let alice = UserId::of(&ExternalUserId::parse("alice").unwrap());
    Eraser::of(&app.core).begin(alice).await.unwrap();
    let job = NewJob {
        queue: queue::EMBED,
        payload: serde_json::to_vec(&json!({"user": alice, "events": []})).unwrap(),
        key: "waits".to_owned(),
        run_at: chrono::Utc::now(),
    };
    let mut connection = app.core.pool.acquire().await.unwrap();
    queue::insert(&mut connection, &[job]).await.unwrap();
    let found = well(&app, &["verify"]).await;
    assert_eq!(found["well"], true, "{found}");
}

#[tokio::test]
async fn a_replay_that_is_stopped_goes_on_and_only_another_replay_takes_its_place() {
    // Enough that, an event a page, no command is at its end before it is seen to have begun.
    const EVENTS: u64 = 4_000;
    let variables = with_log(EVENTS).await;
    let pool = PgPool::connect(&variables["POSTGRES_URL"]).await.unwrap();
    let at = async |schema: &str| -> Option<i64> {
        sqlx::query_scalar(
            "SELECT min(position) FROM read_model_copy_lanes WHERE schema = $1 GROUP BY schema",
        )
        .bind(schema)
        .fetch_optional(&pool)
        .await
        .unwrap()
    };
    let stop = async |schema: &str, more: &[&str]| {
        let arguments = [&["replay", "all", "--page", "1"], more].concat();
        let begun = async || at(schema).await.is_some_and(|position| position > 2);
        stopped(&variables, &arguments, begun).await.stopped()
    };
    let taken = async |arguments: &[&str]| {
        let arguments = [&["replay"], arguments, &["--json"]].concat();
        let ran = companion(&variables, &arguments).await;
        let told = ran.err.clone();
        (ran.json()["events"].as_u64().unwrap(), told)
    };

    let told = stop(SHADOW, &[]).await;
    assert!(told.contains("What is built is kept"), "{told}");
    let built = at(SHADOW).await;
    assert_eq!(taken(&["all", "--dry-run"]).await.0, EVENTS);
    assert_eq!(at(SHADOW).await, built, "a dry run has a copy of its own");
    let (went_on, _) = taken(&["all"]).await;
    assert!(went_on < EVENTS, "{went_on}");

    stop(SHADOW, &[]).await;
    assert_eq!(taken(&["all", "--restart"]).await.0, EVENTS);

    stop(SHADOW, &[]).await;
    let (_, told) = taken(&["conversations"]).await;
    assert!(told.contains("gives way to this one"), "{told}");

    let told = stop(ONE_USER, &["--user", "user-0"]).await;
    assert!(told.contains("Nothing is kept"), "{told}");
    assert_eq!(at(ONE_USER).await, None);
}
