//! One scan for many rules: which records to read, what to test of them and what to compute of those that match.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::event::{CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::path::{Path, Step};
use crate::rule::{Field, Rule};
use crate::time::Range;

use super::expression::{ChainOperator, Comparator, Expression};
use super::quote::Ident;
use super::{counted, expressions, fields, predicate};

/// What is asked of each record for some rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidates {
    /// Conditions that every match satisfies, and by which whole parts of the data may be left unread.
    pub conditions: Vec<Expression>,
    /// The distinct predicates.
    pub predicates: Vec<Expression>,
    /// For each rule, which of the predicates is its.
    pub detections: Vec<usize>,
    /// The distinct expressions that the rules need of their matches.
    pub expressions: Vec<Expression>,
    /// For each rule, which expressions it needs, in the order of [`super::layout::Layout::names`].
    pub needs: Vec<Vec<usize>>,
    /// For each rule, the expression of which it counts distinct values.
    pub unique: Vec<Option<usize>>,
    /// The expressions of a record's name and source, which duplicates share unless they are damaged.
    pub call: [usize; 2],
}

impl Candidates {
    /// The columns that every rule needs.
    pub const OWN: [&'static str; 5] = ["eventTime", "eventID", "sourceIPAddress", "userAgent", "awsRegion"];

    /// The columns that duplicates are compared by, beside the time.
    pub const CALL: [&'static str; 2] = ["eventName", "eventSource"];

    /// What to ask for `rules` of the records with a time in `read`.
    pub fn new(rules: &[impl Borrow<Rule>], read: Range) -> Candidates {
        let rules: Vec<&Rule> = rules.iter().map(Borrow::borrow).collect();
        let (mut predicates, mut all) = (DistinctExpressions::default(), DistinctExpressions::default());
        let detections = rules.iter().map(|rule| predicates.index(predicate::condition(&rule.detection)));
        let detections = detections.collect();
        let needs = rules.iter().map(|rule| expressions(rule).into_iter().map(|needed| all.index(needed)).collect());
        let needs = needs.collect();
        let unique = rules.iter().map(|rule| counted(rule).map(|counted| all.index(counted)));
        let unique = unique.collect();
        let call = Candidates::CALL.map(|name| all.index(Expression::column(name)));
        let (from, to) = read.event_times();
        let time = || Expression::column(EVENT_TIME);
        let mut conditions = vec![
            time().compared(Comparator::GreaterOrEqual, Expression::Instant(from)),
            time().compared(Comparator::Less, Expression::Instant(to)),
        ];
        conditions.extend(names(&rules));
        Candidates {
            conditions,
            predicates: predicates.expressions,
            detections,
            expressions: all.expressions,
            needs,
            unique,
            call,
        }
    }

    /// What to ask for a sweep of `rule`: the expressions are the fields of its group, the account, the actor, what
    /// tells copies apart, the call, and what is counted where the rule counts distinct values.
    pub fn of_sweep(rule: &Rule, read: Range) -> Candidates {
        let counted: Vec<Expression> = counted(rule).into_iter().collect();
        let told = [expressions(rule), counted.clone()].concat();
        let own = Candidates::OWN.iter().skip(2).map(|name| Expression::column(name));
        let fingerprint = Expression::call("fingerprint", told.into_iter().chain(own));
        let mut all: Vec<Expression> = rule.group_by.iter().map(fields::value).collect();
        all.extend([&Field::Account, &Field::Actor].map(fields::value));
        all.push(fingerprint);
        let call = [all.len(), all.len() + 1];
        all.extend(Candidates::CALL.map(Expression::column));
        all.extend(counted);
        Candidates { expressions: all, call, ..Candidates::new(std::slice::from_ref(rule), read) }
    }

    /// What to ask for what people want to see of events that any of `rules` matches: the expressions are the name of
    /// the call and its outcome.
    pub fn of_events(rules: &[impl Borrow<Rule>], read: Range) -> Candidates {
        let filled = |path: &[&str]| {
            let steps = path.iter().map(|key| Step::Key((*key).to_owned())).collect();
            fields::filled(fields::value(&Field::Path(Path(steps))))
        };
        let outcomes =
            [filled(&["errorCode"]), filled(&["responseElements", "ConsoleLogin"]), Expression::text("Success")];
        let outcome = Expression::call("coalesce", outcomes);
        let name = filled(&["eventName"]);
        // Events of findings are not counted, so the place of their source is that of their name.
        Candidates { expressions: vec![name, outcome], call: [0, 0], ..Candidates::new(rules, read) }
    }

    /// The expressions of [`Candidates::OWN`].
    pub fn own() -> Vec<Expression> {
        let column = |name: &&str| match *name {
            EVENT_ID => Expression::call("coalesce", [EVENT_ID, CONTENT_ID].map(Expression::column)),
            name => Expression::column(name),
        };
        Candidates::OWN.iter().map(column).collect()
    }

    /// The query for what one rule matches: time and identity, and the expressions by `names`; names for which there is no
    /// expression stand for null.
    pub fn matches(&self, names: impl Iterator<Item = String>) -> String {
        let own = Candidates::own().into_iter().zip(Candidates::OWN).take(2);
        let own = own.map(|(value, name)| (value, name.to_owned()));
        let null = std::iter::repeat(Expression::NullText);
        let computed = self.expressions.iter().cloned().chain(null).zip(names);
        let columns = own.chain(computed).map(|(value, name)| format!("{value} AS {}", Ident(name)));
        let conditions: Vec<String> = self.conditions.iter().chain(&self.predicates).map(ToString::to_string).collect();
        let columns = columns.collect::<Vec<_>>().join(", ");
        format!("SELECT {columns} FROM cloudtrail WHERE ({})", conditions.join(") AND ("))
    }
}

/// Columns as a list of SQL.
pub fn listed(columns: &[String]) -> String {
    columns.iter().map(|name| Ident(name.clone()).to_string()).collect::<Vec<_>>().join(", ")
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

/// A condition on the names of calls and their services that every match satisfies; none where some
/// rule does without.
fn names(rules: &[&Rule]) -> Option<Expression> {
    let mut by_column: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for rule in rules {
        for (column, value) in rule.detection.required_values(&["eventName", "eventSource"])? {
            by_column.entry(column).or_default().insert(value);
        }
    }
    let lists: Vec<Expression> =
        by_column.into_iter().map(|(column, values)| Expression::column(column).is_in(values)).collect();
    // Where nothing is required no rule ever matches; the data are read nevertheless, and accounted for.
    (!lists.is_empty()).then(|| Expression::line(ChainOperator::Or, lists))
}
