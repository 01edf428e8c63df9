//! Who finds the statements.

use std::time::Duration;

use companion_adapters::config::{LlmEndpoint, Secret};
use companion_adapters::llm::{Llm, Sampling};
use companion_domain::extraction::{
    Extracted, KnownStatement, SaidMessage, by_patterns, instructions, marked, read_answer,
    request, schema,
};
use companion_domain::prompt::PromptMessage;
use serde_json::json;

use super::label::{Item, Stated};
use super::script;
use super::world::World;

/// The most tokens of an answer, as in the service.
const MAX_ANSWER_TOKENS: u32 = 1_500;
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
                Self::Llm(llm) => ask(llm, &message, &known).await,
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

/// Asks as the service does: with the schema, then for any JSON.
async fn ask(llm: &Llm, messages: &[SaidMessage], known: &[KnownStatement]) -> Extracted {
    let prompt = [
        ("system", instructions().to_owned()),
        ("user", request(messages, known)),
    ]
    .map(|(role, content)| PromptMessage { role, content });
    let sampling = Sampling {
        temperature: 0.0,
        max_tokens: MAX_ANSWER_TOKENS,
    };
    let bound = json!({
        "type": "json_schema",
        "json_schema": { "name": "memories", "strict": true, "schema": schema() }
    });
    for format in [bound, json!({ "type": "json_object" })] {
        if let Ok(answer) = llm.complete(&prompt, &sampling, Some(format)).await
            && answer.whole
            && let Ok(found) = read_answer(&answer.text, messages, known)
        {
            return marked(found, messages);
        }
    }
    Extracted::default()
}
