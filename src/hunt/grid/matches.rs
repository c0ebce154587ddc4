//! The matches of a rule for the windows of a parameter grid, by their numbers.

use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_empty_array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema, TimestampMicrosecondType};
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;

use super::GridRule;
use crate::engine;
use crate::sql::CountFunction;
use crate::sql::columns;
use crate::sql::grid::GridCell;
use crate::sql::match_spec::EventColumn;
use crate::time::Instant;

mod keys;
#[cfg(feature = "cluster")]
mod partition;
mod roles;

use keys::MatchKeys;

#[cfg(feature = "cluster")]
pub(super) use partition::PartitionMatches;
use roles::MatchRoles;

/// The matches of a rule, each once for each time it was delivered with, numbered by group and time.
///
/// Those that no reader needs may be left out. Then the numbers are those of the others, in the same order.
#[derive(Debug)]
pub struct GridMatches {
    /// The number of all matches, including those left out.
    pub count: usize,
    /// The number of groups of all matches, including those left out.
    pub group_count: usize,
    /// The times of the earliest and the latest of all.
    pub span: Option<(Instant, Instant)>,
    /// The groups; null where a record has no value.
    pub groups: Vec<Vec<Option<String>>>,
    /// For each match the number of its group.
    pub group_of: Vec<usize>,
    /// For each match its time.
    pub times: Vec<Instant>,
    ids: StringArray,
    accounts: StringArray,
    actors: StringArray,
    /// The column that the rule counts by. `None` where it counts matches.
    counted: Option<(CountFunction, ArrayRef)>,
    /// For each match the time of the duplicate before it, if its record was delivered with several times.
    previous_duplicate_times: TimestampMicrosecondArray,
    /// What decides which matches are new, if only new ones are counted.
    keys: Option<MatchKeys>,
    /// Which events are matches, and which must be absent near them, if any must be.
    roles: Option<MatchRoles>,
}

impl GridMatches {
    /// Returns the numbers of the matches of a finding. Consecutive, except for duplicates that count at an earlier time, and
    /// for matches that must be new and are not.
    pub fn matches_of(&self, found: &GridFinding) -> Vec<usize> {
        let read_from = found.cell.and_then(|cell| cell.read.from);
        let counts = |number: usize| {
            let before =
                self.previous_duplicate_times.is_valid(number).then(|| self.previous_duplicate_times.value(number));
            before.is_none_or(|before| read_from.is_some_and(|from| Instant::from_micros(before) < from))
        };
        let of_finding = found.first..=found.last;
        let group = self.group_of[found.first];
        let start = self.group_of.partition_point(|known| *known < group);
        // Events outside the finding show which of its matches count.
        let mut counted = match (&self.keys, &self.roles, found.cell) {
            (Some(keys), _, Some(cell)) => keys.new_ones(start..found.last + 1, &self.times, &cell, counts),
            (_, Some(roles), Some(cell)) => {
                let end = self.group_of.partition_point(|known| *known <= group);
                // Events a period away or more decide nothing.
                let period = cell.setting.window.period.micros();
                let (earliest, latest) = (self.times[found.first] - period, self.times[found.last] + period);
                let first = start + self.times[start..end].partition_point(|time| *time < earliest);
                let last = start + self.times[start..end].partition_point(|time| *time <= latest);
                roles.lone_ones(first..last, &self.times, &cell, counts)
            }
            _ => return of_finding.filter(|number| counts(*number)).collect(),
        };
        counted.retain(|number| of_finding.contains(number));
        counted
    }

    /// Returns whether an event is a match, and not only one that must be absent near matches.
    pub fn is_match(&self, number: usize) -> bool {
        self.roles.as_ref().is_none_or(|roles| roles.is_match(number))
    }

    /// The identity of a match.
    pub fn id(&self, number: usize) -> &str {
        self.ids.value(number)
    }

    /// The account and the actor of a match.
    pub fn who(&self, number: usize) -> (Option<&str>, Option<&str>) {
        let value = |texts: &'_ StringArray| texts.is_valid(number).then_some(number);
        (
            value(&self.accounts).map(|number| self.accounts.value(number)),
            value(&self.actors).map(|number| self.actors.value(number)),
        )
    }
}

/// A finding of a cell, given by the numbers of its matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "cluster", derive(serde::Serialize, serde::Deserialize))]
pub struct GridFinding {
    /// The first match.
    pub first: usize,
    /// The last match.
    pub last: usize,
    /// The number of matches.
    pub count: usize,
    /// The match with which the count reached the threshold.
    pub trigger: usize,
    /// The cell.
    #[cfg_attr(feature = "cluster", serde(skip))]
    pub cell: Option<GridCell>,
}

#[cfg(feature = "cluster")]
impl GridFinding {
    /// Returns the finding with other numbers for its matches.
    pub(super) fn with_numbers(&self, number: impl Fn(usize) -> usize) -> GridFinding {
        let (first, last, trigger) = (number(self.first), number(self.last), number(self.trigger));
        GridFinding { first, last, trigger, ..*self }
    }
}

/// The matches of `grid` in rows that are in order.
pub(super) fn numbered(grid: &GridRule, rows: &[RecordBatch]) -> Result<GridMatches, DataFusionError> {
    let GridRule { groups, keys, account_starts, shape, .. } = grid;
    let all = |name: &str, data_type: &DataType| -> Result<ArrayRef, DataFusionError> {
        let part =
            |batch: &RecordBatch| Ok(compute::cast(batch.column(batch.schema_ref().index_of(name)?), data_type)?);
        let parts = rows.iter().map(part).collect::<Result<Vec<ArrayRef>, DataFusionError>>()?;
        let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(if parts.is_empty() { new_empty_array(data_type) } else { compute::concat(&parts)? })
    };
    let texts = |name: &str| Ok::<_, DataFusionError>(all(name, &DataType::Utf8)?.as_string::<i32>().clone());
    let counted = shape.function.map(|function| {
        let field = super::counted_field(function);
        Ok::<_, DataFusionError>((function, all(field.name(), field.data_type())?))
    });
    let times = rows.iter().filter_map(|batch| batch.column_by_name(EventColumn::Time.name()));
    let times = times.flat_map(|times| times.as_primitive::<TimestampMicrosecondType>().values());
    let times = times.map(|micros| Instant::from_micros(*micros)).collect();
    let previous_duplicate_times =
        rows.iter().filter_map(|batch| batch.column_by_name(columns::PREVIOUS_DUPLICATE_TIME));
    let previous_duplicate_times =
        previous_duplicate_times.flat_map(|times| times.as_primitive::<TimestampMicrosecondType>().iter());
    let previous_duplicate_times = previous_duplicate_times.collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    let times: Vec<Instant> = times;
    let mut matches = GridMatches {
        count: times.len(),
        group_count: 0,
        span: times.iter().min().copied().zip(times.iter().max().copied()),
        groups: Vec::new(),
        group_of: Vec::new(),
        times,
        ids: texts(EventColumn::Id.name())?,
        accounts: texts(columns::ACCOUNT)?,
        actors: texts(columns::ACTOR)?,
        counted: counted.transpose()?,
        previous_duplicate_times,
        keys: None,
        roles: None,
    };
    let columns = groups.iter().map(|name| texts(name)).collect::<Result<Vec<_>, _>>()?;
    for number in 0..matches.times.len() {
        let value = |column: &StringArray| column.is_valid(number).then(|| column.value(number).to_owned());
        let same = |known: &Vec<Option<String>>| {
            let mut pairs = known.iter().zip(&columns);
            pairs.all(|(known, column)| known.as_deref() == column.is_valid(number).then(|| column.value(number)))
        };
        if !matches.groups.last().is_some_and(same) {
            matches.groups.push(columns.iter().map(value).collect());
        }
        matches.group_of.push(matches.groups.len() - 1);
    }
    matches.group_count = matches.groups.len();
    if shape.only_new {
        let values = keys.iter().map(|name| texts(name)).collect::<Result<Vec<_>, _>>()?;
        matches.keys = Some(MatchKeys::new(&matches.group_of, &values, &matches.accounts, account_starts));
    }
    if shape.absence.is_some() {
        matches.roles = Some(MatchRoles::new(&texts(columns::MATCH_ROLE)?));
        let mut groups: Vec<usize> = Vec::new();
        let numbers = (0..matches.times.len()).filter(|number| matches.is_match(*number));
        groups.extend(numbers.map(|number| matches.group_of[number]));
        matches.count = groups.len();
        groups.dedup();
        matches.group_count = groups.len();
    }
    Ok(matches)
}

impl GridMatches {
    /// The matches as the table `matched`, by their numbers.
    pub(super) fn table(&self) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let group: Int64Array = self.group_of.iter().map(|group| count(*group)).collect();
        let times = self.times.iter().map(|time| time.micros());
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let numbers: Int64Array = (0..self.times.len()).map(count).collect();
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            (columns::GROUP, Arc::new(group)),
            (EventColumn::Time.name(), Arc::new(times)),
            (columns::MATCH_NUMBER, Arc::new(numbers)),
            (columns::PREVIOUS_DUPLICATE_TIME, Arc::new(self.previous_duplicate_times.clone())),
        ];
        columns.extend(self.keys.iter().flat_map(MatchKeys::columns));
        columns.extend(self.roles.iter().map(MatchRoles::column));
        columns.extend(self.counted.iter().map(|(function, counted)| (function.column(), Arc::clone(counted))));
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = columns.iter().map(|(_, column)| Arc::clone(column)).collect();
        engine::memory_table(Arc::clone(&schema), vec![RecordBatch::try_new(schema, columns)?])
    }
}
