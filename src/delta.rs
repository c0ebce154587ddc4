//! The transaction log of a Delta table: its versions, their live files, and commits.
//!
//! ```text
//! TABLE/_delta_log/00000000000000000007.json                 commit 7: files that it adds or removes, and metadata
//! TABLE/_delta_log/00000000000000000010.checkpoint.parquet   the state of version 10
//! TABLE/_delta_log/_last_checkpoint                          the version of the last checkpoint
//! ```
//!
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>. `delta_kernel` replays the log and decides
//! which features of a table can be read. It reads and writes through [`crate::store`].

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use delta_kernel::history_manager::error::{LogHistoryError, NearestTimestamp};
use delta_kernel::history_manager::{HistoryCommitType, get_earliest_commit, latest_version_as_of};
use delta_kernel::{KernelError, KernelResult, Snapshot, SnapshotRef};

use crate::error::Error;
use crate::panics::catching_panics;
use crate::store::{DELTA_LOG, Folder};
use crate::time::Instant;

mod commit;
mod kernel_engine;
mod replay;
mod seal;
mod table_files;

pub use commit::{AddedFile, Change, LOG_RETENTION, NewTable, Operation};
pub use replay::{LiveFile, RemovedFile};

use kernel_engine::{KernelEngine, LogCache};

/// The table property that marks a lake of this program.
const LAKE_PROPERTY: &str = "tawny.lake";

/// A version of a table to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AsOf {
    /// The newest version.
    #[default]
    Latest,
    /// The version with this number.
    Version(u64),
    /// The newest version that was committed at or before this time.
    Time(Instant),
}

/// A text is neither the number of a version nor a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the number of a version, a date or an RFC 3339 time")]
pub struct AsOfError;

impl FromStr for AsOf {
    type Err = AsOfError;

    fn from_str(text: &str) -> Result<AsOf, AsOfError> {
        if let Ok(number) = text.parse() {
            return Ok(AsOf::Version(number));
        }
        text.parse().map(AsOf::Time).map_err(|_| AsOfError)
    }
}

/// The log of one Delta table.
#[derive(Debug, Clone)]
pub struct DeltaLog {
    folder: Folder,
    cache: Arc<LogCache>,
    /// The newest snapshot read so far. The next one needs only the commits after it.
    newest: Arc<Mutex<Option<SnapshotRef>>>,
}

/// One version of a table.
#[derive(Debug, Clone)]
pub struct DeltaVersion {
    log: DeltaLog,
    snapshot: SnapshotRef,
}

impl DeltaLog {
    /// Returns the log of the table in `folder`. With `checks_folder`, the log was written by this program, which keeps
    /// there what it needs to detect damage.
    pub fn new(folder: Folder, checks_folder: Option<&'static str>) -> DeltaLog {
        DeltaLog { folder, cache: Arc::new(LogCache::new(checks_folder)), newest: Arc::default() }
    }

    /// Returns whether the table exists: whether its folder has a log.
    pub async fn exists(&self) -> Result<bool, Error> {
        // A killed run may have left a hidden file.
        Ok(self.folder.names(DELTA_LOG).await?.iter().any(|name| !name.starts_with('.')))
    }

    /// Returns the table's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the path or URL of the log.
    pub fn path(&self) -> PathBuf {
        self.folder.path(DELTA_LOG)
    }

    /// Reads a version of the table.
    ///
    /// # Errors
    /// In addition to store errors: [`Error::Usage`] if there is no such version, and [`Error::TransactionLog`] if the log is
    /// damaged or the table uses a feature that this build cannot read.
    pub async fn version(&self, as_of: AsOf) -> Result<DeltaVersion, Error> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let read = self.run(move |engine| read_snapshot(engine, newest.as_ref(), as_of)).await?;
        let snapshot = read.map_err(|unavailable| Error::Usage {
            message: format!("`{}` {unavailable}", self.folder.path("").display()),
            hint: Some(format!("use `--as-of {}` or a later version", unavailable.first())),
        })?;
        let version = DeltaVersion { log: self.clone(), snapshot };
        if version.is_lake() && !self.cache.has_checks() {
            let reason =
                "the table is a lake of this program, but what detects damage of its log is missing: restore the \
                          folder `_tawny` next to it"
                    .to_owned();
            return Err(Error::TransactionLog { path: self.path(), reason });
        }
        self.remember(&version.snapshot);
        Ok(version)
    }

    fn remember(&self, snapshot: &SnapshotRef) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.as_ref().is_none_or(|newest| newest.version() < snapshot.version()) {
            *newest = Some(Arc::clone(snapshot));
        }
    }

    /// Runs `work`, which blocks, with an engine for this log.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&KernelEngine) -> KernelResult<T> + Send + 'static,
    ) -> Result<T, Error> {
        let engine = KernelEngine::new(self.folder.clone(), Arc::clone(&self.cache))?;
        let path = self.path();
        let blocking = move || {
            // Assertions of the kernel fail on some damaged logs.
            let Ok(result) = catching_panics(|| work(&engine)) else {
                return Err(Error::TransactionLog { path, reason: "it is damaged".to_owned() });
            };
            result.map_err(|error| match engine.take_failure() {
                Some(failure) => failure,
                None => Error::TransactionLog { path, reason: reason_of(&error) },
            })
        };
        tokio::task::spawn_blocking(blocking).await.map_err(|error| Error::Internal(error.to_string()))?
    }
}

impl DeltaVersion {
    /// Returns the number of the version.
    pub fn number(&self) -> u64 {
        self.snapshot.version()
    }

    /// Returns whether the table is a lake of this program.
    pub fn is_lake(&self) -> bool {
        self.snapshot.table_properties().unknown_properties.contains_key(LAKE_PROPERTY)
    }

    /// Returns the identity of the table, which stays when the table moves.
    pub fn table_id(&self) -> &str {
        self.snapshot.table_configuration().metadata().id()
    }
}

/// A version that the log does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum UnavailableVersion {
    #[error("has no version {number}: its log has versions {first} to {last}")]
    Number { number: u64, first: u64, last: u64 },
    #[error("has no version as of {time}: its first version is {first}, of {committed}")]
    Time { time: Instant, first: u64, committed: Instant },
}

impl UnavailableVersion {
    /// Returns the first version that the log has.
    fn first(self) -> u64 {
        match self {
            UnavailableVersion::Number { first, .. } | UnavailableVersion::Time { first, .. } => first,
        }
    }
}

fn read_snapshot(
    engine: &KernelEngine,
    newest: Option<&SnapshotRef>,
    as_of: AsOf,
) -> KernelResult<Result<SnapshotRef, UnavailableVersion>> {
    let latest = || {
        let recorded = engine.recorded_commit()?;
        let snapshot = match newest {
            Some(newest) => Snapshot::builder_from(Arc::clone(newest)).build(engine),
            None => Snapshot::builder_for(engine.root().as_str()).build(engine),
        }?;
        engine.check_last_commit(recorded.as_ref(), &snapshot)?;
        Ok::<_, KernelError>(snapshot)
    };
    let first_version = || {
        let log = engine.root().join(&format!("{DELTA_LOG}/"))?;
        get_earliest_commit(engine, &log, None, HistoryCommitType::Recreatable)
    };
    let number = match as_of {
        AsOf::Latest => return latest().map(Ok),
        AsOf::Version(number) => number,
        AsOf::Time(time) => {
            let found = latest_version_as_of(&*latest()?, engine, time.millis(), HistoryCommitType::Recreatable);
            match found {
                Ok(commit) => commit.version,
                Err(error) => {
                    let Some(millis) = first_commit_time(&error) else {
                        return Err(error);
                    };
                    let committed = Instant::from_micros(millis.saturating_mul(1_000));
                    return Ok(Err(UnavailableVersion::Time { time, first: first_version()?, committed }));
                }
            }
        }
    };
    if let Some(newest) = newest.filter(|newest| newest.version() == number) {
        return Ok(Ok(Arc::clone(newest)));
    }
    // The kernel adds to the number, and versions of the format are signed.
    let error = if number > i64::MAX.cast_unsigned() {
        KernelError::generic(format!("{number} is not the number of a version"))
    } else {
        match Snapshot::builder_for(engine.root().as_str()).at_version(number).build(engine) {
            Ok(snapshot) => return Ok(Ok(snapshot)),
            Err(error) => error,
        }
    };
    let last = latest()?.version();
    let first = first_version()?;
    if (first..=last).contains(&number) {
        return Err(error);
    }
    Ok(Err(UnavailableVersion::Number { number, first, last }))
}

/// Returns the time of the first commit, in milliseconds, if `error` says that a time is before it.
fn first_commit_time(error: &KernelError) -> Option<i64> {
    match error {
        KernelError::Backtraced { source, .. } => first_commit_time(source),
        KernelError::LogHistory(error) => match **error {
            LogHistoryError::TimestampOutOfRange { nearest_timestamp: NearestTimestamp::Earliest(millis), .. } => {
                Some(millis)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Returns the text of an error without the backtrace that it may hold.
fn reason_of(error: &KernelError) -> String {
    match error {
        KernelError::Backtraced { source, .. } => reason_of(source),
        KernelError::Generic(reason) => reason.clone(),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use arrow::datatypes::Schema;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_panic_of_the_kernel_is_an_error_that_names_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = DeltaLog::new(Folder::Disk(folder.path().to_path_buf()), None);
        let work: fn(&KernelEngine) -> KernelResult<()> = |_| panic!("an assertion of the kernel");
        let error = log.run(work).await.unwrap_err();
        let Error::TransactionLog { path, reason } = error else { panic!("{error}") };
        assert_eq!((path, reason.as_str()), (log.path(), "it is damaged"));
    }
    #[tokio::test(flavor = "multi_thread")]
    async fn a_commit_is_missing_its_record_only_if_it_still_does_after_the_log_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let log = DeltaLog::new(Folder::Disk(folder.path().to_path_buf()), Some("checks"));
        let table = NewTable { schema: Schema::empty(), partition: "date", bounded: "" };
        assert!(log.create(&table).await.unwrap());
        let first = log.version(AsOf::Latest).await.unwrap();
        let change =
            Change { operation: Operation::Append, added: vec![], removed: HashSet::new(), domains: BTreeMap::new() };
        let second = log.commit(&first, change).await.unwrap().unwrap();

        // Another process created the table and committed after this one looked for a record.
        let check = |snapshot: &SnapshotRef| {
            let snapshot = Arc::clone(snapshot);
            log.run(move |engine| engine.check_last_commit(None, &snapshot))
        };
        check(&second.snapshot).await.unwrap();
        std::fs::remove_file(folder.path().join("checks/last_commit")).unwrap();
        check(&first.snapshot).await.unwrap();
        let Err(Error::TransactionLog { path, .. }) = check(&second.snapshot).await else {
            panic!("it is not noticed")
        };
        assert_eq!(path, log.folder.path("checks/last_commit"));
    }
}
