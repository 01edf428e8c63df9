//! Words in which statements are put, as consolidation and merging tell them apart from what is stated.

/// Words that change nothing.
#[rustfmt::skip]
pub(super) const EMPTY: &[&str] = &[
    "a", "an", "the", "user", "users", "usuario", "nutzer", "their", "his", "her", "very", "really", "also",
    "currently", "now", "still", "that", "any", "to", "do", "does", "ein", "eine", "einen", "sehr", "jetzt",
    "un", "una", "el", "la", "los", "las", "muy", "ahora", "ihr", "ihre", "sein", "seine", "s",
];

/// Words that deny what stands beside them.
#[rustfmt::skip]
pub(crate) const NEGATIONS: &[&str] = &[
    "not", "no", "never", "without", "cannot", "dont", "doesnt", "didnt", "isnt", "arent", "wasnt", "werent",
    "hasnt", "havent", "cant", "couldnt", "wont", "wouldnt", "shouldnt", "nicht", "kein", "keine", "keinen",
    "keinem", "nie", "niemals", "nunca", "jamás",
];

/// Words that say that it was otherwise before; what they deny is denied by another word.
pub(super) const NO_MORE: &[&str] = &["longer", "anymore", "mehr", "ya"];

/// Words on the left claim what the one on the right claims; `!` denies it.
#[rustfmt::skip]
const MEANINGS: &[(&str, &str)] = &[
    ("likes", "like"), ("like", "like"), ("loves", "like"), ("love", "like"), ("adores", "like"), ("enjoys", "like"),
    ("enjoy", "like"), ("adore", "like"), ("hates", "!like"), ("hate", "!like"), ("dislikes", "!like"),
    ("dislike", "!like"), ("detests", "!like"), ("loathes", "!like"), ("despises", "!like"),
    ("has", "have"), ("have", "have"), ("owns", "have"), ("own", "have"), ("is", "be"), ("are", "be"), ("be", "be"),
    ("called", "called"), ("named", "called"), ("name", "called"), ("names", "called"), ("lives", "live"), ("live", "live"), ("resides", "live"),
    ("works", "work"), ("work", "work"), ("employed", "work"), ("kids", "children"), ("mom", "mother"), ("mum", "mother"),
    ("dad", "father"), ("mag", "like"), ("liebt", "like"), ("hasst", "!like"), ("lebt", "wohnt"), ("gusta", "like"),
    ("encanta", "like"), ("gustan", "like"), ("encantan", "like"), ("odia", "!like"), ("adora", "like"), ("ama", "like"),
];

/// Words that begin what is added to a fact without making it another.
#[rustfmt::skip]
pub(crate) const ADDING: &[&str] = &[
    "called", "with", "in", "at", "from", "since", "for", "who", "which", "whose", "because", "as", "on", "near",
    "by", "namens", "mit", "aus", "seit", "bei", "als", "heißt", "llamado", "llamada", "que", "con", "desde", "en",
    "como",
];

/// Verbs that tell no more than the verb beside them: "has lived", "is living".
pub(super) const AUXILIARIES: &[&str] = &["have", "be"];

/// What a word claims, if others claim the same; with `!` it is denied.
pub(crate) fn meaning(word: &str) -> Option<&'static str> {
    MEANINGS
        .iter()
        .find(|(said, _)| *said == word)
        .map(|(_, meant)| *meant)
}
