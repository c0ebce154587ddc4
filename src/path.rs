//! Paths to values in a JSON document: keys, list indexes and `[*]`, as in `JMESPath`.
//! Grammar: <https://jmespath.org/specification.html>. Only identifiers, indexes and list projections are supported.

use std::fmt;
use std::str::FromStr;

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// To the member with this key. If there is no such member, to one whose key differs only in case.
    Key(String),
    /// To the element at this index of a list. A negative index counts from the end.
    Index(i64),
    /// To every element of a list. The results of the next steps become a list.
    Every,
    /// To every element of a list, or to a value that is not a list. The results of the next steps become a list.
    /// Written `[]`, in SQL only.
    Through,
    /// To every string, number and boolean within a value, which become a list. Written `[**]`, in SQL only.
    Leaves,
}

/// A path: the steps from the top of a document to a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// Returns the path to the top-level member `key`.
    pub fn of_key(key: &str) -> Path {
        Path(vec![Step::Key(key.to_owned())])
    }

    /// Returns the key, if the path is a single key.
    pub fn as_key(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Step::Key(key)] => Some(key),
            _ => None,
        }
    }
}

impl From<Vec<Step>> for Path {
    fn from(steps: Vec<Step>) -> Path {
        Path(steps)
    }
}

/// The reason why a text is not a [`Path`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A key is missing before or after a dot.
    #[error("a key must not be empty")]
    EmptyKey,
    /// Keys without a dot between them.
    #[error("keys are joined by dots")]
    NoDot,
    /// A `[` without a `]`.
    #[error("a `[` is not closed")]
    OpenBracket,
    /// Brackets around something else than an index or `*`.
    #[error("expected an index or `*` within [ ]")]
    Index,
    /// A `*` in place of a key.
    #[error("`*` for every member is not supported; `[*]` is every element of a list")]
    EveryMember,
    /// A key with a bracket or a quote, without quotes around it.
    #[error("a key with ] or \" in it must be quoted")]
    Unquoted,
    /// A quoted key without its second quote.
    #[error("a quoted key is not closed")]
    OpenQuote,
}

impl FromStr for Path {
    type Err = PathError;

    /// Reads `a.b[0].c`, `a[*].b`, `a."odd.key"`.
    fn from_str(text: &str) -> Result<Path, PathError> {
        let path = Path::of_sql(text)?;
        let is_of_sql = |step: &Step| matches!(step, Step::Through | Step::Leaves);
        if path.0.iter().any(is_of_sql) { Err(PathError::Index) } else { Ok(path) }
    }
}

impl Path {
    /// Reads a path in the SQL of rules, which may have every step.
    ///
    /// # Errors
    /// The text is not a path.
    pub fn of_sql(text: &str) -> Result<Path, PathError> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[') {
                let (inner, after) = bracket.split_once(']').ok_or(PathError::OpenBracket)?;
                steps.push(match inner.trim() {
                    "*" => Step::Every,
                    "" => Step::Through,
                    "**" => Step::Leaves,
                    index => Step::Index(index.parse().map_err(|_| PathError::Index)?),
                });
                rest = after;
            } else {
                if !steps.is_empty() {
                    rest = rest.strip_prefix('.').ok_or(PathError::NoDot)?;
                }
                let (key, after) = next_key(rest)?;
                steps.push(Step::Key(key));
                rest = after;
            }
        }
        if steps.is_empty() { Err(PathError::EmptyKey) } else { Ok(Path(steps)) }
    }
}

fn next_key(text: &str) -> Result<(String, &str), PathError> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (key, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
        return match key {
            "" => Err(PathError::EmptyKey),
            "*" => Err(PathError::EveryMember),
            _ if key.contains([']', '"']) => Err(PathError::Unquoted),
            _ => Ok((key.to_owned(), rest)),
        };
    };
    let mut key = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((key, &quoted[at + 1..])),
            '\\' => key.extend(letters.next().map(|(_, escaped)| escaped)),
            _ => key.push(letter),
        }
    }
    Err(PathError::OpenQuote)
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => {
                    let dot = if index == 0 { "" } else { "." };
                    if key.is_empty() || key == "*" || key.contains(['.', '[', ']', '"', '\\']) {
                        write!(f, "{dot}\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""))?;
                    } else {
                        write!(f, "{dot}{key}")?;
                    }
                }
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Every => f.write_str("[*]")?,
                Step::Through => f.write_str("[]")?,
                Step::Leaves => f.write_str("[**]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_read_as_it_is_written() {
        let key = |key: &str| Step::Key(key.to_owned());
        for (text, steps) in [
            ("eventName", vec![key("eventName")]),
            ("a.b[0].c", vec![key("a"), key("b"), Step::Index(0), key("c")]),
            ("a[*].b[-1]", vec![key("a"), Step::Every, key("b"), Step::Index(-1)]),
            ("[*].x-y", vec![Step::Every, key("x-y")]),
            (r#"a."b.c"."d\"\\e""#, vec![key("a"), key("b.c"), key("d\"\\e")]),
        ] {
            let path: Path = text.parse().unwrap();
            assert_eq!(path.0, steps);
            assert_eq!(path.to_string(), text);
        }
        for text in ["a[].b[]", "[].b", "a[**]", "[**]"] {
            assert_eq!(Path::of_sql(text).unwrap().to_string(), text);
            assert_eq!(text.parse::<Path>(), Err(PathError::Index));
        }
        for wrong in ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[0]b", "a.*", "a]", "a.\"b", "a[]"] {
            assert!(wrong.parse::<Path>().is_err(), "{wrong}");
        }
    }
}
