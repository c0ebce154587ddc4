//! Options to query a cluster, and the commands that run its nodes.

use clap::Args;

use crate::engine::Engine;
use crate::error::Error;
use crate::time::Period;

#[cfg(feature = "cluster")]
pub(super) use nodes::ClusterCommand;

/// Where queries run.
#[derive(Debug, Args)]
#[command(next_help_heading = super::CLUSTER)]
pub(super) struct ClusterArgs {
    /// Scan the data on the cluster with its scheduler at `df://HOST:PORT`
    #[arg(long, value_name = "URL", hide = !cfg!(feature = "cluster"))]
    cluster: Option<String>,
    /// Number of partitions of a cluster query; a few times the cores of all executors works best
    #[arg(long, value_name = "N", default_value_t = 16, hide = !cfg!(feature = "cluster"), requires = "cluster")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    partitions: u16,
    /// Cancel a cluster query after this long
    #[arg(long, value_name = "PERIOD", default_value = "1h", hide = !cfg!(feature = "cluster"), requires = "cluster")]
    cluster_timeout: Period,
}

impl ClusterArgs {
    /// Returns `engine` with queries directed to the cluster, if one was given.
    pub(super) fn apply_to(&self, engine: Engine) -> Result<Engine, Error> {
        let Some(url) = &self.cluster else {
            return Ok(engine);
        };
        #[cfg(feature = "cluster")]
        return Ok(engine.with_cluster(crate::engine::cluster::Cluster::at(
            url,
            self.partitions.into(),
            self.cluster_timeout,
            crate::hunt::stages(),
        )?));
        #[cfg(not(feature = "cluster"))]
        Err(Error::Usage {
            message: format!("cannot query `{url}`: tawny was built without cluster support"),
            hint: Some("build it with `cargo build --release --features cluster`".to_owned()),
        })
    }
}

#[cfg(feature = "cluster")]
mod nodes {
    use std::net::{IpAddr, SocketAddr};
    use std::path::PathBuf;

    use clap::{Args, Subcommand};

    use crate::cli::Context;
    use crate::engine::cluster::nodes::{Executor, schedule};
    use crate::error::{Error, Status};
    use crate::store;

    /// Start a node of a cluster
    #[derive(Debug, Args)]
    #[command(
        after_help = "Examples:\n  tawny cluster scheduler --bind 10.0.0.1:50050\n  tawny cluster executor --scheduler df://10.0.0.1:50050 --bind 10.0.0.2 --memory 8192\n  tawny hunt s3://lake/cloudtrail --cluster df://10.0.0.1:50050"
    )]
    pub(in crate::cli) struct ClusterCommand {
        #[command(subcommand)]
        node: Node,
    }

    #[derive(Debug, Subcommand)]
    enum Node {
        Scheduler(SchedulerArgs),
        Executor(ExecutorArgs),
    }

    /// Start the scheduler, which plans queries and assigns their tasks to executors
    ///
    /// There is no encryption and no authentication. Use it only on a trusted network.
    #[derive(Debug, Args)]
    #[command(
        after_help = "Examples:\n  tawny cluster scheduler\n  tawny cluster scheduler --bind 10.0.0.1:50050 --s3-region eu-west-1"
    )]
    struct SchedulerArgs {
        /// Address to listen on
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50050")]
        bind: SocketAddr,
    }

    /// Start an executor, which reads data and runs tasks for a scheduler
    ///
    /// There is no encryption and no authentication. Use it only on a trusted network. `--threads` and `--memory` limit
    /// how much of the machine it uses.
    #[derive(Debug, Args)]
    #[command(
        after_help = "Examples:\n  tawny cluster executor --scheduler df://10.0.0.1:50050 --bind 10.0.0.2 --memory 8192\n  tawny cluster executor --scheduler df://127.0.0.1:50050 --port 50061 --grpc-port 50062"
    )]
    struct ExecutorArgs {
        /// URL of the scheduler
        #[arg(long, value_name = "URL", default_value = "df://127.0.0.1:50050")]
        scheduler: String,
        /// Address to listen on
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
        bind: IpAddr,
        /// Host name or address that the scheduler, the other executors and hunts use to reach it [default: the address
        /// it listens on]
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// Port that serves results
        #[arg(long, default_value_t = 50051)]
        port: u16,
        /// Port that receives tasks from the scheduler
        #[arg(long, default_value_t = 50052)]
        grpc_port: u16,
        /// Folder for spill and shuffle files [default: a new one in the temporary folder]
        #[arg(long, value_name = "DIR")]
        work_dir: Option<PathBuf>,
    }

    impl ExecutorArgs {
        /// Returns the host under which other nodes reach this executor.
        fn host(&self) -> Result<String, Error> {
            match &self.host {
                Some(host) => Ok(host.clone()),
                None if self.bind.is_unspecified() => Err(Error::Usage {
                    message: format!("other nodes cannot connect to `{}`", self.bind),
                    hint: Some("add `--host` with a host name or address that they can reach".to_owned()),
                }),
                None => Ok(self.bind.to_string()),
            }
        }
    }

    impl ClusterCommand {
        pub(in crate::cli) async fn run(&self, context: &Context) -> Result<Status, Error> {
            let stores = context.stores.clone();
            match &self.node {
                Node::Scheduler(SchedulerArgs { bind }) => {
                    context.output.talk(&format!("scheduler listening on df://{bind}"));
                    schedule(*bind, stores, crate::hunt::stages()).await?;
                }
                Node::Executor(node) => {
                    let host = node.host()?;
                    let own = context.scratch.folder_in(&std::env::temp_dir())?;
                    let folder = node.work_dir.as_deref().unwrap_or(own.path());
                    store::create_folder(folder)?;
                    context
                        .output
                        .talk(&format!("executor listening on {}:{} for {}", node.bind, node.port, node.scheduler));
                    let executor = Executor {
                        scheduler: &node.scheduler,
                        bind: node.bind,
                        host,
                        port: node.port,
                        grpc_port: node.grpc_port,
                        threads: context.threads,
                        memory: context.memory,
                        folder,
                    };
                    Box::pin(executor.serve(stores, crate::hunt::stages())).await?;
                }
            }
            Ok(Status::Done)
        }
    }
}
