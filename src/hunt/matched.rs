//! The matches of rules, from one scan, and the findings in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::TryStreamExt as _;
use tokio::task::JoinSet;

use super::lookback::is_cut;
use super::match_table::{MatchTable, TableRule};
use crate::engine::match_scan::{BufferedMatches, MatchScan};
use crate::engine::{Engine, duplicates};
use crate::error::Error;
use crate::finding::{Finding, FindingSchema, FindingsBuilder};
use crate::rule::{Counts, Rule, WindowKind};
use crate::sql;
use crate::sql::match_spec::MatchSpec;
use crate::statistics::Duplicates;
use crate::table::SnapshotRecords;
use crate::time::{Instant, Range};

/// The records that any of some rules matches.
pub(super) struct Matched<'r> {
    rules: Vec<&'r Rule>,
    spec: MatchSpec,
    buffer: Arc<BufferedMatches>,
    /// For each rule the times that its hunt reads.
    reads: Vec<Range>,
}

/// Queries over fewer rows run on one thread.
const ROWS_OF_ONE_THREAD: usize = 10_000;

/// Rules with windows of one shape share a query. A shape is a kind of window, the function that counts, and the start of
/// what was read for `dedup` windows.
type Shape = (WindowKind, Option<&'static str>, Option<Instant>);

/// The result of a hunt in matches.
pub(super) struct Outcome {
    /// The findings of each rule.
    pub(super) findings: Vec<Vec<Finding>>,
    /// The indexes of the rules that need a wider range. They have no findings here.
    pub(super) undecided: Vec<usize>,
}

impl<'r> Matched<'r> {
    /// Scans `records` for the matches of `rules`. A rule sees the matches with a time in its own range of `reads` only. What
    /// other rules need must not decide which of several duplicates counts.
    ///
    /// # Errors
    /// The scan failed, or matches cannot be spilled.
    pub(super) async fn scan(
        engine: &Engine,
        records: &SnapshotRecords,
        rules: &[&'r Rule],
        reads: &[Range],
    ) -> Result<Matched<'r>, Error> {
        let read = reads.iter().copied().reduce(Range::union).unwrap_or_default();
        let spec = MatchSpec::new(rules, read);
        let failed = |error| Error::query("the records", error);
        let scan = MatchScan::new(engine, Arc::clone(&records.provider), &spec).await.map_err(failed)?;
        let buffer = Arc::new(scan.buffer().await.map_err(failed)?);
        Ok(Matched { rules: rules.to_vec(), spec, buffer, reads: reads.to_vec() })
    }

    /// Counts the duplicates among the matches of all rules with a time in `range`.
    pub(super) async fn duplicates(&self, engine: &Engine, range: Range) -> Result<Duplicates, Error> {
        if self.buffer.counts.iter().sum::<usize>() < 2 {
            return Ok(Duplicates::default());
        }
        let counted = duplicates::among_matches(engine, &self.buffer, self.spec.call, range).await;
        counted.map_err(|error| Error::query("the duplicates among the matches", error))
    }

    /// Returns the findings whose trigger lies in `range`.
    pub(super) async fn hunt(&self, engine: &Engine, range: Range) -> Result<Outcome, Error> {
        let mut shapes: BTreeMap<Shape, Vec<usize>> = BTreeMap::new();
        for (number, rule) in self.rules.iter().enumerate() {
            // With fewer matches than the threshold there is nothing to find, unless one may be of several kinds.
            let least = if matches!(rule.counts, Counts::EachOf(_)) { 1 } else { rule.window.threshold.get() };
            if self.buffer.counts[number] >= usize::try_from(least).unwrap_or(usize::MAX) {
                let from = self.reads[number].from.filter(|_| rule.window.kind == WindowKind::Dedup);
                let shape = (rule.window.kind, sql::counting(rule), from);
                shapes.entry(shape).or_default().push(number);
            }
        }
        // A query over many rows has all threads and the whole budget. Small ones run on one thread each, as many as there are
        // threads.
        let sets: Vec<Set<'_>> = shapes.values().map(|numbers| Set::new(self, numbers)).collect();
        let mut outcome = Outcome { findings: vec![Vec::new(); self.rules.len()], undecided: Vec::new() };
        let mut small = Vec::new();
        for (index, set) in sets.iter().enumerate() {
            let rows: usize = set.numbers.iter().map(|number| self.buffer.counts[*number]).sum();
            if rows > ROWS_OF_ONE_THREAD || self.buffer.is_spilled() {
                let queries = set.queries(engine.clone(), range)?;
                let unanchored = queries.unanchored().await?;
                let (mut found, mut rows) = (FindingsBuilder::new(set.schemas()), queries.findings().await?);
                while let Some(batch) = rows.try_next().await.map_err(failed)? {
                    found.add(&batch)?;
                }
                self.add(set, &unanchored, found, &mut outcome);
            } else {
                let queries = set.queries(engine.on_one_thread(), range)?;
                small.push(async move {
                    let unanchored = queries.unanchored().await?;
                    let rows: Vec<RecordBatch> = queries.findings().await?.try_collect().await.map_err(failed)?;
                    Ok::<_, Error>((index, unanchored, rows))
                });
            }
        }
        let mut small = small.into_iter();
        let mut running: JoinSet<_> = small.by_ref().take(engine.threads.max(1)).collect();
        while let Some(done) = running.join_next().await {
            running.extend(small.next());
            let done = done.map_err(|error| Error::Internal(format!("a hunt broke off: {error}")))?;
            let (index, unanchored, rows) = done?;
            let mut found = FindingsBuilder::new(sets[index].schemas());
            rows.iter().try_for_each(|batch| found.add(batch))?;
            self.add(&sets[index], &unanchored, found, &mut outcome);
        }
        outcome.undecided.sort_unstable();
        Ok(outcome)
    }

    /// Adds the findings of the rules of `set`. `unanchored` are the indexes of its rules that need a wider range.
    fn add(&self, set: &Set<'_>, unanchored: &[usize], found: FindingsBuilder<'_>, outcome: &mut Outcome) {
        for ((index, number), found) in set.numbers.iter().enumerate().zip(found.finish()) {
            let is_cut = is_cut(self.rules[*number].window, super::last_events(&found), self.reads[*number]);
            if is_cut || unanchored.contains(&index) {
                outcome.undecided.push(*number);
            } else {
                outcome.findings[*number] = found;
            }
        }
    }
}

/// Rules whose windows have one shape, and the table `matched` of them.
struct Set<'m> {
    matched: &'m Matched<'m>,
    numbers: &'m [usize],
    table: Arc<MatchTable>,
}

impl<'m> Set<'m> {
    fn new(matched: &'m Matched<'_>, numbers: &'m [usize]) -> Set<'m> {
        let rule = |number: &usize| TableRule {
            index: *number,
            window: matched.rules[*number].window,
            read: matched.reads[*number],
            columns: matched.spec.rules[*number].columns.clone(),
        };
        Set { matched, numbers, table: Arc::new(MatchTable::new(numbers.iter().map(rule).collect())) }
    }

    /// Returns for each rule the columns of its findings.
    fn schemas(&self) -> Vec<FindingSchema<'m>> {
        let rules = self.numbers.iter().map(|number| self.matched.rules[*number]).enumerate();
        rules.map(|(index, rule)| FindingSchema { rule, columns: self.table.columns_of(index) }).collect()
    }

    /// Returns the queries for these rules.
    fn queries(&self, engine: Engine, range: Range) -> Result<Queries, Error> {
        let first = self.numbers.first().map(|number| (self.matched.rules[*number], self.matched.reads[*number]));
        let (rule, read) = first.ok_or_else(|| Error::Internal("a hunt for no rule".to_owned()))?;
        let columns = self.table.columns();
        let anchors = match (rule.window.kind, range.from, read.from) {
            (WindowKind::Dedup, Some(from), Some(_)) => Some(sql::unanchored_matched(rule, &columns, from, read)?),
            _ => None,
        };
        let hunt = sql::hunt_matched(rule, &columns, range)?;
        let table = self.table.provider(&self.matched.buffer, engine.partitions()).map_err(failed)?;
        Ok(Queries { engine, table, anchors, hunt })
    }
}

/// The queries for rules whose windows have one shape.
struct Queries {
    engine: Engine,
    table: Arc<dyn TableProvider>,
    anchors: Option<String>,
    hunt: String,
}

impl Queries {
    /// Returns the indexes of the rules that need a wider range.
    async fn unanchored(&self) -> Result<Vec<usize>, Error> {
        let Some(anchors) = &self.anchors else {
            return Ok(Vec::new());
        };
        let rows = self.engine.rows("matched", Arc::clone(&self.table), anchors).await.map_err(failed)?;
        let rows: Vec<RecordBatch> = rows.try_collect().await.map_err(failed)?;
        let indexes = rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
        Ok(indexes.filter_map(|index| usize::try_from(*index).ok()).collect())
    }

    /// Returns the rows of findings.
    async fn findings(&self) -> Result<SendableRecordBatchStream, Error> {
        self.engine.rows("matched", Arc::clone(&self.table), &self.hunt).await.map_err(failed)
    }
}

fn failed(error: DataFusionError) -> Error {
    Error::query("the matches of the rules", error)
}
