//! The keys that matches had before a time. With them a hunt from that time on finds what is new without the history before it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch, StringArray};
use futures::TryStreamExt as _;

use super::known_data::KnownData;
use super::match_origins::ScannedMatches;
use super::match_table::{MatchTable, MatchedRows as _};
use super::matched::ScannedRules;
use super::scan_undamaged;
use super::windows::WindowRule;
use crate::engine::Engine;
use crate::engine::match_batch::MatchBatch;
use crate::engine::match_scan::{BufferedMatches, KeyQuestion, MatchScan};
use crate::engine::seen_keys::{KeyHash, LastSeen, SeenKeys, key_in};
use crate::error::Error;
use crate::named_columns::{self, MissingColumn};
use crate::rule::Rule;
use crate::sql::match_spec::ValueId;
use crate::sql::{self, columns};
use crate::table::{SnapshotRecords, Table};
use crate::time::{Instant, Period, Range};

/// A key that a match of a scan has, and that was seen before.
#[derive(Debug)]
pub(super) struct KnownKey {
    /// The values of the rule's group, then those of `New`.
    pub(super) values: Vec<Option<String>>,
    /// The time of the last match that had it before.
    pub(super) last: Instant,
}

/// The keys of the matches of a scan that were seen before what their rule reads.
#[derive(Debug, Default)]
pub(super) struct KnownKeys {
    /// By the index of the rule.
    keys: HashMap<usize, Vec<KnownKey>>,
}

impl KnownKeys {
    /// Returns those of `matches`. `seen` has, for each rule of `table`, the keys that were seen, if they are known.
    ///
    /// # Errors
    /// A file of matches cannot be read.
    pub(super) async fn of(
        table: &MatchTable,
        seen: &[Option<SeenKeys>],
        matches: &Arc<BufferedMatches>,
    ) -> Result<KnownKeys, Error> {
        let with_seen = |(index, (rule, seen)): (usize, (&WindowRule, &Option<SeenKeys>))| {
            Some(RuleKnownKeys::new(index, rule.key()?, rule.newness?.history, seen.clone()?))
        };
        let mut rules: Vec<RuleKnownKeys> = table.rules().iter().zip(seen).enumerate().filter_map(with_seen).collect();
        if !rules.is_empty() {
            let failed = |error| Error::query("the keys of matches", error);
            let mut batches = std::pin::pin!(matches.partition(0, 1));
            while let Some(batch) = batches.try_next().await.map_err(failed)? {
                for rule in &mut rules {
                    rule.add(&batch);
                }
            }
        }
        Ok(KnownKeys { keys: rules.into_iter().map(|rule| (rule.index, rule.known)).collect() })
    }

    /// Those of the rule with this index.
    pub(super) fn of_rule(&self, index: usize) -> &[KnownKey] {
        self.keys.get(&index).map_or(&[], Vec::as_slice)
    }
}

/// Looks up the keys of the matches of one rule.
struct RuleKnownKeys {
    index: usize,
    /// The values of its keys.
    key: Vec<ValueId>,
    seen: Arc<LastSeen>,
    /// Keys seen last before this time do not matter.
    needed_from: Instant,
    looked_up: HashSet<KeyHash>,
    known: Vec<KnownKey>,
}

impl RuleKnownKeys {
    fn new(index: usize, key: Vec<ValueId>, history: Period, SeenKeys { before, last }: SeenKeys) -> RuleKnownKeys {
        let needed_from = before - history.micros();
        RuleKnownKeys { index, key, seen: last, needed_from, looked_up: HashSet::new(), known: Vec::new() }
    }

    fn add(&mut self, batch: &MatchBatch) {
        let columns: Vec<&StringArray> = self.key.iter().map(|id| batch.value(*id).as_string()).collect();
        for row in batch.matches_of(self.index).values().set_indices() {
            let hash = KeyHash::of(key_in(&columns, row));
            let last = self.seen.get(&hash).filter(|last| *last >= self.needed_from);
            if let Some(last) = last.filter(|_| self.looked_up.insert(hash)) {
                let values = key_in(&columns, row).map(|value| value.map(str::to_owned)).collect();
                self.known.push(KnownKey { values, last });
            }
        }
    }
}

/// Reads the keys of the matches of each of `rules`, whose matches must be new, with a time in `range`. Returns for each rule the hash
/// of each key, and the time of the last match with this key.
///
/// # Errors
/// The table lacks a field that a rule needs, or cannot be read.
pub async fn seen_keys(
    engine: &Engine,
    table: &dyn Table,
    rules: &[Rule],
    range: Range,
) -> Result<Vec<Vec<(KeyHash, Instant)>>, Error> {
    super::check(engine, table, rules, range).await?;
    let indexes: Vec<usize> = (0..rules.len()).collect();
    let reads = vec![range; rules.len()];
    let scanned = ScannedRules::new(rules, &indexes, &reads, range, &KnownData::default());
    let scanned_rules: Vec<&Rule> = rules.iter().collect();
    let scan = async |records: SnapshotRecords| keys_of(engine, &scanned, &records).await;
    Ok(scan_undamaged(engine, table, range, &scanned_rules, scan).await?.0)
}

async fn keys_of(
    engine: &Engine,
    scanned: &ScannedRules<'_>,
    records: &SnapshotRecords,
) -> Result<Vec<Vec<(KeyHash, Instant)>>, Error> {
    let failed = |error| Error::query("the keys of matches", error);
    let scan = MatchScan::new(engine, Arc::clone(&records.provider), &scanned.spec).await.map_err(failed)?;
    let table = &scanned.table;
    let indexes: Vec<usize> = (0..table.rules().len()).collect();
    let keyed = indexes
        .iter()
        .filter_map(|index| table.rules()[*index].keyed(*index, KeyQuestion::Last, scanned.spec.credential()));
    let scan = scan.with_decisions(Vec::new(), keyed.collect());
    let buffer = Arc::new(scan.buffer().await.map_err(failed)?).decisive(engine).await.map_err(failed)?;
    let columns = table.columns(&indexes);
    let rows = ScannedMatches { matches: buffer, origins: None, known_keys: KnownKeys::default() };
    let rows = rows.provider(table, &indexes, engine.partitions()).map_err(failed)?;
    let batches = engine.run("matched", rows, &sql::last_seen(&columns)?).await.map_err(failed)?;
    let mut keys = vec![Vec::new(); indexes.len()];
    for batch in &batches {
        let rules = named_columns::integers(batch, columns::RULE)?;
        let times = named_columns::times(batch, columns::LAST_SEEN)?;
        // The first column of the group is the rule.
        let group = texts(batch, columns.group.get(1..).unwrap_or_default())?;
        let new = texts(batch, columns.newness.as_ref().map(|newness| newness.key.as_slice()).unwrap_or_default())?;
        for row in 0..batch.num_rows() {
            let index = usize::try_from(rules.value(row)).unwrap_or(usize::MAX);
            let Some((rule, known)) = table.rules().get(index).zip(keys.get_mut(index)) else {
                continue;
            };
            let count = rule.columns.newness.as_ref().map_or(0, |newness| newness.key.len());
            let of_rule = group.iter().take(rule.columns.group.len()).chain(new.iter().take(count));
            known.push((KeyHash::of(key_in(of_rule, row)), Instant::from_micros(times.value(row))));
        }
    }
    Ok(keys)
}

fn texts<'b>(batch: &'b RecordBatch, names: &[String]) -> Result<Vec<&'b StringArray>, MissingColumn> {
    names.iter().map(|name| named_columns::texts(batch, name)).collect()
}
