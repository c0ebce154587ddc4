//! A parameter grid: the findings that a rule would have with each of many windows, from one list of its matches.

use askama::Template as _;
use serde::{Deserialize, Serialize};

use super::quote::{Interval, TimeLiteral};
use super::windows::{Steps, WindowShape, Windows, step};
use crate::rule::{Window, WindowKind};
use crate::time::{Instant, Period, Range};

/// A cell of a parameter grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridCell {
    /// Its number in the grid.
    pub number: usize,
    /// The window.
    pub window: Window,
    /// The times that a hunt with this window reads.
    pub read: Range,
}

/// The cells of a grid, and their settings: a period and the times that are read for it, each pair once and with a number.
pub struct ParameterGrid {
    settings: Vec<(Period, Range)>,
    cells: Vec<GridCell>,
}

#[derive(askama::Template)]
#[template(path = "grid_sliding_most.sql", escape = "none")]
struct SlidingGreatestCounts<'w> {
    from_last: &'w str,
}

#[derive(askama::Template)]
#[template(path = "grid_findings.sql", escape = "none")]
struct GridFindingsStep<'w> {
    peak_column: &'w str,
    peak_conditions: &'w str,
    from: TimeLiteral,
    to: TimeLiteral,
}

impl ParameterGrid {
    /// Returns the grid of `cells`.
    pub fn new(cells: &[GridCell]) -> ParameterGrid {
        let mut settings = Vec::new();
        for cell in cells {
            if !settings.contains(&setting(cell)) {
                settings.push(setting(cell));
            }
        }
        ParameterGrid { settings, cells: cells.to_vec() }
    }

    /// Returns the numbers of the cells whose setting has this number.
    pub fn cells_of(&self, number: usize) -> impl Iterator<Item = usize> {
        let of_setting = move |cell: &&GridCell| self.settings.get(number) == Some(&setting(cell));
        self.cells.iter().filter(of_setting).map(|cell| cell.number)
    }

    /// Returns the steps to `matches`, which holds every match once for each setting.
    pub(super) fn matches(&self) -> Steps {
        let bound = |bound: Option<Instant>| {
            let instant = bound.map_or_else(|| "NULL".to_owned(), |at| TimeLiteral::nearest(at).to_string());
            format!("CAST({instant} AS TIMESTAMP WITH TIME ZONE)")
        };
        let row = |(number, (period, read)): (usize, &(Period, Range))| {
            format!("({number}, {}, {}, {})", Interval(*period), bound(read.from), bound(read.to))
        };
        let rows = self.settings.iter().enumerate().map(row);
        vec![
            values("settings (setting, period, read_from, read_to)", rows),
            step(include_str!("../../sql/grid_matches.sql")),
        ]
    }

    /// Returns the steps from the table `matched` to what each cell, whose windows are all of `shape`, finds with a trigger
    /// in `triggers`.
    pub(super) fn steps(&self, shape: WindowShape, triggers: Range) -> Result<Steps, askama::Error> {
        let windows = Windows::of_grid(shape);
        let (from, to) = TimeLiteral::bounds(triggers);
        let row = |cell: &GridCell| {
            let number = self.settings.iter().position(|known| *known == setting(cell)).unwrap_or_default();
            format!("({number}, {}, {})", cell.number, cell.window.threshold)
        };
        let most = match shape.kind {
            WindowKind::Sliding => SlidingGreatestCounts { from_last: &windows.backwards(None) }.render()?,
            WindowKind::Dedup | WindowKind::Tumbling => step(include_str!("../../sql/grid_window_most.sql")),
        };
        let mut steps = vec![values("cells (setting, cell, threshold)", self.cells.iter().map(row))];
        steps.extend(self.matches());
        steps.extend(windows.counted()?);
        steps.push(most);
        steps.push(step(include_str!("../../sql/grid_thresholds.sql")));
        steps.push(windows.bursts(Some("cell"))?);
        let peak_conditions = shape.peak_conditions("peak");
        let peak_column = if peak_conditions.is_empty() { "" } else { ",\n    max(count_in_window) AS peak" };
        steps.push(GridFindingsStep { peak_column, peak_conditions: &peak_conditions, from, to }.render()?);
        Ok(steps)
    }
}

fn setting(cell: &GridCell) -> (Period, Range) {
    (cell.window.period, cell.read)
}

/// A table of constant rows.
fn values(head: &str, rows: impl Iterator<Item = String>) -> String {
    format!("{head} AS (\n  VALUES\n    {}\n)", rows.collect::<Vec<_>>().join(",\n    "))
}
