//! Deleted rows: position delete files and deletion vectors. Equality deletes are refused.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use arrow::array::{Array as _, AsArray as _};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use iceberg::spec::{DataContentType, DataFileFormat};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use roaring::RoaringTreemap;

use super::live_files::LiveFile;
use super::{CONCURRENT_READS, location_of, read, refused};
use crate::error::Error;
use crate::store::Stores;

/// The deletes of a snapshot.
#[derive(Debug, Default)]
pub(super) struct Deletes {
    /// For each data file, the deletion vector that replaces its position deletes.
    vectors: HashMap<String, (LiveFile, RoaringTreemap)>,
    /// For each data file, the positions that each delete file has for it.
    positions: HashMap<String, Vec<(LiveFile, RoaringTreemap)>>,
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
        data: &[LiveFile],
        deletes: Vec<LiveFile>,
    ) -> Result<Deletes, Error> {
        let mut found = Deletes::default();
        let mut files = Vec::new();
        for delete in deletes {
            let delete_path = delete.file.file_path();
            match (delete.file.content_type(), delete.file.file_format()) {
                (DataContentType::EqualityDeletes, _) => {
                    // They apply to older files only.
                    if let Some(older) = data.iter().find(|file| file.sequence_number < delete.sequence_number) {
                        let reason = format!(
                            "equality deletes are not supported, and `{delete_path}` may delete rows of `{}`: compact the table first",
                            older.file.file_path()
                        );
                        return Err(refused(path, reason));
                    }
                }
                (_, DataFileFormat::Parquet | DataFileFormat::Puffin) => files.push(delete),
                (_, format) => {
                    let format = format.to_string().to_uppercase();
                    let reason = format!("its delete file `{delete_path}` is {format}, which is not supported");
                    return Err(refused(path, reason));
                }
            }
        }
        let reads = files.into_iter().map(|delete| async move {
            let location = location_of(path, delete.file.file_path())?;
            let bytes = read(stores, &location).await?;
            Ok::<_, Error>((delete, PathBuf::from(location.to_string()), bytes))
        });
        let mut reads = stream::iter(reads).buffered(CONCURRENT_READS);
        while let Some((delete, delete_path, bytes)) = reads.try_next().await? {
            if delete.file.file_format() == DataFileFormat::Puffin {
                found.add_vector(&delete_path, delete, &bytes)?;
            } else {
                found.add_positions(&delete_path, &delete, bytes)?;
            }
        }
        Ok(found)
    }

    fn add_vector(&mut self, path: &Path, delete: LiveFile, bytes: &Bytes) -> Result<(), Error> {
        let lacks = |name: &str| refused(path, format!("the deletion vector lacks `{name}`"));
        let data_file = delete.file.referenced_data_file().ok_or_else(|| lacks("referenced_data_file"))?;
        let place = delete.file.content_offset().zip(delete.file.content_size_in_bytes());
        let (offset, size) = place.ok_or_else(|| lacks("content_offset"))?;
        let blob = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
        let blob = blob.and_then(|(offset, size)| bytes.get(offset..offset.checked_add(size)?));
        let blob = blob.ok_or_else(|| refused(path, "the deletion vector lies outside of the file"))?;
        let vector = vector_of(blob).map_err(|reason| refused(path, reason))?;
        if vector.len() != delete.file.record_count() {
            let reason = format!(
                "the deletion vector has {} rows, and the manifest says {}",
                vector.len(),
                delete.file.record_count()
            );
            return Err(refused(path, reason));
        }
        match self.vectors.insert(data_file, (delete, vector)) {
            None => Ok(()),
            Some((other, _)) => {
                Err(refused(path, format!("a file has two deletion vectors, also in `{}`", other.file.file_path())))
            }
        }
    }

    fn add_positions(&mut self, path: &Path, delete: &LiveFile, bytes: Bytes) -> Result<(), Error> {
        let by_file = positions_of(bytes).map_err(|reason| refused(path, reason))?;
        let rows: u64 = by_file.values().map(|(rows, _)| rows).sum();
        if rows != delete.file.record_count() {
            return Err(refused(
                path,
                format!("it has {rows} rows, and the manifest says {}", delete.file.record_count()),
            ));
        }
        for (data_file, (_, positions)) in by_file {
            self.positions.entry(data_file).or_default().push((delete.clone(), positions));
        }
        Ok(())
    }

    /// Returns the positions of the deleted rows of `file`.
    ///
    /// # Errors
    /// A position is not in the file.
    pub(super) fn of(&mut self, path: &Path, file: &LiveFile) -> Result<RoaringTreemap, Error> {
        let applies =
            |delete: &LiveFile| delete.sequence_number >= file.sequence_number && delete.has_partition_of(file);
        let vector = self.vectors.remove(file.file.file_path()).filter(|(delete, _)| applies(delete));
        let deleted = if let Some((_, vector)) = vector {
            vector
        } else {
            let positions = self.positions.remove(file.file.file_path()).unwrap_or_default();
            let applying = positions.into_iter().filter(|(delete, _)| applies(delete));
            applying.fold(RoaringTreemap::new(), |deleted, (_, positions)| deleted | positions)
        };
        match deleted.max() {
            Some(last) if last >= file.file.record_count() => {
                let (name, rows) = (file.file.file_path(), file.file.record_count());
                Err(refused(path, format!("row {last} of `{name}` is deleted, and the file has only {rows} rows")))
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
fn positions_of(bytes: Bytes) -> Result<PositionsByFile, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("invalid position delete file: {error}");
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).and_then(ParquetRecordBatchReaderBuilder::build);
    let mut found = PositionsByFile::new();
    for batch in reader.map_err(|error| unreadable(&error))? {
        let batch = batch.map_err(|error| unreadable(&error))?;
        let column = |name: &str, data_type: &DataType| {
            let column = batch.column_by_name(name).ok_or_else(|| unreadable(&format!("it has no column `{name}`")))?;
            let column = cast(column, data_type).map_err(|error| unreadable(&error))?;
            if column.null_count() > 0 { Err(unreadable(&format!("`{name}` is null"))) } else { Ok(column) }
        };
        let (files, rows) = (column("file_path", &DataType::Utf8)?, column("pos", &DataType::Int64)?);
        for (file, row) in files.as_string::<i32>().iter().flatten().zip(rows.as_primitive::<Int64Type>().values()) {
            let row = u64::try_from(*row).map_err(|error| unreadable(&error))?;
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
