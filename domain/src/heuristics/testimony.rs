//! What a message says for its writer, whoever reads it: the guard of what an LLM finds.
//!
//! More lenient than what the rules read, as the LLM understands more: a sentence counts unless it is
//! a question, somebody else's words, invented, or an order to the machine.

use super::gates::{self, Statement};
use super::reading::{self, Sentence};
use super::{language, patterns, wording};

/// A sentence that may be the evidence of a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Testimony {
    /// The sentence, without quotations.
    pub text: String,
    /// Who is reported to say so, "friend", if it is not the writer: then it is about them.
    pub teller: Option<String>,
}

patterns! {
    OWN_WORD = concat!(
        r"(?i)\b(?:I|I'?m|I'?ve|I'?d|im|ive|my|me|mine|we|our|us|ich|mein\w*|mir|mich|wir|unser\w*|uns|",
        r"yo|mi|mis|me|nosotr[oa]s|nuestr\w+|soy|tengo|vivo|trabajo|estoy|voy|je|mon|ma|mes|nous)\b",
    );
    OWN_MATTER = r"(?i)\b(?:I|I'?m|im|my|we|our|mein\w*|ich|wir|mi|mis|yo|soy|tengo|vivo)\b";
    OTHERS_ONLY = concat!(
        r"(?i)\b(?:he|she|they|who|a (?:guy|man|woman|boy|girl|person|character)|someone|er|der Mann|",
        r"einen? Mann|jemand|quien|un hombre|una mujer|alguien)\b",
    );
    POSSESSED = r"(?i)\b((?:my|our|mein\w*|unser\w*|mi|mis|nuestr\w+) [\pL'-]+(?: [\pL'-]+)?)";
    WONDERED = concat!(
        r"(?i)\b(?:i wonder|would be like|what if|ich wünschte|würde|wäre\b.*\bwäre|hätte ich|wenn ich .*",
        r"(?:würde|wäre|hätte)|ojalá|si (?:yo )?\pL+(?:ara|iera|era|ase|iese)\b|me pregunto)\b",
    );
    TELLER = r"(?i)([\pL'-]+) (?:\w+ )?\w+$";
    ABOUT_TALK = concat!(
        r"(?i)^(?:the )?(?:user|nutzer|usuario)(?: is| has| would like| wants| needs|'s)? ?(?:asks?|asked|",
        r"asking|requests?|requested|requesting|said|says|greets?|greeted|thanks?|thanked|inquires?|",
        r"inquired|mentioned|to know|know how|help with|seeking|looking for (?:help|advice|information|a ",
        r"(?:recipe|joke|poem))|curious|interested in knowing|fragte?|bittet|bat um|möchte wissen|will wissen|",
        r"hat gefragt|pregunta|preguntó|pide|pidió|quiere saber|saluda|message|input|query|question|request)\b",
    );
    // In the cases in which people write them: "US", "ME" and "type I" are something else.
    ONESELF = concat!(
        r"(?:^|[.,;:!?] |\b(?:and|but|that|because|so|hello|hi|hey) )[Ii](?:['’]\pL+)? \pL|\b(?:[Mm]y|[Mm]yself|[Ww]e|[Oo]ur|",
        r"[Ii]ch|[Mm]ich|[Mm]ir|[Mm]ein(?:e[mnrs]?)?|[Ww]ir|[Uu]nser(?:e[mnrs]?)?|[Yy]o|[Mm]e llamo|mi|mis|[Nn]uestr[oa]s?)\b|",
        r"^(?:Mis?|[Ss]oy|[Ee]stoy|[Tt]engo|[Vv]ivo|[Tt]rabajo)\b",
    );
    NAMED_USER = r"(?i)^(?:the user\b|der nutzer\b|die nutzerin\b|el usuario\b|la usuaria\b|users?\b|usuario\b|nutzer(?:in)?\b)";
}

/// The sentences of a message that testify something.
pub fn testimony(message: &str) -> Vec<Testimony> {
    if gates::gives_nothing(message) {
        return Vec::new();
    }
    let mut testimony: Vec<Testimony> = Vec::new();
    let mut own_before = false;
    for sentence in reading::sentences_as_typed(message) {
        let text = wording::trimmed(&sentence.text);
        match gates::pasted_or_invented(&sentence, text) {
            gates::Passing::End => break,
            gates::Passing::TakeBack => {
                testimony.clear();
                continue;
            }
            gates::Passing::Skip => continue,
            gates::Passing::On => {}
        }
        if WONDERED.is_match(text) || gates::is_dreamt(text) {
            continue;
        }
        let own = OWN_WORD.is_match(text);
        let (said, teller) = borne(&sentence, text);
        let others = OTHERS_ONLY.is_match(text) && !own && !own_before && teller.is_none();
        if !others {
            testimony.extend(said.into_iter().map(|text| Testimony {
                text,
                teller: teller.clone(),
            }));
        }
        own_before |= own;
    }
    testimony
}

/// What of a sentence bears something out, and who says it.
fn borne(sentence: &Sentence, text: &str) -> (Vec<String>, Option<String>) {
    let asks = sentence.asks || gates::is_question(text) || language::asks(text);
    if asks && !gates::asks_to_remember(text, sentence.asks) {
        let mut said: Vec<String> = Vec::new();
        said.extend(gates::before_question(&wording::spelled_out(text)).map(str::to_owned));
        said.extend(POSSESSED.captures_iter(text).map(|mine| mine[1].to_owned()));
        return (said, None);
    }
    if gates::is_request(text) && !OWN_MATTER.is_match(text) {
        return (Vec::new(), None);
    }
    if let Some(report) = gates::report(text) {
        let teller = TELLER.captures(report).map(|found| found[1].to_lowercase());
        return (vec![text.to_owned()], teller);
    }
    (vec![text.to_owned()], None)
}

/// What the user asks to remember, as they put it.
pub fn asked_to_remember(message: &str) -> Vec<String> {
    let explicit = |statement: Statement| statement.explicit.then_some(statement.text);
    let mut asked: Vec<String> = gates::statements(message)
        .into_iter()
        .filter_map(explicit)
        .collect();
    asked.extend(language::asked_to_remember(message));
    asked
}

/// Why a message of which nothing was found gives nothing.
pub fn why_silent(message: &str) -> &'static str {
    if !testimony(message).is_empty() {
        return "nothing lasting about the user";
    }
    let sentences = reading::sentences_as_typed(message);
    let asks = |sentence: &Sentence| {
        sentence.asks || gates::is_question(&sentence.text) || language::asks(&sentence.text)
    };
    if gates::gives_nothing(message) {
        "an order to the machine, or invented"
    } else if sentences.is_empty() {
        "no words"
    } else if sentences.iter().any(asks) {
        "a question"
    } else if sentences.iter().any(|s| gates::is_request(&s.text)) {
        "a request"
    } else {
        "the words of others"
    }
}

/// A statement of an LLM with "User" as its subject and single spaces.
pub fn about_the_user(statement: &str) -> String {
    let joined = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = joined.trim_start_matches(['-', '*', '•', ' ']);
    match NAMED_USER.find(text) {
        // "Users Schwester" is German for "User's sister".
        Some(user) if user.as_str().eq_ignore_ascii_case("users") => text.to_owned(),
        Some(user) => format!("User{}", &text[user.end()..]),
        None => text.to_owned(),
    }
}

/// Whether a text speaks of its speaker.
pub fn is_about_oneself(text: &str) -> bool {
    ONESELF.is_match(text)
}

/// Whether a statement tells what was asked or said rather than something about the user.
pub fn is_about_the_talk(statement: &str) -> bool {
    ABOUT_TALK.is_match(statement)
}
