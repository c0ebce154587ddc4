//! A validated rule. No YAML and no SQL here.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;

use crate::error::Error;
use crate::event::{self, Place};
use crate::path::Path;
use crate::text;
use crate::time::Period;

pub mod attack;
pub mod catalog;
mod condition;
pub mod edit;
pub mod limits;
pub mod lint;
pub mod panther;
pub mod predicate;
pub mod sigma;
pub mod yaml;

pub use predicate::{Class, Compared, Operand, Predicate, Quantifier, Test, Value};

/// A threshold rule: which records match, how they are grouped, and how many within which period make a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its identity, unique among the rules of a run.
    pub id: String,
    /// What it finds, in a few words.
    pub display_name: String,
    /// What a finding is called, with values of the event that triggered it; the display name where there is none.
    pub title: Vec<TitlePart>,
    /// How grave a finding is.
    pub severity: Severity,
    /// Other severities, each for events that satisfy its predicate; the first that holds for the
    /// event that triggered counts.
    pub dynamic_severities: Vec<(Severity, Predicate)>,
    /// Whether it runs without being named.
    pub enabled: bool,
    /// Whether its findings are alerts; otherwise they are signals, for the record only.
    pub alert: bool,
    /// When matches make a finding.
    pub window: Window,
    /// What is held against the threshold.
    pub counts: Counts,
    /// Which records match, inline filters included; whatever is counted is a match.
    pub detection: Predicate,
    /// Matches are counted apart for each value of these fields.
    pub group_by: Vec<Field>,
    /// What a finding tells of the event that triggered it, by name.
    pub context: Vec<(String, Field)>,
    /// Fields whose distinct values a finding lists.
    pub summary: Vec<Field>,
    /// What is said for people.
    pub notes: Notes,
    /// Its own tests.
    pub tests: Vec<RuleTest>,
}

/// What of its matches a window must hold the threshold of.
#[derive(Debug, Clone, PartialEq)]
pub enum Counts {
    /// The matches.
    Matches,
    /// The distinct values of a field.
    Distinct(Field),
    /// The matches that are `first`, before one that is `then`, with which the window ends.
    Followed {
        /// What is counted.
        first: Predicate,
        /// What follows.
        then: Predicate,
    },
    /// The kinds of which there is a match, in whatever order.
    EachOf(Vec<Predicate>),
    /// The steps that matches take one after the other, the last of them with the match that ends the window.
    InOrder(Vec<Predicate>),
}

impl Counts {
    /// The field whose distinct values are counted.
    pub fn distinct(&self) -> Option<&Field> {
        match self {
            Counts::Distinct(field) => Some(field),
            _ => None,
        }
    }
}

/// What a rule says for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Notes {
    /// What it finds and why that matters.
    pub description: Option<String>,
    /// What to do about a finding.
    pub runbook: Option<String>,
    /// Where to read more.
    pub reference: Option<String>,
    /// Words to sort rules by.
    pub tags: Vec<String>,
    /// Places in frameworks, by framework: `MITRE ATT&CK` has `TA0006:T1621`.
    pub reports: BTreeMap<String, Vec<String>>,
}

/// Makes sure that a text can be the id of a rule.
fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || text::has_hidden(id) || id.contains(['<', '>', '&', '"', '%']) {
        return Err("must be text without control or invisible characters and without any of < > & \" %".to_owned());
    }
    Ok(())
}

impl Rule {
    /// Makes sure that the rule can be hunted with this window.
    ///
    /// # Errors
    /// It asks for several events, and the window does not end at one, or does not ask for all of them.
    pub fn check(&self, window: Window) -> Result<(), Error> {
        let Window { kind, threshold, .. } = window;
        let (asks, all) = match &self.counts {
            Counts::Matches | Counts::Distinct(_) => return Ok(()),
            Counts::Followed { .. } => ("`FollowedBy`", None),
            Counts::EachOf(events) | Counts::InOrder(events) => ("several events that must occur", Some(events.len())),
        };
        if kind != WindowKind::Sliding {
            return Err(Error::Usage {
                message: format!("the rule `{}` has {asks}, and so only sliding windows", self.id),
                hint: Some(format!("leave out the rule, or the {kind} windows")),
            });
        }
        match all.filter(|all| usize::try_from(threshold.get()).ok() != Some(*all)) {
            None => Ok(()),
            Some(all) => Err(Error::Usage {
                message: format!("the rule `{}` has {asks}, and its threshold is their number, {all}", self.id),
                hint: Some("leave out the rule, or other thresholds".to_owned()),
            }),
        }
    }

    /// ATT&CK tactics and techniques, as `TA0006:T1621`.
    pub fn mitre(&self) -> &[String] {
        self.notes.reports.get("MITRE ATT&CK").map_or(&[], Vec::as_slice)
    }

    /// The fields that its title names, each once.
    pub fn title_fields(&self) -> Vec<&Field> {
        let mut fields: Vec<&Field> = Vec::new();
        for part in &self.title {
            if let TitlePart::Field(field) = part
                && !fields.contains(&field)
            {
                fields.push(field);
            }
        }
        fields
    }
}

/// A piece of a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TitlePart {
    /// Text as it is.
    Text(String),
    /// The value of a field.
    Field(Field),
}

/// When matches of a group make a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The shape of the windows.
    pub kind: WindowKind,
    /// Their length: Panther's `DedupPeriodMinutes`.
    pub period: Period,
    /// The least number of matches, or of distinct values, within one window.
    pub threshold: NonZeroU32,
}

/// The shape of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum WindowKind {
    /// A window ends at every match; windows that hold the threshold and share a match are one burst.
    #[default]
    Sliding,
    /// A match opens a window; the next match after its end opens another. What Panther does.
    Dedup,
    /// Windows follow one another from the epoch.
    Tumbling,
}

impl WindowKind {
    /// All kinds.
    pub const ALL: [WindowKind; 3] = [WindowKind::Sliding, WindowKind::Dedup, WindowKind::Tumbling];
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WindowKind::Sliding => "sliding",
            WindowKind::Dedup => "dedup",
            WindowKind::Tumbling => "tumbling",
        })
    }
}

/// How grave a finding is, in Panther's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// All severities, from the least.
    pub const ALL: [Severity; 5] =
        [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A field of a record that a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The account that the record belongs to: `recipientAccountId`, else `userIdentity.accountId`.
    Account,
    /// Who acted: see [`event::identity::actor`].
    Actor,
    /// The value at this path, from the top of the record.
    Path(Path),
    /// The value at this path of an element of a list; the element itself where the path is empty.
    Element(Path),
}

impl Field {
    /// The field of a record at `path`; `account` and `actor` are the derived ones.
    pub fn new(path: Path) -> Field {
        match path.as_key() {
            Some(key) if key.eq_ignore_ascii_case("account") => Field::Account,
            Some(key) if key.eq_ignore_ascii_case("actor") => Field::Actor,
            _ => Field::Path(path),
        }
    }

    /// The field's place among the columns; `None` for a derived field and within an element.
    pub fn place(&self) -> Option<Place<'_>> {
        match self {
            Field::Account | Field::Actor | Field::Element(_) => None,
            Field::Path(path) => Some(event::place(path)),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Account => f.write_str("account"),
            Field::Actor => f.write_str("actor"),
            Field::Path(path) | Field::Element(path) => path.fmt(f),
        }
    }
}

/// A test that a rule carries: a record and whether it matches.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTest {
    /// What it shows.
    pub name: String,
    /// Whether the record must match.
    pub expected: bool,
    /// The record, as JSON text.
    pub log: String,
}
