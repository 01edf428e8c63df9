//! The event log: appending to it and reading a stream, following all of it from a checkpoint, reading
//! long pieces of it at once, and what operators look at: single events, counts, and whether it is whole.

pub mod checks;
pub mod event_store;
pub mod reader;
pub mod subscription;
pub mod view;
