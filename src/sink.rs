//! Sinks: where the findings of a nightly run are delivered. What is delivered twice is found once: files have
//! names that are told by the run, and a message carries the key by which its receiver knows it.

use std::fmt;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::Error;
use crate::store::Stores;

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
    },
    /// Lines on standard output.
    Stdout {
        /// The sink's name.
        name: String,
        /// How lines are written.
        #[serde(default)]
        format: LineFormat,
    },
    /// One request for each finding.
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
}

/// A place to which findings are delivered.
pub struct Sink {
    name: String,
    kind: Kind,
}

enum Kind {
    Files(files::Files),
    Stdout(LineFormat),
    Webhook(Box<webhook::Webhook>),
}

impl Sink {
    /// Makes the sink ready. Nothing is written or sent yet. `secret` gives the value of an environment variable.
    ///
    /// # Errors
    /// The settings ask for what cannot be, or name a variable that is not set or empty.
    pub fn open(settings: &Settings, stores: &Stores, secret: &dyn Fn(&str) -> Option<String>) -> Result<Sink, Error> {
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
            Settings::Webhook { .. } => Kind::Webhook(Box::new(webhook::Webhook::open(settings, secret)?)),
        };
        Ok(Sink { name: name.to_owned(), kind })
    }

    /// The name its settings give it.
    pub fn name(&self) -> &str {
        &self.name
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
        serde_json::to_writer(&mut text, object)
            .map_err(|error| Error::Internal(format!("a line as JSON: {error}")))?;
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
    crate::time::parse_event_time(time).ok_or_else(|| Error::Internal(format!("a finding whose `{name}` is {time:?}")))
}

/// Whether a late event dissolved the finding.
fn withdrawn(line: &Line) -> bool {
    line.get("withdrawn").and_then(Value::as_bool).unwrap_or_default()
}

/// Which telling of the finding a line is, from 1.
fn revision(line: &Line) -> u64 {
    line.get("revision").and_then(Value::as_u64).unwrap_or(1)
}
