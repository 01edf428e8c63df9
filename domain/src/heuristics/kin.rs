//! Reads what is said of family, friends and pets: names, what they are, what happens to them.

use super::dates::When;
use super::lexicon::{self, has};
use super::objects::{self, object};
use super::{Finding, Scene, names, patterns, person, wording};
use crate::memory::MemoryKind::{Context, Event};

patterns! {
    SPOKEN_OF = concat!(
        r"(?i)^(?:my|I (?:have|got|adopted|bought|own|rescued|miss|am getting|love my|",
        r"am married to my|live with my)) (.+)$",
    );
    NAMED_THEN = concat!(
        r"(?i)^(?:(?:and )?(?:his|her|its|the) name is|(?:he|she|it) is (?:called|named)|",
        r"(?:I )?(?:named|call|called) (?:him|her|it)) (.+)$",
    );
    GOES_ON = concat!(
        r"(?i)^(?:and )?(?:he|she|it|they|his|her|its|their|the name)\b|^I (?:\w+ ){1,3}(?:him|her|it|them)$|",
        r"^I (?:named|call|called) (?:him|her|it)\b",
    );
    KIN_OF = r"^([A-Z][\pL'-]+) is my ((?:\pL+ )?[\pL-]+)$";
    RELATION = concat!(
        r"(?i)^((?:(?:older|younger|little|big|elder|twin|half|best|late|new|old|oldest|",
        r"youngest|eldest|middle|first|second|third|only|other|adopted|foster|great|ex|close|",
        r"closest|dear|good|future|lovely|beautiful|two|three|four|five|baby|",
        r"\d{1,2}[- ]year[- ]old|\w+ year old)[ -])*)([\pL-]+)(.*)$",
    );
    CALLED = concat!(
        r"(?i)^(?:'s|s')? ?(?:names?) (?:is|are) (.+)$|^ (?:is|are|was) (?:called|",
        r"named) (.+)$|^,? (?:named|called) (.+)$",
    );
    VERB = concat!(
        r"(?i)^(?:,? ([\pL'-]+(?: [\pL'-]+)?),?)?? (is|are|was|were|has|have|works?|lives?|",
        r"loves?|likes?|hates?|enjoys?|prefers?|speaks?|studies|study|plays?|died|passed away|",
        r"got|moved|graduated|turned|turns|teaches|goes|go|starts?|emigrated|immigrated|",
        r"grew up|served|became|sings|cooks|bakes|coaches|collects|met|lost|owned|suffered|",
        r"teach|went|used to|does not|do not|can not|had|just|also|recently|wants|will|owns?|",
        r"runs?|came|comes|bought|started|gave|won|broke|adopted|retired|suffers?|does|makes?|",
        r"writes?|drives?)(?: (.+))?$",
    );
    KIN_IS = concat!(
        r"(?i)^(?:called |named |an? |the (?:\w+ )?(?:ceo|owner|founder|head|oldest|youngest|",
        r"manager|director|principal|mayor)|from |originally from |\d|in (?:the (?:army|navy|",
        r"military|hospital|marines)|college|university|high school|kindergarten|grade|prison|",
        r"jail|\w+ grade|(?-i:[A-Z])\w*)|allergic to |lactose|gluten|vegan|vegetarian|",
        r"pregnant|deaf|blind|autistic|diabetic|retired|dead|deceased|married|divorced|",
        r"engaged|single|gay|lesbian|trans|studying |working (?:at|for|as|in)|living |",
        r"learning |expecting|teething|getting (?:married|divorced|old)|going to (?:college|",
        r"university|be|have|study|kindergarten|(?-i:[A-Z])\w*)|turning |moving to |",
        r"in love with|afraid of|scared of|obsessed with|into |both |half |also an? |",
        r"my (?:best friend|boss|hero|neighbor)|very (?:sick|ill)|sick|ill|dying|coming to|",
        r"visiting|starting |due |fluent|training to|majoring|\w+ years old|born |not (?:a|an|",
        r"vegan|allergic)|adopted|mixed|the same age|months old|almost \d|nearly \d|about \d|",
        r"only \d)",
    );
    KIN_HAS = concat!(
        r"(?i)^(?:an? |two |three |four |\d|cancer|diabetes|asthma|adhd|autism|dementia|",
        r"alzheimer|parkinson|epilepsy|depression|anxiety|down syndrome|celiac|brown|blue|",
        r"green|red|blond|blonde|curly|black|type|been (?:diagnosed|vegan|vegetarian|sober|",
        r"living|working|married|a)|lived|worked|passed|moved|twins|kids|arthritis|severe|",
        r"chronic|just (?:had|been|got|moved))",
    );
    PASSING_HAS = concat!(
        r"(?i)^(?:an? )?(?:\w+ )?(?:question|problem|issue|point|idea|cold|fever|headache|",
        r"good (?:point|idea|time)|great (?:time|point|idea)|bad (?:day|mood)|lot|bit|habit|",
        r"way|meeting|feeling|time|tendency)\b",
    );
    DEAD = r"(?i)\b(?:just |sadly |recently )?(?:died|passed away|ran away)\b(.*)$";
    ADVERB = concat!(
        r"^((?: (?-i:\p{Lu})[\pL'-]+)?) (?:just|also|recently|now|still|really|always|",
        r"actually|currently|finally|absolutely) ",
    );
    EVENTFUL = concat!(
        r"(?i)^(?:(?:,? [\pL'-]+)?,?) ?(?:is|are) (?:getting|visiting|coming|moving|turning|",
        r"starting|graduating|having|arriving|leaving|flying|due|going|retiring|taking|giving|",
        r"performing|back|here|in|throwing|hosting|running|competing|celebrating)\b",
    );
    PASSING_STATE = r"(?i)^(?:(?:very )?(?:sick|ill)\b|in |visiting|coming)";
    PASSING_OBJECT = r"(?i)^(?:to (?:know|see|ask|hear)|the (?:way|idea)|for (?:a|the) moment)";
}

const BE: &[&str] = &["is", "are"];
#[rustfmt::skip]
const MALE: &[&str] = &[
    "dad", "father", "husband", "brother", "son", "boyfriend", "uncle", "grandfather", "grandpa", "nephew",
    "grandson", "stepdad", "stepfather",
];
#[rustfmt::skip]
const FEMALE: &[&str] = &[
    "mom", "mum", "mother", "wife", "sister", "daughter", "girlfriend", "aunt", "grandmother", "grandma",
    "niece", "granddaughter", "stepmom", "stepmother",
];
/// Verbs that tell an event when there is a date.
#[rustfmt::skip]
const EVENTFUL_VERBS: &[&str] = &[
    "got", "moved", "graduated", "turned", "turns", "bought", "started", "won", "broke",
    "adopted", "retired", "starts", "start", "came", "went", "gave", "had", "just", "will",
];

/// One of the family, a friend or a pet, as a clause speaks of them.
struct Relative {
    /// The noun: "sister".
    who: String,
    /// What stands before it: "older ".
    adjectives: String,
    /// "User's older sister".
    whose: String,
    pet: bool,
    plural: bool,
}

/// What a clause that begins with "my" says of family, friends and pets; `rest` is what follows,
/// without its date.
pub(super) fn find(rest: &str, when: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    let (relative, after) = relative(rest)?;
    if let Some(found) = CALLED.captures(&after) {
        return Some(vec![called(&relative, &found)?]);
    }
    let after = ADVERB.replace(&after, "$1 ").into_owned();
    let found = VERB.captures(&after)?;
    let name = found.get(1).map(|name| wording::trimmed(name.as_str()));
    if name.is_some_and(|name| !name.split(' ').all(wording::is_capitalised)) {
        return None;
    }
    let verb = found[2].to_lowercase();
    let tail = found.get(3).map_or("", |tail| tail.as_str());
    let full = match name {
        Some(name) => format!("{} {name}", relative.whose),
        None => relative.whose.clone(),
    };
    if DEAD.is_match(&after) {
        return Some(vec![gone(&full, &relative.who, name, &after, when)?]);
    }
    if BE.contains(&verb.as_str())
        && name.is_none()
        && !relative.plural
        && scene.capitals
        && let Some(name) = names::capitalised(tail)
    {
        let named = Finding::fact(0.8, format!("{full}'s name is {name}"));
        return Some(vec![sole(named, &relative)]);
    }
    let tail = object(tail.strip_prefix("both ").unwrap_or(tail))?;
    let eventful = when.is_some() && (EVENTFUL.is_match(&after) || has(EVENTFUL_VERBS, &verb));
    if !eventful && !lasts(&verb, &tail, when.is_some()) {
        // "My wife Priya makes the best dal": what she does passes, her name does not.
        let name = name.filter(|name| name.chars().count() > 1)?;
        let named = Finding::fact(0.7, format!("{}'s name is {name}", relative.whose));
        return (!relative.plural).then(|| vec![sole(named, &relative)]);
    }
    let shown = match verb.as_str() {
        "does not" => "doesn't",
        "do not" => "don't",
        "can not" => "can't",
        verb => verb,
    };
    let content = format!("{full} {shown} {}", person::third(&tail));
    Some(vec![if eventful {
        Finding::new(Event, 0.6, content).on(when)
    } else if BE.contains(&shown) && PASSING_STATE.is_match(&tail) {
        Finding::new(Context, 0.4, content)
    } else {
        Finding::fact(if relative.pet { 0.6 } else { 0.7 }, content)
    }])
}

/// The relative that a clause begins with, and what follows.
fn relative(rest: &str) -> Option<(Relative, String)> {
    let found = RELATION.captures(rest)?;
    let noun = found[2].to_lowercase();
    // "My dog's name", "my son's 5".
    let (who, after) = match noun.strip_suffix("'s") {
        Some(one) => (one.to_owned(), format!("'s{}", &found[3])),
        None => (noun, found[3].to_owned()),
    };
    let pet = has(lexicon::PETS, &who);
    if !pet && !has(lexicon::KIN, &who) {
        return None;
    }
    let adjectives = found[1].to_lowercase();
    let whose = format!("User's {adjectives}{who}");
    let plural = who.ends_with('s') && who != "boss" || who == "children";
    Some((
        Relative {
            who,
            adjectives,
            whose,
            pet,
            plural,
        },
        after,
    ))
}

/// Whether what is said of a relative will still be so next week.
fn lasts(verb: &str, tail: &str, dated: bool) -> bool {
    match verb {
        "is" | "are" => {
            let first = tail.split(' ').next().unwrap_or_default();
            KIN_IS.is_match(tail)
                || has(lexicon::NATIONALITIES, first)
                || objects::role(tail).is_some()
        }
        "was" | "were" => {
            KIN_IS.is_match(tail) || tail.starts_with("diagnosed") || tail.starts_with("born")
        }
        "has" | "have" | "had" => KIN_HAS.is_match(tail) && !PASSING_HAS.is_match(tail),
        "wants" => dated || tail.starts_with("to be"),
        "just" | "also" | "recently" | "will" | "gave" | "came" | "comes" | "go" | "went" => dated,
        "makes" | "make" | "does" => false,
        _ => !PASSING_OBJECT.is_match(tail),
    }
}

/// The member of the family or pet that a clause is about, so that the next can name it.
pub(super) fn spoken_of(clause: &str) -> Option<String> {
    if clause.starts_with("my name is not ") {
        return Some("name".to_owned());
    }
    let found = SPOKEN_OF.captures(clause)?;
    let end = objects::role_end(found.get(1)?.as_str());
    let noun = end.split(' ').find(|word| {
        !word.ends_with('s') && (has(lexicon::PETS, word) || has(lexicon::KIN, word))
    })?;
    Some(noun.to_lowercase())
}

/// Whether a clause goes on about the one spoken of just before, rather than bringing in somebody else.
pub(super) fn goes_on(clause: &str) -> bool {
    GOES_ON.is_match(clause)
}

/// "She is a nurse", about the one spoken of just before, as a clause of its own.
pub(super) fn continued(clause: &str, who: Option<&str>) -> Option<String> {
    let (pronoun, rest) = clause.split_once(' ')?;
    let who = who.filter(|who| *who != "name")?;
    let fits = match pronoun.to_lowercase().as_str() {
        "she" => !has(MALE, who),
        "he" => !has(FEMALE, who),
        _ => false,
    };
    fits.then(|| format!("my {who} {rest}"))
}

/// "Her name is Luna", about the one spoken of just before.
pub(super) fn name_of(clause: &str, who: Option<&str>) -> Option<Finding> {
    let who = who?;
    if who == "name" {
        let name = names::capitalised(clause.strip_prefix("it is ")?)?;
        return Some(Finding::fact(0.9, format!("User's name is {name}")).about("name"));
    }
    let found = NAMED_THEN.captures(clause)?;
    let name = names::given(found.iter().skip(1).flatten().next()?.as_str())?;
    Some(Finding::fact(0.7, format!("User's {who} is called {name}")))
}

/// "Anna is my wife".
pub(super) fn introduced(clause: &str) -> Option<Finding> {
    let found = KIN_OF.captures(clause)?;
    let (relative, after) = relative(&found[2])?;
    let name = names::capitalised(&found[1]).filter(|_| after.is_empty())?;
    let named = Finding::fact(0.8, format!("{}'s name is {name}", relative.whose));
    Some(sole(named, &relative))
}

/// "My wife's name is Anna", "my dog is called Rex".
fn called(relative: &Relative, found: &regex::Captures<'_>) -> Option<Finding> {
    let (name, called) = match (found.get(1), found.get(2)) {
        (Some(name), _) => (name.as_str(), false),
        (_, Some(name)) => (name.as_str(), true),
        _ => return None,
    };
    let several = name.contains(" and ");
    let name = if several {
        object(name)?
    } else {
        names::given(name)?
    };
    let whose = &relative.whose;
    let content = match (called, relative.plural) {
        (true, false) => format!("{whose} is called {name}"),
        (true, true) => format!("{whose} are called {name}"),
        (false, false) => format!("{whose}'s name is {name}"),
        (false, true) => format!("{whose}' names are {name}"),
    };
    let importance = if relative.pet { 0.7 } else { 0.8 };
    Some(sole(Finding::fact(importance, content), relative))
}

/// Gives the slot of a name to those of whom there is only one.
fn sole(finding: Finding, relative: &Relative) -> Finding {
    if relative.adjectives.is_empty() && has(lexicon::SOLE_KIN, &relative.who) {
        finding.about(format!("{}:name", relative.who))
    } else {
        finding
    }
}

/// Somebody who died or ran away.
fn gone(
    full: &str,
    who: &str,
    name: Option<&str>,
    after: &str,
    when: Option<&When>,
) -> Option<Finding> {
    let found = DEAD.captures(after)?;
    let how = wording::without_fillers(&found[1]);
    let verb = wording::trimmed(&after[found.get(0)?.start()..after.len() - found[1].len()]);
    let how = if how.is_empty() {
        String::new()
    } else {
        format!(" {}", object(how).unwrap_or_default())
    };
    let verb = verb.rsplit_once("just ").map_or(verb, |(_, verb)| verb);
    let content = format!("{full} {verb}{}", person::third(how.trim_end()));
    let event = Finding::new(Event, 0.8, content).on(when);
    if !has(lexicon::PETS, who) {
        return Some(event);
    }
    let had = objects::with_article(who);
    Some(event.ending(match name {
        Some(name) => format!("User has {had} named {name}"),
        None => format!("User has {had}"),
    }))
}
