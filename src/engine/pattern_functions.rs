//! Regular expressions in SQL. Each is compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::DataType;
use datafusion::common::{exec_datafusion_err, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::prelude::SessionContext;
use regex::{Regex, RegexBuilder};

use super::functions::{register_text_function, truths};
use crate::rule::limits;

/// Registers `matches_pattern(text, pattern)`: whether the pattern is found in the text.
///
/// DataFusion's `regexp_like` compiles its pattern for each batch of rows. A rule with 300 patterns spent nearly all of its
/// time on that.
pub(super) fn register(context: &SessionContext) {
    let known: Mutex<HashMap<String, Arc<Regex>>> = Mutex::default();
    register_text_function(context, "matches_pattern", 1, DataType::Boolean, move |texts, constants| {
        let pattern = constants.first().ok_or_else(|| internal_datafusion_err!("matches_pattern takes a pattern"))?;
        let pattern = compiled(&known, pattern)?;
        truths(&texts, |text| pattern.is_match(text))
    });
}

fn compiled(known: &Mutex<HashMap<String, Arc<Regex>>>, pattern: &str) -> Result<Arc<Regex>> {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = known.get(pattern) {
        return Ok(Arc::clone(regex));
    }
    let regex = RegexBuilder::new(pattern).size_limit(limits::PATTERN_BYTES).build();
    let regex = Arc::new(regex.map_err(|error| exec_datafusion_err!("a regular expression cannot be run: {error}"))?);
    known.insert(pattern.to_owned(), Arc::clone(&regex));
    Ok(regex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_compiled_once() {
        let known = Mutex::default();
        let first = compiled(&known, "a+").unwrap();
        assert!(Arc::ptr_eq(&first, &compiled(&known, "a+").unwrap()));
        assert!(first.is_match("ba") && !compiled(&known, "^a").unwrap().is_match("ba"));
        assert!(compiled(&known, "(").is_err());
    }
}
