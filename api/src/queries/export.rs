//! `GET /export`: everything of the caller, line by line.

use companion_adapters::portable::export::Export;
use futures_util::stream;
use poem::http::{HeaderValue, header};
use poem::web::Data;
use poem::{Body, IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, OpenApi};

use crate::app::App;
use crate::auth::Caller;
use crate::error::Problem;

/// JSON Lines: one JSON value a line.
pub(crate) const NDJSON: &str = "application/x-ndjson";

/// An export on its way to the caller, page by page.
pub(crate) struct ExportStream(Export);

impl Payload for ExportStream {
    const CONTENT_TYPE: &'static str = NDJSON;

    fn schema_ref() -> MetaSchemaRef {
        String::schema_ref()
    }

    fn register(_registry: &mut Registry) {}
}

impl ApiResponse for ExportStream {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "The export, one JSON object a line. The last line is `{\"end\": n}`, with the \
                              number of events: a file without it was cut off.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: Self::CONTENT_TYPE,
                    schema: Self::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(_registry: &mut Registry) {}
}

impl IntoResponse for ExportStream {
    fn into_response(self) -> Response {
        let pages = stream::unfold(Some(self.0), |export| async move {
            let mut export = export?;
            match export.next().await {
                Ok(None) => None,
                Ok(Some(lines)) => Some((Ok(lines), Some(export))),
                Err(error) => {
                    // The connection is cut, and the file has no last line.
                    tracing::error!("an export could not go on: {error}");
                    Some((
                        Err(std::io::Error::other("the export could not go on")),
                        None,
                    ))
                }
            }
        });
        let mut response = Response::builder()
            .content_type(NDJSON)
            .body(Body::from_bytes_stream(pages));
        response.headers_mut().insert(
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"companion-export.jsonl\""),
        );
        response
    }
}

pub(crate) struct ExportApi;

#[OpenApi]
impl ExportApi {
    /// Export everything
    ///
    /// Your conversations with their messages and your memories with their history, as JSON Lines: a
    /// header, one line for each event in the order in which they were recorded, and an end. `POST
    /// /import` and `companion import` take it in again, here or elsewhere. What you asked to forget,
    /// conversations that you deleted, and keys are not in it.
    #[oai(path = "/export", method = "get")]
    async fn export(&self, app: Data<&App>, caller: Caller) -> Result<ExportStream, Problem> {
        let export = Export::begin(&app.core.store, &caller.external).await;
        Ok(ExportStream(export.map_err(|error| {
            tracing::error!("an export could not begin: {error}");
            Problem::from(crate::code::Code::DatabaseUnavailable)
        })?))
    }
}
