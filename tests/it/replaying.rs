//! Replay equals live: whatever happened, in whatever pieces it was projected, the log gives the same
//! rows again.

use companion_adapters::api_keys;
use companion_adapters::erasure::Eraser;
use companion_adapters::log::event_store::{Append, Expected};
use companion_adapters::log::subscription::{
    Bounds, READ_MODELS, move_checkpoint, read_page, take_checkpoint,
};
use companion_adapters::read_models::copies::{CHECK, LIVE, SHADOW};
use companion_adapters::read_models::{Manner, TABLES};
use companion_domain::conversation::Role;
use companion_domain::events::{
    ConversationDeleted, ConversationRenamed, ConversationReset, ConversationStarted, Event,
    ExtractionCompleted, ExtractionMethod, FailureReason, ImportedMessage, MemoriesCleared,
    MemoriesRecalled, MemoryFaded, MemoryForgotten, MemoryRecorded, MemoryReinforced,
    MemoryRevised, MemorySuperseded, MemoryUse, MessagesImported, Metadata, RecalledMemory,
    Recorded, ReplyCancelled, ReplyCompleted, ReplyFailed, ReplyRequested, ReplyStarted,
    UserMessageReceived,
};
use companion_domain::ids::{
    ApiKeyId, ConversationId, ExternalUserId, MemoryId, MessageId, ReplyId, StreamId, UserId,
};
use companion_domain::memory::{MemoryKind, Source};
use companion_tests::app::{App, variables};
use companion_tests::llm::ScriptedLlm;
use companion_tests::log::{Dice, rows};
use companion_worker::projections::{self, ALL};
use companion_worker::replay::{Replay, Stopped, drop_copy};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[tokio::test]
async fn what_is_replayed_is_what_is_live_whatever_happened() {
    for seed in [1, 2] {
        let llm = ScriptedLlm::start().await;
        let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
        let mut world = World::new(&app, seed);
        for round in 0..3 {
            let told = format!("seed {seed}, round {round}");
            for _ in 0..80 {
                world.happen().await;
                if world.dice.roll(3) == 0 {
                    world.project(1).await;
                }
            }
            world.project(u64::MAX).await;
            let once = replayed(&app, &mut world.dice, &told).await;
            let twice = replayed(&app, &mut world.dice, &told).await;
            assert!(once == twice, "{told}: two replays differ");
        }
    }
}

#[tokio::test]
async fn what_was_built_beyond_the_read_models_in_use_does_not_take_their_place() {
    let llm = ScriptedLlm::start().await;
    let app = App::start_api_only(variables(&llm, &[]).await, llm).await;
    let mut world = World::new(&app, 3);
    for _ in 0..80 {
        world.happen().await;
    }
    let (pool, vault) = (&app.core.pool, app.core.store.vault());
    let begin = async || {
        let begun = Replay::begin(pool, vault, SHADOW, &ALL, None, CancellationToken::new()).await;
        begun.unwrap()
    };
    let mut replay = begin().await;
    while replay.ahead().await.unwrap() > 0 {
        // A transaction of another test may hold the feed of the whole server back.
        replay.fill(&mut |_| {}).await.unwrap();
        tokio::task::yield_now().await;
    }
    world.project(1).await;
    let compared = replay.compare(&mut |_| {}).await.map(drop);
    let switched = begin().await.switch(&ALL, &mut |_| {}).await.map(drop);
    for refused in [compared, switched] {
        let told = refused.unwrap_err().to_string();
        assert!(told.contains("--restart"), "{told}");
    }
    world.project(u64::MAX).await;
    assert!(
        begin()
            .await
            .switch(&ALL, &mut |_| {})
            .await
            .unwrap()
            .is_empty()
    );
}

/// Replays in pages of some size, interrupted and resumed, and compares with what is live, row by row.
async fn replayed(app: &App, dice: &mut Dice, told: &str) -> Vec<Vec<String>> {
    let (pool, vault) = (&app.core.pool, app.core.store.vault());
    drop_copy(pool, CHECK).await.unwrap();
    let pages = Bounds {
        events: 7 + i64::try_from(dice.roll(60)).unwrap(),
        bytes: 1_000 + usize::try_from(dice.roll(20_000)).unwrap(),
    };
    let begin = async |stop: CancellationToken| {
        let begun = Replay::begin(pool, vault, CHECK, &ALL, None, stop).await;
        begun.unwrap().in_pages_of(pages)
    };
    let stop = CancellationToken::new();
    let mut left = dice.roll(200);
    let mut tell = |events| {
        left = left.saturating_sub(events);
        if left == 0 {
            stop.cancel();
        }
    };
    if let Err(error) = begin(stop.clone()).await.fill(&mut tell).await {
        assert!(error.is::<Stopped>(), "{told}: {error:#}");
    }
    let mut replay = begin(CancellationToken::new()).await;
    replay.fill(&mut |_| {}).await.unwrap();
    let compared = replay.complete(&mut |_| {}).await.unwrap();
    for table in compared.expect("something is live") {
        assert_eq!(table.differences, 0, "{told}: {table:#?}");
    }
    let mut all = Vec::new();
    for table in TABLES {
        let live = rows(pool, &format!("{LIVE}.{table}")).await;
        let built = rows(pool, &format!("{CHECK}.{table}")).await;
        assert!(
            live == built,
            "{told}: {table} differs:\n{live:#?}\n{built:#?}"
        );
        all.push(live);
    }
    all
}

/// Everything that can happen, at random.
struct World<'a> {
    app: &'a App,
    dice: Dice,
    users: Vec<User>,
}

struct User {
    name: ExternalUserId,
    id: UserId,
    conversations: Vec<Conversation>,
    memories: Vec<MemoryId>,
    keys: Vec<ApiKeyId>,
}

#[derive(Clone, Copy)]
struct Conversation {
    id: ConversationId,
    message: Option<MessageId>,
    running: Option<ReplyId>,
}

impl<'a> World<'a> {
    fn new(app: &'a App, seed: u64) -> Self {
        let user = |n| {
            let name = ExternalUserId::parse(&format!("user-{n}")).unwrap();
            User {
                id: UserId::of(&name),
                name,
                conversations: Vec::new(),
                memories: Vec::new(),
                keys: Vec::new(),
            }
        };
        Self {
            app,
            dice: Dice::new(seed),
            users: (0..4).map(user).collect(),
        }
    }

    /// Whether nothing lies behind the checkpoint.
    async fn is_projected(&self) -> bool {
        sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM events e, checkpoints c
                WHERE c.subscription = $1 AND (e.xid, e.position) > (c.xid, c.position))",
        )
        .bind(READ_MODELS)
        .fetch_one(&self.app.core.pool)
        .await
        .unwrap()
    }

    /// Projects so many pages at most, each of a random size; some are lost in a crash and some come
    /// twice.
    async fn project(&mut self, pages: u64) {
        let pool = &self.app.core.pool;
        let mut done = 0;
        while done < pages {
            let limit = 1 + i64::try_from(self.dice.roll(25)).unwrap();
            let mut transaction = pool.begin().await.unwrap();
            let at = take_checkpoint(&mut transaction, READ_MODELS)
                .await
                .unwrap();
            let Some(at) = at else {
                // The connection of the comparison before is still being given back.
                transaction.rollback().await.unwrap();
                tokio::task::yield_now().await;
                continue;
            };
            let vault = self.app.core.store.vault();
            let page = read_page(&mut transaction, vault, at, limit).await.unwrap();
            if page.read == 0 {
                transaction.rollback().await.unwrap();
                if pages < u64::MAX || self.is_projected().await {
                    return;
                }
                // A transaction of another test holds the feed of the whole server back.
                tokio::task::yield_now().await;
                continue;
            }
            let events: Vec<&Recorded> = page.events.iter().collect();
            let live = projections::project(&mut transaction, &events, &ALL, Manner::Live, true);
            live.await.unwrap();
            let moved = move_checkpoint(&mut transaction, READ_MODELS, page.after, page.next).await;
            assert!(moved.unwrap());
            if self.dice.roll(5) == 0 {
                transaction.rollback().await.unwrap();
                continue;
            }
            transaction.commit().await.unwrap();
            done += 1;
            if self.dice.roll(4) == 0 {
                let mut again = pool.begin().await.unwrap();
                let live = projections::project(&mut again, &events, &ALL, Manner::Live, true);
                live.await.unwrap();
                let moved = move_checkpoint(&mut again, READ_MODELS, page.after, page.next).await;
                assert!(!moved.unwrap(), "a page was taken twice");
                again.rollback().await.unwrap();
            }
        }
    }

    /// Something happens to somebody.
    async fn happen(&mut self) {
        let n = usize::try_from(self.dice.roll(self.users.len() as u64)).unwrap();
        let user = self.users[n].id;
        self.app
            .core
            .store
            .ensure_user(&self.users[n].name)
            .await
            .unwrap();
        match self.dice.roll(40) {
            0..=3 => self.begin(n).await,
            4..=13 => self.talk(n).await,
            14 => self.end(n, Ending::Deleted).await,
            15 => self.end(n, Ending::Cleared).await,
            16 => {
                let title = self.dice.words(3);
                self.in_conversation(n, ConversationRenamed { title }.into())
                    .await;
            }
            17 => self.in_conversation(n, ConversationReset {}.into()).await,
            18..=25 => self.record(n).await,
            26..=33 => self.change(n).await,
            34 => {
                let issued = api_keys::issue(&self.app.core.store, &self.users[n].name, "k").await;
                self.users[n].keys.push(issued.unwrap().id);
            }
            35 => {
                if let Some(key) = self.users[n].keys.pop() {
                    let store = &self.app.core.store;
                    assert!(api_keys::revoke(store, user, key).await.unwrap());
                }
            }
            36 if self.dice.roll(3) == 0 => {
                Eraser::of(&self.app.core).erase(user).await.unwrap();
                let User {
                    conversations,
                    memories,
                    keys,
                    ..
                } = &mut self.users[n];
                conversations.clear();
                memories.clear();
                keys.clear();
            }
            _ => {
                if let Some(conversation) = self.conversation(n) {
                    let completed = ExtractionCompleted {
                        conversation_id: conversation.id,
                        through_version: i64::try_from(self.dice.roll(9)).unwrap(),
                        method: ExtractionMethod::None,
                        fallback: None,
                        found: 0,
                        left_out: Vec::new(),
                        silent: Vec::new(),
                    };
                    self.append(n, StreamId::memory(user), completed.into())
                        .await;
                }
            }
        }
    }

    async fn append(&self, n: usize, stream: StreamId, event: Event) {
        let events = vec![(event, Metadata::default())];
        let store = &self.app.core.store;
        let append = store.append(&stream, self.users[n].id, Expected::Any, events, None);
        append.await.unwrap();
    }

    fn conversation(&mut self, n: usize) -> Option<Conversation> {
        let conversations = &self.users[n].conversations;
        (!conversations.is_empty()).then(|| *self.dice.pick(conversations))
    }

    async fn in_conversation(&mut self, n: usize, event: Event) {
        if let Some(conversation) = self.conversation(n) {
            self.append(n, StreamId::conversation(conversation.id), event)
                .await;
        }
    }

    async fn begin(&mut self, n: usize) {
        let id = ConversationId(Uuid::now_v7());
        let started = ConversationStarted {
            conversation_id: id,
            title: (self.dice.roll(3) == 0).then(|| self.dice.words(2)),
        };
        self.append(n, StreamId::conversation(id), started.into())
            .await;
        self.users[n].conversations.push(Conversation {
            id,
            message: None,
            running: None,
        });
    }

    /// A message, or what becomes of the reply to the last one.
    async fn talk(&mut self, n: usize) {
        let Some(conversation) = self.conversation(n) else {
            return;
        };
        let (message, reply) = (MessageId(Uuid::now_v7()), ReplyId(Uuid::now_v7()));
        let lease = Uuid::now_v7();
        let content = self.dice.words(5);
        let (event, running): (Event, _) = match (conversation.running, self.dice.roll(6)) {
            (None, 0) => {
                let messages = (0..self.dice.roll(4) + 1).map(|n| ImportedMessage {
                    message_id: MessageId(Uuid::now_v7()),
                    role: if n % 2 == 0 {
                        Role::User
                    } else {
                        Role::Assistant
                    },
                    name: (n == 0).then(|| "Ann".to_owned()),
                    content: self.dice.words(4),
                    created_at: chrono::Utc::now() - chrono::TimeDelta::days(900),
                    external_id: Some(n.to_string()),
                });
                let messages = messages.collect();
                (
                    MessagesImported {
                        messages,
                        extract: true,
                    }
                    .into(),
                    None,
                )
            }
            (None, 1) if conversation.message.is_some() => {
                let requested = ReplyRequested {
                    reply_id: reply,
                    message_id: conversation.message.unwrap(),
                    lease,
                };
                (requested.into(), Some(reply))
            }
            (None, _) => {
                let received = UserMessageReceived {
                    message_id: message,
                    content,
                    timezone: (self.dice.roll(3) == 0).then(|| "Europe/Berlin".to_owned()),
                    reply_id: reply,
                    lease,
                };
                (received.into(), Some(reply))
            }
            (Some(reply_id), 0 | 1) => {
                let recalled = self.users[n].memories.iter().map(|id| RecalledMemory {
                    memory_id: *id,
                    content: "a memory".to_owned(),
                    score: 1.0 / (3.0 + self.dice.roll(1000) as f64),
                    similarity: 1e-7 * self.dice.roll(1000) as f64,
                });
                let started = ReplyStarted {
                    reply_id,
                    recalled: recalled.collect(),
                    context_messages: 3,
                };
                (started.into(), Some(reply_id))
            }
            (Some(reply_id), 2) => (
                ReplyCancelled {
                    reply_id,
                    partial: String::new(),
                }
                .into(),
                None,
            ),
            (Some(reply_id), 3) => {
                let reason = *self.dice.pick(&FailureReason::ALL);
                (
                    ReplyFailed {
                        reply_id,
                        partial: content,
                        reason,
                    }
                    .into(),
                    None,
                )
            }
            (Some(reply_id), _) => (ReplyCompleted { reply_id, content }.into(), None),
        };
        let known = self.users[n]
            .conversations
            .iter_mut()
            .find(|c| c.id == conversation.id);
        let known = known.unwrap();
        known.running = running;
        if let Event::UserMessageReceived(received) = &event {
            known.message = Some(received.message_id);
        }
        self.append(n, StreamId::conversation(conversation.id), event)
            .await;
    }

    /// Clears a conversation, as the service does it; or deletes it, too.
    async fn end(&mut self, n: usize, ending: Ending) {
        let Some(conversation) = self.conversation(n) else {
            return;
        };
        let user = self.users[n].id;
        let stream = StreamId::conversation(conversation.id);
        let through = self.app.core.store.version(&stream).await.unwrap();
        let (mut forgotten, mut unsupported) = (Vec::new(), Vec::new());
        for memory in std::mem::take(&mut self.users[n].memories) {
            match self.dice.roll(3) {
                0 => forgotten.push(memory),
                1 => unsupported.push(memory),
                _ => self.users[n].memories.push(memory),
            }
        }
        self.users[n].memories.extend(&unsupported);
        let cleared = MemoriesCleared {
            conversation_id: conversation.id,
            through_version: through - i64::try_from(self.dice.roll(2)).unwrap(),
            forgotten,
            unsupported,
        };
        let with = |event: Event| vec![(event, Metadata::default())];
        let mut appends = vec![Append {
            stream: StreamId::memory(user),
            expected: Expected::Any,
            events: with(cleared.into()),
        }];
        if matches!(ending, Ending::Deleted) {
            self.users[n]
                .conversations
                .retain(|c| c.id != conversation.id);
            appends.push(Append {
                stream,
                expected: Expected::Any,
                events: with(ConversationDeleted {}.into()),
            });
        }
        let store = &self.app.core.store;
        store
            .append_together(user, appends, async |_| Ok(()))
            .await
            .unwrap();
    }

    fn source(&mut self, n: usize) -> Vec<Source> {
        let source = |c: Conversation| Source {
            conversation_id: c.id,
            message_id: c.message.unwrap_or(MessageId(c.id.0)),
        };
        self.conversation(n).map(source).into_iter().collect()
    }

    async fn record(&mut self, n: usize) {
        let memory_id = MemoryId(Uuid::now_v7());
        let at = chrono::Utc::now();
        let recorded = MemoryRecorded {
            memory_id,
            content: self.dice.words(4),
            kind: *self.dice.pick(&MemoryKind::ALL),
            importance: 1.0 / (2.0 + self.dice.roll(100) as f64),
            explicit: self.dice.roll(2) == 0,
            sources: self.source(n),
            subject: (self.dice.roll(2) == 0).then(|| "home".to_owned()),
            occurred_at: (self.dice.roll(2) == 0).then_some(at),
            valid_from: at,
            told_at: at,
            reason: "told".to_owned(),
        };
        self.users[n].memories.push(memory_id);
        self.append(n, StreamId::memory(self.users[n].id), recorded.into())
            .await;
    }

    async fn change(&mut self, n: usize) {
        let memories = &self.users[n].memories;
        if memories.is_empty() {
            return;
        }
        let (memory_id, other) = (*self.dice.pick(memories), *self.dice.pick(memories));
        let at = chrono::Utc::now();
        let event: Event = match self.dice.roll(6) {
            0 => {
                self.users[n].memories.retain(|id| *id != memory_id);
                MemoryForgotten { memory_id }.into()
            }
            1 => MemoryReinforced {
                memory_id,
                sources: self.source(n),
                reinforced_at: at - chrono::TimeDelta::days(1),
                reason: "told again".to_owned(),
            }
            .into(),
            2 => MemoryRevised {
                memory_id,
                content: (self.dice.roll(2) == 0).then(|| self.dice.words(4)),
                kind: Some(MemoryKind::Fact),
                importance: (self.dice.roll(2) == 0).then_some(0.1),
                explicit: (self.dice.roll(2) == 0).then_some(true),
                occurred_at: (self.dice.roll(2) == 0).then_some(at),
                subject: (self.dice.roll(2) == 0).then(|| "work".to_owned()),
                sources: self.source(n),
                revised_at: at,
                reason: "corrected".to_owned(),
            }
            .into(),
            3 => MemoryFaded {
                memory_id,
                importance_now: 0.01,
                fade_below: 0.05,
            }
            .into(),
            4 => {
                let used = |memory_id| MemoryUse {
                    memory_id,
                    times: 1,
                    last_at: at,
                };
                let memories = self.users[n].memories.iter().copied().map(used);
                MemoriesRecalled {
                    memories: memories.collect(),
                    through: at,
                }
                .into()
            }
            _ => MemorySuperseded {
                memory_id,
                superseded_by: Some(other),
                valid_to: at,
                sources: Vec::new(),
                reason: "contradicted".to_owned(),
            }
            .into(),
        };
        self.append(n, StreamId::memory(self.users[n].id), event)
            .await;
    }
}

#[derive(Clone, Copy)]
enum Ending {
    Cleared,
    Deleted,
}
