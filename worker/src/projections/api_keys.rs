//! API keys. The commands that issue and revoke them do the same at once, in the commit of the event:
//! what may come in must not depend on how far a projection is.

use companion_adapters::read_models::rows::ApiKey;
use companion_adapters::read_models::{ReadModels, Touched};
use companion_domain::events::{Event, Recorded};

use super::Projection;

pub(super) const API_KEYS: Projection = Projection::new("api_keys", &["api_keys"], touch, apply);

fn touch(recorded: &Recorded, touched: &mut Touched) {
    match &recorded.event {
        Event::ApiKeyIssued(event) => drop(touched.api_keys.insert(event.key_id.0)),
        Event::ApiKeyRevoked(event) => drop(touched.api_keys.insert(event.key_id.0)),
        _ => {}
    }
}

fn apply(recorded: &Recorded, models: &mut ReadModels) {
    match &recorded.event {
        Event::ApiKeyIssued(event) if models.api_keys.get(event.key_id.0).is_none() => {
            models.api_keys.put(ApiKey {
                key_id: event.key_id.0,
                user_id: recorded.user.0,
                name: event.name.clone(),
                secret_hash: event.secret_hash.clone(),
                created_at: event.issued_at,
                revoked_at: None,
            });
        }
        // The row stays, so that an issue that is projected late brings nothing back.
        Event::ApiKeyRevoked(event) => {
            if let Some(key) = models.api_keys.change(event.key_id.0) {
                key.revoked_at = key.revoked_at.or(Some(event.revoked_at));
            }
        }
        _ => {}
    }
}
