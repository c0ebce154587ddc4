//! Rewrites selections in ways that Sigma's parser does not know: parts of times, and placeholders.

use rsigma_parser::parse_field_spec;

use super::shape::{Checked, invalid};
use crate::event::EVENT_TIME;
use crate::rule::TimePart;
use crate::rule::placeholders::Placeholders;
use crate::rule::yaml::{YamlContent, YamlNode};

/// The most values that placeholders may make of one value.
const MAX_VALUES: usize = 1_000;

/// Rewrites the selections of a document: `eventTime|hour` becomes `eventTime.hour`, and values with placeholders become
/// their values. Returns the parts that cannot be rewritten.
pub(super) fn rewrite(node: &mut YamlNode, placeholders: &Placeholders) -> Checked {
    let YamlContent::Map(members) = &mut node.content else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    for (key, section) in members {
        let others: &[&str] = match key.as_text() {
            Some("detection") => &["condition", "timeframe"],
            Some("filter") => &["condition", "rules"],
            _ => continue,
        };
        let YamlContent::Map(selections) = &mut section.content else {
            continue;
        };
        for (name, selection) in selections {
            if !name.as_text().is_some_and(|name| others.contains(&name)) {
                wrong.extend(rewrite_selection(selection, placeholders));
            }
        }
    }
    wrong
}

fn rewrite_selection(node: &mut YamlNode, placeholders: &Placeholders) -> Checked {
    match &mut node.content {
        YamlContent::Scalar { .. } => Vec::new(),
        YamlContent::List(parts) => parts.iter_mut().flat_map(|part| rewrite_selection(part, placeholders)).collect(),
        YamlContent::Map(items) => {
            items.iter_mut().flat_map(|(key, value)| rewrite_item(key, value, placeholders)).collect()
        }
    }
}

fn rewrite_item(key: &mut YamlNode, value: &mut YamlNode, placeholders: &Placeholders) -> Checked {
    let YamlContent::Scalar { text, .. } = &mut key.content else {
        return Vec::new();
    };
    let mut parts: Vec<&str> = text.split('|').collect();
    let mut part_of_time = None;
    if parts[0].eq_ignore_ascii_case(EVENT_TIME) {
        let names = TimePart::ALL.map(TimePart::name);
        part_of_time = parts.iter().position(|part| names.contains(part)).map(|at| parts.remove(at));
    }
    let expands = parts.iter().position(|part| *part == "expand").map(|at| parts.remove(at)).is_some();
    let mut name = parts[0].to_owned();
    if let Some(part) = part_of_time {
        name = format!("{name}.{part}");
    }
    parts[0] = &name;
    let written = parts.join("|");
    let wrong = if expands && parse_field_spec(&written).is_ok() { expand(value, placeholders) } else { Vec::new() };
    *text = written;
    wrong
}

/// Replaces values with placeholders.
fn expand(node: &mut YamlNode, placeholders: &Placeholders) -> Checked {
    let values = match &node.content {
        YamlContent::List(values) => values.clone(),
        _ => vec![node.clone()],
    };
    let (mut expanded, mut wrong) = (Vec::new(), Vec::new());
    for value in values {
        let YamlContent::Scalar { text, plain } = &value.content else {
            // The check of shapes names it.
            expanded.push(value);
            continue;
        };
        match placeholders.expand(text, MAX_VALUES) {
            Ok(texts) => expanded.extend(
                texts
                    .into_iter()
                    .map(|text| YamlNode { content: YamlContent::Scalar { text, plain: *plain }, ..value.clone() }),
            ),
            Err(reason) => wrong.extend(invalid(value.mark, reason.to_string())),
        }
    }
    node.content = YamlContent::List(expanded);
    wrong
}
