//! Parses the Kibana Query Language.
//!
//! Reference: <https://www.elastic.co/docs/explore-analyze/query-filter/languages/kql>. Ranges, nested objects,
//! wildcards in the names of fields, and words without a field are refused.

use std::fmt;

/// The greatest nesting depth of a query.
const DEPTH: usize = 32;

/// A query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Query {
    /// All hold.
    And(Vec<Query>),
    /// At least one holds.
    Or(Vec<Query>),
    /// It does not hold.
    Not(Box<Query>),
    /// A field has a value.
    Is {
        /// The name of the field.
        field: String,
        /// The value.
        value: Pattern,
        /// The position of the value in the text, in bytes.
        at: usize,
    },
}

/// A value of a query: texts, with any text in place of a wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pattern(pub(super) Vec<PatternPart>);

/// A part of a [`Pattern`]. Two texts never follow each other, nor two wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PatternPart {
    /// This text.
    Text(String),
    /// Any text, also none.
    Wildcard,
}

impl Pattern {
    /// Returns whether it is a single wildcard, which only asks for a value.
    pub(super) fn is_any(&self) -> bool {
        self.0 == [PatternPart::Wildcard]
    }

    /// Returns its text, if it has no wildcard.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [PatternPart::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Returns whether it has an upper-case letter.
    pub(super) fn has_upper_case(&self) -> bool {
        self.0.iter().any(|part| matches!(part, PatternPart::Text(text) if text.to_lowercase() != *text))
    }

    /// Returns the regular expression of a whole text that it matches.
    pub(super) fn regex(&self, ignore_case: bool) -> String {
        let part = |part: &PatternPart| match part {
            PatternPart::Text(text) => regex::escape(text),
            PatternPart::Wildcard => ".*".to_owned(),
        };
        let parts: String = self.0.iter().map(part).collect();
        format!("(?{})(^(?:{parts})$)", if ignore_case { "is" } else { "s" })
    }

    /// Returns whether it matches the whole of `text`.
    pub(super) fn matches(&self, text: &str) -> bool {
        regex::Regex::new(&self.regex(false)).is_ok_and(|regex| regex.is_match(text))
    }

    fn push(&mut self, c: char) {
        match self.0.last_mut() {
            Some(PatternPart::Text(text)) => text.push(c),
            _ => self.0.push(PatternPart::Text(c.to_string())),
        }
    }

    fn push_wildcard(&mut self) {
        if self.0.last() != Some(&PatternPart::Wildcard) {
            self.0.push(PatternPart::Wildcard);
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            PatternPart::Text(text) => f.write_str(text),
            PatternPart::Wildcard => f.write_str("*"),
        })
    }
}

/// The reason why a text is not a query, and its position in bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct KqlError {
    pub(super) at: usize,
    pub(super) reason: String,
}

/// Parses a query.
///
/// # Errors
/// The text is not a query, or uses a feature that is refused.
pub(super) fn parse(text: &str) -> Result<Query, KqlError> {
    let mut parser = Parser { text, at: 0, depth: 0 };
    parser.spaces();
    let query = parser.combined(None)?;
    parser.spaces();
    if parser.at < text.len() {
        return parser.error("expected `and`, `or` or the end of the query");
    }
    Ok(query)
}

struct Parser<'q> {
    text: &'q str,
    at: usize,
    depth: usize,
}

/// An unquoted or quoted text.
struct Literal {
    pattern: Pattern,
    at: usize,
    /// `null`, without quotes.
    is_null: bool,
}

impl<'q> Parser<'q> {
    fn error<T>(&self, reason: impl Into<String>) -> Result<T, KqlError> {
        Err(KqlError { at: self.at.min(self.text.len()), reason: reason.into() })
    }

    fn rest(&self) -> &'q str {
        &self.text[self.at..]
    }

    fn spaces(&mut self) {
        self.at += leading_spaces(self.rest());
    }

    fn take(&mut self, c: char) -> bool {
        let is_next = self.rest().starts_with(c);
        self.at += if is_next { c.len_utf8() } else { 0 };
        is_next
    }

    /// Takes a keyword between spaces.
    fn take_between_spaces(&mut self, keyword: &str) -> bool {
        let length = between_spaces(self.rest(), keyword);
        self.at += length.unwrap_or(0);
        length.is_some()
    }

    /// Parses operands joined by `or`, and by `and`, which binds closer. Within a list of values, `field` is their field.
    fn combined(&mut self, field: Option<&str>) -> Result<Query, KqlError> {
        if self.depth == DEPTH {
            return self.error(format!("the query nests more than {DEPTH} deep here"));
        }
        self.depth += 1;
        let mut any = Vec::new();
        loop {
            let mut all = Vec::new();
            loop {
                all.push(self.negated(field)?);
                if !self.take_between_spaces("and") {
                    break;
                }
            }
            any.push(if all.len() == 1 { all.remove(0) } else { Query::And(all) });
            if !self.take_between_spaces("or") {
                break;
            }
        }
        self.depth -= 1;
        Ok(if any.len() == 1 { any.remove(0) } else { Query::Or(any) })
    }

    fn negated(&mut self, field: Option<&str>) -> Result<Query, KqlError> {
        match negation(self.rest()) {
            Some(length) => {
                self.at += length;
                Ok(Query::Not(Box::new(self.operand(field)?)))
            }
            None => self.operand(field),
        }
    }

    fn operand(&mut self, field: Option<&str>) -> Result<Query, KqlError> {
        if self.take('(') {
            self.spaces();
            let inner = self.combined(field)?;
            self.spaces();
            return if self.take(')') { Ok(inner) } else { self.error("expected `and`, `or` or `)`") };
        }
        match field {
            Some(field) => self.value(field),
            None => self.condition(),
        }
    }

    fn value(&mut self, field: &str) -> Result<Query, KqlError> {
        let Literal { pattern, at, is_null } = self.literal("a value")?;
        if is_null {
            return Err(KqlError { at, reason: "`null` is not a value: write `not FIELD: *`".to_owned() });
        }
        Ok(Query::Is { field: field.to_owned(), value: pattern, at })
    }

    /// Parses a field and its value or list of values.
    fn condition(&mut self) -> Result<Query, KqlError> {
        let Literal { pattern, at, .. } = self.literal("the name of a field")?;
        let refused = |reason: String| Err(KqlError { at, reason });
        self.spaces();
        if self.rest().starts_with(['<', '>']) {
            return self.error("ranges are not supported: Elastic compares keywords as text there");
        }
        if !self.take(':') {
            return refused(format!("`{pattern}` has no field: words in any field are not supported"));
        }
        let Some(field) = pattern.as_text().map(str::to_owned) else {
            return refused(format!("`{pattern}`: wildcards in the name of a field are not supported"));
        };
        self.spaces();
        if self.rest().starts_with('{') {
            return self.error("queries of nested objects are not supported");
        }
        if self.take('(') {
            self.spaces();
            let values = self.combined(Some(&field))?;
            self.spaces();
            return if self.take(')') { Ok(values) } else { self.error("expected `and`, `or` or `)`") };
        }
        self.value(&field)
    }

    fn literal(&mut self, wanted: &str) -> Result<Literal, KqlError> {
        let at = self.at;
        if self.take('"') {
            return self.quoted(at);
        }
        let mut pattern = Pattern::default();
        while let Some(c) = self.rest().chars().next() {
            if c == '\\' {
                let (escaped, length) = self.escaped(true)?;
                escaped.chars().for_each(|c| pattern.push(c));
                self.at += length;
            } else if c == '*' {
                pattern.push_wildcard();
                self.at += 1;
            } else if SPECIAL.contains(&c) || is_keyword(self.rest()) {
                break;
            } else {
                pattern.push(c);
                self.at += c.len_utf8();
            }
        }
        trim(&mut pattern);
        if pattern.0.is_empty() {
            self.at = at;
            return self.error(format!("expected {wanted}"));
        }
        let is_null = self.text[at..self.at].trim() == "null";
        Ok(Literal { pattern, at, is_null })
    }

    /// Parses a text up to its second quote.
    fn quoted(&mut self, at: usize) -> Result<Literal, KqlError> {
        let mut pattern = Pattern::default();
        loop {
            match self.rest().chars().next() {
                None => return Err(KqlError { at, reason: "this text has no second quote".to_owned() }),
                Some('"') => {
                    self.at += 1;
                    return Ok(Literal { pattern, at, is_null: false });
                }
                Some('\\') => {
                    let (escaped, length) = self.escaped(false)?;
                    escaped.chars().for_each(|c| pattern.push(c));
                    self.at += length;
                }
                Some(c) => {
                    pattern.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
    }

    /// Returns the text of an escape sequence, and its length in the query. A backslash before anything else is one.
    fn escaped(&self, unquoted: bool) -> Result<(String, usize), KqlError> {
        let after = &self.rest()[1..];
        let first = after.chars().next();
        let one = |c: char| Ok((c.to_string(), 2));
        match first {
            Some('t') => return one('\t'),
            Some('r') => return one('\r'),
            Some('n') => return one('\n'),
            Some(c @ ('\\' | '"')) => return one(c),
            Some(c) if unquoted && SPECIAL.contains(&c) => return one(c),
            _ => {}
        }
        if let Some(digits) = after.strip_prefix('u').and_then(|rest| rest.get(..4))
            && let Some(c) = u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)
        {
            return Ok((c.to_string(), 6));
        }
        if unquoted && let Some(keyword) = ["or", "and"].into_iter().find(|word| starts_with_word(after, word)) {
            return Ok((after[..keyword.len()].to_owned(), keyword.len() + 1));
        }
        if unquoted {
            return self.error("a backslash must be escaped: `\\\\`");
        }
        Ok(("\\".to_owned(), 1))
    }
}

/// The characters that end an unquoted text, unless a backslash is before them.
const SPECIAL: [char; 10] = ['\\', '(', ')', ':', '<', '>', '"', '*', '{', '}'];

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{a0}')
}

fn leading_spaces(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_space).len()
}

fn starts_with_word(text: &str, word: &str) -> bool {
    text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// Returns the length of spaces, `word` in any case, and spaces at the start of `text`.
fn between_spaces(text: &str, word: &str) -> Option<usize> {
    let before = leading_spaces(text);
    let rest = &text[before..];
    if before == 0 || !starts_with_word(rest, word) {
        return None;
    }
    let after = leading_spaces(&rest[word.len()..]);
    (after > 0).then_some(before + word.len() + after)
}

/// Returns the length of `not` and spaces at the start of `text`.
fn negation(text: &str) -> Option<usize> {
    let after = starts_with_word(text, "not").then(|| leading_spaces(&text[3..]))?;
    (after > 0).then_some(3 + after)
}

fn is_keyword(text: &str) -> bool {
    ["or", "and"].into_iter().any(|word| between_spaces(text, word).is_some()) || negation(text).is_some()
}

/// Removes spaces around an unquoted text.
fn trim(pattern: &mut Pattern) {
    if let Some(PatternPart::Text(text)) = pattern.0.first_mut() {
        *text = text.trim_start().to_owned();
    }
    if let Some(PatternPart::Text(text)) = pattern.0.last_mut() {
        *text = text.trim_end().to_owned();
    }
    pattern.0.retain(|part| !matches!(part, PatternPart::Text(text) if text.is_empty()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a query with a pair of brackets for each operator.
    fn written(query: &Query) -> String {
        let joined = |parts: &[Query], word: &str| {
            format!("({})", parts.iter().map(written).collect::<Vec<_>>().join(&format!(" {word} ")))
        };
        match query {
            Query::And(parts) => joined(parts, "&"),
            Query::Or(parts) => joined(parts, "|"),
            Query::Not(inner) => format!("!{}", written(inner)),
            Query::Is { field, value, .. } => {
                let part = |part: &PatternPart| match part {
                    PatternPart::Text(text) => format!("[{text}]"),
                    PatternPart::Wildcard => "*".to_owned(),
                };
                format!("{field}={}", value.0.iter().map(part).collect::<String>())
            }
        }
    }

    #[test]
    fn operators_quotes_escapes_and_wildcards_are_read_as_in_kibana() {
        for (text, expected) in [
            ("a:b", "a=[b]"),
            ("  a : b  ", "a=[b]"),
            ("a: b and c: d or e: f", "((a=[b] & c=[d]) | e=[f])"),
            ("a: b or c: d and e: f", "(a=[b] | (c=[d] & e=[f]))"),
            ("a: b AND NOT c: d Or e: f", "((a=[b] & !c=[d]) | e=[f])"),
            ("not (a: b or c: d)", "!(a=[b] | c=[d])"),
            ("a: (b or c)", "(a=[b] | a=[c])"),
            ("a: ( b and not c or \"d e\" )", "((a=[b] & !a=[c]) | a=[d e])"),
            ("a: (* and not (x* or \"y\"))", "(a=* & !(a=[x]* | a=[y]))"),
            ("a: *", "a=*"),
            ("a: **", "a=*"),
            ("a: *b*c*", "a=*[b]*[c]*"),
            ("a: \"*\"", "a=[*]"),
            ("a: \\*", "a=[*]"),
            ("a: S3 Browser*", "a=[S3 Browser]*"),
            ("a: *S3 Browser* or a: x", "(a=*[S3 Browser]* | a=[x])"),
            ("a: arn\\:aws\\:iam\\:\\:*", "a=[arn:aws:iam::]*"),
            ("a: \"x \\\"y\\\" \\\\ z\"", "a=[x \"y\" \\ z]"),
            ("a: \"b\\n\\tc\\u00e9\"", "a=[b\n\tc\u{e9}]"),
            ("a: b \\and c", "a=[b and c]"),
            ("a: android or b: nothing", "(a=[android] | b=[nothing])"),
            ("a:b and\n\tc:d", "(a=[b] & c=[d])"),
            ("a: \"\"", "a="),
            ("a: 22 or a: true", "(a=[22] | a=[true])"),
        ] {
            assert_eq!(parse(text).map(|query| written(&query)).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_query_is_refused_with_its_place() {
        let deep = format!("{}a:b{}", "(".repeat(40), ")".repeat(40));
        for (text, at, reason) in [
            ("", 0, "expected the name of a field"),
            ("a:", 2, "expected a value"),
            ("a: b and", 8, "`b and`"),
            ("a: (b or c", 10, "expected `and`, `or` or `)`"),
            ("(a: b", 5, "expected `and`, `or` or `)`"),
            ("a: b)", 4, "expected `and`, `or` or the end"),
            ("a: \"b", 3, "no second quote"),
            ("word", 0, "`word` has no field"),
            ("a: b or word", 8, "`word` has no field"),
            ("a > 5", 2, "ranges"),
            ("a.*: b", 0, "wildcards in the name of a field"),
            ("a: {b: c}", 3, "nested objects"),
            ("a: null", 3, "`null`"),
            ("a: b\\", 4, "a backslash"),
            (&deep, 32, "nests more than 32 deep"),
        ] {
            match parse(text) {
                // A keyword at the very end is text, as in Kibana.
                Ok(query) => assert_eq!((text, written(&query).as_str()), ("a: b and", "a=[b and]")),
                Err(error) => assert!(error.at == at && error.reason.contains(reason), "{text}: {error:?}"),
            }
        }
    }

    #[test]
    fn a_pattern_matches_whole_texts() {
        let value = |text: &str| match parse(&format!("a: {text}")).unwrap() {
            Query::Is { value, .. } => value,
            other => panic!("{other:?}"),
        };
        for (pattern, matching, other) in [
            ("b", "b", "ab"),
            ("b*", "bc\nd", "ab"),
            ("*b", "ab", "bc"),
            ("*b*c", "abbc", "acb"),
            ("\"*\"", "*", "b"),
            ("a.c", "a.c", "abc"),
        ] {
            assert!(value(pattern).matches(matching) && !value(pattern).matches(other), "{pattern}");
        }
        assert!(value("*").is_any() && !value("\"*\"").is_any() && value("a*B").has_upper_case());
    }
}
