//! Tables for people.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, TableComponent, Width, presets};

use crate::text::printable;

/// Returns a table of escaped cells, as wide as the terminal at most. No word is broken: a table that does not fit becomes a
/// list of its rows, with a line for each cell.
pub fn rows(header: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    rows_of_width(header, rows, Table::new().width())
}

/// As [`rows`], for a terminal with `width` columns. `None` for no limit.
pub(super) fn rows_of_width(header: &[&str], rows: impl Iterator<Item = Vec<String>>, width: Option<u16>) -> String {
    let header: Vec<String> = header.iter().map(|name| printable(name)).collect();
    let rows: Vec<Vec<String>> = rows.map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let column = |index: usize| rows.iter().chain([&header]).filter_map(move |row| row.get(index));
    let least: Vec<usize> =
        (0..header.len()).map(|index| column(index).map(|cell| longest_word(cell)).max().unwrap_or_default()).collect();
    // A space on both sides of each column, and one between two.
    let least_width = least.iter().map(|word| word + 3).sum::<usize>().saturating_sub(1);
    if width.is_some_and(|width| least_width > usize::from(width)) {
        return listed(&header, &rows, usize::from(width.unwrap_or_default()));
    }
    let mut table = Table::new();
    if let Some(width) = width {
        table.set_width(width);
    }
    table.load_preset(presets::UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    let between_rows = [
        TableComponent::HorizontalLines,
        TableComponent::MiddleIntersections,
        TableComponent::LeftBorderIntersections,
        TableComponent::RightBorderIntersections,
    ];
    for line in between_rows {
        table.remove_style(line);
    }
    if header.iter().any(|name| !name.is_empty()) {
        table.set_header(&header);
    }
    for row in rows {
        table.add_row(row);
    }
    let constraint =
        |word: usize| u16::try_from(word + 2).map(|width| ColumnConstraint::LowerBoundary(Width::Fixed(width)));
    if let Ok(constraints) = least.into_iter().map(constraint).collect::<Result<Vec<_>, _>>() {
        table.set_constraints(constraints);
    }
    format!("{table}\n")
}

fn longest_word(text: &str) -> usize {
    text.split_whitespace().map(|word| word.chars().count()).max().unwrap_or_default()
}

/// Returns a paragraph for each row, with a line for each of its cells.
fn listed(header: &[String], rows: &[Vec<String>], width: usize) -> String {
    let names = header.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let paragraph = |row: &Vec<String>| {
        let lines = header.iter().zip(row).filter(|(_, cell)| !cell.is_empty());
        let lines = lines.map(|(name, cell)| {
            let indent = if names == 0 { 0 } else { names + 2 };
            let wrapped = wrapped(cell, width.saturating_sub(indent)).join(&format!("\n{:indent$}", ""));
            format!("{name:indent$}{wrapped}\n")
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
        ]
        .into_iter()
    }

    #[test]
    fn no_word_is_broken_at_any_width() {
        let words: Vec<String> = findings()
            .flatten()
            .flat_map(|cell| cell.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        for width in (20..200).map(Some).chain([None]) {
            let text = rows_of_width(&HEADER, findings(), width);
            for word in &words {
                assert!(text.split_whitespace().any(|shown| shown == word), "{word} in {width:?}:\n{text}");
            }
            if let Some(width) = width.filter(|width| *width >= 70) {
                let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
                assert!(longest <= usize::from(width), "{longest} in {width}:\n{text}");
            }
        }
    }

    #[test]
    fn table_that_does_not_fit_is_a_list_of_its_rows() {
        let text = rows_of_width(&HEADER, findings(), Some(70));
        let first = "severity     High\nrule         AWS Unsuccessful MFA attempt\nfirst event  2026-09-01T23:55:00Z\n\
                     group        111122223333 / anaya\n\nseverity     High\n";
        assert!(text.starts_with(first), "{text}");
        let pairs = [["first event", "2026-09-01T23:55:00Z"].map(str::to_owned).to_vec()];
        assert!(!rows_of_width(&["", ""], pairs.into_iter(), None).contains('═'), "no header, no line below it");
    }
}
