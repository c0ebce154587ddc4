//! Python's `re` and `fnmatch`.

use std::rc::Rc;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::super::exception::{Fault, Outcome};
use super::super::interpreter::{Arguments, Interpreter};
use super::super::value::{Pattern, Value};
use super::matches;
pub(in super::super) use super::matches::{group_index, match_method, method};
use crate::rule::limits::PATTERN_BYTES;

const IGNORECASE: i128 = 2;
const MULTILINE: i128 = 8;
const DOTALL: i128 = 16;
const VERBOSE: i128 = 64;

/// In place of flags: the pattern is of the crate `regex`.
pub(super) const RAW: i128 = -1;

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

pub(super) fn text(value: &Value) -> Outcome<&Arc<str>> {
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

/// The letters that Python has after a backslash.
const ESCAPES: &str = "AbBdDsSwWafnrtvxuU";

/// Adds Python's class of characters: no marks are parts of words, and separators of data are space.
fn push_kind(out: &mut String, kind: char, in_class: bool) {
    let members = if matches!(kind, 'w' | 'W') { r"\p{L}\p{N}_" } else { r"\s\x1c-\x1f" };
    match (kind.is_ascii_uppercase(), in_class) {
        (false, true) => out.push_str(members),
        (false, false) => out.extend(["[", members, "]"]),
        (true, _) => out.extend(["[^", members, "]"]),
    }
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
    let mut repeats = false;
    while let Some(c) = chars.next() {
        let repeated = std::mem::replace(&mut repeats, !in_class && matches!(c, '*' | '+' | '?' | '}'));
        match c {
            '*' | '+' if repeated && !in_class => return Err("a possessive or a double quantifier"),
            '\\' => match chars.next() {
                Some('Z') if !in_class => out.push_str(r"\z"),
                Some('1'..='9') if !in_class => return Err("a back-reference"),
                Some(kind @ ('w' | 'W' | 's' | 'S')) => push_kind(&mut out, kind, in_class),
                Some(sign @ ('<' | '>')) => out.push(sign),
                Some(other) if other.is_ascii_alphabetic() && !ESCAPES.contains(other) => {
                    return Err("an escape that Python does not have");
                }
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

/// Returns a pattern that matches only from the start of a text, and only to its end if `to_end`.
pub(super) fn anchored(regex: &Regex, to_end: bool) -> Outcome<Regex> {
    let pattern = regex.as_str();
    let is_verbose = pattern.split("(?").skip(1).any(|flags| {
        flags.split([':', ')']).next().is_some_and(|flags| flags.contains('x') && !flags.contains(['<', 'P']))
    });
    // A comment ends with its line.
    let end = if is_verbose { "\n" } else { "" };
    remembered(&format!(r"\A(?:{pattern}{end}){}", if to_end { r"\z" } else { "" }).into(), RAW)
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
pub(super) fn remembered(text: &Arc<str>, flags: i128) -> Outcome<Regex> {
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
            matches::method(interpreter, &pattern, function, &rest)
        }
    }
}
