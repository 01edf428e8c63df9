//! Messages from another system, laid out in events: each event is what extraction reads at once,
//! as its cursor moves from event to event.

use crate::events::{ConversationStarted, Event, ImportedMessage, MessagesImported};
use crate::extraction::{MAX_CHARACTERS, TOGETHER};
use crate::ids::ConversationId;

/// Decides what follows from an import: a conversation with its messages, in order.
pub fn import(
    conversation_id: ConversationId,
    title: Option<String>,
    messages: Vec<ImportedMessage>,
    extract: bool,
) -> Vec<Event> {
    let started = ConversationStarted {
        conversation_id,
        title,
    };
    let mut events: Vec<Event> = vec![started.into()];
    let (mut together, mut characters) = (Vec::new(), 0);
    for message in messages {
        let length = message.content.chars().count();
        let full = together.len() >= TOGETHER || characters + length > MAX_CHARACTERS;
        if full && !together.is_empty() {
            let messages = std::mem::take(&mut together);
            events.push(MessagesImported { messages, extract }.into());
            characters = 0;
        }
        characters += length;
        together.push(message);
    }
    if !together.is_empty() {
        let messages = together;
        events.push(MessagesImported { messages, extract }.into());
    }
    events
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use proptest::prelude::*;

    use super::*;
    use crate::conversation::Role;
    use crate::ids::{MessageId, derived};

    proptest! {
        #[test]
        fn every_message_is_in_one_event_in_order(lengths in prop::collection::vec(1usize..9_000, 0..70)) {
            let messages: Vec<ImportedMessage> = lengths
                .iter()
                .enumerate()
                .map(|(n, length)| ImportedMessage {
                    message_id: MessageId(derived(&[&n.to_string()])),
                    role: Role::User,
                    name: None,
                    content: "x".repeat(*length),
                    created_at: DateTime::default(),
                    external_id: None,
                })
                .collect();
            let events = import(ConversationId(derived(&["c"])), None, messages.clone(), true);
            let mut found = Vec::new();
            for event in &events[1..] {
                let Event::MessagesImported(imported) = event else { panic!("an import") };
                let characters: usize = imported.messages.iter().map(|m| m.content.len()).sum();
                prop_assert!(imported.messages.len() <= TOGETHER);
                prop_assert!(characters <= MAX_CHARACTERS || imported.messages.len() == 1);
                found.extend(imported.messages.clone());
            }
            prop_assert_eq!(found, messages);
        }
    }
}
