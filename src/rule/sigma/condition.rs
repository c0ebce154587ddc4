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

/// A condition on rules.
#[derive(Debug)]
pub(super) struct RulesCondition {
    /// The condition on the number of kinds.
    pub(super) count: CountCondition,
    /// The events of each kind.
    pub(super) events: Vec<Predicate>,
    /// Events that a window must not have, if there are any. Then there is one kind.
    pub(super) absent: Option<Predicate>,
}

impl CountCondition {
    /// The count is at least 1.
    pub(super) const MET: CountCondition =
        CountCondition { threshold: NonZeroU32::MIN, peak_limits: PeakLimits { at_most: None, not: None } };

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

/// Returns the condition on the rules of a temporal correlation, given the events of each rule.
pub(super) fn of_rules(correlation: &CorrelationRule, events: &[Predicate]) -> Result<RulesCondition, Refusal> {
    let all = events.len();
    let is_ordered = correlation.correlation_type == CorrelationType::TemporalOrdered;
    let any = |rules: &[usize]| Predicate::Any(rules.iter().map(|rule| events[*rule].clone()).collect());
    let of_all = |count| RulesCondition { count, events: events.to_vec(), absent: None };
    match &correlation.condition {
        CorrelationCondition::Threshold { predicates, .. } => match predicates.as_slice() {
            // The second is the parser's default without a condition.
            [] | [(ConditionOperator::Gte, 1)] => Ok(of_all(CountCondition::at_least(all)?)),
            comparisons => {
                let condition = CountCondition::of(comparisons).map_err(at_condition)?;
                let least = usize::try_from(condition.threshold.get()).unwrap_or(usize::MAX);
                if least > all {
                    let reason = format!("it has {all} rules, and at least {least} of them must match");
                    return Err(at_condition(Refusal::invalid(reason)));
                }
                if is_ordered && least < all {
                    return Err(at_condition(all_in_order()));
                }
                // No more rules than all can match.
                let at_most =
                    condition.peak_limits.at_most.filter(|most| usize::try_from(*most).is_ok_and(|n| n < all));
                Ok(of_all(CountCondition { peak_limits: PeakLimits { at_most, ..condition.peak_limits }, ..condition }))
            }
        },
        CorrelationCondition::Extended(expression) => {
            let NamedRules { kinds, absent } = NamedRules::of(expression, correlation).map_err(at_condition)?;
            let is_all = kinds.len() == all && kinds.iter().all(|kind| kind.len() == 1);
            if is_ordered && !is_all {
                return Err(at_condition(all_in_order()));
            }
            if is_all {
                return Ok(of_all(CountCondition::at_least(all)?));
            }
            Ok(RulesCondition {
                count: CountCondition::at_least(kinds.len())?,
                events: kinds.iter().map(|kind| any(kind)).collect(),
                absent: (!absent.is_empty()).then(|| any(&absent)),
            })
        }
    }
}

fn at_condition(refusal: Refusal) -> Refusal {
    refusal.at_key("condition").at_key("correlation")
}

fn all_in_order() -> Refusal {
    Refusal::new("in order, all rules must have a match: leave out the `condition`")
}

/// The rules that an expression names, by their indexes.
#[derive(Debug, Default)]
struct NamedRules {
    /// The kinds of events that must all occur: for each, the rules that match it.
    kinds: Vec<Vec<usize>>,
    /// The rules whose events must not occur.
    absent: Vec<usize>,
}

impl NamedRules {
    fn of(expression: &ConditionExpr, correlation: &CorrelationRule) -> Result<NamedRules, Refusal> {
        let mut found = NamedRules::default();
        found.add(expression, correlation)?;
        let NamedRules { kinds, absent } = &found;
        let is_named = |rule: &usize| kinds.iter().flatten().chain(absent).any(|named| named == rule);
        if let Some(other) = (0..correlation.rules.len()).find(|rule| !is_named(rule)) {
            let name = correlation.rules.get(other).map_or("", String::as_str);
            return Err(Refusal::invalid(format!("the condition does not name `{name}`, one of the `rules`")));
        }
        if absent.is_empty() {
            return Ok(found);
        }
        match kinds.as_slice() {
            [] => Err(Refusal::new("a rule must have a match: an absence alone has no event to find")),
            [kind] if kind.iter().any(|rule| absent.contains(rule)) => {
                Err(Refusal::invalid("a rule that must have a match must also have none"))
            }
            [_] => Ok(found),
            _ => {
                let reason = "`and not` next to several rules that must match is not hunted";
                let advice = "keep one of them, or join them by `or`: `(a or b) and not c`";
                Err(Refusal::new(format!("{reason}: {advice}")))
            }
        }
    }

    fn add(&mut self, expression: &ConditionExpr, correlation: &CorrelationRule) -> Result<(), Refusal> {
        match expression {
            ConditionExpr::And(parts) => parts.iter().try_for_each(|part| self.add(part, correlation)),
            ConditionExpr::Identifier(_) | ConditionExpr::Or(_) => {
                let mut rules = Vec::new();
                add_rules(expression, correlation, &mut rules)?;
                self.kinds.push(rules);
                Ok(())
            }
            ConditionExpr::Not(part) => add_rules(part, correlation, &mut self.absent),
            ConditionExpr::Selector { .. } => Err(names_only()),
        }
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
        ConditionExpr::Not(_) => {
            Err(Refusal::new("`not` within `or` or `not` is not hunted: write `a and not (b or c)`"))
        }
        ConditionExpr::Selector { .. } => Err(names_only()),
        ConditionExpr::And(_) => {
            Err(Refusal::new("`and` within `or` or `not` is not hunted: write one correlation for each part"))
        }
    }
}

fn names_only() -> Refusal {
    Refusal::new("it must name the rules: write `condition: {gte: 2}` in place of `2 of them`")
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
