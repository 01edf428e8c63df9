//! `POST /conversations/{id}/summary`: puts what was said in short.

use companion_adapters::log::event_store::AppendError;
use companion_adapters::summaries::{Summariser, SummaryError};
use companion_domain::conversation::Conversation;
use companion_domain::ids::ConversationId;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::code::Code;
use crate::error::Problem;
use crate::owned;

/// How often it is begun anew when the conversation is reset or summarised by others meanwhile.
const TRIES: usize = 3;
/// What the summaries of a user take turns under. No idempotency key has a space.
const SUMMARIES: &str = "the summaries";

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
    /// in sight. When nothing was said since the last summary, that one is the answer. A long
    /// conversation takes the LLM several passes; what they came to is kept when one fails.
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
        let failed = |error: SummaryError| match error {
            SummaryError::Llm(failure) => Problem::llm_failed(failure, id.0),
            SummaryError::Read(error) => error.into(),
            SummaryError::Append(error) => error.into(),
            SummaryError::Refused(refusal) => refusal.into(),
            SummaryError::Database(error) => error.into(),
        };
        let mut made = false;
        'anew: for _ in 0..TRIES {
            let mut summariser = Summariser::open(&app.core, &app.llm, user, id)
                .await
                .map_err(failed)?;
            let new = summariser.state().unsummarised();
            for portion in summariser.portions(&new) {
                if !summariser.take_in(&portion).await.map_err(failed)? {
                    made = false;
                    continue 'anew;
                }
                made = true;
            }
            return standing(summariser.state(), !made).map(Json);
        }
        Err(AppendError::Conflict { actual: 0 }.into())
    }
}

/// The summary that there is.
fn standing(state: &Conversation, cached: bool) -> Result<SummaryView, Problem> {
    let summary = state.summary.clone();
    let summary = summary.ok_or(Code::NothingToSummarise)?;
    Ok(SummaryView {
        summary: summary.text,
        through_message_id: summary.through.0,
        model: summary.model,
        cached,
    })
}
