//! `POST /conversations/{id}/summary`: puts what was said in short.

use companion_adapters::core::Core;
use companion_adapters::event_store::{AppendError, Expected};
use companion_adapters::llm::{Answer, LlmFailure, Sampling};
use companion_domain::conversation::{Conversation, Message, Refusal};
use companion_domain::events::{FailureReason, Metadata};
use companion_domain::ids::{ConversationId, StreamId, UserId};
use companion_domain::summary;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use serde_json::json;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::code::Code;
use crate::error::Problem;
use crate::owned;

/// How often the LLM is asked when the conversation is reset or summarised by others meanwhile.
/// What the summaries of a user take turns under. No idempotency key has a space.
const SUMMARIES: &str = "the summaries";
const TRIES: usize = 3;
/// How cautious the LLM is to be: a summary is no place for ideas.
const TEMPERATURE: f32 = 0.2;
/// The longest summary, characters; an LLM that does not keep to its tokens is cut off.
const MAX_SUMMARY: usize = 8_000;

/// A conversation in short.
#[derive(Debug, Object)]
pub(crate) struct SummaryView {
    summary: String,
    /// The last message that it covers.
    through_message_id: Uuid,
    /// The model that wrote it.
    model: Option<String>,
    /// Whether it was there already, as nothing was said since.
    cached: bool,
}

pub(crate) struct SummaryCommands;

#[OpenApi]
impl SummaryCommands {
    /// Summarise a conversation
    ///
    /// Puts what was said since the last reset in short. The next replies are made with the summary
    /// in sight. When nothing was said since the last summary, that one is the answer.
    #[oai(path = "/conversations/:id/summary", method = "post")]
    async fn summarise(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The conversation.
        id: Path<Uuid>,
    ) -> Result<Json<SummaryView>, Problem> {
        let (user, id) = (caller.user, ConversationId(id.0));
        owned::conversation(&app.core, user, id).await?;
        // One at a time for each user: the LLM has others to serve.
        let _turn = app.turns.wait(user, SUMMARIES).await;
        for _ in 0..TRIES {
            let mut state = Conversation::default();
            read_on(&app.core, id, &mut state).await?;
            state.of_user(user)?;
            let new = state.unsummarised();
            let Some(last) = new.last() else {
                return standing(&state).map(Json);
            };
            let through = last.id;
            let answer = ask(&app, &state, &new)
                .await
                .map_err(|failure| Problem::llm_failed(failure, id.0))?;
            let text = answer.text.clone();
            if append(&app, user, id, state, answer, last).await? {
                return Ok(Json(SummaryView {
                    summary: text,
                    through_message_id: through.0,
                    model: Some(app.llm.model().to_owned()),
                    cached: false,
                }));
            }
        }
        Err(AppendError::Conflict { actual: 0 }.into())
    }
}

/// Brings a state that keeps every message up to date with the log.
async fn read_on(core: &Core, id: ConversationId, state: &mut Conversation) -> Result<(), Problem> {
    let stream = StreamId::conversation(id);
    for recorded in core.store.read_stream(&stream, state.version).await? {
        state.evolve(&recorded, usize::MAX);
    }
    Ok(())
}

/// The summary that there is.
fn standing(state: &Conversation) -> Result<SummaryView, Problem> {
    let summary = state.summary.clone();
    let summary = summary.ok_or(Code::NothingToSummarise)?;
    Ok(SummaryView {
        summary: summary.text,
        through_message_id: summary.through.0,
        model: summary.model,
        cached: true,
    })
}

fn sampling(app: &App) -> Sampling {
    Sampling {
        temperature: TEMPERATURE,
        max_tokens: summary::MAX_TOKENS.min(app.core.config.llm_max_tokens),
    }
}

async fn ask(app: &App, state: &Conversation, new: &[Message]) -> Result<Answer, LlmFailure> {
    let former = state.summary.as_ref().map(|summary| summary.text.as_str());
    let prompt = summary::prompt(former, new, app.core.config.prompt_budget());
    let mut answer = app.llm.complete(&prompt, &sampling(app), None).await?;
    // PostgreSQL's text can't hold NUL, and no reader misses it.
    let text = answer.text.replace('\0', "");
    answer.text = text.trim().chars().take(MAX_SUMMARY).collect();
    if answer.text.is_empty() {
        return Err(LlmFailure(FailureReason::LlmInvalid));
    }
    Ok(answer)
}

/// Appends the summary, whatever was said meanwhile; `false` when the conversation was reset or
/// summarised by others meanwhile, so that it is not what it was.
async fn append(
    app: &App,
    user: UserId,
    id: ConversationId,
    mut state: Conversation,
    answer: Answer,
    last: &Message,
) -> Result<bool, Problem> {
    let former = state.summary.clone();
    let sampling = sampling(app);
    let metadata = Metadata {
        prompt_id: Some(summary::PROMPT_ID.to_owned()),
        prompt_hash: Some(summary::template_hash()),
        model: Some(app.llm.model().to_owned()),
        parameters: Some(
            json!({ "temperature": sampling.temperature, "max_tokens": sampling.max_tokens }),
        ),
        usage: answer.usage,
        ..Metadata::default()
    };
    loop {
        read_on(&app.core, id, &mut state).await?;
        let event = match state.summarise(user, former.as_ref(), answer.text.clone(), last.id) {
            Ok(event) => event,
            Err(Refusal::MovedOn) => return Ok(false),
            Err(refusal) => return Err(refusal.into()),
        };
        let stream = StreamId::conversation(id);
        let expected = Expected::Version(state.version);
        let events = vec![(event, metadata.clone())];
        match app
            .core
            .store
            .append(&stream, user, expected, events, None)
            .await
        {
            Ok(_) => return Ok(true),
            Err(AppendError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
