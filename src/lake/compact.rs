//! Upkeep of a lake: small files of a day are merged, old days are dropped, and what is no longer read is deleted.
//!
//! A commit of the ledger puts the merged file in the place of those it was made of, all at once. These stay where they
//! are for a while, for readers that know them by an earlier state of the ledger.

use std::collections::{BTreeMap, BTreeSet};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use serde::Serialize;

use super::Lake;
use super::ledger::{FileEntry, Upkeep};
use super::part::Part;
use crate::error::Error;
use crate::store::{LAKE_FOLDER, Scratch, Writer};
use crate::time::{self, DAY};

/// A file of this size or more, in bytes, is left as it is.
const BIG: u64 = 64 << 20;

/// A file that was removed is left this long for readers that are at it, in microseconds.
pub const READERS_END_WITHIN: i64 = DAY;

/// How much is read of a file at a time, in rows.
const BATCH_ROWS: usize = 8_192;

/// What upkeep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Files that were merged.
    pub merged: usize,
    /// Files that they became.
    pub into: usize,
    /// Files of days that were dropped.
    pub dropped: usize,
    /// Files that were deleted, since nobody reads them any more.
    pub deleted: usize,
}

/// Upkeep of a lake that is taken for writing.
#[derive(Debug)]
pub struct Keeper<'l> {
    lake: &'l Lake,
    writer: Writer,
    /// The time that counts as now, in microseconds.
    now: i64,
}

impl Keeper<'_> {
    /// Takes `lake`.
    ///
    /// # Errors
    /// Besides what the store says, [`Error::Busy`] where another process has it.
    pub async fn open<'l>(lake: &'l Lake, now: i64, scratch: &Scratch) -> Result<Keeper<'l>, Error> {
        let writer = Writer::open(lake.folder(), LAKE_FOLDER, scratch).await?;
        let writer = writer.ok_or_else(|| Error::Busy { lake: lake.path() })?;
        Ok(Keeper { lake, writer, now })
    }

    /// The days that end at or before `before` and have several small files, each with these.
    pub async fn mergeable(&self, before: i64) -> Result<BTreeMap<String, Vec<FileEntry>>, Error> {
        let mut days: BTreeMap<String, Vec<FileEntry>> = BTreeMap::new();
        for file in self.lake.ledger().files().await? {
            if file.bytes < BIG && end(&file).is_some_and(|end| end <= before) {
                let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
                days.entry(folder).or_default().push(file);
            }
        }
        days.retain(|_, files| files.len() > 1);
        Ok(days)
    }

    /// Merges the small files of each day that ends at or before `before`; each new file holds up to about `memory`
    /// bytes of records as they are in memory.
    pub async fn merge(&self, before: i64, memory: usize, done: &mut Done) -> Result<(), Error> {
        for files in self.mergeable(before).await?.into_values() {
            let mut merged = Vec::new();
            let mut part = Part::default();
            let date = files.first().and_then(end).map(|end| end - DAY);
            for file in &files {
                self.read(file, &mut part).await?;
                if part.memory >= memory {
                    merged.push(self.write(std::mem::take(&mut part), date).await?);
                }
            }
            if part.memory > 0 {
                merged.push(self.write(part, date).await?);
            }
            let records = |files: &[FileEntry]| files.iter().map(|file| file.records).sum::<u64>();
            if records(&files) != records(&merged) {
                return Err(Error::Internal("merged files do not hold what they were made of".to_owned()));
            }
            if merged.len() >= files.len() {
                continue;
            }
            done.merged += files.len();
            done.into += merged.len();
            self.commit(merged, files, None).await?;
        }
        Ok(())
    }

    /// The files of days that end at or before the midnight `from`.
    pub async fn droppable(&self, from: Option<i64>) -> Result<Vec<FileEntry>, Error> {
        let mut files = self.lake.ledger().files().await?;
        files.retain(|file| end(file).zip(from).is_some_and(|(end, from)| end <= from));
        Ok(files)
    }

    /// Drops all days that end at or before the midnight `from` from the lake.
    pub async fn retain(&self, from: i64, done: &mut Done) -> Result<(), Error> {
        let files = self.droppable(Some(from)).await?;
        if !files.is_empty() {
            done.dropped += files.len();
            self.commit(Vec::new(), files, Some(from)).await?;
        }
        Ok(())
    }

    /// Deletes files that were removed from the lake between `since` and `until`.
    pub async fn sweep(&self, since: i64, until: i64, done: &mut Done) -> Result<(), Error> {
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (path, at) in self.lake.ledger().removed().await? {
            if at >= since
                && at < until
                && let Some((folder, name)) = path.rsplit_once('/')
            {
                folders.entry(folder.to_owned()).or_default().insert(name.to_owned());
            }
        }
        for (folder, removed) in folders {
            for name in self.lake.folder().names(&folder).await?.iter().filter(|name| removed.contains(*name)) {
                self.writer.delete(&format!("{folder}/{name}")).await?;
                done.deleted += 1;
            }
        }
        Ok(())
    }

    async fn commit(
        &self,
        added: Vec<FileEntry>,
        removed: Vec<FileEntry>,
        retained_from: Option<i64>,
    ) -> Result<(), Error> {
        let ledger = self.lake.ledger();
        let removed = removed.into_iter().map(|file| file.path).collect();
        let upkeep = Upkeep { removed, retained_from, at: self.now };
        ledger.upkeep(&self.writer, ledger.last().await? + 1, added, upkeep).await
    }

    /// Adds the records of a file to `part`.
    async fn read(&self, file: &FileEntry, part: &mut Part) -> Result<(), Error> {
        let bytes = self.lake.folder().read(&file.path).await?;
        let damaged = |reason: String| Error::Ledger { path: self.lake.folder().path(&file.path), reason };
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
        for batch in reader.map_err(|error| damaged(error.to_string()))? {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            part.push(&file.path, batch, std::iter::empty()).map_err(|error| damaged(error.to_string()))?;
        }
        Ok(())
    }

    async fn write(&self, part: Part, date: Option<i64>) -> Result<FileEntry, Error> {
        let encoded = tokio::task::spawn_blocking(move || part.encode(date)).await;
        let internal = |error: ParquetError| Error::Internal(format!("a Parquet file: {error}"));
        let (entry, bytes) = encoded.map_err(|error| Error::Internal(error.to_string()))?.map_err(internal)?;
        self.writer.stage(&entry.path, bytes.into()).await?.publish()?;
        Ok(entry)
    }
}

/// The midnight that ends the day of a file; `None` for records without a time.
fn end(file: &FileEntry) -> Option<i64> {
    let date = file.path.strip_prefix("date=")?.split('/').next()?;
    time::parse_instant(date).ok().map(|begin| begin + DAY)
}
