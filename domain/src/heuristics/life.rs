//! Reads what happens in a life, dated or not, and what is done in it regularly.

use super::dates::When;
use super::lexicon::{self, has};
use super::objects::{self, object};
use super::verbs::as_said;
use super::{Finding, Scene, patterns, person};
use crate::memory::MemoryKind::{Event, Fact, Preference};

patterns! {
    LIVED = concat!(
        r"(?i)^I (?:grew up (?:speaking|with|without|poor)|was raised by|",
        r"studied (?:[\w&-]+ ){1,4}(?:at|in)|(?:lived|worked|studied|spent \w+ (?:years|",
        r"months)) (?:in|at|for|as|on|abroad|overseas))\b",
    );
    HABIT = concat!(
        r"(?i)^I (?:(?:always|usually|often|sometimes|mostly|regularly|typically|normally|",
        r"generally|rarely|mainly|only|never) )*(play|share an? |code|sell |manage |lead |",
        r"avoid |breed |raise |attend |host |brew |restore |repair |collect|teach|coach|",
        r"volunteer|practi[cs]e|paint|knit|crochet|garden|sing|dance|cook|bake|meditate|climb|",
        r"surf|ski|snowboard|cycle|swim|jog|hike|draw|sew|fish|hunt|blog|drive an? |",
        r"drive (?-i:[A-Z])\w*|drive (?:for|to work)|ride an? |ride (?:horses|my)|own|rent|",
        r"run an? |run (?:marathons|ultras|half)|run my own|smoke|vape|mentor|foster|babysit|",
        r"tutor|code in|program in|write (?:poetry|poems|novels|fiction|songs|short|code|",
        r"in (?-i:[A-Z])\w*|a blog|for )|do (?:yoga|pilates|karate|judo|crossfit|ballet|",
        r"martial|pottery|ceramics|stand-up|improv|gymnastics|bjj|kickboxing)|practise|",
        r"grow (?:my own|tomatoes|vegetables|roses|herbs)|make (?:pottery|jewelry|jewellery|",
        r"music|my own|candles|furniture)|go (?:hiking|climbing|running|swimming|cycling|",
        r"fishing|camping|skiing|surfing|sailing|to the gym|to church|to mosque|to therapy|",
        r"to yoga|bouldering|birdwatching|dancing)|take (?:insulin|medication|antidepressants|",
        r"ssris|vitamins|the (?:bus|train|metro|subway)|a pill|pills|dance|piano|guitar|",
        r"swimming|singing|art|cooking|pottery|spanish|french|german)|wear (?:glasses|",
        r"contacts|contact|hearing|a hearing|size|braces)|use (?:a wheelchair|linux|arch|",
        r"ubuntu|vim|neovim|emacs|macos|windows|they/them|he/him|she/her|crutches|hearing)|",
        r"follow a|keep (?:kosher|halal|bees|chickens)|eat (?:kosher|halal|vegan|vegetarian|",
        r"meat|fish|only|mostly|plant)|drink (?:coffee|tea|my|decaf|oat|alcohol|wine|beer|",
        r"only|black|a lot)|fast (?:every|on|during)|observe|celebrate|support (?-i:[A-Z])\w*|",
        r"root for|watch (?:anime|football|soccer|formula|f1|the nba|the nfl|horror|a lot|",
        r"basketball|baseball|cricket|documentaries|k-?dramas)|listen to (?:jazz|metal|rock|",
        r"classical|podcasts|hip|k-?pop|indie|country|pop|techno|lo-?fi|audiobooks|punk|blues|",
        r"a lot|mostly)|read (?:a lot|mostly|mainly|sci|fantasy|manga|comics|mystery|",
        r"historical|non-?fiction|poetry|crime|novels|two|three)|wake up at|get up at|",
        r"go to bed at|commute|work out|live paycheck|suffer from|struggle with (?:anxiety|",
        r"depression|adhd|insomnia|migraines|my weight|addiction|an eating|dyslexia|alcohol)|",
        r"believe in (?:god|reincarnation|karma|ghosts|astrology)|identify as|go by|stream on|",
        r"make youtube)\b",
    );
    NO_HABIT = concat!(
        r"(?i)^I (?:(?:always|usually|often|sometimes|only|never) )*(?:play (?:to|it|dumb|",
        r"along|this|that|with the idea|a character|devil)|draw (?:the line|a blank|",
        r"a conclusion|conclusions)|fish for|run a (?:risk|query|script|command|test|program|",
        r"fever)|run an (?:error|analysis)|run an? \w* ?(?:test|script|query|command)|",
        r"hunt for|own (?:it|that|up)|cook for you|sing (?:this|that)|practice (?:this|what)|",
        r"climb the|support (?:it|that|this)|use (?:windows to|it)|drive a (?:wedge|hard|",
        r"point)|take the bus to you|eat only when)\b",
    );
    OFTEN = concat!(
        r"(?i)\b(?:every (?:single |other )?(?:day|morning|evening|night|week|weekend|month|",
        r"year|summer|winter|spring|autumn|fall|monday|tuesday|wednesday|thursday|friday|",
        r"saturday|sunday|two|few|weekday|afternoon|christmas)|each (?:day|morning|evening|",
        r"night|week|month|year|summer|sunday|saturday)|daily|weekly|nightly|(?:once|twice|",
        r"thrice|(?:one|two|three|four|five|six|a few|several|\d) (?:times|days|hours|nights|",
        r"mornings)) (?:a|per|each|every) (?:day|week|month|year)|on (?:mondays|tuesdays|",
        r"wednesdays|thursdays|fridays|saturdays|sundays|weekends|weekdays)|most (?:days|",
        r"mornings|evenings|nights|weekends|weekdays)|at weekends|regularly|in my (?:free|",
        r"spare) time|for a living|as a hobby)\b",
    );
    LIFE_EVENT = concat!(
        r"(?i)^I (?:got (?:married|engaged|divorced|promoted|pregnant|accepted|hired|",
        r"into (?:(?-i:[A-Z])\w*|college|university|med|law|grad)|my (?:first|license|licence|",
        r"degree|citizenship|green card|phd|master|bachelor|driver|driving|diploma|visa|ged|",
        r"pilot)|an? (?:[\w-]+ ){0,2}(?:dog|puppy|cat|kitten|tattoo|promotion|scholarship|",
        r"raise|car|bike|house|apartment|guitar|degree|divorce|visa|degree|parrot|hamster|",
        r"rabbit|horse|laptop|phone|motorcycle|piano|internship)\b|two (?:cats|dogs|kittens|",
        r"puppies)|vaccinated|baptized|back together|out of (?:the army|prison|hospital|",
        r"rehab)|sober)|graduated|passed (?:my|the|an?) |failed (?:my|the|an?) |ran (?:a|the|",
        r"my) (?:[\w-]+ ){0,2}(?:marathon|half|5k|10k|race|ultra|triathlon)|won (?:a|an|the|",
        r"my|first|second|third|gold|silver|bronze)|(?:finished|completed) (?:my|a|an|",
        r"the) (?:[\w-]+ ){0,3}(?:degree|thesis|dissertation|phd|marathon|novel|book|course|",
        r"bootcamp|training|masters?|residency|treatment|chemo|course|program|race|manuscript|",
        r"painting|album)|published (?:a|an|my)|broke (?:my|a) (?:[\w-]+ )?(?:arm|leg|wrist|",
        r"ankle|foot|toe|finger|nose|hand|collarbone|rib|hip|shoulder|elbow|back|knee|tooth)|",
        r"broke up with|sprained|tore my|fractured|adopted (?:a|an|two|three|my|our) |",
        r"gave birth|had (?:a baby|surgery|an operation|a heart|a stroke|a miscarriage|twins|",
        r"a c-section|cancer|a car accident|an accident|a concussion|a daughter|a son|",
        r"my (?:first|second|wisdom|appendix|tonsils))|visited (?-i:[A-Z])\w*|visited my|",
        r"travel?led to|went to (?:the )?(?-i:[A-Z])\w*|went on (?:a|my) (?:[\w-]+ )?(?:trip|",
        r"cruise|honeymoon|safari|vacation|road|retreat|hike|date|pilgrimage|tour)|flew to|",
        r"retired|(?:lost|gained) \d+ (?:pounds|lbs|kilos|kg|kilograms|stone)|(?:gave up|",
        r"cut out) (?:meat|dairy|alcohol|sugar|coffee|caffeine|gluten|carbs|soda|chocolate|",
        r"bread|social media|drinking|smoking)|lost my (?:[\w-]+ )?(?:arm|eye|voice|license|",
        r"mother|mom|mum|father|dad|wife|husband|brother|sister|son|daughter|job|dog|cat|",
        r"grandmother|grandma|grandfather|grandpa|best friend|home|house|wallet|passport|baby|",
        r"uncle|aunt|hearing|sight|leg)|joined (?:a|an|the|my) |signed up for|enrolled (?:in|",
        r"at)|applied (?:to|for)|decided (?:to|on)|bought (?:a|an|my|our|two|some land)|",
        r"built (?:a|an|my|our) |attended (?:a|an|the|my|(?-i:[A-Z])\w*)|moved in with|",
        r"moved into|moved out|became (?:a|an|the|vegan|vegetarian|pregnant|engaged|friends|",
        r"citizen)|launched (?:a|an|my|our)|founded|co-?founded|opened (?:a|an|my|our)|",
        r"started (?:learning|playing|taking|a|an|my|our|going to|therapy|painting|running|",
        r"knitting|yoga|studying|writing|training|doing|dating|working out|volunteering|",
        r"seeing|university|college|medication|baking|boxing|pottery|climbing|chemo|teaching|",
        r"swimming|dancing|gardening|collecting)|was (?:diagnosed|promoted|accepted|admitted|",
        r"hospitalized|hospitalised|elected|awarded|adopted|in (?:a car|an accident|the army|",
        r"the navy|the military|hospital|foster))|proposed to|eloped|came out|converted to|",
        r"inherited|turned \d+|signed (?:a|my|the) (?:lease|contract|book|record)|wrote (?:a|",
        r"my) (?:[\w-]+ )?(?:book|novel|thesis|memoir|dissertation|song|play)|served in|",
        r"met my (?:wife|husband|partner|girlfriend|boyfriend|fianc|best friend)|divorced|",
        r"separated from|recovered from|survived|beat cancer|dropped out|transferred to|",
        r"switched (?:to|from|careers|jobs|majors)|quit (?:college|school|university|sugar|",
        r"coffee|caffeine|alcohol|social|the)|taught myself|(?:organi[sz]ed|hosted) (?:a|an|",
        r"my|our|the) |participated in|took part in|performed (?:in|at)|competed in|",
        r"gave a (?:talk|speech|presentation)|took a (?:road )?trip|received (?:a|an|",
        r"my) [\w-]* ?(?:award|scholarship|diploma|degree|medal|offer|diagnosis|grant|",
        r"promotion)|finished (?:reading|re-?reading|watching|writing|playing) |",
        r"went (?:camping|hiking|skiing|surfing|snorkell?ing|scuba diving|sailing|skydiving|",
        r"bungee jumping|rafting|kayaking|climbing|backpacking|fishing)\b|went to (?:a|an|the|",
        r"my) (?:[\w'-]+ ){0,4}(?:concert|festival|wedding|beach|museum|conference|exhibition|",
        r"funeral|graduation|retreat|reunion|workshop|parade|convention|support group|zoo|",
        r"opera|ballet)\b|earned (?:a|an|my)|learned (?:to|how to)|learnt to|planted (?:a|my|",
        r"some)|climbed (?-i:[A-Z])\w*|ran for|volunteered (?:at|for|in)|interned at)(?:\b|$)",
    );
    NO_EVENT = concat!(
        r"(?i)^I (?:started (?:a new (?:chat|conversation)|my (?:sentence|day)|doing (?:this|",
        r"that|it))|joined (?:a|the|this) (?:call|chat|meeting|discord|conversation)|won (?:a|",
        r"the) (?:argument|bet|game)|passed the (?:time|test case|value|parameter|argument)|",
        r"failed the (?:build|captcha)|bought (?:a|an) (?:coffee|sandwich|beer|drink|snack|",
        r"ticket)|decided (?:to|on) (?:ask|try|use|give|go with|write|chat|talk|start|check|",
        r"see|make|do|let|not)|applied (?:to|for) (?:it|that|this)|learned (?:to|",
        r"how to) (?:love|live with|accept|appreciate|trust|let)|met my match|built (?:a|",
        r"an) (?:function|query|script)|attended the (?:call|meeting)|started a (?:sentence|",
        r"chat|conversation))\b",
    );
    OWNS_OR_NEEDS = concat!(
        r"(?i)^I (?:run (?:an?|my own|our) (?:\w+ ){0,2}(?:bakery|business|company|shop|store|caf[eé]|restaurant|farm|",
        r"studio|agency|hotel|bar|clinic|gym|school|firm|startup|salon)|use (?:a wheelchair|crutches|hearing|an? inhaler|",
        r"a walker|a cane)|wear (?:glasses|contacts|hearing|a hearing|braces)|take (?:insulin|medication|antidepressants))\b",
    );
    GAVE_UP_THING = concat!(
        r"(?i)^I (?:sold|gave away|got rid of|donated|traded in|crashed|totaled|scrapped|",
        r"returned) my (?:old |beloved |entire |whole )?(.+)$",
    );
}

/// What some events put an end to.
const OVER: &[(&str, &str)] = &[
    ("got divorced", "User is married"),
    ("divorced", "User is married"),
    ("got married", "User is single"),
    ("got engaged", "User is single"),
    ("broke up with my boyfriend", "User has a boyfriend"),
    ("broke up with my girlfriend", "User has a girlfriend"),
];

/// Adverbs that make a habit of what they go with.
const REGULAR: &[&str] = &[
    "always",
    "usually",
    "often",
    "typically",
    "normally",
    "never",
    "rarely",
    "regularly",
];

/// What a clause says about a life: what happened in it and what is done in it regularly.
pub(super) fn find(clause: &str, when: Option<&When>, _: &Scene) -> Option<Vec<Finding>> {
    if let Some(found) = GAVE_UP_THING.captures(clause) {
        let thing = object(&found[1])?;
        let thing = objects::role_end(&thing);
        let sold = as_said(clause, Event, 0.5)?.on(when);
        let positive = format!("User has {}", person::third(&objects::with_article(thing)));
        return Some(vec![sold.ending(positive)]);
    }
    if LIVED.is_match(clause) && when.is_none() {
        return Some(vec![as_said(clause, Fact, 0.5)?]);
    }
    if LIFE_EVENT.is_match(clause) && !NO_EVENT.is_match(clause) {
        let kind = if clause.starts_with("I served") {
            Fact
        } else {
            Event
        };
        let event = as_said(clause, kind, 0.6)?.on(when);
        let over = OVER
            .iter()
            .find(|(start, _)| clause[2..].starts_with(start));
        return Some(vec![match over {
            Some((_, over)) => event.ending(*over),
            None => event,
        }]);
    }
    if when.is_some() {
        return None;
    }
    let verb = clause
        .split(' ')
        .skip(1)
        .find(|word| !has(lexicon::ADVERBS, word))?
        .to_lowercase();
    if verb == "go"
        && OFTEN.is_match(clause)
        && !clause.contains(" to ")
        && !clause.contains("ing ")
    {
        return None;
    }
    let often = OFTEN.is_match(clause)
        && !has(lexicon::STATES, &verb)
        && !person::is_past(&verb)
        && !has(lexicon::MODALS, &verb);
    let adverb = clause.split(' ').nth(1).unwrap_or_default();
    let regular = has(REGULAR, adverb) && !has(lexicon::STATES, &verb) && !person::is_past(&verb);
    let habit = often || regular && !has(lexicon::MODALS, &verb) || HABIT.is_match(clause);
    if !habit || NO_HABIT.is_match(clause) {
        return None;
    }
    // What one owns, runs or needs is so whether one likes it or not.
    let owns = ["own", "drive", "rent", "foster"].contains(&verb.as_str())
        || OWNS_OR_NEEDS.is_match(clause);
    let importance = if owns {
        0.5
    } else if clause.contains("suffer") || clause.contains("insulin") {
        0.8
    } else {
        0.5
    };
    Some(vec![as_said(
        clause,
        if owns { Fact } else { Preference },
        importance,
    )?])
}
