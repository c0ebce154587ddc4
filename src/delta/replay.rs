//! The state of one version: its live files, removed files and metadata domains.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray as _, PrimitiveArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::Int64Type;
use delta_kernel::actions::{LOG_ADD_SCHEMA, LOG_DOMAIN_METADATA_SCHEMA, LOG_REMOVE_SCHEMA};
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use delta_kernel::scan::{ScanMetadata, StatsOptions};
use delta_kernel::schema::SchemaRef;
use delta_kernel::{Engine, FileMeta, KernelError, KernelResult, SnapshotRef};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::DeltaVersion;
use super::kernel_engine::{KernelEngine, commit_file};
use crate::error::Error;
use crate::store::hex;
use crate::time::Instant;

/// A file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFile {
    /// Its path in the table's folder, or its URL if it is elsewhere.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The value of each partition column, as the log writes it. `None` for null.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Its statistics, if the log has them.
    pub statistics: FileStatistics,
    /// Whether some of its rows are deleted.
    pub has_deleted_rows: bool,
}

/// Statistics of a file in the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FileStatistics {
    /// The number of records.
    pub num_records: Option<u64>,
    /// The least value of each column. Long texts and times may be rounded down.
    pub min_values: Map<String, Value>,
    /// The greatest value of each column. Long texts may be rounded up, times may be rounded down to milliseconds.
    pub max_values: Map<String, Value>,
    /// Other members.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A file that is no longer live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemovedFile {
    /// Its path in the table's folder.
    pub path: String,
    /// When it was removed.
    pub at: Instant,
}

impl DeltaVersion {
    /// Returns the live files, in no particular order.
    ///
    /// # Errors
    /// In addition to store errors, [`Error::TransactionLog`] if the log is damaged.
    pub async fn live_files(&self) -> Result<Vec<LiveFile>, Error> {
        let snapshot = Arc::clone(&self.snapshot);
        self.log.run(move |engine| live_files(engine, snapshot)).await
    }

    /// Returns the files that were removed and that the log still remembers.
    pub async fn removed_files(&self) -> Result<Vec<RemovedFile>, Error> {
        let snapshot = Arc::clone(&self.snapshot);
        self.log.run(move |engine| removed_files(engine, &snapshot)).await
    }

    /// Returns the files with new records that commits after version `number` added, including files replaced since.
    /// `None` if the log no longer has one of those commits.
    pub async fn added_since(&self, number: u64) -> Result<Option<Vec<LiveFile>>, Error> {
        let versions = number.saturating_add(1)..=self.number();
        self.log.run(move |engine| added_files(engine, versions)).await
    }

    /// Returns the SHA-256 of commit `number`. `None` if the log does not have it.
    pub async fn commit_digest(&self, number: u64) -> Result<Option<String>, Error> {
        let commit = self.log.folder().read_if_present(&commit_file(number)).await?;
        Ok(commit.map(|commit| hex(&Sha256::digest(&commit))))
    }

    /// Returns the metadata domains of programs, with their values.
    pub async fn domains(&self) -> Result<BTreeMap<String, String>, Error> {
        let snapshot = Arc::clone(&self.snapshot);
        self.log.run(move |engine| domains(engine, &snapshot)).await
    }
}

/// Returns the batches of live files, each with the rows that are live.
pub(super) fn scan(engine: &dyn Engine, snapshot: SnapshotRef) -> KernelResult<Vec<ScanMetadata>> {
    let scan = snapshot.scan_builder().with_stats(StatsOptions::json_only()).build()?;
    scan.scan_metadata(engine)?.collect()
}

fn live_files(engine: &dyn Engine, snapshot: SnapshotRef) -> KernelResult<Vec<LiveFile>> {
    let mut files = Vec::new();
    for batch in scan(engine, snapshot)? {
        let batch = StructArray::from(batch.scan_files.apply_selection_vector()?.try_into_record_batch()?);
        let constants = structs(member(&batch, "fileConstantValues")?, "fileConstantValues")?;
        let columns = FileColumns::of(&batch, member(constants, "partitionValues")?)?;
        for row in 0..batch.len() {
            files.push(columns.file(row)?);
        }
    }
    Ok(files)
}

fn added_files(engine: &KernelEngine, versions: RangeInclusive<u64>) -> KernelResult<Option<Vec<LiveFile>>> {
    let commits: Vec<FileMeta> = versions.map(|version| engine.commit(version)).collect::<KernelResult<_>>()?;
    let batches = match engine.json_handler().read_json_files(&commits, LOG_ADD_SCHEMA.clone(), None) {
        Err(KernelError::FileNotFound(_)) => return Ok(None),
        batches => batches?,
    };
    let mut files = Vec::new();
    for batch in batches {
        let batch: RecordBatch = batch.try_into_record_batch()?;
        let actions = structs(column(&batch, "add")?, "add")?;
        let columns = FileColumns::of(actions, member(actions, "partitionValues")?)?;
        let changes_data = member(actions, "dataChange")?;
        let changes_data = changes_data.as_boolean_opt().ok_or_else(|| unknown("dataChange"))?;
        for row in (0..actions.len()).filter(|row| actions.is_valid(*row) && changes_data.value(*row)) {
            files.push(columns.file(row)?);
        }
    }
    Ok(Some(files))
}

/// The columns that describe files.
struct FileColumns<'b> {
    paths: &'b StringArray,
    sizes: &'b PrimitiveArray<Int64Type>,
    statistics: &'b StringArray,
    deletion_vectors: &'b ArrayRef,
    partitions: &'b ArrayRef,
}

impl<'b> FileColumns<'b> {
    fn of(files: &'b StructArray, partitions: &'b ArrayRef) -> KernelResult<FileColumns<'b>> {
        Ok(FileColumns {
            paths: text_member(files, "path")?,
            sizes: member(files, "size")?.as_primitive_opt::<Int64Type>().ok_or_else(|| unknown("size"))?,
            statistics: text_member(files, "stats")?,
            deletion_vectors: member(files, "deletionVector")?,
            partitions,
        })
    }

    fn file(&self, row: usize) -> KernelResult<LiveFile> {
        let path = decoded(self.paths.value(row))?;
        let size = self.sizes.value(row);
        let bytes =
            u64::try_from(size).map_err(|_| KernelError::generic(format!("it gives {path:?} the size {size}")))?;
        let statistics = if self.statistics.is_null(row) {
            FileStatistics::default()
        } else {
            serde_json::from_str(self.statistics.value(row))
                .map_err(|error| KernelError::generic(format!("the statistics of {path:?}: {error}")))?
        };
        let partition_values = partition_values(self.partitions, row)?;
        let has_deleted_rows = self.deletion_vectors.is_valid(row);
        Ok(LiveFile { path, bytes, partition_values, statistics, has_deleted_rows })
    }
}

fn partition_values(partitions: &ArrayRef, row: usize) -> KernelResult<BTreeMap<String, Option<String>>> {
    let partitions = partitions.as_map_opt().ok_or_else(|| unknown("partitionValues"))?;
    if partitions.is_null(row) {
        return Ok(BTreeMap::new());
    }
    let entries = partitions.value(row);
    let columns = [entries.column(0), entries.column(1)].map(|column| column.as_string_opt::<i32>());
    let [Some(names), Some(values)] = columns else {
        return Err(unknown("partitionValues"));
    };
    let value = |row: usize| values.is_valid(row).then(|| values.value(row).to_owned());
    // The log writes null as null or as an empty text.
    let entry = |row: usize| (names.value(row).to_owned(), value(row).filter(|value| !value.is_empty()));
    Ok((0..entries.len()).map(entry).collect())
}

fn removed_files(engine: &dyn Engine, snapshot: &SnapshotRef) -> KernelResult<Vec<RemovedFile>> {
    let live: HashSet<String> = live_files(engine, Arc::clone(snapshot))?.into_iter().map(|file| file.path).collect();
    let mut seen = HashSet::new();
    let mut removed = Vec::new();
    for batch in actions(engine, snapshot, LOG_REMOVE_SCHEMA.clone())? {
        let actions = structs(column(&batch, "remove")?, "remove")?;
        let paths = text_member(actions, "path")?;
        let times = member(actions, "deletionTimestamp")?;
        let times = times.as_primitive_opt::<Int64Type>().ok_or_else(|| unknown("deletionTimestamp"))?;
        for row in (0..batch.num_rows()).filter(|row| actions.is_valid(*row) && paths.is_valid(*row)) {
            let path = decoded(paths.value(row))?;
            let millis = if times.is_valid(row) { times.value(row) } else { 0 };
            let at = Instant::from_micros(millis.saturating_mul(1_000));
            if !live.contains(&path) && seen.insert(path.clone()) {
                removed.push(RemovedFile { path, at });
            }
        }
    }
    Ok(removed)
}

pub(super) fn domains(engine: &dyn Engine, snapshot: &SnapshotRef) -> KernelResult<BTreeMap<String, String>> {
    let mut newest: BTreeMap<String, Option<String>> = BTreeMap::new();
    for batch in actions(engine, snapshot, LOG_DOMAIN_METADATA_SCHEMA.clone())? {
        let actions = structs(column(&batch, "domainMetadata")?, "domainMetadata")?;
        let (names, values) = (text_member(actions, "domain")?, text_member(actions, "configuration")?);
        let removed = member(actions, "removed")?;
        let removed = removed.as_boolean_opt().ok_or_else(|| unknown("removed"))?;
        for row in (0..batch.num_rows()).filter(|row| actions.is_valid(*row) && names.is_valid(*row)) {
            let is_removed = removed.is_valid(row) && removed.value(row);
            let value = (!is_removed && values.is_valid(row)).then(|| values.value(row).to_owned());
            // Newer actions come first.
            newest.entry(names.value(row).to_owned()).or_insert(value);
        }
    }
    Ok(newest.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
}

/// Returns the actions of `schema`, newer ones first.
fn actions(engine: &dyn Engine, snapshot: &SnapshotRef, schema: SchemaRef) -> KernelResult<Vec<RecordBatch>> {
    let batches = snapshot.log_segment().read_actions(engine, schema)?;
    batches.map(|batch| batch?.actions.try_into_record_batch()).collect()
}

/// Returns the path of each file in a batch of live files.
pub(super) fn paths(batch: &RecordBatch) -> KernelResult<Vec<String>> {
    texts(batch, "path")?.iter().map(|path| decoded(path.unwrap_or_default())).collect()
}

/// Returns the path of a file, which the log percent-encodes.
pub(super) fn decoded(path: &str) -> KernelResult<String> {
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|error| KernelError::generic(format!("the path {path:?}: {error}")))
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> KernelResult<&'b ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| unknown(name))
}

fn texts<'b>(batch: &'b RecordBatch, name: &str) -> KernelResult<&'b StringArray> {
    column(batch, name)?.as_string_opt::<i32>().ok_or_else(|| unknown(name))
}

fn structs<'b>(column: &'b ArrayRef, name: &str) -> KernelResult<&'b StructArray> {
    column.as_struct_opt().ok_or_else(|| unknown(name))
}

fn member<'b>(parent: &'b StructArray, name: &str) -> KernelResult<&'b ArrayRef> {
    parent.column_by_name(name).ok_or_else(|| unknown(name))
}

fn text_member<'b>(parent: &'b StructArray, name: &str) -> KernelResult<&'b StringArray> {
    member(parent, name)?.as_string_opt::<i32>().ok_or_else(|| unknown(name))
}

/// The kernel gave a column that its documentation does not have.
fn unknown(name: &str) -> KernelError {
    KernelError::generic(format!("the column `{name}` of the log has another type than expected"))
}
