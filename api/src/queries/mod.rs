//! What reads: each file answers from read models.

pub(crate) mod conversations;
pub(crate) mod health;
pub(crate) mod memories;
