//! The times that the records of a file may have, from the bounds of its columns and from its partition.

use chrono::{Datelike as _, Months, NaiveDate};
use iceberg::spec::{DataFile, Datum, Literal, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Transform};

use crate::layout;
use crate::time::{DAY, Instant};

/// The names, without case and underscores, of all columns from which the layouts that come with this program compute the
/// time of an event.
const TIME_COLUMNS: [&str; 4] = ["eventtime", "peventtime", "time", "timedt"];

const HOUR: i64 = DAY / 24;

/// The columns of a table that may hold the time of an event.
#[derive(Debug)]
pub(super) struct TimeColumns(Vec<TimeColumn>);

#[derive(Debug)]
struct TimeColumn {
    id: i32,
    /// Whether whole numbers in it are milliseconds, as in the column `time` of OCSF.
    has_millis: bool,
}

/// The first and the last time that records may have.
pub(super) type TimeSpan = (Instant, Instant);

impl TimeColumns {
    pub(super) fn of(schema: &Schema) -> TimeColumns {
        let named = schema.as_struct().fields().iter().map(|field| (field.id, layout::plain(&field.name)));
        let named = named.filter(|(_, name)| TIME_COLUMNS.contains(&name.as_str()));
        TimeColumns(named.map(|(id, name)| TimeColumn { id, has_millis: name == "time" }).collect())
    }

    /// Returns the times that the records of a data file may have. `None` if its metadata do not say.
    pub(super) fn of_file(&self, file: &DataFile, spec: &PartitionSpec) -> Option<TimeSpan> {
        let mut times: Option<TimeSpan> = None;
        for column in &self.0 {
            // A record takes the first of the columns that is not null, so that any of them may give its time.
            let (first, last) = column.bounds(file).or_else(|| column.partition_span(file, spec))?;
            times = Some(times.map_or((first, last), |(least, most)| (least.min(first), most.max(last))));
        }
        times
    }
}

impl TimeColumn {
    fn bounds(&self, file: &DataFile) -> Option<TimeSpan> {
        let (lower, upper) = (file.lower_bounds().get(&self.id)?, file.upper_bounds().get(&self.id)?);
        Some((self.times_of(lower)?.0, self.times_of(upper)?.1))
    }

    /// Returns the first and the last time that a value with this bound may be.
    fn times_of(&self, bound: &Datum) -> Option<TimeSpan> {
        let exactly = |micros: i64| (Instant::from_micros(micros), Instant::from_micros(micros));
        match (bound.data_type(), bound.literal()) {
            (PrimitiveType::Timestamp | PrimitiveType::Timestamptz, PrimitiveLiteral::Long(micros)) => {
                Some(exactly(*micros))
            }
            (PrimitiveType::TimestampNs | PrimitiveType::TimestamptzNs, PrimitiveLiteral::Long(nanos)) => {
                let micros = nanos.div_euclid(1_000);
                Some((Instant::from_micros(micros), Instant::from_micros(micros.checked_add(1)?)))
            }
            (PrimitiveType::Long, PrimitiveLiteral::Long(millis)) if self.has_millis => {
                millis.checked_mul(1_000).map(exactly)
            }
            // Bounds of text may be cut, and its times may be in another zone.
            (PrimitiveType::String, PrimitiveLiteral::String(text)) => {
                let day = text.get(..10).filter(|day| day.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))?;
                let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").ok().map(start_of)?;
                Some((day - DAY, day + DAY + DAY))
            }
            _ => None,
        }
    }

    fn partition_span(&self, file: &DataFile, spec: &PartitionSpec) -> Option<TimeSpan> {
        let values = file.partition().iter();
        let (field, value) = spec.fields().iter().zip(values).find(|(field, _)| field.source_id == self.id)?;
        match value? {
            Literal::Primitive(PrimitiveLiteral::Int(value)) => span_of_transform(field.transform, i64::from(*value)),
            _ => None,
        }
    }
}

fn start_of(date: NaiveDate) -> Instant {
    Instant::from_micros(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros())
}

/// Returns the times of the records in a partition by year, month, day or hour. The value counts these since 1970.
fn span_of_transform(transform: Transform, value: i64) -> Option<TimeSpan> {
    let since_epoch = |unit: i64| {
        let first = value.checked_mul(unit)?;
        Some((Instant::from_micros(first), Instant::from_micros(first.checked_add(unit)?)))
    };
    let since_epoch_in_months = |months: i64| {
        let epoch = NaiveDate::from_ymd_opt(1970, 1, 1)?;
        let number = value.checked_mul(months)?;
        let distance = Months::new(u32::try_from(number.unsigned_abs()).ok()?);
        let first = if number < 0 { epoch.checked_sub_months(distance) } else { epoch.checked_add_months(distance) }?;
        let next = first.checked_add_months(Months::new(u32::try_from(months).ok()?))?;
        (first.year() > 0).then(|| (start_of(first), start_of(next)))
    };
    match transform {
        Transform::Hour => since_epoch(HOUR),
        Transform::Day => since_epoch(DAY),
        Transform::Month => since_epoch_in_months(1),
        Transform::Year => since_epoch_in_months(12),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_columns_are_those_of_all_layouts() {
        for layout in layout::shipped().unwrap() {
            for sql in layout.sql("eventTime").unwrap_or_default() {
                let names = sql.split(|c: char| !c.is_alphanumeric() && c != '_').map(layout::plain);
                let names = names.filter(|name| !name.is_empty() && name != "instantofmillis");
                for name in names {
                    assert!(TIME_COLUMNS.contains(&name.as_str()), "{}: {sql}", layout.name);
                }
            }
        }
    }

    #[test]
    fn bounds_and_partitions_give_times() {
        let micros = |(first, last): TimeSpan| (first.micros(), last.micros());
        let column = TimeColumn { id: 1, has_millis: true };
        let times = |bound: Datum| column.times_of(&bound).map(micros);
        assert_eq!(times(Datum::timestamptz_micros(5)), Some((5, 5)));
        assert_eq!(times(Datum::timestamp_nanos(5_999)), Some((5, 6)));
        assert_eq!(times(Datum::long(5)), Some((5_000, 5_000)));
        assert_eq!(times(Datum::long(i64::MAX)), None);
        assert_eq!(TimeColumn { id: 1, has_millis: false }.times_of(&Datum::long(5)), None);
        assert_eq!(times(Datum::date(5)), None);
        assert_eq!(times(Datum::string("1970-01-02T00:00")), Some((0, 3 * DAY)));
        for text in ["9", " 1970-01-02T00:00", "+970-01-02T00:00"] {
            assert_eq!(times(Datum::string(text)), None, "{text}");
        }
        for (transform, value, expected) in [
            (Transform::Day, 1, Some((DAY, 2 * DAY))),
            (Transform::Hour, 25, Some((DAY + HOUR, DAY + 2 * HOUR))),
            (Transform::Month, 1, Some((31 * DAY, 59 * DAY))),
            (Transform::Month, -1, Some((-31 * DAY, 0))),
            (Transform::Year, 1, Some((365 * DAY, 730 * DAY))),
            (Transform::Year, i64::MAX, None),
            (Transform::Day, i64::MAX, None),
            (Transform::Bucket(16), 1, None),
        ] {
            assert_eq!(span_of_transform(transform, value).map(micros), expected, "{transform:?} {value}");
        }
    }
}
