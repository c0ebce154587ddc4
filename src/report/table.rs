//! Tables for people.

use std::io::{self, IsTerminal as _};

use comfy_table::{
    Attribute, Cell, CellAlignment, Color, ColumnConstraint, ContentArrangement, Table, TableComponent, Width, presets,
};

use crate::rule::Severity;
use crate::text::printable;

/// Blanks between two columns.
const GAP: usize = 2;

/// Cells of several words are folded to this width before a column is dropped. A date and a time of day fit into it.
const FOLDED_WIDTH: usize = 16;

/// Where a table is shown: its width in columns, `None` for no limit, and whether it has colors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Screen {
    width: Option<u16>,
    is_colored: bool,
}

impl Screen {
    /// A file, without limit or colors.
    pub const FILE: Screen = Screen { width: None, is_colored: false };

    /// Returns the screen of standard output. `COLUMNS` sets its width, also for pipes. `NO_COLOR` turns colors off.
    pub fn of_standard_output() -> Screen {
        let without_colors = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Screen {
            width: columns_variable().or_else(|| Table::new().width()),
            is_colored: io::stdout().is_terminal() && !without_colors,
        }
    }

    /// Returns the screen of standard error, without colors. `COLUMNS` sets its width, also for pipes.
    pub fn of_standard_error() -> Screen {
        Screen::of_width(columns_variable().or_else(|| Table::new().use_stderr().width()))
    }

    /// Returns the width in columns. `None` if there is no limit.
    pub(super) fn width(self) -> Option<usize> {
        self.width.map(usize::from)
    }

    /// Returns a screen without colors.
    pub(super) fn of_width(width: Option<u16>) -> Screen {
        Screen { width, is_colored: false }
    }
}

/// Returns the width that `COLUMNS` sets.
#[expect(clippy::disallowed_methods, reason = "terminals are described by this variable")]
fn columns_variable() -> Option<u16> {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.trim().parse().ok());
    columns.filter(|width| *width > 0)
}

/// Returns a table of escaped cells for standard output, at most as wide as the terminal.
pub fn rows(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    rows_on(Screen::of_standard_output(), header, &[], rows)
}

/// Returns a table of escaped cells for standard output. If it is too wide, it drops the `droppable` columns, in
/// this order.
pub fn rows_dropping(header: &[&str], droppable: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    rows_on(Screen::of_standard_output(), header, droppable, rows)
}

/// Returns a table of escaped cells, at most as wide as `screen`. No word is broken.
///
/// If the table is too wide, cells of several words are folded. If that is not enough, the columns with the names
/// `droppable` are dropped, in this order, and a line below the table names them. If that is not enough either, the table
/// becomes a list of its rows, with all columns and a line for each cell.
pub(super) fn rows_on(
    screen: Screen,
    header: &[&str],
    droppable: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let header: Vec<String> = header.iter().map(|name| printable(name)).collect();
    let rows: Vec<Vec<String>> = rows.map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let widths = ColumnWidths::of(&header, &rows);
    let mut shown: Vec<usize> = (0..header.len()).collect();
    let mut dropped = Vec::new();
    let mut droppable = droppable.iter();
    let fitted = loop {
        if let Some(fitted) = widths.fitted(&shown, screen.width, FOLDED_WIDTH) {
            break Some(fitted);
        }
        let Some(name) = droppable.next() else { break widths.fitted(&shown, screen.width, 0) };
        if let Some(index) = header.iter().position(|other| other == name) {
            shown.retain(|column| *column != index);
            dropped.push(*name);
        }
    };
    let Some(fitted) = fitted else {
        return listed(&header, &rows, usize::from(screen.width.unwrap_or_default()));
    };
    let mut text = drawn(&header, &rows, &shown, &fitted, screen.is_colored);
    if !dropped.is_empty() {
        let line = format!("(no room for: {})", dropped.join(", "));
        text += &(wrapped(&line, usize::from(screen.width.unwrap_or(u16::MAX))).join("\n") + "\n");
    }
    text
}

/// The widths that the columns of a table need.
struct ColumnWidths {
    /// The widest cell.
    natural: Vec<usize>,
    /// The longest word.
    least: Vec<usize>,
}

impl ColumnWidths {
    fn of(header: &[String], rows: &[Vec<String>]) -> ColumnWidths {
        let mut whole = Table::new();
        let mut words = Table::new();
        for row in rows.iter().map(Vec::as_slice).chain([header]) {
            whole.add_row(row);
            words.add_row(row.iter().map(|cell| cell.replace(' ', "\n")));
        }
        let widths = |table: &Table| {
            let mut widths: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
            widths.resize(header.len(), 0);
            widths
        };
        ColumnWidths { natural: widths(&whole), least: widths(&words) }
    }

    /// Returns the widths of the columns `shown` if they fit into `width`. Columns are folded to no less than `folded`.
    fn fitted(&self, shown: &[usize], width: Option<u16>, folded: usize) -> Option<Vec<usize>> {
        let mut fitted: Vec<usize> = shown.iter().map(|column| self.natural[*column]).collect();
        let Some(width) = width else { return Some(fitted) };
        let least: Vec<usize> =
            shown.iter().map(|column| self.least[*column].max(folded.min(self.natural[*column]))).collect();
        let gaps = GAP * shown.len().saturating_sub(1);
        let room = usize::from(width).checked_sub(gaps)?;
        if least.iter().sum::<usize>() > room {
            return None;
        }
        let mut excess = fitted.iter().sum::<usize>().saturating_sub(room);
        while excess > 0 {
            let foldable = (0..fitted.len()).filter(|column| fitted[*column] > least[*column]);
            // Of equally wide columns, the first one.
            let widest = foldable.rev().max_by_key(|column| fitted[*column])?;
            // Down to the next column, but at least by one.
            let others = (0..fitted.len()).filter(|column| *column != widest && fitted[*column] > least[*column]);
            let next = others.map(|column| fitted[column]).max().unwrap_or_default();
            let cut = (fitted[widest] - next.max(least[widest]).min(fitted[widest] - 1)).min(excess);
            fitted[widest] -= cut;
            excess -= cut;
        }
        Some(fitted)
    }
}

/// Returns the table of the columns `shown`, with these widths.
fn drawn(header: &[String], rows: &[Vec<String>], shown: &[usize], widths: &[usize], is_colored: bool) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if is_colored {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    if header.iter().any(|name| !name.is_empty()) {
        table.set_style(TableComponent::HeaderLines, '─');
        table.set_header(shown.iter().map(|column| Cell::new(&header[*column]).add_attribute(Attribute::Bold)));
    }
    let empty = String::new();
    for row in rows {
        table.add_row(shown.iter().map(|column| {
            let text = row.get(*column).unwrap_or(&empty);
            let color = (header[*column] == "severity").then(|| severity_color(text)).flatten();
            color.map_or_else(|| Cell::new(text), |color| Cell::new(text).fg(color))
        }));
    }
    // A dash stands for a number that there is not.
    let is_number = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let mut cells = cells.filter(|cell| !cell.is_empty() && *cell != "-").peekable();
        cells.peek().is_some() && cells.all(|cell| is_decimal(cell))
    };
    let last = shown.len().saturating_sub(1);
    for (place, (column, width)) in table.column_iter_mut().zip(widths).enumerate() {
        let gap = if place == last { 0 } else { GAP };
        // Widths and gaps are those of a terminal or of cells, which the library counts in this type too.
        let [width, gap] = [width + gap, gap].map(|width| u16::try_from(width).unwrap_or(u16::MAX));
        column.set_padding((0, gap));
        column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(width.max(1))));
        if !header[shown[place]].is_empty() && is_number(shown[place]) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt() + "\n"
}

/// Returns the color of a severity, which may be followed by other words.
fn severity_color(text: &str) -> Option<Color> {
    let severity = Severity::ALL.into_iter().find(|severity| text.split(' ').next() == Some(&severity.to_string()))?;
    Some(match severity {
        Severity::Info => Color::DarkGrey,
        Severity::Low => Color::Blue,
        Severity::Medium => Color::DarkYellow,
        Severity::High => Color::Red,
        Severity::Critical => Color::Magenta,
    })
}

/// Returns a paragraph for each row, with a line for each of its cells. Rows of names and values have a line each.
fn listed(header: &[String], rows: &[Vec<String>], width: usize) -> String {
    if header.iter().all(String::is_empty)
        && let Some(pairs) =
            rows.iter().map(|row| <&[String; 2]>::try_from(row.as_slice()).ok()).collect::<Option<Vec<_>>>()
    {
        let names: Vec<String> = pairs.iter().map(|[name, _]| name.clone()).collect();
        let values: Vec<String> = pairs.iter().map(|[_, value]| value.clone()).collect();
        return listed(&names, &[values], width);
    }
    let names = header.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let paragraph = |row: &Vec<String>| {
        let lines = header.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        let lines = lines.map(|(name, cell)| {
            let indent = if names == 0 { 0 } else { names + GAP };
            let wrapped = wrapped(cell, width.saturating_sub(indent)).join(&format!("\n{:indent$}", ""));
            format!("{name:indent$}{wrapped}").trim_end().to_owned() + "\n"
        });
        lines.collect::<String>()
    };
    rows.iter().map(paragraph).collect::<Vec<_>>().join("\n")
}

/// Returns the lines of `text`, broken between words. A longer word has a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Whether a cell is digits, with or without a fraction.
fn is_decimal(cell: &str) -> bool {
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match cell.split_once('.') {
        Some((whole, fraction)) => is_digits(whole) && is_digits(fraction),
        None => is_digits(cell),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [&str; 4] = ["severity", "rule", "first event", "group"];

    fn findings() -> impl Iterator<Item = Vec<String>> {
        let row = |title: &str, actor: &str| {
            ["High", title, "2026-09-01T23:55:00Z", &format!("111122223333 / {actor}")].map(str::to_owned).to_vec()
        };
        [
            row("AWS Unsuccessful MFA attempt", "anaya"),
            row("Root", "arn:aws:iam::111122223333:role/deployment-of-everything"),
            row("多要素認証の失敗", "анна"),
        ]
        .into_iter()
    }

    fn on(width: Option<u16>, droppable: &[&str]) -> String {
        rows_on(Screen::of_width(width), &HEADER, droppable, findings())
    }

    #[test]
    fn no_word_is_broken_at_any_width() {
        let words: Vec<String> = findings()
            .flatten()
            .flat_map(|cell| cell.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        for width in (20..200).map(Some).chain([None]) {
            let text = on(width, &[]);
            for word in &words {
                assert!(text.split_whitespace().any(|shown| shown == word), "{word} in {width:?}:\n{text}");
            }
            let words_dropped = on(width, &["first event", "rule"]);
            for text in [&text, &words_dropped] {
                assert!(text.lines().all(|line| line.trim_end() == line), "trailing blanks in {width:?}:\n{text}");
                if let Some(width) = width.filter(|width| *width >= 70) {
                    let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
                    assert!(longest <= usize::from(width), "{longest} in {width}:\n{text}");
                }
            }
        }
    }

    #[test]
    fn columns_are_dropped_in_order_before_a_table_is_a_list() {
        let droppable = ["first event", "rule"];
        let mut dropped = Vec::new();
        for width in (20..=200).rev() {
            let text = on(Some(width), &droppable);
            let is_list = !text.contains('─');
            let named = text.lines().find_map(|line| line.strip_prefix("(no room for: "));
            let header = text.lines().next().unwrap();
            for name in HEADER.iter().filter(|_| !is_list) {
                let is_dropped = named.is_some_and(|names| names.contains(name));
                assert_eq!(header.contains(name), !is_dropped, "{name} in {width}:\n{text}");
            }
            dropped.push(if is_list { "list" } else { named.unwrap_or_default() }.to_owned());
        }
        dropped.dedup();
        assert_eq!(dropped, ["", "first event)", "first event, rule)", "list"]);
    }

    #[test]
    fn table_that_does_not_fit_is_a_list_of_its_rows() {
        let text = on(Some(70), &[]);
        let first = "severity     High\nrule         AWS Unsuccessful MFA attempt\nfirst event  2026-09-01T23:55:00Z\n\
                     group        111122223333 / anaya\n\nseverity     High\n";
        assert!(text.starts_with(first), "{text}");
        let pairs = [["group", "111122223333"], ["context", "a bucket named example-bucket-with-a-long-name"]];
        let pairs = pairs.map(|pair| pair.map(str::to_owned).to_vec());
        let narrow = rows_on(Screen::of_width(Some(24)), &["", ""], &[], pairs.into_iter());
        let expected = "group    111122223333\ncontext  a bucket named\n         example-bucket-with-a-long-name\n";
        assert_eq!(narrow, expected);
        let pairs = [["first event", "2026-09-01T23:55:00Z"].map(str::to_owned).to_vec()];
        assert_eq!(rows_on(Screen::FILE, &["", ""], &[], pairs.into_iter()), "first event  2026-09-01T23:55:00Z\n");
    }

    #[test]
    fn only_colored_screens_have_colors() {
        let colored = rows_on(Screen { width: None, is_colored: true }, &HEADER, &[], findings());
        assert!(colored.contains("\u{1b}["), "{colored}");
        assert!(!on(None, &[]).contains('\u{1b}'));
    }

    #[test]
    fn decimals_and_missing_numbers_are_aligned_to_the_right() {
        let rows = [["a", "7.5", "."], ["b", "-", "1."], ["c", "123.0", "2"]];
        let rows = rows.map(|row| row.map(str::to_owned).to_vec());
        let text = rows_on(Screen::FILE, &["group", "mean", "name"], &[], rows.into_iter());
        assert_eq!(
            text,
            "group   mean  name\n──────────────────\na        7.5  .\nb          -  1.\nc      123.0  2\n"
        );
    }

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let rows = [["a", "7"], ["b", "123"]].map(|row| row.map(str::to_owned).to_vec());
        let text = rows_on(Screen::FILE, &["group", "count"], &[], rows.into_iter());
        assert_eq!(text, "group  count\n────────────\na          7\nb        123\n");
    }
}
