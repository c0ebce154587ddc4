//! Formats a backtest as one JSON object.

use serde::Serialize;
use serde_json::{Map, Value};

use super::BacktestView;
use crate::backtest::labels::{Labelled, Score};
use crate::backtest::suggestion::Suggestions;
use crate::backtest::{Cell, CellStatistics};
use crate::error::Error;
use crate::finding;
use crate::hunt::grid::GridFinding;
use crate::report::internal;
use crate::rule::{Rule, Setting, Window};
use crate::statistics::{Duplicates, ScanStatistics};
use crate::text::json;
use crate::time::Instant;

#[derive(Serialize)]
struct BacktestDocument<'d> {
    rule_id: &'d str,
    range: RangeView,
    span: Option<SpanView>,
    read: &'d ScanStatistics,
    duplicates: &'d Duplicates,
    matches: usize,
    groups: usize,
    present: CellView<'d>,
    suggestions: &'d Suggestions,
    cells: Vec<CellView<'d>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Vec<LabelView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels_outside_range: Option<Vec<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<MoveView>,
}

#[derive(Serialize)]
struct RangeView {
    from: Option<Instant>,
    to: Option<Instant>,
}

#[derive(Serialize)]
struct SpanView {
    from: Instant,
    to: Instant,
    days: f64,
}

#[derive(Serialize)]
struct CellView<'d> {
    window: String,
    period_minutes: Value,
    threshold: u32,
    /// How long a key must not have been seen. Only for rules whose matches must be new.
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learning: Option<String>,
    #[serde(flatten)]
    stats: &'d CellStatistics,
    gained: usize,
    lost: usize,
    moves: Vec<GroupMove>,
    #[serde(skip_serializing_if = "Option::is_none")]
    labels: Option<Score>,
}

#[derive(Serialize)]
struct GroupMove {
    group: Map<String, Value>,
    gained: usize,
    lost: usize,
}

#[derive(Serialize)]
struct LabelView {
    line: u64,
    subject: String,
    matched: bool,
}

#[derive(Serialize)]
struct MoveView {
    window: String,
    period_minutes: Value,
    threshold: u32,
    gained: Vec<FoundView>,
    lost: Vec<FoundView>,
}

#[derive(Serialize)]
struct FoundView {
    finding_id: String,
    group: Map<String, Value>,
    count: usize,
    first_event: Instant,
    last_event: Instant,
    trigger_time: Instant,
    event_ids: Vec<String>,
}

/// Returns the JSON text.
pub(super) fn document(view: &BacktestView<'_>) -> Result<String, Error> {
    let tested = view.tested;
    let document = BacktestDocument {
        rule_id: &tested.rule.id,
        range: RangeView { from: tested.range.from, to: tested.range.to },
        span: tested.span().map(|(from, to)| SpanView { from, to, days: tested.days().unwrap_or_default() }),
        read: &tested.hunt.read,
        duplicates: &tested.hunt.duplicates,
        matches: tested.hunt.matches.count,
        groups: tested.hunt.matches.group_count,
        present: cell(view, tested.present()),
        suggestions: view.suggestions,
        cells: (0..tested.grid_cells).map(|number| cell(view, number)).collect(),
        labels: view.labelled.map(|labelled| {
            let label = |(label, matched): (&crate::backtest::labels::Label, bool)| LabelView {
                line: label.line,
                subject: label.subject.to_string(),
                matched,
            };
            labelled.malicious().map(label).collect()
        }),
        labels_outside_range: view.labelled.map(Labelled::outside),
        moved: view.moved.and_then(|window| moved(view, window)),
    };
    json::pretty(&document).map_err(|error| internal("a backtest as JSON", &error))
}

fn cell<'d>(view: &BacktestView<'d>, number: usize) -> CellView<'d> {
    let tested = view.tested;
    let Cell { setting: Setting { window, newness, .. }, stats } = &tested.cells[number];
    let moves = view.moves(number);
    let by_group = moves.by_group(&tested.hunt.matches).into_iter();
    let of_group = |(number, (gained, lost))| GroupMove { group: group(view, number), gained, lost };
    CellView {
        window: window.kind.to_string(),
        period_minutes: finding::minutes(window.period),
        threshold: window.threshold.get(),
        history: newness.map(|newness| newness.history.to_string()),
        learning: newness.and_then(|newness| newness.learning).map(|learning| learning.to_string()),
        stats,
        gained: moves.gained.len(),
        lost: moves.lost.len(),
        moves: by_group.map(of_group).collect(),
        labels: view.labelled.map(|labelled| labelled.score(&tested.hunt.matches, &tested.hunt.findings[number])),
    }
}

fn group(view: &BacktestView<'_>, number: usize) -> Map<String, Value> {
    let fields = view.tested.rule.group_by.iter().map(ToString::to_string);
    fields.zip(view.tested.hunt.matches.groups[number].iter().map(|value| Value::from(value.clone()))).collect()
}

fn moved(view: &BacktestView<'_>, window: Window) -> Option<MoveView> {
    let moves = view.moves(view.tested.position(window)?);
    let changed = Rule { window, ..view.tested.rule.clone() };
    Some(MoveView {
        window: window.kind.to_string(),
        period_minutes: finding::minutes(window.period),
        threshold: window.threshold.get(),
        gained: moves.gained.iter().map(|one| found(view, &changed, one)).collect(),
        lost: moves.lost.iter().map(|one| found(view, &view.tested.rule, one)).collect(),
    })
}

/// Returns a finding of `rule`, with the id that a hunt gives it.
fn found(view: &BacktestView<'_>, rule: &Rule, found: &GridFinding) -> FoundView {
    let matches = &view.tested.hunt.matches;
    let number = matches.group_of[found.first];
    let mut event_ids: Vec<String> =
        matches.matches_of(found).into_iter().map(|number| matches.id(number).to_owned()).collect();
    event_ids.sort_unstable();
    let first = matches.times[found.first];
    FoundView {
        finding_id: finding::identity(rule, &matches.groups[number], first, matches.id(found.first)),
        group: group(view, number),
        count: found.count,
        first_event: first,
        last_event: matches.times[found.last],
        trigger_time: matches.times[found.trigger],
        event_ids,
    }
}
