//! What changes something: each ends in an append to the log.

use poem_openapi::ApiResponse;

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

/// The answer to a command that leaves nothing to show.
#[derive(ApiResponse)]
pub(crate) enum Done {
    /// Done.
    #[oai(status = 204)]
    Done,
}
