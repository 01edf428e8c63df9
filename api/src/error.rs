//! Every error of the API, as `application/problem+json` (RFC 9457): one place to learn them all.

use companion_adapters::event_store::{AppendError, ReadError};
use companion_adapters::lost_replies::EndError;
use companion_domain::prompt::TooLong;
use poem::error::{MethodNotAllowedError, NotFoundError, ReadBodyError, ResponseError};
use poem::http::{StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::error::{ContentTypeError, ParseParamError, ParsePathError};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::{ApiResponse, Object};
use uuid::Uuid;

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
#[error("{code}")]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    errors: Option<Vec<FieldError>>,
    reply_id: Option<Uuid>,
    conversation_id: Option<Uuid>,
    headers: Vec<(header::HeaderName, String)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            errors: None,
            reply_id: None,
            conversation_id: None,
            headers: Vec::new(),
        }
    }

    /// 400: the request is malformed as a whole.
    pub(crate) fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed_request", detail)
    }

    /// 401: no credential, or none that is accepted.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
            .header(header::WWW_AUTHENTICATE, "Bearer")
    }

    pub(crate) fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// 403: the credential is good, and does not reach so far.
    pub(crate) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing, or it is another user's, which looks the same.
    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("There is no {what} with this id."),
        )
    }

    /// 422: fields have values that they can't have.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let fields: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        let detail = format!("Correct what is said about: {}.", fields.join(", "));
        Self {
            errors: Some(errors),
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "validation_failed",
                detail,
            )
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
        let detail = "A reply in this conversation is still running. Wait until it is done, then send the message again.";
        Self {
            reply_id: Some(reply_id),
            ..Self::new(StatusCode::CONFLICT, "conversation_busy", detail)
        }
    }

    /// The reply failed, told as a status: for callers who did not ask for a stream.
    pub(crate) fn reply_failed(
        code: &'static str,
        detail: &str,
        conversation_id: Uuid,
        reply_id: Uuid,
    ) -> Self {
        let status = match code {
            "llm_timeout" => StatusCode::GATEWAY_TIMEOUT,
            "service_stopping" | "database_unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_GATEWAY,
        };
        Self {
            conversation_id: Some(conversation_id),
            reply_id: Some(reply_id),
            ..Self::new(status, code, detail)
        }
    }

    /// 503: the database can't be used now.
    pub(crate) fn database() -> Self {
        let detail = "The database does not answer. Nothing was lost; try again in a moment.";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            detail,
        )
        .header(header::RETRY_AFTER, "2")
    }

    /// 503: what is asked for may be there, but can't be read yet.
    pub(crate) fn behind() -> Self {
        let detail = "The background work is behind, so that what was written last can't be read yet. Try again in a moment.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "behind", detail)
            .header(header::RETRY_AFTER, "2")
    }

    /// 500: a fault of the service. The log has the rest.
    fn internal() -> Self {
        let detail = "The service made a mistake. Report it with the request_id.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail)
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// What an error of the framework is to the caller.
    pub(crate) fn of(error: &poem::Error) -> Self {
        if let Some(problem) = error.downcast_ref::<Self>() {
            return problem.clone();
        }
        if error.is::<NotFoundError>() {
            return Self::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "There is nothing at this path. GET /docs shows what there is.",
            );
        }
        if error.is::<MethodNotAllowedError>() {
            return Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "This path does not take this method. The Allow header lists those that it takes.",
            );
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
            return Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "Send JSON with the header Content-Type: application/json.",
            );
        }
        if let Some(error) = error.downcast_ref::<ReadBodyError>() {
            return match error {
                ReadBodyError::PayloadTooLarge => Self::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "body_too_large",
                    "The body is larger than 1 MiB.",
                ),
                _ => Self::malformed("The body ended before it was whole."),
            };
        }
        match error.status() {
            StatusCode::INTERNAL_SERVER_ERROR => {
                tracing::error!("a request failed: {error}");
                Self::internal()
            }
            StatusCode::BAD_REQUEST => {
                Self::malformed("The request is malformed. GET /docs shows what it takes.")
            }
            status => {
                let detail = "The request is refused. GET /docs shows what the service takes.";
                Self::new(status, "refused", detail)
            }
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
            type_: format!("urn:companion:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.detail,
            code: self.code.to_owned(),
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

/// The statuses that an operation may answer with, for the documentation.
const DOCUMENTED: [(u16, &str); 9] = [
    (400, "The request is malformed: no body, no JSON, no UTF-8."),
    (401, "No credential, or none that is accepted."),
    (404, "There is no such thing, or it is another user's."),
    (409, "Something else is going on, such as a running reply."),
    (413, "The body is too large."),
    (415, "The body is not JSON."),
    (422, "A field has a value that it can't have."),
    (500, "A fault of the service."),
    (503, "The database does not answer, or the service stops."),
];

impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: DOCUMENTED
                .iter()
                .map(|(status, description)| MetaResponse {
                    description,
                    status: Some(*status),
                    status_range: None,
                    content: vec![MetaMediaType {
                        content_type: "application/problem+json",
                        schema: Json::<ProblemBody>::schema_ref(),
                    }],
                    headers: Vec::new(),
                })
                .collect(),
        }
    }

    fn register(registry: &mut Registry) {
        <Json<ProblemBody> as Payload>::register(registry);
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!("the database failed: {error}");
        Self::database()
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error.into(),
            other => {
                tracing::error!("the log can't be read: {other}");
                Self::internal()
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
            AppendError::Database(error) => error.into(),
            AppendError::NoUser => Self::unauthorized("This user does not exist any more."),
            AppendError::Conflict { .. } => Self::new(
                StatusCode::CONFLICT,
                "conflict",
                "Too many requests change this at once. Send the request again.",
            ),
            AppendError::KeyReused => Self::invalid_field(
                "Idempotency-Key",
                "was used for another request; choose a new key",
            ),
            AppendError::Vault(error) => {
                tracing::error!("an event could not be sealed: {error}");
                Self::internal()
            }
            AppendError::Payload(error) => {
                tracing::error!("an event could not be written: {error}");
                Self::internal()
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
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "prompt_too_long", detail)
    }
}
