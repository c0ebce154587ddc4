//! Writes commits: creates tables, adds and removes files, and maintains the log.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arrow::array::builder::{MapBuilder, MapFieldNames, StringBuilder};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Schema};
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_conversion::TryFromArrow as _;
use delta_kernel::engine::arrow_data::{ArrowEngineData, EngineDataArrowExt as _};
use delta_kernel::schema::StructType;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{FilteredEngineData, KernelError, KernelResult, SnapshotRef};
use serde_json::json;

use super::kernel_engine::{KernelEngine, checkpoint_version, commit_file, commit_version};
use super::seal::{self, Sealed};
use super::{DeltaLog, DeltaVersion, LAKE_PROPERTY, replay};
use crate::error::Error;
use crate::time::{DAY, Instant};

/// A checkpoint is written at every version that this divides, as other writers do by default.
const CHECKPOINT_INTERVAL: u64 = 10;

/// How long the commits of old versions stay, in days. Versions of the last month can be read.
pub const LOG_RETENTION: i64 = 35;

/// The version of the program, as commits name it.
const ENGINE: &str = concat!("tawny/", env!("CARGO_PKG_VERSION"));

/// A table to create.
#[derive(Debug, Clone)]
pub struct NewTable {
    /// The columns of the data files.
    pub schema: Schema,
    /// The partition column, a date, which data files do not have.
    pub partition: &'static str,
    /// The column whose bounds the log has for each file.
    pub bounded: &'static str,
}

/// The operation of a commit in the history of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Adds records.
    Append,
    /// Replaces files by others with the same records.
    Optimize,
    /// Removes records.
    Delete,
}

/// A file that a commit adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedFile {
    /// Its path in the table's folder, without characters that a URL must escape.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Its number of records.
    pub records: u64,
    /// The value of the partition column. `None` for null.
    pub partition: Option<String>,
    /// The least and the greatest value of columns, as texts.
    pub bounds: BTreeMap<&'static str, (String, String)>,
    /// Further members of the statistics. Each file of a commit has the same.
    pub other_statistics: BTreeMap<&'static str, String>,
}

/// The content of a commit.
#[derive(Debug, Clone)]
pub struct Change {
    /// The operation.
    pub operation: Operation,
    /// The files to add.
    pub added: Vec<AddedFile>,
    /// The paths of the files to remove.
    pub removed: HashSet<String>,
    /// New values of metadata domains.
    pub domains: BTreeMap<String, String>,
}

impl DeltaLog {
    /// Creates the table with version 0. Returns false if it exists.
    pub async fn create(&self, table: &NewTable) -> Result<bool, Error> {
        let refused = |error: KernelError| Error::TransactionLog {
            path: self.path(),
            reason: format!("cannot write its first commit: {error}"),
        };
        let id = uuid::Uuid::new_v4().to_string();
        let text = first_commit(table, &id).map_err(refused)?;
        let sealed = seal::add(Sealed { version: 0, table: "" }, text.as_bytes())
            .map_err(|error| Error::Internal(error.to_string()))?;
        if !self.folder.create(&commit_file(0), sealed.into()).await? {
            return Ok(false);
        }
        self.run(move |engine| engine.record_commit(0, &id)).await?;
        Ok(true)
    }

    /// Records the first commit of a table whose creation was interrupted before that. Call it before data files are written.
    pub async fn complete_creation(&self, version: &DeltaVersion) -> Result<(), Error> {
        if version.number() > 0 {
            return Ok(());
        }
        let id = version.table_id().to_owned();
        self.run(move |engine| engine.record_commit(0, &id)).await
    }

    /// Commits `change` after the version `base`, and returns the new version. `None` if another writer has committed
    /// since, or if a file to remove is not live.
    pub async fn commit(&self, base: &DeltaVersion, change: Change) -> Result<Option<DeltaVersion>, Error> {
        let (snapshot, partition) = (Arc::clone(&base.snapshot), base.partition_column());
        let committed = self.run(move |engine| commit(engine, &snapshot, &change, &partition)).await?;
        let Some(snapshot) = committed else {
            return Ok(None);
        };
        self.remember(&snapshot);
        Ok(Some(DeltaVersion { log: self.clone(), snapshot }))
    }
}

impl DeltaVersion {
    fn partition_column(&self) -> String {
        self.snapshot.table_configuration().logical_partition_columns().first().cloned().unwrap_or_default()
    }
}

/// Returns the current time in milliseconds since the epoch.
#[expect(clippy::disallowed_methods, reason = "commits name their time; no finding depends on it")]
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn first_commit(table: &NewTable, id: &str) -> KernelResult<String> {
    let mut fields: Vec<Arc<Field>> = table.schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(table.partition, DataType::Date32, true)));
    let schema = StructType::try_from_arrow(&Schema::new(fields))?;
    let schema = serde_json::to_string(&schema).map_err(|error| KernelError::generic(error.to_string()))?;
    let now = now();
    // All readers know reader version 1. Only writers must know the two features.
    let actions = [
        json!({"commitInfo": {
            "timestamp": now, "inCommitTimestamp": now, "operation": "CREATE TABLE", "operationParameters": {},
            "engineInfo": ENGINE, "txnId": uuid::Uuid::new_v4().to_string(),
        }}),
        json!({"protocol": {
            "minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["domainMetadata", "inCommitTimestamp"],
        }}),
        json!({"metaData": {
            "id": id, "format": {"provider": "parquet", "options": {}},
            "schemaString": schema, "partitionColumns": [table.partition], "createdTime": now,
            "configuration": {
                "delta.enableInCommitTimestamps": "true",
                LAKE_PROPERTY: "1",
                // Without it `deltalake` expects the bounds of 32 columns. It finds no record by a column without bounds.
                "delta.dataSkippingStatsColumns": table.bounded,
                "delta.logRetentionDuration": format!("interval {LOG_RETENTION} days"),
                // Longer than a vacuum of the nightly run waits, so that it finds the removed files in the log.
                "delta.deletedFileRetentionDuration": "interval 60 days",
            },
        }}),
    ];
    Ok(actions.map(|action| format!("{action}\n")).concat())
}

fn commit(
    engine: &KernelEngine,
    base: &SnapshotRef,
    change: &Change,
    partition: &str,
) -> KernelResult<Option<SnapshotRef>> {
    let (operation, changes_data) = match change.operation {
        Operation::Append => (UpdateTableOperation::Write, true),
        Operation::Optimize => (UpdateTableOperation::Optimize, false),
        Operation::Delete => (UpdateTableOperation::Delete, true),
    };
    let table = base.table_configuration().metadata().id();
    let builder = Arc::clone(base).update_table(operation, ENGINE, changes_data);
    let mut transaction = builder.build(engine, Box::new(FileSystemCommitter::new()))?;
    for (domain, value) in &change.domains {
        transaction = transaction.with_domain_metadata(domain.clone(), value.clone());
    }
    if !change.added.is_empty() {
        let added = added_files(&change.added, partition, now())?;
        transaction.add_files(Box::new(ArrowEngineData::new(added)));
    }
    if !change.removed.is_empty() {
        let mut found = 0;
        for batch in replay::scan(engine, Arc::clone(base))? {
            let (batch, count) = only_removed(batch.scan_files, &change.removed)?;
            found += count;
            if count > 0 {
                transaction.remove_files(batch);
            }
        }
        if found != change.removed.len() {
            return Ok(None);
        }
    }
    let committed = match transaction.commit(engine)? {
        CommitResult::Committed(committed) => committed,
        CommitResult::Conflicted(_) => return Ok(None),
        CommitResult::Retryable(_) => return Err(KernelError::generic("the commit could not be written")),
    };
    engine.record_commit(committed.commit_version(), table)?;
    let snapshot = committed.post_commit_snapshot().cloned();
    let snapshot = snapshot.ok_or_else(|| KernelError::generic("the commit has no snapshot"))?;
    if !committed.commit_version().is_multiple_of(CHECKPOINT_INTERVAL) {
        return Ok(Some(snapshot));
    }
    let (_, snapshot) = snapshot.checkpoint(engine, None)?;
    delete_old_log_files(engine)?;
    Ok(Some(snapshot))
}

/// Selects the rows of `batch` whose files are in `removed`, and returns their number.
fn only_removed(batch: FilteredEngineData, removed: &HashSet<String>) -> KernelResult<(FilteredEngineData, usize)> {
    let batch: RecordBatch = batch.apply_selection_vector()?.try_into_record_batch()?;
    let selected: Vec<bool> = replay::paths(&batch)?.iter().map(|path| removed.contains(path)).collect();
    let count = selected.iter().filter(|selected| **selected).count();
    Ok((FilteredEngineData::try_new(Box::new(ArrowEngineData::new(batch)), selected)?, count))
}

/// Returns the metadata of added files with the columns that a transaction of the kernel expects.
fn added_files(files: &[AddedFile], partition: &str, now: i64) -> KernelResult<RecordBatch> {
    let number = |value: u64| i64::try_from(value).map_err(|_| KernelError::generic("a file that is too large"));
    let sizes = files.iter().map(|file| number(file.bytes)).collect::<KernelResult<Vec<i64>>>()?;
    let records = files.iter().map(|file| number(file.records)).collect::<KernelResult<Vec<i64>>>()?;
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut partitions = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for file in files {
        partitions.keys().append_value(partition);
        partitions.values().append_option(file.partition.as_deref());
        partitions.append(true)?;
    }
    let columns: BTreeSet<&str> = files.iter().flat_map(|file| file.bounds.keys().copied()).collect();
    let bounds = |bound: fn(&(String, String)) -> &String| -> ArrayRef {
        let texts = |column: &&str| -> ArrayRef {
            Arc::new(files.iter().map(|file| file.bounds.get(column).map(bound)).collect::<StringArray>())
        };
        let fields: Fields = columns.iter().map(|column| Field::new(*column, DataType::Utf8, true)).collect();
        if fields.is_empty() {
            return Arc::new(StructArray::new_empty_fields(files.len(), None));
        }
        Arc::new(StructArray::new(fields, columns.iter().map(texts).collect(), None))
    };
    let mut statistics: Vec<(&str, ArrayRef)> = vec![
        ("numRecords", Arc::new(Int64Array::from(records))),
        ("minValues", bounds(|(least, _)| least)),
        ("maxValues", bounds(|(_, greatest)| greatest)),
        ("tightBounds", Arc::new(BooleanArray::from(vec![true; files.len()]))),
    ];
    for name in files.iter().flat_map(|file| file.other_statistics.keys()).collect::<BTreeSet<_>>() {
        let texts: StringArray = files.iter().map(|file| file.other_statistics.get(name)).collect();
        statistics.push((name, Arc::new(texts)));
    }
    let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
    let fields: Fields = statistics.iter().map(field).collect();
    let statistics = StructArray::new(fields, statistics.into_iter().map(|(_, array)| array).collect(), None);
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("path", Arc::new(files.iter().map(|file| Some(&file.path)).collect::<StringArray>()), false),
        ("partitionValues", Arc::new(partitions.finish()), false),
        ("size", Arc::new(Int64Array::from(sizes)), false),
        ("modificationTime", Arc::new(Int64Array::from(vec![now; files.len()])), false),
        ("stats", Arc::new(statistics), true),
    ];
    Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
}

/// Deletes the log files that only versions older than [`LOG_RETENTION`] need.
fn delete_old_log_files(engine: &KernelEngine) -> KernelResult<()> {
    let until = now() - LOG_RETENTION * DAY / 1_000;
    let files = engine.log_files()?;
    let is_old = |modified: Instant| modified.millis() < until;
    let checkpoints = files.iter().filter(|(_, modified)| is_old(*modified));
    // The versions from this checkpoint on stay readable.
    let Some(kept) = checkpoints.filter_map(|(name, _)| checkpoint_version(name)).max() else {
        return Ok(());
    };
    for (name, modified) in &files {
        let version = commit_version(name).or_else(|| checkpoint_version(name));
        if is_old(*modified) && version.is_some_and(|version| version < kept) {
            engine.delete_log_file(name)?;
        }
    }
    Ok(())
}
