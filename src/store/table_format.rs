//! The table formats of a data lake, recognized by the folders of their metadata.
//!
//! The files of such a table must not be found by listing: only its metadata say which of them are live, and which of
//! their rows are deleted.

use std::fmt;
use std::path::{Path, PathBuf};

use object_store::list::{PaginatedListOptions, PaginatedListStore as _};

use super::{LAKE_MARKS, Location, Stores, fault, is_lake, keys};
use crate::error::Error;

/// A format of tables whose metadata decide which files are live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFormat {
    /// A lake of this program.
    Lake,
    /// Delta Lake: `TABLE/_delta_log/`.
    Delta,
    /// Apache Iceberg: `TABLE/metadata/*.metadata.json`.
    Iceberg,
    /// Apache Hudi: `TABLE/.hoodie/`.
    Hudi,
}

/// The folder of a Delta table's log.
pub const DELTA_LOG: &str = "_delta_log";

/// The folder of an Iceberg table's metadata.
const ICEBERG_METADATA: &str = "metadata";

/// The folder of a Hudi table's timeline.
const HUDI_TIMELINE: &str = ".hoodie";

impl fmt::Display for TableFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TableFormat::Lake => "a lake",
            TableFormat::Delta => "a Delta table",
            TableFormat::Iceberg => "an Iceberg table",
            TableFormat::Hudi => "a Hudi table",
        })
    }
}

impl TableFormat {
    /// Returns the format of the table in `folder`, on disk. `None` if the folder is not a table.
    pub fn of_folder(folder: &Path) -> Option<TableFormat> {
        if is_lake(folder) {
            return Some(TableFormat::Lake);
        }
        if folder.join(DELTA_LOG).is_dir() {
            return Some(TableFormat::Delta);
        }
        if folder.join(HUDI_TIMELINE).is_dir() {
            return Some(TableFormat::Hudi);
        }
        let metadata = std::fs::read_dir(folder.join(ICEBERG_METADATA)).ok()?;
        let mut names = metadata.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.any(|name| is_iceberg_metadata(&name)).then_some(TableFormat::Iceberg)
    }

    /// Returns the folder and the format of the table to whose metadata the file at `path` belongs, judged by its path.
    /// `None` for other files.
    pub fn of_metadata_file(path: &Path) -> Option<(PathBuf, TableFormat)> {
        let folder = path.parent()?;
        let table = |levels: usize, format| Some((folder.ancestors().nth(levels)?.to_path_buf(), format));
        if LAKE_MARKS.iter().any(|mark| folder.ends_with(mark)) {
            return table(2, TableFormat::Lake);
        }
        if folder.ends_with(DELTA_LOG) {
            return table(1, TableFormat::Delta);
        }
        if folder.ends_with(HUDI_TIMELINE) {
            return table(1, TableFormat::Hudi);
        }
        let is_iceberg = folder.ends_with(ICEBERG_METADATA) && is_iceberg_metadata(path.file_name()?.to_str()?);
        if is_iceberg { table(1, TableFormat::Iceberg) } else { None }
    }
}

fn is_iceberg_metadata(name: &str) -> bool {
    name.ends_with(".metadata.json") || name.ends_with(".metadata.json.gz")
}

impl Stores {
    /// Returns the format of the table in the folder at `location`, if it is one that can be read: Delta, which a lake is
    /// as well, or Iceberg. `None` for other folders, and if the metadata may not be listed.
    pub async fn readable_format(&self, location: &Location) -> Result<Option<TableFormat>, Error> {
        let (bucket, key) = match location {
            Location::Disk(path) if path.join(DELTA_LOG).is_dir() => return Ok(Some(TableFormat::Delta)),
            Location::Disk(path) => {
                return Ok(TableFormat::of_folder(path).filter(|format| *format == TableFormat::Iceberg));
            }
            Location::S3 { bucket, key } => (bucket, key),
        };
        let folder = if key.is_empty() { String::new() } else { format!("{key}/") };
        let (log, metadata) = (format!("{folder}{DELTA_LOG}/"), format!("{folder}{ICEBERG_METADATA}/"));
        let (is_delta, is_iceberg) = futures::try_join!(
            Box::pin(self.has_key(bucket, &log, &|_| true)),
            Box::pin(self.has_key(bucket, &metadata, &is_iceberg_metadata)),
        )?;
        Ok(if is_delta { Some(TableFormat::Delta) } else { is_iceberg.then_some(TableFormat::Iceberg) })
    }

    /// Returns the format of the table in the folder at `location`. `None` if it is not a table, or may not be listed.
    pub async fn table_format(&self, location: &Location) -> Result<Option<TableFormat>, Error> {
        let (bucket, key) = match location {
            Location::Disk(path) => return Ok(TableFormat::of_folder(path)),
            Location::S3 { bucket, key } => (bucket, key),
        };
        let folder = if key.is_empty() { String::new() } else { format!("{key}/") };
        let any = |_: &str| true;
        let has = |mark: &str| {
            let prefix = format!("{folder}{mark}/");
            Box::pin(async move { self.has_key(bucket, &prefix, &any).await })
        };
        let metadata = format!("{folder}{ICEBERG_METADATA}/");
        let (log, ledger, delta, hudi, iceberg) = futures::try_join!(
            has(LAKE_MARKS[0]),
            has(LAKE_MARKS[1]),
            has(DELTA_LOG),
            has(HUDI_TIMELINE),
            Box::pin(self.has_key(bucket, &metadata, &is_iceberg_metadata)),
        )?;
        let found = [
            (log || ledger, TableFormat::Lake),
            (delta, TableFormat::Delta),
            (hudi, TableFormat::Hudi),
            (iceberg, TableFormat::Iceberg),
        ];
        Ok(found.into_iter().find_map(|(is_there, format)| is_there.then_some(format)))
    }

    /// Returns whether a bucket has a wanted key that begins with `prefix`. False if the prefix may not be listed.
    async fn has_key(
        &self,
        bucket: &str,
        prefix: &str,
        is_wanted: &(dyn Fn(&str) -> bool + Sync),
    ) -> Result<bool, Error> {
        let store = self.bucket(bucket).await?;
        let mut options = PaginatedListOptions { delimiter: Some("/".into()), ..PaginatedListOptions::default() };
        let encoded = keys::encode_prefix(prefix);
        loop {
            let page = match store.list_paginated(Some(&encoded), options.clone()).await {
                Ok(page) => page,
                Err(object_store::Error::PermissionDenied { .. }) => return Ok(false),
                Err(error) => return Err(fault::store("list", bucket, prefix, &error)),
            };
            let mut found = page.result.objects.iter().map(|meta| keys::decode(meta.location.as_ref()));
            if found.any(|key| is_wanted(&key)) {
                return Ok(true);
            }
            match page.page_token {
                None => return Ok(false),
                token => options.page_token = token,
            }
        }
    }
}
