//! Reads "my …" about the user: name, birthday, favourites, job and other data, and occasions.

use super::dates::{self, When};
use super::lexicon::{self, has};
use super::objects::{self, object};
use super::verbs::nickname;
use super::{Finding, Scene, am, kin, names, patterns, person, tastes, wording, work};
use crate::memory::MemoryKind::{Event, Fact, Preference};

patterns! {
    NAME = concat!(
        r"(?i)^(?:full |first |real |given |actual |legal |own |",
        r"correct )?name is (?:actually |now |really |in fact )?(.+)$",
    );
    OTHER_NAME = concat!(
        r"(?i)^(nickname|surname|last name|family name|middle name|maiden name|username|",
        r"handle|gamertag|pen name|stage name) is (.+)$",
    );
    CALL_ME = concat!(
        r"(?i)^(?:(?:but|so|and|you can|you may|please|always|just|feel free to|they|people|",
        r"everyone|everybody|(?:all )?my \w+|most people|friends)(?: all| just| usually|",
        r" also)? )*calls? me (.+)$",
    );
    HERE = r"^((?:\p{Lu}[\pL'-]+ ?){1,2}) here(?: again| speaking)?$";
    BIRTHDAY = concat!(
        r"(?i)^birthday (?:is|falls|was) (?:on |always on )?(.+)$|^birth ?(?:date|",
        r"day) is (.+)$|^date of birth is (.+)$",
    );
    BIRTHDAY_IS_DAY = concat!(
        r"(?i)^(.*\b(?:today|tomorrow|yesterday)\b.*) (?:is|was) my (?:\d+(?:st|nd|rd|",
        r"th) )?birthday\b|^it (?:is|was) my (?:\d+(?:st|nd|rd|th) )?birthday (today|tomorrow|",
        r"yesterday|on .+)$",
    );
    FAVOURITE = concat!(
        r"(?i)^(?:(?:all[- ]time|absolute|personal|current|new|number one|very|",
        r"own) )*(?:favou?rites?) (.+?) (?:is|are|would be|has always been|will always be|",
        r"to \w+ is|to \w+ are) (?:definitely |probably |actually |easily |always |by far |",
        r"currently |now )?(.+)$",
    );
    PREFERRED = r"(?i)^preferred ([\w ]{3,40}?) (?:is|are) (.+)$";
    FAVOURITE_OF = concat!(
        r"(?i)^(.{2,60}?) (?:is|are) (?:definitely |by far |easily |probably |still |",
        r"actually |hands down )?my (?:(?:all[- ]time|absolute|personal|current|",
        r"new) )*favou?rites?(?: (.+))?$",
    );
    SETTING = concat!(
        r"(?i)^(job|occupation|profession|job title|title|role|hometown|home ?town|",
        r"native language|mother tongue|first language|native tongue|second language|pronouns|",
        r"zodiac sign|star sign|sign|blood type|nationality|religion|ethnicity|major|minor|",
        r"hobby|hobbies|passion|passions|main hobby|interests|goal|main goal|dream|life goal|",
        r"biggest dream|dream job|biggest fear|fear|heritage|time ?zone|email|email address|",
        r"e-mail|phone number|address|home address|website|github|twitter|instagram|",
        r"alma mater|height|weight|shoe size|car|bike|phone|laptop|guitar|house|flat|",
        r"apartment|diet|background|field|company|employer|school|university|boat|accent|",
        r"budget|rent|salary|income|commute|go-to [\w ]{2,30}?|usual [\w ]{2,30}?|",
        r"dream (?:car|house|home|job|city|destination|vacation|holiday)|guilty pleasure|",
        r"motto|pet peeve|biggest pet peeve|new year'?s resolution|resolution) (?:is|",
        r"are) (?:to be |currently |now |actually )?(.+)$",
    );
    OCCASION = concat!(
        r"(?i)^((?:[\w'-]+ ){0,3}?(?:wedding|anniversary|flight|exam|exams|interview|",
        r"appointment|surgery|operation|graduation|deadline|due date|presentation|defen[cs]e|",
        r"trip|vacation|holiday|party|recital|concert|race|marathon|tournament|move|lease|",
        r"visa|passport|test|finals|final|first day|last day|game|match|show|hearing|trial|",
        r"checkup|check-up|scan|reunion|birthday|conference|meeting|performance|audition|",
        r"baby shower|housewarming|funeral|retirement)(?: (?:to|with|at|for|in|from|",
        r"of) [\w' -]{2,40}?)?) (is|are|was|were|starts?|started|ends?|ended|expires?|expired|",
        r"will be|takes place|begins?|is scheduled for|is set for)\b ?(.*)$",
    );
    UNSETTLED = concat!(
        r"(?i)^(?:to (?:ask|know|see|make|help|find out|understand|get (?:this|a|the))|not|so|",
        r"very|really|too|broken|slow|fine|good|great|bad|ok|okay|a mess|a bit|killing|making|",
        r"done|over|full|on|due|late|dead|gone|out of|in (?:the|my|a) (?:shop|garage|mess)|",
        r"getting|being|having|going|that|this|what|how|why|important|here|there|boring|",
        r"stressful|hard|tough|exhausting|amazing|awesome|great|ruined|at (?:stake|risk)|",
        r"hectic|driving me|stressing|about|dying|nothing|none|everything|complete|becoming|",
        r"still|all|just|old|new|small|big|tiny|dirty|messy)\b",
    );
}

/// What a clause states that begins with "my"; `rest` is what follows, `dateless` the whole clause
/// without its date.
pub(super) fn find(rest: &str, dateless: &str, when: Option<&When>, scene: &Scene) -> Vec<Finding> {
    let dateless = dateless.strip_prefix("my ").unwrap_or(dateless);
    let found = own_data(rest, scene)
        .or_else(|| favourite(rest))
        .or_else(|| occasion(dateless, when))
        .or_else(|| setting(rest, scene))
        .or_else(|| kin::find(dateless, when, scene));
    found.unwrap_or_default()
}

/// What a clause of another shape states: "call me Al", "blue is my favourite color".
pub(super) fn find_elsewhere(clause: &str, scene: &Scene) -> Vec<Finding> {
    elsewhere(clause, scene).into_iter().collect()
}

fn elsewhere(clause: &str, scene: &Scene) -> Option<Finding> {
    if let Some(found) = CALL_ME.captures(clause) {
        let told = clause.to_lowercase();
        let invited = ["you can ", "you may ", "please ", "just ", "feel free "]
            .iter()
            .any(|start| told.starts_with(start));
        let habit = told.contains("calls me") || !told.starts_with("call me");
        let name = wording::without_fillers(&found[1]);
        let short = name.split(' ').count() <= 2
            && (wording::is_capitalised(name) || (invited || habit) && !scene.capitals);
        let name = short.then(|| names::given(name)).flatten()?;
        return (!has(lexicon::MOODS, &name)).then(|| nickname(&name));
    }
    if let Some(found) = HERE.captures(clause) {
        let name = names::capitalised(found[1].trim())?;
        return Some(Finding::fact(0.9, format!("User's name is {name}")).about("name"));
    }
    if let Some(found) = BIRTHDAY_IS_DAY.captures(clause) {
        let day = dates::birthday(found.get(1).or_else(|| found.get(2))?.as_str(), scene)?;
        return Some(birthday_on(&day));
    }
    if let Some(introduced) = kin::introduced(clause) {
        return Some(introduced);
    }
    let found = FAVOURITE_OF.captures(clause)?;
    let what = object(&found[1])?;
    let what = what.strip_prefix("I think ").unwrap_or(&what);
    match found.get(2) {
        Some(thing) => Some(favourite_thing(thing.as_str(), what)),
        None => loved(what),
    }
}

/// "Painting is my favourite": what kind of thing it is isn't said.
fn loved(what: &str) -> Option<Finding> {
    let what = tastes::liking(what)?;
    let first = what.split(' ').next().unwrap_or_default();
    let what = if first.ends_with("ing") {
        what.replacen(first, &first.to_lowercase(), 1)
    } else {
        what
    };
    Some(Finding::new(
        Preference,
        0.6,
        format!("User loves {}", person::third(&what)),
    ))
}

fn own_data(rest: &str, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = NAME.captures(rest) {
        let name = names::given(&found[1])?;
        return Some(vec![
            Finding::fact(0.9, format!("User's name is {name}")).about("name"),
        ]);
    }
    if let Some(found) = OTHER_NAME.captures(rest) {
        let (slot, name) = (
            found[1].to_lowercase(),
            names::given(&found[2]).or_else(|| object(&found[2]))?,
        );
        return Some(vec![
            Finding::fact(0.8, format!("User's {slot} is {name}")).about(slot),
        ]);
    }
    if let Some(found) = BIRTHDAY.captures(rest) {
        let said = found.iter().skip(1).flatten().next()?.as_str();
        return Some(vec![birthday_on(&dates::birthday(said, scene)?)]);
    }
    let age = rest.strip_prefix("age is ")?;
    Some(vec![
        am::age(wording::without_fillers(age))
            .filter(|_| age.starts_with(|c: char| c.is_ascii_digit()))?,
    ])
}

fn birthday_on(day: &str) -> Finding {
    Finding::fact(0.9, format!("User's birthday is {day}")).about("birthday")
}

fn favourite(rest: &str) -> Option<Vec<Finding>> {
    if let Some(found) = PREFERRED.captures(rest) {
        let (thing, what) = (person::third(&found[1]), object(&found[2])?);
        let content = format!("User's preferred {thing} is {}", person::third(&what));
        let slot = format!("favourite:{}", thing.to_lowercase());
        return Some(vec![Finding::new(Preference, 0.6, content).about(slot)]);
    }
    let found = FAVOURITE
        .captures(rest)
        .filter(|found| !found[1].starts_with("one"))?;
    let what = object(&found[2]).filter(|what| !what.starts_with("not "))?;
    let what = what.split(" and my ").next().unwrap_or(&what).to_owned();
    Some(vec![favourite_thing(&found[1], &what)])
}

fn favourite_thing(thing: &str, what: &str) -> Finding {
    let thing = wording::without_fillers(thing);
    let slot = thing.to_lowercase().replace("colour", "color");
    let slot = slot
        .strip_prefix("kind of ")
        .or_else(|| slot.strip_prefix("type of "))
        .unwrap_or(&slot);
    let be = if thing.ends_with('s') && what.contains(" and ") {
        "are"
    } else {
        "is"
    };
    let content = format!(
        "User's favourite {} {be} {}",
        person::third(thing),
        person::third(what)
    );
    Finding::new(Preference, 0.6, content).about(format!("favourite:{slot}"))
}

/// "My wedding is on 5 June".
fn occasion(dateless: &str, when: Option<&When>) -> Option<Vec<Finding>> {
    let when = when?;
    let found = OCCASION.captures(dateless)?;
    let how = found[3].trim();
    let how = if how.is_empty() {
        String::new()
    } else {
        format!(" {}", object(how)?)
    };
    let (what, verb) = (person::third(&found[1]), found[2].to_lowercase());
    let content = format!("User's {what} {verb}{} {}", person::third(&how), when.label);
    let mut event = Finding::new(Event, 0.6, content);
    event.occurred_at = Some(when.at);
    Some(vec![event])
}

fn setting(rest: &str, scene: &Scene) -> Option<Vec<Finding>> {
    if let Some(what) = rest
        .strip_prefix("favourite is ")
        .or_else(|| rest.strip_prefix("favorite is "))
    {
        return Some(vec![loved(&object(what)?)?]);
    }
    let found = SETTING.captures(rest)?;
    let (what, value) = (found[1].to_lowercase(), object(&found[2])?);
    let value = value.trim_start_matches("to be ").to_owned();
    if UNSETTLED.is_match(&value) {
        return None;
    }
    let (kind, importance, slot) = match what.as_str() {
        "job" | "occupation" | "profession" | "job title" | "title" | "role" => {
            let role = objects::role(&value)?;
            let bare = value.starts_with("the ") || !value.starts_with("a");
            let role = if bare && what == "job title" {
                value.clone()
            } else {
                role
            };
            return Some(vec![
                Finding::fact(0.8, format!("User's job is {}", person::third(&role))).about("job"),
            ]);
        }
        "company" | "employer" => {
            return work::at("at", &value, scene).map(|work| work.into_iter().take(1).collect());
        }
        "hobby" | "hobbies" | "passion" | "passions" | "interests" | "main hobby" | "pet peeve"
        | "biggest pet peeve" | "guilty pleasure" => (Preference, 0.6, None),
        "goal"
        | "main goal"
        | "dream"
        | "life goal"
        | "biggest dream"
        | "new year's resolution"
        | "resolution"
        | "new years resolution" => (Preference, 0.5, None),
        "car" | "bike" | "phone" | "laptop" | "guitar" | "house" | "flat" | "apartment"
        | "boat" | "budget" | "accent" | "school" | "university" => (Fact, 0.5, None),
        "biggest fear" | "fear" | "field" | "background" | "motto" => (Fact, 0.5, None),
        _ => (Fact, 0.7, Some(what.clone())),
    };
    let be = if what.ends_with('s') && !what.ends_with("ss") {
        "are"
    } else {
        "is"
    };
    let finding = Finding::new(
        kind,
        importance,
        format!("User's {what} {be} {}", person::third(&value)),
    );
    Some(vec![match slot {
        Some(slot) => finding.about(slot),
        None => finding,
    }])
}
