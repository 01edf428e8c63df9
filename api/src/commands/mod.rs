//! What changes something: each ends in an append to the log.

use poem_openapi::ApiResponse;
use tracing::Instrument;

use crate::code::Code;
use crate::error::Problem;

pub(crate) mod chat;
pub(crate) mod conversations;
pub(crate) mod credentials;
pub(crate) mod forgetting;
pub(crate) mod import;
pub(crate) mod import_file;
pub(crate) mod memories;
pub(crate) mod replies;
pub(crate) mod reply;
pub(crate) mod sending;
pub(crate) mod sse;
pub(crate) mod summary;
pub(crate) mod users;

/// Does all of it, also when the caller hangs up meanwhile.
///
/// # Errors
/// Those of `work`, and when it panics.
pub(crate) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work.in_current_span())
        .await
        .map_err(|_| Code::InternalError)?
}

/// The answer to a command that leaves nothing to show.
#[derive(ApiResponse)]
pub(crate) enum Done {
    /// Done.
    #[oai(status = 204)]
    Done,
}
