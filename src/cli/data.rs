use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;

use super::layouts::LayoutArgs;
use super::raw_input::RawInputArgs;
use super::{Context, SelectionArgs};
use crate::engine::{EventSelection, Resources};
use crate::error::Error;
use crate::lake::Lake;
use crate::output::Output;
use crate::statistics::ScanStatistics;
use crate::store::Location;
use crate::table::{RawTrail, Table, TableKind};
use crate::time::Range;

/// What is read.
#[derive(Debug, Args)]
pub(super) struct DataArgs {
    /// A lake, Parquet of another tool, or files, folders or quoted globs of a raw trail; on disk or `s3://BUCKET/PREFIX`;
    /// `-` is standard input
    #[arg(required = true, value_name = "DATA")]
    data: Vec<String>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    raw_input: RawInputArgs,
    #[command(flatten)]
    layout: LayoutArgs,
}

impl DataArgs {
    /// Whether any of it lies in S3.
    pub(super) fn in_s3(&self) -> bool {
        self.data.iter().any(|source| matches!(Location::of(source), Location::S3 { .. }))
    }

    /// Makes sure that nothing was asked of a table that only raw objects have.
    fn refuse_for_tables(&self) -> Result<(), Error> {
        if self.raw_input.is_given() {
            return Err(Error::Usage {
                message: "`--unwrap` names a path in raw JSON, and this is a table".to_owned(),
                hint: Some("leave it out; a lake holds the records themselves".to_owned()),
            });
        }
        self.selection.refuse_for_tables()
    }

    /// The events that were asked for.
    pub(super) fn events(&self) -> EventSelection {
        self.selection.events()
    }

    /// Warns where the selection may cut bursts of a raw trail.
    pub(super) fn warn_of_cuts(&self, output: Output, table: &dyn Table) {
        if table.kind() == TableKind::Raw && !self.events().is_all() {
            output.warn(
                "warning: with `--account` or `--region` only objects of these are read: bursts that span others may be cut, \
                 and events of global services such as IAM lie in us-east-1",
            );
        }
    }

    /// Opens the data as a table. `bar` shows how much of a raw trail has been read.
    pub(super) async fn open(
        &self,
        context: &Context,
        resources: &Resources,
        bar: ProgressBar,
    ) -> Result<Box<dyn Table>, Error> {
        let stores = self.raw_input.stores(context, &self.data)?;
        if let [one] = self.data.as_slice() {
            let lake = Lake::open(&stores, &Location::of(one)).await?;
            if lake.exists().await? {
                self.refuse_for_tables()?;
                self.layout.refuse_for_lakes(one)?;
                Output::count_rows(&bar, resources.scanned.clone());
                return Ok(Box::new(lake));
            }
        }
        if let Some(columnar) = self.layout.columnar(&stores, resources, &self.data).await? {
            self.refuse_for_tables()?;
            Output::count_rows(&bar, resources.scanned.clone());
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
}
