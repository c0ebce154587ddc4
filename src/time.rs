//! Instants, half-open ranges and periods. Nothing here reads the clock.
//!
//! An instant is a count of microseconds since the Unix epoch, UTC. The time of an event is one within [`EVENT_TIMES`]:
//! each path from data to events goes through [`parse_event_time`] or [`event_time`].

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub const DAY: i64 = 86_400 * SECOND;

/// The times that an event can have, in microseconds: from 1970-01-01 on and before 2200-01-01.
///
/// An event with any other time counts as one without a readable time. It is kept and counted, and lies in no window.
/// Arithmetic with these times and any [`Period`] neither overflows, nor leaves the 64-bit nanoseconds that the query
/// engine computes some functions of time in.
pub const EVENT_TIMES: std::ops::Range<i64> = 0..7_258_118_400 * SECOND;

/// Returns `micros`, a time since the Unix epoch in microseconds, where an event can have that time.
pub fn event_time(micros: i64) -> Option<i64> {
    EVENT_TIMES.contains(&micros).then_some(micros)
}

/// The length of a window or a range. At least one second, at most 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period {
    seconds: u32,
}

impl Period {
    const MAX_SECONDS: u64 = 366 * 86_400;

    /// One hour.
    pub const HOUR: Period = Period { seconds: 3_600 };

    /// Returns a period of whole minutes. `None` if that is not an allowed length.
    pub fn from_minutes(minutes: u64) -> Option<Period> {
        Period::from_seconds(minutes.checked_mul(60)?)
    }

    fn from_seconds(seconds: u64) -> Option<Period> {
        (1..=Self::MAX_SECONDS).contains(&seconds).then_some(())?;
        u32::try_from(seconds).ok().map(|seconds| Period { seconds })
    }

    /// Returns the length in microseconds.
    pub fn micros(self) -> i64 {
        i64::from(self.seconds) * SECOND
    }

    /// Returns the length in minutes, with a fraction.
    pub fn minutes(self) -> f64 {
        f64::from(self.seconds) / 60.0
    }
}

/// The reason why a text is not a [`Period`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeriodError {
    /// It does not end with a unit.
    #[error("expected a number and a unit: `90s`, `15m`, `24h` or `7d`")]
    Unit,
    /// No whole number stands before the unit.
    #[error("expected a whole number before the unit, as in `15m`")]
    Number,
    /// It is shorter than a second or longer than 366 days.
    #[error("expected a period from one second to 366 days")]
    Length,
}

impl FromStr for Period {
    type Err = PeriodError;

    /// Reads `90s`, `15m`, `24h` or `7d`.
    fn from_str(text: &str) -> Result<Period, PeriodError> {
        let unit = match text.chars().last() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            _ => return Err(PeriodError::Unit),
        };
        let number: u64 = text[..text.len() - 1].parse().map_err(|_| PeriodError::Number)?;
        number.checked_mul(unit).and_then(Period::from_seconds).ok_or(PeriodError::Length)
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

/// A point in time. Settings, states and reports hold it as RFC 3339 text in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Instant(i64);

impl Instant {
    /// Returns the instant `micros` microseconds after the Unix epoch.
    pub fn from_micros(micros: i64) -> Instant {
        Instant(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }
}

/// A text is neither a date nor a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a date or an RFC 3339 time: `2026-09-01`, `2026-09-01T12:30:00Z` or `2026-09-01T14:30:00+02:00`")]
pub struct InstantError;

impl FromStr for Instant {
    type Err = InstantError;

    fn from_str(text: &str) -> Result<Instant, InstantError> {
        parse_instant(text).map(Instant)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339(self.0))
    }
}

impl TryFrom<String> for Instant {
    type Error = InstantError;

    fn try_from(text: String) -> Result<Instant, InstantError> {
        text.parse()
    }
}

impl From<Instant> for String {
    fn from(instant: Instant) -> String {
        instant.to_string()
    }
}

/// A half-open range of instants, `from <= t < to`. A missing bound is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Range {
    /// The first instant in the range.
    pub from: Option<i64>,
    /// The first instant after the range.
    pub to: Option<i64>,
}

impl Range {
    /// Returns whether `instant` is in the range.
    pub fn contains(&self, instant: i64) -> bool {
        self.from.is_none_or(|from| from <= instant) && self.to.is_none_or(|to| instant < to)
    }

    /// Returns the range with bounds beyond [`EVENT_TIMES`] moved to its ends. It holds the same events, and its
    /// length can be computed. It holds no event if `from` is not before `to`.
    #[must_use]
    pub fn clamped(self) -> Range {
        let bound = |at: i64| at.clamp(EVENT_TIMES.start, EVENT_TIMES.end);
        Range { from: self.from.map(bound), to: self.to.map(bound) }
    }

    /// Returns the bounds of [`Range::clamped`], with the ends of [`EVENT_TIMES`] for open bounds.
    pub fn event_times(self) -> (i64, i64) {
        let Range { from, to } = self.clamped();
        (from.unwrap_or(EVENT_TIMES.start), to.unwrap_or(EVENT_TIMES.end))
    }

    /// Returns the smallest range that holds both.
    #[must_use]
    pub fn union(self, other: Range) -> Range {
        Range {
            from: self.from.zip(other.from).map(|(one, other)| one.min(other)),
            to: self.to.zip(other.to).map(|(one, other)| one.max(other)),
        }
    }

    /// Returns whether any instant of `first..=last` is in the range.
    pub fn overlaps(&self, first: i64, last: i64) -> bool {
        self.from.is_none_or(|from| from <= last) && self.to.is_none_or(|to| first < to)
    }
}

/// Reads an instant from a user: RFC 3339, a date (its midnight, UTC), or a time without a zone (UTC). It may be
/// outside [`EVENT_TIMES`]. As a bound of a range it then selects all events or none.
pub fn parse_instant(text: &str) -> Result<i64, InstantError> {
    if let Ok(date) = text.parse::<NaiveDate>() {
        return Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros());
    }
    parse_time(text).ok_or(InstantError)
}

/// Reads a record's `eventTime`. `None` if the text has no time within [`EVENT_TIMES`]. CloudTrail writes
/// `YYYY-MM-DDTHH:MM:SSZ`. Copies from other tools also have fractions, offsets, a space for the `T`, or no zone
/// (UTC).
pub fn parse_event_time(text: &str) -> Option<i64> {
    parse_time(text).and_then(event_time)
}

fn parse_time(text: &str) -> Option<i64> {
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

/// Returns whether `text` has the form in which CloudTrail writes times.
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

/// Returns the date and time of an instant. The calendar covers some 262,000 years before and after the epoch. An
/// instant beyond gets the nearest date. Events and times from users are never beyond.
fn calendar(instant: i64) -> DateTime<Utc> {
    let nearest = if instant < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_micros(instant).unwrap_or(nearest)
}

/// Returns an instant as RFC 3339 in UTC, with a fraction only if it has one.
pub fn rfc3339(instant: i64) -> String {
    let fraction = if instant % SECOND == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
    calendar(instant).to_rfc3339_opts(fraction, true)
}

/// Returns the UTC date of an instant, `YYYY-MM-DD`.
pub fn utc_date(instant: i64) -> String {
    calendar(instant).format("%Y-%m-%d").to_string()
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
    fn an_event_has_a_time_from_1970_up_to_2200() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2199-12-31T23:59:59.999999Z", Some(EVENT_TIMES.end - 1)),
            ("2200-01-01T01:00:00+02:00", Some(EVENT_TIMES.end - 3_600 * SECOND)),
            ("2200-01-01T00:00:00Z", None),
            ("2199-12-31T23:00:00-02:00", None),
            ("1969-12-31T23:59:59.999999Z", None),
            ("1970-01-01T00:00:00+00:01", None),
            ("0001-01-01T00:00:00Z", None),
            ("9999-12-31T23:59:59Z", None),
            ("+262142-12-31T23:59:00", None),
            ("-262143-01-01T00:00:00", None),
        ] {
            assert_eq!(parse_event_time(text), micros, "{text}");
            assert_eq!(event_time(parse_instant(text).unwrap()), micros, "{text}");
        }
        assert_eq!(utc_date(EVENT_TIMES.end), "2200-01-01");
    }

    #[test]
    fn bounds_beyond_the_times_of_events_select_all_or_nothing() {
        let at = |text| parse_instant(text).ok();
        let (start, end) = (EVENT_TIMES.start, EVENT_TIMES.end);
        for (from, to, expected) in [
            (None, None, (start, end)),
            (at("1600-01-01"), at("9999-12-31"), (start, end)),
            (at("2300-01-01"), None, (end, end)),
            (None, at("1960-01-01"), (start, start)),
            (at("2026-01-01"), at("+262142-12-31T23:59:00"), (1_767_225_600 * SECOND, end)),
        ] {
            assert_eq!(Range { from, to }.event_times(), expected);
        }
    }

    #[test]
    fn every_instant_is_written_as_a_time() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        for instant in [i64::MIN, i64::MIN / 2, -1, 0, EVENT_TIMES.end, i64::MAX] {
            assert!(parse_instant(&rfc3339(instant)).is_ok(), "{}", rfc3339(instant));
            assert!(parse_instant(&utc_date(instant)).is_ok(), "{}", utc_date(instant));
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
