//! Hunts with every window of a parameter grid, from one scan.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;

use super::account_starts::AccountStarts;
use super::known_data::KnownData;
use super::lookback::{self, Attempt, is_cut};
use super::match_origins::{MatchOrigins, ScannedMatches};
use super::scan_undamaged;
use super::seen::KnownKeys;
use super::windows::{run_queries, subjects};
use crate::engine::match_scan::MatchScan;
use crate::engine::{self, Engine, duplicates};
use crate::error::Error;
use crate::event;
use crate::named_columns;
use crate::rule::{Rule, Setting, WindowKind};
use crate::sql::columns;
use crate::sql::grid::{GridCell, ParameterGrid};
use crate::sql::match_spec::{CALL_COLUMNS, EventColumn, GridSpec, MatchSpec, ValueId};
use crate::sql::{self, CountFunction, WindowShape};
use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::{SnapshotRecords, Table};
use crate::time::{Period, Range};

mod matches;
#[cfg(feature = "cluster")]
pub(super) mod stages;

pub use matches::{GridFinding, GridMatches};

/// Maximum product of matches and cells. In dense data each match is a row of every cell.
const MOST_ROWS: usize = 50_000_000;

/// Queries over fewer rows run on one thread.
const ROWS_OF_ONE_THREAD: usize = 50_000;

/// The findings of all cells of a parameter grid.
#[derive(Debug)]
pub struct GridHunt {
    /// The matches of the rule in the range, and around it as far as findings in the range need them.
    pub matches: GridMatches,
    /// The findings of each cell, ordered by their first match.
    pub findings: Vec<Vec<GridFinding>>,
    /// The statistics of the scan.
    pub read: ScanStatistics,
    /// The duplicates among matches with a time in the range.
    pub duplicates: Duplicates,
}

/// The matches that readers of a [`GridHunt`] need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchesNeeded {
    /// The first, the last and the triggering match of each finding. A cluster returns no others.
    Ends,
    /// All of them.
    All,
}

/// A hunt to do with every setting of a parameter grid.
#[derive(Debug, Clone, Copy)]
pub struct GridHuntRequest<'s> {
    /// The rule.
    pub rule: &'s Rule,
    /// The settings of the cells.
    pub cells: &'s [Setting],
    /// The times of triggers of findings.
    pub range: Range,
    /// The matches that are needed.
    pub needed: MatchesNeeded,
}

/// Returns what a rule finds in `table` with each of some settings.
///
/// # Errors
/// As for a hunt, or the matches do not fit into memory.
pub async fn hunt_grid(engine: &Engine, table: &dyn Table, request: GridHuntRequest<'_>) -> Result<GridHunt, Error> {
    let GridHuntRequest { rule, cells, range, needed } = request;
    super::check_cluster(engine, table, std::slice::from_ref(rule))?;
    cells.iter().try_for_each(|setting| rule.check(setting.window))?;
    let initial = lookback::initial_range(cells.iter().copied(), range);
    table.check(engine, std::slice::from_ref(rule), initial).await?;
    let (known, read_for_known) = KnownData::read(engine, table, cells).await?;
    let keys = rule.first_seen.iter().flat_map(|first_seen| &first_seen.fields);
    let keys: Vec<String> =
        keys.filter(|field| !rule.group_by.contains(field)).map(|field| format!("new.{field}")).collect();
    let mut hunt = lookback::read_until_decided(cells, &[], range, async |reads| {
        let cell = |(number, (setting, read)): (usize, (&Setting, &Range))| GridCell {
            number,
            setting: *setting,
            read: *read,
            known: known.decided_times(*setting, *read, false),
        };
        let grid = GridRule {
            id: rule.id.clone(),
            shape: WindowShape::of(rule),
            groups: rule.group_by.iter().map(|field| format!("group.{field}")).collect(),
            keys: keys.clone(),
            account_starts: known.starts.clone(),
            cells: cells.iter().zip(reads).enumerate().map(cell).collect(),
            range,
        };
        let read = reads.iter().copied().reduce(Range::union).unwrap_or(range);
        let scan = GridScan { spec: MatchSpec::of_grid(rule, read), grid, needed };
        let findings = async |records| Box::pin(scan.findings(engine, table, &records)).await;
        let ((findings, duplicates), read) = scan_undamaged(engine, table, read, &[rule], findings).await?;
        let GridFindings { matches, found, undecided } = findings;
        Ok(Attempt { result: GridHunt { matches, findings: found, read, duplicates }, undecided })
    })
    .await?;
    if let Some(read) = read_for_known {
        hunt.read = std::mem::take(&mut hunt.read).widened_by(read);
    }
    Ok(hunt)
}

/// The scan for a grid.
struct GridScan {
    spec: GridSpec,
    grid: GridRule,
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "a local scan has all matches"))]
    needed: MatchesNeeded,
}

impl GridScan {
    /// Returns the findings in `records`, and the duplicates among the matches with a time in the range.
    async fn findings(
        &self,
        engine: &Engine,
        table: &dyn Table,
        records: &SnapshotRecords,
    ) -> Result<(GridFindings, Duplicates), Error> {
        #[cfg(feature = "cluster")]
        if let Some(cluster) = engine.cluster()
            && self.spec.matches.credential().is_none()
        {
            return stages::findings(engine, cluster, records, self).await;
        }
        let failed = |error| Error::query(format!("rule `{}`", self.grid.id), error);
        let spec = &self.spec.matches;
        let scan = MatchScan::new(engine, Arc::clone(&records.provider), spec).await.map_err(failed)?;
        let buffer = Arc::new(scan.buffer().await.map_err(failed)?);
        let duplicates = duplicates::among_matches(engine, &buffer, spec.call, self.grid.range).await;
        let origins = MatchOrigins::of(engine, table, spec, &buffer).await?;
        let scanned =
            ScannedMatches { matches: buffer, origins: origins.map(Arc::new), known_keys: KnownKeys::default() };
        let matched = matched(engine, scanned, self.spec.clone(), &self.grid).map_err(failed)?;
        let sql = sql::distinct_matches(&self.grid.groups, &self.grid.keys, self.grid.shape)?;
        let rows = engine.run_within("matched", matched, &sql, engine.memory()).await.map_err(failed)?;
        Ok((self.grid.findings(engine, &rows).await?, duplicates.map_err(failed)?))
    }
}

/// Returns the column that `function` counts.
fn counted_field(function: CountFunction) -> Field {
    let data_type = match function {
        CountFunction::Distinct | CountFunction::Sum | CountFunction::Statistic(_) => DataType::Utf8,
        CountFunction::Followed | CountFunction::EachOf | CountFunction::InOrder => engine::event_kinds_type(),
    };
    Field::new(function.column(), data_type, true)
}

/// The table `matched` of the matches of a grid, duplicates included.
fn matched(
    engine: &Engine,
    ScannedMatches { matches, origins, .. }: ScannedMatches,
    spec: GridSpec,
    grid: &GridRule,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut fields = vec![event::time_field()];
    fields.push(text(EventColumn::Id.name()));
    fields.extend(grid.groups.iter().chain(&grid.keys).map(|name| text(name)));
    fields.extend([columns::ACCOUNT, columns::ACTOR].map(text));
    fields.push(Field::new(columns::FINGERPRINT, DataType::Int64, true));
    fields.extend(CALL_COLUMNS.map(text));
    fields.extend(grid.shape.function.map(counted_field));
    fields.extend(grid.shape.absence.map(|_| text(columns::MATCH_ROLE)));
    let schema = Arc::new(Schema::new(fields));
    let converted = Arc::clone(&schema);
    matches.table(&schema, engine.partitions(), Vec::new(), move |batch| {
        let value = |id: ValueId| match &origins {
            Some(origins) => origins.resolved(id, batch.value(id)),
            None => Arc::clone(batch.value(id)),
        };
        let values = spec.group.iter().chain(&spec.keys).chain([&spec.account, &spec.actor, &spec.fingerprint]);
        let values = values.chain(&spec.matches.call).map(|id| value(*id));
        let own = [EventColumn::Time, EventColumn::Id].map(|column| Arc::clone(batch.event(column)));
        let counted = spec.counted.into_iter().chain(spec.match_role).map(value);
        let columns = own.into_iter().chain(values).chain(counted).zip(converted.fields());
        let columns = columns.map(|(column, field)| compute::cast(&column, field.data_type()));
        let columns: Result<_, ArrowError> = columns.collect();
        let rows = columns.and_then(|columns| RecordBatch::try_new(Arc::clone(&converted), columns));
        [rows.map_err(Into::into)]
    })
}

/// The windows of a grid, as plain data.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "cluster", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct GridRule {
    id: String,
    shape: WindowShape,
    /// The columns of the group.
    groups: Vec<String>,
    /// The columns that decide with the group whether a match is new.
    keys: Vec<String>,
    account_starts: AccountStarts,
    cells: Vec<GridCell>,
    /// The times of triggers of findings.
    range: Range,
}

/// The findings of the windows of a grid.
#[derive(Debug)]
struct GridFindings {
    matches: GridMatches,
    /// The findings of each cell, ordered by their first match.
    found: Vec<Vec<GridFinding>>,
    /// The cells for which more must be read.
    undecided: Vec<usize>,
}

impl GridRule {
    /// Returns the findings of all cells. `rows` are distinct matches in the order of group and time.
    ///
    /// # Errors
    /// There are more matches than a grid holds, or a query failed.
    async fn findings(&self, engine: &Engine, rows: &[RecordBatch]) -> Result<GridFindings, Error> {
        let failed = |error| Error::query(format!("rule `{}`", self.id), error);
        let matches = matches::numbered(self, rows).map_err(failed)?;
        self.check_size(matches.times.len())?;
        let table = matches.table().map_err(failed)?;
        let windows = GridWindows { engine, grid: self, matches: &matches, table };
        let (found, undecided) = Box::pin(windows.findings()).await?;
        Ok(GridFindings { matches, found, undecided })
    }

    fn check_size(&self, matches: usize) -> Result<(), Error> {
        if matches.saturating_mul(self.cells.len()) > MOST_ROWS {
            return Err(Error::Usage {
                message: format!(
                    "{matches} matches in {} cells are more than a parameter grid holds, which is {MOST_ROWS} together",
                    self.cells.len()
                ),
                hint: Some("try fewer thresholds, periods or windows, or a shorter range".to_owned()),
            });
        }
        Ok(())
    }
}

/// The windows of some cells over matches.
struct GridWindows<'w> {
    engine: &'w Engine,
    grid: &'w GridRule,
    matches: &'w GridMatches,
    table: Arc<dyn TableProvider>,
}

impl GridWindows<'_> {
    /// Returns the findings of each cell, and the cells for which more must be read.
    async fn findings(&self) -> Result<(Vec<Vec<GridFinding>>, Vec<usize>), Error> {
        // With few rows, each kind of window runs on one thread, and all at the same time. Else each has all threads and memory.
        let mut queries = Vec::new();
        let mut short = Vec::new();
        for kind in WindowKind::ALL {
            let cells: Vec<GridCell> =
                self.grid.cells.iter().copied().filter(|cell| cell.setting.window.kind == kind).collect();
            if !cells.is_empty() {
                short.extend(self.unanchored(kind, &cells).await?);
                queries.push(self.run(sql::grid(self.grid.shape.with_kind(kind), &cells, self.grid.range)?));
            }
        }
        let mut found = vec![Vec::new(); self.grid.cells.len()];
        let concurrent = if self.few() { queries.len() } else { 1 };
        let running = run_queries(queries, concurrent, |rows: Vec<RecordBatch>| {
            rows.iter().try_for_each(|batch| self.add_findings(batch, &mut found))
        });
        running.await?;
        for (bursts, cell) in found.iter_mut().zip(&self.grid.cells) {
            bursts.sort_unstable();
            let ends = bursts.iter().map(|burst| self.matches.times[burst.last]);
            if is_cut(cell.setting, ends, cell.read) {
                short.push(cell.number);
            }
        }
        short.sort_unstable();
        short.dedup();
        Ok((found, short))
    }

    /// Returns the cells that need a wider range to know their windows at the start of the range.
    async fn unanchored(&self, kind: WindowKind, cells: &[GridCell]) -> Result<Vec<usize>, Error> {
        let (WindowKind::Dedup, Some(from)) = (kind, self.grid.range.from) else {
            return Ok(Vec::new());
        };
        let bounded: Vec<GridCell> = cells.iter().copied().filter(|cell| cell.read.from.is_some()).collect();
        if bounded.is_empty() {
            return Ok(Vec::new());
        }
        let rows =
            self.run(sql::unanchored_grid(self.grid.shape.with_kind(WindowKind::Dedup), &bounded, from)?).await?;
        let settings = ParameterGrid::new(&bounded);
        let numbers = subjects(&rows)?;
        Ok(numbers.into_iter().flat_map(|number| settings.cells_of(number)).collect())
    }

    /// Returns whether there are so few rows that a query runs on one thread.
    fn few(&self) -> bool {
        let periods: BTreeSet<Period> = self.grid.cells.iter().map(|cell| cell.setting.window.period).collect();
        self.matches.times.len() * periods.len() < ROWS_OF_ONE_THREAD
    }

    fn run(&self, sql: String) -> impl Future<Output = Result<Vec<RecordBatch>, Error>> + Send + 'static {
        let engine = if self.few() { self.engine.on_one_thread() } else { self.engine.clone() };
        let (table, subject) = (Arc::clone(&self.table), format!("rule `{}`", self.grid.id));
        async move {
            let rows = engine.run("matched", table, &sql).await;
            rows.map_err(|error| Error::query(subject, error))
        }
    }

    /// Adds the findings in rows of `sql/grid_findings.sql` to those of their cells.
    fn add_findings(&self, batch: &RecordBatch, found: &mut [Vec<GridFinding>]) -> Result<(), Error> {
        let internal = || Error::Internal("a finding of no cell".to_owned());
        let numbers = |name: &str| named_columns::integers(batch, name);
        let (cells, first, last) = (numbers("cell")?, numbers("first_match")?, numbers("last_match")?);
        let (count, trigger) = (numbers("count")?, numbers("trigger_match")?);
        for row in 0..batch.num_rows() {
            let number = |column: &Int64Array| usize::try_from(column.value(row)).map_err(|_| internal());
            let cell = number(cells)?;
            let burst = GridFinding {
                first: number(first)?,
                last: number(last)?,
                count: number(count)?,
                trigger: number(trigger)?,
                cell: self.grid.cells.get(cell).copied(),
            };
            found.get_mut(cell).ok_or_else(internal)?.push(burst);
        }
        Ok(())
    }
}
