//! The lake: records as Parquet, partitioned by event date, with a ledger that says which files count.
//!
//! ```text
//! LAKE/date=2026-09-01/part-<hash>.parquet   records of one UTC date, sorted by source, name, identity and time
//! LAKE/_tawny/ledger/00000001.json           one commit: the files it adds
//! LAKE/_tawny/ledger/00000001-<hash>.objects.jsonl  the objects that those files hold
//! ```
//!
//! Readers see the files that commits name and no others, so a run that breaks off leaves nothing visible.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::Error;
use crate::store::{Folder, LAKE_FOLDER, Location, Stores};
use crate::time::Range;

pub mod compact;
pub mod ledger;
pub mod part;

use ledger::{Commits, FileEntry, Ledger};

/// A lake, on disk or in S3.
#[derive(Debug, Clone)]
pub struct Lake {
    folder: Folder,
    /// Commits of the ledger that were read: they never change.
    commits: Commits,
}

impl Lake {
    /// The lake on disk at `root`, which need not exist yet.
    pub fn at(root: &Path) -> Lake {
        Lake { folder: Folder::Disk(root.to_path_buf()), commits: Commits::default() }
    }

    /// The lake at `location`, which need not exist yet.
    pub async fn open(stores: &Stores, location: &Location) -> Result<Lake, Error> {
        Ok(Lake { folder: stores.folder(location).await?, commits: Commits::default() })
    }

    /// Whether there is one.
    pub async fn exists(&self) -> Result<bool, Error> {
        self.folder.is_lake().await
    }

    /// The lake's folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The path or URL of the lake.
    pub fn path(&self) -> PathBuf {
        self.folder.path("")
    }

    /// The lake's ledger.
    pub fn ledger(&self) -> Ledger {
        Ledger::in_folder(self.folder.clone(), format!("{LAKE_FOLDER}/ledger"), Arc::clone(&self.commits))
    }

    /// Makes sure that every file the ledger names is there and of its size.
    pub async fn check(&self) -> Result<(), Error> {
        let files = self.ledger().files().await?;
        let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        let sizes = self.folder.sizes(&names).await?;
        match files.iter().zip(sizes).find(|(file, size)| *size != Some(file.bytes)) {
            None => Ok(()),
            Some((file, _)) => {
                let path = self.folder.path(&file.path);
                let reason = format!("it names `{}`, which is missing or of another size", path.display());
                Err(Error::Ledger { path: self.folder.path(&format!("{LAKE_FOLDER}/ledger")), reason })
            }
        }
    }

    /// The files that may hold records with a time in `range`.
    pub async fn files(&self, range: Range) -> Result<Vec<FileEntry>, Error> {
        let mut files = self.ledger().files().await?;
        let all = range == Range::default();
        files.retain(|file| file.time_span().map_or(all, |(first, last)| range.overlaps(first, last)));
        Ok(files)
    }
}
