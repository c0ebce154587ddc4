//! The accounts and regions whose events queries see.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::prelude::ident;

use super::{Resources, expressions, within};
use crate::event::EVENT_TIME;
use crate::sql::selection;
use crate::time::Range;

/// The accounts and regions of the events that queries see. Others may be read, and are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSelection {
    /// Only events of these accounts; of all where there are none.
    pub accounts: Vec<String>,
    /// Only events of these regions; of all where there are none.
    pub regions: Vec<String>,
}

impl EventSelection {
    /// Whether it leaves no event out.
    pub fn is_all(&self) -> bool {
        self.accounts.is_empty() && self.regions.is_empty()
    }
}

impl Resources {
    /// The same, for queries that see the events of `selection` alone.
    #[must_use]
    pub fn with_selection(self, selection: EventSelection) -> Resources {
        Resources { selection, ..self }
    }

    /// The records of `table` that the queries see.
    pub fn selected(&self, table: Arc<dyn TableProvider>) -> Result<Arc<dyn TableProvider>, DataFusionError> {
        if self.selection.is_all() {
            return Ok(table);
        }
        let context = self.session()?;
        let records = context.read_table(table)?;
        let condition = selection::condition(&self.selection.accounts, &self.selection.regions);
        let condition = expressions::logical(&context, &condition, records.schema())?;
        Ok(records.filter(condition)?.into_view())
    }

    /// Whether `table` has a record; where `range` is bounded, one with a time in it.
    pub async fn has_records(&self, table: Arc<dyn TableProvider>, range: Range) -> Result<bool, DataFusionError> {
        let records = within(self.session()?.read_table(table)?, range)?;
        let rows = records.select(vec![ident(EVENT_TIME)])?.limit(0, Some(1))?.collect().await?;
        Ok(rows.iter().any(|batch| batch.num_rows() > 0))
    }

    /// The times of the oldest and the newest record of `table`; `None` where none has a time.
    pub async fn time_span(&self, table: Arc<dyn TableProvider>) -> Result<Option<(i64, i64)>, DataFusionError> {
        let records = self.session()?.read_table(table)?;
        let span = records.aggregate(vec![], vec![min(ident(EVENT_TIME)), max(ident(EVENT_TIME))])?.collect().await?;
        let ends = |batch: &arrow::array::RecordBatch| {
            let time = |column: usize| {
                let times = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>()?;
                (!times.is_empty() && times.is_valid(0)).then(|| times.value(0))
            };
            time(0).zip(time(1))
        };
        Ok(span.iter().find_map(ends))
    }
}
