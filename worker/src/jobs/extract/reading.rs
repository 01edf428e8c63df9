//! Takes the messages that are read together from behind the cursor.

use chrono::Utc;
use companion_adapters::config::ExtractionMode;
use companion_adapters::{memories, messages};
use companion_domain::events::{Event, Recorded};
use companion_domain::extraction::{MAX_CHARACTERS, SaidMessage, TOGETHER, said_messages};
use companion_domain::ids::StreamId;

use super::Extraction;

/// How many events of a conversation are looked at for one portion.
const LOOK_AHEAD: i64 = 100;
/// How many messages, and characters of them, patterns read at once: they cost little, an append
/// costs the same for many.
const TOGETHER_BY_PATTERNS: usize = 400;
const MAX_CHARACTERS_BY_PATTERNS: usize = 400_000;

/// Messages of the user that are read together.
pub(super) struct Portion {
    pub(super) messages: Vec<SaidMessage>,
    /// The version of the conversation after which this portion begins.
    pub(super) after_version: i64,
    /// The version of the conversation up to which this portion reads.
    pub(super) through_version: i64,
    /// Whether nothing was left to read behind it.
    pub(super) is_last: bool,
}

impl Extraction<'_> {
    /// The next messages after the cursor; `None` when there are none or a later job is to read them.
    pub(super) async fn next_portion(&self) -> anyhow::Result<Option<Portion>> {
        let core = &self.context.core;
        // What the user cleared a moment ago is not even shown to the LLM.
        let cleared = core.store.version(&StreamId::memory(self.job.user)).await?;
        self.wait_for_projection(cleared).await?;
        let (_, cursor) =
            memories::extraction_state(&core.derived, self.job.user, self.job.conversation).await?;
        if cursor >= self.job.through_version {
            return Ok(None);
        }
        let stream = StreamId::conversation(self.job.conversation);
        let tail = core.store.read_some(&stream, cursor, LOOK_AHEAD).await?;
        let more = i64::try_from(tail.len()).is_ok_and(|read| read == LOOK_AHEAD);
        if self.is_still_talking(&tail) {
            return Ok(None);
        }
        let zone = messages::timezone(&core.derived, self.job.user).await?;
        let mut portion = Portion {
            messages: Vec::new(),
            after_version: cursor,
            through_version: cursor,
            is_last: !more,
        };
        let (together, most) = self.together();
        let mut characters = 0;
        for recorded in &tail {
            let said = said_messages(recorded, zone);
            characters += said
                .iter()
                .map(|m| m.content.chars().count())
                .sum::<usize>();
            let full = portion.messages.len() + said.len() > together || characters > most;
            if full && !said.is_empty() && !portion.messages.is_empty() {
                portion.is_last = false;
                break;
            }
            portion.messages.extend(said);
            portion.through_version = recorded.version;
        }
        // A long stretch without a word of the user is passed over, and noted as read.
        Ok((!portion.messages.is_empty() || more).then_some(portion))
    }

    /// How many messages, and characters of them, are read together, unless one event has more.
    fn together(&self) -> (usize, usize) {
        match self.context.core.config.extraction_mode {
            ExtractionMode::Heuristic => (TOGETHER_BY_PATTERNS, MAX_CHARACTERS_BY_PATTERNS),
            _ => (self.asked_together(), MAX_CHARACTERS),
        }
    }

    /// How many messages the LLM is shown at once: half as many with each try, and in the end one.
    pub(super) fn asked_together(&self) -> usize {
        (TOGETHER >> (self.attempt - 1).min(8)).max(1)
    }

    /// Whether the conversation went on since this job was made, so that the job of its latest turn
    /// is to read everything in one go. One that never pauses is read in full portions.
    fn is_still_talking(&self, tail: &[Recorded]) -> bool {
        let (mut messages, mut went_on) = (0, false);
        let quiet_since = Utc::now() - self.context.core.config.extraction_delay;
        for recorded in tail {
            match recorded.event {
                Event::UserMessageReceived(_) => messages += 1,
                Event::ReplyCompleted(_) | Event::ReplyFailed(_) | Event::ReplyCancelled(_) => {
                    went_on |= recorded.version > self.job.through_version
                        && recorded.recorded_at > quiet_since;
                }
                _ => {}
            }
        }
        went_on && messages < TOGETHER
    }
}
