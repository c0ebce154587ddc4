//! The files of a lake as a table: those the ledger names, read with row-group and page pruning.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;

use crate::event;
use crate::lake::ledger::FileEntry;
use crate::store::Folder;

/// Chosen files of a lake.
#[derive(Debug)]
pub struct LakeTable {
    lake: Folder,
    files: Vec<FileEntry>,
    threads: usize,
}

impl LakeTable {
    /// The table over `files` of the lake in `lake`, on disk an absolute path.
    pub(super) fn new(lake: Folder, files: Vec<FileEntry>, threads: usize) -> LakeTable {
        LakeTable { lake, files, threads }
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
        let store = self.lake.registered(state.runtime_env())?;
        let mut files = Vec::with_capacity(self.files.len());
        for file in &self.files {
            files.push(PartitionedFile::new_from_meta(object_store::ObjectMeta {
                location: self.lake.key(&file.path)?,
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: file.bytes,
                e_tag: None,
                version: None,
            }));
        }
        let options = state.default_table_options().parquet;
        let source = ParquetSource::new(event::schema()).with_table_parquet_options(options);
        let config = FileScanConfigBuilder::new(store, Arc::new(source))
            .with_file_groups(FileGroup::new(files).split_files(self.threads))
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}
