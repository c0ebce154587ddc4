//! Methods of text.

use std::sync::Arc;

use super::exception::{Fault, Outcome};
use super::interpreter::{Arguments, Interpreter};
use super::unicode::{self, is_space};
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
        "casefold" => no_arguments(arguments, || unicode::casefolded(text)),
        "upper" => no_arguments(arguments, || text.to_uppercase()),
        "title" => no_arguments(arguments, || titled(text)),
        "capitalize" => no_arguments(arguments, || {
            let mut chars = text.chars();
            let first = chars.next().map(unicode::title_case).unwrap_or_default();
            first + &chars.as_str().to_lowercase()
        }),
        "startswith" => affix(interpreter, text, arguments, |text, part| text.starts_with(part)),
        "endswith" => affix(interpreter, text, arguments, |text, part| text.ends_with(part)),
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
            let keeps_ends = arguments.get(0, "keepends").is_some_and(Value::is_true);
            let lines = lines(text, keeps_ends);
            interpreter.charge(lines.len() / 8)?;
            Ok(Value::list(lines.into_iter().map(Value::text).collect()))
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
        "find" | "index" | "rfind" | "count" => {
            let part = text_argument(arguments, 0, "sub")?;
            let Some((before, text)) = between(interpreter, text, arguments)? else {
                return match name {
                    "count" => Ok(Value::Int(0)),
                    "index" => Err(Fault::value_error("substring not found")),
                    _ => Ok(Value::Int(-1)),
                };
            };
            if name == "count" {
                let count = if part.is_empty() { text.chars().count() + 1 } else { text.matches(&*part).count() };
                return Ok(Value::Int(count as i128));
            }
            let place = if name == "rfind" { text.rfind(&*part) } else { text.find(&*part) };
            match place {
                Some(place) => Ok(Value::Int((before + text[..place].chars().count()) as i128)),
                None if name == "index" => Err(Fault::value_error("substring not found")),
                None => Ok(Value::Int(-1)),
            }
        }
        "isdigit" => is(unicode::is_digit),
        "isdecimal" => is(unicode::is_decimal),
        "isnumeric" => is(unicode::is_numeric),
        "isalpha" => is(unicode::is_letter),
        "isalnum" => is(unicode::is_alphanumeric),
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
        _ => super::text_format::format_call(interpreter, text, arguments).map(Value::text),
    }
}

fn no_arguments(arguments: &Arguments, make: impl FnOnce() -> String) -> Outcome<Value> {
    arguments.check(0, &[])?;
    Ok(Value::text(make()))
}

fn titled(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        if in_word {
            titled.extend(c.to_lowercase());
        } else {
            titled.push_str(&unicode::title_case(c));
        }
        // A word consists of letters that have cases.
        in_word = c.is_lowercase() || c.is_uppercase() || matches!(c, 'ǅ' | 'ǈ' | 'ǋ' | 'ǲ');
    }
    titled
}

/// Returns the part of a text between `start` and `end`, and the number of characters before it. `None` if it would begin
/// after the end.
fn between<'t>(interpreter: &Interpreter, text: &'t str, arguments: &Arguments) -> Outcome<Option<(usize, &'t str)>> {
    let bound = |position, name| match arguments.get(position, name) {
        None | Some(Value::None) => Ok(None),
        Some(value) => match value.as_int() {
            Some(bound) => Ok(Some(bound)),
            None => Err(Fault::type_error("slice indices must be integers or None or have an __index__ method")),
        },
    };
    let (start, end) = (bound(1, "start")?, bound(2, "end")?);
    if start.is_none() && end.is_none() {
        return Ok(Some((0, text)));
    }
    interpreter.charge(text.len() / 64)?;
    let length = text.chars().count() as i128;
    let from_start = |bound: i128| if bound < 0 { bound.saturating_add(length).max(0) } else { bound };
    let (start, end) = (from_start(start.unwrap_or(0)), from_start(end.unwrap_or(length)).min(length));
    if start > end {
        return Ok(None);
    }
    let before = usize::try_from(start).unwrap_or(usize::MAX);
    let count = usize::try_from(end - start).unwrap_or(usize::MAX);
    let byte = |text: &str, index: usize| text.char_indices().nth(index).map_or(text.len(), |(byte, _)| byte);
    let rest = &text[byte(text, before)..];
    Ok(Some((before, &rest[..byte(rest, count)])))
}

/// Returns the lines of a text.
fn lines(text: &str, keeps_ends: bool) -> Vec<&str> {
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.find(unicode::ends_line) {
        let after = &rest[end..];
        let size = if after.starts_with("\r\n") { 2 } else { after.chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if keeps_ends { end + size } else { end }]);
        rest = &rest[end + size..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

fn affix(
    interpreter: &Interpreter,
    text: &str,
    arguments: &Arguments,
    has: impl Fn(&str, &str) -> bool,
) -> Outcome<Value> {
    let part = between(interpreter, text, arguments)?;
    let has = |wanted: &str| part.is_some_and(|(_, text)| has(text, wanted));
    let wrong = |value: &Value| {
        Fault::type_error(format!("first arg must be str or a tuple of str, not {}", value.type_name()))
    };
    match arguments.required(0, "prefix")? {
        Value::Text(part) => Ok(Value::Bool(has(part))),
        Value::Tuple(parts) => {
            for part in parts.iter() {
                if has(part.as_text().ok_or_else(|| wrong(part))?) {
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
