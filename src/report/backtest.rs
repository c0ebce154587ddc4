//! A backtest as text: heat tables for people, JSON for machines, CSV for spreadsheets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{Cell as TableCell, CellAlignment, Color, Table, presets};

use super::{group_name, rows};
use crate::backtest::labels::Labelled;
use crate::backtest::moves::Moves;
use crate::backtest::suggestion::Suggestions;
use crate::backtest::{Backtest, Cell, days_text, is_enough_for_means};
use crate::error::Error;
use crate::hunt::sweep::Found;
use crate::rule::{Window, WindowKind};
use crate::statistics::number_of;
use crate::text::{csv_cell, printable};
use crate::time;

mod json;

/// How many groups and labels a table lists.
const LISTED: usize = 20;

/// How a backtest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Tables for people
    #[default]
    Table,
    /// One JSON object
    Json,
    /// Comma-separated values, a cell or a finding a line
    Csv,
    /// `JUnit` XML, for `--compare`
    Junit,
}

/// A backtest with what is told of it.
#[derive(Debug, Clone, Copy)]
pub struct View<'v> {
    /// The backtest.
    pub tested: &'v Backtest,
    /// What its cells suggest.
    pub suggestions: &'v Suggestions,
    /// Labels held against its matches.
    pub labelled: Option<&'v Labelled>,
    /// The cell to which a move is listed.
    pub moved: Option<Window>,
}

impl View<'_> {
    /// The text in `format`.
    pub fn text(&self, format: Format, colours: bool) -> Result<String, Error> {
        match format {
            Format::Table => Ok(self.tables(colours)),
            Format::Json => json::document(self),
            Format::Csv => self.csv(),
            Format::Junit => Err(Error::usage("a backtest has no form in JUnit")),
        }
    }

    /// What moves from the present setting to a cell.
    pub(super) fn moves(&self, cell: usize) -> Moves {
        let found = &self.tested.sweep.found;
        Moves::between(&found[self.tested.present()], &found[cell])
    }

    /// The name of a group.
    pub(super) fn group(&self, number: usize) -> String {
        group_name(self.tested.sweep.matches.groups[number].iter().map(Option::as_deref))
    }

    /// The group of a finding.
    pub(super) fn group_of(&self, found: &Found) -> String {
        self.group(self.tested.sweep.matches.group_of[found.first])
    }

    fn tables(&self, colours: bool) -> String {
        let tested = self.tested;
        let mut text = String::new();
        // Writing to a string does not fail.
        writeln!(text, "{}", printable(&format!("{}, {}", tested.rule.id, self.summary()))).ok();
        let mut kinds: Vec<WindowKind> = tested.grid().iter().map(|cell| cell.window.kind).collect();
        kinds.dedup();
        for kind in kinds {
            writeln!(text, "\nfindings, {kind} windows\n{}", self.heat(kind, colours)).ok();
        }
        writeln!(text, "\n[n] the rule's present setting{}", self.marked()).ok();
        let present = &tested.cells[tested.present()];
        writeln!(text, "\n{}", stats(&[("present", present)], self)).ok();
        for suggestion in [&self.suggestions.within_budget, &self.suggestions.knee].into_iter().flatten() {
            writeln!(text, "suggestion: {}", suggestion.reason).ok();
        }
        self.tell_labels(&mut text);
        self.tell_moves(&mut text);
        text
    }

    fn marked(&self) -> &'static str {
        if self.suggestions.windows().next().is_some() { "; <n> suggested" } else { "" }
    }

    /// Which malicious labels lie outside the range.
    pub(super) fn outside(&self) -> Option<String> {
        let lines = self.labelled?.outside();
        let s = if lines.len() == 1 { "" } else { "s" };
        let labels = number_of(lines.len(), "malicious label");
        let mut listed: Vec<String> = lines.iter().take(LISTED).map(ToString::to_string).collect();
        listed.extend((lines.len() > LISTED).then(|| format!("and {} more", lines.len() - LISTED)));
        let listed = listed.join(", ");
        let told = || format!("{labels} outside the range, neither caught nor missed: line{s} {listed}");
        (!lines.is_empty()).then(told)
    }

    /// What was looked at.
    pub(super) fn summary(&self) -> String {
        let tested = self.tested;
        let span = tested.span().map(|(from, to)| {
            let days = tested.days().unwrap_or_default();
            let means = if is_enough_for_means(days) { "" } else { ", too short a time for means" };
            format!("{} to {} ({}{means}): ", time::rfc3339(from), time::rfc3339(to), days_text(days))
        });
        let (matches, groups) = (tested.sweep.matches.times.len(), tested.sweep.matches.groups.len());
        format!("{}{} of {}", span.unwrap_or_default(), number_of(matches, "match"), number_of(groups, "group"))
    }

    /// Whether a window is the present one, or one that is suggested.
    pub(super) fn mark(&self, window: Window) -> Option<&'static str> {
        if window == self.tested.rule.window {
            return Some("present");
        }
        self.suggestions.windows().any(|suggested| suggested == window).then_some("suggested")
    }

    /// The cells to which moves are told, each once: the one that was asked for, and those that are suggested.
    pub(super) fn destinations(&self) -> Vec<Window> {
        let mut windows = Vec::new();
        for window in self.moved.into_iter().chain(self.suggestions.windows()) {
            if window != self.tested.rule.window && !windows.contains(&window) {
                windows.push(window);
            }
        }
        windows
    }

    fn heat(&self, kind: WindowKind, colours: bool) -> Table {
        let cells: Vec<&Cell> = self.tested.grid().iter().filter(|cell| cell.window.kind == kind).collect();
        let most = self.tested.grid().iter().map(|cell| cell.stats.findings).max().unwrap_or_default();
        let mut by_threshold: BTreeMap<u32, Vec<&Cell>> = BTreeMap::new();
        for cell in cells {
            by_threshold.entry(cell.window.threshold.get()).or_default().push(cell);
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if colours {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        let right = |text: String| TableCell::new(text).set_alignment(CellAlignment::Right);
        let periods = by_threshold.values().next().into_iter().flatten();
        let header = periods.map(|cell| right(cell.window.period.to_string()));
        table.set_header([right("threshold".to_owned())].into_iter().chain(header).collect::<Vec<_>>());
        for (threshold, cells) in by_threshold {
            let shown = cells.iter().map(|cell| {
                let findings = cell.stats.findings;
                let text = match self.mark(cell.window) {
                    Some("present") => format!("[{findings}]"),
                    Some(_) => format!("<{findings}>"),
                    None => format!("{findings} "),
                };
                match SHADES.get(heat(findings, most, SHADES.len())) {
                    Some(shade) if findings > 0 => right(text).bg(Color::AnsiValue(*shade)).fg(Color::Black),
                    _ => right(text),
                }
            });
            table.add_row([right(threshold.to_string())].into_iter().chain(shown).collect::<Vec<_>>());
        }
        table
    }

    fn tell_labels(&self, text: &mut String) {
        let Some(labelled) = self.labelled else {
            return;
        };
        let (tested, percent) = (self.tested, |ratio: Option<f64>| {
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0))
        });
        let row = |number: usize, cell: &Cell| {
            let score = labelled.score(&tested.sweep.matches, &tested.sweep.found[number]);
            let mark = self.mark(cell.window).unwrap_or_default();
            vec![
                cell.window.kind.to_string(),
                cell.window.period.to_string(),
                cell.window.threshold.to_string(),
                score.true_findings.to_string(),
                score.false_findings.to_string(),
                score.caught.to_string(),
                score.missed.len().to_string(),
                percent(score.precision),
                percent(score.recall),
                percent(score.f1),
                mark.to_owned(),
            ]
        };
        let header =
            ["window", "period", "threshold", "true", "false", "caught", "missed", "precision", "recall", "F1", ""];
        let cells = tested.grid().iter().enumerate().map(|(number, cell)| row(number, cell));
        // Writing to a string does not fail.
        writeln!(text, "\nlabels: findings that are true and false, malicious labels that are caught and missed").ok();
        write!(text, "{}", rows(&header, cells)).ok();
        if let Some(outside) = self.outside() {
            writeln!(text, "{outside}").ok();
        }
        let missed = labelled.score(&tested.sweep.matches, &tested.sweep.found[tested.present()]).missed;
        if missed.is_empty() {
            return;
        }
        writeln!(text, "\nmissed by the present setting:").ok();
        let labels = labelled.malicious().filter(|(label, _)| missed.contains(&label.line));
        for (label, matched) in labels.take(LISTED) {
            let why = if matched { "below the threshold" } else { "the rule matches none of it in the range" };
            writeln!(text, "  line {}: {}: {why}", label.line, printable(&label.subject.to_string())).ok();
        }
        if missed.len() > LISTED {
            writeln!(text, "  and {} more; `--format json` has them all", missed.len() - LISTED).ok();
        }
    }

    fn tell_moves(&self, text: &mut String) {
        for window in self.destinations() {
            let Some(cell) = self.tested.position(window) else {
                continue;
            };
            let moves = self.moves(cell);
            let named = format!("{}/{}/{}", window.threshold, window.period, window.kind);
            // Writing to a string does not fail.
            writeln!(text, "\nfrom the present setting to {named}: +{} / -{}", moves.gained.len(), moves.lost.len())
                .ok();
            let groups = moves.by_group(&self.tested.sweep.matches);
            let mut groups: Vec<(usize, (usize, usize))> = groups.into_iter().collect();
            groups.sort_by_key(|(group, (gained, lost))| (std::cmp::Reverse(gained + lost), *group));
            if groups.is_empty() {
                continue;
            }
            let left_out = groups.len().saturating_sub(LISTED);
            let listed = groups.into_iter().take(LISTED);
            let row = |(group, (gained, lost)): (usize, (usize, usize))| {
                vec![self.group(group), format!("+{gained}"), format!("-{lost}")]
            };
            write!(text, "{}", rows(&["group", "gained", "lost"], listed.map(row))).ok();
            if left_out > 0 {
                writeln!(text, "and {}; `--format json` has them all", number_of(left_out, "more group")).ok();
            }
            if self.moved == Some(window) {
                write!(text, "{}", self.listed(&moves)).ok();
            }
        }
    }

    /// The findings that move.
    fn listed(&self, moves: &Moves) -> String {
        let matches = &self.tested.sweep.matches;
        let mut found: Vec<(&str, &Found)> = moves.gained.iter().map(|found| ("gained", found)).collect();
        found.extend(moves.lost.iter().map(|found| ("lost", found)));
        found.sort_by_key(|(_, found)| matches.times[found.first]);
        let row = |(what, found): (&str, &Found)| {
            vec![
                what.to_owned(),
                self.group_of(found),
                found.count.to_string(),
                time::rfc3339(matches.times[found.first]),
                time::rfc3339(matches.times[found.last]),
                time::rfc3339(matches.times[found.trigger]),
            ]
        };
        rows(&["", "group", "count", "first event", "last event", "triggered"], found.into_iter().map(row))
    }

    fn csv(&self) -> Result<String, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Internal(format!("cells as CSV: {error}"));
        let mut writer = csv::Writer::from_writer(Vec::new());
        let mut header = vec![
            "window",
            "period_minutes",
            "threshold",
            "findings",
            "events",
            "groups",
            "days",
            "most_on_a_day",
            "mean_a_week",
            "median_seconds_to_trigger",
            "gained",
            "lost",
        ];
        if self.labelled.is_some() {
            header.extend(["true_findings", "false_findings", "unlabelled", "caught", "missed"]);
            header.extend(["precision", "recall", "f1"]);
        }
        writer.write_record(&header).map_err(|error| failed(&error))?;
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        for (cell_number, Cell { window, stats }) in self.tested.grid().iter().enumerate() {
            let moves = self.moves(cell_number);
            let mut record = vec![
                window.kind.to_string(),
                crate::finding::minutes(window.period).to_string(),
                window.threshold.to_string(),
                stats.findings.to_string(),
                stats.events.to_string(),
                stats.groups.to_string(),
                stats.days.to_string(),
                stats.most_on_a_day.to_string(),
                number(stats.mean_a_week),
                number(stats.median_seconds_to_trigger),
                moves.gained.len().to_string(),
                moves.lost.len().to_string(),
            ];
            if let Some(labelled) = self.labelled {
                let score = labelled.score(&self.tested.sweep.matches, &self.tested.sweep.found[cell_number]);
                let missed = score.missed.len();
                let counts = [score.true_findings, score.false_findings, score.unlabelled, score.caught, missed];
                record.extend(counts.map(|count| count.to_string()));
                record.extend([score.precision, score.recall, score.f1].map(number));
            }
            writer.write_record(record.iter().map(|cell| csv_cell(cell))).map_err(|error| failed(&error))?;
        }
        let bytes = writer.into_inner().map_err(|error| failed(&error))?;
        String::from_utf8(bytes).map_err(|error| failed(&error))
    }
}

/// Backgrounds from few findings to many, of the 256 colours.
const SHADES: [u8; 6] = [230, 229, 222, 215, 209, 203];

/// How hot a count is among counts up to `most`, in `steps`, by its logarithm.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a shade of a colour"
)]
pub(super) fn heat(count: usize, most: usize, steps: usize) -> usize {
    if count == 0 || most <= 1 {
        return 0;
    }
    let share = (count as f64).ln() / (most as f64).ln();
    ((share * steps as f64) as usize).min(steps - 1)
}

/// The numbers of cells, one a line.
fn stats(cells: &[(&str, &Cell)], view: &View<'_>) -> String {
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    let row = |(name, Cell { window, stats }): &(&str, &Cell)| {
        vec![
            (*name).to_owned(),
            format!("{}/{}/{}", window.threshold, window.period, window.kind),
            stats.findings.to_string(),
            stats.events.to_string(),
            stats.groups.to_string(),
            stats.days.to_string(),
            stats.most_on_a_day.to_string(),
            number(stats.mean_a_week),
            number(stats.median_seconds_to_trigger),
        ]
    };
    let suggested = view.tested.cells.iter().filter(|cell| view.mark(cell.window) == Some("suggested"));
    let suggested: Vec<(&str, &Cell)> = suggested.map(|cell| ("suggested", cell)).collect();
    let moved = view.moved.filter(|window| view.mark(*window).is_none());
    let moved = moved.and_then(|window| view.tested.position(window));
    let moved: Vec<(&str, &Cell)> = moved.map(|cell| ("asked for", &view.tested.cells[cell])).into_iter().collect();
    let header =
        ["", "cell", "findings", "events", "groups", "days", "most on a day", "mean a week", "median s to trigger"];
    rows(&header, cells.iter().chain(&suggested).chain(&moved).map(row))
}
