//! Reads the metadata of Iceberg tables: the data files of a snapshot, their schema and their deleted rows.
//!
//! ```text
//! TABLE/metadata/00007-….metadata.json   schemas, partition specs and snapshots (`snapshots`)
//! TABLE/metadata/snap-….avro             the manifests of one snapshot (`live_files`)
//! TABLE/metadata/….avro                  data files and delete files, with bounds of columns (`live_files`)
//! TABLE/data/…                           Parquet files, which `engine::columnar_table` reads
//! ```
//!
//! The crate `iceberg` parses the metadata. The data files are read like those of any other table.
//!
//! Format: <https://iceberg.apache.org/spec/>. What cannot be read exactly is refused by name: a snapshot is never read
//! in part.

use std::path::{Path, PathBuf};

use ::iceberg::spec::{SnapshotRef, TableMetadata};
use bytes::Bytes;

use crate::delta::AsOf;
use crate::error::Error;
use crate::store::{Location, Stores};
use crate::trail::ParquetFiles;

mod bounds;
mod catalog;
mod columns;
mod deletes;
mod files;
mod find;
mod live_files;
mod snapshots;

pub use catalog::CatalogTable;
pub use find::IcebergSource;

/// The number of manifests and delete files that are read concurrently.
const CONCURRENT_READS: usize = 32;

/// One snapshot of an Iceberg table.
#[derive(Debug, Clone)]
pub struct IcebergTable {
    /// The path or URL of the metadata file.
    path: PathBuf,
    metadata: TableMetadata,
    /// `None` if the table has no snapshot yet.
    snapshot: Option<SnapshotRef>,
}

impl IcebergTable {
    /// Opens the snapshot `as_of` of the table at `source`. [`AsOf::Version`] is the id of a snapshot.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::TableMetadata`] if there is no such snapshot, or the metadata are damaged or
    /// use a feature that this build cannot read.
    pub async fn open(stores: &Stores, source: &IcebergSource, as_of: AsOf) -> Result<IcebergTable, Error> {
        let (path, text) = source.metadata(stores).await?;
        let metadata = snapshots::parse(&path, &text)?;
        let snapshot = snapshots::choose(&path, &metadata, as_of)?;
        Ok(IcebergTable { path, metadata, snapshot })
    }

    /// Returns the data files of the snapshot, with the indexes of their deleted records. Without a snapshot there are none.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::TableMetadata`] if a file of the metadata is damaged, or the table has files
    /// or deletes of a kind that this build cannot read.
    pub async fn parquet_files(&self, stores: &Stores) -> Result<ParquetFiles, Error> {
        match &self.snapshot {
            Some(snapshot) => files::of_snapshot(stores, &self.path, &self.metadata, snapshot).await,
            None => Ok(ParquetFiles::default()),
        }
    }
}

/// Returns the error for metadata in `path` that cannot be used.
fn refused(path: &Path, reason: impl Into<String>) -> Error {
    Error::TableMetadata { path: path.to_path_buf(), reason: reason.into() }
}

/// Returns the location that the metadata in `path` name. Unlike in a URL, nothing in it is escaped. Metadata in S3 may not
/// name files of this machine, which those who write them cannot read.
fn location_of(path: &Path, text: &str) -> Result<Location, Error> {
    let schemes = ["s3://", "s3a://", "s3n://"];
    if let Some(rest) = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)) {
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        return Ok(Location::S3 { bucket: bucket.to_owned(), key: key.to_owned() });
    }
    let file = text.strip_prefix("file://").or_else(|| text.strip_prefix("file:")).unwrap_or(text);
    if file.starts_with('/') {
        if let Location::S3 { .. } = Location::of(&path.to_string_lossy()) {
            return Err(refused(path, format!("it names `{text}`, which is not in S3")));
        }
        return Ok(Location::Disk(PathBuf::from(file)));
    }
    Err(refused(path, format!("it names `{text}`, which is neither an absolute path nor in S3")))
}

/// Reads the file at `location`.
async fn read(stores: &Stores, location: &Location) -> Result<Bytes, Error> {
    let missing = || Error::usage(format!("`{location}` names no file"));
    match location {
        Location::Disk(path) => {
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(missing)?;
            let parent = path.parent().unwrap_or(Path::new(""));
            stores.folder(&Location::Disk(parent.to_path_buf())).await?.read(name).await
        }
        Location::S3 { bucket, key } => {
            let (prefix, name) = key.rsplit_once('/').unwrap_or(("", key));
            let folder = Location::S3 { bucket: bucket.clone(), key: prefix.to_owned() };
            stores.folder(&folder).await?.read(name).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_metadata_are_taken_as_they_are() {
        let path = Path::new("m.json");
        let disk = |path: &str| Location::Disk(path.into());
        let s3 = |key: &str| Location::S3 { bucket: "lake".into(), key: key.into() };
        for (text, expected) in [
            ("file:///t/data/a%3Ab=1/x.parquet", disk("/t/data/a%3Ab=1/x.parquet")),
            ("file:/t/x.parquet", disk("/t/x.parquet")),
            ("/t/x.parquet", disk("/t/x.parquet")),
            ("s3://lake/t/a%20b", s3("t/a%20b")),
            ("s3a://lake/t/x", s3("t/x")),
        ] {
            assert_eq!(location_of(path, text).unwrap(), expected, "{text}");
        }
        let in_bucket = Path::new("s3://lake/t/metadata/m.json");
        assert!(location_of(in_bucket, "/etc/passwd").unwrap_err().to_string().contains("which is not in S3"));
        for text in ["gs://lake/t", "abfss://c@a.dfs.core.windows.net/t", "hdfs://n/t", "data/x.parquet", ""] {
            assert!(location_of(path, text).unwrap_err().to_string().contains("neither an absolute path"), "{text}");
        }
    }
}
