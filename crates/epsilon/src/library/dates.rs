//! Dates as people give them on a command line or in a page, and times of photographs as text. A time is seconds since the
//! beginning of 1970 on a clock without a zone: where a camera wrote its local time, as if that were UTC.

use std::ops::Range;

const DAY: i64 = 24 * 60 * 60;

/// A date that cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "the date {text:?}: give YYYY, YYYY-MM, YYYY-MM-DD, YYYY-MM-DDTHH:MM, YYYY-MM-DDTHH:MM:SS, or 30d for 30 days ago"
)]
pub struct DateError {
    /// What was given.
    pub text: String,
}

/// The time that a date names, from its first second to before the first one after it: a year, a month, a day, a minute, a
/// second; or the moment that lies so many days before `now`.
///
/// ```
/// use epsilon::library::dates::{span, text};
///
/// let may = span("2024-05", 0)?;
/// assert_eq!((text(may.start), text(may.end)), ("2024-05-01T00:00:00".into(), "2024-06-01T00:00:00".into()));
/// let week = span("7d", may.end)?;
/// assert_eq!((text(week.start), week.end - week.start), ("2024-05-25T00:00:00".into(), 0));
/// # Ok::<(), epsilon::library::dates::DateError>(())
/// ```
///
/// # Errors
/// [`DateError`], also for days that no month has.
pub fn span(text: &str, now: i64) -> Result<Range<i64>, DateError> {
    let read = match text.strip_suffix('d') {
        Some(days) => number(days, 1..=6).map(|days| now - days * DAY..now - days * DAY),
        None => calendar(text),
    };
    read.ok_or_else(|| DateError { text: text.into() })
}

/// A time as `YYYY-MM-DDTHH:MM:SS`.
pub fn text(time: i64) -> String {
    let (days, seconds) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

fn calendar(text: &str) -> Option<Range<i64>> {
    let (date, time) = match text.split_once(['T', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let mut parts = date.split('-');
    let year = number(parts.next()?, 4..=4)?;
    let month = part(parts.next(), 1..=12)?;
    let day = part(parts.next(), 1..=31)?;
    if parts.next().is_some() {
        return None;
    }
    let begin = |year, month, day| DAY * days(year, month, day);
    let next = |month| {
        if month == 12 {
            (year + 1, 1)
        } else {
            (year, month + 1)
        }
    };
    match (month, day, time) {
        (None, None, None) => Some(begin(year, 1, 1)..begin(year + 1, 1, 1)),
        (Some(month), None, None) => {
            let (year_after, after) = next(month);
            Some(begin(year, month, 1)..begin(year_after, after, 1))
        }
        (Some(month), Some(day), time) => {
            let start = begin(year, month, day);
            let (year_after, after) = next(month);
            let exists = start < begin(year_after, after, 1);
            let within = match time {
                Some(time) => clock(time)?,
                None => 0..DAY,
            };
            exists.then(|| start + within.start..start + within.end)
        }
        _ => None,
    }
}

/// `HH:MM` or `HH:MM:SS`, from midnight.
fn clock(text: &str) -> Option<Range<i64>> {
    let mut parts = text.split(':');
    let hour = part(parts.next(), 0..=23)??;
    let minute = part(parts.next(), 0..=59)??;
    let second = part(parts.next(), 0..=59)?;
    if parts.next().is_some() {
        return None;
    }
    let start = 3600 * hour + 60 * minute + second.unwrap_or(0);
    let long = if second.is_some() { 1 } else { 60 };
    Some(start..start + long)
}

/// A part of two digits, in a range; none where it is left out, an outer none where it is wrong.
fn part(text: Option<&str>, range: std::ops::RangeInclusive<i64>) -> Option<Option<i64>> {
    match text {
        None => Some(None),
        Some(text) => {
            let value = number(text, 2..=2).filter(|value| range.contains(value))?;
            Some(Some(value))
        }
    }
}

/// Digits alone, so many of them.
fn number(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<i64> {
    let is_number = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, counted in years that begin in March, so that a leap day is the
/// last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date that lies so many days from 1970-01-01: [`days`] the other way.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let years = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * years + years / 4 - years / 100);
    let march = (5 * of_year + 2) / 153;
    let month = (march + 2) % 12 + 1;
    let year = era * 400 + years + i64::from(month <= 2);
    (year, month, of_year - (153 * march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_by_hand() {
        // `date -u -d DATE +%s`
        for (date, start, end) in [
            ("1970", 0, 31_536_000),
            ("2024-02", 1_706_745_600, 1_709_251_200),
            ("2024-02-29", 1_709_164_800, 1_709_251_200),
            ("1999-12", 944_006_400, 946_684_800),
            ("2024-02-29T23:59", 1_709_251_140, 1_709_251_200),
            ("2024-02-29 23:59:59", 1_709_251_199, 1_709_251_200),
        ] {
            assert_eq!(span(date, 5), Ok(start..end), "{date}");
        }
        assert_eq!(span("30d", 2_592_001), Ok(1..1));
        assert_eq!(text(1_709_251_199), "2024-02-29T23:59:59");
        assert_eq!(text(-1), "1969-12-31T23:59:59");
        for wrong in [
            "",
            "d",
            "24",
            "20240",
            "2024-13",
            "2024-2",
            "2023-02-29",
            "2024-02-30",
            "2024-01-01T",
            "2024-01T10:00",
            "2024-01-01T24:00",
            "2024-01-01T10",
            "2024-01-01T10:00:00Z",
            "yesterday",
            "-1d",
            "+2024",
            "2024-01-01-01",
            "9999999d",
            "١d",
        ] {
            let error = span(wrong, 0).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{wrong:?}")) && error.contains("YYYY-MM-DD"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_time_is_read_as_it_was_written(time in -60_000_000_000_i64..250_000_000_000) {
            let written = text(time);
            prop_assert_eq!(span(&written, 0), Ok(time..time + 1));
            let day = span(&written[..10], 0).unwrap();
            prop_assert!(day.contains(&time) && day.end - day.start == DAY);
            let month = span(&written[..7], 0).unwrap();
            prop_assert!(month.start <= day.start && day.end <= month.end);
            let year = span(&written[..4], 0).unwrap();
            prop_assert!(year.start <= month.start && month.end <= year.end);
        }

        #[test]
        fn any_text_is_a_date_or_an_error(text in ".{0,24}") {
            let _ = span(&text, 0);
        }
    }
}
