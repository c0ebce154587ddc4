use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::ProgressBar;

use super::layouts::LayoutArgs;
use super::{Context, RuleArgs, SelectionArgs};
use crate::error::{Error, Status};
use crate::hunt::{self, Data, RawTrail};
use crate::lake::Lake;
use crate::report::{self, Format};
use crate::store::Location;
use crate::tally::Tally;
use crate::time::{self, Period, Range};

/// Hunt a lake or a raw trail for the rules' findings
///
/// A raw trail is hunted in place, without converting it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny hunt trail/\n  tawny hunt lake/ --from 2026-09-01 --to 2026-10-01 --threshold 3 --period 30m\n  tawny hunt s3://logs/AWSLogs --from 2026-09-01 --to 2026-09-02 --account 111122223333\n  tawny hunt lake/ --last 24h --format jsonl -o findings.jsonl --fail-on-findings"
)]
pub(super) struct Hunt {
    /// A lake, or files, folders or quoted globs of a raw trail; on disk or s3://BUCKET/PREFIX
    #[arg(required = true, value_name = "DATA")]
    data: Vec<String>,
    #[command(flatten)]
    rules: RuleArgs,
    /// Findings triggered at this time or later: a date or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    from: Option<i64>,
    /// Findings triggered before this time
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    to: Option<i64>,
    /// Findings triggered within this long before now
    #[arg(long, value_name = "PERIOD", conflicts_with_all = ["from", "to"])]
    last: Option<Period>,
    #[command(flatten)]
    selection: SelectionArgs,
    #[command(flatten)]
    layout: LayoutArgs,
    /// How findings are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Write the findings to this file in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// End with exit code 1 where there are findings that are alerts
    #[arg(long)]
    fail_on_findings: bool,
}

impl Hunt {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let rules = self.rules.choose(context.output)?;
        let range = self.range()?;
        let (resources, _spill) = context.resources()?;
        let bar = context.output.progress(0, "hunting");
        let data = match self.lake(context).await? {
            Some(lake) => Data::Lake(lake),
            None => match self.layout.columnar(context, &resources, &self.data).await? {
                Some(columnar) => Data::Columnar(Arc::new(columnar)),
                None => Data::Raw(Arc::new(self.raw(context, bar.clone()))),
            },
        };
        let findings = hunt::evaluate(&resources, &data, &rules, range).await?;
        bar.finish_and_clear();
        let text = if self.rules.compares() && self.format == Format::Table {
            report::windows::side_by_side(&findings)
        } else {
            report::findings(&findings, self.format)?
        };
        context.output.result(&text, self.output.as_deref())?;
        let mut status = Status::Done;
        if self.fail_on_findings && findings.iter().any(|finding| finding.alert) {
            status = Status::Findings;
        }
        if let Data::Raw(trail) = &data {
            let tally = trail.tally();
            context.output.tally(&tally, "hunted");
            if tally.objects.read == 0 {
                context.output.warn("warning: no objects were found");
            }
            if tally.is_incomplete() || tally.objects.read == 0 {
                status = Status::Incomplete;
            }
        }
        let ids: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        context.output.talk(&format!("{} findings of {} rules", findings.len(), ids.len()));
        Ok(status)
    }

    /// The lake that is to be hunted, if it is one.
    async fn lake(&self, context: &Context) -> Result<Option<Lake>, Error> {
        let [one] = self.data.as_slice() else {
            return Ok(None);
        };
        let lake = Lake::open(&context.stores, &Location::of(one)).await?;
        Ok(lake.exists().await?.then_some(lake))
    }

    fn raw(&self, context: &Context, bar: ProgressBar) -> RawTrail {
        let progress = move |total, tally: &Tally| {
            bar.set_length(total);
            bar.set_position(tally.stored_bytes);
        };
        RawTrail::new(
            context.stores.clone(),
            self.data.clone(),
            self.selection.selection(Range::default()),
            context.in_flight(&self.data),
            Arc::new(progress),
        )
    }

    fn range(&self) -> Result<Range, Error> {
        let range = match self.last {
            None => Range { from: self.from, to: self.to },
            Some(last) => {
                #[expect(clippy::disallowed_methods, reason = "`--last` counts back from now")]
                let now = chrono::Utc::now().timestamp_micros();
                Range { from: Some(now - last.micros()), to: Some(now) }
            }
        };
        match (range.from, range.to) {
            (Some(from), Some(to)) if from >= to => Err(Error::usage("`--from` must lie before `--to`")),
            _ => Ok(range),
        }
    }
}
