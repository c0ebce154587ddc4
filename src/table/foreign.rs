//! Parquet that another tool wrote, as a table.

use async_trait::async_trait;

use super::{
    Coverage, REQUESTS_OF_A_PARQUET_FILE, Snapshot, SnapshotRecords, Table, TableKind, TableListing, TableReport,
    coverage,
};
use crate::engine::Engine;
use crate::engine::columnar_table::Columnar;
use crate::error::Error;
use crate::rule::Rule;
use crate::statistics::ScanStatistics;
use crate::time::Range;
use crate::trail::Prefilter;

#[async_trait]
impl Table for Columnar {
    fn kind(&self) -> TableKind {
        TableKind::Foreign
    }

    async fn snapshot(&self, range: Range) -> Result<Box<dyn Snapshot + '_>, Error> {
        Ok(Box::new(ForeignSnapshot { table: self, range }))
    }

    async fn check(&self, engine: &Engine, rules: &[Rule], range: Range) -> Result<(), Error> {
        Columnar::check(self, engine, rules, range).await
    }

    async fn answerable(&self, engine: &Engine, rules: &[Rule], range: Range) -> Result<Vec<bool>, Error> {
        let opened = self.opened(engine, range).await?;
        Ok(rules.iter().map(|rule| opened.check(rule).is_ok()).collect())
    }

    fn exclude_damaged(&self, error: &Error) -> bool {
        Columnar::exclude_damaged(self, error)
    }

    async fn coverage(&self, engine: &Engine, range: Range, _read: &ScanStatistics) -> Result<Coverage, Error> {
        // Files outside the range may be unreadable. That must not fail a run that only explains an empty result.
        Ok(coverage::of_records(engine, self, range).await.unwrap_or(Coverage::Covered))
    }

    fn report(&self) -> TableReport {
        TableReport {
            layouts: self.layouts(),
            identity_lacks: self.identity_lacks(),
            replaced_bytes: self.replaced(),
            faults: self.faults(),
            notes: self.notes(),
        }
    }
}

/// The files of a range, selected by folder names. Reading their records opens them.
#[derive(Debug)]
struct ForeignSnapshot<'t> {
    table: &'t Columnar,
    range: Range,
}

#[async_trait]
impl Snapshot for ForeignSnapshot<'_> {
    fn listing(&self) -> TableListing {
        TableListing::of_sizes(self.table.sizes(self.range), REQUESTS_OF_A_PARQUET_FILE)
    }

    async fn records(&self, engine: &Engine, _prefilter: Prefilter) -> Result<SnapshotRecords, Error> {
        let files = self.table.table(engine, self.range).await?;
        let provider = super::selected(engine, files)?;
        Ok(SnapshotRecords { provider, files: self.table.opened_files(self.range).await?, raw_scans: None })
    }

    fn statistics(&self, records: &SnapshotRecords) -> ScanStatistics {
        let mut statistics = super::statistics_of(records.files.iter().copied());
        statistics.table_version = self.table.version();
        statistics.replaced_bytes = self.table.replaced();
        for fault in self.table.faults() {
            statistics.objects.read += 1;
            statistics.objects.rejected += 1;
            statistics.fault(fault);
        }
        statistics
    }
}
