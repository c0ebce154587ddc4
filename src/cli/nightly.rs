use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use crate::convert::Limits;
use crate::error::{Error, Status};
use crate::lake::Lake;
use crate::nightly::config::{Config, TEMPLATE, VARIABLES};
use crate::nightly::{Nightly, Source};
use crate::output::LogFormat;
use crate::report::nightly as report;
use crate::rule::catalog::{self, RuleChoice};
use crate::sink::Sink;
use crate::statistics::ScanStatistics;
use crate::store::{Location, ReadSettings};
use crate::text::json;
use crate::time::{self, DAY, Range};
use crate::trail::Selection;

/// Convert what is new, hunt what it touches, and deliver what has changed
///
/// Each finding is delivered once, and again only where later events change it. A run that is broken off is taken up
/// by the next.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  tawny nightly init\n  tawny nightly --config tawny.toml --dry-run\n  tawny nightly --config tawny.toml --log json --format json -q"
)]
pub(super) struct NightlyCommand {
    #[command(subcommand)]
    init: Option<Init>,
    /// The configuration; `TAWNY_LAKE`, `TAWNY_SOURCES`, `TAWNY_STATE`, `TAWNY_GRACE`, `TAWNY_SINCE` and `TAWNY_RETAIN` override it
    #[arg(long, value_name = "FILE", default_value = "tawny.toml")]
    config: PathBuf,
    /// Tell what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// List all sources whole, however old: after a backfill of days past their grace
    #[arg(long)]
    full: bool,
    /// What counts as now, in place of the clock: a date or an RFC 3339 time
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    now: Option<i64>,
    /// How the report is written
    #[arg(long, value_enum, default_value_t)]
    format: ReportFormat,
    /// How the log is written, to standard error
    #[arg(long, value_enum, default_value_t)]
    log: LogFormat,
    /// The least that is logged
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: tracing::Level,
}

#[derive(Debug, Subcommand)]
enum Init {
    /// Write a configuration with comments, to begin with
    #[command(after_help = "Examples:\n  tawny nightly init\n  tawny nightly init /etc/tawny/tawny.toml")]
    Init {
        /// The file; it must not exist
        #[arg(value_name = "FILE", default_value = "tawny.toml")]
        file: PathBuf,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
enum ReportFormat {
    /// A table for people
    #[default]
    Table,
    /// One JSON object
    Json,
}

impl NightlyCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        if let Some(Init::Init { file }) = &self.init {
            if file.exists() {
                let message = format!("`{}` is there already", file.display());
                return Err(Error::Usage { message, hint: Some("name another file".to_owned()) });
            }
            context.output.result(TEMPLATE, Some(file))?;
            context.output.talk(&format!("wrote `{}`; say in it where CloudTrail is delivered", file.display()));
            return Ok(Status::Done);
        }
        context.output.log(self.log_level, self.log);
        #[expect(clippy::disallowed_methods, reason = "settings that a configuration names, and secrets")]
        let variable = |name: &str| std::env::var(name).ok();
        for (name, what) in VARIABLES {
            if variable(name).is_some() {
                tracing::info!("{name} says {what}");
            }
        }
        let config = Config::read(&self.config, &variable)?;
        let rules = &config.rules;
        let wanted = RuleChoice { paths: &rules.paths, ids: &rules.ids, disabled: rules.include_disabled };
        let choice = catalog::choose(wanted)?;
        choice.notices.iter().for_each(|notice| context.output.talk(&format!("note: {notice}")));
        if config.sinks.is_empty() {
            context.output.warn(
                "warning: there is no sink: what is found is delivered to nobody, nor to one that is added later",
            );
        }
        let sinks = config.sinks.iter().map(|settings| Sink::open(settings, &context.stores, &variable, now));
        let sinks = sinks.collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<&str> = choice.rules.iter().map(|rule| rule.id.as_str()).collect();
        for sink in &sinks {
            for pattern in sink.unmatched_rules(&ids) {
                let name = sink.name();
                context
                    .output
                    .warn(&format!("warning: no rule that runs matches `{pattern}`, which the sink `{name}` asks for"));
            }
        }
        let lake = Lake::open(&context.stores, &Location::of(&config.lake)).await?;
        let sources: Vec<Source> = config.sources.iter().map(source).collect();
        let paths: Vec<String> = sources.iter().map(|source| source.path.clone()).collect();
        let (resources, _spill) = context.resources()?;
        let unwrap = config.unwrap.iter().map(|path| path.0.clone()).collect();
        let settings = ReadSettings { unwrap, ..ReadSettings::clone(context.stores.read_settings()) };
        let stores = context.stores.clone().with_read_settings(settings);
        let nightly = Nightly {
            stores: &stores,
            scratch: &context.scratch,
            resources: &resources,
            limits: Limits {
                threads: context.threads,
                memory: context.memory / 4,
                in_flight: context.in_flight(&paths),
            },
            lake: &lake,
            state: &config.state,
            sources: &sources,
            rules: &choice.rules,
            sinks: &sinks,
            grace: config.grace.0.micros(),
            since: config.since.map(|since| since.0.micros()),
            now: self.now.unwrap_or_else(now),
            full: self.full,
            compact: config.compact,
            retain: config.retain.map(|retain| retain.0.0),
        };
        if self.dry_run {
            let plan = Box::pin(nightly.plan()).await?;
            let text = match self.format {
                ReportFormat::Table => report::plan(&plan),
                ReportFormat::Json => json::pretty(&plan).map_err(|error| Error::Internal(error.to_string()))?,
            };
            context.output.result(&text, None)?;
            return Ok(if plan.unlisted.is_empty() { Status::Done } else { Status::Incomplete });
        }
        let bar = context.output.progress(0, "converting");
        let mut progress = |statistics: &ScanStatistics| bar.set_position(statistics.stored_bytes);
        let done = Box::pin(nightly.run(&mut progress, &|bytes| context.output.deliver(bytes))).await?;
        bar.finish_and_clear();
        context.output.faults(&done.read.faults, done.read.rejected());
        self.tell(context, &config, &done).await?;
        if !done.read.balances() {
            return Err(Error::Internal("the reconciliation does not balance".to_owned()));
        }
        Ok(if done.is_incomplete() { Status::Incomplete } else { Status::Done })
    }

    /// Writes the report: to standard output, or to standard error where a sink writes findings there.
    async fn tell(&self, context: &Context, config: &Config, done: &crate::nightly::Report) -> Result<(), Error> {
        let text = match self.format {
            ReportFormat::Table => report::table(done),
            ReportFormat::Json => report::as_json(done)?,
        };
        if config.sinks.iter().any(|sink| matches!(sink, crate::sink::Settings::Stdout { .. })) {
            context.output.talk_lines(text.trim_end());
        } else {
            context.output.result(&text, None)?;
        }
        if let Some(file) = &config.report.json {
            context.write(report::as_json(done)?.into_bytes(), Some(file)).await?;
        }
        if let Some(file) = &config.report.prometheus {
            context.write(report::prometheus(done).into_bytes(), Some(file)).await?;
        }
        Ok(())
    }
}

fn source(source: &crate::nightly::config::Source) -> Source {
    let selection = Selection {
        accounts: source.accounts.clone(),
        regions: source.regions.clone(),
        events: Range::default(),
        delivered_within: DAY,
    };
    Source { path: source.path.clone(), selection }
}

#[expect(clippy::disallowed_methods, reason = "a run begins now")]
fn now() -> i64 {
    chrono::Utc::now().timestamp_micros()
}
