//! The nodes of a cluster: a scheduler, and executors.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use ballista_core::extension::SessionConfigExt as _;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use datafusion::error::Result;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::prelude::{SessionConfig, SessionContext};

use super::codec::PlanCodec;
use super::stages::{StagePlanner, Stages};
use super::{Buckets, MESSAGE_BYTES, raw_objects, scheduler_of};
use crate::engine::functions;
use crate::error::Error;
use crate::store::Stores;

/// Seconds between two heartbeats of an executor.
const HEARTBEAT: u64 = 5;
/// Seconds without a heartbeat after which an executor counts as lost and its tasks go to others.
const LOST_AFTER: u64 = 20;
/// Seconds between two searches for lost executors.
const LOOKED_FOR: u64 = 5;

/// An executor.
#[derive(Debug, Clone)]
pub struct Executor<'e> {
    /// The address of its scheduler, `df://HOST:PORT`.
    pub scheduler: &'e str,
    /// The address on which it listens.
    pub bind: IpAddr,
    /// The name or address that other nodes use.
    pub host: String,
    /// The port from which others fetch results.
    pub port: u16,
    /// The port to which the scheduler sends tasks.
    pub grpc_port: u16,
    /// Number of tasks at a time.
    pub threads: usize,
    /// Bytes that its tasks share for sorting and grouping. Larger amounts go to disk.
    pub memory: usize,
    /// The folder for spilled data and for results that others fetch.
    pub folder: &'e Path,
}

/// Runs a scheduler at `address` until the process ends. Its plans may have `stages`.
///
/// # Errors
/// It cannot listen at the address.
pub async fn schedule(address: SocketAddr, stores: Stores, stages: Arc<dyn Stages>) -> std::result::Result<(), Error> {
    let failed = |error: ballista_core::error::BallistaError| node("schedule at", &address.to_string(), &error);
    let codec = Arc::new(PlanCodec::new(Arc::clone(&stages)));
    let builder = move |config: SessionConfig| {
        let state = SessionStateBuilder::new_from_existing(state(config, runtime(&stores, None)?, &stores));
        let planner = StagePlanner { stages: Arc::clone(&stages) };
        Ok(state.with_query_planner(Arc::new(planner)).build())
    };
    let config = SchedulerConfig {
        bind_host: address.ip().to_string(),
        bind_port: address.port(),
        external_host: address.ip().to_string(),
        executor_timeout_seconds: LOST_AFTER,
        expire_dead_executor_interval_seconds: LOOKED_FOR,
        no_executors_grace_period_seconds: LOST_AFTER,
        grpc_server_max_decoding_message_size: MESSAGE_BYTES,
        grpc_server_max_encoding_message_size: MESSAGE_BYTES,
        grpc_client_max_message_size: MESSAGE_BYTES,
        override_session_builder: Some(Arc::new(builder)),
        override_logical_codec: Some(Arc::clone(&codec) as _),
        override_physical_codec: Some(codec),
        ..SchedulerConfig::default()
    };
    let cluster = BallistaCluster::new_from_config(&config).await.map_err(failed)?;
    start_server(cluster, address, Arc::new(config)).await.map_err(failed)
}

impl Executor<'_> {
    /// Runs this executor until it is stopped or the process ends. It has `stages`.
    ///
    /// # Errors
    /// It cannot listen, or its scheduler cannot be reached.
    pub async fn serve(self, stores: Stores, stages: Arc<dyn Stages>) -> std::result::Result<(), Error> {
        let codec = Arc::new(PlanCodec::new(stages));
        let (scheduler_host, scheduler_port) = scheduler_of(self.scheduler)?;
        let own = SessionConfig::new_with_ballista();
        let known = runtime(&stores, None).map_err(|error| Error::query("the functions of a node", error))?;
        let functions = BallistaFunctionRegistry::from(&state(own, known, &stores));
        let folder = self.folder.to_path_buf();
        let spill = folder.clone();
        let config = ExecutorProcessConfig {
            bind_host: self.bind.to_string(),
            external_host: Some(self.host),
            port: self.port,
            grpc_port: self.grpc_port,
            scheduler_host,
            scheduler_port,
            scheduler_connect_timeout_seconds: 30,
            vcores: self.threads,
            work_dir: Some(folder.display().to_string()),
            executor_heartbeat_interval_seconds: HEARTBEAT,
            memory_pool_size: Some(self.memory as u64),
            grpc_max_decoding_message_size: MESSAGE_BYTES,
            grpc_max_encoding_message_size: MESSAGE_BYTES,
            override_function_registry: Some(Arc::new(functions)),
            override_runtime_producer: Some(Arc::new(move |_| runtime(&stores, Some(&spill)))),
            override_logical_codec: Some(Arc::clone(&codec) as _),
            override_physical_codec: Some(codec),
            ..ExecutorProcessConfig::default()
        };
        let failed = |error| node("work for", self.scheduler, &error);
        start_executor_process(Arc::new(config)).await.map_err(failed)
    }
}

fn node(action: &'static str, place: &str, error: &ballista_core::error::BallistaError) -> Error {
    Error::Cluster { action, place: place.to_owned(), reason: error.to_string() }
}

fn runtime(stores: &Stores, spill: Option<&Path>) -> Result<Arc<RuntimeEnv>> {
    let buckets = Buckets { stores: stores.clone(), disk: Arc::default() };
    let builder = RuntimeEnvBuilder::new().with_object_store_registry(Arc::new(buckets));
    match spill {
        Some(folder) => builder.with_temp_file_path(folder).build_arc(),
        None => builder.build_arc(),
    }
}

/// Returns the session state of a node, with all functions that a plan may call.
fn state(config: SessionConfig, runtime: Arc<RuntimeEnv>, stores: &Stores) -> SessionState {
    let context = SessionContext::new_with_config_rt(config, runtime);
    functions::register(&context);
    raw_objects::register(&context, stores);
    context.state()
}
