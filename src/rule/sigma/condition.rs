//! Conditions of correlations: how many events, values or rules a window must have.

use std::num::NonZeroU32;

use rsigma_parser::{ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType};

use super::Refusal;
use crate::rule::{PeakLimits, Predicate};

/// A condition on a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountCondition {
    /// The least count.
    pub(super) threshold: NonZeroU32,
    /// Limits of the greatest count.
    pub(super) peak_limits: PeakLimits,
}

impl CountCondition {
    fn at_least(number: usize) -> Result<CountCondition, Refusal> {
        let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
        let threshold = number.ok_or_else(|| Refusal::invalid("it names no rule"))?;
        Ok(CountCondition { threshold, peak_limits: PeakLimits::default() })
    }

    /// Returns the condition of comparisons that must all hold.
    fn of(comparisons: &[(ConditionOperator, u64)]) -> Result<CountCondition, Refusal> {
        let (mut least, mut most, mut not) = (1, u64::MAX, None);
        for (operator, number) in comparisons {
            match operator {
                ConditionOperator::Gte => least = least.max(*number),
                ConditionOperator::Gt => least = least.max(number.saturating_add(1)),
                ConditionOperator::Lte => most = most.min(*number),
                ConditionOperator::Lt => most = most.min(number.saturating_sub(1)),
                ConditionOperator::Eq => (least, most) = (least.max(*number), most.min(*number)),
                ConditionOperator::Neq => not = Some(*number),
            }
        }
        if most == 0 {
            return Err(Refusal::new("a count of 0 has no events to find: an absence is not hunted"));
        }
        if not == Some(least) && least < most {
            (least, not) = (least + 1, None);
        }
        if not == Some(most) && least < most {
            (most, not) = (most - 1, None);
        }
        if least > most || not == Some(least) {
            return Err(Refusal::invalid("no count satisfies the condition"));
        }
        let threshold = u32::try_from(least).ok().and_then(NonZeroU32::new);
        let threshold = threshold.ok_or_else(|| Refusal::new("the count must be from 1 to 4294967295"))?;
        let peak_limits = PeakLimits {
            // No count is greater than these.
            at_most: u32::try_from(most).ok(),
            not: not.filter(|not| (least..most).contains(not)).and_then(|not| u32::try_from(not).ok()),
        };
        Ok(CountCondition { threshold, peak_limits })
    }
}

/// Returns the condition on the events or values of a correlation.
pub(super) fn of_count(correlation: &CorrelationRule) -> Result<CountCondition, Refusal> {
    match &correlation.condition {
        CorrelationCondition::Threshold { predicates, .. } => CountCondition::of(predicates).map_err(at_condition),
        CorrelationCondition::Extended(_) => Err(at_condition(Refusal::new("a count needs a number: `gte: 5`"))),
    }
}

/// Returns the condition on the rules of a temporal correlation, and the events that are its kinds, given the events of
/// each rule.
pub(super) fn of_rules(
    correlation: &CorrelationRule,
    events: &[Predicate],
) -> Result<(CountCondition, Vec<Predicate>), Refusal> {
    let all = events.len();
    let is_ordered = correlation.correlation_type == CorrelationType::TemporalOrdered;
    let condition = match &correlation.condition {
        CorrelationCondition::Threshold { predicates, .. } => match predicates.as_slice() {
            // The second is the parser's default without a condition.
            [] | [(ConditionOperator::Gte, 1)] => CountCondition::at_least(all)?,
            comparisons => {
                let condition = CountCondition::of(comparisons).map_err(at_condition)?;
                let least = usize::try_from(condition.threshold.get()).unwrap_or(usize::MAX);
                if least > all {
                    let reason = format!("it has {all} rules, and at least {least} of them must match");
                    return Err(at_condition(Refusal::invalid(reason)));
                }
                if is_ordered && least < all {
                    let reason = "in order, all rules must have a match: leave out the `condition`";
                    return Err(at_condition(Refusal::new(reason)));
                }
                // No more rules than all can match.
                let at_most =
                    condition.peak_limits.at_most.filter(|most| usize::try_from(*most).is_ok_and(|n| n < all));
                CountCondition { peak_limits: PeakLimits { at_most, ..condition.peak_limits }, ..condition }
            }
        },
        CorrelationCondition::Extended(expression) => {
            let kinds = kinds(expression, correlation).map_err(at_condition)?;
            let is_all = kinds.len() == all && kinds.iter().all(|kind| kind.len() == 1);
            if is_ordered && !is_all {
                let reason = "in order, all rules must have a match: leave out the `condition`";
                return Err(at_condition(Refusal::new(reason)));
            }
            if !is_all {
                let any = |kind: &Vec<usize>| Predicate::Any(kind.iter().map(|rule| events[*rule].clone()).collect());
                return Ok((CountCondition::at_least(kinds.len())?, kinds.iter().map(any).collect()));
            }
            CountCondition::at_least(all)?
        }
    };
    Ok((condition, events.to_vec()))
}

fn at_condition(refusal: Refusal) -> Refusal {
    refusal.at_key("condition").at_key("correlation")
}

/// Returns the kinds of events that must all occur: for each, the indexes of the rules that match it.
fn kinds(expression: &ConditionExpr, correlation: &CorrelationRule) -> Result<Vec<Vec<usize>>, Refusal> {
    let mut found = Vec::new();
    add_kinds(expression, correlation, &mut found)?;
    if let Some(other) = (0..correlation.rules.len()).find(|rule| !found.iter().flatten().any(|named| named == rule)) {
        let name = correlation.rules.get(other).map_or("", String::as_str);
        return Err(Refusal::invalid(format!("the condition does not name `{name}`, one of the `rules`")));
    }
    Ok(found)
}

fn add_kinds(
    expression: &ConditionExpr,
    correlation: &CorrelationRule,
    found: &mut Vec<Vec<usize>>,
) -> Result<(), Refusal> {
    match expression {
        ConditionExpr::And(parts) => parts.iter().try_for_each(|part| add_kinds(part, correlation, found)),
        ConditionExpr::Identifier(_) | ConditionExpr::Or(_) => {
            let mut rules = Vec::new();
            add_rules(expression, correlation, &mut rules)?;
            found.push(rules);
            Ok(())
        }
        ConditionExpr::Not(_) => Err(absence()),
        ConditionExpr::Selector { .. } => Err(Refusal::new("it must name the rules: `1 of` and `all of` are not read")),
    }
}

/// Adds the rules that `or` joins.
fn add_rules(expression: &ConditionExpr, correlation: &CorrelationRule, found: &mut Vec<usize>) -> Result<(), Refusal> {
    match expression {
        ConditionExpr::Or(parts) => parts.iter().try_for_each(|part| add_rules(part, correlation, found)),
        ConditionExpr::Identifier(name) => {
            let named = correlation.rules.iter().enumerate().filter(|(_, rule)| *rule == name).map(|(index, _)| index);
            let before = found.len();
            found.extend(named);
            if found.len() == before {
                return Err(Refusal::invalid(format!("the condition names `{name}`, which is not one of the `rules`")));
            }
            Ok(())
        }
        ConditionExpr::Not(_) => Err(absence()),
        ConditionExpr::And(_) | ConditionExpr::Selector { .. } => {
            Err(Refusal::new("`and` within `or` is not hunted: write one correlation for each part of the `or`"))
        }
    }
}

fn absence() -> Refusal {
    Refusal::new("a rule that must have no match is not hunted: windows that wait for an absence are not supported")
}

#[cfg(test)]
mod tests {
    use ConditionOperator::{Eq, Gt, Gte, Lt, Lte, Neq};

    use super::*;

    #[test]
    fn comparisons_become_a_threshold_and_limits() {
        let of = |comparisons: &[(ConditionOperator, u64)]| {
            CountCondition::of(comparisons).ok().map(|CountCondition { threshold, peak_limits }| {
                (threshold.get(), peak_limits.at_most, peak_limits.not)
            })
        };
        for (comparisons, expected) in [
            (&[(Gte, 5)][..], Some((5, None, None))),
            (&[(Gt, 5)], Some((6, None, None))),
            (&[(Lt, 5)], Some((1, Some(4), None))),
            (&[(Lte, 5)], Some((1, Some(5), None))),
            (&[(Eq, 5)], Some((5, Some(5), None))),
            (&[(Neq, 5)], Some((1, None, Some(5)))),
            (&[(Gt, 100), (Lte, 200)], Some((101, Some(200), None))),
            (&[(Gte, 3), (Neq, 3)], Some((4, None, None))),
            (&[(Lte, 3), (Neq, 3)], Some((1, Some(2), None))),
            (&[(Gte, 3), (Neq, 2)], Some((3, None, None))),
            (&[(Neq, 0)], Some((1, None, None))),
            (&[(Gte, 5), (Lt, 5)], None),
            (&[(Eq, 5), (Neq, 5)], None),
            (&[(Lt, 1)], None),
            (&[(Eq, 0)], None),
            (&[(Gte, 4_294_967_296)], None),
        ] {
            assert_eq!(of(comparisons), expected, "{comparisons:?}");
        }
    }
}
