//! The live files of a snapshot, from its manifest list and its manifests.

use std::path::{Path, PathBuf};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::spec::{
    DataFile, FormatVersion, Manifest, ManifestFile, ManifestList, ManifestStatus, Snapshot, TableMetadata,
};

use super::{CONCURRENT_READS, location_of, read, refused};
use crate::error::Error;
use crate::store::{Location, Stores};

/// A data file or a delete file of a snapshot.
#[derive(Debug, Clone)]
pub(super) struct LiveFile {
    pub(super) file: DataFile,
    /// Orders data files and deletes.
    pub(super) sequence_number: i64,
    /// The partition spec of its partition.
    pub(super) spec_id: i32,
}

impl LiveFile {
    /// Returns whether both files are in one partition.
    pub(super) fn has_partition_of(&self, other: &LiveFile) -> bool {
        self.spec_id == other.spec_id && self.file.partition() == other.file.partition()
    }
}

/// Reads the live files of `snapshot`. `path` is the table's metadata file.
///
/// # Errors
/// In addition to store errors: a file of the metadata is damaged, or the table is encrypted.
pub(super) async fn of_snapshot(
    stores: &Stores,
    path: &Path,
    table: &TableMetadata,
    snapshot: &Snapshot,
) -> Result<Vec<LiveFile>, Error> {
    let location = location_of(path, snapshot.manifest_list())?;
    let bytes = read(stores, &location).await?;
    let manifests = parsed(&location, || ManifestList::parse_with_version(&bytes, list_version(table)))?;
    let manifests: Vec<ManifestFile> = manifests.consume_entries().into_iter().collect();
    let reads = manifests.into_iter().map(|manifest| files_of(stores, path, table, manifest));
    let files: Vec<Vec<LiveFile>> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
    Ok(files.into_iter().flatten().collect())
}

/// Lists of the first version lack some columns, and their defaults are those that the second version defines. So a list
/// that was written before the table was upgraded is read correctly too.
fn list_version(table: &TableMetadata) -> FormatVersion {
    match table.format_version() {
        FormatVersion::V1 | FormatVersion::V2 => FormatVersion::V2,
        FormatVersion::V3 => FormatVersion::V3,
    }
}

async fn files_of(
    stores: &Stores,
    path: &Path,
    table: &TableMetadata,
    manifest: ManifestFile,
) -> Result<Vec<LiveFile>, Error> {
    if manifest.key_metadata.as_ref().is_some_and(|key| !key.is_empty()) {
        return Err(refused(path, "encrypted tables are not supported"));
    }
    let location = location_of(path, &manifest.manifest_path)?;
    let place = PathBuf::from(location.to_string());
    let bytes = read(stores, &location).await?;
    if i64::try_from(bytes.len()).ok() != Some(manifest.manifest_length) {
        let reason = format!("it has {} bytes, and the manifest list says {}", bytes.len(), manifest.manifest_length);
        return Err(refused(&place, reason));
    }
    if table.partition_spec_by_id(manifest.partition_spec_id).is_none() {
        return Err(refused(&place, format!("the table lacks its partition spec {}", manifest.partition_spec_id)));
    }
    let (entries, _) = parsed(&location, || Manifest::parse_avro(&bytes))?.into_parts();
    let mut files = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_alive()) {
        // An added file has the sequence number of its manifest, and so has every file of a table of the first version.
        let inherits = entry.status() == ManifestStatus::Added || manifest.sequence_number == 0;
        let sequence_number = entry.sequence_number().or(inherits.then_some(manifest.sequence_number));
        let sequence_number = sequence_number
            .ok_or_else(|| refused(&place, format!("the file `{}` has no sequence number", entry.file_path())))?;
        let file = entry.data_file().clone();
        if file.key_metadata().is_some_and(|key| !key.is_empty()) {
            return Err(refused(&place, "encrypted files are not supported"));
        }
        files.push(LiveFile { file, sequence_number, spec_id: manifest.partition_spec_id });
    }
    check_counts(&place, &manifest, &entries)?;
    Ok(files)
}

/// Checks the numbers of files that the manifest list has for a manifest.
fn check_counts(
    place: &Path,
    manifest: &ManifestFile,
    entries: &[iceberg::spec::ManifestEntryRef],
) -> Result<(), Error> {
    for (status, listed) in
        [(ManifestStatus::Added, manifest.added_files_count), (ManifestStatus::Existing, manifest.existing_files_count)]
    {
        let found = entries.iter().filter(|entry| entry.status() == status).count();
        if listed.is_some_and(|listed| usize::try_from(listed).ok() != Some(found)) {
            let listed = listed.unwrap_or_default();
            return Err(refused(place, format!("it has {found} files, and the manifest list says {listed}")));
        }
    }
    Ok(())
}

/// Returns what `parse` reads from the file at `location`.
fn parsed<T>(location: &Location, parse: impl FnOnce() -> iceberg::Result<T>) -> Result<T, Error> {
    parse().map_err(|error| refused(Path::new(&location.to_string()), format!("invalid metadata: {error}")))
}
