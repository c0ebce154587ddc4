//! Panther's methods of events: the unified data model for CloudTrail, and `deep_walk`.

use std::sync::Arc;

use super::event::Json;
use super::exception::{ExceptionKind, Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::library::network;
use super::methods::deep_get;
use super::value::{Record, Value};

/// The fields of the model that are paths.
const PATHS: [(&str, &[&str]); 3] = [
    ("user_agent", &["userAgent"]),
    ("user", &["responseElements", "user", "userName"]),
    ("user_account_id", &["responseElements", "user", "userId"]),
];

/// Returns `event.udm(…)`.
pub(super) fn field(interpreter: &Interpreter, event: &Record, arguments: &Arguments) -> Outcome<Value> {
    let default = || arguments.get(usize::MAX, "default").cloned().unwrap_or(Value::None);
    if let [Value::Text(key)] = arguments.positional.as_slice() {
        match &**key {
            "actor_user" => return actor_user(interpreter, event),
            "event_type" => return event_type(interpreter, event),
            "source_ip" => return source_ip(event),
            key => {
                if let Some((_, path)) = PATHS.iter().find(|(known, _)| *known == key) {
                    let mut found = Some(Json::Object(Arc::clone(&event.object)));
                    for step in *path {
                        found = match found {
                            Some(Json::Object(object)) => object.get_exact(step).cloned(),
                            _ => None,
                        };
                    }
                    return Ok(found.map_or_else(default, |json| Value::frozen(&json)));
                }
            }
        }
    }
    if arguments.positional.is_empty() {
        return Ok(default());
    }
    let top = Value::Record(event.clone());
    let below: Vec<Value> = [Value::text("p_udm")].into_iter().chain(arguments.positional.iter().cloned()).collect();
    let mut found = deep_get(interpreter, &top, &below, Value::None)?;
    if !found.is_true() {
        found = deep_get(interpreter, &top, &arguments.positional, Value::None)?;
    }
    Ok(if found.is_true() { found } else { default() })
}

/// Returns `event.udm_path(…)`.
pub(super) fn path(key: &Value) -> Value {
    match key.as_text().map(|key| &**key) {
        Some("actor_user") => Value::text("get_actor_user"),
        Some("event_type") => Value::text("get_event_type"),
        Some("source_ip") => Value::text("load_ip_address"),
        Some(key) => {
            PATHS.iter().find(|(known, _)| *known == key).map_or(Value::None, |(_, path)| Value::text(path.join(".")))
        }
        None => Value::None,
    }
}

/// The value at these keys, as `deep_get` finds it.
fn at(interpreter: &Interpreter, event: &Record, keys: &[&str], default: Value) -> Outcome<Value> {
    let keys: Vec<Value> = keys.iter().map(|key| Value::text(*key)).collect();
    deep_get(interpreter, &Value::Record(event.clone()), &keys, default)
}

/// Who acted, as Panther names them. This is not the derived field `actor` of this program.
fn actor_user(interpreter: &Interpreter, event: &Record) -> Outcome<Value> {
    let kind = at(interpreter, event, &["userIdentity", "type"], Value::None)?;
    // A type that is not text is none of the known ones, but a set cannot hold an object.
    let kind = kind.as_text().cloned().unwrap_or_default();
    let unknown = || Value::text(format!("Unknown{kind}"));
    match &*kind {
        "Root" => {
            let account = at(interpreter, event, &["userIdentity", "accountId"], Value::text("UnknownRootUser"))?;
            at(interpreter, event, &["userIdentity", "userName"], account)
        }
        "IAMUser" | "Directory" | "Unknown" | "SAMLUser" | "WebIdentityUser" => {
            at(interpreter, event, &["userIdentity", "userName"], unknown())
        }
        "AssumedRole" | "Role" | "FederatedUser" => {
            let issuer = ["userIdentity", "sessionContext", "sessionIssuer", "userName"];
            let name = at(interpreter, event, &issuer, unknown())?;
            let Value::Text(text) = &name else { return Err(Fault::no_attribute(&name, "startswith")) };
            if !text.starts_with("AWSReservedSSO_") {
                return Ok(name);
            }
            let principal = at(interpreter, event, &["userIdentity", "principalId"], unknown())?;
            let Value::Text(principal) = &principal else { return Err(Fault::no_attribute(&principal, "split")) };
            let session = principal.split(':').nth(1);
            session.map(Value::text).ok_or_else(|| Fault::raise(ExceptionKind::IndexError, "list index out of range"))
        }
        "IdentityCenterUser" => at(interpreter, event, &["additionalEventData", "UserName"], unknown()),
        "AWSService" | "AWSAccount" => Ok(event.object.get("sourceIdentity").map_or_else(unknown, Value::frozen)),
        _ => {
            let event_type = event.object.get("eventType");
            if matches!(event_type, Some(Json::Text(text)) if **text == *"AwsServiceEvent") {
                let nobody = Value::text("UnknownAwsServiceEvent");
                return at(interpreter, event, &["userIdentity", "invokedBy"], nobody);
            }
            Ok(Value::text("UnknownUser"))
        }
    }
}

/// The kind of the event in Panther's model.
fn event_type(interpreter: &Interpreter, event: &Record) -> Outcome<Value> {
    let name = event.object.get("eventName").map_or(Value::None, Value::frozen);
    let name = name.as_text().map_or("", |name| &**name);
    let is = |keys: &[&str], text: &str| Ok(at(interpreter, event, keys, Value::None)?.equals(&Value::text(text)));
    if name == "ConsoleLogin" && is(&["userIdentity", "type"], "IAMUser")? {
        if is(&["responseElements", "ConsoleLogin"], "Failure")? {
            return Ok(Value::text("failed_login"));
        }
        if is(&["responseElements", "ConsoleLogin"], "Success")? {
            return Ok(Value::text("successful_login"));
        }
    }
    Ok(match name {
        "CreateUser" => Value::text("user_account_created"),
        "CreateAccountResult" => Value::text("account_created"),
        _ => Value::None,
    })
}

/// The source address, if it is an address.
fn source_ip(event: &Record) -> Outcome<Value> {
    let address = event.object.get("sourceIPAddress").map_or(Value::None, Value::frozen);
    if !address.is_true() {
        return Ok(Value::None);
    }
    let is_caught =
        |fault: &Fault| matches!(fault, Fault::Raised(raised) if raised.kind == ExceptionKind::AddressValueError);
    match network::call("ipaddress.IPv4Address", &address, true) {
        Ok(_) => Ok(address),
        Err(fault) if is_caught(&fault) => match network::call("ipaddress.IPv6Address", &address, true) {
            Ok(_) => Ok(address),
            Err(fault) if is_caught(&fault) => Ok(Value::None),
            Err(fault) => Err(fault),
        },
        Err(fault) => Err(fault),
    }
}

/// What `deep_walk` returns of the values that it found.
fn chosen(found: Vec<Value>, default: &Value, choice: &str) -> Value {
    if found.is_empty() {
        return default.clone();
    }
    let mut found = found;
    match choice {
        "first" => found.swap_remove(0),
        "last" => found.pop().unwrap_or(Value::None),
        "all" if found.len() == 1 => found.swap_remove(0),
        "all" => Value::list(found),
        _ => Value::text("all"),
    }
}

/// Adds a value, or the elements of a list, once each.
fn add(interpreter: &Interpreter, found: &mut Vec<Value>, value: Value) -> Outcome<()> {
    let items = if matches!(value, Value::Text(_)) { None } else { value.items() };
    for item in items.unwrap_or_else(|| vec![value]) {
        item.check_hashable()?;
        interpreter.charge(1 + found.len() / 32)?;
        if !found.iter().any(|known| known.equals(&item)) {
            found.push(item);
        }
    }
    Ok(())
}

fn is_empty_list(value: &Json) -> bool {
    matches!(value, Json::List(items) if items.iter().all(is_empty_list))
}

/// Returns `event.deep_walk(…)`. Unlike other methods, Panther's looks keys up in their own case.
pub(super) fn deep_walk_event(interpreter: &Interpreter, event: &Record, arguments: &Arguments) -> Outcome<Value> {
    let default = arguments.get(usize::MAX, "default").cloned().unwrap_or(Value::None);
    let choice = arguments.get(usize::MAX, "return_val").and_then(Value::as_text).cloned();
    let choice = choice.unwrap_or_else(|| "all".into());
    walk(interpreter, &Json::Object(Arc::clone(&event.object)), &arguments.positional, &default, &choice)
}

fn walk(interpreter: &Interpreter, value: &Json, keys: &[Value], default: &Value, choice: &str) -> Outcome<Value> {
    interpreter.charge(1)?;
    let Some((key, rest)) = keys.split_first() else {
        return Ok(if is_empty_list(value) || *value == Json::Null { default.clone() } else { Value::thawed(value) });
    };
    match value {
        Json::Object(object) => {
            key.check_hashable()?;
            interpreter.charge(object.members.len() / 32)?;
            match key.as_text().and_then(|key| object.get_exact(key)) {
                Some(next) => walk(interpreter, next, rest, default, choice),
                None => walk_default(interpreter, rest, default, choice),
            }
        }
        Json::List(items) => {
            let mut found = Vec::new();
            for item in items.iter() {
                let value = walk(interpreter, item, keys, default, choice)?;
                if !matches!(value, Value::None) {
                    add(interpreter, &mut found, value)?;
                }
            }
            Ok(chosen(found, default, choice))
        }
        _ => Ok(default.clone()),
    }
}

/// A missing key: the walk continues in the default.
fn walk_default(interpreter: &Interpreter, rest: &[Value], default: &Value, choice: &str) -> Outcome<Value> {
    match default {
        Value::List(_) | Value::Dict(_) | Value::Tuple(_) if !rest.is_empty() => {
            walk_value(interpreter, default, rest, default, choice)
        }
        _ => Ok(default.clone()),
    }
}

/// Returns `deep_walk(…)` of Panther's helpers.
pub(super) fn deep_walk(interpreter: &Interpreter, arguments: &Arguments) -> Outcome<Value> {
    let default = arguments.get(usize::MAX, "default").cloned().unwrap_or(Value::None);
    let choice = arguments.get(usize::MAX, "return_val").and_then(Value::as_text).cloned();
    let choice = choice.unwrap_or_else(|| "all".into());
    let top = arguments.required(0, "obj")?;
    let keys = arguments.positional.get(1..).unwrap_or_default();
    walk_value(interpreter, top, keys, &default, &choice)
}

fn is_empty_sequence(value: &Value) -> bool {
    super::bounds::nested(false, || value.items().is_some_and(|items| items.iter().all(is_empty_sequence)))
}

fn walk_value(
    interpreter: &Interpreter,
    value: &Value,
    keys: &[Value],
    default: &Value,
    choice: &str,
) -> Outcome<Value> {
    interpreter.charge(1)?;
    let Some((key, rest)) = keys.split_first() else {
        return Ok(if is_empty_sequence(value) { default.clone() } else { value.clone() });
    };
    let next = match value {
        Value::Record(record) => Some(record.get(key)?),
        Value::Dict(dict) => Some(dict.get(key)?),
        _ => None,
    };
    match next {
        Some(None | Some(Value::None)) => Ok(default.clone()),
        Some(Some(next)) => {
            super::bounds::nested(Err(Fault::Exhausted), || walk_value(interpreter, &next, rest, default, choice))
        }
        None => match value.items() {
            Some(items) => {
                let mut found = Vec::new();
                for item in items {
                    let value = super::bounds::nested(Err(Fault::Exhausted), || {
                        walk_value(interpreter, &item, keys, default, choice)
                    })?;
                    if !matches!(value, Value::None) {
                        add(interpreter, &mut found, value)?;
                    }
                }
                Ok(chosen(found, default, choice))
            }
            None => Ok(default.clone()),
        },
    }
}
