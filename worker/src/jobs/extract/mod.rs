//! Reads a conversation's new messages for facts and appends what follows from them.
//!
//! Portion by portion: `reading` takes the messages after the cursor, `finding` what they state, by
//! `asking` the LLM or with patterns, and `appending` weighs that against what is known. The append
//! expects the version of the user's memory stream at which the known memories were read: of two
//! extractions of one user at a time, one has to look again.

mod appending;
mod asking;
mod finding;
mod reading;

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::bail;
use companion_adapters::log::event_store::AppendError;
use companion_adapters::memories;
use companion_adapters::queue::{self, ExtractJob};

use super::{Context, Job, Later};

/// How long a job reads before it goes behind those of other users, with what is left.
const TURN: Duration = Duration::from_secs(5);
/// How long a job waits for another one of its user to end before it lets those of others go first.
const TURN_WITHIN: Duration = Duration::from_millis(100);
/// How long to wait for the projection to show what another extraction appended.
const PROJECTED_WITHIN: Duration = Duration::from_secs(5);
/// How often to look whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(5);

impl Job for ExtractJob {
    const QUEUE: &'static str = queue::EXTRACT;

    fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    async fn perform(&self, context: &Context, attempt: usize) -> anyhow::Result<()> {
        // One job of a user at a time: two would only wait for each other, and for others to wait.
        let turn = context.turns.wait(self.user, ExtractJob::QUEUE);
        let Ok(_turn) = tokio::time::timeout(TURN_WITHIN, turn).await else {
            return Err(Later::Busy.into());
        };
        let life = match context.core.store.life(self.user).await {
            // Erased: there is nobody to remember anything about.
            Err(AppendError::NoUser) => return Ok(()),
            life => life?,
        };
        let extraction = Extraction {
            job: self,
            context,
            attempt,
            llm_is_away: AtomicBool::new(false),
        };
        let begun = Instant::now();
        let mut given_up = None;
        while let Some(portion) = extraction.next_portion().await? {
            let found = extraction.find(&portion).await?;
            given_up = found.given_up.or(given_up);
            let appended = extraction.append(life.clone(), &portion, found).await?;
            if appended && portion.is_last {
                break;
            }
            if begun.elapsed() > TURN && given_up.is_none() {
                return Err(Later::OthersWait.into());
            }
        }
        match given_up {
            // What was given up is noted and no longer in the way; the job stays for the operator.
            Some(reason) => bail!("messages were given up, as the LLM gave no facts: {reason}"),
            None => Ok(()),
        }
    }
}

/// One run of the job.
struct Extraction<'a> {
    job: &'a ExtractJob,
    context: &'a Context,
    /// From 1. What failed is tried again in smaller portions: one message may be at fault.
    attempt: usize,
    /// Whether the LLM could not be reached in this run: then it is not asked again.
    llm_is_away: AtomicBool,
}

impl Extraction<'_> {
    async fn wait_for_projection(&self, version: i64) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let (projected, _) = memories::extraction_state(
                &self.context.core.derived,
                self.job.user,
                self.job.conversation,
            )
            .await?;
            if projected >= version {
                return Ok(());
            }
            if begun.elapsed() > PROJECTED_WITHIN {
                return Err(Later::Behind.into());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
