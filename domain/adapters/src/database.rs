//! The connection pool and the migrations.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use apalis_postgres::PostgresStorage;
use sha2::{Digest, Sha256};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool, SqlSafeStr};

use crate::config::{Config, Secret};
use crate::embedder::Embedder;
use crate::vectors::models::{self, ModelState};

const UNFINISHED_JOBS: &str = "CREATE INDEX IF NOT EXISTS companion_unfinished_jobs
     ON apalis.jobs (status, run_at) WHERE status <> 'Done'";

/// After so long a rest a connection is tried before it is used.
const RESTED: Duration = Duration::from_secs(1);

const PGCRYPTO: &str = "CREATE EXTENSION IF NOT EXISTS pgcrypto;";

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Names the schema that this version's migrations make: another set of migrations has another name.
pub fn schema_id() -> String {
    let mut hash = Sha256::new();
    for migration in MIGRATIONS.iter() {
        hash.update(&migration.checksum);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Why the database can't be used. Texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The URL can't be parsed.
    #[error(
        "POSTGRES_URL can't be parsed; for example POSTGRES_URL=postgresql://companion:secret@localhost:5432/companion"
    )]
    Url,
    /// No connection.
    #[error(
        "PostgreSQL at {address} does not accept the connection: {reason}; check POSTGRES_URL and that the server runs"
    )]
    Connect {
        /// Host and port, without user or password.
        address: String,
        /// What the driver says.
        reason: String,
    },
    /// The server lacks an extension.
    #[error(
        "PostgreSQL lacks the extension '{0}'; install pgvector and the contrib modules (the image pgvector/pgvector has both)"
    )]
    Extension(&'static str),
    /// A migration failed.
    #[error("migrating the database failed: {0}")]
    Migrate(String),
    /// The database has not been migrated, or not up to this version.
    #[error("the database is not migrated to this version; run: companion migrate")]
    NotMigrated,
    /// The vectors were made by another model.
    #[error(
        "EMBEDDING_MODEL={configured} but the database holds vectors of {stored}; to change the model, first run: \
         companion reembed --model {} --dimension {} --model-dir DIR; otherwise set EMBEDDING_MODEL and \
         EMBEDDING_DIMENSION back", configured.model, configured.dimension
    )]
    EmbeddingModel {
        /// What is configured.
        configured: ConfiguredModel,
        /// What the database holds.
        stored: String,
    },
    /// The vectors of the model are being made.
    #[error(
        "the vectors of EMBEDDING_MODEL={0} are not all made yet; let companion reembed finish, or set EMBEDDING_MODEL \
         and EMBEDDING_DIMENSION back"
    )]
    EmbeddingModelFilling(ConfiguredModel),
    /// The files that were loaded are those of another model.
    #[error(
        "the files in EMBEDDING_MODEL_DIR={directory} make other vectors than those that the database holds of \
         EMBEDDING_MODEL={configured}; set EMBEDDING_MODEL_DIR to the files they were made with, or change to the \
         other model under a name of its own: companion reembed --model NAME --dimension N --model-dir {directory}"
    )]
    EmbeddingModelFiles {
        /// What is configured.
        configured: ConfiguredModel,
        /// Where the files lie.
        directory: String,
    },
    /// A query failed.
    #[error("the database failed: {0}")]
    Query(#[from] sqlx::Error),
}

/// An embedding model as it is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredModel {
    /// Its name.
    pub model: String,
    /// The length of its vectors.
    pub dimension: usize,
}

impl ConfiguredModel {
    fn of(config: &Config) -> Self {
        Self {
            model: config.embedding_model.clone(),
            dimension: config.embedding_dimension,
        }
    }
}

impl fmt::Display for ConfiguredModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.model, self.dimension)
    }
}

/// Opens a pool that sees the vectors of the configured embedding model, see [`connect`].
///
/// # Errors
/// [`DatabaseError`] when the URL is wrong or nobody answers.
pub async fn connect_for(
    config: &Config,
    url: &Secret,
    connections: u32,
    durable: bool,
) -> Result<PgPool, DatabaseError> {
    let search_path = models::search_path(config);
    connect_with(&search_path, url, connections, durable).await
}

/// Opens a pool of at most `connections` connections and tries one. A commit of a pool that is not
/// `durable` doesn't wait for the disk: for what can be derived again.
///
/// # Errors
/// [`DatabaseError`] when the URL is wrong or nobody answers.
pub async fn connect(
    url: &Secret,
    connections: u32,
    durable: bool,
) -> Result<PgPool, DatabaseError> {
    connect_with("read,public", url, connections, durable).await
}

async fn connect_with(
    search_path: &str,
    url: &Secret,
    connections: u32,
    durable: bool,
) -> Result<PgPool, DatabaseError> {
    let options = options(url)?
        // Read models live in `read`; a replay looks at another schema by setting this.
        .options([
            ("search_path", search_path),
            ("idle_in_transaction_session_timeout", "60s"),
            ("jit", "off"),
            ("synchronous_commit", if durable { "on" } else { "off" }),
        ]);
    let address = address(&options);
    let pool = PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(10))
        .test_before_acquire(false)
        // A connection that has rested may have been cut off; one in use shows it by itself.
        .before_acquire(|connection, meta| {
            Box::pin(async move { Ok(meta.idle_for < RESTED || connection.ping().await.is_ok()) })
        })
        .connect_lazy_with(options.clone());
    // A connection of its own tells why it fails; the pool would only say that time ran out.
    match PgConnection::connect_with(&options).await {
        Ok(connection) => drop(connection.close().await),
        Err(error) => {
            return Err(DatabaseError::Connect {
                address,
                reason: reason(&error),
            });
        }
    }
    Ok(pool)
}

/// Applies what is missing of the schema, of the job queue too, and settles the embedding model.
/// Safe to call from several processes at once.
///
/// # Errors
/// [`DatabaseError`] when an extension is missing or a migration fails.
pub async fn migrate(url: &Secret, config: &Config) -> Result<(), DatabaseError> {
    let options = options(url)?;
    let address = address(&options);
    // Not the service's search path: the migrator's own table is to stay in `public`.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_with(options)
        .await
        .map_err(|error| DatabaseError::Connect {
            address,
            reason: reason(&error),
        })?;
    for extension in ["vector", "hstore"] {
        let available: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = $1)",
        )
        .bind(extension)
        .fetch_one(&pool)
        .await?;
        if !available {
            return Err(DatabaseError::Extension(extension));
        }
    }
    MIGRATIONS
        .run(&pool)
        .await
        .map_err(|error| DatabaseError::Migrate(error.to_string()))?;
    job_queue_migrations()
        .run(&pool)
        .await
        .map_err(|error| DatabaseError::Migrate(error.to_string()))?;
    // Of the job queue only what is not done is ever looked for.
    sqlx::query(UNFINISHED_JOBS).execute(&pool).await?;
    models::note_first(&pool, config).await?;
    pool.close().await;
    Ok(())
}

/// The job queue's own migrations. An early one installs pgcrypto for a function that a later one
/// makes do without; not every PostgreSQL has it, so that line is left out. The checksums stay those
/// of the library, so that its own `setup` finds the same history.
fn job_queue_migrations() -> Migrator {
    let mut migrator = PostgresStorage::migrations();
    for migration in migrator.migrations.to_mut() {
        let sql = migration.sql.as_str();
        if sql.contains(PGCRYPTO) {
            migration.sql = AssertSqlSafe(sql.replace(PGCRYPTO, "")).into_sql_str();
        }
    }
    migrator
}

/// Checks that the schema is there and that it has the vectors of the configured model.
///
/// # Errors
/// [`DatabaseError::NotMigrated`], [`DatabaseError::EmbeddingModel`] or
/// [`DatabaseError::EmbeddingModelFilling`].
pub async fn check(pool: &PgPool, config: &Config) -> Result<(), DatabaseError> {
    check_schema(pool).await?;
    let configured = || ConfiguredModel::of(config);
    let models = models::all(pool).await?;
    let live = models.first().ok_or(DatabaseError::NotMigrated)?;
    match models.iter().find(|model| model.is_of(config)) {
        None => Err(DatabaseError::EmbeddingModel {
            configured: configured(),
            stored: format!("{} ({})", live.model, live.dimension()),
        }),
        Some(model) => match model.state() {
            ModelState::Filling => Err(DatabaseError::EmbeddingModelFilling(configured())),
            // While processes are restarted one after another, those with the former one go on.
            ModelState::Live | ModelState::Former => Ok(()),
        },
    }
}

/// Checks that the model that was loaded is the one whose vectors the database has.
///
/// # Errors
/// [`DatabaseError::EmbeddingModelFiles`].
pub async fn check_model(
    pool: &PgPool,
    config: &Config,
    embedder: &Embedder,
) -> Result<(), DatabaseError> {
    let (name, dimension) = (&config.embedding_model, config.embedding_dimension);
    models::note_probe(pool, name, dimension, embedder.probe()).await?;
    if models::is_recognized(pool, name, dimension, embedder.probe()).await? {
        return Ok(());
    }
    Err(DatabaseError::EmbeddingModelFiles {
        configured: ConfiguredModel::of(config),
        directory: config.embedding_model_dir.display().to_string(),
    })
}

/// Checks that the schema is there.
///
/// # Errors
/// [`DatabaseError::NotMigrated`].
pub async fn check_schema(pool: &PgPool) -> Result<(), DatabaseError> {
    let applied: Result<Vec<i64>, sqlx::Error> =
        sqlx::query_scalar("SELECT version FROM public._sqlx_migrations WHERE success")
            .fetch_all(pool)
            .await;
    let applied = applied.map_err(|_| DatabaseError::NotMigrated)?;
    let is_applied = |version: &i64| applied.contains(version);
    if MIGRATIONS
        .iter()
        .all(|migration| is_applied(&migration.version))
    {
        Ok(())
    } else {
        Err(DatabaseError::NotMigrated)
    }
}

fn options(url: &Secret) -> Result<PgConnectOptions, DatabaseError> {
    PgConnectOptions::from_str(url.expose()).map_err(|_| DatabaseError::Url)
}

/// Host and port of a database, for messages: never the password.
fn address(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}

fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}
