//! Python's `json`.

use super::super::bounds;
use super::super::exception::{ExceptionKind, Fault, Outcome};
use super::super::interpreter::{Arguments, Interpreter};
use super::super::operators;
use super::super::text_format::{float, json_text};
use super::super::value::Value;

/// Calls `json.loads`. Of equal keys the last counts, as in Python.
pub(super) fn loads(interpreter: &Interpreter, text: &Value) -> Outcome<Value> {
    let text = match text {
        Value::Text(text) => text.to_string(),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).to_owned(),
            Err(_) => return Err(Fault::raise(ExceptionKind::UnicodeDecodeError, "invalid start byte")),
        },
        other => {
            let kind = other.type_name();
            return Err(Fault::type_error(format!("the JSON object must be str, bytes or bytearray, not {kind}")));
        }
    };
    interpreter.charge(text.len() / 16)?;
    let mut reader = Reader { interpreter, text: &text, at: 0 };
    reader.skip_space();
    let value = reader.value()?;
    reader.skip_space();
    if reader.at < text.len() { Err(reader.wrong("Extra data")) } else { Ok(value) }
}

struct Reader<'t> {
    interpreter: &'t Interpreter,
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, what: &str) -> Fault {
        let before = self.text.get(..self.at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let place = before.chars().count();
        let message = format!("{what}: line {line} column {column} (char {place})");
        Fault::raise(ExceptionKind::JSONDecodeError, message)
    }

    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Outcome<Value> {
        self.interpreter.charge(1)?;
        match self.peek() {
            Some(b'"') => self.string().map(Value::text),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            _ => {
                let constants = [
                    ("null", Value::None),
                    ("true", Value::Bool(true)),
                    ("false", Value::Bool(false)),
                    ("NaN", Value::Float(f64::NAN)),
                    ("Infinity", Value::Float(f64::INFINITY)),
                    ("-Infinity", Value::Float(f64::NEG_INFINITY)),
                ];
                for (name, value) in constants {
                    if self.rest().starts_with(name) {
                        self.at += name.len();
                        return Ok(value);
                    }
                }
                self.number()
            }
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Outcome<Value>) -> Outcome<Value> {
        self.at += 1;
        self.skip_space();
        bounds::nested(Err(Fault::Exhausted), || read(self))
    }

    fn list(&mut self) -> Outcome<Value> {
        let mut items = Vec::new();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::list(items));
        }
        loop {
            items.push(self.value()?);
            if !self.has_next(b']')? {
                return Ok(Value::list(items));
            }
        }
    }

    /// Passes over the comma before the next item, or over `end`. Returns whether there is a next item.
    fn has_next(&mut self, end: u8) -> Outcome<bool> {
        self.skip_space();
        let has_next = match self.peek() {
            Some(b',') => true,
            Some(byte) if byte == end => false,
            _ => return Err(self.wrong("Expecting ',' delimiter")),
        };
        self.at += 1;
        if has_next {
            self.skip_space();
        }
        Ok(has_next)
    }

    fn object(&mut self) -> Outcome<Value> {
        let mut members: Vec<(Value, Value)> = Vec::new();
        let mut places = std::collections::HashMap::new();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::dict(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.wrong("Expecting property name enclosed in double quotes"));
            }
            let key = self.string()?;
            self.skip_space();
            if self.peek() != Some(b':') {
                return Err(self.wrong("Expecting ':' delimiter"));
            }
            self.at += 1;
            self.skip_space();
            let value = self.value()?;
            // A dictionary keeps the place of the first.
            let place = *places.entry(key.clone()).or_insert(members.len());
            match members.get_mut(place) {
                Some((_, known)) => *known = value,
                None => members.push((Value::text(key), value)),
            }
            if !self.has_next(b'}')? {
                return Ok(Value::dict(members));
            }
        }
    }

    /// Reads a string. A lone surrogate becomes U+FFFD.
    fn string(&mut self) -> Outcome<String> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let rest = self.rest();
            let plain = rest.find(|c: char| matches!(c, '"' | '\\') || c < ' ').unwrap_or(rest.len());
            text.push_str(&rest[..plain]);
            let special = rest.as_bytes().get(plain).copied();
            self.at += plain;
            match special {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(self.wrong("Invalid control character at")),
                None => return Err(self.wrong("Unterminated string starting at")),
            }
        }
        self.at += 1;
        Ok(text)
    }

    fn escape(&mut self) -> Outcome<char> {
        let kind = self.peek();
        self.at += 1;
        Ok(match kind {
            Some(c @ (b'"' | b'\\' | b'/')) => char::from(c),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let high = self.unit()?;
                if (0xd800..0xdc00).contains(&high) && self.rest().starts_with("\\u") {
                    let start = self.at;
                    self.at += 2;
                    let low = self.unit()?;
                    if (0xdc00..0xe000).contains(&low) {
                        let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    }
                    self.at = start;
                }
                char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => {
                self.at -= 1;
                return Err(self.wrong("Invalid \\escape"));
            }
        })
    }

    fn unit(&mut self) -> Outcome<u32> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let unit = unit.ok_or_else(|| self.wrong("Invalid \\uXXXX escape"))?;
        self.at += 4;
        Ok(unit)
    }

    fn number(&mut self) -> Outcome<Value> {
        let rest = self.rest();
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let sign = usize::from(rest.starts_with('-'));
        let whole = match digits(&rest[sign..]) {
            0 => return Err(self.wrong("Expecting value")),
            // A zero is a number of its own.
            _ if rest[sign..].starts_with('0') => 1,
            count => count,
        };
        let mut end = sign + whole;
        let mut is_float = false;
        if let Some(after) = rest[end..].strip_prefix('.')
            && digits(after) > 0
        {
            end += 1 + digits(after);
            is_float = true;
        }
        if let Some(after) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(after.starts_with(['+', '-']));
            let count = digits(&after[sign..]);
            if count > 0 {
                end += 1 + sign + count;
                is_float = true;
            }
        }
        let number = &rest[..end];
        let value = if is_float {
            number.parse().map(Value::Float).map_err(|_| Fault::Exhausted)
        } else {
            number.parse().map(Value::Int).map_err(|_| Fault::Exhausted)
        };
        self.at += end;
        value
    }
}

/// How `json.dumps` writes.
struct Writer<'w> {
    interpreter: &'w Interpreter,
    /// The function for values that are not JSON.
    default: Option<&'w Value>,
    indent: Option<String>,
    between: String,
    after_key: String,
    sorts_keys: bool,
    is_ascii: bool,
    allows_nan: bool,
}

/// Calls `json.dumps`.
pub(super) fn dumps(interpreter: &Interpreter, arguments: &Arguments) -> Outcome<Value> {
    let named = |name| arguments.get(usize::MAX, name).filter(|value| !matches!(value, Value::None));
    let flag = |name, otherwise| arguments.get(usize::MAX, name).map_or(otherwise, Value::is_true);
    let indent = match named("indent") {
        None => None,
        Some(Value::Text(text)) => Some(text.to_string()),
        Some(other) => match other.as_int() {
            Some(count) => {
                let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
                interpreter.charge(count)?;
                Some(" ".repeat(count))
            }
            None => return Err(Fault::type_error("can't multiply sequence by non-int of type 'str'")),
        },
    };
    let (between, after_key) = match named("separators") {
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(pair) => {
            let texts = interpreter.collect(pair)?;
            match texts.as_slice() {
                [Value::Text(between), Value::Text(after_key)] => (between.to_string(), after_key.to_string()),
                _ => return Err(Fault::value_error("separators must be two texts")),
            }
        }
    };
    let writer = Writer {
        interpreter,
        default: named("default"),
        indent,
        between,
        after_key,
        sorts_keys: flag("sort_keys", false),
        is_ascii: flag("ensure_ascii", true),
        allows_nan: flag("allow_nan", true),
    };
    writer.value(arguments.required(0, "obj")?, 0).map(Value::text)
}

impl Writer<'_> {
    fn value(&self, value: &Value, depth: usize) -> Outcome<String> {
        self.interpreter.charge(1)?;
        bounds::nested(Err(Fault::Exhausted), || self.one(value, depth))
    }

    fn one(&self, value: &Value, depth: usize) -> Outcome<String> {
        Ok(match value {
            Value::None => "null".to_owned(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => self.number(*value)?,
            Value::Text(text) => self.string(text),
            Value::Tuple(_) | Value::List(_) => {
                let items = value.items().unwrap_or_default();
                let items = items.iter().map(|item| self.value(item, depth + 1)).collect::<Outcome<Vec<_>>>()?;
                self.joined('[', &items, ']', depth)?
            }
            Value::Dict(_) => {
                let mut entries = value.dict_entries().unwrap_or_default();
                if self.sorts_keys {
                    let pairs = entries.into_iter().map(|(key, value)| Value::tuple(vec![key, value])).collect();
                    entries = sorted_by_key(self.interpreter, pairs)?;
                }
                let mut members = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let key = match &key {
                        Value::Text(text) => self.string(text),
                        Value::None => "\"null\"".to_owned(),
                        Value::Bool(value) => format!("\"{value}\""),
                        Value::Int(value) => format!("\"{value}\""),
                        Value::Float(value) => format!("\"{}\"", self.number(*value)?),
                        other => {
                            let kind = other.type_name();
                            let message = format!("keys must be str, int, float, bool or None, not {kind}");
                            return Err(Fault::type_error(message));
                        }
                    };
                    members.push(format!("{key}{}{}", self.after_key, self.value(&value, depth + 1)?));
                }
                self.joined('{', &members, '}', depth)?
            }
            other => {
                let Some(default) = self.default else {
                    let kind = other.type_name();
                    return Err(Fault::type_error(format!("Object of type {kind} is not JSON serializable")));
                };
                let made = self.interpreter.call(default, Arguments::of(vec![other.clone()]))?;
                self.value(&made, depth)?
            }
        })
    }

    fn number(&self, value: f64) -> Outcome<String> {
        match value {
            value if value.is_finite() => Ok(float(value)),
            _ if !self.allows_nan => Err(Fault::value_error("Out of range float values are not JSON compliant")),
            value if value.is_nan() => Ok("NaN".to_owned()),
            value => Ok(if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()),
        }
    }

    fn string(&self, text: &str) -> String {
        if self.is_ascii {
            return json_text(text);
        }
        let mut json = String::with_capacity(text.len() + 2);
        for c in text.chars() {
            if c.is_ascii() && c != '\u{7f}' {
                let escaped = json_text(c.encode_utf8(&mut [0; 4]));
                json.push_str(&escaped[1..escaped.len() - 1]);
            } else {
                json.push(c);
            }
        }
        format!("\"{json}\"")
    }

    fn joined(&self, open: char, parts: &[String], close: char, depth: usize) -> Outcome<String> {
        let size: usize = parts.iter().map(String::len).sum();
        self.interpreter.charge(size / 64)?;
        let Some(indent) = self.indent.as_ref().filter(|_| !parts.is_empty()) else {
            return Ok(format!("{open}{}{close}", parts.join(&self.between)));
        };
        let outer = format!("\n{}", indent.repeat(depth));
        let inner = format!("{outer}{indent}");
        self.interpreter.charge(inner.len().saturating_mul(parts.len()) / 64)?;
        Ok(format!("{open}{inner}{}{outer}{close}", parts.join(&format!("{}{inner}", self.between))))
    }
}

fn sorted_by_key(interpreter: &Interpreter, pairs: Vec<Value>) -> Outcome<Vec<(Value, Value)>> {
    let pairs = super::sorted(interpreter, pairs, &Arguments::default())?;
    let mut entries = Vec::with_capacity(pairs.len());
    for pair in &pairs {
        let at = |index| operators::item(interpreter, pair, &Value::Int(index));
        entries.push((at(0)?, at(1)?));
    }
    Ok(entries)
}
