//! Reads correlations of Sigma rules.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use rsigma_parser::{
    ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, WindowMode,
};

use super::about::About;
use super::{Part, Refusal, detection};
use crate::rule::{Counts, Field, Predicate, Rule, Window, WindowKind, limits};
use crate::time::{Period, PeriodError};

/// Reads a correlation of these rules, in the order of its `rules`.
pub(super) fn correlated(correlation: &CorrelationRule, parts: &[Part<'_>]) -> Result<Rule, Refusal> {
    let kind = match correlation.window {
        WindowMode::Sliding => WindowKind::Sliding,
        WindowMode::Tumbling => WindowKind::Tumbling,
        WindowMode::Session => return Err(Refusal::new("windows of the kind `session` are not hunted")),
    };
    let period: Period = format!("{}s", correlation.timespan.seconds)
        .parse()
        .map_err(|error: PeriodError| Refusal::new(error.to_string()))?;
    let field = |name: &str| -> Result<Field, Refusal> { detection::field(&of_alias(correlation, name, parts)?) };
    let group = correlation.group_by.iter().map(|name| field(name)).collect::<Result<Vec<_>, _>>()?;
    for (given, limit, what) in [
        (group.len(), limits::GROUP_KEYS, "fields of `group-by`"),
        (parts.len(), limits::CORRELATED, "entries of `rules`"),
    ] {
        if given > limit {
            return Err(limits::exceeded(what, limit, "leave some out").into());
        }
    }
    let detections: Vec<Predicate> = parts.iter().map(|part| part.predicate.clone()).collect();
    limits::check(&Predicate::Any(detections.clone()))?;
    let about = About::correlation(correlation);
    let window = |threshold| Window { kind, period, threshold };
    let any = || Predicate::Any(detections.clone());
    match correlation.correlation_type {
        CorrelationType::EventCount => about.rule(any(), window(at_least(correlation)?), group),
        CorrelationType::ValueCount => {
            let CorrelationCondition::Threshold { field: Some(fields), .. } = &correlation.condition else {
                return Err(Refusal::new("a `value_count` needs the `field` whose values are counted"));
            };
            let [counted] = fields.as_slice() else {
                return Err(Refusal::new("a `value_count` of several fields is not hunted"));
            };
            let counts = Counts::Distinct(field(counted)?);
            Ok(Rule { counts, ..about.rule(any(), window(at_least(correlation)?), group)? })
        }
        kind @ (CorrelationType::Temporal | CorrelationType::TemporalOrdered) => {
            if correlation.window != WindowMode::Sliding {
                return Err(Refusal::new("temporal correlations are hunted in sliding windows only"));
            }
            let threshold = required_kinds(correlation, parts.len())?;
            let rule = about.rule(any(), window(threshold), group)?;
            let ordered = kind == CorrelationType::TemporalOrdered;
            let counts = if ordered { Counts::InOrder(detections) } else { Counts::EachOf(detections) };
            Ok(Rule { counts, ..rule })
        }
        other => {
            let reason = format!("correlations of the type `{}` are not hunted: findings count events", other.as_str());
            Err(Refusal::new(reason).at_key("type").at_key("correlation"))
        }
    }
}

/// Returns the field that `name` stands for. An alias must stand for the same field in all rules.
fn of_alias(correlation: &CorrelationRule, name: &str, parts: &[Part<'_>]) -> Result<String, Refusal> {
    let Some(alias) = correlation.aliases.iter().find(|alias| alias.alias == name) else {
        return Ok(name.to_owned());
    };
    let of_rule = |Part { rule, .. }: &Part<'_>| {
        let mut names = [&rule.id, &rule.name].into_iter().flatten();
        names
            .find_map(|name| alias.mapping.get(name))
            .ok_or_else(|| Refusal::new(format!("the alias `{name}` tells no field of `{}`", rule.title)))
    };
    let fields = parts.iter().map(of_rule).collect::<Result<BTreeSet<_>, _>>()?;
    match fields.into_iter().collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).clone()),
        _ => Err(Refusal::new(format!("the alias `{name}` stands for different fields, which are not joined"))),
    }
}

/// Returns the number that a count must reach.
fn at_least(correlation: &CorrelationRule) -> Result<NonZeroU32, Refusal> {
    let CorrelationCondition::Threshold { predicates, .. } = &correlation.condition else {
        return Err(Refusal::new("a count needs a number: `gte: 5`"));
    };
    let number = match predicates.as_slice() {
        [(ConditionOperator::Gte, number)] => *number,
        [(ConditionOperator::Gt, number)] => number.saturating_add(1),
        _ => {
            return Err(Refusal::new("only counts that reach a number are hunted: `gte` or `gt`, and nothing else"));
        }
    };
    u32::try_from(number)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| Refusal::new("the count must be from 1 to 4294967295"))
}

/// Returns the number of rules of a temporal correlation that must have a match.
fn required_kinds(correlation: &CorrelationRule, all: usize) -> Result<NonZeroU32, Refusal> {
    let refused = |reason: &str| Err(Refusal::new(reason).at_key("condition").at_key("correlation"));
    let is_ordered = correlation.correlation_type == CorrelationType::TemporalOrdered;
    let number = match &correlation.condition {
        CorrelationCondition::Threshold { predicates, .. } => match predicates.as_slice() {
            // The second is the parser's default without a condition.
            [] | [(ConditionOperator::Gte, 1)] => all,
            [(ConditionOperator::Gte | ConditionOperator::Eq, number)] if usize::try_from(*number) == Ok(all) => all,
            [(ConditionOperator::Gte, number)] if !is_ordered && usize::try_from(*number).is_ok_and(|n| n <= all) => {
                usize::try_from(*number).unwrap_or(all)
            }
            [(ConditionOperator::Gt, number)] if !is_ordered && usize::try_from(*number).is_ok_and(|n| n < all) => {
                usize::try_from(*number).map_or(all, |number| number + 1)
            }
            _ if is_ordered => return refused("in order, all rules must have a match: leave out the `condition`"),
            _ => return refused("only `gte` and `gt` with at most the number of rules are hunted"),
        },
        CorrelationCondition::Extended(condition) => {
            let mut named = Vec::new();
            if names_all(condition, &mut named) {
                let mut rules: Vec<&str> = correlation.rules.iter().map(String::as_str).collect();
                rules.sort_unstable();
                named.sort_unstable();
                if rules == named {
                    return required_number(all);
                }
            }
            if has_not(condition) {
                return refused(
                    "a rule that must have no match is not hunted: windows that wait for an absence are not supported",
                );
            }
            return refused("only `and` between all rules is hunted: write one correlation for each other combination");
        }
    };
    required_number(number)
}

fn required_number(number: usize) -> Result<NonZeroU32, Refusal> {
    let number = u32::try_from(number).ok().and_then(NonZeroU32::new);
    number.ok_or_else(|| Refusal::invalid("it names no rule"))
}

/// Returns whether a condition joins names by `and` only, and adds them to `names`.
fn names_all<'c>(condition: &'c ConditionExpr, names: &mut Vec<&'c str>) -> bool {
    match condition {
        ConditionExpr::And(parts) => parts.iter().all(|part| names_all(part, names)),
        ConditionExpr::Identifier(name) => {
            names.push(name);
            true
        }
        ConditionExpr::Or(_) | ConditionExpr::Not(_) | ConditionExpr::Selector { .. } => false,
    }
}

fn has_not(condition: &ConditionExpr) -> bool {
    match condition {
        ConditionExpr::Not(_) => true,
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => parts.iter().any(has_not),
        ConditionExpr::Identifier(_) | ConditionExpr::Selector { .. } => false,
    }
}
