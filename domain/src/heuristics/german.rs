//! German: the same kinds of facts as in English, in the user's words: "ich wohne in Hamburg" →
//! "User wohnt in Hamburg".

use super::calendar::Tense;
use super::dates::When;
use super::grammar::Grammar;
use super::language::Language;
use super::reading::QUOTED;
use super::{Finding, Scene, foreign_dates, patterns, wording};
use crate::memory::MemoryKind::{Context, Event, Fact, Preference};

patterns! {
    OPENER = concat!(
        r"(?i)^(?:hallo|hi|hey|moin|servus|guten (?:tag|morgen|abend)|ja|nein|ne|doch|also|ähm?|übrigens|und|aber|",
        r"oder|denn|sorry|verzeihung|entschuldigung|korrektur|eigentlich|tatsächlich|ehrlich gesagt|na ja|naja|",
        r"weil|da|außerdem|dann|okay|ok|haha\w*|ach|oh|so|leider|zum glück|nur so nebenbei|bitte)(?:[\s,:!.-]+|$)",
    );
    DAY_OF_MONTH = r"(?i)\b(\d{1,2})\. ?(januar|februar|märz|april|mai|juni|juli|august|september|oktober|november|dezember)\b";
    JOINT = r"(?i)\s*[,;]\s*(?:(?:und|aber|weil|da|denn|also|dann)\s+)?|\s+(?:und|aber|weil|sowie)\s+";
    HEAD = concat!(
        r"(?i)^(?:(?:ich|wir)\s|mein\w* \S|(?:am liebsten|seit|heute|gestern|vorgestern|morgen|letzten|in|am|vor)\b.*\bich\b|",
        r"(?:komme|arbeite|wohne|lebe|heiße|heisse|mag|liebe|hasse|habe|hab|bin|fahre|spiele|trinke|esse|rauche|",
        r"spreche|studiere|lerne|war|möchte)\b)",
    );
    ELIDED = concat!(
        r"(?i)^(?:komme|stamme|arbeite|wohne|lebe|heiße|heisse|mag|liebe|hasse|habe|hab|bin|fahre|spiele|trinke|esse|",
        r"rauche|spreche|studiere|lerne|war|leide|sammle|bevorzuge)\b",
    );
    INVERTED = r"(?i)^(.+? )?([\pL]+) ich\b ?(.*)$";
    FILLER = r"(?i)\b(?:total|sehr|wirklich|echt|einfach|halt|eben|ja|auch|gerade|derzeit|momentan|jetzt|inzwischen|übrigens|eigentlich|ähm?|so|immer|ziemlich|schon|mal)\b ?";
    NAME = r"(?i)^(?:ich hei(?:ß|ss)e|mein name ist|ich bin (?:die|der)|man nennt mich|nenn mich) ([\pL'-]+(?: [\pL'-]+)?)$";
    HOME = r"(?i)^(?:ich|wir) (?:wohne|lebe|wohnen|leben)\b(?:.*?)\b(in|bei|auf) ([\pL][\pL .'-]+)$";
    MOVED = r"(?i)^(?:ich|wir) (?:bin|sind) (?:von .+? )?nach ([\pL][\pL .'-]+?) (?:um)?gezogen$";
    NO_NAME = concat!(
        r"(?i)^(?:\pL*(?:chef(?:in)?|leiter(?:in)?|vater|mutter|bruder|schwester|besitzer(?:in)?|gründer(?:in)?|führer(?:in)?|",
        r"trainer(?:in)?|lehrer(?:in)?|fahrer(?:in)?|meister(?:in)?|arzt|ärztin|ste)|boss|papa|mama|opa|oma|onkel|tante|",
        r"sohn|tochter|mann|frau|junge|mädchen|mensch|person|typ|freund(?:in)?|kollege|kollegin|nachbar(?:in)?|kapitän|",
        r"könig(?:in)?|kund(?:e|in)|nutzer(?:in)?|admin(?:istrator)?|neuling|gewinner(?:in)?|autor(?:in)?|gastgeber(?:in)?|",
        r"held(?:in)?|star|profi|anfänger(?:in)?|nerd|expert(?:e|in)|jüngere|ältere|zweite|dritte|neue|einzige|andere|große|",
        r"kleine|verantwortliche|meinung|ansicht)$",
    );
    GREETING = r"(?i)^\W*(?:hallo|hi|hey|moin|servus|guten (?:tag|morgen|abend)|grüß\w*|grüezi)\b";
    ARTICLE = r"(?i)^(?:der|die|das|den|dem|des|(?:ein|mein|unser|sein|ihr|dein|kein|dies)(?:e[nmrs]?)?)\b";
    // Whatever the writer's capitals are, these are no places and no employers.
    NOWHERE = concat!(
        r"(?i)^(?:hause|angst|scheidung|trennung|frieden|sorge|armut|versehen|prinzip|überzeugung|neugier|langeweile|spaß|",
        r"gewohnheit|mangel|teilzeit|vollzeit|geld|nacht|tag|schichten)\b",
    );
    COUNTRY_WITH_ARTICLE = concat!(
        r"(?i)^(?:der (?:schweiz|türkei|ukraine|slowakei|mongolei|dominikanischen republik|elfenbeinküste|tschechischen republik|",
        r"pfalz|steiermark|lausitz|eifel|uckermark|bretagne|toskana|normandie|provence)|den (?:niederlanden|usa|vereinigten \pL+.*|",
        r"philippinen|staaten)|dem (?:iran|irak|libanon|jemen|sudan|kongo|kosovo|oman|senegal|tschad|niger|saarland|",
        r"sauerland|allgäu|elsass|schwarzwald|ruhrgebiet|rheinland|burgenland|tessin|wallis))$",
    );
    HOMELY = r"(?i)\b(?:\pL*dorf|\pL*stadt|\pL*familie|gegend|region|land|vorort)\b";
    ORIGIN = r"(?i)^ich (?:komme|stamme|bin) (?:ursprünglich )?aus ([\pL][\pL .'-]+)$";
    WORK_AT = r"(?i)^ich arbeite (?:seit .+ )?(bei|beim|für) (.+)$";
    WORK_AS = r"(?i)^ich (?:arbeite|bin) (?:seit .+ )?als ([\pL-]+)(?: (?:bei|im|in|für) (.+?))?(?: tätig| angestellt| beschäftigt)?$";
    WORK_IN = r"(?i)^ich arbeite (im|in|nachts|freiberuflich|selbstständig|von)\b ?(.*)$";
    AGE = r"(?i)^ich bin (\d{1,3})(?: jahre?(?: alt)?)?$";
    MARITAL = r"(?i)^ich bin (?:\w+ )?(verheiratet|ledig|geschieden|single|verlobt|verwitwet|getrennt|vergeben)(?: .*)?$";
    DIET = r"(?i)^ich (?:bin|lebe|ernähre mich) (?:eine? )?(vegan|veganer|veganerin|vegetarier|vegetarierin|vegetarisch|pescetarier\w*)$";
    ALLERGY = r"(?i)^ich (?:bin (?:\w+ )?allergisch (?:gegen|auf)|vertrage keine?n?|habe (?:eine )?\pL+(?:allergie|unverträglichkeit|intoleranz)) ?(.*)$";
    HEALTH = r"(?i)^ich (?:leide (?:an|unter) .+|habe (?:seit .+ )?(?:diabetes|asthma|migräne|krebs|adhs|depressionen|epilepsie|rheuma|bluthochdruck|zöliakie|laktoseintoleranz|höhenangst)\b.*|nehme (?:insulin|täglich|seit) ?.*)$";
    FEAR = r"(?i)^ich habe (?:\pL+ )?angst vor (.+)$";
    TASTE = r"(?i)^ich (liebe|mag|hasse|bevorzuge|verabscheue|vermisse) (.+)$";
    GLADLY = r"(?i)^ich (\pL+) (?:.*\b)?(?:gerne?|am liebsten)\b.*$";
    FAVOURITE = r"(?i)^mein[er]? lieblings([\pL-]+) (?:ist|sind|heißt) (.+)$";
    HAVE = r"(?i)^(?:ich|wir) (?:habe|hab|haben|besitze) ((?:eine?n?|zwei|drei|vier|fünf|\d{1,2}|keine?n?) .+)$";
    HELD = concat!(
        r"(?i)\b(?:\pL*hund|hunde|\pL*katze|katzen|kater|hamster|kaninchen|vogel|papagei|pferd|pferde|fisch|fische|",
        r"tochter|töchter|sohn|söhne|kind|kinder|bruder|brüder|schwester|schwestern|geschwister|enkel|enkelin|enkelkinder|",
        r"\pL*auto|haus|wohnung|garten|motorrad|fahrrad|boot|wohnmobil|mann|frau|freund|freundin|partner|partnerin)\b",
    );
    KIN = concat!(
        r"(?i)^mein\w? ((?:(?:ältere|jüngere|kleine|große|beste|neue)[rs]? )?(?:schwester|bruder|mutter|mama|vater|papa|mann|frau|",
        r"tochter|sohn|freundin|freund|oma|opa|großmutter|großvater|tante|onkel|cousin|cousine|nichte|neffe|partnerin|partner|",
        r"hund|katze|kater|hamster|papagei|pferd|kaninchen|chefin|chef|kollegin|kollege|eltern|kinder|geschwister)),? ",
        r"(?:(?:der|die|das) )?(heißt|heißen|ist|sind|wohnt|lebt|wohnen|leben|arbeitet|studiert|hat|kommt|spielt|mag|liebt) (.+)$",
    );
    DRIVE = r"(?i)^ich (fahre) ((?:eine?n? ).+)$";
    HABIT = r"(?i)^ich (spiele|spreche|sammle|lerne|studiere|rauche|trinke|esse|male|singe|tanze|jogge|schwimme|reite|koche|lese|trage)\b ?(.*)$";
    NO_MORE = r"(?i)^ich (\pL+) (?:(.*?) )?(?:nicht mehr|kein(e|en|er)? (.+?) mehr)(?: (.*))?$";
    DENIED = r"(?i)\bnicht\b|\bkeine?[nrms]?\b|\bnie\b|\bniemals\b";
    TRADE = concat!(
        r"(?i)^ich bin (?:von beruf |gelernte[rn]? |eine? |ausgebildete[rn]? )?((?:\pL*(?:lehrer|lehrerin|arzt|ärztin|berater|beraterin|",
        r"schwester|pfleger|pflegerin|entwickler|entwicklerin|ingenieur|ingenieurin|techniker|technikerin|meister|meisterin|",
        r"verkäufer|verkäuferin|fahrer|fahrerin|bäcker|bäckerin|tischler|tischlerin|mechaniker|mechanikerin|anwalt|anwältin|",
        r"architekt|architektin|student|studentin|schüler|schülerin|rentner|rentnerin|koch|köchin|polizist|polizistin|friseur|",
        r"friseurin|künstler|künstlerin|journalist|journalistin|programmierer|programmiererin|kaufmann|kauffrau|bauer|bäuerin|",
        r"psychologe|psychologin|apotheker|apothekerin|informatiker|informatikerin|musiker|musikerin|erzieher|erzieherin|",
        r"hausfrau|hausmann|beamter|beamtin|richter|richterin|pilot|pilotin|maler|malerin|gärtner|gärtnerin))(?: .*)?|in rente|arbeitslos|selbstständig)$",
    );
    GENERIC_OBJECT = r"(?i)^(?:dich|dir|sie|ihn|es|das|dies\w*|die (?:idee|frage|antwort)|diese\w*|den (?:vorschlag|plan)|sehr|nicht|wie|wenn|dass)\b";
    APPOINTMENT = r"(?i)^(?:\pL*prüfung|klausur|\pL*termin|zahnarzt|arzt|hochzeit|flug|umzug|interview|vorstellungsgespräch|op|operation|\pL*konzert|examen|urlaub)\b.*$";
    PAST = r"(?i)\b(?:war|hatte|bin|habe|wurde)\b";
    PERFECT = r"(?i)^ich (bin|habe|hab) (.+) (\pL*ge\pL+(?:t|en)|\pL+iert|be\pL+(?:t|en)|ver\pL+(?:t|en)|er\pL+(?:t|en))$";
    SLOT_NAME = r"^User heißt ";
    SLOT_HOME = r"^User (?:wohnt|lebt) (?:(?:in|bei|auf) \p{Lu}|in (?:der (?:Schweiz|Türkei|Ukraine|Slowakei)|den (?:Niederlanden|USA)))";
    SLOT_ORIGIN = r"^User (?:kommt|stammt) aus (?:\p{Lu}|der (?:Schweiz|Türkei|Ukraine|Slowakei)|den (?:Niederlanden|USA)|dem I[rR])";
    SLOT_EMPLOYER = r"^User arbeitet (?:jetzt )?(?:bei (?:der |dem |den )?|beim |für )\p{Lu}";
    SLOT_JOB = r"^User arbeitet als ";
    SLOT_AGE = r"^User ist \d+(?: Jahre alt)?$";
    SLOT_MARITAL = r"^User ist (?:verheiratet|ledig|geschieden|single|verlobt|verwitwet)";
    SLOT_DIET = r"^User (?:ist|ernährt sich|lebt) (?:vegan|vegetari|Vegetari|Veganer)";
    GERMAN_STATEMENT = r"^User(?:s \p{Lu}?\pL+)? (?:ist|hat|wohnt|lebt|heißt|mag|liebt|hasst|arbeitet|kommt|fährt|spielt|trinkt|isst|spricht|raucht|studiert|leidet|war|fliegt|möchte|interessiert)\b";
}

/// Verbs whose third person is no mere "-t".
#[rustfmt::skip]
const THIRD: &[(&str, &str)] = &[
    ("bin", "ist"), ("habe", "hat"), ("hab", "hat"), ("war", "war"), ("hatte", "hatte"), ("fahre", "fährt"),
    ("esse", "isst"), ("lese", "liest"), ("spreche", "spricht"), ("laufe", "läuft"), ("schlafe", "schläft"),
    ("sehe", "sieht"), ("nehme", "nimmt"), ("gebe", "gibt"), ("mag", "mag"), ("trage", "trägt"),
    ("werde", "wird"), ("muss", "muss"), ("kann", "kann"), ("will", "will"), ("möchte", "möchte"),
    ("treffe", "trifft"), ("heiße", "heißt"), ("heisse", "heißt"), ("hasse", "hasst"), ("sammle", "sammelt"),
    ("reise", "reist"), ("wurde", "wurde"), ("ging", "ging"), ("verabscheue", "verabscheut"), ("haben", "hat"),
];

static GRAMMAR: Grammar = Grammar {
    opener: &OPENER,
    joint: &JOINT,
    head: &HEAD,
    slots: &[
        (&SLOT_NAME, "name"),
        (&SLOT_HOME, "home"),
        (&SLOT_ORIGIN, "origin"),
        (&SLOT_EMPLOYER, "employer"),
        (&SLOT_JOB, "job"),
        (&SLOT_AGE, "age"),
        (&SLOT_MARITAL, "relationship"),
        (&SLOT_DIET, "diet"),
    ],
};

/// What a German message states.
pub(super) fn find(message: &str, scene: &Scene) -> Vec<Finding> {
    // "3. Juni" ends no sentence.
    let message = DAY_OF_MONTH.replace_all(message, "$1 $2");
    GRAMMAR.find(&message, |text| stated(text, scene))
}

fn stated(text: &str, scene: &Scene) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut own_before = false;
    for clause in GRAMMAR.clauses(text) {
        let Some(clause) = shaped(&clause, own_before) else {
            found.extend(bare(&clause, scene));
            continue;
        };
        own_before = true;
        if !clause.contains(QUOTED) {
            found.extend(of_clause(&clause, scene));
        }
    }
    found
}

/// Whether a message begins with a greeting.
pub(super) fn greets(message: &str) -> bool {
    GREETING.is_match(message)
}

/// A clause that begins with "ich" or "mein"; nothing when it has neither.
fn shaped(clause: &str, own_before: bool) -> Option<String> {
    let text = wording::trimmed(GRAMMAR.opened(clause));
    let lower = text.to_lowercase();
    let text =
        if lower.starts_with("ich ") || lower.starts_with("mein") || lower.starts_with("wir ") {
            text.to_owned()
        } else if let Some(found) = INVERTED.captures(text) {
            let before = found.get(1).map_or("", |before| before.as_str().trim());
            format!("ich {} {} {before}", &found[2], &found[3])
        } else if ELIDED.is_match(text) || own_before && lower.starts_with("bin ") {
            format!("ich {text}")
        } else {
            return None;
        };
    // "… dass ich keinen Alkohol trinke": the verb stands at the end.
    let text = match text.rsplit_once(' ') {
        Some((head, verb))
            if head.to_lowercase().starts_with("ich ")
                && ELIDED.is_match(verb)
                && !ELIDED.is_match(&head[4..]) =>
        {
            format!("ich {verb} {}", &head[4..])
        }
        _ => text,
    };
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// "Morgen Prüfung in Mathe": an appointment without a verb.
fn bare(clause: &str, scene: &Scene) -> Option<Finding> {
    let text = GRAMMAR.opened(clause);
    let (rest, when) = foreign_dates::take(text, Language::German, Tense::Future, scene);
    let rest = wording::trimmed(&rest);
    let when = when.filter(|_| APPOINTMENT.is_match(rest))?;
    let what = wording::capitalised(rest);
    Some(Finding::new(Event, 0.6, format!("User hat {what}")).on(Some(&when)))
}

fn of_clause(clause: &str, scene: &Scene) -> Vec<Finding> {
    let tense = if PAST.is_match(clause) {
        Tense::Past
    } else {
        Tense::Future
    };
    let (dateless, when) = foreign_dates::take(clause, Language::German, tense, scene);
    let plain = FILLER.replace_all(&dateless, "");
    let plain = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let plain = wording::trimmed(&plain);
    if let Some(over) = no_more(plain) {
        return vec![over];
    }
    let found = lasting(plain, scene);
    match when {
        Some(when) if found.is_empty() => dated(wording::trimmed(&dateless), &when)
            .into_iter()
            .collect(),
        _ => found,
    }
}

/// What a clause states of one matter; `None` when it is about another.
type Known = Option<Vec<Finding>>;

fn lasting(clause: &str, scene: &Scene) -> Vec<Finding> {
    let readings: [fn(&str, &Scene) -> Known; 4] = [named, home, origin, work];
    if let Some(found) = readings.iter().find_map(|read| read(clause, scene)) {
        // "Ich wohne nicht in Berlin" tells where not.
        return if DENIED.is_match(clause) {
            Vec::new()
        } else {
            found
        };
    }
    if let Some(found) = AGE.captures(clause) {
        return vec![Finding::fact(0.8, format!("User ist {} Jahre alt", &found[1])).about("age")];
    }
    if TRADE.is_match(clause) {
        return vec![Finding::fact(0.8, third(&clause[4..], scene)).about("job")];
    }
    if MARITAL.is_match(clause) {
        let mut relation = Finding::fact(0.8, third(&clause[4..], scene));
        // "Ich bin verheiratet und habe …": what is behind "und" is a clause of its own.
        relation.content = relation
            .content
            .split(" und ")
            .next()
            .unwrap_or_default()
            .to_owned();
        return vec![if DENIED.is_match(clause) {
            let positive = relation.content.replacen(" nicht ", " ", 1);
            relation.ending(positive)
        } else {
            relation.about("relationship")
        }];
    }
    if DIET.is_match(clause) {
        return vec![Finding::fact(0.8, third(&clause[4..], scene)).about("diet")];
    }
    if let Some(found) = FAVOURITE.captures(clause) {
        let content = format!(
            "Users {}",
            &clause[clause.find(' ').map_or(0, |at| at + 1)..]
        );
        let slot = format!("favourite:{}", found[1].to_lowercase());
        return vec![Finding::new(Preference, 0.6, content).about(slot)];
    }
    if let Some(found) = KIN.captures(clause) {
        return kin(&found, scene).into_iter().collect();
    }
    if let Some(found) = HAVE.captures(clause) {
        if !HELD.is_match(&found[1]) {
            return Vec::new();
        }
        let content = format!("User hat {}", nouns(&found[1]));
        return vec![Finding::fact(0.7, content)];
    }
    if let Some(found) = TASTE.captures(clause) {
        let what = found[2].to_owned();
        let known = !GENERIC_OBJECT.is_match(&what) && what.split(' ').count() <= 8;
        return known
            .then(|| Finding::new(Preference, 0.6, third(&clause[4..], scene)))
            .into_iter()
            .collect();
    }
    let kinds = [
        (&ALLERGY, Fact, 0.8),
        (&HEALTH, Fact, 0.8),
        (&FEAR, Preference, 0.6),
        (&GLADLY, Preference, 0.6),
        (&DRIVE, Fact, 0.5),
        (&WORK_IN, Fact, 0.6),
        (&HABIT, Preference, 0.5),
    ];
    for (pattern, kind, importance) in kinds {
        if pattern.is_match(clause) {
            if clause.split(' ').count() > 14 {
                return Vec::new();
            }
            let studies = clause.to_lowercase().starts_with("ich studiere");
            let kind = if studies { Fact } else { kind };
            return vec![Finding::new(kind, importance, third(&clause[4..], scene))];
        }
    }
    Vec::new()
}

/// "Ich heiße Anna"; "ich bin die Anna" only where somebody introduces themselves, as most nouns have a
/// capital and an article too.
fn named(clause: &str, scene: &Scene) -> Known {
    let found = NAME.captures(clause)?;
    let by_article = clause.to_lowercase().starts_with("ich bin ");
    let is_name = scene.greets
        && wording::is_capitalised(&found[1])
        && !found[1].split(' ').any(|word| NO_NAME.is_match(word));
    if by_article && !is_name {
        return None;
    }
    let name = Finding::fact(
        0.9,
        format!("User heißt {}", wording::title_case(&found[1])),
    );
    Some(vec![name.about("name")])
}

/// Where somebody lives: a place with a name takes the place of another, "bei meinen Eltern" does not.
fn home(clause: &str, scene: &Scene) -> Known {
    let (preposition, place) = match HOME.captures(clause) {
        Some(found) => (found[1].to_lowercase(), found.get(2)?.as_str().to_owned()),
        None => ("in".to_owned(), MOVED.captures(clause)?[1].to_owned()),
    };
    if NOWHERE.is_match(&place) {
        return Some(Vec::new());
    }
    let place = place_of(&place, scene);
    let lives = Finding::fact(0.8, format!("User wohnt {preposition} {place}"));
    Some(vec![if is_named(&place) {
        lives.about("home")
    } else {
        lives
    }])
}

/// Where somebody is from, rather than what they just come out of: "aus dem Büro".
fn origin(clause: &str, scene: &Scene) -> Known {
    let found = ORIGIN.captures(clause)?;
    let place = place_of(&found[1], scene);
    let from = Finding::fact(0.7, format!("User kommt aus {place}"));
    Some(if NOWHERE.is_match(&place) {
        Vec::new()
    } else if is_named(&place) {
        vec![from.about("origin")]
    } else if ARTICLE.is_match(&place) && HOMELY.is_match(&place) {
        vec![from]
    } else {
        Vec::new()
    })
}

/// What somebody works as, and at whom. "Ich arbeite für die Prüfung" tells neither.
fn work(clause: &str, scene: &Scene) -> Known {
    if let Some(found) = WORK_AS.captures(clause) {
        let job = format!("User arbeitet als {}", wording::capitalised(&found[1]));
        return Some(vec![Finding::fact(0.8, job).about("job")]);
    }
    let found = WORK_AT.captures(clause)?;
    let (preposition, employer) = (found[1].to_lowercase(), place_of(&found[2], scene));
    // "Bei" and "für" a name mean the same: one wording lets a later message find it.
    let said = if preposition == "für" {
        "bei"
    } else {
        &preposition
    };
    let at = Finding::fact(0.8, format!("User arbeitet {said} {employer}"));
    // "Bei der Post": an article that goes with "bei" may belong to a name.
    let bare = ["der ", "dem ", "den "]
        .iter()
        .find_map(|article| employer.strip_prefix(article))
        .filter(|_| preposition == "bei")
        .unwrap_or(&employer);
    Some(if NOWHERE.is_match(bare) {
        Vec::new()
    } else if wording::is_capitalised(bare) && !ARTICLE.is_match(bare) {
        vec![at.about("employer")]
    } else if preposition == "für" {
        Vec::new()
    } else {
        vec![at]
    })
}

/// A place or employer as it is said of the user: a name with its capital, "meinen Eltern" as theirs.
fn place_of(text: &str, scene: &Scene) -> String {
    if ARTICLE.is_match(text) {
        owned(wording::trimmed(text.split(" und ").next().unwrap_or(text)))
    } else {
        proper(text, scene)
    }
}

/// Whether a place has a name: a capital and no article, but for countries that have one.
fn is_named(place: &str) -> bool {
    COUNTRY_WITH_ARTICLE.is_match(place)
        || wording::is_capitalised(place) && !ARTICLE.is_match(place)
}

/// "Meine Schwester heißt Jana", "mein Hund ist krank".
fn kin(found: &regex::Captures<'_>, scene: &Scene) -> Option<Finding> {
    let (who, verb, what) = (&found[1], found[2].to_lowercase(), &found[3]);
    if GENERIC_OBJECT.is_match(what) || what.split(' ').count() > 8 {
        return None;
    }
    let named = verb.starts_with("hei");
    let what = if named {
        wording::title_case(what)
    } else {
        what.to_owned()
    };
    let passing = matches!(verb.as_str(), "ist" | "sind")
        && !wording::is_capitalised(&what)
        && what.split(' ').count() < 2;
    if passing {
        return (!scene.capitals)
            .then(|| Finding::new(Context, 0.4, format!("Users {who} {verb} {what}")));
    }
    Some(Finding::fact(
        0.7,
        format!("Users {} {verb} {what}", nouns(who)),
    ))
}

/// What is no longer so, with what was.
fn no_more(clause: &str) -> Option<Finding> {
    let found = NO_MORE.captures(clause)?;
    let verb = third_verb(&found[1]);
    let said = |part: usize| owned(found.get(part).map_or("", |part| part.as_str()));
    let (object, rest) = (&said(2), &said(5));
    let join = |words: &[&str]| {
        words
            .iter()
            .filter(|word| !word.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" ")
    };
    let (content, positive) = match found.get(4) {
        Some(none) => (
            join(&[
                "User",
                &verb,
                object,
                &format!("kein{}", found.get(3).map_or("", |e| e.as_str())),
                none.as_str(),
                "mehr",
                rest,
            ]),
            join(&["User", &verb, object, none.as_str(), rest]),
        ),
        None => (
            join(&["User", &verb, object, "nicht mehr", rest]),
            join(&["User", &verb, object, rest]),
        ),
    };
    Some(Finding::new(Preference, 0.6, content).ending(positive))
}

/// A dated event: "gestern war ich beim Zahnarzt".
fn dated(clause: &str, when: &When) -> Option<Finding> {
    let rest = clause
        .strip_prefix("ich ")
        .or_else(|| clause.strip_prefix("Ich "))?;
    let (verb, what) = rest.split_once(' ')?;
    let idle = GENERIC_OBJECT.is_match(what)
        || DENIED.is_match(what)
        || [
            "weiß", "denke", "glaube", "will", "brauche", "frage", "muss", "kann",
        ]
        .contains(&verb.to_lowercase().as_str())
        || matches!(verb.to_lowercase().as_str(), "bin" | "war" | "habe" | "hab")
            && what.split(' ').count() < 2;
    let feeling = verb.eq_ignore_ascii_case("bin")
        && !PERFECT.is_match(clause)
        && !what.contains(" bei")
        && !what.starts_with("bei")
        && !what.starts_with("in ");
    if idle || feeling || what.split(' ').count() > 14 {
        return None;
    }
    let content = format!("User {} {}", third_verb(verb), owned(what));
    Some(Finding::new(Event, 0.6, content).on(Some(when)))
}

/// "arbeite bei Bosch" about the user.
fn third(rest: &str, scene: &Scene) -> String {
    let (verb, what) = rest.split_once(' ').unwrap_or((rest, ""));
    let what = if scene.capitals {
        what.to_owned()
    } else {
        nouns(what)
    };
    format!("User {} {}", third_verb(verb), owned(&what))
        .trim_end()
        .to_owned()
}

fn third_verb(verb: &str) -> String {
    let verb = verb.to_lowercase();
    if let Some((_, third)) = THIRD.iter().find(|(first, _)| *first == verb) {
        return (*third).to_owned();
    }
    match verb.strip_suffix('e') {
        Some(stem) if stem.ends_with(['t', 'd']) => format!("{stem}et"),
        Some(stem) => format!("{stem}t"),
        None => verb,
    }
}

/// "mein Führerschein" of somebody else; which gender the user has is not known.
fn owned(text: &str) -> String {
    text.split(' ')
        .map(|word| match word.to_lowercase().as_str() {
            "mein" => "den eigenen".to_owned(),
            "meine" => "die eigene".to_owned(),
            "meinen" => "den eigenen".to_owned(),
            "meinem" => "dem eigenen".to_owned(),
            "meiner" => "der eigenen".to_owned(),
            "mich" | "mir" => "sich".to_owned(),
            _ => word.to_owned(),
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// A name or place without what trails behind it, with a capital where the writer uses none.
fn proper(text: &str, scene: &Scene) -> String {
    let ends = [" und ", " seit ", " mit "];
    let text = ends
        .iter()
        .fold(text, |text, end| text.split(end).next().unwrap_or(text));
    let text = wording::trimmed(text);
    if scene.capitals {
        text.to_owned()
    } else {
        wording::title_case(text)
    }
}

/// The nouns that are known by name, with their capitals.
fn nouns(text: &str) -> String {
    text.split(' ')
        .map(|word| {
            if HELD.is_match(word) && !word.starts_with("ein") {
                wording::capitalised(word)
            } else {
                word.to_owned()
            }
        })
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a statement is German, where every noun has a capital.
pub fn is_german(statement: &str) -> bool {
    GERMAN_STATEMENT.is_match(statement)
}

/// The slot of a German statement.
pub(super) fn slot(statement: &str) -> Option<&'static str> {
    if DENIED.is_match(statement) {
        return None;
    }
    GRAMMAR.slot(statement)
}
