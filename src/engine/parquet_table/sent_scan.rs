//! Scans of guarded files in plans that are sent to other nodes of a cluster.
//!
//! A plan can only name DataFusion's own reader of Parquet. So a scan travels without its guard, together with
//! the entries of its files in the transaction log. The node that receives it puts the guard around it again.

use std::sync::Arc;

use datafusion::common::internal_err;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfig, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;

use super::footer::Footers;
use super::guard::{GuardedReaders, GuardedSource};
use super::lake_file::LakeFile;
use crate::lake::checksum::RecordedFile;

/// Bytes of the footers of other tools' files that a task of a node keeps.
const FOOTER_BYTES: usize = 4 << 20;

/// A scan that can be sent.
pub(in crate::engine) struct SentScan {
    /// The scan without its guard.
    pub(in crate::engine) scan: Arc<dyn ExecutionPlan>,
    /// The entry of each file in the transaction log, in the order of the scan. `None` for files of other tools.
    pub(in crate::engine) recorded: Vec<Option<RecordedFile>>,
}

impl SentScan {
    /// Returns the parts of `plan`. `None` if it is not a scan of guarded files.
    pub(in crate::engine) fn of(plan: &dyn ExecutionPlan) -> Option<SentScan> {
        let config = files_of(plan)?;
        let guarded = config.file_source().downcast_ref::<GuardedSource>()?;
        let files = config.file_groups.iter().flat_map(FileGroup::iter);
        let recorded = files.map(recorded).collect();
        let unguarded = FileScanConfigBuilder::from(config.clone()).with_source(guarded.source()).build();
        Some(SentScan { scan: DataSourceExec::from_data_source(unguarded), recorded })
    }

    /// Returns the scan with its guard, on the node that received it.
    ///
    /// # Errors
    /// The parts do not belong together, or the store of the files is unknown.
    pub(in crate::engine) fn guarded(self, context: &TaskContext) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(config) = files_of(self.scan.as_ref()) else {
            return internal_err!("a scan of files arrived as {}", self.scan.name());
        };
        let Some(source) = config.file_source().downcast_ref::<ParquetSource>() else {
            return internal_err!("a scan of Parquet files arrived with files of {}", config.file_source().file_type());
        };
        let files: usize = config.file_groups.iter().map(FileGroup::len).sum();
        if files != self.recorded.len() {
            return internal_err!("a scan of {files} files arrived with entries for {}", self.recorded.len());
        }
        let mut recorded = self.recorded.into_iter();
        let mut groups = Vec::with_capacity(config.file_groups.len());
        for group in &config.file_groups {
            let files = group.iter().zip(recorded.by_ref()).map(|(file, recorded)| verified(file.clone(), recorded));
            groups.push(FileGroup::new(files.collect()));
        }
        let store = context.runtime_env().object_store(&config.object_store_url)?;
        let readers = GuardedReaders { store, footers: node_footers() };
        let source = GuardedSource::of_parquet(source.clone(), readers, config.object_store_url.clone());
        let config = FileScanConfigBuilder::from(config.clone()).with_source(source).with_file_groups(groups).build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Returns a cache of the footers of other tools' files on a node.
pub(in crate::engine) fn node_footers() -> Footers {
    Footers::new(FOOTER_BYTES, None)
}

/// Returns what the transaction log says of `file`. `None` if it is not a file of a lake.
pub(in crate::engine) fn recorded(file: &PartitionedFile) -> Option<RecordedFile> {
    file.extension::<Arc<LakeFile>>().map(|file| file.recorded())
}

/// Returns `file`, which is verified against the entry of the transaction log when it is read.
pub(in crate::engine) fn verified(file: PartitionedFile, recorded: Option<RecordedFile>) -> PartitionedFile {
    match recorded {
        Some(recorded) => file.with_extension(Arc::new(LakeFile::new(recorded))),
        None => file,
    }
}

fn files_of(plan: &dyn ExecutionPlan) -> Option<&FileScanConfig> {
    plan.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}
