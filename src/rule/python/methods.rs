//! Methods and attributes of values.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use super::exception::{Exception, ExceptionKind, Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::library::bytes::decode;
use super::library::{network, patterns, time};
use super::value::{Record, Value};
use super::{operators, signatures, text_format, udm};

const TEXT: &[&str] = &[
    "capitalize",
    "casefold",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "title",
    "upper",
    "zfill",
];
const RECORD: &[&str] = &["copy", "deep_get", "get", "items", "keys", "to_dict", "values"];
const EVENT: &[&str] = &["deep_walk", "event_time_epoch", "lookup", "udm", "udm_path"];
const FROZEN_LIST: &[&str] = &["as_list", "copy", "count", "index"];
const LIST: &[&str] =
    &["append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"];
const DICT: &[&str] = &["clear", "copy", "get", "items", "keys", "pop", "setdefault", "update", "values"];
const SET: &[&str] = &[
    "add",
    "clear",
    "copy",
    "difference",
    "discard",
    "intersection",
    "isdisjoint",
    "issubset",
    "issuperset",
    "remove",
    "symmetric_difference",
    "union",
    "update",
];

/// Returns whether a value has a method.
pub(super) fn is_method(value: &Value, name: &str) -> bool {
    let has = |names: &[&str]| names.contains(&name);
    match value {
        Value::Text(_) => has(TEXT),
        Value::Bytes(_) => has(&["decode"]),
        Value::Record(record) => has(RECORD) || (record.is_event && has(EVENT)),
        Value::FrozenList(_) => has(FROZEN_LIST),
        Value::List(_) => has(LIST),
        Value::Tuple(_) => has(&["count", "index"]),
        Value::Dict(_) => has(DICT),
        Value::Set(_) => has(SET),
        Value::Pattern(_) => has(&["findall", "fullmatch", "match", "search", "split", "sub"]),
        Value::Match(_) => has(&["end", "group", "groupdict", "groups", "span", "start"]),
        Value::DateTime(_) => has(&["isoformat", "strftime", "timestamp"]),
        Value::TimeDelta(_) => has(&["total_seconds"]),
        Value::Network(_) => has(&["overlaps", "subnet_of"]),
        _ => false,
    }
}

/// Returns whether a method belongs to a class of Python, as `str.lower` does.
pub(super) fn is_method_of_class(class: &str, name: &str) -> bool {
    let names = match class {
        "str" => TEXT,
        "list" => LIST,
        "dict" => DICT,
        "set" | "frozenset" => SET,
        _ => return false,
    };
    names.contains(&name)
}

/// Every method that some value has: an attribute with another name is refused where a rule is read.
pub(super) fn is_known(name: &str) -> bool {
    [TEXT, RECORD, EVENT, FROZEN_LIST, LIST, DICT, SET].iter().any(|names| names.contains(&name))
        || ["decode", "findall", "fullmatch", "match", "search", "sub", "end", "group", "groupdict", "groups", "start"]
            .contains(&name)
        || name == "span"
        || ["isoformat", "strftime", "timestamp", "total_seconds", "overlaps", "subnet_of"].contains(&name)
        || ["strptime", "fromisoformat", "fromtimestamp", "utcfromtimestamp", "fromkeys"].contains(&name)
        || ATTRIBUTES.contains(&name)
        || ENRICHMENT.contains(&name)
}

/// Methods of data that other services add to events. There are none here, so rules that test for them first never call
/// them.
const ENRICHMENT: &[&str] = &["domain", "has_warning_list_id"];

const ATTRIBUTES: &[&str] = &[
    "args",
    "day",
    "days",
    "hour",
    "is_global",
    "is_link_local",
    "is_loopback",
    "is_multicast",
    "is_private",
    "is_reserved",
    "is_unspecified",
    "microsecond",
    "microseconds",
    "minute",
    "month",
    "pattern",
    "second",
    "seconds",
    "version",
    "year",
];

/// Returns `value.name`.
pub(super) fn attribute(value: &Value, name: &Arc<str>) -> Outcome<Value> {
    if let Value::Builtin(builtin) = value
        && let Some(member) = super::library::member_of_class(*builtin, name)
    {
        return Ok(member);
    }
    if is_method(value, name) {
        return Ok(super::bounds::register(Value::Method(Rc::new((value.clone(), Arc::clone(name))))));
    }
    let found = match value {
        Value::Address(address) => network::attribute(*address, name),
        Value::DateTime(at) => time::attribute(*at, name),
        Value::TimeDelta(micros) => time::delta_attribute(*micros, name),
        Value::Exception(exception) if &**name == "args" => Some(Value::tuple(vec![exception.message.clone()])),
        Value::Pattern(pattern) if &**name == "pattern" => Some(Value::Text(Arc::clone(&pattern.text))),
        _ => None,
    };
    found.ok_or_else(|| if is_complete(value, name) { Fault::no_attribute(value, name) } else { unknown(value, name) })
}

fn unknown(value: &Value, name: &str) -> Fault {
    Fault::Refused(format!("`.{name}` of a {}", value.type_name()))
}

/// Whether Python lacks the attribute too, if this program does not implement it.
fn is_complete(value: &Value, name: &str) -> bool {
    match value {
        Value::None
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Tuple(_)
        | Value::List(_)
        | Value::Dict(_)
        | Value::Record(_)
        | Value::FrozenList(_) => true,
        Value::Set(_) => name != "pop",
        _ => false,
    }
}

/// Calls `value.name(…)`.
pub(super) fn call(interpreter: &Interpreter, value: &Value, name: &str, arguments: &Arguments) -> Outcome<Value> {
    signatures::check_method(value, name, arguments)?;
    match value {
        Value::Text(text) => super::text_methods::call(interpreter, text, name, arguments),
        Value::Bytes(bytes) => decode(bytes, arguments),
        Value::Record(record) => of_record(interpreter, record, name, arguments),
        Value::Dict(_) => of_dict(interpreter, value, name, arguments),
        Value::List(_) | Value::Tuple(_) | Value::FrozenList(_) => of_list(interpreter, value, name, arguments),
        Value::Set(_) => of_set(interpreter, value, name, arguments),
        Value::Pattern(pattern) => patterns::method(interpreter, pattern, name, arguments),
        Value::Match(found) => patterns::match_method(found, name, arguments),
        Value::DateTime(at) => time::method(*at, name, arguments),
        Value::TimeDelta(micros) => Ok(Value::Float(time::seconds(*micros))),
        Value::Network(known) => match arguments.required(0, "other")? {
            Value::Network(other) if name == "overlaps" => {
                Ok(Value::Bool(known.contains(&other.network()) || other.contains(&known.network())))
            }
            Value::Network(other) => Ok(Value::Bool(other.contains(known))),
            other => Err(Fault::no_attribute(other, "_version")),
        },
        other => Err(Fault::no_attribute(other, name)),
    }
}

fn pairs(entries: Vec<(Value, Value)>) -> Value {
    Value::list(entries.into_iter().map(|(key, value)| Value::tuple(vec![key, value])).collect())
}

fn of_record(interpreter: &Interpreter, record: &Record, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let members = record.object.members.len();
    match name {
        "get" => {
            arguments.check(2, &["default", "key"])?;
            interpreter.charge(members / 32)?;
            let found = record.get(arguments.required(0, "key")?)?;
            Ok(found.or_else(|| arguments.get(1, "default").cloned()).unwrap_or(Value::None))
        }
        "deep_get" => {
            arguments.check(usize::MAX, &["default"])?;
            let default = arguments.get(usize::MAX, "default").cloned().unwrap_or(Value::None);
            deep_get(interpreter, &Value::Record(record.clone()), &arguments.positional, default)
        }
        "items" | "keys" | "values" => {
            arguments.check(0, &[])?;
            interpreter.charge(members / 8)?;
            let entries: Vec<_> = record.entries().collect();
            Ok(views(entries, name))
        }
        "copy" | "to_dict" => {
            arguments.check(0, &[])?;
            interpreter.charge(members)?;
            Ok(Value::thawed(&super::event::Json::Object(Arc::clone(&record.object))))
        }
        "deep_walk" => {
            arguments.check(usize::MAX, &["default", "return_val"])?;
            udm::deep_walk_event(interpreter, record, arguments)
        }
        "udm" => {
            arguments.check(usize::MAX, &["default"])?;
            udm::field(interpreter, record, arguments)
        }
        "udm_path" => Ok(udm::path(arguments.required(0, "key")?)),
        "lookup" => {
            let keys =
                ["_mocked_lookup_data_"].map(Value::text).into_iter().chain(arguments.positional.iter().cloned());
            deep_get(interpreter, &Value::Record(record.clone()), &keys.collect::<Vec<_>>(), Value::None)
        }
        _ => {
            let at = record.get(&Value::text("p_event_time"))?;
            Ok(Value::Int(
                at.and_then(|at| time::resolved(at.as_text()?)).map_or(0, |at| at.micros.div_euclid(1_000_000)),
            ))
        }
    }
}

/// The keys, the values or both.
fn views(entries: Vec<(Value, Value)>, name: &str) -> Value {
    match name {
        "items" => pairs(entries),
        "keys" => Value::list(entries.into_iter().map(|(key, _)| key).collect()),
        _ => Value::list(entries.into_iter().map(|(_, value)| value).collect()),
    }
}

/// Follows keys through dictionaries and objects. Null, and a way through anything else, give `default`.
pub(super) fn deep_get(interpreter: &Interpreter, top: &Value, keys: &[Value], default: Value) -> Outcome<Value> {
    let mut value = top.clone();
    for key in keys {
        interpreter.charge(1)?;
        value = match &value {
            Value::Record(record) => {
                interpreter.charge(record.object.members.len() / 32)?;
                record.get(key)?.unwrap_or_else(|| default.clone())
            }
            Value::Dict(dict) => {
                interpreter.charge(dict.entries.borrow().len() / 32)?;
                dict.get(key)?.unwrap_or_else(|| default.clone())
            }
            _ => default.clone(),
        };
    }
    Ok(if matches!(value, Value::None) { default } else { value })
}

/// Adds the entries of `from` to a dictionary.
pub(super) fn add_entries(interpreter: &Interpreter, to: &Value, from: &Value) -> Outcome<()> {
    let entries = if let Some(entries) = from.dict_entries() {
        entries
    } else {
        let mut entries = Vec::new();
        for pair in interpreter.collect(from)? {
            match <[Value; 2]>::try_from(interpreter.collect(&pair)?) {
                Ok([key, value]) => entries.push((key, value)),
                Err(_) => {
                    return Err(Fault::value_error("dictionary update sequence element has the wrong length"));
                }
            }
        }
        entries
    };
    for (key, value) in entries {
        operators::set_item(interpreter, to, key, value)?;
    }
    Ok(())
}

fn of_dict(interpreter: &Interpreter, value: &Value, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let Value::Dict(dict) = value else { return Ok(Value::None) };
    interpreter.charge(dict.entries.borrow().len() / 32)?;
    match name {
        "get" => {
            arguments.check(2, &["default", "key"])?;
            let found = dict.get(arguments.required(0, "key")?)?;
            Ok(found.or_else(|| arguments.get(1, "default").cloned()).unwrap_or(Value::None))
        }
        "items" | "keys" | "values" => {
            arguments.check(0, &[])?;
            interpreter.charge(dict.entries.borrow().len() / 8)?;
            let entries = dict.entries.borrow().clone();
            Ok(views(entries, name))
        }
        "copy" => {
            let entries = dict.entries.borrow().clone();
            Ok(Value::dict(entries))
        }
        "update" => {
            if let Some(other) = arguments.positional.first() {
                add_entries(interpreter, value, other)?;
            }
            for (key, item) in &arguments.named {
                dict.insert(Value::Text(Arc::clone(key)), item.clone())?;
            }
            Ok(Value::None)
        }
        "setdefault" => {
            let key = arguments.required(0, "key")?;
            if let Some(known) = dict.get(key)? {
                Ok(known)
            } else {
                let default = arguments.get(1, "default").cloned().unwrap_or(Value::None);
                dict.insert(key.clone(), default.clone())?;
                Ok(default)
            }
        }
        "pop" => {
            let key = arguments.required(0, "key")?;
            dict.check_free()?;
            key.check_hashable()?;
            let place = dict.entries.borrow().iter().position(|(known, _)| known.equals(key));
            match (place, arguments.get(1, "default")) {
                (Some(place), _) => Ok(dict.entries.borrow_mut().remove(place).1),
                (None, Some(default)) => Ok(default.clone()),
                (None, None) => Err(Fault::Raised(Exception { kind: ExceptionKind::KeyError, message: key.clone() })),
            }
        }
        _ => {
            dict.check_free()?;
            drop(dict.entries.take());
            Ok(Value::None)
        }
    }
}

fn of_list(interpreter: &Interpreter, value: &Value, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let items = || value.items().unwrap_or_default();
    match (name, value) {
        ("count", _) => {
            let wanted = arguments.required(0, "value")?;
            let mut count = 0;
            interpreter.iterate(value, &mut |item| {
                count += i128::from(item.equals(wanted));
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(Value::Int(count))
        }
        ("index", _) => {
            let wanted = arguments.required(0, "value")?;
            let items = items();
            interpreter.charge(items.len())?;
            let bound = |position, name, otherwise: usize| match arguments.get(position, name) {
                None => Ok(otherwise),
                Some(bound) => match bound.as_int() {
                    Some(bound) if bound < 0 => {
                        Ok(usize::try_from(bound.saturating_add(items.len() as i128)).unwrap_or(0))
                    }
                    Some(bound) => Ok(usize::try_from(bound).unwrap_or(usize::MAX)),
                    None => Err(Fault::type_error("slice indices must be integers or have an __index__ method")),
                },
            };
            let (start, end) = (bound(1, "start", 0)?, bound(2, "stop", usize::MAX)?);
            let is_it = |(index, item): &(usize, &Value)| (start..end).contains(index) && item.equals(wanted);
            match items.iter().enumerate().find(is_it) {
                Some((place, _)) => Ok(Value::Int(place as i128)),
                None => Err(Fault::value_error(format!("{} is not in list", text_format::repr(wanted)))),
            }
        }
        ("copy" | "as_list", Value::FrozenList(list)) => {
            interpreter.charge(list.len())?;
            Ok(Value::thawed(&super::event::Json::List(Arc::clone(list))))
        }
        ("copy", _) => {
            interpreter.charge(items().len() / 8)?;
            Ok(Value::list(items()))
        }
        (_, Value::List(list)) => {
            list.check_free()?;
            match name {
                "append" => list.items.borrow_mut().push(arguments.required(0, "object")?.clone()),
                "extend" => {
                    let more = interpreter.collect(arguments.required(0, "iterable")?)?;
                    list.items.borrow_mut().extend(more);
                }
                "insert" => {
                    let Some(index) = arguments.required(0, "index")?.as_int() else {
                        return Err(Fault::type_error("'index' must be an integer"));
                    };
                    let item = arguments.required(1, "object")?.clone();
                    let mut items = list.items.borrow_mut();
                    interpreter.charge(items.len() / 32)?;
                    let length = items.len() as i128;
                    let place = if index < 0 { index.saturating_add(length).max(0) } else { index.min(length) };
                    items.insert(usize::try_from(place).unwrap_or_default(), item);
                }
                "pop" => {
                    let index = arguments.get(0, "index").map_or(Some(-1), Value::as_int);
                    let mut items = list.items.borrow_mut();
                    let length = items.len() as i128;
                    let place = index.map(|index| if index < 0 { index + length } else { index });
                    let place =
                        place.and_then(|place| usize::try_from(place).ok()).filter(|place| *place < items.len());
                    interpreter.charge(items.len() / 32)?;
                    return match place {
                        Some(place) => Ok(items.remove(place)),
                        None => Err(Fault::raise(ExceptionKind::IndexError, "pop index out of range")),
                    };
                }
                "remove" => {
                    let wanted = arguments.required(0, "value")?;
                    let known = list.items.borrow().clone();
                    interpreter.charge(known.len())?;
                    match known.iter().position(|item| item.equals(wanted)) {
                        Some(place) => drop(list.items.borrow_mut().remove(place)),
                        None => return Err(Fault::value_error("list.remove(x): x not in list")),
                    }
                }
                "reverse" => list.items.borrow_mut().reverse(),
                "sort" => {
                    let sorted = super::library::sorted(interpreter, list.items.borrow().clone(), arguments)?;
                    *list.items.borrow_mut() = sorted;
                }
                _ => drop(list.items.take()),
            }
            Ok(Value::None)
        }
        _ => Err(Fault::no_attribute(value, name)),
    }
}

fn of_set(interpreter: &Interpreter, value: &Value, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let Value::Set(set) = value else { return Ok(Value::None) };
    let items = || set.items.borrow().clone();
    let mut others = Vec::new();
    if !matches!(name, "add" | "discard" | "remove") {
        for other in &arguments.positional {
            let Value::Set(other) = operators::new_set(interpreter, interpreter.collect(other)?)? else { continue };
            interpreter.charge(items().len().saturating_mul(other.items.borrow().len()) / 32)?;
            others.push(other);
        }
    }
    let in_all = |item: &Value| others.iter().all(|other| other.contains(item).unwrap_or(false));
    let in_any = |item: &Value| others.iter().any(|other| other.contains(item).unwrap_or(false));
    let is_in = |item: &Value| set.contains(item).unwrap_or(false);
    let of_others = || others.iter().flat_map(|other| other.items.borrow().clone()).collect::<Vec<Value>>();
    match name {
        "copy" => Ok(Value::set(items())),
        "union" => operators::new_set(interpreter, items().into_iter().chain(of_others()).collect()),
        "intersection" => Ok(Value::set(items().into_iter().filter(in_all).collect())),
        "difference" => Ok(Value::set(items().into_iter().filter(|item| !in_any(item)).collect())),
        "symmetric_difference" => {
            let only_others = of_others().into_iter().filter(|item| !is_in(item));
            Ok(Value::set(items().into_iter().filter(|item| !in_any(item)).chain(only_others).collect()))
        }
        "isdisjoint" => Ok(Value::Bool(!items().iter().any(in_any))),
        "issubset" => Ok(Value::Bool(items().iter().all(in_all))),
        "issuperset" => Ok(Value::Bool(of_others().iter().all(is_in))),
        "update" => {
            for item in of_others() {
                interpreter.charge(set.items.borrow().len() / 32)?;
                set.insert(item)?;
            }
            Ok(Value::None)
        }
        "add" => {
            interpreter.charge(set.items.borrow().len() / 32)?;
            set.insert(arguments.required(0, "element")?.clone()).map(|()| Value::None)
        }
        "remove" | "discard" => {
            let wanted = arguments.required(0, "element")?;
            set.check_free()?;
            interpreter.charge(set.items.borrow().len() / 32)?;
            let is_known = set.contains(wanted)?;
            set.items.borrow_mut().retain(|item| !item.equals(wanted));
            if is_known || name == "discard" {
                Ok(Value::None)
            } else {
                Err(Fault::Raised(Exception { kind: ExceptionKind::KeyError, message: wanted.clone() }))
            }
        }
        _ => {
            set.check_free()?;
            drop(set.items.take());
            Ok(Value::None)
        }
    }
}
