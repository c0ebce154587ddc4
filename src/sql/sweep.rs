//! The cells of a sweep, as rows of SQL.

use std::collections::BTreeSet;

use super::quote::Interval;
use crate::rule::Window;
use crate::time::Period;

/// The periods of some cells, and the cells, each with its number.
pub(super) struct Sweep {
    periods: Vec<Period>,
    cells: Vec<(usize, Window)>,
}

impl Sweep {
    pub(super) fn new(cells: &[(usize, Window)]) -> Sweep {
        let periods: BTreeSet<Period> = cells.iter().map(|(_, window)| window.period).collect();
        Sweep { periods: periods.into_iter().collect(), cells: cells.to_vec() }
    }

    /// The rows of `settings`: the number of a period, and the period.
    pub(super) fn settings(&self) -> String {
        rows(self.periods.iter().enumerate().map(|(number, period)| format!("({number}, {})", interval(*period))))
    }

    /// The rows of `cells`: the number of its period, its own, and its threshold.
    pub(super) fn cells(&self) -> String {
        let row = |(cell, window): &(usize, Window)| {
            let period = self.periods.iter().position(|period| *period == window.period).unwrap_or_default();
            format!("({period}, {cell}, {})", window.threshold)
        };
        rows(self.cells.iter().map(row))
    }

    /// An expression that `of` writes for each period, as one for all of them.
    pub(super) fn of_each_period(&self, of: impl Fn(&str) -> String) -> String {
        let case = |(number, period): (usize, &Period)| format!("WHEN {number} THEN {}", of(&interval(*period)));
        let cases: Vec<String> = self.periods.iter().enumerate().map(case).collect();
        format!("CASE rule {} END", cases.join(" "))
    }
}

fn interval(period: Period) -> String {
    Interval(period.micros()).to_string()
}

fn rows(rows: impl Iterator<Item = String>) -> String {
    rows.collect::<Vec<_>>().join(", ")
}
