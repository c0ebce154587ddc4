//! The partitions of a table's files. They give columns, and the days of a file's events.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::scalar::ScalarValue;

use crate::layout;
use crate::time::{DAY, Instant, Range};
use crate::trail::{FilePartitions, PartitionValue};

/// The partition columns of a file, and the days that they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Partitions {
    /// The values of partition columns: in the table's metadata, or in folders named `key=value`. `None` for null.
    pub(super) values: BTreeMap<String, Option<PartitionValue>>,
    days: Days,
}

/// The days that a file's events may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Days {
    /// Any day.
    #[default]
    Any,
    /// The days between these instants.
    Of(Instant, Instant),
    /// Days up to the one that ends at this instant. It may be the day when the file was written.
    Until(Instant),
}

/// Names of folders whose values are the days of events.
const DAYS_OF_EVENTS: [&str; 5] = ["tp_date", "eventDay", "eventday", "event_date", "event_day"];

/// Names of folders whose values may also be the day of a copy.
const DAYS_OF_FILES: [&str; 4] = ["dt", "date", "day", "ingest_date"];

impl Partitions {
    /// Returns the partitions of a file.
    pub(super) fn of(partitions: FilePartitions) -> Partitions {
        match partitions {
            FilePartitions::Folders(path) => Partitions::of_path(&path),
            FilePartitions::Values(values) => {
                let value = |(name, value): (String, Option<PartitionValue>)| {
                    let value = value.map(|value| with_zeros(&name, value));
                    (name, value)
                };
                let values: BTreeMap<_, _> = values.into_iter().map(value).collect();
                let days = Days::of(&[], &values);
                Partitions { values, days }
            }
        }
    }

    /// Returns the partitions of a file with this path below the table's folder.
    fn of_path(path: &str) -> Partitions {
        let folders: Vec<&str> =
            path.rsplit_once('/').map_or_else(Vec::new, |(folders, _)| folders.split('/').collect());
        let pair = |folder: &&str| {
            let (key, value) = folder.split_once('=')?;
            Some((key.to_owned(), Some(PartitionValue::Text(value.to_owned()))))
        };
        let values: BTreeMap<_, _> = folders.iter().filter_map(pair).collect();
        let days = Days::of(&folders, &values);
        Partitions { values, days }
    }

    /// Whether the file may hold events with a time in `range`.
    pub(super) fn may_hold(&self, range: Range) -> bool {
        // A folder may be named by the day of delivery, or in another zone.
        match self.days {
            Days::Any => true,
            Days::Of(begin, end) => range.overlaps(begin - DAY, end + DAY),
            Days::Until(end) => range.overlaps(Instant::MIN, end + DAY),
        }
    }
}

impl Days {
    fn of(folders: &[&str], values: &BTreeMap<String, Option<PartitionValue>>) -> Days {
        let value = |key: &str| values.get(key)?.as_ref().map(PartitionValue::to_string);
        let named = |keys: &[&str]| keys.iter().find_map(|key| day(&value(key)?));
        let number = |key: &str| value(key)?.parse::<u32>().ok();
        if let Some((begin, end)) = named(&DAYS_OF_EVENTS) {
            return Days::Of(begin, end);
        }
        if let (Some(year), Some(month)) = (number("year"), number("month")) {
            let span = match number("day") {
                Some(day) => span_of_day(year, month, day),
                None => span_of_month(year, month),
            };
            if let Some((begin, end)) = span {
                return Days::Of(begin, end);
            }
        }
        let plain = || {
            folders.windows(3).find_map(|parts| match parts {
                [year, month, day] if [year.len(), month.len(), day.len()] == [4, 2, 2] => {
                    span_of_day(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?)
                }
                _ => None,
            })
        };
        named(&DAYS_OF_FILES).or_else(plain).map_or(Days::Any, |(_, end)| Days::Until(end))
    }
}

/// Returns a value as one of the type of its column; null, if it has another type.
pub(super) fn scalar(value: Option<&PartitionValue>, data_type: &DataType) -> ScalarValue {
    match (data_type, value) {
        (DataType::Boolean, Some(PartitionValue::Flag(flag))) => ScalarValue::Boolean(Some(*flag)),
        (DataType::Date32, Some(PartitionValue::Date(days))) => ScalarValue::Date32(Some(*days)),
        (DataType::Timestamp(TimeUnit::Microsecond, zone), Some(PartitionValue::Time(micros))) => {
            ScalarValue::TimestampMicrosecond(Some(*micros), zone.clone())
        }
        (DataType::Boolean, _) => ScalarValue::Boolean(None),
        (DataType::Date32, _) => ScalarValue::Date32(None),
        (DataType::Timestamp(TimeUnit::Microsecond, zone), _) => ScalarValue::TimestampMicrosecond(None, zone.clone()),
        (_, value) => ScalarValue::Utf8(value.map(PartitionValue::to_string)),
    }
}

/// Returns the value of a partition column. An account that was written as a number gets its leading zeros.
fn with_zeros(name: &str, value: PartitionValue) -> PartitionValue {
    match value {
        PartitionValue::Text(text)
            if text.bytes().all(|byte| byte.is_ascii_digit()) && layout::plain(name).ends_with("accountid") =>
        {
            PartitionValue::Text(format!("{text:0>12}"))
        }
        other => other,
    }
}

/// Returns the day in a text such as `2026-09-01` or `20260901`, with or without an hour after it.
fn day(text: &str) -> Option<(Instant, Instant)> {
    let digits: String = text.chars().filter(char::is_ascii_digit).take(8).collect();
    let part = |range: std::ops::Range<usize>| digits.get(range)?.parse().ok();
    (digits.len() == 8).then_some(())?;
    span_of_day(part(0..4)?, part(4..6)?, part(6..8)?)
}

fn midnight(year: u32, month: u32, day: u32) -> Option<Instant> {
    format!("{year:04}-{month:02}-{day:02}").parse().ok()
}

fn span_of_day(year: u32, month: u32, day: u32) -> Option<(Instant, Instant)> {
    midnight(year, month, day).map(|begin| (begin, begin + DAY))
}

fn span_of_month(year: u32, month: u32) -> Option<(Instant, Instant)> {
    let next = if month == 12 { midnight(year + 1, 1, 1) } else { midnight(year, month + 1, 1) };
    midnight(year, month, 1).zip(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_tell_days() {
        let span = |first: (u32, u32, u32), last: (u32, u32, u32)| {
            let (begin, _) = span_of_day(first.0, first.1, first.2).unwrap();
            let (_, end) = span_of_day(last.0, last.1, last.2).unwrap();
            Days::Of(begin, end)
        };
        let day = |day| span(day, day);
        let until = |year, month, day| Days::Until(span_of_day(year, month, day).unwrap().1);
        for (path, days) in [
            ("tp_date=2026-09-02/a.parquet", day((2026, 9, 2))),
            ("region=eu-west-1/accountId=1/eventDay=20260902/a.gz.parquet", day((2026, 9, 2))),
            ("eventday=2026090213/a.parquet", day((2026, 9, 2))),
            ("event_date=2026-09-02/a.parquet", day((2026, 9, 2))),
            ("year=2026/month=9/day=2/a.parquet", day((2026, 9, 2))),
            ("year=2026/month=02/a.parquet", span((2026, 2, 1), (2026, 2, 28))),
            ("year=2026/month=12/a.parquet", span((2026, 12, 1), (2026, 12, 31))),
            ("dt=2026-09-02/a.parquet", until(2026, 9, 2)),
            ("date=20260902/a.parquet", until(2026, 9, 2)),
            ("CloudTrail/eu-west-1/2026/09/02/a.parquet", until(2026, 9, 2)),
            ("day=2/a.parquet", Days::Any),
            ("eventDay=20261402/a.parquet", Days::Any),
            ("year=2026/a.parquet", Days::Any),
            ("2026/9/2/a.parquet", Days::Any),
            ("a-2026-09-02.parquet", Days::Any),
            ("a.parquet", Days::Any),
        ] {
            assert_eq!(Partitions::of_path(path).days, days, "{path}");
        }
        assert_eq!(
            Partitions::of_path("a=1/b=x=y/c/d=2.parquet").values.len(),
            2,
            "the name of a file is not a partition"
        );
    }

    #[test]
    fn a_file_is_left_unread_only_where_its_folders_tell_that_it_can_be() {
        let at = |text: &str| text.parse::<Instant>().ok();
        let range = |from, to| Range { from: at(from), to: at(to) };
        let holds = |path: &str, range| Partitions::of_path(path).may_hold(range);
        for (from, to, of_events, of_files) in [
            ("2026-09-02", "2026-09-03", true, true),
            ("2026-09-03T12:00:00Z", "2026-09-10", true, true),
            ("2026-09-05", "2026-09-10", false, false),
            ("2026-08-01", "2026-08-20", false, true),
            ("2300-01-01", "2300-01-02", false, false),
        ] {
            assert_eq!(holds("tp_date=2026-09-02/a.parquet", range(from, to)), of_events, "{from}");
            assert_eq!(holds("dt=2026-09-02/a.parquet", range(from, to)), of_files, "{from}");
            assert!(holds("a.parquet", range(from, to)));
        }
    }

    #[test]
    fn values_of_the_metadata_tell_columns_and_days() {
        let values = [("event_day", Some("2026-09-02")), ("accountId", Some("11112222")), ("region", None)];
        let text = |text: &str| PartitionValue::Text(text.to_owned());
        let values = values.map(|(name, value)| (name.to_owned(), value.map(text)));
        let partitions = Partitions::of(FilePartitions::Values(values.into_iter().collect()));
        assert_eq!(partitions.days, Partitions::of_path("event_day=2026-09-02/a.parquet").days);
        assert_eq!(partitions.values["accountId"], Some(text("000011112222")));
        assert_eq!(partitions.values["region"], None);
    }

    #[test]
    fn typed_values_tell_days() {
        let days = |name: &str, value| {
            Partitions::of(FilePartitions::Values([(name.to_owned(), Some(value))].into_iter().collect())).days
        };
        let day = Partitions::of_path("event_day=1970-01-02/a.parquet").days;
        assert_ne!(day, Days::Any);
        assert_eq!(days("event_day", PartitionValue::Date(1)), day);
        assert_eq!(days("event_day", PartitionValue::Text("19700102".to_owned())), day);
        assert_eq!(days("event_day", PartitionValue::Time(DAY + 1)), day);
        assert_eq!(days("event_day", PartitionValue::Date(i32::MAX)), Days::Any);
    }
}
