use std::collections::{BTreeSet, HashMap};

use clap::Args;
use indicatif::HumanBytes;

use super::cluster::ClusterArgs;
use super::data::{DataArgs, OpenedData};
use super::outcome::{ReadSummary, report_undecided};
use super::range::RangeArgs;
use super::result::{FindingOrder, FindingsView};
use super::risk::RiskArgs;
use super::{Context, RuleArgs, format, size};
use crate::engine::Engine;
use crate::error::{Error, Status};
use crate::finding::{Finding, Origin};
use crate::hunt::events::{self, EventLimits};
use crate::hunt::exceptions::{self, ExceptedHunt, RuleEffects};
use crate::hunt::known_data::EventTimes;
use crate::hunt::{BufferedHunt, FindingBuffer, initial_range_of};
use crate::lake::transaction_log::VerifiedObjects;
use crate::output::Output;
use crate::report::page::{HuntResults, HuntSummary};
use crate::report::{self, FindingCounts, FindingsFormat, Screen};
use crate::rule::{Rule, Severity};
use crate::statistics::number_of;
use crate::table::{Table, TableKind, TableListing};
use crate::time::Range;
use crate::trace::{self, FindingEvents};

/// Maximum number of events of `--show`.
const SHOWN_EVENTS: usize = 1_000;
/// Maximum number of ids to list if the start of an id is not enough.
const MAX_AMBIGUOUS: usize = 5;

/// Run rules over a lake, a raw trail or another tool's Parquet
///
/// A raw trail is hunted in place, without conversion.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny hunt trail/\n  tawny hunt lake/ --from 2026-09-01 --to 2026-10-01 --threshold 3 --period 30m\n  tawny hunt s3://logs/AWSLogs --from 2026-09-01 --to 2026-09-02 --account 111122223333\n  tawny hunt lake/ --last 24h --format jsonl -o findings.jsonl --fail-on-findings\n  tawny hunt lake/ --exceptions exceptions.yml --report hunt.html\n  tawny hunt lake/ --last 30d --risk"
)]
pub(super) struct HuntCommand {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    risk: RiskArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    #[command(flatten)]
    result: HuntOutputArgs,
    #[command(flatten)]
    limits: HuntLimitArgs,
}

/// Options for the output of a hunt.
#[derive(Debug, Args)]
#[command(next_help_heading = super::OUTPUT)]
struct HuntOutputArgs {
    /// Output format of the findings [default: by the ending of `--output`, else table]
    #[arg(long, value_enum)]
    format: Option<FindingsFormat>,
    /// Write the findings to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Order of the findings
    #[arg(long, value_enum, value_name = "ORDER", default_value_t, conflicts_with = "risk")]
    sort: FindingOrder,
    /// Only findings of this severity and above: Info, Low, Medium, High or Critical
    #[arg(long, value_name = "SEVERITY", default_value = "Info", hide_default_value = true, value_parser = severity, conflicts_with = "risk")]
    min_severity: Severity,
    /// Show one finding with its events and its rule's runbook: its id, or the start of it; reads the data a second time
    #[arg(long, value_name = "FINDING", conflicts_with_all = ["report", "sort", "min_severity", "dry_run", "risk"])]
    show: Option<String>,
    /// Write an HTML page with charts and the events of each finding to this file or `s3://BUCKET/KEY`; reads the data a
    /// second time
    #[arg(long, value_name = "FILE", conflicts_with = "risk")]
    report: Option<String>,
    /// Add to each finding who began the chains of the credentials that its events used; reads the data a second time
    #[arg(long, conflicts_with = "risk")]
    explain_origin: bool,
    /// Exit with code 1 if any finding is an alert
    #[arg(long)]
    fail_on_findings: bool,
}

/// Limits of what a hunt reads.
#[derive(Debug, Args)]
#[command(next_help_heading = super::LIMITS)]
struct HuntLimitArgs {
    /// Show what would be read, then exit
    #[arg(long)]
    dry_run: bool,
    /// Refuse to read more objects or files than this
    #[arg(long, value_name = "N")]
    max_objects: Option<u64>,
    /// Refuse to read more bytes than this: 500M, 20G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
}

/// Parses a severity, in upper or lower case.
fn severity(text: &str) -> Result<Severity, String> {
    let named = Severity::ALL.into_iter().find(|severity| severity.to_string().eq_ignore_ascii_case(text));
    named.ok_or_else(|| format!("expected one of {}", Severity::ALL.map(|severity| severity.to_string()).join(", ")))
}

impl HuntCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let HuntOutputArgs { output, report, show, fail_on_findings, .. } = &self.result;
        let view = self.result.view()?;
        if self.risk.risk && self.rules.compares_window_kinds() {
            return Err(Error::usage("`--risk` counts each burst once: choose one kind of `--window`"));
        }
        let rules = self.rules.choose(context.output)?;
        let range = self.range.range()?;
        Context::check_outputs([output, report])?;
        let opened = self.data.open(context, Some(&self.cluster), "hunting").await?;
        opened.warn_of_cuts(context.output);
        let (engine, table) = (&opened.engine, opened.table.as_ref());
        let summary = opened.hunt_summary(range);
        let limits = &self.limits;
        if limits.dry_run || limits.max_objects.is_some() || limits.max_bytes.is_some() {
            let needs_all_data = rules.iter().any(|rule| rule.setting().needs_all_data() || rule.needs_origins());
            let read = if needs_all_data { Range::default() } else { initial_range_of(&rules, range) };
            let listing = table.snapshot(read).await?.listing();
            limits.check(&listing)?;
            if limits.dry_run {
                opened.bar.finish_and_clear();
                context.write(self.describe(&listing, view.format).into_bytes(), output.as_deref()).await?;
                return summary.report_listing(context.output, &listing).await;
            }
        }
        let rules = self.rules.supported_by(&opened, rules, range, context.output).await?;
        let hunt = ExceptedHunt::new(rules, range)?;
        let rules = hunt.rules();
        let (hunted, effects) = hunt.hunt_buffered(engine, table).await?;
        let BufferedHunt { findings, duplicates, read, open_matches } = hunted;
        let RuleEffects { exceptions, undecided } = effects;
        let exceptions = exceptions::reports(rules, &exceptions, range.to.unwrap_or_else(super::now));
        let records = engine.scanned.rows();
        opened.bar.finish_and_clear();
        let mut figures = HuntSummary::new(engine, report::page::SHOWN.findings);
        let is_reported = report.is_some();
        let mut counts = FindingCounts::default();
        let mut origins = self.origins(engine, table, range, &findings).await?;
        let verified = are_verified(table, range, &findings).await?;
        let mut count = |finding: &mut Finding| {
            finding.origins = origins.remove(&finding.finding_id).unwrap_or_default();
            finding.from_verified_objects = verified;
            finding.table_version = read.table_version;
            counts.add(finding);
            if is_reported { figures.add(finding) } else { Ok(()) }
        };
        if let Some(id) = show {
            let mut found = finding_with_id(&findings, id).await?;
            count(&mut found)?;
            let text = show_finding(&opened, rules, found, view.format, output.is_some()).await?;
            context.write(text.into_bytes(), output.as_deref()).await?;
        } else if self.risk.risk {
            let text = report::risk::ranked(&self.risk.ranking(&findings, range.to).await?, view.format)?;
            context.write(text.into_bytes(), output.as_deref()).await?;
        } else if self.rules.compares_window_kinds() && view.format == FindingsFormat::Table {
            let mut findings = findings.all().await?;
            findings.retain(|finding| view.has(finding));
            findings.iter_mut().try_for_each(count)?;
            let text = report::windows::side_by_side(&findings);
            context.write(text.into_bytes(), output.as_deref()).await?;
        } else {
            context.write_findings(&findings, view, output.as_deref(), &mut count).await?;
        }
        if let Some(file) = report {
            let shown = report::page::SHOWN;
            let events = &events::events_of_findings(engine, table, rules, &figures.first, shown).await?;
            let duplicates = Some(&duplicates);
            let (read, exceptions) = (&read, exceptions.as_slice());
            let run = &super::run_details();
            let hunted = HuntResults { run, rules, range, summary: figures, events, read, exceptions, duplicates };
            context.write(report::page::hunt(hunted).await?.into_bytes(), Some(file)).await?;
        }
        let summary = ReadSummary { has_results: findings.count() > 0, ..summary };
        let status = summary.report(context.output, &read).await?;
        if matches!(table.kind(), TableKind::Lake | TableKind::Foreign) && !engine.on_cluster() {
            let records = number_of(records, "record");
            context.output.talk(&format!("{records} scanned (files that cannot match were skipped)"));
        }
        context.output.cluster_results(engine.bytes_from_cluster());
        context.output.duplicates(&duplicates, "matching records");
        context.output.exceptions(&exceptions);
        let status = status.max(report_undecided(context.output, &undecided));
        report_open_matches(context.output, rules, &open_matches);
        if show.is_none() && !self.risk.risk {
            let below = findings.count().saturating_sub(counts.all);
            if below > 0 {
                let below = number_of(below, "finding");
                context.output.talk(&format!("{below} below {} left out (`--min-severity`)", view.min_severity));
            }
            let ids: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
            context.output.talk(&counts.sentence(ids.len()));
            counts.rule_lines().iter().for_each(|line| context.output.talk(line));
        }
        let has_alerts = if self.risk.risk { findings.has_alerts() } else { counts.alerts > 0 };
        Ok(if *fail_on_findings && has_alerts { status.max(Status::Findings) } else { status })
    }

    /// Returns the origins of each finding by its ID. Empty without `--explain-origin`.
    async fn origins(
        &self,
        engine: &Engine,
        table: &dyn Table,
        range: Range,
        findings: &FindingBuffer<'_>,
    ) -> Result<HashMap<String, Vec<Origin>>, Error> {
        if !self.result.explain_origin {
            return Ok(HashMap::new());
        }
        let (mut events, mut reader) = (Vec::new(), findings.read().await?);
        while let Some(finding) = reader.next().await? {
            events.push(FindingEvents::of(&finding));
        }
        trace::origins_of_findings(engine, table, range, &events).await
    }

    /// Describes what the hunt would read.
    fn describe(&self, listing: &TableListing, format: FindingsFormat) -> String {
        let requests = listing.requests;
        if format == FindingsFormat::Table {
            let requests = if self.data.in_s3() {
                format!(
                    "; about {} requests, {:.4} USD for requests at S3 Standard prices in us-east-1",
                    requests.get + requests.list,
                    requests.dollars()
                )
            } else {
                String::new()
            };
            let objects = number_of(listing.objects, "object");
            return format!("{objects}, {}{requests}\n", HumanBytes(listing.bytes));
        }
        let mut description = serde_json::json!({ "objects": listing.objects, "bytes": listing.bytes });
        if self.data.in_s3() {
            description["requests"] = serde_json::json!({ "get": requests.get, "list": requests.list });
            description["dollars"] = serde_json::json!(requests.dollars());
        }
        format!("{description}\n")
    }
}

impl HuntOutputArgs {
    /// Returns which findings to write, and how.
    ///
    /// # Errors
    /// The format contradicts the name of the file, or needs a file.
    fn view(&self) -> Result<FindingsView, Error> {
        let format = format::chosen(self.format, self.output.as_deref())?;
        let shows = |format| matches!(format, FindingsFormat::Table | FindingsFormat::Json | FindingsFormat::Jsonl);
        if self.show.is_some() && !shows(format) {
            return Err(Error::usage("`--show` writes one finding as a table or as JSON"));
        }
        if format == FindingsFormat::Parquet && self.output.is_none() {
            return Err(Error::usage("`--format parquet` requires `--output FILE`"));
        }
        Ok(FindingsView { format, order: self.sort, min_severity: self.min_severity })
    }
}

impl HuntLimitArgs {
    /// Checks the listing against `--max-objects` and `--max-bytes`.
    fn check(&self, listing: &TableListing) -> Result<(), Error> {
        let limits = [
            ("objects", listing.objects, self.max_objects, "--max-objects"),
            ("bytes", listing.bytes, self.max_bytes, "--max-bytes"),
        ];
        for (what, amount, limit, option) in limits {
            if let Some(limit) = limit.filter(|limit| amount > *limit) {
                return Err(Error::Usage {
                    message: format!(
                        "nothing was read: the hunt would read {amount} {what}, more than `{option} {limit}`"
                    ),
                    hint: Some("narrow it with `--from` and `--to`, `--account` or `--region`".to_owned()),
                });
            }
        }
        Ok(())
    }
}

/// Returns whether all objects that may hold the events of `findings` were verified. `None` if the table does not tell.
async fn are_verified(table: &dyn Table, range: Range, findings: &FindingBuffer<'_>) -> Result<Option<bool>, Error> {
    if findings.count() == 0 || table.verified_objects(range).await?.is_none() {
        return Ok(None);
    }
    let (mut spans, mut reader) = (Vec::new(), findings.read().await?);
    while let Some(finding) = reader.next().await? {
        spans.push((finding.first_event, finding.last_event));
    }
    let times = EventTimes::of_spans(spans);
    let range = times.map_or(range, |EventTimes { first, last }| Range { from: Some(first), to: Some(last + 1) });
    let objects = table.verified_objects(range).await?;
    Ok(objects.map(|VerifiedObjects { objects, verified }| objects == verified))
}

/// Returns the only finding whose id starts with `id`.
///
/// # Errors
/// No finding of the hunt has it, or several have.
async fn finding_with_id(findings: &FindingBuffer<'_>, id: &str) -> Result<Finding, Error> {
    let id = id.trim().to_ascii_lowercase();
    let mut found: Vec<Finding> = Vec::new();
    let mut reader = findings.read().await?;
    while let Some(finding) = reader.next().await? {
        // Window kinds can be hunted together. Their findings differ in their ids.
        if !id.is_empty() && finding.finding_id.starts_with(&id) && found.len() < MAX_AMBIGUOUS {
            found.push(finding);
        }
    }
    match found.as_slice() {
        [_] => Ok(found.remove(0)),
        [] => Err(Error::Usage {
            message: format!("no finding of this hunt has the id `{id}`"),
            hint: Some("use the data, rules, windows and range of the hunt that showed it".to_owned()),
        }),
        _ => {
            let ids: Vec<String> = found.iter().map(|finding| format!("`{}`", finding.finding_id)).collect();
            let hint = Some(format!("give more of the id: {}", ids.join(", ")));
            Err(Error::Usage { message: format!("several findings have an id that starts with `{id}`"), hint })
        }
    }
}

/// Returns a finding with its events, as a table or as JSON.
async fn show_finding(
    opened: &OpenedData,
    rules: &[Rule],
    finding: Finding,
    format: FindingsFormat,
    to_file: bool,
) -> Result<String, Error> {
    let limits = EventLimits { findings: 1, events: SHOWN_EVENTS };
    let shown = std::slice::from_ref(&finding);
    let events = events::events_of_findings(&opened.engine, opened.table.as_ref(), rules, shown, limits).await?;
    let events = events.first().map_or(&[][..], Vec::as_slice);
    if format == FindingsFormat::Table {
        let screen = if to_file { Screen::FILE } else { Screen::of_standard_output() };
        return Ok(report::details(&finding, events, screen));
    }
    report::details_as_json(&finding, events, format == FindingsFormat::Jsonl)
}

/// Says how many matches the data do not decide.
fn report_open_matches(output: Output, rules: &[Rule], open_matches: &[u64]) {
    // With `--window all`, a rule is hunted with each kind. Its open matches are the same.
    let mut lines = BTreeSet::new();
    for (rule, matches) in rules.iter().zip(open_matches).filter(|(_, matches)| **matches > 0) {
        let matches = number_of(*matches, "match");
        let reason = match &rule.absence {
            Some(absence) => format!("open: the selected data do not cover the period of `{}`", absence.side.key()),
            None => "in accounts that are still in their learning time".to_owned(),
        };
        let line = format!("`{}`: {matches} {reason}", rule.id);
        if lines.insert(line.clone()) {
            output.talk(&line);
        }
    }
}
