use clap::Args;

use super::data::DataArgs;
use super::range::EventRangeArgs;
use super::{Context, TableOrJson, format};
use crate::error::{Error, Status};
use crate::report::trace as report;
use crate::trace::{self, Activity};

/// Count what an actor or an account did, by service, region, account, actor and address
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny summary lake/ --actor alice --from 2026-09-01 --to 2026-09-08\n  tawny summary lake/ --account 111122223333 --format json"
)]
pub(super) struct SummaryCommand {
    /// Only the calls of this actor, as rules group by it: a user, a role, a person or a service
    #[arg(long, value_name = "ACTOR", required_unless_present = "account")]
    actor: Option<String>,
    #[command(flatten)]
    range: EventRangeArgs,
    /// Output format [default: by the ending of `--output`, else table]
    #[arg(long, value_enum)]
    format: Option<TableOrJson>,
    /// Write the output to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    #[command(flatten)]
    data: DataArgs,
}

impl SummaryCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        Context::check_outputs([&self.output, &None])?;
        let range = self.range.range()?;
        let opened = self.data.open(context, None, "reading").await?;
        let actor = self.actor.as_deref();
        let Activity { summary, read, .. } =
            trace::activity(&opened.engine, opened.table.as_ref(), range, actor).await?;
        opened.bar.finish_and_clear();
        let text = match format {
            TableOrJson::Table => report::summary(&summary),
            TableOrJson::Json => report::summary_json(&summary)?,
        };
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        let mut report = opened.summary(range, "searched");
        report.has_results = summary.all.events > 0;
        report.report(context.output, &read).await
    }
}
