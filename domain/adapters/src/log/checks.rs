//! Whether the log and what points into it are whole: for the operator who wants to know.

use companion_domain::ids::UserId;
use serde::Serialize;
use sqlx::{PgConnection, PgPool};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::log::event_store::{self, EventRow, select_events};
use crate::log::subscription::{Checkpoint, READ_MODELS, RELAY};
use crate::transaction;
use crate::vault::{Vault, VaultError};

/// How many problems of a kind are named.
const NAMED: i64 = 100;
/// Events looked at together.
const TOGETHER: i64 = 1_000;

/// Something that is not as it should be. It names no content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The kind: `stream`, `checkpoint`, `job`, `owner` or `event`.
    pub check: &'static str,
    /// What is wrong, and where.
    pub what: String,
}

/// Checks that versions have no gaps but those that imports tell of, that streams are where they say, that
/// checkpoints lie in the log, and that no job and no cache is about what is not there, unless it is about to
/// be swept away with an erased user. Of one user, if one is given. At most a hundred problems of each kind are named.
///
/// # Errors
/// When the database fails.
pub async fn run(pool: &PgPool, user: Option<UserId>) -> Result<Vec<Problem>, sqlx::Error> {
    let mut transaction = transaction::begin(pool).await?;
    // What is appended meanwhile is seen by all of them or by none.
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *transaction)
        .await?;
    let mut problems = Vec::new();
    let user = user.map(|user| user.0);
    for (check, sql) in CHECKS {
        let found: Vec<String> = sqlx::query_scalar(*sql)
            .bind(user)
            .bind(NAMED)
            .fetch_all(&mut *transaction)
            .await?;
        problems.extend(found.into_iter().map(|what| Problem { check, what }));
    }
    for subscription in [READ_MODELS, RELAY] {
        problems.extend(checkpoint(&mut transaction, subscription).await?);
    }
    transaction.commit().await?;
    Ok(problems)
}

/// Each gives one text a problem, of the user `$1` or of all, `$2` at the most.
const CHECKS: &[(&str, &str)] = &[
    (
        "stream",
        "SELECT format('%s is at version %s and has %s events, the last of version %s', s.stream_id, s.version, coalesce(e.events, 0), coalesce(e.last, 0))
         FROM streams s LEFT JOIN (
             SELECT stream_id, count(*) + coalesce(sum((meta ->> 'left_out')::bigint), 0) AS events, max(version) AS last
             FROM events
             WHERE $1::uuid IS NULL OR user_id = $1 GROUP BY stream_id) AS e USING (stream_id)
         WHERE ($1::uuid IS NULL OR s.user_id = $1)
           AND (e.events IS DISTINCT FROM s.version OR e.last IS DISTINCT FROM s.version)
         ORDER BY s.stream_id LIMIT $2",
    ),
    (
        "stream",
        "SELECT format('%s has events that can be opened, and no stream', e.stream_id)
         FROM events e JOIN user_keys k ON k.user_id = e.user_id AND k.key_id = e.key_id
         WHERE ($1::uuid IS NULL OR e.user_id = $1) AND e.version = 1
           AND NOT EXISTS (SELECT FROM streams s WHERE s.stream_id = e.stream_id AND s.user_id = e.user_id)
         ORDER BY e.stream_id LIMIT $2",
    ),
    (
        "job",
        "SELECT format('job %s (%s, %s) is of user %s, who has no key', j.id, j.job_type, j.status, j.job ->> 'user')
         FROM (SELECT id, job_type, status, convert_from(job, 'UTF8')::jsonb AS job FROM apalis.jobs
               WHERE status IN ('Pending', 'Queued', 'Failed', 'Killed')) AS j
         WHERE j.job ? 'user' AND ($1::uuid IS NULL OR j.job ->> 'user' = $1::text)
           AND NOT EXISTS (SELECT FROM user_keys k WHERE k.user_id::text = j.job ->> 'user')
           AND NOT EXISTS (SELECT FROM erasures x WHERE x.user_id::text = j.job ->> 'user' AND x.swept_at IS NULL)
         ORDER BY j.id LIMIT $2",
    ),
    (
        "job",
        "SELECT format('job %s (%s, %s) is about conversation %s, which is not there', j.id, j.job_type, j.status, j.job ->> 'conversation')
         FROM (SELECT id, job_type, status, convert_from(job, 'UTF8')::jsonb AS job FROM apalis.jobs
               WHERE status IN ('Pending', 'Queued', 'Failed', 'Killed')) AS j
         WHERE j.job ? 'conversation' AND ($1::uuid IS NULL OR j.job ->> 'user' = $1::text)
           AND NOT EXISTS (SELECT FROM streams s WHERE s.stream_id = 'conversation-' || (j.job ->> 'conversation'))
           AND NOT EXISTS (SELECT FROM erasures x WHERE x.user_id::text = j.job ->> 'user' AND x.swept_at IS NULL)
         ORDER BY j.id LIMIT $2",
    ),
    (
        "job",
        "SELECT format('job %s (%s, %s) is about version %s of %s, which is not there', j.id, j.job_type, j.status, e.about ->> 1, e.about ->> 0)
         FROM (SELECT id, job_type, status, convert_from(job, 'UTF8')::jsonb AS job FROM apalis.jobs
               WHERE status IN ('Pending', 'Queued', 'Failed', 'Killed')) AS j
         CROSS JOIN LATERAL jsonb_array_elements(CASE jsonb_typeof(j.job -> 'events') WHEN 'array' THEN j.job -> 'events' ELSE '[]' END) AS e (about)
         WHERE ($1::uuid IS NULL OR j.job ->> 'user' = $1::text) AND jsonb_typeof(e.about) = 'array'
           AND NOT EXISTS (SELECT FROM events v WHERE v.stream_id = e.about ->> 0 AND v.version = (e.about ->> 1)::bigint)
         ORDER BY j.id LIMIT $2",
    ),
    (
        "owner",
        "SELECT format('%s vectors are of user %s, who has no key', count(*), v.user_id) FROM vectors v
         WHERE ($1::uuid IS NULL OR v.user_id = $1) AND NOT EXISTS (SELECT FROM user_keys k WHERE k.user_id = v.user_id)
           AND NOT EXISTS (SELECT FROM erasures x WHERE x.user_id = v.user_id AND x.swept_at IS NULL)
         GROUP BY v.user_id ORDER BY v.user_id LIMIT $2",
    ),
];

/// Whether a checkpoint names an event, or the beginning.
async fn checkpoint(
    connection: &mut PgConnection,
    subscription: &'static str,
) -> Result<Option<Problem>, sqlx::Error> {
    let found: Option<(i64, i64, bool)> = sqlx::query_as(
        "SELECT c.xid::text::bigint, c.position, c.position = 0 OR EXISTS (
             SELECT FROM events e WHERE e.xid = c.xid AND e.position = c.position)
         FROM checkpoints c WHERE c.subscription = $1",
    )
    .bind(subscription)
    .fetch_optional(connection)
    .await?;
    let what = match found {
        Some((.., true)) => return Ok(None),
        Some((xid, position, false)) => format!(
            "{subscription} is at transaction {xid}, position {position}, where there is no event"
        ),
        None => format!(
            "{subscription} has none: no worker has run yet; start one, and it takes in what the log holds"
        ),
    };
    Ok(Some(Problem {
        check: "checkpoint",
        what,
    }))
}

/// Opens every event, and names those that can't be opened or read. Those of a key that is gone are left
/// out, as nobody is to open them.
///
/// # Errors
/// When the database fails.
pub async fn unreadable(
    pool: &PgPool,
    vault: &Vault,
    user: Option<UserId>,
    stop: &CancellationToken,
) -> Result<Vec<Problem>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let (mut problems, mut at) = (Vec::new(), Checkpoint::default());
    loop {
        let rows: Vec<EventRow> = sqlx::query_as(select_events!(
            "JOIN user_keys k ON k.user_id = e.user_id AND k.key_id = e.key_id
             WHERE (e.xid, e.position) > ($1::text::xid8, $2) AND ($3::uuid IS NULL OR e.user_id = $3)
             ORDER BY e.xid, e.position LIMIT $4"
        ))
        .bind(at.xid.to_string())
        .bind(at.position)
        .bind(user.map(|user| user.0))
        .bind(TOGETHER)
        .fetch_all(&mut *connection)
        .await?;
        let Some(last) = rows.last() else {
            return Ok(problems);
        };
        at = last.place();
        for row in rows {
            let (position, stream, version) = (row.position, row.stream_id.clone(), row.version);
            let (owner, type_name): (Uuid, String) = (row.user_id, row.type_name.clone());
            match event_store::open(vault, &mut connection, vec![row]).await {
                Ok(_) => {}
                Err(event_store::ReadError::Database(error))
                | Err(event_store::ReadError::Vault(VaultError::Database(error))) => {
                    return Err(error);
                }
                Err(error) => problems.push(Problem {
                    check: "event",
                    what: format!(
                        "{type_name} at position {position}, version {version} of {stream}, of user {owner}: {error}"
                    ),
                }),
            }
        }
        let named = i64::try_from(problems.len()).unwrap_or(i64::MAX);
        if stop.is_cancelled() || named >= NAMED {
            return Ok(problems);
        }
    }
}
