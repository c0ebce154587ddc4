//! The cells of a sweep, as rows of SQL.

use super::quote::{Interval, TimeLiteral};
use crate::rule::Window;
use crate::time::{Period, Range};

/// A cell of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Its number in the sweep.
    pub number: usize,
    /// The window.
    pub window: Window,
    /// The times that a hunt with this window reads.
    pub read: Range,
}

/// The settings of some cells: their periods and what is read for them, each pair once and with a number.
pub struct Sweep {
    settings: Vec<(Period, Range)>,
    cells: Vec<Cell>,
}

impl Sweep {
    /// The settings of `cells`.
    pub fn new(cells: &[Cell]) -> Sweep {
        let mut settings = Vec::new();
        for cell in cells {
            if !settings.contains(&setting(cell)) {
                settings.push(setting(cell));
            }
        }
        Sweep { settings, cells: cells.to_vec() }
    }

    /// The numbers of the cells whose setting has this number.
    pub fn cells_of(&self, number: usize) -> impl Iterator<Item = usize> {
        let of_cell = move |cell: &&Cell| self.settings.get(number) == Some(&setting(cell));
        self.cells.iter().filter(of_cell).map(|cell| cell.number)
    }

    /// The rows of `settings`: its number, the period, and the times that are read.
    pub(super) fn settings(&self) -> String {
        let bound = |micros: Option<i64>| {
            let instant = micros.map_or_else(|| "NULL".to_owned(), |at| TimeLiteral::nearest(at).to_string());
            format!("CAST({instant} AS TIMESTAMP WITH TIME ZONE)")
        };
        let row = |(number, (period, read)): (usize, &(Period, Range))| {
            format!("({number}, {}, {}, {})", interval(*period), bound(read.from), bound(read.to))
        };
        rows(self.settings.iter().enumerate().map(row))
    }

    /// The rows of `cells`: the number of its setting, its own, and its threshold.
    pub(super) fn cells(&self) -> String {
        let row = |cell: &Cell| {
            let number = self.settings.iter().position(|known| *known == setting(cell)).unwrap_or_default();
            format!("({number}, {}, {})", cell.number, cell.window.threshold)
        };
        rows(self.cells.iter().map(row))
    }

    /// An expression that `of` writes for each period, as one for all of them.
    pub(super) fn of_each_period(&self, of: impl Fn(&str) -> String) -> String {
        let case =
            |(number, (period, _)): (usize, &(Period, Range))| format!("WHEN {number} THEN {}", of(&interval(*period)));
        let cases: Vec<String> = self.settings.iter().enumerate().map(case).collect();
        format!("CASE rule {} END", cases.join(" "))
    }
}

fn setting(cell: &Cell) -> (Period, Range) {
    (cell.window.period, cell.read)
}

fn interval(period: Period) -> String {
    Interval(period.micros()).to_string()
}

fn rows(rows: impl Iterator<Item = String>) -> String {
    rows.collect::<Vec<_>>().join(", ")
}
