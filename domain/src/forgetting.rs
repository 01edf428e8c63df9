//! What follows when a user wants the memories of a conversation gone.

use crate::events::MemoriesCleared;
use crate::ids::{ConversationId, MemoryId};
use crate::memory::Source;

/// Decides what becomes of the memories that rest on a conversation, among others maybe: one that
/// rests on nothing else is forgotten, the others lose this support and stay.
pub fn clear(
    conversation_id: ConversationId,
    through_version: i64,
    memories: impl IntoIterator<Item = (MemoryId, Vec<Source>)>,
) -> MemoriesCleared {
    let mut cleared = MemoriesCleared {
        conversation_id,
        through_version,
        forgotten: Vec::new(),
        unsupported: Vec::new(),
    };
    for (memory, sources) in memories {
        let here = |source: &Source| source.conversation_id == conversation_id;
        if !sources.iter().any(here) {
            continue;
        }
        if sources.iter().all(here) {
            cleared.forgotten.push(memory);
        } else {
            cleared.unsupported.push(memory);
        }
    }
    cleared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MessageId, derived};

    #[test]
    fn a_memory_that_others_support_stays() {
        let conversation = |name: &str| ConversationId(derived(&[name]));
        let memory = |name: &str| MemoryId(derived(&[name]));
        let from = |names: &[&str]| -> Vec<Source> {
            let source = |name: &&str| Source {
                conversation_id: conversation(name),
                message_id: MessageId(derived(&[name])),
            };
            names.iter().map(source).collect()
        };
        let memories = [
            (memory("only here"), from(&["a", "a"])),
            (memory("here and there"), from(&["a", "b"])),
            (memory("elsewhere"), from(&["b"])),
            (memory("written by hand"), from(&[])),
        ];
        let cleared = clear(conversation("a"), 7, memories);
        assert_eq!(cleared.forgotten, [memory("only here")]);
        assert_eq!(cleared.unsupported, [memory("here and there")]);
    }
}
