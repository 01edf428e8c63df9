//! Reads what somebody is, "a nurse from Leeds", "the mother of two", "vegan", and what they study.

use std::collections::HashSet;

use super::am::said;
use super::dates::When;
use super::lexicon::{self, has};
use super::objects::{self, object};
use super::verbs::{self, as_said};
use super::{Finding, Scene, patterns, person, work};
use crate::memory::MemoryKind::Fact;

patterns! {
    STUDYING = concat!(
        r"(?i)^(?:studying|majoring in|minoring in|doing (?:a|my|an) (?:phd|master|bachelor|",
        r"degree|mba|doctorate|ma|msc|ba|bsc|postdoc|apprenticeship|internship)\w*|",
        r"getting my (?:phd|master|bachelor|degree|mba)\w*|pursuing|enrolled (?:in|at)|",
        r"a (?:\w+[- ]year |grad(?:uate)? |phd |medical |law |college |university |",
        r"high school |exchange |nursing |engineering |first-year |master'?s )*(?:student|",
        r"undergrad|undergraduate|freshman|sophomore|junior|senior)|in (?:\w+ )?(?:grade|year|",
        r"college|university|med school|law school|grad school|high school|middle school))\b",
    );
    NO_STUDY = concat!(
        r"(?i)^studying (?:for|this|that|it|hard|the (?:docs|code|problem))|^pursuing (?:this|",
        r"that|it)",
    );
    WORKING = concat!(
        r"(?i)^(?:working|employed|interning|now working|currently working) (at|for|as|in|",
        r"from home|remotely|part[- ]time|full[- ]time|with (?:kids|children|animals|",
        r"patients)|two jobs|night shifts?|nights)\b ?(.*)$",
    );
    THE_ROLE = concat!(
        r"(?i)^(?:the|an?) (?:(?:oldest|youngest|middle|eldest|only|second|third|first) (?:of|",
        r"child|one of|kid|sibling|daughter|son)|only child|ceo|cto|cfo|coo|founder|",
        r"co-founder|cofounder|head|owner|president|chair|captain|leader|member|",
        r"vice president|vp|lead|mother|father|mom|mum|dad|parent|grandmother|grandfather|",
        r"stepmom|stepdad|aunt|uncle|godmother|godfather|proud (?:\w+ )?(?:mother|father|mom|",
        r"mum|dad|parent|owner|grandma|grandpa|aunt|uncle)|single (?:mother|father|mom|mum|",
        r"dad|parent)|new (?:mother|father|mom|mum|dad|parent)|stay[- ]at[- ]home (?:mother|",
        r"father|mom|mum|dad|parent)|working (?:mother|mom|mum|dad))\b",
    );
    NO_JOB = concat!(
        r"(?i)^(?:an? |the )?(?:(?:very|really|pretty|quite|rather|so|fairly|reasonably|extremely|such an?) )*",
        r"(?:(?:good|better|best|great|terrible|bad|worse|worst|awful|horrible|lousy|mediocre|decent|keen|avid|amateur|",
        r"hobby|hobbyist|aspiring|budding|wannabe|would-be|future|former|ex|past|old|proud|slow|careful|careless|nervous|",
        r"reckless|lazy|confident|passionate|enthusiastic|terrific|excellent|fantastic|wonderful|amazing|talented|skilled|",
        r"gifted|retired|part-time|weekend|occasional|frustrated|failed|natural|born|competent|hopeless|messy|picky|",
        r"self-taught)[ -]|(?:home|fast) (?:cook|chef|baker|brewer|driver|writer|reader)\b)",
    );
    CORRECTED = r"(?i)\b(?:sorry|i meant?|correction|oops|rather|now|became|jetzt|korrektur|ahora|perdón)\b";
    JOB_IN = r"(?i)^User(?:'s job)? (?:is|works as|ist|arbeitet als|es|trabaja como) (?:an? |the |eine? )?";
    PERSONALITY = r"(?i)^(?:an? )?(?:[ei][ns][tf][jp](?:-[at])?|more of an? \w+ person)$";
    TRAIT_IN = concat!(
        r"(?i)^(?:an? )?(?:strict |lifelong |devout |practicing |practising |proud |total |",
        r"mostly |partially |legally |completely |half |ethnically |part |recovering |",
        r"registered |new |newly |hard of )?([\pL'-]+(?:-[\pL]+)?)(?: and proud| by (?:birth|",
        r"marriage|descent|choice)|-american| for .+| since .+|  )?$",
    );
}

pub(super) fn occupation(part: &str, _: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = WORKING.captures(part) {
        let how = found[1].to_lowercase();
        return match how.as_str() {
            "at" | "for" => work::at(&how, &found[2], scene),
            "as" => {
                let role = objects::role(&found[2]).or_else(|| object(&found[2]))?;
                let (role, at) = match role.split_once(" at ") {
                    Some((role, at)) => (role.to_owned(), work::at("at", at, scene)),
                    None => (role, None),
                };
                let works = Finding::fact(0.8, format!("User works as {}", person::third(&role)));
                Some(
                    [works.about("job")]
                        .into_iter()
                        .chain(at.into_iter().flatten())
                        .collect(),
                )
            }
            _ => Some(vec![as_said(&said(part), Fact, 0.6)?]),
        };
    }
    if STUDYING.is_match(part) && !NO_STUDY.is_match(part) {
        return Some(vec![as_said(&said(part), Fact, 0.7)?]);
    }
    None
}

#[rustfmt::skip]
const KINDS_OF_PERSON: &[&str] = &[
    "morning", "night", "cat", "dog", "people", "tea", "coffee", "outdoor", "outdoors", "private",
    "shy", "spiritual", "religious", "evening", "beach", "mountain", "city", "deaf", "blind",
    "disabled", "trans", "creative",
];
const DEGREES: &[&str] = &[
    "a", "an", "huge", "big", "massive", "total", "real", "great", "true", "major", "such",
];

/// What somebody is: a nationality, a creed, a trade, a mother of two.
pub(super) fn being(part: &str, _: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    let part = &object(part)?;
    let is = |words: &str| format!("User is {}", person::third(words));
    if let Some(found) = TRAIT_IN.captures(part) {
        let word = found[1].to_lowercase();
        let known = [
            lexicon::TRAITS,
            lexicon::NATIONALITIES,
            lexicon::KINDS_OF_PEOPLE,
        ];
        if known.iter().any(|list| has(list, &word)) {
            let eats = word.ends_with("arian") && word != "libertarian" || word == "vegan";
            let fact = Finding::fact(if eats { 0.8 } else { 0.7 }, is(part));
            return Some(vec![if eats {
                fact.about("diet")
            } else if ["retired", "unemployed", "self-employed", "freelance"]
                .contains(&word.as_str())
            {
                fact.about("job")
            } else {
                fact
            }]);
        }
    }
    if THE_ROLE.is_match(part) {
        return Some(vec![as_said(&said(part), Fact, 0.7)?]);
    }
    if PERSONALITY.is_match(part) {
        return Some(vec![Finding::fact(0.5, is(part))]);
    }
    let end = objects::role_end(part);
    let (role, rest) = (end, part[end.len()..].trim_start_matches([',', ' ']));
    let role_words = role.split(' ').count();
    let article = ["a ", "an "]
        .iter()
        .any(|article| role.starts_with(article));
    if role_words > 6 {
        return None;
    }
    let bare = role_words >= 2 && !role.contains("ing ") && !role.contains(" a ");
    if (article || bare)
        && let Some(role) = objects::role(role)
    {
        return Some(trade(&role, rest, scene));
    }
    let head = role.rsplit([' ', '-']).next()?.to_lowercase();
    let one = head.strip_suffix('s').unwrap_or(&head);
    let nation = role_words == 2 && has(lexicon::NATIONALITIES, &head);
    let kind_of = has(lexicon::BEINGS, &head) || has(lexicon::BEINGS, one) && !article || nation;
    let kind_of = kind_of && is_of_a_kind(role, &head);
    if !article || !kind_of {
        return None;
    }
    let content = as_said(&said(part), Fact, 0.6)?;
    Some(vec![if head.ends_with("arian") || head == "vegan" {
        content.about("diet")
    } else {
        content
    }])
}

/// Whether "a … person" or "a … fan" says of which kind.
fn is_of_a_kind(role: &str, head: &str) -> bool {
    match head {
        "person" => role.split(' ').any(|word| has(KINDS_OF_PERSON, word)),
        "fan" => role.split(' ').filter(|word| !has(DEGREES, word)).count() >= 2,
        _ => true,
    }
}

/// "User is a nurse". It takes the place of another job, unless it tells how well somebody does something,
/// for fun, or once did: "a terrible cook", "an amateur boxer", "a former teacher".
pub(super) fn job(role: &str, importance: f64) -> Finding {
    let is = Finding::fact(importance, format!("User is {}", person::third(role)));
    if NO_JOB.is_match(role) {
        is
    } else {
        is.about("job")
    }
}

/// The job that a statement about one is of, in lower case: "nurse" of "User works as a nurse".
pub fn job_in(statement: &str) -> String {
    JOB_IN.replace(statement, "").to_lowercase()
}

/// Who tells of several jobs at once has them all: none takes the place of another, unless the message says
/// that it corrects one.
pub(super) fn leave_several_jobs(found: &mut [Finding], message: &str) {
    let is_job = |finding: &&Finding| finding.subject.as_deref() == Some("job");
    let jobs: HashSet<String> = found
        .iter()
        .filter(is_job)
        .map(|finding| job_in(&finding.content))
        .collect();
    if jobs.len() < 2 || CORRECTED.is_match(message) {
        return;
    }
    for finding in found {
        finding.subject = finding.subject.take().filter(|slot| slot != "job");
    }
}

/// "A nurse" with "at Acme", "from Leeds" or "in Berlin" behind it.
fn trade(role: &str, rest: &str, scene: &Scene) -> Vec<Finding> {
    let is = |words: &str| job(words, 0.8);
    let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let more = match word {
        "at" | "for" => work::at(word, after, scene),
        "from" => verbs::comes_from(after, scene).map(|from| vec![from]),
        "based" | "living" | "residing" => after
            .strip_prefix("in ")
            .and_then(|place| objects::place(place, scene))
            .map(|place| vec![verbs::lives_in(&place)]),
        "in" | "of" | "with" | "specializing" | "specialising" => {
            return object(after).map_or_else(
                || vec![is(role)],
                |after| vec![is(&format!("{role} {word} {after}"))],
            );
        }
        "working" => after
            .split_once(' ')
            .filter(|(how, _)| ["at", "for"].contains(how))
            .and_then(|(how, at)| work::at(how, at, scene)),
        _ => None,
    };
    [is(role)]
        .into_iter()
        .chain(more.into_iter().flatten())
        .collect()
}
