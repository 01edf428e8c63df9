//! Placeholder until the pattern arm lands.
use crate::memory::MemoryKind;
use chrono::{DateTime, Utc};
/// One statement found in a message.
#[derive(Debug)]
pub struct Finding {
    /// x
    pub content: String,
    /// x
    pub kind: MemoryKind,
    /// x
    pub importance: f64,
    /// x
    pub occurred_at: Option<DateTime<Utc>>,
    /// x
    pub subject: Option<String>,
    /// x
    pub negates: Option<String>,
    /// x
    pub explicit: bool,
}
/// x
pub fn extract(_: &str, _: DateTime<Utc>, _: chrono_tz::Tz) -> Vec<Finding> {
    Vec::new()
}
