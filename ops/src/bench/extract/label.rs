//! The labelled set: what is said, and what is to be remembered of it.
//!
//! A statement meets a label when every key word of the label is in it, its kind is one that the label
//! allows, it denies if and only if the label says `not`, and, where the label has a day (or a month,
//! or a year), it happened on that day of the user's zone. A key word is a word of the statement in
//! lower case; `live*` is any word that begins so, `*teacher` any that ends so, `a|b` either of two.

use anyhow::Context;
use chrono::{DateTime, Duration, Utc};
use chrono_tz::Tz;
use companion_domain::extraction::SaidMessage;
use companion_domain::ids::{MessageId, derived};
use companion_domain::memory::MemoryKind;
use companion_domain::text;
use serde::Deserialize;

/// Written before anything was tuned to it; the patterns were then tuned on this part.
const TUNED: &str = include_str!("../../../bench-data/extract.tuned.jsonl");
/// Written at the same time, and run for the final figures only.
const HELD_OUT: &str = include_str!("../../../bench-data/extract.held-out.jsonl");

/// A part of the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Tuned,
    HeldOut,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Tuned => "tuned",
            Self::HeldOut => "held_out",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Tuned => "The part that the patterns were tuned on",
            Self::HeldOut => "The part that was held out",
        }
    }
}

/// What somebody says, one message after the other, and what is to be remembered in the end.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) id: String,
    pub(super) lang: String,
    pub(super) style: String,
    pub(super) class: String,
    pub(super) say: Vec<String>,
    /// When the first message is said; each of the others an hour later.
    #[serde(default = "some_wednesday")]
    at: DateTime<Utc>,
    zone: Option<String>,
    /// What is to be live.
    #[serde(default)]
    pub(super) want: Vec<Label>,
    /// What is true and may be found or not.
    #[serde(default)]
    pub(super) maybe: Vec<Label>,
    /// What is to be kept as superseded.
    #[serde(default)]
    pub(super) was: Vec<Label>,
    /// What a gullible LLM would answer to the last message.
    #[serde(default)]
    pub(super) bait: Vec<String>,
}

/// One statement that is expected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Label {
    pub(super) kind: String,
    pub(super) words: Vec<String>,
    #[serde(default)]
    pub(super) not: bool,
    pub(super) on: Option<String>,
    /// The message that says so, from 1; the last one unless given.
    #[serde(rename = "in")]
    pub(super) said_in: Option<usize>,
}

fn some_wednesday() -> DateTime<Utc> {
    // 13 May 2026, 14:00
    DateTime::from_timestamp(1_778_680_800, 0).unwrap_or_default()
}

/// The items of a part, in order.
pub(super) fn items(part: Part) -> anyhow::Result<Vec<Item>> {
    let lines = match part {
        Part::Tuned => TUNED,
        Part::HeldOut => HELD_OUT,
    };
    lines
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("in the line {line}")))
        .collect()
}

impl Item {
    pub(super) fn zone(&self) -> Tz {
        let given = self.zone.as_deref().and_then(|zone| zone.parse().ok());
        given.unwrap_or(match self.lang.as_str() {
            "de" => Tz::Europe__Berlin,
            "es" => Tz::Europe__Madrid,
            _ => Tz::America__New_York,
        })
    }

    pub(super) fn messages(&self) -> Vec<SaidMessage> {
        let hours = (0..).map(Duration::hours);
        self.say
            .iter()
            .zip(hours)
            .enumerate()
            .map(|(n, (content, later))| SaidMessage {
                id: MessageId(derived(&[&self.id, &n.to_string()])),
                content: content.clone(),
                at: self.at + later,
                zone: self.zone(),
            })
            .collect()
    }
}

/// A memory that came of an item.
#[derive(Debug, Clone)]
pub(super) struct Stated {
    pub(super) content: String,
    pub(super) kind: MemoryKind,
    pub(super) occurred_at: Option<DateTime<Utc>>,
}

impl Label {
    pub(super) fn is_met_by(&self, stated: &Stated, zone: Tz) -> bool {
        // "User's wife" has the word wife.
        let words = text::words(&stated.content.replace("'s", " "));
        let has = |key: &String| key.split('|').any(|key| is_in(key, &words));
        let kind = self
            .kind
            .split('|')
            .any(|kind| kind == stated.kind.as_str());
        let day = stated
            .occurred_at
            .map(|at| at.with_timezone(&zone).format("%Y-%m-%d").to_string());
        let on = match (&self.on, day) {
            (None, _) => true,
            (Some(on), Some(day)) => day.starts_with(on.as_str()),
            (Some(_), None) => false,
        };
        kind && on && self.not == denies(&stated.content) && self.words.iter().all(has)
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let not = if self.not { " not" } else { "" };
        write!(f, "{}{not}: {}", self.kind, self.words.join(", "))?;
        match &self.on {
            Some(on) => write!(f, " on {on}"),
            None => Ok(()),
        }
    }
}

fn is_in(key: &str, words: &[String]) -> bool {
    match (key.strip_prefix('*'), key.strip_suffix('*')) {
        (Some(end), _) => words.iter().any(|word| word.ends_with(end)),
        (_, Some(beginning)) => words.iter().any(|word| word.starts_with(beginning)),
        // Cut as words are: "left-handed" is two.
        _ => text::words(key).iter().all(|key| words.contains(key)),
    }
}

/// Whether a statement denies something.
fn denies(statement: &str) -> bool {
    let statement = statement.to_lowercase();
    // To be unable to stand something denies nothing.
    let statement = statement
        .replace("can't stand", "")
        .replace("can't bear", "");
    let words = text::words(&statement);
    words.iter().any(|word| {
        matches!(
            word.as_str(),
            "not"
                | "no"
                | "never"
                | "longer"
                | "nicht"
                | "nie"
                | "nunca"
                | "doesnt"
                | "isnt"
                | "cant"
                | "hasnt"
        ) || word.starts_with("kein")
    })
}
