//! The search indexes of the users whom this process has searched for lately, within a limit of memory.

use std::sync::Arc;
use std::time::Duration;

use companion_domain::ids::UserId;
use moka::future::Cache;
use moka::ops::compute::Op;
use moka::policy::EvictionPolicy;
use sqlx::PgPool;
use tokio::sync::RwLock;
use tracing::Instrument;

use super::loading::{self, Loaded};
use crate::config::Config;
use crate::search_state;

/// How long an index is kept that nobody searches in.
const KEPT_FOR: Duration = Duration::from_mins(30);

/// An index that searches share.
pub type Shared = Arc<Loading>;
/// The lock on an index.
pub(super) type Loading = RwLock<Loaded>;

/// The indexes of a process. Cheap to clone.
#[derive(Clone)]
pub struct Indexes {
    /// Each with its size in bytes when it was last brought up to date.
    kept: Cache<UserId, (Shared, usize)>,
    dimension: usize,
}

impl Indexes {
    /// None yet.
    pub fn new(config: &Config) -> Self {
        let kept = Cache::builder()
            .max_capacity(config.recall_cache_bytes)
            .weigher(|_, (_, bytes): &(Shared, usize)| u32::try_from(*bytes).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(KEPT_FOR)
            .build();
        Self {
            kept,
            dimension: config.embedding_dimension,
        }
    }

    /// The index of a user, as the read models are now. The least lately used ones make room for it;
    /// one that is larger than all the room there is serves this search and is thrown away.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn fresh(&self, pool: &PgPool, user: UserId) -> Result<Shared, sqlx::Error> {
        let Some(state) = search_state::of(pool, user).await? else {
            return Ok(self.of_nobody(user).await);
        };
        let empty = async { (Shared::new(Loaded::empty(self.dimension).into()), 0) };
        let (shared, weighed) = self.kept.get_with(user, empty).await;
        if shared.read().await.is_up_to_date(state) {
            return Ok(shared);
        }
        // A task of its own: whoever gives up before a large index is loaded finds it the next time.
        let (indexes, pool) = (self.clone(), pool.clone());
        let refreshed = async move { indexes.refreshed(&pool, user, shared, weighed).await };
        tokio::spawn(refreshed.in_current_span())
            .await
            .unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    async fn refreshed(
        &self,
        pool: &PgPool,
        user: UserId,
        shared: Shared,
        weighed: usize,
    ) -> Result<Shared, sqlx::Error> {
        let mut loaded = shared.write().await;
        // Whoever had the lock before may have come further than the state that was seen.
        let Some(state) = search_state::of(pool, user).await? else {
            drop(loaded);
            return Ok(self.of_nobody(user).await);
        };
        loading::refresh(pool, user, state, &mut loaded).await?;
        let bytes = loaded.index.bytes();
        drop(loaded);
        // Weighed again only when it has grown or shrunk by much.
        if bytes.abs_diff(weighed) > bytes / 16 {
            self.weigh(user, &shared, bytes).await;
        }
        Ok(shared)
    }

    /// The index of somebody of whom nothing is to be found: unknown, or erased.
    async fn of_nobody(&self, user: UserId) -> Shared {
        self.forget(user).await;
        Shared::new(Loaded::empty(self.dimension).into())
    }

    /// Notes the size of an index, unless it was thrown away meanwhile.
    async fn weigh(&self, user: UserId, shared: &Shared, bytes: usize) {
        let entry = self.kept.entry(user);
        let weighed = entry.and_compute_with(|kept| {
            let is_kept = kept.is_some_and(|kept| Arc::ptr_eq(&kept.value().0, shared));
            std::future::ready(match is_kept {
                true => Op::Put((shared.clone(), bytes)),
                false => Op::Nop,
            })
        });
        weighed.await;
    }

    /// A query as the user's index would have it embedded, by what it knows already.
    pub(super) async fn reworded(&self, user: UserId, query: &str) -> String {
        match self.kept.get(&user).await {
            Some((shared, _)) => match shared.try_read() {
                Ok(loaded) => loaded.index.reworded(query),
                Err(_) => query.to_owned(),
            },
            None => query.to_owned(),
        }
    }

    /// Throws the index of a user away.
    pub async fn forget(&self, user: UserId) {
        self.kept.invalidate(&user).await;
    }

    /// Throws all indexes away.
    pub fn forget_all(&self) {
        self.kept.invalidate_all();
    }
}
