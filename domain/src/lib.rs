//! The pure heart of the companion: what can happen (events), what may happen (decide), what it
//! means (evolve), and how memories are found, scored and put before the LLM.
//!
//! Nothing here is asynchronous, reads a clock, draws a random number or does I/O: time and ids
//! arrive in the arguments, so every rule can be tested without a server.

pub mod by_hand;
pub mod consolidation;
pub mod conversation;
pub mod data;
pub mod events;
#[cfg(test)]
mod events_document;
pub mod extraction;
pub mod forgetting;
pub mod heuristics;
pub mod ids;
pub mod import;
pub mod memory;
pub mod merging;
pub mod portable;
pub mod prompt;
pub mod recall;
pub mod reextraction;
pub mod summary;
pub mod text;
pub mod usage;
pub mod window;
