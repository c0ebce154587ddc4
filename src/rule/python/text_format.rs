//! Values as text: `str`, `repr`, f-strings, `str.format`, `%` and JSON.

use std::fmt::Write as _;

use super::bounds;
use super::event::Json;
use super::exception::{ExceptionKind, Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::library::time;
use super::tree::Conversion;
use super::value::Value;

/// Returns `str(value)`.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.to_string(),
        Value::Exception(exception) => match &exception.message {
            message if exception.kind == ExceptionKind::KeyError => repr(message),
            message => text(message),
        },
        Value::Address(address) => address.to_string(),
        Value::Network(network) => network.to_string(),
        Value::DateTime(at) => time::iso(*at, ' '),
        other => repr(other),
    }
}

/// Returns `repr(value)`.
pub(super) fn repr(value: &Value) -> String {
    bounds::nested(String::new(), || repr_inner(value))
}

fn repr_inner(value: &Value) -> String {
    match value {
        Value::None => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) => float(*value),
        Value::Text(text) => quoted(text),
        Value::Bytes(bytes) => format!("b{}", quoted(&String::from_utf8_lossy(bytes))),
        Value::Tuple(items) => tuple(items.iter().map(repr)),
        Value::List(list) => format!("[{}]", joined(list.items.borrow().iter().map(repr))),
        Value::Set(set) if set.items.borrow().is_empty() => "set()".to_owned(),
        Value::Set(set) => format!("{{{}}}", joined(set.items.borrow().iter().map(repr))),
        Value::Dict(dict) => {
            let entries = dict.entries.borrow();
            format!("{{{}}}", joined(entries.iter().map(|(key, value)| format!("{}: {}", repr(key), repr(value)))))
        }
        Value::Record(record) => {
            let inner = json_repr(&Json::Object(std::sync::Arc::clone(&record.object)));
            format!("{}({inner})", value.type_name())
        }
        Value::FrozenList(list) => format!("ImmutableList({})", tuple(list.iter().map(json_repr))),
        Value::Exception(exception) => format!("{}({})", exception.kind.name(), repr(&exception.message)),
        Value::Address(address) => format!("{}('{address}')", value.type_name()),
        Value::Network(network) => format!("{}('{network}')", value.type_name()),
        Value::TimeDelta(micros) => time::delta(*micros),
        Value::DateTime(at) => format!("datetime.datetime({})", time::iso(*at, ' ')),
        Value::Builtin(builtin) if super::library::is_class(*builtin) => {
            let name = match builtin.0 {
                "panther_core.PantherEvent" => "panther_core.enriched_event.PantherEvent",
                "ImmutableList" => "panther_core.immutable.ImmutableList",
                "ImmutableCaseInsensitiveDict" => "panther_core.immutable.ImmutableCaseInsensitiveDict",
                name => name,
            };
            format!("<class '{name}'>")
        }
        other => format!("<{}>", other.type_name()),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

fn tuple(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if let [one] = parts.as_slice() { format!("({one},)") } else { format!("({})", parts.join(", ")) }
}

/// The `repr` of JSON as the dictionaries and lists that `json.loads` gives.
fn json_repr(json: &Json) -> String {
    match json {
        Json::Object(object) => {
            let member = |(key, value): &(std::sync::Arc<str>, Json)| format!("{}: {}", quoted(key), json_repr(value));
            format!("{{{}}}", joined(object.members.iter().map(member)))
        }
        Json::List(list) => format!("[{}]", joined(list.iter().map(json_repr))),
        scalar => repr(&Value::frozen(scalar)),
    }
}

/// The shortest decimal form of a float that reads as the same float.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        match c {
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c == quote => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if is_printable(c) => quoted.push(c),
            c => {
                let number = u32::from(c);
                let _ = match number {
                    0..=0xff => write!(quoted, "\\x{number:02x}"),
                    0x100..=0xffff => write!(quoted, "\\u{number:04x}"),
                    _ => write!(quoted, "\\U{number:08x}"),
                };
            }
        }
    }
    quoted.push(quote);
    quoted
}

fn is_printable(c: char) -> bool {
    c == ' ' || !(c.is_control() || c.is_whitespace() || crate::text::has_hidden(c.encode_utf8(&mut [0; 4])))
}

/// Returns a value in an f-string.
pub(super) fn formatted(
    interpreter: &Interpreter,
    value: &Value,
    conversion: Conversion,
    format: &str,
) -> Outcome<String> {
    let converted = match conversion {
        Conversion::None => value.clone(),
        Conversion::Text => Value::text(text(value)),
        Conversion::Repr => Value::text(repr(value)),
    };
    let result = super::format_spec::with_format(&converted, format)?;
    interpreter.charge(result.len() / 64)?;
    Ok(result)
}

/// A part of a template of `str.format`.
pub(super) enum TemplatePart<'t> {
    Text(&'t str),
    Field { name: &'t str, keys: Vec<&'t str>, conversion: Conversion, spec: &'t str },
}

/// Reads a template of `str.format`.
///
/// # Errors
/// It is none, or has parts that this program does not have.
pub(super) fn template_parts(template: &str) -> Outcome<Vec<TemplatePart<'_>>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        parts.push(TemplatePart::Text(&rest[..at]));
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after_second) = after.strip_prefix(brace) {
            parts.push(TemplatePart::Text(brace));
            rest = after_second;
            continue;
        }
        let field = (brace == "{").then(|| after.split_once('}')).flatten();
        let Some((field, after)) = field else {
            return Err(Fault::value_error("Single '}' encountered in format string"));
        };
        rest = after;
        parts.push(template_field(field)?);
    }
    parts.push(TemplatePart::Text(rest));
    Ok(parts)
}

fn template_field(field: &str) -> Outcome<TemplatePart<'_>> {
    let refused = || Err(Fault::Refused(format!("the format `{{{field}}}`")));
    if field.contains('{') {
        return refused();
    }
    let bracket = field.rfind(']').filter(|end| !field[..*end].contains(':')).unwrap_or(0);
    let (head, spec) = match field[bracket..].split_once(':') {
        Some((head, spec)) => (&field[..bracket + head.len()], spec),
        None => (field, ""),
    };
    let (path, conversion) = match head.split_once('!') {
        Some((path, "r")) => (path, Conversion::Repr),
        Some((path, "s")) => (path, Conversion::Text),
        Some(_) => return refused(),
        None => (head, Conversion::None),
    };
    let (name, mut path) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
    let mut keys = Vec::new();
    while !path.is_empty() {
        let Some((key, after)) = path.strip_prefix('[').and_then(|path| path.split_once(']')) else { return refused() };
        keys.push(key);
        path = after;
    }
    Ok(TemplatePart::Field { name, keys, conversion, spec })
}

/// Returns `template.format(…)`.
pub(super) fn format_call(interpreter: &Interpreter, template: &str, arguments: &Arguments) -> Outcome<String> {
    let mut result = String::new();
    let mut next = 0;
    for part in template_parts(template)? {
        let (name, keys, conversion, spec) = match part {
            TemplatePart::Text(text) => {
                result.push_str(text);
                continue;
            }
            TemplatePart::Field { name, keys, conversion, spec } => (name, keys, conversion, spec),
        };
        let value = if name.is_empty() {
            next += 1;
            arguments.positional.get(next - 1)
        } else if let Ok(index) = name.parse::<usize>() {
            arguments.positional.get(index)
        } else {
            let named = arguments.named.iter().find(|(known, _)| **known == *name).map(|(_, value)| value);
            Some(named.ok_or_else(|| Fault::raise(ExceptionKind::KeyError, name))?)
        };
        let value = value.ok_or_else(|| {
            Fault::raise(ExceptionKind::IndexError, "Replacement index out of range for positional args tuple")
        })?;
        let mut value = value.clone();
        for key in keys {
            let key = key.parse().map_or_else(|_| Value::text(key), Value::Int);
            value = super::operators::item(interpreter, &value, &key)?;
        }
        result.push_str(&formatted(interpreter, &value, conversion, spec)?);
        interpreter.charge(1 + result.len() / 64)?;
    }
    Ok(result)
}

/// Returns a value as JSON, with the objects and lists of the event as plain ones.
pub(super) fn json(value: &Value) -> Outcome<String> {
    bounds::nested(Err(Fault::Exhausted), || json_inner(value))
}

fn json_inner(value: &Value) -> Outcome<String> {
    Ok(match value {
        Value::None => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Float(value) if value.is_finite() => float(*value),
        Value::Text(text) => json_text(text),
        Value::Tuple(_) | Value::List(_) | Value::FrozenList(_) => {
            let items = value.items().unwrap_or_default();
            format!("[{}]", items.iter().map(json).collect::<Outcome<Vec<_>>>()?.join(", "))
        }
        Value::Dict(_) | Value::Record(_) => {
            let mut members = Vec::new();
            for (key, value) in value.dict_entries().unwrap_or_default() {
                let key = match &key {
                    Value::Text(text) => json_text(text),
                    Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => format!("\"{}\"", json(&key)?),
                    other => {
                        let message = format!("keys must be str, int, float, bool or None, not {}", other.type_name());
                        return Err(Fault::type_error(message));
                    }
                };
                members.push(format!("{key}: {}", json(&value)?));
            }
            format!("{{{}}}", members.join(", "))
        }
        Value::Float(_) => return Err(Fault::value_error("Out of range float values are not JSON compliant")),
        other => {
            return Err(Fault::type_error(format!("Object of type {} is not JSON serializable", other.type_name())));
        }
    })
}

/// Text as JSON of ASCII characters, as Python writes it.
pub(super) fn json_text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    json.push('"');
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\u{8}' => json.push_str("\\b"),
            '\u{c}' => json.push_str("\\f"),
            ' '..='~' => json.push(c),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    let _ = write!(json, "\\u{unit:04x}");
                }
            }
        }
    }
    json.push('"');
    json
}
