//! The command line.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use clap::{Args, Parser, Subcommand};

use crate::engine::{EventSelection, Resources};
use crate::error::{Error, Status};
use crate::finding::Finding;
use crate::hunt::initial_range_of;
use crate::output::Output;
use crate::report::{self, Format};
use crate::rule::catalog::{self, RuleChoice};
use crate::rule::{Rule, Window, WindowKind};
use crate::statistics::number_of;
use crate::store::{self, Access, Location, ReadSettings, Scratch, Stores};
use crate::table::Table;
use crate::time::{DAY, Period, Range};
use crate::trail::Selection;

mod backtest;
mod cluster;
mod compact;
mod completions;
mod convert;
mod data;
mod hunt;
mod inspect;
mod layouts;
mod man;
mod nightly;
mod outcome;
mod query;
mod range;
mod raw_input;
mod rules;
mod sql;
mod test;

/// Batch hunts for threshold rules over AWS CloudTrail.
#[derive(Debug, Parser)]
#[command(version = VERSION, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    shared: Shared,
}

/// The version and, of a release, the commit it was built from.
const VERSION: &str = env!("TAWNY_VERSION");

const EXIT_CODES: &str = "Exit codes: 0 done; 1 a rule's test failed, or findings under --fail-on-findings, or changes under --fail-on-change; \
2 bad use or bad rule; 3 incomplete: some input could not be read, or the run broke off.";

#[derive(Debug, Subcommand)]
enum Command {
    Convert(convert::Convert),
    Nightly(nightly::NightlyCommand),
    Compact(compact::Compact),
    Hunt(hunt::Hunt),
    Backtest(backtest::Backtest),
    #[cfg(feature = "cluster")]
    Cluster(cluster::Nodes),
    Rules(rules::Rules),
    Test(test::Test),
    Sql(sql::Sql),
    Layouts(layouts::Layouts),
    Inspect(inspect::Inspect),
    Query(query::Query),
    Completions(completions::Completions),
    Man(man::ManCommand),
}

/// What every command takes.
#[derive(Debug, Args)]
struct Shared {
    /// Say nothing but warnings and errors
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Work on this many things at a time [default: the number of processors]
    #[arg(long, global = true, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Mebibytes for sorting and for gathering records
    #[arg(long, visible_alias = "memory-limit", global = true, default_value_t = 256, value_parser = clap::value_parser!(u32).range(64..))]
    memory: u32,
    /// Read this many objects at a time [default: 64 from S3, from disk a few more than threads]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    in_flight: Option<u16>,
    /// Reject raw objects that hold more than this once unpacked, a gibibyte at most: 64M, 1G [default: 512M]
    #[arg(long, global = true, value_name = "SIZE", value_parser = object_size)]
    max_object_size: Option<usize>,
    /// Reject records of raw objects that hold more than this, a gibibyte at most: 1M, 64M [default: 16M]
    #[arg(long, global = true, value_name = "SIZE", value_parser = object_size)]
    max_record_size: Option<usize>,
    #[command(flatten)]
    s3: S3Args,
}

/// Reads a size: bytes, or with one of the letters K, M, G, T.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "expected a number of bytes, or one with K, M, G or T: 500M".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().trim_end_matches('B').trim_end_matches('I') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// Reads the bound on an object or a record: beyond a gibibyte the text of a column might not fit.
fn object_size(text: &str) -> Result<usize, String> {
    match usize::try_from(size(text)?) {
        Ok(bytes) if (1 << 20..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("expected a size from 1M to 1G".to_owned()),
    }
}

/// How buckets are reached.
#[derive(Debug, Args)]
#[command(next_help_heading = "S3")]
struct S3Args {
    /// URL of a store other than AWS's own [default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile's]
    #[arg(long = "s3-endpoint", id = "s3_endpoint", global = true, value_name = "URL")]
    endpoint: Option<String>,
    /// Region of the buckets [default: asked of AWS]
    #[arg(long = "s3-region", id = "s3_region", global = true, value_name = "REGION")]
    region: Option<String>,
    /// Do not sign requests, for public buckets
    #[arg(long = "s3-anonymous", id = "s3_anonymous", global = true)]
    anonymous: bool,
    /// Pay for the requests to buckets whose reader pays
    #[arg(long = "s3-requester-pays", id = "s3_requester_pays", global = true)]
    requester_pays: bool,
}

impl S3Args {
    fn access(self) -> Access {
        #[expect(clippy::disallowed_methods, reason = "a setting of AWS's own tools, taken as an argument is")]
        let endpoint = self.endpoint.or_else(|| std::env::var("AWS_ENDPOINT_URL_S3").ok());
        Access { endpoint, region: self.region, anonymous: self.anonymous, requester_pays: self.requester_pays }
    }
}

/// Bytes of stack of a working thread: the engine descends into a rule's conditions.
const THREAD_STACK: usize = 16 << 20;

/// Bytes of stack of the thread that a command runs on. The system gives memory to what is used of it alone.
const COMMAND_STACK: usize = 64 << 20;

/// What a command runs with.
struct Context {
    output: Output,
    threads: usize,
    memory: usize,
    in_flight: Option<u16>,
    stores: Stores,
    scratch: Scratch,
}

/// Objects that are read from S3 at a time: each is mostly waiting.
const IN_FLIGHT_FROM_S3: u16 = 64;

impl Context {
    /// Writes a result: to a file or an object, all or nothing, or to standard output.
    async fn write(&self, bytes: Vec<u8>, output: Option<&str>) -> Result<(), Error> {
        match output.map(Location::of) {
            Some(Location::S3 { bucket, key }) => self.stores.write(&bucket, &key, bytes).await,
            Some(Location::Disk(path)) => self.output.bytes(&bytes, Some(&path)),
            None => self.output.bytes(&bytes, None),
        }
    }

    /// As [`Context::write`], for findings; their text as JSON is not held, but for S3.
    async fn write_findings(&self, findings: &[Finding], format: Format, output: Option<&str>) -> Result<(), Error> {
        let write = |to: &mut dyn std::io::Write| report::write(findings, format, to);
        match (format, output.map(Location::of)) {
            (Format::Json | Format::Jsonl, Some(Location::Disk(path))) => self.output.write(Some(&path), &write),
            (Format::Json | Format::Jsonl, None) => self.output.write(None, &write),
            _ => self.write(report::findings(findings, format)?.into_bytes(), output).await,
        }
    }

    /// Makes sure that results may be written where they go, before anything is read.
    fn check_outputs(outputs: [&Option<String>; 2]) -> Result<(), Error> {
        for output in outputs.into_iter().flatten() {
            Location::check(output)?;
            if let Location::Disk(path) = Location::of(output) {
                store::destination(&path)?;
            }
        }
        Ok(())
    }

    /// How many objects of `sources` are read at a time.
    fn in_flight(&self, sources: &[String]) -> usize {
        let in_s3 = |source: &String| matches!(Location::of(source), Location::S3 { .. });
        match self.in_flight {
            Some(given) => given.into(),
            None if sources.iter().any(in_s3) => IN_FLIGHT_FROM_S3.into(),
            None => self.threads + 2,
        }
    }

    /// The engine's resources, and the folder they spill to for as long as it lives.
    fn resources(&self) -> Result<(Resources, tempfile::TempDir), Error> {
        let spill = self.scratch.folder_in(&std::env::temp_dir())?;
        let resources = Resources::new(self.threads, self.memory, spill.path())?;
        Ok((resources, spill))
    }
}

/// Parses the command line, runs the command and tells how it ended.
pub fn run() -> Status {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { Status::Usage } else { Status::Done };
            Output::command_line(error);
            return status;
        }
    };
    let default = ReadSettings::default();
    let settings = ReadSettings {
        max_object: cli.shared.max_object_size.unwrap_or(default.max_object),
        max_record: cli.shared.max_record_size.unwrap_or(default.max_record),
        ..default
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let context = Context {
        output: Output { quiet: cli.shared.quiet },
        threads: cli.shared.threads.map_or(processors, usize::from),
        memory: cli.shared.memory as usize * (1 << 20),
        in_flight: cli.shared.in_flight,
        stores: Stores::new(cli.shared.s3.access()).with_read_settings(settings),
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
                    Command::Rules(command) => command.run(&context).await,
                    Command::Test(command) => command.run(&context).await,
                    Command::Sql(command) => command.run(&context),
                    Command::Layouts(command) => command.run(&context),
                    Command::Inspect(command) => command.run(&context).await,
                    Command::Query(command) => Box::pin(command.run(&context)).await,
                    Command::Completions(command) => command.run(&context),
                    Command::Man(command) => command.run(&context),
                }
            })
        }),
        Err(error) => Err(Error::Internal(format!("no threads: {error}"))),
    };
    result.unwrap_or_else(|error| {
        context.output.error(&error);
        error.status()
    })
}

/// Runs a command on a thread of its own: the stack of the first thread is as large as the system's limit, which may be
/// less than planning takes.
fn on_large_stack(run: impl FnOnce() -> Result<Status, Error> + Send) -> Result<Status, Error> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(COMMAND_STACK).spawn_scoped(scope, run);
        match thread.map(std::thread::ScopedJoinHandle::join) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(error) => Err(Error::Internal(format!("no thread: {error}"))),
        }
    })
}

/// Ends the process at once on Ctrl-C or a termination signal. Whatever is unfinished lies in
/// scratch folders, which are removed; nothing else is half-written at any time.
fn end_on_signal(scratch: Scratch, output: Output) {
    static STOPPING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
    let handler = move || {
        if !STOPPING.swap(true, Ordering::SeqCst) {
            scratch.remove_all();
            output.warn("stopped; nothing half-written is left");
        }
        #[expect(clippy::exit, reason = "the engine may not yield for a long time; the signal ends it")]
        std::process::exit(130);
    };
    if ctrlc::set_handler(handler).is_err() {
        output.warn("note: signals cannot be handled; stopping may leave scratch folders");
    }
}

/// Which accounts and regions, and which objects of a raw trail.
#[derive(Debug, Args)]
struct SelectionArgs {
    /// Only this account: a raw trail's objects by their keys, and, but for `convert`, events by their fields; several by commas, or
    /// repeat it
    #[arg(long, value_name = "ACCOUNT", value_delimiter = ',')]
    account: Vec<String>,
    /// Only this region, likewise
    #[arg(long, value_name = "REGION", value_delimiter = ',')]
    region: Vec<String>,
    /// How long after an event its object may have been delivered: objects of later days are not read
    #[arg(long, value_name = "PERIOD")]
    delivered_within: Option<Period>,
}

impl SelectionArgs {
    /// The events that queries see. `tawny convert` chooses by keys alone.
    fn events(&self) -> EventSelection {
        EventSelection { accounts: self.account.clone(), regions: self.region.clone() }
    }

    /// Makes sure that nothing was asked for that only the keys of a raw trail show.
    fn refuse_for_tables(&self) -> Result<(), Error> {
        if self.delivered_within.is_none() {
            return Ok(());
        }
        Err(Error::Usage {
            message: "`--delivered-within` chooses among the objects of a raw trail".to_owned(),
            hint: Some("leave it out: from a lake or a table everything in the range is read".to_owned()),
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

/// Which rules, and with which window.
#[derive(Debug, Args)]
struct RuleArgs {
    /// Rule files, or folders whose enabled rules run [default: the rules that come with tawny]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    rules: Vec<PathBuf>,
    /// Only the rule with this id, even if it is disabled; may be repeated
    #[arg(long, value_name = "ID")]
    rule: Vec<String>,
    /// Of a folder also the rules that are disabled
    #[arg(long)]
    include_disabled: bool,
    #[command(flatten)]
    window: WindowArgs,
}

fn threshold(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "a threshold is a whole number, at least 1".to_owned())
}

/// Settings that replace a rule's own.
#[derive(Debug, Args)]
struct WindowArgs {
    /// Matches that make a finding, in place of the rule's Threshold
    #[arg(long, value_name = "N", value_parser = threshold, allow_negative_numbers = true)]
    threshold: Option<NonZeroU32>,
    /// Length of a window, in place of the rule's DedupPeriodMinutes: 90s, 15m, 24h, 7d
    #[arg(long, value_name = "PERIOD")]
    period: Option<Period>,
    /// Shape of the windows; `all` hunts with each of them and compares
    #[arg(long, value_enum)]
    window: Option<WindowChoice>,
}

/// Which shapes of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WindowChoice {
    /// A window ends at every match; windows that share a match are one burst
    Sliding,
    /// A match opens a window; the next match after its end opens another, as in Panther
    Dedup,
    /// Windows follow one another from the epoch
    Tumbling,
    /// Each of these
    All,
}

impl WindowChoice {
    /// The kinds of windows; of all of them those that `rule` can have.
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

    /// The rules with these settings: each once for each shape of windows.
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
    /// Whether shapes of windows are to be compared.
    fn compares(&self) -> bool {
        self.window.window == Some(WindowChoice::All)
    }

    /// Of rules that nobody has named one by one, those that `data` can answer. Where they can answer none all stay, to
    /// be refused.
    async fn answered(
        &self,
        resources: &Resources,
        rules: Vec<Rule>,
        range: Range,
        (table, output): (&dyn Table, Output),
    ) -> Result<Vec<Rule>, Error> {
        let answerable = table.answerable(resources, &rules, initial_range_of(&rules, range)).await?;
        let is_named = !self.rule.is_empty() || self.window.is_given() || self.rules.iter().any(|path| path.is_file());
        if is_named || !answerable.contains(&true) {
            return Ok(rules);
        }
        let (answered, left): (Vec<_>, Vec<_>) =
            rules.into_iter().zip(answerable).partition(|(_, is_answered)| *is_answered);
        let of = |rules: Vec<(Rule, bool)>| rules.into_iter().map(|(rule, _)| rule).collect::<Vec<Rule>>();
        let (answered, left) = (of(answered), of(left));
        if !left.is_empty() {
            let ids = left.iter().map(|rule| rule.id.as_str()).collect::<Vec<_>>().join(", ");
            let what = number_of(left.len(), "rule");
            output.talk(&format!("note: {what} left out, which ask for what these data do not tell: {ids}"));
        }
        Ok(answered)
    }

    fn choose(&self, output: Output) -> Result<Vec<Rule>, Error> {
        let default = [catalog::DEFAULT.to_owned()];
        let mut ids = &self.rule[..];
        // A window is one rule's: set for all that come with tawny it would make nonsense of most.
        if self.window.is_given() && self.rules.is_empty() && ids.is_empty() {
            output.talk(&format!("note: a window was given and no rule: this is `{}` alone", catalog::DEFAULT));
            ids = &default;
        }
        let choice = catalog::choose(RuleChoice { paths: &self.rules, ids, disabled: self.include_disabled })?;
        for notice in &choice.notices {
            output.talk(&format!("note: {notice}"));
        }
        Ok(self.window.apply(choice.rules))
    }
}
