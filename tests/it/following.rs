//! A reply followed again: from any place, in any process, at any time.

use companion_adapters::reply_texts::ReplyTexts;
use companion_domain::ids::ReplyId;
use companion_tests::app::{App, Chatted, follow, variables};
use companion_tests::database;
use companion_tests::eventually::{eventually, within};
use companion_tests::llm::{Behaviour, Gate, ScriptedLlm};
use companion_tests::sse::{SseEvent, SseReader, read_events, text};
use futures_util::future::join_all;
use reqwest::header::HeaderValue;
use uuid::Uuid;

use crate::steps::{
    WayToRedis, another, cancelling, chunks, crashed_reply, expect, followed, following, gated,
    header, keyed, message, refused, told,
};

const PARTS: [&str; 9] = [
    "Grüß ",
    "dich! ",
    "🎉",
    "e\u{301}\u{2028}",
    "\n\n",
    "data: ",
    "データ",
    "\"\\",
    " end\r\n",
];

/// The ids of all places in a reply of [`PARTS`], with how many bytes are read there.
fn places(reply: &str) -> Vec<(Option<String>, usize)> {
    let mut places = vec![(None, 0), (Some(format!("{reply}:0")), 0)];
    let mut bytes = 0;
    for part in PARTS {
        bytes += part.len();
        places.push((Some(format!("{reply}:{bytes}")), bytes));
    }
    places
}

/// Checks that events tell all of a text from a place on, and their own places.
fn assert_rest(events: &[SseEvent], whole: &str, from: usize, reply: &str) {
    assert_eq!(text(events), whole[from..], "from {from}");
    let (last, before) = events.split_last().unwrap();
    assert_eq!(last.id, Some(format!("{reply}:done")));
    assert!(last.is_done());
    let mut at = from;
    for event in before {
        at += event.chunk().len();
        assert_eq!(event.id, Some(format!("{reply}:{at}")));
        assert!(!event.chunk().is_empty());
    }
}

/// Follows a reply that has ended from everywhere.
async fn assert_resumes(app: &App, reply: &str, last: &serde_json::Value) {
    let whole = PARTS.concat();
    for (id, from) in places(reply) {
        let events = followed(app, "alice", reply, id.as_deref()).await;
        assert_rest(&events, &whole, from, reply);
        assert!(
            events.len() <= 2,
            "what is missing comes in one piece: {events:?}"
        );
        assert_eq!(&events.last().unwrap().data, last);
    }
    let id = format!("{reply}:done");
    let events = followed(app, "alice", reply, Some(&id)).await;
    assert_eq!(events.len(), 1);
    assert_eq!((&events[0].data, &events[0].id), (last, &Some(id)));
}

/// A reply that has come as far as its last part but one.
struct Halfway {
    gate: Gate,
    stream: SseReader,
    events: Vec<SseEvent>,
    reply: String,
}

impl Halfway {
    async fn reach(app: &App) -> Self {
        let gate = gated(app, &PARTS);
        let response = app.send("alice", "hello", None).await;
        let reply = header(&response, "x-reply-id").to_owned();
        let mut stream = follow(response);
        let mut events = Vec::new();
        for part in &PARTS[..PARTS.len() - 1] {
            gate.open_one();
            let event = within("the next part", stream.next()).await.unwrap();
            assert_eq!(event.chunk(), *part);
            events.push(event);
        }
        Self {
            gate,
            stream,
            events,
            reply,
        }
    }

    async fn end(mut self) -> Chatted {
        self.gate.open_all();
        while let Some(event) = within("the end", self.stream.next()).await {
            self.events.push(event);
        }
        Chatted {
            text: text(&self.events),
            events: self.events,
            conversation_id: String::new(),
            reply_id: self.reply,
        }
    }
}

/// Begins to follow from each place that is reached, and reads on when the reply goes on.
async fn follow_while_it_runs(app: &App, from: &App) -> Chatted {
    let halfway = Halfway::reach(app).await;
    let reply = halfway.reply.clone();
    let mut places = places(&reply);
    places.pop();
    let mut followers = Vec::new();
    for (id, bytes) in places {
        let response = following(from, "alice", &reply, id.as_deref())
            .send()
            .await
            .unwrap();
        assert_eq!(header(&response, "x-reply-id"), reply);
        assert_eq!(header(&response, "cache-control"), "no-cache");
        assert_eq!(header(&response, "x-accel-buffering"), "no");
        header(&response, "x-conversation-id")
            .parse::<Uuid>()
            .unwrap();
        followers.push((bytes, response));
    }
    let reading = followers
        .into_iter()
        .map(|(from, response)| async move { (from, read_events(response).await) });
    let (chatted, read) = tokio::join!(halfway.end(), join_all(reading));
    assert_eq!(chatted.text, PARTS.concat());
    for (from, events) in read {
        assert_rest(&events, &chatted.text, from, &reply);
        assert_eq!(events.last().unwrap().data, *chatted.last());
    }
    chatted
}

#[tokio::test]
async fn a_reply_is_followed_from_each_of_its_events_while_it_runs_and_ever_after() {
    let app = App::start().await;
    let chatted = follow_while_it_runs(&app, &app).await;
    assert_resumes(&app, &chatted.reply_id, chatted.last()).await;
    let (variables, llm) = app.stop().await;
    let app = App::start_again(variables, llm).await;
    assert_resumes(&app, &chatted.reply_id, chatted.last()).await;
}

#[tokio::test]
async fn another_process_without_redis_tells_all_of_a_reply_when_it_has_ended() {
    let app = App::start().await;
    let another = another(&app).await;
    let chatted = follow_while_it_runs(&app, &another).await;
    assert_resumes(&another, &chatted.reply_id, chatted.last()).await;
}

#[tokio::test]
async fn another_process_with_redis_tells_a_reply_as_it_grows() {
    let redis = database::redis();
    let app = App::start_with(&[("REDIS_URL", &redis)]).await;
    let another = another(&app).await;
    let chatted = follow_while_it_runs(&app, &another).await;
    assert_resumes(&another, &chatted.reply_id, chatted.last()).await;

    let halfway = Halfway::reach(&app).await;
    let mut stream = follow(
        following(&another, "alice", &halfway.reply, None)
            .send()
            .await
            .unwrap(),
    );
    let mut seen = String::new();
    // Before the end, which the gate still holds back.
    while seen != PARTS[..PARTS.len() - 1].concat() {
        seen += within("what has grown", stream.next())
            .await
            .unwrap()
            .chunk();
    }
    halfway.end().await;
}

#[tokio::test]
async fn a_reply_is_followed_elsewhere_though_redis_forgot_or_went() {
    let way = WayToRedis::open().await;
    let app = App::start_with(&[("REDIS_URL", &way.url)]).await;
    let another = another(&app).await;
    let halfway = Halfway::reach(&app).await;
    let reply = halfway.reply.clone();
    let mut early = follow(
        following(&another, "alice", &reply, None)
            .send()
            .await
            .unwrap(),
    );
    let mut seen = String::new();
    while seen != PARTS[..PARTS.len() - 1].concat() {
        seen += within("what has grown", early.next())
            .await
            .unwrap()
            .chunk();
    }
    // Redis was restarted, or needed the room.
    let mut forget = redis_command(&app).await;
    forget.delete(&format!("companion:reply:{reply}")).await;
    let late = following(&another, "alice", &reply, None)
        .send()
        .await
        .unwrap();
    let ended = halfway.end().await;
    let events = read_events(late).await;
    assert_rest(&events, &PARTS.concat(), 0, &reply);
    while let Some(event) = early.next().await {
        seen += event.chunk();
    }
    assert_eq!(seen, ended.text);

    let halfway = Halfway::reach(&app).await;
    let reply = halfway.reply.clone();
    let response = following(&another, "alice", &reply, None)
        .send()
        .await
        .unwrap();
    way.close().await;
    halfway.end().await;
    let events = within("the end", read_events(response)).await;
    assert_rest(&events, &PARTS.concat(), 0, &reply);
}

/// The Redis that a service has open.
struct Redis(companion_adapters::redis_link::RedisLink);

async fn redis_command(app: &App) -> Redis {
    Redis(app.core.redis.clone().unwrap())
}

impl Redis {
    async fn delete(&mut self, key: &str) {
        let mut command = redis::cmd("DEL");
        let deleted: i64 = self.0.run(command.arg(key)).await.unwrap();
        assert_eq!(deleted, 1, "{key}");
    }
}

#[tokio::test]
async fn an_event_id_that_is_not_of_the_reply_is_400() {
    let app = App::start().await;
    let another = another(&app).await;
    let other = app.chat("alice", "hello", None).await.reply_id;
    let halfway = Halfway::reach(&app).await;
    let reply = halfway.reply.clone();
    let code = "unknown_event_id";
    let malformed = [
        String::new(),
        reply.clone(),
        format!("{reply}:"),
        format!("{reply}:-1"),
        format!("{reply}:+1"),
        format!("{reply}: 1"),
        format!("{reply}:1.0"),
        format!("{reply}:0x1"),
        format!("{reply}:Done"),
        format!("{reply}:done:1"),
        format!("{reply}:99999999999999999999999999"),
        format!("{other}:0"),
        format!("{other}:done"),
        format!("{}:0", Uuid::now_v7()),
        ":0".to_owned(),
        "0".to_owned(),
        "done".to_owned(),
        reply.to_uppercase() + ":0",
    ];
    let beyond = [
        format!("{reply}:3"),
        format!("{reply}:{}", PARTS.concat().len() + 1),
    ];
    for (app, runs_here) in [(&app, true), (&another, false)] {
        for id in malformed.iter().chain(beyond.iter().filter(|_| runs_here)) {
            refused(following(app, "alice", &reply, Some(id)), 400, code).await;
        }
        let bytes = [reply.as_bytes(), b":0\xff"].concat();
        let request = following(app, "alice", &reply, None);
        let request = request.header("Last-Event-ID", HeaderValue::from_bytes(&bytes).unwrap());
        refused(request, 400, code).await;
    }
    halfway.end().await;
    for app in [&app, &another] {
        for id in malformed.iter().chain(&beyond) {
            refused(following(app, "alice", &reply, Some(id)), 400, code).await;
        }
    }
}

#[tokio::test]
async fn another_users_reply_can_be_neither_followed_nor_cancelled() {
    let app = App::start().await;
    let another = another(&app).await;
    let ended = app.chat("alice", "hello", None).await.reply_id;
    let halfway = Halfway::reach(&app).await;
    let running = halfway.reply.clone();
    for reply in [
        &ended,
        &running,
        &Uuid::now_v7().to_string(),
        &"nonsense".to_owned(),
    ] {
        for app in [&app, &another] {
            refused(following(app, "mallory", reply, None), 404, "not_found").await;
            let id = format!("{reply}:done");
            refused(
                following(app, "mallory", reply, Some(&id)),
                404,
                "not_found",
            )
            .await;
            refused(cancelling(app, "mallory", reply), 404, "not_found").await;
        }
    }
    assert_eq!(
        halfway.end().await.last()["cancelled"],
        serde_json::Value::Null
    );
}

#[tokio::test]
async fn a_message_of_the_user_is_no_reply_to_follow() {
    let app = App::start().await;
    let chatted = app.chat("alice", "hello", None).await;
    let said = app.messages("alice", &chatted.conversation_id).await[0]["id"].clone();
    let said = said.as_str().unwrap();
    refused(following(&app, "alice", said, None), 404, "not_found").await;
    refused(cancelling(&app, "alice", said), 404, "not_found").await;
}

#[tokio::test]
async fn a_reply_that_failed_or_was_cancelled_is_followed_to_the_same_end() {
    let app = App::start_with(&[("LLM_TIMEOUT_SECONDS", "1")]).await;
    let mut ended = Vec::new();
    for behaviour in [
        Behaviour::CutAfter(chunks(&["Grüß", " dich"])),
        Behaviour::HangAfter(chunks(&["Grüß", " dich"])),
        Behaviour::Status(500, "boom".to_owned()),
        Behaviour::Empty,
    ] {
        app.llm.next(behaviour);
        let chatted = app.chat("alice", "hello", None).await;
        assert!(chatted.events.last().unwrap().error_code().is_some());
        ended.push(chatted);
    }
    let gate = gated(&app, &["Grüß", " dich", "never"]);
    let response = app.send("alice", "hello", None).await;
    let reply = header(&response, "x-reply-id").to_owned();
    let mut stream = follow(response);
    let mut events = Vec::new();
    for _ in 0..2 {
        gate.open_one();
        events.push(within("a part", stream.next()).await.unwrap());
    }
    expect(cancelling(&app, "alice", &reply), 200).await;
    while let Some(event) = stream.next().await {
        events.push(event);
    }
    assert_eq!(events.last().unwrap().data["cancelled"], true);
    ended.push(Chatted {
        text: text(&events),
        events,
        conversation_id: String::new(),
        reply_id: reply,
    });
    for restarted in [false, true] {
        let app = if restarted {
            App::start_api_only(app.variables.clone(), app.llm.clone()).await
        } else {
            another(&app).await
        };
        for chatted in &ended {
            let reply = &chatted.reply_id;
            let mut places = vec![(None, 0)];
            for event in &chatted.events[..chatted.events.len() - 1] {
                let before = places.last().unwrap().1;
                places.push((event.id.clone(), before + event.chunk().len()));
            }
            for (id, from) in places {
                let events = followed(&app, "alice", reply, id.as_deref()).await;
                assert_rest(&events, &chatted.text, from, reply);
                assert_eq!(events.last().unwrap().data, *chatted.last());
            }
            let id = format!("{reply}:done");
            let events = followed(&app, "alice", reply, Some(&id)).await;
            assert_eq!((events.len(), &events[0].data), (1, chatted.last()));
        }
    }
}

#[tokio::test]
async fn a_reply_that_a_crash_cut_off_is_followed_to_its_end_from_wherever_one_was() {
    let app = App::start().await;
    let conversation = app.chat("alice", "hello", None).await.conversation_id;
    let reply = crashed_reply(&app, "alice", &conversation)
        .await
        .to_string();
    app.settle().await;
    // Of what the follower had seen nothing could be stored.
    for id in [
        None,
        Some(format!("{reply}:0")),
        Some(format!("{reply}:17")),
        Some(format!("{reply}:done")),
    ] {
        let events = followed(&app, "alice", &reply, id.as_deref()).await;
        let [last] = events.as_slice() else {
            panic!("{events:?}")
        };
        assert_eq!(last.error_code(), Some("service_stopping"));
        assert_eq!(last.id, Some(format!("{reply}:done")));
        assert_eq!(last.data["conversation_id"], conversation);
    }
}

#[tokio::test]
async fn a_running_reply_is_followed_elsewhere_before_it_is_projected() {
    let llm = ScriptedLlm::start().await;
    // Nobody projects.
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let another = App::start_api_only(app.variables.clone(), app.llm.clone()).await;
    let gate = gated(&app, &["All ", "of it"]);
    let body = message("hello");
    let first = keyed(&app, "alice", "one", &body).send().await.unwrap();
    gate.reached().await;
    let second = keyed(&another, "alice", "one", &body).send().await.unwrap();
    assert_eq!(second.status(), 200);
    assert_eq!(header(&first, "x-reply-id"), header(&second, "x-reply-id"));
    gate.open_all();
    let (first, second) = within("both", async {
        tokio::join!(Chatted::read(first), Chatted::read(second))
    })
    .await;
    assert_eq!(first.text, "All of it");
    assert_eq!(
        (second.text.as_str(), second.last()),
        ("All of it", first.last())
    );
}

#[tokio::test]
async fn of_a_reply_that_a_crash_cut_off_what_was_shared_is_kept() {
    let redis = database::redis();
    let app = App::start_with(&[("REDIS_URL", &redis)]).await;
    let conversation = app.chat("alice", "hello", None).await.conversation_id;
    app.settle().await;
    let texts = ReplyTexts::new(app.core.redis.clone());
    let (mut variables, llm) = app.stop().await;
    let app = App::start_api_only(variables.clone(), llm.clone()).await;
    let reply = crashed_reply(&app, "alice", &conversation).await;
    assert!(texts.write(reply, 0, "Half of ").await);
    variables = app.stop().await.0;
    let app = App::start_again(variables, llm).await;
    let messages = app.messages("alice", &conversation).await;
    assert_eq!(told(&messages)[3], ("assistant", "Half of ", "interrupted"));
    let id = format!("{reply}:5");
    let events = followed(&app, "alice", &reply.to_string(), Some(&id)).await;
    assert_eq!(text(&events), "of ");
}

#[tokio::test]
async fn what_was_shared_of_a_reply_is_forgotten_when_it_has_ended() {
    let redis = database::redis();
    let app = App::start_with(&[("REDIS_URL", &redis)]).await;
    let texts = ReplyTexts::new(app.core.redis.clone());
    let halfway = Halfway::reach(&app).await;
    let reply = ReplyId(halfway.reply.parse().unwrap());
    eventually(|| async {
        match texts.read(reply, 0).await {
            text if text.is_empty() => Err("nothing is shared"),
            _ => Ok(()),
        }
        .map_err(str::to_owned)
    })
    .await;
    halfway.end().await;
    eventually(|| async {
        match texts.read(reply, 0).await {
            text if text.is_empty() => Ok(()),
            text => Err(text),
        }
    })
    .await;
}

#[tokio::test]
async fn a_reply_that_is_not_projected_yet_is_not_said_to_be_missing() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let chatted = app.chat("alice", "hello", None).await;
    let reply = &chatted.reply_id;
    let response = following(&app, "alice", reply, None).send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "retry-after"), "2");
    refused(cancelling(&app, "alice", reply), 503, "projection_behind").await;
    refused(following(&app, "mallory", reply, None), 404, "not_found").await;
    let (variables, llm) = app.stop().await;
    let app = App::start_again(variables, llm).await;
    let events = followed(&app, "alice", reply, None).await;
    assert_eq!(text(&events), chatted.text);
}
