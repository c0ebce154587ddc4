//! Python's `re` and `fnmatch`.

use std::rc::Rc;
use std::sync::Arc;

use regex::{Captures, Regex, RegexBuilder};

use super::super::exception::{Fault, Outcome};
use super::super::interpreter::{Arguments, Interpreter};
use super::super::value::{Match, Pattern, Value};
use crate::rule::limits::PATTERN_BYTES;

const IGNORECASE: i128 = 2;
const MULTILINE: i128 = 8;
const DOTALL: i128 = 16;
const VERBOSE: i128 = 64;

/// In place of flags: the pattern is of the crate `regex`.
const RAW: i128 = -1;

/// Returns a flag of `re`.
pub(super) fn flag(module: &str, name: &str) -> Option<i128> {
    match (module, name) {
        ("re", "I" | "IGNORECASE") => Some(IGNORECASE),
        ("re", "M" | "MULTILINE") => Some(MULTILINE),
        ("re", "S" | "DOTALL") => Some(DOTALL),
        ("re", "X" | "VERBOSE") => Some(VERBOSE),
        _ => None,
    }
}

fn text(value: &Value) -> Outcome<&Arc<str>> {
    value
        .as_text()
        .ok_or_else(|| Fault::type_error(format!("expected string or bytes-like object, got '{}'", value.type_name())))
}

/// Compiles a pattern of Python. What this program's expressions lack is refused: look-around and back-references.
fn compiled(pattern: &str, flags: i128) -> Outcome<Regex> {
    let refused = |why: &str| Fault::Refused(format!("{why} in the regular expression `{pattern}`"));
    let translated = translated(pattern, flags).map_err(refused)?;
    build(&translated).map_err(|error| refused(error.to_string().lines().last().unwrap_or_default()))
}

fn build(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES).build()
}

/// Rewrites what Python writes differently: `$` also matches before a final newline, `\Z` only at the end.
fn translated(pattern: &str, flags: i128) -> Result<String, &'static str> {
    let mut out = String::with_capacity(pattern.len() + 8);
    for (flag, letter) in [(IGNORECASE, 'i'), (MULTILINE, 'm'), (DOTALL, 's'), (VERBOSE, 'x')] {
        if flags & flag != 0 {
            out.push_str("(?");
            out.push(letter);
            out.push(')');
        }
    }
    let multiline = flags & MULTILINE != 0 || pattern.contains("(?m") || pattern.contains("(?im");
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('Z') if !in_class => out.push_str(r"\z"),
                Some('1'..='9') if !in_class => return Err("a back-reference"),
                Some(sign @ ('<' | '>')) => out.push(sign),
                Some(other) if other.is_ascii() => out.extend(['\\', other]),
                Some(other) => out.push(other),
                None => return Err("a backslash at the end"),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    out.push('^');
                    chars.next();
                }
                // A bracket that comes first is a member.
                if chars.peek() == Some(&']') {
                    out.push_str(r"\]");
                    chars.next();
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => out.extend(['\\', c]),
            '$' if !in_class && !multiline => out.push_str(r"(?:\n?\z)"),
            other => out.push(other),
        }
    }
    if ["(?=", "(?!", "(?<=", "(?<!"].iter().any(|group| pattern.contains(group)) {
        return Err("look-around");
    }
    Ok(out)
}

/// Checks a pattern of Python.
///
/// # Errors
/// The reason why it is refused.
pub(in super::super) fn check(pattern: &str) -> Result<(), String> {
    match compiled(pattern, 0) {
        Err(Fault::Refused(reason)) => Err(reason),
        _ => Ok(()),
    }
}

/// Translates a pattern of `fnmatch`, which matches the whole text.
fn of_glob(glob: &str) -> String {
    let mut out = String::from(r"(?s)\A");
    let chars: Vec<char> = glob.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        at += 1;
        match c {
            '*' => out.push_str(".*"),
            '?' => out.push('.'),
            '[' => {
                let mut end = at;
                if chars.get(end) == Some(&'!') {
                    end += 1;
                }
                if chars.get(end) == Some(&']') {
                    end += 1;
                }
                while end < chars.len() && chars[end] != ']' {
                    end += 1;
                }
                if end >= chars.len() {
                    out.push_str(r"\[");
                } else {
                    let inner: String = chars[at..end].iter().collect();
                    let (negated, inner) = match inner.strip_prefix('!') {
                        Some(rest) => ("^", rest.to_owned()),
                        None => ("", inner),
                    };
                    let escaped: String = inner
                        .chars()
                        .flat_map(|c| if c == '-' || c.is_alphanumeric() { vec![c] } else { vec!['\\', c] })
                        .collect();
                    out.extend(["[", negated, &escaped, "]"]);
                    at = end + 1;
                }
            }
            other => out.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    out.push_str(r"\z");
    out
}

fn pattern(value: &Value, flags: i128) -> Outcome<Rc<Pattern>> {
    match value {
        Value::Pattern(known) => Ok(Rc::clone(known)),
        Value::Text(text) => Ok(Rc::new(Pattern { text: Arc::clone(text), regex: remembered(text, flags)? })),
        other => Err(Fault::type_error(format!(
            "first argument must be string or compiled pattern, not {}",
            other.type_name()
        ))),
    }
}

/// Compiles a pattern once for a thread.
fn remembered(text: &Arc<str>, flags: i128) -> Outcome<Regex> {
    use std::cell::RefCell;
    use std::collections::HashMap;

    /// Patterns that a thread remembers.
    const REMEMBERED: usize = 256;
    thread_local! {
        static KNOWN: RefCell<HashMap<(Arc<str>, i128), Regex>> = RefCell::default();
    }
    let key = (Arc::clone(text), flags);
    if let Some(known) = KNOWN.with_borrow(|known| known.get(&key).cloned()) {
        return Ok(known);
    }
    let made = if flags == RAW {
        build(text).map_err(|error| Fault::Refused(error.to_string()))?
    } else {
        compiled(text, flags)?
    };
    KNOWN.with_borrow_mut(|known| {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(key, made.clone());
    });
    Ok(made)
}

/// Calls a function of `re` or `fnmatch`.
pub(in super::super) fn call(interpreter: &Interpreter, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let flags_at = |position| match arguments.get(position, "flags") {
        None => Ok(0),
        Some(flags) => flags.as_int().ok_or_else(|| Fault::type_error("flags must be an integer")),
    };
    match name {
        "fnmatch.fnmatch" | "fnmatch.fnmatchcase" => {
            let name = arguments.required(0, "name")?;
            let glob = arguments.required(1, "pat")?;
            let path = |value: &Value| {
                let message = format!("expected str, bytes or os.PathLike object, not {}", value.type_name());
                value.as_text().cloned().ok_or_else(|| Fault::type_error(message))
            };
            let (name, glob) = (path(name)?, path(glob)?);
            interpreter.charge((name.len() + glob.len()) / 32)?;
            Ok(Value::Bool(remembered(&of_glob(&glob).into(), RAW)?.is_match(&name)))
        }
        "re.escape" => {
            let escaped = |c: char| {
                let special = "()[]{}?*+-|^$\\.&~# \t\n\r\u{b}\u{c}".contains(c);
                if special { format!("\\{c}") } else { c.to_string() }
            };
            Ok(Value::text(text(arguments.required(0, "pattern")?)?.chars().map(escaped).collect::<String>()))
        }
        "re.compile" => pattern(arguments.required(0, "pattern")?, flags_at(1)?).map(Value::Pattern),
        _ => {
            let function = name.strip_prefix("re.").unwrap_or(name);
            let position = match function {
                "sub" => 4,
                "split" => 3,
                _ => 2,
            };
            let pattern = pattern(arguments.required(0, "pattern")?, flags_at(position)?)?;
            let rest = Arguments {
                positional: arguments.positional.iter().skip(1).cloned().collect(),
                named: arguments.named.iter().filter(|(name, _)| **name != *"flags").cloned().collect(),
            };
            method(interpreter, &pattern, function, &rest)
        }
    }
}

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
    let found = |captures: Option<Captures<'_>>| match captures {
        None => Value::None,
        Some(captures) => Value::Match(Rc::new(match_of(regex, haystack, &captures))),
    };
    match name {
        "search" => Ok(found(regex.captures(haystack))),
        "match" => {
            // Anchored at the start: a search could find a later match first only if none begins there.
            let anchored = remembered(&format!(r"\A(?:{})", regex.as_str()).into(), RAW)?;
            Ok(found(anchored.captures(haystack)))
        }
        "fullmatch" => {
            let anchored = remembered(&format!(r"\A(?:{})\z", regex.as_str()).into(), RAW)?;
            Ok(found(anchored.captures(haystack)))
        }
        "findall" => {
            let mut all = Vec::new();
            for captures in regex.captures_iter(haystack) {
                interpreter.charge(1)?;
                let group = |index: usize| Value::text(captures.get(index).map_or("", |group| group.as_str()));
                all.push(match regex.captures_len() {
                    1 => group(0),
                    2 => group(1),
                    count => Value::tuple((1..count).map(group).collect()),
                });
            }
            Ok(Value::list(all))
        }
        "split" if regex.captures_len() == 1 && arguments.get(1, "maxsplit").is_none() => {
            Ok(Value::list(regex.split(haystack).map(Value::text).collect()))
        }
        "sub" if arguments.get(2, "count").is_none() => {
            let replacement = text(arguments.required(0, "repl")?)?;
            if replacement.contains('\\') {
                return Err(Fault::Refused("a backslash in the replacement of `re.sub`".to_owned()));
            }
            let count = regex.find_iter(haystack).count();
            interpreter.charge(count.saturating_mul(replacement.len()) / 64)?;
            Ok(Value::text(regex.replace_all(haystack, regex::NoExpand(replacement)).into_owned()))
        }
        other => Err(Fault::Refused(format!("`re.{other}` with these arguments"))),
    }
}

fn match_of(regex: &Regex, haystack: &str, captures: &Captures<'_>) -> Match {
    let place = |byte: usize| haystack[..byte].chars().count();
    let whole = captures.get(0).map_or((0, 0), |whole| (place(whole.start()), place(whole.end())));
    Match {
        groups: captures.iter().map(|group| group.map(|group| Arc::from(group.as_str()))).collect(),
        names: regex.capture_names().map(|name| name.map(Arc::from)).collect(),
        span: whole,
    }
}

/// Calls a method of a match.
pub(in super::super) fn match_method(found: &Match, name: &str, arguments: &Arguments) -> Outcome<Value> {
    let value = |group: &Option<Arc<str>>| group.clone().map_or(Value::None, Value::Text);
    match name {
        "group" => {
            let no_group = || Fault::raise(super::super::exception::ExceptionKind::IndexError, "no such group");
            let index = match arguments.positional.first() {
                None => 0,
                Some(Value::Text(wanted)) => {
                    found.names.iter().position(|known| known.as_deref() == Some(&**wanted)).ok_or_else(no_group)?
                }
                Some(other) => other.as_int().and_then(|index| usize::try_from(index).ok()).ok_or_else(no_group)?,
            };
            found.groups.get(index).map(value).ok_or_else(no_group)
        }
        "groups" => Ok(Value::tuple(found.groups.iter().skip(1).map(value).collect())),
        "groupdict" => {
            let named = found.names.iter().zip(&found.groups);
            let named = named.filter_map(|(name, group)| Some((Value::Text(name.clone()?), value(group))));
            Ok(Value::dict(named.collect()))
        }
        "start" => Ok(Value::Int(found.span.0 as i128)),
        _ => Ok(Value::Int(found.span.1 as i128)),
    }
}
