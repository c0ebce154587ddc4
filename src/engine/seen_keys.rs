//! The keys that matches had before a time, by their hashes.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::{Array as _, StringArray};

use super::functions::hash_of_texts;
use crate::time::Instant;

/// The hash of a key: of the values of a rule's group, then of those of `New`. The first half of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash(pub [u8; 16]);

impl KeyHash {
    /// Returns the hash of a key.
    pub fn of<T: AsRef<str>>(key: impl IntoIterator<Item = Option<T>>) -> KeyHash {
        let hash = hash_of_texts(key);
        KeyHash(hash.first_chunk().copied().unwrap_or_default())
    }
}

/// For each key, by its hash, the time of the last match that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastSeen {
    /// Each hash once, ascending.
    keys: Vec<(KeyHash, Instant)>,
}

impl LastSeen {
    /// The number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (KeyHash, Instant)> {
        self.keys.iter().copied()
    }

    /// Adds keys of other matches of the same rule.
    pub fn add(&mut self, others: impl IntoIterator<Item = (KeyHash, Instant)>) {
        self.keys.extend(others);
        self.keys.sort_by_key(|(key, last)| (*key, Reverse(*last)));
        self.keys.dedup_by_key(|(key, _)| *key);
    }

    /// Leaves out the keys whose last match was before `from`.
    pub fn forget_before(&mut self, from: Instant) {
        self.keys.retain(|(_, last)| *last >= from);
    }

    /// Returns the time of the last match with this key.
    pub fn get(&self, key: &KeyHash) -> Option<Instant> {
        let found = self.keys.binary_search_by_key(key, |(key, _)| *key).ok()?;
        Some(self.keys[found].1)
    }
}

impl FromIterator<(KeyHash, Instant)> for LastSeen {
    fn from_iter<I: IntoIterator<Item = (KeyHash, Instant)>>(keys: I) -> LastSeen {
        let mut last = LastSeen::default();
        last.add(keys);
        last
    }
}

/// The keys of the matches of a rule before a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenKeys {
    /// The time. Matches from then on are not counted in.
    pub before: Instant,
    /// Its keys.
    pub last: Arc<LastSeen>,
}

/// Returns the key in a row of the columns of its values.
pub fn key_in<'c>(
    columns: impl IntoIterator<Item = &'c &'c StringArray>,
    row: usize,
) -> impl Iterator<Item = Option<&'c str>> {
    columns.into_iter().map(move |values| values.is_valid(row).then(|| values.value(row)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_last_time_of_a_key_counts() {
        let key = |text: &str| KeyHash::of([Some(text), None]);
        let time = Instant::from_micros;
        let mut seen = LastSeen::default();
        seen.add([(key("b"), time(7)), (key("a"), time(5)), (key("a"), time(9)), (key("a"), time(4))]);
        seen.add([(key("a"), time(8)), (key("b"), time(20)), (key("c"), time(1))]);
        let found = |seen: &LastSeen| ["a", "b", "c", "d"].map(|text| seen.get(&key(text)).map(Instant::micros));
        assert_eq!((seen.len(), found(&seen)), (3, [Some(9), Some(20), Some(1), None]));
        seen.forget_before(time(9));
        assert_eq!((seen.len(), found(&seen)), (2, [Some(9), Some(20), None, None]));
        seen.forget_before(time(21));
        assert!(seen.is_empty());
    }

    #[test]
    fn different_keys_have_different_hashes() {
        let keys = [
            vec![Some("ab"), Some("c")],
            vec![Some("a"), Some("bc")],
            vec![Some("abc")],
            vec![Some("abc"), None],
            vec![None, Some("abc")],
            vec![Some("abc"), Some("")],
        ];
        let hashes: HashSet<KeyHash> = keys.iter().map(|key| KeyHash::of(key.iter().copied())).collect();
        assert_eq!(hashes.len(), keys.len());
    }
}
