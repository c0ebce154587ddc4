//! One file of a lake: the records of one date, sorted and encoded.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringArray, UInt64Array};
use arrow::compute;
use arrow::datatypes::{Field, TimestampMicrosecondType};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest as _, Sha256};

use super::ledger::{FileEntry, NO_DATE};
use crate::error::Error;
use crate::event;
use crate::store::{Pending, Writer, hex};
use crate::time::{self, DAY};

/// Rows that are gathered and encoded at a time.
const CHUNK_ROWS: usize = 4_096;
/// Rows in a data page, at most: the least that a reader decompresses.
const PAGE_ROWS: usize = 1_024;

/// The columns whose values hardly recur, and how those are encoded. A dictionary would hold most of them, and who reads
/// one page reads all of it.
const SELDOM_RECUR: [(&str, Encoding); 7] = [
    (event::EVENT_TIME, Encoding::DELTA_BINARY_PACKED),
    (event::EVENT_ID, Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ("requestID", Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ("userIdentity", Encoding::PLAIN),
    ("requestParameters", Encoding::PLAIN),
    ("responseElements", Encoding::PLAIN),
    ("additionalEventData", Encoding::PLAIN),
];
/// The columns by which rules leave pages unread. Who reads a page reads the bounds of all pages of a file, so those of
/// other columns, between whose bounds most values lie, are not kept.
const PAGES_BY: [&str; 13] = [
    event::EVENT_TIME,
    "eventSource",
    "eventName",
    "eventType",
    "errorCode",
    "awsRegion",
    "recipientAccountId",
    "userIdentity.type",
    "userIdentity.userName",
    "userIdentity.accountId",
    "userIdentity.invokedBy",
    "additionalEventData.MFAUsed",
    "responseElements.ConsoleLogin",
];

/// Batches of fewer rows are put together: each has room for some hundred records, however few it holds.
const FEW_ROWS: usize = 256;
/// Batches that are put together to one.
const TOGETHER: usize = 256;

/// A row, by its batch and its number there.
type Row = (usize, usize);

/// A batch, of which some rows are meant.
#[derive(Debug)]
struct Rows {
    batch: RecordBatch,
    /// Their numbers, where it is not all of them: to leave a few out costs less than to copy the others.
    numbers: Option<Vec<usize>>,
}

/// The records that are to be written to the next file of one date.
#[derive(Debug, Default)]
pub struct Part {
    batches: Vec<Rows>,
    /// Those that are not put together yet.
    loose: Vec<RecordBatch>,
    identity: Sha256,
    /// Their size in memory, in bytes.
    pub memory: usize,
}

impl Part {
    /// Adds the `rows` of `batch`, which `identity` tells from all others.
    ///
    /// # Errors
    /// The batch has other columns than records have.
    pub fn push(&mut self, identity: &str, batch: &RecordBatch, rows: Vec<usize>) -> Result<(), ArrowError> {
        // Columns are encoded by their places.
        if batch.schema().fields() != event::schema().fields() {
            return Err(ArrowError::SchemaError("its columns are not those of records".to_owned()));
        }
        self.identity.update(identity);
        for row in &rows {
            self.identity.update(row.to_le_bytes());
        }
        let rows = if rows.len() == batch.num_rows() {
            Rows { batch: batch.clone(), numbers: None }
        } else if rows.len() >= FEW_ROWS.max(batch.num_rows() / 2) {
            Rows { batch: batch.clone(), numbers: Some(rows) }
        } else {
            let indices = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
            Rows { batch: compute::take_record_batch(batch, &indices)?, numbers: None }
        };
        for column in rows.batch.columns() {
            self.memory += column.to_data().get_slice_memory_size()?;
        }
        if rows.batch.num_rows() >= FEW_ROWS {
            self.batches.push(rows);
            return Ok(());
        }
        self.loose.push(rows.batch);
        if self.loose.len() == TOGETHER {
            self.put_together()?;
        }
        Ok(())
    }

    fn put_together(&mut self) -> Result<(), ArrowError> {
        let batch = compute::concat_batches(&event::schema(), &self.loose)?;
        self.batches.push(Rows { batch, numbers: None });
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
        let Sorted { rows, first_event, last_event } = sorted(&batches)?;
        let writer = ArrowWriter::try_new(Vec::new(), event::schema(), Some(properties()?))?;
        let (mut writer, group) = writer.into_serialized_writer()?;
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

/// A column by its name, which may hold dots: no column lies within another.
fn column_path(column: &str) -> ColumnPath {
    ColumnPath::new(vec![column.to_owned()])
}

fn properties() -> Result<WriterProperties, ParquetError> {
    let properties = WriterProperties::builder()
        // Higher levels look for longer matches first, and so make texts as random as identities are larger.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_created_by(concat!("tawny ", env!("CARGO_PKG_VERSION")).to_owned());
    let properties = PAGES_BY.into_iter().fold(properties, |properties, column| {
        properties.set_column_statistics_enabled(column_path(column), EnabledStatistics::Page)
    });
    let properties = SELDOM_RECUR.into_iter().fold(properties, |properties, (column, encoding)| {
        properties
            .set_column_dictionary_enabled(column_path(column), false)
            .set_column_encoding(column_path(column), encoding)
    });
    Ok(properties.build())
}

/// The arrays of each column, each of which goes as soon as it is encoded.
fn columns(batches: Vec<Rows>) -> Vec<Vec<ArrayRef>> {
    let mut columns = vec![Vec::with_capacity(batches.len()); event::schema().fields().len()];
    for Rows { batch, .. } in batches {
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            column.push(Arc::clone(array));
        }
    }
    columns
}

/// The chunks of a file's only row group, each by the next of `threads` that has nothing to do.
fn encode_columns(
    columns: Vec<(Vec<ArrayRef>, ArrowColumnWriter)>,
    rows: &[Row],
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
    rows: &[Row],
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

/// The folder of a date, given as the midnight it begins with; `None` for records without a time.
fn folder(date: Option<i64>) -> String {
    let date = date.map_or_else(|| NO_DATE.to_owned(), time::utc_date);
    format!("date={date}")
}

/// All rows in order, and their first and last time in microseconds.
struct Sorted {
    rows: Vec<Row>,
    first_event: Option<i64>,
    last_event: Option<i64>,
}

/// The rows by (eventSource, eventName, userIdentity, eventTime): what a hunt for one event reads lies together, and what
/// one identity did, which compresses well.
fn sorted(batches: &[Rows]) -> Result<Sorted, ArrowError> {
    // Of so many rows the same few texts are compared once, and not row by row.
    let (mut calls, mut identities) = (Ranks::default(), Ranks::default());
    let mut rows = Vec::new();
    for (place, Rows { batch, numbers }) in batches.iter().enumerate() {
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
        let texts = |name| Ok::<_, ArrowError>(batch.column(batch.schema().index_of(name)?).as_string::<i32>());
        let (sources, names, users) = (texts("eventSource")?, texts("eventName")?, texts("userIdentity")?);
        let mut add = |row: usize| {
            let call = (text(sources, row), text(names, row));
            let identity = text(users, row);
            let time = times.is_valid(row).then(|| times.value(row));
            rows.push((calls.seen(call), identities.seen(identity), time, (place, row)));
        };
        match numbers {
            Some(numbers) => numbers.iter().for_each(|row| add(*row)),
            None => (0..batch.num_rows()).for_each(add),
        }
    }
    let (calls, identities) = (calls.ranks(), identities.ranks());
    rows.sort_unstable_by_key(|(call, identity, time, row)| (calls[*call], identities[*identity], *time, *row));
    let times = || rows.iter().filter_map(|(_, _, time, _)| *time);
    let (first_event, last_event) = (times().min(), times().max());
    Ok(Sorted { rows: rows.into_iter().map(|(_, _, _, row)| row).collect(), first_event, last_event })
}

fn text(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

/// Numbers values as they are seen, to tell their order.
struct Ranks<T>(HashMap<T, usize, RandomState>);

impl<T> Default for Ranks<T> {
    fn default() -> Self {
        Ranks(HashMap::default())
    }
}

impl<T: Hash + Ord> Ranks<T> {
    /// The number of `value`.
    fn seen(&mut self, value: T) -> usize {
        let next = self.0.len();
        *self.0.entry(value).or_insert(next)
    }

    /// For each number the place of its value in their order.
    fn ranks(self) -> Vec<usize> {
        let mut in_order: Vec<_> = self.0.into_iter().collect();
        in_order.sort_unstable();
        let mut ranks = vec![0; in_order.len()];
        for (place, (_, number)) in in_order.into_iter().enumerate() {
            ranks[number] = place;
        }
        ranks
    }
}

/// Of those rows of a batch that are `kept` the numbers by event date, given as the midnight it begins with; `None` for
/// records without a time.
pub fn by_date(batch: &RecordBatch, kept: &BooleanArray) -> BTreeMap<Option<i64>, Vec<usize>> {
    let times = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    let mut dates: BTreeMap<Option<i64>, Vec<usize>> = BTreeMap::new();
    for (row, (time, kept)) in times.iter().zip(kept.values()).enumerate() {
        if kept {
            let time = time.and_then(time::event_time);
            dates.entry(time.map(|time| time.div_euclid(DAY) * DAY)).or_default().push(row);
        }
    }
    dates
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    use parquet::file::metadata::PageIndexPolicy;

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
            part.push(&number.to_string(), &builder.finish().unwrap(), vec![0]).unwrap();
        }
        let taken: usize = part.batches.iter().map(|rows| rows.batch.get_array_memory_size()).sum();
        assert!(taken < 2 * part.memory, "{taken} for {}", part.memory);
        let (file, _) = part.encode(None, 1).unwrap();
        assert_eq!(file.records, 10 * TOGETHER as u64);
    }

    #[test]
    fn rows_of_two_days_and_without_a_copy_are_each_written_once() {
        let texts: Vec<String> = (0..1_000)
            .map(|number| {
                let (day, second) = (1 + number / 600, number % 60);
                format!(r#"{{"eventTime":"2026-09-0{day}T10:00:{second:02}Z","eventID":"{number}","eventName":"E"}}"#)
            })
            .collect();
        let mut builder = BatchBuilder::default();
        for text in &texts {
            builder.push(&Record { text, members: json::members(text).unwrap() });
        }
        let batch = builder.finish().unwrap();
        let kept: BooleanArray = (0..1_000).map(|number| Some(number != 7 && number < 900)).collect();
        let mut written = Vec::new();
        for (date, rows) in by_date(&batch, &kept) {
            let mut part = Part::default();
            part.push("object", &batch, rows).unwrap();
            let shared = part.batches.iter().any(|rows| rows.numbers.is_some());
            assert_eq!(shared, date == Some(1_788_220_800_000_000), "of the second day fewer than half are left");
            let (file, bytes) = part.encode(date, 1).unwrap();
            let at = date.unwrap() + 10 * 3_600_000_000;
            assert_eq!((file.first_event, file.last_event), (Some(at), Some(at + 59_000_000)));
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
            for read in reader {
                let read = read.unwrap();
                let ids = read.column_by_name("eventID").unwrap().as_string::<i32>();
                written.extend(ids.iter().map(|id| id.unwrap().parse::<usize>().unwrap()));
            }
            assert!(file.path.contains("date=2026-09-0"), "{}", file.path);
        }
        written.sort_unstable();
        assert_eq!(written, (0..900).filter(|number| *number != 7).collect::<Vec<_>>());
    }

    #[test]
    fn who_reads_a_page_reads_little_beside_it() {
        let texts: Vec<String> = (0..3 * PAGE_ROWS)
            .map(|number| {
                format!(
                    r#"{{"eventTime":"2026-09-01T10:00:{:02}Z","eventID":"{number}","eventName":"E{}","userIdentity":{{"userName":"{number}"}}}}"#,
                    number % 60,
                    number / PAGE_ROWS
                )
            })
            .collect();
        let mut builder = BatchBuilder::default();
        for text in &texts {
            builder.push(&Record { text, members: json::members(text).unwrap() });
        }
        let mut part = Part::default();
        part.push("object", &builder.finish().unwrap(), (0..texts.len()).collect()).unwrap();
        let (_, bytes) = part.encode(None, 1).unwrap();
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes::Bytes::from(bytes), options).unwrap();
        let group = reader.metadata().row_group(0);
        let pages = &reader.metadata().offset_index().unwrap()[0];
        let (mut without_dictionary, mut bounded) = (Vec::new(), Vec::new());
        for (column, pages) in group.columns().iter().zip(pages) {
            let [name] = column.column_path().parts() else { panic!("{:?}", column.column_path()) };
            assert_eq!(pages.page_locations().len(), 3, "{name}");
            if column.dictionary_page_offset().is_none() && column.column_type() != parquet::basic::Type::BOOLEAN {
                without_dictionary.push(name.as_str());
            }
            if column.column_index_offset().is_some() {
                bounded.push(name.as_str());
            }
        }
        without_dictionary.sort_unstable();
        let mut seldom = SELDOM_RECUR.map(|(column, _)| column);
        seldom.sort_unstable();
        assert_eq!(without_dictionary, seldom);
        bounded.sort_unstable();
        let mut by = PAGES_BY;
        by.sort_unstable();
        assert_eq!(bounded, by);
    }

    #[test]
    fn other_columns_are_refused_and_not_taken_by_their_places() {
        let batch = BatchBuilder::default().finish().unwrap();
        assert!(Part::default().push("object", &batch, Vec::new()).is_ok());
        let mut turned: Vec<usize> = (0..batch.num_columns()).collect();
        turned.swap(2, 3);
        let turned = batch.project(&turned).unwrap();
        assert!(Part::default().push("object", &turned, Vec::new()).is_err());
    }
}
