//! In which language a message is written, and what German and Spanish need beside the English rules.

use super::{german, patterns, reading, spanish};

/// The languages whose rules there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    English,
    German,
    Spanish,
}

#[rustfmt::skip]
const ENGLISH: &[&str] = &[
    "i", "i'm", "the", "and", "to", "a", "is", "my", "of", "it", "you", "for", "have", "at",
    "with", "this", "that", "we", "are", "do", "don't", "not", "im", "be", "on", "but", "or", "your",
];
#[rustfmt::skip]
const GERMAN: &[&str] = &[
    "ich", "und", "der", "die", "das", "ist", "nicht", "ein", "eine", "einen", "einem", "einer", "mein",
    "meine", "meinen", "meiner", "mit", "auf", "für", "bin", "habe", "hab", "im", "zu", "von", "den",
    "dem", "wir", "auch", "heute", "gestern", "vorgestern", "morgen", "übermorgen", "aber", "mir", "mich",
    "bei", "aus", "nach", "seit", "gegen", "mag", "liebe", "hasse", "wohne", "lebe", "heiße", "heisse",
    "arbeite", "komme", "fahre", "spiele", "trinke", "esse", "rauche", "kein", "keine", "keinen", "nein",
    "ja", "bitte", "danke", "wie", "wo", "kannst", "könnten", "sie", "dir", "dass", "wenn", "war", "wird",
    "merk", "merke", "zwei", "drei", "studiere", "bist", "deine", "ignoriere", "als", "am", "kinder",
    "erzähl", "schreib", "vegetarier", "lehrer", "alle",
];
#[rustfmt::skip]
const SPANISH: &[&str] = &[
    "yo", "el", "la", "los", "las", "de", "que", "y", "en", "mi", "mis", "es", "no", "me", "un", "una",
    "con", "por", "para", "soy", "tengo", "vivo", "trabajo", "estoy", "hoy", "ayer", "anteayer", "mañana",
    "muy", "pero", "del", "al", "gusta", "gustan", "encanta", "encantan", "llamo", "odio", "fumo", "bebo",
    "como", "ya", "pasado", "desde", "hace", "dos", "tres", "ahora", "también", "gracias", "hola", "qué",
    "cuál", "cómo", "años", "se", "su", "lo", "si", "ignora", "recuerda", "tus", "fui", "perdón", "padezco", "sufro", "soltero", "casado", "conduzco",
];

patterns! {
    ASKS = concat!(
        r"(?i)^(?:(?:und|aber|also|hallo|hey|ähm|y|pero|bueno|hola|pues)[ ,]+)*(?:¿|wie |was |wo |wer |wann |warum |",
        r"wieso |weshalb |woher |wohin |welche\w* |kannst |könntest |könnten |kann (?:ich|man) |darf |soll (?:ich|man) |",
        r"gibt es |hast du |bist du |weißt du |qué |que tiempo|cuál |cuáles |cómo |dónde |cuándo |quién |por qué |",
        r"podría\w* |puede\w* |puedes |debo |sabes |hay (?:algún|alguna) )|[吗嗎]$|(?:です|ます|でした|ました|のです)か$",
    );
    REMEMBER = concat!(
        r"(?i)(?:merk(?:e|en)? (?:dir|sie sich)|vergiss nicht|denk (?:dran|daran)|behalt\w* im (?:kopf|gedächtnis)|",
        r"notier\w*(?: dir)?|speicher\w*|recuerd[ae](?:,? por favor)?,?|no (?:olvides|olvide)|ten(?:ga)? en cuenta|",
        r"anota|apunta|guarda)(?: bitte)?[ ,:]+(?:dass|que)?[ :]*(.+)$",
    );
}

/// The language of a message: that of most of its small words, English when in doubt.
pub(super) fn of(message: &str) -> Language {
    let (mut english, mut german, mut spanish) = (0, 0, 0);
    for word in message
        .split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '’'))
        .filter(|word| !word.is_empty())
    {
        let word = word.to_lowercase();
        let word = word.as_str();
        english += usize::from(ENGLISH.contains(&word));
        german += usize::from(GERMAN.contains(&word));
        spanish += usize::from(SPANISH.contains(&word));
    }
    if message.contains(['¿', '¡', 'ñ']) {
        spanish += 1;
    }
    if message.contains('ß') {
        german += 1;
    }
    if german > english && german > spanish {
        Language::German
    } else if spanish > english && spanish > german {
        Language::Spanish
    } else {
        Language::English
    }
}

/// Whether a sentence asks, in German, Spanish, Chinese or Japanese.
pub(super) fn asks(text: &str) -> bool {
    ASKS.is_match(text)
}

/// What a message in German or Spanish asks to remember.
pub(super) fn asked_to_remember(message: &str) -> Vec<String> {
    if of(message) == Language::English {
        return Vec::new();
    }
    reading::sentences_as_typed(message)
        .iter()
        .filter(|sentence| !sentence.asks)
        .filter_map(|sentence| Some(to_remember(&sentence.text)?.to_owned()))
        .collect()
}

/// What a sentence asks to remember, if it does.
pub(super) fn to_remember(text: &str) -> Option<&str> {
    let found = REMEMBER.captures(text)?;
    // "… que recuerda …" in the middle of a tale asks for nothing.
    let opening = found.get(0)?.start();
    (text[..opening].split_whitespace().count() <= 2)
        .then(|| found.get(1).map(|rest| rest.as_str()))
        .flatten()
}

/// The slot of a statement in German or Spanish.
pub(super) fn slot(statement: &str) -> Option<String> {
    german::slot(statement)
        .or_else(|| spanish::slot(statement))
        .map(str::to_owned)
}
