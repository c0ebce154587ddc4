//! Where queries run: here, or on a cluster; and the nodes of one.

use clap::Args;

use crate::engine::Resources;
use crate::error::Error;
use crate::time::Period;

#[cfg(feature = "cluster")]
pub(super) use nodes::Nodes;

/// Where queries run.
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    /// Query a lake, or Parquet of another tool, on the cluster whose scheduler is at `df://HOST:PORT`
    #[arg(long, value_name = "URL", hide = !cfg!(feature = "cluster"))]
    cluster: Option<String>,
    /// Parts that a query on a cluster is divided into; best a few times the cores of all executors
    #[arg(long, value_name = "N", default_value_t = 16, hide = !cfg!(feature = "cluster"), requires = "cluster")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=4096))]
    partitions: u16,
    /// How long a query on a cluster may take until it is given up
    #[arg(long, value_name = "PERIOD", default_value = "1h", hide = !cfg!(feature = "cluster"), requires = "cluster")]
    cluster_timeout: Period,
}

impl ClusterArgs {
    /// The same resources, whose queries run where they are to.
    pub(super) fn applied(&self, resources: Resources) -> Result<Resources, Error> {
        let Some(url) = &self.cluster else {
            return Ok(resources);
        };
        #[cfg(feature = "cluster")]
        return Ok(resources.with_cluster(crate::engine::cluster::Cluster::at(
            url,
            self.partitions.into(),
            self.cluster_timeout,
        )?));
        #[cfg(not(feature = "cluster"))]
        Err(Error::Usage {
            message: format!("this build cannot query a cluster such as `{url}`"),
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
    pub(in crate::cli) struct Nodes {
        #[command(subcommand)]
        node: Node,
    }

    #[derive(Debug, Subcommand)]
    enum Node {
        Scheduler(SchedulerArgs),
        Executor(ExecutorArgs),
    }

    /// Start the scheduler, which plans queries and gives their parts to executors
    ///
    /// Nothing is encrypted and nobody is asked who they are: it is for networks that nobody else reaches.
    #[derive(Debug, Args)]
    #[command(
        after_help = "Examples:\n  tawny cluster scheduler\n  tawny cluster scheduler --bind 10.0.0.1:50050 --s3-region eu-west-1"
    )]
    struct SchedulerArgs {
        /// Where it listens
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:50050")]
        bind: SocketAddr,
    }

    /// Start an executor, which reads data and computes for a scheduler
    ///
    /// Nothing is encrypted and nobody is asked who they are: it is for networks that nobody else reaches. `--threads` and
    /// `--memory` tell how much of the machine it uses.
    #[derive(Debug, Args)]
    #[command(
        after_help = "Examples:\n  tawny cluster executor --scheduler df://10.0.0.1:50050 --bind 10.0.0.2 --memory 8192\n  tawny cluster executor --scheduler df://127.0.0.1:50050 --port 50061 --grpc-port 50062"
    )]
    struct ExecutorArgs {
        /// Where the scheduler is
        #[arg(long, value_name = "URL", default_value = "df://127.0.0.1:50050")]
        scheduler: String,
        /// The address at which it listens
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
        bind: IpAddr,
        /// The name or address by which the scheduler, the other executors and `--cluster` reach it [default: the one at
        /// which it listens]
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
        /// The port at which results are fetched
        #[arg(long, default_value_t = 50051)]
        port: u16,
        /// The port at which the scheduler gives orders
        #[arg(long, default_value_t = 50052)]
        grpc_port: u16,
        /// The folder for what goes to disk and what is passed on [default: a new one in the temporary folder]
        #[arg(long, value_name = "DIR")]
        work_dir: Option<PathBuf>,
    }

    impl ExecutorArgs {
        /// By what the others reach it.
        fn host(&self) -> Result<String, Error> {
            match &self.host {
                Some(host) => Ok(host.clone()),
                None if self.bind.is_unspecified() => Err(Error::Usage {
                    message: format!("by `{}` nobody reaches an executor", self.bind),
                    hint: Some("say with `--host` by which name or address the others do".to_owned()),
                }),
                None => Ok(self.bind.to_string()),
            }
        }
    }

    impl Nodes {
        pub(in crate::cli) async fn run(&self, context: &Context) -> Result<Status, Error> {
            let stores = context.stores.clone();
            match &self.node {
                Node::Scheduler(SchedulerArgs { bind }) => {
                    context.output.talk(&format!("scheduling at df://{bind}"));
                    schedule(*bind, stores).await?;
                }
                Node::Executor(node) => {
                    let host = node.host()?;
                    let own = context.scratch.folder_in(&std::env::temp_dir())?;
                    let folder = node.work_dir.as_deref().unwrap_or(own.path());
                    store::create_folder(folder)?;
                    context.output.talk(&format!("working at {}:{} for {}", node.bind, node.port, node.scheduler));
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
                    Box::pin(executor.serve(stores)).await?;
                }
            }
            Ok(Status::Done)
        }
    }
}
