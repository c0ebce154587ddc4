//! The keys that matches had before a time. With them a hunt from that time on finds what is new without the history before it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use futures::TryStreamExt as _;

use super::known_data::KnownData;
use super::match_origins::ScannedMatches;
use super::match_table::{MatchTable, MatchedRows as _};
use super::matched::ScannedRules;
use super::scan_undamaged;
use crate::engine::Engine;
use crate::engine::match_scan::{BufferedMatches, KeyQuestion, MatchScan};
use crate::error::Error;
use crate::named_columns::{self, MissingColumn};
use crate::rule::Rule;
use crate::sql::match_spec::ValueId;
use crate::sql::{self, columns};
use crate::table::{SnapshotRecords, Table};
use crate::time::{Instant, Range};

/// With more keys of matches than these, all seen keys are looked at.
const MOST_MATCHED_KEYS: usize = 100_000;

/// The values of a rule's group, then those of `New`.
pub type SeenKey = Vec<Option<String>>;

/// For each key the time of the last match that has it.
pub type LastSeen = BTreeMap<SeenKey, Instant>;

/// The keys of the matches of a rule before a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenKeys {
    /// The time. Matches from then on are not counted in.
    pub before: Instant,
    /// Its keys.
    pub last: Arc<LastSeen>,
}

/// The keys of the matches of some rules of a scan.
#[derive(Debug)]
pub(super) struct MatchedKeys {
    /// By the index of the rule.
    keys: HashMap<usize, HashSet<SeenKey>>,
}

impl MatchedKeys {
    /// Reads the keys of `matches` for the rules of `table` with known seen keys. `None` if there are no such rules, or too many
    /// keys.
    ///
    /// # Errors
    /// A file of matches cannot be read.
    pub(super) async fn of(table: &MatchTable, matches: &Arc<BufferedMatches>) -> Result<Option<MatchedKeys>, Error> {
        let rules =
            table.rules().iter().enumerate().filter(|(index, rule)| table.knows_seen(*index) && !rule.needs_origins);
        let rules: Vec<(usize, Vec<ValueId>)> = rules.filter_map(|(index, rule)| Some((index, rule.key()?))).collect();
        if rules.is_empty() {
            return Ok(None);
        }
        let mut keys: HashMap<usize, HashSet<SeenKey>> =
            rules.iter().map(|(index, _)| (*index, HashSet::new())).collect();
        let failed = |error| Error::query("the keys of matches", error);
        let mut batches = std::pin::pin!(matches.partition(0, 1));
        while let Some(batch) = batches.try_next().await.map_err(failed)? {
            for (index, key) in &rules {
                let columns: Vec<&StringArray> = key.iter().map(|id| batch.value(*id).as_string()).collect();
                let of_rule = batch.matches_of(*index).values().set_indices();
                keys.entry(*index).or_default().extend(of_rule.map(|row| key_in(&columns, row)));
            }
            if keys.values().map(HashSet::len).sum::<usize>() > MOST_MATCHED_KEYS {
                return Ok(None);
            }
        }
        Ok(Some(MatchedKeys { keys }))
    }

    /// Returns whether a match of the rule with this index may have `key`.
    pub(super) fn may_contain(&self, rule: usize, key: &SeenKey) -> bool {
        self.keys.get(&rule).is_none_or(|keys| keys.contains(key))
    }
}

/// Takes in the keys of other matches of the same rule.
pub fn add_seen(known: &mut LastSeen, other: LastSeen) {
    for (key, time) in other {
        known.entry(key).and_modify(|known| *known = time.max(*known)).or_insert(time);
    }
}

/// Reads the keys of the matches of each of `rules`, whose matches must be new, with a time in `range`.
///
/// # Errors
/// The table lacks a field that a rule needs, or cannot be read.
pub async fn seen_keys(
    engine: &Engine,
    table: &dyn Table,
    rules: &[Rule],
    range: Range,
) -> Result<Vec<LastSeen>, Error> {
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
) -> Result<Vec<LastSeen>, Error> {
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
    let rows = ScannedMatches { matches: buffer, origins: None, keys: None };
    let rows = rows.provider(table, &indexes, engine.partitions()).map_err(failed)?;
    let batches = engine.run("matched", rows, &sql::last_seen(&columns)?).await.map_err(failed)?;
    let mut keys = vec![LastSeen::new(); indexes.len()];
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
            known.insert(key_in(of_rule, row), Instant::from_micros(times.value(row)));
        }
    }
    Ok(keys)
}

/// Returns the key in a row of the columns of its values.
fn key_in<'c>(columns: impl IntoIterator<Item = &'c &'c StringArray>, row: usize) -> SeenKey {
    columns.into_iter().map(|values| values.is_valid(row).then(|| values.value(row).to_owned())).collect()
}

fn texts<'b>(batch: &'b RecordBatch, names: &[String]) -> Result<Vec<&'b StringArray>, MissingColumn> {
    names.iter().map(|name| named_columns::texts(batch, name)).collect()
}
