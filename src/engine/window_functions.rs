//! Window functions that SQL cannot say: they keep state from one row of a group to the next.
//!
//! Both see the rows of a partition once and in order, and need nothing but the state, so the
//! engine streams them.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit, TimestampMicrosecondType};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Literal;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

pub(super) fn register(context: &SessionContext) {
    context.register_udwf(WindowUDF::from(DedupWindow::default()));
    context.register_udwf(WindowUDF::from(DistinctWithin::default()));
}

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The length that the argument at `index` gives, in microseconds.
fn period(arguments: &PartitionEvaluatorArgs<'_>, index: usize) -> Result<i64> {
    let literal = arguments.input_exprs().get(index).and_then(|expression| expression.downcast_ref::<Literal>());
    match literal.map(Literal::value) {
        Some(ScalarValue::IntervalMonthDayNano(Some(length))) if length.months == 0 => {
            Ok(i64::from(length.days) * crate::time::DAY + length.nanoseconds / 1_000)
        }
        _ => exec_err!("the period must be a constant interval of days and less"),
    }
}

fn instant(times: &ArrayRef, row: usize) -> Result<i64> {
    match times.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) if times.is_valid(row) => Ok(times.value(row)),
        _ => exec_err!("a time is expected"),
    }
}

/// `dedup_window(time, period)`: when the window opened that the row is in. A row opens one where it
/// is the group's first, or lies a period or more after the last one opened.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DedupWindow {
    signature: Signature,
}

impl Default for DedupWindow {
    fn default() -> Self {
        let takes = vec![time_type(), DataType::Interval(IntervalUnit::MonthDayNano)];
        DedupWindow { signature: Signature::exact(takes, Volatility::Immutable) }
    }
}

impl WindowUDFImpl for DedupWindow {
    fn name(&self) -> &'static str {
        "dedup_window"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, arguments: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), time_type(), false)))
    }

    fn partition_evaluator(&self, arguments: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(OpenWindow { period: period(&arguments, 1)?, opened: None }))
    }

    fn limit_effect(&self, _arguments: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

#[derive(Debug)]
struct OpenWindow {
    period: i64,
    opened: Option<i64>,
}

impl PartitionEvaluator for OpenWindow {
    fn evaluate(&mut self, arguments: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let [times, ..] = arguments else {
            return exec_err!("dedup_window takes a time and a period");
        };
        let time = instant(times, range.start)?;
        let opened = self.opened.filter(|opened| time.saturating_sub(*opened) < self.period).unwrap_or(time);
        self.opened = Some(opened);
        Ok(ScalarValue::TimestampMicrosecond(Some(opened), Some("UTC".into())))
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn is_causal(&self) -> bool {
        true
    }
}

/// `distinct_within(value, time, period)`: how many distinct values the rows so far hold that are
/// less than a period older. Null is no value.
#[derive(Debug, PartialEq, Eq, Hash)]
struct DistinctWithin {
    signature: Signature,
}

impl Default for DistinctWithin {
    fn default() -> Self {
        let takes = vec![DataType::Utf8, time_type(), DataType::Interval(IntervalUnit::MonthDayNano)];
        DistinctWithin { signature: Signature::exact(takes, Volatility::Immutable) }
    }
}

impl WindowUDFImpl for DistinctWithin {
    fn name(&self) -> &'static str {
        "distinct_within"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn field(&self, arguments: WindowUDFFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(arguments.name(), DataType::Int64, false)))
    }

    fn partition_evaluator(&self, arguments: PartitionEvaluatorArgs<'_>) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Values { period: period(&arguments, 2)?, recent: VecDeque::new(), counts: HashMap::new() }))
    }

    fn limit_effect(&self, _arguments: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

#[derive(Debug)]
struct Values {
    period: i64,
    recent: VecDeque<(i64, Arc<str>)>,
    counts: HashMap<Arc<str>, usize>,
}

impl PartitionEvaluator for Values {
    fn evaluate(&mut self, arguments: &[ArrayRef], range: &Range<usize>) -> Result<ScalarValue> {
        let [values, times, ..] = arguments else {
            return exec_err!("distinct_within takes a value, a time and a period");
        };
        let time = instant(times, range.start)?;
        while let Some((_, old)) = self.recent.pop_front_if(|(then, _)| time.saturating_sub(*then) >= self.period) {
            if let Some(count) = self.counts.get_mut(&old) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&old);
                }
            }
        }
        let Some(texts) = values.as_string_opt::<i32>() else {
            return exec_err!("distinct_within takes a text, not {}", values.data_type());
        };
        if texts.is_valid(range.start) {
            let text = texts.value(range.start);
            let value = self.counts.get_key_value(text).map_or_else(|| Arc::from(text), |(known, _)| Arc::clone(known));
            *self.counts.entry(Arc::clone(&value)).or_default() += 1;
            self.recent.push_back((time, value));
        }
        Ok(ScalarValue::Int64(i64::try_from(self.counts.len()).ok()))
    }

    fn supports_bounded_execution(&self) -> bool {
        true
    }

    fn is_causal(&self) -> bool {
        true
    }
}
