//! The HTML page of a backtest.

use std::collections::HashMap;

use super::{
    Bins, Chart, Fact, Frame, GroupRow, MAX_GROUPS, RunDetails, TimeSeries, Timeline, counted, fact, rendered,
    top_groups,
};
use crate::backtest::labels::Score;
use crate::backtest::{Backtest, Cell};
use crate::error::Error;
use crate::hunt::grid::GridFinding;
use crate::report::backtest::{BacktestView, decimal, grid_name, heat, newness_name, percent, whole_percent};
use crate::rule::{Counts, Rule, Setting, Window, WindowKind};
use crate::sql;
use crate::statistics::number_of;
use crate::text::shell_word;
use crate::time::{Instant, Range};

/// Number of shades in a heat table: the CSS classes `h1` to `h6`.
const SHADES: usize = 6;
/// Window sizes with a bar of their own. Larger windows share one.
const MAX_SIZE: usize = 60;
/// Maximum number of findings of a cell on the page.
const MAX_FOUND: usize = 20;

#[derive(askama::Template)]
#[template(path = "backtest.html")]
struct BacktestPage {
    frame: Frame,
    present: String,
    tiles: Vec<Fact>,
    suggestions: Vec<String>,
    heats: Vec<Heat>,
    /// Precision and recall.
    score_heats: Vec<Heat>,
    bin: &'static str,
    timeline: String,
    timeline_rows: Vec<Fact>,
    distribution_legend: String,
    distribution: String,
    distribution_rows: Vec<Fact>,
    group_fields: String,
    groups: Vec<GroupRow>,
    more_groups: usize,
    moves: Vec<Moved>,
    scores: Vec<Scored>,
    outside: Option<String>,
    missed: Vec<String>,
    rule: String,
    sql: String,
}

struct Heat {
    name: String,
    periods: Vec<String>,
    rows: Vec<HeatRow>,
}

struct HeatRow {
    threshold: u32,
    cells: Vec<HeatCell>,
}

struct HeatCell {
    number: usize,
    text: String,
    shade: usize,
    mark: &'static str,
    tip: String,
}

struct Moved {
    cell: String,
    gained: usize,
    lost: usize,
    groups: Vec<MovedGroup>,
    more: usize,
}

struct MovedGroup {
    name: String,
    gained: usize,
    lost: usize,
}

struct Scored {
    cell: String,
    mark: &'static str,
    values: Vec<String>,
}

/// Returns the page of a backtest. `rule` is the text of the rule.
pub fn backtest(view: &BacktestView<'_>, rule: &str, run: &RunDetails) -> Result<String, Error> {
    let tested = view.tested;
    let bins = Bins::of(tested.span());
    let counts = |number: usize| {
        let triggers = tested.hunt.findings[number].iter().map(|found| tested.hunt.matches.times[found.trigger]);
        bins.counts(triggers)
    };
    let mut groups_found = GroupNames::default();
    let mut series = |(number, cell): (usize, &Cell)| TimeSeries {
        name: cell_name(cell.setting),
        counts: counts(number),
        found: first_findings(view, number, &mut groups_found),
        options: hunt_options(tested, cell.setting),
    };
    let mut all: Vec<TimeSeries> = tested.grid().iter().enumerate().map(&mut series).collect();
    let present = tested.present();
    let present_line = if present < tested.grid_cells {
        present
    } else {
        all.push(series((present, &tested.cells[present])));
        all.len() - 1
    };
    let timeline: Vec<(String, usize)> = bins.names().into_iter().zip(counts(present)).collect();
    let data = Timeline {
        thing: "finding",
        bin: bins.name,
        bins: bins.names(),
        present: present_line,
        lines: all,
        groups: groups_found.names,
    };
    let distribution = distribution(tested);
    let (groups, more_groups) = top_groups(groups(view));
    let window = tested.rule.window;
    let page = BacktestPage {
        frame: Frame::new(
            &format!("Backtest of {}", tested.rule.id),
            &format!("{}. {}", tested.rule.display_name, view.summary()),
            &data,
            &tested.hunt.read,
            Some(&view.tested.hunt.duplicates),
        )?
        .of_run(run),
        present: name(window),
        tiles: tiles(&tested.cells[present]),
        suggestions: view.suggestions.iter().map(|suggestion| suggestion.reason.clone()).collect(),
        heats: heats(view),
        score_heats: score_heats(view),
        bin: bins.name,
        timeline: Chart::of("findings over time", "finding", &timeline)?,
        timeline_rows: counted(&timeline),
        distribution_legend: legend(&tested.rule),
        distribution: Chart::of_logarithms("windows by how many matches they hold", "window", &distribution)?,
        distribution_rows: counted(&distribution),
        group_fields: tested.rule.group_by.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / "),
        groups,
        more_groups,
        moves: moves(view),
        scores: scores(view),
        outside: view.outside(),
        missed: missed(view),
        rule: rule.to_owned(),
        sql: sql::hunt(&tested.rule, tested.range, Range::default())?,
    };
    rendered(&page)
}

/// Names of groups, each once.
#[derive(Default)]
struct GroupNames {
    names: Vec<String>,
    indexes: HashMap<usize, usize>,
}

/// Returns the first findings of a cell, with indexes of their groups in `groups`.
fn first_findings(
    view: &BacktestView<'_>,
    cell: usize,
    groups: &mut GroupNames,
) -> Vec<(usize, String, String, usize)> {
    let matches = &view.tested.hunt.matches;
    let row = |found: &GridFinding| {
        let GroupNames { names, indexes } = groups;
        let index = *indexes.entry(matches.group_of[found.first]).or_insert_with(|| {
            names.push(view.group_of(found));
            names.len() - 1
        });
        (index, matches.times[found.first].to_string(), matches.times[found.last].to_string(), found.count)
    };
    view.tested.hunt.findings[cell].iter().take(MAX_FOUND).map(row).collect()
}

/// Returns the options of a hunt with a setting. Times of new matches have no options.
fn hunt_options(tested: &Backtest, setting: Setting) -> Option<String> {
    let Window { kind, period, threshold } = setting.window;
    let is_own = setting.newness == tested.rule.setting().newness;
    let rule = shell_word(&tested.rule.id);
    is_own.then(|| format!("--rule {rule} --threshold {threshold} --period {period} --window {kind}"))
}

fn name(window: Window) -> String {
    format!("threshold {} within {}, {} windows", window.threshold, window.period, window.kind)
}

/// As [`name`], with the times that decide which matches are new, if there are any.
fn cell_name(setting: Setting) -> String {
    let name = name(setting.window);
    setting.newness.map_or(name.clone(), |newness| format!("{name}, {}", newness_name(newness)))
}

fn tiles(Cell { stats, .. }: &Cell) -> Vec<Fact> {
    vec![
        fact("findings", stats.findings.to_string()),
        fact("events in them", stats.events.to_string()),
        fact("groups", stats.groups.to_string()),
        fact("days with any", stats.days.to_string()),
        fact("most on a day", stats.most_on_a_day.to_string()),
        fact("mean a week", decimal(stats.mean_a_week)),
        fact("median seconds to trigger", decimal(stats.median_seconds_to_trigger)),
    ]
}

fn heats(view: &BacktestView<'_>) -> Vec<Heat> {
    let cells: Vec<(usize, &Cell)> = view.tested.grid().iter().enumerate().collect();
    let most = cells.iter().map(|(_, cell)| cell.stats.findings).max().unwrap_or_default();
    let of_cell = |(number, Cell { setting, stats }): (usize, &Cell)| HeatCell {
        number,
        text: stats.findings.to_string(),
        shade: if stats.findings == 0 { 0 } else { heat(stats.findings, most, SHADES) + 1 },
        mark: view.mark(*setting).unwrap_or_default(),
        tip: format!(
            "{}: {} with {} of {}, on {}, at most {} on one",
            cell_name(*setting),
            number_of(stats.findings, "finding"),
            number_of(stats.events, "event"),
            number_of(stats.groups, "group"),
            number_of(stats.days, "day"),
            stats.most_on_a_day
        ),
    };
    grids(&cells, grid_name, &of_cell)
}

/// A ratio of a score.
type Ratio = fn(&Score) -> Option<f64>;

/// Returns the precision and the recall of each cell. Empty without labels.
fn score_heats(view: &BacktestView<'_>) -> Vec<Heat> {
    let Some(labelled) = view.labelled else {
        return Vec::new();
    };
    let cells: Vec<(usize, &Cell)> = view.tested.grid().iter().enumerate().collect();
    let ratios: [(&str, Ratio); 2] = [("precision", |score| score.precision), ("recall", |score| score.recall)];
    let heats = ratios.into_iter().map(|(what, ratio)| {
        let of_cell = |(number, cell): (usize, &Cell)| {
            let score = labelled.score(&view.tested.hunt.matches, &view.tested.hunt.findings[number]);
            let value = ratio(&score);
            HeatCell {
                number,
                text: whole_percent(value),
                shade: value.map_or(0, shade),
                mark: view.mark(cell.setting).unwrap_or_default(),
                tip: format!("{}: {what} {}", cell_name(cell.setting), percent(value)),
            }
        };
        grids(&cells, |setting| format!("{what}, {}", grid_name(setting)), &of_cell)
    });
    heats.flatten().collect()
}

/// Returns the shade of a ratio from 0 to 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a small number"
)]
fn shade(ratio: f64) -> usize {
    (ratio.clamp(0.0, 1.0) * SHADES as f64).round() as usize
}

/// Returns a table for each kind of window and newness, with a row for each threshold and a column for each period.
fn grids(
    cells: &[(usize, &Cell)],
    name: impl Fn(Setting) -> String,
    of_cell: &impl Fn((usize, &Cell)) -> HeatCell,
) -> Vec<Heat> {
    let part = |cell: &Cell| (cell.setting.window.kind, cell.setting.newness);
    let kinds = cells.chunk_by(|(_, a), (_, b)| part(a) == part(b));
    let heat = |cells: &[(usize, &Cell)]| {
        let mut thresholds: Vec<u32> = cells.iter().map(|(_, cell)| cell.setting.window.threshold.get()).collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        let row = |threshold: u32| {
            let of_row = cells.iter().filter(|(_, cell)| cell.setting.window.threshold.get() == threshold);
            HeatRow { threshold, cells: of_row.map(|cell| of_cell(*cell)).collect() }
        };
        let setting = cells[0].1.setting;
        let first = setting.window;
        let periods = cells.iter().filter(|(_, cell)| cell.setting.window.threshold == first.threshold);
        Heat {
            name: name(setting),
            periods: periods.map(|(_, cell)| cell.setting.window.period.to_string()).collect(),
            rows: thresholds.into_iter().map(row).collect(),
        }
    };
    kinds.map(heat).collect()
}

/// Returns the legend of the distribution.
fn legend(rule: &Rule) -> String {
    let Window { kind, period, threshold } = rule.window;
    let shown = match kind {
        WindowKind::Sliding => format!("All bursts of matches, by the most that any {period} of them hold."),
        WindowKind::Dedup | WindowKind::Tumbling => {
            format!("All {kind} windows of {period} that hold any match, by how many they hold.")
        }
    };
    match &rule.counts {
        Counts::Distinct(field) => format!("{shown} The threshold is of distinct values of {field}."),
        Counts::Sum(field) => format!("{shown} The threshold is of the sum of {field}."),
        Counts::Statistic(field, condition) => format!("{shown} Those whose {} are findings.", condition.of(field)),
        _ => format!("{shown} Those with {threshold} or more{} are findings of the present setting.", rule.peak_limits),
    }
}

/// Returns the number of windows of the present kind and period by their size. The size of a burst is its peak.
fn distribution(tested: &Backtest) -> Vec<(String, usize)> {
    let own = tested.rule.window;
    let every_match = Window { threshold: std::num::NonZeroU32::MIN, ..own };
    let Some(cell) = tested.position(every_match) else {
        return Vec::new();
    };
    let matches = &tested.hunt.matches;
    let times = |found: &GridFinding| {
        matches.matches_of(found).into_iter().map(|number| matches.times[number]).collect::<Vec<_>>()
    };
    let size = |found: &GridFinding| match own.kind {
        WindowKind::Sliding => peak(&times(found), own.period.micros()),
        WindowKind::Dedup | WindowKind::Tumbling => found.count,
    };
    let sizes: Vec<usize> = tested.hunt.findings[cell].iter().map(size).collect();
    let most = sizes.iter().copied().max().unwrap_or_default();
    let mut counts: Vec<(String, usize)> = (1..=most.min(MAX_SIZE)).map(|size| (size.to_string(), 0)).collect();
    if most > MAX_SIZE {
        counts.push((format!("more than {MAX_SIZE}"), 0));
    }
    for size in sizes {
        let index = (size - 1).min(counts.len() - 1);
        counts[index].1 += 1;
    }
    counts
}

/// Returns the largest number of sorted `times` within one period.
fn peak(times: &[Instant], period: i64) -> usize {
    let mut begin = 0;
    let within = times.iter().enumerate().map(|(end, time)| {
        while *time - times[begin] >= period {
            begin += 1;
        }
        end + 1 - begin
    });
    within.max().unwrap_or_default()
}

fn groups(view: &BacktestView<'_>) -> Vec<GroupRow> {
    let matches = &view.tested.hunt.matches;
    let found = &view.tested.hunt.findings[view.tested.present()];
    let of_group = found.chunk_by(|a, b| matches.group_of[a.first] == matches.group_of[b.first]);
    let row = |found: &[GridFinding]| GroupRow {
        rule: String::new(),
        name: view.group_of(&found[0]),
        findings: found.len(),
        events: found.iter().map(|found| found.count as u64).sum(),
        share: 0,
    };
    of_group.map(row).collect()
}

fn moves(view: &BacktestView<'_>) -> Vec<Moved> {
    let moved = |window: Window| {
        let moves = view.moves(view.tested.position(window)?);
        let groups = view.moved_groups(&moves);
        let more = groups.len().saturating_sub(MAX_GROUPS);
        let row =
            |(group, (gained, lost)): (usize, (usize, usize))| MovedGroup { name: view.group(group), gained, lost };
        Some(Moved {
            cell: name(window),
            gained: moves.gained.len(),
            lost: moves.lost.len(),
            groups: groups.into_iter().take(MAX_GROUPS).map(row).collect(),
            more,
        })
    };
    view.destinations().into_iter().filter_map(moved).collect()
}

fn scores(view: &BacktestView<'_>) -> Vec<Scored> {
    let Some(labelled) = view.labelled else {
        return Vec::new();
    };
    let scored = |(number, cell): (usize, &Cell)| {
        let score = labelled.score(&view.tested.hunt.matches, &view.tested.hunt.findings[number]);
        let counts = [score.true_findings, score.false_findings, score.caught, score.missed.len()];
        let ratios = [score.precision, score.recall, score.f1];
        Scored {
            cell: cell_name(cell.setting),
            mark: view.mark(cell.setting).unwrap_or_default(),
            values: counts.iter().map(ToString::to_string).chain(ratios.into_iter().map(percent)).collect(),
        }
    };
    view.scored_cells().map(scored).collect()
}

fn missed(view: &BacktestView<'_>) -> Vec<String> {
    let missed = view.missed_labels().into_iter();
    missed.map(|(label, _)| format!("line {}: {}", label.line, label.subject)).collect()
}
