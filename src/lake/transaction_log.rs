//! The transaction log of a lake: numbered commits that list the live files and the converted objects.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::checksum::{MetadataChecksum, RecordedFile};
use crate::error::Error;
use crate::event::SCHEMA_VERSION;
use crate::store::{self, Folder, FolderWriter, hex};
use crate::time::{EVENT_TIMES, Instant, event_time};

/// The value of the partition `date=…` for records without a time: Hive's name for a null.
pub(super) const NO_DATE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The version of the log's own format.
const LOG_VERSION: u32 = 1;

/// Commits that are read concurrently.
const CONCURRENT_READS: usize = 32;

/// The transaction log of one lake.
#[derive(Debug, Clone)]
pub struct TransactionLog {
    lake: Folder,
    folder: String,
    cache: CommitCache,
}

/// Commits already read, by number. A commit never changes.
pub(super) type CommitCache = Arc<Mutex<BTreeMap<u32, Commit>>>;

/// One Parquet file of a lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path relative to the lake's folder.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of records.
    pub records: u64,
    /// Earliest event time, in microseconds since the epoch. Absent if no record has a time.
    pub first_event: Option<i64>,
    /// Latest event time, in microseconds since the epoch.
    pub last_event: Option<i64>,
    /// The checksum of its page indexes and footer. The footer has those of its pages.
    pub checksum: MetadataChecksum,
}

/// A log entry lists a file outside the partition folders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it lists {path:?}, which is not in a `date=…` folder")]
pub struct PartitionError {
    /// The path of the file.
    pub path: String,
}

impl FileEntry {
    /// Returns the sizes and the checksum that readers compare with the file.
    pub fn recorded(&self) -> RecordedFile {
        RecordedFile { bytes: self.bytes, records: self.records, checksum: self.checksum }
    }

    /// Returns the earliest and latest event time, clamped to [`EVENT_TIMES`]. `None` if no time is within it.
    pub fn time_span(&self) -> Option<(Instant, Instant)> {
        let (first, last) =
            self.first_event.map(Instant::from_micros).zip(self.last_event.map(Instant::from_micros))?;
        let (first, last) = (first.max(EVENT_TIMES.start), last.min(EVENT_TIMES.end - 1));
        (first <= last).then_some((first, last))
    }

    /// Returns the midnight that starts the file's partition. `None` for records without a time.
    ///
    /// # Errors
    /// The path is not in a `date=…` folder.
    pub fn midnight(&self) -> Result<Option<Instant>, PartitionError> {
        let date = self.path.strip_prefix("date=").and_then(|path| path.split_once('/')).map(|(date, _)| date);
        let midnight = match date {
            Some(NO_DATE) => return Ok(None),
            Some(date) if !date.contains([':', ' ']) => date.parse().ok(),
            _ => None,
        };
        midnight.map(Some).ok_or_else(|| PartitionError { path: self.path.clone() })
    }

    /// Returns whether the file holds times outside [`EVENT_TIMES`]. Earlier builds wrote such files.
    pub fn holds_other_times(&self) -> bool {
        [self.first_event, self.last_event].into_iter().flatten().any(|time| event_time(time).is_none())
    }
}

/// A converted object: its records are in the lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// See [`crate::store::Object::identity`].
    pub id: String,
    /// Its path at the time of the conversion.
    pub path: String,
    /// Delivery day, if known. See [`crate::trail::delivered_on`].
    #[serde(skip)]
    pub delivered: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    #[serde(rename = "ledger_version")]
    log_version: u32,
    schema_version: u32,
    /// Name of the file that lists the objects of this commit. Earlier builds named it after the commit's number and
    /// left this out.
    #[serde(default)]
    objects: Option<String>,
    /// First and last delivery day of those objects, in microseconds. Absent unless every day is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered: Option<(i64, i64)>,
    files: Vec<FileEntry>,
    /// Present only in commits of maintenance.
    #[serde(rename = "upkeep", default, skip_serializing_if = "Option::is_none")]
    removal: Option<Removal>,
}

impl Commit {
    fn empty() -> Commit {
        Commit {
            log_version: LOG_VERSION,
            schema_version: SCHEMA_VERSION,
            objects: None,
            delivered: None,
            files: Vec::new(),
            removal: None,
        }
    }

    /// Returns every path that the commit names.
    fn paths(&self) -> impl Iterator<Item = &str> {
        let removed = self.removal.iter().flat_map(|removal| &removal.removed);
        let files = self.files.iter().map(|file| &file.path);
        files.chain(removed).chain(&self.objects).map(String::as_str)
    }
}

/// The files that a commit of maintenance removes from the lake.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// Paths of the removed files. A later vacuum deletes them, once no reader has them open.
    pub removed: Vec<String>,
    /// The first time the lake still holds, in microseconds, if the commit dropped old days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained_from: Option<i64>,
    /// When the files were removed, in microseconds.
    pub at: i64,
}

impl TransactionLog {
    pub(super) fn new(lake: Folder, folder: String, cache: CommitCache) -> TransactionLog {
        TransactionLog { lake, folder, cache }
    }

    /// Returns the live files, in commit order.
    pub async fn files(&self) -> Result<Vec<FileEntry>, Error> {
        let mut files: Vec<FileEntry> = Vec::new();
        for (number, commit) in self.commits().await? {
            if let Some(removal) = commit.removal {
                let removed: HashSet<&String> = removal.removed.iter().collect();
                let before = files.len();
                files.retain(|file| !removed.contains(&file.path));
                if before - files.len() != removed.len() {
                    let reason = "it removes files that no earlier commit added".to_owned();
                    return Err(self.damaged(&self.path_of(&commit_name(number)), reason));
                }
            }
            files.extend(commit.files);
        }
        Ok(files)
    }

    /// Returns the files that conversions added after commit `number`, including files merged since.
    pub async fn files_added_since(&self, number: u32) -> Result<Vec<FileEntry>, Error> {
        let is_new = |(commit_number, commit): &(u32, Commit)| *commit_number > number && commit.removal.is_none();
        let commits = self.commits().await?.into_iter().filter(is_new);
        Ok(commits.flat_map(|(_, commit)| commit.files).collect())
    }

    /// Returns the first time the lake still holds, in microseconds. `None` if no days were dropped.
    pub async fn retained_from(&self) -> Result<Option<i64>, Error> {
        let removals = self.commits().await?.into_iter().filter_map(|(_, commit)| commit.removal);
        Ok(removals.filter_map(|removal| removal.retained_from).max())
    }

    /// Returns the paths of the files that maintenance removed, each with the time of its removal in microseconds.
    pub async fn removed_files(&self) -> Result<Vec<(String, i64)>, Error> {
        let removals = self.commits().await?.into_iter().filter_map(|(_, commit)| commit.removal);
        Ok(removals.flat_map(|removal| removal.removed.into_iter().map(move |path| (path, removal.at))).collect())
    }

    /// Returns the identities of converted objects.
    ///
    /// With `delivered`, a first and last day, it skips commits whose objects were all delivered on other days. The
    /// result may still include some of those.
    pub async fn object_ids(&self, delivered: Option<(i64, i64)>) -> Result<HashSet<String>, Error> {
        let is_wanted = |(_, commit): &(u32, Commit)| {
            let spans = delivered.zip(commit.delivered);
            commit.removal.is_none() && spans.is_none_or(|(wanted, held)| wanted.0 <= held.1 && held.0 <= wanted.1)
        };
        let read = |(number, commit): (u32, Commit)| async move {
            let name = self.path_of(&commit.objects.unwrap_or_else(|| format!("{number:08}.objects.jsonl")));
            let text = self.lake.read_text(&name).await?;
            let ids = text.lines().map(|line| serde_json::from_str::<ObjectEntry>(line).map(|entry| entry.id));
            ids.collect::<Result<Vec<_>, _>>().map_err(|error| self.damaged(&name, error.to_string()))
        };
        let commits = self.commits().await?;
        let ids: Vec<Vec<String>> = futures::stream::iter(commits.into_iter().filter(is_wanted).map(read))
            .buffered(CONCURRENT_READS)
            .try_collect()
            .await?;
        Ok(ids.into_iter().flatten().collect())
    }

    /// Returns the number of the last commit, or 0 if there is none.
    pub async fn last_commit(&self) -> Result<u32, Error> {
        Ok(self.commit_numbers().await?.last().copied().unwrap_or_default())
    }

    /// Adds commit `number` of a conversion. The files must already exist; readers see them from now on.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::Busy`] if another run has added that commit.
    pub async fn commit(
        &self,
        writer: &FolderWriter,
        number: u32,
        files: Vec<FileEntry>,
        objects: &[ObjectEntry],
    ) -> Result<(), Error> {
        let mut lines = Vec::new();
        for object in objects {
            serde_json::to_writer(&mut lines, object).map_err(|error| unserializable(&error))?;
            lines.push(b'\n');
        }
        // The hash keeps apart the files of two runs that write the same commit at the same time.
        let name = format!("{number:08}-{}.objects.jsonl", hex(&Sha256::digest(&lines)[..8]));
        writer.stage(&self.path_of(&name), lines.into()).await?.publish()?;
        let delivered = day_span(objects.iter().map(|object| object.delivered));
        self.write(writer, number, Commit { objects: Some(name), delivered, files, ..Commit::empty() }).await
    }

    /// Adds commit `number` of maintenance: `removal` takes files out, and `files` replace merged ones.
    ///
    /// # Errors
    /// See [`TransactionLog::commit`].
    pub async fn commit_removal(
        &self,
        writer: &FolderWriter,
        number: u32,
        files: Vec<FileEntry>,
        removal: Removal,
    ) -> Result<(), Error> {
        let commit = Commit { files, removal: Some(removal), ..Commit::empty() };
        self.write(writer, number, commit).await
    }

    async fn write(&self, writer: &FolderWriter, number: u32, commit: Commit) -> Result<(), Error> {
        let mut text = serde_json::to_vec_pretty(&commit).map_err(|error| unserializable(&error))?;
        text.push(b'\n');
        if writer.create(&self.path_of(&commit_name(number)), text.into()).await? {
            return Ok(());
        }
        Err(Error::Busy { lake: self.lake.path("") })
    }

    /// Returns all commits in order, from the cache if possible.
    async fn commits(&self) -> Result<Vec<(u32, Commit)>, Error> {
        let read = |number: u32| async move {
            let cached = self.cache.lock().ok().and_then(|cache| cache.get(&number).cloned());
            if let Some(commit) = cached {
                return Ok((number, commit));
            }
            let name = self.path_of(&commit_name(number));
            let commit: Commit = serde_json::from_str(&self.lake.read_text(&name).await?)
                .map_err(|error| self.damaged(&name, error.to_string()))?;
            if commit.log_version != LOG_VERSION || commit.schema_version != SCHEMA_VERSION {
                let reason = format!(
                    "its version is {}.{}, but this build reads {LOG_VERSION}.{SCHEMA_VERSION}",
                    commit.log_version, commit.schema_version
                );
                return Err(self.damaged(&name, reason));
            }
            if let Some(outside) = commit.paths().find(|path| !store::stays_within(path)) {
                return Err(self.damaged(&name, format!("it lists {outside:?}, which is not a path within the lake")));
            }
            if let Some(reason) = commit.files.iter().find_map(|file| file.midnight().err()) {
                return Err(self.damaged(&name, reason.to_string()));
            }
            if let Ok(mut cache) = self.cache.lock() {
                cache.insert(number, commit.clone());
            }
            Ok((number, commit))
        };
        let numbers = self.commit_numbers().await?;
        futures::stream::iter(numbers.into_iter().map(read)).buffered(CONCURRENT_READS).try_collect().await
    }

    /// Returns the numbers of the commits in ascending order.
    async fn commit_numbers(&self) -> Result<Vec<u32>, Error> {
        let names = self.lake.names(&self.folder).await?;
        let is_number = |stem: &&str| stem.len() == 8 && stem.bytes().all(|byte| byte.is_ascii_digit());
        let number = |name: &String| name.strip_suffix(".json").filter(is_number)?.parse::<u32>().ok();
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        let gap = numbers.iter().zip(1..).find(|(number, expected)| *number != expected);
        match gap {
            Some((_, missing)) => Err(self.damaged(&self.path_of(&commit_name(missing)), "it is missing".to_owned())),
            None => Ok(numbers),
        }
    }

    fn path_of(&self, file: &str) -> String {
        format!("{}/{file}", self.folder)
    }

    fn damaged(&self, name: &str, reason: String) -> Error {
        let path: PathBuf = self.lake.path(name);
        Error::Ledger { path, reason }
    }
}

/// Returns the first and last of `days`. `None` if any is unknown or there are none.
pub fn day_span(days: impl Iterator<Item = Option<i64>>) -> Option<(i64, i64)> {
    let days: Vec<i64> = days.collect::<Option<_>>()?;
    days.iter().min().copied().zip(days.iter().max().copied())
}

fn commit_name(number: u32) -> String {
    format!("{number:08}.json")
}

fn unserializable(error: &serde_json::Error) -> Error {
    Error::Internal(format!("cannot write a commit of the transaction log: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY;

    fn file(path: &str, times: (i64, i64)) -> FileEntry {
        let (first_event, last_event) = (Some(times.0), Some(times.1));
        let checksum = MetadataChecksum::of(0, b"");
        FileEntry { path: path.to_owned(), bytes: 0, records: 1, first_event, last_event, checksum }
    }

    #[test]
    fn a_file_is_in_the_partition_of_a_date_or_of_none() {
        let midnight = |path: &str| file(path, (0, 0)).midnight();
        assert_eq!(midnight("date=1970-01-02/part-a.parquet"), Ok(Some(Instant::from_micros(DAY))));
        assert_eq!(midnight("date=__HIVE_DEFAULT_PARTITION__/part-a.parquet"), Ok(None));
        assert!(midnight("date=+262142-12-31/part-a.parquet").is_ok(), "earlier builds accepted any time");
        for path in
            ["part-a.parquet", "date=/a", "date=soon/a", "date=2026-13-01/a", "day=2026-09-01/a", "date=2026-09-01"]
        {
            assert_eq!(midnight(path), Err(PartitionError { path: path.to_owned() }));
        }
        assert!(midnight("date=2026-09-01T00:00:00Z/a").is_err());
    }

    #[test]
    fn the_time_span_of_a_file_is_clamped_to_event_times() {
        let end = EVENT_TIMES.end.micros();
        for (times, span, holds_others) in [
            ((0, end - 1), Some((0, end - 1)), false),
            ((-1, 5), Some((0, 5)), true),
            ((5, i64::MAX), Some((5, end - 1)), true),
            ((i64::MIN, i64::MAX), Some((0, end - 1)), true),
            ((i64::MIN, -1), None, true),
            ((end, i64::MAX), None, true),
        ] {
            let file = file("date=2026-09-01/a", times);
            let micros = file.time_span().map(|(first, last)| (first.micros(), last.micros()));
            assert_eq!((micros, file.holds_other_times()), (span, holds_others), "{times:?}");
        }
    }
}
