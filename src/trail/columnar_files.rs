//! Parquet files of other tools: found by a listing, or listed by a table's metadata.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use arrow::datatypes::DataType;
use chrono::NaiveDate;

use super::decode;
use super::listing::{self, Selection};
use super::table_columns::TableColumns;
use super::table_folders::TableFolders;
use crate::error::{Error, Fault};
use crate::store::{self, Location, Object, Stores};
use crate::time::Instant;

/// Parquet files of other tools.
#[derive(Debug, Default)]
pub struct ParquetFiles {
    /// The files.
    pub files: Vec<ParquetFile>,
    /// Folder entries that cannot be read.
    pub faults: Vec<Fault>,
    /// The table whose metadata list the files. `None` if they were found by a listing.
    pub table: Option<TableMetadata>,
}

/// One Parquet file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ParquetFile {
    /// The file.
    pub object: Object,
    /// The values of its partition columns.
    pub partitions: FilePartitions,
    /// The number of its records, deleted ones included, if the table's metadata have it.
    pub records: Option<u64>,
    /// The indexes of its deleted records, in ascending order.
    pub deleted_records: Vec<u64>,
    /// The first and the last time that its events may have, if the table's metadata say so.
    pub times: Option<(Instant, Instant)>,
}

impl ParquetFiles {
    /// Returns the files without the times that the table's metadata say. Then all of them are opened for any range.
    #[must_use]
    pub fn without_times(mut self) -> ParquetFiles {
        for file in &mut self.files {
            file.times = None;
        }
        self
    }
}

/// The values of a file's partition columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FilePartitions {
    /// The names of the folders in this path have them. The path is below the source that names the file.
    Folders(String),
    /// The table's metadata have them. `None` for null.
    Values(BTreeMap<String, Option<PartitionValue>>),
}

/// A value of a partition column that is not null.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartitionValue {
    /// A text, or a value of a type that is read as text.
    Text(String),
    /// A Boolean.
    Flag(bool),
    /// A date, in days since 1970.
    Date(i32),
    /// A time, in microseconds since 1970.
    Time(i64),
}

impl fmt::Display for PartitionValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartitionValue::Text(text) => f.write_str(text),
            PartitionValue::Flag(flag) => write!(f, "{flag}"),
            PartitionValue::Date(days) => match NaiveDate::from_epoch_days(*days) {
                Some(date) => write!(f, "{date}"),
                None => write!(f, "{days} days since 1970"),
            },
            PartitionValue::Time(micros) => write!(f, "{}", Instant::from_micros(*micros)),
        }
    }
}

/// The metadata of one version of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMetadata {
    /// The number of the version.
    pub version: u64,
    /// The columns.
    pub columns: TableColumns,
    /// The types of partition columns. One that is not among them is text.
    pub partition_types: BTreeMap<String, DataType>,
}

impl ParquetFile {
    /// Returns a file that a listing found, with its path below the source that names it.
    pub fn listed(object: Object, below: String) -> ParquetFile {
        ParquetFile {
            object,
            partitions: FilePartitions::Folders(below),
            records: None,
            deleted_records: Vec::new(),
            times: None,
        }
    }
}

/// Lists the Parquet files that `sources` name. Returns `None` if they are not Parquet.
///
/// With `is_known`, the caller says that the sources are Parquet, and files of any name are listed. Hidden folders and
/// files are skipped.
///
/// # Errors
/// In addition to store errors: the sources contain files of a lake or another table, or JSON next to Parquet.
pub async fn parquet_files(stores: &Stores, sources: &[String], is_known: bool) -> Result<Option<ParquetFiles>, Error> {
    if sources.iter().any(|source| stores.spooled(source).is_some()) {
        return Ok(None);
    }
    let sources: Vec<String> = sources.iter().map(|source| Location::of(source).to_string()).collect();
    for source in &sources {
        if !is_known && !listing::first(stores, source).await?.is_some_and(|object| is_parquet(&object.path)) {
            return Ok(None);
        }
    }
    let mut parquet = ParquetFiles::default();
    for source in &sources {
        let listed = listing::find(stores, source, &Selection::default()).await?;
        let mut tables = table_folders(stores, source, &listed.objects).await?;
        if let Some(file) = listed.objects.iter().find_map(|object| tables.table_file(object)) {
            return Err(file.error());
        }
        if let Some(file) = listed.objects.iter().find(|object| store::is_part_file(&object.real)) {
            return Err(lost_log_error(file.path.clone()));
        }
        parquet.faults.extend(listed.faults);
        for object in listed.objects.into_iter().filter(|object| !is_hidden(&object.path, source)) {
            if is_known || is_parquet(&object.path) {
                if let Err(error) = object.location() {
                    let object = object.path.display().to_string();
                    let reason = format!("invalid name for a file of a table: {error}");
                    parquet.faults.push(Fault { object, position: None, reason });
                    continue;
                }
                let below = path_below(&object.path, source).display().to_string();
                parquet.files.push(ParquetFile::listed(object, below));
            } else if decode::has_json_name(&object.path) {
                return Err(Error::Usage {
                    message: format!("`{}` is in a folder of Parquet files", object.path.display()),
                    hint: Some("hunt the Parquet table and the raw trail separately".to_owned()),
                });
            }
        }
    }
    parquet.files.sort();
    parquet.files.dedup();
    Ok(Some(parquet))
}

/// Returns the error for `file`, a data file of a lake that has lost its transaction log. Without the log, records that
/// were merged or dropped would count again.
pub fn lost_log_error(file: PathBuf) -> Error {
    let reason = "it is a file of a lake, but the lake's transaction log `_delta_log` is missing".to_owned();
    Error::TransactionLog { path: file, reason }
}

/// Returns the tables to which the `listed` objects of `source` may belong.
async fn table_folders(stores: &Stores, source: &str, listed: &[Object]) -> Result<TableFolders, Error> {
    let mut tables = TableFolders::among(listed);
    if let Location::S3 { .. } = Location::of(source) {
        let literal = before_pattern(source);
        tables.add_above(stores, &literal).await?;
        if literal != source {
            // A pattern need not match the metadata of the tables whose files it matches.
            let all = listing::find(stores, &literal, &Selection::default()).await?;
            tables.add(&all.objects);
        }
    }
    Ok(tables)
}

/// Returns the folders of `source` before its pattern.
fn before_pattern(source: &str) -> String {
    let parts: Vec<&str> = source.split('/').take_while(|part| !part.contains(['*', '?', '['])).collect();
    parts.join("/")
}

/// Returns the path of an object below the part of `source` before its pattern.
fn path_below<'p>(path: &'p Path, source: &str) -> &'p Path {
    let below = path.strip_prefix(source).or_else(|_| path.strip_prefix(before_pattern(source)));
    below.unwrap_or_else(|_| path.file_name().map_or(path, Path::new))
}

/// Returns whether a path below `source` has a part that starts with `_` or `.`, as tools name their own files.
pub(super) fn is_hidden(path: &Path, source: &str) -> bool {
    let mut parts = path_below(path, source).components().filter_map(|part| part.as_os_str().to_str());
    parts.any(|part| part.starts_with(['_', '.']))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}
