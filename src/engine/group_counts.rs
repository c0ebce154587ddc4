//! Finds matches that no window can count: those of a group with too few other matches around them.
//!
//! Time is divided into spans of one period, so each window lies in two adjacent spans. A table of fixed size has one count for
//! each rule, group and span. Some share a count, and so do duplicates. This makes counts too large and never too small, so
//! only matches are left out that cannot matter.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU32, Ordering};

use arrow::array::{Array as _, AsArray as _, BooleanArray, StringArray};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::execution::memory_pool::MemoryReservation;
use datafusion::execution::runtime_env::RuntimeEnv;
use foldhash::quality::FixedState;

use super::hashed_set::{self, HashedSet};
use super::match_batch::MatchBatch;
use super::match_buffer::reservation;
use crate::sql::match_spec::{EventColumn, ValueId};
use crate::time::Period;

/// The counts take this part of the memory for matches.
const MEMORY_PART: usize = 32;
/// Their least and greatest number.
const COUNTS: [usize; 2] = [1 << 6, 1 << 22];
/// The count from which on no more is counted. It stands for any number.
const MOST: u32 = u32::MAX / 2;
/// Bits for each count: a group has several counts, and a count several matches.
const GROUP_BITS: usize = 1;
const ID_BITS: usize = 8;

/// The number of matches that a finding of a rule needs in one window.
#[derive(Debug, Clone)]
pub struct GroupThreshold {
    /// The index of the rule in the scan.
    pub rule: usize,
    /// The values of its group.
    pub group: Vec<ValueId>,
    /// The time in which the window of a finding lies. Two matches that are a period apart share no window.
    pub period: Period,
    /// The number of matches.
    pub least: u32,
    /// Whether matches that are in no such window decide about others of their group. A group is then left out as a whole or
    /// not at all.
    pub needs_whole_groups: bool,
}

/// Counts of the matches of groups, in fixed memory.
#[derive(Debug)]
pub(super) struct GroupCounts {
    thresholds: Vec<GroupThreshold>,
    counts: Vec<AtomicU32>,
    /// The groups that are needed as a whole and reach their threshold.
    dense_groups: HashedSet,
    /// The identities of matches that are needed, for each rule.
    needed_ids: HashedSet,
    _reservation: MemoryReservation,
}

/// A match of a rule with a threshold.
#[derive(Clone, Copy)]
struct GroupMatch<'t> {
    threshold: &'t GroupThreshold,
    /// The hash of the rule and the group.
    group: u64,
    /// The number of the span of its time.
    span: i64,
    /// Its row in the batch.
    row: usize,
}

impl GroupCounts {
    /// Returns counts in a part of `match_memory`, the bytes of memory for matches. `None` where there is nothing to count, or
    /// the memory is taken.
    pub(super) fn new(
        thresholds: Vec<GroupThreshold>,
        match_memory: usize,
        runtime: &RuntimeEnv,
    ) -> Option<GroupCounts> {
        if thresholds.is_empty() {
            return None;
        }
        let [least, most] = COUNTS;
        let count = (match_memory / MEMORY_PART / size_of::<AtomicU32>()).clamp(least, most);
        let reservation = reservation("counts of groups", runtime);
        let bytes = count * size_of::<AtomicU32>() + count * (GROUP_BITS + ID_BITS) / 8;
        reservation.try_grow(bytes).ok()?;
        Some(GroupCounts {
            thresholds,
            counts: (0..count).map(|_| AtomicU32::new(0)).collect(),
            dense_groups: HashedSet::new(count * GROUP_BITS),
            needed_ids: HashedSet::new(count * ID_BITS),
            _reservation: reservation,
        })
    }

    /// Counts matches of a scan. All have to be counted before the other methods are called.
    pub(super) fn add(&self, batch: &MatchBatch) {
        self.for_each_match(batch, |one| {
            let count = self.count(one.group, one.span);
            // Many threads together exceed it by a few, far from an overflow.
            if count.load(Ordering::SeqCst) < MOST {
                count.fetch_add(1, Ordering::SeqCst);
            }
            // Of the threads that count matches of a group, the one that does so last sees the counts of all others.
            if one.threshold.needs_whole_groups && self.has_enough_around(one) {
                self.dense_groups.insert(one.group);
            }
        });
    }

    /// Returns the indexes of the rules with a threshold.
    pub(super) fn rules(&self) -> impl Iterator<Item = usize> {
        self.thresholds.iter().map(|threshold| threshold.rule)
    }

    /// Notes the identities of the matches in `batch` that a finding may need. Returns the number of the others.
    pub(super) fn note_needed(&self, batch: &MatchBatch) -> usize {
        let ids = batch.event_texts(EventColumn::Id);
        let mut others = 0;
        self.for_each_match(batch, |one| {
            if self.is_dense(one) {
                self.needed_ids.insert(hash_of_id(one, ids));
            } else {
                others += 1;
            }
        });
        others
    }

    /// Returns for each rule with a threshold and matches in `batch` the flags of the rows that a finding may need. The needed
    /// matches of all batches must be noted before.
    ///
    /// A duplicate of a needed match is needed too. If it has another group or time, it may be the one that counts.
    pub(super) fn needed(&self, batch: &MatchBatch) -> Vec<(usize, BooleanArray)> {
        let ids = batch.event_texts(EventColumn::Id);
        let mut flags: HashMap<usize, Vec<bool>> = HashMap::new();
        self.for_each_match(batch, |one| {
            let flags = flags.entry(one.threshold.rule).or_insert_with(|| vec![false; batch.len()]);
            flags[one.row] = self.is_dense(one) || self.needed_ids.contains(hash_of_id(one, ids));
        });
        flags.into_iter().map(|(rule, flags)| (rule, BooleanArray::from(flags))).collect()
    }

    fn for_each_match<'t>(&'t self, batch: &MatchBatch, mut take: impl FnMut(GroupMatch<'t>)) {
        let times = batch.event(EventColumn::Time).as_primitive::<TimestampMicrosecondType>().values();
        // Most rules have one of a few groups.
        let mut groups: HashMap<&[ValueId], Vec<u64>> = HashMap::new();
        for threshold in &self.thresholds {
            let flags = batch.matches_of(threshold.rule);
            if flags.true_count() == 0 {
                continue;
            }
            let groups = groups.entry(&threshold.group).or_insert_with(|| hashes_of_groups(batch, &threshold.group));
            for row in flags.values().set_indices() {
                let group = FixedState::default().hash_one((threshold.rule, groups[row]));
                let span = times[row].div_euclid(threshold.period.micros().max(1));
                take(GroupMatch { threshold, group, span, row });
            }
        }
    }

    fn count(&self, group: u64, span: i64) -> &AtomicU32 {
        &self.counts[hashed_set::index(FixedState::default().hash_one((group, span)), self.counts.len())]
    }

    /// Returns whether two adjacent spans, one of them that of the match, may hold enough matches of its group.
    fn has_enough_around(&self, one: GroupMatch<'_>) -> bool {
        let count_in = |span: i64| self.count(one.group, span).load(Ordering::SeqCst);
        let own = count_in(one.span);
        let is_enough = |adjacent: u32| {
            own >= MOST || adjacent >= MOST || u64::from(own) + u64::from(adjacent) >= u64::from(one.threshold.least)
        };
        is_enough(count_in(one.span - 1)) || is_enough(count_in(one.span + 1))
    }

    /// Returns whether the match may lie in the window of a finding.
    fn is_dense(&self, one: GroupMatch<'_>) -> bool {
        if one.threshold.needs_whole_groups {
            self.dense_groups.contains(one.group)
        } else {
            self.has_enough_around(one)
        }
    }
}

/// Returns for each row the hash of the values of a group. Null is a value.
fn hashes_of_groups(batch: &MatchBatch, group: &[ValueId]) -> Vec<u64> {
    let columns: Vec<&StringArray> = group.iter().map(|id| batch.value(*id).as_string()).collect();
    let hash = |row| {
        let mut hasher = FixedState::default().build_hasher();
        for column in &columns {
            column.is_valid(row).then(|| column.value(row)).hash(&mut hasher);
        }
        hasher.finish()
    };
    (0..batch.len()).map(hash).collect()
}

/// Returns the hash of the rule and the identity of a match.
fn hash_of_id(one: GroupMatch<'_>, ids: &StringArray) -> u64 {
    let id = ids.is_valid(one.row).then(|| ids.value(one.row));
    FixedState::default().hash_one((one.threshold.rule, id))
}
