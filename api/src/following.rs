//! A reply as those see it who follow it, wherever it is made: in this process, in another one, or
//! long ago.

use std::sync::Arc;
use std::time::Duration;

use companion_adapters::core::Core;
use companion_adapters::log::event_store::ReadError;
use companion_adapters::messages::{self, ReplyRow};
use companion_adapters::progress;
use companion_adapters::reply_texts::ReplyTexts;
use companion_domain::events::FailureReason;
use companion_domain::ids::{ConversationId, ReplyId, UserId};

use crate::app::App;
use crate::code::Code;
use crate::commands::reply;
use crate::error::Problem;
use crate::replies::{NOT_STORED, Outcome, Running};

/// How often the shared text of a reply is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Every so many looks the read model is asked whether the reply has ended.
const ASK_EVERY: u32 = 5;
/// How many times the read model is waited for that may not have a reply yet.
const WAITS: u32 = 10;
/// How often this process shares what has grown.
const SHARE_EVERY: Duration = Duration::from_millis(25);

/// A reply that somebody follows.
pub(crate) struct Followed {
    pub(crate) reply_id: ReplyId,
    pub(crate) conversation_id: ConversationId,
    place: Place,
}

enum Place {
    Here(Arc<Running>),
    Elsewhere { app: Box<App>, user: UserId },
    Ended { text: String, outcome: Outcome },
}

impl Followed {
    pub(crate) fn here(running: Arc<Running>) -> Self {
        Self {
            reply_id: running.reply_id,
            conversation_id: running.conversation_id,
            place: Place::Here(running),
        }
    }

    pub(crate) fn ended(
        reply_id: ReplyId,
        conversation_id: ConversationId,
        text: String,
        outcome: Outcome,
    ) -> Self {
        Self {
            reply_id,
            conversation_id,
            place: Place::Ended { text, outcome },
        }
    }

    pub(crate) fn elsewhere(
        app: &App,
        user: UserId,
        reply_id: ReplyId,
        conversation_id: ConversationId,
    ) -> Self {
        Self {
            reply_id,
            conversation_id,
            place: Place::Elsewhere {
                app: Box::new(app.clone()),
                user,
            },
        }
    }

    /// One of a user's replies.
    ///
    /// # Errors
    /// 404 when it is none of theirs.
    pub(crate) async fn find(app: &App, user: UserId, reply_id: ReplyId) -> Result<Self, Problem> {
        if let Some(running) = app
            .replies
            .find(reply_id)
            .filter(|running| running.user == user)
        {
            return Ok(Self::here(running));
        }
        let row = row(app, user, reply_id).await?;
        let conversation_id = ConversationId(row.conversation_id);
        Ok(match outcome(&row) {
            Some(outcome) => Self::ended(reply_id, conversation_id, row.content, outcome),
            None => Self::elsewhere(app, user, reply_id, conversation_id),
        })
    }

    /// Whether a follower can be so many bytes into the text. Of one that grows elsewhere that is
    /// not known; nor of one whose end was lost, whose followers may have seen more than was stored.
    pub(crate) fn reaches(&self, bytes: usize) -> bool {
        match &self.place {
            Place::Here(running) => running.reaches(bytes),
            Place::Elsewhere { .. } => true,
            Place::Ended { text, outcome } => {
                text.is_char_boundary(bytes)
                    || (bytes > text.len() && *outcome != Outcome::Completed)
            }
        }
    }

    /// What has come after the first `from` bytes, as soon as there is something, and how the reply
    /// ended once there is nothing more to come.
    pub(crate) async fn after(&self, from: usize) -> (String, Option<Outcome>) {
        match &self.place {
            Place::Here(running) => running.after(from).await,
            Place::Ended { text, outcome } => rest(text, from, *outcome),
            Place::Elsewhere { app, user } => self.after_elsewhere(app, *user, from).await,
        }
    }

    async fn after_elsewhere(
        &self,
        app: &App,
        user: UserId,
        from: usize,
    ) -> (String, Option<Outcome>) {
        let App { core, texts, .. } = app;
        for look in 0u32.. {
            let more = texts.read(self.reply_id, from).await;
            if !more.is_empty() {
                return (more, None);
            }
            if look % ASK_EVERY == 0 {
                match messages::reply(&core.pool, user, self.reply_id).await {
                    Ok(Some(row)) => {
                        if let Some(outcome) = outcome(&row) {
                            return rest(&row.content, from, outcome);
                        }
                    }
                    // It is not projected yet, or not any more.
                    Ok(None) => match self.ended_in_log(core, user).await {
                        Ok(Some((text, outcome))) => return rest(&text, from, outcome),
                        Ok(None) => {}
                        Err(error) => tracing::warn!("a reply can't be followed now: {error}"),
                    },
                    Err(error) => tracing::warn!("a reply can't be followed now: {error}"),
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        (
            String::new(),
            Some(Outcome::failed(FailureReason::LlmInterrupted)),
        )
    }

    /// The text and how the reply ended, as the log says; `None` while it runs.
    async fn ended_in_log(
        &self,
        core: &Core,
        user: UserId,
    ) -> Result<Option<(String, Outcome)>, ReadError> {
        let conversation = self.conversation_id;
        let state = core.buffer.current(&core.store, conversation).await?;
        if state.of_user(user).is_err() {
            return Ok(Some((String::new(), Outcome::Cancelled)));
        }
        reply::end_in_log(core, conversation, state.version, self.reply_id).await
    }

    /// The whole text and how the reply ended, once it has.
    pub(crate) async fn whole(&self) -> (String, Outcome) {
        let mut text = String::new();
        loop {
            match self.after(text.len()).await {
                (_, Some(outcome)) => return (text, outcome),
                (more, None) => text.push_str(&more),
            }
        }
    }
}

/// One of a user's replies in the read model, which is waited for as long as it is behind.
///
/// # Errors
/// 404 when it is none of theirs.
pub(crate) async fn row(app: &App, user: UserId, reply_id: ReplyId) -> Result<ReplyRow, Problem> {
    let pool = &app.core.pool;
    for _ in 0..WAITS {
        let all_there = progress::wait_for_own_writes(pool, user).await?;
        match messages::reply(pool, user, reply_id).await? {
            Some(row) => return Ok(row),
            None if all_there => return Err(Problem::not_found("reply")),
            None => {}
        }
    }
    Err(Code::ProjectionBehind.into())
}

/// How the read model says that a reply ended; `None` while it runs.
pub(crate) fn outcome(row: &ReplyRow) -> Option<Outcome> {
    match row.reply_status.as_str() {
        "running" => None,
        "completed" => Some(Outcome::Completed),
        "cancelled" => Some(Outcome::Cancelled),
        _ => {
            let reason = row.failure.as_deref().and_then(FailureReason::parse);
            Some(Outcome::failed(
                reason.unwrap_or(FailureReason::LlmInterrupted),
            ))
        }
    }
}

fn rest(text: &str, from: usize, outcome: Outcome) -> (String, Option<Outcome>) {
    match text.get(from..) {
        Some(more) if !more.is_empty() => (more.to_owned(), None),
        _ => (String::new(), Some(outcome)),
    }
}

/// Shares the text of a reply of this process with the others, as it grows and until it has ended.
pub(crate) fn share(texts: &ReplyTexts, running: Arc<Running>) {
    if !texts.are_shared() {
        return;
    }
    let texts = texts.clone();
    tokio::spawn(async move {
        let mut shared = 0;
        let outcome = loop {
            match running.after(shared).await {
                (_, Some(outcome)) => break outcome,
                (more, None) => {
                    if texts.write(running.reply_id, shared, &more).await {
                        shared += more.len();
                    } else if running.has_ended() {
                        // While Redis is away nobody asks for it there.
                        return;
                    }
                }
            }
            tokio::time::sleep(SHARE_EVERY).await;
        };
        // Unless its end could not be stored, it is in the log now.
        if !matches!(outcome, Outcome::Failed { code, .. } if code == NOT_STORED) {
            texts.forget(running.reply_id).await;
        }
    });
}
