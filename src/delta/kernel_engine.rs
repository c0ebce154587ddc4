//! The engine of `delta_kernel`: reads and writes log files through [`Folder`], and checks what it reads.
//!
//! The kernel calls it from a blocking thread and waits for each answer.

use std::collections::HashMap;
use std::io::{BufReader, Cursor};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow::array::RecordBatch;
use arrow::json::ReaderBuilder;
use bytes::Bytes;
use delta_kernel::engine::arrow_conversion::TryFromArrow as _;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::engine::arrow_expression::ArrowEvaluationHandler;
use delta_kernel::engine::arrow_utils::{
    build_json_reorder_indices, fixup_json_read, fixup_parquet_read, json_arrow_schema, ordering_needs_row_indexes,
    parquet_read_plan, parse_json, to_json_bytes,
};
use delta_kernel::engine::{reader_options, writer_options};
use delta_kernel::schema::{SchemaRef, StructType};
use delta_kernel::{
    Engine, EngineData, EvaluationHandler, FileDataReadResultIterator, FileMeta, FileSize, FileSlice,
    FilteredEngineData, JsonHandler, KernelError, KernelResult, KernelResultIterator, KernelResultIteratorStatic,
    ParquetFooter, ParquetHandler, PredicateRef, SnapshotRef, StorageHandler,
};
use futures::{StreamExt as _, TryStreamExt as _};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::KeyValue;
use tokio::runtime::Handle;
use url::Url;

use super::seal::{self, SealError, Sealed};
use crate::error::Error;
use crate::store::{self, DELTA_LOG, Folder, FolderFile};
use crate::time::Instant;

/// Files that are read concurrently.
const CONCURRENT_READS: usize = 32;

/// Rows of a log file that are parsed at a time.
const BATCH_ROWS: usize = 8_192;

/// Log files that were read, and where the log keeps its checks.
#[derive(Debug)]
pub(super) struct LogCache {
    /// The content of log files, which never change, by their names in the table's folder.
    files: Mutex<HashMap<String, Bytes>>,
    /// The id of the table, once it is known.
    table: OnceLock<String>,
    /// The folder for the record of the last commit, if this program writes the log.
    checks_folder: Option<&'static str>,
}

impl LogCache {
    pub(super) fn new(checks_folder: Option<&'static str>) -> LogCache {
        LogCache { files: Mutex::default(), table: OnceLock::new(), checks_folder }
    }

    /// Returns whether this program writes the log, and keeps what it needs to detect damage.
    pub(super) fn has_checks(&self) -> bool {
        self.checks_folder.is_some()
    }
}

/// The engine for one table. It remembers the first failed request, which the kernel would turn into text.
#[derive(Debug)]
pub(super) struct KernelEngine {
    files: Arc<LogFiles>,
    evaluation: Arc<ArrowEvaluationHandler>,
}

impl KernelEngine {
    /// Returns the engine for the table in `folder`. Must be called within a tokio runtime.
    pub(super) fn new(folder: Folder, cache: Arc<LogCache>) -> Result<KernelEngine, Error> {
        let root = folder.url()?;
        let files = LogFiles { folder, root, cache, runtime: Handle::current(), failure: Mutex::default() };
        Ok(KernelEngine { files: Arc::new(files), evaluation: Arc::new(ArrowEvaluationHandler) })
    }

    /// Returns the URL of the table's folder.
    pub(super) fn root(&self) -> &Url {
        &self.files.root
    }

    /// Returns the first failed request since the last call.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.files.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns the names of the log's files, with the times of their last change.
    pub(super) fn log_files(&self) -> KernelResult<Vec<(String, Instant)>> {
        let files = self.files.wait(self.files.folder.files_after(DELTA_LOG, ""))?;
        Ok(files.into_iter().map(|file| (format!("{DELTA_LOG}/{}", file.name), file.modified)).collect())
    }

    /// Deletes a file of the log.
    pub(super) fn delete_log_file(&self, name: &str) -> KernelResult<()> {
        self.files.wait(self.files.folder.delete(name))
    }

    /// Returns the file of commit `version`, which need not exist.
    pub(super) fn commit(&self, version: u64) -> KernelResult<FileMeta> {
        Ok(FileMeta::new(self.files.root.join(&commit_file(version))?, 0, 0))
    }

    /// Records that commit `version` of the table with the id `table` exists, so that its loss can be noticed.
    pub(super) fn record_commit(&self, version: u64, table: &str) -> KernelResult<()> {
        let Some(checks) = self.files.cache.checks_folder else {
            return Ok(());
        };
        // Another run may have recorded a later commit.
        if self.recorded_commit()?.is_some_and(|recorded| recorded.version >= version) {
            return Ok(());
        }
        let text = format!("{version} {table}\n");
        self.files.wait(self.files.folder.put(&last_commit_file(checks), text.into_bytes()))
    }

    /// Returns whether the table's folder has data files.
    fn has_data(&self) -> KernelResult<bool> {
        let files = self.files.wait(self.files.folder.all())?;
        Ok(files.iter().any(|(name, _)| !name.starts_with('_') && name.ends_with(".parquet")))
    }

    /// Returns the last recorded commit. `None` if none is recorded.
    pub(super) fn recorded_commit(&self) -> KernelResult<Option<RecordedCommit>> {
        self.files.wait(self.files.recorded_commit())
    }

    /// Checks that the log reaches the last commit that was recorded before the log was read, and is of the same table.
    pub(super) fn check_last_commit(
        &self,
        recorded: Option<&RecordedCommit>,
        snapshot: &SnapshotRef,
    ) -> KernelResult<()> {
        let Some(checks) = self.files.cache.checks_folder else {
            return Ok(());
        };
        let version = snapshot.version();
        match recorded {
            Some(recorded) if recorded.version > version => Err(KernelError::generic(format!(
                "commit {} is missing; the last one here is {version}",
                recorded.version
            ))),
            Some(recorded) => check_table(recorded, snapshot),
            // The creation of the table may have been interrupted before its record. Writers make up for that before they write
            // data.
            None if version == 0 && !self.has_data()? => Ok(()),
            // Another process may have created the table and committed since the record was looked for. Its first commit
            // after the creation follows a record.
            None => match self.recorded_commit()? {
                Some(recorded) => check_table(&recorded, snapshot),
                None => Err(self.files.failed(self.files.unrecorded(checks))),
            },
        }
    }
}

fn check_table(recorded: &RecordedCommit, snapshot: &SnapshotRef) -> KernelResult<()> {
    if recorded.table == snapshot.table_configuration().metadata().id() {
        return Ok(());
    }
    Err(KernelError::generic("it is the log of another table: restore the log of this one"))
}

/// The record of a table's last commit, outside of the log. Its text is the number, a space, the id of the table and a line
/// break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RecordedCommit {
    version: u64,
    table: String,
}

impl RecordedCommit {
    fn parse(text: &[u8]) -> Option<RecordedCommit> {
        let (version, table) = std::str::from_utf8(text).ok()?.strip_suffix('\n')?.split_once(' ')?;
        Some(RecordedCommit { version: version.parse().ok()?, table: table.to_owned() })
    }
}

fn last_commit_file(checks_folder: &str) -> String {
    format!("{checks_folder}/last_commit")
}

impl Engine for KernelEngine {
    fn evaluation_handler(&self) -> Arc<dyn EvaluationHandler> {
        Arc::clone(&self.evaluation) as _
    }

    fn storage_handler(&self) -> Arc<dyn StorageHandler> {
        Arc::clone(&self.files) as _
    }

    fn json_handler(&self) -> Arc<dyn JsonHandler> {
        Arc::clone(&self.files) as _
    }

    fn parquet_handler(&self) -> Arc<dyn ParquetHandler> {
        Arc::clone(&self.files) as _
    }
}

#[derive(Debug)]
struct LogFiles {
    folder: Folder,
    root: Url,
    cache: Arc<LogCache>,
    runtime: Handle,
    failure: Mutex<Option<Error>>,
}

impl LogFiles {
    /// Waits for a request. A failure is kept, with its kind.
    fn wait<T>(&self, request: impl Future<Output = Result<T, Error>>) -> KernelResult<T> {
        self.runtime.block_on(request).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: Error) -> KernelError {
        let text = error.to_string();
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        KernelError::generic(text)
    }

    /// Returns the name in the table's folder of the file at `url`.
    fn name_of(&self, url: &Url) -> KernelResult<String> {
        let below = url.as_str().strip_prefix(self.root.as_str());
        let decoded = below.map(|below| percent_encoding::percent_decode_str(below).decode_utf8());
        match decoded {
            Some(Ok(name)) if store::stays_within(&name) => Ok(name.into_owned()),
            _ => Err(KernelError::generic(format!("it names {url}, which is not in the table's folder"))),
        }
    }

    fn meta(&self, folder: &str, file: &FolderFile) -> KernelResult<FileMeta> {
        let name = if folder.is_empty() { file.name.clone() } else { format!("{folder}/{}", file.name) };
        let location = self.root.join(&name)?;
        Ok(FileMeta::new(location, file.modified.millis(), file.bytes))
    }

    /// Returns the content of `files`, checked, in the given order.
    fn read_all(&self, files: &[FileMeta]) -> KernelResult<Vec<(String, Bytes)>> {
        let names: Vec<String> = files.iter().map(|file| self.name_of(&file.location)).collect::<KernelResult<_>>()?;
        let reads = names.iter().map(|name| async move { self.read(name).await });
        let contents: Vec<Option<Bytes>> =
            self.wait(futures::stream::iter(reads).buffered(CONCURRENT_READS).try_collect())?;
        let present = |(name, bytes): (String, Option<Bytes>)| match bytes {
            Some(bytes) => Ok((name, bytes)),
            None => Err(KernelError::FileNotFound(name)),
        };
        names.into_iter().zip(contents).map(present).collect()
    }

    /// Returns the last recorded commit. `None` if none is recorded.
    async fn recorded_commit(&self) -> Result<Option<RecordedCommit>, Error> {
        let Some(file) = self.cache.checks_folder.map(last_commit_file) else {
            return Ok(None);
        };
        let Some(text) = self.folder.read_if_present(&file).await? else {
            return Ok(None);
        };
        let reason = "it is damaged: it does not hold the number of a commit and the id of a table".to_owned();
        let damaged = || Error::TransactionLog { path: self.folder.path(&file), reason };
        let recorded = RecordedCommit::parse(&text).ok_or_else(damaged)?;
        self.cache.table.get_or_init(|| recorded.table.clone());
        Ok(Some(recorded))
    }

    /// Returns the error that no commit is recorded.
    fn unrecorded(&self, checks_folder: &str) -> Error {
        let reason = "it is missing, so nobody knows which commit is the last one, and of which table: restore it, or write \
                      the number of the last commit, a space, the `id` in the `metaData` of the log and a line break into it";
        Error::TransactionLog { path: self.folder.path(&last_commit_file(checks_folder)), reason: reason.to_owned() }
    }

    /// Returns the id of the table in the seal of a file of `version`.
    async fn table(&self, version: u64) -> Result<String, Error> {
        let Some(checks) = self.cache.checks_folder.filter(|_| version > 0) else {
            return Ok(String::new());
        };
        if let Some(table) = self.cache.table.get() {
            return Ok(table.clone());
        }
        match self.recorded_commit().await? {
            Some(recorded) => Ok(recorded.table),
            None => Err(self.unrecorded(checks)),
        }
    }

    /// Reads the log file `name` and checks it. `None` if there is no such file.
    async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let cached = self.cache.files.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if cached.is_some() {
            return Ok(cached);
        }
        let Some(bytes) = self.folder.read_if_present(name).await? else {
            return Ok(None);
        };
        let damaged =
            |error: SealError| Error::TransactionLog { path: self.folder.path(name), reason: error.to_string() };
        if let Some(version) = commit_version(name) {
            let table = self.table(version).await?;
            seal::check(Sealed { version, table: &table }, &bytes, self.cache.has_checks()).map_err(damaged)?;
        } else if let Some(version) = checkpoint_version(name) {
            if self.cache.has_checks() {
                let table = self.table(version).await?;
                seal::check_checkpoint(Sealed { version, table: &table }, &bytes).map_err(damaged)?;
            }
        } else {
            // `_last_checkpoint` changes.
            return Ok(Some(bytes));
        }
        let mut files = self.cache.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.insert(name.to_owned(), bytes.clone());
        Ok(Some(bytes))
    }

    /// Reads the file at `url`, which must exist.
    fn read_present(&self, url: &Url) -> KernelResult<Bytes> {
        let name = self.name_of(url)?;
        self.wait(self.read(&name))?.ok_or(KernelError::FileNotFound(name))
    }

    /// Creates the file at `url`. An existing one stays, unless it may be replaced.
    fn write(&self, url: &Url, bytes: Bytes, overwrite: bool) -> KernelResult<()> {
        let name = self.name_of(url)?;
        if overwrite {
            return self.wait(self.folder.put(&name, bytes.into()));
        }
        if self.wait(self.folder.create(&name, bytes))? { Ok(()) } else { Err(KernelError::FileAlreadyExists(name)) }
    }
}

/// Returns the bytes of the file at `url` in `range`, or all.
fn slice(url: &Url, bytes: Bytes, range: Option<std::ops::Range<u64>>) -> KernelResult<Bytes> {
    let Some(range) = range else {
        return Ok(bytes);
    };
    let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
    let within = bounds.filter(|(start, end)| start <= end && *end <= bytes.len());
    let (start, end) = within
        .ok_or_else(|| KernelError::generic(format!("{url} has {} bytes, fewer than the log says", bytes.len())))?;
    Ok(bytes.slice(start..end))
}

/// Returns the name of the file of commit `version`.
pub(super) fn commit_file(version: u64) -> String {
    format!("{DELTA_LOG}/{version:020}.json")
}

/// Returns the version of the commit file `name`. `None` for other files.
pub(super) fn commit_version(name: &str) -> Option<u64> {
    let stem = name.strip_prefix(DELTA_LOG)?.strip_prefix('/')?.strip_suffix(".json")?;
    (stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit())).then(|| stem.parse().ok())?
}

/// Returns the version of the checkpoint file `name`. `None` for other files.
pub(super) fn checkpoint_version(name: &str) -> Option<u64> {
    let (stem, rest) = name.strip_prefix(DELTA_LOG)?.strip_prefix('/')?.split_once(".checkpoint")?;
    (stem.len() == 20 && rest.ends_with(".parquet")).then(|| stem.parse().ok())?
}

impl StorageHandler for LogFiles {
    fn list_from(&self, path: &Url) -> KernelResult<KernelResultIteratorStatic<FileMeta>> {
        let name = self.name_of(path)?;
        let (folder, after) = match name.strip_suffix('/') {
            Some(folder) => (folder, ""),
            None => name.rsplit_once('/').unwrap_or(("", &name)),
        };
        let files = self.wait(self.folder.files_after(folder, after))?;
        let files: Vec<FileMeta> = files.iter().map(|file| self.meta(folder, file)).collect::<KernelResult<_>>()?;
        Ok(Box::new(files.into_iter().map(Ok)))
    }

    fn read_files(&self, files: Vec<FileSlice>) -> KernelResult<KernelResultIteratorStatic<Bytes>> {
        // The kernel expects the failure to read a file as an item.
        let contents: Vec<KernelResult<Bytes>> =
            files.into_iter().map(|(url, range)| slice(&url, self.read_present(&url)?, range)).collect();
        Ok(Box::new(contents.into_iter()))
    }

    fn copy_atomic(&self, src: &Url, dest: &Url) -> KernelResult<()> {
        let bytes = self.read_present(src)?;
        self.write(dest, bytes, false)
    }

    fn put(&self, path: &Url, data: Bytes, overwrite: bool) -> KernelResult<()> {
        self.write(path, data, overwrite)
    }

    fn head(&self, path: &Url) -> KernelResult<FileMeta> {
        let name = self.name_of(path)?;
        let size = self.wait(self.folder.size(&name))?;
        let bytes = size.ok_or_else(|| KernelError::FileNotFound(name))?;
        Ok(FileMeta::new(path.clone(), 0, bytes))
    }

    fn delete(&self, path: &Url) -> KernelResult<()> {
        self.wait(self.folder.delete(&self.name_of(path)?))
    }
}

impl JsonHandler for LogFiles {
    fn parse_json(
        &self,
        json_strings: Box<dyn EngineData>,
        output_schema: SchemaRef,
    ) -> KernelResult<Box<dyn EngineData>> {
        parse_json(json_strings, output_schema)
    }

    fn read_json_files(
        &self,
        files: &[FileMeta],
        physical_schema: SchemaRef,
        _predicate: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        let json_schema = Arc::new(json_arrow_schema(&physical_schema)?);
        let order = build_json_reorder_indices(&physical_schema)?;
        let mut batches: Vec<KernelResult<Box<dyn EngineData>>> = Vec::new();
        for ((name, bytes), file) in self.read_all(files)?.into_iter().zip(files) {
            let reader = ReaderBuilder::new(Arc::clone(&json_schema))
                .with_batch_size(BATCH_ROWS)
                .with_coerce_primitive(true)
                .build(BufReader::new(Cursor::new(bytes)))?;
            for batch in reader {
                let batch = batch.map_err(|error| self.unreadable(&name, &error))?;
                let batch = fixup_json_read(batch, &order, file.location.as_str())?;
                batches.push(Ok(Box::new(batch)));
            }
        }
        Ok(Box::new(batches.into_iter()))
    }

    fn write_json_file(
        &self,
        path: &Url,
        data: KernelResultIterator<'_, FilteredEngineData>,
        overwrite: bool,
    ) -> KernelResult<FileSize> {
        let mut bytes = to_json_bytes(data)?;
        if let Some(version) = commit_version(&self.name_of(path)?) {
            let table = self.wait(self.table(version))?;
            bytes = seal::add(Sealed { version, table: &table }, &bytes)
                .map_err(|error| KernelError::generic(error.to_string()))?;
        }
        let size = bytes.len() as FileSize;
        self.write(path, bytes.into(), overwrite)?;
        Ok(size)
    }
}

impl LogFiles {
    /// Keeps the failure to parse the log file `name`.
    fn unreadable(&self, name: &str, error: &dyn std::fmt::Display) -> KernelError {
        self.failed(Error::TransactionLog { path: self.folder.path(name), reason: error.to_string() })
    }
}

impl ParquetHandler for LogFiles {
    fn read_parquet_files(
        &self,
        files: &[FileMeta],
        physical_schema: SchemaRef,
        _predicate: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        let mut batches: Vec<KernelResult<Box<dyn EngineData>>> = Vec::new();
        for ((name, bytes), file) in self.read_all(files)?.into_iter().zip(files) {
            let damaged = |error: parquet::errors::ParquetError| self.unreadable(&name, &error);
            let metadata = ArrowReaderMetadata::load(&bytes, reader_options()).map_err(damaged)?;
            let (order, mask) = parquet_read_plan(&physical_schema, &metadata)?;
            if ordering_needs_row_indexes(&order) {
                return Err(KernelError::generic("row indexes of log files are not supported"));
            }
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
            let builder = match mask {
                Some(mask) => builder.with_projection(mask),
                None => builder,
            };
            for batch in builder.with_batch_size(BATCH_ROWS).build().map_err(damaged)? {
                let batch = batch.map_err(|error| self.unreadable(&name, &error))?;
                let location = Some(file.location.as_str());
                let batch = fixup_parquet_read(batch, &order, None, location, Some(&physical_schema))?;
                batches.push(Ok(Box::new(batch)));
            }
        }
        Ok(Box::new(batches.into_iter()))
    }

    /// Writes a checkpoint. One that another writer has written stays.
    fn write_parquet_file(
        &self,
        location: Url,
        data: KernelResultIteratorStatic<Box<dyn EngineData>>,
    ) -> KernelResult<FileSize> {
        let mut writer: Option<ArrowWriter<Vec<u8>>> = None;
        for batch in data {
            let batch: RecordBatch = (*ArrowEngineData::try_from_engine_data(batch?)?).into();
            let mut open = match writer.take() {
                Some(open) => open,
                None => ArrowWriter::try_new_with_options(Vec::new(), batch.schema(), writer_options())?,
            };
            open.write(&batch)?;
            writer = Some(open);
        }
        let mut writer = writer.ok_or_else(|| KernelError::generic("a checkpoint without actions"))?;
        writer.append_key_value_metadata(KeyValue::new(seal::CHECKPOINT_KEY.to_owned(), seal::BLANK.to_owned()));
        let version = checkpoint_version(&self.name_of(&location)?)
            .ok_or_else(|| KernelError::generic(format!("{location} is not the name of a checkpoint")))?;
        let table = self.wait(self.table(version))?;
        let bytes = seal::add_to_checkpoint(Sealed { version, table: &table }, writer.into_inner()?)
            .map_err(|error| KernelError::generic(error.to_string()))?;
        let size = bytes.len() as FileSize;
        self.write(&location, bytes.into(), false)?;
        Ok(size)
    }

    fn read_parquet_footer(&self, file: &FileMeta) -> KernelResult<ParquetFooter> {
        let bytes = self.read_present(&file.location)?;
        let metadata = ArrowReaderMetadata::load(&bytes, reader_options())?;
        Ok(ParquetFooter { schema: Arc::new(StructType::try_from_arrow(metadata.schema().as_ref())?) })
    }
}
