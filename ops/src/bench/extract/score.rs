//! Precision and recall, by class, language and style.
//!
//! Precision is the share of the statements found that meet a label; what is true and was not asked for
//! (`maybe`) counts on neither side. Recall is the share of the labels that a statement meets. What is
//! to be superseded counts as found when it is kept as superseded, and as wrong while it is live.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::label::{Item, Stated};

/// How one item came out.
#[derive(Default)]
pub(super) struct Scored {
    /// Statements that meet a label.
    right: u32,
    /// Statements that meet none.
    pub(super) wrong: Vec<String>,
    /// Labels that a statement meets.
    met: u32,
    /// Labels that none meets.
    pub(super) missed: Vec<String>,
}

pub(super) fn score(item: &Item, (live, was): &(Vec<Stated>, Vec<Stated>)) -> Scored {
    let zone = item.zone();
    let mut scored = Scored::default();
    for stated in live {
        if item.want.iter().any(|label| label.is_met_by(stated, zone)) {
            scored.right += 1;
        } else if !item.maybe.iter().any(|label| label.is_met_by(stated, zone)) {
            scored.wrong.push(format!(
                "{} [{}{}]",
                stated.content,
                stated.kind.as_str(),
                stated
                    .occurred_at
                    .map(|at| format!(", {}", at.with_timezone(&zone).format("%Y-%m-%d")))
                    .unwrap_or_default()
            ));
        }
    }
    for (labels, stated, how) in [(&item.want, live, ""), (&item.was, was, " (superseded)")] {
        for label in labels {
            if stated.iter().any(|stated| label.is_met_by(stated, zone)) {
                scored.met += 1;
                scored.right += u32::from(!how.is_empty());
            } else {
                scored.missed.push(format!("{label}{how}"));
            }
        }
    }
    scored
}

/// Figures of many items.
#[derive(Default, Clone, Copy)]
struct Figures {
    items: u32,
    right: u32,
    wrong: u32,
    met: u32,
    missed: u32,
}

impl Figures {
    fn add(&mut self, scored: &Scored) {
        let count = |list: &[String]| u32::try_from(list.len()).unwrap_or(u32::MAX);
        self.items += 1;
        self.right += scored.right;
        self.wrong += count(&scored.wrong);
        self.met += scored.met;
        self.missed += count(&scored.missed);
    }

    fn precision(&self) -> Option<f64> {
        share(self.right, self.wrong)
    }

    fn recall(&self) -> Option<f64> {
        share(self.met, self.missed)
    }
}

fn share(part: u32, rest: u32) -> Option<f64> {
    (part + rest > 0).then(|| f64::from(part) / f64::from(part + rest))
}

/// The figures of all groups of a part of the set.
#[derive(Default)]
pub(super) struct Tally(BTreeMap<(usize, String), Figures>);

impl Tally {
    pub(super) fn add(&mut self, item: &Item, scored: &Scored) {
        let groups = [
            (0, "all".to_owned()),
            (1, item.lang.clone()),
            (2, format!("{} {}", item.lang, item.class)),
            (3, format!("{} {}", item.lang, item.style)),
        ];
        for group in groups {
            self.0.entry(group).or_default().add(scored);
        }
    }

    pub(super) fn table(&self) -> String {
        let mut table = String::from(
            "| | items | statements right | wrong | precision | labels met | missed | recall |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        let shown =
            |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.3}"));
        for ((_, group), f) in &self.0 {
            let _ = writeln!(
                table,
                "| {group} | {} | {} | {} | {} | {} | {} | {} |",
                f.items,
                f.right,
                f.wrong,
                shown(f.precision()),
                f.met,
                f.missed,
                shown(f.recall())
            );
        }
        table
    }

    pub(super) fn json(&self) -> Value {
        let groups = self.0.iter().map(|((_, group), f)| {
            let figures = json!({
                "items": f.items, "right": f.right, "wrong": f.wrong, "precision": f.precision(),
                "met": f.met, "missed": f.missed, "recall": f.recall(),
            });
            (group.clone(), figures)
        });
        Value::Object(groups.collect())
    }
}
