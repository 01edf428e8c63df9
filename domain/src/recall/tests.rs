//! What the index promises: kept up to date it is as one built anew, and what it finds is wanted.

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::conversation::Role;
use crate::ids::{ConversationId, MessageId};
use crate::memory::{Decay, MemoryKind, Source};

const WORDS: [&str; 12] = [
    "tea",
    "coffee",
    "dog",
    "garden",
    "yesterday",
    "Lisbon",
    "sister",
    "paint",
    "run",
    "why?",
    "I",
    "the",
];

fn start() -> DateTime<Utc> {
    "2024-03-01T10:00:00Z".parse().unwrap()
}

fn id(n: u8) -> Uuid {
    Uuid::from_u128(u128::from(n) + 1)
}

fn conversation(n: u8) -> ConversationId {
    ConversationId(Uuid::from_u128(1_000 + u128::from(n)))
}

/// An item as the tests draw it.
#[derive(Debug, Clone)]
struct Drawn {
    id: u8,
    content: String,
    minutes: u16,
    vector: Option<[f32; 4]>,
    what: What,
}

impl Drawn {
    fn entry(&self) -> Entry<'_> {
        Entry {
            id: id(self.id),
            content: &self.content,
            at: start() + TimeDelta::minutes(self.minutes.into()),
            vector: self.vector.as_ref().map(|vector| vector.as_slice()),
            what: self.what.clone(),
        }
    }
}

fn what(item: u8) -> impl Strategy<Value = What> {
    let message = (
        0u8..3,
        0i64..6,
        any::<bool>(),
        proptest::option::of("Anna|Ben"),
    );
    let memory = (0usize..4, 0.0f64..=1.0, any::<bool>(), 0u8..40, 0u8..3);
    prop_oneof![
        message.prop_map(move |(c, version, assistant, name)| What::Message {
            conversation: conversation(c),
            // No two messages have one place.
            place: (version, item.into()),
            role: if assistant {
                Role::Assistant
            } else {
                Role::User
            },
            name,
        }),
        memory.prop_map(
            |(kind, importance, explicit, message, c)| What::Memory(Stated {
                kind: MemoryKind::ALL[kind],
                importance,
                explicit,
                last_reinforced_at: start(),
                sources: vec![Source {
                    conversation_id: conversation(c),
                    message_id: MessageId(id(message)),
                }],
            })
        ),
    ]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (0u8..40).prop_flat_map(|item| {
        let content = proptest::collection::vec(proptest::sample::select(&WORDS[..]), 1..8);
        let vector = proptest::option::of(proptest::array::uniform4(-1.0f32..1.0));
        (Just(item), content, 0u16..600, vector, what(item)).prop_map(
            |(id, words, minutes, vector, what)| Drawn {
                id,
                content: words.join(" "),
                minutes,
                vector,
                what,
            },
        )
    })
}

/// A change of an index.
#[derive(Debug, Clone)]
enum Step {
    Put(Drawn),
    Remove(u8),
    Vector(u8, [f32; 4]),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => drawn().prop_map(Step::Put),
        1 => (0u8..40).prop_map(Step::Remove),
        1 => (0u8..40, proptest::array::uniform4(-1.0f32..1.0)).prop_map(|(id, v)| Step::Vector(id, v)),
    ]
}

fn wanted<'a>(text: &'a str, decay: &'a Decay) -> Wanted<'a> {
    Wanted {
        text,
        vector: &[0.5, 0.5, 0.5, 0.5],
        kinds: None,
        messages: true,
        conversation: None,
        now: start(),
        decay,
        arm: Arm::All,
    }
}

/// The index after some steps, and what is in it then.
fn after(steps: &[Step]) -> (Index, Vec<Drawn>) {
    let (mut index, mut left): (Index, Vec<Drawn>) = (Index::new(4), Vec::new());
    for step in steps {
        match step {
            Step::Put(drawn) => {
                left.retain(|other| other.id != drawn.id);
                left.push(drawn.clone());
                index.put(&drawn.entry());
            }
            Step::Remove(gone) => {
                left.retain(|other| other.id != *gone);
                index.remove(id(*gone));
            }
            Step::Vector(of, vector) => {
                left.iter_mut()
                    .filter(|other| other.id == *of)
                    .for_each(|other| other.vector = Some(*vector));
                index.set_vector(id(*of), vector);
            }
        }
    }
    (index, left)
}

fn built(drawn: &[Drawn]) -> Index {
    let mut index = Index::new(4);
    drawn.iter().for_each(|drawn| index.put(&drawn.entry()));
    index
}

proptest! {
    #[test]
    fn an_index_kept_up_to_date_is_as_one_built_anew(
        steps in proptest::collection::vec(step(), 0..80),
        query in proptest::sample::select(&["Does Anna run?", "tea in the garden", "when was the dog in Lisbon", "?"][..]),
    ) {
        let (kept, left) = after(&steps);
        let (anew, decay) = (built(&left), Decay::default());
        prop_assert_eq!(kept.len(), left.len());
        prop_assert_eq!(kept.search(&wanted(query, &decay), 0.0, 50), anew.search(&wanted(query, &decay), 0.0, 50));
    }

    #[test]
    fn packing_changes_no_answer(steps in proptest::collection::vec(step(), 0..80)) {
        let (mut index, _) = after(&steps);
        let decay = Decay::default();
        let before = index.search(&wanted("Anna's tea", &decay), 0.0, 50);
        index.pack();
        prop_assert_eq!(index.search(&wanted("Anna's tea", &decay), 0.0, 50), before);
    }

    #[test]
    fn what_is_found_is_wanted_sorted_bounded_and_said_once(
        items in proptest::collection::vec(drawn(), 0..40),
        messages in any::<bool>(), kind in proptest::option::of(0usize..4), c in proptest::option::of(0u8..4),
        threshold in 0.0f64..0.5, top_k in 0usize..20,
    ) {
        let (decay, kinds) = (Decay::default(), kind.map(|kind| [MemoryKind::ALL[kind]]));
        let (index, left) = after(&items.into_iter().map(Step::Put).collect::<Vec<_>>());
        let query = Wanted {
            messages,
            kinds: kinds.as_ref().map(|kinds| kinds.as_slice()),
            conversation: c.map(conversation),
            ..wanted("the dog in the garden", &decay)
        };
        let found = index.search(&query, threshold, top_k);
        prop_assert!(found.len() <= top_k);
        prop_assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        let mut said = HashSet::new();
        for hit in found {
            prop_assert!((threshold..=1.0).contains(&hit.score), "{}", hit.score);
            prop_assert!((-1.0..=1.0).contains(&hit.similarity));
            let drawn = left.iter().find(|drawn| id(drawn.id) == hit.id).unwrap();
            prop_assert!(said.insert(crate::text::normal_form(&drawn.content)));
            match &drawn.what {
                What::Message { conversation, .. } => {
                    prop_assert!(messages && hit.is_message);
                    prop_assert!(query.conversation.is_none_or(|only| only == *conversation));
                }
                What::Memory(stated) => {
                    prop_assert!(query.kinds.is_none_or(|kinds| kinds.contains(&stated.kind)));
                    prop_assert!(stated.explicit || stated.importance >= decay.fade_below);
                    prop_assert!(query.conversation.is_none_or(|only| stated.sources[0].conversation_id == only));
                }
            }
        }
    }
}

fn message(item: u8, content: &str, name: Option<&str>) -> Drawn {
    Drawn {
        id: item,
        content: content.to_owned(),
        minutes: item.into(),
        vector: None,
        what: What::Message {
            conversation: conversation(0),
            place: (1, item.into()),
            role: Role::User,
            name: name.map(str::to_owned),
        },
    }
}

fn memory(item: u8, content: &str, importance: f64, sources: &[u8]) -> Drawn {
    Drawn {
        id: item,
        content: content.to_owned(),
        minutes: 0,
        vector: None,
        what: What::Memory(Stated {
            kind: MemoryKind::Fact,
            importance,
            explicit: false,
            last_reinforced_at: start(),
            sources: sources
                .iter()
                .map(|n| Source {
                    conversation_id: conversation(0),
                    message_id: MessageId(id(*n)),
                })
                .collect(),
        }),
    }
}

fn order(items: &[Drawn], query: &str) -> Vec<Uuid> {
    let hits = built(items).search(&wanted(query, &Decay::default()), 0.0, 10);
    hits.iter().map(|hit| hit.id).collect()
}

#[test]
fn a_rare_word_weighs_more_than_a_common_one() {
    let mut items: Vec<Drawn> = (0..20)
        .map(|n| memory(n, &format!("some name number {n}"), 0.5, &[]))
        .collect();
    items.push(memory(30, "a trip across Zanzibar alone", 0.5, &[]));
    assert_eq!(order(&items, "name Zanzibar")[0], id(30));
}

#[test]
fn what_has_no_vector_yet_is_found_by_every_second_word_and_not_by_none() {
    let items = [
        memory(1, "User has a cockatoo", 0.5, &[]),
        message(2, "I have a parrot", None),
        message(70, "The garden needs water", None),
    ];
    let index = built(&items);
    let decay = Decay::default();
    let found = |query| {
        let hits = index.search(&wanted(query, &decay), 0.15, 10);
        assert!(hits.iter().all(|hit| hit.similarity == 0.0), "{hits:?}");
        hits.iter().map(|hit| hit.id).collect::<Vec<_>>()
    };
    assert_eq!(found("parrot or cockatoo"), [id(1), id(2)]);
    assert!(found("mountains and bicycles").is_empty());
}

#[test]
fn importance_breaks_ties_but_does_not_overrule_relevance() {
    let items = [
        memory(1, "keeps bees at home", 0.1, &[]),
        memory(2, "keeps bees at work", 0.9, &[]),
        memory(3, "plays the flute", 1.0, &[]),
    ];
    assert_eq!(order(&items, "bees"), [id(2), id(1), id(3)]);
}

#[test]
fn the_one_whom_the_query_names_is_heard_first() {
    let items = [
        message(
            1,
            "My dog is called Rex and he loves the garden",
            Some("Ben"),
        ),
        message(
            9,
            "My dog is called Bella and she loves the garden",
            Some("Anna"),
        ),
    ];
    assert_eq!(order(&items, "What is Anna's dog called?")[0], id(9));
    assert_eq!(order(&items, "What is Ben's dog called?")[0], id(1));
}

#[test]
fn an_answer_is_found_by_the_question_before_it() {
    let items = [
        message(1, "Which instrument did you learn as a child?", Some("Ben")),
        message(2, "The oboe, and rather badly!", Some("Anna")),
        message(60, "Thanks for coming over, that was lovely!", Some("Anna")),
    ];
    let found = order(&items, "Which instrument did Anna learn?");
    assert!(found.iter().position(|i| *i == id(2)) < found.iter().position(|i| *i == id(60)));
}

#[test]
fn what_was_said_in_the_month_that_is_asked_for_comes_first() {
    let mut late = message(9, "We went to the sea", None);
    late.minutes = 60_000;
    let items = [message(1, "We went to the sea again", None), late];
    assert_eq!(order(&items, "Where did we go in March 2024?")[0], id(1));
    assert_eq!(order(&items, "Where did we go in April 2024?")[0], id(9));
}

#[test]
fn a_memory_and_the_message_it_rests_on_do_not_fill_the_list() {
    let items = [
        message(1, "I moved to Lisbon in spring", None),
        memory(2, "User moved to Lisbon", 0.5, &[1]),
        message(3, "They moved out of Lisbon", None),
    ];
    let found = order(&items, "moved to Lisbon");
    assert_eq!(found.len(), 3, "all are found");
    assert_eq!(found[2], id(2), "one of the two makes room: {found:?}");
}

#[test]
fn a_prompt_is_filled_with_what_is_most_important() {
    let items = [
        memory(1, "User is called Anna", 0.9, &[]),
        memory(2, "User had soup", 0.2, &[]),
        memory(3, "User fears heights", 0.6, &[]),
    ];
    let hits = built(&items).for_prompt(&wanted("Hello!", &Decay::default()), 0.99, 2);
    let ids: Vec<_> = hits.iter().map(|hit| hit.id).collect();
    assert_eq!(ids, [id(1), id(3)]);
}

#[test]
fn a_faded_memory_is_not_found() {
    let index = built(&[memory(1, "User has a cold", 0.5, &[])]);
    let decay = Decay::default();
    let later = Wanted {
        now: start() + TimeDelta::days(4_000),
        ..wanted("cold", &decay)
    };
    assert_eq!(index.search(&wanted("cold", &decay), 0.0, 9).len(), 1);
    assert_eq!(index.search(&later, 0.0, 9).len(), 0);
}
