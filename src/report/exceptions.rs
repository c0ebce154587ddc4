//! Formats what exceptions did in a run, for people.

use super::table::{Screen, rows_on};
use crate::hunt::exceptions::{ExceptionReport, RuleEffect};
use crate::text::printable;

/// Returns a table for standard error of the events and findings that exceptions removed. Empty if they removed none.
pub fn table(reports: &[ExceptionReport]) -> String {
    let rows: Vec<Vec<String>> = reports.iter().flat_map(cells).collect();
    if rows.is_empty() {
        return String::new();
    }
    rows_on(
        Screen::of_standard_error(),
        &["exception", "rule", "events removed", "findings removed"],
        &[],
        rows.into_iter(),
    )
}

/// Returns the cells of the rules from which an exception removed events.
pub(super) fn cells(report: &ExceptionReport) -> Vec<Vec<String>> {
    // Several windows of one rule are rows of their own.
    let is_one = |id: &str| report.rules.iter().filter(|rule| rule.rule_id == id).count() == 1;
    let row = |rule: &RuleEffect| {
        let name =
            if is_one(&rule.rule_id) { rule.rule_id.clone() } else { format!("{} ({})", rule.rule_id, rule.window) };
        vec![report.id.clone(), name, rule.events_removed.to_string(), rule.findings_removed.to_string()]
    };
    report.rules.iter().filter(|rule| rule.events_removed > 0).map(row).collect()
}

/// Returns a warning for each exception that has expired or matched nothing.
pub fn warnings(reports: &[ExceptionReport]) -> Vec<String> {
    let warning = |report: &ExceptionReport| {
        let ExceptionReport { id, file, line, until, owner, .. } = report;
        let place = format!("{file}:{line}");
        let problem = match (report.expired, report.matched_nothing) {
            (true, false) => format!("expired at {until}"),
            (true, true) => format!("expired at {until}, and matched nothing"),
            (false, true) => "matched nothing".to_owned(),
            (false, false) => return None,
        };
        Some(printable(&format!("exception `{id}` of {owner} {problem} ({place})")))
    };
    reports.iter().filter_map(warning).collect()
}
