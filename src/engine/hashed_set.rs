//! Sets of hashes in memory of a fixed size, for many threads at the same time.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of hashes that may also contain others.
#[derive(Debug)]
pub(super) struct HashedSet {
    words: Vec<AtomicU64>,
}

impl HashedSet {
    /// Returns an empty set of so many bits.
    pub(super) fn new(bits: usize) -> HashedSet {
        HashedSet { words: (0..bits.div_ceil(64).max(1)).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Returns the word of a hash, and its two bits there. One operation sets or reads both.
    fn bits_of(&self, hash: u64) -> (&AtomicU64, u64) {
        let bits = (1 << (hash >> 58)) | (1 << (hash >> 52 & 63));
        (&self.words[index(hash, self.words.len())], bits)
    }

    /// Adds a hash. Returns false if it may be there already. Of several threads that add it at once, at most one gets true.
    pub(super) fn insert(&self, hash: u64) -> bool {
        let (word, bits) = self.bits_of(hash);
        word.load(Ordering::Relaxed) & bits != bits && word.fetch_or(bits, Ordering::Relaxed) & bits != bits
    }

    /// Returns whether the set may contain a hash.
    pub(super) fn contains(&self, hash: u64) -> bool {
        let (word, bits) = self.bits_of(hash);
        word.load(Ordering::Relaxed) & bits == bits
    }
}

/// Returns the index of a hash among `length`.
pub(super) fn index(hash: u64, length: usize) -> usize {
    usize::try_from(hash % length.max(1) as u64).unwrap_or_default()
}
