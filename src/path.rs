//! Where a value lies in a JSON document: keys, list indexes and `[*]`, written and read as in `JMESPath`.
//!
//! Grammar: <https://jmespath.org/specification.html>, of which this is the part that names one place.

use std::fmt;
use std::str::FromStr;

/// One step down into a document.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// To the member with this key; where none has it exactly, to one whose key differs only in case.
    Key(String),
    /// To the element at this index of a list; negative ones count from the end.
    Index(i64),
    /// To every element of a list: what the steps after it find in each becomes a list.
    Every,
}

/// The steps from the top of a document to a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Path(pub Vec<Step>);

impl Path {
    /// The path to the member `key` of the document itself.
    pub fn of_key(key: &str) -> Path {
        Path(vec![Step::Key(key.to_owned())])
    }

    /// The key, where the path is a single one.
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

impl FromStr for Path {
    type Err = String;

    /// Reads `a.b[0].c`, `a[*].b`, `a."odd.key"`.
    ///
    /// # Errors
    /// What is wrong, in words.
    fn from_str(text: &str) -> Result<Path, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[') {
                let (inner, after) = bracket.split_once(']').ok_or("a `[` is not closed")?;
                steps.push(match inner.trim() {
                    "*" => Step::Every,
                    index => Step::Index(index.parse().map_err(|_| "within [ ] stands an index or `*`")?),
                });
                rest = after;
            } else {
                if !steps.is_empty() {
                    rest = rest.strip_prefix('.').ok_or("keys are joined by dots")?;
                }
                let (key, after) = next_key(rest)?;
                steps.push(Step::Key(key));
                rest = after;
            }
        }
        if steps.is_empty() { Err("a key must not be empty".to_owned()) } else { Ok(Path(steps)) }
    }
}

fn next_key(text: &str) -> Result<(String, &str), String> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (key, rest) = text.split_at(text.find(['.', '[']).unwrap_or(text.len()));
        return match key {
            "" => Err("a key must not be empty".to_owned()),
            "*" => Err("`*` for every member is not supported; `[*]` is every element of a list".to_owned()),
            _ if key.contains([']', '"']) => Err("a key with ] or \" in it must be quoted".to_owned()),
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
    Err("a quoted key is not closed".to_owned())
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
        for wrong in ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a[0]b", "a.*", "a]", "a.\"b", "a[]"] {
            assert!(wrong.parse::<Path>().is_err(), "{wrong}");
        }
    }
}
