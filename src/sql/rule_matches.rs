//! The table `matched` of one rule, as a step of a query that reads the table `cloudtrail`.

use super::columns::{self, ACCOUNT, RuleColumn, RuleColumns};
use super::match_spec::EventColumn;
use super::quote::{Ident, Interval, TimeLiteral};
use super::windows::Steps;
use super::{fields, predicate};
use crate::event::{CONTENT_ID, EVENT_ID, EVENT_TIME};
use crate::rule::{AbsenceSide, Field, NewnessPeriods, Rule};
use crate::time::{Instant, Period, Range};

/// Returns the steps up to `matched`.
pub(super) fn steps(rule: &Rule, read: Range) -> Steps {
    let accounts = rule.setting().has_learning().then(|| {
        let query = account_starts(Range::default()).replace('\n', "\n  ");
        format!("account_starts AS (\n  -- The first event of each account in the data.\n  {query}\n)")
    });
    let times = rule.absence.as_ref().map(|_| {
        let query = event_times().replace('\n', "\n  ");
        format!("event_times AS (\n  -- The first and the last event in the data.\n  {query}\n)")
    });
    accounts.into_iter().chain(times).chain([matched(rule, read)]).collect()
}

/// Returns the query of the times of the first and the last event.
pub(super) fn event_times() -> String {
    let time = ident(EVENT_TIME);
    let (first, last) = (columns::FIRST_EVENT, columns::LAST_EVENT);
    format!("SELECT min({time}) AS {first}, max({time}) AS {last}\nFROM cloudtrail")
}

/// Returns the step `matched`: the records with a time in `read` that `rule` matches, duplicates included. A hunt computes the same
/// columns for its rules; here they are named after the rule's fields.
fn matched(rule: &Rule, read: Range) -> String {
    let own = RuleColumns::new(rule);
    let of_rule: Vec<&RuleColumn> = own.iter().collect();
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
    let min_events = rule.min_events.map(|events| format!("{events} AS {}", columns::MIN_EVENTS));
    let newness = rule.first_seen.iter().flat_map(|first_seen| newness(first_seen.periods, read));
    let absence = rule.absence.iter().flat_map(|absence| known_times(absence.side, rule.window.period, read));
    let columns: Vec<String> =
        fixed.into_iter().chain(min_events).chain(newness).chain(absence).chain(of_rule).chain(listed).collect();
    let (from, to) = TimeLiteral::bounds(read);
    let time = ident(EVENT_TIME);
    let accounts = match &own.newness {
        Some(columns) if rule.setting().has_learning() => format!(
            "\n    LEFT JOIN account_starts ON {} IS NOT DISTINCT FROM account_starts.account",
            columns.account.expression
        ),
        _ => String::new(),
    };
    let times = rule.absence.as_ref().map_or("", |_| "\n    CROSS JOIN event_times");
    format!(
        "matched AS (
  -- The records that the rule's conditions hold for, in the columns that the next steps read.
  -- fingerprint: decides between duplicates of one time.
  SELECT *, fingerprint({compared}) AS fingerprint
  FROM (
    SELECT
      {}
    FROM cloudtrail{accounts}{times}
    WHERE {time} >= {from}
      AND {time} < {to}
      AND {}
  )
)",
        columns.join(",\n      "),
        predicate::condition(&rule.scanned())
    )
}

/// Returns the query of the first event in `range` of each account.
pub(super) fn account_starts(range: Range) -> String {
    let account = fields::value(&Field::Account);
    let (time, start) = (ident(EVENT_TIME), columns::ACCOUNT_START);
    let within = if range == Range::default() {
        String::new()
    } else {
        let (from, to) = TimeLiteral::bounds(range);
        format!("\nWHERE {time} >= {from}\n  AND {time} < {to}")
    };
    format!("SELECT {account} AS {ACCOUNT}, min({time}) AS {start}\nFROM cloudtrail{within}\nGROUP BY {account}")
}

/// Returns the columns that decide with those of the rule whether a match is new.
fn newness(periods: NewnessPeriods, read: Range) -> [String; 3] {
    let history = Interval(periods.history);
    let known_from = match read.from {
        Some(from) => TimeLiteral::nearest(from + periods.history.micros()).to_string(),
        None => "NULL".to_owned(),
    };
    let learned_from = match periods.learning {
        Some(learning) => format!("account_starts.{} + {}", columns::ACCOUNT_START, Interval(learning)),
        None => "NULL".to_owned(),
    };
    [
        format!("{history} AS {}", columns::HISTORY),
        format!("CAST({known_from} AS TIMESTAMP WITH TIME ZONE) AS {}", columns::KNOWN_FROM),
        format!("CAST({learned_from} AS TIMESTAMP WITH TIME ZONE) AS {}", columns::LEARNED_FROM),
    ]
}

/// Returns the columns of the times at which the data, and those with a time in `read`, decide whether a match counts.
fn known_times(side: AbsenceSide, period: Period, read: Range) -> [String; 2] {
    let bound = |function: &str, event: &str, read: Option<Instant>| match read {
        Some(instant) => format!("{function}(event_times.{event}, {})", TimeLiteral::nearest(instant)),
        None => format!("event_times.{event}"),
    };
    let period = Interval(period);
    let (from, to) = match side {
        AbsenceSide::Before => {
            (format!("{} + {period}", bound("greatest", columns::FIRST_EVENT, read.from)), "NULL".to_owned())
        }
        AbsenceSide::After => {
            let end = bound("least", columns::LAST_EVENT, read.to);
            ("NULL".to_owned(), format!("{end} - {period} + INTERVAL '1 microsecond'"))
        }
    };
    [(from, columns::KNOWN_FROM), (to, columns::KNOWN_TO)]
        .map(|(time, name)| format!("CAST({time} AS TIMESTAMP WITH TIME ZONE) AS {name}"))
}

fn ident(name: &str) -> String {
    Ident(name.to_owned()).to_string()
}
