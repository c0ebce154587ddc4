//! One scan for many rules: which records to read, what to test of them, and what to compute of the matches.

use std::borrow::{Borrow, Cow};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use super::columns::{RuleColumn, RuleColumns};
use super::expression::{ChainOperator, Comparator, Expression};
use super::{credential, fields, predicate};
use crate::event::{self, CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::path::{Path, Step};
use crate::rule::{Field, Predicate, Rule};
use crate::time::Range;

/// The name of a record's call and of its service. Duplicates share them unless they are damaged.
pub const CALL_COLUMNS: [&str; 2] = ["eventName", "eventSource"];

/// A column that every match has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the meaning")]
pub enum EventColumn {
    Time,
    /// The `eventID`, or the `contentID` of a record without one.
    Id,
    SourceIp,
    UserAgent,
    Region,
}

impl EventColumn {
    /// All of them.
    pub const ALL: [EventColumn; 5] =
        [EventColumn::Time, EventColumn::Id, EventColumn::SourceIp, EventColumn::UserAgent, EventColumn::Region];

    /// Those that a finding lists, and which are part of a match's fingerprint.
    pub const LISTED: [EventColumn; 3] = [EventColumn::SourceIp, EventColumn::UserAgent, EventColumn::Region];

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            EventColumn::Time => EVENT_TIME,
            EventColumn::Id => EVENT_ID,
            EventColumn::SourceIp => "sourceIPAddress",
            EventColumn::UserAgent => "userAgent",
            EventColumn::Region => "awsRegion",
        }
    }

    /// Its value.
    pub fn expression(self) -> Expression {
        match self {
            EventColumn::Id => Expression::call("coalesce", [EVENT_ID, CONTENT_ID].map(Expression::column)),
            other => Expression::column(other.name()),
        }
    }
}

/// A value that a scan computes for its matches, of the [`MatchSpec`] that it is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ValueId(usize);

impl ValueId {
    /// Its index among [`MatchSpec::values`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// A scan for the matches of some rules, as plain data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchSpec {
    /// Conditions that every match satisfies, and by which whole parts of the data can be skipped.
    pub conditions: Vec<Expression>,
    /// The distinct predicates of the rules.
    pub predicates: Vec<Expression>,
    /// The distinct values that the rules need of their matches.
    pub values: Vec<Expression>,
    /// The rules, in the caller's order.
    pub rules: Vec<RuleSpec>,
    /// The values of [`CALL_COLUMNS`].
    pub call: [ValueId; 2],
}

/// A rule of a scan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSpec {
    /// The index of its predicate among [`MatchSpec::predicates`].
    pub predicate: usize,
    /// The values that it needs.
    pub columns: RuleColumns<ValueId>,
}

/// A scan for events to show, and the values that are shown in addition to the columns that every match has.
#[derive(Debug, Clone)]
pub struct EventSpec {
    /// The scan.
    pub matches: MatchSpec,
    /// The name of the call.
    pub name: ValueId,
    /// The error code, else the result of a sign-in, else `Success`.
    pub outcome: ValueId,
}

/// A scan for the matches of one rule that the windows of a parameter grid count.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GridSpec {
    /// The scan.
    pub matches: MatchSpec,
    /// The fields of the group.
    pub group: Vec<ValueId>,
    /// The fields that decide with the group whether a match is new.
    pub keys: Vec<ValueId>,
    /// The account.
    pub account: ValueId,
    /// Who acted.
    pub actor: ValueId,
    /// The hash of everything that a hunt computes for a match.
    pub fingerprint: ValueId,
    /// The value that the rule counts by; `None` where it counts matches.
    pub counted: Option<ValueId>,
    /// Whether a match counts, or must be absent near others; `None` where no event must be absent.
    pub match_role: Option<ValueId>,
}

impl MatchSpec {
    /// The scan for the matches of `rules` among the records with a time in `read`.
    pub fn new(rules: &[impl Borrow<Rule>], read: Range) -> MatchSpec {
        MatchSpec::with_values(rules, read, RuleColumns::new).0
    }

    /// The scan for what people see of events that any of `rules` matches.
    pub fn of_events(rules: &[impl Borrow<Rule>], read: Range) -> EventSpec {
        let filled = |path: &[&str]| {
            let steps = path.iter().map(|key| Step::Key((*key).to_owned())).collect();
            fields::filled(fields::value(&Field::Path(Path(steps))))
        };
        let outcome =
            [filled(&["errorCode"]), filled(&["responseElements", "ConsoleLogin"]), Expression::text("Success")];
        let (mut matches, mut values) = MatchSpec::with_values(rules, read, |_| RuleColumns::none());
        let name = ValueId(values.index(filled(&["eventName"])));
        let outcome = ValueId(values.index(Expression::call("coalesce", outcome)));
        matches.values = values.expressions;
        EventSpec { matches, name, outcome }
    }

    /// The scan for the matches of `rule` that a parameter grid needs, among the records with a time in `read`.
    pub fn of_grid(rule: &Rule, read: Range) -> GridSpec {
        let columns = RuleColumns::new(rule);
        let (mut matches, mut values) = MatchSpec::with_values(&[rule], read, |_| RuleColumns::none());
        let mut id = |expression| ValueId(values.index(expression));
        let listed = EventColumn::LISTED.map(EventColumn::expression);
        let fingerprint = id(Expression::call("fingerprint", columns.expressions().chain(listed)));
        let group = columns.group.into_iter().map(|column| id(column.expression)).collect();
        let keys = columns.newness.map(|newness| newness.key).unwrap_or_default();
        let keys = keys.into_iter().map(|column| id(column.expression)).collect();
        let [account, actor] = [&Field::Account, &Field::Actor].map(|field| id(fields::value(field)));
        let counted = columns.counted.map(|column| id(column.expression));
        let match_role = columns.match_role.map(|column| id(column.expression));
        matches.values = values.expressions;
        GridSpec { matches, group, keys, account, actor, fingerprint, counted, match_role }
    }

    fn with_values(
        rules: &[impl Borrow<Rule>],
        read: Range,
        columns: impl Fn(&Rule) -> RuleColumns<RuleColumn>,
    ) -> (MatchSpec, DistinctExpressions) {
        let rules: Vec<&Rule> = rules.iter().map(Borrow::borrow).collect();
        let (mut predicates, mut values) = (DistinctExpressions::default(), DistinctExpressions::default());
        let specs = rules.iter().map(|rule| RuleSpec {
            predicate: predicates.index(predicate::condition(&rule.scanned())),
            columns: columns(rule).map(|column| ValueId(values.index(column.expression.clone()))),
        });
        let specs = specs.collect();
        let call = CALL_COLUMNS.map(|name| ValueId(values.index(Expression::column(name))));
        let spec = MatchSpec {
            conditions: time_within(read).into_iter().chain(call_names(&rules)).collect(),
            predicates: predicates.expressions,
            values: values.expressions.clone(),
            rules: specs,
            call,
        };
        (spec, values)
    }

    /// Returns for each value the predicates of the rules that need it. `None` for one that is computed for every match.
    pub fn needed_by(&self) -> Vec<Option<BTreeSet<usize>>> {
        let mut needed_by = vec![BTreeSet::new(); self.values.len()];
        for rule in &self.rules {
            for id in rule.columns.iter() {
                if let Some(predicates) = needed_by.get_mut(id.0) {
                    predicates.insert(rule.predicate);
                }
            }
        }
        let every_match =
            |value, predicates: &BTreeSet<_>| predicates.is_empty() || self.call.contains(&ValueId(value));
        let needed_by = needed_by.into_iter().enumerate();
        needed_by.map(|(value, predicates)| (!every_match(value, &predicates)).then_some(predicates)).collect()
    }

    /// Returns a scan of the records that may match, by conditions that read fewer columns of JSON than the predicates. `None` if
    /// there are no such conditions.
    pub fn narrowed(&self) -> Option<MatchSpec> {
        let mut read = BTreeSet::new();
        self.predicates.iter().for_each(|predicate| predicate.columns(&mut read));
        let (json, mut narrow): (BTreeSet<&str>, BTreeSet<&str>) =
            read.into_iter().partition(|name| event::is_json(name));
        for predicate in &self.predicates {
            if predicate.implied(&|name| narrow.contains(name)).is_none() {
                predicate.columns(&mut narrow);
            }
        }
        let implied = |predicate: &Expression| predicate.implied(&|name| narrow.contains(name));
        let predicates = self.predicates.iter().map(implied).collect::<Option<Vec<Expression>>>()?;
        let narrowed =
            MatchSpec { conditions: Vec::new(), predicates, values: Vec::new(), rules: Vec::new(), ..self.clone() };
        (!json.is_subset(&narrow)).then_some(narrowed)
    }

    /// The value that holds the credentials of matches, if a rule needs their origins.
    pub fn credential(&self) -> Option<ValueId> {
        let credential = credential::of_record();
        self.values.iter().position(|value| *value == credential).map(ValueId)
    }

    /// Returns the same scan, which finds no other matches than those of the rules with an index that `is_wanted`, and of rules with
    /// the same predicate.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn for_rules(&self, is_wanted: impl Fn(usize) -> bool) -> MatchSpec {
        let rules = self.rules.iter().enumerate().filter(|(index, _)| is_wanted(*index));
        let wanted: BTreeSet<usize> = rules.map(|(_, rule)| rule.predicate).collect();
        let predicate = |(index, predicate): (usize, &Expression)| {
            if wanted.contains(&index) { predicate.clone() } else { Expression::Boolean(false) }
        };
        MatchSpec { predicates: self.predicates.iter().enumerate().map(predicate).collect(), ..self.clone() }
    }

    /// The keys of the value lists that the scan tests.
    #[cfg(feature = "cluster")]
    pub fn value_list_keys(&self) -> BTreeSet<&str> {
        let mut keys = BTreeSet::new();
        for expression in self.conditions.iter().chain(&self.predicates).chain(&self.values) {
            expression.visit(&mut |part| {
                if let Expression::Call { function, arguments } = part
                    && function == predicate::IN_VALUE_LIST
                    && let Some(Expression::Text(key)) = arguments.last()
                {
                    keys.insert(key.as_str());
                }
            });
        }
        keys
    }

    /// The columns of a record that the scan reads.
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut columns: BTreeSet<&str> = BTreeSet::from([EVENT_TIME, EVENT_ID, CONTENT_ID]);
        columns.extend(EventColumn::ALL.map(EventColumn::name));
        for expression in self.values.iter().chain(&self.predicates) {
            expression.columns(&mut columns);
        }
        columns
    }
}

/// The conditions for records with a time in `read`.
fn time_within(read: Range) -> [Expression; 2] {
    let (from, to) = read.event_times();
    let time = || Expression::column(EVENT_TIME);
    [
        time().compared(Comparator::GreaterOrEqual, Expression::Instant(from)),
        time().compared(Comparator::Less, Expression::Instant(to)),
    ]
}

/// A condition on the names of calls and services that every match satisfies; `None` where some rule asks for neither.
fn call_names(rules: &[&Rule]) -> Option<Expression> {
    let scanned: Vec<Cow<'_, Predicate>> = rules.iter().map(|rule| rule.scanned()).collect();
    let mut by_column: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for predicate in &scanned {
        for (column, value) in predicate.required_values(&CALL_COLUMNS)? {
            by_column.entry(column).or_default().insert(value);
        }
    }
    let lists: Vec<Expression> =
        by_column.into_iter().map(|(column, values)| Expression::column(column).is_in(values)).collect();
    // Without any names no rule ever matches. The data are read nevertheless, and counted.
    (!lists.is_empty()).then(|| Expression::line(ChainOperator::Or, lists))
}

/// Distinct expressions, in the order of their first occurrences.
#[derive(Default)]
struct DistinctExpressions {
    expressions: Vec<Expression>,
    indexes: HashMap<Expression, usize>,
}

impl DistinctExpressions {
    /// Returns the index of `expression`, which is added where it is new.
    fn index(&mut self, expression: Expression) -> usize {
        *self.indexes.entry(expression).or_insert_with_key(|expression| {
            self.expressions.push(expression.clone());
            self.expressions.len() - 1
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::expression::State;
    use super::*;
    use crate::rule::catalog;

    #[test]
    fn what_rules_share_is_there_once_and_a_spec_survives_its_way_to_another_process() {
        let rules: Vec<Rule> = catalog::all(&[]).unwrap().into_iter().map(|entry| entry.rule).collect();
        let twice: Vec<&Rule> = rules.iter().chain(&rules).collect();
        let (once, twice) = (MatchSpec::new(&rules, Range::default()), MatchSpec::new(&twice, Range::default()));
        assert_eq!((&once.predicates, &once.values), (&twice.predicates, &twice.values));
        assert_eq!([once.rules.clone(), once.rules.clone()].concat(), twice.rules);
        for (rule, spec) in rules.iter().zip(&once.rules) {
            let needed: Vec<&Expression> = spec.columns.iter().map(|id| &once.values[id.index()]).collect();
            assert_eq!(needed, RuleColumns::new(rule).expressions().collect::<Vec<_>>().iter().collect::<Vec<_>>());
        }
        let json = serde_json::to_string(&once).unwrap();
        assert_eq!(serde_json::from_str::<MatchSpec>(&json).unwrap(), once);
    }

    #[test]
    fn a_narrowed_scan_reads_json_only_where_a_rule_tests_nothing_else() {
        let rules: Vec<Rule> = catalog::all(&[]).unwrap().into_iter().map(|entry| entry.rule).collect();
        let json = |spec: &MatchSpec| -> Vec<String> {
            let mut columns = BTreeSet::new();
            spec.predicates.iter().for_each(|predicate| predicate.columns(&mut columns));
            columns.into_iter().filter(|column| event::is_json(column)).map(str::to_owned).collect()
        };
        let scan = MatchSpec::new(&rules, Range::default());
        assert!(json(&scan).len() > 3 && json(&scan.narrowed().unwrap()).is_empty());
        let narrow = scan.narrowed().unwrap();
        assert_eq!(narrow.narrowed(), None, "there is nothing left to leave out");
        // One rule tests nothing else, and without its columns every record may match.
        let always = Expression::all(vec![Expression::all(vec![]), Expression::Boolean(true)]);
        let json_test = Expression::column("requestParameters").is(State::Null);
        let only_json = Expression::all(vec![always, json_test]);
        let predicates = [scan.predicates.clone(), vec![only_json.clone()]].concat();
        let scan = MatchSpec { predicates, ..scan };
        assert_eq!(json(&scan.narrowed().unwrap()), ["requestParameters"]);
        assert_eq!(MatchSpec { predicates: vec![only_json; 2], ..scan }.narrowed(), None);
    }
}
