//! Maintenance of a lake: merge the small files of a day, drop old days, and vacuum files that are no longer live.
//!
//! One commit of the transaction log replaces the small files with the merged one. The old files stay for a while,
//! because readers may have opened an earlier state of the log.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::Lake;
use super::part_file::PartFileBuilder;
use super::transaction_log::{FileEntry, Removal};
use crate::delta::LOG_RETENTION;
use crate::error::Error;
use crate::statistics::number_of;
use crate::store::{FolderWriter, LAKE_FOLDER, Scratch, WriterLock};
use crate::time::{DAY, Instant};

/// Approximate size of records in memory, relative to their size in a file.
const INFLATION: u64 = 16;

/// How long a removed file stays before a vacuum deletes it, in microseconds: as long as versions that need it have commits.
pub const READER_GRACE_PERIOD: i64 = LOG_RETENTION * DAY;

/// Rows that are read from a file at a time.
const BATCH_ROWS: usize = 8_192;

/// The work that maintenance did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MaintenanceSummary {
    /// Small files that were merged.
    pub merged: usize,
    /// Files that replaced them.
    pub into: usize,
    /// Files of days that were dropped.
    pub dropped: usize,
    /// Files that the vacuum deleted.
    pub deleted: usize,
}

impl std::fmt::Display for MaintenanceSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MaintenanceSummary { merged, into, dropped, deleted } = self;
        write!(f, "{} merged into {into}, {dropped} dropped, {deleted} deleted", number_of(*merged, "file"))
    }
}

/// Maintenance of one lake, which it holds locked for writing.
#[derive(Debug)]
pub struct Maintenance<'l> {
    lake: &'l Lake,
    writer: FolderWriter,
    /// The current time.
    now: Instant,
    /// The work done so far.
    pub summary: MaintenanceSummary,
}

impl<'l> Maintenance<'l> {
    /// Locks `lake` for writing.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::Busy`] if another process holds the lock.
    pub async fn open(lake: &'l Lake, now: Instant, scratch: &Scratch) -> Result<Maintenance<'l>, Error> {
        let writer = FolderWriter::open(lake.folder(), LAKE_FOLDER, WriterLock::Shared, scratch).await?;
        let writer = writer.ok_or_else(|| Error::Busy { lake: lake.path() })?;
        Ok(Maintenance { lake, writer, now, summary: MaintenanceSummary::default() })
    }

    /// Merges the small files of each day that ends at or before `before`, using about `memory` bytes.
    ///
    /// A damaged file is not merged, because its records would look sound then. The other files are merged.
    ///
    /// # Errors
    /// A file is damaged: the error names it, after the others were merged.
    pub async fn merge(&mut self, before: Instant, memory: usize) -> Result<(), Error> {
        let mut first_damaged = None;
        for groups in plan_merges(self.lake, before, memory).await?.into_values() {
            let (mut added, mut removed) = (Vec::new(), Vec::new());
            for group in groups {
                let mut builder = PartFileBuilder::default();
                let mut files = Vec::with_capacity(group.len());
                for file in group {
                    let bytes = self.lake.folder().read(&file.path).await?;
                    if let Err(damage) = file.recorded().check_file(&bytes) {
                        let path = self.lake.folder().path(&file.path);
                        tracing::warn!(path = %path.display(), %damage, "a damaged file is not merged");
                        first_damaged.get_or_insert((path, damage));
                        continue;
                    }
                    self.append(&file, bytes, &mut builder)?;
                    files.push(file);
                }
                if files.len() < 2 {
                    continue;
                }
                let date = files
                    .first()
                    .map(FileEntry::midnight)
                    .transpose()
                    .map_err(|error| Error::Internal(error.to_string()))?
                    .flatten();
                let (merged, pending) = builder.stage(date, 1, &self.writer).await?;
                pending.publish()?;
                if files.iter().map(|file| file.records).sum::<u64>() != merged.records {
                    return Err(Error::Internal(
                        "a merged file has another number of records than its parts".to_owned(),
                    ));
                }
                added.push(merged);
                removed.extend(files);
            }
            if removed.is_empty() {
                continue;
            }
            self.summary.merged += removed.len();
            self.summary.into += added.len();
            self.commit(added, removed, None).await?;
        }
        match first_damaged {
            None => Ok(()),
            Some((path, damage)) => {
                let source = io::Error::new(io::ErrorKind::InvalidData, damage.to_string());
                Err(Error::File { action: "merge", path, source })
            }
        }
    }

    /// Drops all days older than `age`, in microseconds.
    pub async fn drop_older_than(&mut self, age: i64) -> Result<(), Error> {
        let from = retention_start(self.now, age);
        let files = files_ending_by(self.lake, from).await?;
        if !files.is_empty() {
            self.summary.dropped += files.len();
            self.commit(Vec::new(), files, Some(from)).await?;
        }
        Ok(())
    }

    /// Deletes files that the log says were removed in `[since, until)`. Files that it never listed stay.
    pub async fn vacuum_removed(&mut self, since: Instant, until: Instant) -> Result<(), Error> {
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, at) in self.lake.transaction_log().removed_files().await? {
            if at >= since
                && at < until
                && let Some((folder, name)) = path.rsplit_once('/')
            {
                folders.entry(folder.to_owned()).or_default().insert(name.to_owned());
            }
        }
        for (folder, removed) in folders {
            for name in self.lake.folder().names(&folder).await?.iter().filter(|name| removed.contains(*name)) {
                self.delete(&format!("{folder}/{name}")).await?;
            }
        }
        Ok(())
    }

    async fn delete(&mut self, path: &str) -> Result<(), Error> {
        self.lake.folder().delete(path).await?;
        self.summary.deleted += 1;
        Ok(())
    }

    async fn commit(
        &self,
        merged: Vec<FileEntry>,
        removed: Vec<FileEntry>,
        retained_from: Option<Instant>,
    ) -> Result<(), Error> {
        let removed = removed.into_iter().map(|file| file.path).collect();
        self.lake.transaction_log().commit_removal(&Removal { merged, removed, retained_from }).await?;
        Ok(())
    }

    /// Adds the records of `file`, whose content is `bytes`, to `builder`.
    fn append(&self, file: &FileEntry, bytes: Bytes, builder: &mut PartFileBuilder) -> Result<(), Error> {
        let damaged = |reason: String| Error::TransactionLog { path: self.lake.folder().path(&file.path), reason };
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|reader| reader.with_batch_size(BATCH_ROWS).build());
        for batch in reader.map_err(|error| damaged(error.to_string()))? {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            let rows = (0..batch.num_rows()).collect();
            builder.append(&file.path, &batch, rows).map_err(|error| damaged(error.to_string()))?;
        }
        Ok(())
    }
}

/// Returns the files to merge, by partition folder: groups whose records fit into `memory` bytes.
///
/// Covers the days that end at or before `before`, and records without a time.
pub async fn plan_merges(
    lake: &Lake,
    before: Instant,
    memory: usize,
) -> Result<BTreeMap<String, Vec<Vec<FileEntry>>>, Error> {
    let mut days: BTreeMap<String, Vec<FileEntry>> = BTreeMap::new();
    for file in lake.transaction_log().files().await? {
        if day_end(&file)?.is_none_or(|end| end <= before) {
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            days.entry(folder).or_default().push(file);
        }
    }
    let groups = days.into_iter().map(|(day, files)| (day, merge_groups(files, memory as u64 / INFLATION)));
    Ok(groups.filter(|(_, groups)| !groups.is_empty()).collect())
}

/// Returns the midnight at or before `now - age`, an age in microseconds. Days from then on are retained.
pub fn retention_start(now: Instant, age: i64) -> Instant {
    (now - age).rounded_down(DAY)
}

/// Returns the files of days that end at or before `time`.
pub async fn files_ending_by(lake: &Lake, time: Instant) -> Result<Vec<FileEntry>, Error> {
    let mut files = Vec::new();
    for file in lake.transaction_log().files().await? {
        if day_end(&file)?.is_some_and(|end| end <= time) {
            files.push(file);
        }
    }
    Ok(files)
}

/// Packs files into groups of up to `bytes`, smallest first. A group has at least two files.
fn merge_groups(mut files: Vec<FileEntry>, bytes: u64) -> Vec<Vec<FileEntry>> {
    files.sort_by(|a, b| (a.bytes, &a.path).cmp(&(b.bytes, &b.path)));
    let mut groups: Vec<Vec<FileEntry>> = Vec::new();
    let mut group_bytes = u64::MAX;
    for file in files {
        group_bytes = group_bytes.saturating_add(file.bytes);
        if let Some(group) = groups.last_mut().filter(|_| group_bytes <= bytes) {
            group.push(file);
        } else {
            group_bytes = file.bytes;
            groups.push(vec![file]);
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// Returns the midnight that ends the day of a file. `None` for records without a time.
fn day_end(file: &FileEntry) -> Result<Option<Instant>, Error> {
    // The log checks every path when it is read, so this cannot fail.
    let midnight = file.midnight().map_err(|error| Error::Internal(error.to_string()))?;
    Ok(midnight.map(|begin| begin + DAY))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lake::checksum::MetadataChecksum;

    #[test]
    fn files_are_merged_only_in_groups_of_two_or_more() {
        let file = |bytes: u64| FileEntry {
            path: format!("date=2026-09-01/part-{bytes}.parquet"),
            bytes,
            records: 1,
            first_event: None,
            last_event: None,
            checksum: MetadataChecksum::of(0, b""),
        };
        let sizes = |files: &[u64]| -> Vec<Vec<u64>> {
            let groups = merge_groups(files.iter().copied().map(file).collect(), 100);
            groups.iter().map(|group| group.iter().map(|file| file.bytes).collect()).collect()
        };
        assert_eq!(sizes(&[60, 10, 20, 30, 90, 500]), [vec![10, 20, 30]]);
        assert!(sizes(&[90, 95, 99, 500]).is_empty() && sizes(&[7]).is_empty());
    }
}
