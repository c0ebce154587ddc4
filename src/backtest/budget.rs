//! The number of findings that a team can handle.

use std::fmt;
use std::str::FromStr;

/// The most findings per unit of time, as a mean: `1/day`, `10/week`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    findings: f64,
    unit: BudgetUnit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BudgetUnit {
    Day,
    Week,
    Month,
}

impl BudgetUnit {
    const ALL: [BudgetUnit; 3] = [BudgetUnit::Day, BudgetUnit::Week, BudgetUnit::Month];

    fn days(self) -> f64 {
        match self {
            BudgetUnit::Day => 1.0,
            BudgetUnit::Week => 7.0,
            BudgetUnit::Month => 30.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            BudgetUnit::Day => "day",
            BudgetUnit::Week => "week",
            BudgetUnit::Month => "month",
        }
    }
}

impl Budget {
    /// Returns whether `findings` in `days` are within the budget.
    #[expect(clippy::cast_precision_loss, reason = "a count of findings, for a mean")]
    pub fn admits(self, findings: usize, days: f64) -> bool {
        findings as f64 / days <= self.findings / self.unit.days()
    }

    /// Returns whether data of so many days suffice for a mean of this unit.
    pub fn is_covered_by(self, days: f64) -> bool {
        days >= self.unit.days()
    }

    /// Returns the mean of `findings` in `days` per unit of the budget: `1.50 a week`.
    #[expect(clippy::cast_precision_loss, reason = "a count of findings, for a mean")]
    pub fn mean(self, findings: usize, days: f64) -> String {
        format!("{:.2} a {}", findings as f64 / days * self.unit.days(), self.unit.name())
    }
}

/// The error for a text that is not a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected findings per day, week or month: `1/day`, `5/week` or `10/month`")]
pub struct BudgetError;

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Budget, BudgetError> {
        let (findings, unit) = text.split_once('/').ok_or(BudgetError)?;
        let unit = BudgetUnit::ALL.into_iter().find(|known| known.name() == unit.trim()).ok_or(BudgetError)?;
        let findings: f64 = findings.trim().parse().map_err(|_| BudgetError)?;
        if findings.is_finite() && findings >= 0.0 { Ok(Budget { findings, unit }) } else { Err(BudgetError) }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} a {}", self.findings, self.unit.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_limits_the_mean() {
        let budget: Budget = "1/week".parse().unwrap();
        assert!(budget.admits(2, 14.0) && !budget.admits(3, 14.0));
        assert_eq!((budget.to_string(), budget.mean(3, 14.0)), ("1 a week".to_owned(), "1.50 a week".to_owned()));
        for bad in ["", "1", "1/year", "-1/day", "x/day", "inf/day", "NaN/day"] {
            assert!(bad.parse::<Budget>().is_err(), "{bad}");
        }
    }
}
