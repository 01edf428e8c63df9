//! Puts in short what leaves the short-term buffer of a conversation, so that the next prompts have it.
//!
//! A summary is welcome, not owed: without an LLM there is none, and the end of the next turn tries
//! again. The messages stay in the buffer until then, within a bound, and in the log for ever.

use companion_adapters::log::event_store::AppendError;
use companion_adapters::queue::{self, SummariseJob};
use companion_adapters::summaries::{Summariser, SummaryError};
use companion_domain::conversation::Conversation;

use super::{Context, Job};

/// How many portions one job puts in short: a long conversation that was imported is worked through as
/// it goes on, and others have their turn in between.
const PORTIONS: usize = 8;

impl Job for SummariseJob {
    const QUEUE: &'static str = queue::SUMMARISE;

    fn traceparent(&self) -> Option<&str> {
        self.traceparent.as_deref()
    }

    async fn perform(&self, context: &Context, _attempt: usize) -> anyhow::Result<()> {
        match summarise(self, context).await {
            Ok(()) => Ok(()),
            Err(SummaryError::Llm(failure)) => {
                let reason = failure.0.code();
                tracing::info!(reason, "no summary was made; the next turn tries again");
                Ok(())
            }
            // Deleted, or erased: there is nothing to put in short any more.
            Err(SummaryError::Refused(_) | SummaryError::Append(AppendError::NoUser)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

async fn summarise(job: &SummariseJob, context: &Context) -> Result<(), SummaryError> {
    let core = &context.core;
    let due = |state: &Conversation| {
        let config = &core.config;
        state.overflow(config.short_term_memory_size, config.history_budget())
    };
    // The buffer knows whether anything is due; only then is the whole conversation read.
    let state = core.buffer.current(&core.store, job.conversation).await?;
    if due(&state).is_empty() {
        return Ok(());
    }
    let llm = &context.llm;
    let mut summariser = Summariser::open(core, llm, job.user, job.conversation).await?;
    let messages = due(summariser.state());
    for portion in summariser.portions(&messages).iter().take(PORTIONS) {
        context.let_the_reply_go_first(job.user).await?;
        // Closed only when the process has ended.
        let Ok(_slot) = context.llm_slots.acquire().await else {
            break;
        };
        if !summariser.take_in(portion).await? {
            tracing::debug!("the conversation is not what it was; what is due is seen later");
            break;
        }
    }
    Ok(())
}
