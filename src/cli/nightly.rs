use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::risk::RiskArgs;
use super::{Context, RuleFiles, TableOrJson, loading};
use crate::convert::Limits;
use crate::delta::AsOf;
use crate::error::{Error, Status};
use crate::hunt;
use crate::lake::Lake;
use crate::lake::maintenance::READER_GRACE_PERIOD;
use crate::nightly::config::{Config, TEMPLATE, VARIABLES, VerifyConfig};
use crate::nightly::{
    HuntSettings, MaintenanceSettings, Nightly, NightlySource, NightlyVerification, ReportedRule, RunReport,
    SourceListing, Storage,
};
use crate::output::{LogFormat, Output};
use crate::report::risk::ranked;
use crate::report::{FindingsFormat, nightly as report};
use crate::rule::Rule;
use crate::rule::catalog::{Choice, RuleChoice, SkippedRule};
use crate::sink::Sink;
use crate::statistics::ScanStatistics;
use crate::store::{Location, ReadSettings};
use crate::text::json;
use crate::time::{DAY, Instant, Range};
use crate::trail::{self, Selection, SelectionError};

/// Convert new objects, hunt the affected ranges and deliver new findings
///
/// Each finding is delivered once, and again only if later events change it. The next run resumes an interrupted one. The report
/// counts findings as new, grown (changed since they were delivered), gone (withdrawn or replaced) and known (unchanged).
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  tawny nightly init\n  tawny nightly --config tawny.toml --dry-run\n  tawny nightly --config tawny.toml --log json --format json -q"
)]
pub(super) struct NightlyCommand {
    #[command(subcommand)]
    init: Option<NightlyInit>,
    /// Configuration file; overridden by `TAWNY_LAKE`, `TAWNY_SOURCES`, `TAWNY_STATE`, `TAWNY_GRACE`, `TAWNY_SINCE` and `TAWNY_RETAIN`
    #[arg(long, value_name = "FILE", default_value = "tawny.toml")]
    config: PathBuf,
    /// Show what would be done, then exit
    #[arg(long)]
    dry_run: bool,
    /// List all days of all sources; use it after a backfill of days older than the grace period
    #[arg(long)]
    full: bool,
    /// Time to use instead of the clock: a date or an RFC 3339 time
    #[arg(long, value_name = "TIME")]
    now: Option<Instant>,
    /// Output format of the report [default: json with `--log json`, else table]
    #[arg(long, value_enum, help_heading = super::OUTPUT)]
    format: Option<TableOrJson>,
    #[command(flatten)]
    risk: RiskArgs,
    /// Log to standard error in this format [default: text, but only problems on a terminal]
    #[arg(long, value_enum, help_heading = super::OUTPUT)]
    log: Option<LogFormat>,
    /// Lowest level to log [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = super::OUTPUT)]
    log_level: Option<tracing::Level>,
}

#[derive(Debug, Subcommand)]
enum NightlyInit {
    /// Write a commented example configuration
    #[command(after_help = "Examples:\n  tawny nightly init\n  tawny nightly init /etc/tawny/tawny.toml")]
    Init {
        /// File to write; it must not exist
        #[arg(value_name = "FILE", default_value = "tawny.toml")]
        file: PathBuf,
    },
}

impl NightlyCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        if let Some(NightlyInit::Init { file }) = &self.init {
            return init(context, file);
        }
        if self.log.is_none() && self.log_level.is_none() && Output::is_read_by_a_person() {
            Output::log_problems();
        } else {
            context.output.log(self.log_level.unwrap_or(tracing::Level::INFO), self.log.unwrap_or_default());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "the configuration reads settings and secrets from the environment"
        )]
        let variable = |name: &str| std::env::var(name).ok();
        for (name, setting) in VARIABLES {
            if variable(name).is_some() {
                tracing::info!("{name} overrides the configuration: {setting}");
            }
        }
        let config = Config::read(&self.config, &variable)?;
        let (choice, skipped) = chosen_rules(context, &config)?;
        if config.sinks.is_empty() {
            context.output.warn("warning: no sinks are configured: the findings of this run are never delivered");
        }
        let sinks = config.sinks.iter().map(|settings| Sink::open(settings, &context.stores, &variable, super::now));
        let sinks = sinks.collect::<Result<Vec<_>, _>>()?;
        let ids: Vec<&str> = choice.rules.iter().map(|rule| rule.id.as_str()).collect();
        for sink in &sinks {
            for pattern in sink.unmatched_rules(&ids) {
                let name = sink.name();
                context.output.warn(&format!("warning: sink `{name}`: no enabled rule matches `{pattern}`"));
            }
        }
        let lake = Lake::open(&context.stores, &Location::of(&config.lake), AsOf::Latest).await?;
        let sources = config.sources.iter().map(source).collect::<Result<Vec<NightlySource>, Error>>()?;
        let paths: Vec<String> = sources.iter().map(|source| source.path.clone()).collect();
        let (engine, _spill) = context.engine()?;
        let unwrap = config.unwrap.iter().map(|path| path.0.clone()).collect();
        let settings = ReadSettings { unwrap, ..ReadSettings::clone(context.stores.read_settings()) };
        let stores = context.stores.clone().with_read_settings(settings);
        let limits =
            Limits { threads: context.threads, memory: context.memory / 4, in_flight: context.in_flight(&paths) };
        let grace = config.grace.0.micros();
        let nightly = Nightly {
            storage: Storage { lake: &lake, state: &config.state, scratch: &context.scratch },
            listing: SourceListing { stores: &stores, sources: &sources, grace, full: self.full },
            verification: config.verify.as_ref().map(verification).transpose()?,
            conversion: limits,
            hunt: HuntSettings { engine: &engine, rules: &choice.rules, since: config.since.map(|since| since.0) },
            sinks: &sinks,
            maintenance: MaintenanceSettings {
                merge_small_files: config.compact,
                merge_after: grace,
                memory: limits.memory,
                retain: config.retain.map(|retain| retain.0.0),
                keep_old: config.keep_old.map_or(READER_GRACE_PERIOD, |keep_old| keep_old.0.micros()),
            },
            now: self.now.unwrap_or_else(super::now),
        };
        if self.dry_run {
            let plan = Box::pin(nightly.plan()).await?;
            let text = match self.format() {
                TableOrJson::Table => report::plan(&plan),
                TableOrJson::Json => json::pretty(&plan).map_err(|error| Error::Internal(error.to_string()))?,
            };
            context.output.result(&text, None)?;
            let is_complete = plan.unlisted.is_empty() && skipped.is_empty();
            return Ok(if is_complete { Status::Done } else { Status::Incomplete });
        }
        let bar = context.output.progress(0, "converting");
        let mut progress = |statistics: &ScanStatistics| bar.set_position(statistics.stored_bytes);
        let mut done = Box::pin(nightly.run(&mut progress, &|bytes| context.output.deliver(bytes))).await?;
        bar.finish_and_clear();
        let errors = skipped.iter().filter_map(|skipped| skipped.errors.first());
        if self.risk.risk {
            // After maintenance and a first conversion, the lake has another version.
            let lake = Lake::open(&context.stores, &Location::of(&config.lake), AsOf::Latest).await?;
            let end = nightly.now;
            let range = self.risk.counted_range(end);
            let hunted = hunt::hunt_buffered(&engine, &lake, &choice.rules, range).await?;
            done.risk = Some(self.risk.ranking(&hunted.findings, Some(end)).await?);
        }
        done.skipped_rules = errors.map(ReportedRule::from).collect();
        context.output.faults(&done.read.faults, done.read.rejected());
        self.write_report(context, &config, &done).await?;
        if !done.read.balances() {
            return Err(Error::Internal("the reconciliation does not balance".to_owned()));
        }
        Ok(if done.is_incomplete() { Status::Incomplete } else { Status::Done })
    }

    fn format(&self) -> TableOrJson {
        let by_log = if self.log == Some(LogFormat::Json) { TableOrJson::Json } else { TableOrJson::Table };
        self.format.unwrap_or(by_log)
    }

    /// Writes the report to standard output, or to standard error if a sink writes findings to standard output.
    async fn write_report(&self, context: &Context, config: &Config, done: &RunReport) -> Result<(), Error> {
        let text = match self.format() {
            TableOrJson::Table => {
                let ranking = done.risk.as_ref().map(|risk| ranked(risk, FindingsFormat::Table)).transpose()?;
                report::table(done) + &ranking.unwrap_or_default()
            }
            TableOrJson::Json if self.format.is_none() => report::as_json_line(done)? + "\n",
            TableOrJson::Json => report::as_json(done)?,
        };
        if config.sinks.iter().any(|sink| matches!(sink, crate::sink::SinkSettings::Stdout { .. })) {
            if self.log == Some(LogFormat::Json) && self.format() == TableOrJson::Json {
                context.output.log_object(&report::as_json_line(done)?);
            } else {
                context.output.talk_lines(text.trim_end());
            }
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

fn verification(config: &VerifyConfig) -> Result<NightlyVerification, Error> {
    let keys = super::verify::read_keys(&config.public_keys)?;
    Ok(NightlyVerification { digests: config.digests.clone(), keys })
}

/// Reads and chooses the rules of a configuration.
fn chosen_rules(context: &Context, config: &Config) -> Result<(Choice, Vec<SkippedRule>), Error> {
    let rules = &config.rules;
    let overrides = config.overrides();
    let files = RuleFiles {
        paths: &rules.paths,
        with_shipped: rules.with_shipped,
        overrides: &overrides,
        once_per_act: rules.once_per_act,
        exceptions: &config.exceptions.files,
        placeholders: rules.placeholders.as_deref(),
        needed_ids: &[],
        strict: rules.strict,
    };
    let wanted = RuleChoice { ids: &rules.ids, disabled: rules.include_disabled };
    let (choice, skipped) = loading::choose(context.output, files, wanted)?;
    check_without_origins(&choice.rules)?;
    Ok((choice, skipped))
}

/// Makes sure that no rule needs origins, which a night does not follow: a late event can change those of earlier matches.
fn check_without_origins(rules: &[Rule]) -> Result<(), Error> {
    let Some(rule) = rules.iter().find(|rule| rule.needs_origins()) else { return Ok(()) };
    Err(Error::Usage {
        message: format!("the rule `{}` uses `origin`, which nightly runs do not follow", rule.id),
        hint: Some("leave it out, and run it with `tawny hunt`; or group by `actor`".to_owned()),
    })
}

fn source(source: &crate::nightly::config::SourceConfig) -> Result<NightlySource, Error> {
    let wrong = |error: SelectionError| Error::usage(format!("the source `{}`: {error}", source.path));
    let selection = Selection {
        accounts: source.accounts.iter().map(|id| trail::account_id(id)).collect::<Result<_, _>>().map_err(wrong)?,
        regions: source.regions.iter().map(|name| trail::region_name(name)).collect::<Result<_, _>>().map_err(wrong)?,
        events: Range::default(),
        delivered_within: DAY,
    };
    Ok(NightlySource { path: source.path.clone(), selection })
}

/// Writes the example configuration.
fn init(context: &Context, file: &Path) -> Result<Status, Error> {
    if file.exists() {
        let message = format!("`{}` already exists", file.display());
        let hint = Some("name another file: `tawny nightly init FILE`".to_owned());
        return Err(Error::Usage { message, hint });
    }
    context.output.result(TEMPLATE, Some(file))?;
    context
        .output
        .talk(&format!("wrote `{}`: set `path` of `[[source]]` to where CloudTrail delivers", file.display()));
    Ok(Status::Done)
}
