//! Predicates as conditions.
//!
//! A test that must hold is a plain condition: where its field has no value it is null, which selects nothing. Negations
//! are `IS NOT TRUE` or `IS DISTINCT FROM`, so that a record without the field passes them.

use crate::event::{ColumnKind, EVENT_TIME, FieldLocation};
use crate::raw::json;
use crate::rule::predicate::NumberOperand;
use crate::rule::value_lists::ValueList;
use crate::rule::{Class, Compared, Field, Operand, Predicate, Quantifier, Test, Value};
use crate::time::{Instant, Range};

use super::expression::{ChainOperator, Comparator, Expression, State};
use super::fields::{ELEMENT, in_json, promoted, string, text as text_of};

/// The function that tests whether a text is in a value list, given by its key.
pub const IN_VALUE_LIST: &str = "in_value_list";

/// The condition for which records satisfy `predicate`.
pub fn condition(predicate: &Predicate) -> Expression {
    let conditions = |parts: &[Predicate]| parts.iter().map(condition).collect::<Vec<_>>();
    match predicate {
        Predicate::All(all) => {
            // Cheap tests come first: where they fail, the engine skips the others.
            let mut all: Vec<&Predicate> = all.iter().collect();
            all.sort_by_key(|part| cost(part));
            Expression::all(all.into_iter().map(condition).collect())
        }
        Predicate::Any(any) => Expression::any(conditions(any)),
        Predicate::None(none) => Expression::any(conditions(none)).does_not_hold(),
        Predicate::OnlyOne(one) => {
            let counted = |part| condition(part).choose(Expression::integer(1), Expression::integer(0));
            let sum = Expression::lines(ChainOperator::Plus, one.iter().map(counted).collect());
            sum.equals(Expression::integer(1))
        }
        Predicate::Test { field, test, negated } => test_of(field, test, *negated),
        Predicate::Elements { list, quantifier, each } => elements(list, *quantifier, condition(each)),
        Predicate::During(range) => during(*range),
        Predicate::Except { matches, exceptions } => condition(&Predicate::excepted(matches, exceptions)),
    }
}

/// The cost of a predicate's test: that of its most expensive field. Top-level columns are cheaper than JSON.
fn cost(predicate: &Predicate) -> u8 {
    let mut most = 0;
    predicate.fields(&mut |field| {
        let of_field = match field.location() {
            Some(FieldLocation::Column(_, ColumnKind::Text | ColumnKind::Flag) | FieldLocation::Time) => 0,
            Some(FieldLocation::Below { hot: Some(_), .. }) => 1,
            _ => 2,
        };
        most = most.max(of_field);
    });
    most
}

/// Whether the event's time lies in `range`.
fn during(range: Range) -> Expression {
    let compared = |(operator, bound): (Comparator, Option<Instant>)| {
        bound.map(|bound| Expression::column(EVENT_TIME).compared(operator, Expression::Instant(bound)))
    };
    let bounds = [(Comparator::GreaterOrEqual, range.from), (Comparator::Less, range.to)];
    Expression::line(ChainOperator::And, bounds.into_iter().filter_map(compared).collect())
}

fn elements(list: &Field, quantifier: Quantifier, each: Expression) -> Expression {
    let Some(list) = in_json("elements_at", list) else {
        // A top-level column holds no list.
        return Expression::Boolean(quantifier == Quantifier::No);
    };
    match quantifier {
        Quantifier::Any => any_element(list, ELEMENT, each),
        Quantifier::No => any_element(list, ELEMENT, each).is_not(State::True),
        Quantifier::All => {
            let is_list = list.clone().is_not(State::Null);
            let no_other = any_element(list, ELEMENT, each.does_not_hold()).is_not(State::True);
            Expression::line(ChainOperator::And, vec![is_list, no_other])
        }
        Quantifier::One => {
            let found = Expression::call("array_filter", [list, Expression::lambda(ELEMENT, each)]);
            Expression::call("array_length", [found]).equals(Expression::integer(1))
        }
    }
}

/// Whether a condition over the element `name` holds for any element of `list`.
fn any_element(list: Expression, name: &str, condition: Expression) -> Expression {
    Expression::call("array_any_match", [list, Expression::lambda(name, condition)])
}

fn test_of(field: &Field, test: &Test, negated: bool) -> Expression {
    let is_flag = matches!(field.location(), Some(FieldLocation::Column(_, ColumnKind::Flag)));
    let positive = match test {
        Test::Equals(Operand::AnyText { field: other, folded }) => any_text(field, other, *folded, Expression::equals),
        Test::StartsWith(Operand::AnyText { field: other, folded }) => {
            any_text(field, other, *folded, |text, other| Expression::call("starts_with", [text, other]))
        }
        Test::EndsWith(Operand::AnyText { field: other, folded }) => {
            any_text(field, other, *folded, |text, other| Expression::call("ends_with", [text, other]))
        }
        Test::Contains(Operand::AnyText { field: other, folded }) => {
            any_text(field, other, *folded, |text, other| Expression::call("contains", [text, other]))
        }
        Test::Present => {
            let value = match field.location() {
                Some(FieldLocation::Column(name, _)) => Expression::column(name),
                _ => in_json("json_at", field).unwrap_or_else(|| text_of(field)),
            };
            return if negated { value.is(State::Null) } else { value.is_not(State::Null) };
        }
        Test::Filled => in_json("is_filled_at", field)
            .unwrap_or_else(|| text_of(field).compared(Comparator::NotEqual, Expression::text(""))),
        Test::Equals(Operand::Value(value)) if is_flag => return flag_is(field, &value.text, negated),
        Test::In(list) if is_flag => {
            let any = list.iter().map(|value| flag_is(field, &value.text, false)).collect();
            Expression::line(ChainOperator::Or, any)
        }
        Test::Equals(Operand::Value(value)) => match value.texts().collect::<Vec<_>>().as_slice() {
            [one] if negated => {
                return compared(field, value).compared(Comparator::DistinctFrom, Expression::text(*one));
            }
            [one] => compared(field, value).equals(Expression::text(*one)),
            several => compared(field, value).is_in(several.iter().copied()),
        },
        Test::Equals(Operand::Folded(value)) => lower(text_of(field)).is_in(value.texts()),
        Test::Equals(operand) => folded(text_of(field), operand).equals(other(operand)),
        Test::In(list) => is_in(field, list),
        Test::StartsWith(operand) => of_string("starts_with", field, operand),
        Test::EndsWith(operand) => of_string("ends_with", field, operand),
        Test::Contains(operand) => contains(field, operand),
        Test::Matches(pattern) => {
            Expression::call("matches_pattern", [text_of(field), Expression::text(pattern.as_str())])
        }
        Test::Number(relation, operand) => {
            let other = match operand {
                NumberOperand::Value(number) => Expression::Number(number.clone()),
                NumberOperand::Field(other) => number(text_of(other)),
            };
            number(text_of(field)).compared(comparator(*relation), other)
        }
        Test::Address(class) => match string(field) {
            Some(string) => Expression::call(class_function(*class), [string]),
            None => Expression::Boolean(false),
        },
        Test::Within(network) => match string(field) {
            Some(string) => in_cidr(string, &network.to_string()),
            None => Expression::Boolean(false),
        },
        Test::AnyWithin(network) => {
            let network = network.to_string();
            any_string(field, |string| in_cidr(string, &network))
        }
        Test::InList(list) => match in_json("texts_at", field) {
            None => in_value_list(text_of(field), list),
            Some(texts) => or_promoted(
                field,
                |promoted| in_value_list(promoted, list),
                any_element(texts, "item", in_value_list(Expression::variable("item"), list)),
            ),
        },
        Test::WithinList(list) => match string(field) {
            Some(string) => in_value_list(string, list),
            None => Expression::Boolean(false),
        },
        Test::AnyWithinList(list) => any_string(field, |string| in_value_list(string, list)),
    };
    if negated { positive.does_not_hold() } else { positive }
}

fn number(text: Expression) -> Expression {
    Expression::call("number", [text])
}

/// Whether a condition holds for the string of a field, or for any string of a list in it.
fn any_string(field: &Field, condition: impl Fn(Expression) -> Expression) -> Expression {
    match (in_json("strings_at", field), string(field)) {
        (Some(list), _) => any_element(list, "ip", condition(Expression::variable("ip"))),
        (None, Some(string)) => condition(string),
        (None, None) => Expression::Boolean(false),
    }
}

fn in_value_list(text: Expression, list: &ValueList) -> Expression {
    Expression::call(IN_VALUE_LIST, [text, Expression::text(list.key())])
}

fn in_cidr(address: Expression, network: &str) -> Expression {
    Expression::call("in_cidr", [address, Expression::text(network)])
}

fn comparator(relation: Compared) -> Comparator {
    match relation {
        Compared::Greater => Comparator::Greater,
        Compared::GreaterOrEqual => Comparator::GreaterOrEqual,
        Compared::Less => Comparator::Less,
        Compared::LessOrEqual => Comparator::LessOrEqual,
    }
}

fn class_function(class: Class) -> &'static str {
    match class {
        Class::Address => "is_ip",
        Class::V4 => "is_ipv4",
        Class::V6 => "is_ipv6",
        Class::Private => "is_private_ip",
        Class::Public => "is_public_ip",
    }
}

fn lower(value: Expression) -> Expression {
    Expression::call("lower", [value])
}

/// Whether the text of a field compares with any of the texts at another field's path.
fn any_text(
    field: &Field,
    other: &Field,
    folded: bool,
    compared: fn(Expression, Expression) -> Expression,
) -> Expression {
    const OTHER: &str = "other";
    let folded = |text| if folded { lower(text) } else { text };
    let text = folded(text_of(field));
    match in_json("elements_at", other) {
        Some(list) => {
            let item = Expression::call("text_at", [Expression::variable(OTHER), Expression::text("")]);
            any_element(list, OTHER, compared(text, folded(item)))
        }
        None => compared(text, folded(text_of(other))),
    }
}

/// A value in lower case where `operand` ignores case.
fn folded(value: Expression, operand: &Operand) -> Expression {
    match operand {
        Operand::Folded(_) | Operand::FoldedField(_) | Operand::AnyText { folded: true, .. } => lower(value),
        Operand::Value(_) | Operand::Field(_) | Operand::AnyText { folded: false, .. } => value,
    }
}

/// The right side of a comparison.
fn other(operand: &Operand) -> Expression {
    match operand {
        Operand::Value(value) | Operand::Folded(value) => Expression::text(value.text.as_str()),
        Operand::Field(field) | Operand::AnyText { field, folded: false } => text_of(field),
        Operand::FoldedField(field) | Operand::AnyText { field, folded: true } => lower(text_of(field)),
    }
}

fn of_string(function: &str, field: &Field, operand: &Operand) -> Expression {
    match string(field) {
        Some(string) => Expression::call(function, [folded(string, operand), other(operand)]),
        None => Expression::Boolean(false),
    }
}

/// Whether a string contains the text, a scalar equals it, or an element of a list does either.
fn contains(field: &Field, operand: &Operand) -> Expression {
    let Some(list) = in_json("strings_at", field) else {
        return of_string("contains", field, operand);
    };
    let holds = Expression::call("contains", [folded(Expression::variable("item"), operand), other(operand)]);
    let in_strings = any_element(list, "item", holds);
    let in_json = match (operand, in_json("texts_at", field)) {
        (Operand::Value(value) | Operand::Folded(value), Some(texts)) if value.texts().any(can_be_no_string) => {
            Expression::line(ChainOperator::Or, vec![in_strings, has_any(texts, value.texts())])
        }
        _ => in_strings,
    };
    or_promoted(field, |_| of_string("contains", field, operand), in_json)
}

fn is_in(field: &Field, list: &[Value]) -> Expression {
    let texts = || list.iter().flat_map(Value::texts);
    let Some(of_list) = in_json("texts_at", field) else {
        return text_of(field).is_in(texts());
    };
    or_promoted(field, |promoted| promoted.is_in(texts()), has_any(of_list, texts()))
}

/// Whether `list` has any of `texts` among its elements.
fn has_any<'t>(list: Expression, texts: impl Iterator<Item = &'t str>) -> Expression {
    let texts = Expression::call("make_array", texts.map(Expression::text));
    Expression::call("array_has_any", [list, texts])
}

/// The test of a field's promoted column where that has a value, else of its JSON: the column is null where the field is
/// no string.
fn or_promoted(field: &Field, of_promoted: impl FnOnce(Expression) -> Expression, in_json: Expression) -> Expression {
    let Some(promoted) = promoted(field) else {
        return in_json;
    };
    let otherwise = Expression::line(ChainOperator::And, vec![promoted.clone().is(State::Null), in_json]);
    Expression::line(ChainOperator::Or, vec![of_promoted(promoted), otherwise])
}

/// Whether a number or boolean can have this text.
fn can_be_no_string(text: &str) -> bool {
    matches!(text, "true" | "false") || json::number(text).is_some()
}

/// The text of a field's scalar, to compare with `value`. A promoted column holds strings only, so it serves where
/// `value` cannot be the text of a number or boolean.
fn compared(field: &Field, value: &Value) -> Expression {
    match promoted(field) {
        Some(promoted) if !value.texts().any(can_be_no_string) => promoted,
        _ => text_of(field),
    }
}

fn flag_is(field: &Field, text: &str, negated: bool) -> Expression {
    let state = match text.to_ascii_lowercase().as_str() {
        "true" => Some(State::True),
        "false" => Some(State::False),
        _ => None,
    };
    match (state, field.location()) {
        (Some(state), Some(FieldLocation::Column(name, _))) => {
            Expression::Is { value: Box::new(Expression::column(name)), state, negated }
        }
        _ => Expression::Boolean(negated),
    }
}
