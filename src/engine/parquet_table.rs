//! A list of Parquet files as a table. Row groups and pages are pruned. Footers and pages are checked before they are decoded.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::ObjectStore;

mod declared_columns;
mod footer;
mod guard;
mod lake_file;
mod pages;
#[cfg(feature = "cluster")]
mod sent_scan;
mod small_file;
mod thrift;

pub(super) use declared_columns::declared;
pub(super) use footer::{Footer, Footers};
use guard::{GuardedReaders, GuardedSource};
pub(super) use lake_file::LakeFile;
#[cfg(feature = "cluster")]
pub(super) use sent_scan::{SentScan, node_footers, recorded, verified};
pub(crate) use small_file::read_small_file;

/// Files of one store with one schema.
#[derive(Debug)]
pub(super) struct ParquetTable {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) url: ObjectStoreUrl,
    pub(super) schema: TableSchema,
    pub(super) files: Vec<PartitionedFile>,
    /// The number of scans that run at a time.
    pub(super) threads: usize,
    /// The footers of files of other tools.
    pub(super) footers: Footers,
}

/// Returns the path of a file on disk, or its URL.
pub(super) fn file_name(url: &ObjectStoreUrl, location: &object_store::path::Path) -> String {
    // The URL of the disk ends with the slash with which an absolute path begins.
    let root = url.as_str();
    format!("{}{location}", root.strip_prefix("file://").unwrap_or(root))
}

#[async_trait]
impl TableProvider for ParquetTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.schema.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if self.files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        state.runtime_env().register_object_store(self.url.as_ref(), Arc::clone(&self.store));
        let options = state.default_table_options().parquet;
        let source = ParquetSource::new(self.schema.clone()).with_table_parquet_options(options);
        let readers = GuardedReaders { store: Arc::clone(&self.store), footers: self.footers.clone() };
        let source = GuardedSource::of_parquet(source, readers, self.url.clone());
        let config = FileScanConfigBuilder::new(self.url.clone(), source)
            .with_file_groups(FileGroup::new(self.files.clone()).split_files(self.threads))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
