//! Writes a rule as Panther's Simple Detection.

use serde_json::{Map, Value as Json, json};

use super::predicate::NumberOperand;
use super::{
    Class, Compared, Counts, ExpectedFinding, Field, FirstSeen, HuntTest, Operand, Predicate, Quantifier, Rule, Test,
    TimePart, Value,
};
use crate::path::Path;

/// A part of a rule that a Simple Detection cannot say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} cannot be written as a Simple Detection")]
pub struct Untranslatable(String);

type Written = Result<Json, Untranslatable>;

/// Returns the YAML of a rule: its identity, window, detection, group and tests. Titles and contexts that are made by
/// functions are left out, with a comment.
///
/// # Errors
/// The detection, the group or the counted value is not made of conditions on fields.
pub fn yaml(rule: &Rule) -> Result<String, Untranslatable> {
    let mut lines = vec!["AnalysisType: rule".to_owned()];
    let mut add = |key: &str, value: Json| lines.push(format!("{key}: {value}"));
    add("RuleID", json!(rule.id));
    add("DisplayName", json!(rule.display_name));
    add("Enabled", json!(rule.enabled));
    add("Severity", json!(rule.severity.to_string()));
    add("LogTypes", json!(["AWS.CloudTrail"]));
    if !rule.alert {
        add("CreateAlert", json!(false));
    }
    add("Threshold", json!(rule.window.threshold));
    add("DedupPeriodMinutes", json!(rule.window.period.micros() / 60_000_000));
    let mut hunt = Map::new();
    if rule.window.kind != super::WindowKind::default() {
        hunt.insert("Window".to_owned(), json!(rule.window.kind.to_string()));
    }
    match &rule.counts {
        Counts::Matches => {}
        Counts::Distinct(field) => drop(hunt.insert("Unique".to_owned(), json!(path(field)?.to_string()))),
        Counts::Sum(field) => drop(hunt.insert("Sum".to_owned(), json!(path(field)?.to_string()))),
        Counts::Statistic(_, condition) => return Err(Untranslatable(format!("a {} of numbers", condition.statistic))),
        Counts::Followed { .. } | Counts::EachOf(_) | Counts::InOrder(_) => {
            return Err(Untranslatable("a sequence of events".to_owned()));
        }
    }
    if let Some(events) = rule.min_events {
        hunt.insert("MinEvents".to_owned(), json!(events));
    }
    if let Some(FirstSeen { fields, periods }) = &rule.first_seen {
        let fields = fields.iter().map(|field| Ok(json!(path(field)?.to_string())));
        hunt.insert("New".to_owned(), Json::Array(fields.collect::<Result<_, Untranslatable>>()?));
        hunt.insert("History".to_owned(), json!(periods.history.to_string()));
        if let Some(learning) = periods.learning {
            hunt.insert("Learning".to_owned(), json!(learning.to_string()));
        }
    }
    if let Some(absence) = &rule.absence {
        return Err(Untranslatable(format!("`{}`", absence.side.key())));
    }
    if !rule.peak_limits.is_empty() {
        return Err(Untranslatable("an upper limit of the count".to_owned()));
    }
    if !hunt.is_empty() {
        add("Hunt", Json::Object(hunt));
    }
    if !rule.group_by.is_empty() {
        let keys = rule.group_by.iter().map(|field| Ok(json!({ "KeyPath": path(field)?.to_string() })));
        add("GroupBy", Json::Array(keys.collect::<Result<_, Untranslatable>>()?));
    }
    let notes = [
        ("Description", &rule.notes.description),
        ("Runbook", &rule.notes.runbook),
        ("Reference", &rule.notes.reference),
    ];
    for (key, note) in notes {
        if let Some(note) = note {
            add(key, json!(note));
        }
    }
    if !rule.notes.reports.is_empty() {
        add("Reports", json!(rule.notes.reports));
    }
    lines.push("Detection:".to_owned());
    match &rule.detection {
        Predicate::All(parts) if !parts.is_empty() => {
            for part in parts {
                lines.push(format!("  - {}", expression(part)?));
            }
        }
        other => lines.push(format!("  - {}", expression(other)?)),
    }
    if !rule.tests.is_empty() || !rule.hunt_tests.is_empty() {
        lines.push("Tests:".to_owned());
        for HuntTest { name, logs, expected } in &rule.hunt_tests {
            let expected: Vec<Json> = expected.iter().map(ExpectedFinding::to_json).collect();
            let (name, expected) = (json!(name), json!(expected));
            let logs = logs.join(",");
            lines.push(format!("  - {{\"Name\":{name},\"ExpectedFindings\":{expected},\"Logs\":[{logs}]}}"));
        }
        for test in &rule.tests {
            let (name, expected) = (json!(test.name), test.expected);
            lines.push(format!("  - {{\"Name\":{name},\"ExpectedResult\":{expected},\"Log\":{}}}", test.log));
        }
    }
    let is_python = |field: &Field| matches!(field, Field::Python(_));
    let has_functions =
        rule.title_fields().into_iter().any(is_python) || rule.context.iter().any(|(_, field)| is_python(field));
    if has_functions || !rule.dynamic_severities.is_empty() {
        lines.push("# Not translated: what makes titles, severities and contexts.".to_owned());
    }
    Ok(lines.join("\n") + "\n")
}

fn path(field: &Field) -> Result<Path, Untranslatable> {
    match field {
        Field::Path(path) | Field::Element(path) => Ok(path.clone()),
        Field::Account | Field::Actor | Field::Network | Field::Act | Field::Origin => {
            Ok(Path::of_key(&field.to_string()))
        }
        Field::MapText(_) | Field::TimePart(..) | Field::Alias(_) | Field::Python(_) => {
            Err(Untranslatable(format!("`{field}`")))
        }
    }
}

fn expression(predicate: &Predicate) -> Written {
    let all = |parts: &[Predicate]| parts.iter().map(expression).collect::<Result<Vec<_>, _>>();
    Ok(match predicate {
        Predicate::All(parts) if parts.is_empty() => json!({ "Condition": "AlwaysTrue" }),
        Predicate::Any(parts) if parts.is_empty() => json!({ "Condition": "AlwaysFalse" }),
        Predicate::All(parts) => json!({ "All": all(parts)? }),
        Predicate::Any(parts) => json!({ "Any": all(parts)? }),
        Predicate::None(parts) => json!({ "None": all(parts)? }),
        Predicate::OnlyOne(parts) => json!({ "OnlyOne": all(parts)? }),
        Predicate::Elements { list, quantifier, each } => {
            let condition = match quantifier {
                Quantifier::Any => "AnyElement",
                Quantifier::All => "AllElements",
                Quantifier::No => "NoElement",
                Quantifier::One => "OnlyOneElement",
            };
            let expressions = match &**each {
                Predicate::All(parts) => all(parts)?,
                other => vec![expression(other)?],
            };
            json!({ "KeyPath": path(list)?.to_string(), "Condition": condition, "Expressions": expressions })
        }
        Predicate::Test { field, test, negated } => condition(field, test, *negated)?,
        Predicate::During(_) | Predicate::Except { .. } => return Err(Untranslatable("an exception".to_owned())),
    })
}

fn condition(field: &Field, test: &Test, negated: bool) -> Written {
    if let (Field::TimePart(part, zone), Test::In(values)) = (field, test)
        && let Some(name) =
            [(TimePart::Hour, "Hour"), (TimePart::Weekday, "Weekday")].into_iter().find(|(known, _)| known == part)
    {
        let values: Vec<&str> = values.iter().map(|value| value.text.as_str()).collect();
        let written = json!({ "Key": "eventTime", "Condition": name.1, "Values": values, "Zone": zone.name() });
        return Ok(if negated { json!({ "None": [written] }) } else { written });
    }
    let key = path(field)?.to_string();
    let bare = |positive: &str, negative: &str| json!({ "KeyPath": key, "Condition": if negated { negative } else { positive } });
    let of_text = |name: &str, operand: &Operand| {
        let ignores_case = matches!(operand, Operand::Folded(_) | Operand::FoldedField(_));
        let name = match (negated, name) {
            (false, name) => name.to_owned(),
            (true, "Equals") => "DoesNotEqual".to_owned(),
            (true, name) => format!(
                "DoesNot{}",
                name.replace("Starts", "Start").replace("Ends", "End").replace("Contains", "Contain")
            ),
        };
        let name = if ignores_case { format!("I{name}") } else { name };
        match operand {
            Operand::Value(Value { text, .. }) | Operand::Folded(Value { text, .. }) => {
                Ok(json!({ "KeyPath": key, "Condition": name, "Value": text }))
            }
            Operand::Field(other) | Operand::FoldedField(other) => {
                let keys = [json!({ "KeyPath": key }), json!({ "KeyPath": path(other)?.to_string() })];
                Ok(json!({ "Condition": name, "Values": keys }))
            }
            Operand::AnyText { .. } => Err(Untranslatable(format!("a test of `{key}`"))),
        }
    };
    let positive = |written: Json| if negated { json!({ "None": [written] }) } else { written };
    Ok(match test {
        Test::Present => bare("IsNotNull", "IsNull"),
        Test::Filled => bare("IsNotNullOrEmpty", "IsNullOrEmpty"),
        Test::Equals(operand) => of_text("Equals", operand)?,
        Test::StartsWith(operand) => of_text("StartsWith", operand)?,
        Test::EndsWith(operand) => of_text("EndsWith", operand)?,
        Test::Contains(operand) => of_text("Contains", operand)?,
        Test::In(values) => {
            let values: Vec<&str> = values.iter().map(|value| value.text.as_str()).collect();
            json!({ "KeyPath": key, "Condition": if negated { "IsNotIn" } else { "IsIn" }, "Values": values })
        }
        Test::Number(compared, NumberOperand::Value(number)) => {
            let name = match compared {
                Compared::Greater => "IsGreaterThan",
                Compared::GreaterOrEqual => "IsGreaterThanOrEquals",
                Compared::Less => "IsLessThan",
                Compared::LessOrEqual => "IsLessThanOrEquals",
            };
            let number: Json = serde_json::from_str(number).unwrap_or_else(|_| json!(number));
            positive(json!({ "KeyPath": key, "Condition": name, "Value": number }))
        }
        Test::Address(class) => {
            let name = match class {
                Class::Address => "IsIPAddress",
                Class::V4 => "IsIPv4Address",
                Class::V6 => "IsIPv6Address",
                Class::Private => "IsIPAddressPrivate",
                Class::Public => "IsIPAddressPublic",
            };
            positive(json!({ "KeyPath": key, "Condition": name }))
        }
        Test::Within(network) => {
            positive(json!({ "KeyPath": key, "Condition": "IsIPAddressInCIDR", "Value": network.to_string() }))
        }
        Test::Matches(_)
        | Test::Number(..)
        | Test::AnyWithin(_)
        | Test::InList(_)
        | Test::WithinList(_)
        | Test::AnyWithinList(_) => {
            return Err(Untranslatable(format!("a test of `{key}`")));
        }
    })
}
