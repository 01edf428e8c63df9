//! Memories by hand: written down, corrected, forgotten, cleared.
//!
//! Each is decided on the memories as they are projected and appended at that version of the user's
//! memory stream; when the stream has moved on, it is decided again.

use chrono::{DateTime, Utc};
use companion_adapters::core::Core;
use companion_adapters::log::event_store::{AppendError, Expected};
use companion_adapters::memories::{self, Memory};
use companion_adapters::messages;
use companion_domain::by_hand::{self, Correction, WrittenDown};
use companion_domain::conversation::Conversation;
use companion_domain::events::{Event, MemoryForgotten, Metadata};
use companion_domain::ids::{ConversationId, MemoryId, MessageId, StreamId, UserId};
use companion_domain::memory::{MemoryKind, Source};
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Header, Path};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Faults, JsonBody};
use crate::code::Code;
use crate::commands::{Done, forgetting};
use crate::error::Problem;
use crate::if_match::IfMatch;
use crate::queries::memory_view::{Kind, MemoryView, OneMemory, view};
use crate::{owned, page};

/// How often it is decided anew while the memory stream moves.
const TRIES: usize = 10;

/// A memory to write down.
#[derive(Debug, Object)]
pub(crate) struct NewMemory {
    /// The statement, 1 to 2,000 characters, not blank.
    #[oai(validator(min_length = 1, max_length = 2000))]
    content: String,
    kind: Kind,
    /// 0 to 1; 0.5 unless said.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    importance: Option<f64>,
    /// When it happened. Its importance decays from then on.
    occurred_at: Option<DateTime<Utc>>,
    /// The messages that say so, at most 50, of your own conversations.
    #[oai(validator(max_items = 50))]
    sources: Option<Vec<NewSource>>,
}

/// A message that a memory rests on.
#[derive(Debug, Object)]
pub(crate) struct NewSource {
    conversation_id: Uuid,
    message_id: Uuid,
}

/// A correction: at least one field.
#[derive(Debug, Object)]
pub(crate) struct MemoryChange {
    /// The new statement, 1 to 2,000 characters, not blank.
    #[oai(validator(min_length = 1, max_length = 2000))]
    content: Option<String>,
    kind: Option<Kind>,
    /// 0 to 1.
    #[oai(validator(minimum(value = "0"), maximum(value = "1")))]
    importance: Option<f64>,
}

/// The conversation whose memories are to be forgotten.
#[derive(Debug, Object)]
pub(crate) struct ClearRequest {
    conversation_id: Uuid,
}

/// What came from the conversation is forgotten.
#[derive(Debug, Object)]
pub(crate) struct ClearAnswer {
    success: bool,
    message: String,
    conversation_id: Uuid,
    /// The live memories that were forgotten now.
    memories_cleared: usize,
}

/// The answer to a memory that is written down.
#[derive(ApiResponse)]
pub(crate) enum RememberResponse {
    /// It was known already, and is reinforced.
    #[oai(status = 200)]
    Known(
        Json<MemoryView>,
        /// The version of the memory.
        #[oai(header = "ETag")]
        String,
    ),
    /// It is new.
    #[oai(status = 201)]
    New(
        Json<MemoryView>,
        /// The version of the memory.
        #[oai(header = "ETag")]
        String,
    ),
}

pub(crate) struct MemoryCommands;

#[OpenApi]
impl MemoryCommands {
    /// Write a memory down
    ///
    /// When a live memory says the same, that one is reinforced and answered with 200.
    #[oai(path = "/memories", method = "post")]
    async fn remember(
        &self,
        app: Data<&App>,
        caller: Caller,
        body: JsonBody<NewMemory>,
    ) -> Result<RememberResponse, Problem> {
        let core = &app.core;
        check(Some(&body.0.content))?;
        let user = caller.ensure_user(&core.store).await?;
        let written = written_down(core, user, body.0).await?;
        let (event, version) = append(core, user, Command::Remember(written)).await?;
        let memory = after(core, user, &event, version).await?;
        let is_new = matches!(event, Event::MemoryRecorded(_));
        let view = view(core, user, memory).await?;
        let tag = view.tag();
        Ok(if is_new {
            RememberResponse::New(Json(view), tag)
        } else {
            RememberResponse::Known(Json(view), tag)
        })
    }

    /// Correct a memory
    ///
    /// Changes what is given; a faded memory is live again. With `If-Match`, only the version that
    /// you have seen.
    #[oai(path = "/memories/:id", method = "patch")]
    async fn revise(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The memory.
        id: Path<Uuid>,
        /// The `ETag` of the version to change.
        #[oai(name = "If-Match")]
        _if_match: Header<Option<String>>,
        request: &Request,
        body: JsonBody<MemoryChange>,
    ) -> Result<OneMemory, Problem> {
        let (core, change_to) = (&app.core, body.0);
        let if_match = IfMatch::of(request)?;
        check(change_to.content.as_deref())?;
        if change_to.content.is_none() && change_to.kind.is_none() && change_to.importance.is_none()
        {
            let message = "must have at least one of content, kind and importance";
            return Err(Problem::invalid_field("body", message));
        }
        let (user, id) = (caller.user, MemoryId(id.0));
        let corrected = by_hand::correct(Correction {
            memory_id: id,
            content: change_to.content,
            kind: change_to.kind.map(MemoryKind::from),
            importance: change_to.importance,
            now: Utc::now(),
        });
        let command = Command::Change(id, if_match, corrected);
        let (event, version) = append(core, user, command).await?;
        let memory = after(core, user, &event, version).await?;
        Ok(OneMemory::new(view(core, user, memory).await?, None))
    }

    /// Forget a memory
    ///
    /// It is gone from every list, search and past state. With `If-Match`, only the version that you
    /// have seen.
    #[oai(path = "/memories/:id", method = "delete")]
    async fn forget(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// The memory.
        id: Path<Uuid>,
        /// The `ETag` of the version to forget.
        #[oai(name = "If-Match")]
        _if_match: Header<Option<String>>,
        request: &Request,
    ) -> Result<Done, Problem> {
        let core = &app.core;
        let if_match = IfMatch::of(request)?;
        let (user, id) = (caller.user, MemoryId(id.0));
        let forgotten = MemoryForgotten { memory_id: id };
        append(core, user, Command::Change(id, if_match, forgotten.into())).await?;
        Ok(Done::Done)
    }

    /// Clear the memories of a conversation
    ///
    /// Forgets the short- and long-term memory that came from it. A memory that other conversations
    /// support too loses this support and stays. The messages stay in the history, but are not
    /// searched or recalled any more.
    #[oai(path = "/memory/clear", method = "post")]
    async fn clear(
        &self,
        app: Data<&App>,
        caller: Caller,
        body: JsonBody<ClearRequest>,
    ) -> Result<Json<ClearAnswer>, Problem> {
        let user = caller.user;
        let conversation = ConversationId(body.0.conversation_id);
        let reset = Conversation::reset_by;
        let memories_cleared =
            forgetting::forget_conversation(&app.core, user, conversation, reset).await?;
        Ok(Json(ClearAnswer {
            success: true,
            message: "Memories cleared successfully".to_owned(),
            conversation_id: conversation.0,
            memories_cleared,
        }))
    }
}

fn check(content: Option<&str>) -> Result<(), Problem> {
    let mut faults = Faults::default();
    if let Some(content) = content {
        faults.text("content", content);
    }
    faults.none()
}

/// The memory with the times of its sources, which have to be the user's.
async fn written_down(core: &Core, user: UserId, new: NewMemory) -> Result<WrittenDown, Problem> {
    let wanted: Vec<Source> = new
        .sources
        .into_iter()
        .flatten()
        .map(|source| Source {
            conversation_id: ConversationId(source.conversation_id),
            message_id: MessageId(source.message_id),
        })
        .collect();
    let mut sources = Vec::with_capacity(wanted.len());
    if !wanted.is_empty() {
        let lag = page::wait_for_own_writes(core, user).await?;
        let ids: Vec<MessageId> = wanted.iter().map(|source| source.message_id).collect();
        let said = messages::said_at(&core.pool, user, &ids).await?;
        for source in wanted {
            let said_at = said.iter().find_map(|(conversation, message, at)| {
                let is_it =
                    (*conversation, *message) == (source.conversation_id, source.message_id);
                is_it.then_some(*at)
            });
            let at = said_at.ok_or_else(|| owned::not_found("source message", lag.as_deref()))?;
            sources.push((source, at));
        }
    }
    Ok(WrittenDown {
        memory_id: MemoryId(Uuid::now_v7()),
        content: new.content,
        kind: new.kind.into(),
        importance: new.importance,
        occurred_at: new.occurred_at,
        sources,
        now: Utc::now(),
    })
}

/// What the user wants of the memories.
enum Command {
    /// Write one down.
    Remember(WrittenDown),
    /// Let this happen to one, if it is at a version that the user agrees to.
    Change(MemoryId, IfMatch, Event),
}

impl Command {
    /// Decides on the memories as they are projected.
    async fn decide(&self, core: &Core, user: UserId) -> Result<Event, Problem> {
        match self {
            Self::Remember(written) => {
                let mut connection = core.pool.acquire().await?;
                let decay = &core.config.decay;
                let same = memories::same(&mut connection, user, decay, &written.content).await?;
                let known = same.as_ref().map(|m| (MemoryId(m.memory_id), &**m.sources));
                Ok(by_hand::remember(written.clone(), known))
            }
            Self::Change(id, if_match, event) => {
                let memory = owned::memory(core, user, *id, None).await?;
                if_match.check(memory.version)?;
                Ok(event.clone())
            }
        }
    }
}

/// Appends what is decided; returns it with the version of the memory stream that it made.
async fn append(core: &Core, user: UserId, command: Command) -> Result<(Event, i64), Problem> {
    let stream = StreamId::memory(user);
    let mut actual = 0;
    for _ in 0..TRIES {
        if !page::catch_up(core, user).await? {
            return Err(Code::ProjectionBehind.into());
        }
        // The version before the memories: should they be newer, the append finds a conflict.
        let version = memories::stream_version(&core.pool, user).await?;
        let event = command.decide(core, user).await?;
        let events = vec![(event.clone(), Metadata::default())];
        match core
            .store
            .append(&stream, user, Expected::Version(version), events, None)
            .await
        {
            Ok(appended) => return Ok((event, appended.version)),
            Err(AppendError::Conflict { actual: at }) => actual = at,
            Err(error) => return Err(error.into()),
        }
    }
    Err(AppendError::Conflict { actual }.into())
}

/// The memory that an event touched, as it is after it.
async fn after(core: &Core, user: UserId, event: &Event, version: i64) -> Result<Memory, Problem> {
    let id = match event {
        Event::MemoryRecorded(event) => event.memory_id,
        Event::MemoryReinforced(event) => event.memory_id,
        Event::MemoryRevised(event) => event.memory_id,
        _ => return Err(Problem::not_found("memory")),
    };
    page::catch_up(core, user).await?;
    if memories::stream_version(&core.pool, user).await? < version {
        return Err(Code::ProjectionBehind.into());
    }
    owned::memory(core, user, id, None).await
}
