//! The command line.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::engine::{Engine, EventSelection};
use crate::error::{Error, Status};
use crate::hunt::initial_range_of;
use crate::output::Output;
use crate::report::page::RunDetails;
use crate::rule::catalog::{self, RuleChoice};
use crate::rule::{Rule, Window, WindowKind};
use crate::statistics::number_of;
use crate::store::{self, Access, Location, ReadSettings, Scratch, Stores};
use crate::text::shell_word;
use crate::time::{DAY, Instant, Period, Range};
use crate::trail::{self, Selection};

mod backtest;
mod cluster;
mod compact;
mod completions;
mod convert;
mod data;
mod exceptions;
mod format;
mod help;
mod hunt;
mod inspect;
mod layouts;
mod lint;
mod loading;
mod man;
mod nightly;
mod outcome;
mod query;
mod range;
mod risk;
mod raw_input;
mod result;
mod rules;
mod sizes;
mod sql;
mod summary;
mod test;
mod timeline;
mod trace;
mod tune;
mod verify;

use loading::{RuleFileArgs, RuleFiles};
use sizes::{memory, object_size, size};

/// Batch hunts for threshold rules over AWS CloudTrail.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: GlobalArgs,
}

/// The version; release builds also name their commit.
const VERSION: &str = env!("TAWNY_VERSION");

const EXIT_CODES: &str = "Exit codes:
  0  done
  1  verify found something altered or missing, a rule test failed,
     or --fail-on-findings or --fail-on-change applies
  2  invalid command line, rule or configuration
  3  incomplete: some input could not be read or evaluated,
     or the run stopped early";

#[derive(Debug, Subcommand)]
enum Command {
    Convert(convert::ConvertCommand),
    Nightly(nightly::NightlyCommand),
    Compact(compact::CompactCommand),
    Hunt(hunt::HuntCommand),
    Backtest(backtest::BacktestCommand),
    Tune(tune::TuneCommand),
    #[cfg(feature = "cluster")]
    Cluster(cluster::ClusterCommand),
    Rules(rules::RulesCommand),
    Exceptions(exceptions::ExceptionsCommand),
    Test(test::TestCommand),
    Sql(sql::Sql),
    Layouts(layouts::LayoutsCommand),
    Inspect(inspect::InspectCommand),
    Verify(verify::VerifyCommand),
    Query(query::QueryCommand),
    Trace(Box<trace::TraceCommand>),
    Summary(summary::SummaryCommand),
    Timeline(timeline::TimelineCommand),
    Completions(completions::CompletionsCommand),
    Man(man::ManCommand),
}

/// Headings of options in the help.
const RESOURCES: &str = "Resources";
const DATA: &str = "Data";
const RULES: &str = "Rules";
const WINDOWS: &str = "Windows";
const RANGE: &str = "Time range";
const OUTPUT: &str = "Output";
const LIMITS: &str = "Limits";
const CLUSTER: &str = "Cluster";

/// Options of every command.
#[derive(Debug, Args)]
struct GlobalArgs {
    /// Only print warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Print more about the choice of rules
    #[arg(long, short, global = true)]
    verbose: bool,
    /// Number of worker threads [default: the number of processors]
    #[arg(long, global = true, help_heading = RESOURCES, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Memory for sorting, grouping, matches and findings: 512M, 4G; a fixed part for reading comes on top
    #[arg(long, visible_alias = "memory-limit", global = true, help_heading = RESOURCES, value_name = "SIZE", default_value = "256M", value_parser = memory)]
    memory: usize,
    /// Number of objects to read at a time [default: 64 from S3, threads + 2 from disk]
    #[arg(long, global = true, help_heading = RESOURCES, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: Option<u16>,
    /// Reject raw objects that are larger than this when decompressed, from 1M to 1G [default: 512M]
    #[arg(long, global = true, help_heading = RESOURCES, value_name = "SIZE", value_parser = object_size)]
    max_object_size: Option<usize>,
    /// Reject records of raw objects that are larger than this, from 1M to 1G [default: 16M]
    #[arg(long, global = true, help_heading = RESOURCES, value_name = "SIZE", value_parser = object_size)]
    max_record_size: Option<usize>,
    #[command(flatten)]
    s3: S3Args,
}

/// Access to S3 buckets.
#[derive(Debug, Args)]
#[command(next_help_heading = "S3")]
struct S3Args {
    /// URL of an S3-compatible store [default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile's endpoint]
    #[arg(long = "s3-endpoint", id = "s3_endpoint", global = true, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the buckets [default: looked up at AWS]
    #[arg(long = "s3-region", id = "s3_region", global = true, value_name = "REGION")]
    region: Option<String>,
    /// Do not sign requests, for public buckets
    #[arg(long = "s3-anonymous", id = "s3_anonymous", global = true)]
    anonymous: bool,
    /// Pay for requests to Requester Pays buckets
    #[arg(long = "s3-requester-pays", id = "s3_requester_pays", global = true)]
    requester_pays: bool,
}

impl S3Args {
    fn access(self) -> Access {
        #[expect(clippy::disallowed_methods, reason = "the AWS tools read this variable too")]
        let endpoint = self.endpoint.or_else(|| std::env::var("AWS_ENDPOINT_URL_S3").ok());
        Access { endpoint, region: self.region, anonymous: self.anonymous, requester_pays: self.requester_pays }
    }
}

/// Stack of a worker thread, in bytes. The engine recurses into nested rule conditions.
const THREAD_STACK: usize = 16 << 20;

/// Stack of the thread that runs the command, in bytes. The system commits only the pages that are used.
const COMMAND_STACK: usize = 64 << 20;

/// Settings and handles that every command uses.
struct Context {
    output: Output,
    threads: usize,
    memory: usize,
    in_flight: Option<u16>,
    stores: Stores,
    scratch: Scratch,
}

/// Objects read from S3 at a time. S3 reads wait on the network most of the time.
const IN_FLIGHT_FROM_S3: u16 = 64;

impl Context {
    /// Writes a result atomically to a file or an S3 object, or to standard output.
    async fn write(&self, bytes: Vec<u8>, output: Option<&str>) -> Result<(), Error> {
        match output.map(Location::of) {
            Some(Location::S3 { bucket, key }) => self.stores.write(&bucket, &key, bytes).await?,
            Some(Location::Disk(path)) => self.output.bytes(&bytes, Some(&path))?,
            None => self.output.bytes(&bytes, None)?,
        }
        self.say_written(output);
        Ok(())
    }

    /// Says to which file or object a result was written.
    fn say_written(&self, output: Option<&str>) {
        if let Some(output) = output {
            self.output.talk(&format!("wrote {output}"));
        }
    }

    /// Checks that results can be written to `outputs`, before any data is read.
    fn check_outputs(outputs: [&Option<String>; 2]) -> Result<(), Error> {
        for output in outputs.into_iter().flatten() {
            Location::check(output)?;
            if let Location::Disk(path) = Location::of(output) {
                store::destination(&path)?;
            }
        }
        Ok(())
    }

    /// Returns the number of objects of `sources` to read at a time.
    fn in_flight(&self, sources: &[String]) -> usize {
        let in_s3 = |source: &String| matches!(Location::of(source), Location::S3 { .. });
        match self.in_flight {
            Some(given) => given.into(),
            None if sources.iter().any(in_s3) => IN_FLIGHT_FROM_S3.into(),
            None => self.threads + 2,
        }
    }

    /// Returns the engine's resources and the spill folder, which is removed on drop.
    fn engine(&self) -> Result<(Engine, tempfile::TempDir), Error> {
        let spill = self.scratch.folder_in(&std::env::temp_dir())?;
        let engine = Engine::new(self.threads, self.memory, spill.path())?;
        Ok((engine, spill))
    }
}

/// How a command writes its result, where it has no other formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum TableOrJson {
    /// A table for people
    #[default]
    Table,
    /// JSON
    Json,
}

/// Returns the command line, as the help, the completions and the man pages show it.
pub fn command() -> clap::Command {
    help::with_used_options(Cli::command())
}

/// Parses the command line, runs the command and returns its exit status.
pub fn run() -> Status {
    let cli = match command().try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { Status::Usage } else { Status::Done };
            Output::command_line(error);
            return status;
        }
    };
    let default = ReadSettings::default();
    let settings = ReadSettings {
        max_object: cli.global.max_object_size.unwrap_or(default.max_object),
        max_record: cli.global.max_record_size.unwrap_or(default.max_record),
        ..default
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let context = Context {
        output: Output { quiet: cli.global.quiet, verbose: cli.global.verbose },
        threads: cli.global.threads.map_or(processors, usize::from),
        memory: cli.global.memory,
        in_flight: cli.global.in_flight,
        stores: Stores::new(cli.global.s3.access()).with_read_settings(settings),
        scratch: Scratch::default(),
    };
    end_on_signal(context.scratch.clone(), context.output);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(context.threads)
        .thread_stack_size(THREAD_STACK)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => on_large_stack(|| {
            runtime.block_on(async {
                match cli.command {
                    Command::Convert(command) => command.run(&context).await,
                    Command::Nightly(command) => Box::pin(command.run(&context)).await,
                    Command::Compact(command) => command.run(&context).await,
                    Command::Hunt(command) => Box::pin(command.run(&context)).await,
                    #[cfg(feature = "cluster")]
                    Command::Cluster(command) => Box::pin(command.run(&context)).await,
                    Command::Backtest(command) => Box::pin(command.run(&context)).await,
                    Command::Tune(command) => Box::pin(command.run(&context)).await,
                    Command::Rules(command) => command.run(&context).await,
                    Command::Exceptions(command) => command.run(&context),
                    Command::Test(command) => command.run(&context).await,
                    Command::Sql(command) => command.run(&context).await,
                    Command::Layouts(command) => command.run(&context),
                    Command::Inspect(command) => command.run(&context).await,
                    Command::Verify(command) => Box::pin(command.run(&context)).await,
                    Command::Query(command) => Box::pin(command.run(&context)).await,
                    Command::Trace(command) => Box::pin(command.run(&context)).await,
                    Command::Summary(command) => Box::pin(command.run(&context)).await,
                    Command::Timeline(command) => Box::pin(command.run(&context)).await,
                    Command::Completions(command) => command.run(&context),
                    Command::Man(command) => command.run(&context),
                }
            })
        }),
        Err(source) => Err(Error::Resources { action: "start the worker threads", source }),
    };
    result.unwrap_or_else(|error| {
        context.output.error(&error);
        error.status()
    })
}

/// Runs a command on its own thread with [`COMMAND_STACK`]. The main thread's stack has the system's size, which can be
/// too small for query planning.
fn on_large_stack(run: impl FnOnce() -> Result<Status, Error> + Send) -> Result<Status, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(COMMAND_STACK).spawn_scoped(scope, run);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(source) => Err(Error::Resources { action: "start the command's thread", source }),
        }
    })
}

/// Ends the process at once on Ctrl-C or a termination signal. Unfinished files exist only in scratch folders, which the
/// handler removes.
fn end_on_signal(scratch: Scratch, output: Output) {
    static STOPPING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
    let handler = move || {
        if !STOPPING.swap(true, Ordering::SeqCst) {
            scratch.remove_all();
            output.warn("stopped; no partial output was left behind");
        }
        #[expect(clippy::exit, reason = "the engine may not yield for a long time")]
        std::process::exit(130);
    };
    if ctrlc::set_handler(handler).is_err() {
        output.warn("note: cannot handle signals; an interrupted run may leave scratch folders");
    }
}

/// Selects accounts and regions, and the objects of a raw trail.
#[derive(Debug, Args)]
#[command(next_help_heading = DATA)]
struct SelectionArgs {
    /// Only this account; separate several with commas or repeat the option. Selects objects of a raw trail by key and,
    /// except in `convert`, events by field
    #[arg(long, value_name = "ACCOUNT", value_delimiter = ',', value_parser = trail::account_id)]
    account: Vec<String>,
    /// Only this region; works like `--account`
    #[arg(long, value_name = "REGION", value_delimiter = ',', value_parser = trail::region_name)]
    region: Vec<String>,
    /// Latest delivery after an event; objects delivered later than this after the range are not read [default: 1d]
    #[arg(long, value_name = "PERIOD")]
    delivered_within: Option<Period>,
}

impl SelectionArgs {
    /// Returns the filter for events in queries. `tawny convert` selects by object key only.
    fn events(&self) -> EventSelection {
        EventSelection { accounts: self.account.clone(), regions: self.region.clone() }
    }

    /// Refuses options that only apply to the object keys of a raw trail.
    fn refuse_for_tables(&self) -> Result<(), Error> {
        if self.delivered_within.is_none() {
            return Ok(());
        }
        Err(Error::Usage {
            message: "`--delivered-within` only applies to raw trails".to_owned(),
            hint: Some("remove `--delivered-within`".to_owned()),
        })
    }

    fn selection(&self, events: Range) -> Selection {
        Selection {
            accounts: self.account.clone(),
            regions: self.region.clone(),
            events,
            delivered_within: self.delivered_within.map_or(DAY, Period::micros),
        }
    }
}

/// Selects rules and overrides their window settings.
#[derive(Debug, Args)]
#[command(next_help_heading = RULES)]
struct RuleArgs {
    #[command(flatten)]
    files: RuleFileArgs,
    /// Only the rule with this id, even if it is disabled; can be repeated
    #[arg(long, value_name = "ID")]
    rule: Vec<String>,
    /// Also run the disabled rules of a folder
    #[arg(long)]
    include_disabled: bool,
    /// Exit with code 2 if a rule of a folder cannot run, instead of skipping it
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    window: WindowArgs,
}

fn threshold(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "expected a whole number of at least 1".to_owned())
}

/// Overrides of a rule's window settings.
#[derive(Debug, Args)]
#[command(next_help_heading = WINDOWS)]
struct WindowArgs {
    /// Override the rule's Threshold: the number of matches that make a finding
    #[arg(long, value_name = "N", value_parser = threshold, allow_negative_numbers = true)]
    threshold: Option<NonZeroU32>,
    /// Override the rule's DedupPeriodMinutes: 90s, 15m, 24h, 7d
    #[arg(long, value_name = "PERIOD")]
    period: Option<Period>,
    /// Override the rule's window kind; `all` hunts with each kind and compares them
    #[arg(long, value_enum)]
    window: Option<WindowChoice>,
}

/// The window kinds of a command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WindowChoice {
    /// A window ends at each match; overlapping windows are one finding
    Sliding,
    /// The first match opens a window, the next match after its end opens another; this is Panther's behavior
    Dedup,
    /// Fixed windows, aligned to the Unix epoch
    Tumbling,
    /// All three kinds
    All,
}

impl WindowChoice {
    /// Returns the chosen kinds. `All` leaves out kinds that `rule` does not support.
    fn kinds(self, rule: &Rule) -> Vec<WindowKind> {
        match self {
            WindowChoice::Sliding => vec![WindowKind::Sliding],
            WindowChoice::Dedup => vec![WindowKind::Dedup],
            WindowChoice::Tumbling => vec![WindowKind::Tumbling],
            WindowChoice::All => WindowKind::ALL
                .into_iter()
                .filter(|kind| rule.check(Window { kind: *kind, ..rule.window }).is_ok())
                .collect(),
        }
    }
}

impl WindowArgs {
    fn is_given(&self) -> bool {
        self.threshold.is_some() || self.period.is_some() || self.window.is_some()
    }

    /// Returns the rules with these settings, one copy per window kind.
    fn apply(&self, rules: Vec<Rule>) -> Vec<Rule> {
        let mut applied = Vec::with_capacity(rules.len());
        for mut rule in rules {
            rule.window.threshold = self.threshold.unwrap_or(rule.window.threshold);
            rule.window.period = self.period.unwrap_or(rule.window.period);
            for kind in self.window.map_or(vec![rule.window.kind], |choice| choice.kinds(&rule)) {
                rule.window.kind = kind;
                applied.push(rule.clone());
            }
        }
        applied
    }
}

impl RuleArgs {
    /// Returns whether the output compares window kinds.
    fn compares_window_kinds(&self) -> bool {
        self.window.window == Some(WindowChoice::All)
    }

    /// Drops rules that need columns `data` does not have, unless the user named rules. If no rule can run, returns all of
    /// them, so that the hunt reports the error.
    async fn supported_by(
        &self,
        opened: &data::OpenedData,
        rules: Vec<Rule>,
        range: Range,
        output: Output,
    ) -> Result<Vec<Rule>, Error> {
        let range = initial_range_of(&rules, range);
        let is_supported = opened.table.answerable(&opened.engine, &rules, range).await?;
        let is_named =
            !self.rule.is_empty() || self.window.is_given() || self.files.rules.iter().any(|path| path.is_file());
        if is_named || !is_supported.contains(&true) {
            return Ok(rules);
        }
        let mut skipped = Vec::new();
        let mut supported = Vec::with_capacity(rules.len());
        for (rule, is_supported) in rules.into_iter().zip(is_supported) {
            if is_supported { supported.push(rule) } else { skipped.push(rule.id) }
        }
        if !skipped.is_empty() {
            let count = number_of(skipped.len(), "rule");
            let ids = skipped.join(", ");
            let reason = format!("{count} skipped (the data has no columns for their fields): {ids}");
            if self.strict {
                let hint = Some("leave out `--strict`, or name the columns with `--map`".to_owned());
                return Err(Error::Usage { message: reason, hint });
            }
            output.warn(&format!("warning: {reason}"));
        }
        Ok(supported)
    }

    fn choose(&self, output: Output) -> Result<Vec<Rule>, Error> {
        let default = [catalog::DEFAULT.to_owned()];
        let mut ids = &self.rule[..];
        // One threshold or period does not suit all shipped rules.
        if self.window.is_given() && self.files.rules.is_empty() && ids.is_empty() {
            output.talk(&format!("note: window options without `--rule` apply to `{}` only", catalog::DEFAULT));
            ids = &default;
        }
        let wanted = RuleChoice { ids, disabled: self.include_disabled };
        let (choice, _) = loading::choose(output, self.files.files(self.strict), wanted)?;
        if self.window.is_given() && ids.is_empty() && choice.rules.len() > 1 {
            return Err(Error::Usage {
                message: format!(
                    "one threshold, period or window does not suit all of {}",
                    number_of(choice.rules.len(), "rule")
                ),
                hint: Some(
                    "choose a rule with `--rule ID`, or change one of them: `--override ID:Threshold=5,Period=1h`"
                        .to_owned(),
                ),
            });
        }
        Ok(self.window.apply(choice.rules))
    }
}

/// Returns the current time.
#[expect(clippy::disallowed_methods, reason = "only the command line reads the clock")]
fn now() -> Instant {
    Instant::from_micros(chrono::Utc::now().timestamp_micros())
}

/// Returns the command line and the time, for pages.
fn run_details() -> RunDetails {
    let words = std::env::args_os().skip(1).map(|word| shell_word(&word.to_string_lossy()).into_owned());
    RunDetails { command: format!("tawny {}", words.collect::<Vec<_>>().join(" ")), time: now() }
}
