//! Reads one clause: what it affirms, denies or ends.

use super::calendar::Tense;
use super::dates;
use super::gates::Statement;
use super::lexicon::{self, has};
use super::reading::QUOTED;
use super::{Finding, Scene, am, events, have, mine, objects, patterns, person, verbs, wording};
use crate::memory::MemoryKind;

patterns! {
    UNSURE = concat!(
        r"(?i)\b(?:maybe|perhaps|possibly|probably|might|not sure|supposedly|in theory|",
        r"i doubt|i guess|could be|hopefully|would be|could have|should have|kind of wish)\b",
    );
    FORGETFUL = r"(?i)^I (?:always|often|keep|never|usually|sometimes) (?:forget|forgetting|remember)\W*$";
    NO_LONGER = concat!(
        r"(?i)^I (am |do )?(?:no longer|not longer) (.+)$|^I (am |do |",
        r"can )not (.+?) (?:any more|any longer|no more)\b",
    );
    USED_TO = r"(?i)^I used to (be )?(.+)$";
    STOPPED = r"(?i)^I (?:stopped|quit|gave up|have given up|have stopped) (\w+ing)\b(.*)$";
    MINE_NO_LONGER = r"(?i)^my (.+?) is no longer (.+)$|^my (.+?) is not (.+?) any ?more$";
    DO_NOT = r"(?i)^I do not (\w+)\b(.*)$";
    AM_NOT = r"(?i)^I am not (.+)$";
    MINE_NOT = r"(?i)^my (.+?) is not (.+)$";
    NEVER_DONE = concat!(
        r"(?i)^I (?:never (?:learned|learnt|finished|graduated|owned|married|smoked|drank)|",
        r"have never (?:been to|tried|eaten|had|seen|learned|learnt|owned|flown|visited|",
        r"smoked|driven|traveled|travelled|read|watched|played|lived|worked|met my|left|",
        r"broken|drunk|skied|surfed|dated|married))\b ?(.*)$",
    );
    HAVE_NO = r"(?i)^I (?:have no|do not have any|do not have an?) (.+)$";
    CAN_NOT = concat!(
        r"(?i)^I can not (?:eat|do (?:spicy|dairy|gluten|heights|crowds|sugar|caffeine|",
        r"seafood)|handle|drink|swim|drive|digest|tolerate|have (?:dairy|gluten|lactose|nuts|",
        r"sugar|caffeine|alcohol|kids|children)|cook|ride a|read music|sing|dance|smell|hear|",
        r"see colou?rs?|walk)\b ?(.*)$",
    );
    NEVER_DO = concat!(
        r"(?i)^I (?:do not|never) (?:eat|drink|smoke|drive|own|celebrate|believe in|watch|use|",
        r"wear|want (?:kids|children)|eat|cook|take sugar|work on|work (?:weekends|nights|",
        r"fridays)|have (?:kids|children|siblings|pets|time for breakfast)|play|gamble|vote|",
        r"do (?:drugs|social media)|dance|sing|consume|vape|follow|shop|care (?:for|about)|",
        r"trust)\b ?(.*)$",
    );
    AVERSION =
        r"(?i)^I can not (?:stand|bear|live without|resist|tolerate|get enough|do without)\b";
    GENERAL = concat!(
        r"(?i)^(?:sometimes|\w+ing|life|people|everyone|nobody|no one|there|what|it|nothing|",
        r"everything|all|always|never|we are all|one)\b",
    );
    NEGATIVE = concat!(
        r"(?i)^I (?:do not|did not|am not|was not|have not|had not|can not|could not|will not|",
        r"would not|should not|never)\b",
    );
}

/// Gerunds whose verb can be told, for "I stopped …".
#[rustfmt::skip]
const STOPPABLE: &[(&str, &str)] = &[
    ("smoking", "smoke"), ("drinking", "drink"), ("eating", "eat"), ("working", "work"),
    ("playing", "play"), ("running", "run"), ("studying", "study"), ("going", "go"),
    ("taking", "take"), ("living", "live"), ("teaching", "teach"), ("driving", "drive"),
    ("collecting", "collect"), ("vaping", "vape"), ("watching", "watch"), ("wearing", "wear"),
    ("using", "use"), ("swimming", "swim"), ("dancing", "dance"), ("painting", "paint"),
];

/// What a clause states.
pub(super) fn find(clause: &str, scene: &Scene) -> Vec<Finding> {
    if clause.contains(QUOTED)
        || clause.len() > 1_000
        || UNSURE.is_match(clause)
        || FORGETFUL.is_match(clause)
    {
        return Vec::new();
    }
    if let Some(ended) = ended(clause, scene) {
        return ended;
    }
    if let Some(denied) = denied(clause, scene) {
        return denied;
    }
    affirmed(clause, scene)
}

/// What the user asked to remember, in their words, when no rule reads it.
pub(super) fn as_told(statement: &Statement, scene: &Scene) -> Option<Finding> {
    let (text, when) = dates::take(&statement.text, Tense::Future, scene);
    let text = wording::without_fillers(&text);
    let words = text.split(' ').count();
    if statement.note {
        let content = format!("User asked to remember: {}", person::third(text));
        return (!text.is_empty())
            .then(|| Finding::new(MemoryKind::Context, 0.9, content).on(when.as_ref()));
    }
    if GENERAL.is_match(text) || words < 3 || objects::addresses_listener(text) || !has_verb(text) {
        return None;
    }
    let kind = if when.is_some() {
        MemoryKind::Event
    } else {
        MemoryKind::Fact
    };
    let text = text.strip_suffix(" is").unwrap_or(text);
    Some(Finding::new(kind, 0.9, person::reported(text)).on(when.as_ref()))
}

fn has_verb(text: &str) -> bool {
    text.split(' ')
        .any(|word| has(lexicon::STATED, word) || person::is_past(&word.to_lowercase()))
}

fn affirmed(clause: &str, scene: &Scene) -> Vec<Finding> {
    let tense = events::tense(clause);
    let (dateless, when) = dates::take(clause, tense, scene);
    let when = when.as_ref();
    let found = if let Some(rest) = clause.strip_prefix("my ") {
        mine::find(rest, &dateless, when, scene)
    } else if clause.starts_with("I am ") {
        am::find(&dateless, when, scene)
    } else if clause.starts_with("I have ") {
        have::find(&dateless, when, scene)
    } else if clause.starts_with("I ") {
        verbs::find(&dateless, when, scene)
    } else {
        mine::find_elsewhere(clause, scene)
    };
    match when {
        Some(when) if found.is_empty() => events::dated(&dateless, when).into_iter().collect(),
        _ => found,
    }
}

/// What a clause says is over; nothing when it isn't of that kind.
fn ended(clause: &str, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = NO_LONGER.captures(clause) {
        let helper = found
            .get(1)
            .or_else(|| found.get(3))
            .map_or("", |helper| helper.as_str());
        let rest = found.get(2).or_else(|| found.get(4))?.as_str();
        let helper = if helper.eq_ignore_ascii_case("do ") {
            ""
        } else {
            helper
        };
        let positives = positives(&format!("I {helper}{rest}"), scene);
        return Some(positives.into_iter().filter_map(no_longer).collect());
    }
    if let Some(found) = USED_TO.captures(clause) {
        let rest = objects::object(&found[2])?;
        let positive = if found.get(1).is_some() {
            format!("I am {rest}")
        } else {
            format!("I {rest}")
        };
        let content = person::stated(&format!(
            "I used to {}{rest}",
            found.get(1).map_or("", |be| be.as_str())
        ))?;
        let ended = positives(&positive, scene).into_iter().next();
        return Some(match ended {
            Some(ended) => vec![Finding::new(ended.kind, 0.4, content).ending(ended.content)],
            None => vec![Finding::fact(0.3, content)],
        });
    }
    if STOPPED.is_match(clause) {
        let (dateless, when) = dates::take(clause, Tense::Past, scene);
        let rest = objects::object(&dateless)?;
        let content = person::stated(&rest)?;
        let stopped = Finding::new(MemoryKind::Event, 0.6, content).on(when.as_ref());
        let positive = STOPPED.captures(&rest).and_then(|found| {
            let gerund = found[1].to_lowercase();
            let (_, verb) = STOPPABLE.iter().find(|(from, _)| *from == gerund)?;
            person::stated(&format!("I {verb}{}", &found[2]))
        });
        return Some(vec![match positive {
            Some(positive) => stopped.ending(positive),
            None => stopped,
        }]);
    }
    let found = MINE_NO_LONGER.captures(clause)?;
    let what = found.get(1).or_else(|| found.get(3))?.as_str();
    let was = objects::object(found.get(2).or_else(|| found.get(4))?.as_str())?;
    let positive = positives(&format!("my {what} is {was}"), scene)
        .into_iter()
        .next();
    Some(positive.and_then(no_longer).into_iter().collect())
}

fn positives(clause: &str, scene: &Scene) -> Vec<Finding> {
    affirmed(clause, scene)
        .into_iter()
        .filter(|found| found.kind != MemoryKind::Event)
        .collect()
}

fn no_longer(positive: Finding) -> Option<Finding> {
    let content = if let Some(rest) = positive.content.strip_prefix("User is ") {
        format!("User is no longer {rest}")
    } else if let Some(rest) = positive.content.strip_prefix("User can ") {
        format!("User can no longer {rest}")
    } else if let Some(rest) = positive.content.strip_prefix("User ") {
        format!("User no longer {rest}")
    } else {
        positive.content.replacen(" is ", " is no longer ", 1)
    };
    (content != positive.content)
        .then(|| Finding::new(positive.kind, positive.importance, content).ending(positive.content))
}

/// What a clause denies; nothing when it isn't negative.
fn denied(clause: &str, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = MINE_NOT.captures(clause) {
        let positive = positives(&format!("my {} is {}", &found[1], &found[2]), scene)
            .into_iter()
            .next();
        return Some(positive.and_then(|p| is_not(&p)).into_iter().collect());
    }
    if let Some(found) = HAVE_NO.captures(clause)
        && let Some(none) = have_none(&found[1], scene)
    {
        return Some(vec![none]);
    }
    if AVERSION.is_match(clause) || !NEGATIVE.is_match(clause) && !NEVER_DONE.is_match(clause) {
        return None;
    }
    if let Some(found) = AM_NOT.captures(clause) {
        let positives = positives(&format!("I am {}", &found[1]), scene);
        return Some(positives.iter().filter_map(is_not).collect());
    }
    if let Some(found) = DO_NOT.captures(clause) {
        let (verb, rest) = (found[1].to_lowercase(), &found[2]);
        let positives = positives(&format!("I {verb}{rest}"), scene);
        let conjugated = format!("User {} ", person::conjugated(&verb));
        let denied: Vec<Finding> = positives
            .into_iter()
            .filter_map(|positive| {
                let rest = positive.content.strip_prefix(&conjugated)?;
                let content = format!("User doesn't {verb} {rest}");
                Some(
                    Finding::new(positive.kind, positive.importance, content)
                        .ending(positive.content),
                )
            })
            .collect();
        if !denied.is_empty() {
            return Some(denied);
        }
    }
    let standing = [
        (&NEVER_DO, MemoryKind::Preference, 0.6),
        (&CAN_NOT, MemoryKind::Fact, 0.6),
        (&NEVER_DONE, MemoryKind::Fact, 0.4),
    ];
    for (pattern, kind, importance) in standing {
        if let Some(found) = pattern.captures(clause) {
            return Some(
                standing_denial(clause, &found[1], kind, importance)
                    .into_iter()
                    .collect(),
            );
        }
    }
    Some(Vec::new())
}

/// "I don't eat meat", "I can't swim", "I have never been to Japan".
fn standing_denial(clause: &str, rest: &str, kind: MemoryKind, importance: f64) -> Option<Finding> {
    if !rest.is_empty() {
        objects::object(rest)?;
    }
    let clause = objects::object(clause.strip_prefix("I ")?)?;
    let content = person::stated(&format!("I {clause}"))?;
    let positive = clause
        .strip_prefix("do not ")
        .or_else(|| clause.strip_prefix("never "))
        .and_then(|positive| person::stated(&format!("I {positive}")));
    let finding = Finding::new(kind, importance, content);
    Some(match positive {
        Some(positive) => finding.ending(positive),
        None => finding,
    })
}

/// "I have no kids": the thing must be one that people are known by.
fn have_none(what: &str, scene: &Scene) -> Option<Finding> {
    let what = objects::object(what)?;
    let one = if what.ends_with('s') || what == "children" {
        what.clone()
    } else {
        objects::with_article(&what)
    };
    let positive = positives(&format!("I have {one}"), scene)
        .into_iter()
        .next()?;
    let content = if one == what {
        format!("User has no {what}")
    } else {
        format!("User doesn't have {one}")
    };
    let content = person::third(&content);
    Some(Finding::fact(positive.importance.min(0.6), content).ending(positive.content))
}

fn is_not(positive: &Finding) -> Option<Finding> {
    let content = positive.content.replacen(" is ", " isn't ", 1);
    (content != positive.content).then(|| {
        Finding::new(positive.kind, positive.importance.min(0.7), content)
            .ending(positive.content.clone())
    })
}
