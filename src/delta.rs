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

use delta_kernel::history_manager::{HistoryCommitType, latest_version_as_of};
use delta_kernel::{KernelError, KernelResult, Snapshot, SnapshotRef};

use crate::error::Error;
use crate::store::Folder;
use crate::time::Instant;

mod commit;
mod kernel_engine;
mod replay;
mod seal;

pub use commit::{AddedFile, Change, NewTable, Operation};
pub use replay::{LiveFile, RemovedFile};

use kernel_engine::{KernelEngine, LogCache};

/// The folder of the log.
pub const LOG_FOLDER: &str = "_delta_log";

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
        let cache = Arc::new(LogCache::new(checks_folder));
        DeltaLog { folder, cache, newest: Arc::default() }
    }

    /// Returns whether the table exists: whether its folder has a log.
    pub async fn exists(&self) -> Result<bool, Error> {
        // A killed run may have left a hidden file.
        Ok(self.folder.names(LOG_FOLDER).await?.iter().any(|name| !name.starts_with('.')))
    }

    /// Returns the table's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the path or URL of the log.
    pub fn path(&self) -> PathBuf {
        self.folder.path(LOG_FOLDER)
    }

    /// Reads a version of the table.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::TransactionLog`] if there is no such version, the log is damaged, or the
    /// table uses a feature that this build cannot read.
    pub async fn version(&self, as_of: AsOf) -> Result<DeltaVersion, Error> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let snapshot = self.run(move |engine| read_snapshot(engine, newest, as_of)).await?;
        self.remember(&snapshot);
        Ok(DeltaVersion { log: self.clone(), snapshot })
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
            work(&engine).map_err(|error| match engine.take_failure() {
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

    /// Returns the identity of the table, which stays when the table moves.
    pub fn table_id(&self) -> &str {
        self.snapshot.table_configuration().metadata().id()
    }
}

fn read_snapshot(engine: &KernelEngine, newest: Option<SnapshotRef>, as_of: AsOf) -> KernelResult<SnapshotRef> {
    let latest = || match &newest {
        Some(newest) => Snapshot::builder_from(Arc::clone(newest)).build(engine),
        None => Snapshot::builder_for(engine.root().as_str()).build(engine),
    };
    let number = match as_of {
        AsOf::Latest => {
            let snapshot = latest()?;
            engine.check_last_commit(snapshot.version())?;
            return Ok(snapshot);
        }
        AsOf::Version(number) => number,
        AsOf::Time(time) => {
            latest_version_as_of(&*latest()?, engine, time.millis(), HistoryCommitType::Recreatable)
                .map_err(|error| KernelError::generic(format!("no version as of {time}: {}", reason_of(&error))))?
                .version
        }
    };
    match newest.filter(|newest| newest.version() == number) {
        Some(newest) => Ok(newest),
        None => Snapshot::builder_for(engine.root().as_str()).at_version(number).build(engine),
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
