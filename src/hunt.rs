//! The one path to findings: rules over data in a range.

use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::compute;
use arrow::datatypes::Int64Type;
use datafusion::catalog::TableProvider;

use crate::engine::raw_table::RawScan;
use crate::engine::{self, Resources};
use crate::error::Error;
use crate::event;
use crate::event::batch::BatchBuilder;
use crate::finding::{self, Finding};
use crate::lake::Lake;
use crate::raw::envelope::Record;
use crate::raw::json;
use crate::rule::{Rule, RuleTest, WindowKind};
use crate::sql::{self, candidates};
use crate::time::{DAY, Range};
use crate::trail::Sieve;

/// How far back is looked for a pause before the whole past is read, in microseconds.
const FAR_BACK: i64 = 1_000 * DAY;

/// What is hunted.
#[derive(Debug, Clone)]
pub enum Data {
    /// A lake.
    Lake(Lake),
    /// One pass over a raw trail. Its sieve must admit what the rules match: see [`sieve`].
    Raw(Arc<RawScan>),
    /// Records in memory, of the schema [`crate::event::schema`].
    Memory(Vec<RecordBatch>),
}

/// The sieve for a raw pass that serves `rules`.
pub fn sieve(rules: &[Rule]) -> Sieve {
    Sieve::new(rules.iter().map(|rule| rule.detection.required_words()).collect())
}

/// The findings of `rules` in `data` whose trigger lies in `range`, in order. Data are read once,
/// whatever the number of rules.
pub async fn evaluate(resources: &Resources, data: &Data, rules: &[Rule], range: Range) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    match (data, rules) {
        (_, []) => {}
        (Data::Lake(lake), [rule]) => findings.extend(in_lake(resources, lake, rule, range, Reach::first(rule)).await?),
        (Data::Lake(lake), rules) => {
            let read = rules.iter().map(|rule| Reach::first(rule).around(range)).reduce(Range::union).unwrap_or(range);
            let table = engine::lake_table(lake, read, resources.threads)?;
            let matched = Matched::scan(resources, table, rules, read, "the lake").await?;
            for (index, rule) in rules.iter().enumerate() {
                match matched.attempt(resources, index, rule, range, read).await? {
                    Attempt::Whole(found) => findings.extend(found),
                    Attempt::Short(reach) => findings.extend(in_lake(resources, lake, rule, range, reach).await?),
                }
            }
        }
        (Data::Raw(scan), rules) => {
            let read = everything_ahead(rules, range);
            let table =
                engine::raw_table(scan, resources.threads).map_err(|error| Error::query("the raw trail", error))?;
            let matched = Matched::scan(resources, table, rules, read, "the raw trail").await?;
            for (index, rule) in rules.iter().enumerate() {
                findings.extend(matched.attempt(resources, index, rule, range, read).await?.whole());
            }
        }
        (Data::Memory(batches), rules) => {
            for rule in rules {
                let table = memory_table(batches.clone(), rule)?;
                findings.extend(attempt(resources, table, rule, range, Range::default()).await?.whole());
            }
        }
    }
    finding::sort(&mut findings);
    Ok(findings)
}

/// What is kept of a raw pass. Every object is decoded, whatever the range; so what matches after it
/// may as well be kept, and for `dedup` what matches before it too.
fn everything_ahead(rules: &[Rule], range: Range) -> Range {
    let past = rules.iter().map(|rule| match rule.window.kind {
        WindowKind::Dedup => Reach { back: None, ahead: 0 },
        WindowKind::Sliding | WindowKind::Tumbling => Reach::first(rule),
    });
    let read = past.map(|reach| reach.around(range)).reduce(Range::union).unwrap_or(range);
    Range { to: None, ..read }
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
    fn first(rule: &Rule) -> Reach {
        let period = rule.window.period.micros();
        match rule.window.kind {
            // Windows are exact one period after the reading begins; whether a burst was triggered
            // before the range shows in the period before it. And a burst may go on after it.
            WindowKind::Sliding => Reach { back: Some(2 * period), ahead: DAY.max(2 * period) },
            // When a window opened depends on the ones before it, back to a pause.
            WindowKind::Dedup => Reach { back: Some(DAY.max(4 * period)), ahead: period },
            WindowKind::Tumbling => Reach { back: Some(period), ahead: period },
        }
    }

    fn further_back(self) -> Reach {
        Reach { back: self.back.map(|back| back.saturating_mul(4)).filter(|back| *back < FAR_BACK), ..self }
    }

    fn further_ahead(self) -> Reach {
        Reach { ahead: self.ahead.saturating_mul(4), ..self }
    }

    fn around(self, range: Range) -> Range {
        let from = range.from.zip(self.back).map(|(from, back)| from.saturating_sub(back));
        Range { from, to: range.to.map(|to| to.saturating_add(self.ahead)) }
    }
}

/// What came of a hunt over a limited reading.
enum Attempt {
    /// The findings.
    Whole(Vec<Finding>),
    /// More must be read, as much as this.
    Short(Reach),
}

impl Attempt {
    /// The findings of a hunt over all there is.
    fn whole(self) -> Vec<Finding> {
        match self {
            Attempt::Whole(findings) => findings,
            Attempt::Short(_) => Vec::new(),
        }
    }
}

async fn in_lake(
    resources: &Resources,
    lake: &Lake,
    rule: &Rule,
    range: Range,
    mut reach: Reach,
) -> Result<Vec<Finding>, Error> {
    loop {
        let read = reach.around(range);
        let table = engine::lake_table(lake, read, resources.threads)?;
        match attempt(resources, table, rule, range, read).await? {
            Attempt::Whole(findings) => return Ok(findings),
            Attempt::Short(further) => reach = further,
        }
    }
}

/// Hunts in `table`, which holds the records with a time in `read`.
async fn attempt(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    rule: &Rule,
    range: Range,
    read: Range,
) -> Result<Attempt, Error> {
    let failed = |error| Error::query(format!("rule `{}`", rule.id), error);
    let period = rule.window.period.micros();
    let reach = Reach {
        back: range.from.zip(read.from).map(|(from, begin)| from - begin),
        ahead: range.to.zip(read.to).map_or(0, |(to, end)| end - to),
    };
    if let (WindowKind::Dedup, Some(from), Some(_)) = (rule.window.kind, range.from, read.from) {
        let rows = resources.run(Arc::clone(&table), &sql::unanchored(rule, from, read)?).await.map_err(failed)?;
        let count = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().iter().sum::<i64>();
        if rows.iter().map(count).sum::<i64>() > 0 {
            return Ok(Attempt::Short(reach.further_back()));
        }
    }
    let rows = resources.run(table, &sql::hunt(rule, range, read)?).await.map_err(failed)?;
    let findings = finding::from_rows(rule, &rows)?;
    let cut = |end: i64| findings.iter().any(|finding| finding.last_instant >= end - period);
    if rule.window.kind == WindowKind::Sliding && read.to.is_some_and(cut) {
        return Ok(Attempt::Short(reach.further_ahead()));
    }
    Ok(Attempt::Whole(findings))
}

fn memory_table(batches: Vec<RecordBatch>, rule: &Rule) -> Result<Arc<dyn TableProvider>, Error> {
    engine::memory_table(batches).map_err(|error| Error::query(format!("rule `{}`", rule.id), error))
}

/// The records that any of some rules matches, from one scan.
struct Matched {
    /// The columns of records, then a flag for each rule.
    batches: Vec<RecordBatch>,
}

impl Matched {
    async fn scan(
        resources: &Resources,
        table: Arc<dyn TableProvider>,
        rules: &[Rule],
        read: Range,
        what: &str,
    ) -> Result<Matched, Error> {
        let batches = resources.run(table, &candidates::text(rules, read)).await;
        Ok(Matched { batches: batches.map_err(|error| Error::query(what, error))? })
    }

    /// Hunts for the rule at `index` in what it matched.
    async fn attempt(
        &self,
        resources: &Resources,
        index: usize,
        rule: &Rule,
        range: Range,
        read: Range,
    ) -> Result<Attempt, Error> {
        let batches = self.of(index).map_err(|error| Error::query(format!("rule `{}`", rule.id), error.into()))?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if rows < usize::try_from(rule.window.threshold.get()).unwrap_or(usize::MAX) {
            return Ok(Attempt::Whole(Vec::new()));
        }
        attempt(resources, memory_table(batches, rule)?, rule, range, read).await
    }

    fn of(&self, index: usize) -> Result<Vec<RecordBatch>, arrow::error::ArrowError> {
        let schema = event::schema();
        let mut batches = Vec::new();
        for batch in &self.batches {
            let flags = batch.column(schema.fields().len() + index).as_boolean();
            if flags.true_count() > 0 {
                let records =
                    RecordBatch::try_new(Arc::clone(&schema), batch.columns()[..schema.fields().len()].to_vec())?;
                batches.push(compute::filter_record_batch(&records, flags)?);
            }
        }
        Ok(batches)
    }
}

/// Whether the record of a rule's test matches the rule: whether a hunt with threshold 1 finds it.
/// The record need not carry a time.
pub async fn matches(resources: &Resources, rule: &Rule, test: &RuleTest) -> Result<bool, Error> {
    let internal = |reason: String| Error::Internal(format!("the test `{}` of `{}`: {reason}", test.name, rule.id));
    let mut members = json::members(&test.log).ok_or_else(|| internal("its record is no object".to_owned()))?;
    members.retain(|(key, _)| !key.eq_ignore_ascii_case("eventTime"));
    let time: &serde_json::value::RawValue =
        serde_json::from_str("\"2000-01-01T00:00:00Z\"").map_err(|error| internal(error.to_string()))?;
    members.push(("eventTime".into(), time));
    let mut builder = BatchBuilder::default();
    builder.push(&Record { text: &test.log, members });
    let batch = builder.finish().map_err(|error| internal(error.to_string()))?;
    let mut rule = rule.clone();
    rule.window.threshold = std::num::NonZeroU32::MIN;
    rule.unique = None;
    let findings = evaluate(resources, &Data::Memory(vec![batch]), &[rule], Range::default()).await?;
    Ok(!findings.is_empty())
}
