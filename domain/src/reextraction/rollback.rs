//! Taking a run back: what it closed is believed again, what it recorded is closed. Not by undoing: what
//! was believed between stays answerable.

use chrono::{DateTime, Utc};

use super::beliefs::{Belief, Beliefs, State};
use super::{rollback_reason, run_of};
use crate::events::{Event, MemoryRecorded, MemorySuperseded};
use crate::ids::{MemoryId, derived};
use crate::text;

/// What takes a run back for one user.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolledBack {
    /// What is believed again, under new ids.
    pub restored: Vec<MemoryRecorded>,
    /// What the run recorded and is closed, with what takes its place.
    pub closed: Vec<(MemoryId, Option<MemoryId>)>,
    /// How many memories of the run stay, as they were told again, corrected or forgotten since.
    pub kept: usize,
    /// The memories that were closed by the run and stay so, for the same reasons.
    pub not_restored: usize,
}

impl RolledBack {
    /// The events that make it so. `at` is when what the run recorded stops being believed.
    pub fn events(&self, run: &str, at: DateTime<Utc>) -> Vec<Event> {
        let restored = self.restored.iter().map(|memory| memory.clone().into());
        let closed = self.closed.iter().map(|(id, by)| {
            MemorySuperseded {
                memory_id: *id,
                superseded_by: *by,
                valid_to: at,
                sources: Vec::new(),
                reason: rollback_reason(run, "it is not believed any more"),
            }
            .into()
        });
        restored.chain(closed).collect()
    }
}

/// Decides what takes a run back. What happened to its memories since goes first: the user's word, and
/// what was told since. A run that was taken back gives nothing more.
pub fn roll_back(run: &str, believed: &Beliefs) -> RolledBack {
    let mut back = RolledBack::default();
    if believed.runs.get(run) == Some(&true) {
        return back;
    }
    let of_run = |reason: &str| run_of(reason) == Some(run);
    // An untouched memory of the run has one event: its own.
    let untouched = |belief: &Belief| belief.is_live() && belief.events == 1;
    let mut replaced: Vec<(MemoryId, MemoryId)> = Vec::new();
    for (id, belief) in &believed.memories {
        let State::Closed(closed) = &belief.state else {
            continue;
        };
        if !of_run(&closed.reason) {
            continue;
        }
        // What stands in its place was told again since, or corrected, or has been ended by something else,
        // or forgotten.
        let successor = closed.superseded_by.map(|by| believed.memories.get(&by));
        let moved_on = match successor {
            None => false,
            Some(None) => true,
            Some(Some(by)) => of_run(&by.memory.reason) && !untouched(by),
        };
        let says_it = |other: &Belief| {
            let form = text::normal_form(&other.memory.content);
            let leaves = of_run(&other.memory.reason) && untouched(other);
            other.is_live() && !leaves && form == text::normal_form(&belief.memory.content)
        };
        if moved_on || believed.memories.values().any(says_it) {
            back.not_restored += 1;
            continue;
        }
        let new = MemoryId(derived(&["reextract rolled back", run, &id.to_string()]));
        if let Some(by) = closed.superseded_by {
            replaced.push((by, new));
        }
        back.restored.push(MemoryRecorded {
            memory_id: new,
            reason: rollback_reason(run, &format!("believed again, it was {id} before")),
            ..belief.memory.clone()
        });
    }
    for (id, belief) in &believed.memories {
        if !of_run(&belief.memory.reason) || !belief.is_live() {
            continue;
        }
        if untouched(belief) {
            let by = replaced.iter().find(|(by, _)| by == id);
            back.closed.push((*id, by.map(|(_, new)| *new)));
        } else {
            back.kept += 1;
        }
    }
    back
}
