use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Context, RuleArgs};
use crate::engine::raw_table::RawScan;
use crate::error::{Error, Status};
use crate::hunt::{self, Data};
use crate::lake::Lake;
use crate::report::{self, Format};
use crate::time::{self, Period, Range};
use crate::trail::{IN_A_LAKE, Trail};

/// Hunt a lake or a raw trail for the rules' findings
///
/// A raw trail is hunted in place, without converting it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny hunt trail/\n  tawny hunt lake/ --from 2026-09-01 --to 2026-10-01 --threshold 3 --period 30m\n  tawny hunt lake/ --last 24h --format jsonl -o findings.jsonl --fail-on-findings"
)]
pub(super) struct Hunt {
    /// A lake, or files, folders or quoted globs of a raw trail
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
        let (data, bar) = match self.data.as_slice() {
            [one] if Lake::exists_at(Path::new(one)) => (Data::Lake(Lake::at(Path::new(one))), None),
            sources => {
                let trail = Trail::find(sources)?;
                if trail.left_out.objects.skipped.contains_key(IN_A_LAKE) {
                    return Err(Error::Usage {
                        message: "files of a lake lie in the data".to_owned(),
                        hint: Some(
                            "hunt one lake by itself, named by its own folder; or a raw trail without lakes".to_owned(),
                        ),
                    });
                }
                let bar = context.output.progress(trail.objects.iter().map(|object| object.size).sum(), "hunting");
                let shown = bar.clone();
                let progress = Box::new(move |tally: &crate::tally::Tally| shown.set_position(tally.stored_bytes));
                (Data::Raw(RawScan::new(trail, hunt::sieve(&rules), progress)), Some(bar))
            }
        };
        let findings = hunt::evaluate(&resources, &data, &rules, range).await?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
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
        if let Data::Raw(scan) = &data {
            let tally = scan.tally();
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
