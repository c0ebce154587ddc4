//! Reads correlations of Sigma rules.

use rsigma_parser::{CorrelationCondition, CorrelationRule, CorrelationType, WindowMode};

use super::about::About;
use super::alias::Aliases;
use super::condition::{self, CountCondition};
use super::{Part, Refusal};
use crate::rule::{Counts, Predicate, Rule, Window, WindowKind, limits};
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
    let mut aliases = Aliases::new(correlation, parts);
    let group = correlation.group_by.iter().map(|name| aliases.field(name)).collect::<Result<Vec<_>, _>>()?;
    for (given, limit, what) in [
        (group.len(), limits::GROUP_KEYS, "fields of `group-by`"),
        (parts.len(), limits::CORRELATED, "entries of `rules`"),
    ] {
        if given > limit {
            return Err(limits::exceeded(what, limit, "leave some out").into());
        }
    }
    let values = value_field(correlation)?.map(|name| aliases.field(name)).transpose()?;
    let detections = aliases.predicates();
    limits::check(&Predicate::Any(detections.clone()))?;
    let (condition, counts) = match (correlation.correlation_type, values) {
        (CorrelationType::EventCount, _) => (condition::of_count(correlation)?, Counts::Matches),
        (CorrelationType::ValueCount, Some(field)) => (condition::of_count(correlation)?, Counts::Distinct(field)),
        (CorrelationType::ValueSum, Some(field)) => (condition::of_count(correlation)?, Counts::Sum(field)),
        (kind @ (CorrelationType::Temporal | CorrelationType::TemporalOrdered), _) => {
            if correlation.window != WindowMode::Sliding {
                return Err(Refusal::new("temporal correlations are hunted in sliding windows only"));
            }
            let (condition, events) = condition::of_rules(correlation, &detections)?;
            let ordered = kind == CorrelationType::TemporalOrdered;
            (condition, if ordered { Counts::InOrder(events) } else { Counts::EachOf(events) })
        }
        (other, _) => {
            let reason = "an average or a percentile can fall while events are added, so no event triggers it";
            let refusal =
                Refusal::new(format!("correlations of the type `{}` are not hunted: {reason}", other.as_str()));
            return Err(refusal.at_key("type").at_key("correlation"));
        }
    };
    let CountCondition { threshold, peak_limits } = condition;
    let detection = match &counts {
        // The condition may name some of the rules only.
        Counts::EachOf(events) | Counts::InOrder(events) => Predicate::Any(events.clone()),
        _ => Predicate::Any(detections),
    };
    let rule = About::correlation(correlation).rule(detection, Window { kind, period, threshold }, group)?;
    Ok(Rule { counts, peak_limits, ..rule })
}

/// Returns the field whose values a correlation counts or adds.
fn value_field(correlation: &CorrelationRule) -> Result<Option<&str>, Refusal> {
    let kind = correlation.correlation_type;
    if !matches!(kind, CorrelationType::ValueCount | CorrelationType::ValueSum) {
        return Ok(None);
    }
    let CorrelationCondition::Threshold { field: Some(fields), .. } = &correlation.condition else {
        return Err(Refusal::new(format!("a `{}` needs the `field` of its values", kind.as_str())));
    };
    match fields.as_slice() {
        [field] => Ok(Some(field)),
        _ => Err(Refusal::new(format!("a `{}` of several fields is not hunted", kind.as_str()))),
    }
}
