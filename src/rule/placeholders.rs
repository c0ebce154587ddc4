//! Values for the placeholders of Sigma rules: `%name%` in a value with the modifier `expand`.

use std::collections::BTreeMap;
use std::path::Path;

use super::yaml::{YamlContent, YamlNode, YamlSource};
use crate::error::Error;
use crate::store;

/// The values of placeholders, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placeholders(BTreeMap<String, Vec<String>>);

/// A value with placeholders cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaceholderError {
    /// The file has no such placeholder, or there is no file.
    #[error("the placeholder `%{0}%` has no values: give them in the file of `--placeholders`")]
    Unknown(String),
    /// The placeholders stand for too many values.
    #[error("the placeholders stand for more than {0} values")]
    TooMany(usize),
}

impl Placeholders {
    /// Reads a YAML file that maps names to a value or a list of values.
    ///
    /// # Errors
    /// The file cannot be read, or is no such mapping.
    pub fn read(file: &Path) -> Result<Placeholders, Error> {
        let text = store::read_named("placeholder file", file, store::SETTINGS_BYTES)?;
        let name = file.display().to_string();
        let source = YamlSource { name: &name, text: &text };
        let document = source.read()?;
        let YamlContent::Map(members) = &document.content else {
            return Err(source.error(document.mark, "placeholders must be a mapping of names to values"));
        };
        let value = |node: &YamlNode| match node.as_text() {
            Some(text) => Ok(text.to_owned()),
            None => Err(source.error(node.mark, "the value of a placeholder must be a text or a list of texts")),
        };
        let mut values = BTreeMap::new();
        for (key, node) in members {
            let texts = match &node.content {
                YamlContent::List(elements) => elements.iter().map(value).collect::<Result<_, _>>()?,
                _ => vec![value(node)?],
            };
            values.insert(key.as_text().unwrap_or_default().to_owned(), texts);
        }
        Ok(Placeholders(values))
    }

    /// Returns the texts that `text` stands for. `\\%` is a percent sign.
    ///
    /// # Errors
    /// A placeholder has no values, or there would be more than `limit` texts.
    pub fn expand(&self, text: &str, limit: usize) -> Result<Vec<String>, PlaceholderError> {
        let mut texts = vec![String::new()];
        let append = |texts: &mut Vec<String>, more: &str| {
            for text in texts {
                text.push_str(more);
            }
        };
        let mut rest = text;
        loop {
            let Some(at) = rest.find(['%', '\\']) else {
                append(&mut texts, rest);
                return Ok(texts);
            };
            let (before, after) = rest.split_at(at);
            append(&mut texts, before);
            if let Some(after) = after.strip_prefix("\\%") {
                append(&mut texts, "%");
                rest = after;
            } else if let Some((name, after)) = after.strip_prefix('%').and_then(|after| after.split_once('%'))
                && !name.is_empty()
                && !name.contains(|c: char| c.is_whitespace() || c == '\\')
            {
                let values = self.0.get(name).ok_or_else(|| PlaceholderError::Unknown(name.to_owned()))?;
                if texts.len() * values.len() > limit {
                    return Err(PlaceholderError::TooMany(limit));
                }
                texts =
                    texts.iter().flat_map(|text| values.iter().map(move |value| format!("{text}{value}"))).collect();
                rest = after;
            } else {
                // A backslash, or a single percent sign.
                let mut letters = after.chars();
                let letter = letters.next().unwrap_or_default();
                append(&mut texts, letter.encode_utf8(&mut [0; 4]));
                rest = letters.as_str();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_their_values() {
        let values = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let placeholders = Placeholders(BTreeMap::from([
            ("admins".to_owned(), values(&["root", "adm*"])),
            ("zone".to_owned(), values(&["a", "b"])),
            ("none".to_owned(), Vec::new()),
        ]));
        for (text, expected) in [
            ("%admins%", &["root", "adm*"][..]),
            ("x-%admins%-%zone%", &["x-root-a", "x-root-b", "x-adm*-a", "x-adm*-b"]),
            ("\\%plain%zone%", &["%plaina", "%plainb"]),
            ("50% of it", &["50% of it"]),
            ("a\\b", &["a\\b"]),
            ("%none%", &[]),
            ("", &[""]),
        ] {
            assert_eq!(placeholders.expand(text, 10).unwrap(), expected, "{text}");
        }
        assert_eq!(placeholders.expand("%other%", 10), Err(PlaceholderError::Unknown("other".to_owned())));
        assert_eq!(placeholders.expand("%zone%%zone%", 3), Err(PlaceholderError::TooMany(3)));
    }
}
