//! The roles of events where some must be absent near matches.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array as _, ArrayRef, StringArray};
use serde::{Deserialize, Serialize};

use crate::rule::AbsenceSide;
use crate::sql::columns;
use crate::sql::grid::GridCell;
use crate::time::Instant;

/// For each event its role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MatchRoles(Vec<MatchRole>);

/// The role of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct MatchRole {
    is_match: bool,
    /// Whether it must be absent near matches.
    is_absent: bool,
}

impl MatchRoles {
    /// Returns the roles in a column of a query.
    pub(super) fn new(roles: &StringArray) -> MatchRoles {
        let role = |number: usize| {
            let role = roles.is_valid(number).then(|| roles.value(number));
            MatchRole { is_match: role != Some(columns::ABSENT), is_absent: role != Some(columns::MATCH) }
        };
        MatchRoles((0..roles.len()).map(role).collect())
    }

    /// Returns the roles of the events with these numbers.
    #[cfg(feature = "cluster")]
    pub(super) fn of(&self, kept: &[usize]) -> MatchRoles {
        MatchRoles(kept.iter().map(|number| self.0[*number]).collect())
    }

    /// Joins the roles of partitions. `origins` are the partition of each event and its number there.
    #[cfg(feature = "cluster")]
    pub(super) fn joined(partitions: &[&MatchRoles], origins: &[(usize, usize)]) -> MatchRoles {
        MatchRoles(origins.iter().map(|(index, number)| partitions[*index].0[*number]).collect())
    }

    /// Returns whether an event is a match.
    pub(super) fn is_match(&self, number: usize) -> bool {
        self.0[number].is_match
    }

    /// Returns the column for the windows.
    pub(super) fn column(&self) -> (&'static str, ArrayRef) {
        let role = |role: &MatchRole| match (role.is_match, role.is_absent) {
            (true, true) => columns::BOTH,
            (true, false) => columns::MATCH,
            _ => columns::ABSENT,
        };
        (columns::MATCH_ROLE, Arc::new(StringArray::from_iter_values(self.0.iter().map(role))))
    }

    /// Returns the matches of a group without another event near them, by the setting of `cell`. `times` are those of all
    /// events, and `counts` says whether an event is one at all.
    pub(super) fn lone_ones(
        &self,
        group: Range<usize>,
        times: &[Instant],
        cell: &GridCell,
        counts: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let events: Vec<usize> = group.filter(|number| counts(*number)).collect();
        let absent: Vec<usize> = events.iter().copied().filter(|number| self.0[*number].is_absent).collect();
        let period = cell.setting.window.period.micros();
        let is_lone = |number: usize| {
            let time = times[number];
            let (first, last) = match cell.setting.absence {
                Some(AbsenceSide::Before) => (time - period + 1, time),
                _ => (time, time + period - 1),
            };
            let start = absent.partition_point(|other| times[*other] < first);
            let mut near = absent[start..].iter().take_while(|other| times[**other] <= last);
            !near.any(|other| *other != number)
        };
        let matches = events.into_iter().filter(|number| self.0[*number].is_match);
        matches.filter(|number| cell.known.contains(times[*number]) && is_lone(*number)).collect()
    }
}
