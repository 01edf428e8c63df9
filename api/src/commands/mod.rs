//! What changes something: each file ends in an append to the log.

pub(crate) mod chat;
pub(crate) mod credentials;
pub(crate) mod replies;
pub(crate) mod reply;
pub(crate) mod sse;
pub(crate) mod users;
