use std::collections::BTreeSet;

use clap::Args;
use indicatif::HumanBytes;

use super::cluster::ClusterArgs;
use super::data::DataArgs;
use super::outcome::ReadSummary;
use super::range::RangeArgs;
use super::{Context, RuleArgs, size};
use crate::error::{Error, Status};
use crate::finding::{self, Finding};
use crate::hunt::{self, events, initial_range_of};
use crate::report::page::Hunted;
use crate::report::{self, Format};
use crate::statistics::number_of;
use crate::table::{Listing, TableKind};

/// Hunt a lake or a raw trail for the rules' findings
///
/// A raw trail is hunted in place, without converting it.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  tawny hunt trail/\n  tawny hunt lake/ --from 2026-09-01 --to 2026-10-01 --threshold 3 --period 30m\n  tawny hunt s3://logs/AWSLogs --from 2026-09-01 --to 2026-09-02 --account 111122223333\n  tawny hunt lake/ --last 24h --format jsonl -o findings.jsonl --fail-on-findings"
)]
pub(super) struct Hunt {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// How findings are written
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Write the findings to this file, or `s3://BUCKET/KEY`, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<String>,
    /// Write a page with charts, in which each finding opens to its events, to this HTML file, or `s3://BUCKET/KEY`; it
    /// takes a second reading
    #[arg(long, value_name = "FILE")]
    report: Option<String>,
    /// Tell what would be read, and read nothing
    #[arg(long)]
    dry_run: bool,
    /// Read nothing where it would be more objects or files than this
    #[arg(long, value_name = "N")]
    max_objects: Option<u64>,
    /// Read nothing where it would be more bytes than this: 500M, 20G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_bytes: Option<u64>,
    /// End with exit code 1 where there are findings that are alerts
    #[arg(long)]
    fail_on_findings: bool,
}

impl Hunt {
    pub(super) async fn run(&self, context: &Context) -> Result<Status, Error> {
        let rules = self.rules.choose(context.output)?;
        let range = self.range.range()?;
        Context::check_outputs([&self.output, &self.report])?;
        let (resources, _spill) = context.resources()?;
        let resources = self.cluster.applied(resources)?.with_selection(self.data.events());
        let bar = context.output.progress(0, "hunting");
        let table = self.data.open(context, &resources, bar.clone()).await?;
        let table = table.as_ref();
        self.data.warn_of_cuts(context.output, table);
        let summary = ReadSummary { resources: &resources, table, range, used: "hunted", has_results: false };
        if self.dry_run || self.max_objects.is_some() || self.max_bytes.is_some() {
            let listing = table.snapshot(initial_range_of(&rules, range)).await?.listing();
            self.admit(&listing)?;
            if self.dry_run {
                bar.finish_and_clear();
                context.write(self.described(&listing).into_bytes(), self.output.as_deref()).await?;
                let is_complete = summary.report_listing(context.output, &listing).await?;
                return Ok(if is_complete { Status::Done } else { Status::Incomplete });
            }
        }
        let rules = self.rules.answered(&resources, rules, range, (table, context.output)).await?;
        let outcome = hunt::hunt(&resources, table, &rules, range).await?;
        let duplicates = outcome.duplicates;
        let mut findings: Vec<Finding> = outcome.findings.into_iter().flatten().collect();
        finding::sort(&mut findings);
        let records = resources.scanned.rows();
        bar.finish_and_clear();
        if self.rules.compares() && self.format == Format::Table {
            let text = report::windows::side_by_side(&findings);
            context.write(text.into_bytes(), self.output.as_deref()).await?;
        } else {
            context.write_findings(&findings, self.format, self.output.as_deref()).await?;
        }
        if let Some(file) = &self.report {
            let shown = report::page::SHOWN;
            let events = &events::of_findings(&resources, table, &rules, &findings, shown).await?;
            let duplicates = Some(&duplicates);
            let hunted = Hunted { rules: &rules, range, findings: &findings, events, read: &outcome.read, duplicates };
            context.write(report::page::hunt(hunted)?.into_bytes(), Some(file)).await?;
        }
        let mut status = Status::Done;
        if self.fail_on_findings && findings.iter().any(|finding| finding.alert) {
            status = Status::Findings;
        }
        if !(ReadSummary { has_results: !findings.is_empty(), ..summary }).report(context, &outcome.read).await? {
            status = Status::Incomplete;
        }
        if matches!(table.kind(), TableKind::Lake | TableKind::Foreign) && !resources.on_cluster() {
            context.output.talk(&format!("records: {records} read; what can hold no match was left unread"));
        }
        context.output.duplicates(&duplicates, "matching records");
        let ids: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        let [findings, rules] = [(findings.len(), "finding"), (ids.len(), "rule")].map(|(n, what)| number_of(n, what));
        context.output.talk(&format!("{findings} of {rules}"));
        Ok(status)
    }

    /// Makes sure that no more is read than may be.
    fn admit(&self, listing: &Listing) -> Result<(), Error> {
        let most = [
            ("objects", listing.objects, self.max_objects, "--max-objects"),
            ("bytes", listing.bytes, self.max_bytes, "--max-bytes"),
        ];
        match most.into_iter().find(|(_, would, most, _)| most.is_some_and(|most| *would > most)) {
            None => Ok(()),
            Some((what, would, most, option)) => Err(Error::Usage {
                message: format!(
                    "the hunt would read {would} {what}, more than the {} that `{option}` allows",
                    most.unwrap_or_default()
                ),
                hint: Some(
                    "narrow it with `--from` and `--to`, `--account` or `--region`; nothing was read".to_owned(),
                ),
            }),
        }
    }

    fn described(&self, listing: &Listing) -> String {
        let requests = listing.requests;
        if self.format == Format::Table {
            let requests = if self.data.in_s3() {
                format!(
                    "; about {} requests, {:.4} dollars for them at the prices of S3 Standard in us-east-1",
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
