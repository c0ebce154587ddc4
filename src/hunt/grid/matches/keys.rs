//! The keys of matches that must be new.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use serde::{Deserialize, Serialize};

use crate::hunt::account_starts::AccountStarts;
use crate::sql::columns;
use crate::sql::grid::GridCell;
use crate::time::Instant;

/// What decides with group and time whether a match is new.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MatchKeys {
    /// For each match the number of its key. Matches with one key have one number.
    keys: Vec<i64>,
    /// For each match the first event of its account.
    starts: Vec<Instant>,
}

impl MatchKeys {
    /// Returns the keys of matches, given the number of each one's group, the other values of its key, and its account.
    pub(super) fn new(
        group_of: &[usize],
        values: &[StringArray],
        accounts: &StringArray,
        account_starts: &AccountStarts,
    ) -> MatchKeys {
        let mut numbers: HashMap<(usize, Vec<Option<&str>>), i64> = HashMap::new();
        let keys = group_of.iter().enumerate().map(|(number, group)| {
            let values = values.iter().map(|column| column.is_valid(number).then(|| column.value(number))).collect();
            let next = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
            *numbers.entry((*group, values)).or_insert(next)
        });
        let keys = keys.collect();
        MatchKeys { keys, starts: accounts.iter().map(|account| account_starts.start(account)).collect() }
    }

    /// Returns the keys of the matches with these numbers.
    #[cfg(feature = "cluster")]
    pub(super) fn of(&self, kept: &[usize]) -> MatchKeys {
        MatchKeys {
            keys: kept.iter().map(|number| self.keys[*number]).collect(),
            starts: kept.iter().map(|number| self.starts[*number]).collect(),
        }
    }

    /// Joins the keys of partitions. `origins` are the partition of each match and its number there.
    #[cfg(feature = "cluster")]
    pub(super) fn joined(partitions: &[&MatchKeys], origins: &[(usize, usize)]) -> MatchKeys {
        let mut numbers: HashMap<(usize, i64), i64> = HashMap::new();
        let keys = origins.iter().map(|(index, number)| {
            let next = i64::try_from(numbers.len()).unwrap_or(i64::MAX);
            *numbers.entry((*index, partitions[*index].keys[*number])).or_insert(next)
        });
        let keys = keys.collect();
        MatchKeys { keys, starts: origins.iter().map(|(index, number)| partitions[*index].starts[*number]).collect() }
    }

    /// Returns the columns for the windows: keys and account starts.
    pub(super) fn columns(&self) -> [(&'static str, ArrayRef); 2] {
        let starts = self.starts.iter().map(|start| start.micros());
        let starts = TimestampMicrosecondArray::from_iter_values(starts).with_timezone("UTC");
        [(columns::NEW_KEY, Arc::new(Int64Array::from(self.keys.clone()))), (columns::ACCOUNT_START, Arc::new(starts))]
    }

    /// Returns the new ones among the matches of a group, by the setting of `cell`. `times` are those of all matches,
    /// and `counts` says whether a match is one at all.
    pub(super) fn new_ones(
        &self,
        group: Range<usize>,
        times: &[Instant],
        cell: &GridCell,
        counts: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let (read_from, Some(periods)) = (cell.read.from, cell.setting.newness) else {
            return group.filter(|number| counts(*number)).collect();
        };
        let history = periods.history.micros();
        let mut last_seen: HashMap<i64, Instant> = HashMap::new();
        let mut is_new = |number: usize| {
            let time = times[number];
            if !counts(number) || read_from.is_some_and(|from| time < from) {
                return false;
            }
            let seen = last_seen.insert(self.keys[number], time);
            let learned_from = periods.learning.map(|learning| self.starts[number] + learning.micros());
            seen.is_none_or(|seen| seen < time - history)
                && cell.known.contains(time)
                && learned_from.is_none_or(|from| time >= from)
        };
        group.filter(|number| is_new(*number)).collect()
    }
}
