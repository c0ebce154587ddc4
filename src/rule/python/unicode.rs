//! Properties of characters, as Python 3.11 has them.

use std::sync::LazyLock;

use regex::Regex;

/// The zero of each script's decimal digits. The nine others follow it.
const ZEROS: &[char] = &[
    '\u{30}',
    '\u{660}',
    '\u{6f0}',
    '\u{7c0}',
    '\u{966}',
    '\u{9e6}',
    '\u{a66}',
    '\u{ae6}',
    '\u{b66}',
    '\u{be6}',
    '\u{c66}',
    '\u{ce6}',
    '\u{d66}',
    '\u{de6}',
    '\u{e50}',
    '\u{ed0}',
    '\u{f20}',
    '\u{1040}',
    '\u{1090}',
    '\u{17e0}',
    '\u{1810}',
    '\u{1946}',
    '\u{19d0}',
    '\u{1a80}',
    '\u{1a90}',
    '\u{1b50}',
    '\u{1bb0}',
    '\u{1c40}',
    '\u{1c50}',
    '\u{a620}',
    '\u{a8d0}',
    '\u{a900}',
    '\u{a9d0}',
    '\u{a9f0}',
    '\u{aa50}',
    '\u{abf0}',
    '\u{ff10}',
    '\u{104a0}',
    '\u{10d30}',
    '\u{11066}',
    '\u{110f0}',
    '\u{11136}',
    '\u{111d0}',
    '\u{112f0}',
    '\u{11450}',
    '\u{114d0}',
    '\u{11650}',
    '\u{116c0}',
    '\u{11730}',
    '\u{118e0}',
    '\u{11950}',
    '\u{11c50}',
    '\u{11d50}',
    '\u{11da0}',
    '\u{16a60}',
    '\u{16ac0}',
    '\u{16b50}',
    '\u{1d7ce}',
    '\u{1d7d8}',
    '\u{1d7e2}',
    '\u{1d7ec}',
    '\u{1d7f6}',
    '\u{1e140}',
    '\u{1e2f0}',
    '\u{1e950}',
    '\u{1fbf0}',
];

/// Digits that are not decimal: superscripts, in circles, and others.
const OTHER_DIGITS: &[(u32, u32)] = &[
    (178, 179),
    (185, 185),
    (4969, 4977),
    (6618, 6618),
    (8304, 8304),
    (8308, 8313),
    (8320, 8329),
    (9312, 9320),
    (9332, 9340),
    (9352, 9360),
    (9450, 9450),
    (9461, 9469),
    (9471, 9471),
    (10102, 10110),
    (10112, 10120),
    (10122, 10130),
    (68160, 68163),
    (69216, 69224),
    (69714, 69722),
    (127_232, 127_242),
];

/// Letters that stand for numbers.
const NUMBER_LETTERS: &str = "㐅㒃㠪㭍一七万三九二五亖亿什仟仨伍佰億兆兩八六十千卄卅卌叁参參叄四壱壹幺廾廿弌弍弎弐拾捌柒漆玖百肆萬貮貳贰阡陆陌陸零\
    \u{f96b}\u{f973}\u{f978}\u{f9b2}\u{f9d1}\u{f9d3}\u{f9fd}𠀁𠁤𠃢𠄡𠤪𠦃𠦌𠦜𠫪𠫽𠬙𢎐𢦘𣬛𦉭\u{2f890}";

/// Returns the value of a decimal digit of any script.
pub(super) fn decimal(c: char) -> Option<u32> {
    if c.is_ascii() {
        return c.to_digit(10);
    }
    let after = ZEROS.partition_point(|zero| *zero <= c);
    let zero = ZEROS.get(after.checked_sub(1)?)?;
    Some(u32::from(c) - u32::from(*zero)).filter(|value| *value < 10)
}

/// Returns a text with the digits of all scripts as those of ASCII.
pub(super) fn with_ascii_digits(text: &str) -> String {
    text.chars().map(|c| decimal(c).and_then(|digit| char::from_digit(digit, 10)).unwrap_or(c)).collect()
}

pub(super) fn is_decimal(c: char) -> bool {
    decimal(c).is_some()
}

pub(super) fn is_digit(c: char) -> bool {
    let code = u32::from(c);
    is_decimal(c) || OTHER_DIGITS.iter().any(|(first, last)| (*first..=*last).contains(&code))
}

pub(super) fn is_numeric(c: char) -> bool {
    c.is_numeric() || (!c.is_ascii() && NUMBER_LETTERS.contains(c))
}

/// Returns whether a character is a letter. Rust also counts marks as alphabetic.
pub(super) fn is_letter(c: char) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\A\p{L}\z").ok());
    if c.is_ascii() {
        return c.is_ascii_alphabetic();
    }
    c.is_alphabetic() && LETTER.as_ref().is_some_and(|letter| letter.is_match(c.encode_utf8(&mut [0; 4])))
}

pub(super) fn is_alphanumeric(c: char) -> bool {
    is_letter(c) || is_numeric(c)
}

/// Returns whether a character is space.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Returns whether a line ends at a character.
pub(super) fn ends_line(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Returns a text without differences of case.
pub(super) fn casefolded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{1e9e}' => folded.push_str("ss"),
            // Cherokee folds to capital letters.
            '\u{13f8}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => folded.extend(c.to_uppercase()),
            // These, and the dotless i, stay.
            '\u{131}' | '\u{13a0}'..='\u{13f5}' => folded.push(c),
            _ => folded.extend(c.to_uppercase().flat_map(char::to_lowercase)),
        }
    }
    folded
}

/// Returns the form of a character at the start of a word.
pub(super) fn title_case(c: char) -> String {
    let single = |code: u32| char::from_u32(code).map(String::from).unwrap_or_default();
    let code = u32::from(c);
    match code {
        // `ŉ`
        0x149 => "\u{2bc}N".to_owned(),
        0x1c4..=0x1c6 => single(0x1c5),
        0x1c7..=0x1c9 => single(0x1c8),
        0x1ca..=0x1cc => single(0x1cb),
        0x1f1..=0x1f3 => single(0x1f2),
        // Georgian has no such form, and some Greek letters have it already.
        0x10d0..=0x10fa | 0x10fd..=0x10ff | 0x1fbc | 0x1fcc | 0x1ffc => single(code),
        // Greek with an iota below.
        0x1f80..=0x1faf => single(code | 8),
        0x1fb3 | 0x1fc3 | 0x1ff3 => single(code + 9),
        0x1fb2 | 0x1fb4 | 0x1fb7 | 0x1fc2 | 0x1fc4 | 0x1fc7 | 0x1ff2 | 0x1ff4 | 0x1ff7 => {
            let upper: String = c.to_uppercase().collect();
            upper.strip_suffix('\u{399}').map(|start| format!("{start}\u{345}")).unwrap_or(upper)
        }
        _ => {
            let mut upper = c.to_uppercase();
            upper.next().into_iter().chain(upper.flat_map(char::to_lowercase)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_numbers_differ() {
        for (c, decimal, digit, numeric) in [
            ('7', true, true, true),
            ('٣', true, true, true),
            ('²', false, true, true),
            ('½', false, false, true),
            ('三', false, false, true),
            ('x', false, false, false),
        ] {
            assert_eq!((is_decimal(c), is_digit(c), is_numeric(c)), (decimal, digit, numeric), "{c}");
        }
        assert_eq!(decimal('٣'), Some(3));
        assert_eq!(with_ascii_digits("-१२"), "-12");
        assert!(ZEROS.is_sorted());
    }

    #[test]
    fn letters_are_no_marks() {
        assert!(is_letter('ä') && is_letter('三') && !is_letter('\u{345}') && !is_letter('½'));
        assert!(is_alphanumeric('½') && !is_alphanumeric('_'));
    }

    #[test]
    fn case_is_that_of_python() {
        assert_eq!(casefolded("ﬁ ß ẞ ς İ ı Σ"), "fi ss ss σ i\u{307} ı σ");
        assert_eq!(casefolded("\u{13a0}\u{ab70}"), "\u{13a0}\u{13a0}");
        for (c, title) in [('ǆ', "ǅ"), ('ﬁ', "Fi"), ('ß', "Ss"), ('ა', "ა"), ('ᾳ', "ᾼ"), ('a', "A"), ('ŉ', "ʼN")]
        {
            assert_eq!(title_case(c), title, "{c}");
        }
    }
}
