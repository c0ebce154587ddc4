//! Rules that arrive as text, compiled once for all batches of a scan.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::Result;

/// Number of texts whose compiled form a cache keeps: those of the scans that run at the same time.
const CAPACITY: usize = 16;

/// The compiled forms of texts. The oldest is dropped first.
pub(super) struct CompiledCache<T> {
    entries: Mutex<VecDeque<(String, Arc<T>)>>,
}

impl<T> CompiledCache<T> {
    /// Returns an empty cache.
    pub(super) const fn new() -> CompiledCache<T> {
        CompiledCache { entries: Mutex::new(VecDeque::new()) }
    }

    /// Returns the compiled form of `text`, which `compile` makes at the first call.
    ///
    /// # Errors
    /// Those of `compile`.
    pub(super) fn get(&self, text: &str, compile: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, compiled)) = entries.iter().find(|(known, _)| known == text) {
            return Ok(Arc::clone(compiled));
        }
        let compiled = Arc::new(compile()?);
        if entries.len() >= CAPACITY {
            entries.pop_front();
        }
        entries.push_back((text.to_owned(), Arc::clone(&compiled)));
        Ok(compiled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_compiled_once_until_many_others_were() {
        let cache = CompiledCache::new();
        let mut compiled = Vec::new();
        let mut get = |text: &str| {
            *cache
                .get(text, || {
                    compiled.push(text.to_owned());
                    Ok(text.len())
                })
                .unwrap()
        };
        assert_eq!([get("one"), get("three"), get("one")], [3, 5, 3]);
        let others: Vec<String> = (0..CAPACITY).map(|number| format!("other {number}")).collect();
        for text in &others {
            assert_eq!(get(text), text.len());
        }
        assert_eq!(get("one"), 3);
        assert_eq!(compiled.iter().filter(|text| *text == "one").count(), 2);
        assert_eq!(compiled.len(), 3 + CAPACITY);
    }
}
