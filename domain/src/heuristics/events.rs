//! What happens on a date: nearly every verb counts, as the date makes it worth keeping.

use super::calendar::Tense;
use super::dates::When;
use super::lexicon::{self, has};
use super::{Finding, objects, patterns, person};
use crate::memory::MemoryKind;

patterns! {
    DOING = r"(?i)^(?:not )?(\w+ing)\b";
    PASSING = concat!(
        r"(?i)^(?:feeling|remembering|looking|thinking|wondering|trying|hoping|asking|talking|",
        r"having trouble|having a hard|having issues|being|getting tired|struggling|guessing|",
        r"assuming|wanting|telling|kidding|joking|dying|loving|doing|using|reading|waiting|",
        r"working|living|checking)\b",
    );
    AWAY = concat!(
        r"(?i)^(?:going to|off to|in (?-i:[A-Z])\w*|at (?:the|a|my)|away|back in|back at|",
        r"back from|out of (?:town|office)|on (?:vacation|holiday|call|leave|a)|free|busy|due|",
        r"invited|scheduled|booked|supposed to|turning|giving birth|expecting)\b",
    );
    STATE_PAST = concat!(
        r"(?i)^(?:in|at|on|born|promoted|fired|hired|invited|diagnosed|accepted|admitted|",
        r"robbed|attacked|elected|chosen|given|awarded|married|sick with|hospitalized|",
        r"hospitalised|laid|ill with|stuck in|interviewed|baptized|involved)\b",
    );
    HAVING = concat!(
        r"(?i)^(?:an?|my|our|two|three|four|\d+|some|another|to (?:go|fly|drive|travel|move|",
        r"take|give|present|attend|visit|meet|pick|work|be at|be in|renew|submit|hand in|",
        r"finish|see (?:the|my|a))|lunch|dinner|breakfast|(?:\w+ )?surgery|school|exams|finals|plans|",
        r"tickets|work|class|classes|drinks|coffee with|brunch|friends|family|guests|therapy|",
        r"practice|training|the) ?",
    );
    TRIVIAL = concat!(
        r"(?i)^(?:a )?(?:question|problem|issue|idea|feeling|headache|thought|great|good|nice|",
        r"bad|terrible|lovely|rough|hard|busy|long|fun|chat|call with you|lot|hard time|blast|",
        r"ball|minute|moment|break|dream)\b",
    );
    NOT_DONE = r"(?i)^(?:to|that|about|how|what|if|like|not)\b";
    GENERAL = concat!(
        r"(?i)^(?:it|that|this|him|her|them|so|there|everything|nothing|something|my best|",
        r"well|badly|late|early|you)\b",
    );
}

/// Whether a clause speaks of the past or of what comes.
pub(super) fn tense(clause: &str) -> Tense {
    let mut words = clause.split(' ').skip(1).take(7).map(str::to_lowercase);
    let own = clause.starts_with("I ");
    let first = words
        .find(|word| !has(lexicon::ADVERBS, word))
        .unwrap_or_default();
    let past = if own {
        let perfect = first == "have" && words.next().is_some_and(|next| person::is_past(&next));
        person::is_past(&first) || perfect
    } else {
        let verbs = ["is", "are", "will", "has", "starts", "ends"];
        let verb = words.find(|word| has(&verbs, word) || person::is_past(word));
        person::is_past(&first) || verb.is_some_and(|verb| person::is_past(&verb))
    };
    if past { Tense::Past } else { Tense::Future }
}

/// The event that a dated clause tells; `clause` is without its date.
pub(super) fn dated(clause: &str, when: &When) -> Option<Finding> {
    let rest = clause.strip_prefix("I ")?;
    let (verb, after) = rest.split_once(' ')?;
    let (verb, after) = if has(lexicon::ADVERBS, verb) {
        after.split_once(' ')?
    } else {
        (verb, after)
    };
    let importance = match verb.to_lowercase().as_str() {
        "am" => {
            let doing = DOING.captures(after).is_some() && !PASSING.is_match(after);
            (doing || AWAY.is_match(after)).then_some(0.6)?
        }
        "was" => {
            let doing = DOING.is_match(after) && !PASSING.is_match(after);
            (doing || STATE_PAST.is_match(after)).then_some(0.5)?
        }
        "have" | "had" => {
            let bare = after
                .trim_start_matches("a ")
                .trim_start_matches("an ")
                .trim_start_matches("my ");
            (HAVING.is_match(after) && !TRIVIAL.is_match(bare)).then_some(0.6)?
        }
        "will" => (!NOT_DONE.is_match(after)
            && !after.starts_with("be ")
            && !after.split(' ').any(|word| has(lexicon::STATES, word))
            && !after.starts_with("let "))
        .then_some(0.5)?,
        state if has(lexicon::STATES, state) || has(lexicon::MODALS, state) && state != "got" => {
            return None;
        }
        _ if GENERAL.is_match(after) => return None,
        _ => 0.6,
    };
    objects::object(after)?;
    let said = objects::object(rest)?;
    let content = person::stated(&format!("I {said}"))?;
    Some(Finding::new(MemoryKind::Event, importance, content).on(Some(when)))
}
