//! Splits JSON text without parsing the values in it.

use std::borrow::Cow;

use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::path::Step;

/// One member of a JSON object: its key and its value, unparsed.
pub type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// The most elements or members of one list or object. Real objects hold a thousandth of it. Without a limit, a list
/// of `1,1,1,…` would take eight times its size in memory.
pub(super) const MAX_PARTS: usize = 1 << 21;

fn bounded<E: serde::de::Error>(parts: usize) -> Result<(), E> {
    if parts <= MAX_PARTS { Ok(()) } else { Err(E::custom(format!("more than {MAX_PARTS} values side by side"))) }
}

/// Returns the members of the JSON object `value`, in order. `None` if it is anything else.
pub fn members(value: &str) -> Option<Vec<Member<'_>>> {
    if !value.starts_with('{') {
        return None;
    }
    serde_json::from_str::<JsonMembers<'_>>(value).ok().map(|members| members.0)
}

/// Returns the JSON string `value`, unescaped. `None` if it is anything else. An escaped lone surrogate, which is not
/// a character, becomes U+FFFD.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(value.get())
        .or_else(|_| {
            let lossy = serde_json::from_str::<LossyText>(value.get())?;
            Ok::<_, serde_json::Error>(lossy.0)
        })
        .ok()
        .map(Cow::Owned)
}

/// Returns the text of a scalar: a string unescaped, a number in its shortest decimal form, a boolean as `true` or
/// `false`. `None` for null, objects and lists.
pub fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    match value.get().as_bytes().first()? {
        b'"' => string(value),
        b'{' | b'[' | b'n' => None,
        b't' | b'f' => Some(Cow::Borrowed(value.get())),
        _ => Some(match number(value.get()) {
            Some(shortest) if shortest != value.get() => Cow::Owned(shortest),
            _ => Cow::Borrowed(value.get()),
        }),
    }
}

/// Returns a JSON number in its shortest decimal form, exactly: `1.50` is `1.5`, `22.0` and `2.2e1` are `22`. `None`
/// if `text` is not a JSON number.
pub fn number(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let digits_only = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits_only(whole) || !digits_only(fraction) || (whole.len() > 1 && whole.starts_with('0')) {
        return None;
    }
    let all = format!("{whole}{fraction}");
    let leading = all.len() - all.trim_start_matches('0').len();
    let digits = all.trim_matches('0');
    if digits.is_empty() {
        return Some("0".to_owned());
    }
    let sign = if unsigned.len() < text.len() { "-" } else { "" };
    // The position of the point, counted from the first of `digits`.
    let point = exponent.checked_add(i64::try_from(whole.len() - leading.min(whole.len())).ok()?)?;
    let point = point.checked_sub(i64::try_from(leading.saturating_sub(whole.len())).ok()?)?;
    let count = i64::try_from(digits.len()).ok()?;
    Some(match usize::try_from(point) {
        Ok(0) => format!("{sign}0.{digits}"),
        Ok(places) if point >= count && point <= 40 => format!("{sign}{digits}{}", "0".repeat(places - digits.len())),
        Ok(places) if point < count => format!("{sign}{}.{}", &digits[..places], &digits[places..]),
        Err(_) if point > -20 => {
            let zeros = usize::try_from(-point).unwrap_or_default();
            format!("{sign}0.{}{digits}", "0".repeat(zeros))
        }
        _ => format!("{sign}0.{digits}e{point}"),
    })
}

/// Returns the JSON text of the value at `path` in the JSON text `json`. `None` if there is no value or it is null.
pub fn at<'a>(json: &'a str, path: &[Step]) -> Option<Cow<'a, str>> {
    let json = json.trim_ascii();
    let Some((step, rest)) = path.split_first() else {
        return (json != "null" && !json.is_empty()).then_some(Cow::Borrowed(json));
    };
    match step {
        Step::Key(key) => at(member(json, key)?.get(), rest),
        Step::Index(index) => {
            let elements = elements(json)?;
            let index = if *index < 0 { index + i64::try_from(elements.len()).ok()? } else { *index };
            at(elements.get(usize::try_from(index).ok()?)?.get(), rest)
        }
        Step::Every => {
            let found: Vec<_> = elements(json)?.iter().filter_map(|element| at(element.get(), rest)).collect();
            Some(Cow::Owned(format!("[{}]", found.join(","))))
        }
        Step::Through | Step::Leaves => {
            let mut found = Vec::new();
            reach(json, path, &mut found);
            Some(Cow::Owned(format!("[{}]", found.join(","))))
        }
    }
}

/// Adds the values that `path` reaches, through lists on the way.
fn reach<'a>(json: &'a str, path: &[Step], found: &mut Vec<Cow<'a, str>>) {
    match path.split_first() {
        Some((Step::Through, rest)) => match elements(json) {
            Some(elements) => elements.into_iter().for_each(|element| reach(element.get(), rest, found)),
            None => reach(json, rest, found),
        },
        Some((Step::Leaves, _)) => found.extend(leaves(json).into_iter().map(Cow::Borrowed)),
        Some((Step::Key(key), rest)) => {
            if let Some(value) = member(json, key) {
                reach(value.get(), rest, found);
            }
        }
        _ => found.extend(at(json, path)),
    }
}

/// Returns the JSON of all strings, numbers and booleans within a value, however deep, in order. Keys are none of them.
fn leaves(json: &str) -> Vec<&str> {
    let bytes = json.as_bytes();
    let mut found = Vec::new();
    let mut start = 0;
    while let Some(first) = bytes.get(start) {
        let end = match first {
            b'"' => string_end(bytes, start),
            b'{' | b'}' | b'[' | b']' | b',' | b':' => start + 1,
            first if first.is_ascii_whitespace() => start + 1,
            _ => {
                let is_end = |byte: &u8| matches!(byte, b'}' | b']' | b',' | b':') || byte.is_ascii_whitespace();
                bytes[start..].iter().position(is_end).map_or(bytes.len(), |length| start + length.max(1))
            }
        };
        let is_scalar =
            !matches!(first, b'{' | b'}' | b'[' | b']' | b',' | b':' | b'n') && !first.is_ascii_whitespace();
        let is_key = || *first == b'"' && bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':');
        if is_scalar && !is_key() {
            found.extend(json.get(start..end));
        }
        start = end;
    }
    found
}

/// Returns the index after the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Returns [`find`] in the JSON object `json` without splitting all of it. Text after a member with exactly this key
/// is not read.
fn member<'a>(json: &'a str, key: &str) -> Option<&'a RawValue> {
    struct Seek<'k, 'de> {
        key: &'k str,
        exact: &'k mut Option<&'de RawValue>,
    }
    impl<'de> Visitor<'de> for Seek<'_, 'de> {
        type Value = Option<&'de RawValue>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut similar = None;
            while let Some(Key(name)) = map.next_key()? {
                if name == self.key {
                    *self.exact = Some(map.next_value()?);
                    return Ok(None);
                } else if similar.is_none() && name.eq_ignore_ascii_case(self.key) {
                    similar = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(similar)
        }
    }
    if !json.starts_with('{') {
        return None;
    }
    let mut exact = None;
    let similar = serde_json::Deserializer::from_str(json).deserialize_map(Seek { key, exact: &mut exact });
    // The rest after a found member was not read, which the parser reports as an error.
    exact.or_else(|| similar.ok().flatten())
}

/// Returns the elements of the JSON list `json`. `None` if it is anything else.
pub fn elements(json: &str) -> Option<Vec<&RawValue>> {
    if json.starts_with('[') { serde_json::from_str(json).ok() } else { None }
}

/// Returns [`elements`], but `None` if there are more than [`MAX_PARTS`].
pub(super) fn bounded_elements(json: &str) -> Option<Vec<&RawValue>> {
    let list = json.starts_with('[').then(|| serde_json::from_str::<Elements<'_>>(json))?;
    list.ok().map(|list| list.0)
}

/// Returns the value of the member `key`: the first with exactly this key, or else the first whose key differs only
/// in case.
pub fn find<'a>(members: &[Member<'a>], key: &str) -> Option<&'a RawValue> {
    let exact = members.iter().find(|(name, _)| name == key);
    exact.or_else(|| members.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))).map(|(_, value)| *value)
}

struct LossyText(String);

impl<'de> Deserialize<'de> for LossyText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Lossy;
        impl Visitor<'_> for Lossy {
            type Value = LossyText;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<LossyText, E> {
                Ok(LossyText(lossy(bytes)))
            }
        }
        deserializer.deserialize_bytes(Lossy)
    }
}

/// Returns text with U+FFFD for each half of a surrogate pair, which the parser gives as three bytes.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(3).position(|three| matches!(three, [0xed, 0xa0..=0xbf, 0x80..=0xbf])) {
        text.push_str(&String::from_utf8_lossy(&rest[..at]));
        text.push(char::REPLACEMENT_CHARACTER);
        rest = &rest[at + 3..];
    }
    text + &String::from_utf8_lossy(rest)
}

struct JsonMembers<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for JsonMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = JsonMembers<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonMembers<'de>, A::Error> {
                let mut members = Vec::with_capacity(28);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, map.next_value()?));
                }
                Ok(JsonMembers(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// Returns a key, borrowed if it holds no escape. Half a surrogate pair in it does not lose the members after it.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_bytes<E: serde::de::Error>(self, key: &'de [u8]) -> Result<Key<'de>, E> {
                if key.iter().any(u8::is_ascii_control) {
                    return Err(E::custom("control character in a key"));
                }
                let text = std::str::from_utf8(key).map_err(E::custom)?;
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_bytes<E>(self, key: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(lossy(key))))
            }
        }
        deserializer.deserialize_bytes(Borrow)
    }
}

/// Members of envelopes whose values are lists of records or of what wraps them.
pub(super) const LISTS: [&str; 4] = ["Records", "Events", "logEvents", "Messages"];

/// A top-level value. Its elements or members are split. Their content is only checked to be JSON.
pub(super) enum Top<'a> {
    /// An array's elements.
    List(Vec<&'a RawValue>),
    /// An envelope: the elements of the list it holds, and its other members.
    Envelope {
        /// The elements of [`LISTS`].
        list: Vec<&'a RawValue>,
        /// The other members.
        beside: Vec<Member<'a>>,
    },
    /// Any other object.
    Object(Vec<Member<'a>>),
}

impl<'de> Deserialize<'de> for Top<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split;
        impl<'de> Visitor<'de> for Split {
            type Value = Top<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object or an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Top<'de>, A::Error> {
                let elements = Elements::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(Top::List(elements.0))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
                let mut members = Vec::with_capacity(28);
                let mut list: Option<Vec<&RawValue>> = None;
                while let Some(Key(key)) = map.next_key()? {
                    if LISTS.contains(&key.as_ref()) {
                        let list = list.get_or_insert_default();
                        list.append(&mut map.next_value::<Elements<'_>>()?.0);
                        bounded(list.len())?;
                    } else {
                        members.push((key, map.next_value()?));
                        bounded(members.len())?;
                    }
                }
                Ok(match list {
                    Some(list) => Top::Envelope { list, beside: members },
                    None => Top::Object(members),
                })
            }
        }
        deserializer.deserialize_any(Split)
    }
}

/// A list's elements, unparsed.
struct Elements<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Elements<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Split;
        impl<'de> Visitor<'de> for Split {
            type Value = Elements<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Elements<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                    bounded(elements.len())?;
                }
                Ok(Elements(elements))
            }
        }
        deserializer.deserialize_seq(Split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_shortest_form() {
        for (text, shortest) in [
            ("0", "0"),
            ("-0.0", "0"),
            ("22", "22"),
            ("22.0", "22"),
            ("2.2e1", "22"),
            ("2200e-2", "22"),
            ("1.50", "1.5"),
            ("-0.050", "-0.05"),
            ("5E-3", "0.005"),
            ("1.688560107857E9", "1688560107.857"),
            ("9007199254740993", "9007199254740993"),
            ("1e9", "1000000000"),
            ("1e400", "0.1e401"),
            ("10e399", "0.1e401"),
        ] {
            assert_eq!(number(text).as_deref(), Some(shortest), "{text}");
        }
        for other in ["", "-", "+1", "01", "1.", ".5", "1e", "0x1", "1_0", "nan", "inf", " 1"] {
            assert_eq!(number(other), None, "{other}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_costs_one_character() {
        let json = r#"{"\ud800":1,"a\udfffb":"x\ud800\ud83d\ude00\udc00y","c":2}"#;
        let members = members(json).unwrap();
        let keys: Vec<&str> = members.iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, ["\u{fffd}", "a\u{fffd}b", "c"]);
        assert_eq!(string(members[1].1).unwrap(), "x\u{fffd}\u{1f600}\u{fffd}y");
        assert_eq!(at(json, &[Step::Key("c".to_owned())]).as_deref(), Some("2"));
        assert!(super::members("{\"a\nb\":1}").is_none());
    }

    #[test]
    fn paths_go_through_lists_and_to_leaves() {
        let json = r#"{"a":[{"b":[1,"x"]},{"b":{"c":[true,null,{"k":"v\\\"]"}]}},[{"b":9}],{"B":"y"}],"d":"z"}"#;
        for (path, expected) in [
            ("a[].b[]", r#"[1,"x",{"c":[true,null,{"k":"v\\\"]"}]},"y"]"#),
            ("a[].b[**]", r#"[1,"x",true,"v\\\"]","y"]"#),
            ("[**]", r#"[1,"x",true,"v\\\"]",9,"y","z"]"#),
            ("d[]", r#"["z"]"#),
            ("d[**]", r#"["z"]"#),
            ("d[].x[]", "[]"),
            ("nothing[].x[]", "[]"),
        ] {
            let steps = crate::path::Path::of_sql(path).unwrap().0;
            if path.starts_with("nothing") {
                assert_eq!(at(json, &steps), None);
            } else {
                assert_eq!(at(json, &steps).as_deref(), Some(expected), "{path}");
            }
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(leaves(&deep), ["1"]);
        assert_eq!(leaves(r#"{"a" : "b" , "c":-1.5e3}"#), [r#""b""#, "-1.5e3"]);
        for broken in ["\"", "\"\\", "{\"a", "[1", "x"] {
            leaves(broken);
        }
    }

    #[test]
    fn a_path_leads_to_a_value() {
        let json = r#"{"a":{"Key":1,"key":2,"KEY":3},"l":[{"x":"1"},{"x":null},{"y":2},{"X":"4"},5],"n":null}"#;
        for (path, found) in [
            ("a.key", Some("2")),
            ("A.Key", Some("1")),
            ("a.kEY", Some("1")),
            ("l[0].x", Some("\"1\"")),
            ("l[-1]", Some("5")),
            ("l[9]", None),
            ("l[*].x", Some("[\"1\",\"4\"]")),
            ("l.x", None),
            ("a[0]", None),
            ("a[*]", None),
            ("n", None),
            ("missing.b", None),
        ] {
            let path: crate::path::Path = path.parse().unwrap();
            assert_eq!(at(json, &path.0).as_deref(), found, "{path}");
        }
    }
}
