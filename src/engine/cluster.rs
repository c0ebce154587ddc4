//! Queries on a cluster of machines: Apache DataFusion Ballista, whose nodes know the tables and functions of this
//! program.
//!
//! A plan travels as the engine's own messages; a table of Parquet files as the list of them; functions by their names.
//! Credentials never travel: each node finds its own, as this program does everywhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use ballista_core::JobId;
use ballista_core::execution_plans::DistributedQueryExec;
use ballista_core::extension::{SessionConfigExt as _, SessionStateExt as _};
use ballista_core::serde::BallistaLogicalExtensionCodec;
use ballista_core::serde::protobuf::CancelJobParams;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::datasource::file_format::FileFormatFactory;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use datafusion::execution::{SendableRecordBatchStream, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{Extension, LogicalPlan};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{self, ExecutionPlan};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;
use datafusion_proto::logical_plan::LogicalExtensionCodec;
use datafusion_proto::protobuf::LogicalPlanNode;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use serde::{Deserialize, Serialize};
use url::Url;

use super::functions;
use super::parquet_table::ParquetTable;
use crate::error::Error;
use crate::store::Stores;
use crate::time::Period;

pub mod nodes;
pub(super) mod raw_objects;

/// Maximum bytes of a message between nodes. A plan lists the files that it reads, with about 100 bytes each.
const MESSAGE_BYTES: u32 = 256 << 20;

/// The default port of a scheduler.
pub const SCHEDULER_PORT: u16 = 50_050;

/// How long a cluster may take to cancel a query.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(15);

/// Interval between checks for the id of a job that is being submitted.
const JOB_ID_POLL: Duration = Duration::from_millis(20);

/// A cluster, given by its scheduler.
#[derive(Debug, Clone)]
pub struct Cluster {
    scheduler: String,
    partitions: usize,
    timeout: Period,
    running: Arc<Mutex<Vec<Arc<dyn ExecutionPlan>>>>,
}

impl Cluster {
    /// Returns the cluster whose scheduler is at `url`, `df://HOST:PORT`. Its queries have `partitions` partitions; two to four
    /// times the cores of all executors work best. Each query is cancelled after `timeout`.
    ///
    /// # Errors
    /// The URL is of another form.
    pub fn at(url: &str, partitions: usize, timeout: Period) -> std::result::Result<Cluster, Error> {
        let (host, port) = scheduler_of(url)?;
        Ok(Cluster { scheduler: format!("http://{host}:{port}"), partitions, timeout, running: Arc::default() })
    }

    /// Runs `plan` and returns its rows, which may take at most `limit` bytes. A query that fails, or takes longer than the
    /// timeout, is cancelled with all that run at the same time: a scheduler that takes a slow executor for lost may wait
    /// for it without end.
    pub(super) async fn rows(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        limit: usize,
    ) -> Result<Vec<RecordBatch>> {
        let timeout = Duration::from_micros(self.timeout.micros().unsigned_abs());
        self.lock().push(Arc::clone(&plan));
        let mut query =
            tokio::spawn(super::collected(physical_plan::execute_stream(Arc::clone(&plan), context)?, limit));
        let rows = if let Ok(rows) = tokio::time::timeout(timeout, &mut query).await {
            rows.map_err(|error| DataFusionError::External(Box::new(error))).flatten()
        } else {
            let reason = format!(
                "no answer within {}: see the logs of its scheduler and executors, or set a longer `--cluster-timeout`",
                self.timeout
            );
            let late = Error::Cluster { action: "query", place: self.scheduler.clone(), reason };
            Err(DataFusionError::External(Box::new(late)))
        };
        if rows.is_ok() {
            self.lock().retain(|running| !Arc::ptr_eq(running, &plan));
            return rows;
        }
        let running = std::mem::take(&mut *self.lock());
        tokio::time::timeout(CANCEL_TIMEOUT, self.cancel(&running)).await.ok();
        query.abort();
        rows
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<dyn ExecutionPlan>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the jobs of `plans`. A job gets its id when the scheduler has accepted it. Until then it cannot be cancelled
    /// and would run unseen, so the id is waited for.
    async fn cancel(&self, plans: &[Arc<dyn ExecutionPlan>]) -> Option<()> {
        let mut scheduler = SchedulerGrpcClient::connect(self.scheduler.clone()).await.ok()?;
        for plan in plans {
            let job = loop {
                match job_of(plan) {
                    Some(job) => break job,
                    None => tokio::time::sleep(JOB_ID_POLL).await,
                }
            };
            scheduler.cancel_job(CancelJobParams { job_id: job.into() }).await.ok();
        }
        Some(())
    }

    /// Returns a session like `local`, whose queries run on the cluster.
    pub(super) fn session(&self, local: &SessionContext) -> Result<SessionContext> {
        let state = local.state();
        let config = state
            .config()
            .clone()
            .with_ballista_logical_extension_codec(Arc::new(Tables::default()))
            .with_target_partitions(self.partitions)
            .upgrade_for_ballista()
            .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES as usize);
        let state = SessionStateBuilder::new_from_existing(state).with_config(config).build();
        let context = SessionContext::new_with_state(state.upgrade_for_ballista(self.scheduler.clone())?);
        // Ballista has replaced the functions of `local`.
        functions::register(&context);
        raw_objects::register(&context, &Stores::default());
        Ok(context)
    }
}

/// Returns rows as a stream.
pub(super) fn stream(schema: SchemaRef, rows: Vec<RecordBatch>) -> SendableRecordBatchStream {
    Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(rows.into_iter().map(Ok))))
}

/// Returns the job of a plan that runs on a cluster; `None` until the scheduler has accepted it.
fn job_of(plan: &Arc<dyn ExecutionPlan>) -> Option<JobId> {
    match plan.downcast_ref::<DistributedQueryExec<LogicalPlanNode>>() {
        Some(query) => query.job_id(),
        None => plan.children().into_iter().find_map(job_of),
    }
}

/// Parses the address of a scheduler, `df://HOST:PORT`, into host and port.
pub(crate) fn scheduler_of(text: &str) -> std::result::Result<(String, u16), Error> {
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "df" && matches!(url.path(), "" | "/"));
    let host = url.as_ref().and_then(Url::host_str);
    match host.zip(url.as_ref()) {
        Some((host, url)) => Ok((host.to_owned(), url.port().unwrap_or(SCHEDULER_PORT))),
        None => Err(Error::Usage {
            message: format!("`{text}` is not the address of a scheduler"),
            hint: Some(format!("write it as df://HOST:PORT; the default port is {SCHEDULER_PORT}")),
        }),
    }
}

/// A table in a plan that is sent to nodes.
#[derive(Debug, Serialize, Deserialize)]
struct EncodedTable {
    /// The store, as the engine names it.
    url: String,
    /// Number of the last columns whose values are in the paths of the files.
    partition_columns: usize,
    files: Vec<File>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    key: String,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    partitions: Vec<Option<String>>,
}

/// Encodes tables of Parquet files. Everything else is encoded by Ballista.
#[derive(Debug, Default)]
struct Tables {
    others: BallistaLogicalExtensionCodec,
}

impl LogicalExtensionCodec for Tables {
    fn try_decode(&self, buf: &[u8], inputs: &[LogicalPlan], context: &TaskContext) -> Result<Extension> {
        self.others.try_decode(buf, inputs, context)
    }

    fn try_encode(&self, node: &Extension, buf: &mut Vec<u8>) -> Result<()> {
        self.others.try_encode(node, buf)
    }

    fn try_decode_table_provider(
        &self,
        buf: &[u8],
        _name: &TableReference,
        schema: SchemaRef,
        context: &TaskContext,
    ) -> Result<Arc<dyn TableProvider>> {
        let external = |error| DataFusionError::External(Box::new(error));
        let table: EncodedTable = serde_json::from_slice(buf).map_err(external)?;
        let url = ObjectStoreUrl::parse(&table.url)?;
        let store = context.runtime_env().object_store(&url)?;
        let own = schema.fields().len().saturating_sub(table.partition_columns);
        let (own, partitions) = schema.fields().split_at(own);
        let schema = TableSchema::builder(Arc::new(Schema::new(own.to_vec())));
        let schema = schema.with_table_partition_cols(partitions.to_vec()).build();
        let file = |file: File| -> Result<PartitionedFile> {
            let mut part = PartitionedFile::new_from_meta(object_store::ObjectMeta {
                location: object_store::path::Path::parse(&file.key)
                    .map_err(|error| DataFusionError::External(Box::new(error)))?,
                last_modified: chrono::DateTime::UNIX_EPOCH,
                size: file.bytes,
                e_tag: None,
                version: None,
            });
            part.partition_values = file.partitions.into_iter().map(ScalarValue::Utf8).collect();
            Ok(part)
        };
        let files = table.files.into_iter().map(file).collect::<Result<_>>()?;
        let threads = context.session_config().target_partitions();
        Ok(Arc::new(ParquetTable { store, url, schema, files, threads, footers: None }))
    }

    fn try_encode_table_provider(
        &self,
        name: &TableReference,
        table: Arc<dyn TableProvider>,
        buf: &mut Vec<u8>,
    ) -> Result<()> {
        let Some(parquet) = table.downcast_ref::<ParquetTable>() else {
            return self.others.try_encode_table_provider(name, table, buf);
        };
        let text = |value: &ScalarValue| match value {
            ScalarValue::Utf8(text) => Ok(text.clone()),
            other => datafusion::common::internal_err!("the partition value {other} is not a text"),
        };
        let file = |file: &PartitionedFile| {
            Ok(File {
                key: file.object_meta.location.to_string(),
                bytes: file.object_meta.size,
                partitions: file.partition_values.iter().map(text).collect::<Result<_>>()?,
            })
        };
        let encoded = EncodedTable {
            url: parquet.url.to_string(),
            partition_columns: parquet.schema.table_partition_cols().len(),
            files: parquet.files.iter().map(file).collect::<Result<_>>()?,
        };
        serde_json::to_writer(buf, &encoded).map_err(|error| DataFusionError::External(Box::new(error)))
    }

    fn try_decode_file_format(&self, buf: &[u8], context: &TaskContext) -> Result<Arc<dyn FileFormatFactory>> {
        self.others.try_decode_file_format(buf, context)
    }

    fn try_encode_file_format(&self, buf: &mut Vec<u8>, format: Arc<dyn FileFormatFactory>) -> Result<()> {
        self.others.try_encode_file_format(buf, format)
    }
}

/// The disk and the buckets that a node reads with its own credentials. A bucket is opened at its first use.
#[derive(Debug)]
struct Buckets {
    stores: Stores,
    disk: Arc<LocalFileSystem>,
}

impl ObjectStoreRegistry for Buckets {
    fn register_store(&self, _url: &Url, _store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        None
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        match (url.scheme(), url.host_str()) {
            ("file", _) => Ok(Arc::clone(&self.disk) as Arc<dyn ObjectStore>),
            ("s3", Some(bucket)) => {
                // The engine needs a store within a synchronous call.
                let opened = tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(self.stores.bucket(bucket))
                });
                let store = opened.map_err(|error| DataFusionError::External(Box::new(error)))?;
                Ok(store as Arc<dyn ObjectStore>)
            }
            _ => datafusion::common::exec_err!("a node reads neither `{url}` nor what is like it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn text(name: &str) -> Arc<Field> {
        Arc::new(Field::new(name, DataType::Utf8, true))
    }

    #[test]
    fn a_scheduler_has_a_host_and_mostly_a_port() {
        assert_eq!(scheduler_of("df://node-1:7").unwrap(), ("node-1".to_owned(), 7));
        assert_eq!(scheduler_of("df://10.0.0.1").unwrap(), ("10.0.0.1".to_owned(), SCHEDULER_PORT));
        for other in ["node:50050", "http://node:50050", "df://", "df://node/path", ""] {
            assert!(scheduler_of(other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_table_arrives_as_it_was() {
        let file = |key: &str, day: Option<&str>| {
            let mut file = PartitionedFile::new(key, 7);
            file.partition_values = vec![ScalarValue::Utf8(day.map(str::to_owned))];
            file
        };
        let schema = TableSchema::builder(Arc::new(Schema::new(vec![text("eventName")])));
        let table = ParquetTable {
            store: Arc::new(LocalFileSystem::new()),
            url: ObjectStoreUrl::local_filesystem(),
            schema: schema.with_table_partition_cols(vec![text("day")]).build(),
            files: vec![file("a/day=1/x y.parquet", Some("1")), file("a/y.parquet", None)],
            threads: 1,
            footers: None,
        };
        let table: Arc<dyn TableProvider> = Arc::new(table);
        let mut message = Vec::new();
        let name = TableReference::bare("cloudtrail");
        let codec = Tables::default();
        codec.try_encode_table_provider(&name, Arc::clone(&table), &mut message).unwrap();
        let context = SessionContext::new().task_ctx();
        let arrived = codec.try_decode_table_provider(&message, &name, table.schema(), &context).unwrap();
        assert_eq!(arrived.schema(), table.schema());
        let [arrived, sent] = [&arrived, &table].map(|table| table.downcast_ref::<ParquetTable>().unwrap());
        assert_eq!(arrived.files.len(), 2);
        for (arrived, sent) in arrived.files.iter().zip(&sent.files) {
            assert_eq!(arrived.object_meta.location, sent.object_meta.location);
            assert_eq!(arrived.object_meta.size, sent.object_meta.size);
            assert_eq!(arrived.partition_values, sent.partition_values);
        }
    }
}
