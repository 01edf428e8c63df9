//! Reading messages again with another prompt, model or method, and what follows from it.
//!
//! The messages that were read once are read again into a shadow; the shadow is held against what is
//! believed; the difference becomes events that supersede. Only what extraction found is touched: what
//! the user wrote, corrected, asked to remember or asked to forget is theirs to decide.

mod beliefs;
mod difference;
mod portions;
mod rollback;
mod shadow;
#[cfg(test)]
mod tests;

pub use beliefs::{Belief, Beliefs, GivenUp, State, statements};
pub use difference::{Added, Changed, Difference, Gone, difference};
pub use portions::{Portion, Said, portions};
pub use rollback::{RolledBack, roll_back};
pub use shadow::{Read, Shadow, Vectors};

/// The reason of an event that a run appended: `reextract RUN: why`.
pub fn reason(run: &str, why: &str) -> String {
    format!("reextract {run}: {why}")
}

/// The reason of an event that took a run back: `reextract RUN rolled back: why`.
pub fn rollback_reason(run: &str, why: &str) -> String {
    format!("reextract {run} rolled back: {why}")
}

/// The run that gave this reason, if one did.
fn run_of(reason: &str) -> Option<&str> {
    let (run, _) = reason.strip_prefix("reextract ")?.split_once(": ")?;
    (!run.contains(' ')).then_some(run)
}
