//! The transaction log of a lake: a Delta log, and the converted objects.
//!
//! ```text
//! LAKE/_delta_log/                        the log; see [`crate::delta`]
//! LAKE/_tawny/objects/<SHA-256>.jsonl     the objects of one commit
//! ```
//!
//! A commit that adds records names the list of their objects in a metadata domain of each delivery day. So one write
//! decides both, and the lists of a day are found without those of other days.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use super::checksum::{ChecksumFormatError, MetadataChecksum, RecordedFile};
use super::object_list::{self, CONCURRENT_READS};
pub use super::object_list::{ObjectEntry, VerifiedObjects};
use crate::delta::{AddedFile, AsOf, Change, DeltaLog, DeltaVersion, LiveFile, NewTable, Operation};
use crate::error::Error;
use crate::event;
use crate::store::{self, FORMER_LAKE_LOG, Folder, FolderWriter, LAKE_CHECKS};
use crate::time::{EVENT_TIMES, Instant};
use crate::trail;

/// The value of the partition `date=…` for records without a time: Hive's name for a null.
pub(super) const NO_DATE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The partition column.
const DATE: &str = "date";

/// The member of a file's statistics with the checksum of its page indexes and footer. Readers ignore members that they do
/// not know.
const CHECKSUM: &str = "tawnyChecksum";

/// The begin of the domains with the object lists of a delivery day. The day follows, or `unknown`.
const OBJECTS_DOMAIN: &str = "tawny.objects.";
/// The domain with the first time that the lake still holds.
const RETENTION_DOMAIN: &str = "tawny.retainedFrom";

/// The domain that a commit of verified objects sets.
const VERIFIED_DOMAIN: &str = "tawny.verified";

/// Object lists of a delivery day. More are merged.
const MAX_LISTS: usize = 64;
/// Commits that are tried while other runs commit.
const MAX_ATTEMPTS: usize = 100;

/// The transaction log of one lake.
#[derive(Debug, Clone)]
pub struct TransactionLog {
    log: DeltaLog,
    as_of: AsOf,
    newest: Arc<Mutex<Option<Arc<LakeVersion>>>>,
}

/// One version of a lake. Its parts are read when they are first needed.
#[derive(Debug)]
struct LakeVersion {
    version: DeltaVersion,
    files: OnceCell<Vec<FileEntry>>,
    domains: OnceCell<BTreeMap<String, String>>,
}

/// One Parquet file of a lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Path relative to the lake's folder.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Number of records.
    pub records: u64,
    /// Earliest event time. Absent if no record has a time.
    pub first_event: Option<Instant>,
    /// Latest event time.
    pub last_event: Option<Instant>,
    /// The checksum of its page indexes and footer. The footer has those of its pages.
    pub checksum: MetadataChecksum,
}

/// Returns whether `path` is one of a data file: in a partition folder, and not elsewhere.
fn is_data_path(path: &str) -> bool {
    path.starts_with("date=") && path.split('/').count() == 2 && store::stays_within(path)
}

/// A log entry lists a file outside the partition folders.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it lists {path:?}, which is not in a `date=…` folder of the lake")]
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
        let (first, last) = self.first_event.zip(self.last_event)?;
        let (first, last) = (first.max(EVENT_TIMES.start), last.min(EVENT_TIMES.end - 1));
        (first <= last).then_some((first, last))
    }

    /// Returns the midnight that starts the file's partition. `None` for records without a time.
    ///
    /// # Errors
    /// The path is not in a `date=…` folder.
    pub fn midnight(&self) -> Result<Option<Instant>, PartitionError> {
        let date = self.path.strip_prefix("date=").and_then(|path| path.split_once('/')).map(|(date, _)| date);
        let midnight = match date.filter(|_| is_data_path(&self.path)) {
            Some(NO_DATE) => return Ok(None),
            Some(date) if !date.contains([':', ' ']) => date.parse().ok(),
            _ => None,
        };
        midnight.map(Some).ok_or_else(|| PartitionError { path: self.path.clone() })
    }
}

/// What maintenance does in one commit.
#[derive(Debug, Clone, Default)]
pub struct Removal {
    /// Files that replace removed ones.
    pub merged: Vec<FileEntry>,
    /// Paths of the removed files. A later vacuum deletes them, once no reader has them open.
    pub removed: Vec<String>,
    /// The first time the lake still holds, if the commit drops old days.
    pub retained_from: Option<Instant>,
}

impl TransactionLog {
    /// Returns the log of the lake in `folder`. It reads the version `as_of`.
    pub(super) fn new(folder: Folder, as_of: AsOf) -> TransactionLog {
        TransactionLog { log: DeltaLog::new(folder, Some(LAKE_CHECKS)), as_of, newest: Arc::default() }
    }

    /// Returns the log as of the version that it has now.
    pub(super) async fn pinned(self) -> Result<TransactionLog, Error> {
        let version = self.version().await?;
        let as_of = version.map_or(self.as_of, |version| AsOf::Version(version.version.number()));
        Ok(TransactionLog { as_of, ..self })
    }

    /// Creates the log of a new lake, and completes a creation that was interrupted. Call it before data files are written.
    pub async fn create(&self) -> Result<(), Error> {
        if self.version().await?.is_none() {
            let schema = event::schema().as_ref().clone();
            self.log.create(&NewTable { schema, partition: DATE, bounded: event::EVENT_TIME }).await?;
        }
        match self.version().await? {
            Some(version) => self.log.complete_creation(&version.version).await,
            None => Ok(()),
        }
    }

    /// Returns the live files, by path.
    pub async fn files(&self) -> Result<Vec<FileEntry>, Error> {
        match self.version().await? {
            Some(version) => Ok(self.files_of(&version).await?.clone()),
            None => Ok(Vec::new()),
        }
    }

    /// Returns the files that conversions added after commit `number`, including files merged since. If the log no longer
    /// has those commits, returns all live files.
    pub async fn files_added_since(&self, number: u64) -> Result<Vec<FileEntry>, Error> {
        let Some(version) = self.version().await? else {
            return Ok(Vec::new());
        };
        match version.version.added_since(number).await? {
            Some(files) => files.into_iter().map(|file| self.entry(file)).collect(),
            None => Ok(self.files_of(&version).await?.clone()),
        }
    }

    /// Returns the first time the lake still holds. `None` if no days were dropped.
    pub async fn retained_from(&self) -> Result<Option<Instant>, Error> {
        let Some(version) = self.version().await? else {
            return Ok(None);
        };
        let value = domains_of(&version).await?.get(RETENTION_DOMAIN);
        let parse = |value: &String| value.parse().map_err(|error| self.invalid_domain(RETENTION_DOMAIN, &error));
        value.map(parse).transpose()
    }

    /// Returns the paths of the files that maintenance removed, each with the time of its removal.
    pub async fn removed_files(&self) -> Result<Vec<(String, Instant)>, Error> {
        let Some(version) = self.version().await? else {
            return Ok(Vec::new());
        };
        let removed = version.version.removed_files().await?;
        if let Some(file) = removed.iter().find(|file| !is_data_path(&file.path)) {
            return Err(self.damaged(PartitionError { path: file.path.clone() }.to_string()));
        }
        Ok(removed.into_iter().map(|file| (file.path, file.at)).collect())
    }

    /// Returns the identities of converted objects.
    ///
    /// With `delivered`, a first and last day, it skips the objects of other days. The result may still include some of
    /// those.
    pub async fn object_ids(&self, delivered: Option<(Instant, Instant)>) -> Result<HashSet<String>, Error> {
        let Some(version) = self.version().await? else {
            return Ok(HashSet::new());
        };
        let mut ids = HashSet::new();
        self.for_each_object(&version, delivered, |object| {
            ids.insert(object.id);
        })
        .await?;
        Ok(ids)
    }

    /// Returns how many of the converted objects are verified. `None` if none is. `delivered` is as for
    /// [`TransactionLog::object_ids`].
    pub async fn verified_objects(
        &self,
        delivered: Option<(Instant, Instant)>,
    ) -> Result<Option<VerifiedObjects>, Error> {
        let Some(version) = self.version().await? else {
            return Ok(None);
        };
        if !domains_of(&version).await?.contains_key(VERIFIED_DOMAIN) {
            return Ok(None);
        }
        // Merged lists may hold an object of another list.
        let mut objects = HashMap::new();
        self.for_each_object(&version, delivered, |object| {
            objects.insert(object.id, object.verified);
        })
        .await?;
        let verified = objects.values().filter(|verified| **verified).count() as u64;
        Ok(Some(VerifiedObjects { objects: objects.len() as u64, verified }))
    }

    /// Calls `visit` for the converted objects, without those of days that are not `delivered`. Some are visited twice.
    async fn for_each_object(
        &self,
        version: &LakeVersion,
        delivered: Option<(Instant, Instant)>,
        mut visit: impl FnMut(ObjectEntry),
    ) -> Result<(), Error> {
        let days = delivered.map(|(first, last)| (first.utc_date(), last.utc_date()));
        let is_wanted = |day: &str| {
            day == UNKNOWN_DAY
                || days.as_ref().is_none_or(|(first, last)| first.as_str() <= day && day <= last.as_str())
        };
        let mut lists = BTreeSet::new();
        for (domain, value) in domains_of(version).await? {
            if domain.strip_prefix(OBJECTS_DOMAIN).is_some_and(is_wanted) {
                lists.extend(self.object_lists(domain, value)?);
            }
        }
        let lists = lists.into_iter().map(|list| object_list::read_objects(self.log.folder(), list));
        let mut lists = futures::stream::iter(lists).buffered(CONCURRENT_READS);
        while let Some(objects) = lists.try_next().await? {
            objects.into_iter().for_each(&mut visit);
        }
        Ok(())
    }

    /// Returns the number of the last commit, or 0 if there is none.
    pub async fn last_commit(&self) -> Result<u64, Error> {
        Ok(self.version().await?.map_or(0, |version| version.version.number()))
    }

    /// Returns what identifies the lake and its commit `number`: the id of the table, and a hash of the commit unless
    /// the log no longer has it. `None` if there is no lake.
    pub async fn identity(&self, number: u64) -> Result<Option<LakeIdentity>, Error> {
        let Some(version) = self.version().await? else {
            return Ok(None);
        };
        let commit = version.version.commit_digest(number).await?;
        Ok(Some(LakeIdentity { table: version.version.table_id().to_owned(), commit }))
    }

    /// Adds a commit of a conversion. `read` is a version that the conversion read before it chose its objects. The files
    /// must already exist; readers see them from now on. Returns the number of the commit.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::Busy`] if another run has converted one of the objects since.
    pub async fn commit(
        &self,
        writer: &FolderWriter,
        read: u64,
        files: &[FileEntry],
        objects: &[ObjectEntry],
    ) -> Result<u64, Error> {
        let list = object_list::write_objects(writer, objects).await?;
        let days: BTreeSet<String> = objects.iter().map(|object| domain_of(object.delivered)).collect();
        for _ in 0..MAX_ATTEMPTS {
            let version = self.version().await?.ok_or_else(|| self.missing())?;
            if version.version.number() != read {
                let converted = self.object_ids(day_span(objects.iter().map(|object| object.delivered))).await?;
                if objects.iter().any(|object| converted.contains(&object.id)) {
                    return Err(self.busy());
                }
            }
            let current = domains_of(&version).await?;
            let mut domains = BTreeMap::new();
            for domain in &days {
                let mut lists = match current.get(domain) {
                    Some(value) => self.object_lists(domain, value)?,
                    None => Vec::new(),
                };
                if lists.len() >= MAX_LISTS {
                    lists = vec![object_list::merge_lists(writer, self.log.folder(), lists).await?];
                }
                lists.push(list.clone());
                let value = serde_json::to_string(&lists).map_err(|error| Error::Internal(error.to_string()))?;
                domains.insert(domain.clone(), value);
            }
            if objects.iter().any(|object| object.verified) {
                domains.insert(VERIFIED_DOMAIN.to_owned(), "true".to_owned());
            }
            let added = files.iter().map(added_file).collect::<Result<_, _>>()?;
            let change = Change { operation: Operation::Append, added, removed: HashSet::new(), domains };
            if let Some(committed) = self.log.commit(&version.version, change).await? {
                return Ok(committed.number());
            }
        }
        Err(self.busy())
    }

    /// Adds a commit of maintenance.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::Busy`] if another run has removed one of the files.
    pub async fn commit_removal(&self, removal: &Removal) -> Result<u64, Error> {
        let Removal { merged, removed, retained_from } = removal;
        let operation = if merged.is_empty() { Operation::Delete } else { Operation::Optimize };
        let domains: BTreeMap<String, String> =
            retained_from.iter().map(|from| (RETENTION_DOMAIN.to_owned(), from.to_string())).collect();
        for _ in 0..MAX_ATTEMPTS {
            let version = self.version().await?.ok_or_else(|| self.missing())?;
            let live: HashSet<&str> = self.files_of(&version).await?.iter().map(|file| file.path.as_str()).collect();
            if removed.iter().any(|path| !live.contains(path.as_str())) {
                return Err(self.busy());
            }
            let added = merged.iter().map(added_file).collect::<Result<_, _>>()?;
            let removed = removed.iter().cloned().collect();
            let change = Change { operation, added, removed, domains: domains.clone() };
            if let Some(committed) = self.log.commit(&version.version, change).await? {
                return Ok(committed.number());
            }
        }
        Err(self.busy())
    }

    /// Returns the version to read. `None` if there is no lake.
    async fn version(&self) -> Result<Option<Arc<LakeVersion>>, Error> {
        let version = match self.log.version(self.as_of).await {
            Ok(version) => version,
            Err(error) => {
                let absent = if self.log.exists().await? { Err(error) } else { self.absent().await };
                // Another run may have created the lake since.
                if absent.is_ok() || !self.log.exists().await? {
                    return absent;
                }
                self.log.version(self.as_of).await?
            }
        };
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = newest.as_ref().filter(|known| known.version.number() == version.number()) {
            return Ok(Some(Arc::clone(known)));
        }
        let version = Arc::new(LakeVersion { version, files: OnceCell::new(), domains: OnceCell::new() });
        *newest = Some(Arc::clone(&version));
        Ok(Some(version))
    }

    /// Returns `None` if the folder never was a lake.
    ///
    /// # Errors
    /// The lake has lost its log, or an earlier build wrote it.
    async fn absent(&self) -> Result<Option<Arc<LakeVersion>>, Error> {
        let folder = self.log.folder();
        if !folder.names(LAKE_CHECKS).await?.is_empty() {
            return Err(self.missing());
        }
        if !folder.names(FORMER_LAKE_LOG).await?.is_empty() {
            let reason = "an earlier build wrote it; convert the trail again".to_owned();
            return Err(Error::TransactionLog { path: folder.path(FORMER_LAKE_LOG), reason });
        }
        let files = match folder.all().await {
            // The folder does not exist yet.
            Err(Error::NotFound { .. }) => Vec::new(),
            files => files?,
        };
        let part = files.iter().find(|(name, _)| store::is_part_file(Path::new(name)));
        part.map_or(Ok(None), |(name, _)| Err(trail::lost_log_error(folder.path(name))))
    }

    async fn files_of<'v>(&self, version: &'v LakeVersion) -> Result<&'v Vec<FileEntry>, Error> {
        let read = || async {
            let files = version.version.live_files().await?;
            let mut entries: Vec<FileEntry> =
                files.into_iter().map(|file| self.entry(file)).collect::<Result<_, _>>()?;
            entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
            Ok(entries)
        };
        version.files.get_or_try_init(read).await
    }

    fn entry(&self, file: LiveFile) -> Result<FileEntry, Error> {
        let path = file.path.clone();
        entry(file).map_err(|reason| self.damaged(format!("its entry of `{path}`: {reason}")))
    }

    /// Returns the names of the object lists in the value of a domain.
    fn object_lists(&self, domain: &str, value: &str) -> Result<Vec<String>, Error> {
        let lists: Vec<String> = serde_json::from_str(value).map_err(|error| self.invalid_domain(domain, &error))?;
        match lists.iter().find(|list| list.len() != 64 || !list.bytes().all(|byte| byte.is_ascii_hexdigit())) {
            None => Ok(lists),
            Some(list) => Err(self.invalid_domain(domain, &format!("{list:?} is not the name of an object list"))),
        }
    }

    fn invalid_domain(&self, domain: &str, error: &dyn std::fmt::Display) -> Error {
        self.damaged(format!("the metadata domain `{domain}`: {error}"))
    }

    fn damaged(&self, reason: String) -> Error {
        Error::TransactionLog { path: self.log.path(), reason }
    }

    fn missing(&self) -> Error {
        self.damaged("it is missing".to_owned())
    }

    fn busy(&self) -> Error {
        Error::Busy { lake: self.log.folder().path("") }
    }
}

/// The identity of a lake and of one of its commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LakeIdentity {
    /// The id of the Delta table.
    pub table: String,
    /// The SHA-256 of the commit. Absent if the log no longer has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// The day in the domain of objects whose delivery day is unknown.
const UNKNOWN_DAY: &str = "unknown";

/// Returns the domain with the object lists of a delivery day.
fn domain_of(delivered: Option<Instant>) -> String {
    let day = delivered.map_or_else(|| UNKNOWN_DAY.to_owned(), Instant::utc_date);
    format!("{OBJECTS_DOMAIN}{day}")
}

async fn domains_of(version: &LakeVersion) -> Result<&BTreeMap<String, String>, Error> {
    version.domains.get_or_try_init(|| version.version.domains()).await
}

/// Returns the entry of a live file, or the reason why it cannot be one of a lake.
fn entry(file: LiveFile) -> Result<FileEntry, FileError> {
    if !is_data_path(&file.path) {
        return Err(PartitionError { path: file.path }.into());
    }
    if file.has_deleted_rows {
        return Err(FileError::DeletedRows);
    }
    let records = file.statistics.num_records.ok_or(FileError::NoRecordCount)?;
    let bound = |bounds: &serde_json::Map<String, serde_json::Value>| {
        let parse = |value: &serde_json::Value| {
            let text = value.as_str().unwrap_or_default();
            let instant: Instant = text.parse().map_err(|_| FileError::Time(value.to_string()))?;
            Ok::<_, FileError>((instant, text.len()))
        };
        bounds.get(event::EVENT_TIME).map(parse).transpose()
    };
    let first_event = bound(&file.statistics.min_values)?.map(|(first, _)| first);
    // Other writers round down to milliseconds.
    let rounding = |length: usize| if length < MICROSECOND_TEXT { 999 } else { 0 };
    let last_event = bound(&file.statistics.max_values)?.map(|(last, length)| last + rounding(length));
    let partition = file.partition_values.get(DATE).cloned().flatten();
    let checksum = file.statistics.other.get(CHECKSUM).and_then(serde_json::Value::as_str);
    let checksum = checksum.ok_or(FileError::NoChecksum)?.parse()?;
    let entry = FileEntry { path: file.path, bytes: file.bytes, records, first_event, last_event, checksum };
    if entry.midnight()?.map(Instant::utc_date) != partition {
        return Err(FileError::Partition { path: entry.path });
    }
    Ok(entry)
}

/// The length of a time with microseconds.
const MICROSECOND_TEXT: usize = "2026-09-01T00:00:00.000000Z".len();

/// Why a file in the log is not one of a lake.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("some of its rows are deleted, which this program never does")]
    DeletedRows,
    #[error("it gives no number of records")]
    NoRecordCount,
    #[error("it has no checksum, because another program wrote the file; convert the trail into another folder")]
    NoChecksum,
    #[error(transparent)]
    Checksum(#[from] ChecksumFormatError),
    #[error("its bound {0} of `eventTime` is not a time")]
    Time(String),
    #[error(transparent)]
    Folder(#[from] PartitionError),
    #[error("the value of its partition is not that of the folder of {path:?}")]
    Partition { path: String },
}

/// Returns the entry of a file for the Delta log.
fn added_file(file: &FileEntry) -> Result<AddedFile, Error> {
    let midnight = file.midnight().map_err(|error| Error::Internal(error.to_string()))?;
    let times = file.first_event.zip(file.last_event);
    let bounds = times.map(|(first, last)| (event::EVENT_TIME, (first.with_micros(), last.with_micros())));
    Ok(AddedFile {
        path: file.path.clone(),
        bytes: file.bytes,
        records: file.records,
        partition: midnight.map(Instant::utc_date),
        bounds: bounds.into_iter().collect(),
        other_statistics: BTreeMap::from([(CHECKSUM, file.checksum.to_string())]),
    })
}

/// Returns the first and last of `days`. `None` if any is unknown or there are none.
pub fn day_span(days: impl Iterator<Item = Option<Instant>>) -> Option<(Instant, Instant)> {
    let days: Vec<Instant> = days.collect::<Option<_>>()?;
    days.iter().min().copied().zip(days.iter().max().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY;

    fn file(path: &str, times: (i64, i64)) -> FileEntry {
        let (first_event, last_event) = (Some(Instant::from_micros(times.0)), Some(Instant::from_micros(times.1)));
        let checksum = MetadataChecksum::of(0, b"");
        FileEntry { path: path.to_owned(), bytes: 0, records: 1, first_event, last_event, checksum }
    }

    #[test]
    fn a_file_is_in_the_partition_of_a_date_or_of_none() {
        let midnight = |path: &str| file(path, (0, 0)).midnight();
        assert_eq!(midnight("date=1970-01-02/part-a.parquet"), Ok(Some(Instant::from_micros(DAY))));
        assert_eq!(midnight("date=__HIVE_DEFAULT_PARTITION__/part-a.parquet"), Ok(None));
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
        for (times, span) in [
            ((0, end - 1), Some((0, end - 1))),
            ((-1, 5), Some((0, 5))),
            ((5, i64::MAX), Some((5, end - 1))),
            ((i64::MIN, -1), None),
            ((end, i64::MAX), None),
        ] {
            let span_of_file = file("date=2026-09-01/a", times).time_span();
            assert_eq!(span_of_file.map(|(first, last)| (first.micros(), last.micros())), span, "{times:?}");
        }
    }
}
