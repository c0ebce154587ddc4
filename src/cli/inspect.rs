use clap::Args;

use super::Context;
use super::data::DataArgs;
use super::outcome::ReadSummary;
use crate::error::{Error, Status};
use crate::inspect::{self, InspectOutcome};
use crate::report::inspection;
use crate::table::{Listing, TableKind};
use crate::text::json;
use crate::time::{self, Range};

/// Look at data before hunting: how much, of whom, from when to when, and the gaps between
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny inspect trail/\n  tawny inspect s3://logs/AWSLogs --from 2026-09-01 --format json\n  tawny inspect trail/ --read\n\nA raw trail is only listed: accounts, regions and days come from the names of objects. With `--read` they come from the records."
)]
pub(super) struct Inspect {
    #[command(flatten)]
    data: DataArgs,
    /// Only what may lie at this time or later
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    from: Option<i64>,
    /// Only what may lie before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    to: Option<i64>,
    /// Read the records of a raw trail too: accounts, regions and days then come from them
    #[arg(long)]
    read: bool,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    format: InspectFormat,
    /// Write it to this file, or `s3://BUCKET/KEY`, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
}

/// How an inspection is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum InspectFormat {
    /// Tables for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

impl Inspect {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let (resources, _spill) = context.resources()?;
        let resources = resources.with_selection(self.data.events());
        let range = Range { from: self.from, to: self.to };
        let bar = context.output.progress(0, "looking");
        let table = self.data.open(context, &resources, bar.clone()).await?;
        let table = table.as_ref();
        let InspectOutcome { inspection: found, read } = inspect::inspect(&resources, table, range, self.read).await?;
        bar.finish_and_clear();
        let text = match self.format {
            InspectFormat::Table => inspection::table(&found),
            InspectFormat::Json => {
                json::pretty(&found).map_err(|error| Error::Internal(format!("an inspection as JSON: {error}")))?
            }
        };
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        if let Some(duplicates) = &found.duplicates {
            context.output.duplicates(duplicates, "records");
        }
        if found.objects > 0 && found.telling_keys == Some(0) && !self.read {
            context
                .output
                .talk("note: no object key tells account, region and day; `--read` tells them from the records");
        }
        let summary = ReadSummary { resources: &resources, table, range, used: "read", has_results: false };
        let is_read = if self.read && table.kind() == TableKind::Raw {
            summary.report(context, &read).await?
        } else {
            let found = found.records.unwrap_or(found.objects);
            summary
                .report_listing(context.output, &Listing { objects: found, excluded: read, ..Listing::default() })
                .await?
        };
        let is_complete = is_read && found.faults.is_empty();
        Ok(if is_complete { Status::Done } else { Status::Incomplete })
    }
}
