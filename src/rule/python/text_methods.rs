//! Methods of text.

use std::sync::Arc;

use super::exception::{Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::text_format;
use super::value::Value;

/// Calls `text.name(…)`.
pub(super) fn call(interpreter: &Interpreter, text: &Arc<str>, name: &str, arguments: &Arguments) -> Outcome<Value> {
    interpreter.charge(text.len() / 64)?;
    let result = one(interpreter, text, name, arguments)?;
    if let Value::Text(made) = &result {
        interpreter.charge(made.len() / 64)?;
    }
    Ok(result)
}

fn text_argument(arguments: &Arguments, position: usize, name: &str) -> Outcome<Arc<str>> {
    let value = arguments.required(position, name)?;
    let wrong = || Fault::type_error(format!("must be str, not {}", value.type_name()));
    value.as_text().cloned().ok_or_else(wrong)
}

#[expect(clippy::too_many_lines, reason = "one arm for each method")]
fn one(interpreter: &Interpreter, text: &Arc<str>, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let is = |all: fn(char) -> bool| Ok(Value::Bool(!text.is_empty() && text.chars().all(all)));
    match name {
        "lower" => no_arguments(arguments, || text.to_lowercase()),
        "casefold" => no_arguments(arguments, || text.to_lowercase().replace('ß', "ss")),
        "upper" => no_arguments(arguments, || text.to_uppercase()),
        "title" => no_arguments(arguments, || titled(text)),
        "capitalize" => no_arguments(arguments, || {
            let mut chars = text.chars();
            let first = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
            first + &chars.as_str().to_lowercase()
        }),
        "startswith" => affix(text, arguments, |text, part| text.starts_with(part)),
        "endswith" => affix(text, arguments, |text, part| text.ends_with(part)),
        "strip" | "lstrip" | "rstrip" => {
            let (left, right) = (name != "rstrip", name != "lstrip");
            let set = match arguments.get(0, "chars") {
                None | Some(Value::None) => None,
                Some(_) => Some(text_argument(arguments, 0, "chars")?),
            };
            let strips = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(c));
            let mut rest: &str = text;
            if left {
                rest = rest.trim_start_matches(strips);
            }
            if right {
                rest = rest.trim_end_matches(strips);
            }
            Ok(Value::text(rest))
        }
        "removeprefix" => {
            let part = text_argument(arguments, 0, "prefix")?;
            Ok(Value::text(text.strip_prefix(&*part).unwrap_or(text)))
        }
        "removesuffix" => {
            let part = text_argument(arguments, 0, "suffix")?;
            Ok(Value::text(text.strip_suffix(&*part).unwrap_or(text)))
        }
        "replace" => {
            let (old, new) = (text_argument(arguments, 0, "old")?, text_argument(arguments, 1, "new")?);
            let most = match arguments.get(2, "count") {
                None => None,
                Some(count) => match count.as_int() {
                    Some(count) => usize::try_from(count).ok(),
                    None => return Err(Fault::type_error("'count' must be an integer")),
                },
            };
            let found = if old.is_empty() { text.chars().count() + 1 } else { text.matches(&*old).count() };
            interpreter.charge(found.saturating_mul(new.len()) / 64)?;
            Ok(Value::text(match most {
                Some(most) => text.replacen(&*old, &new, most),
                None => text.replace(&*old, &new),
            }))
        }
        "split" | "rsplit" => split(interpreter, text, name == "rsplit", arguments),
        "splitlines" => {
            arguments.check(0, &[])?;
            let unified = text.replace("\r\n", "\n").replace('\r', "\n");
            Ok(Value::list(unified.lines().map(Value::text).collect()))
        }
        "partition" | "rpartition" => {
            let separator = text_argument(arguments, 0, "sep")?;
            if separator.is_empty() {
                return Err(Fault::value_error("empty separator"));
            }
            let parts = if name == "partition" { text.split_once(&*separator) } else { text.rsplit_once(&*separator) };
            let parts = match parts {
                Some((before, after)) => [before, &*separator, after],
                None if name == "partition" => [&**text, "", ""],
                None => ["", "", &**text],
            };
            Ok(Value::tuple(parts.map(Value::text).to_vec()))
        }
        "join" => {
            let mut parts = Vec::new();
            let mut size = 0;
            for (index, item) in interpreter.collect(arguments.required(0, "iterable")?)?.into_iter().enumerate() {
                let Value::Text(part) = item else {
                    let message = format!("sequence item {index}: expected str instance, {} found", item.type_name());
                    return Err(Fault::type_error(message));
                };
                size += part.len() + text.len();
                parts.push(part);
            }
            interpreter.charge(size / 64)?;
            Ok(Value::text(parts.join(text)))
        }
        "find" | "index" | "rfind" => {
            if arguments.positional.len() > 1 {
                return Err(Fault::Refused(format!("`str.{name}` with a start")));
            }
            let part = text_argument(arguments, 0, "sub")?;
            let place = if name == "rfind" { text.rfind(&*part) } else { text.find(&*part) };
            match place {
                Some(place) => Ok(Value::Int(text[..place].chars().count() as i128)),
                None if name == "index" => Err(Fault::value_error("substring not found")),
                None => Ok(Value::Int(-1)),
            }
        }
        "count" => {
            let part = text_argument(arguments, 0, "sub")?;
            let count = if part.is_empty() { text.chars().count() + 1 } else { text.matches(&*part).count() };
            Ok(Value::Int(count as i128))
        }
        "isdigit" | "isdecimal" | "isnumeric" => is(char::is_numeric),
        "isalpha" => is(char::is_alphabetic),
        "isalnum" => is(char::is_alphanumeric),
        "isspace" => is(is_space),
        "isupper" => Ok(Value::Bool(text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase))),
        "islower" => Ok(Value::Bool(text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase))),
        "ljust" | "rjust" | "zfill" => {
            let Some(width) = arguments.required(0, "width")?.as_int() else {
                return Err(Fault::type_error("'width' must be an integer"));
            };
            let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
            interpreter.charge(missing / 64)?;
            let fill = match arguments.get(1, "fillchar") {
                Some(_) => text_argument(arguments, 1, "fillchar")?,
                None => if name == "zfill" { "0" } else { " " }.into(),
            };
            if fill.chars().count() != 1 {
                return Err(Fault::type_error("The fill character must be exactly one character long"));
            }
            let fill = fill.repeat(missing);
            Ok(Value::text(match name {
                "ljust" => format!("{text}{fill}"),
                "zfill" if text.starts_with(['+', '-']) => format!("{}{fill}{}", &text[..1], &text[1..]),
                _ => format!("{fill}{text}"),
            }))
        }
        _ => text_format::format_call(interpreter, text, arguments).map(Value::text),
    }
}

fn no_arguments(arguments: &Arguments, make: impl FnOnce() -> String) -> Outcome<Value> {
    arguments.check(0, &[])?;
    Ok(Value::text(make()))
}

/// What Python takes for space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn titled(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            titled.extend(c.to_lowercase());
        } else {
            titled.extend(c.to_uppercase());
        }
        in_word = c.is_alphabetic();
    }
    titled
}

fn affix(text: &str, arguments: &Arguments, has: impl Fn(&str, &str) -> bool) -> Outcome<Value> {
    if arguments.positional.len() > 1 {
        return Err(Fault::Refused("`startswith` or `endswith` with a start".to_owned()));
    }
    let wrong = |value: &Value| {
        Fault::type_error(format!("first arg must be str or a tuple of str, not {}", value.type_name()))
    };
    match arguments.required(0, "prefix")? {
        Value::Text(part) => Ok(Value::Bool(has(text, part))),
        Value::Tuple(parts) => {
            for part in parts.iter() {
                if has(text, part.as_text().ok_or_else(|| wrong(part))?) {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        other => Err(wrong(other)),
    }
}

fn split(interpreter: &Interpreter, text: &str, from_end: bool, arguments: &Arguments) -> Outcome<Value> {
    arguments.check(2, &["sep", "maxsplit"])?;
    let most = match arguments.get(1, "maxsplit") {
        None => None,
        Some(count) => match count.as_int() {
            Some(count) => usize::try_from(count).ok(),
            None => return Err(Fault::type_error("'maxsplit' must be an integer")),
        },
    };
    let pieces = most.map_or(usize::MAX, |most| most.saturating_add(1));
    let parts: Vec<&str> = match arguments.get(0, "sep") {
        None | Some(Value::None) => match most {
            None => text.split(is_space).filter(|part| !part.is_empty()).collect(),
            Some(most) => return Ok(words(text, most, from_end)),
        },
        Some(_) => {
            let separator = text_argument(arguments, 0, "sep")?;
            if separator.is_empty() {
                return Err(Fault::value_error("empty separator"));
            }
            if from_end {
                let mut parts: Vec<&str> = text.rsplitn(pieces, &*separator).collect();
                parts.reverse();
                parts
            } else {
                text.splitn(pieces, &*separator).collect()
            }
        }
    };
    interpreter.charge(parts.len() / 8)?;
    Ok(Value::list(parts.into_iter().map(Value::text).collect()))
}

/// Splits at space, so many times.
fn words(text: &str, most: usize, from_end: bool) -> Value {
    let mut rest = text.trim_matches(is_space);
    let mut parts = Vec::new();
    while !rest.is_empty() && parts.len() < most {
        let cut = if from_end { rest.rfind(is_space) } else { rest.find(is_space) };
        let Some(cut) = cut else { break };
        let (before, after) = rest.split_at(cut);
        if from_end {
            parts.push(after.trim_start_matches(is_space));
            rest = before.trim_end_matches(is_space);
        } else {
            parts.push(before);
            rest = after.trim_start_matches(is_space);
        }
    }
    if !rest.is_empty() {
        parts.push(rest);
    }
    if from_end {
        parts.reverse();
    }
    Value::list(parts.into_iter().map(Value::text).collect())
}
