//! The columns that a rule needs of its matches, and the columns of the table `matched`.

use std::convert::Infallible;
use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::expression::Expression;
use super::quote::Ident;
use super::{fields, predicate};
use crate::rule::{Counts, Field, FirstSeen, Predicate, Rule, Severity};
use crate::text::printable;

/// The index of a row's rule, in the table `matched` and in the findings of several rules.
pub const RULE: &str = "rule";
/// The threshold of that rule.
pub const THRESHOLD: &str = "threshold";
/// The least number of matches in a window of that rule that reaches the threshold. Null for rules without one.
pub const MIN_EVENTS: &str = "min_events";
/// The period of that rule.
pub const PERIOD: &str = "period";
/// The account of an event, a derived field.
pub const ACCOUNT: &str = "account";
/// The principal that acted, a derived field.
pub const ACTOR: &str = "actor";
/// The number of a setting of a parameter grid.
pub const SETTING: &str = "setting";
/// The number of a match's group, in a parameter grid.
pub const GROUP: &str = "group";
/// The number of a match's key within its group, in a parameter grid of a rule whose matches must be new.
pub const NEW_KEY: &str = "new_key";
/// The number of a match, in a parameter grid.
pub const MATCH_NUMBER: &str = "match_number";
/// The rule, or the setting of a parameter grid, in the rows of the query for undecided windows.
pub const SUBJECT: &str = "subject";
/// The number of matches that the data do not decide.
pub const OPEN_MATCHES: &str = "open_matches";
/// The time of the first event in the data.
pub const FIRST_EVENT: &str = "first_event";
/// The time of the last event in the data.
pub const LAST_EVENT: &str = "last_event";
/// The time of the last match with a key.
pub const LAST_SEEN: &str = "last_seen";
/// The first event of an account in the data.
pub const ACCOUNT_START: &str = "account_start";
/// The value that a rule counts by: the distinct values, or their sum.
pub const COUNTED: &str = "counted";
/// The greatest count of any window of a finding, for rules that do not count their matches.
pub const COUNTED_PEAK: &str = "counted_peak";
/// The statistic of the window that triggered, for rules that compare one.
pub const STATISTIC: &str = "statistic";
/// Which of a rule's kinds of events a match is: a truth value for each kind, the last kind first.
pub const EVENT_KINDS: &str = "event_kinds";
/// How long before a match its key must not have been seen. Null for rules whose matches need not be new.
pub const HISTORY: &str = "history";
/// The earliest time at which a match can be known to be new. Null if everything before was read.
pub const KNOWN_FROM: &str = "known_from";
/// The earliest time at which a match can no longer be decided. Null if everything after was read.
pub const KNOWN_TO: &str = "known_to";
/// Whether an event is a match, an event that must be absent near matches, or both: one of [`MATCH`], [`ABSENT`], [`BOTH`].
pub const MATCH_ROLE: &str = "match_role";
/// The role of a match.
pub const MATCH: &str = "match";
/// The role of an event that must be absent near matches.
pub const ABSENT: &str = "absent";
/// The role of a match that must be absent near other matches.
pub const BOTH: &str = "both";
/// The time from which on matches can be new in their account. Null if that is always.
pub const LEARNED_FROM: &str = "learned_from";
/// A hash of everything that is computed for a match. It tells duplicates with other content apart.
pub const FINGERPRINT: &str = "fingerprint";
/// The time of the duplicate before this one.
pub const PREVIOUS_DUPLICATE_TIME: &str = "previous_duplicate_time";

/// A column that a query computes for each match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleColumn {
    /// Its name in the query of one rule. It contains the field.
    pub name: String,
    /// Its value.
    pub expression: Expression,
}

impl RuleColumn {
    /// Its name in SQL.
    pub(super) fn ident(&self) -> Ident {
        Ident(self.name.clone())
    }
}

/// One `C` for each column that a rule needs of its matches: its name, where its value is, or how it is computed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleColumns<C> {
    /// The fields of the group, in the rule's order.
    pub group: Vec<C>,
    /// The values that a finding has of the match that triggered.
    pub trigger: TriggerColumns<C>,
    /// The summary fields, whose distinct values a finding lists.
    pub distinct: Vec<C>,
    /// The value that the rule counts by; `None` where it counts matches.
    pub counted: Option<C>,
    /// What decides whether a match is new; `None` where that does not matter.
    pub newness: Option<NewnessColumns<C>>,
    /// The role of the event; `None` where every event is a match.
    pub match_role: Option<C>,
}

/// One `C` for each column that decides whether a match is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewnessColumns<C> {
    /// The account.
    pub account: C,
    /// The fields of the key, in the rule's order, without those of the group.
    pub key: Vec<C>,
}

impl<C> NewnessColumns<C> {
    /// All of them: account, key.
    pub fn iter(&self) -> impl Iterator<Item = &C> {
        std::iter::once(&self.account).chain(&self.key)
    }

    fn try_map<D, E>(&self, mut other: impl FnMut(&C) -> Result<D, E>) -> Result<NewnessColumns<D>, E> {
        let account = other(&self.account)?;
        Ok(NewnessColumns { account, key: self.key.iter().map(other).collect::<Result<_, E>>()? })
    }
}

/// One `C` for each column of the match that triggered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerColumns<C> {
    /// The output fields, in the rule's order.
    pub context: Vec<C>,
    /// The fields in the rule's title.
    pub title: Vec<C>,
    /// The dynamic severity, where the rule has any.
    pub severity: Option<C>,
}

impl<C> TriggerColumns<C> {
    /// All of them: context, title, severity.
    pub fn iter(&self) -> impl Iterator<Item = &C> {
        self.context.iter().chain(&self.title).chain(&self.severity)
    }

    /// The same columns, each with what `other` makes of it, called in the order of [`TriggerColumns::iter`].
    pub fn map<D>(&self, mut other: impl FnMut(&C) -> D) -> TriggerColumns<D> {
        TriggerColumns {
            context: self.context.iter().map(&mut other).collect(),
            title: self.title.iter().map(&mut other).collect(),
            severity: self.severity.as_ref().map(other),
        }
    }
}

impl<C> RuleColumns<C> {
    /// No columns.
    pub fn none() -> RuleColumns<C> {
        let trigger = TriggerColumns { context: Vec::new(), title: Vec::new(), severity: None };
        RuleColumns { group: Vec::new(), trigger, distinct: Vec::new(), counted: None, newness: None, match_role: None }
    }

    /// All of them: group, trigger, distinct, counted, newness, match role.
    pub fn iter(&self) -> impl Iterator<Item = &C> {
        let newness = self.newness.iter().flat_map(NewnessColumns::iter);
        let own = self.group.iter().chain(self.trigger.iter()).chain(&self.distinct).chain(&self.counted);
        own.chain(newness).chain(&self.match_role)
    }

    /// The same columns, each with what `other` makes of it, called in the order of [`RuleColumns::iter`].
    pub fn map<D>(&self, mut other: impl FnMut(&C) -> D) -> RuleColumns<D> {
        match self.try_map(|column| Ok::<D, Infallible>(other(column))) {
            Ok(columns) => columns,
        }
    }

    /// As [`RuleColumns::map`], where `other` may fail.
    ///
    /// # Errors
    /// The first error of `other`.
    pub fn try_map<D, E>(&self, mut other: impl FnMut(&C) -> Result<D, E>) -> Result<RuleColumns<D>, E> {
        let mut all = |columns: &[C]| columns.iter().map(&mut other).collect::<Result<Vec<D>, E>>();
        let group = all(&self.group)?;
        let (context, title) = (all(&self.trigger.context)?, all(&self.trigger.title)?);
        let severity = all(self.trigger.severity.as_slice())?.pop();
        let distinct = all(&self.distinct)?;
        let counted = all(self.counted.as_slice())?.pop();
        let newness = self.newness.as_ref().map(|newness| newness.try_map(&mut other)).transpose()?;
        let match_role = self.match_role.as_ref().map(other).transpose()?;
        let trigger = TriggerColumns { context, title, severity };
        Ok(RuleColumns { group, trigger, distinct, counted, newness, match_role })
    }
}

impl RuleColumns<RuleColumn> {
    /// The columns that `rule` needs.
    pub fn new(rule: &Rule) -> RuleColumns<RuleColumn> {
        let severity = severity(rule).map(|expression| RuleColumn { name: "severity".to_owned(), expression });
        RuleColumns {
            group: named("group", rule.group_by.iter().map(|field| (field, fields::value(field)))),
            trigger: TriggerColumns {
                context: named("context", rule.context.iter().map(|(name, field)| (name, fields::json(field)))),
                title: named("title", rule.title_fields().into_iter().map(|field| (field, fields::value(field)))),
                severity,
            },
            distinct: named("summary", rule.summary.iter().map(|field| (field, fields::value(field)))),
            counted: counted(rule),
            newness: rule.first_seen.as_ref().map(|first_seen| newness(first_seen, &rule.group_by)),
            match_role: rule.absence.as_ref().map(|absence| match_role(&rule.detection, &absence.event)),
        }
    }

    /// The names.
    pub fn names(&self) -> RuleColumns<String> {
        self.map(|column| column.name.clone())
    }

    /// The expressions.
    pub fn expressions(&self) -> impl Iterator<Item = Expression> {
        self.iter().map(|column| column.expression.clone())
    }
}

/// Columns named after their fields. No two names are the same, and hidden characters of a field are visible in its name.
fn named<F: Display>(kind: &str, fields: impl Iterator<Item = (F, Expression)>) -> Vec<RuleColumn> {
    let mut columns: Vec<RuleColumn> = Vec::new();
    for (field, expression) in fields {
        let mut name = format!("{kind}.{}", printable(&field.to_string()));
        while columns.iter().any(|column| column.name == name) {
            name.push('_');
        }
        columns.push(RuleColumn { name, expression });
    }
    columns
}

/// The severity that the dynamic severities give a match; null where none holds.
fn severity(rule: &Rule) -> Option<Expression> {
    let branch = |(severity, condition): &(Severity, Predicate)| {
        (predicate::condition(condition), Expression::text(severity.to_string()))
    };
    let branches: Vec<_> = rule.dynamic_severities.iter().map(branch).collect();
    (!branches.is_empty()).then_some(Expression::Case { branches })
}

/// The column that a rule counts by, where it does not count its matches.
fn counted(rule: &Rule) -> Option<RuleColumn> {
    let kinds = |kinds: &[&Predicate]| (EVENT_KINDS, event_kinds(kinds));
    let (name, expression) = match &rule.counts {
        Counts::Matches => return None,
        Counts::Distinct(field) | Counts::Sum(field) | Counts::Statistic(field, _) => (COUNTED, fields::value(field)),
        Counts::Followed { first, then } => kinds(&[first, then]),
        Counts::EachOf(events) | Counts::InOrder(events) => kinds(&events.iter().collect::<Vec<_>>()),
    };
    Some(RuleColumn { name: name.to_owned(), expression })
}

/// The columns that decide whether a match is new.
fn newness(first_seen: &FirstSeen, group_by: &[Field]) -> NewnessColumns<RuleColumn> {
    let account = RuleColumn { name: "newness.account".to_owned(), expression: fields::value(&Field::Account) };
    let key = first_seen.fields.iter().filter(|field| !group_by.contains(field));
    NewnessColumns { account, key: named("new", key.map(|field| (field, fields::value(field)))) }
}

/// The column of the role of an event, given the predicates of a match and of an event that must be absent near it.
fn match_role(matches: &Predicate, absent: &Predicate) -> RuleColumn {
    let both = Predicate::All(vec![matches.clone(), absent.clone()]);
    let branches = [(&both, BOTH), (matches, MATCH), (absent, ABSENT)];
    let branches =
        branches.map(|(predicate, role)| (predicate::condition(predicate), Expression::text(role.to_owned())));
    RuleColumn { name: MATCH_ROLE.to_owned(), expression: Expression::Case { branches: branches.to_vec() } }
}

/// Which of several kinds of events a match is. The last kind comes first, so such lists sort by the latest kind.
fn event_kinds(kinds: &[&Predicate]) -> Expression {
    let is_kind =
        |kind: &&Predicate| predicate::condition(kind).choose(Expression::Boolean(true), Expression::Boolean(false));
    Expression::Booleans(kinds.iter().rev().map(is_kind).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rule::panther;
    use crate::text;

    #[test]
    fn columns_keep_their_order_whatever_they_are_mapped_to() {
        let rule = panther::parse("everything", include_str!("../../tests/data/everything.yml")).unwrap().rule;
        let columns = RuleColumns::new(&rule);
        let names: Vec<String> = columns.names().iter().cloned().collect();
        let mut next = 0;
        let indexes = columns.map(|_| {
            next += 1;
            next - 1
        });
        assert_eq!(indexes.iter().copied().collect::<Vec<usize>>(), (0..names.len()).collect::<Vec<_>>());
        let kinds = ["group", "group", "context", "context", "title", "title", "severity", "summary", "summary"];
        assert!(names.iter().zip(kinds.into_iter().chain(["counted"])).all(|(name, kind)| name.starts_with(kind)));
        assert_eq!(columns.counted.map(|column| column.name), Some(COUNTED.to_owned()));
    }

    #[test]
    fn columns_of_one_name_are_told_apart() {
        let column = || Expression::column("eventName");
        let columns = named("context", ["a", "a\u{202e}", "a", "a"].map(|name| (name, column())).into_iter());
        let names: Vec<String> = columns.into_iter().map(|column| column.name).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 4, "{names:?}");
        assert!(!names.iter().any(|name| text::has_hidden(name)), "{names:?}");
    }
}
