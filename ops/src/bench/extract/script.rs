//! Answers of an LLM that are made of the labels: right ones in every wrapping that models use, with
//! what models make up, repeat, and let themselves be told.

use companion_domain::extraction::{KnownStatement, schema};
use serde_json::{Value, json};

use super::label::{Item, Label, Stated};
use companion_domain::memory::MemoryKind;

/// What no message of the set says.
const INVENTED: &[&str] = &[
    "User is a trained astronaut",
    "User has a golden retriever named Max",
    "User's cousin Wilhelmina sells umbrellas in Antwerp",
];

/// The answer to the n-th message of an item, from 1; the item's number says in which way it is bad.
pub(super) fn answer(number: usize, item: &Item, n: usize, known: &[KnownStatement]) -> String {
    let last = item.say.len();
    let of = |labels: &[Label]| -> Vec<Value> {
        labels
            .iter()
            .filter(|label| label.said_in.unwrap_or(last) == n)
            .map(|label| statement(item, label, n, known))
            .collect()
    };
    let mut statements = of(&item.was);
    statements.extend(of(&item.want));
    statements.extend(of(&item.maybe));
    if n == last {
        statements.extend(item.bait.iter().map(|bait| said(bait, "fact", None)));
    }
    match number % 6 {
        1 => format!(
            "Sure! Here is what I noted:\n```json\n{}\n```\nAnything else?",
            json!({ "memories": statements })
        ),
        2 => json!({ "memories": statements })
            .to_string()
            .replace("}]", "},]")
            .replace("null", "None")
            .replace(":None", ": None"),
        3 => {
            statements.extend(INVENTED.iter().map(|invented| said(invented, "fact", None)));
            json!({ "memories": statements }).to_string()
        }
        4 => {
            statements.extend(known.iter().map(|known| said(&known.content, "fact", None)));
            format!("{}\n{}", schema(), json!({ "memories": statements }))
        }
        5 => {
            let whole = json!({ "memories": statements }).to_string();
            let cut = whole.strip_suffix("]}").unwrap_or(&whole);
            let comma = if statements.is_empty() { "" } else { "," };
            format!("<think>The user says something.</think>{cut}{comma}{{\"statement\":\"User ha")
        }
        _ => json!({ "memories": statements }).to_string(),
    }
}

fn statement(item: &Item, label: &Label, n: usize, known: &[KnownStatement]) -> Value {
    let words: Vec<&str> = label
        .words
        .iter()
        .filter_map(|word| word.split('|').next())
        .map(|word| word.trim_matches('*'))
        .collect();
    let not = match (label.not, item.lang.as_str()) {
        (false, _) => "",
        (true, "de") => "nicht ",
        (true, "es") => "no ",
        (true, _) => "does not ",
    };
    let kind = label.kind.split('|').next().unwrap_or("fact");
    let mut value = said(
        &format!("User {not}{}", words.join(" ")),
        kind,
        label.on.as_deref(),
    );
    // Which of what is known does not hold any longer.
    let zone = item.zone();
    let ended = (1..).zip(known).filter(|(_, known)| {
        item.was.iter().any(|was| {
            let stated = Stated {
                content: known.content.clone(),
                kind: MemoryKind::parse(was.kind.split('|').next().unwrap_or_default())
                    .unwrap_or(MemoryKind::Fact),
                occurred_at: None,
            };
            was.said_in.is_some_and(|told| told < n) && was.is_met_by(&stated, zone)
        })
    });
    let ended: Vec<usize> = ended.map(|(at, _)| at).collect();
    value["replaces"] = json!(ended);
    value
}

fn said(statement: &str, kind: &str, on: Option<&str>) -> Value {
    let day = on.map(|on| match on.len() {
        4 => format!("{on}-01-01"),
        7 => format!("{on}-01"),
        9 => format!("{on}7"),
        _ => on.to_owned(),
    });
    json!({
        "statement": statement, "kind": kind, "importance": 0.6, "messages": [1],
        "happened_on": day, "replaces": []
    })
}
