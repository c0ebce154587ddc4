//! Turns a rule into the SQL that finds its bursts.
//!
//! A scan finds the matches of all rules: [`candidates`] lists what it tests and computes for each record. The matches are
//! the table `matched`. The queries over it are lists of steps, one file in `sql/` each:
//!
//! | query | steps |
//! |---|---|
//! | `sliding` findings | `matches`, `sliding_counts`, `thresholds`, `sliding_bursts`, `findings` |
//! | `dedup` and `tumbling` findings | `matches`, `dedup_windows` or `tumbling_windows`, `window_counts`, `thresholds`, `window_bursts`, `findings` |
//! | a parameter grid | the same, with `grid_matches`, `grid_sliding_most` or `grid_window_most` and `grid_thresholds`, and `grid_findings` |
//!
//! What `tawny sql` prints begins with one more step, which makes `matched` of the table `cloudtrail`.

use askama::Template as _;

use crate::error::Error;
use crate::rule::{Counts, Rule, WindowKind};
use crate::time::Range;

pub mod candidates;
pub mod dialect;
pub mod distinct;
pub mod expression;
pub mod fields;
pub mod grid;
pub mod layout;
pub mod predicate;
pub mod quote;
mod rule_matches;
pub mod selection;
mod windows;

use expression::{ChainOperator, Expression};
use grid::{GridCell, ParameterGrid};
use layout::Layout;
use quote::{Ident, TimeLiteral};
use windows::{AnchorQuery, HuntQuery, query, step};

#[derive(askama::Template)]
#[template(path = "newest.sql", escape = "none")]
struct Newest {
    from: TimeLiteral,
    to: TimeLiteral,
}

#[derive(askama::Template)]
#[template(path = "distinct_matches.sql", escape = "none")]
struct DistinctMatches {
    columns: String,
    order: String,
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

/// Returns the query that finds a rule's bursts with a trigger in `triggers`, in the records whose time lies in `read`. It
/// runs by itself over the table `cloudtrail`. After its first step, `matched`, it is the query that hunts run.
///
/// # Errors
/// The rule cannot have its window.
pub fn hunt(rule: &Rule, triggers: Range, read: Range) -> Result<String, Error> {
    rule.check(rule.window)?;
    let steps = HuntQuery::new(rule, &Layout::of(rule), triggers).steps().map_err(unrendered(&rule.id))?;
    Ok(query(&[vec![rule_matches::matched(rule, read)], steps].concat()))
}

/// Returns the query of the records that a rule matches.
pub fn matching(rule: &Rule) -> Result<String, Error> {
    Ok(query(&[rule_matches::matched(rule, Range::default()), step(include_str!("../sql/matching.sql"))]))
}

/// Returns the query that finds the bursts of several rules with the kind of window of `rule`, with a trigger in `triggers`.
/// Their matches are the table `matched` with the columns of `layout`.
pub fn hunt_matched(rule: &Rule, layout: &Layout, triggers: Range) -> Result<String, Error> {
    Ok(query(&HuntQuery::new(rule, layout, triggers).steps().map_err(unrendered(&rule.id))?))
}

/// Returns the query that counts, for each of some `dedup` rules, the groups whose window at `from` is not known from the
/// matches with a time in `read`: those with a match within a period before `from` and no pause of a period in all that
/// was read before it. The matches are the table `matched` with the columns of `layout`.
pub fn unanchored_matched(rule: &Rule, layout: &Layout, from: i64, read: Range) -> Result<String, Error> {
    let anchors = AnchorQuery::of_rules(rule, layout, from, read.from);
    Ok(query(&[windows::distinct_matches(), anchors.steps().map_err(unrendered(&rule.id))?]))
}

/// Returns the query of a rule's matches in the table `matched`, each once, by group and time.
pub fn distinct_matches(rule: &Rule, layout: &Layout) -> Result<String, Error> {
    let groups: Vec<String> = layout.group.iter().cloned().map(|name| Ident(name).to_string()).collect();
    let own = [layout::COUNTED, "account", "actor", "\"eventTime\"", "\"eventID\""].map(str::to_owned);
    let columns = groups.iter().cloned().chain(own).collect::<Vec<_>>().join(",\n  ");
    let order = groups.into_iter().chain(["\"eventTime\", \"eventID\"".to_owned()]).collect::<Vec<_>>().join(", ");
    DistinctMatches { columns, order }.render().map_err(unrendered(&rule.id))
}

/// Returns the query of the newest event in `read` of each account and region.
pub fn newest(read: Range) -> Result<String, Error> {
    let (from, to) = TimeLiteral::bounds(read);
    Newest { from, to }.render().map_err(unrendered("the newest events"))
}

/// Returns the query that finds what each of `cells`, whose windows are all of `kind`, would find with a trigger in
/// `triggers`, in the table `matched` of distinct matches. The rows bear the numbers of the cells.
pub fn grid(rule: &Rule, kind: WindowKind, cells: &[GridCell], triggers: Range) -> Result<String, Error> {
    Ok(query(&ParameterGrid::new(cells).steps(rule, kind, triggers).map_err(unrendered(&rule.id))?))
}

/// As [`unanchored_matched`], for the settings of `cells`: one row for each that is not known, with its number.
pub fn unanchored_grid(rule: &Rule, cells: &[GridCell], from: i64) -> Result<String, Error> {
    let anchors = AnchorQuery::of_grid(rule, from).steps().map_err(unrendered(&rule.id))?;
    Ok(query(&[ParameterGrid::new(cells).matches(), vec![anchors]].concat()))
}

fn unrendered(subject: &str) -> impl Fn(askama::Error) -> Error {
    move |error| Error::Internal(format!("the SQL of `{subject}`: {error}"))
}
