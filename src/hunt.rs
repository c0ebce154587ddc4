//! The one path to findings: rules over data in a range.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;

use crate::engine::raw_table::RawScan;
use crate::engine::{self, Resources};
use crate::error::Error;
use crate::event::batch::BatchBuilder;
use crate::finding::{self, Finding};
use crate::lake::Lake;
use crate::raw::envelope::Record;
use crate::raw::json;
use crate::rule::{Rule, RuleTest};
use crate::sql;
use crate::time::{DAY, Period, Range};
use crate::trail::Sieve;

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

/// The findings of `rules` in `data` whose trigger lies in `range`, in order.
pub async fn evaluate(resources: &Resources, data: &Data, rules: &[Rule], range: Range) -> Result<Vec<Finding>, Error> {
    let held = match data {
        Data::Lake(_) => None,
        Data::Raw(scan) => Some(candidates(resources, scan, rules, range).await?),
        Data::Memory(batches) => Some(batches.clone()),
    };
    let mut findings = Vec::new();
    for rule in rules {
        let failed = |error| Error::query(format!("rule `{}`", rule.id), error);
        match (data, &held) {
            (Data::Lake(lake), _) => findings.extend(in_lake(resources, lake, rule, range).await?),
            (_, held) => {
                let table = engine::memory_table(held.clone().unwrap_or_default()).map_err(failed)?;
                findings.extend(query(resources, table, rule, range, reading(rule.window.period, range, None)).await?);
            }
        }
    }
    finding::sort(&mut findings);
    Ok(findings)
}

/// What must be read for the findings of a range. Windows are exact one period after the reading
/// begins; whether a burst was triggered before the range shows in the period before it. So reading
/// begins two periods early.
fn reading(period: Period, range: Range, to: Option<i64>) -> Range {
    Range { from: range.from.map(|from| from - 2 * period.micros()), to }
}

/// Decodes a raw trail once and keeps the records that any of the rules matches.
async fn candidates(
    resources: &Resources,
    scan: &Arc<RawScan>,
    rules: &[Rule],
    range: Range,
) -> Result<Vec<RecordBatch>, Error> {
    let failed = |error| Error::query("the raw trail", error);
    let Some(longest) = rules.iter().map(|rule| rule.window.period).max() else {
        return Ok(Vec::new());
    };
    let table = engine::raw_table(scan, resources.threads).map_err(failed)?;
    resources.run(table, &sql::candidates(rules, reading(longest, range, None))).await.map_err(failed)
}

/// A burst that is triggered in the range may go on after it. The reading ends a day after the
/// range; where a burst reaches to within a period of that end, it is read on.
async fn in_lake(resources: &Resources, lake: &Lake, rule: &Rule, range: Range) -> Result<Vec<Finding>, Error> {
    let period = rule.window.period.micros();
    let mut ahead = DAY.max(2 * period);
    loop {
        let read = reading(rule.window.period, range, range.to.map(|to| to.saturating_add(ahead)));
        let table = engine::lake_table(lake, read, resources.threads)?;
        let findings = query(resources, table, rule, range, read).await?;
        let cut = |end: i64| findings.iter().any(|finding| finding.last_instant >= end - period);
        if !read.to.is_some_and(cut) {
            return Ok(findings);
        }
        ahead = ahead.saturating_mul(4);
    }
}

async fn query(
    resources: &Resources,
    table: Arc<dyn TableProvider>,
    rule: &Rule,
    range: Range,
    read: Range,
) -> Result<Vec<Finding>, Error> {
    let rows = resources.run(table, &sql::hunt(rule, range, read)?).await;
    finding::from_rows(rule, &rows.map_err(|error| Error::query(format!("rule `{}`", rule.id), error))?)
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
    let findings = evaluate(resources, &Data::Memory(vec![batch]), &[rule], Range::default()).await?;
    Ok(!findings.is_empty())
}
