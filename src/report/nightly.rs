//! Formats the report of a nightly run for people, machines and Prometheus.

use std::fmt::Write as _;

use super::{exceptions, internal, rows, shortened};
use crate::error::{Error, Fault};
use crate::lake::maintenance::MaintenanceSummary;
use crate::nightly::{RunPlan, RunReport, VerificationReport};
use crate::statistics::{Count, ScanStatistics, number_of};
use crate::text::{json, prometheus_label};
use crate::time::Instant;
use crate::verify::ProblemKind;

/// The words for changes of findings.
const WORDS_OF_CHANGES: &str = "(grown: changed since delivered; gone: withdrawn or replaced; known: unchanged)";

/// Maximum number of accounts and regions in a table.
const MAX_SHOWN: usize = 20;

/// Returns a report as JSON.
pub fn as_json(report: &RunReport) -> Result<String, Error> {
    json::pretty(report).map_err(|error| internal("a report as JSON", &error))
}

/// Returns a report as JSON on one line.
///
/// # Errors
/// As for [`as_json`].
pub fn as_json_line(report: &RunReport) -> Result<String, Error> {
    json::line(report).map_err(|error| internal("a report as JSON", &error))
}

/// Maximum number of altered and missing digests in a table.
const MAX_DIGESTS: usize = 20;

fn verification_lines(verification: &VerificationReport) -> Vec<(String, String)> {
    let VerificationReport { objects, verified, digests, problems, faults } = verification;
    let counts = format!(
        "{} verified, {} altered, {} missing, {} not checked",
        digests.verified, digests.altered, digests.missing, digests.unchecked
    );
    let count = number_of(*objects, "converted object");
    let mut lines = vec![("verified".to_owned(), format!("{verified} of {count}")), ("digests".to_owned(), counts)];
    let problems = problems.iter().take(MAX_DIGESTS).map(|problem| {
        let kind = if problem.kind == ProblemKind::Missing { "missing digest" } else { "altered digest" };
        (kind.to_owned(), format!("{}: {}", problem.name, problem.reason))
    });
    lines.extend(problems);
    lines.extend(faults.iter().map(|fault| ("digests".to_owned(), fault.to_string())));
    lines
}

/// Returns a report as a table for people.
pub fn table(report: &RunReport) -> String {
    let findings = &report.findings;
    let bound = |bound: Option<Instant>, none: &str| bound.map_or_else(|| none.to_owned(), |bound| bound.to_string());
    let mut lines = vec![
        ("run".to_owned(), format!("{} at {}", report.run, bound(report.now, "no time"))),
        ("objects".to_owned(), report.read.objects.sentence("converted")),
        ("records".to_owned(), report.read.records.sentence("converted")),
        ("files".to_owned(), format!("{} added to the lake", report.files)),
    ];
    if !report.read.members.is_empty() {
        lines.insert(2, ("members of archives".to_owned(), report.read.members.sentence("converted")));
    }
    if let Some(verification) = &report.verification {
        lines.extend(verification_lines(verification));
    }
    for hunt in &report.hunts {
        let rules = if let [rule] = hunt.rules.as_slice() { rule.clone() } else { number_of(hunt.rules.len(), "rule") };
        let range = format!("from {} to {}", bound(hunt.from, "the first event"), bound(hunt.to, "the last"));
        lines.push(("hunted".to_owned(), format!("{rules}, triggers {range}: {}", hunt.cause)));
        let left_out = format!("{} among matching records left out", hunt.duplicates.left_out);
        lines.push(("duplicates".to_owned(), left_out));
        if hunt.learning > 0 {
            let matches = number_of(hunt.learning, "match");
            lines.push(("learning".to_owned(), format!("{matches} in accounts that are in their learning time")));
        }
        if hunt.open > 0 {
            let matches = number_of(hunt.open, "match");
            lines.push(("open".to_owned(), format!("{matches} whose period of absence is not over in the data")));
        }
    }
    let differing = report.hunts.iter().map(|hunt| &hunt.duplicates.differing);
    for differing in std::iter::once(&report.read.differing).chain(differing) {
        lines.extend(differing.warning().map(|warning| ("warning".to_owned(), warning)));
    }
    let counts = format!(
        "{} new, {} grown, {} gone, {} known; {} in new and grown findings",
        findings.new,
        findings.grown,
        findings.gone,
        findings.known,
        number_of(report.matches, "match")
    );
    lines.push(("findings".to_owned(), counts));
    lines.push((String::new(), WORDS_OF_CHANGES.to_owned()));
    for exception in &report.exceptions {
        for rule in exception.rules.iter().filter(|rule| rule.events_removed > 0) {
            let [events, findings] = [(rule.events_removed, "event"), (rule.findings_removed, "finding")]
                .map(|(count, what)| number_of(count, what));
            let removed = format!("removed {events} and {findings} of {}", rule.rule_id);
            lines.push((format!("exception {}", exception.id), removed));
        }
    }
    lines.extend(report.undecided.iter().map(|undecided| ("undecided".to_owned(), undecided.sentence())));
    let warnings = exceptions::warnings(&report.exceptions);
    lines.extend(warnings.into_iter().map(|warning| ("warning".to_owned(), warning)));
    for delivery in &report.deliveries {
        let outcome = delivery.error.as_ref().map_or_else(
            || "delivered".to_owned(),
            |error| format!("{} of them not delivered: {error}", delivery.undelivered),
        );
        let lines_of_run = format!("{} of run {}", number_of(delivery.lines, "line"), delivery.run);
        lines.push((format!("sink {}", delivery.sink), format!("{lines_of_run}: {outcome}")));
    }
    if report.maintenance != MaintenanceSummary::default() {
        lines.push(("lake".to_owned(), report.maintenance.to_string()));
    }
    lines.extend(
        report.maintenance_error.iter().map(|error| ("lake".to_owned(), format!("maintenance failed: {error}"))),
    );
    lines.extend(report.unlisted.iter().map(unlisted));
    for pending in &report.pending {
        lines.push(("pending".to_owned(), format!("{}: {}", pending.object, pending.reason)));
    }
    for rule in report.skipped_rules.iter().take(MAX_SHOWN) {
        let place = format!("{}:{}:{}", rule.file, rule.line, rule.column);
        lines.push(("rule skipped".to_owned(), format!("{place}: {}", rule.reason)));
    }
    if report.skipped_rules.len() > MAX_SHOWN {
        let more = format!("and {} more; the JSON report lists all", report.skipped_rules.len() - MAX_SHOWN);
        lines.push(("rules skipped".to_owned(), more));
    }
    lines.push(("newest event".to_owned(), bound(report.newest_event, "none")));
    for (name, newest) in report.newest.iter().take(MAX_SHOWN) {
        lines.push((format!("newest of {name}"), newest.to_string()));
    }
    if report.newest.len() > MAX_SHOWN {
        lines.push((
            "newest".to_owned(),
            format!("and {} more; the JSON report lists all", report.newest.len() - MAX_SHOWN),
        ));
    }
    if !report.empty_days.is_empty() {
        let shown: Vec<&str> = report.empty_days.iter().take(MAX_SHOWN).map(String::as_str).collect();
        let more = report.empty_days.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(("days without events".to_owned(), shown.join(", ") + &more));
    }
    rows(&["", ""], lines.into_iter().map(|(name, value)| vec![name, value]))
}

/// Returns the line about a source that cannot be listed.
fn unlisted(fault: &Fault) -> (String, String) {
    ("cannot be listed".to_owned(), format!("{}: {}", fault.object, fault.reason))
}

/// Returns what a run would do as a table for people.
pub fn plan(plan: &RunPlan) -> String {
    let mut lines = vec![
        ("run".to_owned(), plan.run.to_string()),
        ("objects to convert".to_owned(), format!("{}, {} bytes", plan.objects, plan.bytes)),
        ("commits not hunted".to_owned(), plan.commits.to_string()),
        ("rules new or changed".to_owned(), shortened(&plan.changed_rules)),
    ];
    lines.extend(plan.pending_deliveries.iter().map(|delivery| {
        let lines_of_run = format!("{} of run {}", number_of(delivery.count(), "line"), delivery.run);
        (format!("to deliver to {}", delivery.sink), lines_of_run)
    }));
    if plan.mergeable + plan.droppable > 0 {
        let files = format!("{} to merge, {} to drop", number_of(plan.mergeable, "file"), plan.droppable);
        lines.push(("lake".to_owned(), files));
    }
    lines.extend(plan.unlisted.iter().map(unlisted));
    lines.extend(plan.pending.iter().map(|pending| ("pending".to_owned(), pending.object.clone())));
    rows(&["", ""], lines.into_iter().map(|(name, value)| vec![name, value]))
}

/// Returns a report in the text format of Prometheus:
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
pub fn prometheus(report: &RunReport) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, values: Vec<(String, String)>| {
        // Writing to a string does not fail.
        writeln!(text, "# HELP tawny_{name} {help}\n# TYPE tawny_{name} gauge").ok();
        for (labels, value) in values {
            writeln!(text, "tawny_{name}{labels} {value}").ok();
        }
    };
    let one = |value: String| vec![(String::new(), value)];
    metric("run", "Number of the last nightly run.", one(report.run.to_string()));
    let now = report.now.map(|now| (String::new(), now.seconds().to_string()));
    metric("run_timestamp_seconds", "Time of the last nightly run.", now.into_iter().collect());
    metric(
        "complete",
        "Whether the run left nothing for the next run.",
        one(u8::from(!report.is_incomplete()).to_string()),
    );
    let ScanStatistics { objects, members, records, .. } = &report.read;
    for (name, count) in [("objects", objects), ("archive_members", members), ("records", records)] {
        metric(name, &format!("Number of {} read, by outcome.", name.replace('_', " ")), outcomes(count));
    }
    metric("pending_objects", "Objects that could not be read.", one(report.pending.len().to_string()));
    metric("unlisted_sources", "Sources that could not be listed.", one(report.unlisted.len().to_string()));
    metric("skipped_rules", "Rules that cannot run.", one(report.skipped_rules.len().to_string()));
    let undecided: u64 = report.undecided.iter().map(|undecided| undecided.events).sum();
    metric("undecided_events", "Events that rules in Python could not decide.", one(undecided.to_string()));
    let days = "Days without events between the first and the last day with events.";
    metric("empty_days", days, one(report.empty_days.len().to_string()));
    let expired = report.exceptions.iter().filter(|exception| exception.expired).count();
    metric("expired_exceptions", "Exceptions of rules that have expired.", one(expired.to_string()));
    let failed = u8::from(report.maintenance_error.is_some());
    metric("maintenance_failed", "Whether maintenance of the lake failed.", one(failed.to_string()));
    let findings = &report.findings;
    let states = [("new", findings.new), ("grown", findings.grown), ("gone", findings.gone), ("known", findings.known)];
    let states = states.map(|(state, count)| (labels(&[("state", state)]), count.to_string()));
    metric("findings", "Findings by how the run changed them.", states.to_vec());
    let left: usize = report.deliveries.iter().map(|delivery| delivery.undelivered).sum();
    metric("undelivered_lines", "Lines that were not delivered.", one(left.to_string()));
    let failed = report.deliveries.iter().filter(|delivery| delivery.error.is_some());
    metric("failed_deliveries", "Deliveries that failed.", one(failed.count().to_string()));
    let newest = report.newest.iter().map(|(name, newest)| {
        let (account, region) = name.split_once('/').unwrap_or((name, ""));
        (labels(&[("account", account), ("region", region)]), newest.seconds().to_string())
    });
    metric("newest_event_timestamp_seconds", "Time of the newest event of an account and region.", newest.collect());
    text
}

fn outcomes(count: &Count) -> Vec<(String, String)> {
    let outcomes = [
        ("converted", count.used),
        ("already_converted", count.already_converted),
        ("duplicate", count.duplicates),
        ("skipped", count.skipped.values().sum()),
        ("rejected", count.rejected),
    ];
    outcomes.map(|(outcome, count)| (labels(&[("outcome", outcome)]), count.to_string())).to_vec()
}

/// Returns labels with escaped values.
fn labels(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", prometheus_label(value));
    let pairs: Vec<String> = pairs.iter().map(pair).collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_from_logs_stay_within_their_labels() {
        let mut report = RunReport { now: "2026-09-01T00:00:00Z".parse().ok(), ..RunReport::default() };
        report.newest.insert("1\"} 1\n#\\/eu".to_owned(), Instant::from_micros(60_000_000));
        let text = prometheus(&report);
        let expected = "tawny_newest_event_timestamp_seconds{account=\"1\\\"} 1\\n#\\\\\",region=\"eu\"} 60\n";
        assert!(text.ends_with(expected), "{text}");
    }
}
