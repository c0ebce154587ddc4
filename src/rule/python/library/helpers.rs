//! Panther's helpers that this program has itself.

use std::ops::ControlFlow;

use super::super::exception::{ExceptionKind, Fault, Outcome};
use super::super::interpreter::{Arguments, Interpreter};
use super::super::value::Value;
use super::super::{methods, operators, udm};
use super::{network, patterns, time};

/// Panther's helpers.
pub(super) fn panther(interpreter: &Interpreter, name: &str, arguments: &Arguments) -> Outcome<Value> {
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
                let address = network::call("ipaddress.ip_address", address, true)?;
                let known = network::call("ipaddress.ip_network", &known, true)?;
                found = operators::contains(interpreter, &known, &address)?;
                Ok(if found { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            Ok(Value::Bool(found))
        }
        ("panther_base_helpers", "pattern_match") => {
            let text = arguments.required(0, "string_to_match")?.clone();
            let pair = Arguments::of(vec![text, arguments.required(1, "pattern")?.clone()]);
            patterns::call(interpreter, "fnmatch.fnmatch", &pair)
        }
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
        ("panther_ipinfo_helpers", "geoinfo_from_ip" | "geoinfo_from_ip_formatted") => {
            Err(Fault::raise(ExceptionKind::PantherIPInfoException, "Please enable both IPInfo Location and ASN"))
        }
        (_, "caching.check_account_age") => Ok(Value::Bool(false)),
        _ => Ok(Value::None),
    }
}
