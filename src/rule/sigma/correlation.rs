//! Reads correlations of Sigma rules.

use rsigma_parser::{CorrelationCondition, CorrelationRule, CorrelationType, WindowMode};

use super::about::About;
use super::alias::Aliases;
use super::condition::{self, CountCondition, RulesCondition};
use super::document::Document;
use super::{Part, Refusal};
use crate::rule::{Absence, AbsenceSide, Counts, Predicate, Rule, Window, WindowKind, limits};
use crate::time::{Period, PeriodError};

/// Reads a correlation of these rules, in the order of its `rules`.
pub(super) fn correlated(
    document: &Document<'_>,
    correlation: &CorrelationRule,
    parts: &[Part<'_>],
) -> Result<Rule, Refusal> {
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
    let mut detections = aliases.predicates();
    limits::check(&Predicate::Any(detections.clone()))?;
    let mut absence = None;
    let (condition, counts) = match (correlation.correlation_type, values) {
        (CorrelationType::EventCount, _) => (condition::of_count(correlation)?, Counts::Matches),
        (CorrelationType::ValueCount, Some(field)) => (condition::of_count(correlation)?, Counts::Distinct(field)),
        (CorrelationType::ValueSum, Some(field)) => (condition::of_count(correlation)?, Counts::Sum(field)),
        (CorrelationType::ValueAvg | CorrelationType::ValueMedian | CorrelationType::ValuePercentile, Some(field)) => {
            (CountCondition::MET, Counts::Statistic(field, document.statistic()?))
        }
        (kind @ (CorrelationType::Temporal | CorrelationType::TemporalOrdered), _) => {
            if correlation.window != WindowMode::Sliding {
                return Err(Refusal::new("temporal correlations are hunted in sliding windows only"));
            }
            let RulesCondition { count, events, absent } = condition::of_rules(correlation, &detections)?;
            absence = absent;
            let counts = match kind {
                _ if absence.is_some() => Counts::Matches,
                CorrelationType::TemporalOrdered => Counts::InOrder(events.clone()),
                _ => Counts::EachOf(events.clone()),
            };
            // The condition may name some of the rules only.
            detections = events;
            (count, counts)
        }
        (other, None) => {
            return Err(Refusal::new(format!("a `{}` needs the `field` of its values", other.as_str())));
        }
    };
    let CountCondition { threshold, peak_limits } = condition;
    let mut detection = Predicate::Any(detections);
    let absence = absence.map(|event| {
        // A window that ends with such an event has it too.
        let others = Predicate::None(vec![event.clone()]);
        detection = Predicate::All(vec![std::mem::replace(&mut detection, Predicate::All(Vec::new())), others]);
        Absence { side: AbsenceSide::Before, event }
    });
    let rule = About::correlation(correlation).rule(detection, Window { kind, period, threshold }, group)?;
    Ok(Rule { counts, peak_limits, absence, ..rule })
}

/// Returns the field whose values a correlation counts, adds or compares.
fn value_field(correlation: &CorrelationRule) -> Result<Option<&str>, Refusal> {
    let kind = correlation.correlation_type;
    if matches!(kind, CorrelationType::EventCount | CorrelationType::Temporal | CorrelationType::TemporalOrdered) {
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
