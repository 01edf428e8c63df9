//! Reads "I have …": pets, family, belongings, illnesses, degrees, and what has long been so.

use super::dates::When;
use super::lexicon::{self, has};
use super::objects::{self, object};
use super::verbs::as_said;
use super::{Finding, Scene, patterns, person, wording, work};
use crate::memory::MemoryKind::{Event, Fact, Preference};

patterns! {
    BEEN = concat!(
        r"(?i)^been (?:(?:\w+ly|actively|also|really|always) )?(living|working|learning|",
        r"studying|playing|practi[cs]ing|teaching|running|painting|writing|training|married|",
        r"vegan|vegetarian|dating|together|collecting|coaching|cooking|knitting|sober|",
        r"climbing|dancing|singing|doing|making|volunteering|driving|coding|programming|",
        r"gardening|riding|swimming|surfing|diagnosed|divorced|single|pescatarian|friends|",
        r"engaged|retired|self-employed|freelancing|meditating|cycling|hiking|boxing|skiing|",
        r"sailing|diving|baking|brewing|saving|going to|seeing a|in (?:the|love|",
        r"a relationship)|to (?-i:[A-Z])\w*|a (?:[\w-]+ ){0,3}[\w-]+ for|with)\b(.*)$",
    );
    PASSING_BEEN = concat!(
        r"(?i)^been (?:doing (?:this|that|it|well|good|great|ok|okay|fine|some|a lot|research|",
        r"my best|alright)|working (?:on|hard|a lot|too|all|so|like|late)|going to (?:ask|",
        r"say)|making (?:a lot|mistakes|this)|with (?:it|this|that)|in (?:the (?:mood|same|",
        r"middle|dark)))\b",
    );
    LIVED = concat!(
        r"(?i)^lived in (.+?)( (?:for|since|all my|my whole|my entire) .+)$|^been (?:living|",
        r"based) in (.+?)( (?:for|since) .+)$",
    );
    WORKED = r"(?i)^(?:been )?work(?:ed|ing) (?:at|for) (.+?)( (?:for|since) .+)$";
    EVER = concat!(
        r"(?i)^(visited|travell?ed to|been to|worked|lived|studied|owned|loved|",
        r"always (?:loved|hated|wanted|been|enjoyed|liked|dreamed|struggled|had)|known|played|",
        r"had) (.+)$",
    );
    NEXT_THING = concat!(
        r"(?i)^(.+?)(?:,? and (?:also )?|, (?:and )?)(an?|one|two|three|four|five|six|seven|",
        r"eight|nine|ten|\d+|my|some|several) (.+)$",
    );
    AMOUNT = concat!(
        r"(?i)^(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\d{1,2}|",
        r"my own|my|our|some|several|many|both|no|the|another|lots of|a few|a couple of|",
        r"a pair of|a lot of|a bunch of|a set of)\s+",
    );
    STOP = concat!(
        r"(?i)(?:,|\(|\s(?:named|called|who|whom|that|which|with|from|in|at|on|for|and|whose|",
        r"since|by|together|because|back|to|of|back home|but|about|so|it|he|she|they|since|",
        r"now|here|plus|as|or)\b).*$",
    );
    NAMED = r"(?i)\b(?:named|called)\s+\S";
    PASSING_ALWAYS =
        r"(?i)^(?:to (?:ask|know|say|see what)|the|about|a bit|wondering|curious|told|that)\b";
    MODEL = r"(?i)(?: (?:pro|max|plus|mini|air|ultra|se|x|s|gt|[a-z]{0,2}\d+\w*))+$";
    DEGREE = concat!(
        r"(?i)^(?:an? |my |two )?(?:[\w'-]+ ){0,3}(?:degree|degrees|phd|ph\.d|mba|",
        r"bachelor'?s?|master'?s?|doctorate|diploma|msc|bsc|background|black belt|certificate|",
        r"certification|green card|pilot'?s licen[cs]e|driver'?s licen[cs]e|",
        r"driving licen[cs]e|years of experience)\b",
    );
    LASTING = concat!(
        r"(?i)\b(?:for (?:\d+|an?|one|two|three|four|five|six|seven|eight|nine|ten|many|",
        r"several|years|months|decades|the (?:last|past)|as long|over|about|around|almost|",
        r"nearly|most|quite|some|my (?:whole|entire))|for \w+ (?:years|months|weeks|decades)|",
        r"since|diagnosed|vegan|vegetarian|sober|learning|to (?-i:[A-Z])\w*|all my life|",
        r"my (?:whole|entire) life)\b",
    );
    BODY = concat!(
        r"(?i)^(?:an? )?(?:bad|weak|sore|injured|fake|prosthetic|broken|bum) (?:knees?|back|",
        r"hip|shoulder|heart|ankle|leg|arm|hearing|eyesight|memory)\b|^trouble (?:sleeping|",
        r"hearing|walking)\b|^(?:an? )?(?:fear|phobia) of\b|^(?:an? )?(?:sweet tooth|",
        r"peanut allergy|stutter|stammer|hearing aids?|green thumb|photographic memory)\b",
    );
    PASSING_HEAD = concat!(
        r"(?i)\b(?:question|issue|problem|trouble|appointment|meeting|idea|payment|rental|",
        r"accident|keys?|test|exam|food|bed|joke|story|picture|photo|video|name|show)$",
    );
}

/// What a clause that begins with "I have" states.
pub(super) fn find(clause: &str, when: Option<&When>, scene: &Scene) -> Vec<Finding> {
    let Some(rest) = clause.strip_prefix("I have ") else {
        return Vec::new();
    };
    let rest = rest.strip_prefix("got ").unwrap_or(rest);
    if let Some(long) = long_so(rest, when, scene) {
        return long;
    }
    let mut found = Vec::new();
    let mut rest = rest.to_owned();
    // "A dog and two cats": one finding each, as long as each is something to be known by.
    while let Some(split) = NEXT_THING.captures(&rest) {
        let (thing, next) = (split[1].to_owned(), format!("{} {}", &split[2], &split[3]));
        match (thing_had(&thing, when), thing_had(&next, when)) {
            (Some(first), Some(_)) => {
                found.push(first);
                rest = next;
            }
            _ => break,
        }
    }
    found.extend(thing_had(&rest, when));
    found
}

fn thing_had(rest: &str, when: Option<&When>) -> Option<Finding> {
    // One wording for a name, so that a later message about the same animal finds it.
    let said = || {
        let said = as_said(&format!("I have {rest}"), Fact, 0.5)?;
        Some(Finding {
            content: said.content.replacen(" called ", " named ", 1),
            ..said
        })
    };
    let of = |importance| {
        said().map(|finding| Finding {
            importance,
            ..finding
        })
    };
    if DEGREE.is_match(rest) {
        return of(0.6);
    }
    if BODY.is_match(rest) {
        return of(0.7);
    }
    let amount = AMOUNT.find(rest).map_or(0, |amount| amount.end());
    let noun = STOP.find(rest).map_or(rest, |stop| &rest[..stop.start()]);
    if noun.len() <= amount || PASSING_HEAD.is_match(noun) || noun.split(' ').count() > 6 {
        return None;
    }
    let noun = wording::without_fillers(noun);
    // "An iPhone 14 Pro" is an iPhone.
    let noun = MODEL
        .find(noun)
        .map_or(noun, |model| &noun[..model.start()]);
    if noun.len() <= amount {
        return None;
    }
    let head = noun.rsplit([' ', '-']).next()?.to_lowercase();
    let whole = noun.rsplit(' ').next()?.to_lowercase();
    if has(lexicon::CONDITIONS, &head) {
        return of(0.8);
    }
    if amount == 0
        && !rest.to_lowercase().ends_with("hair")
        && !rest.to_lowercase().ends_with("eyes")
        && !head.ends_with('s')
        && !has(&["children"], &head)
    {
        return None;
    }
    let guinea_pig =
        noun.to_lowercase().ends_with("guinea pig") || noun.to_lowercase().ends_with("guinea pigs");
    if has(lexicon::KIN, &whole) || has(lexicon::KIN, &head) {
        let friendly = [
            "friend",
            "friends",
            "teacher",
            "boss",
            "neighbor",
            "neighbour",
            "colleague",
            "coworker",
            "family",
            "mate",
            "pal",
            "manager",
            "therapist",
        ]
        .contains(&head.as_str());
        if friendly
            && !NAMED.is_match(rest)
            && !["boss", "family", "therapist"].contains(&head.as_str())
            && !rest.contains(" who ")
            && !rest.contains(" in ")
        {
            return None;
        }
        return when
            .is_none()
            .then(|| of(if friendly { 0.5 } else { 0.8 }))?;
    }
    if has(lexicon::PETS, &head) || guinea_pig {
        return of(0.7);
    }
    // "A Subaru Outback" is known by its maker.
    let maker = noun
        .split(' ')
        .any(|word| wording::is_capitalised(word) && has(lexicon::BELONGINGS, word));
    if (maker || has(lexicon::BELONGINGS, &head)) && when.is_none() {
        let rest = rest.to_lowercase();
        let passing =
            rest.contains(" to ") && !rest.contains("next to") || rest.starts_with("the ");
        return (!passing).then(|| of(0.5))?;
    }
    None
}

/// "I have lived in Berlin for ten years", "I have been to Japan", "I have always wanted …".
fn long_so(rest: &str, when: Option<&When>, scene: &Scene) -> Option<Vec<Finding>> {
    if when.is_some() {
        return None;
    }
    if let Some(found) = LIVED.captures(rest) {
        let (place, since) = (
            found.get(1).or_else(|| found.get(3))?,
            found.get(2).or_else(|| found.get(4))?,
        );
        let place = objects::place(place.as_str(), scene)?;
        let since = person::third(&object(since.as_str().trim())?);
        let content = format!("User has lived in {} {since}", person::third(&place.name));
        let lives = Finding::fact(0.8, content);
        return Some(vec![if place.named {
            lives.about("home")
        } else {
            lives
        }]);
    }
    if let Some(found) = WORKED.captures(rest) {
        let work = work::at("at", &found[1], scene)?.into_iter().next()?;
        let since = person::third(&object(found[2].trim())?);
        let content = work.content.replacen("User works", "User has worked", 1);
        return Some(vec![Finding {
            content: format!("{content} {since}"),
            ..work
        }]);
    }
    if BEEN.is_match(rest) && !PASSING_BEEN.is_match(rest) {
        if !LASTING.is_match(rest) {
            return None;
        }
        let kind = if rest.contains("diagnosed") {
            Event
        } else {
            Fact
        };
        return Some(vec![as_said(&format!("I have {rest}"), kind, 0.6)?]);
    }
    let found = EVER.captures(rest)?;
    let (verb, after) = (found[1].to_lowercase(), &found[2]);
    let after_known = object(after)?;
    let fits = match verb.as_str() {
        "been to" => {
            wording::is_capitalised(&after_known)
                || !scene.capitals
                || after_known.contains(" countries")
        }
        "had" | "known" | "loved" | "played" | "owned" if after_known.contains("together") => false,
        "had" | "known" | "loved" | "played" | "owned" => {
            after_known.contains(" for ") || after_known.contains(" since ")
        }
        "visited" | "traveled to" | "travelled to" => true,
        always if always.starts_with("always ") => !PASSING_ALWAYS.is_match(&after_known),
        _ => after_known.split(' ').count() >= 2,
    };
    let kind = if verb.starts_with("always") {
        Preference
    } else {
        Fact
    };
    fits.then(|| Some(vec![as_said(&format!("I have {rest}"), kind, 0.5)?]))?
}
