//! The text of a value that may be a record, before it is parsed.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

use super::kinds::WHOLE;
use super::split::SPACE;

/// The JSON text of a value that may be a record. It is not parsed, and need not be JSON.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    text: &'a str,
    outline: Option<Outline<'a>>,
}

/// The places of brackets and backslashes in an object.
#[derive(Debug, Clone, Copy)]
struct Outline<'a> {
    /// The start of the object in the text around it.
    start: usize,
    /// The objects and lists that are values of its members, as ranges of the text around it.
    nested: &'a [Range<usize>],
    /// Whether it may contain a backslash.
    has_backslash: bool,
}

impl<'a> Element<'a> {
    /// Returns a value whose outline is unknown.
    pub fn of_text(text: &'a str) -> Element<'a> {
        Element { text, outline: None }
    }

    /// Returns the object at `range` of `around`, with the ranges of the objects and lists `nested` in it.
    pub(super) fn outlined(
        around: &'a str,
        range: Range<usize>,
        nested: &'a [Range<usize>],
        has_backslash: bool,
    ) -> Element<'a> {
        Element { text: &around[range.clone()], outline: Some(Outline { start: range.start, nested, has_backslash }) }
    }

    /// Returns the JSON text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns whether the text may spell a character as an escape that [`hides_characters`] looks for.
    pub fn hides_characters(&self) -> bool {
        self.outline.is_none_or(|outline| outline.has_backslash) && hides_characters(self.text)
    }

    /// Returns the `eventName` of the record, if the text is JSON. `None` if the name is not certain: the value may be
    /// something else than a record, or the name is missing, escaped or no string.
    pub fn event_name(&self) -> Option<&'a str> {
        let outline = self.outline?;
        if self.hides_characters() {
            return None;
        }
        let mut name = None;
        let mut start = 0;
        for nested in outline.nested {
            self.find_name(start..nested.start - outline.start, &mut name)?;
            start = nested.end - outline.start;
        }
        self.find_name(start..self.text.len(), &mut name)?;
        name
    }

    /// Searches a part of the text that has no nested values for the first member `eventName`. Returns `None` if the
    /// name is not certain.
    fn find_name(&self, part: Range<usize>, name: &mut Option<&'a str>) -> Option<()> {
        for found in KEYS.find_iter(&self.text[part.clone()]) {
            let before = &self.text[..part.start + found.start()];
            if before.ends_with('\\') {
                return None;
            }
            // A string that no colon follows is a value.
            let after = self.text[part.start + found.end()..].trim_start_matches(SPACE);
            let Some(value) = after.strip_prefix(':') else { continue };
            if found.pattern().as_usize() != EVENT_NAME {
                return None;
            }
            if name.is_none() {
                *name = Some(plain_string(value.trim_start_matches(SPACE))?);
            }
        }
        Some(())
    }
}

/// The index of the key `eventName` in [`KEYS`].
const EVENT_NAME: usize = 0;

/// Finds the quoted keys that decide about the name of a record: `eventName`, and those whose value is a whole record.
static KEYS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    let keys = std::iter::once("eventName").chain(WHOLE).map(|key| format!("\"{key}\""));
    let search = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(keys);
    search.unwrap_or_else(|error| unreachable!("three short keys: {error}"))
});

/// Returns the content of the JSON string at the start of `text`, if it has no escapes.
fn plain_string(text: &str) -> Option<&str> {
    let content = text.strip_prefix('"')?;
    let end = memchr::memchr2(b'"', b'\\', content.as_bytes())?;
    (content.as_bytes()[end] == b'"').then(|| &content[..end])
}

/// Returns whether JSON text may spell a letter, digit or punctuation mark other than `"` and `\` as an escape. Only
/// `\u` and `\/` do.
pub fn hides_characters(text: &str) -> bool {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'\\', bytes).any(|at| matches!(bytes.get(at + 1), Some(b'u' | b'/')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::raw::json;
    use crate::raw::split;

    /// Returns the names of the elements of an object with one record.
    fn name_of(record: &str) -> Option<String> {
        let text = format!("{{\"Records\":[{{}},{record}]}}");
        let elements = split::elements(&text).unwrap();
        let element = elements.iter().nth(1).unwrap();
        assert_eq!(element.text(), record);
        element.event_name().map(str::to_owned)
    }

    #[test]
    fn the_name_is_that_of_the_first_member_with_the_exact_key() {
        for (record, name) in [
            (r#"{"eventName":"A"}"#, Some("A")),
            (r#"{ "a" : {"eventName":"B"} , "eventName" : "A" }"#, Some("A")),
            (r#"{"eventname":"B","eventName":"A"}"#, Some("A")),
            (r#"{"eventName":"A","eventName":"B"}"#, Some("A")),
            (r#"{"a":"eventName","b":"\"eventNames\":\"B\"","eventName":"A"}"#, Some("A")),
            (r#"{"a":["}",{"eventName":"B"}],"eventName":"A","c":{"_raw":"x"}}"#, Some("A")),
            (r#"{"eventName":""}"#, Some("")),
            (r#"{"eventname":"A"}"#, None),
            (r#"{"a":{"eventName":"A"}}"#, None),
            (r#"{"a":"eventName"}"#, None),
            (r#"{"eventName":["A"],"eventName":"B"}"#, None),
            (r#"{"eventName":17}"#, None),
            (r#"{"eventName":"A\\"}"#, None),
            (r#"{"event\u004eame":"B","eventName":"A"}"#, None),
            (r#"{"eventName":"A","a":"\/"}"#, None),
            (r#"{"a":"\"eventName","eventName":"A"}"#, None),
            (r#"{"eventName":"A","_raw":"{}"}"#, None),
            (r#"{"CloudTrailEvent":"{}","eventName":"A"}"#, None),
        ] {
            assert_eq!(name_of(record).as_deref(), name, "{record}");
        }
        assert_eq!(Element::of_text(r#"{"eventName":"A"}"#).event_name(), None);
    }

    /// Returns a JSON value with the keys and texts that could be taken for a record's name.
    fn value() -> impl Strategy<Value = String> {
        let text = prop::sample::select(vec![
            "A",
            "eventName",
            "_raw",
            r#"\"eventName\":\"B\""#,
            r#"\"eventName"#,
            r"B\\",
            "{",
            "]}",
            r"\u0041",
            "long enough to fill a block of sixty-four bytes, and a few more of the next",
        ]);
        let leaf = prop_oneof![text.prop_map(|text| format!("\"{text}\"")), Just("17".to_owned())];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(|values| format!("[{}]", values.join(","))),
                members(inner),
            ]
        })
    }

    fn members(value: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        let keys =
            ["eventName", "eventName", "eventname", r"event\u004eame", r#"\"eventName"#, "_raw", "a", "eventName "];
        let space = prop::sample::select(vec!["", " ", "\n"]);
        let member = (prop::sample::select(keys.to_vec()), space, value);
        let member = member.prop_map(|(key, space, value)| format!("\"{key}\"{space}:{space}{value}{space}"));
        prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    proptest! {
        #[test]
        fn a_name_is_the_one_that_the_full_parse_finds(record in members(value())) {
            if let Some(name) = name_of(&record) {
                let members = json::members(&record).unwrap();
                let first = members.iter().find(|(key, _)| key == "eventName").unwrap();
                prop_assert_eq!(json::string(first.1).unwrap(), name);
                prop_assert!(members.iter().all(|(key, _)| !WHOLE.contains(&key.as_ref())));
            }
        }
    }
}
