//! Reads a Sigma rule's conditions and selections as predicates.

use rsigma_parser::{ConditionExpr, Detection, Detections, Quantifier, SelectorPattern};

use super::comparison::item;
use super::{Refusal, keywords};
use crate::event::EVENT_TIME;
use crate::path::{Path, Step};
use crate::rule::limits::{self, CONDITIONS};
use crate::rule::{Field, Predicate, TimePart};
use crate::time::TimeZone;

/// Returns the field at a path with dots between its keys.
pub(super) fn field(name: &str) -> Result<Field, Refusal> {
    if name.contains('[') {
        return Err(Refusal::new(format!("`{name}`: brackets in the names of fields are not understood")));
    }
    if let Some((time, part)) = name.split_once('.')
        && time.eq_ignore_ascii_case(EVENT_TIME)
        && let Some(part) = TimePart::ALL.into_iter().find(|known| known.name() == part)
    {
        return Ok(Field::TimePart(part, TimeZone::UTC));
    }
    Ok(Field::new(Path(name.split('.').map(|key| Step::Key(key.to_owned())).collect())))
}

/// Returns the predicate of a condition.
pub(super) fn condition(expression: &ConditionExpr, detections: &Detections) -> Result<Predicate, Refusal> {
    let all =
        |parts: &[ConditionExpr]| parts.iter().map(|part| condition(part, detections)).collect::<Result<Vec<_>, _>>();
    match expression {
        ConditionExpr::And(parts) => Ok(Predicate::All(all(parts)?)),
        ConditionExpr::Or(parts) => Ok(Predicate::Any(all(parts)?)),
        ConditionExpr::Not(part) => Ok(Predicate::None(vec![condition(part, detections)?])),
        ConditionExpr::Identifier(name) => selection(named(name, detections)?),
        ConditionExpr::Selector { quantifier, pattern } => {
            let selected = selected(expression, quantifier, pattern, detections)?;
            let parts = selected.into_iter().map(selection).collect::<Result<Vec<_>, _>>()?;
            Ok(if *quantifier == Quantifier::All { Predicate::All(parts) } else { Predicate::Any(parts) })
        }
    }
}

fn named<'d>(name: &str, detections: &'d Detections) -> Result<&'d Detection, Refusal> {
    let named = detections.named.get(name);
    named.ok_or_else(|| Refusal::new(format!("the condition names `{name}`, which is not defined")))
}

/// Returns the selections that a selector means, by their names.
fn selected<'d>(
    expression: &ConditionExpr,
    quantifier: &Quantifier,
    pattern: &SelectorPattern,
    detections: &'d Detections,
) -> Result<Vec<&'d Detection>, Refusal> {
    let mut selected: Vec<_> = detections.named.iter().filter(|(name, _)| is_selected(pattern, name)).collect();
    if selected.is_empty() {
        return Err(Refusal::invalid(format!("`{expression}` names no selection")));
    }
    if !matches!(quantifier, Quantifier::Any | Quantifier::All | Quantifier::Count(1)) {
        return Err(Refusal::new(format!("`{expression}`: only `1 of` and `all of` are understood")));
    }
    selected.sort_by_key(|(name, _)| *name);
    Ok(selected.into_iter().map(|(_, selection)| selection).collect())
}

/// Returns the reasons why a condition cannot be read, apart from those of its selections.
pub(super) fn condition_refusals(expression: &ConditionExpr, detections: &Detections) -> Vec<Refusal> {
    match expression {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            parts.iter().flat_map(|part| condition_refusals(part, detections)).collect()
        }
        ConditionExpr::Not(part) => condition_refusals(part, detections),
        ConditionExpr::Identifier(name) => named(name, detections).err().into_iter().collect(),
        ConditionExpr::Selector { quantifier, pattern } => {
            selected(expression, quantifier, pattern, detections).err().into_iter().collect()
        }
    }
}

/// Returns whether a selector means the selection `name`. Names that begin with `_` must be written out.
fn is_selected(pattern: &SelectorPattern, name: &str) -> bool {
    let pattern = match pattern {
        SelectorPattern::Them => "*",
        SelectorPattern::Pattern(pattern) => pattern,
    };
    if name.starts_with('_') && !pattern.starts_with('_') {
        return false;
    }
    let mut parts = pattern.split('*');
    let (first, last) = (parts.next().unwrap_or_default(), parts.next_back());
    let (Some(last), Some(mut rest)) = (last, name.strip_prefix(first)) else {
        return pattern == name;
    };
    for part in parts {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// Returns the reasons why the selections of a section cannot be read, each with its place.
pub(super) fn refusals(detections: &Detections, section: &str) -> Vec<Refusal> {
    let mut found = Vec::new();
    for (name, selection) in &detections.named {
        let mut of_selection = Vec::new();
        add_refusals(selection, &mut of_selection);
        found.extend(of_selection.into_iter().map(|refusal| refusal.at_key(name).at_key(section)));
    }
    found
}

fn add_refusals(selection: &Detection, found: &mut Vec<Refusal>) {
    match selection {
        Detection::AllOf(items) => found.extend(items.iter().filter_map(|one| item(one).err())),
        Detection::AnyOf(parts) => {
            for (index, part) in parts.iter().enumerate() {
                let mut of_part = Vec::new();
                add_refusals(part, &mut of_part);
                found.extend(of_part.into_iter().map(|refusal| refusal.at_index(index)));
            }
        }
        other => found.extend(self::selection(other).err()),
    }
}

/// Checks the size of a condition once its selections are expanded. It may name a selection many times.
pub(super) fn check_size(expression: &ConditionExpr, detections: &Detections) -> Result<(), Refusal> {
    if compared_values(expression, detections) > CONDITIONS {
        return Err(limits::exceeded(
            "values to compare with, in all selections of a condition",
            CONDITIONS,
            limits::SPLIT,
        )
        .into());
    }
    Ok(())
}

fn compared_values(expression: &ConditionExpr, detections: &Detections) -> usize {
    let sum = |sizes: &mut dyn Iterator<Item = usize>| sizes.fold(0, usize::saturating_add);
    match expression {
        ConditionExpr::And(parts) | ConditionExpr::Or(parts) => {
            sum(&mut parts.iter().map(|part| compared_values(part, detections)))
        }
        ConditionExpr::Not(part) => compared_values(part, detections),
        ConditionExpr::Identifier(name) => detections.named.get(name).map_or(0, values_of),
        ConditionExpr::Selector { pattern, .. } => {
            let named = detections.named.iter().filter(|(name, _)| is_selected(pattern, name));
            sum(&mut named.map(|(_, detection)| values_of(detection)))
        }
    }
}

fn values_of(detection: &Detection) -> usize {
    match detection {
        Detection::AllOf(items) => items.iter().map(|item| item.values.len()).sum(),
        Detection::AnyOf(parts) | Detection::And(parts) => parts.iter().map(values_of).sum(),
        // These are refused.
        Detection::Keywords(_) | Detection::ArrayMatch { .. } | Detection::Conditional { .. } => 1,
    }
}

fn selection(detection: &Detection) -> Result<Predicate, Refusal> {
    let all = |parts: &[Detection]| parts.iter().map(selection).collect::<Result<Vec<_>, _>>();
    match detection {
        Detection::AllOf(items) => Ok(Predicate::All(items.iter().map(item).collect::<Result<_, _>>()?)),
        Detection::AnyOf(parts) => Ok(Predicate::Any(all(parts)?)),
        Detection::And(parts) => Ok(Predicate::All(all(parts)?)),
        Detection::Keywords(values) => keywords::any_of(values),
        Detection::ArrayMatch { field, .. } => {
            Err(Refusal::new(format!("`{field}`: members of lists are not matched")))
        }
        Detection::Conditional { .. } => Err(Refusal::new("conditions on members of lists are not understood")),
    }
}
