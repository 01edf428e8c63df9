//! Finds what a portion's messages state, the way a run reads. As when messages come, but for two things:
//! the instructions may be others, and an LLM that can't be reached stops the run instead of leaving it to
//! patterns.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use companion_adapters::extractor::{self, NoUse};
use companion_adapters::llm::Llm;
use companion_adapters::messages;
use companion_adapters::reextractions::Found;
use companion_domain::extraction::{
    self, Extracted, KnownStatement, SaidMessage, by_patterns, completed, marked,
};
use companion_domain::ids::UserId;

use super::Reextraction;

impl Reextraction<'_> {
    /// What is found; the inner error is why nothing usable is.
    pub(super) async fn find(
        &self,
        llm: &Llm,
        user: UserId,
        messages: &[SaidMessage],
        known: &[KnownStatement],
    ) -> Result<Result<Found, &'static str>> {
        let patterns = |fallback: Option<&'static str>| Found {
            candidates: by_patterns(messages).candidates,
            method: "heuristic".to_owned(),
            fallback: fallback.map(str::to_owned),
        };
        let method = self.run.settings.method.as_str();
        if method == "heuristic" {
            return Ok(Ok(patterns(None)));
        }
        Ok(
            match (self.ask(llm, user, messages, known).await?, method) {
                (Ok(extracted), "hybrid") if extracted.candidates.is_empty() => {
                    Ok(patterns(Some("nothing_found")))
                }
                (Ok(extracted), method) => Ok(Found {
                    candidates: match method {
                        "hybrid" => completed(extracted, messages).candidates,
                        _ => marked(extracted, messages).candidates,
                    },
                    method: "llm".to_owned(),
                    fallback: None,
                }),
                (Err(reason), "hybrid") => Ok(patterns(Some(reason))),
                (Err(reason), _) => Err(reason),
            },
        )
    }

    async fn ask(
        &self,
        llm: &Llm,
        user: UserId,
        messages: &[SaidMessage],
        known: &[KnownStatement],
    ) -> Result<Result<Extracted, &'static str>> {
        self.let_the_reply_go_first(user).await?;
        let instructions = self.run.settings.instructions.as_deref();
        let instructions = instructions.unwrap_or_else(|| extraction::instructions());
        let asked = extractor::ask(llm, instructions, messages, known).await;
        if asked.as_ref().is_err_and(|reason| reason.is_away()) {
            let since = self.run.settings.since.map_or_else(String::new, |at| {
                format!(" with --since {}", at.to_rfc3339())
            });
            bail!(
                "the LLM does not answer; what was read is kept. Start it, or look at --endpoint and --model, and \
                 give the same command again{since}"
            )
        }
        Ok(asked.map_err(NoUse::code))
    }

    /// A local LLM serves one request at a time: while it talks to the user, this waits.
    async fn let_the_reply_go_first(&self, user: UserId) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < self.operator.config.llm_timeout
            && messages::is_replying(&self.operator.pool, user).await?
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}
