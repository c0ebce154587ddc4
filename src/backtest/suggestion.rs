//! Suggests thresholds and explains them.

use serde::Serialize;

use super::budget::Budget;
use super::{Backtest, Cell, days_text, is_enough_for_means};
use crate::rule::Window;
use crate::statistics::number_of;

/// A suggested threshold and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The suggested window: the rule's own with another threshold.
    #[serde(skip)]
    pub window: Window,
    /// The threshold; `None` if no threshold fits.
    pub threshold: Option<u32>,
    /// The reason.
    pub reason: String,
}

/// The suggestions for a rule, whose window keeps its kind and period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestions {
    /// The lowest threshold within the budget; `None` without a budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_budget: Option<Suggestion>,
    /// The threshold at which the curve of findings bends most; `None` if it is straight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knee: Option<Suggestion>,
}

impl Suggestions {
    /// Returns the suggested windows.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        let suggestions = [&self.within_budget, &self.knee].into_iter().flatten();
        suggestions.filter(|suggestion| suggestion.threshold.is_some()).map(|suggestion| suggestion.window)
    }

    /// Returns the suggestions for a backtest.
    pub fn of(backtest: &Backtest, budget: Option<Budget>) -> Suggestions {
        let own = backtest.rule.window;
        let cell = |window: &Window| Some(&backtest.cells[backtest.position(*window)?]);
        let cells: Vec<&Cell> = backtest.candidates.iter().filter_map(cell).collect();
        let within_budget = budget.map(|budget| within_budget(&cells, own, budget, backtest.days()));
        Suggestions { within_budget, knee: knee(&cells) }
    }
}

fn suggest(cell: &Cell, reason: String) -> Suggestion {
    Suggestion { window: cell.setting.window, threshold: Some(cell.setting.window.threshold.get()), reason }
}

/// Returns the lowest threshold of `cells` within `budget`. Cells are sorted by threshold.
fn within_budget(cells: &[&Cell], own: Window, budget: Budget, days: Option<f64>) -> Suggestion {
    let none = |reason: String| Suggestion { window: own, threshold: None, reason };
    let Some(days) = days else {
        return none("the time span of the data is unknown; set `--from` and `--to`".to_owned());
    };
    if !is_enough_for_means(days) {
        return none(format!("the time span is {}, too short for a mean", days_text(days)));
    }
    let count = |cell: &Cell| {
        let findings = cell.stats.findings;
        format!("{} in {}, {}", number_of(findings, "finding"), days_text(days), budget.mean(findings, days))
    };
    let first_within = cells.iter().position(|cell| budget.admits(cell.stats.findings, days));
    let (over, within) = cells.split_at(first_within.unwrap_or(cells.len()));
    match within {
        [] => {
            let last = over.last().map(|cell| format!(": {} gives {}", cell.setting.window.threshold, count(cell)));
            none(format!("no tested threshold stays within {budget}{}", last.unwrap_or_default()))
        }
        [cell, ..] => {
            let lower =
                over.last().map(|cell| format!("; {} would give {}", cell.setting.window.threshold, count(cell)));
            let (threshold, lower) = (cell.setting.window.threshold, lower.unwrap_or_default());
            let reason = format!("{threshold} is the lowest tested threshold within {budget}: {}{lower}", count(cell));
            suggest(cell, reason)
        }
    }
}

/// A curve with a smaller bend is straight.
const MIN_BEND: f64 = 1e-9;

/// Returns the threshold at which the curve lies deepest below the straight line between its ends.
#[expect(clippy::cast_precision_loss, reason = "a curve of counts")]
fn knee(cells: &[&Cell]) -> Option<Suggestion> {
    let (first, last) = (cells.first()?, cells.last()?);
    let point = |cell: &Cell| (f64::from(cell.setting.window.threshold.get()), cell.stats.findings as f64);
    let ((left, top), (right, bottom)) = (point(first), point(last));
    if top <= bottom || left >= right {
        return None;
    }
    let depth = |cell: &Cell| {
        let (x, y) = point(cell);
        1.0 - (x - left) / (right - left) - (y - bottom) / (top - bottom)
    };
    let mut best = *first;
    // A threshold without findings would switch the rule off.
    for cell in cells.iter().filter(|cell| cell.stats.findings > 0) {
        if depth(cell) > depth(best) + MIN_BEND {
            best = cell;
        }
    }
    (depth(best) > MIN_BEND).then(|| {
        suggest(
            best,
            format!(
                "the curve bends most at {}: from {} at {} down to {}, and only to {} at {}",
                best.setting.window.threshold,
                number_of(first.stats.findings, "finding"),
                first.setting.window.threshold,
                best.stats.findings,
                last.stats.findings,
                last.setting.window.threshold
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::CellStatistics;
    use crate::rule::{Setting, WindowKind};

    fn cells(findings: &[usize]) -> Vec<Cell> {
        let cell = |(number, findings): (usize, &usize)| Cell {
            setting: Setting {
                window: Window {
                    kind: WindowKind::Sliding,
                    period: crate::time::Period::HOUR,
                    threshold: u32::try_from(number + 1).unwrap().try_into().unwrap(),
                },
                newness: None,
                absence: None,
            },
            stats: CellStatistics {
                findings: *findings,
                events: 0,
                groups: 0,
                days: 0,
                most_on_a_day: 0,
                mean_a_week: None,
                median_seconds_to_trigger: None,
            },
        };
        findings.iter().enumerate().map(cell).collect()
    }

    fn knee_of(findings: &[usize]) -> Option<u32> {
        knee(&cells(findings).iter().collect::<Vec<_>>()).and_then(|suggestion| suggestion.threshold)
    }

    #[test]
    fn the_knee_is_where_the_curve_bends() {
        assert_eq!(knee_of(&[100, 20, 15, 12, 10]), Some(2));
        assert_eq!(knee_of(&[100, 90, 20, 18, 17, 16]), Some(3));
        // Thresholds without findings are not suggested.
        assert_eq!(knee_of(&[13, 3, 0, 0, 0]), Some(2));
        assert_eq!(knee_of(&[13, 0, 0, 0]), None);
        for straight in [&[40, 30, 20, 10][..], &[5, 5, 5], &[0, 0], &[7], &[]] {
            assert_eq!(knee_of(straight), None, "{straight:?}");
        }
    }

    #[test]
    fn the_lowest_threshold_within_the_budget_is_suggested_with_its_reason() {
        let cells = cells(&[60, 31, 30, 2]);
        let cells: Vec<&Cell> = cells.iter().collect();
        let own = cells[0].setting.window;
        let within = |budget: &str, days| within_budget(&cells, own, budget.parse().unwrap(), days);
        let suggestion = within("1/day", Some(30.0));
        assert_eq!(suggestion.threshold, Some(3));
        assert_eq!(
            suggestion.reason,
            "3 is the lowest tested threshold within 1 a day: 30 findings in 30.0 days, 1.00 a day; \
             2 would give 31 findings in 30.0 days, 1.03 a day"
        );
        assert_eq!(within("0/day", Some(30.0)).threshold, None);
        assert_eq!(within("1/day", None).threshold, None);
        assert_eq!(within("1000000/day", Some(0.9)).threshold, None);
    }
}
