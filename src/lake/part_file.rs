//! Writes one part file of a lake: the records of one date, sorted and encoded as Parquet.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{
    Array, ArrayRef, AsArray as _, BooleanArray, RecordBatch, StringArray, StringViewArray, UInt64Array, new_null_array,
};
use arrow::compute;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use foldhash::fast::RandomState;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{BloomFilterProperties, EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use sha2::{Digest as _, Sha256};

use super::checksum::{BlockChecksums, MetadataChecksum};
use super::transaction_log::{FileEntry, NO_DATE};
use crate::error::Error;
use crate::event;
use crate::named_columns::{self, MissingColumn};
use crate::store::{FolderWriter, Pending, hex};
use crate::time::{self, DAY, Instant};

/// Rows that are interleaved and encoded at a time.
const CHUNK_ROWS: usize = 4_096;
/// Maximum number of rows in a data page, the smallest unit that a reader decompresses.
const PAGE_ROWS: usize = 1_024;
/// The size of a page of identities, in bytes before compression. A search by hash reads one of them for each wanted record, and for
/// each that has the hash by chance.
const IDENTITY_PAGE_BYTES: usize = 128 << 10;

/// Columns whose values rarely repeat, with their encoding. A dictionary would hold almost all their values, and a
/// reader of a single page would have to read the whole dictionary.
const HIGH_CARDINALITY: [(&str, Encoding); 10] = [
    (event::EVENT_TIME, Encoding::DELTA_BINARY_PACKED),
    (event::ACCESS_KEY_HASH, Encoding::DELTA_BINARY_PACKED),
    (event::ARN_HASH, Encoding::DELTA_BINARY_PACKED),
    (event::ISSUED_KEY_HASH, Encoding::DELTA_BINARY_PACKED),
    (event::EVENT_ID, Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ("requestID", Encoding::DELTA_LENGTH_BYTE_ARRAY),
    ("userIdentity", Encoding::PLAIN),
    ("requestParameters", Encoding::PLAIN),
    ("responseElements", Encoding::PLAIN),
    ("additionalEventData", Encoding::PLAIN),
];
/// Columns with page statistics, by which rules skip pages. A reader loads the statistics of every page of a file.
/// Other columns have none, because the bounds of their pages would rarely exclude anything. `eventID` and the hashes have some
/// all the same: the engine skips pages of other columns only if a column of the condition has them.
const PAGE_STATISTICS: [&str; 17] = [
    event::EVENT_ID,
    event::ACCESS_KEY_HASH,
    event::ARN_HASH,
    event::ISSUED_KEY_HASH,
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

/// The share of other files in which the Bloom filter of event IDs finds an ID by mistake. A search for one event then skips most
/// files. A filter has as many values as the file has rows, so it is coarse.
const EVENT_ID_MISTAKES: f64 = 0.1;

/// Batches with fewer rows are concatenated, because each batch allocates space for some hundred records.
const SMALL_BATCH_ROWS: usize = 256;
/// Number of small batches that are concatenated into one.
const SMALL_BATCHES: usize = 256;

/// A row: the index of its batch and its index in that batch.
type RowIndex = (usize, usize);

/// A batch and the selected rows of it.
#[derive(Debug)]
struct SelectedRows {
    batch: RecordBatch,
    /// Indices of the selected rows; `None` for all. Skipping a few rows costs less than copying the rest.
    indices: Option<Vec<usize>>,
}

/// Collects the records of one date and encodes them as a part file.
#[derive(Debug, Default)]
pub struct PartFileBuilder {
    batches: Vec<SelectedRows>,
    /// Small batches that are not concatenated yet.
    small_batches: Vec<RecordBatch>,
    identity: Sha256,
    /// Size of the collected records in memory, in bytes.
    pub memory: usize,
}

impl PartFileBuilder {
    /// Adds `rows` of `batch`. `identity` must be unique to the batch: the file's name is a hash of all identities.
    ///
    /// # Errors
    /// The batch does not have the columns of [`event::schema`].
    pub fn append(&mut self, identity: &str, batch: &RecordBatch, rows: Vec<usize>) -> Result<(), ArrowError> {
        // Columns are encoded by index.
        if batch.schema().fields() != event::schema().fields() {
            return Err(ArrowError::SchemaError("the batch does not have the columns of an event".to_owned()));
        }
        self.identity.update(identity);
        for row in &rows {
            self.identity.update(row.to_le_bytes());
        }
        let selected = if rows.len() == batch.num_rows() {
            SelectedRows { batch: batch.clone(), indices: None }
        } else if rows.len() >= SMALL_BATCH_ROWS.max(batch.num_rows() / 2) {
            SelectedRows { batch: batch.clone(), indices: Some(rows) }
        } else {
            let indices = UInt64Array::from_iter_values(rows.iter().map(|row| *row as u64));
            SelectedRows { batch: compute::take_record_batch(batch, &indices)?, indices: None }
        };
        for column in selected.batch.columns() {
            self.memory += column.to_data().get_slice_memory_size()?;
        }
        if selected.batch.num_rows() >= SMALL_BATCH_ROWS {
            self.batches.push(selected);
            return Ok(());
        }
        self.small_batches.push(selected.batch);
        if self.small_batches.len() == SMALL_BATCHES {
            self.concat_small_batches()?;
        }
        Ok(())
    }

    fn concat_small_batches(&mut self) -> Result<(), ArrowError> {
        let batch = compute::concat_batches(&event::schema(), &self.small_batches)?;
        self.batches.push(SelectedRows { batch, indices: None });
        self.small_batches.clear();
        Ok(())
    }

    /// Encodes the file and stages it: the file is complete and becomes visible once it is published.
    pub async fn stage(
        self,
        date: Option<Instant>,
        threads: usize,
        writer: &FolderWriter,
    ) -> Result<(FileEntry, Pending), Error> {
        let encoded = tokio::task::spawn_blocking(move || self.encode(date, threads)).await;
        let encoded = encoded.map_err(|error| Error::Internal(error.to_string()))?;
        let (entry, bytes) = encoded.map_err(|error| Error::columns("the records of one date", error))?;
        let pending = writer.stage(&entry.path, bytes.into()).await?;
        Ok((entry, pending))
    }

    /// Sorts and encodes the records of `date`. The same records of the same objects always get the same file name.
    pub fn encode(mut self, date: Option<Instant>, threads: usize) -> Result<(FileEntry, Vec<u8>), ParquetError> {
        self.concat_small_batches()?;
        let PartFileBuilder { batches, identity, .. } = self;
        let name = hex(&identity.finalize()[..16]);
        let path = format!("{}/part-{name}.parquet", partition_folder(date));
        let SortedRows { rows, first_event, last_event } = sort_rows(&batches)?;
        let writer_of = |page_rows: usize| {
            let properties = properties(rows.len(), page_rows)?;
            ArrowWriter::try_new(Vec::new(), event::schema(), Some(properties))?.into_serialized_writer()
        };
        let (mut writer, group) = writer_of(PAGE_ROWS)?;
        // A column without values is one page. Many columns have values in few files, and empty pages take space too.
        let (_, empty_group) = writer_of(rows.len().max(PAGE_ROWS))?;
        let writers = group.create_column_writers(0)?.into_iter().zip(empty_group.create_column_writers(0)?);
        let columns = columns(batches).into_iter().zip(writers).map(|(arrays, (paged, whole))| {
            let writer = if is_all_null(&arrays) { whole } else { paged };
            (arrays, writer)
        });
        let chunks = encode_columns(columns.collect(), &rows, threads)?;
        let mut group = writer.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        writer.flush()?;
        let pages_end = writer.inner().len();
        let blocks = BlockChecksums::of(writer.inner());
        writer.append_key_value_metadata(blocks.to_key_value());
        let file = writer.into_inner()?;
        let checksum = MetadataChecksum::of(pages_end as u64, &file[pages_end..]);
        let (bytes, records) = (file.len() as u64, rows.len() as u64);
        Ok((FileEntry { path, bytes, records, first_event, last_event, checksum }, file))
    }
}

/// Returns the path of a top-level column, whose name may contain dots.
fn column_path(column: &str) -> ColumnPath {
    ColumnPath::new(vec![column.to_owned()])
}

/// Returns how a file of `rows` rows is encoded, in pages of at most `page_rows`.
fn properties(rows: usize, page_rows: usize) -> Result<WriterProperties, ParquetError> {
    let properties = WriterProperties::builder()
        // Higher levels prefer long matches, which makes columns of random text, such as identities, larger.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_row_count_limit(page_rows)
        .set_column_data_page_size_limit(column_path("userIdentity"), IDENTITY_PAGE_BYTES)
        .set_created_by(concat!("tawny ", env!("CARGO_PKG_VERSION")).to_owned());
    let properties = PAGE_STATISTICS.into_iter().fold(properties, |properties, column| {
        properties.set_column_statistics_enabled(column_path(column), EnabledStatistics::Page)
    });
    let properties = HIGH_CARDINALITY.into_iter().fold(properties, |properties, (column, encoding)| {
        properties
            .set_column_dictionary_enabled(column_path(column), false)
            .set_column_encoding(column_path(column), encoding)
    });
    // The writer halves the filter for as long as its share of mistakes allows.
    let filter = BloomFilterProperties::builder().with_fpp(EVENT_ID_MISTAKES).with_max_ndv(rows.max(1) as u64);
    let properties = properties.set_column_bloom_filter_properties(column_path(event::EVENT_ID), filter.try_build()?);
    Ok(properties.build())
}

/// Returns the arrays of each column, so that the memory of each column is freed after encoding.
fn columns(batches: Vec<SelectedRows>) -> Vec<Vec<ArrayRef>> {
    let mut columns = vec![Vec::with_capacity(batches.len()); event::schema().fields().len()];
    for SelectedRows { batch, .. } in batches {
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            column.push(Arc::clone(array));
        }
    }
    columns
}

/// Encodes the columns of the only row group on `threads` threads. Each thread takes the next waiting column.
fn encode_columns(
    columns: Vec<(Vec<ArrayRef>, ArrowColumnWriter)>,
    rows: &[RowIndex],
    threads: usize,
) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
    let waiting = Mutex::new(columns.into_iter().enumerate());
    let work = || {
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
        let mut done = Vec::new();
        while let Some((column, (arrays, writer))) = next() {
            done.push((column, encode_column(event::schema().field(column), arrays, rows, writer)?));
        }
        Ok::<_, ParquetError>(done)
    };
    let mut columns = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut columns = Vec::new();
        for worker in workers {
            let encoded = worker
                .join()
                .map_err(|_| ParquetError::General("a thread that encodes columns panicked".to_owned()))?;
            columns.extend(encoded?);
        }
        Ok::<_, ParquetError>(columns)
    })?;
    columns.sort_by_key(|(column, _)| *column);
    Ok(columns.into_iter().map(|(_, chunk)| chunk).collect())
}

fn is_all_null(arrays: &[ArrayRef]) -> bool {
    arrays.iter().all(|array| array.null_count() == array.len())
}

fn encode_column(
    field: &Field,
    arrays: Vec<ArrayRef>,
    rows: &[RowIndex],
    mut writer: ArrowColumnWriter,
) -> Result<ArrowColumnChunk, ParquetError> {
    let is_null = is_all_null(&arrays);
    let mut field = field.clone();
    // Interleaving views copies no text.
    let arrays: Vec<ArrayRef> = if field.data_type() == &DataType::Utf8 {
        field.set_data_type(DataType::Utf8View);
        arrays.into_iter().map(|array| Arc::new(StringViewArray::from(array.as_string::<i32>())) as _).collect()
    } else {
        arrays
    };
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    for chunk in rows.chunks(CHUNK_ROWS) {
        // Many columns have values in few files.
        let values =
            if is_null { new_null_array(field.data_type(), chunk.len()) } else { compute::interleave(&arrays, chunk)? };
        for leaf in compute_leaves(&field, &values)? {
            writer.write(&leaf)?;
        }
    }
    writer.close()
}

/// Returns the partition folder of a date, given as its midnight. `None` stands for records without a time.
fn partition_folder(date: Option<Instant>) -> String {
    let date = date.map_or_else(|| NO_DATE.to_owned(), Instant::utc_date);
    format!("date={date}")
}

/// All rows in order, and their first and last time.
struct SortedRows {
    rows: Vec<RowIndex>,
    first_event: Option<Instant>,
    last_event: Option<Instant>,
}

/// Sorts the rows by `eventSource`, `eventName`, `userIdentity` and `eventTime`.
///
/// A hunt for one call then reads few pages, and the records of one identity are adjacent and compress well.
fn sort_rows(batches: &[SelectedRows]) -> Result<SortedRows, ArrowError> {
    // Millions of rows share few texts. Ranking these first compares each text once, not once per row.
    let (mut calls, mut identities) = (Ranks::default(), Ranks::default());
    let mut rows = Vec::new();
    for (batch_index, SelectedRows { batch, indices }) in batches.iter().enumerate() {
        let times = named_columns::times(batch, event::EVENT_TIME)?;
        let texts = |name| Ok::<_, ArrowError>(batch.column(batch.schema().index_of(name)?).as_string::<i32>());
        let (sources, names, users) = (texts("eventSource")?, texts("eventName")?, texts("userIdentity")?);
        let mut add = |row: usize| {
            let call = (text(sources, row), text(names, row));
            let identity = text(users, row);
            let time = times.is_valid(row).then(|| Instant::from_micros(times.value(row)));
            rows.push((calls.add(call), identities.add(identity), time, (batch_index, row)));
        };
        match indices {
            Some(indices) => indices.iter().for_each(|row| add(*row)),
            None => (0..batch.num_rows()).for_each(add),
        }
    }
    let (calls, identities) = (calls.ranks(), identities.ranks());
    rows.sort_unstable_by_key(|(call, identity, time, row)| (calls[*call], identities[*identity], *time, *row));
    let times = || rows.iter().filter_map(|(_, _, time, _)| *time);
    let (first_event, last_event) = (times().min(), times().max());
    Ok(SortedRows { rows: rows.into_iter().map(|(_, _, _, row)| row).collect(), first_event, last_event })
}

fn text(texts: &StringArray, row: usize) -> Option<&str> {
    texts.is_valid(row).then(|| texts.value(row))
}

/// Numbers distinct values in order of appearance, then ranks them by value.
struct Ranks<T>(HashMap<T, usize, RandomState>);

impl<T> Default for Ranks<T> {
    fn default() -> Self {
        Ranks(HashMap::default())
    }
}

impl<T: Hash + Ord> Ranks<T> {
    /// Returns the number of `value`, a new one on its first appearance.
    fn add(&mut self, value: T) -> usize {
        let next = self.0.len();
        *self.0.entry(value).or_insert(next)
    }

    /// Returns the rank of each value, indexed by its number.
    fn ranks(self) -> Vec<usize> {
        let mut in_order: Vec<_> = self.0.into_iter().collect();
        in_order.sort_unstable();
        let mut ranks = vec![0; in_order.len()];
        for (rank, (_, number)) in in_order.into_iter().enumerate() {
            ranks[number] = rank;
        }
        ranks
    }
}

/// Returns the indices of the `selected` rows by event date, given as its midnight. The key `None` holds records without a
/// time.
///
/// # Errors
/// The batch does not have the columns of [`event::schema`].
pub fn rows_by_date(
    batch: &RecordBatch,
    selected: &BooleanArray,
) -> Result<BTreeMap<Option<Instant>, Vec<usize>>, MissingColumn> {
    let times = named_columns::times(batch, event::EVENT_TIME)?;
    let mut dates: BTreeMap<Option<Instant>, Vec<usize>> = BTreeMap::new();
    for (row, (time, is_selected)) in times.iter().zip(selected.values()).enumerate() {
        if is_selected {
            let time = time.and_then(time::event_time);
            dates.entry(time.map(|time| time.rounded_down(DAY))).or_default().push(row);
        }
    }
    Ok(dates)
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    use parquet::file::metadata::PageIndexPolicy;
    use parquet::file::statistics::Statistics;

    use super::*;
    use crate::event::batch::BatchBuilder;
    use crate::lake::checksum::RecordedFile;
    use crate::raw::{envelope::Record, json};

    /// Returns the part file of the records `texts`.
    fn encoded(texts: &[String]) -> (FileEntry, Vec<u8>) {
        let mut builder = BatchBuilder::default();
        for text in texts {
            builder.push(&Record { text, members: json::members(text).unwrap() });
        }
        let mut part = PartFileBuilder::default();
        part.append("object", &builder.finish().unwrap(), (0..texts.len()).collect()).unwrap();
        part.encode(None, 1).unwrap()
    }

    #[test]
    fn many_small_batches_take_no_more_memory_than_their_records() {
        let text = r#"{"eventTime":"2026-09-01T10:00:00Z","eventName":"ConsoleLogin"}"#;
        let members = json::members(text).unwrap();
        let mut part = PartFileBuilder::default();
        for number in 0..10 * SMALL_BATCHES {
            let mut builder = BatchBuilder::default();
            builder.push(&Record { text, members: members.clone() });
            part.append(&number.to_string(), &builder.finish().unwrap(), vec![0]).unwrap();
        }
        let taken: usize = part.batches.iter().map(|rows| rows.batch.get_array_memory_size()).sum();
        assert!(taken < 2 * part.memory, "{taken} for {}", part.memory);
        let (file, _) = part.encode(None, 1).unwrap();
        assert_eq!(file.records, 10 * SMALL_BATCHES as u64);
    }

    #[test]
    fn rows_of_two_days_without_a_duplicate_are_each_written_once() {
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
        let selected: BooleanArray = (0..1_000).map(|number| Some(number != 7 && number < 900)).collect();
        let mut written = Vec::new();
        for (date, rows) in rows_by_date(&batch, &selected).unwrap() {
            let mut part = PartFileBuilder::default();
            part.append("object", &batch, rows).unwrap();
            let shared = part.batches.iter().any(|rows| rows.indices.is_some());
            assert_eq!(
                shared,
                date == Some(Instant::from_micros(1_788_220_800_000_000)),
                "fewer than half of the rows are on the second day"
            );
            let (file, bytes) = part.encode(date, 1).unwrap();
            let at = date.unwrap().micros() + 10 * 3_600_000_000;
            let times = [file.first_event, file.last_event].map(|time| time.map(Instant::micros));
            assert_eq!(times, [Some(at), Some(at + 59_000_000)]);
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
    fn a_reader_of_one_page_reads_little_else() {
        let policy = "policy".repeat(50);
        let texts: Vec<String> = (0..3 * PAGE_ROWS)
            .map(|number| {
                format!(
                    r#"{{"eventTime":"2026-09-01T10:00:{:02}Z","eventID":"{number}","eventName":"E{}","userIdentity":{{"userName":"{number}","policy":"{policy}"}}}}"#,
                    number % 60,
                    number / PAGE_ROWS
                )
            })
            .collect();
        let (_, bytes) = encoded(&texts);
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes::Bytes::from(bytes), options).unwrap();
        let group = reader.metadata().row_group(0);
        let pages = &reader.metadata().offset_index().unwrap()[0];
        let (mut without_dictionary, mut bounded) = (Vec::new(), Vec::new());
        for (column, pages) in group.columns().iter().zip(pages) {
            let [name] = column.column_path().parts() else { panic!("{:?}", column.column_path()) };
            let is_empty = column.statistics().and_then(Statistics::null_count_opt) == Some(3 * PAGE_ROWS as u64);
            let expected = match name.as_str() {
                "userIdentity" => (3 * PAGE_ROWS * policy.len()).div_ceil(IDENTITY_PAGE_BYTES),
                _ if is_empty => 1,
                _ => 3,
            };
            let found = pages.page_locations().len();
            assert!(found == expected || (expected > 3 && found + 1 == expected), "{name}: {found}, not {expected}");
            if column.dictionary_page_offset().is_none() && column.column_type() != parquet::basic::Type::BOOLEAN {
                without_dictionary.push(name.as_str());
            }
            if column.column_index_offset().is_some() {
                bounded.push(name.as_str());
            }
        }
        without_dictionary.sort_unstable();
        let mut expected = HIGH_CARDINALITY.map(|(column, _)| column);
        expected.sort_unstable();
        assert_eq!(without_dictionary, expected);
        bounded.sort_unstable();
        let mut expected = PAGE_STATISTICS;
        expected.sort_unstable();
        assert_eq!(bounded, expected);
    }

    #[test]
    fn flipped_bit_anywhere_in_a_file_is_found() {
        let texts: Vec<String> = (0..=PAGE_ROWS)
            .map(|number| {
                format!(r#"{{"eventTime":"2026-09-01T10:00:00Z","eventID":"{number}","requestID":"r{number}"}}"#)
            })
            .collect();
        let (entry, bytes) = encoded(&texts);
        let recorded = entry.recorded();
        recorded.check_file(&bytes).unwrap();
        let start = usize::try_from(recorded.checksum.start).unwrap();
        assert!(start > 4 && start < bytes.len(), "{start} of {}", bytes.len());
        for at in (0..bytes.len()).step_by(61).chain([start - 1, start, bytes.len() - 1]) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(recorded.check_file(&flipped).is_err(), "{at} of {}", bytes.len());
        }
        assert!(recorded.check_file(&bytes[..bytes.len() - 1]).is_err());
        assert!(RecordedFile { records: recorded.records + 1, ..recorded }.check_file(&bytes).is_err());
        assert!(RecordedFile { bytes: u64::MAX, ..recorded }.check_file(&bytes).is_err());
    }

    #[test]
    fn a_batch_with_other_columns_is_refused() {
        let batch = BatchBuilder::default().finish().unwrap();
        assert!(PartFileBuilder::default().append("object", &batch, Vec::new()).is_ok());
        let mut swapped: Vec<usize> = (0..batch.num_columns()).collect();
        swapped.swap(2, 3);
        let swapped = batch.project(&swapped).unwrap();
        assert!(PartFileBuilder::default().append("object", &swapped, Vec::new()).is_err());
    }
}
