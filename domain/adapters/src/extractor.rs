//! Asks an LLM what messages state: with a schema, then for any JSON, and no more.

use companion_domain::events::FailureReason;
use companion_domain::extraction::{
    Extracted, KnownStatement, SaidMessage, Unusable, read_answer, request, schema,
};
use companion_domain::prompt::PromptMessage;
use serde_json::json;

use crate::llm::{Llm, LlmFailure, Sampling};

/// The most tokens of an answer.
const MAX_ANSWER_TOKENS: u32 = 1_500;

/// Why an LLM's answers are of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoUse {
    /// There was none.
    Failed(FailureReason),
    /// They make no sense.
    Unusable(Unusable),
}

impl NoUse {
    /// The stable name, as it is stored.
    pub fn code(self) -> &'static str {
        match self {
            Self::Failed(reason) => reason.code(),
            Self::Unusable(unusable) => unusable.code(),
        }
    }

    /// Whether asking anything else would end in the same way.
    pub fn is_away(self) -> bool {
        matches!(
            self,
            Self::Failed(FailureReason::LlmUnavailable | FailureReason::LlmTimeout)
        )
    }
}

/// Asks what messages state, and which of the known statements that replaces.
///
/// # Errors
/// [`NoUse`] of the last answer, when none can be used.
pub async fn ask(
    llm: &Llm,
    instructions: &str,
    messages: &[SaidMessage],
    known: &[KnownStatement],
) -> Result<Extracted, NoUse> {
    let prompt = [
        ("system", instructions.to_owned()),
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
    let mut reason = NoUse::Unusable(Unusable::NotJson);
    // Some servers know only one of the two formats.
    for format in [bound, json!({ "type": "json_object" })] {
        match llm.complete(&prompt, &sampling, Some(format)).await {
            Ok(answer) if answer.whole => match read_answer(&answer.text, messages, known) {
                Ok(extracted) => return Ok(extracted),
                Err(unusable) => reason = NoUse::Unusable(unusable),
            },
            Ok(_) => reason = NoUse::Unusable(Unusable::CutOff),
            Err(LlmFailure(failure)) => reason = NoUse::Failed(failure),
        }
        if reason.is_away() {
            break;
        }
    }
    Err(reason)
}
