//! The stable names of everything that can go wrong, with their statuses: what a program acts on.

use companion_domain::events::FailureReason;
use poem::http::StatusCode;

/// Declares the codes: name, status, and what it means to the caller.
macro_rules! codes {
    ($($code:ident = $name:literal, $status:ident, $meaning:literal;)+) => {
        /// What went wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Code {
            $($code),+
        }

        impl Code {
            /// All codes.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$code),+];

            /// The name, as callers see it.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$code => $name),+
                }
            }

            /// The status that goes with it.
            pub(crate) fn status(self) -> StatusCode {
                match self {
                    $(Self::$code => StatusCode::$status),+
                }
            }

            /// What it means, and what to do.
            pub(crate) fn meaning(self) -> &'static str {
                match self {
                    $(Self::$code => $meaning),+
                }
            }
        }
    };
}

codes! {
    MalformedRequest = "malformed_request", BAD_REQUEST,
        "The request is malformed as a whole: no body, no JSON, no UTF-8.";
    UnknownEventId = "unknown_event_id", BAD_REQUEST,
        "Last-Event-ID names no event of this reply. Leave it out to follow from the beginning.";
    Unauthorized = "unauthorized", UNAUTHORIZED,
        "No credential was sent, or none that is accepted.";
    AdminOnly = "admin_only", FORBIDDEN,
        "Only a token with the scope admin may do this.";
    TokensIssuedElsewhere = "tokens_issued_elsewhere", FORBIDDEN,
        "Tokens come from the identity provider; this service only checks them.";
    NotFound = "not_found", NOT_FOUND,
        "There is no such thing, or it is another user's.";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED,
        "This path does not take this method. The Allow header lists those that it takes.";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT,
        "The body did not arrive in time.";
    Conflict = "conflict", CONFLICT,
        "Too many requests change this at once. Send the request again.";
    ConversationBusy = "conversation_busy", CONFLICT,
        "A reply in this conversation is still running. Wait until it is done, then send the message again.";
    NothingToSummarise = "nothing_to_summarise", CONFLICT,
        "Nothing was said in this conversation since it began or was reset.";
    ReplyFinished = "reply_finished", CONFLICT,
        "The reply has ended already.";
    StaleVersion = "stale_version", PRECONDITION_FAILED,
        "It has changed since. Get it again and send the ETag of that answer in If-Match.";
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE,
        "The body is larger than this operation takes.";
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE,
        "Send JSON with the header Content-Type: application/json.";
    ValidationFailed = "validation_failed", UNPROCESSABLE_ENTITY,
        "A field, parameter or header has a value that it can't have; `errors` says which.";
    PromptTooLong = "prompt_too_long", UNPROCESSABLE_ENTITY,
        "Message and system prompt are longer than the LLM's context. Shorten them.";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS,
        "Too many requests of this user. Retry-After says when to try again.";
    TooManyReplies = "too_many_replies", TOO_MANY_REQUESTS,
        "Too many replies to you are running. Wait until one is done, then send the message again.";
    TooManyFailedAuthentications = "too_many_failed_authentications", TOO_MANY_REQUESTS,
        "Too many requests from this address had no valid credential. Try again later, with a valid one.";
    InternalError = "internal_error", INTERNAL_SERVER_ERROR,
        "The service made a mistake. Report it with the request_id.";
    LlmUnavailable = "llm_unavailable", BAD_GATEWAY,
        "The LLM can't be reached. The message is kept; send it again when the LLM is back.";
    LlmError = "llm_error", BAD_GATEWAY,
        "The LLM answered with an error.";
    LlmInterrupted = "llm_interrupted", BAD_GATEWAY,
        "The LLM's answer was cut off.";
    LlmInvalid = "llm_invalid", BAD_GATEWAY,
        "The LLM's answer was empty or could not be understood.";
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE,
        "The database does not answer. Nothing was lost; try again in a moment.";
    EmbeddingUnavailable = "embedding_unavailable", SERVICE_UNAVAILABLE,
        "The embedding model has stopped. Restart the service.";
    ProjectionBehind = "projection_behind", SERVICE_UNAVAILABLE,
        "Earlier changes are still being taken in. Send the request again in a moment.";
    ServiceStopping = "service_stopping", SERVICE_UNAVAILABLE,
        "The service is stopping. Send the message again in a moment.";
    TooBusy = "too_busy", SERVICE_UNAVAILABLE,
        "The service does as much at once as it can. Send the request again in a moment.";
    LlmTimeout = "llm_timeout", GATEWAY_TIMEOUT,
        "The LLM was silent for too long.";
    Refused = "refused", BAD_REQUEST,
        "The request is refused. GET /docs shows what the service takes.";
}

impl Code {
    /// Identifies the kind of problem; resolves to nothing.
    pub(crate) fn uri(self) -> String {
        format!("urn:companion:problem:{}", self.name())
    }
}

impl From<FailureReason> for Code {
    fn from(reason: FailureReason) -> Self {
        match reason {
            FailureReason::LlmUnavailable => Self::LlmUnavailable,
            FailureReason::LlmTimeout => Self::LlmTimeout,
            FailureReason::LlmError => Self::LlmError,
            FailureReason::LlmInterrupted => Self::LlmInterrupted,
            FailureReason::LlmInvalid => Self::LlmInvalid,
            FailureReason::ServiceStopping => Self::ServiceStopping,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_reply_has_the_same_name_in_the_log_and_in_the_api() {
        for reason in FailureReason::ALL {
            assert_eq!(Code::from(reason).name(), reason.code());
        }
    }
}
