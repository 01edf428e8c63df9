//! What every process of the service holds open: database, log, buffer, embedding model.

use std::sync::Arc;
use std::time::Duration;

use companion_domain::ids::UserId;
use sqlx::PgPool;

use crate::buffer::Buffer;
use crate::config::Config;
use crate::database::{self, DatabaseError};
use crate::embedder::{EmbedError, Embedder};
use crate::log::event_store::EventStore;
use crate::recall::Indexes;
use crate::redis_link::{InvalidRedis, RedisLink};
use crate::vault::{Vault, VaultError};

/// Connections of a process to PostgreSQL for requests and for background work.
const CONNECTIONS: u32 = 16;
/// How long connections may take to close.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);

/// The open parts of one process. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    /// The configuration.
    pub config: Arc<Config>,
    /// The database for what must be durable when it is committed.
    pub pool: PgPool,
    /// The same database for what can be done again: read models, jobs, vectors. Its commits don't
    /// wait for the disk, and after a crash its checkpoints are as old as its rows.
    pub derived: PgPool,
    /// The event log.
    pub store: EventStore,
    /// Redis, when one is configured.
    pub redis: Option<RedisLink>,
    /// The short-term buffers.
    pub buffer: Buffer,
    /// The embedding model.
    pub embedder: Embedder,
    /// The users' search indexes.
    pub indexes: Indexes,
}

/// The log and the pools to its database.
struct Log {
    pool: PgPool,
    derived: PgPool,
    store: EventStore,
}

/// Why a process can't start. Texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// PostgreSQL.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The master key.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The embedding model.
    #[error(transparent)]
    Embedder(#[from] EmbedError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] InvalidRedis),
    /// No database is configured.
    #[error(
        "POSTGRES_URL is not set; set it, for example POSTGRES_URL=postgresql://companion:secret@localhost:5432/companion, or run everything in one process: companion up"
    )]
    NoDatabase,
}

impl Core {
    /// Opens everything and checks that it fits together.
    ///
    /// # Errors
    /// [`StartError`] that says what is wrong and what mends it.
    pub async fn open(config: Config) -> Result<Self, StartError> {
        let embedder = Embedder::load(&config);
        let (log, embedder) = tokio::join!(Self::open_log(&config), embedder);
        Self::assemble(config, log?, embedder?).await
    }

    /// The same with an embedding model that is loaded already.
    ///
    /// # Errors
    /// [`StartError`] that says what is wrong and what mends it.
    pub async fn open_with(config: Config, embedder: Embedder) -> Result<Self, StartError> {
        let log = Self::open_log(&config).await?;
        Self::assemble(config, log, embedder).await
    }

    async fn assemble(config: Config, log: Log, embedder: Embedder) -> Result<Self, StartError> {
        database::check_model(&log.pool, &config, &embedder).await?;
        let redis = RedisLink::open(&config)?;
        let buffer = Buffer::new(&config, redis.clone());
        let indexes = Indexes::new(&config);
        let Log {
            pool,
            derived,
            store,
        } = log;
        Ok(Self {
            config: Arc::new(config),
            pool,
            derived,
            store,
            redis,
            buffer,
            embedder,
            indexes,
        })
    }

    async fn open_log(config: &Config) -> Result<Log, StartError> {
        let url = config.postgres_url.as_ref().ok_or(StartError::NoDatabase)?;
        let vault = Vault::open(config)?;
        let pool = database::connect_for(config, url, CONNECTIONS, true).await?;
        let derived = database::connect_for(config, url, CONNECTIONS, false).await?;
        database::check(&pool, config).await?;
        vault.check(&pool).await?;
        let store = EventStore::new(pool.clone(), vault);
        Ok(Log {
            pool,
            derived,
            store,
        })
    }

    /// Forgets what this process holds at hand of a user who was erased.
    pub async fn forget(&self, user: UserId) {
        self.store.vault().forget(user).await;
        self.buffer.forget_user(user).await;
        self.indexes.forget(user).await;
    }

    /// Forgets what is at hand of everybody. Redis keeps what it has: an erasure takes that away itself.
    pub fn forget_all(&self) {
        self.store.vault().forget_all();
        self.buffer.forget_all();
        self.indexes.forget_all();
    }

    /// Closes the connections; to be called when nothing uses them any more. One whose query the database
    /// still does not answer goes with the process.
    pub async fn close(&self) {
        let closed = async { tokio::join!(self.pool.close(), self.derived.close()) };
        let _ = tokio::time::timeout(CLOSED_WITHIN, closed).await;
    }
}
