//! The one path to findings: rules over a table in a range.

use arrow::array::{Array, AsArray as _, BooleanArray};
use arrow::compute;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::error::ArrowError;

use crate::engine::Engine;
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::{Rule, Setting};
use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::{SnapshotRecords, Table, TableKind, without_damaged_files};
use crate::time::{Instant, Range};
use crate::trail::Prefilter;

pub mod account_starts;
pub mod events;
pub mod exceptions;
mod finding_buffer;
pub mod grid;
pub mod known_data;
mod lookback;
mod match_origins;
mod match_table;
mod matched;
pub mod newest;
mod rule_tests;
pub mod seen;
#[cfg(feature = "cluster")]
mod stages;
mod triggers;
pub mod undecided;
mod windows;

pub use finding_buffer::{FindingBuffer, FindingReader};
use known_data::KnownData;
use lookback::Attempt;
pub use lookback::{initial_range_of, lookback_of};
use matched::ScannedRules;
pub use rule_tests::{HuntTestResult, run_hunt_tests, run_rule_tests};
#[cfg(feature = "cluster")]
pub use stages::stages;

/// The result of a hunt.
#[derive(Debug)]
pub struct BufferedHunt<'r> {
    /// The findings of all rules.
    pub findings: FindingBuffer<'r>,
    /// The duplicates among the records that any rule matches, with a time in the range.
    pub duplicates: Duplicates,
    /// The statistics of the scan.
    pub read: ScanStatistics,
    /// For each rule the matches in the range that are undecided. Their account is learning, or their period of absence is not
    /// over.
    pub open_matches: Vec<u64>,
}

/// The result of a hunt whose findings are few.
#[derive(Debug, Clone, Default)]
pub struct HuntOutcome {
    /// For each rule its findings, in order.
    pub findings: Vec<Vec<Finding>>,
    /// The duplicates among the records that any rule matches, with a time in the range.
    pub duplicates: Duplicates,
    /// The statistics of the scan.
    pub read: ScanStatistics,
    /// For each rule the matches in the range that are undecided. Their account is learning, or their period of absence is not
    /// over.
    pub open_matches: Vec<u64>,
}

/// Returns the findings of `rules` in `table` whose trigger lies in `range`, in order. Holds them in memory.
///
/// # Errors
/// As for [`hunt_buffered`].
pub async fn findings(engine: &Engine, table: &dyn Table, rules: &[Rule], range: Range) -> Result<Vec<Finding>, Error> {
    hunt_buffered(engine, table, rules, range).await?.findings.all().await
}

/// Hunts as [`hunt_buffered`] does. Holds the findings in memory.
///
/// # Errors
/// As for [`hunt_buffered`].
pub async fn hunt(engine: &Engine, table: &dyn Table, rules: &[Rule], range: Range) -> Result<HuntOutcome, Error> {
    in_memory(hunt_buffered(engine, table, rules, range).await?).await
}

/// Hunts as [`hunt`] does, with known facts about the data instead of those of `table`.
///
/// # Errors
/// As for [`hunt_buffered`].
pub async fn hunt_with_known(
    engine: &Engine,
    table: &dyn Table,
    rules: &[Rule],
    range: Range,
    known: &KnownData,
) -> Result<HuntOutcome, Error> {
    check(engine, table, rules, range).await?;
    in_memory(Box::pin(in_one_scan(engine, table, rules, range, known)).await?).await
}

async fn in_memory(hunt: BufferedHunt<'_>) -> Result<HuntOutcome, Error> {
    let BufferedHunt { findings, duplicates, read, open_matches } = hunt;
    Ok(HuntOutcome { findings: findings.of_rules().await?, duplicates, read, open_matches })
}

/// Hunts `table` for the findings of `rules` whose trigger lies in `range`.
///
/// All rules share one reading of the table. A rule that needs a wider range than was read reads it for itself. Many findings
/// are in files.
///
/// # Errors
/// A rule cannot have its window, the table lacks a field that a rule needs, or it cannot be read.
pub async fn hunt_buffered<'r>(
    engine: &Engine,
    table: &dyn Table,
    rules: &'r [Rule],
    range: Range,
) -> Result<BufferedHunt<'r>, Error> {
    check(engine, table, rules, range).await?;
    let settings: Vec<Setting> = rules.iter().map(Rule::setting).collect();
    let (known, read) = KnownData::read(engine, table, &settings).await?;
    let mut hunt = Box::pin(in_one_scan(engine, table, rules, range, &known)).await?;
    if let Some(read) = read {
        hunt.read = hunt.read.widened_by(read);
    }
    Ok(hunt)
}

/// Checks that `rules` can be hunted in `table`.
async fn check(engine: &Engine, table: &dyn Table, rules: &[Rule], range: Range) -> Result<(), Error> {
    rules.iter().try_for_each(|rule| rule.check(rule.window))?;
    table.check(engine, rules, initial_range_of(rules, range)).await?;
    check_cluster(engine, table, rules)
}

/// Makes sure that a table and rules which are to be hunted on a cluster can be.
#[cfg_attr(not(feature = "cluster"), expect(unused_variables, reason = "there are no value lists to send"))]
fn check_cluster(engine: &Engine, table: &dyn Table, rules: &[Rule]) -> Result<(), Error> {
    if engine.on_cluster() && table.kind() == TableKind::Memory {
        return Err(Error::usage("records in memory are not hunted on a cluster"));
    }
    #[cfg(feature = "cluster")]
    if engine.on_cluster() {
        let mut lists: Vec<_> = rules.iter().flat_map(Rule::value_lists).collect();
        lists.sort_unstable_by_key(|list| list.key());
        lists.dedup();
        crate::engine::cluster::value_lists::check(&lists)?;
    }
    Ok(())
}

/// Returns the prefilter for a scan of raw objects for `rules`.
fn prefilter<'r>(rules: impl IntoIterator<Item = &'r Rule>) -> Prefilter {
    Prefilter::new(rules.into_iter().map(|rule| rule.scanned().text_condition()).collect())
}

/// Returns the result of `scan` over the records of `table` with a time in `read`, and the statistics of the scan. A damaged
/// file is excluded, and the others are scanned again.
///
/// # Errors
/// The table cannot be read, or `scan` failed.
async fn scan_undamaged<T>(
    engine: &Engine,
    table: &dyn Table,
    read: Range,
    rules: &[&Rule],
    scan: impl AsyncFn(SnapshotRecords) -> Result<T, Error>,
) -> Result<(T, ScanStatistics), Error> {
    let attempt = async || {
        let snapshot = table.snapshot(read).await?;
        let records = snapshot.records(engine, prefilter(rules.iter().copied())).await?;
        let result = scan(records.clone()).await?;
        Ok((result, snapshot.statistics(&records)))
    };
    without_damaged_files(table, attempt).await
}

async fn in_one_scan<'r>(
    engine: &Engine,
    table: &dyn Table,
    rules: &'r [Rule],
    range: Range,
    known: &KnownData,
) -> Result<BufferedHunt<'r>, Error> {
    let settings: Vec<Setting> = rules.iter().map(Rule::setting).collect();
    let mut outcome = BufferedHunt {
        findings: FindingBuffer::new(engine, rules),
        duplicates: Duplicates::default(),
        read: ScanStatistics::default(),
        open_matches: vec![0; rules.len()],
    };
    let mut pending: Vec<usize> = (0..rules.len()).collect();
    let seen: Vec<Option<Instant>> = (0..rules.len()).map(|index| known.seen_before(index)).collect();
    lookback::read_until_decided(&settings, &seen, range, async |reads| {
        let pending_reads: Vec<Range> = pending.iter().map(|index| reads[*index]).collect();
        let read = pending_reads.iter().copied().reduce(Range::union).unwrap_or(range);
        let is_first = pending.len() == rules.len();
        let scanned_rules: Vec<&Rule> = pending.iter().map(|index| &rules[*index]).collect();
        // The first reading has the matches of all rules.
        let mut scanned = ScannedRules::new(rules, &pending, &pending_reads, range, known);
        scanned.counts_duplicates = is_first;
        let attempt = scan_undamaged(engine, table, read, &scanned_rules, async |records| {
            scanned.hunt(engine, table, &records).await
        });
        let (found, statistics) = attempt.await?;
        if is_first {
            (outcome.duplicates, outcome.read) = (found.duplicates, statistics);
        } else {
            outcome.read = std::mem::take(&mut outcome.read).widened_by(statistics);
        }
        outcome.findings.add(found.findings, &found.undecided);
        for (index, count) in pending.iter().zip(found.open_matches) {
            outcome.open_matches[*index] = count;
        }
        pending = found.undecided.into_iter().map(|index| pending[index]).collect();
        Ok(Attempt { result: (), undecided: pending.clone() })
    })
    .await?;
    Ok(outcome)
}

/// Of `flags` those whose time lies in `read`.
fn within(times: &dyn Array, flags: &BooleanArray, read: Range) -> Result<BooleanArray, ArrowError> {
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    let outside = |time: &i64| !read.contains(Instant::from_micros(*time));
    if !times.iter().any(outside) {
        return Ok(flags.clone());
    }
    compute::and(flags, &times.iter().map(|time| Some(!outside(time))).collect::<BooleanArray>())
}
