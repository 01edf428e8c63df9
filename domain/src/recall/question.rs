//! What a query asks: its words, whom it names, and the time it asks about.

use chrono::{DateTime, Datelike};

use crate::text;

/// English names of the months.
const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

/// What a query asks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Question {
    /// Its terms, stemmed, each once, without the names of speakers.
    pub(super) terms: Vec<String>,
    /// Of each speaker of the index, whether it names them.
    pub(super) named: Vec<bool>,
    /// The name words by which it names them, stemmed.
    pub(super) names: Vec<String>,
    /// Whether it asks for a time.
    pub(super) when: bool,
    /// The time it asks about.
    pub(super) period: Period,
}

impl Question {
    /// Reads a query of a user whose conversations have these speakers, each given by the words of
    /// their name.
    pub(super) fn of(query: &str, speakers: &[Vec<String>]) -> Self {
        let words = scan(query);
        let mut named = vec![false; speakers.len()];
        let (mut terms, mut names) = (Vec::new(), Vec::new());
        for word in &words {
            let mut is_name = false;
            for (named, speaker) in named.iter_mut().zip(speakers) {
                if word.names(speaker) {
                    (*named, is_name) = (true, true);
                }
            }
            let term = text::stem(&word.bare);
            if is_name {
                names.push(term);
            } else if !text::is_stop_word(&word.whole) {
                let term = text::stem(&word.whole);
                if !terms.contains(&term) {
                    terms.push(term);
                }
            }
        }
        let has = |sought: &str| words.iter().any(|word| word.bare == sought);
        Self {
            terms,
            named,
            names,
            when: has("when") || has("date") || (has("how") && has("long")),
            period: Period::of(&words),
        }
    }
}

/// The query as the speaker whom it names would say it: "Anna's dog" becomes "my dog", as people
/// speak of themselves in the first person and rarely say their own name.
pub(super) fn in_first_person(query: &str, speakers: &[Vec<String>]) -> String {
    let mut reworded = String::with_capacity(query.len());
    let mut done = 0;
    for word in scan(query) {
        if speakers.iter().any(|speaker| word.names(speaker)) {
            reworded.push_str(&query[done..word.begin]);
            reworded.push_str(if word.possessive { "my" } else { "I" });
            done = word.end;
        }
    }
    reworded.push_str(&query[done..]);
    reworded
}

/// A word of a query.
#[derive(Debug)]
struct Word {
    begin: usize,
    end: usize,
    /// In lower case, apostrophes left out, as [`text::words`] has it.
    whole: String,
    /// The same without a possessive s.
    bare: String,
    possessive: bool,
    capitalised: bool,
}

impl Word {
    /// Whether it is a word of a speaker's name. Names that are common words too ("May", "Will")
    /// must be written as names.
    fn names(&self, speaker: &[String]) -> bool {
        let common = || text::is_stop_word(&self.bare) || MONTHS.contains(&self.bare.as_str());
        speaker.contains(&self.bare) && (self.capitalised && self.begin > 0 || !common())
    }
}

/// The words of a query with their places in it.
fn scan(query: &str) -> Vec<Word> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '\'' | '’' | '+' | '#');
    let mut words = Vec::new();
    let mut begin = None;
    for (at, c) in query.char_indices().chain([(query.len(), ' ')]) {
        match begin {
            None if c.is_alphanumeric() => begin = Some(at),
            Some(from) if !is_part(c) => {
                words.push(word(query, from, at));
                begin = None;
            }
            _ => {}
        }
    }
    words
}

fn word(query: &str, begin: usize, end: usize) -> Word {
    let written = &query[begin..end];
    let lower = written.to_lowercase().replace('’', "'");
    let possessive = lower.ends_with("'s");
    let whole = lower.replace('\'', "");
    let bare = lower.trim_end_matches("'s").replace('\'', "");
    Word {
        begin,
        end,
        whole,
        bare,
        possessive,
        capitalised: written.starts_with(char::is_uppercase),
    }
}

/// A time that a query names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Period {
    years: Vec<i32>,
    months: Vec<u32>,
    days: Vec<u32>,
}

impl Period {
    fn of(words: &[Word]) -> Self {
        // "What may I…" names no month.
        let is_name = |word: &&Word| {
            !matches!(word.bare.as_str(), "may" | "march") || word.capitalised && word.begin > 0
        };
        let month = |word: &Word| {
            MONTHS
                .iter()
                .zip(1..)
                .find(|(month, _)| **month == word.bare)
        };
        let months = words.iter().filter(is_name).filter_map(month);
        let months = months.map(|(_, number)| number).collect();
        let numbers = || {
            words
                .iter()
                .filter_map(|word| word.bare.parse::<u32>().ok())
        };
        Self {
            years: numbers()
                .filter(|year| (1900..2200).contains(year))
                .filter_map(|year| i32::try_from(year).ok())
                .collect(),
            days: numbers().filter(|day| (1..=31).contains(day)).collect(),
            months,
        }
    }

    /// How well a time, in seconds, fits, 0..=2: 1 for the month (and year, where one is named), 1
    /// more for the day or the next one; half for the month after it, in which people still tell
    /// what happened. 0 when no month is named.
    pub(super) fn fit(&self, at: i64) -> f32 {
        let Some(time) = DateTime::from_timestamp(at, 0) else {
            return 0.0;
        };
        let fits = |month: u32, year: i32| {
            self.months.contains(&month) && (self.years.is_empty() || self.years.contains(&year))
        };
        let day = self
            .days
            .iter()
            .any(|day| (0..=1).contains(&(i64::from(time.day()) - i64::from(*day))));
        let month = match (time.month(), time.year()) {
            (month, year) if fits(month, year) => 1.0,
            (1, year) if fits(12, year - 1) => 0.5,
            (month, year) if month > 1 && fits(month - 1, year) => 0.5,
            _ => return 0.0,
        };
        month + if day { 1.0 } else { 0.0 }
    }

    /// Whether it names any.
    pub(super) fn is_named(&self) -> bool {
        !self.months.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn speakers() -> Vec<Vec<String>> {
        vec![vec!["anna".to_owned()], vec!["will".to_owned()]]
    }

    #[test]
    fn a_question_about_a_speaker_is_put_into_their_mouth() {
        let reword = |query| in_first_person(query, &speakers());
        assert_eq!(
            reword("What is Anna's dog called?"),
            "What is my dog called?"
        );
        assert_eq!(reword("Where does anna live"), "Where does I live");
        assert_eq!(reword("Will it rain?"), "Will it rain?");
        assert_eq!(reword("Where does Will work?"), "Where does I work?");
        assert_eq!(reword("Où habite Zoë ?"), "Où habite Zoë ?");
    }

    #[test]
    fn names_of_speakers_are_no_terms() {
        let question = Question::of("When did Anna's dogs bark, Anna?", &speakers());
        assert_eq!(question.terms, ["dog", "bark"]);
        assert_eq!(question.named, [true, false]);
        assert!(question.when);
    }

    #[test]
    fn a_named_month_fits_what_was_said_in_it_or_soon_after() {
        let period = Question::of("What happened on 7 December 2023?", &[]).period;
        let fit =
            |time: &str| period.fit(time.parse::<DateTime<chrono::Utc>>().unwrap().timestamp());
        assert_eq!(fit("2023-12-20T10:00:00Z"), 1.0);
        assert_eq!(fit("2023-12-08T10:00:00Z"), 2.0);
        assert_eq!(fit("2024-01-20T10:00:00Z"), 0.5);
        assert_eq!(fit("2022-12-07T10:00:00Z"), 0.0);
        assert_eq!(fit("2023-11-07T10:00:00Z"), 0.0);
    }
}
