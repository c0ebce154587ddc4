//! A TOML file with a rule, and the places of its parts.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::{Spanned, Value};

use crate::error::{Error, RuleErrorKind};
use crate::rule::yaml::{Mark, YamlSource};

/// A file with a rule.
pub(super) struct Document<'s> {
    pub(super) source: YamlSource<'s>,
    rule: BTreeMap<Spanned<String>, Spanned<Value>>,
    metadata: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct File {
    rule: BTreeMap<Spanned<String>, Spanned<Value>>,
    #[serde(default)]
    metadata: BTreeMap<String, Value>,
}

/// The reason why a rule cannot run, and its position in the file, in bytes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Refusal {
    pub(super) kind: RuleErrorKind,
    pub(super) at: usize,
    pub(super) reason: String,
}

impl<'s> Document<'s> {
    /// Reads a file.
    ///
    /// # Errors
    /// It is not valid TOML, or has no table `rule`.
    pub(super) fn read(source: YamlSource<'s>) -> Result<Document<'s>, Error> {
        match toml::from_str::<File>(source.text) {
            Ok(File { rule, metadata }) => Ok(Document { source, rule, metadata }),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let message = format!("invalid TOML of a rule: {}", error.message());
                Err(source.error(mark(source.text, at), &message))
            }
        }
    }

    /// Returns the line and column of a position.
    pub(super) fn mark(&self, at: usize) -> Mark {
        mark(self.source.text, at)
    }

    /// Returns the keys of the rule and their positions.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, usize)> {
        self.rule.keys().map(|key| (key.get_ref().as_str(), key.span().start))
    }

    fn entry(&self, key: &str) -> Option<(&Spanned<String>, &Spanned<Value>)> {
        self.rule.iter().find(|(known, _)| known.get_ref() == key)
    }

    /// Returns the position of a key, or of the start of the file.
    pub(super) fn at(&self, key: &str) -> usize {
        self.entry(key).map_or(0, |(key, _)| key.span().start)
    }

    /// Returns the position of a byte of the query. Escapes in the file move it, so it is that of the key then.
    pub(super) fn at_query(&self, query: &str, at: usize) -> usize {
        let found = self.entry("query").and_then(|(_, value)| {
            let span = value.span();
            Some(span.start + self.source.text.get(span.clone())?.find(query)? + at)
        });
        found.unwrap_or_else(|| self.at("query"))
    }

    /// Returns whether a key is missing, or has an empty value.
    pub(super) fn is_empty(&self, key: &str) -> bool {
        match self.entry(key).map(|(_, value)| value.get_ref()) {
            None => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Table(table)) => table.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(_) => false,
        }
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    /// It has another type.
    pub(super) fn value<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Refusal> {
        let Some((_, value)) = self.entry(key) else { return Ok(None) };
        let wrong = |error: toml::de::Error| self.invalid(key, format!("`{key}`: {}", error.message()));
        value.get_ref().clone().try_into().map(Some).map_err(wrong)
    }

    /// Returns the text of a key.
    ///
    /// # Errors
    /// It is not a text.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Refusal> {
        self.value(key)
    }

    /// Returns the texts of a key that has a list.
    ///
    /// # Errors
    /// It is not a list of texts.
    pub(super) fn list(&self, key: &str) -> Result<Vec<String>, Refusal> {
        Ok(self.value(key)?.unwrap_or_default())
    }

    /// Returns the text of a key that every rule has.
    ///
    /// # Errors
    /// It is missing or not a text.
    pub(super) fn required(&self, key: &str) -> Result<String, Refusal> {
        self.text(key)?.ok_or_else(|| self.invalid(key, format!("`{key}` is missing")))
    }

    /// Returns the rule's maturity: `production`, `development` or `deprecated`.
    pub(super) fn maturity(&self) -> Option<&str> {
        self.metadata.get("maturity").and_then(Value::as_str)
    }

    /// Returns the refusal of something that is wrong.
    pub(super) fn invalid(&self, key: &str, reason: String) -> Refusal {
        Refusal { kind: RuleErrorKind::Invalid, at: self.at(key), reason }
    }

    /// Returns the refusal of something that is not supported.
    pub(super) fn unsupported(&self, key: &str, reason: String) -> Refusal {
        Refusal { kind: RuleErrorKind::Unsupported, at: self.at(key), reason }
    }
}

/// Returns the line and column of a position in bytes.
fn mark(text: &str, at: usize) -> Mark {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Mark { line, column }
}
