//! What changes something: each ends in an append to the log.

use poem_openapi::ApiResponse;

pub(crate) mod chat;
pub(crate) mod conversations;
pub(crate) mod forgetting;
pub(crate) mod import;
pub(crate) mod memories;
pub(crate) mod reply;
pub(crate) mod sse;
pub(crate) mod summary;

/// The answer to a command that leaves nothing to show.
#[derive(ApiResponse)]
pub(crate) enum Done {
    /// Done.
    #[oai(status = 204)]
    Done,
}
