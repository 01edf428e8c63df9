//! Turns: what one user asks for is done one after the other. Requests with the same idempotency key,
//! so that those which only attach to what the first has begun take no token and no room from anybody;
//! summaries, so that nobody keeps the LLM to themselves; extractions, so that a user with much to be read
//! holds no more than one place among those who wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use companion_domain::ids::UserId;
use tokio::sync::OwnedMutexGuard;

type Turn = tokio::sync::Mutex<()>;
type ByKey = HashMap<(UserId, String), Weak<Turn>>;

/// The turns of this process. Other processes have their own; the log decides between them.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<ByKey>>);

impl Turns {
    /// Waits until it is the caller's turn, which lasts until the guard is dropped.
    pub async fn wait(&self, user: UserId, key: &str) -> OwnedMutexGuard<()> {
        self.of(user, key).lock_owned().await
    }

    fn of(&self, user: UserId, key: &str) -> Arc<Turn> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        let known = all.entry((user, key.to_owned())).or_default();
        known.upgrade().unwrap_or_else(|| {
            let turn = Arc::default();
            *known = Arc::downgrade(&turn);
            turn
        })
    }
}
