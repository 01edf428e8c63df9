//! The way of every request: its id, its trace, its route, and its errors in one form.

use std::collections::BTreeMap;
use std::sync::Arc;

use companion_adapters::telemetry;
use poem::endpoint::make_sync;
use poem::error::{MethodNotAllowedError, NotFoundError};
use poem::http::{Method, StatusCode, header};
use poem::web::Html;
use poem::{Endpoint, EndpointExt, IntoResponse, Request, Response, Route, get};
use poem_openapi::OpenApiService;
use tracing::Instrument;
use uuid::Uuid;

use crate::app::App;
use crate::commands::chat::ChatApi;
use crate::commands::conversations::ConversationCommands;
use crate::commands::import::ImportCommands;
use crate::commands::memories::MemoryCommands;
use crate::commands::summary::SummaryCommands;
use crate::error::Problem;
use crate::merged::Merged;
use crate::queries::conversations::ConversationsApi;
use crate::queries::health::HealthApi;
use crate::queries::memories::MemoriesApi;
use crate::request_id;

const X_REQUEST_ID: &str = "x-request-id";

/// All routes of the service.
pub(crate) fn routes(app: App) -> impl Endpoint<Output = Response> {
    let apis = Merged((
        ChatApi,
        ConversationsApi,
        ConversationCommands,
        ImportCommands,
        SummaryCommands,
        MemoriesApi,
        MemoryCommands,
        HealthApi,
    ));
    let service = OpenApiService::new(apis, "AI companion", env!("CARGO_PKG_VERSION")).description(
        "An AI companion that remembers. Every resource belongs to the user of the credential.",
    );
    let spec = service.spec();
    let allowed = Arc::new(allowed_methods(&spec));
    let swagger = service.swagger_ui();
    // The page links a font from elsewhere; it is to work without.
    let redoc: String = service
        .redoc_html()
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
        .nest("/docs", swagger.around(only_read))
        .at("/redoc", get(make_sync(move |_| Html(redoc.clone()))))
        .nest("/", service)
        .data(app)
        .around(move |endpoint, request| answer(endpoint, request, allowed.clone()))
}

/// Refuses to change what can only be read.
async fn only_read<E: Endpoint>(endpoint: Arc<E>, request: Request) -> poem::Result<E::Output> {
    match *request.method() {
        Method::GET | Method::HEAD => endpoint.call(request).await,
        _ => Err(MethodNotAllowedError.into()),
    }
}

/// Answers a request within its id and trace; whatever goes wrong leaves in the one form of errors.
async fn answer<E>(
    endpoint: Arc<E>,
    request: Request,
    allowed: Arc<Allowed>,
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
    let answered = async {
        // An id that is no text is no id of anything.
        let result = match percent_encoding::percent_decode_str(&path).decode_utf8() {
            Ok(_) => endpoint
                .call(request)
                .await
                .map(IntoResponse::into_response),
            Err(_) => Err(NotFoundError.into()),
        };
        let mut response = match result {
            Ok(response) => response,
            Err(error) => {
                let mut problem = Problem::of(&error);
                if error.status() == StatusCode::METHOD_NOT_ALLOWED {
                    problem = problem.header(header::ALLOW, allowed.of(&path));
                }
                problem.into_response()
            }
        };
        if let Ok(id) = request_id::current().parse() {
            response.headers_mut().insert(X_REQUEST_ID, id);
        }
        let status = response.status();
        tracing::Span::current().record("http.response.status_code", status.as_u16());
        tracing::debug!(status = status.as_u16(), "answered");
        response
    };
    Ok(request_id::within(id, answered).instrument(span).await)
}

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
        self.0
            .iter()
            .find(|(template, _)| matches(template))
            .map_or_else(|| Method::GET.to_string(), |(_, methods)| methods.clone())
    }
}
