//! The table `matched` of one rule, as a step of a query that reads the table `cloudtrail`.

use super::expression::Expression;
use super::layout::{self, Layout};
use super::quote::{Ident, Interval, TimeLiteral};
use super::{counted, expressions, predicate};
use crate::rule::Rule;
use crate::time::Range;

/// Returns the step: the records with a time in `read` that `rule` matches, duplicates included. A hunt computes the same
/// columns for its rules; here they are named after the rule's fields.
pub(super) fn matched(rule: &Rule, read: Range) -> String {
    let names = Layout::of(rule).names().into_iter();
    let of_rule = expressions(rule).into_iter().zip(names);
    let of_rule: Vec<(Expression, String)> =
        of_rule.chain(counted(rule).map(|counted| (counted, layout::COUNTED.to_owned()))).collect();
    let own = ["sourceIPAddress", "userAgent", "awsRegion"].map(ident);
    let compared = of_rule.iter().map(|(_, name)| ident(name)).chain(own.iter().cloned());
    let compared = compared.collect::<Vec<_>>().join(", ");

    let fixed = [
        format!("0 AS {}", layout::RULE),
        format!("{} AS {}", rule.window.threshold, layout::THRESHOLD),
        format!("{} AS {}", Interval(rule.window.period.micros()), layout::PERIOD),
        ident("eventTime"),
        format!("coalesce({}, {}) AS {}", ident("eventID"), ident("contentID"), ident("eventID")),
        ident("eventName"),
        ident("eventSource"),
    ];
    let of_rule = of_rule.iter().map(|(expression, name)| format!("{expression} AS {}", ident(name)));
    let columns: Vec<String> = fixed.into_iter().chain(of_rule).chain(own).collect();
    let (from, to) = TimeLiteral::bounds(read);
    format!(
        "matched AS (
  -- The records that the rule's conditions hold for, in the columns that the next steps read.
  -- fingerprint: decides between duplicates of one time.
  SELECT *, fingerprint({compared}) AS fingerprint
  FROM (
    SELECT
      {}
    FROM cloudtrail
    WHERE \"eventTime\" >= {from}
      AND \"eventTime\" < {to}
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
