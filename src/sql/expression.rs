//! Fields and predicates as SQL expressions over the table `cloudtrail`.
//!
//! A test that must hold is written plainly: where its field has no value it is null, which selects
//! nothing. Whatever negates is written with `IS NOT TRUE` or `IS DISTINCT FROM`, so that no row vanishes.

use crate::event::{Kind, Place};
use crate::rule::{Field, Predicate, Test};

use super::quote::{Ident, Literal};

fn column(name: &str) -> String {
    Ident(name.to_owned()).to_string()
}

fn json(function: &str, json_column: &str, path: &[String]) -> String {
    let keys = path.iter().map(|key| Literal(key).to_string());
    let arguments: Vec<String> = std::iter::once(column(json_column)).chain(keys).collect();
    format!("{function}({})", arguments.join(", "))
}

fn identity(path: &[&str]) -> String {
    let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
    json("json_get_str", "userIdentity", &path)
}

fn present(expression: &str) -> String {
    format!("nullif({expression}, '')")
}

/// The account a record belongs to.
fn account() -> String {
    format!("coalesce({}, {})", present(&column("recipientAccountId")), present(&column("userIdentity.accountId")))
}

/// Who acted. A role session is its role; a session of IAM Identity Center is the person, whose name
/// is the session's. IAM user names are the same whatever their case.
fn actor() -> String {
    let role = column("userIdentity.sessionContext.sessionIssuer.userName");
    let session = format!("split_part({}, ':', 2)", identity(&["principalId"]));
    let names = [
        present(&format!("lower({})", column("userIdentity.userName"))),
        present(&identity(&["arn"])),
        present(&identity(&["principalId"])),
        present(&column("userIdentity.invokedBy")),
    ];
    [
        "CASE".to_owned(),
        format!("          WHEN {} = 'Root' THEN 'root'", column("userIdentity.type")),
        format!("          WHEN starts_with({role}, 'AWSReservedSSO_') THEN coalesce({}, {role})", present(&session)),
        format!("          WHEN {} IS NOT NULL THEN {role}", present(&role)),
        format!("          ELSE coalesce({})", names.join(", ")),
        "        END".to_owned(),
    ]
    .join("\n")
}

/// The value of a field by which matches are grouped: its text.
pub(super) fn group(field: &Field) -> String {
    match field {
        Field::Account => account(),
        Field::Actor => actor(),
        Field::Path(_) => match field.place() {
            Some(Place::Column(name, Kind::Flag)) => format!("CAST({} AS VARCHAR)", column(name)),
            Some(Place::Column(name, _)) => column(name),
            Some(Place::Below { column, path, .. }) => json("json_as_text", column, path),
            Some(Place::Time) | None => format!("CAST({} AS VARCHAR)", column("eventTime")),
        },
    }
}

/// The value of a field that a finding tells, and whether it is JSON text.
pub(super) fn context(field: &Field) -> (String, bool) {
    match field.place() {
        Some(Place::Below { column, path, .. }) => (json("json_get_json", column, path), true),
        Some(Place::Column(name, Kind::Json)) => (column(name), true),
        _ => (group(field), false),
    }
}

/// A predicate, indented by `depth` steps where it breaks lines.
pub(super) fn predicate(predicate_: &Predicate, depth: usize) -> String {
    let parts = |parts: &[Predicate]| parts.iter().map(|part| predicate(part, depth + 1)).collect::<Vec<_>>();
    let joined = |parts: Vec<String>, word: &str, none: &str| match parts.as_slice() {
        [] => none.to_owned(),
        [one] => one.clone(),
        _ => {
            let indent = "  ".repeat(depth + 5);
            format!("({})", parts.join(&format!("\n{indent}{word} ")))
        }
    };
    match predicate_ {
        Predicate::All(all) => joined(parts(all), "AND", "TRUE"),
        Predicate::Any(any) => joined(parts(any), "OR", "FALSE"),
        Predicate::None(none) => format!("({}) IS NOT TRUE", joined(parts(none), "OR", "FALSE")),
        Predicate::OnlyOne(one) => {
            let counted = parts(one).iter().map(|part| format!("CASE WHEN {part} THEN 1 ELSE 0 END")).collect();
            format!("{} = 1", joined(counted, "+", "0"))
        }
        Predicate::Test { field, test, negated } => test_of(field, test, *negated),
    }
}

fn test_of(field: &Field, test: &Test, negated: bool) -> String {
    let flag = matches!(field.place(), Some(Place::Column(_, Kind::Flag)));
    let function = |name: &str, text: &str| match string(field) {
        Some(string) => format!("{name}({string}, {})", Literal(text)),
        None => "FALSE".to_owned(),
    };
    let positive = match test {
        Test::Present => {
            let value = match field.place() {
                Some(Place::Column(name, _)) => column(name),
                _ => group(field),
            };
            return format!("{value} IS {}NULL", if negated { "" } else { "NOT " });
        }
        Test::Equals(value) if flag => return flag_is(field, value, negated),
        Test::In(list) if flag => {
            let any: Vec<String> = list.iter().map(|text| flag_is(field, text, false)).collect();
            format!("({})", any.join(" OR "))
        }
        Test::Equals(value) => {
            let distinct = if negated { "IS DISTINCT FROM" } else { "=" };
            return format!("{} {distinct} {}", text_of(field, &[value]), Literal(value));
        }
        Test::In(list) => {
            let literals: Vec<String> = list.iter().map(|text| Literal(text).to_string()).collect();
            format!("{} IN ({})", text_of(field, list), literals.join(", "))
        }
        Test::StartsWith(part) => function("starts_with", part),
        Test::EndsWith(part) => function("ends_with", part),
        Test::Contains(part) => function("contains", part),
    };
    if negated { format!("({positive}) IS NOT TRUE") } else { positive }
}

fn flag_is(field: &Field, text: &str, negated: bool) -> String {
    match text {
        "true" | "false" => {
            format!("{} IS {}{}", column(&field.to_string()), if negated { "NOT " } else { "" }, text.to_uppercase())
        }
        _ => negated.to_string().to_uppercase(),
    }
}

/// The text of a field's scalar. A hot column holds strings only, so it serves where none of
/// `compared` can be the text of a number or boolean.
fn text_of<T: AsRef<str>>(field: &Field, compared: &[T]) -> String {
    let can_be_no_string = |text: &T| serde_json::from_str::<serde_json::Value>(text.as_ref()).is_ok();
    match field.place() {
        Some(Place::Below { hot: Some(hot), .. }) if !compared.iter().any(can_be_no_string) => column(hot),
        Some(Place::Column(name, Kind::Json)) => json("json_as_text", name, &[]),
        _ => group(field),
    }
}

/// The field's value where it is a string.
fn string(field: &Field) -> Option<String> {
    match field.place() {
        None => Some(group(field)),
        Some(Place::Column(name, Kind::Text)) => Some(column(name)),
        Some(Place::Below { hot: Some(hot), .. }) => Some(column(hot)),
        Some(Place::Below { column, path, hot: None }) => Some(json("json_get_str", column, path)),
        Some(Place::Column(name, Kind::Json)) => Some(json("json_get_str", name, &[])),
        Some(Place::Column(_, Kind::Flag) | Place::Time) => None,
    }
}

/// Whether a query returns `field` as JSON text.
pub fn is_json(field: &Field) -> bool {
    context(field).1
}
