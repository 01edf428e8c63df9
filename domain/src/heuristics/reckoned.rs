//! The days that a message may mean, and a statement without the dates that were reckoned from them: "last
//! Friday" in a message, "on May 8, 2026" in what an LLM makes of it.

use std::ops::RangeInclusive;

use chrono::{DateTime, Days, NaiveDate, Utc};
use regex::Captures;

use super::calendar::{self, Span, Tense, number, shift_months, ymd};
use super::{dates, foreign_dates, patterns};

macro_rules! month {
    () => {
        concat!(
            "january|february|march|april|may|june|july|august|september|october|november|december|",
            "januar|februar|märz|mai|juni|juli|oktober|dezember|",
            "enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre"
        )
    };
}

patterns! {
    DAY_MONTH = concat!(
        r"(?i)\b(?:on |am |el )?(?:the )?(\d{1,2})(?:st|nd|rd|th|\.)?(?: of| de)? (",
        month!(),
        r")(?:,?(?: de| del)? (\d{4}))?\b",
    );
    MONTH_DAY = concat!(
        r"(?i)\b(?:on )?(",
        month!(),
        r") (?:the )?(\d{1,2})(?:st|nd|rd|th)?\b(?:,? (\d{4})\b)?",
    );
    MONTH_YEAR = concat!(
        r"(?i)\b(?:in |since |im |seit |en |desde )(",
        month!(),
        r"),?(?: of| de| del)? (\d{4})\b",
    );
    YEAR = r"(?i)\b(?:in|since|im Jahr|seit|en|desde) (\d{4})\b";
}

/// A stretch of days, first and last.
pub type Stretch = RangeInclusive<NaiveDate>;

/// The days that a text may mean which was said at a time in a zone: each of its dates as one of the past
/// and one of the future.
pub fn days_meant(text: &str, said_at: DateTime<Utc>, zone: chrono_tz::Tz) -> Vec<Stretch> {
    let today = dates::local_day(said_at, zone);
    let mut meant = Vec::new();
    for text in foreign_dates::in_english(text) {
        for tense in [Tense::Past, Tense::Future] {
            let spans = dates::spans(&text, today, tense);
            meant.extend(spans.into_iter().filter_map(stretch));
        }
    }
    meant
}

/// A statement without the dates in it that agree with the days that are meant. Others stay, as their
/// numbers must be in the message.
pub fn without_reckoned_dates(statement: &str, meant: &[Stretch]) -> String {
    let agrees = |dated: Option<Stretch>| {
        dated.is_some_and(|dated| {
            meant
                .iter()
                .any(|meant| meant.start() <= dated.end() && dated.start() <= meant.end())
        })
    };
    // A day without a year is that of any year.
    let in_some_year = |month: &str, day: &str| {
        let years = meant
            .iter()
            .map(|meant| meant.start().format("%Y").to_string());
        let mut days = years.filter_map(|year| day_of(day, month, Some(&year)));
        days.any(|day| agrees(Some(day)))
    };
    let day = |found: &Captures<'_>, day: usize, month: usize| match found.get(3) {
        Some(year) => agrees(day_of(&found[day], &found[month], Some(year.as_str()))),
        None => in_some_year(&found[month], &found[day]),
    };
    let cut = |found: &Captures<'_>, agrees: bool| match agrees {
        true => String::new(),
        false => found[0].to_owned(),
    };
    let text = DAY_MONTH.replace_all(statement, |f: &Captures<'_>| cut(f, day(f, 1, 2)));
    let text = MONTH_DAY.replace_all(&text, |f: &Captures<'_>| cut(f, day(f, 2, 1)));
    let text = MONTH_YEAR.replace_all(&text, |f: &Captures<'_>| {
        let first = month_of(&f[1]).and_then(|month| ymd(&f[2], month, "1"));
        cut(
            f,
            agrees(first.and_then(|first| stretch(Span::Month(first)))),
        )
    });
    let text = YEAR.replace_all(&text, |f: &Captures<'_>| {
        let year = f[1].parse().ok().and_then(|year| stretch(Span::Year(year)));
        cut(f, agrees(year))
    });
    text.into_owned()
}

fn day_of(day: &str, month: &str, year: Option<&str>) -> Option<Stretch> {
    number(day)?;
    let day = ymd(year?, month_of(month)?, day)?;
    Some(day..=day)
}

/// The month of a name in English, German or Spanish.
fn month_of(name: &str) -> Option<u32> {
    let name = name.to_lowercase();
    let starts = [
        ("ene", 1),
        ("mär", 3),
        ("abr", 4),
        ("mai", 5),
        ("ago", 8),
        ("okt", 10),
        ("dez", 12),
        ("dic", 12),
    ];
    let foreign = starts.iter().find(|(start, _)| name.starts_with(start));
    foreign.map_or_else(|| calendar::month(&name), |(_, month)| Some(*month))
}

/// The days of a span.
fn stretch(span: Span) -> Option<Stretch> {
    let months = |first: NaiveDate, count: i64| {
        let last = shift_months(first, count)?.pred_opt()?;
        Some(first..=last)
    };
    let days = |first: NaiveDate, more: u64| Some(first..=first.checked_add_days(Days::new(more))?);
    match span {
        Span::Day(day) => days(day, 0),
        Span::Weekend(saturday) => days(saturday, 1),
        Span::Week(monday) => days(monday, 6),
        Span::Month(first) => months(first, 1),
        Span::Season(_, first) => months(first, 3),
        Span::Year(year) => months(NaiveDate::from_ymd_opt(year, 1, 1)?, 12),
        Span::AroundMonth(first) => months(shift_months(first, -1)?, 3),
        Span::AroundYear(year) => months(NaiveDate::from_ymd_opt(year - 1, 1, 1)?, 36),
    }
}
