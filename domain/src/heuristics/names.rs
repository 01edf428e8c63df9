//! Tells names of people from other words.

use super::lexicon::{self, has};
use super::{patterns, wording};

patterns! {
    NAME_END = concat!(
        r"(?i)\s*(?:,|\(|\s-|\b(?:and|but|by the way|from|so|here|or|though|in|at|what|who|",
        r"not)\b).*$",
    );
    NO_NAME = concat!(
        r"(?i)^(?:not|a|an|the|important|on|in|hard|spelled|spelt|pronounced|also|so|too|very|",
        r"really|kind|always|never|after|similar|common|unusual|rare|long|short|different|",
        r"unique|weird|funny|your|my|his|her|irrelevant|what|none|a secret|secret|private|",
        r"changing|changed|and|to|just|like|there|misspelled|wrong)\b",
    );
}

/// A person's name at the start of a text, given after "my name is": in any case.
pub(super) fn given(text: &str) -> Option<String> {
    let text = wording::without_fillers(text);
    let text = wording::trimmed(NAME_END.find(text).map_or(text, |cut| &text[..cut.start()]));
    let words = text.split(' ').count();
    if text.is_empty() || NO_NAME.is_match(text) || words > 4 || !all_letters(text) {
        return None;
    }
    // "MY NAME IS JEFF" is loud, not a name in capitals.
    let loud = text.chars().filter(|c| c.is_alphabetic()).count() > 3
        && !text.chars().any(char::is_lowercase);
    if loud {
        return Some(wording::title_case(&text.to_lowercase()));
    }
    let capitalised = text.split(' ').all(wording::is_capitalised);
    (capitalised || words <= 3).then(|| {
        if capitalised {
            text.to_owned()
        } else {
            wording::title_case(text)
        }
    })
}

/// A person's name that nothing but its capital tells from other words: "I am Alice".
pub(super) fn capitalised(text: &str) -> Option<String> {
    let text = wording::without_fillers(text);
    let words: Vec<&str> = text.split(' ').collect();
    let title = |word: &str| {
        wording::is_capitalised(word)
            && (word.chars().count() <= 2 || word.chars().any(char::is_lowercase))
    };
    let of_a_kind = words.len() == 1 && has(lexicon::ALONE_OF_KINDS, text)
        || has(lexicon::KINDS_OF_PEOPLE, &text.replace(' ', "-"));
    let plausible = (1..=3).contains(&words.len())
        && !of_a_kind
        && all_letters(text)
        && words.iter().all(|word| title(word))
        && words
            .iter()
            .all(|word| !has(lexicon::MOODS, word) && !is_describing(word));
    plausible.then(|| text.to_owned())
}

fn all_letters(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphabetic() || matches!(c, ' ' | '\'' | '-' | '.'))
}

/// Whether a word looks like an adjective or a participle, or says where or among whom somebody belongs.
fn is_describing(word: &str) -> bool {
    let lower = word.to_lowercase();
    let endings = [
        "ing", "ed", "ful", "ous", "ive", "able", "ible", "ish", "less", "ese", "ical", "ist",
    ];
    lower.len() > 4 && endings.iter().any(|ending| lower.ends_with(ending))
        || lower.ends_with("-american")
        || has(lexicon::NATIONALITIES, &lower)
        || has(lexicon::LANGUAGES, &lower)
        || has(lexicon::KINDS_OF_PEOPLE, &lower)
        || has(lexicon::OF_KINDS, &lower)
        || has(lexicon::TRAITS, &lower)
        || has(lexicon::JOBS, &lower)
        || has(lexicon::STATES, &lower)
        || has(lexicon::KIN, &lower)
}
