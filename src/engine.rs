//! The query engine: a session over records in memory, a raw trail or a lake.

use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::resources_err;
use datafusion::config::{ConfigNonZeroUsize, Dialect, SpillCompression};
use datafusion::datasource::MemTable;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
#[cfg(feature = "cluster")]
use datafusion::execution::TaskContext;
#[cfg(feature = "cluster")]
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::physical_plan::{self, ExecutionPlan};
use datafusion::prelude::{DataFrame, Expr, SessionConfig, SessionContext, ident};
use futures::TryStreamExt as _;

use crate::error::{DamagedFile, Error};
use crate::event;
use crate::lake::Lake;
use crate::lake::transaction_log::FileEntry;
use crate::named_columns::MissingColumn;
use crate::sql::fields;
use crate::time::Range;

#[cfg(feature = "cluster")]
pub mod cluster;
pub mod columnar_table;
mod credential_function;
pub mod duplicates;
mod batch_files;
mod byte_spool;
mod compiled;
mod empty_columns;
mod equalities;
mod event_times;
mod expressions;
mod failure;
pub mod functions;
mod group_counts;
mod hashed_set;
mod ip_functions;
mod json_functions;
mod map_text;
mod json_members;
pub mod keyed_rows;
mod list_functions;
pub mod match_batch;
mod match_buffer;
mod match_functions;
pub mod match_scan;
pub mod matcher;
mod memory_pool;
mod parquet_table;
mod pattern_functions;
mod python_functions;
pub mod raw_table;
pub mod record_view;
mod repeats;
mod row_expressions;
mod scanned;
pub mod seen_keys;
mod selection;
pub mod user_query;
mod window_functions;

use memory_pool::SharedPool;
pub(crate) use parquet_table::read_small_file;
use parquet_table::{Footers, LakeFile, ParquetTable};
pub use scanned::Scanned;
pub use selection::EventSelection;
pub use window_functions::{SEMANTICS_VERSION, event_kinds_type};

/// Minimum bytes that the sorts and groupings of one partition share. With less, none of them could hold a batch.
const MEMORY_OF_PARTITION: usize = 32 << 20;

/// Maximum nesting of SQL. Expressions of a rule nest at most 12 deep, and each level becomes a few of SQL.
const SQL_DEPTH: usize = 200;

/// Rows in a batch of a query.
pub const BATCH_ROWS: usize = 2_048;

/// The query engine of a process. All of its queries share one budget of memory; clones share it too.
#[derive(Debug, Clone)]
pub struct Engine {
    /// Number of scans at a time; where memory allows, of sorts too.
    pub threads: usize,
    /// The budget in bytes. Sorts and buffered matches beyond it go to disk.
    memory: usize,
    /// The part of the budget that buffered matches may take, in bytes.
    match_memory: usize,
    /// The budget, and the folder for what goes to disk.
    runtime: Arc<RuntimeEnv>,
    /// The progress of queries.
    pub scanned: Scanned,
    /// The events that queries see.
    pub selection: EventSelection,
    /// Where scans run, if not in this process.
    #[cfg(feature = "cluster")]
    cluster: Option<cluster::Cluster>,
}

impl Engine {
    /// Returns an engine with a budget of `memory` bytes that runs on `threads` threads and spills to the folder `spill`.
    ///
    /// # Errors
    /// Nothing can be written to the folder.
    pub fn new(threads: usize, memory: usize, spill: &Path) -> Result<Engine, Error> {
        let pool = SharedPool::new(memory, partitions(threads, memory));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).with_temp_file_path(spill).build_arc();
        Ok(Engine {
            threads,
            memory,
            match_memory: memory / 4,
            runtime: runtime.map_err(|error| Error::query("the engine", error))?,
            scanned: Scanned::default(),
            selection: EventSelection::default(),
            #[cfg(feature = "cluster")]
            cluster: None,
        })
    }

    /// Returns an engine for one of the `partitions` of a stage in a task of a cluster. All of them share a third of the task's
    /// memory: a task may have two stages, and sorts what it sends.
    ///
    /// # Errors
    /// The memory is taken.
    #[cfg(feature = "cluster")]
    fn of_task(task: &TaskContext, partitions: usize) -> Result<Engine, DataFusionError> {
        let runtime = task.runtime_env();
        let MemoryLimit::Finite(limit) = runtime.memory_pool.memory_limit() else {
            return datafusion::common::exec_err!("an executor has no memory limit");
        };
        let memory = limit / 3 / partitions.max(1);
        let reservation = MemoryConsumer::new("stage").register(&runtime.memory_pool);
        reservation.try_grow(memory)?;
        let pool = Arc::new(SharedPool::within(reservation));
        Ok(Engine {
            threads: 1,
            memory,
            match_memory: memory / 4,
            runtime: RuntimeEnvBuilder::from_runtime_env(&runtime).with_memory_pool(pool).build_arc()?,
            scanned: Scanned::default(),
            selection: EventSelection::default(),
            cluster: None,
        })
    }

    /// Returns the same engine for a query that is not worth dividing.
    #[must_use]
    pub fn on_one_thread(&self) -> Engine {
        Engine { threads: 1, ..self.clone() }
    }

    /// Returns the same engine, whose buffered matches take at most `bytes` of the budget.
    #[must_use]
    pub fn with_match_memory(self, bytes: usize) -> Engine {
        Engine { match_memory: bytes, ..self }
    }

    /// Returns the same engine, whose scans run on `cluster`.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn with_cluster(self, cluster: cluster::Cluster) -> Engine {
        Engine { cluster: Some(cluster), ..self }
    }

    /// Returns the same engine, whose scans run in this process.
    #[must_use]
    pub fn without_cluster(&self) -> Engine {
        Engine {
            #[cfg(feature = "cluster")]
            cluster: None,
            ..self.clone()
        }
    }

    /// Returns the cluster on which scans run, if they do.
    #[cfg(feature = "cluster")]
    pub fn cluster(&self) -> Option<&cluster::Cluster> {
        self.cluster.as_ref()
    }

    /// Returns the budget in bytes.
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Returns the number of parts that a query's rows are divided into.
    pub fn partitions(&self) -> usize {
        partitions(self.threads, self.memory)
    }

    /// Returns whether scans run on a cluster.
    pub fn on_cluster(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.cluster.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    /// Returns the bytes of results that a cluster has returned; `None` without a cluster.
    pub fn bytes_from_cluster(&self) -> Option<u64> {
        #[cfg(feature = "cluster")]
        return self.cluster.as_ref().map(cluster::Cluster::returned_bytes);
        #[cfg(not(feature = "cluster"))]
        None
    }

    fn session(&self) -> Result<SessionContext, DataFusionError> {
        // A cache keeps the columns of names and errors, which are small. JSON is tested after it is selected.
        self.session_with_cache(self.memory / 32 / self.threads.max(1))
    }

    /// Returns a session whose scans each cache up to `cache` bytes of columns that are both tested and selected. A scan with a cache
    /// reads whole batches of rows around each row that passes a test.
    fn session_with_cache(&self, cache: usize) -> Result<SessionContext, DataFusionError> {
        // Small batches: a merge of sorted runs holds two batches of each run and cannot spill them.
        let mut config = SessionConfig::new().with_target_partitions(self.partitions()).with_batch_size(BATCH_ROWS);
        let options = config.options_mut();
        options.execution.spill_compression = SpillCompression::Lz4Frame;
        options.execution.sort_spill_reservation_bytes = MEMORY_OF_PARTITION / 16;
        // Column names carry CloudTrail's case, and so does SQL.
        options.sql_parser.enable_ident_normalization = false;
        // The plainest dialect with lambdas.
        options.sql_parser.dialect = Dialect::DuckDB;
        options.execution.collect_statistics = false;
        // Rows that are partitioned by group are partitioned by group and burst too.
        options.optimizer.subset_repartition_threshold = 1;
        // Predicates nest as deeply as rules do.
        options.sql_parser.recursion_limit = ConfigNonZeroUsize::try_new(SQL_DEPTH)?;
        // Matches are rare, so other columns are decoded only for rows that pass the pushed tests.
        options.execution.parquet.pushdown_filters = true;
        // The default, nanoseconds, wraps around in 2262: a time in the year 9999 would become one of today.
        options.execution.parquet.coerce_int96 = Some("us".to_owned());
        // Long values of filtered rows are not copied, even if few rows in a row are filtered.
        options.execution.parquet.force_filter_selections = true;
        options.execution.parquet.max_predicate_cache_size = Some(cache);
        let context = SessionContext::new_with_config_rt(config, Arc::clone(&self.runtime));
        functions::register(&context);
        Ok(context)
    }

    /// Returns a stream of the rows of `sql`, which reads `table` under the name `name`.
    pub async fn rows(
        &self,
        name: &str,
        table: Arc<dyn TableProvider>,
        sql: &str,
    ) -> Result<SendableRecordBatchStream, DataFusionError> {
        let context = self.session()?;
        context.register_table(name, table)?;
        let plan = planned(&context, sql).await?;
        physical_plan::execute_stream(plan, context.task_ctx())
    }

    /// Returns all rows of `sql`, which reads `table` under the name `name`.
    pub async fn run(
        &self,
        name: &str,
        table: Arc<dyn TableProvider>,
        sql: &str,
    ) -> Result<Vec<RecordBatch>, DataFusionError> {
        self.rows(name, table, sql).await?.try_collect().await
    }

    /// Returns all rows of `sql` as [`Engine::run`] does, if they take at most `limit` bytes.
    ///
    /// # Errors
    /// The query failed, or the rows take more.
    pub async fn run_within(
        &self,
        name: &str,
        table: Arc<dyn TableProvider>,
        sql: &str,
        limit: usize,
    ) -> Result<Vec<RecordBatch>, DataFusionError> {
        collected(self.rows(name, table, sql).await?, limit).await
    }

    /// Returns the plan of `sql`, which reads `table` as `cloudtrail`, as text.
    pub async fn plan(&self, table: Arc<dyn TableProvider>, sql: &str) -> Result<String, DataFusionError> {
        let context = self.session()?;
        context.register_table("cloudtrail", table)?;
        let plan = planned(&context, sql).await?;
        Ok(physical_plan::displayable(plan.as_ref()).indent(false).to_string())
    }
}

/// Returns the number of partitions for which `memory` bytes suffice.
fn partitions(threads: usize, memory: usize) -> usize {
    // At least two: with one partition the engine would sort the rows of each scan and merge them.
    (memory / MEMORY_OF_PARTITION).max(2).min(threads.max(1))
}

impl From<MissingColumn> for DataFusionError {
    fn from(error: MissingColumn) -> DataFusionError {
        DataFusionError::Internal(error.to_string())
    }
}

async fn planned(context: &SessionContext, sql: &str) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    context.sql(sql).await?.create_physical_plan().await
}

/// Returns the rows of `stream`, if they take at most `limit` bytes.
async fn collected(mut stream: SendableRecordBatchStream, limit: usize) -> Result<Vec<RecordBatch>, DataFusionError> {
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(batch) = stream.try_next().await? {
        for column in batch.columns() {
            bytes += column.to_data().get_slice_memory_size()?;
        }
        if bytes > limit {
            return resources_err!("what was found takes more than {} MiB", limit >> 20);
        }
        rows.push(batch);
    }
    Ok(rows)
}

/// Returns the records with the derived fields after their own columns. A derived field is computed only if a query reads
/// it.
fn with_derived_fields(context: &SessionContext, records: DataFrame) -> Result<DataFrame, DataFusionError> {
    let own = records.schema().columns().into_iter().map(|column| Ok(Expr::Column(column)));
    let derived = fields::derived()
        .into_iter()
        .map(|(name, value)| Ok(expressions::logical(context, &value, records.schema())?.alias(name)));
    let columns = own.chain(derived).collect::<Result<Vec<_>, DataFusionError>>()?;
    records.select(columns)
}

/// Returns the records with a time in `range`, or all records if it is unbounded.
fn within(mut records: DataFrame, range: Range) -> Result<DataFrame, DataFusionError> {
    let time = || ident(event::EVENT_TIME);
    if let Some(from) = range.from {
        records = records.filter(time().gt_eq(expressions::timestamp(from)))?;
    }
    if let Some(to) = range.to {
        records = records.filter(time().lt(expressions::timestamp(to)))?;
    }
    Ok(records)
}

/// Returns a table of rows in memory.
pub fn memory_table(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    Ok(Arc::new(MemTable::try_new(schema, vec![batches])?))
}

/// Returns a table of streams of rows.
pub fn streamed_table(
    schema: SchemaRef,
    streams: Vec<Arc<dyn PartitionStream>>,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    Ok(Arc::new(StreamingTable::try_new(schema, streams)?))
}

/// Returns `files` of a lake as a table. Reading a file verifies it with the checksums of its entry.
///
/// # Errors
/// The lake's folder is not on a store that the engine reads, or no file can have the size of an entry.
pub fn lake_table(engine: &Engine, lake: &Lake, files: &[FileEntry]) -> Result<Arc<dyn TableProvider>, Error> {
    let folder = lake.folder().absolute()?;
    let internal = |error: DataFusionError| Error::query("the lake", error);
    let (store, url) = folder.located()?;
    let url = ObjectStoreUrl::parse(url).map_err(internal)?;
    let file = |file: &FileEntry| {
        let location = folder.key(&file.path)?;
        if let Err(damage) = file.recorded().check_sizes() {
            let file = parquet_table::file_name(&url, &location);
            return Err(DataFusionError::External(Box::new(DamagedFile { file, reason: damage.to_string() })));
        }
        let meta = object_store::ObjectMeta {
            location,
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: file.bytes,
            e_tag: None,
            version: None,
        };
        Ok(PartitionedFile::new_from_meta(meta).with_extension(Arc::new(LakeFile::new(file.recorded()))))
    };
    let files = files.iter().map(file).collect::<Result<_, _>>().map_err(internal)?;
    let (schema, threads) = (TableSchema::from(event::schema()), engine.threads);
    Ok(Arc::new(ParquetTable { store, url, schema, files, threads, footers: Footers::new(0, None) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_fields_are_computed_only_where_a_query_asks_for_them() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let engine = Engine::new(1, 64 << 20, &std::env::temp_dir()).unwrap();
        let plan = |sql: &str| {
            let context = engine.session().unwrap();
            let records = context.read_table(memory_table(event::schema(), Vec::new()).unwrap()).unwrap();
            let records = with_derived_fields(&context, records).unwrap();
            context.register_table("cloudtrail", records.into_view()).unwrap();
            let plan = runtime.block_on(planned(&context, sql)).unwrap();
            physical_plan::displayable(plan.as_ref()).indent(false).to_string()
        };
        for asks in ["SELECT actor FROM cloudtrail", "SELECT * FROM cloudtrail"] {
            assert!(plan(asks).contains("actor("), "{}", plan(asks));
        }
        for does_not in ["SELECT count(*) FROM cloudtrail", "SELECT \"eventName\", account FROM cloudtrail"] {
            assert!(!plan(does_not).contains("actor("), "{}", plan(does_not));
        }
    }

    #[test]
    fn what_is_found_is_bounded() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let engine = Engine::new(1, 64 << 20, &std::env::temp_dir()).unwrap();
        let run = |most| {
            let table = memory_table(event::schema(), Vec::new()).unwrap();
            runtime.block_on(engine.run_within("cloudtrail", table, "SELECT unnest(range(0, 1000)) AS number", most))
        };
        let rows = |batches: Vec<RecordBatch>| batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        assert_eq!(rows(run(usize::MAX).unwrap()), 1_000);
        assert_eq!(rows(run(8_000).unwrap()), 1_000);
        let error = Error::query("a query", run(7_999).unwrap_err());
        assert!(error.is_exhausted(), "{error}");
    }
}
