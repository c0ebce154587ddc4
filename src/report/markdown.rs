//! Formats rules as Markdown tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::rule::catalog::Entry;
use crate::rule::{AbsenceSide, Counts};
use crate::text::{markdown, markdown_code};

/// Returns one table of rules per folder. The links to rule files are relative to the parent of the folders.
pub fn list(entries: &[Entry]) -> String {
    let mut folders: BTreeMap<&Path, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        folders.entry(Path::new(&entry.file).parent().unwrap_or(Path::new(""))).or_default().push(entry);
    }
    let mut text = String::from("# Rules\n\nThis page is what `tawny rules list --format markdown` writes.\n");
    for (folder, entries) in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        writeln!(text, "\n## {}\n", markdown(&capitalized(&name.replace('_', " ")))).ok();
        text += "| rule | what it finds | severity | ATT&CK | threshold | for each |\n|---|---|---|---|---|---|\n";
        for Entry { rule, file, .. } in entries {
            let file = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
            let window = rule.window;
            let counted = match &rule.counts {
                Counts::Distinct(field) => format!(" distinct {}", markdown_code(&field.to_string())),
                Counts::Sum(field) => format!(" in all of {}", markdown_code(&field.to_string())),
                Counts::Statistic(field, condition) => format!(" window whose {}", markdown(&condition.of(field))),
                _ => String::new(),
            };
            let new = rule.first_seen.as_ref().map_or_else(String::new, |first_seen| {
                let fields: Vec<String> =
                    first_seen.fields.iter().map(|field| markdown_code(&field.to_string())).collect();
                format!(" with {} not seen for {}", fields.join(", "), first_seen.periods.history)
            });
            let lone = match rule.absence.as_ref().map(|absence| absence.side) {
                None => "",
                Some(AbsenceSide::Before) => " without the absent event before it",
                Some(AbsenceSide::After) => " without the absent event after it",
            };
            let kind = match (&rule.counts, window.threshold.get()) {
                (Counts::Followed { .. }, _) => ", then what follows".to_owned(),
                (_, 1) => String::new(),
                _ => format!(", {}", window.kind),
            };
            let group: Vec<String> = rule.group_by.iter().map(|field| markdown_code(&field.to_string())).collect();
            let cells = [
                format!("[{}]({})", markdown(&rule.id), link(&format!("{name}/{file}"))),
                markdown(&rule.display_name),
                rule.severity.to_string(),
                markdown(&rule.mitre().join(" ")),
                format!("{}{counted}{new}{lone} in {}{}{kind}", window.threshold, window.period, rule.peak_limits),
                group.join(", "),
            ];
            writeln!(text, "| {} |", cells.join(" | ")).ok();
        }
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Percent-encodes a link destination, so that no character ends the link or the table cell.
fn link(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    path.bytes().fold(String::with_capacity(path.len()), |mut link, byte| {
        if is_plain(byte) {
            link.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            write!(link, "%{byte:02X}").ok();
        }
        link
    })
}
