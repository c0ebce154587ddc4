//! Suggests thresholds and explains them.

use serde::Serialize;

use super::budget::Budget;
use super::labels::{Labelled, Score};
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
    /// The cell with the highest F1; `None` without labels, or if no cell has a true finding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_f1: Option<Suggestion>,
    /// The cell that catches all malicious labels with the fewest false findings; `None` without labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub all_caught: Option<Suggestion>,
}

impl Suggestions {
    /// Returns the suggested windows.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        self.iter().filter(|suggestion| suggestion.threshold.is_some()).map(|suggestion| suggestion.window)
    }

    /// Returns the suggestions.
    pub fn iter(&self) -> impl Iterator<Item = &Suggestion> {
        self.named().map(|(_, suggestion)| suggestion)
    }

    /// Returns the suggestions, each with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Suggestion)> {
        let named = [
            ("budget", &self.within_budget),
            ("knee", &self.knee),
            ("F1", &self.best_f1),
            ("labels", &self.all_caught),
        ];
        named.into_iter().filter_map(|(name, suggestion)| Some((name, suggestion.as_ref()?)))
    }

    /// Adds the suggestions from labels: of all cells of the grid, not only those with the rule's kind and period.
    #[must_use]
    pub fn with_labels(self, backtest: &Backtest, labelled: &Labelled) -> Suggestions {
        let score = |number: usize| labelled.score(&backtest.hunt.matches, &backtest.hunt.findings[number]);
        let scored: Vec<(&Cell, Score)> =
            backtest.grid().iter().enumerate().map(|(number, cell)| (cell, score(number))).collect();
        Suggestions { best_f1: best_f1(&scored), all_caught: all_caught(&scored), ..self }
    }

    /// Returns the suggestions for a backtest.
    pub fn of(backtest: &Backtest, budget: Option<Budget>) -> Suggestions {
        let own = backtest.rule.window;
        let cell = |window: &Window| Some(&backtest.cells[backtest.position(*window)?]);
        let cells: Vec<&Cell> = backtest.candidates.iter().filter_map(cell).collect();
        let within_budget = budget.map(|budget| within_budget(&cells, own, budget, backtest.days()));
        Suggestions { within_budget, knee: knee(&cells), best_f1: None, all_caught: None }
    }
}

fn suggest(cell: &Cell, reason: String) -> Suggestion {
    Suggestion { window: cell.setting.window, threshold: Some(cell.setting.window.threshold.get()), reason }
}

fn cell_text(cell: &Cell) -> String {
    let Window { kind, period, threshold } = cell.setting.window;
    format!("{threshold} within {period}, {kind} windows,")
}

fn percent(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "none".to_owned(), |ratio| format!("{:.0}%", ratio * 100.0))
}

/// Returns the cell with the highest F1. Of equal ones, the one with the fewest findings, then the first.
fn best_f1(scored: &[(&Cell, Score)]) -> Option<Suggestion> {
    let key = |(cell, score): &&(&Cell, Score)| (score.f1.unwrap_or_default(), std::cmp::Reverse(cell.stats.findings));
    let (cell, score) = scored
        .iter()
        .rev()
        .filter(|(_, score)| score.true_findings > 0)
        .max_by(|a, b| key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal))?;
    let [f1, precision, recall] = [score.f1, score.precision, score.recall].map(percent);
    let reason = format!("{} has the highest F1, {f1}: precision {precision}, recall {recall}", cell_text(cell));
    Some(suggest(cell, reason))
}

/// Returns the cell that catches all malicious labels with the fewest false findings. Of equal ones, the first.
fn all_caught(scored: &[(&Cell, Score)]) -> Option<Suggestion> {
    let (first, score) = scored.first()?;
    let labels = score.caught + score.missed.len();
    if labels == 0 {
        return None;
    }
    let all = number_of(labels, "malicious label");
    let catching = scored.iter().filter(|(_, score)| score.missed.is_empty());
    let Some((cell, score)) = catching.min_by_key(|(_, score)| score.false_findings) else {
        let most = scored.iter().map(|(_, score)| score.caught).max().unwrap_or_default();
        let reason = format!("no tested cell catches all {all}; the most is {most}");
        return Some(Suggestion { window: first.setting.window, threshold: None, reason });
    };
    let false_findings = number_of(score.false_findings, "false finding");
    let reason = format!("{} catches all {all} with the fewest false ones: {false_findings}", cell_text(cell));
    Some(suggest(cell, reason))
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
    fn labels_suggest_the_best_f1_and_the_cell_that_catches_all() {
        let cells = cells(&[9, 4, 3, 1]);
        let score = |true_findings: usize, false_findings: usize, caught: usize| {
            let ratio = |part: usize, whole: usize| f64::from(u32::try_from(part * 100 / whole).unwrap()) / 100.0;
            let (precision, recall) = (ratio(true_findings, true_findings + false_findings), ratio(caught, 3));
            let f1 = 2.0 * precision * recall / (precision + recall);
            let missed = (0..3 - caught as u64).collect();
            let (precision, recall, f1) = (Some(precision), Some(recall), Some(f1));
            Score { true_findings, false_findings, unlabelled: 0, caught, missed, precision, recall, f1 }
        };
        let scores = [score(3, 6, 3), score(3, 1, 3), score(2, 1, 2), score(1, 0, 1)];
        let cells: Vec<(&Cell, Score)> = cells.iter().zip(scores).collect();
        let (best, all) = (best_f1(&cells).unwrap(), all_caught(&cells).unwrap());
        assert_eq!((best.threshold, all.threshold), (Some(2), Some(2)));
        assert!(best.reason.contains("precision 75%, recall 100%"), "{}", best.reason);
        assert!(
            all.reason.contains("all 3 malicious labels") && all.reason.contains("1 false finding"),
            "{}",
            all.reason
        );
        let few = all_caught(&cells[2..]).unwrap();
        assert!(few.threshold.is_none() && few.reason.contains("the most is 2"), "{}", few.reason);
        assert_eq!((best_f1(&[]), all_caught(&[])), (None, None));
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
