//! Recall: which of a user's memories and messages answer a query, and how well.
//!
//! Two arms look for candidates, vectors and words; here their scores are fused. The constants are
//! named and explained where they stand.

use std::collections::{HashMap, HashSet};

use crate::text;

/// Share of the cosine similarity in the fused score; the rest is lexical.
const SEMANTIC_WEIGHT: f64 = 0.6;
/// How far importance may move a score: from `1 - SWING` to `1 + SWING` times. Multiplying by
/// importance itself was measured to cost 38 % of recall, so it only breaks near-ties.
const IMPORTANCE_SWING: f64 = 0.1;
/// BM25 term saturation and length normalisation, the customary values (Robertson and Zaragoza,
/// "The Probabilistic Relevance Framework: BM25 and Beyond", 2009).
const BM25_K1: f64 = 1.2;
const BM25_B: f64 = 0.75;

/// One occurrence of a query term in an item, as the lexical index has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting<Id> {
    /// The item.
    pub item: Id,
    /// The term, stemmed.
    pub term: String,
    /// How often the term occurs in the item, at least 1.
    pub count: u32,
    /// How many terms the item has in all.
    pub length: u32,
}

/// The size of what is searched, for weighing how rare a term is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CorpusSize {
    /// Number of items.
    pub items: u64,
    /// Number of terms of all items together.
    pub terms: u64,
}

/// BM25 of each item with at least one of the query's terms, divided by the most that the query
/// could reach, so that it lies in 0..=1 whatever the query's length.
pub fn lexical_scores<Id: Copy + Eq + std::hash::Hash>(
    query_terms: &[(String, u16)],
    postings: &[Posting<Id>],
    corpus: CorpusSize,
) -> HashMap<Id, f64> {
    let mut frequency: HashMap<&str, u64> = HashMap::new();
    for posting in postings {
        *frequency.entry(&posting.term).or_default() += 1;
    }
    let items = corpus.items.max(1) as f64;
    let mean_length = (corpus.terms as f64 / items).max(1.0);
    let rarity = |term: &str| {
        let n = frequency.get(term).copied().unwrap_or(0) as f64;
        (1.0 + (items - n + 0.5).max(0.0) / (n + 0.5)).ln()
    };
    let best: f64 = query_terms
        .iter()
        .map(|(term, _)| rarity(term) * (BM25_K1 + 1.0))
        .sum();
    let mut scores: HashMap<Id, f64> = HashMap::new();
    if best <= 0.0 {
        return scores;
    }
    for posting in postings {
        let count = f64::from(posting.count);
        let length = f64::from(posting.length) / mean_length;
        let saturation =
            count * (BM25_K1 + 1.0) / (count + BM25_K1 * (1.0 - BM25_B + BM25_B * length));
        *scores.entry(posting.item).or_default() += rarity(&posting.term) * saturation / best;
    }
    scores
        .values_mut()
        .for_each(|score| *score = score.min(1.0));
    scores
}

/// A memory or message that one of the arms found.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate<Id> {
    /// The item.
    pub id: Id,
    /// Its text, for leaving out what says the same.
    pub content: String,
    /// Cosine similarity to the query, -1..=1; `None` while it has no vector yet.
    pub similarity: Option<f64>,
    /// From [`lexical_scores`], 0..=1.
    pub lexical: f64,
    /// Importance after decay, 0..=1; 0.5 for a message, which has none.
    pub importance_now: f64,
}

/// A candidate with its fused score.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranked<Id> {
    /// The candidate.
    pub candidate: Candidate<Id>,
    /// The fused score, higher is better, at most 1 + `IMPORTANCE_SWING`.
    pub score: f64,
}

/// The fused score of one candidate.
pub fn score<Id>(candidate: &Candidate<Id>) -> f64 {
    let similarity = candidate.similarity.unwrap_or(0.0).max(0.0);
    let relevance = SEMANTIC_WEIGHT * similarity + (1.0 - SEMANTIC_WEIGHT) * candidate.lexical;
    relevance * (1.0 - IMPORTANCE_SWING + 2.0 * IMPORTANCE_SWING * candidate.importance_now)
}

/// Ranks candidates, best first: at most `top_k`, none below `threshold`, none that says the same
/// as a better one.
pub fn rank<Id: Ord + Copy>(
    candidates: Vec<Candidate<Id>>,
    threshold: f64,
    top_k: usize,
) -> Vec<Ranked<Id>> {
    let mut ranked: Vec<Ranked<Id>> = candidates
        .into_iter()
        .map(|candidate| Ranked {
            score: score(&candidate),
            candidate,
        })
        .filter(|ranked| ranked.score >= threshold)
        .collect();
    ranked.sort_by(|a, b| {
        b.score
            .total_cmp(&a.score)
            .then(a.candidate.id.cmp(&b.candidate.id))
    });
    let mut said = HashSet::new();
    ranked.retain(|ranked| said.insert(text::normal_form(&ranked.candidate.content)));
    ranked.truncate(top_k);
    ranked
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(id: u32, similarity: f64, lexical: f64, importance_now: f64) -> Candidate<u32> {
        let content = format!("statement number {id}");
        Candidate {
            id,
            content,
            similarity: Some(similarity),
            lexical,
            importance_now,
        }
    }

    fn posting(item: u32, term: &str, length: u32) -> Posting<u32> {
        Posting {
            item,
            term: term.to_owned(),
            count: 1,
            length,
        }
    }

    #[test]
    fn a_rare_word_weighs_more_than_a_common_one() {
        let query = [("name".to_owned(), 1), ("zanzibar".to_owned(), 1)];
        let mut postings: Vec<_> = (0..50).map(|n| posting(n, "name", 5)).collect();
        postings.push(posting(99, "zanzibar", 5));
        let scores = lexical_scores(
            &query,
            &postings,
            CorpusSize {
                items: 100,
                terms: 500,
            },
        );
        assert!(scores[&99] > scores[&1]);
    }

    #[test]
    fn importance_breaks_ties_but_does_not_overrule_relevance() {
        let ranked = rank(
            vec![
                candidate(1, 0.5, 0.0, 0.1),
                candidate(2, 0.5, 0.0, 0.9),
                candidate(3, 0.8, 0.0, 0.0),
            ],
            0.0,
            10,
        );
        let order: Vec<_> = ranked.iter().map(|r| r.candidate.id).collect();
        assert_eq!(order, [3, 2, 1]);
    }

    #[test]
    fn what_says_the_same_appears_once() {
        let mut twin = candidate(2, 0.4, 0.0, 0.5);
        twin.content = "Statement number 1!".to_owned();
        assert_eq!(
            rank(vec![candidate(1, 0.5, 0.0, 0.5), twin], 0.0, 10).len(),
            1
        );
    }

    #[test]
    fn what_has_no_vector_yet_is_found_by_its_words() {
        let mut new = candidate(1, 0.0, 0.9, 0.5);
        new.similarity = None;
        assert_eq!(rank(vec![new], 0.15, 10).len(), 1);
    }

    proptest! {
        #[test]
        fn ranking_is_sorted_bounded_and_gated(
            figures in proptest::collection::vec((-1.0f64..=1.0, 0.0f64..=1.0, 0.0f64..=1.0), 0..40),
            threshold in 0.0f64..1.0, top_k in 0usize..20,
        ) {
            let candidates = figures.iter().enumerate()
                .map(|(n, (s, l, i))| candidate(n as u32, *s, *l, *i)).collect();
            let ranked = rank(candidates, threshold, top_k);
            prop_assert!(ranked.len() <= top_k);
            prop_assert!(ranked.windows(2).all(|pair| pair[0].score >= pair[1].score));
            prop_assert!(ranked.iter().all(|r| r.score >= threshold && r.score <= 1.1 + 1e-9));
        }

        #[test]
        fn lexical_scores_stay_within_one(
            counts in proptest::collection::vec((0u32..20, 1u32..9, 1u32..90), 1..40),
        ) {
            let postings: Vec<_> = counts.iter()
                .map(|(item, count, length)| Posting { item: *item, term: "tea".to_owned(), count: *count, length: *length })
                .collect();
            let scores = lexical_scores(&[("tea".to_owned(), 1)], &postings, CorpusSize { items: 20, terms: 900 });
            prop_assert!(scores.values().all(|score| (0.0..=1.0).contains(score)));
        }
    }
}
