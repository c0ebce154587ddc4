//! Rows that are written in any order and read in the order of their keys.
//!
//! Rows may be long, so only their keys and places are sorted. The rows stay where they were written: in memory up to a part of
//! the budget, and beyond that in a file.

use std::collections::VecDeque;
use std::sync::Arc;

use arrow::array::{BinaryArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, SortField};
use datafusion::common::{internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{TryStreamExt as _, stream};

use super::byte_spool::{ByteSpool, SpoolReader, SpooledBytes};
use super::{BATCH_ROWS, Engine};
use crate::named_columns;

/// The part of the budget for rows in memory, and for keys in memory.
const PART_OF_ROWS: usize = 8;
const PART_OF_KEYS: usize = 16;

/// Bytes of columns that become rows at a time, and of rows that become columns.
const BYTES_AT_A_TIME: usize = 1 << 20;

/// The columns of an index: the place of a row, and its key.
const PART: &str = "part";
const START: &str = "start";
const LENGTH: &str = "length";
const KEY: &str = "key";

/// Up to this many keys in memory are sorted without a query.
const FEW_KEYS: usize = 10_000;

/// Writes [`KeyedRows`].
pub struct KeyedRowsWriter {
    converter: RowConverter,
    schema: SchemaRef,
    rows: ByteSpool,
    index: ByteSpool,
    count: usize,
}

impl KeyedRowsWriter {
    /// Returns a writer of rows of `schema`.
    ///
    /// # Errors
    /// A column has a type that rows cannot have.
    pub fn new(engine: &Engine, schema: SchemaRef) -> Result<KeyedRowsWriter> {
        let fields = schema.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        Ok(KeyedRowsWriter {
            converter: RowConverter::new(fields)?,
            schema,
            rows: ByteSpool::new(engine, "rows", engine.memory / PART_OF_ROWS),
            index: ByteSpool::new(engine, "keys", engine.memory / PART_OF_KEYS),
            count: 0,
        })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds `rows`. `label` returns the key of a row, and a tag by which readers select rows.
    ///
    /// # Errors
    /// A file cannot be written, or `label` fails.
    pub fn push(&mut self, rows: &RecordBatch, mut label: impl FnMut(usize) -> Result<(Vec<u8>, u64)>) -> Result<()> {
        let mut bytes = 0;
        for column in rows.columns() {
            bytes += column.to_data().get_slice_memory_size()?;
        }
        let step = (rows.num_rows() * BYTES_AT_A_TIME / bytes.max(1)).max(1);
        for first in (0..rows.num_rows()).step_by(step) {
            let slice = rows.slice(first, step.min(rows.num_rows() - first));
            for (row, encoded) in self.converter.convert_columns(slice.columns())?.iter().enumerate() {
                let (key, tag) = label(first + row)?;
                let start = self.rows.push(encoded.data())?;
                self.index.push(&IndexEntry { tag, start, length: encoded.data().len(), key }.to_bytes())?;
            }
        }
        self.count += rows.num_rows();
        Ok(())
    }

    /// Returns the rows.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(self) -> Result<KeyedRows> {
        let KeyedRowsWriter { converter, schema, rows, index, count } = self;
        Ok(KeyedRows { converter, schema, rows: rows.finish()?, index: Arc::new(index.finish()?), count })
    }
}

impl std::fmt::Debug for KeyedRowsWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedRowsWriter").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Rows with keys. Dropping them frees the memory and deletes the files.
pub struct KeyedRows {
    converter: RowConverter,
    schema: SchemaRef,
    rows: SpooledBytes,
    index: Arc<SpooledBytes>,
    count: usize,
}

impl std::fmt::Debug for KeyedRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedRows").field("count", &self.count).finish_non_exhaustive()
    }
}

/// The key, the tag and the place of a row.
struct IndexEntry {
    tag: u64,
    start: u64,
    length: usize,
    key: Vec<u8>,
}

/// Bytes of the numbers that precede a key in an index: its length, the tag, and the start and the length of the row.
const ENTRY_HEAD: usize = 32;

impl IndexEntry {
    fn to_bytes(&self) -> Vec<u8> {
        let numbers = [self.key.len() as u64, self.tag, self.start, self.length as u64];
        let mut bytes = Vec::with_capacity(ENTRY_HEAD + self.key.len());
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.extend_from_slice(&self.key);
        bytes
    }
}

/// Reads the entries of an index in the order in which they were written.
struct IndexReader {
    index: Arc<SpooledBytes>,
    next: u64,
    left: usize,
}

impl IndexReader {
    fn new(rows: &KeyedRows) -> IndexReader {
        IndexReader { index: Arc::clone(&rows.index), next: 0, left: rows.count }
    }

    /// Returns at most `most` entries.
    fn read(&mut self, most: usize) -> Result<Vec<IndexEntry>> {
        let mut reader = self.index.open()?;
        let count = most.min(self.left);
        let (mut entries, mut bytes) = (Vec::with_capacity(count), Vec::new());
        for _ in 0..count {
            bytes.clear();
            reader.read(self.next, ENTRY_HEAD, &mut bytes)?;
            let (numbers, _) = bytes.as_chunks::<8>();
            let &[key, tag, start, length] = numbers else {
                return internal_err!("an index entry of another length");
            };
            let [key, tag, start, length] = [key, tag, start, length].map(u64::from_le_bytes);
            let mut bytes = Vec::new();
            reader.read(self.next + ENTRY_HEAD as u64, to_length(key)?, &mut bytes)?;
            self.next += ENTRY_HEAD as u64 + key;
            entries.push(IndexEntry { tag, start, length: to_length(length)?, key: bytes });
        }
        self.left -= count;
        Ok(entries)
    }
}

fn to_length(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| internal_datafusion_err!("a length of {number}"))
}

/// Some of the rows that a [`KeyedRowsReader`] merges.
#[derive(Debug, Clone)]
pub struct KeyedPart<'k> {
    /// The rows.
    pub rows: &'k KeyedRows,
    /// For each tag whether its rows are read.
    pub wanted: Vec<bool>,
}

fn is_wanted(wanted: &[bool], entry: &IndexEntry) -> bool {
    usize::try_from(entry.tag).ok().and_then(|tag| wanted.get(tag)).is_some_and(|wanted| *wanted)
}

/// Reads rows of one or more [`KeyedRows`] in the order of their keys.
pub struct KeyedRowsReader<'k> {
    parts: Vec<(&'k KeyedRows, SpoolReader<'k>)>,
    places: VecDeque<Place>,
    /// Sorted rows of the index that follow the places.
    stream: Option<SendableRecordBatchStream>,
}

/// The place of a row.
struct Place {
    part: usize,
    start: u64,
    length: usize,
}

impl<'k> KeyedRowsReader<'k> {
    /// Begins to read `parts`.
    ///
    /// # Errors
    /// The keys cannot be sorted, or a file cannot be read.
    pub async fn new(engine: &Engine, parts: &[KeyedPart<'k>]) -> Result<KeyedRowsReader<'k>> {
        let is_small = parts.iter().map(|part| part.rows.count).sum::<usize>() <= FEW_KEYS
            && !parts.iter().any(|part| part.rows.index.is_spilled());
        let (places, stream) = if is_small {
            (sorted_in_memory(parts)?, None)
        } else {
            let partition = |(number, part): (usize, &KeyedPart<'_>)| {
                let (index, count, wanted) = (Arc::clone(&part.rows.index), part.rows.count, part.wanted.clone());
                Arc::new(IndexPartition { number, index, count, wanted, schema: index_schema() }) as _
            };
            let partitions = parts.iter().enumerate().map(partition).collect();
            let table = super::streamed_table(index_schema(), partitions)?;
            let sorted = "SELECT part, start, length FROM keys ORDER BY key";
            (VecDeque::new(), Some(engine.rows("keys", table, sorted).await?))
        };
        let parts = parts.iter().map(|part| Ok((part.rows, part.rows.rows.open()?))).collect::<Result<_>>()?;
        Ok(KeyedRowsReader { parts, places, stream })
    }

    /// Returns the next rows, all of one part, and the index of that part; `None` at the end.
    ///
    /// # Errors
    /// The keys cannot be sorted, or a file cannot be read.
    pub async fn next(&mut self) -> Result<Option<(usize, RecordBatch)>> {
        while self.places.is_empty() {
            let Some(stream) = &mut self.stream else { return Ok(None) };
            let Some(batch) = stream.try_next().await? else { return Ok(None) };
            let numbers = |name| Ok::<_, DataFusionError>(named_columns::integers(&batch, name)?.values());
            let (parts, starts, lengths) = (numbers(PART)?, numbers(START)?, numbers(LENGTH)?);
            for row in 0..batch.num_rows() {
                let [part, start, length] = [parts, starts, lengths].map(|column| column[row].cast_unsigned());
                self.places.push_back(Place { part: to_length(part)?, start, length: to_length(length)? });
            }
        }
        let Some(part) = self.places.front().map(|place| place.part) else { return Ok(None) };
        let Some((rows, reader)) = self.parts.get_mut(part) else {
            return internal_err!("a row of no part");
        };
        let (mut bytes, mut lengths) = (Vec::new(), Vec::new());
        while let Some(place) = self.places.front()
            && place.part == part
            && lengths.len() < BATCH_ROWS
            && bytes.len() < BYTES_AT_A_TIME
        {
            reader.read(place.start, place.length, &mut bytes)?;
            lengths.push(place.length);
            self.places.pop_front();
        }
        let (parser, mut rest) = (rows.converter.parser(), bytes.as_slice());
        let parsed = lengths.into_iter().map(|length| {
            let (row, after) = rest.split_at(length);
            rest = after;
            parser.parse(row)
        });
        let columns = rows.converter.convert_rows(parsed)?;
        Ok(Some((part, RecordBatch::try_new(Arc::clone(&rows.schema), columns)?)))
    }
}

/// Returns the places of the wanted rows, sorted by key.
fn sorted_in_memory(parts: &[KeyedPart<'_>]) -> Result<VecDeque<Place>> {
    let mut places: Vec<(Vec<u8>, Place)> = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        for entry in IndexReader::new(part.rows).read(usize::MAX)? {
            if is_wanted(&part.wanted, &entry) {
                places.push((entry.key, Place { part: number, start: entry.start, length: entry.length }));
            }
        }
    }
    places.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(places.into_iter().map(|(_, place)| place).collect())
}

/// The columns of an index as a table.
fn index_schema() -> SchemaRef {
    let number = |name| Field::new(name, DataType::Int64, false);
    let key = Field::new(KEY, DataType::Binary, false);
    Arc::new(Schema::new(vec![number(PART), number(START), number(LENGTH), key]))
}

/// The index of one part, as a partition of a table.
struct IndexPartition {
    number: usize,
    index: Arc<SpooledBytes>,
    count: usize,
    wanted: Vec<bool>,
    schema: SchemaRef,
}

impl std::fmt::Debug for IndexPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexPartition").field("number", &self.number).finish_non_exhaustive()
    }
}

impl PartitionStream for IndexPartition {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (number, wanted) = (self.number, self.wanted.clone());
        let reader = IndexReader { index: Arc::clone(&self.index), next: 0, left: self.count };
        let batches = stream::try_unfold(reader, move |mut reader| {
            let batch = if reader.left == 0 { Ok(None) } else { reader.batch(number, &wanted).map(Some) };
            std::future::ready(batch.map(|batch| Some((batch?, reader))))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

impl IndexReader {
    /// Returns the wanted ones of the next entries as a batch of [`index_schema`].
    fn batch(&mut self, number: usize, wanted: &[bool]) -> Result<RecordBatch> {
        let mut entries = self.read(BATCH_ROWS)?;
        entries.retain(|entry| is_wanted(wanted, entry));
        let keys = BinaryArray::from_iter_values(entries.iter().map(|entry| &entry.key));
        let numbers = |of: fn(&IndexEntry) -> u64| -> Int64Array {
            entries.iter().map(|entry| Some(of(entry).cast_signed())).collect()
        };
        let part = Int64Array::from_value((number as u64).cast_signed(), entries.len());
        let (start, length) = (numbers(|entry| entry.start), numbers(|entry| entry.length as u64));
        let columns = vec![Arc::new(part) as _, Arc::new(start) as _, Arc::new(length) as _, Arc::new(keys) as _];
        Ok(RecordBatch::try_new(index_schema(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, ListBuilder, StringArray, StringBuilder};

    use super::*;

    const ROWS: usize = 300;

    /// Rows whose texts are long, empty or null, and their keys: the numbers backwards.
    fn batch(from: usize, to: usize) -> RecordBatch {
        let numbers = Int64Array::from_iter_values((from..to).map(|row| row as u64).map(u64::cast_signed));
        let text = |row: usize| match row % 4 {
            0 => None,
            1 => Some(String::new()),
            kind => Some("\u{0}x\u{2028}".repeat(row * kind)),
        };
        let texts: StringArray = (from..to).map(text).collect();
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in from..to {
            match row % 3 {
                0 => lists.append_null(),
                count => lists.append_value((0..count - 1).map(text)),
            }
        }
        let columns: [(&str, ArrayRef, bool); 3] = [
            ("number", Arc::new(numbers), false),
            ("text", Arc::new(texts), true),
            ("list", Arc::new(lists.finish()), true),
        ];
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn key(row: usize) -> Vec<u8> {
        (ROWS - row).to_be_bytes().to_vec()
    }

    fn written(engine: &Engine, rows: impl Iterator<Item = usize>) -> KeyedRows {
        let mut writer = KeyedRowsWriter::new(engine, batch(0, 1).schema()).unwrap();
        for row in rows {
            writer
                .push(&batch(row, row + 3), |offset| Ok((key(row + offset), u64::from((row + offset) % 7 == 0))))
                .unwrap();
        }
        writer.finish().unwrap()
    }

    async fn read(engine: &Engine, parts: &[KeyedPart<'_>]) -> Vec<i64> {
        let mut reader = KeyedRowsReader::new(engine, parts).await.unwrap();
        let mut numbers = Vec::new();
        while let Some((_, rows)) = reader.next().await.unwrap() {
            for (row, number) in named_columns::integers(&rows, "number").unwrap().values().iter().enumerate() {
                let number_as_row = usize::try_from(*number).unwrap();
                assert_eq!(rows.slice(row, 1), batch(number_as_row, number_as_row + 1));
                numbers.push(*number);
            }
        }
        numbers
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn rows_are_read_unchanged_in_the_order_of_keys_from_memory_and_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let expected = |wanted: &dyn Fn(i64) -> bool| -> Vec<i64> {
            (0..ROWS as u64).rev().map(u64::cast_signed).filter(|row| wanted(*row)).collect()
        };
        for memory in [0, 16 << 10, 256 << 10, 64 << 20] {
            let engine = Engine { memory, ..Engine::new(2, 64 << 20, folder.path()).unwrap() };
            // Two parts, whose keys alternate.
            let parts = [0, 3].map(|first| written(&engine, (first..ROWS).step_by(6)));
            assert_eq!(parts[0].rows.is_spilled(), memory < 64 << 20, "{memory}");
            assert_eq!(parts[0].index.is_spilled(), memory < 256 << 10, "{memory}");
            let of = |wanted: [bool; 2]| parts.each_ref().map(|rows| KeyedPart { rows, wanted: wanted.to_vec() });
            assert_eq!(read(&engine, &of([true, true])).await, expected(&|_| true), "{memory}");
            assert_eq!(read(&engine, &of([false, true])).await, expected(&|row| row % 7 == 0), "{memory}");
            assert_eq!(read(&engine, &of([false, false])).await, [0; 0], "{memory}");
            assert_eq!(read(&engine, &[]).await, [0; 0]);
            drop(parts);
            assert_eq!(engine.runtime.memory_pool.reserved(), 0);
        }
        let files = std::fs::read_dir(folder.path())
            .unwrap()
            .flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        assert_eq!(files.count(), 0, "files are deleted with their rows");
    }
}
