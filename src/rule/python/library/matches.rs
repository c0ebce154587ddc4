//! Calls of Python's regular expressions, and their matches.

use std::rc::Rc;
use std::sync::Arc;

use regex::{Captures, Regex};

use super::super::exception::{ExceptionKind, Fault, Outcome};
use super::super::interpreter::{Arguments, Interpreter};
use super::super::value::{Match, Pattern, Value};
use super::patterns::{anchored, text};

/// Calls a method of a pattern.
pub(in super::super) fn method(
    interpreter: &Interpreter,
    pattern: &Pattern,
    name: &str,
    arguments: &Arguments,
) -> Outcome<Value> {
    let position = usize::from(name == "sub");
    let haystack = text(arguments.required(position, "string")?)?;
    interpreter.charge(1 + haystack.len() / 16)?;
    let regex = &pattern.regex;
    let found = |captures: Option<Captures<'_>>| {
        captures.map_or(Value::None, |captures| Value::Match(Rc::new(match_of(regex, haystack, &captures))))
    };
    match name {
        "search" => Ok(found(regex.captures(haystack))),
        "match" => Ok(found(anchored(regex, false)?.captures(haystack))),
        "fullmatch" => Ok(found(anchored(regex, true)?.captures(haystack))),
        "findall" => {
            let group = |captures: &Captures<'_>, index: usize| {
                Value::text(captures.get(index).map_or("", |group| group.as_str()))
            };
            let mut all = Vec::new();
            for captures in matches(interpreter, regex, haystack, None)? {
                all.push(match regex.captures_len() {
                    1 => group(&captures, 0),
                    2 => group(&captures, 1),
                    count => Value::tuple((1..count).map(|index| group(&captures, index)).collect()),
                });
            }
            Ok(Value::list(all))
        }
        "split" => {
            let most = count(arguments, 1, "maxsplit")?;
            let mut parts = Vec::new();
            let mut at = 0;
            for captures in matches(interpreter, regex, haystack, most)? {
                let whole = captures.get(0).map_or(at..at, |whole| whole.range());
                parts.push(Value::text(&haystack[at..whole.start]));
                let groups = captures.iter().skip(1);
                parts.extend(groups.map(|group| group.map_or(Value::None, |group| Value::text(group.as_str()))));
                at = whole.end;
            }
            parts.push(Value::text(&haystack[at..]));
            Ok(Value::list(parts))
        }
        _ => substituted(interpreter, regex, haystack, arguments).map(Value::text),
    }
}

/// Reads the most matches to take. `None` for all.
fn count(arguments: &Arguments, position: usize, name: &str) -> Outcome<Option<usize>> {
    match arguments.get(position, name) {
        None => Ok(None),
        Some(value) => match value.as_int() {
            Some(0) => Ok(None),
            Some(count) => Ok(Some(usize::try_from(count).unwrap_or(0))),
            None => {
                let kind = value.type_name();
                Err(Fault::type_error(format!("'{kind}' object cannot be interpreted as an integer")))
            }
        },
    }
}

/// Returns the matches in a text. As in Python, an empty one may follow another at once.
fn matches<'h>(
    interpreter: &Interpreter,
    regex: &Regex,
    haystack: &'h str,
    most: Option<usize>,
) -> Outcome<Vec<Captures<'h>>> {
    let mut all = Vec::new();
    let mut at = 0;
    while at <= haystack.len() && most.is_none_or(|most| all.len() < most) {
        interpreter.charge(1)?;
        let Some(captures) = regex.captures_at(haystack, at) else { break };
        let Some(whole) = captures.get(0) else { break };
        at = whole.end();
        if whole.is_empty() {
            at += haystack[at..].chars().next().map_or(1, char::len_utf8);
        }
        all.push(captures);
    }
    Ok(all)
}

fn substituted(interpreter: &Interpreter, regex: &Regex, haystack: &str, arguments: &Arguments) -> Outcome<String> {
    let replacement = arguments.required(0, "repl")?;
    let most = count(arguments, 2, "count")?;
    let template = match replacement {
        Value::Text(template) => Some(template_parts(template, regex)?),
        Value::Function(_) | Value::Builtin(_) | Value::Method(_) | Value::Unbound(..) | Value::Mock(_) => None,
        other => {
            let kind = other.type_name();
            return Err(Fault::type_error(format!("expected str instance, {kind} found")));
        }
    };
    let mut result = String::new();
    let mut at = 0;
    for captures in matches(interpreter, regex, haystack, most)? {
        let whole = captures.get(0).map_or(at..at, |whole| whole.range());
        result.push_str(&haystack[at..whole.start]);
        at = whole.end;
        if let Some(parts) = &template {
            for part in parts {
                match part {
                    TemplatePart::Text(text) => result.push_str(text),
                    TemplatePart::Group(index) => {
                        result.push_str(captures.get(*index).map_or("", |group| group.as_str()));
                    }
                }
            }
        } else {
            interpreter.charge(haystack.len() / 64)?;
            let found = Value::Match(Rc::new(match_of(regex, haystack, &captures)));
            match interpreter.call(replacement, Arguments::of(vec![found]))? {
                Value::Text(text) => result.push_str(&text),
                Value::None => {}
                other => {
                    let kind = other.type_name();
                    return Err(Fault::type_error(format!("expected str instance, {kind} found")));
                }
            }
        }
        interpreter.charge(1 + (result.len() / 256))?;
    }
    result.push_str(&haystack[at..]);
    Ok(result)
}

/// A part of a replacement.
enum TemplatePart {
    Text(String),
    Group(usize),
}

/// Returns whether a replacement has octal numbers, which are refused.
pub(in super::super) fn has_octal(template: &str) -> bool {
    let mut chars = template.chars();
    while let Some(c) = chars.next() {
        if c == '\\' && chars.next() == Some('0') {
            return true;
        }
    }
    false
}

/// Reads a replacement: `\1`, `\g<name>`, and escapes.
fn template_parts(template: &str, regex: &Regex) -> Outcome<Vec<TemplatePart>> {
    let error = |what: &str| Fault::raise(ExceptionKind::Exception, what);
    if has_octal(template) {
        return Err(Fault::Refused("an octal number in the replacement of `re.sub`".to_owned()));
    }
    let group = |index: usize| {
        let known = Some(index).filter(|index| *index < regex.captures_len());
        known.map(TemplatePart::Group).ok_or_else(|| error("invalid group reference"))
    };
    let mut parts = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let Some(code) = after.chars().next() else { return Err(error("bad escape (end of pattern)")) };
        rest = &after[code.len_utf8()..];
        match code {
            '1'..='9' => {
                let digits = after.bytes().take(2).take_while(u8::is_ascii_digit).count();
                let (number, after) = after.split_at(digits);
                rest = after;
                parts.push(TemplatePart::Text(std::mem::take(&mut text)));
                parts.push(group(number.parse().unwrap_or(usize::MAX))?);
            }
            'g' => {
                let named = rest.strip_prefix('<').and_then(|named| named.split_once('>'));
                let (name, after) = named.ok_or_else(|| error("missing <"))?;
                rest = after;
                let by_name = regex.capture_names().position(|known| known == Some(name));
                let index = by_name.or_else(|| name.parse().ok());
                parts.push(TemplatePart::Text(std::mem::take(&mut text)));
                parts.push(group(index.ok_or_else(|| Fault::raise(ExceptionKind::IndexError, "unknown group name"))?)?);
            }
            'a' => text.push('\u{7}'),
            'b' => text.push('\u{8}'),
            'f' => text.push('\u{c}'),
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            'v' => text.push('\u{b}'),
            '\\' => text.push('\\'),
            other if other.is_ascii_alphabetic() => return Err(error("bad escape")),
            other => text.extend(['\\', other]),
        }
    }
    text.push_str(rest);
    parts.push(TemplatePart::Text(text));
    Ok(parts)
}

fn match_of(regex: &Regex, haystack: &str, captures: &Captures<'_>) -> Match {
    let place = |byte: usize| if haystack.is_ascii() { byte } else { haystack[..byte].chars().count() };
    Match {
        groups: captures.iter().map(|group| group.map(|group| Arc::from(group.as_str()))).collect(),
        names: regex.capture_names().map(|name| name.map(Arc::from)).collect(),
        spans: captures.iter().map(|group| group.map(|group| (place(group.start()), place(group.end())))).collect(),
    }
}

/// Returns the index of a group, which is given by its number or name.
///
/// # Errors
/// There is none.
pub(in super::super) fn group_index(found: &Match, group: &Value) -> Outcome<usize> {
    let index = match group {
        Value::Text(name) => found.names.iter().position(|known| known.as_deref() == Some(&**name)),
        other => other.as_int().and_then(|index| usize::try_from(index).ok()),
    };
    let known = index.filter(|index| *index < found.groups.len());
    known.ok_or_else(|| Fault::raise(ExceptionKind::IndexError, "no such group"))
}

/// Calls a method of a match.
pub(in super::super) fn match_method(found: &Match, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let default = || arguments.get(0, "default").cloned().unwrap_or(Value::None);
    let value = |group: &Option<Arc<str>>| group.clone().map_or_else(default, Value::Text);
    let text = |group: &Value| {
        let index = group_index(found, group)?;
        Ok(found.groups.get(index).cloned().flatten().map_or(Value::None, Value::Text))
    };
    match name {
        "group" => match arguments.positional.as_slice() {
            [] => text(&Value::Int(0)),
            [group] => text(group),
            groups => Ok(Value::tuple(groups.iter().map(text).collect::<Outcome<_>>()?)),
        },
        "groups" => Ok(Value::tuple(found.groups.iter().skip(1).map(value).collect())),
        "groupdict" => {
            let named = found.names.iter().zip(&found.groups);
            let named = named.filter_map(|(name, group)| Some((Value::Text(name.clone()?), value(group))));
            Ok(Value::dict(named.collect()))
        }
        _ => {
            let index = arguments.get(0, "group").map_or(Ok(0), |group| group_index(found, group))?;
            let place = |place: usize| Value::Int(i128::try_from(place).unwrap_or(i128::MAX));
            let span = found.spans.get(index).copied().flatten();
            let (start, end) = span.map_or((Value::Int(-1), Value::Int(-1)), |(start, end)| (place(start), place(end)));
            Ok(match name {
                "start" => start,
                "end" => end,
                _ => Value::tuple(vec![start, end]),
            })
        }
    }
}
