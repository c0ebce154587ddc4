//! The queries that count matches in windows: lists of steps, each a common table expression of `sql/*.sql` that reads
//! the one before it.
//!
//! All of them read the table `matched`, which holds the matches of one rule or of several that have windows of one kind.

use std::fmt;
use std::num::NonZeroU32;

use askama::Template as _;
use serde::{Deserialize, Serialize};

use super::columns::{self, COUNTED_PEAK, RuleColumns, STATISTIC};
use super::quote::{Ident, Literal, TimeLiteral};
use crate::event::EVENT_ID;
use crate::rule::statistic::StatisticCondition;
use crate::rule::{AbsenceSide, Counts, PeakLimits, Rule, WindowKind};
use crate::time::{Instant, Range};

/// The steps of a query, in the order in which they run. The last one holds its SELECT too.
pub(super) type Steps = Vec<String>;

/// Returns the query of some steps.
pub(super) fn query(steps: &[String]) -> String {
    format!("WITH {}", steps.join(",\n"))
}

/// Returns the text of a step that has no template tags.
pub(super) fn step(text: &str) -> String {
    text.trim_end().to_owned()
}

/// A window function that counts the values of one column within a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CountFunction {
    /// The distinct values.
    Distinct,
    /// The sum of the values.
    Sum,
    /// Whether a statistic of the values satisfies a condition.
    Statistic(StatisticCondition),
    /// The first events that a second one follows.
    Followed,
    /// The kinds of events.
    EachOf,
    /// The steps of a sequence.
    InOrder,
}

impl CountFunction {
    /// Returns its name in SQL.
    fn name(self) -> &'static str {
        match self {
            CountFunction::Distinct => "distinct_within",
            CountFunction::Sum => "sum_within",
            CountFunction::Statistic(_) => "statistic_within",
            CountFunction::Followed => "before_within",
            CountFunction::EachOf => "kinds_within",
            CountFunction::InOrder => "steps_within",
        }
    }

    /// Returns the column that it counts.
    pub fn column(self) -> &'static str {
        match self {
            CountFunction::Distinct | CountFunction::Sum | CountFunction::Statistic(_) => columns::COUNTED,
            CountFunction::Followed | CountFunction::EachOf | CountFunction::InOrder => columns::EVENT_KINDS,
        }
    }

    /// Returns the condition of a statistic.
    fn statistic(self) -> Option<StatisticCondition> {
        match self {
            CountFunction::Statistic(condition) => Some(condition),
            _ => None,
        }
    }

    /// Returns whether it counts events that come one after another.
    fn is_of_sequence(self) -> bool {
        matches!(self, CountFunction::Followed | CountFunction::InOrder)
    }
}

/// The kind of window, and how matches in it are counted. One query counts the windows of all rules with one shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowShape {
    /// The kind of window.
    pub kind: WindowKind,
    /// The function that counts; `None` for rules that count their matches.
    pub function: Option<CountFunction>,
    /// The limits of a finding's peak.
    pub peak_limits: PeakLimits,
    /// The least number of matches in a window that reaches the threshold.
    pub min_events: Option<NonZeroU32>,
    /// Whether only new matches are counted.
    pub only_new: bool,
    /// The side of a match on which other events must be absent, if that matters.
    pub absence: Option<AbsenceSide>,
}

impl WindowShape {
    /// Returns the shape of the windows of `rule`.
    pub fn of(rule: &Rule) -> WindowShape {
        let function = match rule.counts {
            Counts::Matches => None,
            Counts::Distinct(_) => Some(CountFunction::Distinct),
            Counts::Sum(_) => Some(CountFunction::Sum),
            Counts::Statistic(_, condition) => Some(CountFunction::Statistic(condition)),
            Counts::Followed { .. } => Some(CountFunction::Followed),
            Counts::EachOf(_) => Some(CountFunction::EachOf),
            Counts::InOrder(_) => Some(CountFunction::InOrder),
        };
        let only_new = rule.first_seen.is_some();
        let (peak_limits, min_events) = (rule.peak_limits, rule.min_events);
        let absence = rule.absence.as_ref().map(|absence| absence.side);
        WindowShape { kind: rule.window.kind, function, peak_limits, min_events, only_new, absence }
    }

    /// Returns the shape with the same function and another kind of window.
    #[must_use]
    pub fn with_kind(self, kind: WindowKind) -> WindowShape {
        WindowShape { kind, ..self }
    }

    /// Returns the conditions of a finding whose peak is in the column `peak`, each in a line of its own.
    pub(super) fn peak_conditions(self, peak: &str) -> String {
        let PeakLimits { at_most, not } = self.peak_limits;
        let at_most = at_most.map(|most| format!("\n  AND {peak} <= {most}"));
        let not = not.map(|not| format!("\n  AND {peak} <> {not}"));
        at_most.into_iter().chain(not).collect()
    }
}

/// How the matches of a group are counted.
pub(super) struct Windows {
    shape: WindowShape,
    /// The column of the rule, or of the setting of a parameter grid.
    subject: &'static str,
    /// The subject and the columns of the group, in SQL, with commas between them.
    group: String,
    /// The column that orders matches of one time, in SQL.
    tie_breaker: String,
}

#[derive(askama::Template)]
#[template(path = "sliding_counts.sql", escape = "none")]
struct SlidingCounts<'w> {
    count: &'w str,
    in_order: &'w str,
}

#[derive(askama::Template)]
#[template(path = "sliding_bursts.sql", escape = "none")]
struct SlidingBursts<'w> {
    from_last: &'w str,
}

#[derive(askama::Template)]
#[template(path = "dedup_windows.sql", escape = "none")]
struct DedupWindows<'w> {
    in_order: &'w str,
}

#[derive(askama::Template)]
#[template(path = "window_counts.sql", escape = "none")]
struct WindowCounts<'w> {
    count: &'w str,
    in_window: &'w str,
}

/// The name of the table of all matches, from which the new ones are selected.
const ALL_MATCHES: &str = "all_matches";

#[derive(askama::Template)]
#[template(path = "matches.sql", escape = "none")]
struct Matches<'w> {
    name: &'w str,
}

#[derive(askama::Template)]
#[template(path = "new_matches.sql", escape = "none")]
struct NewMatches<'w> {
    key: &'w str,
}

#[derive(askama::Template)]
#[template(path = "neighbors.sql", escape = "none")]
struct Neighbors<'w> {
    in_order: &'w str,
}

/// Returns the steps from `matched` to `matches`, in which each `eventID` is once. `columns` are those of `matched`.
pub(super) fn matches(shape: WindowShape, columns: &RuleColumns<String>) -> Result<Steps, askama::Error> {
    if let Some(side) = shape.absence {
        let lone = Windows::of_rules(shape, &group_columns(columns)).lone_matches(side)?;
        return Ok([vec![distinct_matches(ALL_MATCHES)?], lone].concat());
    }
    if !shape.only_new {
        return Ok(vec![distinct_matches("matches")?]);
    }
    Ok(vec![distinct_matches(ALL_MATCHES)?, NewMatches { key: &seen_key(columns) }.render()?])
}

/// Returns the columns of the keys of new matches, in SQL, with commas between them.
fn seen_key(columns: &RuleColumns<String>) -> String {
    let key = columns.newness.iter().flat_map(|newness| &newness.key).cloned().map(Ident);
    let key = std::iter::once(columns::RULE.to_owned())
        .chain(group_columns(columns).into_iter().chain(key).map(|column| column.to_string()));
    key.collect::<Vec<_>>().join(", ")
}

/// Returns the query of the last match of each key in `matched`, which has these columns.
pub(super) fn last_seen(columns: &RuleColumns<String>) -> Result<String, askama::Error> {
    let (matches, key) = (query(&[distinct_matches(ALL_MATCHES)?]), seen_key(columns));
    Ok(format!(
        "{matches}\nSELECT {key}, max(\"eventTime\") AS {}\nFROM {ALL_MATCHES}\nGROUP BY {key}",
        columns::LAST_SEEN
    ))
}

/// Returns the step from `matched` to a table with this name, in which each `eventID` is once.
pub(super) fn distinct_matches(name: &str) -> Result<String, askama::Error> {
    Matches { name }.render()
}

impl Windows {
    /// Returns the windows of `shape` over the matches of rules with these columns for the group.
    pub(super) fn of_rules(shape: WindowShape, group_columns: &[Ident]) -> Windows {
        Windows::new(shape, columns::RULE, group_columns, EVENT_ID)
    }

    /// Returns the windows of `shape` over the matches of a parameter grid, whose groups and matches have numbers.
    pub(super) fn of_grid(shape: WindowShape) -> Windows {
        Windows::new(shape, columns::SETTING, &[Ident(columns::GROUP.to_owned())], columns::MATCH_NUMBER)
    }

    fn new(shape: WindowShape, subject: &'static str, group_columns: &[Ident], tie_breaker: &str) -> Windows {
        let group = std::iter::once(subject.to_owned()).chain(group_columns.iter().map(ToString::to_string));
        let group = group.collect::<Vec<_>>().join(", ");
        Windows { shape, subject, group, tie_breaker: Ident(tie_breaker.to_owned()).to_string() }
    }

    /// Returns the steps from `all_matches` to `matches`: those without another event on one side.
    pub(super) fn lone_matches(&self, side: AbsenceSide) -> Result<Steps, askama::Error> {
        let lone = match side {
            AbsenceSide::Before => include_str!("../../sql/not_preceded.sql"),
            AbsenceSide::After => include_str!("../../sql/not_followed.sql"),
        };
        let decided = include_str!("../../sql/decided_matches.sql");
        Ok(vec![Neighbors { in_order: &self.in_order() }.render()?, step(lone), step(decided)])
    }

    /// Returns the steps from the table `matches` to `matches_with_counts`.
    pub(super) fn counted(&self) -> Result<Steps, askama::Error> {
        let in_order = self.in_order();
        if self.shape.kind == WindowKind::Sliding {
            let is_last = r#"lead("eventTime") OVER in_order IS DISTINCT FROM "eventTime""#;
            let count = self.count(r#"matches_within("eventTime", period)"#, "in_order", is_last);
            return Ok(vec![SlidingCounts { count: &count, in_order: &in_order }.render()?]);
        }
        let windows = match self.shape.kind {
            WindowKind::Dedup => DedupWindows { in_order: &in_order }.render()?,
            WindowKind::Sliding | WindowKind::Tumbling => step(include_str!("../../sql/tumbling_windows.sql")),
        };
        let in_window = format!("PARTITION BY {}, window_start {}", self.group, self.order_by());
        let count = self.count("row_number()", "in_window", r#"lead("eventTime") OVER in_window IS NULL"#);
        let counts = WindowCounts { count: &count, in_window: &in_window }.render()?;
        Ok(vec![windows, counts])
    }

    /// Returns the columns of a match's count. `matches` counts matches, `over` names the window of the rows, and `is_last` is
    /// whether no row of the match's window follows.
    ///
    /// A statistic may fall while rows are added, so only whole windows are compared.
    fn count(&self, matches: &str, over: &str, is_last: &str) -> String {
        let Some(function) = self.shape.function else {
            return format!("{matches} OVER {over} AS count_in_window");
        };
        let condition = function.statistic().map(|condition| condition.to_string());
        let condition = condition.map_or_else(String::new, |condition| format!(", {}", Literal(&condition)));
        let count = format!("{}({}, \"eventTime\", period{condition}) OVER {over}", function.name(), function.column());
        match function.statistic() {
            None => format!("{count} AS count_in_window"),
            Some(_) => format!(
                "-- A statistic may fall while matches are added, so the last match of a window decides.\n    \
                 CASE\n      WHEN ({is_last})\n        AND {count} IS NOT NULL\n      THEN 1\n      ELSE 0\n    \
                 END AS count_in_window,\n    {count} AS {STATISTIC}"
            ),
        }
    }

    /// Returns the step from `matches_with_threshold` to `bursts`. `cell` is one more column that keeps groups apart, if there is one.
    pub(super) fn bursts(&self, cell: Option<&str>) -> Result<String, askama::Error> {
        match self.shape.kind {
            WindowKind::Sliding => SlidingBursts { from_last: &self.backwards(cell) }.render(),
            WindowKind::Dedup | WindowKind::Tumbling => Ok(step(include_str!("../../sql/window_bursts.sql"))),
        }
    }

    /// Returns the window over the matches of a group, from the first on.
    pub(super) fn in_order(&self) -> String {
        format!("PARTITION BY {} {}", self.group, self.order_by())
    }

    /// Returns the window over the matches of a group, from the last back.
    pub(super) fn backwards(&self, cell: Option<&str>) -> String {
        let columns = self.order().into_iter().map(|column| format!("{column} DESC"));
        let group = std::iter::once(self.group.as_str()).chain(cell);
        format!(
            "PARTITION BY {} ORDER BY {}",
            group.collect::<Vec<_>>().join(", "),
            columns.collect::<Vec<_>>().join(", ")
        )
    }

    fn order_by(&self) -> String {
        format!("ORDER BY {}", self.order().join(", "))
    }

    /// Returns the columns that order the matches of a group. Events of one time are in the order of the sequence, if the
    /// rule has one.
    fn order(&self) -> Vec<&str> {
        let of_sequence = self.shape.function.filter(|function| function.is_of_sequence());
        let kinds = of_sequence.map(CountFunction::column);
        ["\"eventTime\""].into_iter().chain(kinds).chain([self.tie_breaker.as_str()]).collect()
    }
}

/// The query for the findings of rules whose windows have one shape, over their matches.
pub(super) struct HuntQuery {
    windows: Windows,
    /// The columns of `matched`.
    columns: RuleColumns<String>,
    /// The columns of a finding that only some rules have, as SQL.
    rule_columns: Vec<String>,
    /// The times of triggers.
    from: TimeLiteral,
    to: TimeLiteral,
}

#[derive(askama::Template)]
#[template(path = "findings.sql", escape = "none")]
struct Findings<'q> {
    group: &'q str,
    rule_columns: &'q str,
    peak_conditions: &'q str,
    from: TimeLiteral,
    to: TimeLiteral,
}

impl HuntQuery {
    /// Returns the query for findings with a trigger in `triggers`. The table `matched` has these columns.
    pub(super) fn new(shape: WindowShape, columns: &RuleColumns<String>, triggers: Range) -> HuntQuery {
        let (from, to) = TimeLiteral::bounds(triggers);
        let windows = Windows::of_rules(shape, &group_columns(columns));
        let counted_peak = shape.function.map(|_| format!("max(count_in_window) AS {COUNTED_PEAK}"));
        let values = columns.distinct.iter().cloned().map(Ident);
        let values = values
            .map(|column| format!("array_agg(DISTINCT {column}) FILTER (WHERE {column} IS NOT NULL) AS {column}"));
        let of_trigger = columns.trigger.iter().cloned().map(Ident).map(first_of_trigger);
        let statistic = shape.function.and_then(CountFunction::statistic).map(|_| first_of_trigger(STATISTIC));
        let rule_columns = counted_peak.into_iter().chain(statistic).chain(values).chain(of_trigger).collect();
        HuntQuery { windows, columns: columns.clone(), rule_columns, from, to }
    }

    /// Returns the steps from the table `matched` to the findings.
    pub(super) fn steps(&self) -> Result<Steps, askama::Error> {
        let rule_columns = [&[String::new()], self.rule_columns.as_slice()].concat().join(",\n    ");
        let shape = self.windows.shape;
        let peak_conditions = shape.peak_conditions(shape.function.map_or("peak", |_| COUNTED_PEAK));
        let findings = Findings {
            group: &self.windows.group,
            rule_columns: &rule_columns,
            peak_conditions: &peak_conditions,
            from: self.from,
            to: self.to,
        };
        let mut steps = matches(shape, &self.columns)?;
        steps.extend(self.windows.counted()?);
        steps.push(step(match shape.min_events {
            None => include_str!("../../sql/thresholds.sql"),
            Some(_) => include_str!("../../sql/event_thresholds.sql"),
        }));
        steps.push(self.windows.bursts(None)?);
        steps.push(findings.render()?);
        Ok(steps)
    }
}

/// The query for the rules, or the settings of a grid, whose windows at the start of a range are not known from what was
/// read before it.
pub(super) struct AnchorQuery {
    windows: Windows,
    range_from: TimeLiteral,
    /// The time from which on matches were read, as SQL.
    read_from: String,
}

#[derive(askama::Template)]
#[template(path = "dedup_anchors.sql", escape = "none")]
struct DedupAnchors<'q> {
    subject: &'q str,
    group: &'q str,
    in_order: &'q str,
    range_from: TimeLiteral,
    read_from: &'q str,
}

impl AnchorQuery {
    /// Returns the query for rules whose matches are in these columns, read from `read_from` on.
    pub(super) fn of_rules(
        shape: WindowShape,
        columns: &RuleColumns<String>,
        from: Instant,
        read_from: Option<Instant>,
    ) -> AnchorQuery {
        AnchorQuery {
            windows: Windows::of_rules(shape, &group_columns(columns)),
            range_from: TimeLiteral::nearest(from),
            read_from: TimeLiteral::nearest(read_from.unwrap_or(Instant::MIN)).to_string(),
        }
    }

    /// Returns the query for the settings of a grid.
    pub(super) fn of_grid(shape: WindowShape, from: Instant) -> AnchorQuery {
        AnchorQuery {
            windows: Windows::of_grid(shape),
            range_from: TimeLiteral::nearest(from),
            read_from: match shape.absence {
                Some(AbsenceSide::Before) => "read_from + period".to_owned(),
                _ if shape.only_new => "read_from + history".to_owned(),
                _ => "read_from".to_owned(),
            },
        }
    }

    /// Returns the steps from `matches` to the rules.
    pub(super) fn steps(&self) -> Result<String, askama::Error> {
        DedupAnchors {
            subject: self.windows.subject,
            group: &self.windows.group,
            in_order: &self.windows.in_order(),
            range_from: self.range_from,
            read_from: &self.read_from,
        }
        .render()
    }
}

/// Returns the column of a finding with the value of the match that triggered.
fn first_of_trigger(column: impl fmt::Display) -> String {
    format!("first_value({column} ORDER BY \"eventTime\", \"eventID\") FILTER (WHERE reaches_threshold) AS {column}")
}

/// The columns of the group in `columns`. The column of the rule is part of every group anyway.
fn group_columns(columns: &RuleColumns<String>) -> Vec<Ident> {
    columns.group.iter().filter(|name| *name != columns::RULE).cloned().map(Ident).collect()
}
