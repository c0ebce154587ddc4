//! Reads the rules of a command, and says which of them cannot run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, RuleError};
use crate::output::Output;
use crate::rule::Field;
use crate::rule::catalog::{self, Choice, Entry, LoadedRules, OtherFiles, RuleChoice, RuleSources, SkippedRule};
use crate::rule::exceptions::{self, ExceptionFiles};
use crate::rule::overrides::{self, RuleOverride};
use crate::rule::placeholders::Placeholders;
use crate::statistics::number_of;
use crate::text::printable;

/// Maximum number of rules or warnings to print.
const MAX_SHOWN: usize = 20;

/// Selects the rules that a command reads, and changes their settings.
#[derive(Debug, Args)]
#[command(next_help_heading = super::RULES)]
pub(super) struct RuleFileArgs {
    /// Rule files, or folders of rules [default: the shipped rules]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub(super) rules: Vec<PathBuf>,
    /// Also read the shipped rules; a rule of `--rules` replaces the shipped one with its id
    #[arg(long, requires = "rules")]
    with_shipped: bool,
    /// Change settings of a rule: `RULE:Threshold=5,Period=1h,Window=dedup,Severity=Low,Enabled=false`; can be repeated
    #[arg(long = "override", value_name = "RULE:KEY=VALUE,…")]
    overrides: Vec<RuleOverride>,
    /// Count acts instead of matches: the two records of a cross-account call, which share a `sharedEventID`, count once. A
    /// finding lists both
    #[arg(long)]
    pub(super) once_per_act: bool,
    /// YAML files with exceptions of rules and with value lists
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub(super) exceptions: Vec<PathBuf>,
    /// YAML file with values for the placeholders of Sigma rules, by name
    #[arg(long, value_name = "FILE")]
    placeholders: Option<PathBuf>,
}

impl RuleFileArgs {
    /// Returns the files. With `strict`, a rule of a folder that cannot run is an error.
    pub(super) fn files(&self, strict: bool) -> RuleFiles<'_> {
        RuleFiles {
            paths: &self.rules,
            with_shipped: self.with_shipped,
            overrides: &self.overrides,
            once_per_act: self.once_per_act,
            exceptions: &self.exceptions,
            placeholders: self.placeholders.as_deref(),
            needed_ids: &[],
            strict,
        }
    }

    /// Returns the rule of a command that runs one: that with this id, else the only one of `--rules`, else the default of the
    /// shipped rules.
    ///
    /// # Errors
    /// There is no such rule, or `--rules` has several.
    pub(super) fn one(&self, output: Output, mut entries: Vec<Entry>, id: Option<&str>) -> Result<Entry, Error> {
        if let Some(id) = id {
            return catalog::named(&entries, id).cloned();
        }
        if self.rules.is_empty() {
            output.talk(&format!("note: no `--rule` given, using `{}`", catalog::DEFAULT));
            return catalog::named(&entries, catalog::DEFAULT).cloned();
        }
        if entries.len() == 1 {
            return Ok(entries.remove(0));
        }
        let ids = entries.iter().map(|entry| format!("`{}`", entry.rule.id)).collect::<Vec<_>>().join(", ");
        Err(Error::Usage {
            message: format!("this command runs one rule, but `--rules` has {}", entries.len()),
            hint: Some(format!("choose one with `--rule`: {ids}")),
        })
    }
}

/// The files of rules that a command reads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RuleFiles<'f> {
    /// Files and folders. The shipped rules if empty.
    pub(super) paths: &'f [PathBuf],
    /// Whether to read the shipped rules beside those of `paths`.
    pub(super) with_shipped: bool,
    /// Changes of settings.
    pub(super) overrides: &'f [RuleOverride],
    /// Whether rules count acts instead of matches.
    pub(super) once_per_act: bool,
    /// Files of exceptions and value lists.
    pub(super) exceptions: &'f [PathBuf],
    /// The values of placeholders.
    pub(super) placeholders: Option<&'f Path>,
    /// The ids of the only rules that are needed. All are needed if empty.
    pub(super) needed_ids: &'f [String],
    /// Whether a rule of a folder that cannot run is an error.
    pub(super) strict: bool,
}

impl RuleFiles<'_> {
    /// Reads the rules.
    pub(super) fn read(self) -> Result<LoadedRules, Error> {
        let placeholders = self.placeholders.map(Placeholders::read).transpose()?.unwrap_or_default();
        let files = ExceptionFiles::read(self.exceptions)?;
        let (paths, with_shipped, value_lists) = (self.paths, self.with_shipped, &files.value_lists);
        // Overrides and exceptions name rules too.
        let is_changed = !self.overrides.is_empty() || !self.exceptions.is_empty();
        let needed_ids = if is_changed { &[] } else { self.needed_ids };
        let sources = RuleSources { paths, with_shipped, needed_ids, placeholders: &placeholders, value_lists };
        let mut loaded = catalog::load(sources)?;
        overrides::apply(self.overrides, &mut loaded.entries)?;
        if self.once_per_act {
            for entry in &mut loaded.entries {
                entry.rule.count_acts();
            }
        }
        let mut read = files.exceptions()?;
        // Single files are some of the rules. A rule that cannot run is not loaded, and has its own warning.
        let is_files = !paths.is_empty() && paths.iter().all(|path| path.is_file());
        let is_part = is_files || !loaded.skipped.is_empty();
        read.warnings.extend(exceptions::apply(&read.exceptions, &mut loaded.entries, is_part)?);
        loaded.exceptions = read;
        Ok(loaded)
    }
}

/// Reads rules, and prints a warning for each rule that cannot run.
///
/// # Errors
/// A rule of a named file cannot run; with `strict`, any rule cannot.
pub(super) fn load(output: Output, files: RuleFiles<'_>) -> Result<LoadedRules, Error> {
    announce(output, files, files.read()?)
}

/// Returns the rules that were read from `files`, and prints a warning for each rule that cannot run.
///
/// # Errors
/// As for [`load`].
pub(super) fn announce(output: Output, files: RuleFiles<'_>, loaded: LoadedRules) -> Result<LoadedRules, Error> {
    let paths = files.paths;
    let loaded = loaded.checked(files.strict)?;
    let skipped = loaded.skipped.iter().map(|SkippedRule { file, errors, .. }| {
        let first = errors.first().map(RuleError::one_line).unwrap_or_default();
        let is_elsewhere = errors.first().is_some_and(|error| error.file != *file);
        let first = if is_elsewhere { format!("{}: {first}", printable(file)) } else { first };
        let more = if errors.len() > 1 {
            format!(" (and {})", number_of(errors.len() - 1, "other error"))
        } else {
            String::new()
        };
        format!("warning: rule skipped: {first}{more}")
    });
    print(output, paths, skipped, "rules skipped");
    for warning in &loaded.exceptions.warnings {
        output.warn(&format!("warning: {warning}"));
    }
    if let Some(summary) = summary(&loaded) {
        output.talk(&summary);
    }
    Ok(loaded)
}

/// Reads the rule with this id, or the only rule of this file.
pub(super) fn load_one(output: Output, id_or_file: &str, files: RuleFiles<'_>) -> Result<Entry, Error> {
    let named = [PathBuf::from(id_or_file)];
    let files = if named[0].is_file() { RuleFiles { paths: &named, ..files } } else { files };
    catalog::named(&load(output, files)?.entries, id_or_file).cloned()
}

/// Reads rules as [`load`] does, and chooses some of them. Prints notices and warnings about these.
pub(super) fn choose(
    output: Output,
    files: RuleFiles<'_>,
    wanted: RuleChoice<'_>,
) -> Result<(Choice, Vec<SkippedRule>), Error> {
    let LoadedRules { entries, skipped, .. } = load(output, RuleFiles { needed_ids: wanted.ids, ..files })?;
    let choice = catalog::choose(entries, wanted)?;
    choice.notices.iter().for_each(|notice| output.talk(&format!("note: {notice}")));
    let others = choice.rules.iter().filter(|rule| rule.counts.distinct() != Some(&Field::Act)).count();
    if files.once_per_act && others > 0 {
        let others = number_of(others, "rule");
        output.talk(&format!("note: counting acts changes rules that count matches; {others} count something else"));
    }
    choice.details.iter().for_each(|detail| output.detail(&format!("note: {detail}")));
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
    let LoadedRules { entries, skipped, others, .. } = loaded;
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
    let OtherFiles { no_rules, for_other_logs, copies, replaced, correlated } = others;
    let mut parts = Vec::new();
    for (count, text) in [
        (for_other_logs, format!("{} for other logs", number_of(for_other_logs, "rule"))),
        (no_rules, format!("{} without rules", number_of(no_rules, "file"))),
        (copies, number_of(copies, "duplicate rule")),
        (replaced, format!("{} with ids of yours", number_of(replaced, "shipped rule"))),
        (correlated, format!("{} only in correlations", number_of(correlated, "rule"))),
    ] {
        if count > 0 {
            parts.push(text);
        }
    }
    if parts.is_empty() { String::new() } else { format!("; not used: {}", parts.join(", ")) }
}
