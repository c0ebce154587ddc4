//! Collects the errors of a rule.

use crate::error::{Error, RuleError};

/// Errors of several parts of a rule.
#[derive(Debug, Default)]
pub(in crate::rule) struct RuleErrors(Vec<RuleError>);

impl RuleErrors {
    /// Returns the value, or keeps the errors.
    ///
    /// # Errors
    /// The error is none of a rule.
    pub(in crate::rule) fn keep<T>(&mut self, result: Result<T, Error>) -> Result<Option<T>, Error> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(Error::Rules(more)) => {
                // Some mappings are read for several keys.
                for error in more {
                    if !self.0.contains(&error) {
                        self.0.push(error);
                    }
                }
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }

    /// Returns the number of errors that were kept.
    pub(in crate::rule) fn count(&self) -> usize {
        self.0.len()
    }

    /// Fails with the errors that were kept, by their place.
    pub(in crate::rule) fn none(mut self) -> Result<(), Error> {
        self.0.sort_by_key(|error| (error.line, error.column));
        if self.0.is_empty() { Ok(()) } else { Err(Error::Rules(self.0)) }
    }
}
