//! Runs that read messages again: what each is, whom it is about, how far it has read, and what it has
//! found. What was found is sealed with the user's key; it is no read model, as an LLM may have been paid
//! for it.

use chrono::{DateTime, Utc};
use companion_domain::extraction::Candidate;
use companion_domain::ids::{ConversationId, MessageId, UserId, derived};
use companion_domain::reextraction::Portion;
use serde::{Deserialize, Serialize};
use sqlx::{Connection, FromRow, PgConnection, PgExecutor, PgPool, QueryBuilder};
use uuid::Uuid;

use crate::transaction;
use crate::vault::{Binding, DataKey, VaultError};

/// Portions that are noted at once.
const TOGETHER: usize = 1_000;

/// How a run reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The only user whom it is about; all when there is none.
    pub user: Option<UserId>,
    /// Which arm reads: `llm`, `heuristic` or `hybrid`.
    pub method: String,
    /// The prompt's id, when an LLM is asked.
    pub prompt_id: Option<String>,
    /// The prompt's hash.
    pub prompt_hash: Option<String>,
    /// The instructions that take the place of the built-in ones.
    pub instructions: Option<String>,
    /// The model that is asked.
    pub model: Option<String>,
    /// Where it is asked, without a user's name and password.
    pub endpoint: Option<String>,
    /// Only what was said since then is read.
    pub since: Option<DateTime<Utc>>,
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Its name.
    pub name: String,
    /// How it reads.
    pub settings: Settings,
    /// How far it is.
    pub state: RunState,
    /// When it was made.
    pub made_at: DateTime<Utc>,
    /// When it was begun to be applied.
    pub applied_at: Option<DateTime<Utc>>,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Messages are read.
    Reading,
    /// All is read.
    Read,
    /// Some of the users have it.
    Applying,
    /// All users have it.
    Applied,
    /// It was taken back.
    RolledBack,
    /// It was thrown away.
    Discarded,
}

impl RunState {
    const ALL: [Self; 6] = [
        Self::Reading,
        Self::Read,
        Self::Applying,
        Self::Applied,
        Self::RolledBack,
        Self::Discarded,
    ];

    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reading => "reading",
            Self::Read => "read",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::RolledBack => "rolled_back",
            Self::Discarded => "discarded",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

const COLUMNS: &str = "run, user_id, method, prompt_id, prompt_hash, instructions, model, endpoint, since, state, made_at, applied_at";

#[derive(FromRow)]
struct RunRow {
    run: String,
    user_id: Option<Uuid>,
    method: String,
    prompt_id: Option<String>,
    prompt_hash: Option<String>,
    instructions: Option<String>,
    model: Option<String>,
    endpoint: Option<String>,
    since: Option<DateTime<Utc>>,
    state: String,
    made_at: DateTime<Utc>,
    applied_at: Option<DateTime<Utc>>,
}

impl From<RunRow> for Run {
    fn from(row: RunRow) -> Self {
        Self {
            name: row.run,
            settings: Settings {
                user: row.user_id.map(UserId),
                method: row.method,
                prompt_id: row.prompt_id,
                prompt_hash: row.prompt_hash,
                instructions: row.instructions,
                model: row.model,
                endpoint: row.endpoint,
                since: row.since,
            },
            state: RunState::parse(&row.state).unwrap_or(RunState::Discarded),
            made_at: row.made_at,
            applied_at: row.applied_at,
        }
    }
}

/// Makes a run; `false` when there is one of that name.
///
/// # Errors
/// When the database fails.
pub async fn make(
    executor: impl PgExecutor<'_>,
    name: &str,
    settings: &Settings,
) -> Result<bool, sqlx::Error> {
    let made = sqlx::query(
        "INSERT INTO reextractions (run, user_id, method, prompt_id, prompt_hash, instructions, model, endpoint, since)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (run) DO NOTHING",
    )
    .bind(name)
    .bind(settings.user.map(|user| user.0))
    .bind(&settings.method)
    .bind(&settings.prompt_id)
    .bind(&settings.prompt_hash)
    .bind(&settings.instructions)
    .bind(&settings.model)
    .bind(&settings.endpoint)
    .bind(settings.since)
    .execute(executor)
    .await?;
    Ok(made.rows_affected() == 1)
}

/// Makes sure that nobody else works on a run, as long as what is returned lives; `None` when somebody does.
///
/// # Errors
/// When the database fails.
pub async fn alone(pool: &PgPool, run: &str) -> Result<Option<PgConnection>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(&pool.connect_options()).await?;
    let lock = "SELECT pg_try_advisory_lock(hashtextextended('reextraction ' || $1, 0))";
    let alone: bool = sqlx::query_scalar(lock)
        .bind(run)
        .fetch_one(&mut connection)
        .await?;
    Ok(alone.then_some(connection))
}

/// The runs, latest first.
///
/// # Errors
/// When the database fails.
pub async fn list(executor: impl PgExecutor<'_>) -> Result<Vec<Run>, sqlx::Error> {
    let sql = format!("SELECT {COLUMNS} FROM reextractions ORDER BY made_at DESC, run DESC");
    let rows: Vec<RunRow> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
        .fetch_all(executor)
        .await?;
    Ok(rows.into_iter().map(Run::from).collect())
}

/// Moves a run on, and notes when it began to be applied.
///
/// # Errors
/// When the database fails.
pub async fn set_state(
    executor: impl PgExecutor<'_>,
    run: &str,
    state: RunState,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    let applied_at: Option<Option<DateTime<Utc>>> = sqlx::query_scalar(
        "UPDATE reextractions SET state = $2,
             applied_at = CASE WHEN $2 = 'applying' THEN coalesce(applied_at, now()) ELSE applied_at END
         WHERE run = $1 RETURNING applied_at",
    )
    .bind(run)
    .bind(state.as_str())
    .fetch_optional(executor)
    .await?;
    Ok(applied_at.flatten())
}

/// The users whom a run is about and of whom it is not settled yet what it reads.
///
/// # Errors
/// When the database fails.
pub async fn not_planned(
    executor: impl PgExecutor<'_>,
    run: &str,
    only: Option<UserId>,
) -> Result<Vec<UserId>, sqlx::Error> {
    let users: Vec<Uuid> = sqlx::query_scalar(
        "SELECT k.user_id FROM user_keys k
         WHERE ($2::uuid IS NULL OR k.user_id = $2)
           AND NOT EXISTS (SELECT FROM reextraction_users r WHERE r.run = $1 AND r.user_id = k.user_id)
         ORDER BY k.user_id",
    )
    .bind(run)
    .bind(only.map(|user| user.0))
    .fetch_all(executor)
    .await?;
    Ok(users.into_iter().map(UserId).collect())
}

/// How many portions a run has yet to read.
///
/// # Errors
/// When the database fails.
pub async fn unread(executor: impl PgExecutor<'_>, run: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT count(*) FROM reextraction_portions WHERE run = $1 AND found IS NULL AND failed IS NULL",
    )
    .bind(run)
    .fetch_one(executor)
    .await
}

/// Notes what a run is to read of a user; what is noted already stays. Nothing when the user was erased.
///
/// # Errors
/// When the database fails.
pub async fn plan(
    pool: &PgPool,
    run: &str,
    user: UserId,
    portions: &[Portion],
) -> Result<(), sqlx::Error> {
    let mut transaction = transaction::begin(pool).await?;
    let added = sqlx::query(
        "INSERT INTO reextraction_users (run, user_id)
         SELECT $1, user_id FROM user_keys WHERE user_id = $2 FOR KEY SHARE ON CONFLICT DO NOTHING",
    )
    .bind(run)
    .bind(user.0)
    .execute(&mut *transaction)
    .await?;
    if added.rows_affected() == 0 {
        return Ok(());
    }
    let numbered: Vec<(i32, &Portion)> = (0..).zip(portions).collect();
    for some in numbered.chunks(TOGETHER) {
        let mut insert = QueryBuilder::new(
            "INSERT INTO reextraction_portions (run, user_id, n, conversation_id, versions, messages) ",
        );
        insert.push_values(some, |mut row, (n, portion)| {
            let messages: Vec<Uuid> = portion.messages.iter().map(|m| m.id.0).collect();
            row.push_bind(run)
                .push_bind(user.0)
                .push_bind(*n)
                .push_bind(portion.conversation.0)
                .push_bind(&portion.versions)
                .push_bind(messages);
        });
        insert.build().execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// A user of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Reader {
    /// Whose messages are read.
    pub user: UserId,
    /// By which name they are known, if the read model has it.
    pub external_id: Option<String>,
    /// The version of the memory stream at which the difference was last shown.
    pub shown_version: Option<i64>,
    /// Whether they have the run's events.
    pub applied: bool,
}

/// The users of a run.
///
/// # Errors
/// When the database fails.
pub async fn users(executor: impl PgExecutor<'_>, run: &str) -> Result<Vec<Reader>, sqlx::Error> {
    let rows: Vec<(Uuid, Option<String>, Option<i64>, bool)> = sqlx::query_as(
        "SELECT r.user_id, u.external_id, r.shown_version, r.applied
         FROM reextraction_users r LEFT JOIN users u USING (user_id) WHERE r.run = $1 ORDER BY r.user_id",
    )
    .bind(run)
    .fetch_all(executor)
    .await?;
    let reader = |(user, external_id, shown_version, applied)| Reader {
        user: UserId(user),
        external_id,
        shown_version,
        applied,
    };
    Ok(rows.into_iter().map(reader).collect())
}

/// Notes at which version of the memory stream a user's difference was shown.
///
/// # Errors
/// When the database fails.
pub async fn note_shown(
    executor: impl PgExecutor<'_>,
    run: &str,
    user: UserId,
    version: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE reextraction_users SET shown_version = $3 WHERE run = $1 AND user_id = $2")
        .bind(run)
        .bind(user.0)
        .bind(version)
        .execute(executor)
        .await?;
    Ok(())
}

/// Notes that a user has the run's events.
///
/// # Errors
/// When the database fails.
pub async fn note_applied(
    executor: impl PgExecutor<'_>,
    run: &str,
    user: UserId,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE reextraction_users SET applied = true WHERE run = $1 AND user_id = $2")
        .bind(run)
        .bind(user.0)
        .execute(executor)
        .await?;
    Ok(())
}

/// What a run reads at once.
#[derive(Debug, Clone, PartialEq, FromRow)]
pub struct PortionRow {
    n: i32,
    conversation_id: Uuid,
    /// The versions of the events.
    pub versions: Vec<i64>,
    messages: Vec<Uuid>,
    /// Why nothing usable was found, if so.
    pub failed: Option<String>,
    found: Option<Vec<u8>>,
}

/// What was found in a portion, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// What may become memories.
    pub candidates: Vec<Candidate>,
    /// Which arm found it: `llm` or `heuristic`.
    pub method: String,
    /// Why patterns stood in for the LLM, if they did.
    pub fallback: Option<String>,
}

impl PortionRow {
    /// The conversation.
    pub fn conversation(&self) -> ConversationId {
        ConversationId(self.conversation_id)
    }

    /// The messages.
    pub fn messages(&self) -> impl Iterator<Item = MessageId> {
        self.messages.iter().copied().map(MessageId)
    }

    /// Whether it has been read, with success or not.
    pub fn is_read(&self) -> bool {
        self.found.is_some() || self.failed.is_some()
    }

    /// What was found, if it was read with success.
    ///
    /// # Errors
    /// When it can't be opened with this key.
    pub fn open(
        &self,
        run: &str,
        user: UserId,
        key: &DataKey,
    ) -> Result<Option<Found>, VaultError> {
        let Some(sealed) = &self.found else {
            return Ok(None);
        };
        let plain = key.open(binding(run, user, self.n), sealed)?;
        serde_json::from_slice(&plain)
            .map(Some)
            .map_err(|_| VaultError::Sealed)
    }
}

fn binding(run: &str, user: UserId, n: i32) -> Binding<'static> {
    Binding {
        event_id: derived(&["reextraction", run, &user.to_string(), &n.to_string()]),
        type_name: "reextraction",
        schema_version: 1,
    }
}

/// What a run reads of a user, in order.
///
/// # Errors
/// When the database fails.
pub async fn portions(
    executor: impl PgExecutor<'_>,
    run: &str,
    user: UserId,
) -> Result<Vec<PortionRow>, sqlx::Error> {
    sqlx::query_as(
        "SELECT n, conversation_id, versions, messages, failed, found FROM reextraction_portions
         WHERE run = $1 AND user_id = $2 ORDER BY n",
    )
    .bind(run)
    .bind(user.0)
    .fetch_all(executor)
    .await
}

/// Why what was found could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// It can't be sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It has no JSON form.
    #[error("what was found can't be written: {0}")]
    Json(#[from] serde_json::Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Keeps what was found in a portion, or why nothing was. Of two that read the same the first counts;
/// what was found of a user who was erased meanwhile is not kept.
///
/// # Errors
/// [`KeepError`].
pub async fn keep(
    executor: impl PgExecutor<'_>,
    run: &str,
    user: UserId,
    key: &DataKey,
    portion: &PortionRow,
    found: Result<&Found, &str>,
) -> Result<(), KeepError> {
    let (sealed, failed) = match found {
        Ok(found) => {
            let plain = serde_json::to_vec(found)?;
            (Some(key.seal(binding(run, user, portion.n), &plain)?), None)
        }
        Err(failed) => (None, Some(failed)),
    };
    sqlx::query(
        "UPDATE reextraction_portions p SET found = $4, failed = $5
         FROM (SELECT user_id FROM user_keys WHERE user_id = $2 AND key_id = $6 FOR KEY SHARE) AS k
         WHERE p.run = $1 AND p.user_id = k.user_id AND p.n = $3 AND p.found IS NULL AND p.failed IS NULL",
    )
    .bind(run)
    .bind(user.0)
    .bind(portion.n)
    .bind(sealed)
    .bind(failed)
    .bind(key.id)
    .execute(executor)
    .await?;
    Ok(())
}

/// Throws away what a run has found: it is not needed any more.
///
/// # Errors
/// When the database fails.
pub async fn forget_found(executor: impl PgExecutor<'_>, run: &str) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM reextraction_portions WHERE run = $1")
        .bind(run)
        .execute(executor)
        .await?;
    Ok(())
}
