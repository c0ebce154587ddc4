//! One file of a lake: the records of one date, sorted and encoded.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, RecordBatch, UInt64Array};
use arrow::compute;
use arrow::datatypes::{Field, TimestampMicrosecondType};
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use sha2::{Digest as _, Sha256};

use super::ledger::FileEntry;
use crate::error::Error;
use crate::event;
use crate::store::{Pending, Writer, hex};
use crate::time::{self, DAY};

/// Rows that are gathered and encoded at a time.
const CHUNK_ROWS: usize = 16_384;
/// Rows in a data page, at most: the least that a reader decompresses.
const PAGE_ROWS: usize = 8_192;

/// Batches of fewer rows are put together: each has room for some hundred records, however few it holds.
const FEW_ROWS: usize = 256;
/// Batches that are put together to one.
const TOGETHER: usize = 256;

/// The records that are to be written to the next file of one date.
#[derive(Debug, Default)]
pub struct Part {
    batches: Vec<RecordBatch>,
    /// Those that are not put together yet.
    loose: Vec<RecordBatch>,
    identity: Sha256,
    /// Their size in memory, in bytes.
    pub memory: usize,
}

impl Part {
    /// Adds records of the object with the identity `object`; `hashes` are those of their texts, in order.
    ///
    /// # Errors
    /// The batch has other columns than records have.
    pub fn push(
        &mut self,
        object: &str,
        batch: RecordBatch,
        hashes: impl Iterator<Item = u128>,
    ) -> Result<(), ArrowError> {
        // Columns are encoded by their places.
        if batch.schema().fields() != event::schema().fields() {
            return Err(ArrowError::SchemaError("its columns are not those of records".to_owned()));
        }
        self.identity.update(object);
        for hash in hashes {
            self.identity.update(hash.to_le_bytes());
        }
        for column in batch.columns() {
            self.memory += column.to_data().get_slice_memory_size()?;
        }
        if batch.num_rows() >= FEW_ROWS {
            self.batches.push(batch);
            return Ok(());
        }
        self.loose.push(batch);
        if self.loose.len() == TOGETHER {
            self.put_together()?;
        }
        Ok(())
    }

    fn put_together(&mut self) -> Result<(), ArrowError> {
        self.batches.push(compute::concat_batches(&event::schema(), &self.loose)?);
        self.loose.clear();
        Ok(())
    }

    /// [`Part::encode`], and the file made complete, though not yet at its place.
    pub async fn stage(
        self,
        date: Option<i64>,
        threads: usize,
        writer: &Writer,
    ) -> Result<(FileEntry, Pending), Error> {
        let encoded = tokio::task::spawn_blocking(move || self.encode(date, threads)).await;
        let internal = |error: ParquetError| Error::Internal(format!("a Parquet file: {error}"));
        let (entry, bytes) = encoded.map_err(|error| Error::Internal(error.to_string()))?.map_err(internal)?;
        let pending = writer.stage(&entry.path, bytes.into()).await?;
        Ok((entry, pending))
    }

    /// Sorts and encodes the records of `date`. The file's name tells what it holds: the same
    /// records of the same objects give the same name.
    pub fn encode(mut self, date: Option<i64>, threads: usize) -> Result<(FileEntry, Vec<u8>), ParquetError> {
        self.put_together()?;
        let Part { batches, identity, .. } = self;
        let name = hex(&identity.finalize()[..16]);
        let path = format!("{}/part-{name}.parquet", folder(date));
        let rows = sorted_rows(&batches)?;
        let properties = WriterProperties::builder()
            // Higher levels look for longer matches first, and so make texts as random as identities are larger.
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_created_by(concat!("tawny ", env!("CARGO_PKG_VERSION")).to_owned())
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), event::schema(), Some(properties))?;
        let (mut writer, group) = writer.into_serialized_writer()?;
        let times = || batches.iter().map(|batch| batch.column(0).as_primitive::<TimestampMicrosecondType>());
        let (first_event, last_event) =
            (times().filter_map(compute::min).min(), times().filter_map(compute::max).max());
        let columns = columns(batches).into_iter().zip(group.create_column_writers(0)?).collect();
        let chunks = encode_columns(columns, &rows, threads)?;
        let mut group = writer.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        let bytes = writer.into_inner()?;
        let records = rows.len() as u64;
        Ok((FileEntry { path, bytes: bytes.len() as u64, records, first_event, last_event }, bytes))
    }
}

/// The arrays of each column, each of which goes as soon as it is encoded.
fn columns(batches: Vec<RecordBatch>) -> Vec<Vec<ArrayRef>> {
    let mut columns = vec![Vec::with_capacity(batches.len()); event::schema().fields().len()];
    for batch in batches {
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            column.push(Arc::clone(array));
        }
    }
    columns
}

/// The chunks of a file's only row group, each by the next of `threads` that has nothing to do.
fn encode_columns(
    columns: Vec<(Vec<ArrayRef>, ArrowColumnWriter)>,
    rows: &[(usize, usize)],
    threads: usize,
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let waiting = Mutex::new(columns.into_iter().enumerate());
    let work = || {
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let mut done = Vec::new();
        while let Some((column, (arrays, writer))) = next() {
            done.push((column, encode_column(event::schema().field(column), &arrays, rows, writer)?));
        }
        Ok::<_, ParquetError>(done)
    };
    let mut columns = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut columns = Vec::new();
        for worker in workers {
            let ended = worker.join().map_err(|_| ParquetError::General("a column could not be encoded".to_owned()))?;
            columns.extend(ended?);
        }
        Ok::<_, ParquetError>(columns)
    })?;
    columns.sort_by_key(|(column, _)| *column);
    Ok(columns.into_iter().map(|(_, chunk)| chunk).collect())
}

fn encode_column(
    field: &Field,
    arrays: &[ArrayRef],
    rows: &[(usize, usize)],
    mut writer: ArrowColumnWriter,
) -> Result<ArrowColumnChunk, ParquetError> {
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    for chunk in rows.chunks(CHUNK_ROWS) {
        for leaf in compute_leaves(field, &compute::interleave(&arrays, chunk)?)? {
            writer.write(&leaf)?;
        }
    }
    writer.close()
}

/// The folder of a date, given as the midnight it begins with; `None` for records without a time,
/// whose folder carries Hive's name for a null.
fn folder(date: Option<i64>) -> String {
    let date = date.map_or_else(|| "__HIVE_DEFAULT_PARTITION__".to_owned(), time::utc_date);
    format!("date={date}")
}

/// The order of all rows by (eventSource, eventName, userIdentity, eventTime), as (batch, row): what a
/// hunt for one event reads lies together, and what one identity did, which compresses well.
fn sorted_rows(batches: &[RecordBatch]) -> Result<Vec<(usize, usize)>, ArrowError> {
    // The pairs are few, so they are compared once and not row by row.
    let mut pairs = HashMap::new();
    let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (number, batch) in batches.iter().enumerate() {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let texts = |name| Ok::<_, ArrowError>(batch.column(batch.schema().index_of(name)?).as_string::<i32>());
        let (sources, names, identities) = (texts("eventSource")?, texts("eventName")?, texts("userIdentity")?);
        for (row, ((pair, identity), time)) in sources.iter().zip(names).zip(identities).zip(times).enumerate() {
            let seen = pairs.len();
            rows.push((*pairs.entry(pair).or_insert(seen), identity, time, (number, row)));
        }
    }
    let mut in_order: Vec<_> = pairs.into_iter().collect();
    in_order.sort_unstable();
    let mut rank = vec![0; in_order.len()];
    for (place, (_, seen)) in in_order.into_iter().enumerate() {
        rank[seen] = place;
    }
    rows.sort_unstable_by_key(|(pair, identity, time, row)| (rank[*pair], *identity, *time, *row));
    Ok(rows.into_iter().map(|(_, _, _, row)| row).collect())
}

/// The records of one date: the midnight it begins with (`None` for records without a time), the
/// records, and the rows they were in the batch they come from.
pub type OfDate = (Option<i64>, RecordBatch, Vec<usize>);

/// Splits those rows of a batch that are `kept` by event date.
pub fn by_date(batch: &RecordBatch, kept: &BooleanArray) -> Result<Vec<OfDate>, ArrowError> {
    let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    let mut dates: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
    for (row, (time, kept)) in times.iter().zip(kept.values()).enumerate() {
        if kept {
            dates.entry(time.map(|time| time.div_euclid(DAY) * DAY)).or_default().push(row);
        }
    }
    let taken = |(date, rows): (Option<i64>, Vec<usize>)| {
        if rows.len() == batch.num_rows() {
            return Ok((date, batch.clone(), rows));
        }
        let indices = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
        Ok((date, compute::take_record_batch(batch, &indices)?, rows))
    };
    dates.into_iter().map(taken).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::batch::BatchBuilder;
    use crate::raw::{envelope::Record, json};

    #[test]
    fn many_small_batches_take_no_more_memory_than_what_they_hold() {
        let text = r#"{"eventTime":"2026-09-01T10:00:00Z","eventName":"ConsoleLogin"}"#;
        let members = json::members(text).unwrap();
        let mut part = Part::default();
        for number in 0..10 * TOGETHER {
            let mut builder = BatchBuilder::default();
            builder.push(&Record { text, members: members.clone() });
            part.push(&number.to_string(), builder.finish().unwrap(), std::iter::empty()).unwrap();
        }
        let taken: usize = part.batches.iter().map(RecordBatch::get_array_memory_size).sum();
        assert!(taken < 2 * part.memory, "{taken} for {}", part.memory);
        let (file, _) = part.encode(None, 1).unwrap();
        assert_eq!(file.records, 10 * TOGETHER as u64);
    }

    #[test]
    fn other_columns_are_refused_and_not_taken_by_their_places() {
        let batch = BatchBuilder::default().finish().unwrap();
        assert!(Part::default().push("object", batch.clone(), std::iter::empty()).is_ok());
        let mut turned: Vec<usize> = (0..batch.num_columns()).collect();
        turned.swap(2, 3);
        let turned = batch.project(&turned).unwrap();
        assert!(Part::default().push("object", turned, std::iter::empty()).is_err());
    }
}
