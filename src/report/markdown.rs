//! Rules as tables in Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::rule::Counts;
use crate::rule::catalog::Entry;

/// Rules, in a table for each folder that holds some, with links to their files for a page that lies beside the folders.
pub fn list(entries: &[Entry]) -> String {
    let mut folders: BTreeMap<&Path, Vec<&Entry>> = BTreeMap::new();
    for entry in entries {
        folders.entry(Path::new(&entry.file).parent().unwrap_or(Path::new(""))).or_default().push(entry);
    }
    let mut text = String::from("# Rules\n\nThis page is what `tawny rules list --format markdown` writes.\n");
    for (folder, entries) in folders {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        writeln!(text, "\n## {}\n", capitalized(&name.replace('_', " "))).ok();
        text += "| rule | what it finds | severity | ATT&CK | threshold | for each |\n|---|---|---|---|---|---|\n";
        for Entry { rule, file, .. } in entries {
            let file = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
            let window = rule.window;
            let of = rule.counts.distinct().map_or_else(String::new, |field| format!(" distinct `{field}`"));
            let kind = match (&rule.counts, window.threshold.get()) {
                (Counts::Followed { .. }, _) => ", then what follows".to_owned(),
                (_, 1) => String::new(),
                _ => format!(", {}", window.kind),
            };
            let group: Vec<String> = rule.group_by.iter().map(|field| format!("`{field}`")).collect();
            let cells = [
                format!("[{}]({name}/{file})", rule.id),
                rule.display_name.clone(),
                rule.severity.to_string(),
                rule.mitre().join(" "),
                format!("{}{of} in {}{kind}", window.threshold, window.period),
                group.join(", "),
            ];
            writeln!(text, "| {} |", cells.map(|cell| escaped(&cell)).join(" | ")).ok();
        }
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Text that ends no cell and begins no markup.
fn escaped(text: &str) -> String {
    text.replace(['\n', '\r'], " ").replace('|', "\\|").replace('<', "&lt;")
}
