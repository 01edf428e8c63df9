//! Reads "I am …": name, age, origin, trade, diet, health, tastes, plans.

use super::dates::When;
use super::lexicon::{self, has};
use super::objects::{self, object};
use super::verbs::{self, as_said};
use super::{Finding, Reading, Scene, being, names, patterns, tastes, wording, work};
use crate::memory::MemoryKind::{Context, Event, Fact, Preference};

patterns! {
    PART = concat!(
        r"(?i)^\s*(?:,|\band\b|,\s*and\b)\s*(?:I am )?(?:also |originally |currently |",
        r"now )?(?:an? \pL|from |allergic |vegan\b|vegetarian\b|living |working |based |",
        r"married\b|single\b|divorced\b|retired\b|\d{1,2}\b|studying |lactose|gluten|",
        r"originally|learning |trying to |training |the (?:ceo|cto|founder|owner|head|mother|",
        r"mom|father|dad)|pregnant|left-handed|native |fluent |half |software |freelance |",
        r"into )",
    );
    PROPER_PART = r"^\s*,\s*\p{Lu}\w+(?:$|,)";
    AGE = concat!(
        r"(?i)^(?:about |almost |nearly |only |just )?(\d{1,3}|(?:twenty|thirty|forty|fifty|",
        r"sixty|seventy|eighty)(?:[- ](?:one|two|three|four|five|six|seven|eight|nine))?|",
        r"thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|",
        r"nineteen)(?: ?-?(?:years?[ -]olds?|y/?o|yrs?(?: old)?|years of age|f|m|male|",
        r"female))?(?: now| today| already)?$",
    );
    AGED = r"(?i)^(?:an? )?(\d{1,3})[- ]?(?:years?|yrs?)?[- ]?(?:old|yo|y/o) (.+)$";
    TURNING = r"(?i)^turning (\d{1,3})\b";
    TALL = concat!(
        r"(?i)^(?:about |around )?(\d(?:['’.]\d{0,2}\W?|\s?(?:ft|feet|foot)(?: \d+(?: ?(?:in|",
        r"inches))?)?)|\d{3} ?cm|1[.,]\d\d ?m)(?: tall)?$",
    );
    FROM = r"(?i)^(?:originally |actually |born )?from (.+)$";
    BASED = concat!(
        r"(?i)^(?:based|living|currently living|currently based|located|residing|currently residing) (in|near|",
        r"outside|with|alone) (.+)$",
    );
    EMPLOYED = r"(?i)^(?:currently |presently |now )?employed (?:by|at|with) (.+)$";
    ALLERGIC = concat!(
        r"(?i)^(?:(?:severely|deathly|mildly|very|highly|extremely|quite|super|a bit|",
        r"slightly) )?(?:allergic|intolerant|sensitive) to (.+)$",
    );
    INTOLERANT = concat!(
        r"(?i)^(?:(?:severely|very|highly) )?(?:lactose|gluten|fructose|dairy|",
        r"histamine)[- ](?:intolerant|free|sensitive)$",
    );
    RELATED = concat!(
        r"(?i)^(?:(?:happily|recently|newly|just|finally|already|now) )?(?:married|single|",
        r"divorced|engaged|widowed|separated|in a (?:long[- ]distance |long[- ]term |serious |",
        r"new |happy )?relationship|dating|seeing someone|polyamorous)(?: (?:to|with|for|",
        r"since|from) .+|  ?(?-i:[A-Z])\w+|, .+)?$",
    );
    ENGAGED_IN = concat!(
        r"(?i)^(?:engaged|married|dating) (?:in|by|with (?:this|the|a)|to (?:my (?:work|job)|",
        r"the (?:idea|job)))\b",
    );
    FLUENT = concat!(
        r"(?i)^(?:(?:a )?(?:fluent|native|bilingual)(?: speaker of| in| speaker| (?:french|",
        r"spanish|english|german)))\b",
    );
    LEARNING = concat!(
        r"(?i)^(?:learning|teaching myself|trying to learn|relearning|self-studying|",
        r"practicing|practising)\s+(.+)$",
    );
    LIKING = concat!(
        r"(?i)^(?:(?:really|very|super|so|pretty|totally|completely|quite|absolutely|",
        r"deeply) )?(?:into|fond of|obsessed with|crazy about|passionate about|interested in|",
        r"(?:scared|afraid|terrified|frightened) of|addicted to|hooked on|keen on|partial to|",
        r"a (?:(?:really|very|big|huge|massive|lifelong|die-hard|long-time|longtime|great|",
        r"avid|major) )*(?:fan|lover|supporter|follower) of|(?:good|bad|terrible|great|awful|",
        r"decent|really good|really bad) at|a sucker for)\s+(.+)$",
    );
    NO_LIKING = concat!(
        r"(?i)^(?:knowing|hearing|seeing|learning more|learning about (?:this|how|the|what)|",
        r"finding out|what|how|your|this|that|getting|being here|losing|the (?:idea|answer|",
        r"topic|result)|making mistakes|buying|talking|asking|a (?:job|position|role)|",
        r"working with)\b",
    );
    GOAL = concat!(
        r"(?i)^(?:training (?:for|to)|saving (?:up )?(?:for|to)|writing (?:a|",
        r"my) (?:[\w-]+ )?(?:book|novel|thesis|memoir|dissertation|blog|screenplay|play|phd)|",
        r"(?:trying|planning|hoping|preparing|looking) to (?:quit|lose|learn|get (?:pregnant|",
        r"fit|in shape|healthier|a dog|married|my)|eat|save|move|buy|adopt|have (?:a|kids|",
        r"children)|become|run|start (?:a|my)|cut|stop|visit|travel|conceive|retire|gain|",
        r"drink less|exercise|read more|change (?:careers?|jobs))|planning (?:a|an|our|",
        r"my) (?:\w+ ){0,2}(?:trip|wedding|move|vacation|holiday|honeymoon|party)|",
        r"building (?:a|an|my|our) (?:\w+ )?(?:house|cabin|startup|company|boat|guitar|shed|",
        r"deck|treehouse|robot|game)|renovating|raising|restoring|expecting (?:a|our|my|",
        r"twins)|going through (?:a|chemo|menopause|ivf)|recovering from|homeschooling|",
        r"applying (?:to|for) (?:(?-i:[A-Z])\w*|college|university|med|law|grad|a phd|jobs)|",
        r"looking for (?:a|an) (?:new )?(?:job|apartment|flat|house)|job[- ]hunting|",
        r"taking (?:\w+ )?(?:classes|lessons|a course|insulin|medication|antidepressants|",
        r"piano|guitar|singing|dance|art|pottery|cooking)|volunteering|coaching|learning to|",
        r"getting (?:married|divorced|braces|a divorce|a puppy|a dog)|moving (?:to|in with|",
        r"into|back)|starting (?:a new job|my new job|university|college|school|a business|",
        r"my own)|growing (?:my|tomatoes|vegetables|herbs)|collecting|running (?:a|my own|",
        r"for) )\b",
    );
    NO_GOAL = concat!(
        r"(?i)^(?:raising (?:a|the|this) (?:question|issue|concern|point)|",
        r"trying to (?:get (?:my|a) (?:head|code|program|script)|start (?:a|my) (?:server|",
        r"program|computer|engine|car)|learn (?:how|what|why|more|if|about|the (?:basics|",
        r"difference))|change|have a|run (?:a|this|the|my)|move (?:a|this|the|it)|",
        r"stop (?:this|it|the)|become (?:a )?better)|collecting (?:data|information|ideas)|",
        r"moving (?:to the next|to another|back to the)|taking (?:a course of)|running (?:a|",
        r"for) (?:test|script|query|program|command|the|fever|job))\b",
    );
    ON_DIET = concat!(
        r"(?i)^(?:on|following|doing|trying) (?:an? |the )?(?:[\w-]+ ){0,2}(?:diet|keto|",
        r"fodmap|fast|medication|meds|antidepressants|insulin|statins|blood thinners|",
        r"parental leave|maternity leave|paternity leave|sabbatical|disability|chemo|",
        r"birth control|the pill|dialysis)\b",
    );
    NOW_AT = r"(?i)^(?:re-?reading|reading|watching|playing|rewatching|listening to) (?-i:[A-Z])";
    TIME_ZONE = r"(?i)^(?:in|on) (?:the )?(\w+(?: \w+)?) time(?: ?zone)?$";
    TO_BE = concat!(
        r"(?i)^(?:going to be|becoming|about to become|about to be) (?:an? )?(?:\w+ )?(?:aunt|",
        r"uncle|mom|mum|mother|dad|father|parent|grandma|grandmother|grandpa|grandfather|",
        r"grandparent|big (?:brother|sister))s?$",
    );
    PASSING = r"(?i)^(?:going|flying|travell?ing|heading|driving|off) to\b";
    PREGNANT = concat!(
        r"(?i)^(?:\w+ (?:weeks|months) pregnant|pregnant(?: with .+)?|expecting|in remission|",
        r"cancer[- ]free|hard of hearing|legally blind|in recovery|",
        r"on the (?:autism )?spectrum|diagnosed with .+|colou?r[- ]?blind|afraid of heights|",
        r"in a wheelchair|hearing[- ]impaired|visually[- ]impaired|type (?:1|2|one|",
        r"two) diabetic|prone to (?:migraines|anxiety|.+infections))$",
    );
}

/// What a clause that begins with "I am" states.
pub(super) fn find(clause: &str, when: Option<&When>, scene: &Scene) -> Vec<Finding> {
    let Some(complement) = clause.strip_prefix("I am ") else {
        return Vec::new();
    };
    let parts = parts(complement);
    let mut found: Vec<Finding> = parts
        .iter()
        .flat_map(|part| one(part, when, scene))
        .collect();
    // A name behind a comma is that of the one spoken to: "I am here, Mel".
    let mut first = parts
        .first()
        .map(|first| one(first, when, scene))
        .unwrap_or_default();
    if let [name, age, ..] = parts.as_slice()
        && AGE.is_match(age)
        && !scene.capitals
        && let Some(name) = names::capitalised(&wording::title_case(name))
    {
        first.push(Finding::fact(0.9, format!("User's name is {name}")).about("name"));
        found.extend(first.last().cloned());
    }
    found.retain(|finding| finding.subject.as_deref() != Some("name") || first.contains(finding));
    found
}

/// The parts of a list like "29, a nurse from Leeds and vegan".
fn parts(complement: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, _) in complement.match_indices([',', ' ']) {
        let rest = &complement[at..];
        if at > start && (PART.is_match(rest) || PROPER_PART.is_match(rest)) {
            parts.push(&complement[start..at]);
            start = at;
        }
    }
    parts.push(&complement[start..]);
    parts
        .into_iter()
        .map(|part| part.trim_start_matches([',', ' ']))
        .map(|part| part.strip_prefix("and ").unwrap_or(part))
        .map(|part| part.strip_prefix("I am ").unwrap_or(part))
        .map(|part| {
            ["also ", "currently ", "now "]
                .iter()
                .find_map(|w| part.strip_prefix(w))
                .unwrap_or(part)
        })
        .filter(|part| !part.is_empty())
        .collect()
}

fn one(part: &str, when: Option<&When>, scene: &Scene) -> Vec<Finding> {
    let readings: [Reading; 6] = [
        person_data,
        place,
        health,
        being::occupation,
        interest,
        being::being,
    ];
    readings
        .iter()
        .find_map(|read| read(part, when, scene))
        .unwrap_or_default()
}

/// The clause that a part of the list stands for.
pub(super) fn said(part: &str) -> String {
    format!("I am {part}")
}

fn person_data(part: &str, when: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    let part = wording::without_fillers(part);
    if let Some(found) = AGE.captures(part) {
        return Some(vec![age(&found[1])?]);
    }
    if let Some(found) = AGED.captures(part) {
        let mut aged = vec![age(&found[1])?];
        aged.extend(objects::role(&found[2]).map(|role| being::job(&role, 0.8)));
        let from = found[2]
            .split_once(" from ")
            .filter(|(who, _)| objects::role(who).is_none());
        aged.extend(from.and_then(|(_, from)| verbs::comes_from(from, scene)));
        return Some(aged);
    }
    if let Some(found) = TURNING.captures(part) {
        let turning = Finding::new(Event, 0.6, format!("User is turning {}", &found[1]));
        return when.map(|when| vec![turning.on(Some(when))]);
    }
    if TALL.is_match(part) {
        let tall = part.trim_end_matches(" tall");
        return Some(vec![
            Finding::fact(0.4, format!("User is {tall} tall")).about("height"),
        ]);
    }
    if RELATED.is_match(part) && !ENGAGED_IN.is_match(part) {
        return Some(vec![as_said(&said(part), Fact, 0.8)?.about("relationship")]);
    }
    if let Some((name, from)) = part.split_once(" from ")
        && let Some(name) = names::capitalised(name)
    {
        let named = Finding::fact(0.9, format!("User's name is {name}")).about("name");
        return Some(
            [named]
                .into_iter()
                .chain(verbs::comes_from(from, scene))
                .collect(),
        );
    }
    let name = match ["called ", "named "]
        .iter()
        .find_map(|called| part.strip_prefix(called))
    {
        Some(name) => names::given(name)?,
        None => names::capitalised(part.split(',').next().unwrap_or(part))?,
    };
    Some(vec![
        Finding::fact(0.9, format!("User's name is {name}")).about("name"),
    ])
}

pub(super) fn age(text: &str) -> Option<Finding> {
    let plausible = text
        .parse::<u32>()
        .map_or(true, |years| (5..=110).contains(&years));
    plausible.then(|| {
        Finding::fact(0.8, format!("User is {} years old", text.to_lowercase())).about("age")
    })
}

fn place(part: &str, _: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = FROM.captures(part) {
        return Some(vec![verbs::comes_from(&found[1], scene)?]);
    }
    if let Some(found) = EMPLOYED.captures(part) {
        return work::at("at", &found[1], scene);
    }
    let found = BASED.captures(part)?;
    if !found[1].eq_ignore_ascii_case("in") {
        return Some(vec![as_said(&said(part), Fact, 0.6)?]);
    }
    Some(vec![verbs::lives_in(&objects::place(&found[2], scene)?)])
}

fn health(part: &str, _: Option<&When>, _: &Scene) -> Option<Vec<Finding>> {
    let part = &object(part)?;
    if ALLERGIC.is_match(part) || INTOLERANT.is_match(part) {
        return Some(vec![as_said(&said(part), Fact, 0.8)?]);
    }
    if PREGNANT.is_match(wording::without_fillers(part)) {
        return Some(vec![as_said(&said(part), Fact, 0.8)?]);
    }
    if ON_DIET.is_match(part) {
        let fact = as_said(&said(part), Fact, 0.7)?;
        let diet = fact.content.to_lowercase();
        let slot = diet.contains("diet") || diet.contains("keto");
        return Some(vec![if slot { fact.about("diet") } else { fact }]);
    }
    None
}

fn interest(part: &str, when: Option<&When>, _: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = LEARNING.captures(part) {
        let what = object(&found[1])?;
        let first = what.split(' ').next()?;
        let about = [
            "about", "how", "more", "the", "a", "that", "new", "from", "lots",
        ];
        if has(&about, first) && !what.starts_with("how to ") {
            return None;
        }
        return Some(vec![as_said(&said(part), Preference, 0.5)?]);
    }
    if let Some(found) = LIKING.captures(part) {
        if NO_LIKING.is_match(&found[1]) {
            return None;
        }
        tastes::liking(&found[1])?;
        return Some(vec![as_said(&said(part), Preference, 0.6)?]);
    }
    if FLUENT.is_match(part) {
        return Some(vec![as_said(&said(part), Fact, 0.6)?]);
    }
    if GOAL.is_match(part) && !NO_GOAL.is_match(part) {
        let goal = as_said(
            &said(part),
            if when.is_some() { Event } else { Context },
            0.5,
        )?;
        return Some(vec![goal.on(when)]);
    }
    if NOW_AT.is_match(part) {
        return Some(vec![as_said(&said(part), Context, 0.4)?]);
    }
    if let Some(found) = TIME_ZONE.captures(part) {
        let zone = format!("User is in the {} time zone", &found[1]);
        return Some(vec![Finding::fact(0.6, zone).about("time zone")]);
    }
    if TO_BE.is_match(part) {
        return Some(vec![as_said(&said(part), Event, 0.7)?.on(when)]);
    }
    let trip = when.is_none()
        && PASSING.is_match(part)
        && part
            .split(' ')
            .nth(2)
            .is_some_and(|to| wording::is_capitalised(to) && !has(lexicon::MOODS, to));
    trip.then(|| Some(vec![as_said(&said(part), Event, 0.5)?]))?
}
