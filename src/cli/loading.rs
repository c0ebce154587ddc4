//! Reads the rules of a command, and says which of them cannot run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, RuleError};
use crate::output::Output;
use crate::rule::catalog::{self, Choice, LoadedRules, OtherFiles, RuleChoice, SkippedRule};
use crate::rule::placeholders::Placeholders;
use crate::statistics::number_of;

/// Maximum number of rules or warnings to print.
const MAX_SHOWN: usize = 20;

/// The files of rules that a command reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct RuleFiles<'f> {
    /// Files and folders. The shipped rules if empty.
    pub(super) paths: &'f [PathBuf],
    /// The values of placeholders.
    pub(super) placeholders: Option<&'f Path>,
    /// Whether a rule of a folder that cannot run is an error.
    pub(super) strict: bool,
}

impl RuleFiles<'_> {
    /// Reads the rules.
    pub(super) fn read(self) -> Result<LoadedRules, Error> {
        let placeholders = self.placeholders.map(Placeholders::read).transpose()?.unwrap_or_default();
        catalog::load(self.paths, &placeholders)
    }
}

/// Reads rules, and prints a warning for each rule that cannot run.
///
/// # Errors
/// A rule of a named file cannot run; with `strict`, any rule cannot.
pub(super) fn load(output: Output, files: RuleFiles<'_>) -> Result<LoadedRules, Error> {
    let paths = files.paths;
    let loaded = files.read()?.checked(files.strict)?;
    let skipped = loaded.skipped.iter().map(|SkippedRule { errors, .. }| {
        let first = errors.first().map(RuleError::one_line).unwrap_or_default();
        let more = if errors.len() > 1 {
            format!(" (and {})", number_of(errors.len() - 1, "other error"))
        } else {
            String::new()
        };
        format!("warning: rule skipped: {first}{more}")
    });
    print(output, paths, skipped, "rules skipped");
    if let Some(summary) = summary(&loaded) {
        output.talk(&summary);
    }
    Ok(loaded)
}

/// Reads rules as [`load`] does, and chooses some of them. Prints notices and warnings about these.
pub(super) fn choose(
    output: Output,
    files: RuleFiles<'_>,
    wanted: RuleChoice<'_>,
) -> Result<(Choice, Vec<SkippedRule>), Error> {
    let LoadedRules { entries, skipped, .. } = load(output, files)?;
    let choice = catalog::choose(entries, wanted)?;
    choice.notices.iter().for_each(|notice| output.talk(&format!("note: {notice}")));
    warn(output, files.paths, &choice.warnings);
    Ok((choice, skipped))
}

/// Prints warnings about rules.
pub(super) fn warn(output: Output, paths: &[PathBuf], warnings: &[String]) {
    print(output, paths, warnings.iter().map(|warning| format!("warning: {warning}")), "warnings about rules");
}

/// Prints the first of `lines`.
fn print(output: Output, paths: &[PathBuf], lines: impl ExactSizeIterator<Item = String>, what: &str) {
    let more = lines.len().saturating_sub(MAX_SHOWN);
    lines.take(MAX_SHOWN).for_each(|line| output.warn(&line));
    if more > 0 {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        output.warn(&format!("warning: {more} more {what}; `tawny rules lint {}` lists all", paths.join(" ")));
    }
}

/// Returns a line with the numbers of rules, or nothing if all files hold rules that can run.
pub(super) fn summary(loaded: &LoadedRules) -> Option<String> {
    let LoadedRules { entries, skipped, others } = loaded;
    if skipped.is_empty() && *others == OtherFiles::default() {
        return None;
    }
    let mut kinds: BTreeMap<_, usize> = BTreeMap::new();
    for skipped in skipped {
        *kinds.entry(skipped.kind()).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let mut parts = vec![number_of(entries.len(), "rule")];
    if !kinds.is_empty() {
        parts.push(format!("{} skipped: {}", skipped.len(), kinds.join(", ")));
    }
    Some(parts.join(", ") + &not_used(*others))
}

/// Returns the end of a line with numbers of rules: what else was in the files. Empty if there was nothing.
pub(super) fn not_used(others: OtherFiles) -> String {
    let OtherFiles { no_rules, for_other_logs, copies } = others;
    let mut parts = Vec::new();
    for (count, text) in [
        (for_other_logs, format!("{} for other logs", number_of(for_other_logs, "rule"))),
        (no_rules, format!("{} without rules", number_of(no_rules, "YAML file"))),
        (copies, number_of(copies, "duplicate rule")),
    ] {
        if count > 0 {
            parts.push(text);
        }
    }
    if parts.is_empty() { String::new() } else { format!("; not used: {}", parts.join(", ")) }
}
