//! The lake: records as Parquet, partitioned by event date, with a ledger that says which files count.
//!
//! ```text
//! LAKE/date=2026-09-01/part-<hash>.parquet   records of one UTC date, sorted by source, name and time
//! LAKE/_tawny/ledger/00000001.json           one commit: the files it adds
//! LAKE/_tawny/ledger/00000001.objects.jsonl  the objects that those files hold
//! ```
//!
//! Readers see the files that commits name and no others, so a run that breaks off leaves nothing visible.

use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::store::{self, LAKE_FOLDER};
use crate::time::Range;

pub mod ledger;
pub mod part;

use ledger::{FileEntry, Ledger};

/// A lake on disk.
#[derive(Debug, Clone)]
pub struct Lake {
    root: PathBuf,
}

impl Lake {
    /// The lake at `root`, which need not exist yet.
    pub fn at(root: &Path) -> Lake {
        Lake { root: root.to_path_buf() }
    }

    /// Whether a lake lies at `root`.
    pub fn exists_at(root: &Path) -> bool {
        store::is_lake(root)
    }

    /// The lake's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of what is not data.
    pub fn own_folder(&self) -> PathBuf {
        self.root.join(LAKE_FOLDER)
    }

    /// The lake's ledger.
    pub fn ledger(&self) -> Ledger {
        Ledger::in_folder(self.own_folder().join("ledger"))
    }

    /// Makes sure that every file the ledger names is there and of its size.
    pub fn check(&self) -> Result<(), Error> {
        for file in self.ledger().files()? {
            let path = self.root.join(file.path);
            if store::size(&path) != Some(file.bytes) {
                let reason = format!("it names `{}`, which is missing or of another size", path.display());
                return Err(Error::Ledger { path: self.own_folder().join("ledger"), reason });
            }
        }
        Ok(())
    }

    /// The files that may hold records with a time in `range`.
    pub fn files(&self, range: Range) -> Result<Vec<FileEntry>, Error> {
        let mut files = self.ledger().files()?;
        files.retain(|file| file.time_span().is_some_and(|(first, last)| range.overlaps(first, last)));
        Ok(files)
    }
}
