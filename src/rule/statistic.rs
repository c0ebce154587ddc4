//! Statistics of the numbers in a window, and conditions on them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::raw::json;

/// The parts of one in which numbers are compared.
pub const PARTS_OF_ONE: i64 = 1_000_000;

/// A statistic of the numbers in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Statistic {
    /// Their sum, divided by how many there are.
    Average,
    /// The percentile 50.
    Median,
    /// The number with this percentage of them below it, from 0 to 100. Between two of them it is interpolated linearly.
    Percentile(u8),
}

impl Statistic {
    /// Returns the percentage of a percentile. `None` for an average.
    pub fn percentage(self) -> Option<u8> {
        match self {
            Statistic::Average => None,
            Statistic::Median => Some(50),
            Statistic::Percentile(percentage) => Some(percentage),
        }
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statistic::Average => f.write_str("average"),
            Statistic::Median => f.write_str("median"),
            Statistic::Percentile(percentage) => write!(f, "percentile {percentage}"),
        }
    }
}

/// A limit of a statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatisticLimit {
    /// The comparison that holds.
    pub relation: LimitRelation,
    /// The number to compare with, in millionths.
    pub parts: i64,
}

/// How a statistic compares with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum LimitRelation {
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
}

impl LimitRelation {
    /// All relations.
    pub const ALL: [LimitRelation; 6] = [
        LimitRelation::Greater,
        LimitRelation::GreaterOrEqual,
        LimitRelation::Less,
        LimitRelation::LessOrEqual,
        LimitRelation::Equal,
        LimitRelation::NotEqual,
    ];

    /// Returns its sign in SQL.
    pub fn sign(self) -> &'static str {
        match self {
            LimitRelation::Greater => ">",
            LimitRelation::GreaterOrEqual => ">=",
            LimitRelation::Less => "<",
            LimitRelation::LessOrEqual => "<=",
            LimitRelation::Equal => "=",
            LimitRelation::NotEqual => "<>",
        }
    }

    fn holds(self, order: Ordering) -> bool {
        match self {
            LimitRelation::Greater => order == Ordering::Greater,
            LimitRelation::GreaterOrEqual => order != Ordering::Less,
            LimitRelation::Less => order == Ordering::Less,
            LimitRelation::LessOrEqual => order != Ordering::Greater,
            LimitRelation::Equal => order == Ordering::Equal,
            LimitRelation::NotEqual => order != Ordering::Equal,
        }
    }
}

impl StatisticLimit {
    /// Returns the limit with a number, given as JSON text. `None` if the text is not a number, has more than six decimals, or is
    /// beyond about nine million millions.
    pub fn new(relation: LimitRelation, number: &str) -> Option<StatisticLimit> {
        let number = json::number(number)?;
        let digits = number.strip_prefix('-').unwrap_or(&number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_exact = fraction.len() <= 6 && fraction.bytes().all(|digit| digit.is_ascii_digit());
        let fraction = is_exact.then(|| format!("{fraction:0<6}").parse::<i64>().ok()).flatten()?;
        let parts = whole.parse::<i64>().ok()?.checked_mul(PARTS_OF_ONE)?.checked_add(fraction)?;
        Some(StatisticLimit { relation, parts: if digits.len() < number.len() { -parts } else { parts } })
    }
}

impl fmt::Display for StatisticLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (parts, one) = (self.parts.unsigned_abs(), PARTS_OF_ONE.unsigned_abs());
        let sign = if self.parts < 0 { "-" } else { "" };
        let number = format!("{sign}{}.{:06}", parts / one, parts % one);
        write!(f, "{} {}", self.relation.sign(), number.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The most limits of one statistic.
const MOST_LIMITS: usize = LimitRelation::ALL.len();

/// A statistic and its limits, which must all hold. As text: `percentile 95 > 500 and <= 800`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatisticCondition {
    /// The statistic.
    pub statistic: Statistic,
    limits: [Option<StatisticLimit>; MOST_LIMITS],
}

impl StatisticCondition {
    /// Returns the condition with these limits. `None` if there is no limit, or too many.
    pub fn new(statistic: Statistic, limits: &[StatisticLimit]) -> Option<StatisticCondition> {
        if limits.is_empty() || limits.len() > MOST_LIMITS {
            return None;
        }
        let mut all = [None; MOST_LIMITS];
        all.iter_mut().zip(limits).for_each(|(place, limit)| *place = Some(*limit));
        Some(StatisticCondition { statistic, limits: all })
    }

    /// Returns whether `numerator / denominator` millionths are within all limits. The denominator is positive.
    pub fn holds(&self, numerator: i128, denominator: i128) -> bool {
        let is_within = |limit: &StatisticLimit| {
            limit.relation.holds(numerator.cmp(&i128::from(limit.parts).saturating_mul(denominator)))
        };
        self.limits.iter().flatten().all(is_within)
    }

    /// Returns whether some number is within all limits.
    pub fn is_satisfiable(&self) -> bool {
        // Between two limits there may be only numbers with more than six decimals.
        let limits = self.limits.iter().flatten().map(|limit| i128::from(limit.parts) * 2);
        limits.flat_map(|twice| [twice - 1, twice, twice + 1]).any(|twice| self.holds(twice, 2))
    }

    /// Returns the condition on a field: `average of a.b > 500`.
    pub fn of(&self, field: &dyn fmt::Display) -> String {
        format!("{} of {field} {}", self.statistic, self.limits_text())
    }

    fn limits_text(&self) -> String {
        let limits: Vec<String> = self.limits.iter().flatten().map(ToString::to_string).collect();
        limits.join(" and ")
    }
}

impl fmt::Display for StatisticCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.statistic, self.limits_text())
    }
}

/// A text could not be parsed as a condition on a statistic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a statistic and its limits are written as `average > 500 and <= 800`")]
pub struct StatisticConditionError;

impl FromStr for StatisticCondition {
    type Err = StatisticConditionError;

    fn from_str(text: &str) -> Result<StatisticCondition, StatisticConditionError> {
        let (name, rest) = text.split_once(' ').ok_or(StatisticConditionError)?;
        let (statistic, limits) = match name {
            "average" => (Statistic::Average, rest),
            "median" => (Statistic::Median, rest),
            "percentile" => {
                let (percentage, limits) = rest.split_once(' ').ok_or(StatisticConditionError)?;
                let percentage = percentage.parse().ok().filter(|percentage| *percentage <= 100);
                (Statistic::Percentile(percentage.ok_or(StatisticConditionError)?), limits)
            }
            _ => return Err(StatisticConditionError),
        };
        let limit = |text: &str| {
            let (sign, number) = text.split_once(' ')?;
            let relation = LimitRelation::ALL.into_iter().find(|relation| relation.sign() == sign)?;
            StatisticLimit::new(relation, number)
        };
        let limits: Option<Vec<StatisticLimit>> = limits.split(" and ").map(limit).collect();
        limits.and_then(|limits| StatisticCondition::new(statistic, &limits)).ok_or(StatisticConditionError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_written() {
        for text in [
            "average > 500",
            "median >= -0.5 and < 7.000001",
            "percentile 95 <> 0 and <= 9000000000000",
            "percentile 0 = 1",
        ] {
            assert_eq!(text.parse::<StatisticCondition>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "average",
            "mean > 5",
            "average > x",
            "percentile > 5",
            "percentile 101 > 5",
            "average > 1.0000001",
            "average ! 5",
        ] {
            assert_eq!(text.parse::<StatisticCondition>(), Err(StatisticConditionError), "{text}");
        }
        let condition: StatisticCondition = "average > 1e3".parse().unwrap();
        assert_eq!(condition.of(&"a.b"), "average of a.b > 1000");
    }

    #[test]
    fn limits_are_exact_and_may_exclude_each_other() {
        let holds = |text: &str, numerator, denominator| {
            text.parse::<StatisticCondition>().unwrap().holds(numerator, denominator)
        };
        let third = 1_000_000_000_000_i128;
        assert!(holds("average > 500", 500_000_000 * third + 1, third), "the least bit more");
        assert!(!holds("average > 500", 500_000_000 * third, third));
        assert!(holds("average <= 500 and >= 500", 500_000_000, 1));
        assert!(!holds("average <> 500", 1_000_000_000, 2));
        assert!(holds("average < -0.5", -500_001, 1));
        for (text, is_satisfiable) in [
            ("average > 5 and < 5", false),
            ("average > 5 and <= 5", false),
            ("average = 5 and <> 5", false),
            ("average >= 5 and <= 5", true),
            ("average > 5 and < 5.000001", true),
            ("average <> 5", true),
        ] {
            assert_eq!(text.parse::<StatisticCondition>().unwrap().is_satisfiable(), is_satisfiable, "{text}");
        }
    }
}
