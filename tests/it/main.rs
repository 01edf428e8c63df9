//! The service as its users see it: every test speaks HTTP to the real thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what went wrong by panicking"
)]

mod api_keys;
mod cancelling;
mod chat;
mod commands;
mod cors;
mod credentials;
mod event_log;
mod following;
mod idempotency;
mod limits;
mod memory;
mod metrics;
mod ownership;
mod processes;
mod service;
mod steps;
mod tokens;
mod validation;
