//! Formats the comparison of two versions of a rule: tables for people, JSON and `JUnit` for machines.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde_json::json;

use super::backtest::{BacktestFormat, window_name};
use super::{csv, group, internal, rows};
use crate::backtest::comparison::Comparison;
use crate::error::Error;
use crate::finding::Finding;
use crate::rule::Rule;
use crate::statistics::number_of;
use crate::text::{self, printable};

/// Returns a comparison in `format`. `names` are the files of the two versions.
pub fn text(
    comparison: &Comparison,
    versions: &[Rule; 2],
    names: &[String; 2],
    format: BacktestFormat,
) -> Result<String, Error> {
    let [before, after] = versions;
    match format {
        BacktestFormat::Table => Ok(table(comparison, versions, names)),
        BacktestFormat::Json => {
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
                "days": comparison.days,
                "table_version": comparison.read.table_version,
                "duplicates": comparison.duplicates,
                "sentence": comparison.sentence(),
                "counts": {
                    "gained": comparison.gained.len(),
                    "lost": comparison.lost.len(),
                    "kept": comparison.kept.len(),
                },
                "gained": comparison.gained,
                "lost": comparison.lost,
                "kept": comparison.kept,
            });
            text::json::pretty(&document).map_err(|error| internal("a comparison as JSON", &error))
        }
        BacktestFormat::Csv => {
            let mut all: Vec<(&str, &Finding)> = Vec::new();
            all.extend(comparison.gained.iter().map(|finding| ("gained", finding)));
            all.extend(comparison.lost.iter().map(|finding| ("lost", finding)));
            all.extend(comparison.kept.iter().map(|finding| ("kept", finding)));
            csv(Some("change"), &all)
        }
        BacktestFormat::Junit => junit(comparison, versions),
    }
}

fn table(comparison: &Comparison, [before, after]: &[Rule; 2], names: &[String; 2]) -> String {
    let setting = |rule: &Rule, name: &str| printable(&format!("{name}: {}, {}", rule.id, window_name(rule.window)));
    let mut changes: Vec<(&str, &Finding)> = comparison.gained.iter().map(|finding| ("+", finding)).collect();
    changes.extend(comparison.lost.iter().map(|finding| ("-", finding)));
    changes.sort_by_key(|(_, finding)| finding.first_event);
    let row = |(sign, finding): (&str, &Finding)| {
        vec![
            sign.to_owned(),
            group(finding),
            finding.count.to_string(),
            finding.first_event.to_string(),
            finding.last_event.to_string(),
            finding.trigger_time.to_string(),
        ]
    };
    let header = ["", "group", "count", "first event", "last event", "triggered"];
    let table = if changes.is_empty() { String::new() } else { rows(&header, changes.into_iter().map(row)) };
    format!(
        "before  {}\nafter   {}\n{}\n{table}",
        setting(before, &names[0]),
        setting(after, &names[1]),
        comparison.sentence()
    )
}

/// Returns a test case per finding. Gained and lost findings fail.
fn junit(comparison: &Comparison, [before, after]: &[Rule; 2]) -> Result<String, Error> {
    let mut suite = TestSuite::new(printable(&format!("{} to {}", before.id, after.id)));
    let changes = [("gained", &comparison.gained), ("lost", &comparison.lost), ("kept", &comparison.kept)];
    for (change, findings) in changes {
        for finding in findings {
            let mut status = TestCaseStatus::success();
            if change != "kept" {
                status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let events = finding.event_ids.join(" ");
                let description = format!(
                    "{}, {} to {}: {events}",
                    number_of(finding.count, "event"),
                    finding.first_event,
                    finding.last_event
                );
                status.set_type(change).set_message(printable(&format!("{change}: {}", finding.title)));
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
    report.to_string().map_err(|error| internal("a comparison as JUnit", &error))
}
