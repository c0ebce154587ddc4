//! Window functions that SQL cannot express, or that DataFusion would not stream. They keep state from one row of a
//! partition to the next, and see each row once and in order.
//!
//! And `tumbling_window`, a scalar function: `date_bin` takes a constant period only.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _, TimestampMicrosecondArray};
use arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimestampMicrosecondType,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{
    ColumnarValue, LimitEffect, PartitionEvaluator, ScalarUDF, Signature, Volatility, WindowUDF, WindowUDFImpl,
    create_udf,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

use crate::event;
use crate::raw::json;

mod event_kinds;
mod statistic;

pub(super) use event_kinds::EventKindsColumn;
pub use event_kinds::event_kinds_type;

/// The version of how this program interprets rules, part of the version of every rule.
///
/// Raise it with a change after which some rule has other findings in the same data, or findings with other contents:
/// a change of a function here, of the SQL templates, of the actor, or of how a condition reads a record. Every nightly
/// run then hunts the whole lake again. Do not raise it if no finding changes. `tests/golden/semantics.txt` holds hashes
/// of those sources: a test fails after each change of them, until somebody has decided.
pub const SEMANTICS_VERSION: u32 = 2;

pub(super) fn register(context: &SessionContext) {
    let (time, period) = (event::time_type(), period_type());
    let functions = [
        StatefulWindowFunction::new("dedup_window", vec![time.clone(), period.clone()], time.clone(), || {
            Box::new(DedupWindow { window_start: None })
        }),
        StatefulWindowFunction::new("matches_within", vec![time.clone(), period.clone()], DataType::Int64, || {
            Box::new(MatchesWithin { recent: VecDeque::new() })
        }),
        StatefulWindowFunction::new(
            "distinct_within",
            vec![DataType::Utf8, time.clone(), period.clone()],
            DataType::Int64,
            || Box::new(DistinctWithin { recent: VecDeque::new(), counts: HashMap::new() }),
        ),
        StatefulWindowFunction::new(
            "sum_within",
            vec![DataType::Utf8, time.clone(), period.clone()],
            DataType::Int64,
            || Box::<SumWithin>::default(),
        ),
        StatefulWindowFunction::new(
            "most_within",
            vec![DataType::Int64, time.clone(), period],
            DataType::Int64,
            || Box::new(MostWithin { recent: VecDeque::new() }),
        ),
        StatefulWindowFunction::new("latest", vec![time.clone()], time, || Box::new(LatestTime { time: None })),
    ];
    for function in functions.into_iter().chain(event_kinds::functions()).chain([statistic::function()]) {
        context.register_udwf(WindowUDF::from(function));
    }
    context.register_udf(tumbling_window());
}

/// `tumbling_window(time, period)`: the start of the window that holds the time, of windows that follow one another from
/// the epoch.
fn tumbling_window() -> ScalarUDF {
    let call = |arguments: &[ColumnarValue]| {
        let columns = ColumnarValue::values_to_arrays(arguments)?;
        let [times, periods] = columns.as_slice() else {
            return exec_err!("tumbling_window takes two arguments");
        };
        let window_start = |row| {
            let Some(time) = time_in(times, row)? else {
                return Ok(None);
            };
            let into_window = time.checked_rem_euclid(period_in(periods, row)?);
            into_window
                .map_or_else(|| exec_err!("the period must not be zero"), |into| Ok(Some(time.saturating_sub(into))))
        };
        let starts = (0..times.len()).map(window_start).collect::<Result<TimestampMicrosecondArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(starts.with_timezone("UTC"))))
    };
    create_udf(
        "tumbling_window",
        vec![event::time_type(), period_type()],
        event::time_type(),
        Volatility::Immutable,
        Arc::new(call),
    )
}

fn period_type() -> DataType {
    DataType::Interval(IntervalUnit::MonthDayNano)
}

/// Returns the period in an argument, in microseconds.
fn period_in(periods: &ArrayRef, row: usize) -> Result<i64> {
    match periods.as_primitive_opt::<IntervalMonthDayNanoType>().filter(|periods| periods.is_valid(row)) {
        Some(periods) if periods.value(row).months == 0 => {
            let length = periods.value(row);
            Ok(i64::from(length.days) * crate::time::DAY + length.nanoseconds / 1_000)
        }
        _ => exec_err!("the period must be an interval of days or shorter units"),
    }
}

/// Returns the time in an argument, in microseconds since the epoch.
fn time_in(times: &ArrayRef, row: usize) -> Result<Option<i64>> {
    let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
        return exec_err!("expected a timestamp in microseconds, not {}", times.data_type());
    };
    Ok(times.is_valid(row).then(|| times.value(row)))
}

fn known_time_in(times: &ArrayRef, row: usize) -> Result<i64> {
    time_in(times, row)?.map_or_else(|| exec_err!("the time must not be null"), Ok)
}

/// Returns the text in an argument.
fn text_in(texts: &ArrayRef, row: usize) -> Result<Option<&str>> {
    let Some(known) = texts.as_string_opt::<i32>() else {
        return exec_err!("expected text, not {}", texts.data_type());
    };
    Ok(known.is_valid(row).then(|| known.value(row)))
}

fn scalar_time(time: Option<i64>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(time, Some("UTC".into()))
}

fn scalar_count(count: usize) -> ScalarValue {
    ScalarValue::Int64(i64::try_from(count).ok())
}

/// The state of a window function: its memory of the rows of a partition so far.
trait WindowState: fmt::Debug + Send {
    /// Returns the function's value at the next row.
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue>;
}

type NewState = fn() -> Box<dyn WindowState>;

/// A window function that computes each value from the row and a state.
#[derive(Debug)]
struct StatefulWindowFunction {
    name: &'static str,
    signature: Signature,
    returns: DataType,
    new_state: NewState,
}

impl StatefulWindowFunction {
    fn new(name: &'static str, takes: Vec<DataType>, returns: DataType, new_state: NewState) -> StatefulWindowFunction {
        StatefulWindowFunction { name, signature: Signature::exact(takes, Volatility::Immutable), returns, new_state }
    }
}

impl PartialEq for StatefulWindowFunction {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for StatefulWindowFunction {}

impl Hash for StatefulWindowFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl WindowUDFImpl for StatefulWindowFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, arguments: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), self.returns.clone(), true)))
    }

    fn partition_evaluator(&self, _arguments: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(StatefulEvaluator { state: (self.new_state)() }))
    }

    fn limit_effect(&self, _arguments: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

#[derive(Debug)]
struct StatefulEvaluator {
    state: Box<dyn WindowState>,
}

impl PartitionEvaluator for StatefulEvaluator {
    fn evaluate(&mut self, arguments: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        self.state.next(arguments, range.start)
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn is_causal(&self) -> bool {
        true
    }
}

/// `dedup_window(time, period)`: the start of the window that holds the row. A row opens a window if it is the first of
/// its group, or lies a period or more after the start of the last window.
#[derive(Debug)]
struct DedupWindow {
    window_start: Option<i64>,
}

impl WindowState for DedupWindow {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[0], row)?;
        let period = period_in(&arguments[1], row)?;
        let window_start = self.window_start.filter(|start| time.saturating_sub(*start) < period).unwrap_or(time);
        self.window_start = Some(window_start);
        Ok(scalar_time(self.window_start))
    }
}

/// `matches_within(time, period)`: the number of rows so far that are less than a period older than this one, plus this
/// one.
#[derive(Debug)]
struct MatchesWithin {
    recent: VecDeque<i64>,
}

impl WindowState for MatchesWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[0], row)?;
        let period = period_in(&arguments[1], row)?;
        while self.recent.pop_front_if(|then| time.saturating_sub(*then) >= period).is_some() {}
        self.recent.push_back(time);
        Ok(scalar_count(self.recent.len()))
    }
}

/// `distinct_within(value, time, period)`: the number of distinct values, other than null, in those rows.
#[derive(Debug)]
struct DistinctWithin {
    recent: VecDeque<(i64, Arc<str>)>,
    counts: HashMap<Arc<str>, usize>,
}

impl WindowState for DistinctWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        while let Some((_, old)) = self.recent.pop_front_if(|(then, _)| time.saturating_sub(*then) >= period) {
            if let Some(count) = self.counts.get_mut(&old) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&old);
                }
            }
        }
        if let Some(text) = text_in(&arguments[0], row)? {
            let value = self.counts.get_key_value(text).map_or_else(|| Arc::from(text), |(known, _)| Arc::clone(known));
            *self.counts.entry(Arc::clone(&value)).or_default() += 1;
            self.recent.push_back((time, value));
        }
        Ok(scalar_count(self.counts.len()))
    }
}

/// `sum_within(value, time, period)`: the sum of the numbers in those rows, without its fraction. Other values count as 0.
#[derive(Debug, Default)]
struct SumWithin {
    recent: VecDeque<(i64, i128)>,
    sum: i128,
}

/// The parts of one in which numbers are added, so that no order of rows changes a sum.
const PARTS_OF_ONE: i128 = 1_000_000;

/// The greatest number that is added. Larger ones count as this.
const GREATEST_ADDEND: i128 = 1_000_000_000_000_000_000;

/// Returns a number in parts of one. `None` if the text is none.
fn parts_of(text: &str) -> Option<i128> {
    let number = json::number(text)?;
    let digits = number.strip_prefix('-').unwrap_or(&number);
    let parts = match digits.split_once('e') {
        Some((_, exponent)) if exponent.starts_with('-') => 0,
        Some(_) => GREATEST_ADDEND * PARTS_OF_ONE,
        None => {
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            let whole = whole.parse().unwrap_or(GREATEST_ADDEND).min(GREATEST_ADDEND);
            whole * PARTS_OF_ONE + format!("{fraction:0<6.6}").parse::<i128>().ok()?
        }
    };
    Some(if digits.len() < number.len() { -parts } else { parts })
}

impl WindowState for SumWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        while let Some((_, old)) = self.recent.pop_front_if(|(then, _)| time.saturating_sub(*then) >= period) {
            self.sum -= old;
        }
        if let Some(number) = text_in(&arguments[0], row)?.and_then(parts_of) {
            self.sum += number;
            self.recent.push_back((time, number));
        }
        let whole = self.sum.div_euclid(PARTS_OF_ONE);
        let nearest = if whole < 0 { i64::MIN } else { i64::MAX };
        Ok(ScalarValue::Int64(Some(i64::try_from(whole).unwrap_or(nearest))))
    }
}

/// `most_within(count, time, period)`, over rows from the last back: the greatest count of this row and of the rows so far
/// that are less than a period younger.
#[derive(Debug)]
struct MostWithin {
    /// Times and counts, both falling. A smaller count whose row leaves the period earlier can never be the greatest.
    recent: VecDeque<(i64, i64)>,
}

impl WindowState for MostWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let Some(counts) = arguments[0].as_primitive_opt::<Int64Type>() else {
            return exec_err!("expected a count, not {}", arguments[0].data_type());
        };
        let count = counts.value(row);
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        while self.recent.pop_front_if(|(then, _)| then.saturating_sub(time) >= period).is_some() {}
        while self.recent.pop_back_if(|(_, less)| *less <= count).is_some() {}
        self.recent.push_back((time, count));
        Ok(ScalarValue::Int64(self.recent.front().map(|(_, most)| *most)))
    }
}

/// `latest(time)`: the last time, other than null, of the rows so far. This is `last_value(time) IGNORE NULLS`.
/// DataFusion reverses that function to save a sort, and then holds all rows of a partition in memory.
#[derive(Debug)]
struct LatestTime {
    time: Option<i64>,
}

impl WindowState for LatestTime {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        self.time = time_in(&arguments[0], row)?.or(self.time);
        Ok(scalar_time(self.time))
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::IntervalMonthDayNano;
    use datafusion::logical_expr::ScalarFunctionArgs;

    use super::*;

    fn window_start(time: Option<i64>, minutes: i64) -> Result<Option<i64>> {
        let period = IntervalMonthDayNano::new(0, 0, minutes * 60 * 1_000_000_000);
        let period = ScalarValue::IntervalMonthDayNano(Some(period));
        let result = tumbling_window().invoke_with_args(ScalarFunctionArgs {
            args: vec![ColumnarValue::Scalar(scalar_time(time)), ColumnarValue::Scalar(period)],
            arg_fields: Vec::new(),
            number_rows: 1,
            return_field: Arc::new(Field::new("window_start", event::time_type(), true)),
            config_options: Arc::default(),
        })?;
        time_in(&result.to_array(1)?, 0)
    }

    #[test]
    fn numbers_are_added_in_parts_of_one() {
        for (text, parts) in [
            ("7", Some(7_000_000)),
            ("-1.5", Some(-1_500_000)),
            ("0.1", Some(100_000)),
            ("1e3", Some(1_000_000_000)),
            ("999999999999999999", Some(999_999_999_999_999_999_000_000)),
            ("9223372036854775807", Some(1_000_000_000_000_000_000_000_000)),
            ("1e-300", Some(0)),
            ("1e300", Some(1_000_000_000_000_000_000_000_000)),
            ("", None),
            ("true", None),
            ("{}", None),
            ("NaN", None),
        ] {
            assert_eq!(parts_of(text), parts, "{text}");
        }
    }

    #[test]
    fn tumbling_windows_follow_one_another_from_the_epoch() {
        let minute = 60 * crate::time::SECOND;
        for (time, start) in
            [(0, 0), (minute, 0), (5 * minute - 1, 0), (5 * minute, 5 * minute), (12 * minute, 10 * minute)]
        {
            assert_eq!(window_start(Some(time), 5).unwrap(), Some(start), "{time}");
        }
        assert_eq!(window_start(None, 5).unwrap(), None);
        assert!(window_start(Some(0), 0).is_err());
    }
}
