//! Users: the id by which callers name them, and their time zone.

use companion_adapters::messages::projection;
use companion_domain::events::{Event, Recorded};
use sqlx::PgConnection;

pub(super) async fn project(
    transaction: &mut PgConnection,
    recorded: &Recorded,
) -> Result<(), sqlx::Error> {
    match &recorded.event {
        Event::UserRegistered(event) => {
            projection::note_user(transaction, recorded.user, Some(&event.external_id), None).await
        }
        Event::UserMessageReceived(event) => match &event.timezone {
            Some(zone) => projection::note_user(transaction, recorded.user, None, Some(zone)).await,
            None => Ok(()),
        },
        _ => Ok(()),
    }
}
