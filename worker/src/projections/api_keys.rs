//! API keys. The commands that issue and revoke them do the same at once, in the commit of the event:
//! what may come in must not depend on how far a projection is.

use companion_adapters::api_keys;
use companion_domain::events::{Event, Recorded};
use sqlx::PgConnection;

pub(super) async fn project(
    transaction: &mut PgConnection,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
    match &recorded.event {
        Event::ApiKeyIssued(event) => api_keys::take_in(transaction, recorded.user, event).await,
        Event::ApiKeyRevoked(event) => api_keys::take_back(transaction, recorded.user, event).await,
        _ => Ok(()),
    }
}
