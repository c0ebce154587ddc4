//! The data files of a snapshot, with the positions of their deleted rows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use iceberg::spec::{DataContentType, DataFileFormat, Snapshot, TableMetadata};

use super::bounds::TimeColumns;
use super::deletes::Deletes;
use super::live_files::{self, LiveFile};
use super::{columns, location_of, refused, snapshots};
use crate::error::Error;
use crate::store::{Location, Object, Stores};
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
    let times = TimeColumns::of(&schema);
    let live = live_files::of_snapshot(stores, path, table, snapshot).await?;
    let (data, deletes): (Vec<LiveFile>, Vec<LiveFile>) =
        live.into_iter().partition(|live| live.file.content_type() == DataContentType::Data);
    if let Some(LiveFile { file, .. }) = data.iter().find(|live| live.file.file_format() != DataFileFormat::Parquet) {
        let reason = format!(
            "its data file `{}` is {}; only Parquet is supported",
            file.file_path(),
            file.file_format().to_string().to_uppercase()
        );
        return Err(refused(path, reason));
    }
    let mut deletes = Deletes::read(stores, path, &data, deletes).await?;
    let is_on_disk = matches!(location_of(path, snapshot.manifest_list())?, Location::Disk(_));
    let mut paths = BTreeSet::new();
    let mut files = Vec::with_capacity(data.len());
    for live in data {
        let name = live.file.file_path();
        if !paths.insert(name.to_owned()) {
            return Err(refused(path, format!("it lists the file `{name}` twice")));
        }
        let location = location_of(path, name)?;
        if is_on_disk != matches!(location, Location::Disk(_)) {
            return Err(refused(path, format!("`{name}` is not where the metadata are, on disk or in S3")));
        }
        let spec = table.partition_spec_by_id(live.spec_id);
        let place = PathBuf::from(location.to_string());
        let (size, records) = (live.file.file_size_in_bytes(), live.file.record_count());
        files.push(ParquetFile {
            object: Object { path: place.clone(), real: place, size, modified: 0, tag: None },
            // Files have all columns, and times decide which are read.
            partitions: FilePartitions::Values(BTreeMap::new()),
            records: Some(records),
            deleted_records: deletes.of(path, &live)?.iter().collect(),
            times: spec.and_then(|spec| times.of_file(&live.file, spec)),
        });
    }
    files.sort();
    Ok(ParquetFiles { files, faults: Vec::new(), table: Some(TableDeclaration { version, columns }) })
}
