//! Plans for the matches of rules on a cluster: a scan, and stages over its matches.

use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use datafusion::catalog::TableProvider;
use datafusion::common::internal_err;
use datafusion::dataframe::DataFrame;
use datafusion::error::Result;
use datafusion::prelude::{SessionContext, lit};
use datafusion::scalar::ScalarValue;

use super::exchange::{self, KEY, REPORT, ROW, Report};
use super::{Cluster, raw_objects, stages, value_lists};
use crate::engine::raw_table::RawScans;
use crate::engine::{Engine, expressions, functions, match_functions, matcher};
use crate::sql::expression::Expression;
use crate::sql::match_spec::{EventColumn, MatchSpec};
use crate::statistics::ScanStatistics;

/// The results of the last stage of a plan.
#[derive(Debug, Default)]
pub struct StageResults {
    /// The rows.
    pub rows: Vec<RecordBatch>,
    /// The reports of stages, as JSON.
    pub reports: Vec<String>,
}

/// Scans `table` for the matches of `spec` on the cluster of `engine`, and runs `stages` over them. The first stage gets all
/// matches with one identity in one partition. Statistics of raw objects go to `table`.
///
/// # Errors
/// The table cannot be planned, the cluster does not answer, or the results take more than the budget.
pub async fn run(
    engine: &Engine,
    cluster: &Cluster,
    table: &Arc<dyn TableProvider>,
    spec: &MatchSpec,
    stages: Vec<String>,
) -> Result<StageResults> {
    let raw = table.downcast_ref::<RawScans>();
    let context = cluster.session(&engine.session()?)?;
    let rows = match raw {
        Some(raw) => raw_objects::matched(&context, engine, raw, spec)?,
        None => Some(matched(&context, Arc::clone(table), spec)?),
    };
    let (mut results, mut read) = (StageResults::default(), ScanStatistics::default());
    if let Some(rows) = rows {
        let mut rows = value_lists::with_lists(rows, spec)?;
        for stage in stages {
            rows = stages::with_stage(rows, &*cluster.stages, stage)?;
        }
        let (plan, context) = (rows.clone().create_physical_plan().await?, rows.task_ctx());
        for batch in cluster.rows(plan, Arc::new(context), engine.memory).await? {
            let (rows, reports) = exchange::split(&batch)?;
            results.rows.extend(rows);
            for report in reports {
                match report {
                    Report::Objects { statistics, times } => read.add(ScanStatistics { times, ..*statistics }),
                    Report::Stage(report) => results.reports.push(report),
                }
            }
        }
    }
    if let Some(raw) = raw {
        raw.set_remote_statistics(read);
    }
    Ok(results)
}

/// Returns the matches of `spec` in `table` as exchanged rows.
fn matched(context: &SessionContext, table: Arc<dyn TableProvider>, spec: &MatchSpec) -> Result<DataFrame> {
    // Whole rows travel, so only those of matches do.
    let matches = matcher::matches(matcher::candidates(context, table, spec)?, spec)?;
    let id = Expression::call("fingerprint", [EventColumn::Id.expression()]);
    let key = expressions::logical(context, &id, matches.schema())?;
    let columns =
        vec![key.alias(KEY), match_functions::match_row(spec)?.alias(ROW), lit(ScalarValue::Utf8(None)).alias(REPORT)];
    matches.select(columns)
}

/// Returns the keys by which matches with one identity meet.
pub(super) fn keys(matches: &RecordBatch) -> Result<Int64Array> {
    let Some(ids) = matches.column_by_name(EventColumn::Id.name()) else {
        return internal_err!("matches without identities");
    };
    functions::fingerprints(std::slice::from_ref(ids))
}
