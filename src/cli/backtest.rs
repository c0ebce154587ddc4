use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use clap::Args;

use super::cluster::ClusterArgs;
use super::data::{DataArgs, OpenedData};
use super::outcome::{ReadSummary, report_undecided};
use super::range::RangeArgs;
use super::{Context, RuleFileArgs, RuleFiles, WindowChoice, format, loading, risk};
use crate::backtest::budget::Budget;
use crate::backtest::comparison::Comparison;
use crate::backtest::grid::{self, CellName, Grid, MAX_CELLS, Thresholds};
use crate::backtest::labels::{self, Labelled, Unlabelled};
use crate::backtest::suggestion::Suggestions;
use crate::backtest::{self};
use crate::error::{Error, Status};
use crate::hunt;
use crate::hunt::grid::MatchesNeeded;
use crate::hunt::undecided::undecided_events;
use crate::nightly::config;
use crate::output::Output;
use crate::report::backtest::{BacktestFormat, BacktestView};
use crate::report::{self, comparison};
use crate::rule::catalog::{Entry, Origin, RuleChoice};
use crate::rule::overrides;
use crate::rule::yaml::YamlSource;
use crate::rule::{NewnessPeriods, Rule, Window, WindowKind, edit};
use crate::statistics::number_of;
use crate::store;
use crate::time::{Period, Range, SECOND};

/// Options that conflict with `--compare`.
#[rustfmt::skip]
const NOT_COMPARED: [&str; 14] = [
    "risk",    "rule", "rules", "thresholds", "periods", "histories", "learning", "windows", "labels", "unlabelled", "budget", "move_to", "write", "report",
];

/// Options that conflict with `--risk`.
#[rustfmt::skip]
const NOT_RANKED: [&str; 11] = [
    "thresholds", "periods", "histories", "learning", "windows", "labels", "unlabelled", "budget", "move_to", "write", "report",
];

/// Show what a rule would have found with other thresholds and periods
///
/// Each combination of window kind, period and threshold is a cell. All cells come from one scan of the data. Each shows
/// what a hunt with these settings finds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny backtest lake/ --rule AWS.Unsuccessful.MFA.attempt --from 2026-07-01 --to 2026-10-01\n  tawny backtest lake/ --thresholds 2..6 --periods 15m,1h --windows sliding --budget 1/day\n  tawny backtest lake/ --rules my_rule.yml --budget 1/day --write\n  tawny backtest lake/ --rules new_region.yml --histories 7d,30d,90d --learning 7d,14d\n  tawny backtest lake/ --move-to 3/30m --labels incidents.csv --report backtest.html\n  tawny backtest lake/ --last 90d --risk --scores 50,100,200\n  tawny backtest lake/ --compare main/rule.yml branch/rule.yml --format junit -o junit.xml --fail-on-change"
)]
pub(super) struct BacktestCommand {
    /// Backtest the rule with this id
    #[arg(long, value_name = "ID", help_heading = super::RULES)]
    rule: Option<String>,
    /// Exit with code 2 if a rule of a folder cannot run, instead of skipping it
    #[arg(long, help_heading = super::RULES)]
    strict: bool,
    /// Thresholds to try: numbers and inclusive ranges [default: 1..10,15,20 and that of the rule]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = super::WINDOWS)]
    thresholds: Vec<Thresholds>,
    /// Periods to try [default: 5m,15m,1h,6h,24h and that of the rule]
    #[arg(long, value_name = "LIST", value_delimiter = ',', help_heading = super::WINDOWS)]
    periods: Vec<Period>,
    /// Histories to try, for a rule with `New`: how long a match must not have been seen [default: that of the rule]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Period::parse_history, help_heading = super::WINDOWS)]
    histories: Vec<Period>,
    /// Learning times to try, for a rule with `New` [default: that of the rule]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = Period::parse_history, help_heading = super::WINDOWS)]
    learning: Vec<Period>,
    /// Window kinds to try
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", default_value = "all", help_heading = super::WINDOWS)]
    windows: Vec<WindowChoice>,
    /// Known malicious or benign events: CSV or JSON lines with `label`, and `event_id` or `account`, `actor`, `from`, `to`
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How to count findings without a label
    #[arg(long, value_enum, default_value_t, requires = "labels")]
    unlabelled: Unlabelled,
    /// Highest acceptable average number of findings: `1/day`, `5/week`, `10/month`
    #[arg(long, value_name = "BUDGET")]
    budget: Option<Budget>,
    /// List the findings gained and lost if the rule moved to this cell: `3/30m` or `3/30m/dedup`
    #[arg(long, value_name = "CELL")]
    move_to: Option<CellName>,
    /// Count how often actors reach risk scores, by the findings of all rules, instead of trying windows
    #[arg(long, conflicts_with_all = NOT_RANKED)]
    risk: bool,
    /// With `--risk`: the scores to try
    #[arg(long, value_name = "LIST", requires = "risk", value_delimiter = ',', default_value = "25,50,100,200,400", value_parser = super::threshold)]
    scores: Vec<NonZeroU32>,
    /// With `--risk`: the time in which the weight of a finding halves
    #[arg(long, value_name = "PERIOD", requires = "risk", default_value = "7d", value_parser = Period::parse_history)]
    half_life: Period,
    /// Compare two versions of a rule instead of windows
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = NOT_COMPARED)]
    compare: Vec<PathBuf>,
    /// Exit with code 1 if the findings of the two versions differ
    #[arg(long, help_heading = super::OUTPUT)]
    fail_on_change: bool,
    /// Write Threshold and DedupPeriodMinutes of this cell into the rule file, or as an override of a shipped rule into
    /// `--config` [default: the suggested cell]
    #[arg(long, value_name = "CELL", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the option's value is optional")]
    write: Option<Option<CellName>>,
    /// Configuration of nightly runs: its `[overrides]` apply to the rule, and `--write` adds one [default for `--write`: tawny.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "compare")]
    config: Option<PathBuf>,
    /// Write an HTML page with charts to this file or `s3://BUCKET/KEY`
    #[arg(long, value_name = "FILE", help_heading = super::OUTPUT)]
    report: Option<String>,
    /// Output format of the cells [default: by the ending of `--output`, else table]
    #[arg(long, value_enum, help_heading = super::OUTPUT)]
    format: Option<BacktestFormat>,
    /// Write the cells to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE", help_heading = super::OUTPUT)]
    output: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    files: RuleFileArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl BacktestCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        Context::check_outputs([&self.output, &self.report])?;
        if !self.compare.is_empty() {
            return Box::pin(self.compare(context, format)).await;
        }
        if self.risk {
            return Box::pin(self.risk_scores(context, format)).await;
        }
        // Checked here because clap drops `requires` where the required option conflicts with another one.
        let only_compare =
            [(format == BacktestFormat::Junit, "--format junit"), (self.fail_on_change, "--fail-on-change")];
        if let Some((_, option)) = only_compare.into_iter().find(|(is_given, _)| *is_given) {
            return Err(Error::usage(format!("`{option}` requires `--compare`")));
        }
        let entry = self.entry(context)?;
        loading::warn(context.output, &self.files.rules, &entry.warnings_of_findings());
        let grid = self.grid(&entry.rule)?;
        self.check_write(&entry)?;
        let labels = self.labels.as_deref().map(labels::read).transpose()?;
        let range = self.range.range()?;
        let opened = self.data.open(context, Some(&self.cluster), "backtesting").await?;
        opened.warn_of_cuts(context.output);
        let rule = entry.rule.clone();
        let written = self.write.flatten();
        let moved = self.move_to.or(written).map(|cell| cell.window(rule.window.kind));
        let windows: Vec<Window> = moved.into_iter().collect();
        let needs_all = labels.is_some() || moved.is_some() || self.report.is_some();
        let matches = if needs_all { MatchesNeeded::All } else { MatchesNeeded::Ends };
        let windows = backtest::TestedWindows { grid: &grid, others: &windows, matches };
        let table = opened.table.as_ref();
        let tested = backtest::Backtest::run(&opened.engine, table, rule, windows, range).await?;
        opened.bar.finish_and_clear();

        let labelled = labels.map(|labels| Labelled::new(labels, &tested.hunt.matches, range, self.unlabelled));
        let mut suggestions = Suggestions::of(&tested, self.budget);
        if let Some(labelled) = &labelled {
            suggestions = suggestions.with_labels(&tested, labelled);
        }
        let view = BacktestView { tested: &tested, suggestions: &suggestions, labelled: labelled.as_ref(), moved };
        let text = view.text(format, self.output.is_none() && format == BacktestFormat::Table && uses_color())?;
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        if let Some(file) = &self.report {
            let page = report::page::backtest(&view, &entry.text, &super::run_details())?;
            context.write(page.into_bytes(), Some(file)).await?;
        }
        let has_results = tested.hunt.matches.count > 0;
        let summary = ReadSummary { has_results, ..opened.hunt_summary(range) };
        let status = summary.report(context.output, &tested.hunt.read).await?;
        let undecided = self::undecided(context, &opened, std::slice::from_ref(&tested.rule), range).await?;
        context.output.cluster_results(opened.engine.bytes_from_cluster());
        context.output.duplicates(&tested.hunt.duplicates, "matching records");
        if let Some((all, with_data)) = tested.sparse_days() {
            context.output.warn(&format!(
                "warning: the data covers {with_data:.1} of the {all:.1} days of the range; means are over the days with data"
            ));
        }
        match self.write {
            Some(cell) if status == Status::Done => {
                self.check_days(cell, tested.days())?;
                self.write(context, &entry, cell, &suggestions)?;
            }
            Some(_) => context.output.warn("warning: the rule was not changed: not all data could be read"),
            None => {}
        }
        context.output.talk(&format!("{} of `{}`", number_of(tested.grid_cells, "cell"), tested.rule.id));
        Ok(status.max(undecided))
    }

    fn grid(&self, rule: &Rule) -> Result<Grid, Error> {
        let mut kinds: Vec<WindowKind> = self.windows.iter().flat_map(|choice| choice.kinds(rule)).collect();
        let thresholds = grid::thresholds(&self.thresholds, rule.window.threshold);
        let periods = grid::periods(&self.periods, rule.window.period);
        kinds.sort_unstable();
        kinds.dedup();
        let newness = self.newness(rule)?;
        let cells = kinds.len() * thresholds.len() * periods.len() * newness.len();
        if cells > MAX_CELLS {
            return Err(Error::Usage {
                message: format!("{cells} cells exceed the limit of {MAX_CELLS}"),
                hint: Some(
                    "use fewer `--thresholds`, `--periods`, `--histories`, `--learning` or `--windows`".to_owned(),
                ),
            });
        }
        Ok(Grid { kinds, periods, thresholds, newness })
    }

    /// Returns the times to try that decide which matches are new.
    fn newness(&self, rule: &Rule) -> Result<Vec<Option<NewnessPeriods>>, Error> {
        let Some(own) = rule.setting().newness else {
            return match self.histories.first().or(self.learning.first()) {
                None => Ok(vec![None]),
                Some(_) => Err(Error::Usage {
                    message: format!("`{}` has no `New`, so `--histories` and `--learning` do not change it", rule.id),
                    hint: Some("leave them out, or choose a rule with `Hunt: {New: …}`".to_owned()),
                }),
            };
        };
        let given = |periods: &[Period]| {
            let mut periods = periods.to_vec();
            periods.sort_unstable();
            periods.dedup();
            periods
        };
        let histories = if self.histories.is_empty() { vec![own.history] } else { given(&self.histories) };
        let learning: Vec<Option<Period>> = match self.learning.as_slice() {
            [] => vec![own.learning],
            learning => given(learning).into_iter().map(Some).collect(),
        };
        let pair = |history| learning.iter().map(move |learning| Some(NewnessPeriods { history, learning: *learning }));
        Ok(histories.into_iter().flat_map(pair).collect())
    }

    /// Returns the file of `--config`, or its default.
    fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new("tawny.toml"))
    }

    /// Returns the rule to backtest, with the overrides of `--config`.
    fn entry(&self, context: &Context) -> Result<Entry, Error> {
        let mut entries = loading::load(context.output, self.files.files(self.strict))?.entries;
        if let Some(file) = &self.config {
            // A configuration may have overrides for other rules.
            let mut configured = config::overrides_of(file)?;
            configured.retain(|it| entries.iter().any(|entry| entry.rule.id == it.rule));
            overrides::apply(&configured, &mut entries)?;
        }
        self.files.one(context.output, entries, self.rule.as_deref())
    }

    /// Checks before the data is read that `--write` can succeed.
    fn check_write(&self, entry: &Entry) -> Result<(), Error> {
        let own = entry.rule.window;
        let Some(cell) = self.write else {
            return Ok(());
        };
        if self.files.once_per_act {
            return Err(Error::Usage {
                message: "`--write` would keep a threshold for acts in a rule that counts matches".to_owned(),
                hint: Some("set `Hunt: {Unique: act}` in the rule, then run again without `--once-per-act`".to_owned()),
            });
        }
        let window = cell.map_or(own, |cell| cell.window(own.kind));
        if window.kind != own.kind {
            return Err(Error::Usage {
                message: format!("`--write` cannot change the window kind from {} to {}", own.kind, window.kind),
                hint: Some(format!("set `Hunt: {{Window: {}}}` in the rule, then run again", window.kind)),
            });
        }
        let target = WriteTarget::of(entry, self.config())?;
        store::destination(&target.file)?;
        target.with_window(entry, window).map(drop)
    }

    /// Checks that a suggestion to write is from enough data: a mean a week needs a week.
    fn check_days(&self, cell: Option<CellName>, days: Option<f64>) -> Result<(), Error> {
        let Some(days) = days.filter(|days| backtest::is_enough_for_means(*days)) else {
            // There is no suggestion, and it says so.
            return Ok(());
        };
        match self.budget.filter(|budget| cell.is_none() && !budget.is_covered_by(days)) {
            None => Ok(()),
            Some(budget) => Err(Error::Usage {
                message: format!(
                    "the rule was not changed: {} are too few for a budget of {budget}",
                    backtest::days_text(days)
                ),
                hint: Some("backtest a longer range, or name the cell: `--write 3/30m`".to_owned()),
            }),
        }
    }

    /// Writes the settings of `cell`, or of the suggestion, into the rule file or the configuration.
    fn write(
        &self,
        context: &Context,
        entry: &Entry,
        cell: Option<CellName>,
        suggestions: &Suggestions,
    ) -> Result<(), Error> {
        let own = entry.rule.window;
        let window = match (cell, &suggestions.within_budget, &suggestions.knee) {
            (Some(cell), ..) => cell.window(own.kind),
            (None, Some(suggestion), _) | (None, None, Some(suggestion)) if suggestion.threshold.is_some() => {
                suggestion.window
            }
            (None, Some(suggestion), _) => {
                return Err(Error::usage(format!("the rule was not changed: {}", suggestion.reason)));
            }
            (None, None, _) => {
                return Err(Error::Usage {
                    message: "the rule was not changed: there is no suggestion".to_owned(),
                    hint: Some("add `--budget 1/day`, or name a cell: `--write 3/30m`".to_owned()),
                });
            }
        };
        let target = WriteTarget::of(entry, self.config())?;
        let text = target.with_window(entry, window)?;
        let file = target.file.display();
        if text == target.text {
            context.output.talk(&format!("`{file}` already has these settings"));
            return Ok(());
        }
        context.output.result(&text, Some(&target.file))?;
        let period = match entry.origin {
            Origin::Shipped => format!("Period {} to {}", own.period, window.period),
            Origin::Folder | Origin::NamedFile => {
                format!("DedupPeriodMinutes {} to {}", own.period.minutes(), window.period.minutes())
            }
        };
        context.output.talk(&format!("`{file}`: Threshold {} to {}, {period}", own.threshold, window.threshold));
        Ok(())
    }

    /// Counts how often actors reach risk scores, by the findings of all rules.
    async fn risk_scores(&self, context: &Context, format: BacktestFormat) -> Result<Status, Error> {
        let as_json = match format {
            BacktestFormat::Table => false,
            BacktestFormat::Json => true,
            _ => return Err(Error::usage("`--risk` has the formats table and json")),
        };
        let ids: Vec<String> = self.rule.iter().cloned().collect();
        let wanted = RuleChoice { ids: &ids, disabled: false };
        let (choice, _) = loading::choose(context.output, self.files.files(self.strict), wanted)?;
        let range = self.range.range()?;
        let opened = self.data.open(context, Some(&self.cluster), "hunting").await?;
        opened.warn_of_cuts(context.output);
        let hunted = hunt::hunt_buffered(&opened.engine, opened.table.as_ref(), &choice.rules, range).await?;
        opened.bar.finish_and_clear();
        let actors = risk::of_findings(&hunted.findings, self.half_life).await?;
        let crossings = actors.crossings(&risk::distinct(&self.scores));
        let times = hunted.read.times;
        let seen = Range {
            from: range.from.or(times.map(|(first, _)| first)),
            to: range.to.or(times.map(|(_, last)| last + SECOND)),
        };
        let text = report::risk::crossings(&crossings, seen, self.half_life, as_json)?;
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        let summary = ReadSummary { has_results: hunted.findings.count() > 0, ..opened.hunt_summary(range) };
        let status = summary.report(context.output, &hunted.read).await?;
        let status = status.max(undecided(context, &opened, &choice.rules, range).await?);
        context.output.duplicates(&hunted.duplicates, "matching records");
        let [found, rules] = [(hunted.findings.count(), "finding"), (choice.rules.len() as u64, "rule")];
        context.output.talk(&format!("{} of {}", number_of(found.0, found.1), number_of(rules.0, rules.1)));
        Ok(status)
    }

    async fn compare(&self, context: &Context, format: BacktestFormat) -> Result<Status, Error> {
        let read_rule = |file: &PathBuf| -> Result<Rule, Error> {
            let paths = std::slice::from_ref(file);
            let files = RuleFiles { paths, with_shipped: false, ..self.files.files(true) };
            let mut entries = files.read()?.checked(true)?.entries;
            match entries.len() {
                1 => Ok(entries.remove(0).rule),
                count => Err(Error::usage(format!("`{}` holds {count} rules, expected one", file.display()))),
            }
        };
        let [before, after] = self.compare.as_slice() else {
            return Err(Error::usage("`--compare` requires two rule files"));
        };
        let versions = [read_rule(before)?, read_rule(after)?];
        let range = self.range.range()?;
        let opened = self.data.open(context, Some(&self.cluster), "comparing").await?;
        opened.warn_of_cuts(context.output);
        let compared = Comparison::run(&opened.engine, opened.table.as_ref(), &versions, range).await?;
        opened.bar.finish_and_clear();
        let names = [before.display().to_string(), after.display().to_string()];
        let text = comparison::text(&compared, &versions, &names, format)?;
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        let status = opened.hunt_summary(range).report(context.output, &compared.read).await?;
        let status = status.max(undecided(context, &opened, &versions, range).await?);
        context.output.duplicates(&compared.duplicates, "matching records");
        if format != BacktestFormat::Table || self.output.is_some() {
            context.output.talk(&compared.sentence());
        }
        let has_changes = self.fail_on_change && compared.has_changes();
        Ok(if has_changes { status.max(Status::Findings) } else { status })
    }
}

/// Warns about events that rules in Python could not decide. Reads the data again if there are such rules.
async fn undecided(context: &Context, opened: &OpenedData, rules: &[Rule], range: Range) -> Result<Status, Error> {
    let undecided = undecided_events(&opened.engine, opened.table.as_ref(), rules, range).await?;
    Ok(report_undecided(context.output, &undecided))
}

/// Returns whether standard output shows colors.
fn uses_color() -> bool {
    #[expect(clippy::disallowed_methods, reason = "the convention of <https://no-color.org>")]
    let no_color = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
    Output::is_terminal() && !no_color
}

/// The file that gets the settings of a rule.
pub(super) struct WriteTarget {
    pub(super) file: PathBuf,
    text: String,
}

impl WriteTarget {
    /// Returns the file of a rule of the user. For a shipped rule, returns the configuration.
    pub(super) fn of(entry: &Entry, config: &Path) -> Result<WriteTarget, Error> {
        if entry.origin != Origin::Shipped {
            return Ok(WriteTarget { file: PathBuf::from(&entry.file), text: entry.text.clone() });
        }
        let text = store::read_named("configuration", config, store::SETTINGS_BYTES).map_err(|error| match error {
            Error::Usage { message, .. } => Error::Usage {
                message: format!("a shipped rule is changed by an override in a configuration: {message}"),
                hint: Some("name one with `--config`; `tawny nightly init` writes one".to_owned()),
            },
            other => other,
        })?;
        Ok(WriteTarget { file: config.to_owned(), text })
    }

    /// Returns the text of the file with the settings of `window`.
    pub(super) fn with_window(&self, entry: &Entry, window: Window) -> Result<String, Error> {
        let name = self.file.display().to_string();
        if entry.origin == Origin::Shipped {
            config::edit::with_window(&name, &self.text, &entry.rule.id, window)
        } else {
            edit::with_window(YamlSource { name: &name, text: &self.text }, window)
        }
    }
}
