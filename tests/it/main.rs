//! The service as its users see it: every test speaks HTTP to the real thing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test says what went wrong by panicking"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "no test goes on where it was cut off"
)]

mod api_keys;
mod backups;
mod cancelling;
mod chat;
mod clearing;
mod commands;
mod complaints;
mod conversations;
mod cors;
mod credentials;
mod dead_jobs;
mod documentation;
mod erasing;
mod event_log;
mod explaining;
mod export_commands;
mod fading;
mod following;
mod foreign_files;
mod idempotency;
mod interleaving;
mod limits;
mod lives;
mod log_commands;
mod memory;
mod metrics;
mod ownership;
mod portability;
mod processes;
mod prompting;
mod recalling;
mod reembedding;
mod reextracting;
mod remembering_by_hand;
mod replay_commands;
mod replaying;
mod rolling_summaries;
mod rotating;
mod service;
mod steps;
mod summaries;
mod time_travel;
mod tokens;
mod upkeep;
mod validation;
