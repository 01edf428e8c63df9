//! A reply that has begun: follow it again, or stop it.

use std::time::Duration;

use companion_adapters::cancellation::Asked;
use companion_adapters::log::event_store::{AppendError, Expected};
use companion_adapters::{cancellation, messages, progress};
use companion_domain::events::Metadata;
use companion_domain::ids::{ConversationId, ReplyId, StreamId, UserId};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::code::Code;
use crate::commands::sse::{Place, ReplyStream};
use crate::error::Problem;
use crate::following::{self, Followed};
use crate::header;
use crate::replies::{NOT_STORED, Outcome};

const LAST_EVENT_ID: &str = "Last-Event-ID";
/// How long another process may take to stop a reply.
const STOPPED_WITHIN: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(20);

/// A reply that was stopped.
#[derive(Debug, Object)]
pub(crate) struct Cancelled {
    reply_id: Uuid,
    /// `cancelled`.
    status: String,
    /// What there is of the reply.
    content: String,
}

pub(crate) struct RepliesApi;

#[OpenApi]
impl RepliesApi {
    /// Follow a reply
    ///
    /// Streams a running or finished reply, from its beginning or from after the event that
    /// `Last-Event-ID` names: without loss or repeat, from any process, also after a restart. What is
    /// missing of a finished reply comes in one piece.
    #[oai(path = "/replies/:id/stream", method = "get")]
    async fn follow(
        &self,
        app: Data<&App>,
        caller: Caller,
        request: &Request,
        /// The reply.
        id: Path<Uuid>,
        /// The `id` of the last event that was received.
        #[oai(name = "Last-Event-ID")]
        _last_event_id: Header<Option<String>>,
    ) -> Result<ReplyStream, Problem> {
        let reply_id = ReplyId(id.0);
        let reply = Followed::find(&app, caller.user, reply_id).await?;
        let last = header::only(request, LAST_EVENT_ID).map_err(|_| Code::UnknownEventId)?;
        let from = match last {
            None => Place::At(0),
            Some(last) => Place::parse(last, reply_id).ok_or(Code::UnknownEventId)?,
        };
        if matches!(from, Place::At(bytes) if !reply.reaches(bytes)) {
            return Err(Code::UnknownEventId.into());
        }
        Ok(ReplyStream { reply, from })
    }

    /// Stop a reply
    ///
    /// What there is of it is stored. Leaving a stream stops nothing; this does.
    #[oai(path = "/replies/:id/cancel", method = "post")]
    async fn cancel(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The reply.
        id: Path<Uuid>,
    ) -> Result<Json<Cancelled>, Problem> {
        let (user, reply_id) = (caller.user, ReplyId(id.0));
        let (content, outcome) = match app.replies.find(reply_id).filter(|r| r.user == user) {
            Some(running) => {
                running.cancel();
                Followed::here(running).whole().await
            }
            None => cancel_elsewhere(&app, user, reply_id).await?,
        };
        match outcome {
            Outcome::Cancelled => {}
            Outcome::Failed { code, message } if code == NOT_STORED => {
                return Err(Problem::new(code, message));
            }
            _ => return Err(Code::ReplyFinished.into()),
        }
        Ok(Json(Cancelled {
            reply_id: reply_id.0,
            status: "cancelled".to_owned(),
            content,
        }))
    }
}

/// Stops a reply that another process makes, or has begun and left.
async fn cancel_elsewhere(
    app: &App,
    user: UserId,
    reply_id: ReplyId,
) -> Result<(String, Outcome), Problem> {
    let pool = &app.core.pool;
    let row = following::row(app, user, reply_id).await?;
    if row.reply_status != "running" {
        return Err(Code::ReplyFinished.into());
    }
    if let Some(lease) = row.lease
        && progress::is_alive(pool, lease).await?
    {
        cancellation::ask(pool, Asked::Reply(reply_id)).await?;
        let begun = tokio::time::Instant::now();
        while begun.elapsed() < STOPPED_WITHIN {
            let row = messages::reply(pool, user, reply_id)
                .await?
                .ok_or_else(|| Problem::not_found("reply"))?;
            if let Some(outcome) = following::outcome(&row) {
                return Ok((row.content, outcome));
            }
            tokio::time::sleep(STEP).await;
        }
    }
    end_as_cancelled(app, user, ConversationId(row.conversation_id), reply_id).await
}

/// Ends a reply in the log that nobody answers for, with as much of its text as was shared.
async fn end_as_cancelled(
    app: &App,
    user: UserId,
    conversation: ConversationId,
    reply_id: ReplyId,
) -> Result<(String, Outcome), Problem> {
    let core = &app.core;
    let partial = app.texts.read(reply_id, 0).await;
    let stream = StreamId::conversation(conversation);
    loop {
        let state = core.buffer.current(&core.store, conversation).await?;
        let event = state
            .cancel_reply(reply_id, partial.clone())
            .map_err(|_| Code::ReplyFinished)?;
        let expected = Expected::Version(state.version);
        let events = vec![(event, Metadata::default())];
        let append = core.store.append(&stream, user, expected, events, None);
        match append.await {
            Ok(_) => return Ok((partial, Outcome::Cancelled)),
            // Something else was appended, or the buffer is ahead of a database that was set back.
            Err(AppendError::Conflict { .. }) => core.buffer.forget(conversation).await,
            Err(error) => return Err(error.into()),
        }
    }
}
