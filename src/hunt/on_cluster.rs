//! Rules over tables on a cluster: each rule is a query of its own, because a test of several rules does not travel.

use std::sync::Arc;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::lookback::{self, Attempt};
use super::{HuntOutcome, last_instants};
use crate::engine::Resources;
use crate::error::Error;
use crate::finding::{Finding, Found, Told};
use crate::rule::{Rule, WindowKind};
use crate::sql;
use crate::sql::layout::Layout;
use crate::table::{Table, without_damaged_files};
use crate::tally::Tally;
use crate::time::Range;
use crate::trail::Prefilter;

/// Queries that a cluster has at a time: most of what one takes is waiting for stages to begin and end.
const QUERIES_AT_A_TIME: usize = 4;

/// For each of `rules` its findings whose trigger lies in `range`.
pub(super) async fn hunt(
    resources: &Resources,
    table: &dyn Table,
    rules: &[Rule],
    range: Range,
) -> Result<HuntOutcome, Error> {
    let of_rule = |rule| without_damaged_files(table, async move || hunt_one(resources, table, rule, range).await);
    let of_each: Vec<_> = stream::iter(rules).map(of_rule).buffered(QUERIES_AT_A_TIME).try_collect().await?;
    let mut outcome = HuntOutcome::default();
    for (findings, read) in of_each {
        outcome.findings.push(findings);
        outcome.read = outcome.read.widened_by(read);
    }
    Ok(outcome)
}

async fn hunt_one(
    resources: &Resources,
    table: &dyn Table,
    rule: &Rule,
    range: Range,
) -> Result<(Vec<Finding>, Tally), Error> {
    lookback::read_until_decided(&[rule.window], range, async |reads| {
        let read = reads.first().copied().unwrap_or(range);
        let found = attempt(resources, table, rule, range, read).await?;
        let undecided = if found.is_some() { Vec::new() } else { vec![0] };
        Ok(Attempt { result: found.unwrap_or_default(), undecided })
    })
    .await
}

/// The findings in the records with a time in `read`; `None` where that is too little to decide.
async fn attempt(
    resources: &Resources,
    table: &dyn Table,
    rule: &Rule,
    range: Range,
    read: Range,
) -> Result<Option<(Vec<Finding>, Tally)>, Error> {
    let failed = |error| Error::query(format!("rule `{}`", rule.id), error);
    let snapshot = table.snapshot(read).await?;
    let records = snapshot.records(resources, Prefilter::default()).await?;
    if let (WindowKind::Dedup, Some(from), Some(_)) = (rule.window.kind, range.from, read.from) {
        let table = Arc::clone(&records.provider);
        let mut rows = resources.rows_over(table, &sql::unanchored(rule, from, read)?).await.map_err(failed)?;
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            if batch.column(0).as_primitive::<Int64Type>().values().iter().any(|n| *n > 0) {
                return Ok(None);
            }
        }
    }
    let mut rows =
        resources.rows_over(Arc::clone(&records.provider), &sql::hunt(rule, range, read)?).await.map_err(failed)?;
    let mut found = Found::new(vec![Told { rule, layout: Layout::of(rule) }]);
    while let Some(batch) = rows.try_next().await.map_err(failed)? {
        found.add(&batch)?;
    }
    let findings: Vec<Finding> = found.of_each().into_iter().flatten().collect();
    let is_decided = !lookback::is_cut(rule.window, last_instants(&findings), read);
    Ok(is_decided.then(|| (findings, snapshot.statistics(&records))))
}
