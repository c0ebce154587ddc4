//! One scan for many rules: which records to read, what to test of them and what to compute of those that match.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::path::{Path, Step};
use crate::rule::{Field, Rule};
use crate::time::Range;

use super::quote::{Ident, Literal, TimeLiteral};
use super::{counted, expression, expressions, predicate};

/// What is asked of each record for some rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidates {
    /// Conditions that every match satisfies, and by which whole parts of the data may be left unread.
    pub conditions: Vec<String>,
    /// The distinct predicates.
    pub predicates: Vec<String>,
    /// For each rule, which of the predicates is its.
    pub detections: Vec<usize>,
    /// The distinct expressions that the rules need of their matches.
    pub expressions: Vec<String>,
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
        let (mut predicates, mut all) = (DistinctTexts::default(), DistinctTexts::default());
        let detections = rules.iter().map(|rule| predicates.index(predicate::text(&rule.detection, 0)));
        let detections = detections.collect();
        let needs = rules.iter().map(|rule| expressions(rule).into_iter().map(|text| all.index(text)).collect());
        let needs = needs.collect();
        let unique = rules.iter().map(|rule| counted(rule).map(|counted| all.index(counted)));
        let unique = unique.collect();
        let call = Candidates::CALL.map(|name| all.index(Ident(name.to_owned()).to_string()));
        let (from, to) = TimeLiteral::bounds(read);
        let mut conditions = vec![format!("\"eventTime\" >= {from}"), format!("\"eventTime\" < {to}")];
        conditions.extend(names(&rules));
        Candidates { conditions, predicates: predicates.texts, detections, expressions: all.texts, needs, unique, call }
    }

    /// What to ask for a sweep of `rule`: the expressions are the fields of its group, the account, the actor, what
    /// tells copies apart, the call, and what is counted where the rule counts distinct values.
    pub fn of_sweep(rule: &Rule, read: Range) -> Candidates {
        let counted: Vec<String> = counted(rule).into_iter().collect();
        let told = [expressions(rule), counted.clone()].concat();
        let own = Candidates::OWN.iter().skip(2).map(|name| Ident((*name).to_owned()).to_string());
        let fingerprint = format!("fingerprint({})", told.into_iter().chain(own).collect::<Vec<_>>().join(", "));
        let mut all: Vec<String> = rule.group_by.iter().map(expression::value).collect();
        all.extend([&Field::Account, &Field::Actor].map(expression::value));
        all.push(fingerprint);
        let call = [all.len(), all.len() + 1];
        all.extend(Candidates::CALL.map(|name| Ident(name.to_owned()).to_string()));
        all.extend(counted);
        Candidates { expressions: all, call, ..Candidates::new(std::slice::from_ref(rule), read) }
    }

    /// What to ask for what people want to see of events that any of `rules` matches: the expressions are the name of
    /// the call and its outcome.
    pub fn of_events(rules: &[impl Borrow<Rule>], read: Range) -> Candidates {
        let filled = |path: &[&str]| {
            let steps = path.iter().map(|key| Step::Key((*key).to_owned())).collect();
            format!("nullif({}, '')", expression::value(&Field::Path(Path(steps))))
        };
        let outcomes = [filled(&["errorCode"]), filled(&["responseElements", "ConsoleLogin"]), "'Success'".to_owned()];
        let outcome = format!("coalesce({})", outcomes.join(", "));
        let name = filled(&["eventName"]);
        // Events of findings are not counted, so the place of their source is that of their name.
        Candidates { expressions: vec![name, outcome], call: [0, 0], ..Candidates::new(rules, read) }
    }

    /// The expressions of [`Candidates::OWN`].
    pub fn own() -> Vec<String> {
        let column = |name: &&str| match *name {
            "eventID" => "coalesce(\"eventID\", \"contentID\")".to_owned(),
            name => Ident(name.to_owned()).to_string(),
        };
        Candidates::OWN.iter().map(column).collect()
    }

    /// The query for what one rule matches: time and identity, and the expressions by `names`; names for which there is no
    /// expression stand for null.
    pub fn matches(&self, names: impl Iterator<Item = String>) -> String {
        let own = Candidates::own().into_iter().zip(Candidates::OWN).take(2);
        let own = own.map(|(text, name)| (text, name.to_owned()));
        let null = std::iter::repeat_with(|| "CAST(NULL AS VARCHAR)".to_owned());
        let computed = self.expressions.iter().cloned().chain(null).zip(names);
        let columns = own.chain(computed).map(|(text, name)| format!("{text} AS {}", Ident(name)));
        let conditions: Vec<&str> = self.conditions.iter().chain(&self.predicates).map(String::as_str).collect();
        let columns = columns.collect::<Vec<_>>().join(", ");
        format!("SELECT {columns} FROM cloudtrail WHERE ({})", conditions.join(") AND ("))
    }

    /// The query that reads `columns` of the records that may match, and for which `test` holds where there is one.
    pub fn scan(&self, columns: &[String], test: Option<String>) -> String {
        let conditions: Vec<String> = self.conditions.iter().cloned().chain(test).collect();
        format!("SELECT {} FROM cloudtrail WHERE {}", listed(columns), conditions.join(" AND "))
    }
}

/// Columns as a list of SQL.
pub fn listed(columns: &[String]) -> String {
    columns.iter().map(|name| Ident(name.clone()).to_string()).collect::<Vec<_>>().join(", ")
}

/// Texts, each once, in the order in which they first came.
#[derive(Default)]
struct DistinctTexts {
    texts: Vec<String>,
    indexes: HashMap<String, usize>,
}

impl DistinctTexts {
    /// The index of `text`.
    fn index(&mut self, text: String) -> usize {
        if let Some(index) = self.indexes.get(&text) {
            return *index;
        }
        self.texts.push(text.clone());
        self.indexes.insert(text, self.texts.len() - 1);
        self.texts.len() - 1
    }
}

/// A condition on the names of calls and their services that every match satisfies; none where some
/// rule does without.
fn names(rules: &[&Rule]) -> Option<String> {
    let mut by_column: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for rule in rules {
        for (column, value) in rule.detection.required_values(&["eventName", "eventSource"])? {
            by_column.entry(column).or_default().insert(value);
        }
    }
    let lists = by_column.into_iter().map(|(column, values)| {
        let literals: Vec<String> = values.iter().map(|value| Literal(value).to_string()).collect();
        format!("{} IN ({})", Ident(column.to_owned()), literals.join(", "))
    });
    let lists: Vec<String> = lists.collect();
    // Where nothing is required no rule ever matches; the data are read nevertheless, and accounted for.
    (!lists.is_empty()).then(|| format!("({})", lists.join(" OR ")))
}
