//! The replies that run in this process: their text as it grows, and how each ends.
//!
//! A text grows in one place, from which any number of followers read, each at their own pace: a slow
//! client holds up nobody, and a place in the text is all that a follower needs to go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use companion_domain::ids::{ConversationId, ReplyId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a reply ended, as its followers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Whole, and durable.
    Completed,
    /// Not whole.
    Failed {
        /// The stable name of what went wrong.
        code: &'static str,
        /// A sentence for the caller.
        message: &'static str,
    },
}

/// The text of a reply as it grows.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) reply_id: ReplyId,
    pub(crate) conversation_id: ConversationId,
    text: Mutex<(String, Option<Outcome>)>,
    grown: watch::Sender<()>,
}

impl Running {
    fn new(reply_id: ReplyId, conversation_id: ConversationId) -> Self {
        Self {
            reply_id,
            conversation_id,
            text: Mutex::default(),
            grown: watch::Sender::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (String, Option<Outcome>)> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, piece: &str) {
        self.lock().0.push_str(piece);
        self.grown.send_replace(());
    }

    pub(crate) fn end(&self, outcome: Outcome) {
        self.lock().1 = Some(outcome);
        self.grown.send_replace(());
    }

    fn has_ended(&self) -> bool {
        self.lock().1.is_some()
    }

    /// The length of the text, bytes.
    pub(crate) fn len(&self) -> usize {
        self.lock().0.len()
    }

    pub(crate) fn text(&self) -> String {
        self.lock().0.clone()
    }

    /// What has come after the first `from` bytes, as soon as there is something, and how the reply
    /// ended once there is nothing more to come.
    pub(crate) async fn after(&self, from: usize) -> (String, Option<Outcome>) {
        let mut grown = self.grown.subscribe();
        loop {
            grown.mark_unchanged();
            {
                let text = self.lock();
                let more = text.0.get(from..).unwrap_or_default();
                if !more.is_empty() {
                    return (more.to_owned(), None);
                }
                if text.1.is_some() {
                    return (String::new(), text.1);
                }
            }
            // The sender lives as long as this.
            let _ = grown.changed().await;
        }
    }

    /// The whole text and how the reply ended, once it has.
    pub(crate) async fn whole(&self) -> (String, Outcome) {
        let mut read = 0;
        loop {
            match self.after(read).await {
                (_, Some(outcome)) => return (self.text(), outcome),
                (more, None) => read += more.len(),
            }
        }
    }
}

/// The replies that this process makes.
#[derive(Clone, Default)]
pub(crate) struct Replies {
    running: Arc<Mutex<HashMap<ReplyId, Arc<Running>>>>,
    tasks: TaskTracker,
    abort: CancellationToken,
}

impl Replies {
    fn lock(&self) -> MutexGuard<'_, HashMap<ReplyId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a reply on, before its message is stored: from then on it counts as running here, until
    /// the claim is dropped.
    pub(crate) fn claim(&self, reply_id: ReplyId, conversation_id: ConversationId) -> Claim {
        let running = Arc::new(Running::new(reply_id, conversation_id));
        self.lock().insert(reply_id, running.clone());
        Claim {
            running,
            replies: self.clone(),
        }
    }

    /// Whether this process is at work on a reply.
    pub(crate) fn is_running(&self, reply_id: ReplyId) -> bool {
        self.lock().contains_key(&reply_id)
    }

    /// Runs the task that makes a claimed reply.
    pub(crate) fn run(&self, claim: Claim, task: impl Future<Output = Outcome> + Send + 'static) {
        self.tasks.spawn(async move {
            let outcome = task.await;
            claim.running.end(outcome);
        });
    }

    /// Passes when running replies are to end at once.
    pub(crate) async fn aborted(&self) {
        self.abort.cancelled().await;
    }

    /// Lets running replies finish, for so long; then they are recorded as interrupted.
    pub(crate) async fn stop_within(&self, limit: Duration) {
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait())
            .await
            .is_err()
        {
            self.abort.cancel();
            self.tasks.wait().await;
        }
    }

    /// Whether the process is stopping and takes no new reply.
    pub(crate) fn are_closed(&self) -> bool {
        self.tasks.is_closed()
    }
}

/// A reply that this process has taken on. Dropping it, in whatever way its task came to an end,
/// tells its followers and sets the conversation free.
pub(crate) struct Claim {
    running: Arc<Running>,
    replies: Replies,
}

impl Claim {
    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.running.has_ended() {
            self.running.end(Outcome::Failed {
                code: "llm_interrupted",
                message: "The reply was lost. Send the message again.",
            });
        }
        self.replies.lock().remove(&self.running.reply_id);
    }
}
