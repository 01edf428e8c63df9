//! Cuts a sentence into clauses of one shape: "I …" or "my …", without greetings and softeners.

use super::lexicon::has;
use super::{dates, gates, objects, patterns, terse, wording};

patterns! {
    OPENER = concat!(
        r"(?i)^(?:hi(?: there)?|hello(?: there)?|hey(?: there)?|heya|hiya|yo|greetings|",
        r"good (?:morning|afternoon|evening|day)|well|so|oh|ooh|ah|aw|um+|uh+|hm+|erm|yeah|",
        r"yep|yes|yup|ya|nope|no|nah|ok|okay|alright|right|sure|cool|great|nice|awesome|",
        r"amazing|wow|omg|lol|haha\w*|hehe\w*|thanks(?: so much| a lot)?|",
        r"thank you(?: so much)?|thx|sorry|actually|btw|by the way|also|and|but|plus|then|",
        r"anyways?|fyi|just so you know|for your information|honestly|frankly|tbh|ngl|",
        r"to be (?:honest|fair|clear)|in fact|as a matter of fact|unfortunately|sadly|luckily|",
        r"fortunately|thankfully|basically|personally|apparently|obviously|guess what|",
        r"you know(?: what)?|you see|look|listen|i mean(?:t)?(?: to say)?|i meant(?: to say)?|",
        r"the thing is|thing is|(?:the )?truth is|truth be told|fun fact|little known fact|",
        r"i (?:guess|suppose) i (?:should|could|can|have to) (?:say|mention|add|tell you)(?: that)?|",
        r"(?:and )?the (?:other|only|first|second|main|next|last) thing is(?: that)?|",
        r"p\.?s|update|edit|correction|quick update|small correction|(?:good|bad|big|",
        r"great) news|for the record|for context|for reference|some context|a bit about me|",
        r"a little about me|about me|quick intro|let me introduce myself|",
        r"allow me to introduce myself|nice to meet you(?: too)?|pleased to meet you|",
        r"as you (?:may |might |probably )?(?:already )?know|",
        r"as i (?:have )?(?:already )?(?:said|mentioned|told you)(?: before| earlier)?|",
        r"like i (?:said|mentioned)(?: before| earlier)?|i (?:just |also )?(?:wanted|want|",
        r"should|would like|need|ought|have) to (?:say|tell you|let you know|mention|add|",
        r"clarify|share|admit|confess|point out|note)(?: that)?|i (?:must|should|will|can|",
        r"gotta|did) (?:say|admit|confess|mention|add|tell you)(?: that)?|i (?:forgot|forget|",
        r"did not|never) (?:to )?(?:say|mention|tell you|told you|mentioned)(?: that)?|",
        r"i (?:have )?(?:already )?(?:told|tell) you(?: that| before| already| earlier)*|",
        r"i (?:already |just )?(?:said|mentioned)(?: that| before)*|did i (?:mention|",
        r"tell you)(?: that)?|let me tell you(?: that)?|you should (?:also )?know(?: that)?|",
        r"(?:just )?letting you know(?: that)?|just to let you know(?: that)?|",
        r"just to be clear|(?:so )?you know(?: that)?|my doctor (?:just )?(?:says|said|",
        r"told me)(?: that)?|(?:it )?turns out(?: that)?|since|because|as|given that|now that|",
        r"considering(?: that)?|although|though|even though|however|instead|meanwhile|",
        r"otherwise|in that case|in my case|for me|speaking of which|what a coincidence|same|",
        r"me too|same here|one day|some ?day|on (?:a|another|an unrelated|",
        r"the other) (?:\w+ )?(?:note|hand)|funny enough|believe it or not|not gonna lie|",
        r"i am proud to say(?: that)?|i am happy to say(?: that)?|proudly|in addition|finally|",
        r"lastly|first(?:ly)?|second(?:ly)?|third(?:ly)?|first of all|secondly|yay|ugh|damn|",
        r"dang|shit|man|dude|bro|gosh|jeez|god|hooray|yup|correct|exactly|true|agreed|",
        r"absolutely|definitely|totally|of course|indeed)(?:[\s,:;!.\-]+|$)",
    );
    GREETS_FROM = r"(?i)^(?:hi|hello|hey|greetings|good \w+) from\b";
    FOUND_OUT = concat!(
        r"(?i)^i (?:just |recently )?(?:found out|realized|realised|",
        r"discovered) (?:that )?((?:I|my)\s.+)$",
    );
    JOINT = concat!(
        r"(?i)\s*(?:,|\s-+\s|\()\s*(?:(?:and|but|so|then|plus|also|yet|because|since|as|where|",
        r"while|although|though|however|or|now)\s+)*|\s+(?:(?:and|but|so|plus|because|since|",
        r"then|while|although|though|however)\s+)(?:(?:also|then|now|so|actually|that|because|",
        r"since)\s+)*|\s+(?:i mean|btw|by the way|lol|haha)\s+",
    );
    HEAD = concat!(
        r"(?i)^(?:(?:I|we)\s\S|(?:ever since|since|after) [^,]{3,40}? I (?:live|work|have|am|love|do)\b|(?:it|he|she|they|you|that|this|there|these|those|what|how|do|",
        r"does|did|can|could|would|should|if|when|is|are|let|please|unless|everyone|everybody|",
        r"(?:his|her|its|their) names?)\b|(?:my|our) [^,]{1,40}? (?:is|are|was|were|has|have|",
        r"had|loves?|likes?|hates?|works?|lives?|died|got|goes|studies|plays|speaks|turned|",
        r"turns|named?|called|moved|started|wants?|just|also|really|enjoys?|prefers?|passed|",
        r"graduated|teaches|will|would|can|can not|does|do|keeps?)\b)",
    );
    ELIDED_HEAD = concat!(
        r"(?i)^(?:(?:also|now|currently|still|absolutely|really|just|recently|then|usually|",
        r"often|always|never|sometimes) )*(?:live|work|study|love|hate|like|enjoy|prefer|",
        r"adore|dislike|speak|have|own|drive|play|teach|am|can not|do not|run|go|drink|eat|",
        r"smoke|take|make|use|wear|wake|cook|read|meditate|moved|started|got|bought|adopted|",
        r"graduated|quit|ran|went|visited|met|joined|became|finished|was|used to|collect|",
        r"volunteer|swim|practi[cs]e|paint|write|travel|hike|cycle|climb|decided|opened|",
        r"founded|married|retired|left|grew up|took|made|signed|learned|learnt)\s\S",
    );
    OPEN_VERB = concat!(
        r"(?i)\b(?:will|would|can|could|should|might|may|to (?:be|have|go|do|get|live|work|",
        r"study|learn|play|travel|love|visit|run|read|write|cook|eat|buy|sell|move|start|make|",
        r"take|see|find|try|speak|become|swim|paint|draw|sing|dance|hike|teach|help|drink|",
        r"sleep|walk|grow|meet|build|create|open|quit|lose|gain|save|watch|listen|explore|",
        r"finish|spend|explain|know|relax))\b|\blet me\b|\bwho\b|\bthat\b",
    );
    WENT_TO = concat!(
        r"(?i)^(?:I|we) (?:just |recently |also |finally )?(?:moved|relocated|went|flew|",
        r"travell?ed|am allergic|am married|got married) to ",
    );
    COUPLE = concat!(
        r"(?i)^(?:my [\w'-]+(?:\s(?-i:[A-Z])[\w'-]+)?,? and (?:I|me|myself)|(?:me|",
        r"I) and my [\w'-]+(?: (?-i:[A-Z])[\w'-]+)?)\s+(?:both |all |also |just |recently )*",
    );
    ADVERBIAL = concat!(
        r"(?i)^((?:every|each|most|on (?:\w+days?|weekends|most)|in my (?:free|spare) time|",
        r"in the (?:mornings?|evenings?|afternoons?|summers?|winters?)|these days|(?:once|",
        r"twice|three times|four times) an? \w+|for (?:fun|a living|a hobby|exercise)|",
        r"as a hobby|for breakfast|for lunch|at (?:night|weekends|work)|during the week|",
        r"after work|before work|before bed|after dinner)(?: \w+){0,2}?),?\s+(I\s.+)$",
    );
    LEAD = concat!(
        r"(?i)^(?:every|each|most|on (?:\w+days?|weekends|most)|in my (?:free|spare) time|",
        r"in the (?:mornings?|evenings?|afternoons?|summers?|winters?)|these days|(?:once|",
        r"twice|three times|four times) an? \w+|for (?:fun|a living|exercise)|as a hobby|",
        r"for (?:breakfast|lunch)|at (?:night|weekends|work)|during the week|after work|",
        r"before (?:work|bed)|after dinner)(?: \w+){0,2}$",
    );
    DRIVEN = concat!(
        r"(?i)^(?:ever since|since|after|thanks to|because of|despite) [^,]{3,40}?,? ",
        r"(I (?:live|work|have|am|love|hate|do not|can not|use|take|sleep|run|play|study|moved)\b.+)$",
    );
    AS_A = r"(?i)^as an? ([^,]{3,50}?),? (?:I|we) (?:do|am|have|can|work|need|want|know|love|will|get|often|usually|always|spend)\b";
    GOT_KIN = concat!(
        r"(?i)^I got (an?|two|three|four|five|\d) ((?:\w+ )?(?:kids?|children|sons?|daughters?|brothers?|sisters?|",
        r"siblings|grandkids|grandchildren)\b.*)$",
    );
    HOLD = r"(?i)^I (?:hold|possess) (an? .*\b(?:degree|licen[cs]e|phd|mba|passport|certifi\w+|diploma|citizenship|black belt)\b.*)$";
    SOFTENER = concat!(
        r"(?i)^(I (?:am not|am|have|was|do not|can not|do|will)|I)\s+(?:really|absolutely|",
        r"just|also|still|actually|totally|truly|currently|now|honestly|definitely|literally|",
        r"kinda|kind of|sort of|personally|simply|very much|basically|both|all|already|",
        r"finally|recently|officially|even|genuinely|especially|particularly|obviously|sadly|",
        r"unfortunately|happily|completely|fully|deeply|secretly|certainly|strongly|",
        r"apparently|presently|at the moment|super|thoroughly|newly|freshly|lately|proudly|",
        r"eventually|somehow|luckily)\s+(.*)$",
    );
    DO_ADD = r"(?i)^I do (love|like|enjoy|have|hate|own|live|work|prefer|speak|play)\b";
    HAVE_GOT = concat!(
        r"(?i)^I have got (an?|my|our|the|some|no|two|three|four|five|six|seven|\d+|type|adhd|",
        r"asthma|diabetes|celiac|kids|cats|dogs)\b",
    );
    HAVE_DONE = concat!(
        r"(?i)^I have (moved|started|joined|quit|decided|finished|bought|adopted|got|gotten|",
        r"visited|graduated|left|sold|switched|signed|stopped|lost|won|met|passed|retired|",
        r"married|opened|built|published|learned|completed|enrolled|founded|turned)\b",
    );
}

/// The clauses of a sentence, each beginning with "I" or "my" where the sentence allows it.
pub(super) fn split(sentence: &str) -> Vec<String> {
    let sentence = COUPLE.replace(opened(sentence), "I ");
    let sentence = sentence
        .replace("I are ", "I am ")
        .replace("I were ", "I was ");
    let mut pieces = Vec::new();
    let mut start = 0;
    for joint in JOINT.find_iter(&sentence).filter(|joint| !joint.is_empty()) {
        let (left, rest) = (
            &sentence[start.min(joint.start())..joint.start()],
            &sentence[joint.end()..],
        );
        let independent = HEAD.is_match(opened(rest)) && !left.is_empty() && !hangs(left);
        let listed = rest.starts_with("like ") && !joint.as_str().contains("nd ");
        if independent || !listed && shares_subject(left, rest) {
            pieces.push(left);
            start = joint.end();
        }
    }
    pieces.push(&sentence[start..]);
    let mut after_own = false;
    let mut clauses = Vec::new();
    for piece in pieces {
        let clause = shaped(piece, after_own);
        after_own |= clause.starts_with("I ");
        if !clause.is_empty() {
            clauses.push(clause);
        }
    }
    clauses
}

/// The text without greetings and other openers.
fn opened(text: &str) -> &str {
    let mut text = text.trim();
    for _ in 0..gates::MOST_OPENERS {
        if let Some(rest) = FOUND_OUT.captures(text).and_then(|found| found.get(1)) {
            text = rest.as_str();
        } else if let Some(opener) = OPENER.find(text).filter(|_| !GREETS_FROM.is_match(text)) {
            text = text[opener.end()..].trim_start();
        } else {
            break;
        }
    }
    text
}

/// Whether a piece is no clause of its own, but belongs to the next: "Last Friday", "my wife".
fn hangs(left: &str) -> bool {
    let left = wording::trimmed(left).to_lowercase();
    let words = left.split(' ').count();
    let starts = |starts: &[&str]| starts.iter().any(|start| left.starts_with(start));
    dates::is_only_date(&left)
        || words <= 3 && starts(&["my "]) && !left.contains(" is ")
        || LEAD.is_match(&left)
}

/// Whether what follows "and" is a second verb of the same "I".
fn shares_subject(left: &str, rest: &str) -> bool {
    let first = opened(left).split(' ').next().unwrap_or_default();
    let own = first == "I" || first.eq_ignore_ascii_case("we") || terse::completed(left).is_some();
    let own = own || ELIDED_HEAD.is_match(left);
    let verb = rest.split(' ').next().unwrap_or_default();
    let repeated = left.split(' ').any(|word| word.eq_ignore_ascii_case(verb));
    let went = WENT_TO.is_match(left);
    // "I practise and train": one clause with two verbs.
    let complete = left.split(' ').count() >= 3;
    own && complete
        && ELIDED_HEAD.is_match(rest)
        && !repeated
        && !objects::addresses_listener(left)
        && (went || !OPEN_VERB.is_match(left) && !has_infinitive(left))
}

/// Whether a verb stands behind "to", so that a second verb may belong to it.
fn has_infinitive(left: &str) -> bool {
    let mut words = left.split(' ').skip_while(|word| *word != "to").skip(1);
    let to = words.next().unwrap_or_default();
    let noun = has(
        &[
            "the", "a", "an", "my", "our", "some", "work", "school", "bed",
        ],
        to,
    );
    !to.is_empty() && !noun && !wording::is_capitalised(to) && !to.ends_with("ing")
}

/// A clause in the shape that the rules read.
fn shaped(clause: &str, after_own: bool) -> String {
    let mut text = one_subject(wording::trimmed(opened(clause)));
    if let Some(full) = terse::completed(&text) {
        text = full;
    } else if after_own && ELIDED_HEAD.is_match(&text) {
        text = format!("I {text}");
    }
    if let Some(found) = ADVERBIAL.captures(&text) {
        text = format!(
            "{} {}",
            wording::without_fillers(&found[2]),
            found[1].to_lowercase()
        );
    }
    for _ in 0..3 {
        match SOFTENER.captures(&text) {
            Some(found) => text = format!("{} {}", &found[1], &found[2]),
            None => break,
        }
    }
    if let Some(found) = DRIVEN.captures(&text) {
        text = found[1].to_owned();
    }
    if let Some(found) = AS_A.captures(&text) {
        text = format!("I am a {}", &found[1]);
    }
    let text = GOT_KIN.replace(&text, "I have $1 $2");
    let text = HOLD.replace(&text, "I have $1");
    let text = DO_ADD.replace(&text, "I $1");
    let text = HAVE_GOT.replace(&text, "I have $1");
    HAVE_DONE.replace(&text, "I $1").into_owned()
}

/// "We are …" as "I am …", "our …" as "my …".
fn one_subject(text: &str) -> String {
    let Some((first, rest)) = text.split_once(' ') else {
        return text.to_owned();
    };
    match first.to_lowercase().as_str() {
        "we" => match rest.split_once(' ') {
            Some(("are", rest)) => format!("I am {rest}"),
            Some(("were", rest)) => format!("I was {rest}"),
            _ => format!("I {rest}"),
        },
        "our" | "my" => format!("my {rest}"),
        _ => text.to_owned(),
    }
}
