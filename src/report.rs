//! Formats findings: a table for people, JSON for machines, CSV for spreadsheets.

use serde_json::Value;

use crate::error::Error;
use crate::finding::{Finding, NO_VALUE};
use crate::sink::FindingsParquet;
use crate::text::{csv_cell, json};

pub mod backtest;
pub mod comparison;
pub mod exceptions;
mod finding_details;
mod finding_table;
pub mod inspection;
pub mod lint;
pub mod markdown;
pub mod nightly;
pub mod page;
pub mod query_rows;
pub mod risk;
pub mod rule_tests;
mod table;
pub mod timeline;
pub mod trace;
mod trace_graph;
pub mod tune;
pub mod verify;
pub mod windows;

pub use finding_details::{details, details_as_json};
use finding_table::FindingRow;
pub use finding_table::{FindingCounts, SHORT_ID};
pub use table::{Screen, rows, rows_dropping};

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
    /// A Parquet file; needs `--output`.
    Parquet,
}

/// Returns `findings` in `format`. A table has no limit of its width.
///
/// # Errors
/// As for [`FindingsEncoder::push`].
pub fn findings(findings: &[Finding], format: FindingsFormat) -> Result<String, Error> {
    let (mut encoder, mut text) = (FindingsEncoder::new(format, Screen::FILE), Vec::new());
    findings.iter().try_for_each(|finding| encoder.push(finding, &mut text))?;
    encoder.finish(&mut text)?;
    String::from_utf8(text).map_err(|error| internal("findings", &error))
}

/// A table has at most this many rows, since its columns are as wide as their widest cell. More findings are several tables.
const ROWS_OF_TABLE: usize = 5_000;

/// Encodes findings one by one, because all of them together may not fit into memory.
#[derive(Debug)]
pub struct FindingsEncoder {
    format: FindingsFormat,
    screen: Screen,
    count: usize,
    /// The rows of the next table.
    rows: Vec<FindingRow>,
    /// The file of the format Parquet, once it is begun.
    parquet: Option<Box<FindingsParquet>>,
}

impl FindingsEncoder {
    /// Returns an encoder to `format`. Tables are made for `screen`.
    pub fn new(format: FindingsFormat, screen: Screen) -> FindingsEncoder {
        FindingsEncoder { format, screen, count: 0, rows: Vec::new(), parquet: None }
    }

    /// Appends the next finding to `to`.
    ///
    /// # Errors
    /// It cannot be encoded, which is a defect.
    pub fn push(&mut self, finding: &Finding, to: &mut Vec<u8>) -> Result<(), Error> {
        let is_first = self.count == 0;
        self.count += 1;
        let as_json = |error: serde_json::Error| internal("findings as JSON", &error);
        match self.format {
            FindingsFormat::Table => {
                self.rows.push(FindingRow::of(finding));
                if self.rows.len() == ROWS_OF_TABLE {
                    self.end_table(to);
                }
            }
            FindingsFormat::Csv => {
                if is_first {
                    csv_record(COLUMNS.iter().map(|(name, _)| *name), to)?;
                }
                csv_record(COLUMNS.iter().map(|(_, cell)| cell(finding)), to)?;
            }
            FindingsFormat::Json => {
                to.extend_from_slice(if is_first { b"[\n  " } else { b",\n  " });
                let mut lines = Vec::new();
                json::write_pretty(finding, &mut lines).map_err(as_json)?;
                // Line breaks within strings are escaped.
                for byte in lines {
                    to.push(byte);
                    if byte == b'\n' {
                        to.extend_from_slice(b"  ");
                    }
                }
            }
            FindingsFormat::Jsonl => {
                json::write(finding, &mut *to).map_err(as_json)?;
                to.push(b'\n');
            }
            FindingsFormat::Parquet => {
                let Value::Object(line) = serde_json::to_value(finding).map_err(as_json)? else {
                    return Err(Error::Internal("a finding is not a JSON object".to_owned()));
                };
                self.parquet_file()?.push(line, to)?;
            }
        }
        Ok(())
    }

    /// Appends what follows the last finding.
    ///
    /// # Errors
    /// As for [`FindingsEncoder::push`].
    pub fn finish(mut self, to: &mut Vec<u8>) -> Result<(), Error> {
        let is_empty = self.count == 0;
        match self.format {
            FindingsFormat::Table if is_empty => to.extend_from_slice(b"no findings\n"),
            FindingsFormat::Table => self.end_table(to),
            FindingsFormat::Csv if is_empty => csv_record(COLUMNS.iter().map(|(name, _)| *name), to)?,
            FindingsFormat::Json => to.extend_from_slice(if is_empty { b"[]\n" } else { b"\n]\n" }),
            FindingsFormat::Parquet => {
                self.parquet_file()?;
                if let Some(parquet) = self.parquet {
                    parquet.finish(to)?;
                }
            }
            FindingsFormat::Csv | FindingsFormat::Jsonl => {}
        }
        Ok(())
    }

    fn parquet_file(&mut self) -> Result<&mut FindingsParquet, Error> {
        Ok(match &mut self.parquet {
            Some(parquet) => parquet,
            none @ None => none.insert(Box::new(FindingsParquet::new()?)),
        })
    }

    fn end_table(&mut self, to: &mut Vec<u8>) {
        if !self.rows.is_empty() {
            to.extend_from_slice(finding_table::table(&self.rows, self.screen).as_bytes());
            self.rows.clear();
        }
    }
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

const COLUMNS: [FindingColumn; 28] = [
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
    ("summed", |finding| finding.summed.clone().unwrap_or_default()),
    ("sum", |finding| finding.sum.map_or_else(String::new, |sum| sum.to_string())),
    ("statistic", |finding| finding.statistic.clone().unwrap_or_default()),
    ("statistic_value", |finding| finding.statistic_value.map_or_else(String::new, |value| value.to_string())),
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
    let mut text = Vec::new();
    csv_record(header.iter(), &mut text)?;
    for record in records {
        csv_record(record.iter(), &mut text)?;
    }
    String::from_utf8(text).map_err(|error| internal("a table as CSV", &error))
}

/// Appends a record of CSV to `to`, with each cell escaped.
fn csv_record(cells: impl Iterator<Item = impl AsRef<str>>, to: &mut Vec<u8>) -> Result<(), Error> {
    let mut writer = csv::Writer::from_writer(to);
    let written = writer.write_record(cells.map(|cell| csv_cell(cell.as_ref())));
    written.map_err(|error| internal("a table as CSV", &error))?;
    writer.flush().map_err(|error| internal("a table as CSV", &error))
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

    #[test]
    fn findings_one_by_one_are_the_document_of_all_of_them() {
        let mut finding = Finding::example();
        finding.title = "a\n\u{202e}b,\"".to_owned();
        for count in [1, 2, 7] {
            let found = vec![finding.clone(); count];
            let mut all = Vec::new();
            json::write_pretty(&found, &mut all).unwrap();
            assert_eq!(findings(&found, FindingsFormat::Json).unwrap(), String::from_utf8(all).unwrap() + "\n");
            let csv = findings(&found, FindingsFormat::Csv).unwrap();
            assert_eq!(csv::Reader::from_reader(csv.as_bytes()).records().map(Result::unwrap).count(), count);
            assert_eq!(findings(&found, FindingsFormat::Jsonl).unwrap().lines().count(), count);
        }
    }

    #[test]
    fn many_findings_are_several_tables() {
        let found = vec![Finding::example(); 2 * ROWS_OF_TABLE + 1];
        let text = findings(&found, FindingsFormat::Table).unwrap();
        assert_eq!(text.lines().filter(|line| line.starts_with("severity")).count(), 3);
        assert_eq!(text.matches("Example.Rule").count(), found.len());
        let table = findings(&found[..ROWS_OF_TABLE], FindingsFormat::Table).unwrap();
        assert_eq!(text.matches(&table).count(), 2);
    }
}
