//! Looks things up by user and id: what is another user's looks exactly like what does not exist.

use std::sync::Arc;

use companion_adapters::core::Core;
use companion_adapters::log::event_store::{AppendError, Expected};
use companion_adapters::memories::{self, Memory};
use companion_adapters::messages;
use companion_domain::conversation::{Conversation, Refusal};
use companion_domain::events::{Event, Metadata};
use companion_domain::ids::{ConversationId, MemoryId, StreamId, UserId};
use poem::http::HeaderName;
use sqlx::PgConnection;

use crate::error::Problem;

/// How often a command is decided against a conversation that moves.
const TRIES: usize = 10;

/// The caller's conversation as the log has it now.
pub(crate) async fn conversation(
    core: &Core,
    user: UserId,
    conversation: ConversationId,
) -> Result<Arc<Conversation>, Problem> {
    let state = core.buffer.current(&core.store, conversation).await?;
    state.of_user(user)?;
    Ok(state)
}

/// Checks that a conversation is the caller's, for a query: `lag` says whether the read models may
/// be too old to know.
pub(crate) async fn check_conversation(
    connection: &mut PgConnection,
    user: UserId,
    conversation: ConversationId,
    lag: Option<&str>,
) -> Result<(), Problem> {
    if messages::owns_conversation(connection, user, conversation).await? {
        Ok(())
    } else {
        Err(not_found("conversation", lag))
    }
}

/// The caller's memory, of any state.
pub(crate) async fn memory(
    core: &Core,
    user: UserId,
    memory: MemoryId,
    lag: Option<&str>,
) -> Result<Memory, Problem> {
    let found = memories::get(&core.pool, user, &core.config.decay, memory).await?;
    found.ok_or_else(|| not_found("memory", lag))
}

/// 404, with the sign that the read models may be too old to know.
pub(crate) fn not_found(what: &str, lag: Option<&str>) -> Problem {
    let problem = Problem::not_found(what);
    match lag {
        Some(lag) => problem.header(HeaderName::from_static("x-projection-lag"), lag),
        None => problem,
    }
}

/// Appends what is decided about the caller's conversation; when it moves meanwhile, it is decided
/// again.
pub(crate) async fn change_conversation(
    core: &Core,
    user: UserId,
    id: ConversationId,
    decide: impl Fn(&Conversation) -> Result<Event, Refusal>,
) -> Result<(), Problem> {
    let stream = StreamId::conversation(id);
    let mut actual = 0;
    for _ in 0..TRIES {
        let state = conversation(core, user, id).await?;
        let events = vec![(decide(&state)?, Metadata::default())];
        let expected = Expected::Version(state.version);
        match core
            .store
            .append(&stream, user, expected, events, None)
            .await
        {
            Ok(_) => return Ok(()),
            Err(AppendError::Conflict { actual: at }) => {
                actual = at;
                if at < state.version {
                    // The database was set back; the buffer was not.
                    core.buffer.forget(id).await;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Conflict { actual }.into())
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy(open) => Self::busy(open.reply_id.0),
            Refusal::NotFound | Refusal::ReplyEnded | Refusal::MovedOn => {
                Self::not_found("conversation")
            }
        }
    }
}
