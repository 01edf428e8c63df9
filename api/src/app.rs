//! What every operation has at hand.

use std::sync::Arc;
use std::time::{Duration, Instant};

use companion_adapters::core::Core;
use companion_adapters::llm::Llm;
use companion_adapters::rate_limit::RateLimits;
use companion_adapters::reply_texts::ReplyTexts;
use companion_adapters::tokens::Tokens;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::replies::Replies;
use companion_adapters::turns::Turns;

/// How old the answer to "does the LLM answer?" may be.
const LLM_CHECK: Duration = Duration::from_secs(8);

/// The open parts of the API. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) core: Core,
    pub(crate) llm: Llm,
    /// This process, as the holder of leases on replies.
    pub(crate) process: Uuid,
    pub(crate) replies: Replies,
    /// The texts of running replies, where other processes see them.
    pub(crate) texts: ReplyTexts,
    pub(crate) tokens: Tokens,
    pub(crate) limits: RateLimits,
    pub(crate) turns: Turns,
    llm_check: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl App {
    pub(crate) fn new(core: Core) -> anyhow::Result<Self> {
        let llm = Llm::new(&core.config.llm, core.config.llm_timeout)?;
        let config = &core.config;
        Ok(Self {
            llm,
            process: Uuid::now_v7(),
            replies: Replies::new(config.max_replies, config.max_replies_per_user),
            texts: ReplyTexts::new(core.redis.clone()),
            tokens: Tokens::new(config)?,
            limits: RateLimits::new(config.rate_limit, core.redis.clone()),
            turns: Turns::default(),
            core,
            llm_check: Arc::default(),
        })
    }

    /// Whether the LLM answered when it was last asked, a few seconds ago at most.
    pub(crate) async fn llm_answers(&self) -> bool {
        let (llm, last) = (self.llm.clone(), self.llm_check.clone());
        // A task of its own: whoever does not wait for it leaves the answer to the next.
        let check = tokio::spawn(async move {
            let mut last = last.lock().await;
            match *last {
                Some((at, answers)) if at.elapsed() < LLM_CHECK => answers,
                _ => {
                    let answers = llm.ping().await;
                    *last = Some((Instant::now(), answers));
                    answers
                }
            }
        });
        check.await.unwrap_or(false)
    }
}
