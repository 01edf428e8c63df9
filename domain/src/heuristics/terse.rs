//! Completes statements that leave out "I" or "I am": "Love pizza", "Vegan, from Leeds".

use super::{dates, objects, patterns};

patterns! {
    VERB = concat!(
        r"(?i)^(?:(?:just|also|really|recently|still|currently|absolutely|finally|already|now|",
        r"only) )*(work (?:nights|days|weekends|shifts|remotely|part|full|from home)|(?:love|hate) [^i]|love i|hate i|live (?:in|with|near|alone)|work (?:at|",
        r"for|as|in [^p])|prefer|moved (?:back |over )?to|adopted (?:a|an|two|my|our)|",
        r"bought (?:a|an|my|our)|got (?:a|an|my|our|two|married|engaged|promoted|divorced|",
        r"accepted|laid|fired|hired)|quit my|started (?:a|my|at|working|learning|taking|",
        r"playing|doing|going)|used to|grew up|lived in|worked (?:at|for|as)|was born|",
        r"can not stand|do not (?:like|eat|drink|smoke)|ran a|went to|graduated|speak [a-z]|",
        r"study|have been|have never)",
    );
    MINE = r"(?i)^(?:name is |favou?rite \w+(?: \w+)? (?:is|are) )\S";
    BE = concat!(
        r"(?i)^(?:(?:just|also|really|recently|still|currently|finally|already|now|about|",
        r"almost) )*((?:severely |very )?allergic to|vegan|vegetarian|pescatarian|married to|",
        r"married|divorced|engaged|single|born (?:in|on|and)|living (?:in|with)|working (?:at|",
        r"for|as|in)|based in|originally from|learning|studying|training for|planning (?:to|a|",
        r"our|my)|saving (?:up )?for|getting married|(?:going|flying|travell?ing|moving|",
        r"heading) to|(?:a )?(?:big|huge|massive) fan of|not (?:a )?(?:big |huge )?(?:fan|",
        r"into)|pregnant|retired|diagnosed with|lactose|gluten|left-handed|",
        r"\d{1,2} (?:years old|yo|y/o)\b|obsessed with|into [a-z])",
    );
    PAST = concat!(
        r"(?i)^(?:just |also )?((?:had|went|took|made|saw|met|visited|finished|ran|won|played|",
        r"tried|attended|joined|did|got) [^?]+)$",
    );
    FROM = r"^[Ff]rom [A-Z][\w .,'-]{1,30}$|(?i)^from [\pL .'-]{2,30} originally$";
    APPOINTMENT = concat!(
        r"(?i)^(?:an? |my |the )?(dentist|doctor|doctors|doctor's|gp|vet|therapist|optician|hairdresser)(?: appointment| appt)?\b(.*)$|",
        r"^((?:driving test|exams?|finals?|final exam|job interview|interview|surgery|check-?up|appointment|appt|therapy|",
        r"physio|haircut|flight|wedding|concert|graduation)\b.*)$",
    );
    IS = r"(?i)^\w+ing\b.* (?:is|was|has|makes?|helps?|gives?|can|will|seems|feels|sounds)\b";
    BY_TRADE = r"(?i)^(?:a |an )?([\pL /-]{3,40}) (?:here|by trade|by profession|by day)$";
}

/// A statement that leaves out "I" or "I am", in full: "Love pizza" → "I Love pizza".
pub(super) fn completed(text: &str) -> Option<String> {
    if text.starts_with("I ") || text.starts_with("my ") {
        return None;
    }
    if MINE.is_match(text) {
        return Some(format!("my {}", lower_first(text)));
    }
    if let Some(found) = VERB.captures(text) {
        let start = found.get(1)?.start();
        let (verb, rest) = text[start..].split_once(' ')?;
        return Some(format!("I {} {rest}", verb.to_lowercase()));
    }
    if let Some(found) = PAST.captures(text).filter(|_| dates::has_date(text)) {
        return Some(format!("I {}", lower_first(&found[1])));
    }
    if let Some(found) = BE.captures(text).filter(|_| !IS.is_match(text)) {
        return Some(format!(
            "I am {}",
            lower_first(&text[found.get(1)?.start()..])
        ));
    }
    if FROM.is_match(text) {
        return Some(format!("I am {}", lower_first(text)));
    }
    if let Some(found) = APPOINTMENT.captures(text).filter(|_| dates::has_date(text)) {
        return Some(match (found.get(1), found.get(3)) {
            (Some(who), _) => format!("I have a {} appointment{}", who.as_str(), &found[2]),
            (_, Some(what)) if what.as_str().starts_with("exam") => {
                format!("I have an {}", what.as_str())
            }
            (_, what) => format!("I have a {}", what.map_or("", |what| what.as_str())),
        });
    }
    let trade = BY_TRADE.captures(text)?;
    Some(format!("I am {}", objects::role(&trade[1])?))
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
