//! Queries on a cluster of machines: Apache DataFusion Ballista, whose nodes know the tables and functions of this
//! program.
//!
//! A plan travels as the engine's own messages; a table of Parquet files as the list of them; functions by their names.
//! Credentials never travel: each node finds its own, as this program does everywhere.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use ballista_core::JobId;
use ballista_core::execution_plans::DistributedQueryExec;
use ballista_core::extension::{SessionConfigExt as _, SessionStateExt as _};
use ballista_core::serde::protobuf::CancelJobParams;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use datafusion::execution::{SessionStateBuilder, TaskContext};
use datafusion::physical_plan::{self, ExecutionPlan};
use datafusion::prelude::SessionContext;
use datafusion_proto::protobuf::LogicalPlanNode;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use url::Url;

use super::functions;
use crate::error::Error;
use crate::store::Stores;
use crate::time::Period;

mod codec;
pub mod exchange;
pub mod matches;
pub mod nodes;
mod raw_objects;
pub mod stages;
pub mod value_lists;

use codec::PlanCodec;
use stages::Stages;

/// Maximum bytes of a message between nodes. A plan lists the files that it reads, with about 100 bytes each, and may have value lists.
const MESSAGE_BYTES: u32 = 2 << 30;

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
    stages: Arc<dyn Stages>,
    /// Bytes of all rows that queries have returned.
    returned: Arc<AtomicU64>,
    running: Arc<Mutex<Vec<Arc<dyn ExecutionPlan>>>>,
}

impl Cluster {
    /// Returns the cluster whose scheduler is at `url`, `df://HOST:PORT`. Its queries have `partitions` partitions; two to four
    /// times the cores of all executors work best. Each query is cancelled after `timeout`. Its nodes have `stages`.
    ///
    /// # Errors
    /// The URL is of another form.
    pub fn at(
        url: &str,
        partitions: usize,
        timeout: Period,
        stages: Arc<dyn Stages>,
    ) -> std::result::Result<Cluster, Error> {
        let (host, port) = scheduler_of(url)?;
        let scheduler = format!("http://{host}:{port}");
        Ok(Cluster { scheduler, partitions, timeout, stages, returned: Arc::default(), running: Arc::default() })
    }

    /// Runs `plan` and returns its rows, which may take at most `limit` bytes. A query that fails, or takes longer than the
    /// timeout, is cancelled, and all concurrent queries with it, because a scheduler may wait forever for a slow executor
    /// that it believes lost.
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
        if let Ok(rows) = &rows {
            let bytes: usize = rows.iter().map(RecordBatch::get_array_memory_size).sum();
            self.returned.fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
            self.lock().retain(|running| !Arc::ptr_eq(running, &plan));
        }
        if rows.is_ok() {
            return rows;
        }
        let running = std::mem::take(&mut *self.lock());
        tokio::time::timeout(CANCEL_TIMEOUT, self.cancel(&running)).await.ok();
        query.abort();
        rows
    }

    /// Returns the bytes of all rows that queries have returned so far.
    pub fn returned_bytes(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<dyn ExecutionPlan>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels the jobs of `plans`. A job gets its id when the scheduler has accepted it. Until then it cannot be cancelled
    /// and would run unseen, so this waits for the id.
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
            .with_ballista_logical_extension_codec(Arc::new(PlanCodec::new(Arc::clone(&self.stages))))
            .with_target_partitions(self.partitions)
            .upgrade_for_ballista()
            // The adaptive planner does not support custom plan nodes.
            .with_ballista_adaptive_query_planner(false)
            .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES as usize);
        let state = SessionStateBuilder::new_from_existing(state).with_config(config).build();
        let context = SessionContext::new_with_state(state.upgrade_for_ballista(self.scheduler.clone())?);
        // Ballista has replaced the functions of `local`.
        functions::register(&context);
        raw_objects::register(&context, &Stores::default());
        Ok(context)
    }
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
            _ => datafusion::common::exec_err!("nodes cannot read `{url}`: only file:// and s3:// are supported"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_has_a_host_and_mostly_a_port() {
        assert_eq!(scheduler_of("df://node-1:7").unwrap(), ("node-1".to_owned(), 7));
        assert_eq!(scheduler_of("df://10.0.0.1").unwrap(), ("10.0.0.1".to_owned(), SCHEDULER_PORT));
        for other in ["node:50050", "http://node:50050", "df://", "df://node/path", ""] {
            assert!(scheduler_of(other).is_err(), "{other}");
        }
    }
}
