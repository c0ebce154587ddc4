//! Chooses conditions for exceptions: values of false findings that no true finding has.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::Serialize;

use super::event_values::{EventValues, Value};

/// The smallest part of the false findings that an exception must remove, in percent. An exception for less is not worth its
/// review.
const LEAST_GAIN_PERCENT: usize = 3;

/// A false finding, as the numbers of its matches.
#[derive(Debug, Clone)]
pub(super) struct FalseFinding(pub(super) Vec<usize>);

/// A field that must have a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValueCondition {
    /// The keys of the path to the field. A derived field such as `actor` has one.
    pub field: Vec<String>,
    /// The value.
    pub value: String,
}

/// One or two values that an event must have, sorted.
type Condition = Vec<Value>;

/// Returns conditions that together remove most of the false findings, the most effective first. No event of `protected`
/// satisfies one of them.
///
/// A condition counts for a finding if all events of the finding satisfy it. Of conditions for the same number of findings the
/// narrowest is chosen: two values before one, then the one that fewest matches satisfy. Each has a field that says who acted.
pub(super) fn cover(
    values: &EventValues,
    findings: &[FalseFinding],
    protected: &[usize],
    most: usize,
) -> Vec<Vec<ValueCondition>> {
    let forbidden = conditions_of_any(values, protected);
    let mut covers: BTreeMap<Condition, Vec<usize>> = BTreeMap::new();
    for (index, FalseFinding(matches)) in findings.iter().enumerate() {
        for condition in conditions(&common_values(values, matches)) {
            let is_identifying = condition.iter().any(|value| values.is_identifying[value.0]);
            if is_identifying && !forbidden.contains(&condition) {
                covers.entry(condition).or_default().push(index);
            }
        }
    }
    let sizes = match_counts(values, &covers);
    let least = (findings.len() * LEAST_GAIN_PERCENT).div_ceil(100).max(1);
    let mut left: BTreeSet<usize> = (0..findings.len()).collect();
    let mut chosen = Vec::new();
    while chosen.len() < most {
        let rank = |(condition, covered): (&Condition, &Vec<usize>)| {
            let gain = covered.iter().filter(|index| left.contains(index)).count();
            let size = sizes.get(condition).copied().unwrap_or(usize::MAX);
            let key = (gain, condition.len(), std::cmp::Reverse(size), std::cmp::Reverse(condition.clone()));
            (gain >= least).then_some(key)
        };
        let Some((.., std::cmp::Reverse(condition))) = covers.iter().filter_map(rank).max() else {
            break;
        };
        for index in &covers[&condition] {
            left.remove(index);
        }
        let name = |value: &Value| ValueCondition {
            field: values.fields[value.0].clone(),
            value: values.text(*value).to_owned(),
        };
        chosen.push(condition.iter().map(name).collect());
    }
    chosen
}

/// Returns the values that all of these matches have.
fn common_values(values: &EventValues, matches: &[usize]) -> Vec<Value> {
    let mut lists = matches.iter().map(|number| &values.of_matches[*number]);
    let Some(first) = lists.next() else {
        return Vec::new();
    };
    let mut common = first.clone();
    for list in lists {
        common.retain(|value| list.binary_search(value).is_ok());
    }
    common
}

/// Returns each value and each pair of values of different fields.
fn conditions(values: &[Value]) -> Vec<Condition> {
    let mut all: Vec<Condition> = values.iter().map(|value| vec![*value]).collect();
    for (index, first) in values.iter().enumerate() {
        let others = values[index + 1..].iter().filter(|second| second.0 != first.0);
        all.extend(others.map(|second| vec![*first, *second]));
    }
    all
}

/// Returns the conditions that at least one of these matches satisfies.
fn conditions_of_any(values: &EventValues, matches: &[usize]) -> HashSet<Condition> {
    let distinct: HashSet<&Vec<Value>> = matches.iter().map(|number| &values.of_matches[*number]).collect();
    distinct.into_iter().flat_map(|values| conditions(values)).collect()
}

/// Returns how many of all matches satisfy each condition.
fn match_counts<'c>(
    values: &EventValues,
    covers: &'c BTreeMap<Condition, Vec<usize>>,
) -> HashMap<&'c Condition, usize> {
    let mut kinds: HashMap<&Vec<Value>, usize> = HashMap::new();
    for values in &values.of_matches {
        *kinds.entry(values).or_default() += 1;
    }
    let mut counts: HashMap<&Condition, usize> = HashMap::new();
    for (of_kind, count) in kinds {
        for condition in conditions(of_kind) {
            if let Some((condition, _)) = covers.get_key_value(&condition) {
                *counts.entry(condition).or_default() += count;
            }
        }
    }
    counts
}
