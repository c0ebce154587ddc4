//! The files of a table: found once, chosen by their folders, and only then opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::file_format::parquet::Int96Coercer;
use datafusion::execution::object_store::ObjectStoreUrl;
use futures::{StreamExt as _, stream};
use object_store::{ObjectMeta, ObjectStore};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::arrow::parquet_to_arrow_schema;

use super::columns;
use super::partition::Partitions;
use crate::engine::parquet_table::{self, Footer, Footers};
use crate::error::{DamagedFile, Error, Fault};
use crate::store::{Located, Stores};
use crate::time::{Instant, Range};
use crate::trail::{ParquetFile, ParquetFiles};

/// The number of footers that are read at a time.
const AT_A_TIME: usize = 32;

/// Maximum number of files that are excluded because of damaged pages. Each excluded file causes another scan.
const MAX_EXCLUDED: usize = 100;

/// A file, before it is opened.
#[derive(Debug)]
pub(super) struct FoundFile {
    pub(super) meta: ObjectMeta,
    /// Its path as the user would write it.
    pub(super) path: PathBuf,
    pub(super) partitions: Partitions,
    /// The first and the last time that its events may have, if the table's metadata say so.
    times: Option<(Instant, Instant)>,
    /// The number of its records, deleted ones included, if the table's metadata have it.
    records: Option<u64>,
    /// The indexes of its deleted records, in ascending order.
    deleted_records: Vec<u64>,
}

/// The columns and the number of records of a file, from its footer.
#[derive(Debug)]
pub(super) struct OpenedFile {
    /// The types by which its columns are read. Columns that the table does not declare are not among them.
    pub(super) schema: SchemaRef,
    /// The same with all columns of the file.
    pub(super) file_schema: SchemaRef,
    /// The number of live records.
    pub(super) records: u64,
    /// The live records. `None` if all are live.
    pub(super) live: Option<RowSelection>,
}

/// The files of a table that other tools wrote.
#[derive(Debug)]
pub(super) struct TableFiles {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) url: ObjectStoreUrl,
    pub(super) found: Vec<FoundFile>,
    pub(super) footers: Footers,
    /// The types of partition columns. One that is not among them is text.
    partition_types: BTreeMap<String, DataType>,
    /// The version of the table, if it has versions.
    pub(super) version: Option<u64>,
    /// Whether files have other names for columns than the table.
    are_renamed: bool,
    /// The entries of folders that cannot be read.
    unlisted: Vec<Fault>,
    opened: tokio::sync::Mutex<BTreeMap<usize, Arc<OpenedFile>>>,
    rejected: Mutex<BTreeMap<usize, Fault>>,
}

impl TableFiles {
    /// Returns the files of a table. None is opened yet. Caches as many footers as fit into `footer_bytes` bytes.
    pub(super) async fn new(stores: &Stores, files: ParquetFiles, footer_bytes: usize) -> Result<TableFiles, Error> {
        let ParquetFiles { files, faults, table } = files;
        let objects: Vec<_> = files.iter().map(|file| file.object.clone()).collect();
        let Located { store, url, metas } = stores.locate(&objects).await?;
        let url = ObjectStoreUrl::parse(url).map_err(|error| Error::query("the store of the files", error))?;
        let found = metas.into_iter().zip(files).map(|(meta, file)| {
            let ParquetFile { object, partitions, records, deleted_records, times } = file;
            FoundFile {
                meta,
                path: object.path,
                partitions: Partitions::of(partitions),
                times,
                records,
                deleted_records,
            }
        });
        let found = found.collect();
        let (opened, rejected) = (tokio::sync::Mutex::default(), Mutex::default());
        let version = table.as_ref().map(|table| table.version);
        let partition_types = table.as_ref().map(|table| table.partition_types.clone()).unwrap_or_default();
        let are_renamed = table.as_ref().is_some_and(|table| table.columns.are_renamed());
        let footers = Footers::new(footer_bytes, table.map(|table| table.columns));
        Ok(TableFiles {
            store,
            url,
            found,
            footers,
            partition_types,
            version,
            are_renamed,
            unlisted: faults,
            opened,
            rejected,
        })
    }

    /// Returns a partition column.
    pub(super) fn partition_column(&self, name: &str) -> FieldRef {
        let data_type = self.partition_types.get(name).cloned().unwrap_or(DataType::Utf8);
        Arc::new(Field::new(name, data_type, true))
    }

    /// Returns the columns of an opened file, with partition columns that are not in the file itself.
    pub(super) fn columns_of(&self, number: usize, file: &OpenedFile) -> SchemaRef {
        let mut fields: Vec<FieldRef> = file.schema.fields().iter().cloned().collect();
        let own = fields.len();
        let names = self.found[number].partitions.values.keys();
        let names = names.filter(|name| file.schema.field_with_name(name).is_err());
        fields.extend(names.map(|name| self.partition_column(name)));
        if fields.len() == own { Arc::clone(&file.schema) } else { Arc::new(Schema::new(fields)) }
    }

    /// Returns the feature of the table that the nodes of a cluster cannot apply, if it has one.
    pub(super) fn feature_for_one_machine(&self) -> Option<&'static str> {
        if self.found.iter().any(|file| !file.deleted_records.is_empty()) {
            return Some("deleted records");
        }
        self.are_renamed.then_some("columns with field IDs or other names in files")
    }

    /// Returns the numbers of the files that may hold events with a time in `range`, by their folders. Files that could not
    /// be read are left out.
    pub(super) fn chosen(&self, range: Range) -> Vec<usize> {
        let rejected = self.rejected();
        let may_hold = |(number, file): (usize, &FoundFile)| {
            let by_times = file.times.is_none_or(|(first, last)| range.overlaps(first, last));
            (by_times && file.partitions.may_hold(range) && !rejected.contains_key(&number)).then_some(number)
        };
        self.found.iter().enumerate().filter_map(may_hold).collect()
    }

    /// Opens those files, each once in a run.
    ///
    /// # Errors
    /// None of them can be read.
    pub(super) async fn open(&self, range: Range) -> Result<Vec<(usize, Arc<OpenedFile>)>, Error> {
        let mut opened = self.opened.lock().await;
        let chosen = self.chosen(range);
        let closed: Vec<usize> = chosen.iter().copied().filter(|number| !opened.contains_key(number)).collect();
        let mut footers = stream::iter(closed)
            .map(|number| async move {
                let found = &self.found[number];
                let footer = self.footers.read(self.store.as_ref(), &found.meta).await;
                (number, footer.and_then(|footer| opened_file(&footer, found)))
            })
            .buffer_unordered(AT_A_TIME);
        while let Some((number, file)) = footers.next().await {
            match file {
                Ok(file) => {
                    opened.insert(number, Arc::new(file));
                }
                Err(reason) => self.reject(number, reason),
            }
        }
        let files = chosen.iter().filter_map(|number| Some((*number, Arc::clone(opened.get(number)?))));
        let files: Vec<_> = files.collect();
        match (files.as_slice(), self.rejected().values().next()) {
            ([], Some(fault)) => {
                let source = std::io::Error::new(std::io::ErrorKind::InvalidData, fault.reason.clone());
                Err(Error::File { action: "read", path: fault.object.clone().into(), source })
            }
            _ => Ok(files),
        }
    }

    fn reject(&self, number: usize, reason: String) {
        let object = self.found[number].path.display().to_string();
        self.rejected().insert(number, Fault { object, position: None, reason });
    }

    /// Excludes the file that caused a query to fail. Returns whether the file is in this table and the limit is not reached.
    pub(super) fn exclude(&self, damaged: &DamagedFile) -> bool {
        let name = |file: &FoundFile| parquet_table::file_name(&self.url, &file.meta.location);
        let Some(number) = self.found.iter().position(|file| name(file) == damaged.file) else {
            return false;
        };
        let known: BTreeSet<usize> = self.rejected().keys().copied().collect();
        if known.contains(&number) || known.len() >= MAX_EXCLUDED {
            return false;
        }
        self.reject(number, damaged.reason.clone());
        true
    }

    /// Files that could not be read so far.
    pub(super) fn faults(&self) -> Vec<Fault> {
        self.unlisted.iter().chain(self.rejected().values()).cloned().collect()
    }

    fn rejected(&self) -> MutexGuard<'_, BTreeMap<usize, Fault>> {
        self.rejected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn opened_file(footer: &Footer, found: &FoundFile) -> Result<OpenedFile, String> {
    let file = footer.metadata.file_metadata();
    let unreadable = |error| format!("its columns cannot be read: {error}");
    let schema = parquet_to_arrow_schema(file.schema_descr(), footer.texts.as_ref()).map_err(unreadable)?;
    // By default such columns are read as nanoseconds, which overflow in 2262.
    let microseconds = Int96Coercer::new(file.schema_descr(), &schema, &TimeUnit::Microsecond).coerce();
    let schema = microseconds.unwrap_or(schema);
    let file_schema: Schema = columns::as_read(&schema);
    let schema = parquet_table::declared(&file_schema);
    let mut names = BTreeSet::new();
    if let Some(twice) = schema.fields().iter().find(|field| !names.insert(field.name().as_str())) {
        return Err(format!("it has two columns `{}`", twice.name()));
    }
    let records = u64::try_from(file.num_rows()).unwrap_or_default();
    if let Some(expected) = found.records.filter(|expected| *expected != records) {
        return Err(format!("it has {records} records; the metadata lists {expected}. Restore the file"));
    }
    let live = live_records(records, &found.deleted_records)?;
    let records = records - found.deleted_records.len() as u64;
    Ok(OpenedFile { schema: Arc::new(schema), file_schema: Arc::new(file_schema), records, live })
}

/// Returns the live rows of a file with `records` rows. `None` if all are live.
fn live_records(records: u64, deleted: &[u64]) -> Result<Option<RowSelection>, String> {
    let Some(last) = deleted.last() else {
        return Ok(None);
    };
    if *last >= records {
        return Err(format!("it has {records} records, and the table's metadata delete the one at index {last}"));
    }
    let index = |index: u64| usize::try_from(index).map_err(|_| "it has too many records".to_owned());
    let ends: Vec<usize> = deleted.iter().copied().chain([records]).map(index).collect::<Result<_, _>>()?;
    let begins = [0].into_iter().chain(ends.iter().map(|end| end + 1));
    let ranges = begins.zip(&ends).filter(|(begin, end)| begin < *end).map(|(begin, end)| begin..*end);
    Ok(Some(RowSelection::from_consecutive_ranges(ranges, index(records)?)))
}

#[cfg(test)]
mod tests {
    use parquet::arrow::arrow_reader::RowSelector;

    use super::*;

    #[test]
    fn deleted_records_are_not_live() {
        let live = |records, deleted: &[u64]| {
            live_records(records, deleted).map(|live| live.map(Into::<Vec<RowSelector>>::into))
        };
        let (select, skip) = (RowSelector::select, RowSelector::skip);
        assert_eq!(live(3, &[]), Ok(None));
        assert_eq!(live(5, &[1, 2]), Ok(Some(vec![select(1), skip(2), select(2)])));
        assert_eq!(live(4, &[0, 2]), Ok(Some(vec![skip(1), select(1), skip(1), select(1)])));
        assert_eq!(live(3, &[2]), Ok(Some(vec![select(2), skip(1)])));
        assert_eq!(live(2, &[0, 1]), Ok(Some(vec![skip(2)])));
        assert!(live(2, &[2]).unwrap_err().contains("index 2"), "a deletion vector of another file");
    }
}
