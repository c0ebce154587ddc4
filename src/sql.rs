//! A rule to the SQL that finds its bursts. What is printed is what runs.

use askama::Template as _;

use crate::error::Error;
use crate::rule::{Field, Rule, WindowKind};
use crate::time::Range;

pub mod expression;
pub mod quote;

use quote::{Ident, Instant, Interval};

/// A column that the query computes for each match.
struct Column {
    expression: String,
    alias: Ident,
}

#[derive(askama::Template)]
#[template(path = "sliding.sql", escape = "none")]
struct Sliding {
    groups: Vec<Column>,
    context: Vec<Column>,
    predicate: String,
    read_from: Option<Instant>,
    read_to: Option<Instant>,
    trigger_from: Option<Instant>,
    trigger_to: Option<Instant>,
    reach: Interval,
    period: Interval,
    threshold: u32,
    back: u32,
}

impl Sliding {
    /// `PARTITION BY` the group, or nothing where there is no group.
    fn partition(&self) -> String {
        let names = self.group_names();
        if names.is_empty() { String::new() } else { format!("PARTITION BY {names} ") }
    }

    fn group_names(&self) -> String {
        self.groups.iter().map(|group| group.alias.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// The name under which a query returns a group's field.
pub fn group_column(field: &Field) -> String {
    format!("group.{field}")
}

/// The name under which a query returns the output field `name`.
pub fn context_column(name: &str) -> String {
    format!("context.{name}")
}

/// The query that finds a rule's bursts with a trigger in `triggers`, in the records whose time
/// lies in `read`.
pub fn hunt(rule: &Rule, triggers: Range, read: Range) -> Result<String, Error> {
    let groups = rule.group_by.iter();
    let groups = groups.map(|field| Column { expression: expression::group(field), alias: Ident(group_column(field)) });
    let context = rule.context.iter();
    let context = context
        .map(|(name, field)| Column { expression: expression::context(field).0, alias: Ident(context_column(name)) });
    let threshold = rule.window.threshold.get();
    let WindowKind::Sliding = rule.window.kind;
    let template = Sliding {
        groups: groups.collect(),
        context: context.collect(),
        predicate: expression::predicate(&rule.detection, 0),
        read_from: read.from.and_then(Instant::bound),
        read_to: read.to.and_then(Instant::bound),
        trigger_from: triggers.from.and_then(Instant::bound),
        trigger_to: triggers.to.and_then(Instant::bound),
        reach: Interval::reach(rule.window.period),
        period: Interval(rule.window.period.micros()),
        threshold,
        back: threshold - 1,
    };
    template.render().map_err(|error| Error::Internal(format!("the SQL of `{}`: {error}", rule.id)))
}

/// The query for all records that any of `rules` matches, with a time in `read`.
pub fn candidates(rules: &[Rule], read: Range) -> String {
    let any: Vec<String> =
        rules.iter().map(|rule| format!("({})", expression::predicate(&rule.detection, 0))).collect();
    let from =
        read.from.and_then(Instant::bound).map(|from| format!(" AND \"eventTime\" >= {from}")).unwrap_or_default();
    let to = read.to.and_then(Instant::bound).map(|to| format!(" AND \"eventTime\" < {to}")).unwrap_or_default();
    format!("SELECT * FROM cloudtrail WHERE \"eventTime\" IS NOT NULL{from}{to} AND ({})", any.join("\n   OR "))
}
