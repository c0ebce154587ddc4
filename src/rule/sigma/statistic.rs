//! Conditions of correlations on the average, the median or a percentile of numbers.

use rsigma_parser::CorrelationType;

use super::Refusal;
use super::shape::{Checked, Wrong, invalid, unsupported};
use crate::error::RuleErrorKind;
use crate::rule::statistic::{LimitRelation, Statistic, StatisticCondition, StatisticLimit};
use crate::rule::yaml::{YamlContent, YamlNode};

/// The operators of conditions, in the order of [`LimitRelation::ALL`].
pub(super) const OPERATORS: [&str; 6] = ["gt", "gte", "lt", "lte", "eq", "neq"];

/// Returns whether a section `correlation` compares a statistic.
pub(super) fn is_compared(correlation: &YamlNode) -> bool {
    let kind = correlation.member("type").and_then(YamlNode::as_text).and_then(|kind| kind.parse().ok());
    matches!(kind, Some(CorrelationType::ValueAvg | CorrelationType::ValueMedian | CorrelationType::ValuePercentile))
}

/// Returns the condition in a section `correlation` that compares a statistic.
pub(super) fn condition(correlation: &YamlNode) -> Result<StatisticCondition, Refusal> {
    read(correlation).map_err(|wrong| {
        let first = wrong.into_iter().next().map(|(kind, _, reason)| Refusal { kind, ..Refusal::new(reason) });
        first.unwrap_or_else(|| Refusal::new("its condition cannot be read"))
    })
}

/// Returns what is wrong with the condition in a section `correlation` that compares a statistic.
pub(super) fn check(correlation: &YamlNode) -> Checked {
    read(correlation).err().unwrap_or_default()
}

fn read(correlation: &YamlNode) -> Result<StatisticCondition, Checked> {
    let Some(condition) = correlation.member("condition") else {
        return Err(invalid(correlation.mark, "`condition` is missing"));
    };
    if !matches!(condition.content, YamlContent::Map(_)) {
        return Err(invalid(condition.mark, "the condition needs a `field` and a number: `{field: bytes, gt: 500}`"));
    }
    let percentage = condition.member("percentile");
    let statistic = match correlation.member("type").and_then(YamlNode::as_text) {
        Some("value_percentile") => {
            let Some(node) = percentage else {
                let reason =
                    "`value_percentile` without `percentile` is about how rare a value is, which is not hunted";
                let advice = "write `percentile: 95` into the condition for a percentile of numbers";
                return Err(unsupported(condition.mark, format!("{reason}: {advice}")));
            };
            let number = node.as_text().and_then(|text| text.parse::<u8>().ok()).filter(|number| *number <= 100);
            Statistic::Percentile(
                number.ok_or_else(|| invalid(node.mark, "`percentile` must be a whole number from 0 to 100"))?,
            )
        }
        Some("value_median") => Statistic::Median,
        _ => Statistic::Average,
    };
    let (mut limits, mut wrong) = (Vec::new(), Vec::<Wrong>::new());
    for (operator, relation) in OPERATORS.iter().zip(LimitRelation::ALL) {
        let Some(node) = condition.member(operator) else {
            continue;
        };
        match node.as_text().and_then(|number| StatisticLimit::new(relation, number)) {
            Some(limit) => limits.push(limit),
            None => wrong.extend(invalid(
                node.mark,
                format!(
                    "`{operator}` must be a number with at most six decimals, from -9000000000000 to 9000000000000"
                ),
            )),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    match StatisticCondition::new(statistic, &limits) {
        None => Err(invalid(condition.mark, "the condition needs a number to compare with: `gt: 500`")),
        Some(found) if !found.is_satisfiable() => {
            Err(vec![(RuleErrorKind::Invalid, condition.mark, "no number satisfies the condition".to_owned())])
        }
        Some(found) => Ok(found),
    }
}

/// Returns a document for the parser, which reads whole numbers only and would change negative ones. The numbers that a
/// statistic is compared with become 1.
pub(super) fn for_parser(document: &YamlNode) -> YamlNode {
    let mut document = document.clone();
    let is_statistic = document.member("correlation").is_some_and(is_compared);
    let numbers = |node: &mut YamlNode| {
        for operator in OPERATORS {
            if let Some(value) = member_mut(node, operator) {
                value.content = YamlContent::Scalar { text: "1".to_owned(), plain: true };
            }
        }
    };
    if is_statistic && let Some(correlation) = member_mut(&mut document, "correlation") {
        member_mut(correlation, "condition").into_iter().for_each(numbers);
    }
    document
}

fn member_mut<'n>(node: &'n mut YamlNode, key: &str) -> Option<&'n mut YamlNode> {
    match &mut node.content {
        YamlContent::Map(members) => {
            members.iter_mut().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)
        }
        _ => None,
    }
}
