//! Reckons with days, weeks, months and seasons around the day of a message.

use chrono::{Datelike, Days, Duration, Months, NaiveDate, Weekday};

/// Which way an unfinished date looks: "on Friday" may be the last or the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tense {
    Past,
    Future,
}

/// A span of time, as exactly as it was said.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Span {
    Day(NaiveDate),
    Weekend(NaiveDate),
    Week(NaiveDate),
    Month(NaiveDate),
    Season(&'static str, NaiveDate),
    Year(i32),
    /// "A few weeks ago", by its month.
    AroundMonth(NaiveDate),
    /// "A few years ago".
    AroundYear(i32),
}

pub(super) fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

pub(super) fn amount(text: &str) -> Option<i64> {
    let words = [
        "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
        "twelve",
    ];
    let text = text.to_lowercase();
    match text.as_str() {
        "a" | "an" => Some(1),
        "fifteen" => Some(15),
        "twenty" => Some(20),
        "thirty" => Some(30),
        couple if couple.starts_with("a couple") => Some(2),
        other => (1..)
            .zip(words)
            .find(|(_, word)| *word == other)
            .map(|(n, _)| n)
            .or_else(|| other.parse().ok()),
    }
}

pub(super) fn month(name: &str) -> Option<u32> {
    let starts = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let name = name.to_lowercase();
    (1..)
        .zip(starts)
        .find(|(_, start)| name.starts_with(start))
        .map(|(n, _)| n)
}

pub(super) fn ymd(year: &str, month: u32, day: &str) -> Option<NaiveDate> {
    let year = year
        .parse()
        .ok()
        .filter(|year| (1900..=2100).contains(year))?;
    NaiveDate::from_ymd_opt(year, month, number(day)?)
}

/// A date with slashes, when it can be read in one way only.
pub(super) fn slashed(first: u32, second: u32, year: &str) -> Option<Span> {
    let (day, month) = match (first > 12, second > 12) {
        (true, false) => (first, second),
        (false, true) => (second, first),
        _ if first == second => (first, second),
        _ => return None,
    };
    ymd(year, month, &day.to_string()).map(Span::Day)
}

pub(super) fn day_of_year(
    day: &str,
    name: &str,
    year: Option<&str>,
    today: NaiveDate,
    tense: Tense,
) -> Option<Span> {
    let month = month(name)?;
    if let Some(year) = year {
        return ymd(year, month, day).map(Span::Day);
    }
    let day = number(day)?;
    let of = |year: i32| NaiveDate::from_ymd_opt(year, month, day);
    let near = (-4..=4).filter_map(|shift: i32| of(today.year() + shift));
    match tense {
        Tense::Past => near.rev().find(|day| *day <= today),
        Tense::Future => near.into_iter().find(|day| *day >= today),
    }
    .map(Span::Day)
}

pub(super) fn month_near(which: &str, month: u32, today: NaiveDate, tense: Tense) -> Option<Span> {
    let this = NaiveDate::from_ymd_opt(today.year(), today.month(), 1)?;
    let of = |shift: i32| NaiveDate::from_ymd_opt(today.year() + shift, month, 1);
    let candidates = [of(-1)?, of(0)?, of(1)?];
    match (which.to_lowercase().as_str(), tense) {
        ("next", _) => candidates.into_iter().find(|first| *first > this),
        ("last" | "this past", _) => candidates.into_iter().rev().find(|first| *first < this),
        ("this", _) => Some(candidates[1]),
        (_, Tense::Past) => candidates.into_iter().rev().find(|first| *first <= this),
        (_, Tense::Future) => candidates.into_iter().find(|first| *first >= this),
    }
    .map(Span::Month)
}

pub(super) fn relative_day(words: &str, today: NaiveDate) -> Option<Span> {
    let shift = match words {
        words if words.contains("day after tomorrow") => 2,
        words if words.contains("day before yesterday") => -2,
        words if words.contains("tomorrow") => 1,
        words if words.contains("yesterday") || words == "last night" => -1,
        _ => 0,
    };
    today
        .checked_add_signed(Duration::days(shift))
        .map(Span::Day)
}

/// "Next Friday" is the first Friday after today, "last Friday" the last before it.
pub(super) fn weekday(which: &str, name: &str, today: NaiveDate, tense: Tense) -> Option<Span> {
    let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let day = names
        .iter()
        .position(|start| name.to_lowercase().starts_with(start))?;
    let day = Weekday::try_from(u8::try_from(day).ok()?).ok()?;
    let ahead = u64::from(day.days_since(today.weekday()));
    let back = u64::from(today.weekday().days_since(day));
    let past = match which {
        "last" | "past" | "this past" => true,
        "on" => tense == Tense::Past,
        _ => false,
    };
    let same_day_counts = matches!(which, "this" | "on");
    let week = |distance: u64| {
        if distance == 0 && !same_day_counts {
            7
        } else {
            distance
        }
    };
    if past {
        today.checked_sub_days(Days::new(week(back)))
    } else {
        today.checked_add_days(Days::new(week(ahead)))
    }
    .map(Span::Day)
}

pub(super) fn span(which: &str, unit: &str, today: NaiveDate, tense: Tense) -> Option<Span> {
    let step = match which {
        "next" => 1,
        "last" | "this past" | "the past" => -1,
        _ => 0,
    };
    let week = u64::from(today.weekday().num_days_from_monday());
    let monday = today.checked_sub_days(Days::new(week))?;
    let this_month = NaiveDate::from_ymd_opt(today.year(), today.month(), 1)?;
    match unit {
        "week" => monday
            .checked_add_signed(Duration::weeks(step))
            .map(Span::Week),
        "weekend" => {
            let saturday = monday.checked_add_days(Days::new(5))?;
            let past = which == "the" && tense == Tense::Past && week < 5;
            let step = if past { -1 } else { step };
            saturday
                .checked_add_signed(Duration::weeks(step))
                .map(Span::Weekend)
        }
        "month" => shift_months(this_month, step).map(Span::Month),
        "year" => i32::try_from(step)
            .ok()
            .map(|step| Span::Year(today.year() + step)),
        season => season_near(step, season, today, tense),
    }
}

pub(super) fn season_near(step: i64, name: &str, today: NaiveDate, tense: Tense) -> Option<Span> {
    let (name, month) = match name {
        "spring" => ("spring", 3),
        "summer" => ("summer", 6),
        "autumn" => ("autumn", 9),
        "fall" => ("fall", 9),
        _ => ("winter", 12),
    };
    let starts: Vec<NaiveDate> = (-2..=2)
        .filter_map(|shift| NaiveDate::from_ymd_opt(today.year() + shift, month, 1))
        .collect();
    let ended = |start: &NaiveDate| shift_months(*start, 3).is_some_and(|end| end <= today);
    match step {
        1 => starts.into_iter().find(|start| *start > today),
        -1 => starts.into_iter().rev().find(ended),
        // "This winter", said in January, is the one that goes on; "this summer", said in autumn, is the one
        // before or the one to come.
        _ => {
            let begun = starts.iter().rev().find(|start| **start <= today).copied();
            let goes_on = begun.filter(|start| !ended(start));
            goes_on.or(match tense {
                Tense::Past => begun,
                Tense::Future => starts.into_iter().find(|start| *start > today),
            })
        }
    }
    .map(|start| Span::Season(name, start))
}

pub(super) fn shift_months(day: NaiveDate, step: i64) -> Option<NaiveDate> {
    let months = Months::new(u32::try_from(step.unsigned_abs()).ok()?);
    if step < 0 {
        day.checked_sub_months(months)
    } else {
        day.checked_add_months(months)
    }
}

pub(super) fn shifted(today: NaiveDate, count: i64, unit: &str) -> Option<Span> {
    match unit.to_lowercase().as_str() {
        "day" => today
            .checked_add_signed(Duration::days(count))
            .map(Span::Day),
        "week" if count.abs() <= 1 => today
            .checked_add_signed(Duration::weeks(count))
            .map(Span::Day),
        "week" => {
            let day = today.checked_add_signed(Duration::weeks(count))?;
            let past_monday = Days::new(u64::from(day.weekday().num_days_from_monday()));
            day.checked_sub_days(past_monday).map(Span::Week)
        }
        "month" => {
            let first = NaiveDate::from_ymd_opt(today.year(), today.month(), 1)?;
            shift_months(first, count).map(Span::Month)
        }
        _ => i32::try_from(count)
            .ok()
            .map(|count| Span::Year(today.year() + count)),
    }
    .filter(|span| !matches!(span, Span::Year(year) if !(1900..=2100).contains(year)))
}

/// "A few" is taken for three.
pub(super) fn few_ago(today: NaiveDate, unit: &str) -> Option<Span> {
    match unit.to_lowercase().as_str() {
        "day" => {
            let day = today.checked_sub_days(Days::new(3))?;
            day.checked_sub_days(Days::new(u64::from(day.weekday().num_days_from_monday())))
                .map(Span::Week)
        }
        "week" => {
            let day = today.checked_sub_days(Days::new(21))?;
            NaiveDate::from_ymd_opt(day.year(), day.month(), 1).map(Span::AroundMonth)
        }
        "month" => {
            let first = NaiveDate::from_ymd_opt(today.year(), today.month(), 1)?;
            shift_months(first, -3).map(Span::AroundMonth)
        }
        _ => Some(Span::AroundYear(today.year() - 3)),
    }
}

pub(super) fn day_of_month(day: u32, today: NaiveDate, tense: Tense) -> Option<Span> {
    let first = NaiveDate::from_ymd_opt(today.year(), today.month(), 1)?;
    let near = |step| NaiveDate::with_day(&shift_months(first, step)?, day);
    let candidates = [near(-1), near(0), near(1), near(2)];
    let mut days = candidates.into_iter().flatten();
    match tense {
        Tense::Past => days.rev().find(|day| *day <= today),
        Tense::Future => days.find(|day| *day >= today),
    }
    .map(Span::Day)
}

pub(super) fn holiday(name: &str, today: NaiveDate, tense: Tense) -> Option<Span> {
    let (day, month) = match name {
        "christmas eve" => ("24", "dec"),
        "halloween" => ("31", "oct"),
        name if name.starts_with("christmas") => ("25", "dec"),
        name if name.starts_with("valentine") => ("14", "feb"),
        name if name.ends_with("eve") => ("31", "dec"),
        _ => ("1", "jan"),
    };
    day_of_year(day, month, None, today, tense)
}
