//! What a rule would have found with other windows, and what that would have cost.

use std::num::NonZeroU32;

use serde::Serialize;

use crate::engine::Resources;
use crate::error::Error;
use crate::hunt::sweep::{self, Found, Matches, Sweep};
use crate::rule::{Rule, Window};
use crate::table::Table;
use crate::time::{DAY, Range, SECOND};

pub mod budget;
pub mod comparison;
pub mod grid;
pub mod labels;
pub mod moves;
pub mod suggestion;

use grid::Grid;

/// A rule's findings with the windows of a grid, and with its own.
#[derive(Debug)]
pub struct Backtest {
    /// The rule.
    pub rule: Rule,
    /// In which findings lie, by their trigger.
    pub range: Range,
    /// All cells that were computed: those of the grid first, then those that suggestions are made of.
    pub cells: Vec<Cell>,
    /// How many of them are the grid's.
    pub shown: usize,
    /// The windows of the rule's own kind and period with the thresholds of the grid: those that may be suggested.
    pub row: Vec<Window>,
    /// The matches, and what was read.
    pub sweep: Sweep,
}

/// Which windows to try.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'w> {
    /// Those that are shown.
    pub grid: &'w Grid,
    /// More of them.
    pub windows: &'w [Window],
}

/// One window and what it finds.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The window.
    pub window: Window,
    /// What it finds, in numbers.
    pub stats: Stats,
}

/// Findings in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Stats {
    /// How many there are.
    pub findings: usize,
    /// The events in them.
    pub events: usize,
    /// The groups that have any.
    pub groups: usize,
    /// The days (UTC) on which any was triggered.
    pub days: usize,
    /// The most that were triggered on one day.
    pub most_on_a_day: usize,
    /// The mean of a week of the time that was looked at; absent where that is not known, or less than a day.
    pub mean_a_week: Option<f64>,
    /// The median time from the first event to the trigger, in seconds; absent where there are no findings.
    pub median_seconds_to_trigger: Option<f64>,
}

impl Backtest {
    /// Runs `rule` over `data` with each window of `grid`, for findings with a trigger in `range`.
    ///
    /// # Errors
    /// As of [`sweep::sweep`].
    pub async fn run(
        resources: &Resources,
        table: &dyn Table,
        rule: Rule,
        wanted: Wanted<'_>,
        range: Range,
    ) -> Result<Backtest, Error> {
        let mut windows = wanted.grid.windows();
        let shown = windows.len();
        let own = rule.window;
        let of_own = |threshold: &NonZeroU32| Window { threshold: *threshold, ..own };
        let row: Vec<Window> = wanted.grid.thresholds.iter().map(of_own).collect();
        let every_match = Window { threshold: NonZeroU32::MIN, ..own };
        for window in row.iter().chain(&[own, every_match]).chain(wanted.windows) {
            if !windows.contains(window) {
                windows.push(*window);
            }
        }
        let sweep = sweep::sweep(resources, table, &rule, &windows, range).await?;
        let mut backtest = Backtest { rule, range, cells: Vec::new(), shown, row, sweep };
        let days = backtest.days();
        for (window, found) in windows.into_iter().zip(&backtest.sweep.found) {
            backtest.cells.push(Cell { window, stats: Stats::of(&backtest.sweep.matches, found, days) });
        }
        Ok(backtest)
    }

    /// The grid's cells.
    pub fn grid(&self) -> &[Cell] {
        &self.cells[..self.shown]
    }

    /// The number of the cell of a window.
    pub fn position(&self, window: Window) -> Option<usize> {
        self.cells.iter().position(|cell| cell.window == window)
    }

    /// The number of the cell that is the rule's present setting.
    pub fn present(&self) -> usize {
        self.position(self.rule.window).unwrap_or_default()
    }

    /// What was looked at: the range, its open ends being those of the data, else of the matches. Half-open.
    pub fn span(&self) -> Option<(i64, i64)> {
        let times = &self.sweep.matches.times;
        span(self.range, self.sweep.read.times.or_else(|| times.iter().min().copied().zip(times.iter().max().copied())))
    }

    /// How many days that is; a fraction of one where it is shorter.
    pub fn days(&self) -> Option<f64> {
        self.span().map(days)
    }
}

/// A range, its open ends being those of data with these earliest and latest times. Half-open.
fn span(range: Range, times: Option<(i64, i64)>) -> Option<(i64, i64)> {
    let range = range.clamped();
    let from = range.from.or(times.map(|(first, _)| first))?;
    let to = range.to.or(times.map(|(_, last)| last + SECOND))?;
    (from < to).then_some((from, to))
}

/// The days in a span.
#[expect(clippy::cast_precision_loss, reason = "a number of days, for a mean")]
fn days((from, to): (i64, i64)) -> f64 {
    (to - from) as f64 / DAY as f64
}

/// Whether so many days tell how many findings come in the mean. What a few seconds hold tells nothing of a week.
pub fn tells_means(days: f64) -> bool {
    days >= 1.0
}

/// So many days in words.
pub fn length(days: f64) -> String {
    if tells_means(days) { format!("{days:.1} days") } else { "less than a day".to_owned() }
}

/// The number of the day, since the epoch, on which a finding was triggered.
pub fn day_of(matches: &Matches, found: &Found) -> i64 {
    matches.times[found.trigger].div_euclid(DAY)
}

impl Stats {
    #[expect(clippy::cast_precision_loss, reason = "means of counts")]
    fn of(matches: &Matches, found: &[Found], span: Option<f64>) -> Stats {
        let mut days: Vec<i64> = found.iter().map(|found| day_of(matches, found)).collect();
        days.sort_unstable();
        let runs = || days.chunk_by(|a, b| a == b);
        let seconds =
            |found: &Found| (matches.times[found.trigger] - matches.times[found.first]) as f64 / SECOND as f64;
        Stats {
            findings: found.len(),
            events: found.iter().map(|found| found.count).sum(),
            // Findings are in the order of their groups.
            groups: found.chunk_by(|a, b| matches.group_of[a.first] == matches.group_of[b.first]).count(),
            days: runs().count(),
            most_on_a_day: runs().map(<[i64]>::len).max().unwrap_or_default(),
            mean_a_week: span.filter(|days| tells_means(*days)).map(|days| found.len() as f64 * 7.0 / days),
            median_seconds_to_trigger: median(found.iter().map(seconds).collect()),
        }
    }
}

/// The median: of an even number of values the mean of the middle two.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
