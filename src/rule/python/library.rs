//! Python's builtins, the parts of its library that rules use, and Panther's helpers that this program has itself.

use super::exception::{ExceptionKind, Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::value::Value;
use super::{format_spec, methods, operators, signatures, text_format};

mod builtins;
pub(super) mod bytes;
mod helpers;
mod json;
pub(super) mod matches;
pub(super) mod network;
mod order;
pub(super) mod patterns;
pub(super) mod time;

pub(super) use builtins::is_known_class;
pub(super) use order::sorted;

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

/// Returns whether it is a class.
pub(super) fn is_class(builtin: Builtin) -> bool {
    const CLASSES: [&str; 14] = [
        "bool",
        "bytes",
        "dict",
        "enumerate",
        "filter",
        "float",
        "frozenset",
        "int",
        "list",
        "map",
        "set",
        "str",
        "tuple",
        "zip",
    ];
    let member = builtin.0.rsplit('.').next().unwrap_or_default();
    CLASSES.contains(&builtin.0) || member.starts_with(|c: char| c.is_ascii_uppercase()) || builtin.0 == "type"
}

/// Returns a function of a class.
pub(super) fn member_of_class(class: Builtin, name: &str) -> Option<Value> {
    let full = match (class.0, name) {
        ("datetime.datetime", "strptime") => "datetime.datetime.strptime",
        ("datetime.datetime", "fromisoformat") => "datetime.datetime.fromisoformat",
        ("datetime.datetime", "fromtimestamp" | "utcfromtimestamp") => "datetime.datetime.utcfromtimestamp",
        ("dict", "fromkeys") => "dict.fromkeys",
        (kind, name) if methods::is_method_of_class(kind, name) => return Some(Value::Unbound(class, name.into())),
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
    signatures::check_function(builtin.0, arguments)?;
    let first = arguments.positional.first();
    match builtin.0 {
        "len" => length(arguments.required(0, "obj")?).map(Value::Int),
        "str" => Ok(Value::text(first.map(text_format::text).unwrap_or_default())),
        "repr" => Ok(Value::text(text_format::repr(arguments.required(0, "obj")?))),
        "format" => {
            let spec = arguments.get(1, "format_spec").and_then(Value::as_text).cloned().unwrap_or_default();
            format_spec::with_format(arguments.required(0, "value")?, &spec).map(Value::text)
        }
        "bool" => Ok(Value::Bool(first.is_some_and(Value::is_true))),
        "int" => builtins::int(arguments),
        "float" => builtins::float(first.unwrap_or(&Value::Int(0))),
        "abs" => match arguments.required(0, "x")? {
            Value::Float(value) => Ok(Value::Float(value.abs())),
            other => match other.as_int() {
                Some(value) => value.checked_abs().map(Value::Int).ok_or(Fault::Exhausted),
                None => Err(Fault::type_error(format!("bad operand type for abs(): '{}'", other.type_name()))),
            },
        },
        "round" => builtins::round(arguments),
        "divmod" => {
            let (a, b) = (arguments.required(0, "x")?, arguments.required(1, "y")?);
            let quotient = operators::binary(interpreter, super::tree::Operator::FloorDivide, a, b)?;
            Ok(Value::tuple(vec![quotient, operators::binary(interpreter, super::tree::Operator::Modulo, a, b)?]))
        }
        "isinstance" => {
            builtins::is_instance(arguments.required(0, "obj")?, arguments.required(1, "class")?).map(Value::Bool)
        }
        "type" => Ok(builtins::class_of(arguments.required(0, "object")?)),
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
        name if name.starts_with("panther_") => helpers::panther(interpreter, name, arguments),
        name if name.starts_with("re.") || name.starts_with("fnmatch.") => patterns::call(interpreter, name, arguments),
        name if name.starts_with("ipaddress.") => {
            let is_strict = arguments.get(1, "strict").is_none_or(Value::is_true);
            network::call(name, arguments.required(0, "address")?, is_strict)
        }
        name if name.starts_with("datetime.") => time::call(name, arguments),
        "json.loads" => json::loads(interpreter, arguments.required(0, "s")?),
        "json.dumps" => json::dumps(interpreter, arguments),
        "base64.b64decode" => bytes::b64decode(arguments.required(0, "s")?),
        _ => builtins::over_iterables(interpreter, builtin.0, arguments),
    }
}
