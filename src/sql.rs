//! A rule to the SQL that finds its bursts. What is printed is what runs over a lake.
//!
//! Several rules, and raw trails, share a scan: [`candidates`] says what to test and to compute of
//! each record, in the same words; the same templates then run over the table `matched` of what matched.

use askama::Template as _;

use crate::error::Error;
use crate::rule::{Counts, Rule, WindowKind};
use crate::time::Range;

pub mod candidates;
pub mod dialect;
pub mod distinct;
pub mod expression;
pub mod fields;
pub mod layout;
pub mod predicate;
pub mod quote;
pub mod selection;
pub mod sweep;

use expression::{ChainOperator, Expression};
use layout::Layout;
use quote::{Ident, Interval, TimeLiteral};
use sweep::{Cell, Sweep};

/// A column that a query computes for each match.
struct Column {
    expression: Expression,
    alias: Ident,
}

/// The records of one rule, for a query that reads them itself.
struct Records {
    columns: Vec<Column>,
    predicate: String,
    from: TimeLiteral,
    to: TimeLiteral,
}

/// What the templates are rendered with.
struct Query {
    /// Where the matches come from; the table `matched` of several rules where there are none.
    records: Option<Records>,
    groups: Vec<Ident>,
    /// Told of the match that triggered.
    told: Vec<Ident>,
    /// Listed over all matches.
    listed: Vec<Ident>,
    /// The window function that counts by the column `counted`, where it is not matches that are counted.
    counts: Option<&'static str>,
    /// Whether it counts events that come one after another.
    in_sequence: bool,
    trigger_from: Option<TimeLiteral>,
    trigger_to: Option<TimeLiteral>,
    period: String,
    threshold: String,
    /// The cells of a sweep, in place of one window.
    sweep: Option<Sweep>,
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

templates!(Sliding "sliding.sql", Dedup "dedup.sql", Tumbling "tumbling.sql", Matching "matching.sql", DistinctMatches "distinct_matches.sql");

#[derive(askama::Template)]
#[template(path = "dedup_anchors.sql", escape = "none")]
struct Anchors {
    query: Query,
    /// A group's first match that was read opened a window for certain where it lies a period or more after this.
    read_from: Option<String>,
    /// The start of the range, at which a window may still be open.
    range_from: TimeLiteral,
}

#[derive(askama::Template)]
#[template(path = "newest.sql", escape = "none")]
struct Newest {
    from: TimeLiteral,
    to: TimeLiteral,
}

impl Query {
    fn of_rule(rule: &Rule, triggers: Range, read: Range) -> Query {
        let layout = Layout::of(rule);
        let columns = expressions(rule)
            .into_iter()
            .zip(layout.names())
            .chain(counted(rule).map(|counted| (counted, layout::COUNTED.to_owned())));
        let column = |(expression, name): (Expression, String)| Column { expression, alias: Ident(name) };
        let (from, to) = TimeLiteral::bounds(read);
        let predicate = predicate::condition(&rule.detection).to_string();
        let records = Records { columns: columns.map(column).collect(), predicate, from, to };
        Query { records: Some(records), ..Query::over(rule, &layout, triggers) }
    }

    /// A query over rows with the columns of `layout`.
    fn over(rule: &Rule, layout: &Layout, triggers: Range) -> Query {
        let idents = |names: &[String]| names.iter().cloned().map(Ident).collect();
        Query {
            records: None,
            groups: idents(&layout.group),
            told: layout.told().map(Ident).collect(),
            listed: idents(&layout.summary),
            counts: counting(rule),
            in_sequence: matches!(rule.counts, Counts::Followed { .. } | Counts::InOrder(_)),
            trigger_from: triggers.from.map(TimeLiteral::nearest),
            trigger_to: triggers.to.map(TimeLiteral::nearest),
            period: Interval(rule.window.period.micros()).to_string(),
            threshold: rule.window.threshold.to_string(),
            sweep: None,
        }
    }

    /// A query over the matches of several rules, whose rows tell the threshold and mostly the period.
    fn of_several(rule: &Rule, layout: &Layout, triggers: Range) -> Query {
        let mut query = Query { threshold: layout::THRESHOLD.to_owned(), ..Query::over(rule, layout, triggers) };
        if rule.window.kind != WindowKind::Tumbling {
            layout::PERIOD.clone_into(&mut query.period);
        }
        query
    }

    /// A query of all `cells` at a time, over distinct matches.
    fn sweep(rule: &Rule, cells: &[Cell], triggers: Range) -> Query {
        let layout = Layout { group: vec![layout::RULE.to_owned(), layout::GROUP.to_owned()], ..Layout::default() };
        Query {
            period: layout::PERIOD.to_owned(),
            threshold: layout::THRESHOLD.to_owned(),
            sweep: Some(Sweep::new(cells)),
            ..Query::over(rule, &layout, triggers)
        }
    }

    /// What tells copies of a record apart: all that is computed for a match.
    fn fingerprint(&self) -> String {
        let Some(records) = &self.records else {
            return layout::FINGERPRINT.to_owned();
        };
        let own = ["sourceIPAddress", "userAgent", "awsRegion"].map(|name| Ident(name.to_owned()).to_string());
        let columns: Vec<String> = records.columns.iter().map(|column| column.alias.to_string()).chain(own).collect();
        format!("fingerprint({})", columns.join(", "))
    }

    /// `PARTITION BY` the group and `more`, or nothing where there is neither.
    fn partition(&self, more: &str) -> String {
        let mut names: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        names.extend((!more.is_empty()).then(|| more.to_owned()));
        if names.is_empty() { String::new() } else { format!("PARTITION BY {} ", names.join(", ")) }
    }

    /// The order of a group's matches. In a sequence, of those at one time the ones that come first in it go first.
    fn order(&self) -> &'static str {
        if self.in_sequence { "\"eventTime\", counted, \"eventID\"" } else { "\"eventTime\", \"eventID\"" }
    }

    /// That order, from the last match on.
    fn order_from_last(&self) -> String {
        self.order().split(", ").map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", ")
    }

    /// The column that holds what is held against the threshold.
    fn count(&self) -> &'static str {
        if self.counts.is_some() { "counted_in_window" } else { "in_window" }
    }

    /// When the tumbling window began in which a match is.
    fn begin_of_window(&self) -> String {
        let begin = |period: &str| format!("date_bin({period}, \"eventTime\")");
        self.sweep.as_ref().map_or_else(|| begin(&self.period), |sweep| sweep.of_each_period(begin))
    }

    /// What tells the cells of a sweep apart once each has its matches.
    fn cell(&self) -> &'static str {
        if self.sweep.is_some() { "cell" } else { "" }
    }

    /// The group, to group by.
    fn by_group(&self) -> String {
        self.groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// The group and `burst`, to group by.
    fn by_burst(&self) -> String {
        let names = self.groups.iter().map(ToString::to_string);
        names.chain(["burst".to_owned()]).collect::<Vec<_>>().join(", ")
    }

    fn render(self, kind: WindowKind) -> Result<String, askama::Error> {
        match kind {
            WindowKind::Sliding => Sliding { query: self }.render(),
            WindowKind::Dedup => Dedup { query: self }.render(),
            WindowKind::Tumbling => Tumbling { query: self }.render(),
        }
    }
}

/// The window function by which a rule counts, where it does not count its matches.
pub fn counting(rule: &Rule) -> Option<&'static str> {
    match rule.counts {
        Counts::Matches => None,
        Counts::Distinct(_) => Some("distinct_within"),
        Counts::Followed { .. } => Some("before_within"),
        Counts::EachOf(_) => Some("kinds_within"),
        Counts::InOrder(_) => Some("steps_within"),
    }
}

/// What a rule counts by, where it does not count its matches: the value of which distinct ones are counted, or for
/// each of several events a digit that tells whether it is one, the last event first. So texts of such digits are in the
/// order of the latest event that a match is.
pub fn counted(rule: &Rule) -> Option<Expression> {
    let digit = |event| predicate::condition(event).choose(Expression::text("1"), Expression::text("0"));
    let digits = |digits: Vec<Expression>| Expression::line(ChainOperator::Concat, digits);
    match &rule.counts {
        Counts::Matches => None,
        Counts::Distinct(field) => Some(fields::value(field)),
        Counts::Followed { first, then } => Some(digits([then, first].map(digit).to_vec())),
        Counts::EachOf(events) | Counts::InOrder(events) => Some(digits(events.iter().rev().map(digit).collect())),
    }
}

/// What a rule's findings need of each match, in the order of [`Layout::names`].
fn expressions(rule: &Rule) -> Vec<Expression> {
    let groups = rule.group_by.iter().map(fields::value);
    let context = rule.context.iter().map(|(_, field)| fields::json(field));
    let title = rule.title_fields().into_iter().map(fields::value);
    let summary = rule.summary.iter().map(fields::value);
    groups.chain(context).chain(title).chain(severity(rule)).chain(summary).collect()
}

/// The severity that the dynamic severities give a match; null where none holds.
fn severity(rule: &Rule) -> Option<Expression> {
    if rule.dynamic_severities.is_empty() {
        return None;
    }
    let case = |(severity, condition): &(crate::rule::Severity, crate::rule::Predicate)| {
        (predicate::condition(condition), Expression::text(severity.to_string()))
    };
    Some(Expression::Case { branches: rule.dynamic_severities.iter().map(case).collect() })
}

/// The query that finds a rule's bursts with a trigger in `triggers`, in the records whose time
/// lies in `read`.
pub fn hunt(rule: &Rule, triggers: Range, read: Range) -> Result<String, Error> {
    rule.check(rule.window)?;
    Query::of_rule(rule, triggers, read).render(rule.window.kind).map_err(|error| unrendered(&rule.id, &error))
}

/// The query of the records that a rule matches.
pub fn matching(rule: &Rule) -> Result<String, Error> {
    let query = Query::of_rule(rule, Range::default(), Range::default());
    Matching { query }.render().map_err(|error| unrendered(&rule.id, &error))
}

/// The query that finds the bursts of several rules with the kind of window of `rule`, and for
/// `tumbling` its period too, with a trigger in `triggers`, and their matches in the table `matched` with the columns of `layout`.
pub fn hunt_matched(rule: &Rule, layout: &Layout, triggers: Range) -> Result<String, Error> {
    let query = Query::of_several(rule, layout, triggers);
    query.render(rule.window.kind).map_err(|error| unrendered(&rule.id, &error))
}

/// The query that counts the groups of a `dedup` rule whose windows cannot be told at `from` from
/// the records that were read: those with a match within a period before it and no pause of a
/// period in all that was read before it.
pub fn unanchored(rule: &Rule, from: i64, read: Range) -> Result<String, Error> {
    let query = Query::of_rule(rule, Range::default(), Range { from: read.from, to: Some(from) });
    anchors(rule, query, from, read.from.map(|from| TimeLiteral::nearest(from).to_string()))
}

/// As [`unanchored`], for each of several rules whose matches are in `matched`.
pub fn unanchored_matched(rule: &Rule, layout: &Layout, from: i64, read: Range) -> Result<String, Error> {
    let read_from = read.from.map(|from| TimeLiteral::nearest(from).to_string());
    anchors(rule, Query::of_several(rule, layout, Range::default()), from, read_from)
}

fn anchors(rule: &Rule, query: Query, from: i64, read_from: Option<String>) -> Result<String, Error> {
    let anchors = Anchors { query, read_from, range_from: TimeLiteral::nearest(from) };
    anchors.render().map_err(|error| unrendered(&rule.id, &error))
}

/// The query of a rule's matches in the table `matched`, each once, by group and time.
pub fn distinct_matches(rule: &Rule, layout: &Layout) -> Result<String, Error> {
    let query = Query::over(rule, layout, Range::default());
    DistinctMatches { query }.render().map_err(|error| unrendered(&rule.id, &error))
}

/// The query of the newest event in `read` of each account and region.
pub fn newest(read: Range) -> Result<String, Error> {
    let (from, to) = TimeLiteral::bounds(read);
    Newest { from, to }.render().map_err(|error| unrendered("the newest events", &error))
}

/// The query that finds what each of `cells`, whose windows are all of `kind`, would find with a trigger in
/// `triggers`, in the table `matched` of distinct matches. The cells bear their numbers.
pub fn sweep(rule: &Rule, kind: WindowKind, cells: &[Cell], triggers: Range) -> Result<String, Error> {
    Query::sweep(rule, cells, triggers).render(kind).map_err(|error| unrendered(&rule.id, &error))
}

/// As [`unanchored`], for the settings of `cells`: one row for each that cannot be told, with its number.
pub fn unanchored_sweep(rule: &Rule, cells: &[Cell], from: i64) -> Result<String, Error> {
    anchors(rule, Query::sweep(rule, cells, Range::default()), from, Some("read_from".to_owned()))
}

fn unrendered(id: &str, error: &askama::Error) -> Error {
    Error::Internal(format!("the SQL of `{id}`: {error}"))
}
