//! Errors that end a run, hints for the user, and exit codes.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::text::printable;

/// The exit status of a run. The numbers are part of the public interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// 0: everything asked for was done.
    Done,
    /// 1: a rule's own test failed, or there were findings under `--fail-on-findings`.
    Findings,
    /// 2: the command line or a rule is wrong; nothing was hunted or converted.
    Usage,
    /// 3: the run ended, but some input could not be read, or the run broke off.
    Incomplete,
}

impl Status {
    /// Returns the exit code of the process.
    pub fn code(self) -> u8 {
        match self {
            Status::Done => 0,
            Status::Findings => 1,
            Status::Usage => 2,
            Status::Incomplete => 3,
        }
    }
}

/// An error that ends the run. A [`Fault`] is an input that cannot be used, and the run continues.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line or a configuration is wrong.
    #[error("{message}")]
    Usage {
        /// The problem.
        message: String,
        /// A way to solve it.
        hint: Option<String>,
    },
    /// The user named data that do not exist.
    #[error("{kind}: `{place}`")]
    NotFound {
        /// The kind of name.
        kind: Absence,
        /// The path, prefix or pattern.
        place: String,
    },
    /// Rules cannot run. The message shows the file, line and column of each, and the line itself.
    #[error("{}", paragraphs(.0))]
    Rules(Vec<RuleError>),
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// `read`, `write`, `list`, `lock`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// A store such as S3 refused a request or could not be reached.
    #[error("cannot {action} `{url}`: {reason}")]
    Store {
        /// `open`, `list`, `read`, `write`, ...
        action: &'static str,
        /// The object, folder or bucket.
        url: String,
        /// The store's reason.
        reason: String,
        /// A way to solve it.
        hint: Option<String>,
    },
    /// The transaction log of a table is damaged or uses a feature that this build does not know.
    #[error("the transaction log `{}` cannot be used: {reason}", path.display())]
    TransactionLog {
        /// The log file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The metadata of an Iceberg table are damaged, or use a feature that this build does not know.
    #[error("the table metadata `{}` cannot be used: {reason}", path.display())]
    TableMetadata {
        /// The metadata file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// The state of the nightly runs is damaged or has a version that this build does not know.
    #[error("the state `{}` cannot be used: {reason}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// Another process is writing the lake.
    #[error("another run is writing the lake `{}`", lake.display())]
    Busy {
        /// The lake's folder.
        lake: PathBuf,
    },
    /// A sink did not accept a delivery.
    #[error("cannot deliver to the sink `{sink}`: {reason}")]
    Sink {
        /// The sink's name.
        sink: String,
        /// The host that refused, and its answer. Never the rest of the URL, which may be a secret.
        reason: String,
        /// The indexes of the lines that it did not accept, among the lines of this delivery.
        left: Vec<usize>,
        /// Whether this run must not send it more.
        silent: bool,
    },
    /// A cluster or one of its nodes failed.
    #[error("cannot {action} `{place}`: {reason}")]
    Cluster {
        /// `schedule at`, `work for`, `query`.
        action: &'static str,
        /// The address.
        place: String,
        /// The problem.
        reason: String,
    },
    /// A query failed.
    #[error("the query of {subject} failed")]
    Query {
        /// The rule or the step that ran the query.
        subject: String,
        /// The kind of failure.
        cause: QueryCause,
        /// The engine's error.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The system refused something that every run needs, such as a thread.
    #[error("cannot {action}")]
    Resources {
        /// `start the worker threads`, ...
        action: &'static str,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// Records cannot be put together to one batch of columns.
    #[error("{subject} cannot be held as columns")]
    Columns {
        /// The records.
        subject: String,
        /// The reason, such as more than 2 GiB in one column.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A finding that an earlier run stored cannot be delivered.
    #[error("a stored finding cannot be delivered: {reason}")]
    StoredFinding {
        /// The problem.
        reason: String,
    },
    /// A defect of this program. No input can cause it.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<RuleError> for Error {
    fn from(error: RuleError) -> Error {
        Error::Rules(vec![error])
    }
}

/// The reason why a rule, or a document that should be one, cannot run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// The kind of reason.
    pub kind: RuleErrorKind,
    /// The file, as the user named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The problem, and how to solve it if there is a way.
    pub message: String,
    /// The text of the line, if the file has that line.
    pub text: Option<String>,
}

impl RuleError {
    /// Returns the place and the message on one line, with hidden characters escaped.
    pub fn one_line(&self) -> String {
        printable(&format!("{}:{}:{}: {}", self.file, self.line, self.column, self.message))
    }
}

impl fmt::Display for RuleError {
    /// Writes the place, the message, and the line with a mark below the column. Hidden characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.one_line())?;
        let Some(text) = &self.text else {
            return Ok(());
        };
        let gutter = self.line.to_string();
        let pad = " ".repeat(gutter.len());
        let indent = " ".repeat(self.column.saturating_sub(1));
        let text = printable(&text.chars().take(200).collect::<String>());
        write!(f, "\n{pad} |\n{gutter} | {text}\n{pad} | {indent}^")
    }
}

/// The kind of a [`RuleError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleErrorKind {
    /// The rule is wrong: invalid YAML, an unknown key, a value of the wrong type.
    Invalid,
    /// The rule uses a feature that is not supported.
    Unsupported,
    /// The rule's logic is Python.
    Python,
    /// The rule fails its own tests.
    FailedTests,
    /// The rule is for other logs than CloudTrail's.
    OtherLogs,
}

impl fmt::Display for RuleErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleErrorKind::Invalid => "invalid",
            RuleErrorKind::Unsupported => "unsupported",
            RuleErrorKind::Python => "in Python",
            RuleErrorKind::FailedTests => "with failing tests",
            RuleErrorKind::OtherLogs => "for other logs",
        })
    }
}

fn paragraphs(errors: &[RuleError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The kind of name that leads to no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absence {
    /// A file or folder that does not exist.
    MissingPath,
    /// An S3 key or prefix without objects.
    EmptyPrefix,
    /// A pattern that matches no file, folder or object.
    UnmatchedPattern,
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Absence::MissingPath => "no such file or directory",
            Absence::EmptyPrefix => "no such object or prefix",
            Absence::UnmatchedPattern => "nothing matches the pattern",
        })
    }
}

/// Returns the messages of an error and its sources in one line: the first line of each.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let first_line = |error: &dyn std::error::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let mut text = first_line(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = first_line(error);
        // Some messages already contain their causes.
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

/// Returns the message of the last source of an error.
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Error {
    /// Returns an [`Error::Usage`] without a hint.
    pub fn usage(message: impl Into<String>) -> Error {
        Error::Usage { message: message.into(), hint: None }
    }

    /// Returns the error of a query about `subject` that failed.
    pub fn query(subject: impl Into<String>, failure: impl Into<QueryFailure>) -> Error {
        let QueryFailure { cause, source } = failure.into();
        Error::Query { subject: subject.into(), cause, source }
    }

    /// Returns the error of records that cannot be put together to columns.
    pub fn columns(subject: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Columns { subject: subject.into(), source: source.into() }
    }

    /// Returns what the user can do, if there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Usage { hint, .. } | Error::Store { hint, .. } => hint.clone(),
            Error::NotFound { kind: Absence::EmptyPrefix, .. } => Some(
                "name an object, a folder or a quoted pattern such as 's3://bucket/AWSLogs/*/CloudTrail/**'".to_owned(),
            ),
            Error::NotFound { .. } => {
                Some("name a file, a folder or a quoted glob such as 'trail/**/*.json.gz'".to_owned())
            }
            Error::TransactionLog { .. } => {
                Some("restore the file; a lake can be converted again, into a new, empty folder".to_owned())
            }
            Error::State { .. } | Error::StoredFinding { .. } => Some(
                "restore it, or name another `state` in the configuration: then everything is hunted and delivered again"
                    .to_owned(),
            ),
            Error::Query { cause: QueryCause::MemoryExhausted, .. } => {
                Some("give it more with `--memory`, or narrow the range with `--from` and `--to`".to_owned())
            }
            Error::Query { cause: QueryCause::DamagedFile(_) | QueryCause::UnreadableData, .. } => Some(
                "where a file is gone or damaged, restore it; a lake can be converted again, into an empty folder"
                    .to_owned(),
            ),
            Error::Busy { .. } => {
                Some("wait for it to end, and run again; nothing is lost, and a killed run holds nothing up".to_owned())
            }
            Error::Resources { .. } => Some("allow the process more threads and memory, or give fewer `--threads`".to_owned()),
            Error::Internal(_) => Some("please report this, with the command that led to it".to_owned()),
            Error::Rules(_)
            | Error::File { .. }
            | Error::TableMetadata { .. }
            | Error::Sink { .. }
            | Error::Cluster { .. }
            | Error::Columns { .. }
            | Error::Query { cause: QueryCause::Other, .. } => None,
        }
    }

    /// Returns whether a query needed more memory than `--memory` allows.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Error::Query { cause: QueryCause::MemoryExhausted, .. })
    }

    /// Returns the exit status that this error leads to.
    pub fn status(&self) -> Status {
        match self {
            Error::Usage { .. } | Error::Rules(_) | Error::NotFound { kind: Absence::MissingPath, .. } => Status::Usage,
            // The place may exist, but nothing in it could be read.
            Error::NotFound { .. }
            | Error::File { .. }
            | Error::Store { .. }
            | Error::TransactionLog { .. }
            | Error::TableMetadata { .. }
            | Error::State { .. }
            | Error::Busy { .. }
            | Error::Sink { .. }
            | Error::Cluster { .. }
            | Error::Query { .. }
            | Error::Resources { .. }
            | Error::Columns { .. }
            | Error::StoredFinding { .. }
            | Error::Internal(_) => Status::Incomplete,
        }
    }
}

/// A file of a table whose content cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{file}` cannot be read: {reason}")]
pub struct DamagedFile {
    /// Its path on disk, or its URL.
    pub file: String,
    /// The reason.
    pub reason: String,
}

impl DamagedFile {
    /// Returns the damaged file that made a query fail, if there is one.
    pub fn of(error: &Error) -> Option<&DamagedFile> {
        match error {
            Error::Query { cause: QueryCause::DamagedFile(file), .. } => Some(file),
            _ => None,
        }
    }
}

/// The kind of a query's failure. It decides the hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryCause {
    /// The query needed more memory than `--memory` allows.
    MemoryExhausted,
    /// The content of this file cannot be read.
    DamagedFile(DamagedFile),
    /// Parquet or the store of a file failed, and the engine does not say which file.
    UnreadableData,
    /// Any other failure.
    Other,
}

/// A query's failure: its kind and the engine's error.
#[derive(Debug)]
pub struct QueryFailure {
    /// The kind.
    pub cause: QueryCause,
    /// The engine's error.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// An input that was rejected or changed: its place and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The object's path.
    pub object: String,
    /// The place within the object, such as `record 17`. Absent for the object as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// The reason, and how to solve it if there is a way.
    pub reason: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.object)?;
        if let Some(position) = &self.position {
            write!(f, ", {position}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
