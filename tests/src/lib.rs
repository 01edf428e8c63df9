//! The test harness: real servers on port 0, readers for what they answer, and waiting without sleeping.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test says what went wrong by panicking, and a bench by printing"
)]
#![allow(
    clippy::disallowed_methods,
    reason = "no test goes on where it was cut off"
)]

pub mod app;
pub mod database;
pub mod eventually;
pub mod http;
pub mod llm;
pub mod log;
pub mod otlp;
pub mod process;
pub mod small_model;
pub mod sse;
