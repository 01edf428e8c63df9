//! Reads a statement in the third person back: which slot it fills and what it ends. So that a fact
//! that the LLM worded meets the same rules as one that patterns found.

use chrono::DateTime;

use super::{Scene, being, language, patterns, person, rules, wording};

/// What a statement is about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatementReading {
    /// The slot of a single-valued fact: "name", "home".
    pub subject: Option<String>,
    /// The statement that it ends.
    pub negates: Option<String>,
}

patterns! {
    DATED = r" ?\((?:on|in|around|am|im|um|el|en|the week|on the)\b[^)]*\)$";
    OWNED = r"^[Uu]ser'?s (.+)$";
    IS_CALLED = r"(?i)^user(?: is|'s name is|'s full name is) (?:called|named) (.+)$|^user goes by (?:the name )?(.+)$";
    LIVING = r"(?i)^user (?:currently )?(?:resides|is living|is based|is located|now lives|currently lives) in (.+)$";
    EMPLOYED = r"(?i)^user (?:is employed|is working|currently works|now works) (at|for|by|as) (.+)$";
    ALSO = r"(?i)\b(?:also|second job|part[- ]time|side (?:job|gig|hustle)|on the side|besides)\b";
    SAID = r"^User (.+)$";
}

/// The verbs whose first person is another word.
const FIRST: &[(&str, &str)] = &[
    ("is", "am"),
    ("isn't", "am not"),
    ("has", "have"),
    ("hasn't", "have not"),
    ("doesn't", "do not"),
    ("does", "do"),
    ("can't", "can not"),
    ("won't", "will not"),
    ("wasn't", "was not"),
    ("didn't", "did not"),
    ("goes", "go"),
];

/// Whether work that is told with this word stands beside other work rather than replacing it.
pub(super) fn stands_beside(text: &str) -> bool {
    ALSO.is_match(text)
}

/// A statement without the date that is set behind it in brackets.
pub fn without_date(statement: &str) -> String {
    DATED.replace(statement, "").into_owned()
}

/// Reads a statement about "User".
pub fn read_statement(statement: &str) -> StatementReading {
    let statement = without_date(statement);
    if let Some(subject) = language::slot(&statement) {
        return StatementReading {
            subject: Some(subject),
            negates: None,
        };
    }
    let Some(clause) = clause(&statement) else {
        return StatementReading::default();
    };
    let scene = Scene {
        said_at: DateTime::default(),
        zone: chrono_tz::Tz::UTC,
        today: DateTime::<chrono::Utc>::default().date_naive(),
        capitals: true,
        greets: false,
    };
    let mut found = rules::find(&wording::spelled_out(&clause), &scene);
    being::leave_several_jobs(&mut found, "");
    let beside = stands_beside(&statement);
    // "User is Puerto Rican" has the shape of "I am Alice".
    let named = clause.starts_with("my ");
    // One statement, one slot: what fills two would take the place of either.
    let mut filled = found.iter().filter_map(|finding| finding.subject.clone());
    StatementReading {
        subject: filled
            .next()
            .filter(|slot| !(beside && matches!(slot.as_str(), "job" | "employer")))
            .filter(|slot| named || slot != "name"),
        negates: found.into_iter().find_map(|finding| finding.negates),
    }
}

/// The clause in the first person that a statement reports.
fn clause(statement: &str) -> Option<String> {
    if let Some(found) = IS_CALLED.captures(statement) {
        let name = found.get(1).or_else(|| found.get(2))?.as_str();
        return Some(format!("my name is {name}"));
    }
    if let Some(found) = LIVING.captures(statement) {
        return Some(format!("I live in {}", &found[1]));
    }
    if let Some(found) = EMPLOYED.captures(statement) {
        let how = if &found[1] == "by" { "for" } else { &found[1] };
        return Some(format!("I work {how} {}", &found[2]));
    }
    if let Some(found) = OWNED.captures(statement) {
        return Some(format!("my {}", first_person(&found[1])));
    }
    let said = SAID.captures(statement)?;
    let (verb, rest) = said[1].split_once(' ').unwrap_or((&said[1], ""));
    let (no_longer, verb, rest) = match (verb, rest.strip_prefix("longer ")) {
        ("no", Some(rest)) => {
            let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            ("no longer ", verb, rest)
        }
        _ => ("", verb, rest),
    };
    let verb = FIRST
        .iter()
        .find(|(third, _)| *third == verb)
        .map_or_else(|| first(verb), |(_, first)| (*first).to_owned());
    let rest = first_person(rest);
    let clause = match (no_longer, verb.as_str()) {
        ("", _) => format!("I {verb} {rest}"),
        (no_longer, "am") => format!("I am {no_longer}{rest}"),
        (no_longer, _) => format!("I {no_longer}{verb} {rest}"),
    };
    Some(clause.trim_end().to_owned())
}

/// The first person of a verb in the third: "lives" → "live".
fn first(verb: &str) -> String {
    let bases = [
        verb.strip_suffix("ies").map(|stem| format!("{stem}y")),
        verb.strip_suffix("es").map(str::to_owned),
        verb.strip_suffix('s').map(str::to_owned),
    ];
    bases
        .into_iter()
        .flatten()
        .find(|base| person::conjugated(base) == verb)
        .unwrap_or_else(|| verb.to_owned())
}

fn first_person(text: &str) -> String {
    let words: Vec<&str> = text
        .split(' ')
        .map(|word| match word {
            "their" => "my",
            "themself" | "themselves" => "myself",
            same => same,
        })
        .collect();
    words.join(" ")
}
