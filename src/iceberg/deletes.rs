//! Deleted rows: position delete files and deletion vectors. Equality deletes are refused.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use arrow::array::{Array as _, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::spec::{DataContentType, DataFileFormat};
use roaring::RoaringTreemap;

use super::live_files::SnapshotFile;
use super::{CONCURRENT_READS, location_of, read, refused};
use crate::engine::read_small_file;
use crate::error::Error;
use crate::store::Stores;

/// The deletes of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Deletes {
    /// For each data file, the deletion vector that replaces its position deletes.
    vectors: HashMap<String, (SnapshotFile, RoaringTreemap)>,
    /// For each data file, the positions that delete files have for it, with the sequence number of each.
    positions: HashMap<String, Vec<(i64, RoaringTreemap)>>,
}

impl Deletes {
    /// Reads the `deletes` that apply to `data`. `path` is the table's metadata file.
    ///
    /// # Errors
    /// In addition to store errors: equality deletes apply to a data file, or a delete file is damaged or in a format that
    /// is not supported.
    pub(super) async fn read(
        stores: &Stores,
        path: &Path,
        data: &[SnapshotFile],
        deletes: Vec<SnapshotFile>,
    ) -> Result<Deletes, Error> {
        // A file may have many deletion vectors, and is read once.
        let mut by_file: BTreeMap<String, Vec<SnapshotFile>> = BTreeMap::new();
        for delete in deletes {
            match (delete.content, delete.format) {
                (DataContentType::EqualityDeletes, _) => {
                    // They apply to older files only.
                    if let Some(older) = data.iter().find(|file| file.sequence_number < delete.sequence_number) {
                        let reason = format!(
                            "equality deletes are not supported, and `{}` may delete rows of `{}`: rewrite the table's \
                             data files first, as with Spark's `rewrite_data_files`",
                            delete.path, older.path
                        );
                        return Err(refused(path, reason));
                    }
                }
                (_, DataFileFormat::Parquet | DataFileFormat::Puffin) => {
                    by_file.entry(delete.path.clone()).or_default().push(delete);
                }
                (_, format) => {
                    let format = format.to_string().to_uppercase();
                    let reason = format!("its delete file `{}` is {format}, which is not supported", delete.path);
                    return Err(refused(path, reason));
                }
            }
        }
        let reads = by_file.into_iter().map(|(delete_path, deletes)| async move {
            let location = location_of(path, &delete_path)?;
            let bytes = read(stores, &location).await?;
            Ok::<_, Error>((deletes, PathBuf::from(location.to_string()), bytes))
        });
        let mut found = Deletes::default();
        let mut reads = stream::iter(reads).buffered(CONCURRENT_READS);
        while let Some((deletes, delete_path, bytes)) = reads.try_next().await? {
            for delete in deletes {
                let added = if delete.format == DataFileFormat::Puffin {
                    found.add_vector(delete, &bytes)
                } else {
                    found.add_positions(&delete, &bytes)
                };
                added.map_err(|reason| refused(&delete_path, reason))?;
            }
        }
        Ok(found)
    }

    fn add_vector(&mut self, delete: SnapshotFile, bytes: &Bytes) -> Result<(), String> {
        let place = delete.vector.clone().ok_or("the manifest does not say where its deletion vector is")?;
        let blob = usize::try_from(place.offset).ok().zip(usize::try_from(place.size).ok());
        let blob = blob.and_then(|(offset, size)| bytes.get(offset..offset.checked_add(size)?));
        let vector = vector_of(blob.ok_or("the deletion vector lies outside of the file")?)?;
        if vector.len() != delete.records {
            return Err(format!(
                "the deletion vector has {} rows, and the manifest says {}",
                vector.len(),
                delete.records
            ));
        }
        match self.vectors.insert(place.data_file, (delete, vector)) {
            None => Ok(()),
            Some((other, _)) => Err(format!("a file has two deletion vectors, also in `{}`", other.path)),
        }
    }

    fn add_positions(&mut self, delete: &SnapshotFile, bytes: &Bytes) -> Result<(), String> {
        let by_file = positions_of(bytes)?;
        let rows: u64 = by_file.values().map(|(rows, _)| rows).sum();
        if rows != delete.records {
            return Err(format!("it has {rows} rows, and the manifest says {}", delete.records));
        }
        for (data_file, (_, positions)) in by_file {
            self.positions.entry(data_file).or_default().push((delete.sequence_number, positions));
        }
        Ok(())
    }

    /// Returns the positions of the deleted rows of `file`. They name the file by its path, so its partition does not matter.
    ///
    /// # Errors
    /// A position is not in the file, or the deletion vector is older than the file.
    pub(super) fn of(&mut self, path: &Path, file: &SnapshotFile) -> Result<RoaringTreemap, Error> {
        let deleted = if let Some((delete, vector)) = self.vectors.remove(&file.path) {
            if delete.sequence_number < file.sequence_number {
                return Err(refused(path, format!("the deletion vector of `{}` is older than the file", file.path)));
            }
            vector
        } else {
            let positions = self.positions.remove(&file.path).unwrap_or_default();
            let applying =
                positions.into_iter().filter(|(sequence_number, _)| *sequence_number >= file.sequence_number);
            applying.fold(RoaringTreemap::new(), |deleted, (_, positions)| deleted | positions)
        };
        match deleted.max() {
            Some(last) if last >= file.records => {
                let SnapshotFile { path: name, records, .. } = file;
                Err(refused(path, format!("row {last} of `{name}` is deleted, and the file has only {records} rows")))
            }
            _ => Ok(deleted),
        }
    }
}

/// The first bytes of a deletion vector.
const VECTOR_MAGIC: [u8; 4] = [0xd1, 0xd3, 0x39, 0x64];

/// Reads the blob `deletion-vector-v1` of a Puffin file: length, magic, positions, checksum.
///
/// Format: <https://iceberg.apache.org/puffin-spec/#deletion-vector-v1-blob-type>
fn vector_of(blob: &[u8]) -> Result<RoaringTreemap, String> {
    let damaged = || "the deletion vector is damaged".to_owned();
    let (length, rest) = blob.split_first_chunk::<4>().ok_or_else(damaged)?;
    let (content, checksum) = rest.split_last_chunk::<4>().ok_or_else(damaged)?;
    if usize::try_from(u32::from_be_bytes(*length)).ok() != Some(content.len()) {
        return Err(damaged());
    }
    let mut expected = flate2::Crc::new();
    expected.update(content);
    if expected.sum() != u32::from_be_bytes(*checksum) {
        return Err("the deletion vector does not have its checksum".to_owned());
    }
    let positions = content.strip_prefix(&VECTOR_MAGIC).ok_or_else(damaged)?;
    RoaringTreemap::deserialize_from(positions).map_err(|_| damaged())
}

/// For each data file, the number of rows of a delete file and their positions.
type PositionsByFile = BTreeMap<String, (u64, RoaringTreemap)>;

/// Reads a position delete file.
fn positions_of(bytes: &Bytes) -> Result<PositionsByFile, String> {
    let mut found = PositionsByFile::new();
    for batch in read_small_file(bytes, &["file_path", "pos"]).map_err(|error| error.to_string())? {
        let column = |name: &str, data_type: &DataType| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("it has no column `{name}`"))?;
            let column = cast(column, data_type).map_err(|error| format!("its column `{name}` is invalid: {error}"))?;
            if column.null_count() > 0 { Err(format!("its column `{name}` has nulls")) } else { Ok(column) }
        };
        let (files, rows) = (column("file_path", &DataType::Binary)?, column("pos", &DataType::Int64)?);
        for (file, row) in files.as_binary::<i32>().iter().flatten().zip(rows.as_primitive::<Int64Type>().values()) {
            let file = std::str::from_utf8(file).map_err(|_| "a path in it is not UTF-8")?;
            let row = u64::try_from(*row).map_err(|_| format!("it deletes the row {row}"))?;
            if !found.contains_key(file) {
                found.insert(file.to_owned(), Default::default());
            }
            if let Some((count, positions)) = found.get_mut(file) {
                *count += 1;
                positions.insert(row);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(positions: &[u64]) -> Vec<u8> {
        let mut content = VECTOR_MAGIC.to_vec();
        RoaringTreemap::from_iter(positions).serialize_into(&mut content).unwrap();
        let mut checksum = flate2::Crc::new();
        checksum.update(&content);
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        [&length, content.as_slice(), &checksum.sum().to_be_bytes()].concat()
    }

    #[test]
    fn a_deletion_vector_is_read_whole_or_refused() {
        let good = blob(&[0, 7, 1 << 40]);
        assert_eq!(vector_of(&good).unwrap().iter().collect::<Vec<_>>(), [0, 7, 1 << 40]);
        for place in 0..good.len() {
            let mut flipped = good.clone();
            flipped[place] ^= 1;
            vector_of(&flipped).unwrap_err();
            vector_of(&good[..place]).unwrap_err();
        }
    }
}
