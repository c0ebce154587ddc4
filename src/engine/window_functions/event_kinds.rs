//! Window functions over events of several kinds. A kind is a step of a sequence, or a member of a set.

use std::collections::VecDeque;

use arrow::array::{Array as _, ArrayRef, AsArray as _, BooleanArray, ListArray};
use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::scalar::ScalarValue;

use super::{StatefulWindowFunction, WindowState, known_time_in, period_in, period_type, scalar_count};
use crate::event;

/// Returns the functions.
pub(super) fn functions() -> [StatefulWindowFunction; 3] {
    let takes = || vec![event_kinds_type(), event::time_type(), period_type()];
    [
        StatefulWindowFunction::new("kinds_within", takes(), DataType::Int64, || {
            Box::new(KindsWithin { recent: VecDeque::new(), counts: Vec::new() })
        }),
        StatefulWindowFunction::new("before_within", takes(), DataType::Int64, || {
            Box::new(BeforeWithin { recent: VecDeque::new(), instant: None, follows: false, is_both: false })
        }),
        StatefulWindowFunction::new("steps_within", takes(), DataType::Int64, || Box::<StepsWithin>::default()),
    ]
}

/// Returns the type of a list of truth values, one for each kind of event that a rule has.
pub fn event_kinds_type() -> DataType {
    DataType::new_list(DataType::Boolean, true)
}

/// A column of lists of truth values: which of a rule's kinds of events a row is. The last kind comes first.
pub(in crate::engine) struct EventKindsColumn<'a> {
    lists: &'a ListArray,
    truth_values: &'a BooleanArray,
}

impl<'a> EventKindsColumn<'a> {
    /// Reads a column.
    ///
    /// # Errors
    /// The column has another type.
    pub(in crate::engine) fn new(column: &'a ArrayRef) -> Result<EventKindsColumn<'a>> {
        let lists = column.as_list_opt::<i32>();
        let columns =
            lists.and_then(|lists| Some(EventKindsColumn { lists, truth_values: lists.values().as_boolean_opt()? }));
        columns.map_or_else(|| exec_err!("expected a list of truth values, not {}", column.data_type()), Ok)
    }

    /// Returns the truth values of a row, in the order of the list. Null is false.
    pub(in crate::engine) fn truth_values(&self, row: usize) -> Option<impl DoubleEndedIterator<Item = bool> + '_> {
        let bound = |offset: i32| usize::try_from(offset).unwrap_or_default();
        let offsets = self.lists.value_offsets();
        let values = bound(offsets[row])..bound(offsets[row + 1]);
        let is_true = |index| self.truth_values.is_valid(index) && self.truth_values.value(index);
        self.lists.is_valid(row).then(|| values.map(is_true))
    }
}

/// The kinds of events that a row is.
struct EventKinds {
    /// The number of kinds that the rule has.
    count: usize,
    /// Those of the row, the first one first.
    of_row: Vec<usize>,
}

fn event_kinds_in(kinds: &ArrayRef, row: usize) -> Result<EventKinds> {
    let column = EventKindsColumn::new(kinds)?;
    let Some(truth_values) = column.truth_values(row) else {
        return exec_err!("the kinds of an event must not be null");
    };
    let (mut count, mut of_row) = (0, Vec::new());
    for is_kind in truth_values.rev() {
        of_row.extend(is_kind.then_some(count));
        count += 1;
    }
    Ok(EventKinds { count, of_row })
}

/// `kinds_within(kinds, time, period)`: the number of kinds of events that occur in those rows.
#[derive(Debug)]
struct KindsWithin {
    recent: VecDeque<(i64, Vec<usize>)>,
    counts: Vec<usize>,
}

impl WindowState for KindsWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        let kinds = event_kinds_in(&arguments[0], row)?;
        while let Some((_, old)) = self.recent.pop_front_if(|(then, _)| time.saturating_sub(*then) >= period) {
            for kind in old {
                self.counts[kind] -= 1;
            }
        }
        self.counts.resize(self.counts.len().max(kinds.count), 0);
        for kind in &kinds.of_row {
            self.counts[*kind] += 1;
        }
        self.recent.push_back((time, kinds.of_row));
        Ok(scalar_count(self.counts.iter().filter(|count| **count > 0).count()))
    }
}

/// `before_within(kinds, time, period)`: the number of events of the first kind, less than a period older than this row,
/// that an event of the second kind at the time of this row follows; 0 if there is no such event so far. Events at one
/// time follow each other, but no event follows itself.
#[derive(Debug)]
struct BeforeWithin {
    recent: VecDeque<i64>,
    /// The time of the last row.
    instant: Option<i64>,
    /// Whether an event at that time is of the second kind only.
    follows: bool,
    /// Whether an event at that time is of both kinds.
    is_both: bool,
}

impl WindowState for BeforeWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let kinds = event_kinds_in(&arguments[0], row)?;
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        if self.instant != Some(time) {
            self.instant = Some(time);
            self.follows = false;
            self.is_both = false;
            while self.recent.pop_front_if(|then| time.saturating_sub(*then) >= period).is_some() {}
        }
        let is = |kind| kinds.of_row.contains(&kind);
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

/// `steps_within(kinds, time, period)`: the greatest number of steps of the sequence that rows less than a period apart
/// take in the order of their times. Each row takes one step, and the last step is at the time of this row. Rows at one
/// time take steps in any order; only those seen so far count.
#[derive(Debug, Default)]
struct StepsWithin {
    /// For each step, the latest start of a path that reached it before `instant`.
    begun: Vec<Option<i64>>,
    /// The same for paths that reached it at `instant` or before.
    begun_by_now: Vec<Option<i64>>,
    /// The time of the last row.
    instant: Option<i64>,
    /// The number of rows at that time that can take a step.
    rows: usize,
    /// For each kind, the numbers of these rows.
    rows_of_kind: Vec<Vec<usize>>,
    /// The paths that continue at that time.
    paths: Vec<StepPath>,
}

/// The steps that distinct rows at one time take, one after the other.
#[derive(Debug)]
struct StepPath {
    /// When the first step of all was taken.
    began: i64,
    /// The first step taken at this time.
    first: usize,
    /// The step after the last one taken.
    next: usize,
    /// For each row, the step that it takes.
    step_of_row: Vec<Option<usize>>,
}

impl StepPath {
    /// Assigns `step` to a row that has none, or to a row whose step another row can take; returns whether there is one.
    /// (This finds an augmenting path of a bipartite matching.)
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

impl StepsWithin {
    /// Starts with the rows at a new time: paths continue from each step reached before, and one starts at the first step.
    fn begin(&mut self, time: i64, period: i64, steps: usize) {
        self.begun_by_now.resize(steps, None);
        self.begun.clone_from(&self.begun_by_now);
        self.instant = Some(time);
        self.rows = 0;
        self.rows_of_kind = vec![Vec::new(); steps];
        let path = |began, first| StepPath { began, first, next: first, step_of_row: Vec::new() };
        let going_on = self.begun.iter().enumerate().filter_map(|(step, began)| Some(path((*began)?, step + 1)));
        let recent = going_on.filter(|path| time.saturating_sub(path.began) < period && path.first < steps);
        self.paths = std::iter::once(path(time, 0)).chain(recent).collect();
    }
}

impl WindowState for StepsWithin {
    fn next(&mut self, arguments: &[ArrayRef], row: usize) -> Result<ScalarValue> {
        let EventKinds { count: steps, of_row: kinds } = event_kinds_in(&arguments[0], row)?;
        let time = known_time_in(&arguments[1], row)?;
        let period = period_in(&arguments[2], row)?;
        if self.instant != Some(time) {
            self.begin(time, period, steps);
        }
        // As many rows of a kind as there are steps are enough: one of them is always free.
        if kinds.iter().any(|kind| self.rows_of_kind[*kind].len() < steps) {
            for kind in kinds {
                self.rows_of_kind[kind].push(self.rows);
            }
            self.rows += 1;
            for path in &mut self.paths {
                path.step_of_row.push(None);
                while path.next < steps
                    && !self.rows_of_kind[path.next].is_empty()
                    && path.take(path.next, &self.rows_of_kind, &mut vec![false; self.rows])
                {
                    let reached = &mut self.begun_by_now[path.next];
                    *reached = (*reached).max(Some(path.began));
                    path.next += 1;
                }
            }
        }
        let taken = self.paths.iter().filter(|path| path.next > path.first).map(|path| path.next).max();
        Ok(scalar_count(taken.unwrap_or_default()))
    }
}
