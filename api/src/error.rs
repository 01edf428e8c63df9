//! Every error of the API, as `application/problem+json` (RFC 9457): one place to learn them all.

use companion_adapters::llm::LlmFailure;
use companion_adapters::log::event_store::{AppendError, ReadError};
use companion_adapters::lost_replies::EndError;
use companion_adapters::vault::VaultError;
use companion_domain::prompt::TooLong;
use poem::error::{MethodNotAllowedError, NotFoundError, ReadBodyError, ResponseError};
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::{ApiResponse, Object};
use uuid::Uuid;

use crate::body::MAX_BODY;
use crate::code::Code;
use crate::request_id;

/// What went wrong, in a form that a program can act on.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Problem", skip_serializing_if_is_none)]
pub(crate) struct ProblemBody {
    /// Identifies the kind of problem; resolves to nothing.
    #[oai(rename = "type")]
    type_: String,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// A sentence that the caller can act on.
    detail: String,
    /// A stable name of the problem.
    code: String,
    /// The request, as it is named in the logs and traces.
    request_id: String,
    /// What is wrong with which field, for a request that is not valid.
    errors: Option<Vec<FieldError>>,
    /// The reply that keeps the conversation busy, or that failed.
    reply_id: Option<Uuid>,
    /// The conversation of a reply that failed.
    conversation_id: Option<Uuid>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Object)]
pub(crate) struct FieldError {
    /// The field, with dots and indexes for what lies deeper.
    pub(crate) field: String,
    /// What it should be. Never its value.
    pub(crate) message: String,
}

/// An error on its way to the caller.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .code.name())]
pub(crate) struct Problem {
    code: Code,
    /// That of the code, unless the framework has another.
    status: StatusCode,
    detail: String,
    errors: Option<Vec<FieldError>>,
    reply_id: Option<Uuid>,
    conversation_id: Option<Uuid>,
    headers: Vec<(header::HeaderName, String)>,
}

impl From<Code> for Problem {
    fn from(code: Code) -> Self {
        Self::new(code, code.meaning())
    }
}

impl Problem {
    /// A problem with a sentence of its own.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let problem = Self {
            code,
            status: code.status(),
            detail: detail.into(),
            errors: None,
            reply_id: None,
            conversation_id: None,
            headers: Vec::new(),
        };
        match code {
            Code::Unauthorized => problem.header(header::WWW_AUTHENTICATE, "Bearer"),
            Code::DatabaseUnavailable
            | Code::ProjectionBehind
            | Code::ServiceStopping
            | Code::TooBusy
            | Code::TooManyReplies => problem.header(header::RETRY_AFTER, "2"),
            _ => problem,
        }
    }

    /// 400: the request is malformed as a whole.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(Code::MalformedRequest, detail)
    }

    /// 401: no credential, or none that is accepted.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(Code::Unauthorized, detail)
    }

    pub(crate) fn is_unauthorized(&self) -> bool {
        self.code == Code::Unauthorized
    }

    /// 404: there is no such thing, or it is another user's, which looks the same.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("There is no {what} with this id."))
    }

    /// 422: fields have values that they can't have.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("Correct what is said about: {}.", fields.join(", "));
        Self {
            errors: Some(errors),
            ..Self::new(Code::ValidationFailed, detail)
        }
    }

    /// 422 for one field.
    pub(crate) fn invalid_field(field: &str, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError {
            field: field.to_owned(),
            message: message.into(),
        }])
    }

    /// 409: a reply is still running.
    pub(crate) fn busy(reply_id: Uuid) -> Self {
        Self {
            reply_id: Some(reply_id),
            ..Code::ConversationBusy.into()
        }
    }

    /// The reply failed, told as a status: for callers who did not ask for a stream.
    pub(crate) fn reply_failed(
        code: Code,
        detail: &str,
        conversation_id: Uuid,
        reply_id: Uuid,
    ) -> Self {
        Self {
            conversation_id: Some(conversation_id),
            reply_id: Some(reply_id),
            ..Self::new(code, detail)
        }
    }

    /// 413: the body is larger than the operation takes.
    pub(crate) fn body_too_large(limit: usize) -> Self {
        let detail = format!("The body is larger than {} MiB.", limit >> 20);
        Self::new(Code::BodyTooLarge, detail)
    }

    /// 502 or 504: the LLM gave no answer, outside a reply.
    pub(crate) fn llm_failed(failure: LlmFailure, conversation_id: Uuid) -> Self {
        Self {
            conversation_id: Some(conversation_id),
            ..Self::new(failure.0.into(), failure.message())
        }
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn headers(self, headers: &header::HeaderMap) -> Self {
        headers.iter().fold(self, |problem, (name, value)| {
            problem.header(name.clone(), value.to_str().unwrap_or_default())
        })
    }

    /// What an error of the framework is to the caller.
    pub(crate) fn of(error: &poem::Error) -> Self {
        if let Some(problem) = error.downcast_ref::<Self>() {
            return problem.clone();
        }
        if error.is::<NotFoundError>() {
            let detail = "There is nothing at this path. GET /docs shows what there is.";
            return Self::new(Code::NotFound, detail);
        }
        if error.is::<MethodNotAllowedError>() {
            return Code::MethodNotAllowed.into();
        }
        if error.is::<ParsePathError>() {
            return Self::not_found("resource");
        }
        if let Some(error) = error.downcast_ref::<ParseParamError>() {
            return Self::invalid_field(
                error.name,
                "has a value that it can't have; GET /docs says what it takes",
            );
        }
        if error.is::<ContentTypeError>() {
            return Code::UnsupportedMediaType.into();
        }
        if let Some(error) = error.downcast_ref::<ReadBodyError>() {
            return match error {
                ReadBodyError::PayloadTooLarge => Self::body_too_large(MAX_BODY),
                _ => Self::malformed("The body ended before it was whole."),
            };
        }
        match error.status() {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!("a request failed: {error}");
                Code::InternalError.into()
            }
            StatusCode::BAD_REQUEST => {
                Self::malformed("The request is malformed. GET /docs shows what it takes.")
            }
            status => Self {
                status,
                ..Code::Refused.into()
            },
        }
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.status
    }

    fn as_response(&self) -> Response {
        self.clone().into_response()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = ProblemBody {
            type_: self.code.uri(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.name().to_owned(),
            request_id: request_id::current(),
            errors: self.errors,
            reply_id: self.reply_id,
            conversation_id: self.conversation_id,
        };
        let mut response = Json(body).into_response();
        response.set_status(self.status);
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, PROBLEM_JSON);
        for (name, value) in self.headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

const PROBLEM_JSON: header::HeaderValue =
    header::HeaderValue::from_static("application/problem+json");

/// Says only that there are problems: which ones an operation has is said when the document is
/// completed.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        let response = MetaResponse {
            description: "A problem.",
            status: Some(StatusCode::INTERNAL_SERVER_ERROR.as_u16()),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "application/problem+json",
                schema: Json::<ProblemBody>::schema_ref(),
            }],
            headers: Vec::new(),
        };
        MetaResponses {
            responses: vec![response],
        }
    }

    fn register(registry: &mut Registry) {
        <Json<ProblemBody> as Payload>::register(registry);
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!("the database failed: {error}");
        Code::DatabaseUnavailable.into()
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) | ReadError::Vault(VaultError::Database(error)) => {
                error.into()
            }
            other => {
                tracing::error!("the log can't be read: {other}");
                Code::InternalError.into()
            }
        }
    }
}

impl From<EndError> for Problem {
    fn from(error: EndError) -> Self {
        match error {
            EndError::Read(error) => error.into(),
            EndError::Append(error) => error.into(),
        }
    }
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Database(error) | AppendError::Vault(VaultError::Database(error)) => {
                error.into()
            }
            AppendError::NoUser => Self::unauthorized("This user does not exist any more."),
            AppendError::Conflict { .. } => Code::Conflict.into(),
            AppendError::KeyReused => Self::invalid_field(
                "Idempotency-Key",
                "was used for another request; choose a new key",
            ),
            AppendError::Vault(error) => {
                tracing::error!("an event could not be sealed: {error}");
                Code::InternalError.into()
            }
            AppendError::Payload(error) => {
                tracing::error!("an event could not be written: {error}");
                Code::InternalError.into()
            }
        }
    }
}

impl From<TooLong> for Problem {
    fn from(error: TooLong) -> Self {
        let detail = format!(
            "Message and system prompt need about {} tokens, but {} are left for the prompt. Shorten them, or raise \
             LLM_CONTEXT_TOKENS.",
            error.needed, error.budget
        );
        Self::new(Code::PromptTooLong, detail)
    }
}
