//! The ledger: which files of a lake count, and which objects they hold.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::SCHEMA_VERSION;
use crate::store;

/// The version of the ledger's own format.
const LEDGER_VERSION: u32 = 1;

/// A lake's ledger: numbered commits, each adding files.
#[derive(Debug, Clone)]
pub struct Ledger {
    folder: PathBuf,
}

/// One file of a lake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path below the lake's folder.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The records in it.
    pub records: u64,
    /// The earliest time in it, in microseconds since the epoch; absent where no record has one.
    pub first_event: Option<i64>,
    /// The latest time in it.
    pub last_event: Option<i64>,
}

impl FileEntry {
    /// The earliest and the latest time in the file.
    pub fn time_span(&self) -> Option<(i64, i64)> {
        self.first_event.zip(self.last_event)
    }
}

/// An object whose records the lake holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// See [`store::Object::identity`].
    pub id: String,
    /// Its path when it was converted.
    pub path: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Commit {
    ledger_version: u32,
    schema_version: u32,
    files: Vec<FileEntry>,
}

impl Ledger {
    pub(super) fn in_folder(folder: PathBuf) -> Ledger {
        Ledger { folder }
    }

    /// All files of the lake, in the order in which they were added.
    pub fn files(&self) -> Result<Vec<FileEntry>, Error> {
        let mut files = Vec::new();
        for number in self.commits()? {
            let path = self.commit_path(number);
            let commit: Commit =
                serde_json::from_str(&store::read_text(&path)?).map_err(|error| damaged(&path, error.to_string()))?;
            if commit.ledger_version != LEDGER_VERSION || commit.schema_version != SCHEMA_VERSION {
                let reason = format!(
                    "it is of version {}.{}, and this build reads {LEDGER_VERSION}.{SCHEMA_VERSION}",
                    commit.ledger_version, commit.schema_version
                );
                return Err(damaged(&path, reason));
            }
            files.extend(commit.files);
        }
        Ok(files)
    }

    /// The identities of all objects whose records the lake holds.
    pub fn object_ids(&self) -> Result<HashSet<String>, Error> {
        let mut ids = HashSet::new();
        for number in self.commits()? {
            let path = self.objects_path(number);
            for line in store::read_text(&path)?.lines() {
                let entry: ObjectEntry =
                    serde_json::from_str(line).map_err(|error| damaged(&path, error.to_string()))?;
                ids.insert(entry.id);
            }
        }
        Ok(ids)
    }

    /// Adds a commit. Its files must be at their places; from now on readers see them.
    pub fn commit(&self, files: Vec<FileEntry>, objects: &[ObjectEntry], staging: &Path) -> Result<(), Error> {
        let internal = |error: serde_json::Error| Error::Internal(format!("a ledger commit: {error}"));
        let number = self.commits()?.last().copied().unwrap_or(0) + 1;
        let mut lines = Vec::new();
        for object in objects {
            serde_json::to_writer(&mut lines, object).map_err(internal)?;
            lines.push(b'\n');
        }
        store::stage(&self.objects_path(number), staging, &lines)?.publish()?;
        let commit = Commit { ledger_version: LEDGER_VERSION, schema_version: SCHEMA_VERSION, files };
        let mut text = serde_json::to_vec_pretty(&commit).map_err(internal)?;
        text.push(b'\n');
        store::stage(&self.commit_path(number), staging, &text)?.publish()
    }

    /// The numbers of the commits, ascending.
    fn commits(&self) -> Result<Vec<u32>, Error> {
        let failed = |source| Error::File { action: "list", path: self.folder.clone(), source };
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(".json"));
            numbers.extend(stem.and_then(|stem| stem.parse::<u32>().ok()));
        }
        numbers.sort_unstable();
        let gap = numbers.iter().zip(1..).find(|(number, expected)| *number != expected);
        match gap {
            Some((_, missing)) => Err(damaged(&self.commit_path(missing), "it is missing".to_owned())),
            None => Ok(numbers),
        }
    }

    fn commit_path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08}.json"))
    }

    fn objects_path(&self, number: u32) -> PathBuf {
        self.folder.join(format!("{number:08}.objects.jsonl"))
    }
}

fn damaged(path: &Path, reason: String) -> Error {
    Error::Ledger { path: path.to_path_buf(), reason }
}
