//! Predicates as SQL conditions.
//!
//! A test that must hold is written plainly: where its field has no value it is null, which selects
//! nothing. Whatever negates is written with `IS NOT TRUE` or `IS DISTINCT FROM`, so that no row vanishes.

use crate::event::{Kind, Place};
use crate::raw::json;
use crate::rule::predicate::NumberOperand;
use crate::rule::{Class, Compared, Field, Operand, Predicate, Quantifier, Test, Value};

use super::expression::{ELEMENT, column, hot, in_json, string, text as text_of};
use super::quote::{Literal, Number};

/// How many conditions stand in one row.
const ROW: usize = 16;

/// A predicate, indented by `depth` steps where it breaks lines.
pub(super) fn text(predicate: &Predicate, depth: usize) -> String {
    let parts = |parts: &[Predicate]| parts.iter().map(|part| text(part, depth + 1)).collect::<Vec<_>>();
    let joined = |parts: Vec<String>, word: &str, none: &str| joined(parts, word, none, depth);
    match predicate {
        Predicate::All(all) => {
            // What is cheap to test comes first, and saves the rest.
            let mut all: Vec<&Predicate> = all.iter().collect();
            all.sort_by_key(|part| cost(part));
            joined(all.into_iter().map(|part| text(part, depth + 1)).collect(), "AND", "TRUE")
        }
        Predicate::Any(any) => joined(parts(any), "OR", "FALSE"),
        Predicate::None(none) => format!("({}) IS NOT TRUE", joined(parts(none), "OR", "FALSE")),
        Predicate::OnlyOne(one) => {
            let counted = parts(one).iter().map(|part| format!("CASE WHEN {part} THEN 1 ELSE 0 END")).collect();
            format!("{} = 1", joined(counted, "+", "0"))
        }
        Predicate::Test { field, test, negated } => test_of(field, test, *negated),
        Predicate::Elements { list, quantifier, each } => elements(list, *quantifier, &text(each, depth + 1)),
    }
}

/// Parts joined by `word`. Many are joined in groups: the engine takes what is in one row apart
/// from its end, as deep as the row is long.
fn joined(mut parts: Vec<String>, word: &str, none: &str, depth: usize) -> String {
    let separator = format!("\n{}{word} ", "  ".repeat(depth + 5));
    while parts.len() > ROW {
        parts = parts.chunks(ROW).map(|group| format!("({})", group.join(&separator))).collect();
    }
    match parts.as_slice() {
        [] => none.to_owned(),
        [one] => one.clone(),
        _ => format!("({})", parts.join(&separator)),
    }
}

/// How dear a predicate is to test: by the dearest of its fields, columns of their own before JSON.
fn cost(predicate: &Predicate) -> u8 {
    let mut dearest = 0;
    predicate.fields(&mut |field| {
        let own = match field.place() {
            Some(Place::Column(_, Kind::Text | Kind::Flag) | Place::Time) => 0,
            Some(Place::Below { hot: Some(_), .. }) => 1,
            _ => 2,
        };
        dearest = dearest.max(own);
    });
    dearest
}

fn elements(list: &Field, quantifier: Quantifier, each: &str) -> String {
    let Some(list) = in_json("elements_at", list) else {
        // A column of its own holds no list.
        return (quantifier == Quantifier::No).to_string().to_uppercase();
    };
    match quantifier {
        Quantifier::Any => format!("array_any_match({list}, {ELEMENT} -> {each})"),
        Quantifier::No => format!("array_any_match({list}, {ELEMENT} -> {each}) IS NOT TRUE"),
        Quantifier::All => {
            format!("({list} IS NOT NULL AND array_any_match({list}, {ELEMENT} -> ({each}) IS NOT TRUE) IS NOT TRUE)")
        }
        Quantifier::One => format!("array_length(array_filter({list}, {ELEMENT} -> {each})) = 1"),
    }
}

fn test_of(field: &Field, test: &Test, negated: bool) -> String {
    let flag = matches!(field.place(), Some(Place::Column(_, Kind::Flag)));
    let positive = match test {
        Test::Present => {
            let value = match field.place() {
                Some(Place::Column(name, _)) => column(name),
                _ => in_json("json_at", field).unwrap_or_else(|| text_of(field)),
            };
            return format!("{value} IS {}NULL", if negated { "" } else { "NOT " });
        }
        Test::Filled => in_json("is_filled_at", field).unwrap_or_else(|| format!("{} <> ''", text_of(field))),
        Test::Equals(Operand::Value(value)) if flag => return flag_is(field, &value.text, negated),
        Test::In(list) if flag => {
            let any: Vec<String> = list.iter().map(|value| flag_is(field, &value.text, false)).collect();
            format!("({})", any.join(" OR "))
        }
        Test::Equals(Operand::Value(value)) => match value.texts().collect::<Vec<_>>().as_slice() {
            [one] if negated => {
                // In parentheses, since the parser takes all that follows for the right side.
                let own = compared(field, value);
                return format!("({own} IS DISTINCT FROM {})", Literal(one));
            }
            [one] => format!("{} = {}", compared(field, value), Literal(one)),
            several => format!("{} IN ({})", compared(field, value), literals(several)),
        },
        Test::Equals(Operand::Folded(value)) => {
            let texts: Vec<&str> = value.texts().collect();
            format!("lower({}) IN ({})", text_of(field), literals(&texts))
        }
        Test::Equals(operand) => format!("{} = {}", folded(text_of(field), operand), other(operand, text_of)),
        Test::In(list) => is_in(field, list),
        Test::StartsWith(operand) => of_string("starts_with", field, operand),
        Test::EndsWith(operand) => of_string("ends_with", field, operand),
        Test::Contains(operand) => contains(field, operand),
        Test::Matches(pattern) => format!("matches_pattern({}, {})", text_of(field), Literal(pattern)),
        Test::Number(relation, operand) => {
            let sign = match relation {
                Compared::Greater => ">",
                Compared::GreaterOrEqual => ">=",
                Compared::Less => "<",
                Compared::LessOrEqual => "<=",
            };
            let other = match operand {
                NumberOperand::Value(number) => Number(number).to_string(),
                NumberOperand::Field(other) => format!("number({})", text_of(other)),
            };
            format!("number({}) {sign} {other}", text_of(field))
        }
        Test::Address(class) => match string(field) {
            Some(string) => format!("{}({string})", class_function(*class)),
            None => "FALSE".to_owned(),
        },
        Test::Within(network) => match string(field) {
            Some(string) => format!("in_cidr({string}, {})", Literal(&network.to_string())),
            None => "FALSE".to_owned(),
        },
        Test::AnyWithin(network) => {
            let network = network.to_string();
            match (in_json("strings_at", field), string(field)) {
                (Some(list), _) => format!("array_any_match({list}, ip -> in_cidr(ip, {}))", Literal(&network)),
                (None, Some(string)) => format!("in_cidr({string}, {})", Literal(&network)),
                (None, None) => "FALSE".to_owned(),
            }
        }
    };
    if negated { format!("({positive}) IS NOT TRUE") } else { positive }
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

fn literals<T: AsRef<str>>(texts: &[T]) -> String {
    texts.iter().map(|text| Literal(text.as_ref()).to_string()).collect::<Vec<_>>().join(", ")
}

fn folded(expression: String, operand: &Operand) -> String {
    match operand {
        Operand::Folded(_) | Operand::FoldedField(_) => format!("lower({expression})"),
        Operand::Value(_) | Operand::Field(_) => expression,
    }
}

/// The right side of a comparison; `read` gives a field's expression.
fn other(operand: &Operand, read: impl Fn(&Field) -> String) -> String {
    match operand {
        Operand::Value(value) | Operand::Folded(value) => Literal(&value.text).to_string(),
        Operand::Field(field) => read(field),
        Operand::FoldedField(field) => format!("lower({})", read(field)),
    }
}

fn of_string(function: &str, field: &Field, operand: &Operand) -> String {
    match string(field) {
        Some(string) => format!("{function}({}, {})", folded(string, operand), other(operand, text_of)),
        None => "FALSE".to_owned(),
    }
}

/// A string holds the text, or a scalar is it; of a list, an element. A hot column holds the field
/// where it is a string, and saves looking into JSON.
fn contains(field: &Field, operand: &Operand) -> String {
    let Some(list) = in_json("strings_at", field) else {
        return of_string("contains", field, operand);
    };
    let holds = format!("contains({}, {})", folded("item".to_owned(), operand), other(operand, text_of));
    let in_strings = format!("array_any_match({list}, item -> {holds})");
    let in_json = match (operand, in_json("texts_at", field)) {
        (Operand::Value(value) | Operand::Folded(value), Some(texts)) if value.texts().any(can_be_no_string) => {
            let values: Vec<&str> = value.texts().collect();
            format!("({in_strings} OR array_has_any({texts}, make_array({})))", literals(&values))
        }
        _ => in_strings,
    };
    beside_hot(field, |_| of_string("contains", field, operand), in_json)
}

fn is_in(field: &Field, list: &[Value]) -> String {
    let texts: Vec<&str> = list.iter().flat_map(Value::texts).collect();
    let Some(of_list) = in_json("texts_at", field) else {
        return format!("{} IN ({})", text_of(field), literals(&texts));
    };
    let in_json = format!("array_has_any({of_list}, make_array({}))", literals(&texts));
    beside_hot(field, |hot| format!("{hot} IN ({})", literals(&texts)), in_json)
}

/// A test of a hot column, and of the JSON where that is null because the field is no string.
fn beside_hot(field: &Field, of_hot: impl FnOnce(&str) -> String, in_json: String) -> String {
    match hot(field) {
        Some(hot) => format!("({} OR ({hot} IS NULL AND {in_json}))", of_hot(&hot)),
        None => in_json,
    }
}

/// Whether a number or boolean can have this text.
fn can_be_no_string(text: &str) -> bool {
    matches!(text, "true" | "false") || json::number(text).is_some()
}

/// The text of a field's scalar. A hot column holds strings only, so it serves where `value` cannot
/// be the text of a number or boolean.
fn compared(field: &Field, value: &Value) -> String {
    match hot(field) {
        Some(hot) if !value.texts().any(can_be_no_string) => hot,
        _ => text_of(field),
    }
}

fn flag_is(field: &Field, text: &str, negated: bool) -> String {
    let text = text.to_ascii_lowercase();
    match (text.as_str(), field.place()) {
        ("true" | "false", Some(Place::Column(name, _))) => {
            format!("{} IS {}{}", column(name), if negated { "NOT " } else { "" }, text.to_uppercase())
        }
        _ => negated.to_string().to_uppercase(),
    }
}
