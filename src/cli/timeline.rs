use clap::Args;

use super::data::DataArgs;
use super::range::EventRangeArgs;
use super::{Context, format};
use crate::error::{Error, Status};
use crate::report::timeline::{self as report, TimelineFormat};
use crate::statistics::number_of;
use crate::trace::{self, Activity};

/// List the events between two times: when, who, what, where from and with what result
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny timeline lake/ --from 2026-09-01T10:00:00Z --to 2026-09-01T10:15:00Z\n  tawny timeline lake/ --from 2026-09-01 --to 2026-09-02 --actor alice --format csv -o alice.csv"
)]
pub(super) struct TimelineCommand {
    /// Only the calls of this actor, as rules group by it: a user, a role, a person or a service
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    #[command(flatten)]
    range: EventRangeArgs,
    /// Output format [default: by the ending of `--output`, else table]
    #[arg(long, value_enum)]
    format: Option<TimelineFormat>,
    /// Write the output to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    #[command(flatten)]
    data: DataArgs,
}

impl TimelineCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        Context::check_outputs([&self.output, &None])?;
        let range = self.range.range()?;
        let opened = self.data.open(context, None, "reading").await?;
        let actor = self.actor.as_deref();
        let Activity { events, read, .. } =
            trace::activity(&opened.engine, opened.table.as_ref(), range, actor).await?;
        opened.bar.finish_and_clear();
        context.write(report::encode(&events, format)?, self.output.as_deref()).await?;
        let mut summary = opened.summary(range, "searched");
        summary.has_results = !events.is_empty();
        let status = summary.report(context.output, &read).await?;
        context.output.talk(&number_of(events.len(), "event"));
        Ok(status)
    }
}
