//! Which messages of an event are read for facts.

use chrono_tz::Tz;

use super::SaidMessage;
use crate::conversation::Role;
use crate::events::{Event, Recorded};

/// What the user said in an event that is to be read for facts; `zone` is the user's time zone, for messages
/// that came without one.
pub fn said_messages(recorded: &Recorded, zone: Tz) -> Vec<SaidMessage> {
    match &recorded.event {
        Event::UserMessageReceived(event) => {
            let sent = event.timezone.as_deref().and_then(|zone| zone.parse().ok());
            vec![SaidMessage {
                id: event.message_id,
                content: event.content.clone(),
                at: recorded.recorded_at,
                zone: sent.unwrap_or(zone),
            }]
        }
        Event::MessagesImported(event) if event.extract => {
            let own = event.messages.iter().filter(|m| m.role == Role::User);
            own.map(|message| SaidMessage {
                id: message.message_id,
                content: message.content.clone(),
                at: message.created_at,
                zone,
            })
            .collect()
        }
        _ => Vec::new(),
    }
}
