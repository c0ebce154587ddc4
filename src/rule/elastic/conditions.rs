//! Queries as predicates of records.
//!
//! As in Elasticsearch, keywords are compared exactly and with their case. A field with several values has a value if
//! any of them is it, and `not` holds for a record without the field.

use ipnet::IpNet;

use super::fields::{self, EcsField, at, is_filled, is_sign_in, is_text};
use super::kql::{Pattern, PatternPart, Query};
use crate::event::{ColumnKind, FieldLocation};
use crate::path::{Path, Step};
use crate::rule::{Class, Field, Operand, Predicate, Quantifier, Test, Value};

/// A part of a query that is not supported, and its position in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Unsupported {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// A predicate that always holds, or never.
pub(super) const fn always(holds: bool) -> Predicate {
    if holds { Predicate::All(Vec::new()) } else { Predicate::Any(Vec::new()) }
}

/// Returns the predicate of a query. Conditions on fields that all documents share are decided here.
pub(super) fn predicate(query: &Query) -> Result<Predicate, Unsupported> {
    let parts = |parts: &[Query]| parts.iter().map(predicate).collect::<Result<Vec<_>, _>>();
    Ok(match query {
        Query::And(all) => conjunction(parts(all)?),
        Query::Or(any) => disjunction(parts(any)?),
        Query::Not(inner) => negation(predicate(inner)?),
        Query::Is { field, value, at } => {
            let unsupported = |reason| Unsupported { at: *at, reason };
            is(&fields::field(field).map_err(unsupported)?, value).map_err(unsupported)?
        }
    })
}

/// Returns whether all parts hold.
pub(super) fn conjunction(parts: Vec<Predicate>) -> Predicate {
    if parts.contains(&always(false)) {
        return always(false);
    }
    let mut all = Vec::new();
    for part in parts {
        match part {
            Predicate::All(inner) => all.extend(inner),
            other => all.push(other),
        }
    }
    if all.len() == 1 { all.remove(0) } else { Predicate::All(all) }
}

/// Returns whether any part holds. Several values of one field become one condition.
fn disjunction(parts: Vec<Predicate>) -> Predicate {
    if parts.contains(&always(true)) {
        return always(true);
    }
    let mut any: Vec<Predicate> = Vec::new();
    for part in parts {
        match (any.last_mut(), part) {
            (_, Predicate::Any(inner)) => any.extend(inner),
            (Some(Predicate::Elements { list, each, .. }), Predicate::Elements { list: same, each: other, .. })
                if *list == same =>
            {
                let first = std::mem::replace(&mut **each, always(false));
                **each = disjunction(vec![first, *other]);
            }
            (_, other) => any.push(other),
        }
    }
    let values: Option<Vec<(&Field, &Value)>> = any.iter().map(single_value).collect();
    if let Some(values) = values
        && let [(field, _), _, ..] = values.as_slice()
        && values.iter().all(|(other, _)| other == field)
    {
        let test = Test::In(values.iter().map(|(_, value)| (*value).clone()).collect());
        return Predicate::Test { field: (*field).clone(), test, negated: false };
    }
    if any.len() == 1 { any.remove(0) } else { Predicate::Any(any) }
}

/// Returns the value of a condition on a column of text.
fn single_value(predicate: &Predicate) -> Option<(&Field, &Value)> {
    match predicate {
        Predicate::Test { field, test: Test::Equals(Operand::Value(value)), negated: false } => {
            matches!(field.location(), Some(FieldLocation::Column(_, ColumnKind::Text))).then_some((field, value))
        }
        _ => None,
    }
}

fn negation(predicate: Predicate) -> Predicate {
    if predicate == always(true) {
        always(false)
    } else if predicate == always(false) {
        always(true)
    } else {
        Predicate::None(vec![predicate])
    }
}

/// Returns whether a field has a value.
fn is(field: &EcsField, value: &Pattern) -> Result<Predicate, String> {
    Ok(match field {
        EcsField::Constant(text) => always(value.matches(text)),
        EcsField::Outcome => outcome(value),
        EcsField::Address => address(value)?,
        EcsField::SignInFlag(key) => sign_in_flag(key, value),
        EcsField::Text(field) => text(field, value),
        EcsField::Values(field) => any_value(field, value),
    })
}

/// Returns a predicate: a group by the field has a value.
pub(super) fn exists(field: &EcsField) -> Predicate {
    let any = Pattern(vec![PatternPart::Wildcard]);
    is(field, &any).unwrap_or_else(|_| always(true))
}

/// Returns the predicate of `event.outcome`: the result of a sign-in in lower case, else `failure` if there is an error
/// code or message, else `success`.
fn outcome(value: &Pattern) -> Predicate {
    let result = at("responseElements.ConsoleLogin");
    let has_result = Predicate::All(vec![is_sign_in(), is_filled(&result)]);
    let failed = Predicate::Any(["errorCode", "errorMessage"].map(at).iter().map(is_filled).collect());
    let of_call = match (value.matches("success"), value.matches("failure")) {
        (true, true) => always(true),
        (true, false) => Predicate::None(vec![failed]),
        (false, true) => failed,
        (false, false) => always(false),
    };
    let of_result = if value.is_any() {
        always(true)
    } else if value.has_upper_case() {
        always(false)
    } else if let Some(text) = value.as_text() {
        let test = Test::Equals(Operand::Folded(Value { text: text.to_owned(), shortest: None }));
        Predicate::Test { field: result, test, negated: false }
    } else {
        Predicate::Test { field: result, test: Test::Matches(value.regex(true)), negated: false }
    };
    disjunction(vec![
        conjunction(vec![has_result.clone(), of_result]),
        conjunction(vec![negation(has_result), of_call]),
    ])
}

/// Returns the predicate of `source.ip`: an address, or a network that holds it.
fn address(value: &Pattern) -> Result<Predicate, String> {
    let is_address = Predicate::Test { field: fields::source(), test: Test::Address(Class::Address), negated: false };
    if value.is_any() {
        return Ok(is_address);
    }
    let text = value.as_text().unwrap_or_default();
    let network = text.parse::<IpNet>().ok().or_else(|| Some(text.parse::<std::net::IpAddr>().ok()?.into()));
    let Some(network) = network else {
        return Err(format!("`{value}` is neither an address nor a network, such as `192.0.2.0/24`"));
    };
    let is_within = Predicate::Test { field: fields::source(), test: Test::Within(network.trunc()), negated: false };
    Ok(Predicate::All(vec![is_address, is_within]))
}

/// Returns the predicate of a boolean of a sign-in, which is false if the member is `No`.
fn sign_in_flag(key: &str, value: &Pattern) -> Predicate {
    let member = at(&format!("additionalEventData.{key}"));
    let is_no = is_text(member.clone(), "No");
    let of_value = match (value.matches("true"), value.matches("false")) {
        (true, true) => always(true),
        (true, false) => negation(is_no),
        (false, true) => is_no,
        (false, false) => return always(false),
    };
    conjunction(vec![is_sign_in(), is_filled(&member), of_value])
}

/// Returns whether a text matches.
fn text(field: &Field, value: &Pattern) -> Predicate {
    match value.as_text() {
        // Elastic's pipeline drops empty texts.
        Some("") => always(false),
        Some(text) => is_text(field.clone(), text),
        None if value.is_any() => is_filled(field),
        None => Predicate::Test { field: field.clone(), test: wildcard(field, value), negated: false },
    }
}

/// Returns whether any of the strings, numbers and booleans at a path matches. The path goes through lists.
fn any_value(field: &Field, value: &Pattern) -> Predicate {
    let element = Field::Element(Path::default());
    let each = match value.as_text() {
        Some("") => return always(false),
        Some(text) => is_text(element, text),
        // Objects and empty texts are not values.
        None if value.is_any() => {
            Predicate::Test { field: element, test: Test::Matches("(?s)(.)".to_owned()), negated: false }
        }
        None => {
            let test = wildcard(&element, value);
            Predicate::Test { field: element, test, negated: false }
        }
    };
    let mut steps = Vec::new();
    if let Field::Path(path) = field {
        for step in &path.0 {
            steps.extend([step.clone(), Step::Through]);
        }
    }
    Predicate::Elements { list: Field::Path(Path(steps)), quantifier: Quantifier::Any, each: Box::new(each) }
}

/// Returns the test of a pattern with wildcards.
fn wildcard(field: &Field, pattern: &Pattern) -> Test {
    use PatternPart::{Text, Wildcard};
    let operand = |text: &String| Operand::Value(Value { text: text.clone(), shortest: None });
    // These tests are of strings only. A number or boolean may have the text too.
    let is_string = |text: &String| {
        matches!(field.location(), Some(FieldLocation::Column(_, ColumnKind::Text)))
            || !(text.bytes().all(|byte| b"0123456789.eE+-".contains(&byte))
                || ["true", "false"].iter().any(|flag| flag.contains(text.as_str())))
    };
    match pattern.0.as_slice() {
        [Text(text), Wildcard] if is_string(text) => Test::StartsWith(operand(text)),
        [Wildcard, Text(text)] if is_string(text) => Test::EndsWith(operand(text)),
        [Wildcard, Text(text), Wildcard] if is_string(text) => Test::Contains(operand(text)),
        _ => Test::Matches(pattern.regex(false)),
    }
}
