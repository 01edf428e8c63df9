//! Times as an operator types them.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, Utc};

/// Reads a time: `2026-11-24`, `2026-11-24 14:30`, with seconds, in UTC unless it says otherwise
/// (`2026-11-24T14:30:00+02:00`); or how long ago it was: `90s`, `15m`, `3h`, `7d`.
///
/// # Errors
/// A sentence that says what it may be.
pub(crate) fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    absolute(text)
        .or_else(|| ago(text).and_then(|ago| Utc::now().checked_sub_signed(ago)))
        .ok_or_else(|| {
            "not a time; for example 2026-11-24, '2026-11-24 14:30' (UTC), \
             2026-11-24T14:30:00+02:00, or how long ago: 15m, 3h, 7d"
                .to_owned()
        })
}

fn absolute(text: &str) -> Option<DateTime<Utc>> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    for format in [
        "%Y-%m-%d %H:%M:%S%.f",
        "%Y-%m-%dT%H:%M:%S%.f",
        "%Y-%m-%d %H:%M",
        "%Y-%m-%dT%H:%M",
    ] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc());
        }
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(day.and_hms_opt(0, 0, 0)?.and_utc())
}

fn ago(text: &str) -> Option<TimeDelta> {
    let unit = text.chars().last()?;
    let count: i64 = text.strip_suffix(unit)?.parse().ok()?;
    let count = Some(count).filter(|count| *count >= 0)?;
    match unit {
        's' => TimeDelta::try_seconds(count),
        'm' => TimeDelta::try_minutes(count),
        'h' => TimeDelta::try_hours(count),
        'd' => TimeDelta::try_days(count),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_as_a_day_a_minute_or_with_its_zone() {
        let read = |text| moment(text).map(|time| time.to_rfc3339());
        assert_eq!(
            read("2026-11-24").as_deref(),
            Ok("2026-11-24T00:00:00+00:00")
        );
        assert_eq!(
            read("2026-11-24 14:30").as_deref(),
            Ok("2026-11-24T14:30:00+00:00")
        );
        assert_eq!(
            read("2026-11-24T14:30:05").as_deref(),
            Ok("2026-11-24T14:30:05+00:00")
        );
        assert_eq!(
            read("2026-11-24T14:30:00+02:00").as_deref(),
            Ok("2026-11-24T12:30:00+00:00")
        );
    }

    #[test]
    fn a_time_may_be_so_long_ago() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("3h", 10_800), ("7d", 604_800)] {
            let ago = Utc::now() - moment(text).expect(text);
            assert!((ago.num_seconds() - seconds).abs() <= 1, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_examples() {
        for bad in [
            "",
            "yesterday",
            "-3h",
            "3w",
            "h",
            "2026-13-01",
            "99999999999999999d",
            "3ü",
        ] {
            assert!(moment(bad).expect_err(bad).contains("2026-11-24"), "{bad}");
        }
    }
}
