//! However the jobs that read messages run into each other, the same is believed in the end.

use chrono::{TimeDelta, TimeZone, Utc};
use companion_adapters::queue::{self, ExtractJob, NewJob};
use companion_domain::ids::{ConversationId, ExternalUserId, UserId};
use companion_tests::app::App;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::memory::{contents, list};

const CONVERSATIONS: usize = 4;

/// What is said, in the order of its time; the n-th message belongs to the n-th conversation, in turn.
const SAID: &[&str] = &[
    "I live in Berlin",
    "I have a dog",
    "I love tea",
    "My name is Jon",
    "I have a dog named Rex",
    "I live in Lisbon",
    "My name is John",
    "I love tea",
    "I work at Acme",
    "I have a dog named Max",
    "I live in Porto",
    "Remember that I love tea",
    "I love tea",
    "I quit my job at Acme",
    "I have a sister named Ann",
    "I live in Porto",
    "I'm vegetarian",
    "I don't like tea any more",
    "I work at Globex",
    "I have a dog",
    "I have a sister named Beth",
    "I'm not vegetarian anymore",
    "I love tea",
    "My name is John",
];

fn conversation(n: usize) -> Value {
    let begin = Utc.with_ymd_and_hms(2026, 5, 13, 9, 0, 0).unwrap();
    let said = SAID
        .iter()
        .enumerate()
        .filter(|(at, _)| at % CONVERSATIONS == n);
    let messages: Vec<Value> = said
        .map(|(at, content)| {
            let at = begin + TimeDelta::minutes(i64::try_from(at).unwrap());
            json!({"role": "user", "content": content, "created_at": at.to_rfc3339()})
        })
        .collect();
    json!({ "messages": messages })
}

async fn import(app: &App, n: usize) -> ConversationId {
    let (status, imported) = app
        .post("alice", "/conversations/import", &conversation(n))
        .await;
    assert_eq!(status, 201, "{imported}");
    ConversationId(
        imported["conversation_id"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap(),
    )
}

async fn believed(app: &App) -> Vec<String> {
    let memories = list(app, "alice", "").await;
    let mut contents: Vec<String> = contents(&memories).into_iter().map(str::to_owned).collect();
    contents.sort();
    contents
}

#[tokio::test]
async fn jobs_that_run_at_once_again_and_out_of_order_believe_the_same() {
    let one_by_one = App::start_with(&[("MEMORY_EXTRACTION_METHOD", "heuristic")]).await;
    for n in 0..CONVERSATIONS {
        import(&one_by_one, n).await;
        one_by_one.settle().await;
    }
    let expected = believed(&one_by_one).await;
    assert!(
        expected.contains(&"User lives in Porto".to_owned()),
        "{expected:?}"
    );
    assert!(expected.len() >= 8, "{expected:?}");

    let at_once = App::start_with(&[("MEMORY_EXTRACTION_METHOD", "heuristic")]).await;
    let shutdown = CancellationToken::new();
    // Three processes' worth of workers on one log.
    let others: Vec<_> = (0..2)
        .map(|_| {
            tokio::spawn(companion_worker::run(
                at_once.core.clone(),
                shutdown.clone(),
            ))
        })
        .collect();
    let imports = (0..CONVERSATIONS).rev().map(|n| import(&at_once, n));
    let conversations = futures_util::future::join_all(imports).await;
    let user = UserId::of(&ExternalUserId::parse("alice").unwrap());
    for round in 0..5 {
        let jobs: Vec<NewJob> = conversations
            .iter()
            .map(|conversation| NewJob {
                queue: queue::EXTRACT,
                payload: serde_json::to_vec(&ExtractJob {
                    user,
                    conversation: *conversation,
                    through_version: 2 + round % 2,
                    traceparent: None,
                })
                .unwrap(),
                key: Uuid::now_v7().to_string(),
                run_at: Utc::now(),
            })
            .collect();
        let mut connection = at_once.core.pool.acquire().await.unwrap();
        queue::insert(&mut connection, &jobs).await.unwrap();
    }
    assert_eq!(believed(&at_once).await, expected);
    let (_, health) = at_once.get("alice", "/health").await;
    assert_eq!(health["workers"]["dead_jobs"], 0);
    shutdown.cancel();
    for other in others {
        other.await.unwrap().unwrap();
    }
}
