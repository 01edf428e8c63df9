//! Statements one after another, and what becomes of them.

#![allow(clippy::expect_used, reason = "a test may panic")]

use super::*;
use crate::ids::MessageId;
use crate::memory::MemoryKind;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("in range")
}

fn found(content: &str, message: &str, seconds: i64) -> Candidate {
    Candidate {
        content: content.to_owned(),
        kind: MemoryKind::Fact,
        importance: 0.5,
        explicit: false,
        sources: vec![MessageId(derived(&[message]))],
        said_at: at(seconds),
        occurred_at: None,
        subject: None,
        negates: None,
        replaces: Vec::new(),
        by_patterns: false,
    }
}

fn decide(candidates: Vec<(Candidate, Vec<f32>)>) -> Vec<&'static str> {
    let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
    consolidate(ids.0, ids.1, candidates, Vec::new())
        .events
        .iter()
        .map(Event::type_name)
        .collect()
}

#[test]
fn the_same_fact_told_again_is_reinforced() {
    let events = decide(vec![
        (found("User loves tea", "m1", 1), vec![]),
        (found("user loves tea.", "m2", 2), vec![]),
    ]);
    assert_eq!(events, ["MemoryRecorded", "MemoryReinforced"]);
}

#[test]
fn the_same_message_says_a_thing_once() {
    let twice = vec![
        (found("User loves tea", "m1", 1), vec![]),
        (found("user loves TEA", "m1", 1), vec![]),
    ];
    assert_eq!(decide(twice), ["MemoryRecorded"]);
}

#[test]
fn other_words_for_one_fact_are_one_memory() {
    let events = decide(vec![
        (found("User loves tea", "m1", 1), vec![1.0, 0.1]),
        (found("User is fond of tea", "m2", 2), vec![1.0, 0.12]),
    ]);
    assert_eq!(events, ["MemoryRecorded", "MemoryReinforced"]);
}

#[test]
fn facts_that_merely_resemble_each_other_both_stay() {
    for (a, b) in [
        ("User has a dog named Rex", "User has a dog named Max"),
        ("User's sister Ann is a vet", "User's sister Beth is a vet"),
        ("User has 2 children", "User has 3 children"),
    ] {
        let events = decide(vec![
            (found(a, "m1", 1), vec![1.0, 0.1]),
            (found(b, "m2", 2), vec![1.0, 0.11]),
        ]);
        assert_eq!(events, ["MemoryRecorded", "MemoryRecorded"], "{b}");
    }
}

#[test]
fn a_new_value_for_a_slot_supersedes_the_old_one() {
    let home = |place: &str, message, seconds| {
        let mut candidate = found(&format!("User lives in {place}"), message, seconds);
        candidate.subject = Some("home".to_owned());
        (candidate, vec![])
    };
    let events = decide(vec![home("Berlin", "m1", 1), home("Lisbon", "m2", 2)]);
    assert_eq!(
        events,
        ["MemoryRecorded", "MemoryRecorded", "MemorySuperseded"]
    );
}

#[test]
fn an_older_statement_read_later_does_not_replace_a_newer_one() {
    let home = |place: &str, message, seconds| {
        let mut candidate = found(&format!("User lives in {place}"), message, seconds);
        candidate.subject = Some("home".to_owned());
        (candidate, vec![])
    };
    let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
    let (lisbon, berlin) = (home("Lisbon", "m2", 2), home("Berlin", "m1", 1));
    let decision = consolidate(ids.0, ids.1, vec![lisbon, berlin], Vec::new());
    let Some(Event::MemoryRecorded(lisbon)) = decision.events.first() else {
        panic!("recorded")
    };
    let Some(Event::MemorySuperseded(closed)) = decision.events.last() else {
        panic!("closed")
    };
    assert_eq!(closed.superseded_by, Some(lisbon.memory_id));
    assert_eq!(closed.valid_to, at(2));
}

#[test]
fn a_correction_about_the_past_replaces_what_was_told_before_it() {
    let mut then = found("User works at Acme", "m1", 10);
    then.subject = Some("employer".to_owned());
    let mut now = found("User works at Globex", "m2", 20);
    now.subject = Some("employer".to_owned());
    now.occurred_at = Some(at(5));
    let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
    let decision = consolidate(
        ids.0,
        ids.1,
        vec![(then, vec![]), (now, vec![])],
        Vec::new(),
    );
    let Some(Event::MemoryRecorded(first)) = decision.events.first() else {
        panic!("recorded")
    };
    let Some(Event::MemorySuperseded(closed)) = decision.events.last() else {
        panic!("closed")
    };
    assert_eq!(closed.memory_id, first.memory_id);
}

#[test]
fn what_is_over_is_closed() {
    let mut over = found("User no longer works at Acme", "m2", 2);
    over.negates = Some("User works at Acme".to_owned());
    let events = decide(vec![
        (found("User works at Acme", "m1", 1), vec![]),
        (over, vec![]),
    ]);
    assert_eq!(
        events,
        ["MemoryRecorded", "MemoryRecorded", "MemorySuperseded"]
    );
}
