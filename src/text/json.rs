//! JSON output: exact, and with hidden characters as `\uXXXX`.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter};

use super::replace_hidden;

/// Returns the JSON text `json` with its hidden characters as `\uXXXX`, which every reader takes for the same value.
///
/// JSON holds characters beyond ASCII only within its strings, so each may be escaped where it stands. The control
/// characters below the space are left: JSON escapes them itself, and what remains are its line breaks.
pub fn escaped(json: &str) -> Cow<'_, str> {
    replace_hidden(json, |c| {
        let mut text = String::new();
        if c < ' ' {
            text.push(c);
            return text;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            write!(text, "\\u{unit:04x}").ok();
        }
        text
    })
}

/// Writes `value` as JSON on one line, without a line break at its end.
///
/// # Errors
/// `to` cannot be written, or `value` has no form in JSON.
pub fn write(value: &impl Serialize, to: impl io::Write) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(to, Escaping(CompactFormatter)))
}

/// Writes `value` as JSON with a line for each member, without a line break at its end.
///
/// # Errors
/// As [`write()`].
pub fn write_pretty(value: &impl Serialize, to: impl io::Write) -> serde_json::Result<()> {
    value.serialize(&mut Serializer::with_formatter(to, Escaping(PrettyFormatter::new())))
}

/// Returns `value` as JSON on one line, without a line break at its end.
///
/// # Errors
/// `value` has no form in JSON.
pub fn line(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string(value).map(|json| escaped(&json).into_owned())
}

/// Returns `value` as JSON with a line for each member, and a line break at its end.
///
/// # Errors
/// `value` has no form in JSON.
pub fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    serde_json::to_string_pretty(value).map(|json| escaped(&json).into_owned() + "\n")
}

/// A formatter that escapes what strings hold.
struct Escaping<F>(F);

impl<F: Formatter> Formatter for Escaping<F> {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        to.write_all(escaped(fragment).as_bytes())
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(&mut self, to: &mut W, fragment: &str) -> io::Result<()> {
        to.write_all(escaped(fragment).as_bytes())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_array(to)
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array(to)
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(to, first)
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_array_value(to)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object(to)
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object(to)
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(to, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.begin_object_value(to)
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.0.end_object_value(to)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::text::has_hidden;

    #[test]
    fn hidden_characters_are_escaped_and_the_value_is_the_same() {
        let value = json!({ "a\u{202e}": ["\u{2028}\u{feff}\u{e0041}\u{7f}\u{9b}\n\"\\", 1, null, {}], "b": "José" });
        let (mut compact, mut indented) = (Vec::new(), Vec::new());
        write(&value, &mut compact).unwrap();
        write_pretty(&value, &mut indented).unwrap();
        assert_eq!(line(&value).unwrap().into_bytes(), compact);
        assert_eq!(pretty(&value).unwrap(), String::from_utf8(indented.clone()).unwrap() + "\n");
        for text in [compact, indented] {
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), value);
            let text = String::from_utf8(text).unwrap();
            assert!(!has_hidden(&text.replace('\n', "")), "{text}");
            assert!(text.contains("\\udb40\\udc41") && text.contains("José"), "{text}");
        }
    }
}
