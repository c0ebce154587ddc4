//! The data files of a snapshot, with the positions of their deleted rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use iceberg::spec::{DataContentType, DataFileFormat, Snapshot, TableMetadata};

use super::deletes::Deletes;
use super::live_files::{self, SnapshotFile};
use super::{columns, location_of, refused, snapshots};
use crate::error::Error;
use crate::store::{Location, Object, Stores};
use crate::time::Instant;
use crate::trail::{FilePartitions, ParquetFile, ParquetFiles, TableMetadata as TableDeclaration};

/// Returns the data files of `snapshot`. `path` is the metadata file.
pub(super) async fn of_snapshot(
    stores: &Stores,
    path: &Path,
    table: &TableMetadata,
    snapshot: &Snapshot,
) -> Result<ParquetFiles, Error> {
    let schema = snapshots::schema(path, table, snapshot)?;
    let columns = columns::of_schema(&schema).map_err(|reason| refused(path, reason))?;
    let version =
        u64::try_from(snapshot.snapshot_id()).map_err(|_| refused(path, "the ID of the snapshot is negative"))?;
    let live = live_files::of_snapshot(stores, path, table, snapshot, &schema).await?;
    let (data, deletes): (Vec<SnapshotFile>, Vec<SnapshotFile>) =
        live.into_iter().partition(|file| file.content == DataContentType::Data);
    if let Some(other) = data.iter().find(|file| file.format != DataFileFormat::Parquet) {
        let format = other.format.to_string().to_uppercase();
        return Err(refused(path, format!("its data file `{}` is {format}; only Parquet is supported", other.path)));
    }
    let mut deletes = Deletes::read(stores, path, &data, deletes).await?;
    let is_on_disk = matches!(location_of(path, snapshot.manifest_list())?, Location::Disk(_));
    let mut paths = BTreeSet::new();
    let mut files = Vec::with_capacity(data.len());
    for file in data {
        if !paths.insert(file.path.clone()) {
            return Err(refused(path, format!("it lists the file `{}` twice", file.path)));
        }
        let location = location_of(path, &file.path)?;
        if is_on_disk != matches!(location, Location::Disk(_)) {
            return Err(refused(path, format!("`{}` is not where the metadata are, on disk or in S3", file.path)));
        }
        let deleted_records = deletes.of(path, &file)?.iter().collect();
        let name = PathBuf::from(location.to_string());
        files.push(ParquetFile {
            object: Object { path: name.clone(), real: name, size: file.size, modified: Instant::EPOCH, tag: None },
            partitions: FilePartitions::Values(file.partition_values),
            records: Some(file.records),
            deleted_records,
            times: file.times,
        });
    }
    files.sort();
    Ok(ParquetFiles {
        files,
        faults: Vec::new(),
        table: Some(TableDeclaration { version, columns, partition_types: BTreeMap::new() }),
    })
}
