//! Two versions of a rule, compared, as text: tables for people, JSON and `JUnit` for machines.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;

use super::backtest::Format;
use super::{csv, group, rows};
use crate::backtest::comparison::Comparison;
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::statistics::number_of;
use crate::text::{self, printable};

/// The text of a comparison in `format`; `names` are the files of the two versions.
pub fn text(compared: &Comparison, versions: &[Rule; 2], names: &[String; 2], format: Format) -> Result<String, Error> {
    let [before, after] = versions;
    match format {
        Format::Table => Ok(table(compared, versions, names)),
        Format::Json => {
            let setting = |rule: &Rule, file: &str| {
                json!({
                    "file": file,
                    "rule_id": rule.id,
                    "window": rule.window.kind.to_string(),
                    "period_minutes": crate::finding::minutes(rule.window.period),
                    "threshold": rule.window.threshold,
                })
            };
            let document = json!({
                "before": setting(before, &names[0]),
                "after": setting(after, &names[1]),
                "days": compared.days,
                "duplicates": compared.duplicates,
                "sentence": compared.sentence(),
                "counts": {
                    "gained": compared.gained.len(),
                    "lost": compared.lost.len(),
                    "kept": compared.kept.len(),
                },
                "gained": compared.gained,
                "lost": compared.lost,
                "kept": compared.kept,
            });
            text::json::pretty(&document).map_err(|error| Error::Internal(format!("a comparison as JSON: {error}")))
        }
        Format::Csv => {
            let mut all: Vec<(&str, &Finding)> = Vec::new();
            all.extend(compared.gained.iter().map(|finding| ("gained", finding)));
            all.extend(compared.lost.iter().map(|finding| ("lost", finding)));
            all.extend(compared.kept.iter().map(|finding| ("kept", finding)));
            csv(Some("change"), &all)
        }
        Format::Junit => junit(compared, versions),
    }
}

fn table(compared: &Comparison, [before, after]: &[Rule; 2], names: &[String; 2]) -> String {
    let setting = |rule: &Rule, name: &str| {
        let window = rule.window;
        printable(&format!("{name}: {}, {}/{}/{}", rule.id, window.threshold, window.period, window.kind))
    };
    let mut changes: Vec<(&str, &Finding)> = compared.gained.iter().map(|finding| ("+", finding)).collect();
    changes.extend(compared.lost.iter().map(|finding| ("-", finding)));
    changes.sort_by(|(_, a), (_, b)| a.first_event.cmp(&b.first_event));
    let row = |(sign, finding): (&str, &Finding)| {
        vec![
            sign.to_owned(),
            group(finding),
            finding.count.to_string(),
            finding.first_event.clone(),
            finding.last_event.clone(),
            finding.trigger_time.clone(),
        ]
    };
    let header = ["", "group", "count", "first event", "last event", "triggered"];
    let listed = if changes.is_empty() { String::new() } else { rows(&header, changes.into_iter().map(row)) };
    format!(
        "before  {}\nafter   {}\n{}\n{listed}",
        setting(before, &names[0]),
        setting(after, &names[1]),
        compared.sentence()
    )
}

/// A test case for each finding: those that were gained or lost fail.
fn junit(compared: &Comparison, [before, after]: &[Rule; 2]) -> Result<String, Error> {
    let mut suite = TestSuite::new(printable(&format!("{} to {}", before.id, after.id)));
    let changes = [("gained", &compared.gained), ("lost", &compared.lost), ("kept", &compared.kept)];
    for (what, findings) in changes {
        for finding in findings {
            let mut status = TestCaseStatus::success();
            if what != "kept" {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let events = finding.event_ids.join(" ");
                let description = format!(
                    "{}, {} to {}: {events}",
                    number_of(finding.count, "event"),
                    finding.first_event,
                    finding.last_event
                );
                status.set_type(what).set_message(printable(&format!("{what}: {}", finding.title)));
                status.set_description(printable(&description));
            }
            let name = format!("{} at {} ({})", group(finding), finding.first_event, finding.finding_id);
            let mut case = TestCase::new(printable(&name), status);
            case.set_classname(printable(&finding.rule_id));
            suite.add_test_case(case);
        }
    }
    let mut report = Report::new("tawny backtest --compare");
    report.add_test_suite(suite);
    report.to_string().map_err(|error| Error::Internal(format!("a comparison as JUnit: {error}")))
}
