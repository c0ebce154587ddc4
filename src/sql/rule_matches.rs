//! The table `matched` of one rule, as a step of a query that reads the table `cloudtrail`.

use super::columns::{self, RuleColumn, RuleColumns};
use super::match_spec::EventColumn;
use super::predicate;
use super::quote::{Ident, Interval, TimeLiteral};
use crate::event::{CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::rule::Rule;
use crate::time::Range;

/// Returns the step: the records with a time in `read` that `rule` matches, duplicates included. A hunt computes the same
/// columns for its rules; here they are named after the rule's fields.
pub(super) fn matched(rule: &Rule, read: Range) -> String {
    let of_rule = RuleColumns::new(rule);
    let of_rule: Vec<&RuleColumn> = of_rule.iter().collect();
    let listed = EventColumn::LISTED.map(|column| ident(column.name()));
    let compared = of_rule.iter().map(|column| column.ident().to_string()).chain(listed.iter().cloned());
    let compared = compared.collect::<Vec<_>>().join(", ");

    let fixed = [
        format!("0 AS {}", columns::RULE),
        format!("{} AS {}", rule.window.threshold, columns::THRESHOLD),
        format!("{} AS {}", Interval(rule.window.period), columns::PERIOD),
        ident(EVENT_TIME),
        format!("coalesce({}, {}) AS {}", ident(EVENT_ID), ident(CONTENT_ID), ident(EVENT_ID)),
        ident("eventName"),
        ident("eventSource"),
    ];
    let of_rule = of_rule.iter().map(|column| format!("{} AS {}", column.expression, column.ident()));
    let columns: Vec<String> = fixed.into_iter().chain(of_rule).chain(listed).collect();
    let (from, to) = TimeLiteral::bounds(read);
    let time = ident(EVENT_TIME);
    format!(
        "matched AS (
  -- The records that the rule's conditions hold for, in the columns that the next steps read.
  -- fingerprint: decides between duplicates of one time.
  SELECT *, fingerprint({compared}) AS fingerprint
  FROM (
    SELECT
      {}
    FROM cloudtrail
    WHERE {time} >= {from}
      AND {time} < {to}
      AND {}
  )
)",
        columns.join(",\n      "),
        predicate::condition(&rule.detection)
    )
}

fn ident(name: &str) -> String {
    Ident(name.to_owned()).to_string()
}
