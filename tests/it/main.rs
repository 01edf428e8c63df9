//! The service as its users see it: every test speaks HTTP to the real thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what went wrong by panicking"
)]

mod chat;
mod commands;
mod event_log;
mod memory;
mod processes;
mod service;
mod validation;
