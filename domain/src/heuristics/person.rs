//! Turns the first person into the third: "I love my dog" → "User loves their dog".

use super::lexicon::{self, has};
use super::wording::{capitalised, trimmed};

/// Says a whole clause that begins with "I" or "my" about the user.
pub(super) fn stated(clause: &str) -> Option<String> {
    let (subject, rest) = clause.split_once(' ')?;
    if subject.eq_ignore_ascii_case("my") {
        return Some(format!("User's {}", third(rest)));
    }
    if subject != "I" {
        return None;
    }
    let mut words = rest.split(' ').peekable();
    let mut said = vec!["User".to_owned()];
    while let Some(adverb) = words.next_if(|word| has(lexicon::ADVERBS, word)) {
        said.push(adverb.to_lowercase());
    }
    let verb = words.next()?.to_lowercase();
    let negated = words.next_if(|word| *word == "not").is_some();
    said.push(match (verb.as_str(), negated) {
        ("am", true) => "isn't".to_owned(),
        ("was" | "were", true) => "wasn't".to_owned(),
        ("were", false) => "was".to_owned(),
        ("have", true) => "hasn't".to_owned(),
        ("do", true) => "doesn't".to_owned(),
        ("will", true) => "won't".to_owned(),
        ("can", true) => "can't".to_owned(),
        ("did" | "would" | "could" | "should" | "had", true) => format!("{verb}n't"),
        (_, true) => return None,
        (_, false) => conjugated(&verb),
    });
    // "I practise and train": the second verb is the user's too.
    let present = !negated && !is_past(&verb) && !has(lexicon::MODALS, &verb) && verb != "am";
    if present && words.next_if_eq(&"and").is_some() {
        said.push("and".to_owned());
        said.extend(words.next().map(conjugated));
    }
    let rest: Vec<&str> = words.collect();
    said.push(third(&rest.join(" ")));
    Some(said.join(" ").trim_end().to_owned())
}

/// The third person of a verb that stands behind "I"; past forms and auxiliaries stay.
pub(super) fn conjugated(verb: &str) -> String {
    let verb = verb.to_lowercase();
    match verb.as_str() {
        "am" => return "is".to_owned(),
        "have" => return "has".to_owned(),
        "were" => return "was".to_owned(),
        _ if has(lexicon::MODALS, &verb) || is_past(&verb) => return verb,
        _ => {}
    }
    let consonant_y = verb.ends_with('y')
        && !verb
            .trim_end_matches('y')
            .ends_with(['a', 'e', 'i', 'o', 'u']);
    if consonant_y {
        format!("{}ies", &verb[..verb.len() - 1])
    } else if verb.ends_with(['s', 'x', 'z', 'o']) || verb.ends_with("ch") || verb.ends_with("sh") {
        format!("{verb}es")
    } else {
        format!("{verb}s")
    }
}

/// Whether a verb is in the past tense.
pub(super) fn is_past(verb: &str) -> bool {
    let regular = verb.len() > 4 && verb.ends_with("ed") && !has(lexicon::NOT_PAST, verb);
    let again = ["re", "over", "under", "mis"]
        .iter()
        .find_map(|prefix| verb.strip_prefix(prefix));
    regular
        || has(lexicon::IRREGULAR_PAST, verb)
        || again.is_some_and(|verb| verb.len() > 2 && has(lexicon::IRREGULAR_PAST, verb))
}

/// Says the rest of a clause about the user: "my dog and I" → "their dog and they".
pub(super) fn third(text: &str) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        let core = trimmed(word);
        let other = match core {
            "I" if words.peek().is_some() => "they",
            "me" => "the user",
            "my" | "My" | "our" | "Our" => "their",
            "mine" | "ours" => "theirs",
            "myself" => "themself",
            "ourselves" => "themselves",
            "we" | "We" => "they",
            "us" => "them",
            "am" => "are",
            "not" => {
                if let Some(helper) = said.last_mut().filter(|last| has(lexicon::HELPERS, last)) {
                    *helper = if helper == "can" {
                        "can't".to_owned()
                    } else if helper == "will" {
                        "won't".to_owned()
                    } else {
                        format!("{helper}n't")
                    };
                    continue;
                }
                core
            }
            same => same,
        };
        said.push(if other == core {
            word.to_owned()
        } else {
            word.replacen(core, other, 1)
        });
    }
    said.join(" ")
}

/// Says any sentence about the user: a clause of "I" or "my", or else word by word.
pub(super) fn reported(sentence: &str) -> String {
    stated(sentence).unwrap_or_else(|| capitalised(&third(sentence)))
}
