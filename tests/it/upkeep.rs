//! What the upkeep of memories does: it keeps what is of use, merges what says the same, and marks what
//! has faded.

use chrono::{DateTime, TimeDelta, Utc};
use companion_adapters::log::event_store::Expected;
use companion_domain::events::{Event, MemoryRecorded, Metadata};
use companion_domain::ids::{
    ConversationId, ExternalUserId, MemoryId, MessageId, StreamId, UserId,
};
use companion_domain::memory::{MemoryKind, Source};
use companion_tests::app::App;
use companion_tests::eventually::eventually;
use companion_worker::upkeep::{Done, look_over};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::memory::{contents, list};

fn alice() -> UserId {
    UserId::of(&ExternalUserId::parse("alice").unwrap())
}

/// Looks all memories over now.
async fn upkeep(app: &App) -> Done {
    app.settle().await;
    let shutdown = CancellationToken::new();
    let done = look_over(&app.core, Utc::now(), &shutdown).await.unwrap();
    app.settle().await;
    done
}

/// The names of the events of the user's memory stream.
async fn log(app: &App) -> Vec<Event> {
    let stream = StreamId::memory(alice());
    let log = app.core.store.read_stream(&stream, 0).await.unwrap();
    log.into_iter().map(|recorded| recorded.event).collect()
}

async fn count(app: &App, name: &str) -> usize {
    let log = log(app).await;
    log.iter().filter(|event| event.type_name() == name).count()
}

fn days_ago(days: i64) -> DateTime<Utc> {
    Utc::now() - TimeDelta::days(days)
}

/// A fact told so many days ago, as it lies in the log.
fn fact(content: &str, told: i64) -> MemoryRecorded {
    MemoryRecorded {
        memory_id: MemoryId(Uuid::now_v7()),
        content: content.to_owned(),
        kind: MemoryKind::Fact,
        importance: 0.6,
        explicit: false,
        sources: vec![Source {
            conversation_id: ConversationId(Uuid::now_v7()),
            message_id: MessageId(Uuid::now_v7()),
        }],
        subject: None,
        occurred_at: None,
        valid_from: days_ago(told),
        told_at: days_ago(told),
        reason: "new".to_owned(),
    }
}

/// Appends memories past all that would have consolidated them.
async fn slip_through(app: &App, memories: &[&MemoryRecorded]) {
    let external = ExternalUserId::parse("alice").unwrap();
    let user = app.core.store.ensure_user(&external).await.unwrap();
    let events = memories
        .iter()
        .map(|memory| ((*memory).clone().into(), Metadata::default()))
        .collect();
    let stream = StreamId::memory(user);
    let appended = app
        .core
        .store
        .append(&stream, user, Expected::Any, events, None);
    appended.await.unwrap();
    app.settle().await;
}

async fn get(app: &App, memory: &MemoryRecorded) -> Value {
    let path = format!("/memories/{}", memory.memory_id);
    let (status, memory) = app.get("alice", &path).await;
    assert_eq!(status, 200, "{memory}");
    memory
}

#[tokio::test]
async fn what_has_lost_its_importance_fades_by_one_event() {
    let app = App::start().await;
    let old = fact("User lived in Rome", 4_000);
    let new = fact("User lives in Lisbon", 1);
    let mut asked_for = fact("User's passport is in the drawer", 4_000);
    asked_for.explicit = true;
    slip_through(&app, &[&old, &new, &asked_for]).await;
    assert_eq!(
        get(&app, &old).await["state"],
        "faded",
        "before anybody marks it"
    );
    assert_eq!(count(&app, "MemoryFaded").await, 0);

    assert_eq!(upkeep(&app).await.faded, 1);
    assert_eq!(upkeep(&app).await.faded, 0, "it has faded already");
    assert_eq!(count(&app, "MemoryFaded").await, 1);
    assert_eq!(get(&app, &old).await["state"], "faded");
    assert_eq!(get(&app, &new).await["state"], "live");
    assert_eq!(get(&app, &asked_for).await["state"], "live");
    let Some(Event::MemoryFaded(faded)) = log(&app).await.pop() else {
        panic!("faded")
    };
    assert!(faded.importance_now < 0.01 && faded.fade_below == 0.05);

    let again = json!({"content": "User lived in Rome", "kind": "fact"});
    assert_eq!(app.post("alice", "/memories", &again).await.0, 200);
    assert_eq!(get(&app, &old).await["state"], "live");
    assert_eq!(upkeep(&app).await.faded, 0);
}

#[tokio::test]
async fn of_two_processes_that_look_at_once_one_marks_what_has_faded() {
    let app = App::start().await;
    let many: Vec<MemoryRecorded> = (0..20)
        .map(|n| fact(&format!("User knew the number {n}"), 4_000))
        .collect();
    slip_through(&app, &many.iter().collect::<Vec<_>>()).await;
    let (one, other) = tokio::join!(upkeep(&app), upkeep(&app));
    assert_eq!(one.faded + other.faded, 20);
    assert_eq!(count(&app, "MemoryFaded").await, 20);
}

#[tokio::test]
async fn a_memory_of_which_replies_make_use_is_kept_and_one_that_is_only_recalled_is_not() {
    let app = App::start().await;
    let rex = fact("User has a dog named Rex", 300);
    let nuts = fact("User is allergic to peanuts", 300);
    slip_through(&app, &[&rex, &nuts]).await;
    let before = get(&app, &rex).await["importance_now"].as_f64().unwrap();
    app.llm
        .reply("How is Rex today? I am sure that the dog is fine.");
    for _ in 0..3 {
        app.chat("alice", "Good morning!", None).await;
        assert!(app.last_prompt().contains("peanuts"), "it is recalled, too");
    }
    assert_eq!(
        count(&app, "MemoriesRecalled").await,
        0,
        "no event for each reply"
    );
    assert_eq!(upkeep(&app).await.reused, 1);
    let Some(Event::MemoriesRecalled(recalled)) = log(&app).await.pop() else {
        panic!("recalled")
    };
    let used: Vec<_> = recalled
        .memories
        .iter()
        .map(|m| (m.memory_id, m.times))
        .collect();
    assert_eq!(used, [(rex.memory_id, 3)]);
    let after = get(&app, &rex).await;
    assert!(after["importance_now"].as_f64().unwrap() > before);
    assert_eq!(after["importance"], 0.6);
    let idle = get(&app, &nuts).await["importance_now"].as_f64().unwrap();
    assert!((idle - before).abs() < 0.001);

    assert_eq!(upkeep(&app).await.reused, 0, "once is enough");
    // It was not told again, so the prompt says when it was.
    let told = rex.told_at.format("%Y-%m-%d");
    app.chat("alice", "Good morning!", None).await;
    assert!(app.last_prompt().contains(&format!("Rex ({told})")));
}

#[tokio::test]
async fn a_new_home_is_newer_than_the_old_one_that_a_reply_spoke_of_since() {
    let app = App::start().await;
    app.chat("alice", "I live in Berlin", None).await;
    assert_eq!(app.memories("alice").await, ["User lives in Berlin"]);
    app.llm.reply("How do you like Berlin?");
    app.chat("alice", "Good morning!", None).await;
    assert_eq!(upkeep(&app).await.reused, 1);
    app.chat("alice", "I moved to Lisbon", None).await;
    assert_eq!(app.memories("alice").await, ["User lives in Lisbon"]);
}

#[tokio::test]
async fn memories_that_slipped_through_as_duplicates_are_merged_and_no_others() {
    let app = App::start().await;
    let (likes, loves) = (
        fact("User likes green tea", 9),
        fact("User loves green tea", 3),
    );
    let (dog, rex) = (
        fact("User has a dog", 3),
        fact("User has a dog named Rex", 9),
    );
    let (max, brother) = (
        fact("User has a dog named Max", 2),
        fact("User's brother is a doctor", 2),
    );
    let sister = fact("User's sister is a doctor", 2);
    slip_through(&app, &[&likes, &loves, &dog, &rex, &max, &brother, &sister]).await;
    upkeep(&app).await;
    let mut left = app.memories("alice").await;
    left.retain(|content| !content.contains("green tea"));
    assert_eq!(
        left,
        [
            "User has a dog named Max",
            "User has a dog named Rex",
            "User's brother is a doctor",
            "User's sister is a doctor"
        ]
    );
    assert_eq!(
        app.memories("alice").await.len(),
        5,
        "one of the two about tea"
    );
    let closed = get(&app, &dog).await;
    assert_eq!(closed["state"], "superseded");

    // What stays was strengthened before the other was closed, and has the sources of both.
    let log = log(&app).await;
    let place = |name: &str, id: MemoryId| {
        log.iter().position(|event| match event {
            Event::MemoryReinforced(event) => name == "kept" && event.memory_id == id,
            Event::MemoryRevised(event) => name == "kept" && event.memory_id == id,
            Event::MemorySuperseded(event) => name == "closed" && event.memory_id == id,
            _ => false,
        })
    };
    let survivor = MemoryId(closed["superseded_by"].as_str().unwrap().parse().unwrap());
    assert!(place("kept", survivor).unwrap() < place("closed", dog.memory_id).unwrap());
    let path = format!("/memories/{survivor}");
    let (_, survivor) = app.get("alice", &path).await;
    assert_eq!(survivor["sources"].as_array().unwrap().len(), 2);

    assert_eq!(upkeep(&app).await, Done::default(), "nothing is left to do");
}

#[tokio::test]
async fn two_values_of_what_can_have_only_one_are_settled_and_the_past_stays_answerable() {
    let app = App::start().await;
    let home = |place: &str, told: i64| {
        let mut memory = fact(&format!("User lives in {place}"), told);
        memory.subject = Some("home".to_owned());
        memory
    };
    let (berlin, lisbon) = (home("Berlin", 30), home("Lisbon", 3));
    slip_through(&app, &[&lisbon, &berlin]).await;
    let then = Utc::now().to_rfc3339().replace("+00:00", "Z");
    assert_eq!(upkeep(&app).await.merged, 1);
    assert_eq!(app.memories("alice").await, ["User lives in Lisbon"]);
    let closed = get(&app, &berlin).await;
    assert_eq!(closed["superseded_by"], json!(lisbon.memory_id));
    assert_eq!(list(&app, "alice", &format!("as_of={then}")).await.len(), 2);
}

#[tokio::test]
async fn the_upkeep_comes_by_itself() {
    let app = App::start_with(&[("MEMORY_UPKEEP_SECONDS", "1")]).await;
    slip_through(&app, &[&fact("User lived in Rome", 4_000)]).await;
    eventually(|| async {
        match count(&app, "MemoryFaded").await {
            1 => Ok(()),
            n => Err(format!("{n} faded")),
        }
    })
    .await;
    assert!(contents(&list(&app, "alice", "").await).is_empty());
}
