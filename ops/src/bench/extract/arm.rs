//! Who finds the statements.

use std::time::Duration;

use companion_adapters::config::{LlmEndpoint, Secret};
use companion_adapters::extractor;
use companion_adapters::llm::Llm;
use companion_domain::extraction::{
    Extracted, KnownStatement, SaidMessage, by_patterns, instructions, marked, read_answer,
};

use super::label::{Item, Stated};
use super::script;
use super::world::World;

/// How long a model may be silent.
const TIMEOUT: Duration = Duration::from_secs(120);

/// An arm of extraction.
pub(super) enum Arm {
    Patterns,
    Scripted,
    Llm(Box<Llm>),
}

impl Arm {
    pub(super) fn llm(base_url: String, model: String) -> anyhow::Result<Self> {
        let endpoint = LlmEndpoint {
            base_url,
            model,
            api_key: Secret::new(std::env::var("LM_STUDIO_API_KEY").unwrap_or_default()),
        };
        Ok(Self::Llm(Box::new(Llm::new(&endpoint, TIMEOUT)?)))
    }

    /// What is live, and what was, when the messages of an item have been read one after another.
    pub(super) async fn run(
        &self,
        number: usize,
        item: &Item,
    ) -> anyhow::Result<(Vec<Stated>, Vec<Stated>)> {
        let mut world = World::new(&item.id);
        for (n, message) in item.messages().into_iter().enumerate() {
            let known = world.known();
            let message = [message];
            let found = match self {
                Self::Patterns => by_patterns(&message),
                Self::Scripted => {
                    let answer = script::answer(number, item, n + 1, &known);
                    read(&answer, &message, &known)
                }
                Self::Llm(llm) => {
                    let asked = extractor::ask(llm, instructions(), &message, &known).await;
                    marked(asked.unwrap_or_default(), &message)
                }
            };
            world.take(found);
        }
        Ok(world.remembered())
    }
}

/// What can be believed of an answer, as in the service; nothing when it is of no use.
fn read(answer: &str, messages: &[SaidMessage], known: &[KnownStatement]) -> Extracted {
    marked(
        read_answer(answer, messages, known).unwrap_or_default(),
        messages,
    )
}
