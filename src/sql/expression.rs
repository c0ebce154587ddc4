//! Fields as SQL expressions over the table `cloudtrail`.
//!
//! What lies in JSON is read by functions of ours: `text_at(json, 'a.b')` is the text of a scalar,
//! `string_at` that of a string, `value_at` that of a scalar or else JSON, `json_at` JSON;
//! `texts_at` and `strings_at` are such texts of a list's elements, or of the value itself;
//! `elements_at` is a list's elements as JSON. `actor(userIdentity, sourceIPAddress)` is who acted.

use crate::event::{Kind, OTHER_FIELDS, Place};
use crate::path::{Path, Step};
use crate::rule::Field;

use super::quote::{Ident, Literal};

/// The name of a list's element in a predicate over it.
pub(super) const ELEMENT: &str = "element";

pub(super) fn column(name: &str) -> String {
    Ident(name.to_owned()).to_string()
}

fn call(function: &str, json: &str, path: &[Step]) -> String {
    format!("{function}({json}, {})", Literal(&Path(path.to_vec()).to_string()))
}

/// A function of the JSON in which a field lies; `None` where it lies in none.
pub(super) fn in_json(function: &str, field: &Field) -> Option<String> {
    match (field, field.place()) {
        (Field::Element(path), _) => Some(call(function, ELEMENT, &path.0)),
        (_, Some(Place::Below { column: json, path, .. })) => Some(call(function, &column(json), path)),
        (_, Some(Place::Column(name, Kind::Json))) => Some(call(function, &column(name), &[])),
        _ => None,
    }
}

fn filled(expression: &str) -> String {
    format!("nullif({expression}, '')")
}

/// The account a record belongs to.
fn account() -> String {
    format!("coalesce({}, {})", filled(&column("recipientAccountId")), filled(&column("userIdentity.accountId")))
}

/// Who acted: see [`crate::event::identity::actor`], which the engine knows by this name.
fn actor() -> String {
    format!("actor({}, {})", column("userIdentity"), column("sourceIPAddress"))
}

/// The fields that are derived from a record, by name, and the SQL that computes them.
pub fn derived() -> [(String, String); 2] {
    [Field::Account, Field::Actor].map(|field| (field.to_string(), value(&field)))
}

/// What a field says, as text: a scalar's text, else JSON. Matches are grouped by it.
pub(super) fn value(field: &Field) -> String {
    in_json("value_at", field).unwrap_or_else(|| scalar(field))
}

/// The value of a field that a finding tells: JSON where it lies in JSON, else text.
pub(super) fn json(field: &Field) -> String {
    in_json("json_at", field).unwrap_or_else(|| scalar(field))
}

/// Returns whether the value of `field` in a finding is JSON rather than text.
pub fn is_json(field: &Field) -> bool {
    in_json("json_at", field).is_some()
}

/// The text of a field's scalar.
pub(super) fn text(field: &Field) -> String {
    in_json("text_at", field).unwrap_or_else(|| scalar(field))
}

fn scalar(field: &Field) -> String {
    match (field, field.place()) {
        (Field::Account, _) => account(),
        (Field::Actor, _) => actor(),
        (_, Some(Place::Column(name, Kind::Flag))) => format!("CAST({} AS VARCHAR)", column(name)),
        (_, Some(Place::Column(name, _))) => column(name),
        (_, Some(Place::Time)) => format!("CAST({} AS VARCHAR)", column("eventTime")),
        // What lies in JSON is read from there.
        (_, Some(Place::Below { .. }) | None) => column(OTHER_FIELDS),
    }
}

/// The field's value where it is a string; `None` where it never is one.
pub(super) fn string(field: &Field) -> Option<String> {
    match field.place() {
        Some(Place::Below { hot: Some(hot), .. }) => Some(column(hot)),
        Some(Place::Column(_, Kind::Flag) | Place::Time) => None,
        _ => Some(in_json("string_at", field).unwrap_or_else(|| scalar(field))),
    }
}

/// The column that holds the field where it is a string, if it has one.
pub(super) fn hot(field: &Field) -> Option<String> {
    match field.place() {
        Some(Place::Below { hot, .. }) => hot.map(column),
        _ => None,
    }
}
