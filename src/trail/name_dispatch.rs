//! Finds the rules that a record may match by its name, and tests what the text of their matches must be.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use super::text_condition::{PreparedCondition, TextCondition};
use crate::event::EVENT_NAME;
use crate::raw::{Element, MemberKeys, MemberString};

/// Decides for many rules whether a record may match.
#[derive(Debug)]
pub(super) struct NameDispatch {
    keys: MemberKeys,
    /// The index of `eventName` among the keys.
    name: usize,
    conditions: Vec<PreparedCondition>,
    /// The indexes of the conditions of rules for certain names, by name.
    by_name: HashMap<String, Vec<usize>, RandomState>,
    /// Those of rules for any name.
    others: Vec<usize>,
}

impl NameDispatch {
    /// Returns the dispatch for rules, each with the condition of its matches.
    pub(super) fn new(rules: &[TextCondition]) -> NameDispatch {
        let mut keys = BTreeSet::from([EVENT_NAME]);
        for rule in rules {
            rule.keys(&mut keys);
        }
        let keys: Vec<&str> = keys.into_iter().collect();
        let slot = |key: &str| keys.binary_search(&key).unwrap_or(MemberKeys::MAX);
        let mut by_name: HashMap<String, Vec<usize>, RandomState> = HashMap::default();
        let mut others = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let Some(names) = rule.values_of(EVENT_NAME) else {
                others.push(index);
                continue;
            };
            for name in names {
                by_name.entry(name.to_owned()).or_default().push(index);
            }
        }
        NameDispatch {
            conditions: rules.iter().map(|rule| PreparedCondition::new(rule, &slot)).collect(),
            name: slot(EVENT_NAME),
            keys: MemberKeys::new(keys.iter().map(|key| (*key).to_owned())),
            by_name,
            others,
        }
    }

    /// Returns whether `element` may be a match, or contain one.
    pub(super) fn admits(&self, element: Element<'_>) -> bool {
        let Some(members) = element.members(&self.keys) else {
            return true;
        };
        let MemberString::Plain(name) = members.string(self.name) else {
            return true;
        };
        let for_name = self.by_name.get(name).into_iter().flatten();
        for_name.chain(&self.others).any(|rule| self.conditions[*rule].may_hold(&members, element.text()))
    }
}
