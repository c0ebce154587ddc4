//! Which threshold might serve, and why. Nothing here changes a rule.

use serde::Serialize;

use super::budget::Budget;
use super::{Backtest, Cell, length, tells_means};
use crate::rule::Window;
use crate::statistics::number_of;

/// A threshold, with the reason in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestion {
    /// The window that is suggested; it differs from the rule's own in the threshold only.
    #[serde(skip)]
    pub window: Window,
    /// The threshold; absent where none does.
    pub threshold: Option<u32>,
    /// Why.
    pub reason: String,
}

/// What may be suggested for a rule's own kind and period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Suggestions {
    /// The lowest threshold within the budget, where one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_budget: Option<Suggestion>,
    /// The threshold at which the curve of findings bends most; absent where it does not bend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knee: Option<Suggestion>,
}

impl Suggestions {
    /// The windows that are suggested.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        let suggestions = [&self.within_budget, &self.knee].into_iter().flatten();
        suggestions.filter(|suggestion| suggestion.threshold.is_some()).map(|suggestion| suggestion.window)
    }

    /// What the cells of a backtest suggest.
    pub fn of(backtest: &Backtest, budget: Option<Budget>) -> Suggestions {
        let own = backtest.rule.window;
        let of_window = |window: &Window| Some(&backtest.cells[backtest.position(*window)?]);
        let row: Vec<&Cell> = backtest.row.iter().filter_map(of_window).collect();
        Suggestions { within_budget: budget.map(|budget| within(&row, own, budget, backtest.days())), knee: knee(&row) }
    }
}

fn suggest(cell: &Cell, reason: String) -> Suggestion {
    Suggestion { window: cell.window, threshold: Some(cell.window.threshold.get()), reason }
}

fn counted(findings: usize) -> String {
    number_of(findings, "finding")
}

fn within(row: &[&Cell], own: Window, budget: Budget, days: Option<f64>) -> Suggestion {
    let none = |reason: String| Suggestion { window: own, threshold: None, reason };
    let Some(days) = days else {
        return none("nothing tells how long a time the data span; give `--from` and `--to`".to_owned());
    };
    if !tells_means(days) {
        return none(format!("what was looked at is {}, too short a time for a mean", length(days)));
    }
    let told = |cell: &Cell| {
        let findings = cell.stats.findings;
        format!("{} in {}, {}", counted(findings), length(days), budget.mean(findings, days))
    };
    match row.iter().position(|cell| budget.admits(cell.stats.findings, days)) {
        None => {
            let last = row.last().map(|cell| format!(": {} gives {}", cell.window.threshold, told(cell)));
            none(format!("no threshold that was tried stays within {budget}{}", last.unwrap_or_default()))
        }
        Some(place) => {
            let cell = row[place];
            let before = place
                .checked_sub(1)
                .map(|place| format!("; {} would give {}", row[place].window.threshold, told(row[place])));
            let threshold = cell.window.threshold;
            suggest(
                cell,
                format!(
                    "{threshold} is the lowest threshold that was tried within {budget}: {}{}",
                    told(cell),
                    before.unwrap_or_default()
                ),
            )
        }
    }
}

/// A curve that bends less than this is a straight line.
const STRAIGHT: f64 = 1e-9;

/// The threshold at which the curve lies deepest below the straight line between its ends.
#[expect(clippy::cast_precision_loss, reason = "a curve of counts")]
fn knee(row: &[&Cell]) -> Option<Suggestion> {
    let (first, last) = (row.first()?, row.last()?);
    let point = |cell: &Cell| (f64::from(cell.window.threshold.get()), cell.stats.findings as f64);
    let ((left, top), (right, bottom)) = (point(first), point(last));
    if top <= bottom || left >= right {
        return None;
    }
    let below = |cell: &Cell| {
        let (x, y) = point(cell);
        1.0 - (x - left) / (right - left) - (y - bottom) / (top - bottom)
    };
    let mut best = *first;
    // A threshold that nothing reaches would switch the rule off.
    for cell in row.iter().filter(|cell| cell.stats.findings > 0) {
        if below(cell) > below(best) + STRAIGHT {
            best = cell;
        }
    }
    (below(best) > STRAIGHT).then(|| {
        suggest(
            best,
            format!(
                "the curve bends most at {}: from {} at {} down to {}, and only to {} at {}",
                best.window.threshold,
                counted(first.stats.findings),
                first.window.threshold,
                best.stats.findings,
                last.stats.findings,
                last.window.threshold
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backtest::Stats;
    use crate::rule::WindowKind;

    fn row(findings: &[usize]) -> Vec<Cell> {
        let cell = |(number, findings): (usize, &usize)| Cell {
            window: Window {
                kind: WindowKind::Sliding,
                period: crate::time::Period::HOUR,
                threshold: u32::try_from(number + 1).unwrap().try_into().unwrap(),
            },
            stats: Stats {
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
        knee(&row(findings).iter().collect::<Vec<_>>()).and_then(|suggestion| suggestion.threshold)
    }

    #[test]
    fn the_knee_is_where_the_curve_bends() {
        assert_eq!(knee_of(&[100, 20, 15, 12, 10]), Some(2));
        assert_eq!(knee_of(&[100, 90, 20, 18, 17, 16]), Some(3));
        // Where nothing is found, a rule is switched off.
        assert_eq!(knee_of(&[13, 3, 0, 0, 0]), Some(2));
        assert_eq!(knee_of(&[13, 0, 0, 0]), None);
        for straight in [&[40, 30, 20, 10][..], &[5, 5, 5], &[0, 0], &[7], &[]] {
            assert_eq!(knee_of(straight), None, "{straight:?}");
        }
    }

    #[test]
    fn the_budget_takes_the_lowest_that_fits_and_says_why() {
        let cells = row(&[60, 31, 30, 2]);
        let cells: Vec<&Cell> = cells.iter().collect();
        let own = cells[0].window;
        let within = |budget: &str, days| within(&cells, own, budget.parse().unwrap(), days);
        let suggestion = within("1/day", Some(30.0));
        assert_eq!(suggestion.threshold, Some(3));
        assert_eq!(
            suggestion.reason,
            "3 is the lowest threshold that was tried within 1 a day: 30 findings in 30.0 days, 1.00 a day; \
             2 would give 31 findings in 30.0 days, 1.03 a day"
        );
        assert_eq!(within("0/day", Some(30.0)).threshold, None);
        assert_eq!(within("1/day", None).threshold, None);
        assert_eq!(within("1000000/day", Some(0.9)).threshold, None);
    }
}
