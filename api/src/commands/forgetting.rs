//! Forgets what came from a conversation, in one commit with what happens to the conversation
//! itself.
//!
//! The append expects the version of the user's memory stream at which the memories were read: no
//! memory can come in between, and an extraction that still runs finds the stream moved on, looks at
//! its cursor again, and has nothing left to read.

use companion_adapters::core::Core;
use companion_adapters::log::event_store::{Append, AppendError, Expected};
use companion_adapters::memories;
use companion_domain::conversation::{Conversation, Refusal};
use companion_domain::events::{Event, Metadata};
use companion_domain::forgetting;
use companion_domain::ids::{ConversationId, StreamId, UserId};
use sqlx::PgConnection;

use crate::code::Code;
use crate::error::Problem;
use crate::{owned, page};

/// How often it is decided anew while memories or the conversation move.
const TRIES: usize = 10;

/// Appends what `decide` says of the conversation, and that all that came from it is forgotten.
/// Returns how many live memories that were.
pub(crate) async fn forget_conversation(
    core: &Core,
    user: UserId,
    id: ConversationId,
    decide: impl Fn(&Conversation, UserId) -> Result<Event, Refusal>,
) -> Result<usize, Problem> {
    for _ in 0..TRIES {
        let state = owned::conversation(core, user, id).await?;
        let last = decide(&state, user)?;
        if !page::catch_up(core, user).await? {
            return Err(Code::ProjectionBehind.into());
        }
        // The version before the memories: should they be newer, the append finds a conflict.
        let version = memories::stream_version(&core.pool, user).await?;
        let resting = memories::resting_on(&core.pool, user, &core.config.decay, id).await?;
        let support = resting.iter().map(|m| (m.id, m.sources.clone()));
        let cleared = forgetting::clear(id, state.version + 1, support);
        let is_gone = |m: &&memories::Supported| m.live && cleared.forgotten.contains(&m.id);
        let gone = resting.iter().filter(is_gone).count();
        let appends = vec![
            Append {
                stream: StreamId::conversation(id),
                expected: Expected::Version(state.version),
                events: vec![(last, Metadata::default())],
            },
            Append {
                stream: StreamId::memory(user),
                expected: Expected::Version(version),
                events: vec![(cleared.into(), Metadata::default())],
            },
        ];
        let nothing_else = async |_: &mut PgConnection| Ok(());
        match core
            .store
            .append_together(user, appends, nothing_else)
            .await
        {
            Ok(()) => return Ok(gone),
            // The buffer goes too, in case that the database was set back and it was not.
            Err(AppendError::Conflict { .. }) => core.buffer.forget(id).await,
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Conflict { actual: 0 }.into())
}
