//! Builtins of Python, and `json`.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::super::event::Json;
use super::super::exception::{ExceptionKind, Fault, Outcome};
use super::super::interpreter::{Arguments, Interpreter};
use super::super::tree::Operator;
use super::super::value::Value;
use super::super::{methods, operators, text_format};
use super::{BUILTINS, Builtin};

/// The builtins that take iterables.
#[expect(clippy::too_many_lines, reason = "one arm for each builtin")]
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
        "enumerate" => {
            let start = arguments.get(1, "start").and_then(Value::as_int).unwrap_or(0);
            let pair = |(index, item)| Value::tuple(vec![Value::Int(start.saturating_add(index)), item]);
            Ok(Value::list((0_i128..).zip(collected()?).map(pair).collect()))
        }
        "reversed" => {
            let mut items = collected()?;
            items.reverse();
            Ok(Value::list(items))
        }
        "sorted" => Ok(Value::list(sorted(interpreter, collected()?, &without_first(arguments))?)),
        "iter" => match arguments.required(0, "object")? {
            generator @ Value::Generator(_) => Ok(generator.clone()),
            other => Ok(Value::list(interpreter.collect(other)?)),
        },
        "next" => {
            let mut found = None;
            interpreter.iterate(arguments.required(0, "iterator")?, &mut |item| {
                found = Some(item);
                Ok(ControlFlow::Break(()))
            })?;
            found
                .or_else(|| arguments.get(1, "default").cloned())
                .ok_or_else(|| Fault::raise(ExceptionKind::StopIteration, ""))
        }
        "zip" => {
            let lists: Vec<_> =
                arguments.positional.iter().map(|list| interpreter.collect(list)).collect::<Outcome<_>>()?;
            let length = lists.iter().map(Vec::len).min().unwrap_or(0);
            let row = |index: usize| Value::tuple(lists.iter().map(|list| list[index].clone()).collect());
            Ok(Value::list((0..length).map(row).collect()))
        }
        "map" | "filter" => {
            let function = arguments.required(0, "function")?;
            let mut items = Vec::new();
            for item in interpreter.collect(arguments.required(1, "iterable")?)? {
                let result = match function {
                    Value::None => item.clone(),
                    function => interpreter.call(function, Arguments::of(vec![item.clone()]))?,
                };
                if name == "map" {
                    items.push(result);
                } else if result.is_true() {
                    items.push(item);
                }
            }
            Ok(Value::list(items))
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
            let key = Arguments { positional: Vec::new(), named: arguments.named.clone() };
            let mut items =
                sorted(interpreter, if name == "max" { items.into_iter().rev().collect() } else { items }, &key)?;
            Ok(if name == "max" { items.pop() } else { items.into_iter().next() }.unwrap_or(Value::None))
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

pub(super) fn without_first(arguments: &Arguments) -> Arguments {
    Arguments { positional: Vec::new(), named: arguments.named.clone() }
}

/// Returns the items in order of `key`, or in reverse.
pub(in super::super) fn sorted(
    interpreter: &Interpreter,
    items: Vec<Value>,
    arguments: &Arguments,
) -> Outcome<Vec<Value>> {
    let key = arguments.get(usize::MAX, "key").filter(|key| !matches!(key, Value::None));
    let reverse = arguments.get(usize::MAX, "reverse").is_some_and(Value::is_true);
    let with_key = |item: Value| match key {
        Some(key) => Ok((interpreter.call(key, Arguments::of(vec![item.clone()]))?, item)),
        None => Ok((item.clone(), item)),
    };
    let mut keyed = items.into_iter().map(with_key).collect::<Outcome<Vec<_>>>()?;
    interpreter.charge(keyed.len().saturating_mul(usize::try_from(keyed.len().max(1).ilog2()).unwrap_or(1) + 1))?;
    let mut fault = None;
    if reverse {
        keyed.reverse();
    }
    keyed.sort_by(|(a, _), (b, _)| match a.compare(b) {
        Ok(order) => order.unwrap_or(std::cmp::Ordering::Equal),
        Err(raised) => {
            fault.get_or_insert(raised);
            std::cmp::Ordering::Equal
        }
    });
    if reverse {
        keyed.reverse();
    }
    match fault {
        Some(fault) => Err(fault),
        None => Ok(keyed.into_iter().map(|(_, item)| item).collect()),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked against the bounds of the type")]
pub(super) fn int(value: &Value) -> Outcome<Value> {
    let wrong = |text: &str| {
        let literal = text_format::repr(&Value::text(text));
        Fault::value_error(format!("invalid literal for int() with base 10: {literal}"))
    };
    match value {
        Value::Text(text) => {
            let trimmed = text.trim();
            let digits = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
            if digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") || digits.is_empty() {
                return Err(wrong(text));
            }
            let plain = trimmed.replace('_', "");
            if digits.chars().all(|c| c.is_ascii_digit() || c == '_') {
                return plain.parse().map(Value::Int).map_err(|_| Fault::Exhausted);
            }
            Err(wrong(text))
        }
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

pub(super) fn float(value: &Value) -> Outcome<Value> {
    match value {
        Value::Text(text) => text.trim().replace('_', "").parse().map(Value::Float).map_err(|_| {
            Fault::value_error(format!("could not convert string to float: {}", text_format::repr(value)))
        }),
        other => other.as_float().map(Value::Float).ok_or_else(|| {
            let kind = other.type_name();
            Fault::type_error(format!("float() argument must be a string or a real number, not '{kind}'"))
        }),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "checked against the bounds of the type")]
pub(super) fn round(arguments: &Arguments) -> Outcome<Value> {
    let value = arguments.required(0, "number")?;
    let digits = arguments.get(1, "ndigits").filter(|digits| !matches!(digits, Value::None));
    match (value, digits) {
        (Value::Float(number), None) if number.abs() < 1e30 => Ok(Value::Int(number.round_ties_even() as i128)),
        (Value::Float(number), Some(digits)) => {
            let digits = digits.as_int().and_then(|digits| usize::try_from(digits).ok()).filter(|digits| *digits <= 20);
            let digits = digits.ok_or_else(|| Fault::Refused("`round` to these digits".to_owned()))?;
            format!("{number:.digits$}").parse().map(Value::Float).map_err(|_| Fault::Exhausted)
        }
        (other, _) => other
            .as_int()
            .map(Value::Int)
            .ok_or_else(|| Fault::type_error(format!("type {} doesn't define __round__ method", other.type_name()))),
    }
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
        other => return Err(Fault::Refused(format!("`isinstance` with `{other}`"))),
    })
}

pub(super) fn class_of(value: &Value) -> Outcome<Value> {
    let name = value.type_name();
    let class = BUILTINS.iter().find(|known| **known == name).map(|known| Value::Builtin(Builtin(known)));
    class.ok_or_else(|| Fault::Refused(format!("`type` of a {name}")))
}

pub(super) fn loads(interpreter: &Interpreter, text: &Value) -> Outcome<Value> {
    let text = match text {
        Value::Text(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => {
            let kind = other.type_name();
            return Err(Fault::type_error(format!("the JSON object must be str, bytes or bytearray, not {kind}")));
        }
    };
    interpreter.charge(text.len() / 16)?;
    match Json::parse(&text) {
        Some(json) => Ok(Value::thawed(&json)),
        None => Err(Fault::raise(ExceptionKind::JSONDecodeError, "Expecting value: line 1 column 1 (char 0)")),
    }
}

pub(super) fn dumps(arguments: &Arguments) -> Outcome<Value> {
    if let Some((name, _)) = arguments.named.iter().find(|(name, _)| **name != *"default") {
        return Err(Fault::Refused(format!("`json.dumps` with `{name}`")));
    }
    let value = arguments.required(0, "obj")?;
    if arguments.named.is_empty()
        && let Value::Record(_) | Value::FrozenList(_) = value
    {
        let message = format!("Object of type {} is not JSON serializable", value.type_name());
        return Err(Fault::type_error(message));
    }
    text_format::json(value).map(Value::text)
}
