//! Reads the LLM's answer, however it is wrapped or broken, and keeps what can be believed of it.

use chrono::{DateTime, Datelike, NaiveDate, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use super::evidence::{ECHO, Evidence};
use super::{Candidate, Extracted, KnownStatement, MAX_STATEMENTS, SaidMessage};
use super::{patterns_in, shares_most};
use crate::heuristics;
use crate::memory::{MemoryKind, clamp_importance};
use crate::text;

/// The longest statement that is believed, in characters.
const MAX_STATEMENT: usize = 2_000;

/// An answer of the LLM that can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// There is no JSON in it.
    #[error("the answer is not JSON")]
    NotJson,
    /// The JSON has no list of memories.
    #[error("the answer has no list of memories")]
    NoList,
    /// The answer was cut off at the token limit.
    #[error("the answer was cut off")]
    CutOff,
}

impl Unusable {
    /// The stable name, as it is stored.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NoList => "no_list",
            Self::CutOff => "cut_off",
        }
    }
}

/// Why a statement is left out that is a piece of a message.
const COPY: &str = "a copy of a message";

/// One statement as the LLM answers it.
#[derive(Debug)]
struct Answered {
    statement: String,
    kind: Option<MemoryKind>,
    importance: Option<f64>,
    messages: Vec<usize>,
    happened_on: Option<String>,
    replaces: Vec<usize>,
}

impl Answered {
    /// Reads one, if it is one. Tolerant: models leave fields out, rename them, and write "K1" for 1, or 1
    /// for [1].
    fn read(item: &Value) -> Option<Self> {
        let field = |names: &[&str]| {
            names
                .iter()
                .find_map(|name| item.get(*name).filter(|value| !value.is_null()))
        };
        let text = |names: &[&str]| field(names)?.as_str();
        let importance = field(&["importance"]).and_then(|value| match value {
            Value::String(text) => text.trim().parse().ok(),
            value => value.as_f64(),
        });
        Some(Self {
            statement: text(&["statement", "content", "text", "fact", "memory"])?.to_owned(),
            kind: text(&["kind", "type"]).and_then(|kind| MemoryKind::parse(&kind.to_lowercase())),
            importance,
            messages: field(&["messages", "sources"]).map_or_else(Vec::new, numbers),
            happened_on: text(&["happened_on", "occurred_at"]).map(str::to_owned),
            replaces: field(&["replaces"]).map_or_else(Vec::new, numbers),
        })
    }
}

/// The numbers in a value, however it holds them.
fn numbers(value: &Value) -> Vec<usize> {
    match value {
        Value::Array(values) => values.iter().flat_map(numbers).collect(),
        Value::Number(number) => number
            .as_u64()
            .into_iter()
            .filter_map(|n| usize::try_from(n).ok())
            .collect(),
        Value::String(text) => {
            let digits = text.split(|c: char| !c.is_ascii_digit());
            digits.filter_map(|digits| digits.parse().ok()).collect()
        }
        _ => Vec::new(),
    }
}

/// Reads an answer of the LLM and keeps what can be believed.
///
/// # Errors
/// [`Unusable`] when the answer as a whole makes no sense; single statements that make none are
/// left out and counted.
pub fn read_answer(
    answer: &str,
    messages: &[SaidMessage],
    known: &[KnownStatement],
) -> Result<Extracted, Unusable> {
    let items = items(answer)?;
    let evidence = Evidence::of(messages, known);
    let mut extracted = Extracted::default();
    let mut copied: Vec<&SaidMessage> = Vec::new();
    for item in items {
        let kept = if extracted.candidates.len() >= MAX_STATEMENTS {
            Err("too many")
        } else {
            believe(item, messages, known, &evidence)
        };
        let kept = kept.and_then(|candidate| {
            let Some(message) = copied_from(&candidate.content, messages) else {
                return Ok(candidate);
            };
            copied.push(message);
            Err(COPY)
        });
        match kept {
            Ok(candidate) => extracted.candidates.push(candidate),
            Err(reason) => *extracted.left_out.entry(reason).or_default() += 1,
        }
    }
    rate_where_none_is_rated(&mut extracted.candidates);
    for message in copied {
        add_patterns(&mut extracted, message);
    }
    leave_out_what_is_replaced(&mut extracted, known);
    leave_several_jobs(&mut extracted);
    Ok(extracted)
}

/// An LLM that names facts and rates all of them at nothing has rated none: nobody would ever see them.
fn rate_where_none_is_rated(candidates: &mut [Candidate]) {
    if candidates
        .iter()
        .all(|candidate| candidate.importance == 0.0)
    {
        for candidate in candidates {
            candidate.importance = clamp_importance(f64::NAN);
        }
    }
}

/// Who tells of several jobs at once has them all: none takes the place of another.
fn leave_several_jobs(extracted: &mut Extracted) {
    let is_job = |candidate: &Candidate| candidate.subject.as_deref() == Some("job");
    let told_with = |one: &Candidate, other: &Candidate| {
        other
            .sources
            .iter()
            .any(|message| one.sources.contains(message))
            && heuristics::job_in(&one.content) != heuristics::job_in(&other.content)
    };
    let jobs = || {
        extracted
            .candidates
            .iter()
            .filter(|candidate| is_job(candidate))
    };
    let several: Vec<bool> = extracted
        .candidates
        .iter()
        .map(|one| is_job(one) && jobs().any(|other| told_with(one, other)))
        .collect();
    for (candidate, several) in extracted.candidates.iter_mut().zip(several) {
        candidate.subject = candidate.subject.take().filter(|_| !several);
    }
}

/// Leaves out what is known and repeated beside the statement that replaces it: "I live in Potsdam, not
/// Berlin" has the word for both.
fn leave_out_what_is_replaced(extracted: &mut Extracted, known: &[KnownStatement]) {
    let known_as = |candidate: &Candidate| {
        let form = text::normal_form(&candidate.content);
        known
            .iter()
            .find(|known| text::normal_form(&known.content) == form)
            .map(|known| known.id)
    };
    let new: Vec<Candidate> = extracted
        .candidates
        .iter()
        .filter(|candidate| known_as(candidate).is_none())
        .cloned()
        .collect();
    let before = extracted.candidates.len();
    extracted.candidates.retain(|candidate| {
        let Some(id) = known_as(candidate) else {
            return true;
        };
        let takes_its_place = |new: &Candidate| {
            new.replaces.contains(&id)
                || candidate.subject.is_some() && new.subject == candidate.subject
        };
        !new.iter().any(takes_its_place)
    });
    let dropped = before - extracted.candidates.len();
    if dropped > 0 {
        let count = u32::try_from(dropped).unwrap_or(u32::MAX);
        *extracted.left_out.entry(ECHO).or_default() += count;
    }
}

fn believe(
    item: Value,
    messages: &[SaidMessage],
    known: &[KnownStatement],
    evidence: &Evidence,
) -> Result<Candidate, &'static str> {
    let answered = match item {
        Value::String(statement) => serde_json::json!({ "statement": statement }),
        item => item,
    };
    let answered = Answered::read(&answered).ok_or("not understood")?;
    let content = heuristics::about_the_user(&answered.statement);
    if content.is_empty() || content.contains('\0') {
        return Err("empty");
    }
    if content.chars().count() > MAX_STATEMENT {
        return Err("too long");
    }
    if content.ends_with(['?', '？']) {
        return Err("a question");
    }
    if heuristics::is_about_the_talk(&content) {
        return Err("about the conversation");
    }
    // With one message there is no doubt which one is meant, whatever number the model wrote.
    let named: Vec<usize> = match messages {
        [_] => vec![0],
        _ => (0..messages.len())
            .filter(|at| answered.messages.contains(&(at + 1)))
            .collect(),
    };
    let sources: Vec<&SaidMessage> = evidence
        .bearing_out(&content, &named)?
        .into_iter()
        .filter_map(|at| messages.get(at))
        .collect();
    let Some(last) = sources.iter().max_by_key(|source| source.at) else {
        return Err("no evidence in the messages");
    };
    let reading = heuristics::read_statement(&content);
    Ok(Candidate {
        kind: answered.kind.unwrap_or(MemoryKind::Fact),
        importance: clamp_importance(answered.importance.unwrap_or(f64::NAN)),
        explicit: false,
        sources: sources.iter().map(|source| source.id).collect(),
        said_at: last.at,
        occurred_at: answered
            .happened_on
            .as_deref()
            .and_then(|date| noon(date, last.zone)),
        subject: reading.subject,
        negates: reading.negates,
        replaces: answered
            .replaces
            .iter()
            .filter_map(|n| n.checked_sub(1).and_then(|n| known.get(n)))
            .map(|known| known.id)
            .collect(),
        by_patterns: false,
        content,
    })
}

/// The message of which a statement is no more than a piece, in the user's own words, if patterns make
/// statements of it: small models copy what they ought to read, greetings and all.
fn copied_from<'m>(statement: &str, messages: &'m [SaidMessage]) -> Option<&'m SaidMessage> {
    if !heuristics::is_about_oneself(statement) {
        return None;
    }
    let padded = |text: &str| format!(" {} ", text::normal_form(text));
    let copied = padded(statement);
    let mut holding = messages
        .iter()
        .filter(|message| padded(&message.content).contains(&copied));
    holding.find(|message| !patterns_in(message).is_empty())
}

/// Puts what patterns make of a message beside what was stated of it otherwise.
fn add_patterns(extracted: &mut Extracted, message: &SaidMessage) {
    for found in patterns_in(message) {
        let known = |other: &Candidate| {
            other.sources.contains(&message.id) && shares_most(&other.content, &found.content)
        };
        if !extracted.candidates.iter().any(known) {
            extracted.candidates.push(found);
        }
    }
}

/// Noon of a date in the user's zone: the day is right in every neighbouring zone too.
fn noon(date: &str, zone: Tz) -> Option<DateTime<Utc>> {
    let day = NaiveDate::parse_from_str(date.get(..10)?, "%Y-%m-%d").ok()?;
    // What an LLM makes up may lie where PostgreSQL has no time.
    if !(1..=9999).contains(&day.year()) {
        return None;
    }
    let noon = zone
        .from_local_datetime(&day.and_hms_opt(12, 0, 0)?)
        .earliest()?;
    Some(noon.with_timezone(&Utc))
}

/// The items of the list that an answer holds. Models wrap it in prose, thoughts and code fences,
/// repeat the schema before it, leave commas behind, and lose the end.
fn items(answer: &str) -> Result<Vec<Value>, Unusable> {
    let answer = text::without_thoughts(answer);
    if answer.trim() == "[]" {
        return Ok(Vec::new());
    }
    let mut seen_json = false;
    for text in [answer.to_owned(), mended(answer)] {
        for value in values(&text) {
            seen_json = true;
            if let Some(list) = list(value) {
                return Ok(list);
            }
        }
    }
    // The list's end is lost: what is complete of it counts.
    let mended = mended(answer);
    let whole: Vec<Value> = values(&mended)
        .filter(|value| Answered::read(value).is_some())
        .collect();
    if !whole.is_empty() {
        return Ok(whole);
    }
    Err(if seen_json {
        Unusable::NoList
    } else {
        Unusable::NotJson
    })
}

fn list(value: Value) -> Option<Vec<Value>> {
    // An array inside a broken answer is no list of statements.
    let is_item = |item: &Value| match item {
        Value::String(statement) => statement.contains(' '),
        item => Answered::read(item).is_some(),
    };
    match value {
        Value::Array(list) if !list.is_empty() && list.iter().all(is_item) => Some(list),
        Value::Object(mut object) => {
            ["memories", "facts"]
                .iter()
                .find_map(|name| match object.remove(*name) {
                    Some(Value::Array(list)) => Some(list),
                    _ => None,
                })
        }
        _ => None,
    }
}

/// The JSON objects and arrays in a text, those that begin first first, and of one that is broken
/// those inside it.
fn values(text: &str) -> impl Iterator<Item = Value> + '_ {
    let mut from = 0;
    let mut starts = 0;
    std::iter::from_fn(move || {
        while starts < 200 {
            let start = from + text.get(from..)?.find(['{', '['])?;
            starts += 1;
            let mut stream =
                serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
            match stream.next() {
                Some(Ok(value)) => {
                    from = start + stream.byte_offset();
                    return Some(value);
                }
                _ => from = start + 1,
            }
        }
        None
    })
}

/// The text with what models write where JSON has no room for it: commas before a closing bracket,
/// line breaks inside strings, the constants of other languages.
fn mended(text: &str) -> String {
    let mut mended = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        if in_string {
            match c {
                '\n' if !escaped => mended.push_str("\\n"),
                c => mended.push(c),
            }
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '"' => in_string = true,
            ',' if text[at + 1..].trim_start().starts_with(['}', ']']) => continue,
            _ => {}
        }
        mended.push(c);
    }
    for (theirs, ours) in [
        (": None", ": null"),
        (": True", ": true"),
        (": False", ": false"),
    ] {
        mended = mended.replace(theirs, ours);
    }
    mended
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MemoryId, MessageId, derived};

    fn said(content: &str) -> SaidMessage {
        SaidMessage {
            id: MessageId(derived(&[content])),
            content: content.to_owned(),
            at: DateTime::from_timestamp(1_760_000_000, 0).expect("in range"),
            zone: Tz::UTC,
        }
    }

    fn one(answer: &str, messages: &[SaidMessage]) -> Extracted {
        read_answer(answer, messages, &[]).expect("usable")
    }

    #[test]
    fn a_statement_with_evidence_is_believed() {
        let messages = [said("hi"), said("my sister Anna lives in Porto")];
        let answer = r#"{"memories":[{"statement":"User's sister Anna lives in Porto","kind":"fact",
            "importance":7,"messages":[2],"happened_on":null,"replaces":[]}]}"#;
        let extracted = one(answer, &messages);
        assert_eq!(extracted.candidates[0].sources, [messages[1].id]);
        assert_eq!(extracted.candidates[0].importance, 1.0);
    }

    #[test]
    fn json_is_found_however_it_is_wrapped_or_broken() {
        let messages = [said("I love tea and I have a dog")];
        for (answer, count) in [
            (
                "Sure! Here:\n```json\n{\"facts\": [{\"fact\": \"User loves tea\"}]}\n```",
                1,
            ),
            (
                "<think>{\"memories\": [\"User is a pilot\"]}</think>{\"memories\":[\"User loves tea\"]}",
                1,
            ),
            (
                "{\"memories\":[{\"statement\":\"User loves tea\",},{\"statement\":\"User has a dog\"},],}",
                2,
            ),
            (
                "{\"memories\":[{\"statement\":\"User loves tea\"},{\"statement\":\"User ha",
                1,
            ),
            (
                "{\"statement\":\"User loves tea\"}\n{\"statement\":\"User has a dog\"}",
                2,
            ),
            (
                "{\"memories\":[{\"statement\":\"User loves\ntea\", \"happened_on\": None}]}",
                1,
            ),
            ("[\"User loves tea\", \"User has a dog\"]", 2),
            (
                "{\"memories\":[{\"statement\":\"User loves tea\",\"messages\":[1],\"replaces\":[]},],}",
                1,
            ),
        ] {
            assert_eq!(one(answer, &messages).candidates.len(), count, "{answer}");
        }
    }

    #[test]
    fn fields_are_read_however_they_are_written() {
        let known = [KnownStatement {
            id: MemoryId(derived(&["k"])),
            content: "User lives in Berlin".to_owned(),
        }];
        let messages = [said("hi"), said("I live in Potsdam now")];
        for (fields, replaces, importance) in [
            (
                r#""replaces":["K1"],"messages":1,"messages":"2""#,
                true,
                0.5,
            ),
            (
                r#""replaces":null,"messages":2,"importance":"0.8""#,
                false,
                0.8,
            ),
            (
                r#""replaces":"K1","messages":["[2]"],"importance":0.8"#,
                true,
                0.8,
            ),
            (
                r#""replaces":[1],"messages":[2],"kind":7,"happened_on":3"#,
                true,
                0.5,
            ),
        ] {
            let answer =
                format!(r#"{{"memories":[{{"statement":"User lives in Potsdam",{fields}}}]}}"#);
            let read = read_answer(&answer, &messages, &known).expect("usable");
            let [only] = read.candidates.as_slice() else {
                panic!("{fields}: {read:?}")
            };
            assert_eq!(!only.replaces.is_empty(), replaces, "{fields}");
            assert_eq!(only.importance, importance, "{fields}");
        }
    }

    #[test]
    fn two_jobs_that_are_told_at_once_stand_beside_each_other() {
        let answer = r#"{"memories":["User is a writer", "User is a photographer"]}"#;
        let both = one(answer, &[said("I'm a writer and a photographer")]).candidates;
        assert_eq!(both.len(), 2);
        assert!(both.iter().all(|job| job.subject.is_none()), "{both:?}");
        let only = one(r#"["User is a writer"]"#, &[said("I'm a writer")]).candidates;
        assert_eq!(only[0].subject.as_deref(), Some("job"));
    }

    #[test]
    fn an_answer_without_a_list_is_unusable() {
        let messages = [said("I love tea")];
        for (answer, why) in [
            ("I can't do that", Unusable::NotJson),
            ("{\"memories\": \"none\"}", Unusable::NoList),
            ("<think>[\"User loves tea\"] it may be", Unusable::NotJson),
            ("{\"memories\":[{\"statement\":", Unusable::NotJson),
        ] {
            let read = read_answer(answer, &messages, &[]);
            assert_eq!(read, Err(why), "{answer}");
        }
    }

    #[test]
    fn an_answer_that_repeats_the_schema_gives_nothing() {
        let messages = [said("I love tea")];
        let echoed = super::super::schema().to_string();
        assert!(read_answer(&echoed, &messages, &[]).is_err());
        let then = format!("{echoed}\n{{\"memories\":[\"User loves tea\"]}}");
        assert_eq!(one(&then, &messages).candidates.len(), 1);
    }

    #[test]
    fn an_empty_list_is_an_answer() {
        assert_eq!(
            one("{\"memories\":[]}", &[said("hello")]),
            Extracted::default()
        );
    }

    #[test]
    fn a_statement_in_another_script_finds_its_evidence() {
        let messages = [said("我住在北京")];
        let extracted = one(r#"{"memories":[{"statement":"用户住在北京"}]}"#, &messages);
        assert_eq!(extracted.candidates.len(), 1);
    }

    #[test]
    fn what_is_no_fact_about_the_user_is_left_out_and_counted() {
        let messages = [
            said("I had soup today"),
            said("What is the capital of Peru?"),
        ];
        for (statement, why) in [
            ("User is a pilot", "no evidence in the messages"),
            (
                "User asked for the capital of Peru",
                "about the conversation",
            ),
            ("Does the user like soup?", "a question"),
            ("", "empty"),
        ] {
            let answer =
                serde_json::json!({"memories": [{"statement": statement, "messages": [1, 2]}]});
            let extracted = one(&answer.to_string(), &messages);
            assert!(extracted.candidates.is_empty(), "{statement}");
            assert_eq!(extracted.left_out.get(why), Some(&1), "{statement}");
        }
    }

    #[test]
    fn a_known_fact_that_is_repeated_is_left_out() {
        let known = [KnownStatement {
            id: MemoryId(derived(&["k"])),
            content: "User has a greyhound called Biscuit".to_owned(),
        }];
        let answer = r#"{"memories":["User has a greyhound called Biscuit"]}"#;
        let echo = read_answer(answer, &[said("Biscuit ate my shoe")], &known).expect("usable");
        assert_eq!(echo.left_out.get("an echo of what is known"), Some(&1));
        let again = [said("My greyhound is called Biscuit")];
        let again = read_answer(answer, &again, &known).expect("usable");
        assert_eq!(again.candidates.len(), 1, "told again");
    }

    #[test]
    fn what_is_known_is_not_repeated_beside_what_takes_its_place() {
        let known = [KnownStatement {
            id: MemoryId(derived(&["k"])),
            content: "User lives in Berlin".to_owned(),
        }];
        let answer = r#"{"memories":["User lives in Potsdam", "User lives in Berlin"]}"#;
        let messages = [said("I live in Potsdam, not Berlin")];
        let found = read_answer(answer, &messages, &known).expect("usable");
        let contents: Vec<_> = found.candidates.iter().map(|c| &c.content).collect();
        assert_eq!(contents, ["User lives in Potsdam"]);
        assert_eq!(found.left_out.get(ECHO), Some(&1));
    }

    #[test]
    fn facts_that_are_all_rated_at_nothing_count_as_not_rated() {
        let messages = [said("I live in Porto and I like bread")];
        let rated = |home: &str, bread: &str| -> Vec<f64> {
            let answer = format!(
                r#"{{"memories":[{{"statement":"User lives in Porto","importance":{home}}},
                                 {{"statement":"User likes bread","importance":{bread}}}]}}"#
            );
            let found = one(&answer, &messages).candidates;
            found.iter().map(|found| found.importance).collect()
        };
        assert_eq!(rated("0", "0"), rated("null", "null"));
        assert_eq!(rated("\"0.0\"", "0"), rated("null", "null"));
        assert_eq!(rated("0.8", "0"), [0.8, 0.0], "that one matters less");
    }

    #[test]
    fn of_a_message_that_is_copied_patterns_make_statements() {
        let messages = [said(
            "Hello, my name is Alice and I love programming in Rust",
        )];
        let contents = |statements: &[&str]| -> Vec<String> {
            let answer = serde_json::json!({ "memories": statements }).to_string();
            let found = read_answer(&answer, &messages, &[]).expect("usable");
            assert_eq!(found.left_out.get(COPY), Some(&1), "{statements:?}");
            found.candidates.into_iter().map(|c| c.content).collect()
        };
        let stated = ["User's name is Alice", "User loves programming in Rust"];
        assert_eq!(contents(&[&messages[0].content]), stated);
        assert_eq!(contents(&["I love programming in Rust."]), stated);
        let beside = ["User's name is Alice", "I love programming in Rust"];
        assert_eq!(contents(&beside), stated);
    }

    #[test]
    fn what_is_said_of_others_or_read_by_no_pattern_may_be_told_in_the_users_words() {
        let told = |words: &str, message: String| {
            let answer = serde_json::json!({ "memories": [words] }).to_string();
            let found = read_answer(&answer, &[said(&message)], &[]).expect("usable");
            let contents: Vec<_> = found.candidates.into_iter().map(|c| c.content).collect();
            assert_eq!(contents, [words]);
        };
        for words in [
            "Alice works at the harbour",
            "Anna lives in the US",
            "Leo has type I diabetes",
            "Milo is allergic to soy",
            "Bob lives in Portland, ME",
        ] {
            // Of the rest patterns make a statement.
            told(words, format!("{words}. I live in Porto."));
        }
        told("Mi chiamo Marco", "Mi chiamo Marco".to_owned());
    }

    #[test]
    fn the_slot_of_a_statement_is_seen_by_code() {
        let messages = [said("I live in Porto now")];
        let found = one(r#"{"memories":["The user lives in Porto"]}"#, &messages).candidates;
        assert_eq!(found[0].content, "User lives in Porto");
        assert_eq!(found[0].subject.as_deref(), Some("home"));
    }
}
