//! Dates in German and Spanish: said in English, for the one reader of dates, and labelled back.

use chrono::Datelike;
use regex::{Captures, Regex};

use super::calendar::Tense;
use super::dates::{self, When};
use super::language::Language;
use super::{Scene, patterns};

patterns! {
    GERMAN_DAY = concat!(
        r"(?i)(\b(?:seit|jeden|jede|bis|ab|guten|schönen|am|vom|zum|von|der|den|dem|des|diesen|dieser|einen|ein|kein|",
        r"keinen|frühen) )?\b(vorgestern|übermorgen|gestern|heute|morgen)",
        r"(?: (morgen|abend|nacht|früh|mittag|nachmittag|vormittag))?\b",
    );
    GERMAN_WEEKDAY = concat!(
        r"(?i)\b(letzten|letzte|vergangenen|nächsten|nächste|kommenden|diesen|diese|am|vorigen) ",
        r"(montag|dienstag|mittwoch|donnerstag|freitag|samstag|sonnabend|sonntag|woche|monat|jahr|wochenende)\b",
    );
    GERMAN_COUNT = concat!(
        r"(?i)\b(vor|in) (\d{1,3}|einem|einer|zwei|drei|vier|fünf|sechs|sieben|acht|neun|zehn|zwölf) ",
        r"(tag|tagen|woche|wochen|monat|monaten|jahr|jahren)\b",
    );
    GERMAN_DATE = concat!(
        r"(?i)\b(?:am )?(\d{1,2})\.? ?(januar|februar|märz|april|mai|juni|juli|august|september|oktober|",
        r"november|dezember)(?: (\d{4}))?",
    );
    SPANISH_DAY = concat!(
        r"(?i)(\b(?:la|cada|esta|desde|por la) )?\b(anteayer|pasado mañana|ayer|hoy|mañana|anoche)\b",
        r"(?: por la (?:mañana|tarde|noche))?",
    );
    SPANISH_WEEKDAY = concat!(
        r"(?i)\b(?:el|la) (?:(próximo|próxima|pasado|pasada) )?(lunes|martes|miércoles|jueves|viernes|sábado|",
        r"domingo|semana|mes|año)(?: (pasado|pasada|que viene|próximo|próxima))?\b",
    );
    SPANISH_AGO = concat!(
        r"(?i)\b(hace|en|dentro de) (\d{1,3}|un|una|dos|tres|cuatro|cinco|seis|siete|ocho|nueve|diez) ",
        r"(día|días|semana|semanas|mes|meses|año|años)\b",
    );
    SPANISH_DATE = concat!(
        r"(?i)\b(?:el )?(\d{1,2}) de (enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|",
        r"noviembre|diciembre)(?: del? (\d{4}))?",
    );
}

#[rustfmt::skip]
const GERMAN_WORDS: &[(&str, &str)] = &[
    ("vorgestern", "the day before yesterday"), ("übermorgen", "the day after tomorrow"),
    ("gestern", "yesterday"), ("heute", "today"), ("morgen", "tomorrow"), ("montag", "monday"),
    ("dienstag", "tuesday"), ("mittwoch", "wednesday"), ("donnerstag", "thursday"), ("freitag", "friday"),
    ("samstag", "saturday"), ("sonnabend", "saturday"), ("sonntag", "sunday"), ("wochenende", "weekend"),
    ("woche", "week"), ("wochen", "weeks"), ("tag", "day"), ("tagen", "days"), ("monat", "month"),
    ("monaten", "months"), ("jahr", "year"), ("jahren", "years"), ("letzten", "last"), ("letzte", "last"),
    ("vergangenen", "last"), ("vorigen", "last"), ("nächsten", "next"), ("nächste", "next"),
    ("kommenden", "next"), ("diesen", "this"), ("diese", "this"), ("am", "on"), ("einem", "one"),
    ("einer", "one"), ("zwei", "two"), ("drei", "three"), ("vier", "four"), ("fünf", "five"),
    ("sechs", "six"), ("sieben", "seven"), ("acht", "eight"), ("neun", "nine"), ("zehn", "ten"),
    ("zwölf", "twelve"),
];
#[rustfmt::skip]
const SPANISH_WORDS: &[(&str, &str)] = &[
    ("anteayer", "the day before yesterday"), ("pasado mañana", "the day after tomorrow"),
    ("ayer", "yesterday"), ("anoche", "last night"), ("hoy", "today"), ("mañana", "tomorrow"),
    ("lunes", "monday"), ("martes", "tuesday"), ("miércoles", "wednesday"), ("jueves", "thursday"),
    ("viernes", "friday"), ("sábado", "saturday"), ("domingo", "sunday"), ("semana", "week"),
    ("semanas", "weeks"), ("día", "day"), ("días", "days"), ("mes", "month"), ("meses", "months"),
    ("año", "year"), ("años", "years"), ("un", "one"), ("una", "one"), ("dos", "two"), ("tres", "three"),
    ("cuatro", "four"), ("cinco", "five"), ("seis", "six"), ("siete", "seven"), ("ocho", "eight"),
    ("nueve", "nine"), ("diez", "ten"),
];
const ENGLISH_MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];
const GERMAN_MONTHS: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];
const SPANISH_MONTHS: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];

/// Takes the first date out of a clause: the clause without it, and when it is.
pub(super) fn take(
    clause: &str,
    language: Language,
    tense: Tense,
    scene: &Scene,
) -> (String, Option<When>) {
    let english = match language {
        Language::English => clause.to_owned(),
        Language::German => from_german(clause),
        Language::Spanish => from_spanish(clause),
    };
    if english == clause {
        return (clause.to_owned(), None);
    }
    match dates::take(&english, tense, scene) {
        (rest, Some(when)) => {
            let label = label(&when, language);
            (rest, Some(When { label, ..when }))
        }
        (_, None) => (clause.to_owned(), None),
    }
}

/// A text with its dates in English, as it may have them: as it stands, and from German and Spanish.
pub(super) fn in_english(text: &str) -> Vec<String> {
    let mut read = vec![text.to_owned()];
    read.extend(
        [from_german(text), from_spanish(text)]
            .into_iter()
            .filter(|said| said != text),
    );
    read
}

fn word(words: &[(&str, &str)], foreign: &str) -> String {
    let foreign = foreign.to_lowercase();
    words
        .iter()
        .find(|(from, _)| *from == foreign)
        .map_or(foreign.clone(), |(_, to)| (*to).to_owned())
}

fn dated(found: &Captures<'_>, months: &[&str; 12]) -> String {
    let month = months
        .iter()
        .position(|name| name.to_lowercase() == found[2].to_lowercase());
    let month = month.map_or("", |at| ENGLISH_MONTHS[at]);
    let year = found.get(3).map_or("", |year| year.as_str());
    format!("on {} {month} {year}", &found[1])
        .trim_end()
        .to_owned()
}

fn from_german(clause: &str) -> String {
    let said = |foreign: &str| word(GERMAN_WORDS, foreign);
    let clause = GERMAN_DATE.replace(clause, |f: &Captures<'_>| dated(f, &GERMAN_MONTHS));
    let clause = GERMAN_COUNT.replace(&clause, |f: &Captures<'_>| {
        let count = format!("{} {}", said(&f[2]), said(&f[3]));
        if f[1].eq_ignore_ascii_case("vor") {
            format!("{count} ago")
        } else {
            format!("in {count}")
        }
    });
    let clause = GERMAN_WEEKDAY.replace(&clause, |f: &Captures<'_>| {
        format!("{} {}", said(&f[1]), said(&f[2]))
    });
    said_day(&GERMAN_DAY, &clause, said)
}

/// The clause with its first day in English: one with an article, or "since" and the like, before it is none.
fn said_day(day: &Regex, clause: &str, said: impl Fn(&str) -> String) -> String {
    let mut days = day.captures_iter(clause);
    let first = days.find(|found| found.get(1).is_none());
    match first.and_then(|found| Some((found.get(0)?.range(), said(found.get(2)?.as_str())))) {
        Some((at, day)) => format!("{}{day}{}", &clause[..at.start], &clause[at.end..]),
        None => clause.to_owned(),
    }
}

fn from_spanish(clause: &str) -> String {
    let said = |foreign: &str| word(SPANISH_WORDS, foreign);
    let clause = SPANISH_DATE.replace(clause, |f: &Captures<'_>| dated(f, &SPANISH_MONTHS));
    let clause = SPANISH_AGO.replace(&clause, |f: &Captures<'_>| {
        let count = format!("{} {}", said(&f[2]), said(&f[3]));
        if f[1].eq_ignore_ascii_case("hace") {
            format!("{count} ago")
        } else {
            format!("in {count}")
        }
    });
    let clause = SPANISH_WEEKDAY.replace(&clause, |f: &Captures<'_>| {
        let which = f
            .get(1)
            .or_else(|| f.get(3))
            .map(|w| w.as_str().to_lowercase());
        match which.as_deref() {
            Some("pasado" | "pasada") => format!("last {}", said(&f[2])),
            Some(_) => format!("next {}", said(&f[2])),
            None => format!("on {}", said(&f[2])),
        }
    });
    said_day(&SPANISH_DAY, &clause, said)
}

/// The label of a date in the language of its statement.
fn label(when: &When, language: Language) -> String {
    let (months, on, week, weekend, within) = match language {
        Language::English => return when.label.clone(),
        Language::German => (
            &GERMAN_MONTHS,
            "am",
            "in der Woche vom",
            "am Wochenende vom",
            "im",
        ),
        Language::Spanish => (
            &SPANISH_MONTHS,
            "el",
            "en la semana del",
            "el fin de semana del",
            "en",
        ),
    };
    let label = when.label.as_str();
    if let Some(day) = label.strip_prefix("in the week of ") {
        return format!("{week} {day}");
    }
    if let Some(day) = label.strip_prefix("on the weekend of ") {
        return format!("{weekend} {day}");
    }
    if let Some(day) = label.strip_prefix("on ") {
        return format!("{on} {day}");
    }
    let rest = label.split_once(' ').map_or(label, |(_, rest)| rest);
    if rest.chars().all(|c| c.is_ascii_digit()) {
        return match language {
            Language::Spanish => format!("en {rest}"),
            _ => rest.to_owned(),
        };
    }
    let month = usize::try_from(when.at.month0())
        .ok()
        .and_then(|at| months.get(at))
        .copied()
        .unwrap_or_default();
    match language {
        Language::Spanish => format!("{within} {month} de {}", when.at.year()),
        _ => format!("{within} {month} {}", when.at.year()),
    }
}
