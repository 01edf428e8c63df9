//! What a statement is about: objects, names, places, employers, roles.

use super::lexicon::{self, has};
use super::reading::QUOTED;
use super::{Scene, patterns, wording};

patterns! {
    DASH = concat!(
        r"(?i),\s*(?:not|still|loved|hated|enjoyed|liked|now|just|currently|wish me|so|hoping|",
        r"pray|fingers crossed|lol|any|no idea|no clue|idk|dunno|do not (?:ask|know))\b.*$|\s*(?:\s-+|-+\s|--+).*$",
    );
    SPLICE = concat!(
        r"(?i),\s*(?:(?:the|a|an|some|its|their|his|her|such|so|no) (?:[\w'-]+ ){1,4}?|",
        r"[\w'-]+ )(?:is|are|was|were|has|have|makes?|gives?|keeps?|can|will)\b.*$",
    );
    POINTING_INSIDE = concat!(
        r"(?i)\b(?:these|those|this|each other|(?:that|the same) (?:name|way|kind|stuff|one|",
        r"time|day|place|thing|song|book|movie)|it (?:for|to|in|on|with|at|all|again|up|out)|",
        r"(?:to|in|of|with|for|at|on|about|from|like) that|\w+ing (?:them|him|it)|(?:few|some|",
        r"any) more)\b",
    );
    CUT = concat!(
        r"(?i)(?:,\s*|\s+-+\s*|\s)(?:because|although|though|even though|whereas|while|",
        r"whenever|when|unless|until I|so that|so (?:\w+ing|I|my|we|it|no|the|he|she|they)|",
        r"but|which|if|or something|or so|rather than being|and (?:it|that|they|he|she|this|",
        r"there|those|you|then|so|not|just|what|all that|stuff|am|is|are|was|were)|as (?:it|I|",
        r"we|they|he|she)|since (?:I|it|we|he|she|they|the|my)|in case|it is|it was|they are|",
        r"he is|she is|that is|this is|what|how about|do you|are you|is there|can you|",
        r"could you|anyone)\b.*$",
    );
    COMPANY = concat!(
        r"(?i)\s*,?\s+(?:with|for|since|as|on|but|where|doing|until|after|before|during|",
        r"together|right|near|all|by|because)\b.*$",
    );
    NOWHERE = concat!(
        r"(?i)^(?:fear|hope|hopes|denial|peace|sin|debt|harmony|poverty|pain|constant|",
        r"the (?:moment|past|present|future|now|dark|middle|same|past few|last)|this|that|",
        r"these|my (?:head|own|car|mind|dreams?)|(?:a|our|this|such a) (?:world|society|time|",
        r"lie|bubble|dream|fantasy|simulation|culture)|it|there|here|general|total|complete|",
        r"two|three|terror|misery|different|separate|interesting|times|sync|isolation)\b",
    );
    NO_EMPLOYER = concat!(
        r"(?i)^(?:home|night|nights|weekends?|the (?:moment|weekends?|same|best|time|first|",
        r"office|end)|it|this|that|free|fun|a living|hours|many|most|all|long|over|about|",
        r"around|almost|nearly|\d|peanuts|money|you|your|him|her|them|everyone|people|me|",
        r"someone|something|being|what|least|once|nothing|first|present|his|their|each|every|",
        r"a (?:while|bit|long)|an hour|[ap]m|minimum|(?:two|three|four|five|six|ten|several|",
        r"some|few|years|months|weeks)\b)",
    );
    GENERIC_EMPLOYER = concat!(
        r"(?i)^(?:the|my|our) (?:[\w'-]+ ){0,4}(?:company|government|council|university|",
        r"college|school|hospital|bank|city|county|state|military|army|navy|police|library|",
        r"museum|church|airport|post office|restaurant|factory|agency|department|ministry|",
        r"firm|business|clinic|farm|shop|store|district|un|eu|bbc|nhs|fbi|irs|cia|nypd)\b",
    );
    GENERIC_START =
        r"(?i)^(?:a|an|the|my|our|some|student|shared|central|downtown|suburban|rural)\b";
    GREAT_PLACE = concat!(
        r"(?i)^the (?:netherlands|us|usa|uk|united (?:states|kingdom|arab)|philippines|",
        r"bahamas|gambia|czech republic|bay area|bronx|hague|midlands|highlands|maldives|",
        r"azores|canary islands|dominican republic|hamptons|lake district|cotswolds|emirates|",
        r"uae|balkans|caribbean|pacific northwest|midwest|east bay|south bay)",
    );
}

/// Words that stand for something said elsewhere, at the start or the end of an object.
#[rustfmt::skip]
const POINTING_FIRST: &[&str] = &[
    "it", "that", "this", "these", "those", "him", "her", "them", "they", "he", "she", "you",
    "your", "yours", "his", "their", "its", "one", "ones", "something", "anything", "everything",
    "nothing", "someone", "anyone", "everyone", "what", "how", "where", "when", "why", "who",
    "which", "whether", "there", "here", "such", "both", "either", "neither", "another", "same",
    "whatever", "than",
];
const POINTING_LAST: &[&str] = &[
    "it", "that", "this", "him", "her", "them", "there", "here", "one", "ones", "you", "too", "so",
];

/// Words that need another behind them.
#[rustfmt::skip]
const HANGING: &[&str] = &[
    "of", "to", "at", "for", "with", "about", "and", "or", "the", "a", "an", "my", "from", "by",
    "into", "than", "as", "like", "doing", "am", "is", "are", "was", "have", "has", "very",
];

/// Whether a text speaks to or of the listener.
pub(super) fn addresses_listener(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric())
        .any(|word| has(&["you", "your", "yours", "yourself", "ur"], word))
}

/// The object of a statement without reasons and fillers behind it; nothing when it is empty,
/// stands for something said elsewhere, or comes from a quotation.
pub(super) fn object(text: &str) -> Option<String> {
    let mut text = wording::without_fillers(text);
    for end in [&*DASH, &*SPLICE, &*CUT] {
        text = wording::without_fillers(end.find(text).map_or(text, |cut| &text[..cut.start()]));
    }
    let first = text.split(' ').next()?.trim_end_matches(',');
    let last = text.rsplit(' ').next()?;
    let usable = text.chars().any(char::is_alphanumeric)
        && !text.contains(QUOTED)
        && !has(POINTING_FIRST, first)
        && !has(POINTING_LAST, last)
        && !addresses_listener(text)
        && !has(HANGING, last)
        && !POINTING_INSIDE.is_match(text)
        && text.split(' ').count() <= 40;
    usable.then(|| text.to_owned())
}

/// A place, and whether it has a name (rather than being "a small flat").
pub(super) struct Place {
    pub(super) name: String,
    pub(super) named: bool,
}

/// The place that a text begins with.
pub(super) fn place(text: &str, scene: &Scene) -> Option<Place> {
    let text = object(text)?;
    let text = wording::without_fillers(
        COMPANY
            .find(&text)
            .map_or(&text, |cut| &text[..cut.start()]),
    );
    if text.is_empty() || NOWHERE.is_match(text) || text.split(' ').count() > 8 {
        return None;
    }
    let great = GREAT_PLACE.is_match(text);
    if wording::is_capitalised(text) || great {
        return Some(Place {
            name: text.to_owned(),
            named: true,
        });
    }
    if GENERIC_START.is_match(text) {
        let named = text
            .strip_prefix("the ")
            .is_some_and(wording::is_capitalised);
        return Some(Place {
            name: text.to_owned(),
            named,
        });
    }
    if scene.capitals {
        let directed = text.split(' ').skip(1).any(wording::is_capitalised);
        return directed.then(|| Place {
            name: text.to_owned(),
            named: true,
        });
    }
    let short = text.split(' ').count() <= 3;
    short.then(|| Place {
        name: wording::title_case(text),
        named: true,
    })
}

/// An employer and the role there, as in "Acme as a nurse".
pub(super) fn employer(text: &str, scene: &Scene) -> Option<(Place, Option<String>)> {
    let text = object(text)?;
    let (at, role) = match text.find(" as ") {
        Some(split) => (&text[..split], role(&text[split + 4..])),
        None => (text.as_str(), None),
    };
    let at = wording::without_fillers(COMPANY.find(at).map_or(at, |cut| &at[..cut.start()]));
    let definite = at.starts_with("the ") || at.starts_with("my ") || at.starts_with("our ");
    let vague = definite
        && !GENERIC_EMPLOYER.is_match(at)
        && !at.split(' ').skip(1).any(wording::is_capitalised);
    if at.is_empty() || vague || NO_EMPLOYER.is_match(at) || at.split(' ').count() > 8 {
        return None;
    }
    let named = wording::is_capitalised(at);
    let place = if named || GENERIC_START.is_match(at) || at.contains(' ') && scene.capitals {
        Place {
            name: at.to_owned(),
            named,
        }
    } else if scene.capitals {
        return None;
    } else {
        Place {
            name: wording::title_case(at),
            named: true,
        }
    };
    Some((place, role))
}

/// A role with its article, "a software engineer", when its last word is one that people work as.
pub(super) fn role(text: &str) -> Option<String> {
    let text = object(text)?;
    let bare = ["a ", "an ", "the "]
        .iter()
        .find_map(|article| text.strip_prefix(article));
    let head = role_end(bare.unwrap_or(&text))
        .rsplit([' ', '-', '/'])
        .next()?
        .to_lowercase();
    let works = has(lexicon::JOBS, &head)
        || head
            .strip_suffix('s')
            .is_some_and(|one| has(lexicon::JOBS, one))
        || head.len() > 7 && (head.ends_with("ologist") || head.ends_with("ician"))
        || lexicon::JOBS
            .iter()
            .any(|job| job.len() > 5 && head.ends_with(job));
    if !works {
        return None;
    }
    let the = text.starts_with("the ") || bare.is_none() && head.ends_with('s');
    Some(if bare.is_some() || the {
        text
    } else {
        with_article(&text)
    })
}

/// The words of a role before "at", "for", "in" and the like.
pub(super) fn role_end(text: &str) -> &str {
    let stops = [
        "at",
        "for",
        "in",
        "of",
        "from",
        "with",
        "who",
        "that",
        "and",
        "living",
        "working",
        "based",
        "residing",
        "by",
        "on",
        "specializing",
        "specialising",
        "near",
        "to",
        "over",
        "under",
        "specialized",
    ];
    let end = text
        .match_indices([' ', ','])
        .find(|(at, mark)| {
            let next = text[at + 1..]
                .trim_start()
                .split([' ', ','])
                .next()
                .unwrap_or_default();
            *mark == "," || stops.contains(&next)
        })
        .map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// "car" → "a car", "old car" → "an old car", "cars" → "cars".
pub(super) fn with_article(noun: &str) -> String {
    let plural = noun.ends_with('s') && !noun.ends_with("ss") && !noun.ends_with("us");
    if plural {
        noun.to_owned()
    } else if noun.to_lowercase().starts_with(['a', 'e', 'i', 'o', 'u']) {
        format!("an {noun}")
    } else {
        format!("a {noun}")
    }
}
