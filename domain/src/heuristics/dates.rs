//! Reads dates in talk, "next Friday", "on 3 May 2019", "two weeks ago", against the day of the
//! message.

use std::ops::Range;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Offset, TimeZone, Utc};
use regex::Captures;

use super::calendar::{self, Span, Tense, number, ymd};
use super::{Scene, patterns, wording};

/// When something happens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct When {
    /// The instant: of a day its noon, of a longer span its first day.
    pub(super) at: DateTime<Utc>,
    /// For the reader: "on 2026-11-20", "in May 2019".
    pub(super) label: String,
}

// The names of months, weekdays and small numbers, for the patterns.
macro_rules! full_month {
    () => {
        "january|february|march|april|may|june|july|august|september|october|november|december"
    };
}
macro_rules! month {
    () => {
        concat!(
            full_month!(),
            "|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec"
        )
    };
}
macro_rules! weekday {
    () => {
        "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
    };
}
macro_rules! count {
    () => {
        "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
    };
}

patterns! {
    HINT = concat!(
        r"(?i-u:day|week|month|year|night|morning|noon|evening|summer|winter|spring|autumn|",
        r"fall|tomorrow|christmas|halloween|eve|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|",
        r"dec|[0-9]|(?:on|last|next|this|past) (?:mon|tue|wed|thu|fri|sat|sun))",
    );
    RELATIVE_DAY = concat!(
        r"(?i)\b(the day after tomorrow|day after tomorrow|the day before yesterday|",
        r"day before yesterday|(?:earlier |later )?(?:tomorrow|yesterday|today)|tonight|",
        r"last night|this (?:morning|afternoon|evening))(?: (?:morning|afternoon|evening|",
        r"night))?\b",
    );
    ISO = r"(?i)\b(?:on )?(\d{4})-(\d{1,2})-(\d{1,2})\b";
    DAY_MONTH = concat!(
        r"(?i)\b(?:on )?(?:the )?(\d{1,2})(?:st|nd|rd|th)?(?: of)? (",
        month!(),
        r")\b\.?(?:,? (\d{4})\b)?",
    );
    MONTH_DAY = concat!(
        r"(?i)\b(?:on )?(",
        month!(),
        r")\.? (?:the )?(\d{1,2})(?:st|nd|rd|th)?\b(?:,? (\d{4})\b)?",
    );
    MONTH_YEAR = concat!(
        r"(?i)\b(?:back )?(?:in |on )?(?:early |late |mid )?(",
        month!(),
        r")\.?,? (?:of )?((?:19|20)\d\d)\b",
    );
    MONTH_ONLY = concat!(
        r"(?i)\b(in|next|last|this|this coming|this past) (?:early |late |mid )?(",
        full_month!(),
        r")\b",
    );
    YEAR_ONLY = r"(?i)\b(?:back )?in ((?:19|20)\d\d)\b";
    WEEKDAY = concat!(
        r"(?i)\b(next|last|this|this coming|the coming|this past|coming|past|on) (",
        weekday!(),
        r"|mon|tues?|wed|thurs?|fri|sat|sun)(?: (?:morning|afternoon|evening|night))?\b",
    );
    BARE_WEEKDAY = concat!(
        r"(?i)(?:^| )(",
        weekday!(),
        r")(?: (?:morning|afternoon|evening|night))?(?:$|,)",
    );
    SPAN = concat!(
        r"(?i)\b(?:later |earlier )?(next|last|this|the coming|this coming|this past|",
        r"the past) (week|weekend|month|year|spring|summer|autumn|fall|winter)\b|\b(over|at|",
        r"on|during) the weekend\b",
    );
    AHEAD = concat!(
        r"(?i)\bin (?:about |around |just |exactly )?(\d{1,3}|an?|",
        count!(),
        r"|a couple of) (day|week|month|year)s?(?:' time)?\b",
    );
    FROM_NOW = concat!(
        r"(?i)\b(\d{1,3}|an?|",
        count!(),
        r") (day|week|month|year)s? from (?:now|today)\b",
    );
    AGO = concat!(
        r"(?i)\b(?:about |around |almost |over |just |exactly |like |roughly )*(\d{1,3}|an?|",
        count!(),
        r"|fifteen|twenty|thirty) (day|week|month|year)s? (?:ago|back)\b",
    );
    FEW_AGO = concat!(
        r"(?i)\b(?:just )?(?:a few|several|some|many|a couple(?: of)?) (day|week|month|",
        r"year)s (?:ago|back)\b",
    );
    ON_THE = r"(?i)\bon the (\d{1,2})(?:st|nd|rd|th)\b";
    DOTTED = r"(?i)\b(?:on )?(\d{1,2})\.(\d{1,2})\.(\d{4})\b";
    SLASHED = r"(?i)\b(?:on )?(\d{1,2})/(\d{1,2})/(\d{4})\b";
    HOLIDAY = concat!(
        r"(?i)\b(?:on|at|for|this|next|last|this coming) (christmas eve|christmas day|",
        r"christmas|new year'?s eve|new year'?s day|halloween|valentine'?s day)\b",
    );
    CLOCK = r"(?i)\bat (\d{1,2})(?::(\d{2}))? ?(am|pm|a\.m|p\.m)?\b";
    NOT_AN_EVENT = concat!(
        r"(?i)\b(?:every|each|most|since|until|till|by|before|after|from|than|almost|all|for|",
        r"between|through|to|of|born)\s*(?:the |last |next )?$",
    );
}

/// The date of an instant in a zone.
pub(super) fn local_day(at: DateTime<Utc>, zone: chrono_tz::Tz) -> NaiveDate {
    let utc = at.naive_utc();
    let offset = zone.offset_from_utc_datetime(&utc).fix();
    utc.checked_add_offset(offset).unwrap_or(utc).date()
}

/// Takes the first date out of a clause: the clause without it, and when it is.
pub(super) fn take(clause: &str, tense: Tense, scene: &Scene) -> (String, Option<When>) {
    let mut refused: Vec<Range<usize>> = Vec::new();
    for (range, span) in found(clause, scene.today, tense) {
        let inside_refused = refused
            .iter()
            .any(|r| r.start < range.end && range.start < r.end);
        if inside_refused || NOT_AN_EVENT.is_match(&clause[..range.start]) {
            refused.push(range);
            continue;
        }
        let words = clause[range.clone()].to_lowercase();
        let rest = format!("{} {}", &clause[..range.start], &clause[range.end..]);
        let Some(when) = span.when(&words, clause, tense, scene) else {
            continue;
        };
        let rest = rest
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace(" ,", ",");
        let rest = wording::trimmed(&rest);
        let rest = rest
            .strip_suffix(" on")
            .or_else(|| rest.strip_suffix(" in"))
            .unwrap_or(rest);
        return (rest.to_owned(), Some(when));
    }
    (clause.to_owned(), None)
}

/// Whether a text has a date in it.
pub(super) fn has_date(text: &str) -> bool {
    NaiveDate::from_ymd_opt(2000, 6, 15)
        .is_some_and(|day| !found(text, day, Tense::Past).is_empty())
}

/// Whether a text says nothing but a date.
pub(super) fn is_only_date(text: &str) -> bool {
    let Some(today) = NaiveDate::from_ymd_opt(2000, 6, 15) else {
        return false;
    };
    let text = text.trim_matches(|c: char| !c.is_alphanumeric());
    found(text, today, Tense::Past).iter().any(|(range, _)| {
        text.len() - range.len() <= 2
            || BARE_WEEKDAY.is_match(text) && range.len() + 2 >= text.len()
    })
}

/// A birthday as "3 May" or "3 May 1990", from any way to say it.
pub(super) fn birthday(text: &str, scene: &Scene) -> Option<String> {
    let (_, span) = found(text, scene.today, Tense::Future).into_iter().next()?;
    let with_year = text
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() == 4);
    match span {
        Span::Day(day) if with_year => Some(day.format("%-d %B %Y").to_string()),
        Span::Day(day) => Some(day.format("%-d %B").to_string()),
        Span::Month(month) if with_year => Some(format!("in {}", month.format("%B %Y"))),
        Span::Month(month) => Some(format!("in {}", month.format("%B"))),
        _ => None,
    }
}

/// What the dates in a text may be.
pub(super) fn spans(text: &str, today: NaiveDate, tense: Tense) -> Vec<Span> {
    let found = found(text, today, tense).into_iter();
    found.map(|(_, span)| span).collect()
}

/// The dates in a text, best reading first.
fn found(text: &str, today: NaiveDate, tense: Tense) -> Vec<(Range<usize>, Span)> {
    if !HINT.is_match(text) || !(1800..=2300).contains(&today.year()) {
        return Vec::new();
    }
    type Read = fn(&Captures<'_>, NaiveDate, Tense) -> Option<Span>;
    let readings: [(&regex::Regex, Read); 18] = [
        (&ISO, |c, _, _| {
            Some(Span::Day(ymd(&c[1], number(&c[2])?, &c[3])?))
        }),
        (&DOTTED, |c, _, _| {
            Some(Span::Day(ymd(&c[3], number(&c[2])?, &c[1])?))
        }),
        (&SLASHED, |c, _, _| {
            calendar::slashed(number(&c[1])?, number(&c[2])?, &c[3])
        }),
        (&DAY_MONTH, |c, today, tense| {
            calendar::day_of_year(&c[1], &c[2], c.get(3).map(|y| y.as_str()), today, tense)
        }),
        (&MONTH_DAY, |c, today, tense| {
            calendar::day_of_year(&c[2], &c[1], c.get(3).map(|y| y.as_str()), today, tense)
        }),
        (&MONTH_YEAR, |c, _, _| {
            Some(Span::Month(ymd(&c[2], calendar::month(&c[1])?, "1")?))
        }),
        (&MONTH_ONLY, |c, today, tense| {
            calendar::month_near(&c[1], calendar::month(&c[2])?, today, tense)
        }),
        (&YEAR_ONLY, |c, _, _| c[1].parse().ok().map(Span::Year)),
        (&RELATIVE_DAY, |c, today, _| {
            calendar::relative_day(&c[1].to_lowercase(), today)
        }),
        (&WEEKDAY, |c, today, tense| {
            calendar::weekday(&c[1].to_lowercase(), &c[2], today, tense)
        }),
        (&SPAN, |c, today, tense| {
            let which = c
                .get(1)
                .map_or("the", |which| which.as_str())
                .to_lowercase();
            let unit = c
                .get(2)
                .map_or("weekend", |unit| unit.as_str())
                .to_lowercase();
            calendar::span(&which, &unit, today, tense)
        }),
        (&AGO, |c, today, _| {
            calendar::shifted(today, -calendar::amount(&c[1])?, &c[2])
        }),
        (&FEW_AGO, |c, today, _| calendar::few_ago(today, &c[1])),
        (&FROM_NOW, |c, today, _| {
            calendar::shifted(today, calendar::amount(&c[1])?, &c[2])
        }),
        (&AHEAD, |c, today, tense| match tense {
            // "I learned it in two weeks" says how long it took.
            Tense::Past => None,
            Tense::Future => calendar::shifted(today, calendar::amount(&c[1])?, &c[2]),
        }),
        (&ON_THE, |c, today, tense| {
            calendar::day_of_month(number(&c[1])?, today, tense)
        }),
        (&HOLIDAY, |c, today, tense| {
            calendar::holiday(&c[1].to_lowercase(), today, tense)
        }),
        (&BARE_WEEKDAY, |c, today, tense| {
            calendar::weekday("on", &c[1], today, tense)
        }),
    ];
    readings
        .iter()
        .filter_map(|(pattern, read)| {
            let captures = pattern.captures(text)?;
            let whole = captures.get(0)?.range();
            Some((whole, read(&captures, today, tense)?))
        })
        .collect()
}

impl Span {
    fn when(self, words: &str, clause: &str, tense: Tense, scene: &Scene) -> Option<When> {
        let (day, label) = match self {
            Self::Day(day) => (day, format!("on {}", day.format("%Y-%m-%d"))),
            Self::Weekend(day) => (day, format!("on the weekend of {}", day.format("%Y-%m-%d"))),
            Self::Week(day) => (day, format!("in the week of {}", day.format("%Y-%m-%d"))),
            Self::Month(day) => (day, format!("in {}", day.format("%B %Y"))),
            Self::Season(name, day) => (day, format!("in {name} {}", day.year())),
            Self::AroundMonth(day) => (day, format!("around {}", day.format("%B %Y"))),
            Self::AroundYear(year) => (
                NaiveDate::from_ymd_opt(year, 1, 1)?,
                format!("around {year}"),
            ),
            Self::Year(year) => (NaiveDate::from_ymd_opt(year, 1, 1)?, format!("in {year}")),
        };
        let exact = matches!(self, Self::Day(_))
            .then(|| clock(clause))
            .flatten();
        let hour = |hour| NaiveTime::from_hms_opt(hour, 0, 0);
        let time = exact.or_else(|| match words {
            w if w.contains("night") => hour(21),
            w if w.contains("evening") => hour(19),
            w if w.contains("morning") => hour(9),
            w if w.contains("afternoon") => hour(15),
            _ => hour(12),
        })?;
        let local = day.and_time(time);
        let at = scene
            .zone
            .from_local_datetime(&local)
            .earliest()
            .map_or_else(
                || scene.zone.from_utc_datetime(&local).with_timezone(&Utc),
                |at| at.with_timezone(&Utc),
            );
        // What happened today happened before it was told, what will happen comes after.
        let at = match tense {
            Tense::Past if day == scene.today => at.min(scene.said_at),
            Tense::Future if day == scene.today => at.max(scene.said_at),
            _ => at,
        };
        Some(When { at, label })
    }
}

fn clock(clause: &str) -> Option<NaiveTime> {
    let found = CLOCK.captures(clause)?;
    let hour = number(&found[1])?;
    let minute = found
        .get(2)
        .map_or(Some(0), |minute| number(minute.as_str()))?;
    let half = found.get(3).map(|half| half.as_str().to_lowercase());
    let hour = match half.as_deref() {
        Some(pm) if pm.starts_with('p') && hour < 12 => hour + 12,
        Some(am) if am.starts_with('a') && hour == 12 => 0,
        None if found.get(2).is_none() && hour <= 12 => return None,
        _ => hour,
    };
    NaiveTime::from_hms_opt(hour, minute, 0)
}
