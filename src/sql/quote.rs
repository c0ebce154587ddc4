//! The only place that writes quote marks and intervals into SQL for DataFusion. [`super::dialect`] does so for other
//! engines.

use std::fmt;

use crate::text::{self, TextPart};
use crate::time::{Instant, Period, Range};

/// A column or alias name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident(pub String);

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// Returns quoted column names with commas between them.
pub(super) fn column_list(columns: &[String]) -> String {
    columns.iter().map(|name| Ident(name.clone()).to_string()).collect::<Vec<_>>().join(", ")
}

/// A string value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal<'t>(pub &'t str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        if !text::has_hidden(self.0) {
            return f.write_str(&quoted(self.0));
        }
        // The printed SQL is what runs, so hidden characters are given by their numbers rather than escaped.
        let parts = text::hidden_apart(self.0).map(|part| match part {
            TextPart::Plain(text) => quoted(text),
            TextPart::Hidden(c) => format!("chr({})", u32::from(c)),
        });
        write!(f, "concat({})", parts.collect::<Vec<_>>().join(", "))
    }
}

/// A number, given as JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number<'t>(pub &'t str);

impl fmt::Display for Number<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.parse::<f64>() {
            Ok(number) if number.is_finite() => f.write_str(self.0),
            _ => write!(f, "number({})", Literal(self.0)),
        }
    }
}

/// A point in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeLiteral(Instant);

impl TimeLiteral {
    /// Returns the instant; one beyond the 64-bit nanoseconds that the engine can read as a literal becomes the nearest
    /// that it can. The times of events, and a year before and after them, lie within.
    pub fn nearest(instant: Instant) -> TimeLiteral {
        let [first, last] = [i64::MIN / 1_000, i64::MAX / 1_000].map(Instant::from_micros);
        TimeLiteral(instant.clamp(first, last))
    }

    /// Returns the bounds of the events with a time in `range`; without bounds of its own, those of all events.
    pub fn bounds(range: Range) -> (TimeLiteral, TimeLiteral) {
        let (from, to) = range.event_times();
        (TimeLiteral(from), TimeLiteral(to))
    }
}

impl fmt::Display for TimeLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Literal(&self.0.to_string()).fmt(f)
    }
}

/// A length of time, in its largest whole unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub Period);

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A day is 24 hours: all times are in UTC.
        let units = [("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)];
        let seconds = self.0.seconds();
        let (unit, length) =
            units.into_iter().find(|(_, length)| seconds.is_multiple_of(*length)).unwrap_or(("second", 1));
        let number = seconds / length;
        write!(f, "INTERVAL '{number} {unit}{}'", if number == 1 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::EVENT_TIMES;

    #[test]
    fn instants_keep_their_side_of_all_events() {
        for instant in [Instant::MIN, Instant::EPOCH - 1, Instant::EPOCH, EVENT_TIMES.end, Instant::MAX] {
            let TimeLiteral(nearest) = TimeLiteral::nearest(instant);
            assert!(nearest.micros().checked_mul(1_000).is_some());
            for bound in [EVENT_TIMES.start, EVENT_TIMES.end] {
                assert_eq!(instant.cmp(&bound), nearest.cmp(&bound));
            }
        }
    }

    #[test]
    fn intervals_have_their_largest_whole_unit() {
        let of = |period: &str| Interval(period.parse().unwrap()).to_string();
        let printed = ["1s", "90s", "60s", "15m", "60m", "25h", "24h", "7d"].map(of);
        let units = ["1 second", "90 seconds", "1 minute", "15 minutes", "1 hour", "25 hours", "1 day", "7 days"];
        assert_eq!(printed, units.map(|unit| format!("INTERVAL '{unit}'")));
    }

    #[test]
    fn quote_marks_within_are_doubled() {
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Ident("a\"b".to_owned()).to_string(), "\"a\"\"b\"");
    }

    #[test]
    fn hidden_characters_are_given_by_their_numbers() {
        assert_eq!(Literal("it's\u{202e}\u{1b}x").to_string(), "concat('it''s', chr(8238), chr(27), 'x')");
        assert_eq!(Literal("\0").to_string(), "concat(chr(0))");
        assert_eq!(Literal("名前").to_string(), "'名前'");
    }
}
