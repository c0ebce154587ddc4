use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;

use super::cluster::ClusterArgs;
use super::layouts::LayoutArgs;
use super::outcome::ReadSummary;
use super::raw_input::RawInputArgs;
use super::{Context, SelectionArgs};
use crate::delta::{AsOf, DeltaLog};
use crate::engine::Engine;
use crate::error::Error;
use crate::iceberg::{IcebergSource, IcebergTable};
use crate::lake::Lake;
use crate::output::Output;
use crate::statistics::ScanStatistics;
use crate::store::{Location, Stores, TableFormat};
use crate::table::{PartialLake, RawTrail, Table, TableKind};
use crate::time::Range;

/// The data that a command reads.
#[derive(Debug, Args)]
#[command(next_help_heading = super::DATA)]
pub(super) struct DataArgs {
    /// A lake, a Delta or Iceberg table or Parquet written by another tool, or files, folders or quoted globs of a raw trail; on disk or
    /// `s3://BUCKET/PREFIX`; `-` reads standard input
    #[arg(required = true, value_name = "DATA", help_heading = None::<&str>)]
    data: Vec<String>,
    /// Version of a lake or table to read: its number, the ID of an Iceberg snapshot, or a time at which it was the newest [default: the newest]
    #[arg(long, value_name = "VERSION|TIME")]
    as_of: Option<AsOf>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    raw_input: RawInputArgs,
    #[command(flatten)]
    layout: LayoutArgs,
}

/// Opened data, and the engine resources to query it.
pub(super) struct OpenedData {
    pub(super) engine: Engine,
    pub(super) table: Box<dyn Table>,
    /// Shows how much has been read.
    pub(super) bar: ProgressBar,
    /// Removes the engine's spill folder on drop.
    _spill: tempfile::TempDir,
}

impl OpenedData {
    /// Returns a summary of what was read for `range`. `used` says what was done with the records, such as `queried`.
    pub(super) fn summary(&self, range: Range, used: &'static str) -> ReadSummary<'_> {
        let (engine, table) = (&self.engine, self.table.as_ref());
        let without_times = (range != Range::default()).then_some("no event is in the range");
        ReadSummary { engine, table, range, used, has_results: false, without_times }
    }

    /// Returns a summary of what was read to hunt in `range`.
    pub(super) fn hunt_summary(&self, range: Range) -> ReadSummary<'_> {
        ReadSummary { without_times: Some("no rule can find anything"), ..self.summary(range, "hunted") }
    }

    /// Warns where `--account` or `--region` can split bursts of a raw trail.
    pub(super) fn warn_of_cuts(&self, output: Output) {
        if self.table.kind() == TableKind::Raw && !self.engine.selection.is_all() {
            output.warn(
                "warning: `--account` and `--region` read only the objects of these accounts and regions: bursts that span \
                 others may be incomplete. Events of global services such as IAM are in us-east-1",
            );
        }
    }
}

impl DataArgs {
    /// Returns whether any of the data is in S3.
    pub(super) fn in_s3(&self) -> bool {
        self.data.iter().any(|source| matches!(Location::of(source), Location::S3 { .. }))
    }

    /// Refuses options that only apply to raw trails.
    fn refuse_for_tables(&self) -> Result<(), Error> {
        if self.raw_input.is_given() {
            return Err(Error::Usage {
                message: "`--unwrap` only applies to raw trails".to_owned(),
                hint: Some("remove `--unwrap`".to_owned()),
            });
        }
        self.selection.refuse_for_tables()
    }

    /// Opens the data to query it, on a cluster if `cluster` names one. `action` labels the progress bar.
    pub(super) async fn open(
        &self,
        context: &Context,
        cluster: Option<&ClusterArgs>,
        action: &'static str,
    ) -> Result<OpenedData, Error> {
        let (engine, spill) = context.engine()?;
        let engine = match cluster {
            Some(cluster) => cluster.apply_to(engine)?,
            None => engine,
        };
        let engine = engine.with_selection(self.selection.events());
        let bar = context.output.progress(0, action);
        let table = self.find(context, &engine, bar.clone()).await?;
        Ok(OpenedData { engine, table, bar, _spill: spill })
    }

    /// Finds out whether the data is a lake, a Delta or Iceberg table, another tool's Parquet or a raw trail, and opens it.
    async fn find(&self, context: &Context, engine: &Engine, bar: ProgressBar) -> Result<Box<dyn Table>, Error> {
        if let [one] = self.data.as_slice()
            && let Some(source) = IcebergSource::of(one, catalog_token().as_deref())?
        {
            return Box::pin(self.iceberg_table(&context.stores, engine, &source, &bar)).await;
        }
        let stores = self.raw_input.stores(context, &self.data)?;
        if let [one] = self.data.as_slice() {
            let lake = Lake::open(&stores, &Location::of(one), self.as_of.unwrap_or_default()).await?;
            if lake.exists().await? {
                let lake = lake.pinned().await?;
                self.refuse_for_tables()?;
                self.layout.refuse_for_lakes(one)?;
                Output::count_rows(&bar, engine.scanned.clone());
                return Ok(Box::new(PartialLake::new(lake)));
            }
            let format = stores.readable_format(&Location::of(one)).await?;
            if format == Some(TableFormat::Iceberg) {
                let source = IcebergSource::Folder(Location::of(one));
                return Box::pin(self.iceberg_table(&stores, engine, &source, &bar)).await;
            }
            if format == Some(TableFormat::Delta) {
                self.refuse_for_tables()?;
                let log = DeltaLog::new(stores.folder(&Location::of(one)).await?, None);
                let version = log.version(self.as_of.unwrap_or_default()).await?;
                let table = self.layout.table(&stores, engine, one, version.parquet_files().await?).await?;
                Output::count_rows(&bar, engine.scanned.clone());
                return Ok(Box::new(table));
            }
        }
        if self.as_of.is_some() {
            return Err(Error::Usage {
                message: format!(
                    "`--as-of` only applies to a lake, a Delta table or an Iceberg table, and `{}` is none",
                    self.data.join(" ")
                ),
                hint: Some("remove `--as-of`, or name one table by its folder".to_owned()),
            });
        }
        if let Some(columnar) = self.layout.columnar(&stores, engine, &self.data).await? {
            self.refuse_for_tables()?;
            Output::count_rows(&bar, engine.scanned.clone());
            return Ok(Box::new(columnar));
        }
        let progress = move |total, statistics: &ScanStatistics| {
            bar.set_length(total);
            bar.set_position(statistics.stored_bytes);
        };
        Ok(Box::new(RawTrail::new(
            stores,
            self.data.clone(),
            self.selection.selection(Range::default()),
            context.in_flight(&self.data),
            Arc::new(progress),
        )))
    }

    /// Opens an Iceberg table.
    async fn iceberg_table(
        &self,
        stores: &Stores,
        engine: &Engine,
        source: &IcebergSource,
        bar: &ProgressBar,
    ) -> Result<Box<dyn Table>, Error> {
        self.refuse_for_tables()?;
        let table = IcebergTable::open(stores, source, self.as_of.unwrap_or_default()).await?;
        let files = table.parquet_files(stores).await?;
        let table = self.layout.table(stores, engine, &source.to_string(), files).await?;
        Output::count_rows(bar, engine.scanned.clone());
        Ok(Box::new(table))
    }
}

/// Returns the bearer token for Iceberg catalogs.
#[expect(clippy::disallowed_methods, reason = "a secret must not be an argument, which other users can see")]
fn catalog_token() -> Option<String> {
    std::env::var("TAWNY_ICEBERG_TOKEN").ok().filter(|token| !token.is_empty())
}
