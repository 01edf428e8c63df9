//! Appends what was recorded elsewhere, with its times. Only an import may.

use chrono::{DateTime, Utc};
use companion_domain::events::{Event, Metadata};
use companion_domain::ids::{StreamId, UserId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::log::event_store::{AppendError, EventStore, Life};
use crate::metrics;
use crate::transaction;
use crate::vault::Binding;

/// An event that was recorded elsewhere.
pub(super) struct Arriving {
    pub(super) stream: StreamId,
    /// The version that it gets here.
    pub(super) version: i64,
    pub(super) event: Event,
    pub(super) metadata: Metadata,
    /// When it was recorded there.
    pub(super) recorded_at: DateTime<Utc>,
}

/// Appends events, in order, all or none; `streams` says at which versions theirs are, 0 for one that
/// is not there.
///
/// # Errors
/// [`AppendError::Conflict`] when one is at another version, or another user's.
pub(super) async fn append(
    store: &EventStore,
    life: &Life,
    user: UserId,
    streams: &[(StreamId, i64)],
    events: Vec<Arriving>,
) -> Result<(), AppendError> {
    let key = life.key();
    let (names, expected): (Vec<&str>, Vec<i64>) = streams
        .iter()
        .map(|(s, version)| (s.as_str(), *version))
        .unzip();
    let mut columns = Columns::default();
    let mut memories = 0;
    for arriving in events {
        let Arriving {
            stream,
            version,
            event,
            metadata,
            recorded_at,
        } = arriving;
        let (id, type_name, schema_version) =
            (Uuid::now_v7(), event.type_name(), event.schema_version());
        let binding = Binding {
            event_id: id,
            type_name,
            schema_version,
        };
        memories += usize::from(matches!(event, Event::MemoryRecorded(_)));
        columns
            .payloads
            .push(key.seal(binding, &event.to_payload()?)?);
        columns.ids.push(id);
        columns.streams.push(stream.as_str().to_owned());
        columns.versions.push(version);
        columns.types.push(type_name);
        columns.schema_versions.push(schema_version);
        columns.metas.push(Json(metadata));
        columns.times.push(recorded_at);
    }
    let work = async {
        let mut transaction = transaction::begin(store.pool()).await?;
        let outcome: String = sqlx::query_scalar(
            "SELECT import_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind(user.0)
        .bind(key.id)
        .bind(names)
        .bind(expected)
        .bind(columns.ids)
        .bind(columns.streams)
        .bind(columns.versions)
        .bind(columns.types)
        .bind(columns.schema_versions)
        .bind(columns.payloads)
        .bind(columns.metas)
        .bind(columns.times)
        .fetch_one(&mut *transaction)
        .await?;
        match outcome.as_str() {
            "appended" => {
                transaction.commit().await?;
                Ok(())
            }
            "no_user" => Err(AppendError::NoUser),
            _ => Err(AppendError::Conflict { actual: 0 }),
        }
    };
    let appended = metrics::query("import", work).await;
    match &appended {
        Ok(()) => store.appended(memories),
        Err(AppendError::NoUser) => store.vault().forget(user).await,
        Err(_) => {}
    }
    appended
}

/// Events laid out in columns for `import_events`.
#[derive(Default)]
struct Columns {
    ids: Vec<Uuid>,
    streams: Vec<String>,
    versions: Vec<i64>,
    types: Vec<&'static str>,
    schema_versions: Vec<i16>,
    payloads: Vec<Vec<u8>>,
    metas: Vec<Json<Metadata>>,
    times: Vec<DateTime<Utc>>,
}
