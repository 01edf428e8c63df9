//! Statements one after another, and what becomes of them.

#![allow(clippy::expect_used, reason = "a test may panic")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::ids::MessageId;

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

#[test]
fn a_fact_with_more_to_it_is_revised_and_names_its_messages() {
    let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
    let told = vec![
        (found("User has a dog", "m1", 1), vec![]),
        (found("User has a dog named Rex", "m2", 2), vec![]),
        (found("User has a dog", "m3", 3), vec![]),
    ];
    let events = consolidate(ids.0, ids.1, told, Vec::new()).events;
    let [Event::MemoryRecorded(first), Event::MemoryRevised(revised), Event::MemoryReinforced(again)] = events.as_slice()
    else {
        panic!("{events:?}")
    };
    assert_eq!(revised.content.as_deref(), Some("User has a dog named Rex"));
    assert_eq!(revised.sources[0].message_id, MessageId(derived(&["m2"])));
    assert_eq!((revised.memory_id, again.memory_id), (first.memory_id, first.memory_id));
}

#[test]
fn the_same_slot_with_the_same_value_is_the_same_fact() {
    let mut lives = found("User lives in Lisbon", "m1", 1);
    lives.subject = Some("home".to_owned());
    let mut since = found("User has lived in Lisbon since 2018", "m2", 2);
    since.subject = Some("home".to_owned());
    let events = decide(vec![(lives, vec![]), (since, vec![])]);
    assert_eq!(events, ["MemoryRecorded", "MemoryRevised"]);
}

#[test]
fn the_opposite_closes_what_was_said_before() {
    for (before, after) in [
        ("User likes tea", "User doesn't like tea"),
        ("User loves tea", "User hates tea"),
        ("User raucht", "User raucht nicht mehr"),
    ] {
        let events = decide(vec![(found(before, "m1", 1), vec![]), (found(after, "m2", 2), vec![])]);
        assert_eq!(events, ["MemoryRecorded", "MemoryRecorded", "MemorySuperseded"], "{after}");
    }
}

#[test]
fn what_is_told_as_more_important_becomes_so() {
    let mut asked = found("User likes tea", "m2", 2);
    (asked.explicit, asked.importance) = (true, 0.9);
    let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
    let told = vec![(found("User likes tea", "m1", 1), vec![]), (asked, vec![]), (found("User likes tea", "m3", 3), vec![])];
    let events = consolidate(ids.0, ids.1, told, Vec::new()).events;
    let [_, Event::MemoryRevised(raised), Event::MemoryReinforced(_)] = events.as_slice() else {
        panic!("{events:?}")
    };
    assert_eq!((raised.explicit, raised.importance, &raised.content), (Some(true), Some(0.9), &None));
}

#[test]
fn what_no_longer_held_and_is_told_again_is_a_new_memory() {
    let home = |place: &str, message, seconds| {
        let mut candidate = found(&format!("User lives in {place}"), message, seconds);
        candidate.subject = Some("home".to_owned());
        (candidate, vec![])
    };
    let told = vec![home("Berlin", "m1", 1), home("Lisbon", "m2", 2), home("Berlin", "m3", 3)];
    let mut world = World::default();
    world.read(told);
    let berlin: Vec<_> = world.0.iter().filter(|m| m.content.contains("Berlin")).collect();
    assert_eq!(berlin.iter().map(|m| m.closed).collect::<Vec<_>>(), [true, false]);
    assert_eq!(world.live().len(), 1);
}

#[test]
fn the_llm_is_believed_to_replace_only_what_its_statement_has_to_do_with() {
    let user = UserId(derived(&["u"]));
    let known = [
        ("User's name is Alice", vec![1.0, 0.0]),
        ("User lives in Berlin", vec![1.0, 0.1]),
        ("User works as a nurse", vec![1.0, 0.2]),
    ];
    let told: Vec<_> = known.iter().zip(1..).map(|((content, vector), n)| {
        let mut candidate = found(content, &format!("m{n}"), n);
        candidate.explicit = true;
        (candidate, vector.clone())
    }).collect();
    let replacing = |content: &str, vector: Vec<f32>| {
        let mut world = World::default();
        world.read(told.clone());
        let mut new = found(content, "m9", 9);
        new.replaces = told.iter().map(|(candidate, _)| memory_id(user, candidate)).collect();
        for (memory, (_, vector)) in world.0.iter_mut().zip(&known) {
            memory.vector.clone_from(vector);
        }
        world.read(vec![(new, vector)]);
        let closed = world.0.iter().filter(|memory| memory.closed);
        closed.map(|memory| memory.content.clone()).collect::<Vec<_>>()
    };
    assert_eq!(replacing("User likes tea", vec![0.0, 1.0]), Vec::<String>::new());
    assert_eq!(replacing("User left Berlin", vec![0.0, 1.0]), ["User lives in Berlin"], "a word");
    assert_eq!(replacing("User heals people", vec![-0.2, 1.0]), Vec::<String>::new());
    assert_eq!(replacing("User heals people", vec![1.0, 1.0]).len(), 3, "meaning");
    assert_eq!(replacing("User likes tea", vec![]).len(), 3, "it can't be told");
}

/// Something told of a slot.
fn of_slot(slot: &str, content: &str, message: &str, seconds: i64) -> (Candidate, Vec<f32>) {
    let mut candidate = found(content, message, seconds);
    candidate.subject = Some(slot.to_owned());
    (candidate, vec![])
}

#[test]
fn another_value_with_the_same_names_is_another_value() {
    for (slot, before, after) in [
        ("home", "User lives in New York", "User lives in York"),
        ("home", "User lives in Porto", "User lives in Porto Alegre"),
        ("home", "User lives in Porto Alegre", "User lives in Porto"),
        ("relationship", "User is married to Anna", "User is divorced from Anna"),
    ] {
        let events = decide(vec![of_slot(slot, before, "m1", 1), of_slot(slot, after, "m2", 2)]);
        assert_eq!(events, ["MemoryRecorded", "MemoryRecorded", "MemorySuperseded"], "{after}");
        // Read the other way round, the same is believed.
        let mut world = World::default();
        world.read(vec![of_slot(slot, after, "m2", 2)]);
        world.read(vec![of_slot(slot, before, "m1", 1)]);
        assert_eq!(world.live(), BTreeSet::from([after]));
    }
}

#[test]
fn an_older_wording_does_not_take_the_place_of_a_newer_one_but_what_it_adds_does() {
    for (newer, older, expected) in [
        ("User lives in Lisbon", "User has lived in Lisbon since 2018", "User lives in Lisbon"),
        ("User lives in Lisbon", "User lives in Lisbon with Anna", "User lives in Lisbon with Anna"),
    ] {
        let mut world = World::default();
        world.read(vec![of_slot("home", newer, "m2", 2)]);
        world.read(vec![of_slot("home", older, "m1", 1)]);
        assert_eq!(world.live(), BTreeSet::from([expected]));
        assert_eq!((world.0.len(), world.0[0].sources.len()), (1, 2));
    }
}

#[test]
fn an_end_that_is_read_before_what_it_ends_ends_it() {
    let works = |message, seconds| of_slot("employer", "User works at Acme", message, seconds);
    let quits = |message, seconds| {
        let mut quits = found("User quit their job at Acme", message, seconds);
        quits.kind = MemoryKind::Event;
        quits.negates = heuristics::read_statement(&quits.content).negates;
        assert_eq!(quits.negates.as_deref(), Some("User works at Acme"));
        (quits, vec![])
    };
    for (order, live) in [
        ([quits("m2", 2), works("m1", 1)], vec!["User quit their job at Acme"]),
        ([works("m1", 1), quits("m2", 2)], vec!["User quit their job at Acme"]),
        // Who begins again has quit all the same.
        ([quits("m1", 1), works("m2", 2)], vec!["User quit their job at Acme", "User works at Acme"]),
        ([works("m2", 2), quits("m1", 1)], vec!["User quit their job at Acme", "User works at Acme"]),
    ] {
        let mut world = World::default();
        for told in order {
            world.read(vec![told]);
        }
        assert_eq!(world.live(), BTreeSet::from_iter(live));
    }
    let mut world = World::default();
    world.read(vec![quits("m1", 1), works("m2", 2), quits("m3", 3)]);
    assert_eq!(world.live(), BTreeSet::from(["User quit their job at Acme"]), "quit again");
}

#[test]
fn days_with_other_labels_are_other_days() {
    let ran = |day: &str, message, hours: i64| {
        let mut ran = found(&format!("User ran 5 km (on {day})"), message, hours * 3_600);
        ran.kind = MemoryKind::Event;
        ran.occurred_at = Some(at(hours * 3_600));
        (ran, vec![1.0, 0.1])
    };
    let (evening, morning) = (ran("2026-05-08", "m1", 18), ran("2026-05-09", "m2", 31));
    assert_eq!(decide(vec![evening, morning]), ["MemoryRecorded", "MemoryRecorded"]);
    let (noon, evening) = (ran("2026-05-08", "m1", 12), ran("2026-05-08", "m2", 18));
    assert_eq!(decide(vec![noon, evening]), ["MemoryRecorded", "MemoryReinforced"]);
}

#[test]
fn things_on_different_days_are_different_events() {
    let ran = |message, day: i64| {
        let mut ran = found("User ran a marathon", message, day * 86_400 + 9);
        ran.kind = MemoryKind::Event;
        ran.occurred_at = Some(at(day * 86_400));
        (ran, vec![1.0, 0.1])
    };
    assert_eq!(decide(vec![ran("m1", 1), ran("m2", 1)]), ["MemoryRecorded", "MemoryReinforced"]);
    let mut other = ran("m2", 30);
    other.0.content = "User has run a marathon".to_owned();
    assert_eq!(decide(vec![ran("m1", 1), other]), ["MemoryRecorded", "MemoryRecorded"]);
}

/// What the events amount to.
#[derive(Debug, Clone, Default, PartialEq)]
struct World(Vec<Known>);

impl World {
    fn read(&mut self, candidates: Vec<(Candidate, Vec<f32>)>) {
        let ids = (UserId(derived(&["u"])), ConversationId(derived(&["c"])));
        for event in consolidate(ids.0, ids.1, candidates, self.0.clone()).events {
            self.evolve(event);
        }
    }

    fn evolve(&mut self, event: Event) {
        let memories = &mut self.0;
        match event {
            Event::MemoryRecorded(event) => memories.push(Known {
                id: event.memory_id,
                content: event.content,
                kind: event.kind,
                importance: event.importance,
                explicit: event.explicit,
                subject: event.subject,
                sources: event.sources,
                occurred_at: event.occurred_at,
                told_at: event.told_at,
                closed: false,
                vector: Vec::new(),
            }),
            Event::MemoryReinforced(event) => {
                let memory = memories.iter_mut().find(|m| m.id == event.memory_id).expect("known");
                memory.sources.extend(event.sources);
                memory.told_at = memory.told_at.max(event.reinforced_at);
            }
            Event::MemoryRevised(event) => {
                let memory = memories.iter_mut().find(|m| m.id == event.memory_id).expect("known");
                if let Some(content) = event.content {
                    (memory.content, memory.subject) = (content, event.subject);
                }
                memory.explicit = event.explicit.unwrap_or(memory.explicit);
                memory.importance = event.importance.unwrap_or(memory.importance);
                memory.sources.extend(event.sources);
                memory.told_at = memory.told_at.max(event.revised_at);
            }
            Event::MemorySuperseded(event) => {
                memories.iter_mut().find(|m| m.id == event.memory_id).expect("known").closed = true;
            }
            other => panic!("{other:?}"),
        }
    }

    fn live(&self) -> BTreeSet<&str> {
        let live = self.0.iter().filter(|memory| !memory.closed);
        live.map(|memory| memory.content.as_str()).collect()
    }
}

/// Something said in one of a few conversations, at a time of its own.
fn something_said() -> impl Strategy<Value = (&'static str, Option<&'static str>, bool)> {
    prop::sample::select(vec![
        ("User lives in Berlin", Some("home")),
        ("User lives in Lisbon", Some("home")),
        ("User lives in Porto", Some("home")),
        ("User no longer lives in Berlin", None),
        ("User likes tea", None),
        ("User doesn't like tea", None),
        ("User has a dog", None),
        ("User has a dog named Rex", None),
        ("User has a dog named Max", None),
        ("User has two sisters", None),
        ("User works at Acme", Some("employer")),
        ("User works at Globex", Some("employer")),
        ("User quit their job at Acme", None),
    ])
    .prop_flat_map(|(statement, slot)| (Just(statement), Just(slot), any::<bool>()))
}

/// What a job does: which conversation it reads on, how many messages, and whether it crashes before
/// its append, or reads again what it has read, as if it had not been told that it had.
type Step = (usize, usize, bool, bool);

const CONVERSATIONS: usize = 3;

/// The memories that are there when jobs have read everything in the order of these steps.
fn after(said: &[(&'static str, Option<&'static str>, bool)], steps: &[Step], faulty: bool) -> World {
    let message = |n: usize| {
        let (statement, slot, explicit) = said[n];
        let mut candidate = found(statement, &n.to_string(), i64::try_from(n).expect("few"));
        candidate.subject = slot.map(str::to_owned);
        candidate.negates = heuristics::read_statement(statement).negates;
        if statement.contains("quit") {
            candidate.kind = MemoryKind::Event;
        }
        candidate.explicit = explicit;
        (candidate, Vec::new())
    };
    let of = |conversation: usize| (0..said.len()).filter(move |n| n % CONVERSATIONS == conversation);
    let mut cursors = [0; CONVERSATIONS];
    let mut world = World::default();
    let rest = (0..CONVERSATIONS).map(|conversation| (conversation, said.len(), false, false));
    for (conversation, count, crashes, again) in steps.iter().copied().chain(rest) {
        let cursor = cursors[conversation];
        let portion: Vec<_> = of(conversation).skip(cursor).take(count).map(message).collect();
        if faulty && crashes {
            // What it decided is lost with it.
            world.clone().read(portion.clone());
        }
        cursors[conversation] += portion.len();
        world.read(portion.clone());
        if faulty && again {
            world.read(portion);
            world.read(of(conversation).take(cursor).map(message).collect());
        }
    }
    world
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0..CONVERSATIONS, 0usize..4, any::<bool>(), any::<bool>()), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn crashed_and_repeated_jobs_give_the_same_memories(
        said in prop::collection::vec(something_said(), 0..14), steps in steps(),
    ) {
        prop_assert_eq!(after(&said, &steps, true), after(&said, &steps, false));
    }

    #[test]
    fn any_interleaving_of_jobs_believes_the_same_in_the_end(
        said in prop::collection::vec(something_said(), 0..14), some in steps(), other in steps(),
    ) {
        let (some, other) = (after(&said, &some, false), after(&said, &other, true));
        prop_assert_eq!(some.live(), other.live());
    }
}
