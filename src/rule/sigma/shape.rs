//! Checks of Sigma files that its parser does not make: unknown keys, and values that it would read as something
//! else.

use super::Unsupported;
use crate::rule::limits::{self, CONDITION_WORDS};
use crate::rule::yaml::{self, Mark, YamlContent, YamlNode, YamlSource};

/// The keys of a correlation.
const CORRELATION: [&str; 8] = ["type", "rules", "group-by", "timespan", "window", "condition", "aliases", "generate"];

/// The keys of a correlation's condition.
const CONDITION: [&str; 7] = ["gt", "gte", "lt", "lte", "eq", "neq", "field"];

/// The most `not`s in a condition. Each is a recursion in the parser.
const NEGATIONS: usize = 64;

type Checked = Result<(), (Mark, String)>;

/// Checks the documents of a file.
///
/// # Errors
/// The first element that would be read wrongly, with its place.
pub(super) fn check(name: &str, text: &str) -> Result<(), Unsupported> {
    let mut first = 1;
    for document in documents(text) {
        let source = YamlSource { name, text: document };
        let lines = document.lines().count();
        if document.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#')) {
            let place = |Mark { line, column }: Mark| format!("line {}, column {column}", line + first - 1);
            let node = source.read().map_err(|error| Unsupported::new(error.to_string()))?;
            self::document(&node).map_err(|(mark, message)| Unsupported::new(format!("{}: {message}", place(mark))))?;
        }
        // The separator line.
        first += lines + 1;
    }
    Ok(())
}

/// Returns the texts between document separators.
fn documents(text: &str) -> Vec<&str> {
    let mut documents = Vec::new();
    let (mut begin, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end() == "---" {
            documents.push(&text[begin..at]);
            begin = at + line.len();
        }
        at += line.len();
    }
    documents.push(&text[begin..]);
    documents
}

fn document(node: &YamlNode) -> Checked {
    let (Some(correlation), detection) = (member(node, "correlation"), member(node, "detection")) else {
        return member(node, "detection").map_or(Ok(()), self::detection);
    };
    if let Some(detection) = detection {
        return Err((detection.mark, "a correlation has no `detection`".to_owned()));
    }
    self::correlation(correlation)
}

fn correlation(node: &YamlNode) -> Checked {
    known(node, "correlation", &CORRELATION)?;
    let rules = member(node, "rules").ok_or((node.mark, "`rules` is missing".to_owned()))?;
    let names = texts(rules, "rules")?;
    if names == 0 {
        return Err((rules.mark, "`rules` names none".to_owned()));
    }
    if let Some(group) = member(node, "group-by") {
        texts(group, "group-by")?;
    }
    if let Some(aliases) = member(node, "aliases") {
        for (_, alias) in map(aliases, "aliases")? {
            for (_, field) in map(alias, "aliases")? {
                scalar(field, "aliases")?;
            }
        }
    }
    let Some(condition) = member(node, "condition") else {
        return Ok(());
    };
    if matches!(condition.content, YamlContent::Map(_)) {
        known(condition, "condition", &CONDITION)?;
    }
    let in_time = member(node, "type").and_then(YamlNode::as_text).is_some_and(|kind| kind.starts_with("temporal"));
    let all = member(condition, "gte").and_then(YamlNode::as_text).is_some_and(|number| number == names.to_string());
    if in_time && !(all && matches!(&condition.content, YamlContent::Map(members) if members.len() == 1)) {
        let message = "a `condition` on the rules of a temporal correlation is not hunted: all must occur";
        return Err((condition.mark, message.to_owned()));
    }
    Ok(())
}

fn detection(node: &YamlNode) -> Checked {
    for (key, value) in map(node, "detection")? {
        match key.as_text() {
            Some("condition") => condition_words(value)?,
            Some("timeframe") => {}
            _ => selection(value)?,
        }
    }
    Ok(())
}

fn condition_words(node: &YamlNode) -> Checked {
    let conditions = match &node.content {
        YamlContent::List(conditions) => conditions.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for condition in conditions {
        let words = condition.as_text().unwrap_or_default().split(|c: char| !c.is_alphanumeric());
        let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
        if words.iter().filter(|word| word.eq_ignore_ascii_case("not")).count() > NEGATIONS {
            return Err((condition.mark, format!("a condition with more than {NEGATIONS} `not`s is not read")));
        }
        if words.len() > CONDITION_WORDS {
            let advice = "write `1 of selection*`, or list values in one selection";
            return Err((
                condition.mark,
                limits::exceeded("words of a condition", CONDITION_WORDS, advice).to_string(),
            ));
        }
    }
    Ok(())
}

fn selection(node: &YamlNode) -> Checked {
    match &node.content {
        YamlContent::Map(members) if members.is_empty() => {
            Err((node.mark, "an empty selection would match every record".to_owned()))
        }
        YamlContent::Map(members) => members.iter().try_for_each(|(key, value)| values(key, value)),
        YamlContent::List(parts) if parts.is_empty() => {
            Err((node.mark, "an empty selection would match every record".to_owned()))
        }
        YamlContent::List(parts) => parts.iter().try_for_each(selection),
        YamlContent::Scalar { .. } => Ok(()),
    }
}

fn values(key: &YamlNode, node: &YamlNode) -> Checked {
    match &node.content {
        YamlContent::List(values) => values.iter().try_for_each(|value| scalar(value, "values")),
        YamlContent::Map(members) => {
            let name = key.as_text().unwrap_or_default();
            let below = members.first().and_then(|(below, _)| below.as_text()).unwrap_or("KEY");
            Err((node.mark, format!("a mapping is not a value to compare with: write `{name}.{below}` as one key")))
        }
        YamlContent::Scalar { .. } => scalar(node, "a value"),
    }
}

fn member<'n>(node: &'n YamlNode, name: &str) -> Option<&'n YamlNode> {
    let YamlContent::Map(members) = &node.content else {
        return None;
    };
    members.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

fn map<'n>(node: &'n YamlNode, name: &str) -> Result<&'n [(YamlNode, YamlNode)], (Mark, String)> {
    match &node.content {
        YamlContent::Map(members) => Ok(members),
        _ => Err((node.mark, format!("`{name}` must be a mapping, not {}", node.kind()))),
    }
}

fn known(node: &YamlNode, name: &str, keys: &[&str]) -> Checked {
    for (key, _) in map(node, name)? {
        let given = key.as_text().unwrap_or_default();
        if !keys.contains(&given) {
            let meant = yaml::nearest(given, keys.iter().copied());
            let meant = meant.map_or_else(String::new, |meant| format!(": is `{meant}` meant?"));
            return Err((key.mark, format!("`{name}` has no `{given}`{meant}")));
        }
    }
    Ok(())
}

/// Returns the number of texts: one, or the length of a list.
fn texts(node: &YamlNode, name: &str) -> Result<usize, (Mark, String)> {
    let elements = match &node.content {
        YamlContent::List(elements) => elements.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for element in elements {
        if element.kind() != "a text" {
            return Err((element.mark, format!("`{name}` must be texts, not {}", element.kind())));
        }
    }
    Ok(elements.len())
}

fn scalar(node: &YamlNode, name: &str) -> Checked {
    match &node.content {
        YamlContent::Scalar { .. } => Ok(()),
        _ => Err((node.mark, format!("{} is not a value to compare with, in {name}", node.kind()))),
    }
}
