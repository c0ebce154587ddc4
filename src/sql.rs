//! A rule to the SQL that finds its bursts. What is printed is what runs.

use askama::Template as _;

use crate::error::Error;
use crate::event::{self, Place};
use crate::rule::{Field, Rule, WindowKind};
use crate::time::Range;

pub mod candidates;
pub mod expression;
pub mod predicate;
pub mod quote;

use quote::{Ident, Instant, Interval, Literal};

/// A column that the query computes for each match.
struct Column {
    expression: String,
    alias: Ident,
}

/// What the templates are rendered with.
struct Query {
    groups: Vec<Column>,
    /// Told of the match that triggered.
    told: Vec<Column>,
    /// Listed over all matches.
    listed: Vec<Column>,
    unique: Option<String>,
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

macro_rules! templates {
    ($($name:ident $path:literal),*) => {
        $(
            #[derive(askama::Template)]
            #[template(path = $path, escape = "none")]
            struct $name {
                query: Query,
            }
        )*
    };
}

templates!(Sliding "sliding.sql", Dedup "dedup.sql", Tumbling "tumbling.sql");

#[derive(askama::Template)]
#[template(path = "dedup_anchors.sql", escape = "none")]
struct Anchors {
    query: Query,
    /// A group's first match that was read opened a window for certain where it lies here or later.
    certain_from: Option<Instant>,
    /// A window may still be open at the start of the range where a match lies after this.
    open_after: Option<Instant>,
}

impl Query {
    fn new(rule: &Rule, triggers: Range, read: Range) -> Query {
        let column = |name: String, expression| Column { expression, alias: Ident(name) };
        let context = rule.context.iter().map(|(name, field)| column(context_column(name), expression::json(field)));
        let title = rule.title_fields();
        let title = title.iter().map(|field| column(title_column(field), expression::value(field)));
        let severity = severity(rule).map(|expression| column(SEVERITY.to_owned(), expression));
        let threshold = rule.window.threshold.get();
        Query {
            groups: rule.group_by.iter().map(|field| column(group_column(field), expression::value(field))).collect(),
            told: context.chain(title).chain(severity).collect(),
            listed: rule.summary.iter().map(|field| column(summary_column(field), expression::value(field))).collect(),
            unique: rule.unique.as_ref().map(expression::value),
            predicate: predicate::text(&rule.detection, 0),
            read_from: read.from.and_then(Instant::bound),
            read_to: read.to.and_then(Instant::bound),
            trigger_from: triggers.from.and_then(Instant::bound),
            trigger_to: triggers.to.and_then(Instant::bound),
            reach: Interval::reach(rule.window.period),
            period: Interval(rule.window.period.micros()),
            threshold,
            back: threshold - 1,
        }
    }

    /// All that is computed for each match.
    fn columns(&self) -> impl Iterator<Item = &Column> {
        self.groups.iter().chain(&self.told).chain(&self.listed)
    }

    /// `PARTITION BY` the group and `more`, or nothing where there is neither.
    fn partition(&self, more: &str) -> String {
        let mut names: Vec<String> = self.groups.iter().map(|group| group.alias.to_string()).collect();
        names.extend((!more.is_empty()).then(|| more.to_owned()));
        if names.is_empty() { String::new() } else { format!("PARTITION BY {} ", names.join(", ")) }
    }

    /// The group, to group by.
    fn by_group(&self) -> String {
        self.groups.iter().map(|group| group.alias.to_string()).collect::<Vec<_>>().join(", ")
    }

    /// The group and `burst`, to group by.
    fn by_burst(&self) -> String {
        let names = self.groups.iter().map(|group| group.alias.to_string());
        names.chain(["burst".to_owned()]).collect::<Vec<_>>().join(", ")
    }
}

/// The severity that the dynamic severities give a match; null where none holds.
fn severity(rule: &Rule) -> Option<String> {
    if rule.dynamic_severities.is_empty() {
        return None;
    }
    let case = |(severity, condition): &(crate::rule::Severity, crate::rule::Predicate)| {
        format!("WHEN {} THEN {}", predicate::text(condition, 1), Literal(&severity.to_string()))
    };
    let cases: Vec<String> = rule.dynamic_severities.iter().map(case).collect();
    Some(format!("CASE\n          {}\n        END", cases.join("\n          ")))
}

/// The name under which a query returns the dynamic severity of the event that triggered.
pub const SEVERITY: &str = "severity";

/// The name under which a query returns a group's field.
pub fn group_column(field: &Field) -> String {
    format!("group.{field}")
}

/// The name under which a query returns the output field `name`.
pub fn context_column(name: &str) -> String {
    format!("context.{name}")
}

/// The name under which a query returns a field of the title.
pub fn title_column(field: &Field) -> String {
    format!("title.{field}")
}

/// The name under which a query returns the distinct values of a summary field.
pub fn summary_column(field: &Field) -> String {
    format!("summary.{field}")
}

/// The query that finds a rule's bursts with a trigger in `triggers`, in the records whose time
/// lies in `read`.
pub fn hunt(rule: &Rule, triggers: Range, read: Range) -> Result<String, Error> {
    let query = Query::new(rule, triggers, read);
    let text = match rule.window.kind {
        WindowKind::Sliding => Sliding { query }.render(),
        WindowKind::Dedup => Dedup { query }.render(),
        WindowKind::Tumbling => Tumbling { query }.render(),
    };
    text.map_err(|error| unrendered(rule, &error))
}

/// The query that counts the groups of a `dedup` rule whose windows cannot be told at `from` from
/// the records that were read: those with a match within a period before it and no pause of a
/// period in all that was read before it.
pub fn unanchored(rule: &Rule, from: i64, read: Range) -> Result<String, Error> {
    let period = rule.window.period.micros();
    let anchors = Anchors {
        query: Query::new(rule, Range::default(), Range { from: read.from, to: Some(from) }),
        certain_from: read.from.and_then(|begin| Instant::bound(begin.saturating_add(period))),
        open_after: Instant::bound(from.saturating_sub(period)),
    };
    anchors.render().map_err(|error| unrendered(rule, &error))
}

fn unrendered(rule: &Rule, error: &askama::Error) -> Error {
    Error::Internal(format!("the SQL of `{}`: {error}", rule.id))
}

/// The columns that the SQL of `rule` reads.
fn columns_read(rule: &Rule) -> Vec<&'static str> {
    let mut columns =
        vec![event::EVENT_TIME, event::EVENT_ID, event::CONTENT_ID, "sourceIPAddress", "userAgent", "awsRegion"];
    let mut add = |field: &Field| match field {
        Field::Account => columns.extend(["recipientAccountId", "userIdentity.accountId"]),
        Field::Actor => columns.extend(expression::ACTOR_COLUMNS),
        Field::Element(_) => {}
        Field::Path(_) => match field.place() {
            Some(Place::Column(name, _)) => columns.push(name),
            Some(Place::Below { column, hot, .. }) => columns.extend([column].into_iter().chain(hot)),
            Some(Place::Time) | None => {}
        },
    };
    rule.detection.fields(&mut add);
    rule.dynamic_severities.iter().for_each(|(_, condition)| condition.fields(&mut add));
    rule.group_by.iter().chain(&rule.unique).chain(&rule.summary).for_each(&mut add);
    rule.title_fields().into_iter().for_each(&mut add);
    rule.context.iter().for_each(|(_, field)| add(field));
    columns
}
