//! Formats a backtest: heat tables for people, JSON for machines, CSV for spreadsheets.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use comfy_table::{Cell as TableCell, CellAlignment, Color, Table, presets};

use super::{csv_text, group_name, rows};
use crate::backtest::labels::{Label, Labelled};
use crate::backtest::moves::Moves;
use crate::backtest::suggestion::Suggestions;
use crate::backtest::{Backtest, Cell, days_text, is_enough_for_means};
use crate::error::Error;
use crate::hunt::grid::GridFinding;
use crate::rule::{NewnessPeriods, Setting, Window};
use crate::statistics::number_of;
use crate::text::printable;

mod json;

/// Maximum number of groups and labels in a table.
const MAX_LISTED: usize = 20;

/// Output format of a backtest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum BacktestFormat {
    /// Tables for people
    #[default]
    Table,
    /// One JSON object
    Json,
    /// Comma-separated values, one cell or finding per line
    Csv,
    /// `JUnit` XML, for `--compare`
    Junit,
}

/// A backtest, with everything that a report shows.
#[derive(Debug, Clone, Copy)]
pub struct BacktestView<'v> {
    /// The backtest.
    pub tested: &'v Backtest,
    /// Suggested settings.
    pub suggestions: &'v Suggestions,
    /// The labels, compared with the matches.
    pub labelled: Option<&'v Labelled>,
    /// The setting for which to list gained and lost findings.
    pub moved: Option<Window>,
}

impl BacktestView<'_> {
    /// Returns the report in `format`.
    pub fn text(&self, format: BacktestFormat, colours: bool) -> Result<String, Error> {
        match format {
            BacktestFormat::Table => Ok(self.tables(colours)),
            BacktestFormat::Json => json::document(self),
            BacktestFormat::Csv => self.csv(),
            BacktestFormat::Junit => Err(Error::usage("JUnit is a format of --compare only")),
        }
    }

    /// Returns what changes from the present setting to that of a cell.
    pub(super) fn moves(&self, cell: usize) -> Moves {
        let found = &self.tested.hunt.findings;
        Moves::between(&found[self.tested.present()], &found[cell])
    }

    /// Returns the name of a group.
    pub(super) fn group(&self, number: usize) -> String {
        group_name(self.tested.hunt.matches.groups[number].iter().map(Option::as_deref))
    }

    /// Returns the name of the group of a finding.
    pub(super) fn group_of(&self, found: &GridFinding) -> String {
        self.group(self.tested.hunt.matches.group_of[found.first])
    }

    fn tables(&self, colours: bool) -> String {
        let tested = self.tested;
        let mut text = String::new();
        // Writing to a string never fails.
        writeln!(text, "{}", printable(&format!("{}, {}", tested.rule.id, self.summary()))).ok();
        for cells in grids(tested.grid()) {
            writeln!(text, "\nfindings, {}\n{}", grid_name(cells[0].setting), self.heat(cells, colours).trim_fmt())
                .ok();
        }
        writeln!(text, "\n{}", self.legend()).ok();
        writeln!(text, "\n{}", self.stats()).ok();
        for (name, suggestion) in self.suggestions.named() {
            writeln!(text, "suggestion by {name}: {}", suggestion.reason).ok();
        }
        self.write_labels(&mut text);
        self.write_moves(&mut text);
        text
    }

    /// Explains the marks of cells.
    fn legend(&self) -> String {
        let own = self.tested.rule.setting();
        let mut parts = Vec::new();
        if self.tested.grid().iter().any(|cell| cell.setting == own) {
            let by = self.suggested_by(own).join(" and ");
            let by = if by.is_empty() { by } else { format!(", suggested by {by}") };
            parts.push(format!("[n] the rule's present setting{by}"));
        } else {
            parts.push(format!("the rule's present setting, {}, is not in the table", setting_name(own)));
        }
        if self.tested.grid().iter().any(|cell| self.mark(cell.setting) == Some("suggested")) {
            parts.push("<n> suggested".to_owned());
        }
        parts.join("; ")
    }

    /// Returns the names of what suggests a setting.
    fn suggested_by(&self, setting: Setting) -> Vec<&'static str> {
        let is_suggested =
            |window: Window| setting.window == window && setting.newness == self.tested.rule.setting().newness;
        let suggesting = self.suggestions.named().filter(|(_, suggestion)| suggestion.threshold.is_some());
        suggesting.filter(|(_, suggestion)| is_suggested(suggestion.window)).map(|(name, _)| name).collect()
    }

    /// Lists the malicious labels outside the range, if there are any.
    pub(super) fn outside(&self) -> Option<String> {
        let lines = self.labelled?.outside();
        let s = if lines.len() == 1 { "" } else { "s" };
        let labels = number_of(lines.len(), "malicious label");
        let mut listed: Vec<String> = lines.iter().take(MAX_LISTED).map(ToString::to_string).collect();
        listed.extend((lines.len() > MAX_LISTED).then(|| format!("and {} more", lines.len() - MAX_LISTED)));
        let listed = listed.join(", ");
        (!lines.is_empty()).then(|| format!("{labels} outside the range, neither caught nor missed: line{s} {listed}"))
    }

    /// Describes the data of the backtest.
    pub(super) fn summary(&self) -> String {
        let tested = self.tested;
        let span = tested.span().map(|(from, to)| {
            let days = tested.days().unwrap_or_default();
            let means = if is_enough_for_means(days) { "" } else { ", too short for means" };
            format!("{from} to {to} ({}{means}): ", days_text(days))
        });
        let (matches, groups) = (tested.hunt.matches.count, tested.hunt.matches.group_count);
        format!("{}{} of {}", span.unwrap_or_default(), number_of(matches, "match"), number_of(groups, "group"))
    }

    /// Returns "present" or "suggested" if `setting` is one.
    pub(super) fn mark(&self, setting: Setting) -> Option<&'static str> {
        let own = self.tested.rule.setting();
        if setting == own {
            return Some("present");
        }
        (!self.suggested_by(setting).is_empty()).then_some("suggested")
    }

    /// Returns the cells whose scores are shown, with their numbers: those with findings, and the present and suggested ones.
    pub(super) fn scored_cells(&self) -> impl Iterator<Item = (usize, &Cell)> {
        let cells = self.tested.grid().iter().enumerate();
        cells.filter(|(_, cell)| cell.stats.findings > 0 || self.mark(cell.setting).is_some())
    }

    /// Returns a table with the statistics of the present, the suggested and the requested setting.
    fn stats(&self) -> String {
        let mut shown: Vec<(String, &Cell)> = Vec::new();
        let mut show = |what: Option<&'static str>, cell: usize| {
            let cell = &self.tested.cells[cell];
            let names: Vec<&str> = what.into_iter().chain(self.suggested_by(cell.setting)).collect();
            if !shown.iter().any(|(_, other)| other.setting == cell.setting) {
                shown.push((names.join(", "), cell));
            }
        };
        show(Some("present"), self.tested.present());
        self.suggestions.windows().filter_map(|window| self.tested.position(window)).for_each(|cell| show(None, cell));
        self.moved
            .and_then(|window| self.tested.position(window))
            .into_iter()
            .for_each(|cell| show(Some("requested"), cell));
        let row = |(names, Cell { setting, stats }): (String, &Cell)| {
            vec![
                names,
                setting_name(*setting),
                stats.findings.to_string(),
                stats.events.to_string(),
                stats.groups.to_string(),
                stats.days.to_string(),
                stats.most_on_a_day.to_string(),
                decimal(stats.mean_a_week),
                decimal(stats.median_seconds_to_trigger),
            ]
        };
        let header =
            ["", "cell", "findings", "events", "groups", "days", "most on a day", "mean a week", "median s to trigger"];
        rows(&header, shown.into_iter().map(row))
    }

    /// Returns the settings to compare with the present one: the requested one and the suggested ones, without
    /// duplicates.
    pub(super) fn destinations(&self) -> Vec<Window> {
        let mut windows = Vec::new();
        for window in self.moved.into_iter().chain(self.suggestions.windows()) {
            if window != self.tested.rule.window && !windows.contains(&window) {
                windows.push(window);
            }
        }
        windows
    }

    fn heat(&self, cells: &[Cell], colours: bool) -> Table {
        let most = self.tested.grid().iter().map(|cell| cell.stats.findings).max().unwrap_or_default();
        let mut by_threshold: BTreeMap<u32, Vec<&Cell>> = BTreeMap::new();
        for cell in cells {
            by_threshold.entry(cell.setting.window.threshold.get()).or_default().push(cell);
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
        let header = periods.map(|cell| right(cell.setting.window.period.to_string()));
        table.set_header([right("threshold".to_owned())].into_iter().chain(header).collect::<Vec<_>>());
        for (threshold, cells) in by_threshold {
            let shown = cells.iter().map(|cell| {
                let findings = cell.stats.findings;
                let text = match self.mark(cell.setting) {
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

    fn write_labels(&self, text: &mut String) {
        let Some(labelled) = self.labelled else {
            return;
        };
        let tested = self.tested;
        let row = |number: usize, cell: &Cell| {
            let score = labelled.score(&tested.hunt.matches, &tested.hunt.findings[number]);
            let mark = self.mark(cell.setting).unwrap_or_default();
            vec![
                cell.setting.window.kind.to_string(),
                cell.setting.window.period.to_string(),
                cell.setting.window.threshold.to_string(),
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
        let shown: Vec<Vec<String>> = self.scored_cells().map(|(number, cell)| row(number, cell)).collect();
        let others = tested.grid().len() - shown.len();
        // Writing to a string never fails.
        writeln!(text, "\nlabels: true and false findings, caught and missed malicious labels").ok();
        write!(text, "{}", rows(&header, shown.into_iter())).ok();
        if others > 0 {
            writeln!(text, "(and {} without findings)", number_of(others, "cell")).ok();
        }
        if let Some(outside) = self.outside() {
            writeln!(text, "{outside}").ok();
        }
        let missed = self.missed_labels();
        if missed.is_empty() {
            return;
        }
        writeln!(text, "\nmissed by the present setting:").ok();
        for (label, matched) in missed.iter().take(MAX_LISTED) {
            let why = if *matched { "below the threshold" } else { "the rule matches none of its events in the range" };
            writeln!(text, "  line {}: {}: {why}", label.line, printable(&label.subject.to_string())).ok();
        }
        if missed.len() > MAX_LISTED {
            writeln!(text, "  and {} more; use --format json to list all", missed.len() - MAX_LISTED).ok();
        }
    }

    /// Returns the malicious labels that the present setting misses, and whether the rule matches any of their events.
    pub(super) fn missed_labels(&self) -> Vec<(&Label, bool)> {
        let Some(labelled) = self.labelled else {
            return Vec::new();
        };
        let hunt = &self.tested.hunt;
        let missed = labelled.score(&hunt.matches, &hunt.findings[self.tested.present()]).missed;
        labelled.malicious().filter(|(label, _)| missed.contains(&label.line)).collect()
    }

    /// Returns the groups of moved findings, with the numbers gained and lost. Most changes come first.
    pub(super) fn moved_groups(&self, moves: &Moves) -> Vec<(usize, (usize, usize))> {
        let mut groups: Vec<_> = moves.by_group(&self.tested.hunt.matches).into_iter().collect();
        groups.sort_by_key(|(group, (gained, lost))| (std::cmp::Reverse(gained + lost), *group));
        groups
    }

    fn write_moves(&self, text: &mut String) {
        for window in self.destinations() {
            let Some(cell) = self.tested.position(window) else {
                continue;
            };
            let moves = self.moves(cell);
            let (name, gained, lost) = (window_name(window), moves.gained.len(), moves.lost.len());
            writeln!(text, "\nfrom the present setting to {name}: +{gained} / -{lost}").ok();
            let groups = self.moved_groups(&moves);
            if groups.is_empty() {
                continue;
            }
            let more = groups.len().saturating_sub(MAX_LISTED);
            let listed = groups.into_iter().take(MAX_LISTED);
            let row = |(group, (gained, lost)): (usize, (usize, usize))| {
                vec![self.group(group), format!("+{gained}"), format!("-{lost}")]
            };
            write!(text, "{}", rows(&["group", "gained", "lost"], listed.map(row))).ok();
            if more > 0 {
                writeln!(text, "and {}; use --format json to list all", number_of(more, "more group")).ok();
            }
            if self.moved == Some(window) {
                write!(text, "{}", self.moved_findings(&moves)).ok();
            }
        }
    }

    /// Returns the gained and lost findings as a table.
    fn moved_findings(&self, moves: &Moves) -> String {
        let matches = &self.tested.hunt.matches;
        let mut found: Vec<(&str, &GridFinding)> = moves.gained.iter().map(|found| ("gained", found)).collect();
        found.extend(moves.lost.iter().map(|found| ("lost", found)));
        found.sort_by_key(|(_, found)| matches.times[found.first]);
        let row = |(change, found): (&str, &GridFinding)| {
            vec![
                change.to_owned(),
                self.group_of(found),
                found.count.to_string(),
                matches.times[found.first].to_string(),
                matches.times[found.last].to_string(),
                matches.times[found.trigger].to_string(),
            ]
        };
        rows(&["", "group", "count", "first event", "last event", "triggered"], found.into_iter().map(row))
    }

    fn csv(&self) -> Result<String, Error> {
        let number = |value: Option<f64>| value.map_or_else(String::new, |value| value.to_string());
        let columns = |index: usize| {
            let Cell { setting: Setting { window, newness, .. }, stats } = &self.tested.cells[index];
            let moves = self.moves(index);
            let mut columns = vec![
                ("window", window.kind.to_string()),
                ("period_minutes", crate::finding::minutes(window.period).to_string()),
                ("threshold", window.threshold.to_string()),
                ("findings", stats.findings.to_string()),
                ("events", stats.events.to_string()),
                ("groups", stats.groups.to_string()),
                ("days", stats.days.to_string()),
                ("most_on_a_day", stats.most_on_a_day.to_string()),
                ("mean_a_week", number(stats.mean_a_week)),
                ("median_seconds_to_trigger", number(stats.median_seconds_to_trigger)),
                ("gained", moves.gained.len().to_string()),
                ("lost", moves.lost.len().to_string()),
            ];
            if let Some(NewnessPeriods { history, learning }) = newness {
                let learning = learning.map_or_else(String::new, |learning| learning.to_string());
                columns.extend([("history", history.to_string()), ("learning", learning)]);
            }
            if let Some(labelled) = self.labelled {
                let score = labelled.score(&self.tested.hunt.matches, &self.tested.hunt.findings[index]);
                columns.extend([
                    ("true_findings", score.true_findings.to_string()),
                    ("false_findings", score.false_findings.to_string()),
                    ("unlabelled", score.unlabelled.to_string()),
                    ("caught", score.caught.to_string()),
                    ("missed", score.missed.len().to_string()),
                    ("precision", number(score.precision)),
                    ("recall", number(score.recall)),
                    ("f1", number(score.f1)),
                ]);
            }
            columns
        };
        let header: Vec<&str> = columns(self.tested.present()).into_iter().map(|(name, _)| name).collect();
        let record = |index: usize| columns(index).into_iter().map(|(_, cell)| cell).collect();
        csv_text(&header, (0..self.tested.grid().len()).map(record))
    }
}

/// Returns the parts of a grid: the cells with one kind of window and one newness.
pub(super) fn grids(cells: &[Cell]) -> impl Iterator<Item = &[Cell]> {
    let part = |cell: &Cell| (cell.setting.window.kind, cell.setting.newness);
    cells.chunk_by(move |one, other| part(one) == part(other))
}

/// Returns the name of the part of the grid with the kind of window and the newness of `setting`.
pub(super) fn grid_name(setting: Setting) -> String {
    let windows = format!("{} windows", setting.window.kind);
    setting.newness.map_or(windows.clone(), |newness| format!("{windows}, {}", newness_name(newness)))
}

/// Returns the times that decide which matches are new, as text.
pub(super) fn newness_name(newness: NewnessPeriods) -> String {
    let learning = newness.learning.map(|learning| format!(", learning {learning}"));
    format!("new within {}{}", newness.history, learning.unwrap_or_default())
}

/// Returns the short name of a setting: threshold, period and kind.
pub(super) fn window_name(window: Window) -> String {
    format!("{}/{}/{}", window.threshold, window.period, window.kind)
}

/// As [`window_name`], with the times that decide which matches are new, if there are any.
pub(super) fn setting_name(setting: Setting) -> String {
    let name = window_name(setting.window);
    setting.newness.map_or(name.clone(), |newness| format!("{name}, {}", newness_name(newness)))
}

/// Returns a ratio as a percentage.
pub(super) fn percent(ratio: Option<f64>) -> String {
    percent_with(1, ratio)
}

/// Returns a ratio as a percentage without decimals, for narrow cells.
pub(super) fn whole_percent(ratio: Option<f64>) -> String {
    percent_with(0, ratio)
}

fn percent_with(decimals: usize, ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.decimals$} %", ratio * 100.0))
}

/// Returns a mean or median with one decimal.
pub(super) fn decimal(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

/// Background colours from few findings to many, as indices of the 256-colour palette.
const SHADES: [u8; 6] = [230, 229, 222, 215, 209, 203];

/// Returns the shade of a count among counts up to `most`, on a logarithmic scale from 0 to `steps - 1`.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a shade needs no precision"
)]
pub(super) fn heat(count: usize, most: usize, steps: usize) -> usize {
    if count == 0 || most <= 1 {
        return 0;
    }
    let share = (count as f64).ln() / (most as f64).ln();
    ((share * steps as f64) as usize).min(steps - 1)
}
