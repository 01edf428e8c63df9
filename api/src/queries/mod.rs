//! What reads: each file answers from read models.

pub(crate) mod conversations;
pub(crate) mod explanation;
pub(crate) mod export;
pub(crate) mod health;
pub(crate) mod memories;
pub(crate) mod memory_history;
pub(crate) mod memory_view;
