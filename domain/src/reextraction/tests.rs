use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;
use crate::by_hand::WRITTEN_DOWN;
use crate::events::{Event, MemoryForgotten, MemoryRecorded, MemorySuperseded};
use crate::extraction::{Candidate, SaidMessage};
use crate::ids::{ConversationId, MemoryId, MessageId, UserId, derived};
use crate::memory::{MemoryKind, Source};
use crate::text;

const RUN: &str = "20260102T030405Z";

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).expect("in range")
}

fn user() -> UserId {
    UserId(derived(&["u"]))
}

fn conversation() -> ConversationId {
    ConversationId(derived(&["c"]))
}

fn message(n: u8) -> MessageId {
    MessageId(derived(&["m", &n.to_string()]))
}

fn all_messages() -> HashSet<MessageId> {
    (0..10).map(message).collect()
}

fn candidate(content: &str, from: u8, subject: Option<&str>) -> Candidate {
    Candidate {
        content: content.to_owned(),
        kind: MemoryKind::Fact,
        importance: 0.5,
        explicit: false,
        sources: vec![message(from)],
        said_at: at(i64::from(from)),
        occurred_at: None,
        subject: subject.map(str::to_owned),
        negates: None,
        replaces: Vec::new(),
        by_patterns: false,
    }
}

/// Vectors by the words of a statement: the more words in common, the nearer.
fn vectors() -> Vectors {
    const WORDS: [&str; 10] = [
        "tea", "coffee", "berlin", "lisbon", "dog", "rex", "likes", "loves", "home", "anna",
    ];
    let vector = |content: &str| -> Vec<f32> {
        let words = text::words(content);
        let has = |word: &str| words.iter().any(|w| w == word);
        let weight = |n: usize| if n < 6 { 2.0 } else { 1.0 };
        let numbers = WORDS.iter().enumerate();
        numbers
            .map(|(n, word)| if has(word) { weight(n) } else { 0.0 })
            .collect()
    };
    STATEMENTS
        .iter()
        .map(|(content, _)| ((*content).to_owned(), vector(content)))
        .collect()
}

const STATEMENTS: [(&str, Option<&str>); 8] = [
    ("User likes tea", None),
    ("User loves tea", None),
    ("User likes coffee", None),
    ("User has a home in Berlin", Some("home")),
    ("User has a home in Lisbon", Some("home")),
    ("User has a dog", None),
    ("User has a dog, Rex", None),
    ("User knows Anna", None),
];

/// What is believed after messages gave these statements.
fn believed_after(found: &[Candidate], vectors: &Vectors) -> Beliefs {
    let mut shadow = Shadow::new(
        user(),
        &Beliefs::default(),
        &all_messages(),
        vectors.clone(),
    );
    for candidate in found {
        shadow.take(&read(std::slice::from_ref(candidate)));
    }
    Beliefs {
        version: 1,
        ..shadow.beliefs
    }
}

fn read(candidates: &[Candidate]) -> Read {
    Read {
        conversation: conversation(),
        candidates: candidates.to_vec(),
    }
}

fn differ(run: &str, believed: &Beliefs, found: &[Candidate], vectors: &Vectors) -> Difference {
    let all = all_messages();
    let mut shadow = Shadow::new(user(), believed, &all, vectors.clone());
    for candidate in found {
        shadow.take(&read(std::slice::from_ref(candidate)));
    }
    difference(run, believed, &all, &shadow)
}

fn apply(believed: &mut Beliefs, events: &[Event]) {
    for event in events {
        believed.evolve(event, at(100));
    }
}

/// The statements that are live, each with how often.
fn live(believed: &Beliefs) -> BTreeMap<String, u32> {
    let mut live = BTreeMap::new();
    for (_, belief) in believed.live() {
        *live
            .entry(text::normal_form(&belief.memory.content))
            .or_default() += 1;
    }
    live
}

fn contents(memories: impl IntoIterator<Item = MemoryRecorded>) -> Vec<String> {
    memories.into_iter().map(|m| m.content).collect()
}

fn forget(believed: &mut Beliefs, content: &str) {
    let id = believed
        .live()
        .find(|(_, belief)| belief.memory.content == content)
        .map(|(id, _)| *id)
        .expect("it is believed");
    let event = MemoryForgotten { memory_id: id };
    believed.evolve(&event.into(), at(50));
}

fn written(content: &str, sources: Vec<Source>) -> Event {
    MemoryRecorded {
        memory_id: MemoryId(derived(&["written", content])),
        content: content.to_owned(),
        kind: MemoryKind::Fact,
        importance: 0.5,
        explicit: false,
        sources,
        subject: None,
        occurred_at: None,
        valid_from: at(60),
        told_at: at(60),
        reason: WRITTEN_DOWN.to_owned(),
    }
    .into()
}

#[test]
fn what_is_found_again_stays_and_the_rest_is_added_changed_or_gone() {
    let vectors = vectors();
    let first = [
        candidate("User likes tea", 1, None),
        candidate("User has a dog", 2, None),
        candidate("User knows Anna", 3, None),
    ];
    let second = [
        candidate("user likes tea.", 1, None),
        candidate("User has a dog, Rex", 2, None),
        candidate("User likes coffee", 4, None),
    ];
    let believed = believed_after(&first, &vectors);
    let difference = differ(RUN, &believed, &second, &vectors);
    assert_eq!(difference.kept, 1);
    let changed = difference.changed.iter().map(|c| c.memory.clone());
    assert_eq!(contents(changed), ["User has a dog, Rex"]);
    let added = difference.added.iter().map(|a| a.memory.clone());
    assert_eq!(contents(added), ["User likes coffee"]);
    let gone = difference.gone.iter().map(|g| g.old.clone());
    assert_eq!(contents(gone), ["User knows Anna"]);
    let names: Vec<_> = difference
        .events(RUN, at(100))
        .iter()
        .map(Event::type_name)
        .collect();
    assert_eq!(
        names,
        [
            "MemoryRecorded",
            "MemoryRecorded",
            "MemorySuperseded",
            "MemorySuperseded"
        ]
    );
}

#[test]
fn what_the_user_forgot_does_not_come_back_in_these_words_or_others() {
    let vectors = vectors();
    let first = [candidate("User likes tea", 1, None)];
    let mut believed = believed_after(&first, &vectors);
    forget(&mut believed, "User likes tea");
    for found in [
        candidate("User likes tea", 1, None),
        candidate("User loves tea", 1, None),
        // The message that it rested on gives nothing any more.
        candidate("User knows Anna", 1, None),
        // Said elsewhere before it was forgotten.
        candidate("User likes tea", 2, None),
    ] {
        let difference = differ(RUN, &believed, std::slice::from_ref(&found), &vectors);
        assert_eq!(difference.added, [], "{found:?}");
        assert_eq!(difference.left_out.values().sum::<u32>(), 1);
    }
    // Told again after that, it is news.
    let mut again = candidate("User likes tea", 9, None);
    again.said_at = at(70);
    assert_eq!(differ(RUN, &believed, &[again], &vectors).added.len(), 1);
}

#[test]
fn what_the_user_wrote_stays_whatever_the_messages_say() {
    let vectors = vectors();
    let mut believed = Beliefs::default();
    let source = Source {
        conversation_id: conversation(),
        message_id: message(1),
    };
    believed.evolve(&written("User likes tea", vec![source]), at(60));
    let mut against = candidate("User prefers coffee to tea", 2, None);
    against.replaces = believed.memories.keys().copied().collect();
    against.said_at = at(70);
    let same_message = candidate("User loves tea", 1, None);
    let difference = differ(RUN, &believed, &[against, same_message], &vectors);
    assert_eq!(difference.events(RUN, at(100)), []);
    // To love tea is to like it: that was told already.
    assert_eq!(difference.left_out.values().sum::<u32>(), 1);
    assert_eq!(difference.untouched, 1);
}

#[test]
fn a_move_that_was_missed_ends_the_former_home() {
    let vectors = vectors();
    let berlin = candidate("User has a home in Berlin", 1, Some("home"));
    let lisbon = candidate("User has a home in Lisbon", 2, Some("home"));
    let believed = believed_after(std::slice::from_ref(&berlin), &vectors);
    let difference = differ(RUN, &believed, &[berlin, lisbon], &vectors);
    let [added] = difference.added.as_slice() else {
        panic!("one is new")
    };
    let [gone] = difference.gone.as_slice() else {
        panic!("one is gone")
    };
    assert_eq!(gone.ended, Some((added.memory.memory_id, at(2))));
}

#[test]
fn what_was_merged_with_another_memory_is_not_found_beside_it_again() {
    let vectors = vectors();
    let both = [
        candidate("User likes tea", 1, None),
        candidate("User likes coffee", 2, None),
    ];
    let mut believed = believed_after(&both, &vectors);
    let [goes, stays] = ["User likes tea", "User likes coffee"].map(|content| {
        let mut live = believed.live();
        let found = live.find(|(_, belief)| belief.memory.content == content);
        *found.expect("it is believed").0
    });
    let merged = MemorySuperseded {
        memory_id: goes,
        superseded_by: Some(stays),
        valid_to: at(50),
        sources: Vec::new(),
        reason: "the same fact as another memory".to_owned(),
    };
    believed.evolve(&merged.into(), at(50));
    let difference = differ(RUN, &believed, &both, &vectors);
    assert_eq!(difference.events(RUN, at(100)), []);
    assert_eq!((difference.kept, difference.left_out.len()), (1, 1));
}

#[test]
fn a_rollback_leaves_alone_what_the_user_touched_since() {
    let vectors = vectors();
    let first = [candidate("User has a dog", 2, None)];
    let second = [candidate("User has a dog, Rex", 2, None)];
    let mut believed = believed_after(&first, &vectors);
    let difference = differ(RUN, &believed, &second, &vectors);
    apply(&mut believed, &difference.events(RUN, at(100)));
    let mut forgotten = believed.clone();
    forget(&mut forgotten, "User has a dog, Rex");
    assert_eq!(roll_back(RUN, &forgotten).events(RUN, at(200)), []);
    let back = roll_back(RUN, &believed);
    assert_eq!(contents(back.restored.clone()), ["User has a dog"]);
    apply(&mut believed, &back.events(RUN, at(200)));
    assert_eq!(roll_back(RUN, &believed), RolledBack::default(), "once");
}

#[test]
fn messages_are_read_together_up_to_a_pause_and_in_the_order_in_which_they_came() {
    let said = |conversation: &str, version: i64, minute: i64, position: i64| Said {
        message: SaidMessage {
            id: MessageId(derived(&[conversation, &version.to_string()])),
            content: "hello".to_owned(),
            at: at(minute * 60),
            zone: chrono_tz::Tz::UTC,
        },
        conversation: ConversationId(derived(&[conversation])),
        version,
        position,
    };
    let portions = portions(vec![
        said("b", 1, 0, 1),
        said("a", 1, 1, 2),
        said("b", 3, 2, 3),
        said("a", 3, 60, 4),
    ]);
    let versions: Vec<_> = portions.iter().map(|p| p.versions.clone()).collect();
    assert_eq!(versions, [vec![1], vec![1, 3], vec![3]]);
}

fn arbitrary_candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0..STATEMENTS.len(), 0u8..8).prop_map(|(n, from)| {
        let (content, subject) = STATEMENTS[n];
        candidate(content, from, subject)
    });
    prop::collection::vec(one, 0..8)
}

proptest! {
    #[test]
    fn applied_a_difference_leaves_none_and_rolled_back_all_is_as_before(
        first in arbitrary_candidates(), second in arbitrary_candidates(), forgets in 0usize..3, writes in 0usize..3,
    ) {
        let vectors = vectors();
        let mut believed = believed_after(&first, &vectors);
        let ids: Vec<MemoryId> = believed.live().map(|(id, _)| *id).take(forgets).collect();
        for memory_id in ids {
            believed.evolve(&MemoryForgotten { memory_id }.into(), at(50));
        }
        for (content, _) in STATEMENTS.iter().take(writes) {
            // What is known is not written down beside it.
            if !live(&believed).contains_key(&text::normal_form(content)) {
                believed.evolve(&written(content, Vec::new()), at(60));
            }
        }
        let before = believed.clone();

        let difference = differ(RUN, &believed, &second, &vectors);
        prop_assert_eq!(&difference, &differ(RUN, &believed, &second, &vectors));
        apply(&mut believed, &difference.events(RUN, at(100)));
        for (id, belief) in before.memories.iter().filter(|(_, belief)| belief.by_hand) {
            prop_assert_eq!(believed.memories.get(id), Some(belief));
        }
        let was_live = live(&before);
        for given_up in &before.given_up {
            let form = text::normal_form(&given_up.content);
            prop_assert!(was_live.contains_key(&form) || !live(&believed).contains_key(&form));
        }
        let again = differ("another", &believed, &second, &vectors);
        prop_assert_eq!(again.events("another", at(101)), vec![]);

        let back = roll_back(RUN, &believed);
        apply(&mut believed, &back.events(RUN, at(200)));
        prop_assert_eq!(live(&believed), was_live);
    }
}
