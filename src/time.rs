//! Instants, half-open ranges and periods. Nothing here reads the clock.
//!
//! An instant is a count of microseconds since the Unix epoch, UTC.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub const DAY: i64 = 86_400 * SECOND;

/// How long a span, window or look-back lasts. At least one second, at most 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    seconds: u32,
}

impl Period {
    const MAX_SECONDS: u64 = 366 * 86_400;

    /// One hour.
    pub const HOUR: Period = Period { seconds: 3_600 };

    /// A period of whole minutes, `None` outside the allowed lengths.
    pub fn from_minutes(minutes: u64) -> Option<Period> {
        Period::from_seconds(minutes.checked_mul(60)?)
    }

    fn from_seconds(seconds: u64) -> Option<Period> {
        (1..=Self::MAX_SECONDS).contains(&seconds).then_some(())?;
        u32::try_from(seconds).ok().map(|seconds| Period { seconds })
    }

    /// The length in microseconds.
    pub fn micros(self) -> i64 {
        i64::from(self.seconds) * SECOND
    }

    /// The length in minutes; a fraction where it is not whole.
    pub fn minutes(self) -> f64 {
        f64::from(self.seconds) / 60.0
    }
}

impl FromStr for Period {
    type Err = String;

    /// Reads `90s`, `15m`, `24h` or `7d`.
    fn from_str(text: &str) -> Result<Period, String> {
        let unit = match text.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err("expected a number and a unit: `90s`, `15m`, `24h` or `7d`".to_owned()),
        };
        let number: u64 = text[..text.len() - 1]
            .parse()
            .map_err(|_| "expected a whole number before the unit, as in `15m`".to_owned())?;
        number
            .checked_mul(unit)
            .and_then(Period::from_seconds)
            .ok_or_else(|| "expected a period from one second to 366 days".to_owned())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            s if s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            s if s % 3_600 == 0 => write!(f, "{}h", s / 3_600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

/// A half-open range of instants, `from <= t < to`; an absent end is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// The first instant in the range.
    pub from: Option<i64>,
    /// The first instant after the range.
    pub to: Option<i64>,
}

impl Range {
    /// Whether `instant` lies in the range.
    pub fn contains(&self, instant: i64) -> bool {
        self.from.is_none_or(|from| from <= instant) && self.to.is_none_or(|to| instant < to)
    }

    /// The least range that holds both.
    #[must_use]
    pub fn union(self, other: Range) -> Range {
        Range {
            from: self.from.zip(other.from).map(|(one, other)| one.min(other)),
            to: self.to.zip(other.to).map(|(one, other)| one.max(other)),
        }
    }

    /// Whether any instant of `first..=last` lies in the range.
    pub fn overlaps(&self, first: i64, last: i64) -> bool {
        self.from.is_none_or(|from| from <= last) && self.to.is_none_or(|to| first < to)
    }
}

/// Reads an instant given by a user: RFC 3339, a date (its midnight, UTC), or either without a zone (UTC).
pub fn parse_instant(text: &str) -> Result<i64, String> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros());
    }
    parse_event_time(text).ok_or_else(|| {
        "expected a date or an RFC 3339 time: `2026-09-01`, `2026-09-01T12:30:00Z` or `2026-09-01T14:30:00+02:00`"
            .to_owned()
    })
}

/// Reads a record's `eventTime`. CloudTrail writes `YYYY-MM-DDTHH:MM:SSZ`; copies made by other tools
/// also carry fractions, offsets, a space for the `T`, or no zone (UTC is meant).
pub fn parse_event_time(text: &str) -> Option<i64> {
    if let Some(instant) = parse_canonical(text.as_bytes()) {
        return Some(instant);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    let zoneless = text.strip_suffix('Z').unwrap_or(text);
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(zoneless, format).ok())
        .map(|time| time.and_utc().timestamp_micros())
}

/// Whether `text` is spelt the way CloudTrail itself writes times.
pub fn is_canonical(text: &str) -> bool {
    parse_canonical(text.as_bytes()).is_some()
}

fn parse_canonical(text: &[u8]) -> Option<i64> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1, b'Z'] = text else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0u32, |n, digit| digit.is_ascii_digit().then(|| n * 10 + u32::from(**digit - b'0')))
    };
    let year = i32::try_from(number(&[y0, y1, y2, y3])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(&[m0, m1])?, number(&[d0, d1])?)?;
    let time = date.and_hms_opt(number(&[h0, h1])?, number(&[i0, i1])?, number(&[s0, s1])?)?;
    Some(time.and_utc().timestamp_micros())
}

/// Writes an instant as RFC 3339 in UTC, with a fraction only where there is one.
pub fn rfc3339(instant: i64) -> String {
    match DateTime::<Utc>::from_timestamp_micros(instant) {
        Some(time) if instant % SECOND == 0 => time.to_rfc3339_opts(SecondsFormat::Secs, true),
        Some(time) => time.to_rfc3339_opts(SecondsFormat::Micros, true),
        None => format!("{instant}us"),
    }
}

/// The UTC date of an instant, `YYYY-MM-DD`.
pub fn utc_date(instant: i64) -> String {
    DateTime::<Utc>::from_timestamp_micros(instant)
        .map_or_else(|| "out-of-range".to_owned(), |time| time.format("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_times_in_every_spelling_met_in_the_field() {
        let noon = parse_event_time("2025-03-04T12:00:00Z").unwrap();
        for same in [
            "2025-03-04 12:00:00",
            "2025-03-04T12:00:00",
            "2025-03-04 12:00:00Z",
            "2025-03-04T12:00:00.000Z",
            "2025-03-04 12:00:00.000000000",
            "2025-03-04T14:00:00+02:00",
        ] {
            assert_eq!(parse_event_time(same), Some(noon), "{same}");
        }
        assert_eq!(parse_event_time("2025-03-04T12:00:00.25Z"), Some(noon + 250_000));
        for none in ["", "...", "redacted", "2025-03-04T25:00:00Z", "2025-02-30T00:00:00Z", "1741082400"] {
            assert_eq!(parse_event_time(none), None, "{none}");
        }
    }

    #[test]
    fn periods_keep_their_length_through_text() {
        for text in ["90s", "15m", "24h", "7d"] {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.to_string().parse(), Ok(period));
        }
        assert_eq!("24h".parse::<Period>().unwrap().to_string(), "1d");
        for bad in ["", "m", "15", "-1m", "0m", "1.5h", "367d", "15 m", "15µ"] {
            assert!(bad.parse::<Period>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_are_half_open() {
        let range = Range { from: Some(10), to: Some(20) };
        assert!(range.contains(10) && range.contains(19) && !range.contains(20) && !range.contains(9));
        assert!(range.overlaps(0, 10) && range.overlaps(19, 30) && !range.overlaps(20, 30) && !range.overlaps(0, 9));
    }
}
