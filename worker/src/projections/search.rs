//! Which events change what can be found of a user: each counts as one change, and the rows that it
//! changes are stamped with it. So this comes before the projections of what can be found.

use companion_adapters::read_models::rows::SearchState;
use companion_adapters::read_models::{ReadModels, Touched};
use companion_domain::events::{Event, Recorded};

use super::Projection;

/// How often what can be found of a user has changed.
pub const SEARCH: Projection = Projection::new("search", &["search_state"], touch, apply);

/// How an event changes what can be found of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Something can be found that could not, or in another way.
    Changed,
    /// Something can't be found any more: rows are gone, or were taken out of search.
    Removed,
}

fn touch(recorded: &Recorded, touched: &mut Touched) {
    if change(&recorded.event).is_some() {
        touched.search_state.insert(recorded.user.0);
    }
}

/// Once for each event that changes something, in the order of the log, so that a replay counts the
/// same.
fn apply(recorded: &Recorded, models: &mut ReadModels) {
    let Some(change) = change(&recorded.event) else {
        return;
    };
    let user = recorded.user.0;
    let state = models.search_state.get(user);
    let (version, cleared) = state.map_or((0, 0), |state| (state.version, state.cleared));
    let version = version + 1;
    models.search_state.put(SearchState {
        user_id: user,
        version,
        cleared: match change {
            Change::Changed => cleared,
            Change::Removed => version,
        },
    });
}

fn change(event: &Event) -> Option<Change> {
    match event {
        Event::UserMessageReceived(_)
        | Event::MessagesImported(_)
        | Event::ReplyCompleted(_)
        | Event::ReplyFailed(_)
        | Event::ReplyCancelled(_)
        | Event::MemoryRecorded(_)
        | Event::MemoryReinforced(_)
        | Event::MemoryRevised(_)
        | Event::MemorySuperseded(_)
        | Event::MemoryFaded(_)
        | Event::MemoriesRecalled(_) => Some(Change::Changed),
        Event::ConversationDeleted(_) | Event::MemoryForgotten(_) | Event::MemoriesCleared(_) => {
            Some(Change::Removed)
        }
        Event::ConversationStarted(_)
        | Event::ReplyRequested(_)
        | Event::ReplyStarted(_)
        | Event::ConversationRenamed(_)
        | Event::ConversationReset(_)
        | Event::ConversationSummarised(_)
        | Event::ExtractionCompleted(_)
        | Event::UserRegistered(_)
        | Event::ApiKeyIssued(_)
        | Event::ApiKeyRevoked(_) => None,
    }
}
