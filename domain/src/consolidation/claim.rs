//! What a statement claims, whatever its words: by that the same fact is known again, a fact with more
//! to it, and the opposite of a fact. No model is asked, so the answer is the same for ever.

use chrono::{DateTime, Utc};

use super::words::{ADDING, AUXILIARIES, EMPTY, NEGATIONS, NO_MORE, meaning};
use crate::{heuristics, text};

/// What a statement claims.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claim {
    /// The words that carry it, in order, each in one spelling for all that mean the same.
    words: Vec<String>,
    /// Whether it denies them.
    negative: bool,
    /// The names and numbers among them, sorted.
    names: Vec<String>,
    /// The places of the words before which the statement pauses: "Lisbon, Portugal".
    pauses: Vec<usize>,
    /// The date that is set behind the statement, as it is worded.
    date: Option<String>,
}

impl Claim {
    pub(super) fn of(statement: &str) -> Self {
        let undated = heuristics::without_date(statement);
        let date = statement.get(undated.len()..).map(text::normal_form);
        let statement = undated.replace("can't stand", "hates");
        let mut claim = Self {
            words: Vec::new(),
            negative: false,
            names: names(&statement),
            pauses: Vec::new(),
            date: date.filter(|date| !date.is_empty()),
        };
        for part in statement.split([',', ';', '(']) {
            if !claim.words.is_empty() {
                claim.pauses.push(claim.words.len());
            }
            claim.read(part);
        }
        claim
    }

    fn read(&mut self, part: &str) {
        for word in text::words(part) {
            let word = word.as_str();
            if NEGATIONS.contains(&word) {
                self.negative = !self.negative;
            } else if !EMPTY.contains(&word) && !NO_MORE.contains(&word) {
                match meaning(word).map(|meant| (meant, meant.strip_prefix('!'))) {
                    Some((_, Some(denied))) => {
                        self.negative = !self.negative;
                        self.words.push(denied.to_owned());
                    }
                    Some((meant, None)) => self.words.push(meant.to_owned()),
                    None if ADDING.contains(&word) => self.words.push(word.to_owned()),
                    None => self.words.push(text::stem(word)),
                }
            }
        }
    }

    /// Whether two statements claim the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        !self.words.is_empty() && self.words == other.words && self.negative == other.negative
    }

    /// Whether one statement denies what the other claims.
    pub(super) fn denies(&self, other: &Self) -> bool {
        !self.words.is_empty() && self.words == other.words && self.negative != other.negative
    }

    /// Whether this statement claims what the other does, and more: "has a dog named Rex" and "has a
    /// dog".
    pub(super) fn adds_to(&self, other: &Self) -> bool {
        let Some(added) = self.words.strip_prefix(other.words.as_slice()) else {
            return false;
        };
        other.words.len() >= 2
            && self.negative == other.negative
            && added
                .first()
                .is_some_and(|first| ADDING.contains(&first.as_str()))
    }

    /// Whether a statement that fills the same slot gives it the same value, maybe with more to it: "lives
    /// in Lisbon" and "has lived in Lisbon since 2018". Not "lives in York" and "lives in New York", nor
    /// "is married to Anna" and "is divorced from Anna". What is added begins with a word for that or
    /// after a pause; a name (`named`) may go on as it is.
    pub(super) fn has_value_of(&self, other: &Self, named: bool) -> bool {
        if other.names.is_empty() || self.negative != other.negative {
            return false;
        }
        let is_light = |word: &str| ADDING.contains(&word) || AUXILIARIES.contains(&word);
        let mut wanted = other.words.iter().filter(|word| !is_light(word)).peekable();
        // Within what is put between: "works as a nurse at Acme".
        let (mut aside, mut after_adding) = (false, false);
        for (at, word) in self.words.iter().enumerate() {
            let adds = ADDING.contains(&word.as_str());
            match wanted.peek() {
                None => return named || adds || self.pauses.contains(&at),
                Some(next) if !aside && word == *next => {
                    wanted.next();
                }
                Some(_) if adds => aside = false,
                Some(_) if aside || is_light(word) => {}
                Some(_) if after_adding => aside = true,
                Some(_) => return false,
            }
            after_adding = adds;
        }
        wanted.peek().is_none()
    }

    /// Whether no two dates in other words stand behind them.
    pub(super) fn may_be_dated_as(&self, other: &Self) -> bool {
        match (&self.date, &other.date) {
            (Some(date), Some(other)) => date == other,
            _ => true,
        }
    }

    /// Whether both are dated in the same words, or neither is.
    pub(super) fn is_dated_as(&self, other: &Self) -> bool {
        self.date == other.date
    }

    /// Whether both have the same names and numbers, and both or neither deny.
    pub(super) fn could_be(&self, other: &Self) -> bool {
        self.names == other.names && self.negative == other.negative
    }
}

/// The words of a statement that name or count something, sorted: capitalised or with a digit. The
/// first word is capitalised anyway, so it doesn't count.
fn names(statement: &str) -> Vec<String> {
    let mut names: Vec<String> = statement
        .split_whitespace()
        .skip(1)
        .filter(|word| word.chars().any(|c| c.is_uppercase() || c.is_ascii_digit()))
        .map(text::normal_form)
        .collect();
    names.sort_unstable();
    names
}

/// Whether two things may have happened on the same day, as far as they are dated: what is dated and
/// what is not are two.
pub(super) fn same_day(a: Option<DateTime<Utc>>, b: Option<DateTime<Utc>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => (a - b).abs() < chrono::Duration::hours(20),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(a: &str, b: &str) -> (Claim, Claim) {
        (Claim::of(a), Claim::of(b))
    }

    #[test]
    fn the_same_fact_is_known_in_other_words() {
        for (a, b) in [
            ("User loves tea", "User likes tea"),
            ("User has a dog named Rex", "User owns a dog called Rex"),
            ("User doesn't like tea", "User dislikes tea"),
            ("User no longer likes tea", "User does not like tea"),
            ("User liebt Kaffee", "User mag Kaffee"),
            ("A User le gusta el café", "A User le encanta el café"),
            ("User ran a marathon (on 2026-05-08)", "User ran a marathon"),
        ] {
            let (a_claim, b_claim) = claims(a, b);
            assert!(a_claim.is(&b_claim), "{a}: {b}");
        }
    }

    #[test]
    fn what_is_another_fact_is_no_same_claim() {
        for (a, b) in [
            ("User has a dog", "User is a dog"),
            (
                "User prefers tea over coffee",
                "User prefers coffee over tea",
            ),
            ("User has a dog named Rex", "User has a dog named Max"),
            ("User has 2 children", "User has 3 children"),
            ("User likes tea", "User likes green tea"),
        ] {
            let (a_claim, b_claim) = claims(a, b);
            assert!(
                !a_claim.is(&b_claim) && !a_claim.denies(&b_claim),
                "{a}: {b}"
            );
            assert!(
                !a_claim.adds_to(&b_claim) && !b_claim.adds_to(&a_claim),
                "{a}: {b}"
            );
        }
    }

    #[test]
    fn the_opposite_is_seen() {
        for (a, b) in [
            ("User likes tea", "User doesn't like tea"),
            ("User loves tea", "User hates tea"),
            ("User works at Acme", "User no longer works at Acme"),
            ("User raucht", "User raucht nicht mehr"),
            ("A User le gusta el café", "A User ya no le gusta el café"),
        ] {
            let (a_claim, b_claim) = claims(a, b);
            assert!(
                a_claim.denies(&b_claim) && b_claim.denies(&a_claim),
                "{a}: {b}"
            );
        }
    }

    #[test]
    fn a_slot_has_the_same_value_only_with_the_same_verb_and_the_whole_name() {
        for (more, less) in [
            (
                "User has lived in Lisbon since 2018",
                "User lives in Lisbon",
            ),
            ("User is living in Lisbon", "User lives in Lisbon"),
            ("User lives in Lisbon, Portugal", "User lives in Lisbon"),
            ("User lives with Anna in York", "User lives in York"),
            ("User works as a nurse at Acme", "User works for Acme"),
            (
                "User is married to Anna since 2019",
                "User is married to Anna",
            ),
        ] {
            let (more_claim, less_claim) = claims(more, less);
            assert!(more_claim.has_value_of(&less_claim, false), "{more}");
        }
        for (a, b) in [
            ("User lives in New York", "User lives in York"),
            ("User lives in Porto Alegre", "User lives in Porto"),
            ("User is married to Anna", "User is divorced from Anna"),
            ("User is married to Anna", "User is engaged to Anna"),
            ("User lives in Lisbon", "User no longer lives in Lisbon"),
            ("User works at Acme", "User works at Globex"),
        ] {
            let (a_claim, b_claim) = claims(a, b);
            let either = a_claim.has_value_of(&b_claim, false);
            assert!(
                !either && !b_claim.has_value_of(&a_claim, false),
                "{a}: {b}"
            );
        }
        let (full, first) = claims("User's name is Alice Smith", "User's name is Alice");
        assert!(full.has_value_of(&first, true) && !first.has_value_of(&full, true));
    }

    #[test]
    fn more_of_the_same_fact_is_seen() {
        for (more, less) in [
            ("User has a dog named Rex", "User has a dog"),
            ("User works at Acme as a nurse", "User works at Acme"),
            ("User hat einen Hund namens Rex", "User hat einen Hund"),
        ] {
            let (more_claim, less_claim) = claims(more, less);
            assert!(more_claim.adds_to(&less_claim), "{more}");
            assert!(!less_claim.adds_to(&more_claim), "{less}");
        }
        for (more, less) in [
            ("User runs a bakery", "User runs"),
            ("User lives in Porto Alegre", "User lives in Porto"),
            ("User has a cat allergy", "User has a cat"),
            ("User has a dog and a cat", "User has a dog"),
        ] {
            let (more_claim, less_claim) = claims(more, less);
            assert!(!more_claim.adds_to(&less_claim), "{more}");
        }
    }
}
