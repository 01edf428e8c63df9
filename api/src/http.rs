//! The way of every request: its id, its trace, its route, and its errors in one form.

use std::collections::BTreeMap;
use std::sync::Arc;

use companion_adapters::metrics::HttpRequest;
use companion_adapters::telemetry;
use poem::endpoint::{make, make_sync};
use poem::error::NotFoundError;
use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::web::{Html, Redirect};
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response, Route, get};
use subtle::ConstantTimeEq;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::App;
use crate::commands::chat::ChatApi;
use crate::commands::conversations::ConversationCommands;
use crate::commands::credentials::CredentialsApi;
use crate::commands::import::ImportCommands;
use crate::commands::import_file::ImportFileCommands;
use crate::commands::memories::MemoryCommands;
use crate::commands::replies::RepliesApi;
use crate::commands::summary::SummaryCommands;
use crate::commands::users::UsersApi;
use crate::cors::{self, Cors};
use crate::error::Problem;
use crate::merged::Merged;
use crate::queries::conversations::ConversationsApi;
use crate::queries::explanation::ExplanationApi;
use crate::queries::export::ExportApi;
use crate::queries::health::HealthApi;
use crate::queries::memories::MemoriesApi;
use crate::{limits, openapi, request_id};

const X_REQUEST_ID: &str = "x-request-id";

/// All operations. Commands and queries on one path stand together in the documentation.
pub(crate) type Apis = Merged<(
    (
        ChatApi,
        RepliesApi,
        ExplanationApi,
        CredentialsApi,
        UsersApi,
        HealthApi,
    ),
    (
        ConversationsApi,
        ConversationCommands,
        ImportCommands,
        SummaryCommands,
    ),
    (MemoriesApi, MemoryCommands),
    (ExportApi, ImportFileCommands),
)>;

pub(crate) fn apis() -> Apis {
    Merged((
        (
            ChatApi,
            RepliesApi,
            ExplanationApi,
            CredentialsApi,
            UsersApi,
            HealthApi,
        ),
        (
            ConversationsApi,
            ConversationCommands,
            ImportCommands,
            SummaryCommands,
        ),
        (MemoriesApi, MemoryCommands),
        (ExportApi, ImportFileCommands),
    ))
}

/// All routes of the service.
pub(crate) fn routes(app: App) -> impl Endpoint<Output = Response> {
    let service = openapi::bare();
    let bare = service.spec();
    let spec = openapi::complete(&bare);
    let allowed = Arc::new(allowed_methods(&spec));
    let cors = Arc::new(Cors::new(&app.core.config.cors_origins));
    let swagger = service.swagger_ui_html().replace(&bare, &spec);
    // The page links a font from elsewhere; it is to work without.
    let redoc: String = service
        .redoc_html()
        .replace(&bare, &spec)
        .lines()
        .filter(|line| !line.contains("fonts.googleapis.com"))
        .collect::<Vec<_>>()
        .join("\n");
    Route::new()
        .at(
            "/openapi.json",
            get(make_sync(move |_| {
                spec.clone().with_content_type("application/json")
            })),
        )
        .at("/metrics", get(make(metrics)).data(app.clone()))
        .at("/docs", get(make_sync(move |_| Html(swagger.clone()))))
        .at("/docs/", get(make_sync(|_| Redirect::permanent("/docs"))))
        .at("/redoc", get(make_sync(move |_| Html(redoc.clone()))))
        .nest("/", service)
        .data(app.clone())
        .around(move |endpoint, request| {
            answer(
                endpoint,
                request,
                app.clone(),
                allowed.clone(),
                cors.clone(),
            )
        })
}

/// What is measured, for Prometheus.
async fn metrics(request: Request) -> poem::Result<Response> {
    let app: &App = request.data().ok_or(NotFoundError)?;
    let config = &app.core.config;
    if let Some(token) = &config.metrics_token {
        let sent = request.header(header::AUTHORIZATION).unwrap_or_default();
        let expected = format!("Bearer {}", token.expose());
        if !bool::from(sent.as_bytes().ct_eq(expected.as_bytes())) {
            let detail = "Send the METRICS_TOKEN of the service as Authorization: Bearer <token>.";
            return Err(Problem::unauthorized(detail).into());
        }
    }
    let rendered =
        companion_adapters::metrics::render(&app.core.pool, config.short_term_memory_ttl);
    let text = rendered.await.unwrap_or_default();
    Ok(text
        .with_content_type("text/plain; version=0.0.4; charset=utf-8")
        .into_response())
}

/// Answers a request within its id and trace; whatever goes wrong leaves in the one form of errors.
async fn answer<E>(
    endpoint: Arc<E>,
    request: Request,
    app: App,
    allowed: Arc<Allowed>,
    cors: Arc<Cors>,
) -> poem::Result<Response>
where
    E: Endpoint,
    E::Output: IntoResponse,
{
    let id = request
        .header(X_REQUEST_ID)
        .filter(|id| request_id::is_well_formed(id))
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let span = tracing::info_span!(
        "request",
        otel.name = tracing::field::Empty,
        http.request.method = %method,
        http.response.status_code = tracing::field::Empty,
        request.id = %id,
    );
    telemetry::set_parent(&span, request.header("traceparent"));
    let caller_headers = request.headers().clone();
    let asks = cors::asks(&request);
    let answered = async {
        if asks {
            return Response::builder().status(StatusCode::NO_CONTENT).finish();
        }
        // An id that is no text is no id of anything.
        let result = match percent_encoding::percent_decode_str(&path).decode_utf8() {
            Ok(_) => endpoint
                .call(request)
                .await
                .map(IntoResponse::into_response),
            Err(_) => Err(NotFoundError.into()),
        };
        match result {
            Ok(response) => response,
            Err(error) => {
                let mut problem = Problem::of(&error);
                if error.status() == StatusCode::METHOD_NOT_ALLOWED {
                    problem = problem.header(header::ALLOW, allowed.of(&path));
                }
                problem.into_response()
            }
        }
    };
    let finished = async {
        let measured = HttpRequest::begin(method.as_str(), allowed.template(&path));
        let mut response = limits::counted(&app, answered).await;
        measured.answered(response.status().as_u16());
        cors.open(asks, &caller_headers, response.headers_mut());
        secure(&path, response.headers_mut());
        if let Ok(id) = request_id::current().parse() {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        let status = response.status();
        tracing::Span::current().record("http.response.status_code", status.as_u16());
        tracing::debug!(status = status.as_u16(), "answered");
        response
    };
    Ok(request_id::within(id, finished).instrument(span).await)
}

/// Tells browsers to take an answer for nothing but what it is.
fn secure(path: &str, headers: &mut HeaderMap) {
    let policy = match path {
        // These two bring their scripts and styles with them.
        "/docs" | "/redoc" => PAGE_POLICY,
        _ => DATA_POLICY,
    };
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What is one user's must not lie in a cache.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
}

const DATA_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; \
                           img-src 'self' data:; worker-src blob:; frame-ancestors 'none'";

/// The methods that each path takes, read off the OpenAPI document.
struct Allowed(BTreeMap<String, String>);

fn allowed_methods(spec: &str) -> Allowed {
    let document: serde_json::Value = serde_json::from_str(spec).unwrap_or_default();
    let mut allowed = BTreeMap::new();
    for (path, operations) in document["paths"].as_object().into_iter().flatten() {
        let methods: Vec<String> = operations
            .as_object()
            .into_iter()
            .flatten()
            .map(|(method, _)| method.to_uppercase())
            .collect();
        allowed.insert(path.clone(), methods.join(", "));
    }
    Allowed(allowed)
}

impl Allowed {
    /// The methods of a path; a segment in braces stands for any.
    fn of(&self, path: &str) -> String {
        self.find(path)
            .map_or_else(|| Method::GET.to_string(), |(_, methods)| methods.clone())
    }

    /// The template of a path's route.
    fn template(&self, path: &str) -> String {
        match path {
            "/openapi.json" | "/docs" | "/redoc" | "/metrics" => path.to_owned(),
            _ => self
                .find(path)
                .map_or_else(|| "unmatched".to_owned(), |(template, _)| template.clone()),
        }
    }

    fn find(&self, path: &str) -> Option<(&String, &String)> {
        let matches = |template: &str| {
            let (mut a, mut b) = (template.split('/'), path.split('/'));
            loop {
                match (a.next(), b.next()) {
                    (None, None) => return true,
                    (Some(a), Some(b)) if a == b || a.starts_with('{') => {}
                    _ => return false,
                }
            }
        };
        // The one without a hole first: `/memories/search` is no memory.
        let exact = self.0.get_key_value(path);
        exact.or_else(|| self.0.iter().find(|(template, _)| matches(template)))
    }
}
