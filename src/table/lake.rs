//! A lake as a table, whole or without its damaged files.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{
    Coverage, REQUESTS_OF_A_PARQUET_FILE, Snapshot, SnapshotRecords, Table, TableKind, TableListing, TableReport,
    coverage,
};
use crate::engine::{self, Engine};
use crate::error::{DamagedFile, Error, Fault};
use crate::lake::Lake;
use crate::lake::transaction_log::{FileEntry, VerifiedObjects};
use crate::statistics::ScanStatistics;
use crate::time::{DAY, Instant, Range};
use crate::trail::Prefilter;

/// A damaged file fails what reads it.
#[async_trait]
impl Table for Lake {
    fn kind(&self) -> TableKind {
        TableKind::Lake
    }

    async fn snapshot(&self, range: Range) -> Result<Box<dyn Snapshot + '_>, Error> {
        let version = self.transaction_log().last_commit().await?;
        Ok(Box::new(LakeSnapshot { lake: self, files: self.files(range).await?, version, faults: Vec::new() }))
    }

    async fn retained_from(&self) -> Result<Option<Instant>, Error> {
        self.transaction_log().retained_from().await
    }

    async fn verified_objects(&self, range: Range) -> Result<Option<VerifiedObjects>, Error> {
        verified_objects(self, range).await
    }

    async fn coverage(&self, engine: &Engine, range: Range, _read: &ScanStatistics) -> Result<Coverage, Error> {
        coverage_of(self, self, engine, range).await
    }
}

/// The longest time between an event and the delivery of its object: CloudTrail retries for 30 days.
const MAX_DELIVERY_DELAY: i64 = 31 * DAY;

async fn verified_objects(lake: &Lake, range: Range) -> Result<Option<VerifiedObjects>, Error> {
    let log = lake.transaction_log();
    if range == Range::default() {
        return log.verified_objects(None).await;
    }
    let (from, to) = range.event_times();
    log.verified_objects(Some((from - DAY, to + MAX_DELIVERY_DELAY))).await
}

/// Returns the coverage of `range` by `lake`, which `table` reads.
async fn coverage_of(lake: &Lake, table: &dyn Table, engine: &Engine, range: Range) -> Result<Coverage, Error> {
    let files = lake.files(Range::default()).await?;
    if files.is_empty() {
        return Ok(Coverage::Empty);
    }
    if !engine.selection.is_all() {
        return coverage::of_records(engine, table, range).await;
    }
    // Without a selection the transaction log has the answer.
    let spans: Vec<_> = files.iter().filter_map(FileEntry::time_span).collect();
    if spans.is_empty() {
        return Ok(Coverage::WithoutTimes);
    }
    let oldest = spans.iter().map(|(first, _)| *first).min();
    let newest = spans.iter().map(|(_, last)| *last).max();
    Ok(Coverage::of_span(range, oldest.zip(newest)))
}

/// The most damaged files that are excluded. Each costs another scan.
const MAX_EXCLUDED: usize = 100;

/// A lake that is read without its damaged files, which it reports.
///
/// A nightly run must not read one: it would lose the findings of such files, and never hunt them again.
#[derive(Debug)]
pub struct PartialLake {
    lake: Lake,
    /// The excluded files by their paths or URLs.
    excluded: Mutex<BTreeMap<String, Fault>>,
}

impl PartialLake {
    /// Returns `lake`, from which no file is excluded yet.
    pub fn new(lake: Lake) -> PartialLake {
        PartialLake { lake, excluded: Mutex::default() }
    }

    fn excluded(&self) -> MutexGuard<'_, BTreeMap<String, Fault>> {
        self.excluded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> Vec<Fault> {
        self.excluded().values().cloned().collect()
    }
}

#[async_trait]
impl Table for PartialLake {
    fn kind(&self) -> TableKind {
        TableKind::Lake
    }

    async fn snapshot(&self, range: Range) -> Result<Box<dyn Snapshot + '_>, Error> {
        let version = self.lake.transaction_log().last_commit().await?;
        let mut files = self.lake.files(range).await?;
        let excluded = self.excluded();
        let is_excluded = |file: &FileEntry| {
            excluded.keys().any(|name| name.strip_suffix(&file.path).is_some_and(|folder| folder.ends_with('/')))
        };
        files.retain(|file| !is_excluded(file));
        drop(excluded);
        Ok(Box::new(LakeSnapshot { lake: &self.lake, files, version, faults: self.faults() }))
    }

    fn exclude_damaged(&self, error: &Error) -> bool {
        let Some(DamagedFile { file, reason }) = DamagedFile::of(error) else {
            return false;
        };
        let mut excluded = self.excluded();
        if excluded.len() >= MAX_EXCLUDED || excluded.contains_key(file) {
            return false;
        }
        let fault = Fault { object: file.clone(), position: None, reason: reason.clone() };
        excluded.insert(file.clone(), fault);
        true
    }

    async fn retained_from(&self) -> Result<Option<Instant>, Error> {
        self.lake.transaction_log().retained_from().await
    }

    async fn verified_objects(&self, range: Range) -> Result<Option<VerifiedObjects>, Error> {
        verified_objects(&self.lake, range).await
    }

    async fn coverage(&self, engine: &Engine, range: Range, _read: &ScanStatistics) -> Result<Coverage, Error> {
        coverage_of(&self.lake, self, engine, range).await
    }

    fn report(&self) -> TableReport {
        TableReport { faults: self.faults(), ..TableReport::default() }
    }
}

/// The files of one lake version that may hold records of a range.
#[derive(Debug)]
struct LakeSnapshot<'l> {
    lake: &'l Lake,
    files: Vec<FileEntry>,
    version: u64,
    /// The files that are excluded because they are damaged.
    faults: Vec<Fault>,
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
        for fault in &self.faults {
            statistics.objects.read += 1;
            statistics.objects.rejected += 1;
            statistics.fault(fault.clone());
        }
        statistics
    }
}
