//! Finds repeats: matches that are not new, and that no other match needs to show that it is not new either.
//!
//! Time is divided into spans as long as the history. Of the matches with one key in one span, only the first can be new, and
//! only if the last one of the span before is too long ago. Several may be the first, at one time. All others are left out:
//! what stays is new, so it needs no earlier match as evidence.
//!
//! Of several records with one eventID only one counts, and which one is known later. They are never left out. They need the
//! other matches with their key as evidence, so of such a key the first and the last match of each span stay. The same holds for
//! all keys if some have no room in memory.
//!
//! It may be known which keys were seen before what a rule reads. The last match with such a key is evidence like one of the span
//! before.
//!
//! A reader that needs only the last match of each key has one span. The last match in it stays.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use arrow::array::{Array as _, AsArray as _, BooleanArray, StringArray};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::error::Result;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::runtime_env::RuntimeEnv;
use foldhash::quality::FixedState;

use super::hashed_set::HashedSet;
use super::match_batch::MatchBatch;
use super::match_buffer::reservation;
use super::matcher;
use super::seen_keys::{KeyHash, SeenKeys, key_in};
use crate::sql::match_spec::{EventColumn, ValueId};
use crate::time::{Instant, Period, Range};

/// Each of the sets of identities takes this part of the memory for matches.
const ID_MEMORY_PART: usize = 32;
/// Their least and greatest number of bits.
const ID_BITS: [usize; 2] = [1 << 9, 1 << 27];
/// Bytes of a key in a map: hash, two times, and room to grow.
const BYTES_OF_ENTRY: usize = 96;
/// Bytes that are reserved at a time.
const RESERVED_BYTES: usize = 1 << 20;
/// The span of the entry that shows that a key has matches with duplicates.
const SPAN_OF_DOUBLED: i64 = i64::MIN;
/// An odd number with many bits, by which the spans of a key are kept apart.
const SPAN_FACTOR: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;

/// The question that the matches of a rule with one key answer.
#[derive(Debug, Clone, Copy)]
pub enum KeyQuestion {
    /// The new ones are looked for. No other match with their key precedes them within this time.
    New(Period),
    /// The time of the last one.
    Last,
}

/// A rule whose matches have keys.
#[derive(Debug, Clone)]
pub struct KeyedRule {
    /// The index of the rule in the scan.
    pub rule: usize,
    /// The values of a key. Those of the group come first, and those of `New` after them.
    pub key: Vec<ValueId>,
    /// The question that its keys answer.
    pub question: KeyQuestion,
    /// The times of matches that the rule sees.
    pub read: Range,
    /// The keys that were seen before these times, if they are known.
    pub seen: Option<SeenKeys>,
}

/// The identities of all matches of a scan, by which repeats are found.
#[derive(Debug)]
pub(super) struct Repeats {
    rules: Vec<KeyedRule>,
    hashers: [RandomState; 2],
    /// The identities of matches.
    ids: HashedSet,
    /// Those of two or more matches.
    doubled_ids: HashedSet,
    /// Bytes that the keys may take.
    key_memory: usize,
    _reservation: MemoryReservation,
}

/// The first and the last match of each key in each span.
pub(super) struct KeySpans {
    spans: HashMap<SpanHash, KeySpan, FixedState>,
    /// Whether some keys are left out for want of room.
    is_full: bool,
    /// Bytes that the keys may take.
    limit: usize,
    /// The number of matches in them. Matches with duplicates do not count.
    matches: usize,
    reservations: Vec<MemoryReservation>,
}

/// The hash of a rule, the values of a key, and a span. With a random seed and 128 bits, no two keys share one: among a billion
/// keys the odds are one to 10²⁰.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct SpanHash(u128);

/// The times of the first and the last match in a span.
#[derive(Debug, Clone, Copy)]
struct KeySpan {
    first: i64,
    last: i64,
}

/// A match of a rule.
struct KeyedMatch<'r> {
    rule: &'r KeyedRule,
    /// The columns of the values of its key.
    values: &'r [&'r StringArray],
    row: usize,
    time: i64,
    /// Whether others may have its identity.
    is_doubled: bool,
    /// The hash of its rule and key, in no span yet.
    key: SpanHash,
}

impl SpanHash {
    fn in_span(self, span: i64) -> SpanHash {
        SpanHash(self.0.wrapping_add(u128::from(span.cast_unsigned()).wrapping_mul(SPAN_FACTOR)))
    }
}

impl KeyedMatch<'_> {
    /// Returns whether its key was seen before what the rule reads, at `from` or later.
    fn was_seen_since(&self, from: i64) -> bool {
        let last = self.rule.seen.as_ref().and_then(|seen| seen.last.get(&KeyHash::of(key_in(self.values, self.row))));
        last.is_some_and(|last| last.micros() >= from)
    }
}

impl KeyedRule {
    /// Returns the number of the span of a time.
    fn span_of(&self, time: i64) -> i64 {
        match self.question {
            KeyQuestion::New(history) => time.div_euclid(history.micros().max(1)),
            KeyQuestion::Last => 0,
        }
    }
}

impl Repeats {
    /// Returns the identities of no matches yet, in a part of `match_memory`, the bytes of memory for matches. `None` where no
    /// rule has keys, or the memory is taken.
    pub(super) fn new(rules: Vec<KeyedRule>, match_memory: usize, runtime: &RuntimeEnv) -> Option<Repeats> {
        if rules.is_empty() {
            return None;
        }
        let [least, most] = ID_BITS;
        let bits = (match_memory / ID_MEMORY_PART * 8).clamp(least, most);
        let reservation = reservation("identities of matches", runtime);
        reservation.try_grow(bits / 8 * 2).ok()?;
        Some(Repeats {
            rules,
            hashers: Default::default(),
            ids: HashedSet::new(bits),
            doubled_ids: HashedSet::new(bits),
            key_memory: match_memory,
            _reservation: reservation,
        })
    }

    /// Returns the indexes of the rules with keys.
    pub(super) fn rules(&self) -> impl Iterator<Item = usize> {
        self.rules.iter().map(|rule| rule.rule)
    }

    /// Notes the identities of matches of a scan. All have to be noted before the other methods are called.
    ///
    /// # Errors
    /// The flags of the rules have different lengths.
    pub(super) fn add(&self, batch: &MatchBatch) -> Result<()> {
        let ids = batch.event_texts(EventColumn::Id);
        let flags: Vec<BooleanArray> = self.rules().map(|rule| batch.matches_of(rule).clone()).collect();
        for row in matcher::any(&flags, batch.len())?.values().set_indices() {
            let hash = hash_of_id(ids, row);
            if !self.ids.insert(hash) {
                self.doubled_ids.insert(hash);
            }
        }
        Ok(())
    }

    /// Returns no keys yet, for one of `parts` parts of the matches.
    pub(super) fn spans(&self, parts: usize, runtime: &RuntimeEnv) -> KeySpans {
        KeySpans {
            spans: HashMap::default(),
            is_full: false,
            limit: self.key_memory / parts.max(1),
            matches: 0,
            reservations: vec![reservation("keys of matches", runtime)],
        }
    }

    /// Adds the matches in `batch` to `spans`.
    pub(super) fn note(&self, spans: &mut KeySpans, batch: &MatchBatch) {
        self.for_each_match(batch, |one| {
            let times = KeySpan { first: one.time, last: one.time };
            if one.is_doubled {
                spans.add(one.key.in_span(SPAN_OF_DOUBLED), times);
            } else if spans.add(one.key.in_span(one.rule.span_of(one.time)), times) {
                spans.matches += 1;
            }
        });
    }

    /// Returns for each rule with keys the flags of its matches in `batch` that decide something. `spans` has the matches of all
    /// batches.
    pub(super) fn decisive(&self, spans: &KeySpans, batch: &MatchBatch) -> Vec<(usize, BooleanArray)> {
        let mut flags: HashMap<usize, Vec<bool>> = HashMap::new();
        self.for_each_match(batch, |one| {
            if one.is_doubled || spans.is_decisive(&one) {
                flags.entry(one.rule.rule).or_insert_with(|| vec![false; batch.len()])[one.row] = true;
            }
        });
        let mut flags_of = |rule| flags.remove(&rule).unwrap_or_else(|| vec![false; batch.len()]);
        self.rules().map(|rule| (rule, BooleanArray::from(flags_of(rule)))).collect()
    }

    /// Returns about how many matches in `spans` decide nothing.
    pub(super) fn needless(&self, spans: &KeySpans) -> usize {
        // Most keys are known then, and not even the first match of a span is kept.
        let knows_keys = |rule: &KeyedRule| rule.seen.as_ref().is_some_and(|seen| !seen.last.is_empty());
        let is_any_known = !spans.is_full && self.rules.iter().any(knows_keys);
        spans.matches.saturating_sub(if is_any_known { 0 } else { spans.spans.len() * 2 })
    }

    fn hash(&self, bytes: &[u8]) -> SpanHash {
        let [high, low] = self.hashers.each_ref().map(|state| {
            let mut hasher = state.build_hasher();
            hasher.write(bytes);
            u128::from(hasher.finish())
        });
        SpanHash(high << 64 | low)
    }

    /// Calls `take` with each match in `batch` that its rule sees.
    fn for_each_match(&self, batch: &MatchBatch, mut take: impl FnMut(KeyedMatch<'_>)) {
        let times = batch.event(EventColumn::Time).as_primitive::<TimestampMicrosecondType>().values();
        let ids = batch.event_texts(EventColumn::Id);
        let mut bytes = Vec::new();
        for rule in &self.rules {
            let flags = batch.matches_of(rule.rule);
            if flags.true_count() == 0 {
                continue;
            }
            let columns: Vec<&StringArray> = rule.key.iter().map(|id| batch.value(*id).as_string()).collect();
            for row in flags.values().set_indices() {
                let time = times[row];
                if rule.read.contains(Instant::from_micros(time)) {
                    write_key(&mut bytes, rule, &columns, row);
                    take(KeyedMatch {
                        rule,
                        values: &columns,
                        row,
                        time,
                        is_doubled: self.doubled_ids.contains(hash_of_id(ids, row)),
                        key: self.hash(&bytes),
                    });
                }
            }
        }
    }
}

impl KeySpans {
    /// Adds a match. Returns whether there was room.
    fn add(&mut self, key: SpanHash, times: KeySpan) -> bool {
        if let Some(known) = self.spans.get_mut(&key) {
            known.add(times);
        } else if self.has_room() {
            self.spans.insert(key, times);
        } else {
            self.is_full = true;
            return false;
        }
        true
    }

    /// Takes in the keys of another part of the matches.
    pub(super) fn merge(&mut self, other: KeySpans) {
        for (key, times) in other.spans {
            self.spans.entry(key).and_modify(|known| known.add(times)).or_insert(times);
        }
        self.is_full |= other.is_full;
        self.matches += other.matches;
        self.reservations.extend(other.reservations);
    }

    /// Returns whether a match whose identity is its own decides something.
    fn is_decisive(&self, one: &KeyedMatch<'_>) -> bool {
        let (span, time) = (one.rule.span_of(one.time), one.time);
        let times_in = |span| self.spans.get(&one.key.in_span(span));
        let Some(KeySpan { first, last }) = times_in(span).copied() else {
            return true;
        };
        if first < time && time < last {
            return false;
        }
        if self.is_full || times_in(SPAN_OF_DOUBLED).is_some() {
            return true;
        }
        match one.rule.question {
            KeyQuestion::New(history) => {
                let (before, from) = (times_in(span - 1), time - history.micros());
                time == first && before.is_none_or(|before| before.last < from) && !one.was_seen_since(from)
            }
            KeyQuestion::Last => time == last,
        }
    }

    /// Returns whether there is room for one more key. If there is none once, there is none from then on.
    fn has_room(&mut self) -> bool {
        let Some(reservation) = self.reservations.first().filter(|_| !self.is_full) else {
            return false;
        };
        let needed = (self.spans.len() + 1) * BYTES_OF_ENTRY;
        needed <= self.limit && (needed <= reservation.size() || reservation.try_grow(RESERVED_BYTES).is_ok())
    }
}

impl KeySpan {
    fn add(&mut self, other: KeySpan) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }
}

/// Writes the rule and the values of a match to `bytes`. Null is a value.
fn write_key(bytes: &mut Vec<u8>, rule: &KeyedRule, columns: &[&StringArray], row: usize) {
    bytes.clear();
    bytes.extend((rule.rule as u64).to_le_bytes());
    for value in key_in(columns, row) {
        bytes.extend(value.map_or(u64::MAX, |value| value.len() as u64).to_le_bytes());
        bytes.extend(value.unwrap_or_default().as_bytes());
    }
}

/// Returns the hash of the identity in a row.
fn hash_of_id(ids: &StringArray, row: usize) -> u64 {
    FixedState::default().hash_one(ids.is_valid(row).then(|| ids.value(row)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(limit: usize, matches: &[(u128, i64)]) -> KeySpans {
        let mut spans = KeySpans {
            spans: HashMap::default(),
            is_full: false,
            limit,
            matches: 0,
            reservations: vec![reservation("test", &RuntimeEnv::default())],
        };
        for (key, time) in matches {
            spans.add(SpanHash(*key), KeySpan { first: *time, last: *time });
        }
        spans
    }

    #[test]
    fn parts_of_the_matches_are_joined() {
        let mut all = spans(1 << 20, &[(1, 50), (1, 60), (2, 10)]);
        all.merge(spans(1 << 20, &[(1, 40), (3, 7), (1, 55)]));
        let times = |all: &KeySpans, key| all.spans.get(&SpanHash(key)).map(|times| (times.first, times.last));
        assert_eq!([1, 2, 3, 4].map(|key| times(&all, key)), [Some((40, 60)), Some((10, 10)), Some((7, 7)), None]);
        assert!(!all.is_full);
        all.merge(spans(BYTES_OF_ENTRY, &[(3, 9), (4, 1), (3, 8)]));
        assert!(all.is_full, "a part had no room for a key");
        assert_eq!([3, 4].map(|key| times(&all, key)), [Some((7, 9)), None]);
    }
}
