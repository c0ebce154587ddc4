//! Instants, half-open ranges and periods. Nothing here reads the clock.
//!
//! An [`Instant`] is a number of microseconds since the Unix epoch, UTC. Arrow columns and the transaction log of a lake
//! hold that number: [`Instant::from_micros`] and [`Instant::micros`] convert it. A length of time is a [`Period`], or a
//! plain number of microseconds. The time of an event is in [`EVENT_TIMES`]: each path from data to events goes through
//! [`parse_event_time`] or [`event_time`].

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

mod zone;

pub use zone::{TimeZone, TimeZoneError};

/// Microseconds in a second.
pub const SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub const DAY: i64 = 86_400 * SECOND;

/// The times that an event can have: from 1970-01-01 on and before 2200-01-01.
///
/// An event with any other time counts as one without a readable time. It is kept and counted, and lies in no window.
/// Arithmetic with these times and any [`Period`] neither overflows, nor leaves the 64-bit nanoseconds that the query
/// engine computes some functions of time in.
pub const EVENT_TIMES: std::ops::Range<Instant> = Instant::EPOCH..Instant(7_258_118_400 * SECOND);

/// Returns the instant `micros` microseconds after the Unix epoch. `None` if no event can have that time.
pub fn event_time(micros: i64) -> Option<Instant> {
    Some(Instant(micros)).filter(|instant| instant.is_event_time())
}

/// The length of a window or a range. At least one second, at most 366 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Period {
    seconds: u32,
}

impl Period {
    const MAX_SECONDS: u64 = 366 * 86_400;
    const MAX_HISTORY_SECONDS: u64 = 3_660 * 86_400;

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

    /// Reads a time to look back, up to ten years: `12h` or `400d`.
    ///
    /// # Errors
    /// The text is not a period, or the time is too long.
    pub fn parse_history(text: &str) -> Result<Period, PeriodError> {
        let seconds = seconds(text)?.filter(|seconds| (1..=Self::MAX_HISTORY_SECONDS).contains(seconds));
        let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
        seconds.map(|seconds| Period { seconds }).ok_or(PeriodError::HistoryLength)
    }

    /// Returns the length in seconds.
    pub fn seconds(self) -> u32 {
        self.seconds
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
    /// It is shorter than a second or longer than 3,660 days.
    #[error("expected a time from one second to 3660 days")]
    HistoryLength,
}

impl FromStr for Period {
    type Err = PeriodError;

    /// Reads `90s`, `15m`, `24h` or `7d`.
    fn from_str(text: &str) -> Result<Period, PeriodError> {
        seconds(text)?.and_then(Period::from_seconds).ok_or(PeriodError::Length)
    }
}

/// Returns the number of seconds in a text such as `15m`. `None` if there are too many to count.
fn seconds(text: &str) -> Result<Option<u64>, PeriodError> {
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3_600,
        Some('d') => 86_400,
        _ => return Err(PeriodError::Unit),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| PeriodError::Number)?;
    Ok(number.checked_mul(unit))
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

/// A point in time, in microseconds since the Unix epoch. Settings, states and reports hold it as RFC 3339 text in UTC.
///
/// It can be added to a number of microseconds, such as [`DAY`], or a number can be subtracted from it. The difference of
/// two instants is a number of microseconds. Results beyond 64 bits become the nearest value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Instant(i64);

impl Instant {
    /// The Unix epoch, 1970-01-01T00:00:00Z.
    pub const EPOCH: Instant = Instant(0);
    /// The earliest instant.
    pub const MIN: Instant = Instant(i64::MIN);
    /// The latest instant.
    pub const MAX: Instant = Instant(i64::MAX);

    /// Returns the instant `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Instant {
        Instant(micros)
    }

    /// Returns the microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Returns the whole milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Returns the whole seconds since the Unix epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(SECOND)
    }

    /// Returns the whole days since the Unix epoch.
    pub fn days(self) -> i64 {
        self.0.div_euclid(DAY)
    }

    /// Returns the latest multiple of `micros` microseconds since the Unix epoch that is not after this instant.
    #[must_use]
    pub fn rounded_down(self, micros: i64) -> Instant {
        Instant(self.0.div_euclid(micros).saturating_mul(micros))
    }

    /// Returns the UTC date, `YYYY-MM-DD`.
    pub fn utc_date(self) -> String {
        self.calendar().format("%Y-%m-%d").to_string()
    }

    /// Returns the instant as RFC 3339 in UTC, with six digits of a second.
    pub fn with_micros(self) -> String {
        self.calendar().to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    /// Returns whether an event can have this time.
    pub fn is_event_time(self) -> bool {
        EVENT_TIMES.contains(&self)
    }

    /// Returns the date and time. The calendar covers some 262,000 years before and after the epoch. An instant beyond
    /// gets the nearest date. Events and times from users are never beyond.
    fn calendar(self) -> DateTime<Utc> {
        let nearest = if self.0 < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
        DateTime::from_timestamp_micros(self.0).unwrap_or(nearest)
    }
}

impl Add<i64> for Instant {
    type Output = Instant;

    fn add(self, micros: i64) -> Instant {
        Instant(self.0.saturating_add(micros))
    }
}

impl Sub<i64> for Instant {
    type Output = Instant;

    fn sub(self, micros: i64) -> Instant {
        Instant(self.0.saturating_sub(micros))
    }
}

impl Sub for Instant {
    type Output = i64;

    fn sub(self, earlier: Instant) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Serializes an [`Instant`] as its microseconds since the Unix epoch, for `#[serde(with = "as_micros")]`.
pub mod as_micros {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::Instant;

    /// Writes the microseconds.
    pub fn serialize<S: Serializer>(instant: &Instant, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i64(instant.micros())
    }

    /// Reads the microseconds.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Instant, D::Error> {
        i64::deserialize(deserializer).map(Instant::from_micros)
    }
}

/// A text is neither a date nor a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a date or an RFC 3339 time: `2026-09-01`, `2026-09-01T12:30:00Z` or `2026-09-01T14:30:00+02:00`")]
pub struct InstantError;

impl FromStr for Instant {
    type Err = InstantError;

    /// Reads an instant from a user: RFC 3339, a date (its midnight, UTC), or a time without a zone (UTC). It may be
    /// outside [`EVENT_TIMES`]. As a bound of a range it then selects all events or none.
    fn from_str(text: &str) -> Result<Instant, InstantError> {
        if let Ok(date) = text.parse::<NaiveDate>() {
            return Ok(Instant(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros()));
        }
        parse_time(text).ok_or(InstantError)
    }
}

impl fmt::Display for Instant {
    /// Writes RFC 3339 in UTC, with a fraction only if it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = if self.0 % SECOND == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
        f.write_str(&self.calendar().to_rfc3339_opts(fraction, true))
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
///
/// It serializes as the microseconds of its bounds, which are exact beyond the years that a text can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(into = "[Option<i64>; 2]", from = "[Option<i64>; 2]")]
pub struct Range {
    /// The first instant in the range.
    pub from: Option<Instant>,
    /// The first instant after the range.
    pub to: Option<Instant>,
}

impl From<Range> for [Option<i64>; 2] {
    fn from(range: Range) -> [Option<i64>; 2] {
        [range.from, range.to].map(|bound| bound.map(Instant::micros))
    }
}

impl From<[Option<i64>; 2]> for Range {
    fn from(bounds: [Option<i64>; 2]) -> Range {
        let [from, to] = bounds.map(|bound| bound.map(Instant::from_micros));
        Range { from, to }
    }
}

impl Range {
    /// Returns whether `instant` is in the range.
    pub fn contains(&self, instant: Instant) -> bool {
        self.from.is_none_or(|from| from <= instant) && self.to.is_none_or(|to| instant < to)
    }

    /// Returns the range with bounds beyond [`EVENT_TIMES`] moved to its ends. It holds the same events, and its
    /// length can be computed. It holds no event if `from` is not before `to`.
    #[must_use]
    pub fn clamped(self) -> Range {
        let bound = |bound: Instant| bound.clamp(EVENT_TIMES.start, EVENT_TIMES.end);
        Range { from: self.from.map(bound), to: self.to.map(bound) }
    }

    /// Returns the bounds of [`Range::clamped`], with the ends of [`EVENT_TIMES`] for open bounds.
    pub fn event_times(self) -> (Instant, Instant) {
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
    pub fn overlaps(&self, first: Instant, last: Instant) -> bool {
        self.from.is_none_or(|from| from <= last) && self.to.is_none_or(|to| first < to)
    }
}

/// Reads a record's `eventTime`. `None` if the text has no time within [`EVENT_TIMES`]. CloudTrail writes
/// `YYYY-MM-DDTHH:MM:SSZ`. Copies from other tools also have fractions, offsets, a space for the `T`, or no zone
/// (UTC).
pub fn parse_event_time(text: &str) -> Option<Instant> {
    parse_time(text).filter(|time| time.is_event_time())
}

fn parse_time(text: &str) -> Option<Instant> {
    if let Some(instant) = parse_canonical(text.as_bytes()) {
        return Some(instant);
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(Instant(time.timestamp_micros()));
    }
    let zoneless = text.strip_suffix('Z').unwrap_or(text);
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(zoneless, format).ok())
        .map(|time| Instant(time.and_utc().timestamp_micros()))
}

/// Returns whether `text` has the form in which CloudTrail writes times.
pub fn is_canonical(text: &str) -> bool {
    parse_canonical(text.as_bytes()).is_some()
}

fn parse_canonical(text: &[u8]) -> Option<Instant> {
    let [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1, b'Z'] = text else {
        return None;
    };
    let number = |digits: &[&u8]| {
        digits.iter().try_fold(0u32, |n, digit| digit.is_ascii_digit().then(|| n * 10 + u32::from(**digit - b'0')))
    };
    let year = i32::try_from(number(&[y0, y1, y2, y3])?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(&[m0, m1])?, number(&[d0, d1])?)?;
    let time = date.and_hms_opt(number(&[h0, h1])?, number(&[i0, i1])?, number(&[s0, s1])?)?;
    Some(Instant(time.and_utc().timestamp_micros()))
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
        for (text, time) in [
            ("1970-01-01T00:00:00Z", Some(Instant::EPOCH)),
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
            assert_eq!(parse_event_time(text), time, "{text}");
            assert_eq!(event_time(text.parse::<Instant>().unwrap().micros()), time, "{text}");
        }
        assert_eq!(EVENT_TIMES.end.utc_date(), "2200-01-01");
    }

    #[test]
    fn bounds_beyond_the_times_of_events_select_all_or_nothing() {
        let at = |text: &str| text.parse::<Instant>().ok();
        let (start, end) = (EVENT_TIMES.start, EVENT_TIMES.end);
        for (from, to, expected) in [
            (None, None, (start, end)),
            (at("1600-01-01"), at("9999-12-31"), (start, end)),
            (at("2300-01-01"), None, (end, end)),
            (None, at("1960-01-01"), (start, start)),
            (at("2026-01-01"), at("+262142-12-31T23:59:00"), (Instant(1_767_225_600 * SECOND), end)),
        ] {
            assert_eq!(Range { from, to }.event_times(), expected);
        }
    }

    #[test]
    fn every_instant_is_written_as_a_time() {
        assert_eq!(Instant::EPOCH.to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Instant(-1).to_string(), "1969-12-31T23:59:59.999999Z");
        for instant in [Instant::MIN, Instant(i64::MIN / 2), Instant(-1), Instant::EPOCH, EVENT_TIMES.end, Instant::MAX]
        {
            assert!(instant.to_string().parse::<Instant>().is_ok(), "{instant}");
            assert!(instant.utc_date().parse::<Instant>().is_ok(), "{instant}");
        }
    }

    #[test]
    fn instants_become_the_nearest_where_arithmetic_leaves_64_bits() {
        assert_eq!((Instant::MAX + DAY, Instant::MIN - DAY), (Instant::MAX, Instant::MIN));
        assert_eq!((Instant::MAX - Instant::MIN, Instant::MIN - Instant::MAX), (i64::MAX, i64::MIN));
        assert_eq!(Instant(5) - Instant(7), -2);
        assert_eq!((Instant(-1).rounded_down(DAY), Instant(-1).days()), (Instant(-DAY), -1));
        assert_eq!(Instant(DAY + 1).rounded_down(DAY), Instant(DAY));
        assert_eq!(Instant::MIN.rounded_down(DAY), Instant::MIN);
    }

    #[test]
    fn an_instant_is_serialized_as_text_or_as_micros() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Both(Instant, #[serde(with = "as_micros")] Instant);

        let (both, json) = (Both(Instant(250_000), Instant(-7)), r#"["1970-01-01T00:00:00.250000Z",-7]"#);
        assert_eq!(serde_json::to_string(&both).unwrap(), json);
        assert_eq!(serde_json::from_str::<Both>(json).unwrap(), both);
        assert!(serde_json::from_str::<Both>("[0,-7]").is_err() && serde_json::from_str::<Both>("[\"\",-7]").is_err());
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
        let at = Instant::from_micros;
        let range = Range { from: Some(at(10)), to: Some(at(20)) };
        assert!([10, 19].into_iter().all(|micros| range.contains(at(micros))));
        assert!(![9, 20].into_iter().any(|micros| range.contains(at(micros))));
        let overlaps = |first, last| range.overlaps(at(first), at(last));
        assert!(overlaps(0, 10) && overlaps(19, 30) && !overlaps(20, 30) && !overlaps(0, 9));
    }
}
