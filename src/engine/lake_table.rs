//! The files of a lake as a table: those the ledger names, read with row-group and page pruning.

use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use crate::event;
use crate::lake::ledger::FileEntry;

/// Chosen files of a lake.
#[derive(Debug)]
pub struct LakeTable {
    files: Vec<(std::path::PathBuf, u64)>,
    threads: usize,
}

impl LakeTable {
    /// The table over `files` of the lake at `root`, an absolute path.
    pub(super) fn new(root: &Path, files: Vec<FileEntry>, threads: usize) -> LakeTable {
        let files = files.into_iter().map(|file| (root.join(file.path), file.bytes)).collect();
        LakeTable { files, threads }
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        event::schema()
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
                Some(columns) => Arc::new(event::schema().project(columns)?),
                None => event::schema(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let mut files = Vec::with_capacity(self.files.len());
        for (path, bytes) in &self.files {
            let key = object_store::path::Path::from_absolute_path(path)
                .map_err(|error| DataFusionError::External(Box::new(error)))?;
            files.push(PartitionedFile::new_from_meta(object_store::ObjectMeta {
                location: key,
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: *bytes,
                e_tag: None,
                version: None,
            }));
        }
        let options = state.default_table_options().parquet;
        let source = ParquetSource::new(event::schema()).with_table_parquet_options(options);
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(FileGroup::new(files).split_files(self.threads))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
