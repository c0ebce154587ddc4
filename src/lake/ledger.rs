//! The ledger: which files of a lake count, and which objects they hold.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::{StreamExt as _, TryStreamExt as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::Error;
use crate::event::SCHEMA_VERSION;
use crate::store::{self, Folder, Writer, hex};
use crate::time::{self, EVENT_TIMES, event_time};

/// The folder `date=…` of records without a time: Hive's name for a null.
pub(super) const NO_DATE: &str = "__HIVE_DEFAULT_PARTITION__";

/// The version of the ledger's own format.
const LEDGER_VERSION: u32 = 1;

/// A lake's ledger: numbered commits, each adding files.
#[derive(Debug, Clone)]
pub struct Ledger {
    lake: Folder,
    folder: String,
    known: Commits,
}

/// Commits by their numbers.
pub(super) type Commits = Arc<Mutex<BTreeMap<u32, Commit>>>;

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
    /// Returns the earliest and the latest time of an event in the file; `None` where it holds none within
    /// [`EVENT_TIMES`].
    pub fn time_span(&self) -> Option<(i64, i64)> {
        let (first, last) = self.first_event.zip(self.last_event)?;
        let (first, last) = (first.max(EVENT_TIMES.start), last.min(EVENT_TIMES.end - 1));
        (first <= last).then_some((first, last))
    }

    /// Returns the midnight that begins the file's day, by its folder; `None` where its records have no time.
    ///
    /// # Errors
    /// It lies in no folder of a day; the message says so.
    pub fn midnight(&self) -> Result<Option<i64>, String> {
        let date = self.path.strip_prefix("date=").and_then(|path| path.split_once('/')).map(|(date, _)| date);
        match date {
            Some(NO_DATE) => Ok(None),
            Some(date) if !date.contains([':', ' ']) => time::parse_instant(date).map(Some),
            _ => Err(String::new()),
        }
        .map_err(|_| format!("it names {:?}, which lies in no folder of a day", self.path))
    }

    /// Whether the file holds times that no event can have. Earlier builds wrote such files.
    pub fn holds_other_times(&self) -> bool {
        [self.first_event, self.last_event].into_iter().flatten().any(|time| event_time(time).is_none())
    }
}

/// An object whose records the lake holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// See [`crate::store::Object::identity`].
    pub id: String,
    /// Its path when it was converted.
    pub path: String,
    /// The day on which it was delivered, where that is known, see [`crate::trail::delivered_on`].
    #[serde(skip)]
    pub delivered: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Commit {
    ledger_version: u32,
    schema_version: u32,
    /// The name of the file that lists the objects that this commit adds; where a lake on disk was written by an
    /// earlier build, it has the commit's own.
    #[serde(default)]
    objects: Option<String>,
    /// The first and the last day on which those objects were delivered, in microseconds; absent where that is not known
    /// of all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    delivered: Option<(i64, i64)>,
    files: Vec<FileEntry>,
    /// Where the commit is no conversion's: what it removes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    upkeep: Option<Upkeep>,
}

impl Commit {
    fn empty() -> Commit {
        Commit {
            ledger_version: LEDGER_VERSION,
            schema_version: SCHEMA_VERSION,
            objects: None,
            delivered: None,
            files: Vec::new(),
            upkeep: None,
        }
    }

    /// All places in the lake that it names.
    fn names(&self) -> impl Iterator<Item = &str> {
        let removed = self.upkeep.iter().flat_map(|upkeep| &upkeep.removed);
        let files = self.files.iter().map(|file| &file.path);
        files.chain(removed).chain(&self.objects).map(String::as_str)
    }
}

/// What a commit removes that merges files or drops old ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upkeep {
    /// The paths of the files that no longer count. They stay a while for readers that are at them.
    pub removed: Vec<String>,
    /// Where old days were dropped: from when on the lake holds all, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retained_from: Option<i64>,
    /// When that was, in microseconds.
    pub at: i64,
}

/// Commits that are read at a time.
const AT_A_TIME: usize = 32;

impl Ledger {
    pub(super) fn in_folder(lake: Folder, folder: String, known: Commits) -> Ledger {
        Ledger { lake, folder, known }
    }

    /// All files of the lake, in the order in which they were added.
    pub async fn files(&self) -> Result<Vec<FileEntry>, Error> {
        let mut files: Vec<FileEntry> = Vec::new();
        for (number, commit) in self.commits().await? {
            if let Some(upkeep) = commit.upkeep {
                let removed: HashSet<&String> = upkeep.removed.iter().collect();
                let before = files.len();
                files.retain(|file| !removed.contains(&file.path));
                if before - files.len() != removed.len() {
                    let reason = "it removes files that were not there".to_owned();
                    return Err(self.damaged(&self.name(&commit_name(number)), reason));
                }
            }
            files.extend(commit.files);
        }
        Ok(files)
    }

    /// The files that conversions added in commits after `number`, whether or not they were merged since.
    pub async fn added_since(&self, number: u32) -> Result<Vec<FileEntry>, Error> {
        let is_new = |(of, commit): &(u32, Commit)| *of > number && commit.upkeep.is_none();
        let commits = self.commits().await?.into_iter().filter(is_new);
        Ok(commits.flat_map(|(_, commit)| commit.files).collect())
    }

    /// From when on the lake holds all that was converted, in microseconds; `None` where nothing was dropped.
    pub async fn retained_from(&self) -> Result<Option<i64>, Error> {
        let upkeep = self.commits().await?.into_iter().filter_map(|(_, commit)| commit.upkeep);
        Ok(upkeep.filter_map(|upkeep| upkeep.retained_from).max())
    }

    /// The files that upkeep has removed, and when.
    pub async fn removed(&self) -> Result<Vec<(String, i64)>, Error> {
        let upkeep = self.commits().await?.into_iter().filter_map(|(_, commit)| commit.upkeep);
        Ok(upkeep.flat_map(|upkeep| upkeep.removed.into_iter().map(move |path| (path, upkeep.at))).collect())
    }

    /// The identities of the objects whose records the lake holds; of those that were delivered between two days, both
    /// included, where `delivered` says so, and maybe of others.
    pub async fn object_ids(&self, delivered: Option<(i64, i64)>) -> Result<HashSet<String>, Error> {
        let conversions = |(_, commit): &(u32, Commit)| {
            let wanted = delivered.zip(commit.delivered);
            commit.upkeep.is_none() && wanted.is_none_or(|(wanted, held)| wanted.0 <= held.1 && held.0 <= wanted.1)
        };
        let read = |(number, commit): (u32, Commit)| async move {
            let name = self.name(&commit.objects.unwrap_or_else(|| format!("{number:08}.objects.jsonl")));
            let text = self.lake.read_text(&name).await?;
            let ids = text.lines().map(|line| serde_json::from_str::<ObjectEntry>(line).map(|entry| entry.id));
            ids.collect::<Result<Vec<_>, _>>().map_err(|error| self.damaged(&name, error.to_string()))
        };
        let commits = self.commits().await?;
        let ids: Vec<Vec<String>> = futures::stream::iter(commits.into_iter().filter(conversions).map(read))
            .buffered(AT_A_TIME)
            .try_collect()
            .await?;
        Ok(ids.into_iter().flatten().collect())
    }

    /// The number of the last commit; 0 where there is none.
    pub async fn last(&self) -> Result<u32, Error> {
        Ok(self.numbers().await?.last().copied().unwrap_or_default())
    }

    /// Adds the commit `number`. Its files must be at their places; from now on readers see them.
    ///
    /// # Errors
    /// Besides what the store says, [`Error::Busy`] where another run has added that commit.
    pub async fn commit(
        &self,
        writer: &Writer,
        number: u32,
        files: Vec<FileEntry>,
        objects: &[ObjectEntry],
    ) -> Result<(), Error> {
        let internal = |error: serde_json::Error| Error::Internal(format!("a ledger commit: {error}"));
        let mut lines = Vec::new();
        for object in objects {
            serde_json::to_writer(&mut lines, object).map_err(internal)?;
            lines.push(b'\n');
        }
        // Another run that writes the same commit at the same time writes another file here.
        let name = format!("{number:08}-{}.objects.jsonl", hex(&Sha256::digest(&lines)[..8]));
        writer.stage(&self.name(&name), lines.into()).await?.publish()?;
        let delivered = days(objects.iter().map(|object| object.delivered));
        self.write(writer, number, Commit { objects: Some(name), delivered, files, ..Commit::empty() }).await
    }

    /// Adds the commit `number` of a merge, whose files take the place of others, or of a dropping of old ones.
    ///
    /// # Errors
    /// As for [`Ledger::commit`].
    pub async fn upkeep(
        &self,
        writer: &Writer,
        number: u32,
        files: Vec<FileEntry>,
        upkeep: Upkeep,
    ) -> Result<(), Error> {
        let commit = Commit { files, upkeep: Some(upkeep), ..Commit::empty() };
        self.write(writer, number, commit).await
    }

    async fn write(&self, writer: &Writer, number: u32, commit: Commit) -> Result<(), Error> {
        let internal = |error: serde_json::Error| Error::Internal(format!("a ledger commit: {error}"));
        let mut text = serde_json::to_vec_pretty(&commit).map_err(internal)?;
        text.push(b'\n');
        if writer.create(&self.name(&commit_name(number)), text.into()).await? {
            return Ok(());
        }
        Err(Error::Busy { lake: self.lake.path("") })
    }

    async fn commits(&self) -> Result<Vec<(u32, Commit)>, Error> {
        let read = |number: u32| async move {
            let known = self.known.lock().ok().and_then(|known| known.get(&number).cloned());
            if let Some(commit) = known {
                return Ok((number, commit));
            }
            let name = self.name(&commit_name(number));
            let commit: Commit = serde_json::from_str(&self.lake.read_text(&name).await?)
                .map_err(|error| self.damaged(&name, error.to_string()))?;
            if commit.ledger_version != LEDGER_VERSION || commit.schema_version != SCHEMA_VERSION {
                let reason = format!(
                    "it is of version {}.{}, and this build reads {LEDGER_VERSION}.{SCHEMA_VERSION}",
                    commit.ledger_version, commit.schema_version
                );
                return Err(self.damaged(&name, reason));
            }
            if let Some(outside) = commit.names().find(|name| !store::stays_within(name)) {
                return Err(self.damaged(&name, format!("it names {outside:?}, which is no place in the lake")));
            }
            if let Some(reason) = commit.files.iter().find_map(|file| file.midnight().err()) {
                return Err(self.damaged(&name, reason));
            }
            if let Ok(mut known) = self.known.lock() {
                known.insert(number, commit.clone());
            }
            Ok((number, commit))
        };
        futures::stream::iter(self.numbers().await?.into_iter().map(read)).buffered(AT_A_TIME).try_collect().await
    }

    /// The numbers of the commits, ascending.
    async fn numbers(&self) -> Result<Vec<u32>, Error> {
        let names = self.lake.names(&self.folder).await?;
        let is_number = |stem: &&str| stem.len() == 8 && stem.bytes().all(|byte| byte.is_ascii_digit());
        let number = |name: &String| name.strip_suffix(".json").filter(is_number)?.parse::<u32>().ok();
        let mut numbers: Vec<u32> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        let gap = numbers.iter().zip(1..).find(|(number, expected)| *number != expected);
        match gap {
            Some((_, missing)) => Err(self.damaged(&self.name(&commit_name(missing)), "it is missing".to_owned())),
            None => Ok(numbers),
        }
    }

    fn name(&self, file: &str) -> String {
        format!("{}/{file}", self.folder)
    }

    fn damaged(&self, name: &str, reason: String) -> Error {
        let path: PathBuf = self.lake.path(name);
        Error::Ledger { path, reason }
    }
}

/// The first and the last of `days`, where all are known and there are any.
pub fn days(days: impl Iterator<Item = Option<i64>>) -> Option<(i64, i64)> {
    let days: Vec<i64> = days.collect::<Option<_>>()?;
    days.iter().min().copied().zip(days.iter().max().copied())
}

fn commit_name(number: u32) -> String {
    format!("{number:08}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY;

    fn file(path: &str, times: (i64, i64)) -> FileEntry {
        let (first_event, last_event) = (Some(times.0), Some(times.1));
        FileEntry { path: path.to_owned(), bytes: 0, records: 1, first_event, last_event }
    }

    #[test]
    fn a_file_lies_in_the_folder_of_a_day_or_of_none() {
        let midnight = |path: &str| file(path, (0, 0)).midnight();
        assert_eq!(midnight("date=1970-01-02/part-a.parquet"), Ok(Some(DAY)));
        assert_eq!(midnight("date=__HIVE_DEFAULT_PARTITION__/part-a.parquet"), Ok(None));
        assert!(midnight("date=+262142-12-31/part-a.parquet").is_ok(), "earlier builds took any time");
        for path in
            ["part-a.parquet", "date=/a", "date=soon/a", "date=2026-13-01/a", "day=2026-09-01/a", "date=2026-09-01"]
        {
            assert_eq!(midnight(path), Err(format!("it names {path:?}, which lies in no folder of a day")));
        }
        assert!(midnight("date=2026-09-01T00:00:00Z/a").is_err());
    }

    #[test]
    fn a_file_spans_the_times_of_events_alone() {
        for (times, span, holds_others) in [
            ((0, EVENT_TIMES.end - 1), Some((0, EVENT_TIMES.end - 1)), false),
            ((-1, 5), Some((0, 5)), true),
            ((5, i64::MAX), Some((5, EVENT_TIMES.end - 1)), true),
            ((i64::MIN, i64::MAX), Some((0, EVENT_TIMES.end - 1)), true),
            ((i64::MIN, -1), None, true),
            ((EVENT_TIMES.end, i64::MAX), None, true),
        ] {
            let file = file("date=2026-09-01/a", times);
            assert_eq!((file.time_span(), file.holds_other_times()), (span, holds_others), "{times:?}");
        }
    }
}
