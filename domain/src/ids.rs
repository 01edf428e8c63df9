//! The ids of everything that has one, as types that can't be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The UUIDv5 namespace of user ids. Changing it would cut every user off from their log.
const USER_NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_3c52_9f0b_4c1e_8f57_2a64_d7c1_90ab);
/// The UUIDv5 namespace of ids derived from what a job read, so that a repeated job makes the same.
const DERIVED_NAMESPACE: Uuid = Uuid::from_u128(0x1b0a_77e4_52c3_4d7d_9c3e_a80d_5b11_42ef);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A user, as the log knows them: derived from the external id, see [`UserId::of`].
    UserId
);
id!(
    /// A conversation.
    ConversationId
);
id!(
    /// One message of a conversation, of either role.
    MessageId
);
id!(
    /// One reply of the assistant. Its message, once stored, has the same UUID.
    ReplyId
);
id!(
    /// One memory: an atomic fact about a user.
    MemoryId
);
id!(
    /// The public half of an API key.
    ApiKeyId
);
id!(
    /// One event of the log.
    EventId
);

impl UserId {
    /// The id of the user whom callers name `external`: a UUIDv5, so that no look-up is needed.
    pub fn of(external: &ExternalUserId) -> Self {
        Self(Uuid::new_v5(&USER_NAMESPACE, external.as_str().as_bytes()))
    }
}

impl ReplyId {
    /// The id of the assistant's message that this reply becomes.
    pub fn message(self) -> MessageId {
        MessageId(self.0)
    }
}

/// An id that depends on nothing but its parts: the same parts give the same id, so that a job
/// that runs twice makes the same thing twice.
pub fn derived(parts: &[&str]) -> Uuid {
    let mut name = String::new();
    for part in parts {
        name.push_str(part);
        name.push('\u{1f}');
    }
    Uuid::new_v5(&DERIVED_NAMESPACE, name.as_bytes())
}

/// A user id as callers write it: 1 to 128 characters of `A-Z a-z 0-9 . _ - @ : +`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExternalUserId(String);

/// Why a string is not an [`ExternalUserId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user id is 1 to 128 characters of A-Z a-z 0-9 . _ - @ : +")]
pub struct InvalidUserId;

impl ExternalUserId {
    /// Parses what a caller sent.
    ///
    /// # Errors
    /// [`InvalidUserId`] when the length or a character is not allowed.
    pub fn parse(text: &str) -> Result<Self, InvalidUserId> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"._-@:+".contains(&c);
        if (1..=128).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidUserId)
        }
    }

    /// The id as the caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a stream: one aggregate's events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamId {
    name: String,
    /// Projections ask for it, more than once an event.
    conversation: Option<ConversationId>,
}

impl StreamId {
    /// The stream of one conversation.
    pub fn conversation(id: ConversationId) -> Self {
        Self {
            name: format!("conversation-{id}"),
            conversation: Some(id),
        }
    }

    /// The stream of all of one user's memories: one a user, so that its version fences extraction.
    pub fn memory(user: UserId) -> Self {
        Self {
            name: format!("memory-{user}"),
            conversation: None,
        }
    }

    /// The stream of the user as such: registration, keys.
    pub fn user(user: UserId) -> Self {
        Self {
            name: format!("user-{user}"),
            conversation: None,
        }
    }

    /// Takes a name read from the log.
    pub fn stored(name: String) -> Self {
        let id = name.strip_prefix("conversation-");
        let id = id.and_then(|id| Uuid::parse_str(id).ok());
        Self {
            conversation: id.map(ConversationId),
            name,
        }
    }

    /// The name as stored.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The conversation whose stream this is, if it is one.
    pub fn as_conversation(&self) -> Option<ConversationId> {
        self.conversation
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_external_id_is_always_the_same_user() {
        let id = |text: &str| ExternalUserId::parse(text).map(|u| UserId::of(&u));
        assert_eq!(id("alice"), id("alice"));
        assert_ne!(id("alice"), id("Alice"));
    }

    #[test]
    fn an_external_id_keeps_to_its_alphabet_and_length() {
        for good in ["a", "user_1", "a.b-c@d:e+f", &"x".repeat(128)] {
            assert!(ExternalUserId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " ", "a b", "ü", "a/b", "a\0", &"x".repeat(129)] {
            assert!(ExternalUserId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn derived_ids_do_not_run_their_parts_together() {
        assert_eq!(derived(&["a", "b"]), derived(&["a", "b"]));
        assert_ne!(derived(&["ab", ""]), derived(&["a", "b"]));
    }

    #[test]
    fn a_conversation_stream_names_its_conversation() {
        let id = ConversationId(derived(&["c"]));
        assert_eq!(StreamId::conversation(id).as_conversation(), Some(id));
        assert_eq!(StreamId::memory(UserId(id.0)).as_conversation(), None);
    }
}
