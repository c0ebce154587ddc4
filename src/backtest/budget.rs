//! How many findings a team can look at.

use std::fmt;
use std::str::FromStr;

/// Findings in a length of time that may come in the mean: `1/day`, `10/week`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    findings: f64,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
}

impl Unit {
    const ALL: [Unit; 3] = [Unit::Day, Unit::Week, Unit::Month];

    fn days(self) -> f64 {
        match self {
            Unit::Day => 1.0,
            Unit::Week => 7.0,
            Unit::Month => 30.0,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Unit::Day => "day",
            Unit::Week => "week",
            Unit::Month => "month",
        }
    }
}

impl Budget {
    /// Whether so many findings in so many days are within it.
    #[expect(clippy::cast_precision_loss, reason = "a count of findings, for a mean")]
    pub fn admits(self, findings: usize, days: f64) -> bool {
        findings as f64 / days <= self.findings / self.unit.days()
    }

    /// So many findings in so many days as a mean of its unit.
    #[expect(clippy::cast_precision_loss, reason = "a count of findings, for a mean")]
    pub fn mean(self, findings: usize, days: f64) -> String {
        format!("{:.2} a {}", findings as f64 / days * self.unit.days(), self.unit.name())
    }
}

/// A text is not a [`Budget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of findings in a time: `1/day`, `5/week` or `10/month`")]
pub struct BudgetError;

impl FromStr for Budget {
    type Err = BudgetError;

    fn from_str(text: &str) -> Result<Budget, BudgetError> {
        let (findings, unit) = text.split_once('/').ok_or(BudgetError)?;
        let unit = Unit::ALL.into_iter().find(|known| known.name() == unit.trim()).ok_or(BudgetError)?;
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
    fn budgets_are_means() {
        let budget: Budget = "1/week".parse().unwrap();
        assert!(budget.admits(2, 14.0) && !budget.admits(3, 14.0));
        assert_eq!((budget.to_string(), budget.mean(3, 14.0)), ("1 a week".to_owned(), "1.50 a week".to_owned()));
        for bad in ["", "1", "1/year", "-1/day", "x/day", "inf/day", "NaN/day"] {
            assert!(bad.parse::<Budget>().is_err(), "{bad}");
        }
    }
}
