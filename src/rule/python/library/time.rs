//! Python's `datetime`, without the clock.

use chrono::{DateTime as ChronoTime, Datelike as _, NaiveDate, NaiveDateTime, NaiveTime, Timelike as _};

use super::super::exception::{Fault, Outcome};
use super::super::interpreter::Arguments;
use super::super::value::{DateTime, Value};

const SECOND: i128 = 1_000_000;
const DAY: i128 = 86_400 * SECOND;

fn naive(at: DateTime) -> Option<NaiveDateTime> {
    ChronoTime::from_timestamp_micros(i64::try_from(at.micros).ok()?).map(|time| time.naive_utc())
}

fn of_naive(time: NaiveDateTime, has_zone: bool) -> DateTime {
    DateTime { micros: time.and_utc().timestamp_micros().into(), has_zone }
}

/// Returns the time as `isoformat` and `str` give it.
pub(in super::super) fn iso(at: DateTime, separator: char) -> String {
    let Some(time) = naive(at) else { return String::new() };
    let fraction = time.nanosecond() / 1_000;
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    let zone = if at.has_zone { "+00:00" } else { "" };
    format!("{}{separator}{}{fraction}{zone}", time.format("%Y-%m-%d"), time.format("%H:%M:%S"))
}

/// Returns a length of time as `str` gives it.
pub(in super::super) fn delta(micros: i128) -> String {
    let (days, rest) = (micros.div_euclid(DAY), micros.rem_euclid(DAY));
    let (seconds, fraction) = (rest / SECOND, rest % SECOND);
    let prefix = match days {
        0 => String::new(),
        1 | -1 => format!("{days} day, "),
        days => format!("{days} days, "),
    };
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    format!("{prefix}{}:{:02}:{:02}{fraction}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// Returns a length of time in seconds.
#[allow(clippy::cast_precision_loss, reason = "Python rounds it too")]
pub(in super::super) fn seconds(micros: i128) -> f64 {
    micros as f64 / 1e6
}

/// Returns an attribute of a time.
pub(in super::super) fn attribute(at: DateTime, name: &str) -> Option<Value> {
    let time = naive(at)?;
    Some(Value::Int(match name {
        "year" => time.year().into(),
        "month" => time.month().into(),
        "day" => time.day().into(),
        "hour" => time.hour().into(),
        "minute" => time.minute().into(),
        "second" => time.second().into(),
        "microsecond" => (time.nanosecond() / 1_000).into(),
        _ => return None,
    }))
}

/// Returns an attribute of a length of time.
pub(in super::super) fn delta_attribute(micros: i128, name: &str) -> Option<Value> {
    match name {
        "days" => Some(Value::Int(micros.div_euclid(DAY))),
        "seconds" => Some(Value::Int(micros.rem_euclid(DAY) / SECOND)),
        "microseconds" => Some(Value::Int(micros.rem_euclid(SECOND))),
        _ => None,
    }
}

/// Makes a length of time.
#[allow(clippy::cast_possible_truncation, reason = "checked against the bounds of the type")]
pub(in super::super) fn new_delta(arguments: &Arguments) -> Outcome<Value> {
    const UNITS: [(&str, i128); 7] = [
        ("days", DAY),
        ("seconds", SECOND),
        ("microseconds", 1),
        ("milliseconds", 1_000),
        ("minutes", 60 * SECOND),
        ("hours", 3_600 * SECOND),
        ("weeks", 7 * DAY),
    ];
    arguments.check(UNITS.len(), &UNITS.map(|(name, _)| name))?;
    let mut micros = 0_i128;
    for (position, (name, unit)) in UNITS.into_iter().enumerate() {
        let Some(value) = arguments.get(position, name) else { continue };
        let part = match (value.as_int(), value.as_float()) {
            (Some(whole), _) => whole.checked_mul(unit),
            #[allow(clippy::cast_precision_loss, reason = "Python rounds it too")]
            (None, Some(number)) if number.abs() < 1e15 => Some((number * unit as f64).round_ties_even() as i128),
            (None, Some(_)) => None,
            (None, None) => {
                let kind = value.type_name();
                return Err(Fault::type_error(format!("unsupported type for timedelta {name} component: {kind}")));
            }
        };
        micros = part.and_then(|part| micros.checked_add(part)).ok_or(Fault::Exhausted)?;
    }
    Ok(Value::TimeDelta(micros))
}

/// Calls a function of `datetime.datetime`.
pub(in super::super) fn call(name: &str, arguments: &Arguments) -> Outcome<Value> {
    let text = |position, what: &str| {
        let value = arguments.required(position, what)?;
        let message = format!("{name} argument must be str, not {}", value.type_name());
        value.as_text().cloned().ok_or_else(|| Fault::type_error(message))
    };
    match name {
        "datetime.datetime.strptime" => {
            let (text, format) = (text(0, "date_string")?, text(1, "format")?);
            match strptime(&text, &format)? {
                Some(at) => Ok(Value::DateTime(at)),
                None => Err(Fault::value_error(format!("time data '{text}' does not match format '{format}'"))),
            }
        }
        "datetime.datetime.fromisoformat" => {
            let text = text(0, "date_string")?;
            match of_iso(&text) {
                Some(at) => Ok(Value::DateTime(at)),
                None => Err(Fault::value_error(format!("Invalid isoformat string: '{text}'"))),
            }
        }
        "datetime.datetime.utcfromtimestamp" => {
            let value = arguments.required(0, "timestamp")?;
            let Some(number) = value.as_float() else {
                return Err(Fault::type_error(format!(
                    "'{}' object cannot be interpreted as an integer",
                    value.type_name()
                )));
            };
            if number.is_nan() || number.abs() >= 2.5e11 {
                return Err(Fault::value_error("year is out of range"));
            }
            #[allow(clippy::cast_possible_truncation, reason = "within the bounds above")]
            Ok(Value::DateTime(DateTime { micros: (number * 1e6).round_ties_even() as i128, has_zone: false }))
        }
        _ => {
            const PARTS: [&str; 7] = ["year", "month", "day", "hour", "minute", "second", "microsecond"];
            let mut numbers = Vec::with_capacity(PARTS.len());
            for (position, part) in PARTS.into_iter().enumerate() {
                let number = match arguments.get(position, part) {
                    None => 0,
                    Some(value) => value.as_int().ok_or_else(|| {
                        let kind = value.type_name();
                        Fault::type_error(format!("'{kind}' object cannot be interpreted as an integer"))
                    })?,
                };
                numbers.push(u32::try_from(number).map_err(|_| Fault::value_error(format!("{part} is out of range")))?);
            }
            let part = |index: usize| numbers.get(index).copied().unwrap_or(0);
            let date = i32::try_from(part(0)).ok().and_then(|year| NaiveDate::from_ymd_opt(year, part(1), part(2)));
            let time = NaiveTime::from_hms_micro_opt(part(3), part(4), part(5), part(6));
            match (date, time) {
                (Some(date), Some(time)) => Ok(Value::DateTime(of_naive(date.and_time(time), false))),
                _ => Err(Fault::value_error("day is out of range for month")),
            }
        }
    }
}

/// Calls a method of a time.
pub(in super::super) fn method(at: DateTime, name: &str, arguments: &Arguments) -> Outcome<Value> {
    match name {
        "isoformat" => {
            arguments.check(0, &[])?;
            Ok(Value::text(iso(at, 'T')))
        }
        "timestamp" => Ok(Value::Float(seconds(at.micros))),
        "strftime" => match arguments.required(0, "format")? {
            Value::Text(format) => strftime(at, format).map(Value::text),
            other => Err(Fault::type_error(format!("strftime() argument 1 must be str, not {}", other.type_name()))),
        },
        _ => Err(Fault::Refused(format!("`datetime.{name}`"))),
    }
}

/// The directives of formats that both languages have, with the same meaning.
const DIRECTIVES: &str = "YmdHMSfzZbBaAjyIp%";

pub(in super::super) fn check_format(format: &str) -> Outcome<()> {
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c == '%' && !chars.next().is_some_and(|directive| DIRECTIVES.contains(directive)) {
            return Err(Fault::Refused(format!("the time format `{format}`")));
        }
    }
    Ok(())
}

/// Checks a format of `strptime`.
///
/// # Errors
/// It has directives that are not read here.
pub(in super::super) fn check_parsed(format: &str) -> Outcome<()> {
    check_format(format)?;
    // Python's fraction has one to six digits.
    if format.contains("%Z") || format.replace(".%f", "").contains("%f") {
        return Err(Fault::Refused(format!("the time format `{format}`")));
    }
    Ok(())
}

/// Returns a time in a format.
pub(in super::super) fn strftime(at: DateTime, format: &str) -> Outcome<String> {
    // Seconds since the epoch: not in Python's documentation, but what the C library prints.
    if format == "%s" {
        return Ok(at.micros.div_euclid(SECOND).to_string());
    }
    check_format(format)?;
    let Some(time) = naive(at) else { return Err(Fault::Exhausted) };
    let format = format.replace("%f", "%6f").replace("%z", if at.has_zone { "+0000" } else { "" });
    let format = format.replace("%Z", if at.has_zone { "UTC" } else { "" });
    Ok(time.format(&format).to_string())
}

/// Reads a time in a format of `strptime`.
fn strptime(text: &str, format: &str) -> Outcome<Option<DateTime>> {
    check_parsed(format)?;
    let chrono = format.replace(".%f", "%.f");
    if let Some((_, fraction)) = text.split_once('.').filter(|_| format.contains("%f")) {
        let digits = fraction.chars().take_while(char::is_ascii_digit).count();
        if digits == 0 || digits > 6 {
            return Ok(None);
        }
    }
    if format.contains("%z") {
        let text = text.strip_suffix('Z').map_or_else(|| text.to_owned(), |text| format!("{text}+0000"));
        let parsed = ChronoTime::parse_from_str(&text, &chrono).ok();
        return Ok(parsed.map(|time| DateTime { micros: time.timestamp_micros().into(), has_zone: true }));
    }
    if let Ok(time) = NaiveDateTime::parse_from_str(text, &chrono) {
        return Ok(Some(of_naive(time, false)));
    }
    let date = NaiveDate::parse_from_str(text, &chrono).ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    Ok(date.map(|time| of_naive(time, false)))
}

/// Reads a time as `fromisoformat` does.
fn of_iso(text: &str) -> Option<DateTime> {
    if text.len() == 10 {
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
        return Some(of_naive(date.and_hms_opt(0, 0, 0)?, false));
    }
    let (date, time) = (text.get(..10)?, text.get(11..)?);
    let (time, offset) = match time.find(['+', '-', 'Z']) {
        Some(at) => (time.get(..at)?, time.get(at..)),
        None => (time, None),
    };
    let time = time.get(..15).unwrap_or(time);
    let naive = NaiveDateTime::parse_from_str(&format!("{date}T{time}"), "%Y-%m-%dT%H:%M:%S%.f").ok()?;
    match offset {
        None => Some(of_naive(naive, false)),
        Some(offset) => {
            let offset = if offset == "Z" { "+00:00" } else { offset };
            let zoned =
                ChronoTime::parse_from_str(&format!("{date}T{time}{offset}"), "%Y-%m-%dT%H:%M:%S%.f%:z").ok()?;
            Some(DateTime { micros: zoned.timestamp_micros().into(), has_zone: true })
        }
    }
}

/// Reads a time in one of the forms that Panther and AWS write. `None` for others.
pub(in super::super) fn resolved(text: &str) -> Option<DateTime> {
    let text = text.replace('\'', "");
    let text = text.trim();
    let is_plain = text.get(10..11).is_some_and(|separator| separator == " " || separator == "T");
    if !is_plain {
        return None;
    }
    // A `Z` of AWS's times gives a time without a zone.
    let plain = text.strip_suffix('Z').unwrap_or(text);
    let mut at = of_iso(plain)?;
    if text.ends_with('Z') {
        at.has_zone = false;
    }
    Some(at)
}
