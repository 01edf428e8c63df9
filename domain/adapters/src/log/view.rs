//! The log as people read it: any event, opened where its key is still there, and what fills the log.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use companion_domain::ids::{StreamId, UserId};
use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::log::subscription::Checkpoint;
use crate::vault::{Binding, DataKey, Vault, VaultError};

const COLUMNS: &str = "SELECT e.position, e.xid::text::bigint AS xid, e.event_id, e.stream_id, e.version, e.user_id, \
     e.type, e.schema_version, e.key_id, e.payload, e.meta, e.recorded_at FROM events e WHERE true";

/// Which events are meant. All of them by default.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this user's.
    pub user: Option<UserId>,
    /// Only those of this stream.
    pub stream: Option<StreamId>,
    /// Only those of these types; of any type when empty.
    pub types: Vec<String>,
    /// Only those that were recorded at this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only those that were recorded before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only those that no unfinished append can come before: what a subscription may read.
    pub settled: bool,
}

impl Filter {
    fn add_to(&self, sql: &mut QueryBuilder<Postgres>) {
        if let Some(user) = self.user {
            sql.push(" AND e.user_id = ").push_bind(user.0);
        }
        if let Some(stream) = &self.stream {
            sql.push(" AND e.stream_id = ")
                .push_bind(stream.as_str().to_owned());
        }
        if !self.types.is_empty() {
            sql.push(" AND e.type = ANY(")
                .push_bind(self.types.clone())
                .push(")");
        }
        if let Some(since) = self.since {
            sql.push(" AND e.recorded_at >= ").push_bind(since);
        }
        if let Some(until) = self.until {
            sql.push(" AND e.recorded_at < ").push_bind(until);
        }
        if self.settled {
            sql.push(" AND e.xid < pg_snapshot_xmin(pg_current_snapshot())");
        }
    }
}

/// An event, opened if that can be.
#[derive(Debug, Clone)]
pub struct Viewed {
    /// Where the log goes on after it.
    pub place: Checkpoint,
    /// The event's id.
    pub id: Uuid,
    /// Its stream.
    pub stream: StreamId,
    /// Its place in the stream, from 1.
    pub version: i64,
    /// Whose it is.
    pub user: UserId,
    /// The id by which callers name that user, if that is known (any more).
    pub external_id: Option<String>,
    /// Its stored name.
    pub type_name: String,
    /// The version of its shape.
    pub schema_version: i16,
    /// When it was stored.
    pub recorded_at: DateTime<Utc>,
    /// What is known about it besides its content.
    pub meta: Value,
    /// What it holds.
    pub content: Content,
}

/// What an event holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// The payload, in the shape in which it was stored.
    Open(Value),
    /// Nobody can open it any more: its user was erased.
    Erased,
    /// It can't be opened, and should be: why.
    Closed(String),
}

#[derive(sqlx::FromRow)]
struct Row {
    position: i64,
    xid: i64,
    event_id: Uuid,
    stream_id: String,
    version: i64,
    user_id: Uuid,
    #[sqlx(rename = "type")]
    type_name: String,
    schema_version: i16,
    key_id: Uuid,
    payload: Vec<u8>,
    meta: Json<Value>,
    recorded_at: DateTime<Utc>,
}

/// The place in the feed after which the last `count` of the events meant lie; the beginning of the log
/// when there are no more than that.
///
/// # Errors
/// When the database fails.
pub async fn before_last(
    executor: impl PgExecutor<'_>,
    filter: &Filter,
    count: i64,
) -> Result<Checkpoint, sqlx::Error> {
    let mut sql =
        QueryBuilder::new("SELECT e.xid::text::bigint AS xid, e.position FROM events e WHERE true");
    filter.add_to(&mut sql);
    sql.push(" ORDER BY e.xid DESC, e.position DESC LIMIT 1 OFFSET ")
        .push_bind(count);
    let place: Option<(i64, i64)> = sql.build_query_as().fetch_optional(executor).await?;
    Ok(
        place.map_or_else(Checkpoint::default, |(xid, position)| Checkpoint {
            xid,
            position,
        }),
    )
}

/// At most `limit` of the events meant that come after a place in the feed, in the order of the feed.
///
/// # Errors
/// When the database fails. An event that can't be opened is no error.
pub async fn read(
    connection: &mut PgConnection,
    vault: &Vault,
    filter: &Filter,
    after: Checkpoint,
    limit: i64,
) -> Result<Vec<Viewed>, VaultError> {
    let mut sql = QueryBuilder::new(COLUMNS);
    filter.add_to(&mut sql);
    sql.push(" AND (e.xid, e.position) > (")
        .push_bind(after.xid.to_string())
        .push("::text::xid8, ")
        .push_bind(after.position)
        .push(") ORDER BY e.xid, e.position LIMIT ")
        .push_bind(limit);
    let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut *connection).await?;
    view(connection, vault, rows).await
}

/// How one event is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Name {
    /// By its id. Found by looking at the whole log.
    Id(Uuid),
    /// By stream and version.
    Version(StreamId, i64),
}

/// One event, if it is there.
///
/// # Errors
/// When the database fails. An event that can't be opened is no error.
pub async fn find(
    connection: &mut PgConnection,
    vault: &Vault,
    name: &Name,
) -> Result<Option<Viewed>, VaultError> {
    let mut sql = QueryBuilder::new(COLUMNS);
    match name {
        Name::Id(id) => sql.push(" AND e.event_id = ").push_bind(*id),
        Name::Version(stream, version) => sql
            .push(" AND e.stream_id = ")
            .push_bind(stream.as_str().to_owned())
            .push(" AND e.version = ")
            .push_bind(*version),
    };
    let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut *connection).await?;
    Ok(view(connection, vault, rows).await?.pop())
}

async fn view(
    connection: &mut PgConnection,
    vault: &Vault,
    rows: Vec<Row>,
) -> Result<Vec<Viewed>, VaultError> {
    let users: Vec<Uuid> = rows.iter().map(|row| row.user_id).collect();
    // As the database has them now: a key that is gone must not be used because a cache still has it.
    let current: Vec<(Uuid, Uuid, Option<String>)> = sqlx::query_as(
        "SELECT k.user_id, k.key_id, u.external_id FROM user_keys k LEFT JOIN users u USING (user_id)
         WHERE k.user_id = ANY($1)",
    )
    .bind(&users)
    .fetch_all(&mut *connection)
    .await?;
    // A key that is gone without an erasure was not restored.
    let erased: Vec<Uuid> =
        sqlx::query_scalar("SELECT user_id FROM erasures WHERE user_id = ANY($1)")
            .bind(&users)
            .fetch_all(&mut *connection)
            .await?;
    let erased: HashSet<Uuid> = erased.into_iter().collect();
    let mut keys: HashMap<Uuid, (Uuid, Result<DataKey, String>)> = HashMap::new();
    let mut names: HashMap<Uuid, String> = HashMap::new();
    for (user, key_id, name) in current {
        let wanted = vec![(UserId(user), Some(key_id))];
        let key = match vault.keys(&mut *connection, wanted).await {
            Ok(mut found) => found
                .remove(&UserId(user))
                .ok_or_else(|| VaultError::NoKey.to_string()),
            Err(VaultError::Database(error)) => return Err(error.into()),
            Err(error) => Err(error.to_string()),
        };
        keys.insert(user, (key_id, key));
        names.extend(name.map(|name| (user, name)));
    }
    Ok(rows
        .into_iter()
        .map(|row| Viewed {
            content: content(&row, keys.get(&row.user_id), erased.contains(&row.user_id)),
            place: Checkpoint {
                xid: row.xid,
                position: row.position,
            },
            id: row.event_id,
            version: row.version,
            user: UserId(row.user_id),
            external_id: names.get(&row.user_id).cloned(),
            stream: StreamId::stored(row.stream_id),
            type_name: row.type_name,
            schema_version: row.schema_version,
            recorded_at: row.recorded_at,
            meta: row.meta.0,
        })
        .collect())
}

fn content(row: &Row, key: Option<&(Uuid, Result<DataKey, String>)>, erased: bool) -> Content {
    let Some((_, key)) = key.filter(|(id, _)| *id == row.key_id) else {
        return if erased {
            Content::Erased
        } else {
            Content::Closed("the user's key is not here; it was not restored".to_owned())
        };
    };
    let key = match key {
        Ok(key) => key,
        Err(error) => return Content::Closed(error.clone()),
    };
    let binding = Binding {
        event_id: row.event_id,
        type_name: &row.type_name,
        schema_version: row.schema_version,
    };
    match key.open(binding, &row.payload) {
        Ok(payload) => serde_json::from_slice(&payload).map_or_else(
            |_| Content::Closed("the payload is not JSON".to_owned()),
            Content::Open,
        ),
        Err(error) => Content::Closed(error.to_string()),
    }
}

/// What fills the log.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// How many events there are.
    pub events: i64,
    /// Their payloads together, bytes.
    pub payload_bytes: i64,
    /// The table of the log on disk with its indexes, bytes; of all users.
    pub bytes_on_disk: i64,
    /// Users who have a key: registered, and not erased.
    pub users: i64,
    /// When the oldest of the events was recorded.
    pub oldest: Option<DateTime<Utc>>,
    /// When the newest of the events was recorded.
    pub newest: Option<DateTime<Utc>>,
    /// By type, the most frequent first.
    pub by_type: Vec<Count<String>>,
    /// By day (UTC), the first day first.
    pub by_day: Vec<Count<NaiveDate>>,
    /// What keeps subscriptions from the end of the log.
    pub feed: Feed,
}

/// How many events fall under a heading.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Count<T> {
    /// The heading.
    pub of: T,
    /// How many.
    pub events: i64,
    /// Their payloads together, bytes.
    pub payload_bytes: i64,
}

/// What is committed and may not be read yet, as an older transaction has not ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, sqlx::FromRow)]
pub struct Feed {
    /// So many events wait for it.
    pub held_back: i64,
    /// How long the oldest writing transaction of the whole server has run, seconds; `None` when there is
    /// none, or this role may not see it.
    pub oldest_transaction_seconds: Option<f64>,
}

/// Counts the log, or one user's part of it. Reads all of it.
///
/// # Errors
/// When the database fails.
pub async fn statistics(
    connection: &mut PgConnection,
    user: Option<UserId>,
) -> Result<Statistics, sqlx::Error> {
    #[derive(sqlx::FromRow)]
    struct Group {
        type_name: String,
        day: NaiveDate,
        events: i64,
        payload_bytes: i64,
        oldest: DateTime<Utc>,
        newest: DateTime<Utc>,
    }
    let mut sql = QueryBuilder::new(
        "SELECT e.type AS type_name, (e.recorded_at AT TIME ZONE 'UTC')::date AS day, count(*) AS events,
                sum(octet_length(e.payload))::bigint AS payload_bytes,
                min(e.recorded_at) AS oldest, max(e.recorded_at) AS newest
         FROM events e WHERE true",
    );
    Filter {
        user,
        ..Filter::default()
    }
    .add_to(&mut sql);
    sql.push(" GROUP BY 1, 2 ORDER BY 2, 1");
    let groups: Vec<Group> = sql.build_query_as().fetch_all(&mut *connection).await?;
    let (users, bytes_on_disk): (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM user_keys WHERE $1::uuid IS NULL OR user_id = $1),
                pg_total_relation_size('events')",
    )
    .bind(user.map(|user| user.0))
    .fetch_one(&mut *connection)
    .await?;
    let mut statistics = Statistics {
        users,
        bytes_on_disk,
        feed: feed(connection).await?,
        ..Statistics::default()
    };
    let mut by_type: HashMap<String, (i64, i64)> = HashMap::new();
    for group in groups {
        statistics.events += group.events;
        statistics.payload_bytes += group.payload_bytes;
        statistics.oldest = [statistics.oldest, Some(group.oldest)]
            .into_iter()
            .flatten()
            .min();
        statistics.newest = [statistics.newest, Some(group.newest)]
            .into_iter()
            .flatten()
            .max();
        let of_type = by_type.entry(group.type_name).or_default();
        *of_type = (of_type.0 + group.events, of_type.1 + group.payload_bytes);
        match statistics
            .by_day
            .last_mut()
            .filter(|last| last.of == group.day)
        {
            Some(last) => {
                last.events += group.events;
                last.payload_bytes += group.payload_bytes;
            }
            None => statistics.by_day.push(Count {
                of: group.day,
                events: group.events,
                payload_bytes: group.payload_bytes,
            }),
        }
    }
    statistics.by_type = by_type
        .into_iter()
        .map(|(of, (events, payload_bytes))| Count {
            of,
            events,
            payload_bytes,
        })
        .collect();
    statistics
        .by_type
        .sort_by(|a, b| b.events.cmp(&a.events).then_with(|| a.of.cmp(&b.of)));
    Ok(statistics)
}

async fn feed(executor: impl PgExecutor<'_>) -> Result<Feed, sqlx::Error> {
    sqlx::query_as(
        "SELECT (SELECT count(*) FROM events e WHERE e.xid >= pg_snapshot_xmin(pg_current_snapshot())) AS held_back,
                (SELECT extract(epoch FROM clock_timestamp() - min(a.xact_start))::float8 FROM pg_stat_activity a
                 WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid()) AS oldest_transaction_seconds",
    )
    .fetch_one(executor)
    .await
}
