//! The part of a backtest that nodes of a cluster do with matches.
//!
//! As in a hunt, all matches with one identity meet first, and then all matches of a group. Findings of every cell travel back,
//! with the matches that reports need.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};

use super::matches::PartitionMatches;
use super::{GridFindings, GridRule, GridScan, MatchesNeeded};
use crate::engine::cluster::{Cluster, exchange, matches};
use crate::engine::match_scan::BufferedRows;
use crate::engine::{Engine, duplicates};
use crate::error::Error;
use crate::event;
use crate::hunt::stages::{StageReport, buffered_matches, divided, exchanged_by_group};
use crate::sql;
use crate::sql::columns;
use crate::sql::match_spec::{EventColumn, GridSpec};
use crate::statistics::Duplicates;
use crate::table::SnapshotRecords;

/// A stage, as plain data.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::hunt) enum GridStage {
    /// Leaves each event once for each of its times. The partition has all matches with its identities.
    DistinctMatches { spec: Box<GridSpec>, grid: GridRule },
    /// Counts the windows of all cells. The partition has all matches of its groups.
    Windows { grid: GridRule, all_matches: bool },
}

/// The findings of a partition. They travel as JSON.
#[derive(Debug, Serialize, Deserialize)]
enum PartitionFindings {
    Findings {
        matches: Box<PartitionMatches>,
        found: Vec<Vec<super::GridFinding>>,
        undecided: Vec<usize>,
    },
    /// There are more matches than a grid holds.
    TooMany {
        matches: usize,
    },
}

/// Returns the findings in `records`, and the duplicates among the matches, from a scan and windows on `cluster`.
///
/// # Errors
/// The cluster does not answer, or the results take more than the budget.
pub(super) async fn findings(
    engine: &Engine,
    cluster: &Cluster,
    records: &SnapshotRecords,
    scan: &GridScan,
) -> Result<(GridFindings, Duplicates), Error> {
    let failed = |error| Error::query(format!("rule `{}`", scan.grid.id), error);
    let (spec, grid) = (&scan.spec, &scan.grid);
    let all_matches = scan.needed == MatchesNeeded::All;
    let stages = [
        GridStage::DistinctMatches { spec: Box::new(spec.clone()), grid: grid.clone() },
        GridStage::Windows { grid: grid.clone(), all_matches },
    ];
    let stages = stages.into_iter().map(|stage| exchange::json(&crate::hunt::stages::HuntStage::Grid(stage)));
    let stages = stages.collect::<Result<_>>().map_err(failed)?;
    let results = matches::run(engine, cluster, &records.provider, &spec.matches, stages).await.map_err(failed)?;
    let mut total = Duplicates::default();
    for report in results.reports {
        if let StageReport::Matches { duplicates, .. } = exchange::parse(&report).map_err(failed)? {
            duplicates::add_partition(&mut total, duplicates).map_err(failed)?;
        }
    }
    let mut partitions = Vec::new();
    let mut matches = 0;
    for batch in results.rows {
        for partition in partitions_in(&batch).map_err(failed)? {
            match partition {
                PartitionFindings::TooMany { matches: count } => matches += count,
                PartitionFindings::Findings { matches: of_partition, found, undecided } => {
                    matches += of_partition.count();
                    partitions.push((*of_partition, found, undecided));
                }
            }
        }
    }
    grid.check_size(matches)?;
    Ok((joined(grid, partitions), total))
}

/// Joins what the partitions found. Each group is in one of them.
fn joined(
    grid: &GridRule,
    partitions: Vec<(PartitionMatches, Vec<Vec<super::GridFinding>>, Vec<usize>)>,
) -> GridFindings {
    let mut found = vec![Vec::new(); grid.cells.len()];
    let mut undecided = Vec::new();
    let (mut all, mut of_partitions) = (Vec::new(), Vec::new());
    for (matches, of_cells, cells) in partitions {
        all.push(matches);
        of_partitions.push(of_cells);
        undecided.extend(cells);
    }
    let (matches, numbers) = PartitionMatches::joined(&all);
    for (of_cells, numbers) in of_partitions.into_iter().zip(numbers) {
        for ((of_cell, found), cell) in of_cells.into_iter().zip(&mut found).zip(&grid.cells) {
            found.extend(
                of_cell
                    .into_iter()
                    .map(|one| super::GridFinding { cell: Some(*cell), ..one.with_numbers(|number| numbers[number]) }),
            );
        }
    }
    for of_cell in &mut found {
        of_cell.sort_unstable();
    }
    undecided.sort_unstable();
    undecided.dedup();
    GridFindings { matches, found, undecided }
}

impl GridStage {
    /// Returns the columns of the rows that the stage returns.
    pub(in crate::hunt) fn row(&self) -> Fields {
        match self {
            GridStage::DistinctMatches { grid, .. } => distinct_schema(grid).fields().clone(),
            GridStage::Windows { .. } => exchange::result_row(),
        }
    }

    /// Runs the stage over all exchanged rows of a partition.
    pub(in crate::hunt) fn run(
        self,
        engine: Engine,
        rows: SendableRecordBatchStream,
    ) -> BoxStream<'static, Result<RecordBatch>> {
        match self {
            GridStage::DistinctMatches { spec, grid } => {
                stream::once(distinct_matches(engine, rows, *spec, grid)).try_flatten().boxed()
            }
            GridStage::Windows { grid, all_matches } => {
                stream::once(windows(engine, rows, grid, all_matches)).try_flatten().boxed()
            }
        }
    }
}

/// Returns the distinct matches in the exchanged matches `rows`.
async fn distinct_matches(
    engine: Engine,
    rows: SendableRecordBatchStream,
    spec: GridSpec,
    grid: GridRule,
) -> Result<impl Stream<Item = Result<RecordBatch>>> {
    let (buffer, reports) = buffered_matches(&engine, rows, &spec.matches, Some(grid.range)).await?;
    let matched = super::matched(&engine, buffer, spec, &grid)?;
    let sql = sql::distinct_matches(&grid.groups, &grid.keys, grid.shape)
        .map_err(|error| DataFusionError::External(Box::new(error)))?;
    let distinct = engine.rows("matched", matched, &sql).await?;
    let schema = distinct_schema(&grid);
    let exchanged = exchanged_by_group(distinct, Arc::clone(&schema), grid.groups);
    Ok(exchanged.chain(reports.stream(schema.fields())))
}

/// Returns the findings of the windows over the distinct matches `rows`, as one result.
async fn windows(
    engine: Engine,
    rows: SendableRecordBatchStream,
    grid: GridRule,
    all_matches: bool,
) -> Result<impl Stream<Item = Result<RecordBatch>>> {
    let external = |error: Error| DataFusionError::External(Box::new(error));
    let (rows, reports) = divided(rows);
    let exchanged = BufferedRows::collect(&engine, distinct_schema(&grid), rows).await?;
    let table = exchanged.table(Ok)?;
    let rows = engine.run_within("matched", table, &sql::ordered_matches(&grid.groups), engine.memory()).await?;
    let count = rows.iter().map(RecordBatch::num_rows).sum();
    let partition = if grid.check_size(count).is_err() {
        PartitionFindings::TooMany { matches: count }
    } else {
        let GridFindings { matches, mut found, undecided } = grid.findings(&engine, &rows).await.map_err(external)?;
        let matches = Box::new(PartitionMatches::new(&matches, (!all_matches).then_some(&mut found)));
        PartitionFindings::Findings { matches, found, undecided }
    };
    let result = exchange::result(exchange::json(&partition)?.as_bytes())?;
    Ok(stream::iter([Ok(result)]).chain(reports.stream(&exchange::result_row())))
}

/// Returns the columns of distinct matches.
fn distinct_schema(grid: &GridRule) -> SchemaRef {
    let time = event::time_type();
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut fields: Vec<Field> = grid.groups.iter().chain(&grid.keys).map(|name| text(name)).collect();
    fields.extend([columns::ACCOUNT, columns::ACTOR, EventColumn::Id.name()].map(text));
    fields.extend(grid.shape.function.map(super::counted_field));
    fields.extend(grid.shape.absence.map(|_| text(columns::MATCH_ROLE)));
    fields.extend(
        [EventColumn::Time.name(), columns::PREVIOUS_DUPLICATE_TIME].map(|name| Field::new(name, time.clone(), true)),
    );
    Arc::new(Schema::new(fields))
}

fn partitions_in(rows: &RecordBatch) -> Result<Vec<PartitionFindings>> {
    let parse = |bytes| serde_json::from_slice(bytes).map_err(|error| DataFusionError::External(Box::new(error)));
    exchange::results(rows)?.iter().flatten().map(parse).collect()
}
