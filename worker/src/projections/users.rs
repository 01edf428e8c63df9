//! Users: the id by which callers name them, and their time zone.

use companion_adapters::read_models::rows::User;
use companion_adapters::read_models::{ReadModels, Touched};
use companion_domain::events::{Event, Recorded};

use super::Projection;

pub(super) const USERS: Projection = Projection::new("users", &["users"], touch, apply);

fn touch(recorded: &Recorded, touched: &mut Touched) {
    if noted(&recorded.event).is_some() {
        touched.users.insert(recorded.user.0);
    }
}

fn apply(recorded: &Recorded, models: &mut ReadModels) {
    let Some((external_id, timezone)) = noted(&recorded.event) else {
        return;
    };
    let mut user = models.users.get(recorded.user.0).cloned().unwrap_or(User {
        user_id: recorded.user.0,
        external_id: None,
        timezone: None,
    });
    user.external_id = external_id.map(str::to_owned).or(user.external_id);
    user.timezone = timezone.map(str::to_owned).or(user.timezone);
    models.users.put(user);
}

/// What an event says of a user: external id and time zone.
fn noted(event: &Event) -> Option<(Option<&str>, Option<&str>)> {
    match event {
        Event::UserRegistered(event) => Some((Some(&event.external_id), None)),
        Event::UserMessageReceived(event) => Some((None, Some(event.timezone.as_deref()?))),
        _ => None,
    }
}
