//! Recall: which of a user's memories and messages answer a query, and how well.
//!
//! An [`Index`] holds all of them in memory; a search scores each (`scoring`) and picks the best
//! (here). How the constants were found is told in `ops/docs/MEMORY.md`.

mod index;
mod question;
mod scoring;
mod vectors;
mod wording;

use std::collections::HashSet;

use uuid::Uuid;

pub use self::index::{Entry, Index, Stated, What};
pub use self::scoring::{Arm, Wanted};
use self::scoring::{Scored, score};

/// What a message's score is multiplied by when a memory that rests on it is a better answer, and
/// the other way round: both stay findable, but they don't fill the list.
const TOLD_TWICE: f32 = 0.6;

/// A memory or message that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Its id.
    pub id: Uuid,
    /// Whether it is a message rather than a memory.
    pub is_message: bool,
    /// How well it answers, 0..=1.
    pub score: f64,
    /// Cosine similarity to the query, -1..=1; 0 while there is no vector.
    pub similarity: f64,
    /// Importance after decay, 0..=1; 0.5 for a message, which has none.
    pub importance_now: f64,
}

impl Index {
    /// The query as it must be embedded for [`Wanted::vector`]: in the first person when it names a
    /// speaker, as the speaker would say it.
    pub fn reworded(&self, query: &str) -> String {
        question::in_first_person(query, &self.speakers)
    }

    /// Finds what answers a query, best first: at most `top_k`, none with a score below `threshold`,
    /// none that says the same as a better one.
    pub fn search(&self, wanted: &Wanted<'_>, threshold: f64, top_k: usize) -> Vec<Hit> {
        let mut found = score(self, wanted);
        found.retain(|scored| f64::from(scored.score) >= threshold);
        let mut best = self.best(found, top_k);
        if wanted.messages {
            self.part_what_is_told_twice(&mut best);
            best.retain(|scored| f64::from(scored.score) >= threshold);
        }
        best.truncate(top_k);
        best.iter().map(|scored| self.hit(scored)).collect()
    }

    /// Finds the memories for a prompt: what answers the message and, where that leaves room, what is
    /// most important to know about the user, so that a greeting is enough to be recognised.
    pub fn for_prompt(&self, wanted: &Wanted<'_>, threshold: f64, top_k: usize) -> Vec<Hit> {
        let all = score(self, wanted);
        let (found, mut rest): (Vec<_>, Vec<_>) = all
            .into_iter()
            .partition(|scored| f64::from(scored.score) >= threshold);
        let mut best = self.best(found, top_k);
        best.truncate(top_k);
        rest.sort_by(|a, b| {
            let importance = b.importance_now.total_cmp(&a.importance_now);
            importance
                .then(b.score.total_cmp(&a.score))
                .then_with(|| self.id(a).cmp(&self.id(b)))
        });
        let mut said: HashSet<u64> = best.iter().map(|scored| self.form(scored)).collect();
        rest.retain(|scored| said.insert(self.form(scored)));
        rest.truncate(top_k - best.len());
        best.extend(rest);
        best.iter().map(|scored| self.hit(scored)).collect()
    }

    /// The best, in order, each thing said once; some more than `top_k`.
    fn best(&self, mut found: Vec<Scored>, top_k: usize) -> Vec<Scored> {
        let order = |a: &Scored, b: &Scored| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| self.id(a).cmp(&self.id(b)))
        };
        // Only so many need to be sorted: if hardly any of these are left, all are.
        let enough = 8 * top_k + 64;
        if found.len() > 2 * enough {
            let mut first = found.clone();
            first.select_nth_unstable_by(enough, order);
            first.truncate(enough);
            first.sort_by(order);
            let first = self.once_each(first);
            if first.len() >= 2 * top_k {
                return first;
            }
        }
        found.sort_by(order);
        self.once_each(found)
    }

    fn once_each(&self, mut sorted: Vec<Scored>) -> Vec<Scored> {
        let mut said = HashSet::new();
        sorted.retain(|scored| said.insert(self.form(scored)));
        sorted
    }

    /// Lowers what a better one rests on, or what rests on a better one, and sorts again.
    fn part_what_is_told_twice(&self, best: &mut [Scored]) {
        let (mut said, mut rested_on) = (HashSet::new(), HashSet::new());
        for scored in best.iter_mut() {
            let slot = &self.slots[scored.slot as usize];
            let again = match &slot.memory {
                None => {
                    said.insert(slot.id);
                    rested_on.contains(&slot.id)
                }
                Some(memory) => {
                    let sources = || memory.sources.iter().map(|source| source.message_id.0);
                    rested_on.extend(sources());
                    sources().any(|message| said.contains(&message))
                }
            };
            if again {
                scored.score *= TOLD_TWICE;
            }
        }
        best.sort_by(|a, b| {
            b.score
                .total_cmp(&a.score)
                .then_with(|| self.id(a).cmp(&self.id(b)))
        });
    }

    fn id(&self, scored: &Scored) -> Uuid {
        self.slots[scored.slot as usize].id
    }

    fn form(&self, scored: &Scored) -> u64 {
        self.slots[scored.slot as usize].form
    }

    fn hit(&self, scored: &Scored) -> Hit {
        Hit {
            id: self.id(scored),
            is_message: scored.is_message(self),
            score: f64::from(scored.score),
            similarity: f64::from(scored.similarity),
            importance_now: scored.importance_now,
        }
    }
}

impl Scored {
    fn is_message(&self, index: &Index) -> bool {
        index.slots[self.slot as usize].is_message()
    }
}

#[cfg(test)]
mod tests;
