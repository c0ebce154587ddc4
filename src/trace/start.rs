//! The start of a trace.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::Deserialize;

use super::activity::is_actor;
use super::issue::{is_role, principal_prefilter};
use super::records::{has_arn, has_key, is_event, is_one_of, may_have_arn};
use crate::event::identity::ROLE_SESSION;
use crate::sql::quote::Literal;
use crate::time::{Instant, Range};

/// What to trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The events of a finding.
    Finding {
        /// The finding's ID.
        id: String,
        /// Its events.
        event_ids: Vec<String>,
        /// The times of its first and last event.
        span: (Instant, Instant),
    },
    /// An event.
    Event(String),
    /// An access key.
    Key(String),
    /// A user, role, role session or federated user.
    Arn(String),
    /// An actor, as rules group by it.
    Actor(String),
    /// The calls from a network.
    Ip(IpNet),
}

impl Start {
    /// Returns the kind of start, as JSON has it.
    pub fn kind(&self) -> &'static str {
        match self {
            Start::Finding { .. } => "finding",
            Start::Event(_) => "event",
            Start::Key(_) => "key",
            Start::Arn(_) => "arn",
            Start::Actor(_) => "actor",
            Start::Ip(_) => "ip",
        }
    }

    /// Returns what the user asked for.
    pub fn value(&self) -> String {
        match self {
            Start::Finding { id: value, .. }
            | Start::Event(value)
            | Start::Key(value)
            | Start::Arn(value)
            | Start::Actor(value) => value.clone(),
            Start::Ip(network) => network.to_string(),
        }
    }

    /// Returns the condition for the events to start from, and the time in which they are.
    pub(super) fn events(&self) -> (String, Range) {
        let anywhen = Range::default();
        match self {
            Start::Finding { event_ids, span: (first, last), .. } => {
                let within = Range { from: Some(*first), to: Some(*last + 1) };
                (is_event(event_ids.iter().map(String::as_str)), within)
            }
            Start::Event(id) => (is_event([id.as_str()]), anywhen),
            Start::Key(key) => (has_key([key.as_str()]), anywhen),
            Start::Arn(arn) => (is_principal(arn), anywhen),
            Start::Actor(name) => (is_actor(name), anywhen),
            Start::Ip(network) => (format!("in_cidr(address, {})", Literal(&network.to_string())), anywhen),
        }
    }
}

/// The start of a role's resource in an ARN. Path and name follow.
const ROLE: &str = ":role/";

/// Returns the condition for the caller to be the principal `arn`, or a session of it.
fn is_principal(arn: &str) -> String {
    let own = is_one_of("arn", [arn]);
    // A role's name has no slash. The path of a user can begin with the name of another user.
    let sessions = match arn.split_once(ROLE_SESSION) {
        Some((_, role_and_session)) if role_and_session.contains('/') => return has_arn([arn]),
        Some(_) => format!("{own} OR starts_with(arn, {})", Literal(&format!("{arn}/"))),
        None => own,
    };
    let issuer = is_one_of("role_issuer", [arn]);
    let condition = format!("{sessions} OR {issuer}");
    let Some((_, name)) = arn.rsplit_once('/') else { return condition };
    // Whole identities are read only of the rows that narrow columns select. A session's issuer has the name of the role.
    let own = match principal_prefilter(arn) {
        _ if arn.contains(ROLE) => "FALSE".to_owned(),
        Some(condition) => condition,
        None => may_have_arn([arn]),
    };
    format!("({own} OR {}) AND ({condition})", is_role(name))
}

/// A finding, as `tawny hunt --format json` or `jsonl` wrote it.
#[derive(Debug, Deserialize)]
struct WrittenFinding {
    finding_id: String,
    event_ids: Vec<String>,
    first_event: Instant,
    last_event: Instant,
}

/// The most IDs that an error lists.
const MAX_AMBIGUOUS: usize = 5;

/// Why a file of findings does not give a start.
#[derive(Debug, thiserror::Error)]
pub enum FindingsFileError {
    /// The text is not what `tawny hunt` writes.
    #[error("line {line}, column {column}: not a finding: {reason}")]
    Invalid {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// The problem.
        reason: String,
    },
    /// No finding has the ID.
    #[error("no finding with this ID among {0}")]
    Missing(usize),
    /// Several findings have an ID that begins so.
    #[error("several findings have an ID that begins so: {0}")]
    Ambiguous(String),
}

impl Start {
    /// Returns the finding whose ID is `id`, or begins with it, of `findings`, which `tawny hunt --format json` or `jsonl` wrote.
    ///
    /// # Errors
    /// The text holds something else, or not this finding, or several.
    pub fn of_finding(id: &str, findings: &str) -> Result<Start, FindingsFileError> {
        let invalid = |error: &serde_json::Error| FindingsFileError::Invalid {
            line: error.line(),
            column: error.column(),
            reason: error.to_string(),
        };
        let found: Vec<WrittenFinding> = if findings.trim_start().starts_with('[') {
            serde_json::from_str(findings).map_err(|error| invalid(&error))?
        } else {
            let values = serde_json::Deserializer::from_str(findings).into_iter();
            values.collect::<Result<_, _>>().map_err(|error| invalid(&error))?
        };
        let count = found.len();
        let id = id.trim().to_ascii_lowercase();
        // A file may hold several hunts. Of one finding, the last counts.
        let found = found.into_iter().filter(|finding| !id.is_empty() && finding.finding_id.starts_with(&id));
        let mut found: BTreeMap<String, WrittenFinding> =
            found.map(|finding| (finding.finding_id.clone(), finding)).collect();
        let exact = found.remove(&id);
        if let (None, true) = (&exact, found.len() > 1) {
            let ids: Vec<&str> = found.keys().take(MAX_AMBIGUOUS).map(String::as_str).collect();
            return Err(FindingsFileError::Ambiguous(ids.join(", ")));
        }
        let finding = exact.or_else(|| found.pop_first().map(|(_, finding)| finding));
        let finding = finding.ok_or(FindingsFileError::Missing(count))?;
        Ok(Start::Finding {
            id: finding.finding_id,
            event_ids: finding.event_ids,
            span: (finding.first_event, finding.last_event),
        })
    }
}
