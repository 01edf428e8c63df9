//! All shared I/O, one file a thing: configuration, the event log, keys, read models, buffer, job
//! queue, LLM, embedder, tokens, telemetry.

pub mod api_keys;
pub mod backup;
pub mod buffer;
pub mod cancellation;
pub mod config;
pub mod core;
pub mod database;
pub mod dead_jobs;
pub mod embedder;
pub mod erasure;
pub mod extractor;
pub mod llm;
pub mod log;
pub mod lost_replies;
pub mod memories;
pub mod messages;
pub mod metrics;
pub mod parts;
pub mod portable;
pub mod progress;
pub mod queue;
pub mod rate_limit;
pub mod read_models;
pub mod recall;
pub mod redis_link;
pub mod reextractions;
pub mod reply_texts;
pub mod search_state;
pub mod shutdown;
pub mod summaries;
pub mod telemetry;
pub mod tokens;
pub mod upkeep;
pub mod vault;
pub mod vectors;
