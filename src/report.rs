//! Findings as text: a table for people, JSON for machines, CSV for spreadsheets.

use std::io;

use comfy_table::{ContentArrangement, Table, TableComponent, presets};

use crate::error::Error;
use crate::finding::{Finding, NO_VALUE};
use crate::text::{csv_cell, json, printable};

pub mod backtest;
pub mod comparison;
pub mod inspection;
pub mod markdown;
pub mod nightly;
pub mod page;
pub mod table;
pub mod windows;

/// How findings are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A table for people.
    #[default]
    Table,
    /// One JSON object a line.
    Jsonl,
    /// One JSON array.
    Json,
    /// Comma-separated values; cells that a spreadsheet would run begin with an apostrophe.
    Csv,
}

/// The text of `findings` in `format`.
pub fn findings(findings: &[Finding], format: Format) -> Result<String, Error> {
    match format {
        Format::Table => Ok(table(findings)),
        Format::Csv => csv(None, &findings.iter().map(|finding| ("", finding)).collect::<Vec<_>>()),
        Format::Json | Format::Jsonl => {
            let mut text = Vec::new();
            let wrong = |reason: String| Error::Internal(format!("findings as JSON: {reason}"));
            write(findings, format, &mut text).map_err(|error| wrong(error.to_string()))?;
            String::from_utf8(text).map_err(|error| wrong(error.to_string()))
        }
    }
}

/// Writes `findings` in `format`, as JSON one by one: their text may be larger than they are.
pub fn write(findings: &[Finding], format: Format, to: &mut dyn io::Write) -> io::Result<()> {
    match format {
        Format::Table | Format::Csv => {
            to.write_all(self::findings(findings, format).map_err(io::Error::other)?.as_bytes())
        }
        Format::Json => {
            json::write_pretty(&findings, &mut *to)?;
            to.write_all(b"\n")
        }
        Format::Jsonl => findings.iter().try_for_each(|finding| {
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
                finding.first_event.clone(),
                finding.last_event.clone(),
                finding.trigger_time.clone(),
                shortened(&finding.source_ips),
            ]
        }),
    )
}

/// A table of escaped cells.
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

/// The values of a group as one name.
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

/// Findings as CSV; with a column of that name before the others where one is given, and its value for each.
fn csv(first: Option<&str>, findings: &[(&str, &Finding)]) -> Result<String, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Internal(format!("findings as CSV: {error}"));
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "finding_id",
        "rule_id",
        "title",
        "severity",
        "alert",
        "mitre",
        "window",
        "period_minutes",
        "threshold",
        "unique",
        "group",
        "masked",
        "count",
        "peak",
        "distinct",
        "first_event",
        "last_event",
        "trigger_time",
        "event_ids",
        "source_ips",
        "user_agents",
        "regions",
        "context",
        "summary",
    ];
    let header = first.into_iter().chain(header);
    writer.write_record(header).map_err(|error| failed(&error))?;
    for (value, finding) in findings {
        let json = |map: &serde_json::Map<String, serde_json::Value>| {
            json::escaped(&serde_json::Value::Object(map.clone()).to_string()).into_owned()
        };
        let record = [
            finding.finding_id.clone(),
            finding.rule_id.clone(),
            finding.title.clone(),
            finding.severity.clone(),
            finding.alert.to_string(),
            finding.mitre.join(" "),
            finding.window.clone(),
            finding.period_minutes.to_string(),
            finding.threshold.to_string(),
            finding.unique.clone().unwrap_or_default(),
            json(&finding.group),
            finding.masked.to_string(),
            finding.count.to_string(),
            finding.peak.to_string(),
            finding.distinct.map_or_else(String::new, |distinct| distinct.to_string()),
            finding.first_event.clone(),
            finding.last_event.clone(),
            finding.trigger_time.clone(),
            finding.event_ids.join(" "),
            finding.source_ips.join(" "),
            finding.user_agents.join(" | "),
            finding.regions.join(" "),
            json(&finding.context),
            json(&finding.summary),
        ];
        let record = first.map(|_| (*value).to_owned()).into_iter().chain(record);
        writer.write_record(record.map(|cell| csv_cell(&cell))).map_err(|error| failed(&error))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(&error))?;
    String::from_utf8(bytes).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_found_is_still_a_document() {
        assert_eq!(findings(&[], Format::Json).unwrap(), "[]\n");
        assert_eq!(findings(&[], Format::Jsonl).unwrap(), "");
        assert_eq!(findings(&[], Format::Csv).unwrap().lines().count(), 1);
        assert_eq!(findings(&[], Format::Table).unwrap(), "no findings\n");
    }
}
