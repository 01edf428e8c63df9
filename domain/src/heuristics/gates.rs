//! Which sentences of a message state something: no questions, requests, quotations, suppositions,
//! or instructions to the machine.

use super::reading::{self, Sentence};
use super::reminders::{self, Reminder};
use super::{patterns, wording};

/// A sentence that states something.
#[derive(Debug, PartialEq)]
pub(super) struct Statement {
    pub(super) text: String,
    /// Whether the user asked to remember it.
    pub(super) explicit: bool,
    /// Whether it is a list or a note rather than a sentence: "remember: milk, eggs".
    pub(super) note: bool,
}

patterns! {
    INJECTION = concat!(
        r"(?i)\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}\b(?:previous|prior|",
        r"above|earlier|preceding|system|your)\b[^.\n]{0,30}\b(?:instructions?|prompts?|rules|",
        r"messages?|guidelines|programming|training)\b|\bsystem prompt\b|\byou are now\b|",
        r"\bfrom now on,? you(?:'re| are| will)\b|\bdeveloper mode\b|\bjailbreak\b|",
        r"\bDAN mode\b|\bnew instructions\b|<\|im_|\[/?INST\]|\bact as if you\b|",
        r"\bfrom now on,? (?:record|save|store|remember|note)\b|",
        r"</?(?:system|assistant|user|instructions?|memory|memories|tool)\b[^>\n]{0,40}>|",
        r#""(?:memories|statement|facts?|role)"\s*:|"#,
        r"\b(?:ignorier\w*|vergiss|vergessen sie|missachte\w*)\b[^.\n]{0,40}\b(?:anweisung\w*|regeln|vorgaben)\b|",
        r"\b(?:ab sofort|von jetzt an) (?:bist|nennst|speicherst)\b|",
        r"\b(?:ignora|olvida|omite|ignore|olvide)\b[^.\n]{0,40}\b(?:instrucciones|reglas|indicaciones)\b|",
        r"\ba partir de ahora (?:eres|me llamarás|guarda)\b",
    );
    FOREIGN_FICTION = concat!(
        r"(?i)^(?:\pL+[ ,]+)?(?:stell dir vor|stellen sie sich vor|angenommen|tu so|imagina|imagine|supón|supongamos|",
        r"finge|haz de cuenta|pongamos que)\b",
    );
    FOREIGN_PASTED = concat!(
        r"(?i)^(?:(?:bitte|por favor|kannst du|könntest du|könnten sie|puedes|podrías)[ ,]+)*(?:übersetz\w*|",
        r"korrigier\w*|formulier\w*|verbesser\w*|fass\w* .*zusammen|traduc\w*|traduzca|corrig\w*|corrija|",
        r"reescrib\w*|resum\w*|revisa)\b",
    );
    FOREIGN_REQUEST = concat!(
        r"(?i)^(?:(?:bitte|und|mal|por favor|y)[ ,]+)*(?:erzähl\w*|schreib\w*|gib|geben sie|zeig\w*|erklär\w*|mach\w*|",
        r"such\w*|nenn\w*|empfiehl|empfehlen sie|hilf|helfen sie|sag mir|cuéntame|cuenta|escrib[ea]\w*|escríb\w*|",
        r"dame|deme|muéstra\w*|explíca\w*|haz|busca|recomiénda\w*|ayúda\w*|dime|dígame)\b",
    );
    FOREIGN_SUPPOSITION = concat!(
        r"(?i)\b(?:ich wünschte|würde|wäre|hätte|könnte ich|wenn ich \pL+ (?:wäre|hätte)|ojalá|",
        r"si (?:yo )?\pL+(?:ara|iera|era|ase|iese)\b|quisiera|me gustaría|tal vez|quizás?|vielleicht|",
        r"gusta(?:n)? (?:la idea|tu)|er sagt|sie sagt|(?:mein|meine) \pL+ (?:sagt|meint)|dice que|dijo que)\b",
    );
    JOKE = r"(?i)\b(?:just kidding|jk|just joking|made that up)\b|\s/s\s*$";
    // In the middle of a line stars are for emphasis.
    ACTED = r"(?m)^[ \t]*\*[\pL'][^*\n]*\s[^*\n]*\*(?:[^*]|$)";
    SCRIPT_LINE = r"(?m)^\s*(?:\[[^\]\n]{3,30}\]\s*)?[A-Z][\w .]{0,20}:\s+\S";
    FICTION = concat!(
        r"(?i)^(?:(?:please|now|so|ok|okay|can we|could you|can you|let us|i want you to|",
        r"for a moment|just)[ ,]+)*(?:imagine|imagining|pretend|suppose|supposing|assume|",
        r"assuming|hypothetically|role-?play|picture this|what if|say (?:that )?i\b|play (?:a|",
        r"the|as)|act as|act like|once upon a time|in an alternate|in this (?:story|scenario|",
        r"game|world))|^dear [\w .]{2,30}$|^dear [\w .]{2,30},|^let us (?:say|pretend|imagine|",
        r"assume|suppose|play|role)|\b(?:role-?play(?:ing)?|hypothetically)\b|\b(?:my|the|",
        r"our) (?:oc|dnd|d&d|rpg) \w+|\bmy (?:character|protagonist|avatar|persona)\b",
    );
    DREAMT = concat!(
        r"(?i)\b(?:i wish|if only|as if|as though|i (?:just |once )?(?:dreamed|dreamt|",
        r"had a (?:dream|nightmare))|in (?:my|a|the) (?:dream|novel|story|book|movie|film|",
        r"game|song)|my (?:novel|story) is)\b|\bwould have\b",
    );
    PASTED = concat!(
        r"(?i)^(?:(?:please|pls|now|and|also|then|can you|could you|would you|will you|",
        r"i need you to|help me|i want you to|i would like you to|kindly)[ ,]+)*(?:translate|",
        r"rewrite|re-write|rephrase|reword|paraphrase|proofread|proof-read|proof read|",
        r"fix (?:this|the|my|these|that)|correct (?:this|the|my|these|that)|check (?:this|the|",
        r"my|these|grammar)|edit (?:this|the|my)|summari[sz]e|polish|improve (?:this|the|my)|",
        r"shorten|review (?:this|the|my)|analy[sz]e|grammar check|explain (?:this|",
        r"the following)|classify|extract|convert|format|debug|repeat|say|read (?:this|the)|",
        r"complete (?:this|the)|continue (?:this|the)|respond to|reply to|answer this)\b",
    );
    POINTS_ON = r"(?i):|\b(?:this|the following|these|below|after me)\b";
    POINTS_BACK = r"(?i)\b(?:that|the above|it|previous)\b";
    LABEL = r"^([\pL][\pL /'-]{0,40}?)\s*(?::|=)\s+(.+)$";
    WRITTEN = r"(?i)\b(?:wrote|said|says|say|writes|told|example|quote|line|chapter|title)\b";
    LISTING = concat!(
        r"(?i)^(?:I|we) (?:have|have got|speak|love|like|hate|enjoy|own|play|am|live|work|",
        r"study)\b",
    );
    ASIDE = concat!(
        r"(?i)^(?:(?:ok|okay|so|well|hey|oh|and|um)[ ,]+)*(?:note|ps|p\.s|p\.p\.s|update|quick update|",
        r"edit|correction|fyi|btw|fun fact|",
        r"(?:a )?(?:fun|random|little|quick|another) facts? about (?:me|myself)|i (?:misspoke|was wrong|",
        r"made a mistake|got that wrong|meant)\b.*|(?:let|allow) me (?:to )?(?:correct|rephrase|restate)\b.*|",
        r"sorry|oops|my (?:mistake|bad)|for your records|",
        r"about me|a bit about me|intro|quick intro|me|reminder|context|some context|",
        r"background|for context|for the record|note to self|important|quick note|",
        r"small correction|good news|bad news|big news|news|confession|also|plus|well|so|ok|",
        r"okay|truth is|the thing is|thing is|honestly|anyway|hi|hello|hey|to be clear|",
        r"spoiler|story time|little about me|(?:let me|here|some|a few|quick|about|one thing|",
        r"two things|facts?|things?|random)\b.*|details|personal info|my info|side note|",
        r"sidenote)$",
    );
    QUESTION = concat!(
        r"(?i)^(?:(?:and|so|but|then|now|well|or|also|please|hey|in)[ ,]+)*(?:what|where|who|",
        r"whose|whom|why|how|which|do i|do you|do we|do they|does|did (?:i|you|we|he|she|they|",
        r"my|the)|can (?:i|you|we|he|she|they|my|it|the|someone)|could (?:i|you|we|he|she|",
        r"they|it|someone)|would (?:i|you|we|he|she|they|it|my)|will (?:i|you|we|he|she|they|",
        r"it|my)|should (?:i|we|he|she|they|you|my)|shall|is (?:it|that|there|this|my|he|she|",
        r"the|your)|are (?:you|there|we|they|my|these)|am i|was (?:i|it|that|there|my|he|she)|",
        r"were (?:you|we|they)|have (?:you|i|we)|has (?:my|the|he|she|it)|may i|any (?:idea|",
        r"ideas|tips|thoughts|suggestions|recommendations|advice|chance|good)|remember when|",
        r"guess (?:who|where|how|what (?:my|i|the|is|he|she|we|happened)|what$)|know any|is not|are not|do not you|can not you)\b",
    );
    TAIL_QUESTION = concat!(
        r"(?i)^(.*?)(?:\s*(?:,|\(|\s-)\s*(?:(?:and|so|but|then|now|well|or)[ ,]+)*|",
        r"\s+(?:(?:and|so|but|then)[ ,]+)+)((?:what|where|who|whose|why|how|which|when|do|",
        r"does|did|can|could|would|will|should|shall|is|are|am i|was|were|have you|has|may i|",
        r"any|got any|and you|you|you know|think you|is it|right|correct|remember|know|yes|no|",
        r"yeah|huh|eh|ok|okay|see|want to)\b.*)$",
    );
    TAG = concat!(
        r"(?i)^(?:right|correct|is (?:it|he|she|that)( not)?|is not (?:it|he|she|that)|",
        r"are(?: not)? (?:they|we)|do not i|do(?: not)? i\b|am i|no|yes|yeah|huh|eh|",
        r"was(?: not)? it|did(?: not)? i|have(?: not)? i|does(?: not)? (?:he|she|it))\W*$",
    );
    OWN = concat!(
        r"(?i)^(?:\W*(?:hi|hello|hey|well|so|since|because|as|given that|now that|and|but|ok|",
        r"okay|oh|yes|no|btw|by the way|also|considering)[ ,!]+)*(?:\w+,\s+)?(?:i|my|we|our)\s",
    );
    REQUEST = concat!(
        r"(?i)^(?:(?:please|pls|plz|now|then|just|also|and|so|ok|okay|kindly|first|next|",
        r"quickly|always|never|do not|try to|hey|could|can)[ ,]+)*(?:write|tell|give|show|",
        r"translate|explain|make|create|generate|help|list|find|search|suggest|recommend|",
        r"let us|let me know|let me (?:ask|see|rephrase|try|check|think)|ignore|forget|act|be|",
        r"stop|read|send|draft|compose|compare|describe|define|calculate|compute|answer|",
        r"respond|reply|speak|talk|ask|think of|check|remind me|rate|guess|consider|finish|",
        r"solve|count|choose|pick|print|output|name (?:a|the|one|two|three|some|any|all)|",
        r"look up|google|set|add|remove|delete|open|close|turn|book|order|schedule|design|",
        r"build me|invent|sing|plan|brainstorm|outline|teach me|walk me|quiz me|test me|",
        r"entertain|wish me|advise|convince|persuade|surprise me|cheer|imagine|put|use|",
        r"keep (?:it|your|the|this)|go (?:ahead|on)|continue|assist|simulate|provide|share|",
        r"do (?:the|this|it|a|my)|say)\b",
    );
    AFTER_REQUEST = concat!(
        r"(?i)(?:,|\s-|;)\s*((?:(?:and|since|because|as|given that|but|btw|by the way|",
        r"considering)[ ,]+)*(?:I|my|we|our)\s.+)$|\s(?:since|because)\s+((?:I|my|we)\s.+)$",
    );
    AFTER_REPORT = r"(?i), (?:and|but|so) ((?:I|we|my) (?:do|am|have|love|like|hate|live|work|can|will|already|also|really)\b.*)$";
    OFFERED_TEXT = concat!(
        r"(?i)\b(?:poem|story|essay|song|lyrics|email|e-mail|letter|message|text|tweet|",
        r"caption|speech|dialogue|script|haiku|limerick|code|sentence|paragraph|bio|",
        r"cover letter|resume|cv|post|translate|in (?:french|german|spanish|italian)|",
        r"character|rap)\b",
    );
    REPORT = concat!(
        r"(?i)\b(?:he|she|they|who|someone|somebody|everyone|people|(?:my|the|his|her|their|",
        r"our|an?) [\w-]+(?: [\w-]+)?|(?-i:[A-Z])\w+) (?:\w+ )?(?:said|says|told|tells|asked|",
        r"asks|texted|wrote|writes|replied|goes like|was like|is like|were like|shouted|",
        r"whispered|claimed|claims|claim|believes?|thinks?|yelled|joked|quipped|suggested|",
        r"suggests|sings|sang|insists|insisted|calls himself|announced|mentioned)\b",
    );
}

/// The longest sentence that is read, in bytes: a longer one is pasted text.
pub(super) const LONGEST_SENTENCE: usize = 2_000;
/// How many greetings and the like are passed over before a clause.
pub(super) const MOST_OPENERS: usize = 6;

/// What comes of a sentence by its being somebody else's text or invented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Passing {
    /// It is neither.
    On,
    /// It gives nothing.
    Skip,
    /// It gives nothing, nor does what stands before it.
    TakeBack,
    /// Nothing from here on counts.
    End,
}

/// Whether a message as a whole gives nothing: an order to the machine, a joke, a play.
pub(super) fn gives_nothing(message: &str) -> bool {
    INJECTION.is_match(message)
        || JOKE.is_match(message)
        || ACTED.is_match(message)
        || SCRIPT_LINE.find_iter(message).take(3).count() >= 2 && !has_own_labels(message)
}

/// Whether a sentence begins what others wrote or what is invented.
pub(super) fn pasted_or_invented(sentence: &Sentence, text: &str) -> Passing {
    if FICTION.is_match(text) || FOREIGN_FICTION.is_match(text) {
        return Passing::End;
    }
    if PASTED.is_match(text) || FOREIGN_PASTED.is_match(text) {
        return if POINTS_ON.is_match(text) || !sentence.goes_on {
            Passing::End
        } else if POINTS_BACK.is_match(text) {
            Passing::TakeBack
        } else {
            Passing::Skip
        };
    }
    if sentence.announces && !sentence.goes_on {
        let aside = ASIDE.is_match(text) && !OFFERED_TEXT.is_match(text);
        return if aside || reminders::announces(text) {
            Passing::Skip
        } else {
            Passing::End
        };
    }
    Passing::On
}

/// The statements of a message, in order.
pub(super) fn statements(message: &str) -> Vec<Statement> {
    if gives_nothing(message) {
        return Vec::new();
    }
    let mut statements: Vec<Statement> = Vec::new();
    let mut requested = false;
    let mut noted = false;
    for sentence in reading::sentences(message) {
        if sentence.text.len() > LONGEST_SENTENCE {
            continue;
        }
        let text = wording::trimmed(&sentence.text);
        match pasted_or_invented(&sentence, text) {
            Passing::On => {}
            Passing::End => break,
            passing => {
                if passing == Passing::TakeBack {
                    statements.clear();
                }
                if sentence.announces && !sentence.goes_on {
                    noted = reminders::announces(text);
                }
                continue;
            }
        }
        if let Some(reminder) = reminders::find(text, sentence.asks) {
            match reminder {
                Reminder::Of(statement) => statements.push(statement),
                Reminder::OfLast => {
                    if let Some(last) = statements.last_mut() {
                        last.explicit = true;
                    }
                }
                Reminder::Other => {}
            }
            continue;
        }
        requested |= REQUEST.is_match(text);
        let stated = stated(&sentence, text, requested);
        statements.extend(stated.map(|stated| Statement {
            explicit: noted,
            note: noted,
            ..stated
        }));
    }
    statements
}

/// Whether a sentence tells a dream, a wish or a tale.
pub(super) fn is_dreamt(text: &str) -> bool {
    DREAMT.is_match(text)
}

/// Whether a sentence asks without a question mark.
pub(super) fn is_question(text: &str) -> bool {
    QUESTION.is_match(text)
}

/// Whether a sentence is a request to the assistant.
pub(super) fn is_request(text: &str) -> bool {
    REQUEST.is_match(text) || FOREIGN_REQUEST.is_match(text)
}

/// Whether a sentence asks to remember something.
pub(super) fn asks_to_remember(text: &str, asks: bool) -> bool {
    matches!(reminders::find(text, asks), Some(Reminder::Of(_)))
}

/// Whether a German or Spanish sentence supposes, wishes, requests, or reports what others say.
pub(super) fn is_foreign_supposition(text: &str) -> bool {
    FOREIGN_SUPPOSITION.is_match(text) || FOREIGN_REQUEST.is_match(text)
}

/// The words by which a sentence reports what others say: "my friend says".
pub(super) fn report(text: &str) -> Option<&str> {
    REPORT
        .find_iter(text)
        .find(|report| !report.as_str().contains(" I ") && !report.as_str().contains(" we "))
        .map(|report| report.as_str())
}

/// The part of a sentence that states something.
fn stated(sentence: &Sentence, text: &str, requested: bool) -> Option<Statement> {
    let plain = |text: &str| {
        Some(Statement {
            text: text.to_owned(),
            explicit: false,
            note: false,
        })
    };
    if DREAMT.is_match(text) {
        return None;
    }
    if sentence.asks {
        return plain(before_question(text)?);
    }
    if let Some(found) = LABEL.captures(text) {
        let (label, rest) = (found.get(1)?.as_str(), found.get(2)?.as_str());
        if !ASIDE.is_match(label) {
            return match form_line(label, rest) {
                Some(line) if !requested => plain(&line),
                None if LISTING.is_match(label) => plain(&format!("{label}, {rest}")),
                _ => None,
            };
        }
        return if OFFERED_TEXT.is_match(label) || WRITTEN.is_match(label) {
            None
        } else {
            plain(rest)
        };
    }
    if QUESTION.is_match(text) {
        return None;
    }
    if REQUEST.is_match(text) {
        if OFFERED_TEXT.is_match(text) {
            return None;
        }
        let after = AFTER_REQUEST.captures(text)?;
        return plain(after.get(1).or_else(|| after.get(2))?.as_str());
    }
    // What others say is theirs, but "yesterday I told my boss that …" is the user's.
    let before_report = REPORT
        .find_iter(text)
        .find(|report| !report.as_str().contains(" I ") && !report.as_str().contains(" we "))
        .map_or(text, |report| &text[..report.start()]);
    let doctor = before_report.is_empty() && text.to_lowercase().starts_with("my doctor");
    // "My therapist says it helps, and I do love it": what comes after is the user's again.
    let after_report = AFTER_REPORT
        .captures(text)
        .and_then(|found| Some(found.get(1)?.as_str()))
        .filter(|_| before_report.is_empty());
    plain(match after_report {
        _ if doctor => text,
        Some(after) => after,
        None => before_report,
    })
}

/// Whether a sentence begins with "I" or "my", openers aside.
pub(super) fn is_own(text: &str) -> bool {
    OWN.is_match(text) && !QUESTION.is_match(text)
}

/// What is stated before the question that a sentence ends with: "I'm vegan, what can I cook".
pub(super) fn before_question(text: &str) -> Option<&str> {
    if QUESTION.is_match(text) || REQUEST.is_match(text) || !OWN.is_match(text) {
        return None;
    }
    let found = TAIL_QUESTION.captures(text)?;
    let (head, tail) = (found.get(1)?.as_str(), found.get(2)?.as_str());
    (!TAG.is_match(tail)).then_some(head)
}

/// A line of a form as a sentence: "Name: Tom" → "my name is Tom".
fn form_line(label: &str, rest: &str) -> Option<String> {
    let label = label.to_lowercase();
    let label = label.strip_prefix("my ").unwrap_or(&label);
    let opening = match label {
        "name" | "full name" | "first name" | "nickname" | "birthday" | "job" | "occupation"
        | "profession" | "hobbies" | "pronouns" | "job title" => format!("my {label} is"),
        "date of birth" | "dob" => "my birthday is".to_owned(),
        "age" | "diet" | "nationality" => "I am".to_owned(),
        "location" | "city" | "home" | "town" | "based in" | "lives in" => "I live in".to_owned(),
        "allergies" | "allergy" | "allergic to" => "I am allergic to".to_owned(),
        "interests" | "hobby" => "my hobbies are".to_owned(),
        "likes" | "i like" | "i love" => "I like".to_owned(),
        "dislikes" | "i dislike" | "i hate" => "I dislike".to_owned(),
        "languages" => "I speak".to_owned(),
        "employer" | "company" => "I work at".to_owned(),
        "favorite" | "favourite" => return None,
        _ if label.starts_with("favo") => format!("my {label} is"),
        _ => return None,
    };
    Some(format!("{opening} {rest}"))
}

/// Whether a message has lines like "Name: Tom" about its writer.
fn has_own_labels(message: &str) -> bool {
    let labels = message.lines().filter_map(|line| line.split_once(':'));
    labels
        .filter(|(label, rest)| form_line(label.trim(), rest.trim()).is_some())
        .count()
        >= 2
}
