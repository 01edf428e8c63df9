//! The gate of a held-back answer: how a test decides when each delta comes, and learns what the client did.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use crate::eventually::within;

/// Holds an answer back until the test lets it go. Clones are the same gate; one gate serves one request.
#[derive(Debug, Clone)]
pub struct Gate {
    inner: Arc<GateInner>,
}

#[derive(Debug)]
struct GateInner {
    openings: Semaphore,
    reached: watch::Sender<bool>,
    gone: watch::Sender<bool>,
}

impl Gate {
    /// A closed gate.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "that it starts closed is worth a name"
    )]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(GateInner {
                openings: Semaphore::new(0),
                reached: watch::Sender::new(false),
                gone: watch::Sender::new(false),
            }),
        }
    }

    /// Lets one delta pass, now or when it comes.
    pub fn open_one(&self) {
        self.inner.openings.add_permits(1);
    }

    /// Lets everything pass from now on.
    pub fn open_all(&self) {
        self.inner.openings.close();
    }

    /// Waits until the model has got the request; it is then in [`ScriptedLlm::requests`](super::ScriptedLlm::requests).
    ///
    /// # Panics
    ///
    /// When that takes longer than [`DEADLINE`](crate::eventually::DEADLINE).
    #[track_caller]
    pub fn reached(&self) -> impl Future<Output = ()> {
        wait("a request to reach the model", &self.inner.reached)
    }

    /// Waits until the model has noticed that the client closed the connection before the answer was complete.
    /// (Stopping the server closes it too.)
    ///
    /// # Panics
    ///
    /// When that takes longer than [`DEADLINE`](crate::eventually::DEADLINE).
    #[track_caller]
    pub fn client_gone(&self) -> impl Future<Output = ()> {
        wait("the model's client to go away", &self.inner.gone)
    }

    pub(super) async fn pass(&self) {
        // An error says that the gate stays open.
        if let Ok(opening) = self.inner.openings.acquire().await {
            opening.forget();
        }
    }

    pub(super) fn say_reached(&self) {
        self.inner.reached.send_replace(true);
    }

    pub(super) fn say_client_gone(&self) {
        self.inner.gone.send_replace(true);
    }

    #[cfg(test)]
    pub(super) fn is_client_gone(&self) -> bool {
        *self.inner.gone.borrow()
    }
}

#[track_caller]
fn wait(what: &'static str, signal: &watch::Sender<bool>) -> impl Future<Output = ()> {
    let mut signal = signal.subscribe();
    within(what, async move {
        signal.wait_for(|given| *given).await.ok();
    })
}
