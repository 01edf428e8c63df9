//! The event log itself: nothing lost, nothing twice, nothing readable without its keys.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};

use companion_adapters::config::{Config, Secret};
use companion_adapters::core::Core;
use companion_adapters::database::connect;
use companion_adapters::log::event_store::{
    AppendError, Appended, EventStore, Expected, Idempotency,
};
use companion_adapters::log::subscription::{
    Checkpoint, move_checkpoint, read_page, take_checkpoint,
};
use companion_adapters::progress::heartbeat;
use companion_adapters::transaction;
use companion_adapters::vault::{Binding, Vault};
use companion_domain::events::{ConversationStarted, Event, Metadata, Recorded};
use companion_domain::ids::{ConversationId, EventId, ExternalUserId, StreamId, UserId};
use companion_tests::app::{App, MASTER_KEY, Variables, embedder};
use companion_tests::database;
use companion_tests::eventually::{eventually, within};
use futures_util::FutureExt;
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use sqlx::types::Json;
use uuid::Uuid;

/// The log of a fresh database.
async fn log() -> EventStore {
    open(&database::fresh().await).await
}

async fn open(url: &Secret) -> EventStore {
    let pool = connect(url, 24, true).await.unwrap();
    EventStore::new(pool, Vault::new(&Secret::new(MASTER_KEY)).unwrap())
}

async fn user(log: &EventStore, name: &str) -> UserId {
    log.ensure_user(&ExternalUserId::parse(name).unwrap())
        .await
        .unwrap()
}

fn stream() -> StreamId {
    StreamId::conversation(ConversationId(Uuid::now_v7()))
}

/// An event with a text in it.
fn event(text: &str) -> (Event, Metadata) {
    let conversation_id = ConversationId(Uuid::now_v7());
    (
        ConversationStarted {
            conversation_id,
            title: Some(text.to_owned()),
        }
        .into(),
        Metadata::default(),
    )
}

fn events(count: usize) -> Vec<(Event, Metadata)> {
    (0..count).map(|n| event(&n.to_string())).collect()
}

/// Reads the log as a subscription does, in pages, until it has seen as many events of conversations as are expected,
/// and then once more.
async fn read(log: &EventStore, limit: i64, expected: usize) -> Vec<Recorded> {
    let subscription = Uuid::now_v7().to_string();
    let (mut seen, mut complete) = (Vec::new(), false);
    loop {
        let mut transaction = log.pool().begin().await.unwrap();
        let checkpoint = take_checkpoint(&mut transaction, &subscription)
            .await
            .unwrap()
            .unwrap();
        let page = read_page(&mut transaction, log.vault(), checkpoint, limit)
            .await
            .unwrap();
        assert!(
            page.events.len() <= usize::try_from(limit).unwrap(),
            "a page is no longer than its limit"
        );
        let moved = move_checkpoint(&mut transaction, &subscription, page.after, page.next);
        assert!(moved.await.unwrap());
        transaction.commit().await.unwrap();
        let empty = page.events.is_empty();
        seen.extend(
            page.events
                .into_iter()
                .filter(|recorded| recorded.stream.as_conversation().is_some()),
        );
        if complete && empty {
            return seen;
        }
        complete = seen.len() >= expected;
        tokio::task::yield_now().await;
    }
}

/// Fails unless `seen` is every committed event once, each stream in its order.
fn assert_complete(seen: &[Recorded], committed: &HashSet<EventId>) {
    let distinct: HashSet<EventId> = seen.iter().map(|recorded| recorded.id).collect();
    assert_eq!(distinct.len(), seen.len(), "an event was read twice");
    assert_eq!(&distinct, committed, "what was read is what was appended");
    let mut versions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for recorded in seen {
        versions
            .entry(recorded.stream.as_str())
            .or_default()
            .push(recorded.version);
    }
    for (stream, versions) in versions {
        let in_order: Vec<i64> = (1..=i64::try_from(versions.len()).unwrap()).collect();
        assert_eq!(versions, in_order, "the versions of {stream}");
    }
}

async fn append(
    log: &EventStore,
    stream: &StreamId,
    user: UserId,
    expected: Expected,
) -> Result<Appended, AppendError> {
    log.append(stream, user, expected, events(1), None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_sees_every_event_once_and_in_order_while_twenty_writers_append() {
    const WRITERS: usize = 20;
    const APPENDS: usize = 25;
    let log = log().await;
    let mut streams = Vec::new();
    for name in ["ann", "bob", "cyd"] {
        let user = user(&log, name).await;
        streams.extend([(user, stream()), (user, stream())]);
    }
    let size = |writer: usize, n: usize| 1 + (writer * 7 + n * 3) % 5;
    let expected = (0..WRITERS)
        .flat_map(|writer| (0..APPENDS).map(move |n| size(writer, n)))
        .sum();
    let reader = tokio::spawn({
        let log = log.clone();
        async move { read(&log, 7, expected).await }
    });
    let writers = (0..WRITERS).map(|writer| {
        let (log, streams) = (log.clone(), streams.clone());
        tokio::spawn(async move {
            let mut ids = Vec::new();
            for n in 0..APPENDS {
                let (user, stream) = &streams[(writer + n) % streams.len()];
                ids.extend(
                    log.append(stream, *user, Expected::Any, events(size(writer, n)), None)
                        .await
                        .unwrap()
                        .ids,
                );
            }
            ids
        })
    });
    let committed = within("the writers", join_all(writers))
        .await
        .into_iter()
        .flat_map(Result::unwrap)
        .collect();
    assert_complete(
        &within("the reader to see all", reader).await.unwrap(),
        &committed,
    );
}

#[test]
fn whatever_the_sizes_of_batches_and_pages_every_event_is_read_once_and_in_order() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let url = runtime.block_on(database::fresh());
    let batches = prop::collection::vec((0usize..3, 1usize..9), 1..12);
    let mut runner = TestRunner::new(Runs {
        cases: 8,
        failure_persistence: None,
        ..Runs::default()
    });
    // Each run reads the log from its beginning, so what earlier runs appended counts too.
    let committed = RefCell::new(HashSet::new());
    runner
        .run(&(batches, 1i64..12), |(batches, limit)| {
            runtime.block_on(async {
                let log = open(&url).await;
                let owner = user(&log, "ann").await;
                let streams = [stream(), stream(), stream()];
                let appends = batches.iter().map(|(at, size)| {
                    let (log, stream) = (&log, &streams[*at]);
                    async move {
                        log.append(stream, owner, Expected::Any, events(*size), None)
                            .await
                            .unwrap()
                            .ids
                    }
                });
                let expected =
                    committed.borrow().len() + batches.iter().map(|(_, size)| size).sum::<usize>();
                let both = async { tokio::join!(join_all(appends), read(&log, limit, expected)) };
                let (appended, seen) = within("writers and reader", both).await;
                committed
                    .borrow_mut()
                    .extend(appended.into_iter().flatten());
                assert_complete(&seen, &committed.borrow());
                log.pool().close().await;
            });
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn an_append_that_is_not_committed_holds_the_reader_back() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let (slow, quick) = (stream(), stream());
    let key = log.vault().key(log.pool(), ann).await.unwrap();
    let (id, (begun, metadata)) = (Uuid::now_v7(), event("slow"));
    let binding = Binding {
        event_id: id,
        type_name: begun.type_name(),
        schema_version: begun.schema_version(),
    };
    let payload = key.seal(binding, &begun.to_payload().unwrap()).unwrap();
    let mut transaction = log.pool().begin().await.unwrap();
    let outcome: String = sqlx::query_scalar(
        "SELECT outcome FROM append_events($1, $2, $3, NULL, NULL, NULL, $4, $5, $6, $7, $8)",
    )
    .bind(slow.as_str())
    .bind(ann.0)
    .bind(key.id)
    .bind(vec![id])
    .bind(vec![begun.type_name()])
    .bind(vec![begun.schema_version()])
    .bind(vec![payload])
    .bind(vec![Json(metadata)])
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    assert_eq!(outcome, "appended");
    let committed = append(&log, &quick, ann, Expected::Version(0))
        .await
        .unwrap();

    let mut connection = log.pool().acquire().await.unwrap();
    let page = read_page(&mut connection, log.vault(), Checkpoint::default(), 100)
        .await
        .unwrap();
    let passed = page
        .events
        .iter()
        .filter(|recorded| recorded.stream.as_conversation().is_some())
        .count();
    assert_eq!(
        passed, 0,
        "the reader must not go past what may still be committed before"
    );
    drop(connection);

    transaction.commit().await.unwrap();
    let seen = within("both events", read(&log, 100, 2)).await;
    let ids: Vec<EventId> = seen.iter().map(|recorded| recorded.id).collect();
    assert_eq!(ids, [EventId(id), committed.ids[0]]);
}

#[tokio::test]
async fn an_append_that_is_rolled_back_leaves_nothing_and_holds_nobody_back() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let stream = stream();
    let mut transaction = log.pool().begin().await.unwrap();
    sqlx::query("INSERT INTO streams (stream_id, user_id, version) VALUES ($1, $2, 1)")
        .bind(stream.as_str())
        .bind(ann.0)
        .execute(&mut *transaction)
        .await
        .unwrap();
    transaction.rollback().await.unwrap();
    append(&log, &stream, ann, Expected::Version(0))
        .await
        .unwrap();
    assert_eq!(within("the event", read(&log, 100, 1)).await.len(), 1);
}

#[tokio::test]
async fn who_is_cut_off_while_a_transaction_begins_takes_nothing_along_that_is_written_after() {
    let url = database::fresh().await;
    let pool = connect(&url, 1, true).await.unwrap();
    heartbeat(&pool, Uuid::now_v7()).await.unwrap();
    eventually(|| async {
        let resting = pool.num_idle() == 1;
        resting.then_some(()).ok_or("it is in use".to_owned())
    })
    .await;
    let slow = "BEGIN; SELECT pg_sleep(0.1)";
    let begun = transaction::begin_with(&pool, slow).now_or_never();
    assert!(begun.is_none(), "it waits for the database");

    heartbeat(&pool, Uuid::now_v7()).await.unwrap();
    let others = connect(&url, 1, true).await.unwrap();
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM processes")
        .fetch_one(&others)
        .await
        .unwrap();
    assert_eq!(written, 2, "it is there for others too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_appends_with_one_idempotency_key_one_takes_place() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let stream = stream();
    let racing = (0..20).map(|_| {
        let (log, stream) = (log.clone(), stream.clone());
        tokio::spawn(async move {
            let key = Idempotency {
                key: "once",
                request_hash: b"the request",
            };
            log.append(&stream, ann, Expected::Any, events(2), Some(key))
                .await
                .unwrap()
        })
    });
    let appended: Vec<Appended> = join_all(racing)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        appended
            .iter()
            .filter(|appended| !appended.repeated)
            .count(),
        1
    );
    assert!(
        appended.iter().all(|appended| appended.version == 2),
        "a repeat is told what the first one did"
    );
    assert_eq!(log.read_stream(&stream, 0).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_idempotency_key_is_used_once_even_for_different_streams() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let racing = (0..20).map(|_| {
        let log = log.clone();
        tokio::spawn(async move {
            let key = Idempotency {
                key: "once",
                request_hash: b"the request",
            };
            let stream = stream();
            (
                log.append(&stream, ann, Expected::Version(0), events(1), Some(key))
                    .await
                    .unwrap(),
                stream,
            )
        })
    });
    let mut lengths = 0;
    for raced in join_all(racing).await {
        let (appended, stream) = raced.unwrap();
        let length = log.read_stream(&stream, 0).await.unwrap().len();
        assert_eq!(length, usize::from(!appended.repeated));
        lengths += length;
    }
    assert_eq!(lengths, 1);
}

#[tokio::test]
async fn an_idempotency_key_with_another_request_is_refused() {
    let log = log().await;
    let (ann, bob) = (user(&log, "ann").await, user(&log, "bob").await);
    let (mine, theirs) = (stream(), stream());
    let key = |request_hash| {
        Some(Idempotency {
            key: "k",
            request_hash,
        })
    };
    log.append(&mine, ann, Expected::Any, events(1), key(b"one"))
        .await
        .unwrap();
    let refused = log
        .append(&mine, ann, Expected::Any, events(1), key(b"two"))
        .await;
    assert!(
        matches!(refused, Err(AppendError::KeyReused)),
        "{refused:?}"
    );
    let other = log
        .append(&theirs, bob, Expected::Any, events(1), key(b"two"))
        .await
        .unwrap();
    assert!(!other.repeated, "a key is one user's");
    assert_eq!(log.read_stream(&mine, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_idempotency_key_is_free_again_after_a_conflict() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let stream = stream();
    let key = Some(Idempotency {
        key: "k",
        request_hash: b"one",
    });
    let conflict = log
        .append(&stream, ann, Expected::Version(5), events(1), key)
        .await;
    assert!(
        matches!(conflict, Err(AppendError::Conflict { actual: 0 })),
        "{conflict:?}"
    );
    assert!(
        !log.append(&stream, ann, Expected::Version(0), events(1), key)
            .await
            .unwrap()
            .repeated
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_appends_that_expect_one_version_one_wins() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let stream = stream();
    for version in [0, 1, 2] {
        let racing = (0..20).map(|_| {
            let (log, stream) = (log.clone(), stream.clone());
            tokio::spawn(
                async move { append(&log, &stream, ann, Expected::Version(version)).await },
            )
        });
        let results: Vec<_> = join_all(racing)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        let won = results.iter().filter(|result| result.is_ok()).count();
        let lost = |result: &&Result<Appended, AppendError>| matches!(result, Err(AppendError::Conflict { actual }) if *actual == version + 1);
        assert_eq!(
            (won, results.iter().filter(lost).count()),
            (1, 19),
            "{results:?}"
        );
    }
    assert_eq!(log.read_stream(&stream, 0).await.unwrap().len(), 3);
}

#[tokio::test]
async fn another_users_stream_takes_no_append() {
    let log = log().await;
    let (ann, mallory) = (user(&log, "ann").await, user(&log, "mallory").await);
    let stream = stream();
    append(&log, &stream, ann, Expected::Any).await.unwrap();
    for expected in [Expected::Any, Expected::Version(0), Expected::Version(1)] {
        let refused = append(&log, &stream, mallory, expected).await;
        assert!(
            matches!(refused, Err(AppendError::Conflict { .. })),
            "{refused:?}"
        );
    }
    assert_eq!(log.read_stream(&stream, 0).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_was_appended_can_not_be_changed_or_removed() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    append(&log, &stream(), ann, Expected::Any).await.unwrap();
    for change in [
        "UPDATE events SET type = 'Other'",
        "UPDATE events SET meta = '{}'",
        "DELETE FROM events",
        "TRUNCATE events",
        "TRUNCATE events CASCADE",
    ] {
        let refused = sqlx::query(change)
            .execute(log.pool())
            .await
            .unwrap_err()
            .to_string();
        assert!(refused.contains("append-only"), "{change}: {refused}");
    }
    assert_eq!(within("the event", read(&log, 10, 1)).await.len(), 1);
}

#[tokio::test]
async fn a_user_without_a_key_appends_nothing() {
    let log = log().await;
    let nobody = UserId::of(&ExternalUserId::parse("nobody").unwrap());
    let refused = append(&log, &stream(), nobody, Expected::Any).await;
    assert!(matches!(refused, Err(AppendError::NoUser)), "{refused:?}");

    let ann = user(&log, "ann").await;
    let stream = stream();
    append(&log, &stream, ann, Expected::Any).await.unwrap();
    sqlx::query("DELETE FROM user_keys WHERE user_id = $1")
        .bind(ann.0)
        .execute(log.pool())
        .await
        .unwrap();
    for _ in 0..2 {
        let refused = append(&log, &stream, ann, Expected::Any).await;
        assert!(
            matches!(refused, Err(AppendError::NoUser)),
            "a key in the cache is no key: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_user_who_comes_many_times_at_once_is_registered_once() {
    let log = log().await;
    let external = ExternalUserId::parse("ann").unwrap();
    let first = join_all((0..12).map(|_| log.ensure_user(&external))).await;
    let ann = UserId::of(&external);
    assert!(first.into_iter().all(|user| user.unwrap() == ann));
    let registered = log.read_stream(&StreamId::user(ann), 0).await.unwrap();
    assert_eq!(registered.len(), 1, "{registered:?}");
}

#[tokio::test]
async fn the_key_of_a_user_is_known_to_nobody_before_it_is_there() {
    let log = log().await;
    let external = ExternalUserId::parse("ann").unwrap();
    let ann = UserId::of(&external);
    let mut holder = log.pool().begin().await.unwrap();
    sqlx::query("LOCK TABLE events IN SHARE MODE")
        .execute(&mut *holder)
        .await
        .unwrap();
    let registering = tokio::spawn({
        let (log, external) = (log.clone(), external.clone());
        async move { log.ensure_user(&external).await }
    });
    eventually(|| async {
        let waits = database::waiting(log.pool(), "events").await;
        waits.first().map(drop).ok_or("it does not wait".to_owned())
    })
    .await;
    let early = log.life(ann).await;
    assert!(matches!(early, Err(AppendError::NoUser)));
    // Whoever asked has gone, and nothing came of it.
    registering.abort();
    holder.rollback().await.unwrap();
    log.ensure_user(&external).await.unwrap();
    append(&log, &stream(), ann, Expected::Version(0))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_user_says_can_not_be_read_in_the_log() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let stream = stream();
    log.append(
        &stream,
        ann,
        Expected::Any,
        vec![event("xylophone"), event("xylophone")],
        None,
    )
    .await
    .unwrap();
    let rows: Vec<(Vec<u8>, String)> = sqlx::query_as(
        "SELECT payload, events::text FROM events WHERE stream_id = $1 ORDER BY version",
    )
    .bind(stream.as_str())
    .fetch_all(log.pool())
    .await
    .unwrap();
    assert_eq!(rows.len(), 2);
    for (payload, row) in &rows {
        assert!(!payload.windows(9).any(|bytes| bytes == b"xylophone"));
        assert!(!row.contains("xylophone"), "{row}");
    }
    assert_ne!(
        rows[0].0, rows[1].0,
        "the same text is sealed differently each time"
    );
    let read = log.read_stream(&stream, 0).await.unwrap();
    assert!(
        matches!(&read[0].event, Event::ConversationStarted(begun) if begun.title.as_deref() == Some("xylophone"))
    );
}

#[tokio::test]
async fn a_payload_that_was_moved_to_another_event_is_not_opened() {
    let log = log().await;
    let ann = user(&log, "ann").await;
    let stream = stream();
    log.append(&stream, ann, Expected::Any, events(2), None)
        .await
        .unwrap();
    for forge in [
        "ALTER TABLE events DISABLE TRIGGER USER",
        "UPDATE events e SET payload = o.payload FROM events o
         WHERE e.stream_id = o.stream_id AND e.version = 1 AND o.version = 2",
    ] {
        sqlx::query(forge).execute(log.pool()).await.unwrap();
    }
    let read = log.read_stream(&stream, 0).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn a_database_that_was_filled_under_another_master_key_is_refused() {
    let app = App::start().await;
    app.chat("alice", "hello", None).await;
    let (mut variables, _llm): (Variables, _) = app.stop().await;
    let other = "CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=";
    variables.insert("COMPANION_MASTER_KEY".to_owned(), other.to_owned());
    let config = Config::from_variables(variables).unwrap();
    let model = embedder(&config).await;
    let error = Core::open_with(config, model)
        .await
        .err()
        .expect("refused")
        .to_string();
    assert!(
        error.contains("COMPANION_MASTER_KEY") && !error.contains('\n'),
        "{error}"
    );
    assert!(
        !error.contains(other) && !error.contains(MASTER_KEY),
        "{error}"
    );
}
