//! Finds with patterns what a user states about themselves, for when no LLM can be reached.
//!
//! A message is read into sentences (`reading`), of which only statements pass (`gates`); these
//! are cut into clauses of one shape, "I …" or "my …" (`clauses`), which the rules read (`rules`
//! and the modules that it names). What no rule knows is left out: a missed fact can be told again,
//! a false one is believed.

use std::collections::HashSet;

use chrono::{DateTime, NaiveDate, Utc};
use regex::Regex;

use self::language::Language;
use crate::memory::MemoryKind;

mod am;
mod being;
mod calendar;
mod clauses;
mod dates;
mod events;
mod foreign_dates;
mod french;
mod gates;
mod german;
mod grammar;
mod have;
mod kin;
mod language;
mod lexicon;
mod life;
mod mine;
mod names;
mod objects;
mod person;
mod reading;
mod reckoned;
mod reminders;
mod rules;
mod spanish;
mod statement;
mod tastes;
mod terse;
mod testimony;
#[cfg(test)]
#[rustfmt::skip] // tables of messages read better unwrapped
mod tests;
mod verbs;
mod wording;
mod work;

pub use self::being::job_in;
pub use self::german::is_german;
pub use self::reckoned::{Stretch, days_meant, without_reckoned_dates};
pub use self::statement::{StatementReading, read_statement, without_date};
pub use self::testimony::{
    Testimony, about_the_user, asked_to_remember, is_about_oneself, is_about_the_talk, testimony,
    why_silent,
};

/// The longest content of a finding, in characters.
const MAX_CONTENT: usize = 300;
/// The most findings of one message: more is pasted text rather than talk.
const MAX_FINDINGS: usize = 40;
/// The importance of what the user asked to remember.
const EXPLICIT: f64 = 0.9;

/// One statement found in a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// The statement in the third person, readable on its own: "User's name is Alice"; 1..=300
    /// characters.
    pub content: String,
    /// What kind of thing it states.
    pub kind: MemoryKind,
    /// How much it matters, 0..=1.
    pub importance: f64,
    /// When it happened or will happen, as far as the message dates it.
    pub occurred_at: Option<DateTime<Utc>>,
    /// The slot it fills, when only one statement can hold at a time: "name", "home",
    /// "favourite:color".
    pub subject: Option<String>,
    /// The positive statement that this one ends: "User works at Acme" for "User no longer works
    /// at Acme".
    pub negates: Option<String>,
    /// Whether the user asked to remember it.
    pub explicit: bool,
}

/// Finds what a message states about its writer, in the order of the message.
///
/// `said_at` and the writer's `zone` give relative dates ("next Friday") their day; a day without a
/// time counts as its noon in that zone. Questions, requests, quotations, suppositions and small
/// talk give nothing.
pub fn extract(message: &str, said_at: DateTime<Utc>, zone: chrono_tz::Tz) -> Vec<Finding> {
    let scene = Scene {
        said_at,
        zone,
        today: dates::local_day(said_at, zone),
        capitals: wording::uses_capitals(message),
        greets: german::greets(message),
    };
    if gates::gives_nothing(message) {
        return Vec::new();
    }
    // French has small words in common with Spanish.
    let mut found = french::find(message);
    match language::of(message) {
        Language::German => found.extend(german::find(message, &scene)),
        Language::Spanish => found.extend(spanish::find(message, &scene)),
        Language::English => in_english(message, &scene, &mut found),
    }
    being::leave_several_jobs(&mut found, message);
    finish(found)
}

/// Adds what a message in English states.
fn in_english(message: &str, scene: &Scene, found: &mut Vec<Finding>) {
    let mut spoken_of = None;
    for statement in gates::statements(message) {
        let mut stated: Vec<Finding> = Vec::new();
        for clause in clauses::split(&statement.text) {
            stated.extend(kin::name_of(&clause, spoken_of.as_deref()));
            let continued = kin::continued(&clause, spoken_of.as_deref());
            stated.extend(rules::find(continued.as_deref().unwrap_or(&clause), scene));
            spoken_of = kin::spoken_of(&clause).or(spoken_of.filter(|_| kin::goes_on(&clause)));
        }
        if statement::stands_beside(&statement.text) {
            for finding in &mut stated {
                finding.subject = finding
                    .subject
                    .take()
                    .filter(|slot| !matches!(slot.as_str(), "job" | "employer"));
            }
        }
        // "Name's Dave. 41. Plumber.": a number or a trade alone, among what somebody says of themselves.
        if stated.is_empty() && !found.is_empty() && statement.text.split(' ').count() <= 3 {
            stated.extend(alone(&statement.text, found));
        }
        if statement.explicit {
            if stated.is_empty() {
                stated.extend(rules::as_told(&statement, scene));
            }
            for finding in &mut stated {
                finding.explicit = true;
                finding.importance = finding.importance.max(EXPLICIT);
            }
        }
        found.append(&mut stated);
        if found.len() >= MAX_FINDINGS {
            break;
        }
    }
}

/// The age or the trade that a sentence is nothing but, behind what was found before it. A number is an age
/// only in an introduction: it answers any "how many".
fn alone(text: &str, before: &[Finding]) -> Option<Finding> {
    let introduces = |finding: &Finding| {
        let slot = finding.subject.as_deref();
        slot.is_some_and(|slot| ["name", "job", "home", "origin"].contains(&slot))
    };
    if text.len() == 2 && before.iter().any(introduces) && text.parse::<u32>().is_ok() {
        return am::age(text);
    }
    let trade = objects::role(text)?;
    Some(being::job(&trade, 0.7))
}

/// What a message's words are read against.
struct Scene {
    said_at: DateTime<Utc>,
    zone: chrono_tz::Tz,
    /// The writer's date when the message was sent.
    today: NaiveDate,
    /// Whether the writer uses capital letters, so that their absence means something.
    capitals: bool,
    /// Whether the message begins with a greeting in German, as an introduction does.
    greets: bool,
}

/// How a group of rules reads a clause that was freed of its date: nothing when it isn't theirs.
type Reading = fn(&str, Option<&dates::When>, &Scene) -> Option<Vec<Finding>>;

impl Finding {
    fn new(kind: MemoryKind, importance: f64, content: impl Into<String>) -> Self {
        Self {
            content: content.into(),
            kind,
            importance,
            occurred_at: None,
            subject: None,
            negates: None,
            explicit: false,
        }
    }

    fn fact(importance: f64, content: impl Into<String>) -> Self {
        Self::new(MemoryKind::Fact, importance, content)
    }

    fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    fn ending(mut self, positive: impl Into<String>) -> Self {
        self.negates = Some(positive.into());
        self
    }

    fn on(mut self, when: Option<&dates::When>) -> Self {
        if let Some(when) = when {
            self.content = format!("{} ({})", self.content, when.label);
            self.occurred_at = Some(when.at);
        }
        self
    }
}

/// Cleans the contents and drops repetitions and what became empty.
fn finish(found: Vec<Finding>) -> Vec<Finding> {
    let mut seen = HashSet::new();
    found
        .into_iter()
        .map(|finding| {
            let content = wording::clean(&finding.content, MAX_CONTENT);
            let negates = finding
                .negates
                .map(|positive| wording::clean(&positive, MAX_CONTENT));
            Finding {
                content,
                negates,
                ..finding
            }
        })
        .filter(|finding| {
            !finding.content.is_empty() && seen.insert(finding.content.to_lowercase())
        })
        .take(MAX_FINDINGS)
        .collect()
}

/// Declares patterns that are compiled once, on first use, and a test's way to compile them all.
macro_rules! patterns {
    ($($name:ident = $literal:expr;)*) => {
        $(static $name: std::sync::LazyLock<regex::Regex> =
            std::sync::LazyLock::new(|| $crate::heuristics::compiled($literal));)*
        #[cfg(test)]
        pub(super) fn compile_all() {
            $(std::sync::LazyLock::force(&$name);)*
        }
    };
}
use patterns;

#[expect(
    clippy::expect_used,
    reason = "the patterns are literals, and a test compiles each"
)]
fn compiled(literal: &str) -> Regex {
    Regex::new(literal).expect("a literal pattern compiles")
}
