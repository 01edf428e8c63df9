//! The event log: append to a stream, read a stream.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use companion_domain::events::{Event, Metadata, Recorded, UserRegistered};
use companion_domain::ids::{EventId, ExternalUserId, StreamId, UserId};
use foldhash::HashMap;
use sqlx::types::Json;
use sqlx::{PgConnection, PgPool};
use tokio::sync::watch;
use uuid::Uuid;

use crate::transaction;
use crate::vault::{Binding, DataKey, Vault, VaultError};
use crate::{erasure, metrics, telemetry};

/// The query for [`EventRow`]s, with its conditions.
macro_rules! select_events {
    ($conditions:literal) => {
        concat!(
            "SELECT e.position, e.xid::text::bigint AS xid, e.event_id, e.stream_id, e.version, e.user_id, e.type,
                    e.schema_version, e.key_id, e.payload, e.meta, e.recorded_at
             FROM events e ",
            $conditions
        )
    };
}
pub(crate) use select_events;

/// The version of the software, for the metadata of events.
const CODE_VERSION: &str = env!("CARGO_PKG_VERSION");
/// How long an idempotency key is kept.
const KEPT_FOR: Duration = Duration::from_hours(24);

/// What the stream must be at for an append to take place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever it is at.
    Any,
    /// This version; 0 for a stream that doesn't exist yet.
    Version(i64),
}

/// A key by which a caller makes an append repeatable.
#[derive(Debug, Clone, Copy)]
pub struct Idempotency<'a> {
    /// The caller's key, unique to the user.
    pub key: &'a str,
    /// What the request was: the same key with another hash is refused.
    pub request_hash: &'a [u8],
}

/// One life of a user, from being registered to being erased.
#[derive(Clone)]
pub struct Life(DataKey);

impl Life {
    /// The key of this life.
    pub(crate) fn key(&self) -> &DataKey {
        &self.0
    }
}

/// Events for one stream.
#[derive(Debug)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// What it must be at.
    pub expected: Expected,
    /// What happened.
    pub events: Vec<(Event, Metadata)>,
}

/// What an append did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The stream's version after it.
    pub version: i64,
    /// The ids of the events, in order; empty when repeated.
    pub ids: Vec<EventId>,
    /// Whether the idempotency key had done it before, and nothing was appended now.
    pub repeated: bool,
}

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The stream is not at the expected version.
    #[error("the stream is at version {actual}, not at the expected one")]
    Conflict {
        /// The version it is at.
        actual: i64,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The user has no key: erased.
    #[error("the user does not exist")]
    NoUser,
    /// The payload could not be sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The payload could not be written as JSON.
    #[error("an event can't be written: {0}")]
    Payload(#[from] serde_json::Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Why events can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The payload can't be opened.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The event's shape is unknown.
    #[error(transparent)]
    Unreadable(#[from] companion_domain::events::UnreadableEvent),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// The event log with the keys to it.
#[derive(Clone)]
pub struct EventStore {
    pool: PgPool,
    vault: Vault,
    appends: watch::Sender<u64>,
}

impl EventStore {
    /// The log in this database.
    pub fn new(pool: PgPool, vault: Vault) -> Self {
        Self {
            pool,
            vault,
            appends: watch::Sender::default(),
        }
    }

    /// The database of the log.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The keys of the log.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Changes with every append of this process, so that its subscriptions need not poll for it.
    pub fn appends(&self) -> watch::Receiver<u64> {
        self.appends.subscribe()
    }

    /// Makes sure that a user is registered.
    ///
    /// # Errors
    /// [`AppendError`] when the database fails.
    pub async fn ensure_user(&self, external: &ExternalUserId) -> Result<UserId, AppendError> {
        let erased = erasure::last(&self.pool, UserId::of(external)).await?;
        self.ensure_user_since(external, erased.map(|erased| erased.erased_at))
            .await
    }

    /// Makes sure that a user is registered, on behalf of somebody whose credential was judged when the user
    /// had last been erased then. Of a user who was erased meanwhile no new life is begun.
    ///
    /// # Errors
    /// [`AppendError::NoUser`] when they were erased meanwhile; when the database fails.
    pub async fn ensure_user_since(
        &self,
        external: &ExternalUserId,
        erased_at: Option<DateTime<Utc>>,
    ) -> Result<UserId, AppendError> {
        let user = UserId::of(external);
        match self.vault.key(&self.pool, user).await {
            Ok(_) => {
                let erased = erasure::last(&self.pool, user).await?;
                return match erased.map(|erased| erased.erased_at) == erased_at {
                    true => Ok(user),
                    false => Err(AppendError::NoUser),
                };
            }
            Err(VaultError::NoKey) => {}
            Err(error) => return Err(error.into()),
        }
        let stream = StreamId::user(user);
        let mut transaction = transaction::begin(&self.pool).await?;
        lock(&mut transaction, &stream).await?;
        // Nobody else hears of the key before it is there.
        if let Some(key) = self.vault.create(&mut transaction, user, erased_at).await? {
            let registered = UserRegistered {
                external_id: external.as_str().to_owned(),
            };
            let batch = Batch::seal(&key, vec![(registered.into(), Metadata::default())])?;
            batch
                .append(&mut transaction, &stream, user, key.id, Expected::Any, None)
                .await?;
        }
        transaction.commit().await?;
        Ok(user)
    }

    /// Appends events to a stream, all or none, in one round trip and one commit.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when the stream is not at `expected`; see [`AppendError`].
    pub async fn append(
        &self,
        stream: &StreamId,
        user: UserId,
        expected: Expected,
        events: Vec<(Event, Metadata)>,
        idempotency: Option<Idempotency<'_>>,
    ) -> Result<Appended, AppendError> {
        let life = self.life(user).await?;
        self.append_in(life, stream, user, expected, events, idempotency)
            .await
    }

    /// The life of a user that goes on now: one who was erased and begins anew has another.
    ///
    /// # Errors
    /// [`AppendError::NoUser`] when they were erased.
    pub async fn life(&self, user: UserId) -> Result<Life, AppendError> {
        match self.vault.key(&self.pool, user).await {
            Ok(key) => Ok(Life(key)),
            Err(VaultError::NoKey) => Err(AppendError::NoUser),
            Err(error) => Err(error.into()),
        }
    }

    /// Appends events, see [`EventStore::append`], as long as this life of the user goes on: what was
    /// read in one is not to be written into the next.
    ///
    /// # Errors
    /// [`AppendError::NoUser`] when it has ended; see [`AppendError`].
    pub async fn append_in(
        &self,
        Life(key): Life,
        stream: &StreamId,
        user: UserId,
        expected: Expected,
        events: Vec<(Event, Metadata)>,
        idempotency: Option<Idempotency<'_>>,
    ) -> Result<Appended, AppendError> {
        let batch = Batch::seal(&key, events)?;
        let mut connection = self.pool.acquire().await?;
        let recorded = batch.count("MemoryRecorded");
        let append = batch.append(&mut connection, stream, user, key.id, expected, idempotency);
        let appended = metrics::query("append", append).await;
        match &appended {
            Ok(_) => self.appended(recorded),
            Err(AppendError::NoUser) => self.vault.forget(user).await,
            Err(_) => {}
        }
        appended
    }

    /// Tells who waits for it, and counts.
    pub(crate) fn appended(&self, memories: usize) {
        metrics::memories_stored(memories);
        self.appends.send_modify(|n| *n += 1);
    }

    /// Appends to several streams of one user, all or nothing, and does `also` in the same commit.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] when one of the streams is not at the expected version; see
    /// [`AppendError`].
    pub async fn append_together(
        &self,
        user: UserId,
        mut appends: Vec<Append>,
        also: impl AsyncFnOnce(&mut PgConnection) -> Result<(), sqlx::Error> + Send,
    ) -> Result<(), AppendError> {
        let key = match self.vault.key(&self.pool, user).await {
            Err(VaultError::NoKey) => return Err(AppendError::NoUser),
            key => key?,
        };
        // Always in the same order, so that two of these never wait for each other.
        appends.sort_by(|a, b| a.stream.as_str().cmp(b.stream.as_str()));
        let mut transaction = transaction::begin(&self.pool).await?;
        for append in &appends {
            lock(&mut transaction, &append.stream).await?;
        }
        let mut recorded = 0;
        for Append {
            stream,
            expected,
            events,
        } in appends
        {
            let batch = Batch::seal(&key, events)?;
            recorded += batch.count("MemoryRecorded");
            let appended = batch.append(&mut transaction, &stream, user, key.id, expected, None);
            match appended.await {
                Ok(_) => {}
                Err(AppendError::NoUser) => {
                    self.vault.forget(user).await;
                    return Err(AppendError::NoUser);
                }
                Err(error) => return Err(error),
            }
        }
        also(&mut transaction).await?;
        transaction.commit().await?;
        self.appended(recorded);
        Ok(())
    }

    /// What a caller's idempotency key led to in the last day, if it was used.
    ///
    /// # Errors
    /// [`AppendError::KeyReused`] when it was used for another request.
    pub async fn led_to(
        &self,
        user: UserId,
        idempotency: Idempotency<'_>,
    ) -> Result<Option<(StreamId, i64)>, AppendError> {
        let row: Option<(Vec<u8>, String, i64, bool)> = sqlx::query_as(
            "SELECT request_hash, stream_id, version, created_at < now() - make_interval(secs => $3)
             FROM idempotency WHERE user_id = $1 AND key = $2",
        )
        .bind(user.0)
        .bind(idempotency.key)
        .bind(KEPT_FOR.as_secs_f64())
        .fetch_optional(&self.pool)
        .await?;
        match row {
            None => Ok(None),
            Some((.., true)) => {
                self.forget_keys().await?;
                Ok(None)
            }
            Some((hash, ..)) if hash != idempotency.request_hash => Err(AppendError::KeyReused),
            Some((_, stream, version, _)) => Ok(Some((StreamId::stored(stream), version))),
        }
    }

    /// Forgets idempotency keys that are older than a day.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_keys(&self) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM idempotency WHERE created_at < now() - make_interval(secs => $1)")
            .bind(KEPT_FOR.as_secs_f64())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The version that a stream is at; 0 when it doesn't exist.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn version(&self, stream: &StreamId) -> Result<i64, sqlx::Error> {
        let version: Option<i64> =
            sqlx::query_scalar("SELECT version FROM streams WHERE stream_id = $1")
                .bind(stream.as_str())
                .fetch_optional(&self.pool)
                .await?;
        Ok(version.unwrap_or(0))
    }

    /// Reads a stream from after a version to its end, in order. Events of a key that is gone (an
    /// earlier life of an erased user) are left out.
    ///
    /// # Errors
    /// [`ReadError`] when an event can't be opened or read.
    pub async fn read_stream(
        &self,
        stream: &StreamId,
        after_version: i64,
    ) -> Result<Vec<Recorded>, ReadError> {
        self.read_some(stream, after_version, i64::MAX).await
    }

    /// Reads at most `limit` events of a stream from after a version, in order, see
    /// [`EventStore::read_stream`].
    ///
    /// # Errors
    /// [`ReadError`] when an event can't be opened or read.
    pub async fn read_some(
        &self,
        stream: &StreamId,
        after_version: i64,
        limit: i64,
    ) -> Result<Vec<Recorded>, ReadError> {
        let mut connection = self.pool.acquire().await?;
        let rows: Vec<EventRow> = sqlx::query_as(select_events!(
            "WHERE e.stream_id = $1 AND e.version > $2 ORDER BY e.version LIMIT $3"
        ))
        .bind(stream.as_str())
        .bind(after_version)
        .bind(limit)
        .fetch_all(&mut *connection)
        .await?;
        open(&self.vault, &mut connection, rows).await
    }

    /// Reads certain events of a stream, in order.
    ///
    /// # Errors
    /// [`ReadError`] when an event can't be opened or read.
    pub async fn read_versions(
        &self,
        stream: &StreamId,
        versions: &[i64],
    ) -> Result<Vec<Recorded>, ReadError> {
        let mut connection = self.pool.acquire().await?;
        let rows: Vec<EventRow> = sqlx::query_as(select_events!(
            "WHERE e.stream_id = $1 AND e.version = ANY($2) ORDER BY e.version"
        ))
        .bind(stream.as_str())
        .bind(versions)
        .fetch_all(&mut *connection)
        .await?;
        open(&self.vault, &mut connection, rows).await
    }
}

/// Takes the lock on a stream that every append takes first, before the transaction has an xid: the
/// feed goes by xids, and is to show a stream in its order.
async fn lock(transaction: &mut PgConnection, stream: &StreamId) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(stream.as_str())
        .execute(transaction)
        .await?;
    Ok(())
}

/// Events sealed and laid out in columns for `append_events`.
#[derive(Default)]
struct Batch {
    ids: Vec<Uuid>,
    types: Vec<&'static str>,
    schema_versions: Vec<i16>,
    payloads: Vec<Vec<u8>>,
    metas: Vec<Json<Metadata>>,
}

impl Batch {
    fn seal(key: &DataKey, events: Vec<(Event, Metadata)>) -> Result<Self, AppendError> {
        let mut batch = Self::default();
        let mut before = None;
        for (event, mut metadata) in events {
            let (id, type_name, schema_version) =
                (Uuid::now_v7(), event.type_name(), event.schema_version());
            let binding = Binding {
                event_id: id,
                type_name,
                schema_version,
            };
            batch
                .payloads
                .push(key.seal(binding, &event.to_payload()?)?);
            metadata.causation_id = metadata.causation_id.or(before);
            metadata.traceparent = metadata.traceparent.or_else(telemetry::traceparent);
            metadata.code_version = Some(CODE_VERSION.to_owned());
            before = Some(id);
            batch.ids.push(id);
            batch.types.push(type_name);
            batch.schema_versions.push(schema_version);
            batch.metas.push(Json(metadata));
        }
        Ok(batch)
    }

    /// How many of the events are of a type.
    fn count(&self, type_name: &str) -> usize {
        self.types.iter().filter(|name| **name == type_name).count()
    }

    #[tracing::instrument(name = "append", skip_all, fields(stream.id = stream.as_str(), events = self.ids.len()))]
    async fn append(
        self,
        connection: &mut PgConnection,
        stream: &StreamId,
        user: UserId,
        key_id: Uuid,
        expected: Expected,
        idempotency: Option<Idempotency<'_>>,
    ) -> Result<Appended, AppendError> {
        let expected = match expected {
            Expected::Any => None,
            Expected::Version(version) => Some(version),
        };
        let (outcome, version): (String, Option<i64>) = sqlx::query_as(
            "SELECT outcome, version FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(stream.as_str())
        .bind(user.0)
        .bind(key_id)
        .bind(expected)
        .bind(idempotency.map(|i| i.key))
        .bind(idempotency.map(|i| i.request_hash))
        .bind(&self.ids)
        .bind(&self.types)
        .bind(&self.schema_versions)
        .bind(&self.payloads)
        .bind(&self.metas)
        .fetch_one(connection)
        .await?;
        let version = version.unwrap_or_default();
        match outcome.as_str() {
            "appended" => Ok(Appended {
                version,
                ids: self.ids.into_iter().map(EventId).collect(),
                repeated: false,
            }),
            "repeated" => Ok(Appended {
                version,
                ids: Vec::new(),
                repeated: true,
            }),
            "key_reused" => Err(AppendError::KeyReused),
            "no_user" => Err(AppendError::NoUser),
            _ => Err(AppendError::Conflict { actual: version }),
        }
    }
}

/// An event as it lies in the table, with texts and bytes of its own or borrowed ones.
#[derive(sqlx::FromRow)]
pub(crate) struct EventRow<T = String, B = Vec<u8>> {
    pub(crate) position: i64,
    pub(crate) xid: i64,
    pub(crate) event_id: Uuid,
    pub(crate) stream_id: T,
    pub(crate) version: i64,
    pub(crate) user_id: Uuid,
    #[sqlx(rename = "type")]
    pub(crate) type_name: T,
    pub(crate) schema_version: i16,
    pub(crate) key_id: Uuid,
    pub(crate) payload: B,
    pub(crate) meta: Json<Arc<Metadata>>,
    pub(crate) recorded_at: DateTime<Utc>,
}

/// Opens rows, in order; an event whose key is gone is left out.
pub(crate) async fn open<T: AsRef<str> + Into<String>, B: AsMut<[u8]>>(
    vault: &Vault,
    connection: &mut PgConnection,
    rows: Vec<EventRow<T, B>>,
) -> Result<Vec<Recorded>, ReadError> {
    let wanted: HashMap<UserId, Option<Uuid>> = rows
        .iter()
        .map(|row| (UserId(row.user_id), Some(row.key_id)))
        .collect();
    let keys = vault.keys(connection, wanted).await?;
    let mut events = Vec::with_capacity(rows.len());
    for mut row in rows {
        let user = UserId(row.user_id);
        let Some(key) = keys.get(&user).filter(|key| key.id == row.key_id) else {
            continue;
        };
        let binding = Binding {
            event_id: row.event_id,
            type_name: row.type_name.as_ref(),
            schema_version: row.schema_version,
        };
        let payload = key.open_in_place(binding, row.payload.as_mut())?;
        let event = Event::from_payload(binding.type_name, row.schema_version, payload)?;
        events.push(Recorded {
            id: EventId(row.event_id),
            version: row.version,
            position: row.position,
            user,
            recorded_at: row.recorded_at,
            event,
            stream: StreamId::stored(row.stream_id.into()),
            metadata: row.meta.0,
        });
    }
    Ok(events)
}
