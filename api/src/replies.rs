//! The replies that run in this process: their text as it grows, and how each ends.
//!
//! A text grows in one place, from which any number of followers read, each at their own pace: a slow
//! client holds up nobody, and a place in the text is all that a follower needs to go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use companion_adapters::llm;
use companion_domain::events::FailureReason;
use companion_domain::ids::{ConversationId, ReplyId, UserId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::code::Code;

/// The code of a reply whose end could not be stored.
pub(crate) const NOT_STORED: Code = Code::DatabaseUnavailable;

/// How a reply ended, as its followers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Whole, and durable.
    Completed,
    /// Stopped by the user; what there was is durable.
    Cancelled,
    /// Not whole.
    Failed {
        /// What went wrong.
        code: Code,
        /// A sentence for the caller.
        message: &'static str,
    },
}

impl Outcome {
    pub(crate) fn failed(reason: FailureReason) -> Self {
        Self::Failed {
            code: reason.into(),
            message: llm::message(reason),
        }
    }
}

/// The text of a reply as it grows.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) user: UserId,
    pub(crate) reply_id: ReplyId,
    pub(crate) conversation_id: ConversationId,
    cancelled: CancellationToken,
    begun: Instant,
    text: Mutex<(String, Option<Outcome>)>,
    grown: watch::Sender<()>,
}

impl Running {
    fn new(user: UserId, reply_id: ReplyId, conversation_id: ConversationId) -> Self {
        Self {
            user,
            reply_id,
            conversation_id,
            cancelled: CancellationToken::new(),
            begun: Instant::now(),
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

    pub(crate) fn has_ended(&self) -> bool {
        self.lock().1.is_some()
    }

    /// How long ago it was begun.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Asks the task that makes the reply to stop.
    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
    }

    /// Passes when the reply is to be stopped.
    pub(crate) async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }

    /// Whether so many bytes of the text are there and end between two characters.
    pub(crate) fn reaches(&self, bytes: usize) -> bool {
        self.lock().0.is_char_boundary(bytes)
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
}

/// The replies that this process makes.
#[derive(Clone)]
pub(crate) struct Replies {
    running: Arc<Mutex<HashMap<ReplyId, Arc<Running>>>>,
    most: usize,
    most_of_a_user: usize,
    tasks: TaskTracker,
    abort: CancellationToken,
}

/// Why no further reply can be taken on now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// This process makes as many as it may.
    All,
    /// It makes as many for this user as it may.
    User,
}

impl Replies {
    /// Room for so many replies at once, in all and for each user.
    pub(crate) fn new(most: usize, most_of_a_user: usize) -> Self {
        Self {
            running: Arc::default(),
            most,
            most_of_a_user,
            tasks: TaskTracker::new(),
            abort: CancellationToken::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ReplyId, Arc<Running>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a reply on, before its message is stored: from then on it counts as running here, until
    /// the claim is dropped.
    ///
    /// # Errors
    /// [`Full`] when there are too many already.
    pub(crate) fn claim(
        &self,
        user: UserId,
        reply_id: ReplyId,
        conversation_id: ConversationId,
    ) -> Result<Claim, Full> {
        let mut all = self.lock();
        if all.len() >= self.most {
            return Err(Full::All);
        }
        if all.values().filter(|running| running.user == user).count() >= self.most_of_a_user {
            return Err(Full::User);
        }
        let running = Arc::new(Running::new(user, reply_id, conversation_id));
        all.insert(reply_id, running.clone());
        Ok(Claim {
            running,
            replies: self.clone(),
        })
    }

    /// The reply, if this process is at work on it.
    pub(crate) fn find(&self, reply_id: ReplyId) -> Option<Arc<Running>> {
        self.lock().get(&reply_id).cloned()
    }

    /// Stops the reply of a conversation, if this process is at work on one.
    pub(crate) fn cancel_in(&self, conversation_id: ConversationId) {
        self.cancel_those(|running| running.conversation_id == conversation_id);
    }

    /// Stops the replies to a user that this process is at work on.
    pub(crate) fn cancel_of(&self, user: UserId) {
        self.cancel_those(|running| running.user == user);
    }

    fn cancel_those(&self, those: impl Fn(&Running) -> bool) {
        for running in self.lock().values() {
            if those(running) {
                running.cancel();
            }
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
            claim.end(outcome);
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

    /// Tells the followers how the reply ended. Who hears of it finds room for the next.
    fn end(self, outcome: Outcome) {
        self.release();
        self.running.end(outcome);
    }

    fn release(&self) {
        self.replies.lock().remove(&self.running.reply_id);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.release();
        if !self.running.has_ended() {
            self.running.end(Outcome::Failed {
                code: Code::LlmInterrupted,
                message: "The reply was lost. Send the message again.",
            });
        }
    }
}
