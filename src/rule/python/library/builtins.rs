//! Builtins of Python.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::exception::{ExceptionKind, Fault, Outcome};
use super::super::interpreter::{Arguments, Interpreter};
use super::super::tree::Operator;
use super::super::value::Value;
use super::super::{methods, operators, text_format, unicode};
use super::{Builtin, sorted};

/// The builtins that take iterables.
pub(super) fn over_iterables(interpreter: &Interpreter, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let first = arguments.positional.first();
    let collected = || first.map_or_else(|| Ok(Vec::new()), |value| interpreter.collect(value));
    match name {
        "any" | "all" => {
            let is_any = name == "any";
            let mut result = !is_any;
            interpreter.iterate(arguments.required(0, "iterable")?, &mut |item| {
                if item.is_true() == is_any {
                    result = is_any;
                    return Ok(ControlFlow::Break(()));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(Value::Bool(result))
        }
        "list" => Ok(Value::list(collected()?)),
        "tuple" => Ok(Value::tuple(collected()?)),
        "set" | "frozenset" => operators::new_set(interpreter, collected()?),
        "dict" | "collections.OrderedDict" => {
            let dict = Value::dict(Vec::new());
            if let Some(first) = first {
                methods::add_entries(interpreter, &dict, first)?;
            }
            for (key, value) in &arguments.named {
                operators::set_item(interpreter, &dict, Value::Text(Arc::clone(key)), value.clone())?;
            }
            Ok(dict)
        }
        "dict.fromkeys" => {
            let dict = Value::dict(Vec::new());
            let value = arguments.get(1, "value").cloned().unwrap_or(Value::None);
            for key in collected()? {
                operators::set_item(interpreter, &dict, key, value.clone())?;
            }
            Ok(dict)
        }
        "iter" | "map" | "filter" | "zip" | "enumerate" | "reversed" => interpreter.new_iterator(name, arguments),
        "sorted" => Ok(Value::list(sorted(interpreter, collected()?, arguments)?)),
        "next" => {
            let found = interpreter.next_item(arguments.required(0, "iterator")?)?;
            found
                .or_else(|| arguments.get(1, "default").cloned())
                .ok_or_else(|| Fault::raise(ExceptionKind::StopIteration, ""))
        }
        "functools.reduce" => {
            let function = arguments.required(0, "function")?;
            let mut items = interpreter.collect(arguments.required(1, "iterable")?)?.into_iter();
            let start = arguments.get(2, "initial").cloned().or_else(|| items.next());
            let mut value =
                start.ok_or_else(|| Fault::type_error("reduce() of empty iterable with no initial value"))?;
            for item in items {
                value = interpreter.call(function, Arguments::of(vec![value, item]))?;
            }
            Ok(value)
        }
        "sum" => {
            let mut total = arguments.get(1, "start").cloned().unwrap_or(Value::Int(0));
            for item in collected()? {
                total = operators::binary(interpreter, Operator::Add, &total, &item)?;
            }
            Ok(total)
        }
        "max" | "min" => {
            let items = if arguments.positional.len() == 1 { collected()? } else { arguments.positional.clone() };
            if items.is_empty() {
                return match arguments.get(usize::MAX, "default") {
                    Some(default) => Ok(default.clone()),
                    None => Err(Fault::value_error(format!("{name}() arg is an empty sequence"))),
                };
            }
            super::order::extreme(interpreter, items, name == "max", arguments)
        }
        "range" => {
            let bounds: Option<Vec<i128>> = arguments.positional.iter().map(Value::as_int).collect();
            let bounds = bounds.ok_or_else(|| Fault::type_error("range() takes integers"))?;
            let (start, end, step) = match bounds.as_slice() {
                [end] => (0, *end, 1),
                [start, end] => (*start, *end, 1),
                [start, end, step] if *step != 0 => (*start, *end, *step),
                _ => return Err(Fault::value_error("range() arg 3 must not be zero")),
            };
            let mut items = Vec::new();
            let mut at = start;
            while if step > 0 { at < end } else { at > end } {
                interpreter.charge(1)?;
                items.push(Value::Int(at));
                at = at.checked_add(step).ok_or(Fault::Exhausted)?;
            }
            Ok(Value::list(items))
        }
        other => Err(Fault::Refused(format!("`{other}`"))),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked against the bounds of the type")]
pub(super) fn int(arguments: &Arguments) -> Outcome<Value> {
    let value = arguments.positional.first();
    if let Some(base) = arguments.get(1, "base") {
        let Some(base) = base.as_int() else {
            let kind = base.type_name();
            return Err(Fault::type_error(format!("'{kind}' object cannot be interpreted as an integer")));
        };
        let text = match value {
            Some(Value::Text(text)) => text.to_string(),
            Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            _ => return Err(Fault::type_error("int() can't convert non-string with explicit base")),
        };
        let base = u32::try_from(base).ok().filter(|base| *base == 0 || (2..=36).contains(base));
        let base = base.ok_or_else(|| Fault::value_error("int() base must be >= 2 and <= 36, or 0"))?;
        return int_of_text(&text, base).map(Value::Int);
    }
    match value.unwrap_or(&Value::Int(0)) {
        Value::Text(text) => int_of_text(text, 10).map(Value::Int),
        Value::Bytes(bytes) => int_of_text(&String::from_utf8_lossy(bytes), 10).map(Value::Int),
        Value::Float(value) if value.is_nan() => Err(Fault::value_error("cannot convert float NaN to integer")),
        Value::Float(value) if value.is_infinite() => {
            Err(Fault::raise(ExceptionKind::OverflowError, "cannot convert float infinity to integer"))
        }
        Value::Float(value) if value.abs() < 1e30 => Ok(Value::Int(value.trunc() as i128)),
        Value::Float(_) => Err(Fault::Exhausted),
        other => other.as_int().map(Value::Int).ok_or_else(|| {
            let kind = other.type_name();
            Fault::type_error(format!(
                "int() argument must be a string, a bytes-like object or a real number, not '{kind}'"
            ))
        }),
    }
}

/// Reads a number in a base. In base 0 a prefix says which.
fn int_of_text(text: &str, base: u32) -> Outcome<i128> {
    let wrong = || {
        let literal = text_format::repr(&Value::text(text));
        Fault::value_error(format!("invalid literal for int() with base {base}: {literal}"))
    };
    let plain = unicode::with_ascii_digits(text.trim_matches(unicode::is_space));
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find(|(prefix, of)| {
        (base == 0 || base == *of) && unsigned.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    });
    let is_literal = base == 0;
    // After a prefix an underscore may come first.
    let (digits, base) = match prefixed {
        Some((prefix, of)) => (unsigned[prefix.len()..].strip_prefix('_').unwrap_or(&unsigned[prefix.len()..]), of),
        None => (unsigned, if base == 0 { 10 } else { base }),
    };
    // As in source, a number in base 0 has no zeros in front.
    let has_zeros = digits.starts_with('0') && !digits.bytes().all(|byte| matches!(byte, b'0' | b'_'));
    if is_literal && prefixed.is_none() && has_zeros {
        return Err(wrong());
    }
    let is_digit = |c: char| c == '_' || c.is_digit(base);
    if digits.is_empty()
        || digits.starts_with('_')
        || digits.ends_with('_')
        || digits.contains("__")
        || !digits.chars().all(is_digit)
    {
        return Err(wrong());
    }
    let sign = if plain.starts_with('-') { "-" } else { "" };
    i128::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), base).map_err(|_| Fault::Exhausted)
}

pub(super) fn float(value: &Value) -> Outcome<Value> {
    match value {
        Value::Text(text) => {
            let plain = unicode::with_ascii_digits(text.trim_matches(unicode::is_space));
            let chars: Vec<char> = plain.chars().collect();
            // An underscore stands between two digits.
            let is_between = |index: usize| {
                let digit =
                    |index: Option<usize>| index.and_then(|index| chars.get(index)).is_some_and(char::is_ascii_digit);
                digit(index.checked_sub(1)) && digit(index.checked_add(1))
            };
            let is_valid = chars.iter().enumerate().all(|(index, c)| *c != '_' || is_between(index));
            let number = plain.replace('_', "").parse().ok().filter(|_| is_valid);
            number.map(Value::Float).ok_or_else(|| {
                Fault::value_error(format!("could not convert string to float: {}", text_format::repr(value)))
            })
        }
        other => other.as_float().map(Value::Float).ok_or_else(|| {
            let kind = other.type_name();
            Fault::type_error(format!("float() argument must be a string or a real number, not '{kind}'"))
        }),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked against the bounds of the type")]
pub(super) fn round(arguments: &Arguments) -> Outcome<Value> {
    let value = arguments.required(0, "number")?;
    let digits = match arguments.get(1, "ndigits") {
        None | Some(Value::None) => None,
        Some(digits) => Some(digits.as_int().ok_or_else(|| {
            let kind = digits.type_name();
            Fault::type_error(format!("'{kind}' object cannot be interpreted as an integer"))
        })?),
    };
    match (value, digits) {
        (Value::Float(number), None) if number.is_nan() => {
            Err(Fault::value_error("cannot convert float NaN to integer"))
        }
        (Value::Float(number), None) if number.is_infinite() => {
            Err(Fault::raise(ExceptionKind::OverflowError, "cannot convert float infinity to integer"))
        }
        (Value::Float(number), None) if number.abs() < 1e30 => Ok(Value::Int(number.round_ties_even() as i128)),
        (Value::Float(_), None) => Err(Fault::Exhausted),
        (Value::Float(number), Some(_)) if !number.is_finite() => Ok(Value::Float(*number)),
        (Value::Float(number), Some(digits)) if digits >= 0 => {
            // A float has no more digits than these.
            let digits = usize::try_from(digits).unwrap_or(usize::MAX).min(330);
            format!("{number:.digits$}").parse().map(Value::Float).map_err(|_| Fault::Exhausted)
        }
        (Value::Float(number), Some(digits)) => {
            if number.abs() >= 1e30 {
                return Err(Fault::Exhausted);
            }
            let rounded = rounded_int(number.trunc() as i128, digits, number.fract() != 0.0);
            #[allow(clippy::cast_precision_loss, reason = "Python rounds it too")]
            let rounded = rounded as f64;
            Ok(Value::Float(rounded.copysign(*number)))
        }
        (other, digits) => match other.as_int() {
            Some(number) => Ok(Value::Int(digits.map_or(number, |digits| rounded_int(number, digits, false)))),
            None => Err(Fault::type_error(format!("type {} doesn't define __round__ method", other.type_name()))),
        },
    }
}

/// Rounds a number at a digit before the point, halves to even. `has_more` says that it was cut.
fn rounded_int(number: i128, digits: i128, has_more: bool) -> i128 {
    if digits >= 0 {
        return number;
    }
    let power = u32::try_from(-digits).ok().and_then(|digits| 10_i128.checked_pow(digits));
    let Some(unit) = power else { return 0 };
    let (quotient, rest) = (number / unit, (number % unit).abs());
    let is_up = match rest.cmp(&(unit - rest)) {
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => has_more || quotient % 2 != 0,
        std::cmp::Ordering::Greater => true,
    };
    let step = if number < 0 { -1 } else { 1 };
    (quotient + if is_up { step } else { 0 }).saturating_mul(unit)
}

/// Returns whether a value is of a class, or of one of several.
pub(super) fn is_instance(value: &Value, class: &Value) -> Outcome<bool> {
    let name = match class {
        Value::Tuple(classes) => {
            for class in classes.iter() {
                if is_instance(value, class)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Value::ExceptionType(class) => {
            return Ok(matches!(value, Value::Exception(exception) if exception.kind.is(*class)));
        }
        Value::Builtin(builtin) => builtin.0,
        _ => return Err(Fault::type_error("isinstance() arg 2 must be a type, a tuple of types, or a union")),
    };
    Ok(match name {
        "str" => matches!(value, Value::Text(_)),
        "bytes" => matches!(value, Value::Bytes(_)),
        "bool" => matches!(value, Value::Bool(_)),
        "int" => matches!(value, Value::Int(_) | Value::Bool(_)),
        "float" => matches!(value, Value::Float(_)),
        "list" => matches!(value, Value::List(_)),
        "dict" | "collections.OrderedDict" => matches!(value, Value::Dict(_)),
        "tuple" => matches!(value, Value::Tuple(_)),
        "set" => matches!(value, Value::Set(_)),
        "collections.abc.Mapping" => matches!(value, Value::Dict(_) | Value::Record(_)),
        "collections.abc.Sequence" => {
            matches!(value, Value::List(_) | Value::Tuple(_) | Value::FrozenList(_) | Value::Text(_) | Value::Bytes(_))
        }
        "panther_core.PantherEvent" => matches!(value, Value::Record(record) if record.is_event),
        "unittest.mock.MagicMock" => matches!(value, Value::Mock(_)),
        "datetime.datetime" => matches!(value, Value::DateTime(_)),
        "datetime.timedelta" => matches!(value, Value::TimeDelta(_)),
        "ipaddress.IPv4Address" => matches!(value, Value::Address(address) if address.is_ipv4()),
        "ipaddress.IPv6Address" => matches!(value, Value::Address(address) if address.is_ipv6()),
        "NoneType" => matches!(value, Value::None),
        "ImmutableList" => matches!(value, Value::FrozenList(_)),
        "ImmutableCaseInsensitiveDict" => matches!(value, Value::Record(_)),
        other => return Err(Fault::Refused(format!("`isinstance` with `{other}`"))),
    })
}

/// Returns whether [`is_instance`] knows a class.
pub(in super::super) fn is_known_class(class: Builtin) -> bool {
    !matches!(is_instance(&Value::None, &Value::Builtin(class)), Err(Fault::Refused(_)))
}

/// Returns the class of a value.
pub(super) fn class_of(value: &Value) -> Value {
    let name = match value {
        Value::Exception(exception) => return Value::ExceptionType(exception.kind),
        Value::Record(record) if record.is_event => "panther_core.PantherEvent",
        Value::DateTime(_) => "datetime.datetime",
        Value::TimeDelta(_) => "datetime.timedelta",
        Value::Address(address) if address.is_ipv4() => "ipaddress.IPv4Address",
        Value::Address(_) => "ipaddress.IPv6Address",
        Value::Network(network) if network.addr().is_ipv4() => "ipaddress.IPv4Network",
        Value::Network(_) => "ipaddress.IPv6Network",
        Value::Mock(_) => "unittest.mock.MagicMock",
        other => other.type_name(),
    };
    Value::Builtin(Builtin(name))
}
