//! A user's own SQL over data, as the tables `cloudtrail` and, of a rule, `matches`.

use std::sync::{Arc, Mutex};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;

use crate::engine::raw_table::RawScan;
use crate::engine::{self, Resources};
use crate::error::Error;
use crate::event;
use crate::hunt::{self, Data, RawTrail};
use crate::rule::Rule;
use crate::sql;
use crate::sql_limits;
use crate::time::Range;
use crate::trail::{Sieve, Trail};

/// The rows of `sql` over the records of `data` with a time in `range`, or all; and their columns.
///
/// # Errors
/// The SQL is wrong, or would change something.
pub async fn run(
    resources: &Resources,
    data: &Data,
    rule: Option<&Rule>,
    range: Range,
    sql: &str,
) -> Result<(SchemaRef, Vec<RecordBatch>), Error> {
    sql_limits::check(sql).map_err(|error| Error::Usage {
        message: format!("the SQL is too complex: {error}"),
        hint: Some(error.advice().to_owned()),
    })?;
    if let (Some(rule), Data::Columnar(columnar)) = (rule, data) {
        columnar.layout().check(rule, columnar.missing())?;
    }
    let matches = rule.map(sql::matching).transpose()?;
    let query = async |table| {
        let rows = engine::query(resources, table, range, matches.as_deref(), sql).await;
        rows.map_err(|error| match error.find_root() {
            DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..) => Error::Usage {
                message: format!("the SQL cannot be run: {}", error.strip_backtrace().replace('\n', " ")),
                hint: Some(
                    "columns are CloudTrail's names as they are, in double quotes; only SELECT is run".to_owned(),
                ),
            },
            _ => Error::query("the data", error),
        })
    };
    let Data::Raw(trail) = data else {
        return query(hunt::table(resources, data, range).await?).await;
    };
    let (trail, found) = (Arc::clone(trail), trail.find(range).await?);
    let table = Arc::new(RawTable { trail, found, threads: resources.threads, last: Mutex::default() });
    let rows = query(Arc::clone(&table) as _).await;
    if let Ok(last) = table.last.lock()
        && let Some(scan) = last.as_ref()
    {
        table.trail.keep(scan);
    }
    rows
}

/// A raw trail that each scan reads anew: a query may name the table twice.
#[derive(Debug)]
struct RawTable {
    trail: Arc<RawTrail>,
    found: Trail,
    threads: usize,
    last: Mutex<Option<Arc<RawScan>>>,
}

#[async_trait]
impl TableProvider for RawTable {
    fn schema(&self) -> SchemaRef {
        event::schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let scan = self.trail.scan(self.found.clone(), Sieve::default());
        if let Ok(mut last) = self.last.lock() {
            *last = Some(Arc::clone(&scan));
        }
        engine::raw_table(&scan, self.threads)?.scan(state, projection, filters, limit).await
    }
}
