//! The service as its users see it: every test speaks HTTP to the real thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what went wrong by panicking"
)]

mod chat;
mod clearing;
mod commands;
mod conversations;
mod documentation;
mod event_log;
mod memory;
mod processes;
mod remembering_by_hand;
mod service;
mod summaries;
mod validation;
