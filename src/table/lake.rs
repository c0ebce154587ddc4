//! A lake as a table.

use async_trait::async_trait;

use super::{
    Coverage, REQUESTS_OF_A_PARQUET_FILE, Snapshot, SnapshotRecords, Table, TableKind, TableListing, coverage,
};
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::lake::Lake;
use crate::lake::transaction_log::FileEntry;
use crate::statistics::ScanStatistics;
use crate::time::Range;
use crate::trail::Prefilter;

#[async_trait]
impl Table for Lake {
    fn kind(&self) -> TableKind {
        TableKind::Lake
    }

    async fn snapshot(&self, range: Range) -> Result<Box<dyn Snapshot + '_>, Error> {
        let version = self.transaction_log().last_commit().await?;
        Ok(Box::new(LakeSnapshot { lake: self, files: self.files(range).await?, version }))
    }

    async fn coverage(&self, engine: &Engine, range: Range, _read: &ScanStatistics) -> Result<Coverage, Error> {
        let files = self.files(Range::default()).await?;
        if files.is_empty() {
            return Ok(Coverage::Empty);
        }
        if !engine.selection.is_all() {
            return coverage::of_records(engine, self, range).await;
        }
        // Without a selection the transaction log has the answer.
        let spans: Vec<_> = files.iter().filter_map(FileEntry::time_span).collect();
        let oldest = spans.iter().map(|(first, _)| *first).min();
        let newest = spans.iter().map(|(_, last)| *last).max();
        Ok(Coverage::of_span(range, oldest.zip(newest)))
    }
}

/// The files of one lake version that may hold records of a range.
#[derive(Debug)]
struct LakeSnapshot<'l> {
    lake: &'l Lake,
    files: Vec<FileEntry>,
    version: u64,
}

#[async_trait]
impl Snapshot for LakeSnapshot<'_> {
    fn listing(&self) -> TableListing {
        TableListing::of_sizes(self.files.iter().map(|file| file.bytes), REQUESTS_OF_A_PARQUET_FILE)
    }

    async fn records(&self, engine: &Engine, _prefilter: Prefilter) -> Result<SnapshotRecords, Error> {
        let files = engine::lake_table(engine, self.lake, &self.files)?;
        Ok(SnapshotRecords { provider: super::selected(engine, files)?, files: Vec::new(), raw_scans: None })
    }

    fn statistics(&self, _records: &SnapshotRecords) -> ScanStatistics {
        let mut statistics = super::statistics_of(self.files.iter().map(|file| (file.bytes, file.records)));
        statistics.table_version = Some(self.version);
        for file in &self.files {
            statistics.spans(file.time_span());
        }
        statistics
    }
}
