//! Hunts with every setting of a parameter grid, from one scan.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;

use super::lookback::{self, Attempt, is_cut};
use super::prefilter;
use crate::engine::match_scan::{BufferedMatches, MatchScan};
use crate::engine::{self, Engine, duplicates};
use crate::error::Error;
use crate::event;
use crate::rule::{Rule, Window, WindowKind};
use crate::sql::columns::{self, RuleColumns};
use crate::sql::grid::{GridCell, ParameterGrid};
use crate::sql::match_spec::{CALL_COLUMNS, EventColumn, GridSpec, MatchSpec};
use crate::sql::{self, WindowShape};

use crate::statistics::{Duplicates, ScanStatistics};
use crate::table::{Table, without_damaged_files};
use crate::time::{Instant, Period, Range};

/// Maximum product of matches and cells. In dense data each match is a row of every cell.
const MOST_ROWS: usize = 50_000_000;

/// Queries over fewer rows run on one thread.
const ROWS_OF_ONE_THREAD: usize = 50_000;

/// The matches of a rule, each once for each time it was delivered with, numbered by group and time.
#[derive(Debug)]
pub struct Matches {
    /// The groups; null where a record has no value.
    pub groups: Vec<Vec<Option<String>>>,
    /// For each match the number of its group.
    pub group_of: Vec<usize>,
    /// For each match its time.
    pub times: Vec<Instant>,
    ids: StringArray,
    accounts: StringArray,
    actors: StringArray,
    counted: StringArray,
    /// When the copy before is, of matches whose record was delivered with several times.
    copies_before: TimestampMicrosecondArray,
}

impl Matches {
    /// The numbers of the matches of a finding. They follow one another, but for copies of events that count
    /// with an earlier time.
    pub fn of(&self, found: &Found) -> impl Iterator<Item = usize> + use<'_> {
        let read_from = found.read_from;
        let counts = move |number: &usize| {
            let before = self.copies_before.is_valid(*number).then(|| self.copies_before.value(*number));
            before.is_none_or(|before| read_from.is_some_and(|from| Instant::from_micros(before) < from))
        };
        (found.first..=found.last).filter(counts)
    }

    /// The identity of a match.
    pub fn id(&self, number: usize) -> &str {
        self.ids.value(number)
    }

    /// The account and the actor of a match.
    pub fn who(&self, number: usize) -> (Option<&str>, Option<&str>) {
        let value = |texts: &'_ StringArray| texts.is_valid(number).then_some(number);
        (
            value(&self.accounts).map(|number| self.accounts.value(number)),
            value(&self.actors).map(|number| self.actors.value(number)),
        )
    }
}

/// A finding of a cell, given by the numbers of its matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The first match.
    pub first: usize,
    /// The last match.
    pub last: usize,
    /// The number of matches.
    pub count: usize,
    /// The match with which the count reached the threshold.
    pub trigger: usize,
    /// The start of what the hunt of the cell reads.
    pub read_from: Option<Instant>,
}

/// The findings of all cells of a parameter grid.
#[derive(Debug)]
pub struct Sweep {
    /// The matches of the rule in the range, and around it as far as findings in the range need them.
    pub matches: Matches,
    /// The findings of each cell, ordered by their first match.
    pub found: Vec<Vec<Found>>,
    /// The statistics of the scan.
    pub read: ScanStatistics,
    /// The duplicates among matches with a time in the range.
    pub duplicates: Duplicates,
}

/// Returns what `rule` finds in `table` with each of the windows `cells`, with a trigger in `range`.
///
/// # Errors
/// As for a hunt, or the matches do not fit into memory.
pub async fn sweep(
    engine: &Engine,
    table: &dyn Table,
    rule: &Rule,
    cells: &[Window],
    range: Range,
) -> Result<Sweep, Error> {
    super::check_cluster(engine, table)?;
    cells.iter().try_for_each(|window| rule.check(*window))?;
    let initial = lookback::initial_range(cells.iter().copied(), range);
    table.check(engine, std::slice::from_ref(rule), initial).await?;
    lookback::read_until_decided(cells, range, async |reads| {
        let cell =
            |(number, (window, read)): (usize, (&Window, &Range))| GridCell { number, window: *window, read: *read };
        let cells: Vec<GridCell> = cells.iter().zip(reads).enumerate().map(cell).collect();
        let read = reads.iter().copied().reduce(Range::union).unwrap_or(range);
        let attempt = async || Box::pin(matches(engine, table, rule, read, range)).await;
        let MatchesRead { matches, duplicates, statistics } = without_damaged_files(table, attempt).await?;
        if matches.times.len().saturating_mul(cells.len()) > MOST_ROWS {
            return Err(Error::Usage {
                message: format!(
                    "{} matches in {} cells are more than a sweep holds, which is {MOST_ROWS} together",
                    matches.times.len(),
                    cells.len()
                ),
                hint: Some("try fewer thresholds, periods or windows, or a shorter range".to_owned()),
            });
        }
        let numbered = matches.table().map_err(|error| Error::query(format!("rule `{}`", rule.id), error))?;
        let windows = GridWindows { engine, rule, cells: &cells, range, matches: &matches, table: numbered };
        let (found, undecided) = Box::pin(windows.found()).await?;
        Ok(Attempt { result: Sweep { matches, found, read: statistics, duplicates }, undecided })
    })
    .await
}

/// The matches of a rule, and what reading them came to.
struct MatchesRead {
    matches: Matches,
    duplicates: Duplicates,
    statistics: ScanStatistics,
}

/// Reads the matches with a time in `read`, and counts the duplicates among those with a time in `range`.
async fn matches(
    engine: &Engine,
    table: &dyn Table,
    rule: &Rule,
    read: Range,
    range: Range,
) -> Result<MatchesRead, Error> {
    let failed = |error| Error::query(format!("rule `{}`", rule.id), error);
    let spec = MatchSpec::of_grid(rule, read);
    let groups: Vec<String> = rule.group_by.iter().map(|field| format!("group.{field}")).collect();
    let sql = sql::distinct_matches(&RuleColumns { group: groups.clone(), ..RuleColumns::none() })?;
    let snapshot = table.snapshot(read).await?;
    let records = snapshot.records(engine, prefilter([rule])).await?;
    let scan = MatchScan::new(engine, Arc::clone(&records.provider), &spec.matches).await.map_err(failed)?;
    let buffer = Arc::new(scan.buffer().await.map_err(failed)?);
    let duplicates = duplicates::among_matches(engine, &buffer, spec.matches.call, range).await.map_err(failed)?;
    let matched = matched(engine, &buffer, spec, &groups).map_err(failed)?;
    let rows = engine.run_within("matched", matched, &sql, engine.memory()).await.map_err(failed)?;
    let numbered = numbered(&groups, &rows).map_err(failed)?;
    Ok(MatchesRead { matches: numbered, duplicates, statistics: snapshot.statistics(&records) })
}

/// The table `matched` of the matches of a grid, duplicates included.
fn matched(
    engine: &Engine,
    matches: &Arc<BufferedMatches>,
    spec: GridSpec,
    groups: &[String],
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let mut fields = vec![event::schema().field(0).clone().with_name(EventColumn::Time.name())];
    fields.push(text(EventColumn::Id.name()));
    fields.extend(groups.iter().map(|name| text(name)));
    fields.extend(WHO.map(text));
    fields.push(Field::new(columns::FINGERPRINT, DataType::Int64, true));
    fields.extend(CALL_COLUMNS.map(text));
    fields.push(text(columns::COUNTED));
    let schema = Arc::new(Schema::new(fields));
    let converted = Arc::clone(&schema);
    matches.table(&schema, engine.partitions(), move |batch| {
        let values = spec.group.iter().chain([&spec.account, &spec.actor, &spec.fingerprint]);
        let values = values.chain(&spec.matches.call).map(|id| Arc::clone(batch.value(*id)));
        let own = [EventColumn::Time, EventColumn::Id].map(|column| Arc::clone(batch.event(column)));
        // A rule that counts its matches counts no values.
        let counted = spec
            .counted
            .map_or_else(|| Arc::new(StringArray::new_null(batch.len())) as ArrayRef, |id| Arc::clone(batch.value(id)));
        let columns = own.into_iter().chain(values).chain([counted]).zip(converted.fields());
        let columns = columns.map(|(column, field)| compute::cast(&column, field.data_type()));
        let columns: Result<_, ArrowError> = columns.collect();
        let rows = columns.and_then(|columns| RecordBatch::try_new(Arc::clone(&converted), columns));
        [rows.map_err(Into::into)]
    })
}

/// The columns that tell who acted.
const WHO: [&str; 2] = ["account", "actor"];

/// The matches in rows that are in order.
fn numbered(groups: &[String], rows: &[RecordBatch]) -> Result<Matches, DataFusionError> {
    let texts = |name: &str| -> Result<StringArray, DataFusionError> {
        let parts = rows.iter().map(|batch| {
            let column = batch.column_by_name(name).map(Arc::clone);
            column.map_or_else(|| datafusion::common::internal_err!("the column `{name}` is missing"), Ok)
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        let parts: Vec<&dyn arrow::array::Array> = parts.iter().map(AsRef::as_ref).collect();
        if parts.is_empty() {
            return Ok(StringArray::new_null(0));
        }
        Ok(compute::cast(&compute::concat(&parts)?, &DataType::Utf8)?.as_string::<i32>().clone())
    };
    let times = rows.iter().filter_map(|batch| batch.column_by_name(EventColumn::Time.name()));
    let times = times.flat_map(|times| times.as_primitive::<TimestampMicrosecondType>().values());
    let times = times.map(|micros| Instant::from_micros(*micros)).collect();
    let copies_before = rows.iter().filter_map(|batch| batch.column_by_name(columns::PREVIOUS_COPY_TIME));
    let copies_before = copies_before.flat_map(|times| times.as_primitive::<TimestampMicrosecondType>().iter());
    let copies_before = copies_before.collect::<TimestampMicrosecondArray>().with_timezone("UTC");
    let mut matches = Matches {
        groups: Vec::new(),
        group_of: Vec::new(),
        times,
        ids: texts(EventColumn::Id.name())?,
        accounts: texts(WHO[0])?,
        actors: texts(WHO[1])?,
        counted: texts(columns::COUNTED)?,
        copies_before,
    };
    let columns = groups.iter().map(|name| texts(name)).collect::<Result<Vec<_>, _>>()?;
    for number in 0..matches.times.len() {
        let value = |column: &StringArray| column.is_valid(number).then(|| column.value(number).to_owned());
        let same = |known: &Vec<Option<String>>| {
            let mut pairs = known.iter().zip(&columns);
            pairs.all(|(known, column)| known.as_deref() == column.is_valid(number).then(|| column.value(number)))
        };
        if !matches.groups.last().is_some_and(same) {
            matches.groups.push(columns.iter().map(value).collect());
        }
        matches.group_of.push(matches.groups.len() - 1);
    }
    Ok(matches)
}

impl Matches {
    /// The matches as the table `matched`, by their numbers.
    fn table(&self) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let group: Int64Array = self.group_of.iter().map(|group| count(*group)).collect();
        let times = self.times.iter().map(|time| time.micros());
        let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
        let numbers: Int64Array = (0..self.times.len()).map(count).collect();
        let columns: Vec<(&str, ArrayRef)> = vec![
            (columns::GROUP, Arc::new(group)),
            (EventColumn::Time.name(), Arc::new(times)),
            (EventColumn::Id.name(), Arc::new(numbers)),
            (columns::COUNTED, Arc::new(self.counted.clone())),
            (columns::PREVIOUS_COPY_TIME, Arc::new(self.copies_before.clone())),
        ];
        let fields = columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let columns = columns.iter().map(|(_, column)| Arc::clone(column)).collect();
        engine::memory_table(Arc::clone(&schema), vec![RecordBatch::try_new(schema, columns)?])
    }
}

/// The windows of some cells over matches.
struct GridWindows<'w> {
    engine: &'w Engine,
    rule: &'w Rule,
    cells: &'w [GridCell],
    range: Range,
    matches: &'w Matches,
    table: Arc<dyn TableProvider>,
}

impl GridWindows<'_> {
    /// The findings of each cell, and the cells for which more must be read.
    async fn found(&self) -> Result<(Vec<Vec<Found>>, Vec<usize>), Error> {
        // The kinds side by side where each is the work of one thread; else each has all threads and memory.
        let mut queries = Vec::new();
        let mut short = Vec::new();
        for kind in WindowKind::ALL {
            let cells: Vec<GridCell> = self.cells.iter().copied().filter(|cell| cell.window.kind == kind).collect();
            if !cells.is_empty() {
                short.extend(self.unanchored(kind, &cells).await?);
                queries.push(self.run(sql::grid(WindowShape::of(self.rule).with_kind(kind), &cells, self.range)?));
            }
        }
        let mut found = vec![Vec::new(); self.cells.len()];
        let mut running = tokio::task::JoinSet::new();
        let at_a_time = if self.few() { queries.len() } else { 1 };
        let mut queries = queries.into_iter();
        running.extend(queries.by_ref().take(at_a_time));
        while let Some(done) = running.join_next().await {
            running.extend(queries.next());
            let rows = done.map_err(|error| Error::Internal(format!("a sweep broke off: {error}")))??;
            for batch in &rows {
                self.add_found(batch, &mut found)?;
            }
        }
        for (bursts, cell) in found.iter_mut().zip(self.cells) {
            bursts.sort_unstable();
            let ends = bursts.iter().map(|burst| self.matches.times[burst.last]);
            if is_cut(cell.window, ends, cell.read) {
                short.push(cell.number);
            }
        }
        short.sort_unstable();
        short.dedup();
        Ok((found, short))
    }

    /// Returns the cells that need a wider range to know their windows at the start of the range.
    async fn unanchored(&self, kind: WindowKind, cells: &[GridCell]) -> Result<Vec<usize>, Error> {
        let (WindowKind::Dedup, Some(from)) = (kind, self.range.from) else {
            return Ok(Vec::new());
        };
        let bounded: Vec<GridCell> = cells.iter().copied().filter(|cell| cell.read.from.is_some()).collect();
        if bounded.is_empty() {
            return Ok(Vec::new());
        }
        let rows = self
            .run(sql::unanchored_grid(WindowShape::of(self.rule).with_kind(WindowKind::Dedup), &bounded, from)?)
            .await?;
        let settings = ParameterGrid::new(&bounded);
        let numbers = rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values());
        let numbers = numbers.filter_map(|number| usize::try_from(*number).ok());
        Ok(numbers.flat_map(|number| settings.cells_of(number)).collect())
    }

    /// Returns whether there are so few rows that a query runs on one thread.
    fn few(&self) -> bool {
        let periods: BTreeSet<Period> = self.cells.iter().map(|cell| cell.window.period).collect();
        self.matches.times.len() * periods.len() < ROWS_OF_ONE_THREAD
    }

    fn run(&self, sql: String) -> impl Future<Output = Result<Vec<RecordBatch>, Error>> + Send + 'static {
        let engine = if self.few() { self.engine.on_one_thread() } else { self.engine.clone() };
        let (table, subject) = (Arc::clone(&self.table), format!("rule `{}`", self.rule.id));
        async move {
            let rows = engine.run("matched", table, &sql).await;
            rows.map_err(|error| Error::query(subject, error))
        }
    }

    /// Adds the findings in the rows of a sweep to those of their cells.
    fn add_found(&self, batch: &RecordBatch, found: &mut [Vec<Found>]) -> Result<(), Error> {
        let internal = || Error::Internal("a sweep without its columns".to_owned());
        let numbers = |name: &str| {
            let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<Int64Type>());
            column.ok_or_else(internal)
        };
        let (cells, first, last) = (numbers("cell")?, numbers("first_match")?, numbers("last_match")?);
        let (count, trigger) = (numbers("count")?, numbers("trigger_match")?);
        for row in 0..batch.num_rows() {
            let number = |column: &Int64Array| usize::try_from(column.value(row)).map_err(|_| internal());
            let cell = number(cells)?;
            let burst = Found {
                first: number(first)?,
                last: number(last)?,
                count: number(count)?,
                trigger: number(trigger)?,
                read_from: self.cells.get(cell).and_then(|cell| cell.read.from),
            };
            found.get_mut(cell).ok_or_else(internal)?.push(burst);
        }
        Ok(())
    }
}
