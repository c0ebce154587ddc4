//! Python's `template % values`.

use std::fmt::Write as _;

use super::exception::{ExceptionKind, Fault, Outcome};
use super::format_spec::{self, FormatSpec};
use super::interpreter::Interpreter;
use super::text_format::{repr, text};
use super::value::Value;

/// The widest field that a format may ask for.
const WIDTH: usize = 1_000;

/// The values of a template.
struct Values<'v> {
    items: Vec<Value>,
    /// The single value, which may be a dictionary with names.
    whole: &'v Value,
    next: usize,
    used_names: bool,
}

impl Values<'_> {
    fn next(&mut self) -> Outcome<Value> {
        let value = self.items.get(self.next).cloned();
        self.next += 1;
        value.ok_or_else(|| Fault::type_error("not enough arguments for format string"))
    }

    fn named(&mut self, interpreter: &Interpreter, name: &str) -> Outcome<Value> {
        if !matches!(self.whole, Value::Dict(_) | Value::Record(_)) {
            return Err(Fault::type_error("format requires a mapping"));
        }
        self.used_names = true;
        super::operators::item(interpreter, self.whole, &Value::text(name))
    }
}

/// Returns `template % values`.
pub(super) fn percent(interpreter: &Interpreter, template: &str, values: &Value) -> Outcome<String> {
    let items = match values {
        Value::Tuple(items) => items.to_vec(),
        other => vec![other.clone()],
    };
    let mut values = Values { items, whole: values, next: 0, used_names: false };
    let mut result = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('%') {
        result.push_str(before);
        rest = one(interpreter, after, &mut values, &mut result)?;
        interpreter.charge(1 + result.len() / 64)?;
    }
    result.push_str(rest);
    let takes_none = matches!(values.whole, Value::Dict(_) | Value::Record(_) | Value::List(_) | Value::FrozenList(_));
    if values.next < values.items.len() && !values.used_names && !takes_none {
        return Err(Fault::type_error("not all arguments converted during string formatting"));
    }
    Ok(result)
}

/// Adds the field that begins after a `%`. Returns the text after it.
fn one<'t>(
    interpreter: &Interpreter,
    text_after: &'t str,
    values: &mut Values<'_>,
    result: &mut String,
) -> Outcome<&'t str> {
    let mut rest = text_after;
    let mut name = None;
    if let Some(after) = rest.strip_prefix('(') {
        let end = closing_bracket(after).ok_or_else(|| Fault::value_error("incomplete format key"))?;
        name = Some(&after[..end]);
        rest = &after[end + 1..];
    }
    let flags_end = rest.find(|c| !matches!(c, '-' | '+' | ' ' | '#' | '0')).unwrap_or(rest.len());
    let (flags, after) = rest.split_at(flags_end);
    rest = after;
    let mut is_left = flags.contains('-');
    let width = match size(&mut rest, values)? {
        Some(width) if width < 0 => {
            is_left = true;
            width.checked_neg()
        }
        width => width,
    };
    let mut precision = None;
    if let Some(after) = rest.strip_prefix('.') {
        rest = after;
        precision = Some(size(&mut rest, values)?.unwrap_or(0).max(0));
    }
    rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
    let within = |size: Option<i128>| {
        let size = size.map(|size| usize::try_from(size).ok().filter(|size| *size <= WIDTH).ok_or(Fault::Exhausted));
        size.transpose()
    };
    let (width, precision) = (within(width)?.unwrap_or(0), within(precision)?);
    let Some(code) = rest.chars().next() else { return Err(Fault::value_error("incomplete format")) };
    rest = &rest[code.len_utf8()..];
    if code == '%' {
        result.push('%');
        return Ok(rest);
    }
    let value = match name {
        Some(name) => values.named(interpreter, name)?,
        None => values.next()?,
    };
    let zeros = flags.contains('0') && !is_left;
    let sign = if flags.contains('+') { Some('+') } else { Some(' ').filter(|_| flags.contains(' ')) };
    let align = Some(if is_left { '<' } else { '>' });
    let is_alternate = flags.contains('#');
    let of_text = FormatSpec { align, width, precision, ..FormatSpec::default() };
    let numeric = FormatSpec {
        sign,
        width,
        is_alternate,
        zeros,
        align: align.filter(|_| !zeros),
        kind: Some(if code == 'i' || code == 'u' { 'd' } else { code }),
        ..FormatSpec::default()
    };
    let shown = match code {
        's' => format_spec::formatted(&Value::text(text(&value)), of_text)?,
        'r' => format_spec::formatted(&Value::text(repr(&value)), of_text)?,
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let number = whole_number(&value, code)?;
            match precision {
                None => format_spec::formatted(&Value::Int(number), numeric)?,
                Some(digits) => with_digits(number, digits, numeric)?,
            }
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let Some(number) = value.as_float() else {
                return Err(Fault::type_error(format!("must be real number, not {}", value.type_name())));
            };
            let precision = Some(precision.unwrap_or(6));
            format_spec::formatted(&Value::Float(number), FormatSpec { precision, ..numeric })?
        }
        'c' => match &value {
            Value::Text(text) if text.chars().count() == 1 => format_spec::formatted(&value, of_text)?,
            Value::Int(_) | Value::Bool(_) => {
                let kind = Some('c');
                format_spec::formatted(&value, FormatSpec { kind, precision: None, ..of_text })?
            }
            _ => return Err(Fault::type_error("%c requires int or char")),
        },
        'a' => format_spec::formatted(&Value::text(ascii(&repr(&value))), of_text)?,
        other => return Err(Fault::value_error(format!("unsupported format character '{other}'"))),
    };
    result.push_str(&shown);
    Ok(rest)
}

/// Returns a text with escapes in place of what is not ASCII.
fn ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        let code = u32::from(c);
        let _ = match code {
            0..=0x7f => write!(escaped, "{c}"),
            0x80..=0xff => write!(escaped, "\\x{code:02x}"),
            0x100..=0xffff => write!(escaped, "\\u{code:04x}"),
            _ => write!(escaped, "\\U{code:08x}"),
        };
    }
    escaped
}

/// The place of the bracket that closes a name.
fn closing_bracket(text: &str) -> Option<usize> {
    let mut depth = 1;
    text.char_indices().find_map(|(place, c)| {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (depth == 0).then_some(place)
    })
}

/// Reads a width or a precision: digits, or `*` for the next value.
fn size(rest: &mut &str, values: &mut Values<'_>) -> Outcome<Option<i128>> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        return match values.next()?.as_int() {
            Some(size) => Ok(Some(size)),
            None => Err(Fault::type_error("* wants int")),
        };
    }
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(end);
    *rest = after;
    if digits.is_empty() { Ok(None) } else { digits.parse().map(Some).map_err(|_| Fault::Exhausted) }
}

#[allow(clippy::cast_possible_truncation, reason = "checked against the bounds of the type")]
fn whole_number(value: &Value, code: char) -> Outcome<i128> {
    match value {
        Value::Float(number) if matches!(code, 'd' | 'i' | 'u') => match number {
            number if number.is_nan() => Err(Fault::value_error("cannot convert float NaN to integer")),
            number if number.is_infinite() => {
                Err(Fault::raise(ExceptionKind::OverflowError, "cannot convert float infinity to integer"))
            }
            number if number.abs() < 1e30 => Ok(number.trunc() as i128),
            _ => Err(Fault::Exhausted),
        },
        other => other.as_int().ok_or_else(|| {
            let kind = other.type_name();
            Fault::type_error(format!("%{code} format: a number is required, not {kind}"))
        }),
    }
}

/// Returns a number with at least so many digits.
fn with_digits(number: i128, digits: usize, spec: FormatSpec) -> Outcome<String> {
    let plain = FormatSpec { width: 0, zeros: false, align: None, ..spec };
    let shown = format_spec::formatted(&Value::Int(number), plain)?;
    let start = shown.find(|c: char| c.is_ascii_hexdigit()).unwrap_or(0);
    let start = if spec.is_alternate && spec.kind != Some('d') { start + 2 } else { start };
    let (prefix, body) = shown.split_at(start.min(shown.len()));
    let body = format!("{}{body}", "0".repeat(digits.saturating_sub(body.len())));
    let missing = spec.width.saturating_sub(prefix.len() + body.len());
    Ok(match (spec.zeros, spec.align) {
        (true, _) => format!("{prefix}{}{body}", "0".repeat(missing)),
        (false, Some('<')) => format!("{prefix}{body}{}", " ".repeat(missing)),
        _ => format!("{}{prefix}{body}", " ".repeat(missing)),
    })
}
