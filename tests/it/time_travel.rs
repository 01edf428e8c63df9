//! What was believed at a time is what the events up to that time say, without what is forgotten since.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use companion_adapters::log::event_store::Expected;
use companion_domain::events::{
    Event, MemoriesCleared, MemoryFaded, MemoryForgotten, MemoryRecorded, MemoryReinforced,
    MemoryRevised, MemorySuperseded, Metadata, Recorded,
};
use companion_domain::ids::{
    ConversationId, ExternalUserId, MemoryId, MessageId, StreamId, UserId, derived,
};
use companion_domain::memory::{Decay, MemoryKind, Source};
use companion_tests::app::App;
use companion_tests::log::Dice;
use serde_json::{Value, json};

use crate::memory::search;

const EVENTS: usize = 40;
const CONVERSATIONS: u64 = 3;

fn source(dice: &mut Dice, n: usize) -> Source {
    Source {
        conversation_id: ConversationId(derived(&["c", &dice.roll(CONVERSATIONS).to_string()])),
        message_id: MessageId(derived(&["m", &n.to_string()])),
    }
}

/// Something that may happen to memories, given those that there are; maybe to one that is gone.
fn happens(dice: &mut Dice, n: usize, known: &[MemoryId]) -> Event {
    let now = Utc::now();
    let told_at = now - TimeDelta::days(dice.roll(900) as i64);
    let sources = vec![source(dice, n)];
    let reason = "so".to_owned();
    let record = |memory_id| -> Event {
        MemoryRecorded {
            memory_id,
            content: format!("User drinks tea number {n}"),
            kind: MemoryKind::ALL[n % 4],
            importance: 0.6,
            explicit: n.is_multiple_of(7),
            sources: sources.clone(),
            subject: None,
            occurred_at: None,
            valid_from: told_at,
            told_at,
            reason: reason.clone(),
        }
        .into()
    };
    let new = MemoryId(derived(&["memory", &n.to_string()]));
    if known.is_empty() {
        return record(new);
    }
    let one = *dice.pick(known);
    match dice.roll(12) {
        0..=3 => record(new),
        4 | 5 => MemoryReinforced {
            memory_id: one,
            sources,
            reinforced_at: told_at,
            reason,
        }
        .into(),
        6 | 7 => MemoryRevised {
            memory_id: one,
            content: (dice.roll(2) == 0).then(|| format!("User drinks tea corrected {n}")),
            kind: None,
            importance: Some(0.9),
            explicit: None,
            occurred_at: None,
            subject: None,
            sources: Vec::new(),
            revised_at: now,
            reason,
        }
        .into(),
        8 | 9 => MemorySuperseded {
            memory_id: one,
            superseded_by: Some(*dice.pick(known)),
            valid_to: told_at,
            sources,
            reason,
        }
        .into(),
        10 => match dice.roll(2) {
            0 => MemoryForgotten { memory_id: one }.into(),
            _ => MemoryFaded {
                memory_id: one,
                importance_now: 0.01,
                fade_below: 0.05,
            }
            .into(),
        },
        _ => MemoriesCleared {
            conversation_id: ConversationId(derived(&["c", &dice.roll(CONVERSATIONS).to_string()])),
            through_version: 1,
            forgotten: Vec::new(),
            unsupported: known.to_vec(),
        }
        .into(),
    }
}

#[derive(Debug, Clone)]
struct Belief {
    content: String,
    kind: MemoryKind,
    state: &'static str,
    importance: f64,
    explicit: bool,
    sources: Vec<Source>,
    superseded_by: Option<MemoryId>,
    reinforced: DateTime<Utc>,
    version: i64,
}

type Beliefs = BTreeMap<MemoryId, Belief>;

fn evolve(beliefs: &mut Beliefs, recorded: &Recorded) {
    let version = recorded.version;
    match &recorded.event {
        Event::MemoryRecorded(event) => {
            beliefs.entry(event.memory_id).or_insert(Belief {
                content: event.content.clone(),
                kind: event.kind,
                state: "live",
                importance: event.importance,
                explicit: event.explicit,
                sources: event.sources.clone(),
                superseded_by: None,
                reinforced: event.told_at,
                version,
            });
        }
        Event::MemoryReinforced(event) => {
            let Some(belief) = beliefs.get_mut(&event.memory_id) else {
                return;
            };
            belief.sources.extend(&event.sources);
            belief.reinforced = belief.reinforced.max(event.reinforced_at);
            if belief.state == "faded" {
                belief.state = "live";
            }
            belief.version = version;
        }
        Event::MemoryRevised(event) => {
            let Some(belief) = beliefs.get_mut(&event.memory_id) else {
                return;
            };
            if let Some(content) = &event.content {
                belief.content.clone_from(content);
            }
            belief.importance = event.importance.unwrap_or(belief.importance);
            belief.reinforced = event.revised_at;
            if belief.state == "faded" {
                belief.state = "live";
            }
            belief.version = version;
        }
        Event::MemorySuperseded(event) => {
            let Some(belief) = beliefs.get_mut(&event.memory_id) else {
                return;
            };
            belief.state = "superseded";
            belief.superseded_by = event.superseded_by;
            belief.version = version;
        }
        Event::MemoryFaded(event) => {
            let Some(belief) = beliefs.get_mut(&event.memory_id) else {
                return;
            };
            if belief.state == "live" {
                belief.state = "faded";
                belief.version = version;
            }
        }
        Event::MemoriesCleared(event) => {
            for memory in &event.unsupported {
                let Some(belief) = beliefs.get_mut(memory) else {
                    continue;
                };
                belief
                    .sources
                    .retain(|s| s.conversation_id != event.conversation_id);
                belief.version = version;
            }
        }
        Event::MemoryForgotten(event) => {
            beliefs.remove(&event.memory_id);
        }
        other => panic!("{other:?}"),
    }
}

/// What was believed after each event, as it is told now.
fn beliefs(log: &[Recorded]) -> Vec<(DateTime<Utc>, Beliefs)> {
    let mut told = Vec::new();
    let mut now = Beliefs::new();
    for (n, recorded) in log.iter().enumerate() {
        evolve(&mut now, recorded);
        let mut then = now.clone();
        for later in &log[n + 1..] {
            match &later.event {
                Event::MemoryForgotten(event) => {
                    then.remove(&event.memory_id);
                }
                Event::MemoriesCleared(event) => {
                    for memory in &event.unsupported {
                        if let Some(belief) = then.get_mut(memory) {
                            belief
                                .sources
                                .retain(|s| s.conversation_id != event.conversation_id);
                        }
                    }
                }
                _ => {}
            }
        }
        let forgotten = |id: &MemoryId| {
            let gone =
                |r: &Recorded| matches!(&r.event, Event::MemoryForgotten(e) if e.memory_id == *id);
            // One that is recorded anew after that is another one.
            log.iter().any(gone)
        };
        for belief in then.values_mut() {
            belief.superseded_by = belief.superseded_by.filter(|id| !forgotten(id));
        }
        told.push((recorded.recorded_at, then));
    }
    told
}

/// A memory as a list shows it, as far as it is compared.
fn shown(id: MemoryId, belief: &Belief, at: DateTime<Utc>) -> Value {
    let decay = Decay::default();
    let left = decay.importance_now(
        belief.importance,
        belief.kind,
        belief.explicit,
        belief.reinforced,
        at,
    );
    let faded = belief.state == "live" && left < decay.fade_below;
    let sources: Vec<Value> = belief
        .sources
        .iter()
        .map(|s| json!({"conversation_id": s.conversation_id, "message_id": s.message_id, "external_id": null}))
        .collect();
    json!({
        "id": id, "content": belief.content, "kind": belief.kind, "state": if faded { "faded" } else { belief.state },
        "importance": belief.importance, "sources": sources, "superseded_by": belief.superseded_by,
        "version": belief.version,
    })
}

fn pick(memory: &Value) -> Value {
    let names = [
        "id",
        "content",
        "kind",
        "state",
        "importance",
        "sources",
        "superseded_by",
        "version",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), memory[name].clone()))
        .collect()
}

async fn listed(app: &App, query: &str) -> Vec<Value> {
    let (status, list) = app
        .get("alice", &format!("/memories?limit=200&{query}"))
        .await;
    assert_eq!(status, 200, "{list}");
    let mut memories: Vec<Value> = list["memories"]
        .as_array()
        .unwrap()
        .iter()
        .map(pick)
        .collect();
    memories.sort_by_key(|memory| memory["id"].to_string());
    memories
}

#[tokio::test]
async fn what_was_believed_at_a_time_follows_from_the_events_until_then() {
    let user = UserId::of(&ExternalUserId::parse("alice").unwrap());
    for seed in [20_261_124, 0x5eed] {
        let app = App::start_with(&[("RATE_LIMIT_REQUESTS_PER_MINUTE", "10000")]).await;
        let store = &app.core.store;
        store
            .ensure_user(&ExternalUserId::parse("alice").unwrap())
            .await
            .unwrap();
        let stream = StreamId::memory(user);
        let (mut dice, mut known) = (Dice::new(seed), Vec::new());
        for n in 0..EVENTS {
            let event = happens(&mut dice, n, &known);
            match &event {
                Event::MemoryRecorded(event) => known.push(event.memory_id),
                Event::MemoryForgotten(event) => known.retain(|id| *id != event.memory_id),
                _ => {}
            }
            let events = vec![(event, Metadata::default())];
            store
                .append(&stream, user, Expected::Any, events, None)
                .await
                .unwrap();
        }
        app.settle().await;
        let log = store.read_stream(&stream, 0).await.unwrap();
        // What a job appended meanwhile is no part of it.
        let log = &log[..EVENTS];
        let before = log[0].recorded_at - TimeDelta::microseconds(1);
        assert!(
            listed(&app, &format!("as_of={}&include_inactive=true", at(before)))
                .await
                .is_empty()
        );
        for (time, beliefs) in beliefs(log) {
            let mut expected: Vec<Value> = beliefs
                .iter()
                .map(|(id, belief)| shown(*id, belief, time))
                .collect();
            expected.sort_by_key(|memory| memory["id"].to_string());
            let all = listed(&app, &format!("as_of={}&include_inactive=true", at(time))).await;
            assert_eq!(all, expected, "seed {seed}, {time}");
            expected.retain(|memory| memory["state"] == "live");
            assert_eq!(listed(&app, &format!("as_of={}", at(time))).await, expected);
            let body = json!({"query": "drinks tea", "as_of": time, "top_k": 100});
            let found = search(&app, "alice", body).await;
            assert_eq!(found.is_empty(), expected.is_empty());
            for one in found {
                let same = |m: &Value| m["id"] == one["id"] && m["content"] == one["content"];
                assert!(expected.iter().any(same), "seed {seed}, {time}: {one}");
            }
        }
    }
}

fn at(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
