//! Validated rules, without YAML and SQL.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::event::{self, FieldLocation};
use crate::path::Path;
use crate::text;
use crate::time::{Period, TimeZone};

pub mod attack;
pub mod catalog;
mod condition;
mod counted_matches;
pub mod edit;
pub mod elastic;
pub mod exceptions;
mod hunt_test;
pub mod limits;
pub mod lint;
pub mod overrides;
pub mod panther;
pub mod placeholders;
pub mod predicate;
pub mod python;
pub mod sigma;
pub mod simple_detection;
pub mod statistic;
pub mod value_lists;
pub mod yaml;

pub use counted_matches::{Absence, AbsenceSide, FirstSeen, NewnessPeriods, Setting};
pub use hunt_test::{ExpectedEvents, ExpectedFinding, HuntTest};
pub use predicate::{Class, Compared, Operand, Predicate, Quantifier, Test, Value};
pub use python::PythonFunction;

use exceptions::Exception;
use statistic::StatisticCondition;

/// A threshold rule: its matches, their groups, and the number of matches within a period that makes a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its identity, unique among the rules of a run.
    pub id: String,
    /// A short description.
    pub display_name: String,
    /// The title of a finding, with values of the triggering event. The display name if the rule has no title.
    pub title: Vec<TitlePart>,
    /// The severity of a finding.
    pub severity: Severity,
    /// Other severities, each with a predicate. The first one that the triggering event satisfies counts.
    pub dynamic_severities: Vec<(Severity, Predicate)>,
    /// Whether the rule runs without being named.
    pub enabled: bool,
    /// Whether its findings are alerts. Otherwise they are signals, which are only recorded.
    pub alert: bool,
    /// The window and threshold that make a finding.
    pub window: Window,
    /// The number that is compared with the threshold.
    pub counts: Counts,
    /// The limits of that number, besides the threshold.
    pub peak_limits: PeakLimits,
    /// The least number of matches in a window that reaches the threshold, for rules that count something else.
    pub min_events: Option<NonZeroU32>,
    /// The predicate of a match, inline filters included.
    pub detection: Predicate,
    /// Matches are counted separately for each value of these fields.
    pub group_by: Vec<Field>,
    /// Which matches are new. The others are not counted. `None` if all are counted.
    pub first_seen: Option<FirstSeen>,
    /// Events near which a match is not counted. `None` if all matches are counted.
    pub absence: Option<Absence>,
    /// Fields of the triggering event in a finding, by name.
    pub context: Vec<(String, Field)>,
    /// Fields whose distinct values a finding lists.
    pub summary: Vec<Field>,
    /// Text for people.
    pub notes: Notes,
    /// The rule's tests of one record.
    pub tests: Vec<RuleTest>,
    /// The rule's tests of several records.
    pub hunt_tests: Vec<HuntTest>,
}

/// The number of a window that is compared with the threshold.
#[derive(Debug, Clone, PartialEq)]
pub enum Counts {
    /// The number of matches.
    Matches,
    /// The number of distinct values of a field.
    Distinct(Field),
    /// The sum of the numbers in a field, without its fraction.
    Sum(Field),
    /// Whether a statistic of the numbers in a field satisfies a condition: 1 or 0.
    Statistic(Field, StatisticCondition),
    /// The number of `first` matches before a `then` match, which ends the window.
    Followed {
        /// The counted matches.
        first: Predicate,
        /// The match that follows them.
        then: Predicate,
    },
    /// The number of kinds with a match, in any order.
    EachOf(Vec<Predicate>),
    /// The number of steps that matches take in this order. The match that ends the window takes the last step.
    InOrder(Vec<Predicate>),
}

impl Counts {
    /// Returns the field whose distinct values are counted.
    pub fn distinct(&self) -> Option<&Field> {
        match self {
            Counts::Distinct(field) => Some(field),
            _ => None,
        }
    }

    /// Returns the field whose numbers are added.
    pub fn summed(&self) -> Option<&Field> {
        match self {
            Counts::Sum(field) => Some(field),
            _ => None,
        }
    }

    /// Returns the field and the condition of a statistic.
    pub fn statistic(&self) -> Option<(&Field, StatisticCondition)> {
        match self {
            Counts::Statistic(field, condition) => Some((field, *condition)),
            _ => None,
        }
    }
}

/// Limits of a finding's peak. That is the greatest number that any one window of it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct PeakLimits {
    /// The greatest peak.
    pub at_most: Option<u32>,
    /// A peak that makes no finding.
    pub not: Option<u32>,
}

impl PeakLimits {
    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == PeakLimits::default()
    }
}

impl fmt::Display for PeakLimits {
    /// Writes the limits after a threshold: `, at most 5, not 4`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(most) = self.at_most {
            write!(f, ", at most {most}")?;
        }
        self.not.map_or(Ok(()), |not| write!(f, ", not {not}"))
    }
}

/// A rule's text for people.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Notes {
    /// The behavior that the rule finds, and why it matters.
    pub description: Option<String>,
    /// The steps to take after a finding.
    pub runbook: Option<String>,
    /// Where to read more.
    pub reference: Option<String>,
    /// Words to sort rules by.
    pub tags: Vec<String>,
    /// References to frameworks, by framework: `MITRE ATT&CK` has `TA0006:T1621`.
    pub reports: BTreeMap<String, Vec<String>>,
}

/// A text cannot be the id of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be text without control or invisible characters and without any of < > & \" %")]
struct RuleIdError;

/// Checks that a text can be the id of a rule.
fn check_id(id: &str) -> Result<(), RuleIdError> {
    if id.is_empty() || text::has_hidden(id) || id.contains(['<', '>', '&', '"', '%']) {
        return Err(RuleIdError);
    }
    Ok(())
}

impl Rule {
    /// Checks that the rule can be hunted with this window.
    ///
    /// # Errors
    /// The rule needs several events, and the window does not end at an event or its threshold is not their number. Or
    /// the threshold is above the rule's greatest peak.
    pub fn check(&self, window: Window) -> Result<(), Error> {
        let Window { kind, threshold, .. } = window;
        let mut tests_origin = false;
        self.predicates().for_each(|predicate| predicate.fields(&mut |field| tests_origin |= *field == Field::Origin));
        if tests_origin {
            return Err(Error::Usage {
                message: format!("the rule `{}` tests `origin`, which is known only after the scan", self.id),
                hint: Some("use it in `GroupBy`, or test `actor`".to_owned()),
            });
        }
        if let Some(most) = self.peak_limits.at_most.filter(|most| *most < threshold.get()) {
            return Err(Error::Usage {
                message: format!(
                    "the rule `{}` finds counts of at most {most}, and the threshold is {threshold}",
                    self.id
                ),
                hint: Some("leave out the rule, or choose lower thresholds".to_owned()),
            });
        }
        let (asks, all) = match &self.counts {
            Counts::Matches | Counts::Distinct(_) | Counts::Sum(_) => return Ok(()),
            Counts::Statistic(field, condition) => {
                return if threshold == NonZeroU32::MIN {
                    Ok(())
                } else {
                    Err(Error::Usage {
                        message: format!(
                            "the rule `{}` finds windows whose {}, and its threshold is always 1",
                            self.id,
                            condition.of(field)
                        ),
                        hint: Some("leave out the rule, or other thresholds".to_owned()),
                    })
                };
            }
            Counts::Followed { .. } => ("`FollowedBy`", None),
            Counts::EachOf(events) | Counts::InOrder(events) => ("several events that must occur", Some(events.len())),
        };
        if kind != WindowKind::Sliding {
            return Err(Error::Usage {
                message: format!("the rule `{}` has {asks}, and so only sliding windows", self.id),
                hint: Some(format!("leave out the rule, or the {kind} windows")),
            });
        }
        let threshold = usize::try_from(threshold.get()).unwrap_or(usize::MAX);
        // Events in any order may be some of them.
        let some = matches!(self.counts, Counts::EachOf(_));
        let is_allowed = |all: usize| if some { threshold <= all } else { threshold == all };
        match all.filter(|all| !is_allowed(*all)) {
            None => Ok(()),
            Some(all) => Err(Error::Usage {
                message: format!(
                    "the rule `{}` has {asks}, and its threshold is {}their number, {all}",
                    self.id,
                    if some { "at most " } else { "" }
                ),
                hint: Some("leave out the rule, or other thresholds".to_owned()),
            }),
        }
    }

    /// Returns the exceptions of the rule.
    pub fn exceptions(&self) -> &[Arc<Exception>] {
        match &self.detection {
            Predicate::Except { exceptions, .. } => exceptions,
            _ => &[],
        }
    }

    /// Returns the predicate of a match, without exceptions.
    pub fn detection_without_exceptions(&self) -> &Predicate {
        match &self.detection {
            Predicate::Except { matches, .. } => matches,
            detection => detection,
        }
    }

    /// Returns the predicates that decide the rule's findings.
    fn predicates(&self) -> impl Iterator<Item = &Predicate> {
        let counted: Vec<&Predicate> = match &self.counts {
            Counts::Matches | Counts::Distinct(_) | Counts::Sum(_) | Counts::Statistic(..) => Vec::new(),
            Counts::Followed { first, then } => vec![first, then],
            Counts::EachOf(events) | Counts::InOrder(events) => events.iter().collect(),
        };
        let absent = self.absence.iter().map(|absence| &absence.event);
        let severities = self.dynamic_severities.iter().map(|(_, predicate)| predicate);
        std::iter::once(&self.detection).chain(counted).chain(absent).chain(severities)
    }

    /// Returns the predicate of the events that a hunt needs: the matches, and the events that must be absent near them.
    pub fn scanned(&self) -> Cow<'_, Predicate> {
        match &self.absence {
            None => Cow::Borrowed(&self.detection),
            Some(absence) => Cow::Owned(Predicate::Any(vec![self.detection.clone(), absence.event.clone()])),
        }
    }

    /// Returns whether the rule needs the origins of its matches, which a hunt finds after its scan.
    pub fn needs_origins(&self) -> bool {
        let shown = self.title_fields().into_iter().chain(self.context.iter().map(|(_, field)| field));
        let counted = self.counts.distinct().into_iter().chain(self.counts.summed());
        let keys = self.first_seen.iter().flat_map(|first_seen| &first_seen.fields);
        let mut all = self.group_by.iter().chain(&self.summary).chain(shown).chain(counted).chain(keys);
        all.any(|field| *field == Field::Origin)
    }

    /// Makes the rule count acts instead of matches: the records of one cross-account call count once. Returns whether that
    /// changes the rule; one that counts something else is unchanged.
    pub fn count_acts(&mut self) -> bool {
        let counts_matches = self.counts == Counts::Matches;
        if counts_matches {
            self.counts = Counts::Distinct(Field::Act);
        }
        counts_matches
    }

    /// Returns the settings that decide the rule's findings.
    pub fn setting(&self) -> Setting {
        Setting {
            window: self.window,
            newness: self.first_seen.as_ref().map(|first_seen| first_seen.periods),
            absence: self.absence.as_ref().map(|absence| absence.side),
        }
    }

    /// Returns the ATT&CK tactics and techniques, as `TA0006:T1621`.
    pub fn mitre(&self) -> &[String] {
        self.notes.reports.get("MITRE ATT&CK").map_or(&[], Vec::as_slice)
    }

    /// Returns the fields in the title, each once.
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

/// A part of a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TitlePart {
    /// Literal text.
    Text(String),
    /// The value of a field.
    Field(Field),
}

/// When matches of a group make a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Window {
    /// The shape of the windows.
    pub kind: WindowKind,
    /// Their length, Panther's `DedupPeriodMinutes`.
    pub period: Period,
    /// The least number of matches, or of distinct values, within one window.
    pub threshold: NonZeroU32,
}

/// The shape of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub enum WindowKind {
    /// A window ends at every match. Windows that reach the threshold and share a match are one burst.
    #[default]
    Sliding,
    /// A match opens a window. The next match after its end opens another, as in Panther.
    Dedup,
    /// Adjacent windows, counted from the epoch.
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

/// The severity of a finding, in Panther's words.
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
    /// All severities, from the lowest.
    pub const ALL: [Severity; 5] =
        [Severity::Info, Severity::Low, Severity::Medium, Severity::High, Severity::Critical];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// The account of the record: `recipientAccountId`, or else `userIdentity.accountId`.
    Account,
    /// The principal that acted: see [`event::identity::actor`].
    Actor,
    /// The network that the call came from: see [`event::address::source_network`].
    Network,
    /// The act of the record: `sharedEventID`, which the records of one cross-account call share, or else the `eventID`.
    Act,
    /// The first principal of the chain of credentials that the call used, with its account. A hunt finds it after its scan, so
    /// conditions cannot test it.
    Origin,
    /// The value at this path, from the top of the record.
    Path(Path),
    /// The value at this path of a list element. An empty path is the element.
    Element(Path),
    /// The object in this JSON column as Java writes a map, which is the text that Elastic searches: `{a=1, b=[c]}`.
    MapText(&'static str),
    /// A part of the time of the event in a time zone, as a number.
    TimePart(TimePart, TimeZone),
    /// The value of another field, which depends on the record.
    Alias(FieldAlias),
    /// The value that a function of a rule in Python gives.
    Python(Arc<PythonFunction>),
}

/// A name for different fields of different records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldAlias {
    /// Its name.
    pub name: String,
    /// Predicates and fields. The field of the first predicate that holds is meant; there is no value if none does.
    pub fields: Vec<(Predicate, Field)>,
}

/// A part of a local time, as a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimePart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// The day of the week: 1 for Monday to 7 for Sunday, as in ISO 8601.
    Weekday,
    /// The day of the month, from 1.
    Day,
    /// The week of the year in ISO 8601, 1 to 53.
    Week,
    /// 1 to 12.
    Month,
    /// The year.
    Year,
}

impl TimePart {
    /// All parts.
    pub const ALL: [TimePart; 7] = [
        TimePart::Minute,
        TimePart::Hour,
        TimePart::Weekday,
        TimePart::Day,
        TimePart::Week,
        TimePart::Month,
        TimePart::Year,
    ];

    /// Returns its name in Sigma and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            TimePart::Minute => "minute",
            TimePart::Hour => "hour",
            TimePart::Weekday => "weekday",
            TimePart::Day => "day",
            TimePart::Week => "week",
            TimePart::Month => "month",
            TimePart::Year => "year",
        }
    }

    /// Returns the least and the greatest number that it can be.
    pub fn bounds(self) -> (u32, u32) {
        match self {
            TimePart::Minute => (0, 59),
            TimePart::Hour => (0, 23),
            TimePart::Weekday => (1, 7),
            TimePart::Day => (1, 31),
            TimePart::Week => (1, 53),
            TimePart::Month => (1, 12),
            TimePart::Year => (1970, 2199),
        }
    }
}

impl Field {
    /// Returns the field of a record at `path`. `account`, `actor`, `network`, `act` and `origin` are
    /// derived fields.
    pub fn new(path: Path) -> Field {
        match path.as_key() {
            Some(key) if key.eq_ignore_ascii_case("account") => Field::Account,
            Some(key) if key.eq_ignore_ascii_case("actor") => Field::Actor,
            Some(key) if key.eq_ignore_ascii_case("network") => Field::Network,
            Some(key) if key.eq_ignore_ascii_case("act") => Field::Act,
            Some(key) if key.eq_ignore_ascii_case("origin") => Field::Origin,
            _ => Field::Path(path),
        }
    }

    /// Returns the field's column. `None` for a derived field and within a list element.
    pub fn location(&self) -> Option<FieldLocation<'_>> {
        match self {
            Field::Account
            | Field::Actor
            | Field::Network
            | Field::Act
            | Field::Origin
            | Field::Element(_)
            | Field::MapText(_)
            | Field::TimePart(..)
            | Field::Alias(_)
            | Field::Python(_) => None,
            Field::Path(path) => Some(event::location(path)),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Account => f.write_str("account"),
            Field::Actor => f.write_str("actor"),
            Field::Network => f.write_str("network"),
            Field::Act => f.write_str("act"),
            Field::Origin => f.write_str("origin"),
            Field::Path(path) | Field::Element(path) => path.fmt(f),
            Field::MapText(column) => write!(f, "{column} as text"),
            Field::TimePart(part, TimeZone::UTC) => write!(f, "eventTime|{}", part.name()),
            Field::TimePart(part, zone) => write!(f, "eventTime|{} in {}", part.name(), zone.name()),
            Field::Alias(alias) => f.write_str(&alias.name),
            Field::Python(function) => write!(f, "{}()", function.name()),
        }
    }
}

/// A test of a rule: a record, and whether it must match.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleTest {
    /// The name of the test.
    pub name: String,
    /// Whether the record must match.
    pub expected: bool,
    /// The record, as JSON text.
    pub log: String,
}
