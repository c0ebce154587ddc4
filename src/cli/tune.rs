use std::path::{Path, PathBuf};

use clap::Args;

use super::backtest::WriteTarget;
use super::data::DataArgs;
use super::outcome::report_undecided;
use super::range::RangeArgs;
use super::{Context, RuleFileArgs, TableOrJson, format, loading};
use crate::backtest::grid::{self, Grid, MAX_CELLS, Thresholds};
use crate::backtest::labels::{self, Unlabelled};
use crate::error::{Error, Status};
use crate::report;
use crate::rule::catalog::Entry;
use crate::statistics::number_of;
use crate::store;
use crate::text::json;
use crate::time::{Instant, Period};
use crate::tune::{self, ExceptionDefaults, Proposal, TuneRequest, Tuning};

/// Propose changes of a rule that keep its true findings and remove false ones
///
/// Tries other thresholds and periods, and exceptions for one or two values that only false findings have. Each proposal is
/// hunted, so the table shows what a hunt with it finds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny tune lake/ --rule AWS.Unsuccessful.MFA.attempt --labels incidents.csv --from 2026-08-01 --to 2026-09-01\n  tawny tune lake/ --rule AWS.Unsuccessful.MFA.attempt --labels incidents.csv --write --owner 'platform team' --until 2027-01-01"
)]
pub(super) struct TuneCommand {
    /// Tune the rule with this id [default: the only rule of `--rules`]
    #[arg(long, value_name = "ID", required_unless_present = "rules", help_heading = super::RULES)]
    rule: Option<String>,
    /// Known malicious or benign events: CSV or JSON lines with `label`, and `event_id` or `account`, `actor`, `from`, `to`
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// How to count findings without a label
    #[arg(long, value_enum, default_value_t)]
    unlabelled: Unlabelled,
    /// Thresholds to try: numbers and inclusive ranges [default: 1..10,15,20 and that of the rule]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = super::WINDOWS)]
    thresholds: Vec<Thresholds>,
    /// Periods to try; longer ones than that of the rule join findings, and are never proposed [default: 5m,15m,1h,6h,24h and that of
    /// the rule]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = super::WINDOWS)]
    periods: Vec<Period>,
    /// Most exceptions of a proposal
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(0..=20))]
    max_exceptions: u16,
    /// Apply the best proposal: write its exceptions to `--exceptions-to`, and its window into the rule file or, for a shipped
    /// rule, as an override into `--config`
    #[arg(long)]
    write: bool,
    /// New file for the exceptions of `--write`
    #[arg(long, value_name = "FILE", default_value = "exceptions.yml", requires = "write")]
    exceptions_to: PathBuf,
    /// Replace the file of `--exceptions-to` if it exists
    #[arg(long, requires = "write")]
    force: bool,
    /// Configuration of nightly runs to which `--write` adds an override
    #[arg(long, value_name = "FILE", default_value = "tawny.toml", requires = "write")]
    config: PathBuf,
    /// Owner of the exceptions
    #[arg(long, value_name = "TEXT", default_value = "unassigned", requires = "write")]
    owner: String,
    /// Reason of the exceptions [default: the number of false findings that led to them]
    #[arg(long, value_name = "TEXT", requires = "write")]
    reason: Option<String>,
    /// End of the exceptions: a date or an RFC 3339 time [default: in 90 days]
    #[arg(long, value_name = "TIME", requires = "write")]
    until: Option<Instant>,
    /// Output format [default: by the ending of `--output`, else table]
    #[arg(long, value_enum, hide_default_value = true, help_heading = super::OUTPUT)]
    format: Option<TableOrJson>,
    /// Write the proposals to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = super::OUTPUT)]
    output: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    files: RuleFileArgs,
    #[command(flatten)]
    range: RangeArgs,
}

impl TuneCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        Context::check_outputs([&self.output, &None])?;
        self.check_until()?;
        let entries = loading::load(context.output, self.files.files(true))?.entries;
        let entry = self.files.one(context.output, entries, self.rule.as_deref())?;
        let labels = labels::read(&self.labels)?;
        let grid = self.grid(&entry)?;
        self.check_write(&entry, &grid)?;
        let range = self.range.range()?;
        let defaults = ExceptionDefaults {
            reason: self.reason.clone().unwrap_or_else(|| format!("false findings of {}", entry.rule.id)),
            owner: self.owner.clone(),
            until: self.until.unwrap_or_else(|| tune::default_until(super::now())),
            file: self.exceptions_to.display().to_string(),
        };
        let opened = self.data.open(context, None, "tuning").await?;
        opened.warn_of_cuts(context.output);
        let request = TuneRequest {
            rule: &entry.rule,
            labels: &labels,
            unlabelled: self.unlabelled,
            range,
            grid: &grid,
            max_exceptions: self.max_exceptions.into(),
            defaults: &defaults,
        };
        let tuning = tune::tune(&opened.engine, opened.table.as_ref(), &request).await?;
        opened.bar.finish_and_clear();
        let text = match format {
            TableOrJson::Table => report::tune::text(&tuning, &entry.rule, self.write),
            TableOrJson::Json => {
                json::pretty(&tuning).map_err(|error| Error::Internal(format!("proposals as JSON: {error}")))?
            }
        };
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        let status = opened.hunt_summary(range).report(context.output, &tuning.read).await?;
        let undecided = report_undecided(context.output, &tuning.undecided);
        context.output.duplicates(&tuning.duplicates, "matching records");
        let is_guarded = tuning.present.true_findings > 0;
        if !is_guarded {
            context.output.warn(
                "warning: no finding of the rule is true now, so no proposal can lose one: check the labels and the range",
            );
        }
        if let [first, ..] = tuning.present.missed.as_slice() {
            let labels_of_rule = labels.iter().filter(|label| label.malicious).count();
            context.output.talk(&format!(
                "note: {} of {} are in no finding of the rule, the first in line {first}: labels of other rules, or mistyped",
                tuning.present.missed.len(),
                number_of(labels_of_rule, "malicious label"),
            ));
        }
        if self.write && tuning.best.is_some() && !is_guarded {
            context.output.warn("warning: nothing was written: no true finding says what to keep");
            return Ok(status.max(undecided).max(Status::Usage));
        }
        if self.write && status != Status::Done {
            context.output.warn("warning: nothing was written: not all data could be read");
        } else if self.write {
            self.apply(context, &entry, &tuning, &defaults)?;
        }
        Ok(status.max(undecided))
    }

    /// Refuses an end of exceptions that has passed.
    fn check_until(&self) -> Result<(), Error> {
        match self.until {
            Some(until) if until <= super::now() => Err(Error::Usage {
                message: format!("`--until` {until} has passed: the exceptions would apply to no event from now on"),
                hint: Some("name a later date, or leave it out: the exceptions then end in 90 days".to_owned()),
            }),
            _ => Ok(()),
        }
    }

    fn grid(&self, entry: &Entry) -> Result<Grid, Error> {
        let own = entry.rule.window;
        let thresholds = grid::thresholds(&self.thresholds, own.threshold);
        let periods = grid::periods(&self.periods, own.period);
        if thresholds.len() * periods.len() > MAX_CELLS {
            return Err(Error::Usage {
                message: format!("more than {MAX_CELLS} windows to try"),
                hint: Some("use fewer `--thresholds` or `--periods`".to_owned()),
            });
        }
        let (kinds, newness) = (vec![own.kind], vec![entry.rule.setting().newness]);
        let is_possible = |threshold: &std::num::NonZeroU32| {
            let window = crate::rule::Window { threshold: *threshold, ..own };
            entry.rule.check(window).is_ok()
        };
        let thresholds = thresholds.into_iter().filter(is_possible).collect();
        Ok(Grid { kinds, periods, thresholds, newness })
    }

    /// Checks before the data is read that `--write` can succeed.
    fn check_write(&self, entry: &Entry, grid: &Grid) -> Result<(), Error> {
        if !self.write {
            return Ok(());
        }
        if grid.settings(&entry.rule).iter().any(|setting| *setting != entry.rule.setting()) {
            store::destination(&WriteTarget::of(entry, &self.config)?.file)?;
        }
        let path: &Path = &self.exceptions_to;
        if path.exists() && !self.force {
            return Err(Error::Usage {
                message: format!("`{}` already exists", path.display()),
                hint: Some("name another file with `--exceptions-to`, or replace it with `--force`".to_owned()),
            });
        }
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let is_read = |file: &PathBuf| real(file).is_some_and(|file| Some(file) == real(path));
        if self.files.exceptions.iter().any(is_read) {
            return Err(Error::Usage {
                message: format!(
                    "`{}` is read with `--exceptions`, and would lose the exceptions it has",
                    path.display()
                ),
                hint: Some("name another file with `--exceptions-to`, and use both files afterwards".to_owned()),
            });
        }
        store::destination(path).map(drop)
    }

    /// Writes the best proposal.
    fn apply(
        &self,
        context: &Context,
        entry: &Entry,
        tuning: &Tuning,
        defaults: &ExceptionDefaults,
    ) -> Result<(), Error> {
        let Some(Proposal { window, exceptions, .. }) = tuning.best.map(|index| &tuning.proposals[index]) else {
            context.output.warn("note: nothing was written: there is no proposal");
            return Ok(());
        };
        if let Some(window) = window.as_ref().map(|proposed| proposed.window) {
            let target = WriteTarget::of(entry, &self.config)?;
            context.output.result(&target.with_window(entry, window)?, Some(&target.file))?;
            let file = target.file.display();
            context.output.talk(&format!("`{file}`: threshold {}, period {}", window.threshold, window.period));
        }
        if !exceptions.is_empty() {
            let conditions: Vec<_> = exceptions.iter().map(|exception| exception.when.clone()).collect();
            let text = tune::exceptions_file(&entry.rule, &conditions, defaults)?;
            context.output.result(&text, Some(&self.exceptions_to))?;
            let file = self.exceptions_to.display();
            context.output.talk(&format!("wrote `{file}`: use it with `--exceptions {file}`"));
        }
        Ok(())
    }
}
