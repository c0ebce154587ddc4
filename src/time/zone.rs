//! Time zones of the IANA database, as the program was built with it.

use std::str::FromStr;

use chrono::{DateTime, TimeZone as _};
use chrono_tz::{TZ_VARIANTS, Tz};

use super::Instant;

/// A time zone of the IANA database, such as `Europe/Berlin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeZone(Tz);

/// A text is not the name of a time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the name of a time zone, such as `Europe/Berlin`")]
pub struct TimeZoneError;

impl TimeZone {
    /// UTC.
    pub const UTC: TimeZone = TimeZone(Tz::UTC);

    /// Returns its name.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Returns the names of all time zones.
    pub fn names() -> impl Iterator<Item = &'static str> {
        TZ_VARIANTS.iter().map(|zone| zone.name())
    }

    /// Returns the local date and time at `instant`. `None` beyond the calendar, where no event lies.
    pub fn local(self, instant: Instant) -> Option<DateTime<Tz>> {
        self.0.timestamp_micros(instant.micros()).single()
    }
}

impl FromStr for TimeZone {
    type Err = TimeZoneError;

    fn from_str(name: &str) -> Result<TimeZone, TimeZoneError> {
        name.parse().map(TimeZone).map_err(|_| TimeZoneError)
    }
}
