//! Chooses conditions for exceptions: values of false findings that no true finding has.

use std::cmp::Reverse;
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
/// satisfies one of them. Each removes at least a part of `all`, the number of the rule's false findings.
///
/// A condition counts for a finding if all events of the finding satisfy it. Of conditions for the same number of findings one
/// that says who acted is better than one on an address, then the narrowest is chosen: two values before one, then the one that
/// fewest matches satisfy.
pub(super) fn cover(
    values: &EventValues,
    (findings, all): (&[FalseFinding], usize),
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
    let least = (all * LEAST_GAIN_PERCENT).div_ceil(100).max(1);
    let search = Search { values, covers: &covers, sizes: &sizes, findings: findings.len(), least, most };
    let name =
        |value: &Value| ValueCondition { field: values.fields[value.0].clone(), value: values.text(*value).to_owned() };
    search.best().into_iter().map(|condition| condition.iter().map(name).collect()).collect()
}

/// How often each choice is reconsidered.
const ROUNDS: usize = 3;

/// The search for conditions that cover the false findings.
struct Search<'s> {
    values: &'s EventValues,
    /// For each condition the findings that it removes.
    covers: &'s BTreeMap<Condition, Vec<usize>>,
    /// For each condition how many of all matches satisfy it.
    sizes: &'s HashMap<&'s Condition, usize>,
    findings: usize,
    /// The fewest findings that a further condition must remove.
    least: usize,
    /// The most conditions.
    most: usize,
}

impl<'s> Search<'s> {
    /// Returns the conditions, the most effective first. Each choice is reconsidered, given all others: the most effective
    /// first condition may leave more behind than another.
    fn best(&self) -> Vec<&'s Condition> {
        let mut best = self.filled(Vec::new());
        for _ in 0..ROUNDS {
            let before = best.clone();
            for index in 0..before.len() {
                let mut others = best.clone();
                if index < others.len() {
                    others.remove(index);
                }
                let other = self.filled(others);
                if (self.left(&other).len(), other.len()) < (self.left(&best).len(), best.len()) {
                    best = other;
                }
            }
            if best == before {
                break;
            }
        }
        self.ordered(best)
    }

    /// Adds to `chosen` the conditions that remove most of what is left.
    fn filled(&self, mut chosen: Vec<&'s Condition>) -> Vec<&'s Condition> {
        let mut left = self.left(&chosen);
        while chosen.len() < self.most {
            let Some(next) = self.most_effective(self.covers.keys(), &left).filter(|(gain, _)| *gain >= self.least)
            else {
                break;
            };
            self.remove(&mut left, next.1);
            chosen.push(next.1);
        }
        chosen
    }

    /// Returns `chosen`, the most effective first. Leaves out a condition that removes too little of what the others before it leave.
    fn ordered(&self, mut chosen: Vec<&'s Condition>) -> Vec<&'s Condition> {
        let mut left = self.left(&[]);
        let mut ordered = Vec::new();
        while let Some((gain, next)) = self.most_effective(chosen.iter().copied(), &left)
            && gain >= self.least
        {
            self.remove(&mut left, next);
            chosen.retain(|condition| *condition != next);
            ordered.push(next);
        }
        ordered
    }

    fn most_effective(
        &self,
        among: impl Iterator<Item = &'s Condition>,
        left: &BTreeSet<usize>,
    ) -> Option<(usize, &'s Condition)> {
        let rank = |condition: &'s Condition| {
            let gain = self.covers.get(condition)?.iter().filter(|index| left.contains(index)).count();
            let says_who = condition.iter().any(|value| self.values.says_who[value.0]);
            let size = self.sizes.get(condition).copied().unwrap_or(usize::MAX);
            (gain > 0).then_some((gain, says_who, condition.len(), Reverse(size), Reverse(condition)))
        };
        let (gain, .., Reverse(condition)) = among.filter_map(rank).max()?;
        Some((gain, condition))
    }

    fn left(&self, chosen: &[&Condition]) -> BTreeSet<usize> {
        let mut left: BTreeSet<usize> = (0..self.findings).collect();
        for condition in chosen {
            self.remove(&mut left, condition);
        }
        left
    }

    fn remove(&self, left: &mut BTreeSet<usize>, condition: &Condition) {
        for index in self.covers.get(condition).into_iter().flatten() {
            left.remove(index);
        }
    }
}

/// Returns the values that all of these matches have, and not all matches of the rule: those do not narrow a condition.
fn common_values(values: &EventValues, matches: &[usize]) -> Vec<Value> {
    let mut lists = matches.iter().map(|number| &values.of_matches[*number]);
    let Some(first) = lists.next() else {
        return Vec::new();
    };
    let mut common = first.clone();
    for list in lists {
        common.retain(|value| list.binary_search(value).is_ok());
    }
    common.retain(|value| !values.of_all_matches.contains(value));
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
