//! The lake: records as Parquet, partitioned by event date, with a transaction log that lists the live files.
//!
//! ```text
//! LAKE/date=2026-09-01/part-<hash>.parquet   records of one UTC date, sorted by source, name, identity and time
//! LAKE/_tawny/ledger/00000001.json           one commit of the transaction log: the files it adds
//! LAKE/_tawny/ledger/00000001-<hash>.objects.jsonl  the converted objects whose records are in those files
//! ```
//!
//! Readers open only files that the log lists. An interrupted run therefore leaves nothing visible.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::store::{Folder, LAKE_FOLDER, Location, Stores};
use crate::time::Range;

pub mod checksum;
pub mod maintenance;
pub mod part_file;
pub mod transaction_log;

use transaction_log::{CommitCache, FileEntry, TransactionLog};

/// A lake, on disk or in S3.
#[derive(Debug, Clone)]
pub struct Lake {
    folder: Folder,
    commits: CommitCache,
}

impl Lake {
    /// Returns the lake on disk at `root`, which need not exist yet.
    pub fn at(root: &Path) -> Lake {
        Lake { folder: Folder::Disk(root.to_path_buf()), commits: CommitCache::default() }
    }

    /// Returns the lake at `location`, which need not exist yet.
    pub async fn open(stores: &Stores, location: &Location) -> Result<Lake, Error> {
        Ok(Lake { folder: stores.folder(location).await?, commits: CommitCache::default() })
    }

    /// Returns whether the folder holds a lake.
    pub async fn exists(&self) -> Result<bool, Error> {
        self.folder.is_lake().await
    }

    /// Returns the lake's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Returns the path or URL of the lake.
    pub fn path(&self) -> PathBuf {
        self.folder.path("")
    }

    /// Returns the lake's transaction log.
    pub fn transaction_log(&self) -> TransactionLog {
        TransactionLog::new(self.folder.clone(), format!("{LAKE_FOLDER}/ledger"), Arc::clone(&self.commits))
    }

    /// Checks that every live file exists and has the size that the log gives.
    ///
    /// # Errors
    /// [`Error::Ledger`] names the first file that is missing or has another size.
    pub async fn check_files(&self) -> Result<(), Error> {
        let files = self.transaction_log().files().await?;
        let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let sizes = self.folder.sizes(&names).await?;
        match files.iter().zip(sizes).find(|(file, size)| *size != Some(file.bytes)) {
            None => Ok(()),
            Some((file, _)) => {
                let path = self.folder.path(&file.path);
                let reason = format!("it lists `{}`, which is missing or has another size", path.display());
                Err(Error::Ledger { path: self.folder.path(&format!("{LAKE_FOLDER}/ledger")), reason })
            }
        }
    }

    /// Returns the files that may hold records with a time in `range`.
    pub async fn files(&self, range: Range) -> Result<Vec<FileEntry>, Error> {
        let mut files = self.transaction_log().files().await?;
        let is_unbounded = range == Range::default();
        files.retain(|file| file.time_span().map_or(is_unbounded, |(first, last)| range.overlaps(first, last)));
        Ok(files)
    }
}
