//! Formats errors and warnings of rules: for people, as JSON, as SARIF, and as annotations of GitHub.

use std::collections::BTreeSet;
use std::path::Path;

use clap::ValueEnum;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::json;

use super::internal;
use crate::error::{Error, RuleError, RuleErrorKind};
use crate::rule::catalog::{LoadedRules, SkippedRule};
use crate::rule::lint::Warning;
use crate::text::{self, printable, workflow_message, workflow_property};

/// Output format of errors and warnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LintFormat {
    /// One line per warning for people; errors go to standard error
    #[default]
    Table,
    /// JSON
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// Workflow commands, which GitHub Actions shows as annotations of a pull request
    Github,
}

/// An error or a warning, at its place.
#[derive(Debug, Serialize)]
struct LintEntry<'l> {
    level: &'static str,
    file: &'l str,
    line: usize,
    column: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_id: Option<&'l str>,
    code: String,
    message: &'l str,
}

/// Returns the errors and warnings in a format.
pub fn text(loaded: &LoadedRules, format: LintFormat) -> Result<String, Error> {
    let errors: Vec<RuleError> = loaded.skipped.iter().flat_map(SkippedRule::errors_with_rule).collect();
    let errors = errors.iter().map(|error| {
        let RuleError { kind, file, line, column, message, .. } = error;
        LintEntry { level: "error", file, line: *line, column: *column, rule_id: None, code: code(*kind), message }
    });
    let warnings = loaded.entries.iter().flat_map(|entry| {
        entry.warnings.iter().map(|Warning { code, line, column, message }| LintEntry {
            level: "warning",
            file: &entry.file,
            line: *line,
            column: *column,
            rule_id: Some(&entry.rule.id),
            code: code.to_string(),
            message,
        })
    });
    Ok(match format {
        LintFormat::Table => {
            let lines = loaded
                .entries
                .iter()
                .flat_map(|entry| entry.warnings.iter().map(|warning| warning.in_file(&entry.file) + "\n"));
            lines.collect()
        }
        LintFormat::Json => {
            let all: Vec<LintEntry<'_>> = errors.chain(warnings).collect();
            text::json::pretty(&all).map_err(|error| internal("warnings as JSON", &error))?
        }
        LintFormat::Sarif => sarif(&errors.chain(warnings).collect::<Vec<_>>())?,
        LintFormat::Github => errors.chain(warnings).map(|entry| annotation(&entry)).collect(),
    })
}

fn code(kind: RuleErrorKind) -> String {
    match kind {
        RuleErrorKind::Invalid => "invalid",
        RuleErrorKind::Unsupported => "unsupported",
        RuleErrorKind::Python => "python",
        RuleErrorKind::FailedTests => "failed-tests",
        RuleErrorKind::OtherLogs => "other-logs",
    }
    .to_owned()
}

/// Returns a workflow command, one line:
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>.
fn annotation(entry: &LintEntry<'_>) -> String {
    let LintEntry { level, file, line, column, code, message, .. } = entry;
    let (file, message) = (workflow_property(file), workflow_message(message));
    format!("::{level} file={file},line={line},col={column},title={code}::{message}\n")
}

/// Returns a log in SARIF: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
fn sarif(entries: &[LintEntry<'_>]) -> Result<String, Error> {
    let codes: BTreeSet<&str> = entries.iter().map(|entry| entry.code.as_str()).collect();
    let results = entries.iter().map(|entry| {
        let region = json!({ "startLine": entry.line, "startColumn": entry.column });
        let place = json!({ "artifactLocation": { "uri": uri(entry.file) }, "region": region });
        let mut result = json!({
            "ruleId": entry.code,
            "level": entry.level,
            "message": { "text": sarif_message(entry.message) },
            "locations": [{ "physicalLocation": place }],
        });
        if let Some(id) = entry.rule_id {
            result["properties"] = json!({ "rule_id": id });
        }
        result
    });
    let driver = json!({
        "name": "tawny",
        "version": env!("CARGO_PKG_VERSION"),
        "rules": codes.into_iter().map(|code| json!({ "id": code })).collect::<Vec<_>>(),
    });
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": driver },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<_>>(),
        }],
    });
    text::json::pretty(&log).map_err(|error| internal("warnings as SARIF", &error))
}

/// Returns a plain text message. Brackets would make a link of `[text](target)`.
fn sarif_message(message: &str) -> String {
    printable(message).replace('\\', "\\\\").replace('[', "\\[").replace(']', "\\]")
}

/// The characters that are encoded in the path of a URI.
const URI_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Returns the URI reference of a file.
fn uri(file: &str) -> String {
    let root = if Path::new(file).is_absolute() { "file://" } else { "" };
    format!("{root}{}", utf8_percent_encode(file, URI_PATH))
}
