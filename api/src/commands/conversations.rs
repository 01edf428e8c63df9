//! Changes to a conversation as a whole: its title, its short-term memory, its end.

use companion_domain::conversation::Conversation;
use companion_domain::ids::ConversationId;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Faults, JsonBody};
use crate::commands::{Done, forgetting, to_the_end};
use crate::error::Problem;
use crate::owned;
use crate::page::Read;
use crate::queries::conversations::{ConversationView, conversation};

/// A new title.
#[derive(Debug, Object)]
pub(crate) struct ConversationChange {
    /// 1 to 200 characters, not blank.
    #[oai(validator(min_length = 1, max_length = 200))]
    title: String,
}

/// The conversation whose short-term memory is to be emptied.
#[derive(Debug, Object)]
pub(crate) struct ResetRequest {
    conversation_id: Uuid,
}

/// The short-term memory is empty.
#[derive(Debug, Object)]
pub(crate) struct ResetAnswer {
    success: bool,
    message: String,
    conversation_id: Uuid,
}

pub(crate) struct ConversationCommands;

#[OpenApi]
impl ConversationCommands {
    /// Rename a conversation
    ///
    /// Gives it a title of your own.
    #[oai(path = "/conversations/:id", method = "patch")]
    async fn rename(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The conversation.
        id: Path<Uuid>,
        body: JsonBody<ConversationChange>,
    ) -> Result<Read<ConversationView>, Problem> {
        let title = body.0.title;
        let mut faults = Faults::default();
        faults.text("title", &title);
        faults.none()?;
        let (user, id) = (caller.user, ConversationId(id.0));
        let decide = |state: &Conversation| state.rename_by(user, title.clone());
        owned::change_conversation(&app.core, user, id, decide).await?;
        let Read::Ok(mut view, lag) = conversation(&app.core, user, id).await?;
        // Whatever the read model knows by now.
        view.0.title = Some(title);
        Ok(Read::Ok(view, lag))
    }

    /// Delete a conversation
    ///
    /// Takes it and its messages out of every list and search, and forgets the memories that came
    /// from it alone. A reply that runs is lost.
    #[oai(path = "/conversations/:id", method = "delete")]
    async fn delete(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The conversation.
        id: Path<Uuid>,
    ) -> Result<Done, Problem> {
        let (app, user, id) = (app.clone(), caller.user, ConversationId(id.0));
        to_the_end(async move {
            forgetting::forget_conversation(&app.core, user, id, Conversation::delete_by).await?;
            app.replies.cancel_in(id);
            Ok(Done::Done)
        })
        .await
    }

    /// Reset a conversation
    ///
    /// Empties its short-term memory: the next reply is made without any message or summary from
    /// before. Long-term memories stay, and so do the messages in the history.
    #[oai(path = "/conversation/reset", method = "post")]
    async fn reset(
        &self,
        app: Data<&App>,
        caller: Caller,
        body: JsonBody<ResetRequest>,
    ) -> Result<Json<ResetAnswer>, Problem> {
        let (user, id) = (caller.user, ConversationId(body.0.conversation_id));
        let decide = |state: &Conversation| state.reset_by(user);
        owned::change_conversation(&app.core, user, id, decide).await?;
        Ok(Json(ResetAnswer {
            success: true,
            message: "Conversation reset successfully".to_owned(),
            conversation_id: id.0,
        }))
    }
}
