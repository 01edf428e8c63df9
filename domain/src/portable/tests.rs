use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::redaction::Redaction;
use super::remapping::{ids, remap, replacement};
use super::survey::{Survey, Taken};
use super::*;
use crate::events::{
    MemoriesCleared, MemoryForgotten, MemoryRecorded, RecalledMemory, ReplyStarted,
};
use crate::ids::{MemoryId, MessageId, ReplyId, derived};
use crate::memory::{MAX_SOURCES, MemoryKind, Source};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("in range")
}

fn user() -> UserId {
    UserId(derived(&["u"]))
}

fn recorded(stream: StreamId, version: i64, event: Event) -> Recorded {
    Recorded {
        id: EventId(derived(&["event", stream.as_str(), &version.to_string()])),
        stream,
        version,
        position: version,
        user: user(),
        recorded_at: at(1_700_000_000 + version),
        metadata: Arc::new(Metadata {
            model: Some("m".to_owned()),
            traceparent: Some("00-secret".to_owned()),
            ..Metadata::default()
        }),
        event,
    }
}

/// Every event as its fixture has it, of every version ever written.
fn fixtures() -> Vec<(String, i16, Event)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/events");
    let mut fixtures = Vec::new();
    for entry in std::fs::read_dir(folder).expect("fixtures") {
        let path = entry.expect("entry").path();
        let stem = path.file_stem().and_then(|s| s.to_str()).expect("a name");
        let (name, version) = stem.split_once(".v").expect("NAME.vN.json");
        let version = version.parse().expect("a version");
        let stored = std::fs::read(&path).expect("read");
        let event = Event::from_payload(name, version, &stored).expect("readable");
        fixtures.push((name.to_owned(), version, event));
    }
    fixtures
}

fn stream_of(event: &Event) -> StreamId {
    match event.type_name() {
        name if name.starts_with("Memor") || name.starts_with("Extraction") => {
            StreamId::memory(user())
        }
        _ => StreamId::conversation(ConversationId(derived(&["c"]))),
    }
}

#[test]
fn what_is_written_is_read_as_it_was() {
    for (name, version, event) in fixtures() {
        let recorded = recorded(stream_of(&event), 7, event.clone());
        let portable = PortableEvent::of(&recorded, event).expect("portable");
        assert_eq!(portable.notes.traceparent, None);
        let line = String::from_utf8(portable.to_line().expect("written")).expect("UTF-8");
        let Ok(Read::Event(again)) = read(&line, 1) else {
            panic!("{name} {version}: {line}")
        };
        assert_eq!(*again, portable, "{name} {version}");
    }
}

#[test]
fn a_line_of_an_old_version_is_read_by_the_same_steps_as_the_log() {
    let stored = include_str!("../../fixtures/events/MemoryRevised.v1.json");
    let data: Value = serde_json::from_str(stored).expect("json");
    let line = json!({
        "stream": "memories", "version": 1, "event": "MemoryRevised", "schema": 1,
        "id": derived(&["e"]), "at": at(1), "data": data,
    });
    let Ok(Read::Event(event)) = read(&line.to_string(), 1) else {
        panic!("readable")
    };
    assert_eq!(event.event.schema_version(), 2);
}

#[test]
fn every_id_is_replaced_and_none_is_left() {
    for (name, _, event) in fixtures() {
        let recorded = recorded(stream_of(&event), 7, event.clone());
        let mut portable = PortableEvent::of(&recorded, event).expect("portable");
        let before = ids(&portable);
        remap(&mut portable, |id| Some(replacement(user(), id)));
        let after = ids(&portable);
        let expected: Vec<Uuid> = before.iter().map(|id| replacement(user(), *id)).collect();
        assert_eq!(after, expected, "{name}");
        let line = String::from_utf8(portable.to_line().expect("written")).expect("UTF-8");
        for id in before.iter().collect::<HashSet<_>>() {
            // Leases and keys are no ids of things; what is left of them is not the user's.
            assert!(!line.contains(&id.to_string()), "{name} still has {id}");
        }
    }
}

fn memory(name: &str) -> MemoryId {
    MemoryId(derived(&["memory", name]))
}

fn source(conversation: &str, message: &str) -> Source {
    Source {
        conversation_id: ConversationId(derived(&[conversation])),
        message_id: MessageId(derived(&[message])),
    }
}

fn told(name: &str, sources: Vec<Source>) -> Event {
    MemoryRecorded {
        memory_id: memory(name),
        content: name.to_owned(),
        kind: MemoryKind::Fact,
        importance: 0.5,
        explicit: false,
        sources,
        subject: None,
        occurred_at: None,
        valid_from: at(1),
        told_at: at(1),
        reason: "new".to_owned(),
    }
    .into()
}

#[test]
fn what_leaves_names_no_more_messages_than_may_come_in() {
    let named = |count: usize| {
        let sources = (0..count).map(|n| source("a", &n.to_string())).collect();
        told("told often", sources)
    };
    assert!(bounds::event(&named(MAX_SOURCES), at(2)).is_ok());
    let too_many = named(MAX_SOURCES + 1);
    assert!(bounds::event(&too_many, at(2)).is_err());
    let left = Redaction::default().apply(&recorded(StreamId::memory(user()), 1, too_many));
    let left = left.expect("it was not forgotten");
    assert_eq!(bounds::event(&left, at(2)), Ok(()));
}

#[test]
fn what_was_forgotten_leaves_nothing_behind() {
    let of = || StreamId::memory(user());
    let cleared = MemoriesCleared {
        conversation_id: ConversationId(derived(&["a"])),
        through_version: 9,
        forgotten: vec![memory("only there")],
        unsupported: vec![memory("there too"), memory("secret")],
    };
    let log = [
        recorded(of(), 1, told("secret", vec![source("b", "m1")])),
        recorded(of(), 2, told("only there", vec![source("a", "m2")])),
        recorded(
            of(),
            3,
            told("there too", vec![source("a", "m2"), source("b", "m3")]),
        ),
        recorded(of(), 4, cleared.into()),
        recorded(of(), 5, told("after", vec![source("a", "m4")])),
        recorded(
            of(),
            6,
            MemoryForgotten {
                memory_id: memory("secret"),
            }
            .into(),
        ),
    ];
    let mut redaction = Redaction::default();
    log.iter().for_each(|recorded| redaction.learn(recorded));
    let left: Vec<Event> = log.iter().filter_map(|r| redaction.apply(r)).collect();
    let sources = |event: &Event| match event {
        Event::MemoryRecorded(event) => event.sources.clone(),
        _ => Vec::new(),
    };
    assert_eq!(left.len(), 3);
    assert_eq!(
        sources(&left[0]),
        [source("b", "m3")],
        "the cleared one is not told"
    );
    assert_eq!(
        sources(&left[2]),
        [source("a", "m4")],
        "told after the clearing"
    );
    let all = format!("{left:?}");
    for gone in [memory("secret"), memory("only there")] {
        assert!(!all.contains(&gone.to_string()), "{all}");
    }
    let started = ReplyStarted {
        reply_id: ReplyId(derived(&["r"])),
        recalled: ["secret", "there too"]
            .map(|name| RecalledMemory {
                memory_id: memory(name),
                content: name.to_owned(),
                score: 1.0,
                similarity: 0.5,
            })
            .to_vec(),
        context_messages: 0,
    };
    let started = recorded(
        StreamId::conversation(ConversationId(derived(&["b"]))),
        3,
        started.into(),
    );
    let Some(Event::ReplyStarted(left)) = redaction.apply(&started) else {
        panic!("it stays")
    };
    assert_eq!(left.recalled.len(), 1);
}

#[test]
fn a_file_that_lost_its_end_or_a_line_is_known_as_one() {
    let header = json!({
        "format": FORMAT, "version": VERSION, "user": "u", "user_id": user(), "exported_at": at(1), "software": "0",
    });
    let event = recorded(StreamId::memory(user()), 1, told("a", Vec::new()));
    let event = PortableEvent::of(&event, event.event.clone()).expect("portable");
    let event = String::from_utf8(event.to_line().expect("written")).expect("UTF-8");
    let take = |lines: &[&str]| {
        let mut survey = Survey::new(at(2_000_000_000));
        for line in lines {
            survey.take(line)?;
        }
        Ok::<_, Fault>(survey)
    };
    let header = header.to_string();
    let whole = take(&[&header, "", &event, "{\"end\":1}", " "]).expect("whole");
    let contents = whole.finish(false).expect("whole");
    assert_eq!((contents.events, contents.memories), (1, 1));
    let cut = take(&[&header, &event]).expect("readable");
    assert!(cut.finish(false).is_err());
    assert!(
        take(&[&header, &event])
            .expect("readable")
            .finish(true)
            .is_ok()
    );
    for lines in [
        &[&header[..], "{\"end\":1}"][..],
        &[&header, &event, "{\"end\":1}", &event],
        &[&header, &event, &event],
        &[&header, &header],
        &[&event],
    ] {
        assert!(take(lines).is_err(), "{lines:?}");
    }
    let mut survey = Survey::new(at(2_000_000_000));
    assert!(matches!(survey.take(&header), Ok(Taken::Header(_))));
    let fault = survey.take("{").expect_err("broken");
    assert!(fault.malformed && fault.place == "line 2");
}
