//! Records in memory as a table.

use arrow::array::RecordBatch;
use async_trait::async_trait;

use super::{Coverage, Snapshot, SnapshotRecords, Table, TableKind, TableListing};
use crate::engine::{self, Engine};
use crate::error::Error;
use crate::event;
use crate::statistics::ScanStatistics;
use crate::time::Range;
use crate::trail::Prefilter;

/// Records in memory, with the columns of [`crate::event::schema`].
#[derive(Debug, Clone)]
pub struct MemoryTable(pub Vec<RecordBatch>);

#[async_trait]
impl Table for MemoryTable {
    fn kind(&self) -> TableKind {
        TableKind::Memory
    }

    async fn snapshot(&self, _range: Range) -> Result<Box<dyn Snapshot + '_>, Error> {
        Ok(Box::new(MemorySnapshot(&self.0)))
    }

    async fn coverage(&self, _engine: &Engine, _range: Range, _read: &ScanStatistics) -> Result<Coverage, Error> {
        Ok(Coverage::Covered)
    }
}

#[derive(Debug)]
struct MemorySnapshot<'t>(&'t [RecordBatch]);

#[async_trait]
impl Snapshot for MemorySnapshot<'_> {
    fn listing(&self) -> TableListing {
        TableListing::default()
    }

    async fn records(&self, engine: &Engine, _prefilter: Prefilter) -> Result<SnapshotRecords, Error> {
        let records = engine::memory_table(event::schema(), self.0.to_vec())
            .map_err(|error| Error::query("records in memory", error))?;
        Ok(SnapshotRecords { provider: super::selected(engine, records)?, files: Vec::new(), raw_scans: None })
    }

    fn statistics(&self, _records: &SnapshotRecords) -> ScanStatistics {
        super::statistics_of(self.0.iter().map(|batch| (0, batch.num_rows() as u64)))
    }
}
