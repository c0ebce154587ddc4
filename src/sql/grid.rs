//! A parameter grid: the findings that a rule would have with each of many windows, from one list of its matches.

use std::num::NonZeroU32;

use askama::Template as _;
use serde::{Deserialize, Serialize};

use super::quote::{Interval, TimeLiteral};
use super::windows::{Steps, WindowShape, Windows, step};
use crate::rule::{NewnessPeriods, Setting, WindowKind};
use crate::time::{Instant, Period, Range};

/// A cell of a parameter grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GridCell {
    /// Its number in the grid.
    pub number: usize,
    /// The window, and the times that decide which matches are new.
    pub setting: Setting,
    /// The times that a hunt with this setting reads.
    pub read: Range,
    /// The times at which what was read decides whether a match counts.
    pub known: Range,
}

/// The part of a cell that decides its matches and their windows, without the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct MatchSetting {
    period: Period,
    read: Range,
    newness: Option<NewnessPeriods>,
    known: Range,
}

/// The cells of a grid, and the settings of their matches, each once and with a number.
pub struct ParameterGrid {
    settings: Vec<MatchSetting>,
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

    /// Returns the steps to `matches`, which holds every match that counts once for each setting.
    pub(super) fn matches(&self, shape: WindowShape) -> Result<Steps, askama::Error> {
        let bound = |bound: Option<Instant>| {
            let instant = bound.map_or_else(|| "NULL".to_owned(), |at| TimeLiteral::nearest(at).to_string());
            format!("CAST({instant} AS TIMESTAMP WITH TIME ZONE)")
        };
        let interval = |period: Option<Period>| {
            let interval = period.map_or_else(|| "NULL".to_owned(), |period| Interval(period).to_string());
            format!("CAST({interval} AS INTERVAL)")
        };
        let row = |(number, setting): (usize, &MatchSetting)| {
            let MatchSetting { period, read, newness, known } = *setting;
            let (history, learning) = (newness.map(|newness| newness.history), newness.and_then(|it| it.learning));
            format!(
                "({number}, {}, {}, {}, {}, {}, {}, {})",
                Interval(period),
                bound(read.from),
                bound(read.to),
                bound(known.from),
                bound(known.to),
                interval(history),
                interval(learning)
            )
        };
        let rows = self.settings.iter().enumerate().map(row);
        let selected = match shape.absence {
            Some(side) => Windows::of_grid(shape).lone_matches(side)?,
            None if shape.only_new => vec![step(include_str!("../../sql/grid_new_matches.sql"))],
            None => vec![step(include_str!("../../sql/grid_all_matches.sql"))],
        };
        let settings =
            values("settings (setting, period, read_from, read_to, known_from, known_to, history, learning)", rows);
        Ok([vec![settings, step(include_str!("../../sql/grid_matches.sql"))], selected].concat())
    }

    /// Returns the steps from the table `matched` to what each cell, whose windows are all of `shape`, finds with a trigger
    /// in `triggers`.
    pub(super) fn steps(&self, shape: WindowShape, triggers: Range) -> Result<Steps, askama::Error> {
        let windows = Windows::of_grid(shape);
        let (from, to) = TimeLiteral::bounds(triggers);
        let min_events = shape.min_events.unwrap_or(NonZeroU32::MIN);
        let row = |cell: &GridCell| {
            let number = self.settings.iter().position(|known| *known == setting(cell)).unwrap_or_default();
            format!("({number}, {}, {}, {min_events})", cell.number, cell.setting.window.threshold)
        };
        let most = match shape.kind {
            WindowKind::Sliding => SlidingGreatestCounts { from_last: &windows.backwards(None) }.render()?,
            WindowKind::Dedup | WindowKind::Tumbling => step(include_str!("../../sql/grid_window_most.sql")),
        };
        let mut steps = vec![values("cells (setting, cell, threshold, min_events)", self.cells.iter().map(row))];
        steps.extend(self.matches(shape)?);
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

fn setting(cell: &GridCell) -> MatchSetting {
    let GridCell { setting, read, known, .. } = *cell;
    MatchSetting { period: setting.window.period, read, newness: setting.newness, known }
}

/// A table of constant rows.
fn values(head: &str, rows: impl Iterator<Item = String>) -> String {
    format!("{head} AS (\n  VALUES\n    {}\n)", rows.collect::<Vec<_>>().join(",\n    "))
}
