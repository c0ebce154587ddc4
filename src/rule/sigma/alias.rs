//! Aliases of correlations: names for fields that may differ from rule to rule.

use std::collections::BTreeSet;

use rsigma_parser::CorrelationRule;

use super::{Part, Refusal, detection};
use crate::rule::{Field, FieldAlias, Predicate};

/// The aliases of a correlation that are used, and its rules.
pub(super) struct Aliases<'c> {
    correlation: &'c CorrelationRule,
    parts: &'c [Part<'c>],
    /// For each rule, the fields that aliases of different fields mean in it.
    meant: Vec<Vec<&'c str>>,
}

impl<'c> Aliases<'c> {
    pub(super) fn new(correlation: &'c CorrelationRule, parts: &'c [Part<'c>]) -> Aliases<'c> {
        Aliases { correlation, parts, meant: vec![Vec::new(); parts.len()] }
    }

    /// Returns the field that a name means, which may be an alias.
    pub(super) fn field(&mut self, name: &str) -> Result<Field, Refusal> {
        let Some(alias) = self.correlation.aliases.iter().find(|alias| alias.alias == name) else {
            return detection::field(name);
        };
        let of_part = |Part { rule, .. }: &Part<'c>| {
            let mut names = [&rule.id, &rule.name].into_iter().flatten();
            let field = names.find_map(|name| alias.mapping.get(name)).map(String::as_str);
            field.ok_or_else(|| Refusal::new(format!("the alias `{name}` tells no field of `{}`", rule.title)))
        };
        let names = self.parts.iter().map(of_part).collect::<Result<Vec<&str>, _>>()?;
        if let [one] = names.iter().copied().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().as_slice() {
            return detection::field(one);
        }
        let mut fields = Vec::new();
        for (part, name) in self.parts.iter().zip(&names) {
            fields.push((part.predicate.clone(), detection::field(name)?));
        }
        self.meant.iter_mut().zip(names).for_each(|(meant, name)| meant.push(name));
        Ok(Field::Alias(FieldAlias { name: name.to_owned(), fields }))
    }

    /// Returns the predicate of each rule. If aliases mean other fields in a rule than in one before it, events of that
    /// one are left out: an event has one value of an alias.
    pub(super) fn predicates(&self) -> Vec<Predicate> {
        let predicate = |(index, part): (usize, &Part<'c>)| {
            let before = self.parts.iter().zip(&self.meant).take(index);
            let others = before.filter(|(_, meant)| **meant != self.meant[index]);
            let others: Vec<Predicate> = others.map(|(other, _)| other.predicate.clone()).collect();
            if others.is_empty() {
                part.predicate.clone()
            } else {
                Predicate::All(vec![part.predicate.clone(), Predicate::None(others)])
            }
        };
        self.parts.iter().enumerate().map(predicate).collect()
    }
}
