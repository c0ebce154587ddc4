//! Event times in columns of any type. A time that no event can have becomes null.

use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType,
};
use chrono::{Datelike as _, Timelike as _};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Signature, SimpleScalarUDF, TypeSignature, Volatility};
use datafusion::prelude::{Expr, SessionContext};
use datafusion::scalar::ScalarValue;

use super::functions::not_text;
use crate::event;
use crate::rule::TimePart;
use crate::time::{self, DAY, Instant, Range, SECOND, TimeZone};

/// `instant(value)`: the event time in a text, a timestamp or a date; null if it is not one of [`time::EVENT_TIMES`].
const INSTANT: &str = "instant";

/// Registers the function with a session.
pub(super) fn register(context: &SessionContext) {
    let call = |arguments: &[ColumnarValue]| {
        Ok(ColumnarValue::Array(event_times(&ColumnarValue::values_to_arrays(arguments)?[0])?))
    };
    let takes = Signature::any(1, Volatility::Immutable);
    let returns = event::time_type();
    let function = SimpleScalarUDF::new_with_signature(INSTANT, takes, returns, Arc::new(call));
    context.register_udf(ScalarUDF::new_from_impl(function));
    let part = |arguments: &[ColumnarValue]| {
        let Some((time, texts)) = arguments.split_first() else {
            return exec_err!("{TIME_PART} takes a time");
        };
        let texts: Vec<&str> = texts.iter().filter_map(constant).collect();
        let (name, zone) = match texts.as_slice() {
            [name] => (*name, TimeZone::UTC.name()),
            [name, zone] => (*name, *zone),
            _ => return exec_err!("{TIME_PART} takes the name of a part, and that of a time zone"),
        };
        Ok(ColumnarValue::Array(time_part(&time.to_array(1)?, name, zone)?))
    };
    let takes = |texts: usize| TypeSignature::Exact([vec![event::time_type()], vec![DataType::Utf8; texts]].concat());
    let takes = Signature::one_of(vec![takes(1), takes(2)], Volatility::Immutable);
    let function = SimpleScalarUDF::new_with_signature(TIME_PART, takes, DataType::Utf8, Arc::new(part));
    context.register_udf(ScalarUDF::new_from_impl(function));
}

/// `time_part(time, name, zone)`: a [`TimePart`] of a time in a time zone, as text. The zone is UTC if it is left out.
const TIME_PART: &str = "time_part";

/// Returns the text of a constant.
fn constant(value: &ColumnarValue) -> Option<&str> {
    match value {
        ColumnarValue::Scalar(ScalarValue::Utf8(Some(text))) => Some(text),
        _ => None,
    }
}

fn time_part(times: &ArrayRef, name: &str, zone: &str) -> Result<ArrayRef> {
    let Ok(zone) = zone.parse::<TimeZone>() else {
        return exec_err!("there is no time zone `{zone}`");
    };
    let Some(part) = TimePart::ALL.into_iter().find(|part| part.name() == name) else {
        return exec_err!("there is no part `{name}` of a time");
    };
    let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
        return exec_err!("a time is expected, not {}", times.data_type());
    };
    let number = |micros| {
        let time = zone.local(Instant::from_micros(micros))?;
        let number = match part {
            TimePart::Minute => time.minute().to_string(),
            TimePart::Hour => time.hour().to_string(),
            TimePart::Weekday => time.weekday().number_from_monday().to_string(),
            TimePart::Day => time.day().to_string(),
            TimePart::Week => time.iso_week().week().to_string(),
            TimePart::Month => time.month().to_string(),
            TimePart::Year => time.year().to_string(),
        };
        Some(number)
    };
    Ok(Arc::new(times.iter().map(|time| time.and_then(number)).collect::<StringArray>()))
}

/// Whether [`of`] reads values of this type.
pub(super) fn are_read_from(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 | DataType::Utf8)
}

/// Returns the expression of the event time in `value`.
pub(super) fn of(context: &SessionContext, value: Expr) -> Result<Expr> {
    use datafusion::execution::FunctionRegistry as _;
    Ok(context.udf(INSTANT)?.call(vec![value]))
}

/// Returns the event times in `values`.
fn event_times(values: &ArrayRef) -> Result<ArrayRef> {
    if let DataType::Timestamp(TimeUnit::Microsecond, _) = values.data_type()
        && let Some(times) = values.as_primitive_opt::<TimestampMicrosecondType>()
        && times.iter().flatten().all(|micros| time::event_time(micros).is_some())
    {
        return Ok(Arc::new(times.clone().with_timezone("UTC")));
    }
    let times: TimestampMicrosecondArray = match values.data_type() {
        DataType::Utf8 => {
            let texts = values.as_string_opt::<i32>().ok_or_else(|| not_text(values))?;
            texts.iter().map(|text| text.and_then(time::parse_event_time).map(Instant::micros)).collect()
        }
        DataType::Timestamp(TimeUnit::Second, _) => {
            converted::<TimestampSecondType>(values, |seconds| seconds.checked_mul(SECOND))
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            converted::<TimestampMillisecondType>(values, |millis| millis.checked_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => converted::<TimestampMicrosecondType>(values, Some),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            converted::<TimestampNanosecondType>(values, |nanos| Some(nanos.div_euclid(1_000)))
        }
        DataType::Date32 => converted::<Date32Type>(values, |days| i64::from(days).checked_mul(DAY)),
        DataType::Date64 => converted::<Date64Type>(values, |millis| millis.checked_mul(1_000)),
        other => return exec_err!("a time is expected, not {other}"),
    };
    Ok(Arc::new(times.with_timezone("UTC")))
}

/// Values whose microseconds `micros` tells; `None` where these are too many.
fn converted<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    micros: impl Fn(T::Native) -> Option<i64>,
) -> TimestampMicrosecondArray {
    let values = values.as_primitive::<T>();
    values.iter().map(|value| value.and_then(&micros).and_then(time::event_time).map(Instant::micros)).collect()
}

/// A condition that holds for all values of the column `value`, of this type, whose time lies in `range`, and by which
/// parts of files may be left unread; `None` where there is none. [`of`] cannot be pushed into the files.
pub(super) fn may_lie_in(range: Range, value: &Expr, data_type: &DataType) -> Option<Expr> {
    let DataType::Timestamp(unit, zone) = data_type else {
        return None;
    };
    if range == Range::default() {
        return None;
    }
    let (from, to) = range.event_times();
    let bound = |bound: Instant| match unit {
        TimeUnit::Second => ScalarValue::TimestampSecond(Some(bound.seconds()), zone.clone()),
        TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(bound.millis()), zone.clone()),
        TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(bound.micros()), zone.clone()),
        TimeUnit::Nanosecond => {
            ScalarValue::TimestampNanosecond(Some(bound.micros().saturating_mul(1_000)), zone.clone())
        }
    };
    let literal = |instant| datafusion::prelude::lit(bound(instant));
    // A bound within a second is rounded down: all that lies before it is at or before that.
    Some(value.clone().gt_eq(literal(from)).and(value.clone().lt_eq(literal(to))))
}

#[cfg(test)]
mod tests {
    use arrow::array::{
        Date32Array, Date64Array, TimestampMillisecondArray, TimestampNanosecondArray, TimestampSecondArray,
    };
    use proptest::prelude::*;

    use super::*;

    fn only(values: &ArrayRef) -> Option<i64> {
        let times = event_times(values).unwrap();
        assert_eq!(times.data_type(), &event::time_type());
        times.as_primitive::<TimestampMicrosecondType>().iter().next().unwrap()
    }

    proptest! {
        #[test]
        fn every_type_says_the_same_time_or_none(value in any::<i64>(), seconds in -1_000_000_000_000_i64..1_000_000_000_000) {
            for value in [value, seconds, value % (EDGE + 2), EDGE - value % 2, value % 3] {
                let micros = i128::from(value) * 1_000_000;
                let expected = |micros: i128| i64::try_from(micros).ok().and_then(time::event_time).map(Instant::micros);
                prop_assert_eq!(only(&(Arc::new(TimestampSecondArray::from(vec![value])) as ArrayRef)), expected(micros));
                prop_assert_eq!(only(&(Arc::new(TimestampMillisecondArray::from(vec![value])) as ArrayRef)), expected(micros / 1_000));
                prop_assert_eq!(only(&(Arc::new(Date64Array::from(vec![value])) as ArrayRef)), expected(micros / 1_000));
                prop_assert_eq!(only(&(Arc::new(TimestampMicrosecondArray::from(vec![value])) as ArrayRef)), expected(i128::from(value)));
                prop_assert_eq!(
                    only(&(Arc::new(TimestampNanosecondArray::from(vec![value])) as ArrayRef)),
                    expected(i128::from(value).div_euclid(1_000))
                );
                let days = i32::try_from(value % (1 << 31)).unwrap();
                prop_assert_eq!(only(&(Arc::new(Date32Array::from(vec![days])) as ArrayRef)), expected(i128::from(days) * i128::from(DAY)));
                let text = Instant::from_micros(value).to_string();
                // A time beyond the calendar is written as the nearest one, which no event can have either.
                prop_assert_eq!(only(&(Arc::new(StringArray::from(vec![text])) as ArrayRef)), expected(i128::from(value)));
            }
        }
    }

    /// The first second after all events.
    const EDGE: i64 = time::EVENT_TIMES.end.micros() / SECOND;

    #[test]
    fn parts_of_a_time_are_in_a_time_zone() {
        // A Sunday.
        let micros = "2026-11-29T23:05:59Z".parse::<Instant>().unwrap().micros();
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![Some(micros), None]).with_timezone("UTC"));
        for (part, expected) in TimePart::ALL.into_iter().zip(["5", "23", "7", "29", "48", "11", "2026"]) {
            let read = time_part(&times, part.name(), "UTC").unwrap();
            let read: Vec<_> = read.as_string::<i32>().iter().collect();
            assert_eq!(read, [Some(expected), None], "{part:?}");
        }
        for (part, expected) in TimePart::ALL.into_iter().zip(["50", "12", "1", "30", "49", "11", "2026"]) {
            // 13:45 ahead of UTC in summer.
            let read = time_part(&times, part.name(), "Pacific/Chatham").unwrap();
            assert_eq!(read.as_string::<i32>().value(0), expected, "{part:?}");
        }
        assert!(time_part(&times, "era", "UTC").is_err());
        assert!(time_part(&times, "hour", "Mars/Base").is_err());
    }

    #[test]
    fn other_types_say_no_time() {
        let numbers: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1]));
        assert!(event_times(&numbers).is_err() && !are_read_from(numbers.data_type()));
    }
}
