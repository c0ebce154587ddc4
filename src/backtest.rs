//! Backtests: how many findings a rule would have had with other window settings.

use std::num::NonZeroU32;

use serde::Serialize;

use crate::engine::Engine;
use crate::error::Error;
use crate::hunt::grid::{GridFinding, GridHunt, GridHuntRequest, GridMatches, MatchesNeeded, hunt_grid};
use crate::rule::{Rule, Setting, Window};
use crate::table::Table;
use crate::time::{DAY, Instant, Range, SECOND};

pub mod budget;
pub mod comparison;
pub mod grid;
pub mod labels;
pub mod moves;
pub mod suggestion;

use grid::Grid;

/// The findings of a rule with each window of a grid and with its own window.
#[derive(Debug)]
pub struct Backtest {
    /// The rule.
    pub rule: Rule,
    /// The range of trigger times.
    pub range: Range,
    /// All computed cells: first those of the grid, then those needed for suggestions.
    pub cells: Vec<Cell>,
    /// The number of cells in the grid.
    pub grid_cells: usize,
    /// The windows that may be suggested: the rule's own kind and period with each threshold of the grid.
    pub candidates: Vec<Window>,
    /// The matches, their findings in each cell, and the scan statistics.
    pub hunt: GridHunt,
}

/// The windows to test.
#[derive(Debug, Clone, Copy)]
pub struct TestedWindows<'w> {
    /// The windows that are shown.
    pub grid: &'w Grid,
    /// Further windows.
    pub others: &'w [Window],
    /// The matches that reports need.
    pub matches: MatchesNeeded,
}

/// A setting and the statistics of its findings.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// The setting.
    pub setting: Setting,
    /// The statistics of its findings.
    pub stats: CellStatistics,
}

/// Statistics of the findings of one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CellStatistics {
    /// The number of findings.
    pub findings: usize,
    /// The number of events in the findings.
    pub events: usize,
    /// The number of groups with findings.
    pub groups: usize,
    /// The number of days (UTC) with a trigger.
    pub days: usize,
    /// The most findings triggered on one day.
    pub most_on_a_day: usize,
    /// The mean number of findings a week. `None` if the time span is unknown or shorter than a day.
    pub mean_a_week: Option<f64>,
    /// The median time from the first event to the trigger, in seconds. `None` without findings.
    pub median_seconds_to_trigger: Option<f64>,
}

impl Backtest {
    /// Runs `rule` over `table` with each of `windows`, for findings with a trigger in `range`.
    ///
    /// # Errors
    /// Those of [`hunt_grid`].
    pub async fn run(
        engine: &Engine,
        table: &dyn Table,
        rule: Rule,
        windows: TestedWindows<'_>,
        range: Range,
    ) -> Result<Backtest, Error> {
        let TestedWindows { grid, others, matches: needed } = windows;
        let mut settings = grid.settings(&rule);
        let grid_cells = settings.len();
        let own = rule.window;
        let with_threshold = |threshold: &NonZeroU32| Window { threshold: *threshold, ..own };
        let candidates: Vec<Window> = grid.thresholds.iter().map(with_threshold).collect();
        // With a threshold of one the report can show how large bursts are.
        let every_match = with_threshold(&NonZeroU32::MIN);
        for window in candidates.iter().chain(&[own, every_match]).chain(others) {
            let setting = Setting { window: *window, ..rule.setting() };
            if !settings.contains(&setting) {
                settings.push(setting);
            }
        }
        let request = GridHuntRequest { rule: &rule, cells: &settings, range, needed };
        let hunt = hunt_grid(engine, table, request).await?;
        let mut backtest = Backtest { rule, range, cells: Vec::new(), grid_cells, candidates, hunt };
        let days = backtest.days();
        let findings = settings.into_iter().zip(&backtest.hunt.findings);
        let cell = |(setting, found): (Setting, &Vec<GridFinding>)| {
            let stats = CellStatistics::new(&backtest.hunt.matches, found, days);
            Cell { setting, stats }
        };
        backtest.cells = findings.map(cell).collect();
        Ok(backtest)
    }

    /// Returns the cells of the grid.
    pub fn grid(&self) -> &[Cell] {
        &self.cells[..self.grid_cells]
    }

    /// Returns the index of the cell of `window`, with the rule's own times that decide which matches are new.
    pub fn position(&self, window: Window) -> Option<usize> {
        let setting = Setting { window, ..self.rule.setting() };
        self.cells.iter().position(|cell| cell.setting == setting)
    }

    /// Returns the index of the cell with the rule's present setting.
    pub fn present(&self) -> usize {
        self.position(self.rule.window).unwrap_or_default()
    }

    /// Returns the tested time span, half-open. Open ends of the range are those of the data or, if
    /// these are unknown, of the matches.
    pub fn span(&self) -> Option<(Instant, Instant)> {
        span(self.range, self.hunt.read.times.or(self.hunt.matches.span))
    }

    /// Returns the length in days of the part of [`Backtest::span`] from the first to the last UTC day with events. Means are
    /// over these days.
    pub fn days(&self) -> Option<f64> {
        let (from, to) = self.span()?;
        let read = &self.hunt.read;
        // Text skipped by the prefilter is not parsed, so its times are unknown.
        let are_times_known = read.objects.skipped_by_prefilter + read.records.skipped_by_prefilter == 0;
        let Some((first, last)) = read.times.filter(|_| are_times_known) else { return Some(days((from, to))) };
        let (first, end) = (first.rounded_down(DAY), last.rounded_down(DAY) + DAY);
        let with_data = (from.max(first), to.min(end));
        Some(if with_data.0 < with_data.1 { days(with_data) } else { 0.0 })
    }

    /// Returns the days of the span and those of [`Backtest::days`], if most of the span has no events.
    pub fn sparse_days(&self) -> Option<(f64, f64)> {
        let (all, with_data) = (days(self.span()?), self.days()?);
        (with_data < all / 2.0).then_some((all, with_data))
    }
}

/// Returns `range` as a half-open span. Its open ends are the earliest and the latest of `times`.
fn span(range: Range, times: Option<(Instant, Instant)>) -> Option<(Instant, Instant)> {
    let range = range.clamped();
    let from = range.from.or(times.map(|(first, _)| first))?;
    let to = range.to.or(times.map(|(_, last)| last + SECOND))?;
    (from < to).then_some((from, to))
}

/// Returns the length of a span in days.
#[expect(clippy::cast_precision_loss, reason = "a number of days, for a mean")]
fn days((from, to): (Instant, Instant)) -> f64 {
    (to - from) as f64 / DAY as f64
}

/// Returns whether a span of `days` is long enough for a mean. A few seconds of data say nothing about a week.
pub fn is_enough_for_means(days: f64) -> bool {
    days >= 1.0
}

/// Returns a number of days as text: `9.0 days`.
pub fn days_text(days: f64) -> String {
    if is_enough_for_means(days) { format!("{days:.1} days") } else { "less than a day".to_owned() }
}

impl CellStatistics {
    #[expect(clippy::cast_precision_loss, reason = "means of counts")]
    fn new(matches: &GridMatches, found: &[GridFinding], span_days: Option<f64>) -> CellStatistics {
        let mut days: Vec<i64> = found.iter().map(|found| matches.times[found.trigger].days()).collect();
        days.sort_unstable();
        let by_day = || days.chunk_by(|a, b| a == b);
        let seconds =
            |found: &GridFinding| (matches.times[found.trigger] - matches.times[found.first]) as f64 / SECOND as f64;
        CellStatistics {
            findings: found.len(),
            events: found.iter().map(|found| found.count).sum(),
            // Findings are sorted by group.
            groups: found.chunk_by(|a, b| matches.group_of[a.first] == matches.group_of[b.first]).count(),
            days: by_day().count(),
            most_on_a_day: by_day().map(<[i64]>::len).max().unwrap_or_default(),
            mean_a_week: span_days
                .filter(|days| is_enough_for_means(*days))
                .map(|days| found.len() as f64 * 7.0 / days),
            median_seconds_to_trigger: median(found.iter().map(seconds).collect()),
        }
    }
}

/// Returns the median; for an even number of values the mean of the two middle ones.
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
    fn the_median_of_an_even_number_of_values_is_the_mean_of_the_middle_two() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![3.0]), Some(3.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
