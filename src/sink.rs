//! Sinks deliver the findings of a nightly run. A repeated delivery does no harm: the run determines the names of files,
//! and each message carries an idempotency key.

use std::fmt;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::rule::Severity;
use crate::store::Stores;
use crate::text::{item_named, json};
use crate::time::Instant;

mod files;
mod ocsf;
mod parquet;
mod slack;
mod webhook;

pub use parquet::FindingsParquet;

/// A finding as delivered: its JSON, with these members added.
///
/// `revision` counts from 1. `supersedes` lists the ids of the findings that it replaces. `withdrawn` is true if a late
/// event removed the finding. `rule_version` and `run` say where it comes from.
pub type Line = Map<String, Value>;

/// The findings that one run delivers.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// Number of the run. A repeated delivery keeps it.
    pub run: u32,
    /// Letters and digits that identify the lake and state of the run.
    pub origin: &'a str,
    /// The findings, in delivery order.
    pub lines: &'a [Line],
}

/// One `[[sink]]` of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SinkSettings {
    /// One file per run and date.
    Files {
        /// The sink's name.
        name: String,
        /// Folder, on disk or `s3://BUCKET/PREFIX`.
        to: String,
        /// Format of the files.
        #[serde(default)]
        format: FileFormat,
        /// Least severity to deliver.
        min_severity: Option<MinSeverity>,
        /// Rule ids, or patterns of ids, to deliver. Empty for all.
        #[serde(default)]
        rules: Vec<String>,
    },
    /// Lines on standard output.
    Stdout {
        /// The sink's name.
        name: String,
        /// Format of the lines.
        #[serde(default)]
        format: LineFormat,
        /// Least severity to deliver.
        min_severity: Option<MinSeverity>,
        /// Rule ids, or patterns of ids, to deliver. Empty for all.
        #[serde(default)]
        rules: Vec<String>,
    },
    /// One request per finding that is an alert.
    Webhook {
        /// The sink's name.
        name: String,
        /// The URL, unless it is a secret.
        url: Option<Hidden>,
        /// Environment variable that holds a secret URL.
        url_env: Option<String>,
        /// Environment variable that holds the key to sign requests with. Absent to send them unsigned.
        secret_env: Option<String>,
        /// Format of the request body.
        format: MessageFormat,
        /// Seconds to wait for a response.
        #[serde(default = "default_timeout")]
        timeout: NonZeroU32,
        /// Maximum number of requests per finding.
        #[serde(default = "default_attempts")]
        attempts: NonZeroU32,
        /// Least severity to deliver; by default `Low`.
        min_severity: Option<MinSeverity>,
        /// Rule ids, or patterns of ids, to deliver. Empty for all.
        #[serde(default)]
        rules: Vec<String>,
    },
}

/// Text that may be a secret. Its `Debug` output hides it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A text in settings is not a severity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a severity: expected {}", Severity::ALL.map(|severity| severity.to_string()).join(", "))]
pub struct SeverityError {
    text: String,
}

/// A severity in settings, in upper or lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MinSeverity(pub Severity);

impl TryFrom<String> for MinSeverity {
    type Error = SeverityError;

    fn try_from(text: String) -> Result<MinSeverity, SeverityError> {
        item_named(&text, &Severity::ALL).map(MinSeverity).ok_or(SeverityError { text })
    }
}

/// Format of a sink's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// One finding per line, as JSON.
    #[default]
    Jsonl,
    /// Parquet, one row per finding.
    Parquet,
    /// One OCSF Detection Finding per line, as JSON.
    Ocsf,
}

/// Format of a sink's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineFormat {
    /// The finding.
    #[default]
    Jsonl,
    /// An OCSF Detection Finding.
    Ocsf,
}

/// Format of a request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageFormat {
    /// A message for Slack or a compatible chat.
    Slack,
    /// The finding.
    Json,
    /// An OCSF Detection Finding.
    Ocsf,
}

fn default_timeout() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9)
}

fn default_attempts() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(4)
}

impl SinkSettings {
    /// Returns the sink's name, which identifies its pending deliveries.
    pub fn name(&self) -> &str {
        match self {
            SinkSettings::Files { name, .. }
            | SinkSettings::Stdout { name, .. }
            | SinkSettings::Webhook { name, .. } => name,
        }
    }

    /// Returns the filter for findings.
    ///
    /// # Errors
    /// A pattern of rule ids is invalid.
    fn filter(&self) -> Result<SinkFilter, Error> {
        let (name, min_severity, rules) = match self {
            SinkSettings::Files { name, min_severity, rules, .. }
            | SinkSettings::Stdout { name, min_severity, rules, .. }
            | SinkSettings::Webhook { name, min_severity, rules, .. } => (name, min_severity, rules),
        };
        let pattern = |text: &String| {
            glob::Pattern::new(text)
                .map_err(|error| Error::usage(format!("sink `{name}`: invalid pattern {text:?} in `rules`: {error}")))
        };
        let only_alerts = matches!(self, SinkSettings::Webhook { .. });
        let default = if only_alerts { Severity::Low } else { Severity::Info };
        Ok(SinkFilter {
            only_alerts,
            min_severity: min_severity.map_or(default, |MinSeverity(severity)| severity),
            rules: rules.iter().map(pattern).collect::<Result<_, _>>()?,
        })
    }
}

/// Selects the findings that a sink receives.
struct SinkFilter {
    only_alerts: bool,
    min_severity: Severity,
    /// Patterns of rule ids. Empty for all.
    rules: Vec<glob::Pattern>,
}

/// A destination of findings.
pub struct Sink {
    name: String,
    filter: SinkFilter,
    kind: SinkKind,
}

/// Returns the current time.
pub type Clock = fn() -> Instant;

enum SinkKind {
    Files(files::FileSink),
    Stdout(LineFormat),
    Webhook(Box<webhook::WebhookSink>),
}

impl Sink {
    /// Opens the sink, without writing or sending anything. `secret` returns the value of an environment variable.
    /// `clock` returns the times with which requests are signed.
    ///
    /// # Errors
    /// The settings are invalid, or name an environment variable that is not set or empty.
    pub fn open(
        settings: &SinkSettings,
        stores: &Stores,
        secret: &dyn Fn(&str) -> Option<String>,
        clock: Clock,
    ) -> Result<Sink, Error> {
        let name = settings.name();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Error::usage(format!(
                "invalid sink name {name:?}: use only letters, digits, `-`, `_` and `.`"
            )));
        }
        let kind = match settings {
            SinkSettings::Files { to, format, .. } => {
                SinkKind::Files(files::FileSink::open(name, to, *format, stores)?)
            }
            SinkSettings::Stdout { format, .. } => SinkKind::Stdout(*format),
            SinkSettings::Webhook { .. } => {
                SinkKind::Webhook(Box::new(webhook::WebhookSink::open(settings, secret, clock)?))
            }
        };
        Ok(Sink { name: name.to_owned(), filter: settings.filter()?, kind })
    }

    /// Returns whether the settings select a finding of `rule_id`. Later revisions of a delivered finding are delivered
    /// in any case.
    pub fn wants(&self, rule_id: &str, severity: &str, alert: bool) -> bool {
        let SinkFilter { only_alerts, min_severity, rules } = &self.filter;
        let mut selected = Severity::ALL.into_iter().filter(|known| known >= min_severity);
        (alert || !only_alerts)
            && selected.any(|known| known.to_string() == severity)
            && (rules.is_empty() || rules.iter().any(|pattern| pattern.matches(rule_id)))
    }

    /// Returns the sink's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the patterns of rule ids in the settings that match none of `ids`.
    pub fn unmatched_rules<'s>(&'s self, ids: &'s [&'s str]) -> impl Iterator<Item = &'s str> {
        let patterns = self.filter.rules.iter().filter(|pattern| !ids.iter().any(|id| pattern.matches(id)));
        patterns.map(glob::Pattern::as_str)
    }

    /// Returns whether each line is a separate request.
    pub fn sends_one_by_one(&self) -> bool {
        matches!(self.kind, SinkKind::Webhook(_))
    }

    /// Delivers all lines. `print` writes to standard output. Without lines, it does nothing.
    ///
    /// # Errors
    /// Some lines were not delivered. After [`Error::Sink`], deliver the lines that it names again; after any other
    /// error, all lines.
    pub async fn deliver(
        &self,
        delivery: &Delivery<'_>,
        print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        if delivery.lines.is_empty() {
            return Ok(());
        }
        match &self.kind {
            SinkKind::Files(files) => files.deliver(delivery).await,
            SinkKind::Stdout(LineFormat::Jsonl) => print(&jsonl(delivery.lines)?),
            SinkKind::Stdout(LineFormat::Ocsf) => print(&ocsf_lines(delivery.lines)?),
            SinkKind::Webhook(webhook) => webhook.deliver(delivery.lines).await,
        }
    }
}

/// Writes one JSON object per line.
fn jsonl(objects: &[impl serde::Serialize]) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    for object in objects {
        json::write(object, &mut text)
            .map_err(|error| Error::Internal(format!("cannot write a finding as JSON: {error}")))?;
        text.push(b'\n');
    }
    Ok(text)
}

fn ocsf_lines(lines: &[Line]) -> Result<Vec<u8>, Error> {
    jsonl(&lines.iter().map(ocsf::finding).collect::<Result<Vec<_>, _>>()?)
}

/// Returns a member that is a string, or an empty string.
fn text<'l>(line: &'l Line, name: &str) -> &'l str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Returns the strings of a member that is a list.
fn texts<'l>(line: &'l Line, name: &str) -> Vec<&'l str> {
    line.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Returns a member that is a time.
fn instant(line: &Line, name: &str) -> Result<Instant, Error> {
    let time = text(line, name);
    // Earlier builds accepted any time, and a withdrawn finding may still have one.
    time.parse().map_err(|_| Error::StoredFinding { reason: format!("its `{name}` is {time:?}, which is not a time") })
}

/// Returns whether a late event removed the finding.
fn withdrawn(line: &Line) -> bool {
    line.get("withdrawn").and_then(Value::as_bool).unwrap_or_default()
}

/// Returns the revision of the finding, from 1.
fn revision(line: &Line) -> u64 {
    line.get("revision").and_then(Value::as_u64).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_time_of_a_stored_finding_is_no_internal_error() {
        for time in ["", "2026-13-01T00:00:00Z", "yesterday"] {
            let mut line = Line::new();
            line.insert("trigger_time".to_owned(), time.into());
            let error = instant(&line, "trigger_time").unwrap_err();
            assert!(matches!(error, Error::StoredFinding { .. }) && error.hint().is_some(), "{error}");
            assert!(error.to_string().contains("`trigger_time`"), "{error}");
        }
    }
}
