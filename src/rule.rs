//! A validated rule. No YAML and no SQL here.

use std::fmt;
use std::num::NonZeroU32;

use serde::Serialize;

use crate::event::{self, Kind, Place};
use crate::time::Period;

pub mod catalog;
pub mod panther;

/// A threshold rule: which records match, how they are grouped, and how many within which period make a finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its identity, unique among the rules of a run.
    pub id: String,
    /// What it finds, in a few words.
    pub title: String,
    /// How grave a finding is.
    pub severity: Severity,
    /// Whether it runs without being named.
    pub enabled: bool,
    /// ATT&CK tactics and techniques, as `TA0006:T1621`.
    pub mitre: Vec<String>,
    /// When matches make a finding.
    pub window: Window,
    /// Which records match.
    pub detection: Predicate,
    /// Matches are counted apart for each value of these fields.
    pub group_by: Vec<Field>,
    /// What a finding tells of the event that triggered it, by name.
    pub context: Vec<(String, Field)>,
    /// Its own tests.
    pub tests: Vec<RuleTest>,
}

/// When matches of a group make a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The shape of the windows.
    pub kind: WindowKind,
    /// Their length: Panther's `DedupPeriodMinutes`.
    pub period: Period,
    /// The least number of matches within one window.
    pub threshold: NonZeroU32,
}

/// The shape of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum WindowKind {
    /// A window ends at every match; windows that hold the threshold and share a match are one burst.
    #[default]
    Sliding,
}

impl fmt::Display for WindowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WindowKind::Sliding => f.write_str("sliding"),
        }
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
    /// Who acted: `root`, the role of a role session, or the first of user name, ARN, principal and service.
    Actor,
    /// The value at these keys, from the top of the record.
    Path(Vec<String>),
}

impl Field {
    /// The field with these keys; `account` and `actor` are the derived ones.
    pub fn new(keys: Vec<String>) -> Field {
        match keys.as_slice() {
            [key] if key == "account" => Field::Account,
            [key] if key == "actor" => Field::Actor,
            _ => Field::Path(keys),
        }
    }

    /// The field's place among the columns; `None` for a derived field.
    pub fn place(&self) -> Option<Place<'_>> {
        match self {
            Field::Account | Field::Actor => None,
            Field::Path(keys) => Some(event::place(keys)),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Account => f.write_str("account"),
            Field::Actor => f.write_str("actor"),
            Field::Path(keys) => f.write_str(&keys.join(".")),
        }
    }
}

/// Which records match.
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// All hold; true where there are none.
    All(Vec<Predicate>),
    /// At least one holds.
    Any(Vec<Predicate>),
    /// None holds.
    None(Vec<Predicate>),
    /// Exactly one holds.
    OnlyOne(Vec<Predicate>),
    /// A test of one field.
    Test {
        /// The field.
        field: Field,
        /// What it must be.
        test: Test,
        /// Whether it must *not* be that. A field without a value fails every test, and so passes every negated one.
        negated: bool,
    },
}

/// What a field must be. Strings, numbers and booleans are compared by their text, so that a number
/// and a string that says the same are equal; objects and lists pass only [`Test::Present`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// It has a value that is not null.
    Present,
    /// Its text is this.
    Equals(String),
    /// Its text is one of these.
    In(Vec<String>),
    /// It is a string that begins so.
    StartsWith(String),
    /// It is a string that ends so.
    EndsWith(String),
    /// It is a string that holds this.
    Contains(String),
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

impl Predicate {
    /// Words of which every matching record's JSON text must hold some: all clauses, and of each
    /// clause one word. Words are plain letters, digits and `.`, `_`, `-`, `:`, so a text can hide
    /// them only behind a `\u` escape. Empty where nothing is known.
    pub fn required_words(&self) -> Vec<Vec<String>> {
        match self {
            Predicate::All(all) => all.iter().flat_map(Predicate::required_words).collect(),
            Predicate::Any(any) | Predicate::OnlyOne(any) => {
                let shortest = |clause: &Vec<String>| clause.iter().map(String::len).min();
                let best = |branch: &Predicate| branch.required_words().into_iter().max_by_key(shortest);
                match any.iter().map(best).collect::<Option<Vec<_>>>() {
                    Some(clauses) if !clauses.is_empty() => vec![clauses.concat()],
                    _ => Vec::new(),
                }
            }
            Predicate::None(_) | Predicate::Test { negated: true, .. } => Vec::new(),
            Predicate::Test { field, test, negated: false } => {
                // Derived fields and booleans are not in the text as the rule spells them.
                if matches!(field.place(), None | Some(Place::Time | Place::Column(_, Kind::Flag))) {
                    return Vec::new();
                }
                let clause = match test {
                    Test::Present => None,
                    Test::Equals(text) | Test::StartsWith(text) | Test::EndsWith(text) | Test::Contains(text) => {
                        word(text).map(|word| vec![word])
                    }
                    Test::In(texts) => texts.iter().map(|text| word(text)).collect(),
                };
                clause.filter(|words| !words.is_empty()).into_iter().collect()
            }
        }
    }
}

/// The longest run of plain characters in `text`, if it is long enough to tell something.
fn word(text: &str) -> Option<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':')))
        .max_by_key(|run| run.len())
        .filter(|run| run.len() >= 3)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equals(path: &str, text: &str) -> Predicate {
        let field = Field::new(path.split('.').map(str::to_owned).collect());
        Predicate::Test { field, test: Test::Equals(text.to_owned()), negated: false }
    }

    #[test]
    fn required_words_hold_for_every_match() {
        let login =
            Predicate::Any(vec![equals("eventSource", "signin.amazonaws.com"), equals("eventName", "ConsoleLogin")]);
        let all = Predicate::All(vec![login.clone(), equals("responseElements.ConsoleLogin", "Failure")]);
        assert_eq!(all.required_words(), [vec!["signin.amazonaws.com", "ConsoleLogin"], vec!["Failure"]]);
        let unknown_branch = Predicate::Any(vec![login.clone(), equals("readOnly", "true")]);
        assert!(unknown_branch.required_words().is_empty());
        assert!(Predicate::None(vec![login]).required_words().is_empty());
        assert!(equals("actor", "somebody").required_words().is_empty());
        assert_eq!(equals("userAgent", "a/long run\u{e9}").required_words(), [["long"]]);
        assert!(equals("userAgent", "a/b").required_words().is_empty());
        assert!(Predicate::Any(vec![]).required_words().is_empty());
    }
}
