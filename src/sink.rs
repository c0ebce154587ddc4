//! Sinks: where the findings of a nightly run are delivered. What is delivered twice is found once: files have
//! names that are told by the run, and a message carries the key by which its receiver knows it.

use std::fmt;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::rule::Severity;
use crate::store::Stores;
use crate::text::json;

mod files;
mod ocsf;
mod parquet;
mod slack;
mod webhook;

/// A finding as it is delivered: its JSON, and with it `revision` (from 1), `supersedes` (the ids of findings in
/// whose place it is), `withdrawn` (whether a late event dissolved it), `rule_version` and `run`.
pub type Line = Map<String, Value>;

/// What one run delivers.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The run's number. A delivery that is repeated keeps it.
    pub run: u32,
    /// Whose run it is: a text of letters and digits that is another one for another lake or state.
    pub of: &'a str,
    /// The findings, in the order in which they are delivered.
    pub lines: &'a [Line],
}

/// One `[[sink]]` of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Settings {
    /// A file for each run and date.
    Files {
        /// The sink's name.
        name: String,
        /// The folder, on disk or as `s3://BUCKET/PREFIX`.
        to: String,
        /// How files are written.
        #[serde(default)]
        format: FileFormat,
        /// Only findings at least as grave.
        min_severity: Option<MinSeverity>,
        /// Only findings of rules with these ids, or ids that match these patterns; of all where there are none.
        #[serde(default)]
        rules: Vec<String>,
    },
    /// Lines on standard output.
    Stdout {
        /// The sink's name.
        name: String,
        /// How lines are written.
        #[serde(default)]
        format: LineFormat,
        /// Only findings at least as grave.
        min_severity: Option<MinSeverity>,
        /// Only findings of rules with these ids, or ids that match these patterns; of all where there are none.
        #[serde(default)]
        rules: Vec<String>,
    },
    /// One request for each finding that is an alert.
    Webhook {
        /// The sink's name.
        name: String,
        /// The URL, where it is no secret.
        url: Option<Hidden>,
        /// The environment variable that holds the URL, where it is one.
        url_env: Option<String>,
        /// The environment variable that holds the key which requests are signed with; unsigned where absent.
        secret_env: Option<String>,
        /// What a request's body is.
        format: MessageFormat,
        /// How long to wait for an answer, in seconds.
        #[serde(default = "default_timeout")]
        timeout: NonZeroU32,
        /// How often a finding is sent before the delivery has failed.
        #[serde(default = "default_attempts")]
        attempts: NonZeroU32,
        /// Only findings at least as grave; `Low` where it is not given.
        min_severity: Option<MinSeverity>,
        /// Only findings of rules with these ids, or ids that match these patterns; of all where there are none.
        #[serde(default)]
        rules: Vec<String>,
    },
}

/// Text that may be a secret, and so is not shown with the settings it is in.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Hidden(String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A severity in settings, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct MinSeverity(pub Severity);

impl TryFrom<String> for MinSeverity {
    type Error = String;

    fn try_from(text: String) -> Result<MinSeverity, String> {
        let same = |severity: &Severity| severity.to_string().eq_ignore_ascii_case(&text);
        let known = Severity::ALL.into_iter().find(same).map(MinSeverity);
        known.ok_or_else(|| {
            format!("{text:?} is not a severity: expected {}", Severity::ALL.map(|s| s.to_string()).join(", "))
        })
    }
}

/// How a sink's files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileFormat {
    /// One JSON object a line: the finding.
    #[default]
    Jsonl,
    /// Parquet, one row for each finding.
    Parquet,
    /// One JSON object a line: a Detection Finding of OCSF.
    Ocsf,
}

/// How a sink's lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineFormat {
    /// The finding.
    #[default]
    Jsonl,
    /// A Detection Finding of OCSF.
    Ocsf,
}

/// What the body of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageFormat {
    /// A message for Slack, or for a chat that takes the same.
    Slack,
    /// The finding.
    Json,
    /// A Detection Finding of OCSF.
    Ocsf,
}

fn default_timeout() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(9)
}

fn default_attempts() -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(4)
}

impl Settings {
    /// The sink's name, by which deliveries to it are remembered.
    pub fn name(&self) -> &str {
        match self {
            Settings::Files { name, .. } | Settings::Stdout { name, .. } | Settings::Webhook { name, .. } => name,
        }
    }

    /// Returns which findings the sink takes.
    ///
    /// # Errors
    /// A pattern of rules cannot be read.
    fn wanted(&self) -> Result<Wanted, Error> {
        let (name, min_severity, rules) = match self {
            Settings::Files { name, min_severity, rules, .. }
            | Settings::Stdout { name, min_severity, rules, .. }
            | Settings::Webhook { name, min_severity, rules, .. } => (name, min_severity, rules),
        };
        let pattern = |text: &String| {
            let wrong = |error: glob::PatternError| {
                Error::usage(format!("the sink `{name}` names the rules {text:?}, which is not a pattern: {error}"))
            };
            glob::Pattern::new(text).map_err(wrong)
        };
        let only_alerts = matches!(self, Settings::Webhook { .. });
        let least = if only_alerts { Severity::Low } else { Severity::Info };
        Ok(Wanted {
            only_alerts,
            min_severity: min_severity.map_or(least, |MinSeverity(severity)| severity),
            rules: rules.iter().map(pattern).collect::<Result<_, _>>()?,
        })
    }
}

/// Which findings a sink takes.
struct Wanted {
    only_alerts: bool,
    min_severity: Severity,
    /// Patterns of ids; all rules where there are none.
    rules: Vec<glob::Pattern>,
}

/// A place to which findings are delivered.
pub struct Sink {
    name: String,
    wanted: Wanted,
    kind: Kind,
}

/// Returns the time, in microseconds since the epoch.
pub type Clock = fn() -> i64;

enum Kind {
    Files(files::Files),
    Stdout(LineFormat),
    Webhook(Box<webhook::Webhook>),
}

impl Sink {
    /// Makes the sink ready. Nothing is written or sent yet. `secret` gives the value of an environment variable;
    /// `clock` gives the times that requests are signed with.
    ///
    /// # Errors
    /// The settings ask for what cannot be, or name a variable that is not set or empty.
    pub fn open(
        settings: &Settings,
        stores: &Stores,
        secret: &dyn Fn(&str) -> Option<String>,
        clock: Clock,
    ) -> Result<Sink, Error> {
        let name = settings.name();
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || !name.chars().all(plain) {
            return Err(Error::usage(format!(
                "{name:?} is no name of a sink: give it letters, digits, `-`, `_` and `.` only"
            )));
        }
        let kind = match settings {
            Settings::Files { to, format, .. } => Kind::Files(files::Files::open(name, to, *format, stores)?),
            Settings::Stdout { format, .. } => Kind::Stdout(*format),
            Settings::Webhook { .. } => Kind::Webhook(Box::new(webhook::Webhook::open(settings, secret, clock)?)),
        };
        Ok(Sink { name: name.to_owned(), wanted: settings.wanted()?, kind })
    }

    /// Whether the sink takes this finding of `rule_id` by its settings. It takes what becomes of a finding that it was
    /// given in any case.
    pub fn wants(&self, rule_id: &str, severity: &str, alert: bool) -> bool {
        let Wanted { only_alerts, min_severity, rules } = &self.wanted;
        let is_grave = Severity::ALL.into_iter().filter(|known| known >= min_severity);
        (alert || !only_alerts)
            && is_grave.into_iter().any(|known| known.to_string() == severity)
            && (rules.is_empty() || rules.iter().any(|pattern| pattern.matches(rule_id)))
    }

    /// The name its settings give it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the patterns of rules in its settings that match none of `ids`.
    pub fn unmatched_rules<'s>(&'s self, ids: &'s [&'s str]) -> impl Iterator<Item = &'s str> {
        let patterns = self.wanted.rules.iter().filter(|pattern| !ids.iter().any(|id| pattern.matches(id)));
        patterns.map(glob::Pattern::as_str)
    }

    /// Whether each line is a request of its own.
    pub fn takes_one_by_one(&self) -> bool {
        matches!(self.kind, Kind::Webhook(_))
    }

    /// Delivers, and gives the number of lines; `print` writes to standard output. Where there is nothing to
    /// deliver nothing is touched.
    ///
    /// # Errors
    /// Not everything was delivered. Of [`Error::Sink`] only the lines that it names are to be delivered again; else
    /// all are.
    pub async fn deliver(
        &self,
        delivery: &Delivery<'_>,
        print: &(dyn Fn(&[u8]) -> Result<(), Error> + Sync),
    ) -> Result<usize, Error> {
        if delivery.lines.is_empty() {
            return Ok(0);
        }
        match &self.kind {
            Kind::Files(files) => files.deliver(delivery).await?,
            Kind::Stdout(LineFormat::Jsonl) => print(&jsonl(delivery.lines)?)?,
            Kind::Stdout(LineFormat::Ocsf) => print(&ocsf_lines(delivery.lines)?)?,
            Kind::Webhook(webhook) => webhook.deliver(delivery.lines).await?,
        }
        Ok(delivery.lines.len())
    }
}

/// One JSON object a line.
fn jsonl(objects: &[impl serde::Serialize]) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    for object in objects {
        json::write(object, &mut text).map_err(|error| Error::Internal(format!("a line as JSON: {error}")))?;
        text.push(b'\n');
    }
    Ok(text)
}

fn ocsf_lines(lines: &[Line]) -> Result<Vec<u8>, Error> {
    jsonl(&lines.iter().map(ocsf::finding).collect::<Result<Vec<_>, _>>()?)
}

/// The text of a member of a line; empty where there is none.
fn text<'l>(line: &'l Line, name: &str) -> &'l str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The texts of a member of a line that is a list.
fn texts<'l>(line: &'l Line, name: &str) -> Vec<&'l str> {
    line.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The time that a member of a line tells, in microseconds since the epoch.
fn instant(line: &Line, name: &str) -> Result<i64, Error> {
    let time = text(line, name);
    // Of findings that are withdrawn, earlier builds may have taken any time.
    crate::time::parse_instant(time).map_err(|_| Error::Internal(format!("a finding whose `{name}` is {time:?}")))
}

/// Whether a late event dissolved the finding.
fn withdrawn(line: &Line) -> bool {
    line.get("withdrawn").and_then(Value::as_bool).unwrap_or_default()
}

/// Which telling of the finding a line is, from 1.
fn revision(line: &Line) -> u64 {
    line.get("revision").and_then(Value::as_u64).unwrap_or(1)
}
