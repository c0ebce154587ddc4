//! The exceptions of proposals, as text and as the rules read them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::ValueCondition;
use crate::error::Error;
use crate::rule::Rule;
use crate::rule::exceptions::{Exception, ExceptionFiles};
use crate::text::json;
use crate::time::Instant;

/// The parts of new exceptions that are not conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExceptionDefaults {
    /// Why the events are expected.
    pub reason: String,
    /// Who answers for the exceptions.
    pub owner: String,
    /// The time from which on they apply to no event.
    pub until: Instant,
    /// The name of the file.
    pub file: String,
}

/// Returns ids for new exceptions of a rule, other than those of its exceptions.
fn ids(rule: &Rule, count: usize) -> Vec<String> {
    let known: BTreeSet<&str> = rule.exceptions().iter().map(|exception| exception.id.as_str()).collect();
    let ids = (1..).map(|number| format!("tune.{}.{number}", rule.id)).filter(|id| !known.contains(id.as_str()));
    ids.take(count).collect()
}

/// Returns a file with an exception for each of `conditions`.
///
/// # Errors
/// A text cannot be written as JSON, which is a defect.
pub fn exceptions_file(
    rule: &Rule,
    conditions: &[Vec<ValueCondition>],
    defaults: &ExceptionDefaults,
) -> Result<String, Error> {
    // A JSON string is a YAML string.
    let quoted = |text: &str| json::line(&text).map_err(|error| Error::Internal(error.to_string()));
    let mut lines = vec!["Exceptions:".to_owned()];
    for (id, conditions) in ids(rule, conditions.len()).iter().zip(conditions) {
        lines.push(format!("  - ID: {}\n    Rules: [{}]\n    When:", quoted(id)?, quoted(&rule.id)?));
        for ValueCondition { field, value } in conditions {
            let keys = field.iter().map(|key| quoted(key)).collect::<Result<Vec<_>, Error>>()?;
            let key = match keys.as_slice() {
                [key] => format!("Key: {key}"),
                keys => format!("DeepKey: [{}]", keys.join(", ")),
            };
            lines.push(format!("      - {{{key}, Condition: Equals, Value: {}}}", quoted(value)?));
        }
        let (reason, owner) = (quoted(&defaults.reason)?, quoted(&defaults.owner)?);
        let until = quoted(&defaults.until.to_string())?;
        lines.push(format!("    Reason: {reason}\n    Owner: {owner}\n    Until: {until}"));
    }
    Ok(lines.join("\n") + "\n")
}

/// Returns the exceptions that [`exceptions_file`] writes, as a rule reads them.
pub(super) fn exceptions(
    rule: &Rule,
    conditions: &[Vec<ValueCondition>],
    defaults: &ExceptionDefaults,
) -> Result<Vec<Arc<Exception>>, Error> {
    if conditions.is_empty() {
        return Ok(Vec::new());
    }
    let text = exceptions_file(rule, conditions, defaults)?;
    let files = ExceptionFiles::of_text(&PathBuf::from(&defaults.file), text)?;
    Ok(files.exceptions()?.exceptions)
}
