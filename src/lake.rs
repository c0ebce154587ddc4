//! The lake: records as Parquet, partitioned by event date. It is a Delta table.
//!
//! ```text
//! LAKE/date=2026-09-01/part-<hash>.parquet   records of one UTC date, sorted by source, name, identity and time
//! LAKE/_delta_log/                           the transaction log: which files are live
//! LAKE/_tawny/                               lists of the converted objects, and what detects damage of the log
//! ```
//!
//! Readers open only files that the log lists. An interrupted run therefore leaves nothing visible.

use std::path::{Path, PathBuf};

use crate::delta::{AsOf, DeltaLog};
use crate::error::Error;
use crate::store::{self, DELTA_LOG, Folder, LAKE_CHECKS, LAKE_FOLDER, Location, Stores, TableFormat};
use crate::time::Range;

pub mod checksum;
pub mod maintenance;
mod object_list;
pub mod part_file;
pub mod transaction_log;

use transaction_log::{FileEntry, TransactionLog};

/// A lake, on disk or in S3.
#[derive(Debug, Clone)]
pub struct Lake {
    folder: Folder,
    log: TransactionLog,
}

impl Lake {
    /// Returns the lake on disk at `root`, which need not exist yet.
    pub fn at(root: &Path) -> Lake {
        Lake::of(Folder::Disk(root.to_path_buf()), AsOf::Latest)
    }

    /// Returns the lake at `location`, which need not exist yet. It is read as of the version `as_of`.
    pub async fn open(stores: &Stores, location: &Location, as_of: AsOf) -> Result<Lake, Error> {
        Ok(Lake::of(stores.folder(location).await?, as_of))
    }

    fn of(folder: Folder, as_of: AsOf) -> Lake {
        Lake { log: TransactionLog::new(folder.clone(), as_of), folder }
    }

    /// Returns the lake as of the version that it has now, if it has one. What other runs commit later is not read.
    pub async fn pinned(self) -> Result<Lake, Error> {
        Ok(Lake { log: self.log.pinned().await?, folder: self.folder })
    }

    /// Returns whether the folder holds a lake.
    pub async fn exists(&self) -> Result<bool, Error> {
        self.folder.is_lake().await
    }

    /// Checks that the folder is a lake, or can become one: that no other program keeps data in it.
    ///
    /// # Errors
    /// In addition to store errors: [`Error::Usage`] names what is there, and [`Error::TransactionLog`] says that the folder
    /// is a lake whose checks are lost.
    pub async fn check_folder(&self) -> Result<(), Error> {
        if self.exists().await? {
            return Ok(());
        }
        let files = match self.folder.all().await {
            // The folder does not exist yet.
            Err(Error::NotFound { .. }) => return Ok(()),
            files => files?,
        };
        // A conversion ended before it created the log.
        if files.iter().any(|(name, _)| Path::new(name).starts_with(LAKE_FOLDER)) {
            return Ok(());
        }
        for (name, _) in &files {
            let path = Path::new(name);
            let found = match TableFormat::of_metadata_file(path) {
                Some((_, TableFormat::Lake)) => continue,
                Some((_, format)) => {
                    if path.starts_with(DELTA_LOG) {
                        let log = |checks| DeltaLog::new(self.folder.clone(), checks);
                        // The creation of a lake was interrupted, or continues in another process.
                        if log(Some(LAKE_CHECKS)).version(AsOf::Latest).await.is_ok_and(|version| version.is_lake()) {
                            return Ok(());
                        }
                        // This fails if the log is that of a lake.
                        log(None).version(AsOf::Latest).await?;
                    }
                    format!("{format} of another program")
                }
                // A lake that lost its log is refused when the log is read.
                None if path.extension().is_some_and(|end| end == "parquet") && !store::is_part_file(path) => {
                    format!("Parquet files of another program, such as `{name}`")
                }
                None => continue,
            };
            return Err(Error::Usage {
                message: format!("`{}` cannot become a lake: it holds {found}", self.path().display()),
                hint: Some("name a folder that only the lake uses".to_owned()),
            });
        }
        Ok(())
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
    pub fn transaction_log(&self) -> &TransactionLog {
        &self.log
    }

    /// Checks that every live file exists and has the size that the log gives.
    ///
    /// # Errors
    /// [`Error::TransactionLog`] names the first file that is missing or has another size.
    pub async fn check_files(&self) -> Result<(), Error> {
        let files = self.transaction_log().files().await?;
        let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let sizes = self.folder.sizes(&names).await?;
        match files.iter().zip(sizes).find(|(file, size)| *size != Some(file.bytes)) {
            None => Ok(()),
            Some((file, _)) => {
                let path = self.folder.path(&file.path);
                let reason = format!("it lists `{}`, which is missing or has another size", path.display());
                Err(Error::TransactionLog { path: self.folder.path(DELTA_LOG), reason })
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
