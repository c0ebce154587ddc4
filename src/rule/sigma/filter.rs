//! Applies Sigma filters: conditions that matches of several rules must also satisfy.

use rsigma_parser::{FilterRule, FilterRuleTarget};

use super::document::Document;
use super::references::References;
use super::{Refusal, check_source, matches};
use crate::error::RuleErrorKind;
use crate::rule::{Predicate, limits};

/// Adds the condition of a filter to the predicates of the rules that it names. Returns the reasons why it cannot be
/// applied.
pub(super) fn apply(
    filter: &FilterRule,
    document: &Document<'_>,
    references: &References<'_>,
    predicates: &mut [Option<Result<Predicate, RuleErrorKind>>],
) -> Vec<Refusal> {
    if let Err(refusal) = check_source(&filter.logsource.clone().unwrap_or_default()) {
        return vec![refusal];
    }
    let condition = match matches(&filter.detection, "filter") {
        Ok(condition) => condition,
        Err(refusals) => return refusals,
    };
    let (mut rules, mut refusals) = (Vec::new(), Vec::new());
    match &filter.rules {
        FilterRuleTarget::Any => rules.extend(0..predicates.len()),
        FilterRuleTarget::Specific(names) => {
            for (index, name) in names.iter().enumerate() {
                match references.resolve(document, name) {
                    Ok(rule) => rules.extend(references.copies(rule)),
                    Err(refusal) => refusals.push(refusal.at_index(index).at_key("rules").at_key("filter")),
                }
            }
        }
    }
    rules.sort_unstable();
    rules.dedup();
    for rule in rules {
        if let Some(Ok(predicate)) = &mut predicates[rule] {
            let filtered = Predicate::All(vec![predicate.clone(), condition.clone()]);
            match limits::check(&filtered) {
                Ok(()) => *predicate = filtered,
                Err(limit) => refusals.push(Refusal::from(limit).at_key("filter")),
            }
        }
    }
    refusals
}
