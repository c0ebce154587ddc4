//! Formats findings: a table for people, JSON for machines, CSV for spreadsheets.

use std::io;

use comfy_table::{ContentArrangement, Table, TableComponent, presets};

use crate::error::Error;
use crate::finding::{Finding, NO_VALUE};
use crate::text::{csv_cell, json, printable};

pub mod backtest;
pub mod comparison;
pub mod inspection;
pub mod lint;
pub mod markdown;
pub mod nightly;
pub mod page;
pub mod query_rows;
pub mod windows;

/// Output format of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum FindingsFormat {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object per line.
    Jsonl,
    /// One JSON array.
    Json,
    /// Comma-separated values. An apostrophe precedes cells that a spreadsheet would execute.
    Csv,
}

/// Returns `findings` in `format`.
pub fn findings(findings: &[Finding], format: FindingsFormat) -> Result<String, Error> {
    match format {
        FindingsFormat::Table => Ok(table(findings)),
        FindingsFormat::Csv => csv(None, &findings.iter().map(|finding| ("", finding)).collect::<Vec<_>>()),
        FindingsFormat::Json | FindingsFormat::Jsonl => {
            let mut text = Vec::new();
            write(findings, format, &mut text).map_err(|error| internal("findings as JSON", &error))?;
            String::from_utf8(text).map_err(|error| internal("findings as JSON", &error))
        }
    }
}

/// Writes `findings` in `format`. Writes JSON finding by finding, because the whole text may not fit into memory.
pub fn write(findings: &[Finding], format: FindingsFormat, to: &mut dyn io::Write) -> io::Result<()> {
    match format {
        FindingsFormat::Table | FindingsFormat::Csv => {
            to.write_all(self::findings(findings, format).map_err(io::Error::other)?.as_bytes())
        }
        FindingsFormat::Json => {
            json::write_pretty(&findings, &mut *to)?;
            to.write_all(b"\n")
        }
        FindingsFormat::Jsonl => findings.iter().try_for_each(|finding| {
            json::write(finding, &mut *to)?;
            to.write_all(b"\n")
        }),
    }
}

fn table(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "no findings\n".to_owned();
    }
    let header = ["severity", "rule", "group", "count", "first event", "last event", "triggered", "addresses"];
    rows(
        &header,
        findings.iter().map(|finding| {
            let masked = if finding.masked { " (masked name)" } else { "" };
            vec![
                finding.severity.clone(),
                finding.title.clone(),
                group(finding) + masked,
                finding.count.to_string(),
                finding.first_event.to_string(),
                finding.last_event.to_string(),
                finding.trigger_time.to_string(),
                shortened(&finding.source_ips),
            ]
        }),
    )
}

/// Returns a table of escaped cells.
pub fn rows(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let between_rows = [
        TableComponent::HorizontalLines,
        TableComponent::MiddleIntersections,
        TableComponent::LeftBorderIntersections,
        TableComponent::RightBorderIntersections,
    ];
    for line in between_rows {
        table.remove_style(line);
    }
    table.set_header(header.iter().map(|name| printable(name)));
    for row in rows {
        table.add_row(row.iter().map(|cell| printable(cell)));
    }
    format!("{table}\n")
}

fn group(finding: &Finding) -> String {
    group_name(finding.group.values().map(serde_json::Value::as_str))
}

/// Joins the values of a group to one name.
fn group_name<'v>(values: impl Iterator<Item = Option<&'v str>>) -> String {
    let values: Vec<&str> = values.map(|value| value.unwrap_or(NO_VALUE)).collect();
    if values.is_empty() { "all together".to_owned() } else { values.join(" / ") }
}

fn shortened(values: &[String]) -> String {
    match values {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        all => all.join(", "),
    }
}

/// A CSV column: its name and the text of a finding's cell.
type FindingColumn = (&'static str, fn(&Finding) -> String);

const COLUMNS: [FindingColumn; 24] = [
    ("finding_id", |finding| finding.finding_id.clone()),
    ("rule_id", |finding| finding.rule_id.clone()),
    ("title", |finding| finding.title.clone()),
    ("severity", |finding| finding.severity.clone()),
    ("alert", |finding| finding.alert.to_string()),
    ("mitre", |finding| finding.mitre.join(" ")),
    ("window", |finding| finding.window.clone()),
    ("period_minutes", |finding| finding.period_minutes.to_string()),
    ("threshold", |finding| finding.threshold.to_string()),
    ("unique", |finding| finding.unique.clone().unwrap_or_default()),
    ("group", |finding| json_cell(&finding.group)),
    ("masked", |finding| finding.masked.to_string()),
    ("count", |finding| finding.count.to_string()),
    ("peak", |finding| finding.peak.to_string()),
    ("distinct", |finding| finding.distinct.map_or_else(String::new, |distinct| distinct.to_string())),
    ("first_event", |finding| finding.first_event.to_string()),
    ("last_event", |finding| finding.last_event.to_string()),
    ("trigger_time", |finding| finding.trigger_time.to_string()),
    ("event_ids", |finding| finding.event_ids.join(" ")),
    ("source_ips", |finding| finding.source_ips.join(" ")),
    ("user_agents", |finding| finding.user_agents.join(" | ")),
    ("regions", |finding| finding.regions.join(" ")),
    ("context", |finding| json_cell(&finding.context)),
    ("summary", |finding| json_cell(&finding.summary)),
];

fn json_cell(map: &serde_json::Map<String, serde_json::Value>) -> String {
    json::escaped(&serde_json::Value::Object(map.clone()).to_string()).into_owned()
}

/// Returns findings as CSV. `first_column` names a column before the others, with the given value of each finding.
fn csv(first_column: Option<&str>, findings: &[(&str, &Finding)]) -> Result<String, Error> {
    let header: Vec<&str> = first_column.into_iter().chain(COLUMNS.map(|(name, _)| name)).collect();
    let record = |(value, finding): &(&str, &Finding)| {
        let first = first_column.map(|_| (*value).to_owned());
        first.into_iter().chain(COLUMNS.map(|(_, cell)| cell(finding))).collect()
    };
    csv_text(&header, findings.iter().map(record))
}

/// Returns records as CSV, with each cell escaped.
fn csv_text(header: &[&str], records: impl Iterator<Item = Vec<String>>) -> Result<String, Error> {
    let failed = |error: csv::Error| internal("a table as CSV", &error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header.iter().map(|name| csv_cell(name))).map_err(failed)?;
    for record in records {
        writer.write_record(record.iter().map(|cell| csv_cell(cell))).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| internal("a table as CSV", &error))?;
    String::from_utf8(bytes).map_err(|error| internal("a table as CSV", &error))
}

/// Returns the error of writing `what`, which can only be a defect.
fn internal(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Internal(format!("cannot write {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_findings_are_a_valid_document() {
        assert_eq!(findings(&[], FindingsFormat::Json).unwrap(), "[]\n");
        assert_eq!(findings(&[], FindingsFormat::Jsonl).unwrap(), "");
        assert_eq!(findings(&[], FindingsFormat::Csv).unwrap().lines().count(), 1);
        assert_eq!(findings(&[], FindingsFormat::Table).unwrap(), "no findings\n");
    }
}
