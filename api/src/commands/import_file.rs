//! `POST /import`: takes in an export, or the conversations of another system.

use std::io::Cursor;
use std::sync::Arc;

use chrono::Utc;
use companion_adapters::portable::import::{Done, Import, ImportError};
use companion_adapters::portable::source::{self, Open, Options, SourceError};
use poem::web::Data;
use poem::{Request, RequestBody};
use poem_openapi::error::ContentTypeError;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object, OpenApi};
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::auth::Caller;
use crate::body::{Place, received};
use crate::code::Code;
use crate::error::Problem;
use crate::page;
use crate::queries::export::NDJSON;

const JSON: &str = "application/json";
/// The largest file, bytes.
const MAX_FILE: usize = 64 << 20;
/// The most events, or messages of other systems, of a call.
const MAX_ITEMS: u64 = 200_000;

/// A file to be taken in, as it was sent.
pub(crate) struct FileBody {
    held: Arc<Held>,
}

/// The bytes, for as long as anybody reads them: who hangs up meanwhile does not give the place back earlier.
struct Held {
    bytes: Vec<u8>,
    /// Among the few large bodies that are held at once.
    _place: Option<Place>,
}

impl<'a> ApiExtractor<'a> for FileBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn request_meta() -> Option<MetaRequest> {
        let any = MetaSchema {
            description: Some(
                "ChatGPT's `conversations.json`; a list of messages with `role` and `content`; an object with \
                 `messages`; or a list of such lists or objects.",
            ),
            ..MetaSchema::ANY
        };
        Some(MetaRequest {
            description: None,
            content: vec![
                MetaMediaType {
                    content_type: NDJSON,
                    schema: String::schema_ref(),
                },
                MetaMediaType {
                    content_type: JSON,
                    schema: MetaSchemaRef::Inline(Box::new(any)),
                },
            ],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let (bytes, place) = received(request, body, MAX_FILE).await?;
        if bytes.is_empty() {
            let detail = "The body is empty. Send an export, or conversations as JSON.";
            return Err(Problem::malformed(detail).into());
        }
        let media = request.content_type().map(str::to_ascii_lowercase);
        if !media.as_deref().is_some_and(is_taken) {
            return Err(ContentTypeError::ExpectContentType.into());
        }
        Ok(Self {
            held: Arc::new(Held {
                bytes,
                _place: place,
            }),
        })
    }
}

/// Whether a content type is one of the two, in the only encoding that JSON has.
fn is_taken(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let utf8 = |parameter: &str| {
        let charset = parameter.strip_prefix("charset=");
        charset.is_none_or(|charset| charset.trim_matches('"') == "utf-8")
    };
    [JSON, NDJSON].contains(&media) && parts.all(utf8)
}

impl FileBody {
    fn open(&self) -> Open {
        struct Shared(Arc<Held>);
        impl AsRef<[u8]> for Shared {
            fn as_ref(&self) -> &[u8] {
                &self.0.bytes
            }
        }
        let held = self.held.clone();
        Arc::new(move || Ok(Box::new(Cursor::new(Shared(held.clone())))))
    }
}

/// What an import did.
#[derive(Debug, Object)]
pub(crate) struct ImportDone {
    /// Conversations that are new here.
    conversations: u64,
    /// Messages that are new here, of both roles.
    messages: u64,
    /// Memories that are new here.
    memories: u64,
    /// Conversations, messages and memories of the file that were passed over: they are here already,
    /// or you forgot or deleted them here.
    skipped: u64,
}

pub(crate) struct ImportFileCommands;

#[OpenApi]
impl ImportFileCommands {
    /// Import a file
    ///
    /// Takes in an export of this service (`application/x-ndjson`): conversations, messages, memories
    /// and their history with their times. Or conversations of other systems: ChatGPT's
    /// `conversations.json`, a list of messages with `role` and `content`, or a list of such lists
    /// (`application/json`). Which it is, is seen by its content. What is here already is passed over,
    /// so that a call can be repeated. Nothing is taken in of a file that has a fault anywhere. The
    /// body has 64 MiB at most; `companion import` has no limit.
    #[oai(path = "/import", method = "post")]
    async fn import(
        &self,
        app: Data<&App>,
        caller: Caller,
        /// Whether conversations of other systems are to be read for memories; yes unless said. An
        /// export brings its memories along.
        extract: Query<Option<bool>>,
        body: FileBody,
    ) -> Result<Json<ImportDone>, Problem> {
        let core = &app.core;
        let options = Options {
            extract: extract.0.unwrap_or(true),
            partial: false,
            most: MAX_ITEMS,
            now: Utc::now(),
        };
        let open = body.open();
        let contents = source::survey(&open, options).await?;
        let user = caller.ensure_user(&core.store).await?;
        if !page::catch_up(core, user).await? {
            return Err(Code::ProjectionBehind.into());
        }
        let import = Import::begin(&core.store, user, options.now).await?;
        // Who hangs up gets what was taken in until then, and can send the file again.
        let go_on = CancellationToken::new();
        let passed = |_| {};
        let taken = source::take_in(&open, options, &contents, import, &go_on, passed);
        let (done, _) = taken.await?;
        // So much at once takes the projection longer than a query waits.
        page::catch_up(core, user).await?;
        Ok(Json(done.into()))
    }
}

impl From<Done> for ImportDone {
    fn from(done: Done) -> Self {
        Self {
            conversations: done.conversations,
            messages: done.messages,
            memories: done.memories,
            skipped: done.skipped,
        }
    }
}

impl From<ImportError> for Problem {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::Fault(fault) if fault.malformed => {
                Self::malformed(format!("In the body, {fault}."))
            }
            ImportError::Fault(fault) => Self::invalid_field(&fault.place, fault.message),
            ImportError::Busy { reply, .. } => Self::busy(reply.0),
            ImportError::Append(error) => error.into(),
            ImportError::Read(error) => error.into(),
            ImportError::Database(error) => error.into(),
        }
    }
}

impl From<SourceError> for Problem {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Empty => Self::malformed("The body is empty."),
            SourceError::Import(error) => error.into(),
            SourceError::Io(_) | SourceError::Cut => {
                tracing::error!("a file could not be read: {error}");
                Code::InternalError.into()
            }
        }
    }
}
