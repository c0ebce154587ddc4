//! Text from logs and rules, escaped for each medium that shows it.
//!
//! Names in a log and texts in a rule are chosen by strangers. A hidden character in them can move a terminal's
//! cursor, reverse the order of a line, or make two names look alike. `HIDDEN` is the one definition of such
//! characters, and each medium has one function that shows them as visible escapes.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use regex::{Captures, Regex};

pub mod json;

/// A hidden character: it has no glyph of its own, or changes how the text around it is shown.
///
/// These are the Unicode categories Cc (control characters), Cf (format characters: bidirectional controls, zero-width
/// spaces and joiners, the soft hyphen, tags, interlinear annotations), Zl and Zp (line and paragraph separators), and
/// the property `Default_Ignorable_Code_Point` (variation selectors, fillers, and code points reserved for more).
const HIDDEN: &str = r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]";

static HIDDEN_CHARACTER: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(HIDDEN).expect("a constant pattern that a test compiles"));

/// Returns whether `text` holds a hidden character.
pub fn has_hidden(text: &str) -> bool {
    HIDDEN_CHARACTER.is_match(text)
}

fn is_hidden(c: char) -> bool {
    has_hidden(c.encode_utf8(&mut [0; 4]))
}

/// Returns `text` with each hidden character replaced by what `replacement` gives for it.
pub fn replace_hidden(text: &str, replacement: impl Fn(char) -> String) -> Cow<'_, str> {
    // Most texts are printable ASCII, and the search of a pattern costs more than a look at each byte.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    HIDDEN_CHARACTER.replace_all(text, |found: &Captures<'_>| found[0].chars().map(&replacement).collect::<String>())
}

/// Returns the item of `items` whose text is `name`, in any case.
pub fn item_named<T: Copy + fmt::Display>(name: &str, items: &[T]) -> Option<T> {
    items.iter().find(|item| item.to_string().eq_ignore_ascii_case(name)).copied()
}

/// Quotes a word for a shell, where it needs that.
pub fn shell_word(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextPart<'t> {
    /// Text without hidden characters.
    Plain(&'t str),
    /// A hidden character.
    Hidden(char),
}

/// Returns the parts of `text` in order. Each hidden character is a separate part. Empty text has no parts.
pub fn hidden_apart(text: &str) -> impl Iterator<Item = TextPart<'_>> {
    let mut end = 0;
    let hidden =
        HIDDEN_CHARACTER.find_iter(text).flat_map(|found| found.as_str().chars().map(move |c| (found.start(), c)));
    let mut parts = Vec::new();
    for (start, c) in hidden {
        parts.extend((end < start).then(|| TextPart::Plain(&text[end..start])));
        parts.push(TextPart::Hidden(c));
        end = start + c.len_utf8();
    }
    parts.extend((end < text.len()).then(|| TextPart::Plain(&text[end..])));
    parts.into_iter()
}

fn visible(c: char) -> String {
    c.escape_unicode().to_string()
}

/// Returns `text` for a terminal, on one line: hidden characters, line breaks included, are written as `\u{1b}`.
pub fn printable(text: &str) -> String {
    replace_hidden(text, visible).into_owned()
}

/// Returns `text` for a terminal, as [`printable`] does, but keeps its line breaks.
pub fn printable_lines(text: &str) -> String {
    replace_hidden(text, |c| if c == '\n' { c.to_string() } else { visible(c) }).into_owned()
}

/// Returns `text` for a chat message, on one line, with a space for each hidden character.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    replace_hidden(text, |_| " ".to_owned())
}

/// Characters that begin a formula in a spreadsheet, with the wide and small forms that spreadsheets read as the same.
const FORMULA_STARTS: [char; 14] =
    ['=', '+', '-', '@', '|', '＝', '＋', '－', '＠', '\u{fe66}', '\u{fe62}', '\u{fe63}', '\u{fe6b}', '\u{2212}'];

/// Returns `cell` for CSV: as [`printable`], and with an apostrophe before what a spreadsheet might run.
///
/// That is a cell whose first character, blanks aside, begins a formula, or one that holds a `|`, as a call by DDE does
/// (`cmd|'/c calc'!A1`). A number, such as `-1.5`, stays a number.
pub fn csv_cell(cell: &str) -> String {
    let first = cell.chars().find(|c| !(c.is_whitespace() || is_hidden(*c)));
    let begins_formula = first.is_some_and(|c| FORMULA_STARTS.contains(&c)) && !is_number(cell);
    let guard = if begins_formula || cell.contains('|') { "'" } else { "" };
    format!("{guard}{}", printable(cell))
}

fn is_number(cell: &str) -> bool {
    cell.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) && cell.parse::<f64>().is_ok()
}

/// Returns `value` for the quotes of a label in Prometheus's text format, whose own escapes are `\\`, `\"` and `\n`:
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
pub fn prometheus_label(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    let hidden = |c: char| if c == '\n' { "\\n".to_owned() } else { format!("\\{}", visible(c)) };
    replace_hidden(&escaped, hidden).into_owned()
}

/// Returns `text` for the message of a workflow command of GitHub Actions, which ends at the line's end.
pub fn workflow_message(text: &str) -> String {
    printable(&text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A"))
}

/// Returns `text` for a property of a workflow command of GitHub Actions, which ends at a comma or colon.
pub fn workflow_property(text: &str) -> String {
    workflow_message(text).replace(':', "%3A").replace(',', "%2C")
}

/// Returns `text` for a cell of a table in Markdown: nothing in it is markup, a link, HTML or the end of the cell.
pub fn markdown(text: &str) -> String {
    let line = replace_hidden(text, |c| if matches!(c, '\n' | '\r' | '\t') { " ".to_owned() } else { visible(c) });
    let mut escaped = String::with_capacity(line.len());
    for c in line.chars() {
        // The colon keeps an address from becoming a link.
        match c {
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '!' | '#' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped.replace("://", "\\://").replace("www.", "www\\.")
}

/// Returns `text` as code in a cell of a table in Markdown.
pub fn markdown_code(text: &str) -> String {
    let text = printable(text).replace('|', "\\|");
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat(longest + 1);
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of each kind of hidden character.
    const EACH: &str = "\0\u{1b}\r\n\t\u{7f}\u{85}\u{9b}\u{ad}\u{34f}\u{61c}\u{180e}\u{200b}\u{200c}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2064}\u{2066}\u{2069}\u{206f}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{fffb}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{e0100}";

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(["lake/", "--last=1d", ""].map(shell_word), ["lake/", "--last=1d", "''"]);
        assert_eq!(["a b", "it's", "$x*"].map(shell_word), ["'a b'", r"'it'\''s'", "'$x*'"]);
    }

    #[test]
    fn every_kind_of_hidden_character_is_shown() {
        for c in EACH.chars() {
            assert!(is_hidden(c), "{}", c.escape_unicode());
        }
        for media in [printable, prometheus_label, markdown, csv_cell, markdown_code] {
            assert!(!has_hidden(&media(EACH)), "{}", media(EACH));
        }
        assert_eq!(printable("a\u{1b}[31mb\n\u{202e}"), "a\\u{1b}[31mb\\u{a}\\u{202e}");
        assert_eq!(printable_lines("a\u{1b}\nb\r\n"), "a\\u{1b}\nb\\u{d}\n");
        for text in ["José 名前", "مرحبا", "שלום", "नमस्ते", "a b\u{a0}c", "“quoted” – …", "🦀", "e\u{301}"]
        {
            assert_eq!(printable(text), text);
            assert_eq!(csv_cell(text), text);
        }
    }

    #[test]
    fn what_a_spreadsheet_might_run_is_guarded() {
        for formula in [
            "=1+1",
            "+1+1",
            "-1-1",
            "@x",
            " =1",
            "\u{a0}\u{2003}=1",
            "＝1",
            " ＋1",
            "－1",
            "＠x",
            "|x",
            "-inf",
            "cmd|'/c calc'!A1",
            "curl/8 | aws-cli/2",
        ] {
            assert_eq!(csv_cell(formula), format!("'{formula}"));
        }
        assert_eq!(csv_cell("\t=1\u{1b}"), "'\\u{9}=1\\u{1b}");
        assert_eq!(csv_cell("\u{feff}=1"), "'\\u{feff}=1");
        for plain in ["a=1", "-1", "+1.5e3", "-0.25", "a-b", "what!", ""] {
            assert_eq!(csv_cell(plain), plain);
        }
    }

    #[test]
    fn labels_of_prometheus_keep_its_own_escapes() {
        assert_eq!(prometheus_label("a\\\"\n\u{202e}"), "a\\\\\\\"\\n\\\\u{202e}");
    }

    #[test]
    fn markdown_holds_no_markup() {
        assert_eq!(markdown("a|b\n<b>[x](https://evil.example)"), "a\\|b &lt;b>\\[x\\](https\\://evil.example)");
        assert_eq!(markdown("plain words, 10 of 3 (a; b)"), "plain words, 10 of 3 (a; b)");
        assert_eq!(markdown_code("a`|`b"), "``a`\\|`b``");
        assert_eq!(markdown_code("eventName"), "`eventName`");
    }
}
