//! Parts of the time of an event in a dialect.

use super::Dialect;
use super::export::DialectColumns;
use super::predicate::Refused;
use crate::rule::TimePart;
use crate::time::TimeZone;

impl DialectColumns {
    /// Returns a part of the time of an event as text.
    pub(super) fn time_part(&self, part: TimePart, zone: TimeZone) -> Result<String, Refused> {
        let (dialect, time) = (self.dialect, self.dialect.timestamp(&self.micros()));
        let name = dialect.quoted(zone.name());
        let is_utc = zone == TimeZone::UTC;
        let number = match dialect {
            Dialect::Duckdb => {
                let function = match part {
                    TimePart::Weekday => "isodow",
                    _ => part.name(),
                };
                // The timestamp has no zone. The inner call makes it one of UTC, the outer one shows it in the zone.
                let time = if is_utc { time } else { format!("timezone({name}, timezone('UTC', {time}))") };
                format!("{function}({time})")
            }
            Dialect::Athena => {
                let function = match part {
                    TimePart::Weekday => "day_of_week",
                    _ => part.name(),
                };
                let time = if is_utc { time } else { format!("at_timezone({time}, {name})") };
                format!("{function}({time})")
            }
            Dialect::Clickhouse => match part {
                TimePart::Minute => format!("toMinute({time}, {name})"),
                TimePart::Hour => format!("toHour({time}, {name})"),
                TimePart::Weekday => format!("toDayOfWeek({time}, 0, {name})"),
                TimePart::Day => format!("toDayOfMonth({time}, {name})"),
                TimePart::Week => format!("toISOWeek({time}, {name})"),
                TimePart::Month => format!("toMonth({time}, {name})"),
                TimePart::Year => format!("toYear({time}, {name})"),
            },
            Dialect::Spark => {
                return Err(format!(
                    "the {} of `eventTime`, which Spark takes in the zone of the session",
                    part.name()
                ));
            }
        };
        Ok(dialect.as_text(&number))
    }
}
