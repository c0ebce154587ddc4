//! Upkeep of a lake: small files of a day are merged, old days are dropped, and what is no longer read is deleted.
//!
//! A commit of the ledger puts the merged file in the place of those it was made of, all at once. These stay where they
//! are for a while, for readers that know them by an earlier state of the ledger.

use std::collections::{BTreeMap, BTreeSet};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::Lake;
use super::ledger::{FileEntry, Upkeep};
use super::part::Part;
use crate::error::Error;
use crate::store::{LAKE_FOLDER, Scratch, Writer};
use crate::tally::number_of;
use crate::time::DAY;

/// How many times larger records are in memory than in a file, about.
const INFLATED: u64 = 16;

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

impl Done {
    /// What was done, in few words.
    pub fn sentence(&self) -> String {
        let Done { merged, into, dropped, deleted } = self;
        format!("{} merged into {into}, {dropped} dropped, {deleted} deleted", number_of(*merged, "file"))
    }
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

    /// Merges the small files of each day that ends at or before `before`; what is merged takes about `memory` bytes.
    pub async fn merge(&self, before: i64, memory: usize, done: &mut Done) -> Result<(), Error> {
        // Before the files: where another run commits from here on, this one is told so and has changed nothing.
        let mut last = self.lake.ledger().last().await?;
        for groups in mergeable(self.lake, before, memory).await?.into_values() {
            let (mut added, mut removed) = (Vec::new(), Vec::new());
            for files in groups {
                let mut part = Part::default();
                for file in &files {
                    self.read(file, &mut part).await?;
                }
                let date = files.first().map(FileEntry::midnight).transpose().map_err(Error::Internal)?.flatten();
                let (merged, pending) = part.stage(date, 1, &self.writer).await?;
                pending.publish()?;
                if files.iter().map(|file| file.records).sum::<u64>() != merged.records {
                    return Err(Error::Internal("a merged file does not hold what it was made of".to_owned()));
                }
                added.push(merged);
                removed.extend(files);
            }
            done.merged += removed.len();
            done.into += added.len();
            self.commit(&mut last, added, removed, None).await?;
        }
        Ok(())
    }

    /// Drops all days that are older than `age`, in microseconds, from the lake.
    pub async fn retain(&self, age: i64, done: &mut Done) -> Result<(), Error> {
        let mut last = self.lake.ledger().last().await?;
        let from = retained_from(self.now, age);
        let files = droppable(self.lake, from).await?;
        if !files.is_empty() {
            done.dropped += files.len();
            self.commit(&mut last, Vec::new(), files, Some(from)).await?;
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

    /// Deletes files below the lake that the ledger does not name, as runs that were broken off leave them, where they
    /// were last written before `until`.
    pub async fn sweep_strays(&self, until: i64, done: &mut Done) -> Result<(), Error> {
        let ledger = self.lake.ledger();
        let mut known: BTreeSet<String> = ledger.files().await?.into_iter().map(|file| file.path).collect();
        known.extend(ledger.removed().await?.into_iter().map(|(path, _)| path));
        for (name, modified) in self.lake.folder().all().await? {
            let is_part = name.starts_with("date=") && name.ends_with(".parquet");
            if is_part && modified < until && !known.contains(&name) {
                self.writer.delete(&name).await?;
                done.deleted += 1;
            }
        }
        Ok(())
    }

    /// Adds the commit after `last`, and counts it.
    async fn commit(
        &self,
        last: &mut u32,
        added: Vec<FileEntry>,
        removed: Vec<FileEntry>,
        retained_from: Option<i64>,
    ) -> Result<(), Error> {
        let ledger = self.lake.ledger();
        let removed = removed.into_iter().map(|file| file.path).collect();
        let upkeep = Upkeep { removed, retained_from, at: self.now };
        *last += 1;
        ledger.upkeep(&self.writer, *last, added, upkeep).await
    }

    /// Adds the records of a file to `part`.
    async fn read(&self, file: &FileEntry, part: &mut Part) -> Result<(), Error> {
        let bytes = self.lake.folder().read(&file.path).await?;
        let damaged = |reason: String| Error::Ledger { path: self.lake.folder().path(&file.path), reason };
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes)
            .and_then(|builder| builder.with_batch_size(BATCH_ROWS).build());
        for batch in reader.map_err(|error| damaged(error.to_string()))? {
            let batch = batch.map_err(|error| damaged(error.to_string()))?;
            let rows = (0..batch.num_rows()).collect();
            part.push(&file.path, &batch, rows).map_err(|error| damaged(error.to_string()))?;
        }
        Ok(())
    }
}

/// What is to be merged of the days that end at or before `before`, and of records without a time: for each day, groups
/// of files that fit into `memory` bytes together.
pub async fn mergeable(
    lake: &Lake,
    before: i64,
    memory: usize,
) -> Result<BTreeMap<String, Vec<Vec<FileEntry>>>, Error> {
    let mut days: BTreeMap<String, Vec<FileEntry>> = BTreeMap::new();
    for file in lake.ledger().files().await? {
        if end(&file)?.is_none_or(|end| end <= before) {
            let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
            days.entry(folder).or_default().push(file);
        }
    }
    let groups = days.into_iter().map(|(day, files)| (day, groups(files, memory as u64 / INFLATED)));
    Ok(groups.filter(|(_, groups)| !groups.is_empty()).collect())
}

/// The midnight from which on days are not older than `age`, all in microseconds.
pub fn retained_from(now: i64, age: i64) -> i64 {
    now.saturating_sub(age).div_euclid(DAY).saturating_mul(DAY)
}

/// The files of days that end at or before `from`.
pub async fn droppable(lake: &Lake, from: i64) -> Result<Vec<FileEntry>, Error> {
    let mut droppable = Vec::new();
    for file in lake.ledger().files().await? {
        if end(&file)?.is_some_and(|end| end <= from) {
            droppable.push(file);
        }
    }
    Ok(droppable)
}

/// Groups of two or more files, the smallest first, that have up to `bytes` together.
fn groups(mut files: Vec<FileEntry>, bytes: u64) -> Vec<Vec<FileEntry>> {
    files.sort_by(|a, b| (a.bytes, &a.path).cmp(&(b.bytes, &b.path)));
    let mut groups: Vec<Vec<FileEntry>> = Vec::new();
    let mut held = u64::MAX;
    for file in files {
        held = held.saturating_add(file.bytes);
        if let Some(group) = groups.last_mut().filter(|_| held <= bytes) {
            group.push(file);
        } else {
            held = file.bytes;
            groups.push(vec![file]);
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// The midnight that ends the day of a file; `None` for records without a time.
fn end(file: &FileEntry) -> Result<Option<i64>, Error> {
    // The ledger has made sure of it when it was read.
    let midnight = file.midnight().map_err(Error::Internal)?;
    Ok(midnight.map(|begin| begin.saturating_add(DAY)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_becomes_fewer_files_is_merged() {
        let file = |bytes: u64| FileEntry {
            path: format!("date=2026-09-01/part-{bytes}.parquet"),
            bytes,
            records: 1,
            first_event: None,
            last_event: None,
        };
        let sizes = |files: &[u64]| -> Vec<Vec<u64>> {
            let groups = groups(files.iter().copied().map(file).collect(), 100);
            groups.iter().map(|group| group.iter().map(|file| file.bytes).collect()).collect()
        };
        assert_eq!(sizes(&[60, 10, 20, 30, 90, 500]), [vec![10, 20, 30]]);
        assert!(sizes(&[90, 95, 99, 500]).is_empty() && sizes(&[7]).is_empty());
    }
}
