use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn said(value: Value) -> Vec<(Role, String, Option<i64>)> {
    let foreign = conversation(value, "conversation 1").expect("readable");
    let said = foreign.said.into_iter();
    said.map(|s| (s.role, s.content, s.at.map(|at| at.timestamp())))
        .collect()
}

fn node(parent: Option<&str>, children: &[&str], role: &str, text: &str, at: f64) -> Value {
    json!({
        "parent": parent, "children": children,
        "message": {
            "author": {"role": role}, "create_time": at, "recipient": "all",
            "content": {"content_type": "text", "parts": [text]}, "metadata": {},
        },
    })
}

/// A question that was asked anew: the second branch is the one that was seen last.
fn tree() -> Value {
    json!({
        "title": "Dogs", "create_time": 1_700_000_000.5, "conversation_id": "c-1", "current_node": "e",
        "mapping": {
            "root": {"parent": null, "children": ["s"], "message": null},
            "s": node(Some("root"), &["a", "d"], "system", "You are helpful", 1.0),
            "a": node(Some("s"), &["b"], "user", "I have a cat", 1_700_000_001.0),
            "b": node(Some("a"), &[], "assistant", "What is it called?", 1_700_000_009.0),
            "d": node(Some("s"), &["t"], "user", "I have a dog", 1_700_000_003.0),
            "t": node(Some("d"), &["e"], "tool", "{}", 1_700_000_004.0),
            "e": node(Some("t"), &[], "assistant", "What is it called?", 1_700_000_005.25),
        },
    })
}

#[test]
fn the_branch_that_was_seen_last_is_what_was_said() {
    let expected = [
        (Role::User, "I have a dog".to_owned(), Some(1_700_000_003)),
        (
            Role::Assistant,
            "What is it called?".to_owned(),
            Some(1_700_000_005),
        ),
    ];
    assert_eq!(said(tree()), expected);
    let read = conversation(tree(), "conversation 1").expect("readable");
    assert_eq!(
        (read.title.as_deref(), read.key.as_str()),
        (Some("Dogs"), "chatgpt:c-1")
    );
    // Without the mark it is the leaf that was made last.
    let mut unmarked = tree();
    unmarked["current_node"] = Value::Null;
    assert_eq!(said(unmarked)[0].1, "I have a cat");
}

#[test]
fn a_tree_that_bites_its_tail_is_walked_once() {
    let mut tree = tree();
    tree["mapping"]["root"]["parent"] = json!("e");
    assert_eq!(said(tree).len(), 2);
}

#[test]
fn what_nobody_said_aloud_is_left_out() {
    let mut tree = tree();
    tree["mapping"]["d"]["message"]["metadata"] = json!({"is_user_system_message": true});
    tree["mapping"]["e"]["message"]["recipient"] = json!("browser");
    assert_eq!(said(tree), []);
}

#[test]
fn a_message_that_is_too_long_comes_in_pieces() {
    let mut tree = tree();
    tree["mapping"]["e"]["message"]["content"]["parts"] = json!(["x".repeat(70_000), {"asset": 1}]);
    let read = conversation(tree, "conversation 1").expect("readable");
    let lengths: Vec<usize> = read.said.iter().map(|said| said.content.len()).collect();
    assert_eq!(lengths, [12, 32_000, 32_000, 6_000]);
    let ids: Vec<_> = read
        .said
        .iter()
        .map(|said| said.external_id.clone().expect("an id"))
        .collect();
    assert_eq!(ids, ["d", "e", "e#2", "e#3"]);
    let user = UserId(derived(&["u"]));
    let messages = read.messages(
        user,
        DateTime::from_timestamp(1_800_000_000, 0).expect("a time"),
        "c",
    );
    assert_eq!(messages.expect("fits").len(), 4);
}

#[test]
fn a_plain_list_is_a_conversation() {
    let list = json!([
        {"role": "system", "content": "Be brief"},
        {"role": "user", "content": "Hi", "created_at": "2024-05-01T10:00:00Z", "name": "Ann"},
        {"role": "assistant", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "Ann"}]},
        {"role": "assistant", "content": null, "tool_calls": []},
    ]);
    let expected = [
        (Role::User, "Hi".to_owned(), Some(1_714_557_600)),
        (Role::Assistant, "Hello\nAnn".to_owned(), None),
    ];
    assert_eq!(said(list.clone()), expected);
    assert_eq!(said(json!({"title": "x", "messages": list})), expected);
    for (wrong, says) in [
        (json!(7), "must be an object"),
        (json!({"a": 1}), "a list of messages"),
        (json!([{"content": "x"}]), "message 1: must have a role"),
        (
            json!([{"role": "king", "content": "x"}]),
            "neither user nor assistant",
        ),
        (
            json!([{"role": "user", "content": 7}]),
            "must have a content",
        ),
        (
            json!([{"role": "user", "content": "x", "created_at": "soon"}]),
            "RFC 3339",
        ),
    ] {
        let fault = conversation(wrong, "conversation 1")
            .expect_err(says)
            .to_string();
        assert!(fault.contains(says), "{fault}");
    }
}

#[test]
fn times_that_are_not_known_are_those_of_the_message_before() {
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let user = UserId(derived(&["u"]));
    let list = json!([
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b", "created_at": 1_700_000_000},
        {"role": "user", "content": "c"},
    ]);
    let read = conversation(list, "c").expect("readable");
    let times: Vec<i64> = read
        .messages(user, now, "c")
        .expect("fits")
        .iter()
        .map(|message| message.created_at.timestamp())
        .collect();
    assert_eq!(times, [1_700_000_000; 3]);
    for wrong in [json!("\0"), json!(" "), json!("x".repeat(32_001))] {
        let read =
            conversation(json!([{"role": "user", "content": wrong}]), "c").expect("readable");
        assert!(read.messages(user, now, "c").is_err());
    }
}

#[test]
fn messages_that_share_an_id_are_all_taken_in() {
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let user = UserId(derived(&["u"]));
    let ids = |list: Value| -> Vec<MessageId> {
        let read = conversation(list, "c").expect("readable");
        let messages = read.messages(user, now, "c").expect("fits");
        messages
            .into_iter()
            .map(|message| message.message_id)
            .collect()
    };
    let said = |id: &str| json!({"role": "user", "content": "Hi", "id": id});
    let conversation = |list: &[&str]| {
        let messages: Vec<Value> = list.iter().map(|id| said(id)).collect();
        ids(json!({"id": "x", "messages": messages}))
    };
    let shared = conversation(&["a", "a", "b", "a", "a#2", " "]);
    assert_eq!(shared.iter().collect::<HashSet<_>>().len(), 6);
    let unique = conversation(&["a", "c", "b", "d", "a#2", " "]);
    for same in [0, 2, 4, 5] {
        assert_eq!(shared[same], unique[same], "message {same}");
    }
}

#[test]
fn a_conversation_is_known_again_by_the_same_user_alone() {
    let read = |value: Value| conversation(value, "c").expect("readable");
    let (a, b) = (UserId(derived(&["a"])), UserId(derived(&["b"])));
    assert_eq!(read(tree()).id(a), read(tree()).id(a));
    assert_ne!(read(tree()).id(a), read(tree()).id(b));
    let one = read(json!([{"role": "user", "content": "Hi"}]));
    let other = read(json!([{"role": "user", "content": "Ho"}]));
    assert_ne!(one.id(a), other.id(a));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["a", "b", "root", "user", "assistant", "text", "all"])
            .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "mapping",
        "current_node",
        "parent",
        "children",
        "message",
        "author",
        "role",
        "content",
        "parts",
        "content_type",
        "create_time",
        "messages",
        "created_at",
        "a",
        "b",
        "root",
    ]);
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_stands_there_is_read_or_refused(value in any_json()) {
        if let Ok(read) = conversation(value, "c") {
            let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
            let _ = read.messages(UserId(derived(&["u"])), now, "c");
        }
    }
}
