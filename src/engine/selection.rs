//! Selects the events of accounts and regions.

use std::sync::Arc;

use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::TimestampMicrosecondType;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::prelude::ident;

use super::{Engine, expressions, within};
use crate::event::EVENT_TIME;
use crate::sql::selection;
use crate::time::{Instant, Range};

/// The accounts and regions whose events queries return. Events of others may be read, and are filtered out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSelection {
    /// The selected accounts; all if empty.
    pub accounts: Vec<String>,
    /// The selected regions; all if empty.
    pub regions: Vec<String>,
}

impl EventSelection {
    /// Returns whether all events are selected.
    pub fn is_all(&self) -> bool {
        self.accounts.is_empty() && self.regions.is_empty()
    }
}

impl Engine {
    /// Returns a copy whose queries return only the events of `selection`.
    #[must_use]
    pub fn with_selection(self, selection: EventSelection) -> Engine {
        Engine { selection, ..self }
    }

    /// Returns the selected records of `table`.
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

    /// Returns whether `table` has a record with a time in `range`, or any record if the range is unbounded.
    pub async fn has_records(&self, table: Arc<dyn TableProvider>, range: Range) -> Result<bool, DataFusionError> {
        let records = within(self.session()?.read_table(table)?, range)?;
        let rows = records.select(vec![ident(EVENT_TIME)])?.limit(0, Some(1))?.collect().await?;
        Ok(rows.iter().any(|batch| batch.num_rows() > 0))
    }

    /// Returns the times of the oldest and the newest record of `table`. `None` if no record has a time.
    pub async fn time_span(
        &self,
        table: Arc<dyn TableProvider>,
    ) -> Result<Option<(Instant, Instant)>, DataFusionError> {
        let records = self.session()?.read_table(table)?;
        let span = records.aggregate(vec![], vec![min(ident(EVENT_TIME)), max(ident(EVENT_TIME))])?.collect().await?;
        let ends = |batch: &arrow::array::RecordBatch| {
            let time = |column: usize| {
                let times = batch.column(column).as_primitive_opt::<TimestampMicrosecondType>()?;
                (!times.is_empty() && times.is_valid(0)).then(|| Instant::from_micros(times.value(0)))
            };
            time(0).zip(time(1))
        };
        Ok(span.iter().find_map(ends))
    }
}
