//! Finds the records in the text of a trail object without parsing them.
//!
//! Only braces, brackets, colons, quotes and backslashes are looked at, 64 bytes at a time; the method is that of the
//! first stage of simdjson (Langdale and Lemire, <https://arxiv.org/abs/1902.08318>).

use std::ops::Range;

use wide::u8x64;

use super::element::Element;

/// Bytes that are examined together: one for each bit of a mask.
const BLOCK: usize = 64;

/// JSON's whitespace.
pub(super) const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// The elements of `{"Records":[...]}`.
#[derive(Debug)]
pub(super) struct Elements<'a> {
    /// The text between the brackets of the list.
    body: &'a str,
    spans: Vec<ElementSpan>,
    /// The colons after top-level keys of all elements. Each is counted from the start of its element.
    colons: Vec<u32>,
}

/// The position of an element.
#[derive(Debug)]
struct ElementSpan {
    /// Its text.
    text: Range<usize>,
    /// The end of its part of [`Elements::colons`].
    colons_end: usize,
    has_backslash: bool,
}

impl Elements<'_> {
    /// Returns the elements in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Element<'_>> {
        let mut colons_start = 0;
        self.spans.iter().map(move |span| {
            let colons = &self.colons[colons_start..span.colons_end];
            colons_start = span.colons_end;
            Element::outlined(&self.body[span.text.clone()], colons, span.has_backslash)
        })
    }
}

/// Returns the elements of `{"Records":[...]}`, if `text` is an object with that one member and each
/// element begins with a brace. `None` if it is anything else, or its brackets do not match.
/// Elements are not checked to be JSON. If all are, `text` is too.
pub(super) fn elements(text: &str) -> Option<Elements<'_>> {
    let body = body(text)?;
    let records = body.len() / 1_024;
    let (mut spans, mut colons) = (Vec::with_capacity(records), Vec::with_capacity(24 * records));
    let (mut depth, mut start, mut end) = (0_usize, 0, 0);
    // The end of the last block with a backslash.
    let mut backslash_end = 0;
    let mut scan = BracketScan::default();
    let mut take = |at: usize, byte: u8, backslash_end: usize| {
        if byte == b':' {
            if depth == 1 {
                colons.push(u32::try_from(at - start).ok()?);
            }
        } else if matches!(byte, b'{' | b'[') {
            if depth == 0 {
                let between = body[end..at].trim_matches(SPACE);
                let expected = if end == 0 { "" } else { "," };
                if byte != b'{' || between != expected {
                    return None;
                }
                start = at;
            }
            depth += 1;
        } else {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                end = at + 1;
                let has_backslash = backslash_end > start;
                spans.push(ElementSpan { text: start..end, colons_end: colons.len(), has_backslash });
            }
        }
        Some(())
    };
    let bytes = body.as_bytes();
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    for (number, block) in blocks.iter().chain([&last]).enumerate() {
        let Marks { mut structure, has_backslash } = scan.marks(block);
        if has_backslash {
            backslash_end = (number + 1) * BLOCK;
        }
        while structure != 0 {
            let place = structure.trailing_zeros() as usize;
            take(number * BLOCK + place, block[place], backslash_end)?;
            structure &= structure - 1;
        }
    }
    let is_complete = depth == 0 && !scan.in_string() && body[end..].trim_matches(SPACE).is_empty();
    is_complete.then_some(Elements { body, spans, colons })
}

/// Returns the text between the brackets of `{"Records":[...]}`.
fn body(text: &str) -> Option<&str> {
    let mut body = text.trim_matches(SPACE);
    for token in ["{", "\"Records\"", ":", "["] {
        body = body.strip_prefix(token)?.trim_start_matches(SPACE);
    }
    for token in ["}", "]"] {
        body = body.strip_suffix(token)?.trim_end_matches(SPACE);
    }
    Some(body)
}

/// The state of a scan between blocks.
#[derive(Default)]
struct BracketScan {
    /// All bits set where the next byte is within a string.
    string: u64,
    /// One where the next byte is escaped.
    escaped: u64,
}

/// The brackets, colons and backslashes of a block.
struct Marks {
    /// A bit for each brace, bracket and colon that is not within a string.
    structure: u64,
    has_backslash: bool,
}

impl BracketScan {
    /// Returns the marks of the next block.
    fn marks(&mut self, block: &[u8; BLOCK]) -> Marks {
        /// This bit distinguishes `{` from `[`, and `}` from `]`.
        const CASE: u8 = b'{' ^ b'[';
        let bytes = u8x64::new(*block);
        let folded = bytes | u8x64::splat(CASE);
        let is = |byte: u8| bytes.simd_eq(u8x64::splat(byte)).to_bitmask();
        let backslashes = is(b'\\');
        let quotes = is(b'"') & !self.escapes(backslashes);
        let strings = parity(quotes) ^ self.string;
        self.string = if strings >> (BLOCK - 1) == 1 { u64::MAX } else { 0 };
        let brackets = folded.simd_eq(u8x64::splat(b'{')) | folded.simd_eq(u8x64::splat(b'}'));
        let structure = brackets | bytes.simd_eq(u8x64::splat(b':'));
        Marks { structure: structure.to_bitmask() & !strings, has_backslash: backslashes != 0 }
    }

    /// Returns a bit for each byte that a backslash escapes.
    fn escapes(&mut self, backslashes: u64) -> u64 {
        let mut escapes = std::mem::take(&mut self.escaped);
        let mut escaping = backslashes & !escapes;
        while escaping != 0 {
            let first = escaping & escaping.wrapping_neg();
            let next = first << 1;
            self.escaped = u64::from(next == 0);
            escapes |= next;
            escaping &= !(first | next);
        }
        escapes
    }

    fn in_string(&self) -> bool {
        self.string != 0
    }
}

/// Returns for each bit whether an odd number of bits up to it are set.
fn parity(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn texts(text: &str) -> Option<Vec<&str>> {
        let elements = elements(text)?;
        Some(elements.spans.iter().map(|span| &elements.body[span.text.clone()]).collect())
    }

    #[test]
    fn only_one_list_of_objects_is_split() {
        for (text, split) in [
            (r#"{"Records":[]}"#, Some(vec![])),
            (" {\n\"Records\" : [ {\"a\":\"]}\"} ,\r\n{} ] } ", Some(vec![r#"{"a":"]}"}"#, "{}"])),
            (r#"{"Records":[{"a":"\\"},{"b":"\"}"}]}"#, Some(vec![r#"{"a":"\\"}"#, r#"{"b":"\"}"}"#])),
            (r#"{"Records":[{}],"more":[{}]}"#, None),
            (r#"{"Records":[{}]}{"Records":[{}]}"#, None),
            (r#"{"Records":[{} {}]}"#, None),
            (r#"{"Records":[{},]}"#, None),
            (r#"{"Records":[,{}]}"#, None),
            (r#"{"Records":[{},1]}"#, None),
            (r#"{"Records":[[]]}"#, None),
            (r#"{"Records":[{"a":"}]}"#, None),
            (r#"{"Records":[{]}"#, None),
            (r#"{"records":[{}]}"#, None),
            ("[{}]", None),
            ("", None),
        ] {
            assert_eq!(texts(text), split, "{text}");
        }
    }

    fn json() -> impl Strategy<Value = String> {
        let text = proptest::collection::vec(
            prop::sample::select(vec![
                "\\\\",
                "\\\"",
                "{",
                "}",
                "[",
                "]",
                "é",
                "a",
                "\\u0022",
                ",",
                "long enough to fill a block of bytes",
            ]),
            0..12,
        );
        let leaf = text.prop_map(|parts| format!("\"{}\"", parts.concat()));
        leaf.prop_recursive(4, 24, 4, |inner| {
            let inner = proptest::collection::vec(inner, 0..4);
            inner.prop_flat_map(|values| {
                let list = format!("[{}]", values.join(" , "));
                let members: Vec<String> = values.iter().map(|value| format!("{value:?} :{value}")).collect();
                prop_oneof![Just(list), Just(format!("{{{}}}", members.join(",")))]
            })
        })
    }

    proptest! {
        #[test]
        fn elements_are_those_a_parser_finds(values in proptest::collection::vec(json(), 0..8), gap in "[ \n]{0,3}") {
            let values: Vec<String> = values.into_iter().map(|value| format!("{{\"v\":{value}}}")).collect();
            let text = format!("{{\"Records\":[{gap}{}{gap}]}}", values.join(&format!("{gap},{gap}")));
            prop_assert_eq!(texts(&text).unwrap(), values);
        }

        /// Text that is broken anywhere is either not split, or an element of it is no JSON.
        #[test]
        fn what_is_broken_is_not_taken_for_whole(value in json(), at: prop::sample::Index, byte in "[\"\\\\{}\\[\\],a]") {
            let mut text = format!("{{\"Records\":[{{\"v\":{value}}},{{\"w\":{value}}}]}}");
            let at = (0..=at.index(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap();
            text.insert_str(at, &byte);
            let whole = serde_json::from_str::<&RawValue>(&text).is_ok();
            if let Some(elements) = texts(&text) {
                let all = elements.iter().all(|element| serde_json::from_str::<&RawValue>(element).is_ok());
                prop_assert_eq!(all, whole, "{}", text);
            }
        }
    }
}
