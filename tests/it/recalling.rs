//! What a search finds, and that it knows of every change at once, whoever made it.

use companion_tests::app::App;
use reqwest::Method;
use serde_json::{Value, json};

use crate::memory::{contents, list, search, tell};
use crate::steps::{another, expect};

/// Two people who talk; the days are those on which they do.
const TALK: [(&str, &str, &str); 10] = [
    (
        "2024-03-02T10:00:00Z",
        "Anna",
        "Hi Ben, long time no see! What have you been up to?",
    ),
    (
        "2024-03-02T10:01:00Z",
        "Ben",
        "I finally took up pottery, there is a studio behind the station.",
    ),
    (
        "2024-03-02T10:02:00Z",
        "Anna",
        "Lovely! Which instrument did you play when we were at school?",
    ),
    ("2024-03-02T10:03:00Z", "Ben", "The oboe, rather badly."),
    (
        "2024-03-02T10:04:00Z",
        "Anna",
        "I adopted a greyhound yesterday, he sleeps all day long.",
    ),
    (
        "2024-06-11T18:00:00Z",
        "Ben",
        "We drove to the sea with the kids.",
    ),
    (
        "2024-06-11T18:01:00Z",
        "Anna",
        "How nice! I spent the day in the garden.",
    ),
    (
        "2024-06-11T18:02:00Z",
        "Ben",
        "My sister gave me a kiln for my birthday last week.",
    ),
    (
        "2024-09-20T09:00:00Z",
        "Anna",
        "We drove to the sea again, the water was freezing.",
    ),
    (
        "2024-09-20T09:01:00Z",
        "Ben",
        "I sold my first bowl at the market!",
    ),
];

fn talk(range: std::ops::Range<usize>) -> Value {
    let message = |n: usize| {
        let (at, name, content) = TALK[n];
        let role = if name == "Anna" { "user" } else { "assistant" };
        json!({"role": role, "name": name, "content": content, "created_at": at, "external_id": format!("t{n}")})
    };
    json!({"messages": range.map(message).collect::<Vec<_>>(), "extract": false})
}

async fn import(app: &App, user: &str, body: &Value) -> String {
    let (status, imported) = app.post(user, "/conversations/import", body).await;
    assert_eq!(status, 201, "{imported}");
    imported["conversation_id"].as_str().unwrap().to_owned()
}

/// The external ids of the messages that are found, best first.
async fn turns(app: &App, user: &str, query: &str) -> Vec<String> {
    let body = json!({"query": query, "include_messages": true});
    let found = search(app, user, body).await;
    let id = |found: &Value| {
        found["sources"][0]["external_id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    found.iter().map(id).collect()
}

#[tokio::test]
async fn a_turn_is_found_by_speaker_month_and_the_question_before_it() {
    let app = App::start().await;
    import(&app, "alice", &talk(0..10)).await;
    app.settle().await;
    for (query, best) in [
        ("What hobby did Ben take up?", "t1"),
        ("Which instrument did Ben learn?", "t3"),
        ("When did Anna adopt her dog?", "t4"),
        ("Who gave Ben the oven for his bowls?", "t7"),
        ("Who went to the sea in June 2024?", "t5"),
        ("Who went to the sea in September 2024?", "t8"),
    ] {
        let found = turns(&app, "alice", query).await;
        assert!(found[..2].contains(&best.to_owned()), "{query}: {found:?}");
    }
}

#[tokio::test]
async fn it_does_not_matter_how_a_talk_was_cut_into_conversations() {
    let app = App::start().await;
    import(&app, "alice", &talk(0..10)).await;
    for sitting in [0..5, 5..8, 8..10] {
        import(&app, "bob", &talk(sitting)).await;
    }
    app.settle().await;
    for query in [
        "What did Ben sell?",
        "Where did Anna drive to?",
        "When is Ben's birthday?",
    ] {
        assert_eq!(
            turns(&app, "alice", query).await,
            turns(&app, "bob", query).await,
            "{query}"
        );
    }
}

#[tokio::test]
async fn a_search_sees_what_was_just_written_and_its_meaning_soon_after() {
    let app = App::start().await;
    assert!(turns(&app, "alice", "pottery").await.is_empty());
    for n in 0..3 {
        import(&app, "alice", &talk(n..n + 1)).await;
        let word = ["long time", "pottery", "instrument"][n];
        let found = turns(&app, "alice", word).await;
        assert_eq!(found.first(), Some(&format!("t{n}")), "{word}: {found:?}");
    }
    app.settle().await;
    let body = json!({"query": "a hobby with clay", "include_messages": true});
    let found = search(&app, "alice", body).await;
    assert_eq!(found[0]["sources"][0]["external_id"], "t1", "{found:?}");
    assert!(found[0]["similarity"].as_f64().unwrap() > 0.2, "{found:?}");
}

#[tokio::test]
async fn another_process_sees_what_was_said_changed_and_forgotten() {
    let app = App::start().await;
    let other = another(&app).await;
    tell(&app, "alice", "I have a parrot", "User has a parrot").await;
    let parrot = json!({"query": "parrot", "include_messages": true});
    assert!(!search(&other, "alice", parrot.clone()).await.is_empty());
    let conversation = import(&app, "alice", &talk(0..5)).await;
    assert!(
        turns(&other, "alice", "pottery studio")
            .await
            .contains(&"t1".to_owned())
    );

    let memory = list(&app, "alice", "").await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("/memories/{memory}");
    let (status, _) = app
        .call(
            "alice",
            Method::PATCH,
            &path,
            &json!({"content": "User has a cockatoo"}),
        )
        .await;
    assert_eq!(status, 200);
    let body = json!({"query": "parrot or cockatoo"});
    assert_eq!(
        contents(&search(&other, "alice", body.clone()).await),
        ["User has a cockatoo"]
    );
    expect(app.request_by("alice", Method::DELETE, &path), 204).await;
    assert!(search(&other, "alice", body).await.is_empty());

    let path = format!("/conversations/{conversation}");
    expect(app.request_by("alice", Method::DELETE, &path), 204).await;
    assert!(
        !turns(&other, "alice", "pottery studio")
            .await
            .contains(&"t1".to_owned())
    );
    assert!(
        !search(&other, "alice", parrot).await.is_empty(),
        "the rest is still there"
    );
}

#[tokio::test]
async fn what_was_cleared_or_replaced_is_not_found_by_an_index_that_had_it() {
    let app = App::start().await;
    let conversation = import(&app, "alice", &talk(0..5)).await;
    app.settle().await;
    assert!(
        turns(&app, "alice", "pottery studio")
            .await
            .contains(&"t1".to_owned())
    );
    let body = json!({ "conversation_id": conversation });
    assert_eq!(app.post("alice", "/memory/clear", &body).await.0, 200);
    assert!(turns(&app, "alice", "pottery studio").await.is_empty());

    tell(&app, "alice", "I live in Lisbon", "User lives in Lisbon").await;
    let home = json!({"query": "Where does the user live?"});
    assert_eq!(
        contents(&search(&app, "alice", home.clone()).await),
        ["User lives in Lisbon"]
    );
    let mut moved = crate::memory::statement("User lives in Porto");
    moved["replaces"] = json!([1]);
    app.llm.next_extraction(crate::memory::answer(&[moved]));
    app.chat("alice", "I moved and live in Porto now", None)
        .await;
    app.settle().await;
    assert_eq!(
        contents(&search(&app, "alice", home).await),
        ["User lives in Porto"]
    );
}

#[tokio::test]
async fn the_next_life_of_an_erased_user_finds_nothing_of_the_former() {
    let app = App::start().await;
    let other = another(&app).await;
    import(&app, "alice", &talk(0..10)).await;
    for app in [&app, &other] {
        assert!(!turns(app, "alice", "pottery studio").await.is_empty());
    }
    expect(app.request_by("alice", Method::DELETE, "/users/me"), 204).await;
    for app in [&app, &other] {
        assert!(turns(app, "alice", "pottery studio").await.is_empty());
    }
    import(&app, "alice", &talk(0..1)).await;
    import(&app, "alice", &talk(2..3)).await;
    for app in [&app, &other] {
        let found = turns(app, "alice", "pottery studio").await;
        assert!(found.iter().all(|id| id == "t0" || id == "t2"), "{found:?}");
    }
}

#[tokio::test]
async fn a_user_finds_only_their_own() {
    let app = App::start().await;
    import(&app, "alice", &talk(0..5)).await;
    import(&app, "bob", &talk(5..10)).await;
    let found = turns(&app, "bob", "pottery studio").await;
    assert!(found.iter().all(|id| id.as_str() >= "t5"), "{found:?}");
}

#[tokio::test]
async fn a_question_about_nothing_that_was_ever_said_finds_little() {
    let app = App::start().await;
    import(&app, "alice", &talk(0..10)).await;
    app.settle().await;
    let found = turns(
        &app,
        "alice",
        "quarterly derivatives clearing margin requirements",
    )
    .await;
    assert!(found.len() <= 2, "{found:?}");
}

#[tokio::test]
async fn with_hardly_any_room_for_indexes_everything_is_found_all_the_same() {
    let app = App::start_with(&[("RECALL_CACHE_MB", "1")]).await;
    for user in ["alice", "bob"] {
        for _ in 0..60 {
            import(&app, user, &talk(0..10)).await;
        }
    }
    for _ in 0..2 {
        for user in ["alice", "bob"] {
            assert!(
                turns(&app, user, "pottery studio")
                    .await
                    .contains(&"t1".to_owned())
            );
        }
    }
}

#[tokio::test]
async fn an_index_knows_when_other_tables_have_taken_the_place_of_those_it_was_loaded_from() {
    let app = App::start().await;
    import(&app, "alice", &talk(0..3)).await;
    app.settle().await;
    assert!(turns(&app, "alice", "xylotomy").await.is_empty());
    // Nobody is told of it.
    let switch = "CREATE TABLE read.others AS TABLE read.messages;
        INSERT INTO read.others SELECT (jsonb_populate_record(m, jsonb_build_object(
            'message_id', gen_random_uuid(), 'external_id', 'new', 'ordinal', 9, 'content', 'I took up xylotomy'))).*
            FROM read.messages m WHERE external_id = 't1';
        ALTER TABLE read.messages RENAME TO former;
        ALTER TABLE read.others RENAME TO messages";
    sqlx::raw_sql(switch).execute(&app.core.pool).await.unwrap();
    let found = turns(&app, "alice", "xylotomy").await;
    assert!(found.contains(&"new".to_owned()), "{found:?}");
}
