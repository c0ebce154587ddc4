//! Warnings about Sigma rules.

use rsigma_parser::{CorrelationCondition, Detection, DetectionItem, SigmaRule};

use super::document::{Content, Document};
use super::{PlaceStep, detection};
use crate::rule::lint::{self, Code, Warning};
use crate::rule::yaml::Mark;

/// Returns the warnings about a document, in the order of the text.
pub(super) fn of(document: &Document<'_>) -> Vec<Warning> {
    let mut found = Vec::new();
    let mut warn = |mark: Mark, message: String| {
        let Mark { line, column } = mark;
        found.push(Warning { code: Code::UnknownField, line, column, message });
    };
    match &document.content {
        Content::Rule(rule) => {
            for (place, item) in items(rule) {
                if let Some(message) = item.field.name.as_deref().and_then(unknown_field) {
                    warn(document.mark(&place), message);
                }
            }
        }
        Content::Correlation(correlation) => {
            let is_alias = |name: &String| correlation.aliases.iter().any(|alias| alias.alias == *name);
            for (index, name) in correlation.group_by.iter().enumerate() {
                if let Some(message) = (!is_alias(name)).then(|| unknown_field(name)).flatten() {
                    let place = ["group-by", "correlation"].map(|key| PlaceStep::Key(key.to_owned()));
                    warn(document.mark(&[&[PlaceStep::Index(index)], place.as_slice()].concat()), message);
                }
            }
            if let CorrelationCondition::Threshold { field: Some(names), .. } = &correlation.condition {
                for name in names.iter().filter(|name| !is_alias(name)) {
                    if let Some(message) = unknown_field(name) {
                        let place = ["field", "condition", "correlation"].map(|key| PlaceStep::Key(key.to_owned()));
                        warn(document.mark(&place), message);
                    }
                }
            }
        }
        Content::Filter(_) => {}
    }
    found.sort_by_key(|warning| (warning.line, warning.column));
    found
}

fn unknown_field(name: &str) -> Option<String> {
    lint::unknown_field(&detection::field(name).ok()?)
}

/// Returns the items of all selections, each with the steps to it from the innermost to the outermost.
fn items(rule: &SigmaRule) -> Vec<(Vec<PlaceStep>, &DetectionItem)> {
    let mut found = Vec::new();
    for (name, selection) in &rule.detection.named {
        let outer = vec![PlaceStep::Key("detection".to_owned()), PlaceStep::Key(name.clone())];
        add_items(selection, &outer, &mut found);
    }
    found
}

fn add_items<'r>(selection: &'r Detection, outer: &[PlaceStep], found: &mut Vec<(Vec<PlaceStep>, &'r DetectionItem)>) {
    match selection {
        Detection::AllOf(items) => {
            for item in items {
                let mut place = outer.to_vec();
                place.push(PlaceStep::Item(item.field.clone()));
                place.reverse();
                found.push((place, item));
            }
        }
        Detection::AnyOf(parts) => {
            for (index, part) in parts.iter().enumerate() {
                add_items(part, &[outer, &[PlaceStep::Index(index)]].concat(), found);
            }
        }
        Detection::And(_) | Detection::Keywords(_) | Detection::ArrayMatch { .. } | Detection::Conditional { .. } => {}
    }
}
