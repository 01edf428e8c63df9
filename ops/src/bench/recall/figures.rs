//! The figures of a ranking, as they are customary for LoCoMo: recall, hits, reciprocal rank, gain.
//!
//! recall@k: the share of the evidence in the first k; hit@k: any of it; all@k: all of it; mrr@10:
//! one by the rank of the first; ndcg@10: discounted cumulative gain by the best possible (Järvelin
//! and Kekäläinen, 2002). Averaged over questions.

use std::collections::HashSet;

use super::sets::Question;

/// The figures, in the order of the table.
const NAMES: [&str; 8] = [
    "recall@5",
    "recall@10",
    "recall@20",
    "hit@5",
    "all@10",
    "mrr@10",
    "ndcg@10",
    "returned",
];

/// The figures of one question, or the mean of many.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figures {
    questions: usize,
    values: [f64; NAMES.len()],
}

/// The figures of one question, with its category.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scored {
    pub(super) category: u8,
    figures: Figures,
}

impl Scored {
    /// Looks at a ranking, best first. What is in it twice counts where it is first.
    pub(super) fn of(question: &Question, ranked: &[String]) -> Self {
        let mut seen = HashSet::new();
        let ranked: Vec<&String> = ranked.iter().filter(|id| seen.insert(*id)).collect();
        let relevant: HashSet<&String> = question.relevant.iter().collect();
        let found = |k: usize| {
            let first = ranked.iter().take(k);
            first.filter(|id| relevant.contains(*id)).count()
        };
        let of = relevant.len();
        let places = ranked.iter().take(10).zip(0u32..);
        let places: Vec<u32> = places
            .filter(|(id, _)| relevant.contains(*id))
            .map(|(_, place)| place)
            .collect();
        let discount = |place: u32| 1.0 / (f64::from(place) + 2.0).log2();
        let gain: f64 = places.iter().map(|place| discount(*place)).sum();
        let best: f64 = (0u32..10).take(of).map(discount).sum();
        let share = |k: usize| found(k) as f64 / of as f64;
        let values = [
            share(5),
            share(10),
            share(20),
            f64::from(found(5) > 0),
            f64::from(found(10) == of),
            places
                .first()
                .map_or(0.0, |place| 1.0 / (f64::from(*place) + 1.0)),
            gain / best,
            ranked.len() as f64,
        ];
        Self {
            category: question.category,
            figures: Figures {
                questions: 1,
                values,
            },
        }
    }
}

impl Figures {
    pub(super) fn mean<'a>(scored: impl Iterator<Item = &'a Scored>) -> Self {
        let mut sum = Self::default();
        for scored in scored {
            sum.questions += 1;
            for (value, more) in sum.values.iter_mut().zip(scored.figures.values) {
                *value += more;
            }
        }
        let count = sum.questions.max(1) as f64;
        sum.values.iter_mut().for_each(|value| *value /= count);
        sum
    }

    /// As a line of the table.
    pub(super) fn row(&self, name: &str) -> String {
        let values: Vec<String> = self
            .values
            .iter()
            .map(|value| format!("{value:9.4}"))
            .collect();
        format!("{name:24}{:5} {}", self.questions, values.join(" "))
    }
}

/// The first line of the table.
pub(super) fn heading() -> String {
    let names: Vec<String> = NAMES.iter().map(|name| format!("{name:>9}")).collect();
    format!("{:24}{:>5} {}", "", "n", names.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(relevant: &[&str], ranked: &[&str]) -> [f64; 8] {
        let owned = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let question = Question {
            id: String::new(),
            text: String::new(),
            category: 1,
            relevant: owned(relevant),
        };
        Scored::of(&question, &owned(ranked)).figures.values
    }

    #[test]
    fn figures_are_those_of_the_definitions() {
        // Worked out by hand: two of three found, at the places 2 and 7, one of them twice.
        let ranked = ["x", "a", "a", "y", "z", "v", "w", "b"];
        let [r5, r10, r20, hit, all, mrr, ndcg, returned] = figures(&["a", "b", "c"], &ranked);
        assert_eq!((r5, r10, r20), (1.0 / 3.0, 2.0 / 3.0, 2.0 / 3.0));
        assert_eq!((hit, all, mrr, returned), (1.0, 0.0, 0.5, 7.0));
        let best = 1.0 + 1.0 / 3f64.log2() + 0.5;
        assert!((ndcg - (1.0 / 3f64.log2() + 1.0 / 3.0) / best).abs() < 1e-12);
        assert_eq!(figures(&["a"], &[]), [0.0; 8]);
    }
}
