//! The text of a value that may be a record, before it is parsed.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{MAX_PARTS, Member};
use super::kinds::WHOLE;
use super::split::SPACE;

/// The JSON text of a value that may be a record. It is not parsed, and need not be JSON.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    text: &'a str,
    outline: Option<Outline<'a>>,
}

/// The structure of an object.
#[derive(Debug, Clone, Copy)]
struct Outline<'a> {
    /// The positions of the colons after its keys, without those of the objects in it.
    colons: &'a [u32],
    /// Whether it may contain a backslash.
    has_backslash: bool,
}

/// Keys of top-level members to look up in records.
#[derive(Debug, Clone)]
pub struct MemberKeys {
    keys: Vec<String>,
    /// For each [`ending`] a bit for each of the keys that have it, and [`WHOLE_BIT`] for those of [`WHOLE`].
    by_ending: Box<[u64; LETTERS * LETTERS]>,
}

/// The number of values of the low bits by which ASCII letters differ.
const LETTERS: usize = 32;

/// The bit of the keys of [`WHOLE`].
const WHOLE_BIT: u64 = 1 << 63;

/// The text of top-level members of a record, by the index of their key in [`MemberKeys`].
#[derive(Debug, Clone, Copy)]
pub struct MemberTexts<'a> {
    texts: [Option<&'a str>; MemberKeys::MAX],
}

/// The value of a member that a rule may compare with strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberString<'a> {
    /// The member is missing or null.
    Missing,
    /// A string without escapes.
    Plain(&'a str),
    /// Any other value.
    Other,
}

impl<'a> Element<'a> {
    /// Returns a value whose outline is unknown.
    pub fn of_text(text: &'a str) -> Element<'a> {
        Element { text, outline: None }
    }

    /// Returns an object with the positions of the `colons` after its keys.
    pub(super) fn outlined(text: &'a str, colons: &'a [u32], has_backslash: bool) -> Element<'a> {
        Element { text, outline: Some(Outline { colons, has_backslash }) }
    }

    /// Returns the JSON text.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// Returns whether the text may spell a character as an escape that [`hides_characters`] looks for.
    pub fn hides_characters(&self) -> bool {
        self.outline.is_none_or(|outline| outline.has_backslash) && hides_characters(self.text)
    }

    /// Returns the members of the object, whose values are checked to be JSON. `None` if it is not a plain object: its
    /// outline is unknown, it is not JSON, a key has escapes, or a key is among `others`.
    pub(super) fn split(&self, others: &[&str]) -> Option<Vec<Member<'a>>> {
        let colons = self.outline?.colons;
        let (Some(inner), true) = (self.text.strip_suffix('}'), colons.len() <= MAX_PARTS) else {
            return None;
        };
        let mut members = Vec::with_capacity(colons.len());
        // The key of the next value, and the start of its text.
        let mut open: Option<(&str, usize)> = None;
        for colon in colons {
            let colon = *colon as usize;
            let before = self.text[..colon].trim_end_matches(SPACE).strip_suffix('"')?;
            let quote = memchr::memrchr(b'"', before.as_bytes())?;
            let key = &before[quote + 1..];
            if others.contains(&key) || key.bytes().any(|byte| byte == b'\\' || byte.is_ascii_control()) {
                return None;
            }
            let between = before[..quote].trim_end_matches(SPACE);
            match open {
                Some((key, start)) => {
                    members
                        .push((Cow::Borrowed(key), value_of(self.text.get(start..between.len())?.strip_suffix(',')?)?));
                }
                None if between == "{" => {}
                None => return None,
            }
            open = Some((key, colon + 1));
        }
        let (key, start) = open?;
        members.push((Cow::Borrowed(key), value_of(inner.get(start..)?)?));
        Some(members)
    }

    /// Returns the text of the members with `keys`, if the value is JSON. Of members with the same key the first
    /// counts. `None` if the members are not certain: the value may be something else than a record, or a key is
    /// spelled with escapes or, without the exact key, in other case.
    pub fn members(&self, keys: &MemberKeys) -> Option<MemberTexts<'a>> {
        let outline = self.outline?;
        if self.hides_characters() {
            return None;
        }
        let mut texts = [None; MemberKeys::MAX];
        let mut in_other_case = 0_u64;
        let bytes = self.text.as_bytes();
        for (index, colon) in outline.colons.iter().enumerate() {
            let colon = *colon as usize;
            let key = KeyBefore::new(bytes, colon)?;
            let mut possible = ending(key.text).map_or(0, |ending| keys.by_ending[ending]);
            if possible & WHOLE_BIT != 0 && WHOLE.iter().any(|whole| key.is(whole)) {
                return None;
            }
            possible &= !WHOLE_BIT;
            while possible != 0 {
                let slot = possible.trailing_zeros() as usize;
                possible &= possible - 1;
                if key.is(&keys.keys[slot]) {
                    let end = outline.colons.get(index + 1).map_or(bytes.len(), |next| *next as usize);
                    texts[slot].get_or_insert(&self.text[colon + 1..end]);
                } else if key.is_any_case(&keys.keys[slot]) {
                    in_other_case |= 1 << slot;
                }
            }
        }
        let is_uncertain = |slot: usize| in_other_case >> slot & 1 == 1 && texts[slot].is_none();
        if in_other_case != 0 && (0..keys.keys.len()).any(is_uncertain) {
            return None;
        }
        Some(MemberTexts { texts })
    }
}

/// The key before a colon.
#[derive(Clone, Copy)]
struct KeyBefore<'a> {
    /// The text up to its closing quote, without that.
    text: &'a [u8],
}

impl<'a> KeyBefore<'a> {
    /// Returns the key before the colon at `colon`. `None` if there is none.
    fn new(bytes: &'a [u8], colon: usize) -> Option<KeyBefore<'a>> {
        let before = match bytes.get(..colon)? {
            before @ [.., b'"'] => before,
            before => before.trim_ascii_end(),
        };
        before.strip_suffix(b"\"").map(|text| KeyBefore { text })
    }

    /// Returns whether it is `key`.
    fn is(self, key: &str) -> bool {
        self.text.strip_suffix(key.as_bytes()).is_some_and(is_quoted)
    }

    /// Returns whether it is `key` in any case.
    fn is_any_case(self, key: &str) -> bool {
        let Some((before, own)) = self.text.len().checked_sub(key.len()).map(|start| self.text.split_at(start)) else {
            return false;
        };
        is_quoted(before) && own.eq_ignore_ascii_case(key.as_bytes())
    }
}

/// Returns whether a key starts after `before`.
fn is_quoted(before: &[u8]) -> bool {
    matches!(before, [.., last, b'"'] if *last != b'\\')
}

impl MemberKeys {
    /// The maximum number of keys.
    pub const MAX: usize = 40;

    /// Returns `keys`, which have two letters or more. Keys after the first [`MemberKeys::MAX`] are ignored.
    pub fn new(keys: impl IntoIterator<Item = String>) -> MemberKeys {
        let keys: Vec<String> = keys.into_iter().take(Self::MAX).collect();
        let own = keys.iter().enumerate().map(|(slot, key)| (key.as_str(), 1 << slot));
        let mut by_ending = Box::new([0; LETTERS * LETTERS]);
        for (key, bit) in own.chain(WHOLE.map(|key| (key, WHOLE_BIT))) {
            if let Some(ending) = ending(key.as_bytes()) {
                by_ending[ending] |= bit;
            }
        }
        MemberKeys { keys, by_ending }
    }
}

/// Returns a number of the last two letters of `key` that is the same in any case, less than the square of [`LETTERS`].
fn ending(key: &[u8]) -> Option<usize> {
    let low = |byte: u8| usize::from(byte) % LETTERS;
    match key {
        [.., first, second] => Some(low(*first) * LETTERS + low(*second)),
        _ => None,
    }
}

impl<'a> MemberTexts<'a> {
    /// Returns the text after the colon of the member with the key at index `slot`, up to the next key. `None` if there
    /// is no such member.
    pub fn text(&self, slot: usize) -> Option<&'a str> {
        self.texts.get(slot).copied().flatten()
    }

    /// Returns the value of the member with the key at index `slot`.
    pub fn string(&self, slot: usize) -> MemberString<'a> {
        let Some(text) = self.text(slot) else {
            return MemberString::Missing;
        };
        let value = if text.starts_with('"') { text } else { text.trim_start_matches(SPACE) };
        match plain_string(value) {
            Some(content) => MemberString::Plain(content),
            None if value.starts_with("null") => MemberString::Missing,
            None => MemberString::Other,
        }
    }
}

/// Returns `text` as a JSON value, if it is one.
fn value_of(text: &str) -> Option<&RawValue> {
    serde_json::from_str(text).ok()
}

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

    const KEYS: [&str; 3] = ["errorCode", "eventName", "userIdentity"];

    /// A [`MemberString`] with its own text.
    #[derive(Debug, Clone, PartialEq)]
    enum Found {
        Missing,
        Plain(String),
        Other,
    }

    /// Returns the values of [`KEYS`] in a record. `None` if they are not certain.
    fn values_of(record: &str) -> Option<[Found; 3]> {
        let text = format!("{{\"Records\":[{{}},{record}]}}");
        let elements = split::elements(&text).unwrap();
        let element = elements.iter().nth(1).unwrap();
        assert_eq!(element.text(), record);
        let members = element.members(&MemberKeys::new(KEYS.map(str::to_owned)))?;
        Some([0, 1, 2].map(|slot| match members.string(slot) {
            MemberString::Missing => Found::Missing,
            MemberString::Plain(text) => Found::Plain(text.to_owned()),
            MemberString::Other => Found::Other,
        }))
    }

    /// Returns the `eventName` of a record. `None` if it is not certain.
    fn name_of(record: &str) -> Option<String> {
        let [_, name, _] = values_of(record)?;
        match name {
            Found::Plain(name) => Some(name),
            Found::Missing | Found::Other => None,
        }
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
            (r#"{"a":"\"eventName","eventName":"A"}"#, Some("A")),
            (r#"{"\"eventName":"B","eventName":"A"}"#, Some("A")),
            (r#"{"eventName" : "A" }"#, Some("A")),
            (r#"{"eventName":"A","_raw":"{}"}"#, None),
            (r#"{"CloudTrailEvent":"{}","eventName":"A"}"#, None),
        ] {
            assert_eq!(name_of(record).as_deref(), name, "{record}");
        }
        let keys = MemberKeys::new(KEYS.map(str::to_owned));
        assert!(Element::of_text(r#"{"eventName":"A"}"#).members(&keys).is_none());
    }

    #[test]
    fn members_are_missing_strings_or_other() {
        use Found::{Missing, Other};
        let plain = |text: &str| Found::Plain(text.to_owned());
        for (record, values) in [
            ("{}", Some([Missing, Missing, Missing])),
            (r#"{"errorCode":null,"errorcode":"A","eventName":17}"#, Some([Missing, Other, Missing])),
            (r#"{"errorCode": "A" ,"userIdentity":{"eventName":"B"}}"#, Some([plain("A"), Missing, Other])),
            (r#"{"errorCode":"a\"b","eventName":"","userIdentity":"c"}"#, Some([Other, plain(""), plain("c")])),
            (r#"{"errorcode":"A","eventName":"B"}"#, None),
            (r#"{"ERRORCODE":"A","errorCode":"B"}"#, Some([plain("B"), Missing, Missing])),
        ] {
            assert_eq!(values_of(record), values, "{record}");
        }
        let text = r#"{"Records":[{"userIdentity":{"a":1},"b":2}]}"#;
        let elements = split::elements(text).unwrap();
        let members = elements.iter().next().unwrap().members(&MemberKeys::new(KEYS.map(str::to_owned))).unwrap();
        assert!(members.text(2).unwrap().starts_with(r#"{"a":1}"#));
        assert_eq!(members.text(0), None);
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
        let keys = [
            "eventName",
            "eventName",
            "eventname",
            r"event\u004eame",
            r#"\"eventName"#,
            "_raw",
            "a",
            "eventName ",
            "errorCode",
        ];
        let space = prop::sample::select(vec!["", " ", "\n"]);
        let member = (prop::sample::select(keys.to_vec()), space, value);
        let member = member.prop_map(|(key, space, value)| format!("\"{key}\"{space}:{space}{value}{space}"));
        prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(",")))
    }

    #[test]
    fn an_object_is_split_only_if_it_is_json() {
        let split = |record: &str| {
            let text = format!("{{\"Records\":[{record}]}}");
            let elements = split::elements(&text)?;
            let members = elements.iter().next().unwrap().split(&["Records"])?;
            Some(members.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>())
        };
        let members = r#"{ "a" : {"b":[1, ":,"]} , "c":"\"}","é":null }"#;
        assert_eq!(split(members).unwrap(), [r#"a={"b":[1, ":,"]}"#, r#"c="\"}""#, "é=null"]);
        for other in [
            "{}",
            r#"{"a":1,}"#,
            r#"{,"a":1}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1,,"b":2}"#,
            r#"{"a":1;"b":2}"#,
            r#"{"a":1,"b"}"#,
            r#"{"a":}"#,
            r#"{"a":"b":1}"#,
            r#"{"a" "b":1}"#,
            r#"{x"a":1}"#,
            r#"{"a":01}"#,
            r#"{"a":[1}]}"#,
            r#"{"a\u0062":1}"#,
            "{\"a\u{1}\":1}",
            r"{a:1}",
            r#"{"a":1,"Records":[]}"#,
        ] {
            assert_eq!(split(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn an_object_is_split_as_the_full_parse_splits_it(record in members(value()), at: prop::sample::Index, byte in "[\"\\\\{}\\[\\]:,a ]?") {
            let mut record = record;
            let at = (0..=at.index(record.len())).rev().find(|at| record.is_char_boundary(*at)).unwrap();
            record.insert_str(at, &byte);
            let text = format!("{{\"Records\":[{record}]}}");
            let elements = split::elements(&text);
            let first = elements.iter().flat_map(super::super::split::Elements::iter).find(|element| element.text() == record);
            if let Some(members) = first.and_then(|element| element.split(&[])) {
                let parsed = json::members(&record).unwrap();
                let texts = |members: &[Member<'_>]| -> Vec<(String, String)> {
                    members.iter().map(|(key, value)| (key.to_string(), value.get().to_owned())).collect()
                };
                prop_assert_eq!(texts(&members), texts(&parsed));
            }
        }

        #[test]
        fn members_are_those_that_the_full_parse_finds(record in members(value())) {
            if let Some(values) = values_of(&record) {
                let members = json::members(&record).unwrap();
                prop_assert!(members.iter().all(|(key, _)| !WHOLE.contains(&key.as_ref())));
                for (key, value) in KEYS.into_iter().zip(values) {
                    let found = json::find(&members, key);
                    let string = found.and_then(json::string);
                    match value {
                        Found::Plain(plain) => prop_assert_eq!(string.unwrap(), plain),
                        Found::Missing => prop_assert!(found.is_none_or(|value| value.get() == "null")),
                        Found::Other => prop_assert!(found.is_some()),
                    }
                }
            }
        }
    }
}
