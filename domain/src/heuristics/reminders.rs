//! Reads what the user asks to remember: "remember that …", "… , don't forget that".

use super::gates::{Statement, is_own};
use super::reading::QUOTED;
use super::{patterns, wording};

patterns! {
    REMEMBER = concat!(
        r"(?i)^(?:(?:please|pls|plz|kindly|can you|could you|will you|would you|i (?:want|",
        r"need|would like|would love|would like for) (?:for )?you to|(?:and |but )?(?:make|",
        r"be) sure (?:to|you|that you)|always|try to|hey|you (?:should|must|need to|have to|",
        r"can)|do|just|also|and|so|ok|okay|oh|now|",
        r"for (?:[\w']+ ){0,3}[\w']+)[ ,:]+)*(?:remember|do not (?:you )?(?:ever )?forget|",
        r"never forget|keep in mind|bear in mind|(?:please note|take note|make a note|note|",
        r"write down|jot down|save|store|memori[sz]e|log|record|note down|put it on record|",
        r"add (?:this )?to (?:your )?memory)(?: (?:of )?(?:this|it|the following))?(?: (?:in|",
        r"to) (?:your )?(?:memory|notes))?(?: for (?:me|later|next time|the future))?(?: that|",
        r"\s*[:,-]| (?:i|my)\b))(?: (?:this|the following|for (?:me|later|the future|",
        r"next time|future reference)|about me|the fact|down|forever|always|in future|",
        r"please))*(?: that|,? please)?(\s*[:,-])?\s*(.*)$",
    );
    REMEMBERED = concat!(
        r"(?i)^(.{4,}?)[ ,.;-]+(?:so |and |but )?(?:please |pls |plz |can you |could you |",
        r"you should |you can |you must |make sure to |just )*(?:(?:remember|do not forget|",
        r"memori[sz]e)(?: (?:that|this|it))?|keep (?:that |this |it )?in mind|(?:note|save|",
        r"store|make a note of|write|jot) (?:that|this|it)(?: down)?)(?: please| pls|",
        r" for (?:me|later|next time|future reference|the future)| ok| okay| in future|",
        r" always)*$",
    );
    NO_REMINDER = concat!(
        r"(?i)^(?:to|when|how|what|who|whom|where|why|which|the time|the day|us|me|him|about|",
        r"if|whether|not to|your|you|it|and|but)\b",
    );
    ASKED_TO = concat!(
        r"(?i)^(?:please |and |so |also |ok |hey )*(?:can|could|will|would) you\b|\b(?:can|",
        r"could|will|would) you (?:please )?(?:remember|keep|note|save)\b",
    );
}

/// What a sentence asks to remember.
pub(super) enum Reminder {
    Of(Statement),
    /// "Remember that": the sentence before.
    OfLast,
    /// A reminder of something that is no statement: "remember to call me".
    Other,
}

/// What a sentence asks to remember, if it does.
pub(super) fn find(text: &str, asks: bool) -> Option<Reminder> {
    // "Remember when we met?" is a question, "can you remember that …?" a request.
    if asks && !ASKED_TO.is_match(text) {
        return None;
    }
    let explicit = |text: &str, note| {
        Reminder::Of(Statement {
            text: text.to_owned(),
            explicit: true,
            note,
        })
    };
    if let Some(found) = REMEMBER.captures(text) {
        let whole = found.get(0)?.as_str();
        let rest = found.get(2).map_or("", |rest| rest.as_str());
        // "note I'm …": the pronoun belongs to the statement.
        let start = whole.len() - rest.len();
        let rest = ["i ", "my "]
            .iter()
            .filter(|_| !rest.is_empty())
            .find(|own| whole[..start].to_lowercase().ends_with(*own))
            .and_then(|own| whole.get(start - own.len()..))
            .unwrap_or(rest);
        let rest = wording::trimmed(rest);
        if rest.is_empty()
            || matches!(
                rest.to_lowercase().as_str(),
                "that" | "this" | "it" | "please"
            )
        {
            return Some(Reminder::OfLast);
        }
        if NO_REMINDER.is_match(rest) || rest.contains(QUOTED) {
            return Some(Reminder::Other);
        }
        let note = found.get(1).is_some_and(|mark| mark.as_str().trim() == ":");
        return Some(explicit(rest, note));
    }
    let found = REMEMBERED.captures(text)?;
    let head = found.get(1)?.as_str();
    is_own(head).then(|| explicit(head, false))
}

/// Whether a line like "Remember:" asks to remember the lines below it.
pub(super) fn announces(text: &str) -> bool {
    REMEMBER.is_match(&format!("{text} that"))
}
