//! All shared I/O, one file a thing: configuration, the event log, keys, read models, buffer, job
//! queue, LLM, embedder, tokens, telemetry.

pub mod buffer;
pub mod config;
pub mod core;
pub mod database;
pub mod embedder;
pub mod event_store;
pub mod lexicon;
pub mod llm;
pub mod lost_replies;
pub mod memories;
pub mod messages;
pub mod parts;
pub mod progress;
pub mod queue;
pub mod recall;
pub mod shutdown;
pub mod subscription;
pub mod telemetry;
pub mod tokens;
pub mod vault;
pub mod vectors;
