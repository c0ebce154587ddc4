//! Reads correlations of Sigma rules.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use rsigma_parser::{ConditionOperator, CorrelationCondition, CorrelationRule, CorrelationType, WindowMode};

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
            all_of_them(correlation, parts)?;
            let threshold = u32::try_from(detections.len())
                .ok()
                .and_then(NonZeroU32::new)
                .ok_or_else(|| Refusal::new("it names no rule"))?;
            let rule = about.rule(any(), window(threshold), group)?;
            let ordered = kind == CorrelationType::TemporalOrdered;
            let counts = if ordered { Counts::InOrder(detections) } else { Counts::EachOf(detections) };
            Ok(Rule { counts, ..rule })
        }
        other => Err(Refusal::new(format!("correlations of the type `{}` are not hunted", other.as_str()))),
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

/// Checks that a temporal correlation requires all of its rules, once each.
fn all_of_them(correlation: &CorrelationRule, parts: &[Part<'_>]) -> Result<(), Refusal> {
    let asks_for_all = match &correlation.condition {
        CorrelationCondition::Extended(_) => false,
        CorrelationCondition::Threshold { predicates, .. } => match predicates.as_slice() {
            [] => true,
            // The parser's default without a condition.
            [(ConditionOperator::Gte, number)] => [1, parts.len() as u64].contains(number),
            _ => false,
        },
    };
    if asks_for_all {
        Ok(())
    } else {
        Err(Refusal::new("a `condition` on the rules of a temporal correlation is not hunted: all must occur"))
    }
}
