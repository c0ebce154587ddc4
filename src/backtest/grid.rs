//! The parameter grid of a backtest.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::rule::{NewnessPeriods, Rule, Setting, Window, WindowKind};
use crate::text::printable;
use crate::time::{Period, PeriodError};

/// The most cells in a grid.
pub const MAX_CELLS: usize = 10_000;

/// A grid of settings: every combination of its kinds, periods, thresholds and times that decide which matches are new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// The window kinds.
    pub kinds: Vec<WindowKind>,
    /// The window periods.
    pub periods: Vec<Period>,
    /// The thresholds.
    pub thresholds: Vec<NonZeroU32>,
    /// The times that decide which matches are new. `None` counts all matches.
    pub newness: Vec<Option<NewnessPeriods>>,
}

impl Grid {
    /// Returns the settings of `rule`, ordered by kind, newness, period and threshold.
    pub fn settings(&self, rule: &Rule) -> Vec<Setting> {
        let mut settings = Vec::new();
        for kind in &self.kinds {
            for newness in &self.newness {
                for period in &self.periods {
                    for threshold in &self.thresholds {
                        let window = Window { kind: *kind, period: *period, threshold: *threshold };
                        settings.push(Setting { window, newness: *newness, ..rule.setting() });
                    }
                }
            }
        }
        settings
    }
}

/// A range of thresholds with both ends included: `1..10`, or `3` for a single one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thresholds {
    first: NonZeroU32,
    last: NonZeroU32,
}

impl Thresholds {
    /// Returns the distinct thresholds of `ranges` in ascending order, at most one more than [`MAX_CELLS`].
    pub fn distinct(ranges: &[Thresholds]) -> Vec<NonZeroU32> {
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        let mut thresholds: Vec<NonZeroU32> = Vec::new();
        for Thresholds { first, last } in ranges {
            // Ranges are sorted by their first threshold, so that later ones add only larger thresholds.
            let Some(next) = thresholds.last().map_or(Some(NonZeroU32::MIN), |seen| seen.checked_add(1)) else {
                break;
            };
            let left = MAX_CELLS + 1 - thresholds.len();
            thresholds.extend((first.max(next).get()..=last.get()).filter_map(NonZeroU32::new).take(left));
        }
        thresholds
    }
}

/// Returns the thresholds to try: those `given`, else `1..10,15,20` and that of the rule.
pub fn thresholds(given: &[Thresholds], own: NonZeroU32) -> Vec<NonZeroU32> {
    if !given.is_empty() {
        return Thresholds::distinct(given);
    }
    let usual = (1..=10).chain([15, 20]).filter_map(NonZeroU32::new);
    distinct(usual.chain([own]))
}

/// Returns the periods to try: those `given`, else 5m, 15m, 1h, 6h, 24h and that of the rule.
pub fn periods(given: &[Period], own: Period) -> Vec<Period> {
    if !given.is_empty() {
        return distinct(given.iter().copied());
    }
    let usual = [5, 15, 60, 360, 1_440].into_iter().filter_map(Period::from_minutes);
    distinct(usual.chain([own]))
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<BTreeSet<T>>().into_iter().collect()
}

/// Why a text is not a range of thresholds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdsError {
    /// It is neither a number nor a range.
    #[error("expected numbers from 1, or ranges of them: `1..10,15,20`")]
    Syntax,
    /// The range ends before it begins.
    #[error("the range `{}` ends before it begins", printable(.0))]
    Reversed(String),
    /// The range has more thresholds than a grid may have.
    #[error("the range `{}` has more than {MAX_CELLS} thresholds", printable(.0))]
    TooLong(String),
}

impl FromStr for Thresholds {
    type Err = ThresholdsError;

    fn from_str(text: &str) -> Result<Thresholds, ThresholdsError> {
        let number = |text: &str| {
            let number: Option<NonZeroU32> = text.trim().parse().ok();
            number.ok_or(ThresholdsError::Syntax)
        };
        let (first, last) = match text.split_once("..") {
            Some((first, last)) => (number(first)?, number(last.trim_start_matches('='))?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(ThresholdsError::Reversed(text.to_owned()));
        }
        if usize::try_from(last.get() - first.get()).is_ok_and(|steps| steps < MAX_CELLS) {
            return Ok(Thresholds { first, last });
        }
        Err(ThresholdsError::TooLong(text.to_owned()))
    }
}

/// The name of a cell on the command line: `3/15m`, or `3/15m/dedup` with a window kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellName {
    /// The threshold.
    pub threshold: NonZeroU32,
    /// The period.
    pub period: Period,
    /// The window kind; `None` for that of the rule.
    pub kind: Option<WindowKind>,
}

impl CellName {
    /// Returns the window. `default` is its kind if the name has none.
    pub fn window(self, default: WindowKind) -> Window {
        Window { kind: self.kind.unwrap_or(default), period: self.period, threshold: self.threshold }
    }
}

/// Why a text is not the name of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CellNameError {
    /// It does not have the parts of a name.
    #[error("expected a threshold, a period and maybe a window: `3/15m` or `3/15m/dedup`")]
    Parts,
    /// The period is invalid.
    #[error(transparent)]
    Period(#[from] PeriodError),
}

impl FromStr for CellName {
    type Err = CellNameError;

    fn from_str(text: &str) -> Result<CellName, CellNameError> {
        let wrong = || CellNameError::Parts;
        let mut parts = text.split('/');
        let threshold = parts.next().and_then(|text| text.parse().ok()).ok_or_else(wrong)?;
        let period = parts.next().ok_or_else(wrong)?.parse()?;
        let kind = match parts.next() {
            None => None,
            Some(name) => Some(WindowKind::ALL.into_iter().find(|kind| kind.to_string() == name).ok_or_else(wrong)?),
        };
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(CellName { threshold, period, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_thresholds_include_both_ends() {
        let numbers = |text: &str| {
            text.parse()
                .map(|range| Thresholds::distinct(&[range]).into_iter().map(NonZeroU32::get).collect::<Vec<_>>())
        };
        assert_eq!(numbers("7"), Ok(vec![7]));
        assert_eq!(numbers("2..4"), Ok(vec![2, 3, 4]));
        assert_eq!(numbers("2..=4"), Ok(vec![2, 3, 4]));
        for bad in ["", "0", "0..3", "4..2", "a", "1..", "..3", "1..4000000000", "-1", "1.5"] {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_setting_of_the_rule_is_among_the_usual_ones() {
        let minutes = |minutes| Period::from_minutes(minutes).unwrap();
        let number = |number: u32| NonZeroU32::new(number).unwrap();
        let tried = |own| thresholds(&[], number(own)).into_iter().map(NonZeroU32::get).collect::<Vec<_>>();
        assert_eq!(tried(3), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20]);
        assert_eq!(tried(50).last(), Some(&50));
        assert_eq!(periods(&[], minutes(10)), [5, 10, 15, 60, 360, 1_440].map(minutes));
        assert_eq!(periods(&[minutes(7), minutes(7)], minutes(10)), [minutes(7)]);
        assert_eq!(thresholds(&["4".parse().unwrap()], number(2)), [number(4)]);
    }

    #[test]
    fn overlapping_ranges_give_each_threshold_once() {
        let distinct = |ranges: &[&str]| {
            let ranges: Vec<Thresholds> = ranges.iter().map(|range| range.parse().unwrap()).collect();
            Thresholds::distinct(&ranges).into_iter().map(NonZeroU32::get).collect::<Vec<_>>()
        };
        assert_eq!(distinct(&["7", "2..4", "3..5", "2", "1..2"]), [1, 2, 3, 4, 5, 7]);
        assert_eq!(distinct(&["4294967295", "4294967294..4294967295"]), [4_294_967_294, 4_294_967_295]);
        assert_eq!(distinct(&["1..9000", "5000..14000", "20000"]).len(), MAX_CELLS + 1);
    }

    #[test]
    fn cells_are_named_by_threshold_period_and_window() {
        let window = |text: &str| text.parse().map(|cell: CellName| cell.window(WindowKind::Tumbling));
        let window_of = |kind| Window { kind, period: "15m".parse().unwrap(), threshold: 3.try_into().unwrap() };
        assert_eq!(window("3/15m"), Ok(window_of(WindowKind::Tumbling)));
        assert_eq!(window("3/900s/dedup"), Ok(window_of(WindowKind::Dedup)));
        for bad in ["", "3", "0/15m", "3/15", "3/15m/hopping", "3/15m/dedup/1"] {
            assert!(window(bad).is_err(), "{bad}");
        }
    }
}
