//! The live files of a snapshot, from its manifest list and its manifests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{NaiveDate, TimeDelta};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::spec::{
    DataContentType, DataFile, DataFileFormat, FormatVersion, Literal, Manifest, ManifestFile, ManifestList,
    ManifestStatus, PartitionField, PartitionSpec, PrimitiveLiteral, PrimitiveType, Schema, Snapshot, TableMetadata,
    Transform,
};

use super::bounds::{TimeColumns, TimeSpan};
use super::{CONCURRENT_READS, location_of, read, refused};
use crate::error::Error;
use crate::panics::catching_panics;
use crate::store::{Location, Stores};
use crate::trail::PartitionValue;

/// A data file or a delete file of a snapshot.
#[derive(Debug, Clone)]
pub(super) struct SnapshotFile {
    /// Its path or URL, as the metadata write it.
    pub(super) path: String,
    pub(super) content: DataContentType,
    pub(super) format: DataFileFormat,
    /// In bytes.
    pub(super) size: u64,
    pub(super) records: u64,
    /// Orders data files and deletes.
    pub(super) sequence_number: i64,
    /// The first and the last time that its records may have, if the metadata say so.
    pub(super) times: Option<TimeSpan>,
    /// The values of columns by which the table is partitioned, as text.
    pub(super) partition_values: BTreeMap<String, Option<PartitionValue>>,
    /// The deletion vector in it.
    pub(super) vector: Option<VectorPlace>,
}

/// Where a deletion vector is in its file.
#[derive(Debug, Clone)]
pub(super) struct VectorPlace {
    /// The data file whose records it deletes, as the metadata write it.
    pub(super) data_file: String,
    /// In bytes.
    pub(super) offset: u64,
    /// In bytes.
    pub(super) size: u64,
}

/// Reads the live files of `snapshot`, whose columns are `schema`. `path` is the table's metadata file.
///
/// # Errors
/// In addition to store errors: a file of the metadata is damaged, or the table is encrypted.
pub(super) async fn of_snapshot(
    stores: &Stores,
    path: &Path,
    table: &TableMetadata,
    snapshot: &Snapshot,
    schema: &Schema,
) -> Result<Vec<SnapshotFile>, Error> {
    let times = TimeColumns::of(schema);
    let location = location_of(path, snapshot.manifest_list())?;
    let bytes = read(stores, &location).await?;
    let manifests = parsed(&location, || ManifestList::parse_with_version(&bytes, list_version(table)))?;
    let manifests: Vec<ManifestFile> = manifests.consume_entries().into_iter().collect();
    let reads = manifests.into_iter().map(|manifest| files_of(stores, path, (table, schema, &times), manifest));
    let files: Vec<Vec<SnapshotFile>> = stream::iter(reads).buffered(CONCURRENT_READS).try_collect().await?;
    Ok(files.into_iter().flatten().collect())
}

/// Returns the version to read a manifest list by. The second version defines defaults for the columns that the first one
/// lacks, so a list from before an upgrade of the table is read correctly too.
fn list_version(table: &TableMetadata) -> FormatVersion {
    match table.format_version() {
        FormatVersion::V1 | FormatVersion::V2 => FormatVersion::V2,
        FormatVersion::V3 => FormatVersion::V3,
    }
}

async fn files_of(
    stores: &Stores,
    path: &Path,
    (table, schema, times): (&TableMetadata, &Schema, &TimeColumns),
    manifest: ManifestFile,
) -> Result<Vec<SnapshotFile>, Error> {
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
    let lacks_spec = || refused(&place, format!("the table lacks its partition spec {}", manifest.partition_spec_id));
    let spec = table.partition_spec_by_id(manifest.partition_spec_id).ok_or_else(lacks_spec)?;
    let (entries, _) = parsed(&location, || Manifest::parse_avro(&bytes))?.into_parts();
    let mut files = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_alive()) {
        // An added file has the sequence number of its manifest, and so has every file of a table of the first version.
        let inherits = entry.status() == ManifestStatus::Added || manifest.sequence_number == 0;
        let sequence_number = entry.sequence_number().or(inherits.then_some(manifest.sequence_number));
        let sequence_number = sequence_number
            .ok_or_else(|| refused(&place, format!("the file `{}` has no sequence number", entry.file_path())))?;
        let file = entry.data_file();
        if file.key_metadata().is_some_and(|key| !key.is_empty()) {
            return Err(refused(&place, "encrypted files are not supported"));
        }
        files.push(SnapshotFile {
            path: file.file_path().to_owned(),
            content: file.content_type(),
            format: file.file_format(),
            size: file.file_size_in_bytes(),
            records: file.record_count(),
            sequence_number,
            times: times.of_file(file, spec),
            partition_values: partition_values(file, spec, schema),
            vector: vector_place(file),
        });
    }
    check_counts(&place, &manifest, &entries)?;
    Ok(files)
}

fn vector_place(file: &DataFile) -> Option<VectorPlace> {
    Some(VectorPlace {
        data_file: file.referenced_data_file()?,
        offset: u64::try_from(file.content_offset()?).ok()?,
        size: u64::try_from(file.content_size_in_bytes()?).ok()?,
    })
}

/// Returns the values of the columns that a file's partition has unchanged. The file need not have such a column.
fn partition_values(
    file: &DataFile,
    spec: &PartitionSpec,
    schema: &Schema,
) -> BTreeMap<String, Option<PartitionValue>> {
    let value = |(field, value): (&PartitionField, Option<&Literal>)| {
        let column = schema.as_struct().field_by_id(field.source_id)?;
        let text = match (value, column.field_type.as_primitive_type()?) {
            _ if field.transform != Transform::Identity => return None,
            (None, _) => None,
            (Some(Literal::Primitive(PrimitiveLiteral::String(text))), _) => Some(text.clone()),
            (Some(Literal::Primitive(PrimitiveLiteral::Int(days))), PrimitiveType::Date) => {
                Some(NaiveDate::default().checked_add_signed(TimeDelta::days(i64::from(*days)))?.to_string())
            }
            (Some(Literal::Primitive(PrimitiveLiteral::Int(number))), _) => Some(number.to_string()),
            (Some(Literal::Primitive(PrimitiveLiteral::Long(number))), PrimitiveType::Long) => Some(number.to_string()),
            (Some(Literal::Primitive(PrimitiveLiteral::Boolean(flag))), _) => Some(flag.to_string()),
            _ => return None,
        };
        Some((column.name.clone(), text.map(PartitionValue::Text)))
    };
    spec.fields().iter().zip(file.partition().iter()).filter_map(value).collect()
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
    let path = PathBuf::from(location.to_string());
    match catching_panics(parse) {
        Ok(Ok(parsed)) => Ok(parsed),
        Ok(Err(error)) => Err(refused(&path, format!("invalid metadata: {error}"))),
        Err(_) => Err(refused(&path, "it is damaged: copy it again")),
    }
}
