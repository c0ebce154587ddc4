use std::path::{Path, PathBuf};

use clap::Args;

use super::cluster::ClusterArgs;
use super::data::DataArgs;
use super::outcome::ReadSummary;
use super::range::RangeArgs;
use super::{Context, WindowChoice};
use crate::backtest::budget::Budget;
use crate::backtest::comparison::Comparison;
use crate::backtest::grid::{CellName, Grid, MAX_CELLS, Thresholds};
use crate::backtest::labels::{self, Labelled, Unlabelled};
use crate::backtest::suggestion::Suggestions;
use crate::backtest::{self};
use crate::error::{Error, Status};
use crate::output::Output;
use crate::report::backtest::{Format, View};
use crate::report::{self, comparison};
use crate::rule::catalog::{self, Entry};
use crate::rule::yaml::YamlSource;
use crate::rule::{Rule, Window, WindowKind, edit};
use crate::statistics::number_of;
use crate::store;
use crate::time::Period;

/// What is not for `--compare`.
const NOT_COMPARED: [&str; 11] = [
    "rule",
    "rules",
    "thresholds",
    "periods",
    "windows",
    "labels",
    "unlabelled",
    "budget",
    "move_to",
    "write",
    "report",
];

/// Tell what a rule would have found with other thresholds and periods
///
/// Every combination of window, period and threshold is a cell: all cells come from one scan, and each holds what
/// a hunt with these settings finds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny backtest lake/ --rule AWS.Unsuccessful.MFA.attempt --from 2026-07-01 --to 2026-10-01\n  tawny backtest lake/ --thresholds 2..6 --periods 15m,1h --windows sliding --budget 1/day\n  tawny backtest lake/ --rules my_rule.yml --budget 1/day --write\n  tawny backtest lake/ --move-to 3/30m --labels incidents.csv --report backtest.html\n  tawny backtest lake/ --compare main/rule.yml branch/rule.yml --format junit -o junit.xml --fail-on-change"
)]
pub(super) struct Backtest {
    #[command(flatten)]
    data: DataArgs,
    /// The rule with this id
    #[arg(long, value_name = "ID")]
    rule: Option<String>,
    /// Where to look for it: rule files or folders [default: the rules that come with tawny]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    /// Thresholds to try: numbers and spans with both ends
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "1..10,15,20")]
    thresholds: Vec<Thresholds>,
    /// Periods to try
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "5m,15m,1h,6h,24h")]
    periods: Vec<Period>,
    /// Shapes of windows to try
    #[arg(long, value_enum, value_delimiter = ',', value_name = "LIST", default_value = "all")]
    windows: Vec<WindowChoice>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// What is known to be malicious or benign: CSV or JSON lines with `event_id`, or `account`, `actor`, `from`, `to`; and `label`
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How findings count that no label touches
    #[arg(long, value_enum, default_value_t, requires = "labels")]
    unlabelled: Unlabelled,
    /// How many findings may come in the mean: `1/day`, `5/week`, `10/month`
    #[arg(long, value_name = "BUDGET")]
    budget: Option<Budget>,
    /// List what is gained and lost from the rule's present setting to this cell: `3/30m` or `3/30m/dedup`
    #[arg(long, value_name = "CELL")]
    move_to: Option<CellName>,
    /// Compare two versions of a rule in place of windows
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], conflicts_with_all = NOT_COMPARED)]
    compare: Vec<PathBuf>,
    /// End with exit code 1 where the two versions differ in any finding
    #[arg(long)]
    fail_on_change: bool,
    /// Write Threshold and DedupPeriodMinutes of this cell, or else of the suggestion, into the rule's file
    #[arg(long, value_name = "CELL", num_args = 0..=1)]
    #[expect(clippy::option_option, reason = "the option may stand without a value")]
    write: Option<Option<CellName>>,
    /// Write a page with charts to this HTML file, or `s3://BUCKET/KEY`
    #[arg(long, value_name = "FILE")]
    report: Option<String>,
    /// How the cells are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Write them to this file, or `s3://BUCKET/KEY`, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
}

impl Backtest {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        Context::check_outputs([&self.output, &self.report])?;
        if !self.compare.is_empty() {
            return Box::pin(self.compare(context)).await;
        }
        // Not told to clap, which lets a required option be missing where another conflicts with it.
        for (given, option) in
            [(self.format == Format::Junit, "--format junit"), (self.fail_on_change, "--fail-on-change")]
        {
            if given {
                return Err(Error::usage(format!("`{option}` is for `--compare`")));
            }
        }
        let entry = self.entry(context)?;
        let grid = self.grid(&entry.rule)?;
        self.check_write(&entry)?;
        let labels = self.labels.as_deref().map(labels::read).transpose()?;
        let range = self.range.range()?;
        let (resources, _spill) = context.resources()?;
        let resources = self.cluster.applied(resources)?.with_selection(self.data.events());
        let bar = context.output.progress(0, "backtesting");
        let table = self.data.open(context, &resources, bar.clone()).await?;
        let table = table.as_ref();
        self.data.warn_of_cuts(context.output, table);
        let rule = entry.rule.clone();
        let moved = self.move_to.map(|cell| cell.window(rule.window.kind));
        let windows: Vec<Window> = moved.into_iter().collect();
        let windows = backtest::TestedWindows { grid: &grid, others: &windows };
        let tested = backtest::Backtest::run(&resources, table, rule, windows, range).await?;
        bar.finish_and_clear();

        let labelled = labels.map(|labels| Labelled::new(labels, &tested.sweep.matches, range, self.unlabelled));
        let suggestions = Suggestions::of(&tested, self.budget);
        let view = View { tested: &tested, suggestions: &suggestions, labelled: labelled.as_ref(), moved };
        let text = view.text(self.format, self.output.is_none() && self.colours())?;
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        if let Some(file) = &self.report {
            let page = report::page::backtest(&view, &entry.text)?;
            context.write(page.into_bytes(), Some(file)).await?;
        }
        let has_results = !tested.sweep.matches.times.is_empty();
        let summary = ReadSummary { resources: &resources, table, range, used: "hunted", has_results };
        let complete = summary.report(context, &tested.sweep.read).await?;
        context.output.duplicates(&tested.sweep.duplicates, "matching records");
        match self.write {
            Some(cell) if complete => Backtest::write(context, &entry, cell, &suggestions)?,
            Some(_) => context.output.warn("nothing was written: not all data could be read"),
            None => {}
        }
        context.output.talk(&format!("{} of `{}`", number_of(tested.grid_cells, "cell"), tested.rule.id));
        Ok(if complete { Status::Done } else { Status::Incomplete })
    }

    /// Whether cells may have colours.
    fn colours(&self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "how a user turns colours off: <https://no-color.org>")]
        let unwanted = std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty());
        self.format == Format::Table && Output::is_terminal() && !unwanted
    }

    fn grid(&self, rule: &Rule) -> Result<Grid, Error> {
        let mut kinds: Vec<WindowKind> = self.windows.iter().flat_map(|choice| choice.kinds(rule)).collect();
        let thresholds = Thresholds::distinct(&self.thresholds);
        let mut periods = self.periods.clone();
        kinds.sort_unstable();
        kinds.dedup();
        periods.sort_unstable();
        periods.dedup();
        let cells = kinds.len() * thresholds.len() * periods.len();
        if cells > MAX_CELLS {
            return Err(Error::Usage {
                message: format!("{cells} cells are more than the {MAX_CELLS} that a backtest computes"),
                hint: Some("give fewer `--thresholds`, `--periods` or `--windows`".to_owned()),
            });
        }
        Ok(Grid { kinds, periods, thresholds })
    }

    /// The one rule that is meant.
    fn entry(&self, context: &Context) -> Result<Entry, Error> {
        let mut entries = catalog::all(&self.rules)?;
        if let Some(id) = &self.rule {
            return catalog::named(&entries, id).cloned();
        }
        if self.rules.is_empty() {
            context.output.talk(&format!("note: no rule was named: this is `{}`", catalog::DEFAULT));
            return catalog::named(&entries, catalog::DEFAULT).cloned();
        }
        if entries.len() == 1 {
            return Ok(entries.remove(0));
        }
        let ids = entries.iter().map(|entry| format!("`{}`", entry.rule.id)).collect::<Vec<_>>().join(", ");
        Err(Error::Usage {
            message: "a backtest is of one rule, and there are several".to_owned(),
            hint: Some(format!("name it with `--rule`: {ids}")),
        })
    }

    /// Makes sure that what is to be written can be, as far as that is known before the data are read.
    fn check_write(&self, entry: &Entry) -> Result<(), Error> {
        let own = entry.rule.window;
        let Some(cell) = self.write else {
            return Ok(());
        };
        if self.rules.is_empty() {
            return Err(Error::Usage {
                message: "the rules that come with tawny cannot be written to: they are part of it".to_owned(),
                hint: Some(format!("write one of your own: `tawny rules show {} > my_rule.yml`", entry.rule.id)),
            });
        }
        store::destination(Path::new(&entry.file))?;
        let window = cell.map_or(own, |cell| cell.window(own.kind));
        if window.kind != own.kind {
            return Err(Error::Usage {
                message: format!("`--write`: the rule's windows are {}, not {}", own.kind, window.kind),
                hint: Some("change `Window` below `Hunt` in the rule, and run again".to_owned()),
            });
        }
        edit::with_window(YamlSource { name: &entry.file, text: &entry.text }, window).map(drop)
    }

    /// Writes a cell's settings into the rule's file.
    fn write(context: &Context, entry: &Entry, cell: Option<CellName>, suggestions: &Suggestions) -> Result<(), Error> {
        let own = entry.rule.window;
        let window = match (cell, &suggestions.within_budget, &suggestions.knee) {
            (Some(cell), ..) => cell.window(own.kind),
            (None, Some(suggestion), _) | (None, None, Some(suggestion)) if suggestion.threshold.is_some() => {
                suggestion.window
            }
            (None, Some(suggestion), _) => {
                return Err(Error::usage(format!("nothing was written: {}", suggestion.reason)));
            }
            (None, None, _) => {
                return Err(Error::Usage {
                    message: "nothing was written: there is no suggestion".to_owned(),
                    hint: Some("give a `--budget`, or the cell: `--write 3/30m`".to_owned()),
                });
            }
        };
        let text = edit::with_window(YamlSource { name: &entry.file, text: &entry.text }, window)?;
        if text == entry.text {
            context.output.talk(&format!("`{}` holds these settings already", entry.file));
            return Ok(());
        }
        context.output.result(&text, Some(Path::new(&entry.file)))?;
        context.output.talk(&format!(
            "`{}`: Threshold {} to {}, DedupPeriodMinutes {} to {}",
            entry.file,
            own.threshold,
            window.threshold,
            own.period.minutes(),
            window.period.minutes()
        ));
        Ok(())
    }

    async fn compare(&self, context: &Context) -> Result<Status, Error> {
        let one = |file: &PathBuf| -> Result<Rule, Error> {
            let mut entries = catalog::all(std::slice::from_ref(file))?;
            match entries.len() {
                1 => Ok(entries.remove(0).rule),
                _ => Err(Error::usage(format!("`{}` is not one rule file", file.display()))),
            }
        };
        let [before, after] = self.compare.as_slice() else {
            return Err(Error::usage("`--compare` takes two rule files"));
        };
        let versions = [one(before)?, one(after)?];
        let range = self.range.range()?;
        let (resources, _spill) = context.resources()?;
        let resources = self.cluster.applied(resources)?.with_selection(self.data.events());
        let bar = context.output.progress(0, "comparing");
        let table = self.data.open(context, &resources, bar.clone()).await?;
        let table = table.as_ref();
        self.data.warn_of_cuts(context.output, table);
        let compared = Comparison::run(&resources, table, &versions, range).await?;
        bar.finish_and_clear();
        let names = [before.display().to_string(), after.display().to_string()];
        let text = comparison::text(&compared, &versions, &names, self.format)?;
        context.write(text.into_bytes(), self.output.as_deref()).await?;
        let mut status = Status::Done;
        if self.fail_on_change && compared.has_changes() {
            status = Status::Findings;
        }
        let summary = ReadSummary { resources: &resources, table, range, used: "hunted", has_results: false };
        if !summary.report(context, &compared.read).await? {
            status = Status::Incomplete;
        }
        context.output.duplicates(&compared.duplicates, "matching records");
        context.output.talk(&compared.sentence());
        Ok(status)
    }
}
