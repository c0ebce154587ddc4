//! Python's builtins, the parts of its library that rules use, and Panther's helpers that this program has itself.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::event::Json;
use super::exception::{ExceptionKind, Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::value::Value;
use super::{methods, operators, text_format, udm};

pub(super) mod network;
pub(super) mod patterns;
pub(super) mod time;

/// A function or class of this program, by its full name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Builtin(pub(super) &'static str);

/// The builtins of Python.
const BUILTINS: &[&str] = &[
    "abs",
    "all",
    "any",
    "bool",
    "dict",
    "divmod",
    "enumerate",
    "filter",
    "float",
    "format",
    "frozenset",
    "getattr",
    "hasattr",
    "int",
    "isinstance",
    "iter",
    "len",
    "list",
    "map",
    "max",
    "min",
    "next",
    "print",
    "range",
    "repr",
    "reversed",
    "round",
    "set",
    "sorted",
    "str",
    "sum",
    "tuple",
    "type",
    "zip",
    "bytes",
];

/// The members of modules that are functions or classes of this program.
const MEMBERS: &[&str] = &[
    "base64.b64decode",
    "collections.OrderedDict",
    "collections.abc.Mapping",
    "collections.abc.Sequence",
    "datetime.datetime",
    "datetime.timedelta",
    "fnmatch.fnmatch",
    "fnmatch.fnmatchcase",
    "functools.reduce",
    "ipaddress.IPv4Address",
    "ipaddress.IPv4Network",
    "ipaddress.IPv6Address",
    "ipaddress.IPv6Network",
    "ipaddress.ip_address",
    "ipaddress.ip_network",
    "json.dumps",
    "json.loads",
    "logging.critical",
    "logging.debug",
    "logging.error",
    "logging.info",
    "logging.warning",
    "panther_base_helpers.add_parse_delay",
    "panther_base_helpers.dbprint",
    "panther_base_helpers.deep_get",
    "panther_base_helpers.deep_walk",
    "panther_base_helpers.is_ip_in_network",
    "panther_base_helpers.pantherflow_investigation",
    "panther_base_helpers.pattern_match",
    "panther_base_helpers.pattern_match_list",
    "panther_base_helpers.resolve_timestamp_string",
    "panther_core.PantherEvent",
    "panther_detection_helpers.caching.add_to_string_set",
    "panther_detection_helpers.caching.check_account_age",
    "panther_detection_helpers.caching.put_dictionary",
    "panther_detection_helpers.caching.put_string_set",
    "panther_detection_helpers.caching.remove_from_string_set",
    "panther_detection_helpers.caching.reset_counter",
    "panther_detection_helpers.caching.reset_string_set",
    "panther_detection_helpers.caching.set_key_expiration",
    "panther_ipinfo_helpers.geoinfo_from_ip",
    "panther_ipinfo_helpers.geoinfo_from_ip_formatted",
    "panther_ipinfo_helpers.get_ipinfo_asn",
    "panther_ipinfo_helpers.get_ipinfo_location",
    "panther_ipinfo_helpers.get_ipinfo_privacy",
    "panther_misp_helpers.get_misp_warning_lists",
    "re.compile",
    "re.escape",
    "re.findall",
    "re.fullmatch",
    "re.match",
    "re.search",
    "re.split",
    "re.sub",
    "unittest.mock.MagicMock",
];

/// Members of modules that are exceptions.
const EXCEPTIONS: &[(&str, ExceptionKind)] = &[
    ("binascii.Error", ExceptionKind::ValueError),
    ("ipaddress.AddressValueError", ExceptionKind::AddressValueError),
    ("ipaddress.NetmaskValueError", ExceptionKind::NetmaskValueError),
    ("json.JSONDecodeError", ExceptionKind::JSONDecodeError),
    ("json.decoder.JSONDecodeError", ExceptionKind::JSONDecodeError),
    ("panther_aws_helpers.BadLookup", ExceptionKind::BadLookup),
    ("panther_aws_helpers.PantherBadInput", ExceptionKind::PantherBadInput),
    ("panther_base_helpers.PantherUnexpectedAlert", ExceptionKind::PantherUnexpectedAlert),
    ("panther_ipinfo_helpers.PantherIPInfoException", ExceptionKind::PantherIPInfoException),
];

/// Functions of Panther that read what other events stored.
const STORED: &[&str] = &[
    "evaluate_threshold",
    "get_counter",
    "get_dictionary",
    "get_string_set",
    "increment_counter",
    "get_key_expiration",
    "monotonic_counter",
];

/// The notice of a rule that calls a function of Panther whose meaning is another here.
pub(super) fn notice(module: &str, member: &str) -> Option<&'static str> {
    match (module, member) {
        ("panther_detection_helpers.caching" | "panther_oss_helpers", "check_account_age") => {
            Some("`check_account_age` is always false: no earlier events are stored")
        }
        ("panther_detection_helpers.caching" | "panther_oss_helpers", _) => {
            Some("what the rule stores for later events is dropped")
        }
        ("panther_ipinfo_helpers", _) if !member.ends_with("Exception") => {
            Some("data of IPinfo are missing, so the rule sees none")
        }
        ("panther_misp_helpers", _) => Some("data of MISP are missing, so the rule sees none"),
        _ => None,
    }
}

/// The reason why a member of a module cannot be used, if it is one.
pub(super) fn refusal(module: &str, member: &str) -> Option<String> {
    if STORED.contains(&member) && (module.starts_with("panther_detection_helpers") || module == "panther_oss_helpers")
    {
        return Some(format!("`{member}`, which reads what earlier events stored"));
    }
    let reads_clock = matches!((module, member), ("datetime", "date" | "time") | ("time", _));
    reads_clock.then(|| format!("`{module}.{member}`"))
}

/// Returns a builtin of Python.
pub(super) fn builtin(name: &str) -> Option<Value> {
    let known = BUILTINS.iter().find(|known| **known == name).map(|known| Value::Builtin(Builtin(known)));
    known.or_else(|| ExceptionKind::named(name).filter(|kind| is_of_python(*kind)).map(Value::ExceptionType))
}

/// Whether the exception needs no import.
fn is_of_python(kind: ExceptionKind) -> bool {
    !EXCEPTIONS.iter().any(|(_, known)| *known == kind) || kind == ExceptionKind::ValueError
}

/// Returns a member of a module that this program has itself.
pub(super) fn member(module: &str, member: &str) -> Option<Value> {
    let module = match module {
        "panther_oss_helpers" => "panther_detection_helpers.caching",
        "panther_core.enriched_event" => "panther_core",
        module => module,
    };
    let is_it = |full: &str| full.rsplit_once('.') == Some((module, member));
    if let Some(full) = MEMBERS.iter().find(|full| is_it(full)) {
        return Some(Value::Builtin(Builtin(full)));
    }
    if module == "tawny.exceptions" {
        return ExceptionKind::named(member).map(Value::ExceptionType);
    }
    if let Some((_, kind)) = EXCEPTIONS.iter().find(|(full, _)| is_it(full)) {
        return Some(Value::ExceptionType(*kind));
    }
    patterns::flag(module, member).map(Value::Int)
}

/// Returns whether a module has members of this program, or modules that do.
pub(super) fn is_module(module: &str) -> bool {
    let is_it = |full: &&str| full.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'));
    MEMBERS.iter().any(is_it) || EXCEPTIONS.iter().any(|(full, _)| is_it(full))
}

/// Returns a function of a class.
pub(super) fn member_of_class(class: Builtin, name: &str) -> Option<Value> {
    let full = match (class.0, name) {
        ("datetime.datetime", "strptime") => "datetime.datetime.strptime",
        ("datetime.datetime", "fromisoformat") => "datetime.datetime.fromisoformat",
        ("datetime.datetime", "fromtimestamp" | "utcfromtimestamp") => "datetime.datetime.utcfromtimestamp",
        ("dict", "fromkeys") => "dict.fromkeys",
        _ => return None,
    };
    Some(Value::Builtin(Builtin(full)))
}

fn length(value: &Value) -> Outcome<i128> {
    let length = match value {
        Value::Text(text) => text.chars().count(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Set(set) => set.items.borrow().len(),
        Value::List(list) => list.items.borrow().len(),
        Value::Tuple(items) => items.len(),
        Value::FrozenList(items) => items.len(),
        Value::Dict(dict) => dict.entries.borrow().len(),
        Value::Record(record) => record.object.members.len(),
        other => return Err(Fault::type_error(format!("object of type '{}' has no len()", other.type_name()))),
    };
    Ok(length as i128)
}

/// Calls a function or class of this program.
pub(super) fn call(interpreter: &Interpreter, builtin: Builtin, arguments: &Arguments) -> Outcome<Value> {
    let first = arguments.positional.first();
    match builtin.0 {
        "len" => length(arguments.required(0, "obj")?).map(Value::Int),
        "str" => Ok(Value::text(first.map(text_format::text).unwrap_or_default())),
        "repr" => Ok(Value::text(text_format::repr(arguments.required(0, "obj")?))),
        "format" => {
            let spec = arguments.get(1, "format_spec").and_then(Value::as_text).cloned().unwrap_or_default();
            text_format::with_format(arguments.required(0, "value")?, &spec).map(Value::text)
        }
        "bool" => Ok(Value::Bool(first.is_some_and(Value::is_true))),
        "int" => int(first.unwrap_or(&Value::Int(0))),
        "float" => float(first.unwrap_or(&Value::Int(0))),
        "abs" => match arguments.required(0, "x")? {
            Value::Float(value) => Ok(Value::Float(value.abs())),
            other => match other.as_int() {
                Some(value) => value.checked_abs().map(Value::Int).ok_or(Fault::Exhausted),
                None => Err(Fault::type_error(format!("bad operand type for abs(): '{}'", other.type_name()))),
            },
        },
        "round" => round(arguments),
        "divmod" => {
            let (a, b) = (arguments.required(0, "x")?, arguments.required(1, "y")?);
            let quotient = operators::binary(interpreter, super::tree::Operator::FloorDivide, a, b)?;
            Ok(Value::tuple(vec![quotient, operators::binary(interpreter, super::tree::Operator::Modulo, a, b)?]))
        }
        "isinstance" => is_instance(arguments.required(0, "obj")?, arguments.required(1, "class")?).map(Value::Bool),
        "type" => class_of(arguments.required(0, "object")?),
        "hasattr" | "getattr" => {
            let Value::Text(name) = arguments.required(1, "name")? else {
                return Err(Fault::type_error("attribute name must be string"));
            };
            let found = interpreter.attribute(arguments.required(0, "object")?, name);
            match (found, builtin.0) {
                (Ok(_), "hasattr") => Ok(Value::Bool(true)),
                (Ok(value), _) => Ok(value),
                (Err(Fault::Raised(raised)), "hasattr") if raised.kind == ExceptionKind::AttributeError => {
                    Ok(Value::Bool(false))
                }
                (Err(fault), _) => arguments.get(2, "default").cloned().ok_or(fault),
            }
        }
        "print" | "panther_base_helpers.dbprint" => Ok(Value::None),
        "datetime.timedelta" => time::new_delta(arguments),
        "panther_core.PantherEvent" | "unittest.mock.MagicMock" => Err(Fault::Refused(builtin.0.to_owned())),
        name if name.starts_with("logging.") => Ok(Value::None),
        name if name.starts_with("panther_") => panther(interpreter, name, arguments),
        name if name.starts_with("re.") || name.starts_with("fnmatch.") => patterns::call(interpreter, name, arguments),
        name if name.starts_with("ipaddress.") => network::call(name, arguments.required(0, "address")?),
        name if name.starts_with("datetime.") => time::call(name, arguments),
        "json.loads" => loads(interpreter, arguments.required(0, "s")?),
        "json.dumps" => dumps(arguments),
        "base64.b64decode" => {
            use base64::Engine as _;
            let text = match arguments.required(0, "s")? {
                Value::Text(text) => text.as_bytes().to_vec(),
                Value::Bytes(bytes) => bytes.to_vec(),
                other => {
                    return Err(Fault::type_error(format!(
                        "a bytes-like object is required, not '{}'",
                        other.type_name()
                    )));
                }
            };
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            decoded.map(|bytes| Value::Bytes(bytes.into())).map_err(|_| Fault::value_error("Incorrect padding"))
        }
        _ => over_iterables(interpreter, builtin.0, arguments),
    }
}

/// The builtins that take iterables.
fn over_iterables(interpreter: &Interpreter, name: &str, arguments: &Arguments) -> Outcome<Value> {
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
                total = operators::binary(interpreter, super::tree::Operator::Add, &total, &item)?;
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

fn without_first(arguments: &Arguments) -> Arguments {
    Arguments { positional: Vec::new(), named: arguments.named.clone() }
}

/// Returns the items in order of `key`, or in reverse.
pub(super) fn sorted(interpreter: &Interpreter, items: Vec<Value>, arguments: &Arguments) -> Outcome<Vec<Value>> {
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
fn int(value: &Value) -> Outcome<Value> {
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

fn float(value: &Value) -> Outcome<Value> {
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
fn round(arguments: &Arguments) -> Outcome<Value> {
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
fn is_instance(value: &Value, class: &Value) -> Outcome<bool> {
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

fn class_of(value: &Value) -> Outcome<Value> {
    let name = value.type_name();
    let class = BUILTINS.iter().find(|known| **known == name).map(|known| Value::Builtin(Builtin(known)));
    class.ok_or_else(|| Fault::Refused(format!("`type` of a {name}")))
}

fn loads(interpreter: &Interpreter, text: &Value) -> Outcome<Value> {
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

fn dumps(arguments: &Arguments) -> Outcome<Value> {
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

/// Panther's helpers.
fn panther(interpreter: &Interpreter, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let (module, function) = name.split_once('.').unwrap_or((name, ""));
    match (module, function) {
        ("panther_base_helpers", "deep_get") => {
            let (top, keys) = match arguments.positional.split_first() {
                Some((top, keys)) => (top.clone(), keys.to_vec()),
                None => (arguments.required(0, "dictionary")?.clone(), Vec::new()),
            };
            let default = arguments.get(usize::MAX, "default").cloned().unwrap_or(Value::None);
            methods::deep_get(interpreter, &top, &keys, default)
        }
        ("panther_base_helpers", "deep_walk") => udm::deep_walk(interpreter, arguments),
        ("panther_base_helpers", "is_ip_in_network") => {
            let (address, networks) = (arguments.required(0, "ip_addr")?, arguments.required(1, "networks")?);
            let mut found = false;
            interpreter.iterate(networks, &mut |known| {
                let address = network::call("ipaddress.ip_address", address)?;
                let known = network::call("ipaddress.ip_network", &known)?;
                found = operators::contains(interpreter, &known, &address)?;
                Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(Value::Bool(found))
        }
        ("panther_base_helpers", "pattern_match") => patterns::call(interpreter, "fnmatch.fnmatch", arguments),
        ("panther_base_helpers", "pattern_match_list") => {
            let text = arguments.required(0, "string_to_match")?;
            let mut found = false;
            interpreter.iterate(arguments.required(1, "patterns")?, &mut |pattern| {
                let pair = Arguments::of(vec![text.clone(), pattern]);
                found = patterns::call(interpreter, "fnmatch.fnmatch", &pair)?.is_true();
                Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(Value::Bool(found))
        }
        ("panther_base_helpers", "resolve_timestamp_string") => match arguments.required(0, "timestamp")? {
            value if !value.is_true() => Ok(Value::None),
            Value::Text(text) => Ok(time::resolved(text).map_or(Value::None, Value::DateTime)),
            other => Err(Fault::no_attribute(other, "replace")),
        },
        // Events have no `p_parse_time` here.
        ("panther_base_helpers", "add_parse_delay") => Err(Fault::no_attribute(&Value::None, "split")),
        // A query for Panther's own search.
        ("panther_base_helpers", "pantherflow_investigation") => Ok(Value::None),
        ("panther_ipinfo_helpers", "geoinfo_from_ip" | "geoinfo_from_ip_formatted") => {
            Err(Fault::raise(ExceptionKind::PantherIPInfoException, "Please enable both IPInfo Location and ASN"))
        }
        (_, "caching.check_account_age") => Ok(Value::Bool(false)),
        _ => Ok(Value::None),
    }
}

/// A mock of a test: a call of it gives this value.
pub(super) fn mock(value: Value) -> Value {
    Value::Mock(Rc::new(value))
}
