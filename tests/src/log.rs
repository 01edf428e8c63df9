//! A log as it comes about in years of use, made at once: chats, imports and memories of many users,
//! sealed as the service seals them.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use companion_adapters::vault::{Binding, DataKey, Vault};
use companion_domain::conversation::Role;
use companion_domain::events::{
    ConversationDeleted, ConversationRenamed, ConversationReset, ConversationStarted, Event,
    ExtractionCompleted, ExtractionMethod, ImportedMessage, MemoriesCleared, MemoryForgotten,
    MemoryRecorded, MemoryReinforced, MemorySuperseded, MessagesImported, Metadata, RecalledMemory,
    ReplyCompleted, ReplyStarted, UserMessageReceived, UserRegistered,
};
use companion_domain::ids::{
    ConversationId, ExternalUserId, MemoryId, MessageId, ReplyId, StreamId, UserId,
};
use companion_domain::memory::{MemoryKind, Source};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

/// Events of a user, about.
const PER_USER: u64 = 200;
/// Users who talk at the same time.
const AT_ONCE: usize = 64;
/// Events of a transaction.
const TOGETHER: usize = 10_000;

/// Numbers that look random and are the same in each run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall as this seed says.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, below `sides`: splitmix64, <https://prng.di.unimi.it/splitmix64.c>.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides.max(1)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[usize::try_from(self.roll(of.len() as u64)).unwrap_or(0)]
    }

    /// A text of that many words.
    pub fn words(&mut self, count: u64) -> String {
        let words: Vec<&str> = (0..count).map(|_| *self.pick(WORDS)).collect();
        words.join(" ")
    }
}

const WORDS: &[&str] = &[
    "I",
    "you",
    "we",
    "they",
    "my",
    "sister",
    "dog",
    "garden",
    "Lisbon",
    "Berlin",
    "work",
    "hospital",
    "train",
    "coffee",
    "morning",
    "yesterday",
    "tomorrow",
    "when",
    "because",
    "and",
    "but",
    "so",
    "never",
    "always",
    "moved",
    "loves",
    "forgot",
    "bought",
    "is",
    "was",
    "will",
    "remember",
    "thinking",
    "about",
    "a",
    "the",
    "new",
    "old",
    "green",
    "tired",
    "happy",
    "with",
    "without",
    "in",
    "on",
    "at",
    "from",
    "to",
    "guitar",
    "lessons",
    "piano",
    "book",
    "recipe",
    "marathon",
    "doctor",
    "birthday",
    "holiday",
    "rain",
    "sun",
    "really",
    "quite",
];

/// Makes a log of so many events in an empty, migrated database.
///
/// # Panics
/// When the database fails, or is not empty.
pub async fn generate(pool: &PgPool, vault: &Vault, events: u64, tell: impl Fn(u64)) {
    let users = (events / PER_USER).max(1);
    let mut world = World {
        dice: Dice::new(42),
        at: DateTime::from_timestamp(1_735_700_000, 0).expect("in range"),
        versions: HashMap::new(),
    };
    let mut waiting = 0..users;
    let mut talking: Vec<Person> = Vec::new();
    let (mut made, mut batch) = (0, Vec::new());
    while made < events {
        while talking.len() < AT_ONCE {
            let Some(n) = waiting.next() else { break };
            talking.push(Person::new(pool, vault, n, &mut world, &mut batch).await);
        }
        if talking.is_empty() {
            waiting = users + made..users + made + 1;
            continue;
        }
        let n = usize::try_from(world.dice.roll(talking.len() as u64)).expect("small");
        let before = batch.len();
        talking[n].live(&mut world, &mut batch);
        talking[n].left = talking[n]
            .left
            .saturating_sub((batch.len() - before) as u64);
        if talking[n].left == 0 {
            talking.swap_remove(n);
        }
        let left = usize::try_from(events - made).expect("small");
        if batch.len() >= TOGETHER.min(left) {
            batch.truncate(left);
            made += batch.len() as u64;
            insert(pool, &batch).await;
            batch.clear();
            tell(made);
        }
    }
    let streams = "INSERT INTO streams (stream_id, user_id, version)
                   SELECT stream_id, (array_agg(user_id))[1], max(version) FROM events GROUP BY stream_id";
    sqlx::query(streams)
        .execute(pool)
        .await
        .expect("the streams");
    sqlx::query("VACUUM ANALYZE events")
        .execute(pool)
        .await
        .expect("statistics");
}

async fn insert(pool: &PgPool, batch: &[Row]) {
    macro_rules! column {
        ($value:expr) => {
            batch.iter().map($value).collect::<Vec<_>>()
        };
    }
    let insert = "INSERT INTO events (event_id, stream_id, version, user_id, type, schema_version, key_id, payload, meta, recorded_at)
                  SELECT * FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::smallint[], $7::uuid[], $8::bytea[], $9::jsonb[], $10::timestamptz[])";
    sqlx::query(insert)
        .bind(column!(|row| row.id))
        .bind(column!(|row| &row.stream))
        .bind(column!(|row| row.version))
        .bind(column!(|row| row.user))
        .bind(column!(|row| &row.type_name))
        .bind(column!(|row| row.schema_version))
        .bind(column!(|row| row.key))
        .bind(column!(|row| &row.payload))
        .bind(column!(|row| Json(&row.meta)))
        .bind(column!(|row| row.at))
        .execute(pool)
        .await
        .expect("inserts");
}

/// An event, sealed.
struct Row {
    id: Uuid,
    stream: String,
    version: i64,
    user: Uuid,
    type_name: &'static str,
    schema_version: i16,
    key: Uuid,
    payload: Vec<u8>,
    meta: Metadata,
    at: DateTime<Utc>,
}

struct World {
    dice: Dice,
    at: DateTime<Utc>,
    versions: HashMap<String, i64>,
}

/// A user who talks.
struct Person {
    user: UserId,
    key: DataKey,
    conversation: Option<(ConversationId, u64)>,
    memories: Vec<(MemoryId, String, Source)>,
    left: u64,
}

impl Person {
    async fn new(
        pool: &PgPool,
        vault: &Vault,
        n: u64,
        world: &mut World,
        batch: &mut Vec<Row>,
    ) -> Self {
        let external = ExternalUserId::parse(&format!("user-{n}")).expect("a user id");
        let user = UserId::of(&external);
        let mut connection = pool.acquire().await.expect("a connection");
        let key = vault
            .create(&mut connection, user, None)
            .await
            .expect("a key");
        let person = Self {
            user,
            key: key.expect("an empty database"),
            conversation: None,
            memories: Vec::new(),
            left: PER_USER,
        };
        let registered = UserRegistered {
            external_id: external.as_str().to_owned(),
        };
        person.append(world, batch, StreamId::user(user), registered.into());
        person
    }

    fn append(&self, world: &mut World, batch: &mut Vec<Row>, stream: StreamId, event: Event) {
        world.at += TimeDelta::milliseconds(300);
        let version = world
            .versions
            .entry(stream.as_str().to_owned())
            .or_default();
        *version += 1;
        let (id, type_name, schema_version) =
            (Uuid::now_v7(), event.type_name(), event.schema_version());
        let binding = Binding {
            event_id: id,
            type_name,
            schema_version,
        };
        let payload = event.to_payload().expect("JSON");
        batch.push(Row {
            id,
            stream: stream.as_str().to_owned(),
            version: *version,
            user: self.user.0,
            type_name,
            schema_version,
            key: self.key.id,
            payload: self.key.seal(binding, &payload).expect("seals"),
            meta: Metadata {
                correlation_id: Some(id),
                causation_id: batch.last().map(|row| row.id),
                code_version: Some("0.1.0".to_owned()),
                ..Metadata::default()
            },
            at: world.at,
        });
    }

    /// The next thing that happens.
    fn live(&mut self, world: &mut World, batch: &mut Vec<Row>) {
        let Some((conversation, turns)) = self.conversation else {
            self.begin(world, batch);
            return;
        };
        let stream = StreamId::conversation(conversation);
        if turns == 0 {
            self.conversation = None;
            let deleted = ConversationDeleted {};
            match world.dice.roll(50) {
                0 => self.clear(world, batch, conversation, false),
                1 => {
                    self.clear(world, batch, conversation, true);
                    self.append(world, batch, stream, deleted.into());
                }
                2..=6 => {
                    let title = world.dice.words(4);
                    self.append(world, batch, stream, ConversationRenamed { title }.into());
                }
                7 => self.append(world, batch, stream, ConversationReset {}.into()),
                _ => {}
            }
            return;
        }
        self.conversation = Some((conversation, turns - 1));
        let message = self.turn(world, batch, &stream);
        if world.dice.roll(3) == 0 {
            self.extract(world, batch, conversation, message);
        }
    }

    fn begin(&mut self, world: &mut World, batch: &mut Vec<Row>) {
        let conversation = ConversationId(Uuid::now_v7());
        let stream = StreamId::conversation(conversation);
        let started = ConversationStarted {
            conversation_id: conversation,
            title: None,
        };
        self.append(world, batch, stream.clone(), started.into());
        if world.dice.roll(20) == 0 {
            let messages = (0..20).map(|n| ImportedMessage {
                message_id: MessageId(Uuid::now_v7()),
                role: if n % 2 == 0 {
                    Role::User
                } else {
                    Role::Assistant
                },
                name: None,
                content: world.dice.words(25),
                created_at: world.at - TimeDelta::days(400) + TimeDelta::minutes(n),
                external_id: Some(format!("imported-{n}")),
            });
            let messages = messages.collect();
            let imported = MessagesImported {
                messages,
                extract: false,
            };
            self.append(world, batch, stream, imported.into());
            return;
        }
        self.conversation = Some((conversation, 2 + world.dice.roll(12)));
    }

    fn turn(&self, world: &mut World, batch: &mut Vec<Row>, stream: &StreamId) -> MessageId {
        let (message, reply) = (MessageId(Uuid::now_v7()), ReplyId(Uuid::now_v7()));
        let length = 6 + world.dice.roll(20);
        let received = UserMessageReceived {
            message_id: message,
            content: world.dice.words(length),
            timezone: (world.dice.roll(10) == 0).then(|| "Europe/Berlin".to_owned()),
            reply_id: reply,
            lease: self.key.id,
        };
        self.append(world, batch, stream.clone(), received.into());
        let recalled = self
            .memories
            .iter()
            .rev()
            .take(3)
            .map(|(id, content, _)| RecalledMemory {
                memory_id: *id,
                content: content.clone(),
                score: 0.731_4,
                similarity: 0.512_3,
            });
        let started = ReplyStarted {
            reply_id: reply,
            recalled: recalled.collect(),
            context_messages: 8,
        };
        self.append(world, batch, stream.clone(), started.into());
        let length = 15 + world.dice.roll(50);
        let completed = ReplyCompleted {
            reply_id: reply,
            content: world.dice.words(length),
        };
        self.append(world, batch, stream.clone(), completed.into());
        message
    }

    fn extract(
        &mut self,
        world: &mut World,
        batch: &mut Vec<Row>,
        conversation: ConversationId,
        message: MessageId,
    ) {
        let stream = StreamId::memory(self.user);
        let source = Source {
            conversation_id: conversation,
            message_id: message,
        };
        match world.dice.roll(8) {
            0..=3 => drop(self.record(world, batch, source)),
            4 if !self.memories.is_empty() => {
                let (memory_id, ..) = *world.dice.pick(&self.memories);
                let reinforced = MemoryReinforced {
                    memory_id,
                    sources: vec![source],
                    reinforced_at: world.at,
                    reason: "it says the same".to_owned(),
                };
                self.append(world, batch, stream.clone(), reinforced.into());
            }
            5 if !self.memories.is_empty() => {
                let old = self.memories.remove(0).0;
                let new = self.record(world, batch, source);
                let superseded = MemorySuperseded {
                    memory_id: old,
                    superseded_by: Some(new),
                    valid_to: world.at,
                    sources: vec![source],
                    reason: "another value of the same slot".to_owned(),
                };
                self.append(world, batch, stream.clone(), superseded.into());
            }
            6 if self.memories.len() > 8 => {
                let memory_id = self.memories.remove(0).0;
                self.append(
                    world,
                    batch,
                    stream.clone(),
                    MemoryForgotten { memory_id }.into(),
                );
            }
            _ => {}
        }
        let through = world.versions[StreamId::conversation(conversation).as_str()];
        let completed = ExtractionCompleted {
            conversation_id: conversation,
            through_version: through,
            method: ExtractionMethod::Heuristic,
            fallback: None,
            found: 1,
            left_out: Vec::new(),
            silent: Vec::new(),
        };
        self.append(world, batch, stream, completed.into());
    }

    fn record(&mut self, world: &mut World, batch: &mut Vec<Row>, source: Source) -> MemoryId {
        let memory = MemoryId(Uuid::now_v7());
        let content = format!("User {}", world.dice.words(7));
        let recorded = MemoryRecorded {
            memory_id: memory,
            content: content.clone(),
            kind: *world.dice.pick(&MemoryKind::ALL),
            importance: 0.6,
            explicit: false,
            sources: vec![source],
            subject: None,
            occurred_at: None,
            valid_from: world.at,
            told_at: world.at,
            reason: "a new fact".to_owned(),
        };
        self.memories.push((memory, content, source));
        self.append(world, batch, StreamId::memory(self.user), recorded.into());
        memory
    }

    fn clear(
        &mut self,
        world: &mut World,
        batch: &mut Vec<Row>,
        conversation: ConversationId,
        all: bool,
    ) {
        let through = world.versions[StreamId::conversation(conversation).as_str()];
        let of_it =
            |(.., source): &(MemoryId, String, Source)| source.conversation_id == conversation;
        let forgotten = self
            .memories
            .iter()
            .filter(|m| of_it(m))
            .map(|(id, ..)| *id)
            .collect();
        self.memories.retain(|memory| !of_it(memory));
        let cleared = MemoriesCleared {
            conversation_id: conversation,
            through_version: through + i64::from(all),
            forgotten,
            unsupported: Vec::new(),
        };
        self.append(world, batch, StreamId::memory(self.user), cleared.into());
    }
}

/// Every row of a table, as text and in the order of the text: to compare it with another.
///
/// # Panics
/// When the database fails.
pub async fn rows(pool: &PgPool, table: &str) -> Vec<String> {
    let sql = format!("SELECT t::text FROM {table} t ORDER BY 1");
    let rows = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(pool).await;
    rows.unwrap_or_else(|error| panic!("{table}: {error}"))
}
