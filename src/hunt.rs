//! The one path to findings: rules over data in a range.

use std::sync::Arc;

use arrow::array::{Array, AsArray as _, BooleanArray, RecordBatch};
use arrow::compute;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::engine::columnar_table::Columnar;
use crate::engine::raw_table::RawScan;
use crate::engine::{self, Resources};
use crate::error::Error;
use crate::event;
use crate::finding::{self, Finding, Found, Told};
use crate::lake::Lake;
use crate::rule::{Rule, Window, WindowKind};
use crate::sql;
use crate::sql::layout::Layout;
use crate::tally::Duplicates;
use crate::time::{DAY, Range};
use crate::trail::Prefilter;

pub mod coverage;
pub mod events;
mod matched;
mod matched_rows;
pub mod newest;
mod raw;
pub mod reading;
pub mod sweep;
mod tested;

use matched::Matched;
pub use raw::{Progress, RawTrail};
pub use tested::tested;

/// How far back is looked for a pause before the whole past is read, in microseconds.
const FAR_BACK: i64 = 1_000 * DAY;

/// Queries that a cluster has at a time: most of what one takes is waiting for stages to begin and end.
const QUERIES_AT_A_TIME: usize = 4;

/// What is hunted.
#[derive(Debug, Clone)]
pub enum Data {
    /// A lake.
    Lake(Lake),
    /// Parquet that another tool wrote.
    Columnar(Arc<Columnar>),
    /// A raw trail.
    Raw(Arc<RawTrail>),
    /// Records in memory, of the schema [`crate::event::schema`].
    Memory(Vec<RecordBatch>),
}

impl Data {
    /// Runs `work`, and again for each file of another tool whose damage made it fail, which is then left out.
    pub(crate) async fn without_damaged_files<T>(&self, work: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
        loop {
            match (work().await, self) {
                (Err(error), Data::Columnar(columnar)) if columnar.leave_out(&error) => {}
                (result, _) => return result,
            }
        }
    }
}

/// The prefilter for a raw pass that serves `rules`.
fn prefilter(rules: &[Rule]) -> Prefilter {
    Prefilter::new(rules.iter().map(|rule| rule.detection.required_words()).collect())
}

/// The findings of `rules` in `data` whose trigger lies in `range`, in order. Data are read once,
/// whatever the number of rules.
pub async fn evaluate(resources: &Resources, data: &Data, rules: &[Rule], range: Range) -> Result<Vec<Finding>, Error> {
    let found = evaluate_each(resources, data, rules, range).await?;
    let mut findings: Vec<Finding> = found.into_iter().flatten().collect();
    finding::sort(&mut findings);
    Ok(findings)
}

/// Makes sure that data which are to be hunted on a cluster can be.
fn check_cluster(resources: &Resources, data: &Data) -> Result<(), Error> {
    if resources.on_cluster() && matches!(data, Data::Raw(_) | Data::Memory(_)) {
        return Err(Error::Usage {
            message: "a raw trail is not hunted on a cluster".to_owned(),
            hint: Some("make it a lake with `tawny convert`, or hunt it here, without `--cluster`".to_owned()),
        });
    }
    Ok(())
}

/// As [`evaluate`], the findings of each rule by themselves.
pub async fn evaluate_each(
    resources: &Resources,
    data: &Data,
    rules: &[Rule],
    range: Range,
) -> Result<Vec<Vec<Finding>>, Error> {
    Ok(hunt(resources, data, rules, range).await?.findings)
}

/// What a hunt came to.
#[derive(Debug, Clone, Default)]
pub struct HuntOutcome {
    /// For each rule its findings, in order.
    pub findings: Vec<Vec<Finding>>,
    /// The duplicates among the records that any rule matches, with a time in the range; not known on a cluster.
    pub duplicates: Option<Duplicates>,
}

/// Hunts `data` for the findings of `rules` whose trigger lies in `range`. Data are read once, whatever the number of
/// rules.
///
/// # Errors
/// A rule cannot have its window, or the data cannot answer it, or they cannot be read.
pub async fn hunt(resources: &Resources, data: &Data, rules: &[Rule], range: Range) -> Result<HuntOutcome, Error> {
    rules.iter().try_for_each(|rule| rule.check(rule.window))?;
    if let Data::Columnar(columnar) = data {
        columnar.check(resources, rules, reading::initial(rules, range)).await?;
    }
    check_cluster(resources, data)?;
    let mut outcome = match data {
        Data::Raw(trail) => Box::pin(trail.hunt(resources, rules, range)).await?,
        Data::Lake(_) | Data::Columnar(_) | Data::Memory(_) => {
            data.without_damaged_files(async || in_tables(resources, data, rules, range).await).await?
        }
    };
    for findings in &mut outcome.findings {
        finding::sort(findings);
    }
    Ok(outcome)
}

/// How much is read before and after a range for its findings, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reach {
    /// All that is before it where there is none.
    back: Option<i64>,
    ahead: i64,
}

impl Reach {
    /// What mostly suffices.
    fn first(window: Window) -> Reach {
        let period = window.period.micros();
        match window.kind {
            // Windows are exact one period after the reading begins; whether a burst was triggered
            // before the range shows in the period before it. And a burst may go on after it.
            WindowKind::Sliding => Reach { back: Some(2 * period), ahead: DAY.max(2 * period) },
            // When a window opened depends on the ones before it, back to a pause.
            WindowKind::Dedup => Reach { back: Some(DAY.max(4 * period)), ahead: period },
            WindowKind::Tumbling => Reach { back: Some(period), ahead: period },
        }
    }

    /// More, where that did not suffice.
    fn further(self) -> Reach {
        Reach {
            back: self.back.map(|back| back.saturating_mul(4)).filter(|back| *back < FAR_BACK),
            ahead: self.ahead.saturating_mul(4),
        }
    }

    fn around(self, range: Range) -> Range {
        let from = range.from.zip(self.back).map(|(from, back)| from.saturating_sub(back));
        Range { from, to: range.to.map(|to| to.saturating_add(self.ahead)) }
    }
}

/// The selected records of a lake, of other Parquet or in memory, of which those outside `read` need not be.
pub(crate) async fn table(resources: &Resources, data: &Data, read: Range) -> Result<Arc<dyn TableProvider>, Error> {
    let table = match data {
        Data::Lake(lake) => engine::lake_table(resources, lake, read).await?,
        Data::Columnar(columnar) => columnar.table(resources, read).await?,
        Data::Memory(batches) => engine::memory_table(event::schema(), batches.clone())
            .map_err(|error| Error::query("records in memory", error))?,
        Data::Raw(_) => return Err(Error::Internal("a raw trail is no table".to_owned())),
    };
    resources.selected(table).await.map_err(|error| Error::query("the selected accounts and regions", error))
}

/// The selected records of a raw trail, as `scan` reads them.
async fn raw_table(resources: &Resources, scan: &Arc<RawScan>) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    resources.selected(engine::raw_table(scan, resources.threads)?).await
}

/// For each of `rules` its findings, from one scan for all.
async fn in_tables(resources: &Resources, data: &Data, rules: &[Rule], range: Range) -> Result<HuntOutcome, Error> {
    // On a cluster each rule is a query: what a scan for several tests cannot travel.
    if rules.len() < 2 || resources.on_cluster() {
        let of_rule = |rule| in_table(resources, data, rule, range, Reach::first(rule.window));
        let of_each: Vec<_> = stream::iter(rules).map(of_rule).buffered(QUERIES_AT_A_TIME).try_collect().await?;
        let (findings, duplicates): (_, Vec<_>) = of_each.into_iter().unzip();
        // Of several rules, a sum would count a record for each that matches it.
        return Ok(HuntOutcome { findings, duplicates: duplicates.into_iter().next().flatten() });
    }
    let reads: Vec<Range> = rules.iter().map(|rule| Reach::first(rule.window).around(range)).collect();
    let read = reads.iter().copied().reduce(Range::union).unwrap_or(range);
    let table = table(resources, data, read).await?;
    let matched = Matched::scan(resources, table, &rules.iter().collect::<Vec<_>>(), reads, "the data").await?;
    let duplicates = matched.duplicates(resources, range).await?;
    let mut outcome = matched.hunt(resources, range).await?;
    drop(matched);
    for number in outcome.short {
        let rule = &rules[number];
        let reach = Reach::first(rule.window).further();
        (outcome.findings[number], _) = in_table(resources, data, rule, range, reach).await?;
    }
    Ok(HuntOutcome { findings: outcome.findings, duplicates: Some(duplicates) })
}

/// The findings of one rule, by its own query, whose sorts go to disk where memory does not suffice; and the duplicates
/// among its matches.
async fn in_table(
    resources: &Resources,
    data: &Data,
    rule: &Rule,
    range: Range,
    mut reach: Reach,
) -> Result<(Vec<Finding>, Option<Duplicates>), Error> {
    loop {
        let read = reach.around(range);
        let table = table(resources, data, read).await?;
        match attempt(resources, table, rule, range, read).await? {
            Some(found) => return Ok(found),
            None => reach = reach.further(),
        }
    }
}

/// The findings in `table`, which holds the records with a time in `read`; nothing where that is
/// too little to tell.
async fn attempt(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    rule: &Rule,
    range: Range,
    read: Range,
) -> Result<Option<(Vec<Finding>, Option<Duplicates>)>, Error> {
    let failed = |error| Error::query(format!("rule `{}`", rule.id), error);
    let run = |sql: String| {
        let table = Arc::clone(&table);
        async move { resources.rows_over(table, &sql).await.map_err(failed) }
    };
    if let (WindowKind::Dedup, Some(from), Some(_)) = (rule.window.kind, range.from, read.from) {
        let mut rows = run(sql::unanchored(rule, from, read)?).await?;
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            if batch.column(0).as_primitive::<Int64Type>().values().iter().any(|n| *n > 0) {
                return Ok(None);
            }
        }
    }
    let sql = sql::hunt(rule, range, read)?;
    let (mut rows, tap) = resources.rows_and_duplicates(table, &sql, range).await.map_err(failed)?;
    let mut found = Found::new(vec![Told { rule, layout: Layout::of(rule) }]);
    while let Some(batch) = rows.try_next().await.map_err(failed)? {
        found.add(&batch)?;
    }
    drop(rows);
    let findings: Vec<Finding> = found.of_each().into_iter().flatten().collect();
    if is_cut(rule.window, last_instants(&findings), read) {
        return Ok(None);
    }
    Ok(Some((findings, tap.map(|tap| tap.duplicates()))))
}

fn last_instants(findings: &[Finding]) -> impl Iterator<Item = i64> {
    findings.iter().map(|finding| finding.last_instant)
}

/// Whether a burst may go on after what was read: one of those that end at `ends` reaches to within a
/// period of its end.
fn is_cut(window: Window, mut ends: impl Iterator<Item = i64>, read: Range) -> bool {
    let near = |end: i64| ends.any(|last| last >= end - window.period.micros());
    window.kind == WindowKind::Sliding && read.to.is_some_and(near)
}

/// Of `flags` those whose time lies in `read`.
fn within(times: &dyn Array, flags: &BooleanArray, read: Range) -> Result<BooleanArray, ArrowError> {
    let times = times.as_primitive::<TimestampMicrosecondType>().values();
    let outside = |time: &i64| read.from.is_some_and(|from| *time < from) || read.to.is_some_and(|to| *time >= to);
    if !times.iter().any(outside) {
        return Ok(flags.clone());
    }
    compute::and(flags, &times.iter().map(|time| Some(!outside(time))).collect::<BooleanArray>())
}
