//! Which web pages may call: the answers to browsers that ask on their behalf (Fetch Standard, CORS
//! protocol). Other callers are not concerned.

use poem::Request;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, header};

const ANY: &str = "*";
/// How long a browser may keep the answer to what it asked before a call, seconds.
const MAX_AGE: &str = "600";
const METHODS: &str = "GET, POST, PATCH, DELETE, OPTIONS";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Accept, X-API-Key, X-User-Id, X-Request-Id, Idempotency-Key, \
                               Last-Event-ID, If-Match, traceparent, tracestate";
const ANSWER_HEADERS: &str = "X-Request-Id, X-Conversation-Id, X-Reply-Id, X-Projection-Lag, ETag, Retry-After, \
                              RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, WWW-Authenticate, Allow";

/// Whether a browser asks if it may call, before it does.
pub(crate) fn asks(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The origins that may call.
#[derive(Debug, Clone)]
pub(crate) struct Cors(Vec<String>);

impl Cors {
    /// Allows these origins; `*` is all.
    pub(crate) fn new(origins: &[String]) -> Self {
        Self(origins.to_vec())
    }

    /// Lets the page that called read the answer, or call at all when it only `asks`, if its origin may.
    pub(crate) fn open(&self, asks: bool, request: &HeaderMap, response: &mut HeaderMap) {
        if !self.allow(request, response) {
            return;
        }
        let told: &[(HeaderName, &str)] = if asks {
            &[
                (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
            ]
        } else {
            &[(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS)]
        };
        for (name, value) in told {
            if let Ok(value) = HeaderValue::from_str(value) {
                response.insert(name, value);
            }
        }
    }

    fn allow(&self, request: &HeaderMap, response: &mut HeaderMap) -> bool {
        // Caches must not show one page's answer to another.
        response.append(header::VARY, HeaderValue::from_name(header::ORIGIN));
        let Some(origin) = request.get(header::ORIGIN) else {
            return false;
        };
        if self.0.iter().any(|allowed| allowed == ANY) {
            set(
                response,
                header::ACCESS_CONTROL_ALLOW_ORIGIN,
                HeaderValue::from_static(ANY),
            );
            return true;
        }
        let named = origin.to_str().unwrap_or_default();
        if !self.0.iter().any(|allowed| allowed == named) {
            return false;
        }
        set(
            response,
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            origin.clone(),
        );
        // A proxy in front may ask for a password, which browsers send only then.
        set(
            response,
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        true
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: HeaderValue) {
    headers.insert(name, value);
}
