use clap::Args;

use super::data::DataArgs;
use super::outcome::ReadSummary;
use super::{Context, TableOrJson, format};
use crate::error::{Error, Status};
use crate::inspect::{self, InspectOutcome};
use crate::report::inspection;
use crate::table::{TableKind, TableListing};
use crate::text::json;
use crate::time::{Instant, Range};

/// Show the size, accounts, days and gaps of data before hunting
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny inspect trail/\n  tawny inspect s3://logs/AWSLogs --from 2026-09-01 --format json\n  tawny inspect trail/ --read\n\nA raw trail is only listed: accounts, regions and days come from object keys. With `--read` they come from the records."
)]
pub(super) struct InspectCommand {
    #[command(flatten)]
    data: DataArgs,
    /// Only data that may hold events at or after this time
    #[arg(long, value_name = "TIME", help_heading = super::RANGE)]
    from: Option<Instant>,
    /// Only data that may hold events before this time
    #[arg(long, value_name = "TIME", help_heading = super::RANGE)]
    to: Option<Instant>,
    /// Read the records of a raw trail too, and take accounts, regions and days from them
    #[arg(long)]
    read: bool,
    /// Output format [default: by the ending of `--output`, else table]
    #[arg(long, value_enum, help_heading = super::OUTPUT)]
    format: Option<TableOrJson>,
    /// Write the output to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = super::OUTPUT)]
    output: Option<String>,
}

impl InspectCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        Context::check_outputs([&self.output, &None])?;
        let range = Range { from: self.from, to: self.to };
        let opened = self.data.open(context, None, "inspecting").await?;
        let table = opened.table.as_ref();
        let InspectOutcome { inspection: found, read } =
            inspect::inspect(&opened.engine, table, range, self.read).await?;
        opened.bar.finish_and_clear();
        let text = match format {
            TableOrJson::Table => inspection::table(&found),
            TableOrJson::Json => {
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
                .talk("note: object keys show no account, region or day; use `--read` to take them from the records");
        }
        // The inspection itself counts records without a time.
        let summary = ReadSummary { without_times: None, ..opened.summary(range, "read") };
        let status = if self.read && table.kind() == TableKind::Raw {
            summary.report(context.output, &read).await?
        } else {
            let objects = found.records.unwrap_or(found.objects);
            let listing = TableListing { objects, excluded: read, ..TableListing::default() };
            summary.report_listing(context.output, &listing).await?
        };
        Ok(if found.faults.is_empty() { status } else { Status::Incomplete })
    }
}
