use std::collections::{BTreeSet, HashMap};

use clap::Args;
use indicatif::HumanBytes;

use super::cluster::ClusterArgs;
use super::data::DataArgs;
use super::outcome::ReadSummary;
use super::range::RangeArgs;
use super::{Context, RuleArgs, size};
use crate::engine::Engine;
use crate::error::{Error, Status};
use crate::finding::{Finding, Origin};
use crate::hunt::exceptions::{self, ExceptedHunt};
use crate::hunt::{BufferedHunt, FindingBuffer, events, initial_range_of};
use crate::output::Output;
use crate::report::page::{HuntResults, HuntSummary};
use crate::report::{self, FindingsFormat};
use crate::rule::Rule;
use crate::statistics::number_of;
use crate::table::{Table, TableKind, TableListing};
use crate::time::Range;
use crate::trace::{self, FindingEvents};

/// Run rules over a lake, a raw trail or another tool's Parquet
///
/// A raw trail is hunted in place, without conversion.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny hunt trail/\n  tawny hunt lake/ --from 2026-09-01 --to 2026-10-01 --threshold 3 --period 30m\n  tawny hunt s3://logs/AWSLogs --from 2026-09-01 --to 2026-09-02 --account 111122223333\n  tawny hunt lake/ --last 24h --format jsonl -o findings.jsonl --fail-on-findings\n  tawny hunt lake/ --exceptions exceptions.yml --report hunt.html"
)]
pub(super) struct HuntCommand {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Output format of the findings
    #[arg(long, value_enum, default_value_t)]
    format: FindingsFormat,
    /// Write the findings to this file or `s3://BUCKET/KEY` instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Write an HTML page with charts and the events of each finding to this file or `s3://BUCKET/KEY`; reads the data a
    /// second time
    #[arg(long, value_name = "FILE")]
    report: Option<String>,
    /// Add to each finding who began the chains of the credentials that its events used; reads the data a second time
    #[arg(long)]
    explain_origin: bool,
    /// Show what would be read, then exit
    #[arg(long)]
    dry_run: bool,
    /// Refuse to read more objects or files than this
    #[arg(long, value_name = "N")]
    max_objects: Option<u64>,
    /// Refuse to read more bytes than this: 500M, 20G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
    /// Exit with code 1 if any finding is an alert
    #[arg(long)]
    fail_on_findings: bool,
}

impl HuntCommand {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let rules = self.rules.choose(context.output)?;
        let range = self.range.range()?;
        Context::check_outputs([&self.output, &self.report])?;
        let opened = self.data.open(context, Some(&self.cluster), "hunting").await?;
        opened.warn_of_cuts(context.output);
        let (engine, table) = (&opened.engine, opened.table.as_ref());
        let summary = opened.summary(range, "hunted");
        if self.dry_run || self.max_objects.is_some() || self.max_bytes.is_some() {
            let listing = table.snapshot(initial_range_of(&rules, range)).await?.listing();
            self.check_limits(&listing)?;
            if self.dry_run {
                opened.bar.finish_and_clear();
                context.write(self.describe(&listing).into_bytes(), self.output.as_deref()).await?;
                return summary.report_listing(context.output, &listing).await;
            }
        }
        let rules = self.rules.supported_by(&opened, rules, range, context.output).await?;
        let hunt = ExceptedHunt::new(rules, range)?;
        let rules = hunt.rules();
        let (hunted, effects) = hunt.hunt_buffered(engine, table).await?;
        let BufferedHunt { findings, duplicates, read, learning } = hunted;
        let exceptions = exceptions::reports(rules, &effects, range.to.unwrap_or_else(super::now));
        let records = engine.scanned.rows();
        opened.bar.finish_and_clear();
        let mut figures = HuntSummary::new(engine, report::page::SHOWN.findings);
        let is_reported = self.report.is_some();
        let mut origins = self.origins(engine, table, range, &findings).await?;
        let mut count = |finding: &mut Finding| {
            finding.origins = origins.remove(&finding.finding_id).unwrap_or_default();
            if is_reported { figures.add(finding) } else { Ok(()) }
        };
        if self.rules.compares_window_kinds() && self.format == FindingsFormat::Table {
            let mut findings = findings.all().await?;
            findings.iter_mut().try_for_each(count)?;
            let text = report::windows::side_by_side(&findings);
            context.write(text.into_bytes(), self.output.as_deref()).await?;
        } else {
            context.write_findings(&findings, self.format, self.output.as_deref(), &mut count).await?;
        }
        if let Some(file) = &self.report {
            let shown = report::page::SHOWN;
            let events = &events::events_of_findings(engine, table, rules, &figures.first, shown).await?;
            let duplicates = Some(&duplicates);
            let (read, exceptions) = (&read, exceptions.as_slice());
            let hunted = HuntResults { rules, range, summary: figures, events, read, exceptions, duplicates };
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
        report_learning(context.output, rules, &learning);
        let ids: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        let [found, rules] =
            [(findings.count(), "finding"), (ids.len() as u64, "rule")].map(|(n, what)| number_of(n, what));
        context.output.talk(&format!("{found} of {rules}"));
        Ok(if self.fail_on_findings && findings.has_alerts() { status.max(Status::Findings) } else { status })
    }

    /// Returns the origins of each finding by its ID, if they are asked for.
    async fn origins(
        &self,
        engine: &Engine,
        table: &dyn Table,
        range: Range,
        findings: &FindingBuffer<'_>,
    ) -> Result<HashMap<String, Vec<Origin>>, Error> {
        if !self.explain_origin {
            return Ok(HashMap::new());
        }
        let (mut events, mut reader) = (Vec::new(), findings.read().await?);
        while let Some(finding) = reader.next().await? {
            events.push(FindingEvents::of(&finding));
        }
        trace::origins_of_findings(engine, table, range, &events).await
    }

    /// Checks the listing against `--max-objects` and `--max-bytes`.
    fn check_limits(&self, listing: &TableListing) -> Result<(), Error> {
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

    /// Describes what the hunt would read.
    fn describe(&self, listing: &TableListing) -> String {
        let requests = listing.requests;
        if self.format == FindingsFormat::Table {
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

/// Says how many matches are not new because their account is known for too short a time.
fn report_learning(output: Output, rules: &[Rule], learning: &[u64]) {
    for (rule, matches) in rules.iter().zip(learning).filter(|(_, matches)| **matches > 0) {
        let matches = number_of(*matches, "match");
        output.talk(&format!("`{}`: {matches} in accounts that are still in their learning time", rule.id));
    }
}
