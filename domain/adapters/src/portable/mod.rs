//! What users take along: their part of the log as a file, and files that are taken in. The layout of
//! the lines and what may stand there is in the domain; here they meet the log.

mod append;
pub mod export;
pub mod import;
mod local;
pub mod source;
