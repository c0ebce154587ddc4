//! Tells files of rules from other YAML and TOML files.

use crate::rule::sigma;
use crate::rule::yaml::{YamlNode, YamlSource};

/// The content of a YAML or TOML file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A rule in Panther's format, or a file that no reader understands.
    Panther,
    /// Sigma rules.
    Sigma,
    /// A rule of Elastic's.
    Elastic,
    /// No rule: a workflow, a table, nothing.
    NoRule,
}

/// Top-level keys that only Panther's rules have.
const PANTHER: [&str; 4] = ["AnalysisType", "RuleID", "Detection", "LogTypes"];

/// The values of `AnalysisType` for other files than rules.
const NO_RULES: [&str; 7] = ["policy", "scheduled_query", "saved_query", "pack", "datamodel", "global", "lookup_table"];

impl FileKind {
    /// Returns the kind of a file: by its name, and by the top-level keys of its documents.
    pub(super) fn of(source: YamlSource<'_>) -> FileKind {
        if is_toml(source.name) {
            let has_rule = source.text.lines().any(|line| line.trim() == "[rule]");
            return if has_rule { FileKind::Elastic } else { FileKind::NoRule };
        }
        let Ok(documents) = source.documents() else {
            // Templates of other tools are often invalid YAML, too.
            return match (has_line(source.text, &PANTHER), has_line(source.text, &sigma::KEYS)) {
                (true, _) => FileKind::Panther,
                (false, true) => FileKind::Sigma,
                (false, false) => FileKind::NoRule,
            };
        };
        let has = |document: &YamlNode, keys: &[&str]| keys.iter().any(|key| document.member(key).is_some());
        let analysis = documents.iter().find_map(|(_, document)| document.member("AnalysisType")?.as_text());
        let is_sigma = |document: &YamlNode| {
            has(document, &sigma::KEYS) || document.member("filter").is_some_and(|filter| has(filter, &["rules"]))
        };
        let any = |test: &dyn Fn(&YamlNode) -> bool| documents.iter().any(|(_, document)| test(document));
        match analysis {
            Some(kind) if NO_RULES.contains(&kind) => FileKind::NoRule,
            Some(_) => FileKind::Panther,
            None if any(&|document| has(document, &PANTHER)) => FileKind::Panther,
            None if any(&is_sigma) => FileKind::Sigma,
            None => FileKind::NoRule,
        }
    }
}

/// Returns whether a file is TOML, by its name.
pub(super) fn is_toml(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".toml")
}

fn has_line(text: &str, keys: &[&str]) -> bool {
    let has_key = |line: &str| {
        let line = line.trim_start_matches(|c: char| c.is_whitespace() || "\"'{\u{feff}".contains(c));
        keys.iter().any(|key| line.strip_prefix(key).is_some_and(|rest| rest.starts_with([':', '"', '\'', ' '])))
    };
    text.lines().any(has_key)
}
