//! Window functions that SQL cannot say, or that the engine would not stream: they keep state from
//! one row of a group to the next.
//!
//! They see the rows of a partition once and in order, and need nothing but the state.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, AsArray as _};
use arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit, TimestampMicrosecondType,
};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{LimitEffect, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

/// The version of what rules mean to this program, part of the version of every rule.
///
/// Raise it with a change after which some rule finds other findings in the same data, or says something else of them:
/// of a function here, of the SQL templates, of the actor, of how a condition reads a record. Every nightly run then
/// hunts the whole lake again. A change that alters no finding must not raise it. `tests/golden/semantics.txt` holds
/// hashes of those sources, so that each change of them asks for the decision.
pub const SEMANTICS_VERSION: u32 = 2;

pub(super) fn register(context: &SessionContext) {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let period = DataType::Interval(IntervalUnit::MonthDayNano);
    let functions = [
        Streamed::new("dedup_window", vec![time.clone(), period.clone()], time.clone(), || {
            Box::new(OpenWindow { opened: None })
        }),
        Streamed::new("matches_within", vec![time.clone(), period.clone()], DataType::Int64, || {
            Box::new(Matches { recent: VecDeque::new() })
        }),
        Streamed::new("distinct_within", vec![DataType::Utf8, time.clone(), period.clone()], DataType::Int64, || {
            Box::new(Values { recent: VecDeque::new(), counts: HashMap::new() })
        }),
        Streamed::new("kinds_within", vec![DataType::Utf8, time.clone(), period.clone()], DataType::Int64, || {
            Box::new(Kinds { recent: VecDeque::new(), counts: Vec::new() })
        }),
        Streamed::new("before_within", vec![DataType::Utf8, time.clone(), period.clone()], DataType::Int64, || {
            Box::new(Before { recent: VecDeque::new(), instant: None, follows: false, is_both: false })
        }),
        Streamed::new("steps_within", vec![DataType::Utf8, time.clone(), period.clone()], DataType::Int64, || {
            Box::<Steps>::default()
        }),
        Streamed::new("most_within", vec![DataType::Int64, time.clone(), period], DataType::Int64, || {
            Box::new(Most { recent: VecDeque::new() })
        }),
        Streamed::new("latest", vec![time.clone()], time, || Box::new(Latest { time: None })),
    ];
    for function in functions {
        context.register_udwf(WindowUDF::from(function));
    }
}

/// The length in an argument, in microseconds.
fn period_in(periods: &ArrayRef, row: usize) -> Result<i64> {
    match periods.as_primitive_opt::<IntervalMonthDayNanoType>().filter(|periods| periods.is_valid(row)) {
        Some(periods) if periods.value(row).months == 0 => {
            let length = periods.value(row);
            Ok(i64::from(length.days) * crate::time::DAY + length.nanoseconds / 1_000)
        }
        _ => exec_err!("the period must be an interval of days and less"),
    }
}

/// The time in an argument.
fn time_in(times: &ArrayRef, row: usize) -> Result<Option<i64>> {
    let Some(times) = times.as_primitive_opt::<TimestampMicrosecondType>() else {
        return exec_err!("a time is expected, not {}", times.data_type());
    };
    Ok(times.is_valid(row).then(|| times.value(row)))
}

fn known_time_in(times: &ArrayRef, row: usize) -> Result<i64> {
    time_in(times, row)?.map_or_else(|| exec_err!("the time must not be null"), Ok)
}

/// The text in an argument.
fn text_in(texts: &ArrayRef, row: usize) -> Result<Option<&str>> {
    let Some(known) = texts.as_string_opt::<i32>() else {
        return exec_err!("a text is expected, not {}", texts.data_type());
    };
    Ok(known.is_valid(row).then(|| known.value(row)))
}

/// The digits in an argument.
fn digits_in(texts: &ArrayRef, row: usize) -> Result<&str> {
    text_in(texts, row)?.map_or_else(|| exec_err!("the digits must not be null"), Ok)
}

fn scalar_time(time: Option<i64>) -> ScalarValue {
    ScalarValue::TimestampMicrosecond(time, Some("UTC".into()))
}

fn scalar_count(count: usize) -> ScalarValue {
    ScalarValue::Int64(i64::try_from(count).ok())
}

/// What a function keeps of a partition's rows so far.
trait State: fmt::Debug + Send {
    /// The function's value at the next row.
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue>;
}

type Start = fn() -> Box<dyn State>;

/// A window function with a state.
#[derive(Debug)]
struct Streamed {
    name: &'static str,
    signature: Signature,
    returns: DataType,
    start: Start,
}

impl Streamed {
    fn new(name: &'static str, takes: Vec<DataType>, returns: DataType, start: Start) -> Streamed {
        Streamed { name, signature: Signature::exact(takes, Volatility::Immutable), returns, start }
    }
}

impl PartialEq for Streamed {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Streamed {}

impl Hash for Streamed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl WindowUDFImpl for Streamed {
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
        Ok(Box::new(Evaluator { state: (self.start)() }))
    }

    fn limit_effect(&self, _arguments: &[Arc<dyn PhysicalExpr>]) -> LimitEffect {
        LimitEffect::Unknown
    }
}

#[derive(Debug)]
struct Evaluator {
    state: Box<dyn State>,
}

impl PartitionEvaluator for Evaluator {
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

/// `dedup_window(time, period)`: when the window opened that the row is in. A row opens one where it
/// is the group's first, or lies a period or more after the last one opened.
#[derive(Debug)]
struct OpenWindow {
    opened: Option<i64>,
}

impl State for OpenWindow {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[0], row)?;
        let period = period_in(&arguments[1], row)?;
        let opened = self.opened.filter(|opened| time.saturating_sub(*opened) < period).unwrap_or(time);
        self.opened = Some(opened);
        Ok(scalar_time(self.opened))
    }
}

/// `matches_within(time, period)`: how many of the rows so far are less than a period older than this one, and this one.
#[derive(Debug)]
struct Matches {
    recent: VecDeque<i64>,
}

impl State for Matches {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[0], row)?;
        let period = period_in(&arguments[1], row)?;
        while self.recent.pop_front_if(|then| time.saturating_sub(*then) >= period).is_some() {}
        self.recent.push_back(time);
        Ok(scalar_count(self.recent.len()))
    }
}

/// `distinct_within(value, time, period)`: how many distinct values these rows hold. Null is no value.
#[derive(Debug)]
struct Values {
    recent: VecDeque<(i64, Arc<str>)>,
    counts: HashMap<Arc<str>, usize>,
}

impl State for Values {
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

/// `kinds_within(kinds, time, period)`: of how many kinds there is one among these rows. Which a row is, tells its `1`s.
#[derive(Debug)]
struct Kinds {
    recent: VecDeque<(i64, Arc<str>)>,
    counts: Vec<usize>,
}

impl State for Kinds {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        let kinds = digits_in(&arguments[0], row)?;
        while let Some((_, old)) = self.recent.pop_front_if(|(then, _)| time.saturating_sub(*then) >= period) {
            for kind in kinds_of(&old) {
                self.counts[kind] -= 1;
            }
        }
        self.counts.resize(self.counts.len().max(kinds.len()), 0);
        for kind in kinds_of(kinds) {
            self.counts[kind] += 1;
        }
        self.recent.push_back((time, Arc::from(kinds)));
        Ok(scalar_count(self.counts.iter().filter(|count| **count > 0).count()))
    }
}

/// The kinds of a row, of which `digits` tells by a `1` for each, the last kind first.
fn kinds_of(digits: &str) -> impl Iterator<Item = usize> {
    digits.bytes().rev().enumerate().filter(|(_, digit)| *digit == b'1').map(|(kind, _)| kind)
}

/// `before_within(digits, time, period)`: the most events of the first kind that an event of the second follows, of the
/// rows less than a period older than this one. Events at one time follow each other, but no event follows itself. The
/// event that follows is at the time of this row; 0 where there is none so far.
#[derive(Debug)]
struct Before {
    recent: VecDeque<i64>,
    /// The time of the last row.
    instant: Option<i64>,
    /// Whether an event at that time follows without being of the first kind.
    follows: bool,
    /// Whether an event at that time is of both kinds.
    is_both: bool,
}

impl State for Before {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let digits = digits_in(&arguments[0], row)?;
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        if self.instant != Some(time) {
            self.instant = Some(time);
            self.follows = false;
            self.is_both = false;
            while self.recent.pop_front_if(|then| time.saturating_sub(*then) >= period).is_some() {}
        }
        let is = |kind| kinds_of(digits).any(|digit| digit == kind);
        if is(0) {
            self.recent.push_back(time);
        }
        self.follows |= is(1) && !is(0);
        self.is_both |= is(1) && is(0);
        let before = match (self.follows, self.is_both) {
            (true, _) => self.recent.len(),
            (false, true) => self.recent.len() - 1,
            (false, false) => 0,
        };
        Ok(scalar_count(before))
    }
}

/// `steps_within(digits, time, period)`: the most steps that rows less than a period apart take in the order of their
/// times, one row each, the last of them at the time of this row. Rows at one time come in any order; of those, the rows
/// so far count.
#[derive(Debug, Default)]
struct Steps {
    /// For each step, when the latest way to it began that ends before `instant`.
    begun: Vec<Option<i64>>,
    /// The same for ways that end at `instant` or before it.
    begun_by_now: Vec<Option<i64>>,
    /// The time of the last row.
    instant: Option<i64>,
    /// How many rows at that time can take part.
    rows: usize,
    /// Those of each kind, by their numbers.
    rows_of_kind: Vec<Vec<usize>>,
    /// The ways that go on at that time.
    ways: Vec<Way>,
}

/// Steps that distinct rows at one time take, one after the other.
#[derive(Debug)]
struct Way {
    /// When the first step of all was taken.
    began: i64,
    /// The first step that was taken at this time.
    first: usize,
    /// The step after the last one that was taken.
    next: usize,
    /// Which step each row takes.
    step_of_row: Vec<Option<usize>>,
}

impl Way {
    /// Takes `step`, by a row that takes none or whose step another row takes.
    fn take(&mut self, step: usize, rows_of_kind: &[Vec<usize>], tried: &mut [bool]) -> bool {
        for row in rows_of_kind[step].iter().copied() {
            if std::mem::replace(&mut tried[row], true) {
                continue;
            }
            if self.step_of_row[row].is_none_or(|other| self.take(other, rows_of_kind, tried)) {
                self.step_of_row[row] = Some(step);
                return true;
            }
        }
        false
    }
}

impl Steps {
    /// Begins with the rows at a time: ways go on from each step that was reached before, and one begins anew.
    fn begin(&mut self, time: i64, period: i64, steps: usize) {
        self.begun_by_now.resize(steps, None);
        self.begun.clone_from(&self.begun_by_now);
        self.instant = Some(time);
        self.rows = 0;
        self.rows_of_kind = vec![Vec::new(); steps];
        let way = |began, first| Way { began, first, next: first, step_of_row: Vec::new() };
        let going_on = self.begun.iter().enumerate().filter_map(|(step, began)| Some(way((*began)?, step + 1)));
        let recent = going_on.filter(|way| time.saturating_sub(way.began) < period && way.first < steps);
        self.ways = std::iter::once(way(time, 0)).chain(recent).collect();
    }
}

impl State for Steps {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let digits = digits_in(&arguments[0], row)?;
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        let steps = digits.len();
        if self.instant != Some(time) {
            self.begin(time, period, steps);
        }
        let kinds: Vec<usize> = kinds_of(digits).collect();
        // As many rows of a kind as there are steps suffice: one of them is always free.
        if kinds.iter().any(|kind| self.rows_of_kind[*kind].len() < steps) {
            for kind in kinds {
                self.rows_of_kind[kind].push(self.rows);
            }
            self.rows += 1;
            for way in &mut self.ways {
                way.step_of_row.push(None);
                while way.next < steps
                    && !self.rows_of_kind[way.next].is_empty()
                    && way.take(way.next, &self.rows_of_kind, &mut vec![false; self.rows])
                {
                    let reached = &mut self.begun_by_now[way.next];
                    *reached = (*reached).max(Some(way.began));
                    way.next += 1;
                }
            }
        }
        let taken = self.ways.iter().filter(|way| way.next > way.first).map(|way| way.next).max();
        Ok(scalar_count(taken.unwrap_or_default()))
    }
}

/// `most_within(count, time, period)`, over rows from the last: the greatest count of the rows so far that are less
/// than a period younger than this one, and of this one.
#[derive(Debug)]
struct Most {
    /// By falling time and falling count: what is behind a greater count that lasts longer is never the greatest.
    recent: VecDeque<(i64, i64)>,
}

impl State for Most {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let Some(counts) = arguments[0].as_primitive_opt::<Int64Type>() else {
            return exec_err!("a count is expected, not {}", arguments[0].data_type());
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

/// `latest(time)`: the last time of the rows so far. It is `last_value(time) IGNORE NULLS`, which the
/// engine would compute backwards to save a sort, with all rows in memory.
#[derive(Debug)]
struct Latest {
    time: Option<i64>,
}

impl State for Latest {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        self.time = time_in(&arguments[0], row)?.or(self.time);
        Ok(scalar_time(self.time))
    }
}
