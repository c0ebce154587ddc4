//! Checks of Sigma files that its parser does not make: unknown keys, and values that it would read as something
//! else.

use rsigma_parser::SigmaParserError;

use super::statistic;
use crate::error::RuleErrorKind;
use crate::rule::limits::{self, CONDITION_WORDS};
use crate::rule::yaml::{self, Mark, YamlContent, YamlNode};

/// The keys of a correlation.
const CORRELATION: [&str; 8] = ["type", "rules", "group-by", "timespan", "window", "condition", "aliases", "generate"];

/// The keys of a correlation's condition.
const CONDITION: [&str; 8] = ["gt", "gte", "lt", "lte", "eq", "neq", "field", "percentile"];

/// The most `not`s in a condition. Each is a recursion in the parser.
const NEGATIONS: usize = 64;

/// Something wrong, and its place.
pub(super) type Wrong = (RuleErrorKind, Mark, String);

pub(super) type Checked = Vec<Wrong>;

pub(super) fn invalid(mark: Mark, message: impl Into<String>) -> Checked {
    vec![(RuleErrorKind::Invalid, mark, message.into())]
}

pub(super) fn unsupported(mark: Mark, message: impl Into<String>) -> Checked {
    vec![(RuleErrorKind::Unsupported, mark, message.into())]
}

/// Returns all parts of a document that would be read wrongly.
pub(super) fn check(node: &YamlNode) -> Checked {
    let Ok(members) = map(node, "a Sigma rule") else {
        return invalid(node.mark, format!("a Sigma rule must be a mapping, and this is {}", node.kind()));
    };
    let mut wrong = Vec::new();
    if let Some((key, _)) = members.iter().find(|(key, _)| key.as_text() == Some("action")) {
        let message = "`action` joins the documents of a file, which is not supported: write every rule out";
        wrong.extend(unsupported(key.mark, message));
    }
    if node.member("title").and_then(YamlNode::as_text).is_none() {
        wrong.extend(invalid(node.mark, "`title` is missing"));
    }
    if let Some(filter) = node.member("filter") {
        wrong.extend(self::filter(node, filter));
        return wrong;
    }
    match (node.member("correlation"), node.member("detection")) {
        (Some(_), Some(detection)) => wrong.extend(invalid(detection.mark, "a correlation has no `detection`")),
        (Some(correlation), None) => wrong.extend(self::correlation(correlation)),
        (None, Some(detection)) => wrong.extend(self::detection(detection, &["timeframe"])),
        (None, None) => wrong.extend(invalid(node.mark, "`detection` is missing")),
    }
    wrong
}

fn correlation(node: &YamlNode) -> Checked {
    if let Err(wrong) = map(node, "correlation") {
        return wrong;
    }
    let mut wrong = known(node, "correlation", &CORRELATION);
    match node.member("rules") {
        None => wrong.extend(invalid(node.mark, "`rules` is missing")),
        Some(rules) => {
            let (names, of_names) = texts(rules, "rules");
            wrong.extend(of_names);
            if names == 0 {
                wrong.extend(invalid(rules.mark, "`rules` names none"));
            }
        }
    }
    if let Some(group) = node.member("group-by") {
        wrong.extend(texts(group, "group-by").1);
    }
    if let Some(aliases) = node.member("aliases") {
        match map(aliases, "aliases") {
            Err(of_aliases) => wrong.extend(of_aliases),
            Ok(aliases) => {
                for (_, alias) in aliases {
                    match map(alias, "aliases") {
                        Err(of_alias) => wrong.extend(of_alias),
                        Ok(fields) => wrong.extend(fields.iter().flat_map(|(_, field)| scalar(field, "aliases"))),
                    }
                }
            }
        }
    }
    if statistic::is_compared(node) {
        wrong.extend(statistic::check(node));
    }
    let Some(condition) = node.member("condition") else {
        return wrong;
    };
    if let Some(percentile) = condition.member("percentile")
        && node.member("type").and_then(YamlNode::as_text) != Some("value_percentile")
    {
        wrong.extend(invalid(percentile.mark, "`percentile` is for correlations of the type `value_percentile`"));
    }
    if matches!(condition.content, YamlContent::Map(_)) {
        wrong.extend(known(condition, "condition", &CONDITION));
    }
    let in_time = node.member("type").and_then(YamlNode::as_text).is_some_and(|kind| kind.starts_with("temporal"));
    // The parser cannot tell this from no condition.
    if in_time && condition.member("gte").and_then(YamlNode::as_text) == Some("1") {
        let message = "with `gte: 1` one of the rules is enough: write an `event_count` correlation";
        wrong.extend(unsupported(condition.mark, message));
    }
    wrong
}

fn filter(document: &YamlNode, node: &YamlNode) -> Checked {
    let mut wrong = Vec::new();
    if document.member("logsource").is_none() {
        wrong.extend(invalid(document.mark, "`logsource` is missing"));
    }
    match node.member("rules") {
        Some(rules) => wrong.extend(texts(rules, "rules").1),
        None if map(node, "filter").is_ok() => {
            wrong.extend(invalid(node.mark, "`rules` is missing: name the rules to filter, or write `any`"));
        }
        None => {}
    }
    wrong.extend(detection(node, &["rules"]));
    wrong
}

fn detection(node: &YamlNode, others: &[&str]) -> Checked {
    let members = match map(node, "detection") {
        Ok(members) => members,
        Err(wrong) => return wrong,
    };
    let mut wrong = Vec::new();
    if node.member("condition").is_none() {
        wrong.extend(invalid(node.mark, "`condition` is missing"));
    }
    for (key, value) in members {
        wrong.extend(match key.as_text() {
            Some("condition") => conditions(value),
            Some(other) if others.contains(&other) => Vec::new(),
            _ => selection(value),
        });
    }
    wrong
}

fn conditions(node: &YamlNode) -> Checked {
    let conditions = match &node.content {
        YamlContent::List(conditions) => conditions.as_slice(),
        _ => std::slice::from_ref(node),
    };
    conditions.iter().flat_map(condition).collect()
}

fn condition(node: &YamlNode) -> Checked {
    let Some(text) = node.as_text() else {
        return invalid(node.mark, format!("`condition` must be a text, and this is {}", node.kind()));
    };
    if let Some((_, aggregation)) = text.split_once('|') {
        let old = format!("`| {}` is the old notation of counts", aggregation.trim());
        let advice = "write a correlation with `type: event_count`, `rules`, `group-by`, `timespan` and \
                      `condition: {gte: N}` instead";
        return unsupported(node.mark, format!("{old}: {advice}"));
    }
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.iter().filter(|word| word.eq_ignore_ascii_case("not")).count() > NEGATIONS {
        return unsupported(node.mark, format!("a condition with more than {NEGATIONS} `not`s is not read"));
    }
    if words.len() > CONDITION_WORDS {
        let advice = "write `1 of selection*`, or list values in one selection";
        return unsupported(node.mark, limits::exceeded("words of a condition", CONDITION_WORDS, advice).to_string());
    }
    match rsigma_parser::parse_condition(text) {
        Ok(_) => Vec::new(),
        Err(reason) => {
            // The parser draws a picture of the condition; its last line has the reason.
            let shown = reason.to_string();
            let line = shown.lines().last().unwrap_or_default().trim().trim_start_matches("= ");
            let place = match reason.location() {
                Some(at) if !line.contains("maximum depth") => format!(" at its character {}", at.col),
                _ => String::new(),
            };
            invalid(node.mark, format!("the condition cannot be read{place}: {line}"))
        }
    }
}

fn selection(node: &YamlNode) -> Checked {
    match &node.content {
        YamlContent::Map(members) if members.is_empty() => {
            invalid(node.mark, "an empty selection would match every record")
        }
        YamlContent::Map(members) => members.iter().flat_map(|(key, value)| item(key, value)).collect(),
        YamlContent::List(parts) if parts.is_empty() => {
            invalid(node.mark, "an empty selection would match every record")
        }
        YamlContent::List(parts) => parts.iter().flat_map(selection).collect(),
        YamlContent::Scalar { .. } => Vec::new(),
    }
}

fn item(key: &YamlNode, node: &YamlNode) -> Checked {
    let name = key.as_text().unwrap_or_default();
    let mut wrong = match rsigma_parser::parse_field_spec(name) {
        Ok(_) => Vec::new(),
        Err(SigmaParserError::UnknownModifier(modifier)) => {
            invalid(key.mark, format!("`{name}`: Sigma has no modifier `{modifier}`"))
        }
        Err(SigmaParserError::NotIsNotAModifier) => {
            invalid(key.mark, format!("`{name}`: Sigma has no modifier `not`: write `not` into the condition"))
        }
        Err(reason) => invalid(key.mark, format!("`{name}`: {reason}")),
    };
    wrong.extend(match &node.content {
        YamlContent::List(values) => values.iter().flat_map(|value| scalar(value, "values")).collect(),
        YamlContent::Map(members) => {
            let below = members.first().and_then(|(below, _)| below.as_text()).unwrap_or("KEY");
            invalid(node.mark, format!("a mapping is not a value to compare with: write `{name}.{below}` as one key"))
        }
        YamlContent::Scalar { .. } => Vec::new(),
    });
    wrong
}

fn map<'n>(node: &'n YamlNode, name: &str) -> Result<&'n [(YamlNode, YamlNode)], Checked> {
    match &node.content {
        YamlContent::Map(members) => Ok(members),
        _ => Err(invalid(node.mark, format!("`{name}` must be a mapping, not {}", node.kind()))),
    }
}

fn known(node: &YamlNode, name: &str, keys: &[&str]) -> Checked {
    let YamlContent::Map(members) = &node.content else {
        return Vec::new();
    };
    let unknown = members.iter().filter(|(key, _)| !keys.contains(&key.as_text().unwrap_or_default()));
    let wrong = unknown.flat_map(|(key, _)| {
        let given = key.as_text().unwrap_or_default();
        let meant = yaml::nearest(given, keys.iter().copied());
        let meant = meant.map_or_else(String::new, |meant| format!(": is `{meant}` meant?"));
        invalid(key.mark, format!("`{name}` has no `{given}`{meant}"))
    });
    wrong.collect()
}

/// Returns the number of texts, which is one, or the length of a list, and the elements that are not texts.
fn texts(node: &YamlNode, name: &str) -> (usize, Checked) {
    let elements = match &node.content {
        YamlContent::List(elements) => elements.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let others = elements.iter().filter(|element| element.kind() != "a text");
    let wrong = others.flat_map(|other| invalid(other.mark, format!("`{name}` must be texts, not {}", other.kind())));
    (elements.len(), wrong.collect())
}

fn scalar(node: &YamlNode, name: &str) -> Checked {
    match &node.content {
        YamlContent::Scalar { .. } => Vec::new(),
        _ => invalid(node.mark, format!("{} is not a value to compare with, in {name}", node.kind())),
    }
}
