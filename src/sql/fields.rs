//! Fields of records as expressions over the table `cloudtrail`.
//!
//! Functions of this program read fields in JSON columns: `text_at(json, 'a.b')` is the text of a scalar, `string_at`
//! that of a string, `value_at` that of a scalar or else JSON, `json_at` JSON; `texts_at` and `strings_at` are such texts
//! of a list's elements, or of the value itself; `elements_at` is a list's elements as JSON.
//! `actor(userIdentity, sourceIPAddress)` is the resolved principal. `time_part(time, 'hour', 'Europe/Berlin')` is a part of a
//! time in a time zone, UTC if none is given. `map_text(json)` is an object as Java writes a map.

use crate::event::{CONTENT_ID, ColumnKind, EVENT_ID, FieldLocation, OTHER_FIELDS, SHARED_EVENT_ID};
use crate::path::{Path, Step};
use crate::rule::{Field, Predicate, PythonFunction, python};
use crate::time::TimeZone;

use super::expression::Expression;
use super::{credential, predicate};

/// The name of a list's element in a condition over it.
pub(super) const ELEMENT: &str = "element";

/// A call of `function` on the JSON that holds a field; `None` where no JSON column holds it.
pub(super) fn in_json(function: &str, field: &Field) -> Option<Expression> {
    let call = |json, path: &[Step]| {
        Some(Expression::call(function, [json, Expression::text(Path(path.to_vec()).to_string())]))
    };
    match (field, field.location()) {
        (Field::Element(path), _) => call(Expression::variable(ELEMENT), &path.0),
        (_, Some(FieldLocation::Below { column, path, .. })) => call(Expression::column(column), path),
        (_, Some(FieldLocation::Column(name, ColumnKind::Json))) => call(Expression::column(name), &[]),
        _ => None,
    }
}

/// The value, or null where it is the empty string.
pub(super) fn filled(value: Expression) -> Expression {
    Expression::call("nullif", [value, Expression::text("")])
}

/// The account a record belongs to.
fn account() -> Expression {
    let columns = ["recipientAccountId", "userIdentity.accountId"];
    Expression::call("coalesce", columns.map(|name| filled(Expression::column(name))))
}

/// The principal that acted, as [`crate::event::identity::actor`] resolves it. The engine has it as a function.
fn actor() -> Expression {
    Expression::call("actor", ["userIdentity", "sourceIPAddress"].map(Expression::column))
}

/// The act of a record: an ID that the records of one cross-account call share.
fn act() -> Expression {
    let ids = [SHARED_EVENT_ID, EVENT_ID].map(|name| filled(Expression::column(name)));
    Expression::call("coalesce", ids.into_iter().chain([Expression::column(CONTENT_ID)]))
}

/// The fields that are derived from a record, by name, and how they are computed.
pub fn derived() -> [(String, Expression); 2] {
    [Field::Account, Field::Actor].map(|field| (field.to_string(), value(&field)))
}

/// The value of a field as text: a scalar's text, else JSON. Matches are grouped by it.
pub(super) fn value(field: &Field) -> Expression {
    in_json("value_at", field).unwrap_or_else(|| scalar(field))
}

/// The value of a field for a finding's context: JSON where a JSON column holds it, else text.
pub(super) fn json(field: &Field) -> Expression {
    in_json("json_at", field).unwrap_or_else(|| scalar(field))
}

/// Whether the value of a field in a finding's context is JSON.
pub fn is_json(field: &Field) -> bool {
    in_json("json_at", field).is_some()
        || matches!(field, Field::Python(function) if function.entry == python::EntryPoint::Context)
}

/// The text of a field's scalar.
pub(super) fn text(field: &Field) -> Expression {
    in_json("text_at", field).unwrap_or_else(|| scalar(field))
}

fn scalar(field: &Field) -> Expression {
    match (field, field.location()) {
        (Field::Account, _) => account(),
        (Field::Actor, _) => actor(),
        (Field::Act, _) => act(),
        (Field::Origin, _) => credential::of_record(),
        (Field::Network, _) => Expression::call("source_network", [Expression::column("sourceIPAddress")]),
        (Field::Python(function), _) => of_python(function),
        (Field::MapText(column), _) => Expression::call("map_text", [Expression::column(column)]),
        (Field::TimePart(part, zone), _) => {
            let zone = (*zone != TimeZone::UTC).then(|| Expression::text(zone.name()));
            let arguments = [Expression::column("eventTime"), Expression::text(part.name())].into_iter().chain(zone);
            Expression::call("time_part", arguments)
        }
        (Field::Alias(alias), _) => {
            let branch = |(condition, field): &(Predicate, Field)| (predicate::condition(condition), value(field));
            Expression::Case { branches: alias.fields.iter().map(branch).collect() }
        }
        (_, Some(FieldLocation::Column(name, ColumnKind::Flag))) => {
            Expression::CastToText(Box::new(Expression::column(name)))
        }
        (_, Some(FieldLocation::Column(name, _))) => Expression::column(name),
        (_, Some(FieldLocation::Time)) => Expression::CastToText(Box::new(Expression::column("eventTime"))),
        // Only for completeness: JSON holds the other fields.
        (_, Some(FieldLocation::Below { .. }) | None) => Expression::column(OTHER_FIELDS),
    }
}

/// The value that a function of a rule in Python gives, where the rule may match. The columns of the event follow their
/// names.
fn of_python(function: &PythonFunction) -> Expression {
    let name = function.name();
    let constants =
        [name.as_str(), &function.text, function.default.as_deref().unwrap_or_default(), &function.columns.join(",")];
    let columns = function.columns.iter().map(|name| Expression::column(name));
    let value = Expression::call("python", constants.map(Expression::text).into_iter().chain(columns));
    match &function.guard {
        None => value,
        Some(guard) => Expression::Case { branches: vec![(predicate::condition(guard), value)] },
    }
}

/// The field's value where it is a string; `None` where it never is one.
pub(super) fn string(field: &Field) -> Option<Expression> {
    match field.location() {
        Some(FieldLocation::Below { hot: Some(promoted), .. }) => Some(Expression::column(promoted)),
        Some(FieldLocation::Column(_, ColumnKind::Flag) | FieldLocation::Time) => None,
        _ => Some(in_json("string_at", field).unwrap_or_else(|| scalar(field))),
    }
}

/// The promoted column that holds the field where it is a string, if it has one.
pub(super) fn promoted(field: &Field) -> Option<Expression> {
    match field.location() {
        Some(FieldLocation::Below { hot, .. }) => hot.map(Expression::column),
        _ => None,
    }
}
