//! Reads work and studies: employers, roles, and what changes there.

use super::dates::When;
use super::lexicon::{self, has};
use super::objects::{self, object};
use super::verbs::as_said;
use super::{Finding, Scene, patterns, person};
use crate::memory::MemoryKind::{Event, Fact};

patterns! {
    WORK_AS = r"(?i)^I (?:work|have been working|am working) as (.+?)(?: (?:at|for) (.+))?$";
    WORK_AT = r"(?i)^I (?:work|have worked|have been working) (at|for) (.+)$";
    WORK_IN = concat!(
        r"(?i)^I work (?:in|from home|remotely|night shifts?|nights|night|shifts|part[- ]time|",
        r"full[- ]time|freelance|weekends|with|on (?:a farm|weekends|ships|cruise|an oil)|",
        r"the night|from|at (?:night|home)|two jobs)\b",
    );
    PASSING_WORK = concat!(
        r"(?i)^I work (?:in (?:progress|the (?:dark|same|morning|evening|middle|background)|",
        r"silence|bursts|vim|excel)|with (?:it|that|this|him|her|them|you|what)|from (?:time|",
        r"scratch|here))\b",
    );
    STARTED_AT = concat!(
        r"(?i)^I (?:started|began|joined) (?:(?:working|work|a new job|my new job|a job|",
        r"my job|a position|a new position|a new role) )?(?:at|with|for|as) (.+)$",
    );
    JOINED = r"^I joined ([A-Z].+)$";
    GOT_JOB = concat!(
        r"(?i)^I (?:got|landed|accepted|took|found|was offered|started) (?:a|the|my|",
        r"another)(?: [\w-]+){0,3}? (?:job|position|role|internship|gig)\b(.*)$",
    );
    LEFT_JOB = concat!(
        r"(?i)^I (?:quit|left|resigned from|lost|was (?:fired|laid off|let go) from|",
        r"got (?:fired|laid off|let go) from|retired from|was (?:fired|laid off|let go)|",
        r"got (?:fired|laid off)|resigned|walked out of)(?: (?:my|",
        r"the)(?: [\w-]+){0,2}? (?:job|position|work|role|gig))?(?: (?:at|with|from|as|",
        r"in) (.+)| ((?-i:[A-Z])[\w&' .-]*))?$",
    );
    LEFT_SOME_JOB = r"(?i)\b(?:job|position|role|work|gig|resigned|fired|laid off|let go)\b";
    STUDY = concat!(
        r"(?i)^I (?:study|major in|majored in|minor in|attend|go to (?:college|university|uni|",
        r"med school|law school|high school|school) (?:at|in|for)|",
        r"go to (?-i:[A-Z])[\w ]*(?:University|College|School|Academy|High))\b",
    );
    SPEAK = concat!(
        r"(?i)^I (?:can )?speak ((?:a little |a bit of |some |fluent |basic |broken |both |",
        r"only |native |decent |conversational |no )*)(.+)$",
    );
}

/// What a clause says about work, studies and languages.
pub(super) fn find(clause: &str, _: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = WORK_AS.captures(clause) {
        let role = objects::role(&found[1]).or_else(|| object(&found[1]))?;
        let mut work = vec![
            Finding::fact(0.8, format!("User works as {}", person::third(&role))).about("job"),
        ];
        work.extend(
            found
                .get(2)
                .and_then(|employer| at("at", employer.as_str(), scene))
                .into_iter()
                .flatten(),
        );
        return Some(work);
    }
    if let Some(found) = WORK_AT.captures(clause)
        && let Some(work) = at(&found[1].to_lowercase(), &found[2], scene)
    {
        return Some(work);
    }
    if WORK_IN.is_match(clause) && !PASSING_WORK.is_match(clause) {
        return Some(vec![as_said(clause, Fact, 0.6)?]);
    }
    if STUDY.is_match(clause) {
        let study = as_said(clause, Fact, 0.7)?;
        let passing =
            study.content.contains(" study for ") || study.content.contains("studies for ");
        return (!passing).then(|| vec![study]);
    }
    let found = SPEAK.captures(clause)?;
    let language = found[2].split([' ', ',']).next()?;
    let known = has(lexicon::LANGUAGES, language)
        || language.parse::<u32>().is_ok()
        || ["two", "three", "four", "five", "six", "several"].contains(&language)
            && clause.contains("language");
    known.then(|| Some(vec![as_said(clause, Fact, 0.6)?]))?
}

/// Where the user works, and as what, from "Acme as a nurse".
pub(super) fn at(preposition: &str, text: &str, scene: &Scene) -> Option<Vec<Finding>> {
    let (employer, role) = objects::employer(text, scene)?;
    // "At" and "for" a name mean the same: one wording lets a later message find it.
    let preposition = if employer.named { "at" } else { preposition };
    let at = Finding::fact(
        0.8,
        format!("User works {preposition} {}", person::third(&employer.name)),
    );
    let mut work = vec![at.about("employer")];
    work.extend(role.map(|role| Finding::fact(0.8, format!("User works as {role}")).about("job")));
    Some(work)
}

/// What a clause says about a job that begins or ends.
pub(super) fn change(clause: &str, when: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = LEFT_JOB.captures(clause) {
        let at = found.get(1).or_else(|| found.get(2)).map(|at| at.as_str());
        if !LEFT_SOME_JOB.is_match(clause)
            && (at.is_none() || !clause.starts_with("I quit ") || !scene.capitals)
        {
            return None;
        }
        let left = as_said(clause, Event, 0.7)?.on(when);
        let employer = at
            .and_then(|employer| self::at("at", employer, scene))
            .and_then(|work| work.into_iter().next());
        return Some(vec![match employer {
            Some(employer) => left.ending(employer.content),
            None => left.about("employer"),
        }]);
    }
    if let Some(found) = JOINED
        .captures(clause)
        .or_else(|| STARTED_AT.captures(clause))
    {
        if let Some(role) = clause
            .contains(" as ")
            .then(|| objects::role(&found[1]))
            .flatten()
        {
            return Some(vec![
                Finding::fact(0.8, format!("User works as {role}")).about("job"),
            ]);
        }
        let mut work = at("at", &found[1], scene)?;
        let employer = work
            .first()?
            .content
            .strip_prefix("User works ")
            .map(str::to_owned);
        if let (Some(when), Some(employer)) = (when, employer) {
            work.push(
                Finding::new(Event, 0.6, format!("User started working {employer}")).on(Some(when)),
            );
        }
        return Some(work);
    }
    let found = GOT_JOB.captures(clause)?;
    let got = as_said(clause, Event, 0.7)?.on(when);
    let job = found[1].trim();
    let filled = if job.starts_with("as ") {
        got.about("job")
    } else {
        got.about("employer")
    };
    Some(vec![filled])
}
