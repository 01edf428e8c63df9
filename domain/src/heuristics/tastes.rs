//! Reads likes, dislikes, preferences, wishes and plans.

use super::dates::When;
use super::objects::object;
use super::verbs::as_said;
use super::{Finding, Scene, patterns, person, wording};
use crate::memory::MemoryKind::{Event, Preference};

patterns! {
    TASTE = concat!(
        r"(?i)^I (?:always |have always |usually |generally |mostly )?(love|loved|adore|hate|",
        r"dislike|detest|loathe|despise|like|enjoy|prefer|fancy)\s+(.+)$",
    );
    AVERSION = concat!(
        r"(?i)^I can not (?:stand|bear|live without|resist|tolerate|get enough of|",
        r"do without)\s+(.+)$",
    );
    NO_TASTE = concat!(
        r"(?i)^(?:(?:the|that|this) (?:idea|plan|option|suggestion|answer|sound|look|looks|",
        r"way|fact|second|first|third|last|one|part|parts|joke|poem|story|version|response|",
        r"tone|style|recipe|name|list|result|concept|thought|approach|analogy|metaphor|",
        r"example|explanation|title|ending|photo|picture|pic|design|layout|vibe|vibes|color|",
        r"colors|colour|colours|details?|feeling|energy|support|message|advice|reference|",
        r"irony|enthusiasm|spirit|new)\b|(?:to|being able to|having to) (?:know|ask|see|hear|",
        r"say|think|be|thank|order|chat|point|add|start|do|get|have|talk|help|share|tell|",
        r"admit|break|bother|interrupt|complain|wait|disappoint|brag|use|make|try|keep|",
        r"discuss)\b|to$|and$|(?:seeing|hearing|being (?:here|with|able|called|the|in)|",
        r"chatting|talking|having you|knowing|myself|my life|life|school|work|if|not|more|and|",
        r"or|is|are|was|all|some of|everyone|where|when|as|mine|I|no|god|lol|getting to)\b)",
    );
    KNOWN_TO_ALL = concat!(
        r"(?i)^the (?:ocean|sea|seaside|beach|mountains?|outdoors|great outdoors|rain|snow|",
        r"cold|heat|sun|summer|winter|countryside|city|forest|woods|desert|smell|sound|taste|",
        r"feel|color|colour|piano|guitar|violin|cello|drums|arts?|theat(?:re|er)|opera|ballet|",
        r"gym|night|mornings?|stars|moon|zoo|library|cinema|movies|\d\ds|silence|quiet|",
        r"dentist|dark|hustle|internet|circus|blues|news|suburbs|water|wind|fall|autumn|",
        r"spring|holidays|color|idea of)\b",
    );
    HATE_WHEN = r"(?i)^I (love|hate|like) (?:it )?when (.+)$";
    FIND = concat!(
        r"(?i)^I find (.+?) (?:very |really |so |too |quite |pretty )?(overwhelming|relaxing|",
        r"boring|stressful|calming|exhausting|annoying|difficult|fascinating|scary|soothing|",
        r"disgusting|therapeutic|comforting|terrifying|irritating|beautiful|delicious)$",
    );
    RATHER = r"(?i)^I would rather (.+ than .+)$";
    WISH = concat!(
        r"(?i)^I (?:would|will) (?:love|like) to (?:visit|travel|go to (?-i:[A-Z])\w*|learn|",
        r"live|move|become|own|have (?:a|kids|children|my own)|run a|climb|start (?:my|a)|",
        r"see (?:the (?-i:[A-Z])\w*|(?-i:[A-Z])\w*)|write a (?:book|novel)|work (?:in|as|for|",
        r"at)|study|retire|open|build a|meet (?-i:[A-Z])\w*|try (?:sky|scuba|bungee|surfing|",
        r"paragliding)|explore)\b\s?(.+)$",
    );
    WANT = concat!(
        r"(?i)^I (?:want|hope|plan|intend|aim|aspire|need|dream of|am planning|am hoping|",
        r"decided|have decided) (?:to|on) (?:one day |someday |eventually |really |",
        r"also )?(?:learn|become|visit|travel|move|buy a|buy an|run (?:a|the|my)|start|lose|",
        r"quit|get (?:married|fit|in shape|a dog|a cat|a puppy|promoted|my|a master|a phd|",
        r"a new job|healthier|better at)|save|study|climb|retire|adopt|have (?:kids|children|",
        r"a|more)|improve my|publish|open|own|write a (?:book|novel|memoir)|apply (?:to|for)|",
        r"go (?:to (?-i:[A-Z])\w*|back to)|be (?:a|an) |pursue|finish my|launch|found|stop|",
        r"cut (?:back|down)|eat (?:less|healthier|more)|exercise|read more|work (?:in|as|for|",
        r"at|abroad)|live|grow|compete|train|build (?:a|my)|graduate|specialize|specialise|",
        r"teach|volunteer|switch|change (?:careers?|jobs))\b",
    );
    TASK = concat!(
        r"(?i)^I (?:want|need|plan|hope|intend|am planning|am hoping) (?:to|",
        r"on) (?:learn (?:more|about|what|if|how (?:it|this|you|the|that|i)\b)|start (?:by|",
        r"with|over|again|from|off|this|the)|get my (?:head|money)|stop here|",
        r"finish my (?:sentence|code)|improve my (?:sentence|text|code|essay|email|prompt|",
        r"query|writing here)|be (?:a|an) (?:bit|little)|build a (?:function|script|query|",
        r"regex|website|chatbot|simple)|switch (?:topics?|subjects?|to a)|open (?:a|the|",
        r"this) (?:file|ticket|issue)|move (?:on|the|this|it|a|that|forward)|switch the)\b",
    );
}

/// What a clause says about likes and dislikes.
pub(super) fn find(clause: &str, _: Option<&When>, _: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = HATE_WHEN.captures(clause) {
        let when = object(&found[2])?;
        let content = format!(
            "User {} it when {}",
            person::conjugated(&found[1]),
            person::third(&when)
        );
        return Some(vec![Finding::new(Preference, 0.5, content)]);
    }
    if let Some(found) = FIND.captures(wording::without_fillers(clause)) {
        let (what, how) = (liking(&found[1])?, found[2].to_lowercase());
        let content = format!("User finds {} {how}", person::third(&what));
        return Some(vec![Finding::new(Preference, 0.5, content)]);
    }
    if let Some(found) = RATHER.captures(clause) {
        let what = object(&found[1])?;
        return Some(vec![Finding::new(
            Preference,
            0.5,
            format!("User would rather {}", person::third(&what)),
        )]);
    }
    let found = AVERSION.captures(clause);
    if let Some(found) = &found {
        let what = liking(&found[1])?;
        let start = &clause[..clause.len() - found[1].len()];
        let content = person::stated(&format!("{start}{what}"))?;
        return Some(vec![Finding::new(Preference, 0.6, content)]);
    }
    let found = TASTE.captures(clause)?;
    let what = liking(&found[2])?;
    let (verb, what) = match (
        found[1].to_lowercase().as_str(),
        clause.contains("have always"),
    ) {
        ("loved", true) => ("love".to_owned(), what),
        ("loved", false) => return None,
        (verb, _) => (verb.to_owned(), what),
    };
    let content = format!(
        "User {} {}",
        person::conjugated(&verb),
        person::third(&what)
    );
    let liked = Finding::new(Preference, 0.6, content);
    // "I like mushrooms now": it was otherwise before.
    let changed = ["like", "love", "enjoy"].contains(&verb.as_str()) && clause.ends_with(" now");
    Some(vec![if changed {
        liked.ending(format!("User doesn't like {}", person::third(&what)))
    } else {
        liked
    }])
}

/// What a clause says about wishes and plans.
pub(super) fn wishes(clause: &str, when: Option<&When>, _: &Scene) -> Option<Vec<Finding>> {
    if WISH.is_match(clause) {
        return Some(vec![as_said(clause, Preference, 0.4)?.on(when)]);
    }
    if !WANT.is_match(clause) || TASK.is_match(clause) {
        return None;
    }
    Some(vec![
        as_said(clause, if when.is_some() { Event } else { Preference }, 0.5)?.on(when),
    ])
}

/// What is liked or disliked, when it is something that can be told apart.
pub(super) fn liking(text: &str) -> Option<String> {
    let mut what = object(text)?;
    for degree in [
        " a lot",
        " so much",
        " very much",
        " the most",
        " more than anything",
        " really",
        " best",
        " to bits",
        " to death",
    ] {
        what = what
            .strip_suffix(degree)
            .map_or(what.clone(), str::to_owned);
    }
    let said_elsewhere =
        ["it", "that", "this", "them", "her", "him"].contains(&what.to_lowercase().as_str());
    let shown = what.to_lowercase().starts_with("the ")
        && !what.split(' ').skip(1).any(wording::is_capitalised)
        && !KNOWN_TO_ALL.is_match(&what);
    (!shown && !NO_TASTE.is_match(&what) && !said_elsewhere && !what.is_empty()).then_some(what)
}
