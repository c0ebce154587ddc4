//! The only place that writes a quote mark or an interval into the engine's own SQL; [`super::dialect`] does for that of
//! others.

use std::fmt;

use crate::time;

/// A column or alias name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ident(pub String);

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// A string value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Literal<'t>(pub &'t str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}'", self.0.replace('\'', "''"))
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

/// A point in time, in microseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant(pub i64);

impl Instant {
    /// The instant, unless it lies beyond what the engine can read as a literal, which are 64-bit
    /// nanoseconds: a bound of a range in the year 1600 or 9999 bounds nothing.
    pub fn bound(micros: i64) -> Option<Instant> {
        micros.checked_mul(1_000).map(|_| Instant(micros))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Literal(&time::rfc3339(self.0)).fmt(f)
    }
}

/// A length of time, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval(pub i64);

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "INTERVAL '{} microseconds'", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quote_marks_within_are_doubled() {
        assert_eq!(Literal("it's").to_string(), "'it''s'");
        assert_eq!(Ident("a\"b".to_owned()).to_string(), "\"a\"\"b\"");
    }
}
