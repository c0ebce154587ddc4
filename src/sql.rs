//! Turns a rule into the SQL that finds its bursts.
//!
//! A scan finds the matches of all rules: [`match_spec`] lists what it tests and computes for each record. The matches are
//! the table `matched`. The queries over it are lists of steps, one file in `sql/` each:
//!
//! | query | steps |
//! |---|---|
//! | `sliding` findings | `matches`, `sliding_counts`, `thresholds`, `sliding_bursts`, `findings` |
//! | `dedup` and `tumbling` findings | `matches`, `dedup_windows` or `tumbling_windows`, `window_counts`, `thresholds`, `window_bursts`, `findings` |
//! | findings of rules whose matches must be new | the same, with `new_matches` after `matches` |
//! | findings of rules near whose matches other events must be absent | the same, with `neighbors`, `not_followed` or `not_preceded`, and `decided_matches` after `matches` |
//! | a parameter grid | the same, with `grid_matches`, `grid_sliding_most` or `grid_window_most` and `grid_thresholds`, and `grid_findings` |
//!
//! What `tawny sql` prints begins with one more step, which makes `matched` of the table `cloudtrail`.

use askama::Template as _;

use crate::error::Error;
use crate::event::{EVENT_ID, EVENT_TIME};
use crate::rule::Rule;
use crate::time::{Instant, Range};

pub mod columns;
pub mod credential;
pub mod dialect;
pub mod distinct;
pub mod expression;
pub mod fields;
pub mod grid;
pub mod match_spec;
pub mod predicate;
pub mod quote;
mod rule_matches;
pub mod selection;
mod windows;

use columns::{ACCOUNT, ACTOR, RuleColumns};
use grid::{GridCell, ParameterGrid};
use quote::{Ident, TimeLiteral};
use windows::{AnchorQuery, HuntQuery, query, step};
pub use windows::{CountFunction, WindowShape};

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

/// Returns the query that finds a rule's bursts with a trigger in `triggers`, in the records whose time lies in `read`. It
/// runs over the table `cloudtrail` alone. After its first step, `matched`, it is the query that hunts run.
///
/// # Errors
/// The rule cannot have its window.
pub fn hunt(rule: &Rule, triggers: Range, read: Range) -> Result<String, Error> {
    rule.check(rule.window)?;
    check_without_origin(rule)?;
    let steps = HuntQuery::new(WindowShape::of(rule), &RuleColumns::new(rule).names(), triggers)
        .steps()
        .map_err(unrendered(&rule.id))?;
    Ok(query(&[rule_matches::steps(rule, read), steps].concat()))
}

/// Makes sure that one query gives all values that a rule needs.
fn check_without_origin(rule: &Rule) -> Result<(), Error> {
    if !rule.needs_origins() {
        return Ok(());
    }
    Err(Error::Usage {
        message: format!("the rule `{}` uses `origin`, which no SQL gives: it follows chains of credentials", rule.id),
        hint: Some("run `tawny hunt`, or group by `actor`".to_owned()),
    })
}

/// Returns the query of the records that a rule matches.
///
/// # Errors
/// The rule needs the origins of its matches.
pub fn matching(rule: &Rule) -> Result<String, Error> {
    check_without_origin(rule)?;
    // Those that are not new are matches too.
    let rule = Rule { first_seen: None, absence: None, ..rule.clone() };
    let steps = rule_matches::steps(&rule, Range::default());
    Ok(query(&[steps, vec![step(include_str!("../sql/matching.sql"))]].concat()))
}

/// Returns the query that finds the bursts of rules with windows of one shape, with a trigger in `triggers`. Their matches
/// are the table `matched` with these columns.
pub fn hunt_matched(shape: WindowShape, columns: &RuleColumns<String>, triggers: Range) -> Result<String, Error> {
    Ok(query(&HuntQuery::new(shape, columns, triggers).steps().map_err(unrendered("the windows of rules"))?))
}

/// Returns the query of the matches in the table `matched`, each `eventID` once for each rule.
pub fn once_matched() -> Result<String, Error> {
    let matches = windows::distinct_matches("matches").map_err(unrendered("the matches"))?;
    Ok(query(&[matches, step(include_str!("../sql/matches_once.sql"))]))
}

/// Returns the query that counts, for each of some `dedup` rules, the groups whose window at `from` is not known from the
/// matches from `counted_from` on: those with a match within a period before `from` and no pause of a period in all that
/// was read before it. The matches are the table `matched` with these columns.
pub fn unanchored_matched(
    shape: WindowShape,
    columns: &RuleColumns<String>,
    from: Instant,
    counted_from: Option<Instant>,
) -> Result<String, Error> {
    let anchors = AnchorQuery::of_rules(shape, columns, from, counted_from);
    let steps = || Ok([windows::matches(shape, columns)?, vec![anchors.steps()?]].concat());
    Ok(query(&steps().map_err(unrendered("the windows of rules"))?))
}

/// Returns the query that counts, for each of some rules, the matches with a time in `range` that the data do not decide: those
/// that may be new, in accounts that are known for too short a time, and those whose period of absence is not over. The matches
/// are the table `matched` with these columns.
pub fn open_matched(shape: WindowShape, columns: &RuleColumns<String>, range: Range) -> Result<String, Error> {
    let (from, to) = TimeLiteral::bounds(range);
    let steps = windows::matches(shape, columns).map_err(unrendered("the open matches"))?;
    let (candidates, is_open) = match shape.absence {
        None => ("first_seen_matches", format!("\"eventTime\" < {}", columns::LEARNED_FROM)),
        Some(_) => (
            "lone_matches",
            format!("(\"eventTime\" < {} OR \"eventTime\" >= {})", columns::KNOWN_FROM, columns::KNOWN_TO),
        ),
    };
    let select = format!(
        "SELECT {} AS {}, count(*) AS {}
FROM {candidates}
WHERE {is_open}
  AND \"eventTime\" >= {from}
  AND \"eventTime\" < {to}
GROUP BY {0}",
        columns::RULE,
        columns::SUBJECT,
        columns::OPEN_MATCHES
    );
    Ok(format!("{}\n{select}", query(&steps)))
}

/// Returns the query of the last match with each key of new matches. The matches are the table `matched` with these columns.
pub fn last_seen(columns: &RuleColumns<String>) -> Result<String, Error> {
    windows::last_seen(columns).map_err(unrendered("the keys of matches"))
}

/// Returns the query of the times of the first and the last event in the table `cloudtrail`.
pub fn event_times() -> String {
    rule_matches::event_times()
}

/// Returns the query of the first event in `range` of each account in the table `cloudtrail`.
pub fn account_starts(range: Range) -> String {
    rule_matches::account_starts(range)
}

/// Returns the query of a rule's matches in the table `matched`, each once, by group and time. `groups` are the columns of the
/// group, and `keys` the other columns of the key of new matches. `shape` is that of the rule's windows.
pub fn distinct_matches(groups: &[String], keys: &[String], shape: WindowShape) -> Result<String, Error> {
    let counted = shape.function.map(|function| function.column().to_owned());
    let role = shape.absence.map(|_| columns::MATCH_ROLE.to_owned());
    let own = counted.into_iter().chain(role).chain([ACCOUNT, ACTOR, EVENT_TIME, EVENT_ID].map(str::to_owned));
    let columns: Vec<String> = groups.iter().chain(keys).cloned().chain(own).collect();
    let columns = idents(&columns).collect::<Vec<_>>().join(",\n  ");
    DistinctMatches { columns, order: by_group(groups) }.render().map_err(unrendered("the distinct matches"))
}

/// Returns the query of the rows of the table `matched`, by group and time.
pub fn ordered_matches(groups: &[String]) -> String {
    format!("SELECT *\nFROM matched\nORDER BY {}", by_group(groups))
}

fn idents(names: &[String]) -> impl Iterator<Item = String> {
    names.iter().cloned().map(|name| Ident(name).to_string())
}

/// Returns the order of group and time.
fn by_group(groups: &[String]) -> String {
    idents(groups).chain(idents(&[EVENT_TIME, EVENT_ID].map(str::to_owned))).collect::<Vec<_>>().join(", ")
}

/// Returns the query of the newest event in `read` of each account and region.
pub fn newest(read: Range) -> Result<String, Error> {
    let (from, to) = TimeLiteral::bounds(read);
    Newest { from, to }.render().map_err(unrendered("the newest events"))
}

/// Returns the query that finds what each of `cells`, whose windows are all of `shape`, would find with a trigger in
/// `triggers`, in the table `matched` of distinct matches. The rows bear the numbers of the cells.
pub fn grid(shape: WindowShape, cells: &[GridCell], triggers: Range) -> Result<String, Error> {
    Ok(query(&ParameterGrid::new(cells).steps(shape, triggers).map_err(unrendered("a parameter grid"))?))
}

/// As [`unanchored_matched`], for the settings of `cells`: one row for each that is not known, with its number.
pub fn unanchored_grid(shape: WindowShape, cells: &[GridCell], from: Instant) -> Result<String, Error> {
    let steps = || {
        let anchors = AnchorQuery::of_grid(shape, from).steps()?;
        Ok([ParameterGrid::new(cells).matches(shape)?, vec![anchors]].concat())
    };
    Ok(query(&steps().map_err(unrendered("a parameter grid"))?))
}

fn unrendered(subject: &str) -> impl Fn(askama::Error) -> Error {
    move |error| Error::Internal(format!("the SQL of `{subject}`: {error}"))
}
