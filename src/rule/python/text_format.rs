//! Values as text: `str`, `repr`, f-strings, `str.format`, `%` and JSON.

use std::fmt::Write as _;

use super::bounds;
use super::event::Json;
use super::exception::{ExceptionKind, Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::library::time;
use super::tree::Conversion;
use super::value::Value;

/// The widest field that a format may ask for.
const WIDTH: usize = 1_000;

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
    let result = with_format(&converted, format)?;
    interpreter.charge(result.len() / 64)?;
    Ok(result)
}

/// Returns `format(value, spec)`.
pub(super) fn with_format(value: &Value, spec: &str) -> Outcome<String> {
    if spec.is_empty() {
        return Ok(text(value));
    }
    if let Value::DateTime(at) = value {
        return time::strftime(*at, spec);
    }
    let is_number = value.as_float().is_some();
    if !matches!(value, Value::Text(_)) && !is_number {
        let message = format!("unsupported format string passed to {}.__format__", value.type_name());
        return Err(Fault::type_error(message));
    }
    let unknown = || Fault::Refused(format!("the format `{spec}`"));
    let mut rest = spec;
    let mut chars = spec.chars();
    let (mut fill, mut align) = (' ', None);
    let (first, second) = (chars.next(), chars.next());
    let is_align = |c: Option<char>| c.is_some_and(|c| matches!(c, '<' | '>' | '^' | '='));
    if is_align(second) {
        (fill, align) = (first.unwrap_or(' '), second);
        rest = &rest[fill.len_utf8() + 1..];
    } else if is_align(first) {
        align = first;
        rest = &rest[1..];
    }
    let plus = rest.starts_with('+');
    rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    if let Some(after) = rest.strip_prefix('0') {
        if align.is_none() {
            (fill, align) = ('0', Some(if is_number { '=' } else { '<' }));
        }
        rest = after;
    }
    let digits = |rest: &mut &str| {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        *rest = after;
        number.parse::<usize>().ok()
    };
    let width = digits(&mut rest).unwrap_or(0);
    let commas = rest.starts_with(',');
    rest = rest.strip_prefix(',').unwrap_or(rest);
    let precision = match rest.strip_prefix('.') {
        Some(after) => {
            rest = after;
            Some(digits(&mut rest).ok_or_else(unknown)?)
        }
        None => None,
    };
    if width > WIDTH || precision.is_some_and(|precision| precision > WIDTH) {
        return Err(Fault::Exhausted);
    }
    let body = match (value, rest) {
        (Value::Text(text), "" | "s") if !commas && !plus => {
            text.chars().take(precision.unwrap_or(usize::MAX)).collect::<String>()
        }
        (Value::Text(_), _) => {
            return Err(Fault::value_error(format!("Unknown format code '{rest}' for object of type 'str'")));
        }
        (Value::Float(number), "") if precision.is_none() => grouped(&float(*number), commas),
        (_, "f" | "F") => match value.as_float() {
            Some(number) => grouped(&format!("{number:.*}", precision.unwrap_or(6)), commas),
            None => return Err(unknown()),
        },
        (_, "%") => match value.as_float() {
            Some(number) => format!("{:.*}%", precision.unwrap_or(6), number * 100.0),
            None => return Err(unknown()),
        },
        (Value::Int(_) | Value::Bool(_), "" | "d" | "x" | "X" | "b" | "o") if precision.is_none() => {
            match (value, value.as_int().unwrap_or_default(), rest) {
                (Value::Bool(_), _, "") if spec.len() == 1 => text(value),
                (_, number, "" | "d") => grouped(&number.to_string(), commas),
                (_, number, "x") if number >= 0 => format!("{number:x}"),
                (_, number, "X") if number >= 0 => format!("{number:X}"),
                (_, number, "b") if number >= 0 => format!("{number:b}"),
                (_, number, "o") if number >= 0 => format!("{number:o}"),
                _ => return Err(unknown()),
            }
        }
        _ => return Err(unknown()),
    };
    let body = if plus && !body.starts_with('-') { format!("+{body}") } else { body };
    let missing = width.saturating_sub(body.chars().count());
    let pad = |count: usize| fill.to_string().repeat(count);
    Ok(match align.unwrap_or(if is_number { '>' } else { '<' }) {
        '<' => format!("{body}{}", pad(missing)),
        '^' => format!("{}{body}{}", pad(missing / 2), pad(missing - missing / 2)),
        '=' => {
            let (sign, digits) = body.split_at(usize::from(body.starts_with(['-', '+'])));
            format!("{sign}{}{digits}", pad(missing))
        }
        _ => format!("{}{body}", pad(missing)),
    })
}

fn grouped(number: &str, commas: bool) -> String {
    if !commas {
        return number.to_owned();
    }
    let (sign, unsigned) = number.split_at(usize::from(number.starts_with('-')));
    let (whole, fraction) = unsigned.split_at(unsigned.find('.').unwrap_or(unsigned.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{fraction}")
}

/// Returns `template.format(…)`.
pub(super) fn format_call(interpreter: &Interpreter, template: &str, arguments: &Arguments) -> Outcome<String> {
    let mut result = String::new();
    let mut rest = template;
    let mut next = 0;
    while let Some(at) = rest.find(['{', '}']) {
        result.push_str(&rest[..at]);
        let (brace, after) = rest[at..].split_at(1);
        if let Some(after) = after.strip_prefix(brace) {
            result.push_str(brace);
            rest = after;
            continue;
        }
        let field = (brace == "{").then(|| after.split_once('}')).flatten();
        let Some((field, after)) = field else {
            return Err(Fault::value_error("Single '}' encountered in format string"));
        };
        rest = after;
        let (name, spec) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = match name.split_once('!') {
            Some((name, "r")) => (name, Conversion::Repr),
            Some((name, "s")) => (name, Conversion::Text),
            Some(_) => return Err(Fault::Refused(format!("the format `{field}`"))),
            None => (name, Conversion::None),
        };
        if name.contains(['.', '[', '{']) || spec.contains('{') {
            return Err(Fault::Refused(format!("the format `{field}`")));
        }
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
        result.push_str(&formatted(interpreter, value, conversion, spec)?);
        interpreter.charge(1 + result.len() / 64)?;
    }
    result.push_str(rest);
    Ok(result)
}

/// Returns `template % values`.
pub(super) fn percent(template: &str, values: &Value) -> Outcome<String> {
    let values = match values {
        Value::Tuple(items) => items.to_vec(),
        other => vec![other.clone()],
    };
    let mut values = values.into_iter();
    let mut parts = template.split('%');
    let mut result = parts.next().unwrap_or_default().to_owned();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            result.push('%');
            result.push_str(parts.next().unwrap_or_default());
            continue;
        }
        let mut next = || values.next().ok_or_else(|| Fault::type_error("not enough arguments for format string"));
        let (code, after) = part.split_at(part.chars().next().map_or(0, char::len_utf8));
        match code {
            "s" => result.push_str(&text(&next()?)),
            "r" => result.push_str(&repr(&next()?)),
            "d" => match next()?.as_int() {
                Some(number) => result.push_str(&number.to_string()),
                None => return Err(Fault::type_error("%d format: a real number is required")),
            },
            _ => return Err(Fault::Refused(format!("the format `%{code}`"))),
        }
        result.push_str(after);
    }
    if values.next().is_some() {
        return Err(Fault::type_error("not all arguments converted during string formatting"));
    }
    Ok(result)
}

/// Returns `json.dumps(value)`, with the objects and lists of the event as plain ones.
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
fn json_text(text: &str) -> String {
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
