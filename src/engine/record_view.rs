//! Tables whose rows a query computes, for code that reads the same records several times.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::error::DataFusionError;
use datafusion::physical_plan;
use futures::TryStreamExt as _;
use futures::future::try_join_all;

use super::match_buffer::{Convert, MatchBufferWriter};
use super::{Engine, planned};
use crate::error::Error;

/// A table whose rows a query computes.
pub type RecordView = Arc<dyn TableProvider>;

/// The name of the table that the SQL of a view reads.
pub const RECORDS: &str = "cloudtrail";

/// The name of a view in the SQL that reads it.
pub const VIEW: &str = "records";

impl Engine {
    /// Returns the rows of `sql`, which reads `table` as [`RECORDS`], as a table. Each query of it computes the rows that it
    /// needs.
    ///
    /// # Errors
    /// The SQL is wrong.
    pub async fn view(&self, table: Arc<dyn TableProvider>, sql: &str) -> Result<RecordView, DataFusionError> {
        let context = self.session()?;
        context.register_table(RECORDS, table)?;
        Ok(context.sql(sql).await?.into_view())
    }

    /// Returns the rows of `sql` as [`Engine::view`] does, but computes them now and only once. They are in memory up to a part
    /// of the budget, and beyond that in files.
    ///
    /// # Errors
    /// The query fails, or a file cannot be written.
    pub async fn buffered_view(&self, table: Arc<dyn TableProvider>, sql: &str) -> Result<RecordView, DataFusionError> {
        let context = self.session()?;
        context.register_table(RECORDS, table)?;
        let plan = planned(&context, sql).await?;
        self.scanned.follow(&plan);
        let schema = plan.schema();
        let writer = MatchBufferWriter::spilling(self.match_memory, Arc::clone(&self.runtime), Arc::clone(&schema));
        let streams = physical_plan::execute_stream_partitioned(plan, context.task_ctx())?;
        let parts = try_join_all(streams.into_iter().map(|stream| writer.write(stream))).await?;
        let unchanged: Convert = Arc::new(|_, batch| Box::new(std::iter::once(Ok(batch))));
        Arc::new(writer.finish(parts)).table(&schema, self.partitions(), Vec::new(), &unchanged)
    }

    /// Calls `each` with the rows of `sql`, which reads `view` as [`VIEW`] and selects few rows of it.
    ///
    /// # Errors
    /// The query fails, or `each` does.
    pub async fn for_each_row_batch(
        &self,
        view: RecordView,
        sql: &str,
        subject: &str,
        mut each: impl FnMut(&RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let failed = |error: DataFusionError| Error::query(subject, error);
        let rows = async {
            let context = self.session_with_cache(0)?;
            context.register_table(VIEW, view)?;
            let plan = planned(&context, sql).await?;
            self.scanned.follow(&plan);
            physical_plan::execute_stream(plan, context.task_ctx())
        };
        let mut rows = rows.await.map_err(failed)?;
        while let Some(batch) = rows.try_next().await.map_err(failed)? {
            each(&batch)?;
        }
        Ok(())
    }
}
