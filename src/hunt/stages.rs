//! The part of a hunt that nodes of a cluster do with matches.
//!
//! Two stages follow the scan. Duplicates of an event may differ in everything, so first all matches with one identity meet:
//! [`HuntStage::DistinctMatches`] leaves each event once for each rule. Then all matches of a group meet: [`HuntStage::Windows`]
//! counts their windows with the queries that the command runs locally. Findings travel back, matches do not.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray as _, Int64Array, RecordBatch, StructArray};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Fields, Int64Type, Schema, SchemaRef};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use datafusion::catalog::TableProvider;
use datafusion::common::internal_err;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::account_starts::AccountStarts;
use super::grid::stages::GridStage;
use super::match_origins::ScannedMatches;
use super::match_table::{MatchTable, MatchedRows, TriggerValues};
use super::matched::{ScannedRules, WindowResults};
use super::seen::KnownKeys;
use super::windows::{RuleWindows, WindowRows, WindowRule};
use crate::engine::cluster::exchange::{self, Report};
use crate::engine::cluster::stages::Stages;
use crate::engine::cluster::{Cluster, matches};
use crate::engine::match_scan::{BufferedRows, MatchScan};
use crate::engine::{Engine, duplicates, functions};
use crate::error::Error;
use crate::sql;
use crate::sql::columns;
use crate::sql::match_spec::MatchSpec;
use crate::statistics::Duplicates;
use crate::table::SnapshotRecords;
use crate::time::Range;

/// Returns the stages of hunts, for the nodes of a cluster.
pub fn stages() -> Arc<dyn Stages> {
    Arc::new(HuntStages)
}

/// A stage, as plain data.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum HuntStage {
    /// Leaves each event once for each rule. The partition has all matches with its identities.
    DistinctMatches {
        spec: MatchSpec,
        rules: Vec<WindowRule>,
        account_starts: AccountStarts,
        /// The times in which duplicates are counted.
        duplicates_in: Option<Range>,
    },
    /// Counts windows. The partition has all matches of its groups.
    Windows { rules: Vec<WindowRule>, triggers: Range },
    /// A stage of a backtest.
    Grid(GridStage),
}

/// A report of a stage.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum StageReport {
    /// The matches of a partition.
    Matches {
        /// For each rule their number.
        counts: Vec<usize>,
        duplicates: Duplicates,
    },
    /// The indexes of rules that need a wider range.
    Undecided(Vec<usize>),
    /// The indexes of rules, and the numbers of their matches that the data do not decide.
    Open(Vec<(usize, u64)>),
}

/// Adds to `results` those of the windows of the rules in `records`, from a scan and windows on `cluster`. The windows of rules that need
/// origins are not counted. Duplicates are counted among the matches of all rules.
///
/// # Errors
/// The cluster does not answer, or the findings take more than the budget.
pub(super) async fn count(
    engine: &Engine,
    cluster: &Cluster,
    records: &SnapshotRecords,
    scanned: &ScannedRules<'_>,
    results: &mut WindowResults,
) -> Result<(), Error> {
    let failed = |error| Error::query("the records", error);
    let (rules, range) = (scanned.table.rules(), scanned.range);
    let duplicates_in = scanned.counts_duplicates.then_some(range);
    let stages = [
        HuntStage::DistinctMatches {
            spec: scanned.spec.clone(),
            rules: rules.to_vec(),
            account_starts: scanned.table.account_starts().clone(),
            duplicates_in,
        },
        HuntStage::Windows { rules: rules.to_vec(), triggers: range },
    ];
    let stages = stages.iter().map(exchange::json).collect::<Result<_>>().map_err(failed)?;
    let returned = matches::run(engine, cluster, &records.provider, &scanned.spec, stages).await.map_err(failed)?;
    for batch in returned.rows {
        for batch in findings_in(&batch).map_err(failed)? {
            results.add(WindowRows::Findings(batch))?;
        }
    }
    let (mut total_counts, mut undecided) = (vec![0; rules.len()], Vec::new());
    for report in returned.reports {
        match exchange::parse(&report).map_err(failed)? {
            StageReport::Matches { counts, duplicates } => {
                total_counts.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
                duplicates::add_partition(&mut results.duplicates, duplicates).map_err(failed)?;
            }
            StageReport::Undecided(rules) => undecided.extend(rules),
            StageReport::Open(counts) => results.add(WindowRows::Open(counts))?,
        }
    }
    // A partition does not know how many matches there are in all. A local hunt asks for no more of rules with too few.
    undecided.retain(|index| total_counts[*index] >= rules[*index].least_matches);
    results.add(WindowRows::Undecided(undecided))
}

/// The stages of hunts.
#[derive(Debug)]
struct HuntStages;

impl Stages for HuntStages {
    fn row(&self, stage: &str) -> Result<Fields> {
        Ok(match exchange::parse(stage)? {
            HuntStage::DistinctMatches { rules, .. } => {
                MatchTable::new(rules, AccountStarts::default(), TriggerValues::InRows).schema.fields().clone()
            }
            HuntStage::Windows { .. } => exchange::result_row(),
            HuntStage::Grid(stage) => stage.row(),
        })
    }

    fn run(
        &self,
        stage: &str,
        engine: Engine,
        rows: SendableRecordBatchStream,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Ok(match exchange::parse(stage)? {
            HuntStage::DistinctMatches { spec, rules, account_starts, duplicates_in } => {
                let table = Arc::new(MatchTable::new(rules, account_starts, TriggerValues::InRows));
                stream::once(distinct_matches(engine, rows, spec, table, duplicates_in)).try_flatten().boxed()
            }
            HuntStage::Windows { rules, triggers } => {
                // The rows have been made.
                let table = Arc::new(MatchTable::new(rules, AccountStarts::default(), TriggerValues::InRows));
                stream::once(windows(engine, rows, table, triggers)).try_flatten().boxed()
            }
            HuntStage::Grid(stage) => stage.run(engine, rows),
        })
    }
}

/// Returns the rows of `table` in the exchanged matches `rows`, each event once for each rule.
async fn distinct_matches(
    engine: Engine,
    rows: SendableRecordBatchStream,
    spec: MatchSpec,
    table: Arc<MatchTable>,
    duplicates_in: Option<Range>,
) -> Result<impl Stream<Item = Result<RecordBatch>>> {
    let (buffer, reports) = buffered_matches(&engine, rows, &spec, duplicates_in).await?;
    let rules: Vec<usize> = (0..table.rules().len()).filter(|index| !table.rules()[*index].needs_origins).collect();
    let matched = buffer.provider(&table, &rules, engine.partitions())?;
    let distinct = engine
        .rows("matched", matched, &sql::once_matched().map_err(|error| DataFusionError::External(Box::new(error)))?)
        .await?;
    let group = table.columns(&rules).group;
    let exchanged = exchanged_by_group(distinct, Arc::clone(&table.schema), group);
    Ok(exchanged.chain(reports.stream(table.schema.fields())))
}

/// Buffers the exchanged matches `rows`, and reports their number and the duplicates among those in `duplicates_in`.
pub(super) async fn buffered_matches(
    engine: &Engine,
    rows: SendableRecordBatchStream,
    spec: &MatchSpec,
    duplicates_in: Option<Range>,
) -> Result<(ScannedMatches, Reports)> {
    let (rows, mut reports) = divided(rows);
    let buffer = Arc::new(MatchScan::of_streams(engine, vec![match_stream(rows)], spec).buffer().await?);
    let duplicates = match duplicates_in {
        Some(range) => duplicates::among_matches(engine, &buffer, spec.call, range).await?,
        None => Duplicates::default(),
    };
    reports.add(&StageReport::Matches { counts: buffer.counts.clone(), duplicates })?;
    // The command counts the windows of rules that need origins.
    Ok((ScannedMatches { matches: buffer, origins: None, known_keys: KnownKeys::default() }, reports))
}

/// Returns rows of `schema`, each with a key by which all rows of its group meet in one partition. The columns of `rows` are
/// found by name.
pub(super) fn exchanged_by_group(
    rows: SendableRecordBatchStream,
    schema: SchemaRef,
    group: Vec<String>,
) -> impl Stream<Item = Result<RecordBatch>> {
    rows.map(move |batch| {
        let batch = batch?;
        let column = |field: &Arc<Field>| {
            Ok(compute::cast(batch.column(batch.schema_ref().index_of(field.name())?), field.data_type())?)
        };
        let columns = schema.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
        let rows = RecordBatch::try_new(Arc::clone(&schema), columns)?;
        exchange::rows(group_keys(&rows, &group)?, rows)
    })
}

/// Returns matches as the stream of a scan.
pub(super) fn match_stream(
    matches: impl Stream<Item = Result<RecordBatch>> + Send + 'static,
) -> SendableRecordBatchStream {
    let column = |rows| Ok(RecordBatch::try_from_iter([("match", Arc::new(StructArray::from(rows)) as ArrayRef)])?);
    let rows = matches.map(move |rows| rows.and_then(column));
    Box::pin(RecordBatchStreamAdapter::new(Arc::new(Schema::empty()), rows))
}

/// Returns the findings of the rules of `table` in its exchanged `rows`.
async fn windows(
    engine: Engine,
    rows: SendableRecordBatchStream,
    table: Arc<MatchTable>,
    triggers: Range,
) -> Result<impl Stream<Item = Result<RecordBatch>>> {
    let (rows, mut reports) = divided(rows);
    let mut counts = vec![0; table.rules().len()];
    let counted = rows.map(|rows| {
        let rows = rows?;
        for rule in rules_in(&rows)?.values() {
            let count = usize::try_from(*rule).ok().and_then(|rule| counts.get_mut(rule));
            *count.ok_or_else(|| DataFusionError::Internal(format!("a match of no rule: {rule}")))? += 1;
        }
        Ok(rows)
    });
    let exchanged = BufferedRows::collect(&engine, Arc::clone(&table.schema), counted).await?;
    let candidates = table
        .rules()
        .iter()
        .zip(&counts)
        .enumerate()
        .filter(|(_, (rule, count))| rule.is_candidate(**count) || **count > 0 && rule.may_be_unanchored(triggers));
    let candidates: Vec<usize> = candidates.map(|(index, _)| index).collect();
    let (mut findings, mut undecided, mut open_matches) = (Vec::new(), Vec::new(), Vec::new());
    let windows = RuleWindows { engine: &engine, table: &table, rows: &exchanged, counts: &counts, triggers };
    let counted = windows.count(&candidates, |part| {
        match part {
            WindowRows::Findings(batch) if batch.num_rows() == 0 => {}
            WindowRows::Findings(batch) => {
                let failed = |error| Error::query("the findings of a partition", error);
                findings.push(encoded(&batch).map_err(failed)?);
            }
            WindowRows::Undecided(rules) => undecided.extend(rules),
            WindowRows::Open(counts) => open_matches.extend(counts),
        }
        Ok(())
    });
    counted.await.map_err(|error| DataFusionError::External(Box::new(error)))?;
    if !undecided.is_empty() {
        reports.add(&StageReport::Undecided(undecided))?;
    }
    if !open_matches.is_empty() {
        reports.add(&StageReport::Open(open_matches))?;
    }
    Ok(stream::iter(findings.into_iter().map(Ok)).chain(reports.stream(&exchange::result_row())))
}

/// Rows of a [`MatchTable`] that came from other nodes.
impl MatchedRows for BufferedRows {
    fn is_spilled(&self) -> bool {
        BufferedRows::is_spilled(self)
    }

    fn provider(&self, _: &Arc<MatchTable>, rules: &[usize], _: usize) -> Result<Arc<dyn TableProvider>> {
        let rules: Vec<i64> = rules.iter().filter_map(|rule| i64::try_from(*rule).ok()).collect();
        self.table(move |batch| {
            let of_rules = rules_in(&batch)?.iter().map(|rule| Some(rule.is_some_and(|rule| rules.contains(&rule))));
            Ok(compute::filter_record_batch(&batch, &of_rules.collect())?)
        })
    }
}

/// Reports that a stage passes on, and its own.
pub(super) struct Reports {
    passed: Arc<Mutex<Vec<Report>>>,
    own: Vec<Report>,
}

impl Reports {
    pub(super) fn add(&mut self, report: &StageReport) -> Result<()> {
        self.own.push(Report::Stage(exchange::json(report)?));
        Ok(())
    }

    /// Returns all of them as exchanged rows, between rows with the columns `row`.
    pub(super) fn stream(self, row: &Fields) -> impl Stream<Item = Result<RecordBatch>> + use<> {
        let row = row.clone();
        stream::once(async move {
            let passed = std::mem::take(&mut *self.passed.lock().unwrap_or_else(PoisonError::into_inner));
            exchange::reports(&row, &[passed, self.own].concat())
        })
    }
}

/// Divides exchanged rows into the rows and the reports. All reports are there at the end of the rows.
pub(super) fn divided(
    exchanged: SendableRecordBatchStream,
) -> (impl Stream<Item = Result<RecordBatch>> + Send + 'static, Reports) {
    let passed = Arc::<Mutex<Vec<Report>>>::default();
    let reports = Reports { passed: Arc::clone(&passed), own: Vec::new() };
    let rows = exchanged.try_filter_map(move |batch| {
        let rows = exchange::split(&batch).map(|(rows, reports)| {
            passed.lock().unwrap_or_else(PoisonError::into_inner).extend(reports);
            rows
        });
        std::future::ready(rows)
    });
    (rows, reports)
}

/// Returns for each row the key by which the matches of a group meet in one partition.
fn group_keys(rows: &RecordBatch, group: &[String]) -> Result<Int64Array> {
    if group.is_empty() {
        return Ok(Int64Array::from_value(0, rows.num_rows()));
    }
    let column = |name: &String| Ok(compute::cast(rows.column(rows.schema_ref().index_of(name)?), &DataType::Utf8)?);
    functions::fingerprints(&group.iter().map(column).collect::<Result<Vec<_>>>()?)
}

/// Returns the indexes of the rules of rows of a [`MatchTable`].
fn rules_in(rows: &RecordBatch) -> Result<&Int64Array> {
    let rules = rows.column_by_name(columns::RULE).and_then(|column| column.as_primitive_opt::<Int64Type>());
    rules.map_or_else(|| internal_err!("matches of no rule"), Ok)
}

/// Returns rows of findings as one result, in Arrow's IPC format. Rules of another shape have other columns.
fn encoded(findings: &RecordBatch) -> Result<RecordBatch> {
    let mut writer = StreamWriter::try_new(Vec::new(), findings.schema_ref())?;
    writer.write(findings)?;
    exchange::result(&writer.into_inner()?)
}

/// Returns the rows of findings in rows that the last stage returned.
fn findings_in(rows: &RecordBatch) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    for bytes in exchange::results(rows)?.iter().flatten() {
        for batch in StreamReader::try_new(bytes, None)? {
            batches.push(batch?);
        }
    }
    Ok(batches)
}
